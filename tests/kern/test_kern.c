// rooms: base kern
/* The kernel checker, in the manner of dav1d's checkasm: every slot of every level that this CPU runs against the reference,
 * bit for bit, over random shapes, alignments and values, between guard pages; and the reference itself against formulas in
 * double precision, the format's page (intBgG) and ggml's decoders (golden hashes).
 *
 *     test_kern [--seed N] [--rounds N] [--expect LEVEL]     checks; the seed of a failure is printed. LEVEL: must be the one in use
 *     test_kern --bench [WORD]                 times the slots whose name contains WORD, each level beside ref          */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/f16.h"
#include "bench.h"
#include "cases.h"
#include "compare.h"
#include "formats.h"
#include "guard.h"
#include "kern/canon.h"
#include "kern/kern.h"
#include "kern/sparse.h"
#include "kern/trellis.h"
#include "layers.h"
#include "trellis_formula.h"

static void slots_are_filled(void **state) {
    for (int level = 0; kern_for_level(level); level++) {
        const void *const *slot = (const void *const *)(const void *)kern_for_level(level);
        for (size_t i = 0; i < sizeof(kern_table) / sizeof *slot; i++) assert_non_null(slot[i]);
    }
    assert_non_null(kern());
    assert_null(kern_for_level(-1));
    assert_null(kern_for_level(99));
}

/* ---------------------------------------------------------------- unpack ---- */

static kern_format format_now;

/* Payloads: any bytes, all zeros, all ones, or bytes with tame scales. */
static void fill_payload(rng *r, kern_format f, uint8_t *row, size_t n) {
    uint32_t how = rng_below(r, 6);
    fill_bytes(r, row, n);
    if (how < 2) memset(row, how ? 0xff : 0, n);
    if (how < 4) return;
    if (int_bits(f)) { /* d a denormal, or about 1 */
        row[0] = (uint8_t)rng_next(r);
        row[1] = how == 4 ? 0 : 0x3f;
        return;
    }
    for (size_t b = 0; b < n; b += formats[f].block_bytes)
        for (int i = 0; i < 2; i++)
            if (formats[f].f16_at[i] != NO_F16) row[b + formats[f].f16_at[i] + 1] &= how == 4 ? 0x83 : 0xbf;
}

/* Any codes under finite scales. */
static void fill_tame(rng *r, kern_format f, uint8_t *row, size_t n) {
    fill_bytes(r, row, n);
    if (int_bits(f)) row[1] = 0x3f;
    for (size_t b = 0; !int_bits(f) && b < n; b += formats[f].block_bytes)
        for (int i = 0; i < 2; i++)
            if (formats[f].f16_at[i] != NO_F16) row[b + formats[f].f16_at[i] + 1] &= 0xbf;
}

/* Of an int format; others ignore it. */
static uint32_t any_group(rng *r) { return 32u << rng_below(r, 3) | (chance(r, 4) ? KERN_CENTRED : 0); }

static bool unpack_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    kern_format f = format_now;
    uint32_t group = any_group(r);
    size_t n_chunks = formats[f].block == 256 ? 8 * pick(r, 1, 6) : pick(r, 1, 40);
    size_t n_scales = 32 * n_chunks / kern_group(f), n_row = row_bytes(f, n_chunks, group);
    uint8_t *row = pool_new(p, n_row);
    fill_payload(r, f, row, n_row);
    int8_t *qa = pool_new(p, 32 * n_chunks), *qb = pool_new(p, 32 * n_chunks);
    float *sa = pool_new(p, n_scales * 4), *sb = pool_new(p, n_scales * 4);
    float *ma = pool_new(p, kern_has_min(f) ? n_scales * 4 : 0), *mb = pool_new(p, kern_has_min(f) ? n_scales * 4 : 0);
    ref->unpack[f](row, n_chunks, group, qa, sa, ma);
    t->unpack[f](row, n_chunks, group, qb, sb, mb);
    return same_bytes("q", qa, qb, 32 * n_chunks) && same_floats("s", sa, sb, n_scales) &&
           (!kern_has_min(f) || same_floats("m", ma, mb, n_scales));
}

static void unpack_equals_ref(void **state) {
    for (format_now = 0; format_now < KERN_FORMAT_COUNT; format_now++)
        check(formats[format_now].name, 100 + (uint64_t)format_now, rounds, unpack_case);
}

/* ggml's decoders, through tests/kern/golden_unpack.py. */
static const uint64_t golden_hash[KERN_CODES] = {
    [KERN_Q8_0] = 0xae2ed2108bd6b4c0u, [KERN_Q4_0] = 0x87689494020ecf55u, [KERN_IQ4_NL] = 0x19f37ad79e2c1fd2u,
    [KERN_Q2_K] = 0x6765369c92f01f06u, [KERN_Q3_K] = 0x6f1db29366cade16u, [KERN_Q4_K] = 0x9173a4b8760ed3e2u,
    [KERN_Q5_K] = 0xdd8d70c07ffccc18u, [KERN_Q6_K] = 0x8dca1d2cc8bfadc8u, [KERN_IQ4_XS] = 0x68c104c73af9e9c6u,
    [KERN_TQ1_0] = 0x6992a3361b2be479u, [KERN_TQ2_0] = 0x010f1613faec72bcu,
};

static uint64_t fnv1a(const void *p, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)p)[i]) * 0x100000001b3u;
    return h;
}

static void unpack_equals_ggml(void **state) {
    enum { BLOCKS = 64 };
    static uint8_t raw[BLOCKS * 210];
    static int8_t q[BLOCKS * 256];
    static float s[BLOCKS * 16], m[BLOCKS * 16], w[BLOCKS * 256];
    for (int f = 0; f < KERN_CODES; f++) {
        const format_info *info = &formats[f];
        uint64_t lcg = 1;
        for (size_t i = 0; i < BLOCKS * info->block_bytes; i++) {
            lcg = lcg * 6364136223846793005u + 1442695040888963407u;
            raw[i] = (uint8_t)(lcg >> 56);
        }
        for (size_t b = 0; b < BLOCKS; b++)
            for (int i = 0; i < 2; i++)
                if (info->f16_at[i] != NO_F16) raw[b * info->block_bytes + info->f16_at[i] + 1] &= 0xbf;
        size_t n = BLOCKS * info->block;
        kern()->unpack[f](raw, n / 32, 32, q, s, m);
        kern()->expand(q, s, kern_has_min((kern_format)f) ? m : NULL, kern_group((kern_format)f), n, w);
        if (fnv1a(w, n * sizeof *w) != golden_hash[f]) fail_msg("%s does not decode as ggml does", info->name);
    }
}

