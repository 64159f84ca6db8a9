/* q8_0, q4_0. */
#include "kern/avx2/avx2.h"
#include "kern/blocks.h"

void kern_q8_0_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c < n_chunks; c++, row += Q8_0_BYTES) {
        s[c] = half(row);
        store_i(q + 32 * c, load_i(row + Q8_0_QS));
    }
}

void kern_q4_0_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    const __m256i shift = _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4); /* the upper half takes the high nibbles */
    for (size_t c = 0; c < n_chunks; c++, row += Q4_0_BYTES) {
        s[c] = half(row);
        __m256i v = _mm256_srlv_epi32(_mm256_broadcastsi128_si256(load_i128(row + Q4_0_QS)), shift);
        store_i(q + 32 * c, _mm256_sub_epi8(_mm256_and_si256(v, bytes(15)), bytes(8)));
    }
}
