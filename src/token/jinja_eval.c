/* Expressions. Every node counts as a step, and every level of nesting is counted, so that a template ends in bounded
 * time, stack and memory whatever it says. */
#include "token/jinja_impl.h"
#include "token/utf8.h"
#include <math.h>
#include <string.h>

static bool is_integral(jvalue v) {
    return v.kind == J_BOOL || v.kind == J_INT;
}
static bool is_number(jvalue v) {
    return is_integral(v) || v.kind == J_FLOAT;
}
static int64_t integral(jvalue v) {
    return v.kind == J_BOOL ? v.v.b : v.v.i;
}
static double number(jvalue v) {
    return v.kind == J_FLOAT ? v.v.f : (double)integral(v);
}

static bool bad_operands(jinja *j, const char *op, jvalue a, jvalue b) {
    if (a.kind == J_UNDEFINED || b.kind == J_UNDEFINED) {
        jvalue u = a.kind == J_UNDEFINED ? a : b;
        return jinja_fail(j, SNUG_ERR_FORMAT, "'%.*s' is undefined", (int)(u.v.s.n < 80 ? u.v.s.n : 80), u.v.s.p);
    }
    return jinja_fail(j, SNUG_ERR_FORMAT, "'%s' between a %s and a %s", op, jv_type_name(a), jv_type_name(b));
}

/* ---- operators ---- */

static bool join_strings(jinja *j, jvalue a, jvalue b, jvalue *out) {
    size_t n = a.v.s.n + b.v.s.n;
    if (n > JINJA_MAX_OUTPUT)
        return jinja_fail(j, SNUG_ERR_FORMAT, "the text is longer than %d MiB", JINJA_MAX_OUTPUT >> 20);
    char *p = jinja_alloc(j, n + 1, 1);
    if (!p) return false;
    if (a.v.s.n) memcpy(p, a.v.s.p, a.v.s.n);
    if (b.v.s.n) memcpy(p + a.v.s.n, b.v.s.p, b.v.s.n);
    *out = jv_string(p, n);
    return true;
}

static bool join_lists(jinja *j, jvalue a, jvalue b, jvalue *out) {
    const jlist *x = a.v.list, *y = b.v.list;
    if (!jv_list_new(j, x->n + y->n, out)) return false;
    if (x->n) memcpy(out->v.list->item, x->item, x->n * sizeof *x->item);
    if (y->n) memcpy(out->v.list->item + x->n, y->item, y->n * sizeof *y->item);
    out->v.list->tuple = x->tuple;
    return true;
}

/* "ab" * 3, [0] * 3 */
static bool repeat(jinja *j, jvalue v, int64_t times, jvalue *out) {
    size_t n = v.kind == J_STRING ? v.v.s.n : v.v.list->n, k = times > 0 ? (size_t)times : 0;
    if (n == 0) k = 0;
    if (k > 0 && k > JINJA_MAX_OUTPUT / n)
        return jinja_fail(j, SNUG_ERR_FORMAT, "a repetition of more than %d elements", JINJA_MAX_OUTPUT);
    if (v.kind == J_STRING) {
        char *p = jinja_alloc(j, n * k + 1, 1);
        if (!p) return false;
        for (size_t i = 0; i < k; i++) memcpy(p + i * n, v.v.s.p, n);
        *out = jv_string(p, n * k);
        return true;
    }
    if (!jv_list_new(j, n * k, out)) return false;
    for (size_t i = 0; i < k; i++) memcpy(out->v.list->item + i * n, v.v.list->item, n * sizeof(jvalue));
    return true;
}

static bool integer_power(int64_t base, int64_t exponent, int64_t *out) {
    int64_t r = 1;
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(r, base, &r)) return false;
        exponent >>= 1;
        if (exponent && __builtin_mul_overflow(base, base, &base)) return false;
    }
    *out = r;
    return true;
}

