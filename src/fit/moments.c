/* Second moments of the activations at a layer's edges. Tokens go through the layer a slab of sequences at a time; what the watched edges
 * see is laid down in the slab's room, and all threads add it to the sums together. The slabs depend on the model alone. Several processes
 * take as many slabs at a time, run their share of the passes, exchange what they saw, and each adds all of it to its tiles of the sums. */
#include "fit/forward.h"

#include "base/checked.h"
#include "base/cluster.h"
#include "base/err.h"
#include "base/thread.h"
#include "kern/kern.h"

#include <stdlib.h>
#include <string.h>

enum { SQUARE_COLS = 32, NORM_STEP = 1024 };
static const size_t SLAB_FLOATS = 12u << 20; /* 48 MB of activations at a time */

size_t edge_cols(const config *c, int layer, graph_edge edge, int expert) {
    switch (edge) {
    case EDGE_ATTN_OUT: return layer_is_ssm(c, layer) ? c->ssm.inner : (size_t)c->n_heads * config_value_dim(c);
    case EDGE_Q_LATENT: return c->q_rank;
    case EDGE_KV_LATENT: return c->kv_rank;
    case EDGE_FFN_MID: return layer_width(c, layer, expert);
    default: return c->n_embd;
    }
}

snug_err moments_open(const config *c, int layer, int expert, moments *m, snug_error *err) {
    snug_err rc = SNUG_OK;
    for (int e = 0; e < EDGE_COUNT && rc == SNUG_OK; e++) {
        m->cols[e] = edge_cols(c, layer, (graph_edge)e, expert);
        if (!m->want[e]) continue;
        if (m->full) rc = hessian_sum_open(m->cols[e], &m->sum[e], err);
        else if (!(m->square[e] = calloc(m->cols[e], sizeof *m->square[e]))) rc = err_nomem(err, m->cols[e] * sizeof *m->square[e]);
    }
    return rc;
}

void moments_close(moments *m) {
    for (int e = 0; e < EDGE_COUNT; e++) {
        hessian_sum_close(&m->sum[e]);
        free(m->square[e]);
        m->square[e] = NULL;
    }
}

double moments_square(const moments *m, graph_edge e, size_t col) {
    return m->full ? hessian_sum_diagonal(&m->sum[e], col) : m->square[e][col] / m->sum[e].tokens;
}

snug_err moments_gather(moments *m, snug_error *err) {
    snug_err rc = SNUG_OK;
    for (int e = 0; e < EDGE_COUNT && rc == SNUG_OK; e++)
        if (m->want[e] && m->full) rc = hessian_sum_gather(&m->sum[e], err);
    return rc;
}

/* ---- slabs: one for each process ---- */

typedef struct slab {
    moments *m;
    uint32_t pass_tokens, n_seq; /* of one slab */
    float *x[EDGE_COUNT]; /* (tokens, cols), of all; NULL: nobody asks */
    float *ffn_in;        /* where EDGE_FFN_IN's goes as well */
} slab;
typedef struct slab_pass { const slab *s; size_t first; } slab_pass; /* the pass' first token in the slabs */

static void lay_down(void *user, int layer, graph_edge edge, const float *x, size_t n, size_t cols, size_t ld) {
    const slab_pass *p = user;
    if (!p->s->x[edge]) return;
    for (size_t t = 0; t < n; t++) memcpy(p->s->x[edge] + (p->first + t) * cols, x + t * ld, cols * sizeof *x);
}

static void set_watch(void *user, graph *g, size_t pass) {
    slab_pass *list = user;
    graph_watch(g, lay_down, &list[pass]);
}

typedef struct square_job { double *sum; const float *x; size_t n_tokens, cols; } square_job;

static void add_squares(void *user, size_t begin, size_t end, int worker) {
    const square_job *j = user;
    for (size_t t = 0; t < j->n_tokens; t++)
        for (size_t c = begin; c < end; c++) j->sum[c] += (double)j->x[t * j->cols + c] * (double)j->x[t * j->cols + c];
}

snug_err moments_add(const fit_job *f, moments *m, graph_edge e, const float *x, size_t n_tokens, snug_error *err) {
    if (m->full) return hessian_sum_add(&m->sum[e], x, n_tokens, m->cols[e], f->threads, err);
    square_job j = {m->square[e], x, n_tokens, m->cols[e]};
    thread_for(f->threads, m->cols[e], SQUARE_COLS, add_squares, &j);
    m->sum[e].tokens += (double)n_tokens;
    return SNUG_OK;
}

/* All slabs' x to all processes, then to the sums, slab after slab. */
static snug_err add_slabs(const forward *w, slab *s, int e, size_t n_passes, uint32_t n_seq, snug_error *err) {
    const size_t len = w->f->text.len, token = s->m->cols[e] * sizeof(float);
    snug_err rc = cluster_gather(s->x[e], n_passes, s->pass_tokens * token, n_seq * len * token, err);
    if (rc == SNUG_OK && e == EDGE_FFN_IN && s->ffn_in) states_copy(w->f, s->ffn_in, s->x[e], n_seq * len * s->m->cols[e]);
    for (uint32_t q = 0; q < n_seq && rc == SNUG_OK && s->m->want[e]; q += s->n_seq) {
        size_t n = n_seq - q < s->n_seq ? n_seq - q : s->n_seq;
        rc = moments_add(w->f, s->m, (graph_edge)e, s->x[e] + q * len * s->m->cols[e], n * len, err);
    }
    return rc;
}

