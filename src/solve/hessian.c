/* Sums in double tiles; a blocked Cholesky factorisation from the last column to the first, in one matrix. The grid of tiles depends on
 * n alone and every tile is computed by one thread, so the bits do not depend on how many there are. */
#include "solve/hessian.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cluster.h"
#include "base/err.h"
#include "base/thread.h"
#include "codec/transform.h"
#include "linalg/linalg.h"

enum { TILE = HESSIAN_TILE, SUM_TOKENS = 512 }; /* tokens whose products are summed in f32 before they go to the doubles */

/* ---- sums ---- */

static size_t tiles(size_t n) { return div_up(n, TILE); }
static size_t extent(size_t n, size_t tile) { return n - tile * TILE < TILE ? n - tile * TILE : TILE; }
static double *tile_at(const hessian_sum *s, size_t i, size_t j) { return s->tile + (i * (i + 1) / 2 + j) * TILE * TILE; }

/* The i and j <= i of the lower triangle's tile t. */
static void tile_of(size_t t, size_t *i, size_t *j) {
    size_t row = (size_t)((sqrt(8.0 * (double)t + 1) - 1) / 2);
    while (row * (row + 1) / 2 > t) row--;
    while ((row + 1) * (row + 2) / 2 <= t) row++;
    *i = row;
    *j = t - row * (row + 1) / 2;
}

snug_err hessian_sum_open(size_t n, hessian_sum *out, snug_error *err) {
    size_t t = tiles(n);
    uint64_t bytes = 0;
    *out = (hessian_sum){.n = n};
    if (n > 1 << 20 || !checked_mul(t * (t + 1) / 2, TILE * TILE * sizeof(double), &bytes)) return err_set(err, SNUG_ERR_ARG, "%zu inputs are too many", n);
    out->tile = calloc(t * (t + 1) / 2, TILE * TILE * sizeof(double));
    return out->tile ? SNUG_OK : err_nomem(err, (size_t)bytes);
}

void hessian_sum_close(hessian_sum *s) {
    free(s->tile);
    *s = (hessian_sum){0};
}

typedef struct sum_job { hessian_sum *s; size_t first_tile; const float *x; size_t n_tokens, ld; } sum_job;

static void add_tiles(void *ctx, size_t begin, size_t end, int worker) {
    const sum_job *j = ctx;
    float part[TILE * TILE];
    for (size_t t = j->first_tile + begin; t < j->first_tile + end; t++) {
        size_t r, c;
        tile_of(t, &r, &c);
        size_t nr = extent(j->s->n, r), nc = extent(j->s->n, c);
        double *to = tile_at(j->s, r, c);
        for (size_t t0 = 0; t0 < j->n_tokens; t0 += SUM_TOKENS) {
            size_t k = j->n_tokens - t0 < SUM_TOKENS ? j->n_tokens - t0 : SUM_TOKENS;
            const float *x = j->x + t0 * j->ld;
            linalg_gemm(true, false, nr, nc, k, 1, x + r * TILE, j->ld, x + c * TILE, j->ld, 0, part, TILE);
            for (size_t a = 0; a < nr; a++)
                for (size_t b = 0; b < nc; b++) to[a * TILE + b] += part[a * TILE + b];
        }
    }
}

snug_err hessian_sum_add(hessian_sum *s, const float *x, size_t n_tokens, size_t ld, int threads, snug_error *err) {
    size_t t = tiles(s->n), begin, end;
    cluster_share(t * (t + 1) / 2, &begin, &end);
    sum_job j = {s, begin, x, n_tokens, ld};
    thread_for(threads, end - begin, 1, add_tiles, &j);
    s->tokens += (double)n_tokens;
    return SNUG_OK;
}

snug_err hessian_sum_gather(hessian_sum *s, snug_error *err) {
    const size_t t = tiles(s->n), n = t * (t + 1) / 2, bytes = TILE * TILE * sizeof *s->tile;
    return cluster_gather(s->tile, n, bytes, n * bytes, err);
}

