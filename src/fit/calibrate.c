/* Calibration: which text, how much of it, and what the activations on it look like.
 *
 * The text is sampled from the model itself ("self"), random tokens ("none") or a file's. How much, is decided by work: so many
 * multiply-adds for the statistics, so many for the sensitivities, fewer tokens for larger models. The statistics pass takes all
 * tokens through one layer at a time and sums x^2 per channel of each input edge; after each layer the hidden states go to a side
 * file, so that a killed fit repeats one layer at most. */
#include "fit/forward.h"

#include "base/checked.h"
#include "base/cluster.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/rng.h"
#include "solve/solve.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GEMM 0.6 /* what a multiply-add in OpenBLAS takes beside one of our f32 dots */
enum { MAX_LEN = 256, MAX_TEXT_BYTES = 64 << 20, STATE_FROM_SECONDS = 2, STATE_STEP = 16 << 20 };

/* ---- what the user said ---- */

snug_err calibrate_parse(fit_job *f, snug_error *err) {
    const char *text = f->p->calib ? f->p->calib : f->p->effort == SNUG_EFFORT_QUICK ? "none" : "self";
    fit_calib *c = &f->calib;
    *c = (fit_calib){.temperature = 1, .none = strcmp(text, "none") == 0};
    const size_t self = strcspn(text, "+");
    if (strncmp(text, "self", 4) == 0 && (self == 4 || text[4] == ':')) {
        char *end;
        c->self = true;
        if (text[4] == ':') c->temperature = strtod(text + 5, &end);
        if (text[4] == ':' && (end != text + self || !(c->temperature >= 0.1 && c->temperature <= 4)))
            return err_set(err, SNUG_ERR_ARG, "%s: the temperature of self-sampled text is a number from 0.1 to 4", text);
        if (text[self] == '+') c->file = text + self + 1;
    } else if (!c->none) c->file = text;
    const int n = self == 4 || !c->self ? 4 : (int)(self < sizeof c->name - 8 ? self : sizeof c->name - 8);
    snprintf(c->name, sizeof c->name, "%.*s%s%s", c->self || c->none ? n : 0, text, c->self && c->file ? "+" : "", c->file ? "file" : "");
    f->feedback = f->p->effort != SNUG_EFFORT_QUICK && !c->none && !f->p->imatrix;
    return c->file ? journal_hash_file(c->file, &c->file_hash, err) : SNUG_OK;
}

/* ---- how much ---- */

static double layer_macs_of(const fit_job *f, int layer) {
    double sum = 0;
    for (size_t i = 0; i < f->n; i++)
        if (f->tensor[i].t->layer == layer) sum += fit_macs(f, &f->tensor[i]);
    return sum;
}

static double head_weights_of(const fit_job *f) {
    const store_tensor *t = head_tensor(f);
    return (double)t->rows * (double)t->cols;
}

double calibrate_macs_per_token(const fit_job *f) {
    double sum = head_weights_of(f);
    for (int l = 0; l < (int)f->src->cfg.n_layers; l++) sum += layer_macs_of(f, l);
    return sum;
}

static size_t clamp(double v, size_t lo, size_t hi) { return v < (double)lo ? lo : v > (double)hi ? hi : (size_t)v; }

/* Diagonals are known well after a few thousand tokens; second moments of n channels want several n. */
static size_t tokens_wanted(const fit_job *f, double scale, double macs) {
    if (!f->feedback) return clamp(scale * 4e12 / macs, 1024, (size_t)(scale * 16384));
    return clamp(scale * 3e11 / macs, (size_t)(scale * 16384), (size_t)(scale * 32768));
}

uint64_t fit_large_bytes = 128u << 20;
bool fit_is_large(const fit_job *f) { return f->src->tensor_bytes > fit_large_bytes; }

/* The plan of a large model is made from half of the text, for time's sake; encoding sees all of it. */
static uint32_t statistics_wanted(const fit_job *f) { return fit_is_large(f) ? (f->text.n_seq + 1) / 2 : f->text.n_seq; }

/* Second moments of an edge: sums over the tokens and a factorisation, in multiply-adds of our dots. of: experts that share the tokens, or 1. */
static double moments_macs(double n_tokens, double cols, double of) {
    return GEMM * (n_tokens / of * cols * cols / 2 + cols * cols * cols / 6);
}

