/* Attention. */
#include "kern/avx2/vector.h"

enum { MAX_TILES = 4, TILES_1 = 4, TILES_2 = 2, TILES_3 = 1, TILES_4 = 1, /* of 16 positions, for 1 to 4 queries at a time */
       MAX_STRIPS = 8, STRIPS_1 = 8, STRIPS_2 = 4, STRIPS_3 = 4, STRIPS_4 = 2 /* of LANES columns */ };
#include "kern/x86/attention.h"
