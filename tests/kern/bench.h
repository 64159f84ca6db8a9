/* Benchmarks of the kernel checker: every slot in the shapes of a Llama-3.2-1B layer, one thread, best of several runs.
 * units/ns: weights for unpack and expand, multiply-adds for dots and attention, elements else. GB/s: bytes that the slot must
 * read and write once. `x ref` is how much faster than the reference. */
#ifndef TESTS_KERN_BENCH_H
#define TESTS_KERN_BENCH_H
#include <time.h>

#include "base/cpu.h"
#include "formats.h"
#include "guard.h"
#include "kern/books.h"
#include "kern/kern.h"
#include "kern/trellis.h"

enum { B_COLS = 2048, B_ROWS = 32, B_TOKENS = 128, B_POS = KERN_BLOCK, B_HD = 64, B_QUERIES = 32 };

typedef struct bench_data {
    uint8_t payload[B_ROWS * B_COLS * 2];
    int8_t q[B_ROWS * B_COLS], x8[B_TOKENS * B_COLS];
    float s[B_ROWS * B_COLS / 16], m[B_ROWS * B_COLS / 16], xs[B_TOKENS * B_COLS / 32];
    float sum32[B_TOKENS * B_COLS / 32], sum16[B_TOKENS * B_COLS / 16];
    _Alignas(64) uint8_t panel[B_ROWS * B_COLS * 2], scratch[B_COLS / 32 * 1024];
    float w[B_ROWS * B_COLS], x[B_TOKENS * B_COLS], y[B_QUERIES * B_POS], z[B_COLS];
    uint16_t h[B_ROWS * B_COLS];
} bench_data;

typedef struct bench_case {
    char name[40];
    double units, bytes;
    void (*run)(const kern_table *t, bench_data *d, const struct bench_case *c);
    int format;
    size_t rows, tokens;
    bool offset;
    unsigned quarters; /* of the dense trellis code */
} bench_case;

static inline double bench_now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return 1e9 * (double)ts.tv_sec + (double)ts.tv_nsec;
}

/* ns of one call: the best of 7 runs of at least 3 ms each */
static inline double bench_time(const kern_table *t, bench_data *d, const bench_case *c) {
    double best = 1e30;
    size_t n = 1;
    for (int i = 0; i < 7;) {
        double t0 = bench_now();
        for (size_t k = 0; k < n; k++) c->run(t, d, c);
        double ns = bench_now() - t0;
        if (ns < 3e6 && i == 0) {
            n *= 2;
            continue;
        }
        best = ns / (double)n < best ? ns / (double)n : best;
        i++;
    }
    return best;
}

