/* The search for the dense trellis code: Viterbi's algorithm over the states of a tile of columns, each step the least cost of every node, which is
 * what a state leaves to the next one (kern's tcq_step), and the way back found by asking again, on the path alone, which state it was.
 *
 * States have 16 bits, of which the search may use the newest 12 or 13 alone: a panel's mask says so. In here they are counted with the newest
 * bits lowest.
 *
 * A tile begins where the one before it ended; its end is free, but chosen with a look at some weights to the right, so that what follows starts
 * well. Without feedback, where many columns come at once, tiles are as wide as there is room for. Groups of 128 columns may be taken in any order
 * (solve/ldlq.c): one whose left neighbour comes later chooses what stands before it, and that one has to end so.
 *
 * Bands of columns have rates of their own, half a bit more for twice the importance: so all of them cost about the same, and by that the mean that
 * counts is the importances' geometric one.
 *
 * Costs are squares of what a level misses, in units of the row's d, times the row's d^2 and the column's importance in its band; a common one is
 * COST, and one beyond MOST_MISS, 27 times a common miss, is as bad as any. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include "base/f16.h"
#include "codec/tcq.h"
#include "codec/vec.h"

enum { GROUP = 128, WORD_STEPS = TCQ_WORD * KERN_PANEL_ROWS, TILE = 8, WIDEST = 32, TILE_STEPS = TILE / TCQ_WORD * WORD_STEPS, MOST_LOOK = 2 * WORD_STEPS, MAX_STEPS = WIDEST / TCQ_WORD * WORD_STEPS + MOST_LOOK,
       STATES = 32 * KERN_PANEL_ROWS /* of a chunk */, MOST_PARTS = 8, MOST_BITS = 16, SLACK = 32 /* beyond nodes, for kernels that read ahead */, COST = 16, MOST_MISS = 255, BEYOND = 64 };
static const float COMMON_MISS = 9.5f, LIGHTEST = 0x1p-4f, HEAVIEST = 0x1p4f;

/* What a rate of 1, 2, ... bits wants, found on Gaussian rows: the standard deviation of the levels relative to the weights'. */
static const double wide_for[] = {0.93, 1.02, 1.06, 1.10, 1.15, 1.2};

typedef struct step {
    const uint16_t *level; /* (2^bits): codes in parts */
    int x;                 /* the weight, likewise     */
    uint16_t weight;       /* what a miss costs        */
    uint8_t width;         /* bits of the step         */
} step;
/* Of a chunk: where its stream begins, in bits; its rate, in quarters; codes are counted in 2^parts, so that a common miss is COMMON_MISS; cost of a square,
 * 2^-16; 1 / the mean importance of its band. */
typedef struct part { size_t begin; unsigned rate, parts; float unit, level_out; } part;

typedef struct tcq_enc { /* followed by the arrays */
    size_t n_rows, n_panels, cols, n_chunks, ahead, look, panel_bytes, node_room;
    size_t wide, far;          /* columns of a tile at most; the look of one that was not cut to TILE columns by feedback */
    unsigned quarters, fields, bits; /* bits: of a state, that are searched */
    unsigned form, band;       /* of panels (kern_tcq_form); chunks of a band */
    float spread;              /* of weights over d that the code is made for */
    part *part;                /* (n_chunks + 1): the last begins where the stream ends         */
    uint16_t *d;               /* (n_panels, 16), bf16                                          */
    float *inverse;            /* (n_panels, 16): 1 / d; 0: the row is 0, or padding             */
    float *row;                /* (n_panels, 16): weight of the row's errors                    */
    float *col;                /* (32 n_chunks): of the columns'; 0: padding                    */
    uint8_t *stream;           /* (n_panels, panel_bytes): the mask, then the states' bits      */
    uint8_t *rates;            /* of the bands, as panels have them                             */
    uint8_t *begun, *ended;    /* (groups): its first tile has been rounded; its last has       */
    uint16_t *level[MOST_PARTS]; /* (2^bits): codes times 2^index, where a chunk has such parts */
    bool known[MOST_PARTS];
    uint16_t *m;               /* (steps of a tile and its look + 1, node_room): least costs of the nodes before each step */
    step *step;                /* (MAX_STEPS + 1)                                               */
    uint16_t *open[2];         /* (2^bits): costs of the ways from a known beginning            */
    size_t proposed_at, proposed_bytes; /* in stream: what `proposed` would replace              */
    uint8_t proposed[TILE_STEPS * TCQ_QUARTERS_MAX / 4 / 8];
} tcq_enc;

