/* Writing text with a model. Two things need care. Bytes: a token may end in the middle of a UTF-8 character, and
 * tokenizers of the SentencePiece kind drop the space before the first word of a decoding; so each token is decoded
 * together with the one before it and only the difference counts. Stop texts: what could be the beginning of one is
 * held back until it is decided. */
#include "generate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PREFILL_CHUNK = 128 }; /* tokens between two looks at Ctrl-C */

const char *stop_reason_name(stop_reason r) {
    static const char *const names[] = {"end", "stop", "length", "context", "interrupt"};
    return names[r];
}

static snug_err fail_nomem(snug_error *err) {
    *err = (snug_error){.code = SNUG_ERR_NOMEM, .message = "out of memory"};
    return err->code;
}

uint64_t seed_from_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return ((uint64_t)t.tv_sec * 1000003u + (uint64_t)t.tv_nsec) % 1000000000u; /* short enough to be typed again */
}

snug_err tokenize_all(const snug_model *model, const char *text, size_t n, bool add_special, bool parse_special,
                      int32_t **ids, size_t *n_ids, snug_error *err) {
    size_t cap = n / 2 + 16;
    *ids = NULL;
    for (;;) {
        int32_t *grown = realloc(*ids, cap * sizeof **ids);
        if (!grown) {
            free(*ids);
            *ids = NULL;
            return fail_nomem(err);
        }
        *ids = grown;
        snug_err code = snug_tokenize(model, text, n, add_special, parse_special, *ids, cap, n_ids, err);
        if (code || *n_ids <= cap) {
            if (code) {
                free(*ids);
                *ids = NULL;
            }
            return code;
        }
        cap = *n_ids;
    }
}

snug_err read_text(const char *path, char **text, size_t *n, snug_error *err) {
    bool from_stdin = strcmp(path, "-") == 0;
    FILE *f = from_stdin ? stdin : fopen(path, "rb");
    size_t cap = 1 << 16;
    *text = NULL;
    *n = 0;
    if (!f) goto io_error;
    for (;;) {
        char *grown = realloc(*text, cap + 1);
        if (!grown) {
            if (!from_stdin) fclose(f);
            free(*text);
            *text = NULL;
            return fail_nomem(err);
        }
        *text = grown;
        *n += fread(*text + *n, 1, cap - *n, f);
        if (*n < cap) break;
        cap *= 2;
    }
    if (ferror(f)) goto io_error;
    if (!from_stdin) fclose(f);
    (*text)[*n] = 0;
    return SNUG_OK;
io_error:
    *err = (snug_error){.code = SNUG_ERR_IO};
    snprintf(err->message, sizeof err->message, "%s: %s", from_stdin ? "standard input" : path, strerror(errno));
    if (f && !from_stdin) fclose(f);
    free(*text);
    *text = NULL;
    return SNUG_ERR_IO;
}

/* ----------------------------------------------------------- open, feed ---- */

/* What --draft says, as parameters of a context. */
static snug_err open_draft(writer *w, snug_context_params *cp, snug_error *err) {
    const char *how = w->options->draft;
    if (!how) return SNUG_OK;
    if (strcmp(how, "lookup") == 0) {
        cp->draft = SNUG_DRAFT_LOOKUP;
        return SNUG_OK;
    }
    cp->draft = SNUG_DRAFT_MODEL;
    snug_err code = snug_model_open(how, &w->draft_model, err);
    cp->draft_model = w->draft_model;
    if (code == SNUG_ERR_IO && !strpbrk(how, "/.")) { /* a mistyped word rather than a path */
        size_t n = strlen(err->message);
        snprintf(err->message + n, sizeof err->message - n, " (--draft takes lookup, or the path of a model)");
    }
    return code;
}

