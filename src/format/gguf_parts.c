/* A GGUF that was split into parts, as llama-gguf-split does it:
 *
 *   NAME-00001-of-00003.gguf, NAME-00002-of-00003.gguf ...     numbered from 1
 *   split.no, split.count          which part this is, from 0, and of how many
 *   split.tensors.count            tensors of all parts together
 *
 * The first part has all keys. Whichever part is named, all are opened, and become one file: the first's keys and everybody's tensors, in order. */
#include "format/gguf.h"

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PARTS = 65535 };

void gguf_part_suffix(uint64_t i, uint64_t n, char text[GGUF_PART_SUFFIX_MAX]) {
    snprintf(text, GGUF_PART_SUFFIX_MAX, "-%05llu-of-%05llu.gguf", (unsigned long long)i + 1, (unsigned long long)n);
}

/* Which part the file says it is. *n is 0 for a file that was not split. */
static snug_err read_place(const gguf_file *g, uint64_t *i, uint64_t *n, snug_error *err) {
    snug_err rc = gguf_get_u64_or(g, "split.count", 0, n, err);
    *i = 0;
    if (rc == SNUG_OK && *n) rc = gguf_get_u64(g, "split.no", i, err);
    if (rc == SNUG_OK && *n && (*n > MAX_PARTS || *i >= *n))
        rc = err_set(err, SNUG_ERR_FORMAT, "%s: key 'split.no' is %llu and 'split.count' is %llu, expected a number below a count of at most %d", g->file.path,
                     (unsigned long long)*i, (unsigned long long)*n, MAX_PARTS);
    return rc;
}

/* The path without the ending that part i of n has: malloc'd. */
static snug_err prefix_of(const char *path, uint64_t i, uint64_t n, char **prefix, snug_error *err) {
    char suffix[GGUF_PART_SUFFIX_MAX];
    gguf_part_suffix(i, n, suffix);
    const size_t all = strlen(path), end = strlen(suffix);
    if (all <= end || strcmp(path + all - end, suffix) != 0)
        return err_set(err, SNUG_ERR_FORMAT, "%s: its keys 'split.no' and 'split.count' say that it is part %llu of %llu, expected a name that ends in '%s'; rename it, and put all parts beside it",
                       path, (unsigned long long)i + 1, (unsigned long long)n, suffix);
    *prefix = strndup(path, all - end);
    return *prefix ? SNUG_OK : err_nomem(err, all);
}

static snug_err open_part(const char *prefix, uint64_t i, uint64_t n, gguf_file **out, snug_error *err) {
    char suffix[GGUF_PART_SUFFIX_MAX], *path = NULL;
    uint64_t own = 0, count = 0;
    gguf_part_suffix(i, n, suffix);
    if (asprintf(&path, "%s%s", prefix, suffix) < 0) return err_nomem(err, strlen(prefix));
    snug_err rc = SNUG_OK;
    if (!io_exists(path)) rc = err_set(err, SNUG_ERR_IO, "%s: is missing: part %llu of a model in %llu parts, which must lie in one folder", path, (unsigned long long)i + 1, (unsigned long long)n);
    if (rc == SNUG_OK) rc = gguf_open(path, out, err);
    if (rc == SNUG_OK) rc = read_place(*out, &own, &count, err);
    if (rc == SNUG_OK && (own != i || count != n))
        rc = err_set(err, SNUG_ERR_FORMAT, "%s: key 'split.no' is %llu and 'split.count' is %llu, expected %llu and %llu as its name has it", path, (unsigned long long)own,
                     (unsigned long long)count, (unsigned long long)i, (unsigned long long)n);
    free(path);
    return rc;
}

