/* q8_0, q4_0: ggml's blocks of 32 with one f16 scale. w = d * q. And the same with an f32, or two: the codes
 * that rows of other forms unpack to. */
#include "base/f16.h"
#include "kern/blocks.h"
#include "kern/ref/ref.h"

void kern_q8_0_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c < n_chunks; c++, row += Q8_0_BYTES, q += 32) {
        s[c] = f16_to_f32(read_u16(row));
        memcpy(q, row + Q8_0_QS, 32);
    }
}

void kern_q4_0_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c < n_chunks; c++, row += Q4_0_BYTES, q += 32) {
        s[c] = f16_to_f32(read_u16(row));
        for (int i = 0; i < 16; i++) {
            uint8_t b = row[Q4_0_QS + i];
            q[i] = (int8_t)((b & 15) - 8);
            q[i + 16] = (int8_t)((b >> 4) - 8);
        }
    }
}

void kern_codes_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c < n_chunks; c++, row += CODES_BYTES, q += 32) {
        memcpy(s + c, row, sizeof *s);
        memcpy(q, row + CODES_Q, 32);
    }
}

void kern_codes16_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c < n_chunks; c++, row += CODES_PAIR_BYTES, q += 32) {
        memcpy(s + 2 * c, row, 2 * sizeof *s);
        memcpy(q, row + CODES_PAIR_Q, 32);
    }
}

void kern_codes_min_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c < n_chunks; c++, row += CODES_PAIR_BYTES, q += 32) {
        memcpy(s + c, row, sizeof *s);
        memcpy(m + c, row + sizeof *s, sizeof *m);
        memcpy(q, row + CODES_PAIR_Q, 32);
    }
}
