// rooms: base format token
/* Tokenizers in GGUF: SentencePiece scores beside a naive encoder, names of pretokenizers, what strict refuses, damaged
 * keys. */
#include "base/rng.h"
#include "token/tokenizer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static void open_kvs(const gguf_kvs *kvs, gguf_file *g) {
    gguf_kv *kv;
    memset(g, 0, sizeof *g);
    g->file.fd = -1;
    assert_int_equal(gguf_parse_kvs("test", kvs->bytes.data, kvs->bytes.len, kvs->n, &g->mem, &kv, NULL), SNUG_OK);
    assert_int_equal(gguf_merge_kvs(g, kv, kvs->n, NULL), SNUG_OK);
}

static snug_err open_tokenizer(const gguf_kvs *kvs, tokenizer **t, snug_error *err) {
    gguf_file g;
    open_kvs(kvs, &g);
    snug_err e = tokenizer_open_gguf(&g, t, err);
    arena_fini(&g.mem);
    return e;
}

/* ---- SentencePiece scores ---- */

enum { N_PIECES = 300 };
static char piece[N_PIECES][24];
static float score[N_PIECES];
static int32_t type[N_PIECES];

/* unk, BOS, EOS, the 256 bytes, then pieces over a, b, the marker and a Greek letter. */
static void make_pieces(rng *r) {
    static const char *const letters[] = {"a", "b", "\xE2\x96\x81", "\xCE\xB1"};
    static const char *const special[] = {"<unk>", "<s>", "</s>"};
    int n = 0;
    for (; n < 3; n++) strcpy(piece[n], special[n]), score[n] = 0, type[n] = n ? 3 : 2;
    for (int b = 0; b < 256; b++, n++) snprintf(piece[n], sizeof piece[n], "<0x%02X>", b), score[n] = 0, type[n] = 6;
    for (int i = 0; i < 3; i++, n++)
        strcpy(piece[n], letters[i]), score[n] = -1000, type[n] = 1; /* the Greek letter has no piece */
    while (n < N_PIECES) {
        char text[24] = "";
        for (uint32_t k = 2 + rng_below(r, 3); k > 0; k--) strcat(text, letters[rng_below(r, 4)]);
        bool twice = false;
        for (int i = 0; i < n; i++) twice |= strcmp(piece[i], text) == 0;
        if (twice) continue;
        strcpy(piece[n], text);
        score[n] = -(float)rng_below(r, 20); /* with ties */
        type[n++] = 1;
    }
}

static void put_pieces(gguf_kvs *k) {
    gguf_str s[N_PIECES];
    for (int i = 0; i < N_PIECES; i++) s[i] = (gguf_str){piece[i], strlen(piece[i])};
    assert_true(gguf_put_str(k, "tokenizer.ggml.model", "llama", 5) &&
                gguf_put_str_array(k, "tokenizer.ggml.tokens", s, N_PIECES) &&
                gguf_put_array(k, "tokenizer.ggml.scores", GGUF_F32, score, N_PIECES) &&
                gguf_put_array(k, "tokenizer.ggml.token_type", GGUF_I32, type, N_PIECES));
}

static int find_piece(const char *p, size_t n) {
    for (int i = 0; i < N_PIECES; i++)
        if (strlen(piece[i]) == n && memcmp(piece[i], p, n) == 0) return i;
    return -1;
}

/* Joins the neighbours whose joint text is the piece of highest score, leftmost first, until none is a piece. */
static size_t naive_spm(const char *text, size_t n, int32_t *ids) {
    size_t start[256], bytes[256], count = 0, n_ids = 0;
    for (size_t i = 0; i < n;) {
        start[count] = i;
        bytes[count] = (text[i] & 0x80) == 0 ? 1 : (text[i] & 0x20) == 0 ? 2 : 3;
        i += bytes[count++];
    }
    for (;;) {
        int best = -1;
        float top = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            int id = find_piece(text + start[i], bytes[i] + bytes[i + 1]);
            if (id >= 0 && (best < 0 || score[id] > top)) best = (int)i, top = score[id];
        }
        if (best < 0) break;
        bytes[best] += bytes[best + 1];
        for (size_t i = (size_t)best + 1; i + 1 < count; i++) start[i] = start[i + 1], bytes[i] = bytes[i + 1];
        count--;
    }
    for (size_t i = 0; i < count; i++) {
        int id = find_piece(text + start[i], bytes[i]);
        if (id >= 0)
            ids[n_ids++] = id;
        else
            for (size_t k = 0; k < bytes[i]; k++) ids[n_ids++] = 3 + (uint8_t)text[start[i] + k];
    }
    return n_ids;
}

