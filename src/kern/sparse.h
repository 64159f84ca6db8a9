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
/* |q| of the k-th magnitude of codes of 2 to 5 bits in grid z, the last repeated. Grids of what the largest weights of Gaussian, Laplace
 * and Student sources look like, fitted to all of them (docs/codecs.md). */
static const int8_t kern_sparse_grid[4][8][16] = {
    {{14, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {25, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {35, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {44, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {52, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {61, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {72, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {85, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127}},
    {{10, 24, 45, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {15, 36, 69, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {22, 39, 62, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {23, 48, 80, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {32, 57, 88, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {33, 51, 74, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {44, 65, 91, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {59, 77, 99, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127}},
    {{8, 15, 24, 35, 47, 64, 85, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {12, 21, 32, 44, 58, 76, 100, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {17, 27, 36, 47, 60, 74, 92, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {20, 30, 41, 54, 68, 85, 105, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {26, 36, 46, 58, 70, 84, 102, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {30, 40, 51, 65, 80, 97, 113, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {38, 48, 59, 70, 82, 96, 114, 127, 127, 127, 127, 127, 127, 127, 127, 127},
     {44, 54, 64, 75, 87, 101, 115, 127, 127, 127, 127, 127, 127, 127, 127, 127}},
    {{6, 9, 12, 16, 20, 25, 30, 35, 41, 47, 55, 64, 74, 88, 108, 127},
     {9, 14, 18, 23, 28, 33, 39, 45, 52, 59, 68, 78, 89, 101, 114, 127},
     {14, 18, 23, 27, 32, 36, 41, 47, 53, 59, 66, 73, 82, 94, 111, 127},
     {17, 22, 26, 31, 37, 42, 49, 55, 62, 69, 77, 86, 96, 106, 116, 127},
     {22, 27, 32, 37, 41, 47, 52, 58, 64, 70, 77, 84, 93, 103, 115, 127},
     {27, 32, 36, 42, 47, 53, 60, 67, 74, 82, 90, 98, 106, 113, 120, 127},
     {35, 39, 44, 49, 55, 60, 66, 71, 77, 83, 90, 98, 107, 114, 121, 127},
     {41, 45, 50, 55, 60, 65, 71, 76, 82, 88, 95, 102, 109, 115, 121, 127}},
};
/* |q| of magnitude k < 2^(B-1), B = 1 .. 6. */
static inline int kern_sparse_magnitude(unsigned bits, int z, int k) {
    return bits == 1 ? 1 : bits == 6 ? 2 * k + 1 + 4 * z : kern_sparse_grid[bits - 2][z][k];
}
/* q of code c. */
static inline int kern_sparse_q(unsigned bits, int z, int c) {
    const int n = 1 << (bits - 1);
    if (bits == 8) return c - 128;
    return c < n ? -kern_sparse_magnitude(bits, z, n - 1 - c) : kern_sparse_magnitude(bits, z, c - n);
}

/* The scale of a chunk of group g, and its z. */
static inline float kern_sparse_scale(const kern_sparse *f, float d, const uint8_t *scales, size_t g, int *z) {
    const unsigned byte = scales[f->bits >= 2 ? g : g / 2];
    *z = f->bits >= 2 ? (int)(byte & 7) : 0;
    return d * (f->bits >= 2 ? kern_int_scale[byte >> 3] : kern_tern_scale[byte >> 4 * (g % 2) & 15]);
}

/* The trits of five chunks stand in 32 bytes, those of a chunk that is left in 8: trit i in byte i mod 32 (8), and is its digit i div 32.
 * Read as a fraction x / 256 a byte's first digit in base 3 is the integer part of 3 x. This is -1, 0, 1 for weight i of chunk c. */
static inline int kern_trit(const uint8_t *p, size_t n_chunks, size_t c, size_t i) {
    const bool five = c / 5 * 5 + 5 <= n_chunks;
    const size_t n_bytes = five ? 32 : 8, k = five ? 32 * (c % 5) + i : i;
    unsigned x = p[32 * (c / 5) + (five ? 0 : 8 * (c % 5)) + k % n_bytes];
    for (size_t digit = k / n_bytes; digit > 0; digit--) x = 3 * x & 255;
    return (int)(3 * x >> 8) - 1;
}
#endif
