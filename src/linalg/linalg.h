/* Dense linear algebra for the solvers: LAPACK and BLAS in double, single-threaded (threads are the caller's). */
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
#endif
