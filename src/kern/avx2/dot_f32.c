/* f32 dots: tiles of 2 rows x 3 tokens (dot_f32.h), 4 rows x 1 token when there is but one.
 *
 * Blocks, for an L1 of 32 KB and more: K_BLOCK columns of T_BLOCK tokens (12 x 2 KB) stay in L1 while pairs of rows pass by;
 * the lanes of R_BLOCK x T_BLOCK results wait on the stack (24 KB) between K blocks. */
#include "kern/avx2/dot_f32.h"

enum { K_BLOCK = 512, T_BLOCK = 12, R_BLOCK = 32 };

typedef struct block {
    float lane[R_BLOCK][T_BLOCK][16];
} block;

/* A tile through the block's lanes; nw, nx constant. */
KERN_INLINE void tile(int nw, int nx, size_t n, const float *w, size_t ldw, const float *x, size_t ldx, block *b, size_t r, size_t t) {
    float lane[DOT_TILE_MAX][DOT_TILE_MAX][16];
    for (int i = 0; i < nw; i++)
        for (int j = 0; j < nx; j++) memcpy(lane[i][j], b->lane[r + (size_t)i][t + (size_t)j], sizeof lane[i][j]);
    dot_tile(nw, nx, n, w + r * ldw, ldw, x + t * ldx, ldx, false, lane);
    for (int i = 0; i < nw; i++)
        for (int j = 0; j < nx; j++) memcpy(b->lane[r + (size_t)i][t + (size_t)j], lane[i][j], sizeof lane[i][j]);
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

void kern_dot_f32_avx2(size_t n_rows, size_t n_tokens, size_t n, const float *w, size_t ldw, const float *x, size_t ldx,
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
                for (size_t j = 0; j < nt; j++) y[(t + j) * ldy + r + i] += lanes_sum(b.lane[i][j]);
        }
    }
}
