/* snug fit: the main job. Reads the options, hands them to snug_fit and shows the plan: what each tensor became and
 * why, what was kept, how much of the budget is used and what running takes. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

const command fit_command = {
    .name = "fit",
    .summary = "Make the best version of a model that fits a number of bytes.",
    .usage = "fit SRC -o OUT (--size 3.2G | --bpw 3.5 | --ratio 40% | --ram 6G --ctx N) [options]",
    .example = "snug fit Llama-3.2-1B -o small.snug --size 700M\n"
               "snug fit model-f16.gguf -o small.gguf --ratio 30% --for gguf\n"
               "snug fit Llama-3.2-1B --ram 1G --ctx 4096 --plan-only",
    .notes =
        "SRC is a Hugging Face folder, a GGUF file or a file that snug made. The file is never larger than the "
        "budget.\n"
        "Sizes: 700M is 700 x 2^20 bytes, 3.2G is 3.2 x 2^30; 700MB and 3.2GB are decimal; a bare number is bytes.\n"
        "Codecs: bf16 f16 f32, int2g64 (2 to 8 bits, groups of 32, 64 or 128), q8_0 q4_0 q2_k q3_k q4_k q5_k q6_k "
        "iq4_nl\n"
        "iq4_xs, tq1_0, tq2_0, tcqf2, had:tcq2.25 (behind a transform) and sums such as int3g64+lowrank16; all of them: man snug.\n"
        "Exit codes: 0 fine, 1 failed or stopped (go on with --resume), 2 usage, 3 the budget is too small.",
    .operand = "SRC",
    .advice = "name a model folder or file, e.g. snug fit Llama-3.2-1B -o small.snug --size 700M",
};

/* Rows beyond this many are shown layer by layer. */
enum { LONG_TABLE = 64 };

/* ------------------------------------------------------------- the table ---- */

static const char *real_text(char out[TEXT_MAX], double v, const char *format) {
    if (!(v >= 0)) return "-";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(out, TEXT_MAX, format, v);
#pragma GCC diagnostic pop
    return out;
}

static void print_row(const snug_plan_row *r, int name_width, int codec_width) {
    char bytes[TEXT_MAX], error[TEXT_MAX], loss[TEXT_MAX], bpw[TEXT_MAX];
    printf("  %-*s  %-*s %7s %14s  %9s  %9s%s%s%s\n", name_width, r->tensor, codec_width, r->codec,
           real_text(bpw, r->bpw, "%.3f"), count_text(bytes, r->bytes), real_text(error, r->rel_error, "%.2e"),
           real_text(loss, r->predicted_loss, "%.2e"), *r->note ? "  " : "", r->note,
           r->skipped ? "  (kept from the earlier run)" : "");
}

/* The block number of "blk.12.attn_q.weight", -1 for others. */
static int layer_of(const char *name) {
    if (strncmp(name, "blk.", 4) != 0) return -1;
    return atoi(name + 4);
}

/* "attn_q" of "blk.12.attn_q.weight": length and start. */
static size_t short_name(const char *name, const char **start) {
    const char *p = strncmp(name, "blk.", 4) == 0 ? strchr(name + 4, '.') : NULL;
    p = p ? p + 1 : name;
    if (strncmp(p, "attn_", 5) == 0 || strncmp(p, "ffn_", 4) == 0) p = strchr(p, '_') + 1;
    const char *end = strrchr(p, '.');
    *start = p;
    return end && end > p ? (size_t)(end - p) : strlen(p);
}

/* "blk.0.ffn_gate.7.weight", or a stack, "blk.0.ffn_gate_exps.weight": too many to be listed. */
static bool is_expert(const char *tensor) {
    const char *part = strstr(tensor, ".ffn_"), *dot = part ? strchr(part + 1, '.') : NULL;
    return dot && (strstr(part, "_exps.") || (dot[1] >= '0' && dot[1] <= '9'));
}

