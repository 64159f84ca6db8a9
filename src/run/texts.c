/* Texts in the making: which tokens a pass over the weights reads, drafts among them, and which logits that gives.
 *
 * A draft is a guess at the tokens that follow (Leviathan et al. 2023, Chen et al. 2023). The pass reads it behind the
 * text's last token and gives logits after each. The caller picks from the logits as it would without drafts; when it
 * appends what was guessed, the next logits are there already, and at the first token that differs the rest of the
 * draft is forgotten. The arithmetic is canonical (a token's logits depend on nothing else in the batch), so the picks
 * are those of a text without drafts, whatever the sampler.
 *
 * A token more in a pass costs a part of what a pass of one token costs, so drafts grow only as long as they raise the
 * tokens that a pass is expected to bring per cost. */
#include "run/lookup.h"
#include "run/run.h"

#include "base/checked.h"
#include "base/err.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What another token costs, a pass of one token being 1: measured between 0.1 (a small model) and 0.3 (a model of 1 B
 * in 4 bits on two cores, where arithmetic weighs more). */
#define TOKEN_COST 0.25
enum { REST_MAX = 16 }; /* tokens that a draft model sits out at most after drafts that brought nothing */

struct snug_text {
    snug_context *ctx;
    snug_seq *seq, *draft_seq; /* hold a beginning of the tokens, then drafted ones; draft_seq NULL: no draft model  */
    lookup *lookup;            /* NULL: no lookup                                                                    */
    int32_t *tokens;           /* n of n_ctx                                                                         */
    uint32_t n;
    int32_t *draft;            /* n_draft of max_draft: read by seq at positions from window_at                      */
    uint32_t n_draft;
    uint64_t pass;             /* the context's pass whose logits are this text's; 0: none                           */
    uint32_t window_at;        /* logits stand after window_at tokens, and after each drafted one                    */
    size_t first_item;         /* of that pass, for the logits after window_at tokens                                */
    uint32_t failures;         /* of a draft model: drafts in a row that brought nothing                             */
    uint32_t rest, rest_next;  /* tokens that it sits out; how many the next time                                    */
    snug_draft_stats stats;
    /* while a pass is put together */
    uint32_t n_read;           /* tokens of the text that it reads                                                   */
    bool drafting, tried;      /* its draft is being made; a draft model was asked for one                           */
    double chance;             /* that all of the draft is right                                                     */
    size_t draft_item;         /* of the draft model's last pass: its logits tell the next guess                     */
};

/* ------------------------------------------------------------ life ---- */

static snug_err make_buffers(snug_text *t, snug_error *err) {
    const snug_context_params *p = &t->ctx->p;
    t->tokens = malloc(p->n_ctx * sizeof *t->tokens);
    t->draft = malloc((p->max_draft + 1) * sizeof *t->draft);
    if (!t->tokens || !t->draft) return err_nomem(err, p->n_ctx * sizeof *t->tokens);
    return p->draft == SNUG_DRAFT_LOOKUP ? lookup_create(p->n_ctx, &t->lookup, err) : SNUG_OK;
}

/* A text without sequences. */
static snug_err text_alloc(snug_context *ctx, snug_text **out, snug_error *err) {
    snug_text *t = *out = calloc(1, sizeof *t);
    if (!t) return err_nomem(err, sizeof *t);
    t->ctx = ctx;
    t->rest_next = 1;
    snug_err rc = make_buffers(t, err);
    if (rc) snug_text_destroy(out);
    return rc;
}

snug_err snug_text_create(snug_context *ctx, snug_text **out, snug_error *err) {
    if (!out) return err_set(err, SNUG_ERR_ARG, "snug_text_create: out is NULL");
    *out = NULL;
    if (!ctx) return err_set(err, SNUG_ERR_ARG, "snug_text_create: ctx is NULL");
    snug_err rc = text_alloc(ctx, out, err);
    if (!rc) rc = snug_seq_create(ctx, &(*out)->seq, err);
    if (!rc && ctx->draft) rc = snug_seq_create(ctx->draft, &(*out)->draft_seq, err);
    if (rc) snug_text_destroy(out);
    return rc;
}

