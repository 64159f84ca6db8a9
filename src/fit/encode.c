/* Encoding: every tensor's rows in panels through the solver, spread over threads, written in order to its place in the part file.
 *
 * Memory: one window of panels' payloads and one panel of f32 rows per worker. Panels depend on shapes alone and rows are encoded
 * independently, so the bytes are the same for any number of threads. After each tensor its data are made durable, then the
 * journal gets its checksums; a resumed fit reads back what the journal claims and encodes again what does not match.
 *
 * Several processes share the panels of a window, which is then as many times as long; process 0 has the file, and reads back for all. */
#include "fit/encode.h"

#include "base/checked.h"
#include "base/cluster.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/thread.h"
#include "codec/transform.h"
#include "solve/solve.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SWEPT 2.5 /* encoding with sweeps of weights beside without */
enum { PANEL_WEIGHTS = 16384, WINDOW_WEIGHTS = 1 << 21, COPY_CHUNK = 1 << 20, ALIGN = 32, MEASURED_ROWS = 16 };

typedef struct relative { double err2, norm2; } relative;

typedef struct panel_job {
    const fit_job *f;
    const fit_tensor *t;
    comp_term term;
    const hessian *h; /* in the term's basis */
    uint64_t row0, n_rows, panel_rows; /* the window */
    uint64_t first_panel; /* of this process */
    uint8_t *dst;
    float **rows; /* per worker: a panel, and with h what it decodes to */
    snug_err *rc; /* per panel */
    relative *error; /* per panel, under h */
} panel_job;

/* Errors of a panel's first rows, as many as MEASURED_ROWS: tr(E H E^T) beside sum_rj H_jj w_rj^2. w_hat becomes E. */
static relative panel_error(const hessian *h, const float *w, float *w_hat, size_t n_rows, size_t cols) {
    double loss[MEASURED_ROWS];
    relative sum = {0};
    if (n_rows > MEASURED_ROWS) n_rows = MEASURED_ROWS;
    for (size_t i = 0; i < n_rows * cols; i++) {
        const double x = w[i];
        sum.norm2 += h->m[(i % cols) * (h->n + 1)] * x * x;
        w_hat[i] = w[i] - w_hat[i];
    }
    if (hessian_loss(h, w_hat, cols, n_rows, loss, NULL) != SNUG_OK) return (relative){0};
    for (size_t r = 0; r < n_rows; r++) sum.err2 += loss[r];
    return sum;
}

static void encode_panels(void *user, size_t begin, size_t end, int worker) {
    panel_job *j = user;
    const store_tensor *s = j->t->t;
    for (size_t i = j->first_panel + begin; i < j->first_panel + end; i++) {
        uint64_t first = i * j->panel_rows, n = min_u64(j->panel_rows, j->n_rows - first);
        float *w = j->rows[worker], *w_hat = j->h ? w + j->panel_rows * s->cols : NULL;
        uint8_t *dst = j->dst + (first ? j->term.codec->bytes(j->term.params, first, s->cols) : 0);
        snug_err rc = source_rows(j->f, s, j->row0 + first, n, w, NULL);
        for (size_t k = 0; k < n * s->cols && rc == SNUG_OK; k++)
            if (!isfinite(w[k])) rc = SNUG_ERR_NUMERIC;
        const wt_layout layout = artifact_layout(j->f, j->term.codec);
        const int in = j->term.params.in;
        for (size_t r = 0; in && r < n && rc == SNUG_OK; r++) transform_apply(in, s->cols, w + r * s->cols, w + r * s->cols);
        if (rc == SNUG_OK && j->h)
            rc = solve_ldlq(layout, j->term.codec, j->term.params, w, s->cols, n, s->cols, j->h, j->f->p->effort, dst, w_hat, NULL);
        else if (rc == SNUG_OK)
            rc = solve_rtn_to(layout, j->term.codec, j->term.params, w, s->cols, n, s->cols, importance_in(j->t, in), j->f->p->effort, dst, NULL, NULL);
        if (rc == SNUG_OK && j->h) j->error[i] = panel_error(j->h, w, w_hat, n, s->cols);
        j->rc[i] = rc;
    }
}

