/* AVX2 with FMA and F16C: overwrites the slots that gain by it (all of them). */
#include "kern/avx2/avx2.h"

void kern_init_avx2(kern_table *t) {
    slots_fill(t);
    t->unpack_sparse = kern_sparse_unpack_avx2;
}
