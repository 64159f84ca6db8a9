/* Many tokens with AVX2: a tile of eight with a panel that was taken apart, for codes of up to 6 bits.
 *
 * Multiplications go through two of the four vector ports, integer or float, and additions through any: so the fewest multiplications and
 * no spilled registers are what is fast. Four words of all sixteen rows stay in registers while the tokens pass; sums in f32 lie in memory.
 *
 * Codes that have a zero, and those of 6 bits, are made signed where they are sums: `centre` times the activations' sum, added as maddubs
 * adds, is taken off before the sums are widened. Then eight products of 6 bits fit int16 (8 * 127 * 32), whatever they were on the way. */

enum { TILE = KERN_Q8_TILE, QUADS = 2 * STEP };
typedef float tile_sums[2][TILE][LANES];
typedef int32_t tile_parts[2][TILE][LANES];

/* What the columns of a step give all rows, eight tokens beside each other. */
typedef struct step_sums {
    _Alignas(32) int16_t centre[QUADS][2 * TILE]; /* of a quad, or of a group that fits int16: columns 0 1, columns 2 3 of its words */
    _Alignas(32) float xk[QUADS][TILE];          /* of a group: scale times the sum of its activations */
} step_sums;

KERN_INLINE int centre_of(const panel_form f) { return f.bits == 6 ? 32 : f.zero; }
KERN_INLINE bool eight_fit(const panel_form f) { return f.group == 32 && f.bits <= 4; } /* words of a group, in int16 */

KERN_INLINE vi bc32(const void *p) { /* here and nowhere else: the compiler would gather such loads and spill them */
    vi v = _mm256_set1_epi32((int)read_u32(p));
    __asm__ volatile("" : "+x"(v));
    return v;
}
KERN_INLINE void accumulate(float sum[LANES], vf a, vf b) { /* likewise */
    f_store(sum, f_fma(a, b, f_load(sum)));
    __asm__("" : "+m"(*(float(*)[LANES])sum));
}

/* Of n chunks from chunk c on. */
KERN_INLINE void sums_of_step(const panel_form f, const tokens *x, size_t c, size_t n, step_sums *to) {
    const size_t words = eight_fit(f) ? 8 : 4, per_chunk = 32u / f.group;
    const int8_t *q = x->x + 32 * TILE * c;
    for (size_t i = 0; centre_of(f) && i < 8 * n / words; i++) {
        vi sum = _mm256_setzero_si256();
#pragma GCC unroll 8
        for (size_t j = 0; j < words; j++, q += 4 * TILE) sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(bytes(centre_of(f)), load_i(q)));
        store_i(to->centre[i], sum);
    }
    for (size_t g = 0; f.has_min && g < n * per_chunk; g++)
        f_store(to->xk[g], f_mul(f_load(x->scale + TILE * (c + g / per_chunk)), f_load(x->sum + TILE * (c * per_chunk + g))));
}

/* A group's numbers: scales of the rows, of the tokens, sums of the tokens' activations. */
typedef struct group_of { vf s[2]; const float *scale, *sum; } group_of;

/* Four words of the codes at p, whose halves lie `half` bytes apart; the first or the last of their group. */
KERN_INLINE void tile_quad(const panel_form f, bool first, bool last, const uint8_t *p, size_t half, const int8_t *q, const int16_t *centre,
                           const group_of *g, tile_parts part, tile_sums acc) {
    const bool wrap = eight_fit(f); /* int16 to the group's end */
    const vi one = _mm256_set1_epi16(1);
    vi w[2][4];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) w[i / 4][i % 4] = v_stay(load_i(p + (size_t)(i / 4) * half + 32 * (i % 4)));
#pragma GCC unroll 8
    for (int t = 0; t < TILE; t++) {
        vi sum[2], v;
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            v = bc32(q + 4 * TILE * j + 4 * t);
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
                const vi product = _mm256_maddubs_epi16(w[h][j], v);
                sum[h] = v_stay(j ? _mm256_add_epi16(sum[h], product) : product);
            }
        }
        const bool narrow = wrap && !last, take = centre_of(f) && !narrow;
        if (take) v = bc32(centre + 2 * t);
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            if (wrap && !first) sum[h] = _mm256_add_epi16(sum[h], load_i(part[h][t]));
            if (take) sum[h] = _mm256_sub_epi16(sum[h], v);
            if (!narrow) sum[h] = _mm256_madd_epi16(sum[h], one);
            if (!wrap && !first) sum[h] = i_add(sum[h], load_i(part[h][t]));
            if (!last) store_i(part[h][t], sum[h]);
        }
        if (!last) continue;
        const vf xs = f_set1(g->scale[t]);
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            const int shift = centre_of(f) - f.zero;
            vf i = f_of_int(sum[h]);
            if (shift) i = f_fma(f_set1((float)shift), f_set1(g->sum[t]), i);
            accumulate(acc[h][t], f_mul(g->s[h], xs), i);
        }
    }
}

