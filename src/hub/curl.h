/* libcurl, loaded when a pull begins. With the thirty libraries that it brings it takes 6 MB of memory and 6 ms of every start:
 * a program that runs a model within a budget should not pay for them. The types are those of libcurl's own header. */
#ifndef HUB_CURL_H
#define HUB_CURL_H
#include <snug.h>

#include <curl/curl.h>

#define HUB_CURL_CALLS(X) \
    X(global_init) X(version_info) X(easy_init) X(easy_setopt) X(easy_getinfo) X(easy_cleanup) X(easy_strerror) X(multi_init) \
    X(multi_cleanup) X(multi_add_handle) X(multi_remove_handle) X(multi_perform) X(multi_poll) X(multi_info_read)

typedef struct curl_calls {
#define MEMBER(name) __typeof__(curl_##name) *name;
    HUB_CURL_CALLS(MEMBER)
#undef MEMBER
} curl_calls;

/* The calls, the same for all pulls of a process. May be called by several threads. */
snug_err curl_load(const curl_calls **out, snug_error *err);
#endif
