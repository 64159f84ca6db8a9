/* outP: P per mille of a matrix's weights and 0 elsewhere, meant as a term of a sum: int3g64+out10 (docs/format.md 3.6; the form of SpQR's
 * outliers, Dettmers et al. 2023). The number of entries is fixed by the shape, not by row, hence CODEC_WHOLE: a solver chooses them and
 * out_pack writes them. An entry is a column within 256, one byte, and a value, 4 bits under the row's scale: a term after this one takes
 * what they round away, and even without more bits were measured to gain nothing (docs/codecs.md).
 *
 * Counts and starts that a file gives may be anything: positions are held to the entries that there are, columns to the matrix.
 *
 * Multiply: of a row's entries, in order, entry k goes to lane k mod 4:  lane += w x;  then y += (l0 + l2) + (l1 + l3). */
#include <math.h>

#include "base/checked.h"
#include "base/f16.h"
#include "codec/codecs.h"

enum { START_ROWS = 16, MAX_RATE = 100, CODE_MAX = 7 };

static bool menu(uint32_t i, codec_params *out) { return false; }
static bool params_ok(codec_params p) { return p.bits == 0 && p.group == 0 && p.rank >= 1 && p.rank <= MAX_RATE; }

uint64_t out_count(codec_params p, uint64_t rows, uint64_t cols) {
    uint64_t n;
    return checked_mul(rows, cols, &n) && checked_mul(n, p.rank, &n) ? div_up(n, 1000) : 0;
}

/* | scale: bf16 of each row | start: u32 of each 16 rows | count: u8 of each row and block | column: u8 of each entry | u8 of each two:
 * codes | */
typedef struct layout { uint64_t starts, counts, columns, codes, n_entries, n_blocks; } layout;

static layout layout_of(codec_params p, uint64_t rows, uint64_t cols) {
    layout l = {.starts = 2 * rows, .n_entries = out_count(p, rows, cols), .n_blocks = div_up(cols, OUT_BLOCK)};
    l.counts = l.starts + 4 * div_up(rows, START_ROWS);
    l.columns = l.counts + rows * l.n_blocks;
    l.codes = l.columns + l.n_entries;
    return l;
}

static uint64_t bytes(codec_params p, uint64_t rows, uint64_t cols) {
    const uint64_t n = out_count(p, rows, cols);
    if (n == 0 || n > UINT32_MAX) return 0; /* then rows and cols are below 2^42, and nothing overflows */
    const layout l = layout_of(p, rows, cols);
    return l.codes + div_up(n, 2);
}

/* ---- writing ---- */

static bool entries_ok(const layout *l, uint64_t rows, uint64_t cols, const out_entry *e, uint64_t count) {
    if (count != l->n_entries) return false;
    for (uint64_t i = 0; i < count; i++) {
        if (e[i].row >= rows || e[i].col >= cols || !isfinite(e[i].value)) return false;
        if (i && (e[i].row < e[i - 1].row || (e[i].row == e[i - 1].row && e[i].col <= e[i - 1].col))) return false;
        const out_entry *far = i >= OUT_BLOCK_MAX ? &e[i - OUT_BLOCK_MAX] : NULL;
        if (far && far->row == e[i].row && far->col / OUT_BLOCK == e[i].col / OUT_BLOCK) return false;
    }
    return true;
}

bool out_pack(codec_params p, uint64_t rows, uint64_t cols, const out_entry *e, uint64_t count, uint8_t *dst) {
    const layout l = layout_of(p, rows, cols);
    if (!entries_ok(&l, rows, cols, e, count)) return false;
    memset(dst, 0, (size_t)bytes(p, rows, cols));
    for (uint64_t r = 0, i = 0; r < rows; r++) {
        float top = 0;
        if (r % START_ROWS == 0) write_u32(dst + l.starts + r / START_ROWS * 4, (uint32_t)i);
        for (uint64_t j = i; j < count && e[j].row == r; j++) top = fmaxf(top, fabsf(e[j].value));
        uint16_t bits = f32_to_bf16(top / CODE_MAX);
        if (bits > 0 && bf16_to_f32(bits) * CODE_MAX > 3.4e38f) bits--;
        write_u16(dst + 2 * r, bits);
        const float s = bf16_to_f32(bits);
        for (; i < count && e[i].row == r; i++) {
            const float t = s > 0 ? e[i].value / s : 0;
            const int code = (int)rintf(fminf(fmaxf(t, -CODE_MAX), CODE_MAX));
            dst[l.counts + r * l.n_blocks + e[i].col / OUT_BLOCK]++;
            dst[l.columns + i] = (uint8_t)(e[i].col % OUT_BLOCK);
            dst[l.codes + i / 2] |= (uint8_t)((code & 15) << 4 * (i % 2));
        }
    }
    return true;
}

