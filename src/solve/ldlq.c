/* LDLQ: rounding with error feedback through any codec's own steps (the same as GPTQ, by the factor of H instead of its inverse's).
 *
 * Columns are chosen from left to right. Column k should be near to w_k + sum_{j<k} e_j R_jk, e = w - w_hat, and costs D_k times the
 * square of what it misses (hessian.h). A codec's scales are fitted when the feedback reaches their group, to the weights as they
 * are then, each column weighted with its D_k; the codes follow one tile of columns at a time. Columns stand as the factor has them: whole
 * groups, perhaps in another order.
 *
 * Then sweeps of coordinate descent, in which the loss cannot rise: where the codec has neighbouring scales, each group of a block moves to
 * the best of them with its codes as they are; then every column in turn is rounded again to what is best for it given the errors of all
 * others, w_k + sum_{j/=k} e_j H_jk / H_kk. Before the first and after the last of them scales that are stored as numbers (d, dmin) move to
 * their optimum: the loss is quadratic in them, w_hat = d u, so d + (e H u^T) / (u H u^T), or two such equations.
 *
 * Codecs whose tiles are rounded jointly have sweeps over tiles instead: the best change of a tile under its block of H, rounded by the codec between
 * what stands on both sides, and taken where the loss falls.
 *
 * Work per row: n^2 for the feedback, 2 n^2 for a sweep or a refit of scales, in GEMMs over a sub-panel of rows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/err.h"
#include "codec/vec.h"
#include "linalg/linalg.h"
#include "solve/internal.h"

enum {
    BLOCK = 128, STEP = 32, /* columns that are taken up together; and between feedback to the rest of those */
    MAX_MOVES = 3,          /* of a group's scales per sweep */
    MAX_TILE = 16, MAX_TILE_ROWS = 16, /* that are rounded again together */
};

/* The loss of a row when the scales that a group shares are x + step:  step^T a step - 2 b^T step + what it is without. */
typedef struct normal {
    float x[CODEC_SHARED];
    double a[CODEC_SHARED][CODEC_SHARED], b[CODEC_SHARED];
} normal;

typedef struct panel {
    const snug_codec *codec;
    codec_params p;
    const hessian *h;
    void *enc;
    const float *w; /* (n_rows, ldw) */
    size_t ldw, n_rows, cols;
    const float *a; /* (cols): D, mean 1 */
    float *hat, *e; /* (n_rows, cols): w_hat, w - w_hat */
    size_t width;   /* of a block: whole groups, at least BLOCK */
    float *t;       /* (n_rows, width): what the columns of the block at hand should be near to */
    float *block;   /* (BLOCK, BLOCK): H of a sweep's block */
    size_t group;   /* columns that share scales (codec.h) */
    int n_shared;   /* how many scales */
    float *u[CODEC_SHARED]; /* (n_rows, group): what the group's columns decode to per unit of each of them */
    float *half;    /* (n_rows, BLOCK): a product */
    normal *eq;     /* (n_rows) */
    size_t block_cols; /* of a sweep's block */
    double mean;    /* of H's diagonal */
} panel;

/* The input that R's k-th column belongs to. In the pass with feedback columns are counted as R has them, and e is in that order; whole
 * groups stay together, so a codec sees what it would see in the inputs' order, only its groups in another. */
static size_t input(const panel *q, size_t k) { return q->h->order ? q->h->order[k] : k; }

/* t = the columns [c0, c0 + n) of w + e R, with the errors of columns before c0. */
static void target(const panel *q, size_t c0, size_t n) {
    for (size_t r = 0; r < q->n_rows; r++)
        for (size_t k = 0; k < n; k++) q->t[r * q->width + k] = q->w[r * q->ldw + input(q, c0 + k)];
    if (c0) linalg_gemm(false, false, q->n_rows, n, c0, 1, q->e, q->cols, q->h->m + c0, q->h->n, 1, q->t, q->width);
}

/* Rounds columns [c, c + n), which are t's at `at`, and takes down what they miss. */
static void round_tile(const panel *q, size_t c, size_t at, size_t n) {
    const size_t from = input(q, c);
    q->codec->round(q->enc, from, n, q->t + at, q->width, q->hat + from, q->cols);
    for (size_t r = 0; r < q->n_rows; r++)
        for (size_t k = 0; k < n; k++) q->e[r * q->cols + c + k] = q->w[r * q->ldw + from + k] - q->hat[r * q->cols + from + k];
}