/* Takes the next n bytes from *at on. */
static void *take(uintptr_t *at, size_t n) {
    void *p = (void *)*at;
    *at += round_up(n, 64);
    return p;
}

/* Of a band, in quarters: the codes of a rate are too coarse for much higher ones. */
static unsigned least_rate(unsigned quarters) { return quarters > TCQ_QUARTERS_MIN + TCQ_OWN_RATE ? quarters - TCQ_OWN_RATE : TCQ_QUARTERS_MIN; }
static unsigned most_rate(unsigned quarters) {
    const unsigned most = kern_tcq_fields(quarters) == 4 ? 16 : kern_tcq_fields(quarters) == 5 ? 22 : TCQ_QUARTERS_MAX;
    return most < quarters + TCQ_OWN_RATE - 1 ? most : quarters + TCQ_OWN_RATE - 1;
}

static size_t steps_of(size_t cols) { return cols / TCQ_WORD * WORD_STEPS; }
/* Of least costs, for the least rate and all states; a tile whose bands have none so low, or fewer states, may be wider in it. */
static size_t m_room(unsigned quarters) { return (TILE_STEPS + MOST_LOOK + 1) * (((size_t)1 << (MOST_BITS - least_rate(quarters) / 4)) + SLACK); }

/* Gives each array its place from `base` on; returns where they end. */
static uintptr_t lay_out(tcq_enc *e, uintptr_t base, codec_params p, size_t n_rows, size_t cols) {
    const size_t panels = div_up(n_rows, KERN_PANEL_ROWS), chunks = div_up(cols, 32), rows = panels * KERN_PANEL_ROWS, groups = div_up(cols, GROUP);
    uintptr_t at = base;
    e->step = take(&at, (MAX_STEPS + 1) * sizeof *e->step);
    e->d = take(&at, rows * sizeof *e->d);
    e->inverse = take(&at, rows * sizeof *e->inverse);
    e->row = take(&at, rows * sizeof *e->row);
    e->col = take(&at, 32 * chunks * sizeof *e->col);
    e->begun = take(&at, groups);
    e->ended = take(&at, groups);
    e->part = take(&at, (chunks + 1) * sizeof *e->part);
    e->panel_bytes = sizeof(uint16_t) + chunks * kern_tcq_chunk_bytes(p.rank);
    e->stream = take(&at, panels * e->panel_bytes + sizeof(uint32_t));
    e->rates = take(&at, kern_tcq_mask_at(kern_tcq_form(p.rank, p.group), chunks) - TCQ_RATES);
    for (int i = 0; i < MOST_PARTS; i++) e->level[i] = take(&at, sizeof(uint16_t) << MOST_BITS);
    for (int i = 0; i < 2; i++) e->open[i] = take(&at, sizeof(uint16_t) << MOST_BITS);
    e->m = take(&at, m_room(p.rank) * sizeof *e->m);
    return at;
}
static size_t head_bytes(void) { return round_up(sizeof(tcq_enc), 64); }

size_t tcq_enc_bytes(codec_params p, size_t n_rows, size_t cols) {
    uint64_t weights;
    tcq_enc none;
    if (n_rows > SIZE_MAX / 64 || cols > SIZE_MAX / 64) return 0;
    if (!checked_mul(round_up(n_rows, KERN_PANEL_ROWS), round_up(cols, 32), &weights) || weights > SIZE_MAX / 64) return 0;
    return head_bytes() + lay_out(&none, 0, p, n_rows, cols);
}
uint32_t tcq_group_cols(codec_params p) { return GROUP; }

/* The lowest n bits, in the other order. */
static unsigned reversed(unsigned x, unsigned n) {
    unsigned y = 0;
    for (unsigned i = 0; i < n; i++) y |= (x >> i & 1) << (n - 1 - i);
    return y;
}

