/* One decoder layer, for a batch of items of any sequences:
 *
 *     x ─┬─ norm ─ q k v (+bias) ─ q/k norm ─ RoPE ─ append k v ─ attention ─ o ─┐
 *        └──────────────────────────────── + ────────────────────────────────────┘
 *     x ─┬─ norm ─ gate, up ─ silu(gate) * up ─ down ─┐
 *        └───────────────── + ────────────────────────┘
 *
 * (BitNet: norms before o and down, and relu(gate)^2; one that has no gain is left out)
 * or, instead of the one feed-forward, the experts that the router picks (graph_moe.c).
 * Keys and values of all items are appended first; attention (graph_attention.c) then reads the cache. */
#include "base/thread.h"
#include "kern/kern.h"
#include "model/graph_impl.h"

#include <math.h>

typedef struct layer_pass {
    graph *g;
    uint32_t kv_layer, window;
    const layer_weights *lw;
    const graph_item *items;
    size_t n;
    float *x;
} layer_pass;

/* cos and sin of the items' positions; the items are the same for all layers of a pass, so this is done once. */
static void rope_tables(graph *g, const graph_item *items, size_t n) {
    bool same = g->cs_n == n;
    for (size_t i = 0; same && i < n; i++) same = g->cs_pos[i] == items[i].pos;
    if (same) return;
    size_t half = g->cfg.rope_dims / 2;
    for (size_t i = 0; i < n; i++) {
        float *cs = g->cs + i * 2 * half;
        for (size_t d = 0; d < half; d++) {
            double angle = items[i].pos * g->inv_freq[d];
            cs[d] = (float)cos(angle);
            cs[half + d] = (float)sin(angle);
        }
        g->cs_pos[i] = items[i].pos;
    }
    g->cs_n = n;
}

/* Bias, norm (of each head, or of all as one) and rotation of `heads` heads of one item. */
static void finish_heads(const graph *g, float *x, uint32_t heads, const float *bias, const float *gain,
                         const float *cs) {
    size_t hd = g->cfg.head_dim;
    const bool whole = g->cfg.arch->qk_norm_whole;
    if (bias) kern()->add(x, bias, heads * hd);
    if (gain && whole) kern()->rmsnorm(x, gain, g->cfg.norm_eps, heads * hd, x);
    for (uint32_t h = 0; h < heads; h++) {
        if (gain && !whole) kern()->rmsnorm(x + h * hd, gain, g->cfg.norm_eps, hd, x + h * hd);
        kern()->rope(x + h * hd, hd / 2, cs, g->cfg.rope_interleaved);
    }
}

static void finish_qkv(void *ctx, size_t begin, size_t end, int worker) {
    const layer_pass *p = ctx;
    graph *g = p->g;
    size_t kv = (size_t)g->cfg.n_kv_heads * g->cfg.head_dim;
    for (size_t i = begin; i < end; i++) {
        const float *cs = g->cs + i * g->cfg.rope_dims, *v_bias = p->lw->vec[ROLE_V_BIAS];
        finish_heads(g, g->attn + i * g->attn_ld, g->cfg.n_heads, p->lw->vec[ROLE_Q_BIAS], p->lw->vec[ROLE_Q_NORM], cs);
        finish_heads(g, g->k + i * kv, g->cfg.n_kv_heads, p->lw->vec[ROLE_K_BIAS], p->lw->vec[ROLE_K_NORM], cs);
        if (v_bias) kern()->add(g->v + i * kv, v_bias, kv);
    }
}

/* Stores the items' keys and values, runs of consecutive positions at once. */
static void append_all(const layer_pass *p) {
    graph *g = p->g;
    size_t kv = (size_t)g->cfg.n_kv_heads * g->cfg.head_dim;
    for (size_t i = 0, run; i < p->n; i += run) {
        const graph_item *first = &p->items[i];
        for (run = 1; i + run < p->n && first[run].kv == first->kv && first[run].pos == first->pos + run; run++) {}
        kv_append(first->kv, p->kv_layer, first->pos, (uint32_t)run, g->k + i * kv, g->v + i * kv, kv);
    }
}

typedef struct add_pass { const layer_pass *p; const float *bias; } add_pass;

static void add_delta(void *ctx, size_t begin, size_t end, int worker) {
    const add_pass *a = ctx;
    size_t cols = a->p->g->cfg.n_embd;
    for (size_t i = begin; i < end; i++) {
        float *delta = a->p->g->delta + i * cols;
        if (a->bias) kern()->add(delta, a->bias, cols);
        kern()->add(a->p->x + i * cols, delta, cols);
    }
}

/* gate = relu(gate)^2 * up; a NaN stays one. */
static void relu2_mul(float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const float x = gate[i] < 0 ? 0 : gate[i];
        gate[i] = x * x * up[i];
    }
}

static void gate_rows(void *ctx, size_t begin, size_t end, int worker) {
    const graph *g = ctx;
    for (size_t i = begin; i < end; i++)
        (g->cfg.relu2 ? relu2_mul : kern()->silu_mul)(g->gate + i * g->ff_ld, g->up + i * g->cfg.n_ff, g->cfg.n_ff);
}

typedef struct sub_norm { float *x; size_t cols, ld; const float *gain; float eps; } sub_norm;

