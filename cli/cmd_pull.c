/* snug pull: a model from Hugging Face (or a hub with the same interface) into a folder. The access token comes from the environment
 * alone: a command line can be seen by every user of the machine. */
#include "cli.h"

#include <fnmatch.h>
#include <stdlib.h>

const command pull_command = {
    .name = "pull",
    .summary = "Fetch a model from Hugging Face.",
    .usage = "pull hf:ORG/NAME[@REVISION] [DIR] [options]",
    .example = "snug pull hf:Qwen/Qwen3-0.6B\n"
               "snug pull hf:Qwen/Qwen3-0.6B-GGUF --file '*Q8_0.gguf'\n"
               "snug pull hf:Qwen/Qwen3-0.6B@main models/qwen --dry-run",
    .notes = "DIR is NAME unless given. Fetched is what snug opens: config.json, the tokenizer and the safetensors, or the one\n"
             "GGUF; --file names others. Every file is compared with the hub's hash before it gets its name. Stopped at any\n"
             "instant, the same command goes on.\n"
             "Environment: HF_TOKEN, an access token for gated and private models; HF_ENDPOINT, another hub.\n"
             "Exit codes: 0 fine, 1 failed or stopped, 2 usage, 3 the disk is too small.",
    .operand = "SRC",
    .second = "DIR",
    .advice = "name a model of the hub, e.g. snug pull hf:Qwen/Qwen3-0.6B",
};

/* Rows shown when a pull begins; --dry-run shows all. */
enum { LONG_LIST = 20 };

/* A dry run of a repository of several GGUFs chooses nothing: they are listed, to choose from. */
static bool is_shown(const snug_pull_summary *s, const snug_pull_file *f) {
    return f->chosen || (s->n_chosen == 0 && fnmatch("*.gguf", f->path, 0) == 0);
}

static void print_files(const snug_pull *pull, size_t limit) {
    const snug_pull_summary *s = snug_pull_get_summary(pull);
    size_t shown = 0;
    char size[TEXT_MAX], there[TEXT_MAX];
    for (size_t i = 0; i < s->n_files; i++) {
        const snug_pull_file f = snug_pull_get_file(pull, i);
        if (!is_shown(s, &f)) continue;
        if (shown++ >= limit) continue;
        printf("  %7s  %s", size_text(size, f.bytes), f.path);
        if (f.present_bytes && f.present_bytes == f.bytes) printf("  (there)");
        else if (f.present_bytes) printf("  (%s there)", size_text(there, f.present_bytes));
        putchar('\n');
    }
    if (shown > limit) printf("  and %zu more (--dry-run lists them)\n", shown - limit);
}

static void print_head(const snug_pull *pull, bool dry_run) {
    const snug_pull_summary *s = snug_pull_get_summary(pull);
    char a[TEXT_MAX], b[TEXT_MAX];
    printf("%s at %.12s", s->repository, s->commit);
    if (s->n_chosen == 0) printf(" has several GGUF files; say which one with --file\n");
    else
        printf(": %s in %zu file%s of %zu, into %s\n", size_text(a, s->bytes), s->n_chosen, s->n_chosen == 1 ? "" : "s", s->n_files,
               s->folder);
    print_files(pull, dry_run ? SIZE_MAX : LONG_LIST);
    if (s->n_chosen == 0) return;
    if (s->present_bytes) printf("Of that %s is there already.\n", size_text(a, s->present_bytes));
    if (dry_run)
        printf("On the disk %s more are needed, %s are free. Nothing was fetched.\n", size_text(a, s->needed_bytes),
               size_text(b, s->free_bytes));
    fflush(stdout);
}

static void print_end(const snug_pull *pull) {
    const snug_pull_summary *s = snug_pull_get_summary(pull);
    char a[TEXT_MAX], b[TEXT_MAX], c[TEXT_MAX];
    printf("Fetched %s in %s", size_text(a, s->fetched_bytes), duration_text(b, s->seconds));
    if (s->seconds > 0 && s->fetched_bytes) printf(" (%s/s)", size_text(c, (uint64_t)((double)s->fetched_bytes / s->seconds)));
    printf("; every file has the hub's hash.\n");
    if (s->model_path) printf("Next: snug fit %s -o small.snug --ratio 40%%\n", s->model_path);
}

