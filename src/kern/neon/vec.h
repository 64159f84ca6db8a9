/* The vocabulary of kern/simd/simd.h in NEON: eight lanes in a pair of registers. */
#ifndef KERN_NEON_VEC_H
#define KERN_NEON_VEC_H
#include "kern/blocks.h"
#include "kern/neon/neon.h"
#include "kern/books.h"
#include "kern/trellis.h"

typedef struct vi { uint8x16_t lo, hi; } vi;
typedef struct vf { float32x4_t lo, hi; } vf;
typedef uint8x8_t xi;

/* Shifts by vectors of the compiler: constants become immediates, which the intrinsics would want before inlining. */
KERN_INLINE vi v_load(const void *p) { return (vi){vld1q_u8(p), vld1q_u8((const uint8_t *)p + 16)}; }
KERN_INLINE void v_store(void *p, vi v) { vst1q_u8(p, v.lo), vst1q_u8((uint8_t *)p + 16, v.hi); }
KERN_INLINE vi v_and(vi a, int bits) {
    const uint8x16_t b = vdupq_n_u8((uint8_t)bits);
    return (vi){vandq_u8(a.lo, b), vandq_u8(a.hi, b)};
}
KERN_INLINE vi v_or(vi a, vi b) { return (vi){vorrq_u8(a.lo, b.lo), vorrq_u8(a.hi, b.hi)}; }
KERN_INLINE vi v_shr(vi a, int n) { return (vi){a.lo >> n, a.hi >> n}; }
KERN_INLINE vi v_shl(vi a, int n) { return (vi){a.lo << n, a.hi << n}; }
KERN_INLINE vi v_sub(vi a, int byte) {
    const uint8x16_t b = vdupq_n_u8((uint8_t)byte);
    return (vi){vsubq_u8(a.lo, b), vsubq_u8(a.hi, b)};
}
KERN_INLINE vi v_select(int bits, vi a, vi b) {
    const uint8x16_t m = vdupq_n_u8((uint8_t)bits);
    return (vi){vbslq_u8(m, a.lo, b.lo), vbslq_u8(m, a.hi, b.hi)};
}
KERN_INLINE uint8x16_t first_digits(int8x16_t a) { /* comparisons give -1 */
    return vsubq_u8(vdupq_n_u8(0), vaddq_u8(vcgtq_s8(a, vdupq_n_s8(-43)), vcgtq_s8(a, vdupq_n_s8(42))));
}
KERN_INLINE vi v_digits(vi a) { return (vi){first_digits(vreinterpretq_s8_u8(a.lo)), first_digits(vreinterpretq_s8_u8(a.hi))}; }
KERN_INLINE vi v_triple(vi a) { return (vi){vmulq_u8(a.lo, vdupq_n_u8(3)), vmulq_u8(a.hi, vdupq_n_u8(3))}; }
KERN_INLINE vi v_stay(vi v) {
    __asm__("" : "+w"(v.lo), "+w"(v.hi));
    return v;
}

