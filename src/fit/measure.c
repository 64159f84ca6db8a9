/* Sensitivities, measured on the model itself: what the output makes of an error in one weight.
 *
 * For every matrix the weight is disturbed, everything else left alone, and the mean KL divergence between the clean output and
 * the disturbed one is taken on calibration tokens. Disturbances are noise at several levels (the linearity theorem's) and, where
 * the model is small enough to afford it, real encodings at a few rates, which show the curve at the large errors of 2 and 3 bits.
 *
 * Layer by layer: the variants of layer l start from the clean hidden states before it, and all of them go together through the
 * layers after it, each of which is read once per l. The last group is the embedding (and the head, which are one weight when
 * tied). Memory: one layer, one disturbed matrix as f32, and the hidden states of one group's variants. Several processes share a group's
 * variants. Each group's results are a record of the journal.
 *
 * A layer's experts are too many to be disturbed one by one, and an error in one of them is too small to see: those of one role are
 * disturbed together, and what that costs is shared among them by what each adds to the hidden states (expert_shares). */
#include "fit/forward.h"

#include "base/checked.h"
#include "base/cluster.h"
#include "base/err.h"
#include "base/hash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t ROOM_WEIGHTS = 64u << 20; /* disturbed at a time, as f32, unless one matrix has more */
enum { VARIANTS_AT_ONCE = 16, MAX_LEVELS = FIT_MAX_POINTS, MAX_VARIANTS = (ROLE_MATRICES + EXPERT_MATRICES) * MAX_LEVELS };

/* What is done to each matrix: noise of relative error t2, or a codec. */
typedef struct level { double t2; const char *codec; } level;
static const level small_levels[] = {{0, "int5g64"}, {0, "int4g64"}, {0, "int3g64"}, {0, "int2g64"}};
static const level large_levels[] = {{0.004, NULL}, {0.03, NULL}};

static const level *levels_of(const fit_job *f, size_t *n) {
    *n = f->small ? sizeof small_levels / sizeof *small_levels : sizeof large_levels / sizeof *large_levels;
    return f->small ? small_levels : large_levels;
}

static double weights_from(const fit_job *f, int layer) { /* matrix weights of layers >= layer */
    double sum = 0;
    for (size_t i = 0; i < f->n; i++)
        if (f->tensor[i].t->layer >= layer) sum += fit_macs(f, &f->tensor[i]);
    return sum;
}

static int group_of(const fit_job *f, const fit_tensor *t) { return t->t->layer >= 0 ? t->t->layer : (int)f->src->cfg.n_layers; }

/* The first expert's matrix stands for all experts'. */
static bool in_group(const fit_job *f, size_t i, int group) {
    const fit_tensor *t = &f->tensor[i];
    return t->matrix && t->t->expert <= 0 && group_of(f, t) == group && !(t->t->role == ROLE_HEAD && f->src->cfg.tied);
}

static double head_weights(const fit_job *f) { return (double)head_tensor(f)->rows * (double)head_tensor(f)->cols; }

/* Multiply-adds per token of a group: its variants, from their layer to the head. */
static double group_macs(const fit_job *f, int group) {
    size_t n_levels;
    double sum = 0;
    levels_of(f, &n_levels);
    for (size_t i = 0; i < f->n; i++) {
        if (!in_group(f, i, group)) continue;
        int layer = f->tensor[i].t->role == ROLE_HEAD ? group : f->tensor[i].t->layer < 0 ? 0 : group;
        sum += (double)n_levels * (weights_from(f, layer) + head_weights(f));
    }
    return sum;
}

