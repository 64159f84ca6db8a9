/* snug bench: how fast a model reads and writes here, on an empty context and deep into one. Writing is bound by how
 * fast memory streams the weights and the cache, so the bytes that one token needs and their share of the bandwidth
 * that the machine showed in the same run (the roofline) stand beside the speed. Medians: one disturbed repetition
 * changes nothing. */
#include "bandwidth.h"
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const command bench_command = {
    .name = "bench",
    .summary = "Measure speed: tokens per second, reading and writing, and the share of memory's speed.",
    .usage = "bench MODEL [options]",
    .example = "snug bench small.snug --threads 1,2,4 --depth 0,4096",
    .notes =
        "Each figure is the median of the repetitions, with the least and the most beside it. The tokens are "
        "arbitrary:\n"
        "speed does not depend on them. A depth takes as long to reach as to read a text of that length; --depth 0 is\n"
        "quick. Of the default depths those that the model's context does not hold are left out. With --sequences N, N\n"
        "texts are written at once, a token of each in one pass over the weights: what a server does.",
    .operand = "MODEL",
    .advice = "name a model folder or file, e.g. snug bench small.snug",
};

enum { BATCH_MAX = 4096, WARM_UP = 8 };

/* Tokens per second of the repetitions, rising once all are there. */
typedef struct samples {
    double *tps;
    size_t n;
} samples;

typedef struct speed {
    int threads;
    uint32_t depth, n_seqs;
    samples prefill, decode;
    uint64_t bytes, kv_bytes; /* of a pass that writes a token for each sequence: all of them, and those of the cache */
    double bandwidth;
    snug_memory memory;
    uint64_t resident; /* of the process, after the last repetition */
} speed;

static int compare_reals(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const samples *s) {
    return s->n ? (s->tps[(s->n - 1) / 2] + s->tps[s->n / 2]) / 2 : 0;
}

static double bytes_per_s(const speed *s) {
    return median(&s->decode) / s->n_seqs * (double)s->bytes;
}

static double roofline_share(const speed *s) {
    return s->bandwidth > 0 ? bytes_per_s(s) / s->bandwidth : 0;
}

/* ------------------------------------------------------------- the model ---- */

/* Bytes of weights that a pass streams that writes a token for each of n sequences: all matrices, of an untied embedding one row only, and of
 * experts the share that somebody wants (for one sequence those that it is sent to; for several as if they were sent at random). */
static uint64_t weight_bytes_of_pass(const snug_model *model, uint32_t n) {
    const snug_model_info *info = snug_model_get_info(model);
    const double wanted = info->n_experts ? 1 - pow(1 - (double)info->n_experts_used / info->n_experts, n) : 1;
    uint64_t sum = 0, embd = 0, embd_row = 0, experts = 0;
    bool has_head = false;
    for (size_t i = 0; i < snug_model_n_tensors(model); i++) {
        snug_tensor_info t;
        if (snug_model_tensor(model, i, &t)) continue;
        if (strcmp(t.role, "embd") == 0) {
            embd = t.run_bytes;
            embd_row = t.rows ? t.run_bytes / t.rows : 0;
        } else if (t.expert >= 0) {
            experts += t.run_bytes;
        } else {
            sum += t.run_bytes;
            has_head |= strcmp(t.role, "head") == 0;
        }
    }
    return sum + (uint64_t)(wanted * (double)experts) + (has_head ? embd_row : embd);
}

/* Bytes of cached keys and values that one of `n` tokens written from `depth` on reads, on average: at position p the
 * cache holds p + 1; and of states. An upper bound where an architecture looks through a window. */
static uint64_t kv_bytes_per_token(const snug_model_info *info, uint32_t depth, uint32_t n) {
    enum { F16_BYTES = 2 };
    return info->cached_numbers * F16_BYTES * (2ull * depth + n + 1) / 2 + info->state_bytes;
}

/* ------------------------------------------------------------ measuring ---- */

typedef struct bench_run {
    const snug_model *model;
    snug_context *ctx;
    snug_seq **seqs;  /* (n_seqs); all of one length but while the first one reads */
    snug_item *items; /* (batch) */
    uint32_t n_vocab, n_seqs, prompt, generate, batch, repeats;
    int_list depths; /* rising */
    progress_view *view;
    double began, reported;
    uint64_t done, total; /* tokens, over all repetitions, depths and thread counts */
} bench_run;

static int32_t some_token(const bench_run *b, uint32_t i) {
    return (int32_t)((uint64_t)(i + 1) * 2654435761u % b->n_vocab);
}

