/* Where the added tokens of older folders stand, the more exact source last:
 *
 *   added_tokens.json         {"<text>": id}
 *   tokenizer_config.json     "added_tokens_decoder": {"<id>": {"content": text, "special": bool, "lstrip": ...}}
 *   special_tokens_map.json   and tokenizer_config.json: "bos_token" ..., "additional_special_tokens": texts, or
 * objects with "content"; tokens that have an id by now become special
 *
 * Matching is in the raw text: such tokenizers split at added tokens before anything else, whatever "normalized" says.
 */
#include "token/hf_added.h"
#include "base/err.h"
#include "token/hf_side.h"
#include <stdlib.h>
#include <string.h>

static bool flag(const json_t *j, const char *key) {
    return json_is_true(json_object_get(j, key));
}

snug_err hf_added_put(hf_added *a, added_spec s, snug_error *err) {
    if (s.id >= VOCAB_MAX_TOKENS)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "added token '%.80s': id %u, the highest supported is %d", s.text,
                       s.id, VOCAB_MAX_TOKENS - 1);
    return buf_append(&a->list, &s, sizeof s) ? SNUG_OK : err_nomem(err, a->list.len);
}

void hf_added_fini(hf_added *a) {
    buf_fini(&a->list);
    buf_fini(&a->promoted);
    json_decref(a->config);
    json_decref(a->added);
    json_decref(a->specials);
    memset(a, 0, sizeof *a);
}

static snug_err read_added_file(hf_added *a, snug_error *err) {
    const char *text;
    json_t *v;
    json_object_foreach(a->added, text, v) {
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= VOCAB_MAX_TOKENS)
            return err_set(err, SNUG_ERR_FORMAT, "added_tokens.json: '%.80s' has no id, 0 to %d", text,
                           VOCAB_MAX_TOKENS - 1);
        snug_err e = hf_added_put(
            a, (added_spec){.id = (uint32_t)json_integer_value(v), .text = text, .bytes = strlen(text)}, err);
        if (e) return e;
    }
    return SNUG_OK;
}

static snug_err read_decoder(hf_added *a, snug_error *err) {
    const char *key;
    json_t *v;
    json_object_foreach(json_object_get(a->config, "added_tokens_decoder"), key, v) {
        const json_t *content = json_object_get(v, "content");
        char *end;
        unsigned long id = strtoul(key, &end, 10);
        if (!(*key >= '0' && *key <= '9') || *end || id >= VOCAB_MAX_TOKENS || !json_is_string(content))
            return err_set(err, SNUG_ERR_FORMAT,
                           "tokenizer_config.json: added_tokens_decoder['%.20s'] is not an id with a content", key);
        snug_err e = hf_added_put(a,
                                  (added_spec){(uint32_t)id, json_string_value(content), json_string_length(content),
                                               flag(v, "special"), false, flag(v, "lstrip"), flag(v, "rstrip"),
                                               flag(v, "single_word")},
                                  err);
        if (e) return e;
    }
    return SNUG_OK;
}

static int by_id(const void *x, const void *y) {
    uint32_t a = ((const added_spec *)x)->id, b = ((const added_spec *)y)->id;
    return (a > b) - (a < b);
}

/* Sorts by id; of equal ids the one that was put last stays. */
static snug_err settle(hf_added *a, snug_error *err) {
    size_t n, kept = 0;
    added_spec *s = hf_added_spec(a, &n);
    uint32_t highest = 0;
    for (size_t i = 0; i < n; i++)
        if (s[i].id > highest) highest = s[i].id;
    uint32_t *last = calloc((size_t)highest + 1, sizeof *last); /* id -> place + 1 */
    if (!last) return err_nomem(err, highest * sizeof *last);
    for (size_t i = 0; i < n; i++) last[s[i].id] = (uint32_t)i + 1;
    for (size_t i = 0; i < n; i++)
        if (last[s[i].id] == i + 1 && s[i].bytes > 0) s[kept++] = s[i];
    free(last);
    if (kept) qsort(s, kept, sizeof *s, by_id);
    a->list.len = kept * sizeof *s;
    return SNUG_OK;
}

snug_err hf_added_read(hf_added *a, const char *dir, snug_error *err) {
    snug_err e = SNUG_OK;
    if (dir) {
        e = hf_read_optional(dir, "added_tokens.json", &a->added, err);
        if (!e) e = hf_read_optional(dir, "tokenizer_config.json", &a->config, err);
        if (!e) e = hf_read_optional(dir, "special_tokens_map.json", &a->specials, err);
        if (!e) e = read_added_file(a, err);
        if (!e) e = read_decoder(a, err);
    }
    return e ? e : settle(a, err);
}

static added_spec *find_id(const hf_added *a, uint32_t id) {
    size_t n;
    added_spec key = {.id = id}, *s = hf_added_spec(a, &n);
    return n ? bsearch(&key, s, n, sizeof *s, by_id) : NULL;
}

bool hf_added_has(const hf_added *a, uint32_t id) {
    return find_id(a, id) != NULL;
}

/* The list is searched by id, so what is new is put behind it and settled later. */
static snug_err mark(hf_added *a, const vocab *v, bool promote, const json_t *token, snug_error *err) {
    if (json_is_object(token)) token = json_object_get(token, "content");
    if (!json_is_string(token)) return SNUG_OK;
    uint32_t id = vocab_find(v, json_string_value(token), json_string_length(token));
    added_spec *s = find_id(a, id);
    if (s) s->special = true;
    if (s || !promote || id == VOCAB_NONE) return SNUG_OK;
    added_spec own = {.id = id, .text = json_string_value(token), .bytes = json_string_length(token), .special = true};
    return buf_append(&a->promoted, &own, sizeof own) ? SNUG_OK : err_nomem(err, a->promoted.len);
}

static snug_err mark_all(hf_added *a, const vocab *v, bool promote, const json_t *from, snug_error *err) {
    const json_t *more = json_object_get(from, "additional_special_tokens");
    snug_err e = SNUG_OK;
    for (int i = 0; i < N_ROLES && !e; i++) {
        char key[32];
        snprintf(key, sizeof key, "%s_token", token_role_name[i]);
        e = mark(a, v, promote, json_object_get(from, key), err);
    }
    for (size_t i = 0; i < json_array_size(more) && !e; i++) e = mark(a, v, promote, json_array_get(more, i), err);
    return e;
}

snug_err hf_added_extend(hf_added *a, vocab *v, bool promote, snug_error *err) {
    vocab_builder b = {0};
    vocab more = {0};
    size_t n;
    const added_spec *s = hf_added_spec(a, &n);
    snug_err e = SNUG_OK;
    for (size_t i = 0; i < n && !e; i++) e = vocab_add(&b, s[i].id, s[i].text, s[i].bytes, true, err);
    if (!e && n) e = vocab_build(&b, &more, err);
    if (!e && n) e = vocab_extend(v, &more, err);
    vocab_builder_fini(&b);
    vocab_fini(&more);
    if (!e) e = mark_all(a, v, promote, a->specials, err);
    if (!e) e = mark_all(a, v, promote, a->config, err);
    if (!e && a->promoted.len && !buf_append(&a->list, a->promoted.data, a->promoted.len))
        e = err_nomem(err, a->list.len);
    return e ? e : settle(a, err);
}
