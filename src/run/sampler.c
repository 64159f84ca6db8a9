/* Choosing the next token. In this order, as llama.cpp does by default: repetition penalty, top-k, top-p, min-p,
 * temperature, draw. Top-p and min-p look at the probabilities at temperature 1. Ties go to the lower id; draws come
 * from base/rng.h, so a seed gives the same text on every machine. Sources: Keskar et al. 2019 (repetition penalty),
 * Holtzman et al. 2020 (top-p), Nguyen et al. 2024 (min-p). */
#include "base/err.h"
#include "base/rng.h"

#include <math.h>
#include <snug.h>
#include <stdlib.h>
#include <string.h>

typedef struct candidate { float logit; int32_t id; double p; } candidate;

struct snug_sampler {
    snug_sampler_params p;
    uint32_t n_vocab;
    rng rng;
    candidate *cand;     /* n_vocab                                          */
    int32_t *recent;     /* repeat_last, a ring                              */
    uint32_t n_recent, next_recent;
    uint32_t *count;     /* n_vocab: how often an id stands in the ring      */
};

snug_err snug_sampler_create(const snug_sampler_params *params, uint32_t n_vocab, snug_sampler **out, snug_error *err) {
    *out = NULL;
    const snug_sampler_params *p = params;
    if (!p || n_vocab == 0) return err_set(err, SNUG_ERR_ARG, "sampler: no parameters or an empty vocabulary");
    if (!(p->temperature >= 0 && p->temperature <= 100))
        return err_set(err, SNUG_ERR_ARG, "sampler: temperature is %g, expected 0 to 100", (double)p->temperature);
    if (!(p->top_p > 0 && p->top_p <= 1))
        return err_set(err, SNUG_ERR_ARG, "sampler: top-p is %g, expected above 0 to 1", (double)p->top_p);
    if (!(p->min_p >= 0 && p->min_p <= 1))
        return err_set(err, SNUG_ERR_ARG, "sampler: min-p is %g, expected 0 to 1", (double)p->min_p);
    if (!(p->repeat_penalty > 0 && p->repeat_penalty <= 100))
        return err_set(err, SNUG_ERR_ARG, "sampler: repetition penalty is %g, expected above 0 to 100",
                       (double)p->repeat_penalty);
    snug_sampler *s = calloc(1, sizeof *s);
    if (!s) return err_nomem(err, sizeof *s);
    s->p = *p;
    s->n_vocab = n_vocab;
    rng_seed(&s->rng, p->seed, 0x73616d706c6572); /* "sampler" */
    s->cand = calloc(n_vocab, sizeof *s->cand);
    s->recent = calloc((size_t)p->repeat_last + 1, sizeof *s->recent);
    s->count = calloc(n_vocab, sizeof *s->count);
    if (!s->cand || !s->recent || !s->count) {
        snug_sampler_destroy(&s);
        return err_nomem(err, n_vocab * sizeof(candidate));
    }
    *out = s;
    return SNUG_OK;
}

void snug_sampler_destroy(snug_sampler **sampler) {
    if (!sampler || !*sampler) return;
    free((*sampler)->cand);
    free((*sampler)->recent);
    free((*sampler)->count);
    free(*sampler);
    *sampler = NULL;
}

void snug_sampler_accept(snug_sampler *s, int32_t token) {
    if (token < 0 || (uint32_t)token >= s->n_vocab || s->p.repeat_last == 0) return;
    if (s->n_recent == s->p.repeat_last) s->count[s->recent[s->next_recent]]--;
    else s->n_recent++;
    s->recent[s->next_recent] = token;
    s->count[token]++;
    s->next_recent = (s->next_recent + 1) % s->p.repeat_last;
}

/* Higher logit first, then lower id: a total order, so every sort gives the same. */
static bool before(const candidate *a, const candidate *b) {
    return a->logit != b->logit ? a->logit > b->logit : a->id < b->id;
}

static int compare(const void *a, const void *b) { return before(a, b) ? -1 : before(b, a) ? 1 : 0; }

