/* Best rank-r factors of W in the metric tr(E H E^T). S = R sqrt(D) is a square root of H = S S^T, so they are W's projection on the
 * r leading left singular vectors Q of W S:  U V = Q Q^T W, and nothing is divided by S. With H = diag(a), S = diag(sqrt a).
 *
 * Q is found by subspace iteration with a few vectors more than r: from random ones, Q <- orthonormal(W S orthonormal(S^T W^T Q)), until
 * the metric's part of W that it holds stops growing. Blocks are (vectors, n): each row a vector. Products are f32, in tiles over
 * threads; the small Gram matrices and their eigenvectors double. Beyond W and H it takes four blocks, no matrix.
 *
 * Then the rounding is made good: V is rounded to its stored form first (svd_round.c), and U is the least-squares solution for the V
 * that is stored,  U = W H V^T (V H V^T)^-1, so only U's own rounding remains. V's rows have length 1 in the metric: U's columns weigh
 * alike. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "base/thread.h"
#include "codec/codecs.h"
#include "linalg/linalg.h"
#include "solve/internal.h"

enum { TILE = 256, MAX_ROUNDS = 12, MORE_MIN = 8, MORE_MAX = 32 };
/* A round that held less more than this share of the loss, which is at least what the vectors beyond r hold, or of what is held, which
 * the rounding of factors loses anyway, was the last. */
static const double GROWTH = 3e-3, GROWTH_HELD = 1e-6;
static const double NOISE = 1e-12; /* squared lengths below this share of the largest are f32's rounding */

typedef struct problem {
    const float *w;
    size_t ldw, rows, cols;
    const hessian *h; /* NULL: R = I */
    float *root;      /* (cols): sqrt(D) or sqrt(a) */
    int threads;
} problem;

/* out (k, n) = something of in, tile by tile of n. */
typedef struct product { const problem *p; size_t k, n, m; const float *z, *in; float *out; } product;

/* ---- products ---- */

static void w_tile(void *ctx, size_t begin, size_t end, int worker) {
    const product *j = ctx;
    const problem *p = j->p;
    linalg_gemm(false, false, j->k, end - begin, p->rows, 1, j->in, p->rows, p->w + begin, p->ldw, 0, j->out + begin, p->cols);
}
static void wt_tile(void *ctx, size_t begin, size_t end, int worker) {
    const product *j = ctx;
    const problem *p = j->p;
    linalg_gemm(false, true, j->k, end - begin, p->cols, 1, j->in, p->cols, p->w + begin * p->ldw, p->ldw, 0, j->out + begin, p->rows);
}

static void s_tile(void *ctx, size_t begin, size_t end, int worker) {
    const product *j = ctx;
    const hessian *h = j->p->h;
    size_t n = j->p->cols, len = end - begin;
    for (size_t i = 0; i < j->k; i++) memcpy(j->out + i * n + begin, j->in + i * n + begin, len * sizeof *j->out);
    if (h) linalg_mul_unit_upper(false, j->k, len, h->m + begin * n + begin, n, j->out + begin, n);
    if (h && begin) linalg_gemm(false, false, j->k, len, begin, 1, j->in, n, h->m + begin, n, 1, j->out + begin, n);
    for (size_t i = 0; i < j->k; i++)
        for (size_t c = begin; c < end; c++) j->out[i * n + c] *= j->p->root[c];
}
static void rt_tile(void *ctx, size_t begin, size_t end, int worker) {
    const product *j = ctx;
    const hessian *h = j->p->h;
    size_t n = j->p->cols, len = end - begin;
    for (size_t i = 0; i < j->k; i++) memcpy(j->out + i * n + begin, j->in + i * n + begin, len * sizeof *j->out);
    if (!h) return;
    linalg_mul_unit_upper(true, j->k, len, h->m + begin * n + begin, n, j->out + begin, n);
    if (end < n) linalg_gemm(false, true, j->k, len, n - end, 1, j->in + end, n, h->m + begin * n + end, n, 1, j->out + begin, n);
}

static void turn_tile(void *ctx, size_t begin, size_t end, int worker) {
    const product *j = ctx;
    linalg_gemm(false, false, j->k, end - begin, j->m, 1, j->z, j->m, j->in + begin, j->n, 0, j->out + begin, j->n);
}

static void run(const problem *p, thread_fn fn, size_t k, size_t n, const float *in, float *out) {
    product j = {.p = p, .k = k, .n = n, .in = in, .out = out};
    thread_for(p->threads, n, TILE, fn, &j);
}
/* g (k, cols) = q W;  y (k, rows) = g W^T */
static void times_w(const problem *p, size_t k, const float *q, float *g) { run(p, w_tile, k, p->cols, q, g); }
static void times_wt(const problem *p, size_t k, const float *g, float *y) { run(p, wt_tile, k, p->rows, g, y); }
/* b (k, cols) = g S;  g = b S^T, b becomes b sqrt(D). */
static void times_s(const problem *p, size_t k, const float *g, float *b) { run(p, s_tile, k, p->cols, g, b); }
static void times_st(const problem *p, size_t k, float *b, float *g) {
    for (size_t i = 0; i < k; i++)
        for (size_t c = 0; c < p->cols; c++) b[i * p->cols + c] *= p->root[c];
    run(p, rt_tile, k, p->cols, b, g);
}
/* out (k, n) = z (k, m) in (m, n) */
static void turn(const problem *p, size_t k, size_t m, size_t n, const float *z, const float *in, float *out) {
    product j = {.p = p, .k = k, .n = n, .m = m, .z = z, .in = in, .out = out};
    thread_for(p->threads, n, TILE, turn_tile, &j);
}

