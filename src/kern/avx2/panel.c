/* Dots with panels: eight rows in a register.
 *
 * maddubs multiplies unsigned codes by signed activations and adds neighbours into int16, where |sum| <= 2 * 127 * (2^B - 1): so
 * as many of these as int16 holds are added there before they are widened, all eight of a chunk for codes of up to 4 bits.
 * Codes of 8 bits would overflow: they are made signed again, and the activation gets their sign. A few tokens take the table's values
 * as sums of two small codes instead, for which these steps are fewer. */
#include "kern/avx2/vector.h"

#include "kern/blocks.h"
#include "kern/panel.h"

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

KERN_INLINE vi v_once(const uint8_t *p) {
    vi v = v_load(p);
    __asm__("" : "+x"(v));
    return v;
}
KERN_INLINE vi v_select(int bits, vi a, vi b) { return v_or(v_and(a, bits), v_and(b, ~bits)); }

KERN_INLINE int bias(const panel_form f, int class_bits) { return class_bits == 8 && !f.table ? 128 : 0; }
#include "kern/x86/panel_codes.h"

/* The table is almost a line: its value + 128 is 15 u and this, at most 19. */
KERN_INLINE vi iq4_remainder(vi u) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_setr_epi8(1, 9, 15, 18, 19, 18, 16, 13, 9, 6, 3, 1, 1, 2, 7, 16)), u);
}

/* Keeps the compiler from turning sums that run in a register into trees of spilled ones. */
#define STAY(v) __asm__("" : "+x"(v))

KERN_INLINE vi word_of(const int8_t *p) { return _mm256_set1_epi32((int)read_u32((const uint8_t *)p)); }

KERN_INLINE void dot_words(const panel_form f, int class_bits, int H, int T, const uint8_t *p, size_t half, const int8_t *x, int width,
                           size_t ldx, vi sum[][2][MAX_TOKENS]) {
    const int parts = f.table ? 2 : 1, n = f.group / 4;
    vi set[2][8], part[2][2][2][MAX_TOKENS]; /* halves; parts, halves, groups, tokens */
#pragma GCC unroll 16
    for (int i = 0; i < 8; i++) {
        const int j = word_at_turn(f, i), g = j / n;
        const int r = word_at_turn(f, 1) == 1 ? i % n : i * n / 8; /* how many of its group's words were there before */
#pragma GCC unroll 2
        for (int h = 0; h < H; h++) {
            load_sets(f, p + (size_t)h * half, j, set[h]);
#pragma GCC unroll 2
            for (int k = 0; k < parts; k++) {
                const int bits = !f.table ? class_bits : k == 0 ? 5 : 4; /* of a code that is multiplied; the table: the remainder, u */
                const int run = bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1; /* maddubs that int16 can add */
                const int weight = f.table && k ? 15 : 1;
                vi u = f.table ? nibble(set[h], j) : code_of(f, set[h], j);
                if (f.table && k == 0) u = iq4_remainder(u);
                vi magnitude = u;
                if (bias(f, class_bits)) {
                    u = _mm256_xor_si256(u, bytes(-128));
                    magnitude = _mm256_abs_epi8(u);
                }
#pragma GCC unroll 16
                for (int t = 0; t < T; t++) {
                    vi w = word_of(word_at(x, width, ldx, j, t)), *at = &part[k][h][g][t];
                    if (bias(f, class_bits)) w = _mm256_sign_epi8(w, u);
                    vi product = _mm256_maddubs_epi16(magnitude, w);
                    *at = r % run == 0 ? product : _mm256_add_epi16(*at, product);
                    STAY(*at);
                    if ((r + 1) % run == 0 || r + 1 == n) {
                        vi wide = _mm256_madd_epi16(*at, _mm256_set1_epi16((short)weight));
                        sum[h][g][t] = k == 0 && r < run ? wide : _mm256_add_epi32(sum[h][g][t], wide);
                        STAY(sum[h][g][t]);
                    }
                }
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
