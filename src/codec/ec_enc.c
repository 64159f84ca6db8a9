/* ecR, encoding. What a panel's codes may take is fixed, so they are chosen with their bits in view, and counted: `spent` is what the codes so far take
 * at most, `reserve` what those of the columns whose band has a step already would take if all were 0. Their sum never goes beyond `room`; bands to
 * come can always do without a step. So the stream fits, whatever weights come.
 *
 * Where a panel's steps go (reverse water-filling): an error costs a band of columns its importance A, so its step is proportional to 1/sqrt(A), and
 * the loss is governed by the importances' geometric mean. `begin` finds the scale of all steps at which the panel's codes fill its bits, from their
 * entropies first, then by coding it a few times; it plans each band's share of the bits. `group` then takes the step with which the band's weights,
 * as feedback has made them, take nearest to their share and what the bands before have left or owe.
 *
 * A code is the cheaper of the two whole numbers beside the weight, in squares of the step and LAMBDA times its bits: a uniform quantiser with a
 * threshold that rises with what a code costs (Sullivan 1996). Rounding a column again, as sweeps do, takes what is left. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/f16.h"
#include "codec/ec.h"
#include "codec/search.h"
#include "codec/vec.h"
#include "kern/blocks.h"

enum { MOST_E = 30, ANY_ROW = 40, MARGIN_E = 4, MOST_MARGIN = 16 /* eighths of an octave that steps may become coarser than planned */, PASSES = 3, SPREAD = 4 /* bands that share a debt */ };
#define AGAIN 0.5f /* of LAMBDA, in sweeps: an error there costs more than where columns to come make up for it */
#define BEYOND 1.5f /* octaves below the step that needs no clipping */
#define LAMBDA 0.12f /* about 2 ln 2 / 12, what a bit saves where errors are evenly spread */

typedef struct ec_panel {
    uint16_t base;
    uint8_t row[EC_ROWS];
    int64_t room, spent, reserve; /* in parts of EC_BIT */
    float lambda;                 /* per part */
    size_t bands_left;
    int64_t planned;              /* of the bands that are left */
    size_t last;                  /* the band that was left last; before, SIZE_MAX */
    float last_lambda;            /* of its first rounding */
    int64_t last_from, last_cost; /* `spent` before it; what it is to take */
} ec_panel;

typedef struct ec_enc { /* followed by the arrays */
    codec_params p;
    size_t n_rows, cols, n_panels, n_bands;
    int limit;
    ec_panel *panel;  /* (n_panels)                              */
    uint8_t *band;    /* (n_panels, n_bands)                     */
    uint8_t *plan;    /* (n_panels, n_bands): e                   */
    int64_t *share;   /* (n_panels, n_bands): bits that are meant for it */
    uint8_t *done;    /* (n_panels, n_bands): it has a step       */
    uint8_t *rounded; /* (n_panels, cols)                        */
    float *octave;    /* (n_bands): log2 of the least step that makes sense, of the panel at hand */
    float *heavy;     /* (n_bands): mean importance                */
    float *spread;    /* (n_bands, 16): log2 of the weights' deviation */
    int8_t *q;        /* (n_panels, cols, 16)                    */
    uint8_t *packed;  /* a panel's words, from their end on      */
} ec_enc;

/* Takes the next n bytes from *at on. */
static void *take(uintptr_t *at, size_t n) {
    void *p = (void *)*at;
    *at += round_up(n, 64);
    return p;
}

/* Gives each array its place from `base` on; returns where they end. */
static uintptr_t lay_out(ec_enc *e, uintptr_t base, codec_params p, size_t n_rows, size_t cols) {
    const size_t panels = div_up(n_rows, EC_ROWS), bands = div_up(cols, EC_BAND);
    uintptr_t at = base;
    e->panel = take(&at, panels * sizeof *e->panel);
    e->band = take(&at, panels * bands);
    e->plan = take(&at, panels * bands);
    e->share = take(&at, panels * bands * sizeof *e->share);
    e->done = take(&at, panels * bands);
    e->rounded = take(&at, panels * cols);
    e->octave = take(&at, bands * sizeof *e->octave);
    e->heavy = take(&at, bands * sizeof *e->heavy);
    e->spread = take(&at, bands * EC_ROWS * sizeof *e->spread);
    e->q = take(&at, panels * cols * EC_ROWS);
    e->packed = take(&at, 2 * ec_layout_of(p, cols).n_words);
    return at;
}
static size_t head_bytes(void) { return round_up(sizeof(ec_enc), 64); }

