/* Export: any model as a GGUF that llama.cpp runs. What GGUF knows is copied; what it does not is rounded a second time, and said to be. */
#include "fit/fit.h"

#include "base/err.h"
#include "base/thread.h"

#include <stdlib.h>
#include <string.h>

enum { COMPARED_ROWS = 64 };

static double bytes_a_row(const fit_tensor *t) { return (double)t->menu.cand->bytes / (double)t->t->rows; }

/* Several tensors that are one in the file have one type: the largest that one of them needs. */
static snug_err level_items(fit_job *f, snug_error *err) {
    snug_err rc = SNUG_OK;
    for (size_t i = 0; i < f->n; i++) {
        size_t most = i;
        const size_t n = item_size(f, i);
        for (size_t k = 0; k < n; k++)
            if (bytes_a_row(&f->tensor[item_member(f, i, k)]) > bytes_a_row(&f->tensor[most])) most = item_member(f, i, k);
        for (size_t k = 0; k < n && n > 1 && rc == SNUG_OK; k++) rc = menu_single(f, item_member(f, i, k), &f->tensor[most].menu.cand->comp, 0, "", err);
    }
    return rc;
}

/* ---- what was rounded a second time ---- */

/* Matrices that were rounded already and have been again: of one codec, to one type. */
typedef struct again { const char *from; const comp *to; size_t n; double sum, worst; const char *worst_name; } again;

static bool is_exact(const store_tensor *t) {
    for (uint32_t k = 0; k < t->n_terms; k++)
        if (!(t->term[k].codec->caps & CODEC_LOSSLESS)) return false;
    return t->n_terms == 1;
}

static bool is_again(const fit_job *f, const fit_tensor *t) {
    const comp *c = &t->menu.cand->comp;
    return t->matrix && !is_exact(t->t) && !menu_is_copy(f, t->t, c) && !(c->term[0].codec->caps & CODEC_LOSSLESS);
}

/* |w - w_made|^2 / |w|^2 over a spread of rows. */
static snug_err compare(const store *from, const store *made, const store_tensor *t, double *error, snug_error *err) {
    const store_tensor *m = t->expert == EXPERT_NONE ? store_find(made, t->role, t->layer) : store_expert(made, t->role, t->layer, t->expert);
    const size_t n = t->rows < COMPARED_ROWS ? t->rows : COMPARED_ROWS;
    float *w = malloc(2 * t->cols * sizeof *w), *w_made = w + t->cols;
    double e2 = 0, w2 = 0;
    snug_err rc = w ? SNUG_OK : err_nomem(err, 2 * t->cols * sizeof *w);
    for (size_t r = 0; r < n && rc == SNUG_OK; r++) {
        rc = store_read_rows(from, t, r * t->rows / n, 1, w, err);
        if (rc == SNUG_OK) rc = store_read_rows(made, m, r * t->rows / n, 1, w_made, err);
        for (size_t j = 0; j < t->cols && rc == SNUG_OK; j++) {
            const double e = (double)w[j] - w_made[j];
            e2 += e * e;
            w2 += (double)w[j] * w[j];
        }
    }
    *error = w2 > 0 ? e2 / w2 : 0;
    free(w);
    return rc;
}

static void count_again(again *list, size_t *n, const fit_tensor *t, double error) {
    const comp *to = &t->menu.cand->comp;
    size_t i = 0;
    while (i < *n && (!comp_equal(list[i].to, to) || strcmp(list[i].from, t->t->codec_name) != 0)) i++;
    if (i == *n) list[(*n)++] = (again){.from = t->t->codec_name, .to = to, .worst = -1};
    list[i].n++;
    list[i].sum += error;
    if (error > list[i].worst) list[i].worst = error, list[i].worst_name = t->t->name;
}

/* Warns of it, with what the file that was just written lost beside its source, and says what loses less. */
static snug_err tell_rounded(fit_job *f, snug_error *err) {
    store *made = NULL;
    size_t n = 0;
    char text[320];
    again *list = calloc(f->n, sizeof *list);
    snug_err rc = list ? store_open(f->p->output, false, &made, err) : err_nomem(err, f->n * sizeof *list);
    for (size_t i = 0; i < f->n && rc == SNUG_OK; i++) {
        double error;
        if (!is_again(f, &f->tensor[i])) continue;
        rc = compare(f->src, made, f->tensor[i].t, &error, err);
        if (rc == SNUG_OK) count_again(list, &n, &f->tensor[i], error);
    }
    for (size_t i = 0; i < n && rc == SNUG_OK; i++) {
        const again *a = &list[i];
        char to[COMP_NAME_MAX];
        comp_format(a->to, to);
        snprintf(text, sizeof text, "%zu matri%s of %s rounded a second time, to %s: relative error %.2g on top (most in %s: %.2g)", a->n, a->n == 1 ? "x" : "ces", a->from, to,
                 a->sum / (double)a->n, a->worst_name, a->worst);
        rc = meter_warn(&f->meter, text, err);
    }
    if (n && rc == SNUG_OK) rc = meter_warn(&f->meter, "less is lost in one step, from the source: snug fit SRC -o OUT.gguf --for gguf", err);
    store_close(&made);
    free(list);
    return rc;
}

/* ---- the export ---- */

/* Any model as a plain GGUF: native tensors as they are, others in the smallest native type whose rate is not below theirs. */
static snug_err export_job(fit_job *f, snug_error *err) {
    uint64_t weights = 0;
    f->threads = f->p->threads > 0 ? f->p->threads : thread_default_count();
    f->plain = true;
    f->budget_bytes = UINT64_MAX;
    meter_init(&f->meter, f->p->progress);
    snug_err rc = store_open(f->p->source, true, &f->src, err);
    if (rc != SNUG_OK) return rc;
    f->tok = f->src->tok;
    if ((rc = job_list(f, err)) != SNUG_OK || (rc = artifact_prepare(f, err)) != SNUG_OK) return rc;
    for (size_t i = 0; i < f->n && rc == SNUG_OK; i++) {
        fit_tensor *t = &f->tensor[i];
        weights += t->t->rows * t->t->cols;
        comp c = menu_source_comp(t->t);
        if (!t->matrix) rc = menu_vector(f, i, err);
        else if (artifact_is_native(&c, t->t->cols) || menu_native(f, &c, t->t, &c)) rc = menu_single(f, i, &c, 0, "", err);
        else rc = err_set(err, SNUG_ERR_UNSUPPORTED, "%s: no GGUF type fits its %llu columns", t->t->name, (unsigned long long)t->t->cols);
    }
    if (rc == SNUG_OK) rc = level_items(f, err);
    if (rc == SNUG_OK) rc = journal_open(f, err);
    f->stage_encode = meter_add(&f->meter, "encode", "weights", weights, 1);
    if (rc == SNUG_OK) rc = encode_all(f, err);
    if (rc == SNUG_OK) rc = tell_rounded(f, err);
    if (rc == SNUG_OK) meter_finish(&f->meter);
    return rc;
}

snug_err snug_export(const char *model, const char *output, int threads, snug_progress progress, snug_error *err) {
    if (!model || !output) return err_set(err, SNUG_ERR_ARG, "export needs a model and an output");
    snug_fit_params p = {.source = model, .output = output, .target = SNUG_FOR_GGUF, .effort = SNUG_EFFORT_NORMAL, .threads = threads, .progress = progress};
    fit_job f = {.p = &p};
    snug_err rc = export_job(&f, err);
    job_close(&f);
    return rc;
}