/* One line for a whole layer: its codecs, bytes, rate and loss. */
static void print_layer(const snug_fit_report *report, size_t begin, size_t end, int layer) {
    uint64_t bytes = 0, weights = 0, expert_bytes = 0, expert_weights = 0;
    double loss = 0;
    printf("  blk.%-4d", layer);
    const char *before = "";
    for (size_t i = begin; i < end; i++) {
        const snug_plan_row *r = snug_fit_report_row(report, i);
        bytes += r->bytes;
        weights += r->rows * r->cols;
        if (r->predicted_loss > 0) loss += r->predicted_loss;
        if (r->rows <= 1) continue;
        const char *name;
        size_t len = short_name(r->tensor, &name);
        if (is_expert(r->tensor)) {
            expert_bytes += r->bytes;
            expert_weights += r->rows * r->cols;
            continue;
        }
        if (strcmp(before, r->codec) != 0)
            printf(" %s:", r->codec);
        else
            printf(",");
        printf("%s%.*s", strcmp(before, r->codec) != 0 ? "" : "", (int)len, name);
        before = r->codec;
    }
    char size[TEXT_MAX];
    if (expert_weights) printf(" experts: %.3f bpw", 8.0 * (double)expert_bytes / (double)expert_weights);
    printf("\n           %s, %.3f bpw, predicted loss %.2e\n", size_text(size, bytes),
           weights ? 8.0 * (double)bytes / (double)weights : 0, loss);
}

static void print_plan(const snug_fit_report *report) {
    const snug_fit_summary *s = snug_fit_report_summary(report);
    int name_width = 6, codec_width = 5;
    size_t n_vectors = 0, n_matrices = 0;
    uint64_t vector_bytes = 0;
    for (size_t i = 0; i < s->n_rows; i++) {
        const snug_plan_row *r = snug_fit_report_row(report, i);
        if (r->rows <= 1) {
            n_vectors++;
            vector_bytes += r->bytes;
            continue;
        }
        n_matrices++;
        if ((int)strlen(r->tensor) > name_width) name_width = (int)strlen(r->tensor);
        if ((int)strlen(r->codec) > codec_width) codec_width = (int)strlen(r->codec);
    }
    bool compact = n_matrices > LONG_TABLE;
    if (!compact)
        printf("  %-*s  %-*s %7s %14s  %9s  %9s\n", name_width, "tensor", codec_width, "codec", "bpw", "bytes",
               "rel.error", "pred.loss");
    for (size_t i = 0; i < s->n_rows;) {
        const snug_plan_row *r = snug_fit_report_row(report, i);
        int layer = layer_of(r->tensor);
        if (compact && layer >= 0) {
            size_t end = i;
            while (end < s->n_rows && layer_of(snug_fit_report_row(report, end)->tensor) == layer) end++;
            print_layer(report, i, end, layer);
            i = end;
            continue;
        }
        if (r->rows > 1) print_row(r, name_width, codec_width);
        i++;
    }
    char text[TEXT_MAX];
    if (n_vectors)
        printf("  and %zu vectors (norms, biases) as they are: %s bytes\n", n_vectors, count_text(text, vector_bytes));
    if (compact) printf("  (every tensor: snug inspect, or --save-plan)\n");
}

/* ----------------------------------------------------------- the summary ---- */

/* "Kept": how much of the weights' squared size, weighed as the loss weighs it, survives on average over all matrices.
 */
static double mean_error(const snug_fit_report *report) {
    const snug_fit_summary *s = snug_fit_report_summary(report);
    double sum = 0, weights = 0;
    for (size_t i = 0; i < s->n_rows; i++) {
        const snug_plan_row *r = snug_fit_report_row(report, i);
        if (r->rows <= 1 || !(r->rel_error >= 0)) continue;
        sum += r->rel_error * (double)r->rows * (double)r->cols;
        weights += (double)r->rows * (double)r->cols;
    }
    return weights > 0 ? sum / weights : 0;
}

static const char *millions_text(char out[TEXT_MAX], uint64_t n) {
    snprintf(out, TEXT_MAX, "%.*f M", n < 10000000 ? 2 : 0, 1e-6 * (double)n);
    return out;
}

