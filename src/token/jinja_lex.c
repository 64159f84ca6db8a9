/* The lexer: template text between tags, and tokens inside them. White space as transformers sets it up: trim_blocks (a
 * line end right after a block or comment tag goes) and lstrip_blocks (blanks between the line's start and such a tag
 * go); '-' inside a tag's bracket strips all white space on that side, '+' switches the two rules off there. One line
 * end at the template's end goes. */
#include "base/err.h"
#include "token/jinja_impl.h"
#include "token/utf8.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct lexer {
    jinja *j;
    char *s; /* the template, line ends normalized */
    size_t n, at, cap;
    uint32_t line;
    bool line_starting; /* what was read last ended a line */
} lexer;

static bool space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void advance(lexer *x, size_t to) {
    for (; x->at < to; x->at++) x->line += x->s[x->at] == '\n';
}

static jtoken *add(lexer *x, jtoken_kind kind, const char *p, size_t n) {
    jinja *j = x->j;
    if (j->n_tokens == x->cap) {
        size_t cap = x->cap ? 2 * x->cap : 256;
        jtoken *t = jinja_alloc(j, cap, sizeof *t);
        if (!t) return NULL;
        if (j->n_tokens) memcpy(t, j->token, j->n_tokens * sizeof *t);
        j->token = t;
        x->cap = cap;
    }
    jtoken *t = &j->token[j->n_tokens++];
    *t = (jtoken){.kind = kind, .line = x->line, .p = p, .n = n};
    return t;
}

static bool fail(lexer *x, const char *what) {
    x->j->line = x->line;
    return jinja_fail(x->j, SNUG_ERR_FORMAT, "%s", what);
}

/* ---- between tags ---- */

/* The text before a tag that opens with `sign`; `is_output`: {{, which lstrip_blocks leaves alone. */
static bool add_text(lexer *x, size_t from, size_t to, char sign, bool is_output) {
    size_t end = to;
    if (sign == '-') {
        while (end > from && space(x->s[end - 1])) end--;
    } else if (sign != '+' && !is_output) {
        size_t start = to;
        while (start > from && x->s[start - 1] != '\n') start--;
        if (start > from || x->line_starting) {
            size_t k = start;
            while (k < to && space(x->s[k])) k++;
            if (k == to) end = start;
        }
    }
    return end == from || add(x, T_TEXT, x->s + from, end - from) != NULL;
}

/* Behind a tag's closing bracket: '-' eats all white space, a block's plain close one line end. */
static void close_tag(lexer *x, size_t to, char sign, bool is_block) {
    if (sign == '-')
        while (to < x->n && space(x->s[to])) to++;
    else if (sign != '+' && is_block && to < x->n && x->s[to] == '\n')
        to++;
    x->line_starting = to > 0 && x->s[to - 1] == '\n';
    advance(x, to);
}

static bool skip_comment(lexer *x) {
    char *end = x->at + 2 <= x->n ? memmem(x->s + x->at + 2, x->n - x->at - 2, "#}", 2) : NULL;
    if (!end) return fail(x, "a comment does not end");
    size_t at = (size_t)(end - x->s);
    char sign = at > x->at + 2 && (x->s[at - 1] == '-' || x->s[at - 1] == '+') ? x->s[at - 1] : 0;
    close_tag(x, at + 2, sign, true);
    return true;
}

static size_t skip_blanks(const lexer *x, size_t at) {
    while (at < x->n && space(x->s[at])) at++;
    return at;
}

/* A tag of one word, such as {%- endraw %}, at `at`: its end, 0 if it is something else. *open and *close are its
 * signs. */
static size_t word_tag(const lexer *x, size_t at, const char *word, char *open, char *close) {
    size_t n = strlen(word), k = at + 2;
    *open = *close = 0;
    if (at + 2 > x->n || memcmp(x->s + at, "{%", 2) != 0) return 0;
    if (k < x->n && (x->s[k] == '-' || x->s[k] == '+')) *open = x->s[k++];
    k = skip_blanks(x, k);
    if (k + n > x->n || memcmp(x->s + k, word, n) != 0) return 0;
    k = skip_blanks(x, k + n);
    if (k < x->n && (x->s[k] == '-' || x->s[k] == '+')) *close = x->s[k++];
    return k + 2 <= x->n && memcmp(x->s + k, "%}", 2) == 0 ? k + 2 : 0;
}

