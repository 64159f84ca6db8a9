/* Attention over one page of the KV cache: scores and the weighted sum of values. */
#include "kern/canon.h"
#include "kern/ref/ref.h"

void kern_attention_scores_f16_ref(const uint16_t *k, size_t n, size_t head_dim, const float *q, size_t n_q, float scale,
                                   float *scores, size_t ld) {
    for (size_t i = 0; i < n; i++)
        for (size_t h = 0; h < n_q; h++) {
            float lane[16] = {0};
            for (size_t d = 0; d < head_dim; d++)
                lane[d % 16] = fmaf(f16_to_f32(read_u16((const uint8_t *)k + 2 * (i * head_dim + d))), q[h * head_dim + d],
                                    lane[d % 16]);
            scores[h * ld + i] = scale * canon_tree16(lane);
        }
}

void kern_attention_scores_f32_ref(const float *k, size_t n, size_t head_dim, const float *q, size_t n_q, float scale,
                                   float *scores, size_t ld) {
    for (size_t i = 0; i < n; i++)
        for (size_t h = 0; h < n_q; h++) {
            float lane[16] = {0};
            for (size_t d = 0; d < head_dim; d++)
                lane[d % 16] = fmaf(k[i * head_dim + d], q[h * head_dim + d], lane[d % 16]);
            scores[h * ld + i] = scale * canon_tree16(lane);
        }
}

void kern_attention_accumulate_f16_ref(const uint16_t *v, size_t n, size_t head_dim, const float *w, size_t ld, size_t n_q,
                                       float *out) {
    for (size_t h = 0; h < n_q; h++)
        for (size_t i = 0; i < n; i++)
            for (size_t d = 0; d < head_dim; d++) {
                float value = f16_to_f32(read_u16((const uint8_t *)v + 2 * (i * head_dim + d)));
                out[h * head_dim + d] = fmaf(w[h * ld + i], value, out[h * head_dim + d]);
            }
}

void kern_attention_accumulate_f32_ref(const float *v, size_t n, size_t head_dim, const float *w, size_t ld, size_t n_q,
                                       float *out) {
    for (size_t h = 0; h < n_q; h++)
        for (size_t i = 0; i < n; i++)
            for (size_t d = 0; d < head_dim; d++)
                out[h * head_dim + d] = fmaf(w[h * ld + i], v[i * head_dim + d], out[h * head_dim + d]);
}
