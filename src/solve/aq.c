/* Additive codes: W ~ d (sum of K vectors for each eight weights), so that tr(E H E^T) is small. By turns, as AQLM does it (Egiazarian et al. 2024), but
 * with books in closed form:
 *
 *   books    given the codes the loss is quadratic in the books. Its normal equations couple all vectors through H; conjugate gradients solve them with
 *            products E H alone, preconditioned by the diagonal.
 *   codes    given the books each tile of eight weights is chosen under its own 8 x 8 block of H, where its error is best given all others':
 *            with L L^T the block, the error is |(target - sum) L|^2, so that books times L turn it into a search for the nearest sum. That is a beam
 *            search, book by book; a tile keeps its codes where the search finds none better, so the loss falls.
 *
 * The first codes are those of a residual k-means with the columns' importances. Books are made with some rows, spread over the matrix; then they are
 * rounded to bytes, and all rows are coded from the start: once with error feedback (ldlq.c), the metric of a tile being its block of R D R^T, then in
 * sweeps as above. Without H its diagonal is the importances, and tiles are independent. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/err.h"
#include "base/f16.h"
#include "base/thread.h"
#include "codec/books.h"
#include "codec/codecs.h"
#include "codec/vec.h"
#include "linalg/linalg.h"
#include "solve/internal.h"

enum {
    WORD = BOOK_WORD, ENTRIES = 256, MOST = BOOKS_MOST, BOOK = ENTRIES * WORD,
    BLOCK = 128, ROWS = 64,        /* columns, rows that share a pass over H */
    BEAM = 8, SWEEPS = 2,
    LLOYD = 6, STEPS = 8,          /* of k-means for each book; of conjugate gradients */
    TRAINING = 1 << 19, LEAST_ROWS = 64, /* weights that books are made with */
};

/* The books times a tile's factor, in lanes, and the squares of their vectors. */
typedef struct tables { v8f b[MOST][ENTRIES / 8][WORD], own[MOST][ENTRIES / 8]; } tables;

typedef struct room { /* of a thread */
    tables *t;
    float *e, *ordered, *hat, *near, *block; /* (ROWS, cols) three times, (ROWS, BLOCK), (BLOCK, BLOCK) */
} room;

typedef struct aq {
    codec_params p;
    const float *w, *a; /* a: normalised, or NULL: h's, or 1 */
    size_t ldw, rows, cols, k, n_words;
    const hessian *h;
    int threads;
    size_t n_train;      /* rows that books are made with: row i is i rows / n_train */
    float *scale;        /* (rows): of a row's weights    */
    float *books;        /* (K, 256, 8)                   */
    uint8_t *codes;      /* (n_train, n_words, K), then (rows, n_words, K) */
    float *e, *eh;       /* (n_train, cols): errors, and what H makes of something */
    double *loss;        /* (rows)                        */
    room *room;
    /* of a pass */
    bool training, fresh; /* of n_train rows; their codes count for nothing */
    bool judge;           /* losses are wanted */
    size_t first, n;      /* the books that are looked for  */
    const float *times;   /* what times_h multiplies        */
} aq;

static size_t row_at(const aq *q, size_t i) { return q->training ? i * q->rows / q->n_train : i; }
static uint8_t *codes_of(const aq *q, size_t i, size_t word) { return q->codes + (i * q->n_words + word) * q->k; }
static float importance(const aq *q, size_t c) { return q->h ? q->h->d[c] : q->a ? q->a[c] : 1; }
static size_t width_of(const aq *q, size_t c) { return q->cols - c < WORD ? q->cols - c : WORD; }

/* ---- the nearest sum ---- */

