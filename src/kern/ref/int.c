/* intBgG, docs/format.md section 3.3:  | d: bf16 | meta: g bytes | chunk 0 | chunk 1 | ...
 * A chunk of 32 codes is planes of 4, 2 and 1 bits: 16 bytes if B has a 4, 8 if it has a 2, 4 if it has a 1; B = 8: bytes.
 *     c4: byte i mod 16, nibble i div 16    c2: byte i mod 8, bits 2 (i div 8)    c1: byte i mod 4, bit i div 4 */
#include "base/checked.h"
#include "base/f16.h"
#include "kern/blocks.h"
#include "kern/ref/ref.h"

static void unpack(const uint8_t *row, size_t n_chunks, uint32_t group, unsigned bits, int8_t *q, float *s, float *m) {
    const size_t chunks_per_group = kern_int_group(group) / 32, n_groups = div_up(n_chunks, chunks_per_group);
    const float d = bf16_to_f32(read_u16(row));
    const uint8_t *meta = row + 2, *p = meta + n_groups;
    for (size_t c = 0; c < n_chunks; c++) {
        uint8_t b = meta[c / chunks_per_group];
        s[c] = d * kern_int_scale[b >> 3];
        m[c] = s[c] * kern_int_offset(b & 7, bits, group); /* the offset itself is exact */
    }
    for (size_t c = 0; c < n_chunks; c++, q += 32, p += 4 * bits) {
        const uint8_t *p2 = p + (bits & 4 ? 16 : 0), *p1 = p2 + (bits & 2 ? 8 : 0);
        for (unsigned i = 0; i < 32; i++) {
            int code = 0, shift = 0;
            if (bits == 8) code = p[i];
            if (bits & 4) code = p[i % 16] >> 4 * (i / 16) & 15, shift = 4;
            if (bits & 2) code |= (p2[i % 8] >> 2 * (i / 8) & 3) << shift, shift += 2;
            if (bits & 1) code |= (p1[i % 4] >> i / 4 & 1) << shift;
            q[i] = (int8_t)(code - (1 << (bits - 1)));
        }
    }
}

void kern_int2_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    unpack(row, n_chunks, group, 2, q, s, m);
}
void kern_int3_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    unpack(row, n_chunks, group, 3, q, s, m);
}
void kern_int4_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    unpack(row, n_chunks, group, 4, q, s, m);
}
void kern_int5_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    unpack(row, n_chunks, group, 5, q, s, m);
}
void kern_int6_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    unpack(row, n_chunks, group, 6, q, s, m);
}
void kern_int7_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    unpack(row, n_chunks, group, 7, q, s, m);
}
void kern_int8_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    unpack(row, n_chunks, group, 8, q, s, m);
}
