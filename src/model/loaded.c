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
#include <sys/resource.h>
#include <unistd.h>

enum { ALIGN = 64, HUGE_PAGE = 2 << 20, FAULT_AROUND = 64 << 10 };

static uint64_t page_bytes(void) { return (uint64_t)sysconf(_SC_PAGESIZE); } /* 4, 16 or 64 KB: mappings begin at its multiples */

/* Page-aligned span of a file's tensors; false when it has none. */
static bool span_of(const store *s, uint32_t file, uint64_t *begin, uint64_t *end) {
    *begin = UINT64_MAX;
    *end = 0;
    for (size_t i = 0; i < s->n_tensors; i++)
        for (uint32_t k = 0; k < s->tensors[i].n_terms; k++) {
            const store_term *t = &s->tensors[i].term[k];
            if (t->file != file || t->apart.step) continue;
            *begin = min_u64(*begin, t->offset / page_bytes() * page_bytes());
            *end = max_u64(*end, t->offset + t->bytes);
        }
    return *begin < *end;
}

/* What of a file's span can become resident: all of it, or, where payloads stand in it that are not mapped, its tensors with what the kernel brings in
 * around each. */
static uint64_t resident_of(const store *s, uint32_t file, uint64_t span) {
    uint64_t own = 0;
    bool apart = false;
    for (size_t i = 0; i < s->n_tensors; i++)
        for (uint32_t k = 0; k < s->tensors[i].n_terms; k++) {
            const store_term *t = &s->tensors[i].term[k];
            if (t->file != file) continue;
            apart |= t->apart.step != 0;
            if (!t->apart.step) own += round_up(t->bytes, page_bytes()) + 2ull * FAULT_AROUND;
        }
    return apart ? min_u64(own, span) : span;
}

static uint64_t apart_of(const store_term *t) { return t->apart.step ? t->bytes : 0; }

static uint64_t panels_of(const store_term *t) {
    wt w = {.codec = t->codec, .params = t->params, .rows = t->rows, .cols = t->cols, .bytes = t->bytes, .layout = t->layout};
    return t->codec->panel_bytes ? t->codec->panel_bytes(&w) : 0;
}

/* Of what these panels are made from: as much, but where they hold codes that the file has entropy-coded. */
static uint64_t source_of(const store_term *t) { return min_u64(panels_of(t), t->bytes); }

uint64_t loaded_term_bytes(const store_term *t) { return max_u64(panels_of(t), t->bytes); }

static uint64_t sum_terms(const store *s, uint64_t (*of)(const store_term *t)) {
    uint64_t total = 0;
    for (size_t i = 0; i < s->n_tensors; i++)
        for (uint32_t k = 0; k < s->tensors[i].n_terms; k++) total += round_up(of(&s->tensors[i].term[k]), ALIGN);
    return total;
}
static uint64_t all_panels(const store *s) { return sum_terms(s, panels_of); }
static uint64_t all_sources(const store *s) { return sum_terms(s, source_of); }
static uint64_t all_apart(const store *s) { return sum_terms(s, apart_of); }

/* Mapped pages are let go whenever so much of them became panels. */
static uint64_t release_step(uint64_t bytes) { return min_u64(16u << 20, max_u64(bytes / 32, 64u << 10)); }

/* A step, and as much again that other threads bring in meanwhile or that was there before the first. The rows that fill no panel stay
 * mapped, and what the kernel brings in around them. */
uint64_t loaded_slack(uint64_t bytes, size_t n_partial) { return bytes ? 2 * release_step(bytes) + min_u64(bytes, n_partial * 2ull * FAULT_AROUND) : 0; }

