// rooms: base format token kern codec kv model run
/* Artifacts and GGUF files made here, by hand, from the llama3 golden: sums of terms over column and row ranges,
 * compressed keys, RoPE factors as a tensor, rows of q and k in GGUF order. What they compute must be what the folder
 * computes; what is wrong with them must be said. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include <cmocka.h>

#include "base/checked.h"
#include "base/f16.h"
#include "base/hash.h"
#include "model/store.h"

static char dir[] = "/tmp/snug-artifact-XXXXXX";
static char path[128];

static int make_dir(void **state) {
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/model.gguf", dir);
    return 0;
}
static int remove_dir(void **state) {
    remove(path);
    return rmdir(dir);
}

/* ------------------------------------------------------------------ making ---- */

enum { MAX_OUT = 256 };
typedef enum split {
    NATIVE,
    WHOLE,
    COLUMNS,
    ROWS
} split; /* how matrices are stored: one native tensor, one payload, two payloads */

typedef struct maker {
    gguf_kvs kvs;
    size_t n, n_payloads;
    gguf_out_tensor t[MAX_OUT];
    char name[MAX_OUT][72];
    uint8_t *data[MAX_OUT];
    uint64_t sum[MAX_OUT];
    float loss[MAX_OUT];
    uint8_t codec[MAX_OUT];
    uint32_t rows[MAX_OUT], cols[MAX_OUT], row0[MAX_OUT], col0[MAX_OUT], shape[2 * MAX_OUT];
    uint32_t version;             /* what tests falsify ... */
    bool no_checksums, wrong_rows, drop_last, bad_codec, kv_in_both, bad_zstd, extra_tensor;
} maker;

static void add(maker *m, const char *name, uint32_t type, uint64_t cols, uint64_t rows, uint8_t *data,
                uint64_t bytes) {
    gguf_out_tensor *t = &m->t[m->n];
    snprintf(m->name[m->n], sizeof *m->name, "%s", name);
    *t = (gguf_out_tensor){
        .name = m->name[m->n], .type = type, .n_dims = rows > 1 ? 2 : 1, .dims = {cols, rows, 1, 1}, .bytes = bytes};
    m->data[m->n] = data;
    m->sum[m->n] = hash_bytes(data, bytes);
    m->loss[m->n] = strchr(name, '@') ? 0 : 0.25f;
    m->n++;
}

/* The range of w (rows, cols) as bf16, exactly: the golden's own type. */
static void add_payload(maker *m, const char *name, const float *w, uint64_t rows, uint64_t cols, uint64_t r0,
                        uint64_t nr, uint64_t c0, uint64_t nc) {
    uint8_t *p = malloc(2 * nr * nc);
    for (uint64_t r = 0; r < nr; r++)
        for (uint64_t c = 0; c < nc; c++) write_u16(p + 2 * (r * nc + c), f32_to_bf16(w[(r0 + r) * cols + c0 + c]));
    size_t i = m->n_payloads++;
    m->codec[i] = m->bad_codec ? 9 : 0;
    m->rows[i] = (uint32_t)nr + (m->wrong_rows && i == 3);
    m->cols[i] = (uint32_t)nc;
    m->row0[i] = (uint32_t)r0;
    m->col0[i] = (uint32_t)c0;
    m->shape[2 * i] = (uint32_t)rows;
    m->shape[2 * i + 1] = (uint32_t)cols;
    add(m, name, GGML_I8, 2 * nr * nc, 1, p, 2 * nr * nc);
}

static void add_matrix(maker *m, const store_tensor *t, const float *w, split how) {
    char second[72];
    snprintf(second, sizeof second, "%s@1", t->name);
    if (how == NATIVE) {
        uint8_t *p = malloc(2 * t->rows * t->cols);
        for (uint64_t i = 0; i < t->rows * t->cols; i++) write_u16(p + 2 * i, f32_to_bf16(w[i]));
        add(m, t->name, GGML_BF16, t->cols, t->rows, p, 2 * t->rows * t->cols);
    } else if (how == WHOLE) {
        add_payload(m, t->name, w, t->rows, t->cols, 0, t->rows, 0, t->cols);
    } else if (how == COLUMNS) {
        add_payload(m, t->name, w, t->rows, t->cols, 0, t->rows, 0, 32);
        add_payload(m, second, w, t->rows, t->cols, 0, t->rows, 32, t->cols - 32);
    } else {
        add_payload(m, t->name, w, t->rows, t->cols, 0, 17, 0, t->cols);
        add_payload(m, second, w, t->rows, t->cols, 17, t->rows - 17, 0, t->cols);
    }
}

