// rooms: base format token
/* The translation of patterns from Oniguruma to PCRE2, Oniguruma's way to iterate, and the characters newer than the
 * libraries. */
#include "token/pattern.h"
#include "token/pipeline.h"
#include "token/unicode_new.h"
#include "token/utf8.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include <cmocka.h>

/* The matches in text, each in brackets. */
static const char *matches(const char *source, const char *text) {
    static char out[256];
    pattern *p = NULL;
    pattern_matcher m = {0};
    pattern_iter it = {0};
    snug_error err = {0};
    size_t start, end, k = 0, done = 0;
    bool found;
    if (pattern_compile(source, strlen(source), &p, &err) != SNUG_OK) fail_msg("%s", err.message);
    while (assert_int_equal(pattern_next(p, &m, (const uint8_t *)text, strlen(text), &it, &found, &start, &end, NULL),
                            SNUG_OK),
           found) {
        memcpy(out + k, text + done, start - done);
        k += start - done;
        out[k++] = '[';
        memcpy(out + k, text + start, end - start);
        k += end - start;
        out[k++] = ']';
        done = end;
    }
    strcpy(out + k, text + done);
    pattern_matcher_fini(&m);
    pattern_free(&p);
    return out;
}

static void means_what_oniguruma_means(void **state) {
    (void)state;
    assert_string_equal(matches("\\s+", "a \t\xE1\xA0\x8E\xC2\x85 b"),
                        "a[ \t]\xE1\xA0\x8E[\xC2\x85 ]b"); /* U+180E is no space, U+0085 is */
    assert_string_equal(matches("\\h+", "xyz0Af g"), "xyz[0Af] g");
    assert_string_equal(matches("\\v", "a\nb\x0B"), "a\nb[\x0B]");
    assert_string_equal(matches("^a|b$", "a\nab\nb"), "[a]\n[a][b]\n[b]");
    assert_string_equal(matches("a{,2}b", "aaab"), "a[aab]");
    assert_string_equal(matches("\\u0041|\\x{42}", "ABC"), "[A][B]C");
    assert_string_equal(matches("x*", "axxb"), "[]a[xx]b[]");
    assert_string_equal(matches("(?=(\\d{3})+(?!\\d))", "1234567"), "1[]234[]567");
    assert_string_equal(matches("{", "a{b"), "a[{]b");
    assert_string_equal(matches("(?i)k", "k\xE2\x84\xAA"), "[k][\xE2\x84\xAA]"); /* the Kelvin sign folds to k */
    assert_string_equal(matches("\\p{Han}", "\xE4\xB8\xAD\xE3\x80\x82"),
                        "[\xE4\xB8\xAD]\xE3\x80\x82"); /* script, not script extensions */
    assert_string_equal(matches("\\w", "a\xC2\xB2_-"), "[a][\xC2\xB2][_]-");
    assert_string_equal(matches("[\\w]", "a\xC2\xB2_-"), "[a]\xC2\xB2[_]-");
    assert_string_equal(matches("\\b.", "ab cd"), "[a]b[ ][c]d");
}

static void refuses_what_it_cannot_say(void **state) {
    (void)state;
    static const char *const bad[] = {"[a[b]]",        "[a&&b]",  "[[:alpha:]]", "[^\\W]", "a{2}+", "a{2}?",
                                      "(?m:.)",        "(?<n>a)", "a(?i)b|c",    "\\K",    "\\R",   "\\X",
                                      "\\Qa",          "(*UTF)a", "a\\",         "[a",     "(a",    "a)",
                                      "\\p{Nonsense}", "\\u12",   "\\p{L"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pattern *p = NULL;
        snug_error err = {0};
        if (pattern_compile(bad[i], strlen(bad[i]), &p, &err) != SNUG_ERR_UNSUPPORTED)
            fail_msg("'%s' was taken", bad[i]);
        assert_null(p);
        assert_true(err.message[0] != 0);
    }
}

static void the_byte_alphabet_is_one_to_one(void **state) {
    (void)state;
    bool taken[0x144] = {false};
    for (int b = 0; b < 256; b++) {
        uint32_t c = byte_alphabet_char((uint8_t)b);
        assert_true(c < 0x144 && !taken[c]);
        taken[c] = true;
        assert_int_equal(byte_alphabet_byte(c), b);
    }
    assert_int_equal(byte_alphabet_char(' '), 0x120);
    assert_int_equal(byte_alphabet_char('\n'), 0x10A);
    for (uint32_t c = 0; c < 0x400; c++) assert_int_equal(byte_alphabet_byte(c) >= 0, c < 0x144 && taken[c]);
}

/* A stand-in has the length of what it stands for, is itself none, and is known to the library. */
static void stand_ins(void **state) {
    (void)state;
    size_t n = 0;
    for (uint32_t c = 0; c < 0x110000; c++) {
        uint8_t a[4], b[4];
        uint32_t by = unicode_stand_in(c);
        if (by == c) continue;
        n++;
        assert_int_equal(utf8_encode(c, a), utf8_encode(by, b));
        assert_int_equal(unicode_stand_in(by), by);
        assert_int_not_equal(utf8proc_category((utf8proc_int32_t)by), UTF8PROC_CATEGORY_CN);
    }
    assert_int_equal(n, 10302);
    buf scratch = {0};
    const uint8_t *out;
    static const uint8_t text[] = "abcdefgh\xEA\x9F\x8Bxyz";
    assert_true(unicode_shadow(text, sizeof text - 1, &scratch, &out));
    assert_memory_equal(out, "abcdefgh\xEA\x9F\xB5xyz", sizeof text - 1);
    assert_true(unicode_shadow(text, 8, &scratch, &out) && out == text);
    buf_fini(&scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(means_what_oniguruma_means),
                                       cmocka_unit_test(refuses_what_it_cannot_say),
                                       cmocka_unit_test(the_byte_alphabet_is_one_to_one), cmocka_unit_test(stand_ins)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
