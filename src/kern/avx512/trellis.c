/* Steps of the searches for trellis codes. */
#include "kern/avx512/vec.h"

/* 32 states at a time, which follow 32 >> in nodes that stand side by side. */
KERN_INLINE unsigned tcq_step(const uint16_t *level, int bits, int in, int out, int x, unsigned weight, const uint16_t *m, unsigned off, uint16_t *next) {
    enum { MANY = 32 };
    const size_t n_nodes = (size_t)1 << (bits - out);
    const vi at = _mm512_set1_epi16((short)x), most = _mm512_set1_epi16(255), w = _mm512_set1_epi16((short)weight), less = _mm512_set1_epi16((short)off);
    uint16_t nodes[MANY];
    for (int i = 0; i < MANY; i++) nodes[i] = (uint16_t)(i >> in);
    const vi spread = v_load(nodes);
    vi least = _mm512_set1_epi8(-1);
    for (size_t n = 0; n < n_nodes; n += MANY) {
        vi best = _mm512_set1_epi8(-1);
        for (size_t y = n; y < (size_t)1 << bits; y += n_nodes) {
            const vi miss = _mm512_min_epu16(_mm512_abs_epi16(_mm512_sub_epi16(v_load(level + y), at)), most);
            const vi from = _mm512_permutexvar_epi16(spread, _mm512_castsi256_si512(load_i(m + (y >> in))));
            best = _mm512_min_epu16(best, _mm512_adds_epu16(from, _mm512_mulhi_epu16(_mm512_mullo_epi16(miss, miss), w)));
        }
        best = _mm512_subs_epu16(best, less);
        v_store(next + n, best);
        least = _mm512_min_epu16(least, best);
    }
    const __m256i half = _mm256_min_epu16(_mm512_castsi512_si256(least), _mm512_extracti64x4_epi64(least, 1));
    const __m128i eight = _mm_min_epu16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    return (unsigned)_mm_extract_epi16(_mm_minpos_epu16(eight), 0);
}
unsigned kern_tcq_step_avx512(const uint16_t *level, int bits, int in, int out, int x, unsigned weight, const uint16_t *m, unsigned off, uint16_t *next) {
    switch (out) { /* loops over so few are best unrolled */
    case 1: return tcq_step(level, bits, in, 1, x, weight, m, off, next);
    case 2: return tcq_step(level, bits, in, 2, x, weight, m, off, next);
    case 3: return tcq_step(level, bits, in, 3, x, weight, m, off, next);
    default: return tcq_step(level, bits, in, out, x, weight, m, off, next);
    }
}

enum { MANY = 64 };

/* 64 bytes that may come next at a time, their costs in two registers of 32 halves. */

void kern_tcqf_step_avx512(const uint8_t *nibble, const uint8_t cost[4][16], int shift, const uint16_t m[256], uint16_t next[256]) {
    const vi zero = _mm512_setzero_si512();
    const __m128i up = _mm_cvtsi32_si128(shift);
    const vi first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    vi table[4], least = _mm512_set1_epi8(-1);
    for (int i = 0; i < 4; i++) table[i] = _mm512_broadcast_i32x4(load_i128(cost[i]));
    for (size_t b = 0; b < 256; b += MANY) {
        vi low = _mm512_set1_epi8(-1), high = low;
        for (size_t a = 0; a < 256; a++) {
            const uint8_t *at = nibble + 256 * a + b;
            vi e = _mm512_shuffle_epi8(table[0], v_load(at));
            for (size_t i = 1; i < 4; i++) e = _mm512_adds_epu8(e, _mm512_shuffle_epi8(table[i], v_load(at + 65536 * i)));
            const vi before = _mm512_set1_epi16((short)m[a]);
            low = _mm512_min_epu16(low, _mm512_adds_epu16(before, _mm512_sll_epi16(_mm512_unpacklo_epi8(e, zero), up)));
            high = _mm512_min_epu16(high, _mm512_adds_epu16(before, _mm512_sll_epi16(_mm512_unpackhi_epi8(e, zero), up)));
        }
        least = _mm512_min_epu16(least, _mm512_min_epu16(low, high));
        v_store(next + b, _mm512_permutex2var_epi64(low, first, high));
        v_store(next + b + 32, _mm512_permutex2var_epi64(low, second, high));
    }
    const __m256i sixteen = _mm256_min_epu16(_mm512_castsi512_si256(least), _mm512_extracti64x4_epi64(least, 1));
    const __m128i eight = _mm_min_epu16(_mm256_castsi256_si128(sixteen), _mm256_extracti128_si256(sixteen, 1));
    const vi off = _mm512_set1_epi16((short)_mm_extract_epi16(_mm_minpos_epu16(eight), 0));
    for (size_t b = 0; b < 256; b += 32) v_store(next + b, _mm512_sub_epi16(v_load(next + b), off));
}
