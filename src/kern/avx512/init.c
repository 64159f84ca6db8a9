/* AVX-512 with VNNI: overwrites the slots that gain by it. */
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
}
