/* Factors as they will be stored: bf16, or codes with one scale for each of V's rows and U's columns. Codes are chosen with error feedback
 * (hessian.h): in a row of V from column to column in the metric H, in a row of U from component to component in the metric V H V^T. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/f16.h"
#include "base/thread.h"
#include "codec/search.h"
#include "linalg/linalg.h"
#include "solve/internal.h"

enum { GRAIN = 16, TILE = 128, CANDIDATES = 64 };
static const float FROM = 1.1f, DOWN = 0.92f; /* candidate scales, in units of the one that covers the largest number */

typedef struct round_job {
    unsigned bits;
    size_t n;
    const hessian *h;
    const float *a; /* (n) */
    float *x, *d, *e; /* (rank, n), (rank), (rank, n): the vectors, their scales, their errors */
} round_job;

/* The bf16 scale of either sign with the least sum a (x - d q)^2. z (n): room. */
static float best_scale(size_t n, const float *x, const float *a, unsigned bits, float *z) {
    int lo = -(1 << (bits - 1)), hi = -lo - 1;
    float top = 0, best = INFINITY, d = 0;
    for (size_t i = 0; i < n; i++) top = fmaxf(top, fabsf(x[i]));
    for (size_t i = 0; i < n; i++) z[i] = top > 0 ? x[i] / top : 0;
    for (int k = 0; top > 0 && k < 2 * CANDIDATES; k += SEARCH_LANES) {
        float s[SEARCH_LANES], err[SEARCH_LANES];
        float first = (k < CANDIDATES ? FROM : -FROM) / (float)hi;
        for (int j = 0; j < SEARCH_LANES; j++) s[j] = first * powf(DOWN, (float)((k + j) % CANDIDATES));
        search_refit_scale(n, z, a, s, lo, hi, NULL);
        for (int j = 0; j < SEARCH_LANES; j++) s[j] = bf16_to_f32(f32_to_bf16(s[j] * top)) / top;
        search_err_scale(n, z, a, s, lo, hi, NULL, err);
        for (int j = 0; j < SEARCH_LANES; j++)
            if (err[j] < best) best = err[j], d = bf16_to_f32(f32_to_bf16(s[j] * top));
    }
    return isfinite(d) ? d : 0;
}

static float nearest(float x, float d, unsigned bits) {
    float hi = (float)((1 << (bits - 1)) - 1);
    return d != 0 ? d * fminf(fmaxf(rintf(x / d), -hi - 1), hi) : 0;
}

/* Columns [c, c + n) of some vectors, targets t (vectors, TILE): each error goes to the targets after it. */
static void round_tile(const round_job *j, size_t begin, size_t end, size_t c, size_t n, float *t) {
    for (size_t i = begin; i < end; i++) {
        float *x = j->x + i * j->n + c, *e = j->e + i * j->n + c, *to = t + (i - begin) * TILE;
        for (size_t k = 0; k < n; k++) {
            float stored = nearest(to[k], j->d[i], j->bits);
            e[k] = x[k] - stored;
            x[k] = stored;
            const float *r = j->h->m + (c + k) * j->n + c;
            for (size_t q = k + 1; q < n; q++) to[q] += e[k] * r[q];
        }
    }
}

static void round_vectors(void *ctx, size_t begin, size_t end, int worker) {
    const round_job *j = ctx;
    size_t n = j->n;
    float t[GRAIN * TILE];
    for (size_t i = begin; i < end; i++) j->d[i] = best_scale(n, j->x + i * n, j->a, j->bits, j->e + i * n);
    for (size_t i = begin; !j->h && i < end; i++)
        for (size_t k = 0; k < n; k++) j->x[i * n + k] = nearest(j->x[i * n + k], j->d[i], j->bits);
    for (size_t c = 0; j->h && c < n; c += TILE) {
        size_t len = n - c < TILE ? n - c : TILE;
        for (size_t i = begin; i < end; i++) memcpy(t + (i - begin) * TILE, j->x + i * n + c, len * sizeof *t);
        if (c) linalg_gemm(false, false, end - begin, len, c, 1, j->e + begin * n, n, j->h->m + c, n, 1, t, TILE);
        round_tile(j, begin, end, c, len, t);
    }
}

static void to_bf16(size_t n, float *x) {
    for (size_t i = 0; i < n; i++) x[i] = bf16_to_f32(f32_to_bf16(x[i]));
}

snug_err svd_round_right(unsigned bits, size_t rank, size_t n, const hessian *h, const float *root, int threads, float *v, float *d,
                         float *spare, snug_error *err) {
    if (!bits) {
        to_bf16(rank * n, v);
        return SNUG_OK;
    }
    float *a = malloc(n * sizeof *a);
    if (!a) return err_nomem(err, n * sizeof *a);
    for (size_t k = 0; k < n; k++) a[k] = h ? h->m[k * n + k] : root[k] * root[k];
    round_job j = {.bits = bits, .n = n, .h = h, .a = a, .x = v, .d = d, .e = spare};
    thread_for(threads, rank, GRAIN, round_vectors, &j);
    free(a);
    return SNUG_OK;
}

/* c = R D R^T in place, R unit upper triangular: R strictly above the diagonal. A pivot that vanished takes no part. */
static void factor(size_t n, double *c) {
    for (size_t k = n; k-- > 0;) {
        double pivot = c[k * n + k] > 1e-12 ? c[k * n + k] : INFINITY; /* V's rows have length 1 */
        for (size_t i = 0; i < k; i++) {
            double r = c[i * n + k] / pivot;
            for (size_t j = i; j < k; j++) c[i * n + j] -= r * c[j * n + k];
        }
        for (size_t i = 0; i < k; i++) c[i * n + k] /= pivot;
    }
}

snug_err svd_round_left(unsigned bits, size_t rank, size_t n, const double *c, float *ut, float *d, float *spare, snug_error *err) {
    if (!bits) {
        to_bf16(rank * n, ut);
        return SNUG_OK;
    }
    double *r = malloc(rank * rank * sizeof *r);
    float *a = malloc(2 * n * sizeof *a), *target = a + (a ? n : 0);
    snug_err e = r && a ? SNUG_OK : err_nomem(err, (rank * rank + n) * sizeof *r);
    if (!e) memcpy(r, c, rank * rank * sizeof *r), factor(rank, r);
    for (size_t i = 0; !e && i < n; i++) a[i] = 1;
    for (size_t k = 0; !e && k < rank; k++) {
        float *x = ut + k * n, *left = spare + k * n;
        memcpy(target, x, n * sizeof *x);
        for (size_t j = 0; j < k; j++)
            for (size_t i = 0; i < n; i++) target[i] += (float)r[j * rank + k] * spare[j * n + i];
        d[k] = best_scale(n, target, a, bits, left);
        for (size_t i = 0; i < n; i++) {
            float stored = nearest(target[i], d[k], bits);
            left[i] = x[i] - stored;
            x[i] = stored;
        }
    }
    free(r);
    free(a);
    return e;
}
