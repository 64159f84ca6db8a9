/* Outliers of a matrix (an out term): the weights whose loss costs most, as many as the payload holds. That is a_j w_rj^2 by themselves; before a
 * term that rounds the rest, what its rounding misses: those are chosen, the term fits its scales to what is left, all weights are
 * rounded to its grid, those it misses by most are chosen again, and so on a few times. The threshold is found
 * by counting: numbers >= 0 are ordered as their bits are, so two passes over the scores, of their upper and of their lower halves, give it
 * exactly, and nothing as large as the matrix is stored but a bit for each weight. Ties go to the first. */
#include <stdlib.h>

#include "base/checked.h"
#include "base/err.h"
#include "base/f16.h"
#include "base/thread.h"
#include "codec/codecs.h"
#include "solve/internal.h"

enum { HALF = 1 << 16, TILE_ROWS = 16, CHOICES = 3 };

/* a: normalised, or NULL. e (rows, cols): what the weight misses where it is no outlier; NULL: all of it. */
typedef struct matrix { const float *w, *a, *e; size_t ldw, rows, cols; } matrix;

static uint32_t score(const matrix *m, size_t r, size_t c) {
    const float x = m->e ? m->e[r * m->cols + c] : m->w[r * m->ldw + c];
    return f32_to_bits((m->a ? m->a[c] : 1) * (x * x));
}

/* The count-th largest score. *above: how many are larger. */
static uint32_t threshold(const matrix *m, uint64_t count, uint64_t *histogram, uint64_t *above) {
    uint32_t upper = 0;
    *above = 0;
    for (int pass = 0; pass < 2; pass++) {
        memset(histogram, 0, HALF * sizeof *histogram);
        for (size_t r = 0; r < m->rows; r++)
            for (size_t c = 0; c < m->cols; c++) {
                const uint32_t s = score(m, r, c);
                if (pass == 0) histogram[s >> 16]++;
                else if (s >> 16 == upper) histogram[s & 0xffff]++;
            }
        uint32_t at = HALF - 1;
        while (at > 0 && *above + histogram[at] < count) *above += histogram[at--];
        if (pass) return upper << 16 | at;
        upper = at;
    }
    return 0;
}

/* Entries of the chosen weights, in order. A block that is full leaves its share to whatever has room. */
static void choose(const matrix *m, uint64_t count, uint64_t *histogram, uint8_t *chosen, out_entry *entries) {
    uint64_t above, left = count;
    const uint32_t at = threshold(m, count, histogram, &above);
    uint64_t equal = count - above; /* of those at the threshold */
    for (int pass = 0; pass < 2 && left; pass++)
        for (size_t r = 0; r < m->rows; r++)
            for (size_t b = 0; b < m->cols; b += OUT_BLOCK) {
                const size_t end = min_u64(b + OUT_BLOCK, m->cols);
                size_t n = 0;
                for (size_t c = b; pass && c < end; c++) n += chosen[(r * m->cols + c) / 8] >> (r * m->cols + c) % 8 & 1;
                for (size_t c = b; c < end && n < OUT_BLOCK_MAX && left; c++) {
                    const uint32_t s = score(m, r, c);
                    const size_t i = r * m->cols + c;
                    const bool wanted = pass ? !(chosen[i / 8] >> i % 8 & 1) : s > at || (s == at && equal > 0);
                    if (!wanted) continue;
                    if (!pass && s == at) equal--;
                    chosen[i / 8] |= (uint8_t)(1u << i % 8);
                    n++, left--;
                }
            }
    for (size_t i = 0; i < m->rows * m->cols; i++)
        if (chosen[i / 8] >> i % 8 & 1) {
            const size_t r = i / m->cols, c = i % m->cols;
            *entries++ = (out_entry){(uint32_t)r, (uint32_t)c, m->w[r * m->ldw + c]};
        }
}

static snug_err no_room(codec_params p, size_t rows, size_t cols, snug_error *err) {
    return err_set(err, SNUG_ERR_ARG, "out%u cannot store %zu x %zu weights", p.rank, rows, cols);
}

