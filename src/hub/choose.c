/* Which files of a repository make a model.
 *
 * Repositories hold more than one wants: the same weights as safetensors, as pickles, as the author's own format, for other
 * programs. Chosen is what snug opens: config.json and the tokenizer's files beside model.safetensors, or beside the shards that
 * model.safetensors.index.json names; where there are no safetensors, the one GGUF. Patterns of the user replace all of that.
 * Pickles are programs that run when they are read: they are refused, with the way around them. */
#include "hub/hub.h"

#include "base/err.h"
#include "base/json.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char HUB_INDEX[] = "model.safetensors.index.json";

/* Beside the weights, in the top folder. */
static const char *const COMPANIONS[] = {"config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json",
                                         "added_tokens.json", "chat_template.*", "vocab.json", "merges.txt", "tekken.json", "spiece.model", "sentencepiece.bpe.model",
                                         "tiktoken.model", "*.tiktoken"};
static const char *const SAFETENSORS[] = {"*.safetensors"}, *const GGUF[] = {"*.gguf"};
static const char *const PICKLES[] = {"*.bin", "*.pth", "*.pt", "*.pkl", "*.ckpt"};

#define COUNT_OF(a) (sizeof(a) / sizeof *(a))

static int path_against(const void *path, const void *file) { return strcmp(path, ((const hub_file *)file)->path); }

hub_file *hub_find(const hub *h, const char *path) {
    return h->n_files ? bsearch(path, h->file, h->n_files, sizeof *h->file, path_against) : NULL;
}

static bool is_top(const hub_file *f) { return !strchr(f->path, '/'); }

static bool any_matches(const char *const *patterns, size_t n, const char *path) {
    for (size_t i = 0; i < n; i++)
        if (fnmatch(patterns[i], path, 0) == 0) return true;
    return false;
}

/* A pattern without '/' means the file's name wherever it lies. */
static bool pattern_names(const char *pattern, const char *path) {
    const char *slash = strrchr(path, '/');
    return fnmatch(pattern, path, 0) == 0 || (slash && !strchr(pattern, '/') && fnmatch(pattern, slash + 1, 0) == 0);
}

static snug_err choose_by_patterns(hub *h, const char *const *patterns, size_t n, snug_error *err) {
    for (size_t p = 0; p < n; p++) {
        bool found = false;
        for (size_t i = 0; i < h->n_files; i++)
            if (pattern_names(patterns[p], h->file[i].path)) h->file[i].chosen = found = true;
        if (!found)
            return err_set(err, SNUG_ERR_IO, "%s at %s: no file matches '%.100s'; --file '*' --dry-run lists what is there", h->repository,
                           h->revision, patterns[p]);
    }
    return SNUG_OK;
}

static size_t count_matching(const hub *h, const char *const *patterns, size_t n, const hub_file **first) {
    size_t count = 0;
    for (size_t i = 0; i < h->n_files; i++)
        if (any_matches(patterns, n, h->file[i].path) && count++ == 0 && first) *first = &h->file[i];
    return count;
}

/* "name-00001-of-00003.gguf" and "name-00002-of-00003.gguf" are parts of one model. */
static bool same_series(const char *a, const char *b) {
    const char *of_a = strstr(a, "-of-"), *of_b = strstr(b, "-of-");
    if (!of_a || !of_b || of_a - a != of_b - b || strcmp(of_a, of_b) != 0) return strcmp(a, b) == 0;
    size_t n = (size_t)(of_a - a);
    while (n > 0 && a[n - 1] >= '0' && a[n - 1] <= '9') n--;
    return strncmp(a, b, n) == 0;
}

/* "a.Q2_K.gguf 1.2G, a.Q8_0.gguf 4G", as many as there is room for. */
static void name_files(const hub *h, const char *const *patterns, size_t n, char *out, size_t cap) {
    char size[ERR_SIZE_MAX];
    size_t used = 0;
    *out = 0;
    for (size_t i = 0; i < h->n_files; i++) {
        if (!any_matches(patterns, n, h->file[i].path)) continue;
        const int put = snprintf(out + used, cap - used, "%s%s %s", used ? ", " : "", h->file[i].path, err_size(h->file[i].bytes, size));
        if (put < 0 || (size_t)put >= cap - used) {
            out[used] = 0;
            return;
        }
        used += (size_t)put;
    }
}

