/* The methods of strings. Case mapping is Unicode's, character by character (utf8proc); Python's few one-to-many mappings, such as ß to SS, are made
 * for upper(). */
#include "token/jinja_impl.h"
#include "token/utf8.h"
#include <string.h>
#include <utf8proc.h>

static bool is(jname name, const char *text) {
    return jinja_name_is(name, text);
}

/* ---- case ---- */

static bool cased(uint32_t c) {
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT;
}

static bool put_character(jinja *j, buf *b, utf8proc_int32_t c) {
    uint8_t form[4];
    return jinja_put(j, b, (const char *)form, utf8_encode((uint32_t)c, form));
}

/* The case folding of a character; more than one for those, such as sharp s and ligatures, whose capitals are several letters. */
static int folded(uint32_t c, utf8proc_int32_t to[4]) {
    int boundary = 0;
    const utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)c, to, 4, UTF8PROC_CASEFOLD, &boundary);
    return n < 1 || n > 4 ? (to[0] = (utf8proc_int32_t)c, 1) : (int)n;
}

/* title: the first letter of several as a capital alone. */
static bool put_upper(jinja *j, buf *b, uint32_t c, bool title) {
    utf8proc_int32_t several[4], one = title ? utf8proc_totitle((utf8proc_int32_t)c) : utf8proc_toupper((utf8proc_int32_t)c);
    const int n = utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_LU || (title && one != (utf8proc_int32_t)c && c != 0xDF) ? 1 : folded(c, several);
    if (n == 1) return put_character(j, b, one);
    bool ok = true;
    for (int i = 0; i < n && ok; i++) ok = put_character(j, b, i > 0 && title ? several[i] : utf8proc_toupper(several[i]));
    return ok;
}

static bool put_lower(jinja *j, buf *b, uint32_t c) {
    if (c == 0x130) return jinja_put(j, b, "i\xCC\x87", 3);
    return put_character(j, b, utf8proc_tolower((utf8proc_int32_t)c));
}

static bool put_folded(jinja *j, buf *b, uint32_t c) {
    utf8proc_int32_t several[4];
    const int n = folded(c, several);
    bool ok = true;
    for (int i = 0; i < n && ok; i++) ok = put_character(j, b, several[i]);
    return ok;
}

