/* The exact multiple-choice knapsack: one candidate of every menu, sum of bytes <= budget, least sum of losses.
 *
 * Method (D. Pisinger, "A minimal algorithm for the multiple-choice knapsack problem", EJOR 83, 1995), for costs in whole bytes
 * and losses in doubles:
 *   1. Dominance: in each menu only candidates that cost more and lose less than all cheaper ones stay.
 *   2. The LP relaxation, solved exactly on the menus' lower convex hulls: steps along the hulls in order of loss saved per
 *      byte, until one does not fit. That step's menu is the only fractional one. Greedy completion gives the incumbent.
 *   3. Core: dynamic programming over states (bytes, loss), the menus added one by one, all others standing at their LP
 *      choice. Of the menus not yet added, none saves more than `up` per byte added nor costs less than `down` per byte taken
 *      away, so a state that cannot beat the incumbent at those rates is dropped. Menus with the steepest up (or the flattest down)
 *      come first; the search ends when no state is left, usually after a few menus.
 * States are kept sorted by bytes with strictly falling loss (dominance), so equal losses keep the fewest bytes. Everything is
 * deterministic: sorts have total orders and sums run in a fixed order. "Exact" means up to a relative 1e-12 of the loss, the
 * rounding of the sums. Should a core list ever outgrow MAX_STATES, its worst-bounded states are dropped (never seen in practice;
 * the result is then still within the budget and no worse than the greedy one). */
#include "plan/plan.h"

#include "base/arena.h"
#include "base/err.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_STATES = 1 << 22 };
static const double EPSILON = 1e-12;

typedef struct item { /* an undominated candidate */
    uint64_t bytes;
    double loss;
    uint32_t index; /* in the menu */
} item;

typedef struct class {
    item *item;
    uint32_t n, *hull, n_hull; /* hull: indices into item */
    uint32_t at;               /* LP choice, index into item */
    double up, down;           /* best loss saved per byte added; least loss added per byte taken away */
    bool added;
} class;

typedef struct hull_step { double slope; uint32_t class, to; } hull_step; /* to: index into hull, from = to - 1 */

typedef struct state { uint64_t bytes; double loss; uint32_t node; } state;
typedef struct node { uint32_t parent, class, item; } node; /* node 0: nothing changed */

typedef struct solver {
    arena mem;
    class *class;
    size_t n;
    uint64_t budget;
    double incumbent;
    uint32_t incumbent_node; /* UINT32_MAX: the greedy choice stands */
    node *node;
    size_t n_nodes, cap_nodes;
} solver;

