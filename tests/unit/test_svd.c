// rooms: base kern codec linalg solve
/* Low rank in the metric of second moments, against the best that there is: the eigenvalues of E H E^T in double precision. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "activations.h"
#include "codec/codecs.h"
#include "linalg/linalg.h"
#include "solve/solve.h"

typedef enum inputs { CORRELATED, DEAD, SINGULAR, HUGE_CHANNEL, N_INPUTS } inputs;
typedef enum weights { GAUSSIAN, DECAYING, ROUNDED, N_WEIGHTS } weights;

static hessian moments(size_t n, inputs kind, uint64_t seed) {
    size_t n_tokens = kind == SINGULAR ? n / 3 + 1 : 3 * n + 50;
    float *x = activations(n_tokens, n, seed);
    for (size_t t = 0; t < n_tokens; t++)
        for (size_t j = 0; j < n; j++) {
            if (kind == DEAD && j % 5 == 1) x[t * n + j] = 0;
            if (kind == HUGE_CHANNEL && j == n / 2) x[t * n + j] *= 1000;
        }
    hessian_sum s;
    hessian h;
    assert_int_equal(hessian_sum_open(n, &s, NULL), SNUG_OK);
    assert_int_equal(hessian_sum_add(&s, x, n_tokens, n, 2, NULL), SNUG_OK);
    assert_int_equal(hessian_factor(&s, kind == SINGULAR ? 1e-5 : 0.01, 0, 2, &h, NULL), SNUG_OK);
    hessian_sum_close(&s);
    free(x);
    return h;
}

/* Weights, or what int2 leaves of them. */
static float *delta_of(size_t rows, size_t cols, weights kind, uint64_t seed) {
    float *w = malloc(rows * cols * sizeof *w), *hat = malloc(rows * cols * sizeof *hat);
    rng r;
    rng_seed(&r, seed, 1);
    for (size_t i = 0; i < rows * cols; i++) w[i] = 0.02f * rng_normal(&r);
    for (size_t i = 0; kind == DECAYING && i < rows; i++) /* rows that share directions of falling size */
        for (size_t j = 0; j < cols; j++)
            for (size_t k = 0; k < 40; k++)
                w[i * cols + j] += 0.3f / (float)(k + 1) * sinf((float)((i + 1) * (k + 3)) * 0.7f) * cosf((float)(j * (k + 1)) * 0.3f);
    if (kind == ROUNDED) {
        comp c;
        assert_true(comp_parse("int2g64", &c));
        uint8_t *dst = malloc((size_t)comp_term_bytes(&c, 0, rows, cols));
        assert_int_equal(solve_rtn(c.term[0].codec, c.term[0].params, w, cols, rows, cols, NULL, 0, dst, hat, NULL), SNUG_OK);
        for (size_t i = 0; i < rows * cols; i++) w[i] -= hat[i];
        free(dst);
    }
    free(hat);
    return w;
}

static double loss_of(const hessian *h, const float *e, size_t rows) {
    double *loss = malloc(rows * sizeof *loss), sum = 0;
    assert_int_equal(hessian_loss(h, e, h->n, rows, loss, NULL), SNUG_OK);
    for (size_t r = 0; r < rows; r++) sum += loss[r];
    free(loss);
    return sum;
}

/* best[r]: the least loss of rank r, 0 <= r <= rows. */
static double *least_losses(const hessian *h, const float *w, size_t rows) {
    size_t n = h->n;
    double *g = calloc(rows * rows, sizeof *g), *wh = malloc(n * sizeof *wh), *values = malloc(rows * sizeof *values);
    double *vectors = malloc(rows * rows * sizeof *vectors), *best = malloc((rows + 1) * sizeof *best);
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < n; j++) {
            wh[j] = 0;
            for (size_t k = 0; k < n; k++) wh[j] += (double)(j > k ? h->m[j * n + k] : h->m[k * n + j]) * w[i * n + k];
        }
        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < n; j++) g[i * rows + r] += wh[j] * w[r * n + j];
    }
    assert_int_equal(linalg_eigen_top(rows, g, rows, values, vectors, NULL), SNUG_OK);
    best[rows] = 0;
    for (size_t r = rows; r-- > 0;) best[r] = best[r + 1] + fmax(values[r], 0);
    free(g), free(wh), free(values), free(vectors);
    return best;
}

/* The payload's loss; takes it away from w into e. */
static double left_by(codec_params p, const uint8_t *payload, const hessian *h, const float *w, size_t rows, float *e) {
    wt t;
    assert_int_equal(wt_open(&codec_lowrank, p, rows, h->n, payload, codec_lowrank.bytes(p, rows, h->n), &t, NULL), SNUG_OK);
    codec_lowrank.decode(&t, 0, rows, e, h->n);
    for (size_t i = 0; i < rows * h->n; i++) e[i] = w[i] - e[i];
    return loss_of(h, e, rows);
}

