/* The encoders' common search steps. Every one tries eight (scale, offset) candidates at once on n weights x with importances a
 * and works with the error that counts: sum a (x - w_hat)^2 after rounding. A candidate scale of 0 stands for w_hat = m. */
#ifndef CODEC_SEARCH_H
#define CODEC_SEARCH_H
#include <math.h>
#include "codec/block.h"

enum { SEARCH_LANES = 8 };

/* err[j] = sum a (x - (s_j q + m_j))^2, q = nearest code in lo..hi. */
void search_err(size_t n, const float *x, const float *a, const float s[8], const float m[8], int lo, int hi, float err[8]);
/* The same without an offset, with codes from a table of 16 ascending values when table is given. */
void search_err_scale(size_t n, const float *x, const float *a, const float s[8], int lo, int hi, const int8_t *table, float err[8]);
/* Codes as above, then the scale that is best for those codes: s_j = sum a q x / sum a q^2 (left as it was when all codes are 0). */
void search_refit_scale(size_t n, const float *x, const float *a, float s[8], int lo, int hi, const int8_t *table);
/* Codes as above, then the best (s_j, m_j) for those codes by weighted least squares; m_j is held to at most 0 when `min_le_0` (the
 * k-quants subtract a non-negative minimum). */
void search_refit_min(size_t n, const float *x, const float *a, float s[8], float m[8], int lo, int hi, bool min_le_0);

/* The table value nearest to each t. */
void search_nearest8(const float t[8], const int8_t table[16], float value[8]);

/* Sums over the codes of one candidate: a, a x, a q, a q^2, a q x. n is a multiple of 8. */
typedef struct search_sums { double a, x, q, qq, qx; } search_sums;
void search_code_sums(size_t n, const float *x, const float *a, float s, float m, int lo, int hi, search_sums *out);
void search_code_sums_scale(size_t n, const float *x, const float *a, float s, int lo, int hi, const int8_t *table, search_sums *out);

/* The f16 scale of either sign with the least error on n weights. `rounds`: 4 start scales of each sign per round. */
uint16_t search_f16_scale(const block_in *in, size_t n, int lo, int hi, const int8_t *table, int rounds);

static inline float search_absmax(const float *x, size_t n) {
    float top = 0;
    for (size_t i = 0; i < n; i++) top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
    return top;
}
/* A power of two near top: divides it out so that squares stay in range. Exact. */
static inline float search_unit(float top) {
    int e = top > 0 ? ilogbf(top) : 0;
    return ldexpf(1, e < -100 ? -100 : e > 100 ? 100 : e);
}
#endif
