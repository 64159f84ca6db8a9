/* The sparse and ternary families (docs/format.md 3.5): a chunk of 32 columns keeps a fixed number of weights, so sizes are exact by shape.
 * sparse.c: codecs and encoder state, sparse_fit.c: masks and scales. Reading is block.c's: rows unpack to int8 codes. */
#ifndef CODEC_SPARSE_H
#define CODEC_SPARSE_H
#include "codec/codecs.h"
#include "kern/sparse.h"

static inline bool codec_is_sparse(const snug_codec *c) { return c->id >= CODEC_ID_SP && c->id <= CODEC_ID_TERN; }
kern_sparse sparse_form(const snug_codec *codec, codec_params p);

enum { SPARSE_MAX_GROUP = 128 };

/* Codes of B bits are so many magnitudes of either sign. */
static inline int sparse_magnitudes(const kern_sparse *f) { return 1 << (f->bits - 1); }
/* How many grids there are, and the largest |q| of one. */
static inline int sparse_grids(const kern_sparse *f) { return f->bits == 1 || f->bits == 8 ? 1 : 8; }
static inline int sparse_reach(const kern_sparse *f, int z) {
    return f->bits == 8 ? 127 : kern_sparse_magnitude(f->bits, z, sparse_magnitudes(f) - 1);
}

/* The nearest code to w of those that have scale s and grid z, as it is stored, and its q. */
uint8_t sparse_nearest(const kern_sparse *f, float w, float s, int z, int *q);
/* The bf16 bits of a row's d. */
uint16_t sparse_row_scale(const kern_sparse *f, const float *w, size_t cols, const float *a, int effort);
/* The scale byte (or nibble) of n <= SPARSE_MAX_GROUP weights under d, and the masks of its chunks. */
uint8_t sparse_fit(const kern_sparse *f, const float *w, size_t n, const float *a, float d, int effort,
                   uint32_t mask[SPARSE_MAX_GROUP / 32]);
#endif
