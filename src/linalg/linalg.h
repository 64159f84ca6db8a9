/* Dense linear algebra for the solvers: LAPACK and BLAS, single-threaded (threads are the caller's). Matrices are row-major. */
#ifndef LINALG_LINALG_H
#define LINALG_LINALG_H
#include <snug.h>

/* g (n, n) row-major += m m^T, lower triangle, m (n, k) row-major f32 with leading dimension ldm; g is (n, n). */
snug_err linalg_gram_add(size_t n, size_t k, const float *m, size_t ldm, double *g, snug_error *err);
/* The r largest eigenvalues of the symmetric g (n, n) (lower triangle; destroyed), largest first, and their unit vectors as the
 * rows of vectors (r, n). r <= n. Signs are fixed: each vector's largest component is positive. */
snug_err linalg_eigen_top(size_t n, double *g, size_t r, double *values, double *vectors, snug_error *err);
/* Solves s x = b for n_rhs right-hand sides, s (n, n) symmetric positive semidefinite (destroyed; a ridge of 1e-12 of its mean
 * diagonal is added, rows of zeros give zeros). b (n_rhs, n): each row one right-hand side, overwritten by its solution. */
snug_err linalg_solve_spd(size_t n, double *s, size_t n_rhs, double *b, snug_error *err);

/* c (m, n) = alpha op(a) op(b) + beta c in f32; op transposes where asked: op(a) (m, k), op(b) (k, n). */
void linalg_gemm(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda, const float *b, size_t ldb,
                 float beta, float *c, size_t ldc);
/* b (m, n) = b U, or b U^T, for the upper triangular u (n, n) with ones on its diagonal (not read, nor what lies below), in f32. */
void linalg_mul_unit_upper(bool transposed, size_t m, size_t n, const float *u, size_t ldu, float *b, size_t ldb);
/* b (m, n) = b U^-T for the upper triangular u (n, n), in f32. */
void linalg_solve_right_upper_t(size_t m, size_t n, const float *u, size_t ldu, float *b, size_t ldb);
#endif
