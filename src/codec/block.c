/* Reading of block formats: decode, and y += W x. Kernels multiply panels of 16 rows (kern/panel.h); rows that stand row by row
 * are made panels on the way, in scratch. kern.h fixes the arithmetic, so that a result never shows which way it went. */
#include "codec/block.h"

#include "base/checked.h"
#include "codec/codecs.h"
#include "codec/gs.h"
#include "codec/sparse.h"

#include <stdatomic.h>

row_form block_row_form(const wt *w) {
    if (codec_is_sparse(w->codec)) {
        const kern_sparse f = sparse_form(w->codec, w->params);
        const uint64_t n = div_up(w->cols, 32);
        return (row_form){.kern = KERN_CODES, .row_bytes = n * KERN_CODES_BYTES, .n_chunks = n, .stored_bytes = kern_sparse_layout_of(&f, (size_t)n).bytes, .sparse = f};
    }
    const read_format *read = read_format_of(w->codec);
    if (read) {
        const uint64_t n = div_up(w->cols, read->cols), n_chunks = n * read->cols / 32;
        return (row_form){.kern = read->kern, .row_bytes = n_chunks * read_chunk_bytes(read), .n_chunks = n_chunks, .stored_bytes = n * read->bytes, .read = read};
    }
    if (w->codec->impl == NULL) { /* the int family and what unpacks to it: the format depends on the parameters */
        return (row_form){.kern = (kern_format)(KERN_INT2 + w->params.bits - 2), .stored_group = w->params.group,
                          .row_bytes = int_row_bytes(w->params, w->cols), .n_chunks = div_up(w->cols, 32),
                          .stored_bytes = w->codec->id == CODEC_ID_GS ? gs_row_bytes(w->params, w->cols) : 0};
    }
    const block_format *f = w->codec->impl;
    uint64_t n = div_up(w->cols, f->cols);
    return (row_form){.kern = f->kern, .row_bytes = n * f->bytes, .n_chunks = n * f->cols / 32};
}

/* Scratch for 16 rows: row by row, as a panel, and what the dot needs. */
typedef struct room { uint8_t *rows, *panel, *dot; } room;

static size_t lay_out(const row_form *r, uint8_t *scratch, room *to) {
    const size_t rows = round_up(KERN_PANEL_ROWS * r->row_bytes, 64);
    *to = (room){.rows = scratch, .panel = scratch + rows, .dot = scratch + 2 * rows};
    return 2 * rows + kern_panel_scratch_bytes((size_t)r->n_chunks);
}

size_t block_scratch_bytes(const wt *w, size_t n_rows, size_t n_tokens) {
    static uint8_t nowhere[64];
    row_form r = block_row_form(w);
    room none;
    return lay_out(&r, nowhere, &none);
}

/* Rows that stand in panels, wherever they do: the rest is row by row. */
static uint64_t panelled(const wt *w) { return w->rows / KERN_PANEL_ROWS * KERN_PANEL_ROWS; }

uint64_t block_panel_bytes(const wt *w) { return w->layout == WT_PANELS ? 0 : panelled(w) * block_row_form(w).row_bytes; }

/* The panel that row `row` stands in; NULL: it stands by itself. */
static const uint8_t *panel_of(const wt *w, const row_form *r, uint64_t row) {
    uint64_t i = row / KERN_PANEL_ROWS, at = i * KERN_PANEL_ROWS * r->row_bytes;
    if (row >= panelled(w)) return NULL;
    if (w->layout == WT_PANELS) return w->data + at;
    return w->panels && atomic_load_explicit(&w->panels->state[i], memory_order_acquire) == WT_READY ? w->panels->data + at : NULL;
}

static void unpack_row(const wt *w, const row_form *r, const uint8_t *stored, uint8_t *row) {
    if (r->sparse.group) kern()->unpack_sparse(&r->sparse, stored, (size_t)r->n_chunks, 0, (size_t)r->n_chunks, row);
    else if (r->read) read_unpack_row(r->read, stored, (size_t)r->n_chunks * 32 / r->read->cols, row);
    else gs_unpack(w->params, w->cols, stored, row);
}

/* Rows [row0, row0 + n) one after the other: where they stand, or brought together (or unpacked) in `rows`. */
static const uint8_t *rows_at(const wt *w, const row_form *r, uint64_t row0, size_t n, uint8_t *rows) {
    bool apart = false;
    for (size_t i = 0; r->stored_bytes && i < n; i++) unpack_row(w, r, w->data + (row0 + i) * r->stored_bytes, rows + i * r->row_bytes);
    if (r->stored_bytes) return rows;
    for (size_t i = 0; i < n; i++) apart |= panel_of(w, r, row0 + i) != NULL;
    if (!apart) return w->data + row0 * r->row_bytes;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *panel = panel_of(w, r, row0 + i);
        uint8_t *row = rows + i * r->row_bytes;
        if (panel) kern_panel_get(r->kern, panel, r->row_bytes, (size_t)r->n_chunks, r->stored_group, (row0 + i) % KERN_PANEL_ROWS, row);
        else memcpy(row, w->data + (row0 + i) * r->row_bytes, r->row_bytes);
    }
    return rows;
}

