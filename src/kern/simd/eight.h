/* What the levels of eight lanes share: they have no masks, and powers of two are made of their bits. Ends their vec.h. */
#ifndef KERN_SIMD_EIGHT_H
#define KERN_SIMD_EIGHT_H
#include "kern/canon.h"

enum { LANES = 8, MASKS = 0, SETS = 16 / LANES };

KERN_INLINE vf f_load_n(const float *p, size_t n) { return f_load(p); }
KERN_INLINE void f_store_n(float *p, size_t n, vf v) { f_store(p, v); }
KERN_INLINE vf f_of_half_n(const void *p, size_t n) { return f_of_half(p); }

KERN_INLINE vf power(vi n) { return f_of_bits(i_shl(i_add(n, i_set1(127)), 23)); }
KERN_INLINE vf f_scale(vf p, vf t) {
    vi n = i_sub(i_of_bits(t), i_set1((int)CANON_ROUND_BITS)), half = i_sar(n, 1);
    return f_mul(f_mul(p, power(half)), power(i_sub(n, half)));
}
/* n is in -150..0, so that p 2^(n + 64) is exact and 2^-64 alone rounds, as the second of the two halves does; shifted by 23, n's bits
 * stand where an exponent does. */
KERN_INLINE vf f_scale_negative(vf p, vf t) {
    vi scale = i_add(i_shl(i_of_bits(t), 23), i_set1((127 + 64) << 23));
    return f_mul(f_mul(p, f_of_bits(scale)), f_set1(0x1p-64f));
}
#endif
