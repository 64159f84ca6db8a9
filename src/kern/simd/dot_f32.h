/* f32 dots, register-blocked: a tile of NW rows x NX tokens, 16 canonical lanes in SETS vectors each. Where registers hold the accumulators of
 * one of the sets alone (AVX2), the columns pass by once for each set: 4 x 3 does 12 fma for 7 loads, and holds 12 accumulators and 4
 * operands in 16 registers. 4 x 6 (AVX-512) does 24 for 10.
 *
 * Blocks, for an L1 of 32 KB and more: K_BLOCK columns of T_BLOCK tokens stay in L1 while NW rows pass by; the lanes of R_BLOCK x T_BLOCK
 * results wait on the stack (48 KB) between K blocks. Rows are powers of two apart as a rule, and the same columns of all of them want the same
 * few lines of L1: so the tokens' are copied to where they stand side by side, and those of the next block fetched meanwhile. */
#include "kern/canon.h"

enum { NW = 4, NX = 3 * LANES / 8, ACCUMULATORS = NW * NX, K_BLOCK = 512, T_BLOCK = 12, R_BLOCK = 64 };

typedef struct block {
    float lane[R_BLOCK][T_BLOCK][16];
    float x[T_BLOCK][K_BLOCK];
} block;

/* Lanes of rows r .. r+nw and tokens t .. t+nx += the products of columns [0, n), or with `first` become them; n is a multiple of 16 unless it ends the
 * row, and column 0 belongs to lane 0. nw, nx constant. */
KERN_INLINE void tile(int nw, int nx, bool first, size_t n, const float *w, size_t ldw, const float *x, size_t ldx, block *b, size_t r, size_t t) {
    const int at_once = nw * nx * SETS > ACCUMULATORS ? 1 : SETS; /* sets */
    size_t k = 0;
    w += r * ldw, x += t * ldx;
#pragma GCC unroll 2
    for (int s = 0; s < SETS; s += at_once) {
        vf acc[NW][NX][SETS];
        for (int i = 0; i < nw; i++)
            for (int j = 0; j < nx; j++)
                for (int h = 0; h < at_once; h++) acc[i][j][h] = first ? f_zero() : f_load(b->lane[r + (size_t)i][t + (size_t)j] + LANES * (s + h));
        for (k = 0; k + 16 <= n; k += 16)
            for (int h = 0; h < at_once; h++) {
                const size_t c = k + (size_t)(LANES * (s + h));
                if (nw > nx) { /* the fewer of both stay in registers while the others pass; f_stay: one load of each, not one per fma */
                    vf vx[NX];
                    for (int j = 0; j < nx; j++) vx[j] = f_load(x + (size_t)j * ldx + c);
                    for (int i = 0; i < nw; i++) {
                        const vf vw = f_stay(f_load(w + (size_t)i * ldw + c));
                        for (int j = 0; j < nx; j++) acc[i][j][h] = f_fma(vw, vx[j], acc[i][j][h]);
                    }
                } else {
                    vf vw[NW];
                    for (int i = 0; i < nw; i++) vw[i] = f_stay(f_load(w + (size_t)i * ldw + c));
                    for (int j = 0; j < nx; j++) {
                        const vf vx = f_stay(f_load(x + (size_t)j * ldx + c));
                        for (int i = 0; i < nw; i++) acc[i][j][h] = f_fma(vw[i], vx, acc[i][j][h]);
                    }
                }
            }
        for (int i = 0; i < nw; i++)
            for (int j = 0; j < nx; j++)
                for (int h = 0; h < at_once; h++) f_store(b->lane[r + (size_t)i][t + (size_t)j] + LANES * (s + h), acc[i][j][h]);
    }
    for (; k < n; k++)
        for (int i = 0; i < nw; i++)
            for (int j = 0; j < nx; j++) {
                float *l = &b->lane[r + (size_t)i][t + (size_t)j][k % 16];
                *l = fmaf(w[(size_t)i * ldw + k], x[(size_t)j * ldx + k], *l);
            }
}

