/* f8_e4m3: numbers of eight bits as checkpoints have them, 1 sign, 4 bits of exponent, 3 of mantissa, without infinities (0x7f and 0xff are NaN), times a
 * scale that stands elsewhere (wt_scales): of the whole matrix, of a row, or of a block of 128 x 128. Read only: w = f32(number) * scale, rounded to f32. */
#include "base/checked.h"
#include "base/f16.h"
#include "codec/block.h"
#include "codec/codecs.h"
#include "kern/kern.h"

#include <math.h>

enum { TILE_ROWS = 64 /* that the tokens pass by at once */ };

static bool no_menu(uint32_t i, codec_params *out) { return false; }

static uint64_t bytes(codec_params p, uint64_t n_rows, uint64_t cols) {
    uint64_t n;
    return checked_mul(n_rows, cols, &n) ? n : 0;
}

/* Exponent and mantissa where f32 has them are the number times 2^-120, denormal ones too. */
static inline float number(uint8_t b) {
    const float size = f32_from_bits((b & 127u) << 20) * 0x1p120f, w = b & 128 ? -size : size;
    return (b & 127) == 127 ? NAN : w;
}

static void decode_row(const wt *w, uint64_t row, float *dst, bool add) {
    const wt_scales *s = &w->scales;
    const uint8_t *src = w->data + row * w->cols;
    const float *scale = s->at ? s->at + (s->row0 + row) / s->rows * s->per_row : NULL;
    for (uint64_t c = 0, end; c < w->cols; c = end) {
        const float by = scale ? scale[c / s->cols] : 1;
        end = scale ? min_u64(w->cols, (c / s->cols + 1) * s->cols) : w->cols;
        if (add) for (uint64_t i = c; i < end; i++) dst[i] += number(src[i]) * by;
        else for (uint64_t i = c; i < end; i++) dst[i] = number(src[i]) * by;
    }
}

static void decode(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    for (size_t r = 0; r < n; r++) decode_row(w, row0 + r, dst + r * stride, false);
}
static void decode_add(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    for (size_t r = 0; r < n; r++) decode_row(w, row0 + r, dst + r * stride, true);
}

static size_t scratch_bytes(const wt *w, size_t n_rows, size_t n_tokens) { return min_u64(n_rows, TILE_ROWS) * (size_t)w->cols * sizeof(float); }

static void matmul(const wt *w, uint64_t row0, size_t n, const act *x, float *y, size_t ldy, void *scratch) {
    const size_t cols = (size_t)w->cols;
    for (size_t i = 0; i < n; i += TILE_ROWS) {
        const size_t rows = n - i < TILE_ROWS ? n - i : TILE_ROWS;
        decode(w, row0 + i, rows, scratch, cols);
        kern()->dot_f32(rows, x->n_tokens, cols, scratch, cols, x->f32, x->cols_padded, y + i, ldy);
    }
}

const snug_codec codec_f8 = {.family = "f8_e4m3", .id = CODEC_ID_F8, .tile_rows = 1, .tile_cols = 1, .block_cols = 1, .act = CODEC_ACT_F32, .caps = CODEC_READ_ONLY,
                             .ggml_type = -1, .menu = no_menu, .params_ok = block_params_ok, .bytes = bytes, .decode = decode, .decode_add = decode_add,
                             .scratch_bytes = scratch_bytes, .matmul = matmul};
