/* The public calls: a pull is opened (the hub is asked, files are chosen, the disk is looked at), shown, and fetched. */
#include "base/err.h"
#include "hub/hub.h"

#include <fnmatch.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

enum { DEFAULT_CONNECTIONS = 8, MAX_CONNECTIONS = 64 };
static const size_t MAX_INDEX_BYTES = (size_t)256 << 20;

struct snug_pull {
    hub h;
    snug_pull_summary summary;
    int connections;
    bool replace;
};

/* The names of the shards stand in a file of the repository. */
static snug_err read_index(hub *h, meter *m, snug_error *err) {
    hub_reply reply = {0};
    const char *url = hub_file_url(h, &h->mem, HUB_INDEX);
    snug_err rc = url ? hub_get(h, url, HUB_INDEX, MAX_INDEX_BYTES, &reply, m, err) : err_nomem(err, sizeof reply);
    if (rc == SNUG_OK) rc = hub_choose_shards(h, (const char *)reply.body.data, reply.body.len, err);
    buf_fini(&reply.body);
    return rc;
}

/* Where each chosen file goes, and what is there already. */
static snug_err place(hub *h, const char *folder, bool replace, snug_error *err) {
    for (size_t i = 0; i < h->n_files; i++) {
        hub_file *f = &h->file[i];
        if (!f->chosen) continue;
        if (fnmatch("*.part", f->path, 0) == 0 || fnmatch("*.journal", f->path, 0) == 0)
            return err_set(err, SNUG_ERR_UNSUPPORTED,
                           "%s: snug keeps files of its own under such names (.part, .journal); choose others with --file", f->path);
        f->target = arena_printf(&h->mem, "%s/%s", folder, f->path);
        if (!f->target) return err_nomem(err, strlen(folder) + strlen(f->path));
        snug_err rc = part_survey(f, replace, err);
        if (rc != SNUG_OK) return rc;
    }
    return SNUG_OK;
}

/* Free bytes of the disk that will hold the folder: of the nearest one above it that exists. */
static uint64_t free_bytes(const char *folder) {
    struct statvfs st;
    char *path = strdup(folder);
    const char *at = path;
    if (!path) return 0;
    while (statvfs(at, &st) != 0) {
        if (strcmp(at, ".") == 0 || strcmp(at, "/") == 0) {
            st = (struct statvfs){0};
            break;
        }
        at = dirname(path);
    }
    free(path);
    return (uint64_t)st.f_bavail * st.f_frsize;
}

static bool is_chosen(const hub *h, const char *path) {
    const hub_file *f = hub_find(h, path);
    return f && f->chosen;
}

static void summarize(snug_pull *p, const char *folder) {
    const hub *h = &p->h;
    snug_pull_summary *s = &p->summary;
    *s = (snug_pull_summary){
        .repository = h->repository, .revision = h->revision, .commit = h->commit, .folder = folder, .n_files = h->n_files};
    for (size_t i = 0; i < h->n_files; i++) {
        const hub_file *f = &h->file[i];
        if (!f->chosen) continue;
        s->n_chosen++;
        s->bytes += f->bytes;
        s->present_bytes += f->have;
        s->needed_bytes += f->bytes > f->allocated ? f->bytes - f->allocated : 0;
        if (!s->model_path && fnmatch("*.gguf", f->path, 0) == 0) s->model_path = f->target;
    }
    s->free_bytes = free_bytes(folder);
    if (is_chosen(h, "config.json") && (is_chosen(h, "model.safetensors") || is_chosen(h, HUB_INDEX))) s->model_path = folder;
}

/* The folder without slashes at its end; NULL: no memory. */
static const char *folder_of(hub *h, const char *folder) {
    if (!folder || !*folder) return h->name;
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/') n--;
    return arena_strndup(&h->mem, folder, n);
}

static snug_err open_pull(snug_pull *p, const snug_pull_params *params, snug_error *err) {
    hub *h = &p->h;
    meter m;
    meter_init(&m, params->progress);
    meter_begin(&m, meter_add(&m, "list", "files", 0, 1));
    snug_err rc = hub_parse_source(h, params->source, err);
    if (rc == SNUG_OK) rc = hub_parse_access(h, params->endpoint, params->token, err);
    const char *folder = rc == SNUG_OK ? folder_of(h, params->folder) : NULL;
    if (rc == SNUG_OK && !folder) rc = err_nomem(err, strlen(params->folder));
    if (rc == SNUG_OK) rc = hub_connect(h, err);
    if (rc == SNUG_OK) rc = hub_list(h, &m, err);
    if (rc == SNUG_OK) rc = hub_choose(h, params->patterns, params->n_patterns, params->dry_run, err);
    if (rc == SNUG_OK && h->has_index) rc = read_index(h, &m, err);
    if (rc == SNUG_OK) rc = place(h, folder, params->replace, err);
    if (rc == SNUG_OK) summarize(p, folder);
    return rc;
}

snug_err snug_pull_open(const snug_pull_params *params, snug_pull **out, snug_error *err) {
    *out = NULL;
    if (!params->source) return err_set(err, SNUG_ERR_ARG, "no source: say hf:ORG/NAME");
    if (params->connections < 0 || params->connections > MAX_CONNECTIONS)
        return err_set(err, SNUG_ERR_ARG, "%d connections, expected 1 to %d", params->connections, MAX_CONNECTIONS);
    snug_pull *p = calloc(1, sizeof *p);
    if (!p) return err_nomem(err, sizeof *p);
    p->connections = params->connections ? params->connections : DEFAULT_CONNECTIONS;
    p->replace = params->replace;
    snug_err rc = open_pull(p, params, err);
    if (rc != SNUG_OK) snug_pull_close(&p);
    *out = p;
    return rc;
}

const snug_pull_summary *snug_pull_get_summary(const snug_pull *pull) { return &pull->summary; }

snug_pull_file snug_pull_get_file(const snug_pull *pull, size_t i) {
    const hub_file *f = &pull->h.file[i];
    return (snug_pull_file){.path = f->path,
                            .bytes = f->bytes,
                            .present_bytes = f->have,
                            .hash_name = digest_name(f->kind),
                            .hash = f->hash,
                            .chosen = f->chosen};
}

snug_err snug_pull_fetch(snug_pull *pull, snug_progress progress, snug_error *err) {
    snug_pull_summary *s = &pull->summary;
    char needed[ERR_SIZE_MAX], there[ERR_SIZE_MAX];
    if (s->n_chosen == 0) return err_set(err, SNUG_ERR_ARG, "%s: no file was chosen; name one with --file", s->repository);
    if (s->needed_bytes > s->free_bytes)
        return err_set(err, SNUG_ERR_BUDGET, "%s: %s more are needed, and the disk has %s free", s->folder,
                       err_size(s->needed_bytes, needed), err_size(s->free_bytes, there));
    const double began = clock_seconds();
    snug_err rc = hub_fetch(&pull->h, pull->connections, pull->replace, progress, &s->fetched_bytes, err);
    s->seconds = clock_seconds() - began;
    return rc;
}

void snug_pull_close(snug_pull **pull) {
    if (!*pull) return;
    hub_disconnect(&(*pull)->h);
    arena_fini(&(*pull)->h.mem);
    free(*pull);
    *pull = NULL;
}
