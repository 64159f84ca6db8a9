/* llama.cpp's importance matrices, both forms:
 *   legacy (.dat):  int32 n; n times { int32 name length, name, int32 calls, int32 n values, f32 values }; then trailing facts.
 *                   A value is a sum of mean squares over the calls: mean x^2 = value / calls.
 *   GGUF:           general.type "imatrix"; tensors NAME.in_sum2 (sums of x^2) and NAME.counts (how many rows were summed). Of a stack of
 *                   experts both have a row for each expert. (The legacy form does not count experts apart: theirs are passed over.)
 * Source: llama.cpp tools/imatrix. Everything in the file is checked against its size; values must be finite and not negative. */
#include "fit/fit.h"

#include "base/checked.h"
#include "base/err.h"
#include "base/hash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry { const char *name; uint64_t cols; float *mean; } entry;
struct fit_imatrix {
    arena mem;
    entry *entry;
    size_t n;
    uint64_t hash;
};

enum { MAX_NAME = 256, MAX_ENTRIES = 1 << 20 };
static const uint64_t MAX_FILE_BYTES = (uint64_t)4 << 30;

static snug_err add(fit_imatrix *m, const char *path, const char *name, uint64_t cols, float **values, snug_error *err) {
    entry *e = &m->entry[m->n];
    e->name = arena_strdup(&m->mem, name);
    e->cols = cols;
    e->mean = arena_calloc(&m->mem, cols, sizeof(float));
    if (!e->name || !e->mean) return err_nomem(err, cols * sizeof(float));
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->entry[i].name, name) == 0) return err_set(err, SNUG_ERR_FORMAT, "%s: \"%s\" stands in it twice", path, name);
    m->n++;
    *values = e->mean;
    return SNUG_OK;
}

/* values: sums; divides by count. */
static snug_err finish(const char *path, const char *name, float *v, uint64_t n, double count, snug_error *err) {
    if (!(count > 0)) return err_set(err, SNUG_ERR_FORMAT, "%s: \"%s\" has a count of %g", path, name, count);
    for (uint64_t i = 0; i < n; i++) {
        if (!isfinite(v[i]) || v[i] < 0) return err_set(err, SNUG_ERR_FORMAT, "%s: \"%s\" value %llu is %g", path, name, (unsigned long long)i, (double)v[i]);
        v[i] = (float)((double)v[i] / count);
    }
    return SNUG_OK;
}

/* ---- legacy ---- */

typedef struct reader { const io_file *file; uint64_t at; } reader;

static snug_err read_i32(reader *r, int32_t *out, int32_t lo, int32_t hi, const char *what, snug_error *err) {
    if (r->file->bytes - r->at < 4) return err_at(err, SNUG_ERR_FORMAT, r->at, "%s: ends before %s", r->file->path, what);
    snug_err rc = io_pread(r->file, r->at, out, 4, err);
    if (rc == SNUG_OK && (*out < lo || *out > hi))
        return err_at(err, SNUG_ERR_FORMAT, r->at, "%s: %s is %d, expected %d to %d", r->file->path, what, *out, lo, hi);
    r->at += 4;
    return rc;
}

static snug_err read_legacy_entry(fit_imatrix *m, reader *r, snug_error *err) {
    char name[MAX_NAME + 1];
    int32_t len, calls, n;
    float *v;
    snug_err rc = read_i32(r, &len, 1, MAX_NAME, "a name's length", err);
    if (rc != SNUG_OK) return rc;
    if (r->file->bytes - r->at < (uint64_t)len) return err_at(err, SNUG_ERR_FORMAT, r->at, "%s: ends inside a name", r->file->path);
    if ((rc = io_pread(r->file, r->at, name, (size_t)len, err)) != SNUG_OK) return rc;
    name[len] = 0;
    r->at += (uint64_t)len;
    if ((rc = read_i32(r, &calls, 0, INT32_MAX, "a number of calls", err)) != SNUG_OK) return rc;
    if ((rc = read_i32(r, &n, 1, INT32_MAX, "a number of values", err)) != SNUG_OK) return rc;
    if ((r->file->bytes - r->at) / 4 < (uint64_t)n) return err_at(err, SNUG_ERR_FORMAT, r->at, "%s: ends inside \"%s\"", r->file->path, name);
    if ((rc = add(m, r->file->path, name, (uint64_t)n, &v, err)) != SNUG_OK) return rc;
    if ((rc = io_pread(r->file, r->at, v, (size_t)n * 4, err)) != SNUG_OK) return rc;
    r->at += (uint64_t)n * 4;
    return finish(r->file->path, name, v, (uint64_t)n, calls > 0 ? calls : 1, err);
}