static void int_unpack_undoes_the_format(void **state) {
    enum { CHUNKS = 13 };
    rng r;
    rng_seed(&r, seed, 7);
    for (int f = KERN_INT2; f <= KERN_INT8; f++)
        for (int i = 0; i < 300; i++) {
            uint8_t row[2 + CHUNKS + 32 * CHUNKS], meta[CHUNKS], codes[32 * CHUNKS];
            int8_t q[32 * CHUNKS];
            float s[CHUNKS], m[CHUNKS];
            uint32_t bits = int_bits(f), group = any_group(&r);
            size_t n = pick(&r, 1, CHUNKS);
            float d = rng_normal(&r);
            fill_bytes(&r, meta, sizeof meta);
            for (size_t j = 0; j < 32 * n; j++) codes[j] = (uint8_t)rng_below(&r, 1u << bits);
            int_encode(row, bits, group, n, f32_to_bf16(d), meta, codes);
            kern()->unpack[f](row, n, group, q, s, m);
            for (size_t j = 0; j < 32 * n; j++) assert_int_equal(q[j], codes[j] - (1 << (bits - 1)));
            for (size_t c = 0; c < n; c++) {
                float want_s, want_m;
                int_scale(bf16_to_f32(f32_to_bf16(d)), bits, group, meta[32 * c / kern_int_group(group)], &want_s, &want_m);
                assert_true(same_float(s[c], want_s) && same_float(m[c], want_m));
            }
        }
}

/* ---------------------------------------------------------------- sparse ---- */

static kern_sparse any_sparse(rng *r) {
    static const uint8_t bits[] = {2, 3, 4, 5, 6, 8};
    kern_sparse f = {.mask = (kern_mask)rng_below(r, 4), .bits = bits[rng_below(r, 6)], .kept = (uint8_t)(4 * pick(r, 2, 6)),
                     .group = 32u << rng_below(r, 3)};
    if (f.mask == KERN_2_OF_4) f.kept = 16;
    if (f.mask == KERN_3_OF_4) f.kept = 24, f.bits = chance(r, 2) ? 1 : f.bits;
    if (f.mask == KERN_TRITS) f.kept = 32, f.bits = 1;
    return f;
}

/* Any bytes: masks with too many and too few weights among them. */
static bool unpack_sparse_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    const kern_sparse f = any_sparse(r);
    const size_t n_chunks = pick(r, 1, 70), c0 = pick(r, 0, (n_chunks - 1) / KERN_SPARSE_STEP) * KERN_SPARSE_STEP;
    const size_t n = chance(r, 3) ? n_chunks - c0 : pick(r, 1, n_chunks - c0), n_row = kern_sparse_layout_of(&f, n_chunks).bytes;
    uint8_t *row = pool_new(p, n_row), *a = pool_new(p, KERN_CODES_BYTES * n), *b = pool_new(p, KERN_CODES_BYTES * n);
    fill_bytes(r, row, n_row);
    row[1] &= 0xbf; /* no NaN: its bits may differ */
    if (chance(r, 3)) memset(row + 2, chance(r, 2) ? 0xff : 0, n_row - 2);
    ref->unpack_sparse(&f, row, n_chunks, c0, n, a);
    t->unpack_sparse(&f, row, n_chunks, c0, n, b);
    return same_bytes("blocks", a, b, KERN_CODES_BYTES * n);
}

static void unpack_sparse_equals_ref(void **state) { check("unpack_sparse", 150, 10 * rounds, unpack_sparse_case); }

/* Rows written bit by bit as the page has them come back. */
static void unpack_sparse_undoes_the_format(void **state) {
    enum { CHUNKS = 23 };
    rng r;
    rng_seed(&r, seed, 8);
    for (int round = 0; round < 400; round++) {
        const kern_sparse f = any_sparse(&r);
        const size_t n = pick(&r, 1, CHUNKS), n_groups = (32 * n + f.group - 1) / f.group, n_codes = n * f.kept;
        uint8_t row[2 + CHUNKS + 4 * CHUNKS + 32 * CHUNKS] = {0}, blocks[CHUNKS * KERN_CODES_BYTES], *at = row + 2;
        int8_t want[32 * CHUNKS] = {0};
        float scale[CHUNKS], d = bf16_to_f32(f32_to_bf16(rng_normal(&r)));
        int z[CHUNKS];
        const uint16_t head = f32_to_bf16(d);
        memcpy(row, &head, 2);
        for (size_t g = 0; g < n_groups; g++) {
            const unsigned byte = rng_below(&r, 256), e = byte >> 3, low = byte & 15;
            z[g] = f.bits >= 2 ? (int)(byte & 7) : 0;
            const double wide = e == 31 ? 0 : exp2(e <= 16 ? -(double)e / 8 : -2 - ((double)e - 16) / 3);
            const double narrow = low == 15 ? 0 : exp2(-(double)low / 4);
            scale[g] = d * (float)(f.bits >= 2 ? wide : narrow);
            if (f.bits >= 2) at[g] = (uint8_t)byte;
            else at[g / 2] |= (uint8_t)(low << 4 * (g % 2));
        }
        at += f.bits >= 2 ? n_groups : (n_groups + 1) / 2;
        uint8_t *codes = at + (f.mask == KERN_BITMAP ? 4 : f.mask == KERN_2_OF_4 ? 3 : f.mask == KERN_3_OF_4 ? 2 : 0) * n;
        size_t k = 0;
        for (size_t c = 0; c < n; c++) {
            bool kept[32] = {0};
            for (size_t i = 0; i < 8 && f.mask != KERN_BITMAP && f.mask != KERN_TRITS; i++) {
                static const uint8_t pairs[6][2] = {{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}};
                const unsigned index = rng_below(&r, f.mask == KERN_2_OF_4 ? 6 : 4), width = f.mask == KERN_2_OF_4 ? 3 : 2;
                for (unsigned b = 0; b < width; b++) put_bit(at + width * c, width * i + b, (int)(index >> b & 1));
                for (unsigned j = 0; j < 4; j++) kept[4 * i + j] = width == 3 ? j == pairs[index][0] || j == pairs[index][1] : j != index;
            }
            for (size_t left = f.kept; left > 0 && f.mask == KERN_BITMAP;) {
                const size_t i = rng_below(&r, 32);
                if (!kept[i]) kept[i] = true, left--, put_bit(at + 4 * c, i, 1);
            }
            for (size_t i = 0; i < 32 && f.mask != KERN_TRITS; i++) {
                if (!kept[i]) continue;
                const int code = (int)rng_below(&r, 1u << f.bits);
                want[32 * c + i] = (int8_t)kern_sparse_q(f.bits, z[32 * c / f.group], code);
                for (unsigned b = 0; b < f.bits; b++) put_bit(codes, k + b, code >> b & 1);
                k += f.bits;
            }
        }
        uint8_t *x = codes; /* a byte: x = ceil(256 v / 243), v its five digits */
        for (size_t c = 0, in_block; c < n && f.mask == KERN_TRITS; c += in_block) {
            in_block = n - c < 5 ? 1 : 5;
            const size_t n_bytes = in_block == 5 ? 32 : 8;
            for (size_t b = 0; b < n_bytes; b++) {
                unsigned v = 0;
                for (size_t digit = 0; digit < 5; digit++) {
                    const unsigned t = rng_below(&r, 3);
                    v = 3 * v + t;
                    if (digit * n_bytes + b < 32 * in_block) want[32 * c + digit * n_bytes + b] = (int8_t)((int)t - 1);
                }
                *x++ = (uint8_t)((256 * v + 242) / 243);
            }
        }
        const size_t n_row = f.mask == KERN_TRITS ? 32 * (n / 5) + 8 * (n % 5) : (n_codes * f.bits + 7) / 8;
        assert_int_equal(kern_sparse_layout_of(&f, n).bytes, (size_t)(codes - row) + n_row);
        for (int level = 0; kern_for_level(level); level++) {
            kern_for_level(level)->unpack_sparse(&f, row, n, 0, n, blocks);
            for (size_t c = 0; c < n; c++) {
                assert_memory_equal(blocks + KERN_CODES_BYTES * c + 4, want + 32 * c, 32);
                assert_memory_equal(blocks + KERN_CODES_BYTES * c, &scale[32 * c / f.group], 4);
            }
        }
    }
}

