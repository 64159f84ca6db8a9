/* See forward.h. */
#include "fit/forward.h"

#include "base/checked.h"
#include "base/cluster.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/rng.h"
#include "base/thread.h"
#include "model/arch.h"
#include "solve/solve.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PASS_TOKENS = 1024, SMALL_PASS_TOKENS = 128, SMALL_MATRIX = 1 << 21, PANEL_WEIGHTS = 16384, EMBED_STEP = 1024 };

/* ---- layers ---- */

static uint64_t largest_matrix(const fit_job *f) {
    uint64_t most = 0;
    for (size_t i = 0; i < f->n; i++)
        if (f->tensor[i].matrix && f->tensor[i].t->layer >= 0) most = max_u64(most, f->tensor[i].t->rows * f->tensor[i].t->cols);
    return most;
}

static snug_err open_lane(forward *w, const config *c, snug_act form, forward_lane *lane, const float *rope, snug_error *err) {
    graph_params g = {.max_batch = w->n_pass * w->len, .n_ctx = w->len, .threads = w->by_pass ? 1 : w->f->threads,
                      .transforms = true, .allow_q8 = form == SNUG_ACT_Q8};
    const kv_params kv = graph_kv(c, 1, w->len, w->n_pass, SNUG_KV_F32);
    snug_err rc = graph_create(c, &g, rope, &lane->g, err);
    if (rc == SNUG_OK) rc = kv_pool_create(&kv, &lane->pool, err);
    lane->seq = arena_calloc(&w->mem, w->n_pass, sizeof *lane->seq);
    lane->item = arena_calloc(&w->mem, (size_t)w->n_pass * w->len, sizeof *lane->item);
    if (rc == SNUG_OK && (!lane->seq || !lane->item)) rc = err_nomem(err, (size_t)w->n_pass * w->len * sizeof *lane->item);
    for (uint32_t s = 0; s < w->n_pass && rc == SNUG_OK; s++) rc = kv_seq_create(lane->pool, &lane->seq[s], err);
    return rc;
}

snug_err forward_open(fit_job *f, const config *cfg, snug_act form, uint32_t len, forward *out, snug_error *err) {
    bool by_pass = largest_matrix(f) < SMALL_MATRIX;
    uint32_t tokens = by_pass ? SMALL_PASS_TOKENS : PASS_TOKENS;
    *out = (forward){.f = f, .by_pass = by_pass, .n_lanes = by_pass ? (size_t)f->threads : 1, .len = len, .n_seq = f->text.n_seq, .n_pass = len < tokens ? tokens / len : 1};
    const float *rope = NULL;
    const store_tensor *freqs = store_find(f->src, ROLE_ROPE_FREQS, -1);
    snug_err rc = SNUG_OK;
    if (freqs) {
        float *values = arena_calloc(&out->mem, freqs->cols, sizeof *values);
        rc = values ? source_rows(f, freqs, 0, 1, values, err) : err_nomem(err, freqs->cols * sizeof *values);
        rope = values;
    }
    out->lane = arena_calloc(&out->mem, out->n_lanes, sizeof *out->lane);
    if (rc == SNUG_OK && !out->lane) rc = err_nomem(err, out->n_lanes * sizeof *out->lane);
    for (size_t i = 0; i < out->n_lanes && rc == SNUG_OK; i++) rc = open_lane(out, cfg ? cfg : &f->src->cfg, form, &out->lane[i], rope, err);
    return rc;
}

void forward_close(forward *w) {
    for (size_t i = 0; w->lane && i < w->n_lanes; i++) {
        forward_lane *lane = &w->lane[i];
        for (uint32_t s = 0; lane->seq && s < w->n_pass; s++) kv_seq_destroy(&lane->seq[s]);
        kv_pool_destroy(&lane->pool);
        graph_destroy(&lane->g);
    }
    arena_fini(&w->mem);
}

void forward_until(forward *w, graph_edge last) {
    for (size_t i = 0; i < w->n_lanes; i++) graph_between(w->lane[i].g, w->from, last);
}

size_t forward_passes(const forward *w, uint32_t n_seq) { return div_up(n_seq, w->n_pass); }

typedef struct layer_job {
    forward *w;
    int layer;
    const layer_weights *lw;
    uint32_t n_seq, len;
    size_t first_pass;
    float *const *x;
    forward_pass_fn before;
    void *user;
    snug_err *rc; /* per pass */
    snug_error *err;
} layer_job;

