/* SentencePiece's precompiled_charsmap: which strings the normalizer rewrites, and into what. */
#ifndef TOKEN_CHARSMAP_H
#define TOKEN_CHARSMAP_H
#include "base/arena.h"
#include "base/buf.h"
#include <snug.h>

typedef struct charsmap {
    const uint32_t *unit; /* the double array; NULL: an empty map */
    size_t n_units;
    const char *text;     /* replacements, a NUL after each; well-formed UTF-8 */
    size_t text_bytes;
    uint64_t hash;        /* of the blob */
} charsmap;

/* Copies the blob into mem. `what` names the field for messages. */
snug_err charsmap_open(const char *what, const uint8_t *blob, size_t bytes, arena *mem, charsmap *out, snug_error *err);
/* A rule for a string that p[0..n) starts with, the longest or the shortest one: its length, 0 if there is none; *to: what it becomes. */
size_t charsmap_match(const charsmap *m, const uint8_t *p, size_t n, bool longest, const char **to, size_t *to_bytes);
/* Appends the blob again. False: no memory. */
bool charsmap_blob(const charsmap *m, buf *out);
/* The Precompiled normalizer of tokenizer.json. Text is well-formed UTF-8. */
snug_err charsmap_run(const charsmap *m, const uint8_t *p, size_t n, buf *out, snug_error *err);
#endif