static void snug_keys(maker *m, const config *cfg) {
    gguf_kvs packed = {0};
    assert_int_equal(config_to_gguf(cfg, &packed, NULL), SNUG_OK); /* all of the model's keys travel compressed */
    size_t cap = ZSTD_compressBound(packed.bytes.len);
    uint8_t *z = malloc(cap);
    size_t zn = ZSTD_compress(z, cap, packed.bytes.data, packed.bytes.len, 3);
    assert_false(ZSTD_isError(zn));
    if (m->bad_zstd) z[zn / 2] ^= 0x55;
    gguf_put_u32(&m->kvs, "snug.version", m->version);
    gguf_put_array(&m->kvs, "snug.kv.zstd", GGUF_U8, z, zn);
    gguf_put_u32(&m->kvs, "snug.kv.count", (uint32_t)packed.n);
    gguf_put_u64(&m->kvs, "snug.kv.bytes", packed.bytes.len);
    gguf_put_f32(&m->kvs, "snug.predicted_kl", 0.125f);
    if (m->kv_in_both) gguf_put_str(&m->kvs, "general.architecture", "llama", 5);
    if (!m->no_checksums) gguf_put_array(&m->kvs, "snug.checksums", GGUF_U64, m->sum, m->n);
    gguf_put_array(&m->kvs, "snug.losses", GGUF_F32, m->loss, m->n);
    if (m->n_payloads) {
        gguf_str name = {"bf16", 4};
        gguf_put_str_array(&m->kvs, "snug.codecs", &name, 1);
        gguf_put_array(&m->kvs, "snug.payload.codec", GGUF_U8, m->codec, m->n_payloads);
        gguf_put_array(&m->kvs, "snug.payload.rows", GGUF_U32, m->rows, m->n_payloads);
        gguf_put_array(&m->kvs, "snug.payload.cols", GGUF_U32, m->cols, m->n_payloads);
        gguf_put_array(&m->kvs, "snug.payload.row0", GGUF_U32, m->row0, m->n_payloads);
        gguf_put_array(&m->kvs, "snug.payload.col0", GGUF_U32, m->col0, m->n_payloads);
        gguf_put_array(&m->kvs, "snug.payload.shape", GGUF_U32, m->shape, 2 * m->n_payloads);
    }
    free(z);
    gguf_kvs_fini(&packed);
}

static void write_out(maker *m) {
    buf header = {0};
    uint64_t bytes;
    snug_error err;
    if (gguf_layout(&m->kvs, m->t, m->n, 32, &header, &bytes, &err)) fail_msg("%s", err.message);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(header.data, 1, header.len, f);
    for (size_t i = 0; i < m->n; i++) {
        static const uint8_t zero[32];
        fwrite(m->data[i], 1, m->t[i].bytes, f);
        fwrite(zero, 1, round_up(m->t[i].bytes, 32) - m->t[i].bytes, f);
        free(m->data[i]);
    }
    assert_int_equal(ftell(f), bytes);
    fclose(f);
    buf_fini(&header);
    gguf_kvs_fini(&m->kvs);
}

