/* Writing GGUF v3: key-values as they come, then the header with every tensor's place.
 *
 * gguf_layout reads its own key-values back before it promises anything: what leaves here opens again. */
#include "base/checked.h"
#include "base/err.h"
#include "base/f16.h"
#include "format/gguf_kv.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_TENSOR_NAME = 63 }; /* ggml's GGML_MAX_NAME is 64 with its NUL */

/* Key and type of an entry. */
static bool put_head(gguf_kvs *k, const char *key, gguf_kv_type type) {
    size_t n = strlen(key);
    return buf_append_u64(&k->bytes, n) && buf_append(&k->bytes, key, n) && buf_append_u32(&k->bytes, (uint32_t)type);
}

/* When memory ran out in the middle of an entry the section gets its old length back. */
static bool finish(gguf_kvs *k, size_t old_bytes, bool ok) {
    if (ok) k->n++;
    else k->bytes.len = old_bytes;
    return ok;
}

static bool put_scalar(gguf_kvs *k, const char *key, gguf_kv_type type, const void *p) {
    size_t old = k->bytes.len;
    return finish(k, old, put_head(k, key, type) && buf_append(&k->bytes, p, gguf_kv_type_bytes(type)));
}

bool gguf_put_u32(gguf_kvs *k, const char *key, uint32_t v) { return put_scalar(k, key, GGUF_U32, &v); }
bool gguf_put_u64(gguf_kvs *k, const char *key, uint64_t v) { return put_scalar(k, key, GGUF_U64, &v); }
bool gguf_put_i32(gguf_kvs *k, const char *key, int32_t v) { return put_scalar(k, key, GGUF_I32, &v); }
bool gguf_put_f32(gguf_kvs *k, const char *key, float v) { return put_scalar(k, key, GGUF_F32, &v); }
bool gguf_put_bool(gguf_kvs *k, const char *key, bool v) {
    uint8_t b = v;
    return put_scalar(k, key, GGUF_BOOL, &b);
}

static bool append_str(buf *b, const char *s, uint64_t n) { return buf_append_u64(b, n) && buf_append(b, s, (size_t)n); }

bool gguf_put_str(gguf_kvs *k, const char *key, const char *s, size_t n) {
    size_t old = k->bytes.len;
    return finish(k, old, put_head(k, key, GGUF_STRING) && append_str(&k->bytes, s, n));
}

bool gguf_put_array(gguf_kvs *k, const char *key, gguf_kv_type elem_type, const void *elem, uint64_t n) {
    size_t old = k->bytes.len;
    uint64_t bytes;
    if (gguf_kv_type_bytes(elem_type) == 0 || !checked_mul(n, gguf_kv_type_bytes(elem_type), &bytes)) return false;
    return finish(k, old, put_head(k, key, GGUF_ARRAY) && buf_append_u32(&k->bytes, (uint32_t)elem_type) &&
                              buf_append_u64(&k->bytes, n) && buf_append(&k->bytes, elem, (size_t)bytes));
}

bool gguf_put_str_array(gguf_kvs *k, const char *key, const gguf_str *s, uint64_t n) {
    size_t old = k->bytes.len;
    bool ok = put_head(k, key, GGUF_ARRAY) && buf_append_u32(&k->bytes, GGUF_STRING) && buf_append_u64(&k->bytes, n);
    for (uint64_t i = 0; i < n && ok; i++) ok = append_str(&k->bytes, s[i].p, s[i].n);
    return finish(k, old, ok);
}

bool gguf_put_kv(gguf_kvs *k, const gguf_kv *kv) {
    uint8_t p[8];
    float f;
    switch (kv->type) {
    case GGUF_STRING: return gguf_put_str(k, kv->key, kv->v.s.p, (size_t)kv->v.s.n);
    case GGUF_ARRAY:
        if (kv->elem_type == GGUF_STRING) return gguf_put_str_array(k, kv->key, kv->array, kv->n);
        return gguf_put_array(k, kv->key, kv->elem_type, kv->array, kv->n);
    case GGUF_F32:
        f = (float)kv->v.f; /* was widened from f32: exact, but for the payload of a signalling NaN */
        return put_scalar(k, kv->key, GGUF_F32, &f);
    case GGUF_BOOL: return gguf_put_bool(k, kv->key, kv->v.b);
    default: /* integers and f64: the low bytes of the widened value */
        memcpy(p, &kv->v, sizeof p);
        return put_scalar(k, kv->key, kv->type, p);
    }
}

void gguf_kvs_fini(gguf_kvs *k) {
    buf_fini(&k->bytes);
    k->n = 0;
}

