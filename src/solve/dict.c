/* Dictionaries: W ~ A V, at most S of K numbers of each row of A other than 0, so that tr(E H E^T) is small. The metric weighs columns, so rows are
 * independent of each other given V: row w is coded greedily in the inner products G = V H V^T and c = V H w^T alone, each step the atom that
 * lowers the loss most once those taken before it are fitted anew (orthogonal least squares). Given A, the best V does not depend on the metric:
 * V = (A^T A)^-1 A^T W; atom by atom, the others as they are, it is come near to. By turns, as MOD and K-SVD do it (Engan et al. 1999; Aharon
 * et al. 2006). A row keeps its atoms where a new choice is no better, so that the loss falls but for an atom that nobody uses: it becomes
 * the worst row.
 *
 * Then the atoms are rounded (svd_round.c), and rows are coded a last time with the atoms that are stored, their numbers rounded each
 * given the others. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/err.h"
#include "base/f16.h"
#include "base/thread.h"
#include "codec/codecs.h"
#include "linalg/linalg.h"
#include "solve/internal.h"

enum { TILE = 128, ROWS = 32, SCALES = 16, SWEEPS = 3, ATOM_SWEEPS = 3 };
/* An atom of which the ones taken leave less than this is one of them. */
static const float DEPENDENT = 1e-4f;
/* Turns end where they gain less than this share of what is left. */
static const double GROWTH = 1e-3;

typedef struct room { float *v, *rest, *alpha, *c, *g, *x, *u; uint16_t *at, *kept; int8_t *q; } room; /* of a thread */

typedef struct dict {
    codec_params p;
    const float *w, *a; /* a: normalised, or NULL */
    size_t ldw, rows, cols, k, s;
    const hessian *h;
    int threads;
    float *b, *bh, *g;  /* (K, cols): V, and V H or A^T W; (K, K): V H V^T */
    double *m;          /* (K, K): A^T A */
    uint16_t *n, *at;   /* (rows), (rows, S): the row's entries  */
    float *x;           /* (rows, S): their numbers              */
    int8_t *q;          /* (rows, S): the same as codes          */
    float *scale;       /* (rows)                                */
    double *energy, *gain; /* (rows): the loss without an entry, and what they take away */
    bool store;         /* codes are wanted */
    room *room;
} dict;

/* ---- inner products ---- */

/* bh's columns [begin, end) = those of V H. */
static void times_h(void *ctx, size_t begin, size_t end, int worker) {
    const dict *d = ctx;
    const size_t n = end - begin, ld = d->cols;
    float *out = d->bh + begin;
    for (size_t k = 0; !d->h && k < d->k; k++)
        for (size_t c = begin; c < end; c++) d->bh[k * ld + c] = d->b[k * ld + c] * (d->a ? d->a[c] : 1);
    if (!d->h) return;
    const float *m = d->h->m;
    float block[TILE * TILE];
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) block[i * TILE + j] = block[j * TILE + i] = m[(begin + i) * ld + begin + j];
    linalg_gemm(false, false, d->k, n, n, 1, d->b + begin, ld, block, TILE, 0, out, ld);
    if (begin) linalg_gemm(false, true, d->k, n, begin, 1, d->b, ld, m + begin * ld, ld, 1, out, ld);
    if (end < ld) linalg_gemm(false, false, d->k, n, ld - end, 1, d->b + end, ld, m + end * ld + begin, ld, 1, out, ld);
}

static void gram_tile(void *ctx, size_t begin, size_t end, int worker) {
    const dict *d = ctx;
    linalg_gemm(false, true, end - begin, d->k, d->cols, 1, d->bh + begin * d->cols, d->cols, d->b, d->cols, 0, d->g + begin * d->k, d->k);
}

