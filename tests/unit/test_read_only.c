// rooms: base kern codec
/* The ggml types that are only read (codec/read_only.h): ggml's bits out of any blocks, products near the double ones whichever way rows and tokens
 * are cut, hostile bytes, and that nobody takes them for codecs that encode. */
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
#include "codec/weight.h"
#include "q8_rows.h"

enum { BLOCKS = 64, MAX_BYTES = 110, ROWS = 21, COLS = 512, TOKENS = 11 };

/* ggml's decoding of pseudo-random blocks, by tests/kern/golden_unpack.py; `top`: where scales' upper bytes are, made finite there. */
static const struct { const char *name; uint64_t hash; int top[2]; } golden[] = {
    {"q4_1", 0x8438a355275722c5u, {1, 3}},   {"q5_0", 0x77736719434f8494u, {1, -1}},    {"q5_1", 0x5e522df25dad052bu, {1, 3}},
    {"q1_0", 0xfcf20748dcd9e725u, {1, -1}},  {"mxfp4", 0x1ceac5d24992523au, {-1, -1}},  {"nvfp4", 0x197c1bc3e376be1cu, {-1, -1}},
    {"iq2_xxs", 0x5e3a362a26105307u, {1, -1}}, {"iq2_xs", 0x1c259de7c7777d6cu, {1, -1}}, {"iq2_s", 0x88b2c0d7163a7929u, {1, -1}},
    {"iq3_xxs", 0x20af4ab542817eb8u, {1, -1}}, {"iq3_s", 0xeeaaaaf948bea35au, {1, -1}},  {"iq1_s", 0x1e1e4915840d3ee6u, {1, -1}},
    {"iq1_m", 0x89c288767d13f139u, {55, -1}},
};
enum { N_GOLDEN = sizeof golden / sizeof *golden };

static const snug_codec *codec_of(size_t k) {
    const snug_codec *codec;
    codec_params p;
    assert_true(codec_parse(golden[k].name, &codec, &p));
    return codec;
}

static void clear_top(size_t k, uint8_t *block) {
    for (int i = 0; i < 2; i++)
        if (golden[k].top[i] >= 0) block[golden[k].top[i]] &= 0xbf;
}

static uint64_t fnv1a(const void *p, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)p)[i]) * 0x100000001b3u;
    return h;
}

static void decodes_as_ggml(void **state) {
    static uint8_t raw[BLOCKS * MAX_BYTES];
    static float w[BLOCKS * 256];
    for (size_t k = 0; k < N_GOLDEN; k++) {
        const snug_codec *codec = codec_of(k);
        const size_t cols = (size_t)BLOCKS * codec->block_cols, n = (size_t)codec->bytes((codec_params){0}, 1, cols);
        uint64_t lcg = 1;
        wt t;
        for (size_t i = 0; i < n; i++) {
            lcg = lcg * 6364136223846793005u + 1442695040888963407u;
            raw[i] = (uint8_t)(lcg >> 56);
        }
        for (size_t i = 0; i < n; i += n / BLOCKS) clear_top(k, raw + i);
        assert_int_equal(wt_open(codec, (codec_params){0}, 1, cols, raw, n, &t, NULL), SNUG_OK);
        codec->decode(&t, 0, 1, w, cols);
        if (fnv1a(w, cols * sizeof *w) != golden[k].hash) fail_msg("%s does not decode as ggml does", golden[k].name);
    }
}

/* A payload of tame scales. */
static uint8_t *any_payload(size_t k, wt *t) {
    const snug_codec *codec = codec_of(k);
    const size_t n = (size_t)codec->bytes((codec_params){0}, ROWS, COLS), block = n / (ROWS * COLS / codec->block_cols);
    uint8_t *data = malloc(n);
    rng r;
    rng_seed(&r, 3, k);
    for (size_t i = 0; i < n; i++) data[i] = (uint8_t)rng_next(&r);
    for (size_t i = 0; i < n; i += block) {
        if (codec->id == CODEC_ID_MXFP4) data[i] = (uint8_t)(120 + rng_below(&r, 12));
        if (golden[k].top[0] >= 0) data[i + (size_t)golden[k].top[0]] = (uint8_t)(0x30 + rng_below(&r, 8)); /* about 0.3 */
        if (golden[k].top[1] >= 0) data[i + (size_t)golden[k].top[1]] = (uint8_t)(0xb0 + rng_below(&r, 8));
    }
    assert_int_equal(wt_open(codec, (codec_params){0}, ROWS, COLS, data, n, t, NULL), SNUG_OK);
    assert_int_equal(wt_open(codec, (codec_params){0}, ROWS, COLS, data, n - 1, t, NULL), SNUG_ERR_FORMAT);
    assert_int_equal(wt_open(codec, (codec_params){0}, ROWS, COLS, data, n, t, NULL), SNUG_OK);
    return data;
}