static snug_err choose_all(codec_params p, const float *w, size_t ldw, size_t rows, size_t cols, const float *a, const float *missed, uint8_t *dst,
                           snug_error *err) {
    const uint64_t count = out_count(p, rows, cols);
    if (count == 0 || count > UINT32_MAX) return no_room(p, rows, cols, err);
    float *imp = malloc(cols * sizeof *imp);
    uint64_t *histogram = malloc(HALF * sizeof *histogram);
    uint8_t *chosen = calloc(div_up(rows * cols, 8), 1);
    out_entry *entries = malloc(count * sizeof *entries);
    snug_err e = imp && histogram && chosen && entries ? SNUG_OK : err_nomem(err, count * sizeof *entries + rows * cols / 8);
    if (!e) e = check_finite("out", w, ldw, rows, cols, 0, err);
    if (!e && a) e = importance_normalise(a, cols, imp, err);
    if (!e) {
        const matrix m = {w, a ? imp : NULL, missed, ldw, rows, cols};
        choose(&m, count, histogram, chosen, entries);
        if (!out_pack(p, rows, cols, entries, count, dst)) e = no_room(p, rows, cols, err);
    }
    free(imp), free(histogram), free(chosen), free(entries);
    return e;
}

snug_err solve_outliers(codec_params p, const float *w, size_t ldw, size_t rows, size_t cols, const float *a, uint8_t *dst,
                        snug_error *err) {
    return choose_all(p, w, ldw, rows, cols, a, NULL, dst, err);
}

/* ---- before another term ---- */

typedef struct miss_job {
    const comp_term *next;
    wt outliers; /* the choice so far */
    const float *w, *a;
    size_t ldw, cols;
    int effort;
    float *e;    /* (rows, cols) */
    bool *failed; /* of a worker */
} miss_job;

/* The next term fits its scales to what the choice leaves; then all weights are rounded to its grid, outliers too. */
static void miss_tile(void *ctx, size_t begin, size_t end, int worker) {
    const miss_job *j = ctx;
    const snug_codec *codec = j->next->codec;
    const codec_params p = j->next->params;
    const size_t n = end - begin, cols = j->cols, step = codec->group_cols(p);
    float *rest = malloc(n * cols * sizeof *rest), *e = j->e + begin * cols;
    void *enc = aligned_alloc(64, round_up(codec->enc_bytes(p, n, cols), 64));
    if (!rest || !enc) j->failed[worker] = true;
    else {
        codec_out.decode(&j->outliers, begin, n, rest, cols);
        for (size_t i = 0; i < n * cols; i++) rest[i] = j->w[(begin + i / cols) * j->ldw + i % cols] - rest[i];
        codec->enc_init(enc, p, n, cols, j->effort);
        if (codec->begin) codec->begin(enc, rest, cols, j->a);
        for (size_t c = 0; c < cols; c += step) {
            const size_t len = cols - c < step ? cols - c : step;
            codec->group(enc, c, len, rest + c, cols, j->a ? j->a + c : NULL);
            codec->round(enc, c, len, j->w + begin * j->ldw + c, j->ldw, e + c, cols);
        }
        for (size_t i = 0; i < n * cols; i++) e[i] = j->w[(begin + i / cols) * j->ldw + i % cols] - e[i];
    }
    free(rest), free(enc);
}

snug_err solve_outliers_before(const comp_term *next, codec_params p, const float *w, size_t ldw, size_t rows, size_t cols, const float *a,
                               int effort, int threads, uint8_t *dst, snug_error *err) {
    if (threads < 1) threads = 1;
    float *imp = malloc(cols * sizeof *imp), *missed = malloc(rows * cols * sizeof *missed);
    bool *failed = calloc((size_t)threads, sizeof *failed);
    snug_err e = imp && missed && failed ? solve_outliers(p, w, ldw, rows, cols, a, dst, err) : err_nomem(err, rows * cols * sizeof *missed);
    miss_job j = {.next = next, .w = w, .a = a ? imp : NULL, .ldw = ldw, .cols = cols, .effort = effort, .e = missed, .failed = failed};
    if (!e && a) e = importance_normalise(a, cols, imp, err);
    if (!e) e = wt_open(&codec_out, p, rows, cols, dst, codec_out.bytes(p, rows, cols), &j.outliers, err);
    for (int k = 0; !e && k < CHOICES; k++) {
        thread_for(threads, rows, round_up(TILE_ROWS, next->codec->tile_rows), miss_tile, &j);
        for (int i = 0; !e && i < threads; i++)
            if (failed[i]) e = err_nomem(err, TILE_ROWS * cols * sizeof *missed);
        if (!e) e = choose_all(p, w, ldw, rows, cols, a, missed, dst, err);
    }
    free(imp), free(missed), free(failed);
    return e;
}
