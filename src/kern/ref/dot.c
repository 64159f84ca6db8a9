/* Dot products: the canonical order of kern.h, one (row, token) at a time. */
#include "kern/canon.h"
#include "kern/ref/ref.h"

/* |integer dot| <= 32 * 128 * 127 < 2^19: exact in int32 and in f32. */
static void dot_q8(const kern_q8_args *a, size_t group) {
    const size_t n_groups = a->n_chunks * 32 / group;
    for (size_t t = 0; t < a->n_tokens; t++) {
        const int8_t *x = a->x + t * a->ldx;
        const float *xs = a->xs + t * (a->ldx / 32);
        const int16_t *xsum = a->xsum + t * (a->ldx / 16);
        for (size_t r = 0; r < a->n_rows; r++) {
            const int8_t *q = a->q + r * a->ldq;
            const float *s = a->s + r * a->lds, *m = a->m ? a->m + r * a->lds : NULL;
            float lane[8] = {0};
            for (size_t g = 0; g < n_groups; g++) {
                float scale = xs[g * group / 32];
                int32_t dot = 0;
                for (size_t i = g * group; i < (g + 1) * group; i++) dot += q[i] * x[i];
                lane[g % 8] = fmaf(s[g] * scale, (float)dot, lane[g % 8]);
                if (m) {
                    int sum = group == 32 ? xsum[2 * g] + xsum[2 * g + 1] : xsum[g];
                    lane[g % 8] = fmaf(m[g] * scale, (float)sum, lane[g % 8]);
                }
            }
            a->y[t * a->ldy + r] += canon_tree8(lane);
        }
    }
}

void kern_dot_q8_g32_ref(const kern_q8_args *a) { dot_q8(a, 32); }
void kern_dot_q8_g16_ref(const kern_q8_args *a) { dot_q8(a, 16); }

void kern_dot_f32_ref(size_t n_rows, size_t n_tokens, size_t n, const float *w, size_t ldw, const float *x, size_t ldx,
                      float *y, size_t ldy) {
    for (size_t t = 0; t < n_tokens; t++)
        for (size_t r = 0; r < n_rows; r++) {
            float lane[16] = {0};
            for (size_t i = 0; i < n; i++) lane[i % 16] = fmaf(w[r * ldw + i], x[t * ldx + i], lane[i % 16]);
            y[t * ldy + r] += canon_tree16(lane);
        }
}
