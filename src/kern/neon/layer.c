#include "kern/neon/vec.h"

#include "kern/simd/layer.h"
