/* Reading codes by books: e8b and aq. The payload's panels are multiplied as they stand; the last one is padded with rows that nobody reads. */
#include "codec/books.h"
#include "codec/panel_rows.h"

#include "base/f16.h"
#include "codec/codecs.h"

uint64_t books_panel_bytes(codec_params p, uint64_t n_rows, uint64_t cols) {
    uint64_t panel, all;
    bool fits = checked_mul(div_up(cols, 32), kern_books_chunk_bytes(p.rank), &panel) && checked_add(panel, BOOKS_HEAD, &panel);
    return fits && checked_mul(panel, div_up(n_rows, KERN_PANEL_ROWS), &all) ? all : 0;
}

void books_pack(codec_params p, size_t n_rows, size_t cols, const uint16_t *d, const uint8_t *codes, uint8_t *dst) {
    const size_t n = div_up(cols, 32) * kern_books_chunk_bytes(p.rank);
    for (size_t r0 = 0; r0 < n_rows; r0 += KERN_PANEL_ROWS, codes += n, dst += BOOKS_HEAD + n) {
        for (size_t r = 0; r < KERN_PANEL_ROWS; r++) write_u16(dst + 2 * r, r0 + r < n_rows ? d[r0 + r] : 0);
        memcpy(dst + BOOKS_HEAD, codes, n);
    }
}

static bool additive(const wt *w) { return w->codec->id == CODEC_ID_AQ; }
static unsigned form_of(const wt *w) { return additive(w) ? w->params.rank : BOOKS_LATTICE + w->params.rank; }
static size_t chunks_of(const wt *w) { return (size_t)div_up(w->cols, 32); }
static const uint8_t *panel_of(const wt *w, uint64_t row) {
    const size_t books = additive(w) ? (size_t)BOOK_BYTES * w->params.rank : 0;
    return w->data + books + row / KERN_PANEL_ROWS * (BOOKS_HEAD + chunks_of(w) * kern_books_chunk_bytes(w->params.rank));
}

static void decode_rows(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride, bool add) {
    kern(); /* lattice codes' books are there */
    const uint8_t *books = kern_books_of(form_of(w), w->data);
    for (uint64_t row = row0; row < row0 + n; row++, dst += stride)
        for (size_t c = 0; c < w->cols; c += 32) {
            int8_t q[32];
            const size_t len = (size_t)min_u64(w->cols - c, 32);
            const float d = kern_books_chunk(panel_of(w, row), books, form_of(w), c / 32, (size_t)(row % KERN_PANEL_ROWS), q);
            for (size_t i = 0; i < len; i++) dst[c + i] = add ? dst[c + i] + d * (float)q[i] : d * (float)q[i];
        }
}
void books_decode(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) { decode_rows(w, row0, n, dst, stride, false); }
void books_decode_add(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) { decode_rows(w, row0, n, dst, stride, true); }

/* Scratch: of the dots; the results of a panel of which some rows are wanted, (n_tokens, 16). */
typedef struct room { uint8_t *dot; float *some; } room;
static size_t lay_out(const wt *w, size_t n_tokens, uint8_t *scratch, room *to) {
    const size_t dot = round_up(kern_panel_scratch_bytes(chunks_of(w)), 64), some = n_tokens * KERN_PANEL_ROWS * sizeof(float);
    *to = (room){.dot = scratch, .some = (float *)(void *)(scratch + dot)};
    return dot + some;
}
size_t books_scratch_bytes(const wt *w, size_t n_rows, size_t n_tokens) {
    static uint8_t nowhere[64];
    room none;
    return lay_out(w, n_tokens, nowhere, &none);
}

/* Rows [row0, row0 + n) of one panel. */
static void matmul_panel(const wt *w, uint64_t row0, size_t n, const act *x, float *y, size_t ldy, const room *to) {
    const kern_panel_args a = {.panel = panel_of(w, row0), .n_tokens = x->n_tokens, .n_chunks = chunks_of(w), .group = form_of(w), .x = x->q8, .scratch = to->dot, .books = w->data};
    panel_rows_dot(kern()->books_dot, a, (size_t)(row0 % KERN_PANEL_ROWS), n, y, ldy, to->some);
}

void books_matmul(const wt *w, uint64_t row0, size_t n, const act *x, float *y, size_t ldy, void *scratch) {
    room to;
    lay_out(w, x->n_tokens, scratch, &to);
    for (size_t i = 0, len; i < n; i += len) {
        len = KERN_PANEL_ROWS - (size_t)((row0 + i) % KERN_PANEL_ROWS);
        if (len > n - i) len = n - i;
        matmul_panel(w, row0 + i, len, x, y + i, ldy, &to);
    }
}
