/* Writes the tokenizer's keys into a GGUF, as llama.cpp's converter writes them, so that llama.cpp tokenizes the same
 * way; then reads them back and, where the plain keys give another tokenizer than this one, adds snug's own keys, which
 * other readers ignore. So a snug file always opens to the tokenizer that was written. */
#include "base/err.h"
#include "token/gguf_keys.h"
#include "token/tokenizer_impl.h"
#include <stdlib.h>
#include <string.h>

typedef struct writer {
    const tokenizer *t;
    uint32_t n_vocab;
    bool strict, spm, t5; /* spm: scores and U+2581, not merges and byte alphabet; t5: of these the unigram models */
    char pre[32];         /* "": the pretokenizer has no name */
    bool prefix, trim;    /* spm: a space in front; extra spaces removed */
    const charsmap *map;  /* spm: or NULL */
    gguf_kvs *out;
} writer;

/* ---- what kind ---- */

static snug_err describe_pretok(const pretokenizer *p, buf *out, snug_error *err) {
    out->len = 0;
    return pretokenizer_describe(p, out, err);
}

static bool same(const buf *a, const buf *b) {
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static snug_err row_is(size_t row, const buf *wanted, bool *out, snug_error *err) {
    arena mem = {0};
    pretokenizer p = {0};
    buf found = {0};
    json_t *j = pre_pretokenizer(row);
    snug_err e = j ? pretokenizer_read(j, &mem, &p, err) : err_nomem(err, 1024);
    if (!e) e = describe_pretok(&p, &found, err);
    *out = !e && same(&found, wanted);
    pretokenizer_fini(&p);
    buf_fini(&found);
    json_decref(j);
    arena_fini(&mem);
    return e;
}

/* The GGUF name of a byte-level pretokenizer: equal steps and equal use of ignore_merges, unless that makes no
 * difference here. */
static snug_err find_pre(writer *w, snug_error *err) {
    buf wanted = {0};
    bool reachable = false;
    snug_err e = describe_pretok(&w->t->pretok, &wanted, err);
    size_t loose = SIZE_MAX;
    for (size_t row = 0; row < pre_count() && !e; row++) {
        bool hit;
        e = row_is(row, &wanted, &hit, err);
        if (e || !hit) continue;
        if (pre_ignores_merges(row) == w->t->model.ignore_merges) {
            pre_name(row, w->pre);
            break;
        }
        if (loose == SIZE_MAX) loose = row;
    }
    if (!e && !w->pre[0] && loose != SIZE_MAX) {
        e = bpe_all_reachable(&w->t->model, &reachable, err);
        if (!e && reachable) pre_name(loose, w->pre);
    }
    buf_fini(&wanted);
    return e;
}

/* Normalizers beside a GGUF pretokenizer name: none, or NFC (which llama.cpp leaves out, for all models alike). */
static bool norm_is_tolerable(const normalizer *n) {
    for (size_t i = 0; i < n->n; i++)
        if (n->step[i].kind != NORM_NFC) return false;
    return true;
}

static bool is_marker(const char *text, size_t n) {
    return n == 3 && memcmp(text, "\xE2\x96\x81", 3) == 0;
}

/* One step of the normalizer in GGUF's terms; false: it has none. *marks: spaces have become the marker. */
static bool spm_norm_step(writer *w, const norm_step *s, bool *marks) {
    size_t n;
    bool is_regex;
    const char *source = s->pattern ? pattern_source(s->pattern, &n, &is_regex) : NULL;
    switch (s->kind) {
    case NORM_PREPEND:
        w->prefix = true;
        return is_marker(s->text, s->text_bytes) && !*marks;
    case NORM_REPLACE:
        if (is_regex && n == 5 && memcmp(source, " {2,}", 5) == 0) return w->trim = true;
        *marks = true;
        return is_marker(s->text, s->text_bytes);
    case NORM_STRIP:
        return w->trim = true;
    case NORM_PRECOMPILED:
        w->map = &s->map;
        return true;
    case NORM_SENTENCEPIECE:
        w->map = s->map.unit ? &s->map : NULL;
        w->prefix |= s->spm->prefix;
        w->trim |= s->spm->trim;
        *marks = s->spm->escape;
        return true;
    default:
        return false;
    }
}

/* Spaces become the marker and nothing else happens: what llama.cpp's "llama" does; in "t5" a charsmap and removal of
 * extra spaces besides. */
static bool is_spm_like(writer *w) {
    const tokenizer *t = w->t;
    bool marks = false;
    for (size_t i = 0; i < t->norm.n; i++)
        if (!spm_norm_step(w, &t->norm.step[i], &marks)) return false;
    for (size_t i = 0; i < t->pretok.n; i++) {
        const pretok_step *s = &t->pretok.step[i];
        size_t n;
        bool is_regex;
        if (s->kind == PRETOK_METASPACE && is_marker(s->marker, s->marker_bytes)) {
            marks = true;
            if (s->scheme != PREPEND_NEVER) w->prefix = true;
        } else if (s->kind == PRETOK_SPLIT && s->behavior == SPLIT_REMOVED && !marks) {
            w->trim = true; /* WhitespaceSplit */
        } else if (s->kind != PRETOK_SPLIT || !marks || *pattern_source(s->pattern, &n, &is_regex) != ' ' || n != 1) {
            return false; /* a split at spaces behind the marker step finds none */
        }
    }
    return marks && (w->t5 || (!w->trim && !w->map));
}

static snug_err choose_kind(writer *w, snug_error *err) {
    const char *source = NULL;
    size_t n = 0;
    if (w->spm) {
        bool fits = is_spm_like(w);
        if (!fits && w->strict)
            return err_set(err, SNUG_ERR_UNSUPPORTED,
                           "the tokenizer's normalizer and pretokenizer (%.200s, %.200s) have no form in GGUF",
                           w->t->norm_json ? w->t->norm_json : "null", w->t->pretok_json ? w->t->pretok_json : "null");
        return SNUG_OK;
    }
    snug_err e = find_pre(w, err);
    if (e || !w->strict) return e;
    if (!w->pre[0]) {
        pre_to_pattern(&w->t->pretok, &source, &n);
        return err_set(err, SNUG_ERR_UNSUPPORTED, "the tokenizer's pretokenizer has no name in GGUF: %.*s",
                       (int)(source ? (n < 300 ? n : 300) : 300),
                       source              ? source
                       : w->t->pretok_json ? w->t->pretok_json
                                           : "null");
    }
    if (!norm_is_tolerable(&w->t->norm))
        return err_set(err, SNUG_ERR_UNSUPPORTED, "the tokenizer's normalizer has no form in GGUF: %.300s",
                       w->t->norm_json ? w->t->norm_json : "null");
    return SNUG_OK;
}

/* ---- tokens ---- */

/* Some models mark control tokens as ordinary added ones; llama.cpp's converter goes by their looks. */
static bool looks_special(const char *s, size_t n) {
    static const char *const known[] = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(s, known[i]) == 0) return true;
    if (n >= 4 && memcmp(s, "<|", 2) == 0 && memcmp(s + n - 2, "|>", 2) == 0) return true;
    if (n >= 8 && memcmp(s, "<\xEF\xBD\x9C", 4) == 0 && memcmp(s + n - 4, "\xEF\xBD\x9C>", 4) == 0) return true;
    return n >= 8 && memcmp(s, "<unused", 7) == 0 && s[n - 1] == '>';
}

