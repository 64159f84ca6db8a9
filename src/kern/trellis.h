/* Trellis codes: 16 rows of a matrix in one bit stream, of which every 16 bits that follow each other are a state, and a state some weights.
 * So neighbouring weights share bits, and an encoder (codec/tcq_enc.c) that chooses all of them together comes near to the rate-distortion bound,
 * while each state can be decoded by itself (QTIP: Tseng et al. 2024). This one is made for vectors of integers: steps are whole bytes, and a
 * state's weights are entries of one table of 16, which byte shuffles look up.
 *
 *   panel    | d: bf16 of 16 rows | per 32 columns 4 words of 32 states, a byte each |
 *   state    x = (the byte before) | (its own byte) << 8;   the byte before the first is the header's last
 *   code     p = (x ^ x >> 9) * 0xb471 mod 2^16;   nibble i of p, from the low end, is the weight in column kern_tcq2_column(h, i) of the word
 *   weight   d * (kern_tcq2_stored[nibble] - TCQ2_ZERO)
 *
 * Word w of a chunk has the columns 8 w .. 8 w + 7 of all rows; state 2 r + h of it has row r's columns
 *   h = 0: 0 4 1 5      h = 1: 2 6 3 7
 * counted from 8 w, for nibbles 0 1 2 3: so the even nibbles of both states are the first four columns, the odd ones the other four. */
#ifndef KERN_TRELLIS_H
#define KERN_TRELLIS_H
#include "kern/kern.h"

enum {
    TCQ2_SHIFT = 9, TCQ2_FACTOR = 0xb471,
    TCQ2_ZERO = 32,             /* dots take levels + 32: 6 bits without a sign */
    TCQ2_SIGMA = 12,            /* the standard deviation that levels were made for */
    TCQ2_CHUNK = 128,           /* bytes of 16 rows by 32 columns */
    TCQ2_HEAD = 2 * KERN_PANEL_ROWS,
    TCQ2_WORD = 8,              /* columns of a word */
};
/* Levels + 32. They are what the code makes of a unit Gaussian times TCQ2_SIGMA: means of the weights that choose each (Lloyd's condition),
 * +-1 3 5 7 9 12 16 25. */
static const uint8_t kern_tcq2_stored[16] = {7, 16, 20, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 44, 48, 57};
static inline int kern_tcq2_level(unsigned nibble) { return kern_tcq2_stored[nibble] - TCQ2_ZERO; }

static inline uint16_t kern_tcq2_code(unsigned older, unsigned newer) {
    const unsigned x = older | newer << 8;
    return (uint16_t)((x ^ x >> TCQ2_SHIFT) * TCQ2_FACTOR);
}

/* The column, of a word's eight, of nibble i of a row's state h. */
static inline int kern_tcq2_column(int h, int i) { return 2 * h + i / 2 + 4 * (i % 2); }

/* The levels of chunk c of row r of a panel; d of that row. */
float kern_tcq2_chunk(const uint8_t *panel, size_t c, size_t r, int8_t q[32]);
#endif
