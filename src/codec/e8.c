/* e8bR: R = 2, 3 or 4 bits a weight and a scale per row, by points of the lattice E8 (kern/books.h; docs/format.md 3.13). Meant for weights that look
 * Gaussian: behind a Hadamard transform, had:e8b2.
 *
 * The nearest of the 2^16 points is found exactly: for either shift by 1/4 and each of 256 patterns the best signs are those of the weights, and where
 * these are an odd number too many, the one is turned that costs least. With importances a: the error is the sum of
 * a (|y| - p)^2 over the columns and of 4 a |y| p for a sign that is wrong; lanes are patterns. A second stage makes up for what the first one left: the best few
 * points are tried, each with its best rest.
 *
 * A row's scale is the best of some about the one for a Gaussian, tried on tiles spread over the row. */
#include <math.h>

#include "base/f16.h"
#include "codec/books.h"
#include "codec/codecs.h"
#include "codec/vec.h"

enum { WORD = BOOK_WORD, GROUP = 32, N_SCALES = 8, MOST_TRIED = 16, LANES = 32 /* of patterns, in vectors */ };
static const float BEYOND = 1000; /* in quarters of the lattice's unit: far outside */

typedef struct e8_enc { /* followed by the arrays */
    codec_params p;
    size_t n_rows, cols, n_words, tried, samples; /* tried: first points, of which the best is taken with its rest */
    uint16_t *d;    /* (n_rows), bf16                    */
    float *inverse; /* (n_rows): 1 / d; 0: the row is 0  */
    float *col;     /* (8 n_words): importances; 0: padding */
    uint8_t *codes; /* as books_pack has them            */
} e8_enc;

static bool menu(uint32_t i, codec_params *out) { return false; }
static bool params_ok(codec_params p) { return p.rank >= 2 && p.rank <= 4 && p.bits == 0 && p.group == 0; }
static uint64_t bytes(codec_params p, uint64_t n_rows, uint64_t cols) { return books_panel_bytes(p, n_rows, cols); }

static size_t code_bytes(codec_params p, size_t n_rows, size_t cols) {
    return div_up(n_rows, KERN_PANEL_ROWS) * div_up(cols, 32) * kern_books_chunk_bytes(p.rank);
}
static size_t enc_bytes(codec_params p, size_t n_rows, size_t cols) {
    uint64_t weights;
    if (n_rows > SIZE_MAX / 64 || cols > SIZE_MAX / 64) return 0;
    if (!checked_mul(round_up(n_rows, KERN_PANEL_ROWS), round_up(cols, 32), &weights) || weights > SIZE_MAX / 64) return 0;
    return round_up(sizeof(e8_enc), 64) + round_up(2 * n_rows, 64) + round_up(4 * n_rows, 64) + 4 * round_up(cols, 32) + round_up(code_bytes(p, n_rows, cols), 64);
}
static uint32_t group_cols(codec_params p) { return GROUP; }

static void enc_init(void *enc, codec_params p, size_t n_rows, size_t cols, int effort) {
    static const uint8_t tried[] = {[SNUG_EFFORT_QUICK] = 1, [SNUG_EFFORT_NORMAL] = 4, [SNUG_EFFORT_MAX] = MOST_TRIED};
    static const uint8_t samples[] = {[SNUG_EFFORT_QUICK] = 16, [SNUG_EFFORT_NORMAL] = 96, [SNUG_EFFORT_MAX] = 192};
    e8_enc *e = enc;
    *e = (e8_enc){.p = p, .n_rows = n_rows, .cols = cols, .n_words = 4 * div_up(cols, 32), .tried = p.rank > 2 ? tried[effort] : 1, .samples = samples[effort]};
    uint8_t *at = (uint8_t *)enc + round_up(sizeof *e, 64);
    e->d = (uint16_t *)(void *)at, at += round_up(2 * n_rows, 64);
    e->inverse = (float *)(void *)at, at += round_up(4 * n_rows, 64);
    e->col = (float *)(void *)at, at += 4 * round_up(cols, 32);
    e->codes = at;
    memset(e->col, 0, 4 * round_up(cols, 32));
    memset(e->codes, 0, code_bytes(p, n_rows, cols));
    kern(); /* the books are there */
}

static unsigned form_of(const e8_enc *e) { return BOOKS_LATTICE + e->p.rank; }

