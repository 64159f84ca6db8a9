/* tq1_0, tq2_0: ggml's blocks of 256 ternary weights under one f16 scale, w = d (code - 1).
 *
 *     tq1_0, 54 bytes:  | 48 bytes: five base-3 digits each | 4 bytes: four each | d: f16 |      places: tq1_place_of
 *     tq2_0, 66 bytes:  | 64 bytes: four pairs of bits each | d: f16 |                           as q2_k has them
 *
 * Four values fit a pair: whoever writes 3 gets 2 d. */
#include "base/f16.h"
#include "kern/blocks.h"
#include "kern/ref/ref.h"

void kern_tq1_0_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += TQ1_0_BYTES, q += 256, s += 8) {
        for (int i = 0; i < 8; i++) s[i] = f16_to_f32(read_u16(row + TQ1_0_D));
        for (unsigned i = 0; i < 256; i++) {
            const tq1_place at = tq1_place_of(i);
            q[i] = (int8_t)((int)tq1_digit(row[at.byte], at.digit) - 1);
        }
    }
}

void kern_tq2_0_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += TQ2_0_BYTES, q += 256, s += 8) {
        for (int i = 0; i < 8; i++) s[i] = f16_to_f32(read_u16(row + TQ2_0_D));
        for (int i = 0; i < 256; i++) q[i] = (int8_t)((row[TQ2_0_QS + i / 128 * 32 + i % 32] >> 2 * (i / 32 % 4) & 3) - 1);
    }
}
