/* Values: conversion from JSON, truth, equality, order, lists and dictionaries. Python's rules: True == 1, 1 == 1.0,
 * strings by code point (which UTF-8's byte order is), lists element by element. */
#include "base/err.h"
#include "token/jinja_impl.h"
#include "token/utf8.h"
#include <string.h>

jvalue jv_literal(const char *s) {
    return jv_string(s, strlen(s));
}

const char *jv_type_name(jvalue v) {
    static const char *const name[] = {"undefined",  "none",      "boolean", "integer",  "float", "string", "list",
                                       "dictionary", "namespace", "macro",   "function", "loop",  "method"};
    static const char *const form[] = {"list", "tuple", "range", "view of a dictionary", "generator"};
    return v.kind == J_LIST ? form[v.v.list->form] : name[v.kind];
}

bool jv_list_new(jinja *j, size_t n, jvalue *out) {
    jlist *l = jinja_alloc(j, 1, sizeof *l);
    if (!l) return false;
    l->n = n;
    if (n && !(l->item = jinja_alloc(j, n, sizeof *l->item))) return false;
    *out = (jvalue){.kind = J_LIST, .v.list = l};
    return true;
}

const jvalue *jv_dict_get(jinja *j, const jdict *d, jvalue key) {
    for (size_t i = 0; i < d->n; i++)
        if (jv_equal(j, d->key[i], key)) return &d->value[i];
    return NULL;
}

bool jv_dict_set(jinja *j, jdict *d, jvalue key, jvalue value) {
    if (key.kind == J_LIST ? key.v.list->form != FORM_TUPLE : key.kind > J_STRING || key.kind == J_UNDEFINED)
        return jinja_fail(j, SNUG_ERR_FORMAT, "a %s cannot be a dictionary's key", jv_type_name(key));
    for (size_t i = 0; i < d->n; i++)
        if (jv_equal(j, d->key[i], key)) {
            d->value[i] = value;
            return true;
        }
    if (d->n == d->cap) {
        size_t cap = d->cap ? 2 * d->cap : 8;
        jvalue *k = jinja_alloc(j, cap, sizeof *k), *v = jinja_alloc(j, cap, sizeof *v);
        if (!k || !v) return false;
        if (d->n) memcpy(k, d->key, d->n * sizeof *k), memcpy(v, d->value, d->n * sizeof *v);
        d->key = k;
        d->value = v;
        d->cap = cap;
    }
    d->key[d->n] = key;
    d->value[d->n++] = value;
    return true;
}

static bool string_from_json(jinja *j, const json_t *from, jvalue *out) {
    size_t n = json_string_length(from);
    char *p = arena_strndup(&j->mem, json_string_value(from), n);
    if (!p) return jinja_fail(j, SNUG_ERR_NOMEM, "no memory for %zu bytes", n);
    *out = jv_string(p, n);
    return true;
}

static bool object_from_json(jinja *j, const json_t *from, jvalue *out) {
    jdict *d = jinja_alloc(j, 1, sizeof *d);
    const char *key;
    json_t *item;
    size_t n = json_object_size(from);
    if (!d) return false;
    d->key = jinja_alloc(j, n + 1, sizeof *d->key);
    d->value = jinja_alloc(j, n + 1, sizeof *d->value);
    if (!d->key || !d->value) return false;
    d->cap = n + 1;
    json_object_foreach((json_t *)from, key, item) { /* jansson's keys are unique and in the order of insertion */
        char *copy = arena_strdup(&j->mem, key);
        if (!copy) return jinja_fail(j, SNUG_ERR_NOMEM, "no memory for a key");
        d->key[d->n] = jv_literal(copy);
        if (!jv_from_json(j, item, &d->value[d->n++])) return false;
    }
    *out = (jvalue){.kind = J_DICT, .v.dict = d};
    return true;
}

bool jv_from_json(jinja *j, const json_t *from, jvalue *out) {
    if (!jinja_enter(j)) return false;
    bool ok = true;
    switch (json_typeof(from)) {
    case JSON_OBJECT:
        ok = object_from_json(j, from, out);
        break;
    case JSON_ARRAY:
        ok = jv_list_new(j, json_array_size(from), out);
        for (size_t i = 0; ok && i < json_array_size(from); i++)
            ok = jv_from_json(j, json_array_get(from, i), &out->v.list->item[i]);
        break;
    case JSON_STRING:
        ok = string_from_json(j, from, out);
        break;
    case JSON_INTEGER:
        *out = jv_int(json_integer_value(from));
        break;
    case JSON_REAL:
        *out = jv_float(json_real_value(from));
        break;
    case JSON_TRUE:
        *out = jv_bool(true);
        break;
    case JSON_FALSE:
        *out = jv_bool(false);
        break;
    case JSON_NULL:
        *out = jv_none();
        break;
    }
    j->depth--;
    return ok;
}

bool jv_true(jvalue v) {
    switch (v.kind) {
    case J_UNDEFINED:
    case J_NONE:
        return false;
    case J_BOOL:
        return v.v.b;
    case J_INT:
        return v.v.i != 0;
    case J_FLOAT:
        return v.v.f != 0;
    case J_STRING:
        return v.v.s.n > 0;
    case J_LIST: /* Python does not look into an iterator */
        return v.v.list->n > 0 || v.v.list->form == FORM_ITERATOR;
    case J_DICT:
        return v.v.dict->n > 0;
    default:
        return true;
    }
}

