/* Text for calibration without data: sampled from the model itself, temperature 1 unless told, fixed seed (as in "LLM-QAT" and later data-free
 * methods). Sequences grow in lockstep, GROUP at a time, from the model's first token (BOS), its end of text or a random token.
 *
 * Small models run as they are. Of a large one a 6-bit (very large: 4-bit) encoding is made and held in memory for the purpose;
 * what it samples is close to what the model would, and calibration asks for no more. Several processes grow groups side by side. */
#include "fit/fit.h"

#include "base/checked.h"
#include "base/cluster.h"
#include "base/err.h"
#include "base/rng.h"
#include "base/thread.h"
#include "solve/solve.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GROUP = 16, PANEL_WEIGHTS = 16384 };
static const uint64_t FOUR_BITS_FROM_WEIGHTS = 3000000000u;

/* What one group needs while it grows. */
typedef struct lane {
    graph *g;
    kv_pool *pool;
    kv_seq *seq[GROUP];
    float *x, *logits;
} lane;

/* A large model's matrices keep all threads busy for one group; of a small one each thread grows a group of its own. */
typedef struct sampler {
    fit_job *f;
    arena mem;
    layer_weights outer, *layer;
    bool packed;
    uint64_t packed_weights; /* so far */
    size_t n_lanes;
    lane *lane;
    uint32_t begun;        /* the batch's first group: all before are there */
    uint32_t first_group;  /* this process' first of the batch */
    uint32_t done;         /* groups of this process' */
    snug_err *rc;          /* per group */
    snug_error *err;
} sampler;

/* ---- the model, in memory ---- */

typedef struct pack_job { const weight *w; comp_term term; uint8_t *dst; size_t grain; snug_err *rc; } pack_job;

static void pack_panel(void *user, size_t begin, size_t end, int worker) {
    pack_job *j = user;
    size_t cols = j->w->cols, n = end - begin;
    float *rows = malloc(n * cols * sizeof *rows);
    snug_err rc = rows ? SNUG_OK : SNUG_ERR_NOMEM;
    if (rows) {
        weight_decode(j->w, begin, n, rows, cols);
        rc = solve_rtn_to(WT_PANELS, j->term.codec, j->term.params, rows, cols, n, cols, NULL, SNUG_EFFORT_QUICK,
                          j->dst + (begin ? j->term.codec->bytes(j->term.params, begin, cols) : 0), NULL, NULL);
    }
    j->rc[begin / j->grain] = rc;
    free(rows);
}

static comp_term pack_codec(const fit_job *f) {
    comp_term t;
    codec_parse(f->src->n_weights > FOUR_BITS_FROM_WEIGHTS ? "int4g64" : "int6g64", &t.codec, &t.params);
    return t;
}

/* rows of `from` re-encoded into mem. */
static snug_err pack(sampler *s, const weight *from, const char *name, uint8_t *dst, snug_error *err) {
    comp_term t = pack_codec(s->f);
    size_t grain = round_up(max_u64(1, PANEL_WEIGHTS / from->cols), KERN_PANEL_ROWS), n = div_up(from->rows, grain);
    pack_job j = {.w = from, .term = t, .dst = dst, .grain = grain, .rc = calloc(n, sizeof *j.rc)};
    if (!j.rc) return err_nomem(err, n * sizeof *j.rc);
    thread_for(s->f->threads, from->rows, grain, pack_panel, &j);
    snug_err rc = SNUG_OK;
    for (size_t i = 0; i < n && rc == SNUG_OK; i++)
        if (j.rc[i] != SNUG_OK) rc = err_set(err, j.rc[i], "%s: encoding it for sampling: %s", name, snug_err_name(j.rc[i]));
    free(j.rc);
    s->packed_weights += from->rows * from->cols;
    return rc == SNUG_OK ? meter_update(&s->f->meter, s->packed_weights, name, err) : rc;
}

static snug_err open_packed(sampler *s, uint64_t rows, uint64_t cols, weight *out, uint8_t **dst, snug_error *err) {
    comp_term t = pack_codec(s->f);
    uint64_t bytes = t.codec->bytes(t.params, rows, cols);
    *dst = bytes ? arena_alloc(&s->mem, bytes) : NULL;
    if (!*dst) return err_nomem(err, bytes);
    *out = (weight){.rows = rows, .cols = cols, .n_terms = 1};
    snug_err rc = wt_open(t.codec, t.params, rows, cols, *dst, bytes, &out->term[0].wt, err);
    out->term[0].wt.layout = WT_PANELS;
    return rc;
}

