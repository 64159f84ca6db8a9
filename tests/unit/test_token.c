// rooms: base format token
/* Tokenizers: rules that goldens do not show. Invalid UTF-8, buffer sizes, streaming, roles, refusals by name, damaged
 * files, GGUF keys, and the merge loop beside a naive one. */
#include "base/rng.h"
#include "token/bpe.h"
#include "token/tokenizer.h"
#include "token/utf8.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define GOLDEN SNUG_SOURCE_DIR "/tests/golden/tokenizers/"
#define DEMO   SNUG_SOURCE_DIR "/models/demo"

static tokenizer *open_dir(const char *dir) {
    tokenizer *t = NULL;
    snug_error err = {0};
    if (tokenizer_open_hf(dir, &t, &err) != SNUG_OK) fail_msg("%s", err.message);
    return t;
}

static size_t encode(const tokenizer *t, const char *text, size_t n, int32_t *ids, size_t cap) {
    size_t count;
    assert_int_equal(tokenizer_encode(t, text, n, false, true, ids, cap, &count, NULL), SNUG_OK);
    assert_true(count <= cap);
    return count;
}

static void assert_same_ids(const tokenizer *t, const char *a, size_t na, const char *b, size_t nb) {
    int32_t x[512], y[512];
    size_t nx = encode(t, a, na, x, 512), ny = encode(t, b, nb, y, 512);
    assert_int_equal(nx, ny);
    assert_memory_equal(x, y, nx * sizeof *x);
}

/* ---- folders made for a test ---- */

static char dir_path[64];

static const char *new_dir(void) {
    strcpy(dir_path, "/tmp/snug-token-XXXXXX");
    assert_non_null(mkdtemp(dir_path));
    return dir_path;
}

static void put_file(const char *name, const char *text, size_t n) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir_path, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    fclose(f);
}

static void drop_dir(void) {
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "generation_config.json",
                                        "config.json", "chat_template.jinja"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", dir_path, names[i]);
        unlink(path);
    }
    rmdir(dir_path);
}

/* A tokenizer.json over the letters a to d and two merges, with these parts. */
static void put_tokenizer(const char *norm, const char *pretok, const char *post, const char *dec,
                          const char *model_extra) {
    char text[4096];
    int n = snprintf(text, sizeof text,
                     "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":7,\"content\":\"<s>\",\"special\":true},{\"id\":8,"
                     "\"content\":\"</s>\",\"special\":true},"
                     "{\"id\":9,\"content\":\"<|im_end|>\",\"special\":true}],\"normalizer\":%s,\"pre_tokenizer\":%s,"
                     "\"post_processor\":%s,\"decoder\":%s,"
                     "\"model\":{\"type\":\"BPE\",%s\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"d\":3,\"ab\":4,\"cd\":5,"
                     "\"abcd\":6},\"merges\":[\"a b\",[\"c\",\"d\"],\"ab cd\"]}}",
                     norm, pretok, post, dec, model_extra);
    put_file("tokenizer.json", text, (size_t)n);
}

/* ---- text ---- */

/* The rule by another road: try every length at every place. */
static size_t replace_invalid(const uint8_t *p, size_t n, char *out) {
    size_t k = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        size_t len = 0;
        for (size_t l = 1; l <= 4 && i + l <= n && !len; l++) {
            static const uint32_t lowest[] = {0, 0, 0x80, 0x800, 0x10000};
            uint8_t lead = p[i];
            bool ok = l == 1 ? lead < 0x80 : l == 2 ? lead >> 5 == 6 : l == 3 ? lead >> 4 == 14 : lead >> 3 == 30;
            c = l == 1 ? lead : lead & (0x7Fu >> l);
            for (size_t m = 1; m < l; m++) ok &= (p[i + m] & 0xC0) == 0x80, c = c << 6 | (p[i + m] & 0x3F);
            if (ok && c >= lowest[l] && c <= 0x10FFFF && !(c >= 0xD800 && c <= 0xDFFF)) len = l;
        }
        if (len)
            memcpy(out + k, p + i, len), k += len, i += len;
        else
            memcpy(out + k, "\xEF\xBF\xBD", 3), k += 3, i++;
    }
    return k;
}

