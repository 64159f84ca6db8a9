/* Encoding of ggml's block types: the state of a panel between group, round and pack. `group` lets the format fit its
 * scales to the block as it is now and stores them as the decoder will see them (f32 s and m per 16 or 32 weights); `round`
 * takes the nearest code with those. The codes stay one byte each until pack, so any column may be rounded alone. */
#include <math.h>
#include <stdalign.h>

#include "base/checked.h"
#include "codec/block.h"
#include "codec/search.h"
#include "codec/vec.h"

typedef struct block_enc { /* followed by the arrays, each 64-byte aligned */
    const block_format *f;
    size_t n_rows, cols, n_blocks; /* n_blocks per row */
    int effort;
    int8_t *q;          /* (n_rows, n_blocks * f->cols)             */
    float *s, *m;       /* (n_rows, n_blocks * f->cols / f->group)  */
    block_scales *sc;   /* (n_rows, n_blocks)                       */
} block_enc;

bool block_menu(uint32_t i, codec_params *out) {
    *out = (codec_params){0};
    return i == 0;
}

bool block_params_ok(codec_params p) { return p.bits == 0 && p.group == 0 && p.rank == 0; }

uint64_t block_bytes(const block_format *f, uint64_t n_rows, uint64_t cols) {
    uint64_t n = div_up(cols, f->cols), bytes;
    if (!checked_mul(n, f->bytes, &bytes) || !checked_mul(bytes, n_rows, &bytes)) return 0;
    return bytes;
}

size_t block_enc_bytes(const block_format *f, size_t n_rows, size_t cols) {
    uint64_t blocks;
    if (!checked_mul(n_rows, div_up(cols, f->cols), &blocks) || blocks > SIZE_MAX / 4096) return 0;
    size_t weights = (size_t)blocks * f->cols, groups = weights / f->group;
    return round_up(sizeof(block_enc), 64) + round_up(weights, 64) + 2 * round_up(groups * sizeof(float), 64) +
           (size_t)blocks * sizeof(block_scales);
}

void block_enc_init(void *enc, const block_format *f, size_t n_rows, size_t cols, int effort) {
    block_enc *e = enc;
    size_t n_blocks = div_up(cols, f->cols), weights = n_rows * n_blocks * f->cols, groups = weights / f->group;
    uint8_t *p = (uint8_t *)enc + round_up(sizeof *e, 64);
    *e = (block_enc){.f = f, .n_rows = n_rows, .cols = cols, .n_blocks = n_blocks, .effort = effort};
    e->q = (int8_t *)p;
    p += round_up(weights, 64);
    e->s = (float *)p;
    p += round_up(groups * sizeof(float), 64);
    e->m = (float *)p;
    p += round_up(groups * sizeof(float), 64);
    e->sc = (block_scales *)p;
    memset(e->sc, 0, n_rows * n_blocks * sizeof *e->sc);
}

/* The power of two that brings a block's largest weight near 1 when it is so far from there that squares, or the products
 * of squares and importances, could leave f32's range. */
static float block_unit(const float *x, size_t n) {
    float top = 0;
    for (size_t i = 0; i < n; i++) top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
    if (top == 0 || (top > 0x1p-40f && top < 0x1p40f)) return 1;
    int e = ilogbf(top);
    return ldexpf(1, e < -100 ? -100 : e > 100 ? 100 : e);
}

void block_group(void *enc, size_t col0, size_t n, const float *w, size_t ldw, const float *a) {
    block_enc *e = enc;
    const block_format *f = e->f;
    size_t per_block = f->cols / f->group;
    for (size_t c = 0; c < n; c += f->cols) {
        alignas(64) float xs[BLOCK_MAX] = {0}, as[BLOCK_MAX] = {0};
        size_t len = n - c < f->cols ? n - c : f->cols, block = (col0 + c) / f->cols;
        for (size_t i = 0; i < len; i++) as[i] = a ? a[c + i] : 1;
        for (size_t r = 0; r < e->n_rows; r++) {
            const float *src = w + r * ldw + c;
            float unit = block_unit(src, len), inv = 1 / unit;
            for (size_t i = 0; i < len; i++) xs[i] = src[i] * inv;
            block_scales *sc = &e->sc[r * e->n_blocks + block];
            *sc = (block_scales){0};
            f->fit(&(block_in){.x = xs, .a = as, .unit = unit, .effort = e->effort}, sc);
            size_t g = (r * e->n_blocks + block) * per_block;
            f->expand(sc, e->s + g, e->m + g);
        }
    }
}

