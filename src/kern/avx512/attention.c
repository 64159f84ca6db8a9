#include "kern/avx512/vec.h"

#include "kern/simd/attention.h"