/* A panel: about PANEL_WEIGHTS weights, whole tiles, and whole heads where reading rows means reading heads. */
static uint64_t panel_rows_of(const store_tensor *s, uint64_t tile, bool feedback) {
    uint64_t rows = round_up(max_u64(feedback ? SOLVE_LDLQ_ROWS : 1, PANEL_WEIGHTS / s->cols), tile);
    if (s->permute_heads) rows = round_up(rows, s->rows / s->permute_heads);
    return rows;
}

static bool has_file(void) { return cluster_rank() == 0; }

static snug_err put(encoder *e, uint64_t at, const uint8_t *src, uint64_t n, hash_state *h, snug_error *err) {
    if (!has_file()) return SNUG_OK;
    hash_update(h, src, n);
    return io_writer_pwrite(&e->out, e->data_at + at, src, n, err);
}

static const cand *chosen(const fit_tensor *t) { return &t->menu.cand[t->choice]; }

/* A thread's seconds: those of the codec's trial, and those of feedback. Sweeps of tiles search all of them again. */
static double seconds_of(const fit_job *f, const fit_tensor *t) {
    const comp *c = &chosen(t)->comp;
    const snug_codec *codec = c->term[c->n_terms - 1].codec;
    const double n = (double)t->t->rows * (double)t->t->cols, rounds = !f->feedback ? 1 : codec->tile_cols == 1 ? SWEPT : 1 + solve_ldlq_sweeps(codec, f->p->effort);
    return n * chosen(t)->encode_s * rounds + calibrate_feedback_macs(f, t, codec) * f->mac_s;
}

/* What a weight counts for. */
static double worth(const encoder *e, const fit_tensor *t) {
    return e->mean_s > 0 && t->matrix ? seconds_of(e->f, t) / ((double)t->t->rows * (double)t->t->cols) / e->mean_s : 1;
}

/* The trials of the menus tell how long each codec takes. */
static void expect(encoder *e) {
    double seconds = 0, weights = 0;
    bool all = true;
    for (size_t i = 0; i < e->f->n; i++) {
        const fit_tensor *t = &e->f->tensor[i];
        if (!t->matrix) continue;
        all &= chosen(t)->encode_s > 0 || e->f->feedback;
        seconds += seconds_of(e->f, t);
        weights += (double)t->t->rows * (double)t->t->cols;
    }
    if (!all || weights == 0 || !(seconds > 0)) return;
    e->mean_s = seconds / weights;
    meter_set_cost(&e->f->meter, e->f->stage_encode, seconds);
}

/* The window's panels, to all processes. */
static snug_err encode_window(panel_job *j, uint64_t n_panels, snug_error *err) {
    const store_tensor *s = j->t->t;
    const uint64_t bytes = j->term.codec->bytes(j->term.params, j->n_rows, s->cols);
    snug_err rc = SNUG_OK;
    size_t begin, end;
    cluster_share(n_panels, &begin, &end);
    j->first_panel = begin;
    thread_for(j->f->threads, end - begin, 1, encode_panels, j);
    for (uint64_t i = begin; i < end && rc == SNUG_OK; i++)
        if (j->rc[i] == SNUG_ERR_NUMERIC) rc = err_set(err, j->rc[i], "%s: holds a weight that is not a finite number", s->name);
        else if (j->rc[i] != SNUG_OK) rc = err_set(err, j->rc[i], "%s: encoding rows from %llu on: %s", s->name,
                                                  (unsigned long long)(j->row0 + i * j->panel_rows), snug_err_name(j->rc[i]));
    if (rc == SNUG_OK) rc = cluster_gather(j->dst, n_panels, j->term.codec->bytes(j->term.params, j->panel_rows, s->cols), bytes, err);
    return rc == SNUG_OK && j->h ? cluster_gather(j->error, n_panels, sizeof *j->error, n_panels * sizeof *j->error, err) : rc;
}

