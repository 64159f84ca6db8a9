/* xxh3-64 of bytes, one-shot and streaming. */
#ifndef BASE_HASH_H
#define BASE_HASH_H
#include <stddef.h>
#include <stdint.h>
uint64_t hash_bytes(const void *p, size_t n);
uint64_t hash_bytes_seeded(const void *p, size_t n, uint64_t seed); /* chain: seed = previous hash */
typedef struct hash_state hash_state; /* streaming: equals hash_bytes of the concatenation */
hash_state *hash_create(void);        /* NULL: no memory */
void hash_update(hash_state *h, const void *p, size_t n);
uint64_t hash_digest(const hash_state *h);
void hash_destroy(hash_state *h);
#endif
