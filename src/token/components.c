/* Reads the "normalizer", "pre_tokenizer" and "decoder" objects of tokenizer.json. Sequences are flattened. A type, a
 * field value or a combination that is not implemented exactly is refused by name. */
#include "base/err.h"
#include "token/pipeline.h"
#include "token/utf8.h"
#include <string.h>

#define GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
enum { MAX_STEPS = 64 };

/* `tokenizers` takes punctuation from a Rust table of Unicode 8 and digits from the Rust library's of Unicode 17: hence
 * the corrections to Unicode 16, which patterns otherwise have. */
#define PUNCTUATION                                                                                                    \
    "(?![\\x{61D}\\x{9FD}\\x{A76}\\x{C77}\\x{C84}\\x{1B4E}\\x{1B4F}\\x{1B7D}-\\x{1B7F}\\x{2E43}-\\x{2E4F}\\x{2E52}-"   \
    "\\x{2E5D}\\x{10D6E}"                                                                                              \
    "\\x{10EAD}\\x{10F55}-\\x{10F59}\\x{10F86}-\\x{10F89}\\x{113D4}\\x{113D5}\\x{113D7}\\x{113D8}\\x{1144B}-\\x{"      \
    "1144F}\\x{1145A}\\x{1145B}"                                                                                       \
    "\\x{1145D}\\x{11660}-\\x{1166C}\\x{116B9}\\x{1183B}\\x{11944}-\\x{11946}\\x{119E2}\\x{11A3F}-\\x{11A46}\\x{"      \
    "11A9A}-\\x{11A9C}"                                                                                                \
    "\\x{11A9E}-\\x{11AA2}\\x{11B00}-\\x{11B09}\\x{11BE1}\\x{11C41}-\\x{11C45}\\x{11C70}\\x{11C71}\\x{11EF7}\\x{"      \
    "11EF8}\\x{11F43}-\\x{11F4F}"                                                                                      \
    "\\x{11FFF}\\x{12FF1}\\x{12FF2}\\x{16D6D}-\\x{16D6F}\\x{16E97}-\\x{16E9A}\\x{16FE2}\\x{1E5FF}\\x{1E95E}\\x{1E95F}" \
    "])"                                                                                                               \
    "[!-/:-@\\[-`{-~\\p{P}\\x{166D}\\x{111C9}]"
#define DIGIT "[\\p{N}\\x{11DE0}-\\x{11DE9}\\x{16FF4}-\\x{16FF6}]"

static const char *type_of(const json_t *j) {
    const char *s = json_string_value(json_object_get(j, "type"));
    return s ? s : "?";
}

static bool is(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

/* A boolean field; missing: fallback. */
static bool flag(const json_t *j, const char *key, bool fallback) {
    const json_t *v = json_object_get(j, key);
    return json_is_boolean(v) ? json_is_true(v) : fallback;
}

static snug_err text_field(const json_t *j, const char *key, arena *mem, const char **out, size_t *bytes,
                           snug_error *err) {
    const json_t *v = json_object_get(j, key);
    if (!json_is_string(v))
        return err_set(err, SNUG_ERR_FORMAT, "tokenizer.json: %s without a string '%s'", type_of(j), key);
    *bytes = json_string_length(v);
    *out = arena_strndup(mem, json_string_value(v), *bytes);
    return *out ? SNUG_OK : err_nomem(err, *bytes);
}

/* {"String": "..."} or {"Regex": "..."}. */
static snug_err pattern_field(const json_t *j, pattern **out, const char **literal, size_t *literal_bytes,
                              snug_error *err) {
    const json_t *p = json_object_get(j, "pattern"), *s = json_object_get(p, "String"),
                 *r = json_object_get(p, "Regex");
    snug_err e;
    *literal = NULL;
    if (json_is_string(s)) {
        *literal = json_string_value(s);
        *literal_bytes = json_string_length(s);
        e = pattern_literal(*literal, *literal_bytes, out, err);
    } else if (json_is_string(r)) {
        e = pattern_compile(json_string_value(r), json_string_length(r), out, err);
    } else {
        return err_set(err, SNUG_ERR_FORMAT, "tokenizer.json: %s without a pattern {\"String\"} or {\"Regex\"}",
                       type_of(j));
    }
    return e ? err_prefix(err, e, "tokenizer.json: %s", type_of(j)) : SNUG_OK;
}

/* ---- normalizer ---- */

static snug_err read_norm_step(const json_t *j, arena *mem, normalizer *out, snug_error *err) {
    static const struct {
        const char *name;
        norm_kind kind;
    } plain[] = {{"NFC", NORM_NFC},
                 {"NFD", NORM_NFD},
                 {"NFKC", NORM_NFKC},
                 {"NFKD", NORM_NFKD},
                 {"Lowercase", NORM_LOWERCASE},
                 {"StripAccents", NORM_STRIP_ACCENTS},
                 {"ByteLevel", NORM_BYTE_LEVEL}};
    const char *type = type_of(j);
    if (out->n == MAX_STEPS)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: more than %d normalizers", MAX_STEPS);
    norm_step *s = &out->step[out->n];
    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (!is(type, plain[i].name)) continue;
        s->kind = plain[i].kind;
        out->n++;
        return SNUG_OK;
    }
    snug_err e = SNUG_OK;
    if (is(type, "Strip")) {
        s->kind = NORM_STRIP;
        s->left = flag(j, "strip_left", true);
        s->right = flag(j, "strip_right", true);
    } else if (is(type, "Prepend")) {
        s->kind = NORM_PREPEND;
        e = text_field(j, "prepend", mem, &s->text, &s->text_bytes, err);
    } else if (is(type, "Replace")) {
        const char *literal;
        size_t literal_bytes;
        s->kind = NORM_REPLACE;
        e = text_field(j, "content", mem, &s->text, &s->text_bytes, err);
        if (!e) e = pattern_field(j, &s->pattern, &literal, &literal_bytes, err);
    } else if (is(type, "Precompiled") || is(type, "SentencePiece")) {
        e = spm_step_read(j, mem, s, err);
    } else {
        return err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: the normalizer '%s' is not supported", type);
    }
    if (!e) out->n++;
    return e;
}

