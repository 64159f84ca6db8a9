/* Attention of a batch of items over the cache, block by block of KERN_BLOCK positions (kern.h has the arithmetic): a
 * block gives each query a partial result, and partial results are merged in the order of positions. So what an item
 * gets depends on its sequence up to its position and on nothing else: not on the batch, the chunks of the prompt, or
 * threads.
 *
 * A tile is a few neighbouring items of one sequence with one KV head; its queries share each pass over a block. Tiles
 * are the work that threads share. A single item that has fewer KV heads than keep the threads busy is split further:
 * its blocks are computed apart and merged afterwards. */
#include "base/thread.h"
#include "kern/kern.h"
#include "model/graph_impl.h"

#include <math.h>
#include <string.h>

enum {
    TILE_QUERIES = 32,            /* as many items per tile as have about this many queries  */
    TILES_PER_THREAD = 4,         /* with fewer tiles, tiles get smaller or are split        */
    SCORE_LD = KERN_BLOCK + 16,   /* rows that are no power of two apart spread in the cache */
    PAGES = KERN_BLOCK / KV_PAGE, /* of a block                                              */
};

/* ---------------------------------------------------------------- scratch ---- */

static size_t key_dim(const graph *g) { return g->kv.head_dim; }
static size_t value_dim(const graph *g) { return g->kv.value_dim; }

/* Queries that share a pass: those of a head of the cache. Where these are more than a tile is made for, as many as divide them. */
static size_t group_of(const graph *g) {
    const size_t all = g->cfg.n_heads / g->kv.n_kv_heads;
    size_t n = g->cfg.kv_rank && all > TILE_QUERIES ? TILE_QUERIES : all;
    while (all % n) n--;
    return n;
}

size_t graph_groups(const graph *g) { return g->cfg.n_heads / group_of(g); }

/* The head of the cache that a group reads. */
static uint32_t head_of(const graph *g, size_t group) { return (uint32_t)(group / (graph_groups(g) / g->kv.n_kv_heads)); }

static size_t tile_items(const graph *g) {
    size_t most = TILE_QUERIES / group_of(g);
    return min_u64(most ? most : 1, g->p.max_batch);
}

/* Floats of a kern_partial, lines of 16 apart. */
static size_t partial_floats(const graph *g, size_t n_q) {
    return 2 * round_up(n_q, 16) + round_up(n_q * value_dim(g), 16);
}

static kern_partial partial_at(const graph *g, float *at, size_t n_q) {
    size_t line = round_up(n_q, 16);
    return (kern_partial){.max = at, .sum = at + line, .out = at + 2 * line};
}

size_t graph_attend_stride(const graph *g) {
    size_t n_q = tile_items(g) * group_of(g);
    return max_u64(n_q * SCORE_LD + round_up(n_q * key_dim(g), 16) + 2 * partial_floats(g, n_q), graph_latent_scratch(&g->cfg));
}

size_t graph_max_blocks(const graph *g) { return div_up(g->p.n_ctx, KERN_BLOCK); }

size_t graph_block_stride(const graph *g) {
    bool splits = g->p.threads > 1 && graph_groups(g) < (uint64_t)TILES_PER_THREAD * (uint64_t)g->p.threads;
    return splits && graph_max_blocks(g) > 1 ? partial_floats(g, group_of(g)) : 0;
}

typedef struct attend_pass {
    graph *g;
    uint32_t kv_layer, window;
    const float *sinks; /* (n_heads), or NULL */
    const graph_item *items;
    size_t n_tiles; /* g->tile[0 .. n_tiles]: their first items, and the end */
} attend_pass;

typedef struct span { uint32_t begin, end; } span; /* slots of a list */

/* The queries of a tile, and what each of its items sees: begins and ends never fall from item to item. */
typedef struct tile {
    const attend_pass *p;
    const kv_seq *kv;
    uint32_t head, n_items;
    span sees[TILE_QUERIES];
    const float *q;
    float *scores;
} tile;

/* ------------------------------------------------------------------ block ---- */

