/* Buffers between guard pages, and seeded random data, for the kernel checker.
 *
 * A buffer stands flush against the unreadable page behind it or the one before it (both are tried), so a stray access of one
 * byte faults; what remains of its own pages is filled with a pattern that must survive. Flush at the end also means that the
 * start has whatever alignment the length leaves. */
#ifndef TESTS_KERN_GUARD_H
#define TESTS_KERN_GUARD_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/rng.h"

typedef struct guard {
    uint8_t *map, *data;
    size_t map_bytes, n_bytes;
} guard;

enum { GUARD_FILL = 0xa5 };

static inline size_t guard_page(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static inline guard guard_new(size_t n_bytes, bool at_end) {
    size_t page = guard_page(), body = (n_bytes + page - 1) / page * page;
    if (body == 0) body = page;
    guard g = {.map_bytes = body + 2 * page, .n_bytes = n_bytes};
    g.map = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g.map == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    memset(g.map + page, GUARD_FILL, body);
    if (mprotect(g.map, page, PROT_NONE) || mprotect(g.map + page + body, page, PROT_NONE)) {
        perror("mprotect");
        exit(1);
    }
    g.data = at_end ? g.map + page + body - n_bytes : g.map + page;
    return g;
}

/* Unmaps; false when a byte beside the buffer was written. */
static inline bool guard_free(guard *g) {
    size_t page = guard_page();
    bool clean = true;
    for (uint8_t *p = g->map + page; p < g->map + g->map_bytes - page; p++) {
        if (p == g->data) p += g->n_bytes;
        if (p >= g->map + g->map_bytes - page) break;
        clean &= *p == GUARD_FILL;
    }
    munmap(g->map, g->map_bytes);
    return clean;
}

/* The buffers of one case, freed together. */
enum { POOL_MAX = 24 };
typedef struct pool {
    guard g[POOL_MAX];
    int n;
    bool at_end;
} pool;

static inline void *pool_new(pool *p, size_t n_bytes) {
    if (p->n == POOL_MAX) abort();
    p->g[p->n] = guard_new(n_bytes, p->at_end);
    return p->g[p->n++].data;
}
static inline bool pool_free(pool *p) {
    bool clean = true;
    for (int i = 0; i < p->n; i++) clean &= guard_free(&p->g[i]);
    p->n = 0;
    return clean;
}

/* ---------------------------------------------------------------- values ---- */

static inline size_t pick(rng *r, size_t lo, size_t hi) { return lo + rng_below(r, (uint32_t)(hi - lo + 1)); }
static inline bool chance(rng *r, uint32_t one_in) { return rng_below(r, one_in) == 0; }
static inline float bits_float(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }

static inline void fill_bytes(rng *r, void *dst, size_t n) {
    for (size_t i = 0; i < n; i++) ((uint8_t *)dst)[i] = (uint8_t)rng_next(r);
}

typedef enum value_kind { V_NORMAL, V_DENORMAL, V_LARGE, V_ZEROS, V_WILD, V_KINDS } value_kind;

/* Floats of one kind: around 1; denormal; near the largest; signed zeros and ones; any bit pattern, NaN and inf included. */
static inline void fill_floats(rng *r, float *dst, size_t n, value_kind kind) {
    for (size_t i = 0; i < n; i++) {
        float v = rng_normal(r);
        if (kind == V_DENORMAL) v *= 0x1p-130f;
        if (kind == V_LARGE) v = (v > 1.99f ? 1.99f : v < -1.99f ? -1.99f : v) * 0x1p127f;
        if (kind == V_ZEROS) v = chance(r, 3) ? (float)(int)rng_below(r, 3) - 1.0f : chance(r, 2) ? 0.0f : -0.0f;
        if (kind == V_WILD && chance(r, 8)) v = bits_float((uint32_t)rng_next(r));
        if (kind == V_WILD && chance(r, 40)) v = bits_float(0x7f800000u | (uint32_t)(rng_next(r) & 0x80400000u));
        dst[i] = v;
    }
}
#endif
