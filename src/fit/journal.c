/* The journal: what a fit has finished, so that a killed one goes on and ends with the same bytes.
 *
 * OUT.journal is text, one record per line:   <xxh3-64 of the rest, 16 hex digits> {"kind": ..., "index": ..., "value": ...}
 * The first record, kind "options", says what was asked for; a resume with other options is refused, naming the difference.
 * Records are appended and made durable one at a time, after the data that they speak of. A line that is cut short or damaged ends
 * the journal: it and what follows is forgotten, as if the kill had come a little earlier. Numbers that decide the output travel
 * as the 16 hex digits of their bits. */
#include "fit/fit.h"

#include "base/cluster.h"
#include "base/err.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static const size_t MAX_JOURNAL_BYTES = (size_t)1 << 30;

typedef struct record { char kind[16]; int64_t index; json_t *value; } record;

struct fit_journal {
    int fd;     /* -1: memory only */
    char *path, *state_path;
    bool resumed;
    record *record;
    size_t n, cap;
};

/* ---- records in memory ---- */

const json_t *journal_find(const fit_journal *j, const char *kind, int64_t index) {
    for (size_t i = j ? j->n : 0; i-- > 0;) /* the newest wins */
        if (j->record[i].index == index && strcmp(j->record[i].kind, kind) == 0) return j->record[i].value;
    return NULL;
}

static snug_err remember(fit_journal *j, const char *kind, int64_t index, json_t *value, snug_error *err) {
    if (j->n == j->cap) {
        size_t cap = j->cap ? 2 * j->cap : 64;
        record *bigger = realloc(j->record, cap * sizeof *bigger);
        if (!bigger) {
            json_decref(value);
            return err_nomem(err, cap * sizeof *bigger);
        }
        j->record = bigger;
        j->cap = cap;
    }
    record *r = &j->record[j->n++];
    snprintf(r->kind, sizeof r->kind, "%s", kind);
    r->index = index;
    r->value = value;
    return SNUG_OK;
}

json_t *journal_doubles(const double *v, size_t n) {
    char *text = malloc(16 * n + 1);
    if (!text) return NULL;
    for (size_t i = 0; i < n; i++) {
        uint64_t bits;
        memcpy(&bits, &v[i], 8);
        snprintf(text + 16 * i, 17, "%016llx", (unsigned long long)bits);
    }
    text[16 * n] = 0;
    json_t *out = json_stringn(text, 16 * n);
    free(text);
    return out;
}

bool journal_get_doubles(const json_t *j, double *v, size_t n) {
    const char *text = json_string_value(j);
    if (!text || json_string_length(j) != 16 * n) return false;
    for (size_t i = 0; i < n; i++) {
        char digits[17], *end;
        memcpy(digits, text + 16 * i, 16);
        digits[16] = 0;
        uint64_t bits = strtoull(digits, &end, 16);
        if (*end) return false;
        memcpy(&v[i], &bits, 8);
    }
    return true;
}

/* ---- the file ---- */

static snug_err failed(snug_error *err, const char *path, const char *what) {
    return err_set(err, SNUG_ERR_IO, "%s: %s failed: %s", path, what, strerror(errno));
}

static bool format_line(buf *b, const char *kind, int64_t index, const json_t *value) {
    json_t *line = json_pack("{s:s, s:I, s:O}", "kind", kind, "index", (json_int_t)index, "value", (json_t *)(uintptr_t)value);
    char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
    bool ok = text && buf_printf(b, "%016llx ", (unsigned long long)hash_bytes(text, strlen(text))) && buf_append_str(b, text) &&
              buf_append_str(b, "\n");
    json_decref(line);
    free(text);
    return ok;
}

static snug_err write_line(fit_journal *j, const char *kind, int64_t index, const json_t *value, snug_error *err) {
    buf b = {0};
    snug_err rc = format_line(&b, kind, index, value) ? SNUG_OK : err_nomem(err, b.len);
    for (size_t at = 0; at < b.len && rc == SNUG_OK;) {
        ssize_t n = write(j->fd, b.data + at, b.len - at);
        if (n < 0 && errno != EINTR) rc = failed(err, j->path, "writing");
        else if (n > 0) at += (size_t)n;
    }
    if (rc == SNUG_OK && fdatasync(j->fd) != 0) rc = failed(err, j->path, "fdatasync");
    buf_fini(&b);
    return rc;
}

