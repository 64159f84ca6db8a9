/* The budget: from what the user said to a number of file bytes, and from menus to choices whose file has no byte more.
 *
 * The file is header + data. Data sizes are the candidates' own; of the header only the list of codec names and 1 byte per
 * payload depend on the choices. So the knapsack runs on the data bytes under budget - overhead, the file's true size is laid out,
 * and where the names of more codecs made it too large, the overhead is raised by just that much and the knapsack runs again. */
#include "fit/fit.h"

#include "base/checked.h"
#include "base/err.h"
#include "codec/transform.h"
#include "run/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_ROUNDS = 32 };
#define TRANSFORM_ADD 3.0 /* an addition of a transform beside a multiply-add of a matrix, in time (bench/RESULTS.md) */
#define TIME_PRICE 0.25   /* loss, as a share of it, for a share of a matrix' time */
#define DECODE_PRICE 0.015 /* the same for each further time that a code's multiplication takes: small, for bytes are what a budget is about */
/* The share of the budget that a plan may leave unspent where the menus allow, in thousandths. GGUF types are fewer. */
enum { MAX_UNSPENT = 4, MAX_UNSPENT_GGUF = 28 };

snug_err budget_too_small(const fit_job *f, uint64_t least_bytes, snug_error *err) {
    char budget[ERR_SIZE_MAX], least[ERR_SIZE_MAX];
    err_size(f->budget_bytes, budget);
    err_size(least_bytes, least);
    if (f->p->ram_bytes && f->budget_bytes == f->run_budget_bytes) { /* memory is the less of what was named */
        snug_memory m;
        snug_err rc = budget_run_memory(f, least_bytes, &m, err);
        if (rc != SNUG_OK) return rc;
        char ram[ERR_SIZE_MAX], total[ERR_SIZE_MAX];
        err_size(f->p->ram_bytes, ram);
        err_size(m.total_bytes, total);
        return err_set(err, SNUG_ERR_BUDGET,
                       "%s does not fit into %s (%llu bytes) of memory at %u positions: the least that works is %llu bytes (%s)", f->src->path, ram,
                       (unsigned long long)f->p->ram_bytes, f->p->n_ctx, (unsigned long long)m.total_bytes, total);
    }
    return err_set(err, SNUG_ERR_BUDGET, "%s does not fit into %llu bytes (%s): the least that works is %llu bytes (%s)", f->src->path,
                   (unsigned long long)f->budget_bytes, budget, (unsigned long long)least_bytes, least);
}

/* The largest matmul scratch that a choice can need: of all candidates before there is a choice. */
static size_t matmul_scratch(const fit_job *f, uint32_t batch) {
    size_t most = 0;
    for (size_t i = 0; i < f->n; i++) {
        const menu *m = &f->tensor[i].menu;
        for (size_t k = 0; f->tensor[i].matrix && k < m->n; k++) {
            size_t need = run_comp_scratch(&m->cand[k].comp, m->rows, m->cols, batch);
            if (need > most) most = need;
        }
    }
    return most;
}

static bool reads_transforms(const fit_job *f) {
    for (size_t i = 0; i < f->n; i++)
        for (size_t k = 0; k < f->tensor[i].menu.n; k++)
            if (comp_reads(&f->tensor[i].menu.cand[k].comp, TRANSFORM_HADAMARD)) return true;
    return false;
}

/* By the same sums as snug_context_memory, for a context of one sequence with this machine's default threads (not the fit's own:
 * the output must not depend on those). */
snug_err budget_run_memory(const fit_job *f, uint64_t file_bytes, snug_memory *out, snug_error *err) {
    snug_context_params p = run_params(&f->src->cfg, &(snug_context_params){.n_ctx = f->p->n_ctx});
    size_t n_partial = 0;
    for (size_t i = 0; i < f->n; i++) n_partial += f->tensor[i].matrix && f->tensor[i].t->rows % KERN_PANEL_ROWS;
    uint64_t slack = f->p->target == SNUG_FOR_GGUF ? loaded_slack(file_bytes, n_partial) : 0; /* snug's own files are mapped and stay so */
    run_sizes sizes = {.weights_bytes = round_up(file_bytes, 4096) + slack, .metadata_bytes = f->kvs.bytes.len + f->packed_kvs.len + f->packed_bytes + f->n * 160,
                       .transforms = reads_transforms(f), .matmul_scratch_bytes = matmul_scratch(f, p.max_batch)};
    return run_memory(&f->src->cfg, &sizes, &p, out, err);
}

