/* Many tokens with AVX2: a tile of eight with a panel that was taken apart.
 *
 * Multiplications go through two of the four vector ports, integer or float, and additions and bits through any: so the fewest
 * multiplications and no spilled registers are what is fast. Of codes of up to 6 bits four words of all sixteen rows stay in registers while
 * the tokens pass; of those above, the sums of four tokens do while the words pass. Sums in f32 lie in memory.
 *
 * Codes of 6 bits are made signed where they are sums: their centre times the activations' sum, added as maddubs adds, is taken off before
 * the sums are widened. Then eight products fit int16 (8 * 127 * 32), whatever they were on the way. Other zeros are taken off after that.
 *
 * Most chunks allow more. Where the distances of a row's codes from the centre add up to no more than NEAR over the columns that meet in an
 * int16, products of all of the chunk's words fit (6 bits), or of four words where the codes have 7 bits: looked at when a panel is taken apart. */

enum { TILE = KERN_Q8_TILE, QUADS = 2 * STEP, NEAR = 32767 / 127, NEAR_FROM = 4 * TILE /* tokens that are worth the look */ };
typedef float tile_sums[2][TILE][LANES];
typedef int32_t tile_parts[2][TILE][LANES];

/* What the columns of a step give all rows, eight tokens beside each other. */
typedef struct step_sums {
    _Alignas(32) int32_t less[QUADS][TILE];  /* to be taken off: of a group */
    _Alignas(32) int32_t quad[QUADS][TILE];  /* of four words whose sums are centred: two int16, for their columns 0 1 and 2 3 */
    _Alignas(32) int32_t whole[STEP][TILE];  /* of eight */
    _Alignas(32) float xk[QUADS][TILE];      /* of a group: scale times the sum of its activations */
} step_sums;

/* What int16 holds: sums with the centre taken off; sums to the group's end. */
typedef struct way { bool centred, whole; } way;
KERN_INLINE way way_of(const panel_form f) { return (way){.centred = f.bits == 6, .whole = f.group == 32 && f.bits <= 4}; }
KERN_INLINE bool may_be_near(const panel_form f) { return f.group == 32 && (class_of(f) == 6 || class_of(f) == 7); }
KERN_INLINE way way_if_near(const panel_form f) { return (way){.centred = true, .whole = f.bits == 6}; }
KERN_INLINE int centre_of(const panel_form f) { return f.zero ? f.zero : 1 << (f.bits - 1); }
KERN_INLINE int zero_of(const panel_form f) { return f.zero - (class_of(f) == 8 ? BIAS : 0); } /* of the codes that were taken apart */

KERN_INLINE vi here(vi v) { /* loaded here and nowhere else: the compiler would gather such loads and spill them */
    __asm__ volatile("" : "+x"(v));
    return v;
}
KERN_INLINE vi bc32(const void *p) { return here(_mm256_set1_epi32((int)read_u32(p))); }
KERN_INLINE void accumulate(float sum[LANES], vf a, vf b) { /* likewise */
    f_store(sum, f_fma(a, b, f_load(sum)));
    __asm__("" : "+m"(*(float(*)[LANES])sum));
}

/* Of n chunks from chunk c on. */
KERN_INLINE void sums_of_step(const panel_form f, const tokens *x, size_t c, size_t n, step_sums *to) {
    const size_t per_chunk = 32u / f.group;
    const int8_t *q = x->x + 32 * TILE * c;
    vi before = _mm256_setzero_si256();
    for (size_t i = 0; (way_of(f).centred || may_be_near(f)) && i < 2 * n; i++) {
        vi sum = _mm256_setzero_si256();
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++, q += 4 * TILE) sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(bytes(centre_of(f)), load_i(q)));
        store_i(to->quad[i], sum);
        if (may_be_near(f) && way_if_near(f).whole && i % 2) store_i(to->whole[i / 2], _mm256_add_epi16(before, sum));
        before = sum;
    }
    for (size_t g = 0; g < n * per_chunk; g++) {
        const vf k = f_load(x->sum + TILE * (c * per_chunk + g));
        if (zero_of(f) && !way_of(f).centred) store_i(to->less[g], _mm256_cvtps_epi32(f_mul(f_set1((float)zero_of(f)), k)));
        if (f.has_min) f_store(to->xk[g], f_mul(f_load(x->scale + TILE * (c + g / per_chunk)), k));
    }
}

/* The next step's: tokens are more than L2 holds, and the codes pass beside them many times. */
KERN_INLINE void fetch_tokens(const int8_t *q, size_t n_bytes) {
#pragma GCC unroll 4
    for (size_t i = 0; i < n_bytes; i += 64) __builtin_prefetch(q + 32 * TILE * STEP + i, 0, 3);
}

/* A group's numbers: scales of the rows, of the tokens, sums of the tokens' activations. */
typedef struct group_of { vf s[2]; const float *scale, *sum; } group_of;