size_t ec_enc_bytes(codec_params p, size_t n_rows, size_t cols) {
    uint64_t weights;
    ec_enc none;
    if (n_rows > SIZE_MAX / 64 || !checked_mul(round_up(n_rows, EC_ROWS), cols, &weights) || weights > SIZE_MAX / 64) return 0;
    return head_bytes() + lay_out(&none, 0, p, n_rows, cols);
}
uint32_t ec_group_cols(codec_params p) { return EC_BAND; }

void ec_enc_init(void *enc, codec_params p, size_t n_rows, size_t cols, int effort) {
    ec_enc *e = enc;
    lay_out(e, (uintptr_t)enc + head_bytes(), p, n_rows, cols);
    e->p = p, e->n_rows = n_rows, e->cols = cols;
    e->n_panels = div_up(n_rows, EC_ROWS), e->n_bands = div_up(cols, EC_BAND);
    e->limit = ec_limit(p.rank);
    memset(e->done, 0, e->n_panels * e->n_bands);
    memset(e->rounded, 0, e->n_panels * e->cols);
    memset(e->q, 0, e->n_panels * e->cols * EC_ROWS);
    for (size_t i = 0; i < e->n_panels * e->n_bands; i++) e->band[i] = EC_NO_STEP << 3 | EC_ZERO_Z;
    for (size_t i = 0; i < e->n_panels; i++) e->panel[i] = (ec_panel){.room = (int64_t)ec_layout_of(p, cols).n_words * 16 * EC_BIT, .lambda = LAMBDA / EC_BIT, .last = SIZE_MAX};
    ec_tables();
}

/* ---- one band of a panel ---- */

static size_t rows_of(const ec_enc *e, size_t panel) { return e->n_rows - panel * EC_ROWS < EC_ROWS ? e->n_rows - panel * EC_ROWS : EC_ROWS; }
static size_t cols_of(const ec_enc *e, size_t band) { return e->cols - band * EC_BAND < EC_BAND ? e->cols - band * EC_BAND : EC_BAND; }
static float step_of(const ec_panel *p, unsigned e) { return bf16_to_f32(p->base) * kern_int_scale[e]; }

static float scaled(float w, float step) { return fminf(fmaxf(w / step, -1e9f), 1e9f); }

/* The code for x, a weight in steps. */
static int code_for(const ec_table *t, float x, float lambda, int limit) {
    const float top = (float)limit, near = rint_magic(fminf(fmaxf(x, -top), top));
    const int q = (int)near, less = q - (q > 0) + (q < 0);
    if (q == 0) return 0;
    const float miss = x - near, other = x - (float)less;
    return other * other + lambda * (float)t->cost[ec_symbol(less)] < miss * miss + lambda * (float)t->cost[ec_symbol(q)] ? less : q;
}

/* What codes of n columns, (n, 16), take. */
static int64_t cost_of(const uint8_t row[EC_ROWS], uint8_t band, const int8_t *q, size_t n) {
    int64_t sum = 0;
    for (size_t r = 0; r < EC_ROWS; r++) {
        const ec_table *t = ec_table_of(row[r], band);
        for (size_t c = 0; t && c < n; c++) sum += t->cost[ec_symbol(q[EC_ROWS * c + r])];
    }
    return sum;
}
static int64_t cost_of_zeros(const uint8_t row[EC_ROWS], uint8_t band, size_t n) {
    int64_t sum = 0;
    for (size_t r = 0; r < EC_ROWS; r++) {
        const ec_table *t = ec_table_of(row[r], band);
        sum += t ? (int64_t)n * t->cost[ec_symbol(0)] : 0;
    }
    return sum;
}

