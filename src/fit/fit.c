/* snug_fit: from a source and a budget to an artifact. This file is the order of things; each step is a file of its own.
 *
 *   1. open the source, check everything that the user said, list every tensor's candidates: errors come before any work
 *   2. statistics: text, what its activations look like, what the output makes of errors in each weight (journal and cache)
 *   3. menus measured, knapsack, the plan
 *   4. encode, write, rename
 */
#include "fit/fit.h"

#include "base/cluster.h"
#include "base/err.h"
#include "base/thread.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct snug_fit_report {
    arena mem;
    snug_fit_summary summary;
    snug_plan_row *row;
};

/* ---- 1. opening ---- */

static void add_rope_tensor(fit_job *f, size_t i, const char *name, float *values) {
    f->rope_values[i] = values;
    f->rope_tensor[i] = (store_tensor){.name = name, .role = ROLE_ROPE_FREQS, .layer = -1, .expert = EXPERT_NONE, .rows = 1, .cols = f->src->cfg.rope_dims / 2, .predicted_loss = 0};
    f->tensor[f->n] = (fit_tensor){.t = &f->rope_tensor[i], .twin = f->n};
    f->n++;
}

static snug_err add_rope(fit_job *f, snug_error *err) {
    const config *c = &f->src->cfg;
    size_t n = c->rope_dims / 2;
    if (store_find(f->src, ROLE_ROPE_FREQS, -1)) return SNUG_OK;
    float *factors = arena_calloc(&f->mem, n + 1, sizeof *factors);
    if (!factors) return err_nomem(err, n * sizeof *factors);
    if (rope_freq_factors(c, factors)) add_rope_tensor(f, 0, "rope_freqs.weight", factors);
    if (c->scaling == ROPE_LONG && f->p->target == SNUG_FOR_GGUF) {
        add_rope_tensor(f, 0, "rope_factors_long.weight", f->src->cfg.rope_long);
        add_rope_tensor(f, 1, "rope_factors_short.weight", f->src->cfg.rope_short);
    }
    return SNUG_OK;
}

snug_err job_list(fit_job *f, snug_error *err) {
    f->tensor = arena_calloc(&f->mem, f->src->n_tensors + FIT_ROPE_TENSORS, sizeof *f->tensor);
    if (!f->tensor) return err_nomem(err, f->src->n_tensors * sizeof *f->tensor);
    for (size_t i = 0; i < f->src->n_tensors; i++) {
        const store_tensor *t = &f->src->tensors[i];
        if (strchr(t->name, '@')) return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: a tensor's name must not hold '@'", t->name);
        fit_tensor *ft = &f->tensor[f->n++];
        ft->t = t;
        ft->twin = i;
        ft->matrix = (int)t->role < (int)ROLE_MATRICES;
        ft->pin = -1;
        ft->measured = -1;
        if (ft->matrix) ft->alpha = sensitivity_prior(role_name(t->role), t->layer, (int)f->src->cfg.n_layers);
    }
    snug_err rc = add_rope(f, err);
    return rc == SNUG_OK ? items_name(f, err) : rc;
}

static snug_err check_params(const snug_fit_params *p, snug_error *err) {
    if (!p || !p->source) return err_set(err, SNUG_ERR_ARG, "no source is named");
    if (!p->output && !p->plan_only) return err_set(err, SNUG_ERR_ARG, "no output is named");
    if (p->ram_bytes && p->n_ctx == 0) return err_set(err, SNUG_ERR_ARG, "a memory limit needs the number of positions (n_ctx) that it is for");
    if (p->threads < 0 || p->threads > 4096) return err_set(err, SNUG_ERR_ARG, "%d threads make no sense", p->threads);
    return SNUG_OK;
}

static snug_err open_job(fit_job *f, snug_error *err) {
    snug_err rc = check_params(f->p, err);
    if (rc != SNUG_OK) return rc;
    f->threads = f->p->threads ? f->p->threads : thread_default_count();
    meter_init(&f->meter, f->p->progress);
    meter_expect(&f->meter, 1.0 / ((double)f->threads * cluster_size())); /* costs are seconds of a thread */
    if ((rc = store_open(f->p->source, true, &f->src, err)) != SNUG_OK) return rc;
    f->tok = f->src->tok;
    f->fingerprint = store_fingerprint(f->src);
    if ((rc = job_list(f, err)) != SNUG_OK) return rc;
    if ((rc = calibrate_parse(f, err)) != SNUG_OK) return rc;
    if ((rc = states_check(f, 1, err)) != SNUG_OK) return rc;
    if (f->p->imatrix && (rc = imatrix_open(f->p->imatrix, &f->imatrix, err)) != SNUG_OK) return rc;
    if ((rc = artifact_prepare(f, err)) != SNUG_OK) return rc;
    if ((rc = menu_pins(f, err)) != SNUG_OK) return rc;
    if ((rc = menu_list(f, err)) != SNUG_OK) return rc;
    return budget_resolve(f, err);
}

