/* AVX-512 with VNNI: overwrites the slots that gain by it: all but unpack. */
#include "kern/avx512/avx512.h"

void kern_init_avx512(kern_table *t) { slots_fill_but_unpack(t); }
