/* The tokenizer object: assembling what the readers found, encoding, decoding.
 *
 * Encoding follows `tokenizers` stage by stage: invalid UTF-8 is replaced; added tokens that match raw text are cut
 * out; what lies between is normalized; added tokens that match normalized text are cut out; the rest goes through the
 * pretokenizer and, word by word, through BPE. One piece of text between added tokens at a time, so scratch is bounded
 * by the longest. */
#include "base/err.h"
#include "base/hash.h"
#include "token/tokenizer_impl.h"
#include "token/utf8.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXT = 1 << 30, CACHE_FROM = 4096 };

const char *const token_role_name[N_ROLES] = {"bos", "eos", "unk", "sep", "pad", "mask", "eot", "eom"};

tokenizer *tokenizer_new(snug_error *err) {
    tokenizer *t = calloc(1, sizeof *t);
    if (!t) {
        err_nomem(err, sizeof *t);
        return NULL;
    }
    for (int i = 0; i < N_ROLES; i++) t->role[i] = -1;
    t->ggml_model = "gpt2";
    return t;
}

void tokenizer_close(tokenizer **t) {
    if (!*t) return;
    bpe_fini(&(*t)->model);
    unigram_fini(&(*t)->lm);
    normalizer_fini(&(*t)->norm);
    pretokenizer_fini(&(*t)->pretok);
    trie_fini(&(*t)->raw);
    trie_fini(&(*t)->normalized);
    arena_fini(&(*t)->mem);
    free(*t);
    *t = NULL;
}

/* ---- assembling ---- */

static snug_err keep_json(tokenizer *t, const json_t *j, const char **out, snug_error *err) {
    if (!j || json_is_null(j)) return SNUG_OK;
    char *text = json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    *out = text ? arena_strdup(&t->mem, text) : NULL;
    free(text);
    return *out ? SNUG_OK : err_nomem(err, 1024);
}

snug_err tokenizer_set_pipeline(tokenizer *t, const json_t *norm, const json_t *pretok, const json_t *dec,
                                snug_error *err) {
    snug_err e = normalizer_read(norm, &t->mem, &t->norm, err);
    if (!e) e = pretokenizer_read(pretok, &t->mem, &t->pretok, err);
    if (!e) e = decoder_read(dec, &t->mem, &t->dec, err);
    if (!e) e = keep_json(t, norm, &t->norm_json, err);
    if (!e) e = keep_json(t, pretok, &t->pretok_json, err);
    if (!e) e = keep_json(t, dec, &t->dec_json, err);
    return e;
}

/* The text that a `normalized` added token matches: its content, normalized. */
static snug_err add_to_trie(tokenizer *t, uint32_t index, pipe_work *w, snug_error *err) {
    added_token *a = &t->added[index];
    if (!a->normalized) return trie_add(&t->raw, a->content, a->bytes, index, err);
    const uint8_t *text;
    size_t n;
    snug_err e = normalizer_run(&t->norm, w, (const uint8_t *)a->content, a->bytes, &text, &n, err);
    if (e) return e;
    if (!(a->form = arena_strndup(&t->mem, (const char *)text, n))) return err_nomem(err, n);
    a->form_bytes = (uint32_t)n;
    return trie_add(&t->normalized, a->form, n, index, err);
}

