/* The level's vectors, for the templates of kern/x86: what the names mean stands in avx2/vector.h. */
#ifndef KERN_AVX512_VECTOR_H
#define KERN_AVX512_VECTOR_H
#include "kern/avx512/avx512.h"
#include "kern/canon.h"

typedef __m512i vi;
typedef __m512 vf;
enum { LANES = 16, MASKS = 1 };
#define SLOT(name) name##_avx512

KERN_INLINE vf f_load(const float *p) { return _mm512_loadu_ps(p); }
KERN_INLINE void f_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
KERN_INLINE vf f_zero(void) { return _mm512_setzero_ps(); }
KERN_INLINE vf f_set1(float v) { return _mm512_set1_ps(v); }
KERN_INLINE vf f_add(vf a, vf b) { return _mm512_add_ps(a, b); }
KERN_INLINE vf f_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
KERN_INLINE vf f_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
KERN_INLINE vf f_div(vf a, vf b) { return _mm512_div_ps(a, b); }
KERN_INLINE vf f_neg(vf a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
KERN_INLINE vf f_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
KERN_INLINE vf f_fms(vf a, vf b, vf c) { return _mm512_fmsub_ps(a, b, c); }
KERN_INLINE vf f_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
KERN_INLINE vf f_max(vf a, vf b) { return _mm512_max_ps(a, b); }
KERN_INLINE vf f_min(vf a, vf b) { return _mm512_min_ps(a, b); }
KERN_INLINE __m256 low8(vf a) { return _mm512_castps512_ps256(a); }
KERN_INLINE __m256 high8(vf a) { return _mm512_extractf32x8_ps(a, 1); }
KERN_INLINE float f_max_of(vf a) { return max8(_mm256_max_ps(low8(a), high8(a))); }
KERN_INLINE float f_tree16(const vf l[1]) { return tree8(_mm256_add_ps(low8(l[0]), high8(l[0]))); }
KERN_INLINE vf f_of_int(vi v) { return _mm512_cvtepi32_ps(v); }
KERN_INLINE vf f_of_half(const void *p) { return _mm512_cvtph_ps(load_i(p)); }
KERN_INLINE vf f_of_bf16(const void *p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_i(p)), 16)); }
KERN_INLINE void f_to_half(void *p, vf a) { store_i(p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT)); }
KERN_INLINE vf f_of_codes(const int8_t *p) { return f_of_int(_mm512_cvtepi8_epi32(load_i128(p))); }

KERN_INLINE vf f_scale(vf p, vf t) { return _mm512_scalef_ps(p, f_sub(t, f_set1(CANON_ROUND))); }
KERN_INLINE vf f_scale_negative(vf p, vf t) { return f_scale(p, t); }

KERN_INLINE vf f_interleave(const float *a, const float *b) {
    const __m512i order = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return _mm512_permutex2var_ps(_mm512_castps256_ps512(_mm256_loadu_ps(a)), order, _mm512_castps256_ps512(_mm256_loadu_ps(b)));
}
KERN_INLINE vf f_even(vf a) { return _mm512_moveldup_ps(a); }
KERN_INLINE vf f_odd(vf a) { return _mm512_movehdup_ps(a); }
KERN_INLINE vf f_swap(vf a) { return _mm512_permute_ps(a, 0xb1); }
KERN_INLINE vf f_fmaddsub(vf a, vf b, vf c) { return _mm512_fmaddsub_ps(a, b, c); }

KERN_INLINE __mmask16 first(size_t n) { return (__mmask16)((1u << n) - 1); }
KERN_INLINE vf f_load_n(const float *p, size_t n) { return n == LANES ? f_load(p) : _mm512_maskz_loadu_ps(first(n), p); }
KERN_INLINE void f_store_n(float *p, size_t n, vf a) {
    if (n == LANES) f_store(p, a);
    else _mm512_mask_storeu_ps(p, first(n), a);
}
KERN_INLINE vf f_of_half_n(const void *p, size_t n) {
    return n == LANES ? f_of_half(p) : _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p));
}
#endif
