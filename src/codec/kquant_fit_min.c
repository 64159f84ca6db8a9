/* Scales and minima of q2_k, q4_k, q5_k:  minimise  sum a (x - (d ls q - dmin lm))^2  over everything that is stored.
 *
 *   1. Each sub-block alone: real (s, m), m <= 0, by weighted least squares from several starts, codes re-rounded in between.
 *   2. For several super-scale pairs (d, dmin) near the ones that just hold the largest s and m: each sub-block takes the best
 *      integers (ls, lm) near (s / d, -m / dmin), judged by the true error after rounding; then (d, dmin) are refitted to the
 *      codes by least squares and rounded to f16, and the integers are chosen again, until nothing is gained.
 * The block as stored is what is judged throughout, so more starts can only help. */
#include <math.h>

#include "codec/kquant.h"
#include "codec/search.h"

enum { MAX_SUB = 16 };

typedef struct fit {
    const block_in *in;
    const kquant_min_shape *k;
    int n_sub;
    float s[MAX_SUB], m[MAX_SUB]; /* step 1 */
} fit;

typedef struct state {
    float d, dmin; /* as stored, in the block's unit */
    uint8_t ls[MAX_SUB], lm[MAX_SUB];
    float err[MAX_SUB];
    double total;
} state;

/* Step 1. Starts: the sub-block's range over hi + delta, so that the ends are reached, overshot or clipped. */
static void fit_sub(fit *f, int j, int starts, int refits) {
    const float *x = f->in->x + j * f->k->len, *a = f->in->a + j * f->k->len;
    float lo = 0, hi = x[0], best = INFINITY, hi_code = (float)f->k->hi;
    for (int i = 0; i < f->k->len; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    f->s[j] = 0;
    f->m[j] = lo;
    if (!(hi > lo)) return;
    float spread = f->k->hi <= 3 ? 2.2f : f->k->hi <= 15 ? 2.4f : 3.0f;
    for (int k = 0; k < starts; k += 8) {
        float s[8], m[8], err[8];
        for (int i = 0; i < 8; i++) {
            float delta = -0.3f * spread + spread * (float)(k + i) / (float)(starts - 1);
            s[i] = (hi - lo) / (hi_code + delta);
            m[i] = lo + 0.5f * ((hi - lo) - s[i] * hi_code); /* clip both ends alike */
            if (m[i] > 0) m[i] = 0;
        }
        for (int r = 0; r < refits; r++) search_refit_min((size_t)f->k->len, x, a, s, m, 0, f->k->hi, true);
        search_err((size_t)f->k->len, x, a, s, m, 0, f->k->hi, err);
        for (int i = 0; i < 8; i++)
            if (err[i] < best) best = err[i], f->s[j] = s[i], f->m[j] = m[i];
    }
}

static int clamp(int v, int hi) { return v < 0 ? 0 : v > hi ? hi : v; }

/* The best integers of sub-block j near (s, m): a window of `wide` x 4 or so around them. */
static void choose(const fit *f, state *st, int j, float s, float m, bool wide) {
    const float *x = f->in->x + j * f->k->len, *a = f->in->a + j * f->k->len;
    float at_s = st->d > 0 ? s / st->d : 0, at_m = st->dmin > 0 ? -m / st->dmin : 0;
    at_s = at_s < 1e6f ? at_s : 1e6f;
    at_m = at_m < 1e6f ? at_m : 1e6f;
    int s0 = (int)floorf(at_s), m0 = (int)floorf(at_m), n_m = wide ? 4 : 2, first_m = wide ? -1 : 0, n_s = wide ? 4 : 2;
    int first_s = wide ? -1 : 0, n = n_s * n_m;
    for (int k = 0; k < n; k += 8) {
        float sv[8], mv[8], err[8];
        uint8_t ls[8], lm[8];
        for (int i = 0; i < 8; i++) {
            int c = (k + i) % n;
            ls[i] = (uint8_t)clamp(s0 + first_s + c / n_m, f->k->top);
            lm[i] = (uint8_t)clamp(m0 + first_m + c % n_m, f->k->top);
            sv[i] = st->d * (float)ls[i];
            mv[i] = -(st->dmin * (float)lm[i]);
        }
        search_err((size_t)f->k->len, x, a, sv, mv, 0, f->k->hi, err);
        for (int i = 0; i < 8; i++)
            if (err[i] < st->err[j]) st->err[j] = err[i], st->ls[j] = ls[i], st->lm[j] = lm[i];
    }
}

static void choose_all(const fit *f, state *st, const float *s, const float *m, bool wide) {
    st->total = 0;
    for (int j = 0; j < f->n_sub; j++) {
        st->err[j] = INFINITY;
        choose(f, st, j, s[j], m[j], wide);
        st->total += st->err[j];
    }
}

static void round_super(const fit *f, state *st, double d, double dmin) {
    st->d = d > 0 ? block_f16((float)d, f->in->unit) : 0;
    st->dmin = dmin > 0 ? block_f16((float)dmin, f->in->unit) : 0;
}

/* (d, dmin) that are best for the codes and integers of st; false when they are not determined. */
static bool refit_super(const fit *f, const state *st, state *out) {
    double uu = 0, uv = 0, vv = 0, ux = 0, vx = 0; /* u = ls q, v = -lm */
    for (int j = 0; j < f->n_sub; j++) {
        search_sums sums;
        double ls = st->ls[j], lm = st->lm[j];
        search_code_sums((size_t)f->k->len, f->in->x + j * f->k->len, f->in->a + j * f->k->len, st->d * (float)st->ls[j],
                         -(st->dmin * (float)st->lm[j]), 0, f->k->hi, &sums);
        uu += ls * ls * sums.qq;
        uv -= ls * lm * sums.q;
        vv += lm * lm * sums.a;
        ux += ls * sums.qx;
        vx -= lm * sums.x;
    }
    double det = uu * vv - uv * uv, d, dmin;
    if (det > 1e-9 * uu * vv) {
        d = (ux * vv - vx * uv) / det;
        dmin = (vx * uu - ux * uv) / det;
    } else if (uu > 0) {
        d = ux / uu;
        dmin = st->dmin;
    } else {
        return false;
    }
    round_super(f, out, d, dmin);
    return out->d != st->d || out->dmin != st->dmin;
}

/* Step 2 from one pair of super-scales. */
static void descend(const fit *f, state *st, int rounds, bool wide) {
    choose_all(f, st, f->s, f->m, wide);
    for (int r = 0; r < rounds; r++) {
        state next = *st;
        if (!refit_super(f, st, &next)) return;
        float s[MAX_SUB], m[MAX_SUB];
        for (int j = 0; j < f->n_sub; j++) { /* around where the integers are now, and around the ideal */
            s[j] = next.d * ((float)st->ls[j] + 0.5f);
            m[j] = -(next.dmin * ((float)st->lm[j] + 0.5f));
        }
        choose_all(f, &next, s, m, true);
        if (!(next.total < st->total)) return;
        *st = next;
    }
}

void kquant_fit_min(const block_in *in, const kquant_min_shape *shape, block_scales *out) {
    fit f = {.in = in, .k = shape, .n_sub = BLOCK_MAX / shape->len};
    bool quick = in->effort == SNUG_EFFORT_QUICK, most = in->effort == SNUG_EFFORT_MAX;
    float s_top = 0, m_top = 0;
    for (int j = 0; j < f.n_sub; j++) {
        fit_sub(&f, j, quick ? 8 : most ? 32 : 16, quick ? 1 : 2);
        s_top = f.s[j] > s_top ? f.s[j] : s_top;
        m_top = -f.m[j] > m_top ? -f.m[j] : m_top;
    }
    if (s_top == 0 && m_top == 0) return; /* zeros: all stored fields 0 */
    state best = {.total = INFINITY};
    int n_d = quick ? 1 : most ? 12 : 4, n_m = quick ? 1 : most ? 6 : 2;
    for (int k = 0; k < n_d * n_m; k++) {
        state st = {0};
        double fd = quick ? 0 : 0.92 + 0.2 * (k / n_m) / (n_d - 1), fm = quick ? 0 : 0.95 + 0.1 * (k % n_m) / (n_m - 1);
        round_super(&f, &st, s_top / shape->top * (quick ? 1 : fd), m_top / shape->top * (quick ? 1 : fm));
        descend(&f, &st, quick ? 1 : most ? 8 : 3, !quick);
        if (st.total < best.total) best = st;
    }
    out->d = block_f16_bits(best.d, in->unit);
    out->dmin = block_f16_bits(best.dmin, in->unit);
    for (int j = 0; j < f.n_sub; j++) out->ls[j] = best.ls[j], out->lm[j] = best.lm[j];
}
