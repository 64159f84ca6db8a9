/* Codes by books: of eight weights of a row each byte that is stored names one of the 256 vectors of a book, and the weights are what these vectors
 * give together. So little is known of a weight by itself, and eight are looked up at once.
 *
 *   panel    | d: bf16 of 16 rows | per 32 columns 4 words: K x 16 bytes |        K books, 1 to 4
 *   word     has columns 8 w .. 8 w + 7; byte 16 k + r of it is row r's index into book k
 *   codes    u = the vectors' bytes, combined column by column modulo 256;   weight d * (u - zero)
 *
 * Two kinds. Additive codes (aq) have books of their own, before the payload's panels, and add:  u = sum over k of book k's bytes, zero = 128. So any bytes are
 * codes, and one book has its entries + 128.
 *
 * Lattice codes (e8b) have the books that are built here, and no others: points of the lattice E8 moved by 1/4 in every direction (E8P of QuIP#, Tseng et
 * al. 2024). Such a point is a pattern of eight odd halves, of signs so many that their sum is even, + 1/4 or - 1/4 in all columns; four times that is an
 * odd number q = 2 b + 1, and -q is 2 ~b + 1: signs are bits to be turned, and so is the difference that 1/4 makes. Book 0 has patterns, book 1 signs:
 * u = book 0 ^ book 1. One bit a weight more is a vector of E8 itself, scaled, added from book 2; two bits more are a second point, of books 2 and 3, with 1/4 of
 * the first one's scale. */
#ifndef KERN_BOOKS_H
#define KERN_BOOKS_H
#include "kern/kern.h"

enum {
    BOOK_WORD = 8,                 /* columns of a word, and weights of an entry */
    BOOK_BYTES = 256 * BOOK_WORD,
    BOOKS_MOST = 4,
    BOOKS_HEAD = 2 * KERN_PANEL_ROWS,
    BOOKS_LATTICE = 8,             /* a form is the number of books, and this for lattice codes, of 2 to 4 */
    BOOKS_REST = 9,                /* e8b3: what 1/2 of book 2 is, where 1/4 of a point is 8 */
};
static inline unsigned kern_books_count(unsigned form) { return form % BOOKS_LATTICE; }
/* Bytes of 16 rows by 32 columns. */
static inline size_t kern_books_chunk_bytes(unsigned form) { return 64u * kern_books_count(form); }
/* Of codes, and how many bits they have. */
static inline int kern_books_zero(unsigned form) { return form == BOOKS_LATTICE + 2 ? 16 : form == BOOKS_LATTICE + 4 ? 64 : 128; }
static inline int kern_books_bits(unsigned form) { return form == BOOKS_LATTICE + 2 ? 5 : form == BOOKS_LATTICE + 4 ? 7 : 8; }
/* By how much a form of lattice codes multiplies q of its first point. */
static inline int kern_e8_factor(unsigned form) { return form == BOOKS_LATTICE + 2 ? 1 : form == BOOKS_LATTICE + 3 ? 8 : 4; }

typedef struct kern_e8_tables {
    uint8_t pattern[256][BOOK_WORD];            /* twice the halves: 1, 3, 5 */
    bool odd[256];                              /* takes an odd number of minus signs */
    uint8_t books[3][BOOKS_MOST][BOOK_BYTES];   /* of forms BOOKS_LATTICE + 2, 3, 4 */
} kern_e8_tables;
const kern_e8_tables *kern_e8(void); /* any table of kern() must have been asked for before */
void kern_e8_init(void);             /* once, before */

/* The books of a form: its own, or a lattice code's. */
static inline const uint8_t *kern_books_of(unsigned form, const uint8_t *own) { return form < BOOKS_LATTICE ? own : kern_e8()->books[form - BOOKS_LATTICE - 2][0]; }

/* u - zero of chunk c of row r of a panel; d of that row. */
float kern_books_chunk(const uint8_t *panel, const uint8_t *books, unsigned form, size_t c, size_t r, int8_t q[32]);
#endif