static snug_err read_norm(const json_t *j, int depth, arena *mem, normalizer *out, snug_error *err) {
    if (!is(type_of(j), "Sequence")) return read_norm_step(j, mem, out, err);
    const json_t *list = json_object_get(j, "normalizers");
    if (depth > 8) return err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: normalizers nested more than 8 deep");
    for (size_t i = 0; i < json_array_size(list); i++) {
        snug_err e = read_norm(json_array_get(list, i), depth + 1, mem, out, err);
        if (e) return e;
    }
    return SNUG_OK;
}

snug_err normalizer_read(const json_t *j, arena *mem, normalizer *out, snug_error *err) {
    memset(out, 0, sizeof *out);
    if (!j || json_is_null(j)) return SNUG_OK;
    out->step = arena_calloc(mem, MAX_STEPS, sizeof *out->step);
    if (!out->step) return err_nomem(err, MAX_STEPS * sizeof *out->step);
    snug_err e = read_norm(j, 0, mem, out, err);
    if (e) {
        if (out->n < MAX_STEPS) out->n++; /* the step that failed may hold something */
        normalizer_fini(out);
    }
    return e;
}

/* ---- pretokenizer ---- */

static snug_err add_split(pretokenizer *out, const char *source, split_behavior behavior, bool invert,
                          snug_error *err) {
    pretok_step *s = &out->step[out->n];
    memset(s, 0, sizeof *s);
    s->kind = PRETOK_SPLIT;
    s->behavior = behavior;
    s->invert = invert;
    s->no_shadow = strcmp(source, PUNCTUATION) == 0;
    snug_err e = pattern_compile(source, strlen(source), &s->pattern, err);
    if (!e) out->n++;
    return e;
}

static snug_err read_behavior(const json_t *j, split_behavior fallback, split_behavior *out, snug_error *err) {
    static const char *name[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *s = json_string_value(json_object_get(j, "behavior"));
    *out = fallback;
    if (!s) return SNUG_OK;
    for (int i = 0; i < 5; i++)
        if (is(s, name[i])) {
            *out = (split_behavior)i;
            return SNUG_OK;
        }
    return err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: %s with the behavior '%s' is not supported", type_of(j),
                   s);
}

static snug_err read_split(const json_t *j, pretokenizer *out, snug_error *err) {
    pretok_step *s = &out->step[out->n];
    const char *literal;
    size_t literal_bytes;
    s->kind = PRETOK_SPLIT;
    s->invert = flag(j, "invert", false);
    snug_err e = read_behavior(j, SPLIT_ISOLATED, &s->behavior, err);
    if (!e) e = pattern_field(j, &s->pattern, &literal, &literal_bytes, err);
    if (!e) out->n++;
    return e;
}

static snug_err read_byte_level(const json_t *j, pretokenizer *out, snug_error *err) {
    pretok_step *s = &out->step[out->n];
    s->kind = PRETOK_BYTE_LEVEL;
    s->prefix_space = flag(j, "add_prefix_space", true);
    s->use_regex = flag(j, "use_regex", true);
    snug_err e = s->use_regex ? pattern_compile(GPT2_PATTERN, strlen(GPT2_PATTERN), &s->pattern, err) : SNUG_OK;
    if (!e) out->n++, out->byte_level = true;
    return e;
}

