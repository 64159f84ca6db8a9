/* The vocabulary of kern/simd/simd.h in AVX2: eight lanes in a register. */
#ifndef KERN_AVX2_VEC_H
#define KERN_AVX2_VEC_H
#include "kern/avx2/avx2.h"
#include "kern/blocks.h"
#include "kern/trellis.h"

typedef __m256i vi;
typedef __m256 vf;

KERN_INLINE vi v_load(const void *p) { return load_i(p); }
KERN_INLINE void v_store(void *p, vi v) { store_i(p, v); }
KERN_INLINE vi v_and(vi a, int bits) { return _mm256_and_si256(a, bytes(bits)); }
KERN_INLINE vi v_or(vi a, vi b) { return _mm256_or_si256(a, b); }
KERN_INLINE vi v_shr(vi a, int n) { return _mm256_srli_epi16(a, n); }
KERN_INLINE vi v_shl(vi a, int n) { return _mm256_slli_epi16(a, n); }
KERN_INLINE vi v_sub(vi a, int byte) { return _mm256_sub_epi8(a, bytes(byte)); }
KERN_INLINE vi v_select(int bits, vi a, vi b) { return v_or(v_and(a, bits), v_and(b, ~bits)); }
KERN_INLINE vi v_triple(vi a) { return _mm256_add_epi8(a, _mm256_add_epi8(a, a)); }
KERN_INLINE vi v_digits(vi a) { /* comparisons give -1 */
    return _mm256_sub_epi8(_mm256_setzero_si256(), _mm256_add_epi8(_mm256_cmpgt_epi8(a, bytes(-43)), _mm256_cmpgt_epi8(a, bytes(42))));
}
KERN_INLINE vi v_stay(vi v) {
    __asm__("" : "+x"(v));
    return v;
}

KERN_INLINE vf f_load(const float *p) { return _mm256_loadu_ps(p); }
KERN_INLINE void f_store(float *p, vf v) { _mm256_storeu_ps(p, v); }
KERN_INLINE vf f_zero(void) { return _mm256_setzero_ps(); }
KERN_INLINE vf f_set1(float v) { return _mm256_set1_ps(v); }
KERN_INLINE vf f_add(vf a, vf b) { return _mm256_add_ps(a, b); }
KERN_INLINE vf f_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
KERN_INLINE vf f_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
KERN_INLINE vf f_div(vf a, vf b) { return _mm256_div_ps(a, b); }
KERN_INLINE vf f_neg(vf a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
KERN_INLINE vf f_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
KERN_INLINE vf f_fms(vf a, vf b, vf c) { return _mm256_fmsub_ps(a, b, c); }
KERN_INLINE vf f_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
KERN_INLINE vf f_max(vf a, vf b) { return _mm256_max_ps(a, b); }
KERN_INLINE vf f_min(vf a, vf b) { return _mm256_min_ps(a, b); }
KERN_INLINE vf f_of_half(const void *p) { return _mm256_cvtph_ps(load_i128(p)); }
KERN_INLINE vf f_of_bf16(const void *p) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_i128(p)), 16)); }
KERN_INLINE void f_to_half(void *p, vf v) { _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)); }
KERN_INLINE vf f_stay(vf v) {
    __asm__("" : "+x"(v));
    return v;
}
KERN_INLINE float tree16(const vf l[2]) { return tree8(f_add(l[0], l[1])); }
KERN_INLINE float f_highest(vf v) { return highest8(v); }
/* (a a)(c s) -+ (b b)(s c) */
KERN_INLINE void f_rope(float *x, const float *c, const float *s) {
    __m128 vc = _mm_loadu_ps(c), vs = _mm_loadu_ps(s);
    vf cs = _mm256_set_m128(_mm_unpackhi_ps(vc, vs), _mm_unpacklo_ps(vc, vs));
    vf v = f_load(x), sc = _mm256_permute_ps(cs, 0xb1);
    f_store(x, _mm256_fmaddsub_ps(_mm256_moveldup_ps(v), cs, f_mul(_mm256_movehdup_ps(v), sc)));
}

KERN_INLINE vf f_of_int(vi v) { return _mm256_cvtepi32_ps(v); }
KERN_INLINE vf f_of_bits(vi v) { return _mm256_castsi256_ps(v); }
KERN_INLINE vi i_of_bits(vf v) { return _mm256_castps_si256(v); }
KERN_INLINE vi i_set1(int v) { return _mm256_set1_epi32(v); }
KERN_INLINE vi i_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
KERN_INLINE vi i_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
KERN_INLINE vi i_shl(vi a, int n) { return _mm256_slli_epi32(a, n); }
KERN_INLINE vi i_sar(vi a, int n) { return _mm256_srai_epi32(a, n); }

