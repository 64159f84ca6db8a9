// rooms: base kern codec linalg solve
/* Second moments, their factor, and what solvers make of them, against sums and factorisations in plain double precision. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "activations.h"
#include "codec/transform.h"
#include "solve/hessian.h"
#include "solve/solve.h"

static hessian_sum sums_of(const float *x, size_t n_tokens, size_t n, int threads) {
    hessian_sum s;
    assert_int_equal(hessian_sum_open(n, &s, NULL), SNUG_OK);
    assert_int_equal(hessian_sum_add(&s, x, n_tokens / 3, n, threads, NULL), SNUG_OK);
    assert_int_equal(hessian_sum_add(&s, x + n_tokens / 3 * n, n_tokens - n_tokens / 3, n, threads, NULL), SNUG_OK);
    return s;
}

/* Whole groups, each as it was, the largest sums of the diagonal first; what is no whole group stays behind them. */
static void check_order(const hessian *h, size_t group) {
    double last = INFINITY;
    bool *seen = calloc(h->n, sizeof *seen);
    for (size_t k = 0; k < h->n; k++) {
        if (k % group == 0) {
            double sum = 0;
            assert_true(h->order[k] % group == 0);
            for (size_t i = k; i < h->n && i < k + group; i++) sum += h->m[h->order[i] * (h->n + 1)];
            assert_true(h->n - k < group || sum <= last * (1 + 1e-6));
            last = sum;
        } else assert_true(h->order[k] == h->order[k - 1] + 1);
        assert_true(h->order[k] < h->n && !seen[h->order[k]]);
        seen[h->order[k]] = true;
    }
    free(seen);
}

/* H is E[x x^T] + damping, R D R^T gives it back, and threads change no bit. Sizes within, at and beyond a tile. */
static void test_factor(void **state) {
    static const size_t sizes[] = {1, 7, 64, 128, 129, 172, 300};
    for (size_t k = 0; k < 2 * sizeof sizes / sizeof *sizes; k++) {
        size_t n = sizes[k / 2], n_tokens = 2 * n + 700, group = k % 2 ? n > 128 ? 32 : 8 : 0;
        float *x = activations(n_tokens, n, 10 + k);
        hessian_sum s = sums_of(x, n_tokens, n, 1), s2 = sums_of(x, n_tokens, n, 3);
        hessian h, h2;
        assert_int_equal(hessian_factor(&s, 0.01, group, 1, &h, NULL), SNUG_OK);
        assert_int_equal(hessian_factor(&s2, 0.01, group, 3, &h2, NULL), SNUG_OK);
        if (group) check_order(&h, group);
        else assert_null(h.order);
        assert_memory_equal(h.m, h2.m, n * n * sizeof(float));
        assert_memory_equal(h.d, h2.d, n * sizeof(float));
        double mean = 0;
        for (size_t j = 0; j < n; j++) mean += hessian_sum_diagonal(&s, j) / (double)n;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j <= i; j++) {
                double sum = 0, back = 0, scale = sqrt(hessian_sum_diagonal(&s, i) * hessian_sum_diagonal(&s, j)) + mean;
                for (size_t t = 0; t < n_tokens; t++) sum += (double)x[t * n + i] * x[t * n + j];
                sum = sum / (double)n_tokens + (i == j ? 0.01 * mean : 0);
                if (fabs(h.m[i * n + j] - sum) > 1e-5 * scale) fail_msg("n %zu: H[%zu][%zu] is %g, expected %g", n, i, j, h.m[i * n + j], sum);
                size_t a = i, b = j; /* where R has them */
                for (size_t q = 0; h.order && q < n; q++) a = h.order[q] == i ? q : a, b = h.order[q] == j ? q : b;
                for (size_t q = a > b ? a : b; q < n; q++)
                    back += (q == a ? 1.0 : h.m[a * n + q]) * h.d[h.order ? h.order[q] : q] * (q == b ? 1.0 : h.m[b * n + q]);
                if (fabs(back - sum) > 1e-4 * scale) fail_msg("n %zu: (R D R^T)[%zu][%zu] is %g, expected %g", n, i, j, back, sum);
            }
        hessian_close(&h), hessian_close(&h2);
        hessian_sum_close(&s), hessian_sum_close(&s2);
        free(x);
    }
}

