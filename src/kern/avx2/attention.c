/* Attention over one page: scores are 2 heads x 3 positions tiles of dot_f32.h, so a key is converted once per two heads;
 * sums keep a strip of the output of two heads (or one) in registers while the positions pass. */
#include "kern/avx2/dot_f32.h"

/* ---------------------------------------------------------------- scores ---- */

typedef struct score_args {
    const void *k;
    size_t n, head_dim;
    const float *q;
    float scale;
    float *scores;
    size_t ld;
} score_args;

KERN_INLINE void score_tile(const score_args *a, size_t h, size_t i, int nh, int ni, bool f16) {
    float lane[DOT_TILE_MAX][DOT_TILE_MAX][16];
    for (int y = 0; y < nh; y++)
        for (int x = 0; x < ni; x++) memset(lane[y][x], 0, sizeof lane[y][x]);
    const size_t at = i * a->head_dim;
    const void *k = f16 ? (const void *)((const uint8_t *)a->k + 2 * at) : (const void *)((const float *)a->k + at);
    dot_tile(nh, ni, a->head_dim, a->q + h * a->head_dim, a->head_dim, k, a->head_dim, f16, lane);
    for (int y = 0; y < nh; y++)
        for (int x = 0; x < ni; x++) a->scores[(h + (size_t)y) * a->ld + i + (size_t)x] = a->scale * lanes_sum(lane[y][x]);
}

KERN_INLINE void scores(const score_args *a, size_t n_q, bool f16) {
    size_t h = 0;
    for (; h + 2 <= n_q; h += 2) {
        size_t i = 0;
        for (; i + 3 <= a->n; i += 3) score_tile(a, h, i, 2, 3, f16);
        for (; i < a->n; i++) score_tile(a, h, i, 2, 1, f16);
    }
    if (h < n_q) {
        size_t i = 0;
        for (; i + 4 <= a->n; i += 4) score_tile(a, h, i, 1, 4, f16);
        for (; i < a->n; i++) score_tile(a, h, i, 1, 1, f16);
    }
}

void kern_attention_scores_f16_avx2(const uint16_t *k, size_t n, size_t head_dim, const float *q, size_t n_q, float scale,
                                    float *out, size_t ld) {
    scores(&(score_args){k, n, head_dim, q, scale, out, ld}, n_q, true);
}

void kern_attention_scores_f32_avx2(const float *k, size_t n, size_t head_dim, const float *q, size_t n_q, float scale,
                                    float *out, size_t ld) {
    scores(&(score_args){k, n, head_dim, q, scale, out, ld}, n_q, false);
}

/* ------------------------------------------------------------------ sums ---- */

typedef struct sum_args {
    const void *v;
    size_t n, head_dim;
    const float *w;
    size_t ld;
    float *out;
} sum_args;

/* Columns [d, d + 8 * nv) of heads h .. h + nh */
KERN_INLINE void sum_tile(const sum_args *a, size_t h, size_t d, int nh, int nv, bool f16) {
    __m256 acc[2][8];
    for (int y = 0; y < nh; y++)
        for (int x = 0; x < nv; x++) acc[y][x] = _mm256_loadu_ps(a->out + (h + (size_t)y) * a->head_dim + d + 8 * (size_t)x);
    for (size_t i = 0; i < a->n; i++) {
        __m256 w[2];
        for (int y = 0; y < nh; y++) w[y] = _mm256_broadcast_ss(a->w + (h + (size_t)y) * a->ld + i);
        for (int x = 0; x < nv; x++) {
            __m256 v = load_x(a->v, i * a->head_dim + d + 8 * (size_t)x, f16);
            for (int y = 0; y < nh; y++) acc[y][x] = _mm256_fmadd_ps(w[y], v, acc[y][x]);
        }
    }
    for (int y = 0; y < nh; y++)
        for (int x = 0; x < nv; x++) _mm256_storeu_ps(a->out + (h + (size_t)y) * a->head_dim + d + 8 * (size_t)x, acc[y][x]);
}

KERN_INLINE void sum_column(const sum_args *a, size_t h, size_t d, bool f16) {
    float *out = a->out + h * a->head_dim + d;
    for (size_t i = 0; i < a->n; i++) *out = fmaf(a->w[h * a->ld + i], load_x1(a->v, i * a->head_dim + d, f16), *out);
}

KERN_INLINE void sum_heads(const sum_args *a, size_t h, int nh, int nv, bool f16) {
    size_t d = 0;
    for (; d + 8 * (size_t)nv <= a->head_dim; d += 8 * (size_t)nv) sum_tile(a, h, d, nh, nv, f16);
    for (; d + 8 <= a->head_dim; d += 8) sum_tile(a, h, d, nh, 1, f16);
    for (; d < a->head_dim; d++)
        for (int y = 0; y < nh; y++) sum_column(a, h + (size_t)y, d, f16);
}

KERN_INLINE void accumulate(const sum_args *a, size_t n_q, bool f16) {
    size_t h = 0;
    for (; h + 2 <= n_q; h += 2) sum_heads(a, h, 2, 4, f16);
    if (h < n_q) sum_heads(a, h, 1, 8, f16);
}

void kern_attention_accumulate_f16_avx2(const uint16_t *v, size_t n, size_t head_dim, const float *w, size_t ld, size_t n_q,
                                        float *out) {
    accumulate(&(sum_args){v, n, head_dim, w, ld, out}, n_q, true);
}

void kern_attention_accumulate_f32_avx2(const float *v, size_t n, size_t head_dim, const float *w, size_t ld, size_t n_q,
                                        float *out) {
    accumulate(&(sum_args){v, n, head_dim, w, ld, out}, n_q, false);
}
