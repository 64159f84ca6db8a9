// rooms: base kern codec linalg solve
/* Weights as sums of terms over row and column ranges; names of compositions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include <math.h>
#include "base/rng.h"
#include "codec/transform.h"
#include "codec_tile16.h"
#include "q8_rows.h"
#include "solve/solve.h"

enum { ROWS = 70, COLS = 620, LD = 768, TOKENS = 19 };

typedef struct fixture { weight w; uint8_t *payload[WEIGHT_MAX_TERMS]; float *dense; act x; } fixture;

static void add_term(fixture *f, const char *name, size_t row0, size_t rows, size_t col0, size_t cols, uint64_t seed) {
    const snug_codec *codec;
    codec_params p;
    snug_error err;
    rng r;
    assert_true(codec_parse(name, &codec, &p));
    float *w = malloc(rows * cols * sizeof *w), *hat = malloc(rows * cols * sizeof *hat);
    rng_seed(&r, seed, 0);
    for (size_t i = 0; i < rows * cols; i++) w[i] = rng_normal(&r);
    size_t n = (size_t)codec->bytes(p, rows, cols);
    term *t = &f->w.term[f->w.n_terms];
    uint8_t *data = f->payload[f->w.n_terms++] = malloc(n);
    snug_err e = codec->caps & CODEC_WHOLE ? solve_whole(codec, p, w, cols, rows, cols, NULL, 1, data, &err)
                                           : solve_rtn(codec, p, w, cols, rows, cols, NULL, SNUG_EFFORT_QUICK, data, NULL, &err);
    assert_int_equal(e, SNUG_OK);
    assert_int_equal(wt_open(codec, p, rows, cols, data, n, &t->wt, &err), SNUG_OK);
    t->row0 = row0;
    t->col0 = col0;
    codec->decode(&t->wt, 0, rows, hat, cols);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) f->dense[(row0 + i) * COLS + col0 + j] += hat[i * cols + j];
    free(w), free(hat);
}

static void fixture_init(fixture *f) {
    codec_register_for_test(&codec_tile16);
    *f = (fixture){.w = {.rows = ROWS, .cols = COLS}, .dense = calloc(ROWS * COLS, sizeof(float))};
    float *f32 = calloc(TOKENS * LD, sizeof *f32);
    rng r;
    rng_seed(&r, 8, 0);
    for (size_t i = 0; i < TOKENS * LD; i++)
        if (i % LD < COLS) f32[i] = rng_normal(&r);
    f->x = (act){.n_tokens = TOKENS, .cols = COLS, .cols_padded = LD, .f32 = f32};
}
static void fixture_fini(fixture *f) {
    for (uint32_t i = 0; i < f->w.n_terms; i++) free(f->payload[i]);
    free(f->dense), free((void *)f->x.f32);
}

/* Scratch of exactly the size promised for any number of rows. */
static void multiply(const fixture *f, uint64_t row0, size_t n, size_t t0, size_t n_tokens, bool q8, float *y, size_t ldy) {
    act x = f->x;
    x.n_tokens = n_tokens, x.f32 += t0 * LD;
    x.q8 = q8_rows(x.f32, n_tokens, LD);
    size_t need = round_up(weight_scratch_bytes(&f->w, n_tokens, q8), 64);
    void *scratch = aligned_alloc(64, need + 64);
    memset(scratch, 0xff, need);
    weight_matmul(&f->w, row0, n, &(act_set){.in = {x}}, q8, y, ldy, scratch);
    q8_rows_free(&x.q8);
    free(scratch);
}

