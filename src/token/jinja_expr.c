/* The expression parser: recursive descent, one function per precedence level, in Jinja's order:
 *   a if b else c  <  or  <  and  <  not  <  == != < > <= >= in not-in  <  + -  <  ~  <  * / // %  <  **  <  unary + -
 * <  . [] () | is */
#include "token/jinja_impl.h"
#include <string.h>

const jtoken *jinja_peek(const jinja *j) {
    return &j->token[j->at];
}

static bool token_is(const jtoken *t, jtoken_kind kind, const char *text) {
    return t->kind == kind && t->n == strlen(text) && memcmp(t->p, text, t->n) == 0;
}

bool jinja_at_op(const jinja *j, const char *op) {
    return token_is(jinja_peek(j), T_OP, op);
}
bool jinja_at_name(const jinja *j, const char *name) {
    return token_is(jinja_peek(j), T_NAME, name);
}

bool jinja_take_op(jinja *j, const char *op) {
    bool hit = jinja_at_op(j, op);
    j->at += hit;
    return hit;
}

bool jinja_take_name(jinja *j, const char *name) {
    bool hit = jinja_at_name(j, name);
    j->at += hit;
    return hit;
}

bool jinja_expect_op(jinja *j, const char *op) {
    if (jinja_take_op(j, op)) return true;
    const jtoken *t = jinja_peek(j);
    j->line = t->line;
    return jinja_fail(j, SNUG_ERR_FORMAT, "expected '%s', found '%.*s'", op, (int)(t->n < 40 ? t->n : 40), t->p);
}

jnode *jinja_node(jinja *j, jnode_kind kind) {
    jnode *n = jinja_alloc(j, 1, sizeof *n);
    if (!n) return NULL;
    n->kind = kind;
    n->line = jinja_peek(j)->line;
    return n;
}

/* Growing lists: capacity is the next power of two of the count. */
static bool push(jinja *j, jnode ***list, size_t *n, jnode *item) {
    if (!item) return false;
    if ((*n & (*n - 1)) == 0) { /* 0, 1, 2, 4 ...: full */
        jnode **grown = jinja_alloc(j, *n ? 2 * *n : 1, sizeof *grown);
        if (!grown) return false;
        if (*n) memcpy(grown, *list, *n * sizeof *grown);
        *list = grown;
    }
    (*list)[(*n)++] = item;
    return true;
}

static bool push_key(jinja *j, jnode *to, jname key, jnode *value) {
    size_t n = to->n_keys;
    if ((n & (n - 1)) == 0) {
        jname *keys = jinja_alloc(j, n ? 2 * n : 1, sizeof *keys);
        if (!keys) return false;
        if (n) memcpy(keys, to->keys, n * sizeof *keys);
        to->keys = keys;
    }
    to->keys[n] = key;
    size_t count = n;
    if (!push(j, &to->values, &count, value)) return false;
    to->n_keys = count;
    return true;
}

static jnode *binary(jinja *j, jnode_kind kind, jop op, jnode *a, jnode *b) {
    jnode *n = a && b ? jinja_node(j, kind) : NULL;
    if (!n) return NULL;
    n->line = a->line;
    n->op = op;
    n->a = a;
    n->b = b;
    return n;
}

static jnode *parse_unary(jinja *j, bool filters);

/* ---- primary ---- */

static jnode *constant(jinja *j, jvalue v) {
    jnode *n = jinja_node(j, N_CONST);
    if (n) n->value = v;
    return n;
}

