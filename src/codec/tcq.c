/* tcqR: trellis-coded quantization at R bits per weight, in quarters of a bit, and a scale per row; tcqRgG: the same with rates for bands of G columns, not
 * 64; tcqf2: the same at 2 bits with a code that decodes
 * four times as fast (kern/trellis.h; docs/format.md 3.10, 3.11). Meant for weights that look Gaussian: behind a Hadamard transform, had:tcq3. The
 * payload is panels of 16 rows as they are multiplied; the last one is padded with rows that nobody reads. */
#include "codec/tcq.h"

#include "base/f16.h"
#include "codec/codecs.h"
#include "codec/panel_rows.h"

enum { FAST = 2, QUARTERS_IN_MENUS = 20 };
static bool fast(codec_params p) { return p.rank == FAST; }

static bool tcqf_menu(uint32_t i, codec_params *out) {
    *out = (codec_params){.rank = FAST};
    return i == 0;
}
static bool tcqf_params_ok(codec_params p) { return fast(p) && p.bits == 0 && p.group == 0; }

static bool tcq_menu(uint32_t i, codec_params *out) {
    *out = (codec_params){.rank = (uint16_t)(TCQ_QUARTERS_MIN + i)};
    return out->rank <= QUARTERS_IN_MENUS;
}
static bool tcq_params_ok(codec_params p) {
    const bool band = p.group == 0 || (p.group > TCQ_BAND_COLS && p.group <= TCQ_BAND_COLS_MOST && (p.group & (p.group - 1)) == 0);
    return p.rank >= TCQ_QUARTERS_MIN && p.rank <= TCQ_QUARTERS_MAX && p.bits == 0 && band;
}

static size_t head_bytes(codec_params p, size_t n_chunks) { return fast(p) ? TCQF_HEAD : kern_tcq_head_bytes(kern_tcq_form(p.rank, p.group), n_chunks); }
static size_t chunk_bytes(codec_params p) { return fast(p) ? TCQF_CHUNK : kern_tcq_chunk_bytes(p.rank); }

static uint64_t bytes(codec_params p, uint64_t n_rows, uint64_t cols) {
    uint64_t panel, all;
    bool fits = cols <= SIZE_MAX / 2 && checked_mul(div_up(cols, 32), chunk_bytes(p), &panel) && checked_add(panel, head_bytes(p, (size_t)div_up(cols, 32)), &panel);
    return fits && checked_mul(panel, div_up(n_rows, KERN_PANEL_ROWS), &all) ? all : 0;
}

void tcq_weigh_rows(size_t n_panels, const uint16_t *d, float *inverse, float *row) {
    for (size_t from = 0; from < n_panels * KERN_PANEL_ROWS; from += KERN_PANEL_ROWS) {
        double mean = 0;
        for (size_t r = from; r < from + KERN_PANEL_ROWS; r++) mean += (double)bf16_to_f32(d[r]) * bf16_to_f32(d[r]) / KERN_PANEL_ROWS;
        for (size_t r = from; r < from + KERN_PANEL_ROWS; r++) {
            const double own = bf16_to_f32(d[r]);
            inverse[r] = own > 1e-37 ? (float)(1 / own) : 0;
            row[r] = own > 1e-37 ? (float)(own * own / mean) : 0;
        }
    }
}

/* ---- reading ---- */

static size_t chunks_of(const wt *w) { return (size_t)div_up(w->cols, 32); }
static const uint8_t *panel_of(const wt *w, uint64_t row) {
    return w->data + row / KERN_PANEL_ROWS * (head_bytes(w->params, chunks_of(w)) + chunks_of(w) * chunk_bytes(w->params));
}

