#include "kern/avx2/vec.h"

#include "kern/simd/ternary.h"
