/* The model that is fitted: the source's, in the order of order.c, with the channels between its matrices balanced.
 *
 * Where y = B (A x) with nothing but scale-invariant arithmetic between, channel j of A may shrink by 2^k while column j of B grows by
 * 2^k: the function keeps every bit (powers of two), but codes with shared scales get columns that deserve the same precision. With D_j what
 * an error in column j costs and m_j the mean square of its weights, a scale shared by columns is used best when s_j^4 is
 * proportional to D_j / m_j: it minimises (sum D_j / s_j^2) (sum s_j^2 m_j), by Cauchy and Schwarz. (AWQ searches for such scales; this
 * is their optimum for a common step.)
 *
 *     norm gain / s   ->  columns of q k v;  gate up, of all experts, and their router;  an untied head
 *     latent's gain / s ->  columns of what keys and values, or queries, are made with
 *     rows of v / s   ->  columns of o, the same for all query heads of a group;  of a state space its norm's gain / s  ->  columns of ssm_out
 *     rows of up / s  ->  columns of down
 *
 * Nothing of it shows in the artifact: the scales are folded. Only float sources are balanced; encoded ones are copied as they are. */
#include "fit/forward.h"
#include "model/arch.h"

#include "base/err.h"
#include "base/f16.h"
#include "base/thread.h"
#include "codec/codecs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_EXPONENT = 12, SAMPLE_ROWS = 128 };

/* ---- what balance a tensor takes part in ---- */

static const int8_t *balance_of(const fit_job *f, int layer, graph_edge e, int expert) {
    const int l = e == EDGE_HEAD_IN ? (int)f->src->cfg.n_layers : layer;
    return f->edge && f->balanced && e != EDGE_COUNT && l >= 0 ? fit_edge_at(f, l, e, expert)->exponent : NULL;
}

/* Exponents that a tensor's columns grow by. */
static const int8_t *grows(const fit_job *f, const store_tensor *t) {
    const bool reads = ((int)t->role < (int)ROLE_MATRICES && t->role != ROLE_EMBD) || t->role == ROLE_ROUTER || t->role == ROLE_SHARED_GATE;
    return reads ? balance_of(f, t->layer, role_edge(t->role), t->expert) : NULL;
}

/* Exponents that a tensor's rows (a vector's numbers) shrink by; *values: they are those of values. */
static const int8_t *shrinks(const fit_job *f, const store_tensor *t, bool *values) {
    *values = t->role == ROLE_V || t->role == ROLE_V_BIAS || t->role == ROLE_KV_B;
    switch (t->role) {
    case ROLE_ATTN_NORM: case ROLE_ATTN_NORM_BIAS: return balance_of(f, t->layer, EDGE_ATTN_IN, EXPERT_NONE);
    case ROLE_FFN_NORM: case ROLE_FFN_NORM_BIAS: return balance_of(f, t->layer, EDGE_FFN_IN, EXPERT_NONE);
    case ROLE_OUT_NORM: case ROLE_OUT_NORM_BIAS: return balance_of(f, -1, EDGE_HEAD_IN, EXPERT_NONE);
    case ROLE_SSM_NORM: return balance_of(f, t->layer, EDGE_ATTN_OUT, EXPERT_NONE);
    case ROLE_UP: case ROLE_UP_BIAS: return balance_of(f, t->layer, EDGE_FFN_MID, t->expert);
    case ROLE_V: case ROLE_V_BIAS: case ROLE_KV_B: return balance_of(f, t->layer, EDGE_ATTN_OUT, EXPERT_NONE);
    case ROLE_Q_A_NORM: return balance_of(f, t->layer, EDGE_Q_LATENT, EXPERT_NONE);
    case ROLE_KV_A_NORM: return balance_of(f, t->layer, EDGE_KV_LATENT, EXPERT_NONE);
    default: return NULL;
    }
}

/* What row i of v, or of keys and values in one, is among what o multiplies: the first query head's of its group; -1: it is a key's. */
static int64_t mixed_of(const config *c, size_t i) {
    const size_t dim = config_value_dim(c), heads = c->n_heads / c->n_kv_heads, key = c->kv_rank ? c->head_dim - c->rope_dims : 0, head = i / (key + dim), at = i % (key + dim);
    return at < key ? -1 : (int64_t)(head * heads * dim + at - key);
}

static int row_exponent(const fit_job *f, const int8_t *shrink, bool values, size_t row) {
    const int64_t i = values ? mixed_of(&f->src->cfg, row) : (int64_t)row;
    return shrink && i >= 0 ? -shrink[i] : 0;
}

static bool is_balanced(const fit_job *f, const store_tensor *t) {
    bool values;
    return grows(f, t) || shrinks(f, t, &values);
}