snug_err writer_open(writer *w, snug_model *model, const gen_options *o, uint32_t n_ctx, snug_error *err) {
    *w = (writer){.model = model, .options = o, .n_ctx = n_ctx};
    snug_context_params cp = {.n_ctx = n_ctx,
                              .max_seqs = 1,
                              .max_batch = n_ctx < PREFILL_CHUNK ? n_ctx : PREFILL_CHUNK,
                              .threads = (int)o->threads,
                              .ram_bytes = o->ram_bytes};
    snug_sampler_params sp = {.temperature = (float)o->temp,
                              .top_k = o->top_k,
                              .top_p = (float)o->top_p,
                              .min_p = (float)o->min_p,
                              .repeat_penalty = (float)o->repeat_penalty,
                              .repeat_last = 64,
                              .seed = o->seed};
    snug_err code = open_draft(w, &cp, err);
    if (!code) code = snug_context_create(model, &cp, &w->ctx, err);
    if (!code && o->mlock) code = snug_model_lock(model, err);
    if (!code && o->mlock && w->draft_model) code = snug_model_lock(w->draft_model, err);
    if (!code) code = snug_text_create(w->ctx, &w->tokens, err);
    if (!code) code = snug_sampler_create(&sp, snug_model_get_info(model)->n_vocab, &w->sampler, err);
    return code;
}

void writer_close(writer *w) {
    snug_sampler_destroy(&w->sampler);
    snug_text_destroy(&w->tokens);
    snug_context_destroy(&w->ctx);
    snug_model_close(&w->draft_model);
    free(w->text);
    *w = (writer){0};
}

/* Tells that `done` of `total` tokens of a prompt are read. True: stop. */
static bool tell_read(snug_progress progress, size_t done, size_t total, double elapsed) {
    double fraction = (double)done / (double)total;
    snug_event e = {.stage = "read",
                    .detail = "",
                    .done = done,
                    .total = total,
                    .unit = "tokens",
                    .elapsed_s = elapsed,
                    .eta_s = done ? elapsed / fraction - elapsed : -1,
                    .fraction = fraction};
    return progress.fn && progress.fn(progress.user, &e);
}

/* Reads the n tokens that were appended (and what was left unread before them), batch by batch; the sampler hears of
 * each when it is read. */
static snug_err read_new(writer *w, size_t n, snug_progress progress, snug_error *err) {
    size_t n_tokens, heard = 0;
    const int32_t *ids = snug_text_tokens(w->tokens, &n_tokens);
    double began = now_seconds();
    while (!snug_text_logits(w->tokens)) {
        snug_err code = snug_text_decode(&w->tokens, 1, err);
        size_t unread = snug_text_unread(w->tokens), read = unread < n ? n - unread : 0;
        for (; heard < read; heard++) snug_sampler_accept(w->sampler, ids[n_tokens - n + heard]);
        if (!code && unread && tell_read(progress, read, n, now_seconds() - began)) {
            *err = (snug_error){.code = SNUG_ERR_CANCELLED, .message = "stopped while reading the prompt"};
            code = err->code;
        }
        if (code) {
            snug_text_truncate(w->tokens, (uint32_t)(n_tokens - n + read), NULL); /* as far as the sampler knows it */
            return code;
        }
    }
    w->prefill_s = now_seconds() - began;
    return SNUG_OK;
}

snug_err writer_feed(writer *w, const int32_t *ids, size_t n, snug_progress progress, snug_error *err) {
    size_t same = 0, n_tokens;
    const int32_t *have = snug_text_tokens(w->tokens, &n_tokens);
    while (same < n_tokens && same < n && have[same] == ids[same]) same++;
    if (same == n) same = n - 1; /* the last token's logits are wanted */
    snug_err code = snug_text_truncate(w->tokens, (uint32_t)same, err);
    if (!code) code = snug_text_append(w->tokens, ids + same, n - same, err);
    w->n_prefill = n - same;
    return code ? code : read_new(w, n - same, progress, err);
}

/* ---------------------------------------------------------------- write ---- */

static snug_err decode_text(const writer *w, const int32_t *ids, size_t n, char **text, size_t *len, snug_error *err) {
    size_t cap = 256;
    *text = NULL;
    for (;;) {
        char *grown = realloc(*text, cap);
        if (!grown) return fail_nomem(err);
        *text = grown;
        snug_err code = snug_detokenize(w->model, ids, n, false, *text, cap, len, err);
        if (code || *len <= cap) return code;
        cap = *len;
    }
}

