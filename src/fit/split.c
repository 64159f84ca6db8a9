/* snug_split: a GGUF cut into parts for those who upload or keep them so. A pass of its own over a file that is whole, so that a plan, its budget and
 * its journal know nothing of parts; it takes the file's size of disk space again until it is done. */
#include <snug.h>

#include "base/err.h"
#include "format/gguf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

snug_err snug_split(const char *path, uint64_t max_bytes, snug_progress progress, uint32_t *n_parts, snug_error *err) {
    static const char ending[] = ".gguf";
    meter m;
    size_t n = 0;
    if (!path || !max_bytes || !n_parts) return err_set(err, SNUG_ERR_ARG, "split needs a file and a size");
    const size_t len = strlen(path), end = sizeof ending - 1;
    char *prefix = strndup(path, len > end && strcmp(path + len - end, ending) == 0 ? len - end : len);
    if (!prefix) return err_nomem(err, len);
    meter_init(&m, progress);
    meter_add(&m, "split", "bytes", 0, 1);
    meter_begin(&m, 0);
    snug_err rc = gguf_split(path, prefix, max_bytes, &m, &n, err);
    if (rc == SNUG_OK && unlink(path) != 0) rc = err_set(err, SNUG_ERR_IO, "%s: removing it, now that its parts are there: %s", path, strerror(errno));
    if (rc == SNUG_OK) meter_finish(&m);
    *n_parts = (uint32_t)n;
    free(prefix);
    return rc;
}
