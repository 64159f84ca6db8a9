/* The search for the fast trellis code: Viterbi's algorithm over the bytes of a tile of columns, each step the exact least cost of every byte that may
 * come next (kern's tcqf_step), and the way back found by asking again, on the path alone, which byte came before.
 *
 * A tile's first state has the byte before it, which is settled; its end is free, but chosen with a look at some columns to the right,
 * so that what follows starts well. Groups of 128 columns may be taken in any order (solve/ldlq.c): each begins as if the byte before it
 * were 0 and ends with a byte that is 0.
 *
 * Costs are squares of what a level misses, in units of the row's d, times the row's d^2 and the column's importance, relative to the panel's
 * mean; a step's are scaled by a power of two so that 255 stands for 4 sigma^2 or more, beyond which all are alike bad. */
#include <math.h>

#include "base/f16.h"
#include "codec/tcq.h"
#include "codec/vec.h"

enum { GROUP = 128, WORD = TCQF_WORD, WORD_STEPS = 2 * KERN_PANEL_ROWS, MAX_STEPS = GROUP / WORD * WORD_STEPS, MAX_SHIFT = 6, UNREACHABLE = 40000 };
static const float LIGHTEST = 0x1p-4f, HEAVIEST = 0x1p4f; /* weights of errors */

typedef struct tcqf_enc { /* followed by the arrays */
    size_t n_rows, n_panels, cols, n_chunks, ahead, most_ahead;
    uint16_t *d;     /* (n_panels, 16), bf16                                        */
    float *inverse;  /* (n_panels, 16): 1 / d; 0: the row is 0, or padding           */
    float *row;      /* (n_panels, 16): weight of the row's errors                  */
    float *col;      /* (32 n_chunks): of the columns'; 0: padding                  */
    uint8_t *stream; /* (n_panels, 128 n_chunks)                                    */
    uint8_t *nibble; /* (4, 256, 256) as tcqf_step has it                           */
    uint16_t (*m)[256];       /* (MAX_STEPS + 1): least costs before each step, by the byte before it */
    uint8_t (*cost)[4][16];   /* (MAX_STEPS): of the levels, for each weight of the step */
    uint8_t *shift;           /* (MAX_STEPS)                                         */
    size_t proposed_at;       /* in stream: what `proposed` would replace             */
    uint8_t proposed[WORD_STEPS];
} tcqf_enc;

/* Takes the next n bytes from *at on. */
static void *take(uintptr_t *at, size_t n) {
    void *p = (void *)*at;
    *at += round_up(n, 64);
    return p;
}

/* Gives each array its place from `base` on; returns where they end. */
static uintptr_t lay_out(tcqf_enc *e, uintptr_t base, size_t n_rows, size_t cols) {
    const size_t panels = div_up(n_rows, KERN_PANEL_ROWS), chunks = div_up(cols, 32), rows = panels * KERN_PANEL_ROWS;
    uintptr_t at = base;
    e->nibble = take(&at, 4 * 65536);
    e->m = take(&at, (MAX_STEPS + 1) * sizeof *e->m);
    e->cost = take(&at, MAX_STEPS * sizeof *e->cost);
    e->shift = take(&at, MAX_STEPS);
    e->d = take(&at, rows * sizeof *e->d);
    e->inverse = take(&at, rows * sizeof *e->inverse);
    e->row = take(&at, rows * sizeof *e->row);
    e->col = take(&at, 32 * chunks * sizeof *e->col);
    e->stream = take(&at, panels * chunks * TCQF_CHUNK);
    return at;
}
static size_t head_bytes(void) { return round_up(sizeof(tcqf_enc), 64); }

size_t tcqf_enc_bytes(codec_params p, size_t n_rows, size_t cols) {
    uint64_t weights;
    tcqf_enc none;
    if (n_rows > SIZE_MAX / 64 || cols > SIZE_MAX / 64) return 0;
    if (!checked_mul(round_up(n_rows, KERN_PANEL_ROWS), round_up(cols, 32), &weights) || weights > SIZE_MAX / 64) return 0;
    return head_bytes() + lay_out(&none, 0, n_rows, cols);
}
uint32_t tcqf_group_cols(codec_params p) { return GROUP; }