/* The golden `source` as a file at `path`. how NATIVE without `snug`: an ordinary GGUF. */
static void make(const char *source, split how, bool snug, maker *m) {
    store *s = NULL;
    snug_error err;
    char from[512];
    snprintf(from, sizeof from, "%s/tests/golden/%s", SNUG_SOURCE_DIR, source);
    if (store_open(from, false, &s, &err)) fail_msg("%s", err.message);
    float *factors = calloc(s->cfg.rope_dims / 2, sizeof *factors);
    if (rope_freq_factors(&s->cfg, factors))
        add(m, "rope_freqs.weight", GGML_F32, s->cfg.rope_dims / 2, 1, (uint8_t *)factors, 2 * s->cfg.rope_dims);
    else free(factors);
    for (size_t i = 0; i + (m->drop_last ? 1 : 0) < s->n_tensors; i++) {
        const store_tensor *t = &s->tensors[i];
        float *w = malloc(t->rows * t->cols * sizeof *w);
        assert_int_equal(store_read_rows(s, t, 0, t->rows, w, NULL), SNUG_OK);
        if ((int)t->role < (int)ROLE_MATRICES) {
            add_matrix(m, t, w, how);
            free(w);
        } else {
            add(m, t->name, GGML_F32, t->cols, 1, (uint8_t *)w, 4 * t->cols);
        }
    }
    if (m->extra_tensor) add(m, "blk.0.attn_sinks.weight", GGML_F32, 4, 1, calloc(4, 4), 16);
    if (snug) snug_keys(m, &s->cfg);
    else assert_int_equal(config_to_gguf(&s->cfg, &m->kvs, NULL), SNUG_OK);
    write_out(m);
    store_close(&s);
}

/* ---------------------------------------------------------------- computing ---- */

enum { N = 40 };

static float *logits_of(const char *model_path, uint32_t *n_vocab) {
    snug_model *model = NULL;
    snug_context *ctx = NULL;
    snug_seq *seq = NULL;
    snug_error err;
    snug_item items[N];
    snug_context_params p = {.n_ctx = N, .max_batch = N, .threads = 1, .act = SNUG_ACT_F32, .kv = SNUG_KV_F32};
    if (snug_model_open(model_path, &model, &err) || snug_context_create(model, &p, &ctx, &err) ||
        snug_seq_create(ctx, &seq, &err))
        fail_msg("%s", err.message);
    *n_vocab = snug_model_get_info(model)->n_vocab;
    for (uint32_t i = 0; i < N; i++) items[i] = (snug_item){seq, (int32_t)(i * 37 % *n_vocab), i, true};
    if (snug_decode(ctx, items, N, &err)) fail_msg("%s", err.message);
    float *out = malloc((size_t)N * *n_vocab * sizeof *out);
    for (uint32_t i = 0; i < N; i++) memcpy(out + (size_t)i * *n_vocab, snug_logits(ctx, i), *n_vocab * sizeof *out);
    snug_seq_destroy(&seq);
    snug_context_destroy(&ctx);
    snug_model_close(&model);
    return out;
}

static double distance(const float *a, const float *b, size_t n) {
    double d = 0, r = 0;
    for (size_t i = 0; i < n; i++) d += (double)(a[i] - b[i]) * (a[i] - b[i]), r += (double)b[i] * b[i];
    return sqrt(d / r);
}

static void test_same_logits(void **state) {
    static const char *const sources[] = {"llama3", "mistral", "qwen3", "bitnet"}; /* all bf16 */
    for (size_t k = 0; k < 3; k++) {
        char from[512];
        uint32_t n_vocab;
        snprintf(from, sizeof from, "%s/tests/golden/%s", SNUG_SOURCE_DIR, sources[k]);
        float *reference = logits_of(from, &n_vocab);
        for (int how = -1; how <= ROWS; how++) {
            maker m = {.version = 2};
            make(sources[k], how < 0 ? NATIVE : (split)how, how >= 0, &m);
            float *logits = logits_of(path, &n_vocab);
            double d = distance(logits, reference, (size_t)N * n_vocab);
            print_message(
                "%-8s %s: %.2e from the folder\n", sources[k],
                how < 0 ? "gguf"
                        : (const char *const[]){"snug, native", "snug, whole", "snug, columns", "snug, rows"}[how],
                d);
            assert_true(d < 1e-5);
            free(logits);
        }
        free(reference);
    }
}