/* The sums of transformed activations, from the sums of plain ones. */
static void test_transform(void **state) {
    static const size_t sizes[] = {16, 48, 128, 144, 384, 688};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        const size_t n = sizes[k], n_tokens = 300;
        float *x = activations(n_tokens, n, 30 + k), *y = malloc(n_tokens * n * sizeof *y);
        for (size_t t = 0; t < n_tokens; t++) transform_apply(TRANSFORM_HADAMARD, n, x + t * n, y + t * n);
        hessian_sum s = sums_of(x, n_tokens, n, 1), s2 = sums_of(y, n_tokens, n, 1);
        hessian_sum_transform(&s, TRANSFORM_HADAMARD, 2);
        hessian h, h2;
        assert_int_equal(hessian_factor(&s, 0.01, 0, 1, &h, NULL), SNUG_OK);
        assert_int_equal(hessian_factor(&s2, 0.01, 0, 1, &h2, NULL), SNUG_OK);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j <= i; j++)
                if (fabsf(h.m[i * n + j] - h2.m[i * n + j]) > 2e-5f * sqrtf(h2.m[i * n + i] * h2.m[j * n + j]))
                    fail_msg("n %zu: H[%zu][%zu] is %g, expected %g", n, i, j, h.m[i * n + j], h2.m[i * n + j]);
        hessian plain;
        hessian_sum s3 = sums_of(x, n_tokens, n, 1); /* damping is added in every basis alike, so its factor compares */
        assert_int_equal(hessian_factor(&s3, 0.01, 0, 1, &plain, NULL), SNUG_OK);
        float *spread = malloc(n * sizeof *spread);
        solve_spread(n, plain.d, true, spread);
        const size_t block = transform_block(n);
        for (size_t b = 0; b < n; b += block) { /* what solve_spread says of D: each block's product stays */
            double before = 0, after = 0;
            for (size_t j = b; j < b + block; j++) before += log((double)spread[j]), after += log((double)h.d[j]);
            if (fabs(before - after) > 0.01 * (double)block) fail_msg("n %zu: block %zu: log D %g, expected %g", n, b, after, before);
        }
        hessian_close(&h), hessian_close(&h2), hessian_close(&plain);
        hessian_sum_close(&s), hessian_sum_close(&s2), hessian_sum_close(&s3);
        free(x), free(y), free(spread);
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
    assert_int_equal(hessian_factor(&s, 0.01, 0, 1, &h, &err), SNUG_OK);
    for (size_t k = 0; k < N; k++) assert_true(h.d[k] > 0);
    hessian_close(&h);
    assert_int_equal(hessian_factor(&s, 0, 0, 1, &h, &err), SNUG_OK); /* singular: damping is raised */
    assert_true(h.damping > 0);
    hessian_close(&h);
    x[7] = NAN;
    assert_int_equal(hessian_sum_add(&s, x, 40, N, 1, &err), SNUG_OK);
    assert_int_equal(hessian_factor(&s, 0.01, 0, 1, &h, &err), SNUG_ERR_NUMERIC);
    hessian_sum_close(&s);
    memset(x, 0, 40 * N * sizeof *x);
    s = sums_of(x, 40, N, 1);
    assert_int_equal(hessian_factor(&s, 0.01, 0, 1, &h, &err), SNUG_ERR_NUMERIC);
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
    assert_int_equal(hessian_factor(&s, 0.01, 0, 2, &h, NULL), SNUG_OK);
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

static double total_loss(const hessian *h, const float *w, const float *hat, size_t rows) {
    float *e = malloc(rows * h->n * sizeof *e);
    double *loss = malloc(rows * sizeof *loss), sum = 0;
    for (size_t i = 0; i < rows * h->n; i++) e[i] = w[i] - hat[i];
    assert_int_equal(hessian_loss(h, e, h->n, rows, loss, NULL), SNUG_OK);
    for (size_t r = 0; r < rows; r++) sum += loss[r];
    free(e), free(loss);
    return sum;
}

/* For every codec with steps: the payload decodes to w_hat, the loss is below that of rounding to nearest with the diagonal's
 * importances, and rows taken apart give the same bytes. */
