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
#include "base/progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What another token costs, a pass of one token being 1, before it was seen: from 0.02 (8 bits, AVX-512) over 0.1 (4 bits) to 0.3 (4 bits,
 * AVX2) where memory is what a pass waits for. */
#define FIRST_TOKEN_COST 0.25
enum {
    TIMED_MAX = 8, /* items of a pass whose time is looked at: prompts are read in another way */
    REST_MAX = 64, /* tokens that a draft model sits out at most after drafts that cost more than they brought; if
                      that does not help it is not asked again before the next prompt                           */
    LEVELS = 8,    /* of a draft model's sureness, told apart in how often its guesses come true               */
};
#define LEARNING_RATE (1.0 / 8)
#define FIRST_CHANCE  0.3 /* of a guess that is not sure at all, before anything was learnt */

/* What a draft model's guesses are worth for a text, and whether asking for them pays. A small model is often right
 * where it is not sure (when the likeliest token is taken), or sure and wrong: both are learnt. */
typedef struct trust {
    double chance[LEVELS];    /* that a guess of this sureness comes true                                        */
    uint8_t *level;           /* of the last guesses, one for each of snug_text.draft; NULL: no draft model      */
    uint32_t n_guesses, at;   /* guesses, for tokens from `at`; the last may have been too unlikely to verify    */
    double spent, gained;     /* since it was asked last: cost, and tokens that needed no pass                   */
    double balance;           /* running mean of what is left                                                    */
    uint32_t rest, rest_next; /* tokens that it sits out; how many the next time                                 */
    bool given_up;
} trust;

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
    trust trust;
    snug_draft_stats stats;
    /* while a pass is put together */
    uint32_t n_read;           /* tokens of the text that it reads                                                   */
    bool drafting;             /* its draft is being made                                                            */
    double chance;             /* that all of the draft is right                                                     */
    size_t draft_item;         /* of the draft model's last pass: its logits tell the next guess                     */
};

/* ----------------------------------------------------------- trust ---- */

static snug_err trust_init(trust *r, uint32_t max_draft, snug_error *err) {
    r->level = malloc(max_draft + 1);
    r->rest_next = 1;
    for (int i = 0; i < LEVELS; i++) r->chance[i] = FIRST_CHANCE + (1 - FIRST_CHANCE) * (i + 0.5) / LEVELS;
    return r->level ? SNUG_OK : err_nomem(err, max_draft + 1);
}

static uint8_t level_of(double p) {
    return p < 1 ? (uint8_t)(p * LEVELS) : LEVELS - 1;
}

/* The token at position n is known now. */
static void trust_learn(trust *r, uint32_t n, const int32_t *guesses, int32_t token) {
    if (n - r->at >= r->n_guesses) return;
    bool right = guesses[n - r->at] == token;
    double *chance = &r->chance[r->level[n - r->at]];
    *chance += (right - *chance) * LEARNING_RATE;
    if (!right) r->n_guesses = 0; /* the others were for another text */
}

/* Draws the balance of what was asked last. True: ask again. */
static bool trust_ask(trust *r) {
    if (r->spent > 0) {
        r->balance += (r->gained - r->spent - r->balance) * LEARNING_RATE;
        r->rest = r->balance < 0 ? r->rest_next : 0;
        r->given_up = r->rest > REST_MAX;
        r->rest_next = r->rest ? 2 * r->rest : 1;
        r->spent = r->gained = 0;
    }
    r->n_guesses = 0;
    if (r->given_up) return false;
    if (r->rest == 0) return true;
    r->rest--;
    return false;
}

/* A prompt: what follows may be of another kind. */
static void trust_anew(trust *r) {
    r->spent = r->gained = r->balance = 0;
    r->rest = 0;
    r->rest_next = 1;
    r->given_up = false;
}

/* ------------------------------------------------------------ life ---- */

static snug_err make_buffers(snug_text *t, snug_error *err) {
    const snug_context_params *p = &t->ctx->p;
    t->tokens = malloc(p->n_ctx * sizeof *t->tokens);
    t->draft = malloc((p->max_draft + 1) * sizeof *t->draft);
    if (!t->tokens || !t->draft) return err_nomem(err, p->n_ctx * sizeof *t->tokens);
    if (p->draft == SNUG_DRAFT_LOOKUP) return lookup_create(p->n_ctx, &t->lookup, err);
    return p->draft == SNUG_DRAFT_MODEL ? trust_init(&t->trust, p->max_draft, err) : SNUG_OK;
}

