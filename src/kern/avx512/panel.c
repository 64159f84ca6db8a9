/* Dots with panels: sixteen rows in a register, and dpbusd, which multiplies unsigned codes by signed activations and adds four
 * neighbours into int32 at once. */
#include "kern/avx512/vec.h"

#include "kern/simd/panel_codes.h"

enum { MAX_TOKENS = 8, MAX_HALVES = 1, MAX_FUSED = 7 };

KERN_INLINE size_t few_tiles(const panel_form f) { return 8 * KERN_Q8_TILE; }
KERN_INLINE int bias(const panel_form f, int class_bits) { return BIAS; }
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

#include "kern/simd/panel_dot.h"
