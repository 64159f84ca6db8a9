#include "kern/neon/vec.h"

#include <math.h>

KERN_INLINE int16x8_t round8(const float *x, float32x4_t k) { /* half to even; beyond int16 and int8 they saturate */
    int32x4_t a = vcvtnq_s32_f32(vdivq_f32(vld1q_f32(x), k)), b = vcvtnq_s32_f32(vdivq_f32(vld1q_f32(x + 4), k));
    return vqmovn_high_s32(vqmovn_s32(a), b);
}

/* The maximum is taken on bit patterns, where NaN > infinity > every number. */
KERN_INLINE float quantize_chunk(const float *x, int8_t *codes, int sum[2]) {
    const uint32x4_t abs = vdupq_n_u32(0x7fffffff);
    const int8x16_t least = vdupq_n_s8(-127);
    uint32x4_t top = vdupq_n_u32(0);
    int8x16_t q[2] = {vdupq_n_s8(0), vdupq_n_s8(0)};
    for (int i = 0; i < 32; i += 4) top = vmaxq_u32(top, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), abs));
    const uint32_t peak = vmaxvq_u32(top);
    const float scale = peak >= 0x7f800000u ? NAN : f32_from_bits(peak) / 127.0f;
    const float32x4_t k = vdupq_n_f32(scale);
    if (scale > 0)
        for (int h = 0; h < 2; h++)
            q[h] = vmaxq_s8(vqmovn_high_s16(vqmovn_s16(round8(x + 16 * h, k)), round8(x + 16 * h + 8, k)), least);
    for (int h = 0; h < 2; h++) sum[h] = vaddlvq_s8(q[h]), vst1q_s8(codes + 16 * h, q[h]);
    return scale;
}

#include "kern/simd/float.h"
