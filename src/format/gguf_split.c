/* Cutting a GGUF file into parts that are no larger than asked for, headers included (gguf_parts.c has the names and keys): tensors in their order, as
 * many to a part as fit. The first part has the file's keys; if they leave no room for a tensor it has none. Parts appear under their names one
 * by one, each when it is whole; the file that was cut stays. */
#include "format/gguf.h"

#include "base/checked.h"
#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PREAMBLE = 24, COPY_BYTES = 1 << 20, MOST_PARTS = 65535 };

typedef struct splitter {
    const gguf_file *g;
    gguf_kvs first, other; /* keys of the first part and of the others, but for split.* */
    size_t *begin;         /* (n_parts + 1): its first tensor */
    size_t n_parts;
    uint64_t max_bytes, done;
    meter *m;
} splitter;

static bool put_number(gguf_kvs *k, const char *key, gguf_kv_type type, uint64_t v) {
    gguf_kv kv = {.key = key, .type = type};
    if (type == GGUF_I32) kv.v.i = (int64_t)v;
    else kv.v.u = v;
    return gguf_put_kv(k, &kv);
}

/* Part i's keys. Their size does not depend on the numbers. */
static bool put_keys(const splitter *s, size_t i, gguf_kvs *k) {
    const gguf_kvs *own = i ? &s->other : &s->first;
    if (!buf_append(&k->bytes, own->bytes.data, own->bytes.len)) return false;
    k->n = own->n;
    return put_number(k, "split.no", GGUF_U16, i) && put_number(k, "split.count", GGUF_U16, s->n_parts) &&
           put_number(k, "split.tensors.count", GGUF_I32, s->g->n_tensors);
}

static snug_err collect_keys(splitter *s, snug_error *err) {
    bool ok = true;
    for (size_t i = 0; i < s->g->n_kv && ok; i++) {
        const gguf_kv *kv = &s->g->kv[i];
        if (strncmp(kv->key, "split.", 6) == 0) continue;
        ok = gguf_put_kv(&s->first, kv) && (strcmp(kv->key, "general.alignment") != 0 || gguf_put_kv(&s->other, kv));
    }
    return ok ? SNUG_OK : err_nomem(err, s->first.bytes.len);
}

static uint64_t info_bytes(const gguf_tensor *t) { return 8 + strlen(t->name) + 4 + 8 * (uint64_t)t->n_dims + 4 + 8; }
static uint64_t padded(const splitter *s, uint64_t n) { return round_up(n, s->g->alignment); }

static snug_err too_small(const splitter *s, const char *what, uint64_t need, snug_error *err) {
    char a[ERR_SIZE_MAX], b[ERR_SIZE_MAX];
    return err_set(err, SNUG_ERR_BUDGET, "%s: cannot be split into parts of %s: %s alone takes %s; name at least that (the file is there, whole)", s->g->file.path, err_size(s->max_bytes, a), what, err_size(need, b));
}

/* Where parts begin. */
static snug_err cut(splitter *s, snug_error *err) {
    const gguf_file *g = s->g;
    uint64_t header = 0, data = 0, keys[2];
    for (int k = 0; k < 2; k++) {
        gguf_kvs kvs = {0};
        if (!put_keys(s, (size_t)k, &kvs)) return err_nomem(err, s->first.bytes.len);
        keys[k] = PREAMBLE + kvs.bytes.len;
        gguf_kvs_fini(&kvs);
    }
    if (padded(s, keys[0]) > s->max_bytes) return too_small(s, "its header", padded(s, keys[0]), err);
    header = keys[0];
    s->n_parts = 1;
    for (size_t i = 0; i < g->n_tensors; i++) {
        const gguf_tensor *t = &g->tensors[i];
        if (padded(s, header + info_bytes(t)) + data + padded(s, t->bytes) > s->max_bytes) {
            header = keys[1], data = 0;
            s->begin[s->n_parts++] = i;
            if (padded(s, header + info_bytes(t)) + padded(s, t->bytes) > s->max_bytes) return too_small(s, t->name, padded(s, header + info_bytes(t)) + padded(s, t->bytes), err);
        }
        header += info_bytes(t);
        data += padded(s, t->bytes);
    }
    s->begin[s->n_parts] = g->n_tensors;
    if (s->n_parts > MOST_PARTS) return err_set(err, SNUG_ERR_ARG, "%s: would be %zu parts, expected at most %d", g->file.path, s->n_parts, MOST_PARTS);
    return SNUG_OK;
}