double measure_prepare(fit_job *f, double scale, double *n_logits) {
    double per_token = 0;
    *n_logits = 0;
    if (!f->sensitivities) return 0;
    for (int pass = 0; pass < 2; pass++) {
        f->small = pass == 0;
        per_token = weights_from(f, 0); /* the clean pass */
        for (int g = 0; g <= (int)f->src->cfg.n_layers; g++) per_token += group_macs(f, g);
        if (per_token * 1024 <= 1.2e12) break; /* a small model affords the codecs and many tokens */
    }
    double tokens = fmin(fmax(scale * 15e12 / per_token, 64), scale * 1024);
    f->text.sens_len = f->text.len;
    while (tokens / f->text.sens_len < 4 && f->text.sens_len > 32) f->text.sens_len /= 2;
    f->text.sens_seq = (uint32_t)fmax(1, tokens / f->text.sens_len);
    if (f->text.sens_seq > f->text.n_seq) f->text.sens_seq = f->text.n_seq;
    double n_tokens = (double)f->text.sens_seq * f->text.sens_len;
    size_t n_levels, n_matrices = 0;
    levels_of(f, &n_levels);
    for (size_t i = 0; i < f->n; i++) n_matrices += f->tensor[i].matrix && f->tensor[i].t->expert <= 0;
    *n_logits = n_tokens * (double)(n_levels * n_matrices) * f->src->cfg.n_vocab;
    return per_token * n_tokens;
}

/* ---- variants ---- */

typedef struct variant {
    size_t tensor;    /* index in f->tensor; of an expert's: the first's */
    size_t level;
    perturb p;        /* of that tensor */
    float *x;         /* (n, n_embd); only this process' variants have one */
    double error, kl;
    double part;      /* of all experts that is disturbed; 1: all, or there are none */
} variant;

typedef struct sweep {
    fit_job *f;
    forward fwd;
    size_t n, d;          /* tokens, n_embd                     */
    float *clean;         /* (n_layers + 1, n, d): before each layer, and after the last */
    variant v[MAX_VARIANTS];
    size_t n_v;
    size_t own0, own1;    /* of v: those that this process takes */
    double macs;          /* done, for the meter                */
} sweep;

/* n_x hidden states went through `weights` weights; other processes are taken to be as far with their variants. */
static snug_err tick(sweep *s, size_t n_x, double weights, const char *detail, snug_error *err) {
    double share = s->own1 > s->own0 ? (double)s->n_v / (double)(s->own1 - s->own0) : 1;
    s->macs += share * (double)n_x * (double)s->n * weights;
    return meter_update(&s->f->meter, (uint64_t)(s->macs / MEASURE_UNIT), detail, err);
}

static double layer_of(const fit_job *f, int l) { return weights_from(f, l) - weights_from(f, l + 1); }

static float *clean_at(const sweep *s, int layer) { return s->clean + (size_t)layer * s->n * s->d; }

/* sqrt(mean w^2) over a spread of rows: the noise's unit. */
static snug_err rms_of(const fit_job *f, const store_tensor *t, double *out, snug_error *err) {
    uint64_t rows = min_u64(t->rows, 256);
    float *w = malloc(t->cols * sizeof *w);
    snug_err rc = w ? SNUG_OK : err_nomem(err, t->cols * sizeof *w);
    double sum = 0;
    for (uint64_t i = 0; i < rows && rc == SNUG_OK; i++) {
        rc = source_rows(f, t, i * t->rows / rows, 1, w, err);
        for (uint64_t j = 0; j < t->cols; j++) sum += (double)w[j] * (double)w[j];
    }
    *out = sqrt(sum / (double)(rows * t->cols));
    free(w);
    return rc;
}

/* How tensor i is disturbed at level k. */
static snug_err perturb_at(const fit_job *f, size_t i, size_t k, perturb *p, snug_error *err) {
    size_t n_levels;
    const level *todo = &levels_of(f, &n_levels)[k];
    const fit_tensor *t = &f->tensor[i];
    double rms;
    *p = (perturb){.t = t, .noise = !todo->codec, .stream = hash_bytes(t->t->name, strlen(t->t->name)) + k};
    if (!p->noise && !codec_parse(todo->codec, &p->term.codec, &p->term.params)) return err_set(err, SNUG_ERR_UNSUPPORTED, "no codec %s", todo->codec);
    snug_err rc = p->noise ? rms_of(f, t->t, &rms, err) : SNUG_OK;
    if (p->noise && rc == SNUG_OK) p->sigma = (float)(sqrt(todo->t2) * rms);
    return rc;
}

