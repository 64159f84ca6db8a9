/* A chunk of the q8 quantizer, for the x86 levels: a level defines before
 *
 *     highest_bits(v)             the greatest of 32 absolute values by their bit patterns, where NaN > infinity > every number
 *     round_to_codes(v, k)        v / k of 32 values, rounded half to even, to bytes clamped to -128..127 */
#include <math.h>

KERN_INLINE float quantize_chunk(const float *x, int8_t *q, int sum[2]) {
    vf v[32 / LANES];
    for (int i = 0; i < 32 / LANES; i++) v[i] = f_load(x + LANES * i);
    const uint32_t peak = highest_bits(v);
    const float scale = peak >= 0x7f800000u ? NAN : f32_from_bits(peak) / 127.0f;
    __m256i codes = _mm256_setzero_si256();
    if (scale > 0) codes = _mm256_max_epi8(round_to_codes(v, f_set1(scale)), bytes(-127));
    store_i(q, codes);
    /* sums of 8 biased codes in each 64-bit quarter; 16 codes carry 16 * 128 of bias */
    __m256i biased = _mm256_sad_epu8(_mm256_xor_si256(codes, bytes(-128)), _mm256_setzero_si256());
    biased = _mm256_add_epi64(biased, _mm256_shuffle_epi32(biased, 0x4e));
    sum[0] = _mm256_extract_epi16(biased, 0) - 2048;
    sum[1] = _mm256_extract_epi16(biased, 8) - 2048;
    return scale;
}

#include "kern/simd/float.h"