/* Moves the k first of n to the front (quickselect; Hoare's FIND with a middle pivot), unsorted. */
static void select_first(candidate *c, size_t n, size_t k) {
    size_t low = 0, high = n - 1;
    while (low < high) {
        candidate pivot = c[low + (high - low) / 2];
        size_t i = low, j = high;
        for (;;) {
            while (before(&c[i], &pivot)) i++;
            while (before(&pivot, &c[j])) j--;
            if (i >= j) break;
            candidate t = c[i];
            c[i++] = c[j];
            c[j--] = t;
        }
        /* c[low .. j] stand before or at the pivot, c[j+1 .. high] at or after it (the order is total: the pivot is
         * unique) */
        if (k <= j) high = j;
        else low = j + 1;
    }
}

/* p = softmax of logit / temperature over n candidates; max is the largest logit. */
static void probabilities(candidate *c, size_t n, double max, double temperature) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += c[i].p = exp(((double)c[i].logit - max) / temperature);
    for (size_t i = 0; i < n; i++) c[i].p /= sum;
}

/* Copies the logits, penalised, finite ones only. */
static snug_err gather(snug_sampler *s, const float *logits, size_t *n, double *max, int32_t *best, snug_error *err) {
    float top = -INFINITY;
    *n = 0;
    *best = -1;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        float l = logits[i];
        if (isnan(l) || l == INFINITY)
            return err_set(err, SNUG_ERR_NUMERIC,
                           "the logit of token %u is %s: the model's weights are damaged or overflow", i,
                           isnan(l) ? "NaN" : "infinite");
        if (l == -INFINITY) continue;
        if (s->count[i]) l = l > 0 ? l / s->p.repeat_penalty : l * s->p.repeat_penalty;
        if (l > top || *best < 0) top = l, *best = (int32_t)i;
        s->cand[(*n)++] = (candidate){.logit = l, .id = (int32_t)i};
    }
    *max = (double)top;
    return *n ? SNUG_OK : err_set(err, SNUG_ERR_NUMERIC, "no logit is finite");
}

/* The smallest set of most probable candidates with at least top_p of the mass, sorted. Those below (1 - top_p) / n
 * cannot be in it: together they weigh less than what is cut; so only the others are sorted. */
static size_t cut_top_p(candidate *c, size_t n, double top_p) {
    size_t kept = 0;
    double floor = (1 - top_p) / (double)n, mass = 0;
    for (size_t i = 0; i < n; i++)
        if (c[i].p >= floor) c[kept++] = c[i];
    qsort(c, kept, sizeof *c, compare);
    for (size_t i = 0; i < kept; i++)
        if ((mass += c[i].p) >= top_p) return i + 1;
    return kept;
}

snug_err snug_sampler_pick(snug_sampler *s, const float *logits, int32_t *token, snug_error *err) {
    size_t n;
    double max = 0;
    int32_t best;
    candidate *c = s->cand;
    snug_err rc = gather(s, logits, &n, &max, &best, err);
    if (rc) return rc;
    *token = best;
    if (s->p.temperature == 0) return SNUG_OK;
    if (s->p.top_k && s->p.top_k < n) {
        select_first(c, n, s->p.top_k);
        n = s->p.top_k;
    }
    probabilities(c, n, max, 1);
    if (s->p.top_p < 1) n = cut_top_p(c, n, (double)s->p.top_p);
    if (s->p.min_p > 0) { /* the most probable one has p = 1 / sum; the test is on the ratio to it, exp(logit - max) */
        size_t kept = 0;
        for (size_t i = 0; i < n; i++)
            if (exp((double)c[i].logit - max) >= (double)s->p.min_p) c[kept++] = c[i];
        n = kept;
    }
    probabilities(c, n, max, (double)s->p.temperature);
    double u = rng_uniform(&s->rng);
    for (size_t i = 0; i < n; i++) {
        *token = c[i].id;
        if ((u -= c[i].p) < 0) break;
    }
    return SNUG_OK;
}