bool hessian_sum_scale(hessian_sum *s, const int8_t *k) {
    bool any = false;
    for (size_t i = 0; i < s->n; i++) any |= k[i] != 0;
    for (size_t i = 0; any && i < s->n; i++)
        for (size_t j = 0; j < round_up(i + 1, TILE) && j < s->n; j++) {
            double *v = &tile_at(s, i / TILE, j / TILE)[i % TILE * TILE + j % TILE];
            *v = ldexp(*v, -k[i] - k[j]);
        }
    return any;
}

/* Blocks of the transform do not cross tiles, so a tile T_r A T_c^T comes of itself: columns, then rows. */
typedef struct turn_job { const hessian_sum *s; size_t block; } turn_job;

static void turn(double *v, size_t stride, size_t n, size_t first, size_t block) {
    for (size_t i = 0; i < n; i++)
        if (transform_negates(first + i)) v[i * stride] = -v[i * stride];
    for (size_t b = 0; b < n; b += block)
        for (size_t h = 1; h < block; h *= 2)
            for (size_t i = b; i < b + block; i++)
                if (!(i & h)) {
                    const double x = v[i * stride], y = v[(i + h) * stride];
                    v[i * stride] = x + y;
                    v[(i + h) * stride] = x - y;
                }
    for (size_t i = 0; i < n; i++) v[i * stride] /= sqrt((double)block);
}

static void turn_tiles(void *ctx, size_t begin, size_t end, int worker) {
    const turn_job *j = ctx;
    for (size_t t = begin; t < end; t++) {
        size_t r, c;
        tile_of(t, &r, &c);
        double *tile = tile_at(j->s, r, c);
        const size_t nr = extent(j->s->n, r), nc = extent(j->s->n, c);
        for (size_t i = 0; i < nr; i++) turn(tile + i * TILE, 1, nc, c * TILE, j->block);
        for (size_t k = 0; k < nc; k++) turn(tile + k, TILE, nr, r * TILE, j->block);
    }
}

void hessian_sum_transform(hessian_sum *s, int transform, int threads) {
    if (transform == TRANSFORM_NONE) return;
    turn_job j = {s, transform_block(s->n)};
    const size_t t = tiles(s->n);
    thread_for(threads, t * (t + 1) / 2, 1, turn_tiles, &j);
}

double hessian_sum_diagonal(const hessian_sum *s, size_t j) {
    return s->tokens > 0 ? tile_at(s, j / TILE, j / TILE)[j % TILE * (TILE + 1)] / s->tokens : 0;
}

/* ---- the order of columns ---- */

typedef struct place { double square; size_t group; } place;

static int most_first(const void *a, const void *b) {
    const place *x = a, *y = b;
    return x->square != y->square ? (x->square < y->square) - (x->square > y->square) : (x->group > y->group) - (x->group < y->group);
}

/* order (n): whole groups by their diagonals' sums. */
static snug_err choose_order(const hessian_sum *s, size_t group, uint32_t *order, snug_error *err) {
    const size_t n = s->n / group;
    place *p = calloc(n + 1, sizeof *p);
    if (!p) return err_nomem(err, (n + 1) * sizeof *p);
    for (size_t i = 0; i < n * group; i++) p[i / group] = (place){p[i / group].square + hessian_sum_diagonal(s, i), i / group};
    qsort(p, n, sizeof *p, most_first);
    for (size_t i = 0; i < s->n; i++) order[i] = (uint32_t)(i < n * group ? p[i / group].group * group + i % group : i);
    free(p);
    return SNUG_OK;
}

/* ---- the factor ---- */

typedef struct factor_job { const hessian_sum *s; hessian *h; double damp; } factor_job;

/* H below the diagonal and, transposed, above it, where the factorisation works. */
static void copy_tiles(void *ctx, size_t begin, size_t end, int worker) {
    const factor_job *j = ctx;
    size_t n = j->h->n;
    for (size_t t = begin; t < end; t++) {
        size_t r, c;
        tile_of(t, &r, &c);
        const double *from = tile_at(j->s, r, c);
        for (size_t a = 0; a < extent(n, r); a++)
            for (size_t b = 0; b < extent(n, c) && (r > c || b <= a); b++) {
                size_t i = r * TILE + a, k = c * TILE + b;
                float v = (float)(from[a * TILE + b] / j->s->tokens + (i == k ? j->damp : 0));
                j->h->m[i * n + k] = j->h->m[k * n + i] = v;
            }
    }
}

