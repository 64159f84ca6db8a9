/* The vocabulary of kern/simd/simd.h in AVX-512: sixteen lanes in a register. */
#ifndef KERN_AVX512_VEC_H
#define KERN_AVX512_VEC_H
#include "kern/avx512/avx512.h"
#include "kern/blocks.h"
#include "kern/canon.h"
#include "kern/trellis.h"

typedef __m512i vi;
typedef __m512 vf;
enum { LANES = 16, MASKS = 1, SETS = 16 / LANES };

KERN_INLINE vi v_load(const void *p) { return _mm512_loadu_si512(p); }
KERN_INLINE void v_store(void *p, vi v) { _mm512_storeu_si512(p, v); }
KERN_INLINE vi v_and(vi a, int bits) { return _mm512_and_si512(a, _mm512_set1_epi8((char)bits)); }
KERN_INLINE vi v_or(vi a, vi b) { return _mm512_or_si512(a, b); }
KERN_INLINE vi v_shr(vi a, int n) { return _mm512_srli_epi16(a, (unsigned)n); }
KERN_INLINE vi v_shl(vi a, int n) { return _mm512_slli_epi16(a, (unsigned)n); }
KERN_INLINE vi v_sub(vi a, int byte) { return _mm512_sub_epi8(a, _mm512_set1_epi8((char)byte)); }
KERN_INLINE vi v_select(int bits, vi a, vi b) { return _mm512_ternarylogic_epi32(_mm512_set1_epi8((char)bits), a, b, 0xca); }
KERN_INLINE vi v_triple(vi a) { return _mm512_add_epi8(a, _mm512_add_epi8(a, a)); }
KERN_INLINE vi v_digits(vi a) {
    const vi low = _mm512_maskz_mov_epi8(_mm512_cmpgt_epi8_mask(a, _mm512_set1_epi8(-43)), _mm512_set1_epi8(1));
    return _mm512_mask_mov_epi8(low, _mm512_cmpgt_epi8_mask(a, _mm512_set1_epi8(42)), _mm512_set1_epi8(2));
}
KERN_INLINE vi v_stay(vi v) {
    __asm__("" : "+v"(v));
    return v;
}

KERN_INLINE vf f_load(const float *p) { return _mm512_loadu_ps(p); }
KERN_INLINE void f_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
KERN_INLINE vf f_zero(void) { return _mm512_setzero_ps(); }
KERN_INLINE vf f_set1(float v) { return _mm512_set1_ps(v); }
KERN_INLINE vf f_add(vf a, vf b) { return _mm512_add_ps(a, b); }
KERN_INLINE vf f_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
KERN_INLINE vf f_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
KERN_INLINE vf f_div(vf a, vf b) { return _mm512_div_ps(a, b); }
KERN_INLINE vf f_neg(vf a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
KERN_INLINE vf f_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
KERN_INLINE vf f_fms(vf a, vf b, vf c) { return _mm512_fmsub_ps(a, b, c); }
KERN_INLINE vf f_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
KERN_INLINE vf f_max(vf a, vf b) { return _mm512_max_ps(a, b); }
KERN_INLINE vf f_min(vf a, vf b) { return _mm512_min_ps(a, b); }
KERN_INLINE vf f_of_half(const void *p) { return _mm512_cvtph_ps(load_i(p)); }
KERN_INLINE vf f_of_bf16(const void *p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_i(p)), 16)); }
KERN_INLINE void f_to_half(void *p, vf v) { store_i(p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)); }
KERN_INLINE vf f_stay(vf v) {
    __asm__("" : "+v"(v));
    return v;
}
KERN_INLINE __m256 low8(vf v) { return _mm512_castps512_ps256(v); }
KERN_INLINE __m256 high8(vf v) { return _mm512_extractf32x8_ps(v, 1); }
KERN_INLINE float tree16(const vf l[1]) { return tree8(_mm256_add_ps(low8(l[0]), high8(l[0]))); }
KERN_INLINE float f_highest(vf v) { return highest8(_mm256_max_ps(low8(v), high8(v))); }
KERN_INLINE vf f_scale(vf p, vf t) { return _mm512_scalef_ps(p, f_sub(t, f_set1(CANON_ROUND))); }
KERN_INLINE vf f_scale_negative(vf p, vf t) { return f_scale(p, t); }
/* (a a)(c s) -+ (b b)(s c) */
KERN_INLINE void f_rope(float *x, const float *c, const float *s) {
    const __m512i order = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    vf vc = _mm512_castps256_ps512(_mm256_loadu_ps(c)), vs = _mm512_castps256_ps512(_mm256_loadu_ps(s));
    vf v = f_load(x), cs = _mm512_permutex2var_ps(vc, order, vs), sc = _mm512_permute_ps(cs, 0xb1);
    f_store(x, _mm512_fmaddsub_ps(_mm512_moveldup_ps(v), cs, f_mul(_mm512_movehdup_ps(v), sc)));
}

KERN_INLINE __mmask16 first(size_t n) { return (__mmask16)((1u << n) - 1); }
KERN_INLINE vf f_load_n(const float *p, size_t n) { return n == LANES ? f_load(p) : _mm512_maskz_loadu_ps(first(n), p); }
KERN_INLINE void f_store_n(float *p, size_t n, vf v) {
    if (n == LANES) f_store(p, v);
    else _mm512_mask_storeu_ps(p, first(n), v);
}
KERN_INLINE vf f_of_half_n(const void *p, size_t n) {
    return n == LANES ? f_of_half(p) : _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p));
}