/* Atoms of length 1 in the metric (to_unit), V H, and G. */
static void prepare(dict *d, bool to_unit) {
    thread_for(d->threads, d->cols, TILE, times_h, d);
    thread_for(d->threads, d->k, ROWS, gram_tile, d);
    for (size_t i = 0; i < d->k; i++)
        for (size_t j = 0; j < i; j++) d->g[j * d->k + i] = d->g[i * d->k + j];
    for (size_t i = 0; to_unit && i < d->k; i++) {
        const float square = d->g[i * d->k + i], f = square > 0 && isfinite(square) ? 1 / sqrtf(square) : 0;
        for (size_t c = 0; c < d->cols; c++) d->b[i * d->cols + c] *= f, d->bh[i * d->cols + c] *= f;
        for (size_t j = 0; j < d->k; j++) d->g[i * d->k + j] *= f;
        for (size_t j = 0; j < d->k; j++) d->g[j * d->k + i] *= f;
    }
}

/* ---- one row ---- */

static size_t best_atom(const dict *d, const room *t) {
    size_t at = d->k;
    float best = 0;
    for (size_t k = 0; k < d->k; k++) {
        if (!(t->rest[k] > DEPENDENT * d->g[k * d->k + k])) continue;
        const float now = t->alpha[k] * t->alpha[k] / t->rest[k];
        if (now > best) best = now, at = k;
    }
    return at;
}

/* Entries for inner products c: atoms `only` (n_only of them, if not NULL), else the best; to at and x, best numbers. Returns what they take away.
 * Row i of v: all atoms' products with the part of the i-th taken that is new. */
static double fit_row(const dict *d, const float *c, const uint16_t *only, size_t n_only, const room *t, uint16_t *at, float *x, size_t *count) {
    const size_t k = d->k, most = only ? n_only : d->s;
    double gain = 0;
    size_t n = 0;
    memcpy(t->alpha, c, k * sizeof *c);
    for (size_t i = 0; i < k; i++) t->rest[i] = d->g[i * k + i];
    for (size_t step = 0; step < most; step++) {
        const size_t a = only ? only[step] : best_atom(d, t);
        if (a == k) break;
        if (!(t->rest[a] > DEPENDENT * d->g[a * k + a])) continue;
        const float length = sqrtf(t->rest[a]), beta = t->alpha[a] / length;
        float *v = t->v + n * k;
        memcpy(v, d->g + a * k, k * sizeof *v);
        for (size_t i = 0; i < n; i++) {
            const float f = t->v[i * k + a], *row = t->v + i * k;
            for (size_t j = 0; j < k; j++) v[j] -= f * row[j];
        }
        for (size_t j = 0; j < k; j++) {
            v[j] /= length;
            t->alpha[j] -= beta * v[j];
            t->rest[j] -= v[j] * v[j];
        }
        t->rest[a] = 0;
        at[n] = (uint16_t)a;
        x[n++] = beta;
        gain += (double)beta * beta;
    }
    for (size_t i = n; i-- > 0;) { /* x V = beta, V's column of an entry: its products with those taken up to it */
        for (size_t j = i + 1; j < n; j++) x[i] -= t->v[i * k + at[j]] * x[j];
        x[i] /= t->v[i * k + at[i]];
    }
    *count = n;
    return gain;
}

static void sort_entries(uint16_t *at, float *x, size_t n) {
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0 && at[j] < at[j - 1]; j--) {
            const uint16_t k = at[j];
            const float v = x[j];
            at[j] = at[j - 1], x[j] = x[j - 1];
            at[j - 1] = k, x[j - 1] = v;
        }
}

/* ---- codes of a row's numbers ---- */

/* What codes q of scale s take away: c are products with the row, g (n, n) with each other. Each in its turn takes the best value given the
 * others, `sweeps` times. */
