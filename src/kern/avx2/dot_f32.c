#include "kern/avx2/vec.h"

#include "kern/simd/dot_f32.h"
