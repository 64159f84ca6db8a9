/* The NEON level (AArch64 with the dot products of Armv8.2): the bodies of kern/simd, one file per stem as in ref/, over the vocabulary in
 * vec.h. Compiled with -march=armv8.2-a+dotprod. Everything gives the bits of ref/. */
#ifndef KERN_NEON_NEON_H
#define KERN_NEON_NEON_H
#include <arm_neon.h>
#define KERN_ISA(name) name##_neon
#include "kern/simd/simd.h"
#include "kern/slots.h"
#endif