static json_t *report_json(const snug_pull *pull, bool dry_run) {
    const snug_pull_summary *s = snug_pull_get_summary(pull);
    json_t *o = json_object(), *files = json_array();
    json_put_text(o, "repository", s->repository);
    json_put_text(o, "revision", s->revision);
    json_put_text(o, "commit", s->commit);
    json_put_text(o, "folder", s->folder);
    json_put_text(o, "model", s->model_path);
    json_put_bool(o, "dry_run", dry_run);
    json_put_int(o, "bytes", s->bytes);
    json_put_int(o, "present_bytes", s->present_bytes);
    json_put_int(o, "needed_bytes", s->needed_bytes);
    json_put_int(o, "free_bytes", s->free_bytes);
    json_put_int(o, "fetched_bytes", s->fetched_bytes);
    json_put_real(o, "seconds", s->seconds);
    for (size_t i = 0; i < s->n_files; i++) {
        const snug_pull_file f = snug_pull_get_file(pull, i);
        if (!is_shown(s, &f)) continue;
        json_t *file = json_object();
        json_put_text(file, "path", f.path);
        json_put_int(file, "bytes", f.bytes);
        json_put_int(file, "present_bytes", f.present_bytes);
        json_put_text(file, f.hash_name, f.hash);
        json_array_append_new(files, file);
    }
    json_object_set_new(o, "files", files);
    return o;
}

int cmd_pull(int argc, char **argv) {
    const char *operand[2];
    snug_pull_params p = {.endpoint = getenv("HF_ENDPOINT"), .token = getenv("HF_TOKEN")};
    uint32_t connections = 0;
    str_list patterns = {0};
    bool json = false;
    option opts[] = {
        {.name = "file",
         .kind = OPT_LIST,
         .value = &patterns,
         .arg = "PATTERN",
         .help = "fetch the files of this name, nothing else, e.g. '*Q8_0.gguf';\nmay be repeated"},
        {.name = "connections", .kind = OPT_U32, .value = &connections, .arg = "N", .min = 1, .max = 64, .help = "at once (default 8)"},
        {.name = "replace", .kind = OPT_FLAG, .value = &p.replace, .help = "overwrite files in DIR that are others than the hub's"},
        {.name = "dry-run", .kind = OPT_FLAG, .value = &p.dry_run, .help = "list what would be fetched; nothing is written"},
        OPTION_JSON(&json),
    };
    int exit_code;
    snug_pull *pull = NULL;
    if (!options_parse(&pull_command, opts, COUNT_OF(opts), operand, argc, argv, &exit_code)) goto done;
    catch_interrupts();
    progress_view view;
    progress_open(&view, json);
    p.source = operand[0];
    p.folder = operand[1];
    p.patterns = patterns.item;
    p.n_patterns = patterns.n;
    p.connections = (int)connections;
    p.progress = progress_to(&view);
    snug_error err = {0};
    snug_err code = snug_pull_open(&p, &pull, &err);
    if (!code && !json) print_head(pull, p.dry_run);
    if (!code && !p.dry_run) code = snug_pull_fetch(pull, p.progress, &err);
    progress_close(&view);
    if (code) {
        exit_code = report_error(&pull_command, &err, json);
        if (code == SNUG_ERR_CANCELLED) fprintf(stderr, "Go on with the same command.\n");
    } else if (json) {
        exit_code = finish_json(&pull_command, report_json(pull, p.dry_run));
    } else {
        if (!p.dry_run) print_end(pull);
        exit_code = finish_stdout(&pull_command, EXIT_OK);
    }
done:
    snug_pull_close(&pull);
    free(patterns.item);
    return exit_code;
}
