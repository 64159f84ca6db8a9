// rooms: base format token
/* Chat templates against Jinja2: tests/unit/data/jinja/cases.json (made by make.py there), and limits that Jinja2 does not have. */
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
    assert_int_equal(json_read_file(SNUG_SOURCE_DIR "/tests/unit/data/jinja/cases.json", 16 << 20, &root, NULL), SNUG_OK);
    const json_t *cases = json_object_get(root, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++, n++) {
        const json_t *c = json_array_get(cases, i), *text = json_object_get(c, "text"), *vars = json_object_get(c, "vars");
        const char *name = json_string_value(json_object_get(c, "name"));
        snug_error err = {0};
        char *out = NULL;
        if (json_is_string(vars)) vars = json_object_get(root, json_string_value(vars));
        snug_err e = jinja_render(json_string_value(json_object_get(c, "template")), vars, &out, &err);
        if (!text ? e == SNUG_OK : e != SNUG_OK || strcmp(out, json_string_value(text)) != 0) {
            wrong++;
            print_message("%s\n--- template\n%s\n--- jinja2\n%s\n--- snug\n%s\n", name, json_string_value(json_object_get(c, "template")),
                          json_string_value(text ? text : json_object_get(c, "error")), e ? err.message : out);
        }
        free(out);
    }
    json_decref(root);
    print_message("%zu of %zu differ\n", wrong, n);
    assert_int_equal(wrong, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_jinja2)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
