/* Decoders: what a token means as bytes. All steps but the ones that look at a whole text (Strip after Fuse,
 * Metaspace's first token) work on one token at a time, so a text is its tokens' bytes one after the other.
 *
 * `tokenizers` turns byte tokens that do not form UTF-8 into U+FFFD; here the bytes come out as they are. */
#include "base/err.h"
#include "token/pipeline.h"
#include "token/utf8.h"
#include <string.h>

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* "<0x0A>" -> 10; -1 for anything else. */
static int byte_token(const uint8_t *p, size_t n) {
    if (n != 6 || memcmp(p, "<0x", 3) != 0 || p[5] != '>') return -1;
    int hi = hex_digit((char)p[3]), lo = hex_digit((char)p[4]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

/* The bytes that the alphabet's characters stand for; a token with any other character stands for itself. */
static bool from_byte_alphabet(const uint8_t *p, size_t n, buf *out) {
    size_t before = out->len;
    for (size_t i = 0; i < n;) {
        size_t k = utf8_sequence(p + i, n - i);
        int b = k ? byte_alphabet_byte(utf8_decode(p + i)) : -1;
        uint8_t byte = (uint8_t)b;
        if (b < 0) {
            out->len = before;
            return buf_append(out, p, n);
        }
        if (!buf_append(out, &byte, 1)) return false;
        i += k;
    }
    return true;
}

static bool replace_all(const decode_step *s, const uint8_t *p, size_t n, buf *out) {
    while (n > 0) {
        const uint8_t *hit = bytes_find(p, n, s->from, s->from_bytes);
        size_t k = hit ? (size_t)(hit - p) : n;
        if (!buf_append(out, p, k)) return false;
        if (!hit) break;
        if (!buf_append(out, s->to, s->to_bytes)) return false;
        p += k + s->from_bytes;
        n -= k + s->from_bytes;
    }
    return true;
}

static bool strip(const decode_step *s, const uint8_t *p, size_t n, buf *out) {
    size_t k = s->from_bytes;
    for (uint64_t i = 0; i < s->start && n >= k && memcmp(p, s->from, k) == 0; i++) {
        p += k;
        n -= k;
    }
    for (uint64_t i = 0; i < s->stop && n >= k && memcmp(p + n - k, s->from, k) == 0; i++) n -= k;
    return buf_append(out, p, n);
}

snug_err decoder_token(const decoder *d, const char *token, size_t bytes, buf *out, snug_error *err) {
    buf now = {0}, next = {0};
    bool ok = buf_append(&now, token, bytes), whole = false; /* whole: behind Fuse, steps see the text */
    for (size_t i = 0; i < d->n && ok && !whole; i++) {
        const decode_step *s = &d->step[i];
        uint8_t byte;
        int b;
        next.len = 0;
        switch (s->kind) {
        case DECODE_BYTE_LEVEL:
            ok = from_byte_alphabet(now.data, now.len, &next);
            whole = true; /* it fuses, too */
            break;
        case DECODE_REPLACE:
        case DECODE_METASPACE:
            ok = replace_all(s, now.data, now.len, &next);
            break;
        case DECODE_BYTE_FALLBACK:
            b = byte_token(now.data, now.len);
            byte = (uint8_t)b;
            ok = b >= 0 ? buf_append(&next, &byte, 1) : buf_append(&next, now.data, now.len);
            break;
        case DECODE_STRIP:
            ok = strip(s, now.data, now.len, &next);
            break;
        case DECODE_FUSE:
            whole = true;
            continue;
        }
        buf swap = now;
        now = next;
        next = swap;
    }
    ok = ok && buf_append(out, now.data, now.len);
    buf_fini(&now);
    buf_fini(&next);
    return ok ? SNUG_OK : err_nomem(err, bytes);
}

void decoder_leading(const decoder *d, const char **text, size_t *bytes, uint64_t *n, const decode_step **first_token) {
    bool whole = false;
    *n = 0;
    *first_token = NULL;
    for (size_t i = 0; i < d->n; i++) {
        const decode_step *s = &d->step[i];
        if (s->kind == DECODE_FUSE || s->kind == DECODE_BYTE_LEVEL) whole = true;
        if (s->kind == DECODE_METASPACE && s->prepended && !whole) *first_token = s;
        if (s->kind == DECODE_STRIP && whole) {
            *text = s->from;
            *bytes = s->from_bytes;
            *n = s->start;
        }
    }
}
