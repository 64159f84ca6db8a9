/* What tests of snug_fit share: a folder and a cache of their own, a short text to calibrate on, fits that keep what every fit promises, fits
 * stopped half way. Include after cmocka.h. */
#ifndef TESTS_UNIT_FITTING_H
#define TESTS_UNIT_FITTING_H
#include <snug.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/io.h"

/* With AddressSanitizer a calibrated fit takes a minute: those of test_fit.c's calibration_file and of plans of experts are enough. */
#ifdef __SANITIZE_ADDRESS__
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static char dir[64], text[96];

static inline const char *at(const char *name) {
    static char path[64][128];
    static int i;
    i = (i + 1) % 64;
    snprintf(path[i], sizeof path[i], "%s/%s", dir, name);
    return path[i];
}

static inline void shell(const char *format, const char *a, const char *b) {
    char command[512];
    snprintf(command, sizeof command, format, a, b);
    assert_int_equal(system(command), 0);
}

/* The text is hundreds of tokens: enough for every path, and a fit is a matter of seconds. */
static int setup(void **state) {
    snprintf(dir, sizeof dir, "/tmp/snug-test-fit-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    setenv("XDG_CACHE_HOME", at("cache"), 1);
    snprintf(text, sizeof text, "%s/text", dir);
    shell("head -c 1500 '%s' > '%s'", SNUG_SOURCE_DIR "/docs/architecture.md", text);
    return 0;
}

static int teardown(void **state) {
    shell("rm -rf '%s%s'", dir, "");
    return 0;
}

static inline void drop_cache(void) { shell("rm -rf '%s/cache%s'", dir, ""); }

static inline uint64_t hash_of(const char *path) {
    char *data;
    size_t n;
    assert_int_equal(io_read_all(path, 1 << 30, &data, &n, NULL), SNUG_OK);
    uint64_t h = hash_bytes(data, n);
    free(data);
    return h;
}

/* Fits and checks what must always hold; returns the file's hash, and the report to who asks for it. */
static inline uint64_t fit_reported(snug_fit_params p, snug_fit_report **report) {
    snug_fit_report *r = NULL;
    snug_error err = {0};
    struct stat st;
    char name[160];
    if (snug_fit(&p, &r, &err) != SNUG_OK) fail_msg("%s", err.message);
    const snug_fit_summary *s = snug_fit_report_summary(r);
    assert_int_equal(stat(p.output, &st), 0);
    assert_int_equal((uint64_t)st.st_size, s->bytes);
    if (s->budget_bytes) assert_true(s->bytes <= s->budget_bytes);
    if (snug_model_verify(p.output, 1, (snug_progress){0}, &err) != SNUG_OK) fail_msg("%s", err.message);
    snprintf(name, sizeof name, "%s.journal", p.output);
    assert_false(io_exists(name));
    snprintf(name, sizeof name, "%s.part", p.output);
    assert_false(io_exists(name));
    if (report) *report = r;
    else snug_fit_report_destroy(&r);
    return hash_of(p.output);
}

static inline uint64_t fit_ok(snug_fit_params p) { return fit_reported(p, NULL); }

/* By one thread, by several, and by several with what is measured taken from the cache: the same bytes. */
static inline uint64_t fit_alike(snug_fit_params p, int threads, const char *spill) {
    p.threads = 1;
    drop_cache();
    const uint64_t one = fit_ok(p);
    p.threads = threads;
    p.spill = spill;
    drop_cache();
    assert_true(fit_ok(p) == one);
    assert_true(fit_ok(p) == one);
    return one;
}

/* A progress callback that cancels at its n-th event. */
typedef struct stopper { int left; } stopper;
static inline bool stop(void *user, const snug_event *e) { return ((stopper *)user)->left-- <= 0; }

/* A fit from scratch that is told to stop at its n-th event; false: it was over before. Nothing has the output's name then. */
static inline bool fit_stopped(snug_fit_params p, int n) {
    stopper s = {n};
    snug_error err = {0};
    drop_cache();
    unlink(p.output);
    p.progress = (snug_progress){stop, &s};
    const snug_err rc = snug_fit(&p, NULL, &err);
    if (rc == SNUG_OK) return false;
    assert_int_equal(rc, SNUG_ERR_CANCELLED);
    assert_false(io_exists(p.output));
    return true;
}

/* ... and is gone on with, by one thread. */
static inline uint64_t fit_resumed(snug_fit_params p) {
    p.resume = true;
    p.threads = 1;
    return fit_ok(p);
}
#endif
