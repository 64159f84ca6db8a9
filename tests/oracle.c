/* snug-oracle: the library's internals for test scripts in other languages. Arrays are plain little endian on standard input
 * and output.
 *
 *     snug-oracle quantize TYPE ROWS COLS [--importance FILE] [--effort quick|normal|max]  < f32 > bytes
 *     snug-oracle dequantize TYPE ROWS COLS                                               < bytes > f32
 *
 * TYPE is any single codec but lowrank ("q4_k", "int3g64"). Processor seconds of encoding go to standard error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "solve/solve.h"

static int fail(const char *what) {
    fprintf(stderr, "snug-oracle: %s\n", what);
    return 1;
}

/* Exactly n bytes and then the end, or NULL. */
static void *read_exactly(FILE *f, size_t n) {
    uint8_t *p = malloc(n ? n : 1);
    if (p && (fread(p, 1, n, f) != n || fgetc(f) != EOF)) {
        free(p);
        p = NULL;
    }
    return p;
}

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool parse_effort(const char *s, int *out) {
    *out = strcmp(s, "quick") == 0 ? SNUG_EFFORT_QUICK : strcmp(s, "max") == 0 ? SNUG_EFFORT_MAX : SNUG_EFFORT_NORMAL;
    return *out != SNUG_EFFORT_NORMAL || strcmp(s, "normal") == 0;
}

static int quantize(const snug_codec *codec, codec_params p, size_t rows, size_t cols, const float *a, int effort) {
    size_t n = (size_t)codec->bytes(p, rows, cols);
    float *w = read_exactly(stdin, rows * cols * sizeof(float));
    uint8_t *dst = malloc(n);
    snug_error err;
    int rc = 1;
    if (!w || !dst) {
        fail("standard input does not hold rows x cols floats");
        goto done;
    }
    double start = cpu_seconds();
    if (solve_rtn(codec, p, w, cols, rows, cols, a, effort, dst, NULL, &err)) {
        fail(err.message);
        goto done;
    }
    fprintf(stderr, "%.6f\n", cpu_seconds() - start);
    rc = fwrite(dst, 1, n, stdout) == n ? 0 : fail("cannot write");
done:
    free(w);
    free(dst);
    return rc;
}

static int dequantize(const snug_codec *codec, codec_params p, size_t rows, size_t cols) {
    size_t n = (size_t)codec->bytes(p, rows, cols);
    uint8_t *src = read_exactly(stdin, n);
    float *w = malloc(rows * cols * sizeof(float));
    snug_error err;
    wt t;
    int rc = 1;
    if (!src || !w) {
        fail("standard input does not hold the payload");
    } else if (wt_open(codec, p, rows, cols, src, n, &t, &err)) {
        fail(err.message);
    } else {
        codec->decode(&t, 0, rows, w, cols);
        rc = fwrite(w, sizeof(float), rows * cols, stdout) == rows * cols ? 0 : fail("cannot write");
    }
    free(src);
    free(w);
    return rc;
}

int main(int argc, char **argv) {
    const snug_codec *codec;
    codec_params p;
    const char *importance = NULL;
    int effort = SNUG_EFFORT_NORMAL;
    if (argc < 5 || (strcmp(argv[1], "quantize") && strcmp(argv[1], "dequantize"))) {
        fail("quantize TYPE ROWS COLS [--importance FILE] [--effort E] | dequantize TYPE ROWS COLS");
        return 2;
    }
    if (!codec_parse(argv[2], &codec, &p) || codec->caps & CODEC_WHOLE) return fail("no such codec");
    size_t rows = strtoull(argv[3], NULL, 10), cols = strtoull(argv[4], NULL, 10);
    for (int i = 5; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--importance") == 0) importance = argv[i + 1];
        else if (i + 1 >= argc || strcmp(argv[i], "--effort") != 0 || !parse_effort(argv[i + 1], &effort)) {
            fail("unknown option");
            return 2;
        }
    }
    if (rows == 0 || cols == 0 || codec->bytes(p, rows, cols) == 0 || rows > SIZE_MAX / 8 / cols) return fail("a bad shape");
    if (strcmp(argv[1], "dequantize") == 0) return dequantize(codec, p, rows, cols);
    float *a = NULL;
    if (importance) {
        FILE *f = fopen(importance, "rb");
        a = f ? read_exactly(f, cols * sizeof(float)) : NULL;
        if (f) fclose(f);
        if (!a) return fail("the importance file does not hold one float per column");
    }
    int rc = quantize(codec, p, rows, cols, a, effort);
    free(a);
    return rc;
}