/* The caller's own keys, read back; general.alignment must agree with the alignment that the data get. */
static snug_err check_kvs(const gguf_kvs *kvs, uint32_t alignment, snug_error *err) {
    static const uint8_t none[1];
    arena mem = {0};
    gguf_kv *kv;
    uint64_t said = 32;
    snug_err rc = gguf_parse_kvs("keys to be written", kvs->bytes.data ? kvs->bytes.data : none, kvs->bytes.len, kvs->n, &mem, &kv, err);
    for (uint64_t i = 0; rc == SNUG_OK && i < kvs->n; i++)
        if (strcmp(kv[i].key, "general.alignment") == 0) said = kv[i].type == GGUF_U32 ? kv[i].v.u : 0;
    if (rc == SNUG_OK && (said != alignment || alignment == 0 || (alignment & (alignment - 1)) != 0))
        rc = err_set(err, SNUG_ERR_ARG, "keys to be written: general.alignment is %llu, but the data are aligned to %u",
                     (unsigned long long)said, alignment);
    else if (rc == SNUG_ERR_FORMAT)
        rc = err_prefix(err, SNUG_ERR_ARG, "internal");
    arena_fini(&mem);
    return rc;
}

static snug_err check_tensor(const gguf_out_tensor *t, snug_error *err) {
    const char *type;
    uint32_t block_weights, block_bytes;
    uint64_t n = 1, bytes;
    size_t name = strlen(t->name);
    if (name == 0 || name > MAX_TENSOR_NAME)
        return err_set(err, SNUG_ERR_ARG, "tensor '%.80s' to be written: its name has %zu bytes, expected 1 to %d", t->name, name,
                       MAX_TENSOR_NAME);
    if (t->n_dims == 0 || t->n_dims > 4)
        return err_set(err, SNUG_ERR_ARG, "tensor '%s' to be written: %u dimensions, expected 1 to 4", t->name, t->n_dims);
    if (!ggml_type_info(t->type, &type, &block_weights, &block_bytes))
        return err_set(err, SNUG_ERR_ARG, "tensor '%s' to be written: unknown type %u", t->name, t->type);
    for (uint32_t d = 0; d < t->n_dims; d++)
        if (t->dims[d] == 0 || !checked_mul(n, t->dims[d], &n))
            return err_set(err, SNUG_ERR_ARG, "tensor '%s' to be written: a dimension is 0 or their product overflows", t->name);
    if (t->dims[0] % block_weights != 0)
        return err_set(err, SNUG_ERR_ARG, "tensor '%s' to be written: rows of %llu weights are no whole number of %s blocks", t->name,
                       (unsigned long long)t->dims[0], type);
    if (!checked_mul(n / block_weights, block_bytes, &bytes) || bytes != t->bytes)
        return err_set(err, SNUG_ERR_ARG, "tensor '%s' to be written: %llu bytes, but its type %s and shape need %llu", t->name,
                       (unsigned long long)t->bytes, type, (unsigned long long)bytes);
    return SNUG_OK;
}

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static snug_err check_names(const gguf_out_tensor *tensors, size_t n, snug_error *err) {
    const char **names = calloc(n ? n : 1, sizeof *names);
    if (!names) return err_nomem(err, n * sizeof *names);
    for (size_t i = 0; i < n; i++) names[i] = tensors[i].name;
    qsort(names, n, sizeof *names, by_name);
    snug_err rc = SNUG_OK;
    for (size_t i = 1; i < n && rc == SNUG_OK; i++)
        if (strcmp(names[i - 1], names[i]) == 0) rc = err_set(err, SNUG_ERR_ARG, "tensor '%s' would be written twice", names[i]);
    free(names);
    return rc;
}

static bool put_tensor_info(buf *b, const gguf_out_tensor *t) {
    bool ok = append_str(b, t->name, strlen(t->name)) && buf_append_u32(b, t->n_dims);
    for (uint32_t d = 0; d < t->n_dims && ok; d++) ok = buf_append_u64(b, t->dims[d]);
    return ok && buf_append_u32(b, t->type) && buf_append_u64(b, t->offset);
}

snug_err gguf_layout(const gguf_kvs *kvs, gguf_out_tensor *tensors, size_t n, uint32_t alignment, buf *header, uint64_t *file_bytes,
                     snug_error *err) {
    snug_err rc = check_kvs(kvs, alignment, err);
    uint64_t data = 0;
    for (size_t i = 0; i < n && rc == SNUG_OK; i++) {
        rc = check_tensor(&tensors[i], err);
        tensors[i].offset = data;
        if (rc == SNUG_OK && (!checked_add(data, tensors[i].bytes, &data) || data > (uint64_t)INT64_MAX - alignment))
            rc = err_set(err, SNUG_ERR_ARG, "tensor '%s' to be written: the file's size overflows", tensors[i].name);
        data = round_up(data, alignment);
    }
    if (rc == SNUG_OK) rc = check_names(tensors, n, err);
    if (rc != SNUG_OK) return rc;
    header->len = 0;
    bool ok = buf_append(header, "GGUF", 4) && buf_append_u32(header, 3) && buf_append_u64(header, n) && buf_append_u64(header, kvs->n) &&
              buf_append(header, kvs->bytes.data, kvs->bytes.len);
    for (size_t i = 0; i < n && ok; i++) ok = put_tensor_info(header, &tensors[i]);
    if (!ok || !buf_pad(header, alignment)) return err_nomem(err, header->len);
    *file_bytes = header->len + data;
    return SNUG_OK;
}
