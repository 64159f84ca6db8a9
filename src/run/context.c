/* Contexts: the scratch, cache and threads of a caller, bounded by what it named. */
#include "run/run.h"
#include "run/vocabulary.h"

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_DRAFT = 1024 };

static snug_err check_params(const snug_context_params *p, snug_error *err) {
    if (p->act != SNUG_ACT_Q8 && p->act != SNUG_ACT_F32)
        return err_set(err, SNUG_ERR_ARG, "context: act is %d, expected 0 or 1", (int)p->act);
    if (p->kv != SNUG_KV_F16 && p->kv != SNUG_KV_F32)
        return err_set(err, SNUG_ERR_ARG, "context: kv is %d, expected 0 or 1", (int)p->kv);
    if (p->threads > 4096) return err_set(err, SNUG_ERR_ARG, "context: %d threads, expected at most 4096", p->threads);
    if (p->max_batch > 1 << 20)
        return err_set(err, SNUG_ERR_ARG, "context: max_batch is %u, expected at most 1048576", p->max_batch);
    if ((unsigned)p->draft > SNUG_DRAFT_MODEL)
        return err_set(err, SNUG_ERR_ARG, "context: draft is %d, expected 0 to 2", (int)p->draft);
    if ((p->draft == SNUG_DRAFT_MODEL) != (p->draft_model != NULL))
        return err_set(err, SNUG_ERR_ARG, "context: draft is %d and draft_model is %s", (int)p->draft,
                       p->draft_model ? "given" : "NULL");
    if (p->max_draft > MAX_DRAFT)
        return err_set(err, SNUG_ERR_ARG, "context: max_draft is %u, expected at most %d", p->max_draft, MAX_DRAFT);
    return SNUG_OK;
}

/* What memory depends on beside the parameters: found out once, for any n_ctx. */
typedef struct footprint {
    const config *cfg, *draft_cfg; /* NULL: no draft model */
    run_sizes sizes, draft_sizes;
} footprint;

static footprint footprint_of(const snug_model *model, const snug_context_params *p) {
    footprint f = {.cfg = &model->store->cfg, .sizes = run_sizes_of(model->store, p->max_batch, p->act)};
    if (p->draft_model) {
        f.draft_cfg = &p->draft_model->store->cfg;
        f.draft_sizes = run_sizes_of(p->draft_model->store, p->max_batch, p->act);
    }
    return f;
}

/* A draft model's context has the sizes of the context that it drafts for. */
static snug_context_params draft_params(const snug_context_params *p) {
    snug_context_params d = *p;
    d.draft = SNUG_DRAFT_NONE;
    d.draft_model = NULL;
    d.ram_bytes = 0; /* it is part of p's */
    return d;
}

static snug_err memory_of(const footprint *f, const snug_context_params *p, snug_memory *out, snug_error *err) {
    snug_memory draft;
    snug_context_params dp = draft_params(p);
    snug_err rc = run_memory(f->cfg, &f->sizes, p, out, err);
    if (!rc && f->draft_cfg) rc = run_memory(f->draft_cfg, &f->draft_sizes, &dp, &draft, err);
    if (rc) return rc;
    out->draft_bytes = run_draft_bytes(p, f->draft_cfg ? &draft : NULL);
    out->total_bytes += out->draft_bytes;
    return SNUG_OK;
}

snug_err snug_context_memory(const snug_model *model, const snug_context_params *params, snug_memory *out,
                             snug_error *err) {
    snug_context_params p = run_params(&model->store->cfg, params);
    snug_err rc = check_params(&p, err);
    if (rc) return rc;
    footprint f = footprint_of(model, &p);
    return memory_of(&f, &p, out, err);
}

/* The longest context that fits p->ram_bytes, 0: none. Memory grows with n_ctx, so bisection finds it. */
static uint32_t largest_context(const footprint *f, snug_context_params p) {
    uint64_t low = 0, high = p.n_ctx;
    while (low < high) {
        snug_memory m;
        uint64_t mid = (low + high + 1) / 2;
        p.n_ctx = (uint32_t)mid;
        if (memory_of(f, &p, &m, NULL) == SNUG_OK && m.total_bytes <= p.ram_bytes) low = mid;
        else high = mid - 1;
    }
    return (uint32_t)low;
}

