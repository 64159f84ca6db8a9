/* AVX-512 with VNNI: overwrites the slots that gain by it: all but unpack. */
#include "kern/avx512/avx512.h"

void kern_init_avx512(kern_table *t) {
    t->panel_dot[KERN_Q8_0] = kern_q8_0_panel_dot_avx512;
    t->panel_dot[KERN_Q4_0] = kern_q4_0_panel_dot_avx512;
    t->panel_dot[KERN_IQ4_NL] = kern_iq4_nl_panel_dot_avx512;
    t->panel_dot[KERN_Q2_K] = kern_q2_k_panel_dot_avx512;
    t->panel_dot[KERN_Q3_K] = kern_q3_k_panel_dot_avx512;
    t->panel_dot[KERN_Q4_K] = kern_q4_k_panel_dot_avx512;
    t->panel_dot[KERN_Q5_K] = kern_q5_k_panel_dot_avx512;
    t->panel_dot[KERN_Q6_K] = kern_q6_k_panel_dot_avx512;
    t->panel_dot[KERN_IQ4_XS] = kern_iq4_xs_panel_dot_avx512;
    t->panel_dot[KERN_INT2] = kern_int2_panel_dot_avx512;
    t->panel_dot[KERN_INT3] = kern_int3_panel_dot_avx512;
    t->panel_dot[KERN_INT4] = kern_int4_panel_dot_avx512;
    t->panel_dot[KERN_INT5] = kern_int5_panel_dot_avx512;
    t->panel_dot[KERN_INT6] = kern_int6_panel_dot_avx512;
    t->panel_dot[KERN_INT7] = kern_int7_panel_dot_avx512;
    t->panel_dot[KERN_INT8] = kern_int8_panel_dot_avx512;
    t->dot_f32 = kern_dot_f32_avx512;
    t->expand = kern_float_expand_avx512;
    t->quantize_q8 = kern_float_quantize_q8_avx512;
    t->f16_to_f32 = kern_float_f16_to_f32_avx512;
    t->bf16_to_f32 = kern_float_bf16_to_f32_avx512;
    t->f32_to_f16 = kern_float_f32_to_f16_avx512;
    t->rmsnorm = kern_layer_rmsnorm_avx512;
    t->add = kern_layer_add_avx512;
    t->silu_mul = kern_layer_silu_mul_avx512;
    t->softmax = kern_layer_softmax_avx512;
    t->rope = kern_layer_rope_avx512;
    t->scores_f16 = kern_attention_scores_f16_avx512;
    t->scores_f32 = kern_attention_scores_f32_avx512;
    t->weigh = kern_attention_weigh_avx512;
    t->accumulate_f16 = kern_attention_accumulate_f16_avx512;
    t->accumulate_f32 = kern_attention_accumulate_f32_avx512;
    t->merge = kern_attention_merge_avx512;
}
