/* Requests to the hub, and what their failures mean.
 *
 * A request follows redirects (a large file lies on another host) and carries the user's token to the hub's own scheme, host and
 * port alone: libcurl's bearer authentication drops it on the way elsewhere. Redirects from https to http are refused. Connections
 * are HTTP/1.1, because the streams of one HTTP/2 connection share its window and are no faster than one.
 *
 * What may pass (a cut connection, 429, 5xx) is tried again after 0.5, 1, 2 ... seconds, or when the server's Retry-After says. */
#include "base/err.h"
#include "hub/curl.h"
#include "hub/hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const long CONNECT_TIMEOUT_S = 20, STALLED_AFTER_S = 60, MAX_REDIRECTS = 8, RECEIVE_BYTES = 256 << 10;
static const double FIRST_DELAY_S = 0.5, MAX_DELAY_S = 30, MAX_RETRY_AFTER_S = 900;

snug_err hub_connect(hub *h, snug_error *err) {
    snug_err rc = curl_load(&h->curl, err);
    if (rc == SNUG_OK && !(h->multi = h->curl->multi_init())) rc = err_nomem(err, 4096);
    return rc;
}

void hub_disconnect(hub *h) {
    if (h->multi) h->curl->multi_cleanup(h->multi);
    h->multi = NULL;
}

char *hub_file_url(const hub *h, arena *mem, const char *path) {
    const char *escaped = hub_escape(mem, path, true);
    return escaped ? arena_printf(mem, "%s/%s/resolve/%s/%s", h->endpoint, h->repository, h->commit, escaped) : NULL;
}

/* The value of "Name: value" in out when the line is that header; cut to cap, cleaned of what no message should hold. */
static void take_header(const char *line, size_t n, const char *name, char *out, size_t cap) {
    const size_t n_name = strlen(name);
    if (n <= n_name || strncasecmp(line, name, n_name) != 0 || line[n_name] != ':') return;
    size_t begin = n_name + 1, put = 0;
    while (begin < n && (line[begin] == ' ' || line[begin] == '\t')) begin++;
    for (; begin < n && put + 1 < cap && line[begin] != '\r' && line[begin] != '\n'; begin++) out[put++] = line[begin];
    out[put] = 0;
}

static size_t on_header(char *line, size_t one, size_t n, void *user) {
    hub_reply *r = user;
    if (n >= 5 && memcmp(line, "HTTP/", 5) == 0) /* another answer begins: behind a redirect, or a 100 */
        r->link[0] = r->content_range[0] = r->error_code[0] = r->error_message[0] = 0;
    take_header(line, n, "Link", r->link, sizeof r->link);
    take_header(line, n, "Content-Range", r->content_range, sizeof r->content_range);
    take_header(line, n, "X-Error-Code", r->error_code, sizeof r->error_code);
    take_header(line, n, "X-Error-Message", r->error_message, sizeof r->error_message);
    return n;
}

void *hub_request(const hub *h, const char *url, hub_reply *reply) {
    const curl_calls *c = h->curl;
    CURL *easy = c->easy_init();
    if (!easy) return NULL;
    const bool tls = strncmp(h->endpoint, "https:", 6) == 0;
    bool ok = c->easy_setopt(easy, CURLOPT_URL, url) == CURLE_OK;
    ok = ok && c->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK;
    ok = ok && c->easy_setopt(easy, CURLOPT_USERAGENT, "snug/" SNUG_VERSION) == CURLE_OK;
    ok = ok && c->easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK;
    ok = ok && c->easy_setopt(easy, CURLOPT_PROTOCOLS_STR, tls ? "https" : "http,https") == CURLE_OK;
    ok = ok && c->easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, tls ? "https" : "http,https") == CURLE_OK;
    ok = ok && c->easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L) == CURLE_OK;
    ok = ok && c->easy_setopt(easy, CURLOPT_MAXREDIRS, MAX_REDIRECTS) == CURLE_OK;
    ok = ok && c->easy_setopt(easy, CURLOPT_BUFFERSIZE, RECEIVE_BYTES) == CURLE_OK;
    ok = ok && c->easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S) == CURLE_OK;
    ok = ok && c->easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L) == CURLE_OK;
    ok = ok && c->easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, STALLED_AFTER_S) == CURLE_OK;
    ok = ok && c->easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK;
    ok = ok && c->easy_setopt(easy, CURLOPT_HEADERDATA, reply) == CURLE_OK;
    if (h->token) {
        ok = ok && c->easy_setopt(easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER) == CURLE_OK;
        ok = ok && c->easy_setopt(easy, CURLOPT_XOAUTH2_BEARER, h->token) == CURLE_OK;
    }
    if (ok) return easy;
    c->easy_cleanup(easy);
    return NULL;
}

