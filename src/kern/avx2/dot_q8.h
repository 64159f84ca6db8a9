/* The two ways of the q8 dot: along rows (few tokens) and across rows (many tokens). */
#ifndef KERN_AVX2_DOT_Q8_H
#define KERN_AVX2_DOT_Q8_H
#include "kern/avx2/avx2.h"

/* Rows 0..n_rows and tokens 0..n_tokens of a, one pair at a time. */
void kern_dot_q8_rows_g32_avx2(const kern_q8_args *a);
void kern_dot_q8_rows_g16_avx2(const kern_q8_args *a);
/* The same for panels of 8 or 16 rows, repacked once for up to 128 tokens. */
void kern_dot_q8_panel_g32_avx2(const kern_q8_args *a);
void kern_dot_q8_panel_g16_avx2(const kern_q8_args *a);
#endif
