/* One decoder layer, for a batch of items of any sequences:
 *
 *     x ─┬─ norm ─ q k v ─ q/k norm ─ RoPE ─ append k v ─ attention ─ norm ─ o ─ norm ─┐
 *        └───────────────────────────────── + ─────────────────────────────────────────┘
 *     x ─┬─ norm ─ gate, up ─ act(gate) * up ─ norm ─ down ─ norm ─┐
 *        └───────────────────────── + ─────────────────────────────┘
 *
 * where a state space may stand in attention's place (graph_ssm.c), a norm or a bias that the model does not have is left out, and act(up) stands where there is
 * no gate; of parallel ones both norms read the first x;
 * or, instead of the one feed-forward or beside it, the experts that the router picks (graph_moe.c).
 * Keys and values of all items are appended first; attention (graph_attention.c) then reads the cache. */
#include "base/thread.h"
#include "kern/kern.h"
#include "model/arch.h"
#include "model/graph_impl.h"

#include <math.h>
#include <string.h>

typedef struct layer_pass {
    graph *g;
    uint32_t kv_layer, window;
    uint8_t kind; /* layer_kind */
    const layer_weights *lw;
    const graph_item *items;
    size_t n;
    float *x;
} layer_pass;

static void fill_cs(const graph_item *items, size_t n, size_t half, const double *inv_freq, double magnitude, float *cs) {
    for (size_t i = 0; i < n; i++, cs += 2 * half)
        for (size_t d = 0; d < half; d++) {
            const double angle = items[i].pos * inv_freq[d];
            cs[d] = (float)(magnitude * cos(angle));
            cs[half + d] = (float)(magnitude * sin(angle));
        }
}

/* cos and sin of the items' positions; the items are the same for all layers of a pass, so this is done once. */
static void rope_tables(graph *g, const graph_item *items, size_t n) {
    bool same = g->cs_n == n;
    for (size_t i = 0; same && i < n; i++) same = g->cs_pos[i] == items[i].pos;
    if (same) return;
    const size_t half = g->cfg.rope_dims / 2;
    fill_cs(items, n, half, g->inv_freq, g->cfg.rope_magnitude, g->cs);
    if (g->cs_local) fill_cs(items, n, half, g->inv_freq_local, 1, g->cs_local);
    for (size_t i = 0; i < n; i++) g->cs_pos[i] = items[i].pos;
    g->cs_n = n;
}

/* Bias, norm (of each head, or of all as one) and rotation of `heads` heads of one item; cs NULL: none. */
static void finish_heads(const graph *g, float *x, uint32_t heads, const float *bias, const float *gain,
                         const float *cs) {
    size_t hd = g->cfg.head_dim;
    const bool whole = g->cfg.arch->qk_norm_whole;
    if (bias) kern()->add(x, bias, heads * hd);
    if (gain && whole) kern()->rmsnorm(x, gain, g->cfg.norm_eps, heads * hd, x);
    for (uint32_t h = 0; h < heads; h++) {
        if (gain && !whole) kern()->rmsnorm(x + h * hd, gain, g->cfg.norm_eps, hd, x + h * hd);
        if (cs) kern()->rope(x + h * hd, g->cfg.rope_dims / 2, cs, g->cfg.rope_interleaved);
    }
}

/* Scores that grow where a text is longer than the trained context, so that a softmax over more positions stays as sharp. */
static void grow(const config *c, uint32_t pos, float *q) {
    const float by = (float)(1 + c->attn_growth * log(1 + floor((double)pos / c->scale_orig_ctx)));
    for (size_t i = 0; by != 1 && i < (size_t)c->n_heads * c->head_dim; i++) q[i] *= by;
}

static void finish_qkv(void *ctx, size_t begin, size_t end, int worker) {
    const layer_pass *p = ctx;
    graph *g = p->g;
    size_t kv = (size_t)g->cfg.n_kv_heads * g->cfg.head_dim;
    const float *tables = p->kind & LAYER_NO_ROPE ? NULL : p->kind & LAYER_LOCAL_ROPE ? g->cs_local : g->cs;
    for (size_t i = begin; i < end; i++) {
        const float *cs = tables ? tables + i * g->cfg.rope_dims : NULL, *v_bias = p->lw->vec[ROLE_V_BIAS];
        finish_heads(g, g->q + i * g->q_ld, g->cfg.n_heads, p->lw->vec[ROLE_Q_BIAS], p->lw->vec[ROLE_Q_NORM], cs);
        if (g->cfg.attn_growth != 0) grow(&g->cfg, p->items[i].pos, g->q + i * g->q_ld);
        finish_heads(g, g->k + i * kv, g->cfg.n_kv_heads, p->lw->vec[ROLE_K_BIAS], p->lw->vec[ROLE_K_NORM], cs);
        if (v_bias) kern()->add(g->v + i * kv, v_bias, kv);
    }
}