/* ------------------------------------------------------------------ dots ---- */

/* Codes: the whole range with -128, or one of the ranges that kernels treat apart and the next wider. Extremes come in runs, so
 * that whole chunks of the largest products meet. */
static void fill_codes(rng *r, int8_t *q, size_t n) {
    static const int range[][2] = {{-128, 127}, {-127, 127}, {-128, -128}, {127, 127}, {-64, 65}, {-65, 65}, {-64, 64},
                                   {-32, 33},   {-32, 32},   {-16, 17},    {-16, 16},  {-8, 9},   {-8, 7},   {0, 15},
                                   {0, 16},     {0, 17},     {-1, 1},      {0, 0},     {112, 127}, {-128, -112}};
    const int *k = range[rng_below(r, sizeof range / sizeof *range)];
    size_t run = chance(r, 3) ? 64 : chance(r, 4) ? 1 : 0;
    bool high = false;
    for (size_t i = 0; i < n; i++) {
        if (run && i % run == 0) high = chance(r, 2);
        q[i] = (int8_t)(run ? k[high] : (int)pick(r, 0, (size_t)(k[1] - k[0])) + k[0]);
    }
}

/* Activations with their sums: random, extremes singly or in runs, or one-hot. */
static kern_q8 new_q8(pool *p, rng *r, size_t n_tokens, size_t n, value_kind kind) {
    size_t ld = n + 32 * pick(r, 0, 2), all = n_tokens ? (n_tokens - 1) * ld + n : 0;
    int8_t *x = pool_new(p, all);
    float *sum32 = pool_new(p, all / 32 * sizeof *sum32), *sum16 = pool_new(p, all / 16 * sizeof *sum16);
    uint32_t how = rng_below(r, 5);
    bool high = false;
    for (size_t i = 0; i < all; i++) {
        if (how == 1 || i % 64 == 0) high = chance(r, 2);
        x[i] = (int8_t)(how == 0 ? 0 : how <= 2 ? (high ? 127 : -127) : (int)pick(r, 0, 254) - 127);
    }
    if (how == 0 && all) x[rng_below(r, (uint32_t)all)] = chance(r, 2) ? 127 : -127;
    for (size_t t = 0; t < n_tokens; t++) { /* strides end with the last row that is needed: sums of what is there */
        kern_q8_place at = kern_q8_place_of(n_tokens, t);
        for (size_t i = 0; i < n / 16; i++) {
            int sum = 0;
            for (size_t j = 0; j < 16; j++) sum += x[at.tile * ld + 4 * ((4 * i + j / 4) * at.width + at.lane) + j % 4];
            float *s32 = sum32 + at.tile * (ld / 32) + i / 2 * at.width + at.lane;
            sum16[at.tile * (ld / 16) + i * at.width + at.lane] = (float)sum;
            *s32 = i % 2 ? *s32 + (float)sum : (float)sum;
        }
    }
    float *scale = new_floats(p, r, all / 32, kind == V_LARGE ? V_NORMAL : kind);
    return (kern_q8){.ld = ld, .q = x, .scale = scale, .sum32 = sum32, .sum16 = sum16};
}

/* The codes of a row of the int family, but near to their middle: kernels add products in int16 where those of 16 columns (or of eight, of 7
 * bits) are at most 258 away from it in all. So 254 to 258 are (most: 4) or up to 260 (6), all on one side or on both. */
static void fill_near(rng *r, kern_format f, size_t n_chunks, uint32_t group, uint32_t most, uint8_t *row) {
    const uint32_t bits = int_bits(f);
    const int middle = 1 << (bits - 1), steps = bits == 6 ? 16 : 32, which = (int)pick(r, 0, 2);
    uint8_t *codes = malloc(32 * n_chunks), *meta = malloc(32 * n_chunks);
    assert_true(codes && meta);
    for (size_t c = 0; c < n_chunks; c++) {
        const uint32_t at = (uint32_t)pick(r, 0, 31), more = (uint32_t)pick(r, 0, most);
        for (uint32_t i = 0; i < 32; i++) {
            int d = steps - (i == at) * 2 + (i < more);
            if (which == 2 ? chance(r, 2) : which) d = -d;
            codes[32 * c + i] = (uint8_t)(middle + d < 0 ? 0 : middle + d >= 2 * middle ? 2 * middle - 1 : middle + d);
        }
    }
    memcpy(meta, row + 2, (32 * n_chunks + kern_int_group(group) - 1) / kern_int_group(group));
    int_encode(row, bits, group, n_chunks, read_u16(row), meta, codes);
    free(codes), free(meta);
}

/* A panel of rows of format_now, with the rows it was made of; a.y is left to the caller. */
typedef struct panel_case { kern_panel_args a; const uint8_t *rows; size_t row_bytes; } panel_case;