static snug_err check_budget(const snug_model *model, const footprint *f, const snug_context_params *p,
                             snug_error *err) {
    snug_memory m;
    snug_err rc = memory_of(f, p, &m, err);
    if (rc || p->ram_bytes == 0 || m.total_bytes <= p->ram_bytes) return rc;
    uint32_t fits = largest_context(f, *p);
    char advice[96], draft[48] = "", n[6][ERR_SIZE_MAX];
    if (fits) {
        snprintf(advice, sizeof advice, "the largest context that fits is %u", fits);
    } else {
        snug_memory least;
        snug_context_params one = *p;
        one.n_ctx = 1;
        if ((rc = memory_of(f, &one, &least, err))) return rc;
        snprintf(advice, sizeof advice, "no context fits, one position would need %s (%llu bytes)",
                 err_size(least.total_bytes, n[0]), (unsigned long long)least.total_bytes);
    }
    if (m.draft_bytes) snprintf(draft, sizeof draft, ", drafts %s", err_size(m.draft_bytes, n[0]));
    return err_set(err, SNUG_ERR_BUDGET,
                   "%s needs %s (%llu bytes) at a context of %u: weights %s, KV cache %s, scratch %s, other %s%s; "
                   "the limit is %s; %s",
                   model->info.path, err_size(m.total_bytes, n[0]), (unsigned long long)m.total_bytes, p->n_ctx,
                   err_size(m.weights_bytes, n[1]), err_size(m.kv_bytes, n[2]), err_size(m.scratch_bytes, n[3]),
                   err_size(m.other_bytes, n[4]), draft, err_size(p->ram_bytes, n[5]), advice);
}

/* The draft model's context. The model's logits may have more columns than its tokenizer has tokens (padding), and not
 * as many in each size of a family: tokens that one of the two lacks are never drafted. */
static snug_err make_draft(snug_context *c, snug_error *err) {
    if (!c->p.draft_model) return SNUG_OK;
    snug_context_params p = draft_params(&c->p);
    if (graph_kv(&c->p.draft_model->store->cfg, 1, 1, 1, SNUG_KV_F16).n_states) /* each guess that is not taken would have it read its text from the start */
        return err_set(err, SNUG_ERR_UNSUPPORTED, "the draft model %s has recurrent layers, which cannot forget a guess; take a model without, or draft by lookup", c->p.draft_model->info.path);
    snug_err rc = vocabulary_compare(c->model, c->p.draft_model, err);
    if (!rc) rc = snug_context_create(c->p.draft_model, &p, &c->draft, err);
    return rc ? err_prefix(err, rc, "the draft model %s", c->p.draft_model->info.path) : SNUG_OK;
}

static snug_err make_buffers(snug_context *c, snug_error *err) {
    const config *cfg = &c->model->store->cfg;
    c->seqs = calloc(c->p.max_seqs, sizeof *c->seqs);
    c->items = calloc(c->p.max_batch, sizeof *c->items);
    c->logit_row = calloc(c->p.max_batch, sizeof *c->logit_row);
    c->x = calloc((size_t)c->p.max_batch * cfg->n_embd, sizeof *c->x);
    c->batch = calloc(c->p.max_batch, sizeof *c->batch);
    c->logit_rows = run_logit_rows(&c->p);
    c->logits = calloc(c->logit_rows * cfg->n_vocab, sizeof *c->logits);
    if (c->seqs && c->items && c->batch && c->logit_row && c->x && c->logits) return SNUG_OK;
    return err_nomem(err, (size_t)c->p.max_batch * cfg->n_embd * sizeof *c->x +
                              c->logit_rows * cfg->n_vocab * sizeof *c->logits);
}