static snug_err encode_rows(encoder *e, fit_tensor *t, const hessian *moments, uint64_t at, hash_state *h, snug_error *err) {
    fit_job *f = e->f;
    const store_tensor *s = t->t;
    panel_job j = {.f = f, .t = t, .term = t->menu.cand[t->choice].comp.term[0]};
    j.h = moments ? &moments[j.term.params.in] : NULL;
    j.panel_rows = panel_rows_of(s, artifact_layout(f, j.term.codec) == WT_PANELS ? KERN_PANEL_ROWS : j.term.codec->tile_rows, moments);
    uint64_t window = min_u64(s->rows, round_up(max_u64(1, WINDOW_WEIGHTS / s->cols), j.panel_rows) * (uint64_t)cluster_size());
    uint64_t n_panels = div_up(window, j.panel_rows);
    uint64_t bytes = j.term.codec->bytes(j.term.params, window, s->cols);
    j.dst = malloc(bytes);
    j.rc = calloc(n_panels, sizeof *j.rc);
    j.error = calloc(n_panels, sizeof *j.error);
    j.rows = calloc((size_t)f->threads, sizeof *j.rows);
    snug_err rc = j.dst && j.rc && j.error && j.rows ? SNUG_OK : err_nomem(err, bytes);
    for (int i = 0; i < f->threads && rc == SNUG_OK; i++)
        if (!(j.rows[i] = malloc((j.h ? 2 : 1) * j.panel_rows * s->cols * sizeof(float)))) rc = err_nomem(err, 2 * j.panel_rows * s->cols * 4);
    relative all = {0};
    for (; j.row0 < s->rows && rc == SNUG_OK; j.row0 += window) {
        rc = meter_update(&f->meter, (uint64_t)fmin(e->done + worth(e, t) * (double)(j.row0 * s->cols), 0.999 * e->all), s->name, err);
        if (rc != SNUG_OK) break;
        j.n_rows = min_u64(window, s->rows - j.row0);
        n_panels = div_up(j.n_rows, j.panel_rows);
        rc = encode_window(&j, n_panels, err);
        bytes = j.term.codec->bytes(j.term.params, j.n_rows, s->cols);
        if (rc == SNUG_OK) rc = put(e, at, j.dst, bytes, h, err);
        for (uint64_t i = 0; i < n_panels; i++) all.err2 += j.error[i].err2, all.norm2 += j.error[i].norm2;
        at += bytes;
    }
    t->measured = rc == SNUG_OK && all.norm2 > 0 ? all.err2 / all.norm2 : -1;
    for (int i = 0; j.rows && i < f->threads; i++) free(j.rows[i]);
    free(j.rows);
    free(j.dst);
    free(j.rc);
    free(j.error);
    return rc;
}

/* A malloc'd payload of rows one after the other becomes one of panels. */
static snug_err interleave(const comp_term *t, uint64_t n_rows, uint64_t cols, uint8_t **payload, snug_error *err) {
    wt w;
    uint64_t bytes = t->codec->bytes(t->params, n_rows, cols);
    uint8_t *to = malloc(bytes);
    snug_err rc = to ? wt_open(t->codec, t->params, n_rows, cols, *payload, bytes, &w, err) : err_nomem(err, bytes);
    if (rc == SNUG_OK) t->codec->relay(&w, to);
    free(*payload);
    *payload = to;
    return rc;
}

