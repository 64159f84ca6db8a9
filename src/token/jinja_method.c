/* Text: the methods of strings and the filters that work on text; and the methods of dictionaries and lists. Case
 * mapping is Unicode's, character by character (utf8proc); Python's few one-to-many mappings, such as ß to SS, are made
 * for upper(). */
#include "token/jinja_impl.h"
#include "token/utf8.h"
#include <string.h>
#include <utf8proc.h>

static bool is(jname name, const char *text) {
    return jinja_name_is(name, text);
}

/* ---- case ---- */

typedef enum text_case { CASE_UPPER, CASE_LOWER, CASE_CAPITALIZE, CASE_TITLE, CASE_TITLE_FILTER } text_case;

static bool cased(uint32_t c) {
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT;
}

static bool put_upper(jinja *j, buf *b, uint32_t c, bool title) {
    uint8_t form[4];
    if (c == 0xDF) return jinja_put(j, b, title ? "Ss" : "SS", 2);
    uint32_t u = (uint32_t)(title ? utf8proc_totitle((utf8proc_int32_t)c) : utf8proc_toupper((utf8proc_int32_t)c));
    return jinja_put(j, b, (const char *)form, utf8_encode(u, form));
}

static bool put_lower(jinja *j, buf *b, uint32_t c) {
    uint8_t form[4];
    if (c == 0x130) return jinja_put(j, b, "i\xCC\x87", 3);
    return jinja_put(j, b, (const char *)form, utf8_encode((uint32_t)utf8proc_tolower((utf8proc_int32_t)c), form));
}

/* str.title() starts a word after any character without case; the title filter after blanks and -([{<. */
static bool change_case(jinja *j, jvalue s, text_case how, jvalue *out) {
    buf b = {0};
    bool inside = false, ok = true;
    for (size_t i = 0; i < s.v.s.n && ok;) {
        uint32_t c = utf8_decode((const uint8_t *)s.v.s.p + i);
        bool up = how == CASE_UPPER || (how != CASE_LOWER && !inside);
        ok = up ? put_upper(j, &b, c, how != CASE_UPPER) : put_lower(j, &b, c);
        if (how == CASE_CAPITALIZE)
            inside = true;
        else if (how == CASE_TITLE)
            inside = cased(c);
        else if (how == CASE_TITLE_FILTER)
            inside = !(utf8_is_space(c) || (c < 0x80 && c && strchr("-([{<", (int)c)));
        i += utf8_length((uint8_t)s.v.s.p[i]);
    }
    if (ok) return jinja_keep(j, &b, out);
    buf_fini(&b);
    return false;
}

/* ---- trimming ---- */

static bool in_set(const jvalue *set, const char *p, size_t n) {
    if (!set || set->kind != J_STRING) {
        uint32_t c = utf8_decode((const uint8_t *)p);
        return utf8_is_space(c) || (c >= 0x1C && c <= 0x1F); /* Python's strip also takes the separators FS GS RS US */
    }
    for (size_t i = 0; i < set->v.s.n;) {
        size_t k = utf8_length((uint8_t)set->v.s.p[i]);
        if (k == n && memcmp(set->v.s.p + i, p, n) == 0) return true;
        i += k;
    }
    return false;
}

static jvalue strip(jvalue s, const jvalue *set, bool left, bool right) {
    const char *p = s.v.s.p;
    size_t n = s.v.s.n;
    while (left && n > 0) {
        size_t k = utf8_length((uint8_t)*p);
        if (!in_set(set, p, k)) break;
        p += k;
        n -= k;
    }
    while (right && n > 0) {
        size_t at = n - 1;
        while (((uint8_t)p[at] & 0xC0) == 0x80) at--;
        if (!in_set(set, p + at, n - at)) break;
        n = at;
    }
    return jv_string(p, n);
}

/* ---- splitting and replacing ---- */

static bool push(jinja *j, buf *list, const char *p, size_t n) {
    jvalue v = jv_string(p, n);
    if (!jinja_step(j)) return false;
    return buf_append(list, &v, sizeof v) || jinja_fail(j, SNUG_ERR_NOMEM, "no memory for a list");
}

static bool keep_list(jinja *j, buf *list, bool ok, jvalue *out) {
    ok = ok && jv_list_new(j, list->len / sizeof(jvalue), out);
    if (ok && list->len) memcpy(out->v.list->item, list->data, list->len);
    buf_fini(list);
    return ok;
}

