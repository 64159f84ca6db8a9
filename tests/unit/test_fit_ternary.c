// rooms: fit plan eval run solve codec kern model kv token format linalg base
/* A model whose weights were trained to be ternary: fitted at two bits a weight, and at less, the planner finds what holds them without any loss; and
 * read from a folder that packs them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/f16.h"
#include "base/rng.h"
#include "model/store.h"

enum { EMBD = 256, FF = 256, KV = 128, VOCAB = 512, LAYERS = 1 };

static char dir[64];

static const char *at(const char *name) {
    static char path[16][128];
    static int i;
    i = (i + 1) % 16;
    snprintf(path[i], sizeof path[i], "%s/%s", dir, name);
    return path[i];
}

static const struct tensor { const char *name; unsigned rows, cols; } layer_tensors[] = {
    {"input_layernorm", 0, EMBD}, {"post_attention_layernorm", 0, EMBD}, {"self_attn.attn_sub_norm", 0, EMBD}, {"mlp.ffn_sub_norm", 0, FF},
    {"self_attn.q_proj", EMBD, EMBD}, {"self_attn.k_proj", KV, EMBD}, {"self_attn.v_proj", KV, EMBD}, {"self_attn.o_proj", EMBD, EMBD},
    {"mlp.gate_proj", FF, EMBD}, {"mlp.up_proj", FF, EMBD}, {"mlp.down_proj", EMBD, FF},
};
enum { LAYER_TENSORS = sizeof layer_tensors / sizeof *layer_tensors };

typedef struct writer { FILE *head, *data; size_t at; rng r; bool packed; } writer;

static void put_head(writer *w, const char *name, const char *type, unsigned rows, unsigned cols, size_t bytes) {
    fprintf(w->head, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", w->at ? "," : "", name, type);
    if (rows) fprintf(w->head, "%u,", rows);
    fprintf(w->head, "%u],\"data_offsets\":[%zu,%zu]}", cols, w->at, w->at + bytes);
    w->at += bytes;
}

static void put_bf16(writer *w, float x) {
    const uint16_t bits = f32_to_bf16(x);
    fwrite(&bits, 2, 1, w->data);
}

/* Four rows in a byte, the first rows / 4 in the lowest bits. */
static void put_packed(writer *w, const char *name, unsigned rows, unsigned cols, float d) {
    const size_t n = (size_t)rows * cols;
    uint8_t *packed = calloc(n / 4, 1);
    char scale[104];
    for (size_t i = 0; i < n; i++) packed[i % (n / 4)] |= (uint8_t)(rng_below(&w->r, 3) << 2 * (i / (n / 4)));
    put_head(w, name, "U8", rows / 4, cols, n / 4);
    fwrite(packed, 1, n / 4, w->data);
    free(packed);
    snprintf(scale, sizeof scale, "%s_scale", name);
    put_head(w, scale, "BF16", 0, 1, 2);
    put_bf16(w, d);
}

/* rows 0: a vector, near 1. Others d times -1, 0, 1, d a bf16 of the matrix's own; or any numbers. */
static void put(writer *w, const char *name, unsigned rows, unsigned cols, bool ternary) {
    const size_t n = (size_t)(rows ? rows : 1) * cols;
    const float d = bf16_to_f32(f32_to_bf16((1 + 0.5f * (float)rng_below(&w->r, 100) / 100) / sqrtf((float)cols)));
    char full[96];
    snprintf(full, sizeof full, "%s.weight", name);
    if (rows && ternary && w->packed) {
        put_packed(w, full, rows, cols, d);
        return;
    }
    put_head(w, full, "BF16", rows, cols, 2 * n);
    for (size_t i = 0; i < n; i++) {
        put_bf16(w, !rows ? 1 + 0.2f * rng_normal(&w->r) : ternary ? d * ((float)rng_below(&w->r, 3) - 1) : 0.3f * rng_normal(&w->r));
    }
}

static int write_model(const char *folder, bool packed) {
    char path[160], command[256], name[80];
    snprintf(command, sizeof command, "mkdir '%s' && cp " SNUG_SOURCE_DIR "/tests/golden/bitnet/tokenizer.json '%s'", folder, folder);
    if (system(command)) return -1;
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *json = fopen(path, "w");
    fprintf(json, "{\"architectures\": [\"BitNetForCausalLM\"], \"hidden_act\": \"relu2\", \"hidden_size\": %d, \"intermediate_size\": %d, "
                    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"num_hidden_layers\": %d, \"vocab_size\": %d, "
                    "\"max_position_embeddings\": 256, \"rms_norm_eps\": 1e-5, \"tie_word_embeddings\": true%s}", EMBD, FF, LAYERS, VOCAB,
            packed ? ", \"quantization_config\": {\"quant_method\": \"bitnet\", \"linear_class\": \"autobitlinear\", \"quantization_mode\": \"offline\"}" : "");
    fclose(json);
    char *head = NULL, *data = NULL;
    size_t n_head, n_data;
    writer w = {.head = open_memstream(&head, &n_head), .data = open_memstream(&data, &n_data), .packed = packed};
    rng_seed(&w.r, 11, 0);
    fputc('{', w.head);
    put(&w, "model.embed_tokens", VOCAB, EMBD, false);
    put(&w, "model.norm", 0, EMBD, false);
    for (int l = 0; l < LAYERS; l++)
        for (size_t i = 0; i < LAYER_TENSORS; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s", l, layer_tensors[i].name);
            put(&w, name, layer_tensors[i].rows, layer_tensors[i].cols, true);
        }
    fputc('}', w.head);
    fclose(w.head);
    fclose(w.data);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    FILE *f = fopen(path, "w");
    const uint64_t size = n_head;
    fwrite(&size, 8, 1, f);
    fwrite(head, 1, n_head, f);
    fwrite(data, 1, n_data, f);
    free(head);
    free(data);
    return fclose(f);
}

