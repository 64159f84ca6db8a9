/* What a command wrote: one file, or the parts that it was cut into on demand. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The i-th part's path (from 0), or the file's own: malloc'd, NULL without memory. */
static char *part_path(const char *output, uint32_t i, uint32_t n) {
    char *path = NULL;
    const size_t len = strlen(output);
    const int stem = (int)(len > 5 && strcmp(output + len - 5, ".gguf") == 0 ? len - 5 : len);
    if (n == 0) return strdup(output);
    return asprintf(&path, "%.*s-%05u-of-%05u.gguf", stem, output, i + 1, n) < 0 ? NULL : path;
}

snug_err split_output(const char *output, uint64_t max_bytes, progress_view *view, written *out, snug_error *err) {
    uint32_t n = 0;
    snug_err code = max_bytes ? snug_split(output, max_bytes, progress_to(view), &n, err) : SNUG_OK;
    if (code) return code;
    *out = (written){.path = part_path(output, 0, n), .n_parts = n ? n : 1};
    for (uint32_t i = 0; i < out->n_parts; i++) {
        struct stat st;
        char *path = part_path(output, i, n);
        if (path && stat(path, &st) == 0) out->bytes += (uint64_t)st.st_size;
        free(path);
    }
    if (out->path) return SNUG_OK;
    *err = (snug_error){.code = SNUG_ERR_NOMEM, .message = "no memory"};
    return SNUG_ERR_NOMEM;
}

void print_written(const written *w) {
    printf("%s", w->path);
    if (w->n_parts > 1) printf(" and %u more part%s", w->n_parts - 1, w->n_parts > 2 ? "s" : "");
}
