/* What the user decides: pins ("PATTERN=CODEC", a shell pattern on tensor names) and whole plans. Both are checked against the
 * source before any work: a pattern that matches nothing, a codec that does not exist or does not fit is an error. */
#include "fit/fit.h"

#include "base/err.h"
#include "codec/codecs.h"
#include "model/arch.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

enum { PATTERN_MAX = 256 };

bool menu_native(const fit_job *f, const comp *asked, const store_tensor *t, comp *out) {
    const comp copy = *asked, *c = &copy; /* out may be the same */
    uint64_t at_least = menu_bytes(c, t->name, t->rows, t->cols), best = UINT64_MAX;
    const bool ternary = f->src->cfg.arch->sub_norms && c->n_terms == 1 && codec_is_ternary(c->term[0].codec);
    const snug_codec *own = t->n_terms == 1 ? t->term[0].codec : NULL;
    for (size_t i = 0; i < codec_count(); i++) {
        comp n = {.n_terms = 1, .term = {{.codec = codec_at(i)}}};
        if (!artifact_is_native(&n, t->cols) || (codec_is_ternary(codec_at(i)) && !ternary) || (codec_at(i)->caps & CODEC_READ_ONLY && codec_at(i) != own)) continue;
        uint64_t bytes = menu_bytes(&n, t->name, t->rows, t->cols);
        if (bytes < at_least || bytes > best) continue;
        /* Equal sizes (f16 and bf16, q4_0 and iq4_nl): the source's own type, else bf16, which cannot overflow, else the first. */
        if (bytes == best && (out->term[0].codec == own || (codec_at(i) != own && codec_at(i)->ggml_type != GGML_BF16))) continue;
        best = bytes;
        *out = n;
    }
    return best != UINT64_MAX;
}

/* A type that is only read can be kept where the source has it. */
static snug_err check_writable(const fit_job *f, const store_tensor *t, const comp *c, const char *who, snug_error *err) {
    char name[CODEC_NAME_MAX];
    for (uint32_t k = 0; k < c->n_terms; k++) {
        if (!(c->term[k].codec->caps & CODEC_READ_ONLY) || menu_is_copy(f, t, c)) continue;
        codec_format(c->term[k].codec, c->term[k].params, name);
        return err_set(err, SNUG_ERR_ARG, "%.200s: %s is a type that snug reads and does not write, and %s is %s in the source; name another, e.g. q4_k or iq4_xs", who,
                       name, t->name, t->codec_name);
    }
    return SNUG_OK;
}

static snug_err pin_tensor(fit_job *f, fit_tensor *t, size_t k, const comp *c, const char *text, snug_error *err) {
    t->pin = (int)k;
    t->pinned = *c;
    t->menu.note = "pinned";
    char who[PATTERN_MAX];
    snprintf(who, sizeof who, "pin \"%s\"", text);
    snug_err rc = check_writable(f, t->t, c, who, err);
    if (rc != SNUG_OK) return rc;
    if (menu_bytes(c, t->t->name, t->t->rows, t->t->cols) == 0)
        return err_set(err, SNUG_ERR_ARG, "pin \"%s\": %s (%llu x %llu) cannot be stored so", text, t->t->name,
                       (unsigned long long)t->t->rows, (unsigned long long)t->t->cols);
    if (f->p->target != SNUG_FOR_GGUF || artifact_is_native(c, t->t->cols)) return SNUG_OK;
    char want[COMP_NAME_MAX];
    comp_format(c, want);
    bool native_type = c->n_terms == 1 && c->term[0].codec->ggml_type >= 0;
    if (!native_type) return err_set(err, SNUG_ERR_ARG, "pin \"%s\": %s is no GGUF type, and the file is --for gguf", text, want);
    if (!menu_native(f, c, t->t, &t->pinned)) return err_set(err, SNUG_ERR_UNSUPPORTED, "pin \"%s\": no GGUF type fits %s", text, t->t->name);
    char got[COMP_NAME_MAX];
    comp_format(&t->pinned, got);
    t->menu.note = arena_printf(&f->mem, "pinned; falls back from %s to %s: %llu columns", want, got, (unsigned long long)t->t->cols);
    return t->menu.note ? SNUG_OK : err_nomem(err, 64);
}

