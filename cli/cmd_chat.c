/* snug chat: a conversation through the model's own chat template. Every turn renders the whole conversation and feeds
 * it to the writer, which computes only what the cache does not hold yet. When it outgrows the context, the oldest
 * exchanges are forgotten. */
#include "generate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const command chat_command = {
    .name = "chat",
    .summary = "Talk with a model.",
    .usage = "chat MODEL [options]",
    .example = "snug chat small.snug\n"
               "printf 'Who wrote Emma?\\nAnd when?\\n' | snug chat small.snug --temp 0",
    .notes = "One line is one message. /reset begins anew, /help says what there is, /exit or the end of input ends. "
             "Ctrl-C stops an\n"
             "answer; at the prompt it ends the program.",
    .operand = "MODEL",
    .advice = "name a model folder or file, e.g. snug chat small.snug",
};

enum { DEFAULT_CTX = 4096 };

typedef struct talk {
    snug_model *model;
    const gen_options *gen;
    writer writer;
    snug_message *message; /* contents are owned */
    size_t n, cap, n_system;
} talk;

static bool add_message(talk *t, const char *role, const char *content) {
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 16;
        snug_message *grown = realloc(t->message, cap * sizeof *grown);
        if (!grown) return false;
        t->message = grown;
        t->cap = cap;
    }
    char *copy = strdup(content);
    if (!copy) return false;
    t->message[t->n++] = (snug_message){.role = role, .content = copy};
    return true;
}

/* Forgets messages [from, to). */
static void forget(talk *t, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) free((char *)(uintptr_t)t->message[i].content);
    memmove(t->message + from, t->message + to, (t->n - to) * sizeof *t->message);
    t->n -= to - from;
}

/* The conversation as tokens. Templates usually write the beginning-of-text token themselves: never two of them. */
static snug_err render(const talk *t, int32_t **ids, size_t *n_ids, snug_error *err) {
    char *text = NULL;
    snug_err code = snug_chat_render(t->model, t->message, t->n, true, &text, err);
    if (!code) code = tokenize_all(t->model, text, strlen(text), true, true, ids, n_ids, err);
    snug_free(text);
    int32_t bos = snug_token_bos(t->model);
    if (!code && *n_ids >= 2 && bos >= 0 && (*ids)[0] == bos && (*ids)[1] == bos)
        memmove(*ids, *ids + 1, --*n_ids * sizeof **ids);
    return code;
}

/* Renders; drops the oldest exchange until the conversation leaves room for an answer. */
static snug_err render_to_fit(talk *t, int32_t **ids, size_t *n_ids, snug_error *err) {
    size_t room = t->gen->n_predict < t->writer.n_ctx / 4 ? t->gen->n_predict : t->writer.n_ctx / 4;
    size_t forgotten = 0;
    for (;;) {
        snug_err code = render(t, ids, n_ids, err);
        if (code) return code;
        if (*n_ids + room <= t->writer.n_ctx) break;
        free(*ids);
        *ids = NULL;
        if (t->n - t->n_system < 3) {
            *err = (snug_error){.code = SNUG_ERR_BUDGET};
            snprintf(err->message, sizeof err->message,
                     "the message is longer (%zu tokens) than the context (%u) allows; shorten it or start with a "
                     "larger --ctx",
                     *n_ids, t->writer.n_ctx);
            return err->code;
        }
        forget(t, t->n_system, t->n_system + 2);
        forgotten += 2;
    }
    if (forgotten) fprintf(stderr, "[the context is full: the oldest %zu messages are forgotten]\n", forgotten);
    return SNUG_OK;
}

static snug_err answer(talk *t, const char *line, snug_error *err) {
    int32_t *ids = NULL;
    size_t n_ids = 0;
    stop_reason why;
    progress_view view;
    progress_open(&view, false);
    if (!add_message(t, "user", line)) {
        *err = (snug_error){.code = SNUG_ERR_NOMEM, .message = "out of memory"};
        return err->code;
    }
    snug_err code = render_to_fit(t, &ids, &n_ids, err);
    if (!code && n_ids == 0) {
        *err = (snug_error){.code = SNUG_ERR_FORMAT, .message = "the model's chat template gives an empty text"};
        code = err->code;
    }
    if (!code) code = writer_feed(&t->writer, ids, n_ids, progress_to(&view), err);
    progress_close(&view);
    if (!code) code = writer_write(&t->writer, stdout, &why, err);
    free(ids);
    if (code) { /* as if the line had not been said */
        forget(t, t->n - 1, t->n);
        return code;
    }
    putchar('\n');
    fflush(stdout);
    if (why == STOP_CONTEXT) fprintf(stderr, "[the context is full: /reset, or start with a larger --ctx]\n");
    if (why == STOP_LENGTH) fprintf(stderr, "[stopped after %zu tokens: -n allows more]\n", t->writer.n_decode);
    if (!add_message(t, "assistant", t->writer.text ? t->writer.text : "")) {
        *err = (snug_error){.code = SNUG_ERR_NOMEM, .message = "out of memory"};
        code = err->code;
    }
    return code;
}