/* Codes of a band with step number e; what they miss, in squares of the base's step, and take. w: its first column. */
typedef struct tried { uint8_t band; int64_t cost; double miss; bool clipped; } tried;
static tried try_band(const ec_enc *en, const ec_panel *p, size_t n_rows, const float *w, size_t ldw, size_t n, uint8_t band, float lambda, int8_t q[EC_BAND * EC_ROWS]) {
    const float step = step_of(p, band >> 3), top = (float)en->limit + 0.5f, rel = kern_int_scale[band >> 3];
    tried t = {.band = band};
    memset(q, 0, n * EC_ROWS);
    for (size_t r = 0; r < n_rows; r++) {
        const ec_table *table = ec_table_of(p->row[r], band);
        for (size_t c = 0; c < n; c++) {
            const float x = step > 0 ? scaled(w[r * ldw + c], step) : 0;
            const int code = table ? code_for(table, x, lambda, en->limit) : 0;
            q[EC_ROWS * c + r] = (int8_t)code;
            t.clipped |= fabsf(x) > top;
            t.miss += (double)(x - (float)code) * (x - (float)code);
        }
    }
    t.miss *= (double)rel * rel;
    t.cost = cost_of(p->row, band, q, n);
    return t;
}

/* The same, with the z that is best for these codes: from the one at hand on while it gets better. */
static tried try_step(const ec_enc *en, const ec_panel *p, size_t n_rows, const float *w, size_t ldw, size_t n, unsigned e, float lambda, int8_t q[EC_BAND * EC_ROWS]) {
    const tried first = try_band(en, p, n_rows, w, ldw, n, (uint8_t)(e << 3 | EC_ZERO_Z), lambda, q);
    uint8_t band = first.band;
    int64_t least = first.cost;
    for (int down = -1; down < 2; down += 2)
        for (int z = (band & 7) + down; z >= 0 && z < 8; z += down) {
            const uint8_t other = (uint8_t)(e << 3 | (unsigned)z);
            const int64_t cost = cost_of(p->row, other, q, n);
            if (cost >= least) break;
            band = other, least = cost;
        }
    return band == first.band ? first : try_band(en, p, n_rows, w, ldw, n, band, lambda, q);
}

/* ---- begin ---- */

/* Bits of a uniform code for Gaussian weights of deviation 2^x steps. */
static double entropy(double x) {
    enum { N = 9 };
    static const double at[N] = {0.001, 0.0476, 0.3125, 0.7854, 1.2412, 1.6582, 2.1048, 2.5765, 3.062}; /* x = -3, -2.5 .. 1; above, a bit for each octave */
    const double k = 2 * (x + 3), i = floor(k);
    if (k <= 0) return k < -2 ? 0 : at[0];
    if (k >= N - 1) return at[N - 1] + (x - 1);
    return at[(int)i] + (k - i) * (at[(int)i + 1] - at[(int)i]);
}

/* What the panel's weights take by their entropies when the steps are 2^scale / sqrt(A). */
static double estimate(const ec_enc *e, size_t n_rows, double scale) {
    double sum = 0;
    for (size_t b = 0; b < e->n_bands; b++) {
        const double step = fmax(scale - 0.5 * log2((double)e->heavy[b]), e->octave[b]);
        for (size_t r = 0; r < n_rows; r++) sum += (double)cols_of(e, b) * entropy(e->spread[b * EC_ROWS + r] - step);
    }
    return sum * EC_BIT;
}

/* Importances, the weights' deviations, and the least step that makes sense: far below the one that needs no clipping. */
static void survey(ec_enc *e, size_t n_rows, const float *w, size_t ldw, const float *a, float unit) {
    for (size_t b = 0; b < e->n_bands; b++) {
        const size_t n = cols_of(e, b);
        double heavy = 0;
        float top = 0;
        for (size_t c = 0; c < n; c++) heavy += a ? a[b * EC_BAND + c] : 1;
        e->heavy[b] = (float)(heavy / (double)n);
        for (size_t r = 0; r < n_rows; r++) {
            double square = 0;
            for (size_t c = 0; c < n; c++) {
                const float x = w[r * ldw + b * EC_BAND + c] / unit;
                square += (double)x * x;
                top = fmaxf(top, fabsf(x));
            }
            e->spread[b * EC_ROWS + r] = square > 0 ? (float)(0.5 * log2(square / (double)n)) : -1000;
        }
        e->octave[b] = top > 0 ? log2f(top / (float)e->limit) - BEYOND : -200;
    }
}