/* ---- the nearest points ---- */

/* A tile's columns: their importances, and in lanes the patterns times 2, with the part of the error that is theirs alone. */
typedef struct metric {
    float a[WORD];
    v8f p[LANES][WORD], odd[LANES], own[LANES];
    v8f rest[LANES][WORD], rest_own[LANES]; /* of e8b3: the vectors of book 2 */
} metric;

/* From importances (n), which are brought to 1 at most. */
static void fill_metric(metric *m, unsigned form, const float *a, size_t n) {
    const kern_e8_tables *e8 = kern_e8();
    float most = 0;
    for (size_t j = 0; j < n; j++) most = fmaxf(most, a[j]);
    for (size_t j = 0; j < WORD; j++) m->a[j] = j < n && most > 0 ? fmaxf(a[j] / most, 0x1p-20f) : 0;
    for (size_t i = 0; i < LANES; i++) {
        m->own[i] = m->rest_own[i] = v8_set(0);
        for (size_t l = 0; l < 8; l++) m->odd[i][l] = e8->odd[8 * i + l];
        for (size_t j = 0; j < WORD; j++) {
            for (size_t l = 0; l < 8; l++) {
                m->p[i][j][l] = 2 * (float)e8->pattern[8 * i + l][j];
                m->rest[i][j][l] = (float)(int8_t)e8->books[1][2][WORD * (8 * i + l) + j];
            }
            m->own[i] += v8_set(m->a[j]) * m->p[i][j] * m->p[i][j];
            if (form == BOOKS_LATTICE + 3) m->rest_own[i] += v8_set(m->a[j]) * m->rest[i][j] * m->rest[i][j];
        }
    }
}

typedef struct found { float error; uint8_t code[2]; int16_t q[WORD]; } found;

/* What each pattern costs for y: |y| in size, a |y| in z, and `odd`: y has an odd number of signs. */
VEC_CLONES static void pattern_errors(const metric *m, const float *z, bool odd, float base, float *out) {
    for (int i = 0; i < LANES; i++) {
        v8f sum = v8_set(0), least = v8_set(INFINITY);
        for (int j = 0; j < WORD; j++) {
            const v8f part = v8_set(z[j]) * m->p[i][j];
            sum += part;
            least = v8_min(least, part);
        }
        const v8f wrong = odd ? v8_set(1) - m->odd[i] : m->odd[i];
        v8_store(out + 8 * i, m->own[i] - (sum + sum) + 4 * wrong * least + v8_set(base));
    }
}

/* Point `pattern` of shift h (1 or -1), nearest to x. */
static void take_signs(const float *x, const metric *m, int pattern, int h, found *f) {
    const kern_e8_tables *e8 = kern_e8();
    bool minus[WORD], wrong = e8->odd[pattern];
    float least = INFINITY;
    int at = 0;
    for (int j = 0; j < WORD; j++) {
        const float y = x[j] - (float)h, cost = m->a[j] * fabsf(y) * e8->pattern[pattern][j];
        minus[j] = y < 0;
        wrong ^= minus[j];
        if (cost < least) least = cost, at = j;
    }
    minus[at] ^= wrong;
    f->code[0] = (uint8_t)pattern, f->code[1] = h > 0 ? 128 : 0;
    for (int j = 0; j < WORD; j++) {
        f->q[j] = (int16_t)((minus[j] ? -2 : 2) * e8->pattern[pattern][j] + h);
        if (j < WORD - 1 && minus[j]) f->code[1] |= (uint8_t)(1u << j);
    }
}

/* The nearest points to x, up to n of them (patterns and shifts, each with its best signs), the best first. */
static size_t nearest(const metric *m, const float *x, size_t n, found *out) {
    float error[2][256];
    struct { float error; int at; } best[MOST_TRIED];
    size_t count = 0;
    for (int s = 0; s < 2; s++) {
        float z[WORD], base = 0;
        bool odd = false;
        for (int j = 0; j < WORD; j++) {
            const float y = x[j] - (float)(2 * s - 1);
            z[j] = m->a[j] * fabsf(y);
            base += z[j] * fabsf(y);
            odd ^= y < 0;
        }
        pattern_errors(m, z, odd, base, error[s]);
        for (int i = 0; i < 256; i++) {
            if (count == n && !(error[s][i] < best[n - 1].error)) continue;
            size_t at = count < n ? count++ : n - 1;
            for (; at > 0 && error[s][i] < best[at - 1].error; at--) best[at] = best[at - 1];
            best[at].error = error[s][i], best[at].at = 256 * s + i;
        }
    }
    for (size_t k = 0; k < count; k++) {
        out[k].error = best[k].error;
        take_signs(x, m, best[k].at % 256, best[k].at < 256 ? -1 : 1, &out[k]);
    }
    return count;
}

