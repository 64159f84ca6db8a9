/* Scales of q3_k, q6_k, iq4_xs:  minimise  sum a (x - d ls q)^2  over everything that is stored. The code range is lopsided
 * (-4..3, -32..31, a table), so the sign of a scale matters: both are tried for every sub-block.
 *
 *   1. Each sub-block alone: the best real scale of either sign, by weighted least squares from several starts.
 *   2. For several d near the one that just holds the largest scale, of both signs: each sub-block takes the best integer ls near
 *      s / d of either sign, judged by the true error after rounding; d is refitted to the codes and rounded to f16; until
 *      nothing is gained. */
#include <math.h>

#include "codec/kquant.h"
#include "codec/search.h"

enum { MAX_SUB = 16, MAX_KEEP = 8 };

typedef struct fit {
    const block_in *in;
    const kquant_signed_shape *k;
    int n_sub;
    float plus[MAX_SUB], minus[MAX_SUB]; /* the best scale > 0 and < 0 of each sub-block */
} fit;

typedef struct state {
    float d; /* as stored, in the block's unit */
    int8_t ls[MAX_SUB];
    float err[MAX_SUB];
    double total;
} state;

static void fit_sub(fit *f, int j, int starts, int refits) {
    size_t len = (size_t)f->k->len;
    const float *x = f->in->x + j * f->k->len, *a = f->in->a + j * f->k->len;
    float top = 0;
    for (size_t i = 0; i < len; i++) top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
    f->plus[j] = f->minus[j] = 0;
    if (top == 0) return;
    int reach = f->k->table ? 127 : -f->k->lo;
    for (int sign = 0; sign < 2; sign++) {
        float best = INFINITY;
        for (int k = 0; k < starts; k += 8) {
            float s[8], err[8];
            for (int i = 0; i < 8; i++) {
                /* the largest weight at a code of 0.68 .. 1.24 times the reach, closer to it where codes are fine */
                float t = (float)(k + i) / (float)(starts - 1);
                float ratio = reach == 32 ? 0.9f + 0.16f * t : 0.68f + 0.56f * t;
                s[i] = (sign ? -top : top) / ((float)reach * ratio);
            }
            for (int r = 0; r < refits; r++) search_refit_scale(len, x, a, s, f->k->lo, f->k->hi, f->k->table);
            search_err_scale(len, x, a, s, f->k->lo, f->k->hi, f->k->table, err);
            for (int i = 0; i < 8; i++)
                if (err[i] < best) best = err[i], *(sign ? &f->minus[j] : &f->plus[j]) = s[i];
        }
    }
}

/* Tries the integers around `at` (4 of them), of two places at once. */
static void choose(const fit *f, state *st, int j, float at, float other) {
    float s[8], err[8];
    int8_t ls[8];
    for (int i = 0; i < 8; i++) {
        float v = floorf(i < 4 ? at : other) + (float)(i % 4 - 1);
        v = v < (float)f->k->ls_lo ? (float)f->k->ls_lo : v > (float)f->k->ls_hi ? (float)f->k->ls_hi : v;
        ls[i] = (int8_t)v;
        s[i] = st->d * v;
    }
    search_err_scale((size_t)f->k->len, f->in->x + j * f->k->len, f->in->a + j * f->k->len, s, f->k->lo, f->k->hi, f->k->table, err);
    for (int i = 0; i < 8; i++)
        if (err[i] < st->err[j]) st->err[j] = err[i], st->ls[j] = ls[i];
}

static void choose_all(const fit *f, state *st) {
    st->total = 0;
    for (int j = 0; j < f->n_sub; j++) {
        st->err[j] = INFINITY;
        choose(f, st, j, f->plus[j] / st->d, f->minus[j] / st->d);
        st->total += st->err[j];
    }
}

static float refit_super(const fit *f, const state *st) {
    double uu = 0, ux = 0;
    for (int j = 0; j < f->n_sub; j++) {
        search_sums sums;
        search_code_sums_scale((size_t)f->k->len, f->in->x + j * f->k->len, f->in->a + j * f->k->len, st->d * (float)st->ls[j],
                               f->k->lo, f->k->hi, f->k->table, &sums);
        uu += (double)st->ls[j] * st->ls[j] * sums.qq;
        ux += (double)st->ls[j] * sums.qx;
    }
    return uu > 0 ? block_f16((float)(ux / uu), f->in->unit) : st->d;
}

/* Refits d to the codes and chooses again, until nothing is gained. */
static void descend(const fit *f, state *st, int rounds) {
    for (int r = 0; r < rounds; r++) {
        state next = *st;
        next.d = refit_super(f, st);
        if (next.d == st->d || next.d == 0) return;
        choose_all(f, &next);
        if (!(next.total < st->total)) return;
        *st = next;
    }
}

void kquant_fit_signed(const block_in *in, const kquant_signed_shape *shape, block_scales *out) {
    fit f = {.in = in, .k = shape, .n_sub = BLOCK_MAX / shape->len};
    bool quick = in->effort == SNUG_EFFORT_QUICK, most = in->effort == SNUG_EFFORT_MAX;
    float top = 0;
    for (int j = 0; j < f.n_sub; j++) {
        fit_sub(&f, j, most ? 16 : 8, quick ? 1 : 2);
        top = fmaxf(top, fmaxf(f.plus[j], -f.minus[j]));
    }
    /* Many starts are looked at, the most promising descend. */
    int n_starts = quick ? 2 : most ? 64 : 24, n_keep = quick ? 1 : most ? 6 : 2, reach = -shape->ls_lo, n_kept = 0;
    state kept[MAX_KEEP], best = {.total = INFINITY};
    for (int k = 0; k < n_starts && top > 0; k++) {
        state st = {0};
        float ratio = quick ? 1 : 0.86f + 0.2f * (float)(k / 2) / (float)(n_starts / 2 - 1);
        st.d = block_f16((k % 2 ? -top : top) / (float)reach * ratio, in->unit);
        if (st.d == 0) continue;
        choose_all(&f, &st);
        int at = n_kept < n_keep ? n_kept++ : n_keep;
        while (at > 0 && st.total < kept[at - 1].total) {
            if (at < n_keep) kept[at] = kept[at - 1];
            at--;
        }
        if (at < n_keep) kept[at] = st;
    }
    for (int k = 0; k < n_kept; k++) {
        descend(&f, &kept[k], quick ? 1 : most ? 8 : 3);
        if (kept[k].total < best.total) best = kept[k];
    }
    if (best.total == INFINITY) best = (state){0}; /* zeros, or too small for f16 */
    out->d = block_f16_bits(best.d, in->unit);
    for (int j = 0; j < f.n_sub; j++) out->ls[j] = (uint8_t)best.ls[j];
}
