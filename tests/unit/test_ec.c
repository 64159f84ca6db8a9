// rooms: base kern codec linalg solve
/* ecR beyond the contract of all codecs: streams that fill their bytes, steps that follow importances, panels that are kept. */
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
#include "codec/ec.h"
#include "q8_rows.h"
#include "solve/solve.h"

static const uint16_t rates[] = {6, 8, 11, 12, 16, 20, 24};
enum { N_RATES = sizeof rates / sizeof *rates };

static float *gaussian(size_t n, uint64_t seed) {
    float *w = malloc(n * sizeof *w);
    rng r;
    rng_seed(&r, seed, n);
    for (size_t i = 0; i < n; i++) w[i] = 0.02f * rng_normal(&r);
    return w;
}

typedef struct stored { wt wt; uint8_t *data; float *hat; } stored;
static stored store(uint16_t quarters, const float *w, size_t rows, size_t cols, const float *a, int effort) {
    const codec_params p = {.rank = quarters};
    const size_t n = (size_t)codec_ec.bytes(p, rows, cols);
    stored s = {.data = malloc(n), .hat = malloc(rows * cols * sizeof(float))};
    assert_int_equal(solve_rtn(&codec_ec, p, w, cols, rows, cols, a, effort, s.data, s.hat, NULL), SNUG_OK);
    assert_int_equal(wt_open(&codec_ec, p, rows, cols, s.data, n, &s.wt, NULL), SNUG_OK);
    return s;
}
static void stored_fini(stored *s) { free(s->data), free(s->hat); }

/* Words of a panel that end it and are 0: what was not needed, and a few that happen to be. */
static size_t unused(const stored *s, size_t panel) {
    const ec_layout at = ec_layout_of(s->wt.params, (size_t)s->wt.cols);
    size_t n = 0;
    for (const uint8_t *end = s->data + (panel + 1) * at.bytes; n < at.n_words && end[-1] == 0 && end[-2] == 0; end -= 2) n++;
    return n;
}

static void streams_fill_their_bytes(void **state) {
    enum { ROWS = 32, COLS = 2048 };
    float *w = gaussian(ROWS * COLS, 1), *a = malloc(COLS * sizeof *a);
    rng r;
    rng_seed(&r, 2, 0);
    for (size_t i = 0; i < COLS; i++) a[i] = expf(1.5f * rng_normal(&r));
    for (size_t k = 0; k < N_RATES; k++)
        for (int with = 0; with < 2; with++) {
            stored s = store(rates[k], w, ROWS, COLS, with ? a : NULL, SNUG_EFFORT_NORMAL);
            for (size_t panel = 0; panel < ROWS / EC_ROWS; panel++) {
                const size_t n = unused(&s, panel), all = ec_layout_of(s.wt.params, COLS).n_words;
                if (n * 200 > all) fail_msg("%u quarters: %zu of %zu words are not used", rates[k], n, all);
            }
            stored_fini(&s);
        }
    free(w), free(a);
}

/* With importances that differ from band to band by factors g^2 the loss is their geometric mean's, not the arithmetic one's. */
static void steps_follow_importances(void **state) {
    enum { ROWS = 16, COLS = 1024 };
    float *w = gaussian(ROWS * COLS, 3), a[COLS];
    double mean = 0, log_mean = 0, loss = 0, plain = 0, norm = 0;
    for (size_t i = 0; i < COLS; i++) {
        a[i] = exp2f((float)(i / EC_BAND % 4) * 2 - 3);
        mean += a[i] / COLS, log_mean += log2(a[i]) / COLS;
    }
    stored s = store(16, w, ROWS, COLS, a, SNUG_EFFORT_NORMAL), flat = store(16, w, ROWS, COLS, NULL, SNUG_EFFORT_NORMAL);
    for (size_t i = 0; i < ROWS * COLS; i++) {
        const double d = (double)w[i] - s.hat[i], f = (double)w[i] - flat.hat[i];
        loss += a[i % COLS] * d * d, plain += a[i % COLS] * f * f, norm += (double)w[i] * w[i];
    }
    const double want = exp2(log_mean) * 0.0057 * norm;
    if (loss > 1.06 * want || plain < mean * 0.0053 * norm) fail_msg("a loss of %g and %g, not %g and %g", loss, plain, want, mean * 0.0056 * norm);
    stored_fini(&s), stored_fini(&flat), free(w);
}