/* prepend_scheme in new files; add_prefix_space in old ones. */
static snug_err read_scheme(const json_t *j, prepend_scheme *out, snug_error *err) {
    const char *scheme = json_string_value(json_object_get(j, "prepend_scheme"));
    *out = PREPEND_ALWAYS;
    if (!scheme)
        *out = flag(j, "add_prefix_space", true) ? PREPEND_ALWAYS : PREPEND_NEVER;
    else if (is(scheme, "first"))
        *out = PREPEND_FIRST;
    else if (is(scheme, "never"))
        *out = PREPEND_NEVER;
    else if (!is(scheme, "always"))
        return err_set(err, SNUG_ERR_UNSUPPORTED,
                       "tokenizer.json: Metaspace with the prepend_scheme '%s' is not supported", scheme);
    return SNUG_OK;
}

static snug_err read_metaspace(const json_t *j, arena *mem, pretokenizer *out, snug_error *err) {
    pretok_step *s = &out->step[out->n];
    s->kind = PRETOK_METASPACE;
    s->split = flag(j, "split", true);
    snug_err e = text_field(j, "replacement", mem, &s->marker, &s->marker_bytes, err);
    if (!e) e = read_scheme(j, &s->scheme, err);
    if (!e) e = pattern_literal(s->marker, s->marker_bytes, &s->pattern, err);
    if (!e) out->n++;
    return e;
}

static snug_err read_delimiter(const json_t *j, arena *mem, pretokenizer *out, snug_error *err) {
    pretok_step *s = &out->step[out->n];
    const char *text;
    size_t bytes;
    s->kind = PRETOK_SPLIT;
    s->behavior = SPLIT_REMOVED;
    snug_err e = text_field(j, "delimiter", mem, &text, &bytes, err);
    if (!e) e = pattern_literal(text, bytes, &s->pattern, err);
    if (!e) out->n++;
    return e;
}

static snug_err read_pretok_step(const json_t *j, arena *mem, pretokenizer *out, snug_error *err) {
    const char *type = type_of(j);
    if (out->n + 1 >= MAX_STEPS)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: more than %d pretokenizers", MAX_STEPS);
    memset(&out->step[out->n], 0, sizeof *out->step);
    if (is(type, "ByteLevel")) return read_byte_level(j, out, err);
    if (is(type, "Split")) return read_split(j, out, err);
    if (is(type, "Metaspace")) return read_metaspace(j, mem, out, err);
    if (is(type, "CharDelimiterSplit")) return read_delimiter(j, mem, out, err);
    if (is(type, "Digits"))
        return add_split(out, DIGIT, flag(j, "individual_digits", false) ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS, false,
                         err);
    if (is(type, "WhitespaceSplit")) return add_split(out, "\\s", SPLIT_REMOVED, false, err);
    /* Rust's \w has the two joiners besides */
    if (is(type, "Whitespace"))
        return add_split(out, "[\\w\\x{200C}\\x{200D}]+|[^\\w\\s\\x{200C}\\x{200D}]+", SPLIT_REMOVED, true, err);
    split_behavior behavior = SPLIT_ISOLATED;
    snug_err e;
    if (is(type, "Punctuation")) {
        e = read_behavior(j, SPLIT_ISOLATED, &behavior, err);
        return e ? e : add_split(out, PUNCTUATION, behavior, false, err);
    }
    if (is(type, "BertPreTokenizer")) {
        e = add_split(out, "\\s", SPLIT_REMOVED, false, err);
        return e ? e : add_split(out, PUNCTUATION, SPLIT_ISOLATED, false, err);
    }
    return err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: the pre_tokenizer '%s' is not supported", type);
}

static snug_err read_pretok(const json_t *j, int depth, arena *mem, pretokenizer *out, snug_error *err) {
    if (!is(type_of(j), "Sequence")) return read_pretok_step(j, mem, out, err);
    const json_t *list = json_object_get(j, "pretokenizers");
    if (depth > 8) return err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: pretokenizers nested more than 8 deep");
    for (size_t i = 0; i < json_array_size(list); i++) {
        snug_err e = read_pretok(json_array_get(list, i), depth + 1, mem, out, err);
        if (e) return e;
    }
    return SNUG_OK;
}

snug_err pretokenizer_read(const json_t *j, arena *mem, pretokenizer *out, snug_error *err) {
    memset(out, 0, sizeof *out);
    if (!j || json_is_null(j)) return SNUG_OK;
    out->step = arena_calloc(mem, MAX_STEPS, sizeof *out->step);
    if (!out->step) return err_nomem(err, MAX_STEPS * sizeof *out->step);
    snug_err e = read_pretok(j, 0, mem, out, err);
    if (e) {
        out->n++; /* the step that failed may hold a pattern */
        pretokenizer_fini(out);
    }
    return e;
}

