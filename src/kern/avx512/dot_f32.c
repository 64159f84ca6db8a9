#include "kern/avx512/vec.h"

#include "kern/simd/dot_f32.h"