KERN_INLINE vf f_load(const float *p) { return (vf){vld1q_f32(p), vld1q_f32(p + 4)}; }
KERN_INLINE void f_store(float *p, vf v) { vst1q_f32(p, v.lo), vst1q_f32(p + 4, v.hi); }
KERN_INLINE vf f_set1(float v) { return (vf){vdupq_n_f32(v), vdupq_n_f32(v)}; }
KERN_INLINE vf f_zero(void) { return f_set1(0); }
KERN_INLINE vf f_add(vf a, vf b) { return (vf){vaddq_f32(a.lo, b.lo), vaddq_f32(a.hi, b.hi)}; }
KERN_INLINE vf f_sub(vf a, vf b) { return (vf){vsubq_f32(a.lo, b.lo), vsubq_f32(a.hi, b.hi)}; }
KERN_INLINE vf f_mul(vf a, vf b) { return (vf){vmulq_f32(a.lo, b.lo), vmulq_f32(a.hi, b.hi)}; }
KERN_INLINE vf f_div(vf a, vf b) { return (vf){vdivq_f32(a.lo, b.lo), vdivq_f32(a.hi, b.hi)}; }
KERN_INLINE vf f_neg(vf a) { return (vf){vnegq_f32(a.lo), vnegq_f32(a.hi)}; }
KERN_INLINE vf f_fma(vf a, vf b, vf c) { return (vf){vfmaq_f32(c.lo, a.lo, b.lo), vfmaq_f32(c.hi, a.hi, b.hi)}; }
KERN_INLINE vf f_fms(vf a, vf b, vf c) { return f_fma(a, b, f_neg(c)); }
KERN_INLINE vf f_fnma(vf a, vf b, vf c) { return (vf){vfmsq_f32(c.lo, a.lo, b.lo), vfmsq_f32(c.hi, a.hi, b.hi)}; }
KERN_INLINE vf f_max(vf a, vf b) { return (vf){vbslq_f32(vcgtq_f32(a.lo, b.lo), a.lo, b.lo), vbslq_f32(vcgtq_f32(a.hi, b.hi), a.hi, b.hi)}; }
KERN_INLINE vf f_min(vf a, vf b) { return (vf){vbslq_f32(vcltq_f32(a.lo, b.lo), a.lo, b.lo), vbslq_f32(vcltq_f32(a.hi, b.hi), a.hi, b.hi)}; }
KERN_INLINE vf f_of_half(const void *p) {
    const float16x8_t h = vreinterpretq_f16_u8(vld1q_u8(p));
    return (vf){vcvt_f32_f16(vget_low_f16(h)), vcvt_high_f32_f16(h)};
}
KERN_INLINE vf f_of_bf16(const void *p) {
    const uint16x8_t h = vreinterpretq_u16_u8(vld1q_u8(p));
    return (vf){vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(h), 16)), vreinterpretq_f32_u32(vshll_high_n_u16(h, 16))};
}
KERN_INLINE void f_to_half(void *p, vf v) { vst1q_u8(p, vreinterpretq_u8_f16(vcvt_high_f16_f32(vcvt_f16_f32(v.lo), v.hi))); }
KERN_INLINE float half(const void *p) {
    __fp16 h;
    memcpy(&h, p, sizeof h);
    return h;
}
KERN_INLINE vf f_stay(vf v) {
    __asm__("" : "+w"(v.lo), "+w"(v.hi));
    return v;
}
KERN_INLINE float tree16(const vf l[2]) {
    const vf v = f_add(l[0], l[1]);
    const float32x4_t a = vaddq_f32(v.lo, v.hi);                    /* l[i] + l[i + 4] */
    return vpadds_f32(vadd_f32(vget_low_f32(a), vget_high_f32(a))); /* 0+4+2+6, 1+5+3+7 */
}
KERN_INLINE float f_highest(vf v) { return vmaxvq_f32(vmaxq_f32(v.lo, v.hi)); }
/* As the rotation of halves, between loads and stores that part even from odd. */
KERN_INLINE void f_rope(float *x, const float *c, const float *s) {
    float32x4x2_t v = vld2q_f32(x);
    const float32x4_t a = v.val[0], b = v.val[1], vc = vld1q_f32(c), vs = vld1q_f32(s);
    v.val[0] = vfmaq_f32(vnegq_f32(vmulq_f32(b, vs)), a, vc);
    v.val[1] = vfmaq_f32(vmulq_f32(b, vc), a, vs);
    vst2q_f32(x, v);
}

