/* A codec for tests alone: 16 x 16 tiles rounded jointly, as trellis and lattice codes will be. Codes are 4 bits under one f16 scale
 * per tile, and the sum of a tile's codes must be even (a D_256 lattice): the code with the most to gain gives way.
 *
 *     tile, 130 bytes:  | d: f16 | 128 bytes, codes + 8: element 2i low nibble, 2i + 1 high, row-major |
 *     payload: panels of 16 rows, each its tiles from left to right; missing rows and columns are encoded like zeros */
#ifndef TESTS_CODEC_TILE16_H
#define TESTS_CODEC_TILE16_H
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/f16.h"
#include "codec/codec.h"
#include "kern/kern.h"

enum { TILE = 16, TILE_BYTES = 130, TILE16_ID = 60000 };

typedef struct tile16_enc { size_t n_rows, cols, n_panels, n_tiles; } tile16_enc; /* then the payload; d is set by group */

static inline bool tile16_menu(uint32_t i, codec_params *out) { *out = (codec_params){0}; return i == 0; }
static inline bool tile16_params_ok(codec_params p) { return p.bits == 0 && p.group == 0 && p.rank == 0; }
static inline uint64_t tile16_bytes(codec_params p, uint64_t n_rows, uint64_t cols) {
    return div_up(n_rows, TILE) * div_up(cols, TILE) * TILE_BYTES;
}
static inline size_t tile16_enc_bytes(codec_params p, size_t n_rows, size_t cols) {
    return sizeof(tile16_enc) + (size_t)tile16_bytes(p, n_rows, cols);
}
static inline uint32_t tile16_group_cols(codec_params p) { return TILE; }
static inline void tile16_init(void *enc, codec_params p, size_t n_rows, size_t cols, int effort) {
    *(tile16_enc *)enc = (tile16_enc){n_rows, cols, div_up(n_rows, TILE), div_up(cols, TILE)};
}
static inline uint8_t *tile16_at(void *enc, size_t panel, size_t tile) {
    tile16_enc *e = enc;
    return (uint8_t *)(e + 1) + (panel * e->n_tiles + tile) * TILE_BYTES;
}
/* The tile's weights, zero where there are none. */
static inline void tile16_load(const tile16_enc *e, size_t panel, size_t n, const float *w, size_t ldw, float x[256]) {
    memset(x, 0, 256 * sizeof *x);
    for (size_t r = 0; r < TILE && panel * TILE + r < e->n_rows; r++)
        for (size_t c = 0; c < n; c++) x[r * TILE + c] = w[(panel * TILE + r) * ldw + c];
}
static inline void tile16_group(void *enc, size_t col0, size_t n, const float *w, size_t ldw, const float *a) {
    tile16_enc *e = enc;
    for (size_t p = 0; p < e->n_panels; p++) {
        float x[256], top = 0;
        tile16_load(e, p, n, w, ldw, x);
        for (int i = 0; i < 256; i++) top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
        float d = top / 8;
        write_u16(tile16_at(enc, p, col0 / TILE), d > 65504 ? 0x7bff : f32_to_f16(d));
    }
}
static inline void tile16_round(void *enc, size_t col0, size_t n, const float *w, size_t ldw, float *w_hat, size_t ldh) {
    tile16_enc *e = enc;
    for (size_t p = 0; p < e->n_panels; p++) {
        uint8_t *tile = tile16_at(enc, p, col0 / TILE);
        float x[256], d = f16_to_f32(read_u16(tile)), worst = -1;
        int q[256], sum = 0, give = 0, dir = 0;
        tile16_load(e, p, n, w, ldw, x);
        for (int i = 0; i < 256; i++) {
            float t = d > 0 ? x[i] / d : 0, c = rintf(fminf(fmaxf(t, -8), 7));
            q[i] = (int)c;
            sum += q[i];
            int to = t > c ? 1 : -1;
            if (q[i] + to < -8 || q[i] + to > 7) continue;
            if (fabsf(t - c) > worst) worst = fabsf(t - c), give = i, dir = to;
        }
        if (sum & 1) q[give] += dir;
        for (int i = 0; i < 128; i++) tile[2 + i] = (uint8_t)((q[2 * i] + 8) | (q[2 * i + 1] + 8) << 4);
        for (size_t r = 0; w_hat && r < TILE && p * TILE + r < e->n_rows; r++)
            for (size_t c = 0; c < n; c++) w_hat[(p * TILE + r) * ldh + c] = d * (float)q[r * TILE + c];
    }
}
static inline void tile16_pack(const void *enc, uint8_t *dst) {
    const tile16_enc *e = enc;
    memcpy(dst, e + 1, e->n_panels * e->n_tiles * TILE_BYTES);
}
static inline void tile16_row(const wt *w, uint64_t r, float *dst, bool add) {
    size_t tiles = div_up(w->cols, TILE);
    for (size_t c = 0; c < w->cols; c++) {
        const uint8_t *tile = w->data + (r / TILE * tiles + c / TILE) * TILE_BYTES;
        size_t i = r % TILE * TILE + c % TILE;
        float v = f16_to_f32(read_u16(tile)) * (float)((tile[2 + i / 2] >> 4 * (i % 2) & 15) - 8);
        dst[c] = add ? dst[c] + v : v;
    }
}
static inline void tile16_decode(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    for (size_t r = 0; r < n; r++) tile16_row(w, row0 + r, dst + r * stride, false);
}
static inline void tile16_decode_add(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    for (size_t r = 0; r < n; r++) tile16_row(w, row0 + r, dst + r * stride, true);
}
static inline size_t tile16_scratch(const wt *w, size_t n_rows, size_t n_tokens) { return w->cols * sizeof(float); }
static inline void tile16_matmul(const wt *w, uint64_t row0, size_t n, const act *x, float *y, size_t ldy, void *scratch) {
    for (size_t r = 0; r < n; r++) {
        tile16_row(w, row0 + r, scratch, false);
        kern()->dot_f32(1, x->n_tokens, w->cols, scratch, w->cols, x->f32, x->cols_padded, y + r, ldy);
    }
}

static const snug_codec codec_tile16 = {
    .family = "tile16", .id = TILE16_ID, .tile_rows = TILE, .tile_cols = TILE, .block_cols = TILE, .act = CODEC_ACT_F32, .ggml_type = -1,
    .menu = tile16_menu, .params_ok = tile16_params_ok, .bytes = tile16_bytes, .enc_bytes = tile16_enc_bytes,
    .group_cols = tile16_group_cols, .enc_init = tile16_init, .group = tile16_group, .round = tile16_round, .pack = tile16_pack,
    .decode = tile16_decode, .decode_add = tile16_decode_add, .scratch_bytes = tile16_scratch, .matmul = tile16_matmul,
};
#endif
