/* Calibration: which text, how much of it, and what the activations on it look like.
 *
 * The text is sampled from the model itself ("self"), random tokens ("none") or a file's. How much, is decided by work: so many
 * multiply-adds for the statistics, so many for the sensitivities, fewer tokens for larger models. The statistics pass takes all
 * tokens through one layer at a time and sums x^2 per channel of each input edge; after each layer the hidden states go to a side
 * file, so that a killed fit repeats one layer at most. */
#include "fit/forward.h"

#include "base/checked.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_LEN = 256, MAX_TEXT_BYTES = 64 << 20, STATE_FROM_SECONDS = 2 };

/* ---- how much ---- */

static uint64_t layer_weights_of(const fit_job *f, int layer) {
    uint64_t sum = 0;
    for (size_t i = 0; i < f->n; i++)
        if (f->tensor[i].matrix && f->tensor[i].t->layer == layer) sum += f->tensor[i].t->rows * f->tensor[i].t->cols;
    return sum;
}

static double head_weights_of(const fit_job *f) {
    const store_tensor *t = head_tensor(f);
    return (double)t->rows * (double)t->cols;
}

double calibrate_macs_per_token(const fit_job *f) {
    double sum = head_weights_of(f);
    for (int l = 0; l < (int)f->src->cfg.n_layers; l++) sum += (double)layer_weights_of(f, l);
    return sum;
}

static size_t clamp(double v, size_t lo, size_t hi) { return v < (double)lo ? lo : v > (double)hi ? hi : (size_t)v; }

snug_err calibrate_prepare(fit_job *f, snug_error *err) {
    const config *c = &f->src->cfg;
    bool quick = f->p->effort == SNUG_EFFORT_QUICK, none = strcmp(f->calib, "none") == 0, large = sample_packs(f);
    double scale = quick ? 0.3 : f->p->effort == SNUG_EFFORT_MAX ? 4 : 1, macs = calibrate_macs_per_token(f), sampling = 0, statistics = 0;
    uint64_t weights = 0, matrices = 0;
    for (size_t i = 0; i < f->n; i++) {
        weights += f->tensor[i].t->rows * f->tensor[i].t->cols;
        matrices += f->tensor[i].matrix;
    }
    f->run_model = !(quick && none);
    f->sensitivities = f->run_model && !quick && !f->p->plan_in;
    fit_text *t = &f->text;
    t->len = c->n_ctx_train < MAX_LEN ? c->n_ctx_train : MAX_LEN;
    if (t->len == 0) t->len = MAX_LEN;
    t->n_seq = (uint32_t)(clamp(scale * 4e12 / macs, 1024, (size_t)(scale * 16384)) / t->len);
    if (t->n_seq == 0) t->n_seq = 1;
    if (f->run_model) {
        statistics = macs * t->n_seq * t->len;
        if (strcmp(f->calib, "self") == 0) sampling = statistics * (large ? 0.7 : 3); /* small batches; packs are of 8 bits */
        if (large) statistics *= 0.65; /* matrices that fill the passes */
    }
    double n_logits, sens_macs = measure_prepare(f, scale, &n_logits);
    /* Of one thread; the factors are what stages took over what this says, on two cores, demo and 1.2 B. */
    fit_pace pace = pace_measure(f->p->effort);
    double mac_s = pace.mac_s, encode_s = 1.4 * pace.encode_s, logit_s = 1.2e-8;
    double menu_s = (double)matrices * (double)menu_sample_weights(f) * (large ? 28 : 20) * encode_s;
    double load_s = sampling > 0 && large ? 0.65 * (double)weights * (quick ? pace : pace_measure(SNUG_EFFORT_QUICK)).encode_s : 0;
    f->stage_load = meter_add(&f->meter, "load", "weights", weights, load_s);
    f->stage_sample = meter_add(&f->meter, "sample", "tokens", (uint64_t)t->n_seq * t->len, sampling * mac_s);
    f->stage_stats = meter_add(&f->meter, "calibrate", "layers", c->n_layers, statistics * mac_s);
    f->stage_sens = meter_add(&f->meter, "sensitivity", "M multiply-adds", (uint64_t)(sens_macs / MEASURE_UNIT), 0.9 * (sens_macs * mac_s + n_logits * logit_s));
    f->stage_menu = meter_add(&f->meter, "menu", "tensors", matrices, menu_s);
    f->stage_encode = meter_add(&f->meter, "encode", "weights", weights, f->p->plan_only ? 0 : (double)weights * encode_s);
    return SNUG_OK;
}

