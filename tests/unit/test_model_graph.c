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

#include "model/graph.h"

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

static void must(snug_err rc, const snug_error *err) {
    if (rc) fail_msg("%s: %s", snug_err_name(rc), err->message);
}

static float *read_golden(const char *name, int32_t *tokens, uint32_t n_vocab) {
    char path[512];
    uint32_t head[4];
    snprintf(path, sizeof path, "%s/tests/golden/%s/logits.bin", SNUG_SOURCE_DIR, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(head, 4, 4, f), 4);
    assert_int_equal(head[2], N);
    assert_int_equal(head[3], n_vocab);
    assert_int_equal(fread(tokens, 4, N, f), N);
    float *logits = malloc((size_t)N * n_vocab * sizeof *logits);
    assert_int_equal(fread(logits, 4, (size_t)N * n_vocab, f), (size_t)N * n_vocab);
    fclose(f);
    return logits;
}

static void layer_by_layer(const char *name) {
    char path[512];
    store *s = NULL;
    snug_error err;
    snprintf(path, sizeof path, "%s/tests/golden/%s", SNUG_SOURCE_DIR, name);
    must(store_open(path, false, &s, &err), &err);
    const config *c = &s->cfg;
    int32_t tokens[N];
    float *expected = read_golden(name, tokens, c->n_vocab);

    graph_params gp = {.max_batch = N, .n_ctx = N, .threads = 2};
    kv_params kp = {.n_layers = 1,
                    .n_kv_heads = c->n_kv_heads,
                    .head_dim = c->head_dim,
                    .n_ctx = N,
                    .max_seqs = 1,
                    .type = SNUG_KV_F32};
    graph *g = NULL;
    kv_pool *pool = NULL;
    graph_item items[N];
    kv_seq *kv = NULL;
    seen hooks = {0};
    must(graph_create(c, &gp, NULL, &g, &err), &err);
    must(kv_pool_create(&kp, &pool, &err), &err);
    must(kv_seq_create(pool, &kv, &err), &err);
    graph_watch(g, watch, &hooks);
    for (uint32_t i = 0; i < N; i++) items[i] = (graph_item){tokens[i], i, kv};

    arena outer_mem = {0};
    layer_weights outer;
    float *x = malloc((size_t)N * c->n_embd * sizeof *x), *logits = malloc((size_t)N * c->n_vocab * sizeof *logits);
    must(layer_read(s, -1, &outer_mem, &outer, &err), &err);
    must(graph_embed(g, &outer.w[ROLE_EMBD], items, N, x, &err), &err);
    for (uint32_t layer = 0; layer < c->n_layers; layer++) {
        arena mem = {0};
        layer_weights lw;
        must(layer_read(s, (int)layer, &mem, &lw, &err), &err);
        must(kv_truncate(kv, 0, &err), &err);
        must(kv_reserve(kv, N, &err), &err);
        must(graph_layer(g, (int)layer, 0, &lw, items, N, x, &err), &err);
        kv_commit(kv, N);
        arena_fini(&mem);
    }
    must(graph_head(g, &outer, x, N, logits, &err), &err);
    double worst = 0;
    for (uint32_t t = 0; t < N; t++) {
        double d2 = 0, r2 = 0;
        for (uint32_t i = 0; i < c->n_vocab; i++) {
            double r = expected[t * c->n_vocab + i], d = logits[t * c->n_vocab + i] - r;
            d2 += d * d, r2 += r * r;
        }
        worst = fmax(worst, sqrt(d2 / r2));
    }
    assert_true(worst <= 1e-4);

    for (int e = 0; e < EDGE_HEAD_IN; e++) assert_int_equal(hooks.calls[e], c->n_layers);
    assert_int_equal(hooks.calls[EDGE_HEAD_IN], 1);
    assert_int_equal(hooks.cols[EDGE_ATTN_IN], c->n_embd);
    assert_int_equal(hooks.cols[EDGE_ATTN_OUT], c->n_heads * c->head_dim);
    assert_int_equal(hooks.cols[EDGE_FFN_IN], c->n_embd);
    assert_int_equal(hooks.cols[EDGE_FFN_MID], c->n_ff);
    /* what the hook saw times the head is the logits */
    const weight *head = outer.w[ROLE_HEAD].n_terms ? &outer.w[ROLE_HEAD] : &outer.w[ROLE_EMBD];
    float *row = malloc(c->n_embd * sizeof *row);
    for (uint64_t r = 0; r < c->n_vocab; r += 37) {
        double y = 0;
        weight_decode(head, r, 1, row, c->n_embd);
        for (uint32_t i = 0; i < c->n_embd; i++) y += (double)row[i] * hooks.head_in[5 * c->n_embd + i];
        assert_true(fabs(y - logits[5 * c->n_vocab + r]) < 1e-4);
    }
    snug_error bad;
    items[3].token = (int32_t)c->n_vocab;
    assert_int_equal(graph_embed(g, &outer.w[ROLE_EMBD], items, N, x, &bad), SNUG_ERR_ARG);
    free(row), free(hooks.head_in), free(x), free(logits), free(expected);
    arena_fini(&outer_mem);
    kv_pool_destroy(&pool);
    graph_destroy(&g);
    assert_null(g);
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
