/* Attention. */
#include "kern/avx2/vector.h"

enum { TILES_1 = 4, TILES_2 = 2, TILES_3 = 1, TILES_4 = 1, STRIPS_1 = 8, STRIPS_2 = 4, STRIPS_3 = 4, STRIPS_4 = 2, MAX_TILES = 4, MAX_STRIPS = 8 };
#include "kern/x86/attention.h"
