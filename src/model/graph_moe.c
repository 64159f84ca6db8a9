/* Feed-forwards of many experts, of which each item goes through a few:
 *
 *     norm ─ router ─ softmax ─ the k largest ─ shares s_e        delta = Σ s_e down_e (silu(gate_e norm) * up_e norm),   e rising
 *
 * where what the router, gate, up and down give may have biases added. (Shares made to sum to 1 are the softmax of the picked experts alone.)
 * DeepSeek's experts may be scored by sigmoids, be chosen with a bias that their shares do not see, and come from a few groups, which are chosen first: by
 * their best expert or, of sigmoids, by the sum of their two best.
 *
 * Items are queued expert by expert, so that an expert's weights are read once for all items of a batch that want them. What an item gets
 * is summed in the order of experts, which is the order in which they are computed: it depends on no other item. The router is f32 and no
 * codec ever touches it: a wrong pick costs more than its few weights save. Sources: transformers' modeling_qwen3_moe.py,
 * modeling_mixtral.py, modeling_deepseek_{v2,v3}.py. */
#include "base/thread.h"
#include "kern/kern.h"
#include "model/graph_impl.h"

#include <math.h>
#include <string.h>

/* ---- who goes where ---- */

typedef struct route_pass {
    const config *c;
    const layer_weights *lw;
    const float *x;
    size_t ld;
    graph_pick *picks;
} route_pass;

/* The largest that is not taken, of which there must be one, taken now. Of equal ones the first wins, as in a stable descending sort; NaNs are picked in
 * order, once nothing is larger. */
static uint32_t take_largest(const float *v, bool *taken, uint32_t n) {
    uint32_t best = 0;
    while (taken[best]) best++;
    for (uint32_t e = best + 1; e < n; e++)
        if (!taken[e] && v[e] > v[best]) best = e;
    taken[best] = true;
    return best;
}

/* Takes all experts that stand outside of the groups that they may come from. v: what experts are chosen by. */
static void leave_groups(const config *c, const float *v, bool *taken) {
    const uint32_t each = c->n_experts / c->n_groups;
    float group[CONFIG_MAX_EXPERTS];
    bool kept[CONFIG_MAX_EXPERTS] = {false};
    for (uint32_t g = 0; g < c->n_groups; g++) {
        const float *of = v + (size_t)g * each;
        float best = of[0], next = -INFINITY;
        for (uint32_t e = 1; e < each; e++) {
            if (of[e] > best) next = best, best = of[e];
            else if (of[e] > next) next = of[e];
        }
        group[g] = c->sigmoid ? best + next : best;
    }
    for (uint32_t k = 0; k < c->n_groups_used; k++) take_largest(group, kept, c->n_groups);
    for (uint32_t e = 0; e < c->n_experts; e++) taken[e] = !kept[e / each];
}

/* score (n_experts): what shares are made of; v: what the choice is made by, the same or with a bias. */
static void pick_largest(const config *c, const float *score, const float *v, graph_pick *out) {
    static const float LEAST_SUM = 1e-20f;
    bool taken[CONFIG_MAX_EXPERTS];
    float sum = LEAST_SUM;
    memset(taken, 0, c->n_experts * sizeof *taken);
    if (c->n_groups) leave_groups(c, v, taken);
    for (uint32_t k = 0; k < c->n_experts_used; k++) {
        const uint32_t best = take_largest(v, taken, c->n_experts);
        out[k] = (graph_pick){best, score[best]};
        sum += score[best];
    }
    for (uint32_t k = 0; k < c->n_experts_used && c->norm_topk; k++) out[k].share /= sum;
    for (uint32_t k = 0; k < c->n_experts_used && c->share_scale != 0; k++) out[k].share *= c->share_scale;
}

static void sort_by_expert(graph_pick *p, uint32_t n) {
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t k = i; k > 0 && p[k].expert < p[k - 1].expert; k--) {
            graph_pick t = p[k];
            p[k] = p[k - 1];
            p[k - 1] = t;
        }
}

static void route_rows(void *ctx, size_t begin, size_t end, int worker) {
    const route_pass *r = ctx;
    const config *c = r->c;
    const float *router = r->lw->vec[ROLE_ROUTER], *added = r->lw->vec[ROLE_ROUTER_BIAS], *bias = r->lw->vec[ROLE_CHOICE_BIAS];
    float p[CONFIG_MAX_EXPERTS], biased[CONFIG_MAX_EXPERTS];
    for (size_t i = begin; i < end; i++) {
        graph_pick *out = r->picks + i * c->n_experts_used;
        memset(p, 0, c->n_experts * sizeof *p);
        kern()->dot_f32(c->n_experts, 1, c->n_embd, router, c->n_embd, r->x + i * r->ld, r->ld, p, c->n_experts);
        if (added) kern()->add(p, added, c->n_experts);
        if (!c->sigmoid) kern()->softmax(p, c->n_experts);
        for (uint32_t e = 0; e < c->n_experts && c->sigmoid; e++) p[e] = 1 / (1 + expf(-p[e]));
        for (uint32_t e = 0; e < c->n_experts && bias; e++) biased[e] = p[e] + bias[e];
        pick_largest(c, p, bias ? biased : p, out);
        sort_by_expert(out, c->n_experts_used);
    }
}