VEC_CLONES static void rest_errors(const metric *m, const float *z, float base, float *out) {
    for (int i = 0; i < LANES; i++) {
        v8f sum = v8_set(0);
        for (int j = 0; j < WORD; j++) sum += v8_set(z[j]) * m->rest[i][j];
        v8_store(out + 8 * i, m->rest_own[i] - (sum + sum) + v8_set(base));
    }
}
static void nearest_rest(const metric *m, const float *x, found *out) {
    float z[WORD], base = 0, error[256];
    int at = 0;
    for (int j = 0; j < WORD; j++) z[j] = m->a[j] * x[j], base += z[j] * x[j];
    rest_errors(m, z, base, error);
    for (int i = 1; i < 256; i++)
        if (error[i] < error[at]) at = i;
    out->error = error[at];
    out->code[0] = (uint8_t)at;
    for (int j = 0; j < WORD; j++) out->q[j] = (int8_t)kern_e8()->books[1][2][WORD * at + j];
}

/* The codes of a tile whose weights are x d, the first point being the best of `tried`; q (8). Returns the error, in units of d. */
static float encode(unsigned form, const metric *m, const float *x, size_t tried, uint8_t code[BOOKS_MOST], int *q) {
    const int factor = kern_e8_factor(form);
    found first[MOST_TRIED], rest;
    float point[WORD], best = INFINITY;
    for (int j = 0; j < WORD; j++) point[j] = fminf(fmaxf(x[j] / (float)factor, -BEYOND), BEYOND);
    const size_t n = nearest(m, point, tried, first);
    for (size_t k = 0; k < n; k++) {
        float left[WORD];
        for (int j = 0; j < WORD; j++) left[j] = (float)factor * (point[j] - (float)first[k].q[j]);
        rest = (found){.error = (float)(factor * factor) * first[k].error};
        if (form == BOOKS_LATTICE + 3) nearest_rest(m, left, &rest);
        if (form == BOOKS_LATTICE + 4) nearest(m, left, 1, &rest);
        if (k && !(rest.error < best)) continue;
        best = rest.error;
        memcpy(code, first[k].code, 2), memcpy(code + 2, rest.code, 2);
        for (int j = 0; j < WORD; j++) q[j] = factor * first[k].q[j] + rest.q[j];
    }
    return best;
}

/* ---- steps ---- */

/* Standard deviation of q for a Gaussian at its best. */
static float spread_of(unsigned form) { return form == BOOKS_LATTICE + 2 ? 4.16f : form == BOOKS_LATTICE + 3 ? 32 : 14; }

/* The largest d: no product with a code leaves f32's range. */
static const float MOST = 0x1p120f;

static float stored(double d) { return bf16_to_f32(f32_to_bf16((float)fmin(d, MOST))); }

/* The best of the scales for up to e->samples tiles spread over the row. */
static float best_scale(const e8_enc *e, const float *w, const float *a, double rms, metric *m) {
    static const float steps[N_SCALES] = {1, 1.07f, 0.93f, 1.15f, 0.86f, 1.24f, 1.36f, 1.5f};
    const size_t tiles = div_up(e->cols, WORD), n = tiles < e->samples ? tiles : e->samples;
    double error[N_SCALES] = {0};
    for (size_t i = 0; i < n; i++) {
        const size_t c = i * tiles / n * WORD, len = e->cols - c < WORD ? e->cols - c : WORD;
        if (i && len < WORD) break; /* the last tile, and others have been seen */
        if (i == 0 || a) fill_metric(m, form_of(e), a ? a + c : (const float[WORD]){1, 1, 1, 1, 1, 1, 1, 1}, len);
        float most = a ? 0 : 1;
        for (size_t j = 0; a && j < len; j++) most = fmaxf(most, a[c + j]);
        for (int k = 0; k < N_SCALES; k++) {
            const double d = steps[k] * rms / spread_of(form_of(e));
            uint8_t code[BOOKS_MOST];
            float x[WORD] = {0};
            int q[WORD];
            for (size_t j = 0; j < len; j++) x[j] = (float)(w[c + j] / d);
            error[k] += encode(form_of(e), m, x, 1, code, q) * most * (double)(steps[k] * steps[k]);
        }
    }
    int at = 0;
    for (int k = 1; k < N_SCALES; k++)
        if (error[k] < (at ? 1 : 0.97) * error[at]) at = k; /* a few tiles say no more */
    return stored(steps[at] * rms / spread_of(form_of(e)));
}

