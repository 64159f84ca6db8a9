/* The vocabulary: id <-> text, two flat tables and a hash, no allocation per token. */
#ifndef TOKEN_VOCAB_H
#define TOKEN_VOCAB_H
#include "base/buf.h"
#include <snug.h>

enum { VOCAB_MAX_TOKENS = 1 << 23 };
#define VOCAB_NONE UINT32_MAX

typedef struct vocab {
    uint32_t n;         /* ids 0 .. n-1; some may be holes                              */
    char *text;         /* all texts one after another, a NUL after each                */
    uint32_t *offset;   /* n + 1; text of id: offset[id] .. offset[id+1] - 1 (the NUL)  */
    uint64_t *present;  /* bit per id: not a hole                                       */
    uint32_t *slot;     /* hash of text -> id + 1, 0 = empty; at most half full         */
    uint32_t slot_mask;
    uint32_t max_bytes; /* of the longest indexed text                                  */
} vocab;

/* Collects (id, text) pairs in any order, then builds the tables. */
typedef struct vocab_builder {
    buf text;           /* NUL after each */
    buf entry;          /* vocab_entry[]  */
    uint32_t n_ids;     /* 1 + highest id */
} vocab_builder;
/* indexed false: the text is kept but vocab_find does not find it (filler tokens). */
snug_err vocab_add(vocab_builder *b, uint32_t id, const char *text, size_t bytes, bool indexed, snug_error *err);
/* Of two entries with the same id the later wins; of two indexed ids with the same text the lower. Frees the builder. */
snug_err vocab_build(vocab_builder *b, vocab *out, snug_error *err);
/* Adds the ids of `more` to v, found by vocab_find only as far as they were in either; `more` stays as it is. An id that both have
 * gets more's text. */
snug_err vocab_extend(vocab *v, const vocab *more, snug_error *err);
/* Takes ids (bits of `drop`) out of what vocab_find finds. */
void vocab_unindex(vocab *v, const uint64_t *drop);
void vocab_builder_fini(vocab_builder *b);
void vocab_fini(vocab *v);

static inline bool vocab_has(const vocab *v, uint32_t id) { return id < v->n && (v->present[id >> 6] >> (id & 63) & 1); }
static inline const char *vocab_text(const vocab *v, uint32_t id) { return v->text + v->offset[id]; }
static inline uint32_t vocab_bytes(const vocab *v, uint32_t id) { return v->offset[id + 1] - v->offset[id] - 1; }
uint32_t vocab_find(const vocab *v, const void *text, size_t bytes); /* VOCAB_NONE: not there */
#endif