/* Takes a part's tensors and its open file. */
static snug_err take_part(gguf_file *all, gguf_file *part, uint32_t i, buf *tensors, snug_error *err) {
    for (size_t k = 0; k < part->n_tensors; k++) {
        gguf_tensor t = part->tensors[k];
        t.file = i;
        t.name = arena_strdup(&all->mem, t.name);
        if (!t.name || !buf_append(tensors, &t, sizeof t)) return err_nomem(err, tensors->len);
    }
    all->files[i] = part->file;
    all->n_files = i + 1;
    part->file = (io_file){.fd = -1};
    return SNUG_OK;
}

static int by_name(const void *a, const void *b) { return strcmp((*(const gguf_tensor *const *)a)->name, (*(const gguf_tensor *const *)b)->name); }

/* Gives the table of all tensors its place, after it was compared with what the first part says. */
static snug_err finish(gguf_file *g, const buf *tensors, snug_error *err) {
    uint64_t said;
    const size_t n = tensors->len / sizeof(gguf_tensor);
    snug_err rc = gguf_get_u64_or(g, "split.tensors.count", n, &said, err);
    if (rc != SNUG_OK) return rc;
    if (said != n)
        return err_set(err, SNUG_ERR_FORMAT, "%s: key 'split.tensors.count' is %llu, found %zu tensors in %zu parts", g->file.path, (unsigned long long)said, n, g->n_files);
    g->tensors = arena_alloc(&g->mem, tensors->len);
    g->tensors_by_name = arena_calloc(&g->mem, n + 1, sizeof *g->tensors_by_name);
    if (!g->tensors || !g->tensors_by_name) return err_nomem(err, tensors->len);
    if (n) memcpy(g->tensors, tensors->data, tensors->len);
    g->n_tensors = n;
    for (size_t i = 0; i < n; i++) g->tensors_by_name[i] = &g->tensors[i];
    qsort(g->tensors_by_name, n, sizeof *g->tensors_by_name, by_name);
    for (size_t i = 1; i < n; i++)
        if (by_name(&g->tensors_by_name[i - 1], &g->tensors_by_name[i]) == 0)
            return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%.80s' stands in %s too", g->files[g->tensors_by_name[i - 1]->file].path, g->tensors_by_name[i]->name,
                           g->files[g->tensors_by_name[i]->file].path);
    return SNUG_OK;
}

/* All parts of what begins with `prefix`. */
static snug_err open_all(const char *prefix, uint64_t n, gguf_file **out, snug_error *err) {
    buf tensors = {0};
    gguf_file *g = NULL;
    snug_err rc = open_part(prefix, 0, n, &g, err);
    io_file *files = rc == SNUG_OK ? arena_calloc(&g->mem, n, sizeof *files) : NULL;
    if (rc == SNUG_OK && !files) rc = err_nomem(err, n * sizeof *files);
    if (rc == SNUG_OK) {
        files[0] = g->file;
        g->files = files;
        if (!buf_append(&tensors, g->tensors, g->n_tensors * sizeof *g->tensors)) rc = err_nomem(err, tensors.len);
    }
    for (uint64_t i = 1; i < n && rc == SNUG_OK; i++) {
        gguf_file *part = NULL;
        rc = open_part(prefix, i, n, &part, err);
        if (rc == SNUG_OK) rc = take_part(g, part, (uint32_t)i, &tensors, err);
        gguf_close(&part);
    }
    if (rc == SNUG_OK) rc = finish(g, &tensors, err);
    buf_fini(&tensors);
    if (rc != SNUG_OK) gguf_close(&g);
    *out = g;
    return rc;
}

snug_err gguf_open_parts(const char *path, gguf_file **out, snug_error *err) {
    uint64_t i = 0, n = 0;
    char *prefix = NULL;
    snug_err rc = gguf_open(path, out, err);
    if (rc == SNUG_OK) rc = read_place(*out, &i, &n, err);
    if (rc == SNUG_OK && n <= 1) return SNUG_OK;
    if (rc == SNUG_OK) rc = prefix_of(path, i, n, &prefix, err);
    gguf_close(out);
    if (rc == SNUG_OK) rc = open_all(prefix, n, out, err);
    free(prefix);
    return rc;
}