/* split(): at runs of blanks, none at the ends; split(sep): at every sep; at most `most` cuts (< 0: all). */
static bool split(jinja *j, jvalue s, const jvalue *sep, int64_t most, jvalue *out) {
    const char *p = s.v.s.p, *end = p + s.v.s.n;
    buf list = {0};
    bool ok = true;
    if (sep && sep->kind == J_STRING) {
        if (sep->v.s.n == 0) return jinja_fail(j, SNUG_ERR_FORMAT, "split by an empty text");
        for (; ok; most--) {
            const char *hit = most == 0 ? NULL : bytes_find(p, (size_t)(end - p), sep->v.s.p, sep->v.s.n);
            ok = push(j, &list, p, (size_t)((hit ? hit : end) - p));
            if (!hit) break;
            p = hit + sep->v.s.n;
        }
        return keep_list(j, &list, ok, out);
    }
    for (; ok; most--) {
        jvalue left = strip(jv_string(p, (size_t)(end - p)), NULL, true, false);
        p = left.v.s.p;
        if (p == end) break;
        const char *q = p;
        while (q < end && !in_set(NULL, q, utf8_length((uint8_t)*q))) q += utf8_length((uint8_t)*q);
        if (most == 0) q = end;
        ok = push(j, &list, p, (size_t)(q - p));
        p = q;
    }
    return keep_list(j, &list, ok, out);
}

/* From the right: rsplit(sep, most). */
static bool rsplit(jinja *j, jvalue s, const jvalue *sep, int64_t most, jvalue *out) {
    if (most < 0 || !sep || sep->kind != J_STRING) {
        if (most < 0) return split(j, s, sep, most, out);
        return jinja_fail(j, SNUG_ERR_UNSUPPORTED, "rsplit at blanks with a limit is not supported");
    }
    if (sep->v.s.n == 0) return jinja_fail(j, SNUG_ERR_FORMAT, "split by an empty text");
    size_t end = s.v.s.n, k = sep->v.s.n;
    buf list = {0};
    bool ok = true;
    for (size_t at = end; ok && most > 0 && at >= k;) { /* `at`: where a separator would end */
        if (memcmp(s.v.s.p + at - k, sep->v.s.p, k) != 0) {
            at--;
            continue;
        }
        ok = push(j, &list, s.v.s.p + at, end - at);
        end = at -= k;
        most--;
    }
    ok = ok && push(j, &list, s.v.s.p, end) && keep_list(j, &list, true, out);
    if (!ok) {
        buf_fini(&list);
        return false;
    }
    jvalue forward = *out;
    return jinja_slice(j, forward, jv_none(), jv_none(), jv_int(-1), out);
}

static bool splitlines(jinja *j, jvalue s, bool keep_ends, jvalue *out) {
    const char *p = s.v.s.p, *end = p + s.v.s.n;
    buf list = {0};
    bool ok = true;
    while (ok && p < end) {
        const char *q = p;
        while (q < end && *q != '\n' && *q != '\r') q++;
        size_t ending = q == end ? 0 : *q == '\r' && q + 1 < end && q[1] == '\n' ? 2 : 1;
        ok = push(j, &list, p, (size_t)(q - p) + (keep_ends ? ending : 0));
        p = q + ending;
    }
    return keep_list(j, &list, ok, out);
}

static bool replace(jinja *j, jvalue s, jvalue from, jvalue to, int64_t most, jvalue *out) {
    const char *p = s.v.s.p, *end = p + s.v.s.n;
    buf b = {0};
    bool ok = true;
    while (ok && most != 0) {
        /* an empty `from` matches before every character and at the end */
        size_t k = from.v.s.n ? 0 : p < end ? utf8_length((uint8_t)*p) : 0;
        const char *hit = from.v.s.n ? bytes_find(p, (size_t)(end - p), from.v.s.p, from.v.s.n) : p;
        if (!hit || !jinja_step(j)) break;
        ok = jinja_put(j, &b, p, (size_t)(hit - p)) && jinja_put(j, &b, to.v.s.p, to.v.s.n) && jinja_put(j, &b, hit, k);
        p = hit + from.v.s.n + k;
        most--;
        if (!from.v.s.n && k == 0) break;
    }
    ok = ok && !j->failed && jinja_put(j, &b, p, (size_t)(end - p));
    if (ok) return jinja_keep(j, &b, out);
    buf_fini(&b);
    return false;
}

static bool starts(jvalue s, jvalue with) {
    return s.v.s.n >= with.v.s.n && memcmp(s.v.s.p, with.v.s.p, with.v.s.n) == 0;
}
static bool ends(jvalue s, jvalue with) {
    return s.v.s.n >= with.v.s.n && memcmp(s.v.s.p + s.v.s.n - with.v.s.n, with.v.s.p, with.v.s.n) == 0;
}