static void invalid_utf8(void **state) {
    (void)state;
    tokenizer *t = open_dir(DEMO);
    assert_same_ids(t,
                    "\xE2\x82"
                    "A",
                    3,
                    "\xEF\xBF\xBD\xEF\xBF\xBD"
                    "A",
                    7);
    assert_same_ids(t, "\xED\xA0\x80", 3, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 9); /* a surrogate */
    assert_same_ids(t, "x\xC0\x80y", 4, "x\xEF\xBF\xBD\xEF\xBF\xBDy", 8);             /* an overlong NUL */
    rng r;
    rng_seed(&r, 1, 2);
    static const uint8_t likely[] = {0x41, 0x80, 0xBF, 0xC2, 0xE0, 0xED, 0xEF, 0xF0,
                                     0xF4, 0xF5, 0x9F, 0xA0, 0x8F, 0x90, 0x20, 0xFF};
    for (int i = 0; i < 20000; i++) {
        uint8_t bytes[12];
        char clean[40];
        size_t n = rng_below(&r, 12);
        for (size_t k = 0; k < n; k++) bytes[k] = rng_below(&r, 4) ? likely[rng_below(&r, 16)] : (uint8_t)rng_next(&r);
        size_t n_clean = replace_invalid(bytes, n, clean);
        assert_same_ids(t, (char *)bytes, n, clean, n_clean);
        assert_int_equal(utf8_valid_prefix((uint8_t *)clean, n_clean), n_clean);
    }
    tokenizer_close(&t);
}

static void sizes_and_empty_texts(void **state) {
    (void)state;
    tokenizer *t = open_dir(DEMO);
    int32_t ids[4] = {-7, -7, -7, -7};
    size_t n;
    char text[8] = "-------";
    assert_int_equal(tokenizer_encode(t, "", 0, true, true, ids, 0, &n, NULL), SNUG_OK);
    assert_int_equal(n, 0);
    assert_int_equal(tokenizer_encode(t, NULL, 0, false, false, NULL, 0, &n, NULL), SNUG_OK);
    assert_int_equal(tokenizer_encode(t, "one two three four five", 23, false, true, ids, 2, &n, NULL), SNUG_OK);
    assert_true(n > 2);
    assert_int_equal(ids[2], -7);
    int32_t all[32];
    size_t count = encode(t, "one two", 7, all, 32);
    assert_int_equal(tokenizer_decode(t, all, count, false, text, 3, &n, NULL), SNUG_OK);
    assert_int_equal(n, 7);
    assert_memory_equal(text, "one-", 4);
    snug_error err = {0};
    int32_t beyond = (int32_t)tokenizer_n_vocab(t);
    assert_int_equal(tokenizer_decode(t, &beyond, 1, false, text, 8, &n, &err), SNUG_ERR_ARG);
    beyond = -1;
    assert_int_equal(tokenizer_decode(t, &beyond, 1, false, text, 8, &n, &err), SNUG_ERR_ARG);
    assert_null(tokenizer_piece(t, -1));
    assert_string_equal(tokenizer_piece(t, 0), "<|endoftext|>");
    tokenizer_close(&t);
    tokenizer_close(&t);
}

