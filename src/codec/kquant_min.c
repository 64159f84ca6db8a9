/* q2_k, q4_k, q5_k: 256 weights, w = (d ls) q - (dmin lm) with d, dmin f16 and integer sub-scales (layouts: kern/ref/kquants.c).
 *
 *     q2_k,  84 bytes:  | 16 x (ls | lm << 4) | 64 bytes of codes | d | dmin |          16 sub-blocks of 16, codes 0..3
 *     q4_k, 144 bytes:  | d | dmin | 12 bytes: 8 x (ls, lm) of 6 bits | 128 bytes of codes |  8 of 32, codes 0..15
 *     q5_k, 176 bytes:  | d | dmin | 12 bytes | 32 bytes: fifth bits | 128 bytes |      8 of 32, codes 0..31 */
#include "codec/codecs.h"
#include "codec/kquant.h"
#include "kern/blocks.h"

static void q2_k_fit(const block_in *in, block_scales *out) {
    kquant_fit_min(in, &(kquant_min_shape){.len = 16, .hi = 3, .top = 15}, out);
}
static void q4_k_fit(const block_in *in, block_scales *out) {
    kquant_fit_min(in, &(kquant_min_shape){.len = 32, .hi = 15, .top = 63}, out);
}
static void q5_k_fit(const block_in *in, block_scales *out) {
    kquant_fit_min(in, &(kquant_min_shape){.len = 32, .hi = 31, .top = 63}, out);
}

static void expand(const block_scales *sc, int n_sub, float *s, float *m) {
    float d = f16_to_f32(sc->d), dmin = f16_to_f32(sc->dmin);
    for (int j = 0; j < n_sub; j++) {
        s[j] = d * (float)sc->ls[j];
        m[j] = -(dmin * (float)sc->lm[j]);
    }
}
static void expand16(const block_scales *sc, float *s, float *m) { expand(sc, 16, s, m); }
static void expand8(const block_scales *sc, float *s, float *m) { expand(sc, 8, s, m); }

static void q2_k_pack(const int8_t *q, const block_scales *sc, uint8_t *dst) {
    memset(dst, 0, Q2_K_BYTES);
    for (int j = 0; j < 16; j++) dst[Q2_K_SCALES + j] = (uint8_t)(sc->ls[j] | sc->lm[j] << 4);
    for (int i = 0; i < 256; i++) dst[Q2_K_QS + i / 128 * 32 + i % 32] |= (uint8_t)(q[i] << 2 * (i / 32 % 4));
    write_u16(dst + Q2_K_D, sc->d);
    write_u16(dst + Q2_K_DMIN, sc->dmin);
}

/* 8 pairs of 6 bits in 12 bytes: pairs 0-3 in the low 6 bits of bytes 0-3 (ls) and 4-7 (lm), pairs 4-7 in the nibbles of bytes 8-11,
 * their upper two bits on top of bytes 0-3 and 4-7. */
static void pack_scales(const block_scales *sc, uint8_t *dst) {
    write_u16(dst + Q4_K_D, sc->d);
    write_u16(dst + Q4_K_DMIN, sc->dmin);
    uint8_t *b = dst + Q4_K_SCALES;
    for (int j = 0; j < 4; j++) {
        b[j] = (uint8_t)(sc->ls[j] | sc->ls[j + 4] >> 4 << 6);
        b[j + 4] = (uint8_t)(sc->lm[j] | sc->lm[j + 4] >> 4 << 6);
        b[j + 8] = (uint8_t)((sc->ls[j + 4] & 15) | (sc->lm[j + 4] & 15) << 4);
    }
}

static void q4_k_pack(const int8_t *q, const block_scales *sc, uint8_t *dst) {
    pack_scales(sc, dst);
    for (int i = 0; i < 128; i++) {
        int at = i / 32 * 64 + i % 32;
        dst[Q4_K_QS + i] = (uint8_t)(q[at] | q[at + 32] << 4);
    }
}

static void q5_k_pack(const int8_t *q, const block_scales *sc, uint8_t *dst) {
    pack_scales(sc, dst);
    memset(dst + Q5_K_QH, 0, 32);
    for (int i = 0; i < 256; i++) dst[Q5_K_QH + i % 32] |= (uint8_t)((q[i] >> 4) << i / 32);
    for (int i = 0; i < 128; i++) {
        int at = i / 32 * 64 + i % 32;
        dst[Q5_K_QS + i] = (uint8_t)((q[at] & 15) | (q[at + 32] & 15) << 4);
    }
}

static const block_format q2_k_format = {.kern = KERN_Q2_K, .cols = 256, .bytes = Q2_K_BYTES, .group = 16, .ls_hi = 15, .lm_hi = 15, .has_min = true,
                                         .lo = 0, .hi = 3, .fit = q2_k_fit, .expand = expand16, .pack = q2_k_pack};
static const block_format q4_k_format = {.kern = KERN_Q4_K, .cols = 256, .bytes = Q4_K_BYTES, .group = 32, .ls_hi = 63, .lm_hi = 63, .has_min = true,
                                         .lo = 0, .hi = 15, .fit = q4_k_fit, .expand = expand8, .pack = q4_k_pack};
static const block_format q5_k_format = {.kern = KERN_Q5_K, .cols = 256, .bytes = Q5_K_BYTES, .group = 32, .ls_hi = 63, .lm_hi = 63, .has_min = true,
                                         .lo = 0, .hi = 31, .fit = q5_k_fit, .expand = expand8, .pack = q5_k_pack};

BLOCK_CODEC(q2_k, "q2_k", CODEC_ID_Q2_K, CODEC_GGML_Q2_K, 256);
BLOCK_CODEC(q4_k, "q4_k", CODEC_ID_Q4_K, CODEC_GGML_Q4_K, 256);
BLOCK_CODEC(q5_k, "q5_k", CODEC_ID_Q5_K, CODEC_GGML_Q5_K, 256);
