// rooms: base kern codec linalg solve
/* Every codec of the registry and a 16 x 16 tile codec, by the contract of codec.h alone: exact sizes, w_hat equal to decode bit for
 * bit, any tiling of rows and tokens giving the same bits, products near the double ones, hostile bytes, extreme weights. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/rng.h"
#include "codec/codecs.h"
#include "codec/weight.h"
#include "codec_tile16.h"
#include "q8_rows.h"
#include "solve/solve.h"
#include "unlisted.h"

static const size_t shapes[][2] = {{1, 1}, {3, 31}, {17, 32}, {5, 33}, {2, 172}, {33, 256}, {4, 300}, {1, 1030},
                                  {6, 8}, {20, 100}, {3, 64}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes, N_TOKENS = 13 };

typedef void (*case_fn)(const snug_codec *codec, codec_params p, const char *name);

/* What no menu has. */
static const char *const beyond_menus[] = {"lowrank5b8", "lowrank33b3", "lowrank16b2", "lowrank70b4", "lowrank1b7"};

/* Calls fn for every codec and every parameter set of its menu, and those that no menu has. */
static void for_each(case_fn fn) {
    codec_register_for_test(&codec_tile16);
    for (size_t i = 0; i < sizeof beyond_menus / sizeof *beyond_menus; i++) {
        const snug_codec *codec;
        codec_params p;
        assert_true(codec_parse(beyond_menus[i], &codec, &p));
        fn(codec, p, beyond_menus[i]);
    }
    for (size_t i = 0; i < codec_count(); i++) {
        codec_params p;
        if (codec_at(i)->caps & CODEC_READ_ONLY) continue; /* test_read_only.c */
        for (uint32_t k = 0; codec_at(i)->menu(k, &p); k++) {
            if (codec_at(i)->caps & CODEC_QUARTERS && k % 5) continue; /* searches take long, and a few rates have all that there is to a rate */
            char name[CODEC_NAME_MAX];
            codec_format(codec_at(i), p, name);
            fn(codec_at(i), p, name);
        }
    }
    for (size_t i = 0; i < N_UNLISTED; i++) {
        const snug_codec *codec;
        codec_params p;
        assert_true(codec_parse(unlisted[i], &codec, &p));
        fn(codec, p, unlisted[i]);
    }
}

/* Gaussian weights with a few outliers and some rows and stretches of zeros. */
static float *random_weights(size_t rows, size_t cols, uint64_t seed) {
    float *w = malloc(rows * cols * sizeof *w);
    rng r;
    rng_seed(&r, seed, rows * 65536 + cols);
    for (size_t i = 0; i < rows * cols; i++) {
        w[i] = 0.02f * rng_normal(&r) * (rng_below(&r, 50) == 0 ? 8 : 1);
        if (i / cols % 7 == 3 || i % cols / 64 == 1) w[i] *= i % 3 == 0;
        if (i / cols % 11 == 5) w[i] = 0;
    }
    return w;
}
static float *random_importance(size_t cols, uint64_t seed) {
    float *a = malloc(cols * sizeof *a);
    rng r;
    rng_seed(&r, seed, cols);
    for (size_t i = 0; i < cols; i++) a[i] = expf(2 * rng_normal(&r));
    return a;
}

typedef struct encoded { wt wt; uint8_t *data; float *hat; } encoded;

static encoded encode(const snug_codec *codec, codec_params p, const float *w, size_t rows, size_t cols, const float *a, int effort) {
    snug_error err;
    encoded e = {.hat = calloc(rows * cols, sizeof(float))};
    size_t n = (size_t)codec->bytes(p, rows, cols);
    assert_true(n > 0);
    e.data = malloc(n); /* exactly: the sanitizer sees a write beyond */
    memset(e.data, 0xa5, n);
    snug_err rc = codec->caps & CODEC_WHOLE ? solve_whole(codec, p, w, cols, rows, cols, a, 1, e.data, &err)
                                            : solve_rtn(codec, p, w, cols, rows, cols, a, effort, e.data, e.hat, &err);
    if (rc) fail_msg("%s %zux%zu: %s", codec->family, rows, cols, err.message);
    assert_int_equal(wt_open(codec, p, rows, cols, e.data, n, &e.wt, &err), SNUG_OK);
    assert_int_equal(wt_open(codec, p, rows, cols, e.data, n - 1, &e.wt, &err), SNUG_ERR_FORMAT);
    assert_int_equal(wt_open(codec, p, rows, cols, e.data, n, &e.wt, NULL), SNUG_OK);
    return e;
}
static void encoded_fini(encoded *e) { free(e->data); free(e->hat); }

