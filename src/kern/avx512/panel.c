/* Dots with panels: sixteen rows in a register, and dpbusd, which multiplies unsigned codes by signed activations and adds four
 * neighbours into int32 at once. */
#include "kern/avx512/avx512.h"

#include "kern/blocks.h"

typedef __m512i vi;
typedef __m512 vf;
enum { LANES = 16, MAX_TOKENS = 8 };

KERN_INLINE vi v_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
KERN_INLINE void v_store(uint8_t *p, vi v) { _mm512_storeu_si512(p, v); }
KERN_INLINE vi v_and(vi a, int bits) { return _mm512_and_si512(a, _mm512_set1_epi8((char)bits)); }
KERN_INLINE vi v_or(vi a, vi b) { return _mm512_or_si512(a, b); }
KERN_INLINE vi v_shr(vi a, int n) { return _mm512_srli_epi16(a, (unsigned)n); }
KERN_INLINE vi v_shl(vi a, int n) { return _mm512_slli_epi16(a, (unsigned)n); }
KERN_INLINE vf f_load(const float *p) { return _mm512_loadu_ps(p); }
KERN_INLINE void f_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
KERN_INLINE vf f_zero(void) { return _mm512_setzero_ps(); }
KERN_INLINE vf f_set1(float v) { return _mm512_set1_ps(v); }
KERN_INLINE vf f_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
KERN_INLINE vf f_add(vf a, vf b) { return _mm512_add_ps(a, b); }
KERN_INLINE vf f_neg(vf a) { return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a), _mm512_set1_epi32(INT32_MIN))); }
KERN_INLINE vf f_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
KERN_INLINE vf f_of_int(vi v) { return _mm512_cvtepi32_ps(v); }
KERN_INLINE vf f_of_half(const uint8_t *p) { return _mm512_cvtph_ps(load_i(p)); }
KERN_INLINE vf f_of_bf16(const uint8_t *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_i(p)), 16));
}
KERN_INLINE xi x_load(const uint8_t *p) { return load_i128(p); }
KERN_INLINE xi x_load_halves(const uint8_t *p, int shift) { return _mm256_cvtepi16_epi8(_mm256_srli_epi16(load_i(p), shift)); }
KERN_INLINE vf f_of_bytes(xi v) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(v)); }
KERN_INLINE vf f_of_signed(xi v) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(v)); }
KERN_INLINE vf f_table8(const float *t, xi z) {
    return _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(z), _mm512_castps256_ps512(_mm256_loadu_ps(t)));
}
KERN_INLINE vf f_table32(const float *t, xi e) { return _mm512_permutex2var_ps(f_load(t), _mm512_cvtepu8_epi32(e), f_load(t + 16)); }
KERN_INLINE vi v_iq4(vi u) {
    const __m128i t = _mm_xor_si128(load_i128(kern_iq4_values), _mm_set1_epi8(-128));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(t), u);
}

#define BIAS(class_bits) 0
KERN_INLINE vi v_code8(vi u) { return u; }
#include "kern/simd/panel_codes.h"

KERN_INLINE vi word_of(const int8_t *p) { return _mm512_set1_epi32((int)read_u32((const uint8_t *)p)); }

KERN_INLINE void dot_words(const panel_form f, int class_bits, int T, const uint8_t *p, int j0, int n, const int8_t *x, int width,
                           size_t ldx, vi *sum) {
#pragma GCC unroll 16
    for (int t = 0; t < T; t++) sum[t] = _mm512_setzero_si512();
#pragma GCC unroll 16
    for (int j = 0; j < n; j++) {
        vi u = code_of(f, p, j0 + j);
#pragma GCC unroll 16
        for (int t = 0; t < T; t++) sum[t] = _mm512_dpbusd_epi32(sum[t], u, word_of(word_at(x, width, ldx, j0 + j, t)));
    }
}

#include "kern/simd/panel_dot.h"
