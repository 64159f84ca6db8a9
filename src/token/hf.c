/* Opens the tokenizer of a Hugging Face folder: tokenizer.json, and beside it, where they exist, tokenizer_config.json
 * (roles, chat template), config.json and generation_config.json (ids), chat_template.jinja. */
#include "base/err.h"
#include "base/io.h"
#include "token/hf_json.h"
#include "token/tokenizer_impl.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_JSON_BYTES = 512 << 20, MAX_TEMPLATE_BYTES = 4 << 20, MAX_MORE_EOG = 64 };

static char *path_in(const char *dir, const char *name) {
    size_t n = strlen(dir) + strlen(name) + 2;
    char *p = malloc(n);
    if (p) snprintf(p, n, "%s/%s", dir, name);
    return p;
}

/* *out = NULL if there is no such file. */
static snug_err read_optional(const char *dir, const char *name, json_t **out, snug_error *err) {
    char *path = path_in(dir, name);
    *out = NULL;
    if (!path) return err_nomem(err, 256);
    snug_err e = io_exists(path) ? json_read_file(path, MAX_JSON_BYTES, out, err) : SNUG_OK;
    free(path);
    return e;
}

/* ---- the model ---- */

static snug_err refuse_field(const json_t *model, const char *key, snug_error *err) {
    const json_t *v = json_object_get(model, key);
    if (!v || json_is_null(v) || (json_is_string(v) && json_string_length(v) == 0) ||
        (json_is_number(v) && json_number_value(v) == 0))
        return SNUG_OK;
    return err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: model.%s is not supported", key);
}

static bool flag(const json_t *j, const char *key) {
    return json_is_true(json_object_get(j, key));
}

/* An old file's model may lack "type"; it then is BPE if it has merges. */
static snug_err check_model(const json_t *model, const json_slice *tokens, const json_slice *merges, snug_error *err) {
    const char *type = json_string_value(json_object_get(model, "type"));
    if (!json_is_object(model))
        return err_set(err, SNUG_ERR_FORMAT, "tokenizer.json: field 'model' is missing, expected an object");
    if (type && strcmp(type, "BPE") != 0)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: the model '%s' is not supported, only BPE", type);
    if (!tokens->text || !merges->text)
        return err_set(err, SNUG_ERR_FORMAT, "tokenizer.json: field 'model.%s' is missing",
                       tokens->text ? "merges" : "vocab");
    snug_err e = refuse_field(model, "dropout", err);
    if (!e) e = refuse_field(model, "continuing_subword_prefix", err);
    if (!e) e = refuse_field(model, "end_of_word_suffix", err);
    return e;
}

/* ---- added tokens ---- */

/* Ids as `tokenizers` gives them: that of the model's vocabulary, else the next one behind it, in order; what the file
 * says is only its expectation. Real files agree. */
static snug_err collect_added(const json_t *list, const vocab *v, size_t n_model, vocab_builder *more, added_spec *spec,
                              size_t *n, snug_error *err) {
    uint32_t next = (uint32_t)n_model;
    *n = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *j = json_array_get(list, i), *content = json_object_get(j, "content");
        if (!json_is_string(content))
            return err_set(err, SNUG_ERR_FORMAT, "tokenizer.json: added_tokens[%zu] has no content", i);
        const char *text = json_string_value(content);
        size_t bytes = json_string_length(content), twin = 0;
        if (bytes == 0) continue;
        while (twin < *n && !(spec[twin].bytes == bytes && memcmp(spec[twin].text, text, bytes) == 0)) twin++;
        uint32_t id = vocab_find(v, text, bytes);
        if (twin < *n)
            id = spec[twin].id;
        else if (id == VOCAB_NONE) {
            id = next++;
            snug_err e = vocab_add(more, id, text, bytes, false, err);
            if (e) return e;
        }
        /* the flags of a token that comes twice are those of the last time */
        added_spec *s = &spec[twin < *n ? twin : (*n)++];
        *s = (added_spec){id,
                          text,
                          bytes,
                          flag(j, "special"),
                          flag(j, "normalized"),
                          flag(j, "lstrip"),
                          flag(j, "rstrip"),
                          flag(j, "single_word")};
    }
    return SNUG_OK;
}

/* Builds the vocabulary in two steps: the model's alone, to find which added tokens it has, then with them. */
static snug_err build_vocab(tokenizer *t, const json_slice *slice, const json_t *added, added_spec *spec,
                            size_t *n_spec, snug_error *err) {
    vocab_builder b = {0}, again = {0};
    vocab v = {0}, more = {0};
    snug_err e = hf_json_vocab(slice, &b, &t->n_model, err);
    if (!e) e = vocab_build(&b, &v, err);
    if (!e) e = collect_added(added, &v, t->n_model, &again, spec, n_spec, err);
    if (!e && again.n_ids) {
        e = vocab_build(&again, &more, err);
        if (!e) e = vocab_extend(&v, &more, err);
    }
    if (!e) {
        t->outside = arena_calloc(&t->mem, v.n / 64 + 1, sizeof *t->outside);
        if (!t->outside) e = err_nomem(err, v.n / 8);
        for (uint32_t id = 0; id < more.n && !e; id++)
            if (vocab_has(&more, id)) t->outside[id >> 6] |= 1ull << (id & 63);
    }
    if (!e) bpe_init(&t->model, &v);
    vocab_builder_fini(&b);
    vocab_builder_fini(&again);
    vocab_fini(&more);
    vocab_fini(&v);
    return e;
}

