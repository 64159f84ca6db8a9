/* dictKsSbB: W = A V, V a dictionary of K rows (atoms), A sparse: at most S numbers in each of its rows (docs/format.md 3.8; the form of
 * CoSpaDi, Shopkhoev et al. 2025, where the weight stands the other way round). Rows of W are then sums of few atoms each, so that it is
 * a union of small spaces where lowrank has one large one. The atoms are vectors as lowrank stores them, a row of A is a scale, where its
 * numbers stand, and codes. A solver chooses both (solve_dict), hence CODEC_WHOLE.
 *
 * Multiply: z = V x (K numbers per token), then of a row's entries, in order, entry k goes to lane k mod 4: lane += a z; and
 * y += (l0 + l2) + (l1 + l3). Every call computes z anew: K / n_rows of the work that the rows would be as they are. */
#include "codec/codecs.h"
#include "codec/vectors.h"

enum { STEP = 256, TILE_ATOMS = 32, MAX_ATOMS = 4096, MAX_ENTRIES = 256 };

static bool menu(uint32_t i, codec_params *out) { return false; }
static bool params_ok(codec_params p) {
    return p.rank >= 1 && p.rank <= MAX_ATOMS && p.group >= 1 && p.group <= MAX_ENTRIES && p.group <= p.rank && p.bits >= 2 && p.bits <= 8;
}

/* | K vectors of cols numbers | of each row: scale: bf16, positions and codes, a stream of bits |. Positions are a bit for each atom, or as many
 * numbers as there are entries where that takes fewer bits. */
typedef struct layout { uint64_t vector, rows, row; unsigned index_bits; bool is_mask; size_t codes; } layout;

static layout layout_of(codec_params p, uint64_t cols) {
    layout l = {.vector = vector_bytes(p.bits, cols), .index_bits = 1};
    while (1u << l.index_bits < p.rank) l.index_bits++;
    l.is_mask = p.rank <= p.group * l.index_bits;
    l.codes = l.is_mask ? p.rank : p.group * l.index_bits;
    l.rows = p.rank * l.vector;
    l.row = 2 + div_up(l.codes + p.group * p.bits, 8);
    return l;
}

static uint64_t bytes(codec_params p, uint64_t rows, uint64_t cols) {
    uint64_t n;
    if (cols > UINT64_MAX / 64 / MAX_ATOMS) return 0;
    const layout l = layout_of(p, cols);
    return checked_mul(rows, l.row, &n) && checked_add(n, l.rows, &n) ? n : 0;
}

/* Bits of a row's stream, lowest first. */
static void put_bits(uint8_t *p, size_t at, unsigned bits, unsigned value) {
    for (unsigned b = 0; b < bits; b++) p[(at + b) / 8] |= (uint8_t)((value >> b & 1) << (at + b) % 8);
}
static unsigned get_bits(const uint8_t *p, size_t at, unsigned bits) {
    unsigned v = 0;
    for (unsigned b = 0; b < bits; b++) v |= (p[(at + b) / 8] >> (at + b) % 8 & 1u) << b;
    return v;
}

void dict_pack(codec_params p, uint64_t rows, uint64_t cols, const dict_factors *f, uint8_t *dst) {
    const layout l = layout_of(p, cols);
    const unsigned half = 1u << (p.bits - 1);
    memset(dst, 0, (size_t)bytes(p, rows, cols));
    for (size_t k = 0; k < p.rank; k++) vector_pack(p.bits, cols, f->atom + k * cols, f->atom_scale[k], dst + k * l.vector);
    for (uint64_t r = 0; r < rows; r++) {
        uint8_t *row = dst + l.rows + r * l.row;
        write_u16(row, f32_to_bf16(f->row_scale[r]));
        for (size_t i = 0; i < p.group; i++) {
            const bool used = i < f->n[r];
            const uint16_t k = used ? f->at[r * p.group + i] : 0;
            if (!l.is_mask) put_bits(row + 2, i * l.index_bits, l.index_bits, k);
            else if (used) put_bits(row + 2, k, 1, 1);
            put_bits(row + 2, l.codes + i * p.bits, p.bits, half + (unsigned)(used ? f->q[r * p.group + i] : 0));
        }
    }
}

/* ---- reading ---- */

/* Goes through a row's entries. Numbers of atoms that do not exist are passed over. */
typedef struct walk { const uint8_t *bits; float scale; size_t i, k; } walk; /* the next entry, and the atom after the last */

