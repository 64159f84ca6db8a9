/* A step of the search for trellis codes: 16 bytes that may come next at a time. */
#include "kern/neon/vec.h"

enum { MANY = 16 };

void kern_tcq2_step_neon(const uint8_t *nibble, const uint8_t cost[4][16], int shift, const uint16_t m[256], uint16_t next[256]) {
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
