/* exp of LANES floats, as softmax, silu and attention need it: canon_expf, lane by lane; f_max(LO, x) and f_min(HI, x) return x
 * when it is NaN, as the scalar comparisons do. */
#ifndef KERN_SIMD_VEXP_H
#define KERN_SIMD_VEXP_H
#include "kern/canon.h"

/* e^r, and in t the power of two that is missing (n in its low bits) */
KERN_INLINE vf vexp_reduced(vf x, vf *t) {
    *t = f_fma(x, f_set1(CANON_LOG2E), f_set1(CANON_ROUND));
    vf n = f_sub(*t, f_set1(CANON_ROUND)), r = f_fnma(n, f_set1(CANON_LN2_LO), f_fnma(n, f_set1(CANON_LN2_HI), x));
    vf p = f_set1(canon_exp_coef[0]);
    for (int i = 1; i < 8; i++) p = f_fma(p, r, f_set1(canon_exp_coef[i]));
    return p;
}

KERN_INLINE vf vexp(vf x) {
    vf t, p = vexp_reduced(f_min(f_set1(CANON_EXP_HI), f_max(f_set1(CANON_EXP_LO), x)), &t);
    return f_scale(p, t);
}

/* The same for x <= 0 or NaN. */
KERN_INLINE vf vexp_negative(vf x) {
    vf t, p = vexp_reduced(f_max(f_set1(CANON_EXP_LO), x), &t);
    return f_scale_negative(p, t);
}
#endif
