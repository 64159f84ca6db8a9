/* f32 dots. Per 16 columns a 4 x 6 tile does 24 fma for 10 loads: 75 to 92 multiply-adds per ns where the peak is 125. */
#include "kern/avx512/vector.h"

enum { NW = 4, NX = 6, NW1 = 4, T_BLOCK = 12 };
#include "kern/x86/dot_f32.h"