void graph_route(const config *c, const layer_weights *lw, const float *x, size_t n, size_t ld, int threads, graph_pick *picks) {
    route_pass r = {c, lw, x, ld, picks};
    thread_for(threads, n, 8, route_rows, &r);
}

void graph_queue(const config *c, const graph_pick *picks, size_t n, uint32_t *first, graph_pick *queue) {
    const uint32_t used = c->n_experts_used, n_experts = c->n_experts;
    memset(first, 0, (n_experts + 1) * sizeof *first);
    for (size_t i = 0; i < n * used; i++) first[picks[i].expert + 1]++;
    for (uint32_t e = 0; e < n_experts; e++) first[e + 1] += first[e];
    for (size_t i = 0; i < n * used; i++) queue[first[picks[i].expert]++] = (graph_pick){(uint32_t)(i / used), picks[i].share};
    memmove(first + 1, first, n_experts * sizeof *first); /* each now stood where the next begins */
    first[0] = 0;
}

/* ---- one expert ---- */

typedef struct expert_pass { graph *g; const graph_pick *queue; const float *bias; /* of down, or NULL */ } expert_pass;

static void take_rows(void *ctx, size_t begin, size_t end, int worker) {
    const expert_pass *p = ctx;
    const graph *g = p->g;
    for (size_t i = begin; i < end; i++)
        memcpy(g->moe.in + i * g->embd_ld, g->norm + p->queue[i].expert * g->embd_ld, g->cfg.n_embd * sizeof(float));
}

static void give_rows(void *ctx, size_t begin, size_t end, int worker) {
    const expert_pass *p = ctx;
    const graph *g = p->g;
    const size_t cols = g->cfg.n_embd;
    for (size_t i = begin; i < end; i++) {
        float *out = g->moe.out + i * cols;
        const float share = p->queue[i].share;
        if (p->bias) kern()->add(out, p->bias, cols);
        float *delta = g->delta + p->queue[i].expert * cols;
        for (size_t j = 0; j < cols; j++) delta[j] += share * out[j];
    }
}

/* An expert's row of a role's biases; NULL: there are none. */
static const float *bias_of(const layer_weights *lw, tensor_role r, uint32_t expert, size_t cols) { return lw->vec[r] ? lw->vec[r] + expert * cols : NULL; }

/* g->gate = silu(gate x) * up x, x (n, embd_ld) */
static snug_err expert_mid(graph *g, const layer_weights *lw, uint32_t expert, const float *x, size_t n, snug_error *err) {
    const expert_weights *e = &lw->experts[expert];
    const size_t ff = g->cfg.n_ff;
    graph_job jobs[] = {{&e->w[0], g->gate, g->ff_ld}, {&e->w[1], g->up, ff}};
    snug_err rc = graph_matmul(g, x, n, g->cfg.n_embd, g->embd_ld, jobs, 2, err);
    if (!rc) graph_gate(g, bias_of(lw, ROLE_GATE_EXPS_BIAS, expert, ff), bias_of(lw, ROLE_UP_EXPS_BIAS, expert, ff), n, ff);
    return rc;
}

static snug_err run_expert(graph *g, const layer_weights *lw, uint32_t expert, const graph_pick *queue, size_t n, size_t n_items, snug_error *err) {
    const size_t cols = g->cfg.n_embd;
    expert_pass p = {g, queue, bias_of(lw, ROLE_DOWN_EXPS_BIAS, expert, cols)};
    const bool all = n == n_items; /* then the queue is the items in their order */
    const int threads = graph_threads(g, (double)(n * cols));
    if (!all) thread_for(threads, n, 8, take_rows, &p);
    snug_err rc = expert_mid(g, lw, expert, all ? g->norm : g->moe.in, n, err);
    graph_job down = {&lw->experts[expert].w[2], g->moe.out, cols};
    if (!rc) rc = graph_matmul(g, g->gate, n, g->cfg.n_ff, g->ff_ld, &down, 1, err);
    if (!rc) thread_for(threads, n, 8, give_rows, &p);
    return rc;
}

snug_err graph_experts(graph *g, const layer_weights *lw, bool add, size_t n, snug_error *err) {
    const config *c = &g->cfg;
    snug_err rc = SNUG_OK;
    graph_route(c, lw, g->norm, n, g->embd_ld, graph_threads(g, (double)(n * c->n_experts) * c->n_embd), g->moe.picks);
    graph_queue(c, g->moe.picks, n, g->moe.first, g->moe.queue);
    if (!add) memset(g->delta, 0, n * c->n_embd * sizeof *g->delta);
    for (uint32_t e = 0; e < c->n_experts && !rc; e++) {
        const uint32_t first = g->moe.first[e], count = g->moe.first[e + 1] - first;
        if (count) rc = run_expert(g, lw, e, g->moe.queue + first, count, n, err);
    }
    return rc;
}

snug_err graph_expert_mid(graph *g, const layer_weights *lw, uint32_t expert, const float *x, size_t n, float *mid, snug_error *err) {
    const size_t cols = g->cfg.n_embd, ff = g->cfg.n_ff;
    for (size_t i = 0; i < n; i++) memcpy(g->moe.in + i * g->embd_ld, x + i * cols, cols * sizeof *x);
    snug_err rc = expert_mid(g, lw, expert, g->moe.in, n, err);
    for (size_t i = 0; i < n && !rc; i++) memcpy(mid + i * ff, g->gate + i * g->ff_ld, ff * sizeof *mid);
    return rc;
}