/* ---- names ---- */

static void name_case(const snug_codec *codec, codec_params p, const char *name) {
    const snug_codec *found;
    codec_params q;
    char again[CODEC_NAME_MAX];
    assert_true(codec_parse(name, &found, &q));
    assert_ptr_equal(found, codec);
    codec_format(found, q, again);
    assert_string_equal(again, name);
    assert_memory_equal(&p, &q, sizeof p);
    assert_ptr_equal(codec_by_id(codec->id), codec);
    if (codec->ggml_type >= 0) assert_ptr_equal(codec_by_ggml_type((uint32_t)codec->ggml_type), codec);
    assert_true((codec->ggml_type >= 0) == !!(codec->caps & CODEC_GGUF_NATIVE));
}
static void test_names(void **state) {
    static const char *const bad[] = {"", "int", "int3", "int3g", "int3g48", "int9g64", "int03g64", "int3g064", "int3g64x", "intg64",
                                      "q4_k1", "lowrank", "lowrank0", "lowrank1025", "lowrank16g2", "lowrank16b", "lowrank16b1",
                                      "lowrank16b9", "lowrank16b08", "lowrankb8", "int3b8", "q8_0b8", "bf16 ", "BF16", "f", "int3g64+",
                                      "sp16g64", "sp16b3", "sp16b7g64", "sp16b1g64", "sp7b3g64", "sp32b3g64", "sp2of4g64", "sp2of4b3",
                                      "sp2of4b", "sp16b03g64", "spb3g64", "sp16bg64", "sp3of4b1g64", "tern", "tern34", "tern3g64",
                                      "tern16b3g64", "tern34g16", "int16b3g64", "lowrank4b3g64", "out", "out101", "out10g64", "gs",
                                      "gs8b4g32", "gs4b1g32", "gs4b4", "gs4g32", "gs4b4g16", "gs0b4g32", "dict", "dict8", "dict8s3", "dict8b4", "dict8s9b4", "dict8s3b4g32", "dict8b4g3",
                                      "dict8s0b4", "dict8s3b1", "tcq", "tcq0.75", "tcq2.50", "tcq2.", "tcq2.2", "tcq6.25", "tcq02", "tcq2.25b3", "tcq2g64", "tcq2g96", "tcq2g2048", "tcq2.25g", "tcq2.2g128", "ec2g128", "tcqf3", "tcqf", "e8b", "e8b1", "e8b5", "e8b2g32", "e8b2b2", "e82", "aq", "aq0", "aq5", "aq2x8", "aq2b8", "had:aq2", "dict4097s8b4", "lowrank8s3b4", "int3s64"};
    const snug_codec *codec;
    codec_params p;
    for_each(name_case);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (codec_parse(bad[i], &codec, &p)) fail_msg("'%s' was taken for a codec", bad[i]);
}

/* ---- round trip ---- */

static bool is_ternary(const snug_codec *c) {
    return c->id == CODEC_ID_TERN || c->id == CODEC_ID_TERN34 || c->id == CODEC_ID_TQ1_0 || c->id == CODEC_ID_TQ2_0;
}

static void round_trip_case(const snug_codec *codec, codec_params p, const char *name) {
    /* one magnitude, and there are outliers; most groups absent */
    const double worst = is_ternary(codec) ? 0.9 : codec->id == CODEC_ID_GS ? 1 : 0.45;
    for (size_t k = 0; k < N_SHAPES; k++) {
        size_t rows = shapes[k][0], cols = shapes[k][1];
        const double most = codec->id == CODEC_ID_TCQ && rows * cols < 64 ? 1.5 : worst; /* the first weights of a stream have few levels to choose from */
        float *w = random_weights(rows, cols, 1), *a = random_importance(cols, 2), *out = malloc(rows * cols * sizeof *out);
        for (int with = 0; with < 2; with++) {
            encoded e = encode(codec, p, w, rows, cols, with ? a : NULL, (int)(k % 3));
            codec->decode(&e.wt, 0, rows, out, cols);
            if (!(codec->caps & CODEC_WHOLE)) assert_memory_equal(out, e.hat, rows * cols * sizeof *out);
            double err2 = 0, norm = 0;
            for (size_t i = 0; i < rows * cols; i++) {
                double d = (double)w[i] - out[i];
                err2 += d * d;
                norm += (double)w[i] * w[i];
            }
            if (!with && codec->caps & CODEC_WHOLE) assert_true(err2 <= norm * 1.0001);
            else if (!with && err2 > norm * most + 1e-12) fail_msg("%s %zux%zu: relative error %g", name, rows, cols, err2 / norm);
            if (codec->id == 1) assert_true(err2 == 0);
            /* rows one by one, and added to zeros */
            float *one = calloc(cols, sizeof *one);
            for (size_t r = 0; r < rows; r++) {
                codec->decode(&e.wt, r, 1, one, cols);
                assert_memory_equal(one, out + r * cols, cols * sizeof *one);
                memset(one, 0, cols * sizeof *one);
                codec->decode_add(&e.wt, r, 1, one, cols);
                for (size_t c = 0; c < cols; c++) assert_true(one[c] == out[r * cols + c]);
            }
            free(one);
            encoded_fini(&e);
        }
        free(w), free(a), free(out);
    }
}
static void test_round_trip(void **state) { for_each(round_trip_case); }

