/* Round to nearest with the codec's own weighted scale fit. Rows are taken a few at a time: the encoder's state stays in the cache
 * and memory does not grow with the panel. Everything a codec may assume about its input is made true here: weights are
 * finite, importances are finite and positive with mean 1. */
#include "solve/internal.h"

#include <math.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/err.h"

enum { SUB_ROWS = 16 };

/* Importances below this share of their mean count as this share: a column whose activations were never seen still is stored
 * sensibly, and no sum of products leaves f32's range. */
#define IMPORTANCE_FLOOR 1e-6

/* out (cols): a / mean(a), floored. All zero means nothing is known: all 1. */
snug_err importance_normalise(const float *a, size_t cols, float *out, snug_error *err) {
    double sum = 0;
    for (size_t j = 0; j < cols; j++) {
        if (!(a[j] >= 0) || a[j] > 3.0e38f) {
            return err_set(err, SNUG_ERR_NUMERIC, "the importance of column %zu is %g, not a finite number >= 0", j, (double)a[j]);
        }
        sum += a[j];
    }
    double scale = sum > 0 ? (double)cols / sum : 0;
    for (size_t j = 0; j < cols; j++) out[j] = sum > 0 ? (float)fmax(a[j] * scale, IMPORTANCE_FLOOR) : 1;
    return SNUG_OK;
}

snug_err check_finite(const char *what, const float *w, size_t ldw, size_t n_rows, size_t cols, size_t row0, snug_error *err) {
    for (size_t r = 0; r < n_rows; r++) {
        float sum = 0; /* x - x is 0 for numbers, NaN for the rest */
        for (size_t c = 0; c < cols; c++) sum += w[r * ldw + c] - w[r * ldw + c];
        if (sum == 0) continue;
        for (size_t c = 0; c < cols; c++)
            if (!isfinite(w[r * ldw + c])) {
                return err_set(err, SNUG_ERR_NUMERIC, "%s: the weight in row %zu, column %zu is %s", what, row0 + r, c,
                               isnan(w[r * ldw + c]) ? "not a number" : "infinite");
            }
    }
    return SNUG_OK;
}

/* One sub-panel through the contract's steps. */
static void encode(const snug_codec *codec, codec_params p, void *enc, const float *w, size_t ldw, size_t n_rows, size_t cols,
                   const float *a, int effort, uint8_t *dst, float *w_hat) {
    size_t step = codec->group_cols(p);
    codec->enc_init(enc, p, n_rows, cols, effort);
    if (codec->begin) codec->begin(enc, w, ldw, a);
    for (size_t c = 0; c < cols; c += step) {
        size_t n = cols - c < step ? cols - c : step;
        codec->group(enc, c, n, w + c, ldw, a ? a + c : NULL);
        if (codec->ahead) codec->ahead(enc, cols - c - n);
        codec->round(enc, c, n, w + c, ldw, w_hat + c, cols);
    }
    codec->pack(enc, dst);
}

snug_err solve_rtn(const snug_codec *codec, codec_params p, const float *w, size_t ldw, size_t n_rows, size_t cols, const float *a,
                   int effort, uint8_t *dst, float *w_hat, snug_error *err) {
    return solve_rtn_to(WT_ROWS, codec, p, w, ldw, n_rows, cols, a, effort, dst, w_hat, err);
}

snug_err solve_rtn_to(wt_layout layout, const snug_codec *codec, codec_params p, const float *w, size_t ldw, size_t n_rows, size_t cols,
                      const float *a, int effort, uint8_t *dst, float *w_hat, snug_error *err) {
    char name[CODEC_NAME_MAX];
    codec_format(codec, p, name);
    if (codec->caps & CODEC_WHOLE || !codec->params_ok(p)) {
        return err_set(err, SNUG_ERR_ARG, "codec %s cannot be rounded row by row", name);
    }
    if (effort != SNUG_EFFORT_QUICK && effort != SNUG_EFFORT_MAX) effort = SNUG_EFFORT_NORMAL;
    size_t sub = round_up(SUB_ROWS, codec->tile_rows); /* whole panels too */
    if (sub > n_rows) sub = n_rows;
    size_t enc_bytes = round_up(codec->enc_bytes(p, sub, cols), 64), hat_bytes = round_up(sub * cols * sizeof(float), 64);
    size_t imp_bytes = a ? round_up(cols * sizeof(float), 64) : 0, row_bytes = layout == WT_PANELS ? (size_t)codec->bytes(p, sub, cols) : 0;
    size_t total = enc_bytes + hat_bytes + imp_bytes + round_up(row_bytes, 64);
    if (codec->bytes(p, n_rows, cols) == 0 || enc_bytes == 0) {
        return err_set(err, SNUG_ERR_ARG, "codec %s cannot store %zu x %zu weights", name, n_rows, cols);
    }
    uint8_t *room = aligned_alloc(64, total);
    if (!room) return err_nomem(err, total);
    float *hat = (float *)(void *)(room + enc_bytes), *imp = (float *)(void *)(room + enc_bytes + hat_bytes);
    uint8_t *rows = room + enc_bytes + hat_bytes + imp_bytes;
    snug_err e = a ? importance_normalise(a, cols, imp, err) : SNUG_OK;
    for (size_t r = 0; e == SNUG_OK && r < n_rows; r += sub) {
        size_t n = n_rows - r < sub ? n_rows - r : sub;
        e = check_finite(name, w + r * ldw, ldw, n, cols, r, err);
        if (e) break;
        float *to = w_hat ? w_hat + r * cols : hat;
        uint8_t *place = dst + (r ? codec->bytes(p, r, cols) : 0);
        encode(codec, p, room, w + r * ldw, ldw, n, cols, a ? imp : NULL, effort, row_bytes ? rows : place, to);
        if (row_bytes) {
            wt stored = {.codec = codec, .params = p, .rows = n, .cols = cols, .data = rows, .bytes = codec->bytes(p, n, cols)};
            codec->relay(&stored, place);
        }
        e = check_finite(name, to, cols, n, cols, r, err);
        if (e) e = err_prefix(err, e, "too large to be stored");
    }
    free(room);
    return e;
}