static snug_err pack_matrix(sampler *s, const weight *from, const char *name, weight *to, snug_error *err) {
    uint8_t *dst;
    snug_err rc = open_packed(s, from->rows, from->cols, to, &dst, err);
    return rc == SNUG_OK ? pack(s, from, name, dst, err) : rc;
}

static snug_err pack_layer(sampler *s, int layer, snug_error *err) {
    arena mem = {0};
    layer_weights lw;
    layer_weights *to = &s->layer[layer];
    snug_err rc = layer_read(s->f->src, layer, &mem, &lw, err);
    const uint32_t n_experts = lw.experts ? s->f->src->cfg.n_experts : 0;
    if (rc == SNUG_OK && n_experts && !(to->experts = arena_calloc(&s->mem, n_experts, sizeof *to->experts))) rc = err_nomem(err, n_experts * sizeof *to->experts);
    for (int r = 0; r < ROLE_COUNT && rc == SNUG_OK; r++) {
        if (r < (int)ROLE_MATRICES && lw.w[r].n_terms) rc = pack_matrix(s, &lw.w[r], role_name((tensor_role)r), &to->w[r], err);
        const store_tensor *t = lw.vec[r] ? store_find(s->f->src, (tensor_role)r, layer) : NULL;
        if (!t || rc != SNUG_OK) continue;
        const size_t bytes = t->rows * t->cols * sizeof(float);
        float *copy = arena_alloc(&s->mem, bytes);
        if (!copy) rc = err_nomem(err, bytes);
        else memcpy(copy, lw.vec[r], bytes);
        to->vec[r] = copy;
    }
    for (uint32_t x = 0; x < n_experts * EXPERT_MATRICES && rc == SNUG_OK; x++) {
        const weight *from = &lw.experts[x / EXPERT_MATRICES].w[x % EXPERT_MATRICES];
        rc = pack_matrix(s, from, role_name((tensor_role)(ROLE_GATE + x % EXPERT_MATRICES)), &to->experts[x / EXPERT_MATRICES].w[x % EXPERT_MATRICES], err);
    }
    arena_fini(&mem);
    return rc;
}

/* Embedding and head: by windows of rows, they can be as large as several layers. */
static snug_err pack_outer(sampler *s, tensor_role role, snug_error *err) {
    const store_tensor *t = store_find(s->f->src, role, -1);
    if (!t || (role == ROLE_HEAD && s->f->src->cfg.tied)) return SNUG_OK;
    comp_term c = pack_codec(s->f);
    uint64_t window = round_up(max_u64(1, (1u << 20) / t->cols), KERN_PANEL_ROWS);
    float *rows = malloc(window * t->cols * sizeof *rows);
    uint8_t *dst;
    snug_err rc = rows ? open_packed(s, t->rows, t->cols, &s->outer.w[role], &dst, err) : err_nomem(err, window * t->cols * sizeof *rows);
    for (uint64_t r = 0; r < t->rows && rc == SNUG_OK; r += window) {
        uint64_t n = min_u64(window, t->rows - r);
        rc = store_read_rows(s->f->src, t, r, n, rows, err);
        weight w = {.rows = n, .cols = t->cols, .n_terms = 1};
        w.term[0].wt = (wt){.codec = codec_by_ggml_type(GGML_F32), .rows = n, .cols = t->cols, .data = (const uint8_t *)rows, .bytes = n * t->cols * 4};
        if (rc == SNUG_OK) rc = pack(s, &w, t->name, dst + (r ? c.codec->bytes(c.params, r, t->cols) : 0), err);
    }
    free(rows);
    return rc;
}