static snug_err read_legacy(fit_imatrix *m, const char *path, snug_error *err) {
    io_file file;
    snug_err rc = io_open(path, &file, err);
    if (rc != SNUG_OK) return rc;
    reader r = {&file, 0};
    int32_t n = 0;
    rc = read_i32(&r, &n, 1, MAX_ENTRIES, "the number of entries", err);
    if (rc == SNUG_OK && (file.bytes - 4) / 13 < (uint64_t)n)
        rc = err_at(err, SNUG_ERR_FORMAT, 0, "%s: %d entries do not fit into %llu bytes", path, n, (unsigned long long)file.bytes);
    if (rc == SNUG_OK && !(m->entry = arena_calloc(&m->mem, (size_t)n, sizeof *m->entry))) rc = err_nomem(err, (size_t)n * sizeof *m->entry);
    for (int32_t i = 0; i < n && rc == SNUG_OK; i++) rc = read_legacy_entry(m, &r, err);
    io_close(&file);
    return rc;
}

/* ---- GGUF ---- */

/* Row k of n floats, of n_rows. */
static snug_err read_f32s(const gguf_file *g, const gguf_tensor *t, float *dst, uint64_t n, uint64_t k, uint64_t n_rows, snug_error *err) {
    if (t->type != GGML_F32 || t->bytes != n * n_rows * 4)
        return err_set(err, SNUG_ERR_FORMAT, "%s: \"%s\" is not %llu f32", g->file.path, t->name, (unsigned long long)(n * n_rows));
    return io_pread(&g->file, t->offset + 4 * n * k, dst, (size_t)n * 4, err);
}

static uint64_t n_rows_of(const gguf_tensor *t) { return t->dims[1] * t->dims[2] * t->dims[3]; }

/* A matrix' importances, or those of matrix k of a stack. */
static snug_err read_row(fit_imatrix *m, const gguf_file *g, const gguf_tensor *t, const gguf_tensor *c, const char *name, uint64_t k, snug_error *err) {
    float count, *v;
    snug_err rc = read_f32s(g, c, &count, 1, k, n_rows_of(t), err);
    if (rc == SNUG_OK && count == 0) return SNUG_OK; /* never used: as if absent */
    if (rc == SNUG_OK) rc = add(m, g->file.path, name, t->dims[0], &v, err);
    if (rc == SNUG_OK) rc = read_f32s(g, t, v, t->dims[0], k, n_rows_of(t), err);
    return rc == SNUG_OK ? finish(g->file.path, name, v, t->dims[0], count, err) : rc;
}

static snug_err read_gguf_entry(fit_imatrix *m, const gguf_file *g, const gguf_tensor *t, snug_error *err) {
    char name[MAX_NAME + 16];
    size_t stem = strlen(t->name) - strlen(".in_sum2");
    if (stem == 0 || stem > MAX_NAME) return err_set(err, SNUG_ERR_FORMAT, "%s: \"%.100s\" is no tensor's name", g->file.path, t->name);
    snprintf(name, sizeof name, "%.*s.counts", (int)stem, t->name);
    const gguf_tensor *c = gguf_find_tensor(g, name);
    if (!c) return err_set(err, SNUG_ERR_FORMAT, "%s: \"%s\" is missing", g->file.path, name);
    name[stem] = 0;
    int layer, expert = EXPERT_NONE;
    bool gate_up = false;
    const tensor_role role = role_from_name(name, &layer, &expert, &gate_up);
    if (expert != EXPERT_ALL || gate_up) return n_rows_of(t) == 1 ? read_row(m, g, t, c, name, 0, err) : SNUG_OK; /* what else is stacked is not this engine's */
    snug_err rc = SNUG_OK;
    for (uint64_t k = 0; k < n_rows_of(t) && k < CONFIG_MAX_EXPERTS && rc == SNUG_OK; k++) {
        role_tensor_name(role, layer, (int)k, name);
        rc = read_row(m, g, t, c, name, k, err);
    }
    return rc;
}

