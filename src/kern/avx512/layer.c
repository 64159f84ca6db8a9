/* What stands between the matrices. */
#include "kern/avx512/vector.h"

#include "kern/x86/layer.h"
