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
#endif