static void run_passes(void *user, size_t begin, size_t end, int worker) {
    layer_job *j = user;
    forward *w = j->w;
    forward_lane *lane = &w->lane[worker];
    size_t d = w->f->src->cfg.n_embd, per_x = forward_passes(w, j->n_seq);
    for (size_t pass = j->first_pass + begin; pass < j->first_pass + end; pass++) {
        uint32_t s0 = (uint32_t)(pass % per_x) * w->n_pass, n = j->n_seq - s0 < w->n_pass ? j->n_seq - s0 : w->n_pass;
        snug_error *err = w->by_pass ? NULL : j->err;
        float *x = j->x[pass / per_x] + (size_t)s0 * j->len * d;
        snug_err rc = SNUG_OK;
        states_want(w->f, x, 2 * (size_t)n * j->len * d); /* and the next pass */
        for (uint32_t s = 0; s < n && rc == SNUG_OK; s++) {
            rc = kv_reserve(lane->seq[s], j->len, err);
            for (uint32_t p = 0; p < j->len; p++) lane->item[s * j->len + p] = (graph_item){.pos = p, .kv = lane->seq[s]};
        }
        if (j->before) j->before(j->user, lane->g, pass);
        if (rc == SNUG_OK) rc = graph_layer(lane->g, j->layer, 0, j->lw, lane->item, (size_t)n * j->len, x, err);
        states_drop(w->f, x, (size_t)n * j->len * d);
        for (uint32_t s = 0; s < n; s++) (void)kv_truncate(lane->seq[s], 0, NULL);
        j->rc[pass] = rc;
    }
}

snug_err forward_layer(forward *w, int layer, const layer_weights *lw, uint32_t n_seq, uint32_t len, float *const *x, size_t n_x,
                       forward_pass_fn before, void *user, snug_error *err) {
    const size_t n = n_x * forward_passes(w, n_seq), seq_bytes = len * w->f->src->cfg.n_embd * sizeof **x;
    size_t begin = 0, end = n;
    layer_job j = {.w = w, .layer = layer, .lw = lw, .n_seq = n_seq, .len = len, .x = x, .before = before, .user = user, .err = err};
    j.rc = calloc(n, sizeof *j.rc);
    if (!j.rc) return err_nomem(err, n * sizeof *j.rc);
    if (!w->alone) cluster_share(n, &begin, &end);
    j.first_pass = begin;
    if (w->by_pass) thread_for(w->f->threads, end - begin, 1, run_passes, &j);
    else run_passes(&j, 0, end - begin, 0);
    snug_err rc = SNUG_OK;
    for (size_t i = 0; i < n && rc == SNUG_OK; i++)
        if (j.rc[i] != SNUG_OK) rc = w->by_pass ? err_set(err, j.rc[i], "layer %d: %s", layer, snug_err_name(j.rc[i])) : j.rc[i];
    free(j.rc);
    if (rc == SNUG_OK && !w->alone && !w->discard) rc = cluster_gather(x[0], n, w->n_pass * seq_bytes, n_seq * seq_bytes, err);
    if (cluster_size() > 1) states_drop(w->f, x[0], n_seq * seq_bytes / sizeof **x);
    return rc;
}

weight weight_of_f32(const float *w, uint64_t rows, uint64_t cols) {
    weight out = {.rows = rows, .cols = cols, .n_terms = 1};
    out.term[0].wt = (wt){.codec = codec_by_ggml_type(GGML_F32), .rows = rows, .cols = cols, .data = (const uint8_t *)w, .bytes = rows * cols * 4};
    return out;
}

/* ---- disturbances ---- */

/* sigma * sqrt(3) * u, u uniform on [-1, 1): variance sigma^2. Four values of 16 bits per draw. */
static void add_noise(const fit_job *f, const perturb *p, uint64_t row, size_t cols, const float *w, float *out) {
    rng r;
    rng_seed(&r, f->p->seed ^ p->stream, row);
    float step = p->sigma * 1.7320508f / 32768.0f;
    for (size_t j = 0; j < cols; j += 4) {
        uint64_t bits = rng_next(&r);
        for (size_t k = j; k < j + 4 && k < cols; k++, bits >>= 16) out[k] = w[k] + step * ((float)(int16_t)(uint16_t)bits + 0.5f);
    }
}

snug_err perturb_rows(const fit_job *f, const perturb *p, uint64_t row0, size_t n, const float *w, float *out, snug_error *err) {
    size_t cols = p->t->t->cols;
    if (p->noise) {
        for (size_t i = 0; i < n; i++) add_noise(f, p, row0 + i, cols, w + i * cols, out + i * cols);
        return SNUG_OK;
    }
    uint64_t bytes = p->term.codec->bytes(p->term.params, n, cols);
    uint8_t *payload = malloc(bytes ? bytes : 1);
    if (!payload) return err_nomem(err, bytes);
    snug_err rc = solve_rtn(p->term.codec, p->term.params, w, cols, n, cols, p->t->importance, f->p->effort, payload, out, err);
    free(payload);
    return rc;
}

