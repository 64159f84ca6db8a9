/* Items: what the plan chooses one candidate for. A tensor is one, but where GGUF for others has several in one, they are one together: the experts
 * of a stack, or q, k and v. Each is measured, and encoded, by its own statistics, and they share the choice. */
#include "fit/fit.h"
#include "model/arch.h"

#include "base/checked.h"
#include "base/err.h"

#include <stdlib.h>
#include <string.h>

/* The roles that tensor i shares one with, and the name of that; 0: it stands alone, or is an expert's. */
static size_t fused_with(const fit_job *f, size_t i, tensor_role roles[ARCH_MAX_ROLES], const char **stem) {
    const store_tensor *t = f->tensor[i].t;
    return f->p->target == SNUG_FOR_GGUF && t->expert == EXPERT_NONE ? roles_fused(f->src->cfg.arch, t->role, roles, stem) : 0;
}

size_t item_size(const fit_job *f, size_t i) {
    const store_tensor *t = f->tensor[i].t;
    tensor_role roles[ARCH_MAX_ROLES];
    const char *stem;
    const size_t n = fused_with(f, i, roles, &stem);
    if (n) return roles[0] == t->role ? n : 0;
    if (f->p->target != SNUG_FOR_GGUF || t->expert == EXPERT_NONE) return 1;
    return t->expert == 0 ? f->src->cfg.n_experts : 0;
}

size_t item_member(const fit_job *f, size_t first, size_t k) {
    const store_tensor *t = f->tensor[first].t;
    tensor_role roles[ARCH_MAX_ROLES];
    const char *stem;
    if (k == 0) return first;
    if (fused_with(f, first, roles, &stem)) return first + (size_t)(store_find(f->src, roles[k], t->layer) - t);
    return first + (size_t)(store_expert(f->src, t->role, t->layer, (int)k) - t);
}

bool item_ends(const fit_job *f, size_t i) {
    const store_tensor *t = f->tensor[i].t;
    tensor_role roles[ARCH_MAX_ROLES];
    const char *stem;
    const size_t n = fused_with(f, i, roles, &stem);
    if (n) return roles[n - 1] == t->role;
    return f->p->target != SNUG_FOR_GGUF || t->expert == EXPERT_NONE || t->expert + 1 == (int)f->src->cfg.n_experts;
}

static bool is_joint(const fit_job *f, size_t i) { return f->p->target == SNUG_FOR_GGUF && (f->tensor[i].t->expert == 0 || item_size(f, i) > 1); }

uint64_t item_rows(const fit_job *f, size_t first) {
    uint64_t n = 0;
    for (size_t k = 0; k < item_size(f, first); k++) n += f->tensor[item_member(f, first, k)].t->rows;
    return n;
}

uint64_t item_bytes(const fit_job *f, size_t first, size_t n, const comp *c) {
    uint64_t bytes = 0;
    for (size_t k = 0; k < n; k++) {
        const store_tensor *t = f->tensor[item_member(f, first, k)].t;
        bytes += comp_term_bytes(c, 0, t->rows, t->cols);
    }
    return bytes;
}

snug_err items_name(fit_job *f, snug_error *err) {
    for (size_t i = 0; i < f->n; i++) {
        const store_tensor *t = f->tensor[i].t;
        tensor_role roles[ARCH_MAX_ROLES];
        const char *stem;
        char name[64];
        if (fused_with(f, i, roles, &stem)) {
            if (!(f->tensor[i].item = arena_printf(&f->mem, "blk.%d.%s", t->layer, stem))) return err_nomem(err, sizeof name);
            continue;
        }
        if (f->p->target == SNUG_FOR_GGUF && t->expert > 0) {
            const store_tensor *first = store_expert(f->src, t->role, t->layer, 0);
            f->tensor[i].item = f->tensor[i - (size_t)(t - first)].item;
            continue;
        }
        role_tensor_name(t->role, t->layer, EXPERT_ALL, name);
        f->tensor[i].item = is_joint(f, i) ? arena_strdup(&f->mem, name) : t->name;
        if (!f->tensor[i].item) return err_nomem(err, sizeof name);
    }
    return SNUG_OK;
}

/* The candidate of a menu that is this composition; NULL: it has none. */
static const cand *find(const menu *m, const comp *c) {
    for (size_t k = 0; k < m->n; k++)
        if (comp_equal(&m->cand[k].comp, c)) return &m->cand[k];
    return NULL;
}