/* t's columns [from, to) += the errors of columns [c, c + n) times their R; t's column 0 is c0. */
static void feed(const panel *q, size_t c, size_t n, size_t c0, size_t from, size_t to) {
    for (size_t r = 0; r < q->n_rows; r++) {
        float *t = q->t + r * q->width;
        for (size_t k = c; k < c + n; k++) {
            const float e = q->e[r * q->cols + k], *row = q->h->m + k * q->h->n + c0;
            for (size_t j = from; j < to; j++) t[j] += e * row[j];
        }
    }
}

static void feedback_pass(const panel *q) {
    const size_t tile = q->codec->tile_cols, step = round_up(STEP, tile), group = q->codec->group_cols(q->p);
    if (q->codec->begin) q->codec->begin(q->enc, q->w, q->ldw, q->a);
    for (size_t c0 = 0; c0 < q->cols; c0 += q->width) {
        size_t n = q->cols - c0 < q->width ? q->cols - c0 : q->width;
        target(q, c0, n);
        for (size_t s = 0; s < n; s += step) {
            size_t end = s + step < n ? s + step : n;
            if (s % group == 0) q->codec->group(q->enc, input(q, c0 + s), n - s < group ? n - s : group, q->t + s, q->width, q->a + input(q, c0 + s));
            for (size_t k = s; k < end; k += tile) {
                size_t m = end - k < tile ? end - k : tile;
                if (q->codec->ahead) q->codec->ahead(q->enc, (size_t)min_u64(n, (k / group + 1) * group) - k - m);
                round_tile(q, c0 + k, k, m);
                feed(q, c0 + k, m, c0, k + m, end);
            }
            if (end < n)
                linalg_gemm(false, false, q->n_rows, n - end, end - s, 1, q->e + c0 + s, q->cols, q->h->m + (c0 + s) * q->h->n + c0 + end, q->h->n, 1,
                            q->t + end, q->width);
        }
    }
    for (size_t r = 0; r < q->n_rows; r++) /* in the inputs' order again */
        for (size_t c = 0; c < q->cols; c++) q->e[r * q->cols + c] = q->w[r * q->ldw + c] - q->hat[r * q->cols + c];
}

/* t (n_rows, width) = E H for the columns [c, c + n), with H's block of these columns in q->block. */
static void gradient(const panel *q, size_t c, size_t n) {
    const float *m = q->h->m;
    const size_t ldh = q->h->n, below = c + n;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) q->block[i * BLOCK + j] = q->block[j * BLOCK + i] = m[(c + i) * ldh + c + j];
    linalg_gemm(false, false, q->n_rows, n, n, 1, q->e + c, q->cols, q->block, BLOCK, 0, q->t, q->width);
    if (c) linalg_gemm(false, true, q->n_rows, n, c, 1, q->e, q->cols, m + c * ldh, ldh, 1, q->t, q->width);
    if (below < q->cols)
        linalg_gemm(false, false, q->n_rows, n, q->cols - below, 1, q->e + below, q->cols, m + below * ldh + c, ldh, 1, q->t, q->width);
}

typedef double v8d __attribute__((vector_size(64)));

/* v H v^T - 2 v t for eight changes v of n columns, one a lane: of the row's loss. h: H from these columns on, rows of BLOCK; t likewise. */
VEC_CLONES static void gains(const float *h, const float *t, size_t n, const v8f *v, double *out) {
    v8d sum = {0};
    for (size_t i = 0; i < n; i++) {
        v8f part = 0.5f * h[i * BLOCK + i] * v[i] - t[i];
        for (size_t j = 0; j < i; j++) part += h[i * BLOCK + j] * v[j];
        sum += __builtin_convertvector(v[i] * part, v8d);
    }
    for (int k = 0; k < CODEC_NEIGHBOURS; k++) out[k] = 2 * sum[k];
}

