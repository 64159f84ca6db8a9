/* Opens the tokenizer that a GGUF carries. Plain keys say what llama.cpp needs; what they cannot say stands in one JSON
 * text, snug.tokenizer.config (docs/tokenizers.md), which overrides them. snug.tokenizer.pattern alone names a
 * pretokenizer pattern that has no tokenizer.ggml.pre name. */
#include "base/err.h"
#include "token/gguf_keys.h"
#include "token/tokenizer_impl.h"
#include <stdlib.h>
#include <string.h>

typedef struct source {
    const gguf_file *g;
    const gguf_kv *tokens, *types, *scores;
    uint32_t n;
    bool spm, t5;   /* tokenizer.ggml.model "llama", "t5" */
    json_t *config; /* NULL: none */
    size_t row;     /* of the pretokenizer table; SIZE_MAX: none */
    added_spec *spec;
    size_t n_spec;
} source;

static snug_err bad(const source *s, const char *key, const char *what, snug_error *err) {
    return err_set(err, SNUG_ERR_FORMAT, "%s: key '%s' %s", s->g->file.path ? s->g->file.path : "tokenizer", key, what);
}

/* An array of `n` or more numbers or, elem GGUF_STRING, strings. Absent: *out NULL. */
static snug_err find_array(const source *s, const char *key, bool strings, uint64_t n, const gguf_kv **out,
                           snug_error *err) {
    const gguf_kv *kv = gguf_find(s->g, key);
    *out = kv;
    if (!kv) return SNUG_OK;
    if (kv->type != GGUF_ARRAY || (kv->elem_type == GGUF_STRING) != strings)
        return bad(s, key, "is not an array of the expected type", err);
    if (kv->n < n) return bad(s, key, "is shorter than tokenizer.ggml.tokens", err);
    return SNUG_OK;
}

static snug_err find_parts(source *s, snug_error *err) {
    const char *model = gguf_get_str_or(s->g, KEY_MODEL, NULL), *config = gguf_get_str_or(s->g, KEY_CONFIG, NULL);
    if (!model) return bad(s, KEY_MODEL, "is missing", err);
    s->spm = strcmp(model, "llama") == 0;
    s->t5 = strcmp(model, "t5") == 0;
    if (!s->spm && !s->t5 && strcmp(model, "gpt2") != 0)
        return err_set(err, SNUG_ERR_UNSUPPORTED,
                       "the tokenizer model '%.60s' is not supported, only gpt2, llama and t5", model);
    snug_err e = find_array(s, KEY_TOKENS, true, 0, &s->tokens, err);
    if (!e && !s->tokens) e = bad(s, KEY_TOKENS, "is missing", err);
    if (!e && s->tokens->n > VOCAB_MAX_TOKENS) e = bad(s, KEY_TOKENS, "has more than 8388608 tokens", err);
    if (e) return e;
    s->n = (uint32_t)s->tokens->n;
    e = find_array(s, KEY_TYPES, false, s->n, &s->types, err);
    if (!e) e = find_array(s, KEY_SCORES, false, s->n, &s->scores, err);
    if (!e && config) e = json_read_buffer(KEY_CONFIG, config, strlen(config), &s->config, err);
    if (!e && s->config && !json_is_object(s->config)) e = bad(s, KEY_CONFIG, "is not a JSON object", err);
    return e;
}

static uint64_t type_of(const source *s, uint32_t id) {
    return s->types ? gguf_array_u64(s->types, id) : TYPE_NORMAL;
}
static gguf_str text_of(const source *s, uint32_t id) {
    return ((const gguf_str *)s->tokens->array)[id];
}
static unigram_kind kind_of(const source *s) {
    const char *kind = json_string_value(json_object_get(s->config, "unigram"));
    return kind && strcmp(kind, "tokenizers") == 0 ? UNIGRAM_TOKENIZERS : UNIGRAM_SENTENCEPIECE;
}
static bool is_filler(gguf_str t, uint64_t type) {
    return type == TYPE_UNUSED && t.n > 5 && memcmp(t.p, "[PAD", 4) == 0;
}