static void check(fixture *f) {
    float *out = malloc(ROWS * COLS * sizeof *out), *y = malloc(TOKENS * ROWS * sizeof *y), *part = malloc(TOKENS * ROWS * sizeof *y);
    weight_decode(&f->w, 0, ROWS, out, COLS);
    for (size_t i = 0; i < ROWS * COLS; i++) assert_true(fabsf(out[i] - f->dense[i]) <= 1e-6f * (1 + fabsf(out[i])));
    for (size_t r = 0; r < ROWS; r += 9) { /* any row, alone */
        float row[COLS];
        weight_decode(&f->w, r, 1, row, COLS);
        assert_memory_equal(row, out + r * COLS, sizeof row);
    }
    for (int q8 = 0; q8 < 2; q8++) {
        memset(y, 0xff, TOKENS * ROWS * sizeof *y); /* NaN: weight_matmul must set, not add */
        multiply(f, 0, ROWS, 0, TOKENS, q8, y, ROWS);
        for (size_t t = 0; t < TOKENS; t++)
            for (size_t r = 0; r < ROWS; r++) {
                double sum = 0, size = 0;
                for (size_t c = 0; c < COLS; c++) {
                    double v = (double)out[r * COLS + c] * f->x.f32[t * LD + c];
                    sum += v, size += fabs(v);
                }
                double tol = q8 ? 0.15 * sqrt(COLS) : 1e-5 * size;
                if (!(fabs(y[t * ROWS + r] - sum) <= tol)) fail_msg("q8=%d: %g, not %g", q8, (double)y[t * ROWS + r], sum);
            }
        static const size_t row_steps[] = {1, 7, 32}, token_steps[] = {1, 4, 17};
        for (int k = 0; k < 3; k++) {
            for (size_t r = 0; r < ROWS; r += row_steps[k])
                for (size_t t = 0; t < TOKENS; t += token_steps[k]) {
                    size_t n = ROWS - r < row_steps[k] ? ROWS - r : row_steps[k];
                    size_t m = TOKENS - t < token_steps[k] ? TOKENS - t : token_steps[k];
                    multiply(f, r, n, t, m, q8, part + t * ROWS + r, ROWS);
                }
            assert_memory_equal(part, y, TOKENS * ROWS * sizeof *y);
        }
    }
    free(out), free(y), free(part);
}

static void test_single(void **state) {
    static const char *const names[] = {"bf16", "int3g64", "q4_k", "lowrank5", "tile16", "sp16b3g64", "sp3of4b4g32", "terng128", "out30", "gs3b4g32",
                                        "dict20s4b5"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        fixture f;
        fixture_init(&f);
        add_term(&f, names[i], 0, ROWS, 0, COLS, i);
        assert_int_equal(weight_bytes(&f.w), f.w.term[0].wt.bytes);
        assert_int_equal(weight_wants_q8(&f.w, TRANSFORM_NONE), f.w.term[0].wt.codec->act == CODEC_ACT_Q8);
        check(&f);
        fixture_fini(&f);
    }
}

/* Whole terms on top of each other; ranges that end before the weight and start inside it. */
static void test_sum(void **state) {
    fixture f;
    fixture_init(&f);
    add_term(&f, "q2_k", 0, ROWS, 0, COLS, 1);
    add_term(&f, "int4g32", 0, ROWS, 0, COLS, 2);
    add_term(&f, "lowrank8", 0, ROWS, 0, COLS, 3);
    add_term(&f, "f16", 0, ROWS, 0, COLS, 4);
    check(&f);
    fixture_fini(&f);
}
static void test_ranges(void **state) {
    fixture f;
    fixture_init(&f);
    add_term(&f, "sp12b5g64", 0, 48, 0, 200, 1);
    add_term(&f, "tern34g32", 3, 48, 224, COLS - 224, 2);
    add_term(&f, "out20", 7, 40, 320, 277, 3);
    add_term(&f, "int5g64", 0, ROWS, 0, COLS, 4);
    check(&f);
    fixture_fini(&f);
    fixture_init(&f);
    add_term(&f, "int3g128", 0, 48, 0, 200, 1);  /* two codecs side by side in the upper rows */
    add_term(&f, "q6_k", 0, 48, 224, COLS - 224, 2);
    add_term(&f, "tile16", 48, ROWS - 48, 0, COLS, 3);
    add_term(&f, "lowrank3", 16, 40, 320, 77, 4); /* across both */
    check(&f);
    fixture_fini(&f);
}

/* ---- transforms ---- */