/* Stores the items' keys and values, runs of consecutive positions at once. */
static void append_all(const layer_pass *p) {
    graph *g = p->g;
    const size_t k = (size_t)g->kv.n_kv_heads * g->kv.head_dim, v = (size_t)g->kv.n_kv_heads * g->kv.value_dim;
    for (size_t i = 0, run; i < p->n; i += run) {
        const graph_item *first = &p->items[i];
        for (run = 1; i + run < p->n && first[run].kv == first->kv && first[run].pos == first->pos + run; run++) {}
        kv_append(first->kv, p->kv_layer, first->pos, (uint32_t)run, g->k + i * k, g->v + i * v);
    }
}

/* What half a layer adds to x: g->delta, its bias and its norm where it has them. */
typedef struct add_pass { const layer_pass *p; const float *bias, *gain; } add_pass;

static void add_delta(void *ctx, size_t begin, size_t end, int worker) {
    const add_pass *a = ctx;
    const config *c = &a->p->g->cfg;
    const size_t cols = c->n_embd;
    for (size_t i = begin; i < end; i++) {
        float *delta = a->p->g->delta + i * cols;
        if (a->bias) kern()->add(delta, a->bias, cols);
        if (a->gain) kern()->rmsnorm(delta, a->gain, c->norm_eps, cols, delta);
        if (c->residual_scale != 1)
            for (size_t k = 0; k < cols; k++) delta[k] *= c->residual_scale;
        kern()->add(a->p->x + i * cols, delta, cols);
    }
}

static void add_to_x(layer_pass *p, tensor_role bias, tensor_role gain) {
    add_pass add = {p, p->lw->vec[bias], p->lw->vec[gain]};
    thread_for(graph_threads(p->g, (double)(p->n * p->g->cfg.n_embd)), p->n, 8, add_delta, &add);
}

typedef struct gate_pass { graph *g; size_t width; bool gated; const float *gate_bias, *up_bias; } gate_pass; /* without gates, up's results and bias stand as the gates' */

/* Of what gates give, or up where there are none; a NaN stays one. */
static void act_relu2(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const float v = x[i] < 0 ? 0 : x[i];
        x[i] = v * v;
    }
}

static void act_gelu(float *x, size_t n) { kern()->gelu(x, n); }

static void act_gelu_erf(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = 0.5f * x[i] * (1 + erff(x[i] * 0.7071067811865476f));
}

static void act_silu(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] /= 1 + expf(-x[i]);
}

static void multiply(float *x, const float *y, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] *= y[i];
}

/* gate sigmoid(a gate) (up + 1), both held within limits first, is silu(a gate) * ((up + 1) / a). */
static void hold(const config *c, float *gate, float *up, size_t n) {
    const float limit = c->swiglu_limit, a = c->swiglu_alpha;
    for (size_t i = 0; i < n; i++) {
        const float g = gate[i] > limit ? limit : gate[i], u = up[i] > limit ? limit : up[i] < -limit ? -limit : up[i];
        gate[i] = a * g;
        up[i] = (u + 1) / a;
    }
}

static void gate_rows(void *ctx, size_t begin, size_t end, int worker) {
    static void (*const acts[ACT_COUNT])(float *, size_t) = {[ACT_SILU] = act_silu, [ACT_RELU2] = act_relu2, [ACT_GELU] = act_gelu, [ACT_GELU_ERF] = act_gelu_erf};
    const gate_pass *p = ctx;
    const graph *g = p->g;
    const size_t n = p->width;
    for (size_t i = begin; i < end; i++) {
        float *gate = g->gate + i * g->ff_ld, *up = p->gated ? g->up + i * n : NULL;
        if (p->gate_bias) kern()->add(gate, p->gate_bias, n);
        if (up && p->up_bias) kern()->add(up, p->up_bias, n);
        if (up && g->cfg.swiglu_limit != 0) hold(&g->cfg, gate, up, n);
        if (up && g->cfg.act == ACT_SILU) kern()->silu_mul(gate, up, n);
        else {
            acts[g->cfg.act](gate, n);
            if (up) multiply(gate, up, n);
        }
        memset(gate + n, 0, (g->ff_widest - n) * sizeof *gate);
    }
}

typedef struct sub_norm { float *x; size_t cols, ld; const float *gain; float eps; } sub_norm;

static void norm_rows(void *ctx, size_t begin, size_t end, int worker) {
    const sub_norm *s = ctx;
    for (size_t i = begin; i < end; i++) kern()->rmsnorm(s->x + i * s->ld, s->gain, s->eps, s->cols, s->x + i * s->ld);
}