void snug_text_destroy(snug_text **text) {
    if (!text || !*text) return;
    snug_text *t = *text;
    snug_seq_destroy(&t->seq);
    snug_seq_destroy(&t->draft_seq);
    lookup_destroy(&t->lookup);
    free(t->tokens);
    free(t->draft);
    free(t);
    *text = NULL;
}

/* The sequences keep nothing beyond n tokens. */
static snug_err keep(snug_text *t, uint32_t n, snug_error *err) {
    snug_err rc = SNUG_OK;
    if (snug_seq_length(t->seq) > n) rc = snug_seq_truncate(t->seq, n, err);
    if (!rc && t->draft_seq && snug_seq_length(t->draft_seq) > n) rc = snug_seq_truncate(t->draft_seq, n, err);
    return rc;
}

static bool has_logits(const snug_text *t) {
    return t->pass && t->pass == t->ctx->passes && t->n >= t->window_at && t->n <= snug_seq_length(t->seq);
}

static size_t logits_item(const snug_text *t) { return t->first_item + (t->n - t->window_at); }

snug_err snug_text_fork(const snug_text *text, snug_text **out, snug_error *err) {
    if (!text || !out) return err_set(err, SNUG_ERR_ARG, "snug_text_fork: text or out is NULL");
    snug_err rc = text_alloc(text->ctx, out, err);
    if (rc) return rc;
    snug_text *t = *out;
    memcpy(t->tokens, text->tokens, text->n * sizeof *t->tokens);
    t->n = text->n;
    rc = snug_seq_fork(text->seq, &t->seq, err);
    if (!rc && text->draft_seq) rc = snug_seq_fork(text->draft_seq, &t->draft_seq, err);
    if (!rc) rc = keep(t, t->n, err);
    if (rc) {
        snug_text_destroy(out);
        return rc;
    }
    if (t->lookup) lookup_inherit(t->lookup, text->lookup);
    if (has_logits(text)) {
        t->pass = text->pass;
        t->window_at = t->n;
        t->first_item = logits_item(text);
    }
    return SNUG_OK;
}

/* ------------------------------------------------------------- the text ---- */

/* A draft that brought nothing. After a second one in a row a draft model sits out 1, 2, 4 ... tokens. */
static void note_failure(snug_text *t) {
    if (t->failures++ == 0) return;
    t->rest = t->rest_next;
    if (t->rest_next < REST_MAX) t->rest_next *= 2;
}

static void note_success(snug_text *t) {
    t->failures = 0;
    t->rest_next = 1;
}

/* Is this the token that was drafted to come now? */
static bool was_drafted(snug_text *t, int32_t token) {
    if (t->n >= snug_seq_length(t->seq)) return false; /* none was */
    bool right = t->draft[t->n - t->window_at] == token;
    if (right) note_success(t);
    else if (t->n == t->window_at) note_failure(t);
    return right;
}

static snug_err append_token(snug_text *t, int32_t token, snug_error *err) {
    snug_err rc = SNUG_OK;
    if (was_drafted(t, token)) t->stats.accepted++;
    else rc = keep(t, t->n, err);
    if (rc) return rc;
    t->tokens[t->n] = token;
    if (t->lookup) lookup_learn(t->lookup, t->tokens, t->n);
    t->n++;
    return SNUG_OK;
}

snug_err snug_text_append(snug_text *t, const int32_t *ids, size_t n, snug_error *err) {
    uint32_t n_vocab = t->ctx->model->store->cfg.n_vocab;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= n_vocab)
            return err_set(err, SNUG_ERR_ARG, "token %zu to append is %d, outside the vocabulary of %u", i, ids[i],
                           n_vocab);
    if (n > t->ctx->p.n_ctx - t->n)
        return err_set(err, SNUG_ERR_BUDGET, "%zu tokens more than the %u of the text: the context of %u is full", n,
                       t->n, t->ctx->p.n_ctx);
    snug_err rc = SNUG_OK;
    for (size_t i = 0; !rc && i < n; i++) rc = append_token(t, ids[i], err);
    return rc;
}