void hub_forget(const hub *h, void *easy) {
    if (!easy) return;
    h->curl->multi_remove_handle(h->multi, easy); /* harmless where it was not added */
    h->curl->easy_cleanup(easy);
}

/* "https://host:port" of a URL: its length. */
static size_t origin_length(const char *url) {
    const char *authority = strstr(url, "://");
    return authority ? (size_t)(authority - url) + 3 + strcspn(authority + 3, "/?#") : 0;
}

void hub_take_end(const hub *h, void *easy, const char *url, hub_reply *r) {
    char *last = NULL;
    curl_off_t wait = 0;
    h->curl->easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &r->status);
    h->curl->easy_getinfo(easy, CURLINFO_EFFECTIVE_URL, &last);
    h->curl->easy_getinfo(easy, CURLINFO_RETRY_AFTER, &wait);
    const size_t n = origin_length(url);
    r->from_hub = !last || (origin_length(last) == n && strncasecmp(last, url, n) == 0);
    r->retry_after_s = wait > 0 ? (double)wait : 0;
}

bool hub_may_pass(int curl_code, const hub_reply *r) {
    switch (curl_code) {
    case CURLE_OK: break;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR: return true;
    default: return false;
    }
    if (r->retry_after_s > MAX_RETRY_AFTER_S) return false;
    if (r->status == 403 && !r->from_hub) return true; /* a signed address that is not valid any more: the hub gives a new one */
    return r->status == 408 || r->status == 425 || r->status == 429 || r->status >= 500;
}

double hub_retry_delay(int failures, const hub_reply *r) {
    double delay = FIRST_DELAY_S;
    for (int i = 1; i < failures && delay < MAX_DELAY_S; i++) delay *= 2;
    if (delay > MAX_DELAY_S) delay = MAX_DELAY_S;
    return r->retry_after_s > delay ? r->retry_after_s : delay;
}

/* 401 and 403: the hub hides what is private, so "not there" and "not for you" look alike without a token. */
static snug_err not_let_in(const hub *h, const hub_reply *r, snug_error *err) {
    const bool gated = strcmp(r->error_code, "GatedRepo") == 0;
    if (gated && !h->token)
        return err_set(err, SNUG_ERR_IO,
                       "%s is gated (%ld): accept its licence on %s/%s, make an access token in your account's settings, and set the "
                       "environment variable HF_TOKEN to it",
                       h->repository, r->status, h->endpoint, h->repository);
    if (gated)
        return err_set(err, SNUG_ERR_IO,
                       "%s is gated (%ld), and the account of HF_TOKEN is not let in: accept the licence with it on %s/%s%s%s",
                       h->repository, r->status, h->endpoint, h->repository, *r->error_message ? "; the hub says: " : "", r->error_message);
    if (h->token)
        return err_set(err, SNUG_ERR_IO,
                       "%s: the hub refuses HF_TOKEN (%ld%s%s): check that the token is valid, that the name is right, and that its "
                       "account is let in on %s/%s",
                       h->repository, r->status, *r->error_message ? ": " : "", r->error_message, h->endpoint, h->repository);
    return err_set(err, SNUG_ERR_IO,
                   "%s: the hub says %ld: there is no such repository, or it is private or gated; check the name, or accept the licence on "
                   "%s/%s and set the environment variable HF_TOKEN",
                   h->repository, r->status, h->endpoint, h->repository);
}

static snug_err not_found(const hub *h, const hub_reply *r, const char *path, snug_error *err) {
    if (path) return err_set(err, SNUG_ERR_IO, "%s at %s: there is no file %s (404)", h->repository, h->revision, path);
    if (strcmp(r->error_code, "RevisionNotFound") == 0)
        return err_set(err, SNUG_ERR_IO, "%s has no revision '%s' (404): expected a branch, a tag or a commit", h->repository, h->revision);
    return err_set(err, SNUG_ERR_IO, "%s at %s: %s has no such repository (404): check the name, and the revision", h->repository,
                   h->revision, h->endpoint);
}