/* The row's columns from k of the block at c on become w_hat: new codes or scales. */
static void change(const panel *q, size_t r, size_t c, size_t k, size_t n, size_t block, const float *v, const float *w_hat) {
    float *t = q->t + r * q->width;
    for (size_t i = 0; i < n; i++) {
        const float *row = q->block + (k + i) * BLOCK;
        q->hat[r * q->cols + c + k + i] = w_hat[i];
        q->e[r * q->cols + c + k + i] = q->w[r * q->ldw + c + k + i] - q->hat[r * q->cols + c + k + i];
        for (size_t j = 0; j < block; j++) t[j] -= v[i] * row[j];
    }
}

/* The neighbours of the group at column c + k of row r: what they would decode to, and in lanes what that changes. Returns the group's
 * columns, 0 where it has no neighbour. */
static size_t neighbours(const panel *q, size_t r, size_t c, size_t k, float w_hat[CODEC_NEIGHBOURS][BLOCK], v8f *v, uint32_t *scales) {
    const float *hat = q->hat + r * q->cols + c + k;
    size_t n = 0;
    for (int i = 0; i < CODEC_NEIGHBOURS; i++) {
        const size_t len = q->codec->neighbour(q->enc, r, c + k, i, w_hat[i], &scales[i]);
        for (size_t j = n; j < len; j++) v[j] = v8_set(0);
        for (size_t j = 0; j < len; j++) v[j][i] = w_hat[i][j] - hat[j];
        if (len > n) n = len;
    }
    return n;
}

/* Scales of the block's groups move to a neighbour while that lowers the loss with the codes as they are. */
static void rescale(const panel *q, size_t c, size_t n) {
    const size_t width = q->codec->scale_cols(q->p);
    float w_hat[CODEC_NEIGHBOURS][BLOCK], own[BLOCK];
    v8f v[BLOCK];
    uint32_t scales[CODEC_NEIGHBOURS];
    double by[CODEC_NEIGHBOURS];
    for (size_t r = 0; r < q->n_rows; r++)
        for (size_t k = 0; k < n; k += width)
            for (int moves = 0; moves < MAX_MOVES; moves++) {
                const size_t m = neighbours(q, r, c, k, w_hat, v, scales);
                int at = 0;
                gains(q->block + k * (BLOCK + 1), q->t + r * q->width + k, m, v, by);
                for (int i = 1; i < CODEC_NEIGHBOURS; i++)
                    if (by[i] < by[at]) at = i;
                if (!(by[at] < 0)) break;
                for (size_t j = 0; j < m; j++) own[j] = v[j][at];
                q->codec->rescale(q->enc, r, c + k, scales[at]);
                change(q, r, c, k, m, n, own, w_hat[at]);
            }
}

/* ---- scales that are stored as numbers ---- */

