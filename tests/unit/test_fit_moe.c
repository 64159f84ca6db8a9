// rooms: fit plan eval run solve codec kern model kv token format linalg base
/* Fits of mixtures of experts: the same bytes for any number of threads, in files or in memory, and after any interruption, as experts of
 * their own and as stacks; plans replay; an expert that no token comes to is fitted all the same, and said to be; channels are balanced for all
 * experts and the router, and in one order in all of them; importances from an imatrix. */
#include "fit/fit.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "fitting.h"

static const char *QWEN = SNUG_SOURCE_DIR "/tests/golden/qwen3moe", *MIXTRAL = SNUG_SOURCE_DIR "/tests/golden/mixtral", *OLMOE = SNUG_SOURCE_DIR "/tests/golden/olmoe",
                  *SHARED = SNUG_SOURCE_DIR "/tests/golden/qwen2moe_dense"; /* an expert that all tokens go through, and layers without others */

static snug_fit_params params(const char *source, bool gguf) {
    return (snug_fit_params){.source = source, .output = at("out.snug"), .calib = text, .bpw = gguf ? 12 : 5, .threads = 2,
                             .target = gguf ? SNUG_FOR_GGUF : SNUG_FOR_SNUG};
}

/* The same with one layer in the trellis code and one in another, where the target knows them; stacks have layers of one type each. */
static const char *const some[2][2] = {{"blk.0.*=tcq2", "blk.1.*=int3g32"}, {"blk.0.*=q8_0", "blk.1.*=bf16"}};
static snug_fit_params some_pinned(const char *source, bool gguf) {
    snug_fit_params p = params(source, gguf);
    p.pins = some[gguf];
    p.n_pins = 2;
    return p;
}

static void test_same_bytes(void **state) {
    if (SANITIZED) return; /* test_plans has files too */
    for (int gguf = 0; gguf < 2; gguf++) (void)fit_alike(some_pinned(gguf ? MIXTRAL : SHARED, gguf), 3, dir);
}

static void test_interrupted(void **state) {
    if (SANITIZED) return;
    for (int gguf = 0; gguf < 2; gguf++) {
        snug_fit_params p = some_pinned(gguf ? MIXTRAL : OLMOE, gguf);
        const uint64_t whole = fit_ok(p);
        static const int STOPS[] = {9, 100};
        for (size_t i = (size_t)gguf; i < sizeof STOPS / sizeof *STOPS; i += 2)
            if (fit_stopped(p, STOPS[i])) assert_true(fit_resumed(p) == whole);
    }
}

/* In sanitized builds of one target, and test_missed_expert of the other, for time's sake. */
static void test_plans(void **state) {
    for (int gguf = 0; gguf < (SANITIZED ? 1 : 2); gguf++) {
        snug_fit_params p = params(MIXTRAL, gguf);
        snug_fit_report *r;
        p.plan_out = at("plan.json");
        const uint64_t first = fit_reported(p, &r);
        const snug_fit_summary *s = snug_fit_report_summary(r);
        assert_int_equal(s->n_experts, 15);
        assert_int_equal(s->n_experts_missed, 0);
        uint64_t tokens = 0, rows = 0;
        for (size_t i = 0; i < s->n_rows; i++) {
            const snug_plan_row *row = snug_fit_report_row(r, i);
            if (strncmp(row->tensor, "blk.1.ffn_up", strlen("blk.1.ffn_up"))) continue;
            assert_int_equal(row->n_experts, gguf ? 5 : 1);
            for (uint64_t k = 0; k < row->n_experts; k++) tokens += row->tokens[k];
            rows += row->rows;
        }
        assert_int_equal(rows, 5 * 60);
        assert_int_equal(tokens, 2 * s->calib_tokens); /* each goes to two experts */
        snug_fit_report_destroy(&r);
        snug_fit_params q = {.source = MIXTRAL, .output = at("again.snug"), .calib = text, .plan_in = p.plan_out, .target = p.target, .spill = dir};
        assert_true(fit_ok(q) == first);
    }
}

/* The routers of a copy: experts 1 and 3 want the opposite of 0 and 2, so that two of the four always lead 4, whose row is zero. */
static void oppose_routers(const char *folder) {
    char path[160];
    store *s = NULL;
    snug_error err;
    if (store_open(folder, false, &s, &err)) fail_msg("%s", err.message);
    for (int l = 0; l < (int)s->cfg.n_layers; l++) {
        const store_tensor *t = store_find(s, ROLE_ROUTER, l);
        const size_t row = 2 * t->cols; /* f16 */
        uint8_t *w = malloc(5 * row);
        assert_int_equal(store_read_term(s, &t->term[0], w, &err), SNUG_OK);
        for (int pair = 0; pair < 4; pair += 2)
            for (size_t j = 0; j < row; j++) w[(size_t)(pair + 1) * row + j] = (uint8_t)(w[(size_t)pair * row + j] ^ (j % 2 ? 0x80 : 0));
        memset(w + 4 * row, 0, row);
        snprintf(path, sizeof path, "%s/model.safetensors", folder);
        int fd = open(path, O_WRONLY);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, w, 5 * row, (off_t)t->term[0].offset), (ssize_t)(5 * row));
        close(fd);
        free(w);
    }
    store_close(&s);
}

