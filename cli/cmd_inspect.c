/* snug inspect: what is in a model: every tensor's codec, rate, bytes and predicted loss, and the totals. */
#include "cli.h"
#include "svg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const command inspect_command = {
    .name = "inspect",
    .summary = "List what is in a model and where its bytes went.",
    .usage = "inspect MODEL [--svg FILE] [options]",
    .example = "snug inspect small.snug\nsnug inspect small.snug --svg where-the-bytes-went.svg",
    .operand = "MODEL",
    .advice = "name a model folder or file, e.g. snug inspect small.snug",
};

/* Sums by codec or role, in the order of first appearance. */
typedef struct total {
    const char *name;
    uint64_t tensors, bytes, weights;
} total;
enum { MAX_TOTALS = 64 };
typedef struct totals {
    size_t n;
    total item[MAX_TOTALS];
} totals;

static void add_total(totals *t, const char *name, const snug_tensor_info *info) {
    size_t i = 0;
    while (i < t->n && strcmp(t->item[i].name, name) != 0) i++;
    if (i == MAX_TOTALS) return;
    if (i == t->n) t->item[t->n++].name = name;
    t->item[i].tensors++;
    t->item[i].bytes += info->bytes;
    t->item[i].weights += info->rows * info->cols;
}

static double rate(uint64_t bytes, uint64_t weights) {
    return weights ? 8.0 * (double)bytes / (double)weights : 0;
}

static void print_totals(const char *title, const totals *t, uint64_t all) {
    char bytes[TEXT_MAX];
    printf("\n%-14s tensors      bpw          bytes    share\n", title);
    for (size_t i = 0; i < t->n; i++)
        printf("%-14s %7llu  %7.3f %14s  %5.1f %%\n", t->item[i].name, (unsigned long long)t->item[i].tensors,
               rate(t->item[i].bytes, t->item[i].weights), count_text(bytes, t->item[i].bytes),
               all ? 100 * (double)t->item[i].bytes / (double)all : 0);
}

static json_t *totals_json(const totals *t) {
    json_t *o = json_object();
    for (size_t i = 0; i < t->n; i++) {
        json_t *one = json_object();
        json_put_int(one, "tensors", t->item[i].tensors);
        json_put_int(one, "bytes", t->item[i].bytes);
        json_put_int(one, "weights", t->item[i].weights);
        json_put_real(one, "bpw", rate(t->item[i].bytes, t->item[i].weights));
        json_object_set_new(o, t->item[i].name, one);
    }
    return o;
}

static void print_head(const snug_model_info *m) {
    char a[TEXT_MAX], b[TEXT_MAX];
    printf("%s\n", m->path);
    if (*m->name) printf("  name        %s\n", m->name);
    printf("  format      %s, architecture %s\n", m->format, m->architecture);
    if (m->n_heads)
        printf("  shape       %u layers, width %u, %u heads of %u (%u for keys and values), feed-forward %u\n", m->n_layers,
               m->n_embd, m->n_heads, m->head_dim, m->n_kv_heads, m->n_ff);
    else
        printf("  shape       %u layers, width %u\n", m->n_layers, m->n_embd);
    if (m->n_recurrent)
        printf("  recurrent   %u layers without attention, whose states take %s bytes (%s) for each text\n", m->n_recurrent, count_text(a, m->state_bytes), size_text(b, m->state_bytes));
    if (m->n_experts) {
        printf("  experts     %u in ", m->n_experts);
        if (m->n_expert_layers < m->n_layers) printf("%u of %u layers", m->n_expert_layers, m->n_layers);
        else printf("each layer");
        printf(", %u of them for a token, each a feed-forward of that width", m->n_experts_used);
        if (m->n_ff_shared) printf("; one of %u for all tokens", m->n_ff_shared);
        if (m->n_ff_dense) printf("; the other layers have one of %u", m->n_ff_dense);
        printf("\n");
    }
    printf("  vocabulary  %u tokens, context %u\n", m->n_vocab, m->n_ctx_train);
    printf("  size        %s bytes (%s), %s weights, %.3f bits per weight\n", count_text(a, m->file_bytes),
           size_text((char[TEXT_MAX]){0}, m->file_bytes), count_text(b, m->n_weights), m->bpw);
    if (m->n_weights_used < m->n_weights) printf("  active      %s weights, the others are of experts that a token is not sent to\n", count_text(b, m->n_weights_used));
    if (m->predicted_kl >= 0)
        printf("  predicted   KL divergence to its source %.5f nats per token\n", m->predicted_kl);
}

static void print_tensors(const snug_model *model) {
    int name_width = 6, codec_width = 5;
    snug_tensor_info t;
    size_t n = snug_model_n_tensors(model);
    for (size_t i = 0; i < n; i++) {
        if (snug_model_tensor(model, i, &t)) continue;
        if ((int)strlen(t.name) > name_width) name_width = (int)strlen(t.name);
        if ((int)strlen(t.codec) > codec_width) codec_width = (int)strlen(t.codec);
    }
    printf("\n%-*s  %-*s  %-15s %7s %14s  %9s\n", name_width, "tensor", codec_width, "codec", "rows x cols", "bpw",
           "bytes", "pred.loss");
    for (size_t i = 0; i < n; i++) {
        if (snug_model_tensor(model, i, &t)) continue;
        char shape[TEXT_MAX], bytes[TEXT_MAX], loss[TEXT_MAX] = "-";
        snprintf(shape, sizeof shape, "%llu x %llu", (unsigned long long)t.rows, (unsigned long long)t.cols);
        if (t.predicted_loss >= 0 && t.rows > 1) snprintf(loss, sizeof loss, "%.2e", t.predicted_loss);
        printf("%-*s  %-*s  %-15s %7.3f %14s  %9s\n", name_width, t.name, codec_width, t.codec, shape,
               rate(t.bytes, t.rows * t.cols), count_text(bytes, t.bytes), loss);
    }
}