/* Appends the bytes that the last token of the text adds to those before it. */
static snug_err append_token_text(writer *w, snug_error *err) {
    size_t n;
    const int32_t *ids = snug_text_tokens(w->tokens, &n);
    size_t context = n > 1 ? 2 : 1;
    ids += n - context;
    char *before = NULL, *both = NULL;
    size_t n_before = 0, n_both = 0;
    snug_err code = decode_text(w, ids, context - 1, &before, &n_before, err);
    if (!code) code = decode_text(w, ids, context, &both, &n_both, err);
    if (!code && n_both < n_before) n_before = n_both;
    if (!code) {
        size_t add = n_both - n_before;
        if (w->text_len + add + 1 > w->text_cap) {
            size_t cap = 2 * (w->text_len + add + 1);
            char *grown = realloc(w->text, cap);
            if (grown) {
                w->text = grown;
                w->text_cap = cap;
            } else {
                code = fail_nomem(err);
            }
        }
        if (!code) {
            memcpy(w->text + w->text_len, both + n_before, add);
            w->text_len += add;
            w->text[w->text_len] = 0;
        }
    }
    free(before);
    free(both);
    return code;
}

/* Where the first stop text begins at or after `from`, SIZE_MAX when none does. */
static size_t find_stop(const writer *w, size_t from) {
    size_t first = SIZE_MAX;
    for (size_t i = 0; i < w->options->stops.n; i++) {
        const char *stop = w->options->stops.item[i];
        const char *at = *stop ? memmem(w->text + from, w->text_len - from, stop, strlen(stop)) : NULL;
        if (at && (size_t)(at - w->text) < first) first = (size_t)(at - w->text);
    }
    return first;
}

/* How many bytes at the end of text[from..] must wait: the beginning of a stop text, or of a character. */
static size_t held_back(const writer *w, size_t from) {
    size_t len = w->text_len - from, hold = 0;
    const char *end = w->text + w->text_len;
    for (size_t i = 0; i < w->options->stops.n; i++) {
        const char *stop = w->options->stops.item[i];
        size_t longest = strlen(stop);
        if (longest > len + 1) longest = len + 1;
        for (size_t k = longest; k-- > 1 && k > hold;)
            if (memcmp(end - k, stop, k) == 0) {
                hold = k;
                break;
            }
    }
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        unsigned char c = (unsigned char)end[-(ptrdiff_t)back];
        size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
        if ((c & 0xc0) != 0x80) {
            if (need > back && back > hold) hold = back;
            break;
        }
    }
    return hold;
}

static void put_text(writer *w, FILE *to, size_t *shown, size_t end) {
    if (to && end > *shown) {
        fwrite(w->text + *shown, 1, end - *shown, to);
        fflush(to);
    }
    if (end > *shown) *shown = end;
}

snug_err writer_write(writer *w, FILE *to, stop_reason *why, snug_error *err) {
    size_t longest_stop = 0, shown = 0;
    for (size_t i = 0; i < w->options->stops.n; i++)
        if (strlen(w->options->stops.item[i]) > longest_stop) longest_stop = strlen(w->options->stops.item[i]);
    w->text_len = 0;
    if (w->text) w->text[0] = 0;
    w->n_decode = 0;
    double began = now_seconds();
    snug_err code = SNUG_OK;
    for (;;) {
        int32_t token;
        if (interrupted()) {
            *why = STOP_INTERRUPT;
            break;
        }
        if (w->n_decode == w->options->n_predict) {
            *why = STOP_LENGTH;
            break;
        }
        size_t n_tokens;
        snug_text_tokens(w->tokens, &n_tokens);
        if (n_tokens == w->n_ctx) {
            *why = STOP_CONTEXT;
            break;
        }
        if (!snug_text_logits(w->tokens) && (code = snug_text_decode(&w->tokens, 1, err))) break;
        if ((code = snug_sampler_pick(w->sampler, snug_text_logits(w->tokens), &token, err))) break;
        if (snug_token_is_eog(w->model, token)) {
            *why = STOP_EOG;
            break;
        }
        if ((code = snug_text_append(w->tokens, &token, 1, err))) break;
        snug_sampler_accept(w->sampler, token);
        if (w->n_decode++ == 0) w->first_at = now_seconds();
        size_t before = w->text_len;
        if ((code = append_token_text(w, err))) break;
        size_t from = before > longest_stop ? before - longest_stop : 0;
        size_t stop = longest_stop ? find_stop(w, from > shown ? from : shown) : SIZE_MAX;
        if (stop != SIZE_MAX) {
            w->text_len = stop;
            w->text[stop] = 0;
            *why = STOP_STRING;
            break;
        }
        put_text(w, to, &shown, w->text_len - held_back(w, shown));
        if (to && ferror(to)) break;
    }
    w->decode_s = now_seconds() - began;
    put_text(w, to, &shown, w->text_len); /* what waited goes out as it is */
    return code;
}
