/* The slots' functions at a level: KERN_ISA(name), which the level defines, appends its name. One file per stem defines them; those of the
 * vector levels are bodies in kern/simd. */
#ifndef KERN_SLOTS_H
#define KERN_SLOTS_H
#include "kern/kern.h"

void KERN_ISA(kern_q8_0_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_q4_0_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_iq4_nl_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_q2_k_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_q3_k_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_q4_k_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_q5_k_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_q6_k_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_iq4_xs_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_tq1_0_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_tq2_0_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_codes_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_codes16_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_codes_min_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_int2_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_int3_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_int4_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_int5_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_int6_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_int7_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_int8_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);
void KERN_ISA(kern_sparse_unpack)(const kern_sparse *f, const uint8_t *row, size_t n_chunks, size_t c0, size_t n, uint8_t *blocks);

void KERN_ISA(kern_q8_0_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_q4_0_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_iq4_nl_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_q2_k_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_q3_k_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_q4_k_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_q5_k_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_q6_k_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_iq4_xs_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_tq1_0_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_tq2_0_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_codes_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_codes16_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_codes_min_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_int2_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_int3_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_int4_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_int5_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_int6_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_int7_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_int8_panel_dot)(const kern_panel_args *a);

void KERN_ISA(kern_tcq_panel_dot)(const kern_panel_args *a);
unsigned KERN_ISA(kern_tcq_step)(const uint16_t *level, int bits, int in, int out, int x, unsigned weight, const uint16_t *m, unsigned off, uint16_t *next);
void KERN_ISA(kern_tcqf_panel_dot)(const kern_panel_args *a);
void KERN_ISA(kern_tcqf_step)(const uint8_t *nibble, const uint8_t cost[4][16], int shift, const uint16_t m[256], uint16_t next[256]);

void KERN_ISA(kern_books_panel_dot)(const kern_panel_args *a);

void KERN_ISA(kern_dot_f32)(size_t n_rows, size_t n_tokens, size_t n, const float *w, size_t ldw, const float *x, size_t ldx, float *y,
                            size_t ldy);

void KERN_ISA(kern_float_expand)(const int8_t *q, const float *s, const float *m, uint32_t group, size_t n, float *dst);
void KERN_ISA(kern_float_quantize_q8)(const float *x, size_t n, size_t width, size_t lane, int8_t *q, float *s, float *sum32,
                                      float *sum16);
void KERN_ISA(kern_float_f16_to_f32)(const uint16_t *src, size_t n, float *dst);
void KERN_ISA(kern_float_bf16_to_f32)(const uint16_t *src, size_t n, float *dst);
void KERN_ISA(kern_float_f32_to_f16)(const float *src, size_t n, uint16_t *dst);

void KERN_ISA(kern_layer_rmsnorm)(const float *x, const float *gain, float eps, size_t n, float *out);
void KERN_ISA(kern_layer_add)(float *y, const float *x, size_t n);
void KERN_ISA(kern_layer_silu_mul)(float *gate, const float *up, size_t n);
void KERN_ISA(kern_layer_gelu)(float *x, size_t n);
void KERN_ISA(kern_layer_softcap)(float *x, size_t n, float cap);
void KERN_ISA(kern_layer_hadamard)(float *x, size_t n, size_t block);
void KERN_ISA(kern_layer_recur)(const float *from, float *to, size_t n_rows, size_t n, float decay, const float *b, const float *c, float *y);
float KERN_ISA(kern_layer_softmax)(float *x, size_t n);
void KERN_ISA(kern_layer_rope)(float *x, size_t half, const float *cs, bool interleaved);

void KERN_ISA(kern_attention_scores_f16)(const uint16_t *k, size_t n_tiles, size_t head_dim, const float *q, size_t n_q, float scale,
                                         float *scores, size_t ld, const void *next);
void KERN_ISA(kern_attention_scores_f32)(const float *k, size_t n_tiles, size_t head_dim, const float *q, size_t n_q, float scale,
                                         float *scores, size_t ld, const void *next);
void KERN_ISA(kern_attention_weigh)(float *x, size_t ld, size_t n_q, size_t begin, size_t end, float *max, float *sum);
void KERN_ISA(kern_attention_accumulate_f16)(const uint16_t *v, size_t n, size_t head_dim, const float *w, size_t ld, size_t n_q,
                                             float *out, const void *next);
void KERN_ISA(kern_attention_accumulate_f32)(const float *v, size_t n, size_t head_dim, const float *w, size_t ld, size_t n_q,
                                             float *out, const void *next);
void KERN_ISA(kern_attention_merge)(const kern_partial *block, size_t n_q, size_t head_dim, const kern_partial *state);

