/* The hub: a model's files, listed over HTTP, chosen, fetched in ranges by several connections, and compared with the hashes that
 * the hub has for them.
 *
 *     source.c   "hf:ORG/NAME@REVISION", safe paths, URLs            digest.c    SHA-256, and git's SHA-1 of a blob
 *     list.c     what the hub says that a repository holds           ranges.c    the ranges of a file that are on disk
 *     choose.c   which of it a model is                              part.c      a file on its way: .part, journal, digest
 *     http.c     requests and what their failures mean               fetch.c     pieces, connections, retries
 *     curl.c     libcurl, loaded when a pull begins                  pull.c      the public calls
 *
 * Everything runs in the calling thread: libcurl's multi interface serves all connections at once. What a server says is hostile
 * until it is checked: names, sizes, lengths of replies, where a redirect leads. */
#ifndef HUB_HUB_H
#define HUB_HUB_H
#include "base/arena.h"
#include "base/buf.h"
#include "base/io.h"
#include "base/progress.h"

#include <snug.h>

#include <jansson.h>

typedef struct curl_calls curl_calls; /* hub/curl.h */

/* ---- digest.c ---- */

typedef enum digest_kind { DIGEST_SHA256, DIGEST_GIT_SHA1 } digest_kind; /* large files (LFS); all others */
enum { DIGEST_HEX_MAX = 65 };
typedef struct digest digest;
digest *digest_create(digest_kind kind, uint64_t bytes); /* of a file of so many bytes; NULL: no memory */
void digest_update(digest *d, const void *p, size_t n);
void digest_hex(digest *d, char out[DIGEST_HEX_MAX]); /* ends it */
void digest_destroy(digest *d);
const char *digest_name(digest_kind kind);
size_t digest_hex_length(digest_kind kind);

/* ---- the repository ---- */

typedef struct hub_file {
    const char *path; /* within the repository; safe */
    uint64_t bytes;
    digest_kind kind;
    char hash[DIGEST_HEX_MAX]; /* lower-case hex */
    bool chosen;
    const char *target;       /* where it goes: folder/path          */
    bool present;             /* a file of this size is there        */
    uint64_t have;            /* bytes on disk before this call      */
    uint64_t allocated;       /* bytes of the disk that they take    */
} hub_file;

typedef struct hub {
    arena mem;
    const curl_calls *curl;
    void *multi; /* CURLM */
    const char *endpoint, *token; /* token: NULL when there is none */
    const char *repository, *name, *revision;
    const char *commit; /* what the revision is, once listed */
    hub_file *file;
    size_t n_files;
    bool has_index; /* the shards' names stand in model.safetensors.index.json, which was not read yet */
} hub;

/* ---- source.c ---- */

/* Splits "hf:ORG/NAME@REVISION" into h->repository, name and revision ("main" unless said). */
snug_err hub_parse_source(hub *h, const char *source, snug_error *err);
/* Checks an endpoint ("https://host[:port][/path]") and a token for what they must not contain. */
snug_err hub_parse_access(hub *h, const char *endpoint, const char *token, snug_error *err);
/* NULL: the path stays within its folder, else what is wrong with it. `n` bytes, which may include a NUL. */
const char *hub_path_fault(const char *path, size_t n);
/* Text of a URL: percent-encoded but for letters, digits, "-._~" and, with `slashes`, '/'. NULL: no memory. */
char *hub_escape(arena *mem, const char *text, bool slashes);

/* ---- list.c ---- */

snug_err hub_list(hub *h, meter *m, snug_error *err);
/* The parts of hub_list that read what a server sent. */
snug_err hub_read_commit(hub *h, const char *text, size_t n, snug_error *err);
snug_err hub_read_page(hub *h, buf *files, const char *text, size_t n, snug_error *err); /* files: hub_file after hub_file */
/* The query ("cursor=...") of a Link header's next page, in out; false: there is none. */
bool hub_next_query(const char *link, char *out, size_t cap);

/* ---- choose.c ---- */

/* Marks the files that `patterns` name, or without patterns those that make the model. */
snug_err hub_choose(hub *h, const char *const *patterns, size_t n_patterns, bool may_list_only, snug_error *err);
/* Marks the shards that the text of an index names. */
snug_err hub_choose_shards(hub *h, const char *text, size_t n, snug_error *err);
hub_file *hub_find(const hub *h, const char *path);
extern const char HUB_INDEX[]; /* "model.safetensors.index.json" */

