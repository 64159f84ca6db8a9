/* A checkpoint's safetensors files as one set of tensors, sorted by name.
 *
 *   model.safetensors                 everything in one file, or
 *   model.safetensors.index.json      {"weight_map": {tensor: shard, ...}}, shards in the same folder
 *
 * As Hugging Face transformers does it, the single file wins when both are there, and every tensor of a shard counts, named in
 * the index or not. Shard names come from a file, so they must be plain names: nothing outside the folder is ever opened. */
#include "base/err.h"
#include "base/json.h"
#include "format/st_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SHARDS = 4096 };
static const size_t MAX_INDEX_BYTES = 256u << 20;

static int by_name(const void *a, const void *b) { return strcmp(((const st_tensor *)a)->name, ((const st_tensor *)b)->name); }
static int by_string(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* Opens path as file number i and reads its header. */
static snug_err add_file(st_set *set, size_t i, const char *path, buf *tensors, snug_error *err) {
    snug_err rc = io_open(path, &set->files[i], err);
    if (rc != SNUG_OK) return rc;
    set->n_files = i + 1;
    return st_read_file(&set->files[i], (uint32_t)i, &set->mem, tensors, err);
}

static bool is_plain_name(const char *s) {
    return *s && !strchr(s, '/') && !strchr(s, '\\') && strcmp(s, ".") != 0 && strcmp(s, "..") != 0;
}

/* Distinct shard names of a weight_map, sorted, borrowed from it. */
static snug_err list_shards(const char *index, const json_t *map, const char ***out, size_t *n, snug_error *err) {
    const char *name;
    json_t *v;
    size_t count = 0;
    const char **s = calloc(json_object_size(map) + 1, sizeof *s);
    if (!s) return err_nomem(err, (json_object_size(map) + 1) * sizeof *s);
    *out = s;
    json_object_foreach((json_t *)(uintptr_t)map, name, v) {
        const char *shard = json_string_value(v);
        if (!shard || strlen(shard) != json_string_length(v) || !is_plain_name(shard))
            return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%.80s': expected a plain file name in the same folder, found %s%.80s%s", index,
                           name, shard ? "'" : "no string", shard ? shard : "", shard ? "'" : "");
        s[count++] = shard;
    }
    qsort(s, count, sizeof *s, by_string);
    *n = 0;
    for (size_t i = 0; i < count; i++)
        if (*n == 0 || strcmp(s[*n - 1], s[i]) != 0) s[(*n)++] = s[i];
    if (*n == 0 || *n > MAX_SHARDS)
        return err_set(err, SNUG_ERR_FORMAT, "%s: field 'weight_map' names %zu files, expected 1 to %d", index, *n, MAX_SHARDS);
    return SNUG_OK;
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* A tensor that the index places in one shard and another shard has too: the index decides. */
static void drop_displaced(st_set *set, const json_t *map, buf *tensors) {
    st_tensor *t = (st_tensor *)(void *)tensors->data;
    size_t n = tensors->len / sizeof *t, kept = 0;
    for (size_t i = 0; i < n; i++) {
        const char *shard = json_string_value(json_object_get(map, t[i].name));
        if (!shard || strcmp(shard, base_name(set->files[t[i].file].path)) == 0) t[kept++] = t[i];
    }
    tensors->len = kept * sizeof *t;
}

/* Sorts, refuses names that stand twice, and gives the table its final place. */
static snug_err finish(st_set *set, buf *tensors, snug_error *err) {
    size_t n = tensors->len / sizeof(st_tensor);
    set->tensors = arena_alloc(&set->mem, tensors->len);
    if (!set->tensors) return err_nomem(err, tensors->len);
    if (n) memcpy(set->tensors, tensors->data, tensors->len);
    qsort(set->tensors, n, sizeof *set->tensors, by_name);
    set->n_tensors = n;
    for (size_t i = 1; i < n; i++)
        if (by_name(&set->tensors[i - 1], &set->tensors[i]) == 0)
            return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%.100s' stands in %s too", set->files[set->tensors[i - 1].file].path,
                           set->tensors[i].name, base_name(set->files[set->tensors[i].file].path));
    return SNUG_OK;
}