/* Number of the step nearest to 2^octave of the base. */
static unsigned nearest_e(double octave) {
    const double down = -8 * octave;
    if (down <= 17.5) return down <= 0 ? 0 : (unsigned)(down + 0.5);
    const double e = 16 + (down - 16) * 3 / 8;
    return e >= MOST_E ? MOST_E : (unsigned)(e + 0.5);
}

/* The base, coarser than any step by the plan and, within reason, so coarse that nothing is clipped; and each band's step. */
static void choose_steps(ec_enc *e, ec_panel *p, uint8_t *plan, double scale, float unit) {
    double most = -1000, whole = -1000;
    for (size_t b = 0; b < e->n_bands; b++) {
        most = fmax(most, fmax(scale - 0.5 * log2((double)e->heavy[b]), e->octave[b]));
        whole = fmax(whole, e->octave[b] + BEYOND);
    }
    const double coarsest = fmax(most + MARGIN_E / 8.0, fmin(whole, most + MOST_MARGIN / 8.0)), base = exp2(coarsest) * (double)unit;
    p->base = base < 3.3e38 ? f32_to_bf16((float)base) : 0x7f7f;
    for (size_t b = 0; b < e->n_bands; b++) {
        const double step = fmax(scale - 0.5 * log2((double)e->heavy[b]), e->octave[b]);
        plan[b] = (uint8_t)nearest_e(step - coarsest);
    }
}

/* A row's byte: what makes its codes take least. */
static uint8_t fit_row(const ec_enc *e, const uint8_t *band, const int8_t *q, size_t r, uint8_t from) {
    uint8_t best = from;
    int64_t least = INT64_MAX;
    bool any = false;
    for (size_t c = 0; c < e->cols && !any; c++) any = q[EC_ROWS * c + r] != 0;
    if (!any) return 0;
    for (unsigned shape = 0; shape < EC_SHAPES; shape++) {
        const int start = best & 63;
        for (int way = -1; way < 2; way += 2)
            for (int v = start + (way > 0); v >= 1 && v < 64; v += way) {
                int64_t cost = 0;
                for (size_t b = 0; b < e->n_bands; b++) {
                    const ec_table *t = ec_table_of((uint8_t)(shape << 6 | (unsigned)v), band[b]);
                    for (size_t c = 0; t && c < cols_of(e, b); c++) cost += t->cost[ec_symbol(q[EC_ROWS * (b * EC_BAND + c) + r])];
                }
                if (cost >= least && v != start) break;
                if (cost < least) least = cost, best = (uint8_t)(shape << 6 | (unsigned)v);
            }
    }
    return best;
}

/* Codes the panel by its plan. Returns what it takes; shares of the bands in share. */
static int64_t code_panel(ec_enc *e, ec_panel *p, size_t panel, const float *w, size_t ldw, float lambda) {
    uint8_t *band = e->band + panel * e->n_bands, *plan = e->plan + panel * e->n_bands;
    int8_t *q = e->q + panel * e->cols * EC_ROWS;
    int64_t *share = e->share + panel * e->n_bands, sum = 0;
    for (size_t b = 0; b < e->n_bands; b++) {
        const float *at = w + b * EC_BAND;
        int8_t other[EC_BAND * EC_ROWS], *own = q + b * EC_BAND * EC_ROWS;
        tried t = try_step(e, p, rows_of(e, panel), at, ldw, cols_of(e, b), plan[b], lambda, own);
        /* coarser while that clips so much less that it is worth it: bits by what they save at the planned step */
        const double worth = (double)lambda * (double)kern_int_scale[plan[b]] * (double)kern_int_scale[plan[b]];
        while (t.clipped && plan[b] > 0) {
            const tried u = try_step(e, p, rows_of(e, panel), at, ldw, cols_of(e, b), plan[b] - 1u, lambda, other);
            if (u.miss + worth * (double)u.cost >= t.miss + worth * (double)t.cost) break;
            plan[b]--, t = u;
            memcpy(own, other, cols_of(e, b) * EC_ROWS);
        }
        band[b] = t.band, share[b] = t.cost;
        sum += t.cost;
    }
    return sum;
}

