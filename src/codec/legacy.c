/* q8_0 and q4_0: ggml's blocks of 32 with one f16 scale d,  w = d * q,  q in -127..127 (-8..7, d of either sign).
 *
 *     q8_0, 34 bytes:  | d: f16 | 32 x int8 |        q4_0, 18 bytes:  | d: f16 | 16 bytes: q[i] + 8 low, q[i + 16] + 8 high |
 */
#include "codec/block.h"
#include "codec/codecs.h"
#include "codec/search.h"
#include "kern/blocks.h"

static void q8_0_fit(const block_in *in, block_scales *out) {
    out->d = search_f16_scale(in, 32, -127, 127, NULL, in->effort == SNUG_EFFORT_QUICK ? 1 : 2);
}

static void q4_0_fit(const block_in *in, block_scales *out) {
    out->d = search_f16_scale(in, 32, -8, 7, NULL, in->effort == SNUG_EFFORT_QUICK ? 2 : 4);
}

static void expand(const block_scales *sc, float *s, float *m) { s[0] = f16_to_f32(sc->d); }

static void q8_0_pack(const int8_t *q, const block_scales *sc, uint8_t *dst) {
    write_u16(dst, sc->d);
    memcpy(dst + Q8_0_QS, q, 32);
}

static void q4_0_pack(const int8_t *q, const block_scales *sc, uint8_t *dst) {
    write_u16(dst, sc->d);
    for (int i = 0; i < 16; i++) dst[Q4_0_QS + i] = (uint8_t)((q[i] + 8) | (q[i + 16] + 8) << 4);
}

static const block_format q8_0_format = {.kern = KERN_Q8_0, .cols = 32, .bytes = Q8_0_BYTES, .group = 32, .lo = -127, .hi = 127,
                                         .fit = q8_0_fit, .expand = expand, .pack = q8_0_pack};
static const block_format q4_0_format = {.kern = KERN_Q4_0, .cols = 32, .bytes = Q4_0_BYTES, .group = 32, .lo = -8, .hi = 7,
                                         .fit = q4_0_fit, .expand = expand, .pack = q4_0_pack};

BLOCK_CODEC(q8_0, "q8_0", CODEC_ID_Q8_0, CODEC_GGML_Q8_0, 32);
BLOCK_CODEC(q4_0, "q4_0", CODEC_ID_Q4_0, CODEC_GGML_Q4_0, 32);
