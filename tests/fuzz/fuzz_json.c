/* Any bytes as config.json: the reader that forgives what Python writes, and every getter on every field. */
#include "base/json.h"
#include "fuzz.h"

#include <string.h>

static void getters(const json_t *o, const char *key) {
    uint64_t u;
    double d;
    bool b;
    const char *s;
    snug_error e = {0};
    snug_err rc = json_get_u64(o, "config.json", key, &u, &e);
    FUZZ_CHECK(rc == SNUG_OK || (rc == SNUG_ERR_FORMAT && strstr(e.message, "config.json: field '")));
    (void)json_get_u64_or(o, "config.json", key, 1, &u, &e);
    (void)json_get_double_or(o, "config.json", key, 1, &d, &e);
    (void)json_get_bool_or(o, "config.json", key, true, &b, &e);
    rc = json_get_string(o, "config.json", key, &s, &e);
    FUZZ_CHECK((rc == SNUG_OK) == (s != NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    json_t *lax = NULL, *strict = NULL, *v;
    snug_error e = {0};
    const char *key;
    snug_err rc = json_read_buffer("config.json", (const char *)data, n, &lax, &e);
    FUZZ_CHECK((rc == SNUG_OK) == (lax != NULL));
    if (!lax) FUZZ_CHECK(e.code == rc && e.message[0] && e.offset <= n + 1);
    if (json_read_strict("config.json", (const char *)data, n, 0, &strict, NULL) == SNUG_OK) {
        FUZZ_CHECK(lax && json_equal(lax, strict)); /* forgiving must not change what is right */
    }
    if (json_is_object(lax)) {
        json_object_foreach(lax, key, v) getters(lax, key);
        getters(lax, "no such key");
    }
    json_decref(lax);
    json_decref(strict);
    return 0;
}
