/* snug verify: reads every byte of a model and compares it with what the file promises. */
#include "cli.h"

const command verify_command = {
    .name = "verify",
    .summary = "Read every byte of a model and compare checksums.",
    .usage = "verify MODEL [options]",
    .example = "snug verify small.snug",
    .notes = "Files that snug made carry a checksum for every tensor. Of other files verify says whether every tensor "
             "can be read\n"
             "and is finite.",
    .operand = "MODEL",
    .advice = "name a model folder or file, e.g. snug verify small.snug",
};

int cmd_verify(int argc, char **argv) {
    uint32_t threads = 0;
    bool json = false;
    const char *path;
    option opts[] = {OPTION_THREADS(&threads), OPTION_JSON(&json)};
    int exit_code;
    if (!options_parse(&verify_command, opts, COUNT_OF(opts), &path, argc, argv, &exit_code)) return exit_code;
    catch_interrupts();
    snug_error err = {0};
    snug_model *model = NULL;
    if (snug_model_open(path, &model, &err)) return report_error(&verify_command, &err, json);
    uint64_t bytes = snug_model_get_info(model)->tensor_bytes;
    size_t tensors = snug_model_n_tensors(model);
    snug_model_close(&model);

    progress_view view;
    progress_open(&view, json);
    double began = now_seconds();
    snug_err code = snug_model_verify(path, (int)threads, progress_to(&view), &err);
    progress_close(&view);
    if (code) return report_error(&verify_command, &err, json);
    if (json) {
        json_t *o = json_object();
        json_put_text(o, "model", path);
        json_put_bool(o, "ok", true);
        json_put_int(o, "tensors", tensors);
        json_put_int(o, "tensor_bytes", bytes);
        json_put_real(o, "seconds", now_seconds() - began);
        return finish_json(&verify_command, o);
    }
    char a[TEXT_MAX], b[TEXT_MAX];
    printf("%s is whole: %zu tensors, %s read in %s\n", path, tensors, size_text(a, bytes),
           duration_text(b, now_seconds() - began));
    return finish_stdout(&verify_command, EXIT_OK);
}
