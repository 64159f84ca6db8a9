/* What the block formats share. Every ggml type here and the int family unpack to the same form (kern/kern.h): int8 codes q and
 * per group of 16 or 32 weights a scale s and perhaps an offset m, w = s*q (+ m). So rounding with frozen scales, decoding
 * and multiplying are written once (block.c: reading, block_enc.c: encoding); a format adds how it fits its scales and how
 * it packs a block. */
#ifndef CODEC_BLOCK_H
#define CODEC_BLOCK_H
#include "base/f16.h"
#include "codec/codec.h"
#include "codec/read_only.h"
#include "kern/kern.h"

enum { BLOCK_MAX = 256, BLOCK_MAX_BYTES = 210 }; /* of a ggml block: weights, bytes */

/* A block's stored scales, in the union of all formats. */
typedef struct block_scales {
    uint16_t d, dmin;       /* f16 bits                                                     */
    uint8_t ls[16], lm[16]; /* sub-scales and sub-minima as stored; signed ones as int8 bits */
} block_scales;

/* One block to be fitted: x, a: weights and importances, padded to the block with zeros (importance 0 too). The weights were
 * divided by `unit`, a power of two (1 unless they are extremely large or small), so that squares stay in range. */
typedef struct block_in {
    const float *x, *a;
    float unit;
    int effort; /* snug_effort */
} block_in;

typedef struct block_format {
    kern_format kern;
    uint16_t cols, bytes; /* of a block                                        */
    uint16_t group;       /* weights per (s, m) pair                           */
    bool has_min;
    int lo, hi;           /* range of q                                        */
    const int8_t *table;  /* q is one of these 16 ascending values; or NULL    */
    int16_t ls_lo, ls_hi, lm_hi; /* ranges of the sub-scales and, from 0, sub-minima; 0 and 0: d alone is the scale */
    void (*fit)(const block_in *in, block_scales *out); /* chooses the stored scales */
    /* The f32 scale and offset of each group, exactly as unpack computes them. */
    void (*expand)(const block_scales *sc, float *s, float *m);
    void (*pack)(const int8_t *q, const block_scales *sc, uint8_t *dst);
} block_format;

/* ---- reading: any payload whose rows kern can unpack ---- */

typedef struct row_form {
    kern_format kern;
    uint32_t stored_group; /* for unpack: weights per stored scale (int formats) */
    uint64_t row_bytes, n_chunks;
    uint64_t stored_bytes; /* > 0: rows are stored in another form, of so many bytes, and unpack to this one */
    kern_sparse sparse;    /* group > 0: in this form; else ...                 */
    const read_format *read; /* not NULL: in this one; else group-sparse (gs.h) */
} row_form;

row_form block_row_form(const wt *w);
void block_decode(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride);
void block_decode_add(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride);
uint64_t block_panel_bytes(const wt *w);
void block_relay(const wt *w, uint8_t *dst);
size_t block_scratch_bytes(const wt *w, size_t n_rows, size_t n_tokens);
void block_matmul(const wt *w, uint64_t row0, size_t n, const act *x, float *y, size_t ldy, void *scratch);

/* ---- encoding ---- */

uint64_t block_bytes(const block_format *f, uint64_t n_rows, uint64_t cols);
size_t block_enc_bytes(const block_format *f, size_t n_rows, size_t cols);
void block_enc_init(void *enc, const block_format *f, size_t n_rows, size_t cols, int effort);
void block_group(void *enc, size_t col0, size_t n, const float *w, size_t ldw, const float *a);
void block_round(void *enc, size_t col0, size_t n, const float *w, size_t ldw, float *w_hat, size_t ldh);
size_t block_neighbour(const void *enc, size_t row, size_t col, int k, float *w_hat, uint32_t *scales);
void block_rescale(void *enc, size_t row, size_t col, uint32_t scales);
int block_shared(const void *enc, size_t row, size_t col, float x[CODEC_SHARED], float *const u[CODEC_SHARED]);
void block_reshare(void *enc, size_t row, size_t col, float x[CODEC_SHARED], float *w_hat);
void block_pack(const void *enc, uint8_t *dst);
bool block_menu(uint32_t i, codec_params *out); /* one entry without parameters */
bool block_params_ok(codec_params p);

/* q = the code nearest to (w - m) / s, w_hat = what it decodes to (may be NULL). */
void block_round_linear(size_t n, const float *w, float s, float m, bool has_min, int lo, int hi, int8_t *q, float *w_hat);
void block_round_table(size_t n, const float *w, float s, const int8_t table[16], int8_t *q, float *w_hat);

/* d rounded to the f16 that is stored, in the block's unit; never infinite. */
static inline uint16_t block_f16_bits(float d, float unit) {
    float v = d * unit;
    return v > 65504.0f ? 0x7bffu : v < -65504.0f ? 0xfbffu : v == v ? f32_to_f16(v) : 0;
}
static inline float block_f16(float d, float unit) { return f16_to_f32(block_f16_bits(d, unit)) / unit; }

/* A ggml block type's codec: the functions that differ in nothing but the format. `stem`_format is in scope. */
#define BLOCK_CODEC(stem, family_, id_, ggml_, cols_)                                                                         \
    static uint64_t stem##_bytes(codec_params p, uint64_t rows, uint64_t cols) {                                         \
        return block_bytes(&stem##_format, rows, cols);                                                                  \
    }                                                                                                                    \
    static size_t stem##_enc_bytes(codec_params p, size_t rows, size_t cols) {                                           \
        return block_enc_bytes(&stem##_format, rows, cols);                                                              \
    }                                                                                                                    \
    static uint32_t stem##_group_cols(codec_params p) { return stem##_format.cols; }                                     \
    static void stem##_enc_init(void *enc, codec_params p, size_t rows, size_t cols, int effort) {                       \
        block_enc_init(enc, &stem##_format, rows, cols, effort);                                                         \
    }                                                                                                                    \
    static uint16_t stem##_scale_cols(codec_params p) { return stem##_format.group; }                                    \
    const snug_codec codec_##stem = {                                                                                    \
        .family = family_, .id = id_, .tile_rows = 1, .tile_cols = 1, .block_cols = cols_,               \
        .act = CODEC_ACT_Q8, .caps = CODEC_GGUF_NATIVE, .ggml_type = ggml_, .impl = &stem##_format,                      \
        .menu = block_menu, .params_ok = block_params_ok, .bytes = stem##_bytes, .enc_bytes = stem##_enc_bytes,          \
        .group_cols = stem##_group_cols, .enc_init = stem##_enc_init, .group = block_group, .round = block_round,        \
        .scale_cols = stem##_scale_cols, .neighbour = block_neighbour, .rescale = block_rescale,                         \
        .shared = block_shared, .reshare = block_reshare, .pack = block_pack, .decode = block_decode, .decode_add = block_decode_add,                    \
        .panel_bytes = block_panel_bytes, .relay = block_relay, .scratch_bytes = block_scratch_bytes, .matmul = block_matmul,        \
    }
#endif
