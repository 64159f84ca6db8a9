// rooms: base kern codec linalg solve
/* The error of every codec on a Gaussian source, held to what tests/results.csv says. The file is written by
 *     test_codec_quality --write
 * Compositions by name on a Gaussian, a Laplace and a Student source (4 degrees of freedom), as docs/codecs.md has them:
 *     test_codec_quality --compare int3g64 int3g64+out10 ...
 * One on a unit Gaussian of 16,384 columns at an effort, its error as it is and as if what it takes beyond R bits were R's, all bytes counted:
 *     test_codec_quality --at max 4 tcq4g1024 ...
 * A change that worsens a row fails here; one that improves it should write the file anew, so that review sees both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/thread.h"
#include "solve/solve.h"
#include "unlisted.h"

enum { ROWS = 64, COLS = 4096, MAX_RESULTS = 192 };
#define RESULTS SNUG_SOURCE_DIR "/tests/results.csv"
#define HEADER "codec,source,effort,bpw,rel_mse,gap_db\n"

typedef struct result { const snug_codec *codec; codec_params p; double bpw, mse; } result;
typedef struct job { const float *w; result *results; } job;

static void measure(void *ctx, size_t begin, size_t end, int worker) {
    job *j = ctx;
    for (size_t i = begin; i < end; i++) {
        result *r = &j->results[i];
        comp c = {.n_terms = 1, .term = {{r->codec, r->p}}};
        double e2 = NAN, n2 = 1;
        solve_error(&c, j->w, COLS, ROWS, COLS, NULL, SNUG_EFFORT_NORMAL, &e2, &n2, NULL);
        r->mse = e2 / n2;
        r->bpw = 8.0 * (double)r->codec->bytes(r->p, ROWS, COLS) / (ROWS * COLS);
    }
}

/* All lossy row-separable codecs, in the registry's order, then those that no menu has. */
static size_t measure_all(result *results) {
    float *w = malloc(ROWS * COLS * sizeof *w);
    size_t n = 0;
    rng r;
    rng_seed(&r, 2026, 0);
    for (size_t i = 0; i < ROWS * COLS; i++) w[i] = 0.02f * rng_normal(&r);
    for (size_t i = 0; i < codec_count(); i++) {
        codec_params p;
        if (codec_at(i)->caps & (CODEC_WHOLE | CODEC_READ_ONLY) || codec_at(i)->id == 1) continue;
        for (uint32_t k = 0; codec_at(i)->menu(k, &p) && n < MAX_RESULTS; k++) results[n++] = (result){codec_at(i), p, 0, 0};
    }
    for (size_t i = 0; i < N_UNLISTED && n < MAX_RESULTS; i++) {
        result *u = &results[n];
        *u = (result){0};
        if (codec_parse(unlisted[i], &u->codec, &u->p) && !(u->codec->caps & CODEC_WHOLE)) n++;
    }
    thread_for(thread_default_count(), n, 1, measure, &(job){w, results});
    free(w);
    return n;
}

/* Distance from the rate-distortion bound D(R) = 2^(-2R) of a unit Gaussian. */
static double gap_db(const result *r) { return 10 * log10(r->mse) + 20 * log10(2) * r->bpw; }

static int write_results(void) {
    result results[MAX_RESULTS];
    size_t n = measure_all(results);
    FILE *f = fopen(RESULTS, "w");
    if (!f) return 1;
    fputs(HEADER, f);
    for (size_t i = 0; i < n; i++) {
        char name[CODEC_NAME_MAX];
        codec_format(results[i].codec, results[i].p, name);
        fprintf(f, "%s,gaussian,normal,%.4f,%.4e,%.2f\n", name, results[i].bpw, results[i].mse, gap_db(&results[i]));
    }
    return fclose(f) != 0;
}