static bool is_byte_token(const tokenizer *t, uint32_t id) {
    for (int b = 0; b < 256; b++)
        if (t->model.byte_id[b] == id) return true;
    return false;
}

/* A user-defined symbol of SentencePiece. */
static bool is_user_defined(const tokenizer *t, uint32_t id) {
    const trie *user = normalizer_user_defined(&t->norm);
    const vocab *v = &t->model.vocab;
    uint32_t which;
    return user &&
           trie_longest(user, (const uint8_t *)vocab_text(v, id), vocab_bytes(v, id), &which) == vocab_bytes(v, id);
}

static int32_t token_type(const writer *w, uint32_t id) {
    const tokenizer *t = w->t;
    if (id >= t->model.vocab.n || !vocab_has(&t->model.vocab, id) || (t->flag[id] & FLAG_FILLER)) return TYPE_UNUSED;
    if (w->spm && id == (w->t5 ? t->model.unk : (uint32_t)t->role[ROLE_UNK])) return TYPE_UNKNOWN;
    if (t->flag[id] & FLAG_ADDED) {
        bool control = (t->flag[id] & FLAG_SPECIAL) ||
                       looks_special(vocab_text(&t->model.vocab, id), vocab_bytes(&t->model.vocab, id));
        return control ? TYPE_CONTROL : TYPE_USER;
    }
    /* of equal texts the lowest id that is in use counts; a token that it does not, nor a lower one, is out of use */
    if (w->spm && is_byte_token(t, id)) return TYPE_BYTE;
    if (w->spm && is_user_defined(t, id)) return TYPE_USER;
    uint32_t found = vocab_find(&t->model.vocab, vocab_text(&t->model.vocab, id), vocab_bytes(&t->model.vocab, id));
    return found > id ? TYPE_UNUSED : TYPE_NORMAL; /* VOCAB_NONE among them */
}