/* ---- which ---- */

static snug_err random_text(fit_job *f, snug_error *err) {
    fit_text *t = &f->text;
    for (uint32_t s = 0; s < t->n_seq; s++) {
        rng r;
        rng_seed(&r, f->p->seed, 0x72616e64 + s);
        for (uint32_t i = 0; i < t->len; i++) t->ids[(size_t)s * t->len + i] = (int32_t)rng_below(&r, f->src->cfg.n_vocab);
    }
    return SNUG_OK;
}

/* n_seq windows spread evenly over the file, each starting with BOS where the tokenizer puts one. */
static snug_err file_text(fit_job *f, snug_error *err) {
    fit_text *t = &f->text;
    char *text;
    size_t bytes, n = 0;
    snug_err rc = io_read_all(f->p->calib, MAX_TEXT_BYTES, &text, &bytes, err);
    if (rc != SNUG_OK) return rc;
    int32_t *ids = malloc((bytes + 16) * sizeof *ids); /* a token has at least one byte */
    rc = ids ? tokenizer_encode(f->tok, text, bytes, false, false, ids, bytes + 16, &n, err) : err_nomem(err, bytes * sizeof *ids);
    free(text);
    uint32_t bos = tokenizer_adds_bos(f->tok) && tokenizer_bos(f->tok) >= 0, take = t->len - bos;
    if (rc == SNUG_OK && n > bytes + 16) rc = err_set(err, SNUG_ERR_FORMAT, "%s: %zu tokens from %zu bytes", f->p->calib, n, bytes);
    if (rc == SNUG_OK && n < take)
        rc = err_set(err, SNUG_ERR_ARG, "%s: %zu tokens of calibration text, expected at least %u", f->p->calib, n, take);
    if (rc == SNUG_OK && t->n_seq > n / take) t->n_seq = (uint32_t)(n / take);
    for (uint32_t s = 0; rc == SNUG_OK && s < t->n_seq; s++) {
        size_t from = t->n_seq > 1 ? (size_t)((double)(n - take) * s / (t->n_seq - 1)) : 0;
        if (bos) t->ids[(size_t)s * t->len] = tokenizer_bos(f->tok);
        for (uint32_t i = 0; i < take; i++) {
            int32_t id = ids[from + i];
            if (id < 0 || (uint32_t)id >= f->src->cfg.n_vocab) rc = err_set(err, SNUG_ERR_MISMATCH, "%s: token %d is outside of the model's %u", f->p->calib, id, f->src->cfg.n_vocab);
            t->ids[(size_t)s * t->len + bos + i] = id;
        }
    }
    free(ids);
    return rc;
}

snug_err calibrate_text(fit_job *f, snug_error *err) {
    fit_text *t = &f->text;
    t->ids = arena_calloc(&f->mem, (size_t)t->n_seq * t->len, sizeof *t->ids);
    if (!t->ids) return err_nomem(err, (size_t)t->n_seq * t->len * sizeof *t->ids);
    snug_err rc = strcmp(f->calib, "self") == 0 ? sample_text(f, err) : strcmp(f->calib, "none") == 0 ? random_text(f, err) : file_text(f, err);
    if (t->sens_seq > t->n_seq) t->sens_seq = t->n_seq;
    t->hash = hash_bytes(t->ids, (size_t)t->n_seq * t->len * sizeof *t->ids);
    return rc;
}

/* ---- statistics ---- */

/* Sums of x^2 of one pass; passes are added up in order, whichever thread ran them. */
typedef struct watcher { double *ms[EDGE_COUNT]; size_t cols[EDGE_COUNT]; } watcher;

static void watch(void *user, int layer, graph_edge edge, const float *x, size_t n, size_t cols, size_t ld) {
    watcher *w = user;
    if (!w->ms[edge] || w->cols[edge] != cols) return;
    for (size_t t = 0; t < n; t++)
        for (size_t c = 0; c < cols; c++) w->ms[edge][c] += (double)x[t * ld + c] * (double)x[t * ld + c];
}

