/* Tensors of a GGUF file and of a snug artifact (docs/format.md): native tensors are one term of a ggml type's codec;
 * in an artifact I8 tensors are payloads whose codec, shape and place stand in the snug.payload.* arrays, and NAME@k is
 * term k of NAME. */
#include "base/err.h"
#include "model/arch.h"
#include "model/store_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum { SNUG_FORMAT_VERSION = 2, MAX_KV_BYTES = 1 << 30 };

/* ------------------------------------------------------------------ header ---- */

static snug_err unpack_kvs(store *s, const gguf_kv *packed, uint64_t count, uint64_t bytes, snug_error *err) {
    gguf_kv *kv = NULL;
    uint8_t *raw = NULL;
    snug_err rc;
    if (bytes > MAX_KV_BYTES || count > bytes)
        return err_set(err, SNUG_ERR_FORMAT, "%s: snug.kv.bytes is %llu for %llu keys, expected at most %d", s->path,
                       (unsigned long long)bytes, (unsigned long long)count, MAX_KV_BYTES);
    /* A frame that says its size must say this one: then a few bytes cannot make us reserve a gigabyte. */
    if (ZSTD_getFrameContentSize(packed->array, packed->n) != bytes)
        return err_set(err, SNUG_ERR_FORMAT, "%s: snug.kv.zstd does not unpack to the %llu bytes of snug.kv.bytes",
                       s->path, (unsigned long long)bytes);
    if (!(raw = malloc(bytes ? bytes : 1))) return err_nomem(err, bytes);
    size_t n = ZSTD_decompress(raw, bytes, packed->array, packed->n);
    if (ZSTD_isError(n) || n != bytes)
        rc = err_set(err, SNUG_ERR_FORMAT, "%s: snug.kv.zstd is damaged: %s", s->path,
                     ZSTD_isError(n) ? ZSTD_getErrorName(n) : "too short");
    else
        rc = gguf_parse_kvs(s->path, raw, bytes, count, &s->gguf->mem, &kv, err);
    free(raw);
    return rc ? rc : gguf_merge_kvs(s->gguf, kv, count, err);
}

snug_err store_snug_header(store *s, snug_error *err) {
    uint64_t version, count = 0, bytes = 0;
    snug_err rc = gguf_get_u64(s->gguf, "snug.version", &version, err);
    if (rc) return rc;
    if (version != SNUG_FORMAT_VERSION)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: snug.version is %llu, this snug reads %d; fit the model again, or use the snug that wrote it",
                       s->path, (unsigned long long)version, SNUG_FORMAT_VERSION);
    if ((rc = gguf_get_f64_or(s->gguf, "snug.predicted_kl", -1, &s->predicted_kl, err))) return rc;
    const gguf_kv *packed = gguf_find(s->gguf, "snug.kv.zstd");
    if (!packed) return SNUG_OK;
    if (packed->type != GGUF_ARRAY || packed->elem_type != GGUF_U8)
        return err_set(err, SNUG_ERR_FORMAT, "%s: key 'snug.kv.zstd' is no array of bytes", s->path);
    if ((rc = gguf_get_u64(s->gguf, "snug.kv.count", &count, err)) ||
        (rc = gguf_get_u64(s->gguf, "snug.kv.bytes", &bytes, err)))
        return rc;
    return unpack_kvs(s, packed, count, bytes, err);
}

/* ---------------------------------------------------------------- payloads ---- */

typedef struct payloads {
    uint64_t n;
    const gguf_kv *codec, *rows, *cols, *row0, *col0, *shape, *checksums, *losses;
    size_t n_codecs;
    comp_term *codecs;
} payloads;

/* A number array of exactly n entries, or NULL where it may be absent. */
static snug_err get_array(const store *s, const char *key, uint64_t n, bool required, const gguf_kv **out,
                          snug_error *err) {
    const gguf_kv *kv = gguf_find(s->gguf, key);
    *out = kv;
    if (!kv && !required) return SNUG_OK;
    if (!kv) return err_set(err, SNUG_ERR_FORMAT, "%s: key '%s' is missing", s->path, key);
    if (kv->type != GGUF_ARRAY || kv->elem_type == GGUF_STRING || kv->n != n)
        return err_set(err, SNUG_ERR_FORMAT, "%s: key '%s' is no array of %llu numbers", s->path, key,
                       (unsigned long long)n);
    return SNUG_OK;
}

static snug_err read_codecs(store *s, payloads *p, snug_error *err) {
    const gguf_kv *kv = gguf_find(s->gguf, "snug.codecs");
    if (!kv || kv->type != GGUF_ARRAY || kv->elem_type != GGUF_STRING || kv->n > 256)
        return err_set(err, SNUG_ERR_FORMAT, "%s: key 'snug.codecs' is no array of at most 256 names", s->path);
    p->n_codecs = kv->n;
    if (!(p->codecs = arena_calloc(&s->mem, kv->n + 1, sizeof *p->codecs)))
        return err_nomem(err, kv->n * sizeof *p->codecs);
    for (size_t i = 0; i < kv->n; i++) {
        const gguf_str *name = (const gguf_str *)kv->array + i;
        if (!codec_parse(name->p, &p->codecs[i].codec, &p->codecs[i].params))
            return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: codec '%s' is not known to this snug", s->path, name->p);
    }
    return SNUG_OK;
}