/* The variants of tensor i. */
static snug_err add_variants(sweep *s, size_t i, snug_error *err) {
    size_t n_levels;
    snug_err rc = SNUG_OK;
    levels_of(s->f, &n_levels);
    for (size_t k = 0; k < n_levels && rc == SNUG_OK; k++) {
        variant *v = &s->v[s->n_v++];
        *v = (variant){.tensor = i, .level = k};
        rc = perturb_at(s->f, i, k, &v->p, err);
    }
    return rc;
}

/* The variants of a group's tensors, and which of them are this process'. */
static snug_err list_variants(sweep *s, int group, snug_error *err) {
    snug_err rc = SNUG_OK;
    for (size_t i = 0; i < s->f->n && rc == SNUG_OK; i++)
        if (in_group(s->f, i, group)) rc = add_variants(s, i, err);
    cluster_share(s->n_v, &s->own0, &s->own1);
    for (size_t k = s->own0; k < s->own1 && rc == SNUG_OK; k++)
        rc = states_open(s->f, s->n * s->d, &s->v[k].x, err);
    return rc;
}

static void drop_variants(sweep *s) {
    for (size_t k = 0; k < s->n_v; k++) states_close(s->f, &s->v[k].x);
    s->n_v = s->own0 = s->own1 = 0;
}

/* ---- experts ---- */

/* What each of a layer's experts is of all of them: share (n_experts), 1 in all. An error in a matrix of an expert reaches the hidden states in
 * proportion to what the expert adds there: the same relative error costs as much more. safe: as the plan has it. There an expert that
 * calibration did not reach, of which nothing is known, counts as a quarter of the mean, 1 bit below it; and none for less than a
 * sixteenth, for other texts may want it. What they are given is on top of the others'. */
static const double UNKNOWN_SHARE = 1.0 / 4, LEAST_SHARE = 1.0 / 16;

static bool is_known(const fit_expert *x) { return x->tokens >= EXPERT_MIN_TOKENS && isfinite(x->energy); }

static void expert_shares(const fit_job *f, int layer, bool safe, double *share) {
    const uint32_t n = f->src->cfg.n_experts;
    const fit_expert *x = f->expert ? &f->expert[(size_t)layer * n] : NULL;
    double sum = 0, n_known = 0;
    for (uint32_t e = 0; x && e < n; e++)
        if (is_known(&x[e])) sum += x[e].energy, n_known++;
    for (uint32_t e = 0; e < n; e++) {
        share[e] = sum > 0 ? is_known(&x[e]) ? x[e].energy / sum : 0 : 1.0 / n;
        if (safe && sum > 0) share[e] = fmax(share[e], (is_known(&x[e]) ? LEAST_SHARE : UNKNOWN_SHARE) / n_known);
    }
}

/* How many experts are disturbed together. */
static uint32_t experts_in_room(const fit_job *f, const store_tensor *t) {
    return (uint32_t)min_u64(f->src->cfg.n_experts, max_u64(1, ROOM_WEIGHTS / (t->rows * t->cols)));
}

/* All experts of v's role, or as many as there is room for, those with the largest shares first. *part: the sum of their shares. changed: has
 * experts of its own. v->error: as if it were the same in all of them. */
