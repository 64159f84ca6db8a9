/* Canonical scalar arithmetic, shared by every level: the summation trees and exp, as kern.h defines them. The vector levels
 * repeat these operations lane by lane; single values (tails) come through here. */
#ifndef KERN_CANON_H
#define KERN_CANON_H
#include <math.h>
#include <string.h>
#include "base/f16.h"

static inline float canon_tree8(const float l[8]) {
    return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}
static inline float canon_tree16(const float l[16]) {
    float h[8];
    for (int i = 0; i < 8; i++) h[i] = l[i] + l[i + 8];
    return canon_tree8(h);
}
/* y[i] += canon_tree16(l[i]), of four at once. */
static inline void canon_add_trees(const float *const l[4], float *y) {
    typedef float four __attribute__((vector_size(16)));
    four part[4][4], a[4], sum;
    for (int i = 0; i < 4; i++) {
        memcpy(part[i], l[i], sizeof part[i]);
        a[i] = (part[i][0] + part[i][2]) + (part[i][1] + part[i][3]);
    }
    const four p = __builtin_shufflevector(a[0], a[1], 0, 1, 4, 5) + __builtin_shufflevector(a[0], a[1], 2, 3, 6, 7);
    const four q = __builtin_shufflevector(a[2], a[3], 0, 1, 4, 5) + __builtin_shufflevector(a[2], a[3], 2, 3, 6, 7);
    memcpy(&sum, y, sizeof sum);
    sum += __builtin_shufflevector(p, q, 0, 2, 4, 6) + __builtin_shufflevector(p, q, 1, 3, 5, 7);
    memcpy(y, &sum, sizeof sum);
}

/* exp(x) = 2^n e^r, n = rint(x log2 e), |r| <= ln2 / 2. The Taylor polynomial of degree 7 leaves r^8 / 8! < 5.2e-9 of e^r,
 * 0.09 ulp. n is rounded by adding 1.5 * 2^23, whose low bits are then n; n * LN2_HI is exact (n has 8 bits, LN2_HI 15).
 * Beyond [LO, HI] the result is 0 or infinity anyway. 2^n is applied in two halves, so results down to the smallest
 * denormal and up to the largest float come out rounded. A NaN passes both comparisons and the polynomial. */
#define CANON_EXP_LO     (-104.0f)
#define CANON_EXP_HI     89.0f
#define CANON_LOG2E      0x1.715476p+0f
#define CANON_ROUND      0x1.8p23f
#define CANON_ROUND_BITS 0x4b400000u
#define CANON_LN2_HI     0x1.62e4p-1f
#define CANON_LN2_LO     0x1.7f7d1cp-20f
static const float canon_exp_coef[8] = {1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};

static inline float canon_expf(float x) {
    x = CANON_EXP_LO > x ? CANON_EXP_LO : x;
    x = CANON_EXP_HI < x ? CANON_EXP_HI : x;
    float t = fmaf(x, CANON_LOG2E, CANON_ROUND), n = t - CANON_ROUND;
    float r = fmaf(n, -CANON_LN2_LO, fmaf(n, -CANON_LN2_HI, x));
    float p = canon_exp_coef[0];
    for (int i = 1; i < 8; i++) p = fmaf(p, r, canon_exp_coef[i]);
    int32_t k = (int32_t)(f32_to_bits(t) - CANON_ROUND_BITS), k1 = k >> 1, k2 = k - k1;
    return p * f32_from_bits((uint32_t)(k1 + 127) << 23) * f32_from_bits((uint32_t)(k2 + 127) << 23);
}
/* By tanh: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) = x / (1 + exp(-x (a + b x^2))). */
#define CANON_GELU_A 1.5957691216057308f
#define CANON_GELU_B 0.07135481627260025f
static inline float canon_gelu(float x) { return x / (1.0f + canon_expf(-(x * fmaf(x * x, CANON_GELU_B, CANON_GELU_A)))); }
/* cap tanh(x / cap) */
static inline float canon_softcap(float x, float cap) { return cap - (cap + cap) / (1.0f + canon_expf(x * (2.0f / cap))); }
static inline float canon_silu_mul(float g, float up) { return g / (1.0f + canon_expf(-g)) * up; }
#endif
