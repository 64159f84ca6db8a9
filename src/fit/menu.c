/* Menus: for every tensor its candidates, each with exact bytes and a predicted loss.
 *
 * Relative errors are not looked up: rows of the very weight are encoded with every candidate, with the importances that the
 * encoder will get, and sum a (w - w_hat)^2 / sum a w^2 is measured. Small tensors are measured whole; of large ones a fixed
 * number of weights is, in rows spread evenly over the matrix. The loss follows from the weight's sensitivity (measure.c).
 *
 * A candidate's bytes are its data, padded, and for terms after the first their tensor info and record. What every tensor has
 * once (info and record of its first term) is overhead that no choice changes, but for one byte. */
#include "fit/fit.h"

#include "base/checked.h"
#include "base/cluster.h"
#include "base/err.h"
#include "base/thread.h"
#include "codec/transform.h"
#include "solve/solve.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 32, TERM_INFO = 32 + 2, TERM_RECORD = 1 + 8 + 8 + 4, MAX_CANDS = 160, PANEL_WEIGHTS = 8192 };

uint64_t menu_bytes(const comp *c, const char *tensor, uint64_t rows, uint64_t cols) {
    uint64_t sum = 0;
    for (uint32_t k = 0; k < c->n_terms; k++) {
        uint64_t bytes = comp_term_bytes(c, k, rows, cols);
        if (bytes == 0 || bytes > (uint64_t)1 << 60) return 0;
        sum += round_up(bytes, ALIGN);
        if (k) sum += TERM_INFO + TERM_RECORD + strlen(tensor);
    }
    return sum;
}

comp menu_source_comp(const store_tensor *t) {
    comp c = {.n_terms = t->n_terms};
    for (uint32_t k = 0; k < t->n_terms; k++) c.term[k] = (comp_term){t->term[k].codec, t->term[k].params};
    return c;
}

static bool is_float(const comp *c) {
    if (c->n_terms != 1) return false;
    int type = c->term[0].codec->ggml_type;
    return type == GGML_F32 || type == GGML_F16 || type == GGML_BF16;
}

bool menu_is_copy(const fit_job *f, const store_tensor *t, const comp *c) {
    comp src = menu_source_comp(t);
    if (source_is_changed(f, t) || t->permute_heads || t->n_terms == 0 || !comp_equal(&src, c)) return false;
    for (uint32_t k = 0; k < t->n_terms; k++)
        if (t->term[k].scales.at || t->term[k].row0 || t->term[k].col0 || t->term[k].rows != t->rows || t->term[k].cols != t->cols) return false;
    return true;
}

double menu_loss(const fit_tensor *t, double error) {
    if (error <= 0) return 0;
    if (t->n_points == 0) return t->alpha * error;
    const fit_point *p = t->point;
    size_t last = t->n_points - 1;
    if (error <= p[0].error) return p[0].kl * error / p[0].error; /* small errors: linear, as the theorem says */
    if (error >= p[last].error) return p[last].kl * error / p[last].error;
    size_t i = 1;
    while (error > p[i].error) i++;
    double x = log(error / p[i - 1].error) / log(p[i].error / p[i - 1].error); /* a power law between two measurements */
    return exp((1 - x) * log(p[i - 1].kl) + x * log(p[i].kl));
}

/* ---- what shares a menu ---- */

/* The largest mixtures have tens of thousands of matrices, each of whose menus takes 60 ms, and where no input is looked at (quick, without
 * calibration) nothing is known of an expert but its weights, whose errors hardly differ from one expert of a layer to the next (bench/RESULTS.md).
 * So where there are many a layer's of one role are measured together, on rows of them all, and have one menu; the plan still chooses for each. */
enum { MEASURED_APART = 2048 /* experts' matrices: two minutes */ };

static size_t index_of(const fit_job *f, const store_tensor *t) { return (size_t)(t - f->src->tensors); }
static const store_tensor *expert_of(const fit_job *f, const store_tensor *like, int expert) { return store_expert(f->src, like->role, like->layer, expert); }