static void test_missed_expert(void **state) {
    const char *copy = at("missed");
    shell("cp -r '%s' '%s'", MIXTRAL, copy);
    shell("chmod u+w '%s' '%s'/model.safetensors", copy, copy);
    oppose_routers(copy);
    for (int gguf = SANITIZED; gguf < 2; gguf++) {
        snug_fit_report *r;
        snug_fit_params p = params(copy, gguf);
        (void)fit_reported(p, &r);
        const snug_fit_summary *s = snug_fit_report_summary(r);
        assert_int_equal(s->n_experts_missed, 3); /* of each layer one */
        size_t noted = 0;
        for (size_t i = 0; i < s->n_rows; i++) {
            const snug_plan_row *row = snug_fit_report_row(r, i);
            if (row->n_experts == 0) continue;
            const bool missed = row->tokens[row->n_experts - 1] == 0;
            assert_int_equal(missed, strstr(row->note, "fitted to others' tokens") || strstr(row->note, "came to this expert: fitted to others'"));
            assert_true(row->rel_error < 0.5); /* cheaper than others may be, not thrown away */
            noted += missed;
        }
        assert_int_equal(noted, 3 * 3);
        snug_fit_report_destroy(&r);
    }
}

/* bf16 numbers of a tensor, in place: every stride-th of n from `first` on times 2^k. */
static void scale(const store *s, const store_tensor *t, size_t first, size_t stride, size_t n, int k) {
    const size_t bytes = t->rows * t->cols * 2;
    uint16_t *w = malloc(bytes);
    snug_error err;
    assert_int_equal(store_read_term(s, &t->term[0], (uint8_t *)w, &err), SNUG_OK);
    for (size_t i = 0; i < n; i++)
        if (w[first + i * stride] & 0x7f80) w[first + i * stride] = (uint16_t)(w[first + i * stride] + k * 128);
    int fd = open(s->files[t->term[0].file].path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, w, bytes, (off_t)t->term[0].offset), (ssize_t)bytes);
    close(fd);
    free(w);
}

static float *logits_of(const char *path, size_t *bytes) {
    snug_model *m;
    snug_context *c;
    snug_seq *seq;
    snug_error err;
    snug_item items[40];
    if (snug_model_open(path, &m, &err)) fail_msg("%s", err.message);
    const size_t n_vocab = snug_model_get_info(m)->n_vocab;
    snug_context_params p = {.n_ctx = 64, .max_seqs = 1, .threads = 2, .act = SNUG_ACT_F32, .kv = SNUG_KV_F32};
    assert_int_equal(snug_context_create(m, &p, &c, &err), SNUG_OK);
    assert_int_equal(snug_seq_create(c, &seq, &err), SNUG_OK);
    for (uint32_t i = 0; i < 40; i++) items[i] = (snug_item){seq, (int32_t)(i * 37 % 500), i, true};
    assert_int_equal(snug_decode(c, items, 40, &err), SNUG_OK);
    float *out = malloc(*bytes = 40 * n_vocab * sizeof *out);
    for (size_t i = 0; i < 40; i++) memcpy(out + i * n_vocab, snug_logits(c, i), n_vocab * sizeof *out);
    snug_seq_destroy(&seq);
    snug_context_destroy(&c);
    snug_model_close(&m);
    return out;
}

/* Channels that stand out, in front of the router and inside of experts, are balanced: in all experts and the router, or in the one. Kept in
 * bf16 the model has the logits of its source, to the bit. */
