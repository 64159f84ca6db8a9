/* The insides of the template interpreter: values, syntax tree, interpreter state. Everything that a render makes lives in one arena
 * and dies with it. Values are passed by value; nothing in a template can change a list or a dictionary, but iterators are used up. */
#ifndef TOKEN_JINJA_IMPL_H
#define TOKEN_JINJA_IMPL_H
#include "base/arena.h"
#include "base/buf.h"
#include "token/jinja.h"

enum {
    JINJA_MAX_TEMPLATE = 4 << 20, /* bytes                                     */
    JINJA_MAX_DEPTH = 300,        /* nesting of syntax, of calls and of values */
    JINJA_MAX_STEPS = 5000000,    /* nodes evaluated                           */
    JINJA_MAX_NAMES = 5000,       /* different ones                            */
    JINJA_MAX_OUTPUT = 16 << 20,  /* bytes of any one text                     */
    JINJA_MAX_MEMORY = 128 << 20,
};

/* ---- values ---- */
typedef enum jkind { J_UNDEFINED, J_NONE, J_BOOL, J_INT, J_FLOAT, J_STRING, J_LIST, J_DICT, J_NAMESPACE, J_MACRO, J_FUNCTION, J_LOOP, J_METHOD } jkind;

typedef struct jvalue {
    jkind kind;
    bool safe; /* STRING: marked by the filter safe or escape: what is joined to it is escaped */
    union {
        bool b;
        int64_t i;
        double f;
        struct { const char *p; size_t n; } s; /* STRING; UNDEFINED: the name looked for */
        struct jlist *list;
        struct jdict *dict;                    /* DICT, NAMESPACE */
        struct jmacro *macro;
        struct jloop *loop;
        int function;                          /* FUNCTION: see jinja_call.c */
    } v;
} jvalue;

/* A sequence, in the forms that Python tells apart: a range; a view of a dictionary's keys, values or pairs; an iterator, which filters such as map
 * give and which can be gone through once. */
typedef enum jform { FORM_LIST, FORM_TUPLE, FORM_RANGE, FORM_VIEW, FORM_ITERATOR } jform;
typedef struct jlist {
    jvalue *item;
    size_t n;
    jform form;
    const char *text; /* RANGE: as it prints, or NULL; VIEW: "dict_keys" ... */
} jlist;
typedef struct jdict { jvalue *key, *value; size_t n, cap; } jdict; /* in the order of insertion */
typedef struct jloop {
    size_t index, n; /* 0-based */
    const jvalue *item;
    jvalue changed;  /* last argument of loop.changed() */
    bool has_changed;
} jloop;

/* ---- syntax ---- */
typedef enum jnode_kind {
    /* expressions */
    N_CONST, N_NAME, N_LIST, N_TUPLE, N_DICT, N_BINARY, N_UNARY, N_AND, N_OR, N_NOT, N_COMPARE, N_CONDITION, N_ATTRIBUTE, N_ITEM, N_SLICE,
    N_CALL, N_FILTER, N_TEST,
    /* statements */
    N_BLOCK, N_TEXT, N_OUTPUT, N_IF, N_FOR, N_SET, N_SET_BLOCK, N_MACRO, N_CALL_BLOCK, N_FILTER_BLOCK, N_WITH, N_BREAK, N_CONTINUE
} jnode_kind;

typedef enum jop { OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_FLOORDIV, OP_MOD, OP_POW, OP_CONCAT, OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_IN, OP_NOT_IN } jop;

typedef struct jname { const char *p; uint32_t n; } jname; /* interned: equal names have equal p */

/* Names that a macro's body has of what its caller gives beyond its parameters. */
enum { TAKES_VARARGS = 1, TAKES_KWARGS = 2, TAKES_CALLER = 4 };

/* One shape for all nodes; what the fields mean stands beside each kind in the parser. */
typedef struct jnode {
    jnode_kind kind;
    uint32_t line;
    jop op;
    jname name;
    jvalue value;
    struct jnode *a, *b, *c;
    struct jnode **list; /* n_list: elements, positional arguments, statements */
    size_t n_list;
    jname *keys;         /* n_keys: keyword arguments, macro parameters, loop targets */
    struct jnode **values;
    size_t n_keys;
    jop *ops;            /* COMPARE: n_list of them */
    unsigned takes;      /* MACRO, CALL_BLOCK: which of TAKES_... its body names */
} jnode;

typedef enum jtoken_kind { T_TEXT, T_OUTPUT_BEGIN, T_OUTPUT_END, T_BLOCK_BEGIN, T_BLOCK_END, T_NAME, T_STRING, T_INT, T_FLOAT, T_OP, T_END } jtoken_kind;
typedef struct jtoken {
    jtoken_kind kind;
    uint32_t line;
    const char *p; /* TEXT, STRING (unescaped), NAME, OP: the text */
    size_t n;
    int64_t i;
    double f;
} jtoken;