static void begin_panel(ec_enc *e, size_t panel, const float *w, size_t ldw, const float *a) {
    ec_panel *p = &e->panel[panel];
    const size_t n_rows = rows_of(e, panel);
    uint8_t *band = e->band + panel * e->n_bands, *plan = e->plan + panel * e->n_bands;
    int64_t *share = e->share + panel * e->n_bands;
    float top = 0;
    for (size_t r = 0; r < n_rows; r++) top = fmaxf(top, search_absmax(w + r * ldw, e->cols));
    const float unit = search_unit(top);
    survey(e, n_rows, w, ldw, a, unit);
    double low = -150, high = 30, scale = 0;
    for (int i = 0; i < 40 && top > 0; i++) {
        scale = (low + high) / 2;
        if (estimate(e, n_rows, scale) > (double)p->room) low = scale;
        else high = scale;
    }
    int64_t cost = 0;
    double weights = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        choose_steps(e, p, plan, scale, unit);
        for (size_t r = 0; r < n_rows && pass == 0; r++) /* wide enough for any code, until it is known */
            p->row[r] = top > 0 ? ANY_ROW : 0;
        cost = code_panel(e, p, panel, w, ldw, pass == 0 ? 0 : p->lambda);
        for (size_t r = 0; r < n_rows; r++) p->row[r] = fit_row(e, band, e->q + panel * e->cols * EC_ROWS, r, p->row[r]);
        cost = 0, weights = 0;
        for (size_t b = 0; b < e->n_bands; b++) {
            share[b] = cost_of(p->row, band[b], e->q + (panel * e->cols + b * EC_BAND) * EC_ROWS, cols_of(e, b));
            cost += share[b];
        }
        for (size_t r = 0; r < n_rows; r++) weights += p->row[r] ? (double)e->cols : 0;
        if (pass + 1 < PASSES && weights > 0) scale += fmin(fmax((double)(cost - p->room) / EC_BIT / weights, -2), 2);
    }
    for (size_t r = n_rows; r < EC_ROWS; r++) p->row[r] = 0;
    memset(e->q + panel * e->cols * EC_ROWS, 0, e->cols * EC_ROWS);
    p->bands_left = e->n_bands, p->planned = 0;
    for (size_t b = 0; b < e->n_bands; b++) {
        band[b] = EC_NO_STEP << 3 | EC_ZERO_Z;
        if (cost > p->room) share[b] = (int64_t)((double)share[b] * (double)p->room / (double)cost);
        p->planned += share[b];
    }
}

void ec_begin(void *enc, const float *w, size_t ldw, const float *a) {
    ec_enc *e = enc;
    for (size_t panel = 0; panel < e->n_panels; panel++) begin_panel(e, panel, w + panel * EC_ROWS * ldw, ldw, a);
}

/* ---- group ---- */

/* Steps leave a few bits of the last band: of this step and the next finer one, with other prices of a bit, what misses least and still fits. */
static void fill_up(const ec_enc *e, ec_panel *p, size_t b, const float *w, size_t ldw, int64_t target, tried *best) {
    static const float price[] = {0, 0.5f, 0.75f, 1.25f, 1.5f, 2, 2.5f, 3};
    int8_t q[EC_BAND * EC_ROWS];
    const size_t n_rows = rows_of(e, (size_t)(p - e->panel)), n = cols_of(e, b);
    const unsigned at = best->band >> 3;
    p->last = b, p->last_lambda = p->lambda;
    for (unsigned k = at; k <= at + 1 && k <= MOST_E && best->cost <= target; k++)
        for (size_t i = 0; i < sizeof price / sizeof *price; i++) {
            const tried t = try_step(e, p, n_rows, w, ldw, n, k, price[i] * p->lambda, q);
            if (t.cost <= target && t.miss < best->miss) *best = t, p->last_lambda = price[i] * p->lambda;
        }
    p->last_from = p->spent, p->last_cost = best->cost;
}

