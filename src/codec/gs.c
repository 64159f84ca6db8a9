/* gsNbBgG: group-sparse rows. Of each eight groups of G = 32, 64, 128 weights N are stored (of fewer at the end that share, rounded up), as
 * groups of an int row (intBgG); the others are 0 (docs/format.md 3.7; the form of GQSA, Zeng et al. 2024). A row unpacks to the int row in
 * which absent groups have scale 0, and is decoded and multiplied as that; the encoder is int's, of which groups are left out.
 *
 * `group` sees eight groups at once, as feedback has moved their weights: all are fitted, and those stay whose codes save most of sum a w^2.
 * What the others lose is fed to the columns after them like any rounding error. */
#include "codec/gs.h"

#include <math.h>

#include "base/checked.h"
#include "codec/block.h"
#include "codec/codecs.h"

enum { SPAN = 8, ABSENT = 31 << 3 | 4 }; /* groups in a span; the meta byte of scale 0 */

static codec_params int_of(codec_params p) { return (codec_params){.bits = p.bits, .group = p.group}; }

static bool menu(uint32_t i, codec_params *out) { return false; }
static bool params_ok(codec_params p) { return p.rank >= 1 && p.rank < SPAN && codec_int.params_ok(int_of(p)); }

/* ---- the row ---- */

static size_t group_bytes(codec_params p) { return (size_t)4 * p.bits * (p.group / 32); }
/* Of n <= SPAN groups; of a row's. */
static unsigned kept_of_span(codec_params p, uint64_t n) { return (unsigned)div_up(p.rank * n, SPAN); }
static uint64_t kept_of(codec_params p, uint64_t n_groups) { return p.rank * (n_groups / SPAN) + kept_of_span(p, n_groups % SPAN); }

/* | d: bf16 | mask: a bit for each group | meta: a byte for each that is stored | their codes | */
typedef struct row_layout { size_t meta, codes, bytes; } row_layout;
static row_layout layout_of(codec_params p, uint64_t n_groups) {
    const uint64_t kept = kept_of(p, n_groups);
    row_layout l = {.meta = 2 + div_up(n_groups, SPAN)};
    l.codes = l.meta + kept;
    l.bytes = l.codes + kept * group_bytes(p);
    return l;
}

uint64_t gs_row_bytes(codec_params p, uint64_t cols) { return layout_of(p, div_up(cols, p.group)).bytes; }

static uint64_t bytes(codec_params p, uint64_t n_rows, uint64_t cols) {
    uint64_t n;
    if (cols > UINT64_C(1) << 48) return 0; /* below, a row's bytes cannot overflow */
    return checked_mul(n_rows, gs_row_bytes(p, cols), &n) ? n : 0;
}

void gs_group(codec_params p, uint64_t n_groups, const uint8_t *row, uint64_t g, uint8_t *piece) {
    const row_layout l = layout_of(p, n_groups);
    const unsigned span = row[2 + g / SPAN], before = (unsigned)__builtin_popcount(span & ((1u << g % SPAN) - 1));
    const bool present = span >> g % SPAN & 1 && before < kept_of_span(p, min_u64(n_groups - g / SPAN * SPAN, SPAN));
    const uint64_t at = g / SPAN * p.rank + before;
    memcpy(piece, row, 2);
    piece[2] = present ? row[l.meta + at] : ABSENT;
    if (present) memcpy(piece + 3, row + l.codes + at * group_bytes(p), group_bytes(p));
    else memset(piece + 3, 0, group_bytes(p));
}

void gs_unpack(codec_params p, uint64_t cols, const uint8_t *row, uint8_t *int_row) {
    const uint64_t n_groups = div_up(cols, p.group), codes = div_up(cols, 32) * 4 * p.bits;
    uint8_t piece[GS_PIECE];
    for (uint64_t g = 0; g < n_groups; g++) {
        const size_t at = g * group_bytes(p);
        gs_group(p, n_groups, row, g, piece);
        int_row[2 + g] = piece[2];
        memcpy(int_row + 2 + n_groups + at, piece + 3, min_u64(group_bytes(p), codes - at)); /* the last may be short */
    }
    memcpy(int_row, row, 2);
}

/* ---- encoding: int's, and what is left out of it ---- */

typedef struct gs_enc { /* followed by the arrays */
    codec_params p;
    size_t n_rows, cols;
    void *whole;   /* the int encoder of all groups: e = 31 where one is absent */
    float *hat;    /* (n_rows, columns of a span)                               */
    uint8_t *rows; /* what it packs                                             */
} gs_enc;

static uint32_t group_cols(codec_params p) { return SPAN * p.group; }
static uint16_t scale_cols(codec_params p) { return p.group; }

