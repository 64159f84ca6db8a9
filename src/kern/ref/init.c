/* The reference level fills every slot. */
#include "kern/ref/ref.h"

void kern_init_ref(kern_table *t) {
    slots_fill(t);
    t->unpack_sparse = kern_sparse_unpack_ref;
}