/* Encoding the decoded weights again changes nothing for the plain numbers. */
static void test_lossless(void **state) {
    static const char *const names[] = {"f32", "f16", "bf16"};
    for (int k = 0; k < 3; k++) {
        const snug_codec *codec;
        codec_params p;
        assert_true(codec_parse(names[k], &codec, &p) && codec->caps & CODEC_LOSSLESS);
        float *w = random_weights(4, 100, 7);
        encoded e = encode(codec, p, w, 4, 100, NULL, 0), again = encode(codec, p, e.hat, 4, 100, NULL, 0);
        assert_memory_equal(e.data, again.data, (size_t)e.wt.bytes);
        assert_memory_equal(e.hat, again.hat, 400 * sizeof(float));
        encoded_fini(&e), encoded_fini(&again), free(w);
    }
}

/* ---- products ---- */

static act random_tokens(size_t n, size_t cols) {
    size_t ld = round_up(cols, 256);
    float *f32 = calloc(n * ld, sizeof *f32);
    rng r;
    rng_seed(&r, 3, cols);
    for (size_t i = 0; i < n * ld; i++)
        if (i % ld < cols) f32[i] = rng_normal(&r);
    return (act){n, cols, ld, f32, q8_rows(f32, n, ld)};
}
static void tokens_fini(act *t) { free((void *)t->f32), q8_rows_free(&t->q8); }

static void run_matmul(const wt *w, uint64_t row0, size_t n, const act *x, bool q8, float *y, size_t ldy) {
    weight one = {.rows = w->rows, .cols = w->cols, .n_terms = 1, .term[0].wt = *w};
    act_set set;
    for (int i = 0; i < TRANSFORM_COUNT; i++) set.in[i] = *x;
    size_t need = round_up(weight_scratch_bytes(&one, x->n_tokens, q8), 64);
    void *scratch = aligned_alloc(64, need ? need : 64);
    memset(scratch, 0xff, need);
    weight_matmul(&one, row0, n, &set, q8, y, ldy, scratch);
    free(scratch);
}

static void matmul_case(const snug_codec *codec, codec_params p, const char *name) {
    for (size_t k = 0; k < N_SHAPES; k++) {
        size_t rows = shapes[k][0], cols = shapes[k][1];
        float *w = random_weights(rows, cols, 4), *dense = malloc(rows * cols * sizeof *dense);
        encoded e = encode(codec, p, w, rows, cols, NULL, SNUG_EFFORT_QUICK);
        act t = random_tokens(N_TOKENS, cols);
        const size_t ld = t.cols_padded;
        codec->decode(&e.wt, 0, rows, dense, cols);
        for (int q8 = 0; q8 <= (codec->act == CODEC_ACT_Q8); q8++) {
            float *y = calloc(N_TOKENS * rows, sizeof *y), one;
            run_matmul(&e.wt, 0, rows, &t, q8, y, rows);
            for (size_t i = 0; i < N_TOKENS; i++) {
                act x1 = {1, cols, ld, t.f32 + i * ld, q8_rows(t.f32 + i * ld, 1, ld)};
                for (size_t r = 0; r < rows; r++) {
                    double sum = 0, size = 0;
                    for (size_t c = 0; c < cols; c++) {
                        double x = q8 ? (double)x1.q8.scale[c / 32] * x1.q8.q[c] : x1.f32[c], v = x * dense[r * cols + c];
                        sum += v, size += fabs(v);
                    }
                    /* offsets are multiplied apart from the codes, and lowrank goes through h: a little more than f32's own error */
                    double tol = 4e-6 * size + 1e-9 + (codec->caps & CODEC_WHOLE ? 1e-4 : q8 ? 1e-5 : 0);
                    if (fabs(y[i * rows + r] - sum) > tol) fail_msg("%s q8=%d: %g, not %g", name, q8, (double)y[i * rows + r], sum);
                    one = 0; /* the same alone: one row, one token */
                    run_matmul(&e.wt, r, 1, &x1, q8, &one, 1);
                    assert_true(one == y[i * rows + r]);
                }
                q8_rows_free(&x1.q8);
            }
            free(y);
        }
        tokens_fini(&t), encoded_fini(&e), free(w), free(dense);
    }
}
static void test_matmul(void **state) { for_each(matmul_case); }

