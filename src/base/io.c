/* Reading files: exact reads with errors that say where a file ends, read-only maps, small files whole.
 *
 * Only regular files are opened. A checkpoint is read with pread into the caller's buffers: memory is then exactly what we
 * allocate, and a file that somebody truncates under us is an error, not a SIGBUS. Maps are for running models alone. */
#include "base/io.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

snug_err io_open(const char *path, io_file *out, snug_error *err) {
    *out = (io_file){.fd = -1};
    /* O_NONBLOCK: opening a FIFO without a writer must not hang; it means nothing for regular files. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return err_set(err, SNUG_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    struct stat st;
    snug_err rc = SNUG_OK;
    if (fstat(fd, &st) != 0)
        rc = err_set(err, SNUG_ERR_IO, "%s: cannot stat: %s", path, strerror(errno));
    else if (S_ISDIR(st.st_mode))
        rc = err_set(err, SNUG_ERR_IO, "%s: is a directory, expected a regular file", path);
    else if (!S_ISREG(st.st_mode))
        rc = err_set(err, SNUG_ERR_IO, "%s: is a %s, expected a regular file", path,
                     S_ISFIFO(st.st_mode) ? "pipe" : S_ISSOCK(st.st_mode) ? "socket" : "device");
    char *copy = rc == SNUG_OK ? strdup(path) : NULL;
    if (rc == SNUG_OK && !copy) rc = err_nomem(err, strlen(path) + 1);
    if (rc != SNUG_OK) {
        close(fd);
        return rc;
    }
    *out = (io_file){.fd = fd, .bytes = (uint64_t)st.st_size, .path = copy};
    return SNUG_OK;
}

snug_err io_pread(const io_file *f, uint64_t offset, void *dst, size_t n, snug_error *err) {
    uint64_t end;
    if (__builtin_add_overflow(offset, (uint64_t)n, &end) || end > f->bytes)
        return err_at(err, SNUG_ERR_FORMAT, f->bytes, "%s: %zu bytes were expected from byte %llu on, but the file ends", f->path, n,
                      (unsigned long long)offset);
    uint8_t *p = dst;
    while (n > 0) {
        ssize_t got = pread(f->fd, p, n, (off_t)offset); /* the kernel reads at most 2 GiB at once: the loop goes on */
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return err_set(err, SNUG_ERR_IO, "%s: cannot read %zu bytes from byte %llu on: %s", f->path, n,
                           (unsigned long long)offset, strerror(errno));
        if (got == 0)
            return err_at(err, SNUG_ERR_FORMAT, offset, "%s: the file was %llu bytes when it was opened, but now ends", f->path,
                          (unsigned long long)f->bytes);
        p += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return SNUG_OK;
}

void io_close(io_file *f) {
    if (f->path && f->fd >= 0) close(f->fd); /* a zeroed io_file owns nothing, though its fd says 0 */
    free(f->path);
    *f = (io_file){.fd = -1};
}

snug_err io_map_file(const io_file *f, io_map *out, snug_error *err) {
    static const uint8_t nothing[1]; /* an empty file cannot be mapped, but has an address all the same */
    *out = (io_map){.data = nothing};
    if (f->bytes == 0) return SNUG_OK;
    if (f->bytes > SIZE_MAX) return err_set(err, SNUG_ERR_NOMEM, "%s: too large to map on this machine", f->path);
    void *p = mmap(NULL, (size_t)f->bytes, PROT_READ, MAP_PRIVATE, f->fd, 0);
    if (p == MAP_FAILED)
        return err_set(err, errno == ENOMEM ? SNUG_ERR_NOMEM : SNUG_ERR_IO, "%s: cannot map %llu bytes: %s", f->path,
                       (unsigned long long)f->bytes, strerror(errno));
    *out = (io_map){.data = p, .bytes = (size_t)f->bytes};
    return SNUG_OK;
}

void io_unmap(io_map *m) {
    if (m->bytes) munmap((void *)(uintptr_t)m->data, m->bytes);
    *m = (io_map){0};
}

snug_err io_read_all(const char *path, size_t max_bytes, char **out, size_t *n, snug_error *err) {
    io_file f;
    *out = NULL;
    *n = 0;
    snug_err rc = io_open(path, &f, err);
    if (rc != SNUG_OK) return rc;
    if (f.bytes > max_bytes || f.bytes >= SIZE_MAX) {
        rc = err_set(err, SNUG_ERR_FORMAT, "%s: the file is %llu bytes, at most %zu were expected", path,
                     (unsigned long long)f.bytes, max_bytes);
    } else {
        char *text = malloc((size_t)f.bytes + 1);
        rc = text ? io_pread(&f, 0, text, (size_t)f.bytes, err) : err_nomem(err, (size_t)f.bytes + 1);
        if (rc == SNUG_OK) {
            text[f.bytes] = 0;
            *out = text;
            *n = (size_t)f.bytes;
        } else {
            free(text);
        }
    }
    io_close(&f);
    return rc;
}

bool io_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

bool io_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* /proc/self/status: "VmHWM:   123456 kB". Mapped file pages that are resident count, like the kernel's own limit does. */
static uint64_t status_field(const char *name) {
    FILE *f = fopen("/proc/self/status", "re");
    if (!f) return 0;
    char line[256];
    unsigned long long kib = 0;
    size_t len = strlen(name);
    while (fgets(line, sizeof line, f))
        if (strncmp(line, name, len) == 0 && line[len] == ':') {
            if (sscanf(line + len + 1, "%llu", &kib) != 1) kib = 0;
            break;
        }
    fclose(f);
    return (uint64_t)kib * 1024;
}

uint64_t io_peak_rss(void) { return status_field("VmHWM"); }
uint64_t io_current_rss(void) { return status_field("VmRSS"); }
