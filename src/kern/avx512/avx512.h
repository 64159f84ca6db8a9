/* The AVX-512 level: F, BW, VL, DQ and VNNI, over the AVX2 level's functions. Compiled with those flags. */
#ifndef KERN_AVX512_AVX512_H
#define KERN_AVX512_AVX512_H
#define KERN_ISA(name) name##_avx512
#include "kern/avx2/avx2.h"
#endif
