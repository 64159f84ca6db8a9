/* Latent attention: keys and values of all heads are made from one vector of a token, much narrower than they are together; queries may be, too.
 *
 *     norm ─ q_a ─ norm ─ q_b ─┬─ head h:  nope │ rope ─ turned ─────────── q_h          (without q_a: norm ─ q ─ the same)
 *     norm ─ kv_a ─┬─ latent ─ norm ─ kv_b ─┬─ head h:  nope ────┬───────── k_h
 *                  │                        │                    │ rope
 *                  └─ rope ─ turned ────────┼────────────────────┘ of all heads
 *                                           └─ head h:  value ───────────── v_h
 *
 * Each head's key and value are made when a token comes and stand in the cache as those of other models do. RoPE turns the last dimensions of a
 * head, in neighbouring pairs. Source: DeepSeek-V2 (2405.04434); transformers' modeling_deepseek_v2.py. */
#include "base/thread.h"
#include "kern/kern.h"
#include "model/graph_impl.h"

#include <string.h>

typedef struct latent_pass { graph *g; const float *gain; } latent_pass;

/* latent.raw's first columns, normed, to latent.kv; its last ones turned. */
static void split_rows(void *ctx, size_t begin, size_t end, int worker) {
    const latent_pass *p = ctx;
    const graph *g = p->g;
    const config *c = &g->cfg;
    for (size_t i = begin; i < end; i++) {
        float *raw = g->latent.raw + i * (c->kv_rank + c->rope_dims);
        kern()->rmsnorm(raw, p->gain, c->latent_eps, c->kv_rank, g->latent.kv + i * g->latent.kv_ld);
        kern()->rope(raw + c->kv_rank, c->rope_dims / 2, g->cs + i * c->rope_dims, c->rope_interleaved);
    }
}

/* latent.heads to g->k and g->v; queries are turned. */
static void finish_rows(void *ctx, size_t begin, size_t end, int worker) {
    const latent_pass *p = ctx;
    const graph *g = p->g;
    const config *c = &g->cfg;
    const size_t hd = c->head_dim, rope = c->rope_dims, nope = hd - rope, value = config_value_dim(c), heads = c->n_heads;
    for (size_t i = begin; i < end; i++) {
        const float *turned = g->latent.raw + i * (c->kv_rank + rope) + c->kv_rank;
        for (size_t h = 0; h < heads; h++) {
            const float *from = g->latent.heads + (i * heads + h) * (nope + value);
            float *k = g->k + (i * heads + h) * hd;
            kern()->rope(g->q + i * g->q_ld + h * hd + nope, rope / 2, g->cs + i * rope, c->rope_interleaved);
            memcpy(k, from, nope * sizeof *k);
            memcpy(k + nope, turned, rope * sizeof *k);
            memcpy(g->v + (i * heads + h) * value, from + nope, value * sizeof *k);
        }
    }
}

/* Queries, not yet turned; those of a model without a latent for them are there already. */
static snug_err make_queries(graph *g, int layer, const layer_weights *lw, size_t n, snug_error *err) {
    const config *c = &g->cfg;
    if (!c->q_rank) return SNUG_OK;
    graph_norm_rows(g, g->latent.q, n, c->q_rank, g->latent.q_ld, lw->vec[ROLE_Q_A_NORM], c->latent_eps);
    graph_tell(g, layer, EDGE_Q_LATENT, g->latent.q, n, c->q_rank, g->latent.q_ld);
    if (g->until == EDGE_Q_LATENT) return SNUG_OK;
    graph_job job = {&lw->w[ROLE_Q_B], g->q, g->q_ld};
    return graph_matmul(g, g->latent.q, n, c->q_rank, g->latent.q_ld, &job, 1, err);
}

snug_err graph_latent(graph *g, int layer, const layer_weights *lw, size_t n, snug_error *err) {
    const config *c = &g->cfg;
    const size_t raw = (size_t)c->kv_rank + c->rope_dims, heads = (size_t)c->n_heads * (c->head_dim - c->rope_dims + config_value_dim(c));
    latent_pass p = {g, lw->vec[ROLE_KV_A_NORM]};
    graph_job first[] = {{&lw->w[c->q_rank ? ROLE_Q_A : ROLE_Q], c->q_rank ? g->latent.q : g->q, c->q_rank ? g->latent.q_ld : g->q_ld}, {&lw->w[ROLE_KV_A], g->latent.raw, raw}};
    snug_err rc = graph_matmul(g, g->norm, n, c->n_embd, g->embd_ld, first, 2, err);
    if (!rc) rc = make_queries(g, layer, lw, n, err);
    if (rc || g->until == EDGE_Q_LATENT) return rc;
    thread_for(graph_threads(g, 4.0 * (double)(n * raw)), n, 8, split_rows, &p);
    graph_tell(g, layer, EDGE_KV_LATENT, g->latent.kv, n, c->kv_rank, g->latent.kv_ld);
    if (g->until == EDGE_KV_LATENT) return SNUG_OK;
    graph_job second = {&lw->w[ROLE_KV_B], g->latent.heads, heads};
    rc = graph_matmul(g, g->latent.kv, n, c->kv_rank, g->latent.kv_ld, &second, 1, err);
    if (!rc) thread_for(graph_threads(g, 4.0 * (double)(n * heads)), n, 8, finish_rows, &p);
    return rc;
}
