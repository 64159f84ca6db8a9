/* The tables of all levels, filled once: the reference first, then each level over a copy of the one below, as dav1d does
 * it. An entry of a level above the one in use stays empty. */
#include "kern/kern.h"
#include "kern/books.h"
#include "kern/trellis.h"

#include <pthread.h>

#include "base/checked.h"
#include "base/cpu.h"

#if defined(__x86_64__)
#define N_LEVELS 3
#elif defined(__aarch64__)
#define N_LEVELS 2
#else
#define N_LEVELS 1
#endif

static kern_table tables[N_LEVELS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill(void) {
    kern_tcq_init();
    kern_e8_init();
    kern_init_ref(&tables[CPU_REF]);
#if defined(__x86_64__)
    if (cpu_get_level() >= CPU_AVX2) {
        tables[CPU_AVX2] = tables[CPU_REF];
        kern_init_avx2(&tables[CPU_AVX2]);
    }
    if (cpu_get_level() >= CPU_AVX512) {
        tables[CPU_AVX512] = tables[CPU_AVX2];
        kern_init_avx512(&tables[CPU_AVX512]);
    }
#elif defined(__aarch64__)
    if (cpu_get_level() >= CPU_NEON) {
        tables[CPU_NEON] = tables[CPU_REF];
        kern_init_neon(&tables[CPU_NEON]);
    }
#endif
}

const kern_table *kern_for_level(int level) {
    pthread_once(&once, fill);
    if (level < 0 || level >= N_LEVELS || level > (int)cpu_get_level()) return NULL;
    return &tables[level];
}

const kern_table *kern(void) { return kern_for_level(cpu_get_level()); }

kern_sparse_layout kern_sparse_layout_of(const kern_sparse *f, size_t n_chunks) {
    static const uint8_t mask_bytes[] = {[KERN_BITMAP] = 4, [KERN_2_OF_4] = 3, [KERN_3_OF_4] = 2, [KERN_TRITS] = 0};
    const size_t n_groups = div_up(n_chunks, f->group / 32);
    kern_sparse_layout l = {.masks = 2 + (f->bits >= 2 ? n_groups : div_up(n_groups, 2))};
    l.codes = l.masks + mask_bytes[f->mask] * n_chunks;
    l.bytes = l.codes + (f->mask == KERN_TRITS ? 32 * (n_chunks / 5) + 8 * (n_chunks % 5)
                                               : div_up(n_chunks * f->kept * f->bits, 8));
    return l;
}

uint32_t kern_group(kern_format f) { return f == KERN_Q2_K || f == KERN_Q3_K || f == KERN_Q6_K || f == KERN_CODES16 ? 16 : 32; }

bool kern_has_min(kern_format f) {
    return f == KERN_Q2_K || f == KERN_Q4_K || f == KERN_Q5_K || f == KERN_CODES_MIN || (f >= KERN_INT2 && f <= KERN_INT8);
}