/* ---- layouts ---- */

/* Panels are the rows in another order: the way there and back gives the bytes, and nobody who reads sees a difference. */
static void layout_case(const snug_codec *codec, codec_params p, const char *name) {
    if (!codec->relay) return;
    for (size_t k = 0; k < N_SHAPES; k++) {
        size_t rows = shapes[k][0], cols = shapes[k][1], n_bytes = (size_t)codec->bytes(p, rows, cols), n = rows * cols;
        float *w = random_weights(rows, cols, 11), *a = random_importance(cols, 12), *out = malloc(n * sizeof *out), *again = malloc(n * sizeof *out);
        encoded e = encode(codec, p, w, rows, cols, a, SNUG_EFFORT_QUICK);
        uint8_t *panels = malloc(n_bytes), *back = malloc(n_bytes);
        rng r;
        rng_seed(&r, 13, k);
        for (int wild = 0; wild < 2; wild++) {
            for (size_t i = 0; wild && i < n_bytes; i++) e.data[i] = (uint8_t)rng_next(&r);
            wt laid = e.wt;
            codec->relay(&e.wt, panels);
            laid.data = panels, laid.layout = WT_PANELS;
            codec->relay(&laid, back);
            assert_memory_equal(back, e.data, n_bytes);
            codec->decode(&e.wt, 0, rows, out, cols);
            codec->decode(&laid, 0, rows, again, cols);
            assert_memory_equal(out, again, n * sizeof *out);
            if (wild) continue;
            assert_int_equal(solve_rtn_to(WT_PANELS, codec, p, w, cols, rows, cols, a, SNUG_EFFORT_QUICK, back, NULL, NULL), SNUG_OK);
            assert_memory_equal(back, panels, n_bytes);
            act t = random_tokens(N_TOKENS, cols);
            for (int q8 = 0; q8 < 2; q8++)
                for (size_t first = 0; first < rows; first += 1 + rows / 2) { /* panels and parts of them */
                    float *y = calloc(2 * N_TOKENS * rows, sizeof *y), *z = y + N_TOKENS * rows;
                    run_matmul(&e.wt, first, rows - first, &t, q8, y, rows);
                    run_matmul(&laid, first, rows - first, &t, q8, z, rows);
                    assert_memory_equal(y, z, N_TOKENS * rows * sizeof *y);
                    free(y);
                }
            tokens_fini(&t);
        }
        free(panels), free(back), free(w), free(a), free(out), free(again), encoded_fini(&e);
    }
}
static void test_layouts(void **state) { for_each(layout_case); }

static void count_made(void *user, uint64_t bytes) { *(uint64_t *)user += bytes; }

/* Once panels were made of rows, those are not read again: here they are spoilt. */
static void panels_made_case(const snug_codec *codec, codec_params p, const char *name) {
    if (!codec->relay) return;
    enum { ROWS = 32, COLS = 300 };
    float *w = random_weights(ROWS, COLS, 14), out[ROWS * COLS], again[ROWS * COLS];
    encoded e = encode(codec, p, w, ROWS, COLS, NULL, SNUG_EFFORT_QUICK);
    _Atomic uint8_t state[ROWS / KERN_PANEL_ROWS] = {0};
    uint64_t made = 0, n_bytes = codec->panel_bytes(&e.wt);
    uint8_t *room = aligned_alloc(64, round_up(n_bytes, 64));
    wt_panels panels = {.data = room, .state = state, .made = count_made, .user = &made};
    float *y = calloc(2 * N_TOKENS * ROWS, sizeof *y), *z = y + N_TOKENS * ROWS;
    act t = random_tokens(N_TOKENS, COLS);
    assert_true(n_bytes == e.wt.bytes);
    codec->decode(&e.wt, 0, ROWS, out, COLS);
    run_matmul(&e.wt, 0, ROWS, &t, false, y, ROWS);
    e.wt.panels = &panels;
    for (int pass = 0; pass < 10 && made < n_bytes; pass++) {
        float unused[N_TOKENS * ROWS] = {0};
        run_matmul(&e.wt, 0, ROWS, &t, true, unused, ROWS);
    }
    assert_true(made == n_bytes);
    memset(e.data, 0xa5, (size_t)n_bytes);
    codec->decode(&e.wt, 0, ROWS, again, COLS);
    assert_memory_equal(out, again, sizeof out);
    run_matmul(&e.wt, 0, ROWS, &t, false, z, ROWS);
    assert_memory_equal(y, z, N_TOKENS * ROWS * sizeof *y);
    tokens_fini(&t), free(y), free(room), free(w), encoded_fini(&e);
}
static void test_panels_made(void **state) { for_each(panels_made_case); }