static double settle(size_t n, const float *c, const float *g, float s, unsigned bits, int sweeps, int8_t *q, float *u) {
    const float low = -(float)(1 << (bits - 1)), high = -low - 1;
    double gain = 0;
    for (size_t i = 0; i < n; i++) {
        u[i] = c[i];
        for (size_t j = 0; j < n; j++) u[i] -= g[i * n + j] * s * (float)q[j];
    }
    for (int k = 0; k < sweeps; k++)
        for (size_t i = 0; i < n; i++) {
            const float want = (float)q[i] + u[i] / (g[i * n + i] * s), now = fminf(fmaxf(rintf(want), low), high), change = now - (float)q[i];
            if (change == 0 || !isfinite(change)) continue;
            q[i] = (int8_t)now;
            for (size_t j = 0; j < n; j++) u[j] -= g[i * n + j] * s * change;
        }
    for (size_t i = 0; i < n; i++) gain += (double)(s * (float)q[i]) * (c[i] + u[i]);
    return gain;
}

/* The row's scale and codes, of n numbers at x. Returns what is taken away. */
static double round_row(const dict *d, const float *c, size_t n, const uint16_t *at, const float *x, const room *t, float *scale, int8_t *q) {
    const float high = (float)((1 << (d->p.bits - 1)) - 1);
    float top = 0;
    double best = 0;
    for (size_t i = 0; i < n; i++) {
        top = fmaxf(top, fabsf(x[i]));
        t->x[i] = c[at[i]];
        for (size_t j = 0; j < n; j++) t->g[i * n + j] = d->g[at[i] * d->k + at[j]];
    }
    *scale = 0;
    memset(q, 0, n);
    for (int j = 0; j < SCALES && top > 0; j++) {
        const float s = bf16_to_f32(f32_to_bf16(1.1f * top / high * powf(0.92f, (float)j)));
        if (!(s > 0) || !isfinite(s * (high + 1))) continue;
        for (size_t i = 0; i < n; i++) t->q[i] = (int8_t)fminf(fmaxf(rintf(x[i] / s), -high - 1), high);
        const double now = settle(n, t->x, t->g, s, d->p.bits, SWEEPS, t->q, t->u);
        if (!(now > best)) continue;
        best = now;
        *scale = s;
        memcpy(q, t->q, n);
    }
    return best;
}

/* ---- all rows ---- */

static void code_tile(void *ctx, size_t begin, size_t end, int worker) {
    const dict *d = ctx;
    const room *t = &d->room[worker];
    linalg_gemm(false, true, end - begin, d->k, d->cols, 1, d->w + begin * d->ldw, d->ldw, d->bh, d->cols, 0, t->c, d->k);
    for (size_t r = begin; r < end; r++) {
        const float *c = t->c + (r - begin) * d->k;
        uint16_t *at = d->at + r * d->s;
        float *x = d->x + r * d->s;
        size_t n_kept = d->n[r], n = 0, n_again = 0;
        memcpy(t->kept, at, n_kept * sizeof *at);
        double gain = fit_row(d, c, NULL, 0, t, at, x, &n);
        const double again = n_kept ? fit_row(d, c, t->kept, n_kept, t, t->at, t->x, &n_again) : 0;
        if (again > gain) {
            memcpy(at, t->at, n_again * sizeof *at);
            memcpy(x, t->x, n_again * sizeof *x);
            gain = again, n = n_again;
        }
        sort_entries(at, x, n);
        if (d->store) gain = round_row(d, c, n, at, x, t, &d->scale[r], d->q + r * d->s);
        d->n[r] = (uint16_t)n;
        d->gain[r] = gain;
    }
}

static double code_rows(dict *d) {
    double left = 0;
    thread_for(d->threads, d->rows, ROWS, code_tile, d);
    for (size_t r = 0; r < d->rows; r++) left += d->energy[r] - d->gain[r];
    return left;
}

/* ---- atoms ---- */

