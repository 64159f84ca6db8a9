/* Pretokenizers: cut the text into words that merges never cross. A step sees every word of the step before it by
 * itself, so a look-ahead ends at the word's end, as in `tokenizers`. Steps that only cut leave the text alone and make
 * a new list of spans; steps that rewrite (the byte alphabet, the space marker) make a new text as well. */
#include "base/err.h"
#include "token/pipeline.h"
#include "token/unicode_new.h"
#include "token/utf8.h"
#include <string.h>

typedef struct cut {
    uint32_t start, end;
    bool is_match;
} cut;

void pretokenizer_fini(pretokenizer *p) {
    for (size_t i = 0; i < p->n; i++) pattern_free(&p->step[i].pattern);
    p->n = 0;
}

static inline bool put_span(buf *to, size_t start, size_t end) {
    pipe_span s = {(uint32_t)start, (uint32_t)end};
    return start == end || buf_append(to, &s, sizeof s);
}

/* Matches and the gaps between them, in order, relative to the word. */
static snug_err find_cuts(const pretok_step *s, pipe_work *w, const uint8_t *p, size_t n, snug_error *err) {
    pattern_iter it = {0};
    size_t done = 0, start, end;
    bool found;
    w->match.len = 0;
    for (;;) {
        snug_err e = pattern_next(s->pattern, &w->matcher, p, n, &it, &found, &start, &end, err);
        if (e) return e;
        if (!found) break;
        cut gap = {(uint32_t)done, (uint32_t)start, s->invert}, hit = {(uint32_t)start, (uint32_t)end, !s->invert};
        if ((done != start && !buf_append(&w->match, &gap, sizeof gap)) || !buf_append(&w->match, &hit, sizeof hit))
            return err_nomem(err, w->match.len);
        done = end;
    }
    cut rest = {(uint32_t)done, (uint32_t)n, s->invert};
    return done == n || buf_append(&w->match, &rest, sizeof rest) ? SNUG_OK : err_nomem(err, w->match.len);
}

/* Joins the cuts as the behaviour says. MERGED_PREVIOUS and MERGED_NEXT attach a match to its neighbour unless that
 * neighbour is itself a match; CONTIGUOUS joins runs of equal kind. */
static bool emit_cuts(split_behavior behavior, const cut *c, size_t n, uint32_t base, buf *to) {
    for (size_t i = 0; i < n; i++) {
        size_t start = c[i].start, end = c[i].end;
        if (behavior == SPLIT_REMOVED && c[i].is_match) continue;
        if (behavior == SPLIT_CONTIGUOUS)
            while (i + 1 < n && c[i + 1].is_match == c[i].is_match) end = c[++i].end;
        else if (behavior == SPLIT_MERGED_PREVIOUS && !c[i].is_match && i + 1 < n && c[i + 1].is_match)
            end = c[++i].end;
        else if (behavior == SPLIT_MERGED_NEXT && c[i].is_match && i + 1 < n && !c[i + 1].is_match)
            end = c[++i].end;
        if (!put_span(to, base + start, base + end)) return false;
    }
    return true;
}

static snug_err split_word(const pretok_step *s, split_behavior behavior, pipe_work *w, const uint8_t *p,
                           pipe_span word, buf *to, snug_error *err) {
    size_t n = word.end - word.start, done = 0, start, end;
    if (behavior == SPLIT_ISOLATED) { /* the common case needs no list of cuts */
        pattern_iter it = {0};
        bool found;
        for (;;) {
            snug_err e = pattern_next(s->pattern, &w->matcher, p + word.start, n, &it, &found, &start, &end, err);
            if (e) return e;
            if (!found) break;
            if (!put_span(to, word.start + done, word.start + start) ||
                !put_span(to, word.start + start, word.start + end))
                return err_nomem(err, to->len);
            done = end;
        }
        return put_span(to, word.start + done, word.end) ? SNUG_OK : err_nomem(err, to->len);
    }
    snug_err e = find_cuts(s, w, p + word.start, n, err);
    if (e) return e;
    const cut *c = (const cut *)w->match.data;
    return emit_cuts(behavior, c, w->match.len / sizeof *c, word.start, to) ? SNUG_OK : err_nomem(err, to->len);
}

/* The current state of the text between steps. */
typedef struct state {
    const uint8_t *text;
    const pipe_span *span;
    size_t n;
} state;

static buf *next_spans(pipe_work *w) {
    buf *to = &w->span[w->span_at ^= 1];
    to->len = 0;
    return to;
}

static buf *next_text(pipe_work *w) {
    buf *to = &w->text[w->text_at ^= 1];
    to->len = 0;
    return to;
}

static void take_spans(state *st, const buf *spans) {
    st->span = (const pipe_span *)spans->data;
    st->n = spans->len / sizeof *st->span;
}

static snug_err run_split(const pretok_step *s, split_behavior behavior, pipe_work *w, state *st, snug_error *err) {
    buf *to = next_spans(w);
    const uint8_t *seen; /* what the pattern sees: spans are the same */
    seen = st->text;
    if (!s->no_shadow && !unicode_shadow(st->text, st->n ? st->span[st->n - 1].end : 0, &w->shadow, &seen))
        return err_nomem(err, w->shadow.len);
    for (size_t i = 0; i < st->n; i++) {
        snug_err e = split_word(s, behavior, w, seen, st->span[i], to, err);
        if (e) return e;
    }
    take_spans(st, to);
    return SNUG_OK;
}