/* Bytes and losses of a candidate in all that share a tensor, whose data stand without gaps; false: not all can have it. */
static bool add_up(const fit_job *f, size_t first, cand *c) {
    const size_t n = item_size(f, first);
    cand sum = {.comp = c->comp, .bytes = round_up(item_bytes(f, first, n, &c->comp), 32), .encode_s = c->encode_s};
    for (size_t k = 0; k < n; k++) {
        const cand *own = find(&f->tensor[item_member(f, first, k)].menu, &c->comp);
        if (!own) return false;
        sum.rel_error += own->rel_error / (double)n;
        sum.loss += own->loss;
    }
    *c = sum;
    return c->comp.n_terms == 1; /* native */
}

static snug_err joint_menu(const fit_job *f, size_t first, menu *out, snug_error *err) {
    const menu *m = &f->tensor[first].menu;
    *out = *m;
    out->n = 0;
    out->sensitivity = 0;
    if (!(out->cand = malloc(m->n * sizeof *out->cand))) return err_nomem(err, m->n * sizeof *out->cand);
    for (size_t k = 0; k < m->n; k++) {
        out->cand[out->n] = m->cand[k];
        out->n += add_up(f, first, &out->cand[out->n]);
    }
    for (size_t k = 0; k < item_size(f, first); k++) out->sensitivity += f->tensor[item_member(f, first, k)].menu.sensitivity;
    return out->n ? SNUG_OK : err_set(err, SNUG_ERR_UNSUPPORTED, "%s: its parts have no type in common", f->tensor[first].item);
}

snug_err items_open(const fit_job *f, fit_items *out, snug_error *err) {
    *out = (fit_items){0};
    out->menu = calloc(f->n, sizeof *out->menu);
    out->first = calloc(f->n, sizeof *out->first);
    snug_err rc = out->menu && out->first ? SNUG_OK : err_nomem(err, f->n * sizeof *out->menu);
    for (size_t i = 0; i < f->n && rc == SNUG_OK; i++) {
        if (!item_size(f, i)) continue;
        out->first[out->n] = i;
        if (is_joint(f, i)) rc = joint_menu(f, i, &out->menu[out->n], err);
        else out->menu[out->n] = f->tensor[i].menu;
        out->menu[out->n++].tensor = f->tensor[i].item;
    }
    return rc;
}

void items_close(const fit_job *f, fit_items *items) {
    for (size_t i = 0; i < items->n; i++)
        if (is_joint(f, items->first[i])) free(items->menu[i].cand);
    free(items->menu);
    free(items->first);
    *items = (fit_items){0};
}

void items_take(fit_job *f, const fit_items *items, const uint32_t *choice) {
    f->predicted_kl = 0;
    for (size_t i = 0; i < items->n; i++) {
        const cand *c = &items->menu[i].cand[choice[i]];
        f->predicted_kl += c->loss;
        for (size_t k = 0; k < item_size(f, items->first[i]); k++) {
            fit_tensor *t = &f->tensor[item_member(f, items->first[i], k)];
            t->choice = is_joint(f, items->first[i]) ? (uint32_t)(find(&t->menu, &c->comp) - t->menu.cand) : choice[i];
        }
    }
}

snug_err item_of(const fit_job *f, size_t first, arena *mem, plan_entry *out, snug_error *err) {
    const size_t n = item_size(f, first);
    const fit_tensor *t = &f->tensor[first];
    size_t strangers = 0;
    *out = (plan_entry){.tensor = t->item, .comp = t->menu.cand[t->choice].comp, .cols = t->t->cols, .note = t->menu.note ? t->menu.note : ""};
    const bool counted = f->expert && t->t->expert != EXPERT_NONE;
    if (counted && !(out->tokens = arena_calloc(mem, n, sizeof *out->tokens))) return err_nomem(err, n * sizeof *out->tokens);
    for (size_t k = 0; k < n; k++) {
        const fit_tensor *own = &f->tensor[item_member(f, first, k)];
        const cand *c = &own->menu.cand[own->choice];
        out->rows += own->t->rows;
        out->rel_error += c->rel_error / (double)n;
        out->loss += c->loss;
        out->sensitivity += own->menu.sensitivity;
        for (uint32_t j = 0; j < c->comp.n_terms; j++) out->bytes += comp_term_bytes(&c->comp, j, own->t->rows, own->t->cols);
        if (counted) out->tokens[out->n_tokens++] = (uint64_t)fit_expert_of(f, own->t)->tokens;
        strangers += counted && fit_expert_of(f, own->t)->tokens < EXPERT_MIN_TOKENS;
    }
    if (is_joint(f, first) && strangers) {
        const char *had = t->menu.note && !strstr(t->menu.note, "came to this expert") ? t->menu.note : "";
        out->note = arena_printf(mem, "%s%s%zu of %zu experts fitted to others' tokens, for want of their own", had, *had ? "; " : "", strangers, n);
    }
    return out->note ? SNUG_OK : err_nomem(err, 64);
}
