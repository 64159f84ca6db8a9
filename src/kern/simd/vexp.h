/* exp of a register of floats, as softmax, silu and attention need it: canon_expf, lane by lane; f_max(LO, x) and f_min(HI, x) return x
 * when it is NaN, as the scalar comparisons do. */
#ifndef KERN_SIMD_VEXP_H
#define KERN_SIMD_VEXP_H
#include "kern/canon.h"

/* e^r, and in t the power of two that is missing (n in its low bits) */
KERN_INLINE vf vexp_reduced(vf x, vf *t) {
    *t = f_fma(x, f_set1(CANON_LOG2E), f_set1(CANON_ROUND));
    vf n = f_sub(*t, f_set1(CANON_ROUND));
    vf r = f_fnma(n, f_set1(CANON_LN2_HI), x);
    r = f_fnma(n, f_set1(CANON_LN2_LO), r);
    vf p = f_set1(canon_exp_coef[0]);
    for (int i = 1; i < 8; i++) p = f_fma(p, r, f_set1(canon_exp_coef[i]));
    return p;
}

KERN_INLINE vf vexp(vf x) {
    x = f_max(f_set1(CANON_EXP_LO), x);
    x = f_min(f_set1(CANON_EXP_HI), x);
    vf t, p = vexp_reduced(x, &t);
    const vi bias = i_set1(127);
    vi k = i_sub(i_of_bits(t), i_set1((int)CANON_ROUND_BITS));
    vi k1 = i_sar(k, 1), k2 = i_sub(k, k1);
    p = f_mul(p, f_of_bits(i_shl(i_add(k1, bias), 23)));
    return f_mul(p, f_of_bits(i_shl(i_add(k2, bias), 23)));
}

/* The same for x <= 0 or NaN. n is in -150..0, so that e^r 2^(n + 64) is exact and 2^-64 alone rounds, as the second of the
 * two halves does; shifted by 23, n's bits stand where an exponent does. */
KERN_INLINE vf vexp_negative(vf x) {
    vf t, p = vexp_reduced(f_max(f_set1(CANON_EXP_LO), x), &t);
    vi scale = i_add(i_shl(i_of_bits(t), 23), i_set1((127 + 64) << 23));
    return f_mul(f_mul(p, f_of_bits(scale)), f_set1(0x1p-64f));
}
#endif
