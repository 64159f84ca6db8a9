/* Random cases of a kernel at every level beside ref. Include after cmocka.h. */
#ifndef TESTS_KERN_CASES_H
#define TESTS_KERN_CASES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "guard.h"
#include "kern/kern.h"

static uint64_t seed = 1;
static size_t rounds = 200;

/* One case: draws shape and data from r, calls ref and t, compares. False: they differ (said on stderr). */
typedef bool (*case_fn)(rng *r, pool *p, const kern_table *ref, const kern_table *t);

static inline void check(const char *what, uint64_t stream, size_t n, case_fn fn) {
    const kern_table *ref = kern_for_level(CPU_REF);
    for (int level = CPU_REF + 1; kern_for_level(level); level++)
        for (size_t i = 0; i < n; i++) {
            rng r;
            rng_seed(&r, seed, stream << 32 | i);
            pool p = {.at_end = i % 2 == 0};
            bool same = fn(&r, &p, ref, kern_for_level(level));
            bool clean = pool_free(&p);
            if (!same || !clean)
                fail_msg("%s at %s, round %zu: %s (--seed %llu)", what, cpu_level_name((cpu_level)level), i,
                         same ? "wrote outside its buffers" : "differs from ref", (unsigned long long)seed);
        }
}

/* A float buffer of n with a copy for the other level. */
static inline float *twin(pool *p, const float *src, size_t n) {
    float *b = pool_new(p, n * sizeof *b);
    if (n) memcpy(b, src, n * sizeof *b);
    return b;
}
static inline float *new_floats(pool *p, rng *r, size_t n, value_kind kind) {
    float *v = pool_new(p, n * sizeof *v);
    fill_floats(r, v, n, kind);
    return v;
}
static inline value_kind any_kind(rng *r) { return (value_kind)rng_below(r, V_KINDS); }
#endif
