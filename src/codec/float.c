/* f32, f16, bf16: the plain numbers, little endian, rounded to nearest even. Encoding from f32 is exact for weights that came
 * from the same type (CODEC_LOSSLESS). The encoder's state is the payload itself. */
#include "base/checked.h"
#include "base/f16.h"
#include "codec/codecs.h"
#include "kern/kern.h"

enum { STEP = 256, TILE_ROWS = 64 /* that the tokens pass by at once */ };

typedef struct float_enc { /* followed by the payload */
    uint16_t id;
    size_t n_rows, cols;
} float_enc;

static size_t width(uint16_t id) { return id == CODEC_ID_F32 ? 4 : 2; }

static bool menu(uint32_t i, codec_params *out) {
    *out = (codec_params){0};
    return i == 0;
}
static bool params_ok(codec_params p) { return p.bits == 0 && p.group == 0 && p.rank == 0; }

static uint64_t bytes_of(uint16_t id, uint64_t n_rows, uint64_t cols) {
    uint64_t n;
    return checked_mul(n_rows, cols, &n) && checked_mul(n, width(id), &n) ? n : 0;
}
static uint64_t f32_bytes(codec_params p, uint64_t n_rows, uint64_t cols) { return bytes_of(CODEC_ID_F32, n_rows, cols); }
static uint64_t half_bytes(codec_params p, uint64_t n_rows, uint64_t cols) { return bytes_of(CODEC_ID_F16, n_rows, cols); }

static size_t enc_bytes_of(uint64_t payload) {
    return payload && payload < SIZE_MAX / 2 ? sizeof(float_enc) + (size_t)payload : 0;
}
static size_t f32_enc_bytes(codec_params p, size_t n_rows, size_t cols) { return enc_bytes_of(f32_bytes(p, n_rows, cols)); }
static size_t half_enc_bytes(codec_params p, size_t n_rows, size_t cols) { return enc_bytes_of(half_bytes(p, n_rows, cols)); }

static uint32_t group_cols(codec_params p) { return STEP; }

static void f32_init(void *enc, codec_params p, size_t n_rows, size_t cols, int effort) {
    *(float_enc *)enc = (float_enc){CODEC_ID_F32, n_rows, cols};
}
static void f16_init(void *enc, codec_params p, size_t n_rows, size_t cols, int effort) {
    *(float_enc *)enc = (float_enc){CODEC_ID_F16, n_rows, cols};
}
static void bf16_init(void *enc, codec_params p, size_t n_rows, size_t cols, int effort) {
    *(float_enc *)enc = (float_enc){CODEC_ID_BF16, n_rows, cols};
}

static void group(void *enc, size_t col0, size_t n, const float *w, size_t ldw, const float *a) {} /* no scales */

/* A weight that is too large for the type becomes infinite here: the solver sees it in w_hat and reports it. */
static void round_cols(void *enc, size_t col0, size_t n, const float *w, size_t ldw, float *w_hat, size_t ldh) {
    float_enc *e = enc;
    uint8_t *payload = (uint8_t *)(e + 1);
    for (size_t r = 0; r < e->n_rows; r++) {
        uint8_t *dst = payload + (r * e->cols + col0) * width(e->id);
        const float *src = w + r * ldw;
        for (size_t i = 0; i < n; i++) {
            if (e->id == CODEC_ID_F32) memcpy(dst + 4 * i, src + i, 4);
            else write_u16(dst + 2 * i, e->id == CODEC_ID_F16 ? f32_to_f16(src[i]) : f32_to_bf16(src[i]));
        }
        if (!w_hat) continue;
        for (size_t i = 0; i < n; i++) {
            if (e->id == CODEC_ID_F32) w_hat[r * ldh + i] = src[i];
            else if (e->id == CODEC_ID_F16) w_hat[r * ldh + i] = f16_to_f32(read_u16(dst + 2 * i));
            else w_hat[r * ldh + i] = bf16_to_f32(read_u16(dst + 2 * i));
        }
    }
}

static void pack(const void *enc, uint8_t *dst) {
    const float_enc *e = enc;
    memcpy(dst, e + 1, e->n_rows * e->cols * width(e->id));
}

static void convert(const wt *w, const uint8_t *src, size_t n, float *dst) {
    const uint16_t *half = (const uint16_t *)(const void *)src; /* kernels take any alignment */
    if (w->codec->id == CODEC_ID_F32) memcpy(dst, src, n * sizeof(float));
    else if (w->codec->id == CODEC_ID_F16) kern()->f16_to_f32(half, n, dst);
    else kern()->bf16_to_f32(half, n, dst);
}

static void decode(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    size_t row_bytes = (size_t)w->cols * width(w->codec->id);
    for (size_t r = 0; r < n; r++) convert(w, w->data + (row0 + r) * row_bytes, (size_t)w->cols, dst + r * stride);
}

static void decode_add(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    size_t cols = (size_t)w->cols, bytes = width(w->codec->id);
    for (size_t r = 0; r < n; r++)
        for (size_t c = 0; c < cols; c += STEP) {
            float piece[STEP];
            size_t len = cols - c < STEP ? cols - c : STEP;
            convert(w, w->data + ((row0 + r) * cols + c) * bytes, len, piece);
            for (size_t i = 0; i < len; i++) dst[r * stride + c + i] += piece[i];
        }
}

static size_t scratch_bytes(const wt *w, size_t n_rows, size_t n_tokens) {
    return (n_rows < TILE_ROWS ? n_rows : TILE_ROWS) * (size_t)w->cols * sizeof(float);
}

static void matmul(const wt *w, uint64_t row0, size_t n, const act *x, float *y, size_t ldy, void *scratch) {
    size_t cols = (size_t)w->cols;
    for (size_t i = 0; i < n; i += TILE_ROWS) {
        size_t rows = n - i < TILE_ROWS ? n - i : TILE_ROWS;
        const float *dense = scratch;
        const uint8_t *src = w->data + (row0 + i) * cols * 4;
        if (w->codec->id == CODEC_ID_F32 && (uintptr_t)src % sizeof(float) == 0) dense = (const float *)(const void *)src;
        else decode(w, row0 + i, rows, scratch, cols);
        kern()->dot_f32(rows, x->n_tokens, cols, dense, cols, x->f32, x->cols_padded, y + i, ldy);
    }
}

#define FLOAT_SHARED                                                                                                     \
    .tile_rows = 1, .tile_cols = 1, .block_cols = 1, .act = CODEC_ACT_F32, .caps = CODEC_LOSSLESS | CODEC_GGUF_NATIVE,   \
    .menu = menu, .params_ok = params_ok, .group_cols = group_cols, .group = group, .round = round_cols, .pack = pack,   \
    .decode = decode, .decode_add = decode_add, .scratch_bytes = scratch_bytes, .matmul = matmul

const snug_codec codec_f32 = {.family = "f32", .id = CODEC_ID_F32, .ggml_type = CODEC_GGML_F32, .bytes = f32_bytes,
                              .enc_bytes = f32_enc_bytes, .enc_init = f32_init, FLOAT_SHARED};
const snug_codec codec_f16 = {.family = "f16", .id = CODEC_ID_F16, .ggml_type = CODEC_GGML_F16, .bytes = half_bytes,
                              .enc_bytes = half_enc_bytes, .enc_init = f16_init, FLOAT_SHARED};
const snug_codec codec_bf16 = {.family = "bf16", .id = CODEC_ID_BF16, .ggml_type = CODEC_GGML_BF16, .bytes = half_bytes,
                               .enc_bytes = half_enc_bytes, .enc_init = bf16_init, FLOAT_SHARED};
