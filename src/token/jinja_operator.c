/* Operators: arithmetic as Python has it (whole numbers of 64 bits: what goes beyond is refused), + and * of texts and lists, comparisons. */
#include "token/jinja_impl.h"
#include <math.h>
#include <string.h>

/* What + and * take: lists and tuples. */
static bool is_sequence(jvalue v) { return v.kind == J_LIST && v.v.list->form <= FORM_TUPLE; }

static bool bad_operands(jinja *j, const char *op, jvalue a, jvalue b) {
    if (a.kind == J_UNDEFINED || b.kind == J_UNDEFINED) {
        jvalue u = a.kind == J_UNDEFINED ? a : b;
        return jinja_fail(j, SNUG_ERR_FORMAT, "'%.*s' is undefined", (int)(u.v.s.n < 80 ? u.v.s.n : 80), u.v.s.p);
    }
    return jinja_fail(j, SNUG_ERR_FORMAT, "'%s' between a %s and a %s", op, jv_type_name(a), jv_type_name(b));
}

/* A text that is marked safe escapes the other. */
static bool join_strings(jinja *j, jvalue a, jvalue b, jvalue *out) {
    bool safe = a.safe || b.safe;
    if (safe && (!jinja_escape(j, a, &a) || !jinja_escape(j, b, &b))) return false;
    size_t n = a.v.s.n + b.v.s.n;
    if (n > JINJA_MAX_OUTPUT)
        return jinja_fail(j, SNUG_ERR_FORMAT, "the text is longer than %d MiB", JINJA_MAX_OUTPUT >> 20);
    char *p = jinja_alloc(j, n + 1, 1);
    if (!p) return false;
    if (a.v.s.n) memcpy(p, a.v.s.p, a.v.s.n);
    if (b.v.s.n) memcpy(p + a.v.s.n, b.v.s.p, b.v.s.n);
    *out = jv_marked(jv_string(p, n), safe);
    return true;
}

static bool join_lists(jinja *j, jvalue a, jvalue b, jvalue *out) {
    const jlist *x = a.v.list, *y = b.v.list;
    if (!jv_list_new(j, x->n + y->n, out)) return false;
    if (x->n) memcpy(out->v.list->item, x->item, x->n * sizeof *x->item);
    if (y->n) memcpy(out->v.list->item + x->n, y->item, y->n * sizeof *y->item);
    out->v.list->form = x->form;
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
        *out = jv_marked(jv_string(p, n * k), v.safe);
        return true;
    }
    if (!jv_list_new(j, n * k, out)) return false;
    for (size_t i = 0; i < k; i++) memcpy(out->v.list->item + i * n, v.v.list->item, n * sizeof(jvalue));
    out->v.list->form = v.v.list->form;
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
    if (op == OP_POW && !isfinite(r) && isfinite(a) && isfinite(b)) return jinja_fail(j, SNUG_ERR_FORMAT, "a power that is no finite real number");
    *out = jv_float(r);
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
        if (b < 0) return arithmetic_float(j, op, (double)a, (double)b, out);
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

bool jinja_contains(jinja *j, jvalue container, jvalue item, bool *out) {
    *out = false;
    if (container.kind == J_STRING) {
        if (item.kind != J_STRING)
            return jinja_fail(j, SNUG_ERR_FORMAT, "'in' of a %s in a string", jv_type_name(item));
        *out = item.v.s.n == 0 || memmem(container.v.s.p, container.v.s.n, item.v.s.p, item.v.s.n) != NULL;
        return true;
    }
    if (container.kind == J_DICT && (item.kind == J_DICT || (item.kind == J_LIST && item.v.list->form == FORM_LIST)))
        return jinja_fail(j, SNUG_ERR_FORMAT, "'in': a %s cannot be a dictionary's key", jv_type_name(item));
    jlist l;
    if (!jv_items(j, container, &l)) return false;
    for (size_t i = 0; i < l.n && !*out; i++) *out = jv_equal(j, l.item[i], item);
    return !j->failed;
}

bool jinja_compare(jinja *j, jop op, jvalue a, jvalue b, bool *out) {
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
        return jv_text(j, a, &x) && jv_text(j, b, &y) && join_strings(j, jv_marked(x, false), jv_marked(y, false), out);
    }
    if (jv_is_integral(a) && jv_is_integral(b)) return arithmetic_int(j, op, jv_integral(a), jv_integral(b), out);
    if (jv_is_number(a) && jv_is_number(b)) return arithmetic_float(j, op, jv_number(a), jv_number(b), out);
    if (op == OP_ADD && a.kind == J_STRING && b.kind == J_STRING) return join_strings(j, a, b, out);
    if (op == OP_ADD && is_sequence(a) && is_sequence(b) && a.v.list->form == b.v.list->form)
        return join_lists(j, a, b, out);
    if (op == OP_MUL && (a.kind == J_STRING || is_sequence(a)) && jv_is_integral(b))
        return repeat(j, a, jv_integral(b), out);
    if (op == OP_MUL && (b.kind == J_STRING || is_sequence(b)) && jv_is_integral(a))
        return repeat(j, b, jv_integral(a), out);
    if (op == OP_MOD && a.kind == J_STRING) return jinja_percent(j, a, b, out);
    return bad_operands(j, text[op], a, b);
}