static json_t *inspect_json(const snug_model *model, const totals *codecs, const totals *roles) {
    const snug_model_info *m = snug_model_get_info(model);
    json_t *o = json_object(), *tensors = json_array();
    json_put_text(o, "model", m->path);
    json_put_text(o, "format", m->format);
    json_put_text(o, "architecture", m->architecture);
    json_put_text(o, "name", m->name);
    json_put_int(o, "n_layers", m->n_layers);
    json_put_int(o, "n_embd", m->n_embd);
    json_put_int(o, "n_heads", m->n_heads);
    json_put_int(o, "n_kv_heads", m->n_kv_heads);
    json_put_int(o, "head_dim", m->head_dim);
    json_put_int(o, "n_ff", m->n_ff);
    if (m->n_experts) json_put_int(o, "n_experts", m->n_experts);
    if (m->n_experts) json_put_int(o, "n_experts_used", m->n_experts_used);
    if (m->n_experts) json_put_int(o, "n_expert_layers", m->n_expert_layers);
    if (m->n_ff_shared) json_put_int(o, "n_ff_shared", m->n_ff_shared);
    if (m->n_ff_dense) json_put_int(o, "n_ff_dense", m->n_ff_dense);
    if (m->n_experts) json_put_int(o, "n_weights_used", m->n_weights_used);
    if (m->n_recurrent) json_put_int(o, "n_recurrent", m->n_recurrent);
    if (m->n_recurrent) json_put_int(o, "state_bytes", m->state_bytes);
    json_put_int(o, "n_vocab", m->n_vocab);
    json_put_int(o, "n_ctx_train", m->n_ctx_train);
    json_put_int(o, "n_weights", m->n_weights);
    json_put_int(o, "file_bytes", m->file_bytes);
    json_put_int(o, "tensor_bytes", m->tensor_bytes);
    json_put_real(o, "bpw", m->bpw);
    json_object_set_new(o, "predicted_kl", m->predicted_kl >= 0 ? json_real(m->predicted_kl) : json_null());
    json_object_set_new(o, "codecs", totals_json(codecs));
    json_object_set_new(o, "roles", totals_json(roles));
    for (size_t i = 0; i < snug_model_n_tensors(model); i++) {
        snug_tensor_info t;
        if (snug_model_tensor(model, i, &t)) continue;
        json_t *one = json_object();
        json_put_text(one, "name", t.name);
        json_put_text(one, "codec", t.codec);
        json_put_text(one, "role", t.role);
        json_object_set_new(one, "layer", t.layer >= 0 ? json_integer(t.layer) : json_null());
        if (t.expert >= 0) json_put_int(one, "expert", (uint64_t)t.expert);
        json_put_int(one, "rows", t.rows);
        json_put_int(one, "cols", t.cols);
        json_put_int(one, "bytes", t.bytes);
        json_put_real(one, "bpw", rate(t.bytes, t.rows * t.cols));
        json_object_set_new(one, "predicted_loss", t.predicted_loss >= 0 ? json_real(t.predicted_loss) : json_null());
        json_array_append_new(tensors, one);
    }
    json_object_set_new(o, "tensors", tensors);
    return o;
}

static int write_svg(const snug_model *model, const char *path, bool json) {
    snug_error err = {.code = SNUG_ERR_IO};
    FILE *f = fopen(path, "w");
    bool ok = f && svg_write(f, model);
    if (f && fclose(f) != 0) ok = false;
    if (ok) return EXIT_OK;
    snprintf(err.message, sizeof err.message, "%s: %s", path, strerror(errno));
    if (f) unlink(path); /* no half a picture */
    return report_error(&inspect_command, &err, json);
}

int cmd_inspect(int argc, char **argv) {
    const char *path, *svg = NULL;
    bool json = false;
    uint32_t threads = 0;
    option opts[] = {
        {.name = "svg",
         .kind = OPT_STRING,
         .value = &svg,
         .arg = "FILE",
         .help = "draw where the bytes went, layer by layer"},
        OPTION_THREADS(&threads),
        OPTION_JSON(&json),
    };
    int exit_code;
    if (!options_parse(&inspect_command, opts, COUNT_OF(opts), &path, argc, argv, &exit_code)) return exit_code;
    snug_model *model = NULL;
    snug_error err = {0};
    if (snug_model_open(path, &model, &err)) return report_error(&inspect_command, &err, json);
    const snug_model_info *info = snug_model_get_info(model);
    totals codecs = {0}, roles = {0};
    for (size_t i = 0; i < snug_model_n_tensors(model); i++) {
        snug_tensor_info t;
        if (snug_model_tensor(model, i, &t)) continue;
        add_total(&codecs, t.codec, &t);
        add_total(&roles, t.role, &t);
    }
    exit_code = svg ? write_svg(model, svg, json) : EXIT_OK;
    if (exit_code == EXIT_OK && json) {
        exit_code = finish_json(&inspect_command, inspect_json(model, &codecs, &roles));
    } else if (exit_code == EXIT_OK) {
        print_head(info);
        if (!svg) print_tensors(model);
        print_totals("codec", &codecs, info->tensor_bytes);
        print_totals("role", &roles, info->tensor_bytes);
        uint64_t rest = info->file_bytes > info->tensor_bytes ? info->file_bytes - info->tensor_bytes : 0;
        char text[TEXT_MAX];
        printf("\nnames, tokenizer and padding: %s bytes\n", count_text(text, rest));
        if (svg) printf("Wrote %s\n", svg);
        exit_code = finish_stdout(&inspect_command, EXIT_OK);
    }
    snug_model_close(&model);
    return exit_code;
}