void tcq_enc_init(void *enc, codec_params p, size_t n_rows, size_t cols, int effort) {
    tcq_enc *e = enc;
    lay_out(e, (uintptr_t)enc + head_bytes(), p, n_rows, cols);
    e->n_rows = n_rows, e->cols = cols;
    e->n_panels = div_up(n_rows, KERN_PANEL_ROWS), e->n_chunks = div_up(cols, 32);
    e->ahead = 0;
    e->quarters = p.rank, e->fields = kern_tcq_fields(p.rank);
    e->form = kern_tcq_form(p.rank, p.group), e->band = 1u << kern_tcq_shift(e->form);
    e->bits = effort == SNUG_EFFORT_QUICK ? 12 : effort == SNUG_EFFORT_MAX ? MOST_BITS : 13;
    e->look = effort == SNUG_EFFORT_QUICK ? 16 : effort == SNUG_EFFORT_MAX ? WORD_STEPS : 24;
    e->far = effort == SNUG_EFFORT_MAX ? MOST_LOOK : WORD_STEPS;
    const double rate = p.rank / 4.0, at = rate - 1, values = (double)(1u << e->fields), between = at - floor(at);
    const size_t i = (size_t)at, next = i + 1 < sizeof wide_for / sizeof *wide_for ? i + 1 : i;
    const double sigma = sqrt(4 * (values * values - 1) / 12); /* of a sum of four fields */
    e->spread = (float)(sigma / ((1 - between) * wide_for[i] + between * wide_for[next]));
    memset(e->known, 0, sizeof e->known);
    memset(e->d, 0, e->n_panels * KERN_PANEL_ROWS * sizeof *e->d);
    memset(e->col, 0, 32 * e->n_chunks * sizeof *e->col);
    memset(e->begun, 0, div_up(cols, GROUP));
    memset(e->ended, 0, div_up(cols, GROUP));
    const uint16_t mask = (uint16_t)(0xffffu << (MOST_BITS - e->bits));
    memset(e->stream, 0, e->n_panels * e->panel_bytes + sizeof(uint32_t));
    for (size_t panel = 0; panel < e->n_panels; panel++) memcpy(e->stream + panel * e->panel_bytes, &mask, sizeof mask);
}

/* A row's scale: what makes its weights those that the levels were made for, and more where many are too large for it: the least of what a
 * larger scale costs all of them, by s^2, and of the squares beyond the outermost levels. Feedback adds some variance to what is rounded. */
static uint16_t scale_of(const tcq_enc *e, const float *w, const float *a, size_t n) {
    const double grain = exp2(-0.5 * e->quarters), edge = kern_tcq_zero(e->fields) / e->spread;
    double sum = 0, all = 0, best = INFINITY, at = 1;
    for (size_t i = 0; i < n; i++) sum += (a ? a[i] : 1) * (double)w[i] * w[i], all += a ? a[i] : 1;
    const double rms = sqrt(sum / all);
    for (double s = 1; s < 8 && rms > 0; s *= 1.05) {
        double beyond = 0;
        for (size_t i = 0; i < n; i++) {
            const double x = fabs((double)w[i]) / rms - edge * s;
            if (x > 0) beyond += (a ? a[i] : 1) * x * x;
        }
        const double cost = grain * s * s + beyond / all;
        if (cost < best) best = cost, at = s;
    }
    return f32_to_bf16((float)(rms * at / e->spread));
}

/* Gives chunks c .. c + n - 1, a band, a rate. */
static void set_rate(tcq_enc *e, size_t c, size_t n, unsigned rate, float mean) {
    const float common = sqrtf(1.15f * exp2f(-0.5f * (float)rate)) * e->spread;
    unsigned parts = 0;
    while (parts + 1 < MOST_PARTS && (float)(2u << parts) * common < 1.4f * COMMON_MISS) parts++;
    const float one = (float)(1u << parts);
    for (size_t i = c; i < c + n; i++)
        e->part[i] = (part){.rate = rate, .parts = parts, .unit = (float)COST * 65536 / (common * common * one * one), .level_out = 1 / mean};
    e->rates[c / (2 * e->band)] |= (uint8_t)((rate - e->quarters + TCQ_OWN_RATE) << 4 * (c / e->band % 2));
    for (unsigned y = 0; !e->known[parts] && y < 1u << e->bits; y++)
        e->level[parts][y] = (uint16_t)(kern_tcq_code(reversed(y, MOST_BITS), e->fields) << parts);
    e->known[parts] = true;
}