static snug_err advance(bench_run *b, uint32_t n, const char *stage, snug_error *err) {
    double now = now_seconds(), elapsed = now - b->began;
    b->done += n;
    if (now - b->reported < 0.1 && b->done < b->total && !interrupted()) return SNUG_OK;
    b->reported = now;
    double fraction = (double)b->done / (double)b->total;
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

/* One pass; *seconds grows by its time. */
static snug_err time_pass(bench_run *b, uint32_t count, const char *stage, double *seconds, snug_error *err) {
    double began = now_seconds();
    snug_err code = snug_decode(b->ctx, b->items, count, err);
    *seconds += now_seconds() - began;
    return code ? code : advance(b, count, stage, err);
}

static snug_item item_at(const bench_run *b, uint32_t seq, uint32_t at, bool last) {
    return (snug_item){.seq = b->seqs[seq], .token = some_token(b, seq + at), .pos = at, .wants_logits = last};
}

/* A sequence reads its tokens [at, end), as many at a time as a pass takes. */
static snug_err read_on(bench_run *b, uint32_t seq, uint32_t at, uint32_t end, const char *stage, double *seconds, snug_error *err) {
    snug_err code = SNUG_OK;
    while (!code && at < end) {
        uint32_t count = end - at < b->batch ? end - at : b->batch;
        for (uint32_t i = 0; i < count; i++) b->items[i] = item_at(b, seq, at + i, i + 1 == count);
        code = time_pass(b, count, stage, seconds, err);
        at += count;
    }
    return code;
}

/* A sequence back to its first `depth` tokens; what a model with recurrent layers forgets below that is read again. */
static snug_err go_back(bench_run *b, uint32_t seq, uint32_t depth, snug_error *err) {
    const uint32_t reach = snug_seq_reach(b->seqs[seq], depth);
    double seconds = 0;
    b->total += depth - reach;
    snug_err code = snug_seq_truncate(b->seqs[seq], reach, err);
    return code ? code : read_on(b, seq, reach, depth, "fill", &seconds, err);
}

/* One sequence reads n tokens behind its first `depth`. */
static snug_err time_reading(bench_run *b, uint32_t seq, uint32_t depth, uint32_t n, const char *stage, double *seconds,
                             snug_error *err) {
    snug_err code = go_back(b, seq, depth, err);
    *seconds = 0;
    return code ? code : read_on(b, seq, depth, depth + n, stage, seconds, err);
}

/* Every sequence writes n tokens behind its first `depth`: one each in a pass. */
static snug_err time_writing(bench_run *b, uint32_t depth, uint32_t n, double *seconds, snug_error *err) {
    snug_err code = SNUG_OK;
    *seconds = 0;
    for (uint32_t s = 0; !code && s < b->n_seqs; s++) code = go_back(b, s, depth, err);
    for (uint32_t at = depth; !code && at < depth + n; at++) {
        for (uint32_t s = 0; s < b->n_seqs; s++) b->items[s] = item_at(b, s, at, true);
        code = time_pass(b, b->n_seqs, "decode", seconds, err);
    }
    return code;
}

static void put_sample(samples *out, uint64_t tokens, double seconds) {
    out->tps[out->n++] = (double)tokens / (seconds > 0 ? seconds : 1e-9); /* no clock ticks finer */
}

/* The sequences hold at most out->depth positions; they are filled up to there once and brought back by truncation. */
static snug_err bench_depth(bench_run *b, speed *out, snug_error *err) {
    double seconds;
    snug_err code = SNUG_OK;
    for (uint32_t s = 0; !code && s < b->n_seqs; s++) {
        uint32_t held = snug_seq_length(b->seqs[s]);
        code = time_reading(b, s, held, out->depth - held, "fill", &seconds, err);
    }
    for (uint32_t i = 0; !code && i < b->repeats; i++) {
        code = time_reading(b, 0, out->depth, b->prompt, "prefill", &seconds, err);
        if (!code) put_sample(&out->prefill, b->prompt, seconds);
        if (!code) code = time_writing(b, out->depth, b->generate, &seconds, err);
        if (!code) put_sample(&out->decode, (uint64_t)b->generate * b->n_seqs, seconds);
    }
    for (uint32_t s = 0; !code && s < b->n_seqs; s++) code = go_back(b, s, out->depth, err);
    qsort(out->prefill.tps, out->prefill.n, sizeof *out->prefill.tps, compare_reals);
    qsort(out->decode.tps, out->decode.n, sizeof *out->decode.tps, compare_reals);
    return code;
}

/* All depths with one number of threads: out (depths.n). Memory's speed is taken before and after, the better counts,
 * so that a moment in which the machine was busy does not flatter the share. */
static snug_err bench_threads(bench_run *b, int threads, speed *out, snug_error *err) {
    uint32_t span = b->prompt > b->generate ? b->prompt : b->generate;
    snug_context_params cp = {.n_ctx = (uint32_t)b->depths.item[b->depths.n - 1] + span,
                              .max_seqs = b->n_seqs,
                              .max_batch = b->batch > b->n_seqs ? b->batch : b->n_seqs,
                              .threads = threads};
    if (!threads) threads = snug_default_threads();
    double before = measure_bandwidth(threads), seconds;
    snug_memory memory = {0};
    snug_err code = snug_context_create(b->model, &cp, &b->ctx, err);
    if (!code) code = snug_context_memory(b->model, &cp, &memory, err);
    for (uint32_t s = 0; !code && s < b->n_seqs; s++) code = snug_seq_create(b->ctx, &b->seqs[s], err);
    if (!code) code = time_reading(b, 0, 0, b->prompt, "warm up", &seconds, err); /* maps all weights, brings them in order */
    if (!code) code = time_writing(b, 0, WARM_UP < b->generate ? WARM_UP : b->generate, &seconds, err);
    for (uint32_t s = 0; !code && s < b->n_seqs; s++) code = snug_seq_truncate(b->seqs[s], 0, err);
    for (size_t i = 0; !code && i < b->depths.n; i++) code = bench_depth(b, &out[i], err);
    uint64_t resident = snug_resident_bytes();
    for (uint32_t s = 0; s < b->n_seqs; s++) snug_seq_destroy(&b->seqs[s]);
    snug_context_destroy(&b->ctx);
    if (code) return code;
    double after = measure_bandwidth(threads);
    for (size_t i = 0; i < b->depths.n; i++) {
        out[i].threads = threads;
        out[i].memory = memory;
        out[i].resident = resident;
        out[i].bandwidth = before > after ? before : after;
    }
    return SNUG_OK;
}

/* ------------------------------------------------------------ the report ---- */

static void put_samples(json_t *o, const char *prefix, const samples *s) {
    char key[TEXT_MAX];
    json_t *all = json_array();
    for (size_t i = 0; i < s->n; i++) json_array_append_new(all, json_real(s->tps[i]));
    snprintf(key, sizeof key, "%s_tps", prefix);
    json_put_real(o, key, median(s));
    snprintf(key, sizeof key, "%s_samples_tps", prefix);
    json_object_set_new(o, key, all);
}

static void put_speed(json_t *o, const speed *s) {
    json_put_int(o, "threads", (uint64_t)s->threads);
    json_put_int(o, "depth", s->depth);
    put_samples(o, "prefill", &s->prefill);
    put_samples(o, "decode", &s->decode);
    json_put_int(o, "bytes_per_token", s->bytes / s->n_seqs);
    json_put_int(o, "kv_bytes_per_token", s->kv_bytes / s->n_seqs);
    json_put_real(o, "bytes_per_s", bytes_per_s(s));
    json_put_real(o, "bandwidth_bytes_per_s", s->bandwidth);
    json_put_real(o, "bandwidth_share", roofline_share(s));
}

static json_t *bench_json(const char *path, const bench_run *b, const speed *s, size_t n) {
    json_t *o = json_object(), *runs = json_array();
    const speed *best = s;
    for (size_t i = 0; i < n; i++) {
        json_t *run = json_object();
        put_speed(run, &s[i]);
        json_array_append_new(runs, run);
        if (median(&s[i].decode) > median(&best->decode)) best = &s[i];
    }
    json_put_text(o, "model", path);
    put_speed(o, best); /* the fastest stands at the top level */
    json_put_int(o, "weight_bytes_per_token", (best->bytes - best->kv_bytes) / b->n_seqs);
    json_put_int(o, "prompt_tokens", b->prompt);
    json_put_int(o, "tokens", b->generate);
    json_put_int(o, "sequences", b->n_seqs);
    json_put_int(o, "batch", b->batch);
    json_put_text(o, "cpu_level", snug_cpu_level());
    json_put_int(o, "memory_bytes", best->memory.total_bytes);
    json_put_int(o, "resident_bytes", best->resident);
    json_object_set_new(o, "runs", runs);
    return o;
}

/* "17.5 (17.1 .. 17.8)", or the one sample. */
static const char *spread_text(char out[TEXT_MAX], const samples *s) {
    if (s->n == 1)
        snprintf(out, TEXT_MAX, "%.1f", s->tps[0]);
    else
        snprintf(out, TEXT_MAX, "%.1f (%.1f .. %.1f)", median(s), s->tps[0], s->tps[s->n - 1]);
    return out;
}

static void print_speeds(const bench_run *b, const speed *s, size_t n) {
    char a[TEXT_MAX], m[TEXT_MAX], r[TEXT_MAX], prefill[64], decode[64];
    printf("%s kernels, %s of weights per pass, %s resident of at most %s; tokens per second, median (least .. most) of %u\n",
           snug_cpu_level(), size_text(a, s->bytes - s->kv_bytes), size_text(r, s->resident), size_text(m, s->memory.total_bytes), b->repeats);
    snprintf(prefill, sizeof prefill, "prefill of %u", b->prompt);
    if (b->n_seqs > 1) snprintf(decode, sizeof decode, "decode of %u x %u", b->n_seqs, b->generate);
    else snprintf(decode, sizeof decode, "decode of %u", b->generate);
    printf("threads   depth   %-25s  %-25s  a %s reads   of memory's speed\n", prefill, decode, b->n_seqs > 1 ? "pass" : "token");
    for (size_t i = 0; i < n; i++) {
        char p[TEXT_MAX], d[TEXT_MAX];
        printf("%7d %7u   %-25s  %-25s  %13s   ", s[i].threads, s[i].depth, spread_text(p, &s[i].prefill),
               spread_text(d, &s[i].decode), size_text(a, s[i].bytes));
        if (s[i].bandwidth > 0)
            printf("%.1f of %.1f GB/s: %.0f %%\n", bytes_per_s(&s[i]) / 1e9, s[i].bandwidth / 1e9,
                   100 * roofline_share(&s[i]));
        else
            printf("%.1f GB/s; memory's speed could not be measured\n", bytes_per_s(&s[i]) / 1e9);
    }
}

/* ----------------------------------------------------------- the command ---- */

static int compare_ints(const void *a, const void *b) {
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

/* What the model's context (0: unknown, no limit) leaves of the defaults; what was asked for stands, or is refused. */
static snug_err fit_to_context(bench_run *b, uint32_t n_ctx, const option *prompt, const option *generate,
                               const option *depth, snug_error *err) {
    qsort(b->depths.item, b->depths.n, sizeof *b->depths.item, compare_ints);
    if (!n_ctx) return SNUG_OK;
    uint32_t deepest = depth->given ? (uint32_t)b->depths.item[b->depths.n - 1] : 0;
    uint32_t room = n_ctx - (deepest < n_ctx ? deepest : 0);
    if (!prompt->given && b->prompt > room) b->prompt = room;
    if (!generate->given && b->generate > room) b->generate = room;
    uint32_t span = b->prompt > b->generate ? b->prompt : b->generate;
    while (!depth->given && b->depths.n > 1 && (uint64_t)b->depths.item[b->depths.n - 1] + span > n_ctx) b->depths.n--;
    if (deepest == 0 || (uint64_t)deepest + span <= n_ctx) return SNUG_OK;
    *err = (snug_error){.code = SNUG_ERR_BUDGET};
    snprintf(err->message, sizeof err->message,
             "--depth %u with %u tokens behind it needs %llu positions; the model's context has %u", deepest, span,
             (unsigned long long)deepest + span, n_ctx);
    return err->code;
}

/* Every number of threads with every depth, and the report. */
static int bench_and_report(bench_run *b, const int_list *threads, const char *path, bool json, snug_error *err) {
    size_t n = threads->n * b->depths.n;
    speed *speeds = calloc(n, sizeof *speeds);
    double *tps = calloc(n * 2 * b->repeats, sizeof *tps);
    b->items = calloc(b->batch > b->n_seqs ? b->batch : b->n_seqs, sizeof *b->items);
    b->seqs = calloc(b->n_seqs, sizeof(snug_seq *));
    snug_err code = SNUG_OK;
    if (!speeds || !tps || !b->items || !b->seqs) {
        *err = (snug_error){.code = SNUG_ERR_NOMEM, .message = "no memory for the samples"};
        code = err->code;
    }
    const snug_model_info *info = snug_model_get_info(b->model);
    uint64_t weight_bytes = weight_bytes_of_pass(b->model, b->n_seqs);
    for (size_t i = 0; !code && i < n; i++) {
        speed *s = &speeds[i];
        s->depth = (uint32_t)b->depths.item[i % b->depths.n];
        s->n_seqs = b->n_seqs;
        s->kv_bytes = b->n_seqs * kv_bytes_per_token(info, s->depth, b->generate);
        s->bytes = weight_bytes + s->kv_bytes;
        s->prefill.tps = tps + 2 * i * b->repeats;
        s->decode.tps = s->prefill.tps + b->repeats;
    }
    progress_view view;
    progress_open(&view, json);
    b->view = &view;
    b->began = now_seconds();
    uint64_t warm_up = b->prompt + (uint64_t)b->n_seqs * (WARM_UP < b->generate ? WARM_UP : b->generate);
    uint64_t fill = (uint64_t)b->n_seqs * (uint64_t)b->depths.item[b->depths.n - 1];
    b->total = (warm_up + fill) * threads->n + (b->prompt + (uint64_t)b->n_seqs * b->generate) * b->repeats * n;
    for (size_t i = 0; !code && i < threads->n; i++)
        code = bench_threads(b, threads->item[i], speeds + i * b->depths.n, err);
    progress_close(&view);
    int exit_code = EXIT_OK;
    if (code)
        exit_code = report_error(&bench_command, err, json);
    else if (json)
        exit_code = finish_json(&bench_command, bench_json(path, b, speeds, n));
    else
        print_speeds(b, speeds, n);
    free(b->seqs);
    free(b->items);
    free(tps);
    free(speeds);
    return json || exit_code ? exit_code : finish_stdout(&bench_command, EXIT_OK);
}

int cmd_bench(int argc, char **argv) {
    bench_run b = {
        .n_seqs = 1, .prompt = 512, .generate = 64, .batch = 512, .repeats = 3, .depths = {.item = {0, 4096, 16384}, .n = 3}};
    int_list threads = {.item = {0}, .n = 1};
    bool json = false;
    const char *path;
    option opts[] = {
        {.name = "prompt",
         .letter = 'p',
         .kind = OPT_U32,
         .value = &b.prompt,
         .arg = "N",
         .min = 1,
         .max = 1 << 20,
         .help = "tokens read (default 512, or what the model's context leaves)"},
        {.name = "gen",
         .alias = "generate",
         .letter = 'n',
         .kind = OPT_U32,
         .value = &b.generate,
         .arg = "N",
         .min = 1,
         .max = 1 << 20,
         .help = "tokens written (default 64)"},
        {.name = "depth",
         .letter = 'd',
         .kind = OPT_INTS,
         .value = &b.depths,
         .arg = "N,N...",
         .max = 1000000,
         .help = "tokens already in the context (default 0,4096,16384)"},
        {.name = "threads",
         .letter = 't',
         .kind = OPT_INTS,
         .value = &threads,
         .arg = "N,N...",
         .min = 1,
         .max = 256,
         .help = "thread counts (default: the CPUs that this process may use)"},
        {.name = "repeats",
         .alias = "repeat",
         .letter = 'r',
         .kind = OPT_U32,
         .value = &b.repeats,
         .arg = "N",
         .min = 1,
         .max = 1000,
         .help = "repetitions (default 3)"},
        {.name = "sequences",
         .letter = 's',
         .kind = OPT_U32,
         .value = &b.n_seqs,
         .arg = "N",
         .min = 1,
         .max = 1024,
         .help = "texts written at once (default 1)"},
        {.name = "batch",
         .letter = 'b',
         .kind = OPT_U32,
         .value = &b.batch,
         .arg = "N",
         .min = 1,
         .max = BATCH_MAX,
         .help = "tokens read in one pass over the weights (default 512)"},
        OPTION_JSON(&json),
    };
    int exit_code;
    if (!options_parse(&bench_command, opts, COUNT_OF(opts), &path, argc, argv, &exit_code)) return exit_code;
    catch_interrupts();
    snug_model *model = NULL;
    snug_error err = {0};
    if (snug_model_open(path, &model, &err)) return report_error(&bench_command, &err, json);
    const snug_model_info *info = snug_model_get_info(model);
    b.model = model;
    b.n_vocab = info->n_vocab;
    if (fit_to_context(&b, info->n_ctx_train, &opts[0], &opts[1], &opts[2], &err))
        exit_code = report_error(&bench_command, &err, json);
    else
        exit_code = bench_and_report(&b, &threads, path, json, &err);
    snug_model_close(&model);
    return exit_code;
}
