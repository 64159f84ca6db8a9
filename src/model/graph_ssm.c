/* Selective state spaces in attention's place (Mamba-2: Dao and Gu 2024, "Transformers are SSMs", section 7; transformers' modeling_mamba2.py):
 *
 *     norm ─ ssm_in ─┬ z ────────────────────────────────────────────────────── silu ─┐
 *                    ├ x B C ─ convolution over the last `conv` tokens ─ silu ─┐      × ─ norm of each group ─ ssm_out
 *                    └ dt ─ softplus(dt + bias), held within limits ───── recurrence ─┘
 *
 * and for each head h of `dim` channels, which shares B and C (`state` numbers each) with the others of its group, the recurrence
 *
 *     S = exp(dt_h A_h) S + dt_h x B^T,     y = S C + D_h x         S (dim, state), x, y (dim)
 *
 * token by token in f32, for prompts too: so what a token gets depends on its sequence up to there, and neither on how a prompt is cut nor on
 * what else is in the batch. Channels of the convolution and heads do not see each other: they are what threads share, and each goes through
 * all items of the batch in their order. What is remembered of a sequence is the last conv - 1 inputs of the convolution, then S:
 *
 *     | inputs (conv - 1, channels), the oldest first | S (inner, state) | */
#include "base/thread.h"
#include "kern/kern.h"
#include "model/graph_impl.h"

#include <math.h>
#include <string.h>

enum { CHANNELS = 64 }; /* a piece of the convolution */

typedef struct ssm_pass {
    graph *g;
    uint32_t state; /* the cache's */
    const layer_weights *lw;
    const graph_item *items;
    size_t n;
} ssm_pass;

static float *proj_row(const graph *g, size_t i) { return g->ssm.proj + i * ssm_rows(&g->cfg.ssm); }

static float silu(float x) { return x / (1 + expf(-x)); }

/* x B C of each item in place, channels [begin, end). */
static void convolve(void *ctx, size_t begin, size_t end, int worker) {
    const ssm_pass *p = ctx;
    const config_ssm *s = &p->g->cfg.ssm;
    const size_t kept = s->conv - 1, channels = ssm_channels(s);
    const float *w = p->lw->vec[ROLE_SSM_CONV], *bias = p->lw->vec[ROLE_SSM_CONV_BIAS];
    for (size_t i = 0; i < p->n; i++) {
        const float *before = kv_state_before(p->items[i].kv, p->state, p->items[i].pos);
        float *after = kv_state_after(p->items[i].kv, p->state), *x = proj_row(p->g, i) + s->inner;
        for (size_t c = begin; c < end; c++) {
            const float *tap = w + c * s->conv;
            float sum = 0;
            for (size_t k = 0; k < kept; k++) {
                const float old = before ? before[k * channels + c] : 0;
                sum += tap[k] * old;
                if (k) after[(k - 1) * channels + c] = old;
            }
            sum += tap[kept] * x[c];
            if (kept) after[(kept - 1) * channels + c] = x[c];
            x[c] = silu(sum + bias[c]);
        }
    }
}

static float step_size(const config_ssm *s, float dt) {
    const float soft = dt > 20 ? dt : log1pf(expf(dt)); /* beyond 20 they are the same number */
    return fminf(fmaxf(soft, s->dt_min), s->dt_max);
}

/* Heads [begin, end) of each item. */
static void recur(void *ctx, size_t begin, size_t end, int worker) {
    const ssm_pass *p = ctx;
    const graph *g = p->g;
    const config_ssm *s = &g->cfg.ssm;
    const size_t dim = s->inner / s->heads, per_group = s->heads / s->groups, at = (size_t)(s->conv - 1) * ssm_channels(s);
    const float *bias = p->lw->vec[ROLE_SSM_DT_BIAS], *a = p->lw->vec[ROLE_SSM_A], *d = p->lw->vec[ROLE_SSM_D];
    for (size_t h = begin; h < end; h++)
        for (size_t i = 0; i < p->n; i++) {
            const float *before = kv_state_before(p->items[i].kv, p->state, p->items[i].pos), *x = proj_row(g, i) + s->inner;
            float *after = kv_state_after(p->items[i].kv, p->state) + at, *y = g->ssm.y + i * g->ssm.ld;
            const float *b = x + s->inner + h / per_group * s->state, *c = b + (size_t)s->groups * s->state;
            const size_t first = h * dim;
            const float dt = step_size(s, x[ssm_channels(s) + h] + bias[h]), decay = expf(dt * a[h]);
            if (!before) memset(after + first * s->state, 0, dim * s->state * sizeof *after);
            for (size_t j = first; j < first + dim; j++) y[j] = dt * x[j];
            kern()->recur((before ? before + at : after) + first * s->state, after + first * s->state, dim, s->state, decay, b, c, y + first);
            for (size_t j = first; j < first + dim; j++) y[j] += d[h] * x[j];
        }
}

/* y = norm(y silu(z)), group by group. */
static void gate_rows(void *ctx, size_t begin, size_t end, int worker) {
    const ssm_pass *p = ctx;
    const graph *g = p->g;
    const config_ssm *s = &g->cfg.ssm;
    const size_t width = s->inner / s->groups;
    for (size_t i = begin; i < end; i++) {
        float *y = g->ssm.y + i * g->ssm.ld, *z = proj_row(g, i);
        kern()->silu_mul(z, y, s->inner);
        for (size_t k = 0; k < s->inner; k += width) kern()->rmsnorm(z + k, p->lw->vec[ROLE_SSM_NORM] + k, g->cfg.norm_eps, width, y + k);
    }
}

void graph_ssm(graph *g, uint32_t state, const layer_weights *lw, const graph_item *items, size_t n) {
    const config_ssm *s = &g->cfg.ssm;
    ssm_pass p = {g, state, lw, items, n};
    thread_for(graph_threads(g, (double)n * (double)ssm_channels(s) * (s->conv + 8)), ssm_channels(s), CHANNELS, convolve, &p);
    thread_for(graph_threads(g, 2.0 * (double)n * s->inner * s->state), s->heads, 1, recur, &p);
    thread_for(graph_threads(g, 10.0 * (double)n * s->inner), n, 8, gate_rows, &p);
}
