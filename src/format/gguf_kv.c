/* GGUF key-values, from bytes to a table.
 *
 *   entry  = key length u64 | key bytes | value type u32 | value
 *   string = length u64 | bytes
 *   array  = element type u32 | count u64 | elements (numbers packed; strings one after the other)
 *
 * Nothing is allocated on the word of a length: counts are compared with the bytes that are left, and the table of entries
 * grows as entries are really read. Numbers keep their packed form; strings get a NUL each and a table of (pointer, length). */
#include "format/gguf_kv.h"

#include "base/err.h"
#include "base/f16.h"

#include <stdlib.h>
#include <string.h>

snug_err gguf_read_name(gguf_cursor *c, arena *mem, const char **out, snug_error *err) {
    uint64_t n, at = c->pos;
    c->name = NULL;
    snug_err rc = cursor_u64(c, &n, "the length of its name", err);
    if (rc == SNUG_OK && (n == 0 || n > CURSOR_MAX_NAME))
        rc = cursor_fail(c, err, SNUG_ERR_FORMAT, at, "the name's length is %llu, expected 1 to %d", (unsigned long long)n, CURSOR_MAX_NAME);
    if (rc == SNUG_OK) rc = cursor_need(c, n, 1, "its name", err);
    if (rc != SNUG_OK) return rc;
    char *s = arena_alloc_bytes(mem, (size_t)n + 1);
    if (!s) return err_nomem(err, (size_t)n + 1);
    rc = cursor_bytes(c, s, (size_t)n, "its name", err);
    if (rc == SNUG_OK && strlen(s) != n) rc = cursor_fail(c, err, SNUG_ERR_FORMAT, at, "the name has a NUL byte in it");
    *out = c->name = s;
    return rc;
}

static snug_err read_string(gguf_cursor *c, arena *mem, gguf_str *out, snug_error *err) {
    uint64_t n;
    snug_err rc = cursor_u64(c, &n, "a string's length", err);
    if (rc == SNUG_OK) rc = cursor_need(c, n, 1, "a string", err);
    if (rc != SNUG_OK) return rc;
    char *s = arena_alloc_bytes(mem, (size_t)n + 1);
    if (!s) return err_nomem(err, (size_t)n + 1);
    *out = (gguf_str){.p = s, .n = n};
    return cursor_bytes(c, s, (size_t)n, "a string", err);
}

/* A scalar of `type` from its packed bytes, widened. */
static void widen(gguf_kv *kv, gguf_kv_type type, const uint8_t *p) {
    switch (type) {
    case GGUF_U8: kv->v.u = p[0]; break;
    case GGUF_I8: kv->v.i = (int8_t)p[0]; break;
    case GGUF_U16: kv->v.u = read_u16(p); break;
    case GGUF_I16: kv->v.i = (int16_t)read_u16(p); break;
    case GGUF_U32: kv->v.u = read_u32(p); break;
    case GGUF_I32: kv->v.i = (int32_t)read_u32(p); break;
    case GGUF_F32: kv->v.f = (double)f32_from_bits(read_u32(p)); break;
    case GGUF_BOOL: kv->v.u = 0, kv->v.b = p[0] != 0; break;
    case GGUF_U64: kv->v.u = read_u64(p); break;
    case GGUF_I64: kv->v.i = (int64_t)read_u64(p); break;
    case GGUF_F64: memcpy(&kv->v.f, p, 8); break;
    case GGUF_STRING:
    case GGUF_ARRAY: break; /* not scalars */
    }
}

static snug_err read_array(gguf_cursor *c, arena *mem, gguf_kv *kv, snug_error *err) {
    uint32_t elem;
    uint64_t at = c->pos;
    snug_err rc = cursor_u32(c, &elem, "the array's element type", err);
    if (rc == SNUG_OK && elem == GGUF_ARRAY)
        rc = cursor_fail(c, err, SNUG_ERR_UNSUPPORTED, at, "arrays of arrays are not supported");
    if (rc == SNUG_OK && elem > GGUF_F64)
        rc = cursor_fail(c, err, SNUG_ERR_FORMAT, at, "the array's element type is %u, expected 0 to %d", elem, GGUF_F64);
    if (rc == SNUG_OK) rc = cursor_u64(c, &kv->n, "the array's length", err);
    if (rc != SNUG_OK) return rc;
    kv->elem_type = (gguf_kv_type)elem;
    if (elem != GGUF_STRING) {
        uint32_t size = gguf_kv_type_bytes(elem);
        rc = cursor_need(c, kv->n, size, "the array", err);
        if (rc != SNUG_OK) return rc;
        void *p = arena_alloc(mem, (size_t)(kv->n * size));
        kv->array = p;
        return p ? cursor_bytes(c, p, (size_t)(kv->n * size), "the array", err) : err_nomem(err, (size_t)(kv->n * size));
    }
    rc = cursor_need(c, kv->n, 8, "the array of strings", err); /* each string has at least its length */
    if (rc != SNUG_OK) return rc;
    gguf_str *s = arena_calloc(mem, (size_t)kv->n, sizeof *s); /* 16 bytes for at least 8 in the file */
    if (!s) return err_nomem(err, (size_t)kv->n * sizeof *s);
    for (uint64_t i = 0; i < kv->n && rc == SNUG_OK; i++) rc = read_string(c, mem, &s[i], err);
    kv->array = s;
    return rc;
}

