/* Latent attention: keys and values of all heads are made from one vector of a token, c, much narrower than they are together; queries may be, too.
 *
 *     norm ─ q_a ─ norm ─ q_b ─── head h:  q_h │ rope ─ turned            (without q_a: norm ─ q ─ the same)
 *     norm ─ kv_a ─┬─ norm ─ c                                           kv_b: of each head its K_h, then its V_h, both (.., kv_rank)
 *                  └─ rope ─ turned, of all heads
 *
 * A head's key is K_h c with the turned part behind, its value V_h c. They are never made: q_h . (K_h c) = (K_h^T q_h) . c, and V_h takes the sum of
 * weighted values as well as each of them. So the cache has one head of a key, c with the turned part, whose first numbers are the value, and all heads
 * read it: a position costs kv_rank + rope_dims numbers of a layer, whatever the number of heads.
 *
 * K_h and V_h are decoded, some rows at a time, for all items of a pass; sums go in the order of rows and columns, so they depend on nothing else. RoPE
 * turns neighbouring pairs. Source: DeepSeek-V2 (2405.04434), 2.1; transformers' modeling_deepseek_v2.py. */
#include "base/thread.h"
#include "kern/kern.h"
#include "model/graph_impl.h"

#include <string.h>

enum { DECODED_ROWS = 32 /* at a time */ };

typedef struct latent_pass { graph *g; const layer_weights *lw; size_t n; } latent_pass;

size_t graph_latent_scratch(const config *c) { return (size_t)DECODED_ROWS * c->kv_rank; }

/* What kv_a gave, in g->k: its first columns normed, to latent.kv and the cache; its last ones turned; so are those of queries. */
static void finish_rows(void *ctx, size_t begin, size_t end, int worker) {
    const latent_pass *p = ctx;
    const graph *g = p->g;
    const config *c = &g->cfg;
    const size_t hd = c->head_dim, rope = c->rope_dims, key = c->kv_rank + rope;
    for (size_t i = begin; i < end; i++) {
        float *k = g->k + i * key, *v = g->v + i * c->kv_rank;
        const float *cs = g->cs + i * rope;
        kern()->rmsnorm(k, p->lw->vec[ROLE_KV_A_NORM], c->latent_eps, c->kv_rank, v);
        memcpy(k, v, c->kv_rank * sizeof *k);
        memcpy(g->latent.kv + i * g->latent.kv_ld, v, c->kv_rank * sizeof *k);
        kern()->rope(k + c->kv_rank, rope / 2, cs, c->rope_interleaved);
        for (size_t h = 0; h < c->n_heads; h++) kern()->rope(g->latent.heads + (i * c->n_heads + h + 1) * hd - rope, rope / 2, cs, c->rope_interleaved);
    }
}

static float *worker_scratch(const graph *g, int worker) { return g->attend_scratch + (size_t)worker * g->attend_stride; }
static size_t rows_of_head(const config *c) { return c->head_dim - c->rope_dims + config_value_dim(c); }

/* g->q of some heads: K_h^T q_h, and the turned part. */
static void absorb_heads(void *ctx, size_t begin, size_t end, int worker) {
    const latent_pass *p = ctx;
    const graph *g = p->g;
    const config *c = &g->cfg;
    const size_t hd = c->head_dim, rope = c->rope_dims, nope = hd - rope, rank = c->kv_rank, key = rank + rope;
    float *rows = worker_scratch(g, worker);
    for (size_t h = begin; h < end; h++) {
        for (size_t i = 0; i < p->n; i++) {
            float *q = g->q + i * g->q_ld + h * key;
            memset(q, 0, rank * sizeof *q);
            memcpy(q + rank, g->latent.heads + (i * c->n_heads + h) * hd + nope, rope * sizeof *q);
        }
        for (size_t j = 0; j < nope; j += DECODED_ROWS) {
            const size_t n = nope - j < DECODED_ROWS ? nope - j : DECODED_ROWS;
            weight_decode(&p->lw->w[ROLE_KV_B], h * rows_of_head(c) + j, n, rows, rank);
            for (size_t i = 0; i < p->n; i++) kern()->accumulate_f32(rows, n, rank, g->latent.heads + (i * c->n_heads + h) * hd + j, n, 1, g->q + i * g->q_ld + h * key, NULL);
        }
    }
}