/* f (8, 8): the factor, rows being columns of the weights. */
static void fill_tables(const aq *q, const float f[WORD][WORD], tables *t) {
    for (size_t k = q->first; k < q->first + q->n; k++)
        for (size_t i = 0; i < ENTRIES; i += 8) {
            v8f c[WORD], own = v8_set(0);
            for (size_t j = 0; j < WORD; j++)
                for (size_t l = 0; l < 8; l++) c[j][l] = q->books[k * BOOK + (i + l) * WORD + j];
            for (size_t j = 0; j < WORD; j++) {
                v8f sum = v8_set(0);
                for (size_t m = 0; m < WORD; m++) sum += c[m] * v8_set(f[m][j]);
                t->b[k][i / 8][j] = sum;
                own += sum * sum;
            }
            t->own[k][i / 8] = own;
        }
}

/* base + |b|^2 - 2 left b for all vectors of a book. */
VEC_CLONES static void entry_errors(const v8f b[][WORD], const v8f *own, const float *left, float base, float *out) {
    for (int i = 0; i < ENTRIES / 8; i++) {
        v8f sum = v8_set(0);
        for (int j = 0; j < WORD; j++) sum += v8_set(left[j]) * b[i][j];
        v8_store(out + 8 * i, own[i] - (sum + sum) + v8_set(base));
    }
}

typedef struct way { float error, left[WORD]; uint8_t code[MOST]; } way;

/* The best codes that the beam finds for y. */
static way nearest_sum(const aq *q, const tables *t, const float *y) {
    way beam[BEAM] = {{0}}, next[BEAM];
    size_t n = 1;
    for (size_t j = 0; j < WORD; j++) beam[0].left[j] = y[j], beam[0].error += y[j] * y[j];
    for (size_t k = q->first; k < q->first + q->n; k++) {
        struct { float error; uint16_t from, entry; } best[BEAM];
        const size_t most = k + 1 < q->first + q->n ? BEAM : 1;
        size_t count = 0;
        for (size_t from = 0; from < n; from++) {
            float error[ENTRIES];
            entry_errors(t->b[k], t->own[k], beam[from].left, beam[from].error, error);
            for (size_t i = 0; i < ENTRIES; i++) {
                if (count == most && !(error[i] < best[most - 1].error)) continue;
                size_t at = count < most ? count++ : most - 1;
                for (; at > 0 && error[i] < best[at - 1].error; at--) best[at] = best[at - 1];
                best[at].error = error[i], best[at].from = (uint16_t)from, best[at].entry = (uint16_t)i;
            }
        }
        for (size_t i = 0; i < count; i++) {
            next[i] = beam[best[i].from];
            next[i].error = best[i].error;
            next[i].code[k] = (uint8_t)best[i].entry;
            for (size_t j = 0; j < WORD; j++) next[i].left[j] -= t->b[k][best[i].entry / 8][j][best[i].entry % 8];
        }
        memcpy(beam, next, count * sizeof *beam);
        n = count;
    }
    return beam[0];
}

/* What a tile's codes stand for, without the row's scale. */
static void sum_of(const aq *q, const uint8_t *code, float v[WORD]) {
    memset(v, 0, WORD * sizeof *v);
    for (size_t k = 0; k < q->k; k++)
        for (size_t j = 0; j < WORD; j++) v[j] += q->books[k * BOOK + (size_t)code[k] * WORD + j];
}

/* ---- first books: residual k-means ---- */

/* What is left of training row i's tile when the books before q->first are taken away. */
static void left_of_tile(const aq *q, size_t i, size_t word, float x[WORD]) {
    const size_t r = row_at(q, i), c = word * WORD, n = width_of(q, c);
    const uint8_t *code = codes_of(q, i, word);
    for (size_t j = 0; j < WORD; j++) x[j] = j < n && q->scale[r] > 0 ? q->w[r * q->ldw + c + j] / q->scale[r] : 0;
    for (size_t k = 0; k < q->first; k++)
        for (size_t j = 0; j < WORD; j++) x[j] -= q->books[k * BOOK + (size_t)code[k] * WORD + j];
}