/* Tokens that text may become. Bytes are not among them where the model goes by texts and scores: only what nothing
 * covers falls back. */
static bool is_indexed(const source *s, uint32_t id) {
    uint64_t type = type_of(s, id);
    if (type == TYPE_UNUSED || text_of(s, id).n == 0) return false;
    bool by_score = s->t5 ? kind_of(s) == UNIGRAM_SENTENCEPIECE : s->spm && !gguf_find(s->g, KEY_PAIRS);
    return type != TYPE_BYTE || !by_score;
}

static snug_err build_vocab(source *s, tokenizer *t, snug_error *err) {
    vocab_builder b = {0};
    vocab v = {0};
    snug_err e = SNUG_OK;
    for (uint32_t id = 0; id < s->n && !e; id++) {
        gguf_str text = text_of(s, id);
        e = vocab_add(&b, id, text.p, text.n, is_indexed(s, id), err);
    }
    if (!e) e = vocab_build(&b, &v, err);
    vocab_builder_fini(&b);
    if (e) return e;
    bpe_init(&t->model, &v);
    return SNUG_OK;
}

/* "a b": the space that divides is the first one behind the first character, as llama.cpp has it. */
static snug_err read_text_merges(const source *s, tokenizer *t, snug_error *err) {
    const gguf_kv *kv;
    snug_err e = find_array(s, KEY_MERGES, true, 0, &kv, err);
    if (!e && !kv) e = bad(s, KEY_MERGES, "is missing", err);
    if (!e) e = bpe_reserve_pairs(&t->model, kv->n, err);
    for (uint64_t i = 0; !e && i < kv->n; i++) {
        gguf_str m = ((const gguf_str *)kv->array)[i];
        const char *space = m.n > 1 ? memchr(m.p + 1, ' ', m.n - 1) : NULL;
        if (!space)
            e = bad(s, KEY_MERGES, "has an entry without two parts", err);
        else
            e = bpe_add_merge(&t->model, m.p, (size_t)(space - m.p), space + 1, m.n - (size_t)(space + 1 - m.p), err);
    }
    return e;
}

static snug_err read_id_merges(const source *s, tokenizer *t, const gguf_kv *kv, snug_error *err) {
    snug_err e = bpe_reserve_pairs(&t->model, kv->n / 2, err);
    for (uint64_t i = 0; !e && i + 1 < kv->n; i += 2) {
        uint64_t a = gguf_array_u64(kv, i), b = gguf_array_u64(kv, i + 1);
        if (a >= s->n || b >= s->n)
            e = bad(s, KEY_PAIRS, "names an id beyond the vocabulary", err);
        else
            e = bpe_add_merge_ids(&t->model, (uint32_t)a, (uint32_t)b, err);
    }
    return e;
}

static snug_err read_scores(const source *s, tokenizer *t, snug_error *err) {
    if (!s->scores) return bad(s, KEY_SCORES, "is missing", err);
    float *score = malloc(((size_t)s->n + 1) * sizeof *score);
    if (!score) return err_nomem(err, s->n * sizeof *score);
    for (uint32_t i = 0; i < s->n; i++) score[i] = (float)gguf_array_f64(s->scores, i);
    snug_err e = bpe_set_scores(&t->model, score, err);
    free(score);
    return e;
}

static snug_err read_model(const source *s, tokenizer *t, snug_error *err) {
    const gguf_kv *pairs;
    snug_err e = build_vocab((source *)s, t, err);
    if (!e) e = find_array(s, KEY_PAIRS, false, 0, &pairs, err);
    if (e) return e;
    if (s->t5) return SNUG_OK; /* read_pieces, when it is known which tokens are added ones */
    if (pairs) return read_id_merges(s, t, pairs, err);
    return s->spm ? read_scores(s, t, err) : read_text_merges(s, t, err);
}

