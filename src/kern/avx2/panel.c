/* Dots with panels: eight rows in a register.
 *
 * maddubs multiplies unsigned codes by signed activations and adds neighbours into int16, where |sum| <= 2 * 127 * (2^B - 1): so
 * as many of these as int16 holds are added there before they are widened, all eight of a chunk for codes of up to 4 bits.
 * Codes of 8 bits would overflow: they are made signed again, and the activation gets their sign. */
#include "kern/avx2/vector.h"

#include "kern/blocks.h"

enum { MAX_TOKENS = 4 };

KERN_INLINE vi v_load(const uint8_t *p) { return load_i(p); }
KERN_INLINE void v_store(uint8_t *p, vi v) { store_i(p, v); }
KERN_INLINE vi v_and(vi a, int bits) { return _mm256_and_si256(a, bytes(bits)); }
KERN_INLINE vi v_or(vi a, vi b) { return _mm256_or_si256(a, b); }
KERN_INLINE vi v_sub(vi a, int n) { return _mm256_sub_epi8(a, bytes(n)); }
KERN_INLINE vi v_shr(vi a, int n) { return _mm256_srli_epi16(a, n); }
KERN_INLINE vi v_shl(vi a, int n) { return _mm256_slli_epi16(a, n); }
KERN_INLINE vi v_of_bytes(const uint8_t *p) { return _mm256_cvtepu8_epi32(load_i64(p)); }
KERN_INLINE vf f_table8(const float *t, vi z) { return _mm256_permutevar8x32_ps(f_load(t), z); }
/* Four tables of 8, chosen by bits 3 and 4 (moved to the sign). */
KERN_INLINE vf f_table32(const float *t, vi e) {
    vf a = f_table8(t, e), b = f_table8(t + 8, e), c = f_table8(t + 16, e), d = f_table8(t + 24, e);
    vf bit3 = _mm256_castsi256_ps(_mm256_slli_epi32(e, 28)), bit4 = _mm256_castsi256_ps(_mm256_slli_epi32(e, 27));
    return _mm256_blendv_ps(_mm256_blendv_ps(a, b, bit3), _mm256_blendv_ps(c, d, bit3), bit4);
}
KERN_INLINE vi v_iq4(vi u) {
    const __m256i t = _mm256_xor_si256(_mm256_broadcastsi128_si256(load_i128(kern_iq4_values)), bytes(-128));
    return _mm256_shuffle_epi8(t, u);
}

#define BIAS(class_bits) ((class_bits) == 8 ? 128 : 0)
#include "kern/x86/panel_codes.h"

/* Keeps the compiler from turning sums that run in a register into trees of spilled ones. */
#define STAY(v) __asm__("" : "+x"(v))

KERN_INLINE vi word_of(const int8_t *p) { return _mm256_set1_epi32((int)read_u32((const uint8_t *)p)); }

KERN_INLINE void dot_words(const panel_form f, int class_bits, int T, const uint8_t *p, int j0, int n, const int8_t *x, int width,
                           size_t ldx, vi *sum) {
    const int run = class_bits <= 4 ? 8 : class_bits == 5 ? 4 : class_bits == 6 ? 2 : 1; /* maddubs that int16 can add */
    const vi ones = _mm256_set1_epi16(1);
    vi part[MAX_TOKENS];
#pragma GCC unroll 16
    for (int j = 0; j < n; j++) {
        vi u = code_of(f, p, j0 + j), magnitude = u;
        if (BIAS(class_bits)) {
            u = _mm256_xor_si256(u, bytes(-128));
            magnitude = _mm256_abs_epi8(u);
        }
#pragma GCC unroll 16
        for (int t = 0; t < T; t++) {
            vi w = word_of(word_at(x, width, ldx, j0 + j, t));
            if (BIAS(class_bits)) w = _mm256_sign_epi8(w, u);
            vi product = _mm256_maddubs_epi16(magnitude, w);
            part[t] = j % run == 0 ? product : _mm256_add_epi16(part[t], product);
            STAY(part[t]);
            if ((j + 1) % run == 0 || j + 1 == n) {
                vi wide = _mm256_madd_epi16(part[t], ones);
                sum[t] = j < run ? wide : _mm256_add_epi32(sum[t], wide);
                STAY(sum[t]);
            }
        }
    }
}

#include "kern/x86/panel_dot.h"

#define PANEL_DOT(name, format) \
    void kern_##name##_panel_dot_avx2(const kern_panel_args *a) { panel_dot(format, panel_forms[format], a); }
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
