/* Activations in the q8 form, as the engine makes them. */
#ifndef TESTS_UNIT_Q8_ROWS_H
#define TESTS_UNIT_Q8_ROWS_H
#include <stdlib.h>

#include "kern/kern.h"

/* The q8 form of x (n, ld); freed by q8_rows_free. */
static inline kern_q8 q8_rows(const float *x, size_t n, size_t ld) {
    int8_t *q = malloc(n * ld);
    float *scale = malloc(n * ld / 8 * sizeof *scale), *sum32 = scale + n * ld / 32, *sum16 = sum32 + n * ld / 32;
    for (size_t t = 0; t < n; t++) {
        kern_q8_place at = kern_q8_place_of(n, t);
        kern()->quantize_q8(x + t * ld, ld, at.width, at.lane, q + at.tile * ld, scale + at.tile * ld / 32, sum32 + at.tile * ld / 32,
                            sum16 + at.tile * ld / 16);
    }
    return (kern_q8){ld, q, scale, sum32, sum16};
}
static inline void q8_rows_free(kern_q8 *x) { free((void *)x->q), free((void *)x->scale); }
#endif
