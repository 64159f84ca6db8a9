/* Experts one at a time: of a layer's inputs behind the norm, which all experts share and which may lie in a file (states.c), each expert's
 * tokens are gathered, a slab at a time, taken through its gate and up where its down is asked about, and summed. So memory holds one expert's
 * moments, however many there are.
 *
 * A token counts with the square of the share that the expert's output has in it, because that is what an error of the expert is multiplied by
 * on its way out. An expert that calibration all but never reaches has no moments worth the name; tokens that the router sent to others, spread
 * over the whole text, say at least what inputs of this layer look like. */
#include "fit/forward.h"

#include "base/checked.h"
#include "base/cluster.h"
#include "base/err.h"
#include "base/thread.h"

#include <stdlib.h>
#include <string.h>

enum { ROUTE_STEP = 4096 };
static const size_t SLAB_FLOATS = 6u << 20; /* 24 MB of inputs and what they become */

/* ---- who comes where ---- */

snug_err experts_open(forward *w, int layer, const layer_weights *lw, const float *x, experts *out, snug_error *err) {
    const config *c = &w->f->src->cfg;
    const size_t n = (size_t)w->n_seq * w->f->text.len, d = c->n_embd;
    *out = (experts){.w = w, .layer = layer, .x = x, .n_tokens = n};
    out->first = calloc(c->n_experts + 1, sizeof *out->first);
    out->queue = malloc(n * c->n_experts_used * sizeof *out->queue);
    graph_pick *picks = malloc(n * c->n_experts_used * sizeof *picks);
    snug_err rc = out->first && out->queue && picks ? SNUG_OK : err_nomem(err, 2 * n * c->n_experts_used * sizeof *picks);
    for (size_t t = 0; t < n && rc == SNUG_OK; t += ROUTE_STEP) {
        const size_t k = min_u64(ROUTE_STEP, n - t);
        graph_route(c, lw, x + t * d, k, d, w->f->threads, picks + t * c->n_experts_used);
        states_drop(w->f, x + t * d, k * d);
    }
    if (rc == SNUG_OK) graph_queue(c, picks, n, out->first, out->queue);
    free(picks);
    return rc;
}

void experts_close(experts *s) {
    free(s->first);
    free(s->queue);
    s->first = NULL;
    s->queue = NULL;
}

size_t experts_tokens(const experts *s, int expert) { return s->first[expert + 1] - s->first[expert]; }

/* ---- a slab of one expert's tokens ---- */

typedef struct slab {
    experts *s;
    const graph_pick *queue; /* of the expert; NULL: a spread of all tokens */
    size_t n_rows;           /* in all */
    size_t at, n;            /* the slab's */
    size_t unit, first_unit; /* rows that go through the graph together */
    const expert_weights *ew;
    float *in, *mid;         /* (n, n_embd), (n, n_ff) */
    snug_err *rc;            /* per unit */
} slab;

static graph_pick row_of(const slab *b, size_t i) {
    if (b->queue) return b->queue[b->at + i];
    return (graph_pick){(uint32_t)((double)(b->at + i) * (double)b->s->n_tokens / (double)b->n_rows), 1};
}

static void gather_rows(void *user, size_t begin, size_t end, int worker) {
    const slab *b = user;
    const size_t d = b->s->w->f->src->cfg.n_embd;
    for (size_t i = begin; i < end; i++) memcpy(b->in + i * d, b->s->x + row_of(b, i).expert * d, d * sizeof *b->in);
}

static void weigh_rows(void *user, size_t begin, size_t end, int worker) {
    const slab *b = user;
    const size_t d = b->s->w->f->src->cfg.n_embd, ff = b->s->w->f->src->cfg.n_ff;
    for (size_t i = begin; i < end; i++) {
        const float share = row_of(b, i).share;
        for (size_t j = 0; j < d; j++) b->in[i * d + j] *= share;
        for (size_t j = 0; b->mid && j < ff; j++) b->mid[i * ff + j] *= share;
    }
}