/* ---- added tokens ---- */

static bool set_bit(uint64_t *bits, uint32_t i, bool on) {
    bits[i >> 6] = on ? bits[i >> 6] | 1ull << (i & 63) : bits[i >> 6] & ~(1ull << (i & 63));
    return on;
}

/* Tokens that a merge takes or makes belong to the model's own vocabulary. Of the added ones, the others are looked up
 * by the added-token matcher alone. Where scores decide, text never becomes a control token, as SentencePiece has it.
 */
static snug_err guess_outside(const source *s, tokenizer *t, snug_error *err) {
    t->outside = arena_calloc(&t->mem, s->n / 64 + 1, sizeof *t->outside);
    if (!t->outside) return err_nomem(err, s->n / 8);
    bool by_score = t->model.by_score || s->t5;
    for (size_t i = 0; i < s->n_spec; i++) set_bit(t->outside, s->spec[i].id, !by_score || s->spec[i].special);
    for (uint32_t r = 0; r < t->model.n_pairs; r++) {
        set_bit(t->outside, t->model.pair[r].a, false);
        set_bit(t->outside, t->model.pair[r].b, false);
        set_bit(t->outside, t->model.pair[r].joined, false);
    }
    return SNUG_OK;
}

static void override(const json_t *j, const char *key, bool *to) {
    const json_t *v = json_object_get(j, key);
    if (json_is_boolean(v)) *to = json_is_true(v);
}

/* config.added: what the token types do not say, token by token. */
static snug_err override_added(source *s, tokenizer *t, snug_error *err) {
    const json_t *list = json_object_get(s->config, "added");
    size_t n = json_array_size(list), kept = 0;
    uint32_t *at = n ? calloc((size_t)s->n + 1, sizeof *at) : NULL; /* id -> entry + 1 */
    if (n == 0) return SNUG_OK;
    if (!at) return err_nomem(err, s->n * sizeof *at);
    for (size_t i = 0; i < s->n_spec; i++) at[s->spec[i].id] = (uint32_t)i + 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *j = json_array_get(list, i), *content = json_object_get(j, "content");
        json_int_t id = json_is_integer(json_object_get(j, "id")) ? json_integer_value(json_object_get(j, "id")) : -1;
        if (id < 0 || id >= (json_int_t)s->n) {
            free(at);
            return bad(s, KEY_CONFIG, "names an added token beyond the vocabulary", err);
        }
        if (!at[id]) { /* room for it: tokens of any type may be added ones, spec has an entry per token */
            gguf_str text = text_of(s, (uint32_t)id);
            s->spec[s->n_spec] = (added_spec){.id = (uint32_t)id, .text = text.p, .bytes = text.n};
            at[id] = (uint32_t)++s->n_spec;
        }
        added_spec *a = &s->spec[at[id] - 1];
        bool outside = false;
        override(j, "special", &a->special);
        override(j, "normalized", &a->normalized);
        override(j, "lstrip", &a->lstrip);
        override(j, "rstrip", &a->rstrip);
        override(j, "single_word", &a->single_word);
        override(j, "outside", &outside);
        if (json_object_get(j, "outside")) set_bit(t->outside, (uint32_t)id, outside);
        if (json_is_string(content)) a->text = json_string_value(content), a->bytes = json_string_length(content);
        if (json_is_true(json_object_get(j, "none"))) { /* an ordinary token of the model's own vocabulary */
            a->bytes = 0;
            set_bit(t->outside, (uint32_t)id, false);
        }
    }
    for (size_t i = 0; i < s->n_spec; i++)
        if (s->spec[i].bytes) s->spec[kept++] = s->spec[i];
    s->n_spec = kept;
    free(at);
    return SNUG_OK;
}