snug_err journal_put(fit_journal *j, const char *kind, int64_t index, json_t *value, snug_error *err) {
    if (!value) return err_nomem(err, 64);
    snug_err rc = j->fd >= 0 ? write_line(j, kind, index, value, err) : SNUG_OK;
    if (rc == SNUG_OK) return remember(j, kind, index, value, err);
    json_decref(value);
    return rc;
}

/* One line without its newline: its record, or false when it is damaged. The value is a new reference. */
static bool parse_line(const char *text, size_t n, record *out) {
    char digits[17], *end;
    if (n < 18 || text[16] != ' ') return false;
    memcpy(digits, text, 16);
    digits[16] = 0;
    uint64_t sum = strtoull(digits, &end, 16);
    if (*end || hash_bytes(text + 17, n - 17) != sum) return false;
    json_t *line = json_loadb(text + 17, n - 17, 0, NULL);
    const char *kind = json_string_value(json_object_get(line, "kind"));
    json_t *index = json_object_get(line, "index"), *value = json_object_get(line, "value");
    bool ok = kind && json_is_integer(index) && value;
    if (ok) {
        snprintf(out->kind, sizeof out->kind, "%s", kind);
        out->index = json_integer_value(index);
        out->value = json_incref(value);
    }
    json_decref(line);
    return ok;
}

/* Adds the records of some lines; *good: bytes of whole, undamaged lines before the first that is not. */
static snug_err take_lines(fit_journal *j, const char *text, size_t n, bool (*wanted)(const char *kind), size_t *good, snug_error *err) {
    size_t at = 0;
    snug_err rc = SNUG_OK;
    while (at < n && rc == SNUG_OK) {
        const char *eol = memchr(text + at, '\n', n - at);
        record r;
        if (!eol || !parse_line(text + at, (size_t)(eol - text) - at, &r)) break;
        at = (size_t)(eol - text) + 1;
        if (!wanted || wanted(r.kind)) rc = remember(j, r.kind, r.index, r.value, err);
        else json_decref(r.value);
    }
    *good = at;
    return rc;
}

static snug_err read_lines(fit_journal *j, const char *path, size_t max_bytes, bool (*wanted)(const char *kind), size_t *good, snug_error *err) {
    char *text;
    size_t n;
    *good = 0;
    snug_err rc = io_read_all(path, max_bytes, &text, &n, err);
    if (rc != SNUG_OK) return rc;
    rc = take_lines(j, text, n, wanted, good, err);
    free(text);
    return rc;
}

void journal_import(fit_journal *j, const char *path, size_t max_bytes, bool (*wanted)(const char *kind)) {
    size_t good;
    (void)read_lines(j, path, max_bytes, wanted, &good, NULL);
}

void journal_export(const fit_journal *j, const char *path, bool (*wanted)(const char *kind)) {
    buf b = {0};
    bool ok = true;
    for (size_t i = 0; i < j->n && ok; i++) {
        const record *r = &j->record[i];
        if (wanted(r->kind) && journal_find(j, r->kind, r->index) == r->value) ok = format_line(&b, r->kind, r->index, r->value);
    }
    io_writer w = {.fd = -1};
    if (ok && io_writer_open(path, false, false, &w, NULL) == SNUG_OK && io_writer_write(&w, b.data, b.len, NULL) == SNUG_OK)
        (void)io_writer_commit(&w, NULL);
    io_writer_abort(&w);
    buf_fini(&b);
}

/* ---- options ---- */

/* xxh3-64 of a file's contents. */
snug_err journal_hash_file(const char *path, uint64_t *out, snug_error *err) {
    io_file file;
    snug_err rc = io_open(path, &file, err);
    if (rc != SNUG_OK) return rc;
    hash_state *h = hash_create();
    uint8_t *chunk = malloc(1 << 20);
    if (!h || !chunk) rc = err_nomem(err, 1 << 20);
    for (uint64_t at = 0; at < file.bytes && rc == SNUG_OK;) {
        size_t n = file.bytes - at < 1 << 20 ? (size_t)(file.bytes - at) : 1 << 20;
        rc = io_pread(&file, at, chunk, n, err);
        if (rc == SNUG_OK) hash_update(h, chunk, n);
        at += n;
    }
    if (rc == SNUG_OK) *out = hash_digest(h);
    free(chunk);
    hash_destroy(h);
    io_close(&file);
    return rc;
}

