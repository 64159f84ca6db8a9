/* The AVX2 level's functions, one file per stem as in ref/, and the few vector helpers that they share. Compiled with -mavx2
 * -mfma -mf16c. Everything gives the bits of ref/. */
#ifndef KERN_AVX2_AVX2_H
#define KERN_AVX2_AVX2_H
#include <immintrin.h>
#include <string.h>
#include "base/f16.h"
#include "kern/kern.h"

#define KERN_INLINE static inline __attribute__((always_inline)) /* bodies specialised by constant arguments */

KERN_INLINE __m256i load_i(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
KERN_INLINE __m128i load_i128(const void *p) { return _mm_loadu_si128((const __m128i *)p); }
KERN_INLINE __m128i load_i64(const void *p) { return _mm_loadl_epi64((const __m128i *)p); }
KERN_INLINE void store_i(void *p, __m256i v) { _mm256_storeu_si256((__m256i *)p, v); }
KERN_INLINE float half(const uint8_t *p) { return _cvtsh_ss(read_u16(p)); }
KERN_INLINE __m256i bytes(int v) { return _mm256_set1_epi8((char)v); }

/* canon_tree8; the largest, of numbers */
KERN_INLINE float tree8(__m256 v) {
    __m128 a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)); /* l[i] + l[i + 4] */
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));                                       /* 0+4+2+6, 1+5+3+7 */
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}
KERN_INLINE float max8(__m256 v) {
    __m128 a = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}KERN_INLINE uint32_t max_of_8(__m256i v) { /* of non-negative integers */
    __m128i a = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    a = _mm_max_epi32(a, _mm_shuffle_epi32(a, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epi32(a, _mm_shuffle_epi32(a, 0xb1)));
}

void kern_q8_0_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_q4_0_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_iq4_nl_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_iq4_xs_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_q2_k_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_q3_k_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_q4_k_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_q5_k_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_q6_k_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_int2_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_int3_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_int4_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_int5_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_int6_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_int7_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_int8_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);

void kern_q8_0_panel_dot_avx2(const kern_panel_args *a);
void kern_q4_0_panel_dot_avx2(const kern_panel_args *a);
void kern_iq4_nl_panel_dot_avx2(const kern_panel_args *a);
void kern_q2_k_panel_dot_avx2(const kern_panel_args *a);
void kern_q3_k_panel_dot_avx2(const kern_panel_args *a);
void kern_q4_k_panel_dot_avx2(const kern_panel_args *a);
void kern_q5_k_panel_dot_avx2(const kern_panel_args *a);
void kern_q6_k_panel_dot_avx2(const kern_panel_args *a);
void kern_iq4_xs_panel_dot_avx2(const kern_panel_args *a);
void kern_int2_panel_dot_avx2(const kern_panel_args *a);
void kern_int3_panel_dot_avx2(const kern_panel_args *a);
void kern_int4_panel_dot_avx2(const kern_panel_args *a);
void kern_int5_panel_dot_avx2(const kern_panel_args *a);
void kern_int6_panel_dot_avx2(const kern_panel_args *a);
void kern_int7_panel_dot_avx2(const kern_panel_args *a);
void kern_int8_panel_dot_avx2(const kern_panel_args *a);
void kern_dot_f32_avx2(size_t n_rows, size_t n_tokens, size_t n, const float *w, size_t ldw, const float *x, size_t ldx,
                      float *y, size_t ldy);

void kern_float_expand_avx2(const int8_t *q, const float *s, const float *m, uint32_t group, size_t n, float *dst);
void kern_float_quantize_q8_avx2(const float *x, size_t n, size_t width, size_t lane, int8_t *q, float *s, float *sum32,
                                 float *sum16);
void kern_float_f16_to_f32_avx2(const uint16_t *src, size_t n, float *dst);
void kern_float_bf16_to_f32_avx2(const uint16_t *src, size_t n, float *dst);
void kern_float_f32_to_f16_avx2(const float *src, size_t n, uint16_t *dst);

void kern_layer_rmsnorm_avx2(const float *x, const float *gain, float eps, size_t n, float *out);
void kern_layer_add_avx2(float *y, const float *x, size_t n);
void kern_layer_silu_mul_avx2(float *gate, const float *up, size_t n);
float kern_layer_softmax_avx2(float *x, size_t n);
void kern_layer_rope_avx2(float *x, size_t half, const float *cs, bool interleaved);

void kern_attention_scores_f16_avx2(const uint16_t *k, size_t n_tiles, size_t head_dim, const float *q, size_t n_q, float scale,
                                   float *scores, size_t ld, const void *next);
void kern_attention_scores_f32_avx2(const float *k, size_t n_tiles, size_t head_dim, const float *q, size_t n_q, float scale,
                                   float *scores, size_t ld, const void *next);
void kern_attention_weigh_avx2(float *x, size_t ld, size_t n_q, size_t begin, size_t end, float *max, float *sum);
void kern_attention_accumulate_f16_avx2(const uint16_t *v, size_t n, size_t head_dim, const float *w, size_t ld, size_t n_q,
                                       float *out, const void *next);
void kern_attention_accumulate_f32_avx2(const float *v, size_t n, size_t head_dim, const float *w, size_t ld, size_t n_q,
                                       float *out, const void *next);
void kern_attention_merge_avx2(const kern_partial *block, size_t n_q, size_t head_dim, const kern_partial *state);
#endif
