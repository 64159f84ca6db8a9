// rooms: base kern codec linalg solve
/* Solvers: low rank, sums of terms, errors as predicted, threads and panels that change nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/rng.h"
#include "codec/codecs.h"
#include "solve/solve.h"
#include "unlisted.h"

static float *random_matrix(size_t rows, size_t cols, size_t rank, float noise, uint64_t seed) {
    float *w = malloc(rows * cols * sizeof *w), *u = malloc(rows * rank * sizeof *u), *v = malloc(rank * cols * sizeof *v);
    rng r;
    rng_seed(&r, seed, 0);
    for (size_t i = 0; i < rows * rank; i++) u[i] = rng_normal(&r);
    for (size_t i = 0; i < rank * cols; i++) v[i] = rng_normal(&r);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) {
            float sum = noise * rng_normal(&r);
            for (size_t k = 0; k < rank; k++) sum += u[i * rank + k] * v[k * cols + j];
            w[i * cols + j] = sum;
        }
    free(u), free(v);
    return w;
}
static void parse(const char *text, comp *c) { assert_true(comp_parse(text, c)); }

/* A matrix of rank 6 is found again up to bf16, whichever side is the shorter and whatever the metric. */
static void test_svd_exact(void **state) {
    static const size_t shapes[][2] = {{90, 40}, {40, 90}, {8, 300}, {1, 7}};
    for (int k = 0; k < 4; k++)
        for (int with = 0; with < 2; with++) {
            size_t rows = shapes[k][0], cols = shapes[k][1];
            float *w = random_matrix(rows, cols, 6, 0, 1), a[300];
            for (size_t j = 0; j < cols; j++) a[j] = j % 5 == 0 ? 100 : 0.1f;
            comp c;
            double e2, n2;
            snug_error err;
            parse("lowrank6", &c);
            assert_int_equal(solve_error(&c, w, cols, rows, cols, with ? a : NULL, 0, &e2, &n2, &err), SNUG_OK);
            if (e2 > 2e-5 * n2) fail_msg("%zux%zu: relative error %g", rows, cols, e2 / n2);
            free(w);
        }
}

/* The importance moves the error to where it does not matter; more rank is never worse. */
static void test_svd_metric(void **state) {
    enum { R = 64, C = 96 };
    float *w = random_matrix(R, C, 40, 0.5f, 2), a[C];
    for (size_t j = 0; j < C; j++) a[j] = j < 16 ? 50 : 1;
    double last = INFINITY;
    for (uint16_t rank = 4; rank <= 32; rank *= 2) {
        codec_params p = {.rank = rank};
        comp c = {.n_terms = 1, .term = {{codec_by_id(17), p}}};
        double with, n2, plain = 0;
        assert_int_equal(solve_error(&c, w, C, R, C, a, 0, &with, &n2, NULL), SNUG_OK);
        uint8_t *dst = malloc((size_t)c.term[0].codec->bytes(p, R, C));
        float out[R * C];
        wt t;
        assert_int_equal(solve_svd(p, w, C, R, C, NULL, 1, dst, NULL), SNUG_OK);
        assert_int_equal(wt_open(c.term[0].codec, p, R, C, dst, c.term[0].codec->bytes(p, R, C), &t, NULL), SNUG_OK);
        t.codec->decode(&t, 0, R, out, C);
        for (size_t i = 0; i < R * C; i++) plain += a[i % C] * ((double)w[i] - out[i]) * ((double)w[i] - out[i]);
        assert_true(with < plain && with < last);
        last = with;
        free(dst);
    }
    free(w);
}