typedef struct disturb_job {
    const fit_job *f;
    const perturb *p;
    const weight *w;
    float *out;
    size_t grain;
    double *err2, *norm2; /* per panel */
    snug_err *rc;
} disturb_job;

static void disturb_panel(void *user, size_t begin, size_t end, int worker) {
    disturb_job *j = user;
    size_t panel = begin / j->grain, cols = j->w->cols, n = end - begin;
    float *out = j->out + begin * cols, *clean = j->p ? malloc(n * cols * sizeof *clean) : out;
    if (!clean) {
        j->rc[panel] = SNUG_ERR_NOMEM;
        return;
    }
    weight_decode(j->w, begin, n, clean, cols);
    if (!j->p) return;
    j->rc[panel] = perturb_rows(j->f, j->p, begin, n, clean, out, NULL);
    const float *a = j->p->t->importance;
    double err2 = 0, norm2 = 0;
    for (size_t r = 0; r < n && j->rc[panel] == SNUG_OK; r++)
        for (size_t c = 0; c < cols; c++) {
            double w = clean[r * cols + c], d = out[r * cols + c] - w, ac = a ? a[c] : 1;
            err2 += ac * d * d;
            norm2 += ac * w * w;
        }
    j->err2[panel] = err2;
    j->norm2[panel] = norm2;
    free(clean);
}

snug_err perturb_weight(const fit_job *f, const perturb *p, const weight *w, float *out, double *error, snug_error *err) {
    size_t grain = max_u64(1, PANEL_WEIGHTS / w->cols), n = div_up(w->rows, grain);
    disturb_job j = {.f = f, .p = p, .w = w, .out = out, .grain = grain};
    j.err2 = calloc(n, sizeof *j.err2);
    j.norm2 = calloc(n, sizeof *j.norm2);
    j.rc = calloc(n, sizeof *j.rc);
    snug_err rc = j.err2 && j.norm2 && j.rc ? SNUG_OK : err_nomem(err, n * 24);
    double err2 = 0, norm2 = 0;
    if (rc == SNUG_OK) thread_for(f->threads, w->rows, grain, disturb_panel, &j);
    for (size_t i = 0; i < n && rc == SNUG_OK; i++) {
        if (j.rc[i] != SNUG_OK) rc = err_set(err, j.rc[i], "%s: disturbing it: %s", p->t->t->name, snug_err_name(j.rc[i]));
        err2 += j.err2[i];
        norm2 += j.norm2[i];
    }
    if (error) *error = norm2 > 0 ? err2 / norm2 : 0;
    free(j.err2);
    free(j.norm2);
    free(j.rc);
    return rc;
}

/* ---- embedding ---- */

snug_err embed_finish(const fit_job *f, size_t i, size_t len, float *x, snug_error *err) {
    const store_tensor *t = f->src->cfg.arch->learned_positions ? store_find(f->src, ROLE_POSITIONS, -1) : NULL;
    float *position = NULL;
    snug_err rc = SNUG_OK;
    if (t && i % len >= t->rows) return err_set(err, SNUG_ERR_ARG, "%s: has learned %llu positions, and texts of %zu tokens were asked for", f->src->path, (unsigned long long)t->rows, len);
    if (t && !(position = malloc(t->cols * sizeof *position))) return err_nomem(err, t->cols * sizeof *position);
    if (t) rc = source_rows(f, t, i % len, 1, position, err);
    if (rc == SNUG_OK) embd_finish(&f->src->cfg, position, x);
    free(position);
    return rc;
}

snug_err embed_tokens(const fit_job *f, const int32_t *ids, size_t n, size_t len, const perturb *p, float *x, snug_error *err) {
    const store_tensor *t = store_find(f->src, ROLE_EMBD, -1);
    size_t d = t->cols;
    float *row = malloc(d * sizeof *row);
    snug_err rc = row ? SNUG_OK : err_nomem(err, d * sizeof *row);
    for (size_t i = 0; i < n && rc == SNUG_OK; i++) {
        if (ids[i] < 0 || (uint64_t)ids[i] >= t->rows) rc = err_set(err, SNUG_ERR_FORMAT, "token %d is outside of the embedding's %llu rows", ids[i], (unsigned long long)t->rows);
        if (rc == SNUG_OK) rc = source_rows(f, t, (uint64_t)ids[i], 1, p ? row : x + i * d, err);
        if (rc == SNUG_OK && p) rc = perturb_rows(f, p, (uint64_t)ids[i], 1, row, x + i * d, err);
        if (rc == SNUG_OK) rc = embed_finish(f, i, len, x + i * d, err);
        if (i % EMBED_STEP == EMBED_STEP - 1 || i + 1 == n) states_drop(f, x + i / EMBED_STEP * EMBED_STEP * d, EMBED_STEP * d);
    }
    free(row);
    return rc;
}
