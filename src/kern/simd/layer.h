/* What stands between the matrices. The 16 canonical lanes are SETS vectors; tails continue in the stored lanes. */
#include "kern/simd/vexp.h"

void KERN_ISA(kern_layer_rmsnorm)(const float *x, const float *gain, float eps, size_t n, float *out) {
    vf l[SETS], v;
    float lane[16];
    size_t i = 0;
    for (int h = 0; h < SETS; h++) l[h] = f_zero();
    for (; i + 16 <= n; i += 16)
        for (size_t h = 0; h < SETS; h++) v = f_load(x + i + LANES * h), l[h] = f_fma(v, v, l[h]);
    for (int h = 0; h < SETS; h++) f_store(lane + LANES * h, l[h]);
    for (; i < n; i++) lane[i % 16] = fmaf(x[i], x[i], lane[i % 16]);
    const float k = 1.0f / sqrtf(canon_tree16(lane) / (float)n + eps);
    const vf vk = f_set1(k);
    for (i = 0; i + LANES <= n; i += LANES) f_store(out + i, f_mul(f_mul(f_load(x + i), vk), f_load(gain + i)));
    for (; i < n; i++) out[i] = x[i] * k * gain[i];
}

void KERN_ISA(kern_layer_add)(float *y, const float *x, size_t n) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) f_store(y + i, f_add(f_load(y + i), f_load(x + i)));
    for (; i < n; i++) y[i] += x[i];
}

void KERN_ISA(kern_layer_silu_mul)(float *gate, const float *up, size_t n) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf g = f_load(gate + i), silu = f_div(g, f_add(f_set1(1.0f), vexp(f_neg(g))));
        f_store(gate + i, f_mul(silu, f_load(up + i)));
    }
    for (; i < n; i++) gate[i] = canon_silu_mul(gate[i], up[i]);
}

KERN_INLINE float maximum(const float *x, size_t n) { /* two chains; -inf when empty */
    vf a = f_set1(-INFINITY), b = a;
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        a = f_max(f_load(x + i), a);
        b = f_max(f_load(x + i + LANES), b);
    }
    float max = f_highest(f_max(a, b));
    for (; i < n; i++) max = x[i] > max ? x[i] : max;
    return max;
}

float KERN_ISA(kern_layer_softmax)(float *x, size_t n) {
    const float max = maximum(x, n);
    vf l[SETS];
    float lane[16];
    size_t i = 0;
    for (int h = 0; h < SETS; h++) l[h] = f_zero();
    for (; i + 16 <= n; i += 16)
        for (size_t h = 0; h < SETS; h++) {
            vf e = vexp_negative(f_sub(f_load(x + i + LANES * h), f_set1(max)));
            f_store(x + i + LANES * h, e);
            l[h] = f_add(l[h], e);
        }
    for (int h = 0; h < SETS; h++) f_store(lane + LANES * h, l[h]);
    for (; i < n; i++) {
        x[i] = canon_expf(x[i] - max);
        lane[i % 16] += x[i];
    }
    const float sum = canon_tree16(lane), inv = 1.0f / sum;
    for (i = 0; i + LANES <= n; i += LANES) f_store(x + i, f_mul(f_load(x + i), f_set1(inv)));
    for (; i < n; i++) x[i] *= inv;
    return (float)((double)max + log((double)sum));
}

/* n pairs (i, i + half_dim); n is LANES unless the level has MASKS */
KERN_INLINE void rope_halves(float *x, size_t half_dim, const float *cs, size_t n) {
    vf a = f_load_n(x, n), b = f_load_n(x + half_dim, n), c = f_load_n(cs, n), s = f_load_n(cs + half_dim, n);
    f_store_n(x, n, f_fms(a, c, f_mul(b, s)));
    f_store_n(x + half_dim, n, f_fma(a, s, f_mul(b, c)));
}

void KERN_ISA(kern_layer_rope)(float *x, size_t half_dim, const float *cs, bool interleaved) {
    const float *sn = cs + half_dim;
    size_t i = 0;
    if (interleaved) {
        for (; i + LANES / 2 <= half_dim; i += LANES / 2) f_rope(x + 2 * i, cs + i, sn + i);
    } else {
        for (; i + LANES <= half_dim; i += LANES) rope_halves(x + i, half_dim, cs + i, LANES);
        if (MASKS && i < half_dim) rope_halves(x + i, half_dim, cs + i, half_dim - i), i = half_dim;
    }
    for (; i < half_dim; i++) {
        float *pa = interleaved ? x + 2 * i : x + i, *pb = interleaved ? pa + 1 : pa + half_dim;
        float a = *pa, b = *pb, c = cs[i], s = sn[i];
        *pa = fmaf(a, c, -(b * s));
        *pb = fmaf(a, s, b * c);
    }
}
