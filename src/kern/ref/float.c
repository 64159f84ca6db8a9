/* Between number formats: unpacked rows to f32, f32 to q8 rows, f16 and bf16. */
#include <math.h>

#include "base/f16.h"
#include "kern/ref/ref.h"

void kern_float_expand_ref(const int8_t *q, const float *s, const float *m, uint32_t group, size_t n, float *dst) {
    for (size_t i = 0; i < n; i++) {
        float p = s[i / group] * (float)q[i];
        dst[i] = m ? p + m[i / group] : p; /* + 0 would lose the sign of -0 */
    }
}

/* The scale's rounding can leave |x / scale| a little over 127 only when it is denormal (then up to a third), hence the
 * clamp. lrintf rounds half to even in the default rounding mode, which nothing here changes. */
static void quantize_chunk(const float *x, int8_t *q, float *s) { /* 32 values */
    uint32_t top = 0; /* largest bit pattern of |x|: from 0x7f800000 on, infinity or NaN */
    for (int i = 0; i < 32; i++) {
        uint32_t u = f32_to_bits(x[i]) & 0x7fffffffu;
        if (u > top) top = u;
    }
    float scale = top >= 0x7f800000u ? NAN : f32_from_bits(top) / 127.0f;
    *s = scale;
    if (!(scale > 0)) {
        memset(q, 0, 32);
        return;
    }
    for (int i = 0; i < 32; i++) {
        long v = lrintf(x[i] / scale);
        q[i] = (int8_t)(v > 127 ? 127 : v < -127 ? -127 : v);
    }
}

void kern_float_quantize_q8_ref(const float *x, size_t n, size_t width, size_t lane, int8_t *q, float *s, float *sum32, float *sum16) {
    for (size_t c = 0; 32 * c < n; c++) {
        float v[32] = {0};
        int8_t codes[32];
        memcpy(v, x + 32 * c, (n - 32 * c < 32 ? n - 32 * c : 32) * sizeof *v);
        quantize_chunk(v, codes, &s[c * width + lane]);
        for (size_t w = 0; w < 8; w++) memcpy(q + 4 * ((8 * c + w) * width + lane), codes + 4 * w, 4);
        float *half = sum16 + 2 * c * width + lane;
        for (int h = 0; h < 2; h++) {
            int sum = 0;
            for (int j = 0; j < 16; j++) sum += codes[16 * h + j];
            half[(size_t)h * width] = (float)sum;
        }
        sum32[c * width + lane] = half[0] + half[width];
    }
}

void kern_float_f16_to_f32_ref(const uint16_t *src, size_t n, float *dst) {
    const uint8_t *p = (const uint8_t *)src;
    for (size_t i = 0; i < n; i++) dst[i] = f16_to_f32(read_u16(p + 2 * i));
}

void kern_float_bf16_to_f32_ref(const uint16_t *src, size_t n, float *dst) {
    const uint8_t *p = (const uint8_t *)src;
    for (size_t i = 0; i < n; i++) dst[i] = bf16_to_f32(read_u16(p + 2 * i));
}

void kern_float_f32_to_f16_ref(const float *src, size_t n, uint16_t *dst) {
    uint8_t *p = (uint8_t *)dst;
    for (size_t i = 0; i < n; i++) write_u16(p + 2 * i, f32_to_f16(src[i]));
}