/* What a payload that is run in another form takes beyond its bytes; *source: these bytes, 0 where it is run as it stands. */
static uint64_t extra_of(const comp *c, uint64_t rows, uint64_t cols, uint64_t *source) {
    uint64_t sum = *source = 0;
    for (uint32_t i = 0; i < c->n_terms; i++) {
        const snug_codec *codec = c->term[i].codec;
        const wt w = {.codec = codec, .params = c->term[i].params, .rows = rows, .cols = cols, .bytes = codec->bytes(c->term[i].params, rows, cols), .layout = WT_PANELS};
        const uint64_t panels = codec->panel_bytes ? codec->panel_bytes(&w) : 0;
        if (panels) *source += w.bytes;
        sum += panels > w.bytes ? panels - w.bytes + 64 : 0;
    }
    return sum;
}

uint64_t budget_run_extra(const fit_job *f) {
    uint64_t sum = 0, sources = 0, source;
    for (size_t i = 0; i < f->n && f->p->target != SNUG_FOR_GGUF; i++) {
        const fit_tensor *t = &f->tensor[i];
        if (!t->matrix) continue;
        sum += extra_of(&t->menu.cand[t->choice].comp, t->menu.rows, t->menu.cols, &source);
        sources += source;
    }
    return sum + loaded_slack(sources, 0);
}

/* What the choices take of the budget. */
static uint64_t taken(const fit_job *f) { return f->file_bytes + (f->by_run ? budget_run_extra(f) : 0); }
static uint64_t taken_by(const fit_job *f, const menu *m, const cand *c) {
    uint64_t source;
    return c->bytes + (f->by_run && m->rows ? extra_of(&c->comp, m->rows, m->cols, &source) : 0);
}

/* Whose activations a matrix reads. The embedding's are those of a tied head. */
static bool same_edge(const fit_job *f, const store_tensor *t, const store_tensor *u) {
    const graph_edge head = f->src->cfg.tied ? EDGE_HEAD_IN : EDGE_COUNT;
    const graph_edge e = t->role == ROLE_EMBD ? head : role_edge(t->role), g = u->role == ROLE_EMBD ? head : role_edge(u->role);
    return e == g && t->layer == u->layer && t->expert == u->expert;
}

/* Is a matrix before tensor i, which reads the same, turned too? A layer's tensors stand together. */
static bool turned_before(const fit_job *f, size_t i) {
    const store_tensor *t = f->tensor[i].t;
    for (size_t k = i; k-- > 0 && (t->layer < 0 || f->tensor[k].t->layer == t->layer);) {
        const fit_tensor *u = &f->tensor[k];
        if (u->matrix && same_edge(f, u->t, t) && comp_reads(&u->menu.cand[u->choice].comp, TRANSFORM_HADAMARD)) return true;
    }
    return false;
}

/* A row of an embedding that is transformed comes back as it goes. A token reads some of a layer's experts. */
snug_work budget_run_work(const fit_job *f) {
    const config *c = &f->src->cfg;
    double multiply = 0, turn = 0;
    for (size_t i = 0; i < f->n; i++) {
        const fit_tensor *t = &f->tensor[i];
        if (!t->matrix) continue;
        const bool turned = comp_reads(&t->menu.cand[t->choice].comp, TRANSFORM_HADAMARD), looked_up = t->t->role == ROLE_EMBD;
        const bool multiplied = looked_up ? c->tied : t->t->role != ROLE_HEAD || !c->tied;
        const double share = t->t->expert == EXPERT_NONE ? 1 : (double)c->n_experts_used / c->n_experts;
        const bool first = turned && multiplied && !turned_before(f, i); /* of its edge */
        multiply += share * (multiplied ? (double)t->t->rows * (double)t->t->cols : 0);
        turn += share * (double)((first + (turned && looked_up)) * transform_adds(TRANSFORM_HADAMARD, t->t->cols));
    }
    return (snug_work){.multiply_adds = (uint64_t)(multiply + 0.5), .transform_adds = (uint64_t)(turn + 0.5)};
}

