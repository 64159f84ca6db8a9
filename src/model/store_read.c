/* Reading weights by pread: rows as f32 in canonical order, whole payloads, whole layers. Nothing here maps a file, so
 * a file that shrinks under us is an error and not a signal. */
#include "base/checked.h"
#include "base/err.h"
#include "model/graph.h"
#include "model/store_impl.h"

#include <stdlib.h>
#include <string.h>

snug_err store_read_term(const store *s, const store_term *t, uint8_t *dst, snug_error *err) {
    return t->apart.step ? store_apart_read(s, t, 0, t->rows, dst, err) : io_pread(&s->files[t->file], t->offset, dst, (size_t)t->bytes, err);
}

uint64_t store_term_tile(const store_term *t) { return t->layout == WT_PANELS ? KERN_PANEL_ROWS : t->codec->tile_rows; }

snug_err store_open_rows(const store_term *t, uint64_t row0, uint64_t rows, const uint8_t *data, uint64_t bytes, wt *out, snug_error *err) {
    snug_err rc = wt_open(t->codec, t->params, rows, t->cols, data, bytes, out, err);
    out->layout = t->layout;
    out->scales = t->scales;
    out->scales.row0 += row0;
    return rc;
}

/* Bytes of the first n rows of a row-separable payload. */
static uint64_t prefix_bytes(const store_term *t, uint64_t n) { return n ? t->codec->bytes(t->params, n, t->cols) : 0; }

snug_err store_read_payload(const store *s, const store_term *t, uint64_t row0, uint64_t n, uint8_t *dst, snug_error *err) {
    if (t->apart.step) return store_apart_read(s, t, row0, n, dst, err);
    const uint64_t at = prefix_bytes(t, row0);
    return io_pread(&s->files[t->file], t->offset + at, dst, (size_t)(prefix_bytes(t, row0 + n) - at), err);
}

/* Reads what is needed of a term to decode the weight's rows [row0, row0 + n) (multiples of the tile), as a term whose
 * rows count from row0. A codec that is not row-separable is read whole. *payload is malloc'd. Rows outside the term:
 * *out has no rows. */
static snug_err read_panel(const store *s, const store_term *t, uint64_t row0, uint64_t n, term *out, uint8_t **payload,
                           snug_error *err) {
    uint64_t begin = max_u64(t->row0, row0), end = min_u64(t->row0 + t->rows, row0 + n);
    memset(out, 0, sizeof *out);
    *payload = NULL;
    if (begin >= end) return SNUG_OK;
    bool whole = t->codec->caps & CODEC_WHOLE;
    if (whole) begin = t->row0, end = t->row0 + t->rows;
    uint64_t bytes = whole ? t->bytes : prefix_bytes(t, end - t->row0) - prefix_bytes(t, begin - t->row0);
    if (!(*payload = malloc(bytes))) return err_nomem(err, bytes);
    snug_err rc = whole ? store_read_term(s, t, *payload, err) : store_read_payload(s, t, begin - t->row0, end - begin, *payload, err);
    if (!rc) rc = store_open_rows(t, begin - t->row0, end - begin, *payload, bytes, &out->wt, err);
    out->row0 = begin; /* still counted from the weight's first row */
    out->col0 = t->col0;
    return rc;
}

/* Rows [row0, row0 + n) as the file has them. */
static snug_err read_raw(const store *s, const store_tensor *t, uint64_t row0, size_t n, float *dst, size_t stride,
                         snug_error *err) {
    uint64_t tile = 1;
    for (uint32_t i = 0; i < t->n_terms; i++) tile = max_u64(tile, store_term_tile(&t->term[i])); /* powers of two */
    uint64_t begin = row0 / tile * tile, end = min_u64(t->rows, round_up(row0 + n, tile));
    weight w = {.rows = t->rows, .cols = t->cols};
    uint8_t *payload[WEIGHT_MAX_TERMS] = {0};
    snug_err rc = SNUG_OK;
    for (uint32_t i = 0; !rc && i < t->n_terms; i++) {
        rc = read_panel(s, &t->term[i], begin, end - begin, &w.term[w.n_terms], &payload[i], err);
        if (payload[i]) w.n_terms++;
    }
    if (!rc) weight_decode(&w, row0, n, dst, stride);
    for (uint32_t i = 0; i < t->n_terms; i++) free(payload[i]);
    return rc;
}

/* Canonical index j of a head (interleaved pairs) -> index in the file (halves): 2i + b <- i + b * (head_dim / 2). */
static uint64_t raw_in_head(uint64_t j, uint64_t head_dim) { return j / 2 + j % 2 * (head_dim / 2); }