static jnode *parse_name(jinja *j) {
    static const struct {
        const char *name;
        jkind kind;
        bool b;
    } words[] = {{"true", J_BOOL, true},   {"True", J_BOOL, true},  {"false", J_BOOL, false},
                 {"False", J_BOOL, false}, {"none", J_NONE, false}, {"None", J_NONE, false}};
    for (size_t i = 0; i < 6; i++)
        if (jinja_at_name(j, words[i].name)) {
            jnode *n = constant(j, (jvalue){.kind = words[i].kind, .v.b = words[i].b});
            j->at++;
            return n;
        }
    j->takes |= (jinja_at_name(j, "varargs") ? TAKES_VARARGS : 0) | (jinja_at_name(j, "kwargs") ? TAKES_KWARGS : 0) |
                (jinja_at_name(j, "caller") ? TAKES_CALLER : 0);
    jnode *n = jinja_node(j, N_NAME);
    if (n) n->name = jinja_intern(j, jinja_peek(j)->p, jinja_peek(j)->n);
    j->at++;
    return n;
}

/* Neighbouring strings are one, as in Python. */
static jnode *parse_strings(jinja *j) {
    size_t first = j->at, n = 0;
    while (jinja_peek(j)->kind == T_STRING) n += j->token[j->at++].n;
    char *p = jinja_alloc(j, n + 1, 1);
    if (!p) return NULL;
    size_t k = 0;
    for (size_t i = first; i < j->at; i++) {
        memcpy(p + k, j->token[i].p, j->token[i].n);
        k += j->token[i].n;
    }
    return constant(j, jv_string(p, n));
}

static jnode *parse_sequence(jinja *j, jnode_kind kind, const char *close) {
    jnode *n = jinja_node(j, kind);
    while (n && !jinja_take_op(j, close)) {
        if (n->n_list && !jinja_expect_op(j, ",")) return NULL;
        if (n->n_list && jinja_take_op(j, close)) break; /* a comma at the end */
        if (!push(j, &n->list, &n->n_list, jinja_parse_expression(j))) return NULL;
    }
    return n;
}

static jnode *parse_dict(jinja *j) {
    jnode *n = jinja_node(j, N_DICT); /* list: key, value, key, value ... */
    while (n && !jinja_take_op(j, "}")) {
        if (n->n_list && !jinja_expect_op(j, ",")) return NULL;
        if (n->n_list && jinja_take_op(j, "}")) break;
        if (!push(j, &n->list, &n->n_list, jinja_parse_expression(j)) || !jinja_expect_op(j, ":")) return NULL;
        if (!push(j, &n->list, &n->n_list, jinja_parse_expression(j))) return NULL;
    }
    return n;
}

/* (a), (a, b), (a,), () */
static jnode *parse_parentheses(jinja *j) {
    if (jinja_take_op(j, ")")) return jinja_node(j, N_TUPLE);
    jnode *n = jinja_parse_tuple(j, true);
    return n && jinja_expect_op(j, ")") ? n : NULL;
}

static jnode *parse_primary(jinja *j) {
    const jtoken *t = jinja_peek(j);
    j->line = t->line;
    switch (t->kind) {
    case T_NAME:
        return parse_name(j);
    case T_STRING:
        return parse_strings(j);
    case T_INT:
        j->at++;
        return constant(j, jv_int(t->i));
    case T_FLOAT:
        j->at++;
        return constant(j, jv_float(t->f));
    case T_OP:
        if (jinja_take_op(j, "(")) return parse_parentheses(j);
        if (jinja_take_op(j, "[")) return parse_sequence(j, N_LIST, "]");
        if (jinja_take_op(j, "{")) return parse_dict(j);
        break;
    default:
        break;
    }
    jinja_fail(j, SNUG_ERR_FORMAT, "unexpected '%.*s'", (int)(t->n < 40 ? t->n : 40), t->p);
    return NULL;
}

/* ---- postfix ---- */