snug_err snug_context_create(const snug_model *model, const snug_context_params *params, snug_context **out,
                             snug_error *err) {
    if (!model || !out) return err_set(err, SNUG_ERR_ARG, "snug_context_create: model or out is NULL");
    *out = NULL;
    const config *cfg = &model->store->cfg;
    snug_context_params p = run_params(cfg, params);
    snug_err rc = check_params(&p, err);
    if (rc) return rc;
    footprint f = footprint_of(model, &p);
    if ((rc = check_budget(model, &f, &p, err))) return rc;

    snug_context *c = calloc(1, sizeof *c);
    if (!c) return err_nomem(err, sizeof *c);
    c->model = model;
    c->p = p;
    const kv_params kv = graph_kv(cfg, cfg->n_layers, p.n_ctx, p.max_seqs, p.kv);
    graph_params gp = {.max_batch = p.max_batch,
                       .n_ctx = p.n_ctx,
                       .threads = p.threads,
                       .transforms = f.sizes.transforms,
                       .allow_q8 = p.act == SNUG_ACT_Q8,
                       .matmul_scratch_bytes = f.sizes.matmul_scratch_bytes};
    if (!(rc = model_weights(model, &c->weights, err)) && !(rc = kv_pool_create(&kv, &c->pool, err)) &&
        !(rc = graph_create(cfg, &gp, c->weights->rope_freqs, &c->graph, err)))
        rc = make_buffers(c, err);
    if (!rc) rc = make_draft(c, err);
    if (rc) snug_context_destroy(&c);
    *out = c;
    return rc;
}

void snug_context_destroy(snug_context **ctx) {
    if (!ctx || !*ctx) return;
    snug_context *c = *ctx;
    snug_context_destroy(&c->draft);
    graph_destroy(&c->graph);
    kv_pool_destroy(&c->pool);
    free(c->seqs);
    free(c->items);
    free(c->batch);
    free(c->logit_row);
    free(c->x);
    free(c->logits);
    free(c);
    *ctx = NULL;
}

/* -------------------------------------------------------------- sequences ---- */

static snug_err seq_slot(snug_context *c, snug_seq **out, snug_error *err) {
    for (uint32_t i = 0; i < c->p.max_seqs; i++)
        if (!c->seqs[i].kv) {
            *out = &c->seqs[i];
            (*out)->ctx = c;
            (*out)->pending = 0;
            return SNUG_OK;
        }
    return err_set(err, SNUG_ERR_BUDGET, "the context has room for %u sequences and all are in use", c->p.max_seqs);
}

snug_err snug_seq_create(snug_context *ctx, snug_seq **out, snug_error *err) {
    *out = NULL;
    snug_seq *s = NULL;
    snug_err rc = seq_slot(ctx, &s, err);
    if (!rc) rc = kv_seq_create(ctx->pool, &s->kv, err);
    if (!rc) *out = s;
    return rc;
}

snug_err snug_seq_fork(const snug_seq *seq, snug_seq **out, snug_error *err) {
    *out = NULL;
    snug_seq *s = NULL;
    snug_err rc = seq_slot(seq->ctx, &s, err);
    if (!rc) rc = kv_seq_fork(seq->kv, &s->kv, err);
    if (!rc) *out = s;
    return rc;
}

snug_err snug_seq_truncate(snug_seq *seq, uint32_t n, snug_error *err) {
    if (n > kv_seq_length(seq->kv))
        return err_set(err, SNUG_ERR_ARG, "cannot truncate a sequence of %u positions to %u", kv_seq_length(seq->kv),
                       n);
    return kv_truncate(seq->kv, n, err);
}

uint32_t snug_seq_reach(const snug_seq *seq, uint32_t n) { return kv_reach(seq->kv, n); }

uint32_t snug_seq_length(const snug_seq *seq) { return kv_seq_length(seq->kv); }

void snug_seq_destroy(snug_seq **seq) {
    if (!seq || !*seq) return;
    kv_seq_destroy(&(*seq)->kv);
    *seq = NULL;
}