static double dot(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

/* half = the columns [at, at + n) of u times H's upper triangle, with half of its diagonal block (q->block), in the group that begins at column
 * c: u H u^T is twice what u has in common with it. */
static void half_product(const panel *q, const float *u, size_t c, size_t at, size_t n) {
    linalg_gemm(false, false, q->n_rows, n, n, 0.5f, u + at, q->group, q->block, BLOCK, 0, q->half, BLOCK);
    if (at) linalg_gemm(false, true, q->n_rows, n, at, 1, u, q->group, q->h->m + (c + at) * q->h->n + c, q->h->n, 1, q->half, BLOCK);
}

/* Adds what columns [at, at + n) of the group at c bring to the rows' equations. */
static void add_equations(const panel *q, size_t c, size_t at, size_t n) {
    gradient(q, c + at, n);
    for (int i = 0; i < q->n_shared; i++) {
        half_product(q, q->u[i], c, at, n);
        for (size_t r = 0; r < q->n_rows; r++) {
            normal *eq = &q->eq[r];
            eq->b[i] += dot(q->t + r * q->width, q->u[i] + r * q->group + at, n);
            for (int j = 0; j < q->n_shared; j++) {
                const double part = dot(q->half + r * BLOCK, q->u[j] + r * q->group + at, n);
                eq->a[i][j] += part;
                eq->a[j][i] += part;
            }
        }
    }
}

/* The best scales; of the first alone where the second has no say of its own. False: there is nothing to be had. */
static bool best_scales(const normal *eq, float x[CODEC_SHARED]) {
    const double *b = eq->b, det = eq->a[0][0] * eq->a[1][1] - eq->a[0][1] * eq->a[1][0];
    double step[CODEC_SHARED] = {b[0] / eq->a[0][0]};
    if (det > 1e-5 * eq->a[0][0] * eq->a[1][1]) {
        step[0] = (eq->a[1][1] * b[0] - eq->a[0][1] * b[1]) / det;
        step[1] = (eq->a[0][0] * b[1] - eq->a[1][0] * b[0]) / det;
    }
    for (int i = 0; i < CODEC_SHARED; i++) x[i] = (float)(eq->x[i] + step[i]);
    return eq->a[0][0] > 0 && isfinite(x[0]) && isfinite(x[1]);
}

/* By how much scales x lower the loss. */
static double gained(const normal *eq, const float x[CODEC_SHARED]) {
    double sum = 0;
    for (int i = 0; i < CODEC_SHARED; i++) {
        const double step = (double)x[i] - eq->x[i];
        sum += 2 * eq->b[i] * step;
        for (int j = 0; j < CODEC_SHARED; j++) sum -= step * eq->a[i][j] * ((double)x[j] - eq->x[j]);
    }
    return sum;
}

/* The rows' columns [c, c + n), a group, take the best shared scales for codes and steps as they are, unless rounding spoils it. */
static void refit_group(panel *q, size_t c, size_t n) {
    memset(q->eq, 0, q->n_rows * sizeof *q->eq);
    for (size_t r = 0; r < q->n_rows; r++) {
        float *const u[CODEC_SHARED] = {q->u[0] + r * q->group, q->u[1] + r * q->group};
        q->n_shared = q->codec->shared(q->enc, r, c, q->eq[r].x, u);
    }
    for (size_t at = 0; at < n; at += BLOCK) add_equations(q, c, at, n - at < BLOCK ? n - at : BLOCK);
    for (size_t r = 0; r < q->n_rows; r++) {
        float x[CODEC_SHARED], *w_hat = q->u[0] + r * q->group;
        if (!best_scales(&q->eq[r], x)) continue;
        q->codec->reshare(q->enc, r, c, x, w_hat);
        if (!(gained(&q->eq[r], x) > 0)) q->codec->reshare(q->enc, r, c, q->eq[r].x, w_hat);
        for (size_t k = 0; k < n; k++) {
            q->hat[r * q->cols + c + k] = w_hat[k];
            q->e[r * q->cols + c + k] = q->w[r * q->ldw + c + k] - w_hat[k];
        }
    }
}

static void refit(panel *q) {
    for (size_t c = 0; q->codec->shared && c < q->cols; c += q->group) refit_group(q, c, q->cols - c < q->group ? q->cols - c : q->group);
}

/* One sweep, block by block. */
static void sweep(const panel *q, float *want, float *got) {
    for (size_t c = 0; c < q->cols; c += BLOCK) {
        size_t n = q->cols - c < BLOCK ? q->cols - c : BLOCK;
        gradient(q, c, n);
        if (q->codec->neighbour) rescale(q, c, n);
        for (size_t k = 0; k < n; k++) {
            const float hkk = q->block[k * BLOCK + k], *row = q->block + k * BLOCK;
            for (size_t r = 0; r < q->n_rows; r++)
                want[r] = q->hat[r * q->cols + c + k] + q->t[r * q->width + k] / hkk;
            q->codec->round(q->enc, c + k, 1, want, 1, got, 1);
            for (size_t r = 0; r < q->n_rows; r++) {
                float *hat = q->hat + r * q->cols + c + k, change = *hat - got[r]; /* of e */
                if (change == 0) continue;
                *hat = got[r];
                q->e[r * q->cols + c + k] += change;
                for (size_t j = 0; j < n; j++) q->t[r * q->width + j] += change * row[j];
            }
        }
    }
}

/* t's tile of columns [k, k + n) times the inverse of H's block of them, from row `row` on: where the tile's errors would be best, beyond
 * what w_hat is. m: room for the factor. */
static void best_changes(const panel *q, size_t row, size_t rows, size_t k, size_t n, double m[MAX_TILE][MAX_TILE], float *out) {
    for (size_t i = 0; i < n; i++) /* Cholesky's L; H is damped */
        for (size_t j = 0; j <= i; j++) {
            double sum = q->block[(k + i) * BLOCK + k + j];
            for (size_t l = 0; l < j; l++) sum -= m[i][l] * m[j][l];
            m[i][j] = i == j ? sqrt(sum > 0 ? sum : 1e-30) : sum / m[j][j];
        }
    for (size_t r = 0; r < rows; r++) {
        double x[MAX_TILE];
        for (size_t i = 0; i < n; i++) {
            x[i] = q->t[(row + r) * q->width + k + i];
            for (size_t j = 0; j < i; j++) x[i] -= m[i][j] * x[j];
            x[i] /= m[i][i];
        }
        for (size_t i = n; i-- > 0;) {
            for (size_t j = i + 1; j < n; j++) x[i] -= m[j][i] * x[j];
            x[i] /= m[i][i];
        }
        for (size_t i = 0; i < n; i++) out[r * MAX_TILE + i] = (float)x[i];
    }
}

/* The tile of `rows` rows from `row` on and columns [k, k + n) of the block at c is rounded again; where that lowers the loss, it stays so. */
static void retry_tile(const panel *q, size_t row, size_t rows, size_t c, size_t k, size_t n) {
    double m[MAX_TILE][MAX_TILE], by = 0;
    float want[MAX_TILE_ROWS * MAX_TILE], got[MAX_TILE_ROWS * MAX_TILE], a[MAX_TILE];
    best_changes(q, row, rows, k, n, m, want);
    for (size_t i = 0; i < n; i++) a[i] = (float)(q->block[(k + i) * BLOCK + k + i] / q->mean);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++) want[r * MAX_TILE + i] += q->hat[(row + r) * q->cols + c + k + i];
    q->codec->propose(q->enc, row, c + k, n, want, MAX_TILE, a, got, MAX_TILE);
    for (size_t r = 0; r < rows; r++) {
        const float *hat = q->hat + (row + r) * q->cols + c + k, *t = q->t + (row + r) * q->width + k;
        for (size_t i = 0; i < n; i++) {
            const double v = (double)got[r * MAX_TILE + i] - hat[i];
            double part = 0;
            for (size_t j = 0; j < n; j++) part += q->block[(k + i) * BLOCK + k + j] * ((double)got[r * MAX_TILE + j] - hat[j]);
            by += v * (part - 2 * t[i]);
        }
    }
    if (!(by < 0)) return;
    q->codec->accept(q->enc);
    for (size_t r = 0; r < rows; r++) {
        const float *hat = q->hat + (row + r) * q->cols + c + k;
        float v[MAX_TILE];
        for (size_t i = 0; i < n; i++) v[i] = got[r * MAX_TILE + i] - hat[i];
        change(q, row + r, c, k, n, q->block_cols, v, got + r * MAX_TILE);
    }
}

