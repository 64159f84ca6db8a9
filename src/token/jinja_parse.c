/* The statement parser. Unknown statements are refused by name. */
#include "token/jinja_impl.h"
#include <string.h>

static jnode *parse_until(jinja *j, const char *const *ends, size_t n_ends, size_t *which);

static bool push(jinja *j, jnode *to, jnode *item) {
    size_t n = to->n_list;
    if (!item) return false;
    if ((n & (n - 1)) == 0) { /* full at 0, 1, 2, 4 ... */
        jnode **grown = jinja_alloc(j, n ? 2 * n : 1, sizeof *grown);
        if (!grown) return false;
        if (n) memcpy(grown, to->list, n * sizeof *grown);
        to->list = grown;
    }
    to->list[to->n_list++] = item;
    return true;
}

static bool push_key(jinja *j, jnode *to, jname key, jnode *value) {
    size_t n = to->n_keys;
    if ((n & (n - 1)) == 0) {
        size_t cap = n ? 2 * n : 1;
        jname *keys = jinja_alloc(j, cap, sizeof *keys);
        jnode **values = jinja_alloc(j, cap, sizeof *values);
        if (!keys || !values) return false;
        if (n) memcpy(keys, to->keys, n * sizeof *keys), memcpy(values, to->values, n * sizeof *values);
        to->keys = keys;
        to->values = values;
    }
    to->keys[n] = key;
    to->values[n] = value;
    to->n_keys++;
    return true;
}

static jnode *fail(jinja *j, const char *what) {
    const jtoken *t = jinja_peek(j);
    j->line = t->line;
    jinja_fail(j, SNUG_ERR_FORMAT, "%s, found '%.*s'", what, (int)(t->n < 40 ? t->n : 40), t->p);
    return NULL;
}

static bool take_name_token(jinja *j, jname *out) {
    const jtoken *t = jinja_peek(j);
    if (t->kind != T_NAME) return fail(j, "a name is expected") != NULL;
    *out = jinja_intern(j, t->p, t->n);
    j->at++;
    return true;
}

static bool end_tag(jinja *j) {
    if (jinja_peek(j)->kind != T_BLOCK_END) return fail(j, "the end of the tag is expected") != NULL;
    j->at++;
    return true;
}

/* The body up to one tag, which is taken. */
static jnode *parse_body(jinja *j, const char *end) {
    size_t which;
    jnode *body = parse_until(j, &end, 1, &which);
    return body && end_tag(j) ? body : NULL;
}

static jnode *parse_if(jinja *j) {
    static const char *const ends[] = {"elif", "else", "endif"};
    jnode *n = jinja_node(j, N_IF); /* list: condition, body, condition, body ...; c: else */
    size_t which = 0;
    while (n && which == 0) {
        if (!push(j, n, jinja_parse_tuple(j, false)) || !end_tag(j) || !push(j, n, parse_until(j, ends, 3, &which)))
            return NULL;
    }
    if (n && which == 1) {
        if (!end_tag(j) || !(n->c = parse_until(j, ends + 2, 1, &which))) return NULL;
    }
    return n && end_tag(j) ? n : NULL;
}

/* a or a, b or (a, b) */
static bool parse_targets(jinja *j, jnode *into) {
    bool parenthesis = jinja_take_op(j, "(");
    do {
        jname name;
        if (into->n_keys && (jinja_at_name(j, "in") || jinja_at_op(j, ")") || jinja_at_op(j, "="))) break;
        if (!take_name_token(j, &name) || !push_key(j, into, name, NULL)) return false;
    } while (jinja_take_op(j, ","));
    return !parenthesis || jinja_expect_op(j, ")");
}

