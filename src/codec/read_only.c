/* ggml types that are only read (read_only.h): the codecs, and the formats with a scale for each block: q4_1, q5_0, q5_1, q1_0, mxfp4, nvfp4. The iq types
 * are in read_iq.c.
 *
 *     q4_1,  20 bytes:  | d: f16 | m: f16 | 16 bytes: code i low nibble, code i + 16 high |                       w = d c + m         32 weights
 *     q5_0,  22 bytes:  | d: f16 | 32 fifth bits | 16 bytes |                                                    w = d (c - 16)      32
 *     q5_1,  24 bytes:  | d: f16 | m: f16 | 32 fifth bits | 16 bytes |                                           w = d c + m         32
 *     q1_0,  18 bytes:  | d: f16 | 128 bits |                                                                    w = d (2 c - 1)    128
 *     mxfp4, 17 bytes:  | exponent e | 16 bytes |                                                                w = 2^(e - 128) v[c]  32
 *     nvfp4, 36 bytes:  | 4 scales s of 16 weights each: e4m3 | 4 x 8 bytes: code i low nibble, code i + 8 high |  w = s / 2 v[c]     64
 *
 * v = 0 1 2 3 4 6 8 12 and, from 8 on, less than 0: twice the numbers of 4 bits that the OCP's microscaling formats call e2m1. Source: ggml-quants.c. */
#include "codec/read_only.h"

#include "base/checked.h"
#include "codec/block.h"
#include "codec/codecs.h"
#include "kern/blocks.h"

static const int8_t fp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* A chunk's scale and offset, and the codes behind them. */
static int8_t *put_pair(uint8_t *chunk, float s, float m) {
    memcpy(chunk, &s, sizeof s);
    memcpy(chunk + sizeof s, &m, sizeof m);
    return (int8_t *)chunk + CODES_PAIR_Q;
}
static int8_t *put_scale(uint8_t *chunk, float s) {
    memcpy(chunk, &s, sizeof s);
    return (int8_t *)chunk + CODES_Q;
}

