/* Statements. A loop body, a macro, a with block have scopes of their own; if and set have none. A name is read from
 * the innermost scope that has it and written to the innermost scope there is: so what a loop sets is gone after each
 * round, and namespace() is what carries values out. */
#include "token/jinja_impl.h"
#include <string.h>

jscope *jinja_push_scope(jinja *j, jscope *parent) {
    jscope *s = jinja_alloc(j, 1, sizeof *s);
    if (s) s->parent = parent;
    return s;
}

bool jinja_set(jinja *j, jscope *s, jname name, jvalue value) {
    for (size_t i = 0; i < s->n; i++)
        if (s->name[i].p == name.p) {
            s->value[i] = value;
            return true;
        }
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 4;
        jname *names = jinja_alloc(j, cap, sizeof *names);
        jvalue *values = jinja_alloc(j, cap, sizeof *values);
        if (!names || !values) return false;
        if (s->n) memcpy(names, s->name, s->n * sizeof *names), memcpy(values, s->value, s->n * sizeof *values);
        s->name = names;
        s->value = values;
        s->cap = cap;
    }
    s->name[s->n] = name;
    s->value[s->n++] = value;
    return true;
}

/* One target takes the value; several take its items, which must be as many. */
static bool assign(jinja *j, const jnode *n, jvalue value) {
    if (n->n_keys == 1) return jinja_set(j, j->scope, n->keys[0], value);
    jlist l;
    if (!jv_items(j, value, &l)) return false;
    if (l.n != n->n_keys) return jinja_fail(j, SNUG_ERR_FORMAT, "%zu values for %zu names", l.n, n->n_keys);
    for (size_t i = 0; i < l.n; i++)
        if (!jinja_set(j, j->scope, n->keys[i], l.item[i])) return false;
    return true;
}

static jflow exec_if(jinja *j, const jnode *n) {
    for (size_t i = 0; i + 1 < n->n_list; i += 2) {
        jvalue v;
        if (!jinja_eval(j, n->list[i], &v)) return FLOW_FAIL;
        if (jv_true(v)) return jinja_exec(j, n->list[i + 1]);
    }
    return n->c ? jinja_exec(j, n->c) : FLOW_NEXT;
}

/* The items that the loop's condition lets pass: it is evaluated for all before the first round. */
static bool select_items(jinja *j, const jnode *n, jlist *l) {
    jvalue keep, v;
    size_t count = 0;
    if (n->n_list == 0) return true;
    if (!jv_list_new(j, l->n, &keep)) return false;
    jscope *outer = j->scope;
    if (!(j->scope = jinja_push_scope(j, outer))) return false;
    for (size_t i = 0; i < l->n; i++) {
        if (!assign(j, n, l->item[i]) || !jinja_eval(j, n->list[0], &v)) return false;
        if (jv_true(v)) keep.v.list->item[count++] = l->item[i];
    }
    j->scope = outer;
    l->item = keep.v.list->item;
    l->n = count;
    return true;
}

/* The else branch runs if no round came to its end: where there was none, but also, in Jinja, where break or continue cut all of them short. */
static jflow exec_for(jinja *j, const jnode *n) {
    jvalue what;
    jlist l;
    if (!jinja_eval(j, n->a, &what) || !jv_items(j, what, &l) || !select_items(j, n, &l)) return FLOW_FAIL;
    if (l.n == 0) return n->c ? jinja_exec(j, n->c) : FLOW_NEXT;
    jloop *loop = jinja_alloc(j, 1, sizeof *loop);
    jscope *outer = j->scope;
    jname loop_name = jinja_intern(j, "loop", 4);
    if (!loop || !loop_name.p) return FLOW_FAIL;
    *loop = (jloop){.n = l.n, .item = l.item};
    jflow flow = FLOW_NEXT;
    bool ended = false;
    for (size_t i = 0; i < l.n && flow != FLOW_FAIL; i++) {
        loop->index = i;
        if (!(j->scope = jinja_push_scope(j, outer)) ||
            !jinja_set(j, j->scope, loop_name, (jvalue){.kind = J_LOOP, .v.loop = loop}) || !assign(j, n, l.item[i]))
            return FLOW_FAIL;
        flow = jinja_exec(j, n->b);
        ended |= flow == FLOW_NEXT;
        if (flow == FLOW_BREAK) break;
    }
    j->scope = outer;
    if (flow == FLOW_FAIL) return FLOW_FAIL;
    return ended || !n->c ? FLOW_NEXT : jinja_exec(j, n->c);
}

static jflow exec_set(jinja *j, const jnode *n) {
    jvalue value, object = jv_none();
    if (!jinja_eval(j, n->a, &value)) return FLOW_FAIL;
    if (n->name.n == 0) return assign(j, n, value) ? FLOW_NEXT : FLOW_FAIL;
    for (const jscope *s = j->scope; s && object.kind == J_NONE; s = s->parent)
        for (size_t i = 0; i < s->n; i++)
            if (s->name[i].p == n->keys[0].p) object = s->value[i];
    if (object.kind != J_NAMESPACE) {
        jinja_fail(j, SNUG_ERR_FORMAT, "cannot assign attribute on a %s", jv_type_name(object));
        return FLOW_FAIL;
    }
    return jv_dict_set(j, object.v.dict, jv_string(n->name.p, n->name.n), value) ? FLOW_NEXT : FLOW_FAIL;
}

