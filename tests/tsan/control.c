/* What ThreadSanitizer must and must not say about threads of base/thread.h, so that a silent run of the tests means something.
 *
 *     control race      all workers add to one number without any order: must be reported
 *     control ordered   each tile writes its own numbers, the caller reads them afterwards, twice: must not be (without Archer it is:
 *                       libomp's barriers are invisible to the sanitizer) */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/thread.h"

enum { N = 64, ROUNDS = 4, TILE_US = 200 }; /* tiles take long enough for both workers to have some */
static double numbers[N], total;

static void race(void *ctx, size_t begin, size_t end, int worker) {
    usleep(TILE_US);
    for (size_t i = begin; i < end; i++) total += numbers[i];
}
static void fill(void *ctx, size_t begin, size_t end, int worker) {
    usleep(TILE_US);
    for (size_t i = begin; i < end; i++) numbers[i] += (double)i;
}

int main(int argc, char **argv) {
    thread_fn fn = argc > 1 && strcmp(argv[1], "race") == 0 ? race : fill;
    for (int round = 0; round < ROUNDS; round++) {
        thread_for(2, N, 1, fn, NULL);
        for (int i = 0; i < N; i++) total += numbers[i];
    }
    printf("%g\n", total);
    return 0;
}