/* Puts a space before every word that does not start with one. */
static bool run_prefix_space(pipe_work *w, state *st) {
    buf *text = next_text(w), *spans = next_spans(w);
    for (size_t i = 0; i < st->n; i++) {
        const uint8_t *p = st->text + st->span[i].start;
        size_t n = st->span[i].end - st->span[i].start, at = text->len;
        if (p[0] != ' ' && !buf_append(text, " ", 1)) return false;
        if (!buf_append(text, p, n) || !put_span(spans, at, text->len)) return false;
    }
    st->text = text->data;
    take_spans(st, spans);
    return true;
}

/* Every byte becomes its character of the byte alphabet: one or two bytes. */
static bool run_byte_alphabet(pipe_work *w, state *st) {
    buf *text = next_text(w), *spans = next_spans(w);
    uint8_t form[256][2], form_bytes[256];
    for (int b = 0; b < 256; b++) form_bytes[b] = (uint8_t)utf8_encode(byte_alphabet_char((uint8_t)b), form[b]);
    size_t total = 0;
    for (size_t i = 0; i < st->n; i++) total += st->span[i].end - st->span[i].start;
    if (!buf_reserve(text, 2 * total + 1) || !buf_reserve(spans, st->n * sizeof(pipe_span))) return false;
    uint8_t *q = text->data;
    for (size_t i = 0; i < st->n; i++) {
        size_t at = (size_t)(q - text->data);
        for (uint32_t j = st->span[i].start; j < st->span[i].end; j++) {
            const uint8_t *f = form[st->text[j]];
            q[0] = f[0];
            q[1] = f[1]; /* overwritten by the next character when this one is a single byte */
            q += form_bytes[st->text[j]];
        }
        if (!put_span(spans, at, (size_t)(q - text->data))) return false;
    }
    text->len = (size_t)(q - text->data);
    st->text = text->data;
    take_spans(st, spans);
    return true;
}

/* Spaces become the marker, and a word may get one in front. */
static bool run_marker(const pretok_step *s, pipe_work *w, state *st, bool at_start) {
    buf *text = next_text(w), *spans = next_spans(w);
    for (size_t i = 0; i < st->n; i++) {
        const uint8_t *p = st->text + st->span[i].start, *end = st->text + st->span[i].end;
        size_t at = text->len;
        bool marked =
            p[0] == ' ' || ((size_t)(end - p) >= s->marker_bytes && memcmp(p, s->marker, s->marker_bytes) == 0);
        bool wanted = s->scheme == PREPEND_ALWAYS || (s->scheme == PREPEND_FIRST && at_start && st->span[i].start == 0);
        if (wanted && !marked && !buf_append(text, s->marker, s->marker_bytes)) return false;
        while (p < end) {
            const uint8_t *space = memchr(p, ' ', (size_t)(end - p));
            if (!buf_append(text, p, (size_t)((space ? space : end) - p))) return false;
            if (!space) break;
            if (!buf_append(text, s->marker, s->marker_bytes)) return false;
            p = space + 1;
        }
        if (!put_span(spans, at, text->len)) return false;
    }
    st->text = text->data;
    take_spans(st, spans);
    return true;
}

static snug_err run_step(const pretok_step *s, pipe_work *w, state *st, bool at_start, snug_error *err) {
    switch (s->kind) {
    case PRETOK_SPLIT:
        return run_split(s, s->behavior, w, st, err);
    case PRETOK_BYTE_LEVEL:
        if (s->prefix_space && !run_prefix_space(w, st)) return err_nomem(err, w->text[0].len);
        if (s->use_regex) {
            snug_err e = run_split(s, SPLIT_ISOLATED, w, st, err);
            if (e) return e;
        }
        return run_byte_alphabet(w, st) ? SNUG_OK : err_nomem(err, w->text[0].len);
    default:
        if (!run_marker(s, w, st, at_start)) return err_nomem(err, w->text[0].len);
        return s->split ? run_split(s, SPLIT_MERGED_NEXT, w, st, err) : SNUG_OK;
    }
}

snug_err pretokenizer_run(const pretokenizer *p, pipe_work *w, const uint8_t *text, size_t bytes, bool at_start,
                          const uint8_t **out, const pipe_span **spans, size_t *n, snug_error *err) {
    state st = {.text = text};
    buf *all = next_spans(w);
    if (bytes > UINT32_MAX / 2) return err_set(err, SNUG_ERR_ARG, "a text of %zu bytes", bytes);
    if (!put_span(all, 0, bytes)) return err_nomem(err, sizeof(pipe_span));
    take_spans(&st, all);
    for (size_t i = 0; i < p->n && st.n > 0; i++) {
        snug_err e = run_step(&p->step[i], w, &st, at_start, err);
        if (e) return e;
        if (w->text[w->text_at].len > UINT32_MAX / 2) return err_set(err, SNUG_ERR_ARG, "a text of %zu bytes", bytes);
    }
    *out = st.text;
    *spans = st.span;
    *n = st.n;
    return SNUG_OK;
}