static inline void slots_fill_but_unpack(kern_table *t) {
    t->panel_dot[KERN_Q8_0] = KERN_ISA(kern_q8_0_panel_dot);
    t->panel_dot[KERN_Q4_0] = KERN_ISA(kern_q4_0_panel_dot);
    t->panel_dot[KERN_IQ4_NL] = KERN_ISA(kern_iq4_nl_panel_dot);
    t->panel_dot[KERN_Q2_K] = KERN_ISA(kern_q2_k_panel_dot);
    t->panel_dot[KERN_Q3_K] = KERN_ISA(kern_q3_k_panel_dot);
    t->panel_dot[KERN_Q4_K] = KERN_ISA(kern_q4_k_panel_dot);
    t->panel_dot[KERN_Q5_K] = KERN_ISA(kern_q5_k_panel_dot);
    t->panel_dot[KERN_Q6_K] = KERN_ISA(kern_q6_k_panel_dot);
    t->panel_dot[KERN_IQ4_XS] = KERN_ISA(kern_iq4_xs_panel_dot);
    t->panel_dot[KERN_TQ1_0] = KERN_ISA(kern_tq1_0_panel_dot);
    t->panel_dot[KERN_TQ2_0] = KERN_ISA(kern_tq2_0_panel_dot);
    t->panel_dot[KERN_CODES] = KERN_ISA(kern_codes_panel_dot);
    t->panel_dot[KERN_CODES16] = KERN_ISA(kern_codes16_panel_dot);
    t->panel_dot[KERN_CODES_MIN] = KERN_ISA(kern_codes_min_panel_dot);
    t->panel_dot[KERN_INT2] = KERN_ISA(kern_int2_panel_dot);
    t->panel_dot[KERN_INT3] = KERN_ISA(kern_int3_panel_dot);
    t->panel_dot[KERN_INT4] = KERN_ISA(kern_int4_panel_dot);
    t->panel_dot[KERN_INT5] = KERN_ISA(kern_int5_panel_dot);
    t->panel_dot[KERN_INT6] = KERN_ISA(kern_int6_panel_dot);
    t->panel_dot[KERN_INT7] = KERN_ISA(kern_int7_panel_dot);
    t->panel_dot[KERN_INT8] = KERN_ISA(kern_int8_panel_dot);
    t->tcq_dot = KERN_ISA(kern_tcq_panel_dot);
    t->tcq_step = KERN_ISA(kern_tcq_step);
    t->tcqf_dot = KERN_ISA(kern_tcqf_panel_dot);
    t->tcqf_step = KERN_ISA(kern_tcqf_step);
    t->books_dot = KERN_ISA(kern_books_panel_dot);
    t->dot_f32 = KERN_ISA(kern_dot_f32);
    t->expand = KERN_ISA(kern_float_expand);
    t->quantize_q8 = KERN_ISA(kern_float_quantize_q8);
    t->f16_to_f32 = KERN_ISA(kern_float_f16_to_f32);
    t->bf16_to_f32 = KERN_ISA(kern_float_bf16_to_f32);
    t->f32_to_f16 = KERN_ISA(kern_float_f32_to_f16);
    t->rmsnorm = KERN_ISA(kern_layer_rmsnorm);
    t->add = KERN_ISA(kern_layer_add);
    t->silu_mul = KERN_ISA(kern_layer_silu_mul);
    t->gelu = KERN_ISA(kern_layer_gelu);
    t->softcap = KERN_ISA(kern_layer_softcap);
    t->recur = KERN_ISA(kern_layer_recur);
    t->hadamard = KERN_ISA(kern_layer_hadamard);
    t->softmax = KERN_ISA(kern_layer_softmax);
    t->rope = KERN_ISA(kern_layer_rope);
    t->scores_f16 = KERN_ISA(kern_attention_scores_f16);
    t->scores_f32 = KERN_ISA(kern_attention_scores_f32);
    t->weigh = KERN_ISA(kern_attention_weigh);
    t->accumulate_f16 = KERN_ISA(kern_attention_accumulate_f16);
    t->accumulate_f32 = KERN_ISA(kern_attention_accumulate_f32);
    t->merge = KERN_ISA(kern_attention_merge);
}

static inline void slots_fill(kern_table *t) {
    slots_fill_but_unpack(t);
    t->unpack[KERN_Q8_0] = KERN_ISA(kern_q8_0_unpack);
    t->unpack[KERN_Q4_0] = KERN_ISA(kern_q4_0_unpack);
    t->unpack[KERN_IQ4_NL] = KERN_ISA(kern_iq4_nl_unpack);
    t->unpack[KERN_Q2_K] = KERN_ISA(kern_q2_k_unpack);
    t->unpack[KERN_Q3_K] = KERN_ISA(kern_q3_k_unpack);
    t->unpack[KERN_Q4_K] = KERN_ISA(kern_q4_k_unpack);
    t->unpack[KERN_Q5_K] = KERN_ISA(kern_q5_k_unpack);
    t->unpack[KERN_Q6_K] = KERN_ISA(kern_q6_k_unpack);
    t->unpack[KERN_IQ4_XS] = KERN_ISA(kern_iq4_xs_unpack);
    t->unpack[KERN_TQ1_0] = KERN_ISA(kern_tq1_0_unpack);
    t->unpack[KERN_TQ2_0] = KERN_ISA(kern_tq2_0_unpack);
    t->unpack[KERN_CODES] = KERN_ISA(kern_codes_unpack);
    t->unpack[KERN_CODES16] = KERN_ISA(kern_codes16_unpack);
    t->unpack[KERN_CODES_MIN] = KERN_ISA(kern_codes_min_unpack);
    t->unpack[KERN_INT2] = KERN_ISA(kern_int2_unpack);
    t->unpack[KERN_INT3] = KERN_ISA(kern_int3_unpack);
    t->unpack[KERN_INT4] = KERN_ISA(kern_int4_unpack);
    t->unpack[KERN_INT5] = KERN_ISA(kern_int5_unpack);
    t->unpack[KERN_INT6] = KERN_ISA(kern_int6_unpack);
    t->unpack[KERN_INT7] = KERN_ISA(kern_int7_unpack);
    t->unpack[KERN_INT8] = KERN_ISA(kern_int8_unpack);
}
#endif
