/* snug convert: a model as a plain GGUF, its matrices numbers of 32 or 16 bits. A fit whose every matrix is pinned. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

const command convert_command = {
    .name = "convert",
    .summary = "Write a model as a plain GGUF, nothing compressed.",
    .usage = "convert SRC -o OUT.gguf [options]",
    .example = "snug convert Llama-3.2-1B -o llama.gguf\n"
               "snug convert Llama-3.2-1B -o llama.gguf --type f16",
    .notes = "bf16 is what most checkpoints have, and keeps their weights to the bit; so does f32, in twice the bytes.\nWhere a type has fewer bits than the source's, it is said.\n"
             "For a file that fits a budget: snug fit SRC -o OUT.gguf --for gguf --size 700M",
    .operand = "SRC",
    .advice = "name a model folder or file, e.g. snug convert Llama-3.2-1B -o llama.gguf",
};

/* Matrices of the source whose type holds what the new one may not; f32 holds what any of the others does. */
static uint64_t count_narrowed(const snug_model *source, const char *type) {
    uint64_t n = 0;
    for (size_t i = 0; i < snug_model_n_tensors(source); i++) {
        snug_tensor_info t;
        if (snug_model_tensor(source, i, &t) == SNUG_OK && t.rows > 1 && strcmp(type, "f32") != 0 && strcmp(type, t.codec) != 0) n++;
    }
    return n;
}

/* The largest share of a matrix' energy that was found to be error, in the rows that a plan looks at. */
static double worst_error(const snug_fit_report *report, const char **tensor) {
    double worst = 0;
    for (uint64_t i = 0; i < snug_fit_report_summary(report)->n_rows; i++) {
        const snug_plan_row *row = snug_fit_report_row(report, i);
        if (row->rel_error > worst) worst = row->rel_error, *tensor = row->tensor;
    }
    return worst;
}

static int report_made(const snug_fit_report *report, uint64_t narrowed, const char *path, const written *out, bool json) {
    const char *tensor = "";
    const double worst = worst_error(report, &tensor);
    if (json) {
        json_t *o = json_object();
        json_put_text(o, "model", path);
        json_put_text(o, "output", out->path);
        json_put_int(o, "parts", out->n_parts);
        json_put_int(o, "bytes", out->bytes);
        json_put_int(o, "narrowed", narrowed);
        json_put_real(o, "worst_rel_error", worst);
        return finish_json(&convert_command, o);
    }
    char a[TEXT_MAX], b[TEXT_MAX];
    printf("Wrote ");
    print_written(out);
    printf(": %s bytes (%s)\n", count_text(a, out->bytes), size_text(b, out->bytes));
    if (!narrowed) printf("Every weight is what it was.\n");
    else if (worst > 0) printf("%llu matrices had another type and may be rounded, %s most: %.2g of its energy is error\n", (unsigned long long)narrowed, tensor, worst);
    else printf("%llu matrices had another type; in the rows that were looked at nothing was rounded\n", (unsigned long long)narrowed);
    return finish_stdout(&convert_command, EXIT_OK);
}

int cmd_convert(int argc, char **argv) {
    static const char *const types[] = {"bf16", "f16", "f32"}, *const pins[] = {"*=bf16", "*=f16", "*=f32"};
    uint32_t threads = 0;
    uint64_t part_bytes = 0;
    bool json = false, resume = false;
    int type = 0;
    const char *path, *output = NULL;
    option opts[] = {
        {.name = "output", .letter = 'o', .kind = OPT_STRING, .value = &output, .arg = "OUT", .help = "the file to write"},
        {.name = "type", .kind = OPT_CHOICE, .value = &type, .arg = "TYPE", .choices = "bf16|f16|f32", .help = "of the matrices: bf16 (default), f16 or f32"},
        {.name = "resume", .kind = OPT_FLAG, .value = &resume, .help = "go on where an interrupted run stopped"},
        OPTION_SPLIT(&part_bytes),
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
                                    .n_pins = 1, .resume = resume, .threads = (int)threads, .progress = progress_to(&view)};
    snug_error err = {0};
    snug_model *source = NULL;
    snug_fit_report *report = NULL;
    written out = {0};
    snug_err code = snug_model_open(path, &source, &err);
    const uint64_t narrowed = code ? 0 : count_narrowed(source, types[type]);
    snug_model_close(&source);
    if (!code) code = snug_fit(&params, &report, &err);
    if (!code) code = split_output(output, part_bytes, &view, &out, &err);
    progress_close(&view);
    if (code) {
        exit_code = report_error(&convert_command, &err, json);
        if (code == SNUG_ERR_CANCELLED) fprintf(stderr, "Go on with the same command and --resume.\n");
    } else {
        exit_code = report_made(report, narrowed, path, &out, json);
    }
    snug_fit_report_destroy(&report);
    free(out.path);
    return exit_code;
}