static inline void bench_unpack(const kern_table *t, bench_data *d, const bench_case *c) {
    size_t row = row_bytes(c->format, B_COLS / 32, 64), lds = B_COLS / kern_group((kern_format)c->format);
    for (size_t r = 0; r < B_ROWS; r++) t->unpack[c->format](d->payload + r * row, B_COLS / 32, 64, d->q + r * B_COLS, d->s + r * lds, d->m + r * lds);
}
/* Panels of random bytes: what they mean does not matter here, only that scales are tame. */
static inline void bench_panel(const kern_table *t, bench_data *d, const bench_case *c) {
    size_t row = row_bytes(c->format, B_COLS / 32, 64);
    for (size_t r = 0; r < B_ROWS; r += KERN_PANEL_ROWS) {
        kern_panel_args a = {.panel = d->panel + r * row, .n_rows = KERN_PANEL_ROWS, .n_tokens = c->tokens,
                             .n_chunks = B_COLS / 32, .group = 64, .x = {.ld = B_COLS, .q = d->x8, .scale = d->xs, .sum32 = d->sum32, .sum16 = d->sum16},
                             .y = d->y + r, .ldy = B_ROWS, .scratch = d->scratch};
        t->panel_dot[c->format](&a);
    }
}
static inline void bench_pack(const kern_table *t, bench_data *d, const bench_case *c) {
    size_t row = row_bytes(c->format, B_COLS / 32, 64);
    for (size_t r = 0; r < B_ROWS; r += KERN_PANEL_ROWS)
        kern_panel_pack(c->format, d->payload + r * row, row, KERN_PANEL_ROWS, B_COLS / 32, 64, d->panel + r * row);
}
/* BITMAP with 16 of 32 kept, 2_OF_4, 3_OF_4, TRITS, by their number */
static inline kern_sparse bench_form(int mask) {
    return (kern_sparse){.mask = (kern_mask)mask, .bits = mask < KERN_3_OF_4 ? 3 : 1, .kept = mask == KERN_3_OF_4 ? 24 : 16, .group = 64};
}
static inline void bench_sparse(const kern_table *t, bench_data *d, const bench_case *c) {
    const kern_sparse f = bench_form(c->format);
    const size_t row = kern_sparse_layout_of(&f, B_COLS / 32).bytes;
    for (size_t r = 0; r < B_ROWS; r++) t->unpack_sparse(&f, d->payload + r * row, B_COLS / 32, 0, B_COLS / 32, (uint8_t *)d->q);
}
/* Random bytes are states like any others. */
static inline size_t bench_trellis_panel(const bench_case *c) {
    return c->quarters ? kern_tcq_head_bytes(kern_tcq_form(c->quarters, 0), B_COLS / 32) + B_COLS / 32 * kern_tcq_chunk_bytes(c->quarters) : TCQF_HEAD + B_COLS / 32 * TCQF_CHUNK;
}
static inline void bench_trellis(const kern_table *t, bench_data *d, const bench_case *c) {
    const size_t panel = bench_trellis_panel(c);
    for (size_t r = 0; r < B_ROWS; r += KERN_PANEL_ROWS) {
        kern_panel_args a = {.panel = d->payload + r / KERN_PANEL_ROWS * panel, .n_rows = KERN_PANEL_ROWS, .n_tokens = c->tokens, .n_chunks = B_COLS / 32,
                             .x = {.ld = B_COLS, .q = d->x8, .scale = d->xs, .sum32 = d->sum32, .sum16 = d->sum16},
                             .group = kern_tcq_form(c->quarters, 0), .y = d->y + r, .ldy = B_ROWS, .scratch = d->scratch};
        (c->quarters ? t->tcq_dot : t->tcqf_dot)(&a);
    }
}
static inline size_t bench_books_panel(const bench_case *c) { return BOOKS_HEAD + B_COLS / 32 * kern_books_chunk_bytes((unsigned)c->format); }
static inline void bench_books(const kern_table *t, bench_data *d, const bench_case *c) {
    const size_t panel = bench_books_panel(c);
    for (size_t r = 0; r < B_ROWS; r += KERN_PANEL_ROWS) {
        kern_panel_args a = {.panel = d->payload + r / KERN_PANEL_ROWS * panel, .n_rows = KERN_PANEL_ROWS, .n_tokens = c->tokens, .n_chunks = B_COLS / 32,
                             .x = {.ld = B_COLS, .q = d->x8, .scale = d->xs, .sum32 = d->sum32, .sum16 = d->sum16},
                             .group = (unsigned)c->format, .y = d->y + r, .ldy = B_ROWS, .scratch = d->scratch, .books = (const uint8_t *)d->w};
        t->books_dot(&a);
    }
}
static inline void bench_tcq_step(const kern_table *t, bench_data *d, const bench_case *c) {
    const int bits = (int)c->quarters / 4;
    t->tcq_step((const uint16_t *)(const void *)d->w, c->format, bits, bits, 90, 5000, (const uint16_t *)(const void *)d->payload, 9, d->h);
}
static inline void bench_tcqf_step(const kern_table *t, bench_data *d, const bench_case *c) {
    t->tcqf_step((const uint8_t *)d->w, (const uint8_t(*)[16])d->payload, 1, (const uint16_t *)(const void *)d->payload + 64, d->h);
}
static inline void bench_dot_f32(const kern_table *t, bench_data *d, const bench_case *c) {
    t->dot_f32(c->rows, c->tokens, B_COLS, d->w, B_COLS, d->x, B_COLS, d->y, c->rows);
}
static inline void bench_expand(const kern_table *t, bench_data *d, const bench_case *c) {
    for (size_t r = 0; r < B_ROWS; r++) t->expand(d->q + r * B_COLS, d->s, c->offset ? d->m : NULL, 32, B_COLS, d->w + r * B_COLS);
}
static inline void bench_quantize(const kern_table *t, bench_data *d, const bench_case *c) { t->quantize_q8(d->x, B_COLS, 1, 0, d->x8, d->xs, d->sum32, d->sum16); }
static inline void bench_f16(const kern_table *t, bench_data *d, const bench_case *c) { t->f16_to_f32(d->h, B_COLS, d->z); }
static inline void bench_bf16(const kern_table *t, bench_data *d, const bench_case *c) { t->bf16_to_f32(d->h, B_COLS, d->z); }
static inline void bench_to_f16(const kern_table *t, bench_data *d, const bench_case *c) { t->f32_to_f16(d->x, B_COLS, d->h); }
static inline void bench_rmsnorm(const kern_table *t, bench_data *d, const bench_case *c) { t->rmsnorm(d->x, d->x + B_COLS, 1e-5f, B_COLS, d->z); }
static inline void bench_add(const kern_table *t, bench_data *d, const bench_case *c) { t->add(d->z, d->x, B_COLS); }
static inline void bench_silu(const kern_table *t, bench_data *d, const bench_case *c) {
    memcpy(d->z, d->x, sizeof d->z);
    t->silu_mul(d->z, d->x, B_COLS);
}
static inline void bench_softmax(const kern_table *t, bench_data *d, const bench_case *c) {
    memcpy(d->z, d->x, sizeof d->z);
    d->y[0] = t->softmax(d->z, B_COLS);
}
static inline void bench_rope(const kern_table *t, bench_data *d, const bench_case *c) {
    memcpy(d->z, d->x + B_COLS, sizeof d->z); /* unnormalised angles would drift to denormals */
    for (size_t i = 0; i < B_COLS; i += B_HD) t->rope(d->z + i, B_HD / 2, d->x, c->offset);
}
static inline void bench_scores(const kern_table *t, bench_data *d, const bench_case *c) {
    if (c->format) t->scores_f16(d->h, B_POS / KERN_TILE, B_HD, d->x, c->rows, 0.1f, d->y, B_POS, d->h + B_POS * B_HD);
    else t->scores_f32(d->w, B_POS / KERN_TILE, B_HD, d->x, c->rows, 0.1f, d->y, B_POS, d->w + B_POS * B_HD);
}
static inline void bench_accumulate(const kern_table *t, bench_data *d, const bench_case *c) {
    if (c->format) t->accumulate_f16(d->h, B_POS, B_HD, d->x, B_POS, c->rows, d->z, d->h + B_POS * B_HD);
    else t->accumulate_f32(d->w, B_POS, B_HD, d->x, B_POS, c->rows, d->z, d->w + B_POS * B_HD);
}
static inline void bench_weigh(const kern_table *t, bench_data *d, const bench_case *c) {
    memcpy(d->y, d->x, c->rows * KERN_BLOCK * sizeof *d->y); /* weights of weights would all be alike */
    t->weigh(d->y, KERN_BLOCK, c->rows, 0, KERN_BLOCK, d->z, d->z + c->rows);
}
static inline void bench_merge(const kern_table *t, bench_data *d, const bench_case *c) {
    const kern_partial block = {d->x, d->x + c->rows, d->x + B_COLS}, state = {d->z, d->z + c->rows, d->y};
    t->merge(&block, c->rows, B_HD, &state);
}