/* A text without sequences. */
static snug_err text_alloc(snug_context *ctx, snug_text **out, snug_error *err) {
    snug_text *t = *out = calloc(1, sizeof *t);
    if (!t) return err_nomem(err, sizeof *t);
    t->ctx = ctx;
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
    free(t->trust.level);
    free(t);
    *text = NULL;
}

/* The sequences keep nothing beyond n tokens, and of a model with recurrent layers perhaps less: what is missing then is read again, and until
 * that is done nothing is drafted. */
static snug_err keep(snug_text *t, uint32_t n, snug_error *err) {
    snug_err rc = SNUG_OK;
    if (snug_seq_length(t->seq) > n) rc = snug_seq_truncate(t->seq, snug_seq_reach(t->seq, n), err);
    if (!rc && t->draft_seq && snug_seq_length(t->draft_seq) > n) rc = snug_seq_truncate(t->draft_seq, n, err);
    return rc;
}

static bool has_logits(const snug_text *t) {
    return t->pass && t->pass == t->ctx->passes && t->n >= t->window_at && t->n <= snug_seq_length(t->seq);
}

static size_t logits_item(const snug_text *t) {
    return t->first_item + (t->n - t->window_at);
}

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
    memcpy(t->trust.chance, text->trust.chance, sizeof t->trust.chance);
    if (has_logits(text)) {
        t->pass = text->pass;
        t->window_at = t->n;
        t->first_item = logits_item(text);
    }
    return SNUG_OK;
}

/* ------------------------------------------------------------- the text ---- */

static snug_err append_token(snug_text *t, int32_t token, snug_error *err) {
    bool drafted = t->n < snug_seq_length(t->seq) && t->draft[t->n - t->window_at] == token;
    snug_err rc = drafted ? SNUG_OK : keep(t, t->n, err);
    if (rc) return rc;
    t->tokens[t->n] = token;
    if (t->lookup) lookup_learn(t->lookup, t->tokens, t->n);
    if (t->trust.level) trust_learn(&t->trust, t->n, t->draft, token);
    t->stats.accepted += drafted;
    t->trust.gained += drafted;
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
    if (n > 1) trust_anew(&t->trust);
    for (size_t i = 0; !rc && i < n; i++) rc = append_token(t, ids[i], err);
    return rc;
}