static snug_err load_model(sampler *s, bool packed, snug_error *err) {
    const store *src = s->f->src;
    snug_err rc = SNUG_OK;
    s->layer = arena_calloc(&s->mem, src->cfg.n_layers, sizeof *s->layer);
    if (!s->layer) return err_nomem(err, src->cfg.n_layers * sizeof *s->layer);
    if (!packed) rc = layer_read(src, -1, &s->mem, &s->outer, err);
    else {
        static const tensor_role vectors[] = {ROLE_OUT_NORM, ROLE_OUT_NORM_BIAS, ROLE_POSITIONS};
        for (int i = 0; i < 3 && rc == SNUG_OK; i++) {
            const store_tensor *t = store_find(src, vectors[i], -1);
            if (t) rc = store_read_vector(src, t, &s->mem, &s->outer.vec[vectors[i]], err);
        }
        if (rc == SNUG_OK) rc = pack_outer(s, ROLE_EMBD, err);
        if (rc == SNUG_OK) rc = pack_outer(s, ROLE_HEAD, err);
    }
    for (int l = 0; l < (int)src->cfg.n_layers && rc == SNUG_OK; l++) {
        rc = packed ? pack_layer(s, l, err) : layer_read(src, l, &s->mem, &s->layer[l], err);
    }
    return rc;
}

static snug_err open_lane(sampler *s, lane *l, const float *rope, snug_error *err) {
    const config *c = &s->f->src->cfg;
    uint32_t len = s->f->text.len;
    graph_params g = {.max_batch = GROUP, .n_ctx = len, .threads = s->packed ? s->f->threads : 1, .allow_q8 = s->packed};
    const kv_params kv = graph_kv(c, c->n_layers, len, GROUP, SNUG_KV_F16);
    snug_err rc = graph_create(c, &g, rope, &l->g, err);
    if (rc == SNUG_OK) rc = kv_pool_create(&kv, &l->pool, err);
    for (int i = 0; i < GROUP && rc == SNUG_OK; i++) rc = kv_seq_create(l->pool, &l->seq[i], err);
    l->x = arena_alloc(&s->mem, (size_t)GROUP * c->n_embd * sizeof *l->x);
    l->logits = arena_alloc(&s->mem, (size_t)GROUP * c->n_vocab * sizeof *l->logits);
    return rc == SNUG_OK && (!l->x || !l->logits) ? err_nomem(err, (size_t)GROUP * c->n_vocab * sizeof *l->logits) : rc;
}

static snug_err open_sampler(sampler *s, snug_error *err) {
    fit_job *f = s->f;
    s->packed = fit_is_large(f);
    if (s->packed) meter_begin(&f->meter, f->stage_load);
    s->n_lanes = s->packed ? 1 : (size_t)f->threads;
    const store_tensor *freqs = store_find(f->src, ROLE_ROPE_FREQS, -1);
    float *rope = freqs ? arena_alloc(&s->mem, freqs->cols * sizeof *rope) : NULL;
    snug_err rc = freqs && !rope ? err_nomem(err, freqs->cols * 4) : load_model(s, s->packed, err);
    if (rc == SNUG_OK && freqs) rc = store_read_rows(f->src, freqs, 0, 1, rope, err);
    s->lane = arena_calloc(&s->mem, s->n_lanes, sizeof *s->lane);
    if (rc == SNUG_OK && !s->lane) rc = err_nomem(err, s->n_lanes * sizeof *s->lane);
    for (size_t i = 0; i < s->n_lanes && rc == SNUG_OK; i++) rc = open_lane(s, &s->lane[i], rope, err);
    return rc;
}

static void close_sampler(sampler *s) {
    for (size_t i = 0; s->lane && i < s->n_lanes; i++) {
        lane *l = &s->lane[i];
        for (int k = 0; k < GROUP; k++) kv_seq_destroy(&l->seq[k]);
        kv_pool_destroy(&l->pool);
        graph_destroy(&l->g);
    }
    arena_fini(&s->mem);
}

/* ---- sampling ---- */

typedef struct pick_job { const float *logits; size_t n_vocab; double colder; rng *rng; int32_t *out; } pick_job; /* colder: 1 / temperature */

/* One token from softmax(logits / temperature), by inversion of the cumulative sum in double. -1: the logits hold no distribution. */
static void pick(void *user, size_t begin, size_t end, int worker) {
    pick_job *j = user;
    for (size_t i = begin; i < end; i++) {
        const float *l = j->logits + i * j->n_vocab;
        float max = -INFINITY;
        for (size_t v = 0; v < j->n_vocab; v++) max = l[v] > max ? l[v] : max;
        double sum = 0, at = 0;
        for (size_t v = 0; v < j->n_vocab; v++) sum += exp(j->colder * (double)(l[v] - max));
        double u = rng_uniform(&j->rng[i]) * sum;
        j->out[i] = -1;
        if (!(sum > 0) || !isfinite(sum)) continue;
        for (size_t v = 0; v < j->n_vocab; v++) {
            double p = exp(j->colder * (double)(l[v] - max));
            if (p > 0) j->out[i] = (int32_t)v; /* the last possible one, should rounding run past the end */
            at += p;
            if (at > u) break;
        }
    }
}

