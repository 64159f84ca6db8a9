// rooms: base kern codec linalg solve
/* tq1_0, tq2_0: weights of d times -1, 0, 1 are held exactly; else no scale would have been better. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/f16.h"
#include "base/rng.h"
#include "codec/codecs.h"
#include "solve/solve.h"

static const snug_codec *const codecs[] = {&codec_tq1_0, &codec_tq2_0};

/* Encodes w; what comes back to hat. */
static void round_trip(const snug_codec *codec, const float *w, size_t rows, size_t cols, const float *a, float *hat) {
    const codec_params p = {0};
    const size_t n = (size_t)codec->bytes(p, rows, cols);
    uint8_t *data = malloc(n);
    wt t;
    assert_int_equal(solve_rtn(codec, p, w, cols, rows, cols, a, SNUG_EFFORT_NORMAL, data, NULL, NULL), SNUG_OK);
    assert_int_equal(wt_open(codec, p, rows, cols, data, n, &t, NULL), SNUG_OK);
    codec->decode(&t, 0, rows, hat, cols);
    free(data);
}

/* d: a bf16 per block that is an f16 too; with importances and without, wherever a row ends; blocks of zeros and of one weight among them. */
static void ternary_weights_are_exact(void **state) {
    static const size_t widths[] = {256, 512, 300, 1, 767, 2048};
    enum { ROWS = 19 };
    rng r;
    rng_seed(&r, 5, 0);
    for (size_t k = 0; k < 6; k++)
        for (size_t c = 0; c < 2; c++) {
            const size_t cols = widths[k];
            float *w = malloc(ROWS * cols * sizeof *w), *hat = malloc(ROWS * cols * sizeof *hat), d = 0;
            float *a = malloc(cols * sizeof *a);
            for (size_t j = 0; j < cols; j++) a[j] = expf(2 * rng_normal(&r));
            for (size_t i = 0; i < ROWS * cols; i++) {
                if (i % cols % 256 == 0) d = ldexpf(1 + (float)rng_below(&r, 128) / 128, (int)rng_below(&r, 28) - 14);
                const uint32_t rare = 2 + (uint32_t)(i / cols) * 20; /* rows from dense to nearly empty */
                w[i] = rng_below(&r, rare) > 1 ? 0 : rng_below(&r, 2) ? d : -d;
            }
            for (int with = 0; with < 2; with++) {
                round_trip(codecs[c], w, ROWS, cols, with ? a : NULL, hat);
                for (size_t i = 0; i < ROWS * cols; i++) assert_true(hat[i] == w[i]);
            }
            free(w), free(hat), free(a);
        }
}

/* Beside every f16 there is. */
static void no_scale_is_better(void **state) {
    rng r;
    rng_seed(&r, 6, 0);
    for (int k = 0; k < 12; k++) {
        float w[256], hat[256];
        float a[256];
        double found = 0, best = INFINITY, mean = 0;
        for (int i = 0; i < 256; i++) {
            w[i] = rng_normal(&r) * (k % 3 == 1 && rng_below(&r, 20) == 0 ? 8 : 1);
            a[i] = k % 2 ? expf(1.5f * rng_normal(&r)) : 1;
            mean += (double)a[i] / 256;
        }
        round_trip(codecs[k % 2], w, 1, 256, a, hat);
        for (int i = 0; i < 256; i++) found += (double)a[i] / mean * (double)((w[i] - hat[i]) * (w[i] - hat[i]));
        for (uint16_t h = 1; h < 0x7c00; h++) {
            const double d = (double)f16_to_f32(h);
            double sum = 0;
            for (int i = 0; i < 256 && sum < best; i++) {
                const double x = fabs((double)w[i]), e = 2 * x > d ? x - d : x;
                sum += (double)a[i] / mean * e * e;
            }
            if (sum < best) best = sum;
        }
        assert_true(found <= best * 1.0001);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ternary_weights_are_exact),
        cmocka_unit_test(no_scale_is_better),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
