/* As much of cmocka's interface as tests/kern uses, for a build without libraries: a failed assertion ends the program. */
#ifndef TESTS_NEON_CMOCKA_H
#define TESTS_NEON_CMOCKA_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

#define cmocka_unit_test(f) {#f, f}
#define cmocka_run_group_tests_name(name, tests, setup, teardown) run_tests(name, tests, sizeof(tests) / sizeof *(tests))
#define fail_msg(...) (fprintf(stderr, __VA_ARGS__), fail_at(__FILE__, __LINE__))
#define assert_true(c) ((c) ? (void)0 : fail_msg("not true: %s", #c))
#define assert_null(p) assert_true((p) == NULL)
#define assert_non_null(p) assert_true((p) != NULL)
#define assert_int_equal(a, b) assert_true((intmax_t)(a) == (intmax_t)(b))
#define assert_memory_equal(a, b, n) assert_true(memcmp(a, b, n) == 0)

static inline void fail_at(const char *file, int line) {
    fprintf(stderr, "\n%s:%d: failed\n", file, line);
    exit(1);
}

static inline int run_tests(const char *name, const struct CMUnitTest *tests, size_t n) {
    for (size_t i = 0; i < n; i++) {
        printf("%s: %s\n", name, tests[i].name);
        fflush(stdout);
        tests[i].run(NULL);
    }
    return 0;
}
#endif
