/* The two large parts of tokenizer.json, model.vocab and model.merges, read without a JSON tree: a 128,000-token file has over a
 * million values, which a tree would hold in some 150 MB. The rest goes to jansson. */
#ifndef TOKEN_HF_JSON_H
#define TOKEN_HF_JSON_H
#include "base/json.h"
#include "token/bpe.h"

typedef struct json_slice {
    const char *text; /* of the value; NULL: absent */
    size_t bytes;
    uint64_t offset;  /* in the file */
} json_slice;

/* Parses everything but model.vocab and model.merges, in whose place *out has the number 0. The slices point into text. */
snug_err hf_json_parse(const char *what, const char *text, size_t bytes, json_t **out, json_slice *tokens, json_slice *merges,
                       snug_error *err);
/* {"text": id, ...} */
snug_err hf_json_vocab(const json_slice *s, vocab_builder *out, size_t *n, snug_error *err);
/* [["text", score], ...], ids in order; scores: double[] */
snug_err hf_json_pieces(const json_slice *s, vocab_builder *out, buf *scores, snug_error *err);
/* ["a b", ...] or [["a", "b"], ...] */
snug_err hf_json_merges(const json_slice *s, bpe *out, snug_error *err);
#endif
