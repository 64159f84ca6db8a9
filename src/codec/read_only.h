/* The ggml types that snug reads and does not write: files of llama.cpp's and others' making have them, and for each snug has something better at its
 * size. A block unpacks to chunks of int8 codes with f32 scales (kern.h's KERN_CODES, KERN_CODES16, KERN_CODES_MIN), without any rounding, and is
 * multiplied as those, like a sparse row: each pass unpacks anew, so that a model takes no more memory than its file. They are sources: a fit reads
 * them, keeps a matrix as it is where that is best, and never encodes to them. */
#ifndef CODEC_READ_ONLY_H
#define CODEC_READ_ONLY_H
#include "codec/codec.h"

typedef struct read_format {
    kern_format kern;     /* what a block unpacks to: cols / 32 of this form's chunks */
    uint16_t cols, bytes; /* of a block                                               */
    void (*unpack)(const uint8_t *block, uint8_t *chunks);
} read_format;

static inline const read_format *read_format_of(const snug_codec *c) { return c->caps & CODEC_READ_ONLY ? c->impl : NULL; }
/* Bytes of a chunk of the form that it unpacks to. */
static inline size_t read_chunk_bytes(const read_format *f) { return f->kern == KERN_CODES ? KERN_CODES_BYTES : KERN_CODES_PAIR_BYTES; }
/* A row of n_blocks blocks to chunks. */
void read_unpack_row(const read_format *f, const uint8_t *row, size_t n_blocks, uint8_t *chunks);

extern const read_format read_iq2_xxs, read_iq2_xs, read_iq2_s, read_iq3_xxs, read_iq3_s, read_iq1_s, read_iq1_m; /* read_iq.c */

/* The grids of the iq types: sets of points whose coordinates are digits, as bitmaps over the numbers that the digits make (the first coordinate the
 * lowest). A code is the point's place among the set's, in rising order. Eight digits of 0 .. 2: 3^8 bits; four of 0 .. 7: 8^4. */
enum { IQ_TERNARY_WORDS = 103, IQ_OCTAL_WORDS = 64 };
extern const uint64_t iq2_xxs_points[IQ_TERNARY_WORDS], iq2_xs_points[IQ_TERNARY_WORDS], iq2_s_points[IQ_TERNARY_WORDS], iq1_points[IQ_TERNARY_WORDS];
extern const uint64_t iq3_xxs_points[IQ_OCTAL_WORDS], iq3_s_points[IQ_OCTAL_WORDS];
#endif