static void decode_rows(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride, bool add) {
    for (uint64_t row = row0; row < row0 + n; row++, dst += stride) {
        const uint8_t *panel = panel_of(w, row);
        const size_t r = (size_t)(row % KERN_PANEL_ROWS);
        const float d = kern_trellis_d(panel, r);
        kern_tcq_walk walk = {0};
        if (!fast(w->params)) walk = kern_tcq_begin(panel, kern_tcq_form(w->params.rank, w->params.group), chunks_of(w));
        for (size_t c = 0; c < w->cols; c += 32) {
            int8_t q[32];
            const size_t len = (size_t)min_u64(w->cols - c, 32);
            if (fast(w->params)) kern_tcqf_chunk(panel, c / 32, r, q);
            else kern_tcq_next(&walk, r, q);
            for (size_t i = 0; i < len; i++) dst[c + i] = add ? dst[c + i] + d * (float)q[i] : d * (float)q[i];
        }
    }
}
static void decode(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) { decode_rows(w, row0, n, dst, stride, false); }
static void decode_add(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) { decode_rows(w, row0, n, dst, stride, true); }

/* ---- multiply ---- */

/* Scratch: of the dots; the results of a panel of which some rows are wanted, (n_tokens, 16). */
typedef struct room { uint8_t *dot; float *some; } room;
static size_t lay_out(const wt *w, size_t n_tokens, uint8_t *scratch, room *to) {
    const size_t dot = round_up(kern_panel_scratch_bytes(chunks_of(w)), 64), some = n_tokens * KERN_PANEL_ROWS * sizeof(float);
    *to = (room){.dot = scratch, .some = (float *)(void *)(scratch + dot)};
    return dot + some;
}
static size_t scratch_bytes(const wt *w, size_t n_rows, size_t n_tokens) {
    static uint8_t nowhere[64];
    room none;
    return lay_out(w, n_tokens, nowhere, &none);
}

/* Rows [row0, row0 + n) of one panel. */
static void matmul_panel(const wt *w, uint64_t row0, size_t n, const act *x, float *y, size_t ldy, const room *to) {
    const kern_panel_args a = {.panel = panel_of(w, row0), .n_tokens = x->n_tokens, .n_chunks = chunks_of(w), .group = kern_tcq_form(w->params.rank, w->params.group), .x = x->q8, .scratch = to->dot};
    panel_rows_dot(fast(w->params) ? kern()->tcqf_dot : kern()->tcq_dot, a, (size_t)(row0 % KERN_PANEL_ROWS), n, y, ldy, to->some);
}

static void matmul(const wt *w, uint64_t row0, size_t n, const act *x, float *y, size_t ldy, void *scratch) {
    room to;
    lay_out(w, x->n_tokens, scratch, &to);
    for (size_t i = 0, len; i < n; i += len) {
        len = KERN_PANEL_ROWS - (size_t)((row0 + i) % KERN_PANEL_ROWS);
        if (len > n - i) len = n - i;
        matmul_panel(w, row0 + i, len, x, y + i, ldy, &to);
    }
}

#define TCQ_CODEC(name, id_, cols_, time_, caps_) \
    const snug_codec codec_##name = { \
        .family = #name, .id = id_, .tile_rows = KERN_PANEL_ROWS, .tile_cols = cols_, .block_cols = 32, .act = CODEC_ACT_Q8, .caps = CODEC_TURNS | CODEC_SLOW | (caps_), \
        .ggml_type = -1, .time = time_, .menu = name##_menu, .params_ok = name##_params_ok, .bytes = bytes, .enc_bytes = name##_enc_bytes, .group_cols = name##_group_cols, \
        .enc_init = name##_enc_init, .begin = name##_begin, .group = name##_group, .ahead = name##_ahead, .round = name##_round, \
        .propose = name##_propose, .accept = name##_accept, .pack = name##_pack, \
        .decode = decode, .decode_add = decode_add, .scratch_bytes = scratch_bytes, .matmul = matmul, \
    };
TCQ_CODEC(tcq, CODEC_ID_TCQ, 8, 7, CODEC_QUARTERS)
TCQ_CODEC(tcqf, CODEC_ID_TCQF, TCQF_WORD, 2, 0)
