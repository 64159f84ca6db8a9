/* Fetching: pieces of files over several connections at once, in one thread.
 *
 * A file's missing ranges are cut into pieces of a sixteenth of the file, at least 4 MB and at most 64: small enough that the last
 * ones end together, large enough that the way there (a redirect each) does not count. Files are taken in order, so that the first
 * ones are whole early. Every finished megabyte goes into the journal: that much of each connection is what a kill can cost.
 *
 * A server may not give ranges: it answers 200 where 206 was asked for, or 416. Then the file comes in one stream, from its
 * beginning. What fails and may pass goes back into the queue, with a delay that doubles; a piece that got on counts as new. */
#include "base/err.h"
#include "hub/curl.h"
#include "hub/hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPEN_PARTS = 32, KEEP_BYTES = 1 << 20, PIECES_PER_FILE = 16 };
static const uint64_t LEAST_PIECE = 4u << 20, LARGEST_PIECE = 64u << 20;
static const double VERIFY_SHARE = 0.05; /* hashing from the page cache, beside a network of 50 to 100 MB/s */
static const double NOTED_DELAY_S = 2;   /* shorter waits are not worth a line */

typedef struct piece {
    size_t file;
    uint64_t begin, end;
    int failures;
    double not_before;
} piece;

typedef struct slot {
    struct fetch *f;
    void *easy; /* NULL: free */
    hub_reply reply;
    piece p;
    uint64_t pos, kept; /* [p.begin, pos) is written, [p.begin, kept) in the journal */
    bool ranged;        /* part of a file was asked for                                */
    bool accepted;      /* the answer is what was asked for                            */
    bool refused;       /* it is the whole file, though a part was asked for           */
    snug_error fault;   /* what ends everything                                        */
} slot;

typedef struct fetch {
    hub *h;
    bool replace;
    part *part; /* of each chosen file */
    const char **url;
    size_t n, next, n_open, n_complete;
    piece *queue;
    size_t n_queue, cap_queue;
    slot *slot;
    int n_slots;
    double pause_until;
    uint64_t total, received;
    meter m;
} fetch;

/* ---- the queue ---- */

static snug_err enqueue(fetch *f, piece p, snug_error *err) {
    if (f->n_queue == f->cap_queue) {
        const size_t cap = f->cap_queue ? 2 * f->cap_queue : 64;
        piece *bigger = realloc(f->queue, cap * sizeof *bigger);
        if (!bigger) return err_nomem(err, cap * sizeof *bigger);
        f->queue = bigger;
        f->cap_queue = cap;
    }
    f->queue[f->n_queue++] = p;
    return SNUG_OK;
}

static void dequeue(fetch *f, size_t i) {
    memmove(f->queue + i, f->queue + i + 1, (f->n_queue - i - 1) * sizeof *f->queue);
    f->n_queue--;
}

static snug_err enqueue_span(fetch *f, size_t file, uint64_t begin, uint64_t end, snug_error *err) {
    uint64_t step = f->part[file].file->bytes / PIECES_PER_FILE;
    step = step < LEAST_PIECE ? LEAST_PIECE : step > LARGEST_PIECE ? LARGEST_PIECE : step;
    snug_err rc = SNUG_OK;
    for (; begin < end && rc == SNUG_OK; begin += step)
        rc = enqueue(f, (piece){.file = file, .begin = begin, .end = end - begin > step ? begin + step : end}, err);
    return rc;
}

/* Opens a file and queues what is missing of it. */
static snug_err open_file(fetch *f, size_t i, snug_error *err) {
    part *p = &f->part[i];
    if (!f->url[i] && !(f->url[i] = hub_file_url(f->h, &f->h->mem, p->file->path))) return err_nomem(err, strlen(p->file->path));
    snug_err rc = part_open(p, p->file, err);
    if (rc != SNUG_OK) return rc;
    f->n_open++;
    if (p->file->present) return SNUG_OK;
    uint64_t at = 0;
    for (size_t k = 0; k < p->done.n && rc == SNUG_OK; at = p->done.at[k++].end) rc = enqueue_span(f, i, at, p->done.at[k].begin, err);
    return rc == SNUG_OK ? enqueue_span(f, i, at, p->file->bytes, err) : rc;
}

/* ---- what a server sends ---- */

/* "bytes 100-199/1000": the range that was asked for, of a file of the size that was listed. */
static bool range_is_right(const slot *s, uint64_t bytes) {
    unsigned long long begin, end, whole;
    const int n = sscanf(s->reply.content_range, "bytes %llu-%llu/%llu", &begin, &end, &whole);
    return n >= 2 && begin == s->pos && end >= begin && end < s->p.end && (n == 2 || whole == bytes);
}

