/* A window of 256 KiB slides over the header: a 70 B checkpoint's header (mostly the tokenizer, up to about 10 MB) is read once,
 * front to back, and nothing behind it is touched. Every length in the file goes through cursor_need before it is believed. */
#include "format/gguf_cursor.h"

#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "snug reads files by their bytes in memory and needs a little-endian machine"
#endif

enum { WINDOW_BYTES = 256 << 10 };

snug_err cursor_open_file(gguf_cursor *c, const io_file *file, snug_error *err) {
    *c = (gguf_cursor){.what = file->path, .file = file, .end = file->bytes, .noun = "header"};
    size_t cap = file->bytes < WINDOW_BYTES ? (size_t)file->bytes + 1 : WINDOW_BYTES;
    c->window = c->owned = malloc(cap);
    return c->owned ? SNUG_OK : err_nomem(err, cap);
}

void cursor_open_memory(gguf_cursor *c, const char *what, const uint8_t *p, size_t n) {
    *c = (gguf_cursor){.what = what, .window = p, .window_bytes = n, .end = n, .noun = "header"};
}

void cursor_close(gguf_cursor *c) {
    free(c->owned);
    *c = (gguf_cursor){0};
}

snug_err cursor_fail(const gguf_cursor *c, snug_error *err, snug_err code, uint64_t at, const char *fmt, ...) {
    char text[384];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (c->name) return err_at(err, code, at, "%s: %s '%.80s': %s", c->what, c->noun, c->name, text);
    return err_at(err, code, at, "%s: %s: %s", c->what, c->noun, text);
}

snug_err cursor_need(const gguf_cursor *c, uint64_t n, uint64_t size, const char *field, snug_error *err) {
    if (n <= (c->end - c->pos) / size) {
        /* A sparse file of terabytes is cheap to make; no real header comes near this. */
        if (c->pos + n * size <= CURSOR_MAX_HEADER) return SNUG_OK;
        return cursor_fail(c, err, SNUG_ERR_FORMAT, c->pos, "%s needs %llu x %llu bytes, but a header of more than 1 GiB is not believed",
                           field, (unsigned long long)n, (unsigned long long)size);
    }
    return cursor_fail(c, err, SNUG_ERR_FORMAT, c->end, "%s needs %llu x %llu bytes from byte %llu on, but the file ends", field,
                       (unsigned long long)n, (unsigned long long)size, (unsigned long long)c->pos);
}

snug_err cursor_bytes(gguf_cursor *c, void *dst, size_t n, const char *field, snug_error *err) {
    snug_err rc = cursor_need(c, n, 1, field, err);
    uint8_t *p = dst;
    while (rc == SNUG_OK && n > 0) {
        size_t at = (size_t)(c->pos - c->window_at); /* pos never lies before the window */
        size_t here = at < c->window_bytes ? c->window_bytes - at : 0;
        if (here == 0 && n >= WINDOW_BYTES) { /* a large array: straight to its place */
            rc = io_pread(c->file, c->pos, p, n, err);
            c->pos += n;
            c->window_at = c->pos;
            c->window_bytes = 0;
            return rc;
        }
        if (here == 0) {
            uint64_t left = c->end - c->pos;
            c->window_at = c->pos;
            c->window_bytes = left < WINDOW_BYTES ? (size_t)left : WINDOW_BYTES;
            rc = io_pread(c->file, c->window_at, c->owned, c->window_bytes, err);
            continue;
        }
        if (here > n) here = n;
        memcpy(p, c->window + at, here);
        p += here;
        n -= here;
        c->pos += here;
    }
    return rc;
}

snug_err cursor_u32(gguf_cursor *c, uint32_t *out, const char *field, snug_error *err) {
    return cursor_bytes(c, out, sizeof *out, field, err);
}

snug_err cursor_u64(gguf_cursor *c, uint64_t *out, const char *field, snug_error *err) {
    return cursor_bytes(c, out, sizeof *out, field, err);
}