/* g->attn of some heads: V_h of what attention gave, which stands in g->q group by group. */
static void expand_heads(void *ctx, size_t begin, size_t end, int worker) {
    const latent_pass *p = ctx;
    const graph *g = p->g;
    const config *c = &g->cfg;
    const size_t nope = c->head_dim - c->rope_dims, value = config_value_dim(c), rank = c->kv_rank, group = c->n_heads / graph_groups(g);
    float *rows = worker_scratch(g, worker);
    for (size_t h = begin; h < end; h++) {
        const float *from = g->q + h / group * group * (rank + c->rope_dims) + h % group * rank;
        for (size_t i = 0; i < p->n; i++) memset(g->attn + i * g->attn_ld + h * value, 0, value * sizeof *g->attn);
        for (size_t j = 0; j < value; j += DECODED_ROWS) {
            const size_t n = value - j < DECODED_ROWS ? value - j : DECODED_ROWS;
            weight_decode(&p->lw->w[ROLE_KV_B], h * rows_of_head(c) + nope + j, n, rows, rank);
            kern()->dot_f32(n, p->n, rank, rows, rank, from, g->q_ld, g->attn + h * value + j, g->attn_ld);
        }
    }
}

/* Queries of heads, not yet turned; those of a model without a latent for them are there already. */
static snug_err make_queries(graph *g, int layer, const layer_weights *lw, size_t n, snug_error *err) {
    const config *c = &g->cfg;
    if (!c->q_rank) return SNUG_OK;
    graph_norm_rows(g, g->latent.q, n, c->q_rank, g->latent.q_ld, lw->vec[ROLE_Q_A_NORM], c->latent_eps);
    graph_tell(g, layer, EDGE_Q_LATENT, g->latent.q, n, c->q_rank, g->latent.q_ld);
    if (g->until == EDGE_Q_LATENT) return SNUG_OK;
    graph_job job = {&lw->w[ROLE_Q_B], g->latent.heads, (size_t)c->n_heads * c->head_dim};
    return graph_matmul(g, g->latent.q, n, c->q_rank, g->latent.q_ld, &job, 1, err);
}

snug_err graph_latent(graph *g, int layer, const layer_weights *lw, size_t n, snug_error *err) {
    const config *c = &g->cfg;
    const size_t q = (size_t)c->n_heads * c->head_dim;
    latent_pass p = {g, lw, n};
    graph_job jobs[] = {{&lw->w[c->q_rank ? ROLE_Q_A : ROLE_Q], c->q_rank ? g->latent.q : g->latent.heads, c->q_rank ? g->latent.q_ld : q}, {&lw->w[ROLE_KV_A], g->k, g->kv.head_dim}};
    snug_err rc = graph_matmul(g, g->norm, n, c->n_embd, g->embd_ld, jobs, 2, err);
    if (!rc) rc = make_queries(g, layer, lw, n, err);
    if (rc || g->until == EDGE_Q_LATENT) return rc;
    thread_for(graph_threads(g, 4.0 * (double)(n * q)), n, 8, finish_rows, &p);
    graph_tell(g, layer, EDGE_KV_LATENT, g->latent.kv, n, c->kv_rank, g->latent.kv_ld);
    if (g->until != EDGE_KV_LATENT) thread_for(graph_threads(g, (double)(n + 1) * (double)q * c->kv_rank), c->n_heads, 1, absorb_heads, &p);
    return SNUG_OK;
}

void graph_latent_values(graph *g, const layer_weights *lw, size_t n) {
    latent_pass p = {g, lw, n};
    thread_for(graph_threads(g, (double)(n + 1) * (double)g->cfg.n_heads * config_value_dim(&g->cfg) * g->cfg.kv_rank), g->cfg.n_heads, 1, expand_heads, &p);
}
