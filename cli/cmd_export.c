/* snug export: any model that opens, as a GGUF that llama.cpp runs. */
#include "cli.h"

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
    bool json = false;
    const char *path, *output = NULL;
    option opts[] = {
        {.name = "output",
         .letter = 'o',
         .kind = OPT_STRING,
         .value = &output,
         .arg = "OUT",
         .help = "the file to write"},
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
    snug_err code = snug_export(path, output, (int)threads, progress_to(&view), &err);
    progress_close(&view);
    if (code || snug_model_open(output, &made, &err)) return report_error(&export_command, &err, json);
    const snug_model_info *info = snug_model_get_info(made);
    if (json) {
        json_t *o = json_object();
        json_put_text(o, "model", path);
        json_put_text(o, "output", output);
        json_put_int(o, "bytes", info->file_bytes);
        json_put_real(o, "bpw", info->bpw);
        exit_code = finish_json(&export_command, o);
    } else {
        char a[TEXT_MAX], b[TEXT_MAX];
        printf("Wrote %s: %s bytes (%s), %.3f bits per weight\n", output, count_text(a, info->file_bytes),
               size_text(b, info->file_bytes), info->bpw);
        exit_code = finish_stdout(&export_command, EXIT_OK);
    }
    snug_model_close(&made);
    return exit_code;
}
