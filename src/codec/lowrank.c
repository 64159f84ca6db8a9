/* lowrankR, lowrankRbB: W = U V, U (rows, R), V (R, cols), as bf16 or as codes of B bits with one scale for each of V's rows and U's
 * columns (docs/format.md 3.4). A payload of its own or, more often, a correction beside a quantized term. The factors come from a
 * solver (solve_svd), hence CODEC_WHOLE. Where the loss is spread over many directions, twice the rank at half the bits holds more of
 * it, down to two or three bits.
 *
 * Multiply: h = V x (R numbers per token), then y += U h. Every call computes h anew: R / n_rows of the work of the rows
 * it asks for, and no state between calls. */
#include "base/checked.h"
#include "base/err.h"
#include "base/f16.h"
#include "codec/codecs.h"
#include "codec/vectors.h"
#include "kern/kern.h"

enum { CHUNK = VECTOR_CHUNK, STEP = 256, RANKS = 64, TILE_ROWS = CHUNK, MAX_RANK = 1024 };

static bool menu(uint32_t i, codec_params *out) {
    *out = (codec_params){.rank = (uint16_t)(8 << i)};
    return i < 5;
}
static bool params_ok(codec_params p) {
    return (p.bits == 0 || (p.bits >= 2 && p.bits <= 8)) && p.group == 0 && p.rank >= 1 && p.rank <= MAX_RANK;
}

static uint64_t bytes(codec_params p, uint64_t rows, uint64_t cols) {
    uint64_t n;
    if (p.bits == 0) return checked_add(rows, cols, &n) && checked_mul(n, 2u * p.rank, &n) ? n : 0;
    if (rows > UINT64_MAX / 64 || cols > UINT64_MAX / 64) return 0;
    return checked_mul(vector_bytes(p.bits, cols) + vector_bytes(p.bits, rows), p.rank, &n) ? n : 0;
}

/* ---- writing ---- */

void lowrank_pack(codec_params p, uint64_t rows, uint64_t cols, const lowrank_factors *f, uint8_t *dst) {
    if (p.bits) {
        for (uint64_t k = 0; k < p.rank; k++) dst = vector_pack(p.bits, cols, f->v + k * cols, f->v_scale[k], dst);
        for (uint64_t k = 0; k < p.rank; k++) dst = vector_pack(p.bits, rows, f->ut + k * rows, f->ut_scale[k], dst);
        return;
    }
    for (uint64_t i = 0; i < p.rank * cols; i++, dst += 2) write_u16(dst, f32_to_bf16(f->v[i]));
    for (uint64_t r = 0; r < rows; r++)
        for (uint64_t k = 0; k < p.rank; k++, dst += 2) write_u16(dst, f32_to_bf16(f->ut[k * rows + r]));
}

/* ---- reading ---- */

static void convert(const uint8_t *src, size_t n, float *dst) { kern()->bf16_to_f32((const uint16_t *)(const void *)src, n, dst); }

/* Columns [c, c + n) of row k of V, c a multiple of CHUNK. */
static void v_row(const wt *w, size_t k, size_t c, size_t n, float *dst) {
    unsigned bits = w->params.bits;
    if (bits) vector_unpack(w->data + k * vector_bytes(bits, w->cols), bits, c, n, dst);
    else convert(w->data + (k * w->cols + c) * 2, n, dst);
}

/* Rows of U that are read together: up to the next chunk. */
static size_t rows_from(uint64_t row, size_t left) {
    size_t n = CHUNK - (size_t)(row % CHUNK);
    return left < n ? left : n;
}
/* Columns [k0, k0 + n_k) of n rows of U from row on, n <= rows_from(row), to dst (n, ld). */
static void u_rows(const wt *w, uint64_t row, size_t n, size_t k0, size_t n_k, float *dst, size_t ld) {
    unsigned bits = w->params.bits;
    size_t rank = w->params.rank, skip = (size_t)(row % CHUNK);
    if (!bits) {
        for (size_t r = 0; r < n; r++) convert(w->data + (rank * (w->cols + row + r) + k0) * 2, n_k, dst + r * ld);
        return;
    }
    const uint8_t *ut = w->data + rank * vector_bytes(bits, w->cols);
    for (size_t k = 0; k < n_k; k++) {
        float chunk[CHUNK];
        vector_unpack(ut + (k0 + k) * vector_bytes(bits, w->rows), bits, row - skip, skip + n, chunk);
        for (size_t r = 0; r < n; r++) dst[r * ld + k] = chunk[skip + r];
    }
}

static void decode_add(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    size_t cols = (size_t)w->cols, rank = w->params.rank, rows;
    for (size_t i = 0; i < n; i += rows) {
        rows = rows_from(row0 + i, n - i);
        for (size_t k0 = 0; k0 < rank; k0 += RANKS) {
            float u[TILE_ROWS * RANKS], v[STEP];
            size_t ranks = rank - k0 < RANKS ? rank - k0 : RANKS;
            u_rows(w, row0 + i, rows, k0, ranks, u, RANKS);
            for (size_t c = 0; c < cols; c += STEP) {
                size_t len = cols - c < STEP ? cols - c : STEP;
                for (size_t k = 0; k < ranks; k++) {
                    v_row(w, k0 + k, c, len, v);
                    for (size_t r = 0; r < rows; r++) {
                        float *out = dst + (i + r) * stride + c;
                        for (size_t j = 0; j < len; j++) out[j] += u[r * RANKS + k] * v[j];
                    }
                }
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

static void matmul(const wt *w, uint64_t row0, size_t n, const act *x, float *y, size_t ldy, void *scratch) {
    size_t rank = w->params.rank, cols = (size_t)w->cols, rows;
    float *h = scratch, *tile = h + x->n_tokens * rank; /* h (n_tokens, rank) */
    memset(h, 0, x->n_tokens * rank * sizeof *h);
    for (size_t k = 0; k < rank; k += TILE_ROWS) {
        rows = rank - k < TILE_ROWS ? rank - k : TILE_ROWS;
        for (size_t j = 0; j < rows; j++) v_row(w, k + j, 0, cols, tile + j * cols);
        kern()->dot_f32(rows, x->n_tokens, cols, tile, cols, x->f32, x->cols_padded, h + k, rank);
    }
    for (size_t i = 0; i < n; i += rows) {
        rows = rows_from(row0 + i, n - i);
        u_rows(w, row0 + i, rows, 0, rank, tile, rank);
        kern()->dot_f32(rows, x->n_tokens, rank, tile, rank, h, rank, y + i, ldy);
    }
}

const snug_codec codec_lowrank = {
    .family = "lowrank", .id = CODEC_ID_LOWRANK, .tile_rows = 1, .tile_cols = 1, .block_cols = 1, .act = CODEC_ACT_F32,
    .caps = CODEC_WHOLE, .ggml_type = -1, .menu = menu, .params_ok = params_ok, .bytes = bytes,
    .decode = decode, .decode_add = decode_add, .scratch_bytes = scratch_bytes, .matmul = matmul,
};
