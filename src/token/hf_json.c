/* A strict little JSON reader for two shapes: an object of integers and an array of strings or pairs of strings.
 * Finding the two values in the file needs only brackets and strings; what lies around them is checked by jansson, what
 * lies inside here. */
#include "token/hf_json.h"
#include "base/err.h"
#include "token/utf8.h"
#include <math.h>
#include <string.h>

typedef struct reader {
    const char *text;
    size_t n, at;
    uint64_t base; /* offset of text[0] in the file */
    buf scratch[2];
    snug_error *err;
} reader;

static snug_err bad(const reader *r, const char *what) {
    return err_at(r->err, SNUG_ERR_FORMAT, r->base + r->at, "tokenizer.json: %s", what);
}

static void skip_space(reader *r) {
    while (r->at < r->n &&
           (r->text[r->at] == ' ' || r->text[r->at] == '\n' || r->text[r->at] == '\r' || r->text[r->at] == '\t'))
        r->at++;
}

/* Skips white space; true if the next character is c, which is then taken. */
static bool take(reader *r, char c) {
    skip_space(r);
    if (r->at >= r->n || r->text[r->at] != c) return false;
    r->at++;
    return true;
}

/* ---- finding the slices ---- */

static snug_err skip_string(reader *r) {
    const char *p = r->text + r->at + 1, *end = r->text + r->n;
    for (; p < end; p++) {
        if (*p == '\\')
            p++;
        else if (*p == '"') {
            r->at = (size_t)(p + 1 - r->text);
            return SNUG_OK;
        }
    }
    r->at = r->n;
    return bad(r, "a string does not end");
}

/* Skips one value. Brackets are only counted here; whoever reads the value checks it. */
static snug_err skip_value(reader *r) {
    static const bool stops[256] = {['"'] = true, ['{'] = true, ['['] = true, ['}'] = true, [']'] = true, [','] = true};
    size_t depth = 0;
    skip_space(r);
    for (;;) {
        const char *p = r->text + r->at, *end = r->text + r->n;
        while (p < end && !stops[(uint8_t)*p]) p++;
        r->at = (size_t)(p - r->text);
        if (p == end) return depth ? bad(r, "the file ends inside a value") : SNUG_OK;
        if (*p == '"') {
            snug_err e = skip_string(r);
            if (e) return e;
            if (depth == 0) return SNUG_OK;
            continue;
        }
        if (depth == 0 && (*p == ',' || *p == '}' || *p == ']')) return SNUG_OK; /* the end of a number */
        r->at++;
        if (*p == '{' || *p == '[')
            depth++;
        else if (*p != ',' && --depth == 0)
            return SNUG_OK;
    }
}

static bool key_is(const reader *r, size_t start, const char *name) {
    size_t n = strlen(name);
    return r->at - start == n + 2 && memcmp(r->text + start + 1, name, n) == 0;
}

/* Walks the keys of the object at r->at. `outer`: looks for "model" and walks into it. */
static snug_err find_slices(reader *r, bool outer, json_slice *tokens, json_slice *merges) {
    if (!take(r, '{')) return bad(r, outer ? "not a JSON object" : "'model' is not an object");
    if (take(r, '}')) return SNUG_OK;
    do {
        skip_space(r);
        size_t key = r->at;
        if (r->at >= r->n || r->text[r->at] != '"') return bad(r, "a key is expected");
        snug_err e = skip_string(r);
        if (e) return e;
        bool model = outer && key_is(r, key, "model");
        json_slice *slice = outer ? NULL : key_is(r, key, "vocab") ? tokens : key_is(r, key, "merges") ? merges : NULL;
        if (!take(r, ':')) return bad(r, "':' is expected");
        skip_space(r);
        if (slice && slice->text) return bad(r, "a key of 'model' comes twice");
        size_t start = r->at;
        if (model && start < r->n && r->text[start] == '{')
            e = find_slices(r, false, tokens, merges);
        else
            e = skip_value(r);
        if (e) return e;
        if (slice) *slice = (json_slice){r->text + start, r->at - start, start};
    } while (take(r, ','));
    return take(r, '}') ? SNUG_OK : bad(r, "',' or '}' is expected");
}

snug_err hf_json_parse(const char *what, const char *text, size_t bytes, json_t **out, json_slice *tokens,
                       json_slice *merges, snug_error *err) {
    if (bytes >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) text += 3, bytes -= 3; /* a byte order mark */
    reader r = {.text = text, .n = bytes, .err = err};
    buf rest = {0};
    *tokens = *merges = (json_slice){0};
    snug_err e = find_slices(&r, true, tokens, merges);
    if (e) return e;
    const json_slice *first = tokens, *second = merges;
    if (merges->text && (!tokens->text || merges->offset < tokens->offset)) first = merges, second = tokens;
    size_t done = 0;
    bool ok = true;
    for (int i = 0; i < 2 && ok; i++) {
        const json_slice *s = i ? second : first;
        if (!s->text) continue;
        ok = buf_append(&rest, text + done, s->offset - done) && buf_append(&rest, "0", 1);
        done = s->offset + s->bytes;
    }
    ok = ok && buf_append(&rest, text + done, bytes - done);
    e = ok ? json_read_buffer(what, (const char *)rest.data, rest.len, out, err) : err_nomem(err, bytes);
    buf_fini(&rest);
    return e;
}

