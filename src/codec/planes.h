/* A chunk: 32 signed codes of B = 2 .. 8 bits as planes of 4, 2 and 1 bits (docs/format.md 3.3), 4 B bytes. */
#ifndef CODEC_PLANES_H
#define CODEC_PLANES_H
#include <stdint.h>
#include <string.h>

static inline void planes_pack(const int8_t *q, unsigned bits, uint8_t *dst) {
    unsigned half = 1u << (bits - 1);
    if (bits == 8) {
        for (unsigned i = 0; i < 32; i++) dst[i] = (uint8_t)((unsigned)q[i] + half);
        return;
    }
    uint8_t *p2 = dst + (bits & 4 ? 16 : 0), *p1 = p2 + (bits & 2 ? 8 : 0);
    memset(dst, 0, 4 * bits);
    for (unsigned i = 0; i < 32; i++) {
        unsigned c = (unsigned)q[i] + half;
        if (bits & 4) dst[i % 16] |= (uint8_t)((c & 15) << 4 * (i / 16)), c >>= 4;
        if (bits & 2) p2[i % 8] |= (uint8_t)((c & 3) << 2 * (i / 8)), c >>= 2;
        if (bits & 1) p1[i % 4] |= (uint8_t)((c & 1) << i / 4);
    }
}

/* Words of bytes: byte i of a plane's word gives byte i of several words of codes. */
static inline void planes_unpack(const uint8_t *src, unsigned bits, int8_t q[32]) {
    uint8_t c[32] = {0};
    unsigned at = 0;
    if (bits == 8) memcpy(c, src, 32);
    if (bits & 4) {
        for (unsigned i = 0; i < 16; i++) c[i] = src[i] & 15, c[i + 16] = src[i] >> 4;
        src += 16, at = 4;
    }
    if (bits & 2) {
        uint64_t plane, word[4];
        memcpy(&plane, src, 8), memcpy(word, c, 32);
        for (unsigned j = 0; j < 4; j++) word[j] |= (plane >> 2 * j & 0x0303030303030303) << at;
        memcpy(c, word, 32);
        src += 8, at += 2;
    }
    if (bits & 1) {
        uint32_t plane, word[8];
        memcpy(&plane, src, 4), memcpy(word, c, 32);
        for (unsigned j = 0; j < 8; j++) word[j] |= (plane >> j & 0x01010101) << at;
        memcpy(c, word, 32);
    }
    for (unsigned i = 0; i < 32; i++) q[i] = (int8_t)(c[i] - (1 << (bits - 1)));
}
#endif
