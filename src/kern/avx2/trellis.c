/* Steps of the searches for trellis codes. */
#include "kern/avx2/vec.h"

/* 16 states at a time, which follow 16 >> in nodes that stand side by side. */
KERN_INLINE unsigned tcq_step(const uint16_t *level, int bits, int in, int out, int x, unsigned weight, const uint16_t *m, unsigned off, uint16_t *next) {
    enum { MANY = 16 };
    const size_t n_nodes = (size_t)1 << (bits - out);
    const vi at = _mm256_set1_epi16((short)x), most = _mm256_set1_epi16(255), w = _mm256_set1_epi16((short)weight), less = _mm256_set1_epi16((short)off);
    uint8_t bytes_of_nodes[2 * MANY];
    for (int i = 0; i < 2 * MANY; i++) bytes_of_nodes[i] = (uint8_t)(2 * (i / 2 >> in) + i % 2);
    const vi spread = load_i(bytes_of_nodes);
    vi least = bytes(-1);
    for (size_t n = 0; n < n_nodes; n += MANY) {
        vi best = bytes(-1);
        for (size_t y = n; y < (size_t)1 << bits; y += n_nodes) {
            const vi miss = _mm256_min_epu16(_mm256_abs_epi16(_mm256_sub_epi16(load_i(level + y), at)), most);
            const vi from = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_i128(m + (y >> in))), spread);
            best = _mm256_min_epu16(best, _mm256_adds_epu16(from, _mm256_mulhi_epu16(_mm256_mullo_epi16(miss, miss), w)));
        }
        best = _mm256_subs_epu16(best, less);
        store_i(next + n, best);
        least = _mm256_min_epu16(least, best);
    }
    const __m128i eight = _mm_min_epu16(_mm256_castsi256_si128(least), _mm256_extracti128_si256(least, 1));
    return (unsigned)_mm_extract_epi16(_mm_minpos_epu16(eight), 0);
}
unsigned kern_tcq_step_avx2(const uint16_t *level, int bits, int in, int out, int x, unsigned weight, const uint16_t *m, unsigned off, uint16_t *next) {
    switch (out) { /* loops over so few are best unrolled */
    case 1: return tcq_step(level, bits, in, 1, x, weight, m, off, next);
    case 2: return tcq_step(level, bits, in, 2, x, weight, m, off, next);
    case 3: return tcq_step(level, bits, in, 3, x, weight, m, off, next);
    default: return tcq_step(level, bits, in, out, x, weight, m, off, next);
    }
}

enum { MANY = 32 };

/* 32 bytes that may come next at a time, their costs in two registers of 16 halves. */

void kern_tcqf_step_avx2(const uint8_t *nibble, const uint8_t cost[4][16], int shift, const uint16_t m[256], uint16_t next[256]) {
    const vi zero = _mm256_setzero_si256();
    const __m128i up = _mm_cvtsi32_si128(shift);
    vi table[4], least = bytes(-1);
    for (int i = 0; i < 4; i++) table[i] = _mm256_broadcastsi128_si256(load_i128(cost[i]));
    for (size_t b = 0; b < 256; b += MANY) {
        vi low = bytes(-1), high = bytes(-1);
        for (size_t a = 0; a < 256; a++) {
            const uint8_t *at = nibble + 256 * a + b;
            vi e = _mm256_shuffle_epi8(table[0], load_i(at));
            for (size_t i = 1; i < 4; i++) e = _mm256_adds_epu8(e, _mm256_shuffle_epi8(table[i], load_i(at + 65536 * i)));
            const vi before = _mm256_set1_epi16((short)m[a]);
            low = _mm256_min_epu16(low, _mm256_adds_epu16(before, _mm256_sll_epi16(_mm256_unpacklo_epi8(e, zero), up)));
            high = _mm256_min_epu16(high, _mm256_adds_epu16(before, _mm256_sll_epi16(_mm256_unpackhi_epi8(e, zero), up)));
        }
        least = _mm256_min_epu16(least, _mm256_min_epu16(low, high));
        store_i(next + b, _mm256_permute2x128_si256(low, high, 0x20));
        store_i(next + b + 16, _mm256_permute2x128_si256(low, high, 0x31));
    }
    const __m128i eight = _mm_min_epu16(_mm256_castsi256_si128(least), _mm256_extracti128_si256(least, 1));
    const vi off = _mm256_set1_epi16((short)_mm_extract_epi16(_mm_minpos_epu16(eight), 0));
    for (size_t b = 0; b < 256; b += 16) store_i(next + b, _mm256_sub_epi16(load_i(next + b), off));
}