/* Four words of the codes at p, whose halves lie `half` bytes apart; the first or the last of their group. */
KERN_INLINE void tile_quad(const panel_form f, const way by, bool first, bool last, const uint8_t *p, size_t half, const int8_t *q, const int32_t *less,
                           const group_of *g, tile_parts part, tile_sums acc) {
    const bool narrow = by.whole && !last, centred = by.centred && !narrow, zero = zero_of(f) && !by.centred && last;
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
        if (centred || zero) v = bc32(less + t);
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            if (by.whole && !first) sum[h] = _mm256_add_epi16(sum[h], load_i(part[h][t]));
            if (centred) sum[h] = _mm256_sub_epi16(sum[h], v);
            if (!narrow) sum[h] = _mm256_madd_epi16(sum[h], one);
            if (!by.whole && !first) sum[h] = i_add(sum[h], load_i(part[h][t]));
            if (zero) sum[h] = i_sub(sum[h], v);
            if (!last) store_i(part[h][t], sum[h]);
        }
        if (!last) continue;
        const vf xs = f_set1(g->scale[t]);
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            const int shift = by.centred ? centre_of(f) - f.zero : 0;
            vf i = f_of_int(sum[h]);
            if (shift) i = f_fma(f_set1((float)shift), f_set1(g->sum[t]), i);
            accumulate(acc[h][t], f_mul(g->s[h], xs), i);
        }
    }
}

/* Chunk c, number i of its step. */
KERN_INLINE void tile_codes(const panel_form f, const way by, const apart *u, size_t n_chunks, const tokens *x, size_t c, size_t i, const step_sums *sums,
                            tile_sums acc) {
    const size_t per_chunk = 32u / f.group, half = 256 * n_chunks, half_s = per_chunk * n_chunks * LANES;
    const uint8_t *p = u->codes + 256 * c;
    const int8_t *q = x->x + 32 * TILE * c;
    _Alignas(32) tile_parts part;
#pragma GCC unroll 2
    for (size_t k = 0; k < 2; k++, p += 4 * 32, q += 4 * 4 * TILE) {
        const size_t group = f.group == 16 ? k : 0, at = LANES * (c * per_chunk + group);
        const group_of g = {{f_load(u->s + at), f_load(u->s + at + half_s)}, x->scale + TILE * c, x->sum + TILE * (c * per_chunk + group)};
        const int32_t *less = !by.centred ? sums->less[i * per_chunk + group] : by.whole ? sums->whole[i] : sums->quad[2 * i + k];
        if (group == k) fetch_tokens(q, f.group * (size_t)TILE);
        tile_quad(f, by, f.group == 16 || k == 0, f.group == 16 || k == 1, p, half, q, less, &g, part, acc);
    }
}

KERN_INLINE uint8_t *near_of(const apart *u) { return u->more; } /* of each chunk */

KERN_INLINE void look_if_near(const panel_form f, size_t n_chunks, const apart *u) {
    const vi centre = bytes(centre_of(f)), limit = _mm256_set1_epi16(NEAR);
    for (size_t c = 0; c < n_chunks; c++) {
        vi far = _mm256_setzero_si256();
        for (size_t h = 0; h < 2; h++) {
            vi sum = _mm256_setzero_si256();
#pragma GCC unroll 8
            for (size_t j = 0; j < 8; j++) {
                const vi distance = _mm256_abs_epi8(_mm256_sub_epi8(load_i(u->codes + 256 * (h * n_chunks + c) + 32 * j), centre));
                sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(distance, bytes(1)));
                if (j == 7 || (j == 3 && !way_if_near(f).whole)) {
                    far = _mm256_or_si256(far, _mm256_cmpgt_epi16(sum, limit));
                    sum = _mm256_setzero_si256();
                }
            }
        }
        near_of(u)[c] = _mm256_testz_si256(far, far) != 0;
    }
}

/* Codes of 7 bits are multiplied as they are. Of 8 bits: |q|, times x with q's sign. vpsignb would go through the multiplications' two
 * ports, so x's bits are turned instead, which any port does: it becomes -x - 1, and `rest`, the sum of the |q| where q < 0, is what a
 * group's sum lacks then. No sum of two products leaves int16: 2 * 127 * 128, and -2 * 128 * 128 at the other end. */
typedef struct signs { uint8_t *turn; int32_t *rest; } signs; /* laid out as the codes and their scales are */
KERN_INLINE bool have_signs(const panel_form f) { return class_of(f) == 8; }
KERN_INLINE signs signs_of(size_t n_chunks, const apart *u) {
    uint8_t *turn = u->more;
    return (signs){turn, (int32_t *)(void *)(turn + 512 * n_chunks)};
}

KERN_INLINE void part_signs(size_t n_chunks, const apart *u) {
    const signs to = signs_of(n_chunks, u);
    for (size_t i = 0; i < 2 * n_chunks; i++) {
        vi rest = _mm256_setzero_si256();
        for (size_t at = 256 * i; at < 256 * (i + 1); at += 32) {
            const vi q = load_i(u->codes + at), size = _mm256_abs_epi8(q), turn = _mm256_cmpgt_epi8(_mm256_setzero_si256(), q);
            store_i(u->codes + at, size);
            store_i(to.turn + at, turn);
            rest = _mm256_add_epi16(rest, _mm256_maddubs_epi16(_mm256_and_si256(size, turn), bytes(1)));
        }
        store_i(to.rest + LANES * i, _mm256_madd_epi16(rest, _mm256_set1_epi16(1)));
    }
}

