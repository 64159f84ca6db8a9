/* ecR: uniform codes behind an entropy coder, R bits per weight in quarters of a bit (docs/format.md 3.12). What its files share.
 *
 * Rows stand in panels of 16, each a stream of its own that fills R bits per weight and no more:
 *
 *   panel    | base: bf16 | row: 16 bytes | band: a byte for each 64 columns | 4 states of 5 bytes | words of 16 bits |
 *   row      v (6 bits), shape (2): how wide its codes lie, in eighths of an octave, and after which family
 *   band     e (5 bits), z (3): the step of its columns is base E[e], E as the int family has it; z corrects how wide codes lie there
 *   weight   step q, |q| < 2^(B-1)
 *
 * A code's table is number v - 1 + x[e] + 2 (z - 4), within 0 .. 64, of its row's shape, x[e] being how many eighths of an octave E[e] lies below 1. Where v
 * is 0 or E[e] is, codes are 0 and take no bits. Codes stand column by column, in each row by row, coded with rANS (Duda 2013): row r's with state r mod 4. */
#ifndef CODEC_EC_H
#define CODEC_EC_H
#include "codec/codec.h"

enum {
    EC_ROWS = KERN_PANEL_ROWS, EC_BAND = 64, EC_LANES = 4, EC_STATE = 5, /* bytes of a state */
    EC_QUARTERS_MIN = 6, EC_QUARTERS_MAX = 24,
    EC_WIDTHS = 65, EC_SHAPES = 4, /* of tables */
    EC_SLOTS = 4096, EC_MOST = 127, EC_ESCAPE = 0, EC_ZERO_Z = 4, EC_NO_STEP = 31,
    EC_BIT = 4096 /* of costs */
};

/* Codes are counted from -128, so that 0 is free for the escape: 8 bits follow that are the code itself. */
typedef struct ec_table {
    uint8_t of_slot[EC_SLOTS];
    uint32_t span[256]; /* slots << 16 | the first of them */
    uint32_t cost[256]; /* at least what a code takes, escaped where it has no slots */
} ec_table;
static inline int ec_symbol(int q) { return q + 128; }

const ec_table *ec_tables(void); /* (EC_SHAPES, EC_WIDTHS); made once, thread-safe */
/* Of a row and a band; NULL: all its codes are 0. */
const ec_table *ec_table_of(uint8_t row, uint8_t band);

/* Bits of the codes as they are multiplied, B: they cover eight standard deviations or more of a Gaussian row that has its share of the bits. */
static inline unsigned ec_bits(unsigned quarters) { return (quarters + 3) / 4 + 2; }
static inline int ec_limit(unsigned quarters) { return (1 << (ec_bits(quarters) - 1)) - 1; }

typedef struct ec_layout { size_t rows, bands, states, words, n_words, bytes; } ec_layout; /* where they begin in a panel */
ec_layout ec_layout_of(codec_params p, size_t cols);

/* The steps of the contract (ec_enc.c). */
size_t ec_enc_bytes(codec_params p, size_t n_rows, size_t cols);
uint32_t ec_group_cols(codec_params p);
void ec_enc_init(void *enc, codec_params p, size_t n_rows, size_t cols, int effort);
void ec_begin(void *enc, const float *w, size_t ldw, const float *a);
void ec_group(void *enc, size_t col0, size_t n, const float *w, size_t ldw, const float *a);
void ec_round(void *enc, size_t col0, size_t n, const float *w, size_t ldw, float *w_hat, size_t ldh);
void ec_pack(const void *enc, uint8_t *dst);
#endif
