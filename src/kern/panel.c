/* Row-major blocks to panels (kern/panel.h) and back. Written once in plain C for all levels, packing on words of eight bytes. */
#include "kern/panel.h"

#include "base/checked.h"
#include "kern/blocks.h"

#include <string.h>

enum { ROWS = KERN_PANEL_ROWS };

/* A header's fields: `count` elements of `size` bytes from byte `from` of the row's block on, in the panel's order. */
typedef struct field { uint8_t from, size; uint16_t count; } field;
static const field fields[KERN_INT2][3] = {
    [KERN_Q8_0] = {{0, 2, 1}},
    [KERN_Q4_0] = {{0, 2, 1}},
    [KERN_IQ4_NL] = {{0, 2, 1}},
    [KERN_Q2_K] = {{Q2_K_D, 2, 1}, {Q2_K_DMIN, 2, 1}, {Q2_K_SCALES, 1, 16}},
    [KERN_Q3_K] = {{Q3_K_D, 2, 1}, {Q3_K_SCALES, 1, 12}},
    [KERN_Q4_K] = {{Q4_K_D, 2, 1}, {Q4_K_DMIN, 2, 1}, {Q4_K_SCALES, 1, 12}},
    [KERN_Q5_K] = {{Q5_K_D, 2, 1}, {Q5_K_DMIN, 2, 1}, {Q5_K_SCALES, 1, 12}},
    [KERN_Q6_K] = {{Q6_K_D, 2, 1}, {Q6_K_SCALES, 1, 16}},
    [KERN_IQ4_XS] = {{IQ4_XS_D, 2, 1}, {IQ4_XS_SCALES_H, 2, 1}, {IQ4_XS_SCALES_L, 1, 4}},
};

/* size 1 or 2 */
KERN_INLINE uint8_t *put_field(uint8_t *dst, size_t r, const uint8_t *src, size_t size, size_t count) {
#pragma GCC unroll 16
    for (size_t k = 0; k < count; k++) {
        if (size == 1) dst[k * ROWS + r] = src[k];
        else memcpy(dst + 2 * (k * ROWS + r), src + 2 * k, 2);
    }
    return dst + ROWS * size * count;
}

/* Consecutive words of one row to consecutive word sets. */
KERN_INLINE void put_words(uint8_t *dst, size_t r, const uint8_t *src, size_t n_words) {
#pragma GCC unroll 8
    for (size_t w = 0; w < n_words; w++) memcpy(dst + 4 * (ROWS * w + r), src + 4 * w, 4);
}

KERN_INLINE uint64_t all_bytes(unsigned v) { return v * 0x0101010101010101u; }

/* 8 codes of a field of `bits` bits, from bit `shift` of 8 bytes on. */
KERN_INLINE uint64_t field_of(const uint8_t *p, size_t shift, unsigned bits) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v >> shift & all_bytes((1u << bits) - 1);
}

/* The 32 unsigned codes u of chunk c of a k-quant's block, a byte each. */
KERN_INLINE void chunk_codes(kern_format f, const uint8_t *block, size_t c, uint64_t u[4]) {
#pragma GCC unroll 4
    for (size_t k = 0; k < 4; k++) {
        const uint8_t *b = block + 8 * k;
        if (f == KERN_Q2_K) u[k] = field_of(b + Q2_K_QS + 32 * (c / 4), 2 * (c % 4), 2);
        if (f == KERN_Q3_K) u[k] = field_of(b + Q3_K_QS + 32 * (c / 4), 2 * (c % 4), 2) | field_of(b + Q3_K_HMASK, c, 1) << 2;
        if (f == KERN_Q4_K) u[k] = field_of(b + Q4_K_QS + 32 * (c / 2), 4 * (c % 2), 4);
        if (f == KERN_Q5_K) u[k] = field_of(b + Q5_K_QS + 32 * (c / 2), 4 * (c % 2), 4) | field_of(b + Q5_K_QH, c, 1) << 4;
        if (f == KERN_Q6_K)
            u[k] = field_of(b + Q6_K_QL + 64 * (c / 4) + 32 * (c % 2), 4 * (c % 4 / 2), 4) | field_of(b + Q6_K_QH + 32 * (c / 4), 2 * (c % 4), 2) << 4;
    }
}