static snug_err read_payload_keys(store *s, payloads *p, snug_error *err) {
    const gguf_file *g = s->gguf;
    snug_err rc;
    for (size_t i = 0; i < g->n_tensors; i++) p->n += g->tensors[i].type == GGML_I8;
    if ((rc = get_array(s, "snug.checksums", g->n_tensors, false, &p->checksums, err)) ||
        (rc = get_array(s, "snug.losses", g->n_tensors, false, &p->losses, err)))
        return rc;
    s->has_checksums = p->checksums != NULL;
    if (p->n == 0) return SNUG_OK;
    if ((rc = read_codecs(s, p, err)) || (rc = get_array(s, "snug.payload.codec", p->n, true, &p->codec, err)) ||
        (rc = get_array(s, "snug.payload.rows", p->n, true, &p->rows, err)) ||
        (rc = get_array(s, "snug.payload.cols", p->n, true, &p->cols, err)) ||
        (rc = get_array(s, "snug.payload.row0", p->n, false, &p->row0, err)) ||
        (rc = get_array(s, "snug.payload.col0", p->n, false, &p->col0, err)))
        return rc;
    return get_array(s, "snug.payload.shape", 2 * p->n, false, &p->shape, err);
}

/* Payload number i: fills codec, shape and place. */
static snug_err payload_term(const store *s, const payloads *p, uint64_t i, found_term *f, snug_error *err) {
    uint64_t codec = gguf_array_u64(p->codec, i);
    if (codec >= p->n_codecs)
        return err_set(err, SNUG_ERR_FORMAT, "%s: payload %llu names codec %llu of %zu", s->path, (unsigned long long)i,
                       (unsigned long long)codec, p->n_codecs);
    f->term.codec = p->codecs[codec].codec;
    f->term.params = p->codecs[codec].params;
    f->term.layout = f->term.codec->relay ? WT_PANELS : WT_ROWS;
    f->term.rows = gguf_array_u64(p->rows, i);
    f->term.cols = gguf_array_u64(p->cols, i);
    f->term.row0 = p->row0 ? gguf_array_u64(p->row0, i) : 0;
    f->term.col0 = p->col0 ? gguf_array_u64(p->col0, i) : 0;
    f->rows = p->shape ? gguf_array_u64(p->shape, 2 * i) : f->term.rows;
    f->cols = p->shape ? gguf_array_u64(p->shape, 2 * i + 1) : f->term.cols;
    return SNUG_OK;
}

/* *n_stacked: matrices of a stack of experts, 0: it is none. */
static snug_err native_term(const store *s, const gguf_tensor *t, found_term *f, uint64_t *n_stacked, snug_error *err) {
    int expert = EXPERT_NONE;
    (void)role_from_name(f->name, NULL, &expert, NULL);
    const bool stack = expert == EXPERT_ALL;
    const char *type = "?";
    uint32_t unused;
    ggml_type_info(t->type, &type, &unused, &unused);
    f->term.codec = codec_by_ggml_type(t->type);
    if (!f->term.codec)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: tensor '%s' has type %s, expected one that weights are stored in: %s is for %s", s->path, t->name, type, type,
                       t->type == GGML_Q8_1 || t->type == GGML_Q8_K ? "activations" : "numbers of other kinds");
    if (stack ? t->n_dims != 3 : t->n_dims > 2)
        return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' has %u dimensions, expected %s", s->path, t->name, t->n_dims, stack ? "3" : "1 or 2");
    *n_stacked = stack ? t->dims[2] : 0;
    f->cols = f->term.cols = t->dims[0];
    f->rows = f->term.rows = t->n_dims >= 2 ? t->dims[1] : 1;
    return SNUG_OK;
}

/* Roles whose rows stand one after the other in a matrix, or its bias, as llama.cpp fuses them; 0: it is of one role. "ffn_up" of some architectures is
 * both: their gate and up, or, in a file of snug's own, up alone. */
static size_t fused_roles(const config *c, const found_term *f, int *layer, tensor_role roles[ARCH_MAX_ROLES]) {
    static const tensor_role qkv[] = {ROLE_Q, ROLE_K, ROLE_V}, qkv_bias[] = {ROLE_Q_BIAS, ROLE_K_BIAS, ROLE_V_BIAS}, ffn[] = {ROLE_GATE, ROLE_UP};
    int end = 0;
    if (sscanf(f->name, "blk.%d.%n", layer, &end) != 1 || !end || *layer < 0) return 0;
    const char *stem = f->name + end;
    const bool matrix = !strcmp(stem, "attn_qkv.weight"), two = c->arch->fused && !strcmp(stem, "ffn_up.weight") && f->rows == 2 * (uint64_t)c->n_ff;
    const size_t n = two ? 2 : matrix || !strcmp(stem, "attn_qkv.bias") ? 3 : 0;
    memcpy(roles, two ? ffn : matrix ? qkv : qkv_bias, n * sizeof *roles);
    return n;
}

