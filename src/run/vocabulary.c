/* Comparing vocabularies: hashes first; where they differ, token by token, because one file of a model may carry filler
 * tokens for the unused rows of its embedding ("[PAD151700]", as converters to GGUF write them) and the other end at
 * the last real token. */
#include "run/vocabulary.h"

#include "base/err.h"
#include "run/run.h"

#include <string.h>

static bool is_filler(const char *piece) {
    return !piece || !*piece || strncmp(piece, "[PAD", 4) == 0;
}

snug_err vocabulary_compare(const snug_model *a, const snug_model *b, snug_error *err) {
    const tokenizer *ta, *tb;
    snug_err code = model_tokenizer(a, &ta, err);
    if (!code) code = model_tokenizer(b, &tb, err);
    if (code || tokenizer_fingerprint(ta) == tokenizer_fingerprint(tb)) return code;
    uint32_t na = tokenizer_n_vocab(ta), nb = tokenizer_n_vocab(tb), n = na > nb ? na : nb;
    for (uint32_t i = 0; i < n; i++) {
        const char *pa = i < na ? tokenizer_piece(ta, (int32_t)i) : NULL,
                   *pb = i < nb ? tokenizer_piece(tb, (int32_t)i) : NULL;
        if ((pa && pb && strcmp(pa, pb) == 0) || (is_filler(pa) && is_filler(pb))) continue;
        return err_set(err, SNUG_ERR_MISMATCH, "the vocabularies differ: token %u is '%s' in %s and '%s' in %s", i,
                       pa ? pa : "(none)", snug_model_get_info(a)->path, pb ? pb : "(none)",
                       snug_model_get_info(b)->path);
    }
    return SNUG_OK;
}