/* Scale 0 gives code 0, or the nearest code to it. The division overflows to infinity at worst, which the clamp takes. */
void block_round_linear(size_t n, const float *w, float s, float m, bool has_min, int lo, int hi, int8_t *q, float *w_hat) {
    float inv = s != 0 ? 1 / s : 0;
    bool exact = fabsf(inv) < 0x1p126f; /* else 1 / s lost bits or overflowed: divide */
    float flo = (float)lo, fhi = (float)hi;
    for (size_t i = 0; i < n; i++) {
        float x = has_min ? w[i] - m : w[i];
        float t = s == 0 ? 0 : exact ? x * inv : x / s;
        t = t > flo ? t : flo;
        t = t < fhi ? t : fhi;
        float c = rint_magic(t);
        q[i] = (int8_t)c;
        if (w_hat) w_hat[i] = has_min ? s * c + m : s * c;
    }
}

void block_round_table(size_t n, const float *w, float s, const int8_t table[16], int8_t *q, float *w_hat) {
    for (size_t i = 0; i < n; i += 8) {
        float t[8] = {0}, value[8];
        size_t len = n - i < 8 ? n - i : 8;
        for (size_t j = 0; j < len; j++) t[j] = s != 0 ? w[i + j] / s : 0;
        search_nearest8(t, table, value);
        for (size_t j = 0; j < len; j++) {
            q[i + j] = (int8_t)value[j];
            if (w_hat) w_hat[i + j] = s * value[j];
        }
    }
}

void block_round(void *enc, size_t col0, size_t n, const float *w, size_t ldw, float *w_hat, size_t ldh) {
    block_enc *e = enc;
    const block_format *f = e->f;
    size_t ldq = e->n_blocks * f->cols, lds = ldq / f->group;
    for (size_t r = 0; r < e->n_rows; r++) {
        for (size_t c = 0; c < n;) {
            size_t at = col0 + c, g = at / f->group, len = (g + 1) * f->group - at;
            if (len > n - c) len = n - c;
            const float *src = w + r * ldw + c;
            float *dst = w_hat ? w_hat + r * ldh + c : NULL, s = e->s[r * lds + g], m = e->m[r * lds + g];
            int8_t *q = e->q + r * ldq + at;
            if (f->table) block_round_table(len, src, s, f->table, q, dst);
            else block_round_linear(len, src, s, m, f->has_min, f->lo, f->hi, q, dst);
            c += len;
        }
        /* What lies beyond the last column decodes to something that readers ignore: the code nearest to 0. */
        if (col0 + n == e->cols) {
            for (size_t c = e->cols; c < ldq; c++) {
                static const float zero;
                float s = e->s[r * lds + c / f->group], m = e->m[r * lds + c / f->group];
                if (f->table) block_round_table(1, &zero, s, f->table, e->q + r * ldq + c, NULL);
                else block_round_linear(1, &zero, s, m, f->has_min, f->lo, f->hi, e->q + r * ldq + c, NULL);
            }
        }
    }
}

/* Of the k-th neighbour: one step up or down for ls, for lm, for both. False: out of range, or d alone is the scale. */
static bool step_scales(const block_format *f, block_scales *sc, size_t j, int k) {
    static const int8_t step[CODEC_NEIGHBOURS][2] = {{1, 0}, {-1, 0}, {0, 1}, {0, -1}, {1, 1}, {-1, -1}, {1, -1}, {-1, 1}};
    if (f->ls_hi == 0 || (f->lm_hi == 0 && step[k][1] != 0)) return false;
    const int ls = (f->ls_lo < 0 ? (int8_t)sc->ls[j] : sc->ls[j]) + step[k][0], lm = sc->lm[j] + step[k][1];
    sc->ls[j] = (uint8_t)ls;
    sc->lm[j] = (uint8_t)lm;
    return ls >= f->ls_lo && ls <= f->ls_hi && lm >= 0 && lm <= f->lm_hi;
}