static void group_band(ec_enc *e, size_t panel, size_t b, const float *w, size_t ldw) {
    ec_panel *p = &e->panel[panel];
    const size_t i = panel * e->n_bands + b, n = cols_of(e, b), n_rows = rows_of(e, panel);
    int8_t q[EC_BAND * EC_ROWS];
    if (e->done[i]) return;
    const int64_t over = p->room - p->spent - p->reserve - p->planned, all = p->room - p->spent - p->reserve;
    const size_t with = p->bands_left < SPREAD ? p->bands_left : SPREAD;
    const bool last = p->bands_left == 1;
    const int64_t target = last ? all : e->share[i] + over / (int64_t)with;
    unsigned at = e->plan[i];
    tried best = try_step(e, p, n_rows, w, ldw, n, at, p->lambda, q);
    const bool finer = best.cost < target;
    while (finer ? at < MOST_E && !best.clipped : at > 0) {
        const tried next = try_step(e, p, n_rows, w, ldw, n, finer ? at + 1 : at - 1, p->lambda, q);
        const bool beyond = finer ? next.cost > target : next.cost <= target;
        if (finer && next.clipped) break;
        if (beyond && (last ? finer : llabs(next.cost - target) > llabs(best.cost - target))) break;
        best = next, at += finer ? 1u : -1u;
        if (beyond) break;
    }
    if (last) fill_up(e, p, b, w, ldw, target, &best);
    const int64_t zeros = cost_of_zeros(p->row, best.band, n);
    p->planned -= e->share[i], p->bands_left--, e->done[i] = 1;
    if (zeros > all) return; /* no step */
    e->band[i] = best.band;
    p->reserve += zeros;
}

void ec_group(void *enc, size_t col0, size_t n, const float *w, size_t ldw, const float *a) {
    ec_enc *e = enc;
    for (size_t c = 0; c < n; c += EC_BAND)
        for (size_t panel = 0; panel < e->n_panels; panel++) group_band(e, panel, (col0 + c) / EC_BAND, w + panel * EC_ROWS * ldw + c, ldw);
}

/* ---- round ---- */

/* The price of a bit. In the last band, which feedback changes on the way, it rises where codes take more than was meant for them: 3 % too many of what
 * is left add as much as it is. */
static float price_at(const ec_enc *e, const ec_panel *p, size_t col, bool rounded) {
    if (rounded) return AGAIN * p->lambda;
    if (col / EC_BAND != p->last) return p->lambda;
    const double part = (double)(col % EC_BAND) / (double)cols_of(e, p->last), all = (double)p->last_cost;
    const double over = ((double)(p->spent - p->last_from) - part * all) / ((1.1 - part) * all + EC_BIT);
    return over > 0 ? p->last_lambda + p->lambda * (float)fmin(30 * over, 8) : p->last_lambda;
}

/* Column col of a panel, w and w_hat: of its first row. */
static void round_column(ec_enc *e, size_t panel, size_t col, const float *w, size_t ldw, float *w_hat, size_t ldh) {
    ec_panel *p = &e->panel[panel];
    const uint8_t band = e->band[panel * e->n_bands + col / EC_BAND];
    const float step = step_of(p, band >> 3);
    const float lambda = price_at(e, p, col, e->rounded[panel * e->cols + col]);
    uint8_t *rounded = &e->rounded[panel * e->cols + col];
    int8_t *q = e->q + (panel * e->cols + col) * EC_ROWS;
    for (size_t r = 0; r < rows_of(e, panel); r++) {
        const ec_table *t = ec_table_of(p->row[r], band);
        int code = 0;
        if (t && step > 0) {
            const int64_t before = *rounded ? t->cost[ec_symbol(q[r])] : 0, zero = *rounded ? 0 : t->cost[ec_symbol(0)];
            const int64_t most = p->room - p->spent - p->reserve + before + zero; /* that this code may take */
            code = code_for(t, scaled(w[r * ldw], step), lambda, e->limit);
            while ((int64_t)t->cost[ec_symbol(code)] > most && code != 0) code -= code > 0 ? 1 : -1;
            if ((int64_t)t->cost[ec_symbol(code)] > most) code = q[r]; /* as it is stays possible */
            p->spent += (int64_t)t->cost[ec_symbol(code)] - before;
            p->reserve -= zero;
        }
        q[r] = (int8_t)code;
        if (w_hat) w_hat[r * ldh] = step * (float)code;
    }
    *rounded = 1;
}

