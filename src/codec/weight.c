/* A weight as a sum of terms: decode and multiply. Each term adds its part in order, so a result is the same for any way of
 * cutting rows and tokens. A term's activations are the weight's, seen from its first column; where the term ends before the
 * weight does, or does not start at 0, they are copied a few tokens at a time and padded with zeros as codecs expect. */
#include "codec/weight.h"

#include <string.h>

#include "base/checked.h"

enum { SLICE_TOKENS = 16 };

static bool covers_columns(const weight *w, const term *t) { return t->col0 == 0 && t->wt.cols == w->cols; }

/* Rows of the term inside [row0, row0 + n): false when there are none. first: in the term; skip: rows of the range before. */
static bool overlap(const term *t, uint64_t row0, size_t n, uint64_t *first, size_t *skip, size_t *count) {
    uint64_t begin = max_u64(row0, t->row0), end = min_u64(row0 + n, t->row0 + t->wt.rows);
    if (begin >= end) return false;
    *first = begin - t->row0;
    *skip = (size_t)(begin - row0);
    *count = (size_t)(end - begin);
    return true;
}

void weight_decode(const weight *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    uint64_t first;
    size_t skip, count;
    /* The first term usually is all of it: decoded in place. */
    uint32_t i = 0;
    if (w->n_terms && covers_columns(w, &w->term[0]) && overlap(&w->term[0], row0, n, &first, &skip, &count) && count == n) {
        w->term[0].wt.codec->decode(&w->term[0].wt, first, n, dst, stride);
        i = 1;
    } else {
        for (size_t r = 0; r < n; r++) memset(dst + r * stride, 0, (size_t)w->cols * sizeof(float));
    }
    for (; i < w->n_terms; i++) {
        const term *t = &w->term[i];
        if (!overlap(t, row0, n, &first, &skip, &count)) continue;
        t->wt.codec->decode_add(&t->wt, first, count, dst + skip * stride + t->col0, stride);
    }
}

/* ---- multiply ---- */

/* Columns as codecs may read them: whole chunks up to the codec's own padding. */
static size_t padded(size_t cols) { return round_up(cols, 256); }

/* Room for SLICE_TOKENS tokens of a term's own activations, in both forms. */
static size_t slice_bytes(size_t cols) {
    size_t n = padded(cols);
    return SLICE_TOKENS * (n * sizeof(float) + n + 4 * (n / 32) * sizeof(float));
}

size_t weight_scratch_bytes(const weight *w, size_t n_tokens) {
    size_t most = 0;
    for (uint32_t i = 0; i < w->n_terms; i++) {
        const wt *t = &w->term[i].wt;
        size_t need = round_up(t->codec->scratch_bytes(t, (size_t)t->rows, n_tokens), 64);
        if (!covers_columns(w, &w->term[i])) need += slice_bytes((size_t)t->cols);
        if (need > most) most = need;
    }
    return most;
}

/* Copies columns [col0, col0 + cols) of tokens [t0, t0 + x.n_tokens) and clears the padding. In the q8 form a chunk cut by the last
 * column keeps its scale; the sums of 16 are taken anew. */
static act slice(const act *from, size_t t0, size_t n_tokens, size_t col0, size_t cols, void *room) {
    size_t n = padded(cols), ld = from->cols_padded;
    const size_t chunks = n / 32;
    float *f32 = room, *scale = f32 + SLICE_TOKENS * n, *sum32 = scale + SLICE_TOKENS * chunks, *sum16 = sum32 + SLICE_TOKENS * chunks;
    int8_t *q8 = (int8_t *)(sum16 + SLICE_TOKENS * 2 * chunks);
    for (size_t t = 0; t < n_tokens; t++) {
        memcpy(f32 + t * n, from->f32 + (t0 + t) * ld + col0, cols * sizeof(float));
        memset(f32 + t * n + cols, 0, (n - cols) * sizeof(float));
        if (!from->q8.q) continue;
        memcpy(q8 + t * n, from->q8.q + (t0 + t) * ld + col0, cols);
        memset(q8 + t * n + cols, 0, n - cols);
        for (size_t g = 0; g < chunks; g++) scale[t * chunks + g] = g * 32 < cols ? from->q8.scale[((t0 + t) * ld + col0) / 32 + g] : 0;
        for (size_t g = 0; g < 2 * chunks; g++) {
            int sum = 0;
            for (size_t i = 0; i < 16; i++) sum += q8[t * n + 16 * g + i];
            sum16[t * 2 * chunks + g] = (float)sum;
        }
        for (size_t g = 0; g < chunks; g++) sum32[t * chunks + g] = sum16[2 * (t * chunks + g)] + sum16[2 * (t * chunks + g) + 1];
    }
    return (act){.n_tokens = n_tokens, .cols = cols, .cols_padded = n, .f32 = f32,
                 .q8 = {.ld = n, .q = from->q8.q ? q8 : NULL, .scale = scale, .sum32 = sum32, .sum16 = sum16}};
}

void weight_matmul(const weight *w, uint64_t row0, size_t n, const act *x, bool allow_q8, float *y, size_t ldy, void *scratch) {
    for (size_t t = 0; t < x->n_tokens; t++) memset(y + t * ldy, 0, n * sizeof(float));
    for (uint32_t i = 0; i < w->n_terms; i++) {
        const term *t = &w->term[i];
        const snug_codec *codec = t->wt.codec;
        bool use_q8 = allow_q8 && codec->act == CODEC_ACT_Q8 && x->q8.q;
        uint64_t first;
        size_t skip, count;
        if (!overlap(t, row0, n, &first, &skip, &count)) continue;
        if (covers_columns(w, t)) {
            codec->matmul(&t->wt, first, count, x, use_q8, y + skip, ldy, scratch);
            continue;
        }
        size_t cols = (size_t)t->wt.cols;
        uint8_t *rest = (uint8_t *)scratch + slice_bytes(cols); /* a multiple of 64: padded() is one of 256 */
        for (size_t t0 = 0; t0 < x->n_tokens; t0 += SLICE_TOKENS) {
            size_t tokens = x->n_tokens - t0 < SLICE_TOKENS ? x->n_tokens - t0 : SLICE_TOKENS;
            act part = slice(x, t0, tokens, (size_t)t->col0, cols, scratch);
            codec->matmul(&t->wt, first, count, &part, use_q8, y + t0 * ldy + skip, ldy, rest);
        }
    }
}

uint64_t weight_bytes(const weight *w) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < w->n_terms; i++) n += w->term[i].wt.bytes;
    return n;
}

bool weight_wants_q8(const weight *w) {
    for (uint32_t i = 0; i < w->n_terms; i++)
        if (w->term[i].wt.codec->act == CODEC_ACT_Q8) return true;
    return false;
}