static void test_ldlq_codecs(void **state) {
    static const char *const names[] = {"int2g64", "int3g32", "int4g128", "int8g64", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs", "q4_0", "iq4_nl",
                                        "sp16b3g64", "terng64", "gs5b3g32", "tq2_0"};
    static const size_t widths[] = {172, 64, 300, 512};
    enum { ROWS = 70, T = 900, N_NAMES = sizeof names / sizeof *names };
    for (size_t k = 0; k < 2 * N_NAMES; k++) { /* columns in order, and by groups */
        size_t cols = widths[k % 4];
        float *x = activations(T, cols, 20 + k % N_NAMES), *w = activations(ROWS, cols, 40 + k % N_NAMES), *hat = malloc(ROWS * cols * 4), *rtn = malloc(ROWS * cols * 4), *diagonal = malloc(cols * 4);
        hessian_sum s = sums_of(x, T, cols, 1);
        hessian h;
        comp c;
        assert_true(comp_parse(names[k % N_NAMES], &c));
        const snug_codec *codec = c.term[0].codec;
        codec_params p = c.term[0].params;
        assert_int_equal(hessian_factor(&s, 0.01, k < N_NAMES ? 0 : codec->group_cols(p), 1, &h, NULL), SNUG_OK);
        for (size_t j = 0; j < cols; j++) diagonal[j] = h.m[j * cols + j];
        size_t n = (size_t)codec->bytes(p, ROWS, cols);
        uint8_t *dst = malloc(n), *apart = malloc(n);
        assert_int_equal(solve_rtn(codec, p, w, cols, ROWS, cols, diagonal, SNUG_EFFORT_NORMAL, apart, rtn, NULL), SNUG_OK);
        assert_int_equal(solve_ldlq(WT_ROWS, codec, p, w, cols, ROWS, cols, &h, SNUG_EFFORT_NORMAL, dst, hat, NULL), SNUG_OK);
        double before = total_loss(&h, w, rtn, ROWS), after = total_loss(&h, w, hat, ROWS);
        if (!(after < before)) fail_msg("%s: %g after, %g before", names[k % N_NAMES], after, before);
        print_message("%s %zu%s: %.3f\n", names[k % N_NAMES], cols, k < N_NAMES ? "" : ", groups ordered", after / before);
        wt t;
        assert_int_equal(wt_open(codec, p, ROWS, cols, dst, n, &t, NULL), SNUG_OK);
        codec->decode(&t, 0, ROWS, rtn, cols);
        assert_memory_equal(rtn, hat, ROWS * cols * 4);
        size_t at = (size_t)codec->bytes(p, 64, cols);
        assert_int_equal(solve_ldlq(WT_ROWS, codec, p, w, cols, 64, cols, &h, SNUG_EFFORT_NORMAL, apart, NULL, NULL), SNUG_OK);
        assert_int_equal(solve_ldlq(WT_ROWS, codec, p, w + 64 * cols, cols, ROWS - 64, cols, &h, SNUG_EFFORT_NORMAL, apart + at, NULL, NULL), SNUG_OK);
        assert_memory_equal(apart, dst, n);
        hessian_close(&h);
        hessian_sum_close(&s);
        free(x), free(w), free(hat), free(rtn), free(diagonal), free(dst), free(apart);
    }
}