bool jinja_parse_arguments(jinja *j, jnode *into) {
    bool first = true;
    while (!jinja_take_op(j, ")")) {
        if (!first && !jinja_expect_op(j, ",")) return false;
        if (!first && jinja_take_op(j, ")")) return true;
        first = false;
        const jtoken *t = jinja_peek(j);
        if (jinja_at_op(j, "*") || jinja_at_op(j, "**")) { /* b: what * spreads; c: ** */
            jnode **spread = t->n == 1 ? &into->b : &into->c;
            if (into->c || *spread) return jinja_fail(j, SNUG_ERR_FORMAT, "* or ** twice, or * behind **");
            j->at++;
            if (!(*spread = jinja_parse_expression(j))) return false;
        } else if (t->kind == T_NAME && token_is(t + 1, T_OP, "=")) {
            jname key = jinja_intern(j, t->p, t->n);
            j->at += 2;
            if (!push_key(j, into, key, jinja_parse_expression(j))) return false;
        } else {
            if (into->n_keys || into->b || into->c) return jinja_fail(j, SNUG_ERR_FORMAT, "a positional argument behind a keyword argument");
            if (!push(j, &into->list, &into->n_list, jinja_parse_expression(j))) return false;
        }
    }
    return true;
}

/* Behind '[': an index or a slice. */
static jnode *parse_subscript(jinja *j, jnode *of) {
    jnode *part[3] = {NULL, NULL, NULL};
    size_t n = 0;
    bool slice = false;
    while (!jinja_at_op(j, "]") && n < 3) {
        if (jinja_take_op(j, ":")) {
            slice = true;
            n++;
        } else if (part[n]) {
            break; /* two expressions in a row */
        } else if (!(part[n] = jinja_parse_expression(j))) {
            return NULL;
        }
    }
    if (!jinja_expect_op(j, "]")) return NULL;
    if (!slice && !part[0]) {
        jinja_fail(j, SNUG_ERR_FORMAT, "an empty index");
        return NULL;
    }
    jnode *node = jinja_node(j, slice ? N_SLICE : N_ITEM);
    if (!node) return NULL;
    node->a = of;
    node->b = part[0];
    if (slice) {
        if (!(node->list = jinja_alloc(j, 3, sizeof *node->list))) return NULL;
        memcpy(node->list, part, sizeof part);
        node->n_list = 3;
    }
    return node;
}

static jnode *parse_attribute(jinja *j, jnode *of) {
    const jtoken *t = jinja_peek(j);
    jnode *node = jinja_node(j, t->kind == T_INT ? N_ITEM : N_ATTRIBUTE);
    if (!node) return NULL;
    node->a = of;
    if (t->kind == T_NAME) {
        node->name = jinja_intern(j, t->p, t->n);
    } else if (t->kind == T_INT) {
        if (!(node->b = constant(j, jv_int(t->i)))) return NULL;
    } else {
        jinja_fail(j, SNUG_ERR_FORMAT, "a name is expected behind '.'");
        return NULL;
    }
    j->at++;
    return node;
}

/* a: what is called; list, keys and values, b, c: arguments (jinja_parse_arguments) */
static jnode *parse_call(jinja *j, jnode *of) {
    jnode *node = jinja_node(j, N_CALL);
    if (!node) return NULL;
    node->a = of;
    return jinja_parse_arguments(j, node) ? node : NULL;
}

static jnode *parse_postfix(jinja *j, jnode *n) {
    while (n) {
        if (jinja_take_op(j, "."))
            n = parse_attribute(j, n);
        else if (jinja_take_op(j, "["))
            n = parse_subscript(j, n);
        else if (jinja_take_op(j, "("))
            n = parse_call(j, n);
        else
            break;
    }
    return n;
}

static bool dotted_name(jinja *j, jname *out) {
    const jtoken *t = jinja_peek(j);
    if (t->kind != T_NAME) return jinja_fail(j, SNUG_ERR_FORMAT, "a filter's or test's name is expected");
    *out = jinja_intern(j, t->p, t->n);
    j->at++;
    if (jinja_at_op(j, "."))
        return jinja_fail(j, SNUG_ERR_UNSUPPORTED, "dotted filter and test names are not supported");
    return true;
}