#define INTS(r) vreinterpretq_s32_u8(r)
#define BYTES_OF(r) vreinterpretq_u8_s32(r)
KERN_INLINE vf f_of_int(vi v) { return (vf){vcvtq_f32_s32(INTS(v.lo)), vcvtq_f32_s32(INTS(v.hi))}; }
KERN_INLINE vf f_of_bits(vi v) { return (vf){vreinterpretq_f32_u8(v.lo), vreinterpretq_f32_u8(v.hi)}; }
KERN_INLINE vi i_of_bits(vf v) { return (vi){vreinterpretq_u8_f32(v.lo), vreinterpretq_u8_f32(v.hi)}; }
KERN_INLINE vi i_set1(int v) { return (vi){BYTES_OF(vdupq_n_s32(v)), BYTES_OF(vdupq_n_s32(v))}; }
KERN_INLINE vi i_add(vi a, vi b) { return (vi){BYTES_OF(vaddq_s32(INTS(a.lo), INTS(b.lo))), BYTES_OF(vaddq_s32(INTS(a.hi), INTS(b.hi)))}; }
KERN_INLINE vi i_sub(vi a, vi b) { return (vi){BYTES_OF(vsubq_s32(INTS(a.lo), INTS(b.lo))), BYTES_OF(vsubq_s32(INTS(a.hi), INTS(b.hi)))}; }
KERN_INLINE vi i_shl(vi a, int n) { return (vi){BYTES_OF(INTS(a.lo) << n), BYTES_OF(INTS(a.hi) << n)}; }
KERN_INLINE vi i_sar(vi a, int n) { return (vi){BYTES_OF(INTS(a.lo) >> n), BYTES_OF(INTS(a.hi) >> n)}; }

KERN_INLINE xi x_load(const void *p) { return vld1_u8(p); }
KERN_INLINE xi x_set(uint64_t v) { return vcreate_u8(v); }
KERN_INLINE xi x_and(xi a, int bits) { return vand_u8(a, vdup_n_u8((uint8_t)bits)); }
KERN_INLINE xi x_or(xi a, xi b) { return vorr_u8(a, b); }
KERN_INLINE xi x_shr(xi a, int n) { return a >> n; }
KERN_INLINE xi x_shl(xi a, int n) { return a << n; }
KERN_INLINE xi x_sub(xi a, int byte) { return vsub_u8(a, vdup_n_u8((uint8_t)byte)); }
KERN_INLINE xi x_load_halves(const uint8_t *p, int shift) { return vmovn_u16(vreinterpretq_u16_u8(vld1q_u8(p)) >> shift); }
KERN_INLINE vi i_of_bytes(xi v) {
    const uint16x8_t w = vmovl_u8(v);
    return (vi){vreinterpretq_u8_u32(vmovl_u16(vget_low_u16(w))), vreinterpretq_u8_u32(vmovl_high_u16(w))};
}
KERN_INLINE vf f_of_bytes(xi v) { return f_of_int(i_of_bytes(v)); }
KERN_INLINE vf f_of_signed(xi v) {
    const int16x8_t w = vmovl_s8(vreinterpret_s8_u8(v));
    return (vf){vcvtq_f32_s32(vmovl_s16(vget_low_s16(w))), vcvtq_f32_s32(vmovl_high_s16(w))};
}
/* Tables are looked up byte by byte: element i has the bytes 4 i .. 4 i + 3. */
KERN_INLINE vi table_bytes(vi i) {
    const uint32x4_t each = vdupq_n_u32(0x04040404), order = vdupq_n_u32(0x03020100);
    return (vi){vreinterpretq_u8_u32(vmlaq_u32(order, vreinterpretq_u32_u8(i.lo), each)),
                vreinterpretq_u8_u32(vmlaq_u32(order, vreinterpretq_u32_u8(i.hi), each))};
}
KERN_INLINE vf f_table8(const float *t, vi z) {
    const vi i = table_bytes(v_and(z, 7));
    const uint8x16x2_t table = {{vreinterpretq_u8_f32(vld1q_f32(t)), vreinterpretq_u8_f32(vld1q_f32(t + 4))}};
    return f_of_bits((vi){vqtbl2q_u8(table, i.lo), vqtbl2q_u8(table, i.hi)});
}
KERN_INLINE vf f_table32(const float *t, vi e) { /* an index past the first table gives 0 there and finds its place in the second */
    const vi i = table_bytes(e), j = v_sub(i, 64);
    uint8x16x4_t low, high;
    for (int k = 0; k < 4; k++) {
        low.val[k] = vreinterpretq_u8_f32(vld1q_f32(t + 4 * k));
        high.val[k] = vreinterpretq_u8_f32(vld1q_f32(t + 16 + 4 * k));
    }
    return f_of_bits((vi){vqtbx4q_u8(vqtbl4q_u8(low, i.lo), high, j.lo), vqtbx4q_u8(vqtbl4q_u8(low, i.hi), high, j.hi)});
}

