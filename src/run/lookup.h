/* Drafts by prompt lookup (Saxena 2023; as LZ77 finds its copies): the last tokens of a text are looked up where they
 * stood before, and what followed them there is expected to follow again. Looking up costs the same at any length: the
 * newest place of every run of 2, 3 and 4 tokens stands in a table that grows with the text.
 *
 * How likely a guess is right is learnt from all guesses, those that nobody asked to be verified too: comparing a guess
 * with the token that came is free. So a text that does not repeat itself soon gets no drafts, and one that begins to
 * gets them again. */
#ifndef RUN_LOOKUP_H
#define RUN_LOOKUP_H
#include <snug.h>

typedef struct lookup lookup;
/* What one takes for texts of up to n_ctx tokens. */
uint64_t lookup_bytes(uint32_t n_ctx);
snug_err lookup_create(uint32_t n_ctx, lookup **out, snug_error *err);
void lookup_destroy(lookup **lk);
/* Looks for the longest of the last runs of n tokens. False: nothing to draft from. */
bool lookup_find(lookup *lk, const int32_t *tokens, uint32_t n);
/* After lookup_find: the token expected at position n + i, given that those before it (draft, i of them) come true;
 * *chance: that it is right if they are. */
int32_t lookup_guess(const lookup *lk, const int32_t *tokens, uint32_t n, const int32_t *draft, uint32_t i,
                     double *chance);
/* The token that came after the first n is tokens[n]: learns from it. */
void lookup_learn(lookup *lk, const int32_t *tokens, uint32_t n);
/* The text has only n tokens now. */
void lookup_truncate(lookup *lk, uint32_t n);
/* What was learnt about chances, for the beginning of another text. */
void lookup_inherit(lookup *lk, const lookup *from);
#endif