static jnode *parse_filter(jinja *j, jnode *of) {
    jnode *node = jinja_node(j, N_FILTER);
    if (!node || !dotted_name(j, &node->name)) return NULL;
    node->a = of;
    return !jinja_take_op(j, "(") || jinja_parse_arguments(j, node) ? node : NULL;
}

jnode *jinja_parse_filters(jinja *j, jnode *of, bool first_without_pipe) {
    if (first_without_pipe) of = parse_filter(j, of);
    while (of && jinja_take_op(j, "|")) of = parse_filter(j, of);
    return of;
}

/* Behind `is`: a name, then arguments in parentheses or one bare argument. */
static jnode *parse_test(jinja *j, jnode *of) {
    bool negated = jinja_take_name(j, "not");
    jnode *node = jinja_node(j, N_TEST);
    if (!node || !dotted_name(j, &node->name)) return NULL;
    node->a = of;
    const jtoken *t = jinja_peek(j);
    if (jinja_at_name(j, "is")) {
        jinja_fail(j, SNUG_ERR_FORMAT, "tests cannot be chained");
        return NULL;
    }
    bool bare =
        t->kind == T_STRING || t->kind == T_INT || t->kind == T_FLOAT || jinja_at_op(j, "[") || jinja_at_op(j, "{") ||
        (t->kind == T_NAME && !jinja_at_name(j, "else") && !jinja_at_name(j, "or") && !jinja_at_name(j, "and") &&
         !jinja_at_name(j, "if") && !jinja_at_name(j, "in") && !jinja_at_name(j, "not"));
    if (jinja_take_op(j, "(")) {
        if (!jinja_parse_arguments(j, node)) return NULL;
    } else if (bare && !push(j, &node->list, &node->n_list, parse_postfix(j, parse_primary(j)))) {
        return NULL;
    }
    return negated ? binary(j, N_NOT, OP_ADD, node, node) : node;
}

static jnode *parse_filters_and_tests(jinja *j, jnode *n) {
    while (n) {
        if (jinja_take_op(j, "|"))
            n = parse_filter(j, n);
        else if (jinja_take_name(j, "is"))
            n = parse_test(j, n);
        else if (jinja_take_op(j, "("))
            n = parse_call(j, n);
        else
            break;
    }
    return n;
}

/* ---- operators ---- */

static jnode *parse_unary(jinja *j, bool filters) {
    jnode *n;
    if (!jinja_enter(j)) return NULL;
    bool minus = jinja_at_op(j, "-");
    if (minus || jinja_at_op(j, "+")) {
        n = jinja_node(j, N_UNARY);
        j->at++;
        if (n) {
            n->op = minus ? OP_SUB : OP_ADD;
            n->a = parse_unary(j, false);
            if (!n->a) n = NULL;
        }
    } else {
        n = parse_postfix(j, parse_primary(j));
    }
    j->depth--;
    return filters ? parse_filters_and_tests(j, n) : n;
}

static jnode *parse_power(jinja *j) {
    jnode *n = parse_unary(j, true);
    while (n && jinja_take_op(j, "**")) n = binary(j, N_BINARY, OP_POW, n, parse_unary(j, true));
    return n;
}

static jnode *parse_product(jinja *j) {
    static const struct {
        const char *text;
        jop op;
    } ops[] = {{"*", OP_MUL}, {"/", OP_DIV}, {"//", OP_FLOORDIV}, {"%", OP_MOD}};
    jnode *n = parse_power(j);
    for (size_t i = 0; n && i < 4;) {
        if (!jinja_take_op(j, ops[i].text)) {
            i++;
            continue;
        }
        n = binary(j, N_BINARY, ops[i].op, n, parse_power(j));
        i = 0;
    }
    return n;
}

static jnode *parse_concat(jinja *j) {
    jnode *n = parse_product(j);
    while (n && jinja_take_op(j, "~")) n = binary(j, N_BINARY, OP_CONCAT, n, parse_product(j));
    return n;
}