snug_err budget_resolve(fit_job *f, snug_error *err) {
    const snug_fit_params *p = f->p;
    int named = (p->size_bytes != 0) + (p->bpw != 0) + (p->ratio != 0);
    if (named > 1) return err_set(err, SNUG_ERR_ARG, "size, bpw and ratio name the same thing; give one of them");
    if (p->bpw < 0 || p->ratio < 0 || isnan(p->bpw) || isnan(p->ratio) || p->bpw > 1000 || p->ratio > 100)
        return err_set(err, SNUG_ERR_ARG, "the budget is no sensible number: bpw %g, ratio %g", p->bpw, p->ratio);
    f->budget_bytes = f->run_budget_bytes = UINT64_MAX;
    if (p->size_bytes) f->budget_bytes = p->size_bytes;
    if (p->bpw > 0) f->budget_bytes = (uint64_t)(p->bpw * (double)f->src->n_weights / 8);
    if (p->ratio > 0) f->budget_bytes = (uint64_t)(p->ratio * (double)f->src->tensor_bytes);
    if (p->ram_bytes) {
        snug_memory m;
        snug_err rc = budget_run_memory(f, 0, &m, err);
        if (rc != SNUG_OK) return rc;
        uint64_t left = p->ram_bytes > m.total_bytes ? p->ram_bytes - m.total_bytes : 0;
        f->by_run = left <= f->budget_bytes;
        f->budget_bytes = min_u64(f->budget_bytes, left);
        f->run_budget_bytes = left;
    }
    if (f->budget_bytes == UINT64_MAX && !p->plan_in && p->n_pins == 0)
        return err_set(err, SNUG_ERR_ARG, "no budget: give a size, a rate (bpw), a ratio or the memory to run in");
    return SNUG_OK;
}

static snug_err lay_out(fit_job *f, snug_error *err) {
    buf header = {0};
    snug_err rc = artifact_header(f, &header, &f->file_bytes, NULL, err);
    buf_fini(&header);
    return rc;
}

static uint64_t candidate_bytes(const fit_job *f, const fit_items *items, const uint32_t *choice) {
    uint64_t sum = 0;
    for (size_t i = 0; i < items->n; i++) sum += taken_by(f, &items->menu[i], &items->menu[i].cand[choice[i]]);
    return sum;
}

static void cheapest(const fit_job *f, const fit_items *items, uint32_t *choice) {
    for (size_t i = 0; i < items->n; i++) {
        const menu *m = &items->menu[i];
        choice[i] = 0;
        for (size_t k = 1; k < m->n; k++)
            if (taken_by(f, m, &m->cand[k]) < taken_by(f, m, &m->cand[choice[i]])) choice[i] = (uint32_t)k;
    }
}

/* Sets the cheapest choices; *overhead: what the file has beside their bytes. */
static snug_err take_least(fit_job *f, const fit_items *items, uint32_t *choice, uint64_t *overhead, snug_error *err) {
    cheapest(f, items, choice);
    items_take(f, items, choice);
    snug_err rc = lay_out(f, err);
    if (rc != SNUG_OK) return rc;
    *overhead = taken(f) - candidate_bytes(f, items, choice);
    return taken(f) > f->budget_bytes ? budget_too_small(f, taken(f), err) : SNUG_OK;
}

snug_err budget_check_least(fit_job *f, snug_error *err) {
    uint32_t *choice = calloc(f->n, sizeof *choice);
    uint64_t overhead;
    fit_items items;
    snug_err rc = items_open(f, &items, err);
    if (rc == SNUG_OK) rc = choice ? take_least(f, &items, choice, &overhead, err) : err_nomem(err, f->n * sizeof *choice);
    items_close(f, &items);
    free(choice);
    return rc;
}

/* Rows of all matrices that read what tensor i reads; a layer's tensors stand together. */
static double rows_of_edge(const fit_job *f, size_t i) {
    const store_tensor *t = f->tensor[i].t;
    size_t begin = i, end = i + 1;
    double rows = 0;
    while (t->layer >= 0 && begin > 0 && f->tensor[begin - 1].t->layer == t->layer) begin--;
    while (t->layer >= 0 && end < f->n && f->tensor[end].t->layer == t->layer) end++;
    for (size_t k = t->layer < 0 ? 0 : begin; k < (t->layer < 0 ? f->n : end); k++)
        if (f->tensor[k].matrix && same_edge(f, f->tensor[k].t, t)) rows += (double)f->tensor[k].t->rows;
    return rows;
}

