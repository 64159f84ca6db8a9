/* Expressions. Every node counts as a step, and every level of nesting is counted, so that a template ends in bounded
 * time, stack and memory whatever it says. */
#include "token/jinja_impl.h"
#include "token/utf8.h"
#include <string.h>

/* ---- access ---- */

static bool loop_attribute(jinja *j, const jloop *l, jname name, jvalue *out) {
    (void)j;
    const size_t i = l->index, n = l->n;
    if (jinja_name_is(name, "index"))
        *out = jv_int((int64_t)i + 1);
    else if (jinja_name_is(name, "index0"))
        *out = jv_int((int64_t)i);
    else if (jinja_name_is(name, "revindex"))
        *out = jv_int((int64_t)(n - i));
    else if (jinja_name_is(name, "revindex0"))
        *out = jv_int((int64_t)(n - i) - 1);
    else if (jinja_name_is(name, "first"))
        *out = jv_bool(i == 0);
    else if (jinja_name_is(name, "last"))
        *out = jv_bool(i + 1 == n);
    else if (jinja_name_is(name, "length"))
        *out = jv_int((int64_t)n);
    else if (jinja_name_is(name, "depth"))
        *out = jv_int(1); /* counts recursive loops, which there are none of */
    else if (jinja_name_is(name, "depth0"))
        *out = jv_int(0);
    else if (jinja_name_is(name, "previtem"))
        *out = i > 0 ? l->item[i - 1] : jv_undefined(name.p, name.n);
    else if (jinja_name_is(name, "nextitem"))
        *out = i + 1 < n ? l->item[i + 1] : jv_undefined(name.p, name.n);
    else
        *out = jv_undefined(name.p, name.n);
    return true;
}

/* Methods go before keys, as in Jinja: x.items is the method even if there is a key "items". */
bool jinja_attribute(jinja *j, jvalue of, jname name, jvalue *out) {
    if (of.kind == J_UNDEFINED)
        return jinja_fail(j, SNUG_ERR_FORMAT, "'%.*s' is undefined", (int)(of.v.s.n < 80 ? of.v.s.n : 80), of.v.s.p);
    if (of.kind == J_LOOP) return loop_attribute(j, of.v.loop, name, out);
    *out = jv_undefined(name.p, name.n);
    if (of.kind == J_DICT || of.kind == J_NAMESPACE) {
        if (of.kind == J_DICT && jinja_has_method(of, name)) {
            out->kind = J_METHOD;
            return true;
        }
        const jvalue *v = jv_dict_get(j, of.v.dict, jv_string(name.p, name.n));
        if (v) *out = *v;
    } else if (jinja_has_method(of, name)) {
        out->kind = J_METHOD;
    }
    return true;
}

bool jinja_item(jinja *j, jvalue of, jvalue key, jvalue *out) {
    *out = key.kind == J_STRING ? jv_undefined(key.v.s.p, key.v.s.n) : jv_undefined("element", 7);
    if (of.kind == J_UNDEFINED)
        return jinja_fail(j, SNUG_ERR_FORMAT, "'%.*s' is undefined", (int)(of.v.s.n < 80 ? of.v.s.n : 80), of.v.s.p);
    if (of.kind == J_DICT) {
        const jvalue *v = jv_dict_get(j, of.v.dict, key);
        if (v) *out = *v;
        return true;
    }
    if (of.kind == J_LOOP || of.kind == J_NAMESPACE) {
        if (key.kind != J_STRING) return true;
        return jinja_attribute(j, of, jinja_intern(j, key.v.s.p, key.v.s.n), out);
    }
    if ((of.kind != J_STRING && (of.kind != J_LIST || of.v.list->form > FORM_RANGE)) || !jv_is_integral(key)) return true;
    jlist l;
    if (!jv_items(j, of, &l)) return false;
    int64_t i = jv_integral(key);
    if (i < 0) i += (int64_t)l.n;
    if (i >= 0 && i < (int64_t)l.n) *out = of.kind == J_STRING ? jv_marked(l.item[i], of.safe) : l.item[i];
    return true;
}