/* Chunk c, four tokens from the tile's t0 on, whose sums stay in registers. */
KERN_INLINE void bytes_chunk(const panel_form f, const apart *u, const signs *by, size_t n_chunks, size_t c, const int8_t *q, const int32_t *less,
                             const float *scale, tile_sums acc, size_t t0) {
    const uint8_t *size = u->codes + 256 * c, *turn = by->turn + 256 * c;
    const size_t half = 256 * n_chunks, half_s = LANES * n_chunks;
    const vi one = _mm256_set1_epi16(1);
    vi sum[2][4];
    __asm__ volatile("" ::: "memory"); /* as here() */
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++) {
        sum[i / 4][i % 4] = have_signs(f) ? here(load_i(by->rest + LANES * c + i / 4 * half_s)) : _mm256_setzero_si256();
        if (zero_of(f)) sum[i / 4][i % 4] = i_sub(sum[i / 4][i % 4], bc32(less + t0 + i % 4));
    }
#pragma GCC unroll 8
    for (size_t j = 0; j < 8; j++) {
        const vi s[2] = {here(load_i(size + 32 * j)), here(load_i(size + half + 32 * j))};
        vi turns[2];
        if (have_signs(f)) turns[0] = here(load_i(turn + 32 * j)), turns[1] = here(load_i(turn + half + 32 * j));
#pragma GCC unroll 4
        for (size_t t = 0; t < 4; t++) {
            const vi v = bc32(q + 4 * TILE * j + 4 * (t0 + t));
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
                const vi product = _mm256_maddubs_epi16(s[h], have_signs(f) ? _mm256_xor_si256(v, turns[h]) : v);
                sum[h][t] = v_stay(i_add(sum[h][t], _mm256_madd_epi16(product, one)));
            }
        }
    }
    const float *s = u->s + LANES * c;
    const vf d[2] = {f_load(s), f_load(s + half_s)};
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++)
        accumulate(acc[i % 2][t0 + i / 2], f_mul(d[i % 2], f_set1(scale[t0 + i / 2])), f_of_int(sum[i % 2][i / 2]));
}

/* Likewise. */
KERN_INLINE void tile_bytes(const panel_form f, const apart *u, size_t n_chunks, const tokens *x, size_t c, size_t i, const step_sums *sums, tile_sums acc) {
    const signs by = signs_of(n_chunks, u);
    for (size_t t0 = 0; t0 < TILE; t0 += 4) {
        const int8_t *q = x->x + 32 * TILE * c;
        fetch_tokens(q + 16 * TILE * (t0 / 4), 16 * TILE);
        bytes_chunk(f, u, &by, n_chunks, c, q, sums->less[i], x->scale + TILE * c, acc, t0);
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

/* Each token's results lie in a page of their own that was last in use a panel ago. */
KERN_INLINE void fetch_results(const kern_panel_args *a, size_t t0) {
    for (size_t t = t0; t < t0 + TILE; t++) __builtin_prefetch(a->y + t * a->ldy, 1, 3);
}

/* The tile that begins with token t0; of a panel that was just taken apart, if it is the first. Codes of 8 bits in groups of 16 are rare (types that are
 * only read) and go the way of a few tokens. */
KERN_INLINE void multiply_tile(const panel_form f, const kern_panel_args *a, const apart *u, size_t t0) {
    if (class_of(f) == 8 && f.group == 16) {
        for (size_t lane = 0; lane < TILE; lane += MAX_TOKENS) multiply(f, MAX_TOKENS, TILE, a, u, t0, lane);
        return;
    }
    const size_t per_chunk = 32u / f.group;
    const bool look = may_be_near(f) && a->n_tokens >= NEAR_FROM;
    const tokens x = tokens_from(a, f, t0, 0);
    _Alignas(32) tile_sums acc = {{{0}}}, off = {{{0}}};
    step_sums sums;
    if (have_signs(f) && t0 == 0) part_signs(a->n_chunks, u);
    if (look && t0 == 0) look_if_near(f, a->n_chunks, u);
    for (size_t c = 0; c < a->n_chunks; c += STEP) {
        const size_t n = a->n_chunks - c < STEP ? a->n_chunks - c : STEP;
        if (c + STEP >= a->n_chunks) fetch_results(a, t0);
        sums_of_step(f, &x, c, n, &sums);
        for (size_t i = 0; i < n; i++) {
            if (may_be_near(f) && look && near_of(u)[c + i]) tile_codes(f, way_if_near(f), u, a->n_chunks, &x, c + i, i, &sums, acc);
            else if (class_of(f) > 6) tile_bytes(f, u, a->n_chunks, &x, c + i, i, &sums, acc);
            else tile_codes(f, way_of(f), u, a->n_chunks, &x, c + i, i, &sums, acc);
        }
        if (f.has_min) tile_offsets(n * per_chunk, u->m + c * per_chunk * LANES, per_chunk * a->n_chunks * LANES, &sums, off);
    }
    add_tile(a, f.has_min, t0, acc, off);
}