/* Without a pattern all GGUFs of the repository must be one model: a single file, or the parts of one. */
static snug_err choose_gguf(hub *h, bool may_list_only, snug_error *err) {
    const hub_file *first = NULL;
    const size_t n = count_matching(h, GGUF, 1, &first);
    size_t alike = 0;
    for (size_t i = 0; i < h->n_files; i++) alike += any_matches(GGUF, 1, h->file[i].path) && same_series(h->file[i].path, first->path);
    if (alike != n && may_list_only) return SNUG_OK;
    if (alike != n) {
        char names[256];
        name_files(h, GGUF, 1, names, sizeof names);
        return err_set(err, SNUG_ERR_ARG,
                       "%s has %zu GGUF files; say which one, such as --file '*Q8_0*' (%s ...; --dry-run lists them all)", h->repository, n,
                       names);
    }
    for (size_t i = 0; i < h->n_files; i++) h->file[i].chosen = any_matches(GGUF, 1, h->file[i].path);
    return SNUG_OK;
}

static snug_err no_weights(const hub *h, snug_error *err) {
    const hub_file *first = NULL;
    if (count_matching(h, SAFETENSORS, 1, &first))
        return err_set(err, SNUG_ERR_UNSUPPORTED,
                       "%s has safetensors (%s), but neither model.safetensors nor its index: no model that snug opens; --file fetches any "
                       "of its files",
                       h->repository, first->path);
    if (count_matching(h, PICKLES, COUNT_OF(PICKLES), &first))
        return err_set(err, SNUG_ERR_UNSUPPORTED,
                       "%s has pickled weights alone (%s): programs that run when they are read, which snug does not read. The model's "
                       "page may have a revision with safetensors (pull it as hf:%s@refs/pr/N), or transformers' save_pretrained "
                       "writes them",
                       h->repository, first->path, h->repository);
    return err_set(err, SNUG_ERR_UNSUPPORTED, "%s at %s has no weights: neither safetensors nor GGUF among its %zu files", h->repository,
                   h->revision, h->n_files);
}

snug_err hub_choose(hub *h, const char *const *patterns, size_t n_patterns, bool may_list_only, snug_error *err) {
    if (n_patterns) return choose_by_patterns(h, patterns, n_patterns, err);
    hub_file *single = hub_find(h, "model.safetensors"), *index = hub_find(h, HUB_INDEX);
    if (!single && !index) return count_matching(h, GGUF, 1, NULL) ? choose_gguf(h, may_list_only, err) : no_weights(h, err);
    if (!hub_find(h, "config.json"))
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s has no config.json: no model that snug opens; --file fetches any of its files",
                       h->repository);
    if (single) single->chosen = true; /* it wins over the index, as it does when the folder is opened */
    else index->chosen = h->has_index = true;
    for (size_t i = 0; i < h->n_files; i++)
        if (is_top(&h->file[i]) && any_matches(COMPANIONS, COUNT_OF(COMPANIONS), h->file[i].path)) h->file[i].chosen = true;
    return SNUG_OK;
}

snug_err hub_choose_shards(hub *h, const char *text, size_t n, snug_error *err) {
    json_t *root = NULL, *value;
    const char *tensor;
    snug_err rc = json_read_buffer(HUB_INDEX, text, n, &root, err);
    json_t *map = json_object_get(root, "weight_map");
    if (rc == SNUG_OK && json_object_size(map) == 0)
        rc = err_set(err, SNUG_ERR_FORMAT, "%s: field 'weight_map': expected an object that names files, found none", HUB_INDEX);
    if (rc == SNUG_OK) json_object_foreach(map, tensor, value) {
        const char *shard = json_string_value(value);
        hub_file *f = shard && strlen(shard) == json_string_length(value) ? hub_find(h, shard) : NULL;
        if (!f || !is_top(f)) {
            rc = err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%.80s' should be in '%.80s', which %s does not have", HUB_INDEX, tensor,
                         shard ? shard : "(no string)", h->repository);
            break;
        }
        f->chosen = true;
    }
    json_decref(root);
    return rc;
}
