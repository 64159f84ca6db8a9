/* Text in and out: the tokenizer and the chat template of a model. */
#include "run/run.h"

#include "base/err.h"
#include "token/jinja.h"

snug_err snug_tokenize(const snug_model *model, const char *text, size_t text_bytes, bool add_special,
                       bool parse_special, int32_t *ids, size_t cap, size_t *n, snug_error *err) {
    const tokenizer *t;
    snug_err rc = model_tokenizer(model, &t, err);
    return rc ? rc : tokenizer_encode(t, text, text_bytes, add_special, parse_special, ids, cap, n, err);
}

snug_err snug_detokenize(const snug_model *model, const int32_t *ids, size_t n_ids, bool special, char *text,
                         size_t cap, size_t *n_bytes, snug_error *err) {
    const tokenizer *t;
    snug_err rc = model_tokenizer(model, &t, err);
    return rc ? rc : tokenizer_decode(t, ids, n_ids, special, text, cap, n_bytes, err);
}

int32_t snug_token_bos(const snug_model *model) {
    const tokenizer *t;
    return model_tokenizer(model, &t, NULL) ? -1 : tokenizer_bos(t);
}

bool snug_token_is_eog(const snug_model *model, int32_t id) {
    const tokenizer *t;
    return model_tokenizer(model, &t, NULL) == SNUG_OK && tokenizer_is_eog(t, id);
}

/* The variables that chat templates use. NULL: no memory, or text that is no UTF-8. */
static json_t *chat_vars(const tokenizer *t, const snug_message *messages, size_t n, bool add_generation_prompt) {
    json_t *vars = json_object(), *list = json_array();
    bool ok = vars && list;
    for (size_t i = 0; ok && i < n; i++) {
        json_t *m = json_pack("{s:s, s:s}", "role", messages[i].role, "content", messages[i].content);
        ok = m && json_array_append_new(list, m) == 0;
    }
    const struct {
        const char *name;
        int32_t id;
    } tokens[] = {{"bos_token", tokenizer_bos(t)}, {"eos_token", tokenizer_eos(t)}};
    for (size_t i = 0; ok && i < 2; i++) {
        const char *piece = tokens[i].id >= 0 ? tokenizer_piece(t, tokens[i].id) : NULL;
        ok = json_object_set_new(vars, tokens[i].name, json_string(piece ? piece : "")) == 0;
    }
    /* tools and documents: there are none, and as in transformers that is a value, not a name without one */
    ok = ok && json_object_set_new(vars, "add_generation_prompt", json_boolean(add_generation_prompt)) == 0 &&
         json_object_set_new(vars, "tools", json_null()) == 0 && json_object_set_new(vars, "documents", json_null()) == 0 &&
         json_object_set(vars, "messages", list) == 0;
    json_decref(list);
    if (ok) return vars;
    json_decref(vars);
    return NULL;
}

snug_err snug_chat_render(const snug_model *model, const snug_message *messages, size_t n_messages,
                          bool add_generation_prompt, char **out, snug_error *err) {
    const tokenizer *t;
    *out = NULL;
    snug_err rc = model_tokenizer(model, &t, err);
    if (rc) return rc;
    const char *template = tokenizer_chat_template(t);
    if (!template) return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: the model has no chat template", model->info.path);
    json_t *vars = chat_vars(t, messages, n_messages, add_generation_prompt);
    if (!vars) return err_set(err, SNUG_ERR_ARG, "a message's role or content is no UTF-8 text");
    rc = jinja_render(template, vars, out, err);
    json_decref(vars);
    return rc;
}
