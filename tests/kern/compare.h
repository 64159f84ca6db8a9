/* Comparison bit for bit; two NaNs are equal whatever their payloads. */
#ifndef TESTS_KERN_COMPARE_H
#define TESTS_KERN_COMPARE_H
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static inline bool same_float(float a, float b) { return (a != a && b != b) || memcmp(&a, &b, sizeof a) == 0; }

static inline bool same_floats(const char *what, const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!same_float(a[i], b[i])) {
            fprintf(stderr, "%s: [%zu of %zu] ref %a (%g), got %a (%g)\n", what, i, n, (double)a[i], (double)a[i], (double)b[i],
                    (double)b[i]);
            return false;
        }
    return true;
}

static inline bool same_bytes(const char *what, const void *a, const void *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (((const uint8_t *)a)[i] != ((const uint8_t *)b)[i]) {
            fprintf(stderr, "%s: byte %zu of %zu: ref %d, got %d\n", what, i, n, ((const uint8_t *)a)[i], ((const uint8_t *)b)[i]);
            return false;
        }
    return true;
}

/* |got - want| <= tol * scale, and finite */
static inline bool near(const char *what, double want, double got, double scale, double tol) {
    if (fabs(got - want) <= tol * scale) return true;
    fprintf(stderr, "%s: want %.9g, got %.9g, off by %.3g of %.3g allowed\n", what, want, got, fabs(got - want), tol * scale);
    return false;
}
#endif
