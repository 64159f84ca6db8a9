/* Masks and scales of the sparse families. The search is the int family's: all steps of the scale near the one that covers the group,
 * with all grids z, each judged by the error of the kept weights as they will be stored; a row's d by its phase within a step, tried
 * at several points over all groups. Signs do not matter, the grids are symmetric: magnitudes are searched. */
#include <math.h>
#include <stdalign.h>

#include "base/checked.h"
#include "base/f16.h"
#include "codec/search.h"
#include "codec/sparse.h"

enum { MAX_PHASES = 4 };

/* What scales there are: value[e] for e < n, nearly `per_octave` to an octave; `steps` of them below the largest of use are tried, a
 * multiple of 8. zero: the index that decodes to 0. margin: steps kept above the largest scale that a row wants, as weights grow when
 * errors are fed forward. */
typedef struct ladder { const float *value; int n, per_octave, steps, zero, margin; } ladder;

static ladder ladder_of(const kern_sparse *f) {
    if (f->bits == 1) return (ladder){kern_tern_scale, 15, 4, 16, 15, 1};
    return (ladder){kern_int_scale, 31, 8, f->bits <= 3 ? 24 : f->bits <= 6 ? 16 : 8, 31, 2};
}

uint8_t sparse_nearest(const kern_sparse *f, float w, float s, int z, int *q) {
    const float t = s > 0 ? w / s : 0; /* infinity at most */
    if (f->mask == KERN_TRITS || f->bits == 8) {
        const int top = f->mask == KERN_TRITS ? 1 : 127, low = f->bits == 8 ? -128 : -1;
        *q = (int)rintf(fminf(fmaxf(t, (float)low), (float)top));
        return (uint8_t)(*q - low);
    }
    const int n = sparse_magnitudes(f);
    int k = 0, low = kern_sparse_magnitude(f->bits, z, 0);
    for (int high; k + 1 < n && 2 * fabsf(t) > (float)(low + (high = kern_sparse_magnitude(f->bits, z, k + 1))); k++) low = high;
    *q = t < 0 ? -low : low;
    return (uint8_t)(t < 0 ? n - 1 - k : n + k);
}

/* Which weights of a chunk have codes: of 32 or of each 4 those with the largest scores. */
static uint32_t choose(const kern_sparse *f, const float score[32]) {
    const unsigned span = f->mask == KERN_BITMAP ? 32 : 4, keep = f->kept * span / 32;
    uint32_t mask = 0;
    for (unsigned from = 0; from < 32; from += span)
        for (unsigned i = from; i < from + span; i++) {
            unsigned before = 0; /* how many are better; of equals the first is */
            for (unsigned j = from; j < from + span; j++) before += (score[j] > score[i]) | ((score[j] == score[i]) & (j < i));
            mask |= (uint32_t)(before < keep) << i;
        }
    return mask;
}

/* A group in a unit in which squares stay in range; the magnitudes and importances of those that have codes (of trits all), and what a x^2
 * of them sums up to. */
typedef struct kept { alignas(64) float x[SPARSE_MAX_GROUP], a[SPARSE_MAX_GROUP]; size_t n; float top, energy; } kept;
typedef struct pair { float s; int z; } pair; /* a scale, in the unit, and a grid */

/* The masks, and what they keep. Of weights the largest a x^2; under a pair that was found already those whose error it lowers most. */
static void take(const kern_sparse *f, const float *x, size_t n, const float *a, const pair *under, kept *k,
                 uint32_t mask[SPARSE_MAX_GROUP / 32]) {
    k->n = 0, k->energy = 0;
    for (size_t c = 0; c < n; c += 32) {
        float score[32];
        for (size_t i = 0; i < 32; i++) {
            const float v = c + i < n ? x[c + i] : 0, w = a && c + i < n ? a[c + i] : 1;
            int q;
            if (under) sparse_nearest(f, v, under->s, under->z, &q);
            const float d = under ? v - under->s * (float)q : 0;
            const float saved = w * (v * v - d * d);
            score[i] = c + i >= n ? -INFINITY : saved == saved ? saved : 0; /* padding comes last; no NaN, or too many would be kept */
        }
        mask[c / 32] = f->mask == KERN_TRITS ? UINT32_MAX : choose(f, score);
        for (size_t i = 0; i < 32 && c + i < n; i++) {
            if (!(mask[c / 32] >> i & 1)) continue;
            k->x[k->n] = fabsf(x[c + i]);
            k->a[k->n++] = a ? a[c + i] : 1;
            k->energy += (a ? a[c + i] : 1) * (x[c + i] * x[c + i]);
        }
    }
    k->top = search_absmax(k->x, k->n);
}

