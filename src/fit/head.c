/* The head over hidden states of many variants of a model, and how far each variant's output is from the clean one's.
 *
 * The vocabulary is walked in chunks of rows. Per token and variant, with r the clean logits, z the variant's, d = z - r and m a
 * running maximum of r:
 *     S = sum e^(r - m),   B = sum e^(r - m) d,   F = sum e^(r - m) (e^d - 1 - d)
 *     KL(clean || variant) = log sum p e^d - sum p d = log1p((F + B) / S) - B / S
 * which is exact (when m grows the sums are scaled), has no cancellation for small d, and is exactly 0 for equal logits. Sums run in
 * double over blocks in a fixed order, so results do not depend on threads. */
#include "fit/forward.h"

#include "base/checked.h"
#include "base/err.h"
#include "base/f16.h"
#include "base/thread.h"
#include "kern/kern.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 64, TOKEN_TILE = 96 /* of 12, as dot_f32 takes them */, ROW_TILE = 64, ACT_PAD = 256 };
static const size_t LOGIT_FLOATS = 12u << 20; /* 48 MB of logits at a time */

const store_tensor *head_tensor(const fit_job *f) {
    const store_tensor *t = store_find(f->src, ROLE_HEAD, -1);
    return t && !f->src->cfg.tied ? t : store_find(f->src, ROLE_EMBD, -1);
}

typedef struct sums { float max; double s; } sums;      /* of a token                  */
typedef struct var_sums { double b, f; } var_sums;      /* of a token and variant      */