static void test_balanced(void **state) {
    static const char *const pins[] = {"*=bf16"};
    const char *copy = at("outliers");
    store *s = NULL, *made = NULL;
    snug_error err;
    shell("cp -r '%s' '%s'", QWEN, copy);
    shell("chmod u+w '%s' '%s'/*.safetensors", copy, copy);
    assert_int_equal(store_open(copy, false, &s, &err), SNUG_OK);
    for (int l = 0; l < 3; l++) {
        const store_tensor *router = store_find(s, ROLE_ROUTER, l);
        scale(s, store_find(s, ROLE_FFN_NORM, l), 5, 1, 1, 5);
        scale(s, router, 5, router->cols, router->rows, -5);
        for (int e = 0; e < 7; e++) {
            const store_tensor *up = store_expert(s, ROLE_UP, l, e), *down = store_expert(s, ROLE_DOWN, l, e);
            scale(s, store_expert(s, ROLE_GATE, l, e), 5, up->cols, up->rows, -5);
            scale(s, up, 5, up->cols, up->rows, -5);
            scale(s, up, (size_t)(3 + e) * up->cols, 1, up->cols, 4); /* another row of each */
            scale(s, down, (size_t)(3 + e), down->cols, down->rows, -4);
        }
    }
    snug_fit_params p = {.source = copy, .output = at("balanced.snug"), .calib = text, .threads = 2, .pins = pins, .n_pins = 1};
    (void)fit_ok(p);
    assert_int_equal(store_open(p.output, false, &made, &err), SNUG_OK);
    float before[128], after[128];
    const store_tensor *norm = store_find(s, ROLE_FFN_NORM, 1), *up = store_expert(s, ROLE_UP, 1, 2);
    assert_int_equal(store_read_rows(s, norm, 0, 1, before, &err), SNUG_OK);
    assert_int_equal(store_read_rows(made, store_find(made, ROLE_FFN_NORM, 1), 0, 1, after, &err), SNUG_OK);
    assert_true(fabsf(after[5]) < fabsf(before[5]) / 4);
    assert_int_equal(store_read_rows(s, up, 5, 1, before, &err), SNUG_OK);
    assert_int_equal(store_read_rows(made, store_expert(made, ROLE_UP, 1, 2), 5, 1, after, &err), SNUG_OK);
    assert_true(fabsf(after[0]) < fabsf(before[0]) / 2);
    store_close(&made);
    store_close(&s);
    size_t n, again;
    float *theirs = logits_of(copy, &n), *ours = logits_of(p.output, &again);
    assert_int_equal(n, again);
    assert_memory_equal(theirs, ours, n);
    free(theirs);
    free(ours);
}

/* The share of positions whose logits are nearly the source's. (A token that is sent to another expert makes others differ.) */
static double logits_alike(const char *source, const char *made) {
    size_t n, again, alike = 0;
    float *a = logits_of(source, &n), *b = logits_of(made, &again);
    assert_int_equal(n, again);
    const size_t n_vocab = n / sizeof *a / 40;
    for (size_t t = 0; t < 40; t++) {
        double most = 0, apart = 0;
        for (size_t i = t * n_vocab; i < (t + 1) * n_vocab; i++) {
            most = fmax(most, fabs((double)a[i]));
            apart = fmax(apart, fabs((double)a[i] - b[i]));
        }
        alike += apart < 0.05 * most;
    }
    free(a);
    free(b);
    return (double)alike / 40;
}

/* A mixture whose channels were ordered is the same function, and each expert of a stack is what one of its own is, in the same order. */
static void test_ordered(void **state) {
    if (SANITIZED) return; /* nothing that the others do not run */
    static const char *const pins[] = {"*=q8_0"};
    static const tensor_role roles[] = {ROLE_GATE, ROLE_UP, ROLE_DOWN};
    snug_error err;
    store *made[2] = {0};
    for (int gguf = 0; gguf < 2; gguf++) {
        snug_fit_params p = {.source = MIXTRAL, .output = at(gguf ? "ordered.gguf" : "ordered.snug"), .calib = text, .threads = 2, .pins = pins, .n_pins = 1,
                             .target = gguf ? SNUG_FOR_GGUF : SNUG_FOR_SNUG};
        (void)fit_ok(p);
        const double alike = logits_alike(MIXTRAL, p.output);
        if (!(alike > 0.5)) fail_msg("%s: only %g of the positions have the source's logits", p.output, alike);
        if (store_open(p.output, false, &made[gguf], &err)) fail_msg("%s", err.message);
    }
    uint64_t kinds;
    assert_int_equal(gguf_get_u64(made[0]->gguf, "snug.order", &kinds, &err), SNUG_OK);
    assert_int_equal(kinds, ORDER_STREAM | ORDER_VALUES);
    assert_non_null(gguf_find_tensor(made[1]->gguf, "blk.1.ffn_up_exps.weight"));
    for (int l = 0; l < (int)made[0]->cfg.n_layers; l++)
        for (int e = 0; e < 5; e++)
            for (size_t k = 0; k < sizeof roles / sizeof *roles; k++) {
                const store_tensor *own = store_expert(made[0], roles[k], l, e), *stacked = store_expert(made[1], roles[k], l, e);
                const size_t n = own->rows * own->cols;
                float *a = malloc(n * sizeof *a), *b = malloc(n * sizeof *b);
                double apart = 0, all = 0;
                assert_int_equal(store_read_rows(made[0], own, 0, own->rows, a, &err), SNUG_OK);
                assert_int_equal(store_read_rows(made[1], stacked, 0, own->rows, b, &err), SNUG_OK);
                for (size_t i = 0; i < n; i++) apart += ((double)a[i] - b[i]) * ((double)a[i] - b[i]), all += (double)a[i] * a[i];
                assert_true(apart < 1e-3 * all);
                free(a);
                free(b);
            }
    for (int gguf = 0; gguf < 2; gguf++) store_close(&made[gguf]);
}

