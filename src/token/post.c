/* What is put around a text: tokenizer.json's post_processor, reduced to the ids before and after a single text. Also
 * the texts of tokens that end a generation. */
#include "base/err.h"
#include "token/tokenizer_impl.h"
#include <string.h>

static snug_err put_affix(tokenizer *t, bool after, json_int_t id, snug_error *err) {
    int32_t *to = after ? t->suffix : t->prefix;
    size_t *n = after ? &t->n_suffix : &t->n_prefix;
    if (id < 0 || id >= (json_int_t)t->model.vocab.n || !vocab_has(&t->model.vocab, (uint32_t)id))
        return err_set(err, SNUG_ERR_FORMAT,
                       "tokenizer.json: post_processor names the id %lld, the vocabulary has no such", (long long)id);
    if (*n == MAX_AFFIX)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: a post_processor of more than %d special tokens",
                       MAX_AFFIX);
    to[(*n)++] = (int32_t)id;
    return SNUG_OK;
}

/* "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}], "special_tokens": {"<s>": {"ids": [1]}} */
static snug_err read_template(tokenizer *t, const json_t *j, snug_error *err) {
    const json_t *single = json_object_get(j, "single"), *known = json_object_get(j, "special_tokens");
    bool after = false;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i), *special = json_object_get(piece, "SpecialToken");
        if (!special) {
            if (after || !json_object_get(piece, "Sequence"))
                return err_set(
                    err, SNUG_ERR_UNSUPPORTED,
                    "tokenizer.json: a TemplateProcessing whose 'single' is not specials, one sequence, specials");
            after = true;
            continue;
        }
        const char *name = json_string_value(json_object_get(special, "id"));
        const json_t *ids = json_object_get(name ? json_object_get(known, name) : NULL, "ids");
        if (!json_is_array(ids))
            return err_set(err, SNUG_ERR_FORMAT, "tokenizer.json: TemplateProcessing lacks the special token '%s'",
                           name ? name : "?");
        for (size_t k = 0; k < json_array_size(ids); k++) {
            snug_err e = put_affix(t, after, json_integer_value(json_array_get(ids, k)), err);
            if (e) return e;
        }
    }
    if (!after) return err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: a TemplateProcessing without a sequence");
    return SNUG_OK;
}

/* "cls": ["<s>", 0], "sep": ["</s>", 2] */
static snug_err read_pair(tokenizer *t, const json_t *j, snug_error *err) {
    static const char *const key[] = {"cls", "sep"};
    for (int i = 0; i < 2; i++) {
        const json_t *id = json_array_get(json_object_get(j, key[i]), 1);
        if (!json_is_integer(id))
            return err_set(err, SNUG_ERR_FORMAT, "tokenizer.json: post_processor without '%s'", key[i]);
        snug_err e = put_affix(t, i == 1, json_integer_value(id), err);
        if (e) return e;
    }
    return SNUG_OK;
}

snug_err tokenizer_set_post(tokenizer *t, const json_t *j, snug_error *err) {
    if (!j || json_is_null(j)) return SNUG_OK;
    const char *type = json_string_value(json_object_get(j, "type"));
    if (!type) type = "?";
    if (strcmp(type, "ByteLevel") == 0) return SNUG_OK; /* offsets only */
    if (strcmp(type, "TemplateProcessing") == 0) return read_template(t, j, err);
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0) return read_pair(t, j, err);
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(j, "processors");
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *item = json_array_get(list, i);
            const char *inner = json_string_value(json_object_get(item, "type"));
            if (inner && strcmp(inner, "Sequence") == 0)
                return err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: a post_processor Sequence inside another");
            if ((t->n_prefix || t->n_suffix) && inner && strcmp(inner, "ByteLevel") != 0)
                return err_set(err, SNUG_ERR_UNSUPPORTED,
                               "tokenizer.json: more than one post_processor that adds tokens");
            snug_err e = tokenizer_set_post(t, item, err);
            if (e) return e;
        }
        return SNUG_OK;
    }
    return err_set(err, SNUG_ERR_UNSUPPORTED, "tokenizer.json: the post_processor '%s' is not supported", type);
}

bool tokenizer_text_is_eog(const char *text) {
    static const char *const known[] = {
        "<|eot_id|>",
        "<|eom_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<end_of_utterance>",
        "<EOT>",
        "[EOT]",
        "[EOS]",
        ("<\xEF\xBD\x9C"
         "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>")}; /* two literals: \x9Ce would be one number */
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(text, known[i]) == 0) return true;
    return false;
}