/* Bit i of a byte as byte i of eight, 0 or 1. */
static uint64_t spread(uint32_t bits) { return (((bits & 255) * 0x0101010101010101u & 0x8040201008040201u) + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u; }

/* 32 nibbles, with bit i of `high` above the i-th, less 16 if `centred`: eight at a time, in bytes that never borrow from each other. */
static void put_codes(const uint8_t *nibbles, uint32_t high, bool centred, int8_t *q) {
    const uint64_t low = 0x0f0f0f0f0f0f0f0fu, top = 0x8080808080808080u, sixteen = 0x1010101010101010u;
    for (unsigned i = 0; i < 32; i += 8) {
        uint64_t c;
        memcpy(&c, nibbles + i % 16, sizeof c);
        c = (c >> (i < 16 ? 0 : 4) & low) | spread(high >> i) << 4;
        if (centred) c = ((c | top) - sixteen) ^ top;
        memcpy(q + i, &c, sizeof c);
    }
}

static float half(const uint8_t *p) { return f16_to_f32(read_u16(p)); }

static void q4_1_unpack(const uint8_t *b, uint8_t *chunk) { put_codes(b + 4, 0, false, put_pair(chunk, half(b), half(b + 2))); }
static void q5_0_unpack(const uint8_t *b, uint8_t *chunk) { put_codes(b + 6, read_u32(b + 2), true, put_scale(chunk, half(b))); }
static void q5_1_unpack(const uint8_t *b, uint8_t *chunk) { put_codes(b + 8, read_u32(b + 4), false, put_pair(chunk, half(b), half(b + 2))); }

static void q1_0_unpack(const uint8_t *b, uint8_t *chunk) {
    for (size_t c = 0; c < 4; c++, chunk += CODES_BYTES) {
        int8_t *q = put_scale(chunk, half(b));
        for (size_t i = 0; i < 4; i++) {
            const uint64_t plus = spread(b[2 + 4 * c + i]), w = plus | (0x0101010101010101u - plus) * 255;
            memcpy(q + 8 * i, &w, sizeof w);
        }
    }
}

static void mxfp4_unpack(const uint8_t *b, uint8_t *chunk) {
    int8_t *q = put_scale(chunk, f32_from_bits(b[0] < 2 ? 0x200000u << b[0] : (uint32_t)(b[0] - 1) << 23)); /* the first two are denormal */
    for (size_t i = 0; i < 16; i++) q[i] = fp4[b[1 + i] & 15], q[i + 16] = fp4[b[1 + i] >> 4];
}

/* Half of an e4m3 whose sign does not count; what would be NaN is 0, as ggml has it. */
static float half_e4m3(uint8_t b) {
    const unsigned e = b >> 3 & 15, m = b & 7;
    if (b == 127) return 0;
    return e ? f32_from_bits((e + 119) << 23 | m << 20) : (float)m * 0x1p-10f;
}

static void nvfp4_unpack(const uint8_t *b, uint8_t *chunk) {
    for (size_t c = 0; c < 2; c++, chunk += CODES_PAIR_BYTES) {
        int8_t *q = put_pair(chunk, half_e4m3(b[2 * c]), half_e4m3(b[2 * c + 1]));
        const uint8_t *codes = b + 4 + 16 * c;
        for (size_t i = 0; i < 16; i++) q[16 * (i / 8) + i % 8] = fp4[codes[i] & 15], q[16 * (i / 8) + 8 + i % 8] = fp4[codes[i] >> 4];
    }
}

void read_unpack_row(const read_format *f, const uint8_t *row, size_t n_blocks, uint8_t *chunks) {
    const size_t step = f->cols / 32 * read_chunk_bytes(f);
    for (size_t i = 0; i < n_blocks; i++, row += f->bytes, chunks += step) f->unpack(row, chunks);
}

static const read_format read_q4_1 = {KERN_CODES_MIN, 32, 20, q4_1_unpack}, read_q5_0 = {KERN_CODES, 32, 22, q5_0_unpack},
                         read_q5_1 = {KERN_CODES_MIN, 32, 24, q5_1_unpack}, read_q1_0 = {KERN_CODES, 128, 18, q1_0_unpack},
                         read_mxfp4 = {KERN_CODES, 32, 17, mxfp4_unpack}, read_nvfp4 = {KERN_CODES16, 64, 36, nvfp4_unpack};

static uint64_t bytes_of(const read_format *f, uint64_t rows, uint64_t cols) {
    uint64_t n;
    return checked_mul(div_up(cols, f->cols), f->bytes, &n) && checked_mul(n, rows, &n) ? n : 0;
}

#define READ_CODEC(stem, id_, ggml_, cols_)                                                                                                    \
    static uint64_t stem##_bytes(codec_params p, uint64_t rows, uint64_t cols) { return bytes_of(&read_##stem, rows, cols); }                  \
    const snug_codec codec_##stem = {                                                                                                          \
        .family = #stem, .id = id_, .tile_rows = 1, .tile_cols = 1, .block_cols = cols_, .act = CODEC_ACT_Q8,                                  \
        .caps = CODEC_GGUF_NATIVE | CODEC_READ_ONLY, .ggml_type = ggml_, .time = 5, .impl = &read_##stem, .menu = block_menu, .params_ok = block_params_ok, \
        .bytes = stem##_bytes, .decode = block_decode, .decode_add = block_decode_add, .scratch_bytes = block_scratch_bytes, .matmul = block_matmul, \
    }

READ_CODEC(q4_1, CODEC_ID_Q4_1, CODEC_GGML_Q4_1, 32);
READ_CODEC(q5_0, CODEC_ID_Q5_0, CODEC_GGML_Q5_0, 32);
READ_CODEC(q5_1, CODEC_ID_Q5_1, CODEC_GGML_Q5_1, 32);
READ_CODEC(q1_0, CODEC_ID_Q1_0, CODEC_GGML_Q1_0, 128);
READ_CODEC(mxfp4, CODEC_ID_MXFP4, CODEC_GGML_MXFP4, 32);
READ_CODEC(nvfp4, CODEC_ID_NVFP4, CODEC_GGML_NVFP4, 64);
READ_CODEC(iq2_xxs, CODEC_ID_IQ2_XXS, CODEC_GGML_IQ2_XXS, 256);
READ_CODEC(iq2_xs, CODEC_ID_IQ2_XS, CODEC_GGML_IQ2_XS, 256);
READ_CODEC(iq2_s, CODEC_ID_IQ2_S, CODEC_GGML_IQ2_S, 256);
READ_CODEC(iq3_xxs, CODEC_ID_IQ3_XXS, CODEC_GGML_IQ3_XXS, 256);
READ_CODEC(iq3_s, CODEC_ID_IQ3_S, CODEC_GGML_IQ3_S, 256);
READ_CODEC(iq1_s, CODEC_ID_IQ1_S, CODEC_GGML_IQ1_S, 256);
READ_CODEC(iq1_m, CODEC_ID_IQ1_M, CODEC_GGML_IQ1_M, 256);