static int32_t first_token(const fit_job *f, rng *r) {
    int32_t bos = tokenizer_bos(f->tok), eos = tokenizer_eos(f->tok);
    if (bos >= 0 && (uint32_t)bos < f->src->cfg.n_vocab) return bos;
    if (eos >= 0 && (uint32_t)eos < f->src->cfg.n_vocab) return eos;
    return (int32_t)rng_below(r, f->src->cfg.n_vocab);
}

/* Runs the group's tokens at position pos; logits of all. */
static snug_err step(const sampler *s, lane *l, const int32_t *token, uint32_t pos, uint32_t n, snug_error *err) {
    const config *c = &s->f->src->cfg;
    graph_item item[GROUP];
    snug_err rc = SNUG_OK;
    for (uint32_t i = 0; i < n && rc == SNUG_OK; i++) {
        item[i] = (graph_item){token[i], pos, l->seq[i]};
        rc = kv_reserve(l->seq[i], 1, err);
    }
    if (rc == SNUG_OK) rc = graph_embed(l->g, &s->outer, item, n, l->x, err);
    for (uint32_t k = 0; k < c->n_layers && rc == SNUG_OK; k++) rc = graph_layer(l->g, (int)k, graph_kv_layer(c, k), &s->layer[k], item, n, l->x, err);
    if (rc == SNUG_OK) rc = graph_head(l->g, &s->outer, l->x, n, l->logits, err);
    for (uint32_t i = 0; i < n && rc == SNUG_OK; i++) kv_commit(l->seq[i], 1);
    return rc;
}

static uint32_t group_size(const fit_job *f, uint32_t group) {
    return f->text.n_self - group * GROUP < GROUP ? f->text.n_self - group * GROUP : GROUP;
}

/* Progress as far as the calling thread knows: its own group, and the groups that are whole; other processes are taken to be as far. */
static snug_err report(sampler *s, uint32_t in_group, snug_error *err) {
    uint64_t here = (uint64_t)__atomic_load_n(&s->done, __ATOMIC_RELAXED) * GROUP * s->f->text.len + in_group;
    uint64_t tokens = (uint64_t)s->begun * GROUP * s->f->text.len + here * (uint64_t)cluster_size();
    return meter_update(&s->f->meter, min_u64(tokens, (uint64_t)s->f->text.n_self * s->f->text.len), NULL, err);
}

static snug_err sample_group(sampler *s, lane *l, uint32_t group, bool reports, snug_error *err) {
    fit_job *f = s->f;
    uint32_t len = f->text.len, n = group_size(f, group);
    int32_t *ids = f->text.ids + (size_t)group * GROUP * len, token[GROUP], next[GROUP];
    rng r[GROUP];
    snug_err rc = SNUG_OK;
    for (uint32_t i = 0; i < n; i++) {
        rng_seed(&r[i], f->p->seed, 0x73656c66 + (uint64_t)group * GROUP + i);
        ids[(size_t)i * len] = token[i] = first_token(f, &r[i]);
        rc = kv_truncate(l->seq[i], 0, err);
    }
    for (uint32_t p = 0; p + 1 < len && rc == SNUG_OK; p++) {
        rc = step(s, l, token, p, n, err);
        pick_job j = {l->logits, f->src->cfg.n_vocab, 1 / f->calib.temperature, r, next};
        if (rc == SNUG_OK) thread_for(s->packed ? f->threads : 1, n, 1, pick, &j);
        for (uint32_t i = 0; i < n && rc == SNUG_OK; i++) {
            if (next[i] < 0) rc = err_set(err, SNUG_ERR_NUMERIC, "%s: its logits are not numbers; calibrate with --calib none or a text", f->src->path);
            ids[(size_t)i * len + p + 1] = token[i] = next[i];
        }
        if (rc == SNUG_OK && reports) rc = report(s, (p + 1) * n, err);
        if (rc == SNUG_OK && f->meter.cancelled) rc = SNUG_ERR_CANCELLED; /* set by the calling thread */
    }
    return rc;
}