static panel_case new_panel(pool *p, rng *r, bool tame) {
    kern_format f = format_now;
    panel_case c = {.a = {.n_rows = chance(r, 2) ? 16 : pick(r, 1, 16), .group = any_group(r)}};
    const uint32_t most = (f != KERN_INT6 && f != KERN_INT7) || !chance(r, 4) ? 0 : chance(r, 2) ? 4 : 6;
    size_t tokens = most || chance(r, 12) ? pick(r, 30, 40) : chance(r, 3) ? pick(r, 0, 3) : chance(r, 12) ? pick(r, 64, 84) : pick(r, 1, 19);
    c.a.n_chunks = formats[f].block == 256 ? 8 * pick(r, 1, 6) : pick(r, 1, chance(r, 4) ? 80 : 12);
    c.row_bytes = row_bytes(f, c.a.n_chunks, c.a.group);
    uint8_t *rows = pool_new(p, c.a.n_rows * c.row_bytes), *panel = pool_new(p, 16 * c.row_bytes);
    for (size_t i = 0; i < c.a.n_rows; i++) {
        fill_payload(r, f, rows + i * c.row_bytes, c.row_bytes);
        if (tame) fill_tame(r, f, rows + i * c.row_bytes, c.row_bytes);
        if (most) fill_near(r, f, c.a.n_chunks, c.a.group, most, rows + i * c.row_bytes);
    }
    kern_panel_pack(f, rows, c.row_bytes, c.a.n_rows, c.a.n_chunks, c.a.group, panel);
    c.rows = rows, c.a.panel = panel;
    c.a.x = new_q8(p, r, tokens, 32 * c.a.n_chunks, tame ? V_NORMAL : any_kind(r));
    c.a.n_tokens = tokens;
    c.a.ldy = c.a.n_rows + pick(r, 0, 3);
    c.a.scratch = pool_new(p, kern_panel_scratch_bytes(c.a.n_chunks));
    return c;
}

static bool panel_dot_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    kern_panel_args a = new_panel(p, r, chance(r, 2)).a, b = a;
    size_t n_y = a.n_tokens ? (a.n_tokens - 1) * a.ldy + a.n_rows : 0;
    a.y = new_floats(p, r, n_y, V_NORMAL);
    b.y = twin(p, a.y, n_y);
    ref->panel_dot[format_now](&a);
    t->panel_dot[format_now](&b);
    return same_floats("y", a.y, b.y, n_y);
}

static void panel_dot_equals_ref(void **state) {
    for (format_now = 0; format_now < KERN_FORMAT_COUNT; format_now++)
        check(formats[format_now].name, 200 + (uint64_t)format_now, rounds, panel_dot_case);
}

/* Against the row-major unpack, in double precision: packing and dots together. */
static void panel_dot_equals_formula(void **state) {
    for (format_now = 0; format_now < KERN_FORMAT_COUNT; format_now++)
        for (uint64_t i = 0; i < rounds / 4; i++) {
            rng r;
            rng_seed(&r, seed, (240 + (uint64_t)format_now) << 32 | i);
            pool p = {.at_end = true};
            kern_panel_args a = {0};
            panel_case c = new_panel(&p, &r, true);
            a = c.a;
            size_t n = 32 * a.n_chunks, group = kern_group(format_now), n_y = a.n_tokens * a.ldy;
            a.y = pool_new(&p, n_y * sizeof *a.y);
            memset(a.y, 0, n_y * sizeof *a.y);
            kern()->panel_dot[format_now](&a);
            int8_t *q = pool_new(&p, n);
            float *s = pool_new(&p, n / group * sizeof *s), *m = pool_new(&p, n / group * sizeof *m);
            for (size_t row = 0; row < a.n_rows; row++) {
                kern()->unpack[format_now](c.rows + row * c.row_bytes, a.n_chunks, a.group, q, s, m);
                for (size_t t = 0; t < a.n_tokens; t++) {
                    kern_q8_place at = kern_q8_place_of(a.n_tokens, t);
                    double want = 0, size = 0;
                    for (size_t k = 0; k < n; k++) {
                        double x = (double)a.x.scale[at.tile * (a.x.ld / 32) + k / 32 * at.width + at.lane] *
                                   a.x.q[at.tile * a.x.ld + 4 * (k / 4 * at.width + at.lane) + k % 4];
                        double offset = kern_has_min(format_now) ? (double)m[k / group] : 0, w = (double)s[k / group] * q[k] + offset;
                        want += w * x;
                        size += (fabs((double)s[k / group]) * 256 + fabs(offset)) * fabs(x);
                    }
                    assert_true(near(formats[format_now].name, want, (double)a.y[t * a.ldy + row], size + 1e-30, 2e-6));
                }
            }
            assert_true(pool_free(&p));
        }
}

/* ----------------------------------------------------------- trellis codes ---- */

/* Bands of a panel move quarters to each other, a few of them perhaps too many; what is random else rarely adds up. */
static void new_rates(rng *r, uint8_t *panel, unsigned form, size_t n_chunks) {
    const size_t band = (size_t)1 << kern_tcq_shift(form), whole = n_chunks / band;
    const unsigned quarters = kern_tcq_quarters(form);
    int own[40 + 1] = {0};
    for (size_t i = 0; whole > 1 && i < 2 * whole; i++) {
        const size_t from = pick(r, 0, whole - 1), to = pick(r, 0, whole - 1);
        const bool fits = (int)quarters + own[from] > TCQ_QUARTERS_MIN && (int)quarters + own[to] < TCQ_QUARTERS_MAX && own[from] > -8 && own[to] < 7;
        if (fits || (chance(r, 200) && own[from] > -8 && own[to] < 7)) own[from]--, own[to]++;
    }
    memset(panel + TCQ_RATES, 0, kern_tcq_mask_at(form, n_chunks) - TCQ_RATES);
    for (size_t b = 0; b * band < n_chunks; b++) panel[TCQ_RATES + b / 2] |= (uint8_t)((own[b] + TCQ_OWN_RATE) << 4 * (b % 2));
}

/* quarters 0: tcqf */
static kern_panel_args new_trellis(pool *p, rng *r, unsigned quarters, bool tame) {
    const unsigned form = kern_tcq_form(quarters, chance(r, 3) ? 64u << pick(r, 0, 4) : 0);
    kern_panel_args a = {.n_rows = chance(r, 2) ? 16 : pick(r, 1, 16), .n_chunks = pick(r, 1, chance(r, 4) ? 80 : 12), .group = form};
    const size_t n = quarters ? kern_tcq_head_bytes(form, a.n_chunks) + kern_tcq_chunk_bytes(quarters) * a.n_chunks : TCQF_HEAD + TCQF_CHUNK * a.n_chunks;
    uint8_t *panel = pool_new(p, n);
    fill_bytes(r, panel, n);
    if (quarters && !chance(r, 4)) new_rates(r, panel, form, a.n_chunks);
    for (size_t i = 0; tame && i < KERN_PANEL_ROWS; i++) panel[2 * i + 1] = 0x3c;
    a.n_tokens = chance(r, 3) ? pick(r, 0, 3) : chance(r, 6) ? pick(r, 30, 40) : chance(r, 12) ? pick(r, 64, 84) : pick(r, 1, 19);
    a.panel = panel;
    a.x = new_q8(p, r, a.n_tokens, 32 * a.n_chunks, tame ? V_NORMAL : any_kind(r));
    a.ldy = a.n_rows + pick(r, 0, 3);
    a.scratch = pool_new(p, kern_panel_scratch_bytes(a.n_chunks));
    return a;
}

