/* snug run: continues a prompt. */
#include "generate.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const command run_command = {
    .name = "run",
    .summary = "Continue a prompt.",
    .usage = "run MODEL (-p PROMPT | -f FILE | < FILE) [options]",
    .example = "snug run small.snug -p \"Once upon a time\" -n 200\n"
               "echo \"def fib(n):\" | snug run small.snug --temp 0 --stop \"def \"\n"
               "snug run small.snug -f report.txt --draft lookup",
    .notes = "The text goes to standard output as it is written, a line of figures to standard error. The context is "
             "as large as prompt\n"
             "and answer need, unless --ctx names it. Ctrl-C ends the text.",
    .operand = "MODEL",
    .advice = "name a model folder or file, e.g. snug run small.snug -p \"Once upon a time\"",
};

typedef struct run_options {
    gen_options gen;
    const char *model, *prompt, *prompt_file;
    bool echo, special, json;
    double began;
} run_options;

static void print_stats(const writer *w, stop_reason why, size_t n_prompt, bool show_seed) {
    double prefill = w->prefill_s > 0 ? (double)w->n_prefill / w->prefill_s : 0;
    double decode = w->decode_s > 0 ? (double)w->n_decode / w->decode_s : 0;
    fprintf(stderr, "[prompt %zu tokens, %.0f/s; %zu written, %.1f/s; ended by %s", n_prompt, prefill, w->n_decode,
            decode, stop_reason_name(why));
    if (w->options->draft) {
        snug_draft_stats d = snug_text_draft_stats(w->tokens);
        fprintf(stderr, "; %llu of %llu drafted came true", (unsigned long long)d.accepted,
                (unsigned long long)d.drafted);
    }
    char peak[TEXT_MAX];
    if (snug_peak_resident_bytes()) fprintf(stderr, "; %s of memory", size_text(peak, snug_peak_resident_bytes()));
    if (show_seed) fprintf(stderr, "; seed %llu", (unsigned long long)w->options->seed);
    fprintf(stderr, "]\n");
}

static json_t *run_json(const run_options *o, const writer *w, stop_reason why, size_t n_prompt) {
    json_t *j = json_object();
    json_put_text(j, "model", o->model);
    json_put_bytes(j, "text", w->text ? w->text : "", w->text_len);
    json_put_text(j, "stop", stop_reason_name(why));
    json_put_int(j, "prompt_tokens", n_prompt);
    json_put_int(j, "tokens", w->n_decode);
    json_put_real(j, "prefill_tps", w->prefill_s > 0 ? (double)w->n_prefill / w->prefill_s : 0);
    json_put_real(j, "decode_tps", w->decode_s > 0 ? (double)w->n_decode / w->decode_s : 0);
    snug_draft_stats d = snug_text_draft_stats(w->tokens);
    json_put_int(j, "drafted_tokens", d.drafted);
    json_put_int(j, "accepted_tokens", d.accepted);
    json_put_real(j, "first_token_s", w->first_at > 0 ? w->first_at - o->began : 0);
    json_put_int(j, "resident_bytes", snug_resident_bytes());
    json_put_int(j, "peak_resident_bytes", snug_peak_resident_bytes());
    json_put_int(j, "seed", o->gen.seed);
    return j;
}

/* The prompt's tokens; at least one. */
static snug_err prompt_tokens(const run_options *o, const snug_model *model, const char *text, size_t n, int32_t **ids,
                              size_t *n_ids, snug_error *err) {
    snug_err code = tokenize_all(model, text, n, true, o->special, ids, n_ids, err);
    if (code || *n_ids > 0) return code;
    if (snug_token_bos(model) >= 0) { /* an empty prompt: from the beginning of a text */
        (*ids)[0] = snug_token_bos(model);
        *n_ids = 1;
        return SNUG_OK;
    }
    *err = (snug_error){.code = SNUG_ERR_ARG,
                        .message = "the prompt is empty, and this model has no token that begins a text"};
    return err->code;
}

