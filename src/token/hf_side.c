/* What lies beside a tokenizer in a Hugging Face folder: tokenizer_config.json (roles, chat template, flags),
 * special_tokens_map.json (roles), config.json and generation_config.json (ids), chat_template.jinja. All of them may
 * be missing. */
#include "token/hf_side.h"
#include "base/err.h"
#include "base/io.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_TEMPLATE_BYTES = 4 << 20 };

char *hf_path(const char *dir, const char *name) {
    size_t n = strlen(dir) + strlen(name) + 2;
    char *p = malloc(n);
    if (p) snprintf(p, n, "%s/%s", dir, name);
    return p;
}

/* *out = NULL if there is no such file. */
snug_err hf_read_optional(const char *dir, const char *name, json_t **out, snug_error *err) {
    char *path = hf_path(dir, name);
    *out = NULL;
    if (!path) return err_nomem(err, 256);
    snug_err e = io_exists(path) ? json_read_file(path, HF_MAX_BYTES, out, err) : SNUG_OK;
    free(path);
    return e;
}

static bool flag(const json_t *j, const char *key) {
    return json_is_true(json_object_get(j, key));
}

static int32_t find_token(const tokenizer *t, const char *text, size_t n) {
    for (size_t i = 0; i < t->n_added; i++)
        if (t->added[i].bytes == n && memcmp(t->added[i].content, text, n) == 0) return (int32_t)t->added[i].id;
    uint32_t id = vocab_find(&t->model.vocab, text, n);
    return id == VOCAB_NONE ? -1 : (int32_t)id;
}

/* "bos_token": "<s>" or {"content": "<s>", ...}. */
static void read_roles(tokenizer *t, const json_t *config) {
    for (int i = 0; i < N_ROLES; i++) {
        char key[32];
        snprintf(key, sizeof key, "%s_token", token_role_name[i]);
        const json_t *v = json_object_get(config, key);
        if (json_is_object(v)) v = json_object_get(v, "content");
        if (json_is_string(v) && t->role[i] < 0)
            t->role[i] = find_token(t, json_string_value(v), json_string_length(v));
    }
}

/* "bos_token_id": 1, or a list whose first is the main one and whose others end a generation, too. */
static void read_role_ids(tokenizer *t, const json_t *config, int32_t *more, size_t *n_more) {
    for (int i = 0; i < N_ROLES; i++) {
        char key[32];
        snprintf(key, sizeof key, "%s_token_id", token_role_name[i]);
        const json_t *v = json_object_get(config, key), *first = json_is_array(v) ? json_array_get(v, 0) : v;
        if (json_is_integer(first) && t->role[i] < 0 && json_integer_value(first) >= 0 &&
            json_integer_value(first) < (json_int_t)t->model.vocab.n &&
            vocab_has(&t->model.vocab, (uint32_t)json_integer_value(first)))
            t->role[i] = (int32_t)json_integer_value(first);
        if (i != ROLE_EOS) continue;
        if (json_is_integer(v) && *n_more < HF_MAX_EOG) more[(*n_more)++] = (int32_t)json_integer_value(v);
        for (size_t k = 0; k < json_array_size(v) && *n_more < HF_MAX_EOG; k++) {
            const json_t *id = json_array_get(v, k);
            if (json_is_integer(id)) more[(*n_more)++] = (int32_t)json_integer_value(id);
        }
    }
}

static snug_err keep_template(tokenizer *t, const char *text, snug_error *err) {
    t->chat_template = arena_strdup(&t->mem, text);
    return t->chat_template ? SNUG_OK : err_nomem(err, strlen(text));
}

/* chat_template.jinja, else the config's string, else the one called "default" in its list. */
static snug_err read_template(tokenizer *t, const char *dir, const json_t *config, snug_error *err) {
    char *path = hf_path(dir, "chat_template.jinja");
    if (!path) return err_nomem(err, 256);
    snug_err e = SNUG_OK;
    if (io_exists(path)) {
        char *text;
        size_t n;
        e = io_read_all(path, MAX_TEMPLATE_BYTES, &text, &n, err);
        if (!e) {
            e = keep_template(t, text, err);
            free(text);
        }
        free(path);
        return e;
    }
    free(path);
    const json_t *v = json_object_get(config, "chat_template");
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *item = json_array_get(v, i);
        const char *name = json_string_value(json_object_get(item, "name"));
        if (!name || strcmp(name, "default") != 0) continue;
        v = json_object_get(item, "template");
        break;
    }
    return json_is_string(v) ? keep_template(t, json_string_value(v), err) : SNUG_OK;
}

/* tokenizer.json decides what surrounds a text; only where it has no template, tokenizer_config.json's flags do. */
static void read_affix_flags(tokenizer *t, const json_t *post, const json_t *config) {
    if (t->n_prefix || t->n_suffix ||
        (post && !json_is_null(post) &&
         strstr("TemplateProcessing BertProcessing RobertaProcessing",
                json_string_value(json_object_get(post, "type")) ? json_string_value(json_object_get(post, "type"))
                                                                 : "?")))
        return;
    if (flag(config, "add_bos_token") && t->role[ROLE_BOS] >= 0) t->prefix[t->n_prefix++] = t->role[ROLE_BOS];
    if (flag(config, "add_eos_token") && t->role[ROLE_EOS] >= 0) t->suffix[t->n_suffix++] = t->role[ROLE_EOS];
}

/* Without a tokenizer_config.json, what the template puts first and last are BOS and EOS. */
snug_err hf_read_sidecars(tokenizer *t, const char *dir, const json_t *post, int32_t more[HF_MAX_EOG], size_t *n_more,
                          snug_error *err) {
    static const char *const id_files[] = {"generation_config.json", "config.json"};
    json_t *config = NULL, *specials = NULL;
    snug_err e = hf_read_optional(dir, "tokenizer_config.json", &config, err);
    if (!e) e = hf_read_optional(dir, "special_tokens_map.json", &specials, err);
    if (!e) e = read_template(t, dir, config, err);
    if (!e) {
        read_roles(t, config);
        read_roles(t, specials);
    }
    for (int i = 0; i < 2 && !e; i++) {
        json_t *j = NULL;
        e = hf_read_optional(dir, id_files[i], &j, err);
        if (!e) read_role_ids(t, j, more, n_more);
        json_decref(j);
    }
    if (!e) {
        if (t->role[ROLE_BOS] < 0 && t->n_prefix) t->role[ROLE_BOS] = t->prefix[0];
        if (t->role[ROLE_EOS] < 0 && t->n_suffix) t->role[ROLE_EOS] = t->suffix[t->n_suffix - 1];
        read_affix_flags(t, post, config);
    }
    json_decref(specials);
    json_decref(config);
    return e;
}