static void test_what_it_says(void **state) {
    maker m = {.version = 2};
    make("llama3", COLUMNS, true, &m);
    snug_model *model = NULL;
    snug_tensor_info t;
    snug_error err;
    if (snug_model_open(path, &model, &err)) fail_msg("%s", err.message);
    const snug_model_info *info = snug_model_get_info(model);
    assert_string_equal(info->format, "snug");
    assert_string_equal(info->architecture, "llama");
    assert_true(info->predicted_kl == 0.125);
    assert_int_equal(info->n_layers, 3);
    assert_int_equal(snug_model_n_tensors(model), 2 + 3 * 9 + 1); /* embedding, factors; 9 per layer; final norm */
    assert_int_equal(snug_model_tensor(model, 0, &t), SNUG_OK);
    assert_string_equal(t.name, "token_embd.weight");
    assert_string_equal(t.codec, "bf16+bf16");
    assert_string_equal(t.role, "embd");
    assert_int_equal(t.bytes, 512 * 96 * 2);
    assert_true(t.predicted_loss == 0.25);
    assert_int_equal(snug_model_tensor(model, 99, &t), SNUG_ERR_ARG);
    snug_model_close(&model);

    store *s = NULL;
    uint64_t print = 0;
    assert_int_equal(store_open(path, false, &s, NULL), SNUG_OK);
    print = store_fingerprint(s);
    assert_int_equal(store_fingerprint(s), print);
    assert_int_equal(store_verify(s, 2, (snug_progress){0}, &err), SNUG_OK);
    uint64_t offset = s->tensors[5].term[1].offset + 7;
    char name[64];
    snprintf(name, sizeof name, "%s", s->tensors[5].name);
    store_close(&s);

    FILE *f = fopen(path, "r+b"); /* one bit of one payload */
    fseek(f, (long)offset, SEEK_SET);
    int c = fgetc(f);
    fseek(f, (long)offset, SEEK_SET);
    fputc(c ^ 4, f);
    fclose(f);
    assert_int_equal(store_open(path, false, &s, NULL), SNUG_OK);
    assert_int_equal(store_verify(s, 2, (snug_progress){0}, &err), SNUG_ERR_FORMAT);
    assert_non_null(strstr(err.message, name));
    assert_non_null(strstr(err.message, "checksum"));
    store_close(&s);
}

/* Without checksums every weight is looked at. */
static void test_not_a_number(void **state) {
    maker m = {0};
    store *s = NULL;
    snug_error err;
    make("qwen3", NATIVE, false, &m);
    assert_int_equal(store_open(path, false, &s, NULL), SNUG_OK);
    assert_int_equal(store_verify(s, 2, (snug_progress){0}, &err), SNUG_OK);
    const store_tensor *t = store_find(s, ROLE_GATE, 1);
    FILE *f = fopen(path, "r+b");
    fseek(f, (long)(t->term[0].offset + 2 * (7 * t->cols + 3)), SEEK_SET);
    fputc(0xc0, f), fputc(0x7f, f); /* bf16 NaN */
    fclose(f);
    assert_int_equal(store_verify(s, 2, (snug_progress){0}, &err), SNUG_ERR_NUMERIC);
    assert_non_null(strstr(err.message, "'blk.1.ffn_gate.weight'"));
    assert_non_null(strstr(err.message, "row 7, column 3"));
    store_close(&s);
}

