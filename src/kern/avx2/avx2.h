/* The AVX2 level: the bodies of kern/simd, one file per stem as in ref/, over the vocabulary in vec.h; and the few helpers that the x86
 * levels share. Compiled with -mavx2 -mfma -mf16c. Everything gives the bits of ref/. */
#ifndef KERN_AVX2_AVX2_H
#define KERN_AVX2_AVX2_H
#include <immintrin.h>
#ifndef KERN_ISA
#define KERN_ISA(name) name##_avx2
#endif
#include "kern/simd/simd.h"
#include "kern/books.h"
#include "kern/slots.h"

KERN_INLINE __m256i load_i(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
KERN_INLINE __m128i load_i128(const void *p) { return _mm_loadu_si128((const __m128i *)p); }
KERN_INLINE __m128i load_i64(const void *p) { return _mm_loadl_epi64((const __m128i *)p); }
KERN_INLINE void store_i(void *p, __m256i v) { _mm256_storeu_si256((__m256i *)p, v); }
KERN_INLINE __m256i bytes(int v) { return _mm256_set1_epi8((char)v); }
KERN_INLINE uint32_t highest_of_8(__m256i v) { /* of integers that are not negative */
    __m128i a = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    a = _mm_max_epi32(a, _mm_shuffle_epi32(a, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epi32(a, _mm_shuffle_epi32(a, 0xb1)));
}
/* Entries of a book for rows 0, 1 and 4, 5 (kern/books.h). */
KERN_INLINE __m128i book_pair(const uint8_t *book, const uint8_t *index) {
    const __m128d first = _mm_castsi128_pd(load_i64(book + BOOK_WORD * index[0]));
    return _mm_castpd_si128(_mm_loadh_pd(first, (const double *)(const void *)(book + BOOK_WORD * index[1])));
}
KERN_INLINE __m256i book_four(const uint8_t *book, const uint8_t *index) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(book_pair(book, index)), book_pair(book, index + 4), 1);
}
KERN_INLINE float half(const void *p) { return _cvtsh_ss(read_u16(p)); }
KERN_INLINE float tree8(__m256 v) {
    __m128 a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)); /* l[i] + l[i + 4] */
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));                                       /* 0+4+2+6, 1+5+3+7 */
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}
KERN_INLINE float highest8(__m256 v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

typedef __m128i xi; /* of kern/simd/simd.h */
KERN_INLINE xi x_and(xi a, int bits) { return _mm_and_si128(a, _mm_set1_epi8((char)bits)); }
KERN_INLINE xi x_or(xi a, xi b) { return _mm_or_si128(a, b); }
KERN_INLINE xi x_shr(xi a, int n) { return _mm_srli_epi16(a, n); }
KERN_INLINE xi x_shl(xi a, int n) { return _mm_slli_epi16(a, n); }
KERN_INLINE xi x_sub(xi a, int byte) { return _mm_sub_epi8(a, _mm_set1_epi8((char)byte)); }
#endif
