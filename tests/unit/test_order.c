// rooms: fit plan eval run solve codec kern model kv token format linalg base
/* The order of channels (fit/order.c): the model in it is the same function, whichever way it is read; what is only copied, or encoded already,
 * stays as it is. */
#include "fit/fit.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { N = 48 };
static const char *const names[] = {"llama2", "llama3", "mistral", "qwen2", "qwen3"};

static void must(snug_err rc, const snug_error *err) {
    if (rc) fail_msg("%s: %s", snug_err_name(rc), err->message);
}

/* A job whose only candidate is this codec. */
static void open_job(const char *name, const char *codec, fit_job *f, cand *c) {
    char path[512];
    snug_error err;
    *f = (fit_job){.feedback = true};
    *c = (cand){0};
    assert_true(comp_parse(codec, &c->comp));
    snprintf(path, sizeof path, "%s/tests/golden/%s", SNUG_SOURCE_DIR, name);
    must(store_open(path, false, &f->src, &err), &err);
    f->tensor = arena_calloc(&f->mem, 1, sizeof *f->tensor);
    f->n = 1;
    f->tensor[0] = (fit_tensor){.t = store_find(f->src, ROLE_Q, 0), .matrix = true, .menu = {.n = 1, .cand = c}};
    must(order_choose(f, &err), &err);
}

static void close_job(fit_job *f) {
    store_close(&f->src);
    arena_fini(&f->mem);
}

static bool is_permutation(const uint32_t *order, size_t first, size_t n, bool *moved) {
    bool *seen = calloc(n, sizeof *seen), ok = true;
    for (size_t i = 0; i < n; i++) {
        const size_t at = order[i] - first;
        ok = ok && at < n && !seen[at];
        if (ok) seen[at] = true;
        *moved |= at != i;
    }
    free(seen);
    return ok;
}

static void orders_are_permutations(void **state) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        fit_job f;
        cand c;
        open_job(names[i], "int4g64", &f, &c);
        const config *k = &f.src->cfg;
        const size_t d = k->head_dim, share = k->n_heads / k->n_kv_heads;
        bool moved = false, moved_values = false;
        assert_int_equal(order_kinds(&f), ORDER_STREAM | ORDER_VALUES);
        assert_true(is_permutation(f.order.stream, 0, k->n_embd, &moved));
        for (uint32_t l = 0; l < k->n_layers; l++)
            for (size_t h = 0; h < k->n_heads; h++) {
                const uint32_t *value = f.order.value[l] + h / share * d, *mixed = f.order.mixed[l] + h * d;
                assert_true(is_permutation(value, h / share * d, d, &moved_values)); /* no value leaves its head */
                for (size_t j = 0; j < d; j++) assert_int_equal(mixed[j] - h * d, value[j] - h / share * d);
            }
        assert_true(moved && moved_values);
        close_job(&f);
    }
}

static float *read_golden(const char *name, int32_t *tokens, uint32_t n_vocab) {
    char path[512];
    uint32_t head[4];
    snprintf(path, sizeof path, "%s/tests/golden/%s/logits.bin", SNUG_SOURCE_DIR, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(head, 4, 4, file), 4);
    assert_int_equal(head[2], N);
    assert_int_equal(fread(tokens, 4, N, file), N);
    float *logits = malloc((size_t)N * n_vocab * sizeof *logits);
    assert_int_equal(fread(logits, 4, (size_t)N * n_vocab, file), (size_t)N * n_vocab);
    fclose(file);
    return logits;
}