/* ---- the other files ---- */

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
        if (json_is_integer(v) && *n_more < MAX_MORE_EOG) more[(*n_more)++] = (int32_t)json_integer_value(v);
        for (size_t k = 0; k < json_array_size(v) && *n_more < MAX_MORE_EOG; k++) {
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
    char *path = path_in(dir, "chat_template.jinja");
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
static snug_err read_sidecars(tokenizer *t, const char *dir, const json_t *post, int32_t *more, size_t *n_more,
                              snug_error *err) {
    static const char *const id_files[] = {"generation_config.json", "config.json"};
    json_t *config = NULL;
    snug_err e = read_optional(dir, "tokenizer_config.json", &config, err);
    if (!e) e = read_template(t, dir, config, err);
    if (!e) read_roles(t, config);
    for (int i = 0; i < 2 && !e; i++) {
        json_t *j = NULL;
        e = read_optional(dir, id_files[i], &j, err);
        if (!e) read_role_ids(t, j, more, n_more);
        json_decref(j);
    }
    if (!e) {
        if (t->role[ROLE_BOS] < 0 && t->n_prefix) t->role[ROLE_BOS] = t->prefix[0];
        if (t->role[ROLE_EOS] < 0 && t->n_suffix) t->role[ROLE_EOS] = t->suffix[t->n_suffix - 1];
        read_affix_flags(t, post, config);
    }
    json_decref(config);
    return e;
}

/* ---- the whole ---- */

static snug_err read_model(tokenizer *t, const json_t *root, const json_slice *tokens, const json_slice *merges,
                           added_spec *spec, size_t *n_spec, snug_error *err) {
    const json_t *model = json_object_get(root, "model"), *unk = json_object_get(model, "unk_token");
    snug_err e = check_model(model, tokens, merges, err);
    if (!e) e = build_vocab(t, tokens, json_object_get(root, "added_tokens"), spec, n_spec, err);
    if (e) return e;
    t->model.ignore_merges = flag(model, "ignore_merges");
    t->model.byte_fallback = flag(model, "byte_fallback");
    t->model.fuse_unk = flag(model, "fuse_unk");
    if (json_is_string(unk))
        t->model.unk = vocab_find(&t->model.vocab, json_string_value(unk), json_string_length(unk));
    return hf_json_merges(merges, &t->model, err);
}

static bool is_byte_level(const tokenizer *t) {
    for (size_t i = 0; i < t->norm.n; i++)
        if (t->norm.step[i].kind == NORM_BYTE_LEVEL) return true;
    return t->pretok.byte_level;
}

static snug_err open_text(tokenizer *t, const char *dir, const char *path, char **text, size_t bytes, snug_error *err) {
    json_t *root = NULL;
    json_slice tokens, merges;
    size_t n_spec = 0, n_more = 0;
    int32_t more[MAX_MORE_EOG];
    snug_err e = hf_json_parse(path, *text, bytes, &root, &tokens, &merges, err);
    if (e) return e;
    const json_t *post = json_object_get(root, "post_processor");
    added_spec *spec = calloc(json_array_size(json_object_get(root, "added_tokens")) + 1, sizeof *spec);
    e = spec ? read_model(t, root, &tokens, &merges, spec, &n_spec, err) : err_nomem(err, 1024);
    free(*text); /* the largest thing in memory */
    *text = NULL;
    if (!e)
        e = tokenizer_set_pipeline(t, json_object_get(root, "normalizer"), json_object_get(root, "pre_tokenizer"),
                                   json_object_get(root, "decoder"), err);
    if (!e) e = tokenizer_set_added(t, spec, n_spec, err);
    if (!e) e = tokenizer_set_post(t, post, err);
    if (!e && !is_byte_level(t)) t->ggml_model = "llama";
    if (!e && dir) e = read_sidecars(t, dir, post, more, &n_more, err);
    if (!e) e = tokenizer_finish(t, more, n_more, false, err);
    free(spec);
    json_decref(root);
    return e;
}

snug_err tokenizer_open_text(const char *what, const char *text, size_t bytes, tokenizer **out, snug_error *err) {
    char *copy = malloc(bytes + 1);
    *out = NULL;
    tokenizer *t = tokenizer_new(err);
    if (copy) memcpy(copy, text, bytes);
    snug_err e = t && copy ? open_text(t, NULL, what, &copy, bytes, err) : err_nomem(err, bytes);
    free(copy);
    if (e) tokenizer_close(&t);
    *out = t;
    return e;
}

snug_err tokenizer_open_hf(const char *dir, tokenizer **out, snug_error *err) {
    char *path = path_in(dir, "tokenizer.json"), *text = NULL;
    size_t bytes;
    *out = NULL;
    tokenizer *t = tokenizer_new(err);
    snug_err e = t && path ? io_read_all(path, MAX_JSON_BYTES, &text, &bytes, err) : err_nomem(err, 256);
    if (!e) {
        e = open_text(t, dir, path, &text, bytes, err);
        if (e && e != SNUG_ERR_NOMEM) err_prefix(err, e, "%s", dir);
    }
    free(text);
    free(path);
    if (e) tokenizer_close(&t);
    *out = t;
    return e;
}