snug_err snug_text_truncate(snug_text *t, uint32_t n, snug_error *err) {
    if (n > t->n) return err_set(err, SNUG_ERR_ARG, "cannot truncate a text of %u tokens to %u", t->n, n);
    if (n == t->n) return SNUG_OK;
    if (t->lookup) lookup_truncate(t->lookup, n);
    t->n = n;
    return keep(t, n, err);
}

const int32_t *snug_text_tokens(const snug_text *t, size_t *n) {
    *n = t->n;
    return t->tokens;
}

uint32_t snug_text_unread(const snug_text *t) {
    uint32_t read = snug_seq_length(t->seq);
    return t->n > read ? t->n - read : 0;
}

const float *snug_text_logits(const snug_text *t) {
    return has_logits(t) ? snug_logits(t->ctx, logits_item(t)) : NULL;
}

snug_draft_stats snug_text_draft_stats(const snug_text *t) { return t->stats; }

/* ---------------------------------------------------------------- drafts ---- */

/* A pass that is being put together: what it is expected to bring and to cost, and the room that is left for drafts. */
typedef struct pass_plan {
    snug_text *const *texts;
    size_t n_texts;
    uint32_t room;
    double tokens, cost;
    double draft_cost; /* of a token of the draft model */
} pass_plan;

/* Does a token that is right with this chance, at this price, raise the tokens per cost? */
static bool is_worth(const pass_plan *p, double chance, double price) { return chance * p->cost > price * p->tokens; }

/* Adds a guess to a text's draft; false: the draft ends before it. The end of a generation is never drafted: it is
 * picked from the logits before it, and nothing comes after it. */
static bool add_guess(pass_plan *p, snug_text *t, int32_t token, double chance) {
    t->chance *= chance;
    t->drafting = p->room > 0 && t->n + t->n_draft < t->ctx->p.n_ctx && is_worth(p, t->chance, TOKEN_COST) &&
                  !snug_token_is_eog(t->ctx->model, token);
    if (!t->drafting) return false;
    t->draft[t->n_draft++] = token;
    p->room--;
    p->tokens += t->chance;
    p->cost += TOKEN_COST;
    return true;
}

/* One guess per text in turn, so that texts share the room. */
static void draft_by_lookup(pass_plan *p) {
    for (size_t i = 0; i < p->n_texts; i++) {
        snug_text *t = p->texts[i];
        t->drafting = t->drafting && lookup_find(t->lookup, t->tokens, t->n);
    }
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < p->n_texts; i++) {
            snug_text *t = p->texts[i];
            double chance;
            if (!t->drafting) continue;
            int32_t token = lookup_guess(t->lookup, t->tokens, t->n, t->draft, t->n_draft, &chance);
            more |= add_guess(p, t, token, chance);
        }
    }
}

/* The likeliest token and its probability. */
static int32_t likeliest(const float *logits, uint32_t n_vocab, double *p) {
    uint32_t best = 0;
    float sum = 0;
    for (uint32_t i = 1; i < n_vocab; i++)
        if (logits[i] > logits[best]) best = i;
    for (uint32_t i = 0; i < n_vocab; i++)
        if (logits[i] > logits[best] - 16) sum += expf(logits[i] - logits[best]); /* the others weigh nothing */
    *p = 1 / (double)sum;
    return (int32_t)best;
}

/* Items for what the draft model has not read of a text, with logits after the last when it drafts. A token that the
 * draft model does not have (its embedding may be padded less) stops it for good. */