/* n chunks from chunk c on. */
KERN_INLINE void tile_codes(const panel_form f, const uint8_t *p, size_t half, const float *s, size_t half_s, const tokens *x, size_t c,
                            size_t n, const step_sums *sums, tile_sums acc) {
    const size_t per_chunk = 32u / f.group;
    const int8_t *q = x->x + 32 * TILE * c;
    _Alignas(32) tile_parts part;
    for (size_t i = 0; i < n * per_chunk; i++, s += LANES) {
        const group_of g = {{f_load(s), f_load(s + half_s)}, x->scale + TILE * (c + i / per_chunk), x->sum + TILE * (c * per_chunk + i)};
        const int16_t *centre = sums->centre[f.group == 16 || eight_fit(f) ? i : 2 * i];
        tile_quad(f, true, f.group == 16, p, half, q, centre, &g, part, acc);
        p += 4 * 32, q += 4 * 4 * TILE;
        if (f.group == 16) continue;
        tile_quad(f, false, true, p, half, q, eight_fit(f) ? centre : centre + 2 * TILE, &g, part, acc);
        p += 4 * 32, q += 4 * 4 * TILE;
    }
}

/* The offsets' share. */
KERN_INLINE void tile_offsets(size_t groups, const float *m, size_t half_m, const step_sums *sums, tile_sums off) {
    for (int t0 = 0; t0 < TILE; t0 += 4) {
        vf o[2][4];
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) o[i / 4][i % 4] = f_load(off[i / 4][t0 + i % 4]);
        for (size_t g = 0; g < groups; g++)
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) {
                const vf xk = f_set1(sums->xk[g][t0 + i % 4]);
                o[i / 4][i % 4] = f_stay(f_fma(f_load(m + LANES * g + (size_t)(i / 4) * half_m), xk, o[i / 4][i % 4]));
            }
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) f_store(off[i / 4][t0 + i % 4], o[i / 4][i % 4]);
    }
}

KERN_INLINE void add_tile(const kern_panel_args *a, bool has_min, size_t t0, tile_sums acc, tile_sums off) {
    for (int t = 0; t < TILE; t++)
        for (int h = 0; h < 2; h++) {
            float *y = a->y + (t0 + (size_t)t) * a->ldy + h * LANES;
            vf sum = f_load(acc[h][t]);
            if (has_min) sum = f_add(sum, f_load(off[h][t]));
            f_store(acc[h][t], sum);
            if (a->n_rows == ROWS) f_store(y, f_add(f_load(y), sum));
            else for (int r = 0; r < LANES && (size_t)(h * LANES + r) < a->n_rows; r++) y[r] += acc[h][t][r];
        }
}

/* The tile that begins with token t0. */
KERN_INLINE void multiply_tile(const panel_form f, const kern_panel_args *a, const apart *u, size_t t0) {
    if (class_of(f) > 6) {
        for (size_t lane = 0; lane < TILE; lane += MAX_TOKENS) multiply(f, MAX_TOKENS, TILE, a, u, t0, lane);
        return;
    }
    const size_t per_chunk = 32u / f.group, half = 256 * a->n_chunks, half_s = per_chunk * a->n_chunks * LANES;
    const tokens x = tokens_from(a, f, t0, 0);
    _Alignas(32) tile_sums acc = {{{0}}}, off = {{{0}}};
    step_sums sums;
    for (size_t c = 0; c < a->n_chunks; c += STEP) {
        const size_t n = a->n_chunks - c < STEP ? a->n_chunks - c : STEP, at = c * per_chunk * LANES;
        sums_of_step(f, &x, c, n, &sums);
        tile_codes(f, u->codes + 256 * c, half, u->s + at, half_s, &x, c, n, &sums, acc);
        if (f.has_min) tile_offsets(n * per_chunk, u->m + at, half_s, &sums, off);
    }
    add_tile(a, f.has_min, t0, acc, off);
}