/* Whatever the inputs are like, few or many, correlated or not: with feedback the loss of a matrix is not above that without. */
static void test_ldlq_never_worse(void **state) {
    static const char *const names[] = {"int2g32", "int3g64", "int5g128", "q2_k", "q3_k", "q4_k", "iq4_xs", "q4_0", "terng64", "sp16b3g64"};
    rng r;
    rng_seed(&r, 77, 0);
    double worst = 0;
    for (int k = 0; k < 150; k++) {
        enum { ROWS = 16 };
        const char *name = names[k % 10];
        size_t cols = 8 + rng_below(&r, 200), n_tokens = 4 + rng_below(&r, 600);
        float *x = activations(n_tokens, cols, 1000 + (uint64_t)k), *w = malloc(ROWS * cols * 4), *hat = malloc(ROWS * cols * 4), *rtn = malloc(ROWS * cols * 4), *diagonal = malloc(cols * 4);
        float mix = k % 3 == 0 ? 0 : 1; /* a third of them: independent inputs */
        for (size_t i = 0; i < n_tokens * cols; i++) x[i] = mix * x[i] + (mix > 0 ? 0 : rng_normal(&r));
        for (size_t i = 0; i < ROWS * cols; i++) w[i] = rng_normal(&r) * (rng_below(&r, 50) ? 0.02f : 0.3f);
        hessian_sum s = sums_of(x, n_tokens, cols, 1);
        hessian h;
        comp c;
        assert_true(comp_parse(name, &c));
        const size_t group = c.term[0].codec->group_cols(c.term[0].params);
        assert_int_equal(hessian_factor(&s, 0.01, k / 10 % 2 ? 0 : group > 32 ? group : 32, 1, &h, NULL), SNUG_OK);
        for (size_t j = 0; j < cols; j++) diagonal[j] = h.m[j * cols + j];
        uint8_t *dst = malloc((size_t)c.term[0].codec->bytes(c.term[0].params, ROWS, cols));
        assert_int_equal(solve_rtn(c.term[0].codec, c.term[0].params, w, cols, ROWS, cols, diagonal, SNUG_EFFORT_NORMAL, dst, rtn, NULL), SNUG_OK);
        assert_int_equal(solve_ldlq(WT_ROWS, c.term[0].codec, c.term[0].params, w, cols, ROWS, cols, &h, SNUG_EFFORT_NORMAL, dst, hat, NULL), SNUG_OK);
        double ratio = total_loss(&h, w, hat, ROWS) / total_loss(&h, w, rtn, ROWS);
        if (ratio > worst) worst = ratio;
        if (ratio > 1) print_message("%s, %zu inputs, %zu tokens: %.4f of the loss without feedback\n", name, cols, n_tokens, ratio);
        hessian_close(&h);
        hessian_sum_close(&s);
        free(x), free(w), free(hat), free(rtn), free(diagonal), free(dst);
    }
    print_message("largest share of the loss without feedback: %.4f\n", worst);
    assert_true(worst <= 1);
}

/* One row, one scale, few columns: the exact minimum over all codes is at most a little below what feedback and sweeps find. */
static void test_ldlq_brute(void **state) {
    enum { N = 32, FREE = 5, T = 400 };
    double worst = 1, sum = 0;
    int tries = 60;
    for (int k = 0; k < tries; k++) {
        float *x = activations(T, N, 100 + (uint64_t)k), *w = activations(1, N, 300 + (uint64_t)k), hat[N], line[N];
        hessian_sum s = sums_of(x, T, N, 1);
        hessian h;
        comp c;
        uint8_t dst[64];
        assert_int_equal(hessian_factor(&s, 0.01, 0, 1, &h, NULL), SNUG_OK);
        assert_true(comp_parse("int2g32", &c));
        assert_int_equal(solve_ldlq(WT_ROWS, c.term[0].codec, c.term[0].params, w, N, 1, N, &h, SNUG_EFFORT_MAX, dst, hat, NULL), SNUG_OK);
        /* the four levels that the stored scale gives, from all bytes of codes alike */
        float level[4];
        for (int q = 0; q < 4; q++) {
            uint8_t all[64];
            wt t;
            memcpy(all, dst, sizeof all);
            memset(all + 3, q * 0x55, 8);
            assert_int_equal(wt_open(c.term[0].codec, c.term[0].params, 1, N, all, c.term[0].codec->bytes(c.term[0].params, 1, N), &t, NULL), SNUG_OK);
            t.codec->decode(&t, 0, 1, line, N);
            level[q] = line[0];
        }
        double found = total_loss(&h, w, hat, 1), best = found;
        for (int code = 0; code < 1 << 2 * FREE; code++) { /* all codes of the last FREE columns */
            memcpy(line, hat, sizeof hat);
            for (int j = 0; j < FREE; j++) line[N - FREE + j] = level[code >> 2 * j & 3];
            double loss = total_loss(&h, w, line, 1);
            if (loss < best) best = loss;
        }
        sum += found / best;
        if (found / best > worst) worst = found / best;
        hessian_close(&h);
        hessian_sum_close(&s);
        free(x), free(w);
    }
    print_message("found / best over the codes of %d columns: mean %.4f, worst %.4f\n", FREE, sum / tries, worst);
    assert_true(sum / tries < 1.05);
}

