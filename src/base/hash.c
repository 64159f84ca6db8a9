/* xxh3-64 behind names of our own: the rest of the library never sees xxHash's header. */
#include "base/hash.h"

#include <xxhash.h>

uint64_t hash_bytes(const void *p, size_t n) { return XXH3_64bits(p, n); }
uint64_t hash_bytes_seeded(const void *p, size_t n, uint64_t seed) { return XXH3_64bits_withSeed(p, n, seed); }

/* The library's own state object is the handle: it is allocated with the alignment that xxHash wants. */
hash_state *hash_create(void) {
    XXH3_state_t *s = XXH3_createState();
    if (s && XXH3_64bits_reset(s) != XXH_OK) {
        XXH3_freeState(s);
        s = NULL;
    }
    return (hash_state *)s;
}
void hash_update(hash_state *h, const void *p, size_t n) {
    if (n) (void)XXH3_64bits_update((XXH3_state_t *)h, p, n); /* fails only for a NULL input */
}
uint64_t hash_digest(const hash_state *h) { return XXH3_64bits_digest((const XXH3_state_t *)h); }
void hash_destroy(hash_state *h) {
    if (h) XXH3_freeState((XXH3_state_t *)h);
}