static void assign_words(void *ctx, size_t begin, size_t end, int worker) {
    const aq *q = ctx;
    for (size_t word = begin; word < end; word++) {
        float f[WORD][WORD] = {{0}};
        for (size_t j = 0; j < width_of(q, word * WORD); j++) f[j][j] = sqrtf(importance(q, word * WORD + j));
        fill_tables(q, f, q->room[worker].t);
        for (size_t i = 0; i < q->n_train; i++) {
            float x[WORD];
            left_of_tile(q, i, word, x);
            for (size_t j = 0; j < WORD; j++) x[j] *= f[j][j];
            codes_of(q, i, word)[q->first] = nearest_sum(q, q->room[worker].t, x).code[q->first];
        }
    }
}

/* Vectors become the means of those that chose them; which nobody did, tiles somewhere. */
static void move_means(aq *q, double *sum, double *mass, size_t turn) {
    float *book = q->books + q->first * BOOK;
    memset(sum, 0, BOOK * sizeof *sum), memset(mass, 0, BOOK * sizeof *mass);
    for (size_t i = 0; turn && i < q->n_train; i++)
        for (size_t word = 0; word < q->n_words; word++) {
            const size_t at = (size_t)codes_of(q, i, word)[q->first] * WORD;
            float x[WORD];
            if (!(q->scale[row_at(q, i)] > 0)) continue;
            left_of_tile(q, i, word, x);
            for (size_t j = 0; j < width_of(q, word * WORD); j++) {
                sum[at + j] += (double)importance(q, word * WORD + j) * x[j];
                mass[at + j] += importance(q, word * WORD + j);
            }
        }
    const uint64_t tiles = (uint64_t)q->n_train * q->n_words;
    for (size_t n = 0; n < ENTRIES; n++) {
        const uint64_t any = ((n * 0x9E3779B97F4A7C15u + turn * 0xBF58476D1CE4E5B9u) >> 20) % tiles;
        if (mass[n * WORD] > 0) {
            for (size_t j = 0; j < WORD; j++) book[n * WORD + j] = mass[n * WORD + j] > 0 ? (float)(sum[n * WORD + j] / mass[n * WORD + j]) : 0;
        } else left_of_tile(q, (size_t)(any / q->n_words), (size_t)(any % q->n_words), book + n * WORD);
    }
}

static void first_books(aq *q, double *sum, double *mass) {
    q->n = 1;
    for (q->first = 0; q->first < q->k; q->first++)
        for (size_t turn = 0; turn <= LLOYD; turn++) {
            move_means(q, sum, mass, turn);
            thread_for(q->threads, q->n_words, 4, assign_words, q);
        }
    q->first = 0, q->n = q->k;
}

/* ---- codes ---- */

/* out (rows, n) = columns [c, c + n) of e H, and H's block of these columns. e (rows, cols) */
static void times_columns(const aq *q, const float *e, size_t rows, size_t c, size_t n, float *block, float *out, size_t ldo) {
    const size_t ld = q->cols;
    if (!q->h) {
        memset(block, 0, BLOCK * BLOCK * sizeof *block);
        for (size_t i = 0; i < n; i++) block[i * (BLOCK + 1)] = importance(q, c + i);
        for (size_t r = 0; r < rows; r++)
            for (size_t i = 0; i < n; i++) out[r * ldo + i] = e[r * ld + c + i] * importance(q, c + i);
        return;
    }
    const float *m = q->h->m;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) block[i * BLOCK + j] = block[j * BLOCK + i] = m[(c + i) * ld + c + j];
    linalg_gemm(false, false, rows, n, n, 1, e + c, ld, block, BLOCK, 0, out, ldo);
    if (c) linalg_gemm(false, true, rows, n, c, 1, e, ld, m + c * ld, ld, 1, out, ldo);
    if (c + n < ld) linalg_gemm(false, false, rows, n, ld - c - n, 1, e + c + n, ld, m + (c + n) * ld + c, ld, 1, out, ldo);
}

static void take_codes(const aq *q, size_t i, size_t word, const uint8_t *code) { memcpy(codes_of(q, i, word), code, q->k); }

