/* The sparse families: spNbBgG keeps N of 32 weights, sp2of4bBgG and sp3of4bBgG two and three of each four, with B bits; tern34gG stores
 * the signs of three of each four and terngG the sign or 0 of all (docs/format.md 3.5).
 *
 * Method: `group` chooses the mask from the weights as they are then, by a w^2. With error feedback a is the variance of a column given
 * those after it, and this is the score of Optimal Brain Surgeon as SparseGPT takes it (Frantar and Alistarh 2023, equation 4): what
 * removing the weight costs when the others make up for it. Once scale and grid are known the score is what the weight's code saves of
 * that, and both are chosen anew: columns that matter little are left out even when their weights are large. What is kept stays away from
 * 0, so its grids have no 0 and a wide middle; each group takes the one of eight that fits it. 3 of 4 with one magnitude is Sherry's form:
 * 5 bits hold its 4 x 8 states. */
#include "codec/sparse.h"

#include <math.h>

#include "base/checked.h"
#include "codec/block.h"

typedef struct sparse_enc { /* followed by the arrays */
    kern_sparse f;
    size_t n_rows, cols, n_chunks, n_groups;
    int effort;
    uint16_t *d;    /* (n_rows), bf16                                */
    uint32_t *mask; /* (n_rows, n_chunks)                            */
    uint8_t *scale; /* (n_rows, n_groups): a byte, or a nibble, each */
    uint8_t *code;  /* (n_rows, 32 * n_chunks); trits: q + 1         */
} sparse_enc;

/* ---- what a codec is ---- */

kern_sparse sparse_form(const snug_codec *codec, codec_params p) {
    switch (codec->id) {
    case CODEC_ID_SP: return (kern_sparse){KERN_BITMAP, (uint8_t)p.bits, (uint8_t)p.rank, p.group};
    case CODEC_ID_SP2OF4: return (kern_sparse){KERN_2_OF_4, (uint8_t)p.bits, 16, p.group};
    case CODEC_ID_SP3OF4: return (kern_sparse){KERN_3_OF_4, (uint8_t)p.bits, 24, p.group};
    case CODEC_ID_TERN34: return (kern_sparse){KERN_3_OF_4, 1, 24, p.group};
    default: return (kern_sparse){KERN_TRITS, 1, 32, p.group};
    }
}

/* Not in the default menu, because int with feedback is better at equal bytes: to be named by pins and plans. */
static bool no_menu(uint32_t i, codec_params *out) { return false; }
/* What is smaller than two bits. */
static bool tern_menu(uint32_t i, codec_params *out) {
    static const uint16_t groups[] = {128, 64, 32};
    *out = (codec_params){.group = groups[i % 3]};
    return i < 3;
}

static bool group_ok(codec_params p) { return p.group == 32 || p.group == 64 || p.group == 128; }
static bool bits_ok(codec_params p) { return (p.bits >= 2 && p.bits <= 6) || p.bits == 8; }
static bool sp_ok(codec_params p) { return group_ok(p) && bits_ok(p) && p.rank >= 8 && p.rank <= 24 && p.rank % 4 == 0; }
static bool fours_ok(codec_params p) { return group_ok(p) && bits_ok(p) && p.rank == 0; }
static bool tern_ok(codec_params p) { return group_ok(p) && p.bits == 0 && p.rank == 0; }

static uint64_t bytes(const kern_sparse *f, uint64_t n_rows, uint64_t cols) {
    uint64_t n;
    if (cols > UINT64_C(1) << 48) return 0; /* below, a row's bytes cannot overflow */
    return checked_mul(n_rows, kern_sparse_layout_of(f, (size_t)div_up(cols, 32)).bytes, &n) ? n : 0;
}

/* ---- encoding ---- */

static size_t enc_bytes(const kern_sparse *f, size_t n_rows, size_t cols) {
    uint64_t weights;
    if (!bytes(f, n_rows, cols) || !checked_mul(n_rows, round_up(cols, 32), &weights) || weights > SIZE_MAX / 64) return 0;
    return round_up(sizeof(sparse_enc), 64) + round_up(n_rows * 2, 64) + round_up(weights / 8, 64) + round_up(weights / 32, 64) + weights;
}