static bool trellis_dot_case(rng *r, pool *p, const kern_table *ref, const kern_table *t, unsigned quarters) {
    kern_panel_args a = new_trellis(p, r, quarters, chance(r, 2)), b = a;
    const size_t n_y = a.n_tokens ? (a.n_tokens - 1) * a.ldy + a.n_rows : 0;
    a.y = new_floats(p, r, n_y, V_NORMAL);
    b.y = twin(p, a.y, n_y);
    (quarters ? ref->tcq_dot : ref->tcqf_dot)(&a);
    (quarters ? t->tcq_dot : t->tcqf_dot)(&b);
    return same_floats("y", a.y, b.y, n_y);
}
static bool tcqf_dot_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) { return trellis_dot_case(r, p, ref, t, 0); }
static bool tcq_dot_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    return trellis_dot_case(r, p, ref, t, (unsigned)pick(r, TCQ_QUARTERS_MIN, TCQ_QUARTERS_MAX));
}

static bool tcq_step_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    const int in = (int)pick(r, 1, 6), out = (int)pick(r, 1, 6), bits = (int)pick(r, (size_t)(out > in ? out : in) + 5, 16);
    const size_t n = (size_t)1 << bits, nodes = n >> out;
    uint16_t *level = pool_new(p, 2 * n), *m = pool_new(p, 2 * ((n >> in) + 32)), *a = pool_new(p, 2 * nodes), *b = pool_new(p, 2 * nodes);
    const size_t widest = chance(r, 2) ? 16383 : 300, top = chance(r, 3) ? 65535 : 9000;
    for (size_t i = 0; i < n; i++) level[i] = (uint16_t)pick(r, 0, widest);
    for (size_t i = 0; i < (n >> in) + 32; i++) m[i] = (uint16_t)pick(r, 0, top);
    const int x = (int)pick(r, 0, 2 * widest) - (int)widest;
    const unsigned weight = (unsigned)pick(r, 0, chance(r, 2) ? 65535 : 5000), off = (unsigned)pick(r, 0, 400);
    const unsigned want = ref->tcq_step(level, bits, in, out, x, weight, m, off, a), got = t->tcq_step(level, bits, in, out, x, weight, m, off, b);
    return same_bytes("next", (const uint8_t *)a, (const uint8_t *)b, 2 * nodes) && want == got;
}

static bool tcqf_step_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    uint8_t *nibble = pool_new(p, 4 * 65536), (*cost)[16] = pool_new(p, 4 * sizeof *cost);
    uint16_t *m = pool_new(p, 512), *a = pool_new(p, 512), *b = pool_new(p, 512);
    fill_bytes(r, nibble, 4 * 65536);
    for (size_t i = 0; i < 4 * 65536; i++) nibble[i] &= 15;
    fill_bytes(r, (uint8_t *)cost, 4 * sizeof *cost);
    const unsigned calm = (unsigned)pick(r, 0, 3), top = chance(r, 3) ? 65535 : 9000;
    for (size_t i = 0; i < 64; i++) cost[i / 16][i % 16] >>= calm;
    for (size_t i = 0; i < 256; i++) m[i] = (uint16_t)pick(r, 0, top);
    const int shift = (int)pick(r, 0, 6);
    ref->tcqf_step(nibble, cost, shift, m, a);
    t->tcqf_step(nibble, cost, shift, m, b);
    return same_bytes("next", a, b, 512);
}

static kern_panel_args new_books(pool *p, rng *r, bool tame) {
    const unsigned form = chance(r, 2) ? (unsigned)pick(r, 1, 4) : BOOKS_LATTICE + (unsigned)pick(r, 2, 4);
    kern_panel_args a = {.n_rows = chance(r, 2) ? 16 : pick(r, 1, 16), .n_chunks = pick(r, 1, chance(r, 4) ? 80 : 12), .group = form};
    const size_t n = BOOKS_HEAD + kern_books_chunk_bytes(form) * a.n_chunks, n_own = form < BOOKS_LATTICE ? BOOK_BYTES * form : 0;
    uint8_t *panel = pool_new(p, n), *own = pool_new(p, n_own);
    fill_bytes(r, panel, n);
    fill_bytes(r, own, n_own);
    for (size_t i = 0; tame && i < KERN_PANEL_ROWS; i++) panel[2 * i + 1] = 0x3c;
    a.n_tokens = chance(r, 3) ? pick(r, 0, 3) : chance(r, 12) ? pick(r, 64, 84) : pick(r, 1, 19);
    a.panel = panel;
    a.books = n_own ? own : NULL;
    a.x = new_q8(p, r, a.n_tokens, 32 * a.n_chunks, tame ? V_NORMAL : any_kind(r));
    a.ldy = a.n_rows + pick(r, 0, 3);
    a.scratch = pool_new(p, kern_panel_scratch_bytes(a.n_chunks));
    return a;
}

static bool books_dot_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    kern_panel_args a = new_books(p, r, chance(r, 2)), b = a;
    const size_t n_y = a.n_tokens ? (a.n_tokens - 1) * a.ldy + a.n_rows : 0;
    a.y = new_floats(p, r, n_y, V_NORMAL);
    b.y = twin(p, a.y, n_y);
    ref->books_dot(&a);
    t->books_dot(&b);
    return same_floats("y", a.y, b.y, n_y);
}

static void trellis_equals_ref(void **state) {
    check("tcq_dot", 233, rounds, tcq_dot_case);
    check("tcq_step", 234, 1 + rounds / 4, tcq_step_case);
    check("tcqf_dot", 230, rounds, tcqf_dot_case);
    check("books_dot", 235, rounds, books_dot_case);
    check("tcqf_step", 231, 1 + rounds / 20, tcqf_step_case);
}

static void trellis_equals_formula(void **state) {
    for (uint64_t i = 0; i < rounds / 4; i++) {
        rng r;
        rng_seed(&r, seed, 232ull << 32 | i);
        pool p = {.at_end = true};
        const unsigned quarters = chance(&r, 2) ? 0 : (unsigned)pick(&r, TCQ_QUARTERS_MIN, TCQ_QUARTERS_MAX);
        kern_panel_args a = new_trellis(&p, &r, quarters, true);
        const size_t n_y = a.n_tokens * a.ldy;
        a.y = pool_new(&p, n_y * sizeof *a.y);
        memset(a.y, 0, n_y * sizeof *a.y);
        (quarters ? kern()->tcq_dot : kern()->tcqf_dot)(&a);
        for (size_t t = 0; t < a.n_tokens; t++)
            for (size_t row = 0; row < a.n_rows; row++) {
                const kern_q8_place at = kern_q8_place_of(a.n_tokens, t);
                double want = 0, size = 1e-30;
                for (size_t c = 0; c < 32 * a.n_chunks; c++) {
                    const double x = a.x.q[at.tile * a.x.ld + 4 * ((c / 4) * at.width + at.lane) + c % 4],
                                 s = (double)a.x.scale[at.tile * (a.x.ld / 32) + c / 32 * at.width + at.lane], term = (quarters ? tcq_weight(a.panel, quarters, 32u << kern_tcq_shift(a.group), a.n_chunks, row, c) : tcqf_weight(a.panel, row, c)) * x * s;
                    want += term;
                    size += fabs(term);
                }
                assert_true(near("dot of trellis codes", want, (double)a.y[t * a.ldy + row], size, 1e-6));
            }
        assert_true(pool_free(&p));
    }
}