/* {% raw %} ... {% endraw %}: all between is text. */
static bool read_raw(lexer *x, size_t begin_end, char close) {
    close_tag(x, begin_end, close == '-' ? '-' : '+', true); /* a raw tag does not eat its line end */
    for (size_t k = x->at; k < x->n; k++) {
        char open, end_close;
        size_t end = x->s[k] == '{' ? word_tag(x, k, "endraw", &open, &end_close) : 0;
        if (!end) continue;
        if (!add_text(x, x->at, k, open, false)) return false;
        close_tag(x, end, end_close, true);
        return true;
    }
    return fail(x, "a raw block does not end");
}

/* ---- inside tags ---- */

static bool name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (unsigned char)c >= 0x80;
}

static int hex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Python's escapes, in place of the text from p: returns the bytes written to q, *used those read; an unknown escape
 * stays. */
static size_t unescape(const char *p, size_t left, char *q, size_t *used) {
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    char c = left > 1 ? p[1] : 0;
    const char *known = c ? strchr(from, c) : NULL;
    *used = 2;
    if (known) {
        *q = to[known - from];
        return 1;
    }
    if (c == '\n') return 0;
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    uint32_t code = 0;
    if (digits && left >= 2 + digits) {
        for (size_t i = 0; i < digits; i++) {
            int d = hex(p[2 + i]);
            if (d < 0)
                digits = 0;
            else
                code = code << 4 | (uint32_t)d;
        }
        if (digits && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF)) {
            *used = 2 + digits;
            return utf8_encode(code, (uint8_t *)q);
        }
    } else if (c >= '0' && c <= '7') {
        size_t k = 1;
        while (k < 4 && k < left && p[k] >= '0' && p[k] <= '7') code = code * 8 + (uint32_t)(p[k++] - '0');
        *used = k;
        return utf8_encode(code, (uint8_t *)q);
    }
    *used = 1;
    *q = '\\';
    return 1;
}

static bool read_string(lexer *x) {
    char quote = x->s[x->at], *q;
    size_t k = x->at + 1, n = 0;
    while (k < x->n && x->s[k] != quote) k += x->s[k] == '\\' ? 2 : 1;
    if (k >= x->n) return fail(x, "a string does not end");
    size_t bytes = k - x->at - 1;
    if (!(q = jinja_alloc(x->j, bytes + 1, 1))) return false;
    for (const char *p = x->s + x->at + 1; bytes > 0;) {
        size_t used = 1;
        if (*p == '\\')
            n += unescape(p, bytes, q + n, &used);
        else
            q[n++] = *p;
        p += used;
        bytes -= used;
    }
    if (!add(x, T_STRING, q, n)) return false;
    advance(x, k + 1);
    return true;
}

/* 12, 1_000, 0x1F, 1.5, 2e3. A number behind a '.' is never a float: x.0.1 */
static bool read_number(lexer *x) {
    char digits[64];
    size_t k = x->at, n = 0;
    bool is_float = false, after_dot = x->j->n_tokens && x->j->token[x->j->n_tokens - 1].kind == T_OP &&
                                       *x->j->token[x->j->n_tokens - 1].p == '.';
    for (; k < x->n && n + 1 < sizeof digits; k++) {
        char c = x->s[k];
        bool digit = c >= '0' && c <= '9', next_digit = k + 1 < x->n && x->s[k + 1] >= '0' && x->s[k + 1] <= '9';
        bool exponent = (c == 'e' || c == 'E') && n > 0 &&
                        (next_digit || (k + 2 < x->n && (x->s[k + 1] == '-' || x->s[k + 1] == '+') &&
                                        x->s[k + 2] >= '0' && x->s[k + 2] <= '9'));
        if (c == '_' && next_digit) continue;
        if (!digit && !(c == '.' && !after_dot && !is_float && next_digit) && !(exponent && !after_dot)) break;
        if (!digit) is_float = true;
        digits[n++] = c;
        if (exponent && !digit && (x->s[k + 1] == '-' || x->s[k + 1] == '+')) digits[n++] = x->s[++k];
    }
    digits[n] = 0;
    if (n + 1 >= sizeof digits) return fail(x, "a number of too many digits");
    jtoken *t = add(x, is_float ? T_FLOAT : T_INT, x->s + x->at, k - x->at);
    if (!t) return false;
    errno = 0;
    if (is_float)
        t->f = strtod(digits, NULL);
    else
        t->i = strtoll(digits, NULL, 10);
    if (errno == ERANGE && !is_float) return fail(x, "an integer beyond 64 bits");
    if (k < x->n && name_char(x->s[k])) return fail(x, "a number runs into a name");
    advance(x, k);
    return true;
}

