/* What stands between the matrices: RMSNorm, residual add, SwiGLU, recurrences, softmax, rotary positions. */
#include "kern/canon.h"
#include "kern/ref/ref.h"

/* Zhang and Sennrich 2019, equation 4, with eps inside the root as every model has it. */
void kern_layer_rmsnorm_ref(const float *x, const float *gain, float eps, size_t n, float *out) {
    float lane[16] = {0};
    for (size_t i = 0; i < n; i++) lane[i % 16] = fmaf(x[i], x[i], lane[i % 16]);
    float k = 1.0f / sqrtf(canon_tree16(lane) / (float)n + eps);
    for (size_t i = 0; i < n; i++) out[i] = x[i] * k * gain[i];
}

void kern_layer_add_ref(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

void kern_layer_silu_mul_ref(float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i++) gate[i] = canon_silu_mul(gate[i], up[i]);
}

void kern_layer_gelu_ref(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = canon_gelu(x[i]);
}

void kern_layer_softcap_ref(float *x, size_t n, float cap) {
    for (size_t i = 0; i < n; i++) x[i] = canon_softcap(x[i], cap);
}

/* Dao and Gu 2024, the recurrent form of section 7 of their paper, for one head and token. */
void kern_layer_recur_ref(const float *from, float *to, size_t n_rows, size_t n, float decay, const float *b, const float *c, float *y) {
    for (size_t r = 0; r < n_rows; r++, from += n, to += n) {
        float lane[16] = {0};
        for (size_t k = 0; k < n; k++) {
            to[k] = fmaf(from[k], decay, y[r] * b[k]);
            lane[k % 16] = fmaf(to[k], c[k], lane[k % 16]);
        }
        y[r] = canon_tree16(lane);
    }
}

/* Sylvester's construction, unrolled. */
void kern_layer_hadamard_ref(float *x, size_t n, size_t block) {
    const float scale = (float)(1 / sqrt((double)block));
    for (float *end = x + n; x < end; x += block) {
        for (size_t h = 1; h < block; h *= 2)
            for (size_t i = 0; i < block; i++)
                if (!(i & h)) {
                    const float a = x[i], b = x[i + h];
                    x[i] = a + b;
                    x[i + h] = a - b;
                }
        for (size_t i = 0; i < block; i++) x[i] *= scale;
    }
}

/* A NaN may or may not survive the maximum; it survives the sum, and so reaches every output either way. */
float kern_layer_softmax_ref(float *x, size_t n) {
    float max = -INFINITY, lane[16] = {0};
    for (size_t i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    for (size_t i = 0; i < n; i++) {
        x[i] = canon_expf(x[i] - max);
        lane[i % 16] += x[i];
    }
    float sum = canon_tree16(lane), inv = 1.0f / sum;
    for (size_t i = 0; i < n; i++) x[i] *= inv;
    return (float)((double)max + log((double)sum));
}

void kern_layer_rope_ref(float *x, size_t half, const float *cs, bool interleaved) {
    for (size_t i = 0; i < half; i++) {
        float *pa = interleaved ? x + 2 * i : x + i, *pb = interleaved ? pa + 1 : pa + half;
        float a = *pa, b = *pb, c = cs[i], s = cs[half + i];
        *pa = fmaf(a, c, -(b * s));
        *pb = fmaf(a, s, b * c);
    }
}