static bool dot_f32_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    size_t rows = chance(r, 4) ? pick(r, 30, 40) : pick(r, 0, 9), tokens = chance(r, 4) ? pick(r, 11, 26) : pick(r, 0, 7);
    size_t n = chance(r, 5) ? pick(r, 500, 1100) : pick(r, 0, 70);
    size_t ldw = n + pick(r, 0, 3), ldx = n + pick(r, 0, 3), ldy = rows + pick(r, 0, 3);
    size_t n_y = tokens ? (tokens - 1) * ldy + rows : 0;
    value_kind kind = any_kind(r);
    float *w = new_floats(p, r, rows ? (rows - 1) * ldw + n : 0, kind);
    float *x = new_floats(p, r, tokens ? (tokens - 1) * ldx + n : 0, kind == V_LARGE ? V_NORMAL : kind);
    float *a = new_floats(p, r, n_y, V_NORMAL), *b = twin(p, a, n_y);
    ref->dot_f32(rows, tokens, n, w, ldw, x, ldx, a, ldy);
    t->dot_f32(rows, tokens, n, w, ldw, x, ldx, b, ldy);
    return same_floats("y", a, b, n_y);
}
static void dot_f32_equals_ref(void **state) { check("dot_f32", 240, 2 * rounds, dot_f32_case); }

static void dot_f32_equals_formula(void **state) {
    enum { ROWS = 5, TOKENS = 7, MAX = 1000 };
    static float w[ROWS * MAX], x[TOKENS * MAX], y[ROWS * TOKENS];
    rng r;
    rng_seed(&r, seed, 241);
    for (int i = 0; i < 30; i++) {
        size_t n = pick(&r, 1, MAX);
        fill_floats(&r, w, ROWS * MAX, V_NORMAL);
        fill_floats(&r, x, TOKENS * MAX, V_NORMAL);
        memset(y, 0, sizeof y);
        kern()->dot_f32(ROWS, TOKENS, n, w, MAX, x, MAX, y, ROWS);
        for (size_t t = 0; t < TOKENS; t++)
            for (size_t row = 0; row < ROWS; row++) {
                double want = 0, size = 0;
                for (size_t k = 0; k < n; k++) {
                    double v = (double)w[row * MAX + k] * (double)x[t * MAX + k];
                    want += v;
                    size += fabs(v);
                }
                assert_true(near("dot_f32", want, (double)y[t * ROWS + row], size, 4e-6));
            }
    }
}

/* --------------------------------------------------------- number formats ---- */

static bool expand_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    uint32_t group = chance(r, 2) ? 16 : 32;
    size_t n = pick(r, 0, 300), g = (n + group - 1) / group;
    int8_t *q = pool_new(p, n);
    fill_codes(r, q, n);
    float *s = new_floats(p, r, g, any_kind(r)), *m = chance(r, 2) ? new_floats(p, r, g, any_kind(r)) : NULL;
    float *a = pool_new(p, n * 4), *b = pool_new(p, n * 4);
    ref->expand(q, s, m, group, n, a);
    t->expand(q, s, m, group, n, b);
    return same_floats("w", a, b, n);
}

static bool quantize_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    size_t n = pick(r, 0, 300), chunks = (n + 31) / 32;
    float *x = new_floats(p, r, n, any_kind(r));
    if (n && chance(r, 4)) { /* values on the ties between codes */
        float scale = ldexpf(1, (int)pick(r, 0, 40) - 20);
        for (size_t i = 0; i < n; i++) x[i] = scale * ((float)(int)pick(r, 0, 508) / 2 - 127);
    }
    if (chance(r, 8)) /* a denormal scale of one or two units: codes beyond 127 are clamped */
        for (size_t i = 0; i < n; i++) x[i] = (float)((int)pick(r, 0, 500) - 250) * 0x1p-149f;
    size_t width = chance(r, 2) ? 1 : 8, lane = width == 1 ? 0 : rng_below(r, 8), all = chunks * width;
    int8_t *qa = pool_new(p, 32 * all), *qb = pool_new(p, 32 * all);
    float *sa = pool_new(p, 4 * all), *sb = pool_new(p, 4 * all);
    float *ka = pool_new(p, 12 * all), *kb = pool_new(p, 12 * all);
    memset(qa, 1, 32 * all), memset(qb, 1, 32 * all), memset(sa, 1, 4 * all), memset(sb, 1, 4 * all);
    memset(ka, 1, 12 * all), memset(kb, 1, 12 * all);
    ref->quantize_q8(x, n, width, lane, qa, sa, ka, ka + all);
    t->quantize_q8(x, n, width, lane, qb, sb, kb, kb + all);
    for (size_t i = 0; i < 32 * all; i++)
        if (qb[i] == -128) return false;
    return same_bytes("q", qa, qb, 32 * all) && same_floats("s", sa, sb, all) && same_bytes("sum", ka, kb, 12 * all);
}

static bool halves_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    size_t n = pick(r, 0, 100);
    uint8_t *raw = pool_new(p, 2 * n), *back_a = pool_new(p, 2 * n), *back_b = pool_new(p, 2 * n);
    fill_bytes(r, raw, 2 * n);
    float *a = pool_new(p, 4 * n), *b = pool_new(p, 4 * n);
    const uint16_t *src = (const uint16_t *)(const void *)raw;
    ref->f16_to_f32(src, n, a);
    t->f16_to_f32(src, n, b);
    bool same = same_floats("f16_to_f32", a, b, n);
    ref->bf16_to_f32(src, n, a);
    t->bf16_to_f32(src, n, b);
    same = same && same_floats("bf16_to_f32", a, b, n);
    fill_floats(r, a, n, V_WILD);
    ref->f32_to_f16(a, n, (uint16_t *)(void *)back_a);
    t->f32_to_f16(a, n, (uint16_t *)(void *)back_b);
    return same && same_bytes("f32_to_f16", back_a, back_b, 2 * n);
}

