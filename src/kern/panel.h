/* Panels: the layout that dots read. KERN_PANEL_ROWS rows of a block format, every byte of them permuted so that one vector
 * register holds the same field, or the same four columns, of all rows; sixteen rows of n bytes are a panel of 16 n bytes.
 *
 *   block    | header fields, each (16 rows)  | chunk 0 | chunk 1 | ...    a block is ggml's, or a whole row of the int family
 *   header   the row format's own fields; their bytes in order, row by row: | d of 16 rows | ... | byte k of 16 rows | ...
 *   chunk    32 columns of unsigned codes u, as planes of 8, or of 4, 2 and 1 bits, of words that hold 4 columns of a row:
 *            | 8: word j of 16 rows, j = 0..7 |   or   | 4: j = 0..3 | 2: j = 0, 1 | 1: j = 0 |      a word set is 64 bytes
 *            columns 4 j .. 4 j + 3 of the chunk stand
 *                in the 4-bit plane in word set j mod 4, shifted up by 4 (j div 4)
 *                in the 2-bit plane in word set j mod 2, shifted up by 2 (j div 2)
 *                in the 1-bit plane in word set 0,       shifted up by j
 *            u = u4 | u2 << 4 | u1 << (4 and 2 as far as they are there), low bits first; iq4: index into the table.
 *
 * The signed formats store u = q + zero.
 *
 * tq1_0 has no chunks of planes: the 52 bytes of base-3 digits of its rows' blocks are 13 words, and stand as 13 word sets. */
#ifndef KERN_PANEL_H
#define KERN_PANEL_H
#include "kern/books.h"
#include "kern/kern.h"
#include "kern/trellis.h"

enum { TRELLIS_NONE, TRELLIS_TCQ, TRELLIS_TCQF, TRELLIS_BOOKS };
typedef struct panel_form {
    uint8_t bits, zero;   /* of a stored code; q = u - zero                                      */
    uint8_t group;        /* 16 or 32                                                            */
    bool has_min, table;  /* table: u indexes kern_iq4_values, and stands for value + 128        */
    uint8_t block_chunks; /* 0: the block is the row (int family)                                */
    uint8_t head;         /* header bytes of a row's block; the int family: 2 + its groups       */
    bool digits;          /* tq1_0: base-3 digits instead of planes                              */
    uint8_t trellis;      /* kern/trellis.h: no planes, but states of a stream that decode to such codes */
    uint16_t mask;                     /* TRELLIS_TCQ: of a state's bits           */
    const kern_tcq_windows *windows;   /* TRELLIS_TCQ: how states are taken apart  */
    uint8_t n_books;                   /* TRELLIS_BOOKS: no states, but indices into so many books (kern/books.h) */
    bool lattice;                      /* of which the even and the odd ones are points together                  */
    const uint8_t *books;
} panel_form;

static const panel_form panel_forms[KERN_FORMAT_COUNT] = {
    [KERN_Q8_0] = {8, 128, 32, false, false, 1, 2},  [KERN_Q4_0] = {4, 8, 32, false, false, 1, 2},
    [KERN_IQ4_NL] = {4, 128, 32, false, true, 1, 2}, [KERN_Q2_K] = {2, 0, 16, true, false, 8, 20},
    [KERN_Q3_K] = {3, 4, 16, false, false, 8, 14},   [KERN_Q4_K] = {4, 0, 32, true, false, 8, 16},
    [KERN_Q5_K] = {5, 0, 32, true, false, 8, 16},    [KERN_Q6_K] = {6, 32, 16, false, false, 8, 18},
    [KERN_IQ4_XS] = {4, 128, 32, false, true, 8, 8}, [KERN_TQ1_0] = {2, 1, 32, false, false, 8, 2, .digits = true},
    [KERN_TQ2_0] = {2, 1, 32, false, false, 8, 2},   [KERN_CODES] = {8, 128, 32, false, false, 1, 4},
    [KERN_CODES16] = {8, 128, 16, false, false, 1, 8}, [KERN_CODES_MIN] = {8, 128, 32, true, false, 1, 8},
    [KERN_INT2] = {2, 0, 32, true, false, 0, 0},
    [KERN_INT3] = {3, 0, 32, true, false, 0, 0},     [KERN_INT4] = {4, 0, 32, true, false, 0, 0},
    [KERN_INT5] = {5, 0, 32, true, false, 0, 0},     [KERN_INT6] = {6, 0, 32, true, false, 0, 0},
    [KERN_INT7] = {7, 0, 32, true, false, 0, 0},     [KERN_INT8] = {8, 0, 32, true, false, 0, 0},
};

/* Trellis codes in the same terms: bits of the codes that their states decode to. */
static const panel_form panel_form_tcqf = {.bits = 6, .zero = TCQF_ZERO, .group = 32, .head = 2, .trellis = TRELLIS_TCQF};
enum { PANEL_TRELLIS = KERN_FORMAT_COUNT }; /* where a kern_format is asked for */

enum { PANEL_DIGIT_WORDS = 13 };
/* Bytes of codes in a row's block of a ggml format. */
static inline size_t panel_code_bytes(const panel_form f) { return f.digits ? 4 * PANEL_DIGIT_WORDS : 4u * f.bits * f.block_chunks; }
/* Bytes of a chunk of all rows, and of eight rows within its words. */
static inline size_t panel_chunk_bytes(const panel_form f) {
    if (f.trellis == TRELLIS_BOOKS) return kern_books_chunk_bytes(f.n_books);
    return f.trellis == TRELLIS_TCQ ? kern_tcq_chunk_bytes(f.windows->quarters) : f.trellis ? TCQF_CHUNK : 64u * f.bits;
}
static inline size_t panel_eight_rows(const panel_form f) { return f.trellis == TRELLIS_BOOKS ? 8 : f.trellis == TRELLIS_TCQ ? f.windows->quarters : f.trellis ? 16 : 32; }

/* Offset of field byte `at` in a panel's header: elements of `size` bytes, 16 rows of each. */
static inline size_t panel_field(size_t at) { return at * KERN_PANEL_ROWS; }
#endif
