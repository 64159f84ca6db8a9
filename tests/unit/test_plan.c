// rooms: plan codec kern base
/* Plan files: what is saved comes back, edited files are taken, hostile ones refused with words. Sensitivities. */
#include "base/io.h"
#include "plan/plan.h"
#include "tempfile.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static char *dir;
static int setup(void **state) {
    dir = temp_dir_make();
    return 0;
}
static int teardown(void **state) {
    temp_dir_remove(dir);
    return 0;
}

static const char *write_text(const char *text) {
    const char *path = temp_path(dir, "plan.json");
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static void round_trip(void **state) {
    plan_entry e[2] = {{.tensor = "blk.0.attn_q.weight", .rows = 7, .cols = 300, .bytes = 12345, .rel_error = 1.5e-3, .loss = 0.1 + 0.2, .sensitivity = 2, .note = "pinned \"so\""},
                       {.tensor = "output.weight", .rows = 9, .cols = 9, .bytes = 1, .rel_error = 0, .loss = 1e-300, .sensitivity = 0, .note = NULL}};
    assert_true(comp_parse("int3g64+lowrank8", &e[0].comp));
    assert_true(comp_parse("q4_k", &e[1].comp));
    plan p = {.n = 2, .entry = e, .budget_bytes = UINT64_MAX / 4, .file_bytes = 77, .predicted_kl = 0.25, .run_work = {5, 6}, .target = "gguf", .calib = "self",
              .source_fingerprint = 0xfedcba9876543210u, .seed = 9};
    const char *path = temp_path(dir, "saved.json");
    assert_int_equal(plan_save(&p, path, NULL), SNUG_OK);
    plan *q = NULL;
    snug_error err = {0};
    if (plan_load(path, &q, &err) != SNUG_OK) fail_msg("%s", err.message);
    assert_int_equal(q->n, 2);
    assert_true(q->budget_bytes == p.budget_bytes && q->file_bytes == 77 && q->seed == 9 && q->source_fingerprint == p.source_fingerprint);
    assert_string_equal(q->target, "gguf");
    for (int i = 0; i < 2; i++) {
        assert_string_equal(q->entry[i].tensor, e[i].tensor);
        assert_true(comp_equal(&q->entry[i].comp, &e[i].comp));
        assert_true(q->entry[i].loss == e[i].loss); /* exactly: the artifact repeats it */
        assert_true(q->entry[i].rows == e[i].rows && q->entry[i].cols == e[i].cols && q->entry[i].bytes == e[i].bytes);
    }
    assert_string_equal(q->entry[0].note, e[0].note);
    assert_string_equal(q->entry[1].note, "");
    plan_destroy(&q);
    assert_null(q);
}

static void by_hand(void **state) {
    plan *p = NULL;
    const char *path = write_text("{\"snug_plan\": 1, \"remark\": [1, {}], \"tensors\": [{\"tensor\": \"a\", \"codec\": \"q6_k\", \"why\": null}]}");
    assert_int_equal(plan_load(path, &p, NULL), SNUG_OK);
    assert_int_equal(p->n, 1);
    assert_true(p->entry[0].rows == 0 && p->entry[0].loss == -1);
    plan_destroy(&p);
}

static void hostile(void **state) {
    const struct { const char *text, *words; } cases[] = {
        {"", "plan.json"},
        {"[]", "not a JSON object"},
        {"{\"tensors\": []}", "snug_plan"},
        {"{\"snug_plan\": 2, \"tensors\": []}", "version 2"},
        {"{\"snug_plan\": -1, \"tensors\": []}", "snug_plan"},
        {"{\"snug_plan\": 1}", "tensors"},
        {"{\"snug_plan\": 1, \"tensors\": {}}", "tensors"},
        {"{\"snug_plan\": 1, \"tensors\": [3]}", "tensors[0]"},
        {"{\"snug_plan\": 1, \"tensors\": [{\"codec\": \"q6_k\"}]}", "tensor"},
        {"{\"snug_plan\": 1, \"tensors\": [{\"tensor\": \"a\", \"codec\": \"q99\"}]}", "q99"},
        {"{\"snug_plan\": 1, \"tensors\": [{\"tensor\": \"a\", \"codec\": \"\"}]}", "no codec"},
        {"{\"snug_plan\": 1, \"tensors\": [{\"tensor\": \"a\", \"codec\": \"q6_k+q6_k+q6_k+q6_k+q6_k\"}]}", "no codec"},
        {"{\"snug_plan\": 1, \"tensors\": [{\"tensor\": \"a\", \"codec\": \"q6_k\", \"rows\": -4}]}", "rows"},
        {"{\"snug_plan\": 1, \"tensors\": [{\"tensor\": \"a\", \"codec\": \"q6_k\", \"loss\": \"much\"}]}", "loss"},
        {"{\"snug_plan\": 1, \"tensors\": [{\"tensor\": \"a\", \"codec\": \"q6_k\"}, {\"tensor\": \"a\", \"codec\": \"q4_k\"}]}", "twice"},
        {"{\"snug_plan\": 1, \"target\": \"something long\", \"tensors\": []}", "longer"},
        {"{\"snug_plan\": 1, \"target\": 7, \"tensors\": []}", "not a string"},
        {"{\"snug_plan\": 1, \"tensors\": [", "plan.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        plan *p = NULL;
        snug_error err = {0};
        snug_err rc = plan_load(write_text(cases[i].text), &p, &err);
        assert_true(rc != SNUG_OK);
        assert_null(p);
        if (!strstr(err.message, cases[i].words)) fail_msg("case %zu: \"%s\" does not say \"%s\"", i, err.message, cases[i].words);
    }
    plan *p = NULL;
    assert_int_equal(plan_load(temp_path(dir, "nothing-here"), &p, NULL), SNUG_ERR_IO);
}

static void sensitivities(void **state) {
    const double t2[3] = {0.01, 0.02, 0.04}, kl[3] = {0.03, 0.06, 0.12};
    assert_true(fabs(sensitivity_fit(t2, kl, 3) - 3) < 1e-12);
    assert_true(sensitivity_fit(t2, kl, 0) == 0);
    assert_true(sensitivity_prior("down", 0, 16) > sensitivity_prior("down", 8, 16));
    assert_true(sensitivity_prior("v", 5, 16) > sensitivity_prior("q", 5, 16));
    assert_true(sensitivity_prior("embd", -1, 16) > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(by_hand), cmocka_unit_test(hostile), cmocka_unit_test(sensitivities)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
