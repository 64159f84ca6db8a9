/* Tokenizers: byte-level BPE (tokenizer.json, ranks, or GGUF "gpt2"), SentencePiece-style BPE with byte fallback (tokenizer.json,
 * tokenizer.model, or GGUF "llama") and Unigram (the same two, or GGUF "t5"). Ids are those of the libraries that these files are made for
 * (docs/tokenizers.md). Immutable after opening; thread-safe. */
#ifndef TOKEN_TOKENIZER_H
#define TOKEN_TOKENIZER_H
#include "base/json.h"
#include "format/gguf.h"

typedef struct tokenizer tokenizer;

/* dir holds tokenizer.json, or tokenizer.model, tekken.json or another of docs/tokenizers.md, and, optionally, tokenizer_config.json, generation_config.json, chat_template.jinja.
 * SNUG_ERR_UNSUPPORTED names the first component that is not known. */
snug_err tokenizer_open_hf(const char *dir, tokenizer **out, snug_error *err);
/* From the tokenizer.* keys of a GGUF (tokenizer.ggml.model "gpt2", "llama" or "t5", tokenizer.ggml.pre, snug.tokenizer.*). */
snug_err tokenizer_open_gguf(const gguf_file *g, tokenizer **out, snug_error *err);
void tokenizer_close(tokenizer **t);

/* Writes the tokenizer.* keys. n_vocab: rows of the embedding (ids beyond the vocabulary get filler tokens, as llama.cpp's
 * converter does). `strict` (files for other GGUF readers) refuses a pretokenizer that has no GGUF name; otherwise the
 * pattern itself goes into snug.tokenizer.pattern (and normalizer flags beside it). */
snug_err tokenizer_to_gguf(const tokenizer *t, uint32_t n_vocab, bool strict, gguf_kvs *out, snug_error *err);

uint32_t tokenizer_n_vocab(const tokenizer *t);
/* See snug_tokenize / snug_detokenize in snug.h for the semantics. */
snug_err tokenizer_encode(const tokenizer *t, const char *text, size_t bytes, bool add_special, bool parse_special,
                          int32_t *ids, size_t cap, size_t *n, snug_error *err);
snug_err tokenizer_decode(const tokenizer *t, const int32_t *ids, size_t n_ids, bool special, char *text, size_t cap,
                          size_t *n_bytes, snug_error *err);
/* The same for tokens that go on with a text already begun: the leading space that SentencePiece-style decoders take off the
 * start of a text stays. tokenizer_decode of the first tokens followed by tokenizer_decode_more of the next gives the bytes that
 * tokenizer_decode of all together gives (docs/tokenizers.md, streaming). Allocates nothing. */
snug_err tokenizer_decode_more(const tokenizer *t, const int32_t *ids, size_t n_ids, bool special, char *text, size_t cap,
                               size_t *n_bytes, snug_error *err);
int32_t tokenizer_bos(const tokenizer *t);
int32_t tokenizer_eos(const tokenizer *t);
bool tokenizer_adds_bos(const tokenizer *t);
bool tokenizer_is_eog(const tokenizer *t, int32_t id);
const char *tokenizer_chat_template(const tokenizer *t); /* Jinja text or NULL */
/* The text of one token as the vocabulary stores it (byte-level BPE: mapped characters). */
const char *tokenizer_piece(const tokenizer *t, int32_t id);
/* A hash of (id, piece) pairs: two models share a vocabulary when these are equal. */
uint64_t tokenizer_fingerprint(const tokenizer *t);
#endif
