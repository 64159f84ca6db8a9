#include "kern/neon/vec.h"

#include "kern/simd/iq4.h"
