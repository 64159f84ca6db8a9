/* Dots with panels: included by each vector level after it has defined its vocabulary (kern/simd/simd.h) and, with the help of
 * panel_codes.h,
 *
 *     MAX_TOKENS      of a tile that go together: KERN_Q8_TILE or half of it
 *     MAX_HALVES      1, or ROWS / LANES: how many times LANES rows go together where registers suffice
 *     MAX_FUSED       tokens up to which codes are best taken apart where they are multiplied: less than a tile
 *     few_tiles(f)    tokens of whole tiles below which they are as well, each tile for itself
 *     bias(f, class_bits)         by which dot_words' codes are less than the stored ones
 *     dot_words(f, class_bits, H, T, p, half, x, width, ldx, sum)
 *                                 sum[h][g][t] = the codes of group g of the chunk at p + h * half . those columns of token t.
 *                                 class_bits bounds the codes.
 *     OWN_TILES       where a level has a better multiply_tile than the one below: the header with it
 *
 * A pass takes LANES rows at offset row0 of the panel and T tokens; everything about the format is constant in it. Integer
 * sums are exact whatever their order; float operations are those of kern.h. */
#include "base/checked.h"
#include "kern/blocks.h"
#include "kern/panel.h"

enum { ROWS = KERN_PANEL_ROWS, STEP = 8, AHEAD = 6144 /* bytes */ };

/* ---------------------------------------------------------------- scales ---- */

/* Scales, then offsets, of a block's groups in bytes of their own, where the format packs them: b[16 g + row] of all rows. */
KERN_INLINE void scale_bytes(kern_format k, const uint8_t *head, uint8_t *b) {
    enum { N = 4 * LANES };
    const uint8_t *p = head + panel_field(k == KERN_Q3_K ? 2 : 4);
    if (k == KERN_Q3_K)
#pragma GCC unroll 16
        for (int i = 0; i < 8 * ROWS; i += N) {
            const bool second = i >= 4 * ROWS;
            vi low = v_load(p + i), high = v_load(p + 8 * ROWS + i % (4 * ROWS));
            vi x = v_or(v_and(low, 15), v_and(v_shl(high, second ? 2 : 4), 0x30));
            vi y = v_or(v_and(v_shr(low, 4), 15), v_and(second ? v_shr(high, 2) : high, 0x30));
            v_store(b + i, v_sub(x, 32));
            v_store(b + 8 * ROWS + i, v_sub(y, 32));
        }
    if (k == KERN_Q4_K || k == KERN_Q5_K)
#pragma GCC unroll 16
        for (int i = 0; i < 4 * ROWS; i += N) {
            vi sc = v_load(p + i), mn = v_load(p + 4 * ROWS + i), x = v_load(p + 8 * ROWS + i);
            v_store(b + i, v_and(sc, 63));
            v_store(b + 4 * ROWS + i, v_or(v_and(x, 15), v_and(v_shr(sc, 2), 0x30)));
            v_store(b + 8 * ROWS + i, v_and(mn, 63));
            v_store(b + 12 * ROWS + i, v_or(v_and(v_shr(x, 4), 15), v_and(v_shr(mn, 2), 0x30)));
        }
}

