/* The AVX-512 level: F, BW, VL, DQ and VNNI, over the AVX2 level's functions. Compiled with those flags. */
#ifndef KERN_AVX512_AVX512_H
#define KERN_AVX512_AVX512_H
#include "kern/avx2/avx2.h"

void kern_q8_0_panel_dot_avx512(const kern_panel_args *a);
void kern_q4_0_panel_dot_avx512(const kern_panel_args *a);
void kern_iq4_nl_panel_dot_avx512(const kern_panel_args *a);
void kern_q2_k_panel_dot_avx512(const kern_panel_args *a);
void kern_q3_k_panel_dot_avx512(const kern_panel_args *a);
void kern_q4_k_panel_dot_avx512(const kern_panel_args *a);
void kern_q5_k_panel_dot_avx512(const kern_panel_args *a);
void kern_q6_k_panel_dot_avx512(const kern_panel_args *a);
void kern_iq4_xs_panel_dot_avx512(const kern_panel_args *a);
void kern_int2_panel_dot_avx512(const kern_panel_args *a);
void kern_int3_panel_dot_avx512(const kern_panel_args *a);
void kern_int4_panel_dot_avx512(const kern_panel_args *a);
void kern_int5_panel_dot_avx512(const kern_panel_args *a);
void kern_int6_panel_dot_avx512(const kern_panel_args *a);
void kern_int7_panel_dot_avx512(const kern_panel_args *a);
void kern_int8_panel_dot_avx512(const kern_panel_args *a);

void kern_dot_f32_avx512(size_t n_rows, size_t n_tokens, size_t n, const float *w, size_t ldw, const float *x, size_t ldx,
                         float *y, size_t ldy);

void kern_float_expand_avx512(const int8_t *q, const float *s, const float *m, uint32_t group, size_t n, float *dst);
void kern_float_quantize_q8_avx512(const float *x, size_t n, size_t width, size_t lane, int8_t *q, float *s, float *sum32,
                                   float *sum16);
void kern_float_f16_to_f32_avx512(const uint16_t *src, size_t n, float *dst);
void kern_float_bf16_to_f32_avx512(const uint16_t *src, size_t n, float *dst);
void kern_float_f32_to_f16_avx512(const float *src, size_t n, uint16_t *dst);

void kern_layer_rmsnorm_avx512(const float *x, const float *gain, float eps, size_t n, float *out);
void kern_layer_add_avx512(float *y, const float *x, size_t n);
void kern_layer_silu_mul_avx512(float *gate, const float *up, size_t n);
float kern_layer_softmax_avx512(float *x, size_t n);
void kern_layer_rope_avx512(float *x, size_t half, const float *cs, bool interleaved);

void kern_attention_scores_f16_avx512(const uint16_t *k, size_t n_tiles, size_t head_dim, const float *q, size_t n_q, float scale,
                                      float *scores, size_t ld, const void *next);
void kern_attention_scores_f32_avx512(const float *k, size_t n_tiles, size_t head_dim, const float *q, size_t n_q, float scale,
                                      float *scores, size_t ld, const void *next);
void kern_attention_weigh_avx512(float *x, size_t ld, size_t n_q, size_t begin, size_t end, float *max, float *sum);
void kern_attention_accumulate_f16_avx512(const uint16_t *v, size_t n, size_t head_dim, const float *w, size_t ld, size_t n_q,
                                          float *out, const void *next);
void kern_attention_accumulate_f32_avx512(const float *v, size_t n, size_t head_dim, const float *w, size_t ld, size_t n_q,
                                          float *out, const void *next);
void kern_attention_merge_avx512(const kern_partial *block, size_t n_q, size_t head_dim, const kern_partial *state);
#endif
