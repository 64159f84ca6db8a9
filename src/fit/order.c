/* The order in which the fitted model has its channels. Where nothing but channel-wise arithmetic and sums over channels stands between two
 * weights, rows of the first and columns of the second may change places together: the function stays the same up to the rounding of its
 * sums, nothing is stored and nothing is applied when the model runs.
 *
 *     stream   columns of the embedding, of q k v, ssm_in, gate up (of all experts), router and head; gains of the norms before them; rows of o,
 *              ssm_out and down: one order for all
 *     values   rows of v within each of its heads; columns of o alike in all query heads that read it: an order for each layer
 *
 * Codecs share scales among neighbours, and error feedback goes from left to right. So the loudest come first, and like stands by like. How loud
 * is told by the weights alone, in a way that no scaling between them changes: a channel of the stream by its embedding's energy times that
 * of its norm's gain in what reads it (mean of the logarithms over all norms); a value's by the energy of its row of v times that of its columns
 * of o. Measured beside orders by activations: bench/RESULTS.md; the hidden channels of the feed-forward gain nothing and stay.
 *
 * Everything that fit does sees the source in this order, from the statistics on; only text is sampled from the model as it is stored. */
#include "fit/fit.h"

#include "base/err.h"
#include "model/arch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE_ROWS = 512 }; /* that tell a column's energy, to about 6 %; of the experts of a layer together */

/* ---- what a tensor has in which order ---- */

static const uint32_t *of_layer(uint32_t *const *list, int layer) { return list && layer >= 0 ? list[layer] : NULL; }

/* Is it of the residual stream's width, by its columns? */
static bool of_stream(tensor_role r) {
    switch (r) {
    case ROLE_EMBD: case ROLE_HEAD: case ROLE_Q: case ROLE_K: case ROLE_V: case ROLE_Q_A: case ROLE_KV_A: case ROLE_SSM_IN: case ROLE_GATE: case ROLE_UP:
    case ROLE_ATTN_NORM: case ROLE_FFN_NORM: case ROLE_OUT_NORM: case ROLE_ATTN_NORM_BIAS: case ROLE_FFN_NORM_BIAS: case ROLE_OUT_NORM_BIAS:
    case ROLE_ATTN_POST_NORM: case ROLE_FFN_POST_NORM: case ROLE_O_BIAS: case ROLE_DOWN_BIAS: case ROLE_DOWN_EXPS_BIAS: case ROLE_ROUTER: case ROLE_SHARED_GATE: case ROLE_POSITIONS: return true;
    default: return false;
    }
}

/* Channel j of its columns (of a vector: its numbers, the router's in each row) is the source's order[j]. NULL: as they are. */
static const uint32_t *col_order(const fit_job *f, const store_tensor *t) {
    if (of_stream(t->role)) return f->order.stream;
    switch (t->role) {
    case ROLE_O: return of_layer(f->order.mixed, t->layer);
    case ROLE_V_BIAS: return of_layer(f->order.value, t->layer);
    default: return NULL;
    }
}

static const uint32_t *row_order(const fit_job *f, const store_tensor *t) {
    switch (t->role) {
    case ROLE_O: case ROLE_SSM_OUT: case ROLE_DOWN: return f->order.stream;
    case ROLE_V: case ROLE_KV_B: return of_layer(f->order.value, t->layer);
    default: return NULL;
    }
}

bool order_moves(const fit_job *f, const store_tensor *t) { return col_order(f, t) || row_order(f, t); }

/* ---- reading ---- */

/* to = from (n, cols) in order. */
static void order_cols(const uint32_t *order, size_t n, size_t cols, const float *from, float *to) {
    for (size_t r = 0; r < n; r++)
        for (size_t j = 0; j < cols; j++) to[r * cols + j] = from[r * cols + order[j]];
}

snug_err order_rows(const fit_job *f, const store_tensor *t, uint64_t row0, size_t n, float *dst, snug_error *err) {
    const uint32_t *rows = row_order(f, t), *cols = col_order(f, t);
    snug_err rc = rows ? SNUG_OK : store_read_rows(f->src, t, row0, n, dst, err);
    for (size_t r = 0; rows && r < n && rc == SNUG_OK; r++) rc = store_read_rows(f->src, t, rows[row0 + r], 1, dst + r * t->cols, err);
    float *old = rc == SNUG_OK && cols ? malloc(t->cols * sizeof *old) : NULL;
    if (rc == SNUG_OK && cols && !old) rc = err_nomem(err, t->cols * sizeof *old);
    for (size_t r = 0; cols && r < n && rc == SNUG_OK; r++) {
        memcpy(old, dst + r * t->cols, t->cols * sizeof *old);
        order_cols(cols, 1, t->cols, old, dst + r * t->cols);
    }
    free(old);
    return rc;
}