/* T from its definition: rows of block b are (-1)^popcount(i & j) s_j / sqrt(b). */
static double transform_at(size_t cols, size_t i, size_t j) {
    const size_t b = transform_block(cols);
    if (i / b != j / b) return 0;
    return (__builtin_popcountll(i % b & j % b) % 2 ? -1 : 1) * (transform_negates(j) ? -1 : 1) / sqrt((double)b);
}

static void test_transform(void **state) {
    static const size_t widths[] = {16, 48, 128, 172 * 4, 640, 1216}, none[] = {1, 8, 172, 620, 0};
    size_t negative = 0;
    for (size_t j = 0; j < 4096; j++) negative += transform_negates(j);
    assert_in_range(negative, 1900, 2200);
    for (size_t k = 0; k < sizeof none / sizeof *none; k++) assert_false(transform_takes(TRANSFORM_HADAMARD, none[k]));
    for (size_t k = 0; k < sizeof widths / sizeof *widths; k++) {
        const size_t n = widths[k];
        float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
        rng r;
        rng_seed(&r, 77, k);
        for (size_t j = 0; j < n; j++) x[j] = rng_normal(&r);
        assert_true(transform_takes(TRANSFORM_HADAMARD, n));
        transform_apply(TRANSFORM_HADAMARD, n, x, y);
        for (size_t i = 0; i < n; i++) {
            double sum = 0;
            for (size_t j = 0; j < n; j++) sum += transform_at(n, i, j) * (double)x[j];
            assert_true(fabs(y[i] - sum) < 3e-6);
        }
        transform_undo(TRANSFORM_HADAMARD, n, y);
        for (size_t j = 0; j < n; j++) assert_true(fabsf(y[j] - x[j]) < 3e-6f);
        free(x), free(y);
    }
}

/* Terms in both bases: the sum of each term's own decoding, turned back by T's definition; and a product that agrees with it. */
static void test_transformed_terms(void **state) {
    enum { R = 37, C = 672, PAD = 768, T = 11 };
    static const char *const comps[] = {"had:int3g64", "had:q4_k+out20+lowrank3", "had:int2g64+had:int4g32+sp16b3g64", "out30+had:sp2of4b4g64", "had:terng64"};
    for (size_t k = 0; k < sizeof comps / sizeof *comps; k++) {
        comp c;
        assert_true(comp_parse(comps[k], &c));
        float *w = malloc(R * C * sizeof *w), *out = malloc(R * C * sizeof *out), *part = malloc(R * C * sizeof *part), *x = calloc(2 * T * PAD, sizeof *x);
        double *want = calloc(R * C, sizeof *want);
        uint8_t *dst[WEIGHT_MAX_TERMS] = {0};
        rng r;
        rng_seed(&r, 78, k);
        for (size_t i = 0; i < R * C; i++) w[i] = rng_normal(&r);
        for (uint32_t i = 0; i < c.n_terms; i++) dst[i] = malloc((size_t)comp_term_bytes(&c, i, R, C));
        assert_int_equal(solve_comp(&c, w, R, C, (solve_input[TRANSFORM_COUNT]){{0}}, SNUG_EFFORT_NORMAL, 2, dst, NULL), SNUG_OK);
        weight v = {.rows = R, .cols = C, .n_terms = c.n_terms};
        for (uint32_t i = 0; i < c.n_terms; i++) {
            const comp_term *t = &c.term[i];
            assert_int_equal(wt_open(t->codec, t->params, R, C, dst[i], comp_term_bytes(&c, i, R, C), &v.term[i].wt, NULL), SNUG_OK);
            t->codec->decode(&v.term[i].wt, 0, R, part, C);
            for (size_t a = 0; a < R; a++)
                for (size_t j = 0; j < C; j++) {
                    const size_t b = transform_block(C), first = j / b * b;
                    if (t->params.in == TRANSFORM_NONE) want[a * C + j] += (double)part[a * C + j];
                    else for (size_t i2 = first; i2 < first + b; i2++) want[a * C + j] += (double)part[a * C + i2] * transform_at(C, i2, j);
                }
        }
        weight_decode(&v, 0, R, out, C);
        double error = 0;
        for (size_t i = 0; i < R * C; i++) {
            assert_true(fabs(out[i] - want[i]) < 1e-5);
            error += ((double)out[i] - w[i]) * ((double)out[i] - w[i]) / (R * C);
        }
        assert_true(error < 0.25); /* each term saw what the others left, in its own basis */
        for (size_t i = 0; i < T; i++)
            for (size_t j = 0; j < C; j++) x[i * PAD + j] = rng_normal(&r);
        for (size_t i = 0; i < T; i++) transform_apply(TRANSFORM_HADAMARD, C, x + i * PAD, x + (T + i) * PAD);
        for (int q8 = 0; q8 < 2; q8++) {
            act_set set;
            for (int b = 0; b < TRANSFORM_COUNT; b++) {
                set.in[b] = (act){.n_tokens = T, .cols = C, .cols_padded = PAD, .f32 = x + b * T * PAD};
                set.in[b].q8 = q8_rows(set.in[b].f32, T, PAD);
                assert_int_equal(weight_reads(&v, b), comp_reads(&c, b));
            }
            float *y = malloc(T * R * sizeof *y);
            void *scratch = aligned_alloc(64, round_up(weight_scratch_bytes(&v, T, q8), 64) + 64);
            weight_matmul(&v, 0, R, &set, q8, y, R, scratch);
            for (size_t t = 0; t < T; t++)
                for (size_t a = 0; a < R; a++) {
                    double sum = 0;
                    for (size_t j = 0; j < C; j++) sum += (double)out[a * C + j] * x[t * PAD + j];
                    assert_true(fabs(y[t * R + a] - sum) <= (q8 ? 0.15 * sqrt(C) : 1e-3));
                }
            for (int b = 0; b < TRANSFORM_COUNT; b++) q8_rows_free(&set.in[b].q8);
            free(y), free(scratch);
        }
        for (uint32_t i = 0; i < c.n_terms; i++) free(dst[i]);
        free(w), free(out), free(part), free(x), free(want);
    }
}