static int spec_by_id(const void *a, const void *b) {
    const added_spec *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

snug_err tokenizer_set_added(tokenizer *t, added_spec *spec, size_t n, snug_error *err) {
    const vocab *v = &t->model.vocab;
    t->flag = arena_calloc(&t->mem, (size_t)v->n + 1, 1);
    t->added = arena_calloc(&t->mem, n + 1, sizeof *t->added);
    if (!t->flag || !t->added) return err_nomem(err, n * sizeof *t->added);
    pipe_work w = {0};
    snug_err e = SNUG_OK;
    if (n) qsort(spec, n, sizeof *spec, spec_by_id);
    for (size_t i = 0; i < n && !e; i++) {
        const added_spec *s = &spec[i];
        if (s->bytes == 0) continue;
        if (!vocab_has(v, s->id)) {
            e = err_set(err, SNUG_ERR_FORMAT, "added token '%.80s': no such id %u", s->text, s->id);
            break;
        }
        char *content = arena_strndup(&t->mem, s->text, s->bytes);
        if (!content)
            e = err_nomem(err, s->bytes);
        else if (utf8_valid_prefix((const uint8_t *)content, s->bytes) != s->bytes)
            e = err_set(err, SNUG_ERR_FORMAT, "added token %u is not UTF-8", s->id);
        if (e) break;
        t->added[t->n_added] = (added_token){s->id,     content,   (uint32_t)s->bytes, s->special, s->normalized,
                                             s->lstrip, s->rstrip, s->single_word,     NULL,       0};
        t->flag[s->id] |= (uint8_t)(FLAG_ADDED | (s->special ? FLAG_SPECIAL : 0));
        e = add_to_trie(t, (uint32_t)t->n_added++, &w, err);
    }
    pipe_work_fini(&w);
    return e;
}

static int by_id(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* What roles and texts tell: eos, eot, eom, and added tokens whose text says so. Where a model has <|return|> and
 * <|call|>, its
 * <|end|> only closes a part of the answer. */
static size_t known_eog(const tokenizer *t, int32_t *out) {
    static const token_role ends[] = {ROLE_EOS, ROLE_EOT, ROLE_EOM};
    bool has_return = false, has_call = false;
    size_t n = 0;
    for (size_t i = 0; i < t->n_added; i++) {
        has_return |= strcmp(t->added[i].content, "<|return|>") == 0;
        has_call |= strcmp(t->added[i].content, "<|call|>") == 0;
    }
    for (int i = 0; i < 3; i++)
        if (t->role[ends[i]] >= 0) out[n++] = t->role[ends[i]];
    for (size_t i = 0; i < t->n_added; i++) {
        const char *text = t->added[i].content;
        if (!tokenizer_text_is_eog(text) || (has_return && has_call && strcmp(text, "<|end|>") == 0)) continue;
        out[n++] = (int32_t)t->added[i].id;
    }
    return n;
}

static snug_err build_eog(tokenizer *t, const int32_t *more, size_t n_more, bool exact, snug_error *err) {
    t->eog = arena_calloc(&t->mem, t->n_added + n_more + N_ROLES, sizeof *t->eog);
    if (!t->eog) return err_nomem(err, t->n_added * sizeof *t->eog);
    size_t n = exact ? 0 : known_eog(t, t->eog);
    for (size_t i = 0; i < n_more; i++)
        if (more[i] >= 0 && (uint32_t)more[i] < t->model.vocab.n) t->eog[n++] = more[i];
    qsort(t->eog, n, sizeof *t->eog, by_id);
    t->n_eog = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || t->eog[i] != t->eog[i - 1]) t->eog[t->n_eog++] = t->eog[i];
    return SNUG_OK;
}

snug_err tokenizer_finish(tokenizer *t, const int32_t *eog, size_t n_eog, bool exact, snug_error *err) {
    t->model.frozen = t->model.by_score ? normalizer_user_defined(&t->norm) : NULL;
    snug_err e = bpe_finish(&t->model, err);
    for (int i = 0; i < N_ROLES; i++)
        if (t->role[i] >= 0 && !vocab_has(&t->model.vocab, (uint32_t)t->role[i])) t->role[i] = -1;
    decoder_leading(&t->dec, &t->lead, &t->lead_bytes, &t->n_lead, &t->first_token);
    if (!e) e = build_eog(t, eog, n_eog, exact, err);
    return e;
}

/* ---- encoding ---- */

typedef struct encoding {
    const tokenizer *t;
    bool parse_special;
    pipe_work pipe;
    bpe_scratch bpe;
    buf ids, raw_spans, inner_spans, lattice;
} encoding;

static snug_err encode_words(encoding *x, const uint8_t *text, size_t n, bool at_start, snug_error *err) {
    const uint8_t *words;
    const pipe_span *span;
    size_t n_spans;
    snug_err e = pretokenizer_run(&x->t->pretok, &x->pipe, text, n, at_start, &words, &span, &n_spans, err);
    for (size_t i = 0; i < n_spans && !e; i++) {
        const uint8_t *word = words + span[i].start;
        size_t bytes = span[i].end - span[i].start;
        e = x->t->is_unigram ? unigram_encode(&x->t->lm, &x->t->model, &x->lattice, word, bytes, &x->ids, err)
                             : bpe_encode(&x->t->model, &x->bpe, word, bytes, &x->ids, err);
    }
    return e;
}

/* One stretch of raw text between added tokens. */
static snug_err encode_stretch(encoding *x, const uint8_t *text, size_t n, bool at_start, snug_error *err) {
    const uint8_t *normal;
    size_t bytes;
    snug_err e = normalizer_run(&x->t->norm, &x->pipe, text, n, &normal, &bytes, err);
    if (e) return e;
    if (!x->t->normalized.n_edges) return bytes ? encode_words(x, normal, bytes, at_start, err) : SNUG_OK;
    x->inner_spans.len = 0;
    e = added_split(&x->t->normalized, x->t->added, normal, bytes, x->parse_special, &x->inner_spans, err);
    size_t n_spans = x->inner_spans.len / sizeof(added_span);
    buf keep = {0}; /* the pretokenizer reuses the buffers in which the normalized text may lie */
    if (!e && n_spans > 1) {
        if (!buf_append(&keep, normal, bytes)) e = err_nomem(err, bytes);
        normal = keep.data;
    }
    const added_span *s = (const added_span *)x->inner_spans.data;
    for (size_t i = 0; i < n_spans && !e; i++) {
        if (s[i].id < 0)
            e = encode_words(x, normal + s[i].start, s[i].end - s[i].start, at_start && s[i].start == 0, err);
        else if (!buf_append_u32(&x->ids, (uint32_t)s[i].id))
            e = err_nomem(err, x->ids.len);
    }
    buf_fini(&keep);
    return e;
}

static snug_err encode_text(encoding *x, const uint8_t *text, size_t n, snug_error *err) {
    snug_err e = added_split(&x->t->raw, x->t->added, text, n, x->parse_special, &x->raw_spans, err);
    const added_span *s = (const added_span *)x->raw_spans.data;
    for (size_t i = 0; i < x->raw_spans.len / sizeof *s && !e; i++) {
        if (s[i].id < 0)
            e = encode_stretch(x, text + s[i].start, s[i].end - s[i].start, s[i].start == 0, err);
        else if (!buf_append_u32(&x->ids, (uint32_t)s[i].id))
            e = err_nomem(err, x->ids.len);
    }
    return e;
}

snug_err tokenizer_encode(const tokenizer *t, const char *text, size_t bytes, bool add_special, bool parse_special,
                          int32_t *ids, size_t cap, size_t *n, snug_error *err) {
    encoding x = {.t = t, .parse_special = parse_special};
    buf clean = {0};
    *n = 0;
    if (bytes > MAX_TEXT) return err_set(err, SNUG_ERR_ARG, "a text of %zu bytes, at most %d at once", bytes, MAX_TEXT);
    const uint8_t *p = (const uint8_t *)text;
    snug_err e = SNUG_OK;
    if (bytes > CACHE_FROM) bpe_scratch_use_cache(&x.bpe);
    for (size_t i = 0; add_special && i < t->n_prefix && !e; i++)
        if (!buf_append_u32(&x.ids, (uint32_t)t->prefix[i])) e = err_nomem(err, 4);
    if (!e && utf8_valid_prefix(p, bytes) != bytes) {
        if (utf8_sanitize(p, bytes, &clean))
            p = clean.data, bytes = clean.len;
        else
            e = err_nomem(err, bytes);
    }
    if (!e && bytes) e = encode_text(&x, p, bytes, err);
    for (size_t i = 0; add_special && i < t->n_suffix && !e; i++)
        if (!buf_append_u32(&x.ids, (uint32_t)t->suffix[i])) e = err_nomem(err, 4);
    if (!e) {
        *n = x.ids.len / sizeof *ids;
        size_t copy = *n < cap ? *n : cap;
        if (copy) memcpy(ids, x.ids.data, copy * sizeof *ids);
    }
    buf_fini(&clean);
    buf_fini(&x.ids);
    buf_fini(&x.raw_spans);
    buf_fini(&x.inner_spans);
    buf_fini(&x.lattice);
    pipe_work_fini(&x.pipe);
    bpe_scratch_fini(&x.bpe);
    return e;
}

/* ---- decoding ---- */

typedef struct sink {
    char *text;
    size_t cap, n;
    const char *skip; /* these bytes, whole, at most n_skip times at the very start */
    size_t skip_bytes;
    uint64_t n_skip;
} sink;

static void put(sink *s, const char *p, size_t n) {
    while (s->n_skip > 0 && n > 0) { /* a token that is not the leading character ends the leading part */
        if (n < s->skip_bytes || memcmp(p, s->skip, s->skip_bytes) != 0) {
            s->n_skip = 0;
            break;
        }
        s->n_skip--;
        p += s->skip_bytes;
        n -= s->skip_bytes;
    }
    if (s->n < s->cap && n) memcpy(s->text + s->n, p, n < s->cap - s->n ? n : s->cap - s->n);
    s->n += n;
}

/* The Metaspace decoder's first token: its markers vanish instead of becoming spaces. */
static void put_first(const tokenizer *t, sink *s, uint32_t id) {
    const char *p = vocab_text(&t->model.vocab, id);
    size_t n = vocab_bytes(&t->model.vocab, id), m = t->first_token->from_bytes;
    while (n > 0) {
        const char *hit = bytes_find(p, n, t->first_token->from, m);
        size_t k = hit ? (size_t)(hit - p) : n;
        put(s, p, k);
        p += hit ? k + m : k;
        n -= hit ? k + m : k;
    }
}

static int added_by_id(const void *key, const void *a) {
    uint32_t id = *(const uint32_t *)key, other = ((const added_token *)a)->id;
    return (id > other) - (id < other);
}

/* What a token means as bytes: `tokenizers` decodes the normalized form of an added token that has one. */
static snug_err token_bytes(const tokenizer *t, uint32_t id, buf *out, snug_error *err) {
    const added_token *a =
        t->flag[id] & FLAG_ADDED ? bsearch(&id, t->added, t->n_added, sizeof *t->added, added_by_id) : NULL;
    out->len = 0;
    if (a && a->form) return decoder_token(&t->dec, a->form, a->form_bytes, out, err);
    return decoder_token(&t->dec, vocab_text(&t->model.vocab, id), vocab_bytes(&t->model.vocab, id), out, err);
}

static snug_err decode(const tokenizer *t, const int32_t *ids, size_t n_ids, bool special, bool from_start, char *text,
                       size_t cap, size_t *n_bytes, snug_error *err) {
    sink s = {text, cap, 0, t->lead, t->lead_bytes, from_start ? t->n_lead : 0};
    bool first = from_start;
    buf bytes = {0};
    snug_err e = SNUG_OK;
    for (size_t i = 0; i < n_ids && !e; i++) {
        uint32_t id = (uint32_t)ids[i];
        if (id >= t->model.vocab.n) {
            e = err_set(err, SNUG_ERR_ARG, "token id %d, the vocabulary has 0 to %u", ids[i], t->model.vocab.n - 1);
            break;
        }
        if (!vocab_has(&t->model.vocab, id) || (!special && (t->flag[id] & FLAG_SPECIAL))) continue;
        if (!t->dec.present && !first) put(&s, " ", 1);
        if (first && t->first_token) {
            put_first(t, &s, id);
        } else {
            e = token_bytes(t, id, &bytes, err);
            if (!e) put(&s, (const char *)bytes.data, bytes.len);
        }
        first = false;
    }
    buf_fini(&bytes);
    *n_bytes = s.n;
    return e;
}

snug_err tokenizer_decode(const tokenizer *t, const int32_t *ids, size_t n_ids, bool special, char *text, size_t cap,
                          size_t *n_bytes, snug_error *err) {
    return decode(t, ids, n_ids, special, true, text, cap, n_bytes, err);
}

snug_err tokenizer_decode_more(const tokenizer *t, const int32_t *ids, size_t n_ids, bool special, char *text,
                               size_t cap, size_t *n_bytes, snug_error *err) {
    return decode(t, ids, n_ids, special, false, text, cap, n_bytes, err);
}

/* ---- queries ---- */

uint32_t tokenizer_n_vocab(const tokenizer *t) {
    return t->model.vocab.n;
}
int32_t tokenizer_bos(const tokenizer *t) {
    return t->role[ROLE_BOS];
}
int32_t tokenizer_eos(const tokenizer *t) {
    return t->role[ROLE_EOS];
}
bool tokenizer_adds_bos(const tokenizer *t) {
    return t->n_prefix > 0 && t->prefix[0] == t->role[ROLE_BOS];
}
const char *tokenizer_chat_template(const tokenizer *t) {
    return t->chat_template;
}
/* Fillers are left out: they stand for rows of the embedding that have no token, and only GGUF names them. */
uint64_t tokenizer_fingerprint(const tokenizer *t) {
    const vocab *v = &t->model.vocab;
    uint64_t sum = 0;
    for (uint32_t id = 0; id < v->n; id++) {
        if (!vocab_has(v, id) || (t->flag[id] & FLAG_FILLER)) continue;
        uint64_t part[3] = {sum, id, hash_bytes(vocab_text(v, id), vocab_bytes(v, id))};
        sum = hash_bytes(part, sizeof part);
    }
    return sum;
}

const char *tokenizer_piece(const tokenizer *t, int32_t id) {
    return id >= 0 && vocab_has(&t->model.vocab, (uint32_t)id) ? vocab_text(&t->model.vocab, (uint32_t)id) : NULL;
}

bool tokenizer_is_eog(const tokenizer *t, int32_t id) {
    return id >= 0 && bsearch(&id, t->eog, t->n_eog, sizeof id, by_id) != NULL;
}
