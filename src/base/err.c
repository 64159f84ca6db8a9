/* Error messages: the one place where a snug_error is filled.
 *
 * A message may quote names that a hostile file chose, so what is stored is cleaned: control characters and bytes that are
 * no UTF-8 become '?', and a message that is too long is cut at a character's border. Whoever prints it (a terminal, a JSON
 * encoder, an HTTP reply) can trust it. */
#include "base/err.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Length of the UTF-8 character at s (NUL-terminated), 0 when the bytes are no character. Overlong forms, surrogates and
 * anything above U+10FFFF are refused (RFC 3629). */
static size_t utf8_len(const unsigned char *s) {
    if (s[0] < 0x80) return 1;
    size_t n = s[0] >= 0xc2 && s[0] <= 0xdf ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0; /* stops at the NUL too */
    if (n == 3 && ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0))) return 0;
    if (n == 4 && ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90))) return 0;
    return n;
}

/* In place: the result is never longer than the input. */
static void clean(char *text) {
    unsigned char *s = (unsigned char *)text;
    while (*s) {
        size_t n = utf8_len(s);
        if (n == 0 || (n == 1 && (*s < 0x20 || *s == 0x7f)) || (n == 2 && s[0] == 0xc2 && s[1] < 0xa0)) {
            *s = '?'; /* C1 controls (U+0080..U+009F) leave their second byte behind, which becomes '?' next */
            n = 1;
        }
        s += n;
    }
}

static void format_message(snug_error *err, snug_err code, uint64_t offset, const char *fmt, va_list args) {
    char full[sizeof err->message + 512]; /* room for a long path before cutting */
    int n = vsnprintf(full, sizeof full, fmt, args);
    if (n < 0) full[0] = 0;
    size_t len = strlen(full);
    size_t cap = sizeof err->message - 1;
    if (len > cap) {
        len = cap - 3;
        while (len > 0 && ((unsigned char)full[len] & 0xc0) == 0x80) len--; /* back to a character's first byte */
        memcpy(full + len, "...", 4);
    }
    clean(full);
    err->code = code;
    err->offset = offset;
    memcpy(err->message, full, strlen(full) + 1);
}

snug_err err_set(snug_error *err, snug_err code, const char *fmt, ...) {
    if (err) {
        va_list args;
        va_start(args, fmt);
        format_message(err, code, 0, fmt, args);
        va_end(args);
    }
    return code;
}

snug_err err_at(snug_error *err, snug_err code, uint64_t offset, const char *fmt, ...) {
    if (!err) return code;
    char tail[40];
    int n_tail = snprintf(tail, sizeof tail, " at byte %llu", (unsigned long long)offset);
    va_list args;
    va_start(args, fmt);
    format_message(err, code, offset, fmt, args);
    va_end(args);
    size_t len = strlen(err->message);
    if (n_tail > 0 && len + (size_t)n_tail < sizeof err->message) memcpy(err->message + len, tail, (size_t)n_tail + 1);
    return code;
}

static void prefix_message(snug_error *err, const char *old, const char *fmt, va_list args) {
    char context[sizeof err->message];
    if (vsnprintf(context, sizeof context, fmt, args) < 0) context[0] = 0;
    err_set(err, err->code, "%s: %s", context, old);
}

snug_err err_prefix(snug_error *err, snug_err code, const char *fmt, ...) {
    if (!err) return code;
    snug_error old = *err;
    va_list args;
    va_start(args, fmt);
    err->code = code;
    prefix_message(err, old.message, fmt, args);
    va_end(args);
    err->offset = old.offset;
    return code;
}

snug_err err_nomem(snug_error *err, size_t bytes) {
    return err_set(err, SNUG_ERR_NOMEM, "out of memory: the machine refused %zu bytes", bytes);
}

const char *err_size(uint64_t bytes, char text[ERR_SIZE_MAX]) {
    static const char unit[] = " KMGTP";
    double v = (double)bytes;
    int u = 0;
    for (; v >= 1000 && unit[u + 1]; u++) v /= 1024;
    if (u == 0) snprintf(text, ERR_SIZE_MAX, "%llu bytes", (unsigned long long)bytes);
    else snprintf(text, ERR_SIZE_MAX, "%.4g%c", ceil(v * 1000) / 1000, unit[u]);
    return text;
}
