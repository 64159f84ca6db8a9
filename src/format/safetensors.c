/* safetensors: reading the headers of one file or of a sharded set.
 *
 *   header length u64 LE (N) | N bytes of JSON | data
 *   { "__metadata__": {...}, "model.norm.weight": {"dtype": "BF16", "shape": [128], "data_offsets": [begin, end]}, ... }
 *
 * Offsets count from the first byte behind the JSON. Checked once, here: the header's length against the file and 100 MB, JSON
 * without duplicate names, bytes = shape x dtype, every range inside the file, no byte used twice. Data are not touched.
 * Source: the format's README and its Rust reader (github.com/huggingface/safetensors). */
#include "format/safetensors.h"

#include "base/buf.h"
#include "base/checked.h"
#include "base/err.h"
#include "base/f16.h"
#include "base/json.h"
#include "format/st_internal.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t MAX_HEADER_BYTES = 100u * 1000 * 1000; /* the reference reader's bound */

static const struct {
    const char *name;
    uint32_t bits;
    st_dtype dtype;
} dtypes[] = {
    {"F32", 32, ST_F32},     {"F16", 16, ST_F16},    {"BF16", 16, ST_BF16},   {"F64", 64, ST_OTHER},    {"I64", 64, ST_OTHER},
    {"I32", 32, ST_OTHER},   {"I16", 16, ST_OTHER},  {"I8", 8, ST_OTHER},     {"U64", 64, ST_OTHER},    {"U32", 32, ST_OTHER},
    {"U16", 16, ST_OTHER},   {"U8", 8, ST_OTHER},    {"BOOL", 8, ST_OTHER},   {"C64", 64, ST_OTHER},    {"F8_E4M3", 8, ST_OTHER},
    {"F8_E5M2", 8, ST_OTHER}, {"F8_E8M0", 8, ST_OTHER}, {"F6_E2M3", 6, ST_OTHER}, {"F6_E3M2", 6, ST_OTHER}, {"F4", 4, ST_OTHER},
};

/* Bits of one element; 0 for a dtype that is not known here (then only its byte range is checked). */
static uint32_t dtype_bits(const char *name, st_dtype *out) {
    *out = ST_OTHER;
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(dtypes[i].name, name) == 0) {
            *out = dtypes[i].dtype;
            return dtypes[i].bits;
        }
    return 0;
}

static snug_err fail(const char *path, const char *tensor, snug_error *err, const char *problem) {
    return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%.100s': %s", path, tensor, problem);
}

static snug_err read_shape(const char *path, st_tensor *t, const json_t *shape, uint64_t *n_weights, snug_error *err) {
    if (!json_is_array(shape)) return fail(path, t->name, err, "field 'shape' is missing or no array");
    size_t n = json_array_size(shape);
    if (n > 8) return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%.100s': %zu dimensions, expected at most 8", path, t->name, n);
    t->n_dims = (uint32_t)n;
    *n_weights = 1;
    for (size_t d = 0; d < 8; d++) {
        const json_t *v = d < n ? json_array_get(shape, d) : NULL;
        if (v && (!json_is_integer(v) || json_integer_value(v) < 0))
            return fail(path, t->name, err, "field 'shape' holds something else than positive integers");
        t->dims[d] = v ? (uint64_t)json_integer_value(v) : 1;
        if (!checked_mul(*n_weights, t->dims[d], n_weights)) return fail(path, t->name, err, "the product of its dimensions overflows");
    }
    return SNUG_OK;
}

static snug_err read_offsets(const io_file *f, uint64_t data_at, st_tensor *t, const json_t *range, snug_error *err) {
    const json_t *a = json_array_get(range, 0), *b = json_array_get(range, 1);
    if (json_array_size(range) != 2 || !json_is_integer(a) || !json_is_integer(b) || json_integer_value(a) < 0 ||
        json_integer_value(b) < json_integer_value(a))
        return fail(f->path, t->name, err, "field 'data_offsets' is missing or no pair of rising positive integers");
    uint64_t begin = (uint64_t)json_integer_value(a), end = (uint64_t)json_integer_value(b);
    if (end > f->bytes - data_at)
        return err_at(err, SNUG_ERR_FORMAT, f->bytes, "%s: tensor '%.100s' needs %llu bytes from byte %llu on, but the file ends", f->path,
                      t->name, (unsigned long long)(end - begin), (unsigned long long)(data_at + begin));
    t->offset = data_at + begin;
    t->bytes = end - begin;
    return SNUG_OK;
}

