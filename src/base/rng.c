/* xoshiro256++ (D. Blackman, S. Vigna, "Scrambled linear pseudorandom number generators", 2021), state filled by splitmix64
 * as its authors advise. A stream number is hashed into the seed, so that streams 0, 1, 2 ... are unrelated. */
#include "base/rng.h"

#include <math.h>

static uint64_t splitmix64(uint64_t *x) {
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t rotl(uint64_t x, int k) { return x << k | x >> (64 - k); }

void rng_seed(rng *r, uint64_t seed, uint64_t stream) {
    uint64_t x = seed, y = stream ^ 0x5851f42d4c957f2du;
    x = splitmix64(&x) ^ rotl(splitmix64(&y), 23);
    for (int i = 0; i < 4; i++) r->s[i] = splitmix64(&x); /* four outputs of a bijection of a counter: never all zero */
}

uint64_t rng_next(rng *r) {
    uint64_t *s = r->s, result = rotl(s[0] + s[3], 23) + s[0], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

double rng_uniform(rng *r) { return (double)(rng_next(r) >> 11) * 0x1p-53; }

/* Multiply-shift with rejection (D. Lemire 2019): exactly uniform. n = 0 gives 0. */
uint32_t rng_below(rng *r, uint32_t n) {
    uint64_t m = (rng_next(r) >> 32) * n;
    if ((uint32_t)m < n) {
        uint32_t threshold = -n % n; /* 2^32 mod n */
        while ((uint32_t)m < threshold) m = (rng_next(r) >> 32) * n;
    }
    return (uint32_t)(m >> 32);
}

/* Box-Muller; the second value is not kept, so that the stream position is a function of the number of calls. */
float rng_normal(rng *r) {
    double u = 1.0 - rng_uniform(r), v = rng_uniform(r); /* u in (0, 1] */
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}