/* ---- input that nobody meant ---- */

static void hostile_case(const snug_codec *codec, codec_params p, const char *name) {
    rng r;
    rng_seed(&r, 5, codec->id);
    for (int round = 0; round < 8; round++) {
        size_t rows = 3, cols = 1 + rng_below(&r, 600), n = (size_t)codec->bytes(p, rows, cols);
        uint8_t *data = malloc(n);
        for (size_t i = 0; i < n; i++) data[i] = round == 0 ? 0xff : round == 1 ? 0x7f : (uint8_t)rng_next(&r);
        wt w;
        assert_int_equal(wt_open(codec, p, rows, cols, data, n, &w, NULL), SNUG_OK);
        float *out = malloc(rows * cols * sizeof *out), y[3 * 2] = {0};
        codec->decode(&w, 0, rows, out, cols);
        act t = random_tokens(2, cols);
        for (int q8 = 0; q8 <= (codec->act == CODEC_ACT_Q8); q8++) run_matmul(&w, 0, rows, &t, q8, y, 3);
        tokens_fini(&t), free(out), free(data);
    }
}
static void test_hostile(void **state) { for_each(hostile_case); }

static void zeros_case(const snug_codec *codec, codec_params p, const char *name) {
    float w[3 * 300] = {0}, out[900];
    for (int c = 0; c < 300; c++) w[300 + c] = c == 7; /* one row with one number */
    encoded e = encode(codec, p, w, 3, 300, NULL, SNUG_EFFORT_NORMAL);
    codec->decode(&e.wt, 0, 3, out, 300);
    for (int c = 0; c < 300; c++)
        if (codec->id != TILE16_ID && (out[c] != 0 || out[600 + c] != 0))
            fail_msg("%s: a row of zeros became %g, %g", name, (double)out[c], (double)out[600 + c]);
    /* int4 .. int8 have no grid with an exact 0 (int4 comes near), nor has what sparse codecs keep, tile16 rounds badly, a trellis has no
     * level that far out, nor a lattice code: there the many zeros beside it win */
    const bool sparse = codec->id >= CODEC_ID_SP && codec->id < CODEC_ID_TERN;
    if (codec->id != TILE16_ID && codec->id != CODEC_ID_TCQ && codec->id != CODEC_ID_TCQF && codec->id != CODEC_ID_E8 && !sparse && p.bits < 5 && fabsf(out[307] - 1) > 0.02f)
        fail_msg("%s: a lone 1 became %g", name, (double)out[307]);
    encoded_fini(&e);
}
static void test_zeros(void **state) { for_each(zeros_case); }

/* Weights at the ends of f32's range end in finite reconstructions or in an error that says so, never in NaN. */
static void extremes_case(const snug_codec *codec, codec_params p, const char *name) {
    static const float sizes[] = {1e-44f, 1e-38f, 1e-20f, 6e4f, 1e10f, 1e30f, 3e38f};
    if (codec->caps & CODEC_WHOLE) return;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        float *w = random_weights(2, 280, 9), hat[560];
        for (int i = 0; i < 560; i++) w[i] = fmaxf(fminf(w[i] * 10, 1), -1) * sizes[k];
        uint8_t *dst = malloc((size_t)codec->bytes(p, 2, 280));
        float a[280];
        for (int i = 0; i < 280; i++) a[i] = i % 3 == 0 ? 0 : i % 3 == 1 ? 1e-30f : 1e30f;
        for (int effort = 0; effort < 3; effort++) {
            snug_error err = {0};
            snug_err rc = solve_rtn(codec, p, w, 280, 2, 280, a, effort, dst, hat, &err);
            if (rc) assert_true(rc == SNUG_ERR_NUMERIC && codec->caps & CODEC_LOSSLESS && strstr(err.message, "row"));
            for (int i = 0; !rc && i < 560; i++) assert_true(isfinite(hat[i]));
        }
        free(w), free(dst);
    }
}
static void test_extremes(void **state) { for_each(extremes_case); }

