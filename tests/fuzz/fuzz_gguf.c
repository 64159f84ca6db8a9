/* Any bytes as a GGUF file. What opens must be whole: tensors inside the file, every key found, values readable; and what was
 * read must survive being written and read again. */
#include "format/gguf.h"
#include "fuzz.h"

#include <string.h>

static void touch_value(const gguf_file *g, const gguf_kv *kv) {
    uint64_t u, sum = 0;
    double d;
    FUZZ_CHECK(gguf_find(g, kv->key) == kv);
    (void)gguf_get_u64(g, kv->key, &u, NULL);
    (void)gguf_get_f64_or(g, kv->key, 0, &d, NULL);
    FUZZ_CHECK(gguf_get_str_or(g, kv->key, "") != NULL);
    (void)gguf_get_bool_or(g, kv->key, true);
    if (kv->type == GGUF_STRING) FUZZ_CHECK(kv->v.s.p[kv->v.s.n] == 0);
    for (uint64_t i = 0; kv->type == GGUF_ARRAY && i < kv->n; i++) {
        if (kv->elem_type == GGUF_STRING) {
            const gguf_str *s = (const gguf_str *)kv->array + i;
            FUZZ_CHECK(s->p[s->n] == 0);
        } else {
            sum += gguf_array_u64(kv, i);
            d += gguf_array_f64(kv, i);
        }
    }
    volatile uint64_t sink = sum;
    (void)sink;
}

/* Written with snug's writer, the same keys and tensors come back. */
static void rewrite(const gguf_file *g) {
    gguf_kvs kvs = {0};
    buf header = {0};
    uint64_t bytes;
    gguf_file *again = NULL;
    gguf_out_tensor *t = calloc(g->n_tensors + 1, sizeof *t);
    FUZZ_CHECK(t);
    for (size_t i = 0; i < g->n_kv; i++) FUZZ_CHECK(gguf_put_kv(&kvs, &g->kv[i]));
    for (size_t i = 0; i < g->n_tensors; i++) {
        const gguf_tensor *x = &g->tensors[i];
        t[i] = (gguf_out_tensor){.name = x->name, .type = x->type, .n_dims = x->n_dims, .bytes = x->bytes};
        memcpy(t[i].dims, x->dims, sizeof t[i].dims);
    }
    snug_error e = {0};
    if (gguf_layout(&kvs, t, g->n_tensors, g->alignment, &header, &bytes, &e) == SNUG_OK && bytes < 1 << 20) {
        char path[64];
        FUZZ_CHECK(buf_reserve(&header, (size_t)(bytes - header.len)));
        memset(header.data + header.len, 0, (size_t)(bytes - header.len));
        int fd = fuzz_file(header.data, (size_t)bytes, path);
        FUZZ_CHECK(gguf_open(path, &again, &e) == SNUG_OK);
        FUZZ_CHECK(again->n_kv == g->n_kv && again->n_tensors == g->n_tensors);
        for (size_t i = 0; i < g->n_tensors; i++) FUZZ_CHECK(gguf_find_tensor(again, g->tensors[i].name)->bytes == g->tensors[i].bytes);
        gguf_close(&again);
        close(fd);
    }
    free(t);
    buf_fini(&header);
    gguf_kvs_fini(&kvs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    char path[64];
    gguf_file *g = NULL;
    snug_error e = {0};
    int fd = fuzz_file(data, n, path);
    snug_err rc = gguf_open(path, &g, &e);
    FUZZ_CHECK((rc == SNUG_OK) == (g != NULL));
    if (g) {
        for (size_t i = 0; i < g->n_kv; i++) touch_value(g, &g->kv[i]);
        for (size_t i = 0; i < g->n_tensors; i++) {
            const gguf_tensor *t = &g->tensors[i];
            FUZZ_CHECK(t->bytes > 0 && t->offset >= g->data_offset && t->offset + t->bytes <= n);
            FUZZ_CHECK(gguf_find_tensor(g, t->name) == t);
        }
        FUZZ_CHECK(g->mem.total_bytes <= 64 * (n + 64)); /* memory in proportion to the file */
        rewrite(g);
        gguf_close(&g);
    } else {
        FUZZ_CHECK(e.code == rc && e.message[0]);
    }
    close(fd);

    arena mem = {0}; /* and as a bare section of keys, the first byte saying how many */
    gguf_kv *kv;
    if (n > 0) (void)gguf_parse_kvs("fuzz", data + 1, n - 1, data[0], &mem, &kv, &e);
    arena_fini(&mem);
    return 0;
}
