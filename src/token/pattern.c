/* Pretokenizer patterns through PCRE2. The patterns in tokenizer.json are written for Oniguruma's Ruby syntax; the two
 * dialects differ in a handful of places that matter to token ids, so the source is rewritten first:
 *
 *   \s \S    Unicode White_Space. PCRE2's UCP class adds U+180E, so the class is spelled out.
 *   \w \W    Alphabetic, Mark, Decimal_Number, Connector_Punctuation; PCRE2 10.42 means \p{L}\p{N}_.  \b \B follow \w.
 *   \p{Han}  the Script property; PCRE2 means Script_Extensions unless told \p{sc:Han}. \p{Letter} is \p{L}.
 *   \h \H    hexadecimal digits (horizontal space in PCRE2)        \v   vertical tab (a class in PCRE2)
 *   ^ $      match at every line (PCRE2_MULTILINE with LF)         {,n} means {0,n}
 *   \uHHHH   becomes \x{HHHH}
 *
 * What cannot be said exactly in PCRE2 (class intersections, nested sets, POSIX brackets, {n}+ as "repeat again",
 * unknown escapes, verbs) is refused by name: a wrong id is worse than an error. Matching runs under a limit that grows
 * with the text; where JIT code runs out of its stack, the interpreter, which keeps its own on the heap, repeats the
 * match: same result. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "token/pattern.h"
#include "base/buf.h"
#include "base/err.h"
#include "token/utf8.h"
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPACE_SET "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define WORD_SET                                                                                                       \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{"    \
    "1F189}"
#define LATIN_WORDS                                                                                                    \
    "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}" /* word characters outside a class only: an oddity of Oniguruma's */
enum { MAX_PATTERN_BYTES = 1 << 16 };

struct pattern {
    pcre2_code *code; /* NULL: a literal */
    bool jit;
    size_t source_bytes;
    char source[]; /* the literal, or the expression before translation */
};

static snug_err refuse(const char *src, size_t n, const char *what, snug_error *err) {
    return err_set(err, SNUG_ERR_UNSUPPORTED, "pattern '%.*s': %s", (int)(n > 200 ? 200 : n), src, what);
}

/* \p{Name}, \p{^Name}, \P{Name}: n bytes. One or two letters are a general category, the rest scripts. */
static snug_err translate_property(const char *p, size_t n, buf *out, snug_error *err) {
    static const char *const category[][2] = {{"Letter", "L"},      {"Mark", "M"},   {"Number", "N"},
                                              {"Punctuation", "P"}, {"Symbol", "S"}, {"Separator", "Z"},
                                              {"Other", "C"}};
    const char *name = p + 3, *prefix = "sc:";
    size_t bytes = n - 4;
    bool negated = bytes > 0 && *name == '^';
    name += negated;
    bytes -= negated;
    for (size_t i = 0; i < 7; i++)
        if (strlen(category[i][0]) == bytes && strncasecmp(name, category[i][0], bytes) == 0)
            name = category[i][1], bytes = 1;
    if (bytes <= 2 || (bytes == 3 && memcmp(name, "Any", 3) == 0)) prefix = "";
    bool ok = buf_append(out, p, 3) && (!negated || buf_append(out, "^", 1)) && buf_append_str(out, prefix) &&
              buf_append(out, name, bytes) && buf_append(out, "}", 1);
    return ok ? SNUG_OK : err_nomem(err, n);
}