/* ---- small problems ---- */

typedef struct small { double *gram, *values, *vectors; float *z; } small; /* of k vectors: (k, k), (k), (k, k), (k, k) */

/* z: the turn that makes b's k rows orthonormal, longest first; those that are noise become zero. */
static snug_err principal(small *s, size_t k, size_t n, const float *b, snug_error *err) {
    memset(s->gram, 0, k * k * sizeof *s->gram);
    snug_err e = linalg_gram_add(k, n, b, n, s->gram, err);
    if (!e) e = linalg_eigen_top(k, s->gram, k, s->values, s->vectors, err);
    if (e) return e;
    for (size_t i = 0; i < k; i++) {
        bool real = s->values[i] > NOISE * s->values[0];
        double scale = real ? 1 / sqrt(s->values[i]) : 0;
        for (size_t j = 0; j < k; j++) s->z[i * k + j] = (float)(scale * s->vectors[i * k + j]);
    }
    return SNUG_OK;
}

/* Makes b's rows orthonormal; spare as large as b. Twice, because a turn's rounding is the longest vectors'. */
static snug_err orthonormal(const problem *p, small *s, size_t k, size_t n, float *b, float *spare, snug_error *err) {
    snug_err e = principal(s, k, n, b, err);
    if (!e) turn(p, k, k, n, s->z, b, spare);
    if (!e) e = principal(s, k, n, spare, err);
    if (!e) turn(p, k, k, n, s->z, spare, b);
    return e;
}

/* ---- factors ---- */

typedef struct blocks { float *q, *y, *g, *b; } blocks; /* q, y (k, rows); g, b (k, cols) */

/* Sum of the squared lengths from .. to. */
static double sum_of(const small *s, size_t from, size_t to) {
    double sum = 0;
    for (size_t i = from; i < to; i++) sum += fmax(s->values[i], 0);
    return sum;
}

/* v (r, cols): Q^T W, rows scaled to length 1 in the metric. */
static snug_err right_factor(const problem *p, const blocks *t, small *s, size_t k, size_t r, float *v, snug_error *err) {
    rng random;
    rng_seed(&random, 0x10b, r);
    for (size_t i = 0; i < k * p->rows; i++) t->q[i] = rng_normal(&random);
    double held = 0, last;
    snug_err e = orthonormal(p, s, k, p->rows, t->q, t->y, err);
    for (int round = 0; !e; round++) {
        times_w(p, k, t->q, t->g);
        times_s(p, k, t->g, t->b);
        e = principal(s, k, p->cols, t->b, err);
        last = held;
        held = e ? 0 : sum_of(s, 0, r);
        if (!e && (k == p->rows || round == MAX_ROUNDS || held - last <= GROWTH * sum_of(s, r, k) + GROWTH_HELD * held)) {
            turn(p, r, k, p->cols, s->z, t->g, v);
            return SNUG_OK;
        }
        if (!e) e = orthonormal(p, s, k, p->cols, t->b, t->g, err);
        if (e) return e;
        times_st(p, k, t->b, t->g);
        times_wt(p, k, t->g, t->q);
        e = orthonormal(p, s, k, p->rows, t->q, t->y, err);
    }
    return e;
}

/* ut (rank, rows) = (V H V^T)^-1 V H W^T. c (rank, rank) and t->y (rank, rows): V H V^T and V H W^T. */
static snug_err left_factor(const problem *p, const blocks *t, size_t rank, const float *v, double *c, float *ut, snug_error *err) {
    double *s = malloc(rank * rank * sizeof *s), *x = malloc(p->rows * rank * sizeof *x);
    snug_err e = s && x ? SNUG_OK : err_nomem(err, (rank + p->rows) * rank * sizeof *x);
    if (e) goto done;
    memset(c, 0, rank * rank * sizeof *c);
    times_s(p, rank, v, t->b);
    e = linalg_gram_add(rank, p->cols, t->b, p->cols, c, err);
    if (e) goto done;
    for (size_t q = 0; q < rank; q++) /* it fills one triangle */
        for (size_t i = 0; i < q; i++) c[i * rank + q] = c[q * rank + i];
    times_st(p, rank, t->b, t->g);
    times_wt(p, rank, t->g, t->y);
    for (size_t i = 0; i < p->rows; i++)
        for (size_t q = 0; q < rank; q++) x[i * rank + q] = t->y[q * p->rows + i];
    memcpy(s, c, rank * rank * sizeof *s);
    e = linalg_solve_spd(rank, s, p->rows, x, err);
    for (size_t i = 0; !e && i < p->rows; i++)
        for (size_t q = 0; q < rank; q++) ut[q * p->rows + i] = (float)x[i * rank + q];
done:
    free(s);
    free(x);
    return e;
}

