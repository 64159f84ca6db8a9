/* ggml's iq types of one, two and three bits, read. Codes are indices into grids: eight weights at a time are a point of a set in eight dimensions
 * (iq1, iq2) or two points of one in four (iq3), their magnitudes; signs stand apart. Blocks of 256 weights, chunks c = 0 .. 7 of 32, f16 d:
 *
 *     iq2_xxs,  66 bytes:  | d | 8 x (4 indices, u32: 4 x 7 signs, 4 bits ls) |                                    w = d (ls + 1/2) / 4 (8, 25, 43)
 *     iq2_xs,   74 bytes:  | d | 32 x u16: index of 9 bits, 7 signs | 8 x 2 nibbles ls, of 16 weights |             the same
 *     iq2_s,    82 bytes:  | d | 32 indices | 32 x 8 signs | 8 x 4 pairs of bits above the indices | 8 x 2 ls |     the same
 *     iq3_xxs,  98 bytes:  | d | 64 indices | 8 x u32: 4 x 7 signs, ls |                                            w = d (ls + 1/2) / 2 (4 .. 62)
 *     iq3_s,   110 bytes:  | d | 64 indices | 8 x 8 bits above them | 32 x 8 signs | 8 nibbles ls |                w = d (2 ls + 1) (1, 3 .. 15)
 *     iq1_s,    50 bytes:  | d | 32 indices | 8 x u16: 4 x 3 bits above them, 3 of ls, 1 of the offset |            w = d (2 ls + 1) (-1, 0, 1, +- 1/8)
 *     iq1_m,    56 bytes:  | 32 indices | 32 nibbles: 3 bits above them, 1 of the offset | 4 x u16: 4 x 3 bits ls, of 16 weights; the top nibbles are d |
 *
 * Seven signs are eight whose number of minus signs is even. All products are exact in f32, so any order of them gives ggml's bits. Source: ggml-quants.c. */
#include "codec/read_only.h"

#include <pthread.h>
#include <string.h>

#include "base/f16.h"
#include "kern/blocks.h"

enum { CHUNKS = 8, OF_IQ1 = 8 /* q of iq1 is in eighths */ };
typedef int8_t eight __attribute__((vector_size(8))); /* weights */
typedef int8_t four __attribute__((vector_size(4)));

static eight iq2_xxs[256], iq2_xs[512], iq2_s[1024], iq1[2048], minus[256]; /* minus: 0 or -1 after each bit */
static four iq3_xxs[256], iq3_s[512];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* The n points of a set, `dims` digits of `base` each, as the values of the digits, in rising order. */
static void fill(const uint64_t *set, unsigned base, unsigned dims, const int8_t *values, size_t n, int8_t *points) {
    for (unsigned at = 0, found = 0; found < n; at++) {
        if (!(set[at / 64] >> at % 64 & 1)) continue;
        for (unsigned i = 0, digits = at; i < dims; i++, digits /= base) points[dims * found + i] = values[digits % base];
        found++;
    }
}

static void make_grids(void) {
    static const int8_t v2[3] = {8, 25, 43}, v1[3] = {-OF_IQ1, 0, OF_IQ1}, v3_xxs[8] = {4, 12, 20, 28, 36, 44, 52, 62}, v3_s[8] = {1, 3, 5, 7, 9, 11, 13, 15};
    fill(iq2_xxs_points, 3, 8, v2, 256, (int8_t *)iq2_xxs);
    fill(iq2_xs_points, 3, 8, v2, 512, (int8_t *)iq2_xs);
    fill(iq2_s_points, 3, 8, v2, 1024, (int8_t *)iq2_s);
    fill(iq1_points, 3, 8, v1, 2048, (int8_t *)iq1);
    fill(iq3_xxs_points, 8, 4, v3_xxs, 256, (int8_t *)iq3_xxs);
    fill(iq3_s_points, 8, 4, v3_s, 512, (int8_t *)iq3_s);
    for (unsigned b = 0; b < 256; b++)
        for (unsigned i = 0; i < 8; i++) minus[b][i] = (int8_t)-(int)(b >> i & 1);
}

/* ---- pieces ---- */

static float half(const uint8_t *p) { return f16_to_f32(read_u16(p)); }
static unsigned with_parity(unsigned seven) { return seven | (unsigned)__builtin_parity(seven) << 7; }

static void put(int8_t *q, eight magnitude, unsigned signs) {
    const eight m = minus[signs], w = (magnitude ^ m) - m;
    memcpy(q, &w, sizeof w);
}
static void put_fours(int8_t *q, four a, four b, unsigned signs) {
    eight both;
    memcpy(&both, &a, sizeof a);
    memcpy((int8_t *)&both + 4, &b, sizeof b);
    put(q, both, signs);
}
static int8_t *put_scale(uint8_t *chunk, float s) {
    memcpy(chunk, &s, sizeof s);
    return (int8_t *)chunk + CODES_Q;
}
static int8_t *put_scales(uint8_t *chunk, float s0, float s1) {
    memcpy(chunk, &s0, sizeof s0);
    memcpy(chunk + sizeof s0, &s1, sizeof s1);
    return (int8_t *)chunk + CODES_PAIR_Q;
}
/* Both halves' scales of an iq2 chunk. */
static int8_t *put_nibbles(uint8_t *chunk, float d, unsigned byte) {
    return put_scales(chunk, d * (0.5f + (float)(byte & 15)) * 0.25f, d * (0.5f + (float)(byte >> 4)) * 0.25f);
}
static void put_iq1(int8_t *q, unsigned index, bool less) {
    const eight w = iq1[index] + (int8_t)(less ? -1 : 1);
    memcpy(q, &w, sizeof w);
}

