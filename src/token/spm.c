/* SentencePiece's tokenizer.model: a protocol buffer (ModelProto of sentencepiece_model.proto). Of its fields these
 * matter:
 *
 *   1 pieces           { 1 piece: string, 2 score: float, 3 type: 1 normal 2 unknown 3 control 4 user-defined 5 unused
 * 6 byte }, one per id 2 trainer_spec     { 3 model_type: 1 unigram 2 BPE, 24 treat_whitespace_as_suffix, 35
 * byte_fallback, 40-43 unk, bos, eos, pad id } 3 normalizer_spec  { 2 precompiled_charsmap, 3 add_dummy_prefix, 4
 * remove_extra_whitespaces, 5 escape_whitespaces } 5 denormalizer_spec
 *
 * Ids are those of the sentencepiece library. On top of it come added tokens, as transformers has them: control pieces,
 * the unknown piece and what the files beside it list are matched in the raw text, and each stretch between them is
 * encoded by itself. */
#include "base/err.h"
#include "token/gguf_keys.h"
#include "token/hf_added.h"
#include "token/hf_side.h"
#include "token/utf8.h"
#include <stdlib.h>
#include <string.h>

/* ---- the wire format ---- */

typedef struct field {
    uint32_t number, wire; /* wire 0: value; 2: p, n; 5: value */
    uint64_t value;
    const uint8_t *p;
    size_t n;
} field;

typedef struct message {
    const char *what;
    const uint8_t *p, *end;
} message;

static bool read_varint(message *m, uint64_t *out) {
    *out = 0;
    for (int shift = 0; shift < 70 && m->p < m->end; shift += 7) {
        uint8_t b = *m->p++;
        if (shift < 64) *out |= (uint64_t)(b & 0x7F) << shift;
        if (!(b & 0x80)) return true;
    }
    return false;
}

static bool read_fixed(message *m, size_t n, uint64_t *out) {
    if ((size_t)(m->end - m->p) < n) return false;
    *out = 0;
    for (size_t i = n; i-- > 0;) *out = *out << 8 | m->p[i];
    m->p += n;
    return true;
}

/* *any false: the message has ended. */
static snug_err next_field(message *m, field *f, bool *any, snug_error *err) {
    uint64_t tag;
    *any = m->p < m->end;
    if (!*any) return SNUG_OK;
    bool ok = read_varint(m, &tag) && tag >> 3 > 0 && tag >> 3 < 1u << 29;
    *f = (field){.number = (uint32_t)(tag >> 3), .wire = tag & 7};
    if (ok && f->wire == 0) {
        ok = read_varint(m, &f->value);
    } else if (ok && f->wire == 2) {
        ok = read_varint(m, &f->value) && f->value <= (uint64_t)(m->end - m->p);
        if (ok) {
            f->p = m->p;
            f->n = (size_t)f->value;
            m->p += f->n;
        }
    } else if (ok) {
        ok = (f->wire == 1 || f->wire == 5) && read_fixed(m, f->wire == 1 ? 8 : 4, &f->value);
    }
    return ok ? SNUG_OK
              : err_set(err, SNUG_ERR_FORMAT, "%s: not a SentencePiece model: a broken field in its %s", m->what,
                        f->number ? "messages" : "tags");
}

/* ---- the fields ---- */

typedef struct piece {
    const char *text;
    uint32_t bytes, type;
    float score;
} piece;

enum { MODEL_UNIGRAM = 1, MODEL_BPE = 2 };

typedef struct spm {
    const char *what;
    buf pieces; /* piece[] */
    uint64_t model_type;
    bool byte_fallback, suffix, prefix, trim, escape, denormalizes;
    int32_t unk, bos, eos, pad;
    const uint8_t *map;
    size_t map_bytes;
} spm;

static piece *piece_at(const spm *s, size_t i) {
    return (piece *)(void *)s->pieces.data + i;
}
static uint32_t n_pieces(const spm *s) {
    return (uint32_t)(s->pieces.len / sizeof(piece));
}

