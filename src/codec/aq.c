/* aqK: K = 1 to 4 books of 256 vectors of eight weights, made for the matrix; of each book a vector is chosen for every eight weights, and their sum times
 * the row's scale is what they decode to (kern/books.h; docs/format.md 3.14; additive quantization: Babenko & Lempitsky 2014; for language models
 * AQLM: Egiazarian et al. 2024). K bits a weight, beside 2 KB a book. Entries are bytes, so the books lie in the first cache and codes are
 * multiplied as integers. A solver chooses books and codes (solve_aq), hence CODEC_WHOLE. */
#include "codec/books.h"
#include "codec/codecs.h"

static bool menu(uint32_t i, codec_params *out) { return false; }
static bool params_ok(codec_params p) { return p.rank >= 1 && p.rank <= BOOKS_MOST && p.bits == 0 && p.group == 0; }

static uint64_t bytes(codec_params p, uint64_t rows, uint64_t cols) {
    const uint64_t panels = books_panel_bytes(p, rows, cols);
    uint64_t all;
    return panels && checked_add(panels, (uint64_t)BOOK_BYTES * p.rank, &all) ? all : 0;
}

void aq_pack(codec_params p, uint64_t rows, uint64_t cols, const int8_t *books, const uint16_t *d, const uint8_t *codes, uint8_t *dst) {
    for (size_t i = 0; i < (size_t)BOOK_BYTES * p.rank; i++) dst[i] = (uint8_t)(books[i] + (i < BOOK_BYTES ? 128 : 0));
    books_pack(p, (size_t)rows, (size_t)cols, d, codes, dst + (size_t)BOOK_BYTES * p.rank);
}

const snug_codec codec_aq = {
    .family = "aq", .id = CODEC_ID_AQ, .tile_rows = 1, .tile_cols = 1, .block_cols = 32, .act = CODEC_ACT_Q8, .caps = CODEC_WHOLE, .ggml_type = -1,
    .time = 6, .menu = menu, .params_ok = params_ok, .bytes = bytes,
    .decode = books_decode, .decode_add = books_decode_add, .scratch_bytes = books_scratch_bytes, .matmul = books_matmul,
};
