/* The AVX2 level: the bodies of kern/simd, one file per stem as in ref/, over the vocabulary in vec.h; and the few helpers that the x86
 * levels share. Compiled with -mavx2 -mfma -mf16c. Everything gives the bits of ref/. */
#ifndef KERN_AVX2_AVX2_H
#define KERN_AVX2_AVX2_H
#include <immintrin.h>
#ifndef KERN_ISA
#define KERN_ISA(name) name##_avx2
#endif
#include "kern/simd/simd.h"
#include "kern/slots.h"

KERN_INLINE __m256i load_i(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
KERN_INLINE __m128i load_i128(const void *p) { return _mm_loadu_si128((const __m128i *)p); }
KERN_INLINE __m128i load_i64(const void *p) { return _mm_loadl_epi64((const __m128i *)p); }
KERN_INLINE void store_i(void *p, __m256i v) { _mm256_storeu_si256((__m256i *)p, v); }
KERN_INLINE __m256i bytes(int v) { return _mm256_set1_epi8((char)v); }

typedef __m128i xi; /* of kern/simd/simd.h */
KERN_INLINE xi x_and(xi a, int bits) { return _mm_and_si128(a, _mm_set1_epi8((char)bits)); }
KERN_INLINE xi x_or(xi a, xi b) { return _mm_or_si128(a, b); }
KERN_INLINE xi x_shr(xi a, int n) { return _mm_srli_epi16(a, n); }
KERN_INLINE xi x_shl(xi a, int n) { return _mm_slli_epi16(a, n); }
KERN_INLINE xi x_sub(xi a, int byte) { return _mm_sub_epi8(a, _mm_set1_epi8((char)byte)); }
#endif