static snug_err copy_tensor(splitter *s, const gguf_tensor *t, io_writer *w, uint8_t *room, snug_error *err) {
    static const uint8_t zeros[4096];
    snug_err rc = meter_update(s->m, s->done, t->name, err);
    for (uint64_t at = 0, n; at < t->bytes && rc == SNUG_OK; at += n) {
        n = min_u64(COPY_BYTES, t->bytes - at);
        rc = io_pread(&s->g->file, t->offset + at, room, (size_t)n, err);
        if (rc == SNUG_OK) rc = io_writer_write(w, room, (size_t)n, err);
    }
    for (uint64_t left = padded(s, t->bytes) - t->bytes, n; left && rc == SNUG_OK; left -= n) {
        n = min_u64(left, sizeof zeros);
        rc = io_writer_write(w, zeros, (size_t)n, err);
    }
    s->done += t->bytes;
    return rc;
}

static snug_err write_part(splitter *s, size_t i, const char *path, snug_error *err) {
    const size_t n = s->begin[i + 1] - s->begin[i];
    const gguf_tensor *from = s->g->tensors + s->begin[i];
    gguf_out_tensor *out = calloc(n + 1, sizeof *out);
    uint8_t *room = malloc(COPY_BYTES);
    gguf_kvs kvs = {0};
    buf header = {0};
    io_writer w = {.fd = -1};
    uint64_t bytes;
    snug_err rc = out && room && put_keys(s, i, &kvs) ? SNUG_OK : err_nomem(err, COPY_BYTES);
    for (size_t k = 0; k < n && rc == SNUG_OK; k++) {
        out[k] = (gguf_out_tensor){.name = from[k].name, .type = from[k].type, .n_dims = from[k].n_dims, .bytes = from[k].bytes};
        memcpy(out[k].dims, from[k].dims, sizeof out[k].dims);
    }
    if (rc == SNUG_OK) rc = gguf_layout(&kvs, out, n, s->g->alignment, &header, &bytes, err);
    if (rc == SNUG_OK) rc = io_writer_open(path, false, false, &w, err);
    if (rc == SNUG_OK) rc = io_writer_write(&w, header.data, header.len, err);
    for (size_t k = 0; k < n && rc == SNUG_OK; k++) rc = copy_tensor(s, &from[k], &w, room, err);
    if (rc == SNUG_OK) rc = io_writer_commit(&w, err);
    io_writer_abort(&w);
    buf_fini(&header);
    gguf_kvs_fini(&kvs);
    free(room);
    free(out);
    return rc;
}

static snug_err write_parts(splitter *s, const char *prefix, snug_error *err) {
    snug_err rc = SNUG_OK;
    for (size_t i = 0; i < s->n_parts && rc == SNUG_OK; i++) {
        char suffix[GGUF_PART_SUFFIX_MAX], *path = NULL;
        gguf_part_suffix(i, s->n_parts, suffix);
        if (asprintf(&path, "%s%s", prefix, suffix) < 0) return err_nomem(err, strlen(prefix));
        rc = write_part(s, i, path, err);
        free(path);
    }
    return rc;
}

snug_err gguf_split(const char *path, const char *prefix, uint64_t max_bytes, meter *m, size_t *n_parts, snug_error *err) {
    gguf_file *g = NULL;
    snug_err rc = gguf_open(path, &g, err);
    if (rc != SNUG_OK) return rc;
    splitter s = {.g = g, .max_bytes = max_bytes, .m = m, .begin = calloc(g->n_tensors + 2, sizeof *s.begin)};
    uint64_t bytes = 0;
    for (size_t i = 0; i < g->n_tensors; i++) bytes += g->tensors[i].bytes;
    if (!s.begin) rc = err_nomem(err, g->n_tensors * sizeof *s.begin);
    if (rc == SNUG_OK) rc = collect_keys(&s, err);
    if (rc == SNUG_OK) rc = cut(&s, err);
    meter_set_total(m, bytes);
    if (rc == SNUG_OK) rc = write_parts(&s, prefix, err);
    *n_parts = s.n_parts;
    gguf_kvs_fini(&s.first);
    gguf_kvs_fini(&s.other);
    free(s.begin);
    gguf_close(&g);
    return rc;
}
