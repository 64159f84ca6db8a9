// rooms: base format token
/* Token ids and decoded text against what `tokenizers`, `sentencepiece` and `tiktoken` say (tests/golden/README.md):
 * 10,000 lines, 24 tokenizers, straight and through GGUF. */
#include "base/err.h"
#include "base/hash.h"
#include "base/io.h"
#include "token/tokenizer.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

typedef struct lines {
    char *file, **text;
    size_t n, *bytes;
} lines;

static int hex(char c) {
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* Undoes the escapes of lines.txt in place. */
static size_t unescape(char *p, size_t n) {
    char *q = p;
    for (size_t i = 0; i < n; i++) {
        if (p[i] != '\\') {
            *q++ = p[i];
            continue;
        }
        char c = p[++i];
        if (c == 'x') {
            *q++ = (char)(hex(p[i + 1]) * 16 + hex(p[i + 2]));
            i += 2;
        } else {
            *q++ = c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
        }
    }
    return (size_t)(q - p);
}

static void read_lines(lines *l) {
    size_t n;
    assert_int_equal(io_read_all(SNUG_SOURCE_DIR "/tests/golden/tokenizers/lines.txt", 64 << 20, &l->file, &n, NULL),
                     SNUG_OK);
    l->text = malloc(20000 * sizeof *l->text);
    l->bytes = malloc(20000 * sizeof *l->bytes);
    l->n = 0;
    for (char *p = l->file, *end = l->file + n; p < end && l->n < 20000;) {
        char *nl = memchr(p, '\n', (size_t)(end - p));
        assert_non_null(nl);
        l->text[l->n] = p;
        l->bytes[l->n++] = unescape(p, (size_t)(nl - p));
        p = nl + 1;
    }
}

typedef struct golden {
    char *file;
    uint32_t n_lines, n_vocab, n_prefix, n_suffix;
    const uint8_t *affix, *counts, *ids, *hashes;
    bool special;             /* special tokens in a line are matched */
    const uint8_t *id_hashes; /* instead of counts, ids and hashes: 32 bits per line */
    const uint8_t *text_hashes;
} golden;

static uint32_t u16(const uint8_t *p, size_t i) {
    return (uint32_t)(p[2 * i] | p[2 * i + 1] << 8);
}
static uint32_t u32(const uint8_t *p) {
    return u16(p, 0) | u16(p, 1) << 16;
}

/* hashes.bin: the same in less space. */
static void read_hashes(const char *path, golden *g) {
    size_t n;
    assert_int_equal(io_read_all(path, 64 << 20, &g->file, &n, NULL), SNUG_OK);
    const uint8_t *p = (const uint8_t *)g->file;
    assert_memory_equal(p, "SNGH", 4);
    assert_int_equal(u32(p + 4), 1);
    g->n_lines = u32(p + 8);
    g->n_vocab = u32(p + 12);
    g->n_prefix = u32(p + 16);
    g->special = u32(p + 20);
    g->affix = p + 24;
    g->id_hashes = g->affix + 4 * g->n_prefix;
    g->text_hashes = g->id_hashes + 4 * (size_t)g->n_lines;
    assert_int_equal((size_t)(g->text_hashes - p) + 4 * (size_t)g->n_lines, n);
}

static void read_golden(const char *family, golden *g) {
    char path[512];
    size_t n, total = 0;
    memset(g, 0, sizeof *g);
    snprintf(path, sizeof path, SNUG_SOURCE_DIR "/tests/golden/tokenizers/%s/hashes.bin", family);
    if (io_exists(path)) {
        read_hashes(path, g);
        return;
    }
    g->special = true;
    snprintf(path, sizeof path, SNUG_SOURCE_DIR "/tests/golden/tokenizers/%s/ids.bin", family);
    assert_int_equal(io_read_all(path, 64 << 20, &g->file, &n, NULL), SNUG_OK);
    const uint8_t *p = (const uint8_t *)g->file;
    assert_memory_equal(p, "SNGT", 4);
    assert_int_equal(u32(p + 4), 1);
    g->n_lines = u32(p + 8);
    g->n_vocab = u32(p + 12);
    g->n_prefix = u32(p + 16);
    g->n_suffix = u32(p + 20);
    g->affix = p + 24;
    g->counts = g->affix + 2 * (g->n_prefix + g->n_suffix);
    g->ids = g->counts + 2 * (size_t)g->n_lines;
    for (uint32_t i = 0; i < g->n_lines; i++) total += u16(g->counts, i);
    g->hashes = g->ids + 2 * total;
    assert_int_equal((size_t)(g->hashes - p) + 8 * (size_t)g->n_lines, n);
}

enum { CAP = 70000 };
static int32_t ids[CAP];
static char text[CAP * 8];

static bool ids_agree(const golden *g, size_t n, uint32_t i, size_t at) {
    if (g->id_hashes) return (uint32_t)hash_bytes(ids, n * sizeof *ids) == u32(g->id_hashes + 4 * (size_t)i);
    if (n != u16(g->counts, i)) return false;
    for (size_t k = 0; k < n; k++)
        if ((uint32_t)ids[k] != u16(g->ids, at + k)) return false;
    return true;
}

static bool text_agrees(const golden *g, size_t n_text, uint32_t i) {
    uint64_t h;
    if (g->text_hashes) return (uint32_t)hash_bytes(text, n_text) == u32(g->text_hashes + 4 * (size_t)i);
    memcpy(&h, g->hashes + 8 * (size_t)i, 8);
    return hash_bytes(text, n_text) == h;
}

/* Ids equal, decoding equal, and decoding token by token gives the same bytes. */
static bool line_agrees(const tokenizer *t, const golden *g, const char *line, size_t bytes, uint32_t i, size_t at) {
    size_t n, n_text, n_more = 0;
    assert_int_equal(tokenizer_encode(t, line, bytes, false, g->special, ids, CAP, &n, NULL), SNUG_OK);
    if (!ids_agree(g, n, i, at)) return false;
    assert_int_equal(tokenizer_decode(t, ids, n, true, text, sizeof text, &n_text, NULL), SNUG_OK);
    if (!text_agrees(g, n_text, i)) return false;
    static char pieces[CAP * 8];
    for (size_t k = 0; k < n; k++) {
        size_t one;
        snug_err e =
            k == 0 ? tokenizer_decode(t, ids, 1, true, pieces, sizeof pieces, &one, NULL)
                   : tokenizer_decode_more(t, ids + k, 1, true, pieces + n_more, sizeof pieces - n_more, &one, NULL);
        assert_int_equal(e, SNUG_OK);
        n_more += one;
    }
    return n_more == n_text && memcmp(pieces, text, n_text) == 0;
}

static void check_affixes(const tokenizer *t, const golden *g) {
    size_t n;
    assert_int_equal(tokenizer_encode(t, "", 0, true, true, ids, CAP, &n, NULL), SNUG_OK);
    assert_int_equal(n, g->n_prefix + g->n_suffix);
    for (size_t i = 0; i < n; i++) assert_int_equal(ids[i], g->id_hashes ? u32(g->affix + 4 * i) : u16(g->affix, i));
}

static size_t disagreements(const tokenizer *t, const golden *g, const lines *l, const char *what) {
    size_t wrong = 0, at = 0;
    for (uint32_t i = 0; i < g->n_lines; i++) {
        if (!line_agrees(t, g, l->text[i], l->bytes[i], i, at) && wrong++ < 3)
            print_message("%s: line %u: %.*s\n", what, i, (int)(l->bytes[i] < 200 ? l->bytes[i] : 200), l->text[i]);
        if (g->counts) at += u16(g->counts, i);
    }
    print_message("%s: %zu of %u lines differ\n", what, wrong, g->n_lines);
    return wrong;
}

static lines all;

/* The tokenizer that a GGUF with these keys holds; *config: its snug.tokenizer.config has this many bytes; *keys: a
 * hash of all. */
static tokenizer *through_gguf(const tokenizer *t, uint32_t n_vocab, bool strict, size_t *config, uint64_t *keys) {
    gguf_kvs kvs = {0};
    gguf_file g = {.file = {.fd = -1}};
    gguf_kv *kv;
    tokenizer *back = NULL;
    snug_error err = {0};
    if (tokenizer_to_gguf(t, n_vocab, strict, &kvs, &err) != SNUG_OK) fail_msg("%s", err.message);
    assert_int_equal(gguf_parse_kvs("test", kvs.bytes.data, kvs.bytes.len, kvs.n, &g.mem, &kv, NULL), SNUG_OK);
    assert_int_equal(gguf_merge_kvs(&g, kv, kvs.n, NULL), SNUG_OK);
    *config = strlen(gguf_get_str_or(&g, "snug.tokenizer.config", ""));
    if (tokenizer_open_gguf(&g, &back, &err) != SNUG_OK) fail_msg("%s", err.message);
    *keys = hash_bytes(kvs.bytes.data, kvs.bytes.len);
    arena_fini(&g.mem);
    gguf_kvs_fini(&kvs);
    return back;
}

/* "!name": other programs' GGUF has no word for this pretokenizer, and strict writing says so. */
static void check_refusal(const tokenizer *t, uint32_t n_vocab) {
    gguf_kvs kvs = {0};
    snug_error err = {0};
    assert_int_equal(tokenizer_to_gguf(t, n_vocab, true, &kvs, &err), SNUG_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "GGUF"));
    gguf_kvs_fini(&kvs);
}

