/* The filters that work on text; what is no text is made one first. Most do what a method of strings does, and call it. */
#include "token/jinja_impl.h"
#include "token/utf8.h"
#include <string.h>

static bool is(jname name, const char *text) {
    return jinja_name_is(name, text);
}

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
    for (bool one = true; ok; one = false) { /* whatever ends a line, \n does afterwards */
        const char *q = p;
        size_t ending = 0;
        while (q < end && !(ending = jinja_line_end(q, end))) q++;
        if (one ? at_first : at_blank || q > p) ok = jv_append(j, &b, by);
        ok = ok && jinja_put(j, &b, p, (size_t)(q - p)) && (!ending || jinja_put(j, &b, "\n", 1));
        if (!ending) break;
        p = q + ending;
    }
    if (ok) return jinja_keep(j, &b, out);
    buf_fini(&b);
    return false;
}

bool jinja_escape(jinja *j, jvalue s, jvalue *out) {
    buf b = {0};
    bool ok = true;
    *out = s;
    if (s.safe) return true;
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
    if (ok) ok = jinja_keep(j, &b, out);
    else buf_fini(&b);
    out->safe = ok;
    return ok;
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

/* Those of the filters that give text which is safe if what they were given was. */
static bool filter_keeps_mark(jname name) {
    return is(name, "string") || is(name, "trim") || is(name, "upper") || is(name, "lower") || is(name, "capitalize") || is(name, "indent");
}

static bool filter_replace(jinja *j, jvalue s, const jargs *a, jvalue *out) {
    const jvalue *from = jinja_arg(a, 0, "old"), *to = jinja_arg(a, 1, "new");
    jvalue x, y;
    if (!from || !to) return jinja_fail(j, SNUG_ERR_FORMAT, "replace takes two texts");
    return jv_text(j, *from, &x) && jv_text(j, *to, &y) && jinja_replace(j, s, x, y, jinja_limit_arg(a, 2, "count"), out);
}

/* "%s: %d" | format("a", 1), or with keywords "%(name)s" | format(name="a") */
static bool filter_format(jinja *j, jvalue s, const jargs *a, jvalue *out) {
    jvalue with;
    if (a->n_keys) {
        jdict *d = jinja_alloc(j, 1, sizeof *d);
        for (size_t i = 0; d && i < a->n_keys; i++)
            if (!jv_dict_set(j, d, jv_string(a->key[i].p, a->key[i].n), a->value[i])) return false;
        return d && jinja_percent(j, s, (jvalue){.kind = J_DICT, .v.dict = d}, out);
    }
    if (!jv_list_new(j, a->n_pos, &with)) return false;
    if (a->n_pos) memcpy(with.v.list->item, a->pos, a->n_pos * sizeof *a->pos);
    with.v.list->form = FORM_TUPLE;
    return jinja_percent(j, s, with, out);
}

static bool text_filter(jinja *j, jname name, jvalue of, jvalue s, const jargs *a, jvalue *out) {
    *out = s; /* string, safe */
    if (is(name, "trim"))
        *out = jinja_strip(s, jinja_arg(a, 0, "chars"), true, true);
    else if (is(name, "upper"))
        return jinja_change_case(j, s, CASE_UPPER, out);
    else if (is(name, "lower"))
        return jinja_change_case(j, s, CASE_LOWER, out);
    else if (is(name, "title"))
        return jinja_change_case(j, s, CASE_TITLE_FILTER, out);
    else if (is(name, "capitalize"))
        return jinja_change_case(j, s, CASE_CAPITALIZE, out);
    else if (is(name, "indent"))
        return of.kind == J_STRING ? indent(j, s, a, out)
                                   : jinja_fail(j, SNUG_ERR_FORMAT, "indent of a %s", jv_type_name(of));
    else if (is(name, "escape") || is(name, "e"))
        return jinja_escape(j, s, out);
    else if (is(name, "wordcount"))
        *out = jv_int(count_words(s));
    else if (is(name, "replace"))
        return filter_replace(j, s, a, out);
    else if (is(name, "format"))
        return filter_format(j, s, a, out);
    else if (is(name, "center")) {
        const jargs width = {.pos = &(jvalue){.kind = J_INT, .v.i = 80}, .n_pos = 1};
        return jinja_justify(j, s, name, a->n_pos ? a : &width, out);
    }
    return true;
}

bool jinja_text_filter(jinja *j, jname name, jvalue of, const jargs *a, jvalue *out, bool *known) {
    static const char *const names[] = {"string", "safe",   "trim", "upper",     "lower",  "title", "capitalize", "replace",
                                        "indent", "escape", "e",    "wordcount", "format", "center"};
    jvalue s;
    *known = false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) *known |= is(name, names[i]);
    if (!*known || !jv_text(j, of, &s) || !text_filter(j, name, of, s, a, out)) return false;
    out->safe = out->kind == J_STRING && (is(name, "safe") || is(name, "escape") || is(name, "e") || (of.safe && filter_keeps_mark(name)));
    return true;
}