/* The first bytes of an answer are there: is it the one to the question? */
static snug_err accept_answer(slot *s, snug_error *err) {
    const hub *h = s->f->h;
    const hub_file *file = s->f->part[s->p.file].file;
    curl_off_t length = -1;
    long status = 0;
    h->curl->easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
    h->curl->easy_getinfo(s->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    s->refused = s->ranged && status == 200;
    if ((status != 200 && status != 206) || s->refused) return SNUG_OK;
    if (status == 206 && !range_is_right(s, file->bytes))
        return err_set(err, SNUG_ERR_MISMATCH, "%s: asked for bytes %llu to %llu of %llu, the server answers with '%s'", file->path,
                       (unsigned long long)s->pos, (unsigned long long)s->p.end - 1, (unsigned long long)file->bytes,
                       s->reply.content_range);
    if (status == 200 && length >= 0 && (uint64_t)length != file->bytes)
        return err_set(err, SNUG_ERR_MISMATCH, "%s: the hub lists %llu bytes, the server sends %lld", file->path,
                       (unsigned long long)file->bytes, (long long)length);
    s->accepted = true;
    return SNUG_OK;
}

/* What is written but not in the journal goes there. */
static snug_err keep(slot *s, snug_error *err) {
    const uint64_t from = s->kept;
    s->kept = s->pos;
    return part_keep(&s->f->part[s->p.file], from, s->pos, err);
}

static size_t on_body(char *data, size_t one, size_t n, void *user) {
    slot *s = user;
    if (!s->accepted && accept_answer(s, &s->fault) != SNUG_OK) return 0;
    if (!s->accepted) return 0; /* the text of an error, or a whole file instead of a part: not read, the transfer ends here */
    part *p = &s->f->part[s->p.file];
    if (n > s->p.end - s->pos) {
        err_set(&s->fault, SNUG_ERR_MISMATCH, "%s: the server sends more than the %llu bytes that the hub lists", p->file->path,
                (unsigned long long)p->file->bytes);
        return 0;
    }
    if (part_write(p, s->pos, data, n, &s->fault) != SNUG_OK) return 0;
    s->pos += n;
    s->f->received += n;
    if (s->pos - s->kept >= KEEP_BYTES && keep(s, &s->fault) != SNUG_OK) return 0;
    return n;
}

/* ---- transfers ---- */

static snug_err start(fetch *f, slot *s, piece p, snug_error *err) {
    const curl_calls *c = f->h->curl;
    const part *t = &f->part[p.file];
    *s = (slot){.f = f, .p = p, .pos = p.begin, .kept = p.begin, .ranged = !t->single && p.end - p.begin < t->file->bytes};
    s->easy = hub_request(f->h, f->url[p.file], &s->reply);
    char range[64];
    snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)p.begin, (unsigned long long)p.end - 1);
    bool ok = s->easy && c->easy_setopt(s->easy, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK;
    ok = ok && c->easy_setopt(s->easy, CURLOPT_WRITEDATA, s) == CURLE_OK && c->easy_setopt(s->easy, CURLOPT_PRIVATE, s) == CURLE_OK;
    if (s->ranged) ok = ok && c->easy_setopt(s->easy, CURLOPT_RANGE, range) == CURLE_OK;
    if (ok && c->multi_add_handle(f->h->multi, s->easy) == CURLM_OK) return SNUG_OK;
    hub_forget(f->h, s->easy);
    s->easy = NULL;
    return err_nomem(err, 4096);
}

static snug_err stop(fetch *f, slot *s, snug_error *err) {
    hub_forget(f->h, s->easy);
    s->easy = NULL;
    return s->accepted ? keep(s, err) : SNUG_OK;
}

static snug_err take_one_stream(fetch *f, size_t file, int failures, snug_error *err) {
    part *p = &f->part[file];
    snug_err rc = SNUG_OK;
    for (int i = 0; i < f->n_slots && rc == SNUG_OK; i++)
        if (f->slot[i].easy && f->slot[i].p.file == file) rc = stop(f, &f->slot[i], err);
    for (size_t i = f->n_queue; i-- > 0;)
        if (f->queue[i].file == file) dequeue(f, i);
    p->single = true;
    char note[256];
    snprintf(note, sizeof note, "the server gives no ranges of %.180s: it comes in one stream", p->file->path);
    if (rc == SNUG_OK) rc = meter_note(&f->m, note, err);
    return rc == SNUG_OK ? enqueue(f, (piece){.file = file, .end = p->file->bytes, .failures = failures}, err) : rc;
}

