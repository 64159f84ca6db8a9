/* Judging a model on a text: perplexity, and its distance to a reference that runs beside it, window by window, in the
 * same pass. No logits are kept: each batch of positions is scored and forgotten, so memory stays at two batches of
 * logits, whatever the text.
 *
 *     nll   = mean of -log p(token | what stands before it in its window)          ppl = exp(nll)
 *     KL    = mean of KL(reference || model) of the two next-token distributions, JS likewise, top1 = share of equal
 * likeliest tokens
 *
 * Windows follow llama.cpp's perplexity tool; where the tokenizer begins a text with BOS, every window does (its first
 * token is replaced, as there). With a reference, the reference's tokenizer cuts the text: one token sequence for both.
 */
#include "base/err.h"
#include "base/io.h"
#include "base/progress.h"
#include "base/thread.h"
#include "eval/divergence.h"
#include "eval/windows.h"
#include "run/run.h"
#include "run/vocabulary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_CTX = 512, MAX_BATCH = 512 };
/* Both models' logits of one batch together: 2 * batch * n_vocab floats stay under this. */
static const uint64_t LOGITS_BYTES = (uint64_t)256 << 20;
static const size_t MAX_TEXT_BYTES = (size_t)1 << 30;

typedef struct score {
    double nll, nll_ref, kl, js, top1;
} score; /* of one token, or a window's sums */

typedef struct side { /* one of the two models at work */
    const snug_model *model;
    snug_context *ctx;
    snug_seq *seq;
} side;

typedef struct evaluation {
    const snug_eval_params *params;
    side model, ref; /* ref.model NULL: none */
    int32_t *tokens;
    size_t n_tokens;
    int32_t bos; /* -1: windows begin with their own first token */
    windows win;
    uint32_t n_vocab, batch;
    score *token_score;  /* (batch) */
    score *window_sum;   /* (win.count) */
    score first_squares; /* sums of squares in the first window: the spread when it is the only one */
    double *kl;          /* of every scored token; NULL without a reference */
    meter meter;
} evaluation;

/* ---------------------------------------------------------------- tokens ---- */

static snug_err read_tokens(evaluation *e, snug_error *err) {
    const tokenizer *tok;
    char *text = NULL;
    size_t n_bytes = 0;
    snug_err code = model_tokenizer(e->ref.model ? e->ref.model : e->model.model, &tok, err);
    if (!code) code = io_read_all(e->params->text_path, MAX_TEXT_BYTES, &text, &n_bytes, err);
    size_t cap = n_bytes / 2 + 16; /* enough for most texts; asked again with the true number otherwise */
    while (!code) {
        free(e->tokens);
        e->tokens = malloc(cap * sizeof *e->tokens);
        if (!e->tokens) {
            code = err_nomem(err, cap * sizeof *e->tokens);
            break;
        }
        code = tokenizer_encode(tok, text, n_bytes, true, false, e->tokens, cap, &e->n_tokens, err);
        if (code || e->n_tokens <= cap) break;
        cap = e->n_tokens;
    }
    free(text);
    if (code) return code;
    e->bos = tokenizer_adds_bos(tok) ? tokenizer_bos(tok) : -1;
    if (e->params->max_tokens && e->n_tokens > e->params->max_tokens) e->n_tokens = (size_t)e->params->max_tokens;
    for (size_t i = 0; !code && i < e->n_tokens; i++)
        if (e->tokens[i] < 0 || (uint32_t)e->tokens[i] >= e->n_vocab)
            code = err_set(err, SNUG_ERR_MISMATCH, "the tokenizer gives token %d, but the model has only %u",
                           e->tokens[i], e->n_vocab);
    return code;
}

static snug_err check_models(evaluation *e, snug_error *err) {
    const snug_model_info *a = snug_model_get_info(e->model.model);
    e->n_vocab = a->n_vocab;
    if (!e->ref.model) return SNUG_OK;
    const snug_model_info *b = snug_model_get_info(e->ref.model);
    if (a->n_vocab != b->n_vocab)
        return err_set(
            err, SNUG_ERR_MISMATCH,
            "the vocabularies differ: %s has %u tokens, %s has %u; only models of one family can be compared", a->path,
            a->n_vocab, b->path, b->n_vocab);
    return vocabulary_compare(e->model.model, e->ref.model, err);
}

/* ------------------------------------------------------------ the engine ---- */

