/* Which ranges of a file are on disk.
 *
 * TARGET.journal is text: a first line that names the content ("snug pull 1 sha256 HASH BYTES"), then a line "BEGIN END" for each
 * range that was written to TARGET.part, after it was. A first line of another content makes all of it void; a line that is cut
 * short or makes no sense ends it, as if the kill had come a little earlier. Nothing here decides what is right: the hash of the
 * whole file does. */
#include "base/err.h"
#include "hub/hub.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const size_t MAX_JOURNAL_BYTES = (size_t)256 << 20;
enum { JOURNAL_HEAD_MAX = 160, JOURNAL_NAME_MAX = 4096 };

bool spans_add(span_set *s, uint64_t begin, uint64_t end) {
    if (begin >= end) return true;
    size_t first = 0, last;
    while (first < s->n && s->at[first].end < begin) first++; /* those that touch are merged */
    for (last = first; last < s->n && s->at[last].begin <= end; last++) {
        if (s->at[last].begin < begin) begin = s->at[last].begin;
        if (s->at[last].end > end) end = s->at[last].end;
        s->total -= s->at[last].end - s->at[last].begin;
    }
    if (first == last && s->n == s->cap) {
        const size_t cap = s->cap ? 2 * s->cap : 16;
        span *bigger = realloc(s->at, cap * sizeof *bigger);
        if (!bigger) return false;
        s->at = bigger;
        s->cap = cap;
    }
    memmove(s->at + first + 1, s->at + last, (s->n - last) * sizeof *s->at);
    s->at[first] = (span){begin, end};
    s->n = s->n - (last - first) + 1;
    s->total += end - begin;
    return true;
}

void spans_clip(span_set *s, uint64_t end) {
    while (s->n && s->at[s->n - 1].begin >= end) s->n--, s->total -= s->at[s->n].end - s->at[s->n].begin;
    if (s->n && s->at[s->n - 1].end > end) {
        s->total -= s->at[s->n - 1].end - end;
        s->at[s->n - 1].end = end;
    }
}

void spans_fini(span_set *s) {
    free(s->at);
    *s = (span_set){0};
}

static int head_of(const hub_file *f, char head[JOURNAL_HEAD_MAX]) {
    return snprintf(head, JOURNAL_HEAD_MAX, "snug pull 1 %s %s %llu\n", digest_name(f->kind), f->hash, (unsigned long long)f->bytes);
}

static bool path_of(const hub_file *f, char path[JOURNAL_NAME_MAX]) {
    const int n = snprintf(path, JOURNAL_NAME_MAX, "%s.journal", f->target);
    return n > 0 && n < JOURNAL_NAME_MAX;
}

/* A decimal number of at most 18 digits that ends with `stop`; NULL: it is none. */
static const char *take_number(const char *p, char stop, uint64_t *out) {
    const char *begin = p;
    for (*out = 0; *p >= '0' && *p <= '9' && p - begin < 18; p++) *out = 10 * *out + (uint64_t)(*p - '0');
    return p > begin && *p == stop ? p + 1 : NULL;
}

snug_err ranges_read(const hub_file *f, span_set *out, uint64_t *good, snug_error *err) {
    char path[JOURNAL_NAME_MAX], head[JOURNAL_HEAD_MAX], *text;
    size_t n;
    *good = 0;
    if (!path_of(f, path)) return err_set(err, SNUG_ERR_ARG, "%.200s: the path is too long", f->target);
    if (!io_exists(path)) return SNUG_OK;
    snug_err rc = io_read_all(path, MAX_JOURNAL_BYTES, &text, &n, err); /* ends with a NUL, which is no number */
    if (rc != SNUG_OK) return rc;
    const size_t n_head = (size_t)head_of(f, head);
    if (n >= n_head && memcmp(text, head, n_head) == 0) {
        const char *p = text + n_head, *next;
        uint64_t begin, end;
        for (; (next = take_number(p, ' ', &begin)) && (next = take_number(next, '\n', &end)) && begin < end && end <= f->bytes; p = next)
            if (!spans_add(out, begin, end)) {
                rc = err_nomem(err, out->cap * sizeof *out->at);
                break;
            }
        *good = (uint64_t)(p - text);
    }
    free(text);
    return rc;
}

static snug_err failed(const hub_file *f, snug_error *err) {
    return err_set(err, SNUG_ERR_IO, "%s.journal: writing failed: %s", f->target, strerror(errno));
}

static snug_err append(const hub_file *f, int fd, const char *text, size_t n, snug_error *err) {
    while (n > 0) {
        const ssize_t put = write(fd, text, n);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return failed(f, err);
        text += put;
        n -= (size_t)put;
    }
    return SNUG_OK;
}

snug_err ranges_open(const hub_file *f, uint64_t good, int *fd, snug_error *err) {
    char path[JOURNAL_NAME_MAX], head[JOURNAL_HEAD_MAX];
    if (!path_of(f, path)) return err_set(err, SNUG_ERR_ARG, "%.200s: the path is too long", f->target);
    *fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
    if (*fd < 0 || ftruncate(*fd, (off_t)good) != 0) return failed(f, err);
    return good ? SNUG_OK : append(f, *fd, head, (size_t)head_of(f, head), err);
}

snug_err ranges_add(const hub_file *f, int fd, uint64_t begin, uint64_t end, snug_error *err) {
    char line[64];
    const int n = snprintf(line, sizeof line, "%llu %llu\n", (unsigned long long)begin, (unsigned long long)end);
    return append(f, fd, line, (size_t)n, err);
}

void ranges_remove(const hub_file *f) {
    char path[JOURNAL_NAME_MAX];
    if (path_of(f, path)) unlink(path);
}
