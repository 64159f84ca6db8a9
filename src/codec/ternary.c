/* tq1_0, tq2_0: ggml's ternary types, w = d q with q in -1, 0, 1, 256 weights under one f16 (layouts: kern/ref/ternary.c). They hold weights
 * that were trained to be so, as BitNet's are, without any loss, if d is an f16 as bf16 numbers between 2^-14 and 2^16 are.
 *
 *     tq1_0, 54 bytes, 1.6875 bits a weight: five base-3 digits v = 81 t0 + 27 t1 + 9 t2 + 3 t3 + t4 in a byte, as the fraction v / 243 of 256,
 *                      rounded up; then digit after digit comes out at the top of three times what is left
 *     tq2_0, 66 bytes, 2.0625 bits a weight: q + 1 in pairs of bits
 *
 * The best d is found, not searched for: the weights that are not 0 are the largest of the block, however they are weighed, since each is
 * rounded to the nearest by itself. Of the k largest, d = sum a |w| / sum a, which takes (sum a |w|)^2 / sum a off the error. */
#include "codec/codecs.h"
#include "codec/search.h"
#include "kern/blocks.h"

enum { WEIGHTS = 256 };

/* Numbers of 32 bits in rising order, each with its index behind it in the low half: a byte at a time from the lowest, in place after
 * an even number of passes. */
static void sort(uint64_t *v, size_t n) {
    uint64_t room[WEIGHTS], *from = v, *to = room;
    for (int shift = 32; shift < 64; shift += 8) {
        size_t at[256] = {0}, sum = 0;
        for (size_t i = 0; i < n; i++) at[from[i] >> shift & 255]++;
        for (size_t b = 0, count; b < 256; b++, sum += count) count = at[b], at[b] = sum;
        for (size_t i = 0; i < n; i++) to[at[from[i] >> shift & 255]++] = from[i];
        uint64_t *swap = from;
        from = to, to = swap;
    }
}

static void fit(const block_in *in, block_scales *out) {
    uint64_t order[WEIGHTS];
    double a = 0, ax = 0, best = 0, d = 0;
    for (size_t i = 0; i < WEIGHTS; i++) order[i] = (uint64_t)~f32_to_bits(fabsf(in->x[i])) << 32 | i; /* the largest first */
    sort(order, WEIGHTS);
    for (size_t k = 0; k < WEIGHTS; k++) {
        const size_t i = order[k] & (WEIGHTS - 1);
        a += (double)in->a[i];
        ax += (double)in->a[i] * (double)fabsf(in->x[i]);
        if (ax * ax > best * a) best = ax * ax / a, d = ax / a;
    }
    out->d = block_f16_bits((float)d, in->unit);
}

static void expand(const block_scales *sc, float *s, float *m) {
    for (int j = 0; j < 8; j++) s[j] = f16_to_f32(sc->d);
}

static void tq1_0_pack(const int8_t *q, const block_scales *sc, uint8_t *dst) {
    static const uint8_t power[5] = {81, 27, 9, 3, 1};
    unsigned v[TQ1_0_D] = {0};
    for (unsigned i = 0; i < 256; i++) {
        const tq1_place at = tq1_place_of(i);
        v[at.byte] += (unsigned)(q[i] + 1) * power[at.digit];
    }
    for (size_t i = 0; i < TQ1_0_D; i++) dst[i] = (uint8_t)((256 * v[i] + 242) / 243);
    write_u16(dst + TQ1_0_D, sc->d);
}

static void tq2_0_pack(const int8_t *q, const block_scales *sc, uint8_t *dst) {
    memset(dst, 0, TQ2_0_D);
    for (int i = 0; i < 256; i++) dst[TQ2_0_QS + i / 128 * 32 + i % 32] |= (uint8_t)((q[i] + 1) << 2 * (i / 32 % 4));
    write_u16(dst + TQ2_0_D, sc->d);
}

void tq2_0_pack_row(const int8_t *q, size_t cols, uint16_t d, uint8_t *dst) {
    const block_scales sc = {.d = d};
    for (size_t c = 0; c + WEIGHTS <= cols; c += WEIGHTS, dst += TQ2_0_BYTES) tq2_0_pack(q + c, &sc, dst);
}

static const block_format tq1_0_format = {.kern = KERN_TQ1_0, .cols = 256, .bytes = TQ1_0_BYTES, .group = 32, .lo = -1, .hi = 1,
                                          .fit = fit, .expand = expand, .pack = tq1_0_pack};
static const block_format tq2_0_format = {.kern = KERN_TQ2_0, .cols = 256, .bytes = TQ2_0_BYTES, .group = 32, .lo = -1, .hi = 1,
                                          .fit = fit, .expand = expand, .pack = tq2_0_pack};

BLOCK_CODEC(tq1_0, "tq1_0", CODEC_ID_TQ1_0, CODEC_GGML_TQ1_0, 256);
BLOCK_CODEC(tq2_0, "tq2_0", CODEC_ID_TQ2_0, CODEC_GGML_TQ2_0, 256);
