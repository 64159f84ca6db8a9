/* Output that appears under its name only when it is whole.
 *
 * Bytes go to "<path>.part". Commit makes them durable (fsync), gives them their name (rename, which replaces an older file in
 * one step) and makes the name durable (fsync of the folder). A crash at any instant leaves the old file or the new one. The
 * part file is locked (flock), so that two programs told to write the same output do not mix their bytes. */
#include "base/io.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static snug_err write_failed(snug_error *err, const char *path, const char *what, int code) {
    if (code == ENOSPC || code == EDQUOT) return err_set(err, SNUG_ERR_IO, "%s: disk full: %s failed: %s", path, what, strerror(code));
    return err_set(err, SNUG_ERR_IO, "%s: %s failed: %s", path, what, strerror(code));
}

/* Opens and locks the part file. Another writer may rename it away between our open and our lock; then the name means another
 * file (or none) and we start over. */
static snug_err open_locked(const char *path, const char *part, int *out, snug_error *err) {
    for (;;) {
        int fd = open(part, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
        if (fd < 0) return write_failed(err, part, "creating the file", errno);
        struct stat mine, named;
        snug_err rc = SNUG_OK;
        if (fstat(fd, &mine) != 0 || !S_ISREG(mine.st_mode))
            rc = err_set(err, SNUG_ERR_IO, "%s: is not a regular file; it is needed while writing %s", part, path);
        else if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) /* file systems without locks: go on */
            rc = err_set(err, SNUG_ERR_IO, "%s: another process is writing this file", part);
        if (rc != SNUG_OK) {
            close(fd);
            return rc;
        }
        if (stat(part, &named) == 0 && named.st_ino == mine.st_ino && named.st_dev == mine.st_dev) {
            *out = fd;
            return SNUG_OK;
        }
        close(fd);
    }
}

snug_err io_writer_open(const char *path, bool keep_part, bool resume, io_writer *out, snug_error *err) {
    *out = (io_writer){.fd = -1};
    struct stat st;
    if (*path == 0) return err_set(err, SNUG_ERR_ARG, "the output's name is empty");
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) /* rename would replace a device such as /dev/null by our file */
        return err_set(err, SNUG_ERR_IO, "%s: is a %s, expected a regular file or a new name", path,
                       S_ISDIR(st.st_mode) ? "directory" : "device or pipe");
    snug_err rc;
    int fd = -1;
    char *real = realpath(path, NULL); /* writes through a symbolic link instead of replacing it */
    if (!real) real = strdup(path);
    char *part = NULL;
    if (!real || asprintf(&part, "%s.part", real) < 0) {
        free(real);
        return err_nomem(err, strlen(path) + 6);
    }
    rc = open_locked(path, part, &fd, err);
    if (rc == SNUG_OK && !resume && ftruncate(fd, 0) != 0) rc = write_failed(err, part, "emptying the file", errno);
    if (rc == SNUG_OK && fstat(fd, &st) != 0) rc = write_failed(err, part, "stat", errno);
    if (rc != SNUG_OK) {
        if (fd >= 0) close(fd);
        free(real);
        free(part);
        return rc;
    }
    *out = (io_writer){.fd = fd, .path = real, .part_path = part, .pos = (uint64_t)st.st_size, .keep_part = keep_part};
    return SNUG_OK;
}

snug_err io_writer_pwrite(io_writer *w, uint64_t offset, const void *src, size_t n, snug_error *err) {
    const uint8_t *p = src;
    while (n > 0) {
        ssize_t put = pwrite(w->fd, p, n, (off_t)offset);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) {
            char what[64];
            snprintf(what, sizeof what, "writing %zu bytes at byte %llu", n, (unsigned long long)offset);
            return write_failed(err, w->part_path, what, put == 0 ? ENOSPC : errno);
        }
        p += put;
        n -= (size_t)put;
        offset += (uint64_t)put;
    }
    return SNUG_OK;
}

snug_err io_writer_write(io_writer *w, const void *src, size_t n, snug_error *err) {
    snug_err rc = io_writer_pwrite(w, w->pos, src, n, err);
    if (rc == SNUG_OK) w->pos += n;
    return rc;
}

/* Durable name: fsync of the folder. Some network file systems refuse that (EINVAL); the rename stands all the same. */
static void sync_folder(const char *path) {
    char *copy = strdup(path);
    if (!copy) return;
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(copy);
}

static void forget(io_writer *w) {
    if (w->fd >= 0) close(w->fd);
    free(w->path);
    free(w->part_path);
    *w = (io_writer){.fd = -1};
}

snug_err io_writer_commit(io_writer *w, snug_error *err) {
    if (fsync(w->fd) != 0) return write_failed(err, w->part_path, "fsync", errno);
    if (rename(w->part_path, w->path) != 0) return write_failed(err, w->path, "renaming the finished file", errno);
    sync_folder(w->path);
    forget(w); /* closing drops the lock last, after the name is right */
    return SNUG_OK;
}

void io_writer_abort(io_writer *w) {
    if (!w->path) return; /* zeroed, committed or never opened */
    if (!w->keep_part) unlink(w->part_path);
    forget(w);
}