/* A composition that is not row-separable or has several terms: the whole matrix at once. Fills checksums itself. */
static snug_err encode_whole(encoder *e, fit_tensor *t, const hessian *h, const uint64_t *at, snug_error *err) {
    const store_tensor *s = t->t;
    const comp *c = &t->menu.cand[t->choice].comp;
    uint8_t *dst[WEIGHT_MAX_TERMS] = {0};
    float *w = malloc(s->rows * s->cols * sizeof *w);
    snug_err rc = w ? source_rows(e->f, s, 0, s->rows, w, err) : err_nomem(err, s->rows * s->cols * sizeof *w);
    for (size_t i = 0; rc == SNUG_OK && i < s->rows * s->cols; i++)
        if (!isfinite(w[i])) rc = err_set(err, SNUG_ERR_NUMERIC, "%s: holds a weight that is not a finite number", s->name);
    for (uint32_t k = 0; k < c->n_terms && rc == SNUG_OK; k++)
        if (!(dst[k] = malloc(comp_term_bytes(c, k, s->rows, s->cols)))) rc = err_nomem(err, comp_term_bytes(c, k, s->rows, s->cols));
    solve_input in[TRANSFORM_COUNT];
    for (int b = 0; b < TRANSFORM_COUNT; b++) in[b] = (solve_input){importance_in(t, b), h ? &h[b] : NULL};
    if (rc == SNUG_OK) rc = solve_comp(c, w, s->rows, s->cols, in, e->f->p->effort, e->f->threads, dst, err);
    for (uint32_t k = 0; k < c->n_terms && rc == SNUG_OK; k++) {
        uint64_t bytes = comp_term_bytes(c, k, s->rows, s->cols);
        if (artifact_layout(e->f, c->term[k].codec) == WT_PANELS) rc = interleave(&c->term[k], s->rows, s->cols, &dst[k], err);
        if (rc != SNUG_OK || !has_file()) break;
        t->checksum[k] = hash_bytes(dst[k], bytes);
        rc = io_writer_pwrite(&e->out, e->data_at + at[k], dst[k], bytes, err);
    }
    for (uint32_t k = 0; k < WEIGHT_MAX_TERMS; k++) free(dst[k]);
    free(w);
    return rc;
}

/* Bytes of a source's term as they are, or window by window in the other layout. */
static snug_err copy_term(encoder *e, const store_term *t, uint64_t at, hash_state *h, snug_error *err) {
    const bool relay = t->layout != artifact_layout(e->f, t->codec);
    const uint64_t row_bytes = t->codec->caps & CODEC_WHOLE ? 0 : t->codec->bytes(t->params, 1, t->cols);
    const bool by_rows = relay || t->apart.step;
    const uint64_t step = by_rows ? round_up(max_u64(1, COPY_CHUNK / row_bytes), KERN_PANEL_ROWS) * row_bytes : COPY_CHUNK;
    uint8_t *chunk = malloc(relay ? 2 * step : step);
    snug_err rc = chunk ? SNUG_OK : err_nomem(err, step);
    for (uint64_t done = 0; done < t->bytes && rc == SNUG_OK;) {
        uint64_t n = min_u64(step, t->bytes - done);
        uint8_t *from = chunk;
        rc = by_rows ? store_read_payload(e->f->src, t, done / row_bytes, n / row_bytes, chunk, err) : io_pread(&e->f->src->files[t->file], t->offset + done, chunk, (size_t)n, err);
        if (rc == SNUG_OK && relay) {
            wt w;
            rc = store_open_rows(t, 0, n / row_bytes, chunk, n, &w, err);
            if (rc == SNUG_OK) t->codec->relay(&w, from = chunk + step);
        }
        if (rc == SNUG_OK) rc = put(e, at + done, from, n, h, err);
        done += n;
    }
    free(chunk);
    return rc;
}

static snug_err copy_terms(encoder *e, fit_tensor *t, const uint64_t *at, snug_error *err) {
    snug_err rc = SNUG_OK;
    for (uint32_t k = 0; k < t->t->n_terms && rc == SNUG_OK && has_file(); k++) {
        hash_state *h = hash_create();
        rc = h ? copy_term(e, &t->t->term[k], at[k], h, err) : err_nomem(err, 64);
        if (rc == SNUG_OK) t->checksum[k] = hash_digest(h);
        hash_destroy(h);
    }
    return rc;
}

/* RoPE's factors, where t is made of them. */
static const float *made_values(const fit_job *f, const fit_tensor *t) {
    for (int i = 0; i < FIT_ROPE_TENSORS; i++)
        if (t->t == &f->rope_tensor[i]) return f->rope_values[i];
    return NULL;
}