/* Rows of `bytes` bytes change places where they lie, along the order's cycles. */
static void move_rows(uint8_t *w, size_t bytes, const uint32_t *order, size_t rows, uint8_t *first, bool *done) {
    for (size_t start = 0; start < rows; start++) {
        if (done[start]) continue;
        memcpy(first, w + start * bytes, bytes);
        size_t r = start;
        for (; order[r] != start; r = order[r]) {
            memcpy(w + r * bytes, w + order[r] * bytes, bytes);
            done[r] = true;
        }
        memcpy(w + r * bytes, first, bytes);
        done[r] = true;
    }
}

/* A matrix of float numbers, `bytes` bytes each, in its place. */
static snug_err order_matrix(const fit_job *f, const store_tensor *t, size_t bytes, uint8_t *w, snug_error *err) {
    const uint32_t *rows = row_order(f, t), *cols = col_order(f, t);
    const size_t row_bytes = t->cols * bytes;
    uint8_t *old = malloc(row_bytes);
    bool *done = calloc(t->rows, sizeof *done);
    snug_err rc = old && done ? SNUG_OK : err_nomem(err, row_bytes + t->rows);
    for (size_t r = 0; cols && r < t->rows && rc == SNUG_OK; r++) {
        memcpy(old, w + r * row_bytes, row_bytes);
        for (size_t j = 0; j < t->cols; j++) memcpy(w + r * row_bytes + j * bytes, old + cols[j] * bytes, bytes);
    }
    if (rc == SNUG_OK && rows) move_rows(w, row_bytes, rows, t->rows, old, done);
    free(old);
    free(done);
    return rc;
}

snug_err order_layer(const fit_job *f, int layer, bool whole, arena *mem, layer_weights *out, snug_error *err) {
    snug_err rc = (whole ? layer_read : layer_read_dense)(f->src, layer, mem, out, err);
    for (size_t i = 0; i < f->src->n_tensors && rc == SNUG_OK; i++) {
        const store_tensor *t = &f->src->tensors[i];
        if (t->layer != layer || (t->expert != EXPERT_NONE && !whole) || !order_moves(f, t)) continue;
        if ((int)t->role < (int)ROLE_MATRICES) { /* layer_read's own copy */
            const wt *w = &layer_weight(out, t)->term[0].wt;
            rc = order_matrix(f, t, w->codec->ggml_type == GGML_F32 ? 4 : 2, (uint8_t *)(uintptr_t)w->data, err);
            continue;
        }
        const size_t bytes = t->rows * t->cols * sizeof(float);
        float *v = arena_alloc(mem, bytes);
        if (!v) return err_nomem(err, bytes);
        order_cols(col_order(f, t), t->rows, t->cols, out->vec[t->role], v);
        out->vec[t->role] = v;
    }
    return rc;
}

/* ---- choosing ---- */

typedef struct place { double loud; uint32_t channel; } place;

static int loudest_first(const void *a, const void *b) {
    const place *x = a, *y = b;
    return x->loud != y->loud ? (x->loud < y->loud) - (x->loud > y->loud) : (x->channel > y->channel) - (x->channel < y->channel);
}

/* order (n): channels by their loudness, the first of equals first. Numbers that are none are found out later, by who encodes them. */
static snug_err sort_channels(const double *loud, size_t n, uint32_t *order, snug_error *err) {
    place *p = malloc(n * sizeof *p);
    if (!p) return err_nomem(err, n * sizeof *p);
    for (size_t j = 0; j < n; j++) p[j] = (place){isnan(loud[j]) ? -INFINITY : loud[j], (uint32_t)j};
    qsort(p, n, sizeof *p, loudest_first);
    for (size_t j = 0; j < n; j++) order[j] = p[j].channel;
    free(p);
    return SNUG_OK;
}