static jnode *parse_for(jinja *j) {
    static const char *const ends[] = {"else", "endfor"};
    jnode *n = jinja_node(j, N_FOR); /* keys: targets; a: what; list[0]: condition; b: body; c: else */
    size_t which;
    if (!n || !parse_targets(j, n)) return NULL;
    if (!jinja_take_name(j, "in")) return fail(j, "'in' is expected");
    if (!(n->a = jinja_parse_tuple(j, false))) return NULL;
    if (jinja_take_name(j, "if") && !push(j, n, jinja_parse_expression(j))) return NULL;
    if (jinja_at_name(j, "recursive")) {
        jinja_fail(j, SNUG_ERR_UNSUPPORTED, "recursive loops are not supported");
        return NULL;
    }
    if (!end_tag(j) || !(n->b = parse_until(j, ends, 2, &which))) return NULL;
    if (which == 0 && (!end_tag(j) || !(n->c = parse_until(j, ends + 1, 1, &which)))) return NULL;
    return end_tag(j) ? n : NULL;
}

/* The operand of a filter chain over a block's text: a name that no template can write. */
static jnode *block_text(jinja *j) {
    jnode *n = jinja_node(j, N_NAME);
    if (n) n->name = jinja_intern(j, " block", 6);
    return n;
}

/* set a = x; set a, b = x; set ns.a = x; set a %}...{% endset; set a | filter %}...{% endset */
static jnode *parse_set(jinja *j) {
    jnode *n =
        jinja_node(j, N_SET); /* keys: targets, name: attribute of keys[0] or empty; a: value or filters; b: block */
    if (!n || !parse_targets(j, n)) return NULL;
    if (jinja_take_op(j, ".") && !take_name_token(j, &n->name)) return NULL;
    if (jinja_take_op(j, "=")) {
        n->a = jinja_parse_tuple(j, true);
        return n->a && end_tag(j) ? n : NULL;
    }
    n->kind = N_SET_BLOCK;
    if (n->n_keys != 1) return fail(j, "'=' is expected");
    jnode *text = block_text(j);
    if (!text || !(n->a = jinja_parse_filters(j, text, false)) || !end_tag(j)) return NULL;
    n->b = parse_body(j, "endset");
    return n->b ? n : NULL;
}

/* Behind '(': a, b=1) */
static bool parse_parameters(jinja *j, jnode *into) {
    while (!jinja_take_op(j, ")")) {
        jname name;
        jnode *fallback = NULL;
        if (into->n_keys && !jinja_expect_op(j, ",")) return false;
        if (!take_name_token(j, &name)) return false;
        if (jinja_take_op(j, "=") && !(fallback = jinja_parse_expression(j))) return false;
        if (!push_key(j, into, name, fallback)) return false;
    }
    return true;
}

static bool macro_body(jinja *j, jnode *n, const char *end) {
    const unsigned outer = j->takes;
    j->takes = 0;
    n->b = parse_body(j, end);
    n->takes = j->takes;
    j->takes = outer;
    return n->b != NULL;
}

static jnode *parse_macro(jinja *j) {
    jnode *n = jinja_node(j, N_MACRO); /* name; keys, values: parameters and defaults; b: body; takes */
    if (!n || !take_name_token(j, &n->name) || !jinja_expect_op(j, "(") || !parse_parameters(j, n) || !end_tag(j))
        return NULL;
    return macro_body(j, n, "endmacro") ? n : NULL;
}

static jnode *parse_call_block(jinja *j) {
    jnode *n = jinja_node(j, N_CALL_BLOCK); /* a: the call; keys: parameters of caller(); b: body; takes */
    if (!n || (jinja_take_op(j, "(") && !parse_parameters(j, n))) return NULL;
    n->a = jinja_parse_expression(j);
    if (!n->a) return NULL;
    if (n->a->kind != N_CALL) return fail(j, "a call is expected");
    if (!end_tag(j)) return NULL;
    return macro_body(j, n, "endcall") ? n : NULL;
}

static jnode *parse_filter_block(jinja *j) {
    jnode *n = jinja_node(j, N_FILTER_BLOCK); /* a: filters over the block's text; b: block */
    jnode *text = block_text(j);
    if (!n || !text || !(n->a = jinja_parse_filters(j, text, true)) || !end_tag(j)) return NULL;
    n->b = parse_body(j, "endfilter");
    return n->b ? n : NULL;
}

