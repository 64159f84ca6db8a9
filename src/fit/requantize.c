/* Says so when the source is not the original: matrices of fewer than 16 bits have lost something already, and what a fit loses comes on top of it, unseen
 * by its own figures, which compare with the source. Ternary matrices of models that were trained to be ternary have lost nothing. */
#include "fit/fit.h"

#include "base/err.h"
#include "codec/codecs.h"
#include "model/arch.h"

#include <stdio.h>
#include <string.h>

enum { MOST_NAMES = 4 };

typedef struct share { const char *name; double weights; } share;

static bool lossless(const comp *c) {
    return c->n_terms == 1 && c->term[0].codec->caps & CODEC_LOSSLESS;
}

static bool is_quantized(const fit_job *f, const store_tensor *t) {
    const comp c = menu_source_comp(t);
    const bool trained = f->src->cfg.arch->sub_norms && c.n_terms == 1 && codec_is_ternary(c.term[0].codec);
    return !lossless(&c) && !trained;
}

/* Adds to the share of a codec; those beyond MOST_NAMES go together. */
static void count(share *list, size_t *n, const char *name, double weights) {
    size_t i = 0;
    while (i < *n && strcmp(list[i].name, name) != 0) i++;
    if (i == *n && *n == MOST_NAMES) i = MOST_NAMES - 1, list[i].name = "others";
    else if (i == *n) list[(*n)++] = (share){.name = name};
    list[i].weights += weights;
}

static void list_shares(share *list, size_t n, double all, char *text, size_t cap) {
    size_t len = 0;
    for (size_t k = 0; k < n && len < cap; k++) {
        size_t most = 0;
        for (size_t i = 1; i < n; i++)
            if (list[i].weights > list[most].weights) most = i;
        len += (size_t)snprintf(text + len, cap - len, "%s%s %.0f %%", k ? ", " : "", list[most].name, 100 * list[most].weights / all);
        list[most].weights = -1;
    }
}

snug_err requantize_warn(fit_job *f, snug_error *err) {
    share list[MOST_NAMES] = {0};
    size_t n = 0, again = 0, widened = 0;
    double all = 0;
    char shares[160] = "", text[400];
    for (size_t i = 0; i < f->n; i++) {
        const fit_tensor *t = &f->tensor[i];
        const double weights = (double)t->t->rows * (double)t->t->cols;
        if (!t->matrix) continue;
        all += weights;
        if (!is_quantized(f, t->t)) continue;
        count(list, &n, t->t->codec_name, weights);
        const comp *only = t->menu.n == 1 ? &t->menu.cand[0].comp : NULL; /* pinned, or of a plan */
        if (only && lossless(only)) widened++;
        else if (!only || !menu_is_copy(f, t->t, only)) again++;
    }
    if (!again && !widened) return SNUG_OK;
    list_shares(list, n, all, shares, sizeof shares);
    if (again)
        snprintf(text, sizeof text, "the source is quantized already (%s of its matrices): what is lost now adds to what was lost then; fit from the original checkpoint if you can", shares);
    else
        snprintf(text, sizeof text, "the source is quantized already (%s of its matrices): the file holds what these types decode to, and nothing of what was lost then", shares);
    return meter_warn(&f->meter, text, err);
}