/* startswith(x) or startswith((x, y)) */
static bool starts_or_ends(jinja *j, jvalue s, const jvalue *with, bool start, jvalue *out) {
    jlist one = {0}, *l = &one;
    if (with && with->kind == J_LIST)
        l = with->v.list;
    else if (with && with->kind == J_STRING)
        one = (jlist){.item = (jvalue *)with, .n = 1};
    else
        return jinja_fail(j, SNUG_ERR_FORMAT, "startswith and endswith take a text or a tuple of texts");
    *out = jv_bool(false);
    for (size_t i = 0; i < l->n; i++) {
        if (l->item[i].kind != J_STRING)
            return jinja_fail(j, SNUG_ERR_FORMAT, "startswith and endswith take a text or a tuple of texts");
        if (start ? starts(s, l->item[i]) : ends(s, l->item[i])) *out = jv_bool(true);
    }
    return true;
}

/* find, rfind (-1: none), count: in characters */
static int64_t find(jvalue s, jvalue what, bool last) {
    const char *hit = NULL, *p = s.v.s.p, *end = p + s.v.s.n;
    if (what.v.s.n == 0) hit = last ? end : p;
    while (what.v.s.n && (p = bytes_find(p, (size_t)(end - p), what.v.s.p, what.v.s.n)) != NULL) {
        hit = p++;
        if (!last) break;
    }
    if (!hit) return -1;
    int64_t n = 0;
    for (const char *q = s.v.s.p; q < hit; q++) n += ((uint8_t)*q & 0xC0) != 0x80;
    return n;
}

static int64_t count(jvalue s, jvalue what) {
    int64_t n = 0;
    const char *p = s.v.s.p, *end = p + s.v.s.n;
    while (what.v.s.n && (p = bytes_find(p, (size_t)(end - p), what.v.s.p, what.v.s.n)) != NULL) n++, p += what.v.s.n;
    return n;
}

/* Every character is of the class and there is one. */
static bool all_of(jvalue s, jname name) {
    bool any_cased = false;
    for (size_t i = 0; i < s.v.s.n;) {
        uint32_t c = utf8_decode((const uint8_t *)s.v.s.p + i);
        utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
        bool letter = k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO, digit = k == UTF8PROC_CATEGORY_ND;
        bool ok = is(name, "isalpha")   ? letter
                  : is(name, "isalnum") ? letter || digit
                  : is(name, "isspace") ? in_set(NULL, s.v.s.p + i, 1) || utf8_is_space(c)
                  : is(name, "isupper") ? k != UTF8PROC_CATEGORY_LL
                  : is(name, "islower") ? k != UTF8PROC_CATEGORY_LU
                                        : digit;
        if (!ok) return false;
        any_cased |= cased(c);
        i += utf8_length((uint8_t)s.v.s.p[i]);
    }
    return is(name, "isupper") || is(name, "islower") ? any_cased : s.v.s.n > 0;
}

/* ---- methods ---- */

static const char *const string_methods[] = {
    "strip",    "lstrip",  "rstrip",  "split",   "rsplit",       "splitlines",   "startswith",
    "endswith", "upper",   "lower",   "title",   "capitalize",   "replace",      "find",
    "rfind",    "count",   "join",    "isdigit", "isdecimal",    "isnumeric",    "isalpha",
    "isalnum",  "isspace", "isupper", "islower", "removeprefix", "removesuffix", NULL};
static const char *const dict_methods[] = {"items", "keys", "values", "get", NULL};
static const char *const list_methods[] = {"index", "count", NULL};
static const char *const loop_methods[] = {"cycle", "changed", NULL};

bool jinja_has_method(jvalue self, jname name) {
    const char *const *list = self.kind == J_STRING ? string_methods
                              : self.kind == J_DICT ? dict_methods
                              : self.kind == J_LIST ? list_methods
                              : self.kind == J_LOOP ? loop_methods
                                                    : NULL;
    for (; list && *list; list++)
        if (is(name, *list)) return true;
    return false;
}

static int64_t limit_arg(const jargs *a, size_t i, const char *name) {
    const jvalue *v = jinja_arg(a, i, name);
    return v && v->kind == J_INT ? v->v.i : -1;
}

