/* Renders a chat template: lex, parse, run. One arena, one output buffer, and limits on steps, depth, memory and text.
 */
#include "token/jinja.h"
#include "base/err.h"
#include "token/jinja_impl.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool jinja_fail(jinja *j, snug_err code, const char *fmt, ...) {
    char text[512];
    if (j->failed) return false;
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    j->failed = code;
    /* the template's own exception is for the user: its text stands alone */
    if (code == SNUG_ERR_ARG)
        err_set(j->err, code, "%s", text);
    else
        err_set(j->err, code, "chat template, line %u: %s", j->line, text);
    return false;
}

void *jinja_alloc(jinja *j, size_t n, size_t size) {
    void *p = j->mem.total_bytes < JINJA_MAX_MEMORY && n <= JINJA_MAX_MEMORY / size
                  ? arena_calloc(&j->mem, n ? n : 1, size)
                  : NULL;
    if (!p)
        jinja_fail(j, j->mem.total_bytes < JINJA_MAX_MEMORY ? SNUG_ERR_NOMEM : SNUG_ERR_FORMAT,
                   "the template needs more than %d MiB", JINJA_MAX_MEMORY >> 20);
    return p;
}

bool jinja_step(jinja *j) {
    return ++j->steps <= JINJA_MAX_STEPS || jinja_fail(j, SNUG_ERR_FORMAT, "more than %d steps", JINJA_MAX_STEPS);
}

bool jinja_enter(jinja *j) {
    return ++j->depth <= JINJA_MAX_DEPTH || jinja_fail(j, SNUG_ERR_FORMAT, "nested more than %d deep", JINJA_MAX_DEPTH);
}

bool jinja_name_is(jname name, const char *text) {
    return strlen(text) == name.n && memcmp(name.p, text, name.n) == 0;
}

/* A template has a few dozen names: a list will do. */
jname jinja_intern(jinja *j, const char *p, size_t n) {
    for (size_t i = 0; i < j->n_names; i++)
        if (j->names[i].n == n && memcmp(j->names[i].p, p, n) == 0) return j->names[i];
    if (j->n_names == JINJA_MAX_NAMES) {
        jinja_fail(j, SNUG_ERR_FORMAT, "more than %d different names", JINJA_MAX_NAMES);
        return (jname){0};
    }
    if (j->n_names == j->cap_names) {
        size_t cap = j->cap_names ? 2 * j->cap_names : 64;
        jname *names = jinja_alloc(j, cap, sizeof *names);
        if (!names) return (jname){0};
        if (j->n_names) memcpy(names, j->names, j->n_names * sizeof *names);
        j->names = names;
        j->cap_names = cap;
    }
    char *copy = jinja_alloc(j, n + 1, 1);
    if (!copy) return (jname){0};
    memcpy(copy, p, n);
    return j->names[j->n_names++] = (jname){copy, (uint32_t)n};
}

static bool run(jinja *j, const char *tmpl, const json_t *vars) {
    const char *key;
    json_t *item;
    if (!jinja_lex(j, tmpl, strlen(tmpl))) return false;
    jnode *root = jinja_parse(j);
    if (!root || !(j->scope = jinja_push_scope(j, NULL))) return false;
    j->depth = 0;
    json_object_foreach((json_t *)vars, key, item) {
        jvalue v;
        jname name = jinja_intern(j, key, strlen(key));
        if (!name.p || !jv_from_json(j, item, &v) || !jinja_set(j, j->scope, name, v)) return false;
    }
    jflow flow = jinja_exec(j, root);
    if (flow == FLOW_BREAK || flow == FLOW_CONTINUE)
        return jinja_fail(j, SNUG_ERR_FORMAT, "break or continue outside a loop");
    return flow == FLOW_NEXT;
}

snug_err jinja_render(const char *tmpl, const json_t *vars, char **out, snug_error *err) {
    buf text = {0};
    jinja j = {.err = err, .out = &text, .line = 1};
    *out = NULL;
    bool ok = run(&j, tmpl, vars) && jinja_put(&j, &text, "", 1);
    arena_fini(&j.mem);
    if (ok)
        *out = (char *)text.data;
    else
        buf_fini(&text);
    return j.failed;
}
