/* The files beside a tokenizer in a Hugging Face folder. */
#ifndef TOKEN_HF_SIDE_H
#define TOKEN_HF_SIDE_H
#include "base/json.h"
#include "token/tokenizer_impl.h"

enum { HF_MAX_BYTES = 512 << 20, HF_MAX_EOG = 64 };

/* "dir/name", malloc'd; NULL: no memory. */
char *hf_path(const char *dir, const char *name);
/* *out = NULL if there is no such file. */
snug_err hf_read_optional(const char *dir, const char *name, json_t **out, snug_error *err);
/* Roles, chat template, ids around a text where `post` (tokenizer.json's post_processor, or NULL) says none; more[0 .. *n_more): ids that
 * end a generation. */
snug_err hf_read_sidecars(tokenizer *t, const char *dir, const json_t *post, int32_t more[HF_MAX_EOG], size_t *n_more, snug_error *err);

/* Formats without a tokenizer.json; `dir` NULL: the bytes alone. `what` is the file's name. */
snug_err hf_open_tiktoken(tokenizer *t, const char *dir, const char *what, const char *text, size_t n, snug_error *err);
snug_err hf_open_tekken(tokenizer *t, const char *dir, const char *text, size_t n, snug_error *err);
snug_err hf_open_spm(tokenizer *t, const char *dir, const char *what, const uint8_t *bytes, size_t n, snug_error *err);
#endif