/* Rows in canonical order: of a folder they are permuted, of a GGUF they are as they lie; both give the same. */
static void test_rows(void **state) {
    maker m = {.version = 2};
    store *a = NULL, *b = NULL;
    make("llama3", ROWS, true, &m);
    assert_int_equal(store_open(SNUG_SOURCE_DIR "/tests/golden/llama3", false, &a, NULL), SNUG_OK);
    assert_int_equal(store_open(path, false, &b, NULL), SNUG_OK);
    for (size_t i = 0; i < a->n_tensors; i++) {
        const store_tensor *t = &a->tensors[i], *u = store_find(b, t->role, t->layer);
        float x[3 * 1024], y[3 * 1024];
        assert_non_null(u);
        for (uint64_t row = 0; row < t->rows; row += 3) {
            size_t n = (size_t)min_u64(3, t->rows - row);
            assert_int_equal(store_read_rows(a, t, row, n, x, NULL), SNUG_OK);
            assert_int_equal(store_read_rows(b, u, row, n, y, NULL), SNUG_OK);
            assert_memory_equal(x, y, n * t->cols * sizeof *x);
        }
        snug_error err;
        assert_int_equal(store_read_rows(a, t, t->rows, 1, x, &err), SNUG_ERR_ARG);
    }
    /* and the permutation is the one that the header of store.h describes: head size 16, canonical 2i + b <- i + 8b */
    const store_tensor *q = store_find(a, ROLE_Q, 0);
    float whole[96], raw[96];
    assert_int_equal(q->permute_heads, 6);
    assert_int_equal(store_read_rows(a, q, 16 + 5, 1, whole, NULL), SNUG_OK);
    uint8_t *payload = malloc(q->term[0].bytes);
    assert_int_equal(store_read_term(a, &q->term[0], payload, NULL), SNUG_OK);
    for (int c = 0; c < 96; c++) raw[c] = bf16_to_f32(read_u16(payload + 2 * ((16 + 2 + 8) * 96 + c)));
    assert_memory_equal(whole, raw, sizeof raw);
    free(payload);
    store_close(&a);
    store_close(&b);
}

static void expect(const char *source, split how, bool snug, maker m, snug_err code, const char *words) {
    store *s = NULL;
    snug_error err = {0};
    make(source, how, snug, &m);
    snug_err rc = store_open(path, false, &s, &err);
    if (rc != code || !strstr(err.message, words) || !strstr(err.message, "model.gguf"))
        fail_msg("%s: '%s', expected %s: '%s'", snug_err_name(rc), err.message, snug_err_name(code), words);
    assert_null(s);
}

static void test_refused(void **state) {
    expect("llama3", WHOLE, true, (maker){.version = 3}, SNUG_ERR_UNSUPPORTED, "snug.version is 3");
    expect("llama3", WHOLE, true, (maker){.version = 1}, SNUG_ERR_UNSUPPORTED, "snug.version is 1");
    expect("llama3", WHOLE, true, (maker){.version = 0}, SNUG_ERR_UNSUPPORTED, "snug.version is 0");
    expect("llama3", WHOLE, true, (maker){.version = 2, .wrong_rows = true}, SNUG_ERR_FORMAT, "blk.0.attn_v.weight");
    expect("llama3", WHOLE, true, (maker){.version = 2, .bad_codec = true}, SNUG_ERR_FORMAT, "names codec 9 of 1");
    expect("llama3", WHOLE, true, (maker){.version = 2, .kv_in_both = true}, SNUG_ERR_FORMAT, "general.architecture");
    expect("llama3", WHOLE, true, (maker){.version = 2, .bad_zstd = true}, SNUG_ERR_FORMAT, "");
    expect("llama3", NATIVE, false, (maker){.drop_last = true}, SNUG_ERR_FORMAT,
           "tensor 'output_norm.weight' is missing");
    expect("llama3", NATIVE, false, (maker){.extra_tensor = true}, SNUG_ERR_UNSUPPORTED,
           "'blk.0.attn_sinks.weight' is no part of");
}

/* Opening never crashes, whatever one byte of the header says. */
static void test_flipped_bytes(void **state) {
    maker m = {.version = 2};
    make("llama3", COLUMNS, true, &m);
    gguf_file *g = NULL;
    assert_int_equal(gguf_open(path, &g, NULL), SNUG_OK);
    long end = (long)g->data_offset;
    gguf_close(&g);
    FILE *f = fopen(path, "r+b");
    for (long at = 0; at < end; at += 1 + at % 5) {
        store *s = NULL;
        fseek(f, at, SEEK_SET);
        int c = fgetc(f);
        fseek(f, at, SEEK_SET);
        fputc(c ^ (1 << at % 8), f);
        fflush(f);
        snug_error err = {0};
        if (store_open(path, false, &s, &err)) assert_true(err.message[0] != 0);
        store_close(&s);
        fseek(f, at, SEEK_SET);
        fputc(c, f);
    }
    fclose(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_logits), cmocka_unit_test(test_what_it_says), cmocka_unit_test(test_rows),
        cmocka_unit_test(test_not_a_number),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_flipped_bytes),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