static snug_err side_open(side *s, const evaluation *e, snug_error *err) {
    snug_context_params cp = {.n_ctx = e->win.n_ctx,
                              .max_seqs = 1,
                              .max_batch = e->batch,
                              .threads = e->params->threads,
                              .act = e->params->act,
                              .kv = e->params->kv};
    snug_err code = snug_context_create(s->model, &cp, &s->ctx, err);
    return code ? code : snug_seq_create(s->ctx, &s->seq, err);
}

static void side_close(side *s) {
    snug_seq_destroy(&s->seq);
    snug_context_destroy(&s->ctx);
}

/* Positions [begin, end) of a window's tokens; logits where the next token is scored. */
static snug_err side_decode(side *s, const evaluation *e, const int32_t *window, uint32_t begin, uint32_t end,
                            snug_item *items, snug_error *err) {
    for (uint32_t i = begin; i < end; i++) {
        int32_t token = i == 0 && e->bos >= 0 ? e->bos : window[i];
        items[i - begin] =
            (snug_item){.seq = s->seq, .token = token, .pos = i, .wants_logits = i + 1 >= e->win.first_target};
    }
    return snug_decode(s->ctx, items, end - begin, err);
}

typedef struct score_job {
    evaluation *e;
    const int32_t *window;
    uint32_t begin; /* the position of batch item 0 */
} score_job;

/* Batch items [begin, end): what each predicts for the token after it. */
static void score_items(void *p, size_t begin, size_t end, int worker) {
    score_job *job = p;
    evaluation *e = job->e;
    for (size_t i = begin; i < end; i++) {
        const float *logits = snug_logits(e->model.ctx, i);
        score *s = &e->token_score[i];
        *s = (score){0};
        if (!logits) continue;
        int32_t target = job->window[job->begin + i + 1];
        s->nll = nll_of(logits, e->n_vocab, target);
        if (!e->ref.model) continue;
        const float *ref = snug_logits(e->ref.ctx, i);
        divergence d = divergence_of(ref, logits, e->n_vocab);
        s->nll_ref = nll_of(ref, e->n_vocab, target);
        s->kl = d.kl;
        s->js = d.js;
        s->top1 = d.same_top;
    }
}

static void add(score *to, const score *s) {
    to->nll += s->nll;
    to->nll_ref += s->nll_ref;
    to->kl += s->kl;
    to->js += s->js;
    to->top1 += s->top1;
}

static snug_err score_window(evaluation *e, size_t w, snug_item *items, snug_error *err) {
    const int32_t *window = e->tokens + w * e->win.step;
    snug_err code = snug_seq_truncate(e->model.seq, 0, err);
    if (!code && e->ref.model) code = snug_seq_truncate(e->ref.seq, 0, err);
    uint32_t last = e->win.n_ctx - 1; /* nothing is scored after the window's last token */
    size_t scored = 0;
    for (uint32_t begin = 0; !code && begin < last; begin += e->batch) {
        uint32_t end = last - begin < e->batch ? last : begin + e->batch;
        code = side_decode(&e->model, e, window, begin, end, items, err);
        if (!code && e->ref.model) code = side_decode(&e->ref, e, window, begin, end, items, err);
        if (code) break;
        score_job job = {.e = e, .window = window, .begin = begin};
        int threads = e->params->threads > 0 ? e->params->threads : thread_default_count();
        thread_for(threads, end - begin, 4, score_items, &job);
        for (uint32_t i = begin; i < end; i++) { /* in order: the same sums for any number of threads */
            if (i + 1 < e->win.first_target) continue;
            const score *s = &e->token_score[i - begin];
            if (!isfinite(s->nll) || !isfinite(s->nll_ref) || !isfinite(s->kl) || !isfinite(s->js))
                return err_set(err, SNUG_ERR_NUMERIC,
                               "token %zu of the text: the %s gives no finite probability for it",
                               w * e->win.step + i + 1, isfinite(s->nll_ref) ? "model" : "reference");
            add(&e->window_sum[w], s);
            if (w == 0) {
                score square = {s->nll * s->nll, 0, s->kl * s->kl, s->js * s->js, s->top1 * s->top1};
                add(&e->first_squares, &square);
            }
            if (e->kl) e->kl[w * e->win.n_scored + scored] = s->kl;
            scored++;
        }
        code = meter_update(&e->meter, (uint64_t)w * last + end, NULL, err);
    }
    return code;
}

/* ------------------------------------------------------------- the result ---- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Mean and interval of one field of the windows' scores; `field` is its offset in score. */
static snug_stat field_stat(const evaluation *e, size_t field, double *scratch) {
    for (size_t w = 0; w < e->win.count; w++) {
        memcpy(&scratch[w], (const char *)&e->window_sum[w] + field, sizeof *scratch);
        scratch[w] /= e->win.n_scored;
    }
    double squares, mean = scratch[0];
    memcpy(&squares, (const char *)&e->first_squares + field, sizeof squares);
    double variance = squares / e->win.n_scored - mean * mean;
    return clustered_mean(scratch, e->win.count, variance > 0 ? sqrt(variance) : 0, e->win.n_scored);
}

