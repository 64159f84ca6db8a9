/* Opening a GGUF file (v2, v3; little endian), from its header alone.
 *
 *   "GGUF" | version u32 | number of tensors u64 | number of keys u64 | keys | tensor infos | padding | data
 *   tensor info = name length u64 | name | n_dims u32 | dims u64 each, innermost first | type u32 | offset u64 (into data)
 *
 * Everything that the header claims is checked here, once: types known, sizes without overflow, offsets aligned, every tensor
 * inside the file, no two tensors on the same bytes, no name twice. Source: docs/gguf.md of ggml. */
#include "format/gguf.h"

#include "base/checked.h"
#include "base/err.h"
#include "format/gguf_kv.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_ALIGNMENT = 32 };

static snug_err read_preamble(gguf_file *g, gguf_cursor *c, uint64_t *n_tensors, uint64_t *n_kv, snug_error *err) {
    char magic[4];
    snug_err rc = cursor_bytes(c, magic, 4, "the magic", err);
    if (rc == SNUG_OK && memcmp(magic, "GGUF", 4) != 0)
        rc = err_at(err, SNUG_ERR_FORMAT, 0, "%s: is no GGUF file: expected the bytes 47 47 55 46, found %02x %02x %02x %02x", c->what,
                    (unsigned char)magic[0], (unsigned char)magic[1], (unsigned char)magic[2], (unsigned char)magic[3]);
    if (rc == SNUG_OK) rc = cursor_u32(c, &g->version, "the version", err);
    if (rc != SNUG_OK) return rc;
    if (g->version > 0 && (g->version & 0xffffu) == 0) /* the low half of a small number, seen from the other end */
        return err_at(err, SNUG_ERR_UNSUPPORTED, 4, "%s: is a big-endian GGUF file; snug reads little-endian ones", c->what);
    if (g->version != 2 && g->version != 3)
        return err_at(err, SNUG_ERR_UNSUPPORTED, 4, "%s: GGUF version %u, expected 2 or 3", c->what, g->version);
    rc = cursor_u64(c, n_tensors, "the number of tensors", err);
    if (rc == SNUG_OK) rc = cursor_u64(c, n_kv, "the number of keys", err);
    return rc;
}

static snug_err read_alignment(gguf_file *g, snug_error *err) {
    uint64_t a;
    snug_err rc = gguf_get_u64_or(g, "general.alignment", DEFAULT_ALIGNMENT, &a, err);
    if (rc != SNUG_OK) return rc;
    if (a == 0 || a > 1u << 30 || (a & (a - 1)) != 0)
        return err_set(err, SNUG_ERR_FORMAT, "%s: key 'general.alignment' is %llu, expected a power of two up to 2^30", g->file.path,
                       (unsigned long long)a);
    g->alignment = (uint32_t)a;
    return SNUG_OK;
}

/* Bytes of a tensor; the message says which dimension is wrong. */
static snug_err tensor_bytes(const gguf_cursor *c, uint64_t at, gguf_tensor *t, snug_error *err) {
    const char *type;
    uint32_t block_weights, block_bytes;
    if (!ggml_type_info(t->type, &type, &block_weights, &block_bytes))
        return cursor_fail(c, err, SNUG_ERR_UNSUPPORTED, at, "ggml type %u is not known to snug", t->type);
    uint64_t n = 1;
    for (uint32_t d = 0; d < t->n_dims; d++) {
        if (t->dims[d] == 0) return cursor_fail(c, err, SNUG_ERR_FORMAT, at, "dimension %u is 0", d);
        if (!checked_mul(n, t->dims[d], &n) || n > INT64_MAX)
            return cursor_fail(c, err, SNUG_ERR_FORMAT, at, "the product of its dimensions overflows");
    }
    if (t->dims[0] % block_weights != 0)
        return cursor_fail(c, err, SNUG_ERR_FORMAT, at, "rows of %llu weights are no whole number of %s blocks (%u weights each)",
                           (unsigned long long)t->dims[0], type, block_weights);
    if (!checked_mul(n / block_weights, block_bytes, &t->bytes))
        return cursor_fail(c, err, SNUG_ERR_FORMAT, at, "its size in bytes overflows");
    return SNUG_OK;
}

/* Offset is still relative to the data section here. */
static snug_err read_tensor(gguf_cursor *c, const gguf_file *g, arena *mem, gguf_tensor *t, snug_error *err) {
    uint64_t at = c->pos;
    *t = (gguf_tensor){.dims = {1, 1, 1, 1}};
    c->noun = "tensor";
    snug_err rc = gguf_read_name(c, mem, &t->name, err);
    if (rc == SNUG_OK) rc = cursor_u32(c, &t->n_dims, "the number of dimensions", err);
    if (rc == SNUG_OK && t->n_dims > 4)
        rc = cursor_fail(c, err, SNUG_ERR_FORMAT, at, "%u dimensions, expected at most 4", t->n_dims);
    for (uint32_t d = 0; rc == SNUG_OK && d < t->n_dims; d++) rc = cursor_u64(c, &t->dims[d], "a dimension", err);
    if (rc == SNUG_OK) rc = cursor_u32(c, &t->type, "the type", err);
    if (rc == SNUG_OK) rc = cursor_u64(c, &t->offset, "the offset", err);
    if (rc == SNUG_OK) rc = tensor_bytes(c, at, t, err);
    if (rc == SNUG_OK && t->offset % g->alignment != 0)
        rc = cursor_fail(c, err, SNUG_ERR_FORMAT, at, "offset %llu is no multiple of the alignment %u", (unsigned long long)t->offset,
                         g->alignment);
    return rc;
}