/* sdot wants signed codes: below 128 they are. */
enum { BIAS = 128 };
KERN_INLINE vi v_code8(vi u) {
    const uint8x16_t sign = vdupq_n_u8(128);
    return (vi){veorq_u8(u.lo, sign), veorq_u8(u.hi, sign)};
}
KERN_INLINE vi v_iq4(vi u) {
    const uint8x16_t t = vreinterpretq_u8_s8(vld1q_s8(kern_iq4_values));
    return (vi){vqtbl1q_u8(t, u.lo), vqtbl1q_u8(t, u.hi)};
}
/* The sums of fields of the eight states that end with p's 16 bytes: lane l of register v. */
KERN_INLINE uint16x8_t tcq_sums(const uint8_t *p, const kern_tcq_windows *w, int v, int l, uint16_t mask, int fields) {
    const uint32x4_t pairs = vreinterpretq_u32_u8(vqtbl1q_u8(vld1q_u8(p), vld1q_u8(w->index[v] + 16 * l)));
    const uint32x4_t first = vshlq_u32(pairs, vnegq_s32(vreinterpretq_s32_u32(vld1q_u32(w->down[v] + 4 * l))));
    const uint32x4_t second = vshlq_u32(pairs, vreinterpretq_s32_u32(vld1q_u32(w->up[v] + 4 * l)));
    const uint16x8_t y = vandq_u16(vreinterpretq_u16_u32(vbslq_u32(vdupq_n_u32(0xffff), first, second)), vdupq_n_u16(mask));
    const uint16x8_t a = vmulq_u16(veorq_u16(y, vshrq_n_u16(y, TCQ_SHIFT)), vdupq_n_u16(TCQ_FACTOR_A)), factor = vdupq_n_u16(TCQ_FACTOR_B);
    const uint16x8_t b = vuzp2q_u16(vreinterpretq_u16_u32(vmull_u16(vget_low_u16(a), vget_low_u16(factor))),
                                    vreinterpretq_u16_u32(vmull_high_u16(a, factor)));
    const uint8x16_t m = vdupq_n_u8((uint8_t)((1 << fields) - 1));
    return vpaddlq_u8(vaddq_u8(vandq_u8(vreinterpretq_u8_u16(a), m), vandq_u8(vreinterpretq_u8_u16(b), m)));
}
KERN_INLINE vi v_tcq(const uint8_t *p, const kern_tcq_windows *w, uint16_t mask, int fields) {
    return (vi){vuzp1q_u8(vreinterpretq_u8_u16(tcq_sums(p + w->from[0], w, 0, 0, mask, fields)), vreinterpretq_u8_u16(tcq_sums(p + w->from[1], w, 1, 0, mask, fields))),
                vuzp1q_u8(vreinterpretq_u8_u16(tcq_sums(p + w->from[2], w, 0, 1, mask, fields)), vreinterpretq_u8_u16(tcq_sums(p + w->from[3], w, 1, 1, mask, fields)))};
}
/* States 0 .. 15 from p on, each with the byte before it. */
KERN_INLINE uint8x16_t tcqf_codes(uint8x16_t states) {
    const uint16x8_t x = vreinterpretq_u16_u8(states);
    return vreinterpretq_u8_u16(vmulq_u16(veorq_u16(x, vshrq_n_u16(x, TCQF_SHIFT)), vdupq_n_u16(TCQF_FACTOR)));
}
KERN_INLINE vi v_tcqf(const uint8_t *p) {
    const uint8x16_t older = vld1q_u8(p - 1), newer = vld1q_u8(p);
    return (vi){tcqf_codes(vzip1q_u8(older, newer)), tcqf_codes(vzip2q_u8(older, newer))};
}
KERN_INLINE vi v_lookup(const uint8_t t[16], vi i) {
    const uint8x16_t table = vld1q_u8(t);
    return (vi){vqtbl1q_u8(table, i.lo), vqtbl1q_u8(table, i.hi)};
}
/* Entries of rows r, r + 1 and r + 4, r + 5. */
KERN_INLINE vi book_rows(const uint8_t *book, const uint8_t *index) {
    return (vi){vcombine_u8(vld1_u8(book + BOOK_WORD * index[0]), vld1_u8(book + BOOK_WORD * index[1])),
                vcombine_u8(vld1_u8(book + BOOK_WORD * index[4]), vld1_u8(book + BOOK_WORD * index[5]))};
}
KERN_INLINE vi books_add(vi a, vi b) { return (vi){vaddq_u8(a.lo, b.lo), vaddq_u8(a.hi, b.hi)}; }
KERN_INLINE vi books_xor(vi a, vi b) { return (vi){veorq_u8(a.lo, b.lo), veorq_u8(a.hi, b.hi)}; }
KERN_INLINE vi books_rows(const uint8_t *p, const uint8_t *books, int k, bool lattice) {
    vi u = book_rows(books, p);
    for (int n = 1; n < k && !lattice; n++) u = books_add(u, book_rows(books + BOOK_BYTES * n, p + KERN_PANEL_ROWS * n));
    if (lattice) u = books_xor(u, book_rows(books + BOOK_BYTES, p + KERN_PANEL_ROWS));
    if (!lattice || k < 3) return u;
    vi more = book_rows(books + 2 * BOOK_BYTES, p + 2 * KERN_PANEL_ROWS);
    if (k == 4) more = books_xor(more, book_rows(books + 3 * BOOK_BYTES, p + 3 * KERN_PANEL_ROWS));
    return books_add(u, more);
}
KERN_INLINE uint8x16_t words_of(uint8x16_t a, uint8x16_t b, bool second) {
    const uint32x4_t x = vreinterpretq_u32_u8(a), y = vreinterpretq_u32_u8(b);
    return vreinterpretq_u8_u32(second ? vuzp2q_u32(x, y) : vuzp1q_u32(x, y));
}
KERN_INLINE void v_books(const uint8_t *p, const uint8_t *books, int k, bool lattice, vi out[2]) {
    const vi a = books_rows(p, books, k, lattice), b = books_rows(p + 2, books, k, lattice);
    for (int i = 0; i < 2; i++) out[i] = (vi){words_of(a.lo, b.lo, i), words_of(a.hi, b.hi, i)};
}
KERN_INLINE vi v_plane4(const uint8_t *p) {
    const uint8x16_t v = vld1q_u8(p);
    return (vi){vandq_u8(v, vdupq_n_u8(15)), vshrq_n_u8(v, 4)};
}
KERN_INLINE vi v_plane2(const uint8_t *p) {
    const uint8x8_t v = vld1_u8(p), three = vdup_n_u8(3);
    return (vi){vcombine_u8(vand_u8(v, three), vand_u8(vshr_n_u8(v, 2), three)),
                vcombine_u8(vand_u8(vshr_n_u8(v, 4), three), vshr_n_u8(v, 6))};
}
KERN_INLINE vi v_plane1(const uint8_t *p) { /* four bytes, shifted down by 0 .. 7 */
    const uint8x16_t v = vreinterpretq_u8_u32(vdupq_n_u32(read_u32(p))), one = vdupq_n_u8(1);
    const int8x16_t low = vreinterpretq_s8_u32((uint32x4_t){0, 0xffffffff, 0xfefefefe, 0xfdfdfdfd});
    return (vi){vandq_u8(vshlq_u8(v, low), one), vandq_u8(vshlq_u8(v, vsubq_s8(low, vdupq_n_s8(4))), one)};
}

#include "kern/simd/eight.h"
#endif
