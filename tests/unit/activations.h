/* Activations as models have them: each channel a mix of a few hidden directions and noise, a few channels large. */
#ifndef TEST_ACTIVATIONS_H
#define TEST_ACTIVATIONS_H
#include <stdlib.h>

#include "base/rng.h"

/* (n_tokens, n) */
static float *activations(size_t n_tokens, size_t n, uint64_t seed) {
    enum { HIDDEN = 6 };
    float *x = malloc(n_tokens * n * sizeof *x), *mix = malloc(HIDDEN * n * sizeof *mix);
    rng r;
    rng_seed(&r, seed, 0);
    for (size_t i = 0; i < HIDDEN * n; i++) mix[i] = rng_normal(&r);
    for (size_t t = 0; t < n_tokens; t++) {
        float h[HIDDEN];
        for (int k = 0; k < HIDDEN; k++) h[k] = rng_normal(&r);
        for (size_t j = 0; j < n; j++) {
            float sum = 0.7f * rng_normal(&r);
            for (int k = 0; k < HIDDEN; k++) sum += h[k] * mix[(size_t)k * n + j];
            x[t * n + j] = sum * (j % 17 == 3 ? 8 : 1);
        }
    }
    free(mix);
    return x;
}
#endif
