/* Reading everything: checksums where the file has them, else that every weight decodes to a finite number.
 *
 * Work is cut into pieces of a few megabytes that any thread may take; the error that is reported is that of the first
 * piece in file order among those found, so a damaged file gives the same message whatever the threads did. A checksum
 * covers a whole payload and is computed in one stream by one thread. */
#include "base/checked.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/thread.h"
#include "model/store.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

enum { PIECE_BYTES = 4 << 20, WAVE = 64 };

typedef struct piece { /* rows of a tensor, or a whole payload */
    const store_tensor *t;
    const store_term *term; /* checksum of this, or NULL: rows */
    uint64_t row0, n_rows;
} piece;

typedef struct verify_pass {
    const store *s;
    piece *pieces;
    size_t n, base;    /* the wave starts at piece `base` */
    pthread_mutex_t lock;
    size_t worst;      /* the first piece with an error, n: none */
    snug_error error;
    snug_err code;
} verify_pass;

static snug_err verify_checksum(const store *s, const piece *p, snug_error *err) {
    uint8_t *chunk = malloc(PIECE_BYTES);
    hash_state *h = hash_create();
    snug_err rc = chunk && h ? SNUG_OK : err_nomem(err, PIECE_BYTES);
    for (uint64_t at = 0; !rc && at < p->term->checked_bytes; at += PIECE_BYTES) {
        size_t n = (size_t)min_u64(PIECE_BYTES, p->term->checked_bytes - at);
        rc = io_pread(&s->files[p->term->file], p->term->offset + at, chunk, n, err);
        if (!rc) hash_update(h, chunk, n);
    }
    if (!rc && hash_digest(h) != p->term->checksum)
        rc = err_at(err, SNUG_ERR_FORMAT, p->term->offset,
                    "%s: tensor '%s' (term %u) is damaged: its checksum is %016llx, expected %016llx", s->path,
                    p->t->name, (unsigned)(p->term - p->t->term), (unsigned long long)hash_digest(h),
                    (unsigned long long)p->term->checksum);
    if (h) hash_destroy(h);
    free(chunk);
    return rc;
}

static snug_err verify_rows(const store *s, const piece *p, snug_error *err) {
    uint64_t n = p->n_rows * p->t->cols;
    float *rows = malloc(n * sizeof *rows);
    if (!rows) return err_nomem(err, n * sizeof *rows);
    snug_err rc = store_read_rows(s, p->t, p->row0, p->n_rows, rows, err);
    for (uint64_t i = 0; !rc && i < n; i++)
        if (!isfinite(rows[i]))
            rc = err_set(err, SNUG_ERR_NUMERIC,
                         "%s: tensor '%s' has a weight that is no finite number, at row %llu, column %llu", s->path,
                         p->t->name, (unsigned long long)(p->row0 + i / p->t->cols),
                         (unsigned long long)(i % p->t->cols));
    free(rows);
    return rc;
}

static void verify_pieces(void *ctx, size_t begin, size_t end, int worker) {
    verify_pass *v = ctx;
    for (size_t i = v->base + begin; i < v->base + end; i++) {
        snug_error error = {0};
        const piece *p = &v->pieces[i];
        snug_err rc = p->term ? verify_checksum(v->s, p, &error) : verify_rows(v->s, p, &error);
        if (!rc) continue;
        pthread_mutex_lock(&v->lock);
        if (i < v->worst) v->worst = i, v->error = error, v->code = rc;
        pthread_mutex_unlock(&v->lock);
    }
}

/* Rows per piece: whole heads where rows are permuted, so that no head is read twice. */
static uint64_t piece_rows(const store_tensor *t) {
    uint64_t rows = max_u64(1, PIECE_BYTES / 4 / max_u64(1, t->cols)),
             head = t->permute_heads ? max_u64(1, t->rows / t->permute_heads) : 16;
    return round_up(rows, head);
}

static snug_err plan_pieces(verify_pass *v, snug_error *err) {
    for (int fill = 0; fill < 2; fill++) {
        v->n = 0;
        for (size_t i = 0; i < v->s->n_tensors; i++) {
            const store_tensor *t = &v->s->tensors[i];
            uint64_t step = v->s->has_checksums ? t->rows : piece_rows(t);
            uint32_t terms = v->s->has_checksums ? t->n_terms : 1;
            for (uint64_t row = 0; row < t->rows; row += step)
                for (uint32_t k = 0; k < terms; k++) {
                    const store_term *whole = v->s->has_checksums ? &t->term[k] : NULL;
                    if (whole && !whole->checked_bytes) continue; /* with the first of its stack */
                    if (fill) v->pieces[v->n] = (piece){t, whole, row, min_u64(step, t->rows - row)};
                    v->n++;
                }
        }
        if (!fill && !(v->pieces = calloc(v->n + 1, sizeof *v->pieces)))
            return err_nomem(err, v->n * sizeof *v->pieces);
    }
    v->worst = v->n;
    return SNUG_OK;
}

snug_err store_verify(const store *s, int threads, snug_progress progress, snug_error *err) {
    verify_pass v = {.s = s};
    snug_err rc = plan_pieces(&v, err);
    if (rc) return rc;
    if (threads <= 0) threads = thread_default_count();
    pthread_mutex_init(&v.lock, NULL);
    meter m;
    meter_init(&m, progress);
    meter_add(&m, "verify", "pieces", v.n, 1);
    meter_begin(&m, 0);
    for (; !rc && v.base < v.n && v.worst == v.n; v.base += WAVE) {
        thread_for(threads, min_u64(WAVE, v.n - v.base), 1, verify_pieces, &v);
        rc = meter_update(&m, min_u64(v.base + WAVE, v.n), v.pieces[v.base].t->name, err);
    }
    if (!rc && v.worst < v.n) {
        rc = v.code;
        if (err) *err = v.error;
    }
    if (!rc) meter_finish(&m);
    pthread_mutex_destroy(&v.lock);
    free(v.pieces);
    return rc;
}