static int setup(void **state) {
    snprintf(dir, sizeof dir, "/tmp/snug-test-ternary-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    setenv("XDG_CACHE_HOME", at("cache"), 1);
    return write_model(at("model"), false) || write_model(at("packed"), true);
}
static int teardown(void **state) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static uint64_t fit(snug_fit_params p, bool exact) {
    snug_fit_report *report = NULL;
    snug_error err = {0};
    if (snug_fit(&p, &report, &err) != SNUG_OK) fail_msg("%s", err.message);
    const snug_fit_summary *s = snug_fit_report_summary(report);
    for (uint64_t i = 0; i < s->n_rows && exact; i++) {
        const snug_plan_row *r = snug_fit_report_row(report, i);
        if (r->rel_error != 0 || r->measured_error > 0) fail_msg("%s: %s has an error of %g, measured %g", r->tensor, r->codec, r->rel_error, r->measured_error);
        if (r->rows > 1 && strncmp(r->tensor, "blk.", 4) == 0) assert_true(r->bpw < 2.1);
    }
    const uint64_t bytes = s->bytes;
    snug_fit_report_destroy(&report);
    return bytes;
}

/* Every number of the file is the source's. */
static void same_weights(const char *file) {
    store *a, *b;
    snug_error err = {0};
    assert_int_equal(store_open(at("model"), false, &a, &err), SNUG_OK);
    assert_int_equal(store_open(file, false, &b, &err), SNUG_OK);
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (size_t i = 0; i < a->n_tensors; i++) {
        const store_tensor *s = &a->tensors[i], *t = &b->tensors[i];
        const size_t n = s->rows * s->cols;
        float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
        assert_string_equal(s->name, t->name);
        assert_int_equal(store_read_rows(a, s, 0, s->rows, x, &err), SNUG_OK);
        assert_int_equal(store_read_rows(b, t, 0, t->rows, y, &err), SNUG_OK);
        for (size_t j = 0; j < n; j++) assert_true(x[j] == y[j]);
        free(x);
        free(y);
    }
    store_close(&a);
    store_close(&b);
}

static void nothing_is_lost(void **state) {
    static const char *const two[] = {"*=tq2_0", "token_embd.weight=bf16"}, *const less[] = {"*=tq1_0", "token_embd.weight=bf16"}, *const embd[] = {"token_embd.weight=bf16"};
    snug_fit_params p = {.source = at("model"), .output = at("a.gguf"), .target = SNUG_FOR_GGUF, .effort = SNUG_EFFORT_QUICK, .pins = two, .n_pins = 2, .threads = 1};
    const uint64_t at_two = fit(p, true);
    p.pins = less;
    const uint64_t at_less = fit(p, true);
    assert_true(at_less < at_two);
    p.pins = embd, p.n_pins = 1;
    for (int k = 0; k < 2; k++) {
        p.size_bytes = (k ? at_less : at_two) + 64; /* what a plan is noted with */
        fit(p, true);
        same_weights(p.output);
    }
    /* With feedback, and snug's own ternary rows and transforms on the menu. */
    p.target = SNUG_FOR_SNUG, p.output = at("a.snug"), p.effort = SNUG_EFFORT_NORMAL, p.calib = SNUG_SOURCE_DIR "/tests/golden/README.md";
    fit(p, true);
    same_weights(p.output);
}

/* Exported, ternary rows of such a model become ggml's; those of others, which have a scale for each group, do not. */
static void ternary_rows_are_exported(void **state) {
    static const char *const pins[] = {"*=terng64", "token_embd.weight=bf16"};
    const char *const models[] = {at("model"), SNUG_SOURCE_DIR "/models/demo"};
    snug_error err = {0};
    for (int k = 0; k < 2; k++) {
        snug_fit_params p = {.source = models[k], .output = at("t.snug"), .effort = SNUG_EFFORT_QUICK, .pins = pins, .n_pins = 2, .threads = 1};
        store *s;
        fit(p, k == 0);
        assert_int_equal(snug_export(p.output, at("t.gguf"), 1, (snug_progress){0}, &err), SNUG_OK);
        if (k == 0) same_weights(at("t.gguf"));
        assert_int_equal(store_open(at("t.gguf"), false, &s, &err), SNUG_OK);
        const char *name = store_find(s, ROLE_DOWN, 0)->codec_name;
        assert_int_equal(strncmp(name, "tq", 2) == 0, k == 0);
        store_close(&s);
    }
}

/* A packed folder holds the same numbers, as tq2_0 once it is open; a code that is none is told of. */
static void packed_weights_are_read(void **state) {
    store *s;
    snug_error err = {0};
    same_weights(at("packed"));
    assert_int_equal(store_open(at("packed"), false, &s, &err), SNUG_OK);
    assert_string_equal(store_find(s, ROLE_DOWN, 0)->codec_name, "tq2_0");
    const io_file *file = &s->files[0];
    const st_tensor *t = st_find(s->st, "model.layers.0.mlp.up_proj.weight");
    FILE *f = fopen(file->path, "r+");
    fseek(f, (long)t->offset + 1000, SEEK_SET);
    fputc(3 << 4, f);
    fclose(f);
    store_close(&s);
    assert_int_equal(store_open(at("packed"), false, &s, &err), SNUG_ERR_FORMAT);
    assert_non_null(strstr(err.message, "codes other than"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_is_lost), cmocka_unit_test(ternary_rows_are_exported), cmocka_unit_test(packed_weights_are_read)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
