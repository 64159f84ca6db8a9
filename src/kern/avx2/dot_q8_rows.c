/* q8 dots along a row, for few tokens: eight chunks at a time, so that their eight scales, and the canonical lanes, fill one
 * register each.
 *
 * Products: maddubs multiplies |q| <= 128 (unsigned) by x with q's sign, |x| <= 127: a pair sums to at most 32,512, so the
 * int16 never saturates, for q = -128 too. */
#include "kern/avx2/dot_q8.h"
#include "kern/canon.h"

/* 32 products as 8 int32 sums of 4 */
KERN_INLINE __m256i products(const int8_t *q, const int8_t *x) {
    __m256i vq = load_i(q);
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(vq), _mm256_sign_epi8(load_i(x), vq));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/* Four chunks: lane k of the lower (upper) half is the sum of the first (last) 16 products of chunk k. */
KERN_INLINE __m256i half_sums(const int8_t *q, const int8_t *x) {
    __m256i a = _mm256_hadd_epi32(products(q, x), products(q + 32, x + 32));
    __m256i b = _mm256_hadd_epi32(products(q + 64, x + 64), products(q + 96, x + 96));
    return _mm256_hadd_epi32(a, b);
}

KERN_INLINE __m256 fma_int(__m256 s, __m256i i, __m256 lane) { return _mm256_fmadd_ps(s, _mm256_cvtepi32_ps(i), lane); }

KERN_INLINE float pair_g32(const int8_t *q, const float *s, const float *m, const int8_t *x, const float *xs,
                           const int16_t *xsum, size_t n_chunks) {
    __m256 acc = _mm256_setzero_ps();
    size_t c = 0;
    for (; c + 8 <= n_chunks; c += 8) {
        __m256i a = half_sums(q + 32 * c, x + 32 * c), b = half_sums(q + 32 * c + 128, x + 32 * c + 128);
        __m256i dot = _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
        __m256 scale = _mm256_loadu_ps(xs + c);
        acc = fma_int(_mm256_mul_ps(_mm256_loadu_ps(s + c), scale), dot, acc);
        if (m) {
            __m256i sum = _mm256_madd_epi16(load_i(xsum + 2 * c), _mm256_set1_epi16(1));
            acc = fma_int(_mm256_mul_ps(_mm256_loadu_ps(m + c), scale), sum, acc);
        }
    }
    if (c == n_chunks) return tree8(acc);
    float lane[8];
    _mm256_storeu_ps(lane, acc);
    for (size_t i = 0; c < n_chunks; c++, i++) {
        __m256i p = products(q + 32 * c, x + 32 * c);
        __m128i h = _mm_add_epi32(_mm256_castsi256_si128(p), _mm256_extracti128_si256(p, 1));
        h = _mm_hadd_epi32(h, h);
        h = _mm_hadd_epi32(h, h);
        lane[i] = fmaf(s[c] * xs[c], (float)_mm_cvtsi128_si32(h), lane[i]);
        if (m) lane[i] = fmaf(m[c] * xs[c], (float)(xsum[2 * c] + xsum[2 * c + 1]), lane[i]);
    }
    return canon_tree8(lane);
}

/* Groups of 16: four chunks are eight groups, in the order 0 2 4 6 1 3 5 7 of half_sums; put straight before the fma. */
KERN_INLINE float pair_g16(const int8_t *q, const float *s, const float *m, const int8_t *x, const float *xs,
                           const int16_t *xsum, size_t n_chunks) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7), twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    __m256 acc = _mm256_setzero_ps();
    size_t c = 0;
    for (; c + 4 <= n_chunks; c += 4) {
        __m256i dot = _mm256_permutevar8x32_epi32(half_sums(q + 32 * c, x + 32 * c), order);
        __m256 scale = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(xs + c)), twice);
        acc = fma_int(_mm256_mul_ps(_mm256_loadu_ps(s + 2 * c), scale), dot, acc);
        if (m) {
            __m256i sum = _mm256_cvtepi16_epi32(load_i128(xsum + 2 * c));
            acc = fma_int(_mm256_mul_ps(_mm256_loadu_ps(m + 2 * c), scale), sum, acc);
        }
    }
    if (c == n_chunks) return tree8(acc);
    float lane[8];
    _mm256_storeu_ps(lane, acc);
    for (size_t i = 0; c < n_chunks; c++) {
        __m256i p = products(q + 32 * c, x + 32 * c);
        for (size_t h = 0; h < 2; h++, i++) {
            __m128i v = h ? _mm256_extracti128_si256(p, 1) : _mm256_castsi256_si128(p);
            v = _mm_hadd_epi32(v, v);
            v = _mm_hadd_epi32(v, v);
            lane[i] = fmaf(s[2 * c + h] * xs[c], (float)_mm_cvtsi128_si32(v), lane[i]);
            if (m) lane[i] = fmaf(m[2 * c + h] * xs[c], (float)xsum[2 * c + h], lane[i]);
        }
    }
    return canon_tree8(lane);
}

/* `offset` is a->m != NULL as a constant, so that each case gets a loop without the branch. */
KERN_INLINE void rows(const kern_q8_args *a, bool g16, bool offset) {
    for (size_t r = 0; r < a->n_rows; r++) {
        const int8_t *q = a->q + r * a->ldq;
        const float *s = a->s + r * a->lds, *m = offset ? a->m + r * a->lds : NULL;
        for (size_t t = 0; t < a->n_tokens; t++) {
            const int8_t *x = a->x + t * a->ldx;
            const float *xs = a->xs + t * (a->ldx / 32);
            const int16_t *xsum = a->xsum + t * (a->ldx / 16);
            a->y[t * a->ldy + r] += g16 ? pair_g16(q, s, m, x, xs, xsum, a->n_chunks) : pair_g32(q, s, m, x, xs, xsum, a->n_chunks);
        }
    }
}

void kern_dot_q8_rows_g32_avx2(const kern_q8_args *a) {
    if (a->m) rows(a, false, true);
    else rows(a, false, false);
}

void kern_dot_q8_rows_g16_avx2(const kern_q8_args *a) {
    if (a->m) rows(a, true, true);
    else rows(a, true, false);
}

/* ---------------------------------------------------------------- choice ---- */

/* Repacking a panel pays from about four tokens on, if most of its rows exist. */
enum { PANEL_MIN_TOKENS = 4, PANEL_MIN_ROWS = 5 };

static bool wants_panel(const kern_q8_args *a) { return a->n_tokens >= PANEL_MIN_TOKENS && a->n_rows >= PANEL_MIN_ROWS; }

void kern_dot_q8_g32_avx2(const kern_q8_args *a) {
    if (wants_panel(a)) kern_dot_q8_panel_g32_avx2(a);
    else kern_dot_q8_rows_g32_avx2(a);
}

void kern_dot_q8_g16_avx2(const kern_q8_args *a) {
    if (wants_panel(a)) kern_dot_q8_panel_g16_avx2(a);
    else kern_dot_q8_rows_g16_avx2(a);
}
