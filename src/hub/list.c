/* What the hub says that a repository holds.
 *
 *     GET /api/models/ORG/NAME/revision/REVISION           {"sha": commit, ...}
 *     GET /api/models/ORG/NAME/tree/COMMIT?recursive=true  [{"type": "file", "path", "size", "oid", "lfs": {"oid", "size"}}, ...]
 *
 * The commit is asked for first, so that all pages and files are of one state of the repository. The list comes in pages: a Link
 * header names the next one. Only the query of that link is used, on the address that was asked before: a page cannot send the
 * next request, with the user's token, elsewhere. `oid` is git's SHA-1 of the file's blob; where there is an "lfs" the blob is a
 * pointer, and lfs.oid is the SHA-256 of the file itself. */
#include "hub/hub.h"

#include "base/err.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PAGES = 1000, MAX_FILES = 1 << 20 };
static const size_t MAX_PAGE_BYTES = (size_t)64 << 20;
static const uint64_t MAX_FILE_BYTES = (uint64_t)1 << 53;

/* Lower-case hex of n digits, at most DIGEST_HEX_MAX - 1. */
static bool is_hex(const char *s, size_t n) { return strlen(s) == n && strspn(s, "0123456789abcdef") == n; }

snug_err hub_read_commit(hub *h, const char *text, size_t n, snug_error *err) {
    json_t *root = NULL;
    const char *sha = NULL;
    snug_err rc = json_read_buffer(h->repository, text, n, &root, err);
    if (rc == SNUG_OK) rc = json_get_string(root, h->repository, "sha", &sha, err);
    if (rc == SNUG_OK && !is_hex(sha, 40) && !is_hex(sha, 64))
        rc = err_set(err, SNUG_ERR_FORMAT, "%s: the hub's answer has sha '%.80s', expected a commit", h->repository, sha);
    if (rc == SNUG_OK && !(h->commit = arena_strdup(&h->mem, sha))) rc = err_nomem(err, 65);
    json_decref(root);
    return rc;
}

static snug_err read_hash(const hub *h, const json_t *entry, hub_file *f, snug_error *err) {
    const json_t *lfs = json_object_get(entry, "lfs");
    const bool large = json_is_object(lfs);
    const char *oid;
    f->kind = large ? DIGEST_SHA256 : DIGEST_GIT_SHA1;
    const json_t *from = large ? lfs : entry;
    snug_err rc = json_get_u64(from, f->path, "size", &f->bytes, err);
    if (rc == SNUG_OK) rc = json_get_string(from, f->path, "oid", &oid, err);
    if (rc != SNUG_OK) return err_prefix(err, rc, "%s", h->repository);
    if (!is_hex(oid, digest_hex_length(f->kind)) || f->bytes > MAX_FILE_BYTES)
        return err_set(err, SNUG_ERR_FORMAT, "%s: the hub lists %s with oid '%.80s' and %llu bytes, expected a %s and a size",
                       h->repository, f->path, oid, (unsigned long long)f->bytes, digest_name(f->kind));
    memcpy(f->hash, oid, strlen(oid) + 1);
    return SNUG_OK;
}

static snug_err read_entry(hub *h, const json_t *entry, buf *files, snug_error *err) {
    const char *type;
    hub_file f = {0};
    snug_err rc = json_is_object(entry)
                      ? json_get_string(entry, h->repository, "type", &type, err)
                      : err_set(err, SNUG_ERR_FORMAT, "%s: the hub's list holds something that is no object", h->repository);
    if (rc == SNUG_OK) rc = json_get_string(entry, h->repository, "path", &f.path, err);
    if (rc != SNUG_OK || strcmp(type, "file") != 0) return rc;
    const char *fault = hub_path_fault(f.path, json_string_length(json_object_get(entry, "path")));
    if (fault)
        return err_set(err, SNUG_ERR_FORMAT, "%s: the hub lists a file '%.200s', whose name %s; nothing of this repository is fetched",
                       h->repository, f.path, fault);
    f.path = arena_strdup(&h->mem, f.path);
    if (!f.path || files->len / sizeof f >= MAX_FILES) return err_nomem(err, files->len);
    rc = read_hash(h, entry, &f, err);
    return rc == SNUG_OK && !buf_append(files, &f, sizeof f) ? err_nomem(err, files->len) : rc;
}