/* All tokens of nw rows of one K block. */
KERN_INLINE void rows(int nw, size_t nt, bool first, size_t n, const float *w, size_t ldw, const float *x, size_t ldx, block *b, size_t r) {
    size_t t = 0;
    for (; t + NX <= nt; t += NX) tile(nw, NX, first, n, w, ldw, x, ldx, b, r, t);
    if (NX > 4 && t + 4 <= nt) tile(nw, 4, first, n, w, ldw, x, ldx, b, r, t), t += 4;
    if (NX > 3 && nt - t == 3) tile(nw, 3, first, n, w, ldw, x, ldx, b, r, t);
    else if (nt - t == 2) tile(nw, 2, first, n, w, ldw, x, ldx, b, r, t);
    else if (nt - t == 1) tile(nw, 1, first, n, w, ldw, x, ldx, b, r, t);
}

/* Part i of `of` of K_BLOCK columns of T_BLOCK tokens. */
static void fetch(const float *x, size_t ldx, size_t i, size_t of) {
    for (size_t j = T_BLOCK * i / of; j < T_BLOCK * (i + 1) / of; j++)
        for (size_t k = 0; k < K_BLOCK; k += 16) __builtin_prefetch(x + j * ldx + k, 0, 2);
}

/* next: the tokens' block that comes next, or NULL. */
static void k_block(size_t nr, size_t nt, bool first, size_t n, const float *w, size_t ldw, const float *x, size_t ldx, const float *next, block *b) {
    const bool copy = nt > 2 && nr > 2 * NW; /* which takes as long as a row */
    const size_t ld = copy ? K_BLOCK : ldx;
    for (size_t j = 0; copy && j < nt; j++) memcpy(b->x[j], x + j * ldx, n * sizeof *x);
    if (copy) x = b->x[0];
    size_t r = 0;
    for (; r + NW <= nr; r += NW) {
        if (copy && next) fetch(next, ldx, r / NW, nr / NW);
        rows(NW, nt, first, n, w, ldw, x, ld, b, r);
    }
    for (; r < nr; r++) rows(1, nt, first, n, w, ldw, x, ld, b, r);
}

/* y[i] += the sum of row i's lanes of token j. */
static void add_sums(const block *b, size_t nr, size_t j, float *y) {
    size_t i = 0;
    for (; i + 4 <= nr; i += 4) {
        const float *const l[4] = {b->lane[i][j], b->lane[i + 1][j], b->lane[i + 2][j], b->lane[i + 3][j]};
        canon_add_trees(l, y + i);
    }
    for (; i < nr; i++) y[i] += canon_tree16(b->lane[i][j]);
}

void KERN_ISA(kern_dot_f32)(size_t n_rows, size_t n_tokens, size_t n, const float *w, size_t ldw, const float *x, size_t ldx, float *y,
                        size_t ldy) {
    block b;
    for (size_t t = 0; t < n_tokens; t += T_BLOCK) {
        const size_t nt = n_tokens - t < T_BLOCK ? n_tokens - t : T_BLOCK;
        for (size_t r = 0; r < n_rows; r += R_BLOCK) {
            const size_t nr = n_rows - r < R_BLOCK ? n_rows - r : R_BLOCK;
            size_t k = 0;
            do {
                const float *here = x + t * ldx, *next = NULL; /* whole ones alone */
                if (nt == T_BLOCK && k + 2 * K_BLOCK <= n) next = here + k + K_BLOCK;
                else if (t + 2 * T_BLOCK <= n_tokens && n >= K_BLOCK) next = here + T_BLOCK * ldx;
                k_block(nr, nt, k == 0, n - k < K_BLOCK ? n - k : K_BLOCK, w + r * ldw + k, ldw, here + k, ldx, next, &b);
            } while ((k += K_BLOCK) < n);
            for (size_t j = 0; j < nt; j++) add_sums(&b, nr, j, y + (t + j) * ldy + r);
        }
    }
}
