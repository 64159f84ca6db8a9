/* Sparse and ternary rows: what the levels and the codecs both read of their format (docs/format.md 3.5; kern_sparse in kern/kern.h). */
#ifndef KERN_SPARSE_H
#define KERN_SPARSE_H
#include "kern/blocks.h"
#include "kern/kern.h"

/* Which of 4 weights have codes, as bits, by the index of 2_OF_4; 6 and 7 are not written. */
static const uint8_t kern_2of4[8] = {3, 5, 9, 6, 10, 12, 3, 3};
/* Ternary scales: 2^(-e/4) rounded, 0 for e = 15. */
static const float kern_tern_scale[16] = {
    1,      0x1.ae89fap-1f, 0x1.6a09e6p-1f, 0x1.306fe0p-1f, 0x1p-1f, 0x1.ae89fap-2f, 0x1.6a09e6p-2f, 0x1.306fe0p-2f,
    0x1p-2f, 0x1.ae89fap-3f, 0x1.6a09e6p-3f, 0x1.306fe0p-3f, 0x1p-3f, 0x1.ae89fap-4f, 0x1.6a09e6p-4f, 0,
};
/* S, and z's unit G, of codes of B bits. A grid spans 32 units of q on either side and z widens its middle by up to 28; B = 6 twice
 * that; all within int8. B = 8: plain integers. */
static inline int kern_sparse_step(unsigned bits) { return bits == 8 ? 1 : bits == 1 || bits == 6 ? 2 : 64 >> bits; }
static inline int kern_sparse_gap(unsigned bits) { return bits == 8 || bits == 1 ? 0 : bits == 6 ? 4 : 2; }
/* v of code 0 */
static inline int kern_sparse_lowest(unsigned bits) { return bits == 8 ? -128 : -kern_sparse_step(bits) * ((1 << bits) - 1) / 2; }

/* The scale of a chunk of group g, and its z. */
static inline float kern_sparse_scale(const kern_sparse *f, float d, const uint8_t *scales, size_t g, int *z) {
    const unsigned byte = scales[f->bits >= 2 ? g : g / 2];
    *z = f->bits >= 2 ? (int)(byte & 7) : 0;
    return d * (f->bits >= 2 ? kern_int_scale[byte >> 3] : kern_tern_scale[byte >> 4 * (g % 2) & 15]);
}

/* Trits of five chunks, or of as many as are left, stand in as few bytes as hold them: trit i in byte i mod n_bytes, and is its
 * digit i div n_bytes. Read as a fraction x / 256 the byte's first digit in base 3 is the integer part of 3 x. This is -1, 0, 1 for
 * weight i of chunk c. */
static inline int kern_trit(const uint8_t *p, size_t n_chunks, size_t c, size_t i) {
    const size_t first = c / 5 * 5, in_block = n_chunks - first < 5 ? n_chunks - first : 5, n_bytes = (32 * in_block + 4) / 5;
    i += 32 * (c - first);
    unsigned x = p[32 * (c / 5) + i % n_bytes];
    for (size_t digit = i / n_bytes; digit > 0; digit--) x = 3 * x & 255;
    return (int)(3 * x >> 8) - 1;
}
#endif
