/* Dots of floats: the canonical order of kern.h, one (row, token) at a time. */
#include "kern/canon.h"
#include "kern/ref/ref.h"

void kern_dot_f32_ref(size_t n_rows, size_t n_tokens, size_t n, const float *w, size_t ldw, const float *x, size_t ldx,
                      float *y, size_t ldy) {
    for (size_t t = 0; t < n_tokens; t++)
        for (size_t r = 0; r < n_rows; r++) {
            float lane[16] = {0};
            for (size_t i = 0; i < n; i++) lane[i % 16] = fmaf(w[r * ldw + i], x[t * ldx + i], lane[i % 16]);
            y[t * ldy + r] += canon_tree16(lane);
        }
}