static void run_units(void *user, size_t begin, size_t end, int worker) {
    slab *b = user;
    const config *c = &b->s->w->f->src->cfg;
    for (size_t u = b->first_unit + begin; u < b->first_unit + end; u++) {
        const size_t row = u * b->unit, n = min_u64(b->unit, b->n - row);
        b->rc[u] = graph_expert_mid(b->s->w->lane[worker].g, b->ew, b->in + row * c->n_embd, n, b->mid + row * c->n_ff, NULL);
    }
}

/* b->mid, by all processes together. */
static snug_err run_slab(slab *b, snug_error *err) {
    const forward *w = b->s->w;
    const size_t n_units = div_up(b->n, b->unit), row = w->f->src->cfg.n_ff * sizeof *b->mid;
    size_t begin, end;
    cluster_share(n_units, &begin, &end);
    b->first_unit = begin;
    if (w->by_pass) thread_for(w->f->threads, end - begin, 1, run_units, b);
    else run_units(b, 0, end - begin, 0);
    for (size_t u = begin; u < end; u++)
        if (b->rc[u] != SNUG_OK) return err_set(err, b->rc[u], "running an expert: %s", snug_err_name(b->rc[u]));
    return cluster_gather(b->mid, n_units, b->unit * row, b->n * row, err);
}

static snug_err add_slab(slab *b, moments *m, snug_error *err) {
    const fit_job *f = b->s->w->f;
    snug_err rc = SNUG_OK;
    thread_for(f->threads, b->n, 32, gather_rows, b);
    if (b->mid) rc = run_slab(b, err);
    if (rc == SNUG_OK) thread_for(f->threads, b->n, 32, weigh_rows, b);
    if (rc == SNUG_OK && m->want[EDGE_FFN_IN]) rc = moments_add(f, m, EDGE_FFN_IN, b->in, b->n, err);
    if (rc == SNUG_OK && m->want[EDGE_FFN_MID]) rc = moments_add(f, m, EDGE_FFN_MID, b->mid, b->n, err);
    return rc;
}

snug_err experts_moments(experts *s, int expert, const expert_weights *ew, moments *m, snug_error *err) {
    const config *c = &s->w->f->src->cfg;
    const size_t came = experts_tokens(s, expert), mean = div_up(s->n_tokens * c->n_experts_used, c->n_experts);
    const bool known = came >= EXPERT_MIN_TOKENS;
    slab b = {.s = s, .queue = known ? s->queue + s->first[expert] : NULL, .ew = ew, .unit = (size_t)s->w->n_pass * s->w->len};
    b.n_rows = known ? came : min_u64(s->n_tokens, max_u64(mean, EXPERT_MIN_TOKENS));
    const size_t floats = c->n_embd + (m->want[EDGE_FFN_MID] ? c->n_ff : 0), step = max_u64(1, SLAB_FLOATS / floats / b.unit) * b.unit;
    const size_t most = min_u64(step, b.n_rows);
    b.in = malloc(most * c->n_embd * sizeof *b.in);
    b.mid = m->want[EDGE_FFN_MID] ? malloc(most * c->n_ff * sizeof *b.mid) : NULL;
    b.rc = calloc(div_up(most, b.unit), sizeof *b.rc);
    snug_err rc = b.in && b.rc && (b.mid || !m->want[EDGE_FFN_MID]) ? moments_open(c, s->layer, expert, m, err) : err_nomem(err, most * floats * sizeof *b.in);
    for (; b.at < b.n_rows && rc == SNUG_OK; b.at += step) {
        b.n = min_u64(step, b.n_rows - b.at);
        rc = add_slab(&b, m, err);
    }
    states_drop(s->w->f, s->x, s->n_tokens * c->n_embd);
    free(b.in);
    free(b.mid);
    free(b.rc);
    return rc == SNUG_OK ? moments_gather(m, err) : rc;
}