/* Blocks of the smallest and of ordinary numbers side by side in one row, in every order: ratios of scales leave f32's range. */
static void mixed_case(const snug_codec *codec, codec_params p, const char *name) {
    static const float sizes[] = {1e-45f, 3e-44f, 1e-38f, 1, 1e4f};
    enum { N = sizeof sizes / sizeof *sizes, COLS = 3 * 256 };
    if (codec->caps & CODEC_WHOLE) return;
    uint8_t *dst = malloc((size_t)codec->bytes(p, N * N, COLS));
    float *w = random_weights(N * N, COLS, 10), *hat = malloc(N * N * COLS * sizeof *hat);
    for (size_t r = 0; r < N * N; r++)
        for (size_t c = 0; c < COLS; c++) {
            size_t block = p.group ? c / p.group : c / 32;
            float sign = w[r * COLS + c] < 0 ? -1 : 1;
            w[r * COLS + c] = sign * (block % 2 ? sizes[r % N] : sizes[r / N]);
        }
    for (int effort = 0; effort < 3; effort++) {
        snug_error err = {0};
        if (solve_rtn(codec, p, w, COLS, N * N, COLS, NULL, effort, dst, hat, &err)) fail_msg("%s: %s", name, err.message);
        for (size_t i = 0; i < N * N * COLS; i++)
            if (!(fabsf(hat[i]) < 3e4f)) fail_msg("%s: %g became %g", name, (double)w[i], (double)hat[i]);
    }
    free(dst), free(w), free(hat);
}
static void test_mixed(void **state) { for_each(mixed_case); }

static void bad_input_case(const snug_codec *codec, codec_params p, const char *name) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    uint8_t *dst = malloc((size_t)codec->bytes(p, 20, 64));
    for (int k = 0; k < 3; k++) {
        float *w = random_weights(20, 64, 1), a[64];
        for (int i = 0; i < 64; i++) a[i] = 1;
        w[18 * 64 + 5] = bad[k];
        snug_error err = {0};
        snug_err rc = codec->caps & CODEC_WHOLE ? solve_whole(codec, p, w, 64, 20, 64, a, 1, dst, &err)
                                                : solve_rtn(codec, p, w, 64, 20, 64, a, 0, dst, NULL, &err);
        assert_int_equal(rc, SNUG_ERR_NUMERIC);
        if (!strstr(err.message, "row 18") || !strstr(err.message, "column 5")) fail_msg("%s: %s", name, err.message);
        w[18 * 64 + 5] = 0;
        a[3] = k == 0 ? NAN : k == 1 ? INFINITY : -1;
        rc = codec->caps & CODEC_WHOLE ? solve_whole(codec, p, w, 64, 20, 64, a, 1, dst, &err)
                                       : solve_rtn(codec, p, w, 64, 20, 64, a, 0, dst, NULL, &err);
        assert_int_equal(rc, SNUG_ERR_NUMERIC);
        assert_non_null(strstr(err.message, "column 3"));
        free(w);
    }
    free(dst);
}
static void test_bad_input(void **state) { for_each(bad_input_case); }

/* Columns rounded one tile at a time, as error feedback does it, give what a whole group gives. */
static void by_columns_case(const snug_codec *codec, codec_params p, const char *name) {
    if (codec->caps & CODEC_WHOLE || codec->ahead) return; /* a code that is chosen with what follows depends on the tile */
    size_t rows = 5, cols = 300, bytes = (size_t)codec->bytes(p, rows, cols), step = codec->group_cols(p);
    float *w = random_weights(rows, cols, 12), *hat = malloc(rows * cols * sizeof *hat);
    encoded e = encode(codec, p, w, rows, cols, NULL, 0);
    uint8_t *dst = malloc(bytes);
    void *enc = aligned_alloc(64, round_up(codec->enc_bytes(p, rows, cols), 64));
    codec->enc_init(enc, p, rows, cols, 0);
    if (codec->begin) codec->begin(enc, w, cols, NULL);
    for (size_t c = 0; c < cols; c += step) {
        size_t n = cols - c < step ? cols - c : step;
        codec->group(enc, c, n, w + c, cols, NULL);
        for (size_t i = 0; i < n; i += codec->tile_cols) {
            size_t len = n - i < codec->tile_cols ? n - i : codec->tile_cols;
            codec->round(enc, c + i, len, w + c + i, cols, i % 2 ? NULL : hat + c + i, cols);
        }
    }
    codec->pack(enc, dst);
    assert_memory_equal(dst, e.data, bytes);
    free(enc), free(dst), free(hat), free(w), encoded_fini(&e);
}
static void test_by_columns(void **state) { for_each(by_columns_case); }