static bool read_operator(lexer *x) {
    static const char *const two[] = {"**", "//", "==", "!=", "<=", ">="};
    for (size_t i = 0; i < 6; i++)
        if (x->at + 2 <= x->n && memcmp(x->s + x->at, two[i], 2) == 0) {
            if (!add(x, T_OP, x->s + x->at, 2)) return false;
            x->at += 2;
            return true;
        }
    if (!strchr("+-*/%~<>=.,:|()[]{};", x->s[x->at]) || !x->s[x->at])
        return fail(x, "an unexpected character in a tag");
    if (!add(x, T_OP, x->s + x->at, 1)) return false;
    x->at++;
    return true;
}

/* The tag's end at x->at: its length, 0 if it is not there. */
static size_t at_end(const lexer *x, const char *close, char *sign) {
    const char *p = x->s + x->at;
    size_t left = x->n - x->at;
    *sign = 0;
    if (left >= 2 && memcmp(p, close, 2) == 0) return 2;
    if (left < 3 || (*p != '-' && *p != '+') || memcmp(p + 1, close, 2) != 0 || (*p == '+' && *close == '}')) return 0;
    *sign = *p;
    return 3;
}

static bool read_tag(lexer *x, bool is_block) {
    const char *close = is_block ? "%}" : "}}";
    int depth = 0;
    for (;;) {
        advance(x, skip_blanks(x, x->at));
        if (x->at >= x->n) return fail(x, "a tag does not end");
        char c = x->s[x->at], sign;
        size_t end = depth == 0 ? at_end(x, close, &sign) : 0;
        if (end) {
            if (!add(x, is_block ? T_BLOCK_END : T_OUTPUT_END, close, 2)) return false;
            close_tag(x, x->at + end, sign, is_block);
            return true;
        }
        if (c == '"' || c == '\'') {
            if (!read_string(x)) return false;
        } else if (c >= '0' && c <= '9') {
            if (!read_number(x)) return false;
        } else if (name_char(c)) {
            size_t k = x->at;
            while (k < x->n && name_char(x->s[k])) k++;
            if (!add(x, T_NAME, x->s + x->at, k - x->at)) return false;
            x->at = k;
        } else {
            if (c == '(' || c == '[' || c == '{') depth++;
            if (c == ')' || c == ']' || c == '}') depth--;
            if (depth < 0) return fail(x, "a bracket closes that was not open");
            if (!read_operator(x)) return false;
        }
    }
}

/* ---- the whole ---- */

/* Copies the template: \r\n and \r become \n, one \n at the end goes. */
static bool normalize(lexer *x, const char *source, size_t n) {
    if (n > JINJA_MAX_TEMPLATE) return fail(x, "the template is longer than 4 MiB");
    if (utf8_valid_prefix((const uint8_t *)source, n) != n) return fail(x, "the template is not UTF-8");
    if (!(x->s = jinja_alloc(x->j, n + 1, 1))) return false;
    for (size_t i = 0; i < n; i++) {
        if (source[i] == '\r' && i + 1 < n && source[i + 1] == '\n') continue;
        x->s[x->n++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (x->n && x->s[x->n - 1] == '\n') x->n--;
    return true;
}

bool jinja_lex(jinja *j, const char *source, size_t n) {
    lexer x = {.j = j, .line = 1, .line_starting = true};
    if (!normalize(&x, source, n)) return false;
    while (x.at < x.n) {
        size_t tag = x.at;
        while (tag + 1 < x.n &&
               !(x.s[tag] == '{' && (x.s[tag + 1] == '{' || x.s[tag + 1] == '%' || x.s[tag + 1] == '#')))
            tag++;
        if (tag + 1 >= x.n) {
            if (!add(&x, T_TEXT, x.s + x.at, x.n - x.at)) return false;
            break;
        }
        char kind = x.s[tag + 1],
             sign = tag + 2 < x.n && (x.s[tag + 2] == '-' || x.s[tag + 2] == '+') ? x.s[tag + 2] : 0, open, close;
        if (!add_text(&x, x.at, tag, sign, kind == '{')) return false;
        advance(&x, tag);
        x.line_starting = false;
        size_t raw = kind == '%' ? word_tag(&x, tag, "raw", &open, &close) : 0;
        if (raw && close == '+') raw = 0; /* Jinja does not take it here */
        if (kind == '#') {
            if (!skip_comment(&x)) return false;
        } else if (raw) {
            if (!read_raw(&x, raw, close)) return false;
        } else {
            if (!add(&x, kind == '%' ? T_BLOCK_BEGIN : T_OUTPUT_BEGIN, x.s + tag, 2)) return false;
            advance(&x, tag + 2 + (sign != 0));
            if (!read_tag(&x, kind == '%')) return false;
        }
    }
    return add(&x, T_END, "", 0) != NULL;
}
