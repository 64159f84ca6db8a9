/* AVX2 with FMA and F16C: overwrites the slots that gain by it (all of them). */
#include "kern/avx2/avx2.h"

void kern_init_avx2(kern_table *t) {
    t->unpack[KERN_Q8_0] = kern_q8_0_unpack_avx2;
    t->unpack[KERN_Q4_0] = kern_q4_0_unpack_avx2;
    t->unpack[KERN_IQ4_NL] = kern_iq4_nl_unpack_avx2;
    t->unpack[KERN_Q2_K] = kern_q2_k_unpack_avx2;
    t->unpack[KERN_Q3_K] = kern_q3_k_unpack_avx2;
    t->unpack[KERN_Q4_K] = kern_q4_k_unpack_avx2;
    t->unpack[KERN_Q5_K] = kern_q5_k_unpack_avx2;
    t->unpack[KERN_Q6_K] = kern_q6_k_unpack_avx2;
    t->unpack[KERN_IQ4_XS] = kern_iq4_xs_unpack_avx2;
    t->unpack[KERN_INT2] = kern_int2_unpack_avx2;
    t->unpack[KERN_INT3] = kern_int3_unpack_avx2;
    t->unpack[KERN_INT4] = kern_int4_unpack_avx2;
    t->unpack[KERN_INT5] = kern_int5_unpack_avx2;
    t->unpack[KERN_INT6] = kern_int6_unpack_avx2;
    t->unpack[KERN_INT7] = kern_int7_unpack_avx2;
    t->unpack[KERN_INT8] = kern_int8_unpack_avx2;
    t->panel_dot[KERN_Q8_0] = kern_q8_0_panel_dot_avx2;
    t->panel_dot[KERN_Q4_0] = kern_q4_0_panel_dot_avx2;
    t->panel_dot[KERN_IQ4_NL] = kern_iq4_nl_panel_dot_avx2;
    t->panel_dot[KERN_Q2_K] = kern_q2_k_panel_dot_avx2;
    t->panel_dot[KERN_Q3_K] = kern_q3_k_panel_dot_avx2;
    t->panel_dot[KERN_Q4_K] = kern_q4_k_panel_dot_avx2;
    t->panel_dot[KERN_Q5_K] = kern_q5_k_panel_dot_avx2;
    t->panel_dot[KERN_Q6_K] = kern_q6_k_panel_dot_avx2;
    t->panel_dot[KERN_IQ4_XS] = kern_iq4_xs_panel_dot_avx2;
    t->panel_dot[KERN_INT2] = kern_int2_panel_dot_avx2;
    t->panel_dot[KERN_INT3] = kern_int3_panel_dot_avx2;
    t->panel_dot[KERN_INT4] = kern_int4_panel_dot_avx2;
    t->panel_dot[KERN_INT5] = kern_int5_panel_dot_avx2;
    t->panel_dot[KERN_INT6] = kern_int6_panel_dot_avx2;
    t->panel_dot[KERN_INT7] = kern_int7_panel_dot_avx2;
    t->panel_dot[KERN_INT8] = kern_int8_panel_dot_avx2;
    t->dot_f32 = kern_dot_f32_avx2;
    t->expand = kern_float_expand_avx2;
    t->quantize_q8 = kern_float_quantize_q8_avx2;
    t->f16_to_f32 = kern_float_f16_to_f32_avx2;
    t->bf16_to_f32 = kern_float_bf16_to_f32_avx2;
    t->f32_to_f16 = kern_float_f32_to_f16_avx2;
    t->rmsnorm = kern_layer_rmsnorm_avx2;
    t->add = kern_layer_add_avx2;
    t->silu_mul = kern_layer_silu_mul_avx2;
    t->softmax = kern_layer_softmax_avx2;
    t->rope = kern_layer_rope_avx2;
    t->scores_f16 = kern_attention_scores_f16_avx2;
    t->scores_f32 = kern_attention_scores_f32_avx2;
    t->weigh = kern_attention_weigh_avx2;
    t->accumulate_f16 = kern_attention_accumulate_f16_avx2;
    t->accumulate_f32 = kern_attention_accumulate_f32_avx2;
    t->merge = kern_attention_merge_avx2;
}
