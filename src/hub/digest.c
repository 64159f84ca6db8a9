/* The hashes that a hub has for its files, by nettle: SHA-256 of large files (Git LFS), and for all others git's own name of a
 * blob, the SHA-1 of "blob SIZE" with its final NUL and the content. */
#include "hub/hub.h"

#include <nettle/sha1.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct digest {
    digest_kind kind;
    union {
        struct sha256_ctx sha256;
        struct sha1_ctx sha1;
    } u;
};

digest *digest_create(digest_kind kind, uint64_t bytes) {
    digest *d = malloc(sizeof *d);
    if (!d) return NULL;
    d->kind = kind;
    if (kind == DIGEST_SHA256) {
        sha256_init(&d->u.sha256);
    } else {
        char head[32];
        const int n = snprintf(head, sizeof head, "blob %llu", (unsigned long long)bytes);
        sha1_init(&d->u.sha1);
        digest_update(d, head, (size_t)n + 1); /* the NUL too */
    }
    return d;
}

void digest_update(digest *d, const void *p, size_t n) {
    if (d->kind == DIGEST_SHA256) sha256_update(&d->u.sha256, n, p);
    else sha1_update(&d->u.sha1, n, p);
}

void digest_hex(digest *d, char out[DIGEST_HEX_MAX]) {
    uint8_t raw[SHA256_DIGEST_SIZE];
    const size_t n = digest_hex_length(d->kind) / 2;
    if (d->kind == DIGEST_SHA256) sha256_digest(&d->u.sha256, n, raw);
    else sha1_digest(&d->u.sha1, n, raw);
    for (size_t i = 0; i < n; i++) snprintf(out + 2 * i, 3, "%02x", raw[i]);
}

void digest_destroy(digest *d) { free(d); }

const char *digest_name(digest_kind kind) { return kind == DIGEST_SHA256 ? "sha256" : "git-sha1"; }
size_t digest_hex_length(digest_kind kind) { return 2 * (kind == DIGEST_SHA256 ? SHA256_DIGEST_SIZE : SHA1_DIGEST_SIZE); }
