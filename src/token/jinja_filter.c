/* Filters. Those that take another filter's or test's name (map, select, selectattr ...) come first, then sequences,
 * then scalars; text filters are in jinja_method.c, beside the methods that do the same. */
#include "token/jinja_impl.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is(jname name, const char *text) {
    return jinja_name_is(name, text);
}

/* map, select and their kin take anything that is false, 0 too, as nothing to do. */
static bool items_if_true(jinja *j, jvalue v, jlist *out) {
    *out = (jlist){0};
    return !jv_true(v) || jv_items(j, v, out);
}

static bool undefined(jinja *j, jvalue v) {
    return jinja_fail(j, SNUG_ERR_FORMAT, "'%.*s' is undefined", (int)(v.v.s.n < 80 ? v.v.s.n : 80), v.v.s.p);
}

static bool need(jinja *j, jname filter, const jvalue *v) {
    return v || jinja_fail(j, SNUG_ERR_FORMAT, "the filter '%.*s' lacks an argument", (int)filter.n, filter.p);
}

static jargs rest(const jargs *a, size_t skip) {
    jargs r = *a;
    if (skip > r.n_pos) skip = r.n_pos;
    if (skip) r.pos += skip; /* no arithmetic on a null pointer */
    r.n_pos -= skip;
    return r;
}

/* "a.b" looks up a, then b in it; whole numbers index lists. */
static bool by_path(jinja *j, jvalue of, jvalue path, jvalue *out) {
    *out = of;
    if (path.kind != J_STRING) return jinja_item(j, of, path, out);
    const char *p = path.v.s.p, *end = p + path.v.s.n;
    while (p <= end) {
        const char *dot = memchr(p, '.', (size_t)(end - p));
        size_t n = (size_t)((dot ? dot : end) - p);
        bool number = n > 0 && n < 10;
        for (size_t i = 0; i < n; i++) number &= p[i] >= '0' && p[i] <= '9';
        jvalue key = number ? jv_int(strtol(p, NULL, 10)) : jv_string(p, n), from = *out;
        if (!jinja_item(j, from, key, out)) return false;
        if (!dot) break;
        p = dot + 1;
    }
    return true;
}

/* select, reject, selectattr, rejectattr */
static bool filter_select(jinja *j, jname name, jvalue of, const jargs *a, jvalue *out) {
    bool by_attribute = is(name, "selectattr") || is(name, "rejectattr"), wanted = name.p[0] == 's';
    jlist l;
    size_t used = by_attribute ? 1 : 0, n = 0;
    if (!items_if_true(j, of, &l) || (by_attribute && !need(j, name, jinja_arg(a, 0, NULL))) ||
        !jv_list_new(j, l.n, out))
        return false;
    const jvalue *test = jinja_arg(a, used, NULL);
    if (test && test->kind != J_STRING)
        return jinja_fail(j, SNUG_ERR_FORMAT, "the filter '%.*s' takes a test's name", (int)name.n, name.p);
    jname test_name = test ? jinja_intern(j, test->v.s.p, test->v.s.n) : (jname){0};
    jargs more = rest(a, used + 1);
    for (size_t i = 0; i < l.n; i++) {
        jvalue v = l.item[i];
        bool hit;
        if (!jinja_step(j) || (by_attribute && !by_path(j, l.item[i], a->pos[0], &v))) return false;
        if (!test)
            hit = jv_true(v);
        else if (!jinja_test(j, test_name, v, &more, &hit))
            return false;
        if (hit == wanted) out->v.list->item[n++] = l.item[i];
    }
    out->v.list->n = n;
    out->v.list->form = FORM_ITERATOR;
    return true;
}