/* Scales s (and offsets m) of a ggml block's groups, of LANES rows from row0 on: s[g * LANES + row]. b: scale_bytes. */
KERN_INLINE void block_scales(kern_format k, const uint8_t *head, const uint8_t *b, int row0, float *s, float *m) {
    if (k == KERN_CODES || k == KERN_CODES16 || k == KERN_CODES_MIN) {
        f_store(s, f_load((const float *)(const void *)(head + 4 * row0)));
        if (k != KERN_CODES) f_store(k == KERN_CODES16 ? s + LANES : m, f_load((const float *)(const void *)(head + panel_field(4) + 4 * row0)));
        return;
    }
    const vf d = f_of_half(head + 2 * row0);
    if (k == KERN_TQ1_0 || k == KERN_TQ2_0)
#pragma GCC unroll 16
        for (int g = 0; g < 8; g++) f_store(s + g * LANES, d);
    if (k == KERN_Q8_0 || k == KERN_Q4_0 || k == KERN_IQ4_NL) f_store(s, d);
    if (k == KERN_Q2_K) {
        const vf dmin = f_neg(f_of_half(head + panel_field(2) + 2 * row0));
#pragma GCC unroll 16
        for (int g = 0; g < 16; g++) {
            const vi x = i_of_bytes(x_load(head + panel_field(4) + ROWS * g + row0));
            f_store(s + g * LANES, f_mul(d, f_of_int(v_and(x, 15))));
            f_store(m + g * LANES, f_mul(dmin, f_of_int(v_shr(x, 4))));
        }
    }
    if (k == KERN_Q4_K || k == KERN_Q5_K) {
        const vf dmin = f_neg(f_of_half(head + panel_field(2) + 2 * row0));
#pragma GCC unroll 16
        for (int g = 0; g < 8; g++) {
            f_store(s + g * LANES, f_mul(d, f_of_bytes(x_load(b + ROWS * g + row0))));
            f_store(m + g * LANES, f_mul(dmin, f_of_bytes(x_load(b + ROWS * (8 + g) + row0))));
        }
    }
    if (k == KERN_Q3_K || k == KERN_Q6_K)
#pragma GCC unroll 16
        for (int g = 0; g < 16; g++)
            f_store(s + g * LANES, f_mul(d, f_of_signed(x_load((k == KERN_Q3_K ? b : head + panel_field(2)) + ROWS * g + row0))));
    if (k == KERN_IQ4_XS) {
        const uint8_t *h = head + panel_field(2) + 2 * row0;
        const xi two[2] = {x_load_halves(h, 0), x_load_halves(h, 8)};
#pragma GCC unroll 16
        for (int g = 0; g < 8; g++) {
            xi low = x_load(head + panel_field(4) + ROWS * (g / 2) + row0), high = two[g / 4];
            low = x_and(g % 2 ? x_shr(low, 4) : low, 15);
            high = x_and(g % 4 == 3 ? x_shr(high, 2) : x_shl(high, 4 - 2 * (g % 4)), 0x30);
            f_store(s + g * LANES, f_mul(d, f_of_signed(x_sub(x_or(low, high), 32))));
        }
    }
}

/* Of a tq1_0 block, the 64 words of codes of LANES rows: one after the other, as bytes. p: its first word set, already at these rows. */
static __attribute__((noinline)) void take_digits(const uint8_t *p, uint8_t *to) {
    enum { WORD = 4 * LANES };
    for (int w = 0; w < PANEL_DIGIT_WORDS; w++, p += 4 * ROWS) {
        const int apart = w < 8 ? 8 : w < 12 ? 4 : 1; /* from a digit's word to the next one's: see tq1_place_of */
        uint8_t *out = to + WORD * (w < 8 ? w : w < 12 ? 32 + w : 60);
        vi x = v_sub(v_load(p), 128);
#pragma GCC unroll 5
        for (int digit = 0; digit < 5; digit++, out += WORD * apart) {
            if (digit == 4 && w == 12) break;
            v_store(out, v_digits(x));
            if (digit < 4) x = v_triple(x);
        }
    }
}

/* The int family: scales of the chunks c0 .. c0 + n - 1, repeated for those that share one. offset: 8 values of o - 2^(B-1). */
KERN_INLINE void int_scales(const uint8_t *head, int row0, size_t c0, size_t n, int log_cpg, const float *offset, float *s, float *m) {
    const vf d = f_of_bf16(head + 2 * row0);
    const uint8_t *meta = head + panel_field(2) + row0;
    vf scale = f_zero(), min = f_zero();
    for (size_t c = c0, last = SIZE_MAX; c < c0 + n; c++) {
        size_t g = c >> log_cpg;
        if (g != last) {
            const vi b = i_of_bytes(x_load(meta + g * ROWS));
            scale = f_mul(d, f_table32(kern_int_scale, v_shr(b, 3)));
            min = f_mul(scale, f_table8(offset, b));
            last = g;
        }
        f_store(s + (c - c0) * LANES, scale);
        f_store(m + (c - c0) * LANES, min);
    }
}

/* ------------------------------------------------------------------ dots ---- */

typedef struct tokens { /* of one pass, from its first on, in tiles of `width` tokens */
    const int8_t *x;
    const float *scale, *sum;
    size_t ld, ld_scale, ld_sum; /* width 1: from one token to the next */
} tokens;

/* One thread's stream of weights with arithmetic between the loads is slower than memory: without this the next panel waits for its first
 * bytes, and so does each page. A step's share of a panel, header and all (a gap of a few lines in each panel is a wait for memory in each:
 * two bits were 1.6 times as slow), a part with each chunk, because the fetches that a core can have under way are few and those beyond
 * hold up the arithmetic. What is fetched lies in the next panel as a rule. */