static float mean_of(const float *a, size_t n, size_t over) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += a ? a[i] : 1;
    return (float)(sum / (double)over);
}

/* All bands begin with the least rate; each quarter goes to the band in which an error costs most by then. Chunks beside the bands have the payload's. */
static void share_rates(tcq_enc *e, const float *a) {
    const size_t bands = e->n_chunks / e->band, width = 32 * (size_t)e->band;
    const unsigned least = least_rate(e->quarters), most = most_rate(e->quarters);
    part *const of = e->part; /* b: band b's rate, and what an error costs in unit */
    for (size_t b = 0; b < bands; b++) {
        const size_t n = e->cols - b * width < width ? e->cols - b * width : width;
        of[b].unit = mean_of(a ? a + b * width : NULL, n, a ? width : n), of[b].rate = least;
    }
    for (size_t left = bands * (e->quarters - least); left > 0; left--) {
        size_t at = 0;
        for (size_t b = 1; b < bands; b++)
            if (of[b].unit > of[at].unit) at = b;
        of[at].unit = ++of[at].rate == most ? -1 : of[at].unit * 0.70710678f;
    }
    memset(e->rates, 0, kern_tcq_mask_at(e->form, e->n_chunks) - TCQ_RATES);
    if (e->n_chunks % e->band) of[bands].rate = e->quarters;
    for (size_t b = div_up(e->n_chunks, e->band); b-- > 0;) { /* a band's chunks stand behind its own place */
        const size_t c = b * e->band, n = e->n_chunks - c < e->band ? e->n_chunks - c : e->band;
        const size_t cols = e->cols - 32 * c < 32 * n ? e->cols - 32 * c : 32 * n;
        set_rate(e, c, n, of[b].rate, mean_of(a ? a + 32 * c : NULL, cols, cols));
    }
    size_t begin = 0;
    unsigned lowest = e->quarters;
    for (size_t c = 0; c < e->n_chunks; c++) {
        e->part[c].begin = begin, begin += STATES * e->part[c].rate / 4;
        if (e->part[c].rate < lowest) lowest = e->part[c].rate;
    }
    e->node_room = ((size_t)1 << (e->bits - lowest / 4)) + SLACK;
    for (e->wide = WIDEST; (steps_of(e->wide) + MOST_LOOK + 1) * e->node_room > m_room(e->quarters);) e->wide /= 2;
    e->part[e->n_chunks] = (part){.begin = begin, .rate = e->quarters};
}

void tcq_begin(void *enc, const float *w, size_t ldw, const float *a) {
    tcq_enc *e = enc;
    share_rates(e, a);
    for (size_t c = 0; c < e->cols; c++) e->col[c] = a ? a[c] * e->part[c / 32].level_out : 1;
    for (size_t r = 0; r < e->n_rows; r++) e->d[r] = scale_of(e, w + r * ldw, a, e->cols);
    tcq_weigh_rows(e->n_panels, e->d, e->inverse, e->row);
}

void tcq_group(void *enc, size_t col0, size_t n, const float *w, size_t ldw, const float *a) {} /* columns were weighed by tcq_begin: a look goes beyond the group */

void tcq_ahead(void *enc, size_t n) {
    tcq_enc *e = enc;
    e->ahead = n;
}

/* ---- bits of a panel's stream, in front of whose bit 0 there are 16; states are counted from the panel's first ---- */

static uint8_t *stream_of(const tcq_enc *e, size_t panel) { return e->stream + panel * e->panel_bytes; }
static size_t end_of(const tcq_enc *e, size_t state) { return e->part[state / STATES].begin + (state % STATES + 1) * e->part[state / STATES].rate / 4; }
static size_t begin_of(const tcq_enc *e, size_t state) { return e->part[state / STATES].begin + state % STATES * e->part[state / STATES].rate / 4; }