static snug_err write_vector(encoder *e, fit_tensor *t, uint64_t at, hash_state *h, snug_error *err) {
    const float *made = made_values(e->f, t);
    if (!made) return encode_rows(e, t, NULL, at, h, err);
    return put(e, at, (const uint8_t *)made, t->t->cols * sizeof(float), h, err); /* f32, little endian like us */
}

static snug_err encode_tensor(encoder *e, fit_tensor *t, const hessian *moments, const uint64_t *at, snug_error *err) {
    const comp *c = &t->menu.cand[t->choice].comp;
    if (!made_values(e->f, t) && menu_is_copy(e->f, t->t, c)) return copy_terms(e, t, at, err);
    if (c->n_terms > 1 || (c->term[0].codec->caps & CODEC_WHOLE)) return encode_whole(e, t, moments, at, err);
    hash_state *h = hash_create();
    if (!h) return err_nomem(err, 64);
    snug_err rc = t->matrix ? encode_rows(e, t, moments, at[0], h, err) : write_vector(e, t, at[0], h, err);
    t->checksum[0] = hash_digest(h);
    hash_destroy(h);
    return rc;
}

/* ---- resume ---- */

/* to: room for all of it, or NULL. */
static bool read_back(const encoder *e, uint64_t at, uint64_t bytes, uint8_t *to, uint64_t *checksum) {
    hash_state *h = hash_create();
    uint8_t *chunk = to ? NULL : malloc(COPY_CHUNK);
    bool ok = h && (to || chunk);
    for (uint64_t done = 0; ok && done < bytes;) {
        uint8_t *dst = to ? to + done : chunk;
        ssize_t n = pread(e->out.fd, dst, min_u64(COPY_CHUNK, bytes - done), (off_t)(e->data_at + at + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) ok = false;
        else hash_update(h, dst, (size_t)n), done += (uint64_t)n;
    }
    if (ok) *checksum = hash_digest(h);
    free(chunk);
    hash_destroy(h);
    return ok;
}

/* Is tensor i in the part file already, as the journal says? */
static bool is_done(const encoder *e, size_t i) {
    fit_tensor *t = &e->f->tensor[i];
    const comp *c = &t->menu.cand[t->choice].comp;
    const json_t *known = journal_find(e->f->journal, "tensor", (int64_t)i);
    if (!known || json_array_size(known) != c->n_terms) return false;
    for (uint32_t k = 0; k < c->n_terms; k++) {
        const char *text = json_string_value(json_array_get(known, k));
        uint64_t found;
        if (!text || !read_back(e, e->offset[i * WEIGHT_MAX_TERMS + k], comp_term_bytes(c, k, t->t->rows, t->t->cols), NULL, &found)) return false;
        if (found != strtoull(text, NULL, 16)) return false;
        t->checksum[k] = found;
    }
    return true;
}

static snug_err record_tensor(encoder *e, size_t i, snug_error *err) {
    const fit_tensor *t = &e->f->tensor[i];
    if (!t->matrix || !has_file()) return SNUG_OK; /* vectors are written again: that is faster than two fsyncs */
    if (e->f->p->output && fdatasync(e->out.fd) != 0) return err_set(err, SNUG_ERR_IO, "%s: fdatasync failed: %s", e->out.part_path, strerror(errno));
    json_t *sums = json_array();
    for (uint32_t k = 0; k < t->menu.cand[t->choice].comp.n_terms; k++)
        json_array_append_new(sums, json_sprintf("%016llx", (unsigned long long)t->checksum[k]));
    return journal_put(e->f->journal, "tensor", (int64_t)i, sums, err);
}

/* ---- all ---- */

static snug_err pad_tensor(encoder *e, const fit_tensor *t, const uint64_t *at, snug_error *err) {
    static const uint8_t zeros[ALIGN];
    const comp *c = &t->menu.cand[t->choice].comp;
    if (!item_ends(e->f, (size_t)(t - e->f->tensor))) return SNUG_OK; /* the next one stands there */
    for (uint32_t k = 0; k < c->n_terms && has_file(); k++) {
        uint64_t bytes = at[k] + comp_term_bytes(c, k, t->t->rows, t->t->cols);
        snug_err rc = io_writer_pwrite(&e->out, e->data_at + bytes, zeros, round_up(bytes, ALIGN) - bytes, err);
        if (rc != SNUG_OK) return rc;
    }
    return SNUG_OK;
}

snug_err encode_one(encoder *e, size_t i, const hessian *h, snug_error *err) {
    fit_job *f = e->f;
    fit_tensor *t = &f->tensor[i];
    const uint64_t *at = &e->offset[i * WEIGHT_MAX_TERMS];
    double weights = worth(e, t) * (double)t->t->rows * (double)t->t->cols;
    snug_err rc = SNUG_OK;
    if (t->skipped) {
        e->skipped += weights;
        meter_skip(&f->meter, (uint64_t)e->skipped);
    } else {
        rc = encode_tensor(e, t, h, at, err);
        if (rc == SNUG_OK) rc = pad_tensor(e, t, at, err);
        if (rc == SNUG_OK) rc = record_tensor(e, i, err);
    }
    e->done += weights;
    return rc == SNUG_OK ? meter_update(&f->meter, (uint64_t)fmin(e->done, 0.999 * e->all), t->t->name, err) : rc;
}

snug_err encode_read_back(const encoder *e, size_t i, arena *mem, weight *out, snug_error *err) {
    const fit_tensor *t = &e->f->tensor[i];
    const comp *c = &t->menu.cand[t->choice].comp;
    *out = (weight){.rows = t->t->rows, .cols = t->t->cols};
    for (uint32_t k = 0; k < c->n_terms; k++) {
        uint64_t bytes = comp_term_bytes(c, k, t->t->rows, t->t->cols), at = e->data_at + e->offset[i * WEIGHT_MAX_TERMS + k], checksum;
        uint8_t *payload = arena_alloc(mem, bytes);
        if (!payload) return err_nomem(err, bytes);
        if (has_file() && (!read_back(e, at - e->data_at, bytes, payload, &checksum) || checksum != t->checksum[k]))
            return err_set(err, SNUG_ERR_IO, "%s: %s cannot be read back", e->out.part_path, t->t->name);
        snug_err rc = cluster_broadcast(payload, bytes, err);
        if (rc == SNUG_OK) rc = wt_open(c->term[k].codec, c->term[k].params, t->t->rows, t->t->cols, payload, bytes, &out->term[k].wt, err);
        if (rc != SNUG_OK) return rc;
        out->term[k].wt.layout = artifact_layout(e->f, c->term[k].codec);
        out->n_terms++;
    }
    return SNUG_OK;
}

snug_err encode_tell(encoder *e, int layer, snug_error *err) {
    const fit_job *f = e->f;
    double loss = 0, planned = 0;
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++) {
        const fit_tensor *t = &f->tensor[i];
        if (!t->matrix || t->t->layer != layer || !(t->measured >= 0)) continue;
        loss += menu_loss(t, t->measured);
        planned += chosen(t)->loss;
        n++;
    }
    char note[160];
    if (n == 0) return SNUG_OK;
    snprintf(note, sizeof note, "layer %d of %u: loss %.2g nats per token, planned %.2g (%zu matrices)", layer + 1, f->src->cfg.n_layers, loss, planned, n);
    return meter_note(&e->f->meter, note, err);
}

