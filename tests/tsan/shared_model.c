/* What snug.h promises about threads, for ThreadSanitizer: a model is shared by threads of the program's own, each with its context
 * (which has threads too), sequences, tokens and chat. The first use of everything lazy falls into the threads. All must get
 * the same ids, logits and text.
 *
 *     shared_model MODEL */
#include <pthread.h>
#include <snug.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USERS = 3, N_TOKENS = 24, N_CTX = 96, IDS = 4096 };

typedef struct user {
    const char *path;
    const snug_model *model;
    char failure[320];
    int32_t ids[IDS];
    size_t n_ids;
    float *logits; /* (n_vocab) of the last token */
    char *chat;
} user;

static bool failed(user *u, snug_err rc, const char *what, const snug_error *err) {
    if (rc) snprintf(u->failure, sizeof u->failure, "%s: %s", what, err->message);
    return rc != SNUG_OK;
}

/* Long enough for the tokenizer's cache, with everything that its tables hold. */
static void talk(user *u, snug_error *err) {
    char text[4000], back[sizeof text];
    size_t n = 0, at = 0;
    while (at + 64 < sizeof text)
        at += (size_t)snprintf(text + at, sizeof text - at, "Once upon %zu times, n\xc3\xa4mlich \xe4\xb8\xad ...\n", at);
    if (failed(u, snug_tokenize(u->model, text, at, true, true, u->ids, IDS, &u->n_ids, err), "tokenize", err)) return;
    if (failed(u, snug_detokenize(u->model, u->ids, u->n_ids, true, back, sizeof back, &n, err), "detokenize", err)) return;
    snug_message said[] = {{"user", "Hello"}, {"assistant", "Hi"}, {"user", "And?"}};
    failed(u, snug_chat_render(u->model, said, 3, true, &u->chat, err), "chat", err);
}

/* A sequence, and a fork of it that goes another way in the same batches. */
static void decode(user *u, snug_context *ctx, snug_error *err) {
    snug_seq *seq = NULL, *fork = NULL;
    if (failed(u, snug_seq_create(ctx, &seq, err), "sequence", err)) return;
    for (uint32_t i = 0; i < N_TOKENS; i++) {
        snug_item items[] = {{seq, u->ids[i], i, i + 1 == N_TOKENS}, {fork, u->ids[i + 1], i, false}};
        if (failed(u, snug_decode(ctx, items, fork ? 2 : 1, err), "decode", err)) break;
        if (i == 4 && failed(u, snug_seq_fork(seq, &fork, err), "fork", err)) break;
    }
    size_t n = snug_model_get_info(u->model)->n_vocab;
    const float *logits = u->failure[0] ? NULL : snug_logits(ctx, 0);
    if (logits && (u->logits = malloc(n * sizeof *logits))) memcpy(u->logits, logits, n * sizeof *logits);
    snug_seq_destroy(&fork);
    snug_seq_destroy(&seq);
}

static void *use(void *arg) {
    user *u = arg;
    snug_error err = {0};
    snug_model *own = NULL; /* opening is independent of what others do */
    snug_context *ctx = NULL;
    snug_context_params params = {.n_ctx = N_CTX, .max_seqs = 2, .max_batch = 8, .threads = 2};
    talk(u, &err);
    if (!u->failure[0]) failed(u, snug_model_open(u->path, &own, &err), "open", &err);
    if (!u->failure[0]) failed(u, snug_context_create(u->model, &params, &ctx, &err), "context", &err);
    if (!u->failure[0]) decode(u, ctx, &err);
    snug_context_destroy(&ctx);
    snug_model_close(&own);
    return NULL;
}

static bool same(const user *a, const user *b, size_t n_vocab) {
    return a->n_ids == b->n_ids && memcmp(a->ids, b->ids, a->n_ids * sizeof *a->ids) == 0 && a->logits && b->logits &&
           memcmp(a->logits, b->logits, n_vocab * sizeof *a->logits) == 0 && strcmp(a->chat, b->chat) == 0;
}

int main(int argc, char **argv) {
    static user users[USERS];
    snug_error err = {0};
    snug_model *model = NULL;
    pthread_t thread[USERS];
    int started = 0, bad = 0;
    if (argc != 2 || snug_model_open(argv[1], &model, &err)) {
        fprintf(stderr, "shared_model: %s\n", argc == 2 ? err.message : "give it a model");
        return 2;
    }
    for (; started < USERS; started++) {
        users[started].path = argv[1];
        users[started].model = model;
        if (pthread_create(&thread[started], NULL, use, &users[started])) break;
    }
    for (int i = 0; i < started; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < USERS; i++) {
        const char *what = users[i].failure;
        if (!what[0] && !same(&users[0], &users[i], snug_model_get_info(model)->n_vocab)) what = "not what thread 0 has";
        if (what[0]) fprintf(stderr, "shared_model: thread %d: %s\n", i, what), bad = 1;
        free(users[i].logits);
        snug_free(users[i].chat);
    }
    snug_model_close(&model);
    return bad || started < USERS;
}