/* A correction on top of a coarse code is better than either, and the error is the one that the payloads have. */
static void test_composition(void **state) {
    enum { R = 48, C = 288 };
    float *w = random_matrix(R, C, 4, 0.3f, 3), a[C], out[R * C];
    for (size_t j = 0; j < C; j++) a[j] = 0.5f + (float)(j % 7);
    static const char *const names[] = {"int2g64", "lowrank4", "int2g64+lowrank4", "lowrank4+int2g64", "out20+int2g64", "sp16b3g64+out5",
                                        "out10+tern34g64+lowrank4"};
    enum { N = sizeof names / sizeof *names };
    double e2[N], n2;
    for (int k = 0; k < N; k++) {
        comp c;
        uint8_t *dst[2][WEIGHT_MAX_TERMS] = {{0}};
        weight wgt = {.rows = R, .cols = C};
        parse(names[k], &c);
        assert_int_equal(solve_error(&c, w, C, R, C, a, 0, &e2[k], &n2, NULL), SNUG_OK);
        for (int threads = 1; threads <= 2; threads++) {
            for (uint32_t i = 0; i < c.n_terms; i++) dst[threads - 1][i] = malloc((size_t)comp_term_bytes(&c, i, R, C));
            assert_int_equal(solve_comp(&c, w, R, C, (solve_input[TRANSFORM_COUNT]){{.a = a}}, 0, threads, dst[threads - 1], NULL), SNUG_OK);
        }
        for (uint32_t i = 0; i < c.n_terms; i++) {
            uint64_t n = comp_term_bytes(&c, i, R, C);
            assert_memory_equal(dst[0][i], dst[1][i], (size_t)n);
            assert_int_equal(wt_open(c.term[i].codec, c.term[i].params, R, C, dst[0][i], n, &wgt.term[wgt.n_terms++].wt, NULL), SNUG_OK);
        }
        weight_decode(&wgt, 0, R, out, C);
        double sum = 0;
        for (size_t i = 0; i < R * C; i++) sum += a[i % C] * ((double)w[i] - out[i]) * ((double)w[i] - out[i]);
        assert_true(fabs(sum - e2[k]) < 1e-4 * sum);
        for (int t = 0; t < 2; t++)
            for (uint32_t i = 0; i < c.n_terms; i++) free(dst[t][i]);
    }
    if (!(e2[2] < e2[0] && e2[3] < e2[0] && e2[3] < e2[1] && e2[4] < e2[0])) fail_msg("%g %g %g %g of %g", e2[0], e2[1], e2[2], e2[3], n2);
    free(w);
}

/* Panels of any whole number of tiles give the bytes of the whole; so does a matrix with a wider leading dimension. */
static void test_panels(void **state) {
    enum { R = 50, C = 520, LD = 530 };
    float *w = random_matrix(R, LD, 1, 1, 4);
    static const char *const names[] = {"int5g32", "q3_k", "q8_0", "bf16", "sp12b3g32", "terng64"};
    for (int k = 0; k < 6; k++) {
        const snug_codec *codec;
        codec_params p;
        assert_true(codec_parse(names[k], &codec, &p));
        size_t n = (size_t)codec->bytes(p, R, C);
        uint8_t *whole = malloc(n), *parts = malloc(n);
        assert_int_equal(solve_rtn(codec, p, w, LD, R, C, NULL, 0, whole, NULL, NULL), SNUG_OK);
        for (size_t r = 0, step = round_up(7, codec->tile_rows); r < R; r += step) {
            size_t rows = R - r < step ? R - r : step;
            assert_int_equal(solve_rtn(codec, p, w + r * LD, LD, rows, C, NULL, 0, parts + codec->bytes(p, r, C), NULL, NULL), SNUG_OK);
        }
        assert_memory_equal(whole, parts, n);
        free(whole), free(parts);
    }
    free(w);
}