typedef struct fetch { const uint8_t *from; size_t n_lines, n_parts; } fetch;

KERN_INLINE void fetch_part(const fetch *f, size_t chunk, bool near) {
    for (size_t i = f->n_lines * chunk / f->n_parts; i < f->n_lines * (chunk + 1) / f->n_parts; i++) {
        if (near) __builtin_prefetch(f->from + 64 * i, 0, 3);
        else __builtin_prefetch(f->from + 64 * i, 0, 2);
    }
}

/* Of the dense trellis, where the chunks of a step stand and what their states' rates are; the rows at hand. */
typedef struct rated { const uint8_t *at[STEP]; unsigned rate[STEP]; int row0; } rated;
KERN_INLINE panel_form rated_form(panel_form f, const rated *by, size_t i) {
    f.windows = kern_tcq_windows_of(by->rate[i], LANES == 16);
    return f;
}
KERN_INLINE const uint8_t *rated_codes(const rated *by, size_t i) { return by->at[i] + by->rate[i] * (unsigned)by->row0 / 8; }
KERN_INLINE kern_tcq_rates rates_of(const panel_form f, const kern_panel_args *a) {
    return f.trellis == TRELLIS_TCQ ? kern_tcq_rates_of(a->panel, a->group, a->n_chunks) : (kern_tcq_rates){0};
}
/* The step from chunk c on; *at is where that stands, and moves on. */
KERN_INLINE void next_rates(const kern_panel_args *a, kern_tcq_rates rates, size_t c, const uint8_t **at, rated *to) {
    for (size_t i = 0; i < STEP && c + i < a->n_chunks; i++) {
        to->at[i] = *at, to->rate[i] = kern_tcq_rate(rates, c + i);
        *at += kern_tcq_chunk_bytes(to->rate[i]);
    }
}

/* n chunks from chunk c0 on: codes at p, `stride` bytes each, of H times LANES rows `half` bytes apart, whose scales are a step's apart.
 * acc, off: the running sums of T tokens. */
KERN_INLINE void dot_chunks(const panel_form f, int class_bits, int H, int T, int width, const uint8_t *p, size_t stride, size_t half,
                            size_t c0, size_t n, const float *s, const float *m, size_t half_s, const tokens *x, const fetch *next, const rated *by,
                            vf acc[][MAX_TOKENS], vf off[][MAX_TOKENS]) {
    const int per_chunk = 32 / f.group, shift = bias(f, class_bits) - f.zero; /* shift: from dot_words' codes to q */
    vf a[MAX_HALVES][MAX_TOKENS], b[MAX_HALVES][MAX_TOKENS]; /* in registers while the chunks pass */
#pragma GCC unroll 16
    for (int h = 0; h < H; h++)
#pragma GCC unroll 16
        for (int t = 0; t < T; t++) a[h][t] = acc[h][t], b[h][t] = off[h][t];
    for (size_t c = c0; c < c0 + n; c++, p += stride) {
        vi sum[MAX_HALVES][2][MAX_TOKENS];
        panel_form own = f;
        if (next) fetch_part(next, c - c0, true);
        if (f.trellis == TRELLIS_TCQ) own = rated_form(f, by, c - c0), p = rated_codes(by, c - c0), half = by->rate[c - c0] * LANES / 8;
        dot_words(own, class_bits, H, T, p, half, x->x + 32 * c * (size_t)width, width, x->ld, sum);
#pragma GCC unroll 2
        for (int g = 0; g < per_chunk; g++, s += LANES, m += f.has_min ? LANES : 0) {
            const size_t group = c * (size_t)per_chunk + (size_t)g;
#pragma GCC unroll 16
            for (int t = 0; t < T; t++) {
                const vf xs = f_set1(width == 1 ? x->scale[(size_t)t * x->ld_scale + c] : x->scale[8 * c + (size_t)t]);
                const vf k = f_set1(width == 1 ? x->sum[(size_t)t * x->ld_sum + group] : x->sum[8 * group + (size_t)t]);
#pragma GCC unroll 16
                for (int h = 0; h < H; h++) {
                    vf i = f_of_int(sum[h][g][t]);
                    if (shift) i = f_fma(f_set1((float)shift), k, i);
                    a[h][t] = f_fma(f_mul(f_load(s + (size_t)h * half_s), xs), i, a[h][t]);
                    if (f.has_min) b[h][t] = f_fma(f_load(m + (size_t)h * half_s), f_mul(xs, k), b[h][t]);
                }
            }
        }
    }
#pragma GCC unroll 16
    for (int h = 0; h < H; h++)
#pragma GCC unroll 16
        for (int t = 0; t < T; t++) acc[h][t] = a[h][t], off[h][t] = b[h][t];
}