static double layer_moments_macs(const fit_job *f, int layer, double n_tokens) {
    const config *c = &f->src->cfg;
    const uint32_t n_experts = layer_experts(c, layer);
    double sum = 0;
    for (int e = 0; e < EDGE_HEAD_IN; e++)
        if (edges_has(c, layer, (graph_edge)e)) sum += moments_macs(n_tokens, (double)edge_cols(c, layer, (graph_edge)e, EXPERT_NONE), 1);
    const double share = n_experts ? (double)n_experts / c->n_experts_used : 1;
    return sum + n_experts * (moments_macs(n_tokens, c->n_embd, share) + moments_macs(n_tokens, c->n_ff, share));
}

double calibrate_feedback_macs(const fit_job *f, const fit_tensor *t, const snug_codec *codec) {
    const bool tied = t->t->role == ROLE_EMBD && f->src->cfg.tied; /* the head */
    const graph_edge edge = !t->matrix ? EDGE_COUNT : tied ? EDGE_HEAD_IN : role_edge(t->t->role);
    if (!f->feedback || edge == EDGE_COUNT) return 0;
    const double cols = (double)t->t->cols, rows = (double)t->t->rows, of = rows * cols / fit_macs(f, t), n_tokens = (double)f->text.n_seq * f->text.len / of;
    const double passes = solve_ldlq_sweeps(codec, f->p->effort) + (f->p->target == SNUG_FOR_GGUF ? SOLVE_LDLQ_REFITS : 0);
    double share = 0; /* of the edge's moments: as many matrices as read it */
    for (size_t i = 0; i < f->n; i++) share += fit_reads(&f->tensor[i], t->t->layer, edge, t->t->expert);
    const double runs = t->t->layer < 0 ? 0 : 1.7 * (fit_is_large(f) ? 0.4 : 1); /* of the layer, edge by edge; large matrices fill the passes */
    const double summed = share > 0 ? moments_macs((double)f->text.n_seq * f->text.len, cols, of) / share : 0; /* a tied head's are those of the first pass */
    return rows * cols * (GEMM * cols * (0.5 + passes) + runs * n_tokens) + summed;
}