/* More effort is never worse than a percent, and usually better; importances lower the error that they weigh. */
static void effort_case(const snug_codec *codec, codec_params p, const float *w) {
    enum { R = 32, C = 512 };
    comp c = {.n_terms = 1, .term = {{codec, p}}};
    double e[3], n2, e_ones, e_null;
    float a[C], ones[C];
    char name[CODEC_NAME_MAX];
    if (codec->caps & (CODEC_WHOLE | CODEC_LOSSLESS)) return;
    codec_format(codec, p, name);
    for (size_t j = 0; j < C; j++) a[j] = expf(2 * sinf((float)j)), ones[j] = 3;
    for (int effort = 0; effort < 3; effort++)
        assert_int_equal(solve_error(&c, w, C, R, C, a, effort, &e[effort], &n2, NULL), SNUG_OK);
    if (e[SNUG_EFFORT_NORMAL] > 1.01 * e[SNUG_EFFORT_QUICK] || e[SNUG_EFFORT_MAX] > 1.01 * e[SNUG_EFFORT_NORMAL])
        fail_msg("%s: quick %g normal %g max %g", name, e[1] / n2, e[0] / n2, e[2] / n2);
    assert_int_equal(solve_error(&c, w, C, R, C, ones, 0, &e_ones, &n2, NULL), SNUG_OK);
    assert_int_equal(solve_error(&c, w, C, R, C, NULL, 0, &e_null, &n2, NULL), SNUG_OK);
    assert_true(fabs(e_ones - 3 * e_null) < 1e-6 * e_ones);
}

static void test_effort_and_importance(void **state) {
    float *w = random_matrix(32, 512, 1, 3, 5);
    for (size_t i = 0; i < codec_count(); i++) {
        codec_params p;
        for (uint32_t k = 0; !(codec_at(i)->caps & CODEC_READ_ONLY) && codec_at(i)->menu(k, &p); k++) effort_case(codec_at(i), p, w);
    }
    for (size_t i = 0; i < N_UNLISTED; i++) {
        const snug_codec *codec;
        codec_params p;
        assert_true(codec_parse(unlisted[i], &codec, &p));
        effort_case(codec, p, w);
    }
    free(w);
}

/* ---- outliers ---- */

static void solve_out(const char *name, const float *w, size_t rows, size_t cols, const float *a, float *out) {
    comp c;
    wt t;
    parse(name, &c);
    const uint64_t n = comp_term_bytes(&c, 0, rows, cols);
    uint8_t *dst = malloc(n);
    assert_int_equal(solve_outliers(c.term[0].params, w, cols, rows, cols, a, dst, NULL), SNUG_OK);
    assert_int_equal(wt_open(c.term[0].codec, c.term[0].params, rows, cols, dst, n, &t, NULL), SNUG_OK);
    t.codec->decode(&t, 0, rows, out, cols);
    free(dst);
}

/* Those that cost most are stored, near enough, and no others; ties go to the first. */
static void test_outliers(void **state) {
    enum { R = 40, C = 300, STORED = (R * C * 10 + 999) / 1000 };
    float *w = random_matrix(R, C, 2, 1, 6), a[C], *out = malloc(R * C * sizeof *out);
    for (size_t j = 0; j < C; j++) a[j] = 1 + (float)(j % 3);
    solve_out("out10", w, R, C, a, out);
    double least = INFINITY, most = 0;
    size_t stored = 0;
    for (size_t i = 0; i < R * C; i++) {
        const double cost = (double)a[i % C] * w[i] * w[i];
        if (out[i] != 0) stored++, least = fmin(least, cost);
        else most = fmax(most, cost);
        if (out[i] != 0) assert_true(fabsf(out[i] - w[i]) < 0.3f * fabsf(w[i]));
    }
    assert_int_equal(stored, STORED);
    assert_true(least >= most);
    for (size_t i = 0; i < R * C; i++) w[i] = i % 2 ? -7 : 7;
    solve_out("out10", w, R, C, NULL, out);
    for (size_t i = 0; i < R * C; i++) assert_true(out[i] == (i < STORED ? w[i] : 0));
    free(w), free(out);
}