/* One escape, at src[i] == '\\'. Appends its PCRE2 form and sets *used to the bytes consumed. */
static snug_err translate_escape(const char *src, size_t n, size_t i, bool in_class, buf *out, size_t *used,
                                 snug_error *err) {
    if (i + 1 >= n) return refuse(src, n, "ends in a backslash", err);
    char c = src[i + 1];
    const char *put = NULL;
    *used = 2;
    switch (c) {
    case 's':
        put = in_class ? SPACE_SET : "[" SPACE_SET "]";
        break;
    case 'S':
        put = in_class ? "\\S\\x{180E}" : "[^" SPACE_SET "]";
        break;
    case 'w':
        put = in_class ? WORD_SET : "[" WORD_SET LATIN_WORDS "]";
        break;
    case 'W':
        if (in_class) return refuse(src, n, "\\W inside a class is not supported", err);
        put = "[^" WORD_SET LATIN_WORDS "]";
        break;
    case 'h':
        put = in_class ? "0-9A-Fa-f" : "[0-9A-Fa-f]";
        break;
    case 'H':
        if (in_class) return refuse(src, n, "\\H inside a class is not supported", err);
        put = "[^0-9A-Fa-f]";
        break;
    case 'b':
        put = in_class ? "\\x08"
                       : "(?:(?<=[" WORD_SET LATIN_WORDS "])(?![" WORD_SET LATIN_WORDS "])|(?<![" WORD_SET LATIN_WORDS
                         "])(?=[" WORD_SET LATIN_WORDS "]))";
        break;
    case 'B':
        if (in_class) return refuse(src, n, "\\B inside a class is not supported", err);
        put = "(?:(?<=[" WORD_SET LATIN_WORDS "])(?=[" WORD_SET LATIN_WORDS "])|(?<![" WORD_SET LATIN_WORDS
              "])(?![" WORD_SET LATIN_WORDS "]))";
        break;
    case 'v':
        put = "\\x0B";
        break;
    case 'u': {
        if (i + 6 > n) return refuse(src, n, "\\u needs four hexadecimal digits", err);
        for (int k = 2; k < 6; k++)
            if (!strchr("0123456789abcdefABCDEF", src[i + k]) || !src[i + k])
                return refuse(src, n, "\\u needs four hexadecimal digits", err);
        *used = 6;
        return buf_printf(out, "\\x{%.4s}", src + i + 2) ? SNUG_OK : err_nomem(err, 16);
    }
    default:
        if (((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) && !strchr("tnrfaedDpPxAzZG", c)) {
            char what[48];
            snprintf(what, sizeof what, "\\%c is not supported", c);
            return refuse(src, n, what, err);
        }
        /* the same in both dialects: \t \n \p{..} \x{..} \., \1 ... */
        *used = 1 + ((unsigned char)c < 0x80 ? 1 : 0);
        if (strchr("pPx", c) && c && i + 2 < n && src[i + 2] == '{') {
            const char *close = memchr(src + i, '}', n - i);
            if (!close) return refuse(src, n, "a brace is not closed", err);
            *used = (size_t)(close - (src + i)) + 1;
            if (c != 'x') return translate_property(src + i, *used, out, err);
        }
        return buf_append(out, src + i, *used) ? SNUG_OK : err_nomem(err, 2);
    }
    return buf_append_str(out, put) ? SNUG_OK : err_nomem(err, strlen(put));
}

/* A whole class, at src[i] == '['. */
static snug_err translate_class(const char *src, size_t n, size_t i, buf *out, size_t *used, snug_error *err) {
    size_t at = i + 1;
    if (!buf_append(out, "[", 1)) return err_nomem(err, 1);
    if (at < n && src[at] == '^') {
        if (!buf_append(out, "^", 1)) return err_nomem(err, 1);
        at++;
    }
    bool first = true;
    for (; at < n; first = false) {
        char c = src[at];
        if (c == ']' && !first) {
            *used = at + 1 - i;
            return buf_append(out, "]", 1) ? SNUG_OK : err_nomem(err, 1);
        }
        if (c == '[') return refuse(src, n, "a set inside a class is not supported", err);
        if (c == '&' && at + 1 < n && src[at + 1] == '&')
            return refuse(src, n, "&& inside a class is not supported", err);
        size_t k = 1;
        if (c == '\\') {
            snug_err e = translate_escape(src, n, at, true, out, &k, err);
            if (e) return e;
        } else if (!buf_append(out, &c, 1)) {
            return err_nomem(err, 1);
        }
        at += k;
    }
    return refuse(src, n, "a class is not closed", err);
}

/* A quantifier {..} at src[i], or a literal brace. */
static snug_err translate_brace(const char *src, size_t n, size_t i, buf *out, size_t *used, snug_error *err) {
    size_t at = i + 1, digits = 0;
    while (at < n && ((src[at] >= '0' && src[at] <= '9') || src[at] == ',')) digits += src[at++] != ',';
    bool quantifier = at < n && src[at] == '}' && digits > 0;
    if (!quantifier) {
        *used = 1;
        return buf_append_str(out, "\\{") ? SNUG_OK : err_nomem(err, 2);
    }
    if (at + 1 < n && (src[at + 1] == '+' || (src[at + 1] == '?' && !memchr(src + i, ',', at - i))))
        return refuse(src, n, "a sign after {n} is not supported", err);
    *used = at + 1 - i;
    bool ok = src[i + 1] == ',' ? buf_append_str(out, "{0") && buf_append(out, src + i + 1, *used - 1)
                                : buf_append(out, src + i, *used);
    return ok ? SNUG_OK : err_nomem(err, *used);
}

/* A group's opening, at src[i] == '('. */
static snug_err translate_group(const char *src, size_t n, size_t i, buf *out, size_t *used, snug_error *err) {
    *used = 1;
    if (i + 1 < n && src[i + 1] == '*') return refuse(src, n, "(* is not supported", err);
    if (i + 2 < n && src[i + 1] == '?') {
        char c = src[i + 2];
        if (c == ':' || c == '=' || c == '!' || c == '>') {
            *used = 3;
        } else if (c == '<' && i + 3 < n && (src[i + 3] == '=' || src[i + 3] == '!')) {
            *used = 4;
        } else if (c == 'i' && i + 3 < n && (src[i + 3] == ':' || (src[i + 3] == ')' && i == 0))) {
            *used = 4; /* (?i) further on: Ruby's reaches over the alternatives that follow, Perl's does not */
        } else {
            return refuse(src, n, "a group that is not (?: (?= (?! (?> (?<= (?<! or (?i is not supported", err);
        }
    }
    return buf_append(out, src + i, *used) ? SNUG_OK : err_nomem(err, *used);
}

static snug_err translate(const char *src, size_t n, buf *out, snug_error *err) {
    if (n > MAX_PATTERN_BYTES)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "a pattern of %zu bytes (at most %d)", n, MAX_PATTERN_BYTES);
    for (size_t i = 0; i < n;) {
        size_t k = 1;
        snug_err e = SNUG_OK;
        switch (src[i]) {
        case '\\':
            e = translate_escape(src, n, i, false, out, &k, err);
            break;
        case '[':
            e = translate_class(src, n, i, out, &k, err);
            break;
        case '{':
            e = translate_brace(src, n, i, out, &k, err);
            break;
        case '(':
            e = translate_group(src, n, i, out, &k, err);
            break;
        default:
            if (!buf_append(out, src + i, 1)) e = err_nomem(err, 1);
        }
        if (e) return e;
        i += k;
    }
    return SNUG_OK;
}