/* ---- blocks ---- */

static void iq2_xxs_unpack(const uint8_t *b, uint8_t *chunk) {
    pthread_once(&once, make_grids);
    const float d = half(b);
    for (size_t c = 0; c < CHUNKS; c++, chunk += CODES_BYTES) {
        const uint8_t *index = b + 2 + 8 * c;
        const uint32_t rest = read_u32(index + 4);
        int8_t *q = put_scale(chunk, d * (0.5f + (float)(rest >> 28)) * 0.25f);
        for (unsigned j = 0; j < 4; j++) put(q + 8 * j, iq2_xxs[index[j]], with_parity(rest >> 7 * j & 127));
    }
}

static void iq2_xs_unpack(const uint8_t *b, uint8_t *chunk) {
    pthread_once(&once, make_grids);
    const float d = half(b);
    for (size_t c = 0; c < CHUNKS; c++, chunk += CODES_PAIR_BYTES) {
        int8_t *q = put_nibbles(chunk, d, b[66 + c]);
        for (size_t j = 0; j < 4; j++) {
            const unsigned code = read_u16(b + 2 + 8 * c + 2 * j);
            put(q + 8 * j, iq2_xs[code & 511], with_parity(code >> 9));
        }
    }
}

static void iq2_s_unpack(const uint8_t *b, uint8_t *chunk) {
    const uint8_t *index = b + 2, *signs = b + 34, *high = b + 66;
    pthread_once(&once, make_grids);
    for (size_t c = 0; c < CHUNKS; c++, chunk += CODES_PAIR_BYTES) {
        int8_t *q = put_nibbles(chunk, half(b), b[74 + c]);
        for (size_t j = 0; j < 4; j++) put(q + 8 * j, iq2_s[index[4 * c + j] | (high[c] >> 2 * j & 3u) << 8], signs[4 * c + j]);
    }
}

static void iq3_xxs_unpack(const uint8_t *b, uint8_t *chunk) {
    pthread_once(&once, make_grids);
    for (size_t c = 0; c < CHUNKS; c++, chunk += CODES_BYTES) {
        const uint8_t *index = b + 2 + 8 * c;
        const uint32_t rest = read_u32(b + 66 + 4 * c);
        int8_t *q = put_scale(chunk, half(b) * (0.5f + (float)(rest >> 28)) * 0.5f);
        for (unsigned j = 0; j < 4; j++) put_fours(q + 8 * j, iq3_xxs[index[2 * j]], iq3_xxs[index[2 * j + 1]], with_parity(rest >> 7 * j & 127));
    }
}

static void iq3_s_unpack(const uint8_t *b, uint8_t *chunk) {
    const uint8_t *high = b + 66, *signs = b + 74, *scales = b + 106;
    pthread_once(&once, make_grids);
    for (size_t c = 0; c < CHUNKS; c++, chunk += CODES_BYTES) {
        const uint8_t *index = b + 2 + 8 * c;
        int8_t *q = put_scale(chunk, half(b) * (float)(1 + 2 * (scales[c / 2] >> 4 * (c % 2) & 15)));
        for (unsigned j = 0; j < 4; j++)
            put_fours(q + 8 * j, iq3_s[index[2 * j] | (high[c] >> 2 * j & 1u) << 8], iq3_s[index[2 * j + 1] | (high[c] >> (2 * j + 1) & 1u) << 8], signs[4 * c + j]);
    }
}

static void iq1_s_unpack(const uint8_t *b, uint8_t *chunk) {
    pthread_once(&once, make_grids);
    for (size_t c = 0; c < CHUNKS; c++, chunk += CODES_BYTES) {
        const unsigned rest = read_u16(b + 34 + 2 * c);
        int8_t *q = put_scale(chunk, half(b) * (float)(2 * (rest >> 12 & 7) + 1) / OF_IQ1);
        for (size_t j = 0; j < 4; j++) put_iq1(q + 8 * j, b[2 + 4 * c + j] | (rest >> 3 * j & 7) << 8, rest >> 15);
    }
}

static void iq1_m_unpack(const uint8_t *b, uint8_t *chunk) {
    pthread_once(&once, make_grids);
    unsigned bits = 0;
    for (unsigned i = 0; i < 4; i++) bits |= (unsigned)(read_u16(b + 48 + 2 * i) >> 12) << 4 * i;
    const float d = f16_to_f32((uint16_t)bits) / OF_IQ1;
    for (size_t c = 0; c < CHUNKS; c++, chunk += CODES_PAIR_BYTES) {
        const unsigned ls = read_u16(b + 48 + c / 2 * 2) >> 6 * (c % 2);
        int8_t *q = put_scales(chunk, d * (float)(2 * (ls & 7) + 1), d * (float)(2 * (ls >> 3 & 7) + 1));
        for (size_t j = 0; j < 4; j++) {
            const unsigned rest = b[32 + 2 * c + j / 2] >> 4 * (j % 2);
            put_iq1(q + 8 * j, b[4 * c + j] | (rest & 7) << 8, rest & 8);
        }
    }
}

const read_format read_iq2_xxs = {KERN_CODES, 256, 66, iq2_xxs_unpack}, read_iq2_xs = {KERN_CODES16, 256, 74, iq2_xs_unpack},
                  read_iq2_s = {KERN_CODES16, 256, 82, iq2_s_unpack}, read_iq3_xxs = {KERN_CODES, 256, 98, iq3_xxs_unpack},
                  read_iq3_s = {KERN_CODES, 256, 110, iq3_s_unpack}, read_iq1_s = {KERN_CODES, 256, 50, iq1_s_unpack},
                  read_iq1_m = {KERN_CODES16, 256, 56, iq1_m_unpack};