static walk row_begin(const wt *w, const layout *l, uint64_t r) {
    const uint8_t *row = w->data + l->rows + r * l->row;
    return (walk){.bits = row + 2, .scale = bf16_to_f32(read_u16(row))};
}

static bool row_next(const wt *w, const layout *l, walk *at, uint32_t *atom, float *value) {
    const codec_params p = w->params;
    const float half = (float)(1u << (p.bits - 1));
    while (at->i < p.group) {
        size_t k = at->k;
        if (l->is_mask) {
            while (k < p.rank && !get_bits(at->bits, k, 1)) k++;
            at->k = k + 1;
            if (k >= p.rank) return false;
        } else k = get_bits(at->bits, at->i * l->index_bits, l->index_bits);
        const float q = (float)get_bits(at->bits, l->codes + at->i++ * p.bits, p.bits) - half;
        if (k >= p.rank) continue;
        *atom = (uint32_t)k;
        *value = at->scale * q;
        return true;
    }
    return false;
}

static void decode_add(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    const layout l = layout_of(w->params, w->cols);
    for (size_t r = 0; r < n; r++, dst += stride) {
        walk at = row_begin(w, &l, row0 + r);
        uint32_t atom;
        float value, v[STEP];
        while (row_next(w, &l, &at, &atom, &value))
            for (size_t c = 0; c < w->cols; c += STEP) {
                const size_t len = (size_t)min_u64(w->cols - c, STEP);
                vector_unpack(w->data + atom * l.vector, w->params.bits, c, len, v);
                for (size_t j = 0; j < len; j++) dst[c + j] += value * v[j];
            }
    }
}

static void decode(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    for (size_t r = 0; r < n; r++) memset(dst + r * stride, 0, (size_t)w->cols * sizeof(float));
    decode_add(w, row0, n, dst, stride);
}

static size_t scratch_bytes(const wt *w, size_t n_rows, size_t n_tokens) {
    return (n_tokens * w->params.rank + TILE_ATOMS * (size_t)w->cols) * sizeof(float);
}

/* z (n_tokens, K). tile: room for TILE_ATOMS of them. */
static void times_atoms(const wt *w, const layout *l, const act *x, float *z, float *tile) {
    const size_t atoms = w->params.rank, cols = (size_t)w->cols;
    memset(z, 0, x->n_tokens * atoms * sizeof *z);
    for (size_t k = 0; k < atoms; k += TILE_ATOMS) {
        const size_t len = atoms - k < TILE_ATOMS ? atoms - k : TILE_ATOMS;
        for (size_t j = 0; j < len; j++) vector_unpack(w->data + (k + j) * l->vector, w->params.bits, 0, cols, tile + j * cols);
        kern()->dot_f32(len, x->n_tokens, cols, tile, cols, x->f32, x->cols_padded, z + k, atoms);
    }
}

static void matmul(const wt *w, uint64_t row0, size_t n, const act *x, float *y, size_t ldy, void *scratch) {
    const layout l = layout_of(w->params, w->cols);
    float *z = scratch;
    times_atoms(w, &l, x, z, z + x->n_tokens * w->params.rank);
    for (size_t r = 0; r < n; r++) {
        uint32_t atom[MAX_ENTRIES + 1];
        float value[MAX_ENTRIES + 1];
        size_t len = 0;
        walk at = row_begin(w, &l, row0 + r);
        while (row_next(w, &l, &at, &atom[len], &value[len])) len++; /* at most p.group times */
        for (size_t t = 0; t < x->n_tokens; t++) {
            const float *zt = z + t * w->params.rank;
            float lane[4] = {0};
            for (size_t k = 0; k < len; k++) lane[k % 4] += value[k] * zt[atom[k]];
            y[t * ldy + r] += (lane[0] + lane[2]) + (lane[1] + lane[3]);
        }
    }
}

const snug_codec codec_dict = {
    .family = "dict", .id = CODEC_ID_DICT, .tile_rows = 1, .tile_cols = 1, .block_cols = 1, .act = CODEC_ACT_F32,
    .caps = CODEC_WHOLE, .ggml_type = -1, .menu = menu, .params_ok = params_ok, .bytes = bytes,
    .decode = decode, .decode_add = decode_add, .scratch_bytes = scratch_bytes, .matmul = matmul,
};