/* What `b` has of `a`; it lies in `a` even when it is empty. */
static span intersection(span a, span b) {
    span out = {(uint32_t)min_u64(max_u64(a.begin, b.begin), a.end), (uint32_t)min_u64(a.end, b.end)};
    if (out.end < out.begin) out.end = out.begin;
    return out;
}

static const kv_page *page_of(const tile *t, uint32_t i) { return kv_get_page(t->kv, t->p->kv_layer, t->head, i); }

static void score(const tile *t, span block, span slots) {
    const graph *g = t->p->g;
    const uint32_t hd = (uint32_t)key_dim(g), n_q = t->n_items * (uint32_t)group_of(g);
    const float scale = g->cfg.attn_scale != 0 ? g->cfg.attn_scale : 1 / sqrtf((float)g->cfg.head_dim), cap = g->cfg.attn_softcap;
    for (uint32_t begin = slots.begin, end; begin < slots.end; begin = end) {
        uint32_t page = begin / KV_PAGE, page0 = page * KV_PAGE;
        end = (uint32_t)min_u64(slots.end, page0 + KV_PAGE);
        kv_scores(page_of(t, page), begin - page0, end - begin, hd, t->q, n_q, scale,
                  t->scores + (page0 - block.begin), SCORE_LD);
    }
    for (uint32_t k = 0; k < n_q && cap != 0; k++) {
        const uint32_t first = slots.begin - block.begin;
        kern()->softcap(t->scores + (size_t)k * SCORE_LD + first, slots.end - slots.begin, cap);
    }
}

/* Adds the values of some slots, for n items from `item` on, which all see them. The next block's keys are fetched
 * meanwhile. */
static void accumulate(const tile *t, span block, span slots, uint32_t item, uint32_t n, float *out) {
    const graph *g = t->p->g;
    const uint32_t group = (uint32_t)group_of(g);
    const size_t dim = value_dim(g);
    const uint32_t pages = kv_n_pages(t->kv, t->p->kv_layer, t->head);
    const float *w = t->scores + (size_t)item * group * SCORE_LD;
    for (uint32_t begin = slots.begin, end; begin < slots.end; begin = end) {
        uint32_t page = begin / KV_PAGE, page0 = page * KV_PAGE;
        end = (uint32_t)min_u64(slots.end, page0 + KV_PAGE);
        kv_accumulate(page_of(t, page), begin - page0, end - begin, w + (begin - block.begin), SCORE_LD, n * group,
                      out + item * group * dim, page + PAGES < pages ? page_of(t, page + PAGES) : NULL);
    }
}

/* The slots in `limits` that the items see, each by itself. */
static void accumulate_each(const tile *t, span block, span limits, float *out) {
    for (uint32_t i = 0; i < t->n_items; i++) accumulate(t, block, intersection(limits, t->sees[i]), i, 1, out);
}

/* What all items see is read once for all; before and behind that, each has slots of its own. */
static void accumulate_all(const tile *t, span block, float *out) {
    span common = intersection(block, (span){t->sees[t->n_items - 1].begin, t->sees[0].end});
    accumulate_each(t, block, (span){block.begin, common.begin}, out);
    accumulate(t, block, common, 0, t->n_items, out);
    accumulate_each(t, block, (span){common.end, block.end}, out);
}

static span block_span(uint32_t b) { return (span){b * KERN_BLOCK, (b + 1) * KERN_BLOCK}; }

/* Block number `b`: the partial result of each item that sees something of it. */
static void attend_block(const tile *t, uint32_t b, const kern_partial *part) {
    const graph *g = t->p->g;
    const uint32_t group = (uint32_t)group_of(g);
    const span block = block_span(b);
    score(t, block, intersection(block, (span){t->sees[0].begin, t->sees[t->n_items - 1].end}));
    for (uint32_t i = 0; i < t->n_items; i++) {
        span s = intersection(block, t->sees[i]);
        if (s.begin == s.end) continue;
        kern()->weigh(t->scores + (size_t)i * group * SCORE_LD, SCORE_LD, group, s.begin - block.begin,
                      s.end - block.begin, part->max + i * group, part->sum + i * group);
    }
    memset(part->out, 0, t->n_items * group * value_dim(g) * sizeof *part->out);
    accumulate_all(t, block, part->out);
}

