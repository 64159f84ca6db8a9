#include "kern/neon/vec.h"

#include "kern/simd/legacy.h"
