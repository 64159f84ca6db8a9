/* Base64, strict: four characters are three bytes, the last group is padded, unused bits are zero. */
#include "token/base64.h"

static int value_of(char c) {
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

bool base64_decode(const char *text, size_t n, buf *out) {
    if (n % 4 || !buf_reserve(out, n / 4 * 3)) return false;
    for (size_t i = 0; i < n; i += 4) {
        size_t pad = i + 4 < n || text[i + 3] != '=' ? 0 : text[i + 2] == '=' ? 2 : 1;
        uint32_t group = 0;
        for (size_t k = 0; k < 4; k++) {
            int v = k < 4 - pad ? value_of(text[i + k]) : 0;
            if (v < 0) return false;
            group = group << 6 | (uint32_t)v;
        }
        if (group & ((1u << 8 * pad) - 1)) return false;
        uint8_t byte[3] = {(uint8_t)(group >> 16), (uint8_t)(group >> 8), (uint8_t)group};
        if (!buf_append(out, byte, 3 - pad)) return false;
    }
    return true;
}

bool base64_encode(const void *bytes, size_t n, buf *out) {
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i += 3) {
        size_t k = n - i < 3 ? n - i : 3;
        uint32_t group = (uint32_t)p[i] << 16 | (k > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (k > 2 ? p[i + 2] : 0);
        char c[4] = {digit[group >> 18], digit[group >> 12 & 63], digit[group >> 6 & 63], digit[group & 63]};
        for (size_t j = k + 1; j < 4; j++) c[j] = '=';
        if (!buf_append(out, c, 4)) return false;
    }
    return true;
}