/* A sweep for codecs whose tiles are rounded jointly. */
static void sweep_tiles(panel *q) {
    const size_t rows = q->codec->tile_rows, cols = q->codec->tile_cols;
    for (size_t c = 0; c < q->cols; c += BLOCK) {
        q->block_cols = q->cols - c < BLOCK ? q->cols - c : BLOCK;
        gradient(q, c, q->block_cols);
        for (size_t k = 0; k < q->block_cols; k += cols)
            for (size_t r = 0; r < q->n_rows; r += rows)
                retry_tile(q, r, q->n_rows - r < rows ? q->n_rows - r : rows, c, k, q->block_cols - k < cols ? q->block_cols - k : cols);
    }
}

/* The first sweep gains most (a tenth of the loss at 2 bits), the fourth a hundredth. Of tiles each is a search, and gains 2 % of the loss, 3 in
 * two, 4 in four. */
int solve_ldlq_sweeps(const snug_codec *codec, int effort) {
    if (codec && codec->tile_cols != 1) return codec->propose && effort == SNUG_EFFORT_MAX ? 4 : 0;
    return effort == SNUG_EFFORT_QUICK ? 0 : effort == SNUG_EFFORT_MAX ? 8 : 4;
}

static void solve_panel(panel *q, int effort, float *line) {
    const bool tiles = q->codec->tile_cols != 1;
    const int sweeps = solve_ldlq_sweeps(q->codec, effort);
    feedback_pass(q);
    refit(q);
    for (int i = 0; i < sweeps; i++) {
        if (tiles) sweep_tiles(q);
        else sweep(q, line, line + q->n_rows);
    }
    if (sweeps) refit(q);
}

