/* Mapping weights. Of each file only the span from its first tensor to its last is mapped, so that the kernel's
 * fault-around cannot make headers and vocabularies resident a second time, and the bound on resident memory is the
 * span. */
#include "model/loaded.h"

#include "base/checked.h"
#include "base/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

/* Page-aligned span of a file's tensors; false when it has none. */
static bool span_of(const store *s, uint32_t file, uint64_t *begin, uint64_t *end) {
    *begin = UINT64_MAX;
    *end = 0;
    for (size_t i = 0; i < s->n_tensors; i++)
        for (uint32_t k = 0; k < s->tensors[i].n_terms; k++) {
            const store_term *t = &s->tensors[i].term[k];
            if (t->file != file) continue;
            *begin = min_u64(*begin, t->offset / PAGE * PAGE);
            *end = max_u64(*end, t->offset + t->bytes);
        }
    return *begin < *end;
}

uint64_t loaded_bytes(const store *s) {
    uint64_t total = 0, begin, end;
    for (size_t i = 0; i < s->n_files; i++)
        if (span_of(s, (uint32_t)i, &begin, &end)) total += round_up(end - begin, PAGE);
    return total;
}

static snug_err map_files(const store *s, loaded *l, snug_error *err) {
    l->maps = arena_calloc(&l->mem, s->n_files + 1, sizeof *l->maps);
    if (!l->maps) return err_nomem(err, s->n_files * sizeof *l->maps);
    for (; l->n_files < s->n_files; l->n_files++) {
        const io_file *f = &s->files[l->n_files];
        uint64_t begin, end;
        l->maps[l->n_files].at = NULL;
        if (!span_of(s, (uint32_t)l->n_files, &begin, &end)) continue;
        void *at = mmap(NULL, end - begin, PROT_READ, MAP_PRIVATE, f->fd, (off_t)begin);
        if (at == MAP_FAILED)
            return err_set(err, SNUG_ERR_IO, "%s: cannot map %llu bytes: %s", f->path,
                           (unsigned long long)(end - begin), strerror(errno));
        l->maps[l->n_files].at = at;
        l->maps[l->n_files].bytes = end - begin;
        l->maps[l->n_files].file0 = (const uint8_t *)at - begin;
    }
    return SNUG_OK;
}

/* The weight's terms, pointing into the maps. */
static snug_err point(const store_tensor *t, const loaded *l, weight *w, snug_error *err) {
    *w = (weight){.rows = t->rows, .cols = t->cols, .n_terms = t->n_terms};
    for (uint32_t k = 0; k < t->n_terms; k++) {
        const store_term *from = &t->term[k];
        w->term[k].row0 = from->row0;
        w->term[k].col0 = from->col0;
        snug_err rc = wt_open(from->codec, from->params, from->rows, from->cols,
                              l->maps[from->file].file0 + from->offset, from->bytes, &w->term[k].wt, err);
        if (rc) return err_prefix(err, rc, "tensor '%s'", t->name);
    }
    return SNUG_OK;
}

/* Norms and biases are few and small: they are read, so that a cold start does not fault in a stretch of the file for
 * each. */
static snug_err place(const store *s, loaded *l, const store_tensor *t, snug_error *err) {
    layer_weights *to = t->layer < 0 ? &l->outer : &l->layers[t->layer];
    if ((int)t->role < (int)ROLE_MATRICES) return point(t, l, &to->w[t->role], err);
    snug_err rc = store_read_vector(s, t, &l->mem, &to->vec[t->role], err);
    if (t->role == ROLE_ROPE_FREQS) l->rope_freqs = to->vec[ROLE_ROPE_FREQS];
    return rc;
}

snug_err loaded_map(const store *s, loaded **out, snug_error *err) {
    *out = NULL;
    loaded *l = calloc(1, sizeof *l);
    if (!l) return err_nomem(err, sizeof *l);
    snug_err rc = map_files(s, l, err);
    if (!rc && !(l->layers = arena_calloc(&l->mem, s->cfg.n_layers, sizeof *l->layers)))
        rc = err_nomem(err, s->cfg.n_layers * sizeof *l->layers);
    for (size_t i = 0; !rc && i < s->n_tensors; i++) rc = place(s, l, &s->tensors[i], err);
    if (rc) loaded_unmap(&l);
    *out = l;
    return rc;
}

void loaded_unmap(loaded **l) {
    if (!*l) return;
    for (size_t i = 0; i < (*l)->n_files; i++)
        if ((*l)->maps[i].at) munmap((*l)->maps[i].at, (*l)->maps[i].bytes);
    arena_fini(&(*l)->mem);
    free(*l);
    *l = NULL;
}