static snug_err disturb_experts(sweep *s, const layer_weights *lw, layer_weights *changed, variant *v, float *room, double *share, double *part,
                                snug_error *err) {
    const fit_job *f = s->f;
    const store_tensor *t = f->tensor[v->tensor].t;
    const uint32_t n = f->src->cfg.n_experts, n_room = experts_in_room(f, t);
    snug_err rc = SNUG_OK;
    expert_shares(f, t->layer, false, share);
    memcpy(changed->experts, lw->experts, n * sizeof *lw->experts);
    *part = v->error = 0;
    for (uint32_t k = 0; k < n_room && rc == SNUG_OK; k++) {
        perturb p;
        double error;
        uint32_t best = 0;
        for (uint32_t e = 1; e < n; e++)
            if (share[e] > share[best]) best = e;
        if (share[best] <= 0) break; /* nobody's output has a part of the others' */
        rc = perturb_at(f, item_member(f, v->tensor, best), v->level, &p, err);
        float *out = room + (size_t)k * t->rows * t->cols;
        weight *w = &changed->experts[best].w[t->role - ROLE_GATE];
        if (rc == SNUG_OK) rc = perturb_weight(f, &p, w, out, &error, err);
        if (rc != SNUG_OK) break;
        *w = weight_of_f32(out, t->rows, t->cols);
        v->error += share[best] * error;
        *part += share[best];
        share[best] = 0;
    }
    v->error /= *part;
    return rc;
}

/* Gives all experts the first one's curve, each its share of it. */
static void share_out(fit_job *f, size_t first, const double *share) {
    const fit_tensor *from = &f->tensor[first];
    const fit_point *point = from->point;
    for (uint32_t e = f->src->cfg.n_experts; e-- > 0;) { /* the first, which they are taken from, last */
        fit_tensor *t = &f->tensor[item_member(f, first, e)];
        t->n_points = from->n_points;
        t->alpha = from->alpha * share[e];
        for (size_t k = 0; k < from->n_points; k++) t->point[k] = (fit_point){point[k].error, point[k].kl * share[e]};
    }
}

/* The roles' curves or, where none is measured, the table's numbers, to the experts. */
static snug_err share_among_experts(fit_job *f, snug_error *err) {
    double *share = malloc((f->src->cfg.n_experts + 1) * sizeof *share);
    if (!share) return err_nomem(err, f->src->cfg.n_experts * sizeof *share);
    for (size_t i = 0; i < f->n; i++) {
        if (!f->tensor[i].matrix || f->tensor[i].t->expert != 0) continue;
        expert_shares(f, f->tensor[i].t->layer, true, share);
        share_out(f, i, share);
    }
    free(share);
    return SNUG_OK;
}

/* ---- layers ---- */

/* Through layer l with one matrix disturbed, or one of each expert. */
static snug_err disturbed_layer(sweep *s, int l, const layer_weights *lw, variant *v, float *room, snug_error *err) {
    const store_tensor *t = s->f->tensor[v->tensor].t;
    const uint32_t n_experts = s->f->src->cfg.n_experts;
    layer_weights changed = *lw;
    snug_err rc = SNUG_OK;
    double *share = NULL;
    v->part = 1;
    if (t->expert == EXPERT_NONE) {
        rc = perturb_weight(s->f, &v->p, &lw->w[t->role], room, &v->error, err);
        changed.w[t->role] = weight_of_f32(room, t->rows, t->cols);
    } else {
        share = malloc(n_experts * sizeof *share);
        changed.experts = malloc(n_experts * sizeof *changed.experts);
        rc = share && changed.experts ? disturb_experts(s, lw, &changed, v, room, share, &v->part, err) : err_nomem(err, n_experts * sizeof *changed.experts);
    }
    states_copy(s->f, v->x, clean_at(s, l), s->n * s->d);
    if (rc == SNUG_OK) rc = forward_layer(&s->fwd, l, &changed, s->f->text.sens_seq, s->f->text.sens_len, &v->x, 1, NULL, NULL, err);
    if (changed.experts != lw->experts) free(changed.experts);
    free(share);
    return rc;
}