/* As the source has them, and pinned, alike? Of sums of terms a candidate's bytes depend on the tensor's name. */
static bool alike(const fit_job *f, const fit_tensor *a, const fit_tensor *b) {
    const comp ca = menu_source_comp(a->t), cb = menu_source_comp(b->t);
    if (ca.n_terms != 1 || !comp_equal(&ca, &cb) || menu_is_copy(f, a->t, &ca) != menu_is_copy(f, b->t, &cb)) return false;
    return a->pin == b->pin && (a->pin < 0 || (a->pinned.n_terms == 1 && comp_equal(&a->pinned, &b->pinned)));
}

/* The tensor whose menu tensor i shares: that of the expert before it, or its own. */
static size_t find_twin(const fit_job *f, size_t i) {
    const fit_tensor *t = &f->tensor[i];
    const config *c = &f->src->cfg;
    const bool known = f->p->effort != SNUG_EFFORT_QUICK || !f->calib.none || f->imatrix;
    if (known || t->t->expert <= 0 || (uint64_t)c->n_layers * c->n_experts * EXPERT_MATRICES <= MEASURED_APART) return i;
    const fit_tensor *before = &f->tensor[index_of(f, expert_of(f, t->t, t->t->expert - 1))];
    return alike(f, before, t) ? before->twin : i;
}

/* ---- which candidates there are ---- */

static bool wanted(const fit_job *f, const store_tensor *t, const comp *c, uint64_t exact_bytes) {
    const snug_codec *codec = c->term[0].codec;
    if (codec->caps & CODEC_WHOLE || (codec->caps & CODEC_SLOW && !f->feedback)) return false;
    if (codec->caps & CODEC_SLOW && t->role == ROLE_KV_B) return false; /* it is decoded whenever it is read (graph_latent.c), and a small part of any model */
    if (codec->caps & CODEC_GROWS && !(f->p->ram_bytes && (f->p->size_bytes || f->p->bpw > 0 || f->p->ratio > 0))) return false;
    if (f->p->target == SNUG_FOR_GGUF && !artifact_is_native(c, t->cols)) return false;
    comp src = menu_source_comp(t);
    if (comp_equal(&src, c)) return menu_is_copy(f, t, c) || is_float(c);
    if (codec->caps & CODEC_READ_ONLY) return false;
    /* bf16 has f32's range: narrowing it to f16 can overflow, so nobody gets that unasked. */
    if (is_float(&src) && codec->ggml_type == GGML_F16 && src.term[0].codec->ggml_type == GGML_BF16) return false;
    uint64_t bytes = menu_bytes(c, t->name, t->rows, t->cols);
    return bytes && (exact_bytes == 0 || bytes < exact_bytes);
}

static snug_err add_candidate(cand *list, size_t *n, const comp *c, const store_tensor *t, snug_error *err) {
    if (*n == MAX_CANDS) return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: more than %d candidates", t->name, MAX_CANDS);
    list[(*n)++] = (cand){.comp = *c, .bytes = menu_bytes(c, t->name, t->rows, t->cols)};
    return SNUG_OK;
}

/* With feedback the steps of int and ternary codes gain from columns that are spread over blocks, 5 to 14 % of the divergence; without it
 * 2 bits do and 3 lose. Above 6 bits it is not worth the trials. */
static bool turns(const fit_job *f, const snug_codec *codec, codec_params p) { return f->feedback && codec->caps & CODEC_TURNS && p.bits <= 6; }