/* Adds a tensor's mean squares as it is stored: of columns, over a spread of rows, to col (cols); of all rows to row (rows). Either may be NULL. */
static snug_err add_energy(const fit_job *f, const store_tensor *t, double *col, double *row, snug_error *err) {
    if (!t) return SNUG_OK;
    const size_t most = t->expert == EXPERT_NONE ? SAMPLE_ROWS : 1 + SAMPLE_ROWS / f->src->cfg.n_experts, n = row || t->rows < most ? t->rows : most;
    float *w = malloc(t->cols * sizeof *w);
    snug_err rc = w ? SNUG_OK : err_nomem(err, t->cols * sizeof *w);
    for (size_t r = 0; r < n && rc == SNUG_OK; r++) {
        rc = store_read_rows(f->src, t, r * t->rows / n, 1, w, err);
        for (size_t j = 0; j < t->cols && rc == SNUG_OK; j++) {
            const double square = (double)w[j] * w[j];
            if (col) col[j] += square / (double)n * (double)t->rows;
            if (row) row[r] += square;
        }
    }
    free(w);
    return rc;
}

/* The same of a role's columns: of the layer's matrix, and of all its experts'. */
static snug_err add_readers(const fit_job *f, int layer, tensor_role reader, double *col, snug_error *err) {
    const bool many = role_in_expert(&f->src->cfg, reader, layer);
    snug_err rc = add_energy(f, store_find(f->src, reader, layer), col, NULL, err);
    for (int x = 0; many && x < (int)f->src->cfg.n_experts && rc == SNUG_OK; x++) rc = add_energy(f, store_expert(f->src, reader, layer, x), col, NULL, err);
    return rc;
}

/* loud += share log of the energy of a norm's gain in what reads it. (Not the router, which no codec touches.) */
static snug_err add_norm(const fit_job *f, int layer, tensor_role norm, const tensor_role *reader, size_t n, double share, double *loud, snug_error *err) {
    const size_t d = f->src->cfg.n_embd;
    double *gain = calloc(2 * d, sizeof *gain), *read = gain + d;
    if (!gain) return err_nomem(err, 2 * d * sizeof *gain);
    const store_tensor *gains = store_find(f->src, norm, layer);
    for (size_t j = 0; j < d && !gains; j++) gain[j] = 1; /* x is read as it is */
    snug_err rc = add_energy(f, gains, gain, NULL, err);
    for (size_t i = 0; i < n && rc == SNUG_OK; i++) rc = add_readers(f, layer, reader[i], read, err);
    for (size_t j = 0; j < d && rc == SNUG_OK; j++) loud[j] += share * log(gain[j] * read[j]);
    free(gain);
    return rc;
}

static snug_err choose_stream(fit_job *f, snug_error *err) {
    static const tensor_role attention[] = {ROLE_Q, ROLE_K, ROLE_V, ROLE_Q_A, ROLE_KV_A, ROLE_SSM_IN}, ffn[] = {ROLE_GATE, ROLE_UP}, head[] = {ROLE_HEAD};
    const config *c = &f->src->cfg;
    const bool forward = !c->arch->no_attention; /* feed-forwards stand behind it */
    const double share = 1.0 / ((1.0 + forward) * c->n_layers + !c->tied);
    uint32_t *order = arena_alloc(&f->mem, c->n_embd * sizeof *order);
    double *loud = calloc(c->n_embd, sizeof *loud);
    snug_err rc = order && loud ? add_energy(f, store_find(f->src, ROLE_EMBD, -1), loud, NULL, err) : err_nomem(err, c->n_embd * sizeof *loud);
    for (size_t j = 0; j < c->n_embd && rc == SNUG_OK; j++) loud[j] = log(loud[j]);
    for (int l = 0; l < (int)c->n_layers && rc == SNUG_OK; l++) {
        rc = add_norm(f, l, ROLE_ATTN_NORM, attention, sizeof attention / sizeof *attention, share, loud, err);
        if (rc == SNUG_OK && forward) rc = add_norm(f, l, ROLE_FFN_NORM, ffn, 2, share, loud, err);
    }
    if (rc == SNUG_OK && !c->tied) rc = add_norm(f, -1, ROLE_OUT_NORM, head, 1, share, loud, err);
    if (rc == SNUG_OK) rc = sort_channels(loud, c->n_embd, order, err);
    f->order.stream = rc == SNUG_OK ? order : NULL;
    free(loud);
    return rc;
}

/* With latent attention a head's values stand in one matrix behind its keys, which stay. */
static size_t keys_before(const config *c) { return c->kv_rank ? c->head_dim - c->rope_dims : 0; }
static size_t value_rows(const config *c) { return c->n_kv_heads * (keys_before(c) + config_value_dim(c)); }