static bool arithmetic_int(jinja *j, jop op, int64_t a, int64_t b, jvalue *out) {
    int64_t r = 0;
    bool over = false;
    if ((op == OP_FLOORDIV || op == OP_MOD || op == OP_DIV) && b == 0)
        return jinja_fail(j, SNUG_ERR_FORMAT, "division by zero");
    switch (op) {
    case OP_ADD:
        over = __builtin_add_overflow(a, b, &r);
        break;
    case OP_SUB:
        over = __builtin_sub_overflow(a, b, &r);
        break;
    case OP_MUL:
        over = __builtin_mul_overflow(a, b, &r);
        break;
    case OP_FLOORDIV:
    case OP_MOD: /* Python rounds the quotient down, so the remainder has the divisor's sign */
        if (b == -1) {
            if (op == OP_FLOORDIV) over = __builtin_sub_overflow((int64_t)0, a, &r);
        } else {
            int64_t q = a / b, rest = a % b;
            if (rest != 0 && (rest < 0) != (b < 0)) q--, rest += b;
            r = op == OP_MOD ? rest : q;
        }
        break;
    case OP_POW:
        if (b < 0) {
            *out = jv_float(pow((double)a, (double)b));
            return true;
        }
        over = !integer_power(a, b, &r);
        break;
    default:
        *out = jv_float((double)a / (double)b);
        return true;
    }
    if (over) return jinja_fail(j, SNUG_ERR_FORMAT, "an integer beyond 64 bits");
    *out = jv_int(r);
    return true;
}

static bool arithmetic_float(jinja *j, jop op, double a, double b, jvalue *out) {
    if ((op == OP_FLOORDIV || op == OP_MOD || op == OP_DIV) && b == 0)
        return jinja_fail(j, SNUG_ERR_FORMAT, "division by zero");
    double r = fmod(a, op == OP_MOD ? b : 1);
    switch (op) {
    case OP_ADD:
        r = a + b;
        break;
    case OP_SUB:
        r = a - b;
        break;
    case OP_MUL:
        r = a * b;
        break;
    case OP_FLOORDIV:
        r = floor(a / b);
        break;
    case OP_MOD:
        if (r != 0 && (r < 0) != (b < 0)) r += b;
        break;
    case OP_POW:
        r = pow(a, b);
        break;
    default:
        r = a / b;
    }
    *out = jv_float(r);
    return true;
}

bool jinja_contains(jinja *j, jvalue container, jvalue item, bool *out) {
    *out = false;
    if (container.kind == J_STRING) {
        if (item.kind != J_STRING)
            return jinja_fail(j, SNUG_ERR_FORMAT, "'in' of a %s in a string", jv_type_name(item));
        *out = item.v.s.n == 0 || memmem(container.v.s.p, container.v.s.n, item.v.s.p, item.v.s.n) != NULL;
        return true;
    }
    jlist l;
    if (!jv_items(j, container, &l)) return false;
    for (size_t i = 0; i < l.n && !*out; i++) *out = jv_equal(j, l.item[i], item);
    return !j->failed;
}

static bool compare(jinja *j, jop op, jvalue a, jvalue b, bool *out) {
    static const char *const text[] = {"+",  "-",  "*", "/",  "//", "%",  "**", "~",
                                       "==", "!=", "<", "<=", ">",  ">=", "in", "not in"};
    bool ok;
    if (op == OP_EQ || op == OP_NE) {
        *out = jv_equal(j, a, b) == (op == OP_EQ);
        return !j->failed;
    }
    if (op == OP_IN || op == OP_NOT_IN) {
        if (!jinja_contains(j, b, a, out)) return false;
        *out ^= op == OP_NOT_IN;
        return true;
    }
    int c = jv_compare(j, a, b, &ok);
    if (!ok) return bad_operands(j, text[op], a, b);
    *out = op == OP_LT ? c < 0 : op == OP_LE ? c <= 0 : op == OP_GT ? c > 0 : c >= 0;
    return !j->failed;
}