/* "NAME@k" -> NAME and k = 1 .. WEIGHT_MAX_TERMS - 1; a name without '@' is term 0. */
static bool split_term(const char *full, char name[64], uint32_t *index) {
    const char *at = strchr(full, '@');
    size_t n = at ? (size_t)(at - full) : strlen(full);
    *index = 0;
    if (n >= 64) return false;
    memcpy(name, full, n);
    name[n] = 0;
    if (!at) return true;
    if (at[1] < '1' || at[1] >= '0' + WEIGHT_MAX_TERMS || at[2]) return false;
    *index = (uint32_t)(at[1] - '0');
    return true;
}

/* Old converters wrote RoPE tables beside the weights; they follow from the configuration. Longrope's factors are a part of it. */
static bool harmless(const char *name) {
    if (!strcmp(name, "rope_factors_long.weight") || !strcmp(name, "rope_factors_short.weight")) return true;
    const char *suffix = ".attn_rot_embd";
    size_t n = strlen(name), m = strlen(suffix);
    return n >= m && !strcmp(name + n - m, suffix);
}

/* Latent attention's keys and values as two stacks: *layer whose; false: t is no such stack. */
static bool is_split_kv(const store *s, const gguf_tensor *t, int *layer, bool *keys) {
    int end = 0;
    if (s->kind != STORE_GGUF || !s->cfg.kv_rank || sscanf(t->name, "blk.%d.%n", layer, &end) != 1 || !end || *layer < 0) return false;
    *keys = !strcmp(t->name + end, "attn_k_b.weight");
    return *keys || !strcmp(t->name + end, "attn_v_b.weight");
}

static snug_err place_split_kv(store *s, store_tensor **slots, const gguf_tensor *k, int layer, snug_error *err) {
    char name[64];
    found_term f = {.name = name, .shown = k->name, .loss = -1};
    role_tensor_name(ROLE_KV_B, layer, EXPERT_NONE, name);
    snug_err rc = store_make_kv_b(s, k, layer, &f, err);
    return rc ? rc : store_place(s, slots, &f, err);
}

snug_err store_place_gguf(store *s, store_tensor **slots, snug_error *err) {
    const gguf_file *g = s->gguf;
    payloads p = {0};
    snug_err rc = s->kind == STORE_SNUG ? read_payload_keys(s, &p, err) : SNUG_OK;
    uint64_t payload = 0;
    for (size_t i = 0; !rc && i < g->n_tensors; i++) {
        const gguf_tensor *t = &g->tensors[i];
        char name[64];
        found_term f = {.name = name, .shown = t->name, .loss = -1};
        if (harmless(t->name) || name_of_further_layer(&s->cfg, t->name)) continue;
        int split_layer = -1;
        bool keys = false;
        if (is_split_kv(s, t, &split_layer, &keys)) {
            if (keys) rc = place_split_kv(s, slots, t, split_layer, err); /* the values come with them */
            continue;
        }
        if (!split_term(t->name, name, &f.index) || (f.index && s->kind != STORE_SNUG))
            return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: tensor '%s' is no part of a %s model", s->path, t->name,
                           s->cfg.arch->gguf_name);
        bool is_payload = s->kind == STORE_SNUG && t->type == GGML_I8;
        if (is_payload && t->n_dims != 1)
            return err_set(err, SNUG_ERR_FORMAT, "%s: payload '%s' has %u dimensions, expected 1", s->path, t->name,
                           t->n_dims);
        uint64_t n_stacked = 0;
        rc = is_payload ? payload_term(s, &p, payload++, &f, err) : native_term(s, t, &f, &n_stacked, err);
        f.term.file = t->file;
        f.term.offset = t->offset;
        f.term.bytes = f.term.checked_bytes = t->bytes;
        f.term.checksum = p.checksums ? gguf_array_u64(p.checksums, i) : 0;
        f.loss = p.losses ? gguf_array_f64(p.losses, i) : -1;
        tensor_role roles[ARCH_MAX_ROLES];
        int layer = -1;
        const size_t n_roles = rc || n_stacked || is_payload ? 0 : fused_roles(&s->cfg, &f, &layer, roles);
        if (!rc && n_roles) rc = store_place_fused(s, slots, &f, layer, roles, n_roles, err);
        else if (!rc) rc = n_stacked ? store_place_stack(s, slots, &f, n_stacked, err) : store_place(s, slots, &f, err);
    }
    return rc;
}