snug_err calibrate_prepare(fit_job *f, snug_error *err) {
    const config *c = &f->src->cfg;
    bool quick = f->p->effort == SNUG_EFFORT_QUICK, none = f->calib.none, large = fit_is_large(f);
    double scale = quick ? 0.3 : f->p->effort == SNUG_EFFORT_MAX ? 4 : 1, macs = calibrate_macs_per_token(f), sampling = 0, statistics = 0, feedback = 0;
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
    t->n_seq = (uint32_t)(tokens_wanted(f, scale, macs) / t->len);
    if (t->n_seq == 0) t->n_seq = 1;
    t->n_self = !f->calib.self ? 0 : f->calib.file ? (t->n_seq + 1) / 2 : t->n_seq;
    if (f->run_model) {
        statistics = macs * statistics_wanted(f) * t->len;
        sampling = macs * t->n_self * t->len * (large ? 0.4 : 3); /* small batches; packs are of few bits */
        if (large) statistics *= 0.65; /* matrices that fill the passes */
        for (int l = 0; f->feedback && l < (int)c->n_layers; l++) statistics += layer_moments_macs(f, l, (double)statistics_wanted(f) * t->len);
    }
    for (size_t i = 0; i < f->n; i++) feedback += calibrate_feedback_macs(f, &f->tensor[i], NULL);
    double n_logits, sens_macs = measure_prepare(f, scale, &n_logits);
    /* Of one thread; the factors are what stages took over what this says, on two cores, demo and 1.2 B. */
    fit_pace pace = pace_measure(f->p->effort);
    double mac_s = f->mac_s = pace.mac_s, encode_s = 1.4 * pace.encode_s, logit_s = 1.2e-8;
    const bool searches = f->feedback && f->p->target == SNUG_FOR_SNUG; /* trellis codes are tried, on a panel each */
    double menu_s = (double)matrices * (double)menu_sample_weights(f) * (large ? 28 : 20) * (searches ? 5 : 1) * encode_s;
    double load_s = sampling > 0 && large ? 0.65 * (double)weights * (quick ? pace : pace_measure(SNUG_EFFORT_QUICK)).encode_s : 0;
    f->stage_load = meter_add(&f->meter, "load", "weights", weights, load_s);
    f->stage_sample = meter_add(&f->meter, "sample", "tokens", (uint64_t)t->n_seq * t->len, sampling * mac_s);
    f->stage_stats = meter_add(&f->meter, "calibrate", "layers", c->n_layers, statistics * mac_s);
    f->stage_sens = meter_add(&f->meter, "sensitivity", "M multiply-adds", (uint64_t)(sens_macs / MEASURE_UNIT), 0.9 * (sens_macs * mac_s + n_logits * logit_s));
    f->stage_menu = meter_add(&f->meter, "menu", "tensors", matrices, menu_s);
    f->stage_head = meter_add(&f->meter, "head", "layers", c->n_layers, 0); /* unless the statistics are there already */
    f->stage_encode = meter_add(&f->meter, "encode", "weights", weights, f->p->plan_only ? 0 : (double)weights * encode_s + feedback * mac_s);
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

/* The windows that are not the model's own, spread evenly over the file, each starting with BOS where the tokenizer puts one. */
static snug_err file_text(fit_job *f, snug_error *err) {
    fit_text *t = &f->text;
    char *text;
    size_t bytes, n = 0;
    snug_err rc = io_read_all(f->calib.file, MAX_TEXT_BYTES, &text, &bytes, err);
    if (rc != SNUG_OK) return rc;
    int32_t *ids = malloc((bytes + 16) * sizeof *ids); /* a token has at least one byte */
    rc = ids ? tokenizer_encode(f->tok, text, bytes, false, false, ids, bytes + 16, &n, err) : err_nomem(err, bytes * sizeof *ids);
    free(text);
    uint32_t bos = tokenizer_adds_bos(f->tok) && tokenizer_bos(f->tok) >= 0, take = t->len - bos;
    if (rc == SNUG_OK && n > bytes + 16) rc = err_set(err, SNUG_ERR_FORMAT, "%s: %zu tokens from %zu bytes", f->calib.file, n, bytes);
    if (rc == SNUG_OK && n < take)
        rc = err_set(err, SNUG_ERR_ARG, "%s: %zu tokens of calibration text, expected at least %u", f->calib.file, n, take);
    if (rc == SNUG_OK && t->n_seq - t->n_self > n / take) t->n_seq = t->n_self + (uint32_t)(n / take);
    const uint32_t windows = t->n_seq - t->n_self;
    for (uint32_t k = 0; rc == SNUG_OK && k < windows; k++) {
        const uint32_t s = t->n_self + k;
        size_t from = windows > 1 ? (size_t)((double)(n - take) * k / (windows - 1)) : 0;
        if (bos) t->ids[(size_t)s * t->len] = tokenizer_bos(f->tok);
        for (uint32_t i = 0; i < take; i++) {
            int32_t id = ids[from + i];
            if (id < 0 || (uint32_t)id >= f->src->cfg.n_vocab) rc = err_set(err, SNUG_ERR_MISMATCH, "%s: token %d is outside of the model's %u", f->calib.file, id, f->src->cfg.n_vocab);
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
    snug_err rc = f->calib.none ? random_text(f, err) : SNUG_OK;
    if (f->calib.self) rc = sample_text(f, err);
    if (rc == SNUG_OK && f->calib.file) rc = file_text(f, err);
    if (t->sens_seq > t->n_seq) t->sens_seq = t->n_seq;
    t->stat_seq = statistics_wanted(f);
    t->hash = hash_bytes(t->ids, (size_t)t->n_seq * t->len * sizeof *t->ids);
    return rc;
}

/* ---- statistics ---- */

/* Layers whose work is less are done again rather than kept. */
static bool worth_keeping(const fit_job *f) {
    return calibrate_macs_per_token(f) * f->text.n_seq * f->text.len / f->src->cfg.n_layers >= STATE_FROM_SECONDS * 30e9;
}

snug_err calibrate_save_state(const fit_job *f, int slot, uint32_t n_seq, const float *x, uint64_t *hash, snug_error *err) {
    const char *path = journal_state_path(f->journal);
    const size_t per_seq = f->text.len * f->src->cfg.n_embd * sizeof *x, bytes = n_seq * per_seq;
    const uint64_t place = (uint64_t)slot * f->text.n_seq * per_seq;
    *hash = 0;
    if (!path || !worth_keeping(f)) return SNUG_OK;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return err_set(err, SNUG_ERR_IO, "%s: %s", path, strerror(errno));
    hash_state *sum = hash_create();
    snug_err rc = sum ? SNUG_OK : err_nomem(err, 64);
    for (size_t at = 0; at < bytes && rc == SNUG_OK;) {
        const uint8_t *from = (const uint8_t *)x + at;
        ssize_t n = pwrite(fd, from, min_u64(bytes - at, STATE_STEP), (off_t)(place + at));
        if (n < 0 && errno != EINTR) rc = err_set(err, SNUG_ERR_IO, "%s: writing: %s", path, strerror(errno));
        if (n <= 0) continue;
        hash_update(sum, from, (size_t)n);
        states_drop(f, x + at / sizeof *x, (size_t)n / sizeof *x + 1);
        at += (size_t)n;
    }
    if (rc == SNUG_OK && fdatasync(fd) != 0) rc = err_set(err, SNUG_ERR_IO, "%s: fdatasync: %s", path, strerror(errno));
    close(fd);
    if (rc == SNUG_OK) *hash = hash_digest(sum);
    hash_destroy(sum);
    return rc;
}

static bool read_state(const fit_job *f, int slot, uint32_t n_seq, const char *kind, int layer, float *x) {
    const char *path = journal_state_path(f->journal), *text = json_string_value(json_object_get(journal_find(f->journal, kind, layer), "state"));
    const size_t per_seq = f->text.len * f->src->cfg.n_embd * sizeof *x, bytes = n_seq * per_seq;
    const uint64_t place = (uint64_t)slot * f->text.n_seq * per_seq;
    io_file file;
    if (!path || !text || io_open(path, &file, NULL) != SNUG_OK) return false;
    hash_state *sum = hash_create();
    bool ok = sum && file.bytes >= place + bytes;
    for (size_t at = 0, n; at < bytes && ok; at += n) {
        n = min_u64(bytes - at, STATE_STEP);
        ok = io_pread(&file, place + at, (uint8_t *)x + at, n, NULL) == SNUG_OK;
        if (ok) hash_update(sum, (const uint8_t *)x + at, n);
        states_drop(f, x + at / sizeof *x, n / sizeof *x);
    }
    ok = ok && hash_digest(sum) == strtoull(text, NULL, 16);
    hash_destroy(sum);
    io_close(&file);
    return ok;
}

/* Process 0 has the file. When one of the others is gone the next exchange says so again. */
bool calibrate_load_state(const fit_job *f, int slot, uint32_t n_seq, const char *kind, int layer, float *x) {
    bool ok = cluster_rank() == 0 && read_state(f, slot, n_seq, kind, layer, x);
    return cluster_broadcast(&ok, sizeof ok, NULL) == SNUG_OK && ok &&
           cluster_broadcast(x, (size_t)n_seq * f->text.len * f->src->cfg.n_embd * sizeof *x, NULL) == SNUG_OK;
}

/* Balances an edge's sums and their factor h by what D asks for (source.c), and takes D from that. Twice, because before the first time damping,
 * a share of the mean, hides what small channels beside large ones cost. */
static snug_err balance_moments(fit_job *f, int layer, int e, int expert, hessian_sum *sum, hessian *h, int8_t *exponent, snug_error *err) {
    const fit_edge *to = fit_edge_at(f, layer, (graph_edge)e, expert);
    int8_t *step = malloc(sum->n);
    snug_err rc = step ? SNUG_OK : err_nomem(err, sum->n);
    for (int round = 0; round < 2 && rc == SNUG_OK; round++) {
        if ((rc = source_exponents(f, layer, (graph_edge)e, expert, step, err)) != SNUG_OK) break;
        for (size_t j = 0; j < sum->n; j++) step[j] = (int8_t)(step[j] - exponent[j]), exponent[j] = (int8_t)(exponent[j] + step[j]);
        if (!hessian_sum_scale(sum, step)) break;
        hessian_close(h);
        rc = hessian_factor(sum, FIT_DAMPING, 0, f->threads, h, err);
        for (size_t j = 0; j < sum->n && rc == SNUG_OK; j++) to->left[j] = ldexp((double)h->d[j], 2 * exponent[j]);
    }
    free(step);
    return rc;
}

/* D of an edge's sums, balanced, and probes of its matrices; the sums are changed. Where H cannot be factored (dead or broken channels),
 * nothing is explained. */
static snug_err take_unexplained(fit_job *f, int layer, int e, int expert, hessian_sum *sum, snug_error *err) {
    const fit_edge *to = fit_edge_at(f, layer, (graph_edge)e, expert);
    const bool tied = e == EDGE_HEAD_IN && f->src->cfg.tied;
    hessian h;
    snug_err rc = hessian_factor(sum, FIT_DAMPING, 0, f->threads, &h, err);
    if (rc == SNUG_ERR_NUMERIC) memcpy(to->left, to->square, sum->n * sizeof *to->left);
    if (rc != SNUG_OK) return rc == SNUG_ERR_NUMERIC ? SNUG_OK : rc;
    for (size_t j = 0; j < sum->n; j++) to->left[j] = (double)h.d[j];
    int8_t *exponent = calloc(sum->n, 1);
    if (!exponent) rc = err_nomem(err, sum->n);
    if (rc == SNUG_OK && !tied) rc = balance_moments(f, layer, e, expert, sum, &h, exponent, err);
    if (rc == SNUG_OK && !tied) rc = probe_edge(f, layer, (graph_edge)e, expert, sum, &h, exponent, err);
    hessian_close(&h);
    free(exponent);
    return rc == SNUG_ERR_NUMERIC ? SNUG_OK : rc;
}

/* What the sums say: mean squares, and what of them the later channels do not explain. */
static snug_err take_moments(fit_job *f, int layer, moments *m, snug_error *err) {
    for (int e = 0; e < EDGE_COUNT; e++) {
        const fit_edge *to = fit_edge_at(f, layer, (graph_edge)e, EXPERT_NONE);
        if (!m->want[e]) continue;
        for (size_t j = 0; j < m->cols[e]; j++) to->square[j] = moments_square(m, (graph_edge)e, j);
        snug_err rc = to->left ? take_unexplained(f, layer, e, EXPERT_NONE, &m->sum[e], err) : SNUG_OK;
        if (rc != SNUG_OK) return rc;
    }
    return SNUG_OK;
}

/* ---- experts ---- */

/* D of an expert's inputs, which are balanced as all experts' of the layer are, and probes of its matrices. */
static snug_err take_expert_in(fit_job *f, int layer, int expert, hessian_sum *sum, snug_error *err) {
    const fit_edge *to = fit_edge_at(f, layer, EDGE_FFN_IN, expert);
    hessian h = {0};
    int8_t *k = malloc(sum->n);
    snug_err rc = k ? source_exponents(f, layer, EDGE_FFN_IN, EXPERT_NONE, k, err) : err_nomem(err, sum->n);
    if (rc == SNUG_OK) (void)hessian_sum_scale(sum, k);
    if (rc == SNUG_OK) rc = hessian_factor(sum, FIT_DAMPING, 0, f->threads, &h, err);
    if (rc == SNUG_ERR_NUMERIC) memcpy(to->left, to->square, sum->n * sizeof *to->left);
    for (size_t j = 0; j < sum->n && rc == SNUG_OK; j++) to->left[j] = ldexp((double)h.d[j], 2 * k[j]);
    if (rc == SNUG_OK) rc = probe_edge(f, layer, EDGE_FFN_IN, expert, sum, &h, k, err);
    hessian_close(&h);
    free(k);
    return rc == SNUG_ERR_NUMERIC ? SNUG_OK : rc;
}

/* What it adds to the hidden states, as far as the diagonal of its moments tells: tokens times sum_j E[share^2 mid_j^2] |column j of down|^2. */
static snug_err take_energy(const fit_job *f, const weight *down, fit_expert *x, snug_error *err) {
    float *row = malloc(down->cols * sizeof *row);
    double sum = 0;
    if (!row) return err_nomem(err, down->cols * sizeof *row);
    for (uint64_t r = 0; r < down->rows; r++) {
        weight_decode(down, r, 1, row, down->cols);
        for (uint64_t j = 0; j < down->cols; j++) sum += x->mid.square[j] * row[j] * row[j];
    }
    free(row);
    x->energy = x->tokens * sum;
    return SNUG_OK;
}

static snug_err one_expert(fit_job *f, experts *s, int layer, int expert, const expert_weights *ew, snug_error *err) {
    fit_expert *x = &f->expert[edges_expert_index(f, layer, expert)];
    moments m = {.full = f->feedback, .want[EDGE_FFN_IN] = true, .want[EDGE_FFN_MID] = true};
    snug_err rc = experts_moments(s, expert, ew, &m, err);
    x->tokens = (double)experts_tokens(s, expert);
    for (size_t j = 0; j < m.cols[EDGE_FFN_IN] && rc == SNUG_OK; j++) x->in.square[j] = moments_square(&m, EDGE_FFN_IN, j);
    for (size_t j = 0; j < m.cols[EDGE_FFN_MID] && rc == SNUG_OK; j++) x->mid.square[j] = moments_square(&m, EDGE_FFN_MID, j);
    if (rc == SNUG_OK) rc = take_energy(f, &ew->w[2], x, err);
    if (rc == SNUG_OK && f->feedback) rc = take_expert_in(f, layer, expert, &m.sum[EDGE_FFN_IN], err);
    if (rc == SNUG_OK && f->feedback) rc = take_unexplained(f, layer, EDGE_FFN_MID, expert, &m.sum[EDGE_FFN_MID], err);
    moments_close(&m);
    return rc == SNUG_OK ? edges_save_expert(f, layer, expert, err) : rc;
}

/* ffn_in: what the layer's router sees. */
static snug_err all_experts(fit_job *f, forward *w, int layer, const layer_weights *lw, const float *ffn_in, snug_error *err) {
    experts s;
    snug_err rc = experts_open(w, layer, lw, ffn_in, &s, err);
    for (int x = 0; x < (int)layer_experts(&f->src->cfg, layer) && rc == SNUG_OK; x++) {
        rc = one_expert(f, &s, layer, x, &lw->experts[x], err);
        if (rc == SNUG_OK) rc = meter_update(&f->meter, (uint64_t)layer, NULL, err);
    }
    experts_close(&s);
    return rc;
}

static snug_err one_layer(fit_job *f, forward *w, int layer, float *x, snug_error *err) {
    arena mem = {0};
    layer_weights lw;
    moments m = {.full = f->feedback};
    const bool mixed = f->expert && layer_experts(&f->src->cfg, layer);
    for (int e = 0; e < EDGE_HEAD_IN; e++) m.want[e] = edges_has(&f->src->cfg, layer, (graph_edge)e);
    snug_err rc = source_layer(f, layer, &mem, &lw, err);
    if (rc == SNUG_OK && mixed) rc = states_open(f, (size_t)w->n_seq * f->text.len * f->src->cfg.n_embd, &m.ffn_in, err);
    if (rc == SNUG_OK) rc = moments_layer(w, layer, &lw, x, MOMENTS_WHOLE, &m, err);
    if (rc == SNUG_OK) rc = take_moments(f, layer, &m, err);
    float *ffn_in = m.ffn_in;
    moments_close(&m);
    if (rc == SNUG_OK && mixed) rc = all_experts(f, w, layer, &lw, ffn_in, err);
    states_close(f, &ffn_in);
    arena_fini(&mem);
    return rc;
}

static snug_err head_statistics(fit_job *f, const float *x, snug_error *err) {
    moments m = {.want[EDGE_HEAD_IN] = true, .full = f->feedback};
    snug_err rc = moments_head(f, x, (size_t)f->text.stat_seq * f->text.len, &m, err);
    if (rc == SNUG_OK) rc = take_moments(f, (int)f->src->cfg.n_layers, &m, err);
    if (rc == SNUG_OK && f->feedback && f->src->cfg.tied) {
        f->head_sum = m.sum[EDGE_HEAD_IN];
        m.sum[EDGE_HEAD_IN] = (hessian_sum){0};
    }
    moments_close(&m);
    return rc;
}

/* Sequences that stand evenly in the text, stat_seq of them. */
static snug_err embed_statistics(const fit_job *f, float *x, snug_error *err) {
    const fit_text *t = &f->text;
    const size_t floats = t->len * f->src->cfg.n_embd;
    snug_err rc = SNUG_OK;
    for (uint32_t q = 0; q < t->stat_seq && rc == SNUG_OK; q++)
        rc = embed_tokens(f, t->ids + (uint64_t)q * t->n_seq / t->stat_seq * t->len, t->len, t->len, NULL, x + q * floats, err);
    return rc;
}

/* A fit whose statistics came from the journal or the cache runs the layers once more for it. */
snug_err calibrate_head_sum(fit_job *f, snug_error *err) {
    const size_t n = (size_t)f->text.stat_seq * f->text.len, d = f->src->cfg.n_embd;
    if (f->head_sum.tokens > 0) return SNUG_OK;
    meter_begin(&f->meter, f->stage_head);
    forward w = {0};
    float *x;
    snug_err rc = states_open(f, n * d, &x, err);
    if (rc == SNUG_OK) rc = forward_open(f, NULL, SNUG_ACT_F32, f->text.len, &w, err);
    if (rc == SNUG_OK) rc = embed_statistics(f, x, err);
    for (int l = 0; l < (int)f->src->cfg.n_layers && rc == SNUG_OK; l++) {
        arena mem = {0};
        layer_weights lw;
        rc = source_layer(f, l, &mem, &lw, err);
        if (rc == SNUG_OK) rc = forward_layer(&w, l, &lw, f->text.stat_seq, f->text.len, &x, 1, NULL, NULL, err);
        if (rc == SNUG_OK) rc = meter_update(&f->meter, (uint64_t)l + 1, NULL, err);
        arena_fini(&mem);
    }
    moments m = {.want[EDGE_HEAD_IN] = true, .full = true};
    if (rc == SNUG_OK) rc = moments_head(f, x, n, &m, err);
    if (rc == SNUG_OK) f->head_sum = m.sum[EDGE_HEAD_IN], m.sum[EDGE_HEAD_IN] = (hessian_sum){0};
    moments_close(&m);
    forward_close(&w);
    states_close(f, &x);
    return rc;
}

snug_err calibrate_statistics(fit_job *f, snug_error *err) {
    size_t n = (size_t)f->text.stat_seq * f->text.len, d = f->src->cfg.n_embd;
    int n_layers = (int)f->src->cfg.n_layers, first = 0;
    snug_err rc = edges_open(f, err);
    if (rc != SNUG_OK) return rc;
    while (first <= n_layers && edges_load(f, first)) first++;
    if (first > n_layers) {
        if (f->feedback && f->src->cfg.tied) meter_set_cost(&f->meter, f->stage_head, calibrate_macs_per_token(f) * (double)n * f->mac_s);
        return SNUG_OK;
    }
    meter_begin(&f->meter, f->stage_stats);
    forward w = {0};
    float *x;
    rc = states_open(f, n * d, &x, err);
    if (rc == SNUG_OK) rc = forward_open(f, NULL, SNUG_ACT_F32, f->text.len, &w, err);
    w.n_seq = f->text.stat_seq;
    if (rc == SNUG_OK && first > 0 && calibrate_load_state(f, (first - 1) & 1, w.n_seq, "edges", first - 1, x)) meter_skip(&f->meter, (uint64_t)first);
    else first = 0;
    if (rc == SNUG_OK && first == 0) rc = embed_statistics(f, x, err);
    for (int l = first; l < n_layers && rc == SNUG_OK; l++) {
        uint64_t hash;
        rc = meter_update(&f->meter, (uint64_t)l, NULL, err);
        if (rc == SNUG_OK) rc = one_layer(f, &w, l, x, err);
        if (rc == SNUG_OK) rc = calibrate_save_state(f, l & 1, w.n_seq, x, &hash, err);
        if (rc == SNUG_OK) rc = edges_save(f, l, hash, err);
    }
    if (rc == SNUG_OK) rc = head_statistics(f, x, err);
    if (rc == SNUG_OK) rc = edges_save(f, n_layers, 0, err);
    if (rc == SNUG_OK) rc = meter_update(&f->meter, (uint64_t)n_layers, NULL, err);
    forward_close(&w);
    states_close(f, &x);
    return rc;
}
