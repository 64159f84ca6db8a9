/* Threads: OpenMP stands behind these calls and nowhere else. The work grid depends on n and grain alone, never on the
 * number of threads, so that results are the same for any thread count. */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H
#include <stddef.h>

/* Affinity mask and cgroup CPU quota respected; at least 1. */
int thread_default_count(void);

/* fn(ctx, begin, end, worker) for the tiles [0,grain), [grain,2grain) ... of [0, n), spread over up to `threads` workers
 * (worker in 0..threads-1, for per-thread scratch). Returns when all are done. Runs inline when threads <= 1, n <= grain
 * or when already inside a parallel region. */
typedef void (*thread_fn)(void *ctx, size_t begin, size_t end, int worker);
void thread_for(int threads, size_t n, size_t grain, thread_fn fn, void *ctx);
#endif
