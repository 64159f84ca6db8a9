// rooms: base format token kern codec kv model
/* The graph as fit uses it: layers read one at a time by pread, a cache of one layer for all, hooks on the inputs of
 * the matrices. Compared with the logits of transformers, and the hooks with the matrices that they stand before. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "golden.h"

enum { N = 48 };

typedef struct seen { int calls[EDGE_COUNT]; size_t cols[EDGE_COUNT]; float *head_in; } seen;

static void watch(void *user, int layer, graph_edge edge, const float *x, size_t n, size_t cols, size_t ld) {
    seen *s = user;
    assert_int_equal(n, N);
    assert_true(ld >= cols && ld % 256 == 0);
    assert_int_equal(layer == -1, edge == EDGE_HEAD_IN);
    for (size_t t = 0; t < n; t++)
        for (size_t c = cols; c < ld; c++) assert_true(x[t * ld + c] == 0); /* the padding that codecs rely on */
    s->calls[edge]++;
    s->cols[edge] = cols;
    if (edge != EDGE_HEAD_IN) return;
    s->head_in = malloc(n * cols * sizeof *x);
    for (size_t t = 0; t < n; t++) memcpy(s->head_in + t * cols, x + t * ld, cols * sizeof *x);
}

static void layer_by_layer(const char *name) {
    store *s = NULL;
    snug_error err;
    golden expected;
    golden_run r;
    arena outer_mem = {0};
    layer_weights outer;
    seen hooks = {0};
    assert_true(golden_open(name, &expected));
    must(store_open(expected.dir, false, &s, &err), &err);
    const config *c = &s->cfg;
    golden_run_open(&expected, c, &r);
    assert_int_equal(expected.n_tokens, N);
    graph_watch(r.g, watch, &hooks);
    must(layer_read(s, -1, &outer_mem, &outer, &err), &err);
    must(graph_embed(r.g, &outer, r.items, N, r.x, &err), &err);
    for (uint32_t layer = 0; layer < c->n_layers; layer++) {
        arena mem = {0};
        layer_weights lw;
        must(layer_read(s, (int)layer, &mem, &lw, &err), &err);
        golden_run_layer(&r, layer, &lw);
        arena_fini(&mem);
    }
    must(graph_head(r.g, &outer, r.x, N, r.logits, &err), &err);
    assert_true(golden_error(&expected, r.logits) <= 1e-4);

    for (int e = 0; e < EDGE_HEAD_IN; e++) assert_int_equal(hooks.calls[e], e == EDGE_Q_LATENT || e == EDGE_KV_LATENT ? 0 : c->n_layers);
    assert_int_equal(hooks.calls[EDGE_HEAD_IN], 1);
    assert_int_equal(hooks.cols[EDGE_ATTN_IN], c->n_embd);
    assert_int_equal(hooks.cols[EDGE_ATTN_OUT], c->n_heads * c->head_dim);
    assert_int_equal(hooks.cols[EDGE_FFN_IN], c->n_embd);
    assert_int_equal(hooks.cols[EDGE_FFN_MID], c->n_ff);
    /* what the hook saw times the head is the logits */
    const weight *head = outer.w[ROLE_HEAD].n_terms ? &outer.w[ROLE_HEAD] : &outer.w[ROLE_EMBD];
    float *row = malloc(c->n_embd * sizeof *row);
    for (uint64_t i = 0; i < c->n_vocab; i += 37) {
        double y = 0;
        weight_decode(head, i, 1, row, c->n_embd);
        for (uint32_t j = 0; j < c->n_embd; j++) y += (double)row[j] * hooks.head_in[5 * c->n_embd + j];
        assert_true(fabs(y - r.logits[5 * c->n_vocab + i]) < 1e-4);
    }
    r.items[3].token = (int32_t)c->n_vocab;
    assert_int_equal(graph_embed(r.g, &outer, r.items, N, r.x, &err), SNUG_ERR_ARG);
    free(row), free(hooks.head_in);
    arena_fini(&outer_mem);
    golden_run_close(&r);
    golden_close(&expected);
    assert_null(r.g);
    store_close(&s);
}

static void test_layer_by_layer(void **state) {
    static const char *const names[] = {"llama2", "llama3", "mistral", "qwen2", "qwen3", "bitnet"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) layer_by_layer(names[i]);
}

static void test_edges_and_sizes(void **state) {
    assert_int_equal(role_edge(ROLE_K), EDGE_ATTN_IN);
    assert_int_equal(role_edge(ROLE_UP), EDGE_FFN_IN);
    assert_int_equal(role_edge(ROLE_DOWN), EDGE_FFN_MID);
    assert_int_equal(role_edge(ROLE_EMBD), EDGE_COUNT);
    config c = {.n_layers = 1,
                .n_embd = 1 << 24,
                .n_heads = 1,
                .n_kv_heads = 1,
                .head_dim = 64,
                .n_ff = 1 << 24,
                .n_vocab = 10,
                .rope_dims = 64};
    graph_params p = {.max_batch = UINT32_MAX, .n_ctx = 10, .threads = 1};
    graph *g = NULL;
    snug_error err;
    assert_int_equal(graph_bytes(&c, &p), 0);
    assert_int_equal(graph_create(&c, &p, NULL, &g, &err), SNUG_ERR_ARG);
    assert_null(g);
    p.max_batch = 2;
    assert_true(graph_bytes(&c, &p) >= 2 * 4ull * 4 * (1 << 24)); /* norm, gate, up, delta; and more */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layer_by_layer), cmocka_unit_test(test_edges_and_sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