static void family(void **state) {
    const char *name = *state;
    bool nameless = *name == '!';
    name += nameless;
    golden g;
    read_golden(name, &g);
    assert_int_equal(g.n_lines, all.n);
    char dir[512];
    snprintf(dir, sizeof dir, SNUG_SOURCE_DIR "/tests/golden/tokenizers/%s", name);
    tokenizer *t = NULL;
    snug_error err = {0};
    if (tokenizer_open_hf(dir, &t, &err) != SNUG_OK) fail_msg("%s", err.message);
    assert_int_equal(tokenizer_n_vocab(t), g.n_vocab);
    check_affixes(t, &g);
    assert_int_equal(disagreements(t, &g, &all, name), 0);

    uint64_t keys[2];
    if (nameless) check_refusal(t, g.n_vocab + 10);
    for (int strict = 0; strict < 2 - nameless; strict++) { /* ten rows of the embedding have no token */
        size_t config;
        tokenizer *back = through_gguf(t, g.n_vocab + 10, strict, &config, &keys[strict]);
        char what[64];
        snprintf(what, sizeof what, "%s through %s GGUF (config of %zu bytes)", name, strict ? "a strict" : "a snug",
                 config);
        assert_int_equal(tokenizer_n_vocab(back), g.n_vocab + 10);
        assert_true(tokenizer_fingerprint(back) == tokenizer_fingerprint(t));
        check_affixes(back, &g);
        if (!strict || keys[1] != keys[0]) assert_int_equal(disagreements(back, &g, &all, what), 0);
        tokenizer_close(&back);
    }
    tokenizer_close(&t);
    free(g.file);
}

