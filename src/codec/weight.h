/* A weight is a sum of terms:  W = sum_i term_i T_i, each a codec's payload over a range of rows and of the columns that its transform T_i
 * makes of the input. Composition: the shape of such a sum before it has bytes, written "int3g64", "int3g64+lowrank16" or "had:int3g64". */
#ifndef CODEC_WEIGHT_H
#define CODEC_WEIGHT_H
#include "codec/codec.h"

enum { WEIGHT_MAX_TERMS = 4, COMP_NAME_MAX = 128 };

typedef struct term {
    wt wt;
    uint64_t row0, col0; /* where the payload's (wt.rows, wt.cols) stand in W T^T; col0 a multiple of 32, row0 of tile_rows */
} term;

typedef struct weight {
    uint64_t rows, cols;
    uint32_t n_terms;
    term term[WEIGHT_MAX_TERMS];
} weight;

/* rows [row0, row0+n) to f32, dst (n, stride), any row0. */
void weight_decode(const weight *w, uint64_t row0, size_t n, float *dst, size_t stride);
/* y[t * ldy + r - row0] = W[r,:] . x_t. allow_q8: codecs that prefer q8 activations use them, which are there. Splits rows into tiles that fit
 * `scratch` (weight_scratch_bytes for n_tokens and the same allow_q8; independent of n). Results never depend on row0/n tiling or tokens. */
size_t weight_scratch_bytes(const weight *w, size_t n_tokens, bool allow_q8);
void weight_matmul(const weight *w, uint64_t row0, size_t n, const act_set *x, bool allow_q8, float *y, size_t ldy, void *scratch);
uint64_t weight_bytes(const weight *w);
/* Which bases of the activations its terms read, and which of them rounded to 8 bits. */
bool weight_reads(const weight *w, int transform);
bool weight_wants_q8(const weight *w, int transform);

typedef struct comp_term { const snug_codec *codec; codec_params params; } comp_term;
typedef struct comp { uint32_t n_terms; comp_term term[WEIGHT_MAX_TERMS]; } comp;
bool comp_parse(const char *text, comp *out);
void comp_format(const comp *c, char text[COMP_NAME_MAX]);
bool comp_equal(const comp *a, const comp *b);
bool comp_reads(const comp *c, int transform); /* has it terms in this basis? */
/* Payload bytes of term i for a (rows, cols) weight; 0 on overflow, and where the transform does not take so many columns. */
uint64_t comp_term_bytes(const comp *c, uint32_t i, uint64_t rows, uint64_t cols);
#endif