snug_err pattern_translate(const char *source, size_t n, char **out, snug_error *err) {
    buf b = {0};
    snug_err e = translate(source, n, &b, err);
    if (!e && !buf_append(&b, "", 1)) e = err_nomem(err, b.len);
    if (e) {
        buf_fini(&b);
        return e;
    }
    *out = (char *)b.data;
    return SNUG_OK;
}

snug_err pattern_literal(const char *text, size_t n, pattern **out, snug_error *err) {
    if (n == 0) return err_set(err, SNUG_ERR_UNSUPPORTED, "an empty pattern");
    pattern *p = calloc(1, sizeof *p + n);
    if (!p) return err_nomem(err, sizeof *p + n);
    p->source_bytes = n;
    memcpy(p->source, text, n);
    *out = p;
    return SNUG_OK;
}

snug_err pattern_compile(const char *source, size_t n, pattern **out, snug_error *err) {
    buf b = {0};
    pattern *p = NULL;
    pcre2_compile_context *cc = NULL;
    snug_err e = translate(source, n, &b, err);
    if (e) goto done;
    p = calloc(1, sizeof *p + n);
    cc = pcre2_compile_context_create(NULL);
    if (!p || !cc) {
        e = err_nomem(err, sizeof *p);
        goto done;
    }
    p->source_bytes = n;
    memcpy(p->source, source, n);
    pcre2_set_newline(cc, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(cc, 100);
    int code;
    PCRE2_SIZE at;
    p->code = pcre2_compile(b.data ? b.data : (const uint8_t *)"", b.len,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &at, cc);
    if (!p->code) {
        char text[120] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
        e = refuse(source, n, text, err);
        goto done;
    }
    p->jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0;
done:
    buf_fini(&b);
    if (cc) pcre2_compile_context_free(cc);
    if (e)
        pattern_free(&p);
    else
        *out = p;
    return e;
}

void pattern_free(pattern **p) {
    if (!*p) return;
    if ((*p)->code) pcre2_code_free((*p)->code);
    free(*p);
    *p = NULL;
}

const char *pattern_source(const pattern *p, size_t *n, bool *is_regex) {
    *n = p->source_bytes;
    *is_regex = p->code != NULL;
    return p->source;
}

void pattern_matcher_fini(pattern_matcher *m) {
    if (m->data) pcre2_match_data_free(m->data);
    if (m->context) pcre2_match_context_free(m->context);
    m->data = m->context = NULL;
}

static snug_err matcher_init(pattern_matcher *m, snug_error *err) {
    m->data = pcre2_match_data_create(1, NULL);
    m->context = pcre2_match_context_create(NULL);
    if (!m->data || !m->context) return err_nomem(err, 256);
    pcre2_set_heap_limit(m->context, 256 * 1024); /* KiB */
    return SNUG_OK;
}

/* One search from `from`; -1 none, 0 found. */
static snug_err search(const pattern *p, pattern_matcher *m, const uint8_t *text, size_t n, size_t from, bool *found,
                       size_t *start, size_t *end, snug_error *err) {
    *found = false;
    if (!p->code) {
        const uint8_t *hit = bytes_find(text + from, n - from, p->source, p->source_bytes);
        if (!hit) return SNUG_OK;
        *found = true;
        *start = (size_t)(hit - text);
        *end = *start + p->source_bytes;
        return SNUG_OK;
    }
    snug_err e;
    if (!m->data && (e = matcher_init(m, err))) return e;
    /* The patterns in use backtrack at most once over a run of characters; ten steps a byte leave them room, and a
     * hostile pattern ends in an error after a time proportional to its text. */
    uint64_t limit = 1000000 + 10 * (uint64_t)(n - from);
    pcre2_set_match_limit(m->context, limit > UINT32_MAX ? UINT32_MAX : (uint32_t)limit);
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (p->jit) rc = pcre2_jit_match(p->code, text, n, from, PCRE2_NO_UTF_CHECK, m->data, m->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT || rc == PCRE2_ERROR_MATCHLIMIT)
        rc = pcre2_match(p->code, text, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, m->data, m->context);
    if (rc == PCRE2_ERROR_NOMATCH) return SNUG_OK;
    if (rc < 0)
        return err_set(err, SNUG_ERR_FORMAT,
                       "the tokenizer's pattern exceeds its match limit on this text (PCRE2 error %d)", rc);
    const PCRE2_SIZE *ov = pcre2_get_ovector_pointer(m->data);
    *found = true;
    *start = ov[0];
    *end = ov[1] < ov[0] ? ov[0] : ov[1];
    return SNUG_OK;
}

snug_err pattern_next(const pattern *p, pattern_matcher *m, const uint8_t *text, size_t n, pattern_iter *it,
                      bool *found, size_t *start, size_t *end, snug_error *err) {
    for (;;) {
        *found = false;
        if (it->next > n) return SNUG_OK;
        snug_err e = search(p, m, text, n, it->next, found, start, end, err);
        if (e || !*found) return e;
        if (*start == *end && it->any &&
            it->last_end == *end) { /* empty, right after the previous match: one character on */
            it->next += it->next < n ? utf8_length(text[it->next]) : 1;
            continue;
        }
        it->next = it->last_end = *end;
        it->any = true;
        return SNUG_OK;
    }
}
