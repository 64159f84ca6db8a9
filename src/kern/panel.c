/* Row-major blocks to panels (kern/panel.h) and back. Written once in plain C for all levels, packing on
 * vectors of 16 words, which the compiler makes of what there is. */
#include "kern/panel.h"

#include "base/checked.h"
#include "kern/blocks.h"

#include <string.h>

enum { ROWS = KERN_PANEL_ROWS };

/* Vectors of 16 words stay inside functions, so the ABI note does not apply. Compiled for what x86 processors have; ifunc resolvers run
 * before the sanitizers are ready. */
#pragma GCC diagnostic ignored "-Wpsabi"
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define PANEL_CLONES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default"), noinline))
#else
#define PANEL_CLONES __attribute__((noinline))
#endif

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
    [KERN_TQ1_0] = {{TQ1_0_D, 2, 1}},
    [KERN_TQ2_0] = {{TQ2_0_D, 2, 1}},
    [KERN_CODES] = {{0, 4, 1}},
    [KERN_CODES16] = {{0, 4, 2}},
    [KERN_CODES_MIN] = {{0, 4, 2}},
    [KERN_IQ4_XS] = {{IQ4_XS_D, 2, 1}, {IQ4_XS_SCALES_H, 2, 1}, {IQ4_XS_SCALES_L, 1, 4}},
};

/* size 1, 2 or 4 */
KERN_INLINE uint8_t *put_field(uint8_t *dst, size_t r, const uint8_t *src, size_t size, size_t count) {
#pragma GCC unroll 16
    for (size_t k = 0; k < count; k++) {
        if (size == 1) dst[k * ROWS + r] = src[k];
        else if (size == 2) memcpy(dst + 2 * (k * ROWS + r), src + 2 * k, 2);
        else memcpy(dst + 4 * (k * ROWS + r), src + 4 * k, 4);
    }
    return dst + ROWS * size * count;
}

typedef uint32_t v4u __attribute__((vector_size(16)));
typedef uint32_t word_set __attribute__((vector_size(64))); /* the same word of 16 rows */
KERN_INLINE v4u load_words(const uint8_t *p) { v4u v; memcpy(&v, p, sizeof v); return v; }

/* Words of 16 rows, n_words of each from its pointer on, to n_words word sets: transposed four by four. Readable: whole fours of words.
 * flip: bits to be turned. */
KERN_INLINE void put_words(uint8_t *dst, const uint8_t *const row[ROWS], size_t n_words, uint32_t flip) {
    const v4u f = {flip, flip, flip, flip};
    for (size_t w = 0; w < n_words; w += 4)
#pragma GCC unroll 4
        for (size_t r = 0; r < ROWS; r += 4) {
            v4u a = load_words(row[r] + 4 * w), b = load_words(row[r + 1] + 4 * w), c = load_words(row[r + 2] + 4 * w), d = load_words(row[r + 3] + 4 * w);
            v4u ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
            v4u ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7), cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
            v4u set[4] = {__builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
                          __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5), __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7)};
            for (size_t i = 0; i < 4 && w + i < n_words; i++) {
                v4u x = set[i] ^ f;
                memcpy(dst + 64 * (w + i) + 4 * r, &x, sizeof x);
            }
        }
}

/* Where a k-quant's block, or tq2_0's, has its codes: words of their low bits, and of the bits above them. */
typedef struct code_bytes { uint8_t low, low_words, high, high_words; } code_bytes;
static const code_bytes kquant_codes[KERN_INT2] = {
    [KERN_Q2_K] = {Q2_K_QS, 16, 0, 0},
    [KERN_Q3_K] = {Q3_K_QS, 16, Q3_K_HMASK, 8},
    [KERN_Q4_K] = {Q4_K_QS, 32, 0, 0},
    [KERN_Q5_K] = {Q5_K_QS, 32, Q5_K_QH, 8},
    [KERN_Q6_K] = {Q6_K_QL, 32, Q6_K_QH, 16},
    [KERN_TQ2_0] = {TQ2_0_QS, 16, 0, 0},
};

/* Formats whose rows have the words of a plane already, behind the header. */
KERN_INLINE bool is_plain(kern_format f) { return panel_forms[f].table || panel_forms[f].bits == 8 || f == KERN_Q4_0; }

/* Field of `bits` bits of every byte. */
KERN_INLINE word_set field_of(const word_set *from, size_t shift, unsigned bits) { return *from >> (uint32_t)shift & ((1u << bits) - 1) * 0x01010101u; }