/* Rows of the embedding without a token are named "[PAD<id>]"; readers refuse a name that comes twice. */
static gguf_str filler(const tokenizer *t, uint32_t id, arena *mem) {
    for (int k = 0; k < 100; k++) {
        char *s = k ? arena_printf(mem, "[PAD%u_%d]", id, k) : arena_printf(mem, "[PAD%u]", id);
        if (!s) break;
        uint32_t taken = VOCAB_NONE;
        for (size_t i = 0; i < t->n_added && taken == VOCAB_NONE; i++)
            if (strcmp(t->added[i].content, s) == 0) taken = t->added[i].id;
        if (taken == VOCAB_NONE) taken = vocab_find(&t->model.vocab, s, strlen(s));
        if (taken == VOCAB_NONE || taken == id) return (gguf_str){s, strlen(s)};
    }
    return (gguf_str){NULL, 0};
}

/* llama.cpp matches user-defined tokens in raw text; one that stands for normalized text is written with spaces again.
 */
static gguf_str unmark(const char *s, size_t n, arena *mem) {
    char *copy = arena_alloc(mem, n + 1);
    size_t k = 0;
    for (size_t i = 0; copy && i < n;) {
        if (i + 3 <= n && memcmp(s + i, "\xE2\x96\x81", 3) == 0) {
            copy[k++] = ' ';
            i += 3;
        } else {
            copy[k++] = s[i++];
        }
    }
    if (copy) copy[k] = 0;
    return (gguf_str){copy, k};
}

static snug_err put_tokens(const writer *w, snug_error *err) {
    const tokenizer *t = w->t;
    const vocab *v = &t->model.vocab;
    arena mem = {0};
    gguf_str *text = arena_calloc(&mem, (size_t)w->n_vocab + 1, sizeof *text);
    int32_t *type = arena_calloc(&mem, (size_t)w->n_vocab + 1, sizeof *type);
    bool ok = text && type;
    for (uint32_t id = 0; ok && id < w->n_vocab; id++) {
        type[id] = token_type(w, id);
        if (id >= v->n || !vocab_has(v, id))
            text[id] = filler(t, id, &mem);
        else
            text[id] = (gguf_str){vocab_text(v, id), vocab_bytes(v, id)};
        ok = text[id].p != NULL;
    }
    for (size_t i = 0; ok && i < t->n_added; i++) {
        const added_token *a = &t->added[i];
        if (type[a->id] != TYPE_USER || !a->normalized || !memmem(a->content, a->bytes, "\xE2\x96\x81", 3)) continue;
        gguf_str s = unmark(a->content, a->bytes, &mem);
        if (s.p && vocab_find(v, s.p, s.n) == VOCAB_NONE) text[a->id] = s;
        ok = s.p != NULL;
    }
    ok = ok && gguf_put_str_array(w->out, KEY_TOKENS, text, w->n_vocab) &&
         gguf_put_array(w->out, KEY_TYPES, GGUF_I32, type, w->n_vocab);
    arena_fini(&mem);
    return ok ? SNUG_OK : err_nomem(err, w->n_vocab * sizeof *text);
}

/* SentencePiece scores. From a list of merges: minus the rank of the first merge that makes the token; all others
 * below. */