static snug_err read_tensors(gguf_cursor *c, gguf_file *g, uint64_t n, snug_error *err) {
    buf table = {0}; /* grows with what is read: `n` is only a claim */
    snug_err rc = SNUG_OK;
    for (uint64_t i = 0; i < n && rc == SNUG_OK; i++) {
        gguf_tensor t;
        rc = read_tensor(c, g, &g->mem, &t, err);
        if (rc == SNUG_OK && !buf_append(&table, &t, sizeof t)) rc = err_nomem(err, table.len);
    }
    if (rc == SNUG_OK) {
        g->tensors = arena_alloc(&g->mem, table.len);
        if (g->tensors && table.len) memcpy(g->tensors, table.data, table.len);
        if (!g->tensors) rc = err_nomem(err, table.len);
        g->n_tensors = (size_t)n;
    }
    buf_fini(&table);
    return rc;
}

static int by_offset(const void *a, const void *b) {
    const gguf_tensor *x = *(const gguf_tensor *const *)a, *y = *(const gguf_tensor *const *)b;
    return x->offset != y->offset ? (x->offset < y->offset ? -1 : 1) : x < y ? -1 : x > y;
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const gguf_tensor *const *)a)->name, (*(const gguf_tensor *const *)b)->name);
}

/* Makes offsets absolute; every tensor must lie inside the file and none on another; names must differ. */
static snug_err place_tensors(gguf_file *g, uint64_t header_end, snug_error *err) {
    const gguf_tensor **sorted = arena_calloc(&g->mem, g->n_tensors, sizeof *sorted);
    if (!sorted) return err_nomem(err, g->n_tensors * sizeof *sorted);
    g->data_offset = round_up(header_end, g->alignment);
    for (size_t i = 0; i < g->n_tensors; i++) {
        gguf_tensor *t = &g->tensors[i];
        uint64_t end;
        if (!checked_add(t->offset, g->data_offset, &t->offset) || !checked_add(t->offset, t->bytes, &end) || end > g->file.bytes)
            return err_at(err, SNUG_ERR_FORMAT, g->file.bytes,
                          "%s: tensor '%.80s' needs %llu bytes from byte %llu on, but the file ends", g->file.path, t->name,
                          (unsigned long long)t->bytes, (unsigned long long)t->offset);
        sorted[i] = t;
    }
    qsort(sorted, g->n_tensors, sizeof *sorted, by_offset);
    for (size_t i = 1; i < g->n_tensors; i++)
        if (sorted[i]->offset < sorted[i - 1]->offset + sorted[i - 1]->bytes)
            return err_at(err, SNUG_ERR_FORMAT, sorted[i]->offset, "%s: tensors '%.80s' and '%.80s' overlap", g->file.path,
                          sorted[i - 1]->name, sorted[i]->name);
    qsort(sorted, g->n_tensors, sizeof *sorted, by_name);
    for (size_t i = 1; i < g->n_tensors; i++)
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%.80s' stands there twice", g->file.path, sorted[i]->name);
    g->tensors_by_name = sorted;
    return SNUG_OK;
}

snug_err gguf_open(const char *path, gguf_file **out, snug_error *err) {
    gguf_cursor c = {0};
    uint64_t n_tensors = 0, n_kv = 0;
    *out = NULL;
    gguf_file *g = calloc(1, sizeof *g);
    if (!g) return err_nomem(err, sizeof *g);
    snug_err rc = io_open(path, &g->file, err);
    g->files = &g->file;
    g->n_files = 1;
    if (rc == SNUG_OK) rc = cursor_open_file(&c, &g->file, err);
    if (rc == SNUG_OK) rc = read_preamble(g, &c, &n_tensors, &n_kv, err);
    if (rc == SNUG_OK) rc = gguf_read_kvs(&c, n_kv, &g->mem, &g->kv, err);
    if (rc == SNUG_OK) rc = gguf_sort_kvs(g->file.path, g->kv, (size_t)n_kv, &g->mem, &g->kv_by_key, err);
    if (rc == SNUG_OK) {
        g->n_kv = (size_t)n_kv;
        rc = read_alignment(g, err);
    }
    if (rc == SNUG_OK) rc = read_tensors(&c, g, n_tensors, err);
    if (rc == SNUG_OK) rc = place_tensors(g, c.pos, err);
    cursor_close(&c);
    if (rc != SNUG_OK) gguf_close(&g);
    *out = g;
    return rc;
}

void gguf_close(gguf_file **g) {
    if (!*g) return;
    for (size_t i = 1; i < (*g)->n_files; i++) io_close(&(*g)->files[i]);
    io_close(&(*g)->file);
    arena_fini(&(*g)->mem);
    free(*g);
    *g = NULL;
}