static snug_err list_candidates(const fit_job *f, const store_tensor *t, cand *list, size_t *n, snug_error *err) {
    comp src = menu_source_comp(t);
    bool exact = (is_float(&src) || menu_is_copy(f, t, &src)) && (f->p->target != SNUG_FOR_GGUF || artifact_is_native(&src, t->cols));
    uint64_t exact_bytes = exact ? menu_bytes(&src, t->name, t->rows, t->cols) : 0;
    *n = 0;
    if (exact && src.n_terms > 1) { /* the registry lists single terms only */
        snug_err rc = add_candidate(list, n, &src, t, err);
        if (rc != SNUG_OK) return rc;
    }
    for (size_t i = 0; i < codec_count(); i++) {
        const snug_codec *codec = codec_at(i);
        codec_params params;
        for (uint32_t k = 0; codec->menu && codec->menu(k, &params); k++)
            for (uint16_t in = 0; in < TRANSFORM_COUNT; in++) {
                comp c = {.n_terms = 1, .term = {{codec, params}}};
                c.term[0].params.in = in;
                if ((in && !turns(f, codec, params)) || !wanted(f, t, &c, exact_bytes)) continue;
                snug_err rc = add_candidate(list, n, &c, t, err);
                if (rc != SNUG_OK) return rc;
            }
    }
    return *n ? SNUG_OK : err_set(err, SNUG_ERR_UNSUPPORTED, "%s: no codec takes its %llu columns", t->name, (unsigned long long)t->cols);
}

/* Why a GGUF cannot have what it otherwise would: the first native type that does not divide the columns. */
static const char *fallback_note(fit_job *f, const store_tensor *t) {
    if (f->p->target != SNUG_FOR_GGUF || t->cols % 256 == 0) return "";
    const char *note = arena_printf(&f->mem, "falls back from %s: %llu columns", t->cols % 32 ? "q8_0 and below" : "q4_k and its kind",
                                    (unsigned long long)t->cols);
    return note ? note : "";
}

/* ---- their errors ---- */

typedef struct score { double err2, norm2, seconds, weights; snug_err rc; } score;

typedef struct trial { /* one tensor's measurement: panels x candidates */
    const fit_job *f;
    const fit_tensor *t;
    const float *w; /* (n_rows, cols) */
    size_t n_rows, cols, panel_rows, n_cand, first;
    const cand *cand;
    int effort;
    score *score; /* (panels, candidates) */
} trial;

/* Slow codecs are tried on the first panel alone: their errors hardly differ from one row to the next. Those in quarters of a bit at every half, and
 * the others lie between. What is only read is a copy of the source. */
static bool lies_between(const cand *list, size_t n, size_t k, size_t *low, size_t *high) {
    const comp_term *own = &list[k].comp.term[0];
    *low = *high = n;
    if (!(own->codec->caps & CODEC_QUARTERS) || own->params.rank % 2 == 0) return false;
    for (size_t i = 0; i < n; i++) {
        const comp_term *t = &list[i].comp.term[0];
        if (list[i].comp.n_terms != 1 || t->codec != own->codec || t->params.in != own->params.in) continue;
        if (t->params.rank + 1 == own->params.rank) *low = i;
        if (t->params.rank == own->params.rank + 1) *high = i;
    }
    return *low < n && *high < n;
}
static bool measured(const cand *list, size_t n, size_t k, size_t panel) {
    size_t low, high;
    const uint32_t caps = list[k].comp.term[0].codec->caps;
    return !(caps & CODEC_READ_ONLY) && !(caps & CODEC_SLOW && panel) && !lies_between(list, n, k, &low, &high);
}

static double norm2(const float *w, size_t n_rows, size_t cols, const float *a) {
    double sum = 0;
    for (size_t i = 0; i < n_rows * cols; i++) sum += (double)a[i % cols] * w[i] * w[i];
    return sum;
}

