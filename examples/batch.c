/* Several texts at once, as a server would write them: each has its prompt and its sampler, all share the passes over
 * the weights. Texts of any length and age are mixed; a text's tokens are those that it would have alone.
 *
 *     batch MODEL N_TOKENS "first prompt" "second prompt" ...
 *
 * Uses nothing but snug.h. Drafts by lookup are on: passages that repeat themselves come faster. */
#include <snug.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_CTX = 256, MAX_TEXTS = 16 };

typedef struct job {
    snug_text *text;
    snug_sampler *sampler;
    size_t n_prompt, n_wanted;
} job;

static snug_err job_open(job *j, const snug_model *model, snug_context *ctx, const char *prompt, size_t n_wanted,
                         uint64_t seed, snug_error *err) {
    int32_t ids[N_CTX];
    size_t n = 0;
    snug_sampler_params sampling = {
        .temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .repeat_penalty = 1.1f, .repeat_last = 64, .seed = seed};
    snug_err rc = snug_sampler_create(&sampling, snug_model_get_info(model)->n_vocab, &j->sampler, err);
    if (!rc) rc = snug_text_create(ctx, &j->text, err);
    if (!rc) rc = snug_tokenize(model, prompt, strlen(prompt), true, false, ids, N_CTX, &n, err);
    if (rc) return rc;
    if (n == 0 || n > N_CTX) {
        snprintf(err->message, sizeof err->message, "a prompt has %zu tokens, this program takes 1 to %d", n, N_CTX);
        return SNUG_ERR_ARG;
    }
    j->n_prompt = n;
    j->n_wanted = n + n_wanted < N_CTX ? n + n_wanted : N_CTX;
    for (size_t i = 0; i < n; i++) snug_sampler_accept(j->sampler, ids[i]);
    return snug_text_append(j->text, ids, n, err);
}

/* Takes all tokens that need no further pass. *waits: the text goes on after the next one. */
static snug_err job_advance(job *j, const snug_model *model, bool *waits, snug_error *err) {
    size_t n;
    *waits = false;
    for (snug_text_tokens(j->text, &n); n < j->n_wanted; n++) {
        int32_t next;
        const float *logits = snug_text_logits(j->text);
        if (!logits) {
            *waits = true;
            return SNUG_OK;
        }
        snug_err rc = snug_sampler_pick(j->sampler, logits, &next, err);
        if (rc) return rc;
        if (snug_token_is_eog(model, next)) return SNUG_OK;
        snug_sampler_accept(j->sampler, next);
        if ((rc = snug_text_append(j->text, &next, 1, err))) return rc; /* a server would send it now */
    }
    return SNUG_OK;
}

static void job_print(const job *j, const snug_model *model) {
    char text[8 * N_CTX];
    size_t n, bytes = 0;
    const int32_t *ids = snug_text_tokens(j->text, &n);
    snug_draft_stats d = snug_text_draft_stats(j->text);
    if (snug_detokenize(model, ids, n, false, text, sizeof text, &bytes, NULL) || bytes > sizeof text) return;
    printf("%.*s\n    [%zu tokens, %llu of them drafted]\n\n", (int)bytes, text, n - j->n_prompt,
           (unsigned long long)d.accepted);
}

/* Passes until no text waits for one. New texts could join before any of them. */
static snug_err write_all(job *jobs, size_t n_jobs, const snug_model *model, snug_error *err) {
    bool done[MAX_TEXTS] = {false};
    for (;;) {
        snug_text *waiting[MAX_TEXTS];
        size_t n = 0;
        for (size_t i = 0; i < n_jobs; i++) {
            bool waits = false;
            snug_err rc = done[i] ? SNUG_OK : job_advance(&jobs[i], model, &waits, err);
            if (rc) return rc;
            if (waits)
                waiting[n++] = jobs[i].text;
            else
                done[i] = true;
        }
        if (n == 0) return SNUG_OK;
        snug_err rc = snug_text_decode(waiting, n, err);
        if (rc) return rc;
    }
}

int main(int argc, char **argv) {
    if (argc < 4 || argc > 3 + MAX_TEXTS) {
        fprintf(stderr, "usage: batch MODEL N_TOKENS PROMPT...     (at most %d prompts)\n", MAX_TEXTS);
        return 2;
    }
    snug_error err = {0};
    snug_model *model = NULL;
    snug_context *ctx = NULL;
    job jobs[MAX_TEXTS] = {{0}};
    size_t n_jobs = (size_t)argc - 3;
    snug_context_params params = {.n_ctx = N_CTX, .max_seqs = (uint32_t)n_jobs, .draft = SNUG_DRAFT_LOOKUP};

    snug_err rc = snug_model_open(argv[1], &model, &err);
    if (!rc) rc = snug_context_create(model, &params, &ctx, &err);
    for (size_t i = 0; !rc && i < n_jobs; i++)
        rc = job_open(&jobs[i], model, ctx, argv[3 + i], strtoul(argv[2], NULL, 10), i, &err);
    if (!rc) rc = write_all(jobs, n_jobs, model, &err);
    for (size_t i = 0; !rc && i < n_jobs; i++) job_print(&jobs[i], model);
    if (rc) fprintf(stderr, "batch: %s\n", err.message);
    for (size_t i = 0; i < n_jobs; i++) {
        snug_text_destroy(&jobs[i].text);
        snug_sampler_destroy(&jobs[i].sampler);
    }
    snug_context_destroy(&ctx);
    snug_model_close(&model);
    return rc ? 1 : 0;
}
