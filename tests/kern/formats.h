/* Sizes of the block formats, and intBgG written from docs/format.md: the encoder that the unpack kernels must undo. */
#ifndef TESTS_KERN_FORMATS_H
#define TESTS_KERN_FORMATS_H
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kern/kern.h"

typedef struct format_info {
    const char *name;
    uint32_t block_bytes, block; /* 0: intBgG */
    uint32_t f16_at[2];          /* where the f16 scales of a block stand; 0xffff: no second */
} format_info;

enum { NO_F16 = 0xffff };
static const format_info formats[KERN_FORMAT_COUNT] = {
    [KERN_Q8_0] = {"q8_0", 34, 32, {0, NO_F16}},    [KERN_Q4_0] = {"q4_0", 18, 32, {0, NO_F16}},
    [KERN_IQ4_NL] = {"iq4_nl", 18, 32, {0, NO_F16}}, [KERN_Q2_K] = {"q2_k", 84, 256, {80, 82}},
    [KERN_Q3_K] = {"q3_k", 110, 256, {108, NO_F16}}, [KERN_Q4_K] = {"q4_k", 144, 256, {0, 2}},
    [KERN_Q5_K] = {"q5_k", 176, 256, {0, 2}},        [KERN_Q6_K] = {"q6_k", 210, 256, {208, NO_F16}},
    [KERN_IQ4_XS] = {"iq4_xs", 136, 256, {0, NO_F16}}, [KERN_TQ1_0] = {"tq1_0", 54, 256, {52, NO_F16}},
    [KERN_TQ2_0] = {"tq2_0", 66, 256, {64, NO_F16}}, [KERN_CODES] = {"codes", 36, 32, {2, NO_F16}}, /* an f32's upper half */
    [KERN_CODES16] = {"codes16", 40, 32, {2, 6}},    [KERN_CODES_MIN] = {"codes_min", 40, 32, {2, 6}},
    [KERN_INT2] = {"int2", 0, 32, {0, 0}},
    [KERN_INT3] = {"int3", 0, 32, {0, 0}},           [KERN_INT4] = {"int4", 0, 32, {0, 0}},
    [KERN_INT5] = {"int5", 0, 32, {0, 0}},           [KERN_INT6] = {"int6", 0, 32, {0, 0}},
    [KERN_INT7] = {"int7", 0, 32, {0, 0}},           [KERN_INT8] = {"int8", 0, 32, {0, 0}},
};

static inline uint32_t int_bits(int f) { return f >= KERN_INT2 ? (uint32_t)(f - KERN_INT2 + 2) : 0; }
static inline size_t row_bytes(int f, size_t n_chunks, uint32_t group) {
    if (!int_bits(f)) return n_chunks * 32 / formats[f].block * formats[f].block_bytes;
    group = kern_int_group(group);
    return 2 + (32 * n_chunks + group - 1) / group + 4 * int_bits(f) * n_chunks;
}

/* Sets bit `bit` of the chunk that begins at p. */
static inline void put_bit(uint8_t *p, size_t bit, int value) { p[bit / 8] |= (uint8_t)(value << bit % 8); }

/* Unsigned codes c (32 * n_chunks), d (bf16) and meta bytes to a row, one bit at a time. */
static inline void int_encode(uint8_t *row, uint32_t bits, uint32_t group, size_t n_chunks, uint16_t d, const uint8_t *meta,
                              const uint8_t *codes) {
    size_t n_groups = (32 * n_chunks + kern_int_group(group) - 1) / kern_int_group(group);
    memset(row, 0, 2 + n_groups + 4 * bits * n_chunks);
    row[0] = (uint8_t)d;
    row[1] = (uint8_t)(d >> 8);
    memcpy(row + 2, meta, n_groups);
    uint8_t *p = row + 2 + n_groups;
    for (size_t k = 0; k < n_chunks; k++, p += 4 * bits)
        for (size_t i = 0; i < 32; i++) {
            unsigned c = codes[32 * k + i], used = 0;
            size_t at = 0; /* bytes */
            if (bits == 8) {
                p[i] = (uint8_t)c;
                continue;
            }
            if (bits & 4) {
                for (size_t b = 0; b < 4; b++) put_bit(p, 8 * (at + i % 16) + 4 * (i / 16) + b, c >> b & 1);
                at += 16, used = 4;
            }
            if (bits & 2) {
                for (size_t b = 0; b < 2; b++) put_bit(p, 8 * (at + i % 8) + 2 * (i / 8) + b, c >> (used + b) & 1);
                at += 8, used += 2;
            }
            if (bits & 1) put_bit(p, 8 * (at + i % 4) + i / 4, c >> used & 1);
        }
}

/* The scale and offset of a meta byte, by the formulas of the page. */
static inline void int_scale(float d, uint32_t bits, uint32_t group, uint8_t meta, float *s, float *m) {
    int i = meta >> 3;
    float e = i == 31 ? 0 : (float)exp2(i <= 16 ? -i / 8.0 : -2 - (i - 16) / 3.0);
    float o = (float)(((meta & 7) - 4) * (bits <= 3 ? 1 : 13.0 / 16) * exp2((double)bits - 5) + 0.5);
    *s = d * e;
    *m = *s * (group & KERN_CENTRED ? 0 : o);
}
#endif