static snug_err read_kv(gguf_cursor *c, arena *mem, gguf_kv *kv, snug_error *err) {
    uint32_t type = 0;
    uint64_t at;
    *kv = (gguf_kv){0};
    c->noun = "key";
    snug_err rc = gguf_read_name(c, mem, &kv->key, err);
    if (rc != SNUG_OK) return rc;
    at = c->pos;
    rc = cursor_u32(c, &type, "the value's type", err);
    if (rc == SNUG_OK && type > GGUF_F64)
        rc = cursor_fail(c, err, SNUG_ERR_FORMAT, at, "the value's type is %u, expected 0 to %d", type, GGUF_F64);
    if (rc != SNUG_OK) return rc;
    kv->type = (gguf_kv_type)type;
    if (type == GGUF_STRING) return read_string(c, mem, &kv->v.s, err);
    if (type == GGUF_ARRAY) return read_array(c, mem, kv, err);
    uint8_t p[8] = {0};
    at = c->pos;
    rc = cursor_bytes(c, p, gguf_kv_type_bytes(type), "the value", err);
    if (rc == SNUG_OK && type == GGUF_BOOL && p[0] > 1)
        rc = cursor_fail(c, err, SNUG_ERR_FORMAT, at, "the bool is %u, expected 0 or 1", p[0]);
    if (rc == SNUG_OK) widen(kv, kv->type, p);
    return rc;
}

snug_err gguf_read_kvs(gguf_cursor *c, uint64_t n, arena *mem, gguf_kv **out, snug_error *err) {
    buf table = {0}; /* grows with what is read: `n` is only a claim */
    snug_err rc = SNUG_OK;
    *out = NULL;
    for (uint64_t i = 0; i < n && rc == SNUG_OK; i++) {
        gguf_kv kv;
        rc = read_kv(c, mem, &kv, err);
        if (rc == SNUG_OK && !buf_append(&table, &kv, sizeof kv)) rc = err_nomem(err, table.len);
    }
    c->noun = "header";
    c->name = NULL;
    if (rc == SNUG_OK) {
        *out = arena_alloc(mem, table.len);
        if (*out && table.len) memcpy(*out, table.data, table.len);
        if (!*out) rc = err_nomem(err, table.len);
    }
    buf_fini(&table);
    return rc;
}

static int by_key(const void *a, const void *b) {
    return strcmp((*(const gguf_kv *const *)a)->key, (*(const gguf_kv *const *)b)->key);
}

snug_err gguf_sort_kvs(const char *what, const gguf_kv *kv, size_t n, arena *mem, const gguf_kv ***out, snug_error *err) {
    const gguf_kv **sorted = arena_calloc(mem, n, sizeof *sorted);
    if (!sorted) return err_nomem(err, n * sizeof *sorted);
    for (size_t i = 0; i < n; i++) sorted[i] = &kv[i];
    qsort(sorted, n, sizeof *sorted, by_key);
    for (size_t i = 1; i < n; i++)
        if (strcmp(sorted[i - 1]->key, sorted[i]->key) == 0)
            return err_set(err, SNUG_ERR_FORMAT, "%s: key '%.100s' stands there twice", what, sorted[i]->key);
    *out = sorted;
    return SNUG_OK;
}

snug_err gguf_parse_kvs(const char *what, const uint8_t *p, size_t len, uint64_t n, arena *mem, gguf_kv **out, snug_error *err) {
    gguf_cursor c;
    const gguf_kv **sorted;
    cursor_open_memory(&c, what, p, len);
    snug_err rc = gguf_read_kvs(&c, n, mem, out, err);
    if (rc == SNUG_OK && c.pos != c.end)
        rc = err_at(err, SNUG_ERR_FORMAT, c.pos, "%s: %llu keys were expected and read, but bytes are left", what, (unsigned long long)n);
    if (rc == SNUG_OK) rc = gguf_sort_kvs(what, *out, (size_t)n, mem, &sorted, err);
    cursor_close(&c);
    return rc;
}
