#include "kern/avx2/vec.h"

#include "kern/simd/iq4.h"