/* True: the line was a command. */
static bool obey(talk *t, const char *line, bool *leave) {
    if (strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0) {
        *leave = true;
    } else if (strcmp(line, "/reset") == 0) {
        forget(t, t->n_system, t->n);
        fprintf(stderr, "[a new conversation]\n");
    } else if (strcmp(line, "/help") == 0) {
        fprintf(stderr, "/reset  begin a new conversation\n/exit   leave (so does Ctrl-D)\n/help   this\nCtrl-C stops "
                        "an answer.\n");
    } else {
        return false;
    }
    return true;
}

static int converse(talk *t) {
    char *line = NULL;
    size_t cap = 0;
    bool leave = false, on_terminal = isatty(STDIN_FILENO);
    int exit_code = EXIT_OK;
    while (!leave) {
        if (on_terminal) {
            fputs("> ", stderr);
            fflush(stderr);
        }
        ssize_t len = getline(&line, &cap, stdin);
        if (len < 0) { /* the end of input, or Ctrl-C */
            if (on_terminal) fputc('\n', stderr);
            break;
        }
        while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r')) line[--len] = 0;
        if (len == 0 || obey(t, line, &leave)) continue;
        if (line[0] == '/' && !strchr(line, ' ')) {
            fprintf(stderr, "[unknown command %s; /help lists them]\n", line);
            continue;
        }
        snug_error err = {0};
        snug_err code = answer(t, line, &err);
        if (code && code != SNUG_ERR_CANCELLED) {
            exit_code = report_error(&chat_command, &err, false);
            if (!on_terminal || code != SNUG_ERR_BUDGET) break; /* a message that is too long is no reason to leave */
            exit_code = EXIT_OK;
        }
        if (interrupted()) {
            fprintf(stderr, "[stopped]\n");
            clear_interrupt();
        }
        if (ferror(stdout)) break;
    }
    free(line);
    return exit_code ? exit_code : finish_stdout(&chat_command, EXIT_OK);
}

int cmd_chat(int argc, char **argv) {
    gen_options gen = GEN_DEFAULTS;
    const char *path, *system = NULL;
    option opts[] = {
        {.name = "system", .kind = OPT_STRING, .value = &system, .arg = "TEXT", .help = "the system message"},
        GEN_OPTIONS(&gen),
    };
    talk t = {.gen = &gen};
    snug_model *model = NULL;
    int exit_code;
    gen.n_predict = 1024;
    if (!options_parse(&chat_command, opts, COUNT_OF(opts), &path, argc, argv, &exit_code)) goto done;
    bool seed_given = false;
    for (size_t i = 0; i < COUNT_OF(opts); i++)
        if (strcmp(opts[i].name, "seed") == 0) seed_given = opts[i].given;
    if (!seed_given) gen.seed = seed_from_clock();

    catch_interrupts();
    snug_error err = {0};
    snug_err code = snug_model_open(path, &model, &err);
    if (!code) {
        t.model = model;
        uint32_t trained = snug_model_get_info(model)->n_ctx_train;
        uint32_t n_ctx = gen.ctx ? gen.ctx : trained && trained < DEFAULT_CTX ? trained : DEFAULT_CTX;
        /* Say at once, not after the first line, that a model cannot chat. */
        char *probe = NULL;
        snug_message hello = {.role = "user", .content = "hello"};
        code = snug_chat_render(model, &hello, 1, true, &probe, &err);
        snug_free(probe);
        if (!code) code = writer_open(&t.writer, model, &gen, n_ctx, &err);
    }
    if (!code && system && !add_message(&t, "system", system)) {
        err = (snug_error){.code = SNUG_ERR_NOMEM, .message = "out of memory"};
        code = err.code;
    }
    t.n_system = t.n;
    if (!code && isatty(STDIN_FILENO))
        fprintf(stderr, "%s, context %u tokens. /help lists the commands.\n", path, t.writer.n_ctx);
    if (code) {
        exit_code = report_error(&chat_command, &err, false);
        if (code == SNUG_ERR_UNSUPPORTED)
            fprintf(stderr, "Models that were not trained to chat continue a text: snug run %s -p TEXT\n", path);
    } else {
        exit_code = converse(&t);
    }
done:
    if (t.n) forget(&t, 0, t.n);
    free(t.message);
    writer_close(&t.writer);
    snug_model_close(&model);
    free(gen.stops.item);
    return exit_code;
}
