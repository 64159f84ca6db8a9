/* A weight as a sum of terms: decode and multiply. Each term adds its part in order, so a result is the same for any way of
 * cutting rows and tokens. A term's activations are the weight's, seen from its first column; where the term ends before the
 * weight does, or does not start at 0, they are copied a few tokens at a time and padded with zeros as codecs expect. */
#include "codec/weight.h"

#include <string.h>

#include "base/checked.h"
#include "codec/transform.h"

enum { SLICE_TOKENS = 16, DENSE_ROWS = 64 /* that tokens pass by at once */ };

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

/* dst (n, stride) += the terms of one basis; *fresh: nothing is there yet, and dst need not be cleared first. */
static void decode_terms(const weight *w, int transform, uint64_t row0, size_t n, float *dst, size_t stride, bool *fresh) {
    uint64_t first;
    size_t skip, count;
    for (uint32_t i = 0; i < w->n_terms; i++) {
        const term *t = &w->term[i];
        if (t->wt.params.in != transform || !overlap(t, row0, n, &first, &skip, &count)) continue;
        if (*fresh && covers_columns(w, t) && count == n) { /* usually all of it: decoded in place */
            t->wt.codec->decode(&t->wt, first, n, dst, stride);
        } else {
            for (size_t r = 0; *fresh && r < n; r++) memset(dst + r * stride, 0, (size_t)w->cols * sizeof(float));
            t->wt.codec->decode_add(&t->wt, first, count, dst + skip * stride + t->col0, stride);
        }
        *fresh = false;
    }
}

/* Terms in a transform's basis first: they are turned back together. */
void weight_decode(const weight *w, uint64_t row0, size_t n, float *dst, size_t stride) {
    bool fresh = true;
    for (int transform = TRANSFORM_COUNT - 1; transform >= 0; transform--) {
        decode_terms(w, transform, row0, n, dst, stride, &fresh);
        for (size_t r = 0; transform && !fresh && r < n; r++) transform_undo(transform, (size_t)w->cols, dst + r * stride);
    }
    for (size_t r = 0; fresh && r < n; r++) memset(dst + r * stride, 0, (size_t)w->cols * sizeof(float));
}

/* ---- multiply ---- */

/* Columns as codecs may read them: whole chunks up to the codec's own padding. */
static size_t padded(size_t cols) { return round_up(cols, 256); }

/* Room for SLICE_TOKENS tokens of a term's own activations, in both forms. */
static size_t slice_bytes(size_t cols) {
    size_t n = padded(cols);
    return SLICE_TOKENS * (n * sizeof(float) + n + 4 * (n / 32) * sizeof(float));
}

/* The codec multiplies q8 alone, which is not there. */
static bool is_dense(const wt *t, bool allow_q8) { return t->codec->act == CODEC_ACT_Q8 && !allow_q8; }

size_t weight_scratch_bytes(const weight *w, size_t n_tokens, bool allow_q8) {
    size_t most = 0;
    for (uint32_t i = 0; i < w->n_terms; i++) {
        const wt *t = &w->term[i].wt;
        if (is_dense(t, allow_q8)) {
            most = max_u64(most, min_u64(t->rows, DENSE_ROWS) * t->cols * sizeof(float));
            continue;
        }
        size_t need = round_up(t->codec->scratch_bytes(t, (size_t)t->rows, n_tokens), 64);
        if (!covers_columns(w, &w->term[i])) need += slice_bytes((size_t)t->cols);
        if (need > most) most = need;
    }
    return most;
}

/* Columns [col0, col0 + cols) of one token's q8 row, the padding zero. A chunk cut by the last column keeps its scale; sums are taken anew. */
static void slice_q8(const kern_q8 *from, kern_q8_place f, size_t col0, size_t cols, size_t n, kern_q8_place t, int8_t *q, float *scale, float *sum32,
                     float *sum16) {
    const int8_t *src = from->q + f.tile * from->ld + 4 * (col0 / 4 * f.width + f.lane);
    const float *src_scale = from->scale + f.tile * (from->ld / 32) + col0 / 32 * f.width + f.lane;
    q += t.tile * n, scale += t.tile * (n / 32) + t.lane, sum32 += t.tile * (n / 32) + t.lane, sum16 += t.tile * (n / 16) + t.lane;
    for (size_t w = 0; w < n / 4; w++) {
        int8_t word[4] = {0};
        if (4 * w < cols) memcpy(word, src + 4 * w * f.width, cols - 4 * w < 4 ? cols - 4 * w : 4);
        memcpy(q + 4 * (w * t.width + t.lane), word, 4);
        float sum = (float)(word[0] + word[1] + word[2] + word[3]), *at16 = sum16 + w / 4 * t.width, *at32 = sum32 + w / 8 * t.width;
        *at16 = w % 4 ? *at16 + sum : sum;
        *at32 = w % 8 ? *at32 + sum : sum;
        if (w % 8 == 0) scale[w / 8 * t.width] = 4 * w < cols ? src_scale[w / 8 * f.width] : 0;
    }
}