/* ---- http.c ---- */

typedef struct hub_reply {
    long status;
    bool from_hub;   /* not from where a redirect led           */
    double retry_after_s; /* 0: not said                             */
    char link[2048], content_range[96], error_code[64], error_message[256];
    buf body;
    size_t max_body;
    bool body_too_long;
} hub_reply;

snug_err hub_connect(hub *h, snug_error *err);
void hub_disconnect(hub *h);
char *hub_file_url(const hub *h, arena *mem, const char *path);
/* A handle for one GET with everything set but what takes the body; NULL: no memory. */
void *hub_request(const hub *h, const char *url, hub_reply *reply);
void hub_forget(const hub *h, void *easy);
/* The end of a request: fills status, from_hub and retry_after_s. */
void hub_take_end(const hub *h, void *easy, const char *url, hub_reply *reply);
/* Is it worth another try? `curl_code` as libcurl ended, 0: it came through. */
bool hub_may_pass(int curl_code, const hub_reply *reply);
double hub_retry_delay(int failures, const hub_reply *reply); /* seconds before it */
enum { HUB_MAX_FAILURES = 6 };
/* One sentence about a request for `path` (NULL: the list of files) that failed for good. */
snug_err hub_failure(const hub *h, int curl_code, const hub_reply *reply, const char *path, snug_error *err);
/* A small answer whole, in reply->body (the caller's to free). Tries again as often as it makes sense. */
snug_err hub_get(hub *h, const char *url, const char *path, size_t max_body, hub_reply *reply, meter *m, snug_error *err);

/* ---- ranges.c ---- */

typedef struct span { uint64_t begin, end; } span;
typedef struct span_set { /* disjoint, sorted, never touching */
    span *at;
    size_t n, cap;
    uint64_t total;
} span_set;
bool spans_add(span_set *s, uint64_t begin, uint64_t end); /* false: no memory */
void spans_clip(span_set *s, uint64_t end);                /* forgets what lies beyond */
void spans_fini(span_set *s);

/* Reads TARGET.journal. Spans of a journal of another content are none; *good is the length of the journal that may be kept. */
snug_err ranges_read(const hub_file *f, span_set *out, uint64_t *good, snug_error *err);
snug_err ranges_open(const hub_file *f, uint64_t good, int *fd, snug_error *err);
snug_err ranges_add(const hub_file *f, int fd, uint64_t begin, uint64_t end, snug_error *err);
void ranges_remove(const hub_file *f);

/* ---- part.c ---- */

typedef struct part {
    hub_file *file;
    bool open, complete;     /* complete: verified and under its name */
    bool resumed;            /* some of it was there before           */
    bool single;             /* the server gives no ranges: one stream */
    io_writer writer;
    io_file whole;           /* the file itself where it was present  */
    int journal;
    span_set done;
    digest *hash;
    uint64_t hashed;
} part;

/* What is on disk of a chosen file; writes nothing. */
snug_err part_survey(hub_file *f, bool replace, snug_error *err);
snug_err part_open(part *p, hub_file *f, snug_error *err);
snug_err part_write(part *p, uint64_t offset, const void *src, size_t n, snug_error *err);
snug_err part_keep(part *p, uint64_t begin, uint64_t end, snug_error *err); /* these bytes are written: into the journal */
/* Hashes some of what is there from the beginning on. False: there is nothing to hash now. */
bool part_can_hash(const part *p);
snug_err part_hash_some(part *p, snug_error *err);
/* All is hashed: gives the file its name when its hash is right. *wrong: it is not, and everything of it is forgotten. */
bool part_is_hashed(const part *p);
snug_err part_finish(part *p, bool *wrong, char found[DIGEST_HEX_MAX], snug_error *err);
void part_close(part *p); /* keeps what may be gone on with */

/* ---- fetch.c ---- */

/* All chosen files, by `connections` at once. *fetched_bytes: what came over the network. */
snug_err hub_fetch(hub *h, int connections, bool replace, snug_progress progress, uint64_t *fetched_bytes, snug_error *err);
#endif