/* map('upper'), map(attribute='a.b', default=x) */
static bool filter_map(jinja *j, jname name, jvalue of, const jargs *a, jvalue *out) {
    const jvalue *attribute = jinja_arg(a, SIZE_MAX, "attribute"), *fallback = jinja_arg(a, SIZE_MAX, "default"),
                 *f = jinja_arg(a, 0, NULL);
    jlist l;
    if (!items_if_true(j, of, &l) || !jv_list_new(j, l.n, out)) return false;
    out->v.list->form = FORM_ITERATOR;
    if (!attribute && !need(j, name, f)) return false;
    if (!attribute && f->kind != J_STRING) return jinja_fail(j, SNUG_ERR_FORMAT, "map takes a filter's name");
    jargs more = rest(a, 1);
    for (size_t i = 0; i < l.n; i++) {
        jvalue *to = &out->v.list->item[i];
        if (!jinja_step(j)) return false;
        if (!attribute) {
            if (!jinja_filter(j, jinja_intern(j, f->v.s.p, f->v.s.n), l.item[i], &more, to)) return false;
        } else {
            if (!by_path(j, l.item[i], *attribute, to)) return false;
            if (to->kind == J_UNDEFINED && fallback) *to = *fallback;
        }
    }
    return true;
}

static bool filter_join(jinja *j, jvalue of, const jargs *a, jvalue *out) {
    const jvalue *sep = jinja_arg(a, 0, "d"), *attribute = jinja_arg(a, 1, "attribute");
    jvalue between = jv_literal("");
    jlist l;
    buf text = {0};
    if (!jv_items(j, of, &l) || (sep && !jv_text(j, *sep, &between))) return false;
    for (size_t i = 0; i < l.n; i++) {
        jvalue v = l.item[i];
        bool ok = (!attribute || by_path(j, l.item[i], *attribute, &v)) && (i == 0 || jv_append(j, &text, between)) &&
                  jv_append(j, &text, v);
        if (ok) continue;
        buf_fini(&text);
        return false;
    }
    return jinja_keep(j, &text, out);
}

/* As transformers defines it: tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False) */
static bool filter_tojson(jinja *j, jvalue of, const jargs *a, jvalue *out) {
    const jvalue *ascii = jinja_arg(a, 0, "ensure_ascii"), *indent = jinja_arg(a, 1, "indent"),
                 *separators = jinja_arg(a, 2, "separators"), *sort = jinja_arg(a, 3, "sort_keys");
    int spaces = indent && indent->kind == J_INT && indent->v.i >= 0 && indent->v.i <= 64 ? (int)indent->v.i : -1;
    jvalue sep[2] = {jv_literal(spaces >= 0 ? "," : ", "), jv_literal(": ")};
    if (indent && spaces < 0 && indent->kind != J_NONE)
        return jinja_fail(j, SNUG_ERR_UNSUPPORTED, "tojson with an indent that is no number from 0 to 64");
    if (separators && separators->kind == J_LIST && separators->v.list->n == 2)
        for (int i = 0; i < 2; i++)
            if (!jv_text(j, separators->v.list->item[i], &sep[i])) return false;
    const jdump how = {spaces, sort && jv_true(*sort), ascii && jv_true(*ascii), sep[0].v.s.p, sep[1].v.s.p};
    buf text = {0};
    if (jv_append_json(j, &text, of, &how)) return jinja_keep(j, &text, out);
    buf_fini(&text);
    return false;
}

/* ---- sequences ---- */

static bool copy_items(jinja *j, jvalue of, jvalue *out) {
    jlist l;
    if (!jv_items(j, of, &l) || !jv_list_new(j, l.n, out)) return false;
    if (l.n) memcpy(out->v.list->item, l.item, l.n * sizeof *l.item);
    return true;
}