static void number_formats_equal_ref(void **state) {
    check("expand", 300, rounds, expand_case);
    check("quantize_q8", 301, 3 * rounds, quantize_case);
    check("halves", 302, rounds, halves_case);
}

/* Every f16 there and back; every 257th float to f16, NaN payloads included. */
static void f16_is_exhaustive(void **state) {
    enum { N = 1 << 16 };
    static uint16_t h[N], back[N], want[N];
    static float f[N];
    for (uint32_t i = 0; i < N; i++) h[i] = (uint16_t)i;
    kern()->f16_to_f32(h, N, f);
    for (uint32_t i = 0; i < N; i++) assert_true(memcmp(&f[i], &(float){f16_to_f32(h[i])}, 4) == 0);
    kern()->f32_to_f16(f, N, back);
    for (uint32_t i = 0; i < N; i++) assert_true(back[i] == h[i] || back[i] == (h[i] | 0x200)); /* a NaN is quieted */
    for (uint64_t u = 0; u < 1ull << 32; u += 257ull * N) {
        for (uint32_t i = 0; i < N; i++) f[i] = bits_float((uint32_t)(u + 257ull * i));
        kern_for_level(CPU_REF)->f32_to_f16(f, N, want);
        kern()->f32_to_f16(f, N, back);
        assert_memory_equal(want, back, sizeof back);
    }
}

static void quantize_obeys_its_bound(void **state) {
    rng r;
    rng_seed(&r, seed, 303);
    for (int i = 0; i < 300; i++) {
        float x[70], s[3];
        int8_t q[96];
        float sum[6], sum32[3];
        fill_floats(&r, x, 70, i % 3 == 0 ? V_LARGE : V_NORMAL);
        kern()->quantize_q8(x, 70, 1, 0, q, s, sum32, sum);
        for (int k = 0; k < 96; k++) {
            double v = k < 70 ? (double)x[k] : 0;
            assert_true(near("quantize_q8", v, (double)s[k / 32] * q[k], (double)s[k / 32], 0.50002));
        }
        for (int k = 0; k < 6; k++) {
            int want = 0;
            for (int j = 0; j < 16; j++) want += q[16 * k + j];
            assert_true(sum[k] == (float)want);
        }
        for (int k = 0; k < 3; k++) assert_true(sum32[k] == sum[2 * k] + sum[2 * k + 1]);
    }
    float bad[64] = {1, 2, NAN}, s[2];
    int8_t q[64];
    float sum[4], sum32[2];
    bad[40] = INFINITY;
    kern()->quantize_q8(bad, 64, 1, 0, q, s, sum32, sum);
    assert_true(isnan(s[0]) && isnan(s[1]));
    for (int k = 0; k < 64; k++) assert_int_equal(q[k], 0);
}

/* -------------------------------------------------------------- attention ---- */

static const size_t head_dims[] = {64, 128, 80, 8, 43, 1, 96, 256};

static bool scores_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    size_t n_tiles = pick(r, 0, 9), n = n_tiles * KERN_TILE, hd = head_dims[rng_below(r, 8)], n_q = pick(r, 1, 13);
    size_t ld = n + pick(r, 0, 4), n_s = (n_q - 1) * ld + n;
    value_kind kind = any_kind(r);
    uint16_t *k16 = pool_new(p, 2 * n * hd);
    float *k = new_floats(p, r, n * hd, kind), *q = new_floats(p, r, n_q * hd, kind == V_LARGE ? V_NORMAL : kind);
    ref->f32_to_f16(k, n * hd, k16);
    float *a = new_floats(p, r, n_s, V_NORMAL), *b = twin(p, a, n_s);
    ref->scores_f32(k, n_tiles, hd, q, n_q, 0.3f, a, ld, NULL);
    t->scores_f32(k, n_tiles, hd, q, n_q, 0.3f, b, ld, NULL);
    bool same = same_floats("scores_f32", a, b, n_s);
    ref->scores_f16(k16, n_tiles, hd, q, n_q, 0.3f, a, ld, NULL);
    t->scores_f16(k16, n_tiles, hd, q, n_q, 0.3f, b, ld, NULL);
    return same && same_floats("scores_f16", a, b, n_s);
}

static bool accumulate_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    size_t n = pick(r, 0, 70), hd = head_dims[rng_below(r, 8)], n_q = pick(r, 1, 13), ld = n + pick(r, 0, 4);
    value_kind kind = any_kind(r);
    uint16_t *v16 = pool_new(p, 2 * n * hd);
    float *v = new_floats(p, r, n * hd, kind), *w = new_floats(p, r, (n_q - 1) * ld + n, kind == V_LARGE ? V_NORMAL : kind);
    ref->f32_to_f16(v, n * hd, v16);
    float *a = new_floats(p, r, n_q * hd, V_NORMAL), *b = twin(p, a, n_q * hd);
    ref->accumulate_f32(v, n, hd, w, ld, n_q, a, NULL);
    t->accumulate_f32(v, n, hd, w, ld, n_q, b, NULL);
    bool same = same_floats("accumulate_f32", a, b, n_q * hd);
    ref->accumulate_f16(v16, n, hd, w, ld, n_q, a, NULL);
    t->accumulate_f16(v16, n, hd, w, ld, n_q, b, NULL);
    return same && same_floats("accumulate_f16", a, b, n_q * hd);
}

/* Beside the range anything may come to stand, in its own 16s alone. */
static bool weigh_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    size_t end = pick(r, 1, KERN_BLOCK), begin = chance(r, 2) ? 0 : rng_below(r, (uint32_t)end), n_q = pick(r, 1, 9);
    size_t room = (end + 15) / 16 * 16, ld = room + pick(r, 0, 20), n = (n_q - 1) * ld + room;
    float *a = new_floats(p, r, n, any_kind(r));
    if (chance(r, 2))
        for (size_t i = 0; i < n; i++) a[i] = a[i] < -90 || a[i] > 90 ? 0 : 20 * a[i];
    if (chance(r, 8))
        for (size_t i = 0; i < n; i++) a[i] = -INFINITY;
    float *before = twin(p, a, n), *b = twin(p, a, n), out[2][2 * 9];
    ref->weigh(a, ld, n_q, begin, end, out[0], out[0] + n_q);
    t->weigh(b, ld, n_q, begin, end, out[1], out[1] + n_q);
    bool same = same_floats("max, sum", out[0], out[1], 2 * n_q);
    for (size_t h = 0; h < n_q && same; h++) {
        const size_t row = h * ld, first = begin / 16 * 16, rest = h + 1 < n_q ? ld - room : 0;
        same = same_floats("weights", a + row + begin, b + row + begin, end - begin) &&
               same_floats("before", before + row, b + row, first) &&
               same_floats("behind", before + row + room, b + row + room, rest);
    }
    return same;
}