void graph_norm_rows(const graph *g, float *x, size_t n, size_t cols, size_t ld, const float *gain, float eps) {
    sub_norm s = {x, cols, ld, gain, eps};
    thread_for(graph_threads(g, 2.0 * (double)(n * cols)), n, 8, norm_rows, &s);
}

/* If there is a gain. */
static void norm_in_place(const graph *g, float *x, size_t n, size_t cols, size_t ld, const float *gain) {
    if (gain) graph_norm_rows(g, x, n, cols, ld, gain, g->cfg.norm_eps);
}

void graph_gate(graph *g, const float *gate_bias, const float *up_bias, size_t n, size_t width) {
    gate_pass p = {.g = g, .width = width, .gated = !g->cfg.arch->no_gate, .gate_bias = gate_bias, .up_bias = up_bias};
    thread_for(graph_threads(g, 8.0 * (double)(n * width)), n, 8, gate_rows, &p);
}

/* g->q, g->k, g->v of g->norm, as attention wants them. */
static snug_err make_qkv(layer_pass *p, int layer, snug_error *err) {
    graph *g = p->g;
    const config *c = &g->cfg;
    const size_t n = p->n, kv = (size_t)c->n_kv_heads * c->head_dim;
    rope_tables(g, p->items, n);
    if (c->kv_rank) return graph_latent(g, layer, p->lw, n, err);
    graph_job qkv[] = {{&p->lw->w[ROLE_Q], g->q, g->q_ld}, {&p->lw->w[ROLE_K], g->k, kv}, {&p->lw->w[ROLE_V], g->v, kv}};
    snug_err rc = graph_matmul(g, g->norm, n, c->n_embd, g->embd_ld, qkv, 3, err);
    if (!rc) thread_for(graph_threads(g, 4.0 * (double)(n * c->n_heads) * c->head_dim), n, 8, finish_qkv, p);
    return rc;
}

static snug_err attention_half(layer_pass *p, int layer, snug_error *err) {
    graph *g = p->g;
    const config *c = &g->cfg;
    const size_t n = p->n, out = (size_t)c->n_heads * config_value_dim(c);
    graph_norm(g, p->x, n, p->lw->vec[ROLE_ATTN_NORM], p->lw->vec[ROLE_ATTN_NORM_BIAS]);
    graph_tell(g, layer, EDGE_ATTN_IN, g->norm, n, c->n_embd, g->embd_ld);
    if (g->until == EDGE_ATTN_IN) return SNUG_OK;
    snug_err rc = make_qkv(p, layer, err);
    if (rc || g->until < EDGE_ATTN_OUT) return rc;
    append_all(p);
    graph_attend(g, p->kv_layer, p->window, p->lw->vec[ROLE_SINKS], p->items, n);
    if (c->kv_rank) graph_latent_values(g, p->lw, n);
    norm_in_place(g, g->attn, n, out, g->attn_ld, p->lw->vec[ROLE_ATTN_SUB_NORM]);
    graph_tell(g, layer, EDGE_ATTN_OUT, g->attn, n, out, g->attn_ld);
    if (g->until == EDGE_ATTN_OUT) return SNUG_OK;
    graph_job o = {&p->lw->w[ROLE_O], g->delta, c->n_embd};
    if ((rc = graph_matmul(g, g->attn, n, out, g->attn_ld, &o, 1, err))) return rc;
    if (c->parallel) graph_norm(g, p->x, n, p->lw->vec[ROLE_FFN_NORM], p->lw->vec[ROLE_FFN_NORM_BIAS]); /* of the x that attention read */
    add_to_x(p, ROLE_O_BIAS, ROLE_ATTN_POST_NORM);
    return SNUG_OK;
}

/* The same of a layer with a state space. */
static snug_err ssm_half(layer_pass *p, int layer, snug_error *err) {
    graph *g = p->g;
    const config *c = &g->cfg;
    const size_t n = p->n;
    graph_norm(g, p->x, n, p->lw->vec[ROLE_ATTN_NORM], p->lw->vec[ROLE_ATTN_NORM_BIAS]);
    graph_tell(g, layer, EDGE_ATTN_IN, g->norm, n, c->n_embd, g->embd_ld);
    if (g->until == EDGE_ATTN_IN) return SNUG_OK;
    graph_job in = {&p->lw->w[ROLE_SSM_IN], g->ssm.proj, ssm_rows(&c->ssm)};
    snug_err rc = graph_matmul(g, g->norm, n, c->n_embd, g->embd_ld, &in, 1, err);
    if (rc) return rc;
    graph_ssm(g, p->kv_layer, p->lw, p->items, n);
    graph_tell(g, layer, EDGE_ATTN_OUT, g->ssm.y, n, c->ssm.inner, g->ssm.ld);
    if (g->until == EDGE_ATTN_OUT) return SNUG_OK;
    graph_job out = {&p->lw->w[ROLE_SSM_OUT], g->delta, c->n_embd};
    if ((rc = graph_matmul(g, g->ssm.y, n, c->ssm.inner, g->ssm.ld, &out, 1, err))) return rc;
    add_to_x(p, ROLE_O_BIAS, ROLE_ATTN_POST_NORM);
    return SNUG_OK;
}