bool jinja_pairs(jinja *j, jvalue of, jform form, jvalue *out) {
    const jdict none = {0}, *d = of.kind == J_DICT ? of.v.dict : &none;
    if (of.kind != J_DICT && of.kind != J_UNDEFINED) return jinja_fail(j, SNUG_ERR_FORMAT, "the items of a %s", jv_type_name(of));
    if (!jv_list_new(j, d->n, out)) return false;
    out->v.list->form = form;
    for (size_t i = 0; i < d->n; i++) {
        jvalue *pair = &out->v.list->item[i];
        if (!jv_list_new(j, 2, pair)) return false;
        pair->v.list->form = FORM_TUPLE;
        pair->v.list->item[0] = d->key[i];
        pair->v.list->item[1] = d->value[i];
    }
    return true;
}

static bool lower_copy(jinja *j, jvalue v, jvalue *out) {
    jargs none = {0};
    *out = v;
    return v.kind != J_STRING || jinja_filter(j, jinja_intern(j, "lower", 5), v, &none, out);
}

/* Merge sort by key: stable, as Python's. */
static bool merge_sort(jinja *j, jvalue *item, jvalue *key, jvalue *spare, size_t n, bool reverse) {
    if (n < 2) return true;
    size_t half = n / 2, a = 0, b = half, k = 0;
    if (!jinja_enter(j) || !merge_sort(j, item, key, spare, half, reverse) ||
        !merge_sort(j, item + half, key + half, spare, n - half, reverse))
        return false;
    while (a < half || b < n) {
        bool ok = true, take_b = a == half;
        if (a < half && b < n) {
            /* equal ones need not have an order: values that are undefined, of two items without the attribute */
            int c = jv_equal(j, key[a], key[b]) ? 0 : jv_compare(j, key[a], key[b], &ok);
            take_b = reverse ? c < 0 : c > 0;
        }
        if (!ok)
            return jinja_fail(j, SNUG_ERR_FORMAT, "sorting a %s and a %s", jv_type_name(key[a]), jv_type_name(key[b]));
        size_t from = take_b ? b++ : a++;
        spare[2 * k] = item[from];
        spare[2 * k++ + 1] = key[from];
    }
    for (size_t i = 0; i < n; i++) item[i] = spare[2 * i], key[i] = spare[2 * i + 1];
    j->depth--;
    return jinja_step(j);
}

static bool filter_sort(jinja *j, jvalue of, const jargs *a, jvalue *out) {
    const jvalue *reverse = jinja_arg(a, 0, "reverse"), *sensitive = jinja_arg(a, 1, "case_sensitive"),
                 *attribute = jinja_arg(a, 2, "attribute");
    if (!copy_items(j, of, out)) return false;
    size_t n = out->v.list->n;
    jvalue *key = jinja_alloc(j, n + 1, sizeof *key), *spare = jinja_alloc(j, 2 * n + 1, sizeof *spare);
    if (!key || !spare) return false;
    for (size_t i = 0; i < n; i++) {
        jvalue v = out->v.list->item[i];
        if (attribute && !by_path(j, out->v.list->item[i], *attribute, &v)) return false;
        if (sensitive && jv_true(*sensitive))
            key[i] = v;
        else if (!lower_copy(j, v, &key[i]))
            return false;
    }
    return merge_sort(j, out->v.list->item, key, spare, n, reverse && jv_true(*reverse));
}

/* dictsort: pairs sorted by key (or by="value"). */
static bool filter_dictsort(jinja *j, jvalue of, const jargs *a, jvalue *out) {
    const jvalue *sensitive = jinja_arg(a, 0, "case_sensitive"), *by = jinja_arg(a, 1, "by"),
                 *reverse = jinja_arg(a, 2, "reverse");
    int part = by && by->kind == J_STRING && by->v.s.n == 5 ? 1 : 0;
    if (of.kind == J_UNDEFINED) return undefined(j, of);
    if (!jinja_pairs(j, of, FORM_LIST, out)) return false;
    size_t n = out->v.list->n;
    jvalue *key = jinja_alloc(j, n + 1, sizeof *key), *spare = jinja_alloc(j, 2 * n + 1, sizeof *spare);
    if (!key || !spare) return false;
    for (size_t i = 0; i < n; i++) {
        jvalue v = out->v.list->item[i].v.list->item[part];
        if (sensitive && jv_true(*sensitive))
            key[i] = v;
        else if (!lower_copy(j, v, &key[i]))
            return false;
    }
    return merge_sort(j, out->v.list->item, key, spare, n, reverse && jv_true(*reverse));
}

