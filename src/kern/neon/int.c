#include "kern/neon/vec.h"

#include "kern/simd/int.h"