snug_err hub_failure(const hub *h, int curl_code, const hub_reply *r, const char *path, snug_error *err) {
    const char *what = path ? path : "the list of files";
    if (curl_code == CURLE_OUT_OF_MEMORY) return err_nomem(err, 4096);
    if (curl_code == CURLE_COULDNT_RESOLVE_HOST || curl_code == CURLE_COULDNT_CONNECT)
        return err_set(err, SNUG_ERR_IO, "%s: cannot reach %s (%s); is there a network? HF_ENDPOINT names another hub", h->repository,
                       h->endpoint, h->curl->easy_strerror((CURLcode)curl_code));
    if (curl_code == CURLE_UNSUPPORTED_PROTOCOL)
        return err_set(err, SNUG_ERR_IO, "%s: fetching %s failed: the way leads from %s to an address that is not https", h->repository,
                       what, h->endpoint);
    if (curl_code != CURLE_OK)
        return err_set(err, SNUG_ERR_IO, "%s: fetching %s failed: %s", h->repository, what, h->curl->easy_strerror((CURLcode)curl_code));
    if (r->from_hub && (r->status == 401 || r->status == 403)) return not_let_in(h, r, err);
    if (r->status == 404) return not_found(h, r, path, err);
    if (r->retry_after_s > 0)
        return err_set(err, SNUG_ERR_IO,
                       "%s: the server is busy (%ld) and asks to be left alone for %.0f s; the same command goes on from here",
                       h->repository, r->status, r->retry_after_s);
    return err_set(err, SNUG_ERR_IO, "%s: fetching %s failed: the server answered %ld%s%s", h->repository, what, r->status,
                   *r->error_message ? ": " : "", r->error_message);
}

/* ---- small answers ---- */

static size_t on_small_body(char *data, size_t one, size_t n, void *user) {
    hub_reply *r = user;
    r->body_too_long = n > r->max_body - r->body.len;
    return !r->body_too_long && buf_append(&r->body, data, n) ? n : 0;
}

/* One try. Returns libcurl's code in *code; an error is the end of all tries. */
static snug_err get_once(hub *h, const char *url, hub_reply *r, meter *m, int *code, snug_error *err) {
    const curl_calls *c = h->curl;
    CURL *easy = hub_request(h, url, r);
    if (!easy || c->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_small_body) != CURLE_OK ||
        c->easy_setopt(easy, CURLOPT_WRITEDATA, r) != CURLE_OK || c->multi_add_handle(h->multi, easy) != CURLM_OK) {
        hub_forget(h, easy);
        return err_nomem(err, 4096);
    }
    snug_err rc = SNUG_OK;
    for (bool over = false; !over && rc == SNUG_OK;) {
        int running, left;
        c->multi_perform(h->multi, &running);
        for (CURLMsg *msg; (msg = c->multi_info_read(h->multi, &left));)
            if (msg->msg == CURLMSG_DONE) *code = msg->data.result, over = true;
        rc = meter_update(m, 0, "", err);
        if (!over && rc == SNUG_OK) c->multi_poll(h->multi, NULL, 0, 100, NULL);
    }
    hub_take_end(h, easy, url, r);
    hub_forget(h, easy);
    return rc;
}

/* Cancelling is asked for ten times a second. */
static snug_err wait_for(hub *h, double seconds, meter *m, snug_error *err) {
    const double until = clock_seconds() + seconds;
    snug_err rc = SNUG_OK;
    for (double left; rc == SNUG_OK && (left = until - clock_seconds()) > 0; rc = meter_update(m, 0, "", err))
        h->curl->multi_poll(h->multi, NULL, 0, left < 0.1 ? (int)(1000 * left) + 1 : 100, NULL);
    return rc;
}

snug_err hub_get(hub *h, const char *url, const char *path, size_t max_body, hub_reply *r, meter *m, snug_error *err) {
    *r = (hub_reply){.max_body = max_body};
    for (int failures = 1;; failures++) {
        int code = CURLE_OK;
        *r = (hub_reply){.max_body = max_body, .body = r->body};
        r->body.len = 0;
        snug_err rc = get_once(h, url, r, m, &code, err);
        if (rc != SNUG_OK || (code == CURLE_OK && r->status == 200)) return rc;
        if (r->body_too_long)
            return err_set(err, SNUG_ERR_FORMAT, "%s: %s is longer than %zu bytes", h->repository, path ? path : "the hub's answer",
                           max_body);
        const bool nobody = code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT; /* said at once where nothing has begun */
        if (nobody || failures >= HUB_MAX_FAILURES || !hub_may_pass(code, r)) return hub_failure(h, code, r, path, err);
        const double delay = hub_retry_delay(failures, r);
        char note[128];
        snprintf(note, sizeof note, "the hub asks to wait %.0f s (%ld)", delay, r->status);
        if (r->retry_after_s > 0) rc = meter_note(m, note, err);
        if (rc == SNUG_OK) rc = wait_for(h, delay, m, err);
        if (rc != SNUG_OK) return rc;
    }
}
