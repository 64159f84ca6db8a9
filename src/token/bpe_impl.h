/* Shared by bpe.c and bpe_merge.c. */
#ifndef TOKEN_BPE_IMPL_H
#define TOKEN_BPE_IMPL_H
#include "token/bpe.h"

static inline uint64_t bpe_pair_hash(uint32_t a, uint32_t b) { /* the finisher of splitmix64 */
    uint64_t x = ((uint64_t)a << 32 | b) + 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

/* Rank of the merge (a, b) and what it makes; VOCAB_NONE: no merge. */
static inline uint32_t bpe_find_pair(const bpe *m, uint32_t a, uint32_t b, uint32_t *joined) {
    uint64_t h = bpe_pair_hash(a, b);
    for (uint32_t s = (uint32_t)h & m->slot_mask;; s = (s + 1) & m->slot_mask) {
        uint64_t v = m->slot[s];
        if (v == 0) return VOCAB_NONE;
        if ((v ^ h) >> 32) continue;
        uint32_t rank = (uint32_t)v - 1;
        const bpe_pair *p = &m->pair[rank];
        if (p->a != a || p->b != b) continue;
        *joined = p->joined;
        return rank;
    }
}
#endif