/* Errors of 8 scales with grid z; infinite where a weight might decode to more than `limit`. */
static void try_scales(const kern_sparse *f, const kept *k, const float s[8], int z, float limit, float err[8]) {
    if (f->mask == KERN_TRITS || f->bits == 8) {
        search_err_scale(k->n, k->x, k->a, s, 0, f->bits == 8 ? 127 : 1, NULL, err);
    } else if (f->bits == 1) { /* one magnitude */
        search_err_scale(k->n, k->x, k->a, s, 1, 1, NULL, err);
    } else if (f->bits == 6) { /* steps of 2 from the first on */
        float step[8], first[8];
        for (int j = 0; j < 8; j++) step[j] = s[j] * 2, first[j] = s[j] * (float)kern_sparse_magnitude(6, z, 0);
        search_err(k->n, k->x, k->a, step, first, 0, sparse_magnitudes(f) - 1, err);
    } else {
        search_err_scale(k->n, k->x, k->a, s, 0, 0, kern_sparse_grid[f->bits - 2][z], err);
    }
    for (int j = 0; j < 8; j++)
        if (!(s[j] * (float)sparse_reach(f, z) <= limit)) err[j] = INFINITY;
}

/* The largest scale worth trying puts the largest weight on the last code; a step more, which finer codes need. */
static float largest(const kern_sparse *f, float top) { return 1.1f * top / (float)sparse_reach(f, 0); }

/* Of a weight that is no number below 3.4e38 / unit. */
static float limit_of(float unit) { return 3.4e38f / unit; }

/* Groups whose largest weight is below this share of the row's decode to 0 whatever the phase (see int.c). */
static const float NEGLIGIBLE = 0x1p-60f;

/* Candidates for a row's d lie on a grid `phases` times finer than the ladder's, `per_octave` steps below s_top, so that one pass over them
 * serves all phases: a group's least error at the steps of each phase, and the step where it is. */
typedef struct row_grid { float s_top, limit; int phases, per_octave; } row_grid;

static void best_steps(const kern_sparse *f, const row_grid *g, int steps, const kept *k, float best[MAX_PHASES], int at[MAX_PHASES]) {
    const int first = (int)fmaxf(0, ceilf((float)g->per_octave * log2f(g->s_top / largest(f, k->top))));
    for (int p = 0; p < g->phases; p++) best[p] = INFINITY;
    for (int i = first; i < first + steps * g->phases; i += 8) {
        float s[8], err[8];
        for (int j = 0; j < 8; j++) s[j] = g->s_top * exp2f(-(float)(i + j) / (float)g->per_octave);
        for (int z = 0; z < sparse_grids(f); z++) {
            try_scales(f, k, s, z, g->limit, err);
            for (int j = 0; j < 8; j++) {
                const int p = (i + j) % g->phases;
                if (err[j] < best[p]) best[p] = err[j], at[p] = i + j;
            }
        }
    }
}

/* Is the row one number times -1, 0, 1, as BitNet's are? */
static bool one_magnitude(const float *w, size_t n, float top) {
    for (size_t i = 0; i < n; i++)
        if (w[i] != 0 && fabsf(w[i]) != top) return false;
    return true;
}

