/* Looking things up in an open GGUF file. */
#include "base/err.h"
#include "base/f16.h"
#include "format/gguf_kv.h"

#include <string.h>

const gguf_kv *gguf_find(const gguf_file *g, const char *key) {
    size_t lo = 0, hi = g->n_kv;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int d = strcmp(key, g->kv_by_key[mid]->key);
        if (d == 0) return g->kv_by_key[mid];
        if (d < 0) hi = mid;
        else lo = mid + 1;
    }
    return NULL;
}

const gguf_tensor *gguf_find_tensor(const gguf_file *g, const char *name) {
    size_t lo = 0, hi = g->n_tensors;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int d = strcmp(name, g->tensors_by_name[mid]->name);
        if (d == 0) return g->tensors_by_name[mid];
        if (d < 0) hi = mid;
        else lo = mid + 1;
    }
    return NULL;
}

static bool is_unsigned(gguf_kv_type t) { return t == GGUF_U8 || t == GGUF_U16 || t == GGUF_U32 || t == GGUF_U64; }
static bool is_signed(gguf_kv_type t) { return t == GGUF_I8 || t == GGUF_I16 || t == GGUF_I32 || t == GGUF_I64; }

static snug_err wrong(const gguf_file *g, const gguf_kv *kv, const char *expected, snug_error *err) {
    if (is_signed(kv->type))
        return err_set(err, SNUG_ERR_FORMAT, "%s: key '%s': expected %s, found %lld", g->file.path, kv->key, expected, (long long)kv->v.i);
    return err_set(err, SNUG_ERR_FORMAT, "%s: key '%s': expected %s, found a value of type %s", g->file.path, kv->key, expected,
                   gguf_kv_type_name(kv->type));
}

static snug_err to_u64(const gguf_file *g, const gguf_kv *kv, uint64_t *out, snug_error *err) {
    if (is_unsigned(kv->type)) *out = kv->v.u;
    else if (is_signed(kv->type) && kv->v.i >= 0) *out = (uint64_t)kv->v.i;
    else return wrong(g, kv, "a positive integer", err);
    return SNUG_OK;
}

snug_err gguf_get_u64(const gguf_file *g, const char *key, uint64_t *out, snug_error *err) {
    const gguf_kv *kv = gguf_find(g, key);
    if (!kv) return err_set(err, SNUG_ERR_FORMAT, "%s: key '%s' is missing, expected a positive integer", g->file.path, key);
    return to_u64(g, kv, out, err);
}

snug_err gguf_get_u64_or(const gguf_file *g, const char *key, uint64_t fallback, uint64_t *out, snug_error *err) {
    const gguf_kv *kv = gguf_find(g, key);
    *out = fallback;
    return kv ? to_u64(g, kv, out, err) : SNUG_OK;
}

snug_err gguf_get_f64_or(const gguf_file *g, const char *key, double fallback, double *out, snug_error *err) {
    const gguf_kv *kv = gguf_find(g, key);
    *out = fallback;
    if (!kv) return SNUG_OK;
    if (kv->type == GGUF_F32 || kv->type == GGUF_F64) *out = kv->v.f;
    else if (is_unsigned(kv->type)) *out = (double)kv->v.u;
    else if (is_signed(kv->type)) *out = (double)kv->v.i;
    else return wrong(g, kv, "a number", err);
    return SNUG_OK;
}

const char *gguf_get_str_or(const gguf_file *g, const char *key, const char *fallback) {
    const gguf_kv *kv = gguf_find(g, key);
    return kv && kv->type == GGUF_STRING ? kv->v.s.p : fallback;
}

bool gguf_get_bool_or(const gguf_file *g, const char *key, bool fallback) {
    const gguf_kv *kv = gguf_find(g, key);
    return kv && kv->type == GGUF_BOOL ? kv->v.b : fallback;
}

static const uint8_t *element(const gguf_kv *kv, uint64_t i) {
    return (const uint8_t *)kv->array + (size_t)i * gguf_kv_type_bytes(kv->elem_type);
}

uint64_t gguf_array_u64(const gguf_kv *kv, uint64_t i) {
    if (i >= kv->n) return 0;
    const uint8_t *p = element(kv, i);
    switch (kv->elem_type) {
    case GGUF_U8: return p[0];
    case GGUF_I8: return (uint64_t)(int64_t)(int8_t)p[0];
    case GGUF_BOOL: return p[0] != 0;
    case GGUF_U16: return read_u16(p);
    case GGUF_I16: return (uint64_t)(int64_t)(int16_t)read_u16(p);
    case GGUF_U32: return read_u32(p);
    case GGUF_I32: return (uint64_t)(int64_t)(int32_t)read_u32(p);
    case GGUF_U64:
    case GGUF_I64: return read_u64(p);
    case GGUF_F32:
    case GGUF_F64: { /* out of range (NaN too): 0, since the cast would be undefined */
        double d = gguf_array_f64(kv, i);
        return d > -1 && d < 0x1p64 ? (uint64_t)d : 0;
    }
    case GGUF_STRING:
    case GGUF_ARRAY: break;
    }
    return 0;
}

double gguf_array_f64(const gguf_kv *kv, uint64_t i) {
    const uint8_t *p;
    double d;
    if (i >= kv->n) return 0;
    switch (kv->elem_type) {
    case GGUF_F32: return (double)f32_from_bits(read_u32(element(kv, i)));
    case GGUF_F64:
        p = element(kv, i);
        memcpy(&d, p, sizeof d);
        return d;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64: return (double)(int64_t)gguf_array_u64(kv, i);
    default: return (double)gguf_array_u64(kv, i);
    }
}

snug_err gguf_merge_kvs(gguf_file *g, const gguf_kv *kv, size_t n, snug_error *err) {
    gguf_kv *all = arena_calloc(&g->mem, g->n_kv + n, sizeof *all);
    const gguf_kv **sorted;
    if (!all) return err_nomem(err, (g->n_kv + n) * sizeof *all);
    if (g->n_kv) memcpy(all, g->kv, g->n_kv * sizeof *all);
    if (n) memcpy(all + g->n_kv, kv, n * sizeof *all);
    snug_err rc = gguf_sort_kvs(g->file.path, all, g->n_kv + n, &g->mem, &sorted, err);
    if (rc != SNUG_OK) return rc; /* the file's table is as it was */
    g->kv = all;
    g->kv_by_key = sorted;
    g->n_kv += n;
    return SNUG_OK;
}
