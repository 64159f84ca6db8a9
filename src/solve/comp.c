/* Compositions: each term is solved on what the terms before it left, and the error of the whole. Rows of row-separable terms are
 * spread over threads in tiles that depend on the shape alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cluster.h"
#include "base/err.h"
#include "base/thread.h"
#include "codec/transform.h"
#include "solve/internal.h"

enum { TILE_ROWS = 16 };

typedef struct term_job {
    const comp_term *term;
    float *w; /* (rows, cols): the residual, from which the term's part is taken away; NULL: source is only read */
    const float *source;
    size_t rows, cols, row0;
    int basis; /* w's, source's */
    const float *a; /* in the term's own basis, as h */
    const hessian *h;
    int effort;
    bool shared; /* by all processes */
    uint8_t *dst;
    struct { snug_err code; size_t row; snug_error err; } *failed; /* per worker: the failure nearest to row 0 */
} term_job;

static void solve_tile(void *ctx, size_t begin, size_t end, int worker) {
    term_job *j = ctx;
    const snug_codec *codec = j->term->codec;
    codec_params p = j->term->params;
    begin += j->row0;
    end += j->row0;
    size_t n = end - begin, at = begin * j->cols;
    snug_error err = {0};
    const int in = p.in == j->basis ? TRANSFORM_NONE : p.in; /* a basis that all terms share is no longer a transform here */
    float *hat = j->w ? malloc(n * j->cols * sizeof *hat) : NULL, *turned = in ? malloc(n * j->cols * sizeof *turned) : NULL;
    snug_err e = (j->w && !hat) || (in && !turned) ? err_nomem(&err, n * j->cols * sizeof *hat) : SNUG_OK;
    const float *w = j->w ? j->w + at : j->source + at;
    uint8_t *dst = j->dst + (begin ? codec->bytes(p, begin, j->cols) : 0);
    for (size_t r = 0; !e && in && r < n; r++) transform_apply(in, j->cols, w + r * j->cols, turned + r * j->cols);
    if (in) w = turned;
    if (!e && j->h) e = solve_ldlq(WT_ROWS, codec, p, w, j->cols, n, j->cols, j->h, j->effort, dst, hat, &err);
    else if (!e) e = solve_rtn(codec, p, w, j->cols, n, j->cols, j->a, j->effort, dst, hat, &err);
    for (size_t r = 0; !e && in && hat && r < n; r++) transform_undo(in, j->cols, hat + r * j->cols);
    for (size_t i = 0; !e && j->w && i < n * j->cols; i++) j->w[at + i] -= hat[i];
    free(turned);
    free(hat);
    if (e && (j->failed[worker].code == SNUG_OK || begin < j->failed[worker].row)) {
        j->failed[worker].code = e;
        j->failed[worker].row = begin;
        j->failed[worker].err = err;
    }
}

static snug_err gather_rows(term_job *j, size_t n_tiles, size_t tile, snug_error *err) {
    const snug_codec *codec = j->term->codec;
    const codec_params p = j->term->params;
    const size_t row = j->cols * sizeof *j->w;
    snug_err e = cluster_gather(j->dst, n_tiles, codec->bytes(p, tile, j->cols), codec->bytes(p, j->rows, j->cols), err);
    return e || !j->w ? e : cluster_gather(j->w, n_tiles, tile * row, j->rows * row, err);
}

static snug_err solve_rows(term_job *j, int threads, snug_error *err) {
    if (threads < 1) threads = 1;
    j->failed = calloc((size_t)threads, sizeof *j->failed);
    if (!j->failed) return err_nomem(err, (size_t)threads * sizeof *j->failed);
    const size_t tile = round_up(j->h ? SOLVE_LDLQ_ROWS : TILE_ROWS, j->term->codec->tile_rows), n = div_up(j->rows, tile);
    size_t begin = 0, end = n;
    if (j->shared) cluster_share(n, &begin, &end);
    j->row0 = begin * tile;
    thread_for(threads, min_u64(end * tile, j->rows) - min_u64(begin * tile, j->rows), tile, solve_tile, j);
    int first = -1;
    for (int i = 0; i < threads; i++)
        if (j->failed[i].code && (first < 0 || j->failed[i].row < j->failed[first].row)) first = i;
    snug_err e = SNUG_OK;
    if (first >= 0) {
        e = err_set(err, j->failed[first].code, "%s (rows counted from %zu)", j->failed[first].err.message, j->failed[first].row);
    }
    free(j->failed);
    return e || !j->shared ? e : gather_rows(j, n, tile, err);
}