/* Time has a price: a candidate with which a matrix takes 4 % longer has to be 1 % better. So of two that lose nearly the same the faster is
 * taken, and what a transform gains (5 to 14 %) stays worth its time. All matrices that read an edge share its transform. */
double budget_priced_loss(const fit_job *f, const fit_tensor *t, const cand *c) {
    double price = 0;
    for (uint32_t i = 0; i < c->comp.n_terms; i++)
        if (c->comp.term[i].codec->time) price += DECODE_PRICE * (c->comp.term[i].codec->time - 1);
    if (!t->matrix || !comp_reads(&c->comp, TRANSFORM_HADAMARD)) return c->loss * (1 + price);
    const double time = TRANSFORM_ADD * (double)transform_adds(TRANSFORM_HADAMARD, t->t->cols) / (rows_of_edge(f, (size_t)(t - f->tensor)) * (double)t->t->cols);
    return c->loss * (1 + price + TIME_PRICE * time);
}

/* The items' menus with priced losses, in the arena; what shares a menu, in shape and in what it reads, pays the same. */
static snug_err price_menus(const fit_job *f, const fit_items *items, arena *mem, menu **out, snug_error *err) {
    size_t n = 0, *first = arena_calloc(mem, items->n, sizeof *first);
    menu *menus = *out = arena_calloc(mem, items->n, sizeof *menus);
    snug_err rc = first && menus ? menus_alike(items->menu, items->n, first, err) : err_nomem(err, items->n * sizeof *menus);
    if (rc != SNUG_OK) return rc;
    for (size_t i = 0; i < items->n; i++) n += first[i] == i ? items->menu[i].n : 0;
    cand *at = arena_calloc(mem, n, sizeof *at);
    if (!at) return err_nomem(err, n * sizeof *at);
    for (size_t i = 0; i < items->n; i++) {
        menus[i] = items->menu[i];
        menus[i].cand = first[i] < i ? menus[first[i]].cand : at;
        if (first[i] < i) continue;
        for (size_t k = 0; k < menus[i].n; k++, at++) {
            *at = items->menu[i].cand[k];
            at->bytes = taken_by(f, &menus[i], at);
            at->loss = budget_priced_loss(f, &f->tensor[items->first[i]], at);
        }
    }
    return SNUG_OK;
}

static snug_err choose(fit_job *f, snug_error *err) {
    uint32_t *choice = calloc(f->n, sizeof *choice);
    uint64_t overhead, least;
    fit_items items;
    arena mem = {0};
    menu *priced = NULL;
    snug_err rc = items_open(f, &items, err);
    if (rc == SNUG_OK) rc = choice ? take_least(f, &items, choice, &overhead, err) : err_nomem(err, f->n * sizeof *choice);
    if (rc == SNUG_OK) rc = price_menus(f, &items, &mem, &priced, err);
    for (int round = 0; round < MAX_ROUNDS && rc == SNUG_OK && overhead <= f->budget_bytes; round++) {
        uint64_t room = min_u64(f->budget_bytes - overhead, UINT64_MAX / 2);
        uint64_t unspent = (uint64_t)(f->p->target == SNUG_FOR_GGUF ? MAX_UNSPENT_GGUF : MAX_UNSPENT) * (f->budget_bytes / 1000);
        rc = knapsack_fill(priced, items.n, room, room > unspent ? room - unspent : 0, choice, &least, err);
        if (rc != SNUG_OK) break;
        items_take(f, &items, choice);
        rc = lay_out(f, err);
        if (rc != SNUG_OK || taken(f) <= f->budget_bytes) goto done;
        overhead = taken(f) - candidate_bytes(f, &items, choice); /* more than before, or it would have fitted */
    }
    if (rc == SNUG_OK || rc == SNUG_ERR_BUDGET) rc = take_least(f, &items, choice, &overhead, err); /* known to fit */
done:
    free(choice);
    arena_fini(&mem);
    items_close(f, &items);
    return rc;
}

/* A file that is small enough may still take more memory than there is: then what it takes is held to both budgets. */
snug_err budget_choose(fit_job *f, snug_error *err) {
    snug_err rc = choose(f, err);
    if (rc != SNUG_OK || f->by_run || f->run_budget_bytes == UINT64_MAX || f->file_bytes + budget_run_extra(f) <= f->run_budget_bytes) return rc;
    f->by_run = true;
    return choose(f, err);
}
