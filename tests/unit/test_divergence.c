// rooms: eval run model kv codec kern token format linalg base
/* Divergences: exact zero, closed forms, symmetry of JS, extreme logits. */
#include "eval/divergence.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void equal_is_zero(void **state) {
    float x[257];
    for (int i = 0; i < 257; i++) x[i] = sinf((float)i * 1.7f) * 30;
    divergence d = divergence_of(x, x, 257);
    assert_true(d.kl == 0 && d.js == 0 && d.same_top == 1);
    float shifted[257]; /* a power of two: exact */
    for (int i = 0; i < 257; i++) shifted[i] = x[i];
    d = divergence_of(x, shifted, 257);
    assert_true(d.kl == 0);
}

static void closed_form(void **state) {
    const float p[2] = {0, 0}, q[2] = {(float)log(3), 0}; /* (1/2, 1/2) and (3/4, 1/4) */
    divergence d = divergence_of(p, q, 2);
    double kl = 0.5 * log(0.5 / 0.75) + 0.5 * log(0.5 / 0.25);
    double js = 0.5 * (0.5 * log(0.5 / 0.625) + 0.5 * log(0.5 / 0.375)) + 0.5 * (0.75 * log(0.75 / 0.625) + 0.25 * log(0.25 / 0.375));
    assert_true(fabs(d.kl - kl) < 1e-7);
    assert_true(fabs(d.js - js) < 1e-7);
    divergence r = divergence_of(q, p, 2);
    assert_true(fabs(d.js - r.js) < 1e-12);
    assert_true(fabs(nll_of(q, 2, 0) + log(0.75)) < 1e-7);
    assert_true(isnan(nll_of(q, 2, 5)));
}

static void extremes(void **state) {
    const float p[3] = {1e4f, 0, -1e4f}, q[3] = {-1e4f, 0, 1e4f};
    divergence d = divergence_of(p, q, 3);
    assert_true(fabs(d.kl - 2e4) < 1e-6 && fabs(d.js - M_LN2) < 1e-12 && d.same_top == 0);
    const float inf[2] = {0, -INFINITY}, fin[2] = {0, 0};
    d = divergence_of(inf, fin, 2);
    assert_true(fabs(d.kl - M_LN2) < 1e-12);
    const float nan[2] = {0, NAN};
    assert_true(isnan(divergence_of(nan, fin, 2).kl));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(equal_is_zero), cmocka_unit_test(closed_form), cmocka_unit_test(extremes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