/* ---- interpreter ---- */
typedef struct jscope {
    struct jscope *parent;
    jname *name;
    jvalue *value;
    size_t n, cap;
} jscope;

typedef struct jmacro {
    const jnode *node;
    jscope *scope; /* where it was defined */
} jmacro;

typedef struct jinja {
    arena mem;
    snug_error *err;
    snug_err failed;     /* SNUG_OK while all is well; set once */
    uint32_t line;       /* being worked on */
    jtoken *token;
    size_t n_tokens, at;
    jname *names;        /* the intern table */
    size_t n_names, cap_names;
    unsigned takes;      /* while parsing: what the macro that we are in names so far */
    int depth;
    uint64_t steps;
    buf *out;            /* where output goes now */
    jscope *scope;
} jinja;

/* Records the first failure ("chat template, line N: ..."). Always returns false, so that `return jinja_fail(...)` reads well. */
bool jinja_fail(jinja *j, snug_err code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Zeroed memory; NULL after jinja_fail. */
void *jinja_alloc(jinja *j, size_t n, size_t size);
jname jinja_intern(jinja *j, const char *p, size_t n);
bool jinja_name_is(jname name, const char *text);

bool jinja_lex(jinja *j, const char *source, size_t n);
jnode *jinja_parse(jinja *j);                    /* NULL after jinja_fail */
jnode *jinja_parse_expression(jinja *j);         /* with `if .. else` */
jnode *jinja_parse_no_condition(jinja *j);       /* without: the iterable of a for loop */
jnode *jinja_parse_tuple(jinja *j, bool conditions); /* a, b  or one expression */
bool jinja_parse_arguments(jinja *j, jnode *into); /* behind '(' up to and with ')' */
jnode *jinja_parse_filters(jinja *j, jnode *of, bool first_without_pipe);
/* Token helpers. */
const jtoken *jinja_peek(const jinja *j);
bool jinja_at_op(const jinja *j, const char *op);
bool jinja_take_op(jinja *j, const char *op);
bool jinja_expect_op(jinja *j, const char *op);
bool jinja_at_name(const jinja *j, const char *name);
bool jinja_take_name(jinja *j, const char *name);
jnode *jinja_node(jinja *j, jnode_kind kind);

/* ---- values: jinja_value.c, jinja_text.c ---- */
static inline jvalue jv_none(void) { return (jvalue){.kind = J_NONE}; }
static inline jvalue jv_bool(bool b) { return (jvalue){.kind = J_BOOL, .v.b = b}; }
static inline jvalue jv_int(int64_t i) { return (jvalue){.kind = J_INT, .v.i = i}; }
static inline jvalue jv_float(double f) { return (jvalue){.kind = J_FLOAT, .v.f = f}; }
static inline jvalue jv_string(const char *p, size_t n) { return (jvalue){.kind = J_STRING, .v.s = {p, n}}; }
static inline jvalue jv_marked(jvalue s, bool safe) { s.safe = safe; return s; }
/* What arithmetic takes; a truth value counts as 0 or 1. */
static inline bool jv_is_integral(jvalue v) { return v.kind == J_BOOL || v.kind == J_INT; }
static inline bool jv_is_number(jvalue v) { return jv_is_integral(v) || v.kind == J_FLOAT; }
static inline int64_t jv_integral(jvalue v) { return v.kind == J_BOOL ? v.v.b : v.v.i; }
static inline double jv_number(jvalue v) { return v.kind == J_FLOAT ? v.v.f : (double)jv_integral(v); }
static inline jvalue jv_undefined(const char *p, size_t n) { return (jvalue){.kind = J_UNDEFINED, .v.s = {p, n}}; }
jvalue jv_literal(const char *s);
bool jv_from_json(jinja *j, const json_t *from, jvalue *out);
const char *jv_type_name(jvalue v);
bool jv_true(jvalue v);
bool jv_equal(jinja *j, jvalue a, jvalue b);
/* < 0, 0, > 0; *ok false for types that do not compare. */
int jv_compare(jinja *j, jvalue a, jvalue b, bool *ok);
bool jv_list_new(jinja *j, size_t n, jvalue *out);          /* n undefined items, to be filled */
bool jv_dict_set(jinja *j, jdict *d, jvalue key, jvalue value);
const jvalue *jv_dict_get(jinja *j, const jdict *d, jvalue key); /* NULL: not there */
/* The items that iterating gives: list items, dictionary keys, characters. An iterator is empty afterwards. */
bool jv_items(jinja *j, jvalue v, jlist *out);
bool jv_length(jinja *j, jvalue v, size_t *out);
bool jv_append(jinja *j, buf *out, jvalue v);               /* as {{ v }} prints it */
bool jv_append_repr(jinja *j, buf *out, jvalue v);          /* as inside a printed list */
typedef struct jdump {
    int indent; /* < 0: on one line */
    bool sort_keys, ascii;
    const char *item_sep, *key_sep;
} jdump;
bool jv_append_json(jinja *j, buf *out, jvalue v, const jdump *how); /* as json.dumps */
bool jv_text(jinja *j, jvalue v, jvalue *out);              /* str(v) */
bool jinja_keep(jinja *j, buf *b, jvalue *out);             /* the buffer's text as a value; frees the buffer */
bool jinja_put(jinja *j, buf *out, const char *p, size_t n);

/* ---- evaluation ---- */
typedef struct jargs {
    jvalue *pos;
    size_t n_pos;
    const jname *key;
    jvalue *value;
    size_t n_keys;
} jargs;
/* Argument `i`, or the keyword `name`; NULL: not given. */
const jvalue *jinja_arg(const jargs *a, size_t i, const char *name);

bool jinja_eval(jinja *j, const jnode *n, jvalue *out);
bool jinja_eval_args(jinja *j, const jnode *n, jargs *out);
bool jinja_binary(jinja *j, jop op, jvalue a, jvalue b, jvalue *out);
bool jinja_compare(jinja *j, jop op, jvalue a, jvalue b, bool *out);
bool jinja_attribute(jinja *j, jvalue of, jname name, jvalue *out);
bool jinja_item(jinja *j, jvalue of, jvalue key, jvalue *out);
bool jinja_slice(jinja *j, jvalue of, jvalue from, jvalue to, jvalue step, jvalue *out);
bool jinja_contains(jinja *j, jvalue container, jvalue item, bool *out);
bool jinja_escape(jinja *j, jvalue s, jvalue *out); /* &, <, >, quotes as HTML has them; what is safe stays */
bool jinja_pairs(jinja *j, jvalue of, jform form, jvalue *out); /* (key, value) of a dictionary */
bool jinja_filter(jinja *j, jname name, jvalue of, const jargs *a, jvalue *out);
bool jinja_test(jinja *j, jname name, jvalue of, const jargs *a, bool *out);
/* The filters over text; *known false: not one of them. */
bool jinja_text_filter(jinja *j, jname name, jvalue of, const jargs *a, jvalue *out, bool *known);
typedef enum jcase { CASE_UPPER, CASE_LOWER, CASE_CAPITALIZE, CASE_TITLE, CASE_TITLE_FILTER, CASE_SWAP, CASE_FOLD } jcase;
bool jinja_change_case(jinja *j, jvalue s, jcase how, jvalue *out);
jvalue jinja_strip(jvalue s, const jvalue *set, bool left, bool right); /* set: characters; NULL: white space */
bool jinja_replace(jinja *j, jvalue s, jvalue from, jvalue to, int64_t most, jvalue *out); /* most < 0: all */
bool jinja_justify(jinja *j, jvalue s, jname method, const jargs *a, jvalue *out);
size_t jinja_line_end(const char *p, const char *end);
int64_t jinja_limit_arg(const jargs *a, size_t i, const char *name); /* -1: not given */
bool jinja_string_method(jinja *j, jvalue s, jname name, const jargs *a, jvalue *out);
bool jinja_has_string_method(jname name);
/* Python's formatting: "{}".format(...), "%s" % ..., and padding to a width in characters. */
bool jinja_format(jinja *j, jvalue s, const jargs *a, jvalue *out);
bool jinja_percent(jinja *j, jvalue s, jvalue with, jvalue *out);
bool jinja_pad(jinja *j, buf *out, const char *p, size_t n, char align, const char *fill, int64_t width);
bool jinja_method(jinja *j, jvalue self, jname name, const jargs *a, jvalue *out);
bool jinja_has_method(jvalue self, jname name);
bool jinja_call(jinja *j, jvalue f, const jargs *a, jvalue *out);
bool jinja_call_macro(jinja *j, const jmacro *m, const jargs *a, const jvalue *caller, jvalue *out);
bool jinja_find_function(jname name, jvalue *out);

typedef enum jflow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE, FLOW_FAIL } jflow;
jflow jinja_exec(jinja *j, const jnode *n);
jscope *jinja_push_scope(jinja *j, jscope *parent); /* a new scope; NULL after jinja_fail */
bool jinja_set(jinja *j, jscope *s, jname name, jvalue value);
bool jinja_step(jinja *j);                          /* counts; false when over the limit */
bool jinja_enter(jinja *j);                         /* one level deeper */
#endif
