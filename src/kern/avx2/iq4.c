/* iq4_nl, iq4_xs: the table of 16 values is one byte shuffle. */
#include "kern/avx2/avx2.h"
#include "kern/blocks.h"

KERN_INLINE void look_up(const uint8_t *qs, int8_t *q) {
    const __m256i table = _mm256_broadcastsi128_si256(load_i128(kern_iq4_values));
    const __m256i shift = _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4);
    __m256i v = _mm256_srlv_epi32(_mm256_broadcastsi128_si256(load_i128(qs)), shift);
    store_i(q, _mm256_shuffle_epi8(table, _mm256_and_si256(v, bytes(15))));
}

void kern_iq4_nl_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c < n_chunks; c++, row += IQ4_NL_BYTES) {
        s[c] = half(row);
        look_up(row + IQ4_NL_QS, q + 32 * c);
    }
}

/* scales_l is eight nibbles and scales_h eight pairs, both in order: two variable shifts. */
void kern_iq4_xs_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    const __m256i i = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += IQ4_XS_BYTES) {
        __m256i low = _mm256_set1_epi32((int)read_u32(row + IQ4_XS_SCALES_L));
        __m256i high = _mm256_set1_epi32(read_u16(row + IQ4_XS_SCALES_H));
        low = _mm256_and_si256(_mm256_srlv_epi32(low, _mm256_slli_epi32(i, 2)), _mm256_set1_epi32(15));
        high = _mm256_and_si256(_mm256_srlv_epi32(high, _mm256_slli_epi32(i, 1)), _mm256_set1_epi32(3));
        __m256i ls = _mm256_or_si256(low, _mm256_slli_epi32(high, 4));
        __m256 f = _mm256_cvtepi32_ps(_mm256_sub_epi32(ls, _mm256_set1_epi32(32)));
        _mm256_storeu_ps(s + c, _mm256_mul_ps(_mm256_set1_ps(half(row + IQ4_XS_D)), f));
        for (int j = 0; j < 8; j++) look_up(row + IQ4_XS_QS + 16 * j, q + 32 * (c + j));
    }
}