/* Stacks out, stacks in: an artifact of experts of their own becomes a GGUF whose stacks have one type, and that one an artifact again. */
static void test_round_trip(void **state) {
    static const char *const pins[] = {"*=q8_0", "blk.*.ffn_gate.1.weight=iq4_nl", "blk.*.ffn_down*=f16"};
    snug_error err;
    store *s = NULL;
    snug_fit_params p = {.source = MIXTRAL, .output = at("pinned.snug"), .calib = "none", .effort = SNUG_EFFORT_QUICK, .pins = pins, .n_pins = 3};
    (void)fit_ok(p);
    assert_int_equal(snug_export(p.output, at("plain.gguf"), 2, (snug_progress){0}, &err), SNUG_OK);
    assert_int_equal(store_open(at("plain.gguf"), false, &s, &err), SNUG_OK);
    assert_int_equal(s->kind, STORE_GGUF);
    for (int e = 0; e < 5; e++) assert_string_equal(store_expert(s, ROLE_GATE, 2, e)->codec_name, "q8_0");
    assert_null(gguf_find_tensor(s->gguf, "blk.2.ffn_gate.1.weight"));
    const gguf_tensor *stack = gguf_find_tensor(s->gguf, "blk.2.ffn_down_exps.weight");
    assert_non_null(stack);
    assert_true(stack->n_dims == 3 && stack->dims[0] == 60 && stack->dims[1] == 64 && stack->dims[2] == 5);
    store_close(&s);
    p.source = at("plain.gguf");
    p.output = at("back.snug");
    p.n_pins = 1;
    (void)fit_ok(p);
}

/* llama.cpp's imatrix of a stack: a row and a count for each expert; one was never used. */
static void test_imatrix(void **state) {
    enum { COLS = 64, EXPERTS = 5 };
    float sums[EXPERTS][COLS], counts[8] = {2, 4, 8, 0, 1}; /* padded to 32 bytes */
    for (int e = 0; e < EXPERTS; e++)
        for (int j = 0; j < COLS; j++) sums[e][j] = (float)(e * 100 + j + 1);
    gguf_out_tensor t[] = {
        {.name = "blk.1.ffn_up_exps.weight.in_sum2", .type = GGML_F32, .n_dims = 2, .dims = {COLS, EXPERTS, 1, 1}, .bytes = sizeof sums},
        {.name = "blk.1.ffn_up_exps.weight.counts", .type = GGML_F32, .n_dims = 2, .dims = {1, EXPERTS, 1, 1}, .bytes = EXPERTS * sizeof(float)}};
    gguf_kvs kvs = {0};
    buf header = {0};
    uint64_t bytes;
    snug_error err;
    assert_true(gguf_put_str(&kvs, "general.type", "imatrix", 7));
    assert_int_equal(gguf_layout(&kvs, t, 2, 32, &header, &bytes, &err), SNUG_OK);
    FILE *f = fopen(at("im.gguf"), "wb");
    assert_int_equal(fwrite(header.data, 1, header.len, f), header.len);
    assert_int_equal(fwrite(sums, 1, sizeof sums, f), sizeof sums);
    assert_int_equal(fwrite(counts, 1, sizeof counts, f), sizeof counts);
    fclose(f);
    gguf_kvs_fini(&kvs);
    buf_fini(&header);

    fit_imatrix *m;
    const float *mean;
    if (imatrix_open(at("im.gguf"), &m, &err)) fail_msg("%s", err.message);
    for (int e = 0; e < EXPERTS; e++) {
        char name[64];
        role_tensor_name(ROLE_UP, 1, e, name);
        assert_int_equal(imatrix_find(m, name, COLS, &mean, &err), SNUG_OK);
        assert_int_equal(mean == NULL, e == 3);
        for (int j = 0; mean && j < COLS; j++) assert_true(mean[j] == sums[e][j] / counts[e]);
    }
    imatrix_close(&m);
    snug_fit_params p = {.source = MIXTRAL, .output = at("im.snug"), .calib = "none", .effort = SNUG_EFFORT_QUICK, .bpw = 5};
    const uint64_t without = fit_ok(p);
    p.imatrix = at("im.gguf");
    assert_true(fit_ok(p) != without);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_bytes), cmocka_unit_test(test_interrupted), cmocka_unit_test(test_plans),
                                       cmocka_unit_test(test_missed_expert), cmocka_unit_test(test_round_trip), cmocka_unit_test(test_balanced), cmocka_unit_test(test_ordered), cmocka_unit_test(test_imatrix)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
