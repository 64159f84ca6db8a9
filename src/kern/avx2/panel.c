/* Dots with panels: eight rows in a register.
 *
 * maddubs multiplies unsigned codes by signed activations and adds neighbours into int16, where |sum| <= 2 * 127 * (2^B - 1): so
 * as many of these as int16 holds are added there before they are widened, all eight of a chunk for codes of up to 4 bits.
 * Codes of 8 bits would overflow: they are signed, and the activation gets their sign. */
#include "kern/avx2/vec.h"

enum { MAX_TOKENS = 4 };

#include "kern/simd/panel_codes.h"

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
        vi u = code_of(f, p, j0 + j), magnitude = BIAS(class_bits) ? _mm256_abs_epi8(u) : u;
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

#include "kern/simd/panel_dot.h"
