/* Steps of the searches for trellis codes. */
#include "kern/neon/vec.h"

/* Eight states at a time, which follow 8 >> in nodes that stand side by side. */
unsigned kern_tcq_step_neon(const uint16_t *level, int bits, int in, int out, int x, unsigned weight, const uint16_t *m, unsigned off, uint16_t *next) {
    enum { MANY = 8 };
    const size_t n_nodes = (size_t)1 << (bits - out);
    const int16x8_t at = vdupq_n_s16((int16_t)x);
    const uint16x8_t most = vdupq_n_u16(255), w = vdupq_n_u16((uint16_t)weight), less = vdupq_n_u16((uint16_t)off);
    uint8_t bytes_of_nodes[2 * MANY];
    for (int i = 0; i < 2 * MANY; i++) bytes_of_nodes[i] = (uint8_t)(2 * (i / 2 >> in) + i % 2);
    const uint8x16_t spread = vld1q_u8(bytes_of_nodes);
    uint16x8_t least = vdupq_n_u16(65535);
    for (size_t n = 0; n < n_nodes; n += MANY) {
        uint16x8_t best = vdupq_n_u16(65535);
        for (size_t y = n; y < (size_t)1 << bits; y += n_nodes) {
            const uint16x8_t miss = vminq_u16(vreinterpretq_u16_s16(vabdq_s16(vreinterpretq_s16_u16(vld1q_u16(level + y)), at)), most);
            const uint16x8_t square = vmulq_u16(miss, miss);
            const uint16x8_t cost = vuzp2q_u16(vreinterpretq_u16_u32(vmull_u16(vget_low_u16(square), vget_low_u16(w))),
                                               vreinterpretq_u16_u32(vmull_high_u16(square, w)));
            const uint16x8_t from = vreinterpretq_u16_u8(vqtbl1q_u8(vreinterpretq_u8_u16(vld1q_u16(m + (y >> in))), spread));
            best = vminq_u16(best, vqaddq_u16(from, cost));
        }
        best = vqsubq_u16(best, less);
        vst1q_u16(next + n, best);
        least = vminq_u16(least, best);
    }
    return vminvq_u16(least);
}

enum { MANY = 16 };

/* 16 bytes that may come next at a time. */

void kern_tcqf_step_neon(const uint8_t *nibble, const uint8_t cost[4][16], int shift, const uint16_t m[256], uint16_t next[256]) {
    const int16x8_t up = vdupq_n_s16((int16_t)shift);
    uint8x16_t table[4];
    uint16x8_t least = vdupq_n_u16(65535);
    for (int i = 0; i < 4; i++) table[i] = vld1q_u8(cost[i]);
    for (size_t b = 0; b < 256; b += MANY) {
        uint16x8_t low = vdupq_n_u16(65535), high = low;
        for (size_t a = 0; a < 256; a++) {
            const uint8_t *at = nibble + 256 * a + b;
            uint8x16_t e = vqtbl1q_u8(table[0], vld1q_u8(at));
            for (size_t i = 1; i < 4; i++) e = vqaddq_u8(e, vqtbl1q_u8(table[i], vld1q_u8(at + 65536 * i)));
            const uint16x8_t before = vdupq_n_u16(m[a]);
            low = vminq_u16(low, vqaddq_u16(before, vshlq_u16(vmovl_u8(vget_low_u8(e)), up)));
            high = vminq_u16(high, vqaddq_u16(before, vshlq_u16(vmovl_high_u8(e), up)));
        }
        least = vminq_u16(least, vminq_u16(low, high));
        vst1q_u16(next + b, low);
        vst1q_u16(next + b + 8, high);
    }
    const uint16x8_t off = vdupq_n_u16(vminvq_u16(least));
    for (size_t b = 0; b < 256; b += 8) vst1q_u16(next + b, vsubq_u16(vld1q_u16(next + b), off));
}
