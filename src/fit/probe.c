/* Probes: what feedback makes of an error.
 *
 * A menu weighs the errors of rounding to nearest with D, what of an input's variance later inputs leave unexplained. That is what feedback
 * ends with as long as what it feeds is small beside the weights. Coarse codes are told to make up for errors as large as the weights
 * themselves, and end above it (ternary and pruned ones several times); fine ones end below it, because sweeps see what is behind them too.
 * So, while an edge's second moments are at hand, a few rows of each matrix are encoded with a few codecs as the encoder will do it, and
 * the menus' errors are multiplied by what was found, interpolated by their size. */
#include "fit/forward.h"

#include "base/checked.h"
#include "base/cluster.h"
#include "base/err.h"
#include "base/thread.h"
#include "codec/transform.h"
#include "solve/solve.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 16, MATRICES = 3 /* that read an edge: q, k, v */ };
static const char *const probed[FIT_PROBES] = {"int4g64", "int2g64", "tern34g128"}; /* rising errors */

/* Relative errors between two probes: logarithms on a line. Beyond them: the nearest probe's. */
double probe_ratio(const fit_tensor *t, int transform, double error) {
    const fit_probe *p = t->probe[transform];
    if (!(error > 0) || !(p[0].ratio > 0)) return 1;
    size_t i = 0;
    while (i < FIT_PROBES && error > p[i].error) i++;
    if (i == 0 || i == FIT_PROBES) return p[i ? FIT_PROBES - 1 : 0].ratio;
    if (!(p[i].error > p[i - 1].error)) return p[i].ratio;
    const double x = log(error / p[i - 1].error) / log(p[i].error / p[i - 1].error);
    return exp((1 - x) * log(p[i - 1].ratio) + x * log(p[i].ratio));
}

typedef struct probe_job { /* the matrices of an edge, in one basis */
    fit_job *f;
    fit_tensor *t[MATRICES];
    size_t n, first;
    const int8_t *exponent; /* (cols) that columns grow by, or NULL */
    const float *whole;     /* (cols): importances of the plain channels, which errors are compared with */
    const float *cost;      /* (cols): what the menus weigh errors with in this basis */
    const hessian *h;
    double damping;         /* what stands in h's diagonal beyond the sums */
    int transform;
    int effort;
    fit_probe *out; /* (n, FIT_PROBES) */
    snug_err *rc;
} probe_job;

/* ROWS rows, spread evenly, as the encoder will get them but for powers of two of rows. w2: their weight under `whole`. */
static snug_err read_rows(const probe_job *j, const store_tensor *t, size_t n, float *w, double *w2) {
    *w2 = 0;
    for (size_t r = 0; r < n; r++) {
        float *row = w + r * t->cols;
        snug_err rc = store_read_rows(j->f->src, t, (uint64_t)(((double)r + 0.5) * (double)t->rows / (double)n), 1, row, NULL);
        if (rc != SNUG_OK) return rc;
        for (size_t c = 0; c < t->cols; c++) {
            row[c] = j->exponent ? ldexpf(row[c], j->exponent[c]) : row[c];
            *w2 += (double)j->whole[c] * row[c] * row[c];
        }
        transform_apply(j->transform, t->cols, row, row);
    }
    return SNUG_OK;
}

/* The rows' loss, without what damping adds; e is w on entry, w_hat goes away. */
static snug_err true_loss(const probe_job *j, size_t n, size_t cols, float *e, const float *w_hat, double *out) {
    double loss[ROWS], square = 0;
    for (size_t i = 0; i < n * cols; i++) e[i] -= w_hat[i], square += (double)e[i] * e[i];
    snug_err rc = hessian_loss(j->h, e, cols, n, loss, NULL);
    *out = -j->damping * square;
    for (size_t r = 0; r < n && rc == SNUG_OK; r++) *out += loss[r];
    return rc;
}

