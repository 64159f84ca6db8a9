/* Added tokens of a Hugging Face folder that has no tokenizer.json: the model's own special tokens, then what the files beside it say. */
#ifndef TOKEN_HF_ADDED_H
#define TOKEN_HF_ADDED_H
#include "base/json.h"
#include "token/tokenizer_impl.h"

typedef struct hf_added {
    buf list;          /* added_spec[], settled: sorted by id, one per id */
    buf promoted;      /* added_spec[]: tokens of the model's own that the files call special */
    json_t *config, *added, *specials; /* the texts live in these */
} hf_added;

/* Later ones replace earlier ones of the same id; `text` needs to live as long as the list. */
snug_err hf_added_put(hf_added *a, added_spec s, snug_error *err);
/* added_tokens.json, tokenizer_config.json (added_tokens_decoder) and special_tokens_map.json of dir (NULL: none); then settles. */
snug_err hf_added_read(hf_added *a, const char *dir, snug_error *err);
/* Adds the tokens to a vocabulary, or gives tokens of it their texts; then marks those that the files call special. `promote`: they may name
 * the model's own tokens, which become added ones. Pointers into the list are void afterwards. */
snug_err hf_added_extend(hf_added *a, vocab *v, bool promote, snug_error *err);
/* True if the list has this id. */
bool hf_added_has(const hf_added *a, uint32_t id);
static inline added_spec *hf_added_spec(const hf_added *a, size_t *n) {
    *n = a->list.len / sizeof(added_spec);
    return (added_spec *)(void *)a->list.data;
}
void hf_added_fini(hf_added *a);
#endif