/* 32 codes of one row to planes. */
KERN_INLINE void put_codes(uint8_t *dst, size_t r, const uint64_t u[4], unsigned bits) {
    const unsigned s2 = bits & 4 ? 4 : 0, s1 = s2 + (bits & 2 ? 2 : 0);
    uint64_t low = 0, high = 0, pairs = 0, ones = 0;
    if (bits & 4) {
        low = (u[0] & all_bytes(15)) | (u[2] & all_bytes(15)) << 4;
        high = (u[1] & all_bytes(15)) | (u[3] & all_bytes(15)) << 4;
    }
    for (unsigned k = 0; k < 4; k++) {
        pairs |= (u[k] >> s2 & all_bytes(3)) << 2 * k;
        ones |= (u[k] >> s1 & all_bytes(1)) << 2 * k; /* words 2 k and 2 k + 1 side by side */
    }
    uint8_t plane[32], *p = plane;
    if (bits & 4) memcpy(p, &low, 8), memcpy(p + 8, &high, 8), p += 16;
    if (bits & 2) memcpy(p, &pairs, 8), p += 8;
    if (bits & 1) memcpy(p, &(uint32_t){(uint32_t)ones | (uint32_t)(ones >> 32) << 1}, 4);
    put_words(dst, r, plane, bits);
}

/* One row's block of a ggml format; dst: the panel's block. */
KERN_INLINE void put_block(kern_format f, const uint8_t *block, size_t r, uint8_t *dst) {
    const panel_form *p = &panel_forms[f];
#pragma GCC unroll 3
    for (int k = 0; k < 3; k++)
        dst = put_field(dst, r, block + fields[f][k].from, fields[f][k].size, fields[f][k].count);
    if (p->table || f == KERN_Q4_0) { /* a chunk's nibbles stand as in a plane already */
        for (size_t c = 0; c < p->block_chunks; c++, dst += 256) put_words(dst, r, block + p->head + 16 * c, 4);
        return;
    }
    if (f == KERN_Q8_0) {
        uint8_t u[32];
        for (size_t i = 0; i < 32; i++) u[i] = block[Q8_0_QS + i] ^ 128;
        put_words(dst, r, u, 8);
        return;
    }
#pragma GCC unroll 8
    for (size_t c = 0; c < p->block_chunks; c++, dst += 64 * p->bits) {
        uint64_t u[4];
        chunk_codes(f, block, c, u);
        put_codes(dst, r, u, p->bits);
    }
}

KERN_INLINE void put_blocks(kern_format f, const uint8_t *rows, size_t row_bytes, size_t n_rows, uint8_t *panel) {
    const panel_form *p = &panel_forms[f];
    const size_t block_bytes = p->head + 4u * p->bits * p->block_chunks;
    for (size_t at = 0; at + block_bytes <= row_bytes; at += block_bytes)
        for (size_t r = 0; r < n_rows; r++) put_block(f, rows + r * row_bytes + at, r, panel + at * ROWS);
}

/* An int row's bytes stand in the panel's order already. */
static void put_int_row(kern_format f, size_t n_chunks, uint32_t group, size_t r, const uint8_t *row, uint8_t *panel) {
    size_t n_groups = div_up(32 * n_chunks, group);
    panel = put_field(panel, r, row, 2, 1);
    panel = put_field(panel, r, row + 2, 1, n_groups);
    put_words(panel, r, row + 2 + n_groups, n_chunks * panel_forms[f].bits);
}

void kern_panel_pack(kern_format f, const uint8_t *rows, size_t row_bytes, size_t n_rows, size_t n_chunks, uint32_t group, uint8_t *panel) {
    const panel_form *p = &panel_forms[f];
    if (n_rows < ROWS) memset(panel, 0, ROWS * row_bytes);
    if (p->block_chunks == 0) {
        for (size_t r = 0; r < n_rows; r++) put_int_row(f, n_chunks, group, r, rows + r * row_bytes, panel);
        return;
    }
    switch (f) { /* each its own code */
    case KERN_Q8_0: put_blocks(KERN_Q8_0, rows, row_bytes, n_rows, panel); return;
    case KERN_Q4_0: put_blocks(KERN_Q4_0, rows, row_bytes, n_rows, panel); return;
    case KERN_IQ4_NL: put_blocks(KERN_IQ4_NL, rows, row_bytes, n_rows, panel); return;
    case KERN_Q2_K: put_blocks(KERN_Q2_K, rows, row_bytes, n_rows, panel); return;
    case KERN_Q3_K: put_blocks(KERN_Q3_K, rows, row_bytes, n_rows, panel); return;
    case KERN_Q4_K: put_blocks(KERN_Q4_K, rows, row_bytes, n_rows, panel); return;
    case KERN_Q5_K: put_blocks(KERN_Q5_K, rows, row_bytes, n_rows, panel); return;
    case KERN_Q6_K: put_blocks(KERN_Q6_K, rows, row_bytes, n_rows, panel); return;
    case KERN_IQ4_XS: put_blocks(KERN_IQ4_XS, rows, row_bytes, n_rows, panel); return;
    default: return;
    }
}