static void test_comp(void **state) {
    static const char *const good[] = {"dict64s8b4+gs4b4g32", "bf16", "int3g64+lowrank16", "q2_k+int2g64+lowrank8+f32",
                                       "out10+sp16b3g64", "had:int3g64", "out10+had:q2_k+had:int2g64", "out1+sp3of4b8g128+sp2of4b2g32+tern34g128"};
    static const char *const bad[] = {"", "+", "bf16+", "+bf16", "bf16++f16", "f32+f32+f32+f32+f32", "int3g64 + f32", "had:", "had:had:int3g64", "had:lowrank8", "had:dict64s8b4", "had:bf16", "had:out10", "hadint3g64",
                                      "int3g640000000000000000000000"};
    comp c, d;
    char text[COMP_NAME_MAX];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(comp_parse(good[i], &c));
        comp_format(&c, text);
        assert_string_equal(text, good[i]);
        assert_true(comp_parse(text, &d) && comp_equal(&c, &d));
        size_t n = 1;
        for (const char *p = good[i]; *p; p++) n += *p == '+';
        assert_int_equal(c.n_terms, n);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(comp_parse(bad[i], &c));
    assert_true(comp_parse("int3g64", &c) && comp_parse("int3g32", &d) && !comp_equal(&c, &d));
    assert_int_equal(comp_term_bytes(&c, 0, 10, 128), 10 * (2 + 2 + 4 * 12));
    assert_true(comp_parse("had:int3g64", &d) && !comp_equal(&c, &d));
    assert_int_equal(comp_term_bytes(&d, 0, 10, 128), 10 * (2 + 2 + 4 * 12));
    assert_int_equal(comp_term_bytes(&d, 0, 10, 172), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_single), cmocka_unit_test(test_sum), cmocka_unit_test(test_ranges),
                                       cmocka_unit_test(test_comp), cmocka_unit_test(test_transform),
                                       cmocka_unit_test(test_transformed_terms)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
