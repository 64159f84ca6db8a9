/* exp of eight floats, as softmax, silu and attention need it: canon_expf, lane by lane. max(LO, x) and min(HI, x) return x
 * when it is NaN, as the scalar comparisons do. */
#ifndef KERN_AVX2_VEXP_H
#define KERN_AVX2_VEXP_H
#include "kern/avx2/avx2.h"
#include "kern/canon.h"

/* e^r, and in t the power of two that is missing (n in its low bits) */
KERN_INLINE __m256 vexp_reduced(__m256 x, __m256 *t) {
    *t = _mm256_fmadd_ps(x, _mm256_set1_ps(CANON_LOG2E), _mm256_set1_ps(CANON_ROUND));
    __m256 n = _mm256_sub_ps(*t, _mm256_set1_ps(CANON_ROUND));
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(CANON_LN2_HI), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(CANON_LN2_LO), r);
    __m256 p = _mm256_set1_ps(canon_exp_coef[0]);
    for (int i = 1; i < 8; i++) p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(canon_exp_coef[i]));
    return p;
}

KERN_INLINE __m256 vexp(__m256 x) {
    x = _mm256_max_ps(_mm256_set1_ps(CANON_EXP_LO), x);
    x = _mm256_min_ps(_mm256_set1_ps(CANON_EXP_HI), x);
    __m256 t, p = vexp_reduced(x, &t);
    const __m256i bias = _mm256_set1_epi32(127);
    __m256i k = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32((int)CANON_ROUND_BITS));
    __m256i k1 = _mm256_srai_epi32(k, 1), k2 = _mm256_sub_epi32(k, k1);
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(k1, bias), 23)));
    return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(k2, bias), 23)));
}

/* The same for x <= 0 or NaN. n is in -150..0, so that e^r 2^(n + 64) is exact and 2^-64 alone rounds, as the second of the
 * two halves does; shifted by 23, n's bits stand where an exponent does. */
KERN_INLINE __m256 vexp_negative(__m256 x) {
    __m256 t, p = vexp_reduced(_mm256_max_ps(_mm256_set1_ps(CANON_EXP_LO), x), &t);
    __m256i scale = _mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(t), 23), _mm256_set1_epi32((127 + 64) << 23));
    return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(scale)), _mm256_set1_ps(0x1p-64f));
}
#endif
