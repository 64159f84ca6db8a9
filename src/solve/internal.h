/* What the solvers share. */
#ifndef SOLVE_INTERNAL_H
#define SOLVE_INTERNAL_H
#include "solve/solve.h"
/* out (cols): a / mean(a), not below 1e-6; all 1 when a is all zero. SNUG_ERR_NUMERIC names a column that is no number >= 0. */
snug_err importance_normalise(const float *a, size_t cols, float *out, snug_error *err);
#endif
