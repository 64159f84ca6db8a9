/* Attention. */
#include "kern/avx512/vector.h"

enum { MAX_TILES = 8, TILES_1 = 8, TILES_2 = 4, TILES_3 = 4, TILES_4 = 4, /* of 16 positions, for 1 to 4 queries at a time */
       MAX_STRIPS = 8, STRIPS_1 = 8, STRIPS_2 = 4, STRIPS_3 = 4, STRIPS_4 = 4 /* of LANES columns */ };
#include "kern/x86/attention.h"