bool source_is_changed(const fit_job *f, const store_tensor *t) { return is_balanced(f, t) || order_moves(f, t); }

/* ---- reading ---- */

static void balance_rows(const fit_job *f, const store_tensor *t, uint64_t row0, size_t n, float *w) {
    bool values, vector = (int)t->role >= (int)ROLE_MATRICES;
    const int8_t *grow = grows(f, t), *shrink = shrinks(f, t, &values);
    if (!grow && !shrink) return;
    for (size_t r = 0; r < n; r++)
        for (size_t c = 0; c < t->cols; c++) {
            int e = (grow ? grow[c] : 0) + row_exponent(f, shrink, values, vector ? (row0 + r) * t->cols + c : row0 + r);
            w[r * t->cols + c] *= f32_from_bits((uint32_t)(127 + e) << 23); /* 2^e, |e| <= 2 MAX_EXPONENT */
        }
}

snug_err source_rows(const fit_job *f, const store_tensor *t, uint64_t row0, size_t n, float *dst, snug_error *err) {
    snug_err rc = order_rows(f, t, row0, n, dst, err);
    if (rc == SNUG_OK) balance_rows(f, t, row0, n, dst);
    return rc;
}

typedef struct balance_job { const fit_job *f; const store_tensor *t; const weight *w; float *out; uint16_t *bf16; } balance_job;

static void balance_tile(void *user, size_t begin, size_t end, int worker) {
    const balance_job *j = user;
    const size_t cols = j->t->cols;
    for (size_t r = begin; r < end; r++) {
        float *row = j->out + (j->bf16 ? (size_t)worker : r) * cols;
        weight_decode(j->w, r, 1, row, cols);
        balance_rows(j->f, j->t, r, 1, row); /* where rows are permuted (q, k) they have no exponents of their own */
        for (size_t c = 0; j->bf16 && c < cols; c++) j->bf16[r * cols + c] = f32_to_bf16(row[c]);
    }
}

/* A matrix as the layer holds it. bf16 stays bf16, in its place; others become f32. */
static snug_err balance_matrix(const fit_job *f, const store_tensor *t, arena *mem, weight *w, snug_error *err) {
    const bool bf16 = t->term[0].codec->ggml_type == GGML_BF16;
    const uint64_t floats = (bf16 ? (uint64_t)f->threads : t->rows) * t->cols;
    balance_job j = {.f = f, .t = t, .w = w, .out = arena_alloc(mem, floats * sizeof(float)), .bf16 = bf16 ? (uint16_t *)(uintptr_t)w->term[0].wt.data : NULL};
    if (!j.out) return err_nomem(err, floats * sizeof(float));
    thread_for(f->threads, t->rows, 16, balance_tile, &j);
    if (!bf16) {
        weight out = {.rows = t->rows, .cols = t->cols, .n_terms = 1};
        out.term[0].wt = (wt){.codec = codec_by_ggml_type(GGML_F32), .rows = t->rows, .cols = t->cols, .data = (const uint8_t *)j.out, .bytes = floats * sizeof(float)};
        *w = out;
    }
    return SNUG_OK;
}

/* What was read of a layer, balanced. */
static snug_err balance_layer(const fit_job *f, int layer, bool whole, arena *mem, layer_weights *out, snug_error *err) {
    snug_err rc = SNUG_OK;
    for (size_t i = 0; i < f->src->n_tensors && rc == SNUG_OK; i++) {
        const store_tensor *t = &f->src->tensors[i];
        if (t->layer != layer || (t->expert != EXPERT_NONE && !whole) || !is_balanced(f, t)) continue;
        if ((int)t->role < (int)ROLE_MATRICES) rc = balance_matrix(f, t, mem, layer_weight(out, t), err);
        else {
            const size_t bytes = t->rows * t->cols * sizeof(float);
            float *v = arena_alloc(mem, bytes);
            if (!v) return err_nomem(err, bytes);
            memcpy(v, out->vec[t->role], bytes);
            balance_rows(f, t, 0, t->rows, v);
            out->vec[t->role] = v;
        }
    }
    return rc;
}

snug_err source_layer(const fit_job *f, int layer, arena *mem, layer_weights *out, snug_error *err) {
    snug_err rc = order_layer(f, layer, true, mem, out, err);
    return rc == SNUG_OK ? balance_layer(f, layer, true, mem, out, err) : rc;
}

snug_err source_layer_dense(const fit_job *f, int layer, arena *mem, layer_weights *out, snug_error *err) {
    snug_err rc = order_layer(f, layer, false, mem, out, err);
    return rc == SNUG_OK ? balance_layer(f, layer, false, mem, out, err) : rc;
}

/* ---- choosing ---- */