static const size_t shapes[][2] = {{172, 64}, {8, 300}, {1, 7}, {64, 172}, {90, 90}, {33, 1}};

/* What the stored form may lose, as a share of what the best factors of that rank hold. Two bits are for the few largest directions;
 * vectors of a few numbers have very different ones. */
static double lost_by(unsigned bits, size_t rows, size_t cols, size_t rank) {
    size_t least = rows < cols ? rows : cols;
    if (bits == 0 || bits == 8) return bits ? 1e-3 : 0;
    return bits == 4 ? (cols > 8 ? 0.03 : 0.3) : 4 * rank <= least ? 0.2 : 1;
}

static void check(size_t rows, size_t cols, inputs in, weights kind, uint16_t bits) {
    hessian h = moments(cols, in, 3 + rows);
    float *w = delta_of(rows, cols, kind, 7 + cols), *e = malloc(rows * cols * sizeof *e), *a = malloc(cols * sizeof *a);
    double *best = least_losses(&h, w, rows), last = INFINITY;
    for (size_t j = 0; j < cols; j++) a[j] = h.m[j * cols + j];
    for (uint16_t rank = 1; rank <= 128; rank *= 2) {
        codec_params p = {.rank = rank, .bits = bits};
        size_t n = (size_t)codec_lowrank.bytes(p, rows, cols);
        uint8_t *one = malloc(n), *three = malloc(n), *diagonal = malloc(n);
        assert_int_equal(solve_svd_hessian(p, w, cols, rows, cols, &h, 1, one, NULL), SNUG_OK);
        assert_int_equal(solve_svd_hessian(p, w, cols, rows, cols, &h, 3, three, NULL), SNUG_OK);
        assert_int_equal(solve_svd(p, w, cols, rows, cols, a, 2, diagonal, NULL), SNUG_OK);
        assert_memory_equal(one, three, n);
        double loss = left_by(p, one, &h, w, rows, e), plain = left_by(p, diagonal, &h, w, rows, e);
        double least = best[rank < rows ? rank : rows];
        double fine = 2e-5 * best[0] + lost_by(bits, rows, cols, rank) * (best[0] - least); /* 2e-5: what bf16 loses */
        if (!(loss <= 1.01 * least + fine && loss <= plain + fine && loss <= last + fine && loss <= best[0]))
            fail_msg("%zux%zu, inputs %d, weights %d, rank %d, bits %d: %g, least %g, diagonal %g, lower rank %g, without %g", rows, cols,
                     in, kind, rank, bits, loss, least, plain, last, best[0]);
        last = loss;
        free(one), free(three), free(diagonal);
    }
    free(w), free(e), free(a), free(best);
    hessian_close(&h);
}

static void test_best(void **state) {
    static const uint16_t bits[] = {0, 8, 4, 2};
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++)
        for (inputs in = 0; in < N_INPUTS; in++)
            for (weights kind = 0; kind < N_WEIGHTS; kind++)
                for (size_t b = 0; b < (kind == ROUNDED ? sizeof bits / sizeof *bits : 1); b++)
                    check(shapes[k][0], shapes[k][1], in, kind, bits[b]);
}

/* Nothing is left: nothing is stored, and no number is NaN. A wrong width and weights that are no numbers are refused. */
static void test_nothing(void **state) {
    enum { ROWS = 20, COLS = 40 };
    hessian h = moments(COLS, CORRELATED, 1);
    codec_params p = {.rank = 4};
    uint8_t dst[2 * 4 * (ROWS + COLS)];
    float w[ROWS * COLS] = {0}, e[ROWS * COLS];
    snug_error err = {0};
    assert_int_equal(solve_svd_hessian(p, w, COLS, ROWS, COLS, &h, 1, dst, &err), SNUG_OK);
    assert_true(left_by(p, dst, &h, w, ROWS, e) == 0);
    assert_int_equal(solve_svd_hessian(p, w, COLS, ROWS, COLS - 1, &h, 1, dst, &err), SNUG_ERR_ARG);
    w[18 * COLS + 5] = NAN;
    assert_int_equal(solve_svd_hessian(p, w, COLS, ROWS, COLS, &h, 1, dst, &err), SNUG_ERR_NUMERIC);
    assert_non_null(strstr(err.message, "row 18"));
    hessian_close(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_best), cmocka_unit_test(test_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