static bool filter_unique(jinja *j, jvalue of, const jargs *a, jvalue *out) {
    const jvalue *sensitive = jinja_arg(a, 0, "case_sensitive"), *attribute = jinja_arg(a, 1, "attribute");
    jlist l;
    size_t n = 0;
    if (!jv_items(j, of, &l) || !jv_list_new(j, l.n, out)) return false;
    jvalue *key = jinja_alloc(j, l.n + 1, sizeof *key);
    if (!key) return false;
    for (size_t i = 0; i < l.n; i++) {
        jvalue v = l.item[i];
        bool seen = false;
        if (attribute && !by_path(j, l.item[i], *attribute, &v)) return false;
        if (!(sensitive && jv_true(*sensitive)) && !lower_copy(j, v, &v)) return false;
        if (v.kind == J_DICT || (v.kind == J_LIST && v.v.list->form == FORM_LIST)) return jinja_fail(j, SNUG_ERR_FORMAT, "unique: of a %s", jv_type_name(v));
        for (size_t k = 0; k < n && !seen; k++) seen = jv_equal(j, key[k], v);
        if (j->failed) return false;
        if (seen) continue;
        key[n] = v;
        out->v.list->item[n++] = l.item[i];
    }
    out->v.list->n = n;
    out->v.list->form = FORM_ITERATOR;
    return true;
}

/* A text, or an iterator; of an iterator a list, since Python has to make one. */
static bool filter_reverse(jinja *j, jvalue of, jvalue *out) {
    jvalue items;
    if (of.kind == J_STRING) return jinja_slice(j, of, jv_none(), jv_none(), jv_int(-1), out);
    bool once = of.kind == J_LIST && of.v.list->form == FORM_ITERATOR;
    if (!copy_items(j, of, &items) || !jinja_slice(j, items, jv_none(), jv_none(), jv_int(-1), out)) return false;
    out->v.list->form = once ? FORM_LIST : FORM_ITERATOR;
    return true;
}

/* first takes one item out of an iterator; last needs more than an iterator. */
static bool filter_edge(jinja *j, jvalue of, bool last, jvalue *out) {
    const bool once = of.kind == J_LIST && of.v.list->form == FORM_ITERATOR;
    jlist l;
    if (once && last) return jinja_fail(j, SNUG_ERR_FORMAT, "the last of a generator: make a list of it (filter list)");
    if (!jv_items(j, of, &l)) return false;
    *out = l.n ? l.item[last ? l.n - 1 : 0] : jv_undefined("No first item, sequence was empty.", 34);
    if (once && l.n) *of.v.list = (jlist){.item = l.item + 1, .n = l.n - 1, .form = FORM_ITERATOR};
    return true;
}

/* sum(attribute, start) */
static bool filter_sum(jinja *j, jvalue of, const jargs *a, jvalue *out) {
    const jvalue *attribute = jinja_arg(a, 0, "attribute"), *start = jinja_arg(a, 1, "start");
    jlist l;
    if (!jv_items(j, of, &l)) return false;
    *out = start ? *start : jv_int(0);
    for (size_t i = 0; i < l.n; i++) {
        jvalue v = l.item[i], so_far = *out;
        if ((attribute && !by_path(j, l.item[i], *attribute, &v)) || !jinja_binary(j, OP_ADD, so_far, v, out)) return false;
    }
    return true;
}

