/* The statistics of edges as they are kept: in memory for all layers, in the journal (and from there in the cache) layer by layer, those of
 * experts each in a record of its own. Numbers travel as exact bits. */
#include "fit/forward.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

static fit_edge *edge_at(const fit_job *f, int layer, int e) { return fit_edge_at(f, layer, (graph_edge)e, EXPERT_NONE); }

bool edges_has(const config *c, int layer, graph_edge e) {
    if (layer == (int)c->n_layers || e == EDGE_HEAD_IN) return layer == (int)c->n_layers && e == EDGE_HEAD_IN;
    if (e == EDGE_Q_LATENT || e == EDGE_KV_LATENT) return edge_cols(c, layer, e, EXPERT_NONE) > 0;
    if (e == EDGE_FFN_IN) return c->n_ff > 0;
    return e != EDGE_FFN_MID || layer_width(c, layer, EXPERT_NONE) > 0;
}

static snug_err alloc_edge(fit_job *f, fit_edge *to, size_t cols, snug_error *err) {
    to->square = arena_calloc(&f->mem, cols, sizeof(double));
    to->left = f->feedback ? arena_calloc(&f->mem, cols, sizeof(double)) : NULL;
    return to->square && (to->left || !f->feedback) ? SNUG_OK : err_nomem(err, 2 * cols * sizeof(double));
}

snug_err edges_open(fit_job *f, snug_error *err) {
    const config *c = &f->src->cfg;
    f->edge = arena_calloc(&f->mem, (size_t)(c->n_layers + 1) * EDGE_COUNT, sizeof *f->edge);
    const size_t n_experts = (size_t)c->n_layers * c->n_experts;
    f->expert = n_experts ? arena_calloc(&f->mem, n_experts, sizeof *f->expert) : NULL;
    if (!f->edge || (n_experts && !f->expert)) return err_nomem(err, n_experts * sizeof *f->expert);
    snug_err rc = SNUG_OK;
    for (int l = 0; l <= (int)c->n_layers; l++)
        for (int e = 0; e < EDGE_COUNT && rc == SNUG_OK; e++)
            if (edges_has(c, l, (graph_edge)e)) rc = alloc_edge(f, edge_at(f, l, e), edge_cols(c, l, (graph_edge)e, EXPERT_NONE), err);
    for (size_t i = 0; i < n_experts && rc == SNUG_OK; i++) {
        if (!layer_experts(c, (int)(i / c->n_experts))) continue;
        rc = alloc_edge(f, &f->expert[i].in, c->n_embd, err);
        if (rc == SNUG_OK) rc = alloc_edge(f, &f->expert[i].mid, c->n_ff, err);
    }
    return rc;
}

static bool load_list(const json_t *list, int e, double *to, size_t n) {
    return !to || journal_get_doubles(json_array_get(list, (size_t)e), to, n);
}

/* The probes of a layer's matrices, or one expert's, in their order, as one list. */
static size_t layer_probes(fit_job *f, int layer, int expert, double *list, bool set) {
    const int l = layer == (int)f->src->cfg.n_layers ? -1 : layer;
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++) {
        fit_tensor *t = &f->tensor[i];
        if (!t->matrix || t->t->layer != l || t->t->expert != expert) continue;
        for (size_t k = 0; k < TRANSFORM_COUNT * FIT_PROBES; k++, n += 2) {
            fit_probe *p = &t->probe[k / FIT_PROBES][k % FIT_PROBES];
            if (set) *p = (fit_probe){list[n], list[n + 1]};
            else if (list) list[n] = p->error, list[n + 1] = p->ratio;
        }
    }
    return n;
}

static bool load_probes(fit_job *f, int layer, int expert, const json_t *from) {
    const size_t n = layer_probes(f, layer, expert, NULL, false);
    double *list = calloc(n + 1, sizeof *list);
    const bool ok = list && journal_get_doubles(from, list, n);
    if (ok) layer_probes(f, layer, expert, list, true);
    free(list);
    return ok;
}

