/* iq4_nl, iq4_xs: the table of 16 values is one byte shuffle. */
#include "kern/blocks.h"

KERN_INLINE void look_up(const uint8_t *qs, int8_t *q) { v_store(q, v_iq4(v_plane4(qs))); }

void KERN_ISA(kern_iq4_nl_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c < n_chunks; c++, row += IQ4_NL_BYTES) {
        s[c] = half(row);
        look_up(row + IQ4_NL_QS, q + 32 * c);
    }
}

/* scales_l is eight nibbles and scales_h eight pairs, both in order: halves of what is left move up until each stands in a byte. */
KERN_INLINE uint64_t spread_nibbles(uint64_t v) {
    v = (v | v << 16) & 0x0000ffff0000ffffu;
    v = (v | v << 8) & 0x00ff00ff00ff00ffu;
    return (v | v << 4) & 0x0f0f0f0f0f0f0f0fu;
}
KERN_INLINE uint64_t spread_pairs(uint64_t v) {
    v = (v | v << 24) & 0x000000ff000000ffu;
    v = (v | v << 12) & 0x000f000f000f000fu;
    return (v | v << 6) & 0x0303030303030303u;
}

void KERN_ISA(kern_iq4_xs_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += IQ4_XS_BYTES) {
        uint64_t ls = spread_nibbles(read_u32(row + IQ4_XS_SCALES_L)) | spread_pairs(read_u16(row + IQ4_XS_SCALES_H)) << 4;
        f_store(s + c, f_mul(f_set1(half(row + IQ4_XS_D)), f_of_signed(x_sub(x_set(ls), 32))));
        for (int j = 0; j < 8; j++) look_up(row + IQ4_XS_QS + 16 * j, q + 32 * (c + (size_t)j));
    }
}