static jnode *parse_with(jinja *j) {
    jnode *n = jinja_node(j, N_WITH); /* keys, values; b: body */
    while (n && jinja_peek(j)->kind != T_BLOCK_END) {
        jname name;
        jnode *value;
        if (n->n_keys && !jinja_expect_op(j, ",")) return NULL;
        if (!take_name_token(j, &name) || !jinja_expect_op(j, "=") || !(value = jinja_parse_expression(j)) ||
            !push_key(j, n, name, value))
            return NULL;
    }
    if (!n || !end_tag(j)) return NULL;
    n->b = parse_body(j, "endwith");
    return n->b ? n : NULL;
}

static jnode *parse_word(jinja *j, jnode_kind kind) {
    jnode *n = jinja_node(j, kind);
    return n && end_tag(j) ? n : NULL;
}

static jnode *parse_statement(jinja *j) {
    const jtoken *t = jinja_peek(j);
    j->line = t->line;
    if (jinja_take_name(j, "if")) return parse_if(j);
    if (jinja_take_name(j, "for")) return parse_for(j);
    if (jinja_take_name(j, "set")) return parse_set(j);
    if (jinja_take_name(j, "macro")) return parse_macro(j);
    if (jinja_take_name(j, "call")) return parse_call_block(j);
    if (jinja_take_name(j, "filter")) return parse_filter_block(j);
    if (jinja_take_name(j, "with")) return parse_with(j);
    if (jinja_take_name(j, "break")) return parse_word(j, N_BREAK);
    if (jinja_take_name(j, "continue")) return parse_word(j, N_CONTINUE);
    /* transformers marks the assistant's text with it; it changes no text */
    if (jinja_take_name(j, "generation")) return end_tag(j) ? parse_body(j, "endgeneration") : NULL;
    if (t->kind != T_NAME) return fail(j, "a statement is expected");
    jinja_fail(j, SNUG_ERR_UNSUPPORTED, "the statement '%.*s' is not supported or not expected here",
               (int)(t->n < 40 ? t->n : 40), t->p);
    return NULL;
}

static jnode *parse_text_or_output(jinja *j) {
    const jtoken *t = jinja_peek(j);
    jnode *n = jinja_node(j, t->kind == T_TEXT ? N_TEXT : N_OUTPUT);
    if (!n) return NULL;
    j->at++;
    if (t->kind == T_TEXT) {
        n->value = jv_string(t->p, t->n);
        return n;
    }
    n->a = jinja_parse_tuple(j, true);
    if (!n->a) return NULL;
    if (jinja_peek(j)->kind != T_OUTPUT_END) return fail(j, "'}}' is expected");
    j->at++;
    return n;
}

/* Statements up to a tag that begins with one of `ends` (its name is taken, its end is not), or to the end of the
 * template. */
static jnode *parse_until(jinja *j, const char *const *ends, size_t n_ends, size_t *which) {
    if (!jinja_enter(j)) return NULL;
    jnode *block = jinja_node(j, N_BLOCK);
    while (block) {
        const jtoken *t = jinja_peek(j);
        if (t->kind == T_END) {
            if (n_ends == 0) break;
            j->line = t->line;
            jinja_fail(j, SNUG_ERR_FORMAT, "the template ends where '%s' is expected", ends[n_ends - 1]);
            return NULL;
        }
        jnode *item;
        if (t->kind == T_BLOCK_BEGIN) {
            j->at++;
            for (size_t i = 0; i < n_ends; i++)
                if (jinja_take_name(j, ends[i])) {
                    *which = i;
                    j->depth--;
                    return block;
                }
            item = parse_statement(j);
        } else {
            item = parse_text_or_output(j);
        }
        if (!push(j, block, item)) return NULL;
    }
    j->depth--;
    return block;
}

jnode *jinja_parse(jinja *j) {
    size_t which;
    return parse_until(j, NULL, 0, &which);
}