/* ---- strings ---- */

static int hex4(const char *p) {
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0) return -1;
        v = v * 16 + d;
    }
    return v;
}

/* \uXXXX at r->at (on the u), surrogate pairs included. */
static snug_err read_unicode_escape(reader *r, buf *out) {
    const char *p = r->text + r->at;
    size_t left = r->n - r->at;
    int hi = left >= 5 ? hex4(p + 1) : -1;
    uint32_t c = (uint32_t)hi;
    size_t used = 5;
    if (hi >= 0xD800 && hi <= 0xDBFF) {
        int lo = left >= 11 && p[5] == '\\' && p[6] == 'u' ? hex4(p + 7) : -1;
        if (lo < 0xDC00 || lo > 0xDFFF) return bad(r, "half a surrogate pair");
        c = 0x10000 + ((uint32_t)(hi - 0xD800) << 10) + (uint32_t)(lo - 0xDC00);
        used = 11;
    } else if (hi < 0 || (hi >= 0xDC00 && hi <= 0xDFFF)) {
        return bad(r, "a \\u escape that is no character");
    }
    uint8_t form[4];
    if (!buf_append(out, form, utf8_encode(c, form))) return err_nomem(r->err, out->len);
    r->at += used;
    return SNUG_OK;
}

/* A string; the result lies in the file's text, or in `scratch` if it has escapes. */
static snug_err read_string(reader *r, buf *scratch, const char **out, size_t *n) {
    if (!take(r, '"')) return bad(r, "a string is expected");
    size_t start = r->at;
    bool escaped = false;
    scratch->len = 0;
    for (;;) {
        const char *p = r->text + r->at, *end = r->text + r->n;
        if (!escaped)
            while (p < end && (uint8_t)*p >= 0x20 && (uint8_t)*p < 0x80 && *p != '"' && *p != '\\') p++;
        r->at = (size_t)(p - r->text);
        if (p == end) return bad(r, "a string does not end");
        uint8_t c = (uint8_t)*p;
        if (c == '"') {
            *out = escaped ? (const char *)scratch->data : r->text + start;
            *n = escaped ? scratch->len : r->at - start;
            r->at++;
            return SNUG_OK;
        }
        if (c == '\\') {
            static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
            if (!escaped && !buf_append(scratch, r->text + start, r->at - start))
                return err_nomem(r->err, r->at - start);
            escaped = true;
            r->at++;
            const char *known = r->at < r->n && r->text[r->at] ? strchr(from, r->text[r->at]) : NULL;
            if (known) {
                if (!buf_append(scratch, to + (known - from), 1)) return err_nomem(r->err, scratch->len);
                r->at++;
            } else if (r->at < r->n && r->text[r->at] == 'u') {
                snug_err e = read_unicode_escape(r, scratch);
                if (e) return e;
            } else {
                return bad(r, "an unknown escape");
            }
            continue;
        }
        size_t k = c < 0x20 ? 0 : utf8_sequence((const uint8_t *)r->text + r->at, r->n - r->at);
        if (k == 0) return bad(r, c < 0x20 ? "a control character in a string" : "invalid UTF-8 in a string");
        if (escaped && !buf_append(scratch, r->text + r->at, k)) return err_nomem(r->err, scratch->len);
        r->at += k;
    }
}

static snug_err read_id(reader *r, uint32_t *out) {
    skip_space(r);
    uint64_t v = 0;
    size_t start = r->at;
    while (r->at < r->n && r->text[r->at] >= '0' && r->text[r->at] <= '9' && r->at - start < 10)
        v = v * 10 + (uint64_t)(r->text[r->at++] - '0');
    if (r->at == start || v >= VOCAB_MAX_TOKENS) return bad(r, "a token id is expected, 0 to 8388607");
    *out = (uint32_t)v;
    return SNUG_OK;
}

/* A score as `tokenizers` reads it: the digits as an integer, rounded to double, then divided or multiplied by a power
 * of ten, rounded again. That is off by one bit for every eighth number, and between cuts of equal score such a bit
 * decides. */
static snug_err read_score(reader *r, double *out) {
    static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    bool minus = take(r, '-'), point = false, any = false;
    uint64_t digits = 0;
    int exponent = 0, e10 = 0, sign = 1;
    skip_space(r);
    for (; r->at < r->n; r->at++) {
        char c = r->text[r->at];
        if (c == '.' && !point) {
            point = true;
            continue;
        }
        if (c < '0' || c > '9') break;
        any = true;
        bool fits = digits < UINT64_MAX / 10 || (digits == UINT64_MAX / 10 && (uint64_t)(c - '0') <= UINT64_MAX % 10);
        if (fits) digits = digits * 10 + (uint64_t)(c - '0');
        exponent += fits ? -point : !point;
    }
    if (any && r->at < r->n && (r->text[r->at] == 'e' || r->text[r->at] == 'E')) {
        r->at++;
        if (r->at < r->n && (r->text[r->at] == '-' || r->text[r->at] == '+')) sign = r->text[r->at++] == '-' ? -1 : 1;
        for (any = false; r->at < r->n && r->text[r->at] >= '0' && r->text[r->at] <= '9'; r->at++, any = true)
            if (e10 < 1000) e10 = e10 * 10 + (r->text[r->at] - '0');
    }
    exponent += sign * e10;
    if (!any || exponent < -308 || exponent > 22) return bad(r, "a score is expected, a number from -1e22 to 1e22");
    double v = (double)digits;
    v = exponent >= 0 ? v * tens[exponent] : exponent >= -22 ? v / tens[-exponent] : v / pow(10, -exponent);
    *out = minus ? -v : v;
    return SNUG_OK;
}