/* ---- and back ---- */

static const uint8_t *get_field(const uint8_t *src, size_t r, uint8_t *dst, size_t size, size_t count) {
    for (size_t k = 0; k < count; k++) memcpy(dst + size * k, src + size * (k * ROWS + r), size);
    return src + ROWS * size * count;
}

static void get_words(const uint8_t *src, size_t r, uint8_t *dst, size_t n_words) {
    for (size_t w = 0; w < n_words; w++) memcpy(dst + 4 * w, src + 4 * (ROWS * w + r), 4);
}

/* The code of column i of a chunk whose planes stand one after the other. */
static unsigned plane_code(const uint8_t *plane, unsigned bits, size_t i) {
    const uint8_t *p2 = plane + (bits & 4 ? 16 : 0), *p1 = p2 + (bits & 2 ? 8 : 0);
    unsigned u = 0, at = 0;
    if (bits & 4) u = plane[i % 16] >> 4 * (i / 16) & 15, at = 4;
    if (bits & 2) u |= (p2[i % 8] >> 2 * (i / 8) & 3u) << at, at += 2;
    if (bits & 1) u |= (p1[i % 4] >> i / 4 & 1u) << at;
    return u;
}

/* Code i of chunk c into a k-quant's block, whose codes are zero so far. */
static void put_kquant_code(kern_format f, uint8_t *block, size_t c, size_t i, unsigned u) {
    const unsigned low2 = (u & 3) << 2 * (c % 4), low4 = (u & 15) << 4 * (c % 2);
    if (f == KERN_Q2_K) block[Q2_K_QS + 32 * (c / 4) + i] |= (uint8_t)low2;
    if (f == KERN_Q3_K) block[Q3_K_QS + 32 * (c / 4) + i] |= (uint8_t)low2, block[Q3_K_HMASK + i] |= (uint8_t)(u >> 2 << c);
    if (f == KERN_Q4_K) block[Q4_K_QS + 32 * (c / 2) + i] |= (uint8_t)low4;
    if (f == KERN_Q5_K) block[Q5_K_QS + 32 * (c / 2) + i] |= (uint8_t)low4, block[Q5_K_QH + i] |= (uint8_t)(u >> 4 << c);
    if (f == KERN_Q6_K) {
        block[Q6_K_QL + 64 * (c / 4) + 32 * (c % 2) + i] |= (uint8_t)((u & 15) << 4 * (c % 4 / 2));
        block[Q6_K_QH + 32 * (c / 4) + i] |= (uint8_t)(u >> 4 << 2 * (c % 4));
    }
}

/* Row r's block out of the panel's. */
static void get_block(kern_format f, const uint8_t *src, size_t r, uint8_t *block) {
    const panel_form *p = &panel_forms[f];
    const bool plain = p->table || f == KERN_Q4_0 || f == KERN_Q8_0; /* header first, then the chunks' words as they are */
    if (!plain) memset(block, 0, p->head + 4u * p->bits * p->block_chunks);
    for (int k = 0; k < 3; k++) src = get_field(src, r, block + fields[f][k].from, fields[f][k].size, fields[f][k].count);
    if (plain) get_words(src, r, block + p->head, (size_t)p->bits * p->block_chunks);
    if (f == KERN_Q8_0)
        for (size_t i = 0; i < 32; i++) block[Q8_0_QS + i] ^= 128;
    for (size_t c = 0; !plain && c < p->block_chunks; c++, src += 64 * p->bits) {
        uint8_t plane[32];
        get_words(src, r, plane, p->bits);
        for (size_t i = 0; i < 32; i++) put_kquant_code(f, block, c, i, plane_code(plane, p->bits, i));
    }
}

void kern_panel_get(kern_format f, const uint8_t *panel, size_t row_bytes, size_t n_chunks, uint32_t group, size_t r, uint8_t *row) {
    const panel_form *p = &panel_forms[f];
    if (p->block_chunks == 0) {
        size_t n_groups = div_up(32 * n_chunks, group);
        panel = get_field(panel, r, row, 2, 1);
        panel = get_field(panel, r, row + 2, 1, n_groups);
        get_words(panel, r, row + 2 + n_groups, n_chunks * p->bits);
        return;
    }
    const size_t block_bytes = p->head + 4u * p->bits * p->block_chunks;
    for (size_t at = 0; at + block_bytes <= row_bytes; at += block_bytes) get_block(f, panel + at * ROWS, r, row + at);
}

size_t kern_panel_scratch_bytes(size_t n_chunks) { return n_chunks * (8 * 64 + 2 * 2 * ROWS * sizeof(float)); }