/* From token t0 of a on, where a tile begins; lane: tokens of it to pass over. */
KERN_INLINE tokens tokens_from(const kern_panel_args *a, const panel_form f, size_t t0, size_t lane) {
    size_t chunks = a->x.ld / 32, sums = f.group == 32 ? chunks : 2 * chunks;
    return (tokens){a->x.q + t0 * a->x.ld + 4 * lane, a->x.scale + t0 * chunks + lane,
                    (f.group == 32 ? a->x.sum32 : a->x.sum16) + t0 * sums + lane, a->x.ld, chunks, sums};
}

KERN_INLINE void add_result(const kern_panel_args *a, bool has_min, int row0, size_t t, vf acc, vf off) {
    float out[LANES], *y = a->y + t * a->ldy + row0;
    f_store(out, has_min ? f_add(acc, off) : acc);
    for (int r = 0; r < LANES && (size_t)(row0 + r) < a->n_rows; r++) y[r] += out[r];
}

/* Bits of the codes that dots see. */
KERN_INLINE int class_of(const panel_form f) { return f.table ? 8 : f.bits; }

/* Where a panel's header and codes stand; head: its bytes, of all rows. */
typedef struct spans {
    size_t head, stride, block_bytes, panel_bytes;
    int log_cpg;
    float offset[8];
} spans;
KERN_INLINE spans spans_of(const kern_panel_args *a, const panel_form f) {
    spans s = {.head = f.trellis == TRELLIS_TCQ ? kern_tcq_head_bytes(a->group, a->n_chunks) : ROWS * f.head, .stride = panel_chunk_bytes(f)};
    if (f.block_chunks == 0 && !f.trellis) {
        const uint32_t group = kern_int_group(a->group);
        s.head = ROWS * (2 + div_up(32 * a->n_chunks, group));
        s.log_cpg = group == 32 ? 0 : group == 64 ? 1 : 2;
        for (unsigned z = 0; z < 8; z++) s.offset[z] = kern_int_offset(z, f.bits, a->group) - (float)(1u << (f.bits - 1));
    }
    s.block_bytes = s.head + ROWS * panel_code_bytes(f);
    s.panel_bytes = f.block_chunks ? a->n_chunks / f.block_chunks * s.block_bytes : s.head + a->n_chunks * s.stride;
    return s;
}

/* How next_step's codes stand: those that were taken apart there as bytes. */
enum { DIGITS_ROOM = 32 * STEP * LANES };
KERN_INLINE panel_form form_of_codes(const panel_form f) { return f.digits ? (panel_form){.zero = f.zero, .group = f.group} : f; }

/* Up to `most` chunks from c on, STEP or of blocks of one chunk fewer: their scales to s, m; where their codes stand. Returns how many. b: room
 * that lasts from row 0 on; own: DIGITS_ROOM of these rows' own. */
KERN_INLINE size_t next_step(const kern_panel_args *a, kern_format k, const panel_form f, const spans *w, size_t c, size_t most, int row0, uint8_t *b,
                             uint8_t *own, float *s, float *m, const uint8_t **codes, size_t *stride) {
    size_t n = a->n_chunks - c < most ? a->n_chunks - c : most;
    *stride = w->stride;
    if (f.trellis) {
        const vf d = f_of_bf16(a->panel + 2 * row0);
        for (size_t i = 0; i < n; i++) f_store(s + i * LANES, d);
        *codes = a->panel + w->head + c * w->stride + panel_eight_rows(f) * (size_t)row0 / 8;
    } else if (f.block_chunks == 0) {
        int_scales(a->panel, row0, c, n, w->log_cpg, w->offset, s, m);
        *codes = a->panel + w->head + c * w->stride + 4 * row0;
    } else if (f.block_chunks == 1) {
        const uint8_t *block = a->panel + c * w->block_bytes;
        for (size_t i = 0; i < n; i++) block_scales(k, block + i * w->block_bytes, b, row0, s + i * (32u / f.group) * LANES, m + i * LANES);
        *codes = block + w->head + 4 * row0;
        *stride = w->block_bytes;
    } else {
        const uint8_t *block = a->panel + c / STEP * w->block_bytes;
        if (row0 == 0) scale_bytes(k, block, b);
        __asm__("" : "+m"(*(uint8_t(*)[16 * ROWS])b)); /* a load widens bytes, which in registers takes two steps */
        block_scales(k, block, b, row0, s, m);
        *codes = block + w->head + 4 * row0;
        if (f.digits) {
            take_digits(*codes, own);
            *codes = own;
            *stride = 32 * LANES;
        }
    }
    return n;
}

