/* Generates text with libsnug: open a model, turn a prompt into tokens, decode one token after the other, print.
 *
 *     generate MODEL "Once upon a time" [N_TOKENS]
 *
 * MODEL is anything that opens: a Hugging Face folder, a GGUF file, a snug artifact. Uses nothing but snug.h. */
#include <snug.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_CTX = 256, BATCH = 64 };

/* Feeds n tokens in batches; logits of the last one are asked for. Returns that item's number in the last batch, or a
 * negative error. */
static int feed(snug_context *ctx, snug_seq *seq, const int32_t *ids, size_t n, snug_error *err) {
    snug_item items[BATCH];
    size_t in_batch = 0;
    for (size_t i = 0; i < n; i++) {
        items[in_batch] = (snug_item){
            .seq = seq, .token = ids[i], .pos = snug_seq_length(seq) + (uint32_t)in_batch, .wants_logits = i + 1 == n};
        if (++in_batch < BATCH && i + 1 < n) continue;
        snug_err rc = snug_decode(ctx, items, in_batch, err);
        if (rc) return rc;
        if (i + 1 < n) in_batch = 0;
    }
    return (int)in_batch - 1;
}

/* Prints a token's bytes as they come: a character may be spread over several tokens, and a terminal puts it together.
 */
static void print_token(const snug_model *model, int32_t id) {
    char text[256];
    size_t n = 0;
    if (snug_detokenize(model, &id, 1, false, text, sizeof text, &n, NULL) == SNUG_OK && n <= sizeof text)
        fwrite(text, 1, n, stdout);
    fflush(stdout);
}

static int generate(const snug_model *model, snug_context *ctx, snug_sampler *sampler, const char *prompt, int n_tokens,
                    snug_error *err) {
    int32_t ids[N_CTX];
    size_t n = 0;
    snug_seq *seq = NULL;
    snug_err rc = snug_tokenize(model, prompt, strlen(prompt), true, false, ids, N_CTX, &n, err);
    if (rc) return rc;
    if (n == 0 || n > N_CTX) {
        snprintf(err->message, sizeof err->message, "the prompt has %zu tokens, this program takes 1 to %d", n, N_CTX);
        return SNUG_ERR_ARG;
    }
    if ((rc = snug_seq_create(ctx, &seq, err))) return rc;
    for (size_t i = 0; i < n; i++) snug_sampler_accept(sampler, ids[i]);
    int at = feed(ctx, seq, ids, n, err);
    for (int i = 0; at >= 0 && i < n_tokens && snug_seq_length(seq) < N_CTX; i++) {
        int32_t next;
        if ((rc = snug_sampler_pick(sampler, snug_logits(ctx, (size_t)at), &next, err))) break;
        if (snug_token_is_eog(model, next)) break;
        snug_sampler_accept(sampler, next);
        print_token(model, next);
        at = feed(ctx, seq, &next, 1, err);
    }
    putchar('\n');
    snug_seq_destroy(&seq);
    return at < 0 ? at : (int)rc;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: generate MODEL PROMPT [N_TOKENS]\n");
        return 2;
    }
    snug_error err = {0};
    snug_model *model = NULL;
    snug_context *ctx = NULL;
    snug_sampler *sampler = NULL;
    snug_context_params params = {.n_ctx = N_CTX, .max_batch = BATCH};
    snug_sampler_params sampling = {
        .temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .repeat_penalty = 1.1f, .repeat_last = 64};

    int rc = snug_model_open(argv[1], &model, &err);
    if (!rc) rc = snug_context_create(model, &params, &ctx, &err);
    if (!rc) rc = snug_sampler_create(&sampling, snug_model_get_info(model)->n_vocab, &sampler, &err);
    if (!rc) {
        printf("%s", argv[2]);
        rc = generate(model, ctx, sampler, argv[2], argc > 3 ? atoi(argv[3]) : 100, &err);
    }
    if (rc) fprintf(stderr, "generate: %s\n", err.message);
    snug_sampler_destroy(&sampler);
    snug_context_destroy(&ctx);
    snug_model_close(&model);
    return rc ? 1 : 0;
}