/* str.title() starts a word after any character without case; the title filter after blanks and -([{<. */
bool jinja_change_case(jinja *j, jvalue s, jcase how, jvalue *out) {
    buf b = {0};
    bool inside = false, ok = true;
    for (size_t i = 0; i < s.v.s.n && ok;) {
        uint32_t c = utf8_decode((const uint8_t *)s.v.s.p + i);
        bool up = how == CASE_UPPER || (how != CASE_LOWER && how != CASE_FOLD && !inside);
        if (how == CASE_SWAP) up = utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_LL;
        ok = how == CASE_FOLD ? put_folded(j, &b, c) : up ? put_upper(j, &b, c, how == CASE_TITLE || how == CASE_CAPITALIZE) : put_lower(j, &b, c);
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

jvalue jinja_strip(jvalue s, const jvalue *set, bool left, bool right) {
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
        jvalue left = jinja_strip(jv_string(p, (size_t)(end - p)), NULL, true, false);
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

/* The line end at p, in bytes; 0: none. Python's: \n \r \r\n \v \f FS GS RS NEL U+2028 U+2029. */
size_t jinja_line_end(const char *p, const char *end) {
    if (p[0] == '\r' && p + 1 < end && p[1] == '\n') return 2;
    if ((p[0] >= '\n' && p[0] <= '\r') || (p[0] >= 0x1C && p[0] <= 0x1E)) return 1;
    if (end - p >= 2 && memcmp(p, "\xC2\x85", 2) == 0) return 2;
    return end - p >= 3 && (memcmp(p, "\xE2\x80\xA8", 3) == 0 || memcmp(p, "\xE2\x80\xA9", 3) == 0) ? 3 : 0;
}

static bool splitlines(jinja *j, jvalue s, bool keep_ends, jvalue *out) {
    const char *p = s.v.s.p, *end = p + s.v.s.n;
    buf list = {0};
    bool ok = true;
    while (ok && p < end) {
        const char *q = p;
        size_t ending = 0;
        while (q < end && !(ending = jinja_line_end(q, end))) q++;
        ok = push(j, &list, p, (size_t)(q - p) + (keep_ends ? ending : 0));
        p = q + ending;
    }
    return keep_list(j, &list, ok, out);
}

bool jinja_replace(jinja *j, jvalue s, jvalue from, jvalue to, int64_t most, jvalue *out) {
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
    if (with && with->kind == J_LIST && with->v.list->form == FORM_TUPLE)
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

/* (before, separator, after) of the first or last separator; without one, all of the text is on the outer side. */
static bool partition(jinja *j, jvalue s, jvalue sep, bool last, jvalue *out) {
    const char *p = s.v.s.p, *end = p + s.v.s.n, *hit = NULL;
    if (sep.v.s.n == 0) return jinja_fail(j, SNUG_ERR_FORMAT, "partition by an empty text");
    for (const char *q = p; (q = bytes_find(q, (size_t)(end - q), sep.v.s.p, sep.v.s.n)) != NULL; q++) {
        hit = q;
        if (!last) break;
    }
    if (!jv_list_new(j, 3, out)) return false;
    jvalue *part = out->v.list->item, none = jv_literal("");
    out->v.list->form = FORM_TUPLE;
    part[0] = hit ? jv_string(p, (size_t)(hit - p)) : last ? none : s;
    part[1] = hit ? sep : none;
    part[2] = hit ? jv_string(hit + sep.v.s.n, (size_t)(end - hit) - sep.v.s.n) : last ? s : none;
    return true;
}

/* ljust, rjust, center, zfill */
bool jinja_justify(jinja *j, jvalue s, jname name, const jargs *a, jvalue *out) {
    const jvalue *width = jinja_arg(a, 0, NULL), *fill = jinja_arg(a, 1, NULL);
    if (!width || width->kind != J_INT || (fill && (fill->kind != J_STRING || fill->v.s.n == 0 || utf8_length((uint8_t)*fill->v.s.p) != fill->v.s.n)))
        return jinja_fail(j, SNUG_ERR_FORMAT, "the method '%.*s' takes a width and one character", (int)name.n, name.p);
    const char align = is(name, "ljust") ? '<' : is(name, "center") ? 'c' : is(name, "zfill") ? 'z' : '>';
    const char *with = fill ? fill->v.s.p : align == 'z' ? "0" : " ";
    buf b = {0};
    if (jinja_pad(j, &b, s.v.s.p, s.v.s.n, align, with, width->v.i)) return jinja_keep(j, &b, out);
    buf_fini(&b);
    return false;
}

/* Every character is of the class and there is one. */
static bool all_of(jvalue s, jname name) {
    bool any_cased = false;
    if (is(name, "isascii")) {
        for (size_t i = 0; i < s.v.s.n; i++)
            if ((uint8_t)s.v.s.p[i] >= 0x80) return false;
        return true;
    }
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

bool jinja_has_string_method(jname name) {
    static const char *const names[] = {
        "strip",  "lstrip",    "rstrip",   "split",   "rsplit",  "splitlines", "startswith",   "endswith",     "upper",   "lower",
        "title",  "swapcase",  "casefold", "replace", "find",    "rfind",      "index",        "rindex",       "count",   "join",
        "format", "isdigit",   "isalpha",  "isalnum", "isspace", "isupper",    "islower",      "isascii",      "ljust",   "rjust",
        "center", "zfill",     "isdecimal", "isnumeric", "capitalize", "partition", "rpartition", "removeprefix", "removesuffix"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is(name, names[i])) return true;
    return false;
}

int64_t jinja_limit_arg(const jargs *a, size_t i, const char *name) {
    const jvalue *v = jinja_arg(a, i, name);
    return v && v->kind == J_INT ? v->v.i : -1;
}

/* Texts alone can be joined by the method; one that is safe takes all and escapes it. */
static bool join(jinja *j, jvalue between, jvalue of, jvalue *out) {
    jlist l;
    buf text = {0};
    bool ok = jv_items(j, of, &l);
    for (size_t i = 0; i < l.n && ok; i++) {
        jvalue v = l.item[i];
        ok = between.safe || v.kind == J_STRING || jinja_fail(j, SNUG_ERR_FORMAT, "join of a %s", jv_type_name(v));
        ok = ok && (!between.safe || (jv_text(j, l.item[i], &v) && jinja_escape(j, v, &v))) && (i == 0 || jv_append(j, &text, between)) && jv_append(j, &text, v);
    }
    if (ok) return jinja_keep(j, &text, out);
    buf_fini(&text);
    return false;
}

/* The methods that take one text, or one and more behind it. */
static bool method_of_text(jinja *j, jvalue s, jname name, const jargs *a, jvalue *out) {
    const jvalue *first = jinja_arg(a, 0, NULL), *second = jinja_arg(a, 1, NULL);
    if (!first || first->kind != J_STRING)
        return jinja_fail(j, SNUG_ERR_FORMAT, "the method '%.*s' takes a text", (int)name.n, name.p);
    const jvalue what = *first;
    if (is(name, "replace")) {
        if (!second || second->kind != J_STRING) return jinja_fail(j, SNUG_ERR_FORMAT, "replace takes two texts");
        return jinja_replace(j, s, what, *second, jinja_limit_arg(a, 2, "count"), out);
    }
    if (is(name, "partition") || is(name, "rpartition")) return partition(j, s, what, name.p[0] == 'r', out);
    if (is(name, "count")) {
        *out = jv_int(count(s, what));
    } else if (is(name, "removeprefix")) {
        *out = starts(s, what) ? jv_string(s.v.s.p + what.v.s.n, s.v.s.n - what.v.s.n) : s;
    } else if (is(name, "removesuffix")) {
        *out = ends(s, what) ? jv_string(s.v.s.p, s.v.s.n - what.v.s.n) : s;
    } else { /* find, rfind, index, rindex */
        if (a->n_pos > 1) return jinja_fail(j, SNUG_ERR_UNSUPPORTED, "%.*s within a part of the text is not supported", (int)name.n, name.p);
        *out = jv_int(find(s, what, name.p[0] == 'r'));
        if (out->v.i < 0 && !is(name, "find") && !is(name, "rfind")) return jinja_fail(j, SNUG_ERR_FORMAT, "%.*s: not in the text", (int)name.n, name.p);
    }
    return true;
}

static bool plain_method(jinja *j, jvalue s, jname name, const jargs *a, jvalue *out) {
    const jvalue *first = jinja_arg(a, 0, NULL), *keep_ends = jinja_arg(a, 0, "keepends");
    if (is(name, "strip") || is(name, "lstrip") || is(name, "rstrip")) {
        if (first && first->kind != J_STRING && first->kind != J_NONE) return jinja_fail(j, SNUG_ERR_FORMAT, "%.*s of a %s", (int)name.n, name.p, jv_type_name(*first));
        *out = jinja_strip(s, first, name.p[0] != 'r', name.p[0] != 'l');
        return true;
    }
    if (is(name, "split")) return split(j, s, jinja_arg(a, 0, "sep"), jinja_limit_arg(a, 1, "maxsplit"), out);
    if (is(name, "rsplit")) return rsplit(j, s, jinja_arg(a, 0, "sep"), jinja_limit_arg(a, 1, "maxsplit"), out);
    if (is(name, "splitlines")) return splitlines(j, s, keep_ends && jv_true(*keep_ends), out);
    if (is(name, "startswith") || is(name, "endswith")) return starts_or_ends(j, s, first, name.p[0] == 's', out);
    if (is(name, "upper")) return jinja_change_case(j, s, CASE_UPPER, out);
    if (is(name, "lower")) return jinja_change_case(j, s, CASE_LOWER, out);
    if (is(name, "casefold")) return jinja_change_case(j, s, CASE_FOLD, out);
    if (is(name, "title")) return jinja_change_case(j, s, CASE_TITLE, out);
    if (is(name, "swapcase")) return jinja_change_case(j, s, CASE_SWAP, out);
    if (is(name, "capitalize")) return jinja_change_case(j, s, CASE_CAPITALIZE, out);
    if (is(name, "format")) return jinja_format(j, s, a, out);
    if (is(name, "ljust") || is(name, "rjust") || is(name, "center") || is(name, "zfill")) return jinja_justify(j, s, name, a, out);
    if (is(name, "join"))
        return first ? join(j, s, *first, out) : jinja_fail(j, SNUG_ERR_FORMAT, "join lacks an argument");
    if (name.n > 2 && memcmp(name.p, "is", 2) == 0) {
        *out = jv_bool(all_of(s, name));
        return true;
    }
    return method_of_text(j, s, name, a, out);
}

/* What a safe text makes is safe; texts put into it are escaped first. */
bool jinja_string_method(jinja *j, jvalue s, jname name, const jargs *a, jvalue *out) {
    if (!s.safe) return plain_method(j, s, name, a, out);
    jargs safe = *a;
    if (is(name, "replace") || is(name, "format")) {
        if (!(safe.pos = jinja_alloc(j, a->n_pos, sizeof *safe.pos)) || !(safe.value = jinja_alloc(j, a->n_keys, sizeof *safe.value))) return false;
        for (size_t i = 0; i < a->n_pos; i++)
            if (a->pos[i].kind != J_STRING) safe.pos[i] = a->pos[i];
            else if (!jinja_escape(j, a->pos[i], &safe.pos[i])) return false;
        for (size_t i = 0; i < a->n_keys; i++)
            if (a->value[i].kind != J_STRING) safe.value[i] = a->value[i];
            else if (!jinja_escape(j, a->value[i], &safe.value[i])) return false;
    }
    if (!plain_method(j, s, name, &safe, out)) return false;
    out->safe = out->kind == J_STRING;
    for (size_t i = 0; out->kind == J_LIST && i < out->v.list->n; i++) out->v.list->item[i].safe = true;
    return true;
}