static snug_err hash_file(const char *path, json_t *options, const char *key, snug_error *err) {
    uint64_t hash;
    if (!path) return SNUG_OK;
    snug_err rc = journal_hash_file(path, &hash, err);
    if (rc == SNUG_OK) json_object_set_new(options, key, json_sprintf("%016llx", (unsigned long long)hash));
    return rc;
}

static snug_err describe_options(const fit_job *f, json_t **out, snug_error *err) {
    const snug_fit_params *p = f->p;
    json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:f, s:f, s:I, s:I, s:s, s:s, s:s, s:I, s:[]}", "snug", snug_version(), "source", f->src->path,
                          "kernels", snug_cpu_level(), "size", (json_int_t)p->size_bytes, "bpw", p->bpw, "ratio", p->ratio, "ram",
                          (json_int_t)p->ram_bytes, "ctx", (json_int_t)p->n_ctx, "for", p->target == SNUG_FOR_GGUF ? "gguf" : "snug", "effort",
                          p->effort == SNUG_EFFORT_QUICK ? "quick" : p->effort == SNUG_EFFORT_MAX ? "max" : "normal", "calib", f->calib.name, "seed",
                          (json_int_t)p->seed, "pin");
    *out = o;
    if (!o) return err_nomem(err, 64);
    json_object_set_new(o, "format", json_integer(ARTIFACT_VERSION));
    json_object_set_new(o, "method", json_integer(FIT_STATS_VERSION));
    json_object_set_new(o, "source contents", json_sprintf("%016llx", (unsigned long long)f->fingerprint));
    for (size_t i = 0; i < p->n_pins; i++) json_array_append_new(json_object_get(o, "pin"), json_string(p->pins[i]));
    snug_err rc = hash_file(f->calib.file, o, "calib contents", err);
    if (rc == SNUG_OK) rc = hash_file(p->imatrix, o, "imatrix contents", err);
    return rc == SNUG_OK ? hash_file(p->plan_in, o, "plan contents", err) : rc;
}

static void show(const json_t *v, char out[96]) {
    char *text = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    snprintf(out, 96, "%s", text ? text : "nothing");
    free(text);
}

/* The first key whose values are not the same, and these for a message; NULL: none. */
static const char *difference(const json_t *then, const json_t *now, const char *except, char was[96], char is[96]) {
    const json_t *sides[2] = {now, then};
    for (int s = 0; s < 2; s++) {
        const char *key;
        json_t *unused;
        json_object_foreach((json_t *)(uintptr_t)sides[s], key, unused) {
            const json_t *a = json_object_get(then, key), *b = json_object_get(now, key);
            if ((a && b && json_equal(a, b)) || (except && strcmp(key, except) == 0)) continue;
            show(a, was);
            show(b, is);
            return key;
        }
    }
    return NULL;
}

static snug_err compare_options(const fit_journal *j, const json_t *now, snug_error *err) {
    char was[96], is[96];
    const char *key = difference(journal_find(j, "options", 0), now, NULL, was, is);
    return !key ? SNUG_OK : err_set(err, SNUG_ERR_MISMATCH, "%s is of a fit with other options: %s was %s, now %s; fit without --resume to start over",
                                    j->path, key, was, is);
}

/* ---- life ---- */