/* What n codes from a group's first on decode to. */
static void decode_codes(const block_format *f, const int8_t *q, size_t n, const float *s, const float *m, float *w_hat) {
    for (size_t i = 0; i < n; i++) w_hat[i] = f->has_min ? s[i / f->group] * (float)q[i] + m[i / f->group] : s[i / f->group] * (float)q[i];
}

size_t block_neighbour(const void *enc, size_t row, size_t col, int k, float *w_hat, uint32_t *scales) {
    const block_enc *e = enc;
    const block_format *f = e->f;
    const size_t j = col % f->cols / f->group, n = e->cols - col < f->group ? e->cols - col : f->group;
    const int8_t *q = e->q + row * e->n_blocks * f->cols + col;
    float s[BLOCK_MAX / 16], m[BLOCK_MAX / 16];
    block_scales sc = e->sc[row * e->n_blocks + col / f->cols];
    if (!step_scales(f, &sc, j, k)) return 0;
    f->expand(&sc, s, m);
    decode_codes(f, q, n, s + j, m + j, w_hat);
    *scales = (uint32_t)sc.d << 16 | (uint32_t)sc.lm[j] << 8 | sc.ls[j];
    return n;
}

void block_rescale(void *enc, size_t row, size_t col, uint32_t scales) {
    block_enc *e = enc;
    const block_format *f = e->f;
    const size_t j = col % f->cols / f->group, block = row * e->n_blocks + col / f->cols, per_block = f->cols / f->group;
    block_scales *sc = &e->sc[block];
    sc->d = (uint16_t)(scales >> 16);
    sc->lm[j] = (uint8_t)(scales >> 8);
    sc->ls[j] = (uint8_t)scales;
    f->expand(sc, e->s + block * per_block, e->m + block * per_block);
}

/* d and dmin of a block: u is what it would decode to were the one 1 and the other 0. */
int block_shared(const void *enc, size_t row, size_t col, float x[CODEC_SHARED], float *const u[CODEC_SHARED]) {
    enum { F16_ONE = 0x3c00 };
    const block_enc *e = enc;
    const block_format *f = e->f;
    const size_t n = e->cols - col < f->cols ? e->cols - col : f->cols;
    const int8_t *q = e->q + row * e->n_blocks * f->cols + col;
    float s[BLOCK_MAX / 16], m[BLOCK_MAX / 16];
    block_scales sc = e->sc[row * e->n_blocks + col / f->cols];
    x[0] = f16_to_f32(sc.d);
    x[1] = f16_to_f32(sc.dmin);
    sc.d = sc.dmin = F16_ONE;
    f->expand(&sc, s, m);
    for (size_t i = 0; i < n; i++) {
        u[0][i] = s[i / f->group] * (float)q[i];
        if (f->has_min) u[1][i] = m[i / f->group];
    }
    return f->has_min ? 2 : 1;
}

void block_reshare(void *enc, size_t row, size_t col, float x[CODEC_SHARED], float *w_hat) {
    block_enc *e = enc;
    const block_format *f = e->f;
    const size_t n = e->cols - col < f->cols ? e->cols - col : f->cols, block = row * e->n_blocks + col / f->cols, g = block * (f->cols / f->group);
    block_scales *sc = &e->sc[block];
    sc->d = block_f16_bits(x[0], 1);
    if (f->has_min) sc->dmin = block_f16_bits(x[1], 1);
    x[0] = f16_to_f32(sc->d);
    x[1] = f16_to_f32(sc->dmin);
    f->expand(sc, e->s + g, e->m + g);
    decode_codes(f, e->q + block * f->cols, n, e->s + g, e->m + g, w_hat);
}

void block_pack(const void *enc, uint8_t *dst) {
    const block_enc *e = enc;
    const block_format *f = e->f;
    for (size_t i = 0; i < e->n_rows * e->n_blocks; i++) f->pack(e->q + i * f->cols, &e->sc[i], dst + i * f->bytes);
}
