/* Python's two ways of putting values into a text: "{0.name!r:>8} {}".format(...) and "%-5s %(key)d" % values. Both come down to a
 * field: a value, how it is padded, and for numbers a conversion that C's printf has too. */
#include "token/jinja_impl.h"
#include "token/utf8.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct field {
    char align;      /* '<', '>', '^', '=' (behind the sign); 0: texts left, numbers right */
    char fill[5];    /* one character */
    char sign;       /* '+', ' ' or 0 */
    char group;      /* ',' or '_' between thousands, or 0 */
    bool alternate;  /* '#' */
    int64_t width, precision; /* precision < 0: none */
    char type;       /* 0: none given */
} field;

enum { MAX_DIGITS = 400 };

static bool bad(jinja *j, const char *what, jvalue v) {
    return jinja_fail(j, SNUG_ERR_FORMAT, "format: %s for a %s", what, jv_type_name(v));
}

static size_t characters(const char *p, size_t n) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) k += ((uint8_t)p[i] & 0xC0) != 0x80;
    return k;
}

static bool fill_in(jinja *j, buf *out, const char *fill, int64_t times) {
    const size_t n = strlen(fill);
    if (times > JINJA_MAX_OUTPUT) return jinja_fail(j, SNUG_ERR_FORMAT, "the text is longer than %d MiB", JINJA_MAX_OUTPUT >> 20);
    for (; times > 0; times--)
        if (!jinja_put(j, out, fill, n)) return false;
    return true;
}

/* align '^' puts the odd one right, as format() does; 'c' as str.center() does: left if the width is odd; '=' and
 * 'z' (str.zfill) pad behind a sign. */
bool jinja_pad(jinja *j, buf *out, const char *p, size_t n, char align, const char *fill, int64_t width) {
    const int64_t missing = width - (int64_t)characters(p, n);
    const size_t sign = n > 0 && (align == '=' || align == 'z') && (*p == '-' || *p == '+' || (*p == ' ' && align == '='));
    if (missing <= 0) return jinja_put(j, out, p, n);
    int64_t left = align == '<' ? 0 : align == '^' ? missing / 2 : align == 'c' ? missing / 2 + (missing & width & 1) : missing;
    return jinja_put(j, out, p, sign) && fill_in(j, out, fill, left) && jinja_put(j, out, p + sign, n - sign) && fill_in(j, out, fill, missing - left);
}

/* The digits in front of a point or exponent, in threes. */
static void put_groups(char *text, char group) {
    const size_t start = *text == '-' || *text == '+' || *text == ' ', n = strspn(text + start, "0123456789");
    for (size_t k = 3; k < n; k += 3) {
        char *at = text + start + n - k;
        memmove(at + 1, at, strlen(at) + 1);
        *at = group;
    }
}

static bool put_number_field(jinja *j, buf *out, char *text, const field *f) {
    if (f->group) put_groups(text, f->group);
    return jinja_pad(j, out, text, strlen(text), f->align ? f->align : '>', f->fill, f->width);
}