/* Fed errors may make weights quite others than `begin` saw: what is stored is what was said all the same. */
static void moved_case(const snug_codec *codec, codec_params p, const char *name) {
    static const float by[] = {1e-30f, 100, 1e20f, 1e38f};
    enum { R = 5, C = 300 };
    if (codec->caps & CODEC_WHOLE) return;
    const size_t bytes = (size_t)codec->bytes(p, R, C), step = codec->group_cols(p);
    float *w = random_weights(R, C, 15), *a = random_importance(C, 16), *hat = malloc(R * C * sizeof *hat), *out = malloc(R * C * sizeof *out);
    uint8_t *dst = malloc(bytes);
    void *enc = aligned_alloc(64, round_up(codec->enc_bytes(p, R, C), 64));
    for (size_t k = 0; k < sizeof by / sizeof *by; k++) {
        float *moved = malloc(R * C * sizeof *moved);
        for (size_t i = 0; i < R * C; i++) moved[i] = fmaxf(fminf(w[i] * by[k], 3e38f), -3e38f);
        codec->enc_init(enc, p, R, C, (int)(k % 3));
        if (codec->begin) codec->begin(enc, w, C, a);
        for (size_t c = 0; c < C; c += step) {
            const size_t n = C - c < step ? C - c : step;
            codec->group(enc, c, n, moved + c, C, a + c);
            codec->round(enc, c, n, moved + c, C, hat + c, C);
        }
        codec->pack(enc, dst);
        wt t;
        assert_int_equal(wt_open(codec, p, R, C, dst, bytes, &t, NULL), SNUG_OK);
        codec->decode(&t, 0, R, out, C);
        for (size_t i = 0; i < R * C; i++)
            if (!(out[i] == hat[i] || (out[i] != out[i] && hat[i] != hat[i]))) fail_msg("%s: %g, not %g", name, (double)out[i], (double)hat[i]);
        free(moved);
    }
    free(w), free(a), free(hat), free(out), free(dst), free(enc);
}
static void test_moved(void **state) { for_each(moved_case); }

/* ---- scales that solvers choose ---- */

/* What a codec says that its columns decode to under scales of the caller's is what is stored; as they stand, shared scales times what they
 * scale are the reconstruction. */
static void scales_case(const snug_codec *codec, codec_params p, const char *name) {
    enum { R = 5, C = 600 };
    static const float times[][CODEC_SHARED] = {{1, 1}, {1.013f, 0.97f}, {1e30f, -1e30f}, {-0.5f, 0}, {1e-12f, 1}};
    if (!codec->shared && !codec->neighbour) return;
    const size_t bytes = (size_t)codec->bytes(p, R, C), group = codec->group_cols(p);
    float *w = random_weights(R, C, 13), *a = random_importance(C, 13), *hat = malloc(R * C * sizeof *hat), *out = malloc(R * C * sizeof *out);
    float *u[CODEC_SHARED] = {malloc(C * sizeof **u), malloc(C * sizeof **u)}, line[C];
    uint8_t *dst = malloc(bytes);
    void *enc = aligned_alloc(64, round_up(codec->enc_bytes(p, R, C), 64));
    for (size_t k = 0; k < sizeof times / sizeof *times; k++) {
        codec->enc_init(enc, p, R, C, SNUG_EFFORT_NORMAL);
        if (codec->begin) codec->begin(enc, w, C, a);
        for (size_t c = 0; c < C; c += group) {
            const size_t n = C - c < group ? C - c : group;
            codec->group(enc, c, n, w + c, C, a + c);
            codec->round(enc, c, n, w + c, C, hat + c, C);
        }
        for (size_t r = 0; r < R; r++)
            for (size_t c = 0; codec->shared && c < C; c += group) {
                const size_t n = C - c < group ? C - c : group;
                float x[CODEC_SHARED] = {0}, *const at = hat + r * C + c;
                const int n_shared = codec->shared(enc, r, c, x, u);
                for (size_t i = 0; i < n; i++) {
                    double sum = 0, size = 1e-30;
                    for (int j = 0; j < n_shared; j++) sum += (double)x[j] * u[j][i], size += fabs((double)x[j] * u[j][i]);
                    if (fabs(sum - at[i]) > 1e-5 * size) fail_msg("%s: %g, not %g", name, sum, (double)at[i]);
                }
                for (int j = 0; j < n_shared; j++) x[j] *= times[k][j];
                codec->reshare(enc, r, c, x, line);
                if (k == 0) assert_memory_equal(line, at, n * sizeof *line);
                memcpy(at, line, n * sizeof *line);
            }
        for (size_t r = 0; r < R; r++)
            for (size_t c = 0; codec->neighbour && c < C; c += codec->scale_cols(p)) {
                uint32_t scales;
                const size_t n = codec->neighbour(enc, r, c, (int)(r + c) % CODEC_NEIGHBOURS, line, &scales);
                if (n) codec->rescale(enc, r, c, scales);
                memcpy(hat + r * C + c, line, n * sizeof *line);
            }
        wt t;
        codec->pack(enc, dst);
        assert_int_equal(wt_open(codec, p, R, C, dst, bytes, &t, NULL), SNUG_OK);
        codec->decode(&t, 0, R, out, C);
        for (size_t i = 0; i < R * C; i++)
            if (!(out[i] == hat[i])) fail_msg("%s: %g, not %g", name, (double)out[i], (double)hat[i]);
    }
    free(w), free(a), free(hat), free(out), free(u[0]), free(u[1]), free(dst), free(enc);
}
static void test_scales(void **state) { for_each(scales_case); }