static snug_err read_piece(spm *s, const field *whole, snug_error *err) {
    message m = {s->what, whole->p, whole->p + whole->n};
    piece p = {.text = "", .type = TYPE_NORMAL};
    field f;
    bool any;
    for (snug_err e;;) {
        if ((e = next_field(&m, &f, &any, err))) return e;
        if (!any) break;
        uint32_t bits = (uint32_t)f.value;
        if (f.number == 1 && f.wire == 2 && f.n < UINT32_MAX) p.text = (const char *)f.p, p.bytes = (uint32_t)f.n;
        if (f.number == 2 && f.wire == 5) memcpy(&p.score, &bits, sizeof bits);
        if (f.number == 3 && f.wire == 0) p.type = bits;
    }
    uint32_t id = n_pieces(s);
    if (p.bytes == 0 || memchr(p.text, 0, p.bytes) || utf8_valid_prefix((const uint8_t *)p.text, p.bytes) != p.bytes)
        return err_set(err, SNUG_ERR_FORMAT, "%s: piece %u is empty or not UTF-8", s->what, id);
    if (p.type < TYPE_NORMAL || p.type > TYPE_BYTE)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: piece %u has the type %u, 1 to 6 are known", s->what, id,
                       p.type);
    if (!(p.score >= -3e38f && p.score <= 3e38f))
        return err_set(err, SNUG_ERR_FORMAT, "%s: the score of piece %u is no number", s->what, id);
    if (id == VOCAB_MAX_TOKENS)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: more than %d pieces", s->what, VOCAB_MAX_TOKENS);
    return buf_append(&s->pieces, &p, sizeof p) ? SNUG_OK : err_nomem(err, s->pieces.len);
}

static snug_err read_trainer(spm *s, const field *whole, snug_error *err) {
    message m = {s->what, whole->p, whole->p + whole->n};
    field f;
    bool any;
    for (snug_err e;;) {
        if ((e = next_field(&m, &f, &any, err))) return e;
        if (!any) return SNUG_OK;
        if (f.wire != 0) continue;
        int32_t id = f.value <= INT32_MAX ? (int32_t)f.value : -1;
        switch (f.number) {
        case 3:
            s->model_type = f.value;
            break;
        case 24:
            s->suffix = f.value != 0;
            break;
        case 35:
            s->byte_fallback = f.value != 0;
            break;
        case 40:
            s->unk = id;
            break;
        case 41:
            s->bos = id;
            break;
        case 42:
            s->eos = id;
            break;
        case 43:
            s->pad = id;
            break;
        default:
            break;
        }
    }
}

static snug_err read_normalizer(spm *s, const field *whole, snug_error *err) {
    message m = {s->what, whole->p, whole->p + whole->n};
    field f;
    bool any;
    for (snug_err e;;) {
        if ((e = next_field(&m, &f, &any, err))) return e;
        if (!any) return SNUG_OK;
        if (f.number == 2 && f.wire == 2) s->map = f.p, s->map_bytes = f.n;
        if (f.number == 3 && f.wire == 0) s->prefix = f.value != 0;
        if (f.number == 4 && f.wire == 0) s->trim = f.value != 0;
        if (f.number == 5 && f.wire == 0) s->escape = f.value != 0;
    }
}

static snug_err read_denormalizer(spm *s, const field *whole, snug_error *err) {
    message m = {s->what, whole->p, whole->p + whole->n};
    field f;
    bool any;
    for (snug_err e;;) {
        if ((e = next_field(&m, &f, &any, err))) return e;
        if (!any) return SNUG_OK;
        if (f.number == 2 && f.wire == 2 && f.n > 0) s->denormalizes = true;
    }
}

static snug_err parse(spm *s, const uint8_t *bytes, size_t n, snug_error *err) {
    message m = {s->what, bytes, bytes + n};
    field f;
    bool any;
    for (snug_err e = SNUG_OK;;) {
        e = next_field(&m, &f, &any, err);
        if (e || !any) return e;
        if (f.wire != 2) continue;
        if (f.number == 1) e = read_piece(s, &f, err);
        if (f.number == 2) e = read_trainer(s, &f, err);
        if (f.number == 3) e = read_normalizer(s, &f, err);
        if (f.number == 5) e = read_denormalizer(s, &f, err);
        if (e) return e;
    }
}

/* What is not done exactly, and what the library refuses. */
static snug_err check(spm *s, snug_error *err) {
    uint32_t bytes = 0, unknown = 0, unused = 0;
    for (uint32_t i = 0; i < n_pieces(s); i++) {
        const piece *p = piece_at(s, i);
        bytes += p->type == TYPE_BYTE;
        unknown += p->type == TYPE_UNKNOWN;
        unused += p->type == TYPE_UNUSED;
        if (p->type == TYPE_UNKNOWN) s->unk = (int32_t)i;
    }
    const char *what = NULL;
    if (s->model_type != MODEL_UNIGRAM && s->model_type != MODEL_BPE)
        what = "a model_type that is neither UNIGRAM nor BPE";
    if (s->suffix) what = "treat_whitespace_as_suffix";
    if (s->denormalizes) what = "a denormalizer";
    if (unused && s->model_type == MODEL_BPE) what = "unused pieces in a BPE model";
    if (what) return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: %s is not supported", s->what, what);
    if (unknown != 1)
        return err_set(err, SNUG_ERR_FORMAT, "%s: %u pieces of type UNKNOWN, expected one", s->what, unknown);
    if (s->byte_fallback != (bytes > 0) || (bytes > 0 && bytes != 256))
        return err_set(err, SNUG_ERR_FORMAT, "%s: %u pieces of type BYTE, byte_fallback is %s", s->what, bytes,
                       s->byte_fallback ? "on" : "off");
    return SNUG_OK;
}