/* The 16 bits before bit `end`. */
static unsigned bits_before(const uint8_t *stream, size_t end) {
    uint32_t v;
    memcpy(&v, stream + end / 8, sizeof v); /* the streams' end has room for it */
    return v >> end % 8 & 0xffff;
}
/* The n bits before bit `end` become those of `bits`, newest lowest. */
static void put_before(uint8_t *stream, size_t end, unsigned n, unsigned bits) {
    for (unsigned i = 0; i < n; i++) {
        const size_t at = end - 1 - i + 16;
        stream[at / 8] = (uint8_t)((stream[at / 8] & ~(1u << at % 8)) | (bits >> i & 1) << at % 8);
    }
}

/* ---- searching ---- */

typedef struct tile { /* `keep` steps are stored, `look` more seen; w: column col0 of the panel's first row */
    size_t panel, col0, keep, look;
    const float *w;
    size_t ldw;
    bool free_start, fixed_end;
} tile;
static size_t first_state(const tile *t) { return t->col0 / TCQ_WORD * WORD_STEPS; }

static void fill_step(const tcq_enc *e, const tile *t, size_t i, step *s) {
    const size_t row = i % WORD_STEPS / TCQ_WORD, r = t->panel * KERN_PANEL_ROWS + row, c = i / WORD_STEPS * TCQ_WORD + i % TCQ_WORD;
    const part *p = &e->part[(t->col0 + c) / 32];
    const float inverse = e->inverse[r], zero = (float)kern_tcq_zero(e->fields), parts = (float)(1u << p->parts);
    s->level = e->level[p->parts];
    s->width = (uint8_t)(end_of(e, first_state(t) + i) - begin_of(e, first_state(t) + i));
    s->x = 0, s->weight = 0;
    if (t->col0 + c >= e->cols || !(inverse > 0)) return;
    const float x = (t->w[row * t->ldw + c] * inverse + zero) * parts, weight = fminf(fmaxf(e->row[r] * e->col[t->col0 + c], LIGHTEST), HEAVIEST);
    s->x = (int)rint_magic(fminf(fmaxf(x, -BEYOND), 2 * zero * parts + BEYOND));
    s->weight = (uint16_t)fminf(p->unit * weight, 65535);
}

static uint16_t *nodes_before(const tcq_enc *e, size_t i) { return e->m + i * e->node_room; }
static unsigned node_bits(const tcq_enc *e, size_t i) { return e->bits - e->step[i].width; }

static unsigned miss_cost(const step *s, unsigned level) {
    const unsigned d = (unsigned)abs((int)level - s->x), miss = d < MOST_MISS ? d : MOST_MISS;
    return miss * miss * s->weight >> 16;
}
static unsigned cost_of(const tcq_enc *e, size_t i, unsigned state) {
    const step *s = &e->step[i];
    return nodes_before(e, i)[state >> s->width] + miss_cost(s, s->level[state]);
}

/* Of the nodes before step i those stay alive whose newest n bits are `bits`; the least of them becomes 0. */
static void hold(const tcq_enc *e, size_t i, unsigned n, unsigned bits) {
    const size_t n_nodes = (size_t)1 << node_bits(e, i), mask = ((size_t)1 << n) - 1;
    uint16_t *m = nodes_before(e, i), least = UINT16_MAX;
    for (size_t k = bits; k < n_nodes; k += mask + 1) least = m[k] < least ? m[k] : least;
    for (size_t k = 0; k < n_nodes; k++) m[k] = (k & mask) == bits ? (uint16_t)(m[k] - least) : UINT16_MAX;
}

/* out[i] = what levels[i] costs. */
VEC_CLONES static void open_costs(const uint16_t *levels, size_t n, const step *s, uint16_t *out) {
    const step own = *s;
    for (size_t i = 0; i < n; i++) out[i] = (uint16_t)miss_cost(&own, levels[i]);
}

/* From a known node all ways part, until there are as many as nodes: they stand in e->open[0]. Fills the nodes before the step that is
 * returned; done: how many bits may be any. */