snug_err solve_whole(const snug_codec *codec, codec_params p, const float *w, size_t ldw, size_t rows, size_t cols, const float *a,
                     int threads, uint8_t *dst, snug_error *err) {
    if (strcmp(codec->family, "lowrank") == 0) return solve_svd(p, w, ldw, rows, cols, a, threads, dst, err);
    if (strcmp(codec->family, "dict") == 0) return solve_dict(p, w, ldw, rows, cols, a, NULL, SOLVE_DICT_ROUNDS, threads, NULL, dst, err);
    if (strcmp(codec->family, "aq") == 0) return solve_aq(p, w, ldw, rows, cols, a, NULL, SOLVE_AQ_ROUNDS, threads, NULL, dst, err);
    if (strcmp(codec->family, "out") == 0) return solve_outliers(p, w, ldw, rows, cols, a, dst, err);
    return err_set(err, SNUG_ERR_ARG, "codec %s has no solver", codec->family);
}

/* The same under h where its solver knows how, else with what h leaves to pay for each column. */
static snug_err solve_whole_hessian(const comp_term *t, const float *w, size_t rows, size_t cols, const hessian *h, int threads, uint8_t *dst,
                                    snug_error *err) {
    if (strcmp(t->codec->family, "lowrank") == 0) return solve_svd_hessian(t->params, w, cols, rows, cols, h, threads, dst, err);
    if (strcmp(t->codec->family, "dict") == 0)
        return solve_dict(t->params, w, cols, rows, cols, NULL, h, SOLVE_DICT_ROUNDS, threads, NULL, dst, err);
    if (strcmp(t->codec->family, "aq") == 0)
        return solve_aq(t->params, w, cols, rows, cols, NULL, h, SOLVE_AQ_ROUNDS, threads, NULL, dst, err);
    return solve_whole(t->codec, t->params, w, cols, rows, cols, h->d, threads, dst, err);
}

/* One term, before `next` or as the last (NULL). source and residual (rows, cols) are in `basis`; residual may be NULL when nobody asks for
 * what is left. */
static snug_err solve_term(const comp_term *t, const comp_term *next, int basis, const float *source, float *residual, size_t rows, size_t cols,
                           solve_input in, int effort, int threads, bool shared, uint8_t *dst, snug_error *err) {
    if (!(t->codec->caps & CODEC_WHOLE)) {
        term_job j = {.term = t, .basis = basis, .w = residual, .source = source, .rows = rows, .cols = cols, .a = in.a, .h = in.h,
                      .effort = effort, .shared = shared, .dst = dst};
        return solve_rows(&j, threads, err);
    }
    const float *w = residual ? residual : source;
    const bool before = strcmp(t->codec->family, "out") == 0 && next && !(next->codec->caps & CODEC_WHOLE) && next->params.in == basis;
    snug_err e;
    if (before) e = solve_outliers_before(next, t->params, w, cols, rows, cols, in.h ? in.h->d : in.a, effort, threads, dst, err);
    else if (in.h) e = solve_whole_hessian(t, w, rows, cols, in.h, threads, dst, err);
    else e = solve_whole(t->codec, t->params, w, cols, rows, cols, in.a, threads, dst, err);
    if (e || !residual) return e;
    wt part;
    e = wt_open(t->codec, t->params, rows, cols, dst, t->codec->bytes(t->params, rows, cols), &part, err);
    float *row = malloc(cols * sizeof *row);
    if (!e && !row) e = err_nomem(err, cols * sizeof *row);
    for (size_t r = 0; !e && r < rows; r++) {
        t->codec->decode(&part, r, 1, row, cols);
        for (size_t c = 0; c < cols; c++) residual[r * cols + c] -= row[c];
    }
    free(row);
    return e;
}

