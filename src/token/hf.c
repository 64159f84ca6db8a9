/* Opens the tokenizer of a Hugging Face folder: its tokenizer.json, here; or, where it has none, a SentencePiece model
 * (spm.c) or a list of ranks (tiktoken.c). The files beside it are read by hf_side.c. */
#include "base/err.h"
#include "base/io.h"
#include "token/base64.h"
#include "token/hf_json.h"
#include "token/hf_side.h"
#include "token/tokenizer_impl.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

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

static bool is_unigram(const json_t *model) {
    const char *type = json_string_value(json_object_get(model, "type"));
    return type && strcmp(type, "Unigram") == 0;
}

/* `tokenizers` refuses a text with unknown characters if unk_id is null; here the file is. */
static snug_err check_unigram(const json_t *model, const json_slice *pieces, snug_error *err) {
    if (!pieces->text) return err_set(err, SNUG_ERR_FORMAT, "tokenizer.json: field 'model.vocab' is missing");
    if (!json_is_integer(json_object_get(model, "unk_id")))
        return err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: a Unigram model without 'unk_id' is not supported");
    return SNUG_OK;
}

/* An old file's model may lack "type"; it then is BPE if it has merges. */
static snug_err check_model(const json_t *model, const json_slice *tokens, const json_slice *merges, snug_error *err) {
    const char *type = json_string_value(json_object_get(model, "type"));
    if (!json_is_object(model))
        return err_set(err, SNUG_ERR_FORMAT, "tokenizer.json: field 'model' is missing, expected an object");
    if (is_unigram(model)) return check_unigram(model, tokens, err);
    if (type && strcmp(type, "BPE") != 0)
        return err_set(err, SNUG_ERR_UNSUPPORTED,
                       "tokenizer.json: the model '%s' is not supported, only BPE and Unigram", type);
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
static snug_err build_vocab(tokenizer *t, const json_slice *slice, buf *scores, const json_t *added, added_spec *spec,
                            size_t *n_spec, snug_error *err) {
    vocab_builder b = {0}, again = {0};
    vocab v = {0}, more = {0};
    snug_err e = scores ? hf_json_pieces(slice, &b, scores, err) : hf_json_vocab(slice, &b, &t->n_model, err);
    if (scores) t->n_model = scores->len / sizeof(double);
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

/* ---- the whole ---- */

/* All pieces match text and count, those of special tokens, too. */
static snug_err set_pieces(tokenizer *t, const buf *scores, snug_error *err) {
    uint32_t n = (uint32_t)t->n_model;
    const vocab *v = &t->model.vocab;
    uint64_t *all = malloc((n / 64 + 1) * sizeof *all);
    if (!all) return err_nomem(err, n / 8);
    memset(all, 0xFF, (n / 64 + 1) * sizeof *all);
    snug_err e = SNUG_OK;
    for (uint32_t id = 0; id < n && !e; id++)
        if (vocab_find(v, vocab_text(v, id), vocab_bytes(v, id)) != id)
            e = err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: the piece '%.80s' comes twice", vocab_text(v, id));
    if (!e)
        e = unigram_init(&t->lm, UNIGRAM_TOKENIZERS, v, (const double *)(const void *)scores->data, n, all, all, NULL,
                         err);
    free(all);
    return e;
}

static snug_err read_unigram(tokenizer *t, const json_t *model, const json_slice *pieces, const json_t *added,
                             added_spec *spec, size_t *n_spec, snug_error *err) {
    buf scores = {0};
    json_int_t unk = json_integer_value(json_object_get(model, "unk_id"));
    snug_err e = build_vocab(t, pieces, &scores, added, spec, n_spec, err);
    if (!e && (unk < 0 || unk >= (json_int_t)t->n_model))
        e = err_set(err, SNUG_ERR_FORMAT, "tokenizer.json: model.unk_id is %lld, the model has %zu pieces",
                    (long long)unk, t->n_model);
    if (!e) e = set_pieces(t, &scores, err);
    buf_fini(&scores);
    t->is_unigram = true;
    t->model.unk = (uint32_t)unk;
    t->model.byte_fallback = flag(model, "byte_fallback");
    return e;
}

static snug_err read_model(tokenizer *t, const json_t *root, const json_slice *tokens, const json_slice *merges,
                           added_spec *spec, size_t *n_spec, snug_error *err) {
    const json_t *model = json_object_get(root, "model"), *unk = json_object_get(model, "unk_token");
    snug_err e = check_model(model, tokens, merges, err);
    if (!e && is_unigram(model))
        return read_unigram(t, model, tokens, json_object_get(root, "added_tokens"), spec, n_spec, err);
    if (!e) e = build_vocab(t, tokens, NULL, json_object_get(root, "added_tokens"), spec, n_spec, err);
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
    int32_t more[HF_MAX_EOG];
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
    if (!e && (t->is_unigram || !is_byte_level(t))) t->ggml_model = t->is_unigram ? "t5" : "llama";
    if (!e && dir) e = hf_read_sidecars(t, dir, post, more, &n_more, err);
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

/* dir/name if there is such a file; NULL: none, or no memory. */
static char *existing(const char *dir, const char *name) {
    char *path = hf_path(dir, name);
    if (path && io_exists(path)) return path;
    free(path);
    return NULL;
}

/* The first file by name that ends in ".tiktoken". */
static char *find_tiktoken(const char *dir) {
    DIR *d = opendir(dir);
    char first[256] = "";
    for (struct dirent *e; d && (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        bool fits = n > 9 && n < sizeof first && strcmp(e->d_name + n - 9, ".tiktoken") == 0;
        if (fits && (!*first || strcmp(e->d_name, first) < 0)) memcpy(first, e->d_name, n + 1);
    }
    if (d) closedir(d);
    return *first ? existing(dir, first) : NULL;
}

/* The file that describes the tokenizer. */
static snug_err find_file(const char *dir, char **path, snug_error *err) {
    static const char *const names[] = {"tokenizer.json",          "tokenizer.model", "spiece.model",
                                        "sentencepiece.bpe.model", "tekken.json",     "tiktoken.model"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if ((*path = existing(dir, names[i]))) return SNUG_OK;
    if ((*path = find_tiktoken(dir))) return SNUG_OK;
    return err_set(err, SNUG_ERR_IO,
                   "%s: no tokenizer: none of tokenizer.json, tokenizer.model, spiece.model, sentencepiece.bpe.model, "
                   "tekken.json, tiktoken.model, *.tiktoken",
                   dir);
}

/* "<base64> <rank>": what a tiktoken file starts with; a SentencePiece model starts with a line feed, the tag of its
 * first piece. */
static bool is_ranks(const char *text, size_t bytes) {
    const char *space = memchr(text, ' ', bytes < 64 ? bytes : 64);
    buf out = {0};
    bool ok = space && base64_decode(text, (size_t)(space - text), &out) && out.len > 0;
    buf_fini(&out);
    return ok;
}

snug_err tokenizer_open_other(tokenizer *t, const char *dir, const char *name, const char *text, size_t bytes,
                              snug_error *err) {
    if (strcmp(name, "tekken.json") == 0) return hf_open_tekken(t, dir, text, bytes, err);
    if (strstr(name, "tiktoken") || is_ranks(text, bytes)) return hf_open_tiktoken(t, dir, name, text, bytes, err);
    return hf_open_spm(t, dir, name, (const uint8_t *)text, bytes, err);
}

snug_err tokenizer_open_hf(const char *dir, tokenizer **out, snug_error *err) {
    char *path = NULL, *text = NULL;
    size_t bytes;
    *out = NULL;
    tokenizer *t = tokenizer_new(err);
    snug_err e = t ? find_file(dir, &path, err) : SNUG_ERR_NOMEM;
    if (!e) e = io_read_all(path, HF_MAX_BYTES, &text, &bytes, err);
    if (!e) {
        const char *name = strrchr(path, '/') + 1;
        e = strcmp(name, "tokenizer.json") == 0 ? open_text(t, dir, path, &text, bytes, err)
                                                : tokenizer_open_other(t, dir, name, text, bytes, err);
        if (e && e != SNUG_ERR_NOMEM) err_prefix(err, e, "%s", dir);
    }
    free(text);
    free(path);
    if (e) tokenizer_close(&t);
    *out = t;
    return e;
}