/* e^x for a block, x <= 88: 2^i * 2^f by a polynomial (Cephes' expf). Relative error 2e-7; plain C that compilers vectorise. */
static void exp_block(const float *x, float *out) {
    for (int i = 0; i < BLOCK; i++) {
        float v = x[i] < -87.0f ? -87.0f : x[i] > 88.0f ? 88.0f : x[i];
        float shifted = v * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;
        float r = (v - n * 0.693359375f) - n * -2.12194440e-4f;
        float p = ((((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r + 1.6666665459e-1f) * r + 5.0000001201e-1f;
        float e = p * r * r + r + 1.0f;
        out[i] = e * f32_from_bits((f32_to_bits(shifted) - 0x4b400000u + 127u) << 23);
    }
}

/* e^d - 1 - d for a block: the series where d is small. */
static void excess_block(const float *d, float *out) {
    float e[BLOCK];
    exp_block(d, e);
    for (int i = 0; i < BLOCK; i++) {
        float x = d[i];
        float series = x * x * (0.5f + x * (1.6666667e-1f + x * (4.1666668e-2f + x * (8.3333333e-3f + x * 1.3888889e-3f))));
        float direct = e[i] - 1.0f - x;
        out[i] = x > -0.3f && x < 0.3f ? series : direct;
    }
}

typedef struct head_job {
    fit_job *f;
    size_t d, ld;                 /* columns, padded columns                        */
    size_t n, n_sets;             /* tokens of the chunk; 1 + variants              */
    size_t rows;                  /* of the row chunk                               */
    const float *x;               /* (n_sets, n, ld) normed and padded              */
    const float *const *w;        /* [n_sets]: head rows of each set (rows, d)      */
    float *logits;                /* (n_sets, n, rows)                              */
    sums *token;                  /* (n)                                            */
    var_sums *var;                /* (n_sets - 1, n)                                */
    void **scratch;               /* per worker                                     */
} head_job;

static void multiply(void *user, size_t begin, size_t end, int worker) {
    head_job *j = user;
    size_t row_tiles = div_up(j->rows, ROW_TILE), token_tiles = div_up(j->n, TOKEN_TILE);
    for (size_t i = begin; i < end; i++) {
        size_t set = i / (row_tiles * token_tiles), rt = i / token_tiles % row_tiles, tt = i % token_tiles;
        size_t t0 = tt * TOKEN_TILE, nt = j->n - t0 < TOKEN_TILE ? j->n - t0 : TOKEN_TILE;
        size_t r0 = rt * ROW_TILE, nr = j->rows - r0 < ROW_TILE ? j->rows - r0 : ROW_TILE;
        weight w = weight_of_f32(j->w[set], j->rows, j->d);
        act_set x = {.in = {{.n_tokens = nt, .cols = j->d, .cols_padded = j->ld, .f32 = j->x + (set * j->n + t0) * j->ld}}};
        weight_matmul(&w, r0, nr, &x, false, j->logits + (set * j->n + t0) * j->rows + r0, j->rows, j->scratch[worker]);
        for (size_t t = t0; t < t0 + nt; t++) logits_finish(&j->f->src->cfg, j->logits + (set * j->n + t) * j->rows + r0, nr);
    }
}

static void add_token(head_job *j, size_t t) {
    const float *r = j->logits + t * j->rows;
    sums *s = &j->token[t];
    float max = s->max;
    for (size_t i = 0; i < j->rows; i++) max = r[i] > max ? r[i] : max;
    if (max > s->max) { /* the first chunk finds 0 sums, whatever the scale */
        double scale = exp((double)s->max - (double)max);
        s->s *= scale;
        for (size_t v = 0; v + 1 < j->n_sets; v++) {
            j->var[v * j->n + t].b *= scale;
            j->var[v * j->n + t].f *= scale;
        }
        s->max = max;
    }
    for (size_t i0 = 0; i0 < j->rows; i0 += BLOCK) {
        size_t n = j->rows - i0 < BLOCK ? j->rows - i0 : BLOCK;
        float p[BLOCK], d[BLOCK], e[BLOCK];
        for (size_t i = 0; i < BLOCK; i++) p[i] = i < n ? r[i0 + i] - max : -87.0f;
        exp_block(p, p);
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += p[i];
        s->s += sum;
        for (size_t v = 0; v + 1 < j->n_sets; v++) {
            const float *z = j->logits + ((v + 1) * j->n + t) * j->rows;
            for (size_t i = 0; i < BLOCK; i++) d[i] = i < n ? z[i0 + i] - r[i0 + i] : 0;
            excess_block(d, e);
            double b = 0, f = 0;
            for (size_t i = 0; i < n; i++) {
                b += (double)(p[i] * d[i]);
                f += (double)(p[i] * e[i]);
            }
            j->var[v * j->n + t].b += b;
            j->var[v * j->n + t].f += f;
        }
    }
}

static void accumulate(void *user, size_t begin, size_t end, int worker) {
    for (size_t t = begin; t < end; t++) add_token(user, t);
}

/* ---- one chunk of tokens ---- */

typedef struct norm_job { const fit_job *f; const float *gain, *bias; const float *const *from; size_t n, t0, d, ld; float *x; } norm_job;

static void norm_rows(void *user, size_t begin, size_t end, int worker) {
    norm_job *j = user;
    for (size_t i = begin; i < end; i++) {
        const float *from = j->from[i / j->n] + (j->t0 + i % j->n) * j->d;
        float *to = j->x + i * j->ld;
        norm_row(&j->f->src->cfg, from, j->gain, j->bias, to);
        memset(to + j->d, 0, (j->ld - j->d) * sizeof *to);
    }
}

snug_err head_gain(const fit_job *f, float *gain, float *bias, bool *has_bias, snug_error *err) {
    const store_tensor *t = store_find(f->src, ROLE_OUT_NORM, -1), *b = store_find(f->src, ROLE_OUT_NORM_BIAS, -1);
    snug_err rc = source_rows(f, t, 0, 1, gain, err);
    *has_bias = b != NULL;
    return rc == SNUG_OK && b ? source_rows(f, b, 0, 1, bias, err) : rc;
}

typedef struct rows_job { const fit_job *f; const perturb *p; uint64_t row0; size_t d; const float *w; float *out; snug_err rc[128]; } rows_job;
enum { DISTURB_ROWS = 16 };

static void disturb_rows(void *user, size_t begin, size_t end, int worker) {
    rows_job *j = user;
    j->rc[begin / DISTURB_ROWS] = perturb_rows(j->f, j->p, j->row0 + begin, end - begin, j->w + begin * j->d, j->out + begin * j->d, NULL);
}

typedef struct read_job { const fit_job *f; const store_tensor *t; uint64_t row0; float *w; snug_err rc[128]; } read_job;

static void read_rows(void *user, size_t begin, size_t end, int worker) {
    read_job *j = user;
    j->rc[begin / DISTURB_ROWS] = source_rows(j->f, j->t, j->row0 + begin, end - begin, j->w + begin * j->t->cols, NULL);
}

/* Reads head rows [row0, row0 + rows) and makes the disturbed copies that variants ask for; w[set] says which is whose. */
static snug_err prepare_rows(head_job *j, const head_variant *variant, uint64_t row0, float *clean, float *disturbed, const float **w, snug_error *err) {
    const store_tensor *t = head_tensor(j->f);
    snug_err rc = SNUG_OK;
    size_t copies = 0, n = div_up(j->rows, DISTURB_ROWS);
    read_job r = {.f = j->f, .t = t, .row0 = row0, .w = clean};
    thread_for(j->f->threads, j->rows, DISTURB_ROWS, read_rows, &r);
    for (size_t i = 0; i < n && rc == SNUG_OK; i++)
        if (r.rc[i] != SNUG_OK) rc = err_set(err, r.rc[i], "%s: reading row %llu and on: %s", t->name, (unsigned long long)(row0 + i * DISTURB_ROWS), snug_err_name(r.rc[i]));
    w[0] = clean;
    for (size_t v = 0; v + 1 < j->n_sets && rc == SNUG_OK; v++) {
        w[v + 1] = clean;
        if (!variant[v].head) continue;
        float *out = disturbed + copies++ * j->rows * j->d;
        rows_job d = {.f = j->f, .p = variant[v].head, .row0 = row0, .d = j->d, .w = clean, .out = out};
        thread_for(j->f->threads, j->rows, DISTURB_ROWS, disturb_rows, &d);
        for (size_t i = 0; i < n && rc == SNUG_OK; i++)
            if (d.rc[i] != SNUG_OK) rc = err_set(err, d.rc[i], "%s: disturbing it: %s", t->name, snug_err_name(d.rc[i]));
        w[v + 1] = out;
    }
    return rc;
}

/* Rows per chunk: logits of all sets within LOGIT_FLOATS; tokens per chunk so that at least 256 rows fit. */
static void choose_chunks(size_t n_sets, size_t n, size_t vocab, size_t *tokens, size_t *rows) {
    *tokens = n;
    while (*tokens > 32 && n_sets * *tokens * 256 > LOGIT_FLOATS) *tokens = (*tokens + 1) / 2;
    *rows = LOGIT_FLOATS / (n_sets * *tokens) / 64 * 64;
    if (*rows < 64) *rows = 64;
    if (*rows > 2048) *rows = 2048;
    if (*rows > vocab) *rows = vocab;
}

static snug_err chunk_kl(head_job *j, const head_variant *variant, size_t max_rows, float *clean, float *disturbed, const float **w, double *kl, snug_error *err) {
    const store_tensor *t = head_tensor(j->f);
    snug_err rc = SNUG_OK;
    for (size_t i = 0; i < j->n; i++) j->token[i] = (sums){-INFINITY, 0};
    memset(j->var, 0, (j->n_sets - 1) * j->n * sizeof *j->var);
    for (uint64_t row0 = 0; row0 < t->rows && rc == SNUG_OK; row0 += max_rows) {
        j->rows = (size_t)min_u64(max_rows, t->rows - row0);
        rc = prepare_rows(j, variant, row0, clean, disturbed, w, err);
        if (rc != SNUG_OK) break;
        thread_for(j->f->threads, j->n_sets * div_up(j->rows, ROW_TILE) * div_up(j->n, TOKEN_TILE), 1, multiply, j);
        thread_for(j->f->threads, j->n, 4, accumulate, j);
    }
    for (size_t v = 0; v + 1 < j->n_sets && rc == SNUG_OK; v++)
        for (size_t i = 0; i < j->n; i++) {
            const var_sums *s = &j->var[v * j->n + i];
            double b = s->b / j->token[i].s, value = log1p(s->f / j->token[i].s + b) - b;
            kl[v] += value > 0 || isnan(value) ? value : 0;
        }
    return rc;
}

snug_err head_kl(fit_job *f, const float *clean, const head_variant *variant, size_t n_variants, size_t n_all, size_t n, double *kl,
                 snug_error *err) {
    const store_tensor *t = head_tensor(f);
    arena mem = {0};
    size_t tokens, rows, copies = 0;
    bool has_bias = false;
    head_job j = {.f = f, .d = t->cols, .ld = round_up(t->cols, ACT_PAD), .n_sets = n_variants + 1};
    choose_chunks(n_all + 1, n, t->rows, &tokens, &rows);
    for (size_t v = 0; v < n_variants; v++) copies += variant[v].head != NULL;
    float *x = arena_alloc(&mem, j.n_sets * tokens * j.ld * sizeof *x), *gain = arena_alloc(&mem, 2 * j.d * sizeof *gain);
    float *head = arena_alloc(&mem, rows * j.d * sizeof *head), *disturbed = arena_alloc(&mem, (copies + 1) * rows * j.d * sizeof *disturbed);
    const float **from = arena_calloc(&mem, j.n_sets, sizeof *from), **w = arena_calloc(&mem, j.n_sets, sizeof *w);
    j.logits = arena_alloc(&mem, j.n_sets * tokens * rows * sizeof *j.logits);
    j.token = arena_calloc(&mem, tokens, sizeof *j.token);
    j.var = arena_calloc(&mem, (n_variants + 1) * tokens, sizeof *j.var);
    j.scratch = arena_calloc(&mem, (size_t)f->threads, sizeof *j.scratch);
    bool ok = x && gain && head && disturbed && from && w && j.logits && j.token && j.var && j.scratch;
    weight shape = weight_of_f32(head, rows, j.d);
    for (int i = 0; i < f->threads && ok; i++) ok = (j.scratch[i] = arena_alloc(&mem, weight_scratch_bytes(&shape, TOKEN_TILE, false) + 64)) != NULL;
    snug_err rc = ok ? head_gain(f, gain, gain + j.d, &has_bias, err) : err_nomem(err, j.n_sets * tokens * rows * sizeof *j.logits);
    j.x = x;
    j.w = w;
    for (size_t v = 0; v < n_variants; v++) kl[v] = 0;
    for (size_t t0 = 0; t0 < n && rc == SNUG_OK; t0 += tokens) {
        j.n = n - t0 < tokens ? n - t0 : tokens;
        from[0] = clean;
        for (size_t v = 0; v < n_variants; v++) from[v + 1] = variant[v].x;
        norm_job norm = {.f = f, .gain = gain, .bias = has_bias ? gain + j.d : NULL, .from = from, .n = j.n, .t0 = t0, .d = j.d, .ld = j.ld, .x = x};
        thread_for(f->threads, j.n_sets * j.n, 32, norm_rows, &norm);
        for (size_t v = 0; v < j.n_sets; v++) states_drop(f, from[v] + t0 * t->cols, j.n * t->cols); /* x has them */
        rc = chunk_kl(&j, variant, rows, head, disturbed, w, kl, err);
    }
    for (size_t v = 0; v < n_variants; v++) kl[v] /= (double)n;
    arena_fini(&mem);
    return rc;
}
