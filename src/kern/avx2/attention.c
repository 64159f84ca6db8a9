/* Attention over one page. Scores come four at a time, 2 heads x 2 positions or 1 head x 4 positions, so that the four final
 * trees are one transposition; sums keep a strip of the output of two heads (or one) in registers while the positions pass.
 * A key or value is converted from f16 once per two heads. */
#include "kern/avx2/avx2.h"
#include "kern/canon.h"

KERN_INLINE __m256 load_kv(const void *p, size_t i, bool f16) {
    return f16 ? _mm256_cvtph_ps(load_i128((const uint8_t *)p + 2 * i)) : _mm256_loadu_ps((const float *)p + i);
}
KERN_INLINE float load_kv1(const void *p, size_t i, bool f16) {
    return f16 ? half((const uint8_t *)p + 2 * i) : ((const float *)p)[i];
}

/* ---------------------------------------------------------------- scores ---- */

/* canon_tree16 of four sets of lanes. After low + high and the two halves of that, row j holds 0+4, 1+5, 2+6, 3+7 of set j;
 * transposed, the rest of the tree runs across the sets. */
KERN_INLINE __m128 four_trees(__m256 lane[4][2]) {
    __m128 v[4];
    for (int j = 0; j < 4; j++) {
        __m256 a = _mm256_add_ps(lane[j][0], lane[j][1]);
        v[j] = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    }
    _MM_TRANSPOSE4_PS(v[0], v[1], v[2], v[3]);
    return _mm_add_ps(_mm_add_ps(v[0], v[2]), _mm_add_ps(v[1], v[3]));
}

/* Columns [k, n) of four dots, n - k < 16: the lanes go through memory. */
KERN_INLINE void add_tail(__m256 lane[4][2], size_t k, size_t n, const float *const q[4], const void *key, const size_t at[4], bool f16) {
    for (int j = 0; j < 4; j++) {
        float l[16];
        _mm256_storeu_ps(l, lane[j][0]);
        _mm256_storeu_ps(l + 8, lane[j][1]);
        for (size_t i = k; i < n; i++) l[i % 16] = fmaf(load_kv1(key, at[j] + i, f16), q[j][i], l[i % 16]);
        lane[j][0] = _mm256_loadu_ps(l);
        lane[j][1] = _mm256_loadu_ps(l + 8);
    }
}

/* Four dots of nh heads (2 or 1) with the 4 / nh keys that begin at elements at[]: h0k0 h0k1 h1k0 h1k1, or h0k0 .. h0k3. */
KERN_INLINE __m128 four_dots(int nh, const float *q, size_t hd, const void *key, const size_t at[], bool f16) {
    const int nk = 4 / nh;
    __m256 lane[4][2];
    for (int j = 0; j < 4; j++) lane[j][0] = lane[j][1] = _mm256_setzero_ps();
    size_t k = 0;
    for (; k + 16 <= hd; k += 16)
        for (int h = 0; h < 2; h++) {
            __m256 vk[4];
            for (int i = 0; i < nk; i++) vk[i] = load_kv(key, at[i] + k + 8 * (size_t)h, f16);
            for (int y = 0; y < nh; y++) {
                __m256 vq = _mm256_loadu_ps(q + (size_t)y * hd + k + 8 * (size_t)h);
                for (int i = 0; i < nk; i++) lane[y * nk + i][h] = _mm256_fmadd_ps(vk[i], vq, lane[y * nk + i][h]);
            }
        }
    if (k < hd) {
        const float *const four_q[4] = {q, q, nh == 2 ? q + hd : q, nh == 2 ? q + hd : q};
        const size_t four_at[4] = {at[0], at[1], at[nh == 2 ? 0 : 2], at[nh == 2 ? 1 : 3]};
        add_tail(lane, k, hd, four_q, key, four_at, f16);
    }
    return four_trees(lane);
}

typedef struct score_args {
    const void *k;
    size_t n, head_dim;
    const float *q;
    float scale;
    float *scores;
    size_t ld;
} score_args;

/* All positions of nh heads. Past the end the last position is taken again and dropped. */
KERN_INLINE void score_heads(const score_args *a, size_t h, int nh, bool f16) {
    const size_t nk = (size_t)(4 / nh);
    for (size_t i = 0; i < a->n; i += nk) {
        size_t at[4], left = a->n - i < nk ? a->n - i : nk;
        for (size_t j = 0; j < nk; j++) at[j] = (i + (j < left ? j : left - 1)) * a->head_dim;
        __m128 s = _mm_mul_ps(_mm_set1_ps(a->scale), four_dots(nh, a->q + h * a->head_dim, a->head_dim, a->k, at, f16));
        float *to = a->scores + h * a->ld + i;
        if (left == 4) {
            _mm_storeu_ps(to, s);
        } else if (nh == 2 && left == 2) {
            _mm_storel_pi((__m64 *)(void *)to, s);
            _mm_storeh_pi((__m64 *)(void *)(to + a->ld), s);
        } else {
            float four[4];
            _mm_storeu_ps(four, s);
            for (size_t y = 0; y < (size_t)nh; y++)
                for (size_t j = 0; j < left; j++) to[y * a->ld + j] = four[y * nk + j];
        }
    }
}

KERN_INLINE void scores(const score_args *a, size_t n_q, bool f16) {
    size_t h = 0;
    for (; h + 2 <= n_q; h += 2) score_heads(a, h, 2, f16);
    if (h < n_q) score_heads(a, h, 1, f16);
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
            __m256 v = load_kv(a->v, i * a->head_dim + d + 8 * (size_t)x, f16);
            for (int y = 0; y < nh; y++) acc[y][x] = _mm256_fmadd_ps(w[y], v, acc[y][x]);
        }
    }
    for (int y = 0; y < nh; y++)
        for (int x = 0; x < nv; x++) _mm256_storeu_ps(a->out + (h + (size_t)y) * a->head_dim + d + 8 * (size_t)x, acc[y][x]);
}

KERN_INLINE void sum_column(const sum_args *a, size_t h, size_t d, bool f16) {
    float *out = a->out + h * a->head_dim + d;
    for (size_t i = 0; i < a->n; i++) *out = fmaf(a->w[h * a->ld + i], load_kv1(a->v, i * a->head_dim + d, f16), *out);
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
