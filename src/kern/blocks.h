/* Layouts of the block formats: ggml's structs as byte offsets (payload bytes need no alignment), and the tables that both
 * the reference and the vector levels read. */
#ifndef KERN_BLOCKS_H
#define KERN_BLOCKS_H
#include <stdint.h>

#include "kern/kern.h"

/* | d: f16 | qs |        32 weights */
enum { Q8_0_BYTES = 34, Q8_0_QS = 2 };
enum { Q4_0_BYTES = 18, Q4_0_QS = 2 };   /* weight i: low nibble of qs[i] for i < 16, high nibble of qs[i - 16] else */
enum { IQ4_NL_BYTES = 18, IQ4_NL_QS = 2 };

/* 256 weights: 8 sub-blocks of 32, or 16 of 16 */
enum { Q2_K_BYTES = 84, Q2_K_SCALES = 0, Q2_K_QS = 16, Q2_K_D = 80, Q2_K_DMIN = 82 };
enum { Q3_K_BYTES = 110, Q3_K_HMASK = 0, Q3_K_QS = 32, Q3_K_SCALES = 96, Q3_K_D = 108 };
enum { Q4_K_BYTES = 144, Q4_K_D = 0, Q4_K_DMIN = 2, Q4_K_SCALES = 4, Q4_K_QS = 16 };
enum { Q5_K_BYTES = 176, Q5_K_D = 0, Q5_K_DMIN = 2, Q5_K_SCALES = 4, Q5_K_QH = 16, Q5_K_QS = 48 };
enum { Q6_K_BYTES = 210, Q6_K_QL = 0, Q6_K_QH = 128, Q6_K_SCALES = 192, Q6_K_D = 208 };
/* ternary, code = q + 1. tq2_0: pairs of bits, where q2_k has them. tq1_0: base-3 digits, place as below */
enum { TQ1_0_BYTES = 54, TQ1_0_QS = 0, TQ1_0_QH = 48, TQ1_0_D = 52 };
enum { TQ2_0_BYTES = 66, TQ2_0_QS = 0, TQ2_0_D = 64 };
/* | s: f32 | q |      32 weights; and with two numbers before q */
enum { CODES_BYTES = 36, CODES_Q = 4, CODES_PAIR_BYTES = 40, CODES_PAIR_Q = 8 };
enum { IQ4_XS_BYTES = 136, IQ4_XS_D = 0, IQ4_XS_SCALES_H = 2, IQ4_XS_SCALES_L = 4, IQ4_XS_QS = 8 };

static const int8_t kern_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* tq1_0: weight i of a block is a digit of one of the 52 bytes before d. Five digits are in each of the first 48 (of 32 bytes for the first 160
 * weights, of 16 for the next 80), four in each of the last four. */
typedef struct tq1_place { uint8_t byte, digit; } tq1_place;
static inline tq1_place tq1_place_of(unsigned i) {
    const unsigned run = i < 160 ? 32 : i < 240 ? 16 : 4, first = i < 160 ? 0 : i < 240 ? 160 : 240;
    return (tq1_place){(uint8_t)((run == 32 ? 0 : run == 16 ? 32 : TQ1_0_QH) + (i - first) % run), (uint8_t)((i - first) / run)};
}
/* Read as a fraction x / 256 a byte's first digit is the integer part of 3 x; the others follow. Any byte has digits 0 .. 2. */
static inline unsigned tq1_digit(unsigned x, unsigned digit) {
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    return 3 * (x * power[digit] & 255) >> 8;
}

/* intBgG: E[e], rounded from 2^(-e/8) for e <= 16, 2^(-2 - (e - 16)/3) above, 0 for e = 31. */
static const float kern_int_scale[32] = {
    1,                0x1.d5818ep-1f,   0x1.ae89fap-1f,   0x1.8ace54p-1f,   0x1.6a09e6p-1f,   0x1.4bfdaep-1f,   0x1.306fe0p-1f,
    0x1.172b84p-1f,   0x1p-1f,          0x1.d5818ep-2f,   0x1.ae89fap-2f,   0x1.8ace54p-2f,   0x1.6a09e6p-2f,   0x1.4bfdaep-2f,
    0x1.306fe0p-2f,   0x1.172b84p-2f,   0x1p-2f,          0x1.965feap-3f,   0x1.428a30p-3f,   0x1p-3f,          0x1.965feap-4f,
    0x1.428a30p-4f,   0x1p-4f,          0x1.965feap-5f,   0x1.428a30p-5f,   0x1p-5f,          0x1.965feap-6f,   0x1.428a30p-6f,
    0x1p-6f,          0x1.965feap-7f,   0x1.428a30p-7f,   0};
/* The offset's step t 2^(B-5), t = 1 for B <= 3, 13/16 above: exact. */
static inline float kern_int_offset_step(unsigned bits) { return (bits <= 3 ? 1.0f : 0.8125f) * (float)(1u << bits) * 0x1p-5f; }
static inline float kern_int_offset(unsigned z, unsigned bits, uint32_t group) {
    return group & KERN_CENTRED ? 0 : (float)((int)z - 4) * kern_int_offset_step(bits) + 0.5f;
}
#endif
