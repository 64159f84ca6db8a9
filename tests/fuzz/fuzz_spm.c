/* Any bytes as a tokenizer that is not a tokenizer.json: tekken.json when they start with '{', a SentencePiece model when with a line feed,
 * else ranks for tiktoken. The last 24 bytes are text to encode, too. What opens keeps the promises of fuzz_tokenizer.h. */
#include "fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char text[] = "the text <s>  a b\tc \xC3\xA9\xFF 12345 \xE2\x96\x81 \xEF\xBC\xA1\xE3\x8D\xBF<ud>ab";
    uint8_t first = n > 0 ? data[0] : '\n';
    const char *name = first == '{' ? "tekken.json" : first == '\n' ? "tokenizer.model" : "llama3.tiktoken";
    snug_error err = {0};
    tokenizer *t = tokenizer_new(&err);
    FUZZ_CHECK(t != NULL);
    snug_err e = tokenizer_open_other(t, NULL, name, (const char *)data, n, &err);
    if (e) {
        FUZZ_CHECK(err.code == e && err.message[0]);
    } else {
        size_t tail = n < 24 ? n : 24;
        check_tokenizer(t, text, sizeof text - 1);
        check_tokenizer(t, (const char *)data + n - tail, tail);
    }
    tokenizer_close(&t);
    return 0;
}
