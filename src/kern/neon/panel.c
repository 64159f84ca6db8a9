/* Dots with panels: eight rows in a pair of registers, and sdot, which multiplies signed codes by signed activations and adds four
 * neighbours into int32 at once; it takes the activations' word from any place in a register, so that one load serves four words of a
 * token, or one word of four tokens of a tile. */
#include "kern/neon/vec.h"

#include "kern/simd/panel_codes.h"

enum { MAX_TOKENS = 4, MAX_HALVES = 1, MAX_FUSED = 4 };

KERN_INLINE size_t few_tiles(const panel_form f) { return 8 * KERN_Q8_TILE; }
KERN_INLINE int bias(const panel_form f, int class_bits) { return class_bits == 8 ? BIAS : 0; }

KERN_INLINE uint8x16_t sdot(uint8x16_t sum, uint8x16_t codes, int8x16_t x, int word) { /* word is a constant only after inlining */
    const int32x4_t s = INTS(sum);
    const int8x16_t u = vreinterpretq_s8_u8(codes);
    return BYTES_OF(word == 0 ? vdotq_laneq_s32(s, u, x, 0) : word == 1 ? vdotq_laneq_s32(s, u, x, 1)
                    : word == 2 ? vdotq_laneq_s32(s, u, x, 2) : vdotq_laneq_s32(s, u, x, 3));
}

KERN_INLINE void dot_words(const panel_form f, int class_bits, int H, int T, const uint8_t *p, size_t half, const int8_t *x, int width,
                           size_t ldx, vi sum[][2][MAX_TOKENS]) {
    vi set[8];
    int8x16_t w[2][MAX_TOKENS];
#pragma GCC unroll 16
    for (int t = 0; t < T; t++) sum[0][0][t] = sum[0][1][t] = i_set1(0);
#pragma GCC unroll 16
    for (int i = 0; i < 8; i++) {
        const int j = word_at_turn(f, i), g = 4 * j / f.group;
        load_sets(f, p, j, set);
        const vi u = code_of(f, set, j);
        if (width > 1) w[0][0] = vld1q_s8(word_at(x, width, ldx, j, 0));
#pragma GCC unroll 16
        for (int t = 0; t < T; t++) {
            if (width == 1 && j % 4 == 0) w[j / 4][t] = vld1q_s8(word_at(x, 1, ldx, j, t));
            const int8x16_t v = width == 1 ? w[j / 4][t] : w[0][0];
            const int word = width == 1 ? j % 4 : t;
            vi *s = &sum[0][g][t];
            *s = (vi){sdot(s->lo, u.lo, v, word), sdot(s->hi, u.hi, v, word)};
        }
    }
}

#include "kern/simd/panel_dot.h"