static size_t open_ways(tcq_enc *e, unsigned node, size_t steps, unsigned *done) {
    const unsigned all = (1u << e->bits) - 1;
    size_t i = 0;
    e->open[0][0] = 0;
    for (*done = 0; i < steps && *done < node_bits(e, i); i++) {
        const step *s = &e->step[i];
        const size_t before = (size_t)1 << *done;
        *done += s->width;
        open_costs(s->level + (node << *done & all), (size_t)1 << *done, s, e->open[1]);
        for (size_t way = 0; way < before; way++)
            for (size_t b = 0; b < (size_t)1 << s->width; b++) {
                uint16_t *cost = &e->open[1][way << s->width | b];
                *cost = (uint16_t)(*cost + e->open[0][way] < UINT16_MAX ? *cost + e->open[0][way] : UINT16_MAX);
            }
        uint16_t *swap = e->open[0];
        e->open[0] = e->open[1], e->open[1] = swap;
    }
    uint16_t *m = nodes_before(e, i);
    const unsigned mask = (1u << node_bits(e, i)) - 1;
    memset(m, 255, (mask + 1) * sizeof *m);
    for (unsigned way = 0; way < 1u << *done; way++) {
        uint16_t *at = &m[(node << *done | way) & mask];
        *at = e->open[0][way] < *at ? e->open[0][way] : *at;
    }
    return i;
}

/* Of the ways to a node after the open steps, the cheapest one. */
static unsigned open_way(const tcq_enc *e, size_t opened, unsigned done, unsigned node) {
    unsigned best = UINT_MAX, at = node & ((1u << done) - 1);
    for (unsigned way = at; way < 1u << done; way += 1u << node_bits(e, opened))
        if (e->open[0][way] < best) best = e->open[0][way], at = way;
    return at;
}

/* Searches the tile, and puts its bits into the stream. */
static void search(tcq_enc *e, const tile *t) {
    uint8_t *stream = stream_of(e, t->panel);
    const size_t steps = t->keep + t->look, first = first_state(t), begin = begin_of(e, first), end = begin_of(e, first + steps);
    for (size_t i = 0; i < steps; i++) fill_step(e, t, i, &e->step[i]);
    e->step[steps].width = (uint8_t)(end_of(e, first + steps) - end);
    unsigned least = 0, done = 0, node = reversed(bits_before(stream, begin), MOST_BITS) & ((1u << node_bits(e, 0)) - 1);
    const unsigned held = t->fixed_end ? node_bits(e, steps) : 0, held_bits = reversed(bits_before(stream, end), MOST_BITS);
    if (t->free_start) memset(nodes_before(e, 0), 0, sizeof(uint16_t) << node_bits(e, 0));
    const size_t opened = t->free_start ? 0 : open_ways(e, node, steps, &done);
    for (size_t i = opened; i < steps; i++) {
        const step *s = &e->step[i];
        least = kern()->tcq_step(s->level, (int)e->bits, s->width, e->step[i + 1].width, s->x, s->weight, nodes_before(e, i), least, nodes_before(e, i + 1));
        const size_t after = end - end_of(e, first + i); /* bits that come behind this step's */
        if (held <= after) continue;
        const unsigned n = held - (unsigned)after < s->width ? held - (unsigned)after : s->width;
        hold(e, i + 1, n, held_bits >> after & ((1u << n) - 1));
        least = 0;
    }
    const uint16_t *m = nodes_before(e, steps);
    node = held_bits & ((1u << held) - 1);
    for (unsigned k = 1; !held && k < 1u << node_bits(e, steps); k++)
        if (m[k] < m[node]) node = k;
    for (size_t i = steps; i-- > opened;) {
        const unsigned up = node_bits(e, i + 1), width = e->step[i].width;
        unsigned best = UINT_MAX, state = node;
        for (unsigned j = 0; j < 1u << e->step[i + 1].width; j++) {
            const unsigned cost = cost_of(e, i, j << up | node);
            if (cost < best) best = cost, state = j << up | node;
        }
        if (i < t->keep) put_before(stream, end_of(e, first + i), width, state);
        node = state >> width;
    }
    if (t->free_start) put_before(stream, begin, node_bits(e, 0), node);
    unsigned way = open_way(e, opened, done, node);
    for (size_t i = opened; i-- > 0; way >>= e->step[i].width)
        if (i < t->keep) put_before(stream, end_of(e, first + i), e->step[i].width, way);
}