static int by_bytes(const void *pa, const void *pb) {
    const item *a = pa, *b = pb;
    if (a->bytes != b->bytes) return a->bytes < b->bytes ? -1 : 1;
    if (a->loss != b->loss) return a->loss < b->loss ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static int by_slope(const void *pa, const void *pb) {
    const hull_step *a = pa, *b = pb;
    if (a->slope != b->slope) return a->slope > b->slope ? -1 : 1;
    if (a->class != b->class) return a->class < b->class ? -1 : 1;
    return a->to < b->to ? -1 : a->to > b->to;
}

static double saved_per_byte(const item *cheap, const item *dear) {
    return (cheap->loss - dear->loss) / (double)(dear->bytes - cheap->bytes);
}

typedef struct shared { const cand *cand; size_t index; } shared;

static int by_cand(const void *pa, const void *pb) {
    const shared *a = pa, *b = pb;
    if (a->cand != b->cand) return (uintptr_t)a->cand < (uintptr_t)b->cand ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

snug_err menus_alike(const menu *menus, size_t n, size_t *first, snug_error *err) {
    shared *s = malloc((n + 1) * sizeof *s);
    if (!s) return err_nomem(err, n * sizeof *s);
    for (size_t i = 0; i < n; i++) s[i] = (shared){menus[i].cand, i};
    qsort(s, n, sizeof *s, by_cand);
    for (size_t i = 0, head = 0; i < n; i++) {
        if (s[i].cand != s[head].cand || menus[s[i].index].n != menus[s[head].index].n) head = i;
        first[s[i].index] = s[head].index;
    }
    free(s);
    return SNUG_OK;
}

/* Undominated candidates and their lower convex hull. */
static snug_err prepare_class(solver *s, class *c, const menu *m, snug_error *err) {
    c->item = arena_calloc(&s->mem, m->n, sizeof *c->item);
    c->hull = arena_calloc(&s->mem, m->n, sizeof *c->hull);
    if (!c->item || !c->hull) return err_nomem(err, m->n * sizeof *c->item);
    for (size_t i = 0; i < m->n; i++) {
        if (isnan(m->cand[i].loss)) return err_set(err, SNUG_ERR_NUMERIC, "%s: a candidate's predicted loss is not a number", m->tensor);
        double loss = m->cand[i].loss < 1e200 ? m->cand[i].loss : 1e200; /* infinities would make slopes NaN */
        c->item[i] = (item){m->cand[i].bytes, loss, (uint32_t)i};
    }
    qsort(c->item, m->n, sizeof *c->item, by_bytes);
    for (size_t i = 0; i < m->n; i++)
        if (c->n == 0 || c->item[i].loss < c->item[c->n - 1].loss) c->item[c->n++] = c->item[i];
    for (uint32_t i = 0; i < c->n; i++) {
        while (c->n_hull >= 2 && saved_per_byte(&c->item[c->hull[c->n_hull - 2]], &c->item[c->hull[c->n_hull - 1]]) <=
                                     saved_per_byte(&c->item[c->hull[c->n_hull - 1]], &c->item[i]))
            c->n_hull--;
        c->hull[c->n_hull++] = i;
    }
    return SNUG_OK;
}

/* Walks the hull steps in order of slope. Sets every class's LP choice; *used: its bytes. Returns the fractional class, or n
 * when everything fits. greedy[i] (indices into item): the choice after steps that still fit beyond the break. */
static size_t lp_solve(solver *s, hull_step *steps, size_t n_steps, uint64_t *used, uint32_t *greedy) {
    size_t brk = s->n, i = 0;
    uint32_t *pos = greedy; /* hull positions while walking */
    memset(pos, 0, s->n * sizeof *pos);
    for (; i < n_steps; i++) {
        class *c = &s->class[steps[i].class];
        uint64_t extra = c->item[c->hull[steps[i].to]].bytes - c->item[c->hull[steps[i].to - 1]].bytes;
        if (*used + extra > s->budget) {
            brk = steps[i].class;
            break;
        }
        *used += extra;
        pos[steps[i].class] = steps[i].to;
    }
    for (size_t k = 0; k < s->n; k++) s->class[k].at = s->class[k].hull[pos[k]];
    uint64_t total = *used;
    for (; i < n_steps; i++) {
        class *c = &s->class[steps[i].class];
        if (pos[steps[i].class] + 1 != steps[i].to) continue;
        uint64_t extra = c->item[c->hull[steps[i].to]].bytes - c->item[c->hull[steps[i].to - 1]].bytes;
        if (total + extra > s->budget) continue;
        total += extra;
        pos[steps[i].class] = steps[i].to;
    }
    for (size_t k = 0; k < s->n; k++) greedy[k] = s->class[k].hull[pos[k]];
    return brk;
}

/* Best rates of a class around its LP choice, over all its items (not the hull alone: after a step that did not fit, items off
 * the hull are what fills the gap, and their rates are bounded by the hull's neighbours anyway). */
static void set_rates(class *c) {
    c->up = 0;
    c->down = INFINITY;
    for (uint32_t j = c->at + 1; j < c->n; j++) c->up = fmax(c->up, saved_per_byte(&c->item[c->at], &c->item[j]));
    for (uint32_t j = 0; j < c->at; j++) c->down = fmin(c->down, saved_per_byte(&c->item[j], &c->item[c->at]));
}

/* The least loss that a state may still reach when the classes not yet added have rates up, down. */
static double bound(const solver *s, uint64_t bytes, double loss, double up, double down) {
    if (bytes <= s->budget) return loss - (double)(s->budget - bytes) * up;
    return loss + (double)(bytes - s->budget) * down; /* down may be infinite: no way back */
}

static double cut(const solver *s) { return s->incumbent - EPSILON * fabs(s->incumbent); }

static bool new_node(solver *s, uint32_t parent, uint32_t cls, uint32_t it, uint32_t *out) {
    if (s->n_nodes == s->cap_nodes) {
        size_t cap = s->cap_nodes ? 2 * s->cap_nodes : 1 << 12;
        node *bigger = cap < UINT32_MAX ? realloc(s->node, cap * sizeof *bigger) : NULL;
        if (!bigger) return false;
        s->node = bigger;
        s->cap_nodes = cap;
    }
    s->node[s->n_nodes] = (node){parent, cls, it};
    *out = (uint32_t)s->n_nodes++;
    return true;
}

/* A state list that is being made: the class's item k applied to old state `from`. */
typedef struct draft { uint64_t bytes; double loss; uint32_t from, item; } draft;
typedef struct drafts { draft *d; size_t n; } drafts;

/* Merges two sorted lists into `out`, dropping what is dominated. Ties go to the first list. */
static size_t merge(const draft *a, size_t na, const draft *b, size_t nb, draft *out) {
    size_t n = 0, i = 0, j = 0;
    while (i < na || j < nb) {
        bool first = j >= nb || (i < na && (a[i].bytes < b[j].bytes || (a[i].bytes == b[j].bytes && a[i].loss <= b[j].loss)));
        const draft *d = first ? &a[i++] : &b[j++];
        if (n == 0 || d->loss < out[n - 1].loss) out[n++] = *d;
    }
    return n;
}

static snug_err merge_all(drafts *list, size_t n_lists, drafts *out, snug_error *err) {
    for (size_t width = 1; width < n_lists; width *= 2)
        for (size_t i = 0; i + width < n_lists; i += 2 * width) {
            drafts *a = &list[i], *b = &list[i + width];
            draft *m = malloc((a->n + b->n + 1) * sizeof *m);
            if (!m) return err_nomem(err, (a->n + b->n) * sizeof *m);
            size_t n = merge(a->d, a->n, b->d, b->n, m);
            free(a->d);
            free(b->d);
            *b = (drafts){0};
            *a = (drafts){m, n};
        }
    *out = list[0];
    list[0] = (drafts){0};
    return SNUG_OK;
}

/* Moves every state through every item of class c, with the classes outside the core bounded by up and down. */
static snug_err expand(solver *s, uint32_t ci, state **states, size_t *n_states, double up, double down, snug_error *err) {
    const class *c = &s->class[ci];
    snug_err rc = SNUG_OK;
    drafts merged = {0}, *list = calloc(c->n, sizeof *list);
    if (!list) return err_nomem(err, c->n * sizeof *list);
    for (uint32_t k = 0; k < c->n; k++) {
        draft *d = malloc((*n_states + 1) * sizeof *d);
        if (!d) {
            rc = err_nomem(err, *n_states * sizeof *d);
            goto done;
        }
        size_t n = 0;
        double delta = c->item[k].loss - c->item[c->at].loss;
        for (size_t i = 0; i < *n_states; i++) {
            uint64_t bytes = (*states)[i].bytes - c->item[c->at].bytes + c->item[k].bytes;
            double loss = k == c->at ? (*states)[i].loss : (*states)[i].loss + delta;
            if (bound(s, bytes, loss, up, down) >= cut(s)) continue;
            d[n++] = (draft){bytes, loss, (uint32_t)i, k};
        }
        list[k] = (drafts){d, n};
    }
    rc = merge_all(list, c->n, &merged, err);
    if (rc != SNUG_OK) goto done;
    state *next = malloc((merged.n + 1) * sizeof *next);
    if (!next) {
        rc = err_nomem(err, merged.n * sizeof *next);
        goto done;
    }
    size_t n = 0;
    for (size_t i = 0; i < merged.n; i++) {
        draft d = merged.d[i];
        bool better = d.bytes <= s->budget && d.loss < cut(s);
        if (!better && bound(s, d.bytes, d.loss, up, down) >= cut(s)) continue;
        uint32_t parent = (*states)[d.from].node, id = parent;
        if (d.item != c->at && !new_node(s, parent, ci, d.item, &id)) {
            free(next);
            rc = err_nomem(err, s->cap_nodes * sizeof(node));
            goto done;
        }
        if (better) {
            s->incumbent = d.loss;
            s->incumbent_node = id;
        }
        next[n++] = (state){d.bytes, d.loss, id};
    }
    free(*states);
    *states = next;
    *n_states = n;
done:
    for (uint32_t k = 0; k < c->n; k++) free(list[k].d);
    free(list);
    free(merged.d);
    return rc;
}

static int by_double(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The safety valve: keeps the states with the best bounds. */
static snug_err trim(solver *s, state *states, size_t *n_states, double up, double down, snug_error *err) {
    if (*n_states <= MAX_STATES) return SNUG_OK;
    double *b = malloc(*n_states * sizeof *b);
    if (!b) return err_nomem(err, *n_states * sizeof *b);
    for (size_t i = 0; i < *n_states; i++) b[i] = bound(s, states[i].bytes, states[i].loss, up, down);
    qsort(b, *n_states, sizeof *b, by_double);
    double limit = b[MAX_STATES / 2];
    free(b);
    size_t n = 0;
    for (size_t i = 0; i < *n_states; i++)
        if (bound(s, states[i].bytes, states[i].loss, up, down) < limit) states[n++] = states[i];
    *n_states = n;
    return SNUG_OK;
}

/* The classes that have something to choose, in the order in which they are added. */
typedef struct rate { double rate; size_t class; } rate;
typedef struct queue { rate *rate; size_t n, at; } queue;

static int by_rate(const void *pa, const void *pb) {
    const rate *a = pa, *b = pb;
    if (a->rate != b->rate) return a->rate < b->rate ? -1 : 1;
    return a->class < b->class ? -1 : a->class > b->class;
}

/* Steepest way up first, or flattest way down. */
static snug_err queue_classes(solver *s, bool upward, queue *q, snug_error *err) {
    q->rate = arena_calloc(&s->mem, s->n, sizeof *q->rate);
    if (!q->rate) return err_nomem(err, s->n * sizeof *q->rate);
    for (size_t i = 0; i < s->n; i++)
        if (s->class[i].n > 1) q->rate[q->n++] = (rate){upward ? -s->class[i].up : s->class[i].down, i};
    qsort(q->rate, q->n, sizeof *q->rate, by_rate);
    return SNUG_OK;
}

/* The first that is not added yet; NULL: all are. */
static class *first_in(const solver *s, queue *q) {
    while (q->at < q->n && s->class[q->rate[q->at].class].added) q->at++;
    return q->at < q->n ? &s->class[q->rate[q->at].class] : NULL;
}

static snug_err core_search(solver *s, size_t brk, uint64_t used, snug_error *err) {
    size_t n_states = 1;
    state *states = malloc(sizeof *states);
    uint32_t root;
    snug_err rc = SNUG_OK;
    if (!states || !new_node(s, 0, 0, 0, &root)) {
        free(states);
        return err_nomem(err, sizeof *states);
    }
    double loss = 0;
    for (size_t i = 0; i < s->n; i++) loss += s->class[i].item[s->class[i].at].loss;
    states[0] = (state){used, loss, root};
    queue ups = {0}, downs = {0};
    rc = queue_classes(s, true, &ups, err);
    if (rc == SNUG_OK) rc = queue_classes(s, false, &downs, err);
    class *next = &s->class[brk];
    for (bool upward = true; next && n_states > 0 && rc == SNUG_OK; upward = !upward) { /* alternately the steepest up and the flattest down */
        next->added = true;
        class *steepest = first_in(s, &ups), *flattest = first_in(s, &downs);
        const double up = steepest ? steepest->up : 0, down = flattest ? flattest->down : INFINITY;
        rc = expand(s, (uint32_t)(next - s->class), &states, &n_states, up, down, err);
        if (rc == SNUG_OK) rc = trim(s, states, &n_states, up, down, err);
        next = upward ? steepest : flattest;
    }
    free(states);
    return rc;
}

static snug_err solve(solver *s, const menu *menus, uint32_t *choice, uint64_t *least, snug_error *err) {
    size_t n_steps = 0, *first = arena_calloc(&s->mem, s->n, sizeof *first);
    s->class = arena_calloc(&s->mem, s->n, sizeof *s->class);
    if (!s->class || !first) return err_nomem(err, s->n * sizeof *s->class);
    snug_err rc = menus_alike(menus, s->n, first, err);
    if (rc != SNUG_OK) return rc;
    for (size_t i = 0; i < s->n; i++) {
        if (menus[i].n == 0) return err_set(err, SNUG_ERR_ARG, "%s: its menu is empty", menus[i].tensor);
        if (first[i] < i) s->class[i] = s->class[first[i]];
        else if ((rc = prepare_class(s, &s->class[i], &menus[i], err)) != SNUG_OK) return rc;
        n_steps += s->class[i].n_hull - 1;
        if (__builtin_add_overflow(*least, s->class[i].item[0].bytes, least)) return err_set(err, SNUG_ERR_ARG, "sizes overflow");
    }
    if (*least > s->budget) return err_set(err, SNUG_ERR_BUDGET, "the smallest candidates together need %llu bytes, the budget is %llu",
                                           (unsigned long long)*least, (unsigned long long)s->budget);
    hull_step *steps = arena_calloc(&s->mem, n_steps, sizeof *steps);
    uint32_t *greedy = arena_calloc(&s->mem, s->n, sizeof *greedy);
    if ((!steps && n_steps) || !greedy) return err_nomem(err, n_steps * sizeof *steps);
    size_t k = 0;
    for (uint32_t i = 0; i < s->n; i++)
        for (uint32_t h = 1; h < s->class[i].n_hull; h++) {
            class *c = &s->class[i];
            steps[k++] = (hull_step){saved_per_byte(&c->item[c->hull[h - 1]], &c->item[c->hull[h]]), i, h};
        }
    qsort(steps, n_steps, sizeof *steps, by_slope);
    uint64_t used = *least;
    size_t brk = lp_solve(s, steps, n_steps, &used, greedy);
    for (size_t i = 0; i < s->n; i++) {
        set_rates(&s->class[i]);
        s->incumbent += s->class[i].item[greedy[i]].loss;
    }
    s->incumbent_node = UINT32_MAX;
    if (brk < s->n) {
        if ((rc = core_search(s, brk, used, err)) != SNUG_OK) return rc;
    }
    if (s->incumbent_node != UINT32_MAX) {
        for (size_t i = 0; i < s->n; i++) greedy[i] = s->class[i].at;
        for (uint32_t v = s->incumbent_node; v != 0; v = s->node[v].parent) greedy[s->node[v].class] = s->node[v].item;
    }
    for (size_t i = 0; i < s->n; i++) choice[i] = s->class[i].item[greedy[i]].index;
    return SNUG_OK;
}

snug_err knapsack_solve(const menu *menus, size_t n, uint64_t budget, uint32_t *choice, uint64_t *least, snug_error *err) {
    *least = 0;
    if (n == 0) return SNUG_OK;
    if (n >= UINT32_MAX) return err_set(err, SNUG_ERR_ARG, "%zu menus are too many", n);
    solver s = {.n = n, .budget = budget};
    snug_err rc = solve(&s, menus, choice, least, err);
    free(s.node);
    arena_fini(&s.mem);
    return rc;
}
