/* Some rows of a panel multiplied: kernels take a panel's rows from its first on. */
#ifndef CODEC_PANEL_ROWS_H
#define CODEC_PANEL_ROWS_H
#include <string.h>

#include "kern/kern.h"

/* y[t * ldy + r] += row first + r of the panel . x_t   for r < n, by `dot`. a: what that takes, but for n_rows, y, ldy. some: room for (n_tokens, 16) floats. */
static inline void panel_rows_dot(void (*dot)(const kern_panel_args *), kern_panel_args a, size_t first, size_t n, float *y, size_t ldy, float *some) {
    a.n_rows = first + n, a.y = y, a.ldy = ldy;
    if (first) {
        a.y = some, a.ldy = KERN_PANEL_ROWS;
        memset(some, 0, a.n_tokens * KERN_PANEL_ROWS * sizeof(float));
    }
    dot(&a);
    for (size_t t = 0; first && t < a.n_tokens; t++)
        for (size_t r = 0; r < n; r++) y[t * ldy + r] += some[t * KERN_PANEL_ROWS + first + r];
}
#endif
