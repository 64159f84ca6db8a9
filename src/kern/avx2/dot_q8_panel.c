/* q8 dots across rows, for many tokens: registers hold eight rows, so nothing is summed horizontally.
 *
 * A panel of 8 or 16 rows is repacked, K_CHUNKS chunks at a time, so that a vector holds four neighbouring codes of each of
 * eight rows; a token's four codes are broadcast against it.
 *
 *     packed chunk:  [ row 0: w0..w3 | row 1: w0..w3 | ... | row 7: w0..w3 ]  [ row 0: w4..w7 | ... ]  ...   8 vectors
 *
 * maddubs wants one unsigned factor. With lo = the smallest code of the panel, codes are stored as q - lo >= 0 and the
 * dot gains lo * (sum of x), which is known: exact integers, so the same result. Pairs reach 2 * range * 127; while
 * n * 2 * range * 127 <= 32,767, n of them are added in int16 before they are widened:
 *     range <= 16: n = 8 (a whole chunk);  <= 32: 4;  <= 64: 2;  <= 129: 1.
 * So 2- to 4-bit codes cost two operations per vector, 8-bit codes (wider range) go the |q|, sign(x, q) way of
 * dot_q8_rows.c at four.
 *
 * The canonical lanes (group mod 8) of every row and token live in memory, `lane`, as vectors over rows: L1 while a tile of
 * tokens runs over a K block, L2 between K blocks. Stack: packed 16 KB, scales 8 KB, lanes 64 KB. */
#include "kern/avx2/dot_q8.h"

enum { K_CHUNKS = 32, T_MAX = 128, T_TILE = 4, OCTETS = 2, MODE_SIGN = 0 };

typedef struct panel {
    __m256i q[K_CHUNKS][OCTETS][8];
    __m256 s[2 * K_CHUNKS][OCTETS], m[2 * K_CHUNKS][OCTETS]; /* [group][octet] */
    int n_add;                                              /* pairs added in int16; MODE_SIGN */
    int lo;
} panel;

typedef struct lanes { __m256 v[8][OCTETS]; } lanes; /* of one token */

/* 8x8 transposition of 32-bit elements */
KERN_INLINE void transpose8(__m256i v[8]) {
    __m256i a[8], b[8];
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            b[4 * i + 2 * j] = _mm256_unpacklo_epi64(a[4 * i + j], a[4 * i + j + 2]);
            b[4 * i + 2 * j + 1] = _mm256_unpackhi_epi64(a[4 * i + j], a[4 * i + j + 2]);
        }
    for (int j = 0; j < 4; j++) {
        v[j] = _mm256_permute2x128_si256(b[j], b[j + 4], 0x20);
        v[j + 4] = _mm256_permute2x128_si256(b[j], b[j + 4], 0x31);
    }
}

