/* Between number formats: F16C for f16, shifts for bf16, and the q8 quantizer 32 values at a time. */
#include <math.h>

#include "kern/avx2/avx2.h"

KERN_INLINE __m256 codes_to_ps(const int8_t *q) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load_i64(q))); }

void kern_float_expand_avx2(const int8_t *q, const float *s, const float *m, uint32_t group, size_t n, float *dst) {
    for (; n; s++) {
        size_t len = n < group ? n : group, i = 0;
        float offset = m ? *m++ : 0;
        __m256 vs = _mm256_set1_ps(*s), vm = _mm256_set1_ps(offset);
        if (m) {
            for (; i + 8 <= len; i += 8) _mm256_storeu_ps(dst + i, _mm256_add_ps(_mm256_mul_ps(vs, codes_to_ps(q + i)), vm));
            for (; i < len; i++) dst[i] = *s * (float)q[i] + offset;
        } else {
            for (; i + 8 <= len; i += 8) _mm256_storeu_ps(dst + i, _mm256_mul_ps(vs, codes_to_ps(q + i)));
            for (; i < len; i++) dst[i] = *s * (float)q[i];
        }
        q += len, dst += len, n -= len;
    }
}

/* Codes of 32 values: four quotients rounded half to even by the conversion, packed (which interleaves the 128-bit halves,
 * undone by the permutation) and clamped from below; the packing itself clamps to +127. */
KERN_INLINE __m256i quantize(const __m256 v[4], float scale) {
    const __m256 k = _mm256_set1_ps(scale);
    __m256i a = _mm256_cvtps_epi32(_mm256_div_ps(v[0], k)), b = _mm256_cvtps_epi32(_mm256_div_ps(v[1], k));
    __m256i c = _mm256_cvtps_epi32(_mm256_div_ps(v[2], k)), d = _mm256_cvtps_epi32(_mm256_div_ps(v[3], k));
    __m256i codes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    codes = _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    return _mm256_max_epi8(codes, bytes(-127));
}

/* One chunk's codes, scale and sums of 16. The maximum is taken on bit patterns, where NaN > infinity > every number. */
KERN_INLINE __m256i quantize_chunk(const float *x, float *s, int sum[2]) {
    const __m256i abs = _mm256_set1_epi32(0x7fffffff);
    __m256 v[4];
    __m256i top = _mm256_setzero_si256(), codes = top;
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_loadu_ps(x + 8 * i);
        top = _mm256_max_epi32(top, _mm256_and_si256(_mm256_castps_si256(v[i]), abs));
    }
    __m128i t = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
    t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0x4e));
    t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0xb1));
    uint32_t peak = (uint32_t)_mm_cvtsi128_si32(t);
    float scale = peak >= 0x7f800000u ? NAN : f32_from_bits(peak) / 127.0f;
    if (scale > 0) codes = quantize(v, scale);
    *s = scale;
    /* sums of 8 biased codes in each 64-bit quarter; 16 codes carry 16 * 128 of bias */
    __m256i biased = _mm256_sad_epu8(_mm256_xor_si256(codes, bytes(-128)), _mm256_setzero_si256());
    biased = _mm256_add_epi64(biased, _mm256_shuffle_epi32(biased, 0x4e));
    sum[0] = _mm256_extract_epi16(biased, 0) - 2048;
    sum[1] = _mm256_extract_epi16(biased, 8) - 2048;
    return codes;
}

KERN_INLINE void store_words(int8_t *q, size_t width, __m256i codes) {
    if (width == 1) {
        store_i(q, codes);
        return;
    }
    uint32_t word[8];
    store_i(word, codes);
    for (size_t w = 0; w < 8; w++) memcpy(q + 4 * w * width, &word[w], 4);
}

void kern_float_quantize_q8_avx2(const float *x, size_t n, size_t width, size_t lane, int8_t *q, float *s, float *sum32, float *sum16) {
    for (size_t c = 0; 32 * c < n; c++) {
        float tail[32] = {0};
        const float *v = x + 32 * c;
        int sum[2];
        if (n - 32 * c < 32) v = memcpy(tail, v, (n - 32 * c) * sizeof *v);
        store_words(q + 4 * (8 * c * width + lane), width, quantize_chunk(v, &s[c * width + lane], sum));
        sum16[2 * c * width + lane] = (float)sum[0];
        sum16[(2 * c + 1) * width + lane] = (float)sum[1];
        sum32[c * width + lane] = (float)(sum[0] + sum[1]);
    }
}

void kern_float_f16_to_f32_avx2(const uint16_t *src, size_t n, float *dst) {
    const uint8_t *p = (const uint8_t *)src;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(load_i128(p + 2 * i)));
    for (; i < n; i++) dst[i] = half(p + 2 * i);
}

void kern_float_bf16_to_f32_avx2(const uint16_t *src, size_t n, float *dst) {
    const uint8_t *p = (const uint8_t *)src;
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        store_i(dst + i, _mm256_slli_epi32(_mm256_cvtepu16_epi32(load_i128(p + 2 * i)), 16));
    for (; i < n; i++) dst[i] = bf16_to_f32(read_u16(p + 2 * i));
}

void kern_float_f32_to_f16_avx2(const float *src, size_t n, uint16_t *dst) {
    uint8_t *p = (uint8_t *)dst;
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(p + 2 * i), _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++) write_u16(p + 2 * i, f32_to_f16(src[i]));
}
