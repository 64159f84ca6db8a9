/* Names: what the user asks for, what a repository calls its files, and what goes into a URL.
 *
 * A path of a repository becomes a path on this machine, so it is looked at byte by byte: nothing that could leave the folder,
 * nothing that some file system reads in another way. */
#include "hub/hub.h"

#include "base/err.h"

#include <stdio.h>
#include <string.h>

static const char DEFAULT_ENDPOINT[] = "https://huggingface.co";

static bool is_alnum(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/* An organisation's or a model's name: letters, digits, '-', '_' and '.', not "." or "..", at most 96 bytes. */
static bool is_name(const char *s, size_t n) {
    if (n == 0 || n > 96 || (n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.')) return false;
    for (size_t i = 0; i < n; i++)
        if (!is_alnum(s[i]) && !strchr("-_.", s[i])) return false;
    return true;
}

static bool is_printable(const char *s) {
    for (; *s; s++)
        if ((unsigned char)*s <= 0x20 || *s == 0x7f) return false;
    return true;
}

snug_err hub_parse_source(hub *h, const char *source, snug_error *err) {
    static const char wanted[] = "expected hf:ORG/NAME or hf:ORG/NAME@REVISION, such as hf:Qwen/Qwen3-0.6B";
    if (strncmp(source, "hf:", 3) != 0) return err_set(err, SNUG_ERR_ARG, "'%.200s': %s", source, wanted);
    const char *org = source + 3, *slash = strchr(org, '/');
    if (!slash) return err_set(err, SNUG_ERR_ARG, "'%.200s': %s", source, wanted);
    const char *name = slash + 1;
    const size_t n_name = strcspn(name, "@");
    if (!is_name(org, (size_t)(slash - org)) || !is_name(name, n_name))
        return err_set(err, SNUG_ERR_ARG, "'%.200s': names have letters, digits, '-', '_' and '.'; %s", source, wanted);
    const char *revision = name[n_name] ? name + n_name + 1 : "main";
    if (!*revision || strlen(revision) > 255 || !is_printable(revision))
        return err_set(err, SNUG_ERR_ARG, "'%.200s': the revision after '@' is a branch, a tag or a commit; %s", source, wanted);
    h->repository = arena_strndup(&h->mem, org, (size_t)(name - org) + n_name);
    h->name = arena_strndup(&h->mem, name, n_name);
    h->revision = arena_strdup(&h->mem, revision);
    return h->repository && h->name && h->revision ? SNUG_OK : err_nomem(err, strlen(source));
}

/* No user name, query or fragment: a path is appended. */
static bool is_endpoint(const char *s) {
    const size_t scheme = strncmp(s, "https://", 8) == 0 ? 8 : strncmp(s, "http://", 7) == 0 ? 7 : 0;
    return scheme && s[scheme] && s[scheme] != '/' && strlen(s) < 512 && is_printable(s) && !strpbrk(s, "?#@\\\"<>");
}

snug_err hub_parse_access(hub *h, const char *endpoint, const char *token, snug_error *err) {
    if (!endpoint || !*endpoint) endpoint = DEFAULT_ENDPOINT;
    if (!is_endpoint(endpoint))
        return err_set(err, SNUG_ERR_ARG, "HF_ENDPOINT: '%.200s' is no address of a hub, expected one such as %s", endpoint,
                       DEFAULT_ENDPOINT);
    size_t n = strlen(endpoint);
    while (n > 8 && endpoint[n - 1] == '/') n--;
    h->endpoint = arena_strndup(&h->mem, endpoint, n);
    if (token && *token && !is_printable(token)) /* it goes into a header; the message must not show it */
        return err_set(err, SNUG_ERR_ARG, "HF_TOKEN holds a blank or a control character, expected an access token such as hf_...");
    h->token = token && *token ? arena_strdup(&h->mem, token) : NULL;
    return h->endpoint && (h->token || !token || !*token) ? SNUG_OK : err_nomem(err, n);
}

const char *hub_path_fault(const char *path, size_t n) {
    if (n == 0) return "is empty";
    if (n > 1024) return "is longer than 1024 bytes";
    if (path[0] == '/') return "is absolute";
    if (memchr(path, 0, n)) return "holds a NUL";
    if (memchr(path, '\\', n)) return "holds a backslash";
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)path[i] < 0x20 || path[i] == 0x7f) return "holds a control character";
    for (size_t begin = 0; begin <= n;) {
        const char *slash = memchr(path + begin, '/', n - begin);
        const size_t end = slash ? (size_t)(slash - path) : n, len = end - begin;
        if (len == 0) return "has an empty component";
        if (len > 240) return "has a component longer than 240 bytes"; /* 255, less ".journal" */
        if (path[begin] == '.' && (len == 1 || (len == 2 && path[begin + 1] == '.'))) return "climbs out of its folder";
        begin = end + 1;
    }
    return NULL;
}

char *hub_escape(arena *mem, const char *text, bool slashes) {
    char *out = arena_alloc_bytes(mem, 3 * strlen(text) + 1), *p = out;
    if (!out) return NULL;
    for (; *text; text++) {
        if (is_alnum(*text) || strchr("-._~", *text) || (slashes && *text == '/')) *p++ = *text;
        else p += snprintf(p, 4, "%%%02X", (unsigned char)*text);
    }
    *p = 0;
    return out;
}
