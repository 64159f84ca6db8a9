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

void KERN_ISA(kern_layer_gelu)(float *x, size_t n) {
    const vf a = f_set1(CANON_GELU_A), b = f_set1(CANON_GELU_B), one = f_set1(1.0f);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vf v = f_load(x + i);
        f_store(x + i, f_div(v, f_add(one, vexp(f_neg(f_mul(v, f_fma(f_mul(v, v), b, a)))))));
    }
    for (; i < n; i++) x[i] = canon_gelu(x[i]);
}

void KERN_ISA(kern_layer_softcap)(float *x, size_t n, float cap) {
    const vf rate = f_set1(2.0f / cap), one = f_set1(1.0f), twice = f_set1(cap + cap), top = f_set1(cap);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) f_store(x + i, f_sub(top, f_div(twice, f_add(one, vexp(f_mul(f_load(x + i), rate))))));
    for (; i < n; i++) x[i] = canon_softcap(x[i], cap);
}

void KERN_ISA(kern_layer_recur)(const float *from, float *to, size_t n_rows, size_t n, float decay, const float *b, const float *c, float *y) {
    const vf fades = f_set1(decay);
    for (size_t r = 0; r < n_rows; r++, from += n, to += n) {
        const vf add = f_set1(y[r]);
        vf l[SETS];
        float lane[16];
        size_t k = 0;
        for (int h = 0; h < SETS; h++) l[h] = f_zero();
        for (; k + 16 <= n; k += 16)
            for (size_t h = 0; h < SETS; h++) {
                const size_t at = k + LANES * h;
                const vf v = f_fma(f_load(from + at), fades, f_mul(add, f_load(b + at)));
                f_store(to + at, v);
                l[h] = f_fma(v, f_load(c + at), l[h]);
            }
        for (int h = 0; h < SETS; h++) f_store(lane + LANES * h, l[h]);
        for (; k < n; k++) {
            to[k] = fmaf(from[k], decay, y[r] * b[k]);
            lane[k % 16] = fmaf(to[k], c[k], lane[k % 16]);
        }
        y[r] = canon_tree16(lane);
    }
}

/* Eight numbers whatever LANES is: distances of 1, 2 and 4 are permutations within, and what the compiler makes of these is as good. */
typedef float eight __attribute__((vector_size(32), aligned(4)));

KERN_INLINE eight hadamard8(eight v) { /* the second of a pair is subtracted: its sign turns before the other is added */
    typedef uint32_t bits __attribute__((vector_size(32)));
    const uint32_t m = 0x80000000u;
    v = __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6) + (eight)((bits)v ^ (bits){0, m, 0, m, 0, m, 0, m});
    v = __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5) + (eight)((bits)v ^ (bits){0, 0, m, m, 0, 0, m, m});
    return __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3) + (eight)((bits)v ^ (bits){0, 0, 0, 0, m, m, m, m});
}

KERN_INLINE void hadamard_block(float *x, size_t eights) {
    eight v[16];
    const float scale = (float)(1 / sqrt((double)(8 * eights)));
    for (size_t i = 0; i < eights; i++) memcpy(&v[i], x + 8 * i, sizeof v[i]), v[i] = hadamard8(v[i]);
    for (size_t h = 1; h < eights; h *= 2)
        for (size_t i = 0; i < eights; i++)
            if (!(i & h)) {
                const eight a = v[i], b = v[i + h];
                v[i] = a + b;
                v[i + h] = a - b;
            }
    for (size_t i = 0; i < eights; i++) v[i] *= scale, memcpy(x + 8 * i, &v[i], sizeof v[i]);
}

void KERN_ISA(kern_layer_hadamard)(float *x, size_t n, size_t block) {
    for (float *end = x + n; x < end; x += block) switch (block) {
        case 16: hadamard_block(x, 2); break;
        case 32: hadamard_block(x, 4); break;
        case 64: hadamard_block(x, 8); break;
        default: hadamard_block(x, 16); break;
        }
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