/* The tile at column c of the block's rows from `begin` on, chosen again. L (n, n), f: it as a factor of whole tiles. */
static void search_tile(const aq *q, const room *t, size_t begin, size_t rows, size_t c0, size_t k, size_t n, const float f[WORD][WORD]) {
    fill_tables(q, f, t->t);
    for (size_t r = 0; r < rows; r++) {
        const float scale = q->scale[row_at(q, begin + r)];
        float *hat = t->hat + r * q->cols + c0 + k, *e = t->e + r * q->cols + c0 + k, *g = t->near + r * BLOCK;
        float want[WORD] = {0}, y[WORD] = {0}, v[WORD], now = 0;
        if (!(scale > 0)) continue;
        for (size_t i = 0; i < n; i++) { /* x f, where x f f^T = g: x is the best change without codes */
            want[i] = g[k + i];
            for (size_t j = 0; j < i; j++) want[i] -= f[i][j] * want[j];
            want[i] /= f[i][i];
        }
        for (size_t i = 0; i < n; i++) now += want[i] * want[i]; /* the error of what stands there */
        memcpy(y, want, sizeof y);
        for (size_t j = 0; j < n; j++) {
            for (size_t i = j; i < n; i++) y[j] += hat[i] * f[i][j];
            y[j] /= scale;
        }
        const way best = nearest_sum(q, t->t, y);
        if (!(best.error * scale * scale < now * 0.9999f)) continue;
        take_codes(q, begin + r, (c0 + k) / WORD, best.code);
        sum_of(q, best.code, v);
        for (size_t i = 0; i < n; i++) {
            const float change = scale * v[i] - hat[i], *row = t->block + (k + i) * BLOCK;
            hat[i] += change, e[i] -= change;
            for (size_t j = 0; j < BLOCK; j++) g[j] -= change * row[j];
        }
    }
}

static void sweep(const aq *q, const room *t, size_t begin, size_t rows) {
    for (size_t c = 0; c < q->cols; c += BLOCK) {
        const size_t n = q->cols - c < BLOCK ? q->cols - c : BLOCK;
        memset(t->block, 0, BLOCK * BLOCK * sizeof *t->block);
        times_columns(q, t->e, rows, c, n, t->block, t->near, BLOCK);
        for (size_t k = 0; k < n; k += WORD) {
            const size_t wide = width_of(q, c + k);
            float f[WORD][WORD] = {{0}};
            for (size_t i = 0; i < wide; i++) /* Cholesky's L; H is damped */
                for (size_t j = 0; j <= i; j++) {
                    double sum = t->block[(k + i) * BLOCK + k + j];
                    for (size_t l = 0; l < j; l++) sum -= (double)f[i][l] * f[j][l];
                    const double least = 1e-6 * t->block[(k + i) * (BLOCK + 1)] + 1e-30;
                    f[i][j] = (float)(i == j ? sqrt(sum > least ? sum : least) : sum / f[j][j]);
                }
            search_tile(q, t, begin, rows, c, k, wide, f);
        }
    }
}

/* Rounds with feedback: a tile's metric is its block of R D R^T, and what it should be near to its weights and what the errors before it ask for. */
static void feedback(const aq *q, const room *t, size_t begin, size_t rows) {
    const hessian *h = q->h;
    for (size_t c = 0; c < q->cols; c += WORD) {
        const size_t n = width_of(q, c), from = h && h->order ? h->order[c] : c;
        float f[WORD][WORD] = {{0}};
        for (size_t i = 0; i < n; i++)
            for (size_t j = i; j < n; j++) f[i][j] = (i == j ? 1 : h ? h->m[(c + i) * q->cols + c + j] : 0) * sqrtf(importance(q, from + j));
        fill_tables(q, f, t->t);
        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < n; j++) t->near[r * WORD + j] = q->w[row_at(q, begin + r) * q->ldw + from + j];
        if (h && c) linalg_gemm(false, false, rows, n, c, 1, t->ordered, q->cols, h->m + c, q->cols, 1, t->near, WORD);
        for (size_t r = 0; r < rows; r++) {
            const size_t row = row_at(q, begin + r);
            const float scale = q->scale[row];
            float y[WORD] = {0}, v[WORD];
            for (size_t i = 0; i < n && scale > 0; i++)
                for (size_t j = i; j < n; j++) y[j] += t->near[r * WORD + i] / scale * f[i][j];
            const way best = nearest_sum(q, t->t, y);
            take_codes(q, begin + r, from / WORD, best.code);
            sum_of(q, best.code, v);
            for (size_t j = 0; j < n; j++) {
                t->hat[r * q->cols + from + j] = scale * v[j];
                t->e[r * q->cols + from + j] = t->ordered[r * q->cols + c + j] = q->w[row * q->ldw + from + j] - scale * v[j];
            }
        }
    }
}