/* Python's slice: indices are clamped, negative ones count from the end. */
bool jinja_slice(jinja *j, jvalue of, jvalue from, jvalue to, jvalue step, jvalue *out) {
    jlist l;
    if (of.kind != J_STRING && (of.kind != J_LIST || of.v.list->form > FORM_RANGE))
        return jinja_fail(j, SNUG_ERR_FORMAT, "a slice of a %s", jv_type_name(of));
    if (!jv_items(j, of, &l)) return false;
    const jvalue *parts[3] = {&from, &to, &step};
    for (int i = 0; i < 3; i++)
        if (parts[i]->kind != J_NONE && !jv_is_integral(*parts[i]))
            return jinja_fail(j, SNUG_ERR_FORMAT, "a slice by a %s", jv_type_name(*parts[i]));
    int64_t n = (int64_t)l.n, by = step.kind == J_NONE ? 1 : jv_integral(step), low = by > 0 ? 0 : -1,
            high = by > 0 ? n : n - 1;
    if (by == 0) return jinja_fail(j, SNUG_ERR_FORMAT, "a slice of step 0");
    int64_t bound[2] = {by > 0 ? low : high, by > 0 ? high : low};
    for (int i = 0; i < 2; i++) {
        if (parts[i]->kind == J_NONE) continue;
        int64_t x = jv_integral(*parts[i]);
        if (x < 0) x = x < -n ? low : x + n;
        bound[i] = x < low ? low : x > high ? high : x;
    }
    if (by > n + 1) by = n + 1; /* so that adding it cannot overflow */
    if (by < -n - 1) by = -n - 1;
    jvalue list;
    size_t count = 0;
    if (!jv_list_new(j, l.n, &list)) return false;
    for (int64_t i = bound[0]; by > 0 ? i < bound[1] : i > bound[1]; i += by) list.v.list->item[count++] = l.item[i];
    list.v.list->n = count;
    if (of.kind == J_LIST) {
        list.v.list->form = of.v.list->form;
        *out = list;
        return true;
    }
    buf text = {0};
    for (size_t i = 0; i < count; i++)
        if (!jv_append(j, &text, list.v.list->item[i])) {
            buf_fini(&text);
            return false;
        }
    if (!jinja_keep(j, &text, out)) return false;
    out->safe = of.safe;
    return true;
}

/* ---- nodes ---- */

static bool lookup(jinja *j, jname name, jvalue *out) {
    for (const jscope *s = j->scope; s; s = s->parent) {
        j->steps += s->n / 16; /* long searches count */
        for (size_t i = s->n; i-- > 0;)
            if (s->name[i].p == name.p) {
                *out = s->value[i];
                return true;
            }
    }
    if (!jinja_find_function(name, out)) *out = jv_undefined(name.p, name.n);
    return true;
}

static bool eval_list(jinja *j, const jnode *n, jvalue *out) {
    if (!jv_list_new(j, n->n_list, out)) return false;
    out->v.list->form = n->kind == N_TUPLE ? FORM_TUPLE : FORM_LIST;
    for (size_t i = 0; i < n->n_list; i++)
        if (!jinja_eval(j, n->list[i], &out->v.list->item[i])) return false;
    return true;
}

static bool eval_dict(jinja *j, const jnode *n, jvalue *out) {
    jdict *d = jinja_alloc(j, 1, sizeof *d);
    for (size_t i = 0; d && i < n->n_list; i += 2) {
        jvalue key, value;
        if (!jinja_eval(j, n->list[i], &key) || !jinja_eval(j, n->list[i + 1], &value) ||
            !jv_dict_set(j, d, key, value))
            return false;
    }
    *out = (jvalue){.kind = J_DICT, .v.dict = d};
    return d != NULL;
}