/* ---- reading ---- */

/* The code of entry i: two's complement. */
static float code_of(const wt *w, const layout *l, uint64_t i) {
    return (float)(((w->data[l->codes + i / 2] >> 4 * (i % 2) & 15) ^ 8) - 8);
}

/* Where row r's entries begin. */
static uint64_t start_of(const wt *w, const layout *l, uint64_t r) {
    uint64_t at = read_u32(w->data + l->starts + r / START_ROWS * 4);
    const uint8_t *count = w->data + l->counts;
    for (uint64_t i = r / START_ROWS * START_ROWS * l->n_blocks; i < r * l->n_blocks; i++) at += count[i];
    return at;
}

/* Row r's entries: columns and weights to col, value, which have room for OUT_BLOCK of each block. Returns how many; *at moves on. */
static size_t row_entries(const wt *w, const layout *l, uint64_t r, uint64_t *at, uint32_t *col, float *value) {
    if (r % START_ROWS == 0) *at = read_u32(w->data + l->starts + r / START_ROWS * 4);
    const float s = bf16_to_f32(read_u16(w->data + 2 * r));
    const uint8_t *count = w->data + l->counts + r * l->n_blocks;
    size_t n = 0;
    for (uint64_t b = 0; b < l->n_blocks; b++) {
        const uint64_t end = *at + count[b];
        for (uint64_t i = *at; i < end && i < l->n_entries; i++) {
            const uint64_t c = b * OUT_BLOCK + w->data[l->columns + i];
            if (c >= w->cols) continue;
            col[n] = (uint32_t)c;
            value[n++] = s * code_of(w, l, i);
        }
        *at = end;
    }
    return n;
}

/* One block of a row at a time: decoding has no scratch. */
static void decode_add(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    const layout l = layout_of(w->params, w->rows, w->cols);
    uint64_t at = start_of(w, &l, row0);
    for (size_t i = 0; i < n; i++, dst += stride) {
        const uint64_t r = row0 + i;
        const float s = bf16_to_f32(read_u16(w->data + 2 * r));
        if (r % START_ROWS == 0) at = start_of(w, &l, r);
        for (uint64_t b = 0; b < l.n_blocks; b++) {
            const uint64_t end = at + w->data[l.counts + r * l.n_blocks + b];
            for (; at < end && at < l.n_entries; at++) {
                const uint64_t c = b * OUT_BLOCK + w->data[l.columns + at];
                if (c < w->cols) dst[c] += s * code_of(w, &l, at);
            }
            at = end;
        }
    }
}

static void decode(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    for (size_t r = 0; r < n; r++) memset(dst + r * stride, 0, (size_t)w->cols * sizeof(float));
    decode_add(w, row0, n, dst, stride);
}

static size_t scratch_bytes(const wt *w, size_t n_rows, size_t n_tokens) {
    return (size_t)div_up(w->cols, OUT_BLOCK) * OUT_BLOCK * (sizeof(uint32_t) + sizeof(float));
}

static void matmul(const wt *w, uint64_t row0, size_t n, const act *x, float *y, size_t ldy, void *scratch) {
    const layout l = layout_of(w->params, w->rows, w->cols);
    uint32_t *col = scratch;
    float *value = (float *)(void *)(col + l.n_blocks * OUT_BLOCK);
    uint64_t at = start_of(w, &l, row0);
    for (size_t r = 0; r < n; r++) {
        const size_t len = row_entries(w, &l, row0 + r, &at, col, value);
        for (size_t t = 0; t < x->n_tokens; t++) {
            const float *xt = x->f32 + t * x->cols_padded;
            float lane[4] = {0};
            size_t k = 0;
            for (; k + 4 <= len; k += 4)
                for (size_t j = 0; j < 4; j++) lane[j] += value[k + j] * xt[col[k + j]];
            for (; k < len; k++) lane[k % 4] += value[k] * xt[col[k]];
            y[t * ldy + r] += (lane[0] + lane[2]) + (lane[1] + lane[3]);
        }
    }
}

const snug_codec codec_out = {
    .family = "out", .id = CODEC_ID_OUT, .tile_rows = 1, .tile_cols = 1, .block_cols = 1, .act = CODEC_ACT_F32,
    .caps = CODEC_WHOLE, .ggml_type = -1, .menu = menu, .params_ok = params_ok, .bytes = bytes,
    .decode = decode, .decode_add = decode_add, .scratch_bytes = scratch_bytes, .matmul = matmul,
};