void job_close(fit_job *f) {
    journal_close(&f->journal);
    imatrix_close(&f->imatrix);
    hessian_sum_close(&f->head_sum);
    gguf_kvs_fini(&f->kvs);
    buf_fini(&f->packed_kvs);
    store_close(&f->src);
    arena_fini(&f->mem);
}

/* ---- 2. and 3.: statistics and the plan ---- */

/* What was fitted to other experts' tokens for want of its own says so. */
static snug_err note_experts(fit_job *f, snug_error *err) {
    for (size_t i = 0; i < f->n && f->expert; i++) {
        fit_tensor *t = &f->tensor[i];
        if (t->t->expert == EXPERT_NONE) continue;
        const fit_expert *x = fit_expert_of(f, t->t);
        if (x->tokens >= EXPERT_MIN_TOKENS) continue;
        const char *had = t->menu.note ? t->menu.note : "";
        t->menu.note = arena_printf(&f->mem, "%s%s%.0f of %u tokens came to this expert: fitted to others'", had, *had ? "; " : "", x->tokens,
                                    f->text.n_seq * f->text.len);
        if (!t->menu.note) return err_nomem(err, 64);
    }
    return SNUG_OK;
}

static snug_err save_plan(const fit_job *f, snug_error *err) {
    plan p = {.budget_bytes = f->budget_bytes == UINT64_MAX ? 0 : f->budget_bytes, .file_bytes = f->file_bytes,
              .predicted_kl = f->predicted_kl, .run_work = budget_run_work(f), .source_fingerprint = f->fingerprint, .seed = f->p->seed};
    snprintf(p.target, sizeof p.target, "%s", f->p->target == SNUG_FOR_GGUF ? "gguf" : "snug");
    snprintf(p.calib, sizeof p.calib, "%s", f->calib.name);
    p.entry = calloc(f->n, sizeof *p.entry);
    if (!p.entry) return err_nomem(err, f->n * sizeof *p.entry);
    snug_err rc = SNUG_OK;
    for (size_t i = 0; i < f->n && rc == SNUG_OK; i++)
        if (item_size(f, i)) rc = item_of(f, i, &p.mem, &p.entry[p.n++], err);
    if (rc == SNUG_OK) rc = plan_save(&p, f->p->plan_out, err);
    arena_fini(&p.mem);
    free(p.entry);
    return rc;
}

static snug_err replay(fit_job *f, snug_error *err) {
    plan *p = NULL;
    snug_err rc = plan_load(f->p->plan_in, &p, err);
    if (rc == SNUG_OK) rc = menu_replay(f, p, err);
    plan_destroy(&p);
    return rc;
}

/* A replayed plan needs the statistics that encoders use, and no more. */
static snug_err make_plan(fit_job *f, snug_error *err) {
    snug_err rc = calibrate_prepare(f, err);
    const size_t floats = (size_t)f->text.n_seq * f->text.len * f->src->cfg.n_embd; /* and with experts the inputs of theirs beside them */
    if (rc == SNUG_OK && f->run_model) rc = states_check(f, floats * (f->src->cfg.n_experts ? 2 : 1), err);
    cache_load(f);
    if (rc == SNUG_OK) rc = journal_share(f, err);
    if (rc == SNUG_OK && f->run_model) rc = calibrate_text(f, err);
    if (rc == SNUG_OK && f->run_model) rc = calibrate_statistics(f, err);
    if (rc == SNUG_OK) rc = source_balance(f, err);
    if (rc == SNUG_OK) rc = importance_set(f, err);
    if (rc == SNUG_OK) rc = note_experts(f, err);
    if (rc == SNUG_OK && !f->p->plan_in) rc = measure_sensitivities(f, err);
    if (rc != SNUG_OK) return rc;
    if (f->run_model) cache_store(f);
    if (!f->p->plan_in && (rc = menu_measure(f, err)) != SNUG_OK) return rc;
    return budget_choose(f, err);
}

/* ---- the report ---- */

