/* Arena: many allocations with one lifetime, freed together. Not thread-safe. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H
#include <stddef.h>
#include <stdarg.h>

typedef struct arena {
    struct arena_chunk *head; /* newest chunk */
    size_t total_bytes;       /* handed out   */
} arena;

/* A zeroed arena is ready to use. Memory comes back zeroed, aligned to 64 bytes; NULL when the machine has none. */
void *arena_alloc(arena *a, size_t bytes);
void *arena_calloc(arena *a, size_t n, size_t size); /* overflow-checked n * size */
void *arena_alloc_bytes(arena *a, size_t bytes);     /* the same without alignment, packed: for text */
char *arena_strdup(arena *a, const char *s);
char *arena_strndup(arena *a, const char *s, size_t n);
char *arena_printf(arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void arena_fini(arena *a);
#endif