/* Columns [begin, end) of A^T W to bh, then of V. */
static void atoms_tile(void *ctx, size_t begin, size_t end, int worker) {
    const dict *d = ctx;
    const size_t len = end - begin;
    for (size_t k = 0; k < d->k; k++) memset(d->bh + k * d->cols + begin, 0, len * sizeof *d->bh);
    for (size_t r = 0; r < d->rows; r++)
        for (size_t i = 0; i < d->n[r]; i++) {
            const float x = d->x[r * d->s + i], *w = d->w + r * d->ldw + begin;
            float *p = d->bh + d->at[r * d->s + i] * d->cols + begin;
            for (size_t c = 0; c < len; c++) p[c] += x * w[c];
        }
    for (int sweep = 0; sweep < ATOM_SWEEPS; sweep++)
        for (size_t k = 0; k < d->k; k++) {
            const double *m = d->m + k * d->k;
            float t[TILE], *b = d->b + k * d->cols + begin;
            if (!(m[k] > 0)) continue;
            memcpy(t, d->bh + k * d->cols + begin, len * sizeof *t);
            for (size_t j = 0; j < d->k; j++) {
                if (j == k || m[j] == 0) continue;
                const float f = (float)m[j], *other = d->b + j * d->cols + begin;
                for (size_t c = 0; c < len; c++) t[c] -= f * other[c];
            }
            for (size_t c = 0; c < len; c++) b[c] = t[c] / (float)m[k];
        }
}

static void set_atom(dict *d, size_t k, size_t row) { memcpy(d->b + k * d->cols, d->w + row * d->ldw, d->cols * sizeof *d->b); }

/* Those that no row uses become the rows that are worst off. */
static void replace_unused(dict *d) {
    for (size_t k = 0; k < d->k; k++) {
        if (d->m[k * d->k + k] > 0) continue;
        size_t worst = 0;
        for (size_t r = 1; r < d->rows; r++)
            if (d->energy[r] - d->gain[r] > d->energy[worst] - d->gain[worst]) worst = r;
        if (!(d->energy[worst] - d->gain[worst] > 1e-6 * d->energy[worst])) return; /* nothing is left to do */
        set_atom(d, k, worst);
        d->gain[worst] = d->energy[worst];
    }
}

static void update_atoms(dict *d) {
    memset(d->m, 0, d->k * d->k * sizeof *d->m);
    for (size_t r = 0; r < d->rows; r++)
        for (size_t i = 0; i < d->n[r]; i++)
            for (size_t j = 0; j < d->n[r]; j++)
                d->m[d->at[r * d->s + i] * d->k + d->at[r * d->s + j]] += (double)d->x[r * d->s + i] * d->x[r * d->s + j];
    thread_for(d->threads, d->cols, TILE, atoms_tile, d);
    replace_unused(d);
}

/* Rows spread over the matrix. */
static void first_atoms(dict *d) {
    const size_t n = d->k < d->rows ? d->k : d->rows;
    for (size_t k = 0; k < n; k++) set_atom(d, k, k * d->rows / n);
}

/* ---- the whole ---- */

static snug_err energies(dict *d, snug_error *err) {
    if (d->h) return hessian_loss(d->h, d->w, d->ldw, d->rows, d->energy, err);
    for (size_t r = 0; r < d->rows; r++)
        for (size_t c = 0; c < d->cols; c++) d->energy[r] += (double)(d->a ? d->a[c] : 1) * d->w[r * d->ldw + c] * d->w[r * d->ldw + c];
    return SNUG_OK;
}

