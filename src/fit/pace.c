/* How fast this machine calibrates and encodes, tried out for some milliseconds on random numbers. Stages announce their costs by it: on
 * one machine multiply-adds are cheap beside encoding, on another not, and the time left is told from the first stage on. */
#include "fit/fit.h"

#include "base/rng.h"
#include "solve/solve.h"

#include <math.h>
#include <stdlib.h>

enum { ROWS = 16, COLS = 1024, TOKENS = 32, TRIES = 5 };
static const double LONG_ENOUGH_S = 0.01, GUESS_MAC_S = 5e-11, GUESS_ENCODE_S = 1e-7;

fit_pace pace_measure(int effort) {
    fit_pace out = {.mac_s = GUESS_MAC_S, .encode_s = GUESS_ENCODE_S};
    const snug_codec *codec;
    codec_params p;
    if (!codec_parse("int4g64", &codec, &p)) return out;
    size_t n_w = ROWS * COLS, n_x = TOKENS * COLS, n_y = TOKENS * ROWS;
    float *w = malloc((n_w + n_x + n_y) * sizeof *w);
    uint8_t *dst = malloc(codec->bytes(p, ROWS, COLS));
    if (!w || !dst) goto done;
    float *x = w + n_w, *y = x + n_x;
    rng r;
    rng_seed(&r, 1, 0);
    for (size_t i = 0; i < n_w + n_x; i++) w[i] = (float)(rng_uniform(&r) + rng_uniform(&r) - 1);
    for (size_t i = 0; i < n_y; i++) y[i] = 0;
    double mac = INFINITY, encode = INFINITY, began = clock_seconds();
    for (int i = 0; i < TRIES && (i == 0 || clock_seconds() - began < LONG_ENOUGH_S); i++) {
        double t = clock_seconds();
        kern()->dot_f32(ROWS, TOKENS, COLS, w, COLS, x, COLS, y, ROWS);
        mac = fmin(mac, clock_seconds() - t);
        t = clock_seconds();
        if (solve_rtn(codec, p, w, COLS, ROWS, COLS, NULL, effort, dst, NULL, NULL) == SNUG_OK) encode = fmin(encode, clock_seconds() - t);
    }
    if (mac > 0 && mac < INFINITY) out.mac_s = mac / (ROWS * COLS * TOKENS);
    if (encode > 0 && encode < INFINITY) out.encode_s = encode / (ROWS * COLS);
done:
    free(w);
    free(dst);
    return out;
}