static int run_prompt(const run_options *o, snug_model *model, const char *text, size_t n, snug_error *err,
                      snug_err *code) {
    writer w = {0};
    int32_t *ids = NULL;
    size_t n_ids = 0;
    stop_reason why = STOP_LENGTH;
    progress_view view;
    progress_open(&view, o->json);
    const snug_model_info *info = snug_model_get_info(model);
    *code = prompt_tokens(o, model, text, n, &ids, &n_ids, err);
    uint64_t n_ctx = o->gen.ctx ? o->gen.ctx : (uint64_t)n_ids + o->gen.n_predict;
    if (!o->gen.ctx && info->n_ctx_train && n_ctx > info->n_ctx_train) n_ctx = info->n_ctx_train;
    if (!*code && n_ids > n_ctx) {
        *err = (snug_error){.code = SNUG_ERR_BUDGET};
        snprintf(err->message, sizeof err->message,
                 "the prompt has %zu tokens and the context %llu; shorten it or say --ctx %zu", n_ids,
                 (unsigned long long)n_ctx, n_ids + o->gen.n_predict);
        *code = err->code;
    }
    if (!*code) *code = writer_open(&w, model, &o->gen, (uint32_t)n_ctx, err);
    if (!*code) *code = writer_feed(&w, ids, n_ids, progress_to(&view), err);
    progress_close(&view);
    if (!*code && o->echo && !o->json) {
        fwrite(text, 1, n, stdout);
        fflush(stdout);
    }
    if (!*code) *code = writer_write(&w, o->json ? NULL : stdout, &why, err);
    int exit_code = EXIT_OK;
    if (!*code && o->json) {
        exit_code = finish_json(&run_command, run_json(o, &w, why, n_ids));
    } else if (!o->json && w.text_len) {
        putchar('\n');
        exit_code = finish_stdout(&run_command, EXIT_OK);
    }
    if (!*code && !o->json) print_stats(&w, why, n_ids, o->gen.temp > 0);
    if (!*code && why == STOP_INTERRUPT) exit_code = EXIT_FAILED;
    writer_close(&w);
    free(ids);
    return exit_code;
}

int cmd_run(int argc, char **argv) {
    run_options o = {.gen = GEN_DEFAULTS, .began = now_seconds()};
    option opts[] = {
        {.name = "prompt",
         .letter = 'p',
         .kind = OPT_STRING,
         .value = &o.prompt,
         .arg = "TEXT",
         .help = "the text to continue"},
        {.name = "file",
         .letter = 'f',
         .kind = OPT_STRING,
         .value = &o.prompt_file,
         .arg = "FILE",
         .help = "read the prompt from FILE (- or nothing: standard input)"},
        GEN_OPTIONS(&o.gen),
        {.name = "echo", .kind = OPT_FLAG, .value = &o.echo, .help = "print the prompt before its continuation"},
        {.name = "special",
         .kind = OPT_FLAG,
         .value = &o.special,
         .help = "read text such as <|user|> in the prompt as special tokens"},
        OPTION_JSON(&o.json),
    };
    int exit_code;
    if (!options_parse(&run_command, opts, COUNT_OF(opts), &o.model, argc, argv, &exit_code)) goto done;
    if (o.prompt && o.prompt_file) {
        exit_code = usage_error(&run_command, "--prompt and --file name the same thing; give one of them");
        goto done;
    }
    if (!o.prompt && !o.prompt_file && isatty(STDIN_FILENO)) {
        exit_code = usage_error(&run_command, "no prompt: say -p \"Once upon a time\", -f FILE, or pipe it in");
        goto done;
    }
    bool seed_given = false;
    for (size_t i = 0; i < COUNT_OF(opts); i++)
        if (strcmp(opts[i].name, "seed") == 0) seed_given = opts[i].given;
    if (!seed_given) o.gen.seed = seed_from_clock();

    catch_interrupts();
    snug_model *model = NULL;
    snug_error err = {0};
    char *text = NULL;
    size_t n = 0;
    snug_err code = snug_model_open(o.model, &model, &err);
    if (!code && !o.prompt) code = read_text(o.prompt_file ? o.prompt_file : "-", &text, &n, &err);
    if (!code && !o.prompt && n && text[n - 1] == '\n')
        n--; /* the newline that ends a file is not part of the prompt */
    exit_code = EXIT_OK;
    if (!code)
        exit_code = run_prompt(&o, model, o.prompt ? o.prompt : text, o.prompt ? strlen(o.prompt) : n, &err, &code);
    if (code) exit_code = report_error(&run_command, &err, o.json);
    free(text);
    snug_model_close(&model);
done:
    free(o.gen.stops.item);
    return exit_code;
}
