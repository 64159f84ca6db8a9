/* The stages around the model, as tokenizer.json describes them: normalizer, pretokenizer, decoder. Each is a short list of
 * steps, immutable after opening. */
#ifndef TOKEN_PIPELINE_H
#define TOKEN_PIPELINE_H
#include "base/arena.h"
#include "base/buf.h"
#include "base/json.h"
#include "token/charsmap.h"
#include "token/pattern.h"
#include "token/trie.h"

/* ---- normalizer ---- */
typedef enum norm_kind {
    NORM_NFC, NORM_NFD, NORM_NFKC, NORM_NFKD, NORM_LOWERCASE, NORM_STRIP, NORM_STRIP_ACCENTS, NORM_PREPEND, NORM_REPLACE,
    NORM_BYTE_LEVEL, NORM_PRECOMPILED, NORM_SENTENCEPIECE
} norm_kind;
/* SentencePiece's own normalizer, beside its charsmap. */
typedef struct spm_rules {
    bool prefix;       /* a space goes in front of the text       */
    bool trim;         /* no spaces at its ends, one between words */
    bool escape;       /* spaces become U+2581                    */
    trie keep;         /* user-defined symbols: never rewritten   */
    uint64_t keep_hash;
} spm_rules;
typedef struct norm_step {
    norm_kind kind;
    bool left, right;      /* STRIP                     */
    pattern *pattern;      /* REPLACE                   */
    const char *text;      /* PREPEND, REPLACE: content */
    size_t text_bytes;
    charsmap map;          /* PRECOMPILED, SENTENCEPIECE */
    spm_rules *spm;        /* SENTENCEPIECE             */
} norm_step;
typedef struct normalizer {
    norm_step *step;
    size_t n;
} normalizer;

/* ---- pretokenizer ---- */
typedef enum split_behavior { SPLIT_ISOLATED, SPLIT_REMOVED, SPLIT_MERGED_PREVIOUS, SPLIT_MERGED_NEXT, SPLIT_CONTIGUOUS } split_behavior;
typedef enum pretok_kind { PRETOK_SPLIT, PRETOK_BYTE_LEVEL, PRETOK_METASPACE } pretok_kind;
typedef enum prepend_scheme { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS } prepend_scheme;
typedef struct pretok_step {
    pretok_kind kind;
    pattern *pattern;        /* SPLIT; METASPACE: the marker; BYTE_LEVEL with use_regex: GPT-2's */
    split_behavior behavior; /* SPLIT                             */
    bool invert;             /* SPLIT: what does not match is the match */
    bool no_shadow;          /* SPLIT: the pattern names new characters itself (unicode_new.h) */
    bool prefix_space;       /* BYTE_LEVEL                        */
    bool use_regex;          /* BYTE_LEVEL: GPT-2's pattern first */
    bool split;              /* METASPACE                         */
    prepend_scheme scheme;   /* METASPACE                         */
    const char *marker;      /* METASPACE: replaces spaces        */
    size_t marker_bytes;
} pretok_step;
typedef struct pretokenizer {
    pretok_step *step;
    size_t n;
    bool byte_level; /* some step maps bytes to the byte alphabet */
} pretokenizer;

/* ---- decoder ---- */
typedef enum decode_kind { DECODE_BYTE_LEVEL, DECODE_REPLACE, DECODE_BYTE_FALLBACK, DECODE_FUSE, DECODE_STRIP, DECODE_METASPACE } decode_kind;
typedef struct decode_step {
    decode_kind kind;
    const char *from, *to; /* REPLACE: literal; METASPACE, STRIP: from is the character */
    size_t from_bytes, to_bytes;
    uint64_t start, stop;  /* STRIP */
    bool prepended;        /* METASPACE: the first token's markers are dropped */
} decode_step;
typedef struct decoder {
    decode_step *step;
    size_t n;
    bool present; /* false: tokenizer.json has none; tokens are then joined by spaces */
} decoder;

/* Readers of the three tokenizer.json objects (null or NULL: nothing to do). Unknown types: SNUG_ERR_UNSUPPORTED with the name. On
 * error what was made so far is freed. */
snug_err normalizer_read(const json_t *j, arena *mem, normalizer *out, snug_error *err);
snug_err pretokenizer_read(const json_t *j, arena *mem, pretokenizer *out, snug_error *err);
snug_err decoder_read(const json_t *j, arena *mem, decoder *out, snug_error *err);
void normalizer_fini(normalizer *n);
/* The user-defined symbols of a SentencePiece normalizer; NULL: none. */
const trie *normalizer_user_defined(const normalizer *n);

/* spm_normalizer.c: the step of kind SENTENCEPIECE or PRECOMPILED, read and run; and its JSON form. */
snug_err spm_step_read(const json_t *j, arena *mem, norm_step *out, snug_error *err);
snug_err spm_step_run(const norm_step *s, const uint8_t *p, size_t n, buf *out, snug_error *err);
/* New references; NULL: no memory. `keep`: an array of the user-defined symbols, taken over. Where a marker in front and for spaces is all,
 * tokenizer.json's own terms say it. */
json_t *spm_step_json(const uint8_t *map, size_t map_bytes, bool prefix, bool trim, bool escape, json_t *keep);
json_t *spm_decoder_json(bool prefix);
/* A normalizer's charsmap stands in a GGUF as bytes already: its base64 becomes `true` (refer), or `true` the base64 again. False: no memory. */
bool spm_refer_charsmap(json_t *norm, const uint8_t *map, size_t map_bytes, bool refer);

void pretokenizer_fini(pretokenizer *p);

/* Scratch of one encoding call. Zeroed is ready. */
typedef struct pipe_span { uint32_t start, end; } pipe_span;
typedef struct pipe_work {
    pattern_matcher matcher;
    buf text[2], span[2], match, shadow; /* texts and spans alternate between the two */
    int text_at, span_at;
} pipe_work;
void pipe_work_fini(pipe_work *w);

/* Text is well-formed UTF-8. *out is `text` itself or lies in w until its next use. */
snug_err normalizer_run(const normalizer *n, pipe_work *w, const uint8_t *text, size_t bytes, const uint8_t **out, size_t *out_bytes,
                        snug_error *err);
/* Cuts text into words: *spans (n of them, none empty) over *out. at_start: the text begins where the whole input begins. */
snug_err pretokenizer_run(const pretokenizer *p, pipe_work *w, const uint8_t *text, size_t bytes, bool at_start, const uint8_t **out,
                          const pipe_span **spans, size_t *n, snug_error *err);
/* What one token (not the first of a text) contributes to the output: appends its bytes. */
snug_err decoder_token(const decoder *d, const char *token, size_t bytes, buf *out, snug_error *err);
/* Leading characters that the decoder takes off a whole text: at most `*n` times `*text`. METASPACE: *all_of_first. */
void decoder_leading(const decoder *d, const char **text, size_t *bytes, uint64_t *n, const decode_step **first_token);

/* The byte alphabet of GPT-2: the character that stands for a byte, and back (-1: none). */
uint32_t byte_alphabet_char(uint8_t byte);
int byte_alphabet_byte(uint32_t c);
#endif