bool jinja_binary(jinja *j, jop op, jvalue a, jvalue b, jvalue *out) {
    static const char *const text[] = {"+", "-", "*", "/", "//", "%", "**"};
    if (op == OP_CONCAT) {
        jvalue x, y;
        return jv_text(j, a, &x) && jv_text(j, b, &y) && join_strings(j, x, y, out);
    }
    if (is_integral(a) && is_integral(b)) return arithmetic_int(j, op, integral(a), integral(b), out);
    if (is_number(a) && is_number(b)) return arithmetic_float(j, op, number(a), number(b), out);
    if (op == OP_ADD && a.kind == J_STRING && b.kind == J_STRING) return join_strings(j, a, b, out);
    if (op == OP_ADD && a.kind == J_LIST && b.kind == J_LIST && a.v.list->tuple == b.v.list->tuple)
        return join_lists(j, a, b, out);
    if (op == OP_MUL && (a.kind == J_STRING || a.kind == J_LIST) && is_integral(b))
        return repeat(j, a, integral(b), out);
    if (op == OP_MUL && (b.kind == J_STRING || b.kind == J_LIST) && is_integral(a))
        return repeat(j, b, integral(a), out);
    if (op == OP_MOD && a.kind == J_STRING)
        return jinja_fail(j, SNUG_ERR_UNSUPPORTED, "the string operator %% is not supported");
    return bad_operands(j, text[op], a, b);
}

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
    if ((of.kind != J_LIST && of.kind != J_STRING) || !is_integral(key)) return true;
    jlist l;
    if (!jv_items(j, of, &l)) return false;
    int64_t i = integral(key);
    if (i < 0) i += (int64_t)l.n;
    if (i >= 0 && i < (int64_t)l.n) *out = l.item[i];
    return true;
}

/* Python's slice: indices are clamped, negative ones count from the end. */
bool jinja_slice(jinja *j, jvalue of, jvalue from, jvalue to, jvalue step, jvalue *out) {
    jlist l;
    if (of.kind != J_LIST && of.kind != J_STRING)
        return jinja_fail(j, SNUG_ERR_FORMAT, "a slice of a %s", jv_type_name(of));
    if (!jv_items(j, of, &l)) return false;
    const jvalue *parts[3] = {&from, &to, &step};
    for (int i = 0; i < 3; i++)
        if (parts[i]->kind != J_NONE && !is_integral(*parts[i]))
            return jinja_fail(j, SNUG_ERR_FORMAT, "a slice by a %s", jv_type_name(*parts[i]));
    int64_t n = (int64_t)l.n, by = step.kind == J_NONE ? 1 : integral(step), low = by > 0 ? 0 : -1,
            high = by > 0 ? n : n - 1;
    if (by == 0) return jinja_fail(j, SNUG_ERR_FORMAT, "a slice of step 0");
    int64_t bound[2] = {by > 0 ? low : high, by > 0 ? high : low};
    for (int i = 0; i < 2; i++) {
        if (parts[i]->kind == J_NONE) continue;
        int64_t x = integral(*parts[i]);
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
        list.v.list->tuple = of.v.list->tuple;
        *out = list;
        return true;
    }
    buf text = {0};
    for (size_t i = 0; i < count; i++)
        if (!jv_append(j, &text, list.v.list->item[i])) {
            buf_fini(&text);
            return false;
        }
    return jinja_keep(j, &text, out);
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
    out->v.list->tuple = n->kind == N_TUPLE;
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
        if (!jinja_eval(j, n->list[i], &right) || !compare(j, n->ops[i], left, right, &holds)) return false;
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

bool jinja_eval_args(jinja *j, const jnode *n, jargs *out) {
    *out = (jargs){.n_pos = n->n_list, .key = n->keys, .n_keys = n->n_keys};
    if (n->n_list && !(out->pos = jinja_alloc(j, n->n_list, sizeof *out->pos))) return false;
    if (n->n_keys && !(out->value = jinja_alloc(j, n->n_keys, sizeof *out->value))) return false;
    for (size_t i = 0; i < n->n_list; i++)
        if (!jinja_eval(j, n->list[i], &out->pos[i])) return false;
    for (size_t i = 0; i < n->n_keys; i++)
        if (!jinja_eval(j, n->values[i], &out->value[i])) return false;
    return true;
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
    if (!is_number(v)) return jinja_fail(j, SNUG_ERR_FORMAT, "a sign before a %s", jv_type_name(v));
    if (v.kind == J_FLOAT)
        *out = jv_float(n->op == OP_SUB ? -v.v.f : v.v.f);
    else if (n->op == OP_SUB)
        return arithmetic_int(j, OP_SUB, 0, integral(v), out);
    else
        *out = jv_int(integral(v));
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