uint16_t sparse_row_scale(const kern_sparse *f, const float *w, size_t cols, const float *a, int effort) {
    const ladder l = ladder_of(f);
    const float top = search_absmax(w, cols), unit = search_unit(top);
    const int phases = effort == SNUG_EFFORT_QUICK ? 1 : effort == SNUG_EFFORT_MAX ? MAX_PHASES : 2;
    const row_grid grid = {largest(f, top / unit), limit_of(unit), phases, l.per_octave * phases};
    if (f->mask == KERN_TRITS && one_magnitude(w, cols, top) && bf16_to_f32(f32_to_bf16(top)) == top) return f32_to_bf16(top);
    double total[MAX_PHASES] = {0};
    int least[MAX_PHASES] = {INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX}, at = 0; /* the step of the largest scale in use */
    for (size_t c = 0; c < cols && top > 0; c += f->group) {
        const size_t n = cols - c < f->group ? cols - c : f->group;
        uint32_t mask[SPARSE_MAX_GROUP / 32];
        float x[SPARSE_MAX_GROUP], best[MAX_PHASES];
        int step[MAX_PHASES];
        kept k;
        for (size_t i = 0; i < n; i++) x[i] = w[c + i] * (1 / unit);
        take(f, x, n, a ? a + c : NULL, NULL, &k, mask);
        if (k.top < NEGLIGIBLE) continue;
        best_steps(f, &grid, l.steps, &k, best, step);
        for (int p = 0; p < phases; p++) {
            if (best[p] == INFINITY) continue;
            total[p] += best[p];
            if (step[p] < least[p]) least[p] = step[p];
        }
    }
    for (int p = 1; p < phases; p++)
        if (total[p] < total[at]) at = p;
    const int below = least[at] == INT32_MAX ? 0 : least[at] - l.margin * phases;
    const uint16_t bits = f32_to_bf16(grid.s_top * exp2f(-(float)below / (float)grid.per_octave) * unit);
    return (bits & 0x7fff) >= 0x7f80 ? (uint16_t)0x7f7f : bits;
}

/* The best scale and grid of what is kept, under d in the unit; its error. e: the scale's index. */
static float best_pair(const kern_sparse *f, const ladder *l, const kept *k, float d, float limit, int *e, int *z_out) {
    int first = 0;
    float best = INFINITY;
    while (first < l->n - l->steps && d * l->value[first] > largest(f, k->top)) first++;
    if (first > 0) first--; /* a coarse step: the one above may be the better */
    for (int from = first; from < first + l->steps; from += 8) {
        float s[8], err[8];
        for (int j = 0; j < 8; j++) s[j] = from + j < l->n ? d * l->value[from + j] : 0;
        for (int z = 0; z < sparse_grids(f); z++) {
            try_scales(f, k, s, z, limit, err);
            for (int j = 0; j < 8 && from + j < l->n; j++)
                if (err[j] < best) best = err[j], *e = from + j, *z_out = z;
        }
    }
    return best;
}

uint8_t sparse_fit(const kern_sparse *f, const float *w, size_t n, const float *a, float d, int effort,
                   uint32_t mask[SPARSE_MAX_GROUP / 32]) {
    const ladder l = ladder_of(f);
    const float unit = search_unit(d), limit = limit_of(unit);
    const uint8_t zero = (uint8_t)(f->bits >= 2 ? l.zero << 3 : l.zero);
    const int rounds = f->mask == KERN_TRITS || effort == SNUG_EFFORT_QUICK ? 0 : effort == SNUG_EFFORT_MAX ? 3 : 1;
    float x[SPARSE_MAX_GROUP];
    kept k;
    for (size_t i = 0; i < n; i++) x[i] = w[i] * (1 / unit);
    take(f, x, n, a, NULL, &k, mask);
    d /= unit;
    if (!(d > 0) || k.top == 0) return zero;
    int e = 0, z = 0;
    float gain = k.energy - best_pair(f, &l, &k, d, limit, &e, &z);
    for (int i = 0; i < rounds && gain > 0; i++) { /* masks and pair by turns */
        uint32_t again[SPARSE_MAX_GROUP / 32];
        int e2 = 0, z2 = 0;
        take(f, x, n, a, &(pair){d * l.value[e], z}, &k, again);
        if (memcmp(again, mask, div_up(n, 32) * sizeof *mask) == 0) break;
        const float more = k.energy - best_pair(f, &l, &k, d, limit, &e2, &z2);
        if (!(more > gain)) break;
        memcpy(mask, again, div_up(n, 32) * sizeof *mask);
        gain = more, e = e2, z = z2;
    }
    if (!(gain > 0)) return zero;
    return (uint8_t)(f->bits >= 2 ? e << 3 | z : e);
}