static size_t read_for_draft(snug_text *t, snug_item *items, size_t room) {
    uint32_t n_vocab = t->ctx->draft->model->store->cfg.n_vocab, pos = snug_seq_length(t->draft_seq);
    size_t n = 0;
    for (; pos < t->n && n < room && (uint32_t)t->tokens[pos] < n_vocab; pos++, n++)
        items[n] = (snug_item){.seq = t->draft_seq,
                               .token = t->tokens[pos],
                               .pos = pos,
                               .wants_logits = t->drafting && pos + 1 == t->n};
    t->drafting = n && items[n - 1].wants_logits;
    return n;
}

/* The draft model's first pass reads what is new: of the texts that draft, then of prompts. A last token that it has
 * read already (the guesses after it were not taken) it reads once more. */
static snug_err read_texts_for_draft(const pass_plan *p, snug_context *c, size_t *n_items, snug_error *err) {
    size_t n = 0;
    for (int prompts = 0; prompts < 2; prompts++)
        for (size_t i = 0; i < p->n_texts; i++) {
            snug_text *t = p->texts[i];
            if (prompts ? snug_text_unread(t) < 2 : !t->drafting) continue;
            if (t->drafting && snug_seq_length(t->draft_seq) == t->n) {
                snug_err rc = snug_seq_truncate(t->draft_seq, t->n - 1, err);
                if (rc) return rc;
            }
            n += read_for_draft(t, c->batch + n, c->p.max_batch - n);
            t->draft_item = n - 1;
        }
    *n_items = n;
    return SNUG_OK;
}

/* Takes the guesses that the draft model's last pass gave. Result: the items of its next pass, which reads them. */
static size_t take_guesses(pass_plan *p, snug_context *c) {
    size_t n = 0;
    for (size_t i = 0; i < p->n_texts; i++) {
        snug_text *t = p->texts[i];
        double chance;
        if (!t->drafting) continue;
        int32_t token = likeliest(snug_logits(c, t->draft_item), c->model->store->cfg.n_vocab, &chance);
        if ((uint32_t)token >= t->ctx->model->store->cfg.n_vocab || !add_guess(p, t, token, chance)) {
            t->drafting = false;
            continue;
        }
        /* the next guess will hardly be surer than those before it, and the draft model's pass is to be paid too */
        uint32_t pos = snug_seq_length(t->draft_seq);
        t->drafting = pos < c->p.n_ctx && n < c->p.max_batch && is_worth(p, t->chance, TOKEN_COST + p->draft_cost);
        if (!t->drafting) continue;
        t->draft_item = n;
        c->batch[n++] = (snug_item){.seq = t->draft_seq, .token = token, .pos = pos, .wants_logits = true};
    }
    return n;
}

static snug_err draft_by_model(pass_plan *p, snug_context *c, snug_error *err) {
    size_t n;
    for (size_t i = 0; i < p->n_texts; i++) {
        snug_text *t = p->texts[i];
        t->tried = t->drafting && t->rest == 0;
        if (t->drafting && t->rest) t->rest--;
        t->drafting = t->tried;
    }
    snug_err rc = read_texts_for_draft(p, c, &n, err);
    while (!rc && n && !(rc = snug_decode(c, c->batch, n, err))) n = take_guesses(p, c);
    for (size_t i = 0; !rc && i < p->n_texts; i++)
        if (p->texts[i]->tried && p->texts[i]->n_draft == 0) note_failure(p->texts[i]);
    return rc;
}

/* ---------------------------------------------------------------- passes ---- */

/* Forgets drafts whose logits were not taken in time, and the last token too when that leaves nothing to read. */
static snug_err prepare(snug_text *t, snug_error *err) {
    snug_err rc = keep(t, t->n, err);
    if (!rc && snug_seq_length(t->seq) == t->n) rc = snug_seq_truncate(t->seq, t->n - 1, err);
    t->pass = 0;
    t->n_draft = 0;
    t->n_read = 1;
    t->chance = 1;
    t->drafting = t->ctx->p.draft != SNUG_DRAFT_NONE && snug_text_unread(t) == 1;
    return rc;
}

