// rooms: base kern codec linalg solve
/* Additive codes: the loss falls from turn to turn, more books lose less, the metric of the inputs counts, and threads change nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "codec/codecs.h"
#include "solve/solve.h"

enum { ROWS = 96, COLS = 136, ROUNDS = 4 };

static float *gaussian(size_t n, uint64_t seed) {
    float *w = malloc(n * sizeof *w);
    rng r;
    rng_seed(&r, seed, n);
    for (size_t i = 0; i < n; i++) w[i] = 0.02f * rng_normal(&r);
    return w;
}

/* Inputs that go together: a few directions carry most of their energy. */
static hessian correlated(void) {
    enum { TOKENS = 400, WAYS = 12 };
    float *way = gaussian(WAYS * COLS, 7), *x = malloc(TOKENS * COLS * sizeof *x);
    rng r;
    rng_seed(&r, 8, 0);
    for (size_t t = 0; t < TOKENS; t++) {
        for (size_t c = 0; c < COLS; c++) x[t * COLS + c] = 0.2f * rng_normal(&r);
        for (size_t k = 0; k < WAYS; k++) {
            const float by = 50 * rng_normal(&r);
            for (size_t c = 0; c < COLS; c++) x[t * COLS + c] += by * way[k * COLS + c];
        }
    }
    hessian_sum sum;
    hessian h;
    assert_int_equal(hessian_sum_open(COLS, &sum, NULL), SNUG_OK);
    assert_int_equal(hessian_sum_add(&sum, x, TOKENS, COLS, 1, NULL), SNUG_OK);
    assert_int_equal(hessian_factor(&sum, 0.01, 0, 1, &h, NULL), SNUG_OK);
    hessian_sum_close(&sum);
    free(way), free(x);
    return h;
}

static double loss_of(codec_params p, const uint8_t *payload, const hessian *h, const float *w) {
    wt open;
    float *e = malloc(ROWS * COLS * sizeof *e);
    double loss[ROWS], sum = 0;
    assert_int_equal(wt_open(&codec_aq, p, ROWS, COLS, payload, codec_aq.bytes(p, ROWS, COLS), &open, NULL), SNUG_OK);
    codec_aq.decode(&open, 0, ROWS, e, COLS);
    for (size_t i = 0; i < ROWS * COLS; i++) e[i] = w[i] - e[i];
    assert_int_equal(hessian_loss(h, e, COLS, ROWS, loss, NULL), SNUG_OK);
    for (size_t r = 0; r < ROWS; r++) sum += loss[r];
    free(e);
    return sum;
}

static void test_turns(void **state) {
    float *w = gaussian(ROWS * COLS, 3);
    hessian h = correlated();
    double before = INFINITY;
    for (uint16_t k = 1; k <= 4; k++) {
        const codec_params p = {.rank = k};
        const size_t n = (size_t)codec_aq.bytes(p, ROWS, COLS);
        uint8_t *one = malloc(n), *three = malloc(n), *plain = malloc(n);
        double left[ROUNDS + 1];
        assert_int_equal(solve_aq(p, w, COLS, ROWS, COLS, NULL, &h, ROUNDS, 1, left, one, NULL), SNUG_OK);
        assert_int_equal(solve_aq(p, w, COLS, ROWS, COLS, NULL, &h, ROUNDS, 3, NULL, three, NULL), SNUG_OK);
        assert_int_equal(solve_aq(p, w, COLS, ROWS, COLS, NULL, NULL, ROUNDS, 1, NULL, plain, NULL), SNUG_OK);
        assert_memory_equal(one, three, n);
        for (int i = 1; i < ROUNDS; i++)
            if (left[i] > left[i - 1]) fail_msg("aq%u: %g, then %g", k, left[i - 1], left[i]);
        const double stored = loss_of(p, one, &h, w), without = loss_of(p, plain, &h, w);
        assert_true(fabs(stored - left[ROUNDS]) < 1e-3 * stored);
        assert_true(stored < before && stored < 0.8 * without);
        before = stored;
        free(one), free(three), free(plain);
    }
    hessian_close(&h);
    free(w);
}

/* Any bytes of books are sums modulo 256. */
static void test_sums_wrap(void **state) {
    const codec_params p = {.rank = 4};
    const size_t n = (size_t)codec_aq.bytes(p, 1, 8);
    uint8_t *payload = calloc(n, 1);
    wt open;
    float w[8];
    for (size_t k = 0; k < 4; k++) memset(payload + 2048 * k, 200, 2048);
    payload[4 * 2048] = 0x80, payload[4 * 2048 + 1] = 0x3f; /* d = 1 */
    assert_int_equal(wt_open(&codec_aq, p, 1, 8, payload, n, &open, NULL), SNUG_OK);
    codec_aq.decode(&open, 0, 1, w, 8);
    for (size_t c = 0; c < 8; c++) assert_true(w[c] == 800 % 256 - 128);
    free(payload);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_turns), cmocka_unit_test(test_sums_wrap)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