KERN_INLINE vf f_of_int(vi v) { return _mm512_cvtepi32_ps(v); }
KERN_INLINE xi x_load(const void *p) { return load_i128(p); }
KERN_INLINE xi x_load_halves(const uint8_t *p, int shift) { return _mm256_cvtepi16_epi8(_mm256_srli_epi16(load_i(p), shift)); }
KERN_INLINE vi i_of_bytes(xi v) { return _mm512_cvtepu8_epi32(v); }
KERN_INLINE vf f_of_bytes(xi v) { return f_of_int(i_of_bytes(v)); }
KERN_INLINE vf f_of_signed(xi v) { return f_of_int(_mm512_cvtepi8_epi32(v)); }
KERN_INLINE vf f_table8(const float *t, vi i) { /* a mask: a permutation of 16 has 4 bits of index */
    return _mm512_permutexvar_ps(_mm512_and_si512(i, _mm512_set1_epi32(7)), _mm512_castps256_ps512(_mm256_loadu_ps(t)));
}
KERN_INLINE vf f_table32(const float *t, vi i) { return _mm512_permutex2var_ps(f_load(t), i, f_load(t + 16)); }

enum { BIAS = 0 };
KERN_INLINE vi v_code8(vi u) { return u; }
KERN_INLINE vi v_iq4(vi u) {
    const __m128i t = _mm_xor_si128(load_i128(kern_iq4_values), _mm_set1_epi8(-128));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(t), u);
}
KERN_INLINE vi tcq_windows(vi word, const kern_tcq_windows *w, int v) {
    const vi pairs = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(v_load(w->dword[v]), word), v_load(w->index[v]));
    return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srlv_epi32(pairs, v_load(w->down[v])), _mm512_sllv_epi32(pairs, v_load(w->up[v])));
}
/* The sums of fields of 32 states, in 16 bits each. */
KERN_INLINE vi tcq_sums(vi x, vi mask, int fields) {
    const vi y = _mm512_and_si512(x, mask);
    const vi a = _mm512_mullo_epi16(_mm512_xor_si512(y, _mm512_srli_epi16(y, TCQ_SHIFT)), _mm512_set1_epi16((short)TCQ_FACTOR_A));
    const vi b = _mm512_mulhi_epu16(a, _mm512_set1_epi16((short)TCQ_FACTOR_B)), m = _mm512_set1_epi8((char)((1 << fields) - 1));
    return _mm512_maddubs_epi16(_mm512_add_epi8(_mm512_and_si512(a, m), _mm512_and_si512(b, m)), _mm512_set1_epi8(1));
}
KERN_INLINE vi v_tcq(const uint8_t *p, const kern_tcq_windows *w, uint16_t mask, int fields) {
    const vi word = _mm512_maskz_loadu_epi8((1ull << (2 * w->quarters + 4)) - 1, p - 4), m = _mm512_set1_epi16((short)mask);
    return _mm512_packus_epi16(tcq_sums(tcq_windows(word, w, 0), m, fields), tcq_sums(tcq_windows(word, w, 1), m, fields));
}
/* States 0 .. 31 from p on, each with the byte before it. */
KERN_INLINE vi v_tcqf(const uint8_t *p) {
    const vi words = _mm512_setr_epi32(0, 1, 2, 0, 2, 3, 4, 0, 4, 5, 6, 0, 6, 7, 8, 0);
    const vi pairs = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8));
    const vi x = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(words, _mm512_maskz_loadu_epi8(0x1ffffffffu, p - 1)), pairs);
    return _mm512_mullo_epi16(_mm512_xor_si512(x, _mm512_srli_epi16(x, TCQF_SHIFT)), _mm512_set1_epi16((short)TCQF_FACTOR));
}
KERN_INLINE vi v_lookup(const uint8_t t[16], vi i) { return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(load_i128(t)), i); }
KERN_INLINE vi book_rows(const uint8_t *book, const uint8_t *index) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(book_four(book, index)), book_four(book, index + 8), 1);
}
KERN_INLINE vi books_rows(const uint8_t *p, const uint8_t *books, int k, bool lattice) {
    vi u = book_rows(books, p);
    for (int n = 1; n < k && !lattice; n++) u = _mm512_add_epi8(u, book_rows(books + BOOK_BYTES * n, p + KERN_PANEL_ROWS * n));
    if (lattice) u = _mm512_xor_si512(u, book_rows(books + BOOK_BYTES, p + KERN_PANEL_ROWS));
    if (!lattice || k < 3) return u;
    vi more = book_rows(books + 2 * BOOK_BYTES, p + 2 * KERN_PANEL_ROWS);
    if (k == 4) more = _mm512_xor_si512(more, book_rows(books + 3 * BOOK_BYTES, p + 3 * KERN_PANEL_ROWS));
    return _mm512_add_epi8(u, more);
}
KERN_INLINE void v_books(const uint8_t *p, const uint8_t *books, int k, bool lattice, vi out[2]) {
    const __m512 a = _mm512_castsi512_ps(books_rows(p, books, k, lattice)), b = _mm512_castsi512_ps(books_rows(p + 2, books, k, lattice));
    out[0] = _mm512_castps_si512(_mm512_shuffle_ps(a, b, 0x88));
    out[1] = _mm512_castps_si512(_mm512_shuffle_ps(a, b, 0xdd));
}
#endif