/* Where importances differ errors are fed forward as a rule (solve/ldlq.c), and what is rounded then varies more than the weights that `begin` sees. A lattice
 * code ends abruptly, so this counts: of scales times 1 to 1.45 the divergence of the demo model was least here (bench/RESULTS.md). */
static const double FED = 1.32;

static void begin(void *enc, const float *w, size_t ldw, const float *a) {
    e8_enc *e = enc;
    metric m;
    bool differ = false;
    for (size_t c = 1; a && c < e->cols; c++) differ |= a[c] != a[0];
    for (size_t r = 0; r < e->n_rows; r++) {
        const float *row = w + r * ldw;
        double sum = 0, all = 0;
        for (size_t c = 0; c < e->cols; c++) sum += (a ? a[c] : 1) * (double)row[c] * row[c], all += a ? a[c] : 1;
        const double rms = sqrt(sum / all) * (differ ? FED : 1);
        const float d = rms > 1e-30 ? best_scale(e, row, a, rms, &m) : stored(rms / spread_of(form_of(e)));
        e->d[r] = f32_to_bf16(d);
        e->inverse[r] = d > 1e-37f ? 1 / d : 0;
    }
}

static void group(void *enc, size_t col0, size_t n, const float *w, size_t ldw, const float *a) {
    e8_enc *e = enc;
    for (size_t c = 0; c < n; c++) e->col[col0 + c] = a ? a[c] : 1;
}

static void round_tiles(void *enc, size_t col0, size_t n, const float *w, size_t ldw, float *w_hat, size_t ldh) {
    e8_enc *e = enc;
    metric m;
    for (size_t c = 0; c < n; c += WORD) {
        const size_t len = n - c < WORD ? n - c : WORD, word = (col0 + c) / WORD;
        fill_metric(&m, form_of(e), e->col + col0 + c, len);
        for (size_t r = 0; r < e->n_rows; r++) {
            uint8_t code[BOOKS_MOST];
            float x[WORD] = {0};
            int q[WORD];
            for (size_t j = 0; j < len; j++) x[j] = w[r * ldw + c + j] * e->inverse[r];
            encode(form_of(e), &m, x, e->tried, code, q);
            uint8_t *to = e->codes + ((r / KERN_PANEL_ROWS * e->n_words + word) * e->p.rank) * KERN_PANEL_ROWS + r % KERN_PANEL_ROWS;
            for (size_t k = 0; k < e->p.rank; k++) to[k * KERN_PANEL_ROWS] = code[k];
            const float d = bf16_to_f32(e->d[r]);
            for (size_t j = 0; w_hat && j < len; j++) w_hat[r * ldh + c + j] = d * (float)q[j];
        }
    }
}

static void pack(const void *enc, uint8_t *dst) {
    const e8_enc *e = enc;
    books_pack(e->p, e->n_rows, e->cols, e->d, e->codes, dst);
}

const snug_codec codec_e8b = {
    .family = "e8b", .id = CODEC_ID_E8, .tile_rows = KERN_PANEL_ROWS, .tile_cols = WORD, .block_cols = 32, .act = CODEC_ACT_Q8, .caps = CODEC_TURNS, .ggml_type = -1,
    .time = 4, .menu = menu, .params_ok = params_ok, .bytes = bytes, .enc_bytes = enc_bytes, .group_cols = group_cols, .enc_init = enc_init, .begin = begin,
    .group = group, .round = round_tiles, .pack = pack,
    .decode = books_decode, .decode_add = books_decode_add, .scratch_bytes = books_scratch_bytes, .matmul = books_matmul,
};
