// rooms: base kern codec linalg solve
/* Second moments, their factor, and what solvers make of them, against sums and factorisations in plain double precision. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "solve/hessian.h"
#include "solve/solve.h"

/* Correlated activations: n_tokens x n, each a mix of a few hidden directions, noise and a few large channels. */
static float *activations(size_t n_tokens, size_t n, uint64_t seed) {
    enum { HIDDEN = 6 };
    float *x = malloc(n_tokens * n * sizeof *x), *mix = malloc(HIDDEN * n * sizeof *mix);
    rng r;
    rng_seed(&r, seed, 0);
    for (size_t i = 0; i < HIDDEN * n; i++) mix[i] = rng_normal(&r);
    for (size_t t = 0; t < n_tokens; t++) {
        float h[HIDDEN];
        for (int k = 0; k < HIDDEN; k++) h[k] = rng_normal(&r);
        for (size_t j = 0; j < n; j++) {
            float sum = 0.7f * rng_normal(&r);
            for (int k = 0; k < HIDDEN; k++) sum += h[k] * mix[(size_t)k * n + j];
            x[t * n + j] = sum * (j % 17 == 3 ? 8 : 1);
        }
    }
    free(mix);
    return x;
}

static hessian_sum sums_of(const float *x, size_t n_tokens, size_t n, int threads) {
    hessian_sum s;
    assert_int_equal(hessian_sum_open(n, &s, NULL), SNUG_OK);
    assert_int_equal(hessian_sum_add(&s, x, n_tokens / 3, n, threads, NULL), SNUG_OK);
    assert_int_equal(hessian_sum_add(&s, x + n_tokens / 3 * n, n_tokens - n_tokens / 3, n, threads, NULL), SNUG_OK);
    return s;
}

/* H is E[x x^T] + damping, R D R^T gives it back, and threads change no bit. Sizes within, at and beyond a tile. */
static void test_factor(void **state) {
    static const size_t sizes[] = {1, 7, 64, 128, 129, 172, 300};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t n = sizes[k], n_tokens = 2 * n + 700;
        float *x = activations(n_tokens, n, 10 + k);
        hessian_sum s = sums_of(x, n_tokens, n, 1), s2 = sums_of(x, n_tokens, n, 3);
        hessian h, h2;
        assert_int_equal(hessian_factor(&s, 0.01, 1, &h, NULL), SNUG_OK);
        assert_int_equal(hessian_factor(&s2, 0.01, 3, &h2, NULL), SNUG_OK);
        assert_memory_equal(h.m, h2.m, n * n * sizeof(float));
        assert_memory_equal(h.d, h2.d, n * sizeof(float));
        double mean = 0;
        for (size_t j = 0; j < n; j++) mean += hessian_sum_diagonal(&s, j) / (double)n;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j <= i; j++) {
                double sum = 0, back = 0, scale = sqrt(hessian_sum_diagonal(&s, i) * hessian_sum_diagonal(&s, j)) + mean;
                for (size_t t = 0; t < n_tokens; t++) sum += (double)x[t * n + i] * x[t * n + j];
                sum = sum / (double)n_tokens + (i == j ? 0.01 * mean : 0);
                for (size_t q = i; q < n; q++) back += (q == i ? 1.0 : h.m[i * n + q]) * h.d[q] * (q == j ? 1.0 : h.m[j * n + q]);
                if (fabs(h.m[i * n + j] - sum) > 1e-5 * scale) fail_msg("n %zu: H[%zu][%zu] is %g, expected %g", n, i, j, h.m[i * n + j], sum);
                if (fabs(back - sum) > 1e-4 * scale) fail_msg("n %zu: (R D R^T)[%zu][%zu] is %g, expected %g", n, i, j, back, sum);
            }
        hessian_close(&h), hessian_close(&h2);
        hessian_sum_close(&s), hessian_sum_close(&s2);
        free(x);
    }
}

/* Fewer tokens than inputs: damping makes up for it. Dead inputs, no inputs at all, and what is no number. */
static void test_factor_hard(void **state) {
    enum { N = 200 };
    float *x = activations(40, N, 5);
    for (size_t t = 0; t < 40; t++) x[t * N + 3] = 0, x[t * N + 4] = x[t * N + 5];
    hessian_sum s = sums_of(x, 40, N, 1);
    hessian h;
    snug_error err = {0};
    assert_int_equal(hessian_factor(&s, 0.01, 1, &h, &err), SNUG_OK);
    for (size_t k = 0; k < N; k++) assert_true(h.d[k] > 0);
    hessian_close(&h);
    assert_int_equal(hessian_factor(&s, 0, 1, &h, &err), SNUG_OK); /* singular: damping is raised */
    assert_true(h.damping > 0);
    hessian_close(&h);
    x[7] = NAN;
    assert_int_equal(hessian_sum_add(&s, x, 40, N, 1, &err), SNUG_OK);
    assert_int_equal(hessian_factor(&s, 0.01, 1, &h, &err), SNUG_ERR_NUMERIC);
    hessian_sum_close(&s);
    memset(x, 0, 40 * N * sizeof *x);
    s = sums_of(x, 40, N, 1);
    assert_int_equal(hessian_factor(&s, 0.01, 1, &h, &err), SNUG_ERR_NUMERIC);
    hessian_sum_close(&s);
    free(x);
}

/* The loss of an error is the mean square of what it does to the activations. */
static void test_loss(void **state) {
    enum { N = 172, T = 900, ROWS = 5 };
    float *x = activations(T, N, 6), *e = activations(ROWS, N, 7);
    hessian_sum s = sums_of(x, T, N, 2);
    hessian h;
    double loss[ROWS], ridge = 0;
    assert_int_equal(hessian_factor(&s, 0.01, 2, &h, NULL), SNUG_OK);
    for (size_t j = 0; j < N; j++) ridge += 0.01 * hessian_sum_diagonal(&s, j) / N;
    assert_int_equal(hessian_loss(&h, e, N, ROWS, loss, NULL), SNUG_OK);
    for (size_t r = 0; r < ROWS; r++) {
        double want = 0, square = 0;
        for (size_t t = 0; t < T; t++) {
            double y = 0;
            for (size_t j = 0; j < N; j++) y += (double)e[r * N + j] * x[t * N + j];
            want += y * y / T;
        }
        for (size_t j = 0; j < N; j++) square += (double)e[r * N + j] * e[r * N + j];
        assert_true(fabs(loss[r] - want - ridge * square) < 1e-5 * (want + ridge * square));
    }
    hessian_close(&h);
    hessian_sum_close(&s);
    free(x), free(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_factor),
        cmocka_unit_test(test_factor_hard),
        cmocka_unit_test(test_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