snug_err store_read_rows(const store *s, const store_tensor *t, uint64_t row0, size_t n, float *dst, snug_error *err) {
    if (row0 > t->rows || n > t->rows - row0)
        return err_set(err, SNUG_ERR_ARG, "rows %llu to %llu of tensor '%s' were asked for, it has %llu",
                       (unsigned long long)row0, (unsigned long long)(row0 + n), t->name, (unsigned long long)t->rows);
    if (!t->permute_heads) return read_raw(s, t, row0, n, dst, t->cols, err);
    bool vector = t->rows == 1; /* a bias: its columns are what the matrix' rows are */
    uint64_t width = vector ? 1 : t->cols, hd = (vector ? t->cols : t->rows) / t->permute_heads;
    uint64_t begin = vector ? 0 : row0, end = vector ? t->cols : row0 + n;
    float *head = malloc((vector ? t->cols : hd * width) * sizeof *head);
    if (!head) return err_nomem(err, hd * width * sizeof *head);
    snug_err rc = vector ? read_raw(s, t, 0, 1, head, t->cols, err) : SNUG_OK;
    for (uint64_t h = begin / hd; !rc && h * hd < end; h++) {
        const float *from = vector ? head + h * hd : head;
        if (!vector) rc = read_raw(s, t, h * hd, hd, head, width, err);
        for (uint64_t j = 0; !rc && j < hd; j++)
            if (h * hd + j >= begin && h * hd + j < end)
                memcpy(dst + (h * hd + j - begin) * width, from + raw_in_head(j, hd) * width, width * sizeof *dst);
    }
    free(head);
    return rc;
}

snug_err store_read_vector(const store *s, const store_tensor *t, arena *mem, const float **out, snug_error *err) {
    const uint64_t n = t->rows * t->cols; /* one row, but for the router */
    float *v = arena_calloc(mem, n, sizeof *v);
    if (!v) return err_nomem(err, n * sizeof *v);
    *out = v;
    return read_raw(s, t, 0, (size_t)t->rows, v, t->cols, err);
}

/* A term whose scales stand apart, as f32 numbers: who has a layer in memory moves its rows and columns, and there scales cannot follow. */
static snug_err read_widened(const store *s, const store_tensor *t, const store_term *from, arena *mem, wt *out, snug_error *err) {
    const uint64_t bytes = from->rows * from->cols * sizeof(float);
    float *w = arena_alloc(mem, bytes);
    if (!w) return err_nomem(err, bytes);
    snug_err rc = read_raw(s, t, from->row0, (size_t)from->rows, w, (size_t)from->cols, err);
    return rc ? rc : wt_open(codec_by_ggml_type(GGML_F32), (codec_params){0}, from->rows, from->cols, (const uint8_t *)w, bytes, out, err);
}

static snug_err read_matrix(const store *s, const store_tensor *t, arena *mem, weight *w, snug_error *err) {
    *w = (weight){.rows = t->rows, .cols = t->cols};
    for (uint32_t i = 0; i < t->n_terms; i++) {
        const store_term *from = &t->term[i];
        uint8_t *payload = from->scales.at ? NULL : arena_alloc(mem, from->bytes);
        if (!payload && !from->scales.at) return err_nomem(err, from->bytes);
        snug_err rc = payload ? store_read_term(s, from, payload, err) : read_widened(s, t, from, mem, &w->term[i].wt, err);
        if (!rc && payload) rc = store_open_rows(from, 0, from->rows, payload, from->bytes, &w->term[i].wt, err);
        if (rc) return rc;
        w->term[i].row0 = from->row0;
        w->term[i].col0 = from->col0;
        w->n_terms++;
    }
    return SNUG_OK;
}

snug_err layer_read_dense(const store *s, int layer, arena *mem, layer_weights *out, snug_error *err) {
    memset(out, 0, sizeof *out);
    const size_t n_experts = layer < 0 ? 0 : layer_experts(&s->cfg, layer);
    if (n_experts && !(out->experts = arena_calloc(mem, n_experts, sizeof *out->experts)))
        return err_nomem(err, n_experts * sizeof *out->experts);
    for (size_t i = 0; i < s->n_tensors; i++) {
        const store_tensor *t = &s->tensors[i];
        if (t->layer != layer || t->expert != EXPERT_NONE) continue;
        snug_err rc = (int)t->role < (int)ROLE_MATRICES ? read_matrix(s, t, mem, &out->w[t->role], err)
                                                        : store_read_vector(s, t, mem, &out->vec[t->role], err);
        if (rc) return rc;
    }
    return SNUG_OK;
}

snug_err layer_read_expert(const store *s, int layer, int expert, arena *mem, expert_weights *out, snug_error *err) {
    snug_err rc = SNUG_OK;
    for (int i = 0; !rc && i < EXPERT_MATRICES; i++)
        rc = read_matrix(s, store_expert(s, (tensor_role)(ROLE_GATE + i), layer, expert), mem, &out->w[i], err);
    return rc;
}

snug_err layer_read(const store *s, int layer, arena *mem, layer_weights *out, snug_error *err) {
    snug_err rc = layer_read_dense(s, layer, mem, out, err);
    for (int e = 0; !rc && out->experts && e < (int)s->cfg.n_experts; e++) rc = layer_read_expert(s, layer, e, mem, &out->experts[e], err);
    return rc;
}