static snug_err probe_one(const probe_job *j, const store_tensor *t, const char *name, fit_probe *out) {
    const size_t n = t->rows < ROWS ? t->rows : ROWS, cols = t->cols;
    comp c;
    comp_parse(name, &c);
    const comp_term *ct = &c.term[0];
    float *w = malloc(n * cols * sizeof *w), *w_hat = malloc(n * cols * sizeof *w_hat);
    uint8_t *dst = malloc(ct->codec->bytes(ct->params, n, cols));
    double whole, nearest, norm2, fed;
    snug_err rc = w && w_hat && dst ? read_rows(j, t, n, w, &whole) : SNUG_ERR_NOMEM;
    if (rc == SNUG_OK) rc = solve_error(&c, w, cols, n, cols, j->cost, j->effort, &nearest, &norm2, NULL);
    if (rc == SNUG_OK) rc = solve_ldlq(WT_ROWS, ct->codec, ct->params, w, cols, n, cols, j->h, j->effort, dst, w_hat, NULL);
    if (rc == SNUG_OK) rc = true_loss(j, n, cols, w, w_hat, &fed);
    if (rc == SNUG_OK && whole > 0 && nearest > 0 && fed > 0) *out = (fit_probe){nearest / whole, fed / nearest};
    free(w);
    free(w_hat);
    free(dst);
    return rc == SNUG_ERR_NUMERIC ? SNUG_OK : rc; /* the menus tell of weights that are no numbers */
}

static void probe_tasks(void *user, size_t begin, size_t end, int worker) {
    const probe_job *j = user;
    for (size_t i = j->first + begin; i < j->first + end; i++)
        j->rc[i] = probe_one(j, j->t[i / FIT_PROBES]->t, probed[i % FIT_PROBES], &j->out[i]);
}

static snug_err probe_basis(probe_job *j, snug_error *err) {
    const size_t tasks = j->n * FIT_PROBES;
    size_t end;
    fit_probe out[MATRICES * FIT_PROBES] = {{0}};
    snug_err rc[MATRICES * FIT_PROBES] = {0};
    j->out = out;
    j->rc = rc;
    cluster_share(tasks, &j->first, &end);
    thread_for(j->f->threads, end - j->first, 1, probe_tasks, j);
    for (size_t i = j->first; i < end; i++)
        if (rc[i] != SNUG_OK) return err_set(err, rc[i], "%s: probing: %s", j->t[i / FIT_PROBES]->t->name, snug_err_name(rc[i]));
    snug_err e = cluster_gather(out, tasks, sizeof *out, tasks * sizeof *out, err);
    for (size_t i = 0; i < tasks && e == SNUG_OK; i++) j->t[i / FIT_PROBES]->probe[j->transform][i % FIT_PROBES] = out[i];
    return e;
}

/* Importances and D as importance.c gives them to the menus, of one basis. */
static void costs(const hessian_sum *sum, const hessian *h, float *whole, float *cost) {
    double mean = 0;
    for (size_t j = 0; j < h->n; j++) mean += hessian_sum_diagonal(sum, j) / (double)h->n;
    for (size_t j = 0; j < h->n; j++) {
        whole[j] = (float)fmax(hessian_sum_diagonal(sum, j) / mean, 1e-3) * (float)mean;
        cost[j] = (float)fmax((double)h->d[j], 1e-6 * mean);
    }
}

snug_err probe_edge(fit_job *f, int layer, graph_edge edge, int expert, hessian_sum *sum, hessian *h, const int8_t *exponent, snug_error *err) {
    const int l = edge == EDGE_HEAD_IN ? -1 : layer;
    const size_t n = sum->n;
    float *whole = malloc(n * sizeof *whole), *cost = malloc(n * sizeof *cost);
    snug_err rc = whole && cost ? SNUG_OK : err_nomem(err, n * sizeof *whole);
    probe_job j = {.f = f, .effort = f->p->effort, .exponent = exponent, .whole = whole, .cost = cost, .h = h};
    for (size_t i = 0; i < f->n && j.n < MATRICES; i++)
        if (fit_reads(&f->tensor[i], l, edge, expert)) j.t[j.n++] = &f->tensor[i];
    if (rc == SNUG_OK) costs(sum, h, whole, cost);
    for (; j.transform < TRANSFORM_COUNT && rc == SNUG_OK && j.n; j.transform++) {
        if (!transform_takes(j.transform, n)) continue;
        if (j.transform != TRANSFORM_NONE) {
            hessian_close(h);
            hessian_sum_transform(sum, j.transform, f->threads);
            rc = hessian_factor(sum, FIT_DAMPING, 0, f->threads, h, err);
            solve_spread(n, cost, true, cost);
        }
        j.damping = 0;
        for (size_t k = 0; k < n; k++) j.damping += hessian_sum_diagonal(sum, k) / (double)n * h->damping;
        if (rc == SNUG_OK) rc = probe_basis(&j, err);
    }
    free(whole);
    free(cost);
    return rc == SNUG_ERR_NUMERIC ? SNUG_OK : rc; /* not to be factored in this basis: the encoder will not have feedback there either */
}
