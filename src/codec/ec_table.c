/* The tables of ecR, in whole numbers alone, so that every decoder has the same (docs/format.md 3.12).
 *
 * Width t = 0, 1, ... is a Gaussian on the whole numbers whose standard deviation is 2^(t/8 - 2). Two bits per row choose how heavy its tails
 * are: mixtures of two widths. A code has slots where its share is at least half a slot, and one at least. */
#include "codec/ec.h"

#include <math.h>
#include <pthread.h>

enum { POWERS = 256, PART = 24 /* bits of a share */ };

static ec_table tables[EC_SHAPES][EC_WIDTHS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* How many widths apart the halves of a mixture lie, below and above. */
static const uint8_t below[EC_SHAPES] = {0, 4, 8, 13}, above[EC_SHAPES] = {0, 3, 6, 8};

/* Shares of the codes 0 .. 127 of width t, in 2^-24. */
static void shares(int t, const uint32_t power[POWERS], uint32_t out[EC_MOST + 1]) {
    /* q^2 log2(e) / 2 / deviation^2 in parts of 1/256 octave: 2^20 log2(e) / 2 times 16 times 2^(-i/4) */
    static const uint64_t quarter[4] = {12102203, 10176699, 8557550, 7196013};
    uint64_t sum = 0, weight[EC_MOST + 1];
    for (uint64_t q = 0; q <= EC_MOST; q++) {
        const uint64_t octaves = q * q * quarter[t % 4] >> (12 + t / 4);
        weight[q] = octaves >> 8 < 30 ? power[octaves & 255] >> (octaves >> 8) : 0;
        sum += (q ? 2 : 1) * weight[q];
    }
    for (int q = 0; q <= EC_MOST; q++) out[q] = (uint32_t)((weight[q] << PART) / sum);
}

static void take_slots(ec_table *t, int symbol, unsigned *first, unsigned n) {
    t->span[symbol] = n << 16 | *first;
    for (unsigned end = *first + n; *first < end; ++*first) t->of_slot[*first] = (uint8_t)symbol;
}

/* What a symbol of n slots takes at most: the state's rounding adds less than 2^-12 of a nat. */
static uint32_t cost_of(unsigned n) { return (uint32_t)ceil(EC_BIT * log2((double)EC_SLOTS / n)) + EC_BIT / 2048; }

static void fill_table(ec_table *t, const uint32_t share[EC_MOST + 1]) {
    int most = EC_MOST;
    while (most > 0 && share[most] < 1u << (PART - 13)) most--;
    uint64_t sum = share[0];
    for (int q = 1; q <= most; q++) sum += 2 * (uint64_t)share[q];
    unsigned n[EC_MOST + 1], taken = 1, first = 0;
    for (int q = 0; q <= most; q++) {
        n[q] = 1 + (unsigned)(share[q] * (uint64_t)(EC_SLOTS - 2 * most - 2) / sum);
        taken += (q ? 2 : 1) * n[q];
    }
    n[0] += EC_SLOTS - taken;
    take_slots(t, EC_ESCAPE, &first, 1);
    for (int q = -most; q <= most; q++) take_slots(t, ec_symbol(q), &first, n[q < 0 ? -q : q]);
    for (int s = 0; s < 256; s++) t->cost[s] = cost_of(1) + 8 * EC_BIT + EC_BIT / 2048;
    for (int q = -most; q <= most; q++) t->cost[ec_symbol(q)] = cost_of(n[q < 0 ? -q : q]);
}

static void fill(void) {
    static uint32_t share[EC_WIDTHS][EC_MOST + 1];
    uint32_t power[POWERS], mixed[EC_MOST + 1];
    uint64_t x = UINT64_C(1) << 62;
    for (int i = 0; i < POWERS; i++) { /* 2^(30 - i/256) */
        power[i] = (uint32_t)(x >> 32);
        x = (x >> 32) * UINT64_C(4283353945) + ((x & UINT32_MAX) * UINT64_C(4283353945) >> 32); /* 2^(32 - 1/256) */
    }
    for (int t = 0; t < EC_WIDTHS; t++) shares(t, power, share[t]);
    for (int shape = 0; shape < EC_SHAPES; shape++) {
        for (int t = 0; t < EC_WIDTHS; t++) {
            const int low = t > below[shape] ? t - below[shape] : 0, high = t + above[shape] < EC_WIDTHS ? t + above[shape] : EC_WIDTHS - 1;
            for (int q = 0; q <= EC_MOST; q++) mixed[q] = (share[low][q] + share[high][q]) / 2;
            fill_table(&tables[shape][t], mixed);
        }
    }
}

const ec_table *ec_tables(void) {
    pthread_once(&once, fill);
    return &tables[0][0];
}

const ec_table *ec_table_of(uint8_t row, uint8_t band) {
    /* -8 log2 of E: the third octaves are rounded */
    static const uint8_t down[32] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 19, 21, 24, 27, 29, 32, 35, 37, 40, 43, 45, 48, 51, 53, 0};
    const int v = row & 63, e = band >> 3, t = v - 1 + down[e] + 2 * ((band & 7) - EC_ZERO_Z);
    if (v == 0 || e == EC_NO_STEP) return NULL;
    return ec_tables() + (row >> 6) * EC_WIDTHS + (t < 0 ? 0 : t < EC_WIDTHS ? t : EC_WIDTHS - 1);
}
