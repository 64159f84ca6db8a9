/* f32 dots, register-blocked: a tile of NW rows x NX tokens (NW1 rows when there is but one token), 16 canonical lanes in SETS vectors
 * each. Per 16 columns one of 2 x 3 does 12 fma for 10 loads, and holds 12 accumulators and 3 operands in 16 registers (AVX2: 57 to 61
 * multiply-adds per ns where the peak is 62), one of 4 x 6 does 24 (AVX-512: 75 to 92, and 125).
 *
 * Blocks, for an L1 of 32 KB and more: K_BLOCK columns of T_BLOCK tokens (12 x 2 KB) stay in L1 while NW rows pass by;
 * the lanes of R_BLOCK x T_BLOCK results wait on the stack (24 KB) between K blocks. */
#include "kern/canon.h"

enum { NW = LANES / 4, NX = 3 * NW / 2, NW1 = 4, K_BLOCK = 512, T_BLOCK = 12, R_BLOCK = 32 };

typedef struct block {
    float lane[R_BLOCK][T_BLOCK][16];
} block;

/* Lanes of rows r .. r+nw and tokens t .. t+nx += the products of columns [0, n); n is a multiple of 16 unless it ends the
 * row, and column 0 belongs to lane 0. nw, nx constant. */
KERN_INLINE void tile(int nw, int nx, size_t n, const float *w, size_t ldw, const float *x, size_t ldx, block *b, size_t r, size_t t) {
    vf acc[NW1][NX][SETS];
    w += r * ldw, x += t * ldx;
    for (int i = 0; i < nw; i++)
        for (int j = 0; j < nx; j++)
            for (int h = 0; h < SETS; h++) acc[i][j][h] = f_load(b->lane[r + (size_t)i][t + (size_t)j] + LANES * h);
    size_t k = 0;
    for (; k + 16 <= n; k += 16)
        for (size_t h = 0; h < SETS; h++) {
            vf vw[NW1];
            for (int i = 0; i < nw; i++) vw[i] = f_load(w + (size_t)i * ldw + k + LANES * h);
            for (int j = 0; j < nx; j++) {
                vf vx = f_load(x + (size_t)j * ldx + k + LANES * h);
                if (nw > 1) vx = f_stay(vx); /* one load, not one per fma: two loads a cycle are the limit */
                for (int i = 0; i < nw; i++) acc[i][j][h] = f_fma(vw[i], vx, acc[i][j][h]);
            }
        }
    for (int i = 0; i < nw; i++)
        for (int j = 0; j < nx; j++)
            for (int h = 0; h < SETS; h++) f_store(b->lane[r + (size_t)i][t + (size_t)j] + LANES * h, acc[i][j][h]);
    for (; k < n; k++)
        for (int i = 0; i < nw; i++)
            for (int j = 0; j < nx; j++) {
                float *l = &b->lane[r + (size_t)i][t + (size_t)j][k % 16];
                *l = fmaf(w[(size_t)i * ldw + k], x[(size_t)j * ldx + k], *l);
            }
}

/* All tokens of nw rows of one K block. */
KERN_INLINE void rows(int nw, size_t nt, size_t n, const float *w, size_t ldw, const float *x, size_t ldx, block *b, size_t r) {
    size_t t = 0;
    for (; t + NX <= nt; t += NX) tile(nw, NX, n, w, ldw, x, ldx, b, r, t);
    if (NX > 4 && t + 4 <= nt) tile(nw, 4, n, w, ldw, x, ldx, b, r, t), t += 4;
    if (NX > 3 && nt - t == 3) tile(nw, 3, n, w, ldw, x, ldx, b, r, t);
    else if (nt - t == 2) tile(nw, 2, n, w, ldw, x, ldx, b, r, t);
    else if (nt - t == 1) tile(nw, 1, n, w, ldw, x, ldx, b, r, t);
}

static void k_block(size_t nr, size_t nt, size_t n, const float *w, size_t ldw, const float *x, size_t ldx, block *b) {
    size_t r = 0;
    for (; nt == 1 && r + NW1 <= nr; r += NW1) tile(NW1, 1, n, w, ldw, x, ldx, b, r, 0);
    for (; r + NW <= nr; r += NW) rows(NW, nt, n, w, ldw, x, ldx, b, r);
    for (; r < nr; r++) rows(1, nt, n, w, ldw, x, ldx, b, r);
}

void KERN_ISA(kern_dot_f32)(size_t n_rows, size_t n_tokens, size_t n, const float *w, size_t ldw, const float *x, size_t ldx, float *y,
                        size_t ldy) {
    block b;
    for (size_t t = 0; t < n_tokens; t += T_BLOCK) {
        const size_t nt = n_tokens - t < T_BLOCK ? n_tokens - t : T_BLOCK;
        for (size_t r = 0; r < n_rows; r += R_BLOCK) {
            const size_t nr = n_rows - r < R_BLOCK ? n_rows - r : R_BLOCK;
            for (size_t i = 0; i < nr; i++) memset(b.lane[i], 0, nt * sizeof b.lane[i][0]);
            for (size_t k = 0; k < n; k += K_BLOCK)
                k_block(nr, nt, n - k < K_BLOCK ? n - k : K_BLOCK, w + r * ldw + k, ldw, x + t * ldx + k, ldx, &b);
            for (size_t i = 0; i < nr; i++)
                for (size_t j = 0; j < nt; j++) y[(t + j) * ldy + r + i] += canon_tree16(b.lane[i][j]);
        }
    }
}