snug_err hub_read_page(hub *h, buf *files, const char *text, size_t n, snug_error *err) {
    json_t *root = NULL;
    snug_err rc = json_read_buffer(h->repository, text, n, &root, err);
    if (rc == SNUG_OK && !json_is_array(root)) rc = err_set(err, SNUG_ERR_FORMAT, "%s: the hub's list of files is no array", h->repository);
    for (size_t i = 0; rc == SNUG_OK && i < json_array_size(root); i++) rc = read_entry(h, json_array_get(root, i), files, err);
    json_decref(root);
    return rc;
}

bool hub_next_query(const char *link, char *out, size_t cap) {
    for (const char *p = strchr(link, '<'); p; p = strchr(p + 1, '<')) {
        const char *end = strchr(p, '>');
        if (!end) return false;
        const size_t params = strcspn(end, ","); /* up to the next link of the list */
        const char *rel = strstr(end, "rel=\"next\""), *query = memchr(p, '?', (size_t)(end - p));
        if (!rel || rel >= end + params || !query) continue;
        const size_t n = (size_t)(end - query) - 1;
        if (n == 0 || n >= cap) return false;
        memcpy(out, query + 1, n);
        out[n] = 0;
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)out[i] <= 0x20 || (unsigned char)out[i] >= 0x7f || strchr("<>\"#\\", out[i])) return false;
        return true;
    }
    return false;
}

static int by_path(const void *a, const void *b) { return strcmp(((const hub_file *)a)->path, ((const hub_file *)b)->path); }

/* Sorted, and no name twice. */
static snug_err settle(hub *h, const buf *files, snug_error *err) {
    h->n_files = files->len / sizeof *h->file;
    h->file = arena_alloc(&h->mem, files->len + 1);
    if (!h->file) return err_nomem(err, files->len);
    if (files->len) memcpy(h->file, files->data, files->len);
    qsort(h->file, h->n_files, sizeof *h->file, by_path);
    for (size_t i = 1; i < h->n_files; i++)
        if (strcmp(h->file[i - 1].path, h->file[i].path) == 0)
            return err_set(err, SNUG_ERR_FORMAT, "%s: the hub lists %s twice", h->repository, h->file[i].path);
    return SNUG_OK;
}

static snug_err list_pages(hub *h, buf *files, meter *m, snug_error *err) {
    char query[sizeof((hub_reply *)0)->link] = "recursive=true", before[sizeof query] = "";
    for (int page = 0;; page++) {
        char *url = arena_printf(&h->mem, "%s/api/models/%s/tree/%s?%s", h->endpoint, h->repository, h->commit, query);
        hub_reply reply;
        if (!url) return err_nomem(err, sizeof query);
        snug_err rc = hub_get(h, url, NULL, MAX_PAGE_BYTES, &reply, m, err);
        if (rc == SNUG_OK) rc = hub_read_page(h, files, (const char *)reply.body.data, reply.body.len, err);
        buf_fini(&reply.body);
        if (rc != SNUG_OK) return rc;
        memcpy(before, query, sizeof query);
        if (!hub_next_query(reply.link, query, sizeof query)) {
            /* A page that is named in a way that is not understood must not look like the end of the list. */
            if (!strstr(reply.link, "next") && strlen(reply.link) < sizeof reply.link - 1) return SNUG_OK;
            return err_set(err, SNUG_ERR_FORMAT,
                           "%s: the hub names the next page of its list as '%.200s', expected <address?query>; rel=\"next\"", h->repository,
                           reply.link);
        }
        if (strcmp(query, before) == 0 || page + 1 == MAX_PAGES)
            return err_set(err, SNUG_ERR_FORMAT, "%s: the hub's list of files has no end", h->repository);
    }
}

snug_err hub_list(hub *h, meter *m, snug_error *err) {
    char *revision = hub_escape(&h->mem, h->revision, false);
    char *url = revision ? arena_printf(&h->mem, "%s/api/models/%s/revision/%s", h->endpoint, h->repository, revision) : NULL;
    if (!url) return err_nomem(err, strlen(h->revision));
    hub_reply reply;
    buf files = {0};
    snug_err rc = hub_get(h, url, NULL, MAX_PAGE_BYTES, &reply, m, err);
    if (rc == SNUG_OK) rc = hub_read_commit(h, (const char *)reply.body.data, reply.body.len, err);
    buf_fini(&reply.body);
    if (rc == SNUG_OK) rc = list_pages(h, &files, m, err);
    if (rc == SNUG_OK) rc = settle(h, &files, err);
    buf_fini(&files);
    return rc;
}