bool source_is_float(const store_tensor *t) {
    const bool whole = t->n_terms == 1 && t->term[0].rows == t->rows && t->term[0].cols == t->cols;
    const int type = whole ? t->term[0].codec->ggml_type : -1;
    return type == GGML_F32 || type == GGML_BF16 || type == GGML_F16 || (whole && t->term[0].codec == &codec_f8);
}

/* Vectors are stored in the source's type unasked; f16 would lose small gains and overflow with large ones. */
static bool is_f16_vector(const store_tensor *t) {
    return t && (int)t->role >= (int)ROLE_MATRICES && t->n_terms == 1 && t->term[0].codec->ggml_type == GGML_F16;
}

/* What reads an edge: the matrices of an expert; of none; and, where the experts' edge is asked for as that of none, all of theirs. */
static bool reads_of(const fit_job *f, size_t i, int layer, graph_edge e, int expert) {
    const fit_tensor *t = &f->tensor[i];
    return fit_reads(t, layer, e, expert) || (expert == EXPERT_NONE && e == EDGE_FFN_IN && fit_reads(t, layer, e, t->t->expert));
}

/* Is there a tensor whose rows can shrink, and are it and all that reads the edge of float types? BitNet's weights share one magnitude, which columns
 * that grow would not; and what stands between its matrices is normed. */
static bool can_balance(const fit_job *f, int layer, graph_edge e, int expert) {
    static const struct { tensor_role feed, bias; } of[EDGE_COUNT] = {
        [EDGE_ATTN_IN] = {ROLE_ATTN_NORM, ROLE_ATTN_NORM_BIAS}, [EDGE_Q_LATENT] = {ROLE_Q_A_NORM, ROLE_NONE}, [EDGE_KV_LATENT] = {ROLE_KV_A_NORM, ROLE_NONE}, [EDGE_ATTN_OUT] = {ROLE_V, ROLE_V_BIAS},
        [EDGE_FFN_IN] = {ROLE_FFN_NORM, ROLE_FFN_NORM_BIAS},    [EDGE_FFN_MID] = {ROLE_UP, ROLE_UP_BIAS},     [EDGE_HEAD_IN] = {ROLE_OUT_NORM, ROLE_OUT_NORM_BIAS}};
    const int l = e == EDGE_HEAD_IN ? -1 : layer;
    const bool ssm = e == EDGE_ATTN_OUT && layer_is_ssm(&f->src->cfg, layer);
    const tensor_role feed = ssm ? ROLE_SSM_NORM : e == EDGE_ATTN_OUT && f->src->cfg.kv_rank ? ROLE_KV_B : of[e].feed;
    const store_tensor *from = expert == EXPERT_NONE ? store_find(f->src, feed, l) : store_expert(f->src, feed, l, expert);
    if (f->src->cfg.arch->sub_norms && e != EDGE_HEAD_IN) return false;
    if (f->src->cfg.swiglu_limit != 0 && e == EDGE_FFN_MID) return false; /* up is held within limits */
    if (f->src->cfg.arch->no_gate && e == EDGE_FFN_MID) return false; /* up goes through an activation */
    if (e == EDGE_FFN_IN && (is_f16_vector(store_find(f->src, ROLE_ROUTER, l)) || is_f16_vector(store_find(f->src, ROLE_SHARED_GATE, l)))) return false;
    if (is_f16_vector(from) || is_f16_vector(store_find(f->src, of[e].bias, l))) return false;
    if (!from || !source_is_float(from) || (e == EDGE_HEAD_IN && f->src->cfg.tied)) return false;
    for (size_t i = 0; i < f->n; i++) {
        if (reads_of(f, i, l, e, expert) && !source_is_float(f->tensor[i].t)) return false;
    }
    return true;
}