static snug_err solve(dict *d, int rounds, double *left, uint8_t *dst, snug_error *err) {
    float *atom_scale = calloc(d->k, sizeof *atom_scale), *root = malloc(d->cols * sizeof *root);
    snug_err e = atom_scale && root ? energies(d, err) : err_nomem(err, d->cols * sizeof *root);
    double last = INFINITY;
    first_atoms(d);
    for (int i = 0; !e && i < rounds; i++) {
        if (i) update_atoms(d);
        prepare(d, true);
        const double now = code_rows(d);
        const bool done = !(now < last * (1 - GROWTH));
        for (int k = i; left && k < (done ? rounds : i + 1); k++) left[k] = now;
        if (done) break;
        last = now;
    }
    for (size_t c = 0; !e && c < d->cols; c++) root[c] = d->a ? sqrtf(d->a[c]) : 1;
    if (!e) e = svd_round_right(d->p.bits, d->k, d->cols, d->h, root, d->threads, d->b, atom_scale, d->bh, err);
    if (!e) {
        prepare(d, false);
        d->store = true;
        const double now = code_rows(d);
        if (left) left[rounds] = now;
        const dict_factors f = {d->b, atom_scale, d->scale, d->n, d->at, d->q};
        dict_pack(d->p, d->rows, d->cols, &f, dst);
    }
    free(atom_scale), free(root);
    return e;
}

static bool open_room(const dict *d, room *t) {
    *t = (room){.v = malloc(d->s * d->k * sizeof *t->v), .rest = malloc(d->k * sizeof *t->rest), .alpha = malloc(d->k * sizeof *t->alpha),
                .c = malloc(ROWS * d->k * sizeof *t->c), .g = malloc(d->s * d->s * sizeof *t->g), .x = malloc(d->s * sizeof *t->x),
                .u = malloc(d->s * sizeof *t->u), .at = malloc(d->s * sizeof *t->at), .kept = malloc(d->s * sizeof *t->kept), .q = malloc(d->s)};
    return t->v && t->rest && t->alpha && t->c && t->g && t->x && t->u && t->at && t->kept && t->q;
}

static void close_room(room *t) {
    free(t->v), free(t->rest), free(t->alpha), free(t->c), free(t->g), free(t->x), free(t->u), free(t->at), free(t->kept), free(t->q);
}

snug_err solve_dict(codec_params p, const float *w, size_t ldw, size_t rows, size_t cols, const float *a, const hessian *h, int rounds,
                    int threads, double *left, uint8_t *dst, snug_error *err) {
    if (h && h->n != cols) return err_set(err, SNUG_ERR_ARG, "second moments of %zu inputs for %zu columns", h->n, cols);
    if (threads < 1) threads = 1;
    float *imp = malloc(cols * sizeof *imp);
    dict d = {.p = p, .w = w, .a = a ? imp : NULL, .ldw = ldw, .rows = rows, .cols = cols, .k = p.rank, .s = p.group, .h = h, .threads = threads};
    d.b = calloc(d.k * cols, sizeof *d.b), d.bh = malloc(d.k * cols * sizeof *d.bh);
    d.g = malloc(d.k * d.k * sizeof *d.g), d.m = malloc(d.k * d.k * sizeof *d.m);
    d.n = calloc(rows, sizeof *d.n), d.at = malloc(rows * d.s * sizeof *d.at), d.x = malloc(rows * d.s * sizeof *d.x);
    d.q = calloc(rows * d.s, 1), d.scale = calloc(rows, sizeof *d.scale);
    d.energy = calloc(rows, sizeof *d.energy), d.gain = calloc(rows, sizeof *d.gain);
    d.room = calloc((size_t)threads, sizeof *d.room);
    bool ok = imp && d.b && d.bh && d.g && d.m && d.n && d.at && d.x && d.q && d.scale && d.energy && d.gain && d.room;
    for (int i = 0; ok && i < threads; i++) ok = open_room(&d, &d.room[i]);
    snug_err e = ok ? check_finite("dict", w, ldw, rows, cols, 0, err) : err_nomem(err, 2 * d.k * (cols + d.k) * sizeof(float));
    if (!e && a) e = importance_normalise(a, cols, imp, err);
    if (!e) e = solve(&d, rounds, left, dst, err);
    for (int i = 0; d.room && i < threads; i++) close_room(&d.room[i]);
    free(imp), free(d.b), free(d.bh), free(d.g), free(d.m), free(d.n), free(d.at), free(d.x), free(d.q), free(d.scale), free(d.energy), free(d.gain);
    free(d.room);
    return e;
}