/* Above the diagonal, rows [begin, end) of H in R's order. */
static void order_rows(void *ctx, size_t begin, size_t end, int worker) {
    const hessian *h = ((const factor_job *)ctx)->h;
    for (size_t i = begin; i < end; i++)
        for (size_t k = i + 1; k < h->n; k++) {
            const size_t a = h->order[i], b = h->order[k];
            h->m[i * h->n + k] = h->m[(a > b ? a : b) * h->n + (a > b ? b : a)];
        }
}

/* The block's own factor B = U U^T, in double: u (n, n). False: not positive definite. */
static bool factor_block(size_t n, double *u) {
    for (size_t k = n; k-- > 0;) {
        double pivot = u[k * n + k];
        for (size_t j = k + 1; j < n; j++) pivot -= u[k * n + j] * u[k * n + j];
        if (!(pivot > 0) || !isfinite(pivot)) return false;
        u[k * n + k] = sqrt(pivot);
        for (size_t i = 0; i < k; i++) {
            double sum = u[i * n + k];
            for (size_t j = k + 1; j < n; j++) sum -= u[i * n + j] * u[k * n + j];
            u[i * n + k] = sum / u[k * n + k];
        }
    }
    return true;
}

typedef struct panel_job { hessian *h; size_t block; const float *u; } panel_job; /* u (TILE, TILE): the diagonal block's factor */

/* S_ib = H_ib U^-T for the blocks i above block b. */

static void solve_panel(void *ctx, size_t begin, size_t end, int worker) {
    const panel_job *j = ctx;
    size_t n = j->h->n, c = j->block * TILE;
    for (size_t i = begin; i < end; i++)
        linalg_solve_right_upper_t(extent(n, i), extent(n, j->block), j->u, TILE, j->h->m + i * TILE * n + c, n);
}

/* H_ij -= S_ib S_jb^T for i <= j < b. */
static void update_tiles(void *ctx, size_t begin, size_t end, int worker) {
    const panel_job *j = ctx;
    size_t n = j->h->n, c = j->block * TILE;
    float part[TILE * TILE];
    for (size_t t = begin; t < end; t++) {
        size_t q, p; /* p <= q: rows of block p, columns of block q */
        tile_of(t, &q, &p);
        float *to = j->h->m + p * TILE * n + q * TILE;
        const float *a = j->h->m + p * TILE * n + c, *b = j->h->m + q * TILE * n + c;
        if (p < q) {
            linalg_gemm(false, true, TILE, TILE, extent(n, j->block), -1, a, n, b, n, 1, to, n);
            continue;
        }
        linalg_gemm(false, true, TILE, TILE, extent(n, j->block), 1, a, n, b, n, 0, part, TILE);
        for (size_t r = 0; r < TILE; r++) /* on the diagonal only what lies above it is R's; the pivots are d's */
            for (size_t k = r; k < TILE; k++) {
                if (k > r) to[r * n + k] -= part[r * TILE + k];
                else j->h->d[p * TILE + r] -= part[r * TILE + r];
            }
    }
}

static bool factor_once(factor_job *f, int threads, double *u, float *uf) {
    hessian *h = f->h;
    size_t n = h->n, t = tiles(n);
    thread_for(threads, t * (t + 1) / 2, 1, copy_tiles, f);
    if (h->order) thread_for(threads, n, TILE, order_rows, f);
    for (size_t k = 0; k < n; k++) {
        const size_t at = h->order ? h->order[k] : k;
        h->d[k] = h->m[at * n + at];
    }
    for (size_t b = t; b-- > 0;) {
        size_t nb = extent(n, b), c = b * TILE;
        for (size_t i = 0; i < nb; i++)
            for (size_t j = i; j < nb; j++) u[i * nb + j] = i == j ? h->d[c + i] : h->m[(c + i) * n + c + j];
        if (!factor_block(nb, u)) return false;
        for (size_t i = 0; i < nb; i++) {
            for (size_t j = i; j < nb; j++) uf[i * TILE + j] = (float)u[i * nb + j];
            for (size_t j = i + 1; j < nb; j++) h->m[(c + i) * n + c + j] = (float)(u[i * nb + j] / u[j * nb + j]);
            h->d[c + i] = (float)(u[i * nb + i] * u[i * nb + i]);
        }
        panel_job p = {h, b, uf};
        thread_for(threads, b, 1, solve_panel, &p);
        thread_for(threads, b * (b + 1) / 2, 1, update_tiles, &p);
    }
    for (size_t b = 1; b < t; b++) /* the panels hold S = R sqrt(D) */
        for (size_t i = 0; i < b * TILE; i++)
            for (size_t k = 0; k < extent(n, b); k++) h->m[i * n + b * TILE + k] /= sqrtf(h->d[b * TILE + k]);
    return true;
}

