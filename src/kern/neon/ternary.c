#include "kern/neon/vec.h"

#include "kern/simd/ternary.h"
