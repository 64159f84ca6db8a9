/* Attention. Scores of 16 positions lie in two registers, so a dot is its own chain in a lane and nothing is summed across
 * lanes; sums keep a strip of the outputs in registers while the positions pass. Both take up to four queries at a time, enough
 * that a key or value that was converted from f16 is used often, and as many tiles or columns as give 8 to 12 chains of fma:
 * with less the latency shows, with more the registers do not suffice. */
#include "kern/simd/vexp.h"

KERN_INLINE vf load_kv(const void *p, size_t i, bool f16) {
    return f16 ? f_of_half((const uint8_t *)p + 2 * i) : f_load((const float *)p + i);
}
KERN_INLINE float load_kv1(const void *p, size_t i, bool f16) {
    return f16 ? half((const uint8_t *)p + 2 * i) : ((const float *)p)[i];
}

/* A step of a loop works on n elements from element `at` on; prefetches what stands there in `next`. Some lines are asked for
 * twice, and with nothing to fetch the data in work: that costs less than a branch. */
KERN_INLINE void fetch(const uint8_t *next, size_t at, size_t n, bool f16) {
    const size_t size = f16 ? 2 : 4;
    for (size_t b = 0; b < n * size; b += 64) __builtin_prefetch(next + at * size + b);
}

/* ---------------------------------------------------------------- scores ---- */

typedef struct score_args {
    const void *k;
    size_t n_tiles, head_dim;
    const float *q;
    float scale;
    float *scores;
    size_t ld;
    const uint8_t *next;
} score_args;

/* nt tiles from `tile` on, of queries [h, h + nq) */
KERN_INLINE void score_tiles(const score_args *a, size_t h, size_t tile, int nq, int nt, bool f16) {
    const size_t hd = a->head_dim, at = tile * KERN_TILE * hd;
    const uint8_t *next = h == 0 && a->next ? a->next : a->k;
    const float *q = a->q + h * hd;
    vf dot[4][4][2];
    for (int y = 0; y < nq; y++)
        for (int x = 0; x < nt; x++) dot[y][x][0] = dot[y][x][1] = f_zero();
    for (size_t d = 0; d < hd; d++)
        for (int x = 0; x < nt; x++) {
            const size_t from = at + ((size_t)x * hd + d) * KERN_TILE;
            fetch(next, from, KERN_TILE, f16);
            vf k0 = load_kv(a->k, from, f16), k1 = load_kv(a->k, from + 8, f16);
            for (int y = 0; y < nq; y++) {
                vf vq = f_load1(q + (size_t)y * hd + d);
                dot[y][x][0] = f_fma(k0, vq, dot[y][x][0]);
                dot[y][x][1] = f_fma(k1, vq, dot[y][x][1]);
            }
        }
    const vf scale = f_set1(a->scale);
    for (int y = 0; y < nq; y++)
        for (int x = 0; x < nt; x++) {
            float *to = a->scores + (h + (size_t)y) * a->ld + (tile + (size_t)x) * KERN_TILE;
            f_store(to, f_mul(scale, dot[y][x][0]));
            f_store(to + 8, f_mul(scale, dot[y][x][1]));
        }
}

KERN_INLINE void score_queries(const score_args *a, size_t h, int nq, int nt, bool f16) {
    size_t tile = 0;
    for (; tile + (size_t)nt <= a->n_tiles; tile += (size_t)nt) score_tiles(a, h, tile, nq, nt, f16);
    for (; tile < a->n_tiles; tile++) score_tiles(a, h, tile, nq, 1, f16);
}

/* How many of the n queries that are left go together: 5 are 3 and 2. */
KERN_INLINE size_t next_queries(size_t n) { return n == 5 ? 3 : n < 4 ? n : 4; }

KERN_INLINE void scores(const score_args *a, size_t n_q, bool f16) {
    for (size_t h = 0, nq; h < n_q; h += nq) {
        nq = next_queries(n_q - h);
        if (nq == 4) score_queries(a, h, 4, 1, f16);
        else if (nq == 3) score_queries(a, h, 3, 1, f16);
        else if (nq == 2) score_queries(a, h, 2, 2, f16);
        else score_queries(a, h, 1, 4, f16);
    }
}

void KERN_ISA(kern_attention_scores_f16)(const uint16_t *k, size_t n_tiles, size_t head_dim, const float *q, size_t n_q, float scale,
                                    float *out, size_t ld, const void *next) {
    scores(&(score_args){k, n_tiles, head_dim, q, scale, out, ld, next}, n_q, true);
}

void KERN_ISA(kern_attention_scores_f32)(const float *k, size_t n_tiles, size_t head_dim, const float *q, size_t n_q, float scale,
                                    float *out, size_t ld, const void *next) {
    scores(&(score_args){k, n_tiles, head_dim, q, scale, out, ld, next}, n_q, false);
}

/* --------------------------------------------------------------- weights ---- */

/* Of whole 16s: -inf beside the range changes no maximum, and its exp, +0, no sum. */
KERN_INLINE float weigh(float *x, size_t n, float *sum) {
    vf m0 = f_set1(-INFINITY), m1 = m0, l0 = f_zero(), l1 = l0;
    for (size_t i = 0; i < n; i += 16) { /* a NaN in the first operand is skipped */
        m0 = f_max(f_load(x + i), m0);
        m1 = f_max(f_load(x + i + 8), m1);
    }
    const float max = f_highest(f_max(m0, m1)) + 0.0f;
    const vf vmax = f_set1(max);
    for (size_t i = 0; i < n; i += 16) {
        vf a = vexp_negative(f_sub(f_load(x + i), vmax));
        vf b = vexp_negative(f_sub(f_load(x + i + 8), vmax));
        f_store(x + i, a);
        f_store(x + i + 8, b);
        l0 = f_add(l0, a);
        l1 = f_add(l1, b);
    }
    *sum = tree16(l0, l1);
    return max;
}