void block_relay(const wt *w, uint8_t *dst) {
    row_form r = block_row_form(w);
    const uint64_t panel_bytes = KERN_PANEL_ROWS * r.row_bytes, end = panelled(w) * r.row_bytes;
    for (uint64_t at = 0; at < end; at += panel_bytes) {
        if (w->layout == WT_ROWS) {
            kern_panel_pack(r.kern, w->data + at, r.row_bytes, KERN_PANEL_ROWS, (size_t)r.n_chunks, r.stored_group, dst + at);
            continue;
        }
        for (size_t i = 0; i < KERN_PANEL_ROWS; i++)
            kern_panel_get(r.kern, w->data + at, r.row_bytes, (size_t)r.n_chunks, r.stored_group, i, dst + at + i * r.row_bytes);
    }
    memcpy(dst + end, w->data + end, w->bytes - end);
}

/* Decodes n <= BLOCK_MAX weights of one unpackable piece, to dst or onto it. */
static void expand_piece(const row_form *r, const uint8_t *piece, size_t n_chunks, size_t n, float *dst, bool add) {
    int8_t q[BLOCK_MAX];
    float s[BLOCK_MAX / 16], m[BLOCK_MAX / 16];
    kern()->unpack[r->kern](piece, n_chunks, r->stored_group, q, s, m);
    float sum[BLOCK_MAX];
    kern()->expand(q, s, kern_has_min(r->kern) ? m : NULL, kern_group(r->kern), n, add ? sum : dst);
    for (size_t i = 0; add && i < n; i++) dst[i] += sum[i];
}

/* A row of a ggml format: where it stands, or row `at` of a panel. */
static void decode_row(const block_format *f, const row_form *r, const uint8_t *row, const uint8_t *panel, size_t at, size_t cols, float *dst, bool add) {
    uint8_t block[BLOCK_MAX_BYTES];
    for (size_t c = 0, i = 0; c < cols; c += f->cols, i += f->bytes) {
        size_t n = cols - c < f->cols ? cols - c : f->cols;
        if (panel) kern_panel_get(r->kern, panel + i * KERN_PANEL_ROWS, f->bytes, f->cols / 32, 0, at, block);
        expand_piece(r, panel ? block : row + i, f->cols / 32, n, dst + c, add);
    }
}

/* An int row is taken group by group, each brought together to a row of one group: row `at` of the `height` that stand interleaved from
 * `rows` on, 1 for a row by itself. */
static void decode_int_row(const wt *w, const row_form *r, const uint8_t *rows, size_t height, size_t at, float *dst, bool add) {
    const unsigned bits = w->params.bits, group = r->stored_group;
    const size_t n_groups = div_up(w->cols, group), per_group = group / 32;
    const uint8_t *meta = rows + 2 * height, *words = meta + height * n_groups;
    for (size_t g = 0; g < n_groups; g++) {
        uint8_t piece[3 + 4 * 32]; /* d, meta and at most 4 chunks of 32 bytes */
        size_t n_chunks = (size_t)min_u64(r->n_chunks - g * per_group, per_group), n = (size_t)min_u64(w->cols - g * group, group);
        memcpy(piece, rows + 2 * at, 2);
        piece[2] = meta[g * height + at];
        for (size_t i = 0; i < n_chunks * bits; i++) memcpy(piece + 3 + 4 * i, words + 4 * (height * (g * per_group * bits + i) + at), 4);
        expand_piece(r, piece, n_chunks, n, dst + g * group, add);
    }
}

/* A sparse row is unpacked a few blocks at a time. */
static void decode_sparse_row(const row_form *r, const uint8_t *row, size_t cols, float *dst, bool add) {
    uint8_t blocks[KERN_SPARSE_STEP * KERN_CODES_BYTES];
    for (size_t c = 0; c < r->n_chunks; c += KERN_SPARSE_STEP) {
        const size_t n = (size_t)min_u64(r->n_chunks - c, KERN_SPARSE_STEP);
        kern()->unpack_sparse(&r->sparse, row, (size_t)r->n_chunks, c, n, blocks);
        for (size_t i = 0, at = 32 * c; i < n; i++, at += 32)
            expand_piece(r, blocks + i * KERN_CODES_BYTES, 1, cols - at < 32 ? cols - at : 32, dst + at, add);
    }
}

/* A group-sparse row group by group. */
static void decode_gs_row(const wt *w, const row_form *r, const uint8_t *row, float *dst, bool add) {
    const size_t group = r->stored_group, n_groups = (size_t)div_up(w->cols, group);
    for (size_t g = 0; g < n_groups; g++) {
        uint8_t piece[GS_PIECE];
        gs_group(w->params, n_groups, row, g, piece);
        expand_piece(r, piece, (size_t)min_u64(r->n_chunks - g * (group / 32), group / 32), (size_t)min_u64(w->cols - g * group, group),
                     dst + g * group, add);
    }
}

