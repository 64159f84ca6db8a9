/* Vectors of codes with a scale each, the form that lowrank and dict store factors in (docs/format.md 3.4):
 *     | d: bf16 | chunk 0 | chunk 1 | ... |    a number is d times its code */
#ifndef CODEC_VECTORS_H
#define CODEC_VECTORS_H
#include <math.h>

#include "base/checked.h"
#include "base/f16.h"
#include "codec/planes.h"

enum { VECTOR_CHUNK = 32 };

static inline uint64_t vector_bytes(unsigned bits, uint64_t n) { return 2 + 4 * bits * div_up(n, VECTOR_CHUNK); }

/* x are d times whole numbers in range. Returns where the next one begins. */
static inline uint8_t *vector_pack(unsigned bits, uint64_t n, const float *x, float d, uint8_t *dst) {
    write_u16(dst, f32_to_bf16(d));
    dst += 2;
    for (uint64_t i = 0; i < n; i += VECTOR_CHUNK, dst += 4 * bits) {
        int8_t q[VECTOR_CHUNK] = {0};
        for (unsigned k = 0; k < VECTOR_CHUNK && i + k < n && d != 0; k++) q[k] = (int8_t)lrintf(x[i + k] / d);
        planes_pack(q, bits, dst);
    }
    return dst;
}

/* n numbers from i on, i a multiple of VECTOR_CHUNK, of the vector at src. */
static inline void vector_unpack(const uint8_t *src, unsigned bits, uint64_t i, size_t n, float *dst) {
    const float d = bf16_to_f32(read_u16(src));
    src += 2 + i / VECTOR_CHUNK * 4 * bits;
    for (size_t c = 0; c < n; c += VECTOR_CHUNK, src += 4 * bits) {
        int8_t q[VECTOR_CHUNK];
        const size_t len = n - c < VECTOR_CHUNK ? n - c : VECTOR_CHUNK;
        planes_unpack(src, bits, q);
        for (size_t k = 0; k < len; k++) dst[c + k] = d * (float)q[k];
    }
}
#endif