/* The planes of chunk c, from the block's words of 16 rows. Word j of a chunk: columns 4 j .. 4 j + 3. */
KERN_INLINE void put_planes(kern_format f, const word_set *low, const word_set *high, size_t c, uint8_t *dst) {
    const unsigned bits = panel_forms[f].bits;
    word_set set[8] = {{0}}, *four = set, *two = four + (bits & 4), *one = two + (bits & 2);
    if (bits & 4) low += f == KERN_Q6_K ? 16 * (c / 4) + 8 * (c % 2) : 8 * (c / 2);
#pragma GCC unroll 8
    for (size_t j = 0; j < 8; j++) {
        if (bits & 4) four[j % 4] |= field_of(low + j, f == KERN_Q6_K ? 4 * (c % 4 / 2) : 4 * (c % 2), 4) << (uint32_t)(4 * (j / 4));
        if (bits & 2) two[j % 2] |= field_of((bits & 4 ? high : low) + 8 * (c / 4) + j, 2 * (c % 4), 2) << (uint32_t)(2 * (j / 2));
        if (bits & 1) one[0] |= field_of(high + j, c, 1) << (uint32_t)j;
    }
    memcpy(dst, set, 64 * bits);
}

/* 16 rows' blocks of a ggml format; dst: the panel's block. */
KERN_INLINE void put_block(kern_format f, const uint8_t *const block[ROWS], uint8_t *dst) {
    const panel_form *p = &panel_forms[f];
#pragma GCC unroll 3
    for (int k = 0; k < 3; k++) {
        uint8_t *end = dst;
        for (size_t r = 0; r < ROWS; r++) end = put_field(dst, r, block[r] + fields[f][k].from, fields[f][k].size, fields[f][k].count);
        dst = end;
    }
    const uint8_t *from[ROWS];
    if (is_plain(f)) { /* the words stand as in a plane already */
        for (size_t r = 0; r < ROWS; r++) from[r] = block[r] + p->head;
        put_words(dst, from, (size_t)p->bits * p->block_chunks, p->bits == 8 ? 0x80808080u : 0);
        return;
    }
    if (p->digits) { /* whole fours of 13 words: the last four again reach back */
        for (size_t r = 0; r < ROWS; r++) from[r] = block[r];
        put_words(dst, from, PANEL_DIGIT_WORDS - 1, 0);
        for (size_t r = 0; r < ROWS; r++) from[r] += 4 * (PANEL_DIGIT_WORDS - 4);
        put_words(dst + 64 * (PANEL_DIGIT_WORDS - 4), from, 4, 0);
        return;
    }
    const code_bytes *k = &kquant_codes[f];
    word_set low[32], high[16];
    for (size_t r = 0; r < ROWS; r++) from[r] = block[r] + k->low;
    put_words((uint8_t *)low, from, k->low_words, 0);
    for (size_t r = 0; r < ROWS; r++) from[r] = block[r] + k->high;
    put_words((uint8_t *)high, from, k->high_words, 0);
#pragma GCC unroll 8
    for (size_t c = 0; c < p->block_chunks; c++) put_planes(f, low, high, c, dst + 64 * p->bits * c);
}

KERN_INLINE void put_blocks(kern_format f, const uint8_t *rows, size_t row_bytes, size_t n_rows, uint8_t *panel) {
    static const uint8_t zeros[256];
    const panel_form *p = &panel_forms[f];
    const size_t block_bytes = p->head + panel_code_bytes(*p);
    for (size_t at = 0; at + block_bytes <= row_bytes; at += block_bytes) {
        const uint8_t *block[ROWS];
        for (size_t r = 0; r < ROWS; r++) block[r] = r < n_rows ? rows + r * row_bytes + at : zeros;
        put_block(f, block, panel + at * ROWS);
    }
}

/* An int row's bytes stand in the panel's order already. */
static void put_int_rows(kern_format f, size_t n_chunks, uint32_t group, const uint8_t *rows, size_t row_bytes, size_t n_rows, uint8_t *panel) {
    const size_t n_groups = div_up(32 * n_chunks, kern_int_group(group)), head = 2 + n_groups, n_words = n_chunks * panel_forms[f].bits;
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *row = rows + r * row_bytes;
        put_field(put_field(panel, r, row, 2, 1), r, row + 2, 1, n_groups);
    }
    const uint8_t *from[ROWS];
    panel += ROWS * head;
    const size_t fours = n_rows == ROWS ? n_words / 4 * 4 : 0;
    for (size_t r = 0; r < n_rows; r++) from[r] = rows + r * row_bytes + head;
    if (fours) put_words(panel, from, fours, 0);
    for (size_t r = 0; r < n_rows; r++)
        for (size_t w = fours; w < n_words; w++) memcpy(panel + 4 * (ROWS * w + r), from[r] + 4 * w, 4);
}