/* The layer's value (value_rows) and mixed (n_heads * value_dim). */
static snug_err choose_values(const fit_job *f, int layer, uint32_t *value, uint32_t *mixed, snug_error *err) {
    const config *c = &f->src->cfg;
    const size_t d = config_value_dim(c), keys = keys_before(c), share = c->n_heads / c->n_kv_heads, n_rows = value_rows(c), n_mixed = c->n_heads * d;
    double *row = calloc(n_rows + d + n_mixed, sizeof *row), *loud = row + n_rows, *col = loud + d;
    snug_err rc = row ? SNUG_OK : err_nomem(err, (n_rows + d + n_mixed) * sizeof *row);
    if (rc == SNUG_OK) rc = add_energy(f, store_find(f->src, c->kv_rank ? ROLE_KV_B : ROLE_V, layer), NULL, row, err);
    if (rc == SNUG_OK) rc = add_energy(f, store_find(f->src, ROLE_O, layer), col, NULL, err);
    for (size_t h = 0; h < c->n_kv_heads && rc == SNUG_OK; h++) {
        const size_t first = h * (keys + d) + keys; /* the head's first value */
        for (size_t j = 0; j < d; j++) {
            double read = 0;
            for (size_t q = 0; q < share; q++) read += col[(h * share + q) * d + j];
            loud[j] = row[first + j] * read;
        }
        rc = sort_channels(loud, d, value + first, err);
        for (size_t j = 0; j < d && rc == SNUG_OK; j++) {
            for (size_t q = h * share; q < (h + 1) * share; q++) mixed[q * d + j] = (uint32_t)(q * d) + value[first + j];
            value[first + j] += (uint32_t)first;
        }
        for (size_t j = first - keys; j < first; j++) value[j] = (uint32_t)j;
    }
    free(row);
    return rc;
}

/* Encoded tensors are copied as they are. */
static bool all_float(const fit_job *f, bool values) {
    for (size_t i = 0; i < f->src->n_tensors; i++) {
        const store_tensor *t = &f->src->tensors[i];
        const bool concerned = values ? t->role == ROLE_V || t->role == ROLE_KV_B || t->role == ROLE_O || t->role == ROLE_V_BIAS
                                      : of_stream(t->role) || t->role == ROLE_O || t->role == ROLE_SSM_OUT || t->role == ROLE_DOWN;
        if (concerned && !source_is_float(t)) return false;
    }
    return true;
}

/* What is only copied keeps every bit of its function, so its channels stay. */
static bool any_lossy(const fit_job *f) {
    for (size_t i = 0; i < f->n; i++)
        for (size_t k = 0; f->tensor[i].matrix && k < f->tensor[i].menu.n; k++) {
            const comp *c = &f->tensor[i].menu.cand[k].comp;
            if (c->n_terms > 1 || !(c->term[0].codec->caps & CODEC_LOSSLESS)) return true;
        }
    return false;
}

snug_err order_choose(fit_job *f, snug_error *err) {
    const config *c = &f->src->cfg;
    const size_t n_values = value_rows(c), n_mixed = (size_t)c->n_heads * config_value_dim(c);
    if (!f->feedback || !any_lossy(f) || c->arch->sub_norms) return SNUG_OK; /* BitNet: see can_balance */
    snug_err rc = all_float(f, false) ? choose_stream(f, err) : SNUG_OK;
    if (rc != SNUG_OK || !all_float(f, true) || c->arch->no_attention) return rc;
    uint32_t **value = arena_calloc(&f->mem, c->n_layers, sizeof *value), **mixed = arena_calloc(&f->mem, c->n_layers, sizeof *mixed);
    if (!value || !mixed) return err_nomem(err, c->n_layers * sizeof *value);
    for (int l = 0; l < (int)c->n_layers && rc == SNUG_OK; l++) {
        if (layer_is_ssm(c, l)) continue; /* its channels stay */
        value[l] = arena_alloc(&f->mem, n_values * sizeof **value);
        mixed[l] = arena_alloc(&f->mem, n_mixed * sizeof **mixed);
        rc = value[l] && mixed[l] ? choose_values(f, l, value[l], mixed[l], err) : err_nomem(err, n_mixed * sizeof **mixed);
    }
    f->order.value = value;
    f->order.mixed = mixed;
    return rc;
}

uint32_t order_kinds(const fit_job *f) { return (f->order.stream ? ORDER_STREAM : 0) | (f->order.value ? ORDER_VALUES : 0); }
