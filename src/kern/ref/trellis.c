/* A step of the search for trellis codes. */
#include "kern/ref/ref.h"
#include "kern/trellis.h"

void kern_tcq2_step_ref(const uint8_t *nibble, const uint8_t cost[4][16], int shift, const uint16_t m[256], uint16_t next[256]) {
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