/* No shape overflows the size into something small. */
static void overflow_case(const snug_codec *codec, codec_params p, const char *name) {
    uint64_t huge = UINT64_MAX / 2;
    if (codec->id == TILE16_ID) return;
    assert_true(codec->bytes(p, huge, huge) == 0);
    assert_true(codec->bytes(p, huge, 4096) == 0 || codec->caps & CODEC_WHOLE);
    for (uint64_t off = 0; off < 600; off += 3) { /* 0 or at least a bit per weight, which all codecs need */
        uint64_t n = codec->bytes(p, 1, UINT64_MAX - off);
        if (n != 0 && n < UINT64_MAX / 16) fail_msg("%s: 2^64 - %d weights in %d bytes", name, (int)off + 1, (int)n);
    }
}
static void test_overflow(void **state) { for_each(overflow_case); }

/* Sum of a (w - w_hat)^2 over that of a w^2, the codes having been chosen with `chosen` as importances. */
static double weighted_loss(const snug_codec *codec, codec_params p, const float *w, size_t rows, size_t cols, const float *chosen, const float *a) {
    encoded e = encode(codec, p, w, rows, cols, chosen, SNUG_EFFORT_NORMAL);
    double lost = 0, all = 0;
    for (size_t i = 0; i < rows * cols; i++) {
        lost += a[i % cols] * ((double)w[i] - e.hat[i]) * ((double)w[i] - e.hat[i]);
        all += a[i % cols] * (double)w[i] * w[i];
    }
    encoded_fini(&e);
    return lost / all;
}
/* Trellis codes give bands of columns that matter more a higher rate: with importances of 4 and 1/4 in turn, means 2.125 and 1, half of the loss could go. */
static void test_rates_follow_importance(void **state) {
    enum { ROWS = 16, COLS = 512 };
    rng r;
    rng_seed(&r, 5, 0);
    float w[ROWS * COLS], a[COLS];
    for (size_t i = 0; i < ROWS * COLS; i++) w[i] = rng_normal(&r);
    for (size_t i = 0; i < COLS; i++) a[i] = i / 64 % 2 ? 0.25f : 4;
    for (uint16_t quarters = 6; quarters <= 18; quarters += 3) {
        const codec_params p = {.rank = quarters}, wide = {.rank = quarters, .group = 128}; /* whose bands have both importances */
        const double mixed = weighted_loss(&codec_tcq, wide, w, ROWS, COLS, a, a);
        const double alike = weighted_loss(&codec_tcq, p, w, ROWS, COLS, NULL, a), own = weighted_loss(&codec_tcq, p, w, ROWS, COLS, a, a);
        if (!(own < 0.62 * alike && mixed > 0.9 * alike)) fail_msg("tcq of %u quarters: %g, with bands %g, with bands too wide %g", (unsigned)quarters, alike, own, mixed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),   cmocka_unit_test(test_round_trip), cmocka_unit_test(test_lossless),
        cmocka_unit_test(test_matmul),  cmocka_unit_test(test_layouts),    cmocka_unit_test(test_panels_made),
        cmocka_unit_test(test_hostile), cmocka_unit_test(test_zeros),
        cmocka_unit_test(test_extremes), cmocka_unit_test(test_mixed),     cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_by_columns), cmocka_unit_test(test_moved),   cmocka_unit_test(test_scales),
        cmocka_unit_test(test_overflow), cmocka_unit_test(test_rates_follow_importance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