/* ---- the tokenizer ---- */

static void set(uint64_t *bits, uint32_t i) {
    bits[i >> 6] |= 1ull << (i & 63);
}
static bool get(const uint64_t *bits, uint32_t i) {
    return bits[i >> 6] >> (i & 63) & 1;
}

/* A piece that text may become: normal or user-defined, and its text not that of an added token now. */
static bool matches_text(const tokenizer *t, const piece *p, uint32_t id) {
    return (p->type == TYPE_NORMAL || p->type == TYPE_USER) && !get(t->outside, id);
}

/* The pieces' texts, then the added tokens'. */
static snug_err build_texts(const spm *s, hf_added *added, vocab *v, snug_error *err) {
    vocab_builder b = {0};
    snug_err e = SNUG_OK;
    for (uint32_t i = 0; i < n_pieces(s) && !e; i++)
        e = vocab_add(&b, i, piece_at(s, i)->text, piece_at(s, i)->bytes, true, err);
    if (!e) e = vocab_build(&b, v, err);
    vocab_builder_fini(&b);
    return e ? e : hf_added_extend(added, v, true, err);
}

/* Added tokens, control and unknown pieces are outside the model; these, bytes and unused pieces are not looked up. */
static snug_err unindex(const spm *s, tokenizer *t, vocab *v, snug_error *err) {
    t->outside = arena_calloc(&t->mem, v->n / 64 + 1, sizeof *t->outside);
    uint64_t *drop = calloc(v->n / 64 + 1, sizeof *drop);
    if (!t->outside || !drop) {
        free(drop);
        return err_nomem(err, v->n / 8);
    }
    for (uint32_t i = 0; i < v->n; i++) {
        const piece *p = i < n_pieces(s) ? piece_at(s, i) : NULL;
        if (!vocab_has(v, i)) continue;
        bool own = p && vocab_bytes(v, i) == p->bytes && memcmp(vocab_text(v, i), p->text, p->bytes) == 0;
        if (!own || p->type == TYPE_CONTROL || p->type == TYPE_UNKNOWN) set(t->outside, i);
        if (!own || !matches_text(t, p, i)) set(drop, i);
    }
    vocab_unindex(v, drop);
    free(drop);
    return SNUG_OK;
}

static snug_err refuse_twins(const spm *s, const tokenizer *t, const vocab *v, snug_error *err) {
    for (uint32_t i = 0; i < n_pieces(s); i++) {
        const piece *p = piece_at(s, i);
        if (matches_text(t, p, i) && vocab_find(v, p->text, p->bytes) != i)
            return err_set(err, SNUG_ERR_FORMAT, "%s: piece %u '%.*s' comes twice", s->what, i,
                           (int)(p->bytes < 60 ? p->bytes : 60), p->text);
    }
    return SNUG_OK;
}

static snug_err build_vocab(const spm *s, tokenizer *t, hf_added *added, snug_error *err) {
    vocab v = {0};
    snug_err e = build_texts(s, added, &v, err);
    if (!e) e = unindex(s, t, &v, err);
    if (!e) e = refuse_twins(s, t, &v, err);
    if (!e) bpe_init(&t->model, &v);
    vocab_fini(&v);
    return e;
}

static snug_err set_model(const spm *s, tokenizer *t, snug_error *err) {
    uint32_t n = t->model.vocab.n, n_own = n_pieces(s);
    float *score = malloc(((size_t)n + 1) * sizeof *score);
    double *wide = malloc(((size_t)n + 1) * sizeof *wide);
    uint64_t *matches = calloc(n / 64 + 1, sizeof *matches), *normal = calloc(n / 64 + 1, sizeof *normal);
    bool ok = score && wide && matches && normal;
    for (uint32_t i = 0; i < n && ok; i++) {
        const piece *p = i < n_own ? piece_at(s, i) : NULL;
        score[i] = p ? p->score : -1000;
        wide[i] = (double)score[i];
        if (p && p->type == TYPE_NORMAL) set(normal, i);
        if (p && matches_text(t, p, i)) set(matches, i);
    }
    snug_err e = ok ? SNUG_OK : err_nomem(err, n * sizeof *wide);
    t->model.unk = (uint32_t)s->unk;
    t->model.byte_fallback = s->byte_fallback;
    t->model.fuse_unk = true;
    t->n_model = n_own;
    t->is_unigram = s->model_type == MODEL_UNIGRAM;
    t->ggml_model = t->is_unigram ? "t5" : "llama";
    if (!e && t->is_unigram)
        e = unigram_init(&t->lm, UNIGRAM_SENTENCEPIECE, &t->model.vocab, wide, n, matches, normal,
                         normalizer_user_defined(&t->norm), err);
    else if (!e)
        e = bpe_set_scores(&t->model, score, err);
    free(score);
    free(wide);
    free(matches);
    free(normal);
    return e;
}

