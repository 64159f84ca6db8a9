/* Values as text: str(), repr() and json.dumps() as Python writes them. */
#include "token/jinja_impl.h"
#include "token/utf8.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

bool jinja_put(jinja *j, buf *out, const char *p, size_t n) {
    if (out->len + n > JINJA_MAX_OUTPUT)
        return jinja_fail(j, SNUG_ERR_FORMAT, "the text is longer than %d MiB", JINJA_MAX_OUTPUT >> 20);
    if (n == 0 || buf_append(out, p, n)) return true;
    return jinja_fail(j, SNUG_ERR_NOMEM, "no memory for %zu bytes", n);
}

static bool put(jinja *j, buf *out, const char *s) {
    return jinja_put(j, out, s, strlen(s));
}

bool jinja_keep(jinja *j, buf *b, jvalue *out) {
    char *p = jinja_alloc(j, b->len + 1, 1);
    if (p && b->len) memcpy(p, b->data, b->len);
    *out = jv_string(p ? p : "", b->len);
    buf_fini(b);
    return p != NULL;
}

/* The shortest digits that read back as the same number; exponents below -4 and from 16 on in scientific form. */
static void format_float(double f, char *out, size_t cap) {
    if (isnan(f) || isinf(f)) {
        snprintf(out, cap, "%s", isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    char digits[40];
    int precision = 0;
    do snprintf(digits, sizeof digits, "%.*e", precision, f);
    while (strtod(digits, NULL) != f && ++precision < 17);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent < -4 || exponent >= 16) {
        *strchr(digits, 'e') = 0;
        snprintf(out, cap, "%se%c%02d", digits, exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    int decimals = precision - exponent;
    snprintf(out, cap, "%.*f", decimals > 1 ? decimals : 1, f);
}

static bool put_number(jinja *j, buf *out, jvalue v) {
    char text[400];
    if (v.kind == J_INT)
        snprintf(text, sizeof text, "%lld", (long long)v.v.i);
    else
        format_float(v.v.f, text, sizeof text);
    return put(j, out, text);
}

/* Python's repr keeps what str.isprintable() calls printable: no control, format, surrogate, unassigned or separator
 * but space. */
static bool printable(uint32_t c) {
    if (c < 0x7F) return c >= 0x20;
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

/* 'a' unless it has a single quote and no double one. */
static bool put_quoted(jinja *j, buf *out, const char *p, size_t n) {
    char quote = memchr(p, '\'', n) && !memchr(p, '"', n) ? '"' : '\'', text[16];
    if (!jinja_put(j, out, &quote, 1)) return false;
    for (size_t i = 0; i < n;) {
        size_t k = utf8_length((uint8_t)p[i]);
        uint32_t c = utf8_decode((const uint8_t *)p + i);
        const char *known = c < 0x80 && c ? strchr("\\\n\r\t", (int)c) : NULL;
        bool ok;
        if (known || c == (uint32_t)quote) {
            snprintf(text, sizeof text, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : c == '\t' ? 't' : (int)c);
            ok = put(j, out, text);
        } else if (printable(c)) {
            ok = jinja_put(j, out, p + i, k);
        } else {
            snprintf(text, sizeof text, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
            ok = put(j, out, text);
        }
        if (!ok) return false;
        i += k;
    }
    return jinja_put(j, out, &quote, 1);
}

static bool put_items(jinja *j, buf *out, const jlist *l, const char *open, const char *close) {
    bool ok = put(j, out, open);
    for (size_t i = 0; i < l->n && ok; i++) ok = (i == 0 || put(j, out, ", ")) && jv_append_repr(j, out, l->item[i]);
    return ok && put(j, out, close);
}

static bool put_list(jinja *j, buf *out, const jlist *l) {
    if (l->form == FORM_LIST) return put_items(j, out, l, "[", "]");
    if (l->form == FORM_TUPLE) return put_items(j, out, l, "(", l->n == 1 ? ",)" : ")");
    if (l->form == FORM_VIEW) return put(j, out, l->text) && put_items(j, out, l, "([", "])");
    if (l->form == FORM_RANGE && l->text) return put(j, out, l->text);
    return jinja_fail(j, SNUG_ERR_UNSUPPORTED, "a %s cannot be printed: make a list of it (filter list)", l->form == FORM_RANGE ? "part of a range" : "generator");
}

static bool put_dict(jinja *j, buf *out, const jdict *d) {
    bool ok = put(j, out, "{");
    for (size_t i = 0; i < d->n && ok; i++)
        ok = (i == 0 || put(j, out, ", ")) && jv_append_repr(j, out, d->key[i]) && put(j, out, ": ") &&
             jv_append_repr(j, out, d->value[i]);
    return ok && put(j, out, "}");
}

bool jv_append_repr(jinja *j, buf *out, jvalue v) {
    bool ok;
    if (!jinja_enter(j)) return false;
    switch (v.kind) {
    case J_UNDEFINED:
        ok = put(j, out, "Undefined");
        break;
    case J_NONE:
        ok = put(j, out, "None");
        break;
    case J_BOOL:
        ok = put(j, out, v.v.b ? "True" : "False");
        break;
    case J_INT:
    case J_FLOAT:
        ok = put_number(j, out, v);
        break;
    case J_STRING:
        ok = (!v.safe || put(j, out, "Markup(")) && put_quoted(j, out, v.v.s.p, v.v.s.n) && (!v.safe || put(j, out, ")"));
        break;
    case J_LIST:
        ok = put_list(j, out, v.v.list);
        break;
    case J_DICT:
        ok = put_dict(j, out, v.v.dict);
        break;
    default:
        ok = jinja_fail(j, SNUG_ERR_UNSUPPORTED, "a %s cannot be printed", jv_type_name(v));
    }
    j->depth--;
    return ok;
}

bool jv_append(jinja *j, buf *out, jvalue v) {
    if (v.kind == J_UNDEFINED) return true;
    if (v.kind == J_STRING) return jinja_put(j, out, v.v.s.p, v.v.s.n);
    return jv_append_repr(j, out, v);
}

bool jv_text(jinja *j, jvalue v, jvalue *out) {
    buf b = {0};
    if (v.kind == J_STRING) {
        *out = v;
        return true;
    }
    if (jv_append(j, &b, v)) return jinja_keep(j, &b, out);
    buf_fini(&b);
    return false;
}

/* ---- JSON ---- */

/* One character that JSON does not take as it is; in ASCII, those beyond U+FFFF are two surrogates. */
static bool put_escaped(jinja *j, buf *out, uint32_t c) {
    static const char raw[] = "\"\\\n\r\t\b\f", form[] = "\"\\nrtbf";
    const char *known = c && c < 0x80 ? strchr(raw, (int)c) : NULL;
    char text[16];
    if (known)
        snprintf(text, sizeof text, "\\%c", form[known - raw]);
    else if (c < 0x10000)
        snprintf(text, sizeof text, "\\u%04x", c);
    else
        snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10), 0xDC00 + ((c - 0x10000) & 0x3FF));
    return put(j, out, text);
}

static bool json_string_out(jinja *j, buf *out, const char *p, size_t n, bool ascii) {
    bool ok = put(j, out, "\"");
    size_t from = 0;
    for (size_t i = 0; i < n && ok;) {
        const uint8_t c = (uint8_t)p[i];
        const size_t k = utf8_length(c);
        if (c < 0x20 || c == '"' || c == '\\' || (ascii && c >= 0x80)) {
            ok = jinja_put(j, out, p + from, i - from) && put_escaped(j, out, utf8_decode((const uint8_t *)p + i));
            from = i + k;
        }
        i += k;
    }
    return ok && jinja_put(j, out, p + from, n - from) && put(j, out, "\"");
}

static bool new_line(jinja *j, buf *out, const jdump *d, int level) {
    if (d->indent < 0) return true;
    bool ok = put(j, out, "\n");
    for (int i = 0; i < level * d->indent && ok; i++) ok = put(j, out, " ");
    return ok;
}

static bool dump_value(jinja *j, buf *out, jvalue v, const jdump *d, int level);

static bool separator(jinja *j, buf *out, const jdump *d, size_t i, int level) {
    return (i == 0 || put(j, out, d->item_sep)) && new_line(j, out, d, level);
}

static bool dump_list(jinja *j, buf *out, const jlist *l, const jdump *d, int level) {
    bool ok = put(j, out, "[");
    for (size_t i = 0; i < l->n && ok; i++)
        ok = separator(j, out, d, i, level + 1) && dump_value(j, out, l->item[i], d, level + 1);
    return ok && (l->n == 0 || new_line(j, out, d, level)) && put(j, out, "]");
}

static bool dump_key(jinja *j, buf *out, jvalue key, bool ascii) {
    buf text = {0};
    if (key.kind == J_STRING) return json_string_out(j, out, key.v.s.p, key.v.s.n, ascii);
    bool ok = key.kind == J_BOOL   ? put(j, &text, key.v.b ? "true" : "false")
              : key.kind == J_NONE ? put(j, &text, "null")
                                   : jv_append(j, &text, key);
    if (ok && key.kind == J_LIST) ok = jinja_fail(j, SNUG_ERR_FORMAT, "tojson: a %s as a key", jv_type_name(key));
    ok = ok && json_string_out(j, out, (const char *)text.data, text.len, ascii);
    buf_fini(&text);
    return ok;
}

static bool dump_dict(jinja *j, buf *out, const jdict *dict, const jdump *d, int level) {
    size_t *order = jinja_alloc(j, dict->n + 1, sizeof *order);
    bool ok = order && put(j, out, "{");
    for (size_t i = 0; ok && i < dict->n; i++) { /* insertion sort: objects are small */
        size_t k = i;
        bool comparable = true;
        while (d->sort_keys && k > 0 && jv_compare(j, dict->key[order[k - 1]], dict->key[i], &comparable) > 0) {
            order[k] = order[k - 1];
            k--;
        }
        order[k] = i;
        ok = jinja_step(j);
    }
    for (size_t i = 0; i < dict->n && ok; i++)
        ok = separator(j, out, d, i, level + 1) && dump_key(j, out, dict->key[order[i]], d->ascii) && put(j, out, d->key_sep) &&
             dump_value(j, out, dict->value[order[i]], d, level + 1);
    return ok && (dict->n == 0 || new_line(j, out, d, level)) && put(j, out, "}");
}

static bool dump_float(jinja *j, buf *out, double f) {
    if (isnan(f)) return put(j, out, "NaN");
    if (isinf(f)) return put(j, out, f > 0 ? "Infinity" : "-Infinity");
    return put_number(j, out, jv_float(f));
}

static bool dump_value(jinja *j, buf *out, jvalue v, const jdump *d, int level) {
    bool ok;
    if (!jinja_enter(j) || !jinja_step(j)) return false;
    switch (v.kind) {
    case J_NONE:
        ok = put(j, out, "null");
        break;
    case J_BOOL:
        ok = put(j, out, v.v.b ? "true" : "false");
        break;
    case J_INT:
        ok = put_number(j, out, v);
        break;
    case J_FLOAT:
        ok = dump_float(j, out, v.v.f);
        break;
    case J_STRING:
        ok = json_string_out(j, out, v.v.s.p, v.v.s.n, d->ascii);
        break;
    case J_LIST:
        if (v.v.list->form > FORM_TUPLE) {
            ok = jinja_fail(j, SNUG_ERR_FORMAT, "tojson: a %s is not a JSON value", jv_type_name(v));
            break;
        }
        ok = dump_list(j, out, v.v.list, d, level);
        break;
    case J_DICT:
        ok = dump_dict(j, out, v.v.dict, d, level);
        break;
    default:
        ok = jinja_fail(j, SNUG_ERR_FORMAT, "tojson: %s is not a JSON value",
                        v.kind == J_UNDEFINED ? "an undefined value" : jv_type_name(v));
    }
    j->depth--;
    return ok;
}

bool jv_append_json(jinja *j, buf *out, jvalue v, const jdump *how) {
    return dump_value(j, out, v, how, 0);
}