static snug_err put_scores(const writer *w, snug_error *err) {
    const bpe *m = &w->t->model;
    float *score = calloc((size_t)w->n_vocab + 1, sizeof *score), lowest = -(float)m->n_pairs - 1000;
    if (!score) return err_nomem(err, w->n_vocab * sizeof *score);
    const unigram *lm = &w->t->lm;
    for (uint32_t id = 0; id < w->n_vocab; id++)
        score[id] = m->score && id < m->vocab.n ? m->score[id] : w->t5 && id < lm->n ? (float)lm->score[id] : lowest;
    for (uint32_t r = m->n_pairs; r-- > 0;)
        if (m->pair[r].joined < w->n_vocab) score[m->pair[r].joined] = -(float)r;
    bool ok = gguf_put_array(w->out, KEY_SCORES, GGUF_F32, score, w->n_vocab);
    free(score);
    return ok ? SNUG_OK : err_nomem(err, w->n_vocab * sizeof *score);
}

/* A unigram model's scores as they are, if f32 has rounded some of them. */
static snug_err put_doubles(const writer *w, snug_error *err) {
    const unigram *lm = &w->t->lm;
    bool exact = true;
    for (uint32_t id = 0; id < lm->n; id++) exact &= (double)(float)lm->score[id] == lm->score[id];
    if (exact) return SNUG_OK;
    double *score = calloc((size_t)w->n_vocab + 1, sizeof *score);
    bool ok = score != NULL;
    for (uint32_t id = 0; ok && id < w->n_vocab; id++) score[id] = id < lm->n ? lm->score[id] : -1000;
    ok = ok && gguf_put_array(w->out, KEY_DOUBLES, GGUF_F64, score, w->n_vocab);
    free(score);
    return ok ? SNUG_OK : err_nomem(err, w->n_vocab * sizeof *score);
}

static bool put_charsmap(const writer *w) {
    buf blob = {0};
    bool ok = charsmap_blob(w->map, &blob) && gguf_put_array(w->out, KEY_CHARSMAP, GGUF_U8, blob.data, blob.len);
    buf_fini(&blob);
    return ok;
}

static snug_err put_merges(const writer *w, snug_error *err) {
    const bpe *m = &w->t->model;
    buf text = {0};
    gguf_str *s = malloc(((size_t)m->n_pairs + 1) * sizeof *s);
    size_t *at = malloc(((size_t)m->n_pairs + 1) * sizeof *at), n = 0;
    bool ok = s && at;
    for (uint32_t r = 0; ok && r < m->n_pairs; r++) {
        if (!bpe_merge_is_live(m, r)) continue;
        uint32_t a = m->pair[r].a, b = m->pair[r].b;
        at[n] = text.len;
        ok = buf_append(&text, vocab_text(&m->vocab, a), vocab_bytes(&m->vocab, a)) && buf_append(&text, " ", 1) &&
             buf_append(&text, vocab_text(&m->vocab, b), vocab_bytes(&m->vocab, b) + 1u);
        s[n].n = text.len - at[n] - 1;
        n++;
    }
    for (size_t i = 0; ok && i < n; i++) s[i].p = (const char *)text.data + at[i];
    ok = ok && gguf_put_str_array(w->out, KEY_MERGES, s, n);
    free(s);
    free(at);
    buf_fini(&text);
    return ok ? SNUG_OK : err_nomem(err, m->n_pairs * sizeof *s);
}

static snug_err put_pairs(const writer *w, snug_error *err) {
    const bpe *m = &w->t->model;
    buf ids = {0};
    bool ok = true;
    for (uint32_t r = 0; ok && r < m->n_pairs; r++)
        if (bpe_merge_is_live(m, r)) ok = buf_append_u32(&ids, m->pair[r].a) && buf_append_u32(&ids, m->pair[r].b);
    ok = ok && gguf_put_array(w->out, KEY_PAIRS, GGUF_U32, ids.data ? ids.data : (const uint8_t *)"", ids.len / 4);
    buf_fini(&ids);
    return ok ? SNUG_OK : err_nomem(err, m->n_pairs * 8);
}

/* ---- keys ---- */