/* ---- shared scales ---- */

/* A codec that looks over the solver's shoulder: whenever shared scales are asked for, it works out the row's loss and the best scales in
 * double from all of H, and compares what the solver then does. */
typedef struct spy {
    const snug_codec *codec; /* the true one */
    codec_params p;
    const double *h; /* (cols, cols) */
    const float *w;
    size_t rows, cols;
    float *u[CODEC_SHARED];
    double *before, *wanted, *pending; /* (rows): losses before, at the best scales, after */
    bool *asked;                       /* (rows) */
    int n_refits, n_moved;
} spy;
static spy sp;

static double exact_loss(const double *e) {
    double sum = 0;
    for (size_t i = 0; i < sp.cols; i++)
        for (size_t j = 0; j < sp.cols; j++) sum += e[i] * sp.h[i * sp.cols + j] * e[j];
    return sum;
}

/* e (cols): the row's errors as scales, codes and steps stand. */
static void spy_errors(const void *enc, size_t row, double *e) {
    const size_t group = sp.codec->group_cols(sp.p);
    for (size_t c = 0; c < sp.cols; c += group) {
        float x[CODEC_SHARED] = {0};
        const int n = sp.codec->shared(enc, row, c, x, sp.u);
        for (size_t i = c; i < sp.cols && i < c + group; i++) {
            e[i] = sp.w[row * sp.cols + i];
            for (int k = 0; k < n; k++) e[i] -= (double)x[k] * sp.u[k][i - c];
        }
    }
}

/* The least loss that the scales of the group at col can give: e - sum step_k u_k is minimised by one Gram-Schmidt step for each. */
static double least_loss(size_t col, size_t len, int n, const double *e) {
    double gram[CODEC_SHARED][CODEC_SHARED] = {{0}}, b[CODEC_SHARED] = {0}, best = exact_loss(e);
    for (int k = 0; k < n; k++)
        for (size_t i = 0; i < len; i++) {
            const double *row = sp.h + (col + i) * sp.cols;
            for (size_t j = 0; j < sp.cols; j++) b[k] += sp.u[k][i] * row[j] * e[j];
            for (int m = 0; m < n; m++)
                for (size_t j = 0; j < len; j++) gram[k][m] += sp.u[k][i] * row[col + j] * sp.u[m][j];
        }
    if (gram[0][0] > 0) best -= b[0] * b[0] / gram[0][0];
    if (n == 2 && gram[0][0] > 0) {
        const double rest = gram[1][1] - gram[0][1] * gram[0][1] / gram[0][0], left = b[1] - b[0] * gram[0][1] / gram[0][0];
        if (rest > 1e-4 * gram[1][1]) best -= left * left / rest;
    }
    return best;
}

static void nothing_pending(void) {
    for (size_t r = 0; r < sp.rows; r++)
        if (sp.pending[r] > sp.before[r] * (1 + 1e-5)) fail_msg("row %zu: the loss rose from %.9g to %.9g", r, sp.before[r], sp.pending[r]);
}

static int spy_shared(const void *enc, size_t row, size_t col, float x[CODEC_SHARED], float *const u[CODEC_SHARED]) {
    double e[600];
    const size_t group = sp.codec->group_cols(sp.p), len = sp.cols - col < group ? sp.cols - col : group;
    nothing_pending();
    spy_errors(enc, row, e);
    sp.before[row] = sp.pending[row] = exact_loss(e);
    const int n = sp.codec->shared(enc, row, col, x, sp.u);
    sp.wanted[row] = least_loss(col, len, n, e);
    sp.asked[row] = true;
    sp.n_refits++;
    return sp.codec->shared(enc, row, col, x, u);
}

