/* What the solvers share. */
#ifndef SOLVE_INTERNAL_H
#define SOLVE_INTERNAL_H
#include "solve/solve.h"
/* out (cols): a / mean(a), not below 1e-6; all 1 when a is all zero. SNUG_ERR_NUMERIC names a column that is no number >= 0. */
snug_err importance_normalise(const float *a, size_t cols, float *out, snug_error *err);
/* SNUG_ERR_NUMERIC names the first weight that is infinite or not a number; rows are counted from row0. */
snug_err check_finite(const char *what, const float *w, size_t ldw, size_t n_rows, size_t cols, size_t row0, snug_error *err);
/* V (rank, n) and U^T (rank, n) as they will be stored: bf16 or, with bits, d (rank) times codes, chosen in the metric of h or else of root^2,
 * and in that of c = V H V^T (rank, rank). spare: as large. Threads change no bit. */
snug_err svd_round_right(unsigned bits, size_t rank, size_t n, const hessian *h, const float *root, int threads, float *v, float *d,
                         float *spare, snug_error *err);
snug_err svd_round_left(unsigned bits, size_t rank, size_t n, const double *c, float *ut, float *d, float *spare, snug_error *err);
#endif
