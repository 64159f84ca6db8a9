#include "kern/neon/vec.h"

#include "kern/simd/attention.h"