static snug_err read_tensor(const io_file *f, uint64_t data_at, arena *mem, const char *name, const json_t *v, st_tensor *t,
                            snug_error *err) {
    *t = (st_tensor){.name = arena_strdup(mem, name)};
    if (!t->name) return err_nomem(err, strlen(name) + 1);
    const char *dtype = json_string_value(json_object_get(v, "dtype"));
    if (!dtype) return fail(f->path, name, err, "field 'dtype' is missing or no string");
    uint32_t bits = dtype_bits(dtype, &t->dtype);
    t->dtype_name = arena_strdup(mem, dtype);
    if (!t->dtype_name) return err_nomem(err, strlen(dtype) + 1);
    uint64_t n = 0, n_bits = 0;
    snug_err rc = read_shape(f->path, t, json_object_get(v, "shape"), &n, err);
    if (rc == SNUG_OK) rc = read_offsets(f, data_at, t, json_object_get(v, "data_offsets"), err);
    if (rc == SNUG_OK && bits > 0 && (!checked_mul(n, bits, &n_bits) || n_bits % 8 != 0 || n_bits / 8 != t->bytes))
        rc = err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%.100s': %llu elements of %s at %u bits do not make %llu bytes", f->path, name,
                     (unsigned long long)n, dtype, bits, (unsigned long long)t->bytes);
    return rc;
}

static int by_offset(const void *a, const void *b) {
    const st_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes; /* empty ones first: they lie on nobody */
}

/* The JSON's text, read after its length was checked. */
static snug_err read_header(const io_file *f, char **text, uint64_t *n, snug_error *err) {
    uint8_t raw[8];
    snug_err rc = io_pread(f, 0, raw, sizeof raw, err);
    if (rc != SNUG_OK) return rc;
    *n = read_u64(raw);
    if (*n > MAX_HEADER_BYTES)
        return err_at(err, SNUG_ERR_FORMAT, 0, "%s: the header's length is %llu bytes, expected at most %llu", f->path,
                      (unsigned long long)*n, (unsigned long long)MAX_HEADER_BYTES);
    if (*n > f->bytes - 8)
        return err_at(err, SNUG_ERR_FORMAT, f->bytes, "%s: the header needs %llu bytes from byte 8 on, but the file ends", f->path,
                      (unsigned long long)*n);
    *text = malloc((size_t)*n + 1);
    if (!*text) return err_nomem(err, (size_t)*n + 1);
    (*text)[*n] = 0;
    return io_pread(f, 8, *text, (size_t)*n, err);
}

snug_err st_read_file(const io_file *f, uint32_t index, arena *mem, buf *tensors, snug_error *err) {
    char *text = NULL;
    json_t *root = NULL;
    uint64_t n = 0;
    size_t first = tensors->len;
    snug_err rc = read_header(f, &text, &n, err);
    if (rc == SNUG_OK) rc = json_read_strict(f->path, text, (size_t)n, 8, &root, err);
    free(text);
    if (rc == SNUG_OK && !json_is_object(root)) rc = err_at(err, SNUG_ERR_FORMAT, 8, "%s: the header is no JSON object", f->path);
    const char *name;
    json_t *v;
    if (rc == SNUG_OK) json_object_foreach(root, name, v) {
        st_tensor t;
        if (strcmp(name, "__metadata__") == 0) continue;
        rc = read_tensor(f, 8 + n, mem, name, v, &t, err);
        t.file = index;
        if (rc == SNUG_OK && !buf_append(tensors, &t, sizeof t)) rc = err_nomem(err, tensors->len);
        if (rc != SNUG_OK) break;
    }
    json_decref(root);
    if (rc != SNUG_OK) return rc;
    size_t count = (tensors->len - first) / sizeof(st_tensor);
    if (count == 0) return SNUG_OK;
    st_tensor *t = (st_tensor *)(void *)(tensors->data + first);
    qsort(t, count, sizeof *t, by_offset);
    for (size_t i = 1; i < count; i++)
        if (t[i].bytes > 0 && t[i].offset < t[i - 1].offset + t[i - 1].bytes)
            return err_at(err, SNUG_ERR_FORMAT, t[i].offset, "%s: tensors '%.100s' and '%.100s' overlap", f->path, t[i - 1].name,
                          t[i].name);
    return SNUG_OK;
}
