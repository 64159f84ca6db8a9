/* What stands between the matrices. */
#include "kern/avx2/vector.h"

#include "kern/x86/layer.h"