static snug_err check_texts(snug_text *const *texts, size_t n, snug_error *err) {
    if (!texts || n == 0 || !texts[0]) return err_set(err, SNUG_ERR_ARG, "snug_text_decode: no texts");
    const snug_context *c = texts[0]->ctx;
    if (n > c->p.max_batch)
        return err_set(err, SNUG_ERR_ARG, "snug_text_decode: %zu texts, the context takes batches of %u", n,
                       c->p.max_batch);
    for (size_t i = 0; i < n; i++)
        if (texts[i]) texts[i]->n_read = 0;
    for (size_t i = 0; i < n; i++) {
        if (!texts[i] || texts[i]->ctx != c)
            return err_set(err, SNUG_ERR_ARG, "snug_text_decode: text %zu is not of the first one's context", i);
        if (texts[i]->n_read++) return err_set(err, SNUG_ERR_ARG, "snug_text_decode: text %zu is there twice", i);
        if (texts[i]->n == 0) return err_set(err, SNUG_ERR_ARG, "snug_text_decode: text %zu has no tokens", i);
    }
    return SNUG_OK;
}

static snug_err make_drafts(snug_context *c, snug_text *const *texts, size_t n, snug_error *err) {
    uint32_t room = c->p.max_batch - (uint32_t)n;
    pass_plan p = {.texts = texts,
                   .n_texts = n,
                   .room = room < c->p.max_draft ? room : c->p.max_draft,
                   .tokens = (double)n,
                   .cost = 1 + TOKEN_COST * (double)(n - 1)};
    if (c->p.draft == SNUG_DRAFT_NONE || p.room == 0) return SNUG_OK;
    if (!c->draft) {
        draft_by_lookup(&p);
        return SNUG_OK;
    }
    uint64_t own = c->model->info.tensor_bytes; /* what a pass streams */
    p.draft_cost = (double)c->draft->model->info.tensor_bytes / (double)(own ? own : 1);
    return draft_by_model(&p, c->draft, err);
}

/* Items of a text: the next n_read tokens, and the draft when those are all. */
static size_t fill_items(snug_text *t, snug_item *items, size_t at) {
    uint32_t pos = snug_seq_length(t->seq), end = pos + t->n_read + t->n_draft;
    for (; pos < end; pos++) {
        if (pos + 1 == t->n) t->first_item = at;
        items[at++] = (snug_item){.seq = t->seq,
                                  .token = pos < t->n ? t->tokens[pos] : t->draft[pos - t->n],
                                  .pos = pos,
                                  .wants_logits = pos + 1 >= t->n};
    }
    return at;
}

snug_err snug_text_decode(snug_text *const *texts, size_t n, snug_error *err) {
    snug_err rc = check_texts(texts, n, err);
    for (size_t i = 0; !rc && i < n; i++) rc = prepare(texts[i], err);
    if (rc) return rc;
    snug_context *c = texts[0]->ctx;
    if ((rc = make_drafts(c, texts, n, err))) return rc;
    size_t room = c->p.max_batch - n, n_items = 0;
    for (size_t i = 0; i < n; i++) room -= texts[i]->n_draft;
    for (size_t i = 0; i < n; i++) { /* the rest of the batch is for prompts */
        uint32_t more = (uint32_t)min_u64(snug_text_unread(texts[i]) - 1, room);
        texts[i]->n_read += more;
        room -= more;
        n_items = fill_items(texts[i], c->batch, n_items);
    }
    if ((rc = snug_decode(c, c->batch, n_items, err))) return rc;
    for (size_t i = 0; i < n; i++) {
        snug_text *t = texts[i];
        if (snug_text_unread(t)) continue;
        t->pass = c->passes;
        t->window_at = t->n;
        t->stats.drafted += t->n_draft;
    }
    return SNUG_OK;
}
