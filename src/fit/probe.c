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

enum { ROWS = 16, MATRICES = 3 /* that read an edge: q, k, v */, WIDEST_COARSE = 4096 };
/* Of codes that are rounded one by one, errors rising; tiles that are searched jointly gain less from feedback, and have probes of their own. The
 * first FINE_PROBES have the damping of fine codes, the others that of coarse ones (encode_layers.c). */
enum { INT4, INT2, TRELLIS4, TRELLIS2, TERNARY, TRELLIS1, FINE_PROBES = 4 };
static const char *const probed[FIT_PROBES] = {[INT4] = "int4g64", [INT2] = "int2g64", [TRELLIS4] = "tcq4", [TRELLIS2] = "tcq2", [TERNARY] = "tern34g128", [TRELLIS1] = "tcq1"};

/* Relative errors between two probes: logarithms on a line. Beyond them: the nearest probe's. */
static double between(const fit_probe p[FIT_PROBES], const int *rising, size_t n, double error) {
    size_t i = 0;
    while (i < n && error > p[rising[i]].error) i++;
    if (i == 0 || i == n) return p[rising[i ? n - 1 : 0]].ratio;
    const fit_probe *a = &p[rising[i - 1]], *b = &p[rising[i]];
    if (!(b->error > a->error)) return b->ratio;
    const double x = log(error / a->error) / log(b->error / a->error);
    return exp((1 - x) * log(a->ratio) + x * log(b->ratio));
}

double probe_ratio(const fit_tensor *t, const comp *c, double error) {
    static const int one_by_one[] = {INT4, INT2, TERNARY}, tiles[] = {TRELLIS4, TRELLIS2, TRELLIS1};
    const fit_probe *p = t->probe[solve_basis(c)];
    if (!(error > 0) || !(p[INT4].ratio > 0)) return 1;
    return c->term[c->n_terms - 1].codec->tile_cols > 1 ? between(p, tiles, 3, error) : between(p, one_by_one, 3, error);
}

typedef struct probe_job { /* the matrices of an edge, in one basis */
    fit_job *f;
    fit_tensor *t[MATRICES];
    size_t n, first;
    size_t probe, n_probes; /* those that are at hand */
    const int8_t *exponent; /* (cols) that columns grow by, or NULL */
    const float *whole;     /* (cols): importances of the plain channels, which errors are compared with */
    const float *cost;      /* (cols): what the menus weigh errors with in this basis */
    const hessian *h;
    double damping;         /* what stands in h's diagonal beyond the sums */
    int transform;
    int effort;
    fit_probe *out; /* (n, n_probes) */
    snug_err *rc;
} probe_job;

/* ROWS rows, spread evenly, as the encoder will get them but for powers of two of rows. w2: their weight under `whole`. */
static snug_err read_rows(const probe_job *j, const store_tensor *t, size_t n, float *w, double *w2) {
    *w2 = 0;
    for (size_t r = 0; r < n; r++) {
        float *row = w + r * t->cols;
        snug_err rc = order_rows(j->f, t, (uint64_t)(((double)r + 0.5) * (double)t->rows / (double)n), 1, row, NULL);
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
        j->rc[i] = probe_one(j, j->t[i / j->n_probes]->t, probed[j->probe + i % j->n_probes], &j->out[i]);
}

static snug_err run_probes(probe_job *j, snug_error *err) {
    const size_t tasks = j->n * j->n_probes;
    size_t end;
    fit_probe out[MATRICES * FIT_PROBES] = {{0}};
    snug_err rc[MATRICES * FIT_PROBES] = {0};
    j->out = out;
    j->rc = rc;
    cluster_share(tasks, &j->first, &end);
    thread_for(j->f->threads, end - j->first, 1, probe_tasks, j);
    for (size_t i = j->first; i < end; i++)
        if (rc[i] != SNUG_OK) return err_set(err, rc[i], "%s: probing: %s", j->t[i / j->n_probes]->t->name, snug_err_name(rc[i]));
    snug_err e = cluster_gather(out, tasks, sizeof *out, tasks * sizeof *out, err);
    for (size_t i = 0; i < tasks && e == SNUG_OK; i++) j->t[i / j->n_probes]->probe[j->transform][j->probe + i % j->n_probes] = out[i];
    return e;
}

static snug_err factor_again(fit_job *f, const hessian_sum *sum, double damping, hessian *h, snug_error *err) {
    hessian_close(h);
    return hessian_factor(sum, damping, 0, f->threads, h, err);
}

/* All probes in the job's basis, which the sums are in; h too, with the damping of fine codes. Of wide inputs another factor would take seconds:
 * coarse codes are probed with that one, which shows them a few per cent worse than they will be. */
static snug_err probe_basis(probe_job *j, const hessian_sum *sum, hessian *h, snug_error *err) {
    snug_err rc = SNUG_OK;
    for (size_t probe = 0; probe < FIT_PROBES && rc == SNUG_OK; probe += j->n_probes) {
        j->probe = probe;
        j->n_probes = probe < FINE_PROBES ? FINE_PROBES : FIT_PROBES - FINE_PROBES;
        if (probe && sum->n <= WIDEST_COARSE) rc = factor_again(j->f, sum, FIT_DAMPING_COARSE, h, err);
        j->damping = 0;
        for (size_t k = 0; k < sum->n; k++) j->damping += hessian_sum_diagonal(sum, k) / (double)sum->n * h->damping;
        if (rc == SNUG_OK) rc = run_probes(j, err);
    }
    for (size_t i = 0; i < j->n && rc != SNUG_OK; i++) memset(j->t[i]->probe[j->transform], 0, sizeof j->t[i]->probe[j->transform]); /* all or none */
    return rc;
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
            hessian_sum_transform(sum, j.transform, f->threads);
            rc = factor_again(f, sum, FIT_DAMPING, h, err);
            solve_spread(n, cost, true, cost);
        }
        if (rc == SNUG_OK) rc = probe_basis(&j, sum, h, err);
    }
    free(whole);
    free(cost);
    return rc == SNUG_ERR_NUMERIC ? SNUG_OK : rc; /* not to be factored in this basis: the encoder will not have feedback there either */
}