static bool put_integer(jinja *j, buf *out, int64_t v, const field *f) {
    char digits[72], text[2 * MAX_DIGITS];
    size_t k = sizeof digits - 1;
    const unsigned base = f->type == 'b' ? 2 : f->type == 'o' ? 8 : f->type == 'x' || f->type == 'X' ? 16 : 10;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    digits[k] = 0;
    do digits[--k] = (f->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[u % base];
    while ((u /= base) != 0);
    const char prefix[3] = {'0', f->type, 0};
    snprintf(text, sizeof text, "%s%s%s", v < 0 ? "-" : f->sign == '+' ? "+" : f->sign ? " " : "", f->alternate && base != 10 ? prefix : "", digits + k);
    if (f->group && base != 10) return jinja_fail(j, SNUG_ERR_UNSUPPORTED, "format: digit groups of numbers that are not decimal");
    return put_number_field(j, out, text, f);
}

static bool put_float(jinja *j, buf *out, double v, const field *f) {
    char form[8] = "%", text[2 * MAX_DIGITS];
    const bool percent = f->type == '%';
    if (f->precision > 200) return jinja_fail(j, SNUG_ERR_UNSUPPORTED, "format: more than 200 digits");
    snprintf(form, sizeof form, "%%%s%s.*%c", f->sign == '+' ? "+" : f->sign ? " " : "", f->alternate ? "#" : "", percent ? 'f' : f->type);
    const int n = snprintf(text, sizeof text - MAX_DIGITS / 3, form, f->precision < 0 ? 6 : (int)f->precision, percent ? 100 * v : v);
    if (n < 0 || (size_t)n >= sizeof text - MAX_DIGITS / 3 - 2) return jinja_fail(j, SNUG_ERR_FORMAT, "format: a number of too many digits");
    if (percent) strcat(text, "%");
    return put_number_field(j, out, text, f);
}

/* Text cut to the precision and padded. */
static bool put_text_field(jinja *j, buf *out, jvalue s, const field *f) {
    size_t n = 0;
    for (int64_t k = 0; n < s.v.s.n && (f->precision < 0 || k < f->precision); k++) n += utf8_length((uint8_t)s.v.s.p[n]);
    return jinja_pad(j, out, s.v.s.p, n, f->align ? f->align : '<', f->fill, f->width);
}

static bool put_character(jinja *j, buf *out, jvalue v, const field *f) {
    uint8_t form[4];
    if (v.kind == J_BOOL) v = jv_int(v.v.b);
    if (v.kind != J_INT || v.v.i < 0 || v.v.i > 0x10FFFF || (v.v.i >= 0xD800 && v.v.i <= 0xDFFF)) return bad(j, "the type c", v);
    return put_text_field(j, out, jv_string((const char *)form, utf8_encode((uint32_t)v.v.i, form)), f);
}

/* Without a type: the digits that {{ v }} has. */
static bool put_float_as_printed(jinja *j, buf *out, jvalue v, const field *f) {
    buf digits = {0};
    char text[2 * MAX_DIGITS];
    if (f->precision >= 0) return jinja_fail(j, SNUG_ERR_UNSUPPORTED, "format: a float with a precision needs one of the types e, f, g, %%");
    bool ok = jv_append(j, &digits, v);
    if (ok) snprintf(text, sizeof text, "%s%.*s", signbit(v.v.f) ? "" : f->sign == '+' ? "+" : f->sign ? " " : "", (int)digits.len, (char *)digits.data);
    buf_fini(&digits);
    return ok && put_number_field(j, out, text, f);
}

static bool put_number(jinja *j, buf *out, jvalue v, const field *f) {
    const bool is_float = v.kind == J_FLOAT;
    const int64_t i = v.kind == J_BOOL ? v.v.b : is_float ? 0 : v.v.i;
    if (f->type == 'c') return put_character(j, out, v, f);
    if (f->type && strchr("eEfFgG%", f->type)) return put_float(j, out, is_float ? v.v.f : (double)i, f);
    if (is_float) return f->type ? bad(j, "a type of whole numbers", v) : put_float_as_printed(j, out, v, f);
    if (f->type && !strchr("dnxXob", f->type)) return bad(j, "an unknown type", v);
    if (f->precision >= 0) return bad(j, "a precision", v);
    return put_integer(j, out, i, f);
}

/* ---- str.format ---- */

/* [[fill]align][sign][#][0][width][,][.precision][type] */
static bool parse_spec(jinja *j, const char *p, const char *end, field *f) {
    *f = (field){.fill = " ", .precision = -1};
    const size_t k = p < end ? utf8_length((uint8_t)*p) : 0;
    if (p + k < end && strchr("<>^=", p[k])) {
        memcpy(f->fill, p, k);
        f->fill[k] = 0;
        f->align = p[k];
        p += k + 1;
    } else if (p < end && strchr("<>^=", *p)) {
        f->align = *p++;
    }
    if (p < end && (*p == '+' || *p == '-' || *p == ' ')) f->sign = *p++;
    if (f->sign == '-') f->sign = 0;
    if (p < end && *p == '#') f->alternate = true, p++;
    if (p < end && *p == '0') {
        if (!f->align) f->align = '=', strcpy(f->fill, "0");
        p++;
    }
    for (; p < end && *p >= '0' && *p <= '9' && f->width < JINJA_MAX_OUTPUT; p++) f->width = 10 * f->width + *p - '0';
    if (p < end && (*p == ',' || *p == '_')) f->group = *p++;
    if (p + 1 < end && *p == '.') {
        f->precision = 0;
        for (p++; p < end && *p >= '0' && *p <= '9' && f->precision < JINJA_MAX_OUTPUT; p++) f->precision = 10 * f->precision + *p - '0';
    }
    if (p < end) f->type = *p++;
    return p == end || jinja_fail(j, SNUG_ERR_FORMAT, "format: a format specification that is not understood");
}

static bool format_value(jinja *j, buf *out, jvalue v, const char *spec, const char *end) {
    field f;
    if (spec == end) return jv_append(j, out, v);
    if (!parse_spec(j, spec, end, &f)) return false;
    if (v.kind == J_STRING) return (f.type && f.type != 's') || f.align == '=' || f.sign || f.group || f.alternate ? bad(j, "a number's format", v) : put_text_field(j, out, v, &f);
    if (v.kind == J_BOOL || v.kind == J_INT || v.kind == J_FLOAT) return put_number(j, out, v, &f);
    return bad(j, "a format specification", v);
}

/* A field's first name: "" (the next argument), a number, or a keyword. */
static bool find_argument(jinja *j, const char *p, size_t n, const jargs *a, int64_t *next, jvalue *out) {
    char digits[12] = "";
    const bool numbered = n > 0 && *p >= '0' && *p <= '9';
    if (n == 0 || numbered) {
        if (n < sizeof digits) memcpy(digits, p, n);
        if (n == 0 ? *next < 0 : *next > 0) return jinja_fail(j, SNUG_ERR_FORMAT, "format: fields with and without a number");
        const int64_t i = n == 0 ? (*next)++ : strtoll(digits, NULL, 10);
        if (numbered) *next = -1;
        if (n >= sizeof digits || (size_t)i >= a->n_pos) return jinja_fail(j, SNUG_ERR_FORMAT, "format: more fields than arguments");
        *out = a->pos[i];
        return true;
    }
    for (size_t k = 0; k < a->n_keys; k++)
        if (a->key[k].n == n && memcmp(a->key[k].p, p, n) == 0) {
            *out = a->value[k];
            return true;
        }
    return jinja_fail(j, SNUG_ERR_FORMAT, "format: no argument '%.*s'", (int)(n < 60 ? n : 60), p);
}

/* name.attribute[key] ... */
static bool field_value(jinja *j, const char *p, const char *end, const jargs *a, int64_t *next, jvalue *out) {
    const char *q = p;
    while (q < end && *q != '.' && *q != '[') q++;
    if (!find_argument(j, p, (size_t)(q - p), a, next, out)) return false;
    while (q < end) {
        const jvalue of = *out;
        const char *from = q + 1;
        const bool item = *q == '[';
        for (q = from; q < end && (item ? *q != ']' : *q != '.' && *q != '['); q++) {}
        if (q == from || (item && q == end)) return jinja_fail(j, SNUG_ERR_FORMAT, "format: an empty attribute in a field");
        jvalue key = jv_string(from, (size_t)(q - from));
        if (item && key.v.s.n < 10 && strspn(from, "0123456789") >= key.v.s.n) key = jv_int(strtol(from, NULL, 10));
        if (!jinja_item(j, of, key, out)) return false;
        if (item) q++;
    }
    return true;
}

/* Between the braces: name[!conversion][:specification] */
static bool put_field(jinja *j, buf *out, const char *p, const char *end, const jargs *a, int64_t *next) {
    const char *colon = memchr(p, ':', (size_t)(end - p)), *name_end = colon ? colon : end, *mark = memchr(p, '!', (size_t)(name_end - p));
    jvalue v;
    if (mark) name_end = mark;
    if (mark && (mark + 2 != (colon ? colon : end) || (mark[1] != 's' && mark[1] != 'r')))
        return jinja_fail(j, SNUG_ERR_FORMAT, "format: a conversion that is neither !s nor !r");
    if (!field_value(j, p, name_end, a, next, &v) || !jinja_step(j)) return false;
    if (mark) {
        buf text = {0};
        if (!(mark[1] == 'r' ? jv_append_repr(j, &text, v) : jv_append(j, &text, v))) {
            buf_fini(&text);
            return false;
        }
        if (!jinja_keep(j, &text, &v)) return false;
    }
    return format_value(j, out, v, colon ? colon + 1 : end, end);
}

static bool format_into(jinja *j, buf *out, jvalue s, const jargs *a) {
    const char *p = s.v.s.p, *end = p + s.v.s.n;
    int64_t next = 0; /* fields without a number so far; -1: they have numbers */
    while (p < end) {
        const char *q = p;
        while (q < end && *q != '{' && *q != '}') q++;
        if (!jinja_put(j, out, p, (size_t)(q - p))) return false;
        if (q == end) return true;
        if (q + 1 < end && q[1] == *q) { /* doubled: the brace itself */
            if (!jinja_put(j, out, q, 1)) return false;
            p = q + 2;
            continue;
        }
        const char *close = *q == '{' ? memchr(q, '}', (size_t)(end - q)) : NULL;
        if (!close) return jinja_fail(j, SNUG_ERR_FORMAT, "format: a single brace");
        if (memchr(q + 1, '{', (size_t)(close - q - 1))) return jinja_fail(j, SNUG_ERR_UNSUPPORTED, "format: fields within fields are not supported");
        if (!put_field(j, out, q + 1, close, a, &next)) return false;
        p = close + 1;
    }
    return true;
}

bool jinja_format(jinja *j, jvalue s, const jargs *a, jvalue *out) {
    buf text = {0};
    if (format_into(j, &text, s, a)) return jinja_keep(j, &text, out);
    buf_fini(&text);
    return false;
}

/* ---- % ---- */

typedef struct percent {
    jvalue with;
    size_t used;
} percent;

/* The next value: an element of a tuple, or the one value there is. */
static bool next_value(jinja *j, percent *c, jvalue *out) {
    const bool tuple = c->with.kind == J_LIST && c->with.v.list->form == FORM_TUPLE;
    if (c->used >= (tuple ? c->with.v.list->n : 1)) return jinja_fail(j, SNUG_ERR_FORMAT, "format: more fields than values");
    *out = tuple ? c->with.v.list->item[c->used] : c->with;
    c->used++;
    return true;
}

static bool keyed_value(jinja *j, percent *c, const char **p, const char *end, jvalue *out) {
    const char *close = memchr(*p, ')', (size_t)(end - *p));
    if (!close || c->with.kind != J_DICT) return jinja_fail(j, SNUG_ERR_FORMAT, "format: %%(name) needs a dictionary");
    const jvalue *v = jv_dict_get(j, c->with.v.dict, jv_string(*p, (size_t)(close - *p)));
    if (!v) return jinja_fail(j, SNUG_ERR_FORMAT, "format: no value '%.*s'", (int)(close - *p < 60 ? close - *p : 60), *p);
    *out = *v;
    *p = close + 1;
    c->used = 1;
    return true;
}

/* A width or a precision: digits, or '*' for the next value. */
static bool percent_size(jinja *j, percent *c, const char **p, const char *end, int64_t *size) {
    jvalue v;
    if (*p < end && **p == '*') {
        ++*p;
        if (!next_value(j, c, &v)) return false;
        if (v.kind != J_INT || v.v.i < 0 || v.v.i > JINJA_MAX_OUTPUT) return bad(j, "*", v);
        *size = v.v.i;
    }
    for (; *p < end && **p >= '0' && **p <= '9' && *size < JINJA_MAX_OUTPUT; ++*p) *size = 10 * *size + **p - '0';
    return true;
}

static bool percent_value(jinja *j, buf *out, jvalue v, field *f) {
    if (f->type == 's' || f->type == 'r') {
        buf text = {0};
        jvalue s;
        bool ok = f->type == 's' ? jv_append(j, &text, v) : jv_append_repr(j, &text, v);
        if (!ok) buf_fini(&text);
        strcpy(f->fill, " "); /* a 0 pads numbers alone */
        return ok && jinja_keep(j, &text, &s) && ((f->align = f->align == '<' ? '<' : '>'), put_text_field(j, out, s, f));
    }
    if (f->type == 'c' && v.kind == J_STRING && characters(v.v.s.p, v.v.s.n) == 1) return put_text_field(j, out, v, f);
    if (v.kind != J_BOOL && v.kind != J_INT && v.kind != J_FLOAT) return bad(j, "a number's format", v);
    if (!strchr("diuxXoceEfFgG", f->type)) return jinja_fail(j, SNUG_ERR_FORMAT, "format: the unknown type '%c'", f->type);
    if (strchr("diu", f->type)) {
        if (v.kind == J_FLOAT) {
            if (!(v.v.f > -9.2e18 && v.v.f < 9.2e18)) return bad(j, "a whole number's format", v);
            v = jv_int((int64_t)v.v.f);
        }
        f->type = 'd';
        if (f->precision >= 0) return jinja_fail(j, SNUG_ERR_UNSUPPORTED, "format: %%d with a precision is not supported");
    }
    return put_number(j, out, v, f);
}

static bool percent_field(jinja *j, buf *out, const char **p, const char *end, percent *c) {
    field f = {.fill = " ", .precision = -1};
    jvalue v = jv_none();
    bool keyed = *p < end && **p == '(';
    if (keyed && (++*p, !keyed_value(j, c, p, end, &v))) return false;
    for (bool zero = false; *p < end && strchr("-+ #0", **p); ++*p) {
        if (**p == '-') f.align = '<', strcpy(f.fill, " ");
        else if (**p == '#') f.alternate = true;
        else if (**p == '0') zero = true;
        else if (f.sign != '+') f.sign = **p;
        if (zero && f.align != '<') f.align = '=', strcpy(f.fill, "0");
    }
    if (!percent_size(j, c, p, end, &f.width)) return false;
    if (*p < end && **p == '.') {
        ++*p;
        f.precision = 0;
        if (!percent_size(j, c, p, end, &f.precision)) return false;
    }
    if (*p == end) return jinja_fail(j, SNUG_ERR_FORMAT, "format: a field without a type");
    f.type = *(*p)++;
    if (f.type == '%') return jinja_put(j, out, "%", 1);
    return jinja_step(j) && (keyed || next_value(j, c, &v)) && percent_value(j, out, v, &f);
}

static bool percent_into(jinja *j, buf *out, jvalue s, percent *c) {
    const char *p = s.v.s.p, *end = p + s.v.s.n;
    while (p < end) {
        const char *q = memchr(p, '%', (size_t)(end - p));
        if (!jinja_put(j, out, p, (size_t)((q ? q : end) - p))) return false;
        if (!q) break;
        p = q + 1;
        if (!percent_field(j, out, &p, end, c)) return false;
    }
    const bool tuple = c->with.kind == J_LIST && c->with.v.list->form == FORM_TUPLE;
    const bool indexed = c->with.kind == J_DICT || c->with.kind == J_UNDEFINED || (c->with.kind == J_LIST && c->with.v.list->form <= FORM_RANGE);
    if (tuple ? c->used < c->with.v.list->n : c->used == 0 && !indexed) /* what has elements may go unused */
        return jinja_fail(j, SNUG_ERR_FORMAT, "format: more values than fields");
    return true;
}

bool jinja_percent(jinja *j, jvalue s, jvalue with, jvalue *out) {
    buf text = {0};
    percent c = {.with = with};
    if (percent_into(j, &text, s, &c)) return jinja_keep(j, &text, out);
    buf_fini(&text);
    return false;
}