snug_err snug_text_truncate(snug_text *t, uint32_t n, snug_error *err) {
    if (n > t->n) return err_set(err, SNUG_ERR_ARG, "cannot truncate a text of %u tokens to %u", t->n, n);
    if (n == t->n) return SNUG_OK;
    if (t->lookup) lookup_truncate(t->lookup, n);
    t->trust.n_guesses = 0;
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

snug_draft_stats snug_text_draft_stats(const snug_text *t) {
    return t->stats;
}

/* ---------------------------------------------------------------- drafts ---- */

/* A pass that is being put together: what it is expected to bring and to cost, and the room that is left for drafts. */
typedef struct pass_plan {
    snug_text *const *texts;
    size_t n_texts;
    uint32_t room;
    double tokens, cost, token_cost; /* of another token */
    double draft_cost; /* of a token of the draft model */
} pass_plan;

static double token_cost(const snug_context *c) { return c->token_cost > 0 ? c->token_cost : FIRST_TOKEN_COST; }

/* Now and then other programs or pages that are read for the first time make a pass slow: a low figure weighs more than a high one. */
static double learnt(double known, double seen) { return known + (seen - known) * (seen < known ? 0.5 : 0.05); }

/* Decodes c->batch, and learns what a pass for one token takes, and what each further one adds. */
static snug_err timed_decode(snug_context *c, size_t n, snug_error *err) {
    double began = clock_seconds();
    snug_err rc = snug_decode(c, c->batch, n, err);
    double s = clock_seconds() - began;
    if (rc || n > TIMED_MAX) return rc;
    if (n > 1 && c->pass_s > 0) c->token_cost = learnt(token_cost(c), fmin(fmax((s / c->pass_s - 1) / (double)(n - 1), 0.01), 1));
    else s /= 1 + token_cost(c) * (double)(n - 1);
    if (n == 1 || c->pass_s == 0) c->pass_s = c->pass_s == 0 ? s : learnt(c->pass_s, s);
    return SNUG_OK;
}

/* Does a token that is right with this chance, at this price, raise the tokens per cost? */
static bool is_worth(const pass_plan *p, double chance, double price) {
    return chance * p->cost > price * p->tokens;
}

/* Adds a guess to a text's draft; false: the draft ends before it. The end of a generation is never drafted: it is
 * picked from the logits before it, and nothing comes after it. */
static bool add_guess(pass_plan *p, snug_text *t, int32_t token, double chance) {
    t->chance *= chance;
    t->drafting = p->room > 0 && t->n + t->n_draft < t->ctx->p.n_ctx && is_worth(p, t->chance, p->token_cost) &&
                  !snug_token_is_eog(t->ctx->model, token);
    if (!t->drafting) return false;
    t->draft[t->n_draft++] = token;
    p->room--;
    p->tokens += t->chance;
    p->cost += p->token_cost;
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
        items[n] = (snug_item){
            .seq = t->draft_seq, .token = t->tokens[pos], .pos = pos, .wants_logits = t->drafting && pos + 1 == t->n};
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

/* The draft model's guess for a text. False: none that is worth verifying. */
static bool take_guess(pass_plan *p, snug_text *t, snug_context *c) {
    trust *r = &t->trust;
    double sure;
    int32_t token = likeliest(snug_logits(c, t->draft_item), c->model->store->cfg.n_vocab, &sure);
    if ((uint32_t)token >= t->ctx->model->store->cfg.n_vocab) return t->drafting = false;
    r->at = t->n;
    r->level[t->n_draft] = level_of(sure);
    r->n_guesses = t->n_draft + 1;
    r->spent += p->draft_cost;
    t->draft[t->n_draft] = token; /* to learn from, if for nothing else */
    if (!add_guess(p, t, token, r->chance[level_of(sure)])) return false;
    r->spent += p->token_cost;
    return true;
}

/* Takes the guesses that the draft model's last pass gave. Result: the items of its next pass, which reads them. */
static size_t take_guesses(pass_plan *p, snug_context *c) {
    size_t n = 0;
    for (size_t i = 0; i < p->n_texts; i++) {
        snug_text *t = p->texts[i];
        if (!t->drafting || !take_guess(p, t, c)) continue;
        /* the next guess will hardly be surer than those before it, and the draft model's pass is to be paid too */
        uint32_t pos = snug_seq_length(t->draft_seq);
        t->drafting = p->room > 0 && pos < c->p.n_ctx && is_worth(p, t->chance, p->token_cost + p->draft_cost);
        if (!t->drafting) continue;
        t->draft_item = n;
        c->batch[n++] =
            (snug_item){.seq = t->draft_seq, .token = t->draft[t->n_draft - 1], .pos = pos, .wants_logits = true};
    }
    return n;
}

static snug_err draft_by_model(pass_plan *p, snug_context *c, snug_error *err) {
    size_t n;
    for (size_t i = 0; i < p->n_texts; i++) {
        snug_text *t = p->texts[i];
        t->drafting = t->drafting && trust_ask(&t->trust);
    }
    snug_err rc = read_texts_for_draft(p, c, &n, err);
    while (!rc && n && !(rc = timed_decode(c, n, err))) n = take_guesses(p, c);
    return rc;
}

/* ---------------------------------------------------------------- passes ---- */

/* Forgets drafts whose logits were not taken in time, and the last token too when that leaves nothing to read. */
static snug_err prepare(snug_text *t, snug_error *err) {
    snug_err rc = keep(t, t->n, err);
    if (!rc && snug_seq_length(t->seq) == t->n) rc = snug_seq_truncate(t->seq, snug_seq_reach(t->seq, t->n - 1), err);
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

/* A pass of the draft model's for one token, the model's own being 1: by the clock, and by what they stream until both
 * have been seen. More than 1 is a disturbed clock (or a draft model that will not pay anyway). */
static double draft_cost(const snug_context *c) {
    if (c->pass_s > 0 && c->draft->pass_s > 0) return fmin(1, c->draft->pass_s / c->pass_s);
    return (double)c->draft->model->info.tensor_bytes / (double)(c->model->info.tensor_bytes + 1);
}

static snug_err make_drafts(snug_context *c, snug_text *const *texts, size_t n, snug_error *err) {
    uint32_t room = c->p.max_batch - (uint32_t)n;
    pass_plan p = {.texts = texts,
                   .n_texts = n,
                   .room = room < c->p.max_draft ? room : c->p.max_draft,
                   .tokens = (double)n,
                   .token_cost = token_cost(c),
                   .cost = 1 + token_cost(c) * (double)(n - 1)};
    if (c->p.draft == SNUG_DRAFT_NONE || p.room == 0) return SNUG_OK;
    if (!c->draft) {
        draft_by_lookup(&p);
        return SNUG_OK;
    }
    p.draft_cost = draft_cost(c);
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
    if ((rc = timed_decode(c, n_items, err))) return rc;
    for (size_t i = 0; i < n; i++) {
        snug_text *t = texts[i];
        if (snug_text_unread(t)) continue;
        t->pass = c->passes;
        t->window_at = t->n;
        t->stats.drafted += t->n_draft;
    }
    return SNUG_OK;
}
