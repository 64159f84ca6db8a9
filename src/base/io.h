/* Files: exact reads with named errors, read-only maps, and output that appears under its name only when whole. */
#ifndef BASE_IO_H
#define BASE_IO_H
#include <snug.h>

typedef struct io_file {
    int fd; /* -1: closed */
    uint64_t bytes;
    char *path; /* owned */
} io_file;

snug_err io_open(const char *path, io_file *out, snug_error *err); /* regular files only */
snug_err io_pread(const io_file *f, uint64_t offset, void *dst, size_t n, snug_error *err); /* all n bytes or an error */
/* An empty file without a name in $TMPDIR or /tmp, to be written and read; it is gone with the process. */
snug_err io_open_unnamed(io_file *out, snug_error *err);
void io_close(io_file *f);

typedef struct io_map {
    const uint8_t *data;
    size_t bytes;
} io_map;
snug_err io_map_file(const io_file *f, io_map *out, snug_error *err); /* whole file, read-only, private */
void io_unmap(io_map *m);
/* Reads a whole small file, at most max_bytes; *out is malloc'd and has a NUL after the last byte. */
snug_err io_read_all(const char *path, size_t max_bytes, char **out, size_t *n, snug_error *err);
bool io_exists(const char *path);
bool io_is_dir(const char *path);

/* Writes go to "<path>.part" (kept on failure only when `keep_part`); io_writer_commit does fsync + rename. */
typedef struct io_writer {
    int fd;
    char *path, *part_path;
    uint64_t pos;
    bool keep_part;
} io_writer;
snug_err io_writer_open(const char *path, bool keep_part, bool resume, io_writer *out, snug_error *err);
snug_err io_writer_write(io_writer *w, const void *src, size_t n, snug_error *err);              /* at pos, advances */
snug_err io_writer_pwrite(io_writer *w, uint64_t offset, const void *src, size_t n, snug_error *err);
snug_err io_writer_commit(io_writer *w, snug_error *err);
void io_writer_abort(io_writer *w); /* safe on a zeroed or committed writer */

/* Memory, zeroed, that lies in a file without a name in a folder, so that what is not at hand need not be resident. The disk space is reserved at once:
 * a full disk is an error here, and nothing later. */
typedef struct io_spill {
    void *data;
    size_t bytes;
} io_spill;
snug_err io_spill_open(const char *dir, size_t bytes, io_spill *out, snug_error *err);
void io_spill_want(const io_spill *s, size_t offset, size_t n); /* will be read soon */
void io_spill_drop(const io_spill *s, size_t offset, size_t n); /* will not; what was written stays. Both may reach beyond the end */
void io_spill_close(io_spill *s);

uint64_t io_peak_rss(void);    /* bytes, this process */
uint64_t io_current_rss(void);
#endif
