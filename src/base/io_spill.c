/* Memory in files: a shared mapping of a file that has no name any more. Its blocks are reserved before it is mapped, because a page that finds no
 * room on the disk when it is written to ends the process with SIGBUS. Pages that are dropped leave the process; the file has them. */
#include "base/io.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A file in the folder, unlinked. */
static snug_err open_unnamed(const char *dir, int *fd, snug_error *err) {
    char *path;
    if (asprintf(&path, "%s/snug-spill-XXXXXX", dir) < 0) return err_nomem(err, strlen(dir));
    snug_err rc = SNUG_OK;
    *fd = mkostemp(path, O_CLOEXEC);
    if (*fd < 0) rc = err_set(err, SNUG_ERR_IO, "%s: cannot make a file in this folder: %s", dir, strerror(errno));
    else (void)unlink(path);
    free(path);
    return rc;
}

snug_err io_open_unnamed(io_file *out, snug_error *err) {
    const char *dir = getenv("TMPDIR");
    *out = (io_file){.fd = -1, .path = strdup("a temporary file")};
    if (!out->path) return err_nomem(err, 32);
    const snug_err rc = open_unnamed(dir && *dir ? dir : "/tmp", &out->fd, err);
    if (rc != SNUG_OK) io_close(out);
    return rc;
}

/* One of so many bytes, which are there. */
static snug_err open_file(const char *dir, size_t bytes, int *fd, snug_error *err) {
    snug_err rc = open_unnamed(dir, fd, err);
    int code = 0;
    do { /* it returns the error; EINTR may come from a handler of the caller's */
        if (rc == SNUG_OK) code = posix_fallocate(*fd, 0, (off_t)bytes);
    } while (code == EINTR);
    if (code) rc = err_set(err, SNUG_ERR_IO, "%s: %llu bytes cannot be reserved in this folder: %s", dir, (unsigned long long)bytes, strerror(code));
    if (rc != SNUG_OK && *fd >= 0) close(*fd);
    return rc;
}

snug_err io_spill_open(const char *dir, size_t bytes, io_spill *out, snug_error *err) {
    *out = (io_spill){0};
    int fd = -1;
    snug_err rc = bytes && bytes <= INT64_MAX ? open_file(dir, bytes, &fd, err)
                                              : err_set(err, SNUG_ERR_ARG, "%s: %zu bytes cannot be spilled", dir, bytes);
    if (rc != SNUG_OK) return rc;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        rc = err_set(err, errno == ENOMEM ? SNUG_ERR_NOMEM : SNUG_ERR_IO, "%s: cannot map %zu bytes of a file in this folder: %s", dir, bytes,
                     strerror(errno));
    else *out = (io_spill){.data = p, .bytes = bytes};
    close(fd); /* the mapping holds the file */
    return rc;
}

/* Whole pages that hold any of the bytes; others may be at work on the same page, to whom it comes back. */
static void advise(const io_spill *s, size_t offset, size_t n, int advice) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), from = offset / page * page;
    if (offset >= s->bytes || n == 0) return;
    const size_t end = n > s->bytes - offset ? s->bytes : offset + n;
    (void)madvise((uint8_t *)s->data + from, end - from, advice); /* advice: nothing depends on it */
}

void io_spill_want(const io_spill *s, size_t offset, size_t n) { advise(s, offset, n, MADV_WILLNEED); }
void io_spill_drop(const io_spill *s, size_t offset, size_t n) { advise(s, offset, n, MADV_DONTNEED); }

void io_spill_close(io_spill *s) {
    if (s->data) munmap(s->data, s->bytes);
    *s = (io_spill){0};
}