/* The share that goes with chunks c .. c + n - 1. */
KERN_INLINE fetch share_of(const kern_panel_args *a, const spans *w, size_t c, size_t n, const uint8_t *p) {
    const size_t from = w->panel_bytes * c / a->n_chunks / 64, to = w->panel_bytes * (c + n) / a->n_chunks / 64;
    return (fetch){p + 64 * from, to - from, n};
}

/* A few tokens: codes are taken apart where they are multiplied. H: how many times LANES rows go together. T tokens of the tile of `width`
 * that begins with token t0, from its `lane` on. */
KERN_INLINE void fused(kern_format k, const panel_form f, int H, int T, int width, const kern_panel_args *a, size_t t0, size_t lane) {
    enum { HALVES = ROWS / LANES };
    const spans w = spans_of(a, f);
    const tokens x = tokens_from(a, f, t0, lane);
    const kern_tcq_rates rates = rates_of(f, a);
    const uint8_t *stream = a->panel + w.head;
    vf acc[HALVES][MAX_TOKENS], off[HALVES][MAX_TOKENS];
#pragma GCC unroll 16
    for (int h = 0; h < HALVES; h++)
#pragma GCC unroll 16
        for (int t = 0; t < T; t++) acc[h][t] = off[h][t] = f_zero();
    const size_t step = f.block_chunks == 1 ? 2 : STEP; /* headers of eight blocks read before the first one's codes keep memory from streaming */
    for (size_t c = 0; c < a->n_chunks; c += step) {
        _Alignas(64) uint8_t b[16 * ROWS];
        _Alignas(64) uint8_t own[HALVES][DIGITS_ROOM];
        _Alignas(64) float s[HALVES][2 * STEP * LANES], m[HALVES][2 * STEP * LANES];
        const fetch next = share_of(a, &w, c, step, a->panel + AHEAD);
        rated by;
        if (f.trellis == TRELLIS_TCQ) next_rates(a, rates, c, &stream, &by);
#pragma GCC unroll 16
        for (int h = 0; h < HALVES; h += H) {
            const uint8_t *codes, *unused;
            by.row0 = h * LANES;
            size_t stride, n = next_step(a, k, f, &w, c, step, h * LANES, b, own[h], s[h], m[h], &codes, &stride);
            if (H == 2) next_step(a, k, f, &w, c, step, LANES, b, own[h + 1], s[h + 1], m[h + 1], &unused, &stride);
            dot_chunks(form_of_codes(f), class_of(f), H, T, width, codes, stride, f.digits ? DIGITS_ROOM : panel_eight_rows(f) * LANES / 8, c, n, s[h], m[h], 2 * STEP * LANES, &x, h == 0 ? &next : NULL,
                       &by, acc + h, off + h);
        }
    }
#pragma GCC unroll 16
    for (int t = 0; t < T; t++)
#pragma GCC unroll 16
        for (int h = 0; h < HALVES; h++) add_result(a, f.has_min, h * LANES, t0 + lane + (size_t)t, acc[h][t], off[h][t]);
}

/* ----------------------------------------------------------- many tokens ---- */

/* The panel taken apart once: codes (n_chunks, 8 word sets of 64 bytes), then scales and offsets (n_chunks * 32 / group, ROWS). For two
 * halves of LANES rows, these lie one after the other within each STEP. more: room for 576 bytes a chunk, where groups are of 32. */
typedef struct apart { uint8_t *codes; float *s, *m; void *more; } apart;