static void set_watch(void *user, graph *g, size_t pass) { graph_watch(g, watch, (watcher *)user + pass); }

static size_t edge_cols(const config *c, int edge) {
    switch (edge) {
    case EDGE_ATTN_OUT: return (size_t)c->n_heads * c->head_dim;
    case EDGE_FFN_MID: return c->n_ff;
    default: return c->n_embd;
    }
}

static snug_err alloc_edges(fit_job *f, snug_error *err) {
    const config *c = &f->src->cfg;
    f->edge = arena_calloc(&f->mem, (size_t)(c->n_layers + 1) * EDGE_COUNT, sizeof *f->edge);
    if (!f->edge) return err_nomem(err, 64);
    for (size_t i = 0; i < (size_t)(c->n_layers + 1) * EDGE_COUNT; i++) {
        int edge = (int)(i % EDGE_COUNT);
        if ((i / EDGE_COUNT == c->n_layers) != (edge == EDGE_HEAD_IN)) continue;
        f->edge[i] = arena_calloc(&f->mem, edge_cols(c, edge), sizeof(double));
        if (!f->edge[i]) return err_nomem(err, edge_cols(c, edge) * 8);
    }
    return SNUG_OK;
}

static bool load_edges(fit_job *f, int layer) {
    const json_t *known = journal_find(f->journal, "edges", layer), *ms = json_object_get(known, "ms");
    if (json_array_size(ms) != EDGE_COUNT) return false;
    for (int e = 0; e < EDGE_COUNT; e++) {
        double *to = f->edge[(size_t)layer * EDGE_COUNT + e];
        if (to && !journal_get_doubles(json_array_get(ms, e), to, edge_cols(&f->src->cfg, e))) return false;
    }
    return true;
}

static snug_err save_edges(fit_job *f, int layer, uint64_t state_hash, snug_error *err) {
    json_t *ms = json_array();
    for (int e = 0; e < EDGE_COUNT; e++) {
        const double *from = f->edge[(size_t)layer * EDGE_COUNT + e];
        json_array_append_new(ms, from ? journal_doubles(from, edge_cols(&f->src->cfg, e)) : json_string(""));
    }
    return journal_put(f->journal, "edges", layer, json_pack("{s:o, s:o}", "ms", ms, "state", json_sprintf("%016llx", (unsigned long long)state_hash)), err);
}

/* The hidden states after a layer, in one of two slots of the side file: the other still holds those before it. */
static snug_err save_state(const fit_job *f, int layer, const float *x, size_t bytes, uint64_t *hash, snug_error *err) {
    const char *path = journal_state_path(f->journal);
    *hash = 0;
    if (!path || calibrate_macs_per_token(f) * f->text.n_seq * f->text.len / f->src->cfg.n_layers < STATE_FROM_SECONDS * 30e9) return SNUG_OK;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return err_set(err, SNUG_ERR_IO, "%s: %s", path, strerror(errno));
    snug_err rc = SNUG_OK;
    for (size_t at = 0; at < bytes && rc == SNUG_OK;) {
        ssize_t n = pwrite(fd, (const uint8_t *)x + at, bytes - at, (off_t)((uint64_t)(layer & 1) * bytes + at));
        if (n < 0 && errno != EINTR) rc = err_set(err, SNUG_ERR_IO, "%s: writing: %s", path, strerror(errno));
        else if (n > 0) at += (size_t)n;
    }
    if (rc == SNUG_OK && fdatasync(fd) != 0) rc = err_set(err, SNUG_ERR_IO, "%s: fdatasync: %s", path, strerror(errno));
    close(fd);
    *hash = hash_bytes(x, bytes);
    return rc;
}

static bool load_state(const fit_job *f, int layer, float *x, size_t bytes) {
    const char *path = journal_state_path(f->journal), *text = json_string_value(json_object_get(journal_find(f->journal, "edges", layer), "state"));
    io_file file;
    if (!path || !text || io_open(path, &file, NULL) != SNUG_OK) return false;
    bool ok = file.bytes >= ((uint64_t)(layer & 1) + 1) * bytes && io_pread(&file, (uint64_t)(layer & 1) * bytes, x, bytes, NULL) == SNUG_OK &&
              hash_bytes(x, bytes) == strtoull(text, NULL, 16);
    io_close(&file);
    return ok;
}

