/* lowrankR: W = U V, U (rows, R), V (R, cols), bf16, row-major:  | V | U |. A payload of its own or, more often, a correction
 * beside a quantized term. The factors come from a solver (solve_svd), hence CODEC_WHOLE.
 *
 * Multiply: h = V x (R numbers per token), then y += U h. Every call computes h anew: R / n_rows of the work of the rows
 * it asks for, and no state between calls. */
#include "base/checked.h"
#include "base/err.h"
#include "base/f16.h"
#include "codec/codecs.h"
#include "kern/kern.h"

enum { STEP = 256, TILE_ROWS = 16, MAX_RANK = 1024 };

static bool menu(uint32_t i, codec_params *out) {
    *out = (codec_params){.rank = (uint16_t)(8 << i)};
    return i < 5;
}
static bool params_ok(codec_params p) { return p.bits == 0 && p.group == 0 && p.rank >= 1 && p.rank <= MAX_RANK; }

static uint64_t bytes(codec_params p, uint64_t rows, uint64_t cols) {
    uint64_t n;
    return checked_add(rows, cols, &n) && checked_mul(n, 2u * p.rank, &n) ? n : 0;
}

void lowrank_pack(codec_params p, uint64_t rows, uint64_t cols, const float *u, const float *v, uint8_t *dst) {
    for (uint64_t i = 0; i < p.rank * cols; i++, dst += 2) write_u16(dst, f32_to_bf16(v[i]));
    for (uint64_t i = 0; i < p.rank * rows; i++, dst += 2) write_u16(dst, f32_to_bf16(u[i]));
}

static const uint8_t *v_row(const wt *w, size_t k) { return w->data + k * (size_t)w->cols * 2; }
static const uint8_t *u_row(const wt *w, uint64_t r) { return w->data + w->params.rank * (w->cols + r) * 2; }
static void convert(const uint8_t *src, size_t n, float *dst) { kern()->bf16_to_f32((const uint16_t *)(const void *)src, n, dst); }

static void decode_add(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    size_t cols = (size_t)w->cols, rank = w->params.rank;
    for (size_t c = 0; c < cols; c += STEP) {
        size_t len = cols - c < STEP ? cols - c : STEP;
        for (size_t k = 0; k < rank; k++) {
            float v[STEP];
            convert(v_row(w, k) + 2 * c, len, v);
            for (size_t r = 0; r < n; r++) {
                float u = bf16_to_f32(read_u16(u_row(w, row0 + r) + 2 * k)), *out = dst + r * stride + c;
                for (size_t i = 0; i < len; i++) out[i] += u * v[i];
            }
        }
    }
}

static void decode(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    for (size_t r = 0; r < n; r++) memset(dst + r * stride, 0, (size_t)w->cols * sizeof(float));
    decode_add(w, row0, n, dst, stride);
}

static size_t scratch_bytes(const wt *w, size_t n_rows, size_t n_tokens) {
    size_t widest = w->cols > w->params.rank ? (size_t)w->cols : w->params.rank;
    return (n_tokens * w->params.rank + TILE_ROWS * widest) * sizeof(float);
}

static void matmul(const wt *w, uint64_t row0, size_t n, const act *x, bool use_q8, float *y, size_t ldy, void *scratch) {
    size_t rank = w->params.rank, cols = (size_t)w->cols;
    float *h = scratch, *tile = h + x->n_tokens * rank; /* h (n_tokens, rank) */
    memset(h, 0, x->n_tokens * rank * sizeof *h);
    for (size_t k = 0; k < rank; k += TILE_ROWS) {
        size_t rows = rank - k < TILE_ROWS ? rank - k : TILE_ROWS;
        for (size_t j = 0; j < rows; j++) convert(v_row(w, k + j), cols, tile + j * cols);
        kern()->dot_f32(rows, x->n_tokens, cols, tile, cols, x->f32, x->cols_padded, h + k, rank);
    }
    for (size_t i = 0; i < n; i += TILE_ROWS) {
        size_t rows = n - i < TILE_ROWS ? n - i : TILE_ROWS;
        for (size_t j = 0; j < rows; j++) convert(u_row(w, row0 + i + j), rank, tile + j * rank);
        kern()->dot_f32(rows, x->n_tokens, rank, tile, rank, h, rank, y + i, ldy);
    }
}

const snug_codec codec_lowrank = {
    .family = "lowrank", .id = CODEC_ID_LOWRANK, .tile_rows = 1, .tile_cols = 1, .block_cols = 1, .act = CODEC_ACT_F32,
    .caps = CODEC_WHOLE, .ggml_type = -1, .menu = menu, .params_ok = params_ok, .bytes = bytes,
    .decode = decode, .decode_add = decode_add, .scratch_bytes = scratch_bytes, .matmul = matmul,
};