void ec_round(void *enc, size_t col0, size_t n, const float *w, size_t ldw, float *w_hat, size_t ldh) {
    ec_enc *e = enc;
    for (size_t panel = 0; panel < e->n_panels; panel++) {
        const size_t row0 = panel * EC_ROWS;
        for (size_t c = 0; c < n; c++) round_column(e, panel, col0 + c, w + row0 * ldw + c, ldw, w_hat ? w_hat + row0 * ldh + c : NULL, ldh);
    }
}

/* ---- pack: from the last code to the first, since a decoder's states take in what they gave out last ---- */

typedef struct writer { uint64_t state[EC_LANES]; uint8_t *word, *first; } writer;

/* Makes room in a state for a symbol of `slots` in 2^bits: it stays below 2^40. */
static uint64_t make_room(writer *to, uint64_t x, uint64_t slots, unsigned bits) {
    if (x < slots << (40 - bits)) return x;
    if (to->word > to->first) { /* `room` sees to it */
        to->word -= 2;
        to->word[0] = (uint8_t)x, to->word[1] = (uint8_t)(x >> 8);
    }
    return x >> 16;
}

static void put_code(writer *to, size_t lane, const ec_table *t, int q) {
    uint64_t x = to->state[lane];
    uint32_t span = t->span[ec_symbol(q)];
    if (!span) {
        x = make_room(to, x, 1, 8) << 8 | (unsigned)ec_symbol(q);
        span = t->span[EC_ESCAPE];
    }
    const uint64_t slots = span >> 16;
    x = make_room(to, x, slots, 12);
    to->state[lane] = x / slots * EC_SLOTS + x % slots + (span & 0xffff);
}

static void pack_panel(const ec_enc *e, size_t panel, uint8_t *dst) {
    const ec_layout at = ec_layout_of(e->p, e->cols);
    const ec_panel *p = &e->panel[panel];
    const uint8_t *band = e->band + panel * e->n_bands;
    const int8_t *q = e->q + panel * e->cols * EC_ROWS;
    writer to = {.word = e->packed + 2 * at.n_words, .first = e->packed};
    for (int i = 0; i < EC_LANES; i++) to.state[i] = 1 << 24;
    for (size_t c = e->cols; c-- > 0;)
        for (size_t r = EC_ROWS; r-- > 0;) {
            const ec_table *t = ec_table_of(p->row[r], band[c / EC_BAND]);
            if (t) put_code(&to, r % EC_LANES, t, q[EC_ROWS * c + r]);
        }
    memset(dst, 0, at.bytes);
    dst[0] = (uint8_t)p->base, dst[1] = (uint8_t)(p->base >> 8);
    memcpy(dst + at.rows, p->row, EC_ROWS);
    memcpy(dst + at.bands, band, e->n_bands);
    for (size_t i = 0; i < EC_LANES; i++)
        for (size_t k = 0; k < EC_STATE; k++) dst[at.states + EC_STATE * i + k] = (uint8_t)(to.state[i] >> 8 * k);
    memcpy(dst + at.words, to.word, (size_t)(e->packed + 2 * at.n_words - to.word));
}

void ec_pack(const void *enc, uint8_t *dst) {
    const ec_enc *e = enc;
    for (size_t panel = 0; panel < e->n_panels; panel++) pack_panel(e, panel, dst + panel * ec_layout_of(e->p, e->cols).bytes);
}
