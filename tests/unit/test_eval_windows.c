// rooms: eval run model kv codec kern token format linalg base
/* Windows and the statistics over them: llama.cpp's numbers of scored tokens, strides, short texts, Student's t from
 * tables. */
#include "eval/windows.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void default_windows(void **state) {
    windows w;
    /* llama-perplexity -c 512: logits 256 .. 510 of every chunk, 255 tokens. */
    assert_int_equal(windows_plan(512 * 7 + 100, 512, 0, &w, NULL), SNUG_OK);
    assert_int_equal(w.count, 7);
    assert_int_equal(w.step, 512);
    assert_int_equal(w.first_target, 257);
    assert_int_equal(w.n_scored, 255);
    assert_int_equal(windows_plan(9, 9, 0, &w, NULL), SNUG_OK); /* odd windows */
    assert_int_equal(w.first_target, 5);
    assert_int_equal(w.n_scored, 4);
    for (uint32_t n = 2; n < 40; n++) { /* something is scored, and only inside the window */
        assert_int_equal(windows_plan(1000, n, 0, &w, NULL), SNUG_OK);
        assert_true(w.first_target >= 1 && w.first_target < n && w.n_scored == n - w.first_target);
    }
}

static void strided_windows(void **state) {
    windows w;
    assert_int_equal(windows_plan(1000, 256, 256, &w, NULL), SNUG_OK); /* every position */
    assert_int_equal(w.first_target, 1);
    assert_int_equal(w.n_scored, 255);
    assert_int_equal(w.count, 3);
    assert_int_equal(windows_plan(1000, 256, 64, &w, NULL), SNUG_OK);
    assert_int_equal(w.first_target, 192);
    assert_int_equal(w.n_scored, 64);
    assert_int_equal(w.count, (1000 - 256) / 64 + 1);
    assert_true((w.count - 1) * w.step + w.n_ctx <= 1000 && w.count * w.step + w.n_ctx > 1000);
}

static void refusals(void **state) {
    windows w;
    snug_error err;
    assert_int_equal(windows_plan(100, 1, 0, &w, &err), SNUG_ERR_ARG);
    assert_int_equal(windows_plan(100, 0, 0, &w, &err), SNUG_ERR_ARG);
    assert_int_equal(windows_plan(100, 64, 65, &w, &err), SNUG_ERR_ARG);
    assert_int_equal(windows_plan(63, 64, 0, &w, &err), SNUG_ERR_ARG);
    assert_non_null(strstr(err.message, "63 tokens"));
    assert_int_equal(windows_plan(64, 64, 0, &w, &err), SNUG_OK);
    assert_int_equal(w.count, 1);
}

static void student(void **state) {
    static const struct {
        uint64_t v;
        double t;
    } table[] = {{1, 12.7062}, {2, 4.3027},  {3, 3.1824},   {4, 2.7764},       {5, 2.5706},
                 {10, 2.2281}, {30, 2.0423}, {100, 1.9840}, {1000000, 1.95997}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        assert_true(fabs(student_t975(table[i].v) - table[i].t) < (table[i].v == 3 ? 0.01 : 0.002));
}

static void means(void **state) {
    const double group[4] = {1, 2, 3, 4};
    snug_stat s = clustered_mean(group, 4, 0, 400);
    assert_true(s.value == 2.5);
    assert_true(fabs(s.ci95 - 3.1824 * sqrt(5.0 / 3 / 4)) < 0.01);
    const double same[3] = {7, 7, 7};
    s = clustered_mean(same, 3, 5, 30);
    assert_true(s.value == 7 && s.ci95 == 0);
    s = clustered_mean(group, 1, 2, 100); /* one window: the spread of its tokens */
    assert_true(s.value == 1 && fabs(s.ci95 - 1.984 * 0.2) < 1e-3);
}

static void quantiles(void **state) {
    const double x[5] = {0, 1, 2, 3, 10};
    assert_true(quantile_sorted(x, 5, 0) == 0 && quantile_sorted(x, 5, 1) == 10);
    assert_true(quantile_sorted(x, 5, 0.5) == 2);
    assert_true(fabs(quantile_sorted(x, 5, 0.875) - 6.5) < 1e-12);
    assert_true(quantile_sorted(x, 1, 0.99) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_windows), cmocka_unit_test(strided_windows), cmocka_unit_test(refusals),
        cmocka_unit_test(student),         cmocka_unit_test(means),           cmocka_unit_test(quantiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