static snug_err encode_tensors(encoder *e, snug_error *err) {
    fit_job *f = e->f;
    snug_err rc = SNUG_OK;
    expect(e);
    for (size_t i = 0; i < f->n && rc == SNUG_OK; i++) {
        fit_tensor *t = &f->tensor[i];
        e->all += (double)t->t->rows * (double)t->t->cols;
        t->measured = -1;
        t->skipped = t->matrix && has_file() && journal_is_resumed(f->journal) && is_done(e, i);
        rc = cluster_broadcast(&t->skipped, sizeof t->skipped, err);
    }
    if (rc == SNUG_OK && f->feedback) rc = encode_head_sum(e, err);
    if (rc != SNUG_OK) return rc;
    meter_begin(&f->meter, f->stage_encode);
    if (f->feedback) rc = encode_layers(e, err);
    else
        for (size_t i = 0; i < f->n && rc == SNUG_OK; i++) rc = encode_one(e, i, NULL, err);
    return rc == SNUG_OK ? meter_update(&f->meter, (uint64_t)e->all, NULL, err) : rc;
}

/* Checksums of items of several tensors, which are encoded apart, are of what stands in the file. */
static snug_err check_stacks(encoder *e, snug_error *err) {
    fit_job *f = e->f;
    for (size_t i = 0; i < f->n; i++) {
        fit_tensor *t = &f->tensor[i];
        const size_t n = item_size(f, i);
        if (f->plain || f->p->target != SNUG_FOR_GGUF || n == 0 || (n == 1 && t->t->expert == EXPERT_NONE)) continue;
        const uint64_t bytes = item_bytes(f, i, n, &chosen(t)->comp);
        if (!read_back(e, e->offset[i * WEIGHT_MAX_TERMS], bytes, NULL, &t->stack_checksum))
            return err_set(err, SNUG_ERR_IO, "%s: %s cannot be read back", e->out.part_path, t->item);
    }
    return SNUG_OK;
}

