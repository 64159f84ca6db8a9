#include "kern/avx2/vec.h"

KERN_INLINE uint32_t highest_bits(const vf v[4]) {
    vi top = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++) top = _mm256_max_epi32(top, _mm256_and_si256(i_of_bits(v[i]), i_set1(0x7fffffff)));
    return highest_of_8(top);
}

/* Packing interleaves the 128-bit halves, undone by the permutation, and clamps to +127. */
KERN_INLINE vi round_to_codes(const vf v[4], vf k) {
    vi a = _mm256_cvtps_epi32(f_div(v[0], k)), b = _mm256_cvtps_epi32(f_div(v[1], k));
    vi c = _mm256_cvtps_epi32(f_div(v[2], k)), d = _mm256_cvtps_epi32(f_div(v[3], k));
    vi codes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    return _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

#include "kern/avx2/quantize.h"
