/* Between number formats, for the x86 levels: included by each after its vector.h and
 *
 *     largest(v)                  of 32 absolute values, on bit patterns, where NaN > infinity > every number
 *     round_to_codes(v, k)        v / k of 32 values, rounded half to even, to bytes clamped to -128..127 */
void SLOT(kern_float_expand)(const int8_t *q, const float *s, const float *m, uint32_t group, size_t n, float *dst) {
    for (; n; s++) {
        size_t len = n < group ? n : group, i = 0;
        float offset = m ? *m++ : 0;
        vf vs = f_set1(*s), vm = f_set1(offset);
        if (m) {
            for (; i + LANES <= len; i += LANES) f_store(dst + i, f_add(f_mul(vs, f_of_codes(q + i)), vm));
            for (; i < len; i++) dst[i] = *s * (float)q[i] + offset;
        } else {
            for (; i + LANES <= len; i += LANES) f_store(dst + i, f_mul(vs, f_of_codes(q + i)));
            for (; i < len; i++) dst[i] = *s * (float)q[i];
        }
        q += len, dst += len, n -= len;
    }
}

/* One chunk's codes, scale and sums of 16. */
KERN_INLINE __m256i quantize_chunk(const float *x, float *s, int sum[2]) {
    vf v[32 / LANES];
    for (int i = 0; i < 32 / LANES; i++) v[i] = f_load(x + LANES * i);
    const uint32_t peak = largest(v);
    const float scale = peak >= 0x7f800000u ? NAN : f32_from_bits(peak) / 127.0f;
    __m256i codes = _mm256_setzero_si256();
    if (scale > 0) codes = _mm256_max_epi8(round_to_codes(v, f_set1(scale)), bytes(-127));
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

void SLOT(kern_float_quantize_q8)(const float *x, size_t n, size_t width, size_t lane, int8_t *q, float *s, float *sum32, float *sum16) {
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

void SLOT(kern_float_f16_to_f32)(const uint16_t *src, size_t n, float *dst) {
    const uint8_t *p = (const uint8_t *)src;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) f_store(dst + i, f_of_half(p + 2 * i));
    for (; i < n; i++) dst[i] = half(p + 2 * i);
}

void SLOT(kern_float_bf16_to_f32)(const uint16_t *src, size_t n, float *dst) {
    const uint8_t *p = (const uint8_t *)src;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) f_store(dst + i, f_of_bf16(p + 2 * i));
    for (; i < n; i++) dst[i] = bf16_to_f32(read_u16(p + 2 * i));
}

void SLOT(kern_float_f32_to_f16)(const float *src, size_t n, uint16_t *dst) {
    uint8_t *p = (uint8_t *)dst;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) f_to_half(p + 2 * i, f_load(src + i));
    for (; i < n; i++) write_u16(p + 2 * i, f32_to_f16(src[i]));
}
