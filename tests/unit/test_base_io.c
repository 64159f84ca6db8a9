// rooms: base
/* Files: exact reads, errors that say where a file ends, and output that appears under its name only when whole. */
#include "base/io.h"
#include "tempfile.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <cmocka.h>

static char *dir;

static int make_dir(void **state) {
    dir = strdup(temp_dir_make());
    return 0;
}
static int remove_dir(void **state) {
    temp_dir_remove(dir);
    free(dir);
    return 0;
}

static void reads_are_exact(void **state) {
    const char *path = temp_path(dir, "ten");
    temp_write(path, "0123456789", 10);
    io_file f;
    snug_error e = {0};
    char got[16] = {0};
    assert_int_equal(io_open(path, &f, &e), SNUG_OK);
    assert_int_equal(f.bytes, 10);
    assert_int_equal(io_pread(&f, 3, got, 7, &e), SNUG_OK);
    assert_memory_equal(got, "3456789", 7);
    assert_int_equal(io_pread(&f, 10, got, 0, &e), SNUG_OK);
    assert_int_equal(io_pread(&f, 4, got, 7, &e), SNUG_ERR_FORMAT);
    assert_int_equal(e.offset, 10);
    assert_non_null(strstr(e.message, "7 bytes were expected from byte 4 on, but the file ends at byte 10"));
    assert_int_equal(io_pread(&f, UINT64_MAX - 2, got, 7, &e), SNUG_ERR_FORMAT);
    io_map m;
    assert_int_equal(io_map_file(&f, &m, &e), SNUG_OK);
    assert_int_equal(m.bytes, 10);
    assert_memory_equal(m.data, "0123456789", 10);
    io_unmap(&m);
    io_unmap(&m);
    assert_int_equal(truncate(path, 5), 0); /* somebody shortens it under us */
    assert_int_equal(io_pread(&f, 2, got, 6, &e), SNUG_ERR_FORMAT);
    assert_int_equal(e.offset, 5);
    assert_non_null(strstr(e.message, "was 10 bytes when it was opened, but now ends at byte 5"));
    io_close(&f);
    io_close(&f);
    io_close(&(io_file){0}); /* zeroed: must not close descriptor 0 */
    assert_true(fcntl(0, F_GETFD) >= 0 || errno == EBADF);
    temp_write(path, "", 0);
    assert_int_equal(io_open(path, &f, &e), SNUG_OK);
    assert_int_equal(io_map_file(&f, &m, &e), SNUG_OK);
    assert_int_equal(m.bytes, 0);
    assert_non_null(m.data);
    io_unmap(&m);
    io_close(&f);
}

