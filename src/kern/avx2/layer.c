/* What stands between the matrices. The 16 canonical lanes are two registers; tails continue in the stored lanes. */
#include "kern/avx2/vexp.h"

void kern_layer_rmsnorm_avx2(const float *x, const float *gain, float eps, size_t n, float *out) {
    __m256 l0 = _mm256_setzero_ps(), l1 = l0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + 8);
        l0 = _mm256_fmadd_ps(a, a, l0);
        l1 = _mm256_fmadd_ps(b, b, l1);
    }
    float lane[16];
    _mm256_storeu_ps(lane, l0);
    _mm256_storeu_ps(lane + 8, l1);
    for (; i < n; i++) lane[i % 16] = fmaf(x[i], x[i], lane[i % 16]);
    const float k = 1.0f / sqrtf(canon_tree16(lane) / (float)n + eps);
    const __m256 vk = _mm256_set1_ps(k);
    for (i = 0; i + 8 <= n; i += 8)
        _mm256_storeu_ps(out + i, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + i), vk), _mm256_loadu_ps(gain + i)));
    for (; i < n; i++) out[i] = x[i] * k * gain[i];
}

void kern_layer_add_avx2(float *y, const float *x, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(y + i, _mm256_add_ps(_mm256_loadu_ps(y + i), _mm256_loadu_ps(x + i)));
    for (; i < n; i++) y[i] += x[i];
}

void kern_layer_silu_mul_avx2(float *gate, const float *up, size_t n) {
    const __m256 sign = _mm256_set1_ps(-0.0f), one = _mm256_set1_ps(1.0f);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 g = _mm256_loadu_ps(gate + i);
        __m256 silu = _mm256_div_ps(g, _mm256_add_ps(one, vexp(_mm256_xor_ps(g, sign))));
        _mm256_storeu_ps(gate + i, _mm256_mul_ps(silu, _mm256_loadu_ps(up + i)));
    }
    for (; i < n; i++) gate[i] = canon_silu_mul(gate[i], up[i]);
}

KERN_INLINE float maximum(const float *x, size_t n) { /* two chains; -inf when empty */
    __m256 a = _mm256_set1_ps(-INFINITY), b = a;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        a = _mm256_max_ps(_mm256_loadu_ps(x + i), a);
        b = _mm256_max_ps(_mm256_loadu_ps(x + i + 8), b);
    }
    float lane[8], max = -INFINITY;
    _mm256_storeu_ps(lane, _mm256_max_ps(a, b));
    for (int j = 0; j < 8; j++) max = lane[j] > max ? lane[j] : max;
    for (; i < n; i++) max = x[i] > max ? x[i] : max;
    return max;
}

float kern_layer_softmax_avx2(float *x, size_t n) {
    const float max = maximum(x, n);
    const __m256 vmax = _mm256_set1_ps(max);
    __m256 l0 = _mm256_setzero_ps(), l1 = l0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256 a = vexp_negative(_mm256_sub_ps(_mm256_loadu_ps(x + i), vmax));
        __m256 b = vexp_negative(_mm256_sub_ps(_mm256_loadu_ps(x + i + 8), vmax));
        _mm256_storeu_ps(x + i, a);
        _mm256_storeu_ps(x + i + 8, b);
        l0 = _mm256_add_ps(l0, a);
        l1 = _mm256_add_ps(l1, b);
    }
    float lane[16];
    _mm256_storeu_ps(lane, l0);
    _mm256_storeu_ps(lane + 8, l1);
    for (; i < n; i++) {
        x[i] = canon_expf(x[i] - max);
        lane[i % 16] += x[i];
    }
    const float sum = canon_tree16(lane), inv = 1.0f / sum;
    const __m256 vinv = _mm256_set1_ps(inv);
    for (i = 0; i + 8 <= n; i += 8) _mm256_storeu_ps(x + i, _mm256_mul_ps(_mm256_loadu_ps(x + i), vinv));
    for (; i < n; i++) x[i] *= inv;
    return (float)((double)max + log((double)sum));
}

/* Pairs (2i, 2i+1), four at a time: (a a)(c s) -+ (b b)(s c) */
KERN_INLINE void rope_interleaved4(float *x, const float *c, const float *s) {
    __m128 vc = _mm_loadu_ps(c), vs = _mm_loadu_ps(s);
    __m256 cs = _mm256_set_m128(_mm_unpackhi_ps(vc, vs), _mm_unpacklo_ps(vc, vs));
    __m256 v = _mm256_loadu_ps(x), sc = _mm256_permute_ps(cs, 0xb1);
    _mm256_storeu_ps(x, _mm256_fmaddsub_ps(_mm256_moveldup_ps(v), cs, _mm256_mul_ps(_mm256_movehdup_ps(v), sc)));
}

void kern_layer_rope_avx2(float *x, size_t half_dim, const float *cs, bool interleaved) {
    const float *sn = cs + half_dim;
    size_t i = 0;
    if (interleaved) {
        for (; i + 4 <= half_dim; i += 4) rope_interleaved4(x + 2 * i, cs + i, sn + i);
    } else {
        for (; i + 8 <= half_dim; i += 8) {
            __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + half_dim + i);
            __m256 c = _mm256_loadu_ps(cs + i), s = _mm256_loadu_ps(sn + i);
            _mm256_storeu_ps(x + i, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
            _mm256_storeu_ps(x + half_dim + i, _mm256_fmadd_ps(a, s, _mm256_mul_ps(b, c)));
        }
    }
    for (; i < half_dim; i++) {
        float *pa = interleaved ? x + 2 * i : x + i, *pb = interleaved ? pa + 1 : pa + half_dim;
        float a = *pa, b = *pb, c = cs[i], s = sn[i];
        *pa = fmaf(a, c, -(b * s));
        *pb = fmaf(a, s, b * c);
    }
}