int main(void) {
    read_lines(&all);
    const struct CMUnitTest tests[] = {
        {"gpt2", family, NULL, NULL, "gpt2"},
        {"smollm", family, NULL, NULL, "smollm"},
        {"llama3", family, NULL, NULL, "llama3"},
        {"qwen2", family, NULL, NULL, "qwen2"},
        {"tekken", family, NULL, NULL, "tekken"},
        {"llama2", family, NULL, NULL, "llama2"},
        {"mistral", family, NULL, NULL, "mistral"},
        {"gemma", family, NULL, NULL, "gemma"},
        {"phi3", family, NULL, NULL, "phi3"},
        {"gptneox", family, NULL, NULL, "gptneox"},
        {"deepseek", family, NULL, NULL, "deepseek"},
        {"deepseek1", family, NULL, NULL, "!deepseek1"},
        {"o200k", family, NULL, NULL, "o200k"},
        {"t5", family, NULL, NULL, "t5"},
        {"llmjp", family, NULL, NULL, "llmjp"},
        {"spm-llama", family, NULL, NULL, "spm-llama"},
        {"spm-gemma", family, NULL, NULL, "spm-gemma"},
        {"spm-nfkc", family, NULL, NULL, "spm-nfkc"},
        {"spm-bytes", family, NULL, NULL, "spm-bytes"},
        {"tiktoken-llama3", family, NULL, NULL, "tiktoken-llama3"},
        {"tiktoken-qwen", family, NULL, NULL, "tiktoken-qwen"},
        {"tiktoken-cl100k", family, NULL, NULL, "!tiktoken-cl100k"},
        {"tiktoken-kimi", family, NULL, NULL, "tiktoken-kimi"},
        {"tekken-json", family, NULL, NULL, "tekken-json"},
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(all.file);
    free(all.text);
    free(all.bytes);
    return failed;
}