static const comp_term *after(const comp *c, uint32_t i) { return i + 1 < c->n_terms ? &c->term[i + 1] : NULL; }

snug_err solve_comp(const comp *c, const float *w, size_t rows, size_t cols, const solve_input in[TRANSFORM_COUNT], int effort, int threads,
                    uint8_t *const dst[WEIGHT_MAX_TERMS], snug_error *err) {
    float *residual = NULL;
    if (c->n_terms > 1) {
        residual = malloc(rows * cols * sizeof *residual);
        if (!residual) return err_nomem(err, rows * cols * sizeof *residual);
        memcpy(residual, w, rows * cols * sizeof *residual);
    }
    snug_err e = SNUG_OK;
    for (uint32_t i = 0; !e && i < c->n_terms; i++)
        e = solve_term(&c->term[i], after(c, i), TRANSFORM_NONE, w, residual, rows, cols, in[c->term[i].params.in], effort, threads, true, dst[i], err);
    free(residual);
    return e;
}

int solve_basis(const comp *c) {
    for (uint32_t i = 1; i < c->n_terms; i++)
        if (c->term[i].params.in != c->term[0].params.in) return TRANSFORM_NONE;
    return c->n_terms ? c->term[0].params.in : TRANSFORM_NONE;
}

void solve_spread(size_t cols, const float *a, bool geometric, float *out) {
    const size_t block = transform_block(cols);
    for (size_t b = 0; b < cols; b += block) {
        double sum = 0;
        for (size_t j = b; j < b + block; j++) sum += geometric ? log((double)a[j]) : (double)a[j];
        const float mean = (float)(geometric ? exp(sum / (double)block) : sum / (double)block);
        for (size_t j = b; j < b + block; j++) out[j] = mean;
    }
}

/* What `solve_error` has: (rows, cols) in the basis of the terms, the importances there, and spread for terms of another basis. */
typedef struct error_room { float *residual, *spread; uint8_t *dst; int basis; } error_room;

static snug_err error_terms(const comp *c, const error_room *m, size_t n_rows, size_t cols, const float *a, int effort, snug_error *err) {
    snug_err e = SNUG_OK;
    for (uint32_t i = 0; !e && i < c->n_terms; i++) {
        const bool other = c->term[i].params.in != m->basis;
        if (other && a) solve_spread(cols, a, false, m->spread);
        e = solve_term(&c->term[i], after(c, i), m->basis, NULL, m->residual, n_rows, cols, (solve_input){.a = other && a ? m->spread : a}, effort, 1, false, m->dst, err);
    }
    return e;
}

static double weighted(const float *w, size_t ldw, size_t n_rows, size_t cols, const float *a) {
    double sum = 0;
    for (size_t r = 0; r < n_rows; r++)
        for (size_t j = 0; j < cols; j++) {
            double v = w[r * ldw + j];
            sum += (a ? a[j] : 1) * v * v;
        }
    return sum;
}

snug_err solve_error(const comp *c, const float *w, size_t ldw, size_t n_rows, size_t cols, const float *a, int effort, double *err2,
                     double *norm2, snug_error *err) {
    uint64_t payload = 0;
    for (uint32_t i = 0; i < c->n_terms; i++) payload = max_u64(payload, comp_term_bytes(c, i, n_rows, cols));
    error_room m = {.residual = malloc(n_rows * cols * sizeof(float)), .spread = malloc(cols * sizeof(float)), .basis = solve_basis(c),
                    .dst = payload && payload < SIZE_MAX ? malloc((size_t)payload) : NULL};
    snug_err e = m.residual && m.spread && m.dst ? SNUG_OK : err_nomem(err, n_rows * cols * sizeof(float) + (size_t)payload);
    for (size_t r = 0; !e && r < n_rows; r++) transform_apply(m.basis, cols, w + r * ldw, m.residual + r * cols);
    if (!e) *norm2 = weighted(m.residual, cols, n_rows, cols, a);
    if (!e) e = error_terms(c, &m, n_rows, cols, a, effort, err);
    if (!e) *err2 = weighted(m.residual, cols, n_rows, cols, a);
    free(m.residual);
    free(m.spread);
    free(m.dst);
    return e;
}
