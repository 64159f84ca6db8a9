/* ecR, reading: panels are streams, so whoever wants a row decodes its panel from the first column on. */
#include "codec/ec.h"

#include <stdatomic.h>
#include <string.h>

#include "base/checked.h"
#include "base/f16.h"
#include "codec/codecs.h"
#include "codec/panel_rows.h"
#include "codec/planes.h"
#include "kern/blocks.h"

static bool menu(uint32_t i, codec_params *out) {
    enum { LEAST = 8, MOST = 20 }; /* below, a trellis is far better; above, int is nearly as good */
    *out = (codec_params){.rank = (uint16_t)(LEAST + i)};
    return out->rank <= MOST;
}
static bool params_ok(codec_params p) { return p.rank >= EC_QUARTERS_MIN && p.rank <= EC_QUARTERS_MAX && p.bits == 0 && p.group == 0; }

ec_layout ec_layout_of(codec_params p, size_t cols) {
    ec_layout l = {.rows = 2, .bands = 2 + EC_ROWS, .n_words = div_up((uint64_t)cols * p.rank, 4)}; /* 16 rows of R bits: R words a column */
    l.states = l.bands + div_up(cols, EC_BAND);
    l.words = l.states + EC_LANES * EC_STATE;
    l.bytes = l.words + 2 * l.n_words;
    return l;
}

static uint64_t bytes(codec_params p, uint64_t n_rows, uint64_t cols) {
    uint64_t all;
    if (cols > UINT64_C(1) << 48) return 0; /* below, a panel's bytes cannot overflow */
    return checked_mul(ec_layout_of(p, cols).bytes, div_up(n_rows, EC_ROWS), &all) ? all : 0;
}

/* ---- a panel's stream ---- */

typedef struct reader {
    const uint8_t *panel, *word, *end; /* words beyond the end are 0 */
    ec_layout at;
    uint64_t state[EC_LANES];
    int limit;
} reader;

static reader open_panel(const wt *w, uint64_t panel) {
    reader r = {.at = ec_layout_of(w->params, (size_t)w->cols), .limit = ec_limit(w->params.rank)};
    r.panel = w->data + panel * r.at.bytes;
    r.word = r.panel + r.at.words;
    r.end = r.panel + r.at.bytes;
    for (int i = 0; i < EC_LANES; i++)
        for (int k = 0; k < EC_STATE; k++) r.state[i] |= (uint64_t)r.panel[r.at.states + (size_t)(EC_STATE * i + k)] << 8 * k;
    return r;
}

/* Without a branch, for nobody can tell when a state runs short. */
KERN_INLINE uint64_t refill(uint64_t x, const uint8_t **word, const uint8_t *end, bool checked) {
    enum { LEAST = 1 << 24 };
    const uint64_t need = x < LEAST;
    uint16_t next = 0;
    if (!checked || *word < end) {
        memcpy(&next, *word, sizeof next);
        *word += 2 * need;
    }
    return x << 16 * need | (next & (0 - need));
}

/* A column's codes. checked: its words may come to the end. */
KERN_INLINE void read_column(const ec_table *const table[EC_ROWS], uint64_t state[EC_LANES], const uint8_t **word, const uint8_t *end, int limit, bool checked, int8_t q[EC_ROWS]) {
#pragma GCC unroll 16
    for (int r = 0; r < EC_ROWS; r++) {
        const ec_table *t = table[r];
        int code = 0;
        if (t) {
            uint64_t x = state[r % EC_LANES];
            const unsigned slot = (unsigned)x % EC_SLOTS, symbol = t->of_slot[slot];
            const uint32_t span = t->span[symbol];
            x = refill((span >> 16) * (x / EC_SLOTS) + slot - (span & 0xffff), word, end, checked);
            code = (int)symbol - 128;
            if (__builtin_expect(symbol == EC_ESCAPE, 0)) {
                code = (int)(x & 255) - 128;
                x = refill(x >> 8, word, end, checked);
            }
            state[r % EC_LANES] = x;
        }
        q[r] = (int8_t)(code < -limit ? -limit : code > limit ? limit : code);
    }
}

/* The codes of n columns of a band from its `from`-th on, which follow those that were read before: (n, 16). */
static void read_codes(reader *r, size_t band, size_t n, int8_t q[][EC_ROWS]) {
    enum { MOST = 2 * 2 * EC_ROWS }; /* bytes that a column takes */
    const ec_table *table[EC_ROWS];
    const uint8_t *word = r->word, *const end = r->end;
    uint64_t state[EC_LANES];
    memcpy(state, r->state, sizeof state);
    for (size_t i = 0; i < EC_ROWS; i++) table[i] = ec_table_of(r->panel[r->at.rows + i], r->panel[r->at.bands + band]);
    size_t c = 0;
    for (; c < n && end - word >= MOST; c++) read_column(table, state, &word, end, r->limit, false, q[c]);
    for (; c < n; c++) read_column(table, state, &word, end, r->limit, true, q[c]);
    r->word = word;
    memcpy(r->state, state, sizeof state);
}