/* Errors of rows with the codes that they have. */
static void recall(const aq *q, const room *t, size_t begin, size_t rows) {
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < q->cols; c += WORD) {
            const size_t row = row_at(q, begin + r);
            float v[WORD];
            sum_of(q, codes_of(q, begin + r, c / WORD), v);
            for (size_t j = 0; j < width_of(q, c); j++) {
                t->hat[r * q->cols + c + j] = q->scale[row] * v[j];
                t->e[r * q->cols + c + j] = q->w[row * q->ldw + c + j] - q->scale[row] * v[j];
            }
        }
}

static void code_rows(void *ctx, size_t begin, size_t end, int worker) {
    const aq *q = ctx;
    const room *t = &q->room[worker];
    const size_t rows = end - begin;
    if (q->fresh) feedback(q, t, begin, rows);
    else recall(q, t, begin, rows);
    for (int i = 0; i < (q->fresh ? (q->h ? SWEEPS : 0) : 1); i++) sweep(q, t, begin, rows);
    if (q->training) memcpy(q->e + begin * q->cols, t->e, rows * q->cols * sizeof *q->e);
    if (!q->judge) return;
    for (size_t r = 0; r < rows; r++) {
        q->loss[begin + r] = 0;
        for (size_t c = 0; c < q->cols && !q->h; c++) q->loss[begin + r] += (double)importance(q, c) * t->e[r * q->cols + c] * t->e[r * q->cols + c];
    }
    if (q->h && hessian_loss(q->h, t->e, q->cols, rows, q->loss + begin, NULL)) q->loss[begin] = NAN; /* no memory for it */
}

static double code(aq *q, bool fresh) {
    const size_t rows = q->training ? q->n_train : q->rows;
    double left = 0;
    q->fresh = fresh;
    thread_for(q->threads, rows, ROWS, code_rows, q);
    for (size_t r = 0; r < rows; r++) left += q->loss[r];
    return left;
}

/* ---- books ---- */

/* eh's columns [begin, end) = those of `times` H. */
static void times_h(void *ctx, size_t begin, size_t end, int worker) {
    const aq *q = ctx;
    times_columns(q, q->times, q->n_train, begin, end - begin, q->room[worker].block, q->eh + begin, q->cols);
}

/* out (K, 256, 8) = the sums over all tiles of the row's scale times eh, for the vectors that they use. */
static void gather(const aq *q, double *out) {
    memset(out, 0, q->k * BOOK * sizeof *out);
    for (size_t i = 0; i < q->n_train; i++)
        for (size_t word = 0; word < q->n_words; word++)
            for (size_t k = 0; k < q->k; k++) {
                double *to = out + k * BOOK + (size_t)codes_of(q, i, word)[k] * WORD;
                for (size_t j = 0; j < width_of(q, word * WORD); j++) to[j] += (double)q->scale[row_at(q, i)] * q->eh[i * q->cols + word * WORD + j];
            }
}

/* What a change of the books (K, 256, 8) changes the weights by. */
static void spread(const aq *q, const double *books, float *out) {
    for (size_t i = 0; i < q->n_train; i++)
        for (size_t c = 0; c < q->cols; c++) {
            double v = 0;
            for (size_t k = 0; k < q->k; k++) v += books[k * BOOK + (size_t)codes_of(q, i, c / WORD)[k] * WORD + c % WORD];
            out[i * q->cols + c] = (float)(q->scale[row_at(q, i)] * v);
        }
}