/* Ids of the vocabulary whose text config.added gave back its original form. */
static snug_err restore_texts(const source *s, tokenizer *t, snug_error *err) {
    vocab_builder b = {0};
    vocab more = {0};
    snug_err e = SNUG_OK;
    for (size_t i = 0; i < s->n_spec && !e; i++) {
        const added_spec *a = &s->spec[i];
        if (text_of(s, a->id).p == a->text) continue;
        bool outside = t->outside[a->id >> 6] >> (a->id & 63) & 1;
        e = vocab_add(&b, a->id, a->text, a->bytes, !outside, err);
    }
    if (!e && b.n_ids) e = vocab_build(&b, &more, err);
    if (!e && more.n) e = vocab_extend(&t->model.vocab, &more, err);
    vocab_builder_fini(&b);
    vocab_fini(&more);
    return e;
}

static snug_err read_added(source *s, tokenizer *t, snug_error *err) {
    s->spec = calloc((size_t)s->n + 1, sizeof *s->spec);
    if (!s->spec) return err_nomem(err, s->n * sizeof *s->spec);
    for (uint32_t id = 0; id < s->n; id++) {
        uint64_t type = type_of(s, id);
        gguf_str text = text_of(s, id);
        if ((type != TYPE_UNKNOWN && type != TYPE_CONTROL && type != TYPE_USER) || text.n == 0) continue;
        s->spec[s->n_spec++] = (added_spec){.id = id, .text = text.p, .bytes = text.n, .special = type != TYPE_USER};
    }
    snug_err e = guess_outside(s, t, err);
    if (!e) e = override_added(s, t, err);
    if (!e) e = restore_texts(s, t, err);
    if (!e) vocab_unindex(&t->model.vocab, t->outside);
    return e;
}

/* ---- pipeline ---- */

static snug_err read_charsmap(const source *s, buf *out, snug_error *err) {
    const gguf_kv *kv;
    snug_err e = find_array(s, KEY_CHARSMAP, false, 0, &kv, err);
    if (e || !kv) return e;
    if (kv->elem_type != GGUF_U8 && kv->elem_type != GGUF_I8)
        return bad(s, KEY_CHARSMAP, "is not an array of bytes", err);
    bool ok = buf_reserve(out, kv->n);
    for (uint64_t i = 0; i < kv->n && ok; i++) {
        uint8_t byte = (uint8_t)gguf_array_u64(kv, i);
        ok = buf_append(out, &byte, 1);
    }
    return ok ? SNUG_OK : err_nomem(err, kv->n);
}

static snug_err default_pipeline(source *s, json_t **norm, json_t **pretok, json_t **dec, snug_error *err) {
    const char *pre = gguf_get_str_or(s->g, KEY_PRE, "default"),
               *source_text = gguf_get_str_or(s->g, KEY_PATTERN, NULL);
    bool prefix = gguf_get_bool_or(s->g, KEY_SPACE_PREFIX, s->spm),
         trim = s->t5 && gguf_get_bool_or(s->g, KEY_TRIM, false);
    buf map = {0};
    if (s->spm || s->t5) {
        snug_err e = s->t5 ? read_charsmap(s, &map, err) : SNUG_OK;
        if (!e) *norm = spm_step_json(map.data, map.len, prefix, trim, true, json_array());
        buf_fini(&map);
        if (e) return e;
        *dec = spm_decoder_json(prefix || trim);
        *pretok = json_null();
    } else if (source_text) {
        *pretok = pre_from_pattern(source_text, strlen(source_text));
        *norm = json_null();
    } else if (s->row != SIZE_MAX) {
        *pretok = pre_pretokenizer(s->row);
        *norm = pre_normalizer(s->row);
    } else {
        return err_set(err, SNUG_ERR_UNSUPPORTED, "the pretokenizer '%.60s' (%s) is not known", pre, KEY_PRE);
    }
    if (!s->spm && !s->t5) *dec = json_pack("{s:s}", "type", "ByteLevel");
    return *norm && *pretok && *dec ? SNUG_OK : err_nomem(err, 1024);
}