KERN_INLINE void take_apart(kern_format k, const panel_form f, const kern_panel_args *a, apart *u) {
    const spans w = spans_of(a, f);
    const size_t groups = a->n_chunks * (32u / f.group);
    const kern_tcq_rates rates = rates_of(f, a);
    const uint8_t *stream = a->panel + w.head;
    u->codes = a->scratch;
    u->s = (float *)(void *)(u->codes + 512 * a->n_chunks);
    u->m = u->s + groups * ROWS;
    u->more = u->m + groups * ROWS;
    for (size_t c = 0; c < a->n_chunks; c += STEP) {
        const fetch next = share_of(a, &w, c, STEP, a->panel + w.panel_bytes);
        _Alignas(64) uint8_t b[16 * ROWS], own[DIGITS_ROOM];
        rated by;
        if (f.trellis == TRELLIS_TCQ) next_rates(a, rates, c, &stream, &by);
#pragma GCC unroll 16
        for (int h = 0; h < ROWS / LANES; h++) {
            const uint8_t *from;
            by.row0 = h * LANES;
            uint8_t *to = u->codes + (size_t)h * 8 * 4 * LANES * a->n_chunks + 32 * LANES * c;
            size_t stride, at = ((size_t)h * groups + c * (32u / f.group)) * LANES;
            size_t n = next_step(a, k, f, &w, c, STEP, h * LANES, b, own, u->s + at, u->m + at, &from, &stride);
            for (size_t i8 = 0; i8 < n; i8++, from += stride, to += 32 * LANES) {
                vi set[8];
                panel_form form = form_of_codes(f);
                if (h == 0) fetch_part(&next, i8, false); /* the tokens are in L1 */
                if (f.trellis == TRELLIS_TCQ) form = rated_form(f, &by, i8), from = rated_codes(&by, i8);
#pragma GCC unroll 16
                for (int i = 0; i < 8; i++) {
                    const int j = word_at_turn(f, i);
                    load_sets(form, from, j, set);
                    v_store(to + 4 * LANES * j, code_of(form, set, j));
                }
            }
        }
    }
}

/* T tokens of the tile of `width` that begins with token t0, from its `lane` on. */
KERN_INLINE void multiply(const panel_form f, int T, int width, const kern_panel_args *a, const apart *u, size_t t0, size_t lane) {
    const panel_form plain = {.bits = 0, .zero = f.zero, .group = f.group, .has_min = f.has_min};
    const int H = f.group == 32 ? MAX_HALVES : 1; /* sums of twice the groups do not fit the registers */
    const size_t groups = a->n_chunks * (32u / f.group), half = 8 * 4 * LANES * a->n_chunks, half_s = groups * LANES;
    const tokens x = tokens_from(a, f, t0, lane);
#pragma GCC unroll 16
    for (int h = 0; h < ROWS / LANES; h += H) {
        vf acc[MAX_HALVES][MAX_TOKENS], off[MAX_HALVES][MAX_TOKENS];
#pragma GCC unroll 16
        for (int t = 0; t < H * T; t++) acc[t / T][t % T] = off[t / T][t % T] = f_zero();
        dot_chunks(plain, class_of(f), H, T, width, u->codes + (size_t)h * half, 32 * LANES, half, 0, a->n_chunks,
                   u->s + (size_t)h * half_s, u->m + (size_t)h * half_s, half_s, &x, NULL, NULL, acc, off);
#pragma GCC unroll 16
        for (int t = 0; t < T; t++)
#pragma GCC unroll 16
            for (int i = 0; i < H; i++) add_result(a, f.has_min, (h + i) * LANES, t0 + lane + (size_t)t, acc[i][t], off[i][t]);
    }
}

#ifdef OWN_TILES
#include OWN_TILES
#else
KERN_INLINE void multiply_tile(const panel_form f, const kern_panel_args *a, const apart *u, size_t t0) {
    for (size_t lane = 0; lane < KERN_Q8_TILE; lane += MAX_TOKENS) multiply(f, MAX_TOKENS, KERN_Q8_TILE, a, u, t0, lane);
}
#endif

