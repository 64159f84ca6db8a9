/* f32 dots. Per 16 columns a 2 x 3 tile does 12 fma for 10 loads, and holds 12 accumulators and 3 operands in 16 registers: 57 to
 * 61 multiply-adds per ns where the peak is 62. */
#include "kern/avx2/vector.h"

enum { NW = 2, NX = 3, NW1 = 4, T_BLOCK = 12 };
#include "kern/x86/dot_f32.h"