static snug_err run_slabs(forward *w, int layer, const layer_weights *lw, uint32_t n_seq, float *x, slab *s, snug_error *err) {
    size_t n_passes = forward_passes(w, n_seq);
    slab_pass *pass = calloc(n_passes, sizeof *pass);
    if (!pass) return err_nomem(err, n_passes * sizeof *pass);
    for (size_t i = 0; i < n_passes; i++) pass[i] = (slab_pass){s, i * s->pass_tokens};
    snug_err rc = forward_layer(w, layer, lw, n_seq, w->f->text.len, &x, 1, set_watch, pass, err);
    free(pass);
    for (int e = 0; e < EDGE_COUNT && rc == SNUG_OK; e++)
        if (s->x[e]) rc = add_slabs(w, s, e, n_passes, n_seq, err);
    return rc;
}

/* ---- all tokens ---- */

static bool is_laid_down(const moments *m, int e) { return m->want[e] || (e == EDGE_FFN_IN && m->ffn_in); }

static uint32_t slab_sequences(const forward *w, const moments *m, bool keep) {
    size_t per_token = keep ? w->f->src->cfg.n_embd : 0;
    for (int e = 0; e < EDGE_COUNT; e++) per_token += is_laid_down(m, e) ? m->cols[e] : 0;
    uint64_t passes = SLAB_FLOATS / ((uint64_t)per_token * w->n_pass * w->len);
    return (uint32_t)min_u64(w->n_seq, max_u64(1, passes) * w->n_pass);
}

snug_err moments_layer(forward *w, int layer, const layer_weights *lw, float *x, moments_fate fate, moments *m, snug_error *err) {
    const fit_text *t = &w->f->text;
    const size_t d = w->f->src->cfg.n_embd;
    const bool keep = fate == MOMENTS_STAY;
    graph_edge last = EDGE_ATTN_IN;
    snug_err rc = moments_open(&w->f->src->cfg, layer, EXPERT_NONE, m, err);
    slab s = {.m = m, .pass_tokens = w->n_pass * w->len, .n_seq = slab_sequences(w, m, keep)};
    const uint32_t n_seq = (uint32_t)min_u64(w->n_seq, (uint64_t)s.n_seq * (uint32_t)cluster_size());
    w->discard = keep;
    for (int e = 0; e < EDGE_HEAD_IN && rc == SNUG_OK; e++) {
        if (!is_laid_down(m, e)) continue;
        last = (graph_edge)e;
        s.x[e] = malloc((size_t)n_seq * t->len * m->cols[e] * sizeof(float));
        if (!s.x[e]) rc = err_nomem(err, (size_t)n_seq * t->len * m->cols[e] * sizeof(float));
    }
    float *copy = keep ? malloc((size_t)n_seq * t->len * d * sizeof *copy) : NULL;
    if (rc == SNUG_OK && keep && !copy) rc = err_nomem(err, (size_t)n_seq * t->len * d * sizeof *copy);
    forward_until(w, keep ? last : fate == MOMENTS_HALF ? EDGE_FFN_IN : EDGE_HEAD_IN);
    for (uint32_t q = 0; q < w->n_seq && rc == SNUG_OK; q += n_seq) {
        uint32_t n = w->n_seq - q < n_seq ? w->n_seq - q : n_seq;
        float *from = x + (size_t)q * t->len * d;
        if (keep) states_copy(w->f, copy, from, (size_t)n * t->len * d);
        if (keep) states_want(w->f, from + (size_t)n * t->len * d, (size_t)n * t->len * d);
        s.ffn_in = m->ffn_in ? m->ffn_in + (size_t)q * t->len * d : NULL;
        rc = run_slabs(w, layer, lw, n, keep ? copy : from, &s, err);
    }
    w->discard = false;
    for (size_t i = 0; i < w->n_lanes; i++) graph_watch(w->lane[i].g, NULL, NULL);
    forward_until(w, EDGE_HEAD_IN);
    free(copy);
    for (int e = 0; e < EDGE_COUNT; e++) free(s.x[e]);
    return rc == SNUG_OK ? moments_gather(m, err) : rc;
}

typedef struct norm_job { const config *c; const float *x, *gain, *bias; float *out; size_t d; } norm_job;

static void norm_rows(void *user, size_t begin, size_t end, int worker) {
    const norm_job *j = user;
    for (size_t i = begin; i < end; i++) norm_row(j->c, j->x + i * j->d, j->gain, j->bias, j->out + i * j->d);
}

snug_err moments_head(const fit_job *f, const float *x, size_t n, moments *m, snug_error *err) {
    const size_t d = f->src->cfg.n_embd, step = max_u64(1, SLAB_FLOATS / d);
    bool has_bias = false;
    float *gain = malloc(2 * d * sizeof *gain), *normed = malloc((n < step ? n : step) * d * sizeof *normed);
    snug_err rc = gain && normed ? head_gain(f, gain, gain + d, &has_bias, err) : err_nomem(err, step * d * sizeof *normed);
    if (rc == SNUG_OK) rc = moments_open(&f->src->cfg, -1, EXPERT_NONE, m, err);
    for (size_t t = 0; t < n && rc == SNUG_OK; t += step) {
        size_t k = n - t < step ? n - t : step;
        for (size_t i = 0; i < k; i += NORM_STEP) {
            norm_job j = {&f->src->cfg, x + (t + i) * d, gain, has_bias ? gain + d : NULL, normed + i * d, d};
            thread_for(f->threads, k - i < NORM_STEP ? k - i : NORM_STEP, 32, norm_rows, &j);
            states_drop(f, j.x, NORM_STEP * d);
            states_want(f, j.x + NORM_STEP * d, NORM_STEP * d);
        }
        rc = moments_add(f, m, EDGE_HEAD_IN, normed, k, err);
    }
    free(gain);
    free(normed);
    return rc == SNUG_OK ? moments_gather(m, err) : rc;
}