static snug_err apply_pin(fit_job *f, size_t k, snug_error *err) {
    const char *text = f->p->pins[k], *eq = strrchr(text, '=');
    char pattern[PATTERN_MAX];
    comp c;
    if (!eq || eq == text || (size_t)(eq - text) >= sizeof pattern)
        return err_set(err, SNUG_ERR_ARG, "pin \"%.200s\": expected PATTERN=CODEC, e.g. 'blk.0.*=q6_k'", text);
    memcpy(pattern, text, (size_t)(eq - text));
    pattern[eq - text] = 0;
    if (!comp_parse(eq + 1, &c)) return err_set(err, SNUG_ERR_ARG, "pin \"%.200s\": \"%.64s\" is no codec that snug knows", text, eq + 1);
    bool matched = false, vector = false;
    for (size_t i = 0; i < f->n; i++) {
        fit_tensor *t = &f->tensor[i];
        if (fnmatch(pattern, t->item, 0) != 0) continue;
        vector |= !t->matrix;
        if (!t->matrix) continue; /* vectors are always exact */
        matched = true;
        snug_err rc = pin_tensor(f, t, k, &c, text, err);
        if (rc != SNUG_OK) return rc;
    }
    if (!matched && vector) return err_set(err, SNUG_ERR_ARG, "pin \"%.200s\": matches only vectors, which are kept exactly", text);
    return matched ? SNUG_OK : err_set(err, SNUG_ERR_ARG, "pin \"%.200s\": no tensor of %s has such a name", text, f->src->path);
}

snug_err menu_pins(fit_job *f, snug_error *err) {
    for (size_t i = 0; i < f->n; i++) f->tensor[i].pin = -1;
    for (size_t k = 0; k < f->p->n_pins; k++) {
        snug_err rc = apply_pin(f, k, err);
        if (rc != SNUG_OK) return rc;
    }
    return SNUG_OK;
}

/* The first tensor of an item; f->n: there is none of that name. Searched from `from` on and around, for plans are mostly in the source's order. */
static size_t find_item(const fit_job *f, const char *name, size_t from) {
    for (size_t k = 0; k < f->n; k++) {
        const size_t i = from + k < f->n ? from + k : from + k - f->n;
        if (item_size(f, i) && strcmp(f->tensor[i].item, name) == 0) return i;
    }
    return f->n;
}

snug_err menu_replay(fit_job *f, const plan *p, snug_error *err) {
    for (size_t i = 0; i < f->n; i++) f->tensor[i].menu.n = 0; /* what has no entry shows below */
    for (size_t k = 0, i = 0; k < p->n; k++) {
        const plan_entry *e = &p->entry[k];
        size_t n;
        i = find_item(f, e->tensor, i);
        if (i == f->n) return err_set(err, SNUG_ERR_MISMATCH, "%s: the tensor \"%.100s\" is not in %s", f->p->plan_in, e->tensor, f->src->path);
        fit_tensor *t = &f->tensor[i];
        n = item_size(f, i);
        const uint64_t rows = item_rows(f, i);
        if ((e->rows && e->rows != rows) || (e->cols && e->cols != t->t->cols))
            return err_set(err, SNUG_ERR_MISMATCH, "%s: \"%s\" is %llu x %llu, the source has %llu x %llu", f->p->plan_in, e->tensor,
                           (unsigned long long)e->rows, (unsigned long long)e->cols, (unsigned long long)rows, (unsigned long long)t->t->cols);
        if (f->p->target == SNUG_FOR_GGUF && !artifact_is_native(&e->comp, t->t->cols))
            return err_set(err, SNUG_ERR_MISMATCH, "%s: \"%s\": its codec is no GGUF type for %llu columns", f->p->plan_in, e->tensor,
                           (unsigned long long)t->t->cols);
        snug_err rc = check_writable(f, t->t, &e->comp, f->p->plan_in, err);
        if (rc != SNUG_OK) return rc;
        double error = e->rel_error >= 0 ? e->rel_error : 0;
        const char *note = *e->note ? arena_strdup(&f->mem, e->note) : "";
        for (size_t m = 0; m < n; m++) { /* of a stack, whose numbers are sums, each has its part */
            t = &f->tensor[item_member(f, i, m)];
            if ((rc = menu_single(f, item_member(f, i, m), &e->comp, error, note, err)) != SNUG_OK) return rc;
            if (e->loss >= 0) t->menu.cand[0].loss = e->loss / (double)n;
            if (e->sensitivity >= 0) t->menu.sensitivity = t->alpha = e->sensitivity / (double)n;
        }
    }
    for (size_t i = 0; i < f->n; i++) {
        if (f->tensor[i].menu.n) continue;
        snug_err rc = f->tensor[i].matrix ? SNUG_OK : menu_vector(f, i, err); /* plans written by hand name matrices only */
        if (rc != SNUG_OK) return rc;
        if (f->tensor[i].matrix) return err_set(err, SNUG_ERR_MISMATCH, "%s: has no entry for the tensor \"%s\"", f->p->plan_in, f->tensor[i].item);
    }
    return SNUG_OK;
}