/* ---------------------------------------------------------------- merging ---- */

/* Of n_q queries of a tile of KV head `head`, before any block: nothing, or the head's sink, a score to which no value belongs. */
static void begin_state(const attend_pass *p, size_t head, const kern_partial *state, size_t n_q) {
    const graph *g = p->g;
    const size_t group = group_of(g);
    for (size_t h = 0; h < n_q; h++) state->max[h] = p->sinks ? p->sinks[head * group + h % group] : -INFINITY, state->sum[h] = p->sinks ? 1 : 0;
    memset(state->out, 0, n_q * value_dim(g) * sizeof *state->out);
}

/* From query h on */
static kern_partial partial_from(const graph *g, const kern_partial *p, size_t h) {
    return (kern_partial){p->max + h, p->sum + h, p->out + h * value_dim(g)};
}

static void merge_block(const tile *t, uint32_t b, const kern_partial *part, const kern_partial *state) {
    const graph *g = t->p->g;
    const size_t group = group_of(g);
    for (uint32_t i = 0; i < t->n_items; i++) {
        span s = intersection(block_span(b), t->sees[i]);
        if (s.begin == s.end) continue;
        kern_partial from = partial_from(g, part, i * group), to = partial_from(g, state, i * group);
        kern()->merge(&from, group, value_dim(g), &to);
    }
}

static void finish(const graph *g, const kern_partial *state, size_t n_q, float *out) {
    const size_t dim = value_dim(g);
    for (size_t h = 0; h < n_q; h++) {
        const float k = 1 / state->sum[h];
        for (size_t d = 0; d < dim; d++) out[h * dim + d] = state->out[h * dim + d] * k;
    }
}

/* ------------------------------------------------------------------ tiles ---- */

/* What attention gives a group goes to the same place, one head's values behind the other's. */
static float *queries_at(const graph *g, size_t item, size_t group) {
    return g->q + item * g->q_ld + group * group_of(g) * key_dim(g);
}

static tile tile_at(const attend_pass *p, size_t i, size_t group) {
    const uint32_t first = p->g->tile[i];
    tile t = {.p = p, .kv = p->items[first].kv, .head = head_of(p->g, group), .n_items = p->g->tile[i + 1] - first};
    for (uint32_t k = 0; k < t.n_items; k++) {
        span *s = &t.sees[k];
        s->end = kv_visible(t.kv, p->kv_layer, t.head, p->items[first + k].pos, p->window, &s->begin);
        s->end += s->begin;
    }
    return t;
}

/* Indices are group * n_tiles + tile: threads work on neighbouring tiles, which read the same keys and values. */
static void attend_tiles(void *ctx, size_t begin, size_t end, int worker) {
    const attend_pass *p = ctx;
    const graph *g = p->g;
    const size_t group = group_of(g), row = group * key_dim(g), most = tile_items(g) * group;
    float *q = g->attend_scratch + (size_t)worker * g->attend_stride;
    float *scores = q + round_up(most * key_dim(g), 16);
    const kern_partial part = partial_at(g, scores + most * SCORE_LD, most),
                       state = partial_at(g, scores + most * SCORE_LD + partial_floats(g, most), most);
    for (size_t i = begin; i < end; i++) {
        const size_t of = i / p->n_tiles, first = g->tile[i % p->n_tiles];
        tile t = tile_at(p, i % p->n_tiles, of);
        t.q = q;
        t.scores = scores;
        for (uint32_t k = 0; k < t.n_items; k++) memcpy(q + k * row, queries_at(g, first + k, of), row * sizeof *q);
        begin_state(p, of, &state, t.n_items * group);
        for (uint32_t b = t.sees[0].begin / KERN_BLOCK; b * KERN_BLOCK < t.sees[t.n_items - 1].end; b++) {
            attend_block(&t, b, &part);
            merge_block(&t, b, &part, &state);
        }
        for (uint32_t k = 0; k < t.n_items; k++) {
            kern_partial of_item = partial_from(g, &state, k * group);
            finish(g, &of_item, group, queries_at(g, first + k, of));
        }
    }
}