static bool eval_compare(jinja *j, const jnode *n, jvalue *out) {
    jvalue left, right;
    bool holds = true;
    if (!jinja_eval(j, n->a, &left)) return false;
    for (size_t i = 0; i < n->n_list && holds; i++) {
        if (!jinja_eval(j, n->list[i], &right) || !jinja_compare(j, n->ops[i], left, right, &holds)) return false;
        left = right;
    }
    *out = jv_bool(holds);
    return true;
}

static bool eval_slice(jinja *j, const jnode *n, jvalue *out) {
    jvalue of, part[3] = {jv_none(), jv_none(), jv_none()};
    if (!jinja_eval(j, n->a, &of)) return false;
    for (int i = 0; i < 3; i++)
        if (n->list[i] && !jinja_eval(j, n->list[i], &part[i])) return false;
    return jinja_slice(j, of, part[0], part[1], part[2], out);
}

/* f(*a): the items of `a` behind the positional arguments. */
static bool spread_list(jinja *j, const jnode *n, jargs *out) {
    jvalue v;
    jlist l;
    if (!jinja_eval(j, n, &v) || !jv_items(j, v, &l)) return false;
    jvalue *pos = jinja_alloc(j, out->n_pos + l.n, sizeof *pos);
    if (!pos) return false;
    if (out->n_pos) memcpy(pos, out->pos, out->n_pos * sizeof *pos);
    if (l.n) memcpy(pos + out->n_pos, l.item, l.n * sizeof *pos);
    out->pos = pos;
    out->n_pos += l.n;
    return true;
}

/* f(**d): the pairs of `d` behind the keyword arguments. */
static bool spread_dict(jinja *j, const jnode *n, jargs *out) {
    jvalue v;
    if (!jinja_eval(j, n, &v)) return false;
    if (v.kind != J_DICT) return jinja_fail(j, SNUG_ERR_FORMAT, "** of a %s", jv_type_name(v));
    const jdict *d = v.v.dict;
    jname *key = jinja_alloc(j, out->n_keys + d->n, sizeof *key);
    jvalue *value = jinja_alloc(j, out->n_keys + d->n, sizeof *value);
    if (!key || !value) return false;
    if (out->n_keys) memcpy(key, out->key, out->n_keys * sizeof *key), memcpy(value, out->value, out->n_keys * sizeof *value);
    for (size_t i = 0; i < d->n; i++) {
        if (d->key[i].kind != J_STRING) return jinja_fail(j, SNUG_ERR_FORMAT, "** of a dictionary with a %s as a key", jv_type_name(d->key[i]));
        key[out->n_keys + i] = jinja_intern(j, d->key[i].v.s.p, d->key[i].v.s.n);
        if (!key[out->n_keys + i].p) return false;
        value[out->n_keys + i] = d->value[i];
    }
    out->key = key;
    out->value = value;
    out->n_keys += d->n;
    return true;
}

bool jinja_eval_args(jinja *j, const jnode *n, jargs *out) {
    *out = (jargs){.n_pos = n->n_list, .key = n->keys, .n_keys = n->n_keys};
    if (n->n_list && !(out->pos = jinja_alloc(j, n->n_list, sizeof *out->pos))) return false;
    if (n->n_keys && !(out->value = jinja_alloc(j, n->n_keys, sizeof *out->value))) return false;
    for (size_t i = 0; i < n->n_list; i++)
        if (!jinja_eval(j, n->list[i], &out->pos[i])) return false;
    for (size_t i = 0; i < n->n_keys; i++)
        if (!jinja_eval(j, n->values[i], &out->value[i])) return false;
    return (!n->b || spread_list(j, n->b, out)) && (!n->c || spread_dict(j, n->c, out));
}

static bool eval_call(jinja *j, const jnode *n, jvalue *out) {
    jvalue f, self;
    jargs args;
    if (n->a->kind == N_ATTRIBUTE) { /* a method, unless a dictionary holds a callable of that name */
        if (!jinja_eval(j, n->a->a, &self)) return false;
        if (jinja_has_method(self, n->a->name))
            return jinja_eval_args(j, n, &args) && jinja_method(j, self, n->a->name, &args, out);
        if (!jinja_attribute(j, self, n->a->name, &f)) return false;
        if (f.kind == J_UNDEFINED)
            return jinja_fail(j, SNUG_ERR_UNSUPPORTED, "a %s has no method '%.*s', or it is not supported",
                              jv_type_name(self), (int)n->a->name.n, n->a->name.p);
    } else if (!jinja_eval(j, n->a, &f)) {
        return false;
    }
    return jinja_eval_args(j, n, &args) && jinja_call(j, f, &args, out);
}