void tcqf_enc_init(void *enc, codec_params p, size_t n_rows, size_t cols, int effort) {
    tcqf_enc *e = enc;
    lay_out(e, (uintptr_t)enc + head_bytes(), n_rows, cols);
    e->n_rows = n_rows, e->cols = cols;
    e->n_panels = div_up(n_rows, KERN_PANEL_ROWS), e->n_chunks = div_up(cols, 32);
    e->ahead = 0;
    e->most_ahead = effort == SNUG_EFFORT_QUICK ? 0 : effort == SNUG_EFFORT_MAX ? 2 * WORD : WORD;
    memset(e->d, 0, e->n_panels * KERN_PANEL_ROWS * sizeof *e->d);
    memset(e->col, 0, 32 * e->n_chunks * sizeof *e->col);
    for (unsigned a = 0; a < 256; a++)
        for (unsigned b = 0; b < 256; b++)
            for (int i = 0; i < 4; i++) e->nibble[65536 * i + 256 * a + b] = kern_tcqf_code(a, b) >> 4 * i & 15;
}

/* A row's scale: what makes its weights those that the levels were made for, and more where many are too large for it: the least of what a
 * larger scale costs all of them, GRAIN s^2, and what those beyond EDGE s do, TAIL for each square; constants that put a Gaussian's best where it was
 * measured to be. Feedback adds some variance to what is rounded. */
static uint16_t scale_of(const float *w, const float *a, size_t n) {
    static const double GRAIN = 0.07, TAIL = 3.3, EDGE = 2.1, FED = 1.06;
    double sum = 0, all = 0, best = INFINITY, at = 1;
    for (size_t i = 0; i < n; i++) sum += (a ? a[i] : 1) * (double)w[i] * w[i], all += a ? a[i] : 1;
    const double rms = sqrt(sum / all);
    for (double s = 1; s < 1.5 && rms > 0; s += 0.04) {
        double beyond = 0;
        for (size_t i = 0; i < n; i++) {
            const double x = fabs((double)w[i]) / rms - EDGE * s;
            if (x > 0) beyond += (a ? a[i] : 1) * x * x;
        }
        const double cost = GRAIN * s * s + TAIL * beyond / all;
        if (cost < best) best = cost, at = s;
    }
    return f32_to_bf16((float)(rms * at * FED / TCQF_SIGMA));
}

void tcqf_begin(void *enc, const float *w, size_t ldw, const float *a) {
    tcqf_enc *e = enc;
    for (size_t r = 0; r < e->n_rows; r++) e->d[r] = scale_of(w + r * ldw, a, e->cols);
    tcq_weigh_rows(e->n_panels, e->d, e->inverse, e->row);
}

void tcqf_group(void *enc, size_t col0, size_t n, const float *w, size_t ldw, const float *a) {
    tcqf_enc *e = enc;
    for (size_t i = 0; i < n; i++) e->col[col0 + i] = a ? a[i] : 1;
}

void tcqf_ahead(void *enc, size_t n) {
    tcqf_enc *e = enc;
    e->ahead = n < e->most_ahead ? n / WORD * WORD : e->most_ahead;
}

/* Of the weights of a step: what the levels cost, relative to the best of them. */
VEC_CLONES static void level_costs(const float x[4], const float per_square[4], uint8_t cost[4][16]) {
    v8f level[2];
    for (unsigned k = 0; k < 16; k++) level[k / 8][k % 8] = (float)kern_tcqf_level(k);
    for (int i = 0; i < 4; i++) {
        v8f square[2], least;
        for (int h = 0; h < 2; h++) square[h] = (v8_set(x[i]) - level[h]) * (v8_set(x[i]) - level[h]);
        least = v8_min(square[0], square[1]);
        least = v8_min(least, v8_permute(least, (v8i){4, 5, 6, 7, 0, 1, 2, 3}));
        least = v8_min(least, v8_permute(least, (v8i){2, 3, 0, 1, 6, 7, 4, 5}));
        least = v8_min(least, v8_permute(least, (v8i){1, 0, 3, 2, 5, 4, 7, 6}));
        for (int h = 0; h < 2; h++) {
            const v8f scaled = v8_min((square[h] - least) * v8_set(per_square[i]) + v8_set(0.5f), v8_set(255));
            const v8i whole = __builtin_convertvector(scaled, v8i);
            for (int k = 0; k < 8; k++) cost[i][8 * h + k] = (uint8_t)whole[k];
        }
    }
}

