/* The second moments of a weight's input, H = E[x x^T], and the factor that error feedback needs.
 *
 *     H = R D R^T,   R unit upper triangular, D diagonal
 *     tr(E H E^T) = |E R sqrt(D)|^2 = sum_k D_k (e_k + sum_{j<k} e_j R_jk)^2        E = W - W_hat, columns e_k
 *
 * So when columns are chosen from left to right, what column k should be near to is w_k + sum_{j<k} e_j R_jk (LDLQ; the same as
 * GPTQ's updates by the inverse's factor), and D_k is what is left to pay for missing it: the variance of input k that the
 * inputs after it do not explain.
 *
 * The columns need not stand in the inputs' order: what comes late can make up for more, so what costs most comes first. */
#ifndef SOLVE_HESSIAN_H
#define SOLVE_HESSIAN_H
#include <snug.h>
#include <stdbool.h>
#include <stdint.h>

/* Sums of x x^T in double, the lower triangle in tiles. */
typedef struct hessian_sum {
    size_t n;
    double *tile;  /* HESSIAN_TILE x HESSIAN_TILE each, tile (i, j), j <= i, at i (i + 1) / 2 + j */
    double tokens;
} hessian_sum;
enum { HESSIAN_TILE = 256 };

/* SNUG_ERR_NOMEM; about 4 n^2 bytes. */
snug_err hessian_sum_open(size_t n, hessian_sum *out, snug_error *err);
void hessian_sum_close(hessian_sum *s);
/* Adds n_tokens activations x (n_tokens, ld). The same bits for any number of threads; which tokens share a call matters to the last bits. */
snug_err hessian_sum_add(hessian_sum *s, const float *x, size_t n_tokens, size_t ld, int threads, snug_error *err);
/* Of several processes (base/cluster.h) each adds to its own tiles; this, once after the last addition, gives all of them all. */
snug_err hessian_sum_gather(hessian_sum *s, snug_error *err);
/* Inputs shrink by powers of two: H_ij becomes H_ij 2^-(k_i + k_j). False: all k (n) are 0. */
bool hessian_sum_scale(hessian_sum *s, const int8_t *k);
/* H becomes T H T^T, T the transform (codec/transform.h) of its n inputs, which must take n. */
void hessian_sum_transform(hessian_sum *s, int transform, int threads);
/* H_jj, j < n. */
double hessian_sum_diagonal(const hessian_sum *s, size_t j);

typedef struct hessian {
    size_t n;
    float *m;       /* (n, n) row-major: H, damped, on and below the diagonal; R strictly above it */
    float *d;       /* (n) > 0: D, in the inputs' order */
    uint32_t *order; /* (n): R's k-th row and column belong to input order[k]; NULL: to input k */
    size_t group;   /* of inputs that stay together in that order */
    double damping; /* what stands in H's diagonal beyond the sums, as a share of its mean */
} hessian;

/* H and its factor from sums, in one matrix of 4 n^2 bytes. damping: share of the mean diagonal that is added to the diagonal, raised
 * tenfold until the factorisation succeeds. group: R takes whole groups of so many inputs, those of the largest mean diagonal first and the
 * rest of n / group last; 0: in order. SNUG_ERR_NUMERIC: sums that are not finite, all zero, or that cannot be factored even with
 * damping 1. */
snug_err hessian_factor(const hessian_sum *s, double damping, size_t group, int threads, hessian *out, snug_error *err);
void hessian_close(hessian *h);

/* tr(E H E^T) of n_rows rows of errors e (n_rows, lde), each row's own in loss (n_rows), by H itself. */
snug_err hessian_loss(const hessian *h, const float *e, size_t lde, size_t n_rows, double *loss, snug_error *err);
#endif
