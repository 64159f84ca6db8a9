/* Streaming bandwidth. Three kernels that only read sum a buffer much larger than the caches; they differ in how many
 * places of it each thread reads at once (1, 2 or 4 streams), because which number keeps most lines in flight differs
 * between machines and thread counts. Huge pages are asked for: the roofline is the memory's, not the page walker's. */
#include "bandwidth.h"

#include "cli.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    THREADS_MAX = 256,
    PASSES = 5,
    LINE = 8,                /* words of a cache line                            */
    PART_BYTES = 64 << 20,   /* per thread: beyond its share of any last level   */
    LEAST_BYTES = 512 << 20, /* together: beyond what few threads find in it     */
    HUGE_PAGE_BYTES = 2 << 20,
};
static const uint64_t MOST_BYTES = 4ull << 30;

typedef struct part {
    uint64_t *data;
    size_t n; /* words */
    uint64_t sum;
} part;

/* Reads n words as n_streams equal runs side by side; n_streams is a constant where this is inlined, so that all sums
 * stay in registers: four per stream, the least that hides the latency of one stream's additions. */
static inline __attribute__((always_inline)) uint64_t sum_streams(const uint64_t *data, size_t n, size_t n_streams) {
    uint64_t sum[4][LINE / 2] = {{0}}, all = 0;
    size_t run = n / n_streams / LINE * LINE;
    for (size_t i = 0; i < run; i += LINE) {
        for (size_t s = 0; s < n_streams; s++) {
            const uint64_t *line = data + s * run + i;
            for (size_t j = 0; j < LINE / 2; j++) sum[s][j] += line[j] + line[j + LINE / 2];
        }
    }
    for (size_t s = 0; s < n_streams; s++)
        for (size_t j = 0; j < LINE / 2; j++) all += sum[s][j];
    return all;
}

static void *read_1(void *p) {
    part *a = p;
    a->sum = sum_streams(a->data, a->n, 1);
    return NULL;
}

static void *read_2(void *p) {
    part *a = p;
    a->sum = sum_streams(a->data, a->n, 2);
    return NULL;
}

static void *read_4(void *p) {
    part *a = p;
    a->sum = sum_streams(a->data, a->n, 4);
    return NULL;
}

/* The thread that reads a part is the kind of thread that touches it first: its pages lie near some CPU in use. */
static void *fill(void *p) {
    part *a = p;
    for (size_t i = 0; i < a->n; i++) a->data[i] = 1;
    return NULL;
}

/* Seconds that all parts take together; < 0: a thread could not be had. */
static double run_threads(void *(*work)(void *), part *parts, int n) {
    pthread_t id[THREADS_MAX];
    int started = 0;
    double began = now_seconds();
    while (started < n && pthread_create(&id[started], NULL, work, &parts[started]) == 0) started++;
    for (int i = 0; i < started; i++) pthread_join(id[i], NULL);
    return started == n ? now_seconds() - began : -1;
}

static size_t buffer_bytes(int threads) {
    uint64_t want = (uint64_t)threads * PART_BYTES;
    if (want < LEAST_BYTES) want = LEAST_BYTES;
    if (want > MOST_BYTES) want = MOST_BYTES;
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page_bytes > 0 && want > (uint64_t)pages * (uint64_t)page_bytes / 4)
        want = (uint64_t)pages * (uint64_t)page_bytes / 4; /* a small machine must not be made to swap */
    return (size_t)want / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
}

double measure_bandwidth(int threads) {
    static void *(*const kernels[])(void *) = {read_1, read_2, read_4};
    int n = threads < THREADS_MAX ? threads : THREADS_MAX;
    size_t bytes = buffer_bytes(n), words = bytes / sizeof(uint64_t) / (size_t)n / LINE * LINE;
    uint64_t *data = bytes ? aligned_alloc(HUGE_PAGE_BYTES, bytes) : NULL;
    if (!data) return 0;
    (void)madvise(data, bytes, MADV_HUGEPAGE); /* where there are none, small pages do */
    part parts[THREADS_MAX];
    for (int i = 0; i < n; i++) parts[i] = (part){.data = data + (size_t)i * words, .n = words};
    double best = 0;
    bool ok = run_threads(fill, parts, n) >= 0;
    for (size_t i = 0; ok && i < PASSES * COUNT_OF(kernels); i++) {
        double seconds = run_threads(kernels[i % COUNT_OF(kernels)], parts, n);
        uint64_t sum = 0;
        for (int k = 0; k < n; k++) sum += parts[k].sum;
        ok = seconds > 0 && sum > 0; /* the sums are looked at, so the reading cannot be left out */
        double rate = ok ? (double)(words * sizeof *data) * n / seconds : 0;
        if (rate > best) best = rate;
    }
    free(data);
    return best;
}
