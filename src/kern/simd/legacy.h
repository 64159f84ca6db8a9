/* q8_0, q4_0, and the codes that rows of other forms unpack to. */
#include "kern/blocks.h"

void KERN_ISA(kern_q8_0_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c < n_chunks; c++, row += Q8_0_BYTES) {
        s[c] = half(row);
        v_store(q + 32 * c, v_load(row + Q8_0_QS));
    }
}

void KERN_ISA(kern_codes_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c < n_chunks; c++, row += CODES_BYTES) {
        memcpy(s + c, row, sizeof *s);
        v_store(q + 32 * c, v_load(row + CODES_Q));
    }
}

void KERN_ISA(kern_codes16_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c < n_chunks; c++, row += CODES_PAIR_BYTES) {
        memcpy(s + 2 * c, row, 2 * sizeof *s);
        v_store(q + 32 * c, v_load(row + CODES_PAIR_Q));
    }
}

void KERN_ISA(kern_codes_min_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c < n_chunks; c++, row += CODES_PAIR_BYTES) {
        memcpy(s + c, row, sizeof *s);
        memcpy(m + c, row + sizeof *s, sizeof *m);
        v_store(q + 32 * c, v_load(row + CODES_PAIR_Q));
    }
}

void KERN_ISA(kern_q4_0_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c < n_chunks; c++, row += Q4_0_BYTES) {
        s[c] = half(row);
        v_store(q + 32 * c, v_sub(v_plane4(row + Q4_0_QS), 8));
    }
}
