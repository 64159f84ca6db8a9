/* snug bench: how fast a model reads and writes here. Writing is bound by how fast memory streams the weights, so the
 * bytes that one token needs and the share of the machine's measured bandwidth stand beside the speed. */
#include "cli.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

const command bench_command = {
    .name = "bench",
    .summary = "Measure speed: tokens per second, reading and writing.",
    .usage = "bench MODEL [options]",
    .example = "snug bench small.snug --threads 1,2,4",
    .notes = "Each figure is the best of the repetitions. The tokens are arbitrary: speed does not depend on them.",
    .operand = "MODEL",
    .advice = "name a model folder or file, e.g. snug bench small.snug",
};

enum { BATCH = 128, STREAM_BYTES = 256 << 20 };

typedef struct speed {
    int threads;
    double prefill_tps, decode_tps, bandwidth;
    snug_memory memory;
} speed;

/* ------------------------------------------------------------ bandwidth ---- */

typedef struct stream {
    const uint64_t *data;
    size_t n;
    uint64_t sum;
} stream;

static void *read_stream(void *p) {
    stream *s = p;
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (size_t i = 0; i + 8 <= s->n; i += 8) { /* one 64-byte line per step, four independent sums */
        a += s->data[i] + s->data[i + 4];
        b += s->data[i + 1] + s->data[i + 5];
        c += s->data[i + 2] + s->data[i + 6];
        d += s->data[i + 3] + s->data[i + 7];
    }
    s->sum = a + b + c + d;
    return NULL;
}

/* Bytes per second that `threads` threads read from memory together, the best of four passes; 0 when it cannot be
 * measured. */
static double measure_bandwidth(int threads) {
    uint64_t *data = malloc(STREAM_BYTES);
    double best = 0;
    if (!data) return 0;
    memset(data, 1, STREAM_BYTES);
    pthread_t id[256];
    stream part[256];
    int n = threads < 256 ? threads : 256;
    size_t words = STREAM_BYTES / sizeof *data / (size_t)n / 8 * 8;
    for (int pass = 0; pass < 4; pass++) {
        double began = now_seconds();
        int started = 0;
        for (int i = 0; i < n; i++) {
            part[i] = (stream){.data = data + (size_t)i * words, .n = words};
            if (pthread_create(&id[i], NULL, read_stream, &part[i]) != 0) break;
            started++;
        }
        uint64_t sum = 0;
        for (int i = 0; i < started; i++) {
            pthread_join(id[i], NULL);
            sum += part[i].sum;
        }
        double seconds = now_seconds() - began;
        if (started == n && sum && seconds > 0) {
            double rate = (double)(words * sizeof *data) * n / seconds;
            if (rate > best) best = rate;
        }
    }
    free(data);
    return best;
}

/* ------------------------------------------------------------- the model ---- */

/* Bytes of weights that one written token streams: all matrices, of an untied embedding one row only. */
static uint64_t bytes_per_token(const snug_model *model) {
    uint64_t sum = 0, embd = 0, embd_row = 0;
    bool has_head = false;
    for (size_t i = 0; i < snug_model_n_tensors(model); i++) {
        snug_tensor_info t;
        if (snug_model_tensor(model, i, &t)) continue;
        if (strcmp(t.role, "embd") == 0) {
            embd = t.bytes;
            embd_row = t.rows ? t.bytes / t.rows : 0;
        } else {
            sum += t.bytes;
            has_head |= strcmp(t.role, "head") == 0;
        }
    }
    return sum + (has_head ? embd_row : embd);
}

typedef struct bench_run {
    snug_context *ctx;
    snug_seq *seq;
    uint32_t n_vocab, prompt, generate;
    progress_view *view;
    double began;
    uint64_t done, total; /* tokens, over all repetitions and thread counts */
} bench_run;

static int32_t some_token(const bench_run *b, uint32_t i) {
    return (int32_t)((uint64_t)(i + 1) * 2654435761u % b->n_vocab);
}

