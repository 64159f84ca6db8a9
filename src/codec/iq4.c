/* iq4_nl, iq4_xs: 4-bit codes into ggml's table of 16 values (denser near 0, as weights are), w = s * value.
 *
 *     iq4_nl,  18 bytes:  | d: f16 | 16 bytes: code i low nibble, code i + 16 high |                             32 weights
 *     iq4_xs, 136 bytes:  | d: f16 | 8 x 2 upper bits of ls + 32 | 8 x 4 lower bits | 8 x 16 bytes of codes |   256 weights */
#include "codec/codecs.h"
#include "codec/kquant.h"
#include "codec/search.h"
#include "kern/blocks.h"

static void iq4_nl_fit(const block_in *in, block_scales *out) {
    int rounds = in->effort == SNUG_EFFORT_QUICK ? 1 : in->effort == SNUG_EFFORT_MAX ? 8 : 4;
    out->d = search_f16_scale(in, 32, -127, 113, kern_iq4_values, rounds);
}
static void iq4_xs_fit(const block_in *in, block_scales *out) {
    kquant_fit_signed(in, &(kquant_signed_shape){.len = 32, .table = kern_iq4_values, .ls_lo = -32, .ls_hi = 31}, out);
}

static void expand_nl(const block_scales *sc, float *s, float *m) { s[0] = f16_to_f32(sc->d); }
static void expand_xs(const block_scales *sc, float *s, float *m) {
    float d = f16_to_f32(sc->d);
    for (int j = 0; j < 8; j++) s[j] = d * (float)(int8_t)sc->ls[j];
}

/* Table value back to its index: binary search among the 16 ascending values. */
static unsigned code_of(int8_t value) {
    unsigned n = value > kern_iq4_values[7] ? 8 : 0;
    n += value > kern_iq4_values[n + 3] ? 4 : 0;
    n += value > kern_iq4_values[n + 1] ? 2 : 0;
    return n + (value > kern_iq4_values[n]);
}
static void pack_codes(const int8_t *q, uint8_t *dst) { /* 32 values -> 16 bytes */
    for (int i = 0; i < 16; i++) dst[i] = (uint8_t)(code_of(q[i]) | code_of(q[i + 16]) << 4);
}

static void iq4_nl_pack(const int8_t *q, const block_scales *sc, uint8_t *dst) {
    write_u16(dst, sc->d);
    pack_codes(q, dst + IQ4_NL_QS);
}

static void iq4_xs_pack(const int8_t *q, const block_scales *sc, uint8_t *dst) {
    unsigned high = 0;
    memset(dst + IQ4_XS_SCALES_L, 0, 4);
    for (int j = 0; j < 8; j++) {
        unsigned v = (unsigned)((int8_t)sc->ls[j] + 32);
        high |= v >> 4 << 2 * j;
        dst[IQ4_XS_SCALES_L + j / 2] |= (uint8_t)((v & 15) << 4 * (j % 2));
        pack_codes(q + 32 * j, dst + IQ4_XS_QS + 16 * j);
    }
    write_u16(dst + IQ4_XS_D, sc->d);
    write_u16(dst + IQ4_XS_SCALES_H, (uint16_t)high);
}

static const block_format iq4_nl_format = {.kern = KERN_IQ4_NL, .cols = 32, .bytes = IQ4_NL_BYTES, .group = 32,
                                           .table = kern_iq4_values, .fit = iq4_nl_fit, .expand = expand_nl, .pack = iq4_nl_pack};
static const block_format iq4_xs_format = {.kern = KERN_IQ4_XS, .cols = 256, .bytes = IQ4_XS_BYTES, .group = 32, .ls_lo = -32, .ls_hi = 31,
                                           .table = kern_iq4_values, .fit = iq4_xs_fit, .expand = expand_xs, .pack = iq4_xs_pack};

BLOCK_CODEC(iq4_nl, "iq4_nl", CODEC_ID_IQ4_NL, CODEC_GGML_IQ4_NL, 32);
BLOCK_CODEC(iq4_xs, "iq4_xs", CODEC_ID_IQ4_XS, CODEC_GGML_IQ4_XS, 256);