static bool string_method(jinja *j, jvalue s, jname name, const jargs *a, jvalue *out) {
    const jvalue *first = jinja_arg(a, 0, NULL), *second = jinja_arg(a, 1, NULL);
    jargs joined = {.pos = &s, .n_pos = 1};
    if (is(name, "strip") || is(name, "lstrip") || is(name, "rstrip")) {
        *out = strip(s, first, name.p[0] != 'r', name.p[0] != 'l');
        return true;
    }
    if (is(name, "split")) return split(j, s, jinja_arg(a, 0, "sep"), limit_arg(a, 1, "maxsplit"), out);
    if (is(name, "rsplit")) return rsplit(j, s, jinja_arg(a, 0, "sep"), limit_arg(a, 1, "maxsplit"), out);
    if (is(name, "splitlines")) return splitlines(j, s, first && jv_true(*first), out);
    if (is(name, "startswith") || is(name, "endswith")) return starts_or_ends(j, s, first, name.p[0] == 's', out);
    if (is(name, "upper")) return change_case(j, s, CASE_UPPER, out);
    if (is(name, "lower")) return change_case(j, s, CASE_LOWER, out);
    if (is(name, "title")) return change_case(j, s, CASE_TITLE, out);
    if (is(name, "capitalize")) return change_case(j, s, CASE_CAPITALIZE, out);
    if (is(name, "join"))
        return first ? jinja_filter(j, jinja_intern(j, "join", 4), *first, &joined, out)
                     : jinja_fail(j, SNUG_ERR_FORMAT, "join lacks an argument");
    if (name.p[0] == 'i') {
        *out = jv_bool(all_of(s, name));
        return true;
    }
    if (!first || first->kind != J_STRING)
        return jinja_fail(j, SNUG_ERR_FORMAT, "the method '%.*s' takes a text", (int)name.n, name.p);
    if (is(name, "replace")) {
        if (!second || second->kind != J_STRING) return jinja_fail(j, SNUG_ERR_FORMAT, "replace takes two texts");
        return replace(j, s, *first, *second, limit_arg(a, 2, "count"), out);
    }
    if (is(name, "find") || is(name, "rfind"))
        *out = jv_int(find(s, *first, name.p[0] == 'r'));
    else if (is(name, "count"))
        *out = jv_int(count(s, *first));
    else if (is(name, "removeprefix"))
        *out = starts(s, *first) ? jv_string(s.v.s.p + first->v.s.n, s.v.s.n - first->v.s.n) : s;
    else
        *out = ends(s, *first) ? jv_string(s.v.s.p, s.v.s.n - first->v.s.n) : s;
    return true;
}

static bool dict_method(jinja *j, jvalue self, jname name, const jargs *a, jvalue *out) {
    const jdict *d = self.v.dict;
    jargs none = {0};
    if (is(name, "get")) {
        const jvalue *key = jinja_arg(a, 0, NULL), *fallback = jinja_arg(a, 1, "default"), *v;
        if (!key) return jinja_fail(j, SNUG_ERR_FORMAT, "get lacks a key");
        v = jv_dict_get(j, d, *key);
        *out = v ? *v : fallback ? *fallback : jv_none();
        return true;
    }
    if (is(name, "items")) return jinja_filter(j, name, self, &none, out);
    if (!jv_list_new(j, d->n, out)) return false;
    if (d->n) memcpy(out->v.list->item, name.p[0] == 'k' ? d->key : d->value, d->n * sizeof(jvalue));
    return true;
}

static bool list_method(jinja *j, jvalue self, jname name, const jargs *a, jvalue *out) {
    const jvalue *what = jinja_arg(a, 0, NULL);
    int64_t n = 0, at = -1;
    if (!what) return jinja_fail(j, SNUG_ERR_FORMAT, "the method '%.*s' lacks an argument", (int)name.n, name.p);
    for (size_t i = 0; i < self.v.list->n; i++) {
        if (!jv_equal(j, self.v.list->item[i], *what)) continue;
        if (at < 0) at = (int64_t)i;
        n++;
    }
    if (is(name, "index") && at < 0) return jinja_fail(j, SNUG_ERR_FORMAT, "index of a value that is not in the list");
    *out = jv_int(is(name, "index") ? at : n);
    return true;
}

static bool loop_method(jinja *j, jvalue self, jname name, const jargs *a, jvalue *out) {
    jloop *l = self.v.loop;
    if (a->n_pos == 0) return jinja_fail(j, SNUG_ERR_FORMAT, "loop.%.*s lacks an argument", (int)name.n, name.p);
    if (is(name, "cycle")) {
        *out = a->pos[l->index % a->n_pos];
        return true;
    }
    *out = jv_bool(!l->has_changed || !jv_equal(j, l->changed, a->pos[0]));
    l->changed = a->pos[0];
    l->has_changed = true;
    return true;
}