static snug_err open_file(fit_journal *j, bool resume, snug_error *err) {
    j->fd = open(j->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0666);
    if (j->fd < 0) return failed(err, j->path, "creating the journal");
    if (flock(j->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return err_set(err, SNUG_ERR_IO, "%s: another process is making this output", j->path);
    size_t good = 0;
    snug_err rc = resume ? read_lines(j, j->path, MAX_JOURNAL_BYTES, NULL, &good, err) : SNUG_OK;
    if (rc == SNUG_OK && ftruncate(j->fd, (off_t)good) != 0) rc = failed(err, j->path, "truncating");
    return rc;
}

snug_err journal_open(fit_job *f, snug_error *err) {
    fit_journal *j = calloc(1, sizeof *j);
    json_t *options = NULL;
    if (!j) return err_nomem(err, sizeof *j);
    j->fd = -1;
    f->journal = j;
    if (!f->p->output || f->p->plan_only || f->plain || cluster_rank() > 0) return SNUG_OK;
    if (asprintf(&j->path, "%s.journal", f->p->output) < 0 || asprintf(&j->state_path, "%s.state", f->p->output) < 0)
        return err_nomem(err, strlen(f->p->output));
    snug_err rc = describe_options(f, &options, err);
    if (rc == SNUG_OK) rc = open_file(j, f->p->resume, err);
    if (rc == SNUG_OK) {
        j->resumed = journal_find(j, "options", 0) != NULL;
        if (j->resumed) rc = compare_options(j, options, err);
        else {
            if (j->n && ftruncate(j->fd, 0) != 0) rc = failed(err, j->path, "truncating");
            for (; j->n; j->n--) json_decref(j->record[j->n - 1].value); /* records without options: not ours */
            if (rc == SNUG_OK) rc = journal_put(j, "options", 0, json_incref(options), err);
        }
    }
    json_decref(options);
    return rc;
}

/* ---- several processes ---- */

/* Process 0's bytes, to all. */
static snug_err share_bytes(buf *b, snug_error *err) {
    uint64_t n = b->len;
    snug_err rc = cluster_broadcast(&n, sizeof n, err);
    if (rc == SNUG_OK && !buf_reserve(b, n)) rc = err_nomem(err, n);
    if (rc == SNUG_OK) rc = cluster_broadcast(b->data, n, err);
    b->len = rc == SNUG_OK ? n : 0;
    return rc;
}

/* All were asked for the same, of the same source; its path may differ from machine to machine. */
static snug_err share_options(fit_job *f, snug_error *err) {
    buf b = {0};
    json_t *mine = NULL, *theirs = NULL;
    char was[96], is[96];
    snug_err rc = describe_options(f, &mine, err);
    char *text = mine ? json_dumps(mine, JSON_COMPACT) : NULL;
    if (rc == SNUG_OK && !(text && buf_append_str(&b, text))) rc = err_nomem(err, 64);
    if (rc == SNUG_OK) rc = share_bytes(&b, err);
    if (rc == SNUG_OK && !(theirs = json_loadb((const char *)b.data, b.len, 0, NULL))) rc = err_nomem(err, b.len);
    const char *key = theirs ? difference(theirs, mine, "source", was, is) : NULL;
    if (key) rc = err_set(err, SNUG_ERR_MISMATCH, "the processes were not asked for the same: %s is %s for process 0, here %s", key, was, is);
    free(text);
    json_decref(mine);
    json_decref(theirs);
    buf_fini(&b);
    return rc;
}

snug_err journal_share(fit_job *f, snug_error *err) {
    fit_journal *j = f->journal;
    buf b = {0};
    size_t good;
    if (cluster_size() == 1) return SNUG_OK;
    snug_err rc = share_options(f, err);
    for (size_t i = 0; i < j->n && rc == SNUG_OK; i++)
        if (!format_line(&b, j->record[i].kind, j->record[i].index, j->record[i].value)) rc = err_nomem(err, b.len);
    if (rc == SNUG_OK) rc = share_bytes(&b, err);
    if (rc == SNUG_OK && cluster_rank() > 0) rc = take_lines(j, (const char *)b.data, b.len, NULL, &good, err);
    buf_fini(&b);
    return rc;
}

bool journal_is_resumed(const fit_journal *j) { return j && j->resumed; }
const char *journal_state_path(const fit_journal *j) { return j->fd >= 0 ? j->state_path : NULL; }

snug_err journal_finish(fit_journal *j, snug_error *err) {
    if (j->fd < 0) return SNUG_OK;
    unlink(j->state_path);
    return unlink(j->path) == 0 || errno == ENOENT ? SNUG_OK : failed(err, j->path, "removing the journal");
}

void journal_close(fit_journal **j) {
    if (!*j) return;
    if ((*j)->fd >= 0) close((*j)->fd);
    for (size_t i = 0; i < (*j)->n; i++) json_decref((*j)->record[i].value);
    free((*j)->record);
    free((*j)->path);
    free((*j)->state_path);
    free(*j);
    *j = NULL;
}