static void sample_groups(void *user, size_t begin, size_t end, int worker) {
    sampler *s = user;
    for (size_t i = begin; i < end; i++) {
        bool first = worker == 0; /* the calling thread: errors and progress are its own */
        s->rc[i] = sample_group(s, &s->lane[worker], s->first_group + (uint32_t)i, first, first ? s->err : NULL);
        __atomic_add_fetch(&s->done, 1, __ATOMIC_RELAXED);
    }
}

/* ---- with the journal ---- */

static bool load_group(const fit_job *f, uint32_t group, uint32_t n) {
    const json_t *known = journal_find(f->journal, "sample", group);
    int32_t *ids = f->text.ids + (size_t)group * GROUP * f->text.len;
    if (json_array_size(known) != (size_t)n * f->text.len) return false;
    for (size_t i = 0; i < (size_t)n * f->text.len; i++) {
        json_int_t id = json_integer_value(json_array_get(known, i));
        if (id < 0 || id >= (json_int_t)f->src->cfg.n_vocab) return false;
        ids[i] = (int32_t)id;
    }
    return true;
}

static snug_err save_group(const fit_job *f, uint32_t group, uint32_t n, snug_error *err) {
    json_t *list = json_array();
    for (size_t i = 0; i < (size_t)n * f->text.len; i++) json_array_append_new(list, json_integer(f->text.ids[(size_t)group * GROUP * f->text.len + i]));
    return journal_put(f->journal, "sample", group, list, err);
}

/* Groups [first, first + n), at most one per lane at a time, so that each is in the journal soon. */
static snug_err sample_batch(sampler *s, uint32_t first, uint32_t n, snug_error *err) {
    snug_err rc = SNUG_OK;
    const fit_text *t = &s->f->text;
    const size_t seq_bytes = t->len * sizeof *t->ids, n_seq = min_u64((uint64_t)n * GROUP, t->n_self - first * GROUP);
    size_t begin, end;
    cluster_share(n, &begin, &end);
    s->begun = first;
    s->first_group = first + (uint32_t)begin;
    s->done = 0;
    s->err = err;
    s->rc = calloc(n, sizeof *s->rc);
    if (!s->rc) return err_nomem(err, n * sizeof *s->rc);
    if (s->n_lanes > 1) thread_for((int)s->n_lanes, end - begin, 1, sample_groups, s);
    else sample_groups(s, 0, end - begin, 0);
    for (uint32_t i = 0; i < end - begin && rc == SNUG_OK; i++) {
        rc = s->rc[i];
        if (rc != SNUG_OK && s->n_lanes > 1) rc = err_set(err, rc, "sampling calibration text: %s", snug_err_name(rc));
    }
    if (rc == SNUG_OK) rc = cluster_gather(t->ids + (size_t)first * GROUP * t->len, n, GROUP * seq_bytes, n_seq * seq_bytes, err);
    for (uint32_t i = first; i < first + n && rc == SNUG_OK; i++) rc = save_group(s->f, i, group_size(s->f, i), err);
    free(s->rc);
    return rc;
}

snug_err sample_text(fit_job *f, snug_error *err) {
    sampler s = {.f = f};
    uint32_t n_groups = (f->text.n_self + GROUP - 1) / GROUP, first = 0;
    while (first < n_groups && load_group(f, first, group_size(f, first))) first++;
    if (first == n_groups) return SNUG_OK;
    snug_err rc = open_sampler(&s, err);
    meter_begin(&f->meter, f->stage_sample);
    meter_skip(&f->meter, (uint64_t)first * GROUP * f->text.len);
    uint64_t batch = s.n_lanes * (uint64_t)cluster_size();
    if (rc == SNUG_OK) rc = cluster_broadcast(&batch, sizeof batch, err); /* processes may have different numbers of threads */
    while (first < n_groups && rc == SNUG_OK) {
        uint32_t n = (uint32_t)min_u64(n_groups - first, batch);
        rc = sample_batch(&s, first, n, err);
        first += n;
    }
    close_sampler(&s);
    return rc;
}