static snug_err make_watchers(const fit_job *f, size_t n, arena *mem, watcher **out, snug_error *err) {
    watcher *list = arena_calloc(mem, n, sizeof *list);
    for (size_t i = 0; list && i < n; i++)
        for (int e = 0; e < EDGE_HEAD_IN; e++) {
            list[i].cols[e] = edge_cols(&f->src->cfg, e);
            list[i].ms[e] = arena_calloc(mem, list[i].cols[e], sizeof(double));
            if (!list[i].ms[e]) return err_nomem(err, list[i].cols[e] * sizeof(double));
        }
    *out = list;
    return list ? SNUG_OK : err_nomem(err, n * sizeof *list);
}

static snug_err one_layer(fit_job *f, forward *w, int layer, float *x, snug_error *err) {
    arena mem = {0};
    layer_weights lw;
    watcher *watched = NULL;
    size_t n_passes = forward_passes(w, f->text.n_seq);
    double n = (double)f->text.n_seq * f->text.len;
    snug_err rc = make_watchers(f, n_passes, &mem, &watched, err);
    if (rc == SNUG_OK) rc = layer_read(f->src, layer, &mem, &lw, err);
    if (rc == SNUG_OK) rc = forward_layer(w, layer, &lw, f->text.n_seq, f->text.len, &x, 1, set_watch, watched, err);
    for (size_t i = 0; i < w->n_lanes; i++) graph_watch(w->lane[i].g, NULL, NULL);
    for (int e = 0; e < EDGE_HEAD_IN && rc == SNUG_OK; e++) {
        double *ms = f->edge[(size_t)layer * EDGE_COUNT + e];
        for (size_t c = 0; c < watched[0].cols[e]; c++) {
            ms[c] = 0;
            for (size_t i = 0; i < n_passes; i++) ms[c] += watched[i].ms[e][c];
            ms[c] /= n;
        }
    }
    arena_fini(&mem);
    return rc;
}

snug_err calibrate_statistics(fit_job *f, snug_error *err) {
    size_t n = (size_t)f->text.n_seq * f->text.len, d = f->src->cfg.n_embd;
    int n_layers = (int)f->src->cfg.n_layers, first = 0;
    snug_err rc = alloc_edges(f, err);
    if (rc != SNUG_OK) return rc;
    while (first <= n_layers && load_edges(f, first)) first++;
    if (first > n_layers) return SNUG_OK;
    meter_begin(&f->meter, f->stage_stats);
    forward w = {0};
    float *x = malloc(n * d * sizeof *x);
    rc = x ? forward_open(f, f->text.len, &w, err) : err_nomem(err, n * d * sizeof *x);
    if (rc == SNUG_OK && first > 0 && load_state(f, first - 1, x, n * d * sizeof *x)) meter_skip(&f->meter, (uint64_t)first);
    else first = 0;
    if (rc == SNUG_OK && first == 0) rc = embed_tokens(f, f->text.ids, n, NULL, x, err);
    for (int l = first; l < n_layers && rc == SNUG_OK; l++) {
        uint64_t hash;
        rc = meter_update(&f->meter, (uint64_t)l, NULL, err);
        if (rc == SNUG_OK) rc = one_layer(f, &w, l, x, err);
        if (rc == SNUG_OK) rc = save_state(f, l, x, n * d * sizeof *x, &hash, err);
        if (rc == SNUG_OK) rc = save_edges(f, l, hash, err);
    }
    if (rc == SNUG_OK) rc = head_edge(f, x, n, f->edge[(size_t)n_layers * EDGE_COUNT + EDGE_HEAD_IN], err);
    if (rc == SNUG_OK) rc = save_edges(f, n_layers, 0, err);
    if (rc == SNUG_OK) rc = meter_update(&f->meter, (uint64_t)n_layers, NULL, err);
    forward_close(&w);
    free(x);
    return rc;
}
