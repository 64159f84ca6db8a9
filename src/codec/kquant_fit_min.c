/* Scales and minima of q2_k, q4_k, q5_k:  minimise  sum a (x - (d ls q - dmin lm))^2  over everything that is stored.
 *
 *   1. Each sub-block alone: real (s, m), m <= 0, by weighted least squares from several starts, codes re-rounded in between.
 *   2. For several super-scale pairs (d, dmin) near the ones that just hold the largest s and m, of either sign: each sub-block
 *      takes the best integers (ls, lm) near (s / d, -m / dmin), judged by the true error after rounding. The best starts go
 *      on: (d, dmin) are refitted to the codes by least squares and rounded to f16, and the integers are chosen again, until
 *      nothing is gained.
 * The block as stored is what is judged throughout, so more starts can only help. */
#include <math.h>
#include <stdalign.h>

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

/* The best integers of sub-block j near (s, m): the 4 x 4 nearest pairs. */
static void choose(const fit *f, state *st, int j, float s, float m) {
    const float *x = f->in->x + j * f->k->len, *a = f->in->a + j * f->k->len;
    float at_s = st->d > 0 ? fminf(s / st->d, 1e6f) : 0, at_m = st->dmin > 0 ? fminf(-m / st->dmin, 1e6f) : 0;
    int s0 = (int)floorf(at_s) - 1, m0 = (int)floorf(at_m) - 1;
    for (int k = 0; k < 16; k += 8) {
        float sv[8], mv[8], err[8];
        uint8_t ls[8], lm[8];
        for (int i = 0; i < 8; i++) {
            ls[i] = (uint8_t)clamp(s0 + (k + i) / 4, f->k->top);
            lm[i] = (uint8_t)clamp(m0 + i % 4, f->k->top);
            sv[i] = st->d * (float)ls[i];
            mv[i] = -(st->dmin * (float)lm[i]);
        }
        search_err((size_t)f->k->len, x, a, sv, mv, 0, f->k->hi, err);
        for (int i = 0; i < 8; i++)
            if (err[i] < st->err[j]) st->err[j] = err[i], st->ls[j] = ls[i], st->lm[j] = lm[i];
    }
}

static void choose_all(const fit *f, state *st, const float *s, const float *m) {
    st->total = 0;
    for (int j = 0; j < f->n_sub; j++) {
        st->err[j] = INFINITY;
        choose(f, st, j, s[j], m[j]);
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

/* Refits (d, dmin) to the codes and chooses again, around where the integers are now, until nothing is gained. */
static void descend(const fit *f, state *st, int rounds) {
    for (int r = 0; r < rounds; r++) {
        state next = *st;
        if (!refit_super(f, st, &next)) return;
        float s[MAX_SUB], m[MAX_SUB];
        for (int j = 0; j < f->n_sub; j++) {
            s[j] = next.d * ((float)st->ls[j] + 0.5f);
            m[j] = -(next.dmin * ((float)st->lm[j] + 0.5f));
        }
        choose_all(f, &next, s, m);
        if (!(next.total < st->total)) return;
        *st = next;
    }
}

/* How much is tried: what the starts gain is measured in docs/codecs.md. */
typedef struct effort {
    int sub_starts, refits;      /* step 1: start scales per sub-block (a multiple of 8), least-squares rounds of each */
    int n_d, n_m, keep, rounds;  /* step 2: starts for d and dmin, how many of them descend, and how far */
    bool mirror;                 /* also with d, dmin < 0 */
} effort;
static const effort efforts[] = {[SNUG_EFFORT_QUICK] = {8, 2, 1, 1, 1, 2, false},
                                 [SNUG_EFFORT_NORMAL] = {16, 2, 4, 2, 2, 4, true},
                                 [SNUG_EFFORT_MAX] = {32, 4, 12, 4, 8, 8, true}};
enum { MAX_KEEP = 8 };

static double spread(double from, double to, int i, int n) { return n == 1 ? 1 : from + (to - from) * i / (n - 1); }

/* The best state for d, dmin >= 0. */
static void fit_oriented(fit *f, const effort *e, state *best) {
    float s_top = 0, m_top = 0;
    for (int j = 0; j < f->n_sub; j++) {
        fit_sub(f, j, e->sub_starts, e->refits);
        s_top = f->s[j] > s_top ? f->s[j] : s_top;
        m_top = -f->m[j] > m_top ? -f->m[j] : m_top;
    }
    state kept[MAX_KEEP]; /* the most promising starts, best first */
    int n_kept = 0;
    for (int k = 0; k < e->n_d * e->n_m; k++) {
        state st = {0};
        round_super(f, &st, s_top / (float)f->k->top * spread(0.92, 1.12, k / e->n_m, e->n_d),
                    m_top / (float)f->k->top * spread(0.95, 1.05, k % e->n_m, e->n_m));
        choose_all(f, &st, f->s, f->m);
        int at = n_kept < e->keep ? n_kept++ : e->keep;
        for (; at > 0 && st.total < kept[at - 1].total; at--)
            if (at < e->keep) kept[at] = kept[at - 1];
        if (at < e->keep) kept[at] = st;
    }
    for (int k = 0; k < n_kept; k++) {
        descend(f, &kept[k], e->rounds);
        if (k == 0 || kept[k].total < best->total) *best = kept[k];
    }
}

/* The formats are lopsided: the lower end of a sub-block is its minimum, exact up to lm's step, the upper end follows from both
 * integers. With d and dmin negative the block is stored upside down, and now and then that fits better. */
void kquant_fit_min(const block_in *in, const kquant_min_shape *shape, block_scales *out) {
    const effort *e = &efforts[in->effort];
    fit f = {.in = in, .k = shape, .n_sub = BLOCK_MAX / shape->len};
    state best;
    float sign = 1;
    fit_oriented(&f, e, &best);
    if (e->mirror) {
        alignas(64) float x[BLOCK_MAX];
        block_in mirrored = *in;
        state other;
        for (int i = 0; i < BLOCK_MAX; i++) x[i] = -in->x[i];
        mirrored.x = x;
        f.in = &mirrored;
        fit_oriented(&f, e, &other);
        if (other.total < best.total) best = other, sign = -1;
    }
    out->d = block_f16_bits(sign * best.d, in->unit);
    out->dmin = block_f16_bits(sign * best.dmin, in->unit);
    for (int j = 0; j < f.n_sub; j++) out->ls[j] = best.ls[j], out->lm[j] = best.lm[j];
}
