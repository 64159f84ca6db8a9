/* Hidden states of many tokens: in memory or, where the user names a folder for them, in a file there. Whoever walks over them says what comes
 * next and what is done with; for memory, and for arrays that are not from here, that means nothing. */
#include "fit/fit.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

enum { STEP = 1 << 20 };

struct fit_states {
    io_spill file;
    fit_states *next;
};

snug_err states_check(const fit_job *f, size_t floats, snug_error *err) {
    io_spill s;
    if (!f->p->spill) return SNUG_OK;
    snug_err rc = io_spill_open(f->p->spill, floats * sizeof(float), &s, err);
    io_spill_close(&s);
    return rc;
}

snug_err states_open(fit_job *f, size_t floats, float **out, snug_error *err) {
    const size_t bytes = floats * sizeof **out;
    *out = f->p->spill ? NULL : malloc(bytes);
    if (!f->p->spill) return *out ? SNUG_OK : err_nomem(err, bytes);
    fit_states *s = calloc(1, sizeof *s);
    snug_err rc = s ? io_spill_open(f->p->spill, bytes, &s->file, err) : err_nomem(err, sizeof *s);
    if (rc != SNUG_OK) {
        free(s);
        return rc;
    }
    s->next = f->states;
    f->states = s;
    *out = s->file.data;
    return SNUG_OK;
}

void states_close(fit_job *f, float **x) {
    fit_states **at = &f->states;
    while (*at && (*at)->file.data != *x) at = &(*at)->next;
    fit_states *s = *at;
    if (!s || !*x) {
        free(*x);
    } else {
        *at = s->next;
        io_spill_close(&s->file);
        free(s);
    }
    *x = NULL;
}

/* The array that x lies in, and where. */
static const fit_states *find(const fit_job *f, const float *x, size_t *offset) {
    for (const fit_states *s = f->states; s; s = s->next) {
        *offset = (size_t)((uintptr_t)x - (uintptr_t)s->file.data);
        if ((uintptr_t)x >= (uintptr_t)s->file.data && *offset < s->file.bytes) return s;
    }
    return NULL;
}

void states_want(const fit_job *f, const float *x, size_t floats) {
    size_t offset;
    const fit_states *s = find(f, x, &offset);
    if (s) io_spill_want(&s->file, offset, floats * sizeof *x);
}

void states_drop(const fit_job *f, const float *x, size_t floats) {
    size_t offset;
    const fit_states *s = find(f, x, &offset);
    if (s) io_spill_drop(&s->file, offset, floats * sizeof *x);
}

void states_copy(const fit_job *f, float *to, const float *from, size_t floats) {
    for (size_t i = 0; i < floats; i += STEP) {
        const size_t n = floats - i < STEP ? floats - i : STEP;
        memcpy(to + i, from + i, n * sizeof *to);
        states_drop(f, to + i, n);
        states_drop(f, from + i, n);
    }
}