static json_t *user_defined(const spm *s, const hf_added *added) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < n_pieces(s); i++) {
        const piece *p = piece_at(s, i);
        if (p->type == TYPE_USER && !hf_added_has(added, i))
            json_array_append_new(list, json_stringn(p->text, p->bytes));
    }
    return list;
}

/* "legacy": false in tokenizer_config.json: the prefix stands at the start of a text alone, not behind added tokens. */
static snug_err set_pipeline(const spm *s, tokenizer *t, const hf_added *added, snug_error *err) {
    bool first_only = s->prefix && json_is_false(json_object_get(added->config, "legacy"));
    json_t *norm =
        spm_step_json(s->map, s->map_bytes, s->prefix && !first_only, s->trim, s->escape, user_defined(s, added));
    json_t *dec = spm_decoder_json(s->prefix || s->trim), *pretok = NULL;
    if (first_only)
        pretok = json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", "\xE2\x96\x81", "prepend_scheme",
                           "first", "split", 0);
    snug_err e = norm && dec && (pretok || !first_only) ? SNUG_OK : err_nomem(err, s->map_bytes);
    if (!e) e = tokenizer_set_pipeline(t, norm, pretok, dec, err);
    json_decref(norm);
    json_decref(pretok);
    json_decref(dec);
    return e;
}

/* The text's own special tokens come first; the files beside the model may say more about them. */
static snug_err collect_added(const spm *s, const char *dir, hf_added *added, snug_error *err) {
    snug_err e = SNUG_OK;
    for (uint32_t i = 0; i < n_pieces(s) && !e; i++) {
        const piece *p = piece_at(s, i);
        if (p->type == TYPE_CONTROL || p->type == TYPE_UNKNOWN)
            e = hf_added_put(added, (added_spec){.id = i, .text = p->text, .bytes = p->bytes, .special = true}, err);
    }
    return e ? e : hf_added_read(added, dir, err);
}

static void set_default_roles(const spm *s, tokenizer *t) {
    const int32_t id[] = {s->bos, s->eos, s->unk, s->pad};
    const token_role role[] = {ROLE_BOS, ROLE_EOS, ROLE_UNK, ROLE_PAD};
    for (int i = 0; i < 4; i++)
        if (t->role[role[i]] < 0 && id[i] >= 0 && (uint32_t)id[i] < n_pieces(s)) t->role[role[i]] = id[i];
}

/* What stands around a text: what tokenizer_config.json says; else BOS, as Llama's class has it, or EOS, as T5's. */
static void set_affixes(tokenizer *t, const json_t *config) {
    const char *class = json_string_value(json_object_get(config, "tokenizer_class"));
    const json_t *bos = json_object_get(config, "add_bos_token"), *eos = json_object_get(config, "add_eos_token");
    bool t5 = class && strncmp(class, "T5", 2) == 0;
    bool first = json_is_boolean(bos) ? json_is_true(bos) : !t5, last = json_is_boolean(eos) ? json_is_true(eos) : t5;
    t->n_prefix = t->n_suffix = 0;
    if (first && t->role[ROLE_BOS] >= 0) t->prefix[t->n_prefix++] = t->role[ROLE_BOS];
    if (last && t->role[ROLE_EOS] >= 0) t->suffix[t->n_suffix++] = t->role[ROLE_EOS];
}

snug_err hf_open_spm(tokenizer *t, const char *dir, const char *what, const uint8_t *bytes, size_t n, snug_error *err) {
    spm s = {.what = what,
             .model_type = MODEL_UNIGRAM,
             .prefix = true,
             .trim = true,
             .escape = true,
             .bos = 1,
             .eos = 2,
             .pad = -1};
    hf_added added = {0};
    int32_t more[HF_MAX_EOG];
    size_t n_more = 0, n_spec;
    snug_err e = parse(&s, bytes, n, err);
    if (!e) e = check(&s, err);
    if (!e) e = collect_added(&s, dir, &added, err);
    if (!e) e = build_vocab(&s, t, &added, err);
    if (!e) e = set_pipeline(&s, t, &added, err);
    if (!e) e = set_model(&s, t, err);
    if (!e) {
        added_spec *spec = hf_added_spec(&added, &n_spec);
        e = tokenizer_set_added(t, spec, n_spec, err);
    }
    if (!e && dir) e = hf_read_sidecars(t, dir, NULL, more, &n_more, err);
    if (!e) {
        set_default_roles(&s, t);
        set_affixes(t, added.config);
        e = tokenizer_finish(t, more, n_more, false, err);
    }
    hf_added_fini(&added);
    buf_fini(&s.pieces);
    return e;
}
