/* Dots with panels: eight rows in a register.
 *
 * maddubs multiplies unsigned codes by signed activations and adds neighbours into int16, where |sum| <= 2 * 127 * (2^B - 1): so
 * as many of these as int16 holds are added there before they are widened, all eight of a chunk for codes of up to 4 bits.
 * Codes of 8 bits would overflow: they are signed, and the activation gets their sign. A few tokens take the table's values + 128 as
 * sums of two small codes instead, for which these steps are fewer. */
#include "kern/avx2/vec.h"

#include "kern/simd/panel_codes.h"

enum { MAX_TOKENS = 4, MAX_HALVES = 2, MAX_FUSED = 4 };

KERN_INLINE size_t few_tiles(const panel_form f) { return (f.trellis ? 1 : 2) * KERN_Q8_TILE; }
KERN_INLINE int bias(const panel_form f, int class_bits) { return class_bits == 8 && !f.table ? BIAS : 0; }

/* The table is almost a line: its value + 128 is 15 u and this, at most 19. */
KERN_INLINE vi iq4_remainder(vi u) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_setr_epi8(1, 9, 15, 18, 19, 18, 16, 13, 9, 6, 3, 1, 1, 2, 7, 16)), u);
}

KERN_INLINE vi word_of(const int8_t *p) { return _mm256_set1_epi32((int)read_u32((const uint8_t *)p)); }

/* v_stay keeps the compiler from turning sums that run in a register into trees of spilled ones. */
KERN_INLINE void dot_words(const panel_form f, int class_bits, int H, int T, const uint8_t *p, size_t half, const int8_t *x, int width,
                           size_t ldx, vi sum[][2][MAX_TOKENS]) {
    const int parts = f.table ? 2 : 1, n = f.group / 4;
    vi set[MAX_HALVES][8], part[2][MAX_HALVES][2][MAX_TOKENS]; /* parts, halves, groups, tokens */
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
                vi u = f.table ? nibble(set[h], j) : code_of(f, set[h], j);
                if (f.table && k == 0) u = iq4_remainder(u);
                const vi magnitude = bias(f, class_bits) ? _mm256_abs_epi8(u) : u;
#pragma GCC unroll 16
                for (int t = 0; t < T; t++) {
                    vi w = word_of(word_at(x, width, ldx, j, t)), *at = &part[k][h][g][t];
                    if (bias(f, class_bits)) w = _mm256_sign_epi8(w, u);
                    vi product = _mm256_maddubs_epi16(magnitude, w);
                    *at = v_stay(r % run == 0 ? product : _mm256_add_epi16(*at, product));
                    if ((r + 1) % run == 0 || r + 1 == n) {
                        vi wide = _mm256_madd_epi16(*at, _mm256_set1_epi16(f.table && k ? 15 : 1));
                        sum[h][g][t] = v_stay(k == 0 && r < run ? wide : i_add(sum[h][g][t], wide));
                    }
                }
            }
        }
    }
}

#define OWN_TILES "kern/avx2/panel_tile.h"
#include "kern/simd/panel_dot.h"