static float base_of(const uint8_t *panel) {
    uint16_t d;
    memcpy(&d, panel, sizeof d);
    return bf16_to_f32(d);
}

/* ---- the running form: a panel becomes one of int rows, whose codes of B bits lie around 0 ---- */

static size_t chunks_of(const wt *w) { return (size_t)div_up(w->cols, 32); }
static size_t run_row_bytes(const wt *w) { return (size_t)int_row_bytes((codec_params){.bits = (uint16_t)ec_bits(w->params.rank), .group = EC_BAND}, w->cols); }
static uint64_t panel_bytes(const wt *w) { return div_up(w->rows, EC_ROWS) * EC_ROWS * run_row_bytes(w); }

/* 32 columns' codes to planes of words of 16 rows (kern/panel.h). */
static void put_chunk(unsigned bits, const int8_t q[32][EC_ROWS], uint8_t *dst) {
    uint32_t plane[8][EC_ROWS] = {{0}}; /* of 4, 2 and 1 bits as far as they are there, or of 8 */
    const unsigned two = bits & 4, one = two + (bits & 2), zero = 1u << (bits - 1);
    for (unsigned j = 0; j < 8; j++)
        for (size_t r = 0; r < EC_ROWS; r++) {
            uint32_t u = 0;
            for (unsigned i = 0; i < 4; i++) u |= (uint32_t)(uint8_t)(q[4 * j + i][r] + (int)zero) << 8 * i;
            if (bits == 8) plane[j][r] = u;
            if (bits & 4) plane[j % 4][r] |= (u & 0x0f0f0f0f) << 4 * (j / 4);
            if (bits & 2) plane[two + j % 2][r] |= (u >> two & 0x03030303) << 2 * (j / 2);
            if (bits & 1) plane[one][r] |= (u >> one & 0x01010101) << j;
        }
    for (unsigned i = 0; i < bits; i++) memcpy(dst + 64 * i, plane[i], 64);
}

/* Codes of columns [c, c + n) of a panel in this form, c a multiple of 32. */
static void get_codes(const wt *w, const uint8_t *kept, size_t c, size_t n, int8_t q[][EC_ROWS]) {
    const unsigned bits = ec_bits(w->params.rank);
    const uint8_t *chunk = kept + EC_ROWS * (2 + div_up(w->cols, EC_BAND)) + c / 32 * 64 * bits;
    for (size_t k = 0; k < n; k += 32, chunk += 64 * bits)
        for (size_t r = 0; r < EC_ROWS; r++) {
            uint8_t plane[32];
            int8_t code[32];
            for (size_t i = 0; i < bits; i++) memcpy(plane + 4 * i, chunk + 64 * i + 4 * r, 4);
            planes_unpack(plane, bits, code);
            for (size_t i = 0; i < 32 && k + i < n; i++) q[k + i][r] = code[i];
        }
}

static void make_panel(const wt *w, uint64_t panel, uint8_t *dst) {
    reader r = open_panel(w, panel);
    const size_t cols = (size_t)w->cols, n_bands = div_up(cols, EC_BAND);
    const unsigned bits = ec_bits(w->params.rank);
    for (size_t i = 0; i < EC_ROWS; i++) memcpy(dst + 2 * i, r.panel, 2);
    dst += 2 * EC_ROWS;
    for (size_t b = 0; b < n_bands; b++, dst += EC_ROWS) memset(dst, r.panel[r.at.bands + b], EC_ROWS);
    for (size_t c = 0; c < cols; c += 32, dst += 64 * bits) {
        int8_t q[32][EC_ROWS];
        const size_t len = cols - c < 32 ? cols - c : 32;
        memset(q[len - 1], 0, (33 - len) * EC_ROWS);
        read_codes(&r, c / EC_BAND, len, q);
        put_chunk(bits, q, dst);
    }
}

/* Where the panel is kept; NULL: nowhere, or not yet. */
static const uint8_t *kept_panel(const wt *w, uint64_t panel) {
    const bool ready = w->panels && atomic_load_explicit(&w->panels->state[panel], memory_order_acquire) == WT_READY;
    return ready ? w->panels->data + panel * EC_ROWS * run_row_bytes(w) : NULL;
}

/* The panel as it is multiplied, made now if need be: in its place where there is one and nobody else is at it, or in `own`. */
static const uint8_t *panel_at(const wt *w, uint64_t panel, uint8_t *own) {
    const uint8_t *kept = kept_panel(w, panel);
    uint8_t none = 0;
    if (kept) return kept;
    const bool keep = w->panels && atomic_compare_exchange_strong(&w->panels->state[panel], &none, WT_BUSY);
    uint8_t *dst = keep ? w->panels->data + panel * EC_ROWS * run_row_bytes(w) : own;
    make_panel(w, panel, dst);
    if (keep) {
        atomic_store_explicit(&w->panels->state[panel], WT_READY, memory_order_release);
        w->panels->made(w->panels->user, ec_layout_of(w->params, (size_t)w->cols).bytes);
    }
    return dst;
}

