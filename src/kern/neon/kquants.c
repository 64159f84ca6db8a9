#include "kern/neon/vec.h"

#include "kern/simd/kquants.h"
