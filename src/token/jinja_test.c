/* Tests: what stands behind `is`, and what select and selectattr take by name. */
#include "token/jinja_impl.h"
#include <string.h>

static bool is(jname name, const char *text) {
    return jinja_name_is(name, text);
}

/* Comparisons, by all the names that Jinja gives them. */
static bool comparison(jname name, jop *op) {
    static const struct {
        const char *name;
        jop op;
    } names[] = {{"==", OP_EQ}, {"eq", OP_EQ}, {"equalto", OP_EQ},     {"!=", OP_NE}, {"ne", OP_NE},
                 {"<", OP_LT},  {"lt", OP_LT}, {"lessthan", OP_LT},    {"<=", OP_LE}, {"le", OP_LE},
                 {">", OP_GT},  {"gt", OP_GT}, {"greaterthan", OP_GT}, {">=", OP_GE}, {"ge", OP_GE}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is(name, names[i].name)) {
            *op = names[i].op;
            return true;
        }
    return false;
}

static bool test_compare(jinja *j, jop op, jvalue a, jvalue b, bool *out) {
    bool ok = true;
    int c = 0;
    if (op == OP_EQ || op == OP_NE) {
        *out = jv_equal(j, a, b) == (op == OP_EQ);
        return !j->failed;
    }
    c = jv_compare(j, a, b, &ok);
    if (!ok) return jinja_fail(j, SNUG_ERR_FORMAT, "comparing a %s and a %s", jv_type_name(a), jv_type_name(b));
    *out = op == OP_LT ? c < 0 : op == OP_LE ? c <= 0 : op == OP_GT ? c > 0 : c >= 0;
    return !j->failed;
}

/* The tests without an argument. */
static bool of_kind(jname name, jvalue v, bool *out) {
    const jkind k = v.kind;
    if (is(name, "defined"))
        *out = k != J_UNDEFINED;
    else if (is(name, "undefined"))
        *out = k == J_UNDEFINED;
    else if (is(name, "none"))
        *out = k == J_NONE;
    else if (is(name, "boolean"))
        *out = k == J_BOOL;
    else if (is(name, "true"))
        *out = k == J_BOOL && v.v.b;
    else if (is(name, "false"))
        *out = k == J_BOOL && !v.v.b;
    else if (is(name, "integer"))
        *out = k == J_INT;
    else if (is(name, "float"))
        *out = k == J_FLOAT;
    else if (is(name, "number"))
        *out = k == J_INT || k == J_FLOAT || k == J_BOOL; /* a bool is a number in Python */
    else if (is(name, "string"))
        *out = k == J_STRING;
    else if (is(name, "mapping"))
        *out = k == J_DICT;
    else if (is(name, "sequence"))
        *out = k == J_STRING || (k == J_LIST && v.v.list->form <= FORM_RANGE) || k == J_DICT || k == J_UNDEFINED;
    else if (is(name, "iterable"))
        *out = k == J_STRING || k == J_LIST || k == J_DICT || k == J_UNDEFINED;
    else if (is(name, "callable"))
        *out = k == J_MACRO || k == J_FUNCTION || k == J_METHOD || k == J_LOOP || k == J_UNDEFINED; /* these two raise when called */
    else
        return false;
    return true;
}

/* even, odd, divisibleby */
static bool test_divisible(jinja *j, jname name, jvalue v, const jvalue *by, bool *out) {
    jvalue rest;
    jvalue divisor = is(name, "divisibleby") && by ? *by : jv_int(2);
    if (!jinja_binary(j, OP_MOD, v, divisor, &rest)) return false;
    *out = jv_equal(j, rest, jv_int(is(name, "odd")));
    return true;
}

/* upper, lower: some letter has case and none has the other */
static bool test_case(jinja *j, jname name, jvalue v, bool *out) {
    const jargs none = {0};
    jvalue text, holds;
    const jname method = is(name, "upper") ? jinja_intern(j, "isupper", 7) : jinja_intern(j, "islower", 7);
    if (!method.p || !jv_text(j, v, &text) || !jinja_string_method(j, text, method, &none, &holds)) return false;
    *out = jv_true(holds);
    return true;
}

bool jinja_test(jinja *j, jname name, jvalue v, const jargs *a, bool *out) {
    jop op = OP_EQ;
    if (!name.p || !jinja_step(j)) return false;
    if (of_kind(name, v, out)) return true;
    const jvalue *arg = jinja_arg(a, 0, NULL);
    if (is(name, "even") || is(name, "odd") || is(name, "divisibleby")) return test_divisible(j, name, v, arg, out);
    if (is(name, "upper") || is(name, "lower")) return test_case(j, name, v, out);
    bool known = comparison(name, &op) || is(name, "in") || is(name, "sameas");
    if (!known)
        return jinja_fail(j, SNUG_ERR_UNSUPPORTED, "the test '%.*s' is not supported", (int)(name.n < 60 ? name.n : 60),
                          name.p);
    if (!arg) return jinja_fail(j, SNUG_ERR_FORMAT, "the test '%.*s' lacks an argument", (int)name.n, name.p);
    if (is(name, "in")) return jinja_contains(j, *arg, v, out);
    if (is(name, "sameas")) {
        *out = v.kind == arg->kind && jv_equal(j, v, *arg);
        return !j->failed;
    }
    return test_compare(j, op, v, *arg, out);
}
