/* Writing text with a model: what `run` and `chat` share. A writer holds one text and knows its tokens, so that feeding a
 * longer version of it computes only what is new. */
#ifndef CLI_GENERATE_H
#define CLI_GENERATE_H
#include "cli.h"

typedef struct gen_options {
    uint32_t n_predict, top_k, ctx, threads;
    double temp, top_p, min_p, repeat_penalty;
    uint64_t seed, ram_bytes;
    const char *draft; /* "lookup" or a model's path; NULL: no drafts */
    bool mlock;
    str_list stops;
} gen_options;
/* clang-format off */
#define GEN_DEFAULTS {.n_predict = 256, .top_k = 40, .temp = 0.8, .top_p = 0.95, .min_p = 0.05, .repeat_penalty = 1}
#define GEN_OPTIONS(g) \
    {.name = "n-predict", .letter = 'n', .kind = OPT_U32, .value = &(g)->n_predict, .arg = "N", .min = 1, \
     .help = "write at most N tokens (default: run 256, chat 1024)"}, \
    {.name = "temp", .kind = OPT_REAL, .value = &(g)->temp, .arg = "T", .max = 100, \
     .help = "temperature (default 0.8); 0 always takes the likeliest token"}, \
    {.name = "top-k", .kind = OPT_U32, .value = &(g)->top_k, .arg = "K", \
     .help = "sample among the K likeliest (default 40; 0: all)"}, \
    {.name = "top-p", .kind = OPT_REAL, .value = &(g)->top_p, .arg = "P", .max = 1, \
     .help = "sample among the likeliest that make up P (default 0.95; 1: all)"}, \
    {.name = "min-p", .kind = OPT_REAL, .value = &(g)->min_p, .arg = "P", .max = 1, \
     .help = "drop tokens below P times the likeliest (default 0.05; 0: none)"}, \
    {.name = "repeat-penalty", .kind = OPT_REAL, .value = &(g)->repeat_penalty, .arg = "X", .min = 0.01, .max = 100, \
     .help = "divide the odds of the last 64 tokens (default 1: off)"}, \
    {.name = "seed", .kind = OPT_U64, .value = &(g)->seed, .arg = "N", \
     .help = "same seed, same text (default: from the clock)"}, \
    {.name = "stop", .kind = OPT_LIST, .value = &(g)->stops, .arg = "TEXT", \
     .help = "end when this text appears; may be repeated"}, \
    {.name = "ctx", .letter = 'c', .kind = OPT_U32, .value = &(g)->ctx, .arg = "N", .min = 2, \
     .help = "context in tokens"}, \
    {.name = "ram", .kind = OPT_SIZE, .value = &(g)->ram_bytes, .arg = "BYTES", \
     .help = "refuse to start if more memory than this would be needed"}, \
    {.name = "mlock", .kind = OPT_FLAG, .value = &(g)->mlock, .help = "keep the weights in memory: never paged out"}, \
    {.name = "draft", .kind = OPT_STRING, .value = &(g)->draft, .arg = "HOW", \
     .help = "the same text, faster: guess the next tokens and verify them in one pass;\nlookup: from earlier " \
             "passages of the text; a file or folder: with that model, a\nsmaller one of the same family"}, \
    OPTION_THREADS(&(g)->threads)
/* clang-format on */

typedef enum stop_reason { STOP_EOG, STOP_STRING, STOP_LENGTH, STOP_CONTEXT, STOP_INTERRUPT } stop_reason;
const char *stop_reason_name(stop_reason r); /* "end", "stop", "length", "context", "interrupt" */

typedef struct writer {
    const snug_model *model;
    const gen_options *options;
    snug_model *draft_model; /* NULL: none */
    snug_context *ctx;
    snug_text *tokens;
    snug_sampler *sampler;
    uint32_t n_ctx;
    char *text; /* what was written since writer_write began; owned, NUL-terminated */
    size_t text_len, text_cap;
    size_t n_prefill, n_decode; /* of the last feed and write */
    double prefill_s, decode_s, first_at; /* first_at: when the first token was written; 0: none was */
} writer;

/* n_ctx positions; opens the draft model too. A zeroed writer may be closed. */
snug_err writer_open(writer *w, snug_model *model, const gen_options *o, uint32_t n_ctx, snug_error *err);
void writer_close(writer *w);
/* Makes the text exactly ids[0..n); 0 < n <= n_ctx. Keeps the longest common beginning. */
snug_err writer_feed(writer *w, const int32_t *ids, size_t n, snug_progress progress, snug_error *err);
/* Writes up to n_predict tokens; text goes to `to` (NULL: kept only) as soon as its characters are whole and no stop
 * text can begin in them. */
snug_err writer_write(writer *w, FILE *to, stop_reason *why, snug_error *err);

/* Text to tokens in an array of their own (free). */
snug_err tokenize_all(const snug_model *model, const char *text, size_t n, bool add_special, bool parse_special, int32_t **ids,
                      size_t *n_ids, snug_error *err);
/* A whole file, or stdin for "-"; NUL-terminated, owned by the caller. */
snug_err read_text(const char *path, char **text, size_t *n, snug_error *err);
uint64_t seed_from_clock(void);
#endif