PANEL_CLONES static void pack(kern_format f, const uint8_t *rows, size_t row_bytes, size_t n_rows, size_t n_chunks, uint32_t group, uint8_t *panel) {
    switch (f) { /* each its own code */
    case KERN_CODES: put_blocks(KERN_CODES, rows, row_bytes, n_rows, panel); return;
    case KERN_CODES16: put_blocks(KERN_CODES16, rows, row_bytes, n_rows, panel); return;
    case KERN_CODES_MIN: put_blocks(KERN_CODES_MIN, rows, row_bytes, n_rows, panel); return;
    case KERN_Q8_0: put_blocks(KERN_Q8_0, rows, row_bytes, n_rows, panel); return;
    case KERN_Q4_0: put_blocks(KERN_Q4_0, rows, row_bytes, n_rows, panel); return;
    case KERN_IQ4_NL: put_blocks(KERN_IQ4_NL, rows, row_bytes, n_rows, panel); return;
    case KERN_Q2_K: put_blocks(KERN_Q2_K, rows, row_bytes, n_rows, panel); return;
    case KERN_Q3_K: put_blocks(KERN_Q3_K, rows, row_bytes, n_rows, panel); return;
    case KERN_Q4_K: put_blocks(KERN_Q4_K, rows, row_bytes, n_rows, panel); return;
    case KERN_Q5_K: put_blocks(KERN_Q5_K, rows, row_bytes, n_rows, panel); return;
    case KERN_Q6_K: put_blocks(KERN_Q6_K, rows, row_bytes, n_rows, panel); return;
    case KERN_IQ4_XS: put_blocks(KERN_IQ4_XS, rows, row_bytes, n_rows, panel); return;
    case KERN_TQ1_0: put_blocks(KERN_TQ1_0, rows, row_bytes, n_rows, panel); return;
    case KERN_TQ2_0: put_blocks(KERN_TQ2_0, rows, row_bytes, n_rows, panel); return;
    default: break;
    }
    if (n_rows < ROWS) memset(panel, 0, ROWS * row_bytes);
    put_int_rows(f, n_chunks, group, rows, row_bytes, n_rows, panel);
}

void kern_panel_pack(kern_format f, const uint8_t *rows, size_t row_bytes, size_t n_rows, size_t n_chunks, uint32_t group, uint8_t *panel) {
    pack(f, rows, row_bytes, n_rows, n_chunks, group, panel);
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

/* Code i of chunk c into a block of a k-quant or of tq2_0, whose codes are zero so far. */
static void put_kquant_code(kern_format f, uint8_t *block, size_t c, size_t i, unsigned u) {
    const unsigned low2 = (u & 3) << 2 * (c % 4), low4 = (u & 15) << 4 * (c % 2);
    if (f == KERN_Q2_K) block[Q2_K_QS + 32 * (c / 4) + i] |= (uint8_t)low2;
    if (f == KERN_TQ2_0) block[TQ2_0_QS + 32 * (c / 4) + i] |= (uint8_t)low2;
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
    const bool plain = is_plain(f); /* header first, then the chunks' words as they are */
    if (!plain) memset(block, 0, p->head + panel_code_bytes(*p));
    for (int k = 0; k < 3; k++) src = get_field(src, r, block + fields[f][k].from, fields[f][k].size, fields[f][k].count);
    if (plain) get_words(src, r, block + p->head, (size_t)p->bits * p->block_chunks);
    if (p->digits) {
        get_words(src, r, block, PANEL_DIGIT_WORDS);
        return;
    }
    if (p->bits == 8)
        for (size_t i = 0; i < 32; i++) block[p->head + i] ^= 128;
    for (size_t c = 0; !plain && c < p->block_chunks; c++, src += 64 * p->bits) {
        uint8_t plane[32];
        get_words(src, r, plane, p->bits);
        for (size_t i = 0; i < 32; i++) put_kquant_code(f, block, c, i, plane_code(plane, p->bits, i));
    }
}

void kern_panel_get(kern_format f, const uint8_t *panel, size_t row_bytes, size_t n_chunks, uint32_t group, size_t r, uint8_t *row) {
    const panel_form *p = &panel_forms[f];
    if (p->block_chunks == 0) {
        size_t n_groups = div_up(32 * n_chunks, kern_int_group(group));
        panel = get_field(panel, r, row, 2, 1);
        panel = get_field(panel, r, row + 2, 1, n_groups);
        get_words(panel, r, row + 2 + n_groups, n_chunks * p->bits);
        return;
    }
    const size_t block_bytes = p->head + panel_code_bytes(*p);
    for (size_t at = 0; at + block_bytes <= row_bytes; at += block_bytes) get_block(f, panel + at * ROWS, r, row + at);
}

/* Codes; scales and offsets of groups of 32, and what kern/avx2/panel_tile.h makes of 8 bits: more than those of groups of 16. */
size_t kern_panel_scratch_bytes(size_t n_chunks) { return n_chunks * (8 * 64 + 2 * ROWS * sizeof(float) + 9 * 64); }