/* ---- decoder ---- */

static snug_err read_decode_replace(const json_t *j, arena *mem, decode_step *s, snug_error *err) {
    const json_t *literal = json_object_get(json_object_get(j, "pattern"), "String");
    if (!json_is_string(literal) || json_string_length(literal) == 0)
        return err_set(err, SNUG_ERR_UNSUPPORTED,
                       "tokenizer.json: the decoder Replace with anything but a \"String\" pattern is not supported");
    s->kind = DECODE_REPLACE;
    s->from_bytes = json_string_length(literal);
    s->from = arena_strndup(mem, json_string_value(literal), s->from_bytes);
    return s->from ? text_field(j, "content", mem, &s->to, &s->to_bytes, err) : err_nomem(err, s->from_bytes);
}

static snug_err read_decode_strip(const json_t *j, bool whole, arena *mem, decode_step *s, snug_error *err) {
    s->kind = DECODE_STRIP;
    snug_err e = text_field(j, "content", mem, &s->from, &s->from_bytes, err);
    if (!e) e = json_get_u64_or(j, "tokenizer.json: the decoder Strip", "start", 0, &s->start, err);
    if (!e) e = json_get_u64_or(j, "tokenizer.json: the decoder Strip", "stop", 0, &s->stop, err);
    if (!e && s->from_bytes == 0)
        e = err_set(err, SNUG_ERR_FORMAT, "tokenizer.json: the decoder Strip without a character");
    if (!e && whole && s->stop > 0)
        e = err_set(err, SNUG_ERR_UNSUPPORTED,
                    "tokenizer.json: the decoder Strip with a 'stop' after Fuse is not supported");
    return e;
}

static snug_err read_decode_step(const json_t *j, arena *mem, decoder *out, bool *whole, snug_error *err) {
    const char *type = type_of(j);
    if (out->n == MAX_STEPS)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: more than %d decoders", MAX_STEPS);
    decode_step *s = &out->step[out->n];
    memset(s, 0, sizeof *s);
    snug_err e = SNUG_OK;
    if (*whole && !is(type, "Strip") && !is(type, "Fuse"))
        return err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: the decoder '%s' after Fuse is not supported", type);
    if (is(type, "ByteLevel"))
        s->kind = DECODE_BYTE_LEVEL, *whole = true;
    else if (is(type, "ByteFallback"))
        s->kind = DECODE_BYTE_FALLBACK;
    else if (is(type, "Fuse"))
        s->kind = DECODE_FUSE, *whole = true;
    else if (is(type, "Replace"))
        e = read_decode_replace(j, mem, s, err);
    else if (is(type, "Strip"))
        e = read_decode_strip(j, *whole, mem, s, err);
    else if (is(type, "Metaspace")) {
        prepend_scheme scheme;
        s->kind = DECODE_METASPACE;
        s->to = " ";
        s->to_bytes = 1;
        e = text_field(j, "replacement", mem, &s->from, &s->from_bytes, err);
        if (!e) e = read_scheme(j, &scheme, err);
        if (!e) s->prepended = scheme != PREPEND_NEVER;
        if (!e && s->from_bytes == 0)
            e = err_set(err, SNUG_ERR_FORMAT, "tokenizer.json: the decoder Metaspace without a replacement");
    } else {
        return err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: the decoder '%s' is not supported", type);
    }
    if (!e) out->n++;
    return e;
}

static snug_err read_decode(const json_t *j, int depth, arena *mem, decoder *out, bool *whole, snug_error *err) {
    if (!is(type_of(j), "Sequence")) return read_decode_step(j, mem, out, whole, err);
    const json_t *list = json_object_get(j, "decoders");
    if (depth > 8) return err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: decoders nested more than 8 deep");
    for (size_t i = 0; i < json_array_size(list); i++) {
        snug_err e = read_decode(json_array_get(list, i), depth + 1, mem, out, whole, err);
        if (e) return e;
    }
    return SNUG_OK;
}

snug_err decoder_read(const json_t *j, arena *mem, decoder *out, snug_error *err) {
    bool whole = false;
    memset(out, 0, sizeof *out);
    if (!j || json_is_null(j)) return SNUG_OK;
    out->present = true;
    out->step = arena_calloc(mem, MAX_STEPS, sizeof *out->step);
    return out->step ? read_decode(j, 0, mem, out, &whole, err) : err_nomem(err, MAX_STEPS * sizeof *out->step);
}