/* The header, now with the checksums, and the file's name. */
static snug_err finish_file(encoder *e, buf *header, snug_error *err) {
    uint64_t file_bytes;
    const char *name = e->f->p->output;
    snug_err rc = check_stacks(e, err);
    if (rc == SNUG_OK) rc = artifact_header(e->f, header, &file_bytes, NULL, err);
    if (rc == SNUG_OK && header->len != e->data_at) rc = err_set(err, SNUG_ERR_FORMAT, "%s: the header's size changed while encoding", name);
    if (rc == SNUG_OK) rc = io_writer_pwrite(&e->out, 0, header->data, header->len, err);
    if (rc == SNUG_OK && ftruncate(e->out.fd, (off_t)file_bytes) != 0) rc = err_set(err, SNUG_ERR_IO, "%s: ftruncate: %s", name, strerror(errno));
    return rc == SNUG_OK ? io_writer_commit(&e->out, err) : rc;
}

snug_err encode_all(fit_job *f, snug_error *err) {
    encoder e = {.f = f, .out = {.fd = -1}};
    buf header = {0};
    uint64_t file_bytes;
    e.offset = calloc(f->n * WEIGHT_MAX_TERMS, sizeof *e.offset);
    snug_err rc = e.offset ? artifact_header(f, &header, &file_bytes, e.offset, err) : err_nomem(err, f->n * 32);
    if (rc == SNUG_OK && file_bytes > f->budget_bytes) /* cannot happen; the promise is worth a check */
        rc = err_set(err, SNUG_ERR_BUDGET, "the file would have %llu bytes, the budget is %llu", (unsigned long long)file_bytes,
                     (unsigned long long)f->budget_bytes);
    e.data_at = header.len;
    bool durable = !f->plain;
    if (rc == SNUG_OK) rc = cluster_check(hash_bytes(header.data, header.len), err); /* the plan, to the bit */
    if (rc == SNUG_OK && has_file()) rc = io_writer_open(f->p->output, durable, durable && journal_is_resumed(f->journal), &e.out, err);
    if (rc == SNUG_OK) rc = encode_tensors(&e, err);
    if (rc == SNUG_OK) rc = cluster_check(0, err); /* nobody can fail any more */
    if (rc == SNUG_OK && has_file()) rc = finish_file(&e, &header, err);
    io_writer_abort(&e.out);
    buf_fini(&header);
    free(e.offset);
    return rc;
}