/* D from R's order to the inputs'. */
static snug_err order_back(hessian *h, snug_error *err) {
    float *d = malloc(h->n * sizeof *d);
    if (!d) return err_nomem(err, h->n * sizeof *d);
    for (size_t k = 0; k < h->n; k++) d[h->order[k]] = h->d[k];
    free(h->d);
    h->d = d;
    return SNUG_OK;
}

snug_err hessian_factor(const hessian_sum *s, double damping, size_t group, int threads, hessian *out, snug_error *err) {
    size_t n = s->n;
    double mean = 0, *u = malloc(TILE * TILE * sizeof *u);
    float *uf = calloc(TILE * TILE, sizeof *uf);
    *out = (hessian){.n = n, .m = n <= SIZE_MAX / 4 / (n ? n : 1) ? malloc(n * n * sizeof *out->m) : NULL, .d = malloc(n * sizeof *out->d),
                     .order = group ? malloc(n * sizeof *out->order) : NULL, .group = group};
    snug_err rc = out->m && out->d && u && uf && (out->order || !group) ? SNUG_OK : err_nomem(err, n * n * sizeof *out->m);
    for (size_t j = 0; j < n; j++) mean += hessian_sum_diagonal(s, j) / (double)n;
    if (rc == SNUG_OK && !(mean > 1e-30 && mean < 1e30)) rc = err_set(err, SNUG_ERR_NUMERIC, "the inputs' mean square is %g", mean);
    if (rc == SNUG_OK && group) rc = choose_order(s, group, out->order, err);
    bool done = false;
    for (double share = damping; rc == SNUG_OK && !done && share <= fmax(1, damping); share = share > 0 ? share * 10 : 1e-4) {
        factor_job f = {.s = s, .h = out, .damp = share * mean};
        done = factor_once(&f, threads, u, uf);
        out->damping = share;
    }
    if (rc == SNUG_OK && !done) rc = err_set(err, SNUG_ERR_NUMERIC, "the inputs' second moments (%zu x %zu) cannot be factored", n, n);
    if (rc == SNUG_OK && group) rc = order_back(out, err);
    free(u);
    free(uf);
    if (rc != SNUG_OK) hessian_close(out);
    return rc;
}

void hessian_close(hessian *h) {
    free(h->m);
    free(h->d);
    free(h->order);
    *h = (hessian){0};
}

/* With H's lower triangle: e H e^T = sum_k e_k (H_kk e_k + 2 sum_{j<k} H_kj e_j). */
snug_err hessian_loss(const hessian *h, const float *e, size_t lde, size_t n_rows, double *loss, snug_error *err) {
    float *part = malloc(n_rows * TILE * sizeof *part);
    if (!part) return err_nomem(err, n_rows * TILE * sizeof *part);
    for (size_t r = 0; r < n_rows; r++) loss[r] = 0;
    for (size_t b = 0; b < tiles(h->n); b++) {
        size_t nb = extent(h->n, b), c = b * TILE;
        if (b) linalg_gemm(false, true, n_rows, nb, c, 2, e, lde, h->m + c * h->n, h->n, 0, part, TILE);
        for (size_t r = 0; r < n_rows; r++)
            for (size_t k = 0; k < nb; k++) {
                const float *row = h->m + (c + k) * h->n + c, *er = e + r * lde + c;
                double sum = (b ? (double)part[r * TILE + k] : 0) + (double)row[k] * er[k];
                for (size_t j = 0; j < k; j++) sum += 2.0 * row[j] * er[j];
                loss[r] += er[k] * sum;
            }
    }
    free(part);
    return SNUG_OK;
}