static void norm_rows(void *ctx, size_t begin, size_t end, int worker) {
    const sub_norm *s = ctx;
    for (size_t i = begin; i < end; i++) kern()->rmsnorm(s->x + i * s->ld, s->gain, s->eps, s->cols, s->x + i * s->ld);
}

/* x (n, ld) in place, if there is a gain. */
static void norm_in_place(const graph *g, float *x, size_t n, size_t cols, size_t ld, const float *gain) {
    sub_norm s = {x, cols, ld, gain, g->cfg.norm_eps};
    if (gain) thread_for(graph_threads(g, 2.0 * (double)(n * cols)), n, 8, norm_rows, &s);
}

void graph_gate(graph *g, size_t n) { thread_for(graph_threads(g, 8.0 * (double)(n * g->cfg.n_ff)), n, 8, gate_rows, g); }

static snug_err attention_half(layer_pass *p, int layer, snug_error *err) {
    graph *g = p->g;
    const config *c = &g->cfg;
    size_t n = p->n, kv = (size_t)c->n_kv_heads * c->head_dim, q = (size_t)c->n_heads * c->head_dim;
    graph_norm(g, p->x, n, p->lw->vec[ROLE_ATTN_NORM]);
    graph_tell(g, layer, EDGE_ATTN_IN, g->norm, n, c->n_embd, g->embd_ld);
    if (g->until == EDGE_ATTN_IN) return SNUG_OK;
    graph_job qkv[] = {
        {&p->lw->w[ROLE_Q], g->attn, g->attn_ld}, {&p->lw->w[ROLE_K], g->k, kv}, {&p->lw->w[ROLE_V], g->v, kv}};
    snug_err rc = graph_matmul(g, g->norm, n, c->n_embd, g->embd_ld, qkv, 3, err);
    if (rc) return rc;
    rope_tables(g, p->items, n);
    thread_for(graph_threads(g, 4.0 * (double)(n * q)), n, 8, finish_qkv, p);
    append_all(p);
    graph_attend(g, p->kv_layer, p->window, p->items, n);
    norm_in_place(g, g->attn, n, q, g->attn_ld, p->lw->vec[ROLE_ATTN_SUB_NORM]);
    graph_tell(g, layer, EDGE_ATTN_OUT, g->attn, n, q, g->attn_ld);
    if (g->until == EDGE_ATTN_OUT) return SNUG_OK;
    graph_job o = {&p->lw->w[ROLE_O], g->delta, c->n_embd};
    if ((rc = graph_matmul(g, g->attn, n, q, g->attn_ld, &o, 1, err))) return rc;
    add_pass add = {p, p->lw->vec[ROLE_O_BIAS]};
    thread_for(graph_threads(g, (double)(n * c->n_embd)), n, 8, add_delta, &add);
    return SNUG_OK;
}

/* g->delta = what the one feed-forward makes of g->norm. */
static snug_err feed_forward(layer_pass *p, int layer, snug_error *err) {
    graph *g = p->g;
    const config *c = &g->cfg;
    size_t n = p->n;
    graph_job jobs[] = {{&p->lw->w[ROLE_GATE], g->gate, g->ff_ld}, {&p->lw->w[ROLE_UP], g->up, c->n_ff}};
    snug_err rc = graph_matmul(g, g->norm, n, c->n_embd, g->embd_ld, jobs, 2, err);
    if (rc) return rc;
    graph_gate(g, n);
    norm_in_place(g, g->gate, n, c->n_ff, g->ff_ld, p->lw->vec[ROLE_FFN_SUB_NORM]);
    graph_tell(g, layer, EDGE_FFN_MID, g->gate, n, c->n_ff, g->ff_ld);
    if (g->until == EDGE_FFN_MID) return SNUG_OK;
    graph_job down = {&p->lw->w[ROLE_DOWN], g->delta, c->n_embd};
    return graph_matmul(g, g->gate, n, c->n_ff, g->ff_ld, &down, 1, err);
}

static snug_err ffn_half(layer_pass *p, int layer, snug_error *err) {
    graph *g = p->g;
    const config *c = &g->cfg;
    size_t n = p->n;
    graph_norm(g, p->x, n, p->lw->vec[ROLE_FFN_NORM]);
    graph_tell(g, layer, EDGE_FFN_IN, g->norm, n, c->n_embd, g->embd_ld);
    if (g->until == EDGE_FFN_IN) return SNUG_OK;
    snug_err rc = c->n_experts ? graph_experts(g, p->lw, n, err) : feed_forward(p, layer, err);
    if (rc || g->until == EDGE_FFN_MID) return rc;
    add_pass add = {p, NULL};
    thread_for(graph_threads(g, (double)(n * c->n_embd)), n, 8, add_delta, &add);
    return SNUG_OK;
}

snug_err graph_layer(graph *g, int layer, uint32_t kv_layer, const layer_weights *lw, const graph_item *items, size_t n,
                     float *x, snug_error *err) {
    if (n == 0) return SNUG_OK;
    layer_pass p = {.g = g,
                    .kv_layer = kv_layer,
                    .window = layer_window(&g->cfg, (uint32_t)layer),
                    .lw = lw,
                    .items = items,
                    .n = n,
                    .x = x};
    snug_err rc = g->from < EDGE_FFN_IN ? attention_half(&p, layer, err) : SNUG_OK;
    return rc || g->until <= EDGE_ATTN_OUT ? rc : ffn_half(&p, layer, err);
}
