/* Deterministic random numbers: xoshiro256++ seeded through splitmix64 (Blackman and Vigna). Streams are cheap: seed one per
 * (purpose, tensor, row) so that results never depend on the order of work. */
#ifndef BASE_RNG_H
#define BASE_RNG_H
#include <stdint.h>
typedef struct rng { uint64_t s[4]; } rng;
void rng_seed(rng *r, uint64_t seed, uint64_t stream);
uint64_t rng_next(rng *r);
double rng_uniform(rng *r);                 /* [0, 1)              */
uint32_t rng_below(rng *r, uint32_t n);     /* [0, n)              */
float rng_normal(rng *r);                   /* N(0, 1)             */
#endif