static void same_function(const char *name) {
    fit_job f;
    cand only;
    snug_error err;
    open_job(name, "int4g64", &f, &only);
    const config *c = &f.src->cfg;
    int32_t tokens[N];
    float *expected = read_golden(name, tokens, c->n_vocab), *x = malloc((size_t)N * c->n_embd * sizeof *x), *logits = malloc((size_t)N * c->n_vocab * sizeof *logits);
    graph_params gp = {.max_batch = N, .n_ctx = N, .threads = 2};
    kv_params kp = {.n_layers = c->n_layers, .n_kv_heads = c->n_kv_heads, .head_dim = c->head_dim, .n_ctx = N, .max_seqs = 1, .type = SNUG_KV_F32};
    graph *g = NULL;
    kv_pool *pool = NULL;
    kv_seq *kv = NULL;
    graph_item items[N];
    arena mem = {0};
    layer_weights lw;
    must(graph_create(c, &gp, NULL, &g, &err), &err);
    must(kv_pool_create(&kp, &pool, &err), &err);
    must(kv_seq_create(pool, &kv, &err), &err);
    must(kv_reserve(kv, N, &err), &err);
    for (uint32_t i = 0; i < N; i++) items[i] = (graph_item){tokens[i], i, kv};
    for (uint32_t i = 0; i < N; i++) must(order_rows(&f, store_find(f.src, ROLE_EMBD, -1), (uint64_t)tokens[i], 1, x + (size_t)i * c->n_embd, &err), &err);
    for (uint32_t l = 0; l < c->n_layers; l++) {
        must(order_layer(&f, (int)l, true, &mem, &lw, &err), &err);
        must(graph_layer(g, (int)l, l, &lw, items, N, x, &err), &err);
    }
    must(order_layer(&f, -1, true, &mem, &lw, &err), &err);
    must(graph_head(g, &lw, x, N, logits, &err), &err);
    double worst = 0;
    for (uint32_t t = 0; t < N; t++) {
        double d2 = 0, r2 = 0;
        for (uint32_t i = 0; i < c->n_vocab; i++) {
            const double r = expected[t * c->n_vocab + i], d = logits[t * c->n_vocab + i] - r;
            d2 += d * d, r2 += r * r;
        }
        worst = fmax(worst, sqrt(d2 / r2));
    }
    if (worst > 1e-4) fail_msg("%s: logits differ by %g", name, worst);
    free(expected), free(x), free(logits);
    arena_fini(&mem);
    kv_pool_destroy(&pool);
    graph_destroy(&g);
    close_job(&f);
}

static void function_is_preserved(void **state) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) same_function(names[i]);
}

/* Row by row, some rows, and as part of a layer: the same numbers, each where the order says. */
static void rows_and_layers_agree(void **state) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        fit_job f;
        cand c;
        snug_error err;
        open_job(names[i], "int4g64", &f, &c);
        for (size_t k = 0; k < f.src->n_tensors; k++) {
            const store_tensor *t = &f.src->tensors[k];
            if (t->permute_heads || t->role == ROLE_ROPE_FREQS) continue; /* layers have q and k as the file has them */
            arena mem = {0};
            layer_weights lw;
            float *a = malloc(t->rows * t->cols * sizeof *a), *b = malloc(t->rows * t->cols * sizeof *b);
            must(order_layer(&f, t->layer, true, &mem, &lw, &err), &err);
            if ((int)t->role < (int)ROLE_MATRICES) weight_decode(&lw.w[t->role], 0, t->rows, a, t->cols);
            else memcpy(a, lw.vec[t->role], t->cols * sizeof *a);
            must(order_rows(&f, t, 0, t->rows, b, &err), &err);
            assert_memory_equal(a, b, t->rows * t->cols * sizeof *a);
            if (t->rows > 7) {
                must(order_rows(&f, t, 5, 2, b, &err), &err);
                assert_memory_equal(a + 5 * t->cols, b, 2 * t->cols * sizeof *a);
            }
            if (t->role == ROLE_DOWN) { /* by definition */
                must(store_read_rows(f.src, t, f.order.stream[5], 1, b, &err), &err);
                assert_memory_equal(a + 5 * t->cols, b, t->cols * sizeof *a);
            } else if (t->role == ROLE_GATE || t->role == ROLE_FFN_NORM) {
                must(store_read_rows(f.src, t, 0, 1, b, &err), &err);
                for (size_t j = 0; j < t->cols; j++) assert_true(a[j] == b[f.order.stream[j]]);
            }
            free(a), free(b);
            arena_fini(&mem);
        }
        close_job(&f);
    }
}

static void copies_stay(void **state) {
    fit_job f;
    cand c;
    snug_error err;
    open_job("llama3", "bf16", &f, &c);
    assert_int_equal(order_kinds(&f), 0);
    for (size_t i = 0; i < f.src->n_tensors; i++) assert_false(order_moves(&f, &f.src->tensors[i]));
    assert_true(comp_parse("int4g64", &c.comp)); /* the same with an encoded tensor: the stream stays, the values move; then they stay too */
    f.src->tensors[0].term[0].codec = codec_by_ggml_type(GGML_Q8_0);
    must(order_choose(&f, &err), &err);
    assert_int_equal(order_kinds(&f), ORDER_VALUES);
    close_job(&f);
    open_job("llama3", "bf16", &f, &c);
    assert_true(comp_parse("int4g64", &c.comp));
    for (size_t i = 0; i < f.src->n_tensors; i++)
        if (f.src->tensors[i].role == ROLE_O && f.src->tensors[i].layer == 1) f.src->tensors[i].term[0].codec = codec_by_ggml_type(GGML_Q8_0);
    must(order_choose(&f, &err), &err);
    assert_int_equal(order_kinds(&f), 0);
    close_job(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(orders_are_permutations), cmocka_unit_test(function_is_preserved),
                                       cmocka_unit_test(rows_and_layers_agree), cmocka_unit_test(copies_stay)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
