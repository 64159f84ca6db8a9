/* What holds for every tokenizer that opens: ids are of its vocabulary; decoding them token by token gives what decoding all at once gives;
 * and through a GGUF written from it the ids are the same. */
#ifndef FUZZ_TOKENIZER_H
#define FUZZ_TOKENIZER_H
#include "fuzz.h"
#include "token/tokenizer_impl.h"
#include <string.h>

static inline void check_decoding(const tokenizer *t, const int32_t *ids, size_t n) {
    size_t bytes, one, at = 0;
    FUZZ_CHECK(tokenizer_decode(t, ids, n, true, NULL, 0, &bytes, NULL) == SNUG_OK);
    char *whole = malloc(bytes + 1), *parts = malloc(bytes + 1);
    FUZZ_CHECK(whole && parts);
    FUZZ_CHECK(tokenizer_decode(t, ids, n, true, whole, bytes, &bytes, NULL) == SNUG_OK);
    if (t->dec.present && t->n_lead == 0 && !t->first_token) { /* the rules for the start of a text aside */
        for (size_t i = 0; i < n; i++) {
            FUZZ_CHECK(tokenizer_decode_more(t, ids + i, 1, true, parts + at, bytes - at, &one, NULL) == SNUG_OK);
            at += one;
            FUZZ_CHECK(at <= bytes);
        }
        FUZZ_CHECK(at == bytes && memcmp(whole, parts, bytes) == 0);
    }
    free(whole);
    free(parts);
}

static inline int32_t *encode(const tokenizer *t, const char *text, size_t n_text, size_t *n, snug_err *e) {
    *e = tokenizer_encode(t, text, n_text, true, true, NULL, 0, n, NULL);
    int32_t *ids = malloc((*n + 1) * sizeof *ids);
    FUZZ_CHECK(ids != NULL);
    if (!*e) FUZZ_CHECK(tokenizer_encode(t, text, n_text, true, true, ids, *n, n, NULL) == SNUG_OK);
    return ids;
}

static inline void check_gguf(const tokenizer *t, const char *text, size_t n_text, const int32_t *ids, size_t n) {
    gguf_kvs kvs = {0};
    gguf_file g = {.file = {.fd = -1}};
    gguf_kv *kv;
    tokenizer *back = NULL;
    snug_error err = {0};
    size_t m;
    snug_err e = tokenizer_to_gguf(t, tokenizer_n_vocab(t) + 1, false, &kvs, &err);
    if (!e) {
        FUZZ_CHECK(gguf_parse_kvs("fuzz", kvs.bytes.data, kvs.bytes.len, kvs.n, &g.mem, &kv, NULL) == SNUG_OK);
        FUZZ_CHECK(gguf_merge_kvs(&g, kv, kvs.n, NULL) == SNUG_OK && tokenizer_open_gguf(&g, &back, NULL) == SNUG_OK);
        int32_t *other = encode(back, text, n_text, &m, &e);
        FUZZ_CHECK(e == SNUG_OK && m == n && memcmp(ids, other, n * sizeof *ids) == 0);
        free(other);
    }
    tokenizer_close(&back);
    arena_fini(&g.mem);
    gguf_kvs_fini(&kvs);
}

static inline void check_tokenizer(const tokenizer *t, const char *text, size_t n_text) {
    size_t n;
    snug_err e;
    int32_t *ids = encode(t, text, n_text, &n, &e);
    for (size_t i = 0; !e && i < n; i++) FUZZ_CHECK(tokenizer_piece(t, ids[i]) != NULL);
    if (!e) {
        check_decoding(t, ids, n);
        check_gguf(t, text, n_text, ids, n);
    }
    free(ids);
}
#endif
