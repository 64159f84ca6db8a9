/* The reference level's functions, one file per stem. Plain C, written to be read: the other levels are checked against it. */
#ifndef KERN_REF_REF_H
#define KERN_REF_REF_H
#include "kern/kern.h"

void kern_q8_0_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_q4_0_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_iq4_nl_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_iq4_xs_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_q2_k_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_q3_k_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_q4_k_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_q5_k_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_q6_k_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_int2_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_int3_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_int4_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_int5_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_int6_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_int7_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void kern_int8_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);

void kern_q8_0_panel_dot_ref(const kern_panel_args *a);
void kern_q4_0_panel_dot_ref(const kern_panel_args *a);
void kern_iq4_nl_panel_dot_ref(const kern_panel_args *a);
void kern_q2_k_panel_dot_ref(const kern_panel_args *a);
void kern_q3_k_panel_dot_ref(const kern_panel_args *a);
void kern_q4_k_panel_dot_ref(const kern_panel_args *a);
void kern_q5_k_panel_dot_ref(const kern_panel_args *a);
void kern_q6_k_panel_dot_ref(const kern_panel_args *a);
void kern_iq4_xs_panel_dot_ref(const kern_panel_args *a);
void kern_int2_panel_dot_ref(const kern_panel_args *a);
void kern_int3_panel_dot_ref(const kern_panel_args *a);
void kern_int4_panel_dot_ref(const kern_panel_args *a);
void kern_int5_panel_dot_ref(const kern_panel_args *a);
void kern_int6_panel_dot_ref(const kern_panel_args *a);
void kern_int7_panel_dot_ref(const kern_panel_args *a);
void kern_int8_panel_dot_ref(const kern_panel_args *a);
void kern_dot_f32_ref(size_t n_rows, size_t n_tokens, size_t n, const float *w, size_t ldw, const float *x, size_t ldx,
                      float *y, size_t ldy);

void kern_float_expand_ref(const int8_t *q, const float *s, const float *m, uint32_t group, size_t n, float *dst);
void kern_float_quantize_q8_ref(const float *x, size_t n, size_t width, size_t lane, int8_t *q, float *s, float *sum32,
                                 float *sum16);
void kern_float_f16_to_f32_ref(const uint16_t *src, size_t n, float *dst);
void kern_float_bf16_to_f32_ref(const uint16_t *src, size_t n, float *dst);
void kern_float_f32_to_f16_ref(const float *src, size_t n, uint16_t *dst);

void kern_layer_rmsnorm_ref(const float *x, const float *gain, float eps, size_t n, float *out);
void kern_layer_add_ref(float *y, const float *x, size_t n);
void kern_layer_silu_mul_ref(float *gate, const float *up, size_t n);
float kern_layer_softmax_ref(float *x, size_t n);
void kern_layer_rope_ref(float *x, size_t half, const float *cs, bool interleaved);

void kern_attention_scores_f16_ref(const uint16_t *k, size_t n_tiles, size_t head_dim, const float *q, size_t n_q, float scale,
                                   float *scores, size_t ld, const void *next);
void kern_attention_scores_f32_ref(const float *k, size_t n_tiles, size_t head_dim, const float *q, size_t n_q, float scale,
                                   float *scores, size_t ld, const void *next);
void kern_attention_weigh_ref(float *x, size_t ld, size_t n_q, size_t begin, size_t end, float *max, float *sum);
void kern_attention_accumulate_f16_ref(const uint16_t *v, size_t n, size_t head_dim, const float *w, size_t ld, size_t n_q,
                                       float *out, const void *next);
void kern_attention_accumulate_f32_ref(const float *v, size_t n, size_t head_dim, const float *w, size_t ld, size_t n_q,
                                       float *out, const void *next);
void kern_attention_merge_ref(const kern_partial *block, size_t n_q, size_t head_dim, const kern_partial *state);
#endif