typedef struct tile { size_t panel, col0, words; const float *w; size_t ldw; } tile; /* w: column col0 of the panel's first row */

static void step_costs(const tcqf_enc *e, const tile *t, size_t step) {
    const size_t row = step % WORD_STEPS / 2, r = t->panel * KERN_PANEL_ROWS + row;
    float x[4], weight[4], heaviest = LIGHTEST;
    for (int i = 0; i < 4; i++) {
        const size_t c = step / WORD_STEPS * WORD + (size_t)kern_tcqf_column((int)(step % 2), i);
        const bool there = t->col0 + c < e->cols && e->inverse[r] > 0;
        x[i] = there ? t->w[row * t->ldw + c] * e->inverse[r] : 0;
        weight[i] = there ? fminf(fmaxf(e->row[r] * e->col[t->col0 + c], LIGHTEST), HEAVIEST) : 0;
        heaviest = fmaxf(heaviest, weight[i]);
    }
    int up; /* of a weight of 1: 2 */
    frexpf(heaviest * 0.999f, &up);
    up = up + 2 < 0 ? 0 : up + 2 > MAX_SHIFT ? MAX_SHIFT : up + 2;
    e->shift[step] = (uint8_t)up;
    const float unit = ldexpf(255.0f / (4 * TCQF_SIGMA * TCQF_SIGMA), 2 - up);
    for (int i = 0; i < 4; i++) weight[i] *= unit;
    level_costs(x, weight, e->cost[step]);
}

/* Which byte stood before byte b of a step, on the cheapest way to it. */
static uint8_t before(const tcqf_enc *e, size_t step, unsigned b) {
    unsigned best = UINT32_MAX, at = 0;
    for (unsigned a = 0; a < 256; a++) {
        unsigned sum = 0;
        for (size_t i = 0; i < 4; i++) sum += e->cost[step][i][e->nibble[65536 * i + 256 * a + b]];
        sum = e->m[step][a] + ((sum < 255 ? sum : 255) << e->shift[step]);
        if (sum < best) best = sum, at = a;
    }
    return (uint8_t)at;
}

static uint8_t *stream_of(const tcqf_enc *e, size_t panel) { return e->stream + panel * e->n_chunks * TCQF_CHUNK; }

/* The byte before place `at` of a panel's stream; where a group begins, what the one before it ends with or will end with. */
static uint8_t older_byte(const tcqf_enc *e, size_t panel, size_t at) {
    if (at == 0) return (uint8_t)(e->d[(panel + 1) * KERN_PANEL_ROWS - 1] >> 8); /* the header's last, as it is packed */
    return at % MAX_STEPS == 0 ? 0 : stream_of(e, panel)[at - 1];
}

/* The bytes of a tile, the first `keep` of them to dst. last: what they must end with, or -1. */
static void search(tcqf_enc *e, const tile *t, size_t keep, int last, uint8_t *dst) {
    const size_t steps = t->words * WORD_STEPS;
    const uint8_t first = older_byte(e, t->panel, t->col0 / WORD * WORD_STEPS);
    for (size_t a = 0; a < 256; a++) e->m[0][a] = a == first ? 0 : UNREACHABLE;
    for (size_t s = 0; s < steps; s++) {
        step_costs(e, t, s);
        kern()->tcqf_step(e->nibble, e->cost[s], e->shift[s], e->m[s], e->m[s + 1]);
    }
    unsigned b = last < 0 ? 0 : (unsigned)last;
    for (unsigned i = 1; i < 256 && last < 0; i++)
        if (e->m[steps][i] < e->m[steps][b]) b = i;
    for (size_t s = steps; s-- > 0; b = before(e, s, b))
        if (s < keep) dst[s] = (uint8_t)b;
}

static void put_head(const tcqf_enc *e, size_t panel, uint8_t *dst) {
    for (size_t r = 0; r < KERN_PANEL_ROWS; r++) {
        const uint16_t d = e->d[panel * KERN_PANEL_ROWS + r];
        dst[2 * r] = (uint8_t)d;
        dst[2 * r + 1] = (uint8_t)(d >> 8);
    }
}

