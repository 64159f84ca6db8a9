/* See search.h. Lanes are candidates: each weight is broadcast, so there is no sum across lanes and nothing to reassociate. */
#include "codec/search.h"

#include <math.h>

#include "codec/vec.h"

/* 1 / s, and 0 for s = 0 (code 0 then, or the nearest to it). */
VEC_INLINE v8f inverse(v8f s) { return v8_select(s != v8_set(0), 1 / s, v8_set(0)); }

/* A table of 16 ascending values, laid out for a binary search by permutation: level k of the search has 2^k thresholds, each
 * the midpoint of two neighbours. */
typedef struct lookup { v8f level0, low1, high1, level2, level3, low, high; } lookup;

VEC_INLINE lookup lookup_of(const int8_t *table) {
    float value[16], mid[16] = {0};
    for (int i = 0; i < 16; i++) value[i] = table[i];
    for (int i = 0; i < 15; i++) mid[i] = 0.5f * (value[i] + value[i + 1]);
    lookup l = {.level0 = v8_set(mid[7]), .low1 = v8_set(mid[3]), .high1 = v8_set(mid[11])};
    for (int i = 0; i < 8; i++) {
        l.level2[i] = mid[4 * (i % 4) + 1];
        l.level3[i] = mid[2 * i];
        l.low[i] = value[i];
        l.high[i] = value[i + 8];
    }
    return l;
}

/* The value nearest to t. Comparisons give -1 for true, so doubling and subtracting them builds the index. */
VEC_INLINE v8f nearest(v8f t, const lookup *l) {
    v8i upper = t > l->level0, i = -upper;
    i = 2 * i - (t > v8_select(upper, l->high1, l->low1));
    i = 2 * i - (t > v8_permute(l->level2, i));
    i = 2 * i - (t > v8_permute(l->level3, i));
    return v8_select(upper, v8_permute(l->high, i), v8_permute(l->low, i));
}

static VEC_CLONES void nearest8_clones(const float t[8], const int8_t table[16], float value[8]) {
    lookup l = lookup_of(table);
    v8_store(value, nearest(v8_load(t), &l));
}
void search_nearest8(const float t[8], const int8_t table[16], float value[8]) {
    nearest8_clones(t, table, value);
}

static VEC_CLONES void err_clones(size_t n, const float *x, const float *a, const float s[8], const float m[8], int lo,
                                  int hi, float err[8]) {
    v8f sv = v8_load(s), mv = v8_load(m), inv = inverse(sv), l = v8_set((float)lo), h = v8_set((float)hi), e = v8_set(0);
    for (size_t i = 0; i < n; i++) {
        v8f d = v8_set(x[i]) - mv, q = v8_clamp_rint(d * inv, l, h);
        d -= sv * q;
        e += a[i] * (d * d);
    }
    v8_store(err, e);
}
void search_err(size_t n, const float *x, const float *a, const float s[8], const float m[8], int lo, int hi,
                float err[8]) {
    err_clones(n, x, a, s, m, lo, hi, err);
}

VEC_INLINE void err_scale(size_t n, const float *x, const float *a, const float s[8], int lo, int hi, const int8_t *table,
                          float err[8]) {
    v8f sv = v8_load(s), inv = inverse(sv), l = v8_set((float)lo), h = v8_set((float)hi), e = v8_set(0);
    lookup look;
    if (table) look = lookup_of(table);
    for (size_t i = 0; i < n; i++) {
        v8f t = x[i] * inv, q = table ? nearest(t, &look) : v8_clamp_rint(t, l, h);
        v8f d = x[i] - sv * q;
        e += a[i] * (d * d);
    }
    v8_store(err, e);
}

static VEC_CLONES void err_table(size_t n, const float *x, const float *a, const float s[8], const int8_t *table, float err[8]) {
    err_scale(n, x, a, s, 0, 0, table, err);
}
static VEC_CLONES void err_linear(size_t n, const float *x, const float *a, const float s[8], int lo, int hi, float err[8]) {
    err_scale(n, x, a, s, lo, hi, NULL, err);
}
void search_err_scale(size_t n, const float *x, const float *a, const float s[8], int lo, int hi, const int8_t *table, float err[8]) {
    if (table) err_table(n, x, a, s, table, err);
    else err_linear(n, x, a, s, lo, hi, err);
}

VEC_INLINE void refit_scale(size_t n, const float *x, const float *a, float s[8], int lo, int hi, const int8_t *table) {
    v8f sv = v8_load(s), inv = inverse(sv), l = v8_set((float)lo), h = v8_set((float)hi), qx = v8_set(0), qq = v8_set(0);
    lookup look;
    if (table) look = lookup_of(table);
    for (size_t i = 0; i < n; i++) {
        v8f t = x[i] * inv, q = table ? nearest(t, &look) : v8_clamp_rint(t, l, h), aq = a[i] * q;
        qx += aq * x[i];
        qq += aq * q;
    }
    v8_store(s, v8_select(qq > v8_set(0), qx / qq, sv));
}

static VEC_CLONES void refit_table(size_t n, const float *x, const float *a, float s[8], const int8_t *table) {
    refit_scale(n, x, a, s, 0, 0, table);
}
static VEC_CLONES void refit_linear(size_t n, const float *x, const float *a, float s[8], int lo, int hi) {
    refit_scale(n, x, a, s, lo, hi, NULL);
}
void search_refit_scale(size_t n, const float *x, const float *a, float s[8], int lo, int hi, const int8_t *table) {
    if (table) refit_table(n, x, a, s, table);
    else refit_linear(n, x, a, s, lo, hi);
}

