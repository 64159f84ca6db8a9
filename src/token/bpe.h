/* Byte-pair encoding over characters of (already pretokenized) text. Two ways to choose the next pair:
 *   merges: the list of a tokenizer.json or a "gpt2" GGUF, lowest rank first;
 *   scores: SentencePiece's, any two neighbours whose concatenation is a token, highest score first ("llama" GGUF). */
#ifndef TOKEN_BPE_H
#define TOKEN_BPE_H
#include "token/trie.h"
#include "token/vocab.h"

typedef struct bpe_pair { uint32_t a, b, joined; } bpe_pair;

typedef struct bpe {
    vocab vocab;
    bool by_score, ignore_merges, byte_fallback, fuse_unk;
    uint32_t unk;                /* VOCAB_NONE: characters that nothing covers vanish       */
    uint32_t char_id[384];       /* of U+0000 .. U+017F: covers ASCII and the byte alphabet */
    uint32_t byte_id[256];       /* of "<0x00>" .. "<0xFF>"                                 */
    bool has_all_bytes;
    bpe_pair *pair;              /* by rank                                                 */
    uint32_t n_pairs;
    uint64_t *slot;              /* hash of (a, b) -> tag << 32 | rank + 1                  */
    uint32_t slot_mask;
    uint32_t *rank;              /* by_score: id -> rank, equal scores have equal ranks     */
    float *score;                /* as the file has them, or NULL                           */
    uint32_t longest_join;       /* by_score: joins of more bytes do not happen; 0: all do */
    const trie *frozen;          /* by_score: texts that are one symbol and join nothing, or NULL */
    bool cut_before_marker;      /* no merge crosses from another character into U+2581     */
} bpe;

/* Takes over `v`. Merges are added in rank order, then bpe_finish builds the tables. */
void bpe_init(bpe *m, vocab *v);
snug_err bpe_reserve_pairs(bpe *m, size_t n, snug_error *err);
/* a and b as texts; SNUG_ERR_FORMAT names what the vocabulary lacks. `prefix_bytes` of b are dropped when joining. */
snug_err bpe_add_merge(bpe *m, const char *a, size_t a_bytes, const char *b, size_t b_bytes, snug_error *err);
snug_err bpe_add_merge_ids(bpe *m, uint32_t a, uint32_t b, snug_error *err);
/* Scores of all ids: makes the model by_score. */
snug_err bpe_set_scores(bpe *m, const float *score, snug_error *err);
/* Back to a model without scores and merges, its tables as bpe_finish left them. */
void bpe_drop_scores(bpe *m);
snug_err bpe_finish(bpe *m, snug_error *err);
void bpe_fini(bpe *m);
/* The live merges in order of rank: *n of them, a and b of each (ranks overwritten by a later duplicate left out). */
bool bpe_merge_is_live(const bpe *m, uint32_t rank);
/* True if merging alone gives every indexed token back from its own text (then ignore_merges makes no difference). */
snug_err bpe_all_reachable(const bpe *m, bool *out, snug_error *err);

/* Scratch for encoding, one per thread. Zeroed is ready. */
typedef struct bpe_scratch {
    struct bpe_symbol *symbol;
    struct bpe_candidate *heap;
    size_t symbol_cap, heap_cap, heap_n;
    struct bpe_cache_line *cache; /* NULL: none */
} bpe_scratch;
void bpe_scratch_fini(bpe_scratch *s);
void bpe_scratch_use_cache(bpe_scratch *s); /* worth it for long texts; silently none when memory is short */

/* Appends the ids of one pretoken (n bytes of well-formed UTF-8, n < 2^31) to `ids`, an array of uint32_t. */
snug_err bpe_encode(const bpe *m, bpe_scratch *s, const uint8_t *word, size_t n, buf *ids, snug_error *err);
#endif