/* A row of a type that is only read, block by block. */
static void decode_read_row(const row_form *r, const uint8_t *row, size_t cols, float *dst, bool add) {
    uint8_t chunks[BLOCK_MAX / 32 * KERN_CODES_PAIR_BYTES];
    for (size_t c = 0; c < cols; c += r->read->cols, row += r->read->bytes) {
        r->read->unpack(row, chunks);
        expand_piece(r, chunks, r->read->cols / 32, cols - c < r->read->cols ? cols - c : r->read->cols, dst + c, add);
    }
}

static void decode_rows(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride, bool add) {
    row_form r = block_row_form(w);
    for (size_t i = 0; i < n; i++, dst += stride) {
        if (r.stored_bytes) {
            const uint8_t *row = w->data + (row0 + i) * r.stored_bytes;
            if (r.sparse.group) decode_sparse_row(&r, row, (size_t)w->cols, dst, add);
            else if (r.read) decode_read_row(&r, row, (size_t)w->cols, dst, add);
            else decode_gs_row(w, &r, row, dst, add);
            continue;
        }
        const uint8_t *panel = panel_of(w, &r, row0 + i), *row = w->data + (row0 + i) * r.row_bytes;
        const size_t at = panel ? (row0 + i) % KERN_PANEL_ROWS : 0;
        if (w->codec->impl) decode_row(w->codec->impl, &r, row, panel, at, (size_t)w->cols, dst, add);
        else decode_int_row(w, &r, panel ? panel : row, panel ? KERN_PANEL_ROWS : 1, at, dst, add);
    }
}

void block_decode(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    decode_rows(w, row0, n, dst, stride, false);
}
void block_decode_add(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    decode_rows(w, row0, n, dst, stride, true);
}

/* ---- multiply ---- */

/* Whether a panel is to be kept at `place` that was made `seen` times already. New memory costs more than the panel, so nobody waits for
 * all of it: a narrow pass finds its first token without, and those after it keep a share each, by huge pages. A wide pass takes longer
 * than that anyway. */
static bool keeps(const uint8_t *place, uint8_t seen, size_t n_tokens) {
    enum { WIDE = 128, SHARES = 4, HUGE_PAGE = 2 << 20 };
    return n_tokens >= WIDE || seen > (uintptr_t)place / HUGE_PAGE % SHARES;
}

/* The panel of rows [row0, row0 + n): where it stands, or made now, to be kept where there is a place for it. Two who want to make the
 * same one at once do not wait for each other. */
static const uint8_t *panel_at(const wt *w, const row_form *r, uint64_t row0, size_t n, size_t n_tokens, const room *to) {
    uint64_t at = row0 * r->row_bytes;
    const bool whole = row0 % KERN_PANEL_ROWS == 0 && n == KERN_PANEL_ROWS;
    const uint8_t *ready = whole ? panel_of(w, r, row0) : NULL;
    if (ready) return ready;
    const uint8_t *rows = rows_at(w, r, row0, n, to->rows);
    uint8_t *panel = to->panel;
    _Atomic uint8_t *state = whole && w->panels ? &w->panels->state[row0 / KERN_PANEL_ROWS] : NULL;
    uint8_t seen = state ? atomic_load_explicit(state, memory_order_acquire) : WT_BUSY;
    bool keep = seen < WT_BUSY && keeps(w->panels->data + at, seen, n_tokens);
    if (seen < WT_BUSY) keep &= atomic_compare_exchange_strong(state, &seen, keep ? WT_BUSY : seen + 1);
    if (keep) panel = w->panels->data + at;
    kern_panel_pack(r->kern, rows, r->row_bytes, n, (size_t)r->n_chunks, r->stored_group, panel);
    if (keep) {
        atomic_store_explicit(state, WT_READY, memory_order_release);
        w->panels->made(w->panels->user, n * r->row_bytes);
    }
    return panel;
}

static void matmul_panel(const wt *w, const row_form *r, const room *to, uint64_t row0, size_t n, const act *x, float *y, size_t ldy) {
    kern_panel_args args = {.panel = panel_at(w, r, row0, n, x->n_tokens, to), .n_rows = n, .n_tokens = x->n_tokens, .n_chunks = (size_t)r->n_chunks, .group = r->stored_group,
                            .x = x->q8, .y = y, .ldy = ldy, .scratch = to->dot};
    kern()->panel_dot[r->kern](&args);
}

void block_matmul(const wt *w, uint64_t row0, size_t n, const act *x, float *y, size_t ldy, void *scratch) {
    row_form r = block_row_form(w);
    room to;
    lay_out(&r, scratch, &to);
    for (size_t i = 0; i < n; i += KERN_PANEL_ROWS) {
        size_t rows = n - i < KERN_PANEL_ROWS ? n - i : KERN_PANEL_ROWS;
        matmul_panel(w, &r, &to, row0 + i, rows, x, y + i, ldy);
    }
}
