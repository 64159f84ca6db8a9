/* Growable byte buffer: doubles, so that n appended bytes cost O(n); multi-byte numbers are written byte by byte and are
 * little endian on any machine. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool buf_reserve(buf *b, size_t extra) {
    size_t need;
    if (__builtin_add_overflow(b->len, extra, &need)) return false;
    if (need <= b->cap) return true;
    size_t cap = b->cap < 128 ? 256 : b->cap;
    while (cap < need) {
        if (__builtin_mul_overflow(cap, (size_t)2, &cap)) {
            cap = need;
            break;
        }
    }
    uint8_t *p = realloc(b->data, cap);
    if (!p && cap > need) p = realloc(b->data, cap = need); /* the exact size may still fit */
    if (!p) return false;
    b->data = p;
    b->cap = cap;
    return true;
}

bool buf_append(buf *b, const void *src, size_t n) {
    if (!buf_reserve(b, n)) return false;
    if (n) memcpy(b->data + b->len, src, n);
    b->len += n;
    return true;
}

bool buf_append_str(buf *b, const char *s) { return buf_append(b, s, strlen(s)); }

bool buf_append_u32(buf *b, uint32_t v) {
    uint8_t p[4];
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
    return buf_append(b, p, sizeof p);
}

bool buf_append_u64(buf *b, uint64_t v) {
    uint8_t p[8];
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(v >> 8 * i);
    return buf_append(b, p, sizeof p);
}

bool buf_printf(buf *b, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    bool ok = n >= 0 && buf_reserve(b, (size_t)n + 1); /* + the NUL, which is not counted in len */
    if (ok) {
        vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return ok;
}

bool buf_pad(buf *b, size_t align) {
    size_t n = align ? (align - b->len % align) % align : 0;
    if (!buf_reserve(b, n)) return false;
    if (n) memset(b->data + b->len, 0, n);
    b->len += n;
    return true;
}

void buf_fini(buf *b) {
    free(b->data);
    *b = (buf){0};
}
