/* The cache of statistics: sampled text, edge statistics and sensitivities of earlier fits of the same source.
 *
 * One file per (source fingerprint, calibration, effort, seed, version of the method, kernel level) in $XDG_CACHE_HOME/snug or
 * ~/.cache/snug, never beside the source. It holds the journal's records of these kinds, exact to the bit, so a fit with a cache
 * and one without end with the same bytes. A damaged, foreign or unwritable cache is as good as none. */
#include "fit/fit.h"

#include "base/cluster.h"
#include "base/hash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const size_t MAX_CACHE_BYTES = (size_t)1 << 30;
static const char *const cached_kinds[] = {"sample", "edges", "expert", "sens", "curve", NULL};

static bool make_folder(const char *path) { return mkdir(path, 0777) == 0 || errno == EEXIST; }

/* The cache file's path for this job; NULL: no place for one. Caller frees. */
static char *cache_path(const fit_job *f, bool create) {
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char base[4096], key[256];
    if (xdg && *xdg == '/') snprintf(base, sizeof base, "%s", xdg);
    else if (home && *home == '/') snprintf(base, sizeof base, "%s/.cache", home);
    else return NULL;
    if (create && !make_folder(base)) return NULL;
    if (strlen(base) + 64 > sizeof base) return NULL;
    strcat(base, "/snug");
    if (create && !make_folder(base)) return NULL;
    int n = snprintf(key, sizeof key, "%d|%u|%s|%016llx|%s|%016llx|%016llx|%d|%llu|%s", FIT_STATS_VERSION, order_kinds(f), snug_version(), (unsigned long long)f->fingerprint,
                     f->calib.name, (unsigned long long)f->calib.file_hash,
                     (unsigned long long)(f->imatrix ? imatrix_hash(f->imatrix) : 0), (int)f->p->effort, (unsigned long long)f->p->seed, snug_cpu_level());
    char *path = NULL;
    if (asprintf(&path, "%s/%016llx.stats", base, (unsigned long long)hash_bytes(key, (size_t)n)) < 0) return NULL;
    return path;
}

static bool is_cached_kind(const char *kind) {
    for (int i = 0; cached_kinds[i]; i++)
        if (strcmp(kind, cached_kinds[i]) == 0) return true;
    return false;
}

void cache_load(fit_job *f) {
    char *path = cluster_rank() == 0 ? cache_path(f, false) : NULL;
    if (path && io_exists(path)) journal_import(f->journal, path, MAX_CACHE_BYTES, is_cached_kind);
    free(path);
}

void cache_store(fit_job *f) {
    char *path = cluster_rank() == 0 ? cache_path(f, true) : NULL;
    if (path) journal_export(f->journal, path, is_cached_kind);
    free(path);
}