static void scores_merge_like_the_definition(void **state) {
    (void)state;
    rng r;
    rng_seed(&r, 7, 8);
    for (int round = 0; round < 20; round++) {
        gguf_kvs k = {0}, again = {0};
        tokenizer *t = NULL, *copy = NULL;
        make_pieces(&r);
        put_pieces(&k);
        assert_int_equal(open_tokenizer(&k, &t, NULL), SNUG_OK);
        assert_true(tokenizer_adds_bos(t) && tokenizer_bos(t) == 1 && tokenizer_eos(t) == 2 && tokenizer_is_eog(t, 2));
        assert_int_equal(tokenizer_to_gguf(t, N_PIECES + 5, true, &again, NULL), SNUG_OK);
        assert_int_equal(open_tokenizer(&again, &copy, NULL), SNUG_OK);
        assert_true(tokenizer_fingerprint(copy) == tokenizer_fingerprint(t));
        for (int i = 0; i < 200; i++) {
            static const char *const raw[] = {"a", "b", " ", "\xCE\xB1"};
            char text[128] = "", marked[256] = "\xE2\x96\x81", back[128];
            for (uint32_t n = rng_below(&r, 40); n > 0; n--) strcat(text, raw[rng_below(&r, 4)]);
            for (const char *p = text; *p; p++) strcat(marked, *p == ' ' ? "\xE2\x96\x81" : (char[2]){*p, 0});
            int32_t expected[256], ids[256];
            size_t n = text[0] ? naive_spm(marked, strlen(marked), expected) : 0, got, bytes;
            assert_int_equal(tokenizer_encode(i % 2 ? t : copy, text, strlen(text), false, true, ids, 256, &got, NULL),
                             SNUG_OK);
            assert_int_equal(got, n);
            assert_memory_equal(ids, expected, n * sizeof *ids);
            assert_int_equal(tokenizer_decode(t, ids, got, false, back, sizeof back, &bytes, NULL), SNUG_OK);
            assert_int_equal(bytes, strlen(text));
            assert_memory_equal(back, text, bytes);
        }
        tokenizer_close(&t);
        tokenizer_close(&copy);
        gguf_kvs_fini(&k);
        gguf_kvs_fini(&again);
    }
}

/* ---- names ---- */

static void put_gpt2(gguf_kvs *k, const char *pre, const char *pattern) {
    static const char *const tokens[] = {"a", "b", "\xC4\xA0", "1", "ab", "<|im_end|>"};
    static const int32_t types[] = {1, 1, 1, 1, 1, 3};
    gguf_str s[6], merge = {"a b", 3};
    for (int i = 0; i < 6; i++) s[i] = (gguf_str){tokens[i], strlen(tokens[i])};
    assert_true(gguf_put_str(k, "tokenizer.ggml.model", "gpt2", 4) &&
                gguf_put_str_array(k, "tokenizer.ggml.tokens", s, 6) &&
                gguf_put_array(k, "tokenizer.ggml.token_type", GGUF_I32, types, 6) &&
                gguf_put_str_array(k, "tokenizer.ggml.merges", &merge, 1));
    if (pre) assert_true(gguf_put_str(k, "tokenizer.ggml.pre", pre, strlen(pre)));
    if (pattern) assert_true(gguf_put_str(k, "snug.tokenizer.pattern", pattern, strlen(pattern)));
}

static void every_known_name_opens(void **state) {
    (void)state;
    static const char *const names[] = {
        "gpt-2",        "llama-bpe",      "llama3",      "qwen2",  "qwen35", "tekken",    "smollm",    "starcoder",
        "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon", "gpt-4o", "dbrx",      "smaug-bpe", "glm4",
        "command-r",    "bailingmoe",     "seed-coder",  "bloom",  "viking", "stablelm2", "default",   "olmo"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        gguf_kvs k = {0}, again = {0};
        tokenizer *t = NULL, *copy = NULL;
        snug_error err = {0};
        int32_t ids[16], other[16];
        size_t n, m;
        put_gpt2(&k, names[i], NULL);
        if (open_tokenizer(&k, &t, &err) != SNUG_OK) fail_msg("%s: %s", names[i], err.message);
        assert_int_equal(tokenizer_encode(t, "ab 11", 5, false, true, ids, 16, &n, NULL), SNUG_OK);
        assert_true(n >= 4 && ids[0] == 4);
        if (tokenizer_to_gguf(t, 6, true, &again, &err) != SNUG_OK) fail_msg("%s: %s", names[i], err.message);
        assert_int_equal(open_tokenizer(&again, &copy, NULL), SNUG_OK);
        assert_int_equal(tokenizer_encode(copy, "ab 11", 5, false, true, other, 16, &m, NULL), SNUG_OK);
        assert_true(n == m && memcmp(ids, other, n * sizeof *ids) == 0);
        tokenizer_close(&t);
        tokenizer_close(&copy);
        gguf_kvs_fini(&k);
        gguf_kvs_fini(&again);
    }
}

