/* What the vector levels share: bodies written once, over a small vocabulary that each level defines in its own intrinsics before it
 * includes them. panel_*.h want any LANES and what is marked *; the other bodies LANES = 8 and all of it. 16 registers of 8 lanes and 32
 * of 4 hold as many numbers: what is blocked for the one is blocked for the other, where a vf is a pair of registers.
 *
 *     vf * LANES floats      f_load f_store f_zero f_set1 f_mul f_add f_neg *   f_sub f_div
 *                            f_fma(a, b, c) a b + c *   f_fms a b - c   f_fnma -(a b) + c
 *                            f_max(a, b) a > b ? a : b   f_min(a, b) a < b ? a : b      (so b where one is a NaN)
 *                            f_of_half(p) f_of_bf16(p) * LANES values to floats   f_to_half(p, v) and back   half(p) one f16
 *                            f_load1(p) one value in all lanes   f_stay(v) the same v, kept in a register
 *                            tree16(low, high) canon_tree16   f_highest(v) the greatest lane, where none is a NaN
 *                            f_rope4(x, c, s) rotates four pairs (2i, 2i+1)
 *     vi * 4 LANES bytes     v_load v_store v_and(a, bits) v_or v_shr v_shl *   v_sub(a, byte)
 *                            shifts are of bytes or of pairs of them: mask away what a neighbour may have sent
 *          LANES int32       f_of_int *   i_of_bits(vf) f_of_bits(vi) i_set1 i_add i_sub i_shl i_sar
 *     xi * LANES bytes       x_load x_and(a, bits) x_or x_shr x_shl x_sub(a, byte) f_of_bytes(x) f_of_signed(x) *
 *                            x_load_halves(p, n) the low bytes of LANES halves shifted down by n *
 *                            f_table32(t, e) f_table8(t, z) t[e] *   x_set(u) the bytes of a uint64_t
 *     codes                  v_code8(u) stored codes of 8 bits and v_iq4(u) the table's values + 128, both less BIAS *
 *                            v_plane4(p) v_plane2(p) v_plane1(p) 32 codes of a chunk from its plane of 4, 2, 1 bits */
#ifndef KERN_SIMD_SIMD_H
#define KERN_SIMD_SIMD_H
#include <string.h>
#include "base/f16.h"
#include "kern/kern.h"

#endif
