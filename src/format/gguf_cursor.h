/* Reading GGUF fields one after the other, from a file (through a window) or from memory. Internal to the GGUF reader. */
#ifndef FORMAT_GGUF_CURSOR_H
#define FORMAT_GGUF_CURSOR_H
#include "base/io.h"

enum { CURSOR_MAX_HEADER = 1 << 30 };
enum { CURSOR_MAX_NAME = 65535 }; /* bytes of a key, by the specification; tensor names share the bound */

typedef struct gguf_cursor {
    const char *what;      /* the file's name, for messages                   */
    const io_file *file;   /* NULL: everything is in `window`                 */
    const uint8_t *window; /* bytes [window_at, window_at + window_bytes)     */
    uint8_t *owned;        /* the window's memory when a file is read         */
    uint64_t window_at;
    size_t window_bytes;
    uint64_t pos, end;
    const char *noun, *name; /* what is being read: "key" 'general.name'      */
} gguf_cursor;

snug_err cursor_open_file(gguf_cursor *c, const io_file *file, snug_error *err);
void cursor_open_memory(gguf_cursor *c, const char *what, const uint8_t *p, size_t n);
void cursor_close(gguf_cursor *c);
/* "FILE: key 'NAME': message at byte AT"; returns code. */
snug_err cursor_fail(const gguf_cursor *c, snug_error *err, snug_err code, uint64_t at, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* Is there room for n items of `size` bytes before the end? The only guard that every length must pass. */
snug_err cursor_need(const gguf_cursor *c, uint64_t n, uint64_t size, const char *field, snug_error *err);
snug_err cursor_bytes(gguf_cursor *c, void *dst, size_t n, const char *field, snug_error *err);
snug_err cursor_u32(gguf_cursor *c, uint32_t *out, const char *field, snug_error *err);
snug_err cursor_u64(gguf_cursor *c, uint64_t *out, const char *field, snug_error *err);
#endif