/* min, max(case_sensitive, attribute): the first of the smallest or largest */
static bool filter_extreme(jinja *j, jvalue of, bool max, const jargs *a, jvalue *out) {
    const jvalue *sensitive = jinja_arg(a, 0, "case_sensitive"), *attribute = jinja_arg(a, 1, "attribute");
    jvalue best = jv_none(), key;
    jlist l;
    if (!jv_items(j, of, &l)) return false;
    *out = jv_undefined("No aggregated item, sequence was empty.", 39);
    for (size_t i = 0; i < l.n; i++) {
        jvalue v = l.item[i];
        bool ok = true;
        if (attribute && !by_path(j, l.item[i], *attribute, &v)) return false;
        key = v;
        if (!(sensitive && jv_true(*sensitive)) && !lower_copy(j, v, &key)) return false;
        const int c = i == 0 ? 0 : jv_compare(j, key, best, &ok);
        if (!ok) return jinja_fail(j, SNUG_ERR_FORMAT, "comparing a %s and a %s", jv_type_name(key), jv_type_name(best));
        if (i > 0 && (max ? c <= 0 : c >= 0)) continue;
        best = key;
        *out = l.item[i];
    }
    return !j->failed;
}

/* ---- scalars ---- */

static bool filter_default(const jargs *a, jvalue of, jvalue *out) {
    const jvalue *fallback = jinja_arg(a, 0, "default_value"), *boolean = jinja_arg(a, 1, "boolean");
    bool missing = of.kind == J_UNDEFINED || (boolean && jv_true(*boolean) && !jv_true(of));
    *out = !missing ? of : fallback ? *fallback : jv_literal("");
    return true;
}

static double to_double(jvalue v, bool *ok) {
    char text[64], *end = text;
    *ok = true;
    if (v.kind == J_INT) return (double)v.v.i;
    if (v.kind == J_BOOL) return v.v.b;
    if (v.kind == J_FLOAT) return v.v.f;
    size_t n = v.kind == J_STRING && v.v.s.n < sizeof text ? v.v.s.n : 0;
    if (n) memcpy(text, v.v.s.p, n);
    text[n] = 0;
    double f = strtod(text, &end);
    *ok = end > text && !memchr(text, 'x', n) && !memchr(text, 'X', n); /* Python reads no hexadecimal here */
    while (*end == ' ' || (*end >= '\t' && *end <= '\r')) end++;
    *ok &= end == text + n;
    return f;
}

static bool filter_int(jinja *j, const jargs *a, jvalue of, jvalue *out) {
    const jvalue *fallback = jinja_arg(a, 0, "default");
    bool ok;
    double f = to_double(of, &ok);
    if (of.kind == J_UNDEFINED) return undefined(j, of);
    if (of.kind == J_INT)
        *out = of;
    else if (ok && !(fabs(f) < 9.2e18))
        return jinja_fail(j, SNUG_ERR_FORMAT, "an integer beyond 64 bits");
    else
        *out = ok ? jv_int((int64_t)f) : fallback ? *fallback : jv_int(0);
    return true;
}

static bool filter_float(jinja *j, const jargs *a, jvalue of, jvalue *out) {
    const jvalue *fallback = jinja_arg(a, 0, "default");
    bool ok;
    double f = to_double(of, &ok);
    if (of.kind == J_UNDEFINED) return undefined(j, of);
    *out = ok ? jv_float(f) : fallback ? *fallback : jv_float(0);
    return true;
}