/* Columns that are rounded again and again, to anything, in any order: what was said last is what is stored. */
static void rounding_again_keeps_to_the_room(void **state) {
    enum { ROWS = 21, COLS = 200 };
    float *w = gaussian(ROWS * COLS, 4), *hat = malloc(ROWS * COLS * sizeof *hat), *out = malloc(ROWS * COLS * sizeof *out), want[ROWS], got[ROWS];
    rng r;
    rng_seed(&r, 5, 0);
    for (size_t k = 0; k < N_RATES; k++) {
        const codec_params p = {.rank = rates[k]};
        const size_t n = (size_t)codec_ec.bytes(p, ROWS, COLS);
        void *enc = aligned_alloc(64, round_up(codec_ec.enc_bytes(p, ROWS, COLS), 64));
        uint8_t *data = malloc(n);
        codec_ec.enc_init(enc, p, ROWS, COLS, SNUG_EFFORT_NORMAL);
        codec_ec.begin(enc, w, COLS, NULL);
        for (size_t g = (COLS - 1) / EC_BAND + 1; g-- > 0;) { /* bands in another order */
            const size_t c = g * EC_BAND, len = COLS - c < EC_BAND ? COLS - c : EC_BAND;
            codec_ec.group(enc, c, len, w + c, COLS, NULL);
            codec_ec.round(enc, c, len, w + c, COLS, hat + c, COLS);
        }
        for (int i = 0; i < 2000; i++) {
            const size_t c = rng_below(&r, COLS);
            const float by = i % 3 ? 1 : 8;
            for (size_t row = 0; row < ROWS; row++) want[row] = by * 0.02f * rng_normal(&r);
            codec_ec.round(enc, c, 1, want, 1, got, 1);
            for (size_t row = 0; row < ROWS; row++) hat[row * COLS + c] = got[row];
        }
        codec_ec.pack(enc, data);
        wt t;
        assert_int_equal(wt_open(&codec_ec, p, ROWS, COLS, data, n, &t, NULL), SNUG_OK);
        codec_ec.decode(&t, 0, ROWS, out, COLS);
        assert_memory_equal(out, hat, ROWS * COLS * sizeof *out);
        free(enc), free(data);
    }
    free(w), free(hat), free(out);
}

static void count_made(void *user, uint64_t bytes) { *(uint64_t *)user += bytes; }

/* Kept panels give what the stream gives, bit for bit, whatever its bytes are; and it is not read again. */
static void kept_panels_are_the_stream(void **state) {
    enum { ROWS = 37, COLS = 300, TOKENS = 11 };
    float *w = gaussian(ROWS * COLS, 6), *out = malloc(2 * ROWS * COLS * sizeof *out);
    float *x = calloc(TOKENS * 512, sizeof *x), *y = malloc(2 * TOKENS * ROWS * sizeof *y);
    rng r;
    rng_seed(&r, 7, 0);
    for (size_t i = 0; i < TOKENS * 512; i++) x[i] = i % 512 < COLS ? rng_normal(&r) : 0;
    const act t = {TOKENS, COLS, 512, x, q8_rows(x, TOKENS, 512)};
    for (size_t k = 0; k < 2 * N_RATES; k++) {
        stored s = store(rates[k / 2], w, ROWS, COLS, NULL, SNUG_EFFORT_QUICK);
        for (size_t i = 0; k % 2 && i < s.wt.bytes; i++)
            if (i % ec_layout_of(s.wt.params, COLS).bytes >= 2) s.data[i] = (uint8_t)rng_next(&r);
        _Atomic uint8_t ready[3] = {0};
        const uint64_t n_bytes = codec_ec.panel_bytes(&s.wt);
        uint64_t made = 0;
        uint8_t *room = aligned_alloc(64, round_up(n_bytes, 64)), *scratch = aligned_alloc(64, round_up(codec_ec.scratch_bytes(&s.wt, ROWS, TOKENS), 64));
        wt_panels panels = {.data = room, .state = ready, .made = count_made, .user = &made};
        for (int kept = 0; kept < 3; kept++) { /* no panels; made and kept; kept, and the stream spoilt */
            float *z = y + (kept ? TOKENS * ROWS : 0), *o = out + (kept ? ROWS * COLS : 0);
            s.wt.panels = kept ? &panels : NULL;
            if (kept == 2) memset(s.data, 0xa5, s.wt.bytes);
            memset(z, 0, TOKENS * ROWS * sizeof *z);
            codec_ec.matmul(&s.wt, 0, ROWS, &t, z, ROWS, scratch);
            codec_ec.decode(&s.wt, 0, ROWS, o, COLS);
            if (kept) assert_memory_equal(z, y, TOKENS * ROWS * sizeof *y);
            if (kept) assert_memory_equal(o, out, ROWS * COLS * sizeof *out);
        }
        assert_true(made == s.wt.bytes);
        free(room), free(scratch), stored_fini(&s);
    }
    q8_rows_free((kern_q8 *)&t.q8);
    free(w), free(out), free(x), free(y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_fill_their_bytes), cmocka_unit_test(steps_follow_importances),
        cmocka_unit_test(rounding_again_keeps_to_the_room), cmocka_unit_test(kept_panels_are_the_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
