/* What the vector levels share: bodies written once, over a small vocabulary that each level defines in its own intrinsics (vec.h)
 * before it includes them. LANES is 8 or 16; all bodies take either, but those of unpack, which want 8: AVX-512 has nothing better to do
 * there, and leaves out what is marked -. 16 registers of 8 lanes and 32 of 4 hold as many numbers: what is blocked for the one is
 * blocked for the other, where a vf is a pair of registers.
 *
 *     vf   LANES floats      f_load f_store f_zero f_set1 f_add f_sub f_mul f_div f_neg
 *                            f_fma(a, b, c) a b + c   f_fms a b - c   f_fnma -(a b) + c
 *                            f_max(a, b) a > b ? a : b   f_min(a, b) a < b ? a : b      (so b where one is a NaN)
 *                            f_of_half(p) f_of_bf16(p) LANES values to floats   f_to_half(p, v) and back   half(p) one f16
 *                            f_stay(v) the same v, kept in a register
 *                            tree16(l) canon_tree16 of SETS = 16 / LANES vectors   f_highest(v) the greatest lane, where none is a NaN
 *                            f_scale(p, t) p 2^n, one rounding, n being vexp.h's in t's low bits   f_scale_negative(p, t) for n <= 0
 *                            f_rope(x, c, s) rotates LANES / 2 pairs (2i, 2i+1)
 *                            f_load_n f_store_n f_of_half_n the first n lanes, the others +0; without MASKS n must be LANES
 *     vi   4 LANES bytes     v_load v_store v_and(a, bits) v_or v_sub(a, byte) v_shr v_shl v_stay
 *                            shifts are of bytes or of pairs of them: mask away what a neighbour may have sent
 *                            v_select(bits, a, b) a's where bits are set, b's elsewhere
 *                            v_lookup(t, i) t[i], i < 16   v_tcqf(p) codes of the states of LANES rows (kern/trellis.h)
 *                            v_tcq(p, w, mask, fields) codes u of the states of LANES rows and four columns (kern/trellis.h)
 *                            v_books(p, books, k, lattice, out) codes u of two words of LANES rows (kern/books.h)
 *                            v_triple(a) 3 a   v_digits(a) tq1_digit(a + 128, 0): the thirds of 256 are at 85.3
 *                            and 170.7, and as 3 * 128 is 128 more than 256, bytes less 128 are tripled as those without
 *          LANES int32       f_of_int   i_of_bytes(x)   f_table8(t, i) t[i mod 8]   f_table32(t, i) t[i], i < 32
 *                            i_of_bits(vf) f_of_bits(vi) i_set1 i_add i_sub i_shl i_sar -
 *     xi   LANES bytes       x_load x_and(a, bits) x_or x_sub(a, byte) x_shr x_shl f_of_bytes(x) f_of_signed(x)
 *                            x_load_halves(p, n) the low bytes of LANES halves shifted down by n   x_set(u) the bytes of a uint64_t -
 *     codes                  v_code8(u) stored codes of 8 bits and v_iq4(u) the table's values + 128, both less BIAS
 *                            v_plane4(p) v_plane2(p) v_plane1(p) 32 codes of a chunk from its plane of 4, 2, 1 bits - */
#ifndef KERN_SIMD_SIMD_H
#define KERN_SIMD_SIMD_H
#include <string.h>
#include "base/f16.h"
#include "kern/kern.h"

#endif