/* Columns [col0, col0 + n) of the panel's rows as the stream has them, w_hat's first row being the panel's. */
static void decode_tile(const tcq_enc *e, size_t panel, size_t col0, size_t n, float *w_hat, size_t ldh) {
    const uint8_t *stream = stream_of(e, panel);
    const unsigned mask = stream[0] | (unsigned)stream[1] << 8;
    const size_t rows = e->n_rows - panel * KERN_PANEL_ROWS;
    for (size_t r = 0; r < rows && r < KERN_PANEL_ROWS; r++) {
        const float d = bf16_to_f32(e->d[panel * KERN_PANEL_ROWS + r]);
        for (size_t c = col0; c < col0 + n; c++) {
            const size_t state = c / TCQ_WORD * WORD_STEPS + TCQ_WORD * r + c % TCQ_WORD;
            const int q = (int)kern_tcq_code(bits_before(stream, end_of(e, state)) & mask, e->fields) - kern_tcq_zero(e->fields);
            w_hat[r * ldh + c - col0] = d * (float)q;
        }
    }
}

void tcq_round(void *enc, size_t col0, size_t n, const float *w, size_t ldw, float *w_hat, size_t ldh) {
    tcq_enc *e = enc;
    const bool last = col0 + n == e->cols;
    const size_t all = last ? 32 * e->n_chunks - col0 : n, group = col0 / GROUP;
    for (size_t panel = 0; panel < e->n_panels; panel++) {
        const size_t row0 = panel * KERN_PANEL_ROWS;
        for (size_t c = 0, wide; c < all; c += wide) {
            wide = all - c < e->wide ? all - c : e->wide;
            const size_t at = col0 + c, end = at + wide, seen = (all - c - wide + (last ? 0 : e->ahead)) / TCQ_WORD * WORD_STEPS, look = n > TILE ? e->far : e->look, g = at / GROUP;
            const tile t = {.panel = panel, .col0 = at, .keep = steps_of(wide), .look = seen < look ? seen : look,
                            .w = w + row0 * ldw + c, .ldw = ldw, .free_start = at && at % GROUP == 0 && !e->ended[g - 1], .fixed_end = end == (g + 1) * GROUP && end < e->cols && e->begun[g + 1]};
            search(e, &t);
        }
        if (w_hat) decode_tile(e, panel, col0, n, w_hat + row0 * ldh, ldh);
    }
    if (col0 % GROUP == 0) e->begun[group] = 1;
    if ((col0 + n) % GROUP == 0 || last) e->ended[group] = 1;
    e->ahead = 0;
}

void tcq_propose(void *enc, size_t row0, size_t col0, size_t n, const float *w, size_t ldw, const float *a, float *w_hat, size_t ldh) {
    tcq_enc *e = enc;
    const size_t bytes = TILE_STEPS * e->part[col0 / 32].rate / 4 / 8;
    const float mean = mean_of(a, n, n);
    const tile t = {.panel = row0 / KERN_PANEL_ROWS, .col0 = col0, .keep = TILE_STEPS, .w = w, .ldw = ldw, .fixed_end = true};
    uint8_t *at = stream_of(e, t.panel) + sizeof(uint16_t) + begin_of(e, first_state(&t)) / 8, before[sizeof e->proposed];
    for (size_t i = 0; i < n; i++) e->col[col0 + i] = a[i] / mean;
    memcpy(before, at, bytes);
    search(e, &t);
    decode_tile(e, t.panel, col0, n, w_hat, ldh);
    e->proposed_at = (size_t)(at - e->stream), e->proposed_bytes = bytes;
    memcpy(e->proposed, at, bytes);
    memcpy(at, before, bytes);
}

void tcq_accept(void *enc) {
    tcq_enc *e = enc;
    memcpy(e->stream + e->proposed_at, e->proposed, e->proposed_bytes);
}

void tcq_pack(const void *enc, uint8_t *dst) {
    const tcq_enc *e = enc;
    for (size_t panel = 0; panel < e->n_panels; panel++) {
        for (size_t r = 0; r < KERN_PANEL_ROWS; r++, dst += 2) dst[0] = (uint8_t)e->d[panel * KERN_PANEL_ROWS + r], dst[1] = (uint8_t)(e->d[panel * KERN_PANEL_ROWS + r] >> 8);
        const size_t rates = kern_tcq_mask_at(e->form, e->n_chunks) - TCQ_RATES;
        memcpy(dst, e->rates, rates);
        memcpy(dst + rates, stream_of(e, panel), e->panel_bytes);
        dst += rates + e->panel_bytes;
    }
}
