/* Unigram language models over pieces: of all ways to cut a text into pieces, the one whose scores (log probabilities) add up to most. */
#ifndef TOKEN_UNIGRAM_H
#define TOKEN_UNIGRAM_H
#include "token/bpe.h"
#include "token/trie.h"

/* Whose arithmetic decides between cuts of (nearly) equal score. */
typedef enum unigram_kind {
    UNIGRAM_SENTENCEPIECE, /* sums in float; control, unknown and byte pieces never match text */
    UNIGRAM_TOKENIZERS     /* sums in double; all pieces match                                         */
} unigram_kind;

typedef struct unigram {
    unigram_kind kind;
    trie pieces;      /* value: id */
    double *score;    /* by id     */
    uint64_t *user;   /* bit per id: a user-defined symbol */
    uint32_t n;
    uint64_t hash;    /* of the pieces that match text, and their scores */
    double unk_score; /* of a character that no piece covers */
} unigram;

/* Scores of ids 0 .. n-1 of v are copied. `matches`: bit per id, the piece may match text; `normal`: bit per id, its score counts for the
 * least one, 10 below which lies that of an unknown character. `user`: user-defined symbols or NULL. */
snug_err unigram_init(unigram *u, unigram_kind kind, const vocab *v, const double *score, uint32_t n, const uint64_t *matches,
                      const uint64_t *normal, const trie *user, snug_error *err);
void unigram_fini(unigram *u);

/* Appends the ids of n bytes of well-formed UTF-8 (n < 2^31) to `ids`. m says what becomes of unknown characters: bytes if it has them and
 * falls back to them, else m->unk, one for a run. `lattice` is scratch, zeroed is ready. */
snug_err unigram_encode(const unigram *u, const bpe *m, buf *lattice, const uint8_t *text, size_t n, buf *ids, snug_error *err);
#endif