uint64_t loaded_bytes(const store *s) {
    uint64_t total, begin, end;
    size_t n_partial = 0;
    for (size_t i = 0; i < s->n_tensors; i++)
        for (uint32_t k = 0; k < s->tensors[i].n_terms; k++)
            n_partial += panels_of(&s->tensors[i].term[k]) && s->tensors[i].term[k].rows % KERN_PANEL_ROWS;
    total = all_apart(s) + all_panels(s) - all_sources(s) + loaded_slack(all_sources(s), n_partial);
    for (size_t i = 0; i < s->n_files; i++)
        if (span_of(s, (uint32_t)i, &begin, &end)) total += resident_of(s, (uint32_t)i, round_up(end - begin, page_bytes()));
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

/* Called from any thread that made a panel: every release_step drops the mapped pages, those too that somebody is reading (they come
 * back from the page cache). */
static void panel_made(void *user, uint64_t bytes) {
    loaded *l = user;
    uint64_t step = release_step(l->source_bytes), before = atomic_fetch_add(&l->panels_made, bytes), after = before + bytes;
    if (before / step == after / step && after < l->source_bytes) return;
    for (size_t i = 0; i < l->n_sources; i++)
        madvise(l->sources[i].begin, (size_t)(l->sources[i].end - l->sources[i].begin), MADV_DONTNEED);
}

static int compare_sources(const void *a, const void *b) {
    const uint8_t *x = *(uint8_t *const *)a, *y = *(uint8_t *const *)b;
    return (x > y) - (x < y);
}

/* The whole pages of all payloads that become panels; where two touch they are one. */
static snug_err find_sources(const store *s, loaded *l, snug_error *err) {
    const uint64_t page = page_bytes();
    size_t most = 0, n = 0;
    for (size_t i = 0; i < s->n_tensors; i++) most += s->tensors[i].n_terms;
    if (!(l->sources = arena_calloc(&l->mem, most + 1, sizeof *l->sources))) return err_nomem(err, most * sizeof *l->sources);
    for (size_t i = 0; i < s->n_tensors; i++)
        for (uint32_t k = 0; k < s->tensors[i].n_terms; k++) {
            const store_term *t = &s->tensors[i].term[k];
            if (!panels_of(t)) continue;
            uint8_t *map = l->maps[t->file].at;
            uint64_t at = (uint64_t)(map - l->maps[t->file].file0);
            l->sources[n].begin = map + (t->offset - at) / page * page;
            l->sources[n++].end = map + min_u64(round_up(t->offset - at + t->bytes, page), l->maps[t->file].bytes);
        }
    qsort(l->sources, n, sizeof *l->sources, compare_sources);
    for (size_t i = 0; i < n; i++) {
        size_t last = l->n_sources - 1;
        if (i && l->sources[i].begin <= l->sources[last].end) {
            if (l->sources[i].end > l->sources[last].end) l->sources[last].end = l->sources[i].end;
        } else {
            l->sources[l->n_sources++] = l->sources[i];
        }
    }
    return SNUG_OK;
}

/* Room for all panels, on huge pages where the system has them. */
static snug_err map_panels(const store *s, loaded *l, snug_error *err) {
    uint64_t bytes = all_panels(s);
    if (!bytes) return SNUG_OK;
    void *at = mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return err_set(err, SNUG_ERR_NOMEM, "no memory for %llu bytes of weights: %s", (unsigned long long)bytes, strerror(errno));
    l->panel_map = at;
    l->panel_bytes = bytes;
    l->source_bytes = all_sources(s);
    l->panels = (uint8_t *)at + (round_up((uintptr_t)at, HUGE_PAGE) - (uintptr_t)at);
    if (bytes >= HUGE_PAGE) madvise(l->panels, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    return SNUG_OK;
}

/* Room for all payloads that are brought together here. */
static snug_err map_apart(const store *s, loaded *l, snug_error *err) {
    const uint64_t bytes = all_apart(s);
    if (!bytes) return SNUG_OK;
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return err_set(err, SNUG_ERR_NOMEM, "no memory for %llu bytes of weights: %s", (unsigned long long)bytes, strerror(errno));
    l->apart = at;
    l->apart_bytes = bytes;
    return SNUG_OK;
}

/* Where a term's payload is; one whose parts stand apart is read now. */
static snug_err payload_of(const store *s, loaded *l, const store_term *t, const uint8_t **out, snug_error *err) {
    if (!t->apart.step) {
        *out = l->maps[t->file].file0 + t->offset;
        return SNUG_OK;
    }
    uint8_t *to = l->apart + l->apart_given;
    *out = to;
    l->apart_given += round_up(t->bytes, ALIGN);
    return store_read_term(s, t, to, err);
}

static snug_err give_panels(loaded *l, const store_term *from, wt *w, snug_error *err) {
    uint64_t bytes = panels_of(from);
    if (!bytes) return SNUG_OK;
    wt_panels *p = arena_alloc(&l->mem, sizeof *p);
    _Atomic uint8_t *state = arena_calloc(&l->mem, (size_t)div_up(from->rows, KERN_PANEL_ROWS), sizeof *state);
    if (!p || !state) return err_nomem(err, sizeof *p);
    *p = (wt_panels){.data = l->panels + l->panels_given, .state = state, .made = panel_made, .user = l};
    l->panels_given += round_up(bytes, ALIGN);
    w->panels = p;
    return SNUG_OK;
}

/* The weight's terms, pointing into the maps. */
static snug_err point(const store *s, const store_tensor *t, loaded *l, weight *w, snug_error *err) {
    *w = (weight){.rows = t->rows, .cols = t->cols, .n_terms = t->n_terms};
    for (uint32_t k = 0; k < t->n_terms; k++) {
        const store_term *from = &t->term[k];
        w->term[k].row0 = from->row0;
        w->term[k].col0 = from->col0;
        const uint8_t *payload;
        snug_err rc = payload_of(s, l, from, &payload, err);
        if (!rc) rc = store_open_rows(from, 0, from->rows, payload, from->bytes, &w->term[k].wt, err);
        if (rc) return err_prefix(err, rc, "tensor '%s'", t->name);
        if ((rc = give_panels(l, from, &w->term[k].wt, err))) return rc;
    }
    return SNUG_OK;
}

/* Norms and biases are few and small: they are read, so that a cold start does not fault in a stretch of the file for
 * each. */
static snug_err place(const store *s, loaded *l, const store_tensor *t, snug_error *err) {
    layer_weights *to = t->layer < 0 ? &l->outer : &l->layers[t->layer];
    if (t->expert != EXPERT_NONE && !to->experts && !(to->experts = arena_calloc(&l->mem, s->cfg.n_experts, sizeof *to->experts)))
        return err_nomem(err, s->cfg.n_experts * sizeof *to->experts);
    if ((int)t->role < (int)ROLE_MATRICES) return point(s, t, l, layer_weight(to, t), err);
    snug_err rc = store_read_vector(s, t, &l->mem, &to->vec[t->role], err);
    if (t->role == ROLE_ROPE_FREQS) l->rope_freqs = to->vec[ROLE_ROPE_FREQS];
    return rc;
}

snug_err loaded_map(const store *s, loaded **out, snug_error *err) {
    *out = NULL;
    loaded *l = calloc(1, sizeof *l);
    if (!l) return err_nomem(err, sizeof *l);
    snug_err rc = map_files(s, l, err);
    if (!rc) rc = find_sources(s, l, err);
    if (!rc) rc = map_panels(s, l, err);
    if (!rc) rc = map_apart(s, l, err);
    if (!rc && !(l->layers = arena_calloc(&l->mem, s->cfg.n_layers, sizeof *l->layers)))
        rc = err_nomem(err, s->cfg.n_layers * sizeof *l->layers);
    for (size_t i = 0; !rc && i < s->n_tensors; i++) rc = place(s, l, &s->tensors[i], err);
    if (rc) loaded_unmap(&l);
    *out = l;
    return rc;
}

static snug_err lock(const void *from, size_t bytes, int flags, snug_error *err) {
    struct rlimit limit = {0};
    if (!bytes || mlock2(from, bytes, flags) == 0) return SNUG_OK;
    int why = errno;
    char size[ERR_SIZE_MAX], most[ERR_SIZE_MAX];
    err_size(bytes, size);
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur < bytes && why != EINVAL)
        return err_set(err, SNUG_ERR_BUDGET, "cannot lock %s of weights in memory: the limit is %s; raise it (ulimit -l) or do without", size,
                       err_size(limit.rlim_cur, most));
    return err_set(err, SNUG_ERR_NOMEM, "cannot lock %s of weights in memory: %s", size, strerror(why));
}

snug_err loaded_lock(loaded *l, snug_error *err) {
    snug_err rc = lock(l->panels, l->panel_bytes, MLOCK_ONFAULT, err);
    if (!rc) rc = lock(l->apart, l->apart_bytes, 0, err);
    for (size_t f = 0; !rc && f < l->n_files; f++) {
        uint8_t *at = l->maps[f].at, *end = at + l->maps[f].bytes;
        if (!at) continue;
        for (size_t i = 0; !rc && i < l->n_sources; i++)
            if (l->sources[i].begin >= at && l->sources[i].begin < end) {
                rc = lock(at, (size_t)(l->sources[i].begin - at), 0, err);
                at = l->sources[i].end;
            }
        if (!rc && at < end) rc = lock(at, (size_t)(end - at), 0, err);
    }
    return rc;
}

void loaded_unmap(loaded **l) {
    if (!*l) return;
    for (size_t i = 0; i < (*l)->n_files; i++)
        if ((*l)->maps[i].at) munmap((*l)->maps[i].at, (*l)->maps[i].bytes);
    if ((*l)->apart) munmap((*l)->apart, (*l)->apart_bytes);
    if ((*l)->panel_map) munmap((*l)->panel_map, (*l)->panel_bytes + HUGE_PAGE);
    arena_fini(&(*l)->mem);
    free(*l);
    *l = NULL;
}