/* m (cols): sums of squares of each column over a spread of rows of all matrices that read the edge. */
static snug_err column_squares(const fit_job *f, int layer, graph_edge e, int expert, double *m, snug_error *err) {
    const int l = e == EDGE_HEAD_IN ? -1 : layer;
    const uint32_t n_experts = layer_experts(&f->src->cfg, l);
    const size_t most = expert == EXPERT_NONE && e == EDGE_FFN_IN && n_experts ? 1 + SAMPLE_ROWS / n_experts : SAMPLE_ROWS;
    snug_err rc = SNUG_OK;
    for (size_t i = 0; i < f->n && rc == SNUG_OK; i++) {
        const store_tensor *t = f->tensor[i].t;
        if (!reads_of(f, i, l, e, expert)) continue;
        size_t n = t->rows < most ? t->rows : most;
        float *w = malloc(t->cols * sizeof *w);
        if (!w) rc = err_nomem(err, t->cols * sizeof *w);
        for (size_t r = 0; r < n && rc == SNUG_OK; r++) {
            rc = order_rows(f, t, r * t->rows / n, 1, w, err);
            for (size_t c = 0; c < t->cols; c++) m[c] += (double)w[c] * w[c];
        }
        free(w);
    }
    return rc;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* log2 of the best scales beside their median, in whole steps: channels within a factor of two of it stay, so do those without weights or
 * activations. (Moving the others by the nearest power makes 2 and 3 bits worse on models without outliers.) */
static snug_err choose_exponents(const config *c, const fit_edge *edge, const double *squares, int layer, graph_edge e, size_t cols, int8_t *out, snug_error *err) {
    const size_t share = e == EDGE_ATTN_OUT && !layer_is_ssm(c, layer) ? c->n_heads / c->n_kv_heads : 1, dim = config_value_dim(c); /* query heads that one row of v feeds */
    double *want = calloc(2 * cols, sizeof *want), *sorted = want + cols;
    if (!want) return err_nomem(err, 2 * cols * sizeof *want);
    size_t n = 0;
    for (size_t j = 0; j < cols; j++) {
        double d = 0, m = 0;
        size_t first = share > 1 ? j / dim / share * share * dim + j % dim : j;
        for (size_t k = 0; k < share; k++) {
            d += edge->left[first + k * dim];
            m += squares[first + k * dim];
        }
        want[j] = d > 0 && m > 0 ? log2(d / m) / 4 : NAN;
        if (!isnan(want[j])) sorted[n++] = want[j];
    }
    qsort(sorted, n, sizeof *sorted, compare);
    for (size_t j = 0; j < cols; j++) {
        double k = n && !isnan(want[j]) ? trunc(want[j] - sorted[n / 2]) : 0;
        out[j] = (int8_t)fmin(fmax(k, -MAX_EXPONENT), MAX_EXPONENT);
    }
    free(want);
    return SNUG_OK;
}

snug_err source_exponents(const fit_job *f, int layer, graph_edge e, int expert, int8_t *out, snug_error *err) {
    const config *c = &f->src->cfg;
    const fit_edge *edge = fit_edge_at(f, layer, e, expert);
    const size_t cols = edge_cols(c, layer, e, expert);
    memset(out, 0, cols);
    if (!edge->square || !edge->left || !can_balance(f, layer, e, expert)) return SNUG_OK;
    double *squares = calloc(cols, sizeof *squares);
    snug_err rc = squares ? column_squares(f, layer, e, expert, squares, err) : err_nomem(err, cols * sizeof *squares);
    if (rc == SNUG_OK) rc = choose_exponents(c, edge, squares, layer, e, cols, out, err);
    free(squares);
    return rc;
}

/* Takes exponents from an edge's statistics. */
static void take_exponents(fit_edge *edge, const int8_t *k, size_t cols) {
    for (size_t j = 0; k && j < cols; j++) {
        edge->square[j] = ldexp(edge->square[j], -2 * k[j]);
        edge->left[j] = ldexp(edge->left[j], -2 * k[j]);
    }
    edge->exponent = k;
}

static snug_err balance_edge(fit_job *f, int layer, graph_edge e, int expert, snug_error *err) {
    fit_edge *edge = fit_edge_at(f, layer, e, expert);
    if (!edge->square || !edge->left) return SNUG_OK;
    const size_t cols = edge_cols(&f->src->cfg, layer, e, expert);
    int8_t *k = arena_calloc(&f->mem, cols, sizeof *k);
    snug_err rc = k ? source_exponents(f, layer, e, expert, k, err) : err_nomem(err, cols);
    bool any = false;
    for (size_t j = 0; j < cols && rc == SNUG_OK; j++) any |= k[j] != 0;
    if (any) take_exponents(edge, k, cols);
    return rc;
}

snug_err source_balance(fit_job *f, snug_error *err) {
    const config *c = &f->src->cfg;
    snug_err rc = SNUG_OK;
    for (int l = 0; f->feedback && l <= (int)c->n_layers && rc == SNUG_OK; l++)
        for (int e = 0; e < EDGE_COUNT && rc == SNUG_OK; e++) rc = balance_edge(f, l, (graph_edge)e, EXPERT_NONE, err);
    for (int l = 0; f->feedback && f->expert && l < (int)c->n_layers && rc == SNUG_OK; l++)
        for (int x = 0; x < (int)layer_experts(c, l) && rc == SNUG_OK; x++) {
            take_exponents(fit_edge_at(f, l, EDGE_FFN_IN, x), fit_edge_at(f, l, EDGE_FFN_IN, EXPERT_NONE)->exponent, c->n_embd);
            rc = balance_edge(f, l, EDGE_FFN_MID, x, err);
        }
    f->balanced = f->feedback;
    return rc;
}
