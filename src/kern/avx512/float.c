#include "kern/avx512/vec.h"

KERN_INLINE uint32_t highest_bits(const vf v[2]) {
    vi top = _mm512_max_epi32(_mm512_castps_si512(_mm512_abs_ps(v[0])), _mm512_castps_si512(_mm512_abs_ps(v[1])));
    return highest_of_8(_mm256_max_epi32(_mm512_castsi512_si256(top), _mm512_extracti64x4_epi64(top, 1)));
}

KERN_INLINE __m256i round_to_codes(const vf v[2], vf k) {
    __m128i low = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(f_div(v[0], k)));
    return _mm256_set_m128i(_mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(f_div(v[1], k))), low);
}

#include "kern/avx2/quantize.h"
