/* Trellis codes: 16 rows of a matrix in one bit stream, of which every 16 bits that follow each other are a state, and a state some weights.
 * So neighbouring weights share bits, and an encoder that chooses all of them together comes near to the rate-distortion bound, while each
 * state can be decoded by itself (QTIP: Tseng et al. 2024). Both codes here are made for vectors of integers; behind a header a panel has
 * chunks of 32 columns, and a chunk words of some columns of all rows.
 *
 * tcq, the dense one: a weight a state, after steps of so many bits as the rate says, in quarters of a bit. Bands of 64 columns, or more, have rates of
 * their own, whose mean is the payload's: bits go where an error costs much.
 *
 *   panel    | d: bf16 of 16 rows | rates: 4 bits a band | mask: 16 bits | per 32 columns 8 words of 64 states, rate / 4 bits each |
 *   rate     of a band: quarters + its 4 bits - 8; of all bands quarters, where those are not all within TCQ_QUARTERS_MIN .. _MAX or their mean over the
 *            chunks is not quarters
 *   word     has columns 4 w .. 4 w + 3; state 4 r + c of it is row r's column c
 *   state    number i of a chunk: the 16 bits of the stream that end floor((i + 1) rate / 4) bits after the chunk's beginning, the first of them the
 *            lowest, and mask of them; in front of the stream stands the mask
 *   code     y = x ^ x >> 9;  a = y * 0x7c6b mod 2^16;  b = a * 0xc3dd div 2^16;  u = the sum of both bytes of a and of b, `fields` bits of each
 *   weight   d * (u - 2 (2^fields - 1))
 *
 * A sum of four fields is nearly Gaussian, and two multiplications of 16 bits mix well enough: tables of random numbers are no nearer to the bound.
 *
 * tcqf, the fast one, of 2 bits: four weights a state, whose steps are whole bytes, and entries of one table of 16 which byte shuffles look up.
 *
 *   panel    | d: bf16 of 16 rows | per 32 columns 4 words of 32 states, a byte each |
 *   state    x = (the byte before) | (its own byte) << 8;   the byte before the first is the header's last
 *   code     p = (x ^ x >> 9) * 0xb471 mod 2^16;   nibble i of p, from the low end, is the weight in column kern_tcqf_column(h, i) of the word
 *   weight   d * (kern_tcqf_stored[nibble] - TCQF_ZERO)
 *
 * Word w of a chunk has the columns 8 w .. 8 w + 7 of all rows; state 2 r + h of it has row r's columns
 *   h = 0: 0 4 1 5      h = 1: 2 6 3 7
 * counted from 8 w, for nibbles 0 1 2 3: so the even nibbles of both states are the first four columns, the odd ones the other four. */
#ifndef KERN_TRELLIS_H
#define KERN_TRELLIS_H
#include "kern/kern.h"

enum {
    TCQ_SHIFT = 9, TCQ_FACTOR_A = 0x7c6b, TCQ_FACTOR_B = 0xc3dd,
    TCQ_WORD = 4,                             /* columns of a word */
    TCQ_QUARTERS_MIN = 4, TCQ_QUARTERS_MAX = 24,
    TCQ_BAND_COLS = 64, TCQ_BAND_COLS_MOST = 1024, /* of a band, a power of two */
    TCQ_RATES = 2 * KERN_PANEL_ROWS,          /* where the bands' rates stand */
    TCQ_OWN_RATE = 8,                         /* of a band: the payload's */
};
/* What a payload is, in one number: its rate in quarters of a bit, and log2 of a band's chunks above. */
static inline unsigned kern_tcq_form(unsigned quarters, unsigned band_cols) {
    unsigned shift = 1;
    while (32u << shift < band_cols) shift++;
    return quarters | shift << 8;
}
static inline unsigned kern_tcq_quarters(unsigned form) { return form & 255; }
static inline unsigned kern_tcq_shift(unsigned form) { return form >> 8; }
/* Bytes before a panel's mask. */
static inline size_t kern_tcq_mask_at(unsigned form, size_t n_chunks) {
    const size_t of_byte = (size_t)2 << kern_tcq_shift(form);
    return TCQ_RATES + (n_chunks + of_byte - 1) / of_byte;
}
static inline size_t kern_tcq_head_bytes(unsigned form, size_t n_chunks) { return kern_tcq_mask_at(form, n_chunks) + 2; }
/* The rates of a panel's chunks. */
typedef struct kern_tcq_rates {
    const uint8_t *code; /* NULL: all are quarters */
    unsigned quarters, shift;
} kern_tcq_rates;
kern_tcq_rates kern_tcq_rates_of(const uint8_t *panel, unsigned form, size_t n_chunks);
static inline unsigned kern_tcq_rate(kern_tcq_rates r, size_t chunk) {
    return r.code ? r.quarters + (r.code[chunk >> (r.shift + 1)] >> 4 * (chunk >> r.shift & 1) & 15) - TCQ_OWN_RATE : r.quarters;
}
/* Bytes of 16 rows by 32 columns. */
static inline size_t kern_tcq_chunk_bytes(unsigned quarters) { return 16 * quarters; }
/* Finer codes for higher rates: spacings below the errors, and no wider than need be, since fewer bits multiply faster. */
static inline unsigned kern_tcq_fields(unsigned quarters) { return quarters < 14 ? 4 : quarters <= 20 ? 5 : 6; }
static inline int kern_tcq_zero(unsigned fields) { return 2 * ((1 << fields) - 1); }
static inline unsigned kern_tcq_code(unsigned x, unsigned fields) {
    const uint16_t y = (uint16_t)x, m = (uint16_t)((1u << fields) - 1);
    const uint16_t a = (uint16_t)((uint16_t)(y ^ y >> TCQ_SHIFT) * (unsigned)TCQ_FACTOR_A), b = (uint16_t)((unsigned)a * TCQ_FACTOR_B >> 16);
    return (uint16_t)((a & m) + (a >> 8 & m) + (b & m) + (b >> 8 & m));
}
/* How the states of eight rows' part of a word, or with `wide` of the whole word, are taken apart: eight at a time from 16 bytes, lane l of
 * register v those from state 8 (2 l + v) on. A pair of them lies in four bytes: shifted down its first is the low half, shifted up its second the
 * high one. */
