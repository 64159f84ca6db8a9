/* Between number formats: F16C for f16, shifts for bf16, and the q8 quantizer 32 values at a time. */
#include "kern/avx2/vector.h"

KERN_INLINE uint32_t largest(const vf v[4]) {
    __m256i top = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++) top = _mm256_max_epi32(top, _mm256_and_si256(_mm256_castps_si256(v[i]), _mm256_set1_epi32(0x7fffffff)));
    return max_of_8(top);
}

/* Packing interleaves the 128-bit halves, undone by the permutation, and clamps to +127. */
KERN_INLINE __m256i round_to_codes(const vf v[4], vf k) {
    __m256i a = _mm256_cvtps_epi32(f_div(v[0], k)), b = _mm256_cvtps_epi32(f_div(v[1], k));
    __m256i c = _mm256_cvtps_epi32(f_div(v[2], k)), d = _mm256_cvtps_epi32(f_div(v[3], k));
    __m256i codes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    return _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

#include "kern/x86/float.h"
