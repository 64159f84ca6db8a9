/* What the solvers share. */
#ifndef SOLVE_INTERNAL_H
#define SOLVE_INTERNAL_H
#include "solve/solve.h"
/* out (cols): a / mean(a), not below 1e-6; all 1 when a is all zero. SNUG_ERR_NUMERIC names a column that is no number >= 0. */
snug_err importance_normalise(const float *a, size_t cols, float *out, snug_error *err);
/* SNUG_ERR_NUMERIC names the first weight that is infinite or not a number; rows are counted from row0. */
snug_err check_finite(const char *what, const float *w, size_t ldw, size_t n_rows, size_t cols, size_t row0, snug_error *err);
#endif