static void measure_panels(void *user, size_t begin, size_t end, int worker) {
    trial *t = user;
    for (size_t i = t->first + begin; i < t->first + end; i++) {
        const cand *c = &t->cand[i % t->n_cand];
        score *s = &t->score[i];
        if (!measured(t->cand, t->n_cand, i % t->n_cand, i / t->n_cand)) continue;
        size_t row = i / t->n_cand * t->panel_rows, n = t->n_rows - row < t->panel_rows ? t->n_rows - row : t->panel_rows;
        double began = clock_seconds();
        const float *w = t->w + row * t->cols;
        s->rc = solve_error(&c->comp, w, t->cols, n, t->cols, unexplained_in(t->t, solve_basis(&c->comp)), t->effort, &s->err2, &s->norm2, NULL);
        if (t->t->importance) s->norm2 = norm2(w, n, t->cols, t->t->importance);
        s->seconds = clock_seconds() - began;
        s->weights = (double)n * (double)t->cols;
    }
}

size_t menu_sample_weights(const fit_job *f) {
    switch (f->p->effort) {
    case SNUG_EFFORT_QUICK: return 32768;
    case SNUG_EFFORT_MAX: return 1u << 20;
    default: return 65536;
    }
}

static snug_err check_finite(const char *name, const float *w, size_t n, snug_error *err) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(w[i])) return err_set(err, SNUG_ERR_NUMERIC, "%s: holds a weight that is not a finite number", name);
    return SNUG_OK;
}

/* How many tensors share tensor i's menu, whose first it is. */
static size_t n_twins(const fit_job *f, size_t i) {
    const store_tensor *t = f->tensor[i].t;
    size_t n = 1;
    for (int e = t->expert + 1; t->expert >= 0 && e < (int)f->src->cfg.n_experts; e++) n += f->tensor[index_of(f, expert_of(f, t, e))].twin == i;
    return n;
}

/* Reads the sampled rows of a tensor and its twins, as if they stood one below the other: all, or n evenly spread ones (one from each n-th part, at
 * its middle). */
static snug_err read_sample(const fit_job *f, size_t first, size_t n_shared, size_t n, float *w, snug_error *err) {
    const store_tensor *t = f->tensor[first].t;
    const uint64_t all = t->rows * n_shared;
    snug_err rc = SNUG_OK;
    if (n == t->rows && n_shared == 1) {
        rc = source_rows(f, t, 0, n, w, err);
        return rc == SNUG_OK ? check_finite(t->name, w, n * t->cols, err) : rc;
    }
    uint64_t passed = 0; /* rows of the twins before t */
    for (size_t i = 0; i < n && rc == SNUG_OK; i++) {
        const uint64_t row = (uint64_t)(((double)i + 0.5) * (double)all / (double)n);
        for (; row >= passed + t->rows; passed += t->rows) {
            do t = expert_of(f, t, t->expert + 1);
            while (f->tensor[index_of(f, t)].twin != first);
        }
        rc = source_rows(f, t, row - passed, 1, w + i * t->cols, err);
        if (rc == SNUG_OK) rc = check_finite(t->name, w + i * t->cols, t->cols, err);
    }
    return rc;
}