/* Normal equations of  x ~ s q + m  with weights a: det = A QQ - Q Q,  s = (A QX - Q X) / det,  m = (QQ X - Q QX) / det. With m
 * held at 0, s = QX / QQ. Codes that are all equal leave det = 0 (up to rounding): the candidate stays as it was. */
static VEC_CLONES void refit_min_clones(size_t n, const float *x, const float *a, float s[8], float m[8], int lo,
                                        int hi, bool min_le_0) {
    v8f sv = v8_load(s), mv = v8_load(m), inv = inverse(sv), l = v8_set((float)lo), h = v8_set((float)hi), zero = v8_set(0);
    v8f q_ = zero, qq = zero, qx = zero;
    float a_ = 0, x_ = 0;
    for (size_t i = 0; i < n; i++) {
        v8f q = v8_clamp_rint((v8_set(x[i]) - mv) * inv, l, h), aq = a[i] * q;
        q_ += aq;
        qq += aq * q;
        qx += aq * x[i];
        a_ += a[i];
        x_ += a[i] * x[i];
    }
    v8f det = a_ * qq - q_ * q_;
    v8i ok = det > 1e-5f * (a_ * qq);
    v8f s1 = (a_ * qx - q_ * x_) / det, m1 = (qq * x_ - q_ * qx) / det;
    if (min_le_0) {
        v8i held = m1 > zero;
        s1 = v8_select(held, qx / qq, s1);
        m1 = v8_select(held, zero, m1);
    }
    v8_store(s, v8_select(ok, s1, sv));
    v8_store(m, v8_select(ok, m1, mv));
}
void search_refit_min(size_t n, const float *x, const float *a, float s[8], float m[8], int lo, int hi, bool min_le_0) {
    refit_min_clones(n, x, a, s, m, lo, hi, min_le_0);
}

/* Here lanes are weights; the sums of the eight lanes are added by a fixed tree. */
VEC_INLINE void code_sums(size_t n, const float *x, const float *a, float s, float m, int lo, int hi, const int8_t *table,
                          search_sums *out) {
    v8f inv = v8_set(s != 0 ? 1 / s : 0), l = v8_set((float)lo), h = v8_set((float)hi), zero = v8_set(0);
    v8f a_ = zero, x_ = zero, q_ = zero, qq = zero, qx = zero;
    lookup look;
    if (table) look = lookup_of(table);
    for (size_t i = 0; i < n; i += 8) {
        v8f xv = v8_load(x + i), av = v8_load(a + i), t = (xv - m) * inv;
        v8f q = table ? nearest(t, &look) : v8_clamp_rint(t, l, h), aq = av * q;
        a_ += av;
        x_ += av * xv;
        q_ += aq;
        qq += aq * q;
        qx += aq * xv;
    }
    *out = (search_sums){v8_sum(a_), v8_sum(x_), v8_sum(q_), v8_sum(qq), v8_sum(qx)};
}

static VEC_CLONES void code_sums_clones(size_t n, const float *x, const float *a, float s, float m, int lo, int hi,
                                        search_sums *out) {
    code_sums(n, x, a, s, m, lo, hi, NULL, out);
}
void search_code_sums(size_t n, const float *x, const float *a, float s, float m, int lo, int hi, search_sums *out) {
    code_sums_clones(n, x, a, s, m, lo, hi, out);
}
static VEC_CLONES void code_sums_table(size_t n, const float *x, const float *a, float s, const int8_t *table, search_sums *out) {
    code_sums(n, x, a, s, 0, 0, 0, table, out);
}
void search_code_sums_scale(size_t n, const float *x, const float *a, float s, int lo, int hi, const int8_t *table, search_sums *out) {
    if (table) code_sums_table(n, x, a, s, table, out);
    else search_code_sums(n, x, a, s, 0, lo, hi, out);
}

/* Start scales: the largest weight at code K for K spread around each end of the code range, of both signs (the range may
 * be lopsided, and so may the block). Each is refitted to its codes, rounded to f16 and judged as stored. */
uint16_t search_f16_scale(const block_in *in, size_t n, int lo, int hi, const int8_t *table, int rounds) {
    float top = 0, best = INFINITY;
    for (size_t i = 0; i < n; i++) top = fabsf(in->x[i]) > top ? fabsf(in->x[i]) : top;
    if (top == 0) return 0;
    uint16_t best_bits = 0;
    int reach = -lo > hi ? -lo : hi, lanes = 8 * rounds;
    bool fine = reach > 16 && !table; /* many codes: clipping never pays, only the last step matters */
    float first = fine ? 1 + 1.0f / (float)reach : 1.12f, last = fine ? 1 - 1.0f / (float)reach : 0.7f;
    for (int k = 0; k < lanes; k += 8) {
        float s[8], err[8];
        uint16_t bits[8];
        for (int j = 0; j < 8; j++) { /* both signs by turns */
            float at = (float)((k + j) / 2) / (float)(lanes / 2 - 1), code = (float)reach * (first + (last - first) * at);
            s[j] = ((k + j) % 2 ? -top : top) / code;
        }
        search_refit_scale(n, in->x, in->a, s, lo, hi, table);
        for (int j = 0; j < 8; j++) bits[j] = block_f16_bits(s[j], in->unit), s[j] = f16_to_f32(bits[j]) / in->unit;
        search_err_scale(n, in->x, in->a, s, lo, hi, table, err);
        for (int j = 0; j < 8; j++)
            if (err[j] < best) best = err[j], best_bits = bits[j];
    }
    return best_bits;
}
