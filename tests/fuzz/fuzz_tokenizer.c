/* Any bytes as a tokenizer (a tokenizer.json, or a GGUF's keys when they start with GGUF), then a NUL, then a text to
 * encode. What opens keeps the promises of fuzz_tokenizer.h. */
#include "fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_data) {
    const uint8_t *nul = memchr(data, 0, n_data);
    tokenizer *t = NULL;
    gguf_file *g = NULL;
    snug_error err = {0};
    snug_err e;
    const char *text = "the text <s>  a b\tc \xC3\xA9\xFF 12345 \xE2\x96\x81";
    size_t n_text = strlen(text), n = nul ? (size_t)(nul - data) : n_data;
    if (n_data >= 4 && memcmp(data, "GGUF", 4) == 0) {
        char path[64];
        int fd = fuzz_file(data, n_data, path);
        e = gguf_open(path, &g, &err);
        if (!e) e = tokenizer_open_gguf(g, &t, &err);
        close(fd);
    } else {
        e = tokenizer_open_text("tokenizer.json", (const char *)data, n, &t, &err);
        if (nul) text = (const char *)nul + 1, n_text = n_data - n - 1;
    }
    FUZZ_CHECK((e == SNUG_OK) == (t != NULL));
    if (e) FUZZ_CHECK(err.code == e && err.message[0]);
    if (t) check_tokenizer(t, text, n_text);
    tokenizer_close(&t);
    gguf_close(&g);
    return 0;
}
