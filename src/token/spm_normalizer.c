/* SentencePiece's normalizer: at each place of the text the longest rule of the charsmap, or the character itself;
 * spaces trimmed and joined as they come out of that, a space put in front, spaces made U+2581. User-defined symbols
 * stay as they are. As JSON, in the manner of tokenizer.json (whose own Precompiled, the charsmap alone, is read here
 * too):
 *
 *     {"type": "SentencePiece", "precompiled_charsmap": base64, "add_dummy_prefix": bool, "remove_extra_whitespaces":
 * bool, "escape_whitespaces": bool, "user_defined_symbols": [text, ...]}
 *
 * That is how snug.tokenizer.config holds it (docs/tokenizers.md). */
#include "base/err.h"
#include "base/hash.h"
#include "token/base64.h"
#include "token/pipeline.h"
#include "token/utf8.h"
#include <string.h>

#define MARKER "\xE2\x96\x81"

static snug_err read_map(const json_t *j, bool required, arena *mem, charsmap *out, snug_error *err) {
    const json_t *text = json_object_get(j, "precompiled_charsmap");
    buf blob = {0};
    if (!required && (!text || json_is_null(text))) return SNUG_OK;
    if (!json_is_string(text))
        return err_set(err, SNUG_ERR_FORMAT, "tokenizer.json: Precompiled without a string 'precompiled_charsmap'");
    snug_err e = SNUG_OK;
    if (!base64_decode(json_string_value(text), json_string_length(text), &blob))
        e = err_set(err, SNUG_ERR_FORMAT, "tokenizer.json: 'precompiled_charsmap' is not base64");
    if (!e) e = charsmap_open("tokenizer.json", blob.data, blob.len, mem, out, err);
    buf_fini(&blob);
    return e;
}

static snug_err read_keep(const json_t *list, spm_rules *r, snug_error *err) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_string(v))
            return err_set(err, SNUG_ERR_FORMAT, "tokenizer.json: user_defined_symbols[%zu] is not a string", i);
        snug_err e = trie_add(&r->keep, json_string_value(v), json_string_length(v), (uint32_t)i, err);
        if (e) return e;
        r->keep_hash = hash_bytes_seeded(json_string_value(v), json_string_length(v), r->keep_hash + 1);
    }
    return SNUG_OK;
}

snug_err spm_step_read(const json_t *j, arena *mem, norm_step *out, snug_error *err) {
    const char *type = json_string_value(json_object_get(j, "type"));
    bool own = strcmp(type, "SentencePiece") == 0;
    out->kind = own ? NORM_SENTENCEPIECE : NORM_PRECOMPILED;
    snug_err e = read_map(j, !own, mem, &out->map, err);
    if (e || !own) return e;
    spm_rules *r = arena_calloc(mem, 1, sizeof *r);
    if (!r) return err_nomem(err, sizeof *r);
    out->spm = r;
    e = json_get_bool_or(j, type, "add_dummy_prefix", true, &r->prefix, err);
    if (!e) e = json_get_bool_or(j, type, "remove_extra_whitespaces", true, &r->trim, err);
    if (!e) e = json_get_bool_or(j, type, "escape_whitespaces", true, &r->escape, err);
    return e ? e : read_keep(json_object_get(j, "user_defined_symbols"), r, err);
}

static json_t *marker_json(bool prefix) {
    json_t *spaces = json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ", "content", MARKER);
    return prefix ? json_pack("{s:s, s:[{s:s, s:s}, o]}", "type", "Sequence", "normalizers", "type", "Prepend",
                              "prepend", MARKER, spaces)
                  : spaces;
}

json_t *spm_step_json(const uint8_t *map, size_t map_bytes, bool prefix, bool trim, bool escape, json_t *keep) {
    if (map_bytes == 0 && !trim && escape && keep && json_array_size(keep) == 0) {
        json_decref(keep);
        return marker_json(prefix);
    }
    buf text = {0};
    json_t *j = json_pack("{s:s, s:b, s:b, s:b}", "type", "SentencePiece", "add_dummy_prefix", prefix,
                          "remove_extra_whitespaces", trim, "escape_whitespaces", escape);
    bool ok = j && keep && base64_encode(map, map_bytes, &text);
    if (ok && map_bytes)
        ok = json_object_set_new(j, "precompiled_charsmap", json_stringn((const char *)text.data, text.len)) == 0;
    if (ok && json_array_size(keep)) ok = json_object_set(j, "user_defined_symbols", keep) == 0;
    json_decref(keep);
    buf_fini(&text);
    if (!ok) {
        json_decref(j);
        j = NULL;
    }
    return j;
}