static snug_err advance(bench_run *b, uint32_t n, const char *stage, snug_error *err) {
    b->done += n;
    double elapsed = now_seconds() - b->began, fraction = (double)b->done / (double)b->total;
    snug_event e = {.stage = stage,
                    .detail = "",
                    .done = b->done,
                    .total = b->total,
                    .unit = "tokens",
                    .elapsed_s = elapsed,
                    .eta_s = elapsed / fraction - elapsed,
                    .fraction = fraction};
    snug_progress p = progress_to(b->view);
    if (!p.fn(p.user, &e)) return SNUG_OK;
    *err = (snug_error){.code = SNUG_ERR_CANCELLED, .message = "stopped"};
    return err->code;
}

/* Decodes n tokens from an empty sequence, `step` at a time; *seconds excludes the reporting. */
static snug_err time_tokens(bench_run *b, uint32_t n, uint32_t step, const char *stage, double *seconds,
                            snug_error *err) {
    snug_err code = snug_seq_truncate(b->seq, 0, err);
    *seconds = 0;
    for (uint32_t at = 0; !code && at < n;) {
        snug_item items[BATCH];
        uint32_t count = n - at < step ? n - at : step;
        for (uint32_t i = 0; i < count; i++)
            items[i] = (snug_item){
                .seq = b->seq, .token = some_token(b, at + i), .pos = at + i, .wants_logits = i + 1 == count};
        double began = now_seconds();
        code = snug_decode(b->ctx, items, count, err);
        *seconds += now_seconds() - began;
        at += count;
        if (!code) code = advance(b, count, stage, err);
    }
    return code;
}

static snug_err bench_threads(const snug_model *model, bench_run *b, int threads, uint32_t repeat, speed *out,
                              snug_error *err) {
    uint32_t n_ctx = b->prompt > b->generate ? b->prompt : b->generate;
    snug_context_params cp = {.n_ctx = n_ctx, .max_batch = BATCH, .threads = threads};
    *out = (speed){.threads = threads ? threads : snug_default_threads()};
    snug_err code = snug_context_create(model, &cp, &b->ctx, err);
    if (!code) code = snug_context_memory(model, &cp, &out->memory, err);
    if (!code) code = snug_seq_create(b->ctx, &b->seq, err);
    for (uint32_t i = 0; !code && i < repeat; i++) {
        double seconds;
        code = time_tokens(b, b->prompt, BATCH, "prefill", &seconds, err);
        if (!code && seconds > 0 && b->prompt / seconds > out->prefill_tps) out->prefill_tps = b->prompt / seconds;
        if (!code) code = time_tokens(b, b->generate, 1, "decode", &seconds, err);
        if (!code && seconds > 0 && b->generate / seconds > out->decode_tps) out->decode_tps = b->generate / seconds;
    }
    snug_seq_destroy(&b->seq);
    snug_context_destroy(&b->ctx);
    if (!code) out->bandwidth = measure_bandwidth(out->threads);
    return code;
}

/* ------------------------------------------------------------ the report ---- */

static void put_speed(json_t *o, const speed *s, uint64_t bytes) {
    json_put_int(o, "threads", (uint64_t)s->threads);
    json_put_real(o, "prefill_tps", s->prefill_tps);
    json_put_real(o, "decode_tps", s->decode_tps);
    json_put_real(o, "bandwidth_bytes_per_s", s->bandwidth);
    json_put_real(o, "bandwidth_share", s->bandwidth > 0 ? s->decode_tps * (double)bytes / s->bandwidth : 0);
}

static json_t *bench_json(const char *path, const bench_run *b, const speed *s, size_t n, uint64_t bytes) {
    json_t *o = json_object(), *runs = json_array();
    size_t best = 0;
    for (size_t i = 0; i < n; i++) {
        json_t *run = json_object();
        put_speed(run, &s[i], bytes);
        json_array_append_new(runs, run);
        if (s[i].decode_tps > s[best].decode_tps) best = i;
    }
    json_put_text(o, "model", path);
    put_speed(o, &s[best], bytes); /* the fastest stands at the top level */
    json_put_int(o, "bytes_per_token", bytes);
    json_put_int(o, "prompt_tokens", b->prompt);
    json_put_int(o, "tokens", b->generate);
    json_put_text(o, "cpu_level", snug_cpu_level());
    json_put_int(o, "memory_bytes", s[best].memory.total_bytes);
    json_object_set_new(o, "runs", runs);
    return o;
}

