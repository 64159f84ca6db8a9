#include "kern/neon/vec.h"

#include "kern/simd/dot_f32.h"