static snug_err put_keys(const writer *w, snug_error *err) {
    const tokenizer *t = w->t;
    const char *source;
    size_t n;
    bool ok = gguf_put_str(w->out, KEY_MODEL, t->ggml_model, strlen(t->ggml_model));
    const char *pre = w->spm ? "default" : w->pre[0] ? w->pre : "snug";
    ok = ok && gguf_put_str(w->out, KEY_PRE, pre, strlen(pre));
    if (!w->spm && !w->pre[0] && pre_to_pattern(&t->pretok, &source, &n))
        ok = ok && gguf_put_str(w->out, KEY_PATTERN, source, n);
    if (!ok) return err_nomem(err, 64);
    snug_err e = put_tokens(w, err);
    if (!e && w->spm) e = put_scores(w, err);
    if (!e && !w->spm) e = put_merges(w, err);
    if (!e && w->spm && !w->t5 && !t->model.by_score) e = put_pairs(w, err);
    if (!e && w->t5) e = put_doubles(w, err);
    if (e) return e;
    for (int i = 0; i < N_ROLES && ok; i++)
        if (t->role[i] >= 0 && (uint32_t)t->role[i] < w->n_vocab)
            ok = gguf_put_u32(w->out, key_role[i], (uint32_t)t->role[i]);
    ok = ok && gguf_put_bool(w->out, KEY_ADD_BOS, t->n_prefix > 0 && t->prefix[0] == t->role[ROLE_BOS]) &&
         gguf_put_bool(w->out, KEY_ADD_EOS, t->n_suffix > 0 && t->suffix[t->n_suffix - 1] == t->role[ROLE_EOS]);
    if (w->spm) ok = ok && gguf_put_bool(w->out, KEY_SPACE_PREFIX, w->prefix);
    if (w->t5) ok = ok && gguf_put_bool(w->out, KEY_TRIM, w->trim) && (!w->map || put_charsmap(w));
    if (t->chat_template) ok = ok && gguf_put_str(w->out, KEY_TEMPLATE, t->chat_template, strlen(t->chat_template));
    return ok ? SNUG_OK : err_nomem(err, 64);
}

/* ---- what the plain keys do not say ---- */

/* Opens what has been written so far. */
static snug_err reopen(const writer *w, tokenizer **out, snug_error *err) {
    gguf_file g = {.file = {.fd = -1}};
    gguf_kv *kv;
    *out = NULL;
    snug_err e = gguf_parse_kvs("tokenizer", w->out->bytes.data, w->out->bytes.len, w->out->n, &g.mem, &kv, err);
    if (!e) e = gguf_merge_kvs(&g, kv, w->out->n, err);
    if (!e) e = tokenizer_open_gguf(&g, out, err);
    arena_fini(&g.mem);
    return e;
}

static snug_err equals(const tokenizer *a, const tokenizer *b, bool *out, snug_error *err) {
    buf x = {0}, y = {0};
    snug_err e = tokenizer_describe(a, &x, err);
    if (!e) e = tokenizer_describe(b, &y, err);
    *out = !e && same(&x, &y);
    buf_fini(&x);
    buf_fini(&y);
    return e;
}

static json_t *id_list(const int32_t *id, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_integer(id[i]));
    return list;
}

static json_t *parsed(const char *text) {
    return text ? json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : json_null();
}

static bool is_outside(const tokenizer *t, uint32_t id) {
    return t->outside && (t->outside[id >> 6] >> (id & 63) & 1);
}

/* The added tokens that the file's token types describe otherwise. Both lists are sorted by id. */
static json_t *added_differences(const tokenizer *t, const tokenizer *plain) {
    json_t *list = json_array();
    size_t k = 0;
    for (size_t i = 0; i < t->n_added; i++) {
        const added_token *a = &t->added[i];
        for (; k < plain->n_added && plain->added[k].id < a->id; k++)
            json_array_append_new(list, json_pack("{s:i, s:b}", "id", (int)plain->added[k].id, "none", 1));
        const added_token *b = k < plain->n_added && plain->added[k].id == a->id ? &plain->added[k++] : NULL;
        bool outside = is_outside(t, a->id),
             same_text = b && a->bytes == b->bytes && memcmp(a->content, b->content, a->bytes) == 0;
        if (same_text && a->special == b->special && a->normalized == b->normalized && a->lstrip == b->lstrip &&
            a->rstrip == b->rstrip && a->single_word == b->single_word && outside == is_outside(plain, a->id))
            continue;
        json_t *j = json_pack("{s:i, s:b, s:b, s:b, s:b, s:b, s:b}", "id", (int)a->id, "special", a->special,
                              "normalized", a->normalized, "lstrip", a->lstrip, "rstrip", a->rstrip, "single_word",
                              a->single_word, "outside", outside);
        if (!same_text) json_object_set_new(j, "content", json_stringn(a->content, a->bytes));
        json_array_append_new(list, j);
    }
    for (; k < plain->n_added; k++)
        json_array_append_new(list, json_pack("{s:i, s:b}", "id", (int)plain->added[k].id, "none", 1));
    return list;
}