static snug_err start_layer(sweep *s, int l, snug_error *err) {
    arena mem = {0};
    layer_weights lw;
    uint64_t most = 0;
    snug_err rc = source_layer(s->f, l, &mem, &lw, err);
    for (size_t i = 0; i < s->f->n; i++) {
        const fit_tensor *t = &s->f->tensor[i];
        if (t->matrix && t->t->layer == l) most = max_u64(most, t->t->rows * t->t->cols * (t->t->expert == EXPERT_NONE ? 1 : experts_in_room(s->f, t->t)));
    }
    float *room = malloc(most * sizeof *room);
    if (rc == SNUG_OK && !room) rc = err_nomem(err, most * sizeof *room);
    for (size_t k = s->own0; k < s->own1 && rc == SNUG_OK; k++) {
        rc = disturbed_layer(s, l, &lw, &s->v[k], room, err);
        if (rc == SNUG_OK) rc = tick(s, 1, layer_of(s->f, l), s->f->tensor[s->v[k].tensor].t->name, err);
    }
    free(room);
    arena_fini(&mem);
    return rc;
}

/* All but the head's, which are behind the layers already. */
static snug_err through_layers(sweep *s, int first, snug_error *err) {
    float *all[MAX_VARIANTS];
    size_t n_all = 0;
    snug_err rc = SNUG_OK;
    for (size_t k = s->own0; k < s->own1; k++)
        if (s->f->tensor[s->v[k].tensor].t->role != ROLE_HEAD) all[n_all++] = s->v[k].x;
    for (int l = first; l < (int)s->f->src->cfg.n_layers && rc == SNUG_OK; l++) {
        arena mem = {0};
        layer_weights lw;
        rc = source_layer(s->f, l, &mem, &lw, err);
        for (size_t k = 0; k < n_all && rc == SNUG_OK; k += VARIANTS_AT_ONCE) {
            size_t n = n_all - k < VARIANTS_AT_ONCE ? n_all - k : VARIANTS_AT_ONCE;
            rc = forward_layer(&s->fwd, l, &lw, s->f->text.sens_seq, s->f->text.sens_len, all + k, n, NULL, NULL, err);
            if (rc == SNUG_OK) rc = tick(s, n, layer_of(s->f, l), NULL, err);
        }
        arena_fini(&mem);
    }
    return rc;
}

/* The relative error of a disturbance that is never applied as a whole, on a spread of rows. */
static snug_err sampled_error(const sweep *s, variant *v, snug_error *err) {
    const store_tensor *t = s->f->tensor[v->tensor].t;
    uint64_t rows = min_u64(t->rows, 1024);
    float *w = malloc(rows * t->cols * sizeof *w), *out = malloc(rows * t->cols * sizeof *out);
    snug_err rc = w && out ? SNUG_OK : err_nomem(err, rows * t->cols * 8);
    for (uint64_t i = 0; i < rows && rc == SNUG_OK; i++) rc = source_rows(s->f, t, i * t->rows / rows, 1, w + i * t->cols, err);
    weight sample = weight_of_f32(w, rows, t->cols);
    if (rc == SNUG_OK) rc = perturb_weight(s->f, &v->p, &sample, out, &v->error, err);
    free(w);
    free(out);
    return rc;
}

/* Embedding and head, which are one when tied. */
static snug_err start_outer(sweep *s, snug_error *err) {
    fit_job *f = s->f;
    snug_err rc = SNUG_OK;
    int n_layers = (int)f->src->cfg.n_layers;
    int32_t *ids = malloc(s->n * sizeof *ids);
    if (!ids) rc = err_nomem(err, s->n * sizeof *ids);
    for (uint32_t q = 0; ids && q < f->text.sens_seq; q++)
        memcpy(ids + (size_t)q * f->text.sens_len, f->text.ids + (size_t)q * f->text.len, f->text.sens_len * sizeof *ids);
    for (size_t k = s->own0; k < s->own1 && rc == SNUG_OK; k++) {
        variant *v = &s->v[k];
        rc = sampled_error(s, v, err);
        bool head = f->tensor[v->tensor].t->role == ROLE_HEAD;
        if (rc == SNUG_OK && head) states_copy(f, v->x, clean_at(s, n_layers), s->n * s->d);
        if (rc == SNUG_OK && !head) rc = embed_tokens(f, ids, s->n, f->text.sens_len, &v->p, v->x, err);
    }
    free(ids);
    return rc;
}

