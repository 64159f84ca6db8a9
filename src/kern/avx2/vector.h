/* The level's vectors, for the templates of kern/x86: LANES floats in a register. avx512/vector.h has the same names.
 *
 *     vi, vf                      integers, floats
 *     f_load f_store f_set1 f_zero f_add f_sub f_mul f_div f_neg f_fma f_of_int
 *     f_fms f_fnma                a * b - c, c - a * b, one rounding
 *     f_max f_min                 the second operand where one is a NaN
 *     f_max_of(a), f_tree16(l)    the largest lane, no NaN being there; canon_tree16 of 16 / LANES registers
 *     f_of_half(p) f_of_bf16(p)   LANES values at any address to floats
 *     f_to_half(p, a)             and back
 *     f_of_codes(p)               LANES signed bytes to floats
 *     f_scale(p, t)               p * 2^n, one rounding, for an exponent of vexp.h in t's low bits
 *     f_scale_negative(p, t)      the same for n <= 0
 *     f_interleave(a, b)          of LANES / 2 floats each: a[0] b[0] a[1] b[1] ...
 *     f_even f_odd f_swap         of each pair the first, the second, twice; both, changed over
 *     f_fmaddsub(a, b, c)         a * b - c in even lanes, a * b + c in odd ones
 *     f_load_n f_store_n f_of_half_n      the first n lanes, the others +0; n is LANES unless MASKS is set */
#ifndef KERN_AVX2_VECTOR_H
#define KERN_AVX2_VECTOR_H
#include "kern/avx2/avx2.h"
#include "kern/canon.h"

typedef __m256i vi;
typedef __m256 vf;
enum { LANES = 8, MASKS = 0 };
#define SLOT(name) name##_avx2

KERN_INLINE vf f_load(const float *p) { return _mm256_loadu_ps(p); }
KERN_INLINE void f_store(float *p, vf v) { _mm256_storeu_ps(p, v); }
KERN_INLINE vf f_zero(void) { return _mm256_setzero_ps(); }
KERN_INLINE vf f_set1(float v) { return _mm256_set1_ps(v); }
KERN_INLINE vf f_add(vf a, vf b) { return _mm256_add_ps(a, b); }
KERN_INLINE vf f_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
KERN_INLINE vf f_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
KERN_INLINE vf f_div(vf a, vf b) { return _mm256_div_ps(a, b); }
KERN_INLINE vf f_neg(vf a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
KERN_INLINE vf f_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
KERN_INLINE vf f_fms(vf a, vf b, vf c) { return _mm256_fmsub_ps(a, b, c); }
KERN_INLINE vf f_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
KERN_INLINE vf f_max(vf a, vf b) { return _mm256_max_ps(a, b); }
KERN_INLINE vf f_min(vf a, vf b) { return _mm256_min_ps(a, b); }
KERN_INLINE float f_max_of(vf a) { return max8(a); }
KERN_INLINE float f_tree16(const vf l[2]) { return tree8(f_add(l[0], l[1])); }
KERN_INLINE vf f_of_int(vi v) { return _mm256_cvtepi32_ps(v); }
KERN_INLINE vf f_of_half(const void *p) { return _mm256_cvtph_ps(load_i128(p)); }
KERN_INLINE vf f_of_bf16(const void *p) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_i128(p)), 16)); }
KERN_INLINE void f_to_half(void *p, vf a) { _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT)); }
KERN_INLINE vf f_of_codes(const int8_t *p) { return f_of_int(_mm256_cvtepi8_epi32(load_i64(p))); }

KERN_INLINE vf power(vi n) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23)); }
KERN_INLINE vf f_scale(vf p, vf t) {
    vi n = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32((int)CANON_ROUND_BITS)), half = _mm256_srai_epi32(n, 1);
    return f_mul(f_mul(p, power(half)), power(_mm256_sub_epi32(n, half)));
}
/* n is in -150..0, so that p 2^(n + 64) is exact and 2^-64 alone rounds; shifted by 23, n's bits stand where an exponent does. */
KERN_INLINE vf f_scale_negative(vf p, vf t) {
    vi scale = _mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(t), 23), _mm256_set1_epi32((127 + 64) << 23));
    return f_mul(f_mul(p, _mm256_castsi256_ps(scale)), f_set1(0x1p-64f));
}

KERN_INLINE vf f_interleave(const float *a, const float *b) {
    __m128 va = _mm_loadu_ps(a), vb = _mm_loadu_ps(b);
    return _mm256_set_m128(_mm_unpackhi_ps(va, vb), _mm_unpacklo_ps(va, vb));
}
KERN_INLINE vf f_even(vf a) { return _mm256_moveldup_ps(a); }
KERN_INLINE vf f_odd(vf a) { return _mm256_movehdup_ps(a); }
KERN_INLINE vf f_swap(vf a) { return _mm256_permute_ps(a, 0xb1); }
KERN_INLINE vf f_fmaddsub(vf a, vf b, vf c) { return _mm256_fmaddsub_ps(a, b, c); }

KERN_INLINE vf f_load_n(const float *p, size_t n) { return f_load(p); }
KERN_INLINE void f_store_n(float *p, size_t n, vf a) { f_store(p, a); }
KERN_INLINE vf f_of_half_n(const void *p, size_t n) { return f_of_half(p); }
#endif
