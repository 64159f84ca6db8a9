/* Steps of the searches for trellis codes. */
#include "kern/ref/ref.h"
#include "kern/trellis.h"

#include <stdlib.h>

unsigned kern_tcq_step_ref(const uint16_t *level, int bits, int in, int out, int x, unsigned weight, const uint16_t *m, unsigned off, uint16_t *next) {
    unsigned least = 65535;
    const size_t n_nodes = (size_t)1 << (bits - out);
    for (size_t n = 0; n < n_nodes; n++) {
        unsigned best = 65535;
        for (size_t j = 0; j < (size_t)1 << out; j++) {
            const size_t y = j * n_nodes | n;
            const unsigned d = (unsigned)abs(level[y] - x), miss = d < 255 ? d : 255, sum = m[y >> in] + (miss * miss * weight >> 16);
            if (sum < best) best = sum;
        }
        next[n] = (uint16_t)(best > off ? best - off : 0);
        if (next[n] < least) least = next[n];
    }
    return least;
}

void kern_tcqf_step_ref(const uint8_t *nibble, const uint8_t cost[4][16], int shift, const uint16_t m[256], uint16_t next[256]) {
    unsigned least = 65535;
    for (size_t b = 0; b < 256; b++) {
        unsigned best = 65535;
        for (size_t a = 0; a < 256; a++) {
            unsigned e = 0;
            for (size_t i = 0; i < 4; i++) e += cost[i][nibble[65536 * i + 256 * a + b]];
            const unsigned sum = m[a] + ((e < 255 ? e : 255) << shift);
            if (sum < best) best = sum;
        }
        next[b] = (uint16_t)best;
        if (best < least) least = best;
    }
    for (size_t b = 0; b < 256; b++) next[b] = (uint16_t)(next[b] - least);
}