static snug_err take_kl(sweep *s, snug_error *err) {
    head_variant hv[MAX_VARIANTS];
    double kl[MAX_VARIANTS];
    const store_tensor *head = head_tensor(s->f);
    variant *own = s->v + s->own0;
    const size_t n = s->own1 - s->own0;
    for (size_t k = 0; k < n; k++) hv[k] = (head_variant){own[k].x, s->f->tensor[own[k].tensor].t == head ? &own[k].p : NULL};
    snug_err rc = n ? head_kl(s->f, clean_at(s, (int)s->f->src->cfg.n_layers), hv, n, s->n_v, s->n, kl, err) : SNUG_OK;
    for (size_t k = 0; k < n && rc == SNUG_OK; k++) {
        own[k].kl = own[k].part > 0 ? kl[k] / own[k].part : kl[k];
        if (!isfinite(kl[k])) rc = err_set(err, SNUG_ERR_NUMERIC, "%s: disturbed, the model's output is not a number", s->f->tensor[own[k].tensor].t->name);
    }
    return rc;
}

/* ---- one group, with its record ---- */

/* Gives each tensor of the group its points: (error, kl) pairs in the record's order. */
static bool load_group(fit_job *f, int group) {
    const json_t *known = journal_find(f->journal, "sens", group);
    size_t n_levels, n = 0;
    levels_of(f, &n_levels);
    double all[2 * MAX_VARIANTS];
    for (size_t i = 0; i < f->n; i++) n += in_group(f, i, group);
    if (!known || n * n_levels > MAX_VARIANTS || !journal_get_doubles(known, all, 2 * n * n_levels)) return false;
    const double *at = all;
    for (size_t i = 0; i < f->n; i++) {
        if (!in_group(f, i, group)) continue;
        f->tensor[i].n_points = n_levels;
        for (size_t k = 0; k < n_levels; k++, at += 2) f->tensor[i].point[k] = (fit_point){at[0], at[1]};
    }
    return true;
}

static snug_err save_group(const sweep *s, int group, snug_error *err) {
    double all[2 * MAX_VARIANTS];
    for (size_t k = s->own0; k < s->own1; k++) {
        all[2 * k] = s->v[k].error;
        all[2 * k + 1] = s->v[k].kl;
    }
    snug_err rc = cluster_gather(all, s->n_v, 2 * sizeof *all, 2 * s->n_v * sizeof *all, err);
    return rc != SNUG_OK ? rc : journal_put(s->f->journal, "sens", group, journal_doubles(all, 2 * s->n_v), err);
}

static snug_err measure_group(sweep *s, int group, snug_error *err) {
    bool outer = group == (int)s->f->src->cfg.n_layers;
    snug_err rc = list_variants(s, group, err);
    if (rc == SNUG_OK) rc = outer ? start_outer(s, err) : start_layer(s, group, err);
    if (rc == SNUG_OK) rc = through_layers(s, outer ? 0 : group + 1, err);
    if (rc == SNUG_OK) rc = take_kl(s, err);
    if (rc == SNUG_OK) rc = tick(s, s->own1 - s->own0, head_weights(s->f), NULL, err);
    if (rc == SNUG_OK) rc = save_group(s, group, err);
    drop_variants(s);
    return rc;
}