/* ---- decode ---- */

/* Rows [row0, row0 + n) of one panel. */
static void decode_panel(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride, bool add) {
    const uint8_t *kept = kept_panel(w, row0 / EC_ROWS);
    const size_t first = (size_t)(row0 % EC_ROWS), cols = (size_t)w->cols;
    reader r = {0};
    if (!kept) r = open_panel(w, row0 / EC_ROWS);
    const float base = base_of(kept ? kept : r.panel);
    for (size_t c = 0; c < cols; c += EC_BAND) {
        int8_t q[EC_BAND][EC_ROWS];
        const size_t len = cols - c < EC_BAND ? cols - c : EC_BAND;
        const uint8_t band = kept ? kept[(2 + c / EC_BAND) * EC_ROWS] : r.panel[r.at.bands + c / EC_BAND];
        const float step = base * kern_int_scale[band >> 3];
        if (kept) get_codes(w, kept, c, len, q);
        else read_codes(&r, c / EC_BAND, len, q);
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < len; k++) dst[i * stride + c + k] = add ? dst[i * stride + c + k] + step * (float)q[k][first + i] : step * (float)q[k][first + i];
    }
}

static void decode_rows(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride, bool add) {
    for (size_t i = 0, len; i < n; i += len) {
        len = EC_ROWS - (size_t)((row0 + i) % EC_ROWS);
        if (len > n - i) len = n - i;
        decode_panel(w, row0 + i, len, dst + i * stride, stride, add);
    }
}
static void decode(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) { decode_rows(w, row0, n, dst, stride, false); }
static void decode_add(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) { decode_rows(w, row0, n, dst, stride, true); }

/* ---- multiply ---- */

/* Scratch: of the dots, and a panel; the results of a panel of which some rows are wanted, (n_tokens, 16). */
typedef struct room { uint8_t *dot, *panel; float *some; } room;
static size_t lay_out(const wt *w, size_t n_tokens, uint8_t *scratch, room *to) {
    const size_t dot = round_up(kern_panel_scratch_bytes(chunks_of(w)), 64), panel = round_up(EC_ROWS * run_row_bytes(w), 64), some = n_tokens * EC_ROWS * sizeof(float);
    *to = (room){.dot = scratch, .panel = scratch + dot, .some = (float *)(void *)(scratch + dot + panel)};
    return dot + panel + some;
}
static size_t scratch_bytes(const wt *w, size_t n_rows, size_t n_tokens) {
    static uint8_t nowhere[64];
    room none;
    return lay_out(w, n_tokens, nowhere, &none);
}

/* Rows [row0, row0 + n) of one panel. */
static void matmul_panel(const wt *w, uint64_t row0, size_t n, const act *x, float *y, size_t ldy, const room *to) {
    const kern_panel_args a = {.panel = panel_at(w, row0 / EC_ROWS, to->panel), .n_tokens = x->n_tokens, .n_chunks = chunks_of(w), .group = EC_BAND | KERN_CENTRED, .x = x->q8, .scratch = to->dot};
    panel_rows_dot(kern()->panel_dot[KERN_INT2 + ec_bits(w->params.rank) - 2], a, (size_t)(row0 % EC_ROWS), n, y, ldy, to->some);
}

static void matmul(const wt *w, uint64_t row0, size_t n, const act *x, float *y, size_t ldy, void *scratch) {
    room to;
    lay_out(w, x->n_tokens, scratch, &to);
    for (size_t i = 0, len; i < n; i += len) {
        len = EC_ROWS - (size_t)((row0 + i) % EC_ROWS);
        if (len > n - i) len = n - i;
        matmul_panel(w, row0 + i, len, x, y + i, ldy, &to);
    }
}

const snug_codec codec_ec = {
    .family = "ec", .id = CODEC_ID_EC, .tile_rows = EC_ROWS, .tile_cols = 1, .block_cols = 32, .act = CODEC_ACT_Q8, .caps = CODEC_TURNS | CODEC_SLOW | CODEC_QUARTERS | CODEC_GROWS,
    .ggml_type = -1, .menu = menu, .params_ok = params_ok, .bytes = bytes, .enc_bytes = ec_enc_bytes, .group_cols = ec_group_cols,
    .enc_init = ec_enc_init, .begin = ec_begin, .group = ec_group, .round = ec_round, .pack = ec_pack,
    .decode = decode, .decode_add = decode_add, .panel_bytes = panel_bytes, .scratch_bytes = scratch_bytes, .matmul = matmul,
};
