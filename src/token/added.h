/* Added tokens: whole strings that become one id before anything else looks at the text. */
#ifndef TOKEN_ADDED_H
#define TOKEN_ADDED_H
#include "base/arena.h"
#include "base/buf.h"
#include "token/trie.h"
#include <snug.h>

typedef struct added_token {
    uint32_t id;
    const char *content;
    uint32_t bytes;
    bool special, normalized, lstrip, rstrip, single_word;
    const char *form; /* of a normalized one: its content, normalized; what it matches and decodes from */
    uint32_t form_bytes;
} added_token;

typedef struct added_span {
    size_t start, end;
    int32_t id; /* -1: text between added tokens */
} added_span;
/* Splits text (well-formed UTF-8) into spans, in order; leftmost-longest matches, then the rules of single_word, lstrip and rstrip
 * as `tokenizers` applies them. parse_special false leaves the text of special tokens alone. Appends added_span to out. */
snug_err added_split(const trie *t, const added_token *tokens, const uint8_t *text, size_t n, bool parse_special, buf *out,
                     snug_error *err);
#endif
