/* snug convert: a model as a plain GGUF, its matrices numbers of 32 or 16 bits. A fit whose every matrix is pinned. */
#include "cli.h"

#include <string.h>

const command convert_command = {
    .name = "convert",
    .summary = "Write a model as a plain GGUF, nothing compressed.",
    .usage = "convert SRC -o OUT.gguf [options]",
    .example = "snug convert Llama-3.2-1B -o llama.gguf\n"
               "snug convert Llama-3.2-1B -o llama.gguf --type f16",
    .notes = "bf16 is what most checkpoints have, and keeps their weights to the bit; so does f32, in twice the bytes.\nWhat another type rounds is said.\n"
             "For a file that fits a budget: snug fit SRC -o OUT.gguf --for gguf --size 700M",
    .operand = "SRC",
    .advice = "name a model folder or file, e.g. snug convert Llama-3.2-1B -o llama.gguf",
};

/* Matrices that are not what they were: how many, and the largest share of a matrix' energy that is error. */
typedef struct rounded { uint64_t n; double worst; const char *tensor; } rounded;

static rounded count_rounded(const snug_fit_report *report) {
    rounded r = {0};
    for (uint64_t i = 0; i < snug_fit_report_summary(report)->n_rows; i++) {
        const snug_plan_row *row = snug_fit_report_row(report, i);
        if (!(row->rel_error > 0)) continue;
        r.n++;
        if (row->rel_error > r.worst) r.worst = row->rel_error, r.tensor = row->tensor;
    }
    return r;
}

static int report_made(const snug_fit_report *report, const char *path, const char *output, bool json) {
    const snug_fit_summary *s = snug_fit_report_summary(report);
    const rounded r = count_rounded(report);
    if (json) {
        json_t *o = json_object();
        json_put_text(o, "model", path);
        json_put_text(o, "output", output);
        json_put_int(o, "bytes", s->bytes);
        json_put_int(o, "rounded", r.n);
        json_put_real(o, "worst_rel_error", r.worst);
        return finish_json(&convert_command, o);
    }
    char a[TEXT_MAX], b[TEXT_MAX];
    printf("Wrote %s: %s bytes (%s)\n", output, count_text(a, s->bytes), size_text(b, s->bytes));
    if (r.n) printf("%llu tensors were rounded, %s most: %.2g of its energy is error\n", (unsigned long long)r.n, r.tensor, r.worst);
    else printf("Every weight is what it was.\n");
    return finish_stdout(&convert_command, EXIT_OK);
}

int cmd_convert(int argc, char **argv) {
    static const char *const pins[] = {"*=bf16", "*=f16", "*=f32"};
    uint32_t threads = 0;
    bool json = false;
    int type = 0;
    const char *path, *output = NULL;
    option opts[] = {
        {.name = "output", .letter = 'o', .kind = OPT_STRING, .value = &output, .arg = "OUT", .help = "the file to write"},
        {.name = "type", .kind = OPT_CHOICE, .value = &type, .arg = "TYPE", .choices = "bf16|f16|f32", .help = "of the matrices: bf16 (default), f16 or f32"},
        OPTION_THREADS(&threads),
        OPTION_JSON(&json),
    };
    int exit_code;
    if (!options_parse(&convert_command, opts, COUNT_OF(opts), &path, argc, argv, &exit_code)) return exit_code;
    if (!output) return usage_error(&convert_command, "no output: say -o OUT.gguf");
    catch_interrupts();
    progress_view view;
    progress_open(&view, json);
    const snug_fit_params params = {.source = path, .output = output, .target = SNUG_FOR_GGUF, .effort = SNUG_EFFORT_QUICK, .calib = "none", .pins = &pins[type],
                                    .n_pins = 1, .threads = (int)threads, .progress = progress_to(&view)};
    snug_error err = {0};
    snug_fit_report *report = NULL;
    const snug_err code = snug_fit(&params, &report, &err);
    progress_close(&view);
    if (code) return report_error(&convert_command, &err, json);
    exit_code = report_made(report, path, output, json);
    snug_fit_report_destroy(&report);
    return exit_code;
}
