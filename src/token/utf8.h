/* UTF-8 at the trust boundary: well-formedness as RFC 3629 has it (no overlong forms, no surrogates, nothing above U+10FFFF),
 * decoding of text that is known to be well-formed, and the two character classes that the added-token rules need. */
#ifndef TOKEN_UTF8_H
#define TOKEN_UTF8_H
#include "base/buf.h"
#include <string.h>

/* Length 1..4 of the well-formed sequence at p (n bytes left), 0 if there is none. */
static inline size_t utf8_sequence(const uint8_t *p, size_t n) {
    if (n == 0) return 0;
    uint8_t c = p[0];
    if (c < 0x80) return 1;
    if (c < 0xC2 || c > 0xF4) return 0;
    if (n < 2) return 0;
    uint8_t lo = 0x80, hi = 0xBF; /* bounds of the second byte exclude overlong forms, surrogates, > U+10FFFF */
    if (c == 0xE0) lo = 0xA0;
    if (c == 0xED) hi = 0x9F;
    if (c == 0xF0) lo = 0x90;
    if (c == 0xF4) hi = 0x8F;
    if (p[1] < lo || p[1] > hi) return 0;
    if (c < 0xE0) return 2;
    if (n < 3 || (p[2] & 0xC0) != 0x80) return 0;
    if (c < 0xF0) return 3;
    if (n < 4 || (p[3] & 0xC0) != 0x80) return 0;
    return 4;
}

/* Length of the character that starts with c, in well-formed text. */
static inline size_t utf8_length(uint8_t c) { return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4; }

/* Decodes one character of well-formed text. */
static inline uint32_t utf8_decode(const uint8_t *p) {
    if (p[0] < 0x80) return p[0];
    if (p[0] < 0xE0) return (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3F);
    if (p[0] < 0xF0) return (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3F);
    return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3F) << 12 | (uint32_t)(p[2] & 0x3F) << 6 | (p[3] & 0x3F);
}

/* Writes 1..4 bytes; returns how many. */
static inline size_t utf8_encode(uint32_t c, uint8_t *p) {
    if (c < 0x80) {
        p[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        p[0] = (uint8_t)(0xC0 | c >> 6);
        p[1] = (uint8_t)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        p[0] = (uint8_t)(0xE0 | c >> 12);
        p[1] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        p[2] = (uint8_t)(0x80 | (c & 0x3F));
        return 3;
    }
    p[0] = (uint8_t)(0xF0 | c >> 18);
    p[1] = (uint8_t)(0x80 | (c >> 12 & 0x3F));
    p[2] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
    p[3] = (uint8_t)(0x80 | (c & 0x3F));
    return 4;
}

/* First place of k > 0 bytes in n bytes, NULL if there is none. Not memmem: under AddressSanitizer that walks the whole rest of the text
 * at every call, which makes replacing in a long text quadratic. */
static inline void *bytes_find(const void *p, size_t n, const void *what, size_t k) {
    const uint8_t *at = p;
    while (n >= k) {
        const uint8_t *hit = memchr(at, *(const uint8_t *)what, n - k + 1);
        if (!hit || memcmp(hit, what, k) == 0) return (void *)hit;
        n -= (size_t)(hit + 1 - at);
        at = hit + 1;
    }
    return NULL;
}

/* Bytes up to the first that is not well-formed; n when all of it is. */
size_t utf8_valid_prefix(const uint8_t *p, size_t n);
/* Appends p to out with each byte that belongs to no well-formed sequence replaced by U+FFFD (three bytes), one for one. */
bool utf8_sanitize(const uint8_t *p, size_t n, buf *out);
/* Unicode White_Space. */
bool utf8_is_space(uint32_t c);
/* A word character: Alphabetic, Mark, Decimal_Number, Connector_Punctuation, Join_Control (UTS 18, annex C). */
bool utf8_is_word(uint32_t c);
#endif
