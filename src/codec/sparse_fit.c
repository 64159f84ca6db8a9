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

uint32_t sparse_choose(const kern_sparse *f, const float *x, const float *a, size_t len) {
    const unsigned span = f->mask == KERN_BITMAP ? 32 : 4, keep = f->kept * span / 32;
    float score[32];
    uint32_t mask = 0;
    for (size_t i = 0; i < 32; i++) score[i] = i < len ? (a ? a[i] : 1) * (x[i] * x[i]) : -1;
    for (unsigned from = 0; from < 32; from += span)
        for (unsigned i = from; i < from + span; i++) {
            unsigned before = 0; /* how many are better; of equals the first is */
            for (unsigned j = from; j < from + span; j++) before += (score[j] > score[i]) | ((score[j] == score[i]) & (j < i));
            mask |= (uint32_t)(before < keep) << i;
        }
    return mask;
}

/* A group in a unit in which squares stay in range: the kept weights' magnitudes (of trits all of them) and importances. */
typedef struct kept { alignas(64) float x[SPARSE_MAX_GROUP], a[SPARSE_MAX_GROUP]; size_t n; float top; } kept;

static void take(const kern_sparse *f, const float *w, size_t n, const float *a, float inv_unit, kept *k,
                 uint32_t mask[SPARSE_MAX_GROUP / 32]) {
    float x[SPARSE_MAX_GROUP];
    for (size_t i = 0; i < n; i++) x[i] = w[i] * inv_unit;
    k->n = 0;
    for (size_t c = 0; c < n; c += 32) {
        const size_t len = n - c < 32 ? n - c : 32;
        const uint32_t m = mask[c / 32] = f->mask == KERN_TRITS ? UINT32_MAX : sparse_choose(f, x + c, a ? a + c : NULL, len);
        for (size_t i = 0; i < len; i++) {
            if (!(m >> i & 1)) continue;
            k->x[k->n] = fabsf(x[c + i]);
            k->a[k->n++] = a ? a[c + i] : 1;
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

uint16_t sparse_row_scale(const kern_sparse *f, const float *w, size_t cols, const float *a, int effort) {
    const ladder l = ladder_of(f);
    const float top = search_absmax(w, cols), unit = search_unit(top), s_top = largest(f, top / unit);
    const int phases = effort == SNUG_EFFORT_QUICK ? 1 : effort == SNUG_EFFORT_MAX ? MAX_PHASES : 2, per_octave = l.per_octave * phases;
    double total[MAX_PHASES] = {0};
    int least[MAX_PHASES] = {INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX}, at = 0; /* steps below s_top of the largest scale in use */
    for (size_t c = 0; c < cols && top > 0; c += f->group) {
        kept k;
        uint32_t mask[SPARSE_MAX_GROUP / 32];
        float best[MAX_PHASES] = {INFINITY, INFINITY, INFINITY, INFINITY};
        int best_i[MAX_PHASES] = {0};
        take(f, w + c, cols - c < f->group ? cols - c : f->group, a ? a + c : NULL, 1 / unit, &k, mask);
        if (k.top < NEGLIGIBLE) continue;
        const int first = (int)fmaxf(0, ceilf((float)per_octave * log2f(s_top / largest(f, k.top))));
        for (int i = first; i < first + l.steps * phases; i += 8) {
            float s[8], err[8];
            for (int j = 0; j < 8; j++) s[j] = s_top * exp2f(-(float)(i + j) / (float)per_octave);
            for (int z = 0; z < sparse_grids(f); z++) {
                try_scales(f, &k, s, z, limit_of(unit), err);
                for (int j = 0; j < 8; j++)
                    if (err[j] < best[(i + j) % phases]) best[(i + j) % phases] = err[j], best_i[(i + j) % phases] = i + j;
            }
        }
        for (int p = 0; p < phases; p++) {
            if (best[p] == INFINITY) continue;
            total[p] += best[p];
            if (best_i[p] < least[p]) least[p] = best_i[p];
        }
    }
    for (int p = 1; p < phases; p++)
        if (total[p] < total[at]) at = p;
    const int below = least[at] == INT32_MAX ? 0 : least[at] - l.margin * phases;
    const uint16_t bits = f32_to_bf16(s_top * exp2f(-(float)below / (float)per_octave) * unit);
    return (bits & 0x7fff) >= 0x7f80 ? (uint16_t)0x7f7f : bits;
}

uint8_t sparse_fit(const kern_sparse *f, const float *w, size_t n, const float *a, float d, int effort,
                   uint32_t mask[SPARSE_MAX_GROUP / 32]) {
    const ladder l = ladder_of(f);
    const float unit = search_unit(d);
    kept k;
    take(f, w, n, a, 1 / unit, &k, mask);
    const uint8_t zero = (uint8_t)(f->bits >= 2 ? l.zero << 3 : l.zero);
    d /= unit;
    if (!(d > 0) || k.top == 0) return zero;
    int first = 0, best_e = 0, best_z = 0;
    while (first < l.n - l.steps && d * l.value[first] > largest(f, k.top)) first++;
    if (first > 0) first--; /* a coarse step: the one above may be the better */
    float best = INFINITY, nothing = 0;
    for (size_t i = 0; i < k.n; i++) nothing += k.a[i] * (k.x[i] * k.x[i]);
    for (int from = first; from < first + l.steps; from += 8) {
        float s[8], err[8];
        for (int j = 0; j < 8; j++) s[j] = from + j < l.n ? d * l.value[from + j] : 0;
        for (int z = 0; z < sparse_grids(f); z++) {
            try_scales(f, &k, s, z, limit_of(unit), err);
            for (int j = 0; j < 8 && from + j < l.n; j++)
                if (err[j] < best) best = err[j], best_e = from + j, best_z = z;
        }
    }
    if (nothing <= best) return zero;
    return (uint8_t)(f->bits >= 2 ? best_e << 3 | best_z : best_e);
}