static snug_err summarize(evaluation *e, snug_eval_result *out, snug_error *err) {
    size_t n = e->win.count * e->win.n_scored;
    double *scratch = malloc(e->win.count * sizeof *scratch);
    if (!scratch) return err_nomem(err, e->win.count * sizeof *scratch);
    out->tokens = n;
    out->nll = field_stat(e, offsetof(score, nll), scratch);
    out->ppl = exp(out->nll.value);
    out->ppl_lo = exp(out->nll.value - out->nll.ci95);
    out->ppl_hi = exp(out->nll.value + out->nll.ci95);
    if (e->ref.model) {
        out->has_ref = true;
        out->ppl_ref = exp(field_stat(e, offsetof(score, nll_ref), scratch).value);
        out->kl = field_stat(e, offsetof(score, kl), scratch);
        out->js = field_stat(e, offsetof(score, js), scratch);
        out->top1 = field_stat(e, offsetof(score, top1), scratch);
        qsort(e->kl, n, sizeof *e->kl, by_value);
        out->kl_median = quantile_sorted(e->kl, n, 0.5);
        out->kl_p99 = quantile_sorted(e->kl, n, 0.99);
        out->kl_max = e->kl[n - 1];
    }
    free(scratch);
    return SNUG_OK;
}

static snug_err allocate(evaluation *e, snug_item **items, snug_error *err) {
    uint64_t fit = LOGITS_BYTES / sizeof(float) / 2 / (e->n_vocab ? e->n_vocab : 1);
    e->batch = e->win.n_ctx - 1 < MAX_BATCH ? e->win.n_ctx - 1 : MAX_BATCH;
    if (e->batch > fit) e->batch = fit ? (uint32_t)fit : 1;
    size_t n_scored = e->win.count * e->win.n_scored; /* <= tokens in memory */
    *items = malloc(e->batch * sizeof **items);
    e->token_score = malloc(e->batch * sizeof *e->token_score);
    e->window_sum = calloc(e->win.count, sizeof *e->window_sum);
    if (e->ref.model) e->kl = malloc(n_scored * sizeof *e->kl);
    if (!*items || !e->token_score || !e->window_sum || (e->ref.model && !e->kl))
        return err_nomem(err, n_scored * sizeof *e->kl);
    return SNUG_OK;
}

snug_err snug_eval(const snug_model *model, const snug_model *ref, const snug_eval_params *params,
                   snug_eval_result *out, snug_error *err) {
    if (!model || !params || !out)
        return err_set(err, SNUG_ERR_ARG, "snug_eval needs a model, parameters and a place for the result");
    if (!params->text_path) return err_set(err, SNUG_ERR_ARG, "snug_eval needs a text");
    *out = (snug_eval_result){0};
    evaluation e = {.params = params, .model = {.model = model}, .ref = {.model = ref}};
    snug_item *items = NULL;
    uint32_t n_ctx = params->n_ctx;
    if (n_ctx == 0) {
        uint32_t trained = snug_model_get_info(model)->n_ctx_train;
        n_ctx = trained && trained < DEFAULT_CTX ? trained : DEFAULT_CTX;
    }
    meter_init(&e.meter, params->progress);
    snug_err code = check_models(&e, err);
    if (!code) code = read_tokens(&e, err);
    if (!code && (code = windows_plan(e.n_tokens, n_ctx, params->stride, &e.win, err)))
        err_prefix(err, code, "%s", params->text_path);
    if (!code) code = allocate(&e, &items, err);
    if (!code) code = side_open(&e.model, &e, err);
    if (!code && ref) code = side_open(&e.ref, &e, err);
    if (!code) {
        uint64_t total = (uint64_t)e.win.count * (e.win.n_ctx - 1);
        meter_begin(&e.meter, meter_add(&e.meter, "eval", "tokens", total, (double)total));
    }
    for (size_t w = 0; !code && w < e.win.count; w++) code = score_window(&e, w, items, err);
    if (!code) {
        meter_finish(&e.meter);
        code = summarize(&e, out, err);
    }
    side_close(&e.ref);
    side_close(&e.model);
    free(items);
    free(e.tokens);
    free(e.token_score);
    free(e.window_sum);
    free(e.kl);
    return code;
}
