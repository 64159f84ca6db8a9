// rooms: fit plan eval run solve codec kern model kv token format linalg base
/* The order of channels (fit/order.c): the model in it is the same function, whichever way it is read; what is only copied, or encoded already,
 * stays as it is. */
#include "fit/forward.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "golden.h"
#include "tempfile.h"

static const char *const names[] = {"llama2", "llama3", "mistral", "qwen2", "qwen3", "qwen3moe", "mixtral", "olmoe", "gpt_oss", "gemma2", "gemma3", "granite", "olmo2", "phi3", "smollm3", "starcoder2", "gpt2", "gptneox", "qwen2moe", "deepseek3", "mamba2", "granitehybrid_moe"};

/* A job on a model whose only candidate is this codec. */
static void open_model(const char *path, const char *codec, fit_job *f, cand *c) {
    snug_error err;
    *f = (fit_job){.feedback = true};
    *c = (cand){0};
    assert_true(comp_parse(codec, &c->comp));
    must(store_open(path, false, &f->src, &err), &err);
    f->tensor = arena_calloc(&f->mem, 1, sizeof *f->tensor);
    f->n = 1;
    f->tensor[0] = (fit_tensor){.t = store_find(f->src, ROLE_Q, 0), .matrix = true, .menu = {.n = 1, .cand = c}};
    must(order_choose(f, &err), &err);
}

static void open_job(const char *name, const char *codec, fit_job *f, cand *c) {
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/%s", SNUG_SOURCE_DIR, name);
    open_model(path, codec, f, c);
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
        const bool attends = k->n_kv_heads > 0;
        const size_t d = config_value_dim(k), share = attends ? k->n_heads / k->n_kv_heads : 1, keys = k->kv_rank ? k->head_dim - k->rope_dims : 0; /* in front of a head's values */
        bool moved = false, moved_values = !attends;
        assert_int_equal(order_kinds(&f), attends ? ORDER_STREAM | ORDER_VALUES : ORDER_STREAM);
        assert_true(is_permutation(f.order.stream, 0, k->n_embd, &moved));
        for (uint32_t l = 0; l < k->n_layers; l++)
            for (size_t h = 0; h < k->n_heads && !layer_is_ssm(k, (int)l); h++) {
                const size_t first = h / share * (keys + d) + keys;
                const uint32_t *value = f.order.value[l] + first, *mixed = f.order.mixed[l] + h * d;
                assert_true(is_permutation(value, first, d, &moved_values)); /* no value leaves its head */
                for (size_t j = 0; j < d; j++) assert_int_equal(mixed[j] - h * d, value[j] - first);
                for (size_t j = first - keys; j < first; j++) assert_int_equal(f.order.value[l][j], j);
            }
        assert_true(moved && moved_values);
        close_job(&f);
    }
}

/* The model at a path, in order, has a golden's logits, and its routers send every token where transformers' do. */
static void same_function(const char *path, const golden *expected) {
    fit_job f;
    cand only;
    snug_error err;
    arena mem = {0};
    layer_weights lw;
    golden_run r;
    open_model(path, "int4g64", &f, &only);
    const config *c = &f.src->cfg;
    assert_int_equal(order_kinds(&f), f.src->cfg.n_kv_heads ? ORDER_STREAM | ORDER_VALUES : ORDER_STREAM);
    golden_run_open(expected, c, &r);
    for (size_t i = 0; i < expected->n_tokens; i++) {
        must(order_rows(&f, store_find(f.src, ROLE_EMBD, -1), (uint64_t)expected->tokens[i], 1, r.x + i * c->n_embd, &err), &err);
        must(embed_finish(&f, i, expected->n_tokens, r.x + i * c->n_embd, &err), &err);
    }
    for (uint32_t l = 0; l < c->n_layers; l++) {
        must(order_layer(&f, (int)l, true, &mem, &lw, &err), &err);
        golden_run_layer(&r, l, &lw);
    }
    must(order_layer(&f, -1, true, &mem, &lw, &err), &err);
    must(graph_head(r.g, &lw, r.x, expected->n_tokens, r.logits, &err), &err);
    const double worst = golden_error(expected, r.logits);
    if (!(worst <= 1e-4)) fail_msg("%s: logits differ by %g", path, worst);
    arena_fini(&mem);
    golden_run_close(&r);
    close_job(&f);
}

/* Of models as they are published, and as GGUFs, which stack experts. */
static void function_is_preserved(void **state) {
    char *dir = temp_dir_make();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snug_error err;
        golden expected;
        assert_true(golden_open(names[i], &expected));
        same_function(expected.dir, &expected);
        if (expected.picks && strcmp(names[i], "gpt_oss") != 0) { /* whose limits others do not have */
            const char *gguf = temp_path(dir, "stacks.gguf");
            must(snug_export(expected.dir, gguf, 2, (snug_progress){0}, &err), &err);
            same_function(gguf, &expected);
        }
        golden_close(&expected);
    }
    temp_dir_remove(dir);
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
            if ((int)t->role < (int)ROLE_MATRICES) weight_decode(layer_weight(&lw, t), 0, t->rows, a, t->cols);
            else memcpy(a, lw.vec[t->role], t->rows * t->cols * sizeof *a);
            must(order_rows(&f, t, 0, t->rows, b, &err), &err);
            assert_memory_equal(a, b, t->rows * t->cols * sizeof *a);
            if (t->rows > 7) {
                must(order_rows(&f, t, 5, 2, b, &err), &err);
                assert_memory_equal(a + 5 * t->cols, b, 2 * t->cols * sizeof *a);
            }
            if (t->role == ROLE_DOWN) { /* by definition */
                must(store_read_rows(f.src, t, f.order.stream[5], 1, b, &err), &err);
                assert_memory_equal(a + 5 * t->cols, b, t->cols * sizeof *a);
            } else if (t->role == ROLE_GATE || t->role == ROLE_ROUTER || t->role == ROLE_FFN_NORM) {
                const size_t last = t->rows - 1;
                must(store_read_rows(f.src, t, last, 1, b, &err), &err);
                for (size_t j = 0; j < t->cols; j++) assert_true(a[last * t->cols + j] == b[f.order.stream[j]]);
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
    static const tensor_role one[] = {ROLE_ROUTER, ROLE_DOWN}; /* nor does the stream when one expert, or what chooses them, is encoded */
    for (int k = 0; k < 2; k++) {
        open_job("olmoe", "bf16", &f, &c);
        assert_true(comp_parse("int4g64", &c.comp));
        store_tensor *t = (store_tensor *)(uintptr_t)(k ? store_expert(f.src, one[k], 1, 3) : store_find(f.src, one[k], 1));
        t->term[0].codec = codec_by_ggml_type(GGML_Q8_0);
        must(order_choose(&f, &err), &err);
        assert_int_equal(order_kinds(&f), ORDER_VALUES);
        close_job(&f);
    }
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