bool jinja_method(jinja *j, jvalue self, jname name, const jargs *a, jvalue *out) {
    if (!jinja_step(j)) return false;
    switch (self.kind) {
    case J_STRING:
        return string_method(j, self, name, a, out);
    case J_DICT:
        return dict_method(j, self, name, a, out);
    case J_LOOP:
        return loop_method(j, self, name, a, out);
    default:
        return list_method(j, self, name, a, out);
    }
}

/* ---- text filters ---- */

/* indent(width=4, first=False, blank=False) */
static bool indent(jinja *j, jvalue s, const jargs *a, jvalue *out) {
    const jvalue *width = jinja_arg(a, 0, "width"), *first = jinja_arg(a, 1, "first"),
                 *blank = jinja_arg(a, 2, "blank");
    bool at_first = first && jv_true(*first), at_blank = blank && jv_true(*blank), ok = true;
    jvalue by = jv_literal("    ");
    buf b = {0};
    if (width && width->kind == J_STRING)
        by = *width;
    else if (width && (width->kind != J_INT || !jinja_binary(j, OP_MUL, jv_literal(" "), *width, &by)))
        return jinja_fail(j, SNUG_ERR_FORMAT, "indent by a %s", jv_type_name(*width));
    const char *p = s.v.s.p, *end = p + s.v.s.n;
    for (bool one = true; ok; one = false) {
        const char *nl = memchr(p, '\n', (size_t)(end - p)), *q = nl ? nl : end;
        if (one ? at_first : at_blank || q > p) ok = jv_append(j, &b, by);
        ok = ok && jinja_put(j, &b, p, (size_t)((nl ? nl + 1 : end) - p));
        if (!nl) break;
        p = nl + 1;
    }
    if (ok) return jinja_keep(j, &b, out);
    buf_fini(&b);
    return false;
}

static bool escape(jinja *j, jvalue s, jvalue *out) {
    buf b = {0};
    bool ok = true;
    for (size_t i = 0; i < s.v.s.n && ok; i++) {
        char c = s.v.s.p[i];
        const char *to = c == '&'    ? "&amp;"
                         : c == '<'  ? "&lt;"
                         : c == '>'  ? "&gt;"
                         : c == '\'' ? "&#39;"
                         : c == '"'  ? "&#34;"
                                     : NULL;
        ok = to ? jinja_put(j, &b, to, strlen(to)) : jinja_put(j, &b, &c, 1);
    }
    if (ok) return jinja_keep(j, &b, out);
    buf_fini(&b);
    return false;
}

/* Runs of word characters. */
static int64_t count_words(jvalue s) {
    int64_t n = 0;
    bool inside = false;
    for (size_t i = 0; i < s.v.s.n; i += utf8_length((uint8_t)s.v.s.p[i])) {
        bool word = utf8_is_word(utf8_decode((const uint8_t *)s.v.s.p + i));
        n += word && !inside;
        inside = word;
    }
    return n;
}

bool jinja_text_filter(jinja *j, jname name, jvalue of, const jargs *a, jvalue *out, bool *known) {
    static const char *const names[] = {"string",     "safe",    "trim",   "upper",  "lower", "title",
                                        "capitalize", "replace", "indent", "escape", "e",     "wordcount"};
    jvalue s;
    *known = false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) *known |= is(name, names[i]);
    if (!*known || !jv_text(j, of, &s)) return false;
    if (is(name, "trim"))
        *out = strip(s, jinja_arg(a, 0, "chars"), true, true);
    else if (is(name, "upper"))
        return change_case(j, s, CASE_UPPER, out);
    else if (is(name, "lower"))
        return change_case(j, s, CASE_LOWER, out);
    else if (is(name, "title"))
        return change_case(j, s, CASE_TITLE_FILTER, out);
    else if (is(name, "capitalize"))
        return change_case(j, s, CASE_CAPITALIZE, out);
    else if (is(name, "indent"))
        return of.kind == J_STRING ? indent(j, s, a, out)
                                   : jinja_fail(j, SNUG_ERR_FORMAT, "indent of a %s", jv_type_name(of));
    else if (is(name, "escape") || is(name, "e"))
        return escape(j, s, out);
    else if (is(name, "wordcount"))
        *out = jv_int(count_words(s));
    else if (is(name, "replace")) {
        const jvalue *from = jinja_arg(a, 0, "old"), *to = jinja_arg(a, 1, "new");
        jvalue x, y;
        if (!from || !to) return jinja_fail(j, SNUG_ERR_FORMAT, "replace takes two texts");
        return jv_text(j, *from, &x) && jv_text(j, *to, &y) && replace(j, s, x, y, limit_arg(a, 2, "count"), out);
    } else {
        *out = s; /* string, safe */
    }
    return true;
}
