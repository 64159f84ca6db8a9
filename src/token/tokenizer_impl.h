/* The tokenizer's insides, shared by its readers and writers. */
#ifndef TOKEN_TOKENIZER_IMPL_H
#define TOKEN_TOKENIZER_IMPL_H
#include "base/arena.h"
#include "token/added.h"
#include "token/bpe.h"
#include "token/pipeline.h"
#include "token/tokenizer.h"
#include "token/unigram.h"

enum { MAX_AFFIX = 16 };

/* The ids with a role; -1: none. Names as in GGUF: tokenizer.ggml.<name>_token_id, <name>_token in tokenizer_config.json. */
typedef enum token_role {
    ROLE_BOS, ROLE_EOS, ROLE_UNK, ROLE_SEP, ROLE_PAD, ROLE_MASK, ROLE_EOT, ROLE_EOM, N_ROLES
} token_role;
extern const char *const token_role_name[N_ROLES];

struct tokenizer {
    arena mem;
    bpe model;                   /* its vocabulary and unknown token also are those of a unigram model */
    unigram lm;
    bool is_unigram;
    normalizer norm;
    pretokenizer pretok;
    decoder dec;
    /* The same as compact JSON, NULL where tokenizer.json has null: written into snug files, compared by tokenizer_describe. */
    const char *norm_json, *pretok_json, *dec_json;
    size_t n_model;              /* tokens of the model itself, without the added ones            */
    added_token *added;
    size_t n_added;
    uint64_t *outside;           /* bit per id: an added token that the model's own vocabulary lacks */
    trie raw, normalized;  /* values are indices into added                                 */
    uint8_t *flag;               /* per id: FLAG_*                                                */
    const char *lead;            /* at most n_lead of these start a decoded text and are dropped  */
    size_t lead_bytes;
    uint64_t n_lead;
    const decode_step *first_token; /* Metaspace decoder: the first token loses its markers       */
    int32_t prefix[MAX_AFFIX], suffix[MAX_AFFIX]; /* put around a text by add_special             */
    size_t n_prefix, n_suffix;
    int32_t role[N_ROLES];
    int32_t *eog;                /* sorted */
    size_t n_eog;
    const char *chat_template;
    const char *ggml_model;      /* "gpt2", "llama" or "t5": how a GGUF stores it */
};
enum { FLAG_ADDED = 1, FLAG_SPECIAL = 2, FLAG_FILLER = 4 };

/* An added token as a reader finds it; `text` needs to live until tokenizer_set_added returns. */
typedef struct added_spec {
    uint32_t id;
    const char *text;
    size_t bytes;
    bool special, normalized, lstrip, rstrip, single_word;
} added_spec;

tokenizer *tokenizer_new(snug_error *err);
/* A tokenizer.json alone, from memory (tests, fuzzing). */
snug_err tokenizer_open_text(const char *what, const char *text, size_t bytes, tokenizer **out, snug_error *err);
/* A tokenizer in another format than tokenizer.json, by the name of its file: SentencePiece, tiktoken, tekken.json. t is new; dir NULL: no
 * files beside it. */
snug_err tokenizer_open_other(tokenizer *t, const char *dir, const char *name, const char *text, size_t bytes, snug_error *err);
/* norm, pretok and dec: tokenizer.json values or NULL. */
snug_err tokenizer_set_pipeline(tokenizer *t, const json_t *norm, const json_t *pretok, const json_t *dec, snug_error *err);
/* Call with the model's vocabulary complete (added tokens included) and the pipeline set. Sorts spec by id. */
snug_err tokenizer_set_added(tokenizer *t, added_spec *spec, size_t n, snug_error *err);
/* tokenizer.json's post_processor: what add_special puts around a text. */
snug_err tokenizer_set_post(tokenizer *t, const json_t *post, snug_error *err);
/* Last step of every reader: bpe_finish, end-of-generation set (the given ids, and unless `exact` those
 * that roles and texts tell). */
snug_err tokenizer_finish(tokenizer *t, const int32_t *eog, size_t n_eog, bool exact, snug_error *err);
/* Everything that decides ids and text, as text: two tokenizers with equal vocabularies and equal descriptions do the same. */
snug_err tokenizer_describe(const tokenizer *t, buf *out, snug_error *err);

/* End-of-generation tokens by their text ("<|im_end|>" ...). */
bool tokenizer_text_is_eog(const char *text);

/* Descriptions of the stages, one line per step; equal lines do the same. */
snug_err normalizer_describe(const normalizer *n, buf *out, snug_error *err);
snug_err pretokenizer_describe(const pretokenizer *p, buf *out, snug_error *err);

/* The pretokenizers that GGUF knows by name (tokenizer.ggml.pre): rows 0 .. pre_count() - 1. */
size_t pre_find(const char *name); /* SIZE_MAX: unknown */
size_t pre_count(void);
void pre_name(size_t row, char out[32]); /* the preferred name */
bool pre_ignores_merges(size_t row);
bool pre_adds_bos(size_t row);
/* As tokenizer.json would have them. New references; NULL: no memory. */
json_t *pre_pretokenizer(size_t row);
json_t *pre_normalizer(size_t row);
/* One Split by `pattern`, then the byte alphabet; and back (false: of another form). */
json_t *pre_from_pattern(const char *source, size_t bytes);
bool pre_to_pattern(const pretokenizer *p, const char **source, size_t *bytes);
#endif