static void test_results(void **state) {
#ifdef __SANITIZE_ADDRESS__
    skip(); /* figures, not memory: test_codec sends all codecs through the same functions */
#endif
    result results[MAX_RESULTS];
    size_t n = measure_all(results), seen = 0;
    char line[256], name[64], effort[16];
    double bpw, mse;
    FILE *f = fopen(RESULTS, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    assert_string_equal(line, HEADER);
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%63[^,],gaussian,%15[^,],%lf,%lf,", name, effort, &bpw, &mse) != 4) continue; /* another source's row */
        size_t i = 0;
        char known[CODEC_NAME_MAX] = "";
        for (; i < n; i++) {
            codec_format(results[i].codec, results[i].p, known);
            if (strcmp(known, name) == 0) break;
        }
        if (i == n) fail_msg("results.csv has a row for %s, which does not exist", name);
        assert_true(fabs(bpw - results[i].bpw) < 1e-4);
        if (results[i].mse > 1.002 * mse) fail_msg("%s: relative error %.4e, and results.csv says %.4e", name, results[i].mse, mse);
        seen++;
    }
    fclose(f);
    if (seen != n) fail_msg("results.csv has %zu of %zu codecs: write it anew with --write", seen, n);
}

static float draw(rng *r, int source) {
    float v = rng_normal(r);
    if (source == 1) { /* Laplace: a Gaussian of exponential variance */
        const float x = rng_normal(r), y = rng_normal(r);
        return v * sqrtf((x * x + y * y) / 2);
    }
    if (source == 2) { /* Student, 4 degrees of freedom, of variance 2 */
        float sum = 0;
        for (int i = 0; i < 4; i++) {
            const float x = rng_normal(r);
            sum += x * x;
        }
        return v / sqrtf(sum / 4);
    }
    return v;
}

static int compare(int n, char **names) {
    float *w = malloc(ROWS * COLS * sizeof *w);
    for (int k = 0; k < n; k++) {
        comp c;
        if (!comp_parse(names[k], &c)) return fprintf(stderr, "%s: no composition\n", names[k]), 2;
        uint64_t bytes = 0;
        for (uint32_t i = 0; i < c.n_terms; i++) bytes += comp_term_bytes(&c, i, ROWS, COLS);
        printf("| `%s` | %.4f |", names[k], 8.0 * (double)bytes / (ROWS * COLS));
        for (int source = 0; source < 3; source++) {
            rng r;
            rng_seed(&r, 2026, (uint64_t)source);
            for (size_t i = 0; i < ROWS * COLS; i++) w[i] = 0.02f * draw(&r, source);
            double e2 = NAN, n2 = 1;
            if (solve_error(&c, w, COLS, ROWS, COLS, NULL, SNUG_EFFORT_NORMAL, &e2, &n2, NULL)) return 1;
            printf(" %.4f |", e2 / n2);
        }
        printf("\n");
    }
    free(w);
    return 0;
}

static int at_rate(const char *effort, double rate, int n, char **names) {
    enum { WIDE = 16384, N = ROWS * WIDE };
    const snug_effort e = !strcmp(effort, "max") ? SNUG_EFFORT_MAX : !strcmp(effort, "quick") ? SNUG_EFFORT_QUICK : SNUG_EFFORT_NORMAL;
    float *w = malloc(N * sizeof *w);
    rng r;
    rng_seed(&r, 2026, 7);
    for (size_t i = 0; i < N; i++) w[i] = rng_normal(&r);
    for (int k = 0; k < n; k++) {
        comp c;
        if (!comp_parse(names[k], &c)) return fprintf(stderr, "%s: no composition\n", names[k]), 2;
        double e2 = NAN, n2 = 1;
        const double bpw = 8.0 * (double)comp_term_bytes(&c, 0, ROWS, WIDE) / N;
        if (solve_error(&c, w, WIDE, ROWS, WIDE, NULL, e, &e2, &n2, NULL)) return 1;
        printf("| `%s` | %s | %.4f | %.6f | %.6f |\n", names[k], effort, bpw, e2 / n2, e2 / n2 * exp2(2 * (bpw - rate)));
    }
    free(w);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 4 && strcmp(argv[1], "--at") == 0) return at_rate(argv[2], atof(argv[3]), argc - 4, argv + 4);
    if (argc == 2 && strcmp(argv[1], "--write") == 0) return write_results();
    if (argc > 2 && strcmp(argv[1], "--compare") == 0) return compare(argc - 2, argv + 2);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_results)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