/* The smallest of 32 signed bytes: as unsigned, the smaller of each pair in 16 bits, then minpos. */
KERN_INLINE int smallest(__m256i v) {
    __m128i m = _mm_min_epi8(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_xor_si128(m, _mm_set1_epi8(-128));
    m = _mm_minpos_epu16(_mm_min_epu8(_mm_and_si128(m, _mm_set1_epi16(255)), _mm_srli_epi16(m, 8)));
    return (_mm_cvtsi128_si32(m) & 255) - 128;
}

/* Range of the codes of n_rows x (32 * n_chunks), and the way to multiply them. ~v = -1 - v turns largest into smallest. */
static void choose_mode(panel *p, const int8_t *q, size_t ldq, size_t n_rows, size_t n_chunks) {
    __m256i min = bytes(127), max = bytes(-128);
    for (size_t r = 0; r < n_rows; r++)
        for (size_t c = 0; c < n_chunks; c++) {
            __m256i v = load_i(q + r * ldq + 32 * c);
            min = _mm256_min_epi8(min, v);
            max = _mm256_max_epi8(max, v);
        }
    int lo = smallest(min), hi = -1 - smallest(_mm256_xor_si256(max, bytes(-1))), range = hi - lo;
    p->n_add = range <= 16 ? 8 : range <= 32 ? 4 : range <= 64 ? 2 : range <= 129 ? 1 : MODE_SIGN;
    p->lo = p->n_add == MODE_SIGN ? 0 : lo;
}

/* n_groups scales of eight rows, group by group: to[g][0] holds rows 0..7. */
KERN_INLINE void pack_scales(__m256 (*to)[OCTETS], const float *const row[8], size_t n_groups) {
    size_t g = 0;
    for (; g + 8 <= n_groups; g += 8) {
        __m256i v[8];
        for (int i = 0; i < 8; i++) v[i] = load_i(row[i] + g);
        transpose8(v);
        for (size_t i = 0; i < 8; i++) to[g + i][0] = _mm256_castsi256_ps(v[i]);
    }
    for (; g < n_groups; g++)
        to[g][0] = _mm256_setr_ps(row[0][g], row[1][g], row[2][g], row[3][g], row[4][g], row[5][g], row[6][g], row[7][g]);
}

/* Rows that do not exist repeat the first; their results are dropped. */
static void pack(panel *p, const kern_q8_args *a, size_t row0, size_t n_rows, int n_octets, size_t chunk0, size_t n_chunks,
                 size_t groups) {
    choose_mode(p, a->q + row0 * a->ldq + 32 * chunk0, a->ldq, n_rows, n_chunks);
    const __m256i lo = bytes(p->lo);
    for (int o = 0; o < n_octets; o++) {
        const int8_t *q[8];
        const float *s[8], *m[8];
        for (size_t i = 0; i < 8; i++) {
            size_t r = 8 * (size_t)o + i < n_rows ? row0 + 8 * (size_t)o + i : row0;
            q[i] = a->q + r * a->ldq + 32 * chunk0;
            s[i] = a->s + r * a->lds + chunk0 * groups;
            m[i] = a->m ? a->m + r * a->lds + chunk0 * groups : NULL;
        }
        pack_scales((__m256(*)[OCTETS]) & p->s[0][o], s, n_chunks * groups);
        if (a->m) pack_scales((__m256(*)[OCTETS]) & p->m[0][o], m, n_chunks * groups);
        for (size_t c = 0; c < n_chunks; c++) {
            __m256i v[8];
            for (int i = 0; i < 8; i++) v[i] = _mm256_sub_epi8(load_i(q[i] + 32 * c), lo);
            transpose8(v);
            for (int j = 0; j < 8; j++) p->q[c][o][j] = v[j];
        }
    }
}

KERN_INLINE __m256i four_codes(const int8_t *x) { return _mm256_set1_epi32((int32_t)read_u32(x)); }

/* The value is in a register here. Left alone, GCC computes the products of all unrolled steps first and sums them last, which
 * spills most of them: 112 multiply-adds per ns for 4-bit codes, pinned 165. */
KERN_INLINE void pin(__m256i *v) { __asm__ volatile("" : "+x"(*v)); }

/* Exact dots of vectors j0 .. j0+n_j of one packed chunk with nt tokens: dot[octet][token], 8 rows each. */
KERN_INLINE void chunk_dots(const __m256i (*q)[8], int j0, int n_j, int n_add, int no, int nt, const int8_t *x, size_t ldx,
                            __m256i dot[OCTETS][T_TILE]) {
    const __m256i ones = _mm256_set1_epi16(1);
    if (n_add > n_j) n_add = n_j;
    for (int j = j0; j < j0 + n_j; j += n_add) {
        __m256i sum16[OCTETS][T_TILE];
#pragma GCC unroll 8
        for (int k = j; k < j + n_add; k++) {
            for (int t = 0; t < nt; t++) {
                __m256i vx = four_codes(x + (size_t)t * ldx + 4 * k);
                for (int o = 0; o < no; o++) {
                    __m256i pairs = _mm256_maddubs_epi16(q[o][k], vx);
                    sum16[o][t] = k == j ? pairs : _mm256_add_epi16(sum16[o][t], pairs);
                    pin(&sum16[o][t]);
                }
            }
        }
        for (int t = 0; t < nt; t++)
            for (int o = 0; o < no; o++) {
                __m256i wide = _mm256_madd_epi16(sum16[o][t], ones);
                dot[o][t] = j == j0 ? wide : _mm256_add_epi32(dot[o][t], wide);
                pin(&dot[o][t]);
            }
    }
}

KERN_INLINE void chunk_dots_sign(const __m256i (*q)[8], int j0, int n_j, int no, int nt, const int8_t *x, size_t ldx,
                                 __m256i dot[OCTETS][T_TILE]) {
    const __m256i ones = _mm256_set1_epi16(1);
    for (int j = j0; j < j0 + n_j; j++) {
        __m256i vq[OCTETS], abs[OCTETS];
        for (int o = 0; o < no; o++) {
            vq[o] = q[o][j];
            abs[o] = _mm256_abs_epi8(vq[o]);
        }
        for (int t = 0; t < nt; t++) {
            __m256i vx = four_codes(x + (size_t)t * ldx + 4 * j);
            for (int o = 0; o < no; o++) {
                __m256i wide = _mm256_madd_epi16(_mm256_maddubs_epi16(abs[o], _mm256_sign_epi8(vx, vq[o])), ones);
                dot[o][t] = j == j0 ? wide : _mm256_add_epi32(dot[o][t], wide);
                pin(&dot[o][t]);
            }
        }
    }
}

/* What a tile of tokens brings to a K block: codes and scales in place, and per group the sum of the codes and lo times it. */
typedef struct tokens {
    const int8_t *x;
    const float *xs;
    size_t ldx;
    float sum[T_TILE][2 * K_CHUNKS];
    int32_t correction[T_TILE][2 * K_CHUNKS];
} tokens;

KERN_INLINE void sum_tokens(tokens *k, const int16_t *xsum, int nt, size_t n_chunks, int groups, int lo) {
    const size_t n = n_chunks * (size_t)groups;
    for (size_t t = 0; t < (size_t)nt; t++, xsum += k->ldx / 16) {
        size_t g = 0;
        for (; g + 8 <= n; g += 8) {
            __m256i sum = groups == 1 ? _mm256_madd_epi16(load_i(xsum + 2 * g), _mm256_set1_epi16(1))
                                      : _mm256_cvtepi16_epi32(load_i128(xsum + g));
            _mm256_storeu_ps(k->sum[t] + g, _mm256_cvtepi32_ps(sum));
            store_i(k->correction[t] + g, _mm256_mullo_epi32(sum, _mm256_set1_epi32(lo)));
        }
        for (; g < n; g++) {
            int sum = groups == 1 ? xsum[2 * g] + xsum[2 * g + 1] : xsum[g];
            k->sum[t][g] = (float)sum;
            k->correction[t][g] = lo * sum;
        }
    }
}

/* One K block of one tile of nt tokens. groups, n_add, no and nt are constant after inlining. A block begins at a group that
 * is a multiple of 8, so its own count gives the lanes. */
KERN_INLINE void tile(const panel *p, size_t n_chunks, int groups, bool offset, int n_add, int no, int nt, const tokens *k,
                      lanes *lane) {
    const int n_j = 8 / groups; /* vectors of a group */
    for (size_t c = 0; c < n_chunks; c++)
#pragma GCC unroll 2
        for (int h = 0; h < groups; h++) {
            const size_t g = c * (size_t)groups + (size_t)h, l = g % 8;
            __m256i dot[OCTETS][T_TILE];
            if (n_add == MODE_SIGN) chunk_dots_sign(p->q[c], h * n_j, n_j, no, nt, k->x + 32 * c, k->ldx, dot);
            else chunk_dots(p->q[c], h * n_j, n_j, n_add, no, nt, k->x + 32 * c, k->ldx, dot);
            for (int t = 0; t < nt; t++) {
                const __m256 xs = _mm256_broadcast_ss(k->xs + (size_t)t * (k->ldx / 32) + c);
                const __m256i correction = _mm256_set1_epi32(k->correction[t][g]);
                for (int o = 0; o < no; o++) {
                    __m256i d = n_add == MODE_SIGN ? dot[o][t] : _mm256_add_epi32(dot[o][t], correction);
                    __m256 s = _mm256_mul_ps(p->s[g][o], xs);
                    lane[t].v[l][o] = _mm256_fmadd_ps(s, _mm256_cvtepi32_ps(d), lane[t].v[l][o]);
                }
            }
            if (!offset) continue;
            for (int t = 0; t < nt; t++) {
                const __m256 xs = _mm256_broadcast_ss(k->xs + (size_t)t * (k->ldx / 32) + c);
                const __m256 sum = _mm256_broadcast_ss(&k->sum[t][g]);
                for (int o = 0; o < no; o++) {
                    __m256 m = _mm256_mul_ps(p->m[g][o], xs);
                    lane[t].v[l][o] = _mm256_fmadd_ps(m, sum, lane[t].v[l][o]);
                }
            }
        }
}

#define TILE_ARGS const panel *p, size_t n_chunks, bool offset, int nt, const tokens *k, lanes *lane

KERN_INLINE void tile_nt(int groups, int n_add, int no, TILE_ARGS) {
    if (nt == 4 && n_add == 8) tile(p, n_chunks, groups, offset, n_add, no, 4, k, lane);
    else if (nt == 2 && n_add != 8) tile(p, n_chunks, groups, offset, n_add, no, 2, k, lane);
    else tile(p, n_chunks, groups, offset, n_add, no, 1, k, lane);
}

KERN_INLINE void tile_mode(int groups, int no, TILE_ARGS) {
    switch (p->n_add) {
    case 8: tile_nt(groups, 8, no, p, n_chunks, offset, nt, k, lane); break;
    case 4: tile_nt(groups, 4, no, p, n_chunks, offset, nt, k, lane); break;
    case 2: tile_nt(groups, 2, no, p, n_chunks, offset, nt, k, lane); break;
    case 1: tile_nt(groups, 1, no, p, n_chunks, offset, nt, k, lane); break;
    default: tile_nt(groups, MODE_SIGN, no, p, n_chunks, offset, nt, k, lane); break;
    }
}

KERN_INLINE void finish(const lanes *lane, size_t n_tokens, int n_octets, size_t n_rows, float *y, size_t ldy) {
    for (size_t t = 0; t < n_tokens; t++)
        for (int o = 0; o < n_octets; o++) {
            __m256 l[8];
            for (int i = 0; i < 8; i++) l[i] = lane[t].v[i][o];
            __m256 even = _mm256_add_ps(_mm256_add_ps(l[0], l[4]), _mm256_add_ps(l[2], l[6]));
            __m256 odd = _mm256_add_ps(_mm256_add_ps(l[1], l[5]), _mm256_add_ps(l[3], l[7]));
            float sum[8];
            _mm256_storeu_ps(sum, _mm256_add_ps(even, odd));
            for (size_t i = 0; i < 8 && 8 * (size_t)o + i < n_rows; i++) y[t * ldy + 8 * (size_t)o + i] += sum[i];
        }
}

/* Rows [row0, row0 + n_rows), n_rows <= 8 * no, against tokens [t0, t0 + nt), nt <= T_MAX */
KERN_INLINE void panel_dots(const kern_q8_args *a, int groups, int no, size_t row0, size_t n_rows, size_t t0, size_t nt) {
    panel p;
    tokens k = {.ldx = a->ldx};
    lanes lane[T_MAX];
    memset(lane, 0, nt * sizeof lane[0]);
    for (size_t c = 0; c < a->n_chunks; c += K_CHUNKS) {
        const size_t n = a->n_chunks - c < K_CHUNKS ? a->n_chunks - c : K_CHUNKS;
        pack(&p, a, row0, n_rows, no, c, n, (size_t)groups);
        const size_t step = p.n_add == 8 ? 4 : 2;
        for (size_t t = 0; t < nt;) {
            const size_t at = t0 + t;
            const int now = nt - t >= step ? (int)step : 1;
            k.x = a->x + at * a->ldx + 32 * c;
            k.xs = a->xs + at * (a->ldx / 32) + c;
            sum_tokens(&k, a->xsum + at * (a->ldx / 16) + 2 * c, now, n, groups, p.lo);
            tile_mode(groups, no, &p, n, a->m != NULL, now, &k, lane + t);
            t += (size_t)now;
        }
    }
    finish(lane, nt, no, n_rows, a->y + t0 * a->ldy + row0, a->ldy);
}

/* One function per case, so that the inlined tiles stay apart and the stack is theirs alone. */
#define PANEL(name, groups, no)                                                                                         \
    static __attribute__((noinline)) void name(const kern_q8_args *a, size_t row0, size_t n_rows, size_t t0, size_t nt) { \
        panel_dots(a, groups, no, row0, n_rows, t0, nt);                                                                \
    }
PANEL(g32_one, 1, 1)
PANEL(g32_two, 1, 2)
PANEL(g16_one, 2, 1)
PANEL(g16_two, 2, 2)

typedef void (*panel_fn)(const kern_q8_args *a, size_t row0, size_t n_rows, size_t t0, size_t nt);

static void all_panels(const kern_q8_args *a, panel_fn one, panel_fn two) {
    for (size_t t = 0; t < a->n_tokens; t += T_MAX) {
        const size_t nt = a->n_tokens - t < T_MAX ? a->n_tokens - t : T_MAX;
        for (size_t r = 0; r < a->n_rows;) {
            const size_t left = a->n_rows - r, n = left < 8 * OCTETS ? left : 8 * OCTETS;
            (left > 8 ? two : one)(a, r, n, t, nt);
            r += n;
        }
    }
}

void kern_dot_q8_panel_g32_avx2(const kern_q8_args *a) { all_panels(a, g32_one, g32_two); }
void kern_dot_q8_panel_g16_avx2(const kern_q8_args *a) { all_panels(a, g16_one, g16_two); }