static snug_err read_pipeline(source *s, tokenizer *t, snug_error *err) {
    json_t *norm = NULL, *pretok = NULL, *dec = NULL;
    snug_err e = SNUG_OK;
    if (json_object_get(s->config, "decoder")) {
        norm = json_incref(json_object_get(s->config, "normalizer"));
        buf map = {0};
        e = s->t5 ? read_charsmap(s, &map, err) : SNUG_OK;
        if (!e && map.len && !spm_refer_charsmap(norm, map.data, map.len, false)) e = err_nomem(err, map.len);
        buf_fini(&map);
        pretok = json_incref(json_object_get(s->config, "pre_tokenizer"));
        dec = json_incref(json_object_get(s->config, "decoder"));
    } else {
        e = default_pipeline(s, &norm, &pretok, &dec, err);
    }
    if (!e) e = tokenizer_set_pipeline(t, norm, pretok, dec, err);
    json_decref(norm);
    json_decref(pretok);
    json_decref(dec);
    return e;
}

/* The pieces and scores of a unigram model. */
static snug_err read_pieces(const source *s, tokenizer *t, snug_error *err) {
    const gguf_kv *doubles;
    unigram_kind kind = kind_of(s);
    snug_err e = find_array(s, KEY_DOUBLES, false, s->n, &doubles, err);
    if (e) return e;
    const gguf_kv *from = doubles ? doubles : s->scores;
    if (!from) return bad(s, KEY_SCORES, "is missing", err);
    double *score = malloc(((size_t)s->n + 1) * sizeof *score);
    uint64_t *matches = calloc(s->n / 64 + 1, sizeof *matches), *normal = calloc(s->n / 64 + 1, sizeof *normal);
    bool ok = score && matches && normal;
    for (uint32_t i = 0; i < s->n && ok; i++) {
        uint64_t type = type_of(s, i);
        bool own = kind == UNIGRAM_TOKENIZERS ? type != TYPE_UNUSED
                                              : type == TYPE_NORMAL || type == TYPE_USER || type == TYPE_CONTROL;
        own = own && !(t->outside[i >> 6] >> (i & 63) & 1); /* control tokens are, but for those that config says */
        score[i] = gguf_array_f64(from, i);
        set_bit(matches, i, own);
        set_bit(normal, i, own && (kind == UNIGRAM_TOKENIZERS || type != TYPE_USER));
    }
    e = ok ? unigram_init(&t->lm, kind, &t->model.vocab, score, s->n, matches, normal,
                          normalizer_user_defined(&t->norm), err)
           : err_nomem(err, s->n * sizeof *score);
    t->is_unigram = true;
    free(score);
    free(matches);
    free(normal);
    return e;
}

/* ---- ids ---- */

static void read_roles(const source *s, tokenizer *t) {
    if (s->spm && !s->config) { /* llama.cpp's defaults */
        t->role[ROLE_BOS] = 1;
        t->role[ROLE_EOS] = 2;
        t->role[ROLE_UNK] = 0;
    }
    for (int i = 0; i < N_ROLES; i++) {
        uint64_t id;
        if (!gguf_find(s->g, key_role[i]) || gguf_get_u64(s->g, key_role[i], &id, NULL)) continue;
        if (id < s->n) t->role[i] = (int32_t)id;
    }
}

static snug_err read_ids(const source *s, const char *name, int32_t *to, size_t cap, size_t *n, snug_error *err) {
    const json_t *list = json_object_get(s->config, name);
    *n = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        if (id < 0 || id >= (json_int_t)s->n || *n == cap) return bad(s, KEY_CONFIG, "has a bad list of ids", err);
        to[(*n)++] = (int32_t)id;
    }
    return SNUG_OK;
}

