/* q3_k, q6_k: 256 weights in 16 sub-blocks of 16, w = (d ls) q with signed integer sub-scales (layouts: kern/ref/kquants.c).
 *
 *     q3_k, 110 bytes:  | 32 bytes: third bits | 64 bytes: low pairs | 12 bytes: 16 x (ls + 32) of 6 bits | d |   codes -4..3
 *     q6_k, 210 bytes:  | 128 bytes: low nibbles | 64 bytes: top pairs | 16 x int8 | d |                       codes -32..31 */
#include "codec/codecs.h"
#include "codec/kquant.h"
#include "kern/blocks.h"

static void q3_k_fit(const block_in *in, block_scales *out) {
    kquant_fit_signed(in, &(kquant_signed_shape){.len = 16, .lo = -4, .hi = 3, .ls_lo = -32, .ls_hi = 31}, out);
}
static void q6_k_fit(const block_in *in, block_scales *out) {
    kquant_fit_signed(in, &(kquant_signed_shape){.len = 16, .lo = -32, .hi = 31, .ls_lo = -128, .ls_hi = 127}, out);
}

static void expand(const block_scales *sc, float *s, float *m) {
    float d = f16_to_f32(sc->d);
    for (int j = 0; j < 16; j++) s[j] = d * (float)(int8_t)sc->ls[j];
}

static void q3_k_pack(const int8_t *q, const block_scales *sc, uint8_t *dst) {
    memset(dst, 0, Q3_K_BYTES);
    for (int i = 0; i < 256; i++) {
        int c = q[i] + 4;
        dst[Q3_K_QS + i / 128 * 32 + i % 32] |= (uint8_t)((c & 3) << 2 * (i / 32 % 4));
        dst[Q3_K_HMASK + i % 32] |= (uint8_t)((c >> 2) << i / 32);
    }
    for (int j = 0; j < 16; j++) {
        int v = (int8_t)sc->ls[j] + 32;
        dst[Q3_K_SCALES + j % 8] |= (uint8_t)((v & 15) << 4 * (j / 8));
        dst[Q3_K_SCALES + 8 + j % 4] |= (uint8_t)((v >> 4) << 2 * (j / 4));
    }
    write_u16(dst + Q3_K_D, sc->d);
}

static void q6_k_pack(const int8_t *q, const block_scales *sc, uint8_t *dst) {
    memset(dst, 0, Q6_K_BYTES);
    for (int i = 0; i < 256; i++) {
        int n = i / 128, j = i / 32 % 4, l = i % 32, c = q[i] + 32;
        dst[Q6_K_QL + 64 * n + 32 * (j % 2) + l] |= (uint8_t)((c & 15) << 4 * (j / 2));
        dst[Q6_K_QH + 32 * n + l] |= (uint8_t)((c >> 4) << 2 * j);
    }
    memcpy(dst + Q6_K_SCALES, sc->ls, 16);
    write_u16(dst + Q6_K_D, sc->d);
}

static const block_format q3_k_format = {.kern = KERN_Q3_K, .cols = 256, .bytes = Q3_K_BYTES, .group = 16, .ls_lo = -32, .ls_hi = 31, .lo = -4, .hi = 3,
                                         .fit = q3_k_fit, .expand = expand, .pack = q3_k_pack};
static const block_format q6_k_format = {.kern = KERN_Q6_K, .cols = 256, .bytes = Q6_K_BYTES, .group = 16, .ls_lo = -128, .ls_hi = 127, .lo = -32, .hi = 31,
                                         .fit = q6_k_fit, .expand = expand, .pack = q6_k_pack};

BLOCK_CODEC(q3_k, "q3_k", CODEC_ID_Q3_K, CODEC_GGML_Q3_K, 256);
BLOCK_CODEC(q6_k, "q6_k", CODEC_ID_Q6_K, CODEC_GGML_Q6_K, 256);