static void print_summary(const snug_fit_report *report, const snug_fit_params *p, const written *out) {
    const snug_fit_summary *s = snug_fit_report_summary(report);
    char a[TEXT_MAX], b[TEXT_MAX], c[TEXT_MAX];
    printf("\nsize       %s bytes (%s)", count_text(a, s->bytes), size_text(b, s->bytes));
    if (s->budget_bytes)
        printf(" of %s: %.2f %% of the budget used", count_text(c, s->budget_bytes),
               100 * (double)s->bytes / (double)s->budget_bytes);
    printf("\nkept       %.1f %% of the source's bytes, %.3f bits per weight, %.2f %% of the weights' energy\n",
           100 * s->ratio, s->bpw, 100 * (1 - mean_error(report)));
    if (s->predicted_kl >= 0) printf("predicted  KL divergence to the source %.5f nats per token\n", s->predicted_kl);
    printf("to run     %s: weights %s, cache %s", size_text(a, s->run_memory.total_bytes),
           size_text(b, s->run_memory.weights_bytes), size_text(c, s->run_memory.kv_bytes));
    printf(", scratch %s\n", size_text(a, s->run_memory.scratch_bytes + s->run_memory.other_bytes));
    printf("           %s multiply-adds a token", millions_text(a, s->run_work.multiply_adds));
    if (s->run_work.transform_adds)
        printf(", and %s additions in transforms", millions_text(b, s->run_work.transform_adds));
    putchar('\n');
    printf("made in    %s, peak memory %s", duration_text(a, s->seconds), size_text(b, s->peak_rss_bytes));
    if (s->calib_tokens)
        printf(", calibrated on %s tokens (%s)", count_text(c, s->calib_tokens), s->calib ? s->calib : "?");
    if (s->skipped_tensors) printf(", %llu tensors kept from the earlier run", (unsigned long long)s->skipped_tensors);
    if (s->n_experts_missed)
        printf("\nexperts    to %llu of %llu fewer than 32 tokens came: they were fitted to tokens of others (--save-plan, --json name them)",
               (unsigned long long)s->n_experts_missed, (unsigned long long)s->n_experts);
    if (p->plan_only)
        printf("\n\nOnly planned; nothing was written%s%s.\n", p->plan_out ? " but " : "",
               p->plan_out ? p->plan_out : "");
    else {
        printf("\n\nWrote ");
        print_written(out);
        printf(". Try: snug run %s -p \"Once upon a time\"\n", out->path);
    }
}

static json_t *memory_json(const snug_memory *m) {
    json_t *o = json_object();
    json_put_int(o, "weights_bytes", m->weights_bytes);
    json_put_int(o, "kv_bytes", m->kv_bytes);
    json_put_int(o, "scratch_bytes", m->scratch_bytes);
    json_put_int(o, "other_bytes", m->other_bytes);
    json_put_int(o, "total_bytes", m->total_bytes);
    return o;
}

static json_t *report_json(const snug_fit_report *report, const snug_fit_params *p, const written *out) {
    const snug_fit_summary *s = snug_fit_report_summary(report);
    json_t *o = json_object(), *plan = json_array(), *skipped = json_array();
    json_put_text(o, "source", p->source);
    json_put_text(o, "output", out->path);
    if (out->n_parts > 1) json_put_int(o, "parts", out->n_parts);
    json_put_int(o, "bytes", out->path ? out->bytes : s->bytes);
    json_put_int(o, "budget_bytes", s->budget_bytes);
    json_put_int(o, "source_tensor_bytes", s->source_tensor_bytes);
    json_put_int(o, "n_weights", s->n_weights);
    json_put_real(o, "bpw", s->bpw);
    json_put_real(o, "ratio", s->ratio);
    json_put_real(o, "predicted_kl", s->predicted_kl);
    json_put_real(o, "mean_rel_error", mean_error(report));
    json_object_set_new(o, "run_memory", memory_json(&s->run_memory));
    json_t *work = json_object();
    json_put_int(work, "multiply_adds", s->run_work.multiply_adds);
    json_put_int(work, "transform_adds", s->run_work.transform_adds);
    json_object_set_new(o, "run_work", work);
    json_put_real(o, "seconds", s->seconds);
    json_put_int(o, "peak_rss_bytes", s->peak_rss_bytes);
    json_put_text(o, "calib", s->calib);
    json_put_int(o, "calib_tokens", s->calib_tokens);
    if (s->n_experts) json_put_int(o, "experts", s->n_experts);
    if (s->n_experts) json_put_int(o, "experts_missed", s->n_experts_missed);
    for (size_t i = 0; i < s->n_rows; i++) {
        const snug_plan_row *r = snug_fit_report_row(report, i);
        json_t *row = json_object();
        json_put_text(row, "tensor", r->tensor);
        json_put_text(row, "codec", r->codec);
        json_put_int(row, "rows", r->rows);
        json_put_int(row, "cols", r->cols);
        json_put_int(row, "bytes", r->bytes);
        json_put_real(row, "bpw", r->bpw);
        json_put_real(row, "rel_error", r->rel_error);
        if (r->measured_error >= 0) json_put_real(row, "measured_error", r->measured_error);
        json_put_real(row, "predicted_loss", r->predicted_loss);
        if (r->n_experts == 1) json_put_int(row, "tokens", r->tokens[0]);
        if (r->n_experts > 1) {
            json_t *tokens = json_array();
            for (uint64_t k = 0; k < r->n_experts; k++) json_array_append_new(tokens, json_integer((json_int_t)r->tokens[k]));
            json_object_set_new(row, "tokens", tokens);
        }
        if (*r->note) json_put_text(row, "note", r->note);
        json_array_append_new(plan, row);
        if (r->skipped) json_array_append_new(skipped, json_string(r->tensor));
    }
    json_object_set_new(o, "skipped", skipped);
    json_object_set_new(o, "plan", plan);
    return o;
}

