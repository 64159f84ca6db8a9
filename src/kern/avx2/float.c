#include "kern/avx2/vec.h"

#include <math.h>

/* Codes of 32 values: four quotients rounded half to even by the conversion, packed (which interleaves the 128-bit halves,
 * undone by the permutation) and clamped from below; the packing itself clamps to +127. */
KERN_INLINE vi quantize(const vf v[4], float scale) {
    const vf k = f_set1(scale);
    vi a = _mm256_cvtps_epi32(f_div(v[0], k)), b = _mm256_cvtps_epi32(f_div(v[1], k));
    vi c = _mm256_cvtps_epi32(f_div(v[2], k)), d = _mm256_cvtps_epi32(f_div(v[3], k));
    vi codes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    codes = _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    return _mm256_max_epi8(codes, bytes(-127));
}

/* One chunk's codes, scale and sums of 16. The maximum is taken on bit patterns, where NaN > infinity > every number. */
KERN_INLINE vi quantize_chunk(const float *x, float *s, int sum[2]) {
    const vi abs = i_set1(0x7fffffff);
    vf v[4];
    vi top = _mm256_setzero_si256(), codes = top;
    for (int i = 0; i < 4; i++) {
        v[i] = f_load(x + 8 * i);
        top = _mm256_max_epi32(top, _mm256_and_si256(i_of_bits(v[i]), abs));
    }
    __m128i t = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
    t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0x4e));
    t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0xb1));
    uint32_t peak = (uint32_t)_mm_cvtsi128_si32(t);
    float scale = peak >= 0x7f800000u ? NAN : f32_from_bits(peak) / 127.0f;
    if (scale > 0) codes = quantize(v, scale);
    *s = scale;
    /* sums of 8 biased codes in each 64-bit quarter; 16 codes carry 16 * 128 of bias */
    vi biased = _mm256_sad_epu8(_mm256_xor_si256(codes, bytes(-128)), _mm256_setzero_si256());
    biased = _mm256_add_epi64(biased, _mm256_shuffle_epi32(biased, 0x4e));
    sum[0] = _mm256_extract_epi16(biased, 0) - 2048;
    sum[1] = _mm256_extract_epi16(biased, 8) - 2048;
    return codes;
}

#include "kern/simd/float.h"
