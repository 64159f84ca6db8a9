// rooms: base kern codec linalg solve
/* Dictionaries: rows that are few atoms each are found again where low rank of the same bytes cannot, turns lower the loss, and what is said to be
 * left is what the payload leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "activations.h"
#include "codec/codecs.h"
#include "solve/solve.h"

enum { ROUNDS = 10 };

static hessian moments(size_t n) {
    float *x = activations(3 * n + 50, n, 5);
    hessian_sum s;
    hessian h;
    assert_int_equal(hessian_sum_open(n, &s, NULL), SNUG_OK);
    assert_int_equal(hessian_sum_add(&s, x, 3 * n + 50, n, 2, NULL), SNUG_OK);
    assert_int_equal(hessian_factor(&s, 0.01, 0, 2, &h, NULL), SNUG_OK);
    hessian_sum_close(&s);
    free(x);
    return h;
}

/* Rows of `each` of n_atoms random directions, and some noise. n_atoms 0: noise alone. */
static float *sparse_rows(size_t rows, size_t cols, size_t n_atoms, size_t each, float noise) {
    float *w = malloc(rows * cols * sizeof *w), *atom = malloc((n_atoms + 1) * cols * sizeof *atom);
    rng r;
    rng_seed(&r, 11, rows);
    for (size_t i = 0; i < n_atoms * cols; i++) atom[i] = rng_normal(&r);
    for (size_t i = 0; i < rows; i++) {
        for (size_t c = 0; c < cols; c++) w[i * cols + c] = noise * rng_normal(&r);
        for (size_t k = 0; k < each; k++) {
            const float *from = atom + rng_below(&r, (uint32_t)n_atoms) * cols, x = rng_normal(&r);
            for (size_t c = 0; c < cols; c++) w[i * cols + c] += x * from[c];
        }
    }
    free(atom);
    return w;
}

/* What a payload leaves of w. */
static double left_by(const snug_codec *codec, codec_params p, const uint8_t *payload, const hessian *h, const float *w, size_t rows, size_t cols) {
    float *e = malloc(rows * cols * sizeof *e);
    double *loss = calloc(rows, sizeof *loss), sum = 0;
    wt t;
    assert_int_equal(wt_open(codec, p, rows, cols, payload, codec->bytes(p, rows, cols), &t, NULL), SNUG_OK);
    codec->decode(&t, 0, rows, e, cols);
    for (size_t i = 0; i < rows * cols; i++) {
        e[i] = w[i] - e[i];
        if (!h) loss[i / cols] += (double)e[i] * e[i];
    }
    if (h) assert_int_equal(hessian_loss(h, e, cols, rows, loss, NULL), SNUG_OK);
    for (size_t r = 0; r < rows; r++) sum += loss[r];
    free(e), free(loss);
    return sum;
}

/* left[0 ..= ROUNDS], and of the whole. Threads change no bit. */
static uint8_t *solved(codec_params p, const hessian *h, const float *w, size_t rows, size_t cols, double left[ROUNDS + 1]) {
    const size_t n = (size_t)codec_dict.bytes(p, rows, cols);
    uint8_t *one = malloc(n), *three = malloc(n);
    assert_int_equal(solve_dict(p, w, cols, rows, cols, NULL, h, ROUNDS, 1, left, one, NULL), SNUG_OK);
    assert_int_equal(solve_dict(p, w, cols, rows, cols, NULL, h, ROUNDS, 3, NULL, three, NULL), SNUG_OK);
    assert_memory_equal(one, three, n);
    free(three);
    return one;
}