static void run(const wt *t, uint64_t row0, size_t n, const act *x, float *y, size_t ldy) {
    void *scratch = aligned_alloc(64, round_up(t->codec->scratch_bytes(t, n, x->n_tokens), 64));
    t->codec->matmul(t, row0, n, x, y, ldy, scratch);
    free(scratch);
}

static void products(void **state) {
    float *x = malloc(TOKENS * COLS * sizeof *x), *w = malloc(ROWS * COLS * sizeof *w), *add = calloc(ROWS * COLS, sizeof *add);
    rng r;
    rng_seed(&r, 4, 0);
    for (size_t i = 0; i < TOKENS * COLS; i++) x[i] = rng_normal(&r);
    act all = {TOKENS, COLS, COLS, x, q8_rows(x, TOKENS, COLS)}, one = {1, COLS, COLS, x, q8_rows(x, 1, COLS)};
    for (size_t k = 0; k < N_GOLDEN; k++) {
        wt t;
        uint8_t *data = any_payload(k, &t);
        float y[TOKENS * ROWS] = {0}, parts[TOKENS * ROWS] = {0}, single[ROWS] = {0};
        t.codec->decode(&t, 0, ROWS, w, COLS);
        memset(add, 0, ROWS * COLS * sizeof *add);
        t.codec->decode_add(&t, 0, ROWS, add, COLS);
        for (size_t i = 0; i < ROWS * COLS; i++) assert_true(w[i] == add[i] && isfinite(w[i]));
        run(&t, 0, ROWS, &all, y, ROWS);
        run(&t, 0, 5, &all, parts, ROWS), run(&t, 5, ROWS - 5, &all, parts + 5, ROWS);
        run(&t, 0, ROWS, &one, single, ROWS);
        assert_memory_equal(y, parts, sizeof y);
        assert_memory_equal(y, single, sizeof single);
        for (size_t i = 0; i < TOKENS * ROWS; i++) {
            double sum = 0, size = 0;
            for (size_t c = 0; c < COLS; c++) sum += (double)w[i % ROWS * COLS + c] * (double)x[i / ROWS * COLS + c], size += fabs((double)w[i % ROWS * COLS + c] * (double)x[i / ROWS * COLS + c]);
            if (fabs(sum - (double)y[i]) > 0.01 * size) fail_msg("%s: %g, expected %g", golden[k].name, (double)y[i], sum);
        }
        free(data);
    }
    q8_rows_free(&all.q8), q8_rows_free(&one.q8), free(x), free(w), free(add);
}

static void any_bytes_are_safe(void **state) {
    for (size_t k = 0; k < N_GOLDEN; k++)
        for (int round = 0; round < 4; round++) {
            const snug_codec *codec = codec_of(k);
            const size_t n = (size_t)codec->bytes((codec_params){0}, 3, COLS);
            uint8_t *data = malloc(n);
            float out[3 * COLS], x[COLS] = {1}, y[3] = {0};
            rng r;
            wt t;
            rng_seed(&r, 5, k);
            for (size_t i = 0; i < n; i++) data[i] = round == 0 ? 0xff : round == 1 ? 0x7f : (uint8_t)rng_next(&r);
            assert_int_equal(wt_open(codec, (codec_params){0}, 3, COLS, data, n, &t, NULL), SNUG_OK);
            codec->decode(&t, 0, 3, out, COLS);
            act a = {1, COLS, COLS, x, q8_rows(x, 1, COLS)};
            run(&t, 0, 3, &a, y, 3);
            q8_rows_free(&a.q8), free(data);
        }
}

static void have_no_encoder(void **state) {
    for (size_t k = 0; k < N_GOLDEN; k++) {
        const snug_codec *codec = codec_of(k), *other;
        codec_params p;
        char turned[CODEC_NAME_MAX] = "had:";
        assert_true(codec->caps & CODEC_READ_ONLY && codec->caps & CODEC_GGUF_NATIVE && !codec->enc_bytes && !codec->round && !codec->relay);
        assert_ptr_equal(codec_by_ggml_type((uint32_t)codec->ggml_type), codec);
        assert_ptr_equal(codec_by_id(codec->id), codec);
        strcat(turned, golden[k].name);
        assert_false(codec_parse(turned, &other, &p));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_as_ggml), cmocka_unit_test(products), cmocka_unit_test(any_bytes_are_safe), cmocka_unit_test(have_no_encoder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