static snug_err put_config(const writer *w, const tokenizer *plain, snug_error *err) {
    const tokenizer *t = w->t;
    const bpe *m = &t->model;
    json_t *norm = parsed(t->norm_json);
    buf map = {0};
    bool shared =
        !w->t5 || !w->map || (charsmap_blob(w->map, &map) && spm_refer_charsmap(norm, map.data, map.len, true));
    buf_fini(&map);
    if (!shared) {
        json_decref(norm);
        return err_nomem(err, 4096);
    }
    json_t *j = json_pack("{s:o, s:o, s:o, s:b, s:b, s:b, s:o, s:o, s:o, s:o, s:o}", "normalizer", norm,
                          "pre_tokenizer", parsed(t->pretok_json), "decoder", parsed(t->dec_json), "ignore_merges",
                          m->ignore_merges, "byte_fallback", m->byte_fallback, "fuse_unk", m->fuse_unk, "unk",
                          m->unk == VOCAB_NONE ? json_null() : json_integer(m->unk), "prefix",
                          id_list(t->prefix, t->n_prefix), "suffix", id_list(t->suffix, t->n_suffix), "eog",
                          id_list(t->eog, t->n_eog), "added", added_differences(t, plain));
    if (j && w->t5)
        json_object_set_new(j, "unigram",
                            json_string(t->lm.kind == UNIGRAM_TOKENIZERS ? "tokenizers" : "sentencepiece"));
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    bool ok = text && gguf_put_str(w->out, KEY_CONFIG, text, strlen(text));
    free(text);
    json_decref(j);
    return ok ? SNUG_OK : err_nomem(err, 4096);
}

/* Reads back; writes the config where the plain keys fall short; reads back again. A nameless pretokenizer that is not
 * a lone pattern cannot be opened without the config at all: every added token is then listed in it. */
static snug_err complete(const writer *w, snug_error *err) {
    tokenizer *plain = NULL, *full = NULL, none = {.n_added = 0};
    const char *source;
    size_t n;
    bool equal = false, opens = w->spm || w->pre[0] || pre_to_pattern(&w->t->pretok, &source, &n);
    snug_err e = opens ? reopen(w, &plain, err) : SNUG_OK;
    if (!e && opens) e = equals(w->t, plain, &equal, err);
    if (!e && !equal) {
        e = put_config(w, plain ? plain : &none, err);
        if (!e) e = reopen(w, &full, err);
        if (!e) e = equals(w->t, full, &equal, err);
        if (!e && !equal)
            e = err_set(err, SNUG_ERR_UNSUPPORTED, "the tokenizer cannot be written so that it opens the same");
    }
    tokenizer_close(&plain);
    tokenizer_close(&full);
    return e;
}

snug_err tokenizer_to_gguf(const tokenizer *t, uint32_t n_vocab, bool strict, gguf_kvs *out, snug_error *err) {
    gguf_kvs keys = {0};
    writer w = {.t = t,
                .n_vocab = n_vocab,
                .strict = strict,
                .spm = strcmp(t->ggml_model, "gpt2") != 0,
                .t5 = t->is_unigram,
                .out = &keys};
    for (uint32_t id = n_vocab; id < t->model.vocab.n; id++)
        if (token_type(&w, id) != TYPE_UNUSED)
            return err_set(err, SNUG_ERR_MISMATCH, "the tokenizer has the token %u '%.60s', the embedding only %u rows",
                           id, vocab_text(&t->model.vocab, id), n_vocab);
    snug_err e = choose_kind(&w, err);
    if (!e) e = put_keys(&w, err);
    if (!e) e = complete(&w, err);
    if (!e) {
        if (buf_append(&out->bytes, keys.bytes.data, keys.bytes.len))
            out->n += keys.n;
        else
            e = err_nomem(err, keys.bytes.len);
    }
    gguf_kvs_fini(&keys);
    return e;
}
