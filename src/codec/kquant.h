/* Fitting the two-level scales of ggml's 256-blocks: integer sub-scales under one or two f16 super-scales. */
#ifndef CODEC_KQUANT_H
#define CODEC_KQUANT_H
#include "codec/block.h"

/* w = d ls q - dmin lm,  q in 0..hi,  ls and lm in 0..top: q2_k, q4_k, q5_k. */
typedef struct kquant_min_shape { int len, hi, top; } kquant_min_shape; /* len: weights per sub-block */
void kquant_fit_min(const block_in *in, const kquant_min_shape *shape, block_scales *out);

/* w = d ls q,  q in lo..hi or from a table, ls signed in ls_lo..ls_hi: q3_k, q6_k, iq4_xs. out->ls: int8 bits. */
typedef struct kquant_signed_shape {
    int len, lo, hi;
    const int8_t *table;
    int ls_lo, ls_hi;
} kquant_signed_shape;
void kquant_fit_signed(const block_in *in, const kquant_signed_shape *shape, block_scales *out);
#endif
