/* Attention. */
#include "kern/avx512/vector.h"

enum { TILES_1 = 8, TILES_2 = 4, TILES_3 = 4, TILES_4 = 4, STRIPS_1 = 8, STRIPS_2 = 4, STRIPS_3 = 4, STRIPS_4 = 4, MAX_TILES = 8, MAX_STRIPS = 8 };
#include "kern/x86/attention.h"
