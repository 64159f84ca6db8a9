/* Normalizers: Unicode normal forms through utf8proc and the small rewriting steps. Each step writes a new text; two
 * buffers alternate. */
#include "base/err.h"
#include "token/pipeline.h"
#include "token/unicode_new.h"
#include "token/utf8.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

void normalizer_fini(normalizer *n) {
    for (size_t i = 0; i < n->n; i++) {
        pattern_free(&n->step[i].pattern);
        if (n->step[i].spm) trie_fini(&n->step[i].spm->keep);
    }
    n->n = 0;
}

const trie *normalizer_user_defined(const normalizer *n) {
    for (size_t i = 0; i < n->n; i++)
        if (n->step[i].spm && n->step[i].spm->keep.n_edges) return &n->step[i].spm->keep;
    return NULL;
}

void pipe_work_fini(pipe_work *w) {
    pattern_matcher_fini(&w->matcher);
    for (int i = 0; i < 2; i++) {
        buf_fini(&w->text[i]);
        buf_fini(&w->span[i]);
    }
    buf_fini(&w->match);
    buf_fini(&w->shadow);
}

/* No character below U+0300 decomposes under NFC's composition or combines, so such text is in NFC (and ASCII in all
 * forms). */
static bool already_normal(const uint8_t *p, size_t n, bool nfc) {
    uint8_t limit = nfc ? 0xCC : 0x80; /* U+0300 is CC 80 */
    for (size_t i = 0; i < n; i++)
        if (p[i] >= limit) return false;
    return true;
}

static snug_err unicode_form_of_part(norm_kind kind, const uint8_t *p, size_t n, buf *out, snug_error *err) {
    utf8proc_option_t options = UTF8PROC_STABLE;
    options |= kind == NORM_NFC || kind == NORM_NFKC ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
    if (kind == NORM_NFKC || kind == NORM_NFKD) options |= UTF8PROC_COMPAT;
    utf8proc_uint8_t *form = NULL;
    utf8proc_ssize_t k = utf8proc_map(p, (utf8proc_ssize_t)n, &form, options);
    if (k < 0)
        return k == UTF8PROC_ERROR_NOMEM ? err_nomem(err, 4 * n)
                                         : err_set(err, SNUG_ERR_FORMAT, "normalization: %s", utf8proc_errmsg(k));
    bool ok = buf_append(out, form, (size_t)k);
    free(form);
    return ok ? SNUG_OK : err_nomem(err, (size_t)k);
}

/* The text is cut at inert characters (unicode_new.h), which are copied. */
static snug_err unicode_form(norm_kind kind, const uint8_t *p, size_t n, buf *out, snug_error *err) {
    size_t done = 0, i = 0;
    while (i < n) {
        size_t k = utf8_length(p[i]);
        if (k < 2 || !unicode_is_inert(utf8_decode(p + i))) {
            i += k;
            if (i < n) continue;
        }
        snug_err e = done < i ? unicode_form_of_part(kind, p + done, i - done, out, err) : SNUG_OK;
        if (e || i == n) return e;
        if (!buf_append(out, p + i, k)) return err_nomem(err, n);
        done = i += k;
    }
    return SNUG_OK;
}

static bool map_characters(norm_kind kind, const uint8_t *p, size_t n, buf *out) {
    for (size_t i = 0; i < n;) {
        size_t k = utf8_length(p[i]);
        uint32_t c = utf8_decode(p + i);
        uint8_t put[4];
        if (kind == NORM_STRIP_ACCENTS) {
            utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)c);
            bool mark = cat == UTF8PROC_CATEGORY_MN || cat == UTF8PROC_CATEGORY_MC || cat == UTF8PROC_CATEGORY_ME;
            mark = (mark && !unicode_is_inert(c)) || c == 0x1CF2 || c == 0x1CF3; /* marks until Unicode 12 */
            if (!mark && !buf_append(out, p + i, k)) return false;
        } else if (c == 0x130) { /* the one character whose lower case is two */
            if (!buf_append(out, "i\xCC\x87", 3)) return false;
        } else {
            uint32_t lower = unicode_lower_new(c);
            if (lower == c) lower = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
            if (!buf_append(out, put, utf8_encode(lower, put))) return false;
        }
        i += k;
    }
    return true;
}

static bool to_byte_alphabet(const uint8_t *p, size_t n, buf *out) {
    uint8_t put[4];
    for (size_t i = 0; i < n; i++)
        if (!buf_append(out, put, utf8_encode(byte_alphabet_char(p[i]), put))) return false;
    return true;
}

static void trim(const uint8_t **p, size_t *n, bool left, bool right) {
    while (left && *n > 0 && utf8_is_space(utf8_decode(*p))) {
        size_t k = utf8_length(**p);
        *p += k;
        *n -= k;
    }
    while (right && *n > 0) {
        size_t at = *n - 1;
        while (((*p)[at] & 0xC0) == 0x80) at--;
        if (!utf8_is_space(utf8_decode(*p + at))) return;
        *n = at;
    }
}

static snug_err replace(const norm_step *s, pipe_work *w, const uint8_t *p, size_t n, buf *out, snug_error *err) {
    pattern_iter it = {0};
    size_t done = 0, start, end;
    bool found;
    const uint8_t *seen;
    if (!unicode_shadow(p, n, &w->shadow, &seen)) return err_nomem(err, n);
    for (;;) {
        snug_err e = pattern_next(s->pattern, &w->matcher, seen, n, &it, &found, &start, &end, err);
        if (e) return e;
        if (!found) break;
        if (!buf_append(out, p + done, start - done) || !buf_append(out, s->text, s->text_bytes))
            return err_nomem(err, n);
        done = end;
    }
    return buf_append(out, p + done, n - done) ? SNUG_OK : err_nomem(err, n);
}

snug_err normalizer_run(const normalizer *nz, pipe_work *w, const uint8_t *text, size_t bytes, const uint8_t **out,
                        size_t *out_bytes, snug_error *err) {
    for (size_t i = 0; i < nz->n && bytes > 0; i++) {
        const norm_step *s = &nz->step[i];
        if (s->kind == NORM_STRIP) {
            trim(&text, &bytes, s->left, s->right);
            continue;
        }
        if (s->kind <= NORM_NFKD && already_normal(text, bytes, s->kind == NORM_NFC)) continue;
        buf *to = &w->text[w->text_at ^= 1];
        to->len = 0;
        snug_err e = SNUG_OK;
        bool ok = buf_reserve(to, bytes + bytes / 4 + s->text_bytes);
        if (ok && s->kind <= NORM_NFKD)
            e = unicode_form(s->kind, text, bytes, to, err);
        else if (ok && s->kind == NORM_PREPEND)
            ok = buf_append(to, s->text, s->text_bytes) && buf_append(to, text, bytes);
        else if (ok && s->kind == NORM_REPLACE)
            e = replace(s, w, text, bytes, to, err);
        else if (ok && (s->kind == NORM_PRECOMPILED || s->kind == NORM_SENTENCEPIECE))
            e = spm_step_run(s, text, bytes, to, err);
        else if (ok && s->kind == NORM_BYTE_LEVEL)
            ok = to_byte_alphabet(text, bytes, to);
        else if (ok)
            ok = map_characters(s->kind, text, bytes, to);
        if (!ok) e = err_nomem(err, bytes);
        if (e) return e;
        text = to->data;
        bytes = to->len;
    }
    *out = text;
    *out_bytes = bytes;
    return SNUG_OK;
}
