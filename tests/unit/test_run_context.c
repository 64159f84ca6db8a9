// rooms: base format token kern codec kv model run
/* Contexts: budgets, limits, misuse, and that a failed decode changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <snug.h>

static snug_model *model;

static int open_model(void **state) { return snug_model_open(SNUG_SOURCE_DIR "/models/demo", &model, NULL) ? -1 : 0; }
static int close_model(void **state) {
    snug_model_close(&model);
    return model ? -1 : 0;
}

static snug_context *make(snug_context_params p) {
    snug_context *c = NULL;
    snug_error err;
    if (snug_context_create(model, &p, &c, &err)) fail_msg("%s", err.message);
    return c;
}

static void test_model_info(void **state) {
    const snug_model_info *i = snug_model_get_info(model);
    assert_string_equal(i->format, "hf");
    assert_string_equal(i->architecture, "llama");
    assert_int_equal(i->n_vocab, 4096);
    assert_int_equal(i->n_layers, 4);
    assert_int_equal(i->tensor_bytes, 2 * i->n_weights);
    assert_true(i->bpw > 16 && i->bpw < 16.1);
    assert_true(i->predicted_kl < 0);
    snug_tensor_info t;
    uint64_t bytes = 0, weights = 0;
    for (size_t k = 0; k < snug_model_n_tensors(model); k++) {
        assert_int_equal(snug_model_tensor(model, k, &t), SNUG_OK);
        assert_string_equal(t.codec, "bf16");
        bytes += t.bytes;
        weights += t.rows * t.cols;
    }
    assert_int_equal(bytes, i->tensor_bytes);
    assert_int_equal(weights, i->n_weights);

    snug_model *none = model;
    snug_error err;
    assert_int_equal(snug_model_open("/nonexistent", &none, &err), SNUG_ERR_IO);
    assert_null(none);
    assert_int_equal(snug_model_open(SNUG_SOURCE_DIR "/models/demo/config.json", &none, &err), SNUG_ERR_FORMAT);
    assert_int_equal(snug_model_open(NULL, &none, &err), SNUG_ERR_ARG);
}

static void test_budget(void **state) {
    snug_context_params p = {.n_ctx = 256, .max_batch = 64, .threads = 2};
    snug_memory m, less;
    snug_error err;
    snug_context *c = NULL;
    assert_int_equal(snug_context_memory(model, &p, &m, NULL), SNUG_OK);
    assert_int_equal(m.total_bytes, m.weights_bytes + m.kv_bytes + m.scratch_bytes + m.other_bytes);
    assert_true(m.weights_bytes >= snug_model_get_info(model)->tensor_bytes);
    assert_true(m.kv_bytes >= 2 * 2 * 4 * 2 * 64 * 256); /* k and v, f16, 4 layers of 2 heads of 64 */
    p.ram_bytes = m.total_bytes;
    c = make(p);
    snug_context_destroy(&c);
    p.ram_bytes--;
    assert_int_equal(snug_context_create(model, &p, &c, &err), SNUG_ERR_BUDGET);
    assert_null(c);
    /* the message names what is needed and the largest context that fits; and that one does fit */
    char needed[32];
    unsigned fits = 0;
    snprintf(needed, sizeof needed, "(%llu bytes)", (unsigned long long)m.total_bytes);
    assert_non_null(strstr(err.message, needed));
    assert_int_equal(sscanf(strstr(err.message, "that fits is"), "that fits is %u", &fits), 1);
    assert_true(fits >= 128 && fits < 256);
    p.n_ctx = fits;
    assert_int_equal(snug_context_memory(model, &p, &less, NULL), SNUG_OK);
    assert_true(less.total_bytes <= p.ram_bytes);
    c = make(p);
    snug_context_destroy(&c);
    p.n_ctx = fits + 1;
    assert_int_equal(snug_context_create(model, &p, &c, &err), SNUG_ERR_BUDGET);
    p.ram_bytes = 1000;
    assert_int_equal(snug_context_create(model, &p, &c, &err), SNUG_ERR_BUDGET);
    assert_non_null(strstr(err.message, "no context fits"));
}