/* Rounding may leave a row of U that is worse than none: its loss changes by u C u^T - 2 u b. Such rows become zero. */
static snug_err drop_rows(size_t rows, size_t rank, const double *c, const float *b, float *ut, snug_error *err) {
    double *u = malloc(rank * sizeof *u);
    if (!u) return err_nomem(err, rank * sizeof *u);
    for (size_t i = 0; i < rows; i++) {
        double change = 0;
        for (size_t q = 0; q < rank; q++) u[q] = ut[q * rows + i];
        for (size_t q = 0; q < rank; q++) {
            double sum = -2 * (double)b[q * rows + i];
            for (size_t k = 0; k < rank; k++) sum += c[q * rank + k] * u[k];
            change += u[q] * sum;
        }
        for (size_t q = 0; !(change <= 0) && q < rank; q++) ut[q * rows + i] = 0;
    }
    free(u);
    return SNUG_OK;
}

static float *block(size_t k, size_t n) { return malloc(k * n * sizeof(float)); }

static snug_err solve(const problem *p, codec_params params, uint8_t *dst, snug_error *err) {
    size_t rank = params.rank, least = p->rows < p->cols ? p->rows : p->cols, r = rank < least ? rank : least;
    size_t more = r / 2 < MORE_MIN ? MORE_MIN : r / 2 > MORE_MAX ? MORE_MAX : r / 2, k = least - r < more ? least : r + more;
    size_t most = k > rank ? k : rank;
    blocks t = {block(most, p->rows), block(most, p->rows), block(most, p->cols), block(most, p->cols)};
    small s = {malloc(most * most * sizeof *s.gram), malloc(k * sizeof *s.values), malloc(k * k * sizeof *s.vectors), block(k, k)};
    float *v = calloc(rank * p->cols, sizeof *v), *ut = block(rank, p->rows), *scale = block(2, rank);
    lowrank_factors f = {v, ut, scale, scale + (scale ? rank : 0)};
    snug_err e = SNUG_OK;
    if (!t.q || !t.y || !t.g || !t.b || !s.gram || !s.values || !s.vectors || !s.z || !v || !ut || !scale)
        e = err_nomem(err, 3 * most * (p->rows + p->cols) * sizeof *v);
    if (!e) e = right_factor(p, &t, &s, k, r, v, err);
    if (!e) e = svd_round_right(params.bits, rank, p->cols, p->h, p->root, p->threads, v, scale, t.b, err);
    if (!e) e = left_factor(p, &t, rank, v, s.gram, ut, err);
    if (!e) e = svd_round_left(params.bits, rank, p->rows, s.gram, ut, scale + rank, t.q, err);
    if (!e) e = drop_rows(p->rows, rank, s.gram, t.y, ut, err);
    if (!e) lowrank_pack(params, p->rows, p->cols, &f, dst);
    free(t.q), free(t.y), free(t.g), free(t.b);
    free(s.gram), free(s.values), free(s.vectors), free(s.z);
    free(v), free(ut), free(scale);
    return e;
}

snug_err solve_svd(codec_params params, const float *w, size_t ldw, size_t rows, size_t cols, const float *a, int threads, uint8_t *dst,
                   snug_error *err) {
    problem p = {.w = w, .ldw = ldw, .rows = rows, .cols = cols, .root = block(1, cols), .threads = threads};
    snug_err e = p.root ? check_finite("lowrank", w, ldw, rows, cols, 0, err) : err_nomem(err, cols * sizeof *p.root);
    if (!e && a) e = importance_normalise(a, cols, p.root, err);
    for (size_t j = 0; !e && j < cols; j++) p.root[j] = a ? sqrtf(p.root[j]) : 1;
    if (!e) e = solve(&p, params, dst, err);
    free(p.root);
    return e;
}

snug_err solve_svd_hessian(codec_params params, const float *delta, size_t ldw, size_t rows, size_t cols, const hessian *h, int threads,
                           uint8_t *dst, snug_error *err) {
    problem p = {.w = delta, .ldw = ldw, .rows = rows, .cols = cols, .h = h, .root = block(1, cols), .threads = threads};
    if (h->n != cols) {
        free(p.root);
        return err_set(err, SNUG_ERR_ARG, "second moments of %zu inputs for %zu columns", h->n, cols);
    }
    snug_err e = p.root ? check_finite("lowrank", delta, ldw, rows, cols, 0, err) : err_nomem(err, cols * sizeof *p.root);
    for (size_t j = 0; !e && j < cols; j++) p.root[j] = sqrtf(h->d[j]);
    if (!e) e = solve(&p, params, dst, err);
    free(p.root);
    return e;
}
