/* The tiny models of tests/golden and what transformers made of them; and a run of one, layer by layer and each over the same cache, as
 * fit does it. Include after cmocka.h. */
#ifndef TESTS_UNIT_GOLDEN_H
#define TESTS_UNIT_GOLDEN_H
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/graph.h"

static inline void must(snug_err rc, const snug_error *err) {
    if (rc) fail_msg("%s: %s", snug_err_name(rc), err->message);
}

typedef struct golden {
    char dir[512], name[64];
    uint32_t n_tokens, n_vocab, n_greedy, n_layers, used; /* layers that have experts */
    int32_t *tokens, *greedy;
    float *logits;  /* (n_tokens, n_vocab) */
    int32_t *picks; /* (n_layers, n_tokens, used): experts that tokens go to; NULL: there are none */
} golden;

static inline void *golden_items(FILE *f, size_t n) {
    void *p = malloc(4 * n + 1);
    assert_non_null(p);
    assert_int_equal(fread(p, 4, n, f), n);
    return p;
}

/* false: there is no such golden. */
static inline bool golden_open(const char *name, golden *g) {
    char path[700];
    uint32_t head[4];
    *g = (golden){0};
    snprintf(g->dir, sizeof g->dir, "%s/tests/golden/%s", SNUG_SOURCE_DIR, name);
    snprintf(g->name, sizeof g->name, "%s", name);
    snprintf(path, sizeof path, "%s/logits.bin", g->dir);
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    assert_int_equal(fread(head, 4, 4, f), 4);
    assert_memory_equal(head, "SNGL", 4);
    assert_int_equal(head[1], 1);
    g->n_tokens = head[2];
    g->n_vocab = head[3];
    g->tokens = golden_items(f, g->n_tokens);
    g->logits = golden_items(f, (size_t)g->n_tokens * g->n_vocab);
    assert_int_equal(fread(&g->n_greedy, 4, 1, f), 1);
    g->greedy = golden_items(f, g->n_greedy);
    if (fread(&g->n_layers, 4, 1, f) == 1) {
        assert_int_equal(fread(&g->used, 4, 1, f), 1);
        g->picks = golden_items(f, (size_t)g->n_layers * g->n_tokens * g->used);
    }
    fclose(f);
    return true;
}

static inline void golden_close(golden *g) { free(g->tokens), free(g->greedy), free(g->logits), free(g->picks); }

/* The largest |logits - transformers'| / |transformers'| of a token. */
static inline double golden_error(const golden *g, const float *logits) {
    double worst = 0;
    for (size_t t = 0; t < g->n_tokens; t++) {
        double d2 = 0, r2 = 0;
        for (size_t i = t * g->n_vocab; i < (t + 1) * g->n_vocab; i++) {
            const double r = g->logits[i], d = logits[i] - r;
            d2 += d * d, r2 += r * r;
        }
        const double e = sqrt(d2 / r2);
        if (!(e <= worst)) worst = e; /* a NaN stays */
    }
    return worst;
}

/* ---- layer by layer ---- */

typedef struct golden_run {
    const golden *of;
    const config *c;
    graph *g;
    kv_pool *pool;
    kv_seq *kv;
    graph_item *items;
    float *x, *logits;   /* (n_tokens, n_embd), (n_tokens, n_vocab) */
    const layer_weights *lw; /* of the layer that runs */
    graph_pick *picks;   /* (n_tokens, used) of that layer */
} golden_run;

static inline void golden_watch(void *user, int layer, graph_edge edge, const float *x, size_t n, size_t cols, size_t ld) {
    const golden_run *r = user;
    assert_false(r->lw && r->lw->vec[ROLE_ROUTER] && edge == EDGE_FFN_MID && !r->c->n_ff_shared); /* other experts have inputs of their own */
    if (edge == EDGE_FFN_IN && r->lw && r->lw->vec[ROLE_ROUTER]) graph_route(r->c, r->lw, x, n, ld, 2, r->picks);
}

static inline void golden_run_open(const golden *of, const config *c, golden_run *r) {
    const uint32_t n = of->n_tokens;
    const graph_params gp = {.max_batch = n, .n_ctx = n, .threads = 2};
    const kv_params kp = graph_kv(c, 1, n, 1, SNUG_KV_F32);
    snug_error err;
    *r = (golden_run){.of = of, .c = c};
    r->items = malloc(n * sizeof *r->items);
    r->x = malloc((size_t)n * c->n_embd * sizeof *r->x);
    r->logits = malloc((size_t)n * c->n_vocab * sizeof *r->logits);
    r->picks = malloc(((size_t)n * of->used + 1) * sizeof *r->picks);
    assert_int_equal(c->n_vocab, of->n_vocab);
    must(graph_create(c, &gp, NULL, &r->g, &err), &err);
    must(kv_pool_create(&kp, &r->pool, &err), &err);
    must(kv_seq_create(r->pool, &r->kv, &err), &err);
    graph_watch(r->g, golden_watch, r);
    for (uint32_t i = 0; i < n; i++) r->items[i] = (graph_item){of->tokens[i], i, r->kv};
}

static inline void golden_run_close(golden_run *r) {
    free(r->items), free(r->x), free(r->logits), free(r->picks);
    kv_pool_destroy(&r->pool);
    graph_destroy(&r->g);
}

/* r->x through a layer; tokens go to the experts that they go to in transformers. */
static inline void golden_run_layer(golden_run *r, uint32_t layer, const layer_weights *lw) {
    const uint32_t n = r->of->n_tokens, used = r->of->used;
    snug_error err;
    r->lw = lw;
    must(kv_truncate(r->kv, 0, &err), &err);
    must(kv_reserve(r->kv, n, &err), &err);
    must(graph_layer(r->g, (int)layer, 0, lw, r->items, n, r->x, &err), &err);
    uint32_t at = 0; /* of the layers that have experts */
    for (uint32_t l = 0; l < layer; l++) at += layer_experts(r->c, (int)l) > 0;
    for (uint32_t i = 0; r->lw->vec[ROLE_ROUTER] && i < n * used; i++) assert_int_equal(r->picks[i].expert, r->of->picks[(size_t)at * n * used + i]);
}
#endif