void KERN_ISA(kern_attention_weigh)(float *x, size_t ld, size_t n_q, size_t begin, size_t end, float *max, float *sum) {
    const size_t first = begin / 16 * 16, last = (end + 15) / 16 * 16;
    for (size_t h = 0; h < n_q; h++, x += ld) {
        for (size_t i = first; i < begin; i++) x[i] = -INFINITY;
        for (size_t i = end; i < last; i++) x[i] = -INFINITY;
        max[h] = weigh(x + first, last - first, &sum[h]);
    }
}

/* ------------------------------------------------------------------ sums ---- */

typedef struct sum_args {
    const void *v;
    size_t n, head_dim;
    const float *w;
    size_t ld;
    float *out;
    const uint8_t *next;
} sum_args;

/* Columns [d, d + 8 * nv) of queries [h, h + nq) */
KERN_INLINE void sum_tile(const sum_args *a, size_t h, size_t d, int nq, int nv, bool f16) {
    float *out = a->out + h * a->head_dim + d;
    const float *w = a->w + h * a->ld;
    const uint8_t *next = h == 0 && a->next ? a->next : a->v;
    vf acc[4][8];
    for (int y = 0; y < nq; y++)
        for (int x = 0; x < nv; x++) acc[y][x] = f_load(out + (size_t)y * a->head_dim + 8 * x);
    for (size_t i = 0; i < a->n; i++) {
        fetch(next, d * a->n + i * 8 * (size_t)nv, 8 * (size_t)nv, f16);
        vf vw[4];
        for (int y = 0; y < nq; y++) vw[y] = f_load1(w + (size_t)y * a->ld + i);
        for (int x = 0; x < nv; x++) {
            vf v = load_kv(a->v, i * a->head_dim + d + 8 * (size_t)x, f16);
            for (int y = 0; y < nq; y++) acc[y][x] = f_fma(vw[y], v, acc[y][x]);
        }
    }
    for (int y = 0; y < nq; y++)
        for (int x = 0; x < nv; x++) f_store(out + (size_t)y * a->head_dim + 8 * x, acc[y][x]);
}

KERN_INLINE void sum_column(const sum_args *a, size_t h, size_t d, bool f16) {
    float *out = a->out + h * a->head_dim + d;
    for (size_t i = 0; i < a->n; i++) *out = fmaf(a->w[h * a->ld + i], load_kv1(a->v, i * a->head_dim + d, f16), *out);
}

KERN_INLINE void sum_queries(const sum_args *a, size_t h, int nq, int nv, bool f16) {
    size_t d = 0;
    for (; d + 8 * (size_t)nv <= a->head_dim; d += 8 * (size_t)nv) sum_tile(a, h, d, nq, nv, f16);
    for (; d + 8 <= a->head_dim; d += 8) sum_tile(a, h, d, nq, 1, f16);
    for (; d < a->head_dim; d++)
        for (int y = 0; y < nq; y++) sum_column(a, h + (size_t)y, d, f16);
}

KERN_INLINE void accumulate(const sum_args *a, size_t n_q, bool f16) {
    for (size_t h = 0, nq; h < n_q; h += nq) {
        nq = next_queries(n_q - h);
        if (nq == 4) sum_queries(a, h, 4, 2, f16);
        else if (nq == 3) sum_queries(a, h, 3, 4, f16);
        else if (nq == 2) sum_queries(a, h, 2, 4, f16);
        else sum_queries(a, h, 1, 8, f16);
    }
}

void KERN_ISA(kern_attention_accumulate_f16)(const uint16_t *v, size_t n, size_t head_dim, const float *w, size_t ld, size_t n_q,
                                        float *out, const void *next) {
    accumulate(&(sum_args){v, n, head_dim, w, ld, out, next}, n_q, true);
}

void KERN_ISA(kern_attention_accumulate_f32)(const float *v, size_t n, size_t head_dim, const float *w, size_t ld, size_t n_q,
                                        float *out, const void *next) {
    accumulate(&(sum_args){v, n, head_dim, w, ld, out, next}, n_q, false);
}

/* ---------------------------------------------------------------- blocks ---- */

void KERN_ISA(kern_attention_merge)(const kern_partial *block, size_t n_q, size_t head_dim, const kern_partial *state) {
    for (size_t h = 0; h < n_q; h++) {
        float m = block->max[h], max = state->max[h] > m ? state->max[h] : m;
        const float a = canon_expf(state->max[h] - max), b = canon_expf(m - max), *from = block->out + h * head_dim;
        const vf va = f_set1(a), vb = f_set1(b);
        float *to = state->out + h * head_dim;
        size_t d = 0;
        state->max[h] = max;
        state->sum[h] = fmaf(block->sum[h], b, state->sum[h] * a);
        for (; d + 8 <= head_dim; d += 8)
            f_store(to + d, f_fma(f_load(from + d), vb, f_mul(f_load(to + d), va)));
        for (; d < head_dim; d++) to[d] = fmaf(from[d], b, to[d] * a);
    }
}
