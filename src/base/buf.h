/* A growable byte buffer. Zeroed is empty. Every append returns false when memory ran out (the buffer stays valid). */
#ifndef BASE_BUF_H
#define BASE_BUF_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct buf {
    uint8_t *data;
    size_t len, cap;
} buf;

bool buf_reserve(buf *b, size_t extra);
bool buf_append(buf *b, const void *src, size_t n);
bool buf_append_str(buf *b, const char *s);
bool buf_append_u32(buf *b, uint32_t v); /* little endian */
bool buf_append_u64(buf *b, uint64_t v);
bool buf_printf(buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool buf_pad(buf *b, size_t align);      /* zero bytes up to the next multiple of align */
void buf_fini(buf *b);
#endif