static inline void bench_fill(bench_data *d, const bench_case *c) {
    rng r;
    rng_seed(&r, 1, 1);
    fill_bytes(&r, d->payload, sizeof d->payload);
    if (c->run == bench_unpack || c->run == bench_pack || c->run == bench_panel) { /* tame scales: NaN arithmetic may be slower */
        const format_info *f = &formats[c->format];
        size_t step = f->block_bytes ? f->block_bytes : row_bytes(c->format, B_COLS / 32, 64);
        for (size_t b = 0; b + step < sizeof d->payload; b += step)
            for (int i = 0; i < 2; i++) {
                uint32_t at = f->f16_at[i];
                if (at != NO_F16) d->payload[b + at + 1] = f->block_bytes ? 0x2c : 0x3c;
            }
    }
    if (c->run == bench_panel) bench_pack(kern(), d, c);
    for (size_t i = 0; c->run == bench_trellis && i < B_ROWS; i++) /* scales */
        d->payload[i / KERN_PANEL_ROWS * bench_trellis_panel(c) + 2 * (i % KERN_PANEL_ROWS) + 1] = 0x3c;
    for (size_t i = 0; i < sizeof d->q; i++) d->q[i] = (int8_t)((int)rng_below(&r, 256) - 128);
    fill_floats(&r, d->x, B_TOKENS * B_COLS, V_NORMAL);
    fill_floats(&r, d->w, B_ROWS * B_COLS, V_NORMAL);
    fill_floats(&r, d->s, B_ROWS * B_COLS / 16, V_NORMAL);
    fill_floats(&r, d->m, B_ROWS * B_COLS / 16, V_NORMAL);
    fill_floats(&r, d->z, B_COLS, V_NORMAL);
    kern()->f32_to_f16(d->w, B_ROWS * B_COLS, d->h);
    kern()->quantize_q8(d->x, B_TOKENS * B_COLS, 1, 0, d->x8, d->xs, d->sum32, d->sum16);
    memset(d->y, 0, sizeof d->y);
}