static void test_union_of_spaces(void **state) {
    enum { ROWS = 300, COLS = 120, ATOMS = 60, EACH = 3 };
    const codec_params p = {.rank = ATOMS, .group = EACH, .bits = 8};
    float *w = sparse_rows(ROWS, COLS, ATOMS, EACH, 0.01f);
    hessian h = moments(COLS);
    for (int with = 0; with < 2; with++) {
        const hessian *metric = with ? &h : NULL;
        double left[ROUNDS + 1], all = 0, svd;
        uint8_t *payload = solved(p, metric, w, ROWS, COLS, left);
        codec_params low = {.bits = 8, .rank = 1};
        while (codec_lowrank.bytes(low, ROWS, COLS) < codec_dict.bytes(p, ROWS, COLS)) low.rank++;
        uint8_t *other = malloc((size_t)codec_lowrank.bytes(low, ROWS, COLS)), *zeros = calloc((size_t)codec_dict.bytes(p, ROWS, COLS), 1);
        if (with) assert_int_equal(solve_svd_hessian(low, w, COLS, ROWS, COLS, &h, 1, other, NULL), SNUG_OK);
        else assert_int_equal(solve_svd(low, w, COLS, ROWS, COLS, NULL, 1, other, NULL), SNUG_OK);
        all = left_by(&codec_dict, p, zeros, metric, w, ROWS, COLS);
        svd = left_by(&codec_lowrank, low, other, metric, w, ROWS, COLS);
        const double stored = left_by(&codec_dict, p, payload, metric, w, ROWS, COLS);
        assert_true(fabs(stored - left[ROUNDS]) <= 1e-3 * stored + 1e-6 * all);
        if (!(left[ROUNDS - 1] < 0.5 * left[0] && (with || stored < 0.25 * svd))) /* these inputs have low rank themselves */
            fail_msg("%g of %g, low rank %g, first turn %g", stored, all, svd, left[0]);
        free(payload), free(other), free(zeros);
    }
    free(w);
    hessian_close(&h);
}

/* Of anything, in shapes with more atoms than rows too: turns do not raise the loss, rounding does not make it more than without. */
static void test_turns(void **state) {
    static const uint16_t shapes[][4] = {{64, 96, 16, 4}, {200, 40, 50, 8}, {10, 30, 16, 2}, {1, 7, 3, 3}, {33, 1, 2, 1}, {90, 64, 90, 1}};
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++)
        for (uint16_t bits = 2; bits <= 8; bits += 3) {
            const size_t rows = shapes[k][0], cols = shapes[k][1];
            const codec_params p = {.rank = shapes[k][2], .group = shapes[k][3], .bits = bits};
            float *w = sparse_rows(rows, cols, 0, 0, 0.02f);
            hessian h = moments(cols);
            double left[ROUNDS + 1], loss = 0;
            uint8_t *payload = solved(p, &h, w, rows, cols, left), *zeros = calloc((size_t)codec_dict.bytes(p, rows, cols), 1);
            const double all = left_by(&codec_dict, p, zeros, &h, w, rows, cols);
            loss = left_by(&codec_dict, p, payload, &h, w, rows, cols);
            for (int i = 0; i + 1 < ROUNDS; i++)
                if (!(left[i + 1] <= left[i] * 1.001 + 1e-6 * all))
                    fail_msg("%zux%zu: turn %d has %g after %g of %g", rows, cols, i + 1, left[i + 1], left[i], all);
            if (!(loss <= all * 1.0001 && fabs(loss - left[ROUNDS]) <= 1e-3 * loss + 1e-5 * all))
                fail_msg("%zux%zu: %g, said %g, of %g", rows, cols, loss, left[ROUNDS], all);
            free(w), free(payload), free(zeros);
            hessian_close(&h);
        }
}

/* Nothing to store is stored as nothing; a wrong width and weights that are no numbers are refused. */
static void test_nothing(void **state) {
    enum { ROWS = 20, COLS = 40 };
    const codec_params p = {.rank = 8, .group = 2, .bits = 4};
    hessian h = moments(COLS);
    float w[ROWS * COLS] = {0};
    double left[ROUNDS + 1];
    snug_error err = {0};
    uint8_t *payload = solved(p, &h, w, ROWS, COLS, left);
    assert_true(left_by(&codec_dict, p, payload, &h, w, ROWS, COLS) == 0);
    assert_int_equal(solve_dict(p, w, COLS, ROWS, COLS - 1, NULL, &h, 1, 1, NULL, payload, &err), SNUG_ERR_ARG);
    w[18 * COLS + 5] = NAN;
    assert_int_equal(solve_dict(p, w, COLS, ROWS, COLS, NULL, &h, 1, 1, NULL, payload, &err), SNUG_ERR_NUMERIC);
    assert_non_null(strstr(err.message, "row 18"));
    free(payload);
    hessian_close(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_union_of_spaces), cmocka_unit_test(test_turns), cmocka_unit_test(test_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
