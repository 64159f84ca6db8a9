/* Calls: the global functions and macros. */
#include "token/jinja_impl.h"
#include "token/utf8.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { F_RANGE, F_RAISE, F_STRFTIME, F_NAMESPACE, F_DICT, N_FUNCTIONS };
static const char *const function_name[N_FUNCTIONS] = {"range", "raise_exception", "strftime_now", "namespace", "dict"};

bool jinja_find_function(jname name, jvalue *out) {
    for (int i = 0; i < N_FUNCTIONS; i++)
        if (jinja_name_is(name, function_name[i])) {
            *out = (jvalue){.kind = J_FUNCTION, .v.function = i};
            return true;
        }
    return false;
}

const jvalue *jinja_arg(const jargs *a, size_t i, const char *name) {
    if (i < a->n_pos) return &a->pos[i];
    for (size_t k = 0; name && k < a->n_keys; k++)
        if (jinja_name_is(a->key[k], name)) return &a->value[k];
    return NULL;
}

static bool call_range(jinja *j, const jargs *a, jvalue *out) {
    int64_t v[3] = {0, 0, 1};
    if (a->n_pos < 1 || a->n_pos > 3 || a->n_keys)
        return jinja_fail(j, SNUG_ERR_FORMAT, "range takes one to three integers");
    for (size_t i = 0; i < a->n_pos; i++) {
        if (a->pos[i].kind != J_INT && a->pos[i].kind != J_BOOL)
            return jinja_fail(j, SNUG_ERR_FORMAT, "range of a %s", jv_type_name(a->pos[i]));
        v[a->n_pos == 1 ? 1 : i] = a->pos[i].kind == J_INT ? a->pos[i].v.i : a->pos[i].v.b;
    }
    if (v[2] == 0) return jinja_fail(j, SNUG_ERR_FORMAT, "range with the step 0");
    size_t n = 0;
    enum { MOST = 100000 }; /* Jinja's sandbox has the same limit */
    for (__int128 x = v[0]; v[2] > 0 ? x < v[1] : x > v[1]; x += v[2])
        if (++n > MOST) return jinja_fail(j, SNUG_ERR_FORMAT, "a range of more than %d", MOST);
    if (!jv_list_new(j, n, out)) return false;
    for (size_t i = 0; i < n; i++) out->v.list->item[i] = jv_int(v[0] + (int64_t)i * v[2]);
    char text[96];
    snprintf(text, sizeof text, v[2] == 1 ? "range(%lld, %lld)" : "range(%lld, %lld, %lld)", (long long)v[0], (long long)v[1], (long long)v[2]);
    out->v.list->form = FORM_RANGE;
    out->v.list->text = arena_strdup(&j->mem, text);
    return out->v.list->text || jinja_fail(j, SNUG_ERR_NOMEM, "no memory for a range");
}

static bool call_raise(jinja *j, const jargs *a) {
    jvalue text = jv_literal("");
    if (a->n_pos && !jv_text(j, a->pos[0], &text)) return false;
    const size_t n = text.v.s.n < sizeof j->err->message ? text.v.s.n : sizeof j->err->message - 1;
    return jinja_fail(j, SNUG_ERR_ARG, "%.*s", (int)utf8_valid_prefix((const uint8_t *)text.v.s.p, n), text.v.s.p);
}

static bool call_strftime(jinja *j, const jargs *a, jvalue *out) {
    const jvalue *format = jinja_arg(a, 0, "format");
    if (!format || format->kind != J_STRING || format->v.s.n > 200)
        return jinja_fail(j, SNUG_ERR_FORMAT, "strftime_now takes a format of at most 200 bytes");
    char text[1024], copy[208];
    time_t now = time(NULL);
    struct tm tm;
    memcpy(copy, format->v.s.p, format->v.s.n);
    copy[format->v.s.n] = 0;
    size_t n = localtime_r(&now, &tm) ? strftime(text, sizeof text, copy, &tm) : 0;
    buf b = {0};
    return jinja_put(j, &b, text, n) && jinja_keep(j, &b, out);
}

/* Of a dictionary, or of a list of pairs. */
static bool copy_pairs(jinja *j, jvalue from, jdict *to) {
    jlist l, pair;
    jvalue pairs = from;
    if ((from.kind == J_DICT && !jinja_pairs(j, from, FORM_LIST, &pairs)) || !jv_items(j, pairs, &l)) return false;
    for (size_t i = 0; i < l.n; i++) {
        if (!jv_items(j, l.item[i], &pair)) return false;
        if (pair.n != 2) return jinja_fail(j, SNUG_ERR_FORMAT, "a dictionary of a list whose element %zu is not a pair", i);
        if (!jv_dict_set(j, to, pair.item[0], pair.item[1])) return false;
    }
    return true;
}