typedef struct kern_tcq_windows {
    _Alignas(64) uint8_t index[2][64];  /* of the lane's bytes */
    uint32_t down[2][16], up[2][16];
    uint32_t dword[2][16];              /* wide: of the word's dwords, counted from 4 bytes before it */
    int from[4];                        /* else: where the bytes of states 8 i and so on begin, counted from the first; they end with these states' last */
    unsigned quarters;
} kern_tcq_windows;
extern kern_tcq_windows kern_tcq_window[2][TCQ_QUARTERS_MAX + 1]; /* filled by kern_tcq_init */
static inline const kern_tcq_windows *kern_tcq_windows_of(unsigned quarters, bool wide) { return &kern_tcq_window[wide][quarters]; }
void kern_tcq_init(void); /* once, before */

/* d of a row of a panel of either code. */
float kern_trellis_d(const uint8_t *panel, size_t r);
/* A panel's chunks one after the other, by rows. */
typedef struct kern_tcq_walk {
    kern_tcq_rates rates;
    const uint8_t *at; /* the 16 bits in front of the chunk that comes */
    size_t chunk;
    unsigned mask, fields;
} kern_tcq_walk;
kern_tcq_walk kern_tcq_begin(const uint8_t *panel, unsigned form, size_t n_chunks);
/* The levels u - 2 (2^fields - 1) of row r of the next chunk. */
void kern_tcq_next(kern_tcq_walk *w, size_t r, int8_t q[32]);

enum {
    TCQF_SHIFT = 9, TCQF_FACTOR = 0xb471,
    TCQF_ZERO = 32,             /* dots take levels + 32: 6 bits without a sign */
    TCQF_SIGMA = 12,            /* the standard deviation that levels were made for */
    TCQF_CHUNK = 128,           /* bytes of 16 rows by 32 columns */
    TCQF_HEAD = 2 * KERN_PANEL_ROWS,
    TCQF_WORD = 8,              /* columns of a word */
};
/* Levels + 32. They are what the code makes of a unit Gaussian times TCQF_SIGMA: means of the weights that choose each (Lloyd's condition),
 * +-1 3 5 7 9 12 16 25. */
static const uint8_t kern_tcqf_stored[16] = {7, 16, 20, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 44, 48, 57};
static inline int kern_tcqf_level(unsigned nibble) { return kern_tcqf_stored[nibble] - TCQF_ZERO; }

static inline uint16_t kern_tcqf_code(unsigned older, unsigned newer) {
    const unsigned x = older | newer << 8;
    return (uint16_t)((x ^ x >> TCQF_SHIFT) * TCQF_FACTOR);
}

/* The column, of a word's eight, of nibble i of a row's state h. */
static inline int kern_tcqf_column(int h, int i) { return 2 * h + i / 2 + 4 * (i % 2); }

/* The levels of chunk c of row r of a panel. */
void kern_tcqf_chunk(const uint8_t *panel, size_t c, size_t r, int8_t q[32]);
#endif
