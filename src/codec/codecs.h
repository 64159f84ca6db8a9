/* The codecs that the registry knows, one line each, and the functions that belong to a single family. */
#ifndef CODEC_CODECS_H
#define CODEC_CODECS_H
#include "codec/codec.h"

/* Stable numbers, never reused. ggml's type numbers for the native ones (the codec room does not see format/gguf.h). */
enum {
    CODEC_ID_F32 = 1, CODEC_ID_F16 = 2, CODEC_ID_BF16 = 3,
    CODEC_ID_INT = 16, CODEC_ID_LOWRANK = 17, CODEC_ID_DICT = 18, CODEC_ID_AQ = 19, CODEC_ID_TCQF = 20, CODEC_ID_TCQ = 21, CODEC_ID_EC = 22, CODEC_ID_E8 = 23,
    CODEC_ID_SP = 24, CODEC_ID_SP2OF4 = 25, CODEC_ID_SP3OF4 = 26, CODEC_ID_TERN34 = 27, CODEC_ID_TERN = 28, CODEC_ID_OUT = 29, CODEC_ID_GS = 30,
    CODEC_ID_Q8_0 = 32, CODEC_ID_Q4_0 = 33, CODEC_ID_IQ4_NL = 34,
    CODEC_ID_Q2_K = 40, CODEC_ID_Q3_K = 41, CODEC_ID_Q4_K = 42, CODEC_ID_Q5_K = 43, CODEC_ID_Q6_K = 44, CODEC_ID_IQ4_XS = 45,
    CODEC_ID_TQ1_0 = 46, CODEC_ID_TQ2_0 = 47,
    CODEC_ID_Q4_1 = 56, CODEC_ID_Q5_0 = 57, CODEC_ID_Q5_1 = 58, CODEC_ID_Q1_0 = 59, CODEC_ID_MXFP4 = 60, CODEC_ID_NVFP4 = 61,
    CODEC_ID_IQ2_XXS = 64, CODEC_ID_IQ2_XS = 65, CODEC_ID_IQ2_S = 66, CODEC_ID_IQ3_XXS = 67, CODEC_ID_IQ3_S = 68, CODEC_ID_IQ1_S = 69, CODEC_ID_IQ1_M = 70, CODEC_ID_F8 = 72,
};
enum {
    CODEC_GGML_F32 = 0, CODEC_GGML_F16 = 1, CODEC_GGML_Q4_0 = 2, CODEC_GGML_Q8_0 = 8, CODEC_GGML_Q2_K = 10, CODEC_GGML_Q3_K = 11,
    CODEC_GGML_Q4_K = 12, CODEC_GGML_Q5_K = 13, CODEC_GGML_Q6_K = 14, CODEC_GGML_IQ4_NL = 20, CODEC_GGML_IQ4_XS = 23,
    CODEC_GGML_BF16 = 30, CODEC_GGML_TQ1_0 = 34, CODEC_GGML_TQ2_0 = 35,
    CODEC_GGML_Q4_1 = 3, CODEC_GGML_Q5_0 = 6, CODEC_GGML_Q5_1 = 7, CODEC_GGML_IQ2_XXS = 16, CODEC_GGML_IQ2_XS = 17, CODEC_GGML_IQ3_XXS = 18,
    CODEC_GGML_IQ1_S = 19, CODEC_GGML_IQ3_S = 21, CODEC_GGML_IQ2_S = 22, CODEC_GGML_IQ1_M = 29, CODEC_GGML_MXFP4 = 39, CODEC_GGML_NVFP4 = 40, CODEC_GGML_Q1_0 = 41,
};

extern const snug_codec codec_f32, codec_f16, codec_bf16;
extern const snug_codec codec_int, codec_lowrank, codec_dict, codec_tcq, codec_tcqf, codec_ec, codec_e8b, codec_aq;
extern const snug_codec codec_sp, codec_sp2of4, codec_sp3of4, codec_tern34, codec_tern, codec_out, codec_gs;
extern const snug_codec codec_q8_0, codec_q4_0, codec_iq4_nl;
extern const snug_codec codec_q2_k, codec_q3_k, codec_q4_k, codec_q5_k, codec_q6_k, codec_iq4_xs;
extern const snug_codec codec_tq1_0, codec_tq2_0;
extern const snug_codec codec_q4_1, codec_q5_0, codec_q5_1, codec_q1_0, codec_mxfp4, codec_nvfp4; /* read only */
extern const snug_codec codec_iq2_xxs, codec_iq2_xs, codec_iq2_s, codec_iq3_xxs, codec_iq3_s, codec_iq1_s, codec_iq1_m, codec_f8;

/* The int family's row layout (docs/format.md 3.3), for block.c. */
uint64_t int_row_bytes(codec_params p, uint64_t cols); /* 0 = overflow */
/* Factors for a lowrank payload: v (R, cols) and U^T as ut (R, rows). With bits: each row a scale (bf16) times codes of so many bits. */
typedef struct lowrank_factors { const float *v, *ut, *v_scale, *ut_scale; } lowrank_factors;
void lowrank_pack(codec_params p, uint64_t rows, uint64_t cols, const lowrank_factors *f, uint8_t *dst);

/* Factors for a dict payload: K atoms (K, cols), each atom_scale times codes; for each row n <= S entries of rising `at`, row_scale times q. Arrays
 * of entries are (rows, S). */
typedef struct dict_factors {
    const float *atom, *atom_scale, *row_scale;
    const uint16_t *n, *at;
    const int8_t *q;
} dict_factors;
void dict_pack(codec_params p, uint64_t rows, uint64_t cols, const dict_factors *f, uint8_t *dst);

/* An aq payload: books (K, 256, 8), d (rows), bf16, and codes as books_pack has them (codec/books.h). */
void aq_pack(codec_params p, uint64_t rows, uint64_t cols, const int8_t *books, const uint16_t *d, const uint8_t *codes, uint8_t *dst);

/* Weights of one magnitude and 0. */
static inline bool codec_is_ternary(const snug_codec *c) { return c->id == CODEC_ID_TERN || c->id == CODEC_ID_TQ1_0 || c->id == CODEC_ID_TQ2_0; }

/* tq2_0: a row of whole blocks of codes -1, 0, 1 that share a scale, an f16. */
void tq2_0_pack_row(const int8_t *q, size_t cols, uint16_t d, uint8_t *dst);

/* outP: entries of a payload, in the order of rows and in each of columns; values are finite. */
typedef struct out_entry { uint32_t row, col; float value; } out_entry;
enum { OUT_BLOCK = 256, OUT_BLOCK_MAX = 255 }; /* columns that share a count, and what it counts up to */
/* How many entries a payload has: ceil(rows * cols * P / 1000); 0 = overflow. */
uint64_t out_count(codec_params p, uint64_t rows, uint64_t cols);
/* Stores them. False, with dst untouched: not out_count of them, not in order, outside the shape, more than OUT_BLOCK_MAX in a row's
 * block, or a value that is not finite. */
bool out_pack(codec_params p, uint64_t rows, uint64_t cols, const out_entry *entries, uint64_t count, uint8_t *dst);
#endif