static snug_err try_again(fetch *f, piece p, const hub_reply *r, const char *why, snug_error *err) {
    const double delay = hub_retry_delay(p.failures, r), now = clock_seconds();
    p.not_before = now + delay;
    if ((r->status == 429 || r->status == 503) && p.not_before > f->pause_until) f->pause_until = p.not_before; /* it means all of us */
    char note[256];
    snprintf(note, sizeof note, "%.120s: %.80s; goes on in %.0f s", f->part[p.file].file->path, why, delay);
    snug_err rc = delay >= NOTED_DELAY_S ? meter_note(&f->m, note, err) : SNUG_OK;
    return rc == SNUG_OK ? enqueue(f, p, err) : rc;
}

static snug_err end_transfer(fetch *f, slot *s, int code, snug_error *err) {
    const part *t = &f->part[s->p.file];
    piece p = s->p;
    hub_take_end(f->h, s->easy, f->url[p.file], &s->reply);
    snug_err rc = stop(f, s, err);
    if (rc != SNUG_OK) return rc;
    if (s->fault.code) return err_set(err, s->fault.code, "%s", s->fault.message);
    if (s->accepted && s->pos == p.end) return SNUG_OK;
    if (!s->accepted && code == CURLE_WRITE_ERROR) code = CURLE_OK; /* ended by us: the status says it all */
    if (s->refused || (s->ranged && code == CURLE_OK && s->reply.status == 416)) return take_one_stream(f, p.file, p.failures, err);
    p.failures = s->pos > p.begin && !t->single ? 1 : p.failures + 1;
    if (!t->single) p.begin = s->pos;
    if (code == CURLE_OK && (s->reply.status == 200 || s->reply.status == 206)) code = CURLE_PARTIAL_FILE; /* an orderly end, too early */
    if (p.failures >= HUB_MAX_FAILURES || !hub_may_pass(code, &s->reply)) return hub_failure(f->h, code, &s->reply, t->file->path, err);
    char why[64];
    snprintf(why, sizeof why, "the server answers %ld", s->reply.status);
    return try_again(f, p, &s->reply, code == CURLE_OK ? why : f->h->curl->easy_strerror((CURLcode)code), err);
}

static snug_err end_transfers(fetch *f, snug_error *err) {
    const curl_calls *c = f->h->curl;
    snug_err rc = SNUG_OK;
    int left;
    for (CURLMsg *msg; rc == SNUG_OK && (msg = c->multi_info_read(f->h->multi, &left));) {
        char *mine = NULL;
        if (msg->msg != CURLMSG_DONE) continue;
        const int code = msg->data.result;
        c->easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &mine);
        rc = end_transfer(f, (slot *)(void *)mine, code, err);
    }
    return rc;
}

/* Gives every free connection a piece, and opens files when the queue has none that may go. */
static snug_err fill_slots(fetch *f, snug_error *err) {
    const double now = clock_seconds();
    snug_err rc = SNUG_OK;
    for (int i = 0; i < f->n_slots && rc == SNUG_OK && now >= f->pause_until; i++) {
        if (f->slot[i].easy) continue;
        size_t k = 0;
        while (k < f->n_queue && f->queue[k].not_before > now) k++;
        while (k == f->n_queue && f->next < f->n && f->n_open < MAX_OPEN_PARTS && rc == SNUG_OK) rc = open_file(f, f->next++, err);
        if (rc != SNUG_OK || k == f->n_queue) return rc;
        const piece p = f->queue[k];
        dequeue(f, k);
        rc = start(f, &f->slot[i], p, err);
    }
    return rc;
}

/* ---- hashes ---- */

static snug_err finish_file(fetch *f, size_t i, snug_error *err) {
    part *p = &f->part[i];
    hub_file *file = p->file;
    char found[DIGEST_HEX_MAX], note[300];
    bool wrong;
    f->n_open--;
    snug_err rc = part_finish(p, &wrong, found, err);
    if (rc == SNUG_OK && !wrong) f->n_complete++;
    if (rc != SNUG_OK || !wrong) return rc;
    if (file->present && !f->replace)
        return err_set(err, SNUG_ERR_MISMATCH,
                       "%s: is there, but is not the hub's file: its %s is %.12s..., the hub has %.12s...; move it away, pull into another "
                       "folder, or let --replace overwrite it",
                       file->target, digest_name(file->kind), found, file->hash);
    if (!file->present && !p->resumed)
        return err_set(err, SNUG_ERR_MISMATCH,
                       "%s: the %s of what came is %.12s..., the hub has %.12s...: it was deleted; the same command fetches it again",
                       file->target, digest_name(file->kind), found, file->hash);
    snprintf(note, sizeof note,
             file->present ? "%.200s is not the hub's file: replaced" : "what an earlier run left of %.200s is damaged: fetched again",
             file->path);
    file->present = false;
    rc = meter_warn(&f->m, note, err);
    return rc == SNUG_OK ? open_file(f, i, err) : rc;
}