static void nameless_patterns(void **state) {
    (void)state;
    gguf_kvs k = {0}, out = {0};
    gguf_file g;
    tokenizer *t = NULL, *copy = NULL;
    snug_error err = {0};
    put_gpt2(&k, "made-up", NULL);
    assert_int_equal(open_tokenizer(&k, &t, &err), SNUG_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "made-up"));
    gguf_kvs_fini(&k);
    memset(&k, 0, sizeof k);
    put_gpt2(&k, "made-up", "[ab]|\\s+");
    assert_int_equal(open_tokenizer(&k, &t, &err), SNUG_OK); /* the pattern says it all */
    assert_int_equal(tokenizer_to_gguf(t, 6, true, &out, &err), SNUG_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "[ab]|\\s+"));
    assert_int_equal(out.bytes.len, 0);
    assert_int_equal(tokenizer_to_gguf(t, 6, false, &out, &err), SNUG_OK);
    open_kvs(&out, &g);
    assert_string_equal(gguf_get_str_or(&g, "snug.tokenizer.pattern", ""), "[ab]|\\s+");
    assert_null(gguf_find(&g, "snug.tokenizer.config")); /* nothing else is needed */
    arena_fini(&g.mem);
    assert_int_equal(open_tokenizer(&out, &copy, &err), SNUG_OK);
    int32_t ids[8];
    size_t n;
    assert_int_equal(tokenizer_encode(copy, "ab", 2, false, true, ids, 8, &n, NULL), SNUG_OK);
    assert_int_equal(n, 2); /* the pattern cuts between a and b */
    assert_int_equal(tokenizer_to_gguf(t, 5, false, &out, &err), SNUG_ERR_MISMATCH);
    tokenizer_close(&t);
    tokenizer_close(&copy);
    gguf_kvs_fini(&k);
    gguf_kvs_fini(&out);
}

static void bad_keys_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *drop, *named;
        snug_err code;
    } cases[] = {{"tokenizer.ggml.tokens", "tokenizer.ggml.tokens", SNUG_ERR_FORMAT},
                 {"tokenizer.ggml.scores", "tokenizer.ggml.scores", SNUG_ERR_FORMAT},
                 {"tokenizer.ggml.model", "tokenizer.ggml.model", SNUG_ERR_FORMAT}};
    rng r;
    rng_seed(&r, 9, 9);
    make_pieces(&r);
    for (size_t i = 0; i < 3; i++) {
        gguf_kvs all = {0}, some = {0};
        gguf_file g;
        tokenizer *t = NULL;
        snug_error err = {0};
        put_pieces(&all);
        open_kvs(&all, &g);
        for (size_t k = 0; k < g.n_kv; k++)
            if (strcmp(g.kv[k].key, cases[i].drop) != 0) assert_true(gguf_put_kv(&some, &g.kv[k]));
        assert_int_equal(open_tokenizer(&some, &t, &err), cases[i].code);
        assert_non_null(strstr(err.message, cases[i].named));
        arena_fini(&g.mem);
        gguf_kvs_fini(&all);
        gguf_kvs_fini(&some);
    }
    gguf_kvs k = {0};
    tokenizer *t = NULL;
    snug_error err = {0};
    assert_true(gguf_put_str(&k, "tokenizer.ggml.model", "bert", 4));
    assert_int_equal(open_tokenizer(&k, &t, &err), SNUG_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "bert"));
    gguf_kvs_fini(&k);
}

/* The demo model: plain keys say all, so that its GGUF carries nothing of ours. */
static void demo_needs_no_extra_keys(void **state) {
    (void)state;
    tokenizer *t = NULL, *copy = NULL;
    gguf_kvs k = {0};
    gguf_file g;
    assert_int_equal(tokenizer_open_hf(SNUG_SOURCE_DIR "/models/demo", &t, NULL), SNUG_OK);
    assert_int_equal(tokenizer_to_gguf(t, 4096, true, &k, NULL), SNUG_OK);
    open_kvs(&k, &g);
    assert_string_equal(gguf_get_str_or(&g, "tokenizer.ggml.pre", ""), "gpt-2");
    for (size_t i = 0; i < g.n_kv; i++) assert_null(strstr(g.kv[i].key, "snug."));
    arena_fini(&g.mem);
    assert_int_equal(open_tokenizer(&k, &copy, NULL), SNUG_OK);
    assert_true(tokenizer_fingerprint(t) == tokenizer_fingerprint(copy));
    assert_int_equal(tokenizer_bos(copy), 0);
    tokenizer_close(&t);
    tokenizer_close(&copy);
    gguf_kvs_fini(&k);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_merge_like_the_definition),
        cmocka_unit_test(every_known_name_opens),
        cmocka_unit_test(nameless_patterns),
        cmocka_unit_test(bad_keys_are_refused),
        cmocka_unit_test(demo_needs_no_extra_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