/* Runs a body with its output kept apart. */
static bool capture(jinja *j, const jnode *body, jvalue *out) {
    buf text = {0}, *outer = j->out;
    j->out = &text;
    jflow flow = jinja_exec(j, body);
    j->out = outer;
    if (flow == FLOW_FAIL) {
        buf_fini(&text);
        return false;
    }
    return jinja_keep(j, &text, out);
}

/* The filters of a block: its text stands under a name that templates cannot write. */
static bool filtered(jinja *j, const jnode *n, jvalue *out) {
    jvalue text;
    jscope *outer = j->scope;
    if (!(j->scope = jinja_push_scope(j, outer)) || !capture(j, n->b, &text)) return false;
    if (!jinja_set(j, j->scope, jinja_intern(j, " block", 6), text) || !jinja_eval(j, n->a, out)) return false;
    j->scope = outer;
    return true;
}

static jflow exec_set_block(jinja *j, const jnode *n) {
    jvalue v;
    return filtered(j, n, &v) && jinja_set(j, j->scope, n->keys[0], v) ? FLOW_NEXT : FLOW_FAIL;
}

static jflow exec_filter_block(jinja *j, const jnode *n) {
    jvalue v;
    return filtered(j, n, &v) && jv_append(j, j->out, v) ? FLOW_NEXT : FLOW_FAIL;
}

static jflow exec_macro(jinja *j, const jnode *n) {
    jmacro *m = jinja_alloc(j, 1, sizeof *m);
    if (!m) return FLOW_FAIL;
    *m = (jmacro){n, j->scope};
    return jinja_set(j, j->scope, n->name, (jvalue){.kind = J_MACRO, .v.macro = m}) ? FLOW_NEXT : FLOW_FAIL;
}

static jflow exec_call_block(jinja *j, const jnode *n) {
    jmacro *caller = jinja_alloc(j, 1, sizeof *caller);
    jvalue f, out;
    jargs args;
    if (!caller) return FLOW_FAIL;
    *caller = (jmacro){n, j->scope};
    jvalue caller_value = {.kind = J_MACRO, .v.macro = caller};
    if (!jinja_eval(j, n->a->a, &f) || !jinja_eval_args(j, n->a, &args)) return FLOW_FAIL;
    if (f.kind != J_MACRO) {
        jinja_fail(j, SNUG_ERR_FORMAT, "call of a %s", jv_type_name(f));
        return FLOW_FAIL;
    }
    return jinja_call_macro(j, f.v.macro, &args, &caller_value, &out) && jv_append(j, j->out, out) ? FLOW_NEXT
                                                                                                   : FLOW_FAIL;
}

static jflow exec_with(jinja *j, const jnode *n) {
    jscope *outer = j->scope, *inner = jinja_push_scope(j, outer);
    for (size_t i = 0; inner && i < n->n_keys; i++) {
        jvalue v;
        if (!jinja_eval(j, n->values[i], &v) || !jinja_set(j, inner, n->keys[i], v)) return FLOW_FAIL;
    }
    if (!inner) return FLOW_FAIL;
    j->scope = inner;
    jflow flow = jinja_exec(j, n->b);
    j->scope = outer;
    return flow;
}

static jflow exec_block(jinja *j, const jnode *n) {
    for (size_t i = 0; i < n->n_list; i++) {
        jflow flow = jinja_exec(j, n->list[i]);
        if (flow != FLOW_NEXT) return flow;
    }
    return FLOW_NEXT;
}

static jflow exec_node(jinja *j, const jnode *n) {
    jvalue v;
    switch (n->kind) {
    case N_BLOCK:
        return exec_block(j, n);
    case N_TEXT:
        return jv_append(j, j->out, n->value) ? FLOW_NEXT : FLOW_FAIL;
    case N_OUTPUT:
        return jinja_eval(j, n->a, &v) && jv_append(j, j->out, v) ? FLOW_NEXT : FLOW_FAIL;
    case N_IF:
        return exec_if(j, n);
    case N_FOR:
        return exec_for(j, n);
    case N_SET:
        return exec_set(j, n);
    case N_SET_BLOCK:
        return exec_set_block(j, n);
    case N_MACRO:
        return exec_macro(j, n);
    case N_CALL_BLOCK:
        return exec_call_block(j, n);
    case N_FILTER_BLOCK:
        return exec_filter_block(j, n);
    case N_WITH:
        return exec_with(j, n);
    case N_BREAK:
        return FLOW_BREAK;
    case N_CONTINUE:
        return FLOW_CONTINUE;
    default:
        jinja_fail(j, SNUG_ERR_FORMAT, "an expression where a statement is expected");
        return FLOW_FAIL;
    }
}

jflow jinja_exec(jinja *j, const jnode *n) {
    j->line = n->line;
    if (!jinja_step(j) || !jinja_enter(j)) return FLOW_FAIL;
    jflow flow = exec_node(j, n);
    j->depth--;
    return flow;
}