static void special_tokens_are_parsed_on_demand(void **state) {
    (void)state;
    tokenizer *t = open_dir(DEMO);
    int32_t ids[64];
    size_t n;
    char text[64];
    assert_int_equal(tokenizer_encode(t, "<|user|>", 8, false, true, ids, 64, &n, NULL), SNUG_OK);
    assert_int_equal(n, 1);
    assert_int_equal(ids[0], 1);
    assert_int_equal(tokenizer_encode(t, "<|user|>", 8, false, false, ids, 64, &n, NULL), SNUG_OK);
    assert_true(n > 1);
    size_t bytes;
    assert_int_equal(tokenizer_decode(t, ids, n, false, text, 64, &bytes, NULL), SNUG_OK);
    assert_int_equal(bytes, 8); /* ordinary tokens: shown */
    ids[0] = 1;
    assert_int_equal(tokenizer_decode(t, ids, 1, false, text, 64, &bytes, NULL), SNUG_OK);
    assert_int_equal(bytes, 0);
    assert_true(tokenizer_is_eog(t, 0));
    assert_false(tokenizer_is_eog(t, 1));
    assert_int_equal(tokenizer_bos(t), 0);
    assert_false(tokenizer_adds_bos(t));
    tokenizer_close(&t);
}

/* SentencePiece style: the start of a text loses its space, what follows keeps it. */
static void streaming_keeps_spaces(void **state) {
    (void)state;
    tokenizer *t = open_dir(GOLDEN "llama2");
    int32_t ids[64];
    char text[128];
    size_t n = encode(t, "the sea \xF0\x9F\x8C\x8A", 12, ids, 64), bytes, total = 0;
    assert_int_equal(tokenizer_decode(t, ids, n, false, text, 128, &bytes, NULL), SNUG_OK);
    assert_int_equal(bytes, 12);
    assert_memory_equal(text, "the sea \xF0\x9F\x8C\x8A", 12);
    assert_int_equal(tokenizer_decode_more(t, ids, n, false, text, 128, &bytes, NULL), SNUG_OK);
    assert_int_equal(bytes, 13);
    assert_memory_equal(text, " the", 4);
    for (size_t i = 0; i < n; i++) { /* partial characters come out byte by byte */
        assert_int_equal((i ? tokenizer_decode_more : tokenizer_decode)(t, ids + i, 1, false, text + total, 128 - total,
                                                                        &bytes, NULL),
                         SNUG_OK);
        total += bytes;
    }
    assert_int_equal(total, 12);
    assert_memory_equal(text, "the sea \xF0\x9F\x8C\x8A", 12);
    tokenizer_close(&t);
}

/* ---- the folder's other files ---- */

static void roles_and_templates(void **state) {
    (void)state;
    new_dir();
    put_tokenizer("null", "null", "null", "null", "");
    static const char config[] =
        "{\"bos_token\":{\"content\":\"<s>\"},\"eos_token\":\"</s>\",\"add_bos_token\":true,\"add_eos_token\":true,"
        "\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"no\"},{\"name\":\"default\",\"template\":\"yes\"}]}";
    put_file("tokenizer_config.json", config, sizeof config - 1);
    put_file("generation_config.json", "{\"eos_token_id\":[8,3]}", 22);
    tokenizer *t = open_dir(dir_path);
    int32_t ids[8];
    size_t n;
    assert_int_equal(tokenizer_encode(t, "abcdab", 6, true, true, ids, 8, &n, NULL), SNUG_OK);
    static const int32_t expected[] = {7, 6, 4, 8};
    assert_int_equal(n, 4);
    assert_memory_equal(ids, expected, sizeof expected);
    assert_true(tokenizer_adds_bos(t));
    assert_int_equal(tokenizer_eos(t), 8);
    assert_true(tokenizer_is_eog(t, 8) && tokenizer_is_eog(t, 3) &&
                tokenizer_is_eog(t, 9)); /* eos, the list's, <|im_end|> */
    assert_false(tokenizer_is_eog(t, 7));
    assert_string_equal(tokenizer_chat_template(t), "yes");
    tokenizer_close(&t);
    put_file("chat_template.jinja", "file", 4);
    t = open_dir(dir_path);
    assert_string_equal(tokenizer_chat_template(t), "file");
    tokenizer_close(&t);
    drop_dir();
}

