// rooms: base format token
/* Chat templates against Jinja2: tests/unit/data/jinja/cases.json (made by make.py there), and limits that Jinja2 does
 * not have. */
#include "token/jinja.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void agrees_with_jinja2(void **state) {
    (void)state;
    json_t *root = NULL;
    size_t wrong = 0, n = 0;
    assert_int_equal(json_read_file(SNUG_SOURCE_DIR "/tests/unit/data/jinja/cases.json", 16 << 20, &root, NULL),
                     SNUG_OK);
    const json_t *cases = json_object_get(root, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++, n++) {
        const json_t *c = json_array_get(cases, i), *text = json_object_get(c, "text"),
                     *vars = json_object_get(c, "vars");
        const char *name = json_string_value(json_object_get(c, "name"));
        snug_error err = {0};
        char *out = NULL;
        if (json_is_string(vars)) vars = json_object_get(root, json_string_value(vars));
        snug_err e = jinja_render(json_string_value(json_object_get(c, "template")), vars, &out, &err);
        if (!text ? e == SNUG_OK : e != SNUG_OK || strcmp(out, json_string_value(text)) != 0) {
            wrong++;
            print_message("%s\n--- template\n%s\n--- jinja2\n%s\n--- snug\n%s\n", name,
                          json_string_value(json_object_get(c, "template")),
                          json_string_value(text ? text : json_object_get(c, "error")), e ? err.message : out);
        }
        free(out);
    }
    json_decref(root);
    print_message("%zu of %zu differ\n", wrong, n);
    assert_int_equal(wrong, 0);
}

/* ---- limits and errors ---- */

static snug_err render(const char *template, snug_error *err) {
    json_t *vars = json_pack("{s:[{s:s, s:s}], s:i}", "messages", "role", "user", "content", "hi", "n", 3);
    char *out = NULL;
    memset(err, 0, sizeof *err);
    snug_err e = jinja_render(template, vars, &out, err);
    assert_true((e == SNUG_OK) == (out != NULL));
    free(out);
    json_decref(vars);
    return e;
}

static char *repeated(const char *head, const char *text, size_t times, const char *tail) {
    size_t n = strlen(text);
    char *s = malloc(strlen(head) + n * times + strlen(tail) + 1), *p = s;
    strcpy(p, head);
    p += strlen(head);
    for (size_t i = 0; i < times; i++, p += n) memcpy(p, text, n);
    strcpy(p, tail);
    return s;
}

static void errors_name_the_line(void **state) {
    (void)state;
    snug_error err;
    assert_int_equal(render("a\nb\n{{ missing.x }}", &err), SNUG_ERR_FORMAT);
    assert_string_equal(err.message, "chat template, line 3: 'missing' is undefined");
    assert_int_equal(render("\n{% frobnicate %}", &err), SNUG_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "line 2"));
    assert_non_null(strstr(err.message, "frobnicate"));
    assert_int_equal(render("{{ n | frob }}", &err), SNUG_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "frob"));
    assert_int_equal(render("{{ raise_exception('Only users here') }}", &err), SNUG_ERR_ARG);
    assert_string_equal(err.message, "Only users here");
    assert_int_equal(render("{{ raise_exception('é' * 300) }}", &err), SNUG_ERR_ARG);
    assert_int_equal(strlen(err.message), 510); /* cut between characters */
    assert_int_equal(render("{% include 'other' %}", &err), SNUG_ERR_UNSUPPORTED);
    assert_int_equal(render("{% import 'os' as os %}", &err), SNUG_ERR_UNSUPPORTED);
    assert_int_equal(render("{{ ''.__class__.__mro__ }}", &err), SNUG_ERR_FORMAT);
    assert_int_equal(render("\xFF", &err), SNUG_ERR_FORMAT);
    assert_int_equal(render("{% break %}", &err), SNUG_ERR_FORMAT);
    static const char *const no_names[] = {"{{ [1] | map(3) | list }}", "{{ [1] | map(n == 1) | list }}", "{{ [1] | select([1]) | list }}", "{{ [n] | map(missing) | list }}"};
    for (size_t i = 0; i < sizeof no_names / sizeof *no_names; i++) {
        assert_int_equal(render(no_names[i], &err), SNUG_ERR_FORMAT);
        assert_non_null(strstr(err.message, "name"));
    }
    assert_int_equal(render("{{ strftime_now('%Y') | int > 2000 }}", &err), SNUG_OK);
}

static void everything_is_bounded(void **state) {
    (void)state;
    snug_error err;
    static const char *const endless[] = {
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
        "{{ range(1000000000) | list }}",
        "{{ 'x' * 1000000000000 }}",
        "{% set ns = namespace(s='abcdefgh') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
        "{% for i in range(99999) %}{{ 'x' * 100000 }}{% endfor %}",
        "{{ '{:99999999}'.format(1) }}",
        "{{ '%99999999d' % 1 }}",
        "{{ '%*d' % (99999999, 1) }}",
        "{{ 'x'.center(99999999) }}",
        "{{ 'x' | indent(99999999, true) }}",
        "{% set ns = namespace(g=[1]) %}{% for i in range(99999) %}{% set ns.g = ns.g | map('string') %}{{ ns.g | first ~ ('x' * 100000) }}{% endfor %}",
        "{% set ns = namespace(s='a') %}{% for i in range(20) %}{% set ns.s = ns.s | replace('a', 'aaaaaaaaaa') %}{% "
        "endfor %}",
    };
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++)
        if (render(endless[i], &err) != SNUG_ERR_FORMAT) fail_msg("%s: %s", endless[i], err.message);
    static const struct {
        const char *head, *text, *tail;
    } deep[] = {{"{{ ", "(", "1"},       {"{{ ", "[", "1"},     {"{{ ", "not ", "1 }}"},
                {"{{ 1", " + 1", " }}"}, {"{{ ", "-", "1 }}"},  {"", "{% if n %}", ""},
                {"{{ ", "{1:", "1"},     {"{{ n", ".a", " }}"}, {"{{ n", " if n else 1", " }}"},
                {"{{ n", "|int", " }}"}};
    for (size_t i = 0; i < sizeof deep / sizeof *deep; i++) {
        char *s = repeated(deep[i].head, deep[i].text, 100000, deep[i].tail);
        assert_int_equal(render(s, &err), SNUG_ERR_FORMAT);
        free(s);
        if (strchr("([", deep[i].text[0])) continue;
        s = repeated(deep[i].head, deep[i].text, 40, deep[i].tail); /* what a template may need still works */
        if (deep[i].text[0] != '{' && deep[i].text[0] != '.') assert_int_equal(render(s, &err), SNUG_OK);
        free(s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_jinja2), cmocka_unit_test(errors_name_the_line),
                                       cmocka_unit_test(everything_is_bounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
