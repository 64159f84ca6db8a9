#include "kern/avx512/vec.h"

#include "kern/simd/layer.h"
