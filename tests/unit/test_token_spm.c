// rooms: base format token
/* Tokenizers of folders without a tokenizer.json: what stands beside the model, what is refused, and by which name. Ids
 * as such are test_token_golden's. */
#include "base/io.h"
#include "tempfile.h"
#include "token/base64.h"
#include "token/charsmap.h"
#include "token/tokenizer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define GOLDEN SNUG_SOURCE_DIR "/tests/golden/tokenizers/"
#define CORPUS SNUG_SOURCE_DIR "/tests/fuzz/corpus/spm/"

static char *dir;

static void put_file(const char *name, const void *bytes, size_t n) {
    FILE *f = fopen(temp_path(dir, name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static void put_text(const char *name, const char *text) {
    put_file(name, text, strlen(text));
}

static void copy_file(const char *from, const char *name) {
    char *bytes;
    size_t n;
    assert_int_equal(io_read_all(from, 64 << 20, &bytes, &n, NULL), SNUG_OK);
    put_file(name, bytes, n);
    free(bytes);
}

static tokenizer *open_dir(void) {
    tokenizer *t = NULL;
    snug_error err = {0};
    if (tokenizer_open_hf(dir, &t, &err) != SNUG_OK) fail_msg("%s", err.message);
    return t;
}

static void assert_ids(const tokenizer *t, const char *text, bool add_special, size_t n, const int32_t *expected) {
    int32_t ids[64];
    size_t count;
    assert_int_equal(tokenizer_encode(t, text, strlen(text), add_special, true, ids, 64, &count, NULL), SNUG_OK);
    assert_int_equal(count, n);
    assert_memory_equal(ids, expected, n * sizeof *ids);
}

static void assert_refused(snug_err code, const char *named) {
    tokenizer *t = (tokenizer *)&t;
    snug_error err = {0};
    assert_int_equal(tokenizer_open_hf(dir, &t, &err), code);
    assert_null(t);
    if (!strstr(err.message, named)) fail_msg("'%s' does not name %s", err.message, named);
}

#define IDS(...)                                                                                                       \
    sizeof(int32_t[]){__VA_ARGS__} / sizeof(int32_t), (const int32_t[]) {                                              \
        __VA_ARGS__                                                                                                    \
    }

/* plain.model: 0 <unk> 1 <s> 2 </s> 3 ▁ 4 t 5 h 6 e 7 th 8 the 9 ▁the 10 a 11 b 12 ab; bpe.model: 256 bytes behind
 * </s>, and <ud>. */
static void files_beside_a_model(void **state) {
    (void)state;
    dir = temp_dir_make();
    copy_file(CORPUS "bpe.model", "tokenizer.model");
    tokenizer *t = open_dir();
    assert_ids(t, "the ab", true, IDS(1, 265, 259, 268));
    assert_ids(t, "a</s>a", false, IDS(259, 266, 2, 259, 266)); /* a prefix for each stretch */
    assert_ids(t, "a<ud>a", false, IDS(259, 266, 269, 266));    /* but none behind a piece of the model */
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    tokenizer_close(&t);

    put_text("added_tokens.json", "{\"<tool>\": 271, \"<x>\": 272}");
    put_text("special_tokens_map.json",
             "{\"additional_special_tokens\": [\"<tool>\", \"ab\"], \"eos_token\": {\"content\": \"<x>\"}}");
    put_text("tokenizer_config.json",
             "{\"legacy\": false, \"add_bos_token\": false, \"add_eos_token\": true,"
             " \"added_tokens_decoder\": {\"269\": {\"content\": \"<ud>\", \"special\": false},"
             " \"272\": {\"content\": \"<x>\", \"special\": true, \"rstrip\": true}}}");
    t = open_dir();
    assert_int_equal(tokenizer_n_vocab(t), 273);
    assert_ids(t, "a<tool>a", true, IDS(259, 266, 271, 266, 272)); /* one prefix; EOS, no BOS */
    assert_ids(t, "a<x>  a", false, IDS(259, 266, 272, 266));
    assert_ids(t, "<ud>a", false, IDS(269, 266));
    assert_ids(t, "abab", false, IDS(268, 268)); /* a piece of the model that special_tokens_map.json names */
    size_t n;
    char text[16];
    assert_int_equal(tokenizer_decode(t, (const int32_t[]){259, 266, 271}, 3, false, text, sizeof text, &n, NULL),
                     SNUG_OK);
    assert_int_equal(n, 1); /* <tool> is special by special_tokens_map.json */
    tokenizer_close(&t);

    put_text("added_tokens.json", "{\"<tool>\": -1}");
    assert_refused(SNUG_ERR_FORMAT, "<tool>");
    put_text("added_tokens.json", "{}");
    put_text("tokenizer_config.json", "{\"added_tokens_decoder\": {\"x\": {\"content\": \"a\"}}}");
    assert_refused(SNUG_ERR_FORMAT, "added_tokens_decoder");
    temp_dir_remove(dir);
}

/* The same through a GGUF, for both kinds of model; "b" is a piece and a special token. */
static void special_pieces_in_gguf(void **state) {
    (void)state;
    dir = temp_dir_make();
    put_text("special_tokens_map.json", "{\"additional_special_tokens\": [\"b\"]}");
    for (int unigram = 0; unigram < 2; unigram++) {
        copy_file(unigram ? CORPUS "unigram.model" : CORPUS "plain.model", "tokenizer.model");
        tokenizer *t = open_dir(), *back;
        gguf_kvs kvs = {0};
        gguf_file g = {.file = {.fd = -1}};
        gguf_kv *kv;
        snug_error err = {0};
        if (tokenizer_to_gguf(t, 20, false, &kvs, &err) != SNUG_OK) fail_msg("%s", err.message);
        assert_int_equal(gguf_parse_kvs("test", kvs.bytes.data, kvs.bytes.len, kvs.n, &g.mem, &kv, NULL), SNUG_OK);
        assert_int_equal(gguf_merge_kvs(&g, kv, kvs.n, NULL), SNUG_OK);
        assert_int_equal(tokenizer_open_gguf(&g, &back, NULL), SNUG_OK);
        for (int special = 0; special < 2; special++) {
            int32_t x[16], y[16];
            size_t n, m;
            const char *text = "the bb<ud>hb";
            assert_int_equal(tokenizer_encode(t, text, 12, true, special, x, 16, &n, NULL), SNUG_OK);
            assert_int_equal(tokenizer_encode(back, text, 12, true, special, y, 16, &m, NULL), SNUG_OK);
            assert_int_equal(n, m);
            assert_memory_equal(x, y, n * sizeof *x);
        }
        arena_fini(&g.mem);
        gguf_kvs_fini(&kvs);
        tokenizer_close(&t);
        tokenizer_close(&back);
    }
    temp_dir_remove(dir);
}

/* A field of a protocol buffer behind the model's: number, wire type 0, value; or a message of one such field. */
static void put_model(const char *more, size_t n) {
    char *bytes, *all;
    size_t size;
    assert_int_equal(io_read_all(CORPUS "plain.model", 1 << 20, &bytes, &size, NULL), SNUG_OK);
    all = malloc(size + n);
    memcpy(all, bytes, size);
    memcpy(all + size, more, n);
    put_file("tokenizer.model", all, size + n);
    free(bytes);
    free(all);
}

static void models_that_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *field;
        size_t n;
        snug_err code;
        const char *named;
    } bad[] = {{"\x12\x02\x18\x03", 4, SNUG_ERR_UNSUPPORTED, "model_type"},
               {"\x12\x03\xC0\x01\x01", 5, SNUG_ERR_UNSUPPORTED, "treat_whitespace_as_suffix"},
               {"\x2A\x03\x12\x01x", 5, SNUG_ERR_UNSUPPORTED, "denormalizer"},
               {"\x0A\x05\x0A\x01z\x18\x02", 7, SNUG_ERR_FORMAT, "2 pieces of type UNKNOWN"},
               {"\x0A\x05\x0A\x01z\x18\x06", 7, SNUG_ERR_FORMAT, "1 pieces of type BYTE"},
               {"\x0A\x05\x0A\x01z\x18\x05", 7, SNUG_ERR_UNSUPPORTED, "unused pieces"},
               {"\x0A\x05\x0A\x01z\x18\x07", 7, SNUG_ERR_UNSUPPORTED, "type 7"},
               {"\x0A\x03\x0A\x01t", 5, SNUG_ERR_FORMAT, "comes twice"},
               {"\x0A\x00", 2, SNUG_ERR_FORMAT, "empty"},
               {"\x0A\x03\x0A\x01\xFF", 5, SNUG_ERR_FORMAT, "UTF-8"},
               {"\x0A\x08\x0A\x01z\x15\x00\x00\xC0\x7F", 10, SNUG_ERR_FORMAT, "score"},
               {"\x0A\x7F", 2, SNUG_ERR_FORMAT, "broken field"},
               {"\x1A\x06\x12\x04\x01\x00\x00\x00", 8, SNUG_ERR_FORMAT, "charsmap"}};
    dir = temp_dir_make();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_model(bad[i].field, bad[i].n);
        assert_refused(bad[i].code, bad[i].named);
    }
    temp_dir_remove(dir);
}

