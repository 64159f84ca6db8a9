/* Threads: the only file with OpenMP in it.
 *
 * Each worker goes through a stretch of neighbouring tiles, so that it reads memory in one stream, and then helps those that are behind:
 * on a busy machine some are. Which worker does a tile never matters, because the grid depends on n and grain alone and workers
 * differ only in their scratch. Worker 0 is the calling thread. */
#include "base/thread.h"

#include "base/quota.h"

#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

enum { MAX_WORKERS = 256 };

/* CPUs that the affinity mask allows; the mask's size grows until the kernel accepts it (machines with > 1024 CPUs). */
static int affinity_count(void) {
    for (size_t n_cpus = 1024; n_cpus <= 1u << 20; n_cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC(n_cpus);
        if (!set) break;
        size_t size = CPU_ALLOC_SIZE(n_cpus);
        int count = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (count > 0) return count;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

int thread_default_count(void) {
    int count = affinity_count();
    /* A share such as 1.5 CPUs is rounded up: two threads at three quarters beat one. */
    double quota = ceil(quota_cpus("/proc/self/cgroup", "/sys/fs/cgroup"));
    if (quota > 0 && quota < count) count = (int)quota;
    return count < 1 ? 1 : count;
}

/* A worker's stretch of tiles, on a cache line of its own. */
typedef struct stretch { _Alignas(64) atomic_size_t next; size_t end; } stretch;

static void run_tiles(int threads, size_t n, size_t grain, size_t tiles, thread_fn fn, void *ctx) {
    stretch of[MAX_WORKERS];
    if (threads > MAX_WORKERS) threads = MAX_WORKERS;
    for (int w = 0; w < threads; w++) {
        atomic_init(&of[w].next, tiles * (size_t)w / (size_t)threads);
        of[w].end = tiles * ((size_t)w + 1) / (size_t)threads;
    }
#pragma omp parallel num_threads(threads)
    {
        int worker = omp_get_thread_num();
        for (int k = 0; k < threads; k++) { /* its own stretch, then what is left of the others' */
            stretch *s = &of[(worker + k) % threads];
            for (size_t t; (t = atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed)) < s->end;)
                fn(ctx, t * grain, n - t * grain < grain ? n : (t + 1) * grain, worker);
        }
    }
}

void thread_for(int threads, size_t n, size_t grain, thread_fn fn, void *ctx) {
    if (grain == 0) grain = 1;
    size_t tiles = n / grain + (n % grain != 0);
    if (threads > 1 && (size_t)threads > tiles) threads = (int)tiles;
    if (threads <= 1 || omp_in_parallel()) {
        for (size_t t = 0; t < tiles; t++) fn(ctx, t * grain, n - t * grain < grain ? n : (t + 1) * grain, 0);
        return;
    }
    run_tiles(threads, n, grain, tiles, fn, ctx);
}
