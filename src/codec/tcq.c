/* tcq2: trellis-coded quantization at 2 bits per weight and a scale per row (kern/trellis.h; docs/format.md 3.10). Meant for weights that look
 * Gaussian: behind a Hadamard transform, had:tcq2. The payload is panels of 16 rows as they are multiplied; the last one is padded with
 * rows that nobody reads. */
#include "codec/tcq.h"

#include "base/f16.h"
#include "codec/codecs.h"

static bool menu(uint32_t i, codec_params *out) {
    *out = (codec_params){.rank = 2};
    return i == 0;
}
static bool params_ok(codec_params p) { return p.rank == 2 && p.bits == 0 && p.group == 0; }

static uint64_t bytes(codec_params p, uint64_t n_rows, uint64_t cols) {
    uint64_t panel, all;
    bool fits = checked_mul(div_up(cols, 32), TCQ2_CHUNK, &panel) && checked_add(panel, TCQ2_HEAD, &panel);
    return fits && checked_mul(panel, div_up(n_rows, KERN_PANEL_ROWS), &all) ? all : 0;
}

/* ---- reading ---- */

static size_t chunks_of(const wt *w) { return (size_t)div_up(w->cols, 32); }
static const uint8_t *panel_of(const wt *w, uint64_t row) { return w->data + row / KERN_PANEL_ROWS * tcq_panel_bytes(chunks_of(w)); }

static void decode_rows(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride, bool add) {
    for (uint64_t row = row0; row < row0 + n; row++, dst += stride)
        for (size_t c = 0; c < w->cols; c += 32) {
            int8_t q[32];
            const float d = kern_tcq2_chunk(panel_of(w, row), c / 32, (size_t)(row % KERN_PANEL_ROWS), q);
            const size_t len = (size_t)min_u64(w->cols - c, 32);
            for (size_t i = 0; i < len; i++) dst[c + i] = add ? dst[c + i] + d * (float)q[i] : d * (float)q[i];
        }
}
static void decode(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) { decode_rows(w, row0, n, dst, stride, false); }
static void decode_add(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) { decode_rows(w, row0, n, dst, stride, true); }

/* ---- multiply ---- */

/* Scratch: of the dots; the results of a panel of which some rows are wanted, (n_tokens, 16); 16 rows as floats. */
typedef struct room { uint8_t *dot; float *some, *dense; } room;
static size_t lay_out(const wt *w, size_t n_tokens, uint8_t *scratch, room *to) {
    const size_t dot = round_up(kern_panel_scratch_bytes(chunks_of(w)), 64), some = n_tokens * KERN_PANEL_ROWS * sizeof(float);
    *to = (room){.dot = scratch, .some = (float *)(void *)(scratch + dot), .dense = (float *)(void *)(scratch + dot + some)};
    return dot + some + KERN_PANEL_ROWS * 32 * chunks_of(w) * sizeof(float);
}
static size_t scratch_bytes(const wt *w, size_t n_rows, size_t n_tokens) {
    static uint8_t nowhere[64];
    room none;
    return lay_out(w, n_tokens, nowhere, &none);
}

/* Rows [row0, row0 + n) of one panel. */
static void matmul_q8(const wt *w, uint64_t row0, size_t n, const act *x, float *y, size_t ldy, const room *to) {
    const size_t first = (size_t)(row0 % KERN_PANEL_ROWS);
    kern_panel_args a = {.panel = panel_of(w, row0), .n_rows = first + n, .n_tokens = x->n_tokens, .n_chunks = chunks_of(w),
                         .x = x->q8, .y = y, .ldy = ldy, .scratch = to->dot};
    if (first) {
        a.y = to->some, a.ldy = KERN_PANEL_ROWS;
        memset(to->some, 0, x->n_tokens * KERN_PANEL_ROWS * sizeof(float));
    }
    kern()->tcq2_dot(&a);
    for (size_t t = 0; first && t < x->n_tokens; t++)
        for (size_t r = 0; r < n; r++) y[t * ldy + r] += to->some[t * KERN_PANEL_ROWS + first + r];
}

static void matmul(const wt *w, uint64_t row0, size_t n, const act *x, bool use_q8, float *y, size_t ldy, void *scratch) {
    const size_t ld = 32 * chunks_of(w);
    room to;
    lay_out(w, x->n_tokens, scratch, &to);
    for (size_t i = 0, len; i < n; i += len) {
        len = KERN_PANEL_ROWS - (size_t)((row0 + i) % KERN_PANEL_ROWS);
        if (len > n - i) len = n - i;
        if (use_q8 && x->q8.q) {
            matmul_q8(w, row0 + i, len, x, y + i, ldy, &to);
            continue;
        }
        decode(w, row0 + i, len, to.dense, ld);
        kern()->dot_f32(len, x->n_tokens, (size_t)w->cols, to.dense, ld, x->f32, x->cols_padded, y + i, ldy);
    }
}

const snug_codec codec_tcq = {
    .family = "tcq", .id = CODEC_ID_TCQ, .tile_rows = KERN_PANEL_ROWS, .tile_cols = TCQ2_WORD, .block_cols = 32, .act = CODEC_ACT_Q8, .caps = CODEC_TURNS | CODEC_SLOW,
    .ggml_type = -1, .menu = menu, .params_ok = params_ok, .bytes = bytes, .enc_bytes = tcq_enc_bytes, .group_cols = tcq_group_cols,
    .enc_init = tcq_enc_init, .begin = tcq_begin, .group = tcq_group, .ahead = tcq_ahead, .round = tcq_round,
    .propose = tcq_propose, .accept = tcq_accept, .pack = tcq_pack,
    .decode = decode, .decode_add = decode_add, .scratch_bytes = scratch_bytes, .matmul = matmul,
};
