/* Loading libcurl. It stays loaded until the process ends: unloading libraries that may have threads of their own gains nothing. */
#include "hub/curl.h"

#include "base/err.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

/* Names of the same interface; the second is Debian's variant on GnuTLS. */
static const char *const LIBRARIES[] = {"libcurl.so.4", "libcurl-gnutls.so.4"};
enum { LEAST_VERSION = 0x075500 }; /* 7.85: CURLOPT_REDIR_PROTOCOLS_STR, and credentials that stay with host, port and scheme */

static curl_calls calls;
static snug_error failure; /* code SNUG_OK: all is loaded */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static bool find_calls(void *library) {
/* memcpy: ISO C has no cast from an object's pointer to a function's. */
#define FIND(name)                                    \
    {                                                 \
        void *symbol = dlsym(library, "curl_" #name); \
        if (!symbol) return false;                    \
        memcpy(&calls.name, &symbol, sizeof symbol);  \
    }
    HUB_CURL_CALLS(FIND)
#undef FIND
    return true;
}

static void load(void) {
    void *library = NULL;
    for (size_t i = 0; i < sizeof LIBRARIES / sizeof *LIBRARIES && !library; i++) library = dlopen(LIBRARIES[i], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        err_set(&failure, SNUG_ERR_UNSUPPORTED, "libcurl.so.4 is needed to pull and is not installed (Debian: apt-get install libcurl4)");
        return;
    }
    if (!find_calls(library))
        err_set(&failure, SNUG_ERR_UNSUPPORTED, "libcurl.so.4 lacks a function that is needed, expected version 7.85 or later");
    else if (calls.version_info(CURLVERSION_NOW)->version_num < LEAST_VERSION)
        err_set(&failure, SNUG_ERR_UNSUPPORTED, "libcurl is version %s, expected 7.85 or later",
                calls.version_info(CURLVERSION_NOW)->version);
    else if (calls.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) err_set(&failure, SNUG_ERR_NOMEM, "libcurl cannot start");
}

snug_err curl_load(const curl_calls **out, snug_error *err) {
    pthread_once(&once, load);
    *out = &calls;
    return failure.code ? err_set(err, failure.code, "%s", failure.message) : SNUG_OK;
}