/* Undefined values may be tested and defaulted; the filters and tests see to that themselves. */
static bool eval_filter(jinja *j, const jnode *n, jvalue *out) {
    jvalue of;
    jargs args;
    return jinja_eval(j, n->a, &of) && jinja_eval_args(j, n, &args) && jinja_filter(j, n->name, of, &args, out);
}

static bool eval_test(jinja *j, const jnode *n, jvalue *out) {
    jvalue of;
    jargs args;
    bool holds;
    if (!jinja_eval(j, n->a, &of) || !jinja_eval_args(j, n, &args) || !jinja_test(j, n->name, of, &args, &holds))
        return false;
    *out = jv_bool(holds);
    return true;
}

static bool eval_unary(jinja *j, const jnode *n, jvalue *out) {
    jvalue v;
    if (!jinja_eval(j, n->a, &v)) return false;
    if (v.kind != J_FLOAT && !jv_is_integral(v)) return jinja_fail(j, SNUG_ERR_FORMAT, "a sign before a %s", jv_type_name(v));
    if (v.kind == J_FLOAT)
        *out = jv_float(n->op == OP_SUB ? -v.v.f : v.v.f);
    else
        return jinja_binary(j, n->op, jv_int(0), v, out);
    return true;
}

static bool eval_node(jinja *j, const jnode *n, jvalue *out) {
    jvalue a, b;
    switch (n->kind) {
    case N_CONST:
        *out = n->value;
        return true;
    case N_NAME:
        return lookup(j, n->name, out);
    case N_LIST:
    case N_TUPLE:
        return eval_list(j, n, out);
    case N_DICT:
        return eval_dict(j, n, out);
    case N_BINARY:
        return jinja_eval(j, n->a, &a) && jinja_eval(j, n->b, &b) && jinja_binary(j, n->op, a, b, out);
    case N_UNARY:
        return eval_unary(j, n, out);
    case N_AND:
        return jinja_eval(j, n->a, out) && (!jv_true(*out) || jinja_eval(j, n->b, out));
    case N_OR:
        return jinja_eval(j, n->a, out) && (jv_true(*out) || jinja_eval(j, n->b, out));
    case N_NOT:
        if (!jinja_eval(j, n->a, &a)) return false;
        *out = jv_bool(!jv_true(a));
        return true;
    case N_COMPARE:
        return eval_compare(j, n, out);
    case N_CONDITION:
        if (!jinja_eval(j, n->a, &a)) return false;
        if (jv_true(a)) return jinja_eval(j, n->b, out);
        *out = jv_undefined("the inline if-expression without else", 37);
        return !n->c || jinja_eval(j, n->c, out);
    case N_ATTRIBUTE:
        return jinja_eval(j, n->a, &a) && jinja_attribute(j, a, n->name, out);
    case N_ITEM:
        return jinja_eval(j, n->a, &a) && jinja_eval(j, n->b, &b) && jinja_item(j, a, b, out);
    case N_SLICE:
        return eval_slice(j, n, out);
    case N_CALL:
        return eval_call(j, n, out);
    case N_FILTER:
        return eval_filter(j, n, out);
    case N_TEST:
        return eval_test(j, n, out);
    default:
        return jinja_fail(j, SNUG_ERR_FORMAT, "a statement inside an expression");
    }
}

bool jinja_eval(jinja *j, const jnode *n, jvalue *out) {
    *out = jv_none();
    j->line = n->line;
    if (!jinja_step(j) || !jinja_enter(j)) return false;
    bool ok = eval_node(j, n, out);
    j->depth--;
    return ok;
}