/* Python's round(): to the nearest, by the number's exact value, ties to even; a whole number stays one. ceil and floor go by powers of ten. */
static bool filter_round(jinja *j, const jargs *a, jvalue of, jvalue *out) {
    const jvalue *precision = jinja_arg(a, 0, "precision"), *method = jinja_arg(a, 1, "method");
    const int64_t digits = precision && precision->kind == J_INT ? precision->v.i : 0;
    const bool whole = of.kind == J_INT || of.kind == J_BOOL, ceiling = method && method->kind == J_STRING && method->v.s.n == 4,
               floored = method && method->kind == J_STRING && method->v.s.n == 5;
    char text[400];
    bool ok;
    double f = to_double(of, &ok), scale = pow(10, (double)digits);
    if (!ok || of.kind == J_STRING) return jinja_fail(j, SNUG_ERR_FORMAT, "rounding a %s", jv_type_name(of));
    if (digits < 0 || digits > 60) return jinja_fail(j, SNUG_ERR_UNSUPPORTED, "rounding to %lld digits is not supported", (long long)digits);
    if (ceiling || floored) {
        *out = jv_float((ceiling ? ceil(f * scale) : floor(f * scale)) / scale);
    } else if (whole) {
        *out = jv_int(of.kind == J_INT ? of.v.i : of.v.b);
    } else {
        snprintf(text, sizeof text, "%.*f", (int)digits, f);
        *out = jv_float(strtod(text, NULL));
    }
    return true;
}

static bool filter_abs(jinja *j, jvalue of, jvalue *out) {
    if (of.kind == J_FLOAT)
        *out = jv_float(fabs(of.v.f));
    else if (of.kind == J_BOOL)
        *out = jv_int(of.v.b);
    else if (of.kind == J_INT)
        return of.v.i < 0 ? jinja_binary(j, OP_SUB, jv_int(0), of, out) : (*out = of, true);
    else
        return jinja_fail(j, SNUG_ERR_FORMAT, "the absolute value of a %s", jv_type_name(of));
    return true;
}

bool jinja_filter(jinja *j, jname name, jvalue of, const jargs *a, jvalue *out) {
    bool known;
    size_t n;
    if (!name.p || !jinja_step(j)) return false;
    if (is(name, "default") || is(name, "d")) return filter_default(a, of, out);
    if (is(name, "tojson")) return filter_tojson(j, of, a, out);
    if (is(name, "length") || is(name, "count")) return jv_length(j, of, &n) && (*out = jv_int((int64_t)n), true);
    if (is(name, "join")) return filter_join(j, of, a, out);
    if (is(name, "map")) return filter_map(j, name, of, a, out);
    if (is(name, "select") || is(name, "reject") || is(name, "selectattr") || is(name, "rejectattr"))
        return filter_select(j, name, of, a, out);
    if (is(name, "list")) return copy_items(j, of, out);
    if (is(name, "first")) return filter_edge(j, of, false, out);
    if (is(name, "last")) return filter_edge(j, of, true, out);
    if (is(name, "items")) return jinja_pairs(j, of, FORM_ITERATOR, out);
    if (is(name, "dictsort")) return filter_dictsort(j, of, a, out);
    if (is(name, "sort")) return filter_sort(j, of, a, out);
    if (is(name, "unique")) return filter_unique(j, of, a, out);
    if (is(name, "reverse")) return filter_reverse(j, of, out);
    if (is(name, "sum")) return filter_sum(j, of, a, out);
    if (is(name, "min") || is(name, "max")) return filter_extreme(j, of, name.p[1] == 'a', a, out);
    if (is(name, "int")) return filter_int(j, a, of, out);
    if (is(name, "float")) return filter_float(j, a, of, out);
    if (is(name, "abs")) return filter_abs(j, of, out);
    if (is(name, "round")) return filter_round(j, a, of, out);
    if (is(name, "attr")) {
        const jvalue *key = jinja_arg(a, 0, "name");
        if (!need(j, name, key) || key->kind != J_STRING) return jinja_fail(j, SNUG_ERR_FORMAT, "attr takes a name");
        *out = jv_undefined(key->v.s.p, key->v.s.n);
        return of.kind == J_DICT || jinja_attribute(j, of, jinja_intern(j, key->v.s.p, key->v.s.n), out);
    }
    if (jinja_text_filter(j, name, of, a, out, &known) || known) return !j->failed;
    return jinja_fail(j, SNUG_ERR_UNSUPPORTED, "the filter '%.*s' is not supported", (int)(name.n < 60 ? name.n : 60),
                      name.p);
}
