/* Arena: a list of growing chunks, each handed out from its start. A request larger than half a chunk gets one of its own,
 * behind the head, so that the room left in the head is not lost. Chunks come from calloc: large ones are fresh zero pages of
 * the kernel, which cost no memory until they are touched. */
#include "base/arena.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_ALIGN = 64, ARENA_FIRST_BYTES = 8 << 10, ARENA_MAX_BYTES = 1 << 20 };

typedef struct arena_chunk {
    struct arena_chunk *next;
    size_t used, cap; /* offsets into data */
    unsigned char *data; /* aligned to ARENA_ALIGN, inside the same allocation */
} arena_chunk;

static arena_chunk *chunk_create(size_t cap) {
    if (cap > SIZE_MAX - sizeof(arena_chunk) - ARENA_ALIGN) return NULL;
    arena_chunk *c = calloc(1, sizeof *c + ARENA_ALIGN + cap);
    if (!c) return NULL;
    uintptr_t p = (uintptr_t)(c + 1);
    c->data = (unsigned char *)(c + 1) + (ARENA_ALIGN - p % ARENA_ALIGN) % ARENA_ALIGN;
    c->cap = cap;
    return c;
}

static void *alloc_aligned(arena *a, size_t bytes, size_t align) {
    arena_chunk *head = a->head;
    if (bytes == 0) bytes = 1; /* every allocation has its own address */
    size_t begin = head ? (head->used + align - 1) / align * align : 0;
    if (head && begin <= head->cap && bytes <= head->cap - begin) {
        head->used = begin + bytes;
        a->total_bytes += bytes;
        return head->data + begin;
    }
    size_t cap = head ? head->cap * 2 : ARENA_FIRST_BYTES;
    if (cap > ARENA_MAX_BYTES) cap = ARENA_MAX_BYTES;
    bool own = bytes > cap / 2;
    arena_chunk *c = chunk_create(own ? bytes : cap);
    if (!c) return NULL;
    c->used = bytes;
    if (own && head) {
        c->next = head->next;
        head->next = c;
    } else {
        c->next = head;
        a->head = c;
    }
    a->total_bytes += bytes;
    return c->data;
}

void *arena_alloc(arena *a, size_t bytes) { return alloc_aligned(a, bytes, ARENA_ALIGN); }
void *arena_alloc_bytes(arena *a, size_t bytes) { return alloc_aligned(a, bytes, 1); }

void *arena_calloc(arena *a, size_t n, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) return NULL;
    return arena_alloc(a, bytes);
}

char *arena_strndup(arena *a, const char *s, size_t n) {
    if (n == SIZE_MAX) return NULL;
    char *p = alloc_aligned(a, n + 1, 1);
    if (p && n) memcpy(p, s, n); /* the NUL is there: memory comes back zeroed */
    return p;
}

char *arena_strdup(arena *a, const char *s) { return arena_strndup(a, s, strlen(s)); }

char *arena_printf(arena *a, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *p = n < 0 ? NULL : alloc_aligned(a, (size_t)n + 1, 1);
    if (p) vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}

void arena_fini(arena *a) {
    for (arena_chunk *c = a->head, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    *a = (arena){0};
}
