/* jansson with errors that name the file and the field.
 *
 * Checkpoints are written by Python's json module, which is laxer than JSON: integers of any size ("model_max_length":
 * 1000000000000000019884624838656 stands in many tokenizer_config.json) and the words Infinity and -Infinity. Both are mended
 * before parsing, in place and at the same length, so that byte offsets in messages stay right: an integer beyond int64 becomes
 * a real (its last four digits become "e+04"), Infinity becomes 1e308. Duplicate keys: the last one wins, as in Python. */
#include "base/json.h"

#include "base/err.h"
#include "base/io.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Handles the token at text[i] (outside strings); returns its length. With edit = NULL only reports through *found. */
static size_t mend_token(const char *text, size_t n, size_t i, char *edit, bool *found) {
    if (text[i] == 'I' && n - i >= 8 && memcmp(text + i, "Infinity", 8) == 0) {
        *found = true;
        if (edit) memcpy(edit + i, "1e308   ", 8);
        return 8;
    }
    if (text[i] != '-' && (text[i] < '0' || text[i] > '9')) return 1;
    size_t begin = i + (text[i] == '-'), end = begin;
    while (end < n && text[end] >= '0' && text[end] <= '9') end++;
    size_t digits = end - begin;
    if (end < n && (text[end] == '.' || text[end] == 'e' || text[end] == 'E')) { /* a real: skip fraction and exponent */
        while (end < n && text[end] && strchr("0123456789.eE+-", text[end])) end++;
        return end - i;
    }
    if (digits >= 19 && digits <= 300) { /* INT64_MAX has 19 digits; beyond 300 not even a double holds it */
        char copy[320];
        memcpy(copy, text + i, end - i);
        copy[end - i] = 0;
        errno = 0;
        (void)strtoll(copy, NULL, 10);
        if (errno == ERANGE) {
            *found = true;
            if (edit) memcpy(edit + end - 4, "e+04", 4);
        }
    }
    return end - i > 0 ? end - i : 1;
}

static bool mend(const char *text, size_t n, char *edit) {
    bool found = false, in_string = false;
    for (size_t i = 0; i < n;) {
        if (in_string) {
            if (text[i] == '\\') i++;
            else if (text[i] == '"') in_string = false;
            i++;
        } else if (text[i] == '"') {
            in_string = true;
            i++;
        } else {
            i += mend_token(text, n, i, edit, &found);
        }
    }
    return found;
}

static snug_err parse(const char *what, const char *text, size_t n, size_t flags, uint64_t base, json_t **out, snug_error *err) {
    json_error_t e;
    *out = json_loadb(text, n, flags, &e);
    if (*out) return SNUG_OK;
    if (json_error_code(&e) == json_error_out_of_memory) return err_nomem(err, n);
    return err_at(err, SNUG_ERR_FORMAT, base + (e.position > 0 ? (uint64_t)e.position : 0), "%s: not valid JSON: %s (line %d, column %d)",
                  what, e.text, e.line, e.column);
}

snug_err json_read_buffer(const char *what, const char *text, size_t n, json_t **out, snug_error *err) {
    *out = NULL;
    if (n == 0) text = ""; /* may be NULL then */
    size_t skip = n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; /* a byte order mark from some editors */
    text += skip;
    n -= skip;
    if (!mend(text, n, NULL)) return parse(what, text, n, JSON_ALLOW_NUL, skip, out, err);
    char *copy = malloc(n);
    if (!copy) return err_nomem(err, n);
    memcpy(copy, text, n);
    mend(text, n, copy);
    snug_err rc = parse(what, copy, n, JSON_ALLOW_NUL, skip, out, err);
    free(copy);
    return rc;
}

snug_err json_read_strict(const char *what, const char *text, size_t n, uint64_t base, json_t **out, snug_error *err) {
    return parse(what, text, n, JSON_REJECT_DUPLICATES, base, out, err);
}

snug_err json_read_file(const char *path, size_t max_bytes, json_t **out, snug_error *err) {
    char *text;
    size_t n;
    *out = NULL;
    snug_err rc = io_read_all(path, max_bytes, &text, &n, err);
    if (rc != SNUG_OK) return rc;
    rc = json_read_buffer(path, text, n, out, err);
    free(text);
    return rc;
}

static const char *kind(const json_t *v) {
    if (!v) return "nothing";
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a real number";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: return "null";
    }
    return "nothing";
}

static bool absent(const json_t *v) { return !v || json_is_null(v); }

static snug_err missing(snug_error *err, const char *where, const char *key, const char *expected) {
    return err_set(err, SNUG_ERR_FORMAT, "%s: field '%s' is missing, expected %s", where, key, expected);
}

static snug_err wrong(snug_error *err, const char *where, const char *key, const char *expected, const json_t *v) {
    if (json_is_integer(v)) return err_set(err, SNUG_ERR_FORMAT, "%s: field '%s': expected %s, found %lld", where, key, expected, (long long)json_integer_value(v));
    if (json_is_real(v)) return err_set(err, SNUG_ERR_FORMAT, "%s: field '%s': expected %s, found %g", where, key, expected, json_real_value(v));
    if (json_is_string(v)) return err_set(err, SNUG_ERR_FORMAT, "%s: field '%s': expected %s, found the string '%.60s'", where, key, expected, json_string_value(v));
    return err_set(err, SNUG_ERR_FORMAT, "%s: field '%s': expected %s, found %s", where, key, expected, kind(v));
}

snug_err json_get_u64(const json_t *obj, const char *where, const char *key, uint64_t *out, snug_error *err) {
    static const char expected[] = "a positive integer";
    const json_t *v = json_object_get(obj, key);
    if (absent(v)) return missing(err, where, key, expected);
    if (json_is_integer(v) && json_integer_value(v) >= 0) {
        *out = (uint64_t)json_integer_value(v);
        return SNUG_OK;
    }
    if (json_is_real(v)) { /* 4096.0 is an integer that somebody's tool wrote as a real; 2^64 itself is out */
        double d = json_real_value(v);
        if (d >= 0 && d < 0x1p64 && d == floor(d)) {
            *out = (uint64_t)d;
            return SNUG_OK;
        }
    }
    return wrong(err, where, key, expected, v);
}

snug_err json_get_u64_or(const json_t *obj, const char *where, const char *key, uint64_t fallback, uint64_t *out, snug_error *err) {
    *out = fallback;
    return absent(json_object_get(obj, key)) ? SNUG_OK : json_get_u64(obj, where, key, out, err);
}

snug_err json_get_double_or(const json_t *obj, const char *where, const char *key, double fallback, double *out, snug_error *err) {
    const json_t *v = json_object_get(obj, key);
    *out = fallback;
    if (absent(v)) return SNUG_OK;
    if (!json_is_number(v)) return wrong(err, where, key, "a number", v);
    *out = json_number_value(v);
    return SNUG_OK;
}

snug_err json_get_bool_or(const json_t *obj, const char *where, const char *key, bool fallback, bool *out, snug_error *err) {
    const json_t *v = json_object_get(obj, key);
    *out = fallback;
    if (absent(v)) return SNUG_OK;
    if (!json_is_boolean(v)) return wrong(err, where, key, "true or false", v);
    *out = json_is_true(v);
    return SNUG_OK;
}

snug_err json_get_string(const json_t *obj, const char *where, const char *key, const char **out, snug_error *err) {
    const json_t *v = json_object_get(obj, key);
    *out = NULL;
    if (absent(v)) return missing(err, where, key, "a string");
    if (!json_is_string(v)) return wrong(err, where, key, "a string", v);
    *out = json_string_value(v);
    return SNUG_OK;
}