static inline void bench_one(bench_data *d, const bench_case *c) {
    bench_fill(d, c);
    double ref_ns = 0;
    for (int level = 0; kern_for_level(level); level++) {
        double ns = bench_time(kern_for_level(level), d, c);
        if (level == 0) ref_ns = ns;
        printf("%-30s %-5s %12.0f ns %9.2f units/ns %8.2f GB/s %7.1f x ref\n", c->name, cpu_level_name((cpu_level)level), ns,
               c->units / ns, c->bytes / ns, ref_ns / ns);
    }
    fflush(stdout);
}

static inline int bench_run(const char *word) {
    static bench_data data;
    bench_case list[192];
    size_t n = 0;
    const double all = (double)B_ROWS * B_COLS;
    for (int f = 0; f < KERN_FORMAT_COUNT; f++)
        for (int k = 0; k < 5; k++) { /* unpack, pack, dots with 1, 8 and many tokens */
            static const size_t tokens[] = {0, 0, 1, 8, B_TOKENS};
            bench_case c = {.units = all * (double)(tokens[k] ? tokens[k] : 1), .format = f, .tokens = tokens[k],
                            .run = k == 0 ? bench_unpack : k == 1 ? bench_pack : bench_panel};
            c.bytes = (double)(B_ROWS * row_bytes(f, B_COLS / 32, 64));
            snprintf(c.name, sizeof c.name, k == 0 ? "unpack_%s" : k == 1 ? "pack_%s" : "panel_dot_%sx%zu", formats[f].name, tokens[k]);
            list[n++] = c;
        }
    for (int mask = 0; mask <= KERN_TRITS; mask++) {
        static const char *const names[] = {"bitmap", "2_of_4", "3_of_4", "trits"};
        const kern_sparse form = bench_form(mask);
        bench_case c = {.units = all, .run = bench_sparse, .format = mask};
        c.bytes = (double)(B_ROWS * kern_sparse_layout_of(&form, B_COLS / 32).bytes);
        snprintf(c.name, sizeof c.name, "unpack_sparse_%s", names[mask]);
        list[n++] = c;
    }
    for (int k = 0; k < 18; k++) {
        static const unsigned quarters[] = {0, 4, 8, 12, 16, 20};
        static const size_t tokens[] = {1, 8, B_TOKENS};
        bench_case c = {.tokens = tokens[k % 3], .quarters = quarters[k / 3], .run = bench_trellis};
        c.units = all * (double)c.tokens, c.bytes = (double)(B_ROWS / KERN_PANEL_ROWS * bench_trellis_panel(&c));
        snprintf(c.name, sizeof c.name, c.quarters ? "tcq%g_dotx%zu" : "tcqf%g_dotx%zu", c.quarters ? c.quarters / 4. : 2, c.tokens);
        list[n++] = c;
    }
    for (int k = 0; k < 15; k++) {
        static const unsigned forms[] = {BOOKS_LATTICE + 2, BOOKS_LATTICE + 3, BOOKS_LATTICE + 4, 2, 3};
        static const size_t tokens[] = {1, 8, B_TOKENS};
        bench_case c = {.tokens = tokens[k % 3], .format = (int)forms[k / 3], .run = bench_books};
        c.units = all * (double)c.tokens, c.bytes = (double)(B_ROWS / KERN_PANEL_ROWS * bench_books_panel(&c));
        snprintf(c.name, sizeof c.name, c.format < BOOKS_LATTICE ? "books_aq%u_dotx%zu" : "books_e8b%u_dotx%zu", kern_books_count((unsigned)c.format), c.tokens);
        list[n++] = c;
    }
    for (int k = 0; k < 6; k++) {
        bench_case c = {.quarters = k / 3 ? 16 : 8, .format = 12 + k % 3 * 2, .units = 1, .run = bench_tcq_step};
        c.bytes = (double)(1 << c.format);
        snprintf(c.name, sizeof c.name, "tcq_step_%u_%d_bits", c.quarters / 4, c.format);
        list[n++] = c;
    }
    list[n++] = (bench_case){.name = "tcqf_step", .units = 4, .bytes = 4. * 65536, .run = bench_tcqf_step};
    for (size_t tokens = 1; tokens <= 48; tokens = tokens == 1 ? 4 : tokens * 12) {
        bench_case c = {.units = all * (double)tokens, .bytes = 4 * (all + (double)tokens * B_COLS), .run = bench_dot_f32,
                        .rows = B_ROWS, .tokens = tokens};
        snprintf(c.name, sizeof c.name, "dot_f32x%zu", tokens);
        list[n++] = c;
    }
    list[n++] = (bench_case){.name = "expand", .units = all, .bytes = 5 * all, .run = bench_expand};
    list[n++] = (bench_case){.name = "expand_m", .units = all, .bytes = 5 * all, .run = bench_expand, .offset = true};
    list[n++] = (bench_case){.name = "quantize_q8", .units = B_COLS, .bytes = 5.25 * B_COLS, .run = bench_quantize};
    list[n++] = (bench_case){.name = "f16_to_f32", .units = B_COLS, .bytes = 6. * B_COLS, .run = bench_f16};
    list[n++] = (bench_case){.name = "bf16_to_f32", .units = B_COLS, .bytes = 6. * B_COLS, .run = bench_bf16};
    list[n++] = (bench_case){.name = "f32_to_f16", .units = B_COLS, .bytes = 6. * B_COLS, .run = bench_to_f16};
    list[n++] = (bench_case){.name = "rmsnorm", .units = B_COLS, .bytes = 12. * B_COLS, .run = bench_rmsnorm};
    list[n++] = (bench_case){.name = "add", .units = B_COLS, .bytes = 12. * B_COLS, .run = bench_add};
    list[n++] = (bench_case){.name = "silu_mul", .units = B_COLS, .bytes = 12. * B_COLS, .run = bench_silu};
    list[n++] = (bench_case){.name = "softmax", .units = B_COLS, .bytes = 8. * B_COLS, .run = bench_softmax};
    list[n++] = (bench_case){.name = "rope", .units = B_COLS, .bytes = 8. * B_COLS, .run = bench_rope};
    list[n++] = (bench_case){.name = "rope_interleaved", .units = B_COLS, .bytes = 8. * B_COLS, .run = bench_rope, .offset = true};
    static const size_t queries[] = {1, 2, 3, 4, 7, B_QUERIES};
    for (int f16 = 0; f16 < 2; f16++)
        for (size_t i = 0; i < sizeof queries / sizeof *queries; i++)
            for (int sum = 0; sum < 2; sum++) {
                bench_case c = {.units = (double)(B_POS * B_HD * queries[i]), .bytes = (double)(B_POS * B_HD * (f16 ? 2 : 4)),
                                .run = sum ? bench_accumulate : bench_scores, .format = f16, .rows = queries[i]};
                snprintf(c.name, sizeof c.name, "%s_%s_%zu_queries", sum ? "accumulate" : "scores", f16 ? "f16" : "f32", queries[i]);
                list[n++] = c;
            }
    list[n++] = (bench_case){.name = "weigh", .units = 4. * KERN_BLOCK, .bytes = 32. * KERN_BLOCK, .run = bench_weigh, .rows = 4};
    list[n++] = (bench_case){.name = "merge", .units = 4. * B_HD, .bytes = 48. * B_HD, .run = bench_merge, .rows = 4};
    for (size_t i = 0; i < n; i++)
        if (strstr(list[i].name, word)) bench_one(&data, &list[i]);
    return 0;
}
#endif
