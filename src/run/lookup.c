/* Tables of the newest places of runs of tokens, and the chances that what followed them follows again. */
#include "run/lookup.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

enum {
    SHORTEST = 2, /* tokens that must repeat: single ones predict too little */
    LONGEST = 4,  /* of a run that is looked up; places are told apart by how much more agrees before it */
    RUNS = LONGEST - SHORTEST + 1,
    AGREE_MAX = 10, /* longer agreement predicts no better */
    SMALLEST_TABLE = 1 << 8
};
#define LEARNING_RATE (1.0 / 8)

/* The chances before anything was learnt, by how many tokens agree. The guesses of short runs are not worth verifying
 * until they have proved themselves. */
static const float first_chances[AGREE_MAX + 1] = {0, 0, 0.2f, 0.35f, 0.5f, 0.6f, 0.7f, 0.75f, 0.8f, 0.85f, 0.9f};

struct lookup {
    uint32_t *place[RUNS]; /* by a run's hash: the position after its newest place, 0: none */
    uint32_t mask;
    uint32_t indexed;     /* runs that end at or before this position are in the tables    */
    uint32_t from, agree; /* the guess: what stands at `from`, where `agree` tokens before it agree; 0: no guess */
    float chance[AGREE_MAX + 1];
};

/* Twice the positions, so that few runs share a slot. */
static uint64_t table_size(uint32_t n_ctx) {
    uint64_t size = SMALLEST_TABLE;
    while (size < 2ull * n_ctx && size < 1ull << 31) size *= 2;
    return size;
}

uint64_t lookup_bytes(uint32_t n_ctx) {
    return sizeof(lookup) + RUNS * table_size(n_ctx) * sizeof(uint32_t);
}

snug_err lookup_create(uint32_t n_ctx, lookup **out, snug_error *err) {
    uint64_t size = table_size(n_ctx);
    lookup *lk = *out = calloc(1, sizeof *lk);
    if (!lk) return err_nomem(err, sizeof *lk);
    lk->mask = (uint32_t)(size - 1);
    memcpy(lk->chance, first_chances, sizeof lk->chance);
    for (int i = 0; i < RUNS; i++)
        if (!(lk->place[i] = calloc(size, sizeof *lk->place[i]))) {
            lookup_destroy(out);
            return err_nomem(err, size * sizeof(uint32_t));
        }
    return SNUG_OK;
}

void lookup_destroy(lookup **lk) {
    if (!lk || !*lk) return;
    for (int i = 0; i < RUNS; i++) free((*lk)->place[i]);
    free(*lk);
    *lk = NULL;
}

/* The slot of the run of `len` tokens that ends before position `end`. */
static uint32_t *slot(const lookup *lk, const int32_t *tokens, uint32_t end, uint32_t len) {
    uint64_t h = 0;
    for (uint32_t i = end - len; i < end; i++) h = (h ^ (uint32_t)tokens[i]) * 0x9e3779b97f4a7c15u;
    return &lk->place[len - SHORTEST][(uint32_t)(h >> 32) & lk->mask];
}

static void index_up_to(lookup *lk, const int32_t *tokens, uint32_t end) {
    for (uint32_t e = lk->indexed + 1; e <= end; e++)
        for (uint32_t len = SHORTEST; len <= LONGEST && len <= e; len++) *slot(lk, tokens, e, len) = e;
    if (end > lk->indexed) lk->indexed = end;
}

bool lookup_find(lookup *lk, const int32_t *tokens, uint32_t n) {
    lk->agree = 0;
    if (n <= SHORTEST) return false;
    index_up_to(lk, tokens, n - 1);
    for (uint32_t len = LONGEST; len >= SHORTEST; len--) {
        if (len >= n) continue;
        uint32_t end = *slot(lk, tokens, n, len);
        if (end < len || end >= n) continue; /* none, or of a part of the text that was taken back */
        if (memcmp(tokens + end - len, tokens + n - len, len * sizeof *tokens) != 0) continue;
        lk->from = end;
        lk->agree = len;
        while (lk->agree < AGREE_MAX && lk->agree < end && tokens[end - lk->agree - 1] == tokens[n - lk->agree - 1])
            lk->agree++;
        return true;
    }
    return false;
}

static uint32_t capped(uint32_t agree) {
    return agree < AGREE_MAX ? agree : AGREE_MAX;
}

int32_t lookup_guess(const lookup *lk, const int32_t *tokens, uint32_t n, const int32_t *draft, uint32_t i,
                     double *chance) {
    uint32_t at = lk->from + i; /* past the end: the draft goes on copying itself */
    *chance = (double)lk->chance[capped(lk->agree + i)];
    return at < n ? tokens[at] : draft[at - n];
}

void lookup_learn(lookup *lk, const int32_t *tokens, uint32_t n) {
    if (!lk->agree) return;
    bool right = tokens[lk->from] == tokens[n];
    float *chance = &lk->chance[capped(lk->agree)];
    *chance += ((right ? 1.0f : 0.0f) - *chance) * (float)LEARNING_RATE;
    lk->from++;
    lk->agree = right ? lk->agree + 1 : 0;
}

void lookup_truncate(lookup *lk, uint32_t n) {
    lk->agree = 0;
    if (lk->indexed > n) lk->indexed = n;
}

void lookup_inherit(lookup *lk, const lookup *from) {
    memcpy(lk->chance, from->chance, sizeof lk->chance);
}
