/* What stands between the matrices. The 16 canonical lanes are two registers; tails continue in the stored lanes. */
#include "kern/simd/vexp.h"

void KERN_ISA(kern_layer_rmsnorm)(const float *x, const float *gain, float eps, size_t n, float *out) {
    vf l0 = f_zero(), l1 = l0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        vf a = f_load(x + i), b = f_load(x + i + 8);
        l0 = f_fma(a, a, l0);
        l1 = f_fma(b, b, l1);
    }
    float lane[16];
    f_store(lane, l0);
    f_store(lane + 8, l1);
    for (; i < n; i++) lane[i % 16] = fmaf(x[i], x[i], lane[i % 16]);
    const float k = 1.0f / sqrtf(canon_tree16(lane) / (float)n + eps);
    const vf vk = f_set1(k);
    for (i = 0; i + 8 <= n; i += 8)
        f_store(out + i, f_mul(f_mul(f_load(x + i), vk), f_load(gain + i)));
    for (; i < n; i++) out[i] = x[i] * k * gain[i];
}

void KERN_ISA(kern_layer_add)(float *y, const float *x, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8) f_store(y + i, f_add(f_load(y + i), f_load(x + i)));
    for (; i < n; i++) y[i] += x[i];
}

void KERN_ISA(kern_layer_silu_mul)(float *gate, const float *up, size_t n) {
    const vf one = f_set1(1.0f);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        vf g = f_load(gate + i);
        vf silu = f_div(g, f_add(one, vexp(f_neg(g))));
        f_store(gate + i, f_mul(silu, f_load(up + i)));
    }
    for (; i < n; i++) gate[i] = canon_silu_mul(gate[i], up[i]);
}

KERN_INLINE float maximum(const float *x, size_t n) { /* two chains; -inf when empty */
    vf a = f_set1(-INFINITY), b = a;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        a = f_max(f_load(x + i), a);
        b = f_max(f_load(x + i + 8), b);
    }
    float lane[8], max = -INFINITY;
    f_store(lane, f_max(a, b));
    for (int j = 0; j < 8; j++) max = lane[j] > max ? lane[j] : max;
    for (; i < n; i++) max = x[i] > max ? x[i] : max;
    return max;
}

float KERN_ISA(kern_layer_softmax)(float *x, size_t n) {
    const float max = maximum(x, n);
    const vf vmax = f_set1(max);
    vf l0 = f_zero(), l1 = l0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        vf a = vexp_negative(f_sub(f_load(x + i), vmax));
        vf b = vexp_negative(f_sub(f_load(x + i + 8), vmax));
        f_store(x + i, a);
        f_store(x + i + 8, b);
        l0 = f_add(l0, a);
        l1 = f_add(l1, b);
    }
    float lane[16];
    f_store(lane, l0);
    f_store(lane + 8, l1);
    for (; i < n; i++) {
        x[i] = canon_expf(x[i] - max);
        lane[i % 16] += x[i];
    }
    const float sum = canon_tree16(lane), inv = 1.0f / sum;
    const vf vinv = f_set1(inv);
    for (i = 0; i + 8 <= n; i += 8) f_store(x + i, f_mul(f_load(x + i), vinv));
    for (; i < n; i++) x[i] *= inv;
    return (float)((double)max + log((double)sum));
}

void KERN_ISA(kern_layer_rope)(float *x, size_t half_dim, const float *cs, bool interleaved) {
    const float *sn = cs + half_dim;
    size_t i = 0;
    if (interleaved) {
        for (; i + 4 <= half_dim; i += 4) f_rope4(x + 2 * i, cs + i, sn + i);
    } else {
        for (; i + 8 <= half_dim; i += 8) {
            vf a = f_load(x + i), b = f_load(x + half_dim + i);
            vf c = f_load(cs + i), s = f_load(sn + i);
            f_store(x + i, f_fms(a, c, f_mul(b, s)));
            f_store(x + half_dim + i, f_fma(a, s, f_mul(b, c)));
        }
    }
    for (; i < half_dim; i++) {
        float *pa = interleaved ? x + 2 * i : x + i, *pb = interleaved ? pa + 1 : pa + half_dim;
        float a = *pa, b = *pb, c = cs[i], s = sn[i];
        *pa = fmaf(a, c, -(b * s));
        *pb = fmaf(a, s, b * c);
    }
}