json_t *spm_decoder_json(bool prefix) {
    json_t *back = json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", MARKER, "content", " ");
    json_t *bytes = json_pack("{s:s}", "type", "ByteFallback"), *fuse = json_pack("{s:s}", "type", "Fuse");
    if (!prefix) return json_pack("{s:s, s:[o, o, o]}", "type", "Sequence", "decoders", back, bytes, fuse);
    return json_pack("{s:s, s:[o, o, o, {s:s, s:s, s:i, s:i}]}", "type", "Sequence", "decoders", back, bytes, fuse,
                     "type", "Strip", "content", " ", "start", 1, "stop", 0);
}

static bool refer(json_t *norm, const char *base64, size_t n, bool to_true, int depth) {
    json_t *map = json_object_get(norm, "precompiled_charsmap"), *list = json_object_get(norm, "normalizers");
    for (size_t i = 0; i < json_array_size(list) && depth < 8; i++)
        if (!refer(json_array_get(list, i), base64, n, to_true, depth + 1)) return false;
    if (to_true && json_is_string(map) && json_string_length(map) == n &&
        memcmp(json_string_value(map), base64, n) == 0)
        return json_object_set_new(norm, "precompiled_charsmap", json_true()) == 0;
    if (!to_true && json_is_true(map))
        return json_object_set_new(norm, "precompiled_charsmap", json_stringn(base64, n)) == 0;
    return true;
}

bool spm_refer_charsmap(json_t *norm, const uint8_t *map, size_t map_bytes, bool to_true) {
    buf text = {0};
    bool ok = base64_encode(map, map_bytes, &text) &&
              refer(norm, text.data ? (const char *)text.data : "", text.len, to_true, 0);
    buf_fini(&text);
    return ok;
}

/* What the text at p becomes; returns how much of it that is. */
static size_t rewrite(const norm_step *s, const uint8_t *p, size_t n, const char **to, size_t *to_bytes) {
    uint32_t which;
    size_t k = trie_longest(&s->spm->keep, p, n, &which);
    if (k == 0) {
        k = charsmap_match(&s->map, p, n, true, to, to_bytes);
        if (k > 0) return k;
        k = utf8_sequence(p, n);
        if (k == 0) { /* a rule ended inside a character */
            *to = "\xEF\xBF\xBD";
            *to_bytes = 3;
            return 1;
        }
    }
    *to = (const char *)p;
    *to_bytes = k;
    return k;
}

static bool put(const spm_rules *r, const char *p, size_t n, buf *out) {
    while (n > 0) {
        const char *space = r->escape ? memchr(p, ' ', n) : NULL;
        size_t k = space ? (size_t)(space - p) : n;
        if (!buf_append(out, p, k) || (space && !buf_append(out, MARKER, 3))) return false;
        p += k + (space != NULL);
        n -= k + (space != NULL);
    }
    return true;
}

snug_err spm_step_run(const norm_step *s, const uint8_t *p, size_t n, buf *out, snug_error *err) {
    if (s->kind == NORM_PRECOMPILED) return charsmap_run(&s->map, p, n, out, err);
    const spm_rules *r = s->spm;
    const char *to, *space = r->escape ? MARKER : " ";
    size_t to_bytes, k, at = 0, space_bytes = strlen(space);
    while (r->trim && at < n && (k = rewrite(s, p + at, n - at, &to, &to_bytes), to_bytes == 1 && *to == ' ')) at += k;
    if (at == n) return SNUG_OK;
    bool ok = !r->prefix || buf_append(out, space, space_bytes), after_space = r->trim;
    for (; at < n && ok; at += k) {
        k = rewrite(s, p + at, n - at, &to, &to_bytes);
        while (after_space && to_bytes > 0 && *to == ' ') to++, to_bytes--;
        ok = put(r, to, to_bytes, out);
        if (to_bytes > 0) after_space = r->trim && to[to_bytes - 1] == ' ';
    }
    while (r->trim && out->len >= space_bytes && memcmp(out->data + out->len - space_bytes, space, space_bytes) == 0)
        out->len -= space_bytes;
    return ok ? SNUG_OK : err_nomem(err, n);
}
