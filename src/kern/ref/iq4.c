/* iq4_nl, iq4_xs: 4-bit codes into a fixed table of 16 values; iq4_xs has 6-bit sub-scales under one f16. */
#include "base/f16.h"
#include "kern/blocks.h"
#include "kern/ref/ref.h"

static void look_up(const uint8_t *qs, int8_t *q) { /* 16 bytes -> 32 codes, low nibbles first */
    for (int i = 0; i < 16; i++) {
        q[i] = kern_iq4_values[qs[i] & 15];
        q[i + 16] = kern_iq4_values[qs[i] >> 4];
    }
}

void kern_iq4_nl_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c < n_chunks; c++, row += IQ4_NL_BYTES, q += 32) {
        s[c] = f16_to_f32(read_u16(row));
        look_up(row + IQ4_NL_QS, q);
    }
}

/* Sub-scale of 32 weights: ls = low nibble in scales_l | 2 high bits in scales_h << 4;  s = d * (ls - 32). */
void kern_iq4_xs_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += IQ4_XS_BYTES) {
        float d = f16_to_f32(read_u16(row + IQ4_XS_D));
        uint32_t high = read_u16(row + IQ4_XS_SCALES_H);
        for (int i = 0; i < 8; i++, q += 32) {
            int ls = (row[IQ4_XS_SCALES_L + i / 2] >> 4 * (i % 2) & 15) | (int)(high >> 2 * i & 3) << 4;
            s[c + i] = d * (float)(ls - 32);
            look_up(row + IQ4_XS_QS + 16 * i, q);
        }
    }
}