/* ----------------------------------------------------------- the command ---- */

int cmd_fit(int argc, char **argv) {
    snug_fit_params p = {0};
    uint32_t threads = 0, ctx = 0;
    int target = 0, effort = 1;
    str_list pins = {0};
    uint64_t part_bytes = 0;
    const char *types = NULL;
    bool json = false;
    option opts[] = {
        {.name = "output",
         .letter = 'o',
         .kind = OPT_STRING,
         .value = &p.output,
         .arg = "OUT",
         .help = "the file to write"},
        {.name = "size",
         .kind = OPT_SIZE,
         .value = &p.size_bytes,
         .arg = "BYTES",
         .help = "budget: bytes of the file, e.g. 3.2G, 700M"},
        {.name = "bpw",
         .kind = OPT_REAL,
         .value = &p.bpw,
         .arg = "X",
         .min = 0.01,
         .max = 32,
         .help = "budget: bits per weight, everything in the file counted"},
        {.name = "ratio",
         .kind = OPT_RATIO,
         .value = &p.ratio,
         .arg = "P%",
         .help = "budget: share of the source's tensor bytes, e.g. 40%"},
        {.name = "ram",
         .kind = OPT_SIZE,
         .value = &p.ram_bytes,
         .arg = "BYTES",
         .help = "budget: memory of the whole run (weights, cache, scratch)"},
        {.name = "ctx",
         .kind = OPT_U32,
         .value = &ctx,
         .arg = "N",
         .min = 1,
         .help = "context that --ram must hold (default: the model's own)"},
        {.name = "for",
         .kind = OPT_CHOICE,
         .value = &target,
         .arg = "TARGET",
         .choices = "snug|gguf",
         .help = "who will run it: snug (default), or gguf: llama.cpp\nand all that reads its files"},
        OPTION_SPLIT(&part_bytes),
        {.name = "calib",
         .kind = OPT_STRING,
         .value = &p.calib,
         .arg = "HOW",
         .help = "calibration text: self (sampled from the model; the default),\nself:0.8 (at a temperature), a text file, self+FILE (half of\neach), or none"},
        {.name = "effort",
         .kind = OPT_CHOICE,
         .value = &effort,
         .arg = "E",
         .choices = "quick|normal|max",
         .help = "quick, normal (default) or max"},
        {.name = "pin",
         .kind = OPT_LIST,
         .value = &pins,
         .arg = "P=C",
         .help = "give tensors a codec, e.g. 'blk.*.attn_v.weight=q8_0';\nmay be repeated, later ones win"},
        {.name = "imatrix",
         .kind = OPT_STRING,
         .value = &p.imatrix,
         .arg = "FILE",
         .help = "importances from llama.cpp's imatrix (either format)"},
        {.name = "spill",
         .kind = OPT_STRING,
         .value = &p.spill,
         .arg = "DIR",
         .help = "keep the hidden states of calibration in files in DIR\nrather than in memory"},
        {.name = "plan", .kind = OPT_STRING, .value = &p.plan_in, .arg = "FILE", .help = "replay a saved plan"},
        {.name = "save-plan", .kind = OPT_STRING, .value = &p.plan_out, .arg = "FILE", .help = "save the plan as JSON"},
        {.name = "emit-tensor-types",
         .kind = OPT_STRING,
         .value = &types,
         .arg = "FILE",
         .help = "with --for gguf: write the plan as llama-quantize's arguments\n(-: to stdout, in place of the table)"},
        {.name = "plan-only",
         .alias = "dry-run",
         .kind = OPT_FLAG,
         .value = &p.plan_only,
         .help = "stop after planning: sizes, predicted loss, memory"},
        {.name = "resume", .kind = OPT_FLAG, .value = &p.resume, .help = "go on where an interrupted run stopped"},
        {.name = "seed",
         .kind = OPT_U64,
         .value = &p.seed,
         .arg = "N",
         .help = "seed of sampling and probes (default 0)"},
        OPTION_THREADS(&threads),
        OPTION_JSON(&json),
    };
    int exit_code;
    if (!options_parse(&fit_command, opts, COUNT_OF(opts), &p.source, argc, argv, &exit_code)) goto done;
    static const snug_effort efforts[] = {SNUG_EFFORT_QUICK, SNUG_EFFORT_NORMAL, SNUG_EFFORT_MAX};
    p.effort = efforts[effort];
    p.target = target ? SNUG_FOR_GGUF : SNUG_FOR_SNUG;
    p.threads = (int)threads;
    p.n_ctx = ctx;
    p.pins = pins.item;
    p.n_pins = pins.n;
    int budgets = (p.size_bytes > 0) + (p.bpw > 0) + (p.ratio > 0);
    if (budgets > 1) {
        exit_code = usage_error(&fit_command, "--size, --bpw and --ratio name the same thing; give one of them");
    } else if (budgets == 0 && !p.ram_bytes && !p.plan_in && p.n_pins == 0) {
        exit_code =
            usage_error(&fit_command, "no budget: say --size 3.2G, --bpw 3.5, --ratio 40%% or --ram 6G --ctx 4096");
    } else if (part_bytes && p.target != SNUG_FOR_GGUF) {
        exit_code = usage_error(&fit_command, "--split-max-size is for files of GGUF's own types; say --for gguf too");
    } else if (types && p.target != SNUG_FOR_GGUF) {
        exit_code = usage_error(&fit_command, "--emit-tensor-types is for plans of GGUF's own types; say --for gguf too");
    } else if (types && json && strcmp(types, "-") == 0) {
        exit_code = usage_error(&fit_command, "--emit-tensor-types - and --json both write to stdout; name a file for one of them");
    } else if (!p.output && !p.plan_only) {
        exit_code =
            usage_error(&fit_command, "no output: say -o small.snug (or --plan-only to see what would be made)");
    } else {
        catch_interrupts();
        progress_view view;
        progress_open(&view, json);
        p.progress = progress_to(&view);
        snug_fit_report *report = NULL;
        snug_error err = {0};
        written out = {0};
        snug_err code = snug_fit(&p, &report, &err);
        if (!code && !p.plan_only) code = split_output(p.output, part_bytes, &view, &out, &err);
        if (!code && types) code = write_tensor_types(report, types, &err);
        progress_close(&view);
        if (code) {
            exit_code = report_error(&fit_command, &err, json);
            if (code == SNUG_ERR_CANCELLED && !p.plan_only)
                fprintf(stderr, "Go on with the same command and --resume.\n");
        } else if (json) {
            exit_code = finish_json(&fit_command, report_json(report, &p, &out));
        } else if (types && strcmp(types, "-") == 0) {
            exit_code = finish_stdout(&fit_command, EXIT_OK);
        } else {
            print_plan(report);
            print_summary(report, &p, &out);
            exit_code = finish_stdout(&fit_command, EXIT_OK);
        }
        snug_fit_report_destroy(&report);
        free(out.path);
    }
done:
    free(pins.item);
    return exit_code;
}