static void unknown_parts_are_named(void **state) {
    (void)state;
    static const struct {
        const char *norm, *pretok, *post, *dec, *extra, *named;
    } bad[] = {
        {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Nmt\"}]}", "null", "null", "null", "",
         "Nmt"},
        {"null", "{\"type\":\"UnicodeScripts\"}", "null", "null", "", "UnicodeScripts"},
        {"null", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&b]\"},\"behavior\":\"Isolated\"}", "null", "null",
         "", "&&"},
        {"null", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a\"},\"behavior\":\"Isolated\"}", "null", "null", "",
         "(a"},
        {"null", "{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Sometimes\"}", "null", "null", "",
         "Sometimes"},
        {"null", "null", "{\"type\":\"Unheard\"}", "null", "", "Unheard"},
        {"null", "null", "null", "{\"type\":\"CTC\"}", "", "CTC"},
        {"null", "null", "null", "{\"type\":\"WordPiece\"}", "", "WordPiece"},
        {"null", "null", "null", "null", "\"dropout\":0.1,", "dropout"},
        {"null", "null", "null", "null", "\"continuing_subword_prefix\":\"##\",", "continuing_subword_prefix"},
        {"null", "null", "null", "null", "\"type\":\"Unigram\",", "unk_id"},
        {"null", "null", "null", "null", "\"type\":\"WordPiece\",", "WordPiece"},
    };
    new_dir();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tokenizer *t = (tokenizer *)&t;
        snug_error err = {0};
        put_tokenizer(bad[i].norm, bad[i].pretok, bad[i].post, bad[i].dec, bad[i].extra);
        snug_err e = tokenizer_open_hf(dir_path, &t, &err);
        assert_int_equal(e, SNUG_ERR_UNSUPPORTED);
        assert_null(t);
        if (!strstr(err.message, bad[i].named)) fail_msg("'%s' does not name %s", err.message, bad[i].named);
    }
    drop_dir();
}

static void damaged_json(void **state) {
    (void)state;
    char *text, *copy;
    size_t n;
    assert_int_equal(io_read_all(GOLDEN "mistral/tokenizer.json", 1 << 20, &text, &n, NULL), SNUG_OK);
    copy = malloc(n);
    new_dir();
    rng r;
    rng_seed(&r, 3, 4);
    for (int i = 0; i < 400; i++) {
        tokenizer *t = NULL;
        snug_error err = {0};
        size_t cut = i < 200 ? rng_below(&r, (uint32_t)n) : n;
        memcpy(copy, text, n);
        for (int k = 0; i >= 200 && k < 3; k++) copy[rng_below(&r, (uint32_t)n)] = (char)rng_next(&r);
        put_file("tokenizer.json", copy, cut);
        snug_err e = tokenizer_open_hf(dir_path, &t, &err);
        if (i < 200) assert_int_equal(e, SNUG_ERR_FORMAT); /* a prefix is never a tokenizer */
        if (e) assert_true(err.message[0] != 0 && t == NULL);
        tokenizer_close(&t);
    }
    drop_dir();
    free(copy);
    free(text);
    snug_error err = {0};
    tokenizer *t;
    assert_int_equal(tokenizer_open_hf("/nowhere", &t, &err), SNUG_ERR_IO);
}

static void a_hostile_pattern_ends(void **state) {
    (void)state;
    new_dir();
    put_tokenizer("null", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?:a+)+b\"},\"behavior\":\"Isolated\"}", "null",
                  "null", "");
    tokenizer *t = open_dir(dir_path);
    char text[4000];
    int32_t ids[8];
    size_t n;
    snug_error err = {0};
    memset(text, 'a', sizeof text);
    snug_err e = tokenizer_encode(t, text, sizeof text, false, true, ids, 8, &n, &err);
    assert_true(e == SNUG_OK || e == SNUG_ERR_FORMAT); /* PCRE2 may see at once that there is no b */
    tokenizer_close(&t);
    drop_dir();
}

