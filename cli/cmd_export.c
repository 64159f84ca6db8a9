/* snug export: any model that opens, as a GGUF that llama.cpp runs. */
#include "cli.h"

#include <stdlib.h>

const command export_command = {
    .name = "export",
    .summary = "Write a model as a GGUF that llama.cpp runs.",
    .usage = "export MODEL -o OUT.gguf [options]",
    .example = "snug export small.snug -o small.gguf",
    .notes =
        "Tensors of types that GGUF knows are copied; others are encoded again in the smallest type whose rate is not "
        "below theirs.\nThat is a second rounding; a warning says what it lost.\n"
        "To fit a budget in GGUF types, start from the source instead: snug fit SRC -o OUT.gguf --for gguf --size 700M",
    .operand = "MODEL",
    .advice = "name a model folder or file, e.g. snug export small.snug -o small.gguf",
};

int cmd_export(int argc, char **argv) {
    uint32_t threads = 0;
    uint64_t part_bytes = 0;
    bool json = false;
    const char *path, *output = NULL;
    option opts[] = {
        {.name = "output",
         .letter = 'o',
         .kind = OPT_STRING,
         .value = &output,
         .arg = "OUT",
         .help = "the file to write"},
        OPTION_SPLIT(&part_bytes),
        OPTION_THREADS(&threads),
        OPTION_JSON(&json),
    };
    int exit_code;
    if (!options_parse(&export_command, opts, COUNT_OF(opts), &path, argc, argv, &exit_code)) return exit_code;
    if (!output) return usage_error(&export_command, "no output: say -o OUT.gguf");
    catch_interrupts();
    progress_view view;
    progress_open(&view, json);
    snug_error err = {0};
    snug_model *made = NULL;
    written out = {0};
    snug_err code = snug_export(path, output, (int)threads, progress_to(&view), &err);
    if (!code) code = split_output(output, part_bytes, &view, &out, &err);
    progress_close(&view);
    if (!code) code = snug_model_open(out.path, &made, &err);
    if (code) {
        free(out.path);
        return report_error(&export_command, &err, json);
    }
    const snug_model_info *info = snug_model_get_info(made);
    if (json) {
        json_t *o = json_object();
        json_put_text(o, "model", path);
        json_put_text(o, "output", out.path);
        json_put_int(o, "parts", out.n_parts);
        json_put_int(o, "bytes", info->file_bytes);
        json_put_real(o, "bpw", info->bpw);
        exit_code = finish_json(&export_command, o);
    } else {
        char a[TEXT_MAX], b[TEXT_MAX];
        printf("Wrote ");
        print_written(&out);
        printf(": %s bytes (%s), %.3f bits per weight\n", count_text(a, info->file_bytes),
               size_text(b, info->file_bytes), info->bpw);
        exit_code = finish_stdout(&export_command, EXIT_OK);
    }
    snug_model_close(&made);
    free(out.path);
    return exit_code;
}