/* g->delta = what the one feed-forward makes of g->norm. */
static snug_err feed_forward(layer_pass *p, int layer, snug_error *err) {
    graph *g = p->g;
    const config *c = &g->cfg;
    const size_t n = p->n, width = layer_width(c, layer, EXPERT_NONE);
    const bool gated = !c->arch->no_gate;
    graph_job jobs[] = {{&p->lw->w[gated ? ROLE_GATE : ROLE_UP], g->gate, g->ff_ld}, {&p->lw->w[ROLE_UP], g->up, width}};
    snug_err rc = graph_matmul(g, g->norm, n, c->n_embd, g->embd_ld, jobs, gated ? 2 : 1, err);
    if (rc) return rc;
    graph_gate(g, p->lw->vec[gated ? ROLE_GATE_BIAS : ROLE_UP_BIAS], p->lw->vec[ROLE_UP_BIAS], n, width);
    norm_in_place(g, g->gate, n, width, g->ff_ld, p->lw->vec[ROLE_FFN_SUB_NORM]);
    graph_tell(g, layer, EDGE_FFN_MID, g->gate, n, width, g->ff_ld);
    if (g->until == EDGE_FFN_MID) return SNUG_OK;
    graph_job down = {&p->lw->w[ROLE_DOWN], g->delta, c->n_embd};
    return graph_matmul(g, g->gate, n, width, g->ff_ld, &down, 1, err);
}

/* g->delta *= sigmoid(w . g->norm), row by row: what the shared expert counts for. */
static void shared_rows(void *ctx, size_t begin, size_t end, int worker) {
    const layer_pass *p = ctx;
    const graph *g = p->g;
    const size_t cols = g->cfg.n_embd;
    for (size_t i = begin; i < end; i++) {
        float dot = 0, *delta = g->delta + i * cols;
        kern()->dot_f32(1, 1, cols, p->lw->vec[ROLE_SHARED_GATE], cols, g->norm + i * g->embd_ld, g->embd_ld, &dot, 1);
        const float share = 1 / (1 + expf(-dot));
        for (size_t j = 0; j < cols; j++) delta[j] *= share;
    }
}

/* The same of experts: the shared one first, for a sum that has one order. */
static snug_err mixture(layer_pass *p, int layer, snug_error *err) {
    graph *g = p->g;
    const bool shared = g->cfg.n_ff_shared > 0;
    snug_err rc = shared ? feed_forward(p, layer, err) : SNUG_OK;
    if (rc || g->until == EDGE_FFN_MID) return rc;
    if (p->lw->vec[ROLE_SHARED_GATE]) thread_for(graph_threads(g, 2.0 * (double)(p->n * g->cfg.n_embd)), p->n, 8, shared_rows, p);
    return graph_experts(g, p->lw, shared, p->n, err);
}

static snug_err ffn_half(layer_pass *p, int layer, snug_error *err) {
    graph *g = p->g;
    const config *c = &g->cfg;
    size_t n = p->n;
    if (!c->parallel) graph_norm(g, p->x, n, p->lw->vec[ROLE_FFN_NORM], p->lw->vec[ROLE_FFN_NORM_BIAS]);
    graph_tell(g, layer, EDGE_FFN_IN, g->norm, n, c->n_embd, g->embd_ld);
    if (g->until == EDGE_FFN_IN) return SNUG_OK;
    snug_err rc = layer_experts(c, layer) ? mixture(p, layer, err) : feed_forward(p, layer, err);
    if (rc || g->until == EDGE_FFN_MID) return rc;
    add_to_x(p, ROLE_DOWN_BIAS, ROLE_FFN_POST_NORM);
    return SNUG_OK;
}

snug_err graph_layer(graph *g, int layer, uint32_t kv_layer, const layer_weights *lw, const graph_item *items, size_t n,
                     float *x, snug_error *err) {
    if (n == 0) return SNUG_OK;
    layer_pass p = {.g = g,
                    .kv_layer = kv_layer,
                    .window = layer_window(&g->cfg, (uint32_t)layer),
                    .kind = g->cfg.layer[layer],
                    .lw = lw,
                    .items = items,
                    .n = n,
                    .x = x};
    snug_err rc = g->from >= EDGE_FFN_IN ? SNUG_OK : layer_is_ssm(&g->cfg, layer) ? ssm_half(&p, layer, err) : attention_half(&p, layer, err);
    return rc || g->until <= EDGE_ATTN_OUT || g->cfg.arch->no_attention ? rc : ffn_half(&p, layer, err);
}