/* ---- merging ---- */

/* The definition: while any neighbours join, join the pair of least rank, leftmost first. */
static size_t naive(const bpe *m, const char *text, size_t n, uint32_t *id) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) id[count++] = vocab_find(&m->vocab, text + i, 1);
    for (;;) {
        size_t best = 0;
        uint32_t least = VOCAB_NONE, joined = 0;
        for (size_t i = 0; i + 1 < count; i++)
            for (uint32_t r = 0; r < m->n_pairs && r < least; r++)
                if (m->pair[r].a == id[i] && m->pair[r].b == id[i + 1]) least = r, best = i, joined = m->pair[r].joined;
        if (least == VOCAB_NONE) return count;
        id[best] = joined;
        memmove(&id[best + 1], &id[best + 2], (count - best - 2) * sizeof *id);
        count--;
    }
}

static void merges_like_the_definition(void **state) {
    (void)state;
    rng r;
    rng_seed(&r, 5, 6);
    for (int round = 0; round < 40; round++) {
        vocab_builder b = {0};
        vocab v;
        bpe m;
        char text[64][16] = {"a", "b", "c"};
        uint32_t n = 3;
        struct {
            uint32_t a, b;
        } merges[120];
        size_t n_merges = 0;
        while (n < 60 && n_merges < 120) { /* random merges; some make a token that is already there */
            uint32_t x = rng_below(&r, n), y = rng_below(&r, n), k = 0;
            char joined[32];
            snprintf(joined, sizeof joined, "%s%s", text[x], text[y]);
            if (strlen(joined) > 8) continue;
            while (k < n && strcmp(text[k], joined) != 0) k++;
            if (k == n) strcpy(text[n++], joined);
            merges[n_merges].a = x;
            merges[n_merges++].b = y;
        }
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(vocab_add(&b, i, text[i], strlen(text[i]), true, NULL), SNUG_OK);
        assert_int_equal(vocab_build(&b, &v, NULL), SNUG_OK);
        bpe_init(&m, &v);
        assert_int_equal(bpe_reserve_pairs(&m, n_merges, NULL), SNUG_OK);
        for (size_t i = 0; i < n_merges; i++) {
            bool seen = false;
            for (size_t k = 0; k < i; k++) seen |= merges[k].a == merges[i].a && merges[k].b == merges[i].b;
            if (!seen) assert_int_equal(bpe_add_merge_ids(&m, merges[i].a, merges[i].b, NULL), SNUG_OK);
        }
        assert_int_equal(bpe_finish(&m, NULL), SNUG_OK);
        bpe_scratch s = {0};
        if (round % 2) bpe_scratch_use_cache(&s);
        for (int i = 0; i < 100; i++) {
            char word[120];
            uint32_t expected[120];
            buf ids = {0};
            size_t bytes = 1 + rng_below(&r, i % 2 ? 119 : 30);
            for (size_t k = 0; k < bytes; k++) word[k] = (char)('a' + rng_below(&r, 3));
            size_t count = naive(&m, word, bytes, expected);
            assert_int_equal(bpe_encode(&m, &s, (uint8_t *)word, bytes, &ids, NULL), SNUG_OK);
            assert_int_equal(ids.len, count * 4);
            assert_memory_equal(ids.data, expected, ids.len);
            buf_fini(&ids);
        }
        bpe_scratch_fini(&s);
        bpe_fini(&m);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(invalid_utf8),
        cmocka_unit_test(sizes_and_empty_texts),
        cmocka_unit_test(special_tokens_are_parsed_on_demand),
        cmocka_unit_test(streaming_keeps_spaces),
        cmocka_unit_test(roles_and_templates),
        cmocka_unit_test(unknown_parts_are_named),
        cmocka_unit_test(damaged_json),
        cmocka_unit_test(a_hostile_pattern_ends),
        cmocka_unit_test(merges_like_the_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
