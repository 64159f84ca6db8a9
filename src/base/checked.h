/* Arithmetic on numbers that a file names: false on overflow, the result untouched. */
#ifndef BASE_CHECKED_H
#define BASE_CHECKED_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool checked_mul(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool checked_add(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_add_overflow(a, b, out); }
/* n + align must not overflow: for sizes that were checked. */
static inline uint64_t round_up(uint64_t n, uint64_t align) { return (n + align - 1) / align * align; }
static inline uint64_t div_up(uint64_t n, uint64_t d) { return n / d + (n % d != 0); } /* never overflows */
static inline uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }
#endif