snug_err solve_ldlq(wt_layout layout, const snug_codec *codec, codec_params p, const float *w, size_t ldw, size_t n_rows, size_t cols,
                    const hessian *h, int effort, uint8_t *dst, float *w_hat, snug_error *err) {
    char name[CODEC_NAME_MAX];
    codec_format(codec, p, name);
    if (codec->caps & CODEC_WHOLE || !codec->params_ok(p) || h->n != cols || (h->order && h->group % codec->group_cols(p) != 0)) {
        return err_set(err, SNUG_ERR_ARG, "codec %s cannot be rounded with the feedback of %zu inputs", name, h->n);
    }
    size_t sub = round_up(SOLVE_LDLQ_ROWS, codec->tile_rows);
    if (sub > n_rows) sub = n_rows;
    size_t width = round_up(BLOCK, codec->group_cols(p)), enc_bytes = round_up(codec->enc_bytes(p, sub, cols), 64);
    size_t mat = round_up(sub * cols * sizeof(float), 64), tile = round_up(sub * width * sizeof(float), 64), line = round_up(2 * sub * sizeof(float), 64);
    size_t imp = round_up(cols * sizeof(float), 64), block = BLOCK * BLOCK * sizeof(float), row_bytes = layout == WT_PANELS ? round_up((size_t)codec->bytes(p, sub, cols), 64) : 0;
    if (codec->bytes(p, n_rows, cols) == 0 || enc_bytes == 0) return err_set(err, SNUG_ERR_ARG, "codec %s cannot store %zu x %zu weights", name, n_rows, cols);
    panel q = {.codec = codec, .p = p, .h = h, .ldw = ldw, .cols = cols, .width = width, .group = codec->group_cols(p)};
    size_t u = codec->shared ? round_up(sub * q.group * sizeof(float), 64) : 0, half = codec->shared ? sub * BLOCK * sizeof(float) : 0;
    size_t eq = codec->shared ? round_up(sub * sizeof(normal), 64) : 0;
    size_t total = enc_bytes + 2 * mat + tile + line + imp + block + row_bytes + CODEC_SHARED * u + half + eq;
    uint8_t *room = aligned_alloc(64, total), *at = room + enc_bytes;
    if (!room) return err_nomem(err, total);
    q.enc = room;
    q.hat = (float *)(void *)at, at += mat;
    q.e = (float *)(void *)at, at += mat;
    q.t = (float *)(void *)at, at += tile;
    q.block = (float *)(void *)at, at += block;
    for (int i = 0; i < CODEC_SHARED; i++) q.u[i] = (float *)(void *)at, at += u;
    q.half = (float *)(void *)at, at += half;
    q.eq = (normal *)(void *)at, at += eq;
    float *a = (float *)(void *)at, *lines = (float *)(void *)(at + imp);
    uint8_t *rows = at + imp + line;
    q.a = a;
    for (size_t i = 0; i < cols; i++) q.mean += h->m[i * (cols + 1)] / (double)cols;
    snug_err e = importance_normalise(h->d, cols, a, err);
    for (size_t r = 0; e == SNUG_OK && r < n_rows; r += sub) {
        q.n_rows = n_rows - r < sub ? n_rows - r : sub;
        q.w = w + r * ldw;
        if ((e = check_finite(name, q.w, ldw, q.n_rows, cols, r, err))) break;
        codec->enc_init(room, p, q.n_rows, cols, effort);
        solve_panel(&q, effort, lines);
        uint8_t *place = dst + (r ? codec->bytes(p, r, cols) : 0);
        codec->pack(room, row_bytes ? rows : place);
        if (row_bytes) {
            wt stored = {.codec = codec, .params = p, .rows = q.n_rows, .cols = cols, .data = rows, .bytes = codec->bytes(p, q.n_rows, cols)};
            codec->relay(&stored, place);
        }
        e = check_finite(name, q.hat, cols, q.n_rows, cols, r, err);
        if (e) e = err_prefix(err, e, "too large to be stored");
        if (w_hat) memcpy(w_hat + r * cols, q.hat, q.n_rows * cols * sizeof(float));
    }
    free(room);
    return e;
}