static json_t *save_probes(fit_job *f, int layer, int expert) {
    const size_t n = layer_probes(f, layer, expert, NULL, false);
    double *list = calloc(n + 1, sizeof *list);
    if (list) layer_probes(f, layer, expert, list, false);
    json_t *out = list ? journal_doubles(list, n) : json_null();
    free(list);
    return out;
}

/* One expert's record: numbers in a row. */
static size_t expert_numbers(const fit_job *f, fit_expert *x, double *list, bool set) {
    const config *c = &f->src->cfg;
    double *const part[] = {x->in.square, x->in.left, x->mid.square, x->mid.left, &x->tokens, &x->energy};
    const size_t size[] = {c->n_embd, c->n_embd, c->n_ff, c->n_ff, 1, 1};
    size_t n = 0;
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        if (!part[i]) continue;
        if (list) memcpy(set ? part[i] : list + n, set ? list + n : part[i], size[i] * sizeof *list);
        n += size[i];
    }
    return n;
}

int64_t edges_expert_index(const fit_job *f, int layer, int expert) { return (int64_t)layer * f->src->cfg.n_experts + expert; }

static bool load_expert(fit_job *f, int layer, int expert) {
    const int64_t i = edges_expert_index(f, layer, expert);
    const json_t *known = journal_find(f->journal, "expert", i);
    const size_t n = expert_numbers(f, &f->expert[i], NULL, false);
    double *list = known ? malloc(n * sizeof *list) : NULL;
    bool ok = list && journal_get_doubles(json_object_get(known, "numbers"), list, n) && load_probes(f, layer, expert, json_object_get(known, "probe"));
    if (ok) expert_numbers(f, &f->expert[i], list, true);
    free(list);
    return ok;
}

snug_err edges_save_expert(fit_job *f, int layer, int expert, snug_error *err) {
    const int64_t i = edges_expert_index(f, layer, expert);
    const size_t n = expert_numbers(f, &f->expert[i], NULL, false);
    double *list = malloc(n * sizeof *list);
    if (!list) return err_nomem(err, n * sizeof *list);
    expert_numbers(f, &f->expert[i], list, false);
    json_t *numbers = journal_doubles(list, n);
    free(list);
    return journal_put(f->journal, "expert", i, json_pack("{s:o, s:o}", "numbers", numbers, "probe", save_probes(f, layer, expert)), err);
}

bool edges_load(fit_job *f, int layer) {
    const json_t *known = journal_find(f->journal, "edges", layer), *square = json_object_get(known, "square"), *left = json_object_get(known, "left");
    if (json_array_size(square) != EDGE_COUNT || json_array_size(left) != EDGE_COUNT || !load_probes(f, layer, EXPERT_NONE, json_object_get(known, "probe"))) return false;
    for (int x = 0; f->expert && layer < (int)f->src->cfg.n_layers && x < (int)layer_experts(&f->src->cfg, layer); x++)
        if (!load_expert(f, layer, x)) return false;
    for (int e = 0; e < EDGE_COUNT; e++) {
        const fit_edge *to = edge_at(f, layer, e);
        size_t n = edge_cols(&f->src->cfg, layer, (graph_edge)e, EXPERT_NONE);
        if (!load_list(square, e, to->square, n) || !load_list(left, e, to->left, n)) return false;
    }
    return true;
}

snug_err edges_save(fit_job *f, int layer, uint64_t state_hash, snug_error *err) {
    json_t *square = json_array(), *left = json_array();
    for (int e = 0; e < EDGE_COUNT; e++) {
        const fit_edge *from = edge_at(f, layer, e);
        size_t n = edge_cols(&f->src->cfg, layer, (graph_edge)e, EXPERT_NONE);
        json_array_append_new(square, from->square ? journal_doubles(from->square, n) : json_string(""));
        json_array_append_new(left, from->left ? journal_doubles(from->left, n) : json_string(""));
    }
    return journal_put(f->journal, "edges", layer, json_pack("{s:o, s:o, s:o, s:o}", "square", square, "left", left, "probe", save_probes(f, layer, EXPERT_NONE), "state",
                       json_sprintf("%016llx", (unsigned long long)state_hash)), err);
}