static void only_regular_files_open(void **state) {
    io_file f;
    snug_error e = {0};
    assert_int_equal(io_open(dir, &f, &e), SNUG_ERR_IO);
    assert_non_null(strstr(e.message, "is a directory, expected a regular file"));
    assert_int_equal(io_open("/dev/null", &f, &e), SNUG_ERR_IO);
    assert_non_null(strstr(e.message, "is a device"));
    const char *fifo = temp_path(dir, "fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(io_open(fifo, &f, &e), SNUG_ERR_IO); /* without waiting for a writer */
    assert_non_null(strstr(e.message, "is a pipe"));
    assert_int_equal(io_open(temp_path(dir, "none"), &f, &e), SNUG_ERR_IO);
    assert_non_null(strstr(e.message, "none: cannot open: No such file"));
    assert_int_equal(f.fd, -1);
    assert_true(io_is_dir(dir) && io_exists(dir) && !io_is_dir(fifo) && io_exists(fifo) && !io_exists("/nonexistent"));
}

static void small_files_whole(void **state) {
    const char *path = temp_path(dir, "small");
    char *text;
    size_t n;
    snug_error e = {0};
    temp_write(path, "abc", 3);
    assert_int_equal(io_read_all(path, 3, &text, &n, &e), SNUG_OK);
    assert_int_equal(n, 3);
    assert_string_equal(text, "abc");
    free(text);
    assert_int_equal(io_read_all(path, 2, &text, &n, &e), SNUG_ERR_FORMAT);
    assert_null(text);
    assert_non_null(strstr(e.message, "the file is 3 bytes, at most 2 were expected"));
}

static void expect_file(const char *path, const char *text) {
    char *got;
    size_t n;
    assert_int_equal(io_read_all(path, 1 << 20, &got, &n, NULL), SNUG_OK);
    assert_string_equal(got, text);
    free(got);
}

static void output_appears_when_whole(void **state) {
    char path[600], part[610];
    snprintf(path, sizeof path, "%s/out.gguf", dir);
    snprintf(part, sizeof part, "%s.part", path);
    io_writer w, other;
    snug_error e = {0};
    assert_int_equal(io_writer_open(path, false, false, &w, &e), SNUG_OK);
    assert_int_equal(io_writer_write(&w, "hello ", 6, &e), SNUG_OK);
    assert_int_equal(io_writer_write(&w, "world", 5, &e), SNUG_OK);
    assert_int_equal(io_writer_pwrite(&w, 0, "J", 1, &e), SNUG_OK);
    assert_int_equal(w.pos, 11);
    assert_false(io_exists(path));
    assert_true(io_exists(part));
    assert_int_equal(io_writer_open(path, false, false, &other, &e), SNUG_ERR_IO); /* two writers, one name */
    assert_non_null(strstr(e.message, "another process is writing this file"));
    io_writer_abort(&other);
    assert_int_equal(io_writer_commit(&w, &e), SNUG_OK);
    assert_false(io_exists(part));
    expect_file(path, "Jello world");
    io_writer_abort(&w); /* after commit: nothing */
    expect_file(path, "Jello world");

    assert_int_equal(io_writer_open(path, false, false, &w, &e), SNUG_OK); /* aborted: the old file stays */
    assert_int_equal(io_writer_write(&w, "x", 1, &e), SNUG_OK);
    io_writer_abort(&w);
    assert_false(io_exists(part));
    expect_file(path, "Jello world");

    assert_int_equal(io_writer_open(path, true, false, &w, &e), SNUG_OK); /* kept, then resumed */
    assert_int_equal(io_writer_write(&w, "first", 5, &e), SNUG_OK);
    io_writer_abort(&w);
    expect_file(part, "first");
    assert_int_equal(io_writer_open(path, true, true, &w, &e), SNUG_OK);
    assert_int_equal(w.pos, 5);
    assert_int_equal(io_writer_write(&w, " last", 5, &e), SNUG_OK);
    assert_int_equal(io_writer_commit(&w, &e), SNUG_OK);
    expect_file(path, "first last");

    temp_write(part, "stale bytes of a dead run", 25);
    assert_int_equal(io_writer_open(path, false, false, &w, &e), SNUG_OK);
    assert_int_equal(w.pos, 0);
    assert_int_equal(io_writer_commit(&w, &e), SNUG_OK);
    expect_file(path, "");
    io_writer_abort(&(io_writer){0});
}

static void strange_targets_are_refused(void **state) {
    io_writer w;
    snug_error e = {0};
    assert_int_equal(io_writer_open(dir, false, false, &w, &e), SNUG_ERR_IO);
    assert_non_null(strstr(e.message, "is a directory, expected a regular file or a new name"));
    assert_int_equal(io_writer_open("/dev/null", false, false, &w, &e), SNUG_ERR_IO); /* renaming over it would be a disaster for root */
    assert_int_equal(io_writer_open("", false, false, &w, &e), SNUG_ERR_ARG);
    assert_int_equal(io_writer_open("/nonexistent/dir/x", false, false, &w, &e), SNUG_ERR_IO);
    assert_non_null(strstr(e.message, "/nonexistent/dir/x.part"));
    const char *link = temp_path(dir, "link"), *real = temp_path(dir, "real");
    temp_write(real, "old", 3);
    assert_int_equal(symlink(real, link), 0);
    assert_int_equal(io_writer_open(link, false, false, &w, &e), SNUG_OK); /* written through, the link stays a link */
    assert_int_equal(io_writer_write(&w, "new", 3, &e), SNUG_OK);
    assert_int_equal(io_writer_commit(&w, &e), SNUG_OK);
    expect_file(real, "new");
    struct stat st;
    assert_true(lstat(link, &st) == 0 && S_ISLNK(st.st_mode));
}

static void a_full_disk_is_named(void **state) {
    int fd = open("/dev/full", O_WRONLY);
    if (fd < 0) skip();
    io_writer w = {.fd = fd, .path = strdup("/x/out.gguf"), .part_path = strdup("/x/out.gguf.part")};
    snug_error e = {0};
    assert_int_equal(io_writer_write(&w, "abc", 3, &e), SNUG_ERR_IO);
    assert_non_null(strstr(e.message, "/x/out.gguf.part: disk full"));
    assert_int_equal(w.pos, 0);
    io_writer_abort(&w);
}

/* A process killed in the middle leaves nothing under the target's name. */
static void a_killed_writer_leaves_nothing(void **state) {
    char path[600];
    snprintf(path, sizeof path, "%s/killed", dir);
    pid_t pid = fork();
    if (pid == 0) {
        io_writer w;
        if (io_writer_open(path, false, false, &w, NULL) == SNUG_OK && io_writer_write(&w, "abc", 3, NULL) == SNUG_OK) raise(SIGKILL);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_false(io_exists(path));
    io_writer w;
    assert_int_equal(io_writer_open(path, false, false, &w, NULL), SNUG_OK); /* its lock died with it */
    io_writer_abort(&w);
}

static void memory_is_measured(void **state) {
    uint64_t before = io_current_rss();
    assert_true(before > 100000 && io_peak_rss() >= before / 2);
    enum { N = 64 << 20 };
    volatile char *p = malloc(N); /* volatile: the pages must really be touched */
    assert_non_null(p);
    for (size_t i = 0; i < N; i += 1024) p[i] = 1;
    assert_true(io_peak_rss() >= N);
    free((void *)p);
    assert_true(io_peak_rss() >= N);
}

/* What is dropped leaves memory and stays as it was written; the folder shows nothing. */
static void spilled_memory_is_kept(void **state) {
    enum { BYTES = (64 << 20) + 5, PART = 1 << 20 };
    io_spill s;
    snug_error e = {0};
    char folder[500];
    snprintf(folder, sizeof folder, "%s", temp_path(dir, "spill"));
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(io_spill_open(folder, BYTES, &s, &e), SNUG_OK);
    assert_int_equal(rmdir(folder), 0); /* empty */
    uint8_t *p = s.data;
    for (size_t i = 0; i < BYTES; i++) {
        assert_true(p[i] == 0);
        p[i] = (uint8_t)(i % 251);
        if (i % PART == PART - 1) io_spill_drop(&s, i + 1 - PART, PART);
    }
    io_spill_drop(&s, 0, BYTES + PART);
    io_spill_drop(&s, BYTES + PART, 1);
    io_spill_want(&s, PART + 7, SIZE_MAX);
    for (size_t i = 0; i < BYTES; i++) assert_true(p[i] == i % 251);
    const uint64_t resident = io_current_rss();
    io_spill_drop(&s, 3, BYTES);
    assert_true(io_current_rss() + BYTES / 2 < resident);
    io_spill_close(&s);
    io_spill_close(&s);
    assert_int_equal(io_spill_open(folder, 10, &s, &e), SNUG_ERR_IO);
    assert_non_null(strstr(e.message, "spill: cannot make a file in this folder: No such file"));
    assert_int_equal(io_spill_open(dir, 0, &s, &e), SNUG_ERR_ARG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_are_exact),
        cmocka_unit_test(only_regular_files_open),
        cmocka_unit_test(small_files_whole),
        cmocka_unit_test(output_appears_when_whole),
        cmocka_unit_test(strange_targets_are_refused),
        cmocka_unit_test(a_full_disk_is_named),
        cmocka_unit_test(a_killed_writer_leaves_nothing),
        cmocka_unit_test(memory_is_measured),            cmocka_unit_test(spilled_memory_is_kept),
    };
    return cmocka_run_group_tests_name("base io", tests, make_dir, remove_dir);
}