static int compare_numbers(jvalue a, jvalue b) {
    if (jv_is_integral(a) && jv_is_integral(b)) return (jv_integral(a) > jv_integral(b)) - (jv_integral(a) < jv_integral(b));
    return (jv_number(a) > jv_number(b)) - (jv_number(a) < jv_number(b));
}

static bool equal_dicts(jinja *j, const jdict *a, const jdict *b) {
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++) {
        const jvalue *other = jv_dict_get(j, b, a->key[i]);
        if (!other || !jv_equal(j, a->value[i], *other)) return false;
    }
    return true;
}

bool jv_equal(jinja *j, jvalue a, jvalue b) {
    if (jv_is_number(a) && jv_is_number(b))
        return a.kind == J_FLOAT || b.kind == J_FLOAT ? jv_number(a) == jv_number(b) : jv_integral(a) == jv_integral(b);
    if (a.kind != b.kind || !jinja_step(j)) return false;
    switch (a.kind) {
    case J_UNDEFINED:
    case J_NONE:
        return true;
    case J_STRING:
        return a.v.s.n == b.v.s.n && (a.v.s.n == 0 || memcmp(a.v.s.p, b.v.s.p, a.v.s.n) == 0);
    case J_LIST: {
        const jlist *x = a.v.list, *y = b.v.list;
        if (x == y) return true;
        if (x->n != y->n || x->form != y->form || x->form == FORM_ITERATOR) return false;
        if (!jinja_enter(j)) return false;
        bool same = true;
        for (size_t i = 0; i < x->n && same; i++) same = jv_equal(j, x->item[i], y->item[i]);
        j->depth--;
        return same;
    }
    case J_DICT: {
        if (!jinja_enter(j)) return false;
        bool same = equal_dicts(j, a.v.dict, b.v.dict);
        j->depth--;
        return same;
    }
    case J_NAMESPACE:
        return a.v.dict == b.v.dict;
    case J_MACRO:
        return a.v.macro == b.v.macro;
    case J_FUNCTION:
        return a.v.function == b.v.function;
    default:
        return false;
    }
}

int jv_compare(jinja *j, jvalue a, jvalue b, bool *ok) {
    *ok = true;
    if (jv_is_number(a) && jv_is_number(b)) return compare_numbers(a, b);
    if (a.kind == J_STRING && b.kind == J_STRING) {
        size_t n = a.v.s.n < b.v.s.n ? a.v.s.n : b.v.s.n;
        int c = n ? memcmp(a.v.s.p, b.v.s.p, n) : 0;
        return c ? c : (a.v.s.n > b.v.s.n) - (a.v.s.n < b.v.s.n);
    }
    if (a.kind == J_LIST && b.kind == J_LIST && a.v.list->form == b.v.list->form && a.v.list->form <= FORM_TUPLE) {
        const jlist *x = a.v.list, *y = b.v.list;
        if (!jinja_enter(j)) return 0;
        int c = 0;
        for (size_t i = 0; i < x->n && i < y->n && c == 0 && *ok; i++)
            if (!jv_equal(j, x->item[i], y->item[i])) c = jv_compare(j, x->item[i], y->item[i], ok);
        j->depth--;
        return c ? c : (x->n > y->n) - (x->n < y->n);
    }
    *ok = false;
    return 0;
}

/* Characters of a string, keys of a dictionary. An undefined value has none. */
bool jv_items(jinja *j, jvalue v, jlist *out) {
    *out = (jlist){0};
    switch (v.kind) {
    case J_UNDEFINED:
        return true;
    case J_LIST:
        *out = *v.v.list;
        if (out->form == FORM_ITERATOR) v.v.list->n = 0;
        return true;
    case J_DICT:
        out->item = v.v.dict->key;
        out->n = v.v.dict->n;
        return true;
    case J_STRING: {
        size_t n = 0, k = 0;
        for (size_t i = 0; i < v.v.s.n; i++) n += ((uint8_t)v.v.s.p[i] & 0xC0) != 0x80;
        if (n && !(out->item = jinja_alloc(j, n, sizeof *out->item))) return false;
        for (size_t i = 0; i < v.v.s.n && k < n;) {
            size_t bytes = utf8_length((uint8_t)v.v.s.p[i]);
            out->item[k++] = jv_string(v.v.s.p + i, bytes);
            i += bytes;
        }
        out->n = n;
        return true;
    }
    default:
        return jinja_fail(j, SNUG_ERR_FORMAT, "a %s cannot be iterated", jv_type_name(v));
    }
}

bool jv_length(jinja *j, jvalue v, size_t *out) {
    *out = 0;
    switch (v.kind) {
    case J_UNDEFINED:
        return true;
    case J_LIST:
        *out = v.v.list->n;
        return v.v.list->form != FORM_ITERATOR || jinja_fail(j, SNUG_ERR_FORMAT, "a generator has no length");
    case J_DICT:
        *out = v.v.dict->n;
        return true;
    case J_STRING:
        for (size_t i = 0; i < v.v.s.n; i++) *out += ((uint8_t)v.v.s.p[i] & 0xC0) != 0x80;
        return true;
    default:
        return jinja_fail(j, SNUG_ERR_FORMAT, "a %s has no length", jv_type_name(v));
    }
}
