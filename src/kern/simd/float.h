/* Between number formats; the q8 quantizer works 32 values at a time. Before it is included, a level defines
 *     quantize_chunk(x, q, sum)      the codes of 32 values to q, the sums of 16 codes to sum[0], sum[1]; returns the scale */

void KERN_ISA(kern_float_expand)(const int8_t *q, const float *s, const float *m, uint32_t group, size_t n, float *dst) {
    for (; n; s++) {
        size_t len = n < group ? n : group, i = 0;
        float offset = m ? *m++ : 0;
        vf vs = f_set1(*s), vm = f_set1(offset);
        if (m) {
            for (; i + LANES <= len; i += LANES) f_store(dst + i, f_add(f_mul(vs, f_of_signed(x_load(q + i))), vm));
            for (; i < len; i++) dst[i] = *s * (float)q[i] + offset;
        } else {
            for (; i + LANES <= len; i += LANES) f_store(dst + i, f_mul(vs, f_of_signed(x_load(q + i))));
            for (; i < len; i++) dst[i] = *s * (float)q[i];
        }
        q += len, dst += len, n -= len;
    }
}

void KERN_ISA(kern_float_quantize_q8)(const float *x, size_t n, size_t width, size_t lane, int8_t *q, float *s, float *sum32,
                                      float *sum16) {
    for (size_t c = 0; 32 * c < n; c++) {
        float tail[32] = {0};
        const float *v = x + 32 * c;
        int8_t word[32], *to = q + 4 * (8 * c * width + lane);
        int sum[2];
        if (n - 32 * c < 32) v = memcpy(tail, v, (n - 32 * c) * sizeof *v);
        s[c * width + lane] = quantize_chunk(v, word, sum);
        if (width == 1) memcpy(to, word, 32);
        for (size_t w = 0; width > 1 && w < 8; w++) memcpy(to + 4 * w * width, word + 4 * w, 4);
        sum16[2 * c * width + lane] = (float)sum[0];
        sum16[(2 * c + 1) * width + lane] = (float)sum[1];
        sum32[c * width + lane] = (float)(sum[0] + sum[1]);
    }
}

void KERN_ISA(kern_float_f16_to_f32)(const uint16_t *src, size_t n, float *dst) {
    const uint8_t *p = (const uint8_t *)src;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) f_store(dst + i, f_of_half(p + 2 * i));
    for (; i < n; i++) dst[i] = half(p + 2 * i);
}

void KERN_ISA(kern_float_bf16_to_f32)(const uint16_t *src, size_t n, float *dst) {
    const uint8_t *p = (const uint8_t *)src;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) f_store(dst + i, f_of_bf16(p + 2 * i));
    for (; i < n; i++) dst[i] = bf16_to_f32(read_u16(p + 2 * i));
}

void KERN_ISA(kern_float_f32_to_f16)(const float *src, size_t n, uint16_t *dst) {
    uint8_t *p = (uint8_t *)dst;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) f_to_half(p + 2 * i, f_load(src + i));
    for (; i < n; i++) write_u16(p + 2 * i, f32_to_f16(src[i]));
}
