/* GGUF's tokenizer keys and token types, and snug's own. */
#ifndef TOKEN_GGUF_KEYS_H
#define TOKEN_GGUF_KEYS_H

#define KEY_MODEL "tokenizer.ggml.model"
#define KEY_PRE "tokenizer.ggml.pre"
#define KEY_TOKENS "tokenizer.ggml.tokens"
#define KEY_SCORES "tokenizer.ggml.scores"
#define KEY_TYPES "tokenizer.ggml.token_type"
#define KEY_MERGES "tokenizer.ggml.merges"
#define KEY_ADD_BOS "tokenizer.ggml.add_bos_token"
#define KEY_ADD_EOS "tokenizer.ggml.add_eos_token"
#define KEY_SPACE_PREFIX "tokenizer.ggml.add_space_prefix"
#define KEY_TRIM "tokenizer.ggml.remove_extra_whitespaces"
#define KEY_CHARSMAP "tokenizer.ggml.precompiled_charsmap"
#define KEY_TEMPLATE "tokenizer.chat_template"
#define KEY_PATTERN "snug.tokenizer.pattern"
#define KEY_CONFIG "snug.tokenizer.config"
#define KEY_PAIRS "snug.tokenizer.merges" /* array of u32: ids of the parts, two per merge, by rank */

#define KEY_DOUBLES "snug.tokenizer.scores" /* array of f64: scores that f32 does not hold */

/* tokenizer.ggml.token_type */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_USER = 4, TYPE_UNUSED = 5, TYPE_BYTE = 6 };

/* In the order of token_role. "seperator" is how GGUF spells it. */
static const char *const key_role[] = {
    "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.seperator_token_id",
    "tokenizer.ggml.padding_token_id", "tokenizer.ggml.mask_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
#endif