static snug_err read_affixes(const source *s, tokenizer *t, snug_error *err) {
    if (json_object_get(s->config, "prefix")) {
        snug_err e = read_ids(s, "prefix", t->prefix, MAX_AFFIX, &t->n_prefix, err);
        return e ? e : read_ids(s, "suffix", t->suffix, MAX_AFFIX, &t->n_suffix, err);
    }
    bool bos = gguf_get_bool_or(s->g, KEY_ADD_BOS, s->spm || (s->row != SIZE_MAX && pre_adds_bos(s->row)));
    if (bos && t->role[ROLE_BOS] >= 0) t->prefix[t->n_prefix++] = t->role[ROLE_BOS];
    if (gguf_get_bool_or(s->g, KEY_ADD_EOS, s->t5) && t->role[ROLE_EOS] >= 0)
        t->suffix[t->n_suffix++] = t->role[ROLE_EOS];
    return SNUG_OK;
}

static void read_flags(const source *s, tokenizer *t) {
    bpe *m = &t->model;
    const json_t *unk = json_object_get(s->config, "unk");
    uint32_t n_bytes = 0;
    for (uint32_t id = 0; id < s->n && s->t5; id++) {
        n_bytes += type_of(s, id) == TYPE_BYTE;
        if (m->unk == VOCAB_NONE && type_of(s, id) == TYPE_UNKNOWN) m->unk = id;
    }
    m->byte_fallback = n_bytes == 256;
    m->ignore_merges = s->row != SIZE_MAX && pre_ignores_merges(s->row);
    if ((s->spm || s->t5) && t->role[ROLE_UNK] >= 0) m->unk = (uint32_t)t->role[ROLE_UNK];
    override(s->config, "ignore_merges", &m->ignore_merges);
    override(s->config, "byte_fallback", &m->byte_fallback);
    override(s->config, "fuse_unk", &m->fuse_unk);
    if (json_is_null(unk)) m->unk = VOCAB_NONE;
    if (json_is_integer(unk) && json_integer_value(unk) >= 0 && json_integer_value(unk) < (json_int_t)s->n)
        m->unk = (uint32_t)json_integer_value(unk);
}

static snug_err open_source(source *s, tokenizer *t, snug_error *err) {
    enum { MAX_EOG = 256 };
    int32_t eog[MAX_EOG];
    size_t n_eog = 0;
    const char *template = gguf_get_str_or(s->g, KEY_TEMPLATE, NULL);
    snug_err e = find_parts(s, err);
    if (e) return e;
    s->row = s->spm || s->t5 ? SIZE_MAX : pre_find(gguf_get_str_or(s->g, KEY_PRE, "default"));
    t->ggml_model = s->spm ? "llama" : s->t5 ? "t5" : "gpt2";
    e = read_model(s, t, err);
    if (e) return e;
    t->n_model = t->model.vocab.n;
    read_roles(s, t);
    read_flags(s, t);
    if (!e) e = read_added(s, t, err);
    if (!e) e = read_pipeline(s, t, err);
    if (!e && s->t5) e = read_pieces(s, t, err);
    if (!e) e = tokenizer_set_added(t, s->spec, s->n_spec, err);
    for (uint32_t id = 0; id < s->n && !e; id++)
        if (is_filler(text_of(s, id), type_of(s, id))) t->flag[id] |= FLAG_FILLER;
    if (!e) e = read_affixes(s, t, err);
    if (!e) e = read_ids(s, "eog", eog, MAX_EOG, &n_eog, err);
    if (!e && template && !(t->chat_template = arena_strdup(&t->mem, template))) e = err_nomem(err, strlen(template));
    return e ? e : tokenizer_finish(t, eog, n_eog, json_object_get(s->config, "eog") != NULL, err);
}

snug_err tokenizer_open_gguf(const gguf_file *g, tokenizer **out, snug_error *err) {
    source s = {.g = g, .row = SIZE_MAX};
    tokenizer *t = tokenizer_new(err);
    *out = NULL;
    if (!t) return SNUG_ERR_NOMEM;
    snug_err e = open_source(&s, t, err);
    free(s.spec);
    json_decref(s.config);
    if (e) tokenizer_close(&t);
    *out = t;
    return e;
}