/* Fills rel_error of all candidates, in the order of the list. The trials are shared by processes. */
static snug_err measure_errors(fit_job *f, fit_tensor *t, cand *list, size_t n, snug_error *err) {
    const store_tensor *s = t->t;
    const size_t first = (size_t)(t - f->tensor), n_shared = n_twins(f, first);
    uint64_t rows = min_u64(s->rows * n_shared, max_u64(1, div_up(menu_sample_weights(f), s->cols)));
    trial m = {.f = f, .t = t, .n_rows = rows, .cols = s->cols, .cand = list,
               .effort = f->p->effort, .panel_rows = max_u64(KERN_PANEL_ROWS, PANEL_WEIGHTS / s->cols), .n_cand = n};
    const size_t tasks = n * div_up(rows, m.panel_rows);
    size_t end;
    float *w = malloc(rows * s->cols * sizeof *w);
    m.w = w;
    m.score = calloc(tasks, sizeof *m.score);
    snug_err rc = w && m.score ? SNUG_OK : err_nomem(err, rows * s->cols * sizeof *w);
    if (rc == SNUG_OK) rc = read_sample(f, first, n_shared, rows, w, err);
    cluster_share(tasks, &m.first, &end);
    if (rc == SNUG_OK) thread_for(f->threads, end - m.first, 1, measure_panels, &m);
    if (rc == SNUG_OK) rc = cluster_gather(m.score, tasks, sizeof *m.score, tasks * sizeof *m.score, err);
    for (size_t i = 0; i < tasks && rc == SNUG_OK; i++)
        if (m.score[i].rc == SNUG_ERR_NUMERIC) m.score[i].err2 = INFINITY; /* its range is too small for these weights */
        else if (m.score[i].rc != SNUG_OK) rc = err_set(err, m.score[i].rc, "%s: measuring its candidates: %s", s->name, snug_err_name(m.score[i].rc));
    for (size_t k = 0; k < n && rc == SNUG_OK; k++) {
        double err2 = 0, norm2 = 0, seconds = 0, weights = 0;
        for (size_t i = k; i < tasks; i += n) {
            seconds += m.score[i].seconds;
            weights += m.score[i].weights;
            err2 += m.score[i].err2;
            norm2 += m.score[i].norm2;
        }
        const bool unseen = n > 1 && list[k].comp.term[0].codec->caps & CODEC_SLOW; /* zeros in the only panel that it was tried on say nothing */
        list[k].rel_error = norm2 > 0 ? err2 / norm2 : unseen ? INFINITY : 0;
        list[k].encode_s = weights > 0 ? seconds / weights : 0;
    }
    for (size_t k = 0, low, high; k < n && rc == SNUG_OK; k++) {
        if (!lies_between(list, n, k, &low, &high)) continue;
        list[k].rel_error = sqrt(list[low].rel_error * list[high].rel_error);
        list[k].encode_s = list[low].encode_s;
    }
    for (size_t k = 0; k < n && rc == SNUG_OK; k++) {
        if (menu_is_copy(f, s, &list[k].comp)) list[k].rel_error = 0;
        else if (t->unexplained) list[k].rel_error *= probe_ratio(t, &list[k].comp, list[k].rel_error);
    }
    free(w);
    free(m.score);
    return rc;
}

/* ---- one tensor ---- */

snug_err menu_single(fit_job *f, size_t i, const comp *c, double rel_error, const char *note, snug_error *err) {
    fit_tensor *t = &f->tensor[i];
    uint64_t bytes = menu_bytes(c, t->t->name, t->t->rows, t->t->cols);
    char name[COMP_NAME_MAX];
    comp_format(c, name);
    if (bytes == 0) return err_set(err, SNUG_ERR_ARG, "%s: %s does not take %llu x %llu weights", t->t->name, name,
                                   (unsigned long long)t->t->rows, (unsigned long long)t->t->cols);
    cand *one = arena_calloc(&f->mem, 1, sizeof *one);
    if (!one) return err_nomem(err, sizeof *one);
    *one = (cand){.comp = *c, .bytes = bytes, .rel_error = rel_error, .loss = menu_loss(t, rel_error)};
    t->menu = (menu){.tensor = t->t->name, .rows = t->t->rows, .cols = t->t->cols, .sensitivity = t->alpha, .n = 1, .cand = one, .note = note};
    t->choice = 0;
    return SNUG_OK;
}

/* Vectors are kept exactly: in the source's own float type, and for other GGUF readers in f32, which they require. */
snug_err menu_vector(fit_job *f, size_t i, snug_error *err) {
    comp c = {.n_terms = 1};
    comp src = menu_source_comp(f->tensor[i].t);
    if (f->p->target != SNUG_FOR_GGUF && is_float(&src)) c = src;
    else c.term[0].codec = codec_by_ggml_type(GGML_F32);
    return menu_single(f, i, &c, 0, "", err);
}