KERN_INLINE void panel_dot(kern_format k, const panel_form f, const kern_panel_args *a) {
    size_t t = 0, n = a->n_tokens;
    if (n >= KERN_Q8_TILE && n < few_tiles(f)) {
        for (; t + KERN_Q8_TILE <= n; t += KERN_Q8_TILE)
            for (size_t lane = 0; lane < KERN_Q8_TILE; lane += MAX_TOKENS) fused(k, f, 1, MAX_TOKENS, KERN_Q8_TILE, a, t, lane);
    } else if (n > MAX_FUSED) {
        apart u;
        take_apart(k, f, a, &u);
        for (; t + KERN_Q8_TILE <= n; t += KERN_Q8_TILE) multiply_tile(f, a, &u, t);
        const bool few = MAX_FUSED < KERN_Q8_TILE - 1 && n < KERN_Q8_TILE; /* tiles of a level's own may have changed what lies apart */
        for (; few && t + 2 <= n; t += 2) multiply(f, 2, 1, a, &u, t, 0);
        for (; few && t < n; t++) multiply(f, 1, 1, a, &u, t, 0);
    }
    for (; t + 4 <= n; t += 4) fused(k, f, 1, 4, 1, a, t, 0);
    for (; t + 2 <= n; t += 2) fused(k, f, 1, 2, 1, a, t, 0);
    for (; t < n; t++) fused(k, f, MAX_HALVES, 1, 1, a, t, 0);
}

#define PANEL_DOT(name, format) \
    void KERN_ISA(kern_##name##_panel_dot)(const kern_panel_args *a) { panel_dot(format, panel_forms[format], a); }
PANEL_DOT(q8_0, KERN_Q8_0)
PANEL_DOT(q4_0, KERN_Q4_0)
PANEL_DOT(iq4_nl, KERN_IQ4_NL)
PANEL_DOT(q2_k, KERN_Q2_K)
PANEL_DOT(q3_k, KERN_Q3_K)
PANEL_DOT(q4_k, KERN_Q4_K)
PANEL_DOT(q5_k, KERN_Q5_K)
PANEL_DOT(q6_k, KERN_Q6_K)
PANEL_DOT(iq4_xs, KERN_IQ4_XS)
PANEL_DOT(tq1_0, KERN_TQ1_0)
PANEL_DOT(tq2_0, KERN_TQ2_0)
PANEL_DOT(codes, KERN_CODES)
PANEL_DOT(codes16, KERN_CODES16)
PANEL_DOT(codes_min, KERN_CODES_MIN)
PANEL_DOT(int2, KERN_INT2)
PANEL_DOT(int3, KERN_INT3)
PANEL_DOT(int4, KERN_INT4)
PANEL_DOT(int5, KERN_INT5)
PANEL_DOT(int6, KERN_INT6)
PANEL_DOT(int7, KERN_INT7)
PANEL_DOT(int8, KERN_INT8)
void KERN_ISA(kern_tcqf_panel_dot)(const kern_panel_args *a) { panel_dot((kern_format)PANEL_TRELLIS, panel_form_tcqf, a); }

/* `fields` is a constant. */
KERN_INLINE void tcq_dot(unsigned fields, const kern_panel_args *a) {
    const panel_form f = {.bits = (uint8_t)(fields + 2), .zero = (uint8_t)kern_tcq_zero(fields), .group = 32, .head = 2, .trellis = TRELLIS_TCQ,
                          .mask = read_u16(a->panel + kern_tcq_mask_at(a->group, a->n_chunks)), .windows = kern_tcq_windows_of(kern_tcq_quarters(a->group), LANES == 16)};
    panel_dot((kern_format)PANEL_TRELLIS, f, a);
}
void KERN_ISA(kern_tcq_panel_dot)(const kern_panel_args *a) {
    switch (kern_tcq_fields(kern_tcq_quarters(a->group))) {
    case 4: tcq_dot(4, a); break;
    case 5: tcq_dot(5, a); break;
    default: tcq_dot(6, a);
    }
}

/* The form is a constant; but additive codes have any number of books. */
KERN_INLINE void books_dot(unsigned form, const kern_panel_args *a) {
    const panel_form f = {.bits = (uint8_t)kern_books_bits(form), .zero = (uint8_t)kern_books_zero(form), .group = 32, .head = 2, .trellis = TRELLIS_BOOKS,
                          .n_books = (uint8_t)kern_books_count(form < BOOKS_LATTICE ? a->group : form), .lattice = form >= BOOKS_LATTICE,
                          .books = kern_books_of(form, a->books)};
    panel_dot((kern_format)PANEL_TRELLIS, f, a);
}
void KERN_ISA(kern_books_panel_dot)(const kern_panel_args *a) {
    switch (a->group) {
    case BOOKS_LATTICE + 2: books_dot(BOOKS_LATTICE + 2, a); break;
    case BOOKS_LATTICE + 3: books_dot(BOOKS_LATTICE + 3, a); break;
    case BOOKS_LATTICE + 4: books_dot(BOOKS_LATTICE + 4, a); break;
    default: books_dot(2, a);
    }
}