static size_t enc_bytes(codec_params p, size_t n_rows, size_t cols) {
    const size_t whole = codec_int.enc_bytes(int_of(p), n_rows, cols), rows = (size_t)codec_int.bytes(int_of(p), n_rows, cols);
    if (!whole || !rows || !bytes(p, n_rows, cols)) return 0;
    return round_up(sizeof(gs_enc), 64) + round_up(whole, 64) + round_up(n_rows * group_cols(p) * sizeof(float), 64) + rows;
}

static void enc_init(void *enc, codec_params p, size_t n_rows, size_t cols, int effort) {
    gs_enc *e = enc;
    uint8_t *at = (uint8_t *)enc + round_up(sizeof *e, 64);
    *e = (gs_enc){.p = p, .n_rows = n_rows, .cols = cols, .whole = at};
    at += round_up(codec_int.enc_bytes(int_of(p), n_rows, cols), 64);
    e->hat = (float *)(void *)at;
    e->rows = at + round_up(n_rows * group_cols(p) * sizeof(float), 64);
    codec_int.enc_init(e->whole, int_of(p), n_rows, cols, effort);
}

static void begin(void *enc, const float *w, size_t ldw, const float *a) { codec_int.begin(((gs_enc *)enc)->whole, w, ldw, a); }

/* What storing n weights saves. */
static double saved(const float *w, const float *hat, const float *a, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double v = w[i], d = v - hat[i];
        sum += (a ? a[i] : 1) * (v * v - d * d);
    }
    return sum;
}

static void group(void *enc, size_t col0, size_t n, const float *w, size_t ldw, const float *a) {
    gs_enc *e = enc;
    const size_t width = group_cols(e->p), size = e->p.group, n_groups = div_up(n, size);
    codec_int.group(e->whole, col0, n, w, ldw, a);
    codec_int.round(e->whole, col0, n, w, ldw, e->hat, width);
    for (size_t r = 0; r < e->n_rows; r++) {
        double score[SPAN];
        for (size_t g = 0; g < n_groups; g++) {
            const size_t c = g * size, len = n - c < size ? n - c : size;
            score[g] = saved(w + r * ldw + c, e->hat + r * width + c, a ? a + c : NULL, len);
        }
        for (size_t g = 0; g < n_groups; g++) {
            unsigned before = 0; /* how many are better; of equals the first is */
            for (size_t k = 0; k < n_groups; k++) before += score[k] > score[g] || (score[k] == score[g] && k < g);
            if (before >= kept_of_span(e->p, n_groups)) codec_int.rescale(e->whole, r, col0 + g * size, ABSENT);
        }
    }
}

static void round_cols(void *enc, size_t col0, size_t n, const float *w, size_t ldw, float *w_hat, size_t ldh) {
    codec_int.round(((gs_enc *)enc)->whole, col0, n, w, ldw, w_hat, ldh);
}

/* Absent groups have no neighbours: int has none for scale 0, and none that leads to it. */
static size_t neighbour(const void *enc, size_t row, size_t col, int k, float *w_hat, uint32_t *scales) {
    return codec_int.neighbour(((const gs_enc *)enc)->whole, row, col, k, w_hat, scales);
}
static void rescale(void *enc, size_t row, size_t col, uint32_t scales) { codec_int.rescale(((gs_enc *)enc)->whole, row, col, scales); }

static void pack(const void *enc, uint8_t *dst) {
    const gs_enc *e = enc;
    const size_t n_groups = div_up(e->cols, e->p.group), codes = div_up(e->cols, 32) * 4 * e->p.bits, per = group_bytes(e->p);
    const row_layout l = layout_of(e->p, n_groups);
    codec_int.pack(e->whole, e->rows);
    for (size_t r = 0; r < e->n_rows; r++, dst += l.bytes) {
        const uint8_t *row = e->rows + r * (2 + n_groups + codes), *meta = row + 2;
        size_t at = 0;
        memset(dst, 0, l.bytes);
        memcpy(dst, row, 2);
        for (size_t g = 0; g < n_groups; g++) {
            if (g % SPAN == 0) at = g / SPAN * e->p.rank;
            if (meta[g] >> 3 == ABSENT >> 3) continue;
            dst[2 + g / SPAN] |= (uint8_t)(1u << g % SPAN);
            dst[l.meta + at] = meta[g];
            memcpy(dst + l.codes + at++ * per, meta + n_groups + g * per, min_u64(per, codes - g * per));
        }
    }
}

const snug_codec codec_gs = {
    .family = "gs", .id = CODEC_ID_GS, .tile_rows = 1, .tile_cols = 1, .block_cols = 32, .act = CODEC_ACT_Q8, .ggml_type = -1,
    .menu = menu, .params_ok = params_ok, .bytes = bytes, .enc_bytes = enc_bytes, .group_cols = group_cols, .enc_init = enc_init,
    .begin = begin, .group = group, .round = round_cols, .scale_cols = scale_cols, .neighbour = neighbour, .rescale = rescale, .pack = pack,
    .decode = block_decode, .decode_add = block_decode_add, .scratch_bytes = block_scratch_bytes, .matmul = block_matmul,
};
