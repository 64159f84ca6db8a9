/* Attention: the scores of key tiles, the weights of a block, the weighted sum of values, and the merging of blocks. */
#include "kern/canon.h"
#include "kern/ref/ref.h"

static float at_f16(const uint16_t *p, size_t i) { return f16_to_f32(read_u16((const uint8_t *)p + 2 * i)); }

void kern_attention_scores_f16_ref(const uint16_t *k, size_t n_tiles, size_t head_dim, const float *q, size_t n_q, float scale,
                                   float *scores, size_t ld, const void *next) {
    for (size_t h = 0; h < n_q; h++)
        for (size_t i = 0; i < n_tiles * KERN_TILE; i++) {
            size_t tile = i / KERN_TILE * KERN_TILE * head_dim;
            float dot = 0;
            for (size_t d = 0; d < head_dim; d++)
                dot = fmaf(at_f16(k, tile + d * KERN_TILE + i % KERN_TILE), q[h * head_dim + d], dot);
            scores[h * ld + i] = scale * dot;
        }
}

void kern_attention_scores_f32_ref(const float *k, size_t n_tiles, size_t head_dim, const float *q, size_t n_q, float scale,
                                   float *scores, size_t ld, const void *next) {
    for (size_t h = 0; h < n_q; h++)
        for (size_t i = 0; i < n_tiles * KERN_TILE; i++) {
            size_t tile = i / KERN_TILE * KERN_TILE * head_dim;
            float dot = 0;
            for (size_t d = 0; d < head_dim; d++)
                dot = fmaf(k[tile + d * KERN_TILE + i % KERN_TILE], q[h * head_dim + d], dot);
            scores[h * ld + i] = scale * dot;
        }
}

void kern_attention_weigh_ref(float *x, size_t ld, size_t n_q, size_t begin, size_t end, float *max, float *sum) {
    for (size_t h = 0; h < n_q; h++, x += ld) {
        float m = -INFINITY, lane[16] = {0};
        for (size_t i = begin; i < end; i++) m = x[i] > m ? x[i] : m;
        m += 0.0f; /* a maximum of -0 and +0 is either */
        for (size_t i = begin; i < end; i++) {
            x[i] = canon_expf(x[i] - m);
            lane[i % 16] += x[i];
        }
        max[h] = m;
        sum[h] = canon_tree16(lane);
    }
}

void kern_attention_accumulate_f16_ref(const uint16_t *v, size_t n, size_t head_dim, const float *w, size_t ld, size_t n_q,
                                       float *out, const void *next) {
    for (size_t h = 0; h < n_q; h++)
        for (size_t i = 0; i < n; i++)
            for (size_t d = 0; d < head_dim; d++)
                out[h * head_dim + d] = fmaf(w[h * ld + i], at_f16(v, i * head_dim + d), out[h * head_dim + d]);
}

void kern_attention_accumulate_f32_ref(const float *v, size_t n, size_t head_dim, const float *w, size_t ld, size_t n_q,
                                       float *out, const void *next) {
    for (size_t h = 0; h < n_q; h++)
        for (size_t i = 0; i < n; i++)
            for (size_t d = 0; d < head_dim; d++)
                out[h * head_dim + d] = fmaf(w[h * ld + i], v[i * head_dim + d], out[h * head_dim + d]);
}

void kern_attention_merge_ref(const kern_partial *block, size_t n_q, size_t head_dim, const kern_partial *state) {
    for (size_t h = 0; h < n_q; h++) {
        float m = block->max[h], max = state->max[h] > m ? state->max[h] : m;
        float a = canon_expf(state->max[h] - max), b = canon_expf(m - max);
        state->max[h] = max;
        state->sum[h] = fmaf(block->sum[h], b, state->sum[h] * a);
        for (size_t d = 0; d < head_dim; d++) {
            float *to = &state->out[h * head_dim + d];
            *to = fmaf(block->out[h * head_dim + d], b, *to * a);
        }
    }
}
