/* f32 dots, register-blocked: a tile of 2 rows x 3 tokens (4 rows x 1 token when there is but one), 16 canonical lanes in two
 * registers each. Per 16 columns a 2 x 3 tile does 12 fma for 10 loads, and holds 12 accumulators and 3 operands in 16
 * registers: 57 to 61 multiply-adds per ns where the peak is 62.
 *
 * Blocks, for an L1 of 32 KB and more: K_BLOCK columns of T_BLOCK tokens (12 x 2 KB) stay in L1 while pairs of rows pass by;
 * the lanes of R_BLOCK x T_BLOCK results wait on the stack (24 KB) between K blocks. */
#include "kern/canon.h"

enum { K_BLOCK = 512, T_BLOCK = 12, R_BLOCK = 32, NW_MAX = 4, NX_MAX = 3 };

typedef struct block {
    float lane[R_BLOCK][T_BLOCK][16];
} block;

/* Lanes of rows r .. r+nw and tokens t .. t+nx += the products of columns [0, n); n is a multiple of 16 unless it ends the
 * row, and column 0 belongs to lane 0. nw, nx constant. */
KERN_INLINE void tile(int nw, int nx, size_t n, const float *w, size_t ldw, const float *x, size_t ldx, block *b, size_t r, size_t t) {
    vf acc[NW_MAX][NX_MAX][2];
    w += r * ldw, x += t * ldx;
    for (int i = 0; i < nw; i++)
        for (int j = 0; j < nx; j++)
            for (int h = 0; h < 2; h++) acc[i][j][h] = f_load(b->lane[r + (size_t)i][t + (size_t)j] + 8 * h);
    size_t k = 0;
    for (; k + 16 <= n; k += 16)
        for (int h = 0; h < 2; h++) {
            vf vw[NW_MAX];
            for (int i = 0; i < nw; i++) vw[i] = f_load(w + (size_t)i * ldw + k + 8 * (size_t)h);
            for (int j = 0; j < nx; j++) {
                vf vx = f_load(x + (size_t)j * ldx + k + 8 * (size_t)h);
                if (nw > 1) vx = f_stay(vx); /* one load, not one per fma: two loads a cycle are the limit */
                for (int i = 0; i < nw; i++) acc[i][j][h] = f_fma(vw[i], vx, acc[i][j][h]);
            }
        }
    for (int i = 0; i < nw; i++)
        for (int j = 0; j < nx; j++)
            for (int h = 0; h < 2; h++) f_store(b->lane[r + (size_t)i][t + (size_t)j] + 8 * h, acc[i][j][h]);
    for (; k < n; k++)
        for (int i = 0; i < nw; i++)
            for (int j = 0; j < nx; j++) {
                float *l = &b->lane[r + (size_t)i][t + (size_t)j][k % 16];
                *l = fmaf(w[(size_t)i * ldw + k], x[(size_t)j * ldx + k], *l);
            }
}

/* All tiles of one K block. */
static void k_block(size_t nr, size_t nt, size_t n, const float *w, size_t ldw, const float *x, size_t ldx, block *b) {
    size_t r = 0;
    if (nt == 1)
        for (; r + 4 <= nr; r += 4) tile(4, 1, n, w, ldw, x, ldx, b, r, 0);
    for (; r + 2 <= nr; r += 2) {
        size_t t = 0;
        for (; t + 3 <= nt; t += 3) tile(2, 3, n, w, ldw, x, ldx, b, r, t);
        if (nt - t == 2) tile(2, 2, n, w, ldw, x, ldx, b, r, t);
        else if (nt - t == 1) tile(2, 1, n, w, ldw, x, ldx, b, r, t);
    }
    if (r < nr) {
        size_t t = 0;
        for (; t + 3 <= nt; t += 3) tile(1, 3, n, w, ldw, x, ldx, b, r, t);
        for (; t < nt; t++) tile(1, 1, n, w, ldw, x, ldx, b, r, t);
    }
}

void KERN_ISA(kern_dot_f32)(size_t n_rows, size_t n_tokens, size_t n, const float *w, size_t ldw, const float *x, size_t ldx,
                       float *y, size_t ldy) {
    block b;
    for (size_t t = 0; t < n_tokens; t += T_BLOCK) {
        const size_t nt = n_tokens - t < T_BLOCK ? n_tokens - t : T_BLOCK;
        for (size_t r = 0; r < n_rows; r += R_BLOCK) {
            const size_t nr = n_rows - r < R_BLOCK ? n_rows - r : R_BLOCK;
            for (size_t i = 0; i < nr; i++) memset(b.lane[i], 0, nt * sizeof b.lane[i][0]);
            for (size_t k = 0; k < n; k += K_BLOCK)
                k_block(nr, nt, n - k < K_BLOCK ? n - k : K_BLOCK, w + r * ldw + k, ldw, x + t * ldx + k, ldx, &b);
            for (size_t i = 0; i < nr; i++)
                for (size_t j = 0; j < nt; j++) {
                    const float *l = b.lane[i][j];
                    y[(t + j) * ldy + r + i] += tree16(f_load(l), f_load(l + 8));
                }
        }
    }
}