static void spy_reshare(void *enc, size_t row, size_t col, float x[CODEC_SHARED], float *w_hat) {
    double e[600];
    const size_t group = sp.codec->group_cols(sp.p), len = sp.cols - col < group ? sp.cols - col : group;
    if (sp.asked[row]) { /* first the best scales, before they are rounded */
        float at[CODEC_SHARED] = {0};
        spy_errors(enc, row, e);
        const int n = sp.codec->shared(enc, row, col, at, sp.u);
        for (size_t i = 0; i < len; i++)
            for (int k = 0; k < n; k++) e[col + i] -= ((double)x[k] - at[k]) * sp.u[k][i];
        const double loss = exact_loss(e), tolerance = 1e-3 * (sp.before[row] - sp.wanted[row]) + 1e-5 * sp.before[row];
        if (loss > sp.wanted[row] + tolerance) fail_msg("row %zu: %.9g of %.9g, but %.9g can be had", row, loss, sp.before[row], sp.wanted[row]);
        sp.n_moved++;
    }
    sp.asked[row] = false;
    sp.codec->reshare(enc, row, col, x, w_hat);
    spy_errors(enc, row, e);
    sp.pending[row] = exact_loss(e);
}

static void spy_pack(const void *enc, uint8_t *dst) {
    nothing_pending();
    sp.codec->pack(enc, dst);
}

/* Shared scales move to the least-squares optimum, are rounded, and never raise the loss: groups within, at and beyond a block. */
static void test_shared_scales(void **state) {
    static const char *const names[] = {"q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs", "q8_0", "q4_0", "iq4_nl", "tq1_0", "tq2_0"};
    static const size_t widths[] = {172, 600, 256, 32, 300};
    enum { ROWS = 6, T = 500 };
    for (size_t k = 0; k < 2 * sizeof names / sizeof *names; k++) {
        const size_t cols = widths[k % 5];
        float *x = activations(T, cols, 500 + k), *w = activations(ROWS, cols, 700 + k), hat[ROWS * 600];
        double *full = malloc(cols * cols * sizeof *full);
        hessian_sum s = sums_of(x, T, cols, 1);
        hessian h;
        comp c;
        assert_int_equal(hessian_factor(&s, 0.01, 0, 1, &h, NULL), SNUG_OK);
        for (size_t i = 0; i < cols; i++)
            for (size_t j = 0; j <= i; j++) full[i * cols + j] = full[j * cols + i] = h.m[i * cols + j];
        assert_true(comp_parse(names[k / 2], &c));
        sp = (spy){.codec = c.term[0].codec, .p = c.term[0].params, .h = full, .w = w, .rows = ROWS, .cols = cols};
        for (int i = 0; i < CODEC_SHARED; i++) sp.u[i] = malloc(256 * sizeof(float));
        sp.before = calloc(3 * ROWS, sizeof(double)), sp.wanted = sp.before + ROWS, sp.pending = sp.wanted + ROWS;
        sp.asked = calloc(ROWS, sizeof(bool));
        snug_codec spying = *sp.codec;
        spying.shared = spy_shared, spying.reshare = spy_reshare, spying.pack = spy_pack;
        uint8_t *dst = malloc((size_t)spying.bytes(sp.p, ROWS, cols)), *plain = malloc((size_t)spying.bytes(sp.p, ROWS, cols));
        assert_int_equal(solve_ldlq(WT_ROWS, &spying, sp.p, w, cols, ROWS, cols, &h, SNUG_EFFORT_NORMAL, dst, hat, NULL), SNUG_OK);
        assert_int_equal(solve_ldlq(WT_ROWS, sp.codec, sp.p, w, cols, ROWS, cols, &h, SNUG_EFFORT_NORMAL, plain, NULL, NULL), SNUG_OK);
        assert_memory_equal(dst, plain, (size_t)spying.bytes(sp.p, ROWS, cols));
        assert_true(sp.n_moved > 0 && sp.n_moved <= sp.n_refits);
        hessian_close(&h);
        hessian_sum_close(&s);
        free(x), free(w), free(full), free(dst), free(plain), free(sp.u[0]), free(sp.u[1]), free(sp.before), free(sp.asked);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_factor), cmocka_unit_test(test_transform),
        cmocka_unit_test(test_factor_hard),
        cmocka_unit_test(test_loss),
        cmocka_unit_test(test_ldlq_codecs),
        cmocka_unit_test(test_ldlq_never_worse),
        cmocka_unit_test(test_ldlq_brute),
        cmocka_unit_test(test_shared_scales),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