static snug_err report_item(const fit_job *f, size_t first, arena *mem, snug_plan_row *row, snug_error *err) {
    plan_entry e;
    char name[COMP_NAME_MAX];
    snug_err rc = item_of(f, first, mem, &e, err);
    if (rc != SNUG_OK) return rc;
    comp_format(&e.comp, name);
    *row = (snug_plan_row){.tensor = arena_strdup(mem, e.tensor), .codec = arena_strdup(mem, name), .note = arena_strdup(mem, e.note), .rows = e.rows,
                           .cols = e.cols, .bytes = e.bytes, .rel_error = e.rel_error, .predicted_loss = e.loss, .skipped = true,
                           .n_experts = e.n_tokens, .tokens = e.tokens};
    if (!row->tensor || !row->codec || !row->note) return err_nomem(err, 64);
    double measured = 0; /* a stack's: the mean, where all are known */
    bool known = true;
    for (size_t k = 0; k < item_size(f, first); k++) {
        const fit_tensor *t = &f->tensor[item_member(f, first, k)];
        row->skipped &= t->skipped;
        known &= t->measured >= 0;
        measured += t->measured / (double)item_size(f, first);
    }
    row->measured_error = known ? measured : -1;
    row->bpw = 8.0 * (double)row->bytes / ((double)row->rows * (double)row->cols);
    return SNUG_OK;
}

static snug_err make_report(const fit_job *f, double seconds, snug_fit_report **out, snug_error *err) {
    const config *c = &f->src->cfg;
    snug_fit_report *r = calloc(1, sizeof *r);
    if (!r) return err_nomem(err, sizeof *r);
    *out = r;
    snug_fit_summary *s = &r->summary;
    *s = (snug_fit_summary){.bytes = f->file_bytes, .budget_bytes = f->budget_bytes == UINT64_MAX ? 0 : f->budget_bytes,
                            .source_tensor_bytes = f->src->tensor_bytes, .n_weights = f->src->n_weights,
                            .bpw = 8.0 * (double)f->file_bytes / (double)f->src->n_weights, .ratio = (double)f->file_bytes / (double)f->src->tensor_bytes,
                            .predicted_kl = f->predicted_kl, .seconds = seconds, .peak_rss_bytes = io_peak_rss(),
                            .calib_tokens = f->text.ids ? (uint64_t)f->text.n_seq * f->text.len : 0, .calib = arena_strdup(&r->mem, f->calib.name)};
    r->row = arena_calloc(&r->mem, f->n, sizeof *r->row);
    if (!s->calib || !r->row) return err_nomem(err, f->n * sizeof *r->row);
    for (size_t i = 0; f->expert && i < (size_t)c->n_layers * c->n_experts; i++) {
        if (!layer_experts(c, (int)(i / c->n_experts))) continue;
        s->n_experts++;
        s->n_experts_missed += f->expert[i].tokens < EXPERT_MIN_TOKENS;
    }
    for (size_t i = 0; i < f->n; i++) {
        snug_err rc = item_size(f, i) ? report_item(f, i, &r->mem, &r->row[s->n_rows++], err) : SNUG_OK;
        if (rc != SNUG_OK) return rc;
        s->skipped_tensors += f->tensor[i].skipped;
    }
    s->run_work = budget_run_work(f);
    return budget_run_memory(f, f->file_bytes + budget_run_extra(f), &s->run_memory, err);
}

static snug_err run_job(fit_job *f, snug_error *err) {
    snug_err rc = open_job(f, err);
    if (rc == SNUG_OK && f->p->plan_in) rc = replay(f, err);
    if (rc == SNUG_OK) rc = requantize_warn(f, err);
    if (rc == SNUG_OK) rc = budget_check_least(f, err);
    if (rc == SNUG_OK) rc = order_choose(f, err);
    if (rc == SNUG_OK) rc = journal_open(f, err);
    if (rc == SNUG_OK) rc = make_plan(f, err);
    if (rc == SNUG_OK && f->p->plan_out && cluster_rank() == 0) rc = save_plan(f, err);
    if (rc == SNUG_OK && !f->p->plan_only) rc = encode_all(f, err);
    if (rc == SNUG_OK) rc = journal_finish(f->journal, err);
    return rc;
}

snug_err snug_fit(const snug_fit_params *params, snug_fit_report **out, snug_error *err) {
    double start = clock_seconds();
    fit_job f = {.p = params};
    if (out) *out = NULL;
    snug_err rc = cluster_join(err);
    if (rc == SNUG_OK) rc = run_job(&f, err);
    rc = cluster_leave(rc, err);
    snug_fit_report *report = NULL;
    if (rc == SNUG_OK) rc = make_report(&f, clock_seconds() - start, &report, err);
    if (rc == SNUG_OK) meter_finish(&f.meter);
    if (rc != SNUG_OK || !out) snug_fit_report_destroy(&report);
    if (out) *out = report;
    job_close(&f);
    return rc;
}

const snug_fit_summary *snug_fit_report_summary(const snug_fit_report *report) { return &report->summary; }
const snug_plan_row *snug_fit_report_row(const snug_fit_report *report, size_t i) {
    return i < report->summary.n_rows ? &report->row[i] : NULL;
}

void snug_fit_report_destroy(snug_fit_report **report) {
    if (!report || !*report) return;
    arena_fini(&(*report)->mem);
    free(*report);
    *report = NULL;
}