static void enc_init(void *enc, const kern_sparse *f, size_t n_rows, size_t cols, int effort) {
    sparse_enc *e = enc;
    *e = (sparse_enc){.f = *f, .n_rows = n_rows, .cols = cols, .n_chunks = div_up(cols, 32), .n_groups = div_up(cols, f->group),
                      .effort = effort};
    uint8_t *at = (uint8_t *)enc + round_up(sizeof *e, 64);
    e->d = (uint16_t *)(void *)at;
    at += round_up(n_rows * 2, 64);
    e->mask = (uint32_t *)(void *)at;
    at += round_up(n_rows * e->n_chunks * 4, 64);
    e->scale = at;
    e->code = at + round_up(n_rows * e->n_chunks, 64);
}

static void begin(void *enc, const float *w, size_t ldw, const float *a) {
    sparse_enc *e = enc;
    for (size_t r = 0; r < e->n_rows; r++) e->d[r] = sparse_row_scale(&e->f, w + r * ldw, e->cols, a, e->effort);
}

static void group(void *enc, size_t col0, size_t n, const float *w, size_t ldw, const float *a) {
    sparse_enc *e = enc;
    for (size_t c = 0; c < n; c += e->f.group) {
        const size_t len = n - c < e->f.group ? n - c : e->f.group, g = (col0 + c) / e->f.group;
        for (size_t r = 0; r < e->n_rows; r++) {
            uint32_t mask[SPARSE_MAX_GROUP / 32];
            e->scale[r * e->n_groups + g] =
                sparse_fit(&e->f, w + r * ldw + c, len, a ? a + c : NULL, bf16_to_f32(e->d[r]), e->effort, mask);
            memcpy(e->mask + r * e->n_chunks + (col0 + c) / 32, mask, div_up(len, 32) * sizeof *mask);
        }
    }
}

static void round_cols(void *enc, size_t col0, size_t n, const float *w, size_t ldw, float *w_hat, size_t ldh) {
    sparse_enc *e = enc;
    const bool last = col0 + n == e->cols; /* then also what lies beyond */
    for (size_t r = 0; r < e->n_rows; r++) {
        const float d = bf16_to_f32(e->d[r]);
        for (size_t i = 0; i < n || (last && col0 + i < 32 * e->n_chunks); i++) {
            const size_t c = col0 + i, g = r * e->n_groups + c / e->f.group;
            const int z = e->f.bits >= 2 ? e->scale[g] & 7 : 0;
            const float s = d * (e->f.bits >= 2 ? kern_int_scale[e->scale[g] >> 3] : kern_tern_scale[e->scale[g]]);
            int q = 0;
            if (e->f.mask == KERN_TRITS || e->mask[r * e->n_chunks + c / 32] >> c % 32 & 1)
                e->code[r * 32 * e->n_chunks + c] = sparse_nearest(&e->f, i < n ? w[r * ldw + i] : 0, s, z, &q);
            if (w_hat && i < n) w_hat[r * ldh + i] = s * (float)q;
        }
    }
}

/* ---- packing ---- */

static void put_bits(uint8_t *dst, size_t at, unsigned bits, unsigned value) {
    for (unsigned b = 0; b < bits; b++) dst[(at + b) / 8] |= (uint8_t)((value >> b & 1) << (at + b) % 8);
}

static void put_mask(const kern_sparse *f, uint32_t mask, uint8_t *dst) {
    if (f->mask == KERN_BITMAP) put_bits(dst, 0, 32, mask);
    for (unsigned i = 0; i < 8 && f->mask != KERN_BITMAP; i++) {
        const unsigned four = mask >> 4 * i & 15;
        unsigned index = 0;
        if (f->mask == KERN_2_OF_4) {
            while (kern_2of4[index] != four) index++;
            put_bits(dst, 3 * i, 3, index);
        } else {
            while (four >> index & 1) index++;
            put_bits(dst, 2 * i, 2, index);
        }
    }
}

