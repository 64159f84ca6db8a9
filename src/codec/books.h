/* What codecs by books share (kern/books.h): panels of 16 rows with their indices, of lattice codes (e8b) and additive ones (aq), which have their books
 * before them. Parameters: rank is the number of books, and of bits a weight. */
#ifndef CODEC_BOOKS_H
#define CODEC_BOOKS_H
#include "base/checked.h"
#include "codec/codec.h"
#include "kern/books.h"

/* Bytes of the panels alone. */
uint64_t books_panel_bytes(codec_params p, uint64_t n_rows, uint64_t cols);
/* d (n_rows), and codes: of each panel of 16 rows, word of 8 columns (chunks' last words too) and book 16 bytes, those of rows. */
void books_pack(codec_params p, size_t n_rows, size_t cols, const uint16_t *d, const uint8_t *codes, uint8_t *dst);

/* Reading, as the contract has it. */
void books_decode(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride);
void books_decode_add(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride);
size_t books_scratch_bytes(const wt *w, size_t n_rows, size_t n_tokens);
void books_matmul(const wt *w, uint64_t row0, size_t n, const act *x, float *y, size_t ldy, void *scratch);
#endif
