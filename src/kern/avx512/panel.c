/* Dots with panels: sixteen rows in a register, and dpbusd, which multiplies unsigned codes by signed activations and adds four
 * neighbours into int32 at once. */
#include "kern/avx512/vector.h"

#include "kern/blocks.h"
#include "kern/panel.h"

enum { MAX_TOKENS = 8 };

KERN_INLINE vi v_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
KERN_INLINE void v_store(uint8_t *p, vi v) { _mm512_storeu_si512(p, v); }
KERN_INLINE vi v_and(vi a, int bits) { return _mm512_and_si512(a, _mm512_set1_epi8((char)bits)); }
KERN_INLINE vi v_or(vi a, vi b) { return _mm512_or_si512(a, b); }
KERN_INLINE vi v_sub(vi a, int n) { return _mm512_sub_epi8(a, _mm512_set1_epi8((char)n)); }
KERN_INLINE vi v_shr(vi a, int n) { return _mm512_srli_epi16(a, (unsigned)n); }
KERN_INLINE vi v_shl(vi a, int n) { return _mm512_slli_epi16(a, (unsigned)n); }
KERN_INLINE vi v_of_bytes(const uint8_t *p) { return _mm512_cvtepu8_epi32(load_i128(p)); }
KERN_INLINE vf f_table8(const float *t, vi z) { /* a mask: a permutation of 16 has 4 bits of index */
    return _mm512_permutexvar_ps(_mm512_and_si512(z, _mm512_set1_epi32(7)), _mm512_castps256_ps512(_mm256_loadu_ps(t)));
}
KERN_INLINE vf f_table32(const float *t, vi e) { return _mm512_permutex2var_ps(f_load(t), e, f_load(t + 16)); }
KERN_INLINE vi v_iq4(vi u) {
    const __m128i t = _mm_xor_si128(load_i128(kern_iq4_values), _mm_set1_epi8(-128));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(t), u);
}

KERN_INLINE vi v_once(const uint8_t *p) {
    vi v = v_load(p);
    __asm__("" : "+v"(v));
    return v;
}
KERN_INLINE vi v_select(int bits, vi a, vi b) { return _mm512_ternarylogic_epi32(_mm512_set1_epi8((char)bits), a, b, 0xca); }

KERN_INLINE int bias(const panel_form f, int class_bits) { return 0; }
#include "kern/x86/panel_codes.h"

KERN_INLINE vi word_of(const int8_t *p) { return _mm512_set1_epi32((int)read_u32((const uint8_t *)p)); }

KERN_INLINE void dot_words(const panel_form f, int class_bits, int H, int T, const uint8_t *p, size_t half, const int8_t *x, int width,
                           size_t ldx, vi sum[][2][MAX_TOKENS]) {
    vi set[8];
#pragma GCC unroll 16
    for (int t = 0; t < T; t++) sum[0][0][t] = sum[0][1][t] = _mm512_setzero_si512();
#pragma GCC unroll 16
    for (int i = 0; i < 8; i++) {
        const int j = word_at_turn(f, i), g = 4 * j / f.group;
        load_sets(f, p, j, set);
        const vi u = code_of(f, set, j);
#pragma GCC unroll 16
        for (int t = 0; t < T; t++) sum[0][g][t] = _mm512_dpbusd_epi32(sum[0][g][t], u, word_of(word_at(x, width, ldx, j, t)));
    }
}

#include "kern/x86/panel_dot.h"

#define PANEL_DOT(name, format) \
    void kern_##name##_panel_dot_avx512(const kern_panel_args *a) { panel_dot(format, panel_forms[format], a); }
PANEL_DOT(q8_0, KERN_Q8_0)
PANEL_DOT(q4_0, KERN_Q4_0)
PANEL_DOT(iq4_nl, KERN_IQ4_NL)
PANEL_DOT(q2_k, KERN_Q2_K)
PANEL_DOT(q3_k, KERN_Q3_K)
PANEL_DOT(q4_k, KERN_Q4_K)
PANEL_DOT(q5_k, KERN_Q5_K)
PANEL_DOT(q6_k, KERN_Q6_K)
PANEL_DOT(iq4_xs, KERN_IQ4_XS)
PANEL_DOT(int2, KERN_INT2)
PANEL_DOT(int3, KERN_INT3)
PANEL_DOT(int4, KERN_INT4)
PANEL_DOT(int5, KERN_INT5)
PANEL_DOT(int6, KERN_INT6)
PANEL_DOT(int7, KERN_INT7)
PANEL_DOT(int8, KERN_INT8)