KERN_INLINE xi x_load(const void *p) { return load_i64(p); }
KERN_INLINE xi x_set(uint64_t v) { return _mm_cvtsi64_si128((int64_t)v); }
KERN_INLINE xi x_load_halves(const uint8_t *p, int shift) {
    xi v = _mm_and_si128(_mm_srli_epi16(load_i128(p), shift), _mm_set1_epi16(255));
    return _mm_packus_epi16(v, v);
}
KERN_INLINE vi i_of_bytes(xi v) { return _mm256_cvtepu8_epi32(v); }
KERN_INLINE vf f_of_bytes(xi v) { return f_of_int(i_of_bytes(v)); }
KERN_INLINE vf f_of_signed(xi v) { return f_of_int(_mm256_cvtepi8_epi32(v)); }
KERN_INLINE vf f_table8(const float *t, vi i) { return _mm256_permutevar8x32_ps(f_load(t), i); }
/* Four tables of 8, chosen by bits 3 and 4 (moved to the sign). */
KERN_INLINE vf f_table32(const float *t, vi i) {
    vf a = f_table8(t, i), b = f_table8(t + 8, i), c = f_table8(t + 16, i), d = f_table8(t + 24, i);
    vf bit3 = f_of_bits(i_shl(i, 28)), bit4 = f_of_bits(i_shl(i, 27));
    return _mm256_blendv_ps(_mm256_blendv_ps(a, b, bit3), _mm256_blendv_ps(c, d, bit3), bit4);
}

enum { BIAS = 128 };
KERN_INLINE vi v_code8(vi u) { return _mm256_xor_si256(u, bytes(-128)); }
KERN_INLINE vi v_iq4(vi u) { return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_i128(kern_iq4_values)), u); }
KERN_INLINE vi tcq_windows(const uint8_t *low, const uint8_t *high, const kern_tcq_windows *w, int v) {
    const vi pairs = _mm256_shuffle_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(load_i128(low)), load_i128(high), 1), load_i(w->index[v]));
    return _mm256_blend_epi16(_mm256_srlv_epi32(pairs, load_i(w->down[v])), _mm256_sllv_epi32(pairs, load_i(w->up[v])), 0xaa);
}
/* The sums of fields of 16 states, in 16 bits each. */
KERN_INLINE vi tcq_sums(vi x, vi mask, int fields) {
    const vi y = _mm256_and_si256(x, mask);
    const vi a = _mm256_mullo_epi16(_mm256_xor_si256(y, _mm256_srli_epi16(y, TCQ_SHIFT)), _mm256_set1_epi16((short)TCQ_FACTOR_A));
    const vi b = _mm256_mulhi_epu16(a, _mm256_set1_epi16((short)TCQ_FACTOR_B)), m = bytes((1 << fields) - 1);
    return _mm256_maddubs_epi16(_mm256_add_epi8(_mm256_and_si256(a, m), _mm256_and_si256(b, m)), bytes(1));
}
KERN_INLINE vi v_tcq(const uint8_t *p, const kern_tcq_windows *w, uint16_t mask, int fields) {
    const vi m = _mm256_set1_epi16((short)mask);
    return _mm256_packus_epi16(tcq_sums(tcq_windows(p + w->from[0], p + w->from[2], w, 0), m, fields),
                               tcq_sums(tcq_windows(p + w->from[1], p + w->from[3], w, 1), m, fields));
}
/* States 0 .. 15 from p on, each with the byte before it. */
KERN_INLINE vi v_tcqf(const uint8_t *p) {
    const vi pairs = _mm256_setr_epi8(0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15);
    const vi x = _mm256_shuffle_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(load_i128(p - 1)), load_i128(p), 1), pairs);
    return _mm256_mullo_epi16(_mm256_xor_si256(x, _mm256_srli_epi16(x, TCQF_SHIFT)), _mm256_set1_epi16((short)TCQF_FACTOR));
}
KERN_INLINE vi v_lookup(const uint8_t t[16], vi i) { return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_i128(t)), i); }
KERN_INLINE vi book_rows(const uint8_t *book, const uint8_t *index) { return book_four(book, index); }
KERN_INLINE vi books_rows(const uint8_t *p, const uint8_t *books, int k, bool lattice) {
    vi u = book_rows(books, p);
    for (int n = 1; n < k && !lattice; n++) u = _mm256_add_epi8(u, book_rows(books + BOOK_BYTES * n, p + KERN_PANEL_ROWS * n));
    if (lattice) u = _mm256_xor_si256(u, book_rows(books + BOOK_BYTES, p + KERN_PANEL_ROWS));
    if (!lattice || k < 3) return u;
    vi more = book_rows(books + 2 * BOOK_BYTES, p + 2 * KERN_PANEL_ROWS);
    if (k == 4) more = _mm256_xor_si256(more, book_rows(books + 3 * BOOK_BYTES, p + 3 * KERN_PANEL_ROWS));
    return _mm256_add_epi8(u, more);
}
KERN_INLINE void v_books(const uint8_t *p, const uint8_t *books, int k, bool lattice, vi out[2]) {
    const __m256 a = _mm256_castsi256_ps(books_rows(p, books, k, lattice)), b = _mm256_castsi256_ps(books_rows(p + 2, books, k, lattice));
    out[0] = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88));
    out[1] = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xdd));
}
KERN_INLINE vi v_plane4(const uint8_t *p) {
    const vi shift = _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4);
    return v_and(_mm256_srlv_epi32(_mm256_broadcastsi128_si256(load_i128(p)), shift), 15);
}
KERN_INLINE vi v_plane2(const uint8_t *p) {
    const vi shift = _mm256_setr_epi64x(0, 2, 4, 6);
    return v_and(_mm256_srlv_epi64(_mm256_set1_epi64x((int64_t)read_u64(p)), shift), 3);
}
KERN_INLINE vi v_plane1(const uint8_t *p) {
    const vi shift = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return v_and(_mm256_srlv_epi32(_mm256_set1_epi32((int)read_u32(p)), shift), 1);
}

#include "kern/simd/eight.h"
#endif