static snug_err clean_pass(sweep *s, snug_error *err) {
    fit_job *f = s->f;
    snug_err rc = SNUG_OK;
    for (uint32_t q = 0; q < f->text.sens_seq && rc == SNUG_OK; q++)
        rc = embed_tokens(f, f->text.ids + (size_t)q * f->text.len, f->text.sens_len, f->text.sens_len, NULL, s->clean + (size_t)q * f->text.sens_len * s->d, err);
    for (int l = 0; l < (int)f->src->cfg.n_layers && rc == SNUG_OK; l++) {
        arena mem = {0};
        layer_weights lw;
        rc = source_layer(f, l, &mem, &lw, err);
        states_copy(f, clean_at(s, l + 1), clean_at(s, l), s->n * s->d);
        float *x = clean_at(s, l + 1);
        if (rc == SNUG_OK) rc = forward_layer(&s->fwd, l, &lw, f->text.sens_seq, f->text.sens_len, &x, 1, NULL, NULL, err);
        arena_fini(&mem);
        if (rc == SNUG_OK) rc = tick(s, 1, layer_of(f, l), "clean pass", err);
    }
    return rc;
}

/* Sorted by error, rising in both, so that the curve is a function; alpha by least squares on the smaller half. */
static void finish_tensor(fit_tensor *t) {
    for (size_t i = 1; i < t->n_points; i++)
        for (size_t k = i; k > 0 && t->point[k].error < t->point[k - 1].error; k--) {
            fit_point tmp = t->point[k];
            t->point[k] = t->point[k - 1];
            t->point[k - 1] = tmp;
        }
    double t2[FIT_MAX_POINTS], kl[FIT_MAX_POINTS];
    size_t n = 0;
    for (size_t i = 0; i < t->n_points; i++) {
        fit_point p = t->point[i];
        if (!(p.error > 0) || !(p.kl > 0)) continue;
        if (n && p.error <= t->point[n - 1].error * (1 + 1e-9)) continue;
        if (n && p.kl < t->point[n - 1].kl) p.kl = t->point[n - 1].kl;
        t->point[n] = p;
        t2[n] = p.error;
        kl[n++] = p.kl;
    }
    t->n_points = n;
    if (n) t->alpha = sensitivity_fit(t2, kl, (n + 1) / 2);
}

static snug_err measure_all(fit_job *f, snug_error *err) {
    int n_layers = (int)f->src->cfg.n_layers, groups = n_layers + 1;
    sweep *s = calloc(1, sizeof *s);
    if (!s) return err_nomem(err, sizeof *s);
    s->f = f;
    s->n = (size_t)f->text.sens_seq * f->text.sens_len;
    s->d = f->src->cfg.n_embd;
    snug_err rc = SNUG_OK;
    for (int g = 0; g < groups && rc == SNUG_OK; g++) {
        if (load_group(f, g)) continue;
        if (!s->clean) {
            meter_begin(&f->meter, f->stage_sens);
            for (int k = 0; k < g; k++) s->macs += group_macs(f, k) * (double)s->n;
            meter_skip(&f->meter, (uint64_t)(s->macs / MEASURE_UNIT));
            rc = states_open(f, (size_t)(n_layers + 1) * s->n * s->d, &s->clean, err);
            if (rc == SNUG_OK) rc = forward_open(f, NULL, SNUG_ACT_F32, f->text.sens_len, &s->fwd, err);
            if (rc == SNUG_OK) rc = clean_pass(s, err);
            s->fwd.alone = true; /* variants are shared, not passes */
        }
        if (rc == SNUG_OK) rc = measure_group(s, g, err);
        if (rc == SNUG_OK && !load_group(f, g)) rc = err_set(err, SNUG_ERR_NUMERIC, "the sensitivities of group %d are lost", g);
    }
    for (size_t i = 0; i < f->n && rc == SNUG_OK; i++)
        if (f->tensor[i].matrix && f->tensor[i].t->expert <= 0) finish_tensor(&f->tensor[i]);
    if (s->clean) forward_close(&s->fwd);
    states_close(f, &s->clean);
    free(s);
    return rc;
}

snug_err measure_sensitivities(fit_job *f, snug_error *err) {
    snug_err rc = f->sensitivities ? measure_all(f, err) : SNUG_OK;
    return rc == SNUG_OK && f->src->cfg.n_experts ? share_among_experts(f, err) : rc;
}
