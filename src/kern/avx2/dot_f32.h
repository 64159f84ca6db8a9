/* Register-blocked f32 dots: a tile of nw rows times nx rows, 16 canonical lanes (two registers) each. The second factor may
 * be f16. Used by dot_f32 (rows x tokens) and by attention scores (query heads x positions).
 *
 * Per 16 columns a 2 x 3 tile does 12 fma for 10 loads: 12 accumulators, 2 + 1 operands, of 16 registers. */
#ifndef KERN_AVX2_DOT_F32_H
#define KERN_AVX2_DOT_F32_H
#include "kern/avx2/avx2.h"
#include "kern/canon.h"

enum { DOT_TILE_MAX = 4 };

KERN_INLINE __m256 load_x(const void *x, size_t i, bool x_f16) {
    return x_f16 ? _mm256_cvtph_ps(load_i128((const uint8_t *)x + 2 * i)) : _mm256_loadu_ps((const float *)x + i);
}
KERN_INLINE float load_x1(const void *x, size_t i, bool x_f16) {
    return x_f16 ? half((const uint8_t *)x + 2 * i) : ((const float *)x)[i];
}

/* lane[w][x][16]: += over columns [0, n); n a multiple of 16 unless it is the row's end. Lanes start at column 0 mod 16. */
KERN_INLINE void dot_tile(int nw, int nx, size_t n, const float *w, size_t ldw, const void *x, size_t ldx, bool x_f16,
                          float (*lane)[DOT_TILE_MAX][16]) {
    __m256 acc[DOT_TILE_MAX][DOT_TILE_MAX][2];
    for (int i = 0; i < nw; i++)
        for (int j = 0; j < nx; j++)
            for (int h = 0; h < 2; h++) acc[i][j][h] = _mm256_loadu_ps(lane[i][j] + 8 * h);
    size_t k = 0;
    for (; k + 16 <= n; k += 16)
        for (int h = 0; h < 2; h++) {
            __m256 vw[DOT_TILE_MAX];
            for (int i = 0; i < nw; i++) vw[i] = _mm256_loadu_ps(w + (size_t)i * ldw + k + 8 * (size_t)h);
            for (int j = 0; j < nx; j++) {
                __m256 vx = load_x(x, (size_t)j * ldx + k + 8 * (size_t)h, x_f16);
                for (int i = 0; i < nw; i++) acc[i][j][h] = _mm256_fmadd_ps(vw[i], vx, acc[i][j][h]);
            }
        }
    for (int i = 0; i < nw; i++)
        for (int j = 0; j < nx; j++)
            for (int h = 0; h < 2; h++) _mm256_storeu_ps(lane[i][j] + 8 * h, acc[i][j][h]);
    for (; k < n; k++)
        for (int i = 0; i < nw; i++)
            for (int j = 0; j < nx; j++) {
                float *l = &lane[i][j][k % 16];
                *l = fmaf(w[(size_t)i * ldw + k], load_x1(x, (size_t)j * ldx + k, x_f16), *l);
            }
}

KERN_INLINE float lanes_sum(const float l[16]) { return tree16(_mm256_loadu_ps(l), _mm256_loadu_ps(l + 8)); }
#endif
