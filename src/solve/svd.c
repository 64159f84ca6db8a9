/* Best rank-r factors in the metric sum_j a_j d_j^2: the truncated SVD of W diag(sqrt a), by the eigenvectors of the Gram matrix of
 * its shorter side, in double. (The Gram matrix squares the condition number: directions below 1e-8 of the largest are noise
 * in double, far below what bf16 factors can hold.)
 *
 * Then the rounding is made good: V is rounded to bf16 first and U is the weighted least-squares solution for the V that is
 * stored,  U = W A V^T (V A V^T)^-1  with A = diag(a), so only U's own rounding remains. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/f16.h"
#include "codec/codecs.h"
#include "linalg/linalg.h"
#include "solve/internal.h"

/* vt (r, n): the r leading eigenvectors of m m^T with m (n, k). */
static snug_err leading(size_t n, size_t k, const float *m, size_t ldm, size_t r, double *vt, snug_error *err) {
    double *g = calloc(n * n, sizeof *g), *values = malloc(r * sizeof *values);
    snug_err e = g && values ? SNUG_OK : err_nomem(err, n * n * sizeof *g);
    if (!e) e = linalg_gram_add(n, k, m, ldm, g, err);
    if (!e) e = linalg_eigen_top(n, g, r, values, vt, err);
    free(g);
    free(values);
    return e;
}

/* v (rank, cols), not yet rounded. Rows r .. rank of v (rank beyond the matrix's) stay zero. */
static snug_err right_factor(const float *w, size_t ldw, size_t rows, size_t cols, const float *root, size_t r, float *v,
                             snug_error *err) {
    bool tall = cols <= rows;
    size_t n = tall ? cols : rows, k = tall ? rows : cols;
    float *m = malloc(n * k * sizeof *m); /* W diag(root), transposed when tall, so that the short side comes first */
    double *vt = malloc(r * n * sizeof *vt);
    snug_err e = m && vt ? SNUG_OK : err_nomem(err, n * k * sizeof *m);
    if (e) goto done;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) m[tall ? j * rows + i : i * cols + j] = w[i * ldw + j] * root[j];
    e = leading(n, k, m, k, r, vt, err);
    if (e) goto done;
    for (size_t q = 0; q < r; q++)
        for (size_t j = 0; j < cols; j++) {
            double sum = tall ? vt[q * n + j] / root[j] : 0;
            for (size_t i = 0; !tall && i < rows; i++) sum += vt[q * n + i] * w[i * ldw + j];
            v[q * cols + j] = (float)sum;
        }
done:
    free(m);
    free(vt);
    return e;
}

/* u (rows, rank) = W A V^T (V A V^T)^-1 */
static snug_err left_factor(const float *w, size_t ldw, size_t rows, size_t cols, const float *root, size_t rank, const float *v,
                            float *u, snug_error *err) {
    double *s = calloc(rank * rank, sizeof *s), *b = calloc(rows * rank, sizeof *b);
    snug_err e = s && b ? SNUG_OK : err_nomem(err, (rank + rows) * rank * sizeof *b);
    if (e) goto done;
    for (size_t p = 0; p < rank; p++)
        for (size_t q = 0; q <= p; q++) {
            double sum = 0;
            for (size_t j = 0; j < cols; j++) sum += (double)root[j] * root[j] * v[p * cols + j] * v[q * cols + j];
            s[p * rank + q] = s[q * rank + p] = sum;
        }
    for (size_t i = 0; i < rows; i++)
        for (size_t q = 0; q < rank; q++) {
            double sum = 0;
            for (size_t j = 0; j < cols; j++) sum += (double)root[j] * root[j] * w[i * ldw + j] * v[q * cols + j];
            b[i * rank + q] = sum;
        }
    e = linalg_solve_spd(rank, s, rows, b, err);
    for (size_t i = 0; !e && i < rows * rank; i++) u[i] = (float)b[i];
done:
    free(s);
    free(b);
    return e;
}

snug_err solve_svd(codec_params p, const float *w, size_t ldw, size_t rows, size_t cols, const float *a, uint8_t *dst, snug_error *err) {
    size_t rank = p.rank, r = rank < rows ? rank : rows;
    if (r > cols) r = cols;
    float *root = malloc(cols * sizeof *root), *v = calloc(rank * cols, sizeof *v), *u = malloc(rank * rows * sizeof *u);
    snug_err e = root && v && u ? SNUG_OK : err_nomem(err, rank * (rows + cols) * sizeof *v);
    if (!e) e = check_finite("lowrank", w, ldw, rows, cols, 0, err);
    if (!e && a) e = importance_normalise(a, cols, root, err);
    for (size_t j = 0; !e && j < cols; j++) root[j] = a ? sqrtf(root[j]) : 1;
    if (!e) e = right_factor(w, ldw, rows, cols, root, r, v, err);
    if (!e) {
        for (size_t i = 0; i < rank * cols; i++) v[i] = bf16_to_f32(f32_to_bf16(v[i]));
        e = left_factor(w, ldw, rows, cols, root, rank, v, u, err);
    }
    if (!e) lowrank_pack(p, rows, cols, u, v, dst);
    free(root);
    free(v);
    free(u);
    return e;
}