static void reader_fini(reader *r) {
    buf_fini(&r->scratch[0]);
    buf_fini(&r->scratch[1]);
}

snug_err hf_json_vocab(const json_slice *s, vocab_builder *out, size_t *n, snug_error *err) {
    reader r = {.text = s->text, .n = s->bytes, .base = s->offset, .err = err};
    snug_err e = SNUG_OK;
    *n = 0;
    if (!take(&r, '{'))
        e = bad(&r, "model.vocab is not an object");
    else if (take(&r, '}'))
        goto done;
    while (!e) {
        const char *text;
        size_t bytes;
        uint32_t id = 0;
        e = read_string(&r, &r.scratch[0], &text, &bytes);
        if (!e && !take(&r, ':')) e = bad(&r, "':' is expected in model.vocab");
        if (!e) e = read_id(&r, &id);
        if (!e) e = vocab_add(out, id, text, bytes, true, err);
        if (e) break;
        ++*n;
        if (take(&r, ',')) continue;
        if (!take(&r, '}')) e = bad(&r, "',' or '}' is expected in model.vocab");
        break;
    }
done:
    reader_fini(&r);
    return e;
}

snug_err hf_json_pieces(const json_slice *s, vocab_builder *out, buf *scores, snug_error *err) {
    reader r = {.text = s->text, .n = s->bytes, .base = s->offset, .err = err};
    snug_err e = take(&r, '[') ? SNUG_OK : bad(&r, "model.vocab of a Unigram is not an array");
    bool more = !e && !take(&r, ']');
    for (uint32_t id = 0; !e && more; id++) {
        const char *text;
        size_t bytes;
        double score;
        if (!take(&r, '[')) e = bad(&r, "a piece and its score are expected in model.vocab");
        if (!e) e = read_string(&r, &r.scratch[0], &text, &bytes);
        if (!e && !take(&r, ',')) e = bad(&r, "a piece and its score are expected in model.vocab");
        if (!e) e = read_score(&r, &score);
        if (!e && !take(&r, ']')) e = bad(&r, "a piece and its score are expected in model.vocab");
        if (!e) e = vocab_add(out, id, text, bytes, true, err);
        if (!e && !buf_append(scores, &score, sizeof score)) e = err_nomem(err, scores->len);
        more = !e && take(&r, ',');
        if (!e && !more && !take(&r, ']')) e = bad(&r, "',' or ']' is expected in model.vocab");
    }
    reader_fini(&r);
    return e;
}

static snug_err read_merge(reader *r, bpe *out) {
    const char *a, *b;
    size_t na, nb;
    snug_err e;
    if (take(r, '[')) {
        e = read_string(r, &r->scratch[0], &a, &na);
        if (!e && !take(r, ',')) e = bad(r, "a merge of two strings is expected");
        if (!e) e = read_string(r, &r->scratch[1], &b, &nb);
        if (!e && !take(r, ']')) e = bad(r, "a merge of two strings is expected");
    } else {
        e = read_string(r, &r->scratch[0], &a, &na);
        if (e) return e;
        if (na >= 8 && memcmp(a, "#version", 8) == 0) return SNUG_OK;
        const char *space = memchr(a, ' ', na);
        if (!space || memchr(space + 1, ' ', na - (size_t)(space + 1 - a)))
            return bad(r, "a merge of two parts and one space is expected");
        b = space + 1;
        nb = na - (size_t)(b - a);
        na = (size_t)(space - a);
    }
    return e ? e : bpe_add_merge(out, a, na, b, nb, r->err);
}

snug_err hf_json_merges(const json_slice *s, bpe *out, snug_error *err) {
    reader r = {.text = s->text, .n = s->bytes, .base = s->offset, .err = err};
    snug_err e = SNUG_OK;
    size_t count = 0;
    if (!take(&r, '[')) return bad(&r, "model.merges is not an array");
    if (take(&r, ']')) return SNUG_OK;
    do { /* first pass: how many */
        e = skip_value(&r);
        count++;
    } while (!e && take(&r, ','));
    if (!e) e = bpe_reserve_pairs(out, count, err);
    r.at = 0;
    take(&r, '[');
    while (!e) {
        e = read_merge(&r, out);
        if (e || take(&r, ',')) continue;
        if (!take(&r, ']')) e = bad(&r, "',' or ']' is expected in model.merges");
        break;
    }
    reader_fini(&r);
    return e;
}