/* One slice of one file. *worked: there was something to do. */
static snug_err hash_some(fetch *f, bool *worked, snug_error *err) {
    *worked = false;
    for (size_t i = 0; i < f->next; i++) {
        part *p = &f->part[i];
        if (!p->open || (!part_can_hash(p) && !part_is_hashed(p))) continue;
        *worked = true;
        return part_can_hash(p) ? part_hash_some(p, err) : finish_file(f, i, err);
    }
    return SNUG_OK;
}

/* ---- the whole ---- */

static snug_err show(fetch *f, snug_error *err) {
    uint64_t done = 0, hashed = 0;
    const char *name = "";
    bool busy = f->n_queue > 0 || f->next < f->n;
    for (size_t i = 0; i < f->n; i++) {
        const part *p = &f->part[i];
        done += p->complete || p->file->present ? p->file->bytes : p->open ? p->done.total : p->file->have;
        hashed += p->complete ? p->file->bytes : p->hashed;
        if (!*name && p->open) name = p->file->path;
    }
    for (int i = 0; i < f->n_slots; i++) {
        const slot *s = &f->slot[i];
        if (!s->easy) continue;
        busy = true;
        done += s->pos - s->kept;
        name = f->part[s->p.file].file->path;
    }
    if (busy && f->m.current == 0) return meter_update(&f->m, done < f->total ? done : f->total, name, err);
    meter_begin(&f->m, 1);
    return meter_update(&f->m, hashed, name, err);
}

static snug_err run(fetch *f, snug_error *err) {
    snug_err rc = SNUG_OK;
    while (rc == SNUG_OK && f->n_complete < f->n) {
        int running;
        bool worked = false;
        rc = fill_slots(f, err);
        f->h->curl->multi_perform(f->h->multi, &running);
        if (rc == SNUG_OK) rc = end_transfers(f, err);
        if (rc == SNUG_OK) rc = hash_some(f, &worked, err);
        if (rc == SNUG_OK) rc = show(f, err);
        if (rc == SNUG_OK && !worked) f->h->curl->multi_poll(f->h->multi, NULL, 0, 100, NULL);
    }
    return rc;
}

static void begin_meter(fetch *f, snug_progress progress) {
    uint64_t have = 0;
    for (size_t i = 0; i < f->n; i++) {
        f->total += f->part[i].file->bytes;
        have += f->part[i].file->have;
    }
    meter_init(&f->m, progress);
    meter_add(&f->m, "pull", "bytes", f->total, (double)(f->total - have));
    meter_add(&f->m, "verify", "bytes", f->total, VERIFY_SHARE * (double)f->total);
    meter_begin(&f->m, 0);
    meter_skip(&f->m, have);
}

snug_err hub_fetch(hub *h, int connections, bool replace, snug_progress progress, uint64_t *fetched_bytes, snug_error *err) {
    fetch f = {.h = h, .replace = replace, .n_slots = connections};
    f.part = calloc(h->n_files + 1, sizeof *f.part);
    f.url = calloc(h->n_files + 1, sizeof *f.url);
    f.slot = calloc((size_t)connections, sizeof *f.slot);
    snug_err rc = f.part && f.url && f.slot ? SNUG_OK : err_nomem(err, h->n_files * sizeof *f.part);
    if (rc == SNUG_OK) {
        for (size_t i = 0; i < h->n_files; i++)
            if (h->file[i].chosen) f.part[f.n++].file = &h->file[i];
        begin_meter(&f, progress);
        rc = run(&f, err);
        snug_error ignored; /* of what is stopped as much is kept as can be; the first error is the one to tell */
        for (int i = 0; i < f.n_slots; i++)
            if (f.slot[i].easy) stop(&f, &f.slot[i], &ignored);
        for (size_t i = 0; i < f.n; i++) part_close(&f.part[i]);
        if (rc == SNUG_OK) meter_finish(&f.m);
    }
    *fetched_bytes = f.received;
    free(f.slot);
    free(f.queue);
    free(f.url);
    free(f.part);
    return rc;
}
