/* A file on its way to its name: TARGET.part, its journal and its hash.
 *
 * The hash follows the finished prefix: while later ranges are still coming, what has no gap before it is read back (from the page
 * cache, mostly) and hashed, a slice at a time. When the last range is there little is left to do. A file that was there before
 * under its own name goes the same way, without a writer: it is hashed where it lies. */
#include "base/err.h"
#include "hub/hub.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HASH_BLOCK = 64 << 10, HASH_SLICE = 1 << 20 }; /* a slice takes 1 to 3 ms: connections do not notice */

snug_err part_survey(hub_file *f, bool replace, snug_error *err) {
    struct stat st;
    f->present = false;
    f->have = f->allocated = 0;
    if (stat(f->target, &st) == 0) {
        if (!S_ISREG(st.st_mode)) return err_set(err, SNUG_ERR_IO, "%s: is no regular file, and a file is to have this name", f->target);
        f->present = (uint64_t)st.st_size == f->bytes;
        if (!f->present && !replace)
            return err_set(err, SNUG_ERR_MISMATCH,
                           "%s: is there and has %llu bytes, the hub's has %llu: move it away, pull into another folder, or let --replace "
                           "overwrite it",
                           f->target, (unsigned long long)st.st_size, (unsigned long long)f->bytes);
        if (f->present) f->have = f->allocated = f->bytes;
        if (f->present) return SNUG_OK;
    }
    span_set done = {0};
    uint64_t good;
    char *part_path = NULL;
    snug_err rc = ranges_read(f, &done, &good, err);
    if (rc == SNUG_OK && asprintf(&part_path, "%s.part", f->target) < 0) rc = err_nomem(err, strlen(f->target));
    if (rc == SNUG_OK && stat(part_path, &st) == 0 && S_ISREG(st.st_mode)) {
        spans_clip(&done, (uint64_t)st.st_size);
        f->have = done.total;
        f->allocated = (uint64_t)st.st_blocks * 512;
    }
    free(part_path);
    spans_fini(&done);
    return rc;
}

/* The folders that lead to path. */
static snug_err make_folders(const char *path, snug_error *err) {
    char *copy = strdup(path);
    if (!copy) return err_nomem(err, strlen(path));
    snug_err rc = SNUG_OK;
    for (char *p = strchr(copy + 1, '/'); p && rc == SNUG_OK; p = strchr(p + 1, '/')) {
        *p = 0;
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            rc = err_set(err, SNUG_ERR_IO, "%s: cannot make the folder: %s", copy, strerror(errno));
        *p = '/';
    }
    free(copy);
    return rc;
}

static snug_err open_part(part *p, snug_error *err) {
    uint64_t good = 0;
    snug_err rc = make_folders(p->file->target, err);
    if (rc == SNUG_OK) rc = io_writer_open(p->file->target, true, true, &p->writer, err);
    if (rc == SNUG_OK) rc = ranges_read(p->file, &p->done, &good, err);
    if (rc == SNUG_OK && good == 0 && ftruncate(p->writer.fd, 0) != 0)
        rc = err_set(err, SNUG_ERR_IO, "%s: emptying the file failed: %s", p->writer.part_path, strerror(errno));
    if (rc == SNUG_OK) rc = ranges_open(p->file, good, &p->journal, err);
    spans_clip(&p->done, p->writer.pos); /* a journal may speak of more than a file that was cut holds */
    p->resumed = p->done.total > 0;
    return rc;
}

snug_err part_open(part *p, hub_file *f, snug_error *err) {
    *p = (part){.file = f, .open = true, .writer.fd = -1, .whole.fd = -1, .journal = -1};
    p->hash = digest_create(f->kind, f->bytes);
    snug_err rc = !p->hash ? err_nomem(err, 256) : f->present ? io_open(f->target, &p->whole, err) : open_part(p, err);
    if (rc != SNUG_OK) part_close(p);
    return rc;
}

snug_err part_write(part *p, uint64_t offset, const void *src, size_t n, snug_error *err) {
    return io_writer_pwrite(&p->writer, offset, src, n, err);
}

snug_err part_keep(part *p, uint64_t begin, uint64_t end, snug_error *err) {
    if (begin == end) return SNUG_OK;
    if (!spans_add(&p->done, begin, end)) return err_nomem(err, p->done.cap * sizeof *p->done.at);
    /* On its way to the disk from now on, so that the fsync before the rename does not hold up other transfers. Only a hint. */
    (void)sync_file_range(p->writer.fd, (off_t)begin, (off_t)(end - begin), SYNC_FILE_RANGE_WRITE);
    return ranges_add(p->file, p->journal, begin, end, err);
}

/* Bytes without a gap from the beginning. */
static uint64_t prefix(const part *p) {
    if (p->file->present) return p->file->bytes;
    return p->done.n && p->done.at[0].begin == 0 ? p->done.at[0].end : 0;
}

bool part_can_hash(const part *p) { return p->open && p->hashed < prefix(p); }
bool part_is_hashed(const part *p) { return p->open && p->hashed == p->file->bytes; }

snug_err part_hash_some(part *p, snug_error *err) {
    uint8_t block[HASH_BLOCK];
    const uint64_t end = prefix(p), stop = p->hashed + HASH_SLICE < end ? p->hashed + HASH_SLICE : end;
    const io_file in = p->file->present ? p->whole : (io_file){.fd = p->writer.fd, .bytes = end, .path = p->writer.part_path};
    snug_err rc = SNUG_OK;
    while (p->hashed < stop && rc == SNUG_OK) {
        const size_t n = stop - p->hashed < HASH_BLOCK ? (size_t)(stop - p->hashed) : HASH_BLOCK;
        rc = io_pread(&in, p->hashed, block, n, err);
        if (rc == SNUG_OK) digest_update(p->hash, block, n);
        p->hashed += n;
    }
    return rc;
}

snug_err part_finish(part *p, bool *wrong, char found[DIGEST_HEX_MAX], snug_error *err) {
    digest_hex(p->hash, found);
    *wrong = strcmp(found, p->file->hash) != 0;
    snug_err rc = SNUG_OK;
    if (*wrong) spans_fini(&p->done); /* nothing to keep: closing deletes it */
    else if (!p->file->present) rc = io_writer_commit(&p->writer, err);
    if (rc == SNUG_OK && !*wrong) ranges_remove(p->file);
    part_close(p);
    p->complete = rc == SNUG_OK && !*wrong;
    return rc;
}

void part_close(part *p) {
    if (!p->open) return;
    if (p->writer.path && p->done.total == 0) {
        p->writer.keep_part = false;
        ranges_remove(p->file);
    }
    io_writer_abort(&p->writer);
    io_close(&p->whole);
    if (p->journal >= 0) close(p->journal);
    digest_destroy(p->hash);
    spans_fini(&p->done);
    *p = (part){.file = p->file, .resumed = p->resumed, .single = p->single, .complete = p->complete};
}
