/* Importances: what each input column of a weight counts for, the mean square of the activations that it multiplies.
 *
 * From an imatrix where it has the tensor, else from the calibration statistics of the tensor's input edge (q, k and v share
 * one, gate and up too). The embedding is looked up, not multiplied: its columns count alike as an input; where it is the head as
 * well, the head's edge counts for half.
 *
 * Where matrices are encoded with error feedback, what a column's error costs in the end is D of the factored second moments: the part of
 * its input that later columns cannot make up for. Menus weigh errors with that, and compare them with the weight's whole importance. */
#include "fit/fit.h"

#include "base/err.h"
#include "codec/transform.h"
#include "solve/solve.h"

#include <math.h>

static snug_err from_edge(fit_job *f, fit_tensor *t, const fit_edge *edge, double share, snug_error *err) {
    uint64_t cols = t->t->cols;
    bool feedback = edge->left && share == 1;
    float *a = arena_calloc(&f->mem, cols, sizeof *a), *left = feedback ? arena_calloc(&f->mem, cols, sizeof *left) : NULL;
    if (!a || (feedback && !left)) return err_nomem(err, cols * sizeof *a);
    double mean = 0;
    for (uint64_t j = 0; j < cols; j++) mean += edge->square[j] / (double)cols;
    if (!(mean > 0) || !isfinite(mean)) return SNUG_OK; /* says nothing */
    for (uint64_t j = 0; j < cols; j++) {
        /* A column that calibration hardly used still must not be ruined: 1/1000 of the mean is the least. */
        a[j] = (float)(share * fmax(edge->square[j] / mean, 1e-3) + (1 - share));
        if (left) left[j] = (float)fmax(edge->left[j] / mean, 1e-6);
    }
    t->importance = a;
    t->unexplained = left;
    return SNUG_OK;
}

/* Of transformed channels nothing is kept; what is known of the plain ones says enough (solve_spread). */
static snug_err spread(fit_job *f, fit_tensor *t, snug_error *err) {
    const uint64_t cols = t->t->cols;
    if (!t->importance || !transform_takes(TRANSFORM_HADAMARD, cols)) return SNUG_OK;
    float *a = arena_alloc(&f->mem, cols * sizeof *a), *left = arena_alloc(&f->mem, cols * sizeof *left);
    if (!a || !left) return err_nomem(err, 2 * cols * sizeof *a);
    solve_spread(cols, t->importance, false, a);
    t->spread_importance = a;
    if (!t->unexplained) return SNUG_OK;
    solve_spread(cols, t->unexplained, true, left);
    t->spread_unexplained = left;
    return SNUG_OK;
}

const float *importance_in(const fit_tensor *t, int transform) { return transform ? t->spread_importance : t->importance; }

const float *unexplained_in(const fit_tensor *t, int transform) {
    const float *left = transform ? t->spread_unexplained : t->unexplained;
    return left ? left : importance_in(t, transform);
}

static snug_err set_plain(fit_job *f, snug_error *err) {
    for (size_t i = 0; i < f->n; i++) {
        fit_tensor *t = &f->tensor[i];
        if (!t->matrix) continue;
        if (f->imatrix) {
            snug_err rc = imatrix_find(f->imatrix, t->t->name, t->t->cols, &t->importance, err);
            if (rc != SNUG_OK) return rc;
            if (t->importance) continue;
        }
        if (!f->edge) continue;
        bool tied = t->t->role == ROLE_EMBD && f->src->cfg.tied;
        graph_edge edge = tied ? EDGE_HEAD_IN : role_edge(t->t->role);
        if (edge == EDGE_COUNT) continue;
        const fit_edge *e = fit_edge_at(f, edge == EDGE_HEAD_IN ? (int)f->src->cfg.n_layers : t->t->layer, edge, t->t->expert);
        snug_err rc = e->square ? from_edge(f, t, e, tied ? 0.5 : 1.0, err) : SNUG_OK;
        if (rc != SNUG_OK) return rc;
    }
    return SNUG_OK;
}

snug_err importance_set(fit_job *f, snug_error *err) {
    snug_err rc = set_plain(f, err);
    for (size_t i = 0; i < f->n && rc == SNUG_OK; i++)
        if (f->tensor[i].matrix) rc = spread(f, &f->tensor[i], err);
    return rc;
}
