/* What a tokenizer does, as text: for finding the GGUF name of a pretokenizer, and for checking, after writing a GGUF,
 * that reading it back gives the same tokenizer. */
#include "base/err.h"
#include "token/tokenizer_impl.h"
#include "token/utf8.h"

static bool put_pattern(const pattern *p, buf *out) {
    if (!p) return true;
    size_t n;
    bool is_regex;
    const char *s = pattern_source(p, &n, &is_regex);
    return buf_printf(out, " %s %zu:", is_regex ? "regex" : "literal", n) && buf_append(out, s, n);
}

static bool put_spm(const norm_step *s, buf *out) {
    if (s->kind == NORM_PRECOMPILED) return buf_printf(out, " map %llx", (unsigned long long)s->map.hash);
    if (s->kind != NORM_SENTENCEPIECE) return true;
    return buf_printf(out, " map %llx %d%d%d keep %llx", (unsigned long long)s->map.hash, s->spm->prefix, s->spm->trim,
                      s->spm->escape, (unsigned long long)s->spm->keep_hash);
}

snug_err normalizer_describe(const normalizer *n, buf *out, snug_error *err) {
    bool ok = true;
    for (size_t i = 0; i < n->n && ok; i++) {
        const norm_step *s = &n->step[i];
        ok = buf_printf(out, "norm %d %d%d %zu:", s->kind, s->left, s->right, s->text_bytes) &&
             (!s->text_bytes || buf_append(out, s->text, s->text_bytes)) && put_pattern(s->pattern, out) &&
             put_spm(s, out) && buf_append_str(out, "\n");
    }
    return ok ? SNUG_OK : err_nomem(err, out->len);
}

snug_err pretokenizer_describe(const pretokenizer *p, buf *out, snug_error *err) {
    bool ok = true;
    for (size_t i = 0; i < p->n && ok; i++) {
        const pretok_step *s = &p->step[i];
        ok = buf_printf(out, "pretok %d %d%d%d%d%d %d %zu:", s->kind, s->behavior, s->invert, s->prefix_space,
                        s->use_regex, s->split, s->scheme, s->marker_bytes) &&
             (!s->marker_bytes || buf_append(out, s->marker, s->marker_bytes)) && put_pattern(s->pattern, out) &&
             buf_append_str(out, "\n");
    }
    return ok ? SNUG_OK : err_nomem(err, out->len);
}

static bool describe_decoder(const decoder *d, buf *out) {
    bool ok = buf_printf(out, "decoder %d\n", d->present);
    for (size_t i = 0; i < d->n && ok; i++) {
        const decode_step *s = &d->step[i];
        ok = buf_printf(out, "decode %d %.*s>%.*s %llu %llu %d\n", s->kind, (int)s->from_bytes, s->from ? s->from : "",
                        (int)s->to_bytes, s->to ? s->to : "", (unsigned long long)s->start, (unsigned long long)s->stop,
                        s->prepended);
    }
    return ok;
}

static bool describe_ids(const char *what, const int32_t *id, size_t n, buf *out) {
    bool ok = buf_printf(out, "%s", what);
    for (size_t i = 0; i < n && ok; i++) ok = buf_printf(out, " %d", id[i]);
    return ok && buf_append_str(out, "\n");
}

/* Whether an added token is in the model's own vocabulary matters where whole words or texts are looked up there. */
static bool outside_matters(const tokenizer *t, const added_token *a) {
    return t->model.ignore_merges || t->model.by_score || t->is_unigram ||
           a->bytes == utf8_length((uint8_t)a->content[0]);
}

/* With the whole byte alphabet in the vocabulary no character is ever unknown. */
static bool unknown_matters(const tokenizer *t) {
    if (!t->pretok.byte_level) return true;
    for (int b = 0; b < 256; b++)
        if (t->model.char_id[byte_alphabet_char((uint8_t)b)] == VOCAB_NONE) return true;
    return false;
}

snug_err tokenizer_describe(const tokenizer *t, buf *out, snug_error *err) {
    snug_err e = normalizer_describe(&t->norm, out, err);
    if (!e) e = pretokenizer_describe(&t->pretok, out, err);
    if (e) return e;
    const bpe *m = &t->model;
    bool ok = describe_decoder(&t->dec, out) && describe_ids("prefix", t->prefix, t->n_prefix, out) &&
              describe_ids("suffix", t->suffix, t->n_suffix, out) && describe_ids("eog", t->eog, t->n_eog, out);
    ok = ok && buf_printf(out, "model score=%d ignore_merges=%d\n", m->by_score, m->ignore_merges);
    if (t->is_unigram)
        ok = ok && buf_printf(out, "unigram %d %a %llx\n", t->lm.kind, t->lm.unk_score, (unsigned long long)t->lm.hash);
    if (unknown_matters(t))
        ok = ok && buf_printf(out, "unknown %d%d %d\n", m->byte_fallback && !m->by_score, m->fuse_unk, (int)m->unk);
    for (size_t i = 0; i < t->n_added && ok; i++) {
        const added_token *a = &t->added[i];
        bool outside = t->outside && (t->outside[a->id >> 6] >> (a->id & 63) & 1) && outside_matters(t, a);
        ok = buf_printf(out, "added %u %d%d%d%d%d %d %u:", a->id, a->special, a->normalized, a->lstrip, a->rstrip,
                        a->single_word, outside, a->bytes) &&
             buf_append(out, a->content, a->bytes) && buf_append_str(out, "\n");
    }
    return ok ? SNUG_OK : err_nomem(err, out->len);
}