/* What a row of a word decodes to, `bytes` being the word's and `older` what stands before them. */
static void decode_word(const tcqf_enc *e, size_t panel, size_t row, const uint8_t *bytes, uint8_t older, float w[WORD]) {
    const float d = bf16_to_f32(e->d[panel * KERN_PANEL_ROWS + row]);
    for (size_t h = 0; h < 2; h++) {
        const size_t at = 2 * row + h;
        const unsigned code = kern_tcqf_code(at ? bytes[at - 1] : older, bytes[at]);
        for (int i = 0; i < 4; i++) w[kern_tcqf_column((int)h, i)] = d * (float)kern_tcqf_level(code >> 4 * i & 15);
    }
}

/* Columns [col0, col0 + n) of the panel's rows, w_hat's first row being the panel's; a word's bytes stand at `bytes`, the next one's after them. */
static void decode_tile(const tcqf_enc *e, size_t panel, size_t col0, size_t n, const uint8_t *bytes, float *w_hat, size_t ldh) {
    const size_t rows = e->n_rows - panel * KERN_PANEL_ROWS;
    for (size_t c = 0; c < n; c += WORD) {
        const size_t at = (col0 + c) / WORD * WORD_STEPS, len = n - c < WORD ? n - c : WORD;
        const uint8_t older = c ? bytes[c / WORD * WORD_STEPS - 1] : older_byte(e, panel, at);
        for (size_t r = 0; r < rows && r < KERN_PANEL_ROWS; r++) {
            float w[WORD];
            decode_word(e, panel, r, bytes + c / WORD * WORD_STEPS, older, w);
            memcpy(w_hat + r * ldh + c, w, len * sizeof *w);
        }
    }
}

void tcqf_round(void *enc, size_t col0, size_t n, const float *w, size_t ldw, float *w_hat, size_t ldh) {
    tcqf_enc *e = enc;
    const bool last = col0 + n == e->cols, group_ends = !last && (col0 + n) % GROUP == 0;
    const size_t keep = last ? 32 / WORD * e->n_chunks - col0 / WORD : n / WORD, ahead = last || group_ends ? 0 : e->ahead / WORD;
    for (size_t panel = 0; panel < e->n_panels; panel++) {
        const size_t row0 = panel * KERN_PANEL_ROWS;
        const tile t = {.panel = panel, .col0 = col0, .words = keep + ahead, .w = w + row0 * ldw, .ldw = ldw};
        uint8_t *bytes = stream_of(e, panel) + col0 / WORD * WORD_STEPS;
        search(e, &t, keep * WORD_STEPS, group_ends ? 0 : -1, bytes);
        if (w_hat) decode_tile(e, panel, col0, n, bytes, w_hat + row0 * ldh, ldh);
    }
    e->ahead = 0;
}

void tcqf_propose(void *enc, size_t row0, size_t col0, size_t n, const float *w, size_t ldw, const float *a, float *w_hat, size_t ldh) {
    tcqf_enc *e = enc;
    const size_t panel = row0 / KERN_PANEL_ROWS, at = col0 / WORD * WORD_STEPS;
    const tile t = {.panel = panel, .col0 = col0, .words = 1, .w = w, .ldw = ldw};
    for (size_t i = 0; i < n; i++) e->col[col0 + i] = a[i];
    e->proposed_at = panel * e->n_chunks * TCQF_CHUNK + at;
    search(e, &t, WORD_STEPS, stream_of(e, panel)[at + WORD_STEPS - 1], e->proposed);
    decode_tile(e, panel, col0, n, e->proposed, w_hat, ldh);
}

void tcqf_accept(void *enc) {
    tcqf_enc *e = enc;
    memcpy(e->stream + e->proposed_at, e->proposed, WORD_STEPS);
}

void tcqf_pack(const void *enc, uint8_t *dst) {
    const tcqf_enc *e = enc;
    const size_t stream = e->n_chunks * TCQF_CHUNK;
    for (size_t panel = 0; panel < e->n_panels; panel++, dst += TCQF_HEAD + stream) {
        put_head(e, panel, dst);
        memcpy(dst + TCQF_HEAD, stream_of(e, panel), stream);
    }
}