static snug_err read_gguf(fit_imatrix *m, const char *path, snug_error *err) {
    gguf_file *g;
    snug_err rc = gguf_open(path, &g, err);
    if (rc != SNUG_OK) return rc;
    uint64_t most = 1; /* each row of a tensor has at least a number, so the file's size bounds them */
    for (size_t i = 0; i < g->n_tensors; i++) most += min_u64(n_rows_of(&g->tensors[i]), g->tensors[i].bytes / 4);
    if (most > MAX_ENTRIES) rc = err_set(err, SNUG_ERR_FORMAT, "%s: %llu entries, expected at most %d", path, (unsigned long long)most, MAX_ENTRIES);
    if (rc == SNUG_OK && !(m->entry = arena_calloc(&m->mem, most, sizeof *m->entry))) rc = err_nomem(err, most * sizeof *m->entry);
    for (size_t i = 0; i < g->n_tensors && rc == SNUG_OK; i++) {
        const char *name = g->tensors[i].name;
        size_t n = strlen(name), suffix = strlen(".in_sum2");
        if (n > suffix && strcmp(name + n - suffix, ".in_sum2") == 0) rc = read_gguf_entry(m, g, &g->tensors[i], err);
    }
    if (rc == SNUG_OK && m->n == 0) rc = err_set(err, SNUG_ERR_FORMAT, "%s: holds no importance matrix (no tensor named *.in_sum2)", path);
    gguf_close(&g);
    return rc;
}

/* ---- both ---- */

snug_err imatrix_open(const char *path, fit_imatrix **out, snug_error *err) {
    io_file file;
    char magic[4] = {0};
    *out = NULL;
    snug_err rc = io_open(path, &file, err);
    if (rc != SNUG_OK) return rc;
    if (file.bytes < 8 || file.bytes > MAX_FILE_BYTES)
        rc = err_set(err, SNUG_ERR_FORMAT, "%s: is no importance matrix: %llu bytes", path, (unsigned long long)file.bytes);
    if (rc == SNUG_OK) rc = io_pread(&file, 0, magic, 4, err);
    io_close(&file);
    if (rc != SNUG_OK) return rc;
    fit_imatrix *m = calloc(1, sizeof *m);
    if (!m) return err_nomem(err, sizeof *m);
    rc = memcmp(magic, "GGUF", 4) == 0 ? read_gguf(m, path, err) : read_legacy(m, path, err);
    for (size_t i = 0; i < m->n && rc == SNUG_OK; i++) {
        m->hash = hash_bytes_seeded(m->entry[i].name, strlen(m->entry[i].name), m->hash);
        m->hash = hash_bytes_seeded(m->entry[i].mean, m->entry[i].cols * sizeof(float), m->hash);
    }
    if (rc != SNUG_OK) imatrix_close(&m);
    *out = m;
    return rc;
}

snug_err imatrix_find(const fit_imatrix *m, const char *tensor, uint64_t cols, const float **out, snug_error *err) {
    *out = NULL;
    for (size_t i = 0; i < m->n; i++) {
        if (strcmp(m->entry[i].name, tensor) != 0) continue;
        if (m->entry[i].cols != cols)
            return err_set(err, SNUG_ERR_MISMATCH, "the importance matrix has %llu columns for %s, the source has %llu",
                           (unsigned long long)m->entry[i].cols, tensor, (unsigned long long)cols);
        *out = m->entry[i].mean;
        return SNUG_OK;
    }
    return SNUG_OK;
}

uint64_t imatrix_hash(const fit_imatrix *m) { return m->hash; }

void imatrix_close(fit_imatrix **m) {
    if (!*m) return;
    arena_fini(&(*m)->mem);
    free(*m);
    *m = NULL;
}