static void print_speeds(const bench_run *b, const speed *s, size_t n, uint64_t bytes) {
    char a[TEXT_MAX], m[TEXT_MAX];
    printf("%s kernels, %s of weights per token, %s to run\n", snug_cpu_level(), size_text(a, bytes),
           size_text(m, s[0].memory.total_bytes));
    printf("threads   prefill (%u)   decode (%u)   of memory's speed\n", b->prompt, b->generate);
    for (size_t i = 0; i < n; i++) {
        char speed_text[TEXT_MAX];
        double share = s[i].bandwidth > 0 ? 100 * s[i].decode_tps * (double)bytes / s[i].bandwidth : 0;
        printf("%7d %12.1f/s %10.1f/s   %.1f %% of %s/s\n", s[i].threads, s[i].prefill_tps, s[i].decode_tps, share,
               size_text(speed_text, (uint64_t)s[i].bandwidth));
    }
}

int cmd_bench(int argc, char **argv) {
    uint32_t prompt = 512, generate = 128, repeat = 3;
    int_list threads = {.item = {0}, .n = 1};
    bool json = false;
    const char *path;
    option opts[] = {
        {.name = "prompt",
         .letter = 'p',
         .kind = OPT_U32,
         .value = &prompt,
         .arg = "N",
         .min = 1,
         .max = 1 << 20,
         .help = "tokens read (default 512, or the model's context if less)"},
        {.name = "generate",
         .letter = 'n',
         .kind = OPT_U32,
         .value = &generate,
         .arg = "N",
         .min = 1,
         .max = 1 << 20,
         .help = "tokens written (default 128)"},
        {.name = "threads",
         .letter = 't',
         .kind = OPT_INTS,
         .value = &threads,
         .arg = "N,N...",
         .min = 1,
         .max = 256,
         .help = "thread counts (default: the CPUs that this process may use)"},
        {.name = "repeat",
         .letter = 'r',
         .kind = OPT_U32,
         .value = &repeat,
         .arg = "N",
         .min = 1,
         .max = 1000,
         .help = "repetitions (default 3)"},
        OPTION_JSON(&json),
    };
    int exit_code;
    if (!options_parse(&bench_command, opts, COUNT_OF(opts), &path, argc, argv, &exit_code)) return exit_code;
    catch_interrupts();
    snug_model *model = NULL;
    snug_error err = {0};
    if (snug_model_open(path, &model, &err)) return report_error(&bench_command, &err, json);
    const snug_model_info *info = snug_model_get_info(model);
    if (!opts[0].given && info->n_ctx_train && prompt > info->n_ctx_train) prompt = info->n_ctx_train;
    if (!opts[1].given && info->n_ctx_train && generate > info->n_ctx_train) generate = info->n_ctx_train;

    progress_view view;
    progress_open(&view, json);
    bench_run b = {.n_vocab = info->n_vocab,
                   .prompt = prompt,
                   .generate = generate,
                   .view = &view,
                   .began = now_seconds(),
                   .total = (uint64_t)(prompt + generate) * repeat * threads.n};
    speed speeds[INT_LIST_MAX];
    snug_err code = SNUG_OK;
    for (size_t i = 0; !code && i < threads.n; i++)
        code = bench_threads(model, &b, threads.item[i], repeat, &speeds[i], &err);
    progress_close(&view);
    uint64_t bytes = bytes_per_token(model);
    if (code) {
        exit_code = report_error(&bench_command, &err, json);
    } else if (json) {
        exit_code = finish_json(&bench_command, bench_json(path, &b, speeds, threads.n, bytes));
    } else {
        print_speeds(&b, speeds, threads.n, bytes);
        exit_code = finish_stdout(&bench_command, EXIT_OK);
    }
    snug_model_close(&model);
    return exit_code;
}