static snug_err read_index(st_set *set, const char *dir, const char *index, buf *tensors, snug_error *err) {
    json_t *root = NULL;
    const char **shards = NULL, *name;
    json_t *v;
    size_t n = 0;
    snug_err rc = json_read_file(index, MAX_INDEX_BYTES, &root, err);
    const json_t *map = json_object_get(root, "weight_map");
    if (rc == SNUG_OK && !json_is_object(map))
        rc = err_set(err, SNUG_ERR_FORMAT, "%s: field 'weight_map': expected an object, found %s", index, map ? "something else" : "nothing");
    if (rc == SNUG_OK) rc = list_shards(index, map, &shards, &n, err);
    if (rc == SNUG_OK && !(set->files = arena_calloc(&set->mem, n, sizeof *set->files))) rc = err_nomem(err, n * sizeof *set->files);
    for (size_t i = 0; i < n && rc == SNUG_OK; i++) {
        char *path = arena_printf(&set->mem, "%s/%s", dir, shards[i]);
        rc = path ? add_file(set, i, path, tensors, err) : err_nomem(err, strlen(dir) + strlen(shards[i]) + 2);
    }
    if (rc == SNUG_OK) {
        drop_displaced(set, map, tensors);
        rc = finish(set, tensors, err);
    }
    if (rc == SNUG_OK) json_object_foreach((json_t *)(uintptr_t)map, name, v) {
        if (st_find(set, name)) continue;
        rc = err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%.100s' should be in %s, but is not there", index, name, json_string_value(v));
        break;
    }
    free(shards);
    json_decref(root);
    return rc;
}

static snug_err read_single(st_set *set, const char *path, buf *tensors, snug_error *err) {
    set->files = arena_calloc(&set->mem, 1, sizeof *set->files);
    if (!set->files) return err_nomem(err, sizeof *set->files);
    snug_err rc = add_file(set, 0, path, tensors, err);
    return rc == SNUG_OK ? finish(set, tensors, err) : rc;
}

static snug_err open_set(const char *dir, const char *file, st_set **out, snug_error *err) {
    buf tensors = {0};
    *out = NULL;
    st_set *set = calloc(1, sizeof *set);
    if (!set) return err_nomem(err, sizeof *set);
    snug_err rc;
    if (file) {
        rc = read_single(set, file, &tensors, err);
    } else {
        char *single = arena_printf(&set->mem, "%s/model.safetensors", dir);
        char *index = arena_printf(&set->mem, "%s/model.safetensors.index.json", dir);
        char *torch = arena_printf(&set->mem, "%s/pytorch_model.bin", dir), *torch_index = arena_printf(&set->mem, "%s/pytorch_model.bin.index.json", dir);
        if (!single || !index || !torch || !torch_index) rc = err_nomem(err, strlen(dir) + 32);
        else if (io_exists(single)) rc = read_single(set, single, &tensors, err);
        else if (io_exists(index)) rc = read_index(set, dir, index, &tensors, err);
        else if (!io_is_dir(dir)) rc = err_set(err, SNUG_ERR_IO, "%s: is no directory", dir);
        else if (io_exists(torch) || io_exists(torch_index)) /* pickled: programs, not data */
            rc = err_set(err, SNUG_ERR_UNSUPPORTED,
                         "%s: has pytorch_model.bin, and snug reads safetensors alone; this writes them beside it: python3 -c \"from transformers import "
                         "AutoModelForCausalLM as M; M.from_pretrained('%s', torch_dtype='auto').save_pretrained('%s')\"",
                         dir, dir, dir);
        else rc = err_set(err, SNUG_ERR_FORMAT, "%s: holds neither model.safetensors nor model.safetensors.index.json", dir);
    }
    buf_fini(&tensors);
    if (rc != SNUG_OK) st_close(&set);
    *out = set;
    return rc;
}

snug_err st_open_dir(const char *dir, st_set **out, snug_error *err) { return open_set(dir, NULL, out, err); }
snug_err st_open_file(const char *path, st_set **out, snug_error *err) { return open_set(NULL, path, out, err); }

const st_tensor *st_find(const st_set *set, const char *name) {
    const st_tensor key = {.name = name};
    return set->n_tensors ? bsearch(&key, set->tensors, set->n_tensors, sizeof key, by_name) : NULL;
}

void st_close(st_set **set) {
    if (!*set) return;
    for (size_t i = 0; i < (*set)->n_files; i++) io_close(&(*set)->files[i]);
    arena_fini(&(*set)->mem);
    free(*set);
    *set = NULL;
}