/* See kern_trit: the byte whose fraction of 256 begins with these digits. */
static void put_trits(const uint8_t *code, size_t n_chunks, uint8_t *dst) {
    for (size_t c = 0; c < n_chunks;) {
        const size_t n = n_chunks - c < 5 ? 1 : 5, n_bytes = n == 5 ? 32 : 8;
        for (size_t b = 0; b < n_bytes; b++) {
            unsigned v = 0;
            for (size_t i = b; i < 5 * n_bytes; i += n_bytes) v = 3 * v + (i < 32 * n ? code[i] : 1);
            *dst++ = (uint8_t)((256 * v + 242) / 243);
        }
        c += n, code += 32 * n;
    }
}

static void pack(const void *enc, uint8_t *dst) {
    const sparse_enc *e = enc;
    const kern_sparse_layout l = kern_sparse_layout_of(&e->f, e->n_chunks);
    const size_t mask_bytes = (l.codes - l.masks) / e->n_chunks;
    for (size_t r = 0; r < e->n_rows; r++, dst += l.bytes) {
        const uint8_t *code = e->code + r * 32 * e->n_chunks, *scale = e->scale + r * e->n_groups;
        const uint32_t *mask = e->mask + r * e->n_chunks;
        memset(dst, 0, l.bytes);
        write_u16(dst, e->d[r]);
        for (size_t g = 0; g < e->n_groups; g++) {
            if (e->f.bits >= 2) dst[2 + g] = scale[g];
            else dst[2 + g / 2] |= (uint8_t)(scale[g] << 4 * (g % 2));
        }
        if (e->f.mask == KERN_TRITS) {
            put_trits(code, e->n_chunks, dst + l.codes);
            continue;
        }
        for (size_t c = 0, at = 0; c < e->n_chunks; c++) {
            put_mask(&e->f, mask[c], dst + l.masks + mask_bytes * c);
            for (unsigned i = 0; i < 32; i++) {
                if (!(mask[c] >> i & 1)) continue;
                put_bits(dst + l.codes, at, e->f.bits, code[32 * c + i]);
                at += e->f.bits;
            }
        }
    }
}

static uint32_t group_cols(codec_params p) { return p.group; }

#define SPARSE_CODEC(stem, menu_, ok, caps_, family_, id_)                                                                               \
    static uint64_t stem##_bytes(codec_params p, uint64_t rows, uint64_t cols) {                                         \
        const kern_sparse f = sparse_form(&codec_##stem, p);                                                             \
        return bytes(&f, rows, cols);                                                                                    \
    }                                                                                                                    \
    static size_t stem##_enc_bytes(codec_params p, size_t rows, size_t cols) {                                           \
        const kern_sparse f = sparse_form(&codec_##stem, p);                                                             \
        return enc_bytes(&f, rows, cols);                                                                                \
    }                                                                                                                    \
    static void stem##_enc_init(void *enc, codec_params p, size_t rows, size_t cols, int effort) {                       \
        const kern_sparse f = sparse_form(&codec_##stem, p);                                                             \
        enc_init(enc, &f, rows, cols, effort);                                                                           \
    }                                                                                                                    \
    const snug_codec codec_##stem = {                                                                                    \
        .family = family_, .id = id_, .tile_rows = 1, .tile_cols = 1, .block_cols = 32, .act = CODEC_ACT_Q8, .caps = caps_, .ggml_type = -1, \
        .menu = menu_, .params_ok = ok, .bytes = stem##_bytes, .enc_bytes = stem##_enc_bytes, .group_cols = group_cols, \
        .enc_init = stem##_enc_init, .begin = begin, .group = group, .round = round_cols, .pack = pack,                   \
        .decode = block_decode, .decode_add = block_decode_add, .scratch_bytes = block_scratch_bytes, .matmul = block_matmul, \
    }
SPARSE_CODEC(sp, no_menu, sp_ok, 0, "sp", CODEC_ID_SP);
SPARSE_CODEC(sp2of4, no_menu, fours_ok, 0, "sp2of4b", CODEC_ID_SP2OF4);
SPARSE_CODEC(sp3of4, no_menu, fours_ok, 0, "sp3of4b", CODEC_ID_SP3OF4);
SPARSE_CODEC(tern34, tern_menu, tern_ok, 0, "tern34", CODEC_ID_TERN34);
SPARSE_CODEC(tern, tern_menu, tern_ok, CODEC_TURNS, "tern", CODEC_ID_TERN);
