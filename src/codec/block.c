/* Reading of block formats: decode, and y += W x. Rows are unpacked a few at a time into scratch (int8 codes and f32 scales, in
 * the cache) and multiplied there by the kernels that all formats share, so formats x instruction sets never multiply. The
 * cost of unpacking is shared by the tokens of a batch; single-token kernels that skip the scratch may come later without
 * changing a result, since kern.h fixes the arithmetic. */
#include "codec/block.h"

#include "base/checked.h"
#include "codec/codecs.h"

enum { TILE_ROWS = 16, TILE_MIN_ROWS = 4, TILE_CODES = 128 * 1024 };

row_form block_row_form(const wt *w) {
    if (w->codec->impl == NULL) { /* the int family: the format depends on the parameters */
        return (row_form){(kern_format)(KERN_INT2 + w->params.bits - 2), w->params.group, int_row_bytes(w->params, w->cols),
                          div_up(w->cols, 32)};
    }
    const block_format *f = w->codec->impl;
    uint64_t n = div_up(w->cols, f->cols);
    return (row_form){f->kern, 0, n * f->bytes, n * f->cols / 32};
}

/* A tile of unpacked rows in scratch. Leading dimensions in elements. */
typedef struct tile {
    size_t rows, ldq, lds;
    int8_t *q;
    float *s, *m, *dense; /* dense: only for f32 activations */
} tile;

static size_t tile_rows(const row_form *r) {
    size_t n = TILE_ROWS;
    while (n > TILE_MIN_ROWS && n * r->n_chunks * 32 > TILE_CODES) n /= 2;
    return n;
}

/* Lays a tile out in scratch; returns the bytes needed (scratch may be NULL to ask). */
static size_t tile_layout(const row_form *r, size_t n_rows, uint8_t *scratch, tile *t) {
    size_t rows = tile_rows(r);
    if (rows > n_rows) rows = n_rows;
    *t = (tile){.rows = rows};
    t->ldq = (size_t)r->n_chunks * 32;
    t->lds = t->ldq / kern_group(r->kern);
    size_t q_bytes = round_up(rows * t->ldq, 64), s_bytes = round_up(rows * t->lds * sizeof(float), 64);
    if (scratch) {
        t->q = (int8_t *)scratch;
        t->s = (float *)(scratch + q_bytes);
        t->m = (float *)(scratch + q_bytes + s_bytes);
        t->dense = (float *)(scratch + q_bytes + 2 * s_bytes);
    }
    return q_bytes + 2 * s_bytes + rows * t->ldq * sizeof(float);
}

size_t block_scratch_bytes(const wt *w, size_t n_rows, size_t n_tokens) {
    row_form r = block_row_form(w);
    tile t;
    return tile_layout(&r, n_rows, NULL, &t);
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

static void decode_row(const block_format *f, const row_form *r, const uint8_t *row, size_t cols, float *dst, bool add) {
    for (size_t c = 0; c < cols; c += f->cols, row += f->bytes) {
        size_t n = cols - c < f->cols ? cols - c : f->cols;
        expand_piece(r, row, f->cols / 32, n, dst + c, add);
    }
}

/* An int row's scales stand before its codes: each stored group is brought together into a row of its own. */
static void decode_int_row(const row_form *r, unsigned bits, const uint8_t *row, size_t cols, float *dst, bool add) {
    size_t n_groups = div_up(cols, r->stored_group), chunk = 4 * bits, per_group = r->stored_group / 32;
    for (size_t g = 0; g < n_groups; g++) {
        uint8_t piece[3 + 4 * 32]; /* d, meta and at most 4 chunks of 32 bytes */
        size_t n_chunks = r->n_chunks - g * per_group < per_group ? (size_t)r->n_chunks - g * per_group : per_group;
        size_t n = cols - g * r->stored_group < r->stored_group ? cols - g * r->stored_group : r->stored_group;
        memcpy(piece, row, 2);
        piece[2] = row[2 + g];
        memcpy(piece + 3, row + 2 + n_groups + g * per_group * chunk, n_chunks * chunk);
        expand_piece(r, piece, n_chunks, n, dst + g * r->stored_group, add);
    }
}

static void decode_rows(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride, bool add) {
    row_form r = block_row_form(w);
    for (size_t i = 0; i < n; i++, dst += stride) {
        const uint8_t *row = w->data + (row0 + i) * r.row_bytes;
        if (w->codec->impl) decode_row(w->codec->impl, &r, row, (size_t)w->cols, dst, add);
        else decode_int_row(&r, w->params.bits, row, (size_t)w->cols, dst, add);
    }
}

void block_decode(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    decode_rows(w, row0, n, dst, stride, false);
}
void block_decode_add(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    decode_rows(w, row0, n, dst, stride, true);
}

void block_matmul(const wt *w, uint64_t row0, size_t n, const act *x, bool use_q8, float *y, size_t ldy, void *scratch) {
    row_form r = block_row_form(w);
    const kern_table *k = kern();
    uint32_t group = kern_group(r.kern);
    bool has_min = kern_has_min(r.kern);
    tile t;
    tile_layout(&r, n, scratch, &t);
    for (size_t i = 0; i < n; i += t.rows) {
        size_t rows = n - i < t.rows ? n - i : t.rows;
        const uint8_t *src = w->data + (row0 + i) * r.row_bytes;
        for (size_t j = 0; j < rows; j++) {
            k->unpack[r.kern](src + j * r.row_bytes, (size_t)r.n_chunks, r.stored_group, t.q + j * t.ldq, t.s + j * t.lds,
                              t.m + j * t.lds);
        }
        if (use_q8 && x->q8) {
            kern_q8_args args = {.n_rows = rows, .n_tokens = x->n_tokens, .n_chunks = (size_t)r.n_chunks,
                                 .q = t.q, .ldq = t.ldq, .s = t.s, .m = has_min ? t.m : NULL, .lds = t.lds,
                                 .x = x->q8, .xs = x->q8_scale, .xsum = x->q8_sum, .ldx = x->cols_padded,
                                 .y = y + i, .ldy = ldy};
            if (group == 32) k->dot_q8_g32(&args);
            else k->dot_q8_g16(&args);
        } else {
            for (size_t j = 0; j < rows; j++) {
                k->expand(t.q + j * t.ldq, t.s + j * t.lds, has_min ? t.m + j * t.lds : NULL, group, (size_t)w->cols,
                          t.dense + j * t.ldq);
            }
            k->dot_f32(rows, x->n_tokens, (size_t)w->cols, t.dense, t.ldq, x->f32, x->cols_padded, y + i, ldy);
        }
    }
}