static kern_partial new_partial(pool *p, rng *r, size_t n_q, size_t hd, value_kind kind) {
    kern_partial out = {new_floats(p, r, n_q, kind), new_floats(p, r, n_q, kind), new_floats(p, r, n_q * hd, kind)};
    for (size_t h = 0; h < n_q; h++)
        if (out.max[h] != out.max[h] || chance(r, 6)) out.max[h] = -INFINITY; /* as at the start; never a NaN */
    return out;
}

static bool merge_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    size_t hd = head_dims[rng_below(r, 8)], n_q = pick(r, 1, 9);
    kern_partial block = new_partial(p, r, n_q, hd, any_kind(r)), a = new_partial(p, r, n_q, hd, any_kind(r));
    kern_partial b = {twin(p, a.max, n_q), twin(p, a.sum, n_q), twin(p, a.out, n_q * hd)};
    ref->merge(&block, n_q, hd, &a);
    t->merge(&block, n_q, hd, &b);
    return same_floats("max", a.max, b.max, n_q) && same_floats("sum", a.sum, b.sum, n_q) &&
           same_floats("out", a.out, b.out, n_q * hd);
}

static void attention_equals_ref(void **state) {
    check("scores", 500, rounds, scores_case);
    check("accumulate", 501, rounds, accumulate_case);
    check("weigh", 502, 2 * rounds, weigh_case);
    check("merge", 503, rounds, merge_case);
}

/* Two blocks of 33 and 20 positions, of which the first 3 are hidden, against one softmax in double precision. */
static void attention_equals_formula(void **state) {
    enum { N = 53, CUT = 33, HIDDEN = 3, HD = 40, NQ = 3, TILES = 3, ROOM = TILES * KERN_TILE, LD = ROOM };
    static const size_t begin[2] = {HIDDEN, 0}, end[2] = {CUT, N - CUT};
    float k[N * HD], v[N * HD], q[NQ * HD], tiled[2][ROOM * HD] = {0}, total[NQ * (HD + 2)] = {0};
    uint16_t k16[2][ROOM * HD], v16[N * HD];
    rng r;
    rng_seed(&r, seed, 504);
    fill_floats(&r, v, N * HD, V_NORMAL);
    fill_floats(&r, q, NQ * HD, V_NORMAL);
    fill_floats(&r, k, N * HD, V_NORMAL);
    for (int i = 0; i < N * HD; i++) k[i] = f16_to_f32(f32_to_f16(k[i])); /* the same numbers for both types */
    for (int i = 0; i < N * HD; i++) v[i] = f16_to_f32(v16[i] = f32_to_f16(v[i]));
    for (int i = 0; i < N; i++) {
        int at = i < CUT ? i : i - CUT;
        for (int d = 0; d < HD; d++)
            tiled[i >= CUT][(at / KERN_TILE * HD + d) * KERN_TILE + at % KERN_TILE] = k[i * HD + d];
    }
    for (int b = 0; b < 2; b++) kern()->f32_to_f16(tiled[b], ROOM * HD, k16[b]);
    for (int f16 = 0; f16 < 2; f16++) {
        kern_partial state_of = {total, total + NQ, total + 2 * NQ};
        memset(total, 0, sizeof total);
        for (int h = 0; h < NQ; h++) state_of.max[h] = -INFINITY;
        for (int b = 0; b < 2; b++) {
            float w[NQ * LD], block[NQ * (HD + 2)] = {0};
            const kern_partial part = {block, block + NQ, block + 2 * NQ};
            const size_t n = end[b] - begin[b], from = (b * CUT + begin[b]) * HD;
            if (f16) kern()->scores_f16(k16[b], TILES, HD, q, NQ, 0.25f, w, LD, NULL);
            else kern()->scores_f32(tiled[b], TILES, HD, q, NQ, 0.25f, w, LD, NULL);
            kern()->weigh(w, LD, NQ, begin[b], end[b], part.max, part.sum);
            if (f16) kern()->accumulate_f16(v16 + from, n, HD, w + begin[b], LD, NQ, part.out, NULL);
            else kern()->accumulate_f32(v + from, n, HD, w + begin[b], LD, NQ, part.out, NULL);
            kern()->merge(&part, NQ, HD, &state_of);
        }
        for (int h = 0; h < NQ; h++) {
            double w[N], sum = 0, want[HD] = {0};
            for (int i = HIDDEN; i < N; i++) {
                double dot = 0;
                for (int d = 0; d < HD; d++) dot += 0.25 * (double)q[h * HD + d] * (double)k[i * HD + d];
                sum += w[i] = exp(dot);
            }
            for (int i = HIDDEN; i < N; i++)
                for (int d = 0; d < HD; d++) want[d] += w[i] / sum * (double)v[i * HD + d];
            assert_true(near("log-sum-exp", log(sum), (double)state_of.max[h] + log((double)state_of.sum[h]), 10, 1e-6));
            for (int d = 0; d < HD; d++)
                assert_true(near("attention", want[d], (double)(state_of.out[h * HD + d] / state_of.sum[h]), 1, 2e-6));
        }
    }
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--bench") == 0) return bench_run(i + 1 < argc ? argv[i + 1] : "");
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) seed = strtoull(argv[++i], NULL, 10);
        if (strcmp(argv[i], "--expect") == 0 && i + 1 < argc && strcmp(argv[++i], cpu_level_name(cpu_get_level())) != 0) {
            fprintf(stderr, "level %s, expected %s\n", cpu_level_name(cpu_get_level()), argv[i]);
            return 1;
        }
        if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) rounds = strtoull(argv[++i], NULL, 10);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_filled),         cmocka_unit_test(unpack_equals_ref),
        cmocka_unit_test(unpack_equals_ggml),       cmocka_unit_test(int_unpack_undoes_the_format),
        cmocka_unit_test(unpack_sparse_equals_ref), cmocka_unit_test(unpack_sparse_undoes_the_format),
        cmocka_unit_test(panel_dot_equals_ref),     cmocka_unit_test(panel_dot_equals_formula),
        cmocka_unit_test(trellis_equals_ref),       cmocka_unit_test(trellis_equals_formula),
        cmocka_unit_test(dot_f32_equals_ref),       cmocka_unit_test(dot_f32_equals_formula),
        cmocka_unit_test(number_formats_equal_ref), cmocka_unit_test(f16_is_exhaustive),
        cmocka_unit_test(quantize_obeys_its_bound), cmocka_unit_test(layers_equal_ref),
        cmocka_unit_test(exp_is_within_one_ulp),    cmocka_unit_test(layers_equal_formulas),
        cmocka_unit_test(attention_equals_ref),     cmocka_unit_test(attention_equals_formula),
    };
    return cmocka_run_group_tests_name("kern", tests, NULL, NULL);
}