/* Ranks: 256 bytes, 256 th, 257 the, 258 " t", 259 " the", 260 "  ", 261 ab. */
static void ranks(void **state) {
    (void)state;
    dir = temp_dir_make();
    copy_file(CORPUS "ranks.model", "tokenizer.model"); /* told from SentencePiece by what it holds */
    assert_refused(SNUG_ERR_UNSUPPORTED, "262 ranks");
    put_text("tokenizer_config.json",
             "{\"pattern\": \" ?\\\\w+|\\\\s+\", \"bos_token\": \"<b>\", \"add_bos_token\": true,"
             " \"added_tokens_decoder\": {\"262\": {\"content\": \"<b>\", \"special\": true}}}");
    tokenizer *t = open_dir();
    assert_ids(t, "the the  ab<b>", true, IDS(262, 257, 259, 260, 261, 262));
    tokenizer_close(&t);
    put_text("tokenizer_config.json",
             "{\"pattern\": \"a\", \"added_tokens_decoder\": {\"5\": {\"content\": \"<b>\"}}}");
    assert_refused(SNUG_ERR_FORMAT, "<b>");
    copy_file(CORPUS "ranks.model", "glm4.tiktoken");
    unlink(temp_path(dir, "tokenizer.model"));
    put_text("tokenizer_config.json",
             "{\"added_tokens_decoder\": {\"270\": {\"content\": \"[gMASK]\"}, \"271\": {\"content\": \"<sop>\"}}}");
    t = open_dir();
    assert_ids(t, "the", true, IDS(270, 271, 257)); /* as ChatGLM's own code does it */
    tokenizer_close(&t);
    unlink(temp_path(dir, "glm4.tiktoken"));
    put_text("tokenizer_config.json", "{}");
    put_text("other.tiktoken", "YQ== 0\n");
    assert_refused(SNUG_ERR_UNSUPPORTED, "other.tiktoken: the pattern");
    unlink(temp_path(dir, "other.tiktoken"));
    static const char *const bad[][2] = {{"YQ== 0\nYg== 0\n", "rank 0 comes twice"},
                                         {"YQ== 0\nYg== x\n", "line 2"},
                                         {"YQ== 0\nYg=\n", "line 2"},
                                         {"YQ== 0\nYg= 1\n", "base64"},
                                         {"\n", "no tokens"},
                                         {"YQ== 99999999\n", "rank 99999999"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_text("qwen.tiktoken", bad[i][0]);
        assert_refused(i == 5 ? SNUG_ERR_UNSUPPORTED : SNUG_ERR_FORMAT, bad[i][1]);
    }
    put_text("qwen.tiktoken", "YQ== 0\nYg== 1\n");
    assert_refused(SNUG_ERR_FORMAT, "no token for the byte 0x00");
    unlink(temp_path(dir, "qwen.tiktoken"));
    assert_refused(SNUG_ERR_IO, "no tokenizer: none of tokenizer.json");
    temp_dir_remove(dir);
}

static void tekken(void **state) {
    (void)state;
    dir = temp_dir_make();
    put_text("tekken.json", "{\"config\": {\"pattern\": \"a\"}, \"vocab\": []}");
    assert_refused(SNUG_ERR_FORMAT, "default_vocab_size");
    put_text("tekken.json",
             "{\"config\": {\"pattern\": \"a\", \"default_vocab_size\": 5, \"default_num_special_tokens\": 9}}");
    assert_refused(SNUG_ERR_FORMAT, "5 tokens, 9 of them special");
    put_text("tekken.json", "{\"config\": {\"pattern\": \"a\", \"default_vocab_size\": 5, "
                            "\"default_num_special_tokens\": 2}, \"vocab\": [{\"rank\": 0}]}");
    assert_refused(SNUG_ERR_FORMAT, "token_bytes");
    copy_file(CORPUS "tekken.json", "tekken.json"); /* ten special tokens; of 262 ranks the first 260 are in use */
    tokenizer *t = open_dir();
    assert_int_equal(tokenizer_n_vocab(t), 270);
    assert_ids(t, "the ab<SPECIAL_7>", true, IDS(1, 267, 42, 107, 108, 7));
    assert_int_equal(tokenizer_bos(t), 1);
    tokenizer_close(&t);
    copy_file(GOLDEN "llama2/tokenizer.json", "tokenizer.json"); /* which comes first */
    t = open_dir();
    assert_int_equal(tokenizer_n_vocab(t), 2000);
    tokenizer_close(&t);
    temp_dir_remove(dir);
}

static void base64(void **state) {
    (void)state;
    buf text = {0}, bytes = {0};
    for (size_t n = 0; n < 20; n++) {
        text.len = bytes.len = 0;
        assert_true(base64_encode("\x00\xFFsome bytes, and more", n, &text));
        assert_true(base64_decode((const char *)text.data, text.len, &bytes));
        assert_int_equal(bytes.len, n);
        assert_true(n == 0 || memcmp(bytes.data, "\x00\xFFsome bytes, and more", n) == 0);
    }
    static const char *const bad[] = {
        "YQ=", "YQ", "Y===", "====", "YR==", "YWF=", "YQ==YQ==", "YW J", "YW\nJh", "Y-_h"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(base64_decode(bad[i], strlen(bad[i]), &bytes));
    buf_fini(&text);
    buf_fini(&bytes);
}

/* One rule, "a" becomes "bc" (the corpus has the same map). */
static void charsmap_rules(void **state) {
    (void)state;
    uint32_t unit[513] = {2048};
    uint8_t blob[2052 + 3];
    arena mem = {0};
    charsmap m;
    snug_error err = {0};
    unit[1] = 256u << 10;
    unit[1 + 0x161] = 'a' | 0x100 | (0x161u ^ 0x1F0u) << 10;
    unit[1 + 0x1F0] = 0x80000000u;
    memcpy(blob, unit, 2052);
    memcpy(blob + 2052, "bc", 3);
    assert_int_equal(charsmap_open("test", blob, sizeof blob, &mem, &m, &err), SNUG_OK);
    const char *to;
    size_t n;
    assert_int_equal(charsmap_match(&m, (const uint8_t *)"aa", 2, true, &to, &n), 1);
    assert_int_equal(n, 2);
    assert_memory_equal(to, "bc", 2);
    assert_int_equal(charsmap_match(&m, (const uint8_t *)"b", 1, true, &to, &n), 0);
    buf again = {0}; /* and what is written is what was read */
    assert_true(charsmap_blob(&m, &again));
    assert_int_equal(again.len, sizeof blob);
    assert_memory_equal(again.data, blob, sizeof blob);
    buf_fini(&again);
    blob[2052 + 2] = 'd'; /* no NUL at the end */
    assert_int_equal(charsmap_open("test", blob, sizeof blob, &mem, &m, &err), SNUG_ERR_FORMAT);
    blob[0] = 1;
    assert_int_equal(charsmap_open("test", blob, sizeof blob, &mem, &m, &err), SNUG_ERR_FORMAT);
    arena_fini(&mem);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_beside_a_model),
        cmocka_unit_test(special_pieces_in_gguf),
        cmocka_unit_test(models_that_are_refused),
        cmocka_unit_test(ranks),
        cmocka_unit_test(tekken),
        cmocka_unit_test(base64),
        cmocka_unit_test(charsmap_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