static double product(const double *a, const double *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Books for the codes: conjugate gradients from where they are. r, z, p, ap, diagonal (K, 256, 8) each at `work`; change (n_train, cols). */
static void fit_books(aq *q, double *work, float *change) {
    const size_t n = q->k * BOOK;
    double *r = work, *p = r + n, *ap = p + n, *diagonal = ap + n, last = 0;
    memset(diagonal, 0, n * sizeof *diagonal);
    for (size_t i = 0; i < q->n_train; i++)
        for (size_t c = 0; c < q->cols; c++)
            for (size_t k = 0; k < q->k; k++) {
                const double s = q->scale[row_at(q, i)];
                diagonal[k * BOOK + (size_t)codes_of(q, i, c / WORD)[k] * WORD + c % WORD] += s * s * (q->h ? q->h->m[c * (q->cols + 1)] : importance(q, c));
            }
    q->times = q->e;
    thread_for(q->threads, q->cols, BLOCK, times_h, q);
    gather(q, r);
    for (int step = 0; step < STEPS; step++) {
        double now = 0;
        for (size_t i = 0; i < n; i++) now += diagonal[i] > 0 ? r[i] * r[i] / diagonal[i] : 0;
        for (size_t i = 0; i < n; i++) p[i] = (diagonal[i] > 0 ? r[i] / diagonal[i] : 0) + (step ? now / last * p[i] : 0);
        last = now;
        spread(q, p, change);
        q->times = change;
        thread_for(q->threads, q->cols, BLOCK, times_h, q);
        gather(q, ap);
        const double down = product(p, ap, n), by = now / down;
        if (!(now > 0) || !(down > 0) || !isfinite(by)) break;
        for (size_t i = 0; i < n; i++) r[i] -= by * ap[i], q->books[i] += (float)(by * p[i]);
    }
}

/* Books to bytes: no sum leaves them. Scales to what is stored, d; they are d times the step after that. */
static void round_books(aq *q, int8_t *bytes, uint16_t *d) {
    float most = 0;
    for (size_t j = 0; j < WORD; j++) {
        float sum = 0;
        for (size_t k = 0; k < q->k; k++) {
            float top = 0;
            for (size_t i = 0; i < ENTRIES; i++) top = fmaxf(top, fabsf(q->books[k * BOOK + i * WORD + j]));
            sum += top;
        }
        most = fmaxf(most, sum);
    }
    const float per_unit = most > 0 ? (127 - (float)q->k) / most : 1; /* each rounds by half a step at most */
    for (size_t i = 0; i < q->k * BOOK; i++) q->books[i] = rintf(q->books[i] * per_unit), bytes[i] = (int8_t)q->books[i];
    for (size_t r = 0; r < q->rows; r++) {
        d[r] = f32_to_bf16(fminf(q->scale[r] / per_unit, 0x1p120f));
        q->scale[r] = bf16_to_f32(d[r]);
    }
}

/* ---- the whole ---- */

static void row_scales(aq *q) {
    for (size_t r = 0; r < q->rows; r++) {
        double sum = 0, all = 0;
        for (size_t c = 0; c < q->cols; c++) {
            const double w = q->w[r * q->ldw + c];
            sum += importance(q, c) * w * w, all += importance(q, c);
        }
        const double scale = sqrt(sum / all);
        q->scale[r] = scale > 1e-30 ? (float)fmin(scale, 1e36) : 0;
    }
}

static void solve(aq *q, int rounds, double *left, double *work, float *change, int8_t *bytes, uint16_t *d, uint8_t *packed, uint8_t *dst) {
    row_scales(q);
    q->training = true;
    first_books(q, work, work + BOOK);
    for (int i = 0; i < rounds; i++) {
        const double now = code(q, i == 0);
        if (left) left[i] = now;
        fit_books(q, work, change);
    }
    q->training = false;
    round_books(q, bytes, d);
    const double now = code(q, true);
    if (left) left[rounds] = now;
    const size_t words = 4 * div_up(q->cols, 32);
    memset(packed, 0, div_up(q->rows, KERN_PANEL_ROWS) * words * q->k * KERN_PANEL_ROWS);
    for (size_t r = 0; r < q->rows; r++)
        for (size_t word = 0; word < q->n_words; word++)
            for (size_t k = 0; k < q->k; k++)
                packed[((r / KERN_PANEL_ROWS * words + word) * q->k + k) * KERN_PANEL_ROWS + r % KERN_PANEL_ROWS] = codes_of(q, r, word)[k];
    aq_pack(q->p, q->rows, q->cols, bytes, d, packed, dst);
}

static bool open_room(const aq *q, room *t) {
    const size_t mat = ROWS * q->cols * sizeof(float);
    *t = (room){.t = aligned_alloc(64, round_up(sizeof *t->t, 64)), .e = malloc(mat), .ordered = malloc(mat), .hat = malloc(mat),
                .near = calloc(ROWS * BLOCK, sizeof *t->near), .block = calloc(BLOCK * BLOCK, sizeof *t->block)};
    return t->t && t->e && t->ordered && t->hat && t->near && t->block;
}
static void close_room(room *t) { free(t->t), free(t->e), free(t->ordered), free(t->hat), free(t->near), free(t->block); }

snug_err solve_aq(codec_params p, const float *w, size_t ldw, size_t rows, size_t cols, const float *a, const hessian *h, int rounds, int threads,
                  double *left, uint8_t *dst, snug_error *err) {
    if (h && (h->n != cols || (h->order && h->group % WORD != 0))) return err_set(err, SNUG_ERR_ARG, "second moments of %zu inputs for %zu columns", h->n, cols);
    if (threads < 1) threads = 1;
    aq q = {.p = p, .w = w, .ldw = ldw, .rows = rows, .cols = cols, .k = p.rank, .n_words = div_up(cols, WORD), .h = h, .threads = threads, .judge = left};
    q.n_train = TRAINING / cols < LEAST_ROWS ? LEAST_ROWS : TRAINING / cols;
    if (q.n_train > rows) q.n_train = rows;
    const size_t packed_bytes = (size_t)books_panel_bytes(p, rows, cols);
    float *imp = malloc(cols * sizeof *imp), *change = malloc(q.n_train * cols * sizeof *change);
    double *work = malloc(4 * q.k * BOOK * sizeof *work);
    int8_t *bytes = malloc(q.k * BOOK);
    uint16_t *d = malloc(rows * sizeof *d);
    uint8_t *packed = malloc(packed_bytes);
    q.scale = malloc(rows * sizeof *q.scale), q.books = malloc(q.k * BOOK * sizeof *q.books), q.codes = calloc(rows * q.n_words, q.k);
    q.e = malloc(q.n_train * cols * sizeof *q.e), q.eh = malloc(q.n_train * cols * sizeof *q.eh), q.loss = calloc(rows, sizeof *q.loss);
    q.room = calloc((size_t)threads, sizeof *q.room);
    bool ok = imp && change && work && bytes && d && packed && q.scale && q.books && q.codes && q.e && q.eh && q.loss && q.room;
    for (int i = 0; ok && i < threads; i++) ok = open_room(&q, &q.room[i]);
    snug_err e = ok ? check_finite("aq", w, ldw, rows, cols, 0, err) : err_nomem(err, 4 * q.n_train * cols * sizeof(float));
    if (!e && a && !h) {
        e = importance_normalise(a, cols, imp, err);
        q.a = imp;
    }
    if (!e) solve(&q, rounds, left, work, change, bytes, d, packed, dst);
    for (int i = 0; q.room && i < threads; i++) close_room(&q.room[i]);
    free(imp), free(change), free(work), free(bytes), free(d), free(packed);
    free(q.scale), free(q.books), free(q.codes), free(q.e), free(q.eh), free(q.loss), free(q.room);
    return e;
}
