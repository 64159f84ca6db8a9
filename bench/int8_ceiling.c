/* What int8 multiply-adds this processor does with nothing else to do: sums in registers, no loads.
 *
 *     cc -O2 -march=native -fopenmp bench/int8_ceiling.c -o int8_ceiling && ./int8_ceiling 2
 */
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define STAY(v) __asm__ volatile("" : "+v"(v)) /* the compiler may not fold the loop away */
#define EIGHT(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
enum { PASSES = 50000000, TRIES = 3 };

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void avx2(void) {
    __m256i u = _mm256_set1_epi8(3), w = _mm256_set1_epi8(5), one = _mm256_set1_epi16(1);
#define SUM(i) __m256i a##i = _mm256_setzero_si256();
    EIGHT(SUM)
#undef SUM
    for (long n = 0; n < PASSES; n++) {
#define STEP(i)                                                                                 \
    STAY(u);                                                                                    \
    a##i = _mm256_add_epi32(a##i, _mm256_madd_epi16(_mm256_maddubs_epi16(u, w), one));          \
    STAY(a##i);
        EIGHT(STEP)
#undef STEP
    }
}

#ifdef __AVX512VNNI__
static void vnni(void) {
    __m512i u = _mm512_set1_epi8(3), w = _mm512_set1_epi8(5);
#define SUM(i) __m512i a##i = _mm512_setzero_si512(), b##i = a##i;
    EIGHT(SUM)
#undef SUM
    for (long n = 0; n < PASSES; n++) {
#define STEP(i)                                  \
    a##i = _mm512_dpbusd_epi32(a##i, u, w);      \
    b##i = _mm512_dpbusd_epi32(b##i, u, w);      \
    STAY(a##i);                                  \
    STAY(b##i);
        EIGHT(STEP)
#undef STEP
    }
}
#endif

static void tell(const char *name, void (*fn)(void), int threads, double per_pass) {
    double best = 1e9;
    for (int i = 0; i < TRIES; i++) {
        double began = seconds();
#pragma omp parallel num_threads(threads)
        fn();
        double s = seconds() - began;
        if (s < best) best = s;
    }
    printf("%-26s %d threads: %.0f G multiply-adds/s\n", name, threads, threads * per_pass * PASSES / best / 1e9);
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    tell("vpmaddubsw vpmaddwd vpaddd", avx2, threads, 8 * 32);
#ifdef __AVX512VNNI__
    tell("vpdpbusd", vnni, threads, 16 * 64);
#endif
    return 0;
}