/* Before a term that rounds the rest, those that its rounding misses most: better than the largest. */
static void test_outliers_before(void **state) {
    enum { R = 40, C = 1024 };
    static const char *const names[] = {"out10+int3g64", "out20+int2g64", "out30+q2_k", "out10+sp16b3g64"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        for (int with = 0; with < 2; with++) {
            comp c;
            double now, before = 0, norm;
            float *w = random_matrix(R, C, 1, 1, 8), a[C], *out = malloc(R * C * sizeof *out), *hat = malloc(R * C * sizeof *hat);
            for (size_t j = 0; j < C; j++) a[j] = 1 + (float)(j % 5);
            const float *imp = with ? a : NULL;
            parse(names[k], &c);
            assert_int_equal(solve_error(&c, w, C, R, C, imp, SNUG_EFFORT_NORMAL, &now, &norm, NULL), SNUG_OK);
            uint8_t *dst = malloc((size_t)comp_term_bytes(&c, 0, R, C) + (size_t)comp_term_bytes(&c, 1, R, C));
            wt t;
            assert_int_equal(solve_outliers(c.term[0].params, w, C, R, C, imp, dst, NULL), SNUG_OK);
            assert_int_equal(wt_open(&codec_out, c.term[0].params, R, C, dst, comp_term_bytes(&c, 0, R, C), &t, NULL), SNUG_OK);
            codec_out.decode(&t, 0, R, out, C);
            for (size_t i = 0; i < R * C; i++) out[i] = w[i] - out[i];
            assert_int_equal(solve_rtn(c.term[1].codec, c.term[1].params, out, C, R, C, imp, SNUG_EFFORT_NORMAL, dst, hat, NULL), SNUG_OK);
            for (size_t i = 0; i < R * C; i++) before += (with ? a[i % C] : 1) * ((double)out[i] - hat[i]) * ((double)out[i] - hat[i]);
            const double share = k < 3 ? 0.998 : 1.001; /* of what is left out the largest cost most anyway */
            if (!(now < share * before)) fail_msg("%s: %g of what the largest leave", names[k], now / before);
            free(w), free(out), free(hat), free(dst);
        }
}

/* A block counts to 255: the 256th goes elsewhere. */
static void test_outliers_full_block(void **state) {
    enum { C = 2560 };
    float w[C], out[C];
    for (size_t j = 0; j < C; j++) w[j] = j >= 256 && j < 512 ? 10 : j == 700 ? 3 : 0;
    solve_out("out100", w, 1, C, NULL, out);
    size_t full = 0;
    for (size_t j = 256; j < 512; j++) full += out[j] != 0;
    assert_int_equal(full, 255);
    for (size_t j = 0; j < C; j++) w[j] = 0;
    solve_out("out100", w, 1, C, NULL, out);
    for (size_t j = 0; j < C; j++) assert_true(out[j] == 0);
}

/* What out_pack refuses. */
static void test_outliers_refused(void **state) {
    enum { R = 2, C = 2560, N = 512 };
    const codec_params p = {.rank = 100};
    static out_entry e[N + 1];
    static uint8_t dst[4096];
    assert_true(codec_out.bytes(p, R, C) <= sizeof dst && out_count(p, R, C) == N);
    for (uint32_t i = 0; i < N; i++) e[i] = (out_entry){i / 256, 8 * (i % 256), (float)i};
    assert_true(out_pack(p, R, C, e, N, dst));
    assert_false(out_pack(p, R, C, e, N - 1, dst) || out_pack(p, R, C, e, N + 1, dst));
    const out_entry bad[] = {{0, 8 * 9, 1}, {0, 8 * 11, 1}, {1, 80, 1}, {2, 0, 1}, {0, 80, NAN}, {0, 80, INFINITY}, {0, C, 1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const out_entry was = e[10];
        e[10] = bad[i];
        assert_false(out_pack(p, R, C, e, N, dst));
        e[10] = was;
    }
    for (uint32_t i = 0; i < N; i++) e[i] = (out_entry){i / 256, i % 256, 1};
    assert_false(out_pack(p, R, C, e, N, dst)); /* 256 in a block */
    e[255] = (out_entry){0, 256, 1}, e[N - 1] = (out_entry){1, 256, 1};
    assert_true(out_pack(p, R, C, e, N, dst));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_svd_exact), cmocka_unit_test(test_svd_metric),
                                       cmocka_unit_test(test_composition), cmocka_unit_test(test_panels),
                                       cmocka_unit_test(test_effort_and_importance), cmocka_unit_test(test_outliers),
                                       cmocka_unit_test(test_outliers_before),
                                       cmocka_unit_test(test_outliers_full_block), cmocka_unit_test(test_outliers_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