/* The candidates with their bytes alone. */
static snug_err list_matrix(fit_job *f, size_t i, snug_error *err) {
    fit_tensor *t = &f->tensor[i];
    cand list[MAX_CANDS];
    size_t n = 0;
    snug_err rc = SNUG_OK;
    if (t->pin >= 0) list[n++] = (cand){.comp = t->pinned, .bytes = menu_bytes(&t->pinned, t->t->name, t->t->rows, t->t->cols)};
    else rc = list_candidates(f, t->t, list, &n, err);
    if (rc != SNUG_OK) return rc;
    cand *own = arena_calloc(&f->mem, n, sizeof *own);
    if (!own) return err_nomem(err, n * sizeof *own);
    memcpy(own, list, n * sizeof *own);
    const char *note = t->pin >= 0 ? t->menu.note : fallback_note(f, t->t);
    t->menu = (menu){.tensor = t->t->name, .rows = t->t->rows, .cols = t->t->cols, .n = n, .cand = own, .note = note};
    return SNUG_OK;
}

/* Tensor i's menu is that of its twin. */
static void take_menu(fit_job *f, size_t i) {
    fit_tensor *t = &f->tensor[i];
    const char *note = t->pin >= 0 ? t->menu.note : NULL; /* its pin's */
    t->menu = f->tensor[t->twin].menu;
    t->menu.tensor = t->t->name;
    if (note) t->menu.note = note;
}

snug_err menu_list(fit_job *f, snug_error *err) {
    for (size_t i = 0; i < f->n; i++) {
        snug_err rc = SNUG_OK;
        f->tensor[i].twin = find_twin(f, i);
        if (!f->tensor[i].matrix) rc = menu_vector(f, i, err);
        else if (f->tensor[i].twin == i) rc = list_matrix(f, i, err);
        else take_menu(f, i);
        if (rc != SNUG_OK) return rc;
    }
    return SNUG_OK;
}

bool menu_is_measured(const fit_job *f, size_t i) { return f->tensor[i].matrix && f->tensor[i].twin == i; }

/* Measures a listed menu and predicts its losses. What this tensor's values cannot be stored in is dropped. */
static snug_err measure_matrix(fit_job *f, size_t i, snug_error *err) {
    fit_tensor *t = &f->tensor[i];
    menu *m = &t->menu;
    double errors[MAX_CANDS];
    snug_err rc = SNUG_OK;
    const json_t *known = journal_find(f->journal, "menu", (int64_t)i);
    if (known && journal_get_doubles(known, errors, m->n)) {
        for (size_t k = 0; k < m->n; k++) m->cand[k].rel_error = errors[k];
    } else {
        rc = measure_errors(f, t, m->cand, m->n, err);
        for (size_t k = 0; k < m->n; k++) errors[k] = m->cand[k].rel_error;
        if (rc == SNUG_OK) rc = journal_put(f->journal, "menu", (int64_t)i, journal_doubles(errors, m->n), err);
    }
    if (rc != SNUG_OK) return rc;
    size_t kept = 0;
    for (size_t k = 0; k < m->n; k++) {
        if (!isfinite(m->cand[k].rel_error)) continue;
        m->cand[kept] = m->cand[k];
        m->cand[kept].loss = menu_loss(t, m->cand[kept].rel_error);
        kept++;
    }
    m->n = kept;
    m->sensitivity = t->alpha;
    return kept ? SNUG_OK : err_set(err, SNUG_ERR_NUMERIC, "%s: no codec can hold its values", t->t->name);
}

snug_err menu_measure(fit_job *f, snug_error *err) {
    snug_err rc = SNUG_OK;
    uint64_t done = 0;
    meter_begin(&f->meter, f->stage_menu);
    for (size_t i = 0; i < f->n && rc == SNUG_OK; i++) {
        rc = meter_update(&f->meter, done, f->tensor[i].t->name, err);
        if (rc == SNUG_OK && menu_is_measured(f, i)) rc = measure_matrix(f, i, err);
        if (rc == SNUG_OK && f->tensor[i].twin < i) take_menu(f, i);
        done += menu_is_measured(f, i);
    }
    return rc == SNUG_OK ? meter_update(&f->meter, done, NULL, err) : rc;
}