/* namespace({...}, a=1) and dict({...}, a=1) */
static bool call_dict(jinja *j, const jargs *a, jkind kind, jvalue *out) {
    jdict *d = jinja_alloc(j, 1, sizeof *d);
    if (!d) return false;
    *out = (jvalue){.kind = kind, .v.dict = d};
    if (a->n_pos > 1)
        return jinja_fail(j, SNUG_ERR_FORMAT, "%s takes a dictionary and keywords", kind == J_DICT ? "dict" : "namespace");
    if (a->n_pos && !copy_pairs(j, a->pos[0], d)) return false;
    for (size_t i = 0; i < a->n_keys; i++)
        if (!jv_dict_set(j, d, jv_string(a->key[i].p, a->key[i].n), a->value[i])) return false;
    return true;
}

static bool is_parameter(const jnode *macro, jname name) {
    for (size_t i = 0; i < macro->n_keys; i++)
        if (macro->keys[i].p == name.p) return true;
    return false;
}

/* Arguments beyond a macro's parameters: `varargs` and `kwargs`, if its body names these; else it takes none. */
static bool bind_rest(jinja *j, const jnode *n, const jargs *a) {
    const size_t n_rest = a->n_pos > n->n_keys ? a->n_pos - n->n_keys : 0;
    jdict *rest = jinja_alloc(j, 1, sizeof *rest);
    jvalue list;
    if (!rest || !jv_list_new(j, n_rest, &list)) return false;
    if (n_rest && !(n->takes & TAKES_VARARGS))
        return jinja_fail(j, SNUG_ERR_FORMAT, "macro '%.*s' takes at most %zu arguments", (int)n->name.n,
                          n->name.p ? n->name.p : "", n->n_keys);
    if (n_rest) memcpy(list.v.list->item, a->pos + n->n_keys, n_rest * sizeof(jvalue));
    list.v.list->form = FORM_TUPLE;
    for (size_t k = 0; k < a->n_keys; k++) {
        if (is_parameter(n, a->key[k])) continue;
        if (!(n->takes & TAKES_KWARGS))
            return jinja_fail(j, SNUG_ERR_FORMAT, "macro '%.*s' takes no argument '%.*s'", (int)n->name.n,
                              n->name.p ? n->name.p : "", (int)a->key[k].n, a->key[k].p);
        if (!jv_dict_set(j, rest, jv_string(a->key[k].p, a->key[k].n), a->value[k])) return false;
    }
    return (!(n->takes & TAKES_VARARGS) || jinja_set(j, j->scope, jinja_intern(j, "varargs", 7), list)) &&
           (!(n->takes & TAKES_KWARGS) || jinja_set(j, j->scope, jinja_intern(j, "kwargs", 6), (jvalue){.kind = J_DICT, .v.dict = rest}));
}

/* Parameters by position, then by name, then by default (evaluated where the macro was defined). */
static bool bind(jinja *j, const jmacro *m, const jargs *a) {
    const jnode *n = m->node;
    for (size_t i = 0; i < n->n_keys; i++) {
        jvalue v = jv_undefined(n->keys[i].p, n->keys[i].n);
        const jvalue *given = jinja_arg(a, i, n->keys[i].p);
        if (given)
            v = *given;
        else if (n->values[i] && !jinja_eval(j, n->values[i], &v))
            return false;
        if (!jinja_set(j, j->scope, n->keys[i], v)) return false;
    }
    return bind_rest(j, n, a);
}

bool jinja_call_macro(jinja *j, const jmacro *m, const jargs *a, const jvalue *caller, jvalue *out) {
    buf text = {0}, *outer_out = j->out;
    jscope *outer = j->scope;
    if (caller && !(m->node->takes & TAKES_CALLER))
        return jinja_fail(j, SNUG_ERR_FORMAT, "macro '%.*s' is called with a block, but names no caller", (int)m->node->name.n,
                          m->node->name.p ? m->node->name.p : "");
    if (!jinja_enter(j)) return false;
    bool ok = (j->scope = jinja_push_scope(j, m->scope)) != NULL && bind(j, m, a);
    if (ok && caller) ok = jinja_set(j, j->scope, jinja_intern(j, "caller", 6), *caller);
    j->out = &text;
    ok = ok && jinja_exec(j, m->node->b) != FLOW_FAIL;
    j->out = outer_out;
    j->scope = outer;
    j->depth--;
    if (ok) return jinja_keep(j, &text, out);
    buf_fini(&text);
    return false;
}

bool jinja_call(jinja *j, jvalue f, const jargs *a, jvalue *out) {
    if (f.kind == J_MACRO) return jinja_call_macro(j, f.v.macro, a, NULL, out);
    if (f.kind == J_UNDEFINED)
        return jinja_fail(j, SNUG_ERR_FORMAT, "'%.*s' is undefined", (int)(f.v.s.n < 80 ? f.v.s.n : 80), f.v.s.p);
    if (f.kind != J_FUNCTION) return jinja_fail(j, SNUG_ERR_FORMAT, "a %s cannot be called", jv_type_name(f));
    switch (f.v.function) {
    case F_RANGE:
        return call_range(j, a, out);
    case F_RAISE:
        return call_raise(j, a);
    case F_STRFTIME:
        return call_strftime(j, a, out);
    case F_NAMESPACE:
        return call_dict(j, a, J_NAMESPACE, out);
    default:
        return call_dict(j, a, J_DICT, out);
    }
}