static void test_decode_misuse(void **state) {
    snug_context *c = make((snug_context_params){.n_ctx = 10, .max_batch = 8, .max_seqs = 2, .threads = 1});
    snug_seq *a = NULL, *b = NULL, *none = NULL;
    snug_error err;
    assert_int_equal(snug_seq_create(c, &a, &err), SNUG_OK);
    assert_int_equal(snug_seq_create(c, &b, &err), SNUG_OK);
    assert_int_equal(snug_seq_create(c, &none, &err), SNUG_ERR_BUDGET);
    assert_null(none);
    snug_item items[9];
    for (uint32_t i = 0; i < 9; i++) items[i] = (snug_item){a, 5, i, i == 3};
    assert_int_equal(snug_decode(c, items, 9, &err), SNUG_ERR_ARG); /* more than max_batch */
    assert_int_equal(snug_decode(c, items, 0, &err), SNUG_ERR_ARG);
    assert_int_equal(snug_decode(c, items, 4, &err), SNUG_OK);
    assert_int_equal(snug_seq_length(a), 4);
    assert_non_null(snug_logits(c, 3));
    assert_null(snug_logits(c, 2));
    assert_null(snug_logits(c, 4));
    float first = snug_logits(c, 3)[0];

    const struct { snug_item item; snug_err code; const char *words; } cases[] = {
        {{a, -1, 4, true}, SNUG_ERR_ARG, "token -1 is outside the vocabulary of 4096"},
        {{a, 4096, 4, true}, SNUG_ERR_ARG, "token 4096"},
        {{a, 5, 3, true}, SNUG_ERR_ARG, "position 3, expected 4"},
        {{a, 5, 5, true}, SNUG_ERR_ARG, "position 5, expected 4"},
        {{b, 5, 4, true}, SNUG_ERR_ARG, "position 4, expected 0"},
        {{NULL, 5, 4, true}, SNUG_ERR_ARG, "sequence"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snug_item two[2] = {{b, 1, 0, true}, cases[i].item};
        if (cases[i].item.seq == b) two[0].seq = a, two[0].pos = 4; /* the good one comes first */
        assert_int_equal(snug_decode(c, two, 2, &err), cases[i].code);
        assert_non_null(strstr(err.message, cases[i].words));
        assert_int_equal(snug_seq_length(a), 4);
        assert_int_equal(snug_seq_length(b), 0);
        assert_null(snug_logits(c, 0));
    }
    for (uint32_t i = 0; i < 7; i++) items[i] = (snug_item){a, 5, 4 + i, true};
    assert_int_equal(snug_decode(c, items, 7, &err), SNUG_ERR_BUDGET); /* 11 of 10 positions */
    assert_non_null(strstr(err.message, "context of 10 positions is full"));
    assert_int_equal(snug_seq_length(a), 4);
    assert_int_equal(snug_seq_truncate(a, 5, &err), SNUG_ERR_ARG);
    assert_int_equal(snug_seq_truncate(a, 3, &err), SNUG_OK);
    items[0] = (snug_item){a, 5, 3, true};
    assert_int_equal(snug_decode(c, items, 1, &err), SNUG_OK);
    assert_true(snug_logits(c, 0)[0] == first);
    snug_seq_destroy(&a);
    assert_null(a);
    assert_int_equal(snug_seq_fork(b, &a, &err), SNUG_OK); /* an empty one */
    assert_int_equal(snug_seq_length(a), 0);
    snug_seq_destroy(&a);
    snug_seq_destroy(&b);
    snug_context_destroy(&c);
    snug_context_destroy(&c);
}

static void test_bad_params(void **state) {
    snug_context *c = NULL;
    snug_error err;
    const snug_context_params wrong[] = {{.act = 7}, {.kv = 7}, {.threads = 100000}, {.max_batch = UINT32_MAX}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(snug_context_create(model, &wrong[i], &c, &err), SNUG_ERR_ARG);
        assert_null(c);
    }
    snug_context_params big = {.n_ctx = UINT32_MAX, .max_seqs = UINT32_MAX};
    assert_int_equal(snug_context_create(model, &big, &c, &err), SNUG_ERR_ARG);
    c = make((snug_context_params){.threads = 1}); /* all defaults */
    snug_context_destroy(&c);
}

/* More logits in a batch than sequences: they grow, but never past a limit of memory. */
static void test_many_logits(void **state) {
    snug_context_params p = {.n_ctx = 64, .max_batch = 32, .threads = 1};
    snug_memory m;
    snug_error err;
    assert_int_equal(snug_context_memory(model, &p, &m, NULL), SNUG_OK);
    for (int limited = 0; limited < 2; limited++) {
        p.ram_bytes = limited ? m.total_bytes : 0;
        snug_context *c = make(p);
        snug_seq *s = NULL;
        snug_item items[32];
        assert_int_equal(snug_seq_create(c, &s, &err), SNUG_OK);
        for (uint32_t i = 0; i < 32; i++) items[i] = (snug_item){s, 9, i, true};
        assert_int_equal(snug_decode(c, items, 32, &err), limited ? SNUG_ERR_BUDGET : SNUG_OK);
        assert_int_equal(snug_seq_length(s), limited ? 0 : 32);
        snug_seq_destroy(&s);
        snug_context_destroy(&c);
    }
}

static void test_text(void **state) {
    int32_t ids[64];
    size_t n = 0, bytes = 0;
    char text[256];
    snug_error err;
    const char *line = "It was a dark night, and nobody came.";
    if (snug_tokenize(model, line, strlen(line), false, false, ids, 64, &n, &err)) fail_msg("%s", err.message);
    assert_true(n > 4 && n < 40);
    assert_int_equal(snug_detokenize(model, ids, n, false, text, sizeof text, &bytes, &err), SNUG_OK);
    assert_int_equal(bytes, strlen(line));
    assert_memory_equal(text, line, bytes);
    assert_int_equal(snug_token_bos(model), 0);
    assert_true(snug_token_is_eog(model, 0));
    assert_false(snug_token_is_eog(model, 100));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_info), cmocka_unit_test(test_budget),      cmocka_unit_test(test_decode_misuse),
        cmocka_unit_test(test_bad_params), cmocka_unit_test(test_many_logits), cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
