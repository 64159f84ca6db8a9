/* intBgG: planes of 4, 2 and 1 bits; scales eight groups at a time, then repeated for the chunks of each group. */
#include "base/checked.h"
#include "kern/blocks.h"

KERN_INLINE void store_some(float *dst, size_t room, vf v) {
    float t[8];
    if (room >= 8) {
        f_store(dst, v);
        return;
    }
    f_store(t, v);
    memcpy(dst, t, room * sizeof *dst);
}

/* Eight meta bytes are loaded even when fewer groups remain: at least 8 bytes of codes follow them. */
KERN_INLINE void scales(const uint8_t *meta, size_t n_chunks, uint32_t group, unsigned bits, float d, float *s, float *m) {
    static const uint64_t first[3] = {0x0706050403020100u, 0x0303020201010000u, 0x0101010100000000u}; /* groups of the first eight chunks */
    const int log_cpg = kern_int_group(group) == 32 ? 0 : kern_int_group(group) == 64 ? 1 : 2;
    float offset[8], scale[8], min[8];
    for (unsigned z = 0; z < 8; z++) offset[z] = kern_int_offset(z, bits, group);
    for (size_t c = 0; c < n_chunks; meta += 8) {
        const vi b = i_of_bytes(x_load(meta));
        const vf e = f_mul(f_set1(d), f_table32(kern_int_scale, v_shr(b, 3)));
        f_store(scale, e);
        f_store(min, f_mul(e, f_table8(offset, b)));
        uint64_t groups = first[log_cpg];
        for (unsigned k = 0; k < 1u << log_cpg && c < n_chunks; k++, c += 8, groups += (8u >> log_cpg) * 0x0101010101010101u) {
            store_some(s + c, n_chunks - c, f_table8(scale, i_of_bytes(x_set(groups))));
            store_some(m + c, n_chunks - c, f_table8(min, i_of_bytes(x_set(groups))));
        }
    }
}

KERN_INLINE void unpack(const uint8_t *row, size_t n_chunks, uint32_t group, int bits, int8_t *q, float *s, float *m) {
    const size_t n_groups = div_up(n_chunks, kern_int_group(group) / 32);
    const uint8_t *meta = row + 2, *p = meta + n_groups;
    const int shift1 = bits & 6;
    scales(meta, n_chunks, group, (unsigned)bits, bf16_to_f32(read_u16(row)), s, m);
#pragma GCC unroll 4
    for (size_t c = 0; c < n_chunks; c++, q += 32, p += 4 * bits) {
        vi code = bits == 8 ? v_load(p) : bits & 4 ? v_plane4(p) : v_plane2(p);
        if ((bits & 6) == 6) code = v_or(code, v_shl(v_plane2(p + 16), 4));
        if (bits & 1) code = v_or(code, v_shl(v_plane1(p + 4 * shift1), shift1));
        v_store(q, v_sub(code, 1 << (bits - 1)));
    }
}

#define UNPACK(name, bits) \
    void KERN_ISA(kern_##name##_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) { \
        unpack(row, n_chunks, group, bits, q, s, m); \
    }
UNPACK(int2, 2)
UNPACK(int3, 3)
UNPACK(int4, 4)
UNPACK(int5, 5)
UNPACK(int6, 6)
UNPACK(int7, 7)
UNPACK(int8, 8)