/* Copies columns [col0, col0 + cols) of tokens [t0, t0 + n_tokens) and clears the padding. */
static act slice(const act *from, size_t t0, size_t n_tokens, size_t col0, size_t cols, void *room) {
    const size_t n = padded(cols), chunks = n / 32;
    float *f32 = room, *scale = f32 + SLICE_TOKENS * n, *sum32 = scale + SLICE_TOKENS * chunks, *sum16 = sum32 + SLICE_TOKENS * chunks;
    int8_t *q8 = (int8_t *)(sum16 + SLICE_TOKENS * 2 * chunks);
    for (size_t t = 0; t < n_tokens; t++) {
        memcpy(f32 + t * n, from->f32 + (t0 + t) * from->cols_padded + col0, cols * sizeof(float));
        memset(f32 + t * n + cols, 0, (n - cols) * sizeof(float));
        if (from->q8.q)
            slice_q8(&from->q8, kern_q8_place_of(from->n_tokens, t0 + t), col0, cols, n, kern_q8_place_of(n_tokens, t), q8, scale, sum32, sum16);
    }
    return (act){.n_tokens = n_tokens, .cols = cols, .cols_padded = n, .f32 = f32,
                 .q8 = {.ld = n, .q = from->q8.q ? q8 : NULL, .scale = scale, .sum32 = sum32, .sum16 = sum16}};
}

/* y += rows [row0, row0 + n) of t, decoded, times x's columns from col0 on. */
static void matmul_dense(const wt *t, uint64_t row0, size_t n, const act *x, size_t col0, float *y, size_t ldy, float *dense) {
    const size_t cols = (size_t)t->cols;
    for (size_t i = 0, len; i < n; i += len) {
        len = n - i < DENSE_ROWS ? n - i : DENSE_ROWS;
        t->codec->decode(t, row0 + i, len, dense, cols);
        kern()->dot_f32(len, x->n_tokens, cols, dense, cols, x->f32 + col0, x->cols_padded, y + i, ldy);
    }
}

void weight_matmul(const weight *w, uint64_t row0, size_t n, const act_set *set, bool allow_q8, float *y, size_t ldy, void *scratch) {
    for (size_t t = 0; t < set->in[TRANSFORM_NONE].n_tokens; t++) memset(y + t * ldy, 0, n * sizeof(float));
    for (uint32_t i = 0; i < w->n_terms; i++) {
        const term *t = &w->term[i];
        const snug_codec *codec = t->wt.codec;
        const act *x = &set->in[t->wt.params.in];
        uint64_t first;
        size_t skip, count;
        if (!overlap(t, row0, n, &first, &skip, &count)) continue;
        if (is_dense(&t->wt, allow_q8)) {
            matmul_dense(&t->wt, first, count, x, (size_t)t->col0, y + skip, ldy, scratch);
            continue;
        }
        if (covers_columns(w, t)) {
            codec->matmul(&t->wt, first, count, x, y + skip, ldy, scratch);
            continue;
        }
        size_t cols = (size_t)t->wt.cols;
        uint8_t *rest = (uint8_t *)scratch + slice_bytes(cols); /* a multiple of 64: padded() is one of 256 */
        for (size_t t0 = 0; t0 < x->n_tokens; t0 += SLICE_TOKENS) {
            size_t tokens = x->n_tokens - t0 < SLICE_TOKENS ? x->n_tokens - t0 : SLICE_TOKENS;
            act part = slice(x, t0, tokens, (size_t)t->col0, cols, scratch);
            codec->matmul(&t->wt, first, count, &part, y + t0 * ldy + skip, ldy, rest);
        }
    }
}

uint64_t weight_bytes(const weight *w) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < w->n_terms; i++) n += w->term[i].wt.bytes;
    return n;
}

bool weight_reads(const weight *w, int transform) {
    for (uint32_t i = 0; i < w->n_terms; i++)
        if (w->term[i].wt.params.in == transform) return true;
    return false;
}

bool weight_wants_q8(const weight *w, int transform) {
    for (uint32_t i = 0; i < w->n_terms; i++)
        if (w->term[i].wt.params.in == transform && w->term[i].wt.codec->act == CODEC_ACT_Q8) return true;
    return false;
}
