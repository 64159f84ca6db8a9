/* The methods of dictionaries, lists and loops, and which methods there are. Those that would change a value, which the sandbox of transformers
 * refuses, are not among them. */
#include "token/jinja_impl.h"
#include <string.h>

static bool is(jname name, const char *text) {
    return jinja_name_is(name, text);
}

bool jinja_has_method(jvalue self, jname name) {
    switch (self.kind) {
    case J_STRING:
        return jinja_has_string_method(name);
    case J_DICT:
        return is(name, "items") || is(name, "keys") || is(name, "values") || is(name, "get") || is(name, "copy");
    case J_LIST:
        return self.v.list->form <= FORM_RANGE && (is(name, "index") || is(name, "count") || (is(name, "copy") && self.v.list->form == FORM_LIST));
    case J_LOOP:
        return is(name, "cycle") || is(name, "changed");
    default:
        return false;
    }
}

static bool dict_method(jinja *j, jvalue self, jname name, const jargs *a, jvalue *out) {
    const jdict *d = self.v.dict;
    *out = self; /* copy: nothing changes either */
    if (is(name, "copy")) return true;
    if (is(name, "get")) {
        const jvalue *key = jinja_arg(a, 0, NULL), *fallback = jinja_arg(a, 1, "default"), *v;
        if (!key) return jinja_fail(j, SNUG_ERR_FORMAT, "get lacks a key");
        v = jv_dict_get(j, d, *key);
        *out = v ? *v : fallback ? *fallback : jv_none();
        return true;
    }
    if (is(name, "items")) {
        if (!jinja_pairs(j, self, FORM_VIEW, out)) return false;
        out->v.list->text = "dict_items";
        return true;
    }
    if (!jv_list_new(j, d->n, out)) return false;
    out->v.list->form = FORM_VIEW;
    out->v.list->text = name.p[0] == 'k' ? "dict_keys" : "dict_values";
    if (d->n) memcpy(out->v.list->item, name.p[0] == 'k' ? d->key : d->value, d->n * sizeof(jvalue));
    return true;
}

static bool list_method(jinja *j, jvalue self, jname name, const jargs *a, jvalue *out) {
    const jvalue *what = jinja_arg(a, 0, NULL);
    int64_t n = 0, at = -1;
    *out = self;
    if (is(name, "copy")) return true;
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
        return jinja_string_method(j, self, name, a, out);
    case J_DICT:
        return dict_method(j, self, name, a, out);
    case J_LOOP:
        return loop_method(j, self, name, a, out);
    default:
        return list_method(j, self, name, a, out);
    }
}
