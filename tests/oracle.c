/* snug-oracle: the library's internals for test scripts in other languages. Arrays are plain little endian on standard input
 * and output.
 *
 *     snug-oracle quantize TYPE ROWS COLS [--importance FILE] [--effort quick|normal|max]  < f32 > bytes
 *     snug-oracle dequantize TYPE ROWS COLS                                               < bytes > f32
 *     snug-oracle logits MODEL [--ctx N] [--act f32|q8] [--kv f32|f16] [--threads N]      < i32 tokens > f32 (tokens, vocabulary)
 *     snug-oracle render                                                                  < JSON       > JSON
 *
 * TYPE is any single codec ("q4_k", "int3g64", "had:int3g64"); lowrank and out are only decoded. Processor seconds of encoding go to standard error. `logits` cuts the
 * tokens into windows of N (default: one window), each from an empty cache. `render` takes {"templates": [chat template ...], "vars": [object ...]}
 * and gives for each template a list, with {"text": ...} or {"error": ..., "code": snug_err} for each of the objects. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "solve/solve.h"
#include "token/jinja.h"

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
        const weight one = {.rows = rows, .cols = cols, .n_terms = 1, .term = {{.wt = t}}};
        weight_decode(&one, 0, rows, w, cols);
        rc = fwrite(w, sizeof(float), rows * cols, stdout) == rows * cols ? 0 : fail("cannot write");
    }
    free(src);
    free(w);
    return rc;
}

/* ---- logits ---- */

/* Everything on standard input as int32; NULL when that is empty, no multiple of 4 bytes or too much for memory. */
static int32_t *read_tokens(size_t *n) {
    size_t cap = 1 << 16, len = 0, got;
    uint8_t *p = malloc(cap);
    while (p && (got = fread(p + len, 1, cap - len, stdin)) > 0) {
        len += got;
        if (len < cap) continue;
        uint8_t *more = realloc(p, cap *= 2);
        if (!more) free(p);
        p = more;
    }
    *n = len / 4;
    if (p && (len == 0 || len % 4)) {
        free(p);
        p = NULL;
    }
    return (int32_t *)(void *)p;
}

/* One window from an empty sequence, in batches. */
static snug_err window(snug_context *ctx, const int32_t *tokens, size_t n, size_t vocab, snug_item *items, size_t batch, snug_error *err) {
    snug_seq *seq = NULL;
    snug_err e = snug_seq_create(ctx, &seq, err);
    for (size_t i = 0; !e && i < n; i += batch) {
        size_t len = n - i < batch ? n - i : batch;
        for (size_t j = 0; j < len; j++) items[j] = (snug_item){seq, tokens[i + j], (uint32_t)(i + j), true};
        e = snug_decode(ctx, items, len, err);
        for (size_t j = 0; !e && j < len; j++)
            if (fwrite(snug_logits(ctx, j), sizeof(float), vocab, stdout) != vocab) {
                fail("cannot write");
                e = err->code = SNUG_ERR_IO;
                snprintf(err->message, sizeof err->message, "standard output");
            }
    }
    snug_seq_destroy(&seq);
    return e;
}

static int logits(int argc, char **argv) {
    enum { BATCH = 256 };
    static snug_item items[BATCH];
    snug_context_params params = {.act = SNUG_ACT_Q8, .kv = SNUG_KV_F16, .max_batch = BATCH, .max_seqs = 1};
    size_t n, step = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *option = argv[i], *value = argv[i + 1];
        if (strcmp(option, "--ctx") == 0) step = strtoull(value, NULL, 10);
        else if (strcmp(option, "--act") == 0) params.act = strcmp(value, "f32") == 0 ? SNUG_ACT_F32 : SNUG_ACT_Q8;
        else if (strcmp(option, "--kv") == 0) params.kv = strcmp(value, "f32") == 0 ? SNUG_KV_F32 : SNUG_KV_F16;
        else if (strcmp(option, "--threads") == 0) params.threads = atoi(value);
        else return fail("unknown option"), 2;
    }
    int32_t *tokens = read_tokens(&n);
    if (!tokens) return fail("standard input holds no int32 tokens");
    snug_error err = {0};
    snug_model *model = NULL;
    snug_context *ctx = NULL;
    if (step == 0 || step > n) step = n;
    params.n_ctx = (uint32_t)step;
    snug_err e = snug_model_open(argv[0], &model, &err);
    if (!e) e = snug_context_create(model, &params, &ctx, &err);
    for (size_t i = 0; !e && i < n; i += step)
        e = window(ctx, tokens + i, n - i < step ? n - i : step, snug_model_get_info(model)->n_vocab, items, BATCH, &err);
    if (e) fail(err.message);
    snug_context_destroy(&ctx);
    snug_model_close(&model);
    free(tokens);
    return e != SNUG_OK;
}

static json_t *rendered(const char *template, const json_t *vars) {
    char *text = NULL;
    snug_error err = {0};
    const snug_err e = jinja_render(template, vars, &text, &err);
    json_t *out = e ? json_pack("{s:s, s:i}", "error", err.message, "code", (int)e) : json_pack("{s:s}", "text", text);
    free(text);
    return out;
}

static int render(void) {
    json_error_t error;
    json_t *in = json_loadf(stdin, 0, &error), *out = json_array(), *template, *vars;
    size_t i, k;
    if (!in) return fail(error.text);
    json_array_foreach(json_object_get(in, "templates"), i, template) {
        json_t *row = json_array();
        json_array_foreach(json_object_get(in, "vars"), k, vars) json_array_append_new(row, rendered(json_string_value(template), vars));
        json_array_append_new(out, row);
    }
    const int rc = json_dumpf(out, stdout, JSON_COMPACT) ? fail("cannot write") : 0;
    json_decref(in);
    json_decref(out);
    return rc;
}

static int usage(void) {
    fail("quantize TYPE ROWS COLS [--importance FILE] [--effort E] | dequantize TYPE ROWS COLS | logits MODEL [options] | render");
    return 2;
}

int main(int argc, char **argv) {
    const snug_codec *codec;
    codec_params p;
    const char *importance = NULL;
    int effort = SNUG_EFFORT_NORMAL;
    if (argc >= 3 && strcmp(argv[1], "logits") == 0) return logits(argc - 2, argv + 2);
    if (argc == 2 && strcmp(argv[1], "render") == 0) return render();
    if (argc < 5 || (strcmp(argv[1], "quantize") && strcmp(argv[1], "dequantize"))) return usage();
    if (!codec_parse(argv[2], &codec, &p) || (codec->caps & (CODEC_WHOLE | CODEC_READ_ONLY) && argv[1][0] == 'q')) return fail("no such codec");
    size_t rows = strtoull(argv[3], NULL, 10), cols = strtoull(argv[4], NULL, 10);
    for (int i = 5; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--importance") == 0) importance = argv[i + 1];
        else if (i + 1 >= argc || strcmp(argv[i], "--effort") != 0 || !parse_effort(argv[i + 1], &effort)) return usage();
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