/* Tiles of up to n_items neighbours with the same sequence. */
static void cut_tiles(attend_pass *p, size_t n, size_t n_items) {
    uint32_t *first = p->g->tile;
    p->n_tiles = 0;
    for (size_t i = 0, run; i < n; i += run) {
        for (run = 1; i + run < n && run < n_items && p->items[i + run].kv == p->items[i].kv; run++) {}
        first[p->n_tiles++] = (uint32_t)i;
    }
    first[p->n_tiles] = (uint32_t)n;
}

/* --------------------------------------------------------- one item, split ---- */

typedef struct split_pass { attend_pass p; uint32_t first, n_blocks; } split_pass;

static kern_partial block_partial(const graph *g, size_t head, size_t b) {
    return partial_at(g, g->blocks + (head * graph_max_blocks(g) + b) * g->block_stride, group_of(g));
}

/* Indices are head * n_blocks + block. */
static void attend_blocks(void *ctx, size_t begin, size_t end, int worker) {
    const split_pass *s = ctx;
    const graph *g = s->p.g;
    for (size_t i = begin; i < end; i++) {
        size_t head = i / s->n_blocks, b = i % s->n_blocks;
        kern_partial part = block_partial(g, head, b);
        tile t = tile_at(&s->p, 0, head);
        t.q = queries_at(g, 0, head);
        t.scores = g->attend_scratch + (size_t)worker * g->attend_stride;
        attend_block(&t, s->first + (uint32_t)b, &part);
    }
}

static void merge_heads(void *ctx, size_t begin, size_t end, int worker) {
    const split_pass *s = ctx;
    const graph *g = s->p.g;
    const size_t group = group_of(g);
    const kern_partial state = partial_at(g, g->attend_scratch + (size_t)worker * g->attend_stride, group);
    for (size_t head = begin; head < end; head++) {
        tile t = tile_at(&s->p, 0, head);
        begin_state(&s->p, head, &state, group);
        for (uint32_t b = 0; b < s->n_blocks; b++) {
            kern_partial part = block_partial(g, head, b);
            merge_block(&t, s->first + b, &part, &state);
        }
        finish(g, &state, group, queries_at(g, 0, head));
    }
}

static void attend_split(const attend_pass *p, int threads) {
    const graph *g = p->g;
    const size_t heads = graph_groups(g);
    const tile t = tile_at(p, 0, 0); /* a sequence's lists are alike */
    split_pass s = {.p = *p, .first = t.sees[0].begin / KERN_BLOCK};
    s.n_blocks = (uint32_t)div_up(t.sees[0].end, KERN_BLOCK) - s.first;
    thread_for(threads, heads * s.n_blocks, 1, attend_blocks, &s);
    double work = 2.0 * (double)(heads * s.n_blocks * group_of(g) * value_dim(g));
    thread_for(graph_threads(g, work), heads, 1, merge_heads, &s);
}

void graph_attend(graph *g, uint32_t kv_layer, uint32_t window, const float *sinks, const graph_item *items, size_t n) {
    attend_pass p = {.g = g, .kv_layer = kv_layer, .window = window, .sinks = sinks, .items = items};
    const size_t heads = graph_groups(g), wanted = (size_t)TILES_PER_THREAD * (size_t)g->p.threads;
    double seen = items[n - 1].pos + 1.0; /* how far back the last one looks: typical for a chunk of one text */
    if (window && seen > window) seen = window;
    int threads = graph_threads(g, seen * (double)n * g->cfg.n_heads * (double)(key_dim(g) + value_dim(g)));
    cut_tiles(&p, n, threads > 1 ? max_u64(1, min_u64(tile_items(g), n * heads / wanted)) : tile_items(g));
    if (n == 1 && threads > 1 && g->block_stride) attend_split(&p, threads);
    else thread_for(threads, heads * p.n_tiles, 1, attend_tiles, &p);
}