static jnode *parse_sum(jinja *j) {
    jnode *n = parse_concat(j);
    while (n && (jinja_at_op(j, "+") || jinja_at_op(j, "-"))) {
        jop op = jinja_at_op(j, "+") ? OP_ADD : OP_SUB;
        j->at++;
        n = binary(j, N_BINARY, op, n, parse_concat(j));
    }
    return n;
}

static bool take_comparison(jinja *j, jop *op) {
    static const struct {
        const char *text;
        jop op;
    } ops[] = {{"==", OP_EQ}, {"!=", OP_NE}, {"<", OP_LT}, {"<=", OP_LE}, {">", OP_GT}, {">=", OP_GE}};
    for (size_t i = 0; i < 6; i++)
        if (jinja_take_op(j, ops[i].text)) {
            *op = ops[i].op;
            return true;
        }
    if (jinja_take_name(j, "in")) {
        *op = OP_IN;
        return true;
    }
    if (jinja_at_name(j, "not") && token_is(jinja_peek(j) + 1, T_NAME, "in")) {
        j->at += 2;
        *op = OP_NOT_IN;
        return true;
    }
    return false;
}

/* a < b <= c: each neighbouring pair must hold. */
static jnode *parse_compare(jinja *j) {
    jnode *first = parse_sum(j), *n = NULL;
    jop op;
    while (first && take_comparison(j, &op)) {
        if (!n) {
            if (!(n = jinja_node(j, N_COMPARE))) return NULL;
            n->a = first;
        }
        jop *ops = jinja_alloc(j, n->n_list + 1, sizeof *ops);
        if (!ops) return NULL;
        if (n->n_list) memcpy(ops, n->ops, n->n_list * sizeof *ops);
        ops[n->n_list] = op;
        n->ops = ops;
        if (!push(j, &n->list, &n->n_list, parse_sum(j))) return NULL;
    }
    return n ? n : first;
}

static jnode *parse_not(jinja *j) {
    if (!jinja_take_name(j, "not")) return parse_compare(j);
    if (!jinja_enter(j)) return NULL;
    jnode *of = parse_not(j);
    j->depth--;
    return binary(j, N_NOT, OP_ADD, of, of);
}

static jnode *parse_and(jinja *j) {
    jnode *n = parse_not(j);
    while (n && jinja_take_name(j, "and")) n = binary(j, N_AND, OP_ADD, n, parse_not(j));
    return n;
}

jnode *jinja_parse_no_condition(jinja *j) {
    jnode *n = parse_and(j);
    while (n && jinja_take_name(j, "or")) n = binary(j, N_OR, OP_ADD, n, parse_and(j));
    return n;
}

jnode *jinja_parse_expression(jinja *j) {
    if (!jinja_enter(j)) return NULL;
    jnode *n = jinja_parse_no_condition(j);
    while (n && jinja_take_name(j, "if")) {
        jnode *test = jinja_parse_no_condition(j), *other = NULL;
        if (test && jinja_take_name(j, "else") && !(other = jinja_parse_expression(j))) return NULL;
        jnode *c = binary(j, N_CONDITION, OP_ADD, test, n);
        if (c) c->c = other;
        n = c;
    }
    j->depth--;
    return n;
}

jnode *jinja_parse_tuple(jinja *j, bool conditions) {
    jnode *first = conditions ? jinja_parse_expression(j) : jinja_parse_no_condition(j);
    if (!first || !jinja_at_op(j, ",")) return first;
    jnode *n = jinja_node(j, N_TUPLE);
    if (!n || !push(j, &n->list, &n->n_list, first)) return NULL;
    while (jinja_take_op(j, ",")) {
        const jtoken *t = jinja_peek(j);
        if (jinja_at_op(j, ")") || t->kind == T_BLOCK_END || t->kind == T_OUTPUT_END) break;
        if (!push(j, &n->list, &n->n_list, conditions ? jinja_parse_expression(j) : jinja_parse_no_condition(j)))
            return NULL;
    }
    return n;
}
