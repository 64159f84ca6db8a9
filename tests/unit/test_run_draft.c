// rooms: base format token kern codec kv model run
/* Texts and drafts: whatever drafts, the tokens that are picked and the logits that they are picked from are those of
 * plain decoding, bit for bit, greedy or drawn; at the context's end, at the end of a generation, after what was
 * drafted is not taken, truncated or forked, with other texts in the batch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <snug.h>

#include "tempfile.h"

enum { PROMPT = 40, LONGEST = 400 };

static const snug_sampler_params greedy = {.top_p = 1, .repeat_penalty = 1},
                                 penalised = {.top_p = 1, .repeat_penalty = 1.3f, .repeat_last = 24},
                                 drawn = {.temperature = 0.8f,
                                          .top_k = 40,
                                          .top_p = 0.95f,
                                          .min_p = 0.02f,
                                          .repeat_penalty = 1.1f,
                                          .repeat_last = 64,
                                          .seed = 7},
                                 surer = {.temperature = 0.2f, .top_k = 3, .top_p = 1, .repeat_penalty = 1, .seed = 9};

static void must(snug_err rc, const snug_error *err) {
    if (rc) fail_msg("%s: %s", snug_err_name(rc), err->message);
}

static snug_model *open_model(const char *name) {
    char path[600];
    snug_model *m = NULL;
    snug_error err;
    if (name[0] == '/')
        snprintf(path, sizeof path, "%s", name);
    else
        snprintf(path, sizeof path, "%s/%s", SNUG_SOURCE_DIR, name);
    must(snug_model_open(path, &m, &err), &err);
    return m;
}

static snug_context *make(const snug_model *m, snug_context_params p) {
    snug_context *c = NULL;
    snug_error err;
    if (!p.threads) p.threads = 1;
    must(snug_context_create(m, &p, &c, &err), &err);
    return c;
}

static snug_sampler *make_sampler(const snug_model *m, const snug_sampler_params *p) {
    snug_sampler *s = NULL;
    snug_error err;
    must(snug_sampler_create(p, snug_model_get_info(m)->n_vocab, &s, &err), &err);
    return s;
}

/* A prompt that repeats itself, so that there is something to look up from the start. */
static void make_prompt(const snug_model *m, int32_t *ids) {
    uint32_t n_vocab = snug_model_get_info(m)->n_vocab;
    for (int i = 0; i < PROMPT; i++) ids[i] = (int32_t)(((uint32_t)(i % 13) * 37 + 11) % n_vocab);
}

/* ------------------------------------------------------------- reference ---- */

typedef struct written {
    uint32_t n; /* tokens after the prompt */
    int32_t token[LONGEST];
    float *logits; /* (n, n_vocab), what each was picked from; NULL: not kept */
} written;

/* One token per pass, by snug_decode alone. Stops before `eog`. */
static written write_plainly(const snug_model *m, const snug_sampler_params *sp, uint32_t n, uint32_t n_ctx,
                             int32_t eog) {
    size_t n_vocab = snug_model_get_info(m)->n_vocab;
    written w = {.logits = malloc(n * n_vocab * sizeof(float))};
    snug_context *c = make(m, (snug_context_params){.n_ctx = n_ctx, .max_batch = PROMPT});
    snug_sampler *s = make_sampler(m, sp);
    snug_seq *seq = NULL;
    snug_error err;
    int32_t ids[PROMPT];
    snug_item items[PROMPT];
    make_prompt(m, ids);
    must(snug_seq_create(c, &seq, &err), &err);
    for (uint32_t i = 0; i < PROMPT; i++) {
        items[i] = (snug_item){seq, ids[i], i, i == PROMPT - 1};
        snug_sampler_accept(s, ids[i]);
    }
    must(snug_decode(c, items, PROMPT, &err), &err);
    const float *logits = snug_logits(c, PROMPT - 1);
    while (w.n < n && PROMPT + w.n < n_ctx) {
        int32_t token;
        must(snug_sampler_pick(s, logits, &token, &err), &err);
        if (token == eog) break;
        memcpy(w.logits + w.n * n_vocab, logits, n_vocab * sizeof(float));
        w.token[w.n++] = token;
        snug_sampler_accept(s, token);
        if (w.n == n || PROMPT + w.n == n_ctx) break;
        items[0] = (snug_item){seq, token, PROMPT + w.n - 1, true};
        must(snug_decode(c, items, 1, &err), &err);
        logits = snug_logits(c, 0);
    }
    snug_seq_destroy(&seq);
    snug_sampler_destroy(&s);
    snug_context_destroy(&c);
    return w;
}

/* --------------------------------------------------------- through texts ---- */

typedef struct author { /* a text and who picks for it */
    snug_text *text;
    snug_sampler *sampler;
    written w;
} author;

static author make_author(const snug_model *m, snug_context *c, const snug_sampler_params *sp) {
    author a = {.sampler = make_sampler(m, sp)};
    snug_error err;
    int32_t ids[PROMPT];
    make_prompt(m, ids);
    must(snug_text_create(c, &a.text, &err), &err);
    must(snug_text_append(a.text, ids, PROMPT, &err), &err);
    for (int i = 0; i < PROMPT; i++) snug_sampler_accept(a.sampler, ids[i]);
    return a;
}

static void drop_author(author *a) {
    snug_text_destroy(&a->text);
    snug_sampler_destroy(&a->sampler);
    assert_null(a->text);
}

/* Takes what logits there are, up to n tokens in all. True: it wants a pass. */
static bool write_on(author *a, uint32_t n, int32_t eog, const written *expected, size_t n_vocab) {
    const float *logits;
    snug_error err;
    while (a->w.n < n) {
        int32_t token;
        if (!(logits = snug_text_logits(a->text))) return true;
        must(snug_sampler_pick(a->sampler, logits, &token, &err), &err);
        if (token == eog) break;
        assert_true(a->w.n < expected->n);
        assert_int_equal(token, expected->token[a->w.n]);
        assert_memory_equal(logits, expected->logits + a->w.n * n_vocab, n_vocab * sizeof(float));
        a->w.token[a->w.n++] = token;
        snug_sampler_accept(a->sampler, token);
        must(snug_text_append(a->text, &token, 1, &err), &err);
    }
    return false;
}

static snug_draft_stats compare(const snug_model *m, snug_context_params p, const snug_sampler_params *sp,
                                const written *expected, uint32_t n, int32_t eog) {
    snug_context *c = make(m, p);
    author a = make_author(m, c, sp);
    snug_error err;
    while (write_on(&a, n, eog, expected, snug_model_get_info(m)->n_vocab))
        must(snug_text_decode(&a.text, 1, &err), &err);
    assert_int_equal(a.w.n, expected->n);
    snug_draft_stats d = snug_text_draft_stats(a.text);
    assert_true(d.accepted <= d.drafted);
    drop_author(&a);
    snug_context_destroy(&c);
    return d;
}

enum { TALL_LAYERS = 24 };

static void *read_file(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *p = malloc(*n + 1);
    assert_int_equal(fread(p, 1, *n, f), *n);
    fclose(f);
    p[*n] = 0;
    return p;
}

static void copy_file(const char *dir, const char *name, const char *from, const char *to) {
    size_t n;
    char *text = read_file(temp_path(SNUG_SOURCE_DIR "/models/demo", name), &n), *at = from ? strstr(text, from) : NULL;
    FILE *f = fopen(temp_path(dir, name), "wb");
    assert_non_null(f);
    if (at)
        fprintf(f, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    else
        fwrite(text, 1, n, f);
    fclose(f);
    free(text);
}

/* The demo model with more layers, which add nothing (their o and down are 0): the demo model is a draft for it that is
 * right as often as a good one and takes a fraction of its time. */
static void make_tall(const char *dir) {
    size_t n, at = 0;
    char *file = read_file(SNUG_SOURCE_DIR "/models/demo/model.safetensors", &n), *data, *added, name[128], layers[64];
    uint64_t head_bytes;
    memcpy(&head_bytes, file, 8);
    data = file + 8 + head_bytes;
    size_t had = n - 8 - head_bytes;
    added = calloc(TALL_LAYERS, had / 4); /* a layer is less than a quarter */
    json_t *head = json_loadb(file + 8, head_bytes, 0, NULL), *all = json_deep_copy(head), *tensor;
    const char *key;
    json_object_foreach(head, key, tensor) {
        if (strncmp(key, "model.layers.3.", 15) != 0) continue;
        json_t *range = json_object_get(tensor, "data_offsets");
        size_t from = (size_t)json_integer_value(json_array_get(range, 0)),
               bytes = (size_t)json_integer_value(json_array_get(range, 1)) - from;
        for (int layer = 4; layer < TALL_LAYERS; layer++, at += bytes) {
            json_t *copy = json_deep_copy(tensor);
            if (!strstr(key, "o_proj") && !strstr(key, "down_proj")) memcpy(added + at, data + from, bytes);
            json_object_set_new(copy, "data_offsets",
                                json_pack("[I,I]", (json_int_t)(had + at), (json_int_t)(had + at + bytes)));
            snprintf(name, sizeof name, "model.layers.%d.%s", layer, key + 15);
            json_object_set_new(all, name, copy);
        }
    }
    char *text = json_dumps(all, JSON_COMPACT);
    head_bytes = strlen(text);
    FILE *f = fopen(temp_path(dir, "model.safetensors"), "wb");
    assert_non_null(f);
    fwrite(&head_bytes, 8, 1, f);
    fwrite(text, 1, head_bytes, f);
    fwrite(data, 1, had, f);
    fwrite(added, 1, at, f);
    fclose(f);
    snprintf(layers, sizeof layers, "\"num_hidden_layers\": %d", TALL_LAYERS);
    copy_file(dir, "config.json", "\"num_hidden_layers\": 4", layers);
    copy_file(dir, "tokenizer.json", NULL, NULL);
    copy_file(dir, "tokenizer_config.json", NULL, NULL);
    free(text);
    json_decref(head);
    json_decref(all);
    free(added);
    free(file);
}

/* Under sanitizers every third combination of the large model: the others run the same code. */
#ifdef __SANITIZE_ADDRESS__
enum { EVERY = 3 };
#else
enum { EVERY = 1 };
#endif

static void test_same_as_plain(void **state) {
    /* Models, and who drafts for them where it cannot be they themselves: the guesses of another are wrong, and what was read of them must be undone. */
    static const char *const names[] = {"models/demo",        "tests/golden/llama2", "tests/golden/llama3", "tests/golden/mistral",
                                        "tests/golden/qwen2", "tests/golden/qwen3",  "tests/golden/mamba2", "tests/golden/granitehybrid"};
    static const char *const others[] = {NULL, NULL, NULL, NULL, NULL, NULL, "tests/golden/qwen3", "tests/golden/granite"};
    const snug_sampler_params *const samplers[] = {&greedy, &penalised, &drawn, &surer};
    static const uint32_t draft_max[] = {0, 1, 3, 40};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        snug_model *m = open_model(names[k]), *other = others[k] ? open_model(others[k]) : NULL;
        uint64_t looked_up = 0, by_model = 0, drafted = 0;
        for (size_t s = k % 2; s < 4; s += other ? 4 : k ? 2 : EVERY) {
            uint32_t n = k ? 50 : 100;
            written w = write_plainly(m, samplers[s], n, 256, -1);
            for (size_t draft = 0; draft < 4; draft += k && !other ? 1 : EVERY) {
                snug_context_params p = {.n_ctx = 256, .max_draft = draft_max[draft], .max_batch = draft == 2 ? 7 : 64};
                if (draft == 0) compare(m, p, samplers[s], &w, n, -1);
                p.draft = SNUG_DRAFT_LOOKUP;
                looked_up += compare(m, p, samplers[s], &w, n, -1).accepted;
                p.draft = SNUG_DRAFT_MODEL;
                p.draft_model = other ? other : m;
                const snug_draft_stats d = compare(m, p, samplers[s], &w, n, -1);
                by_model += d.accepted, drafted += d.drafted;
            }
            free(w.logits);
        }
        print_message("%s: %llu tokens by lookup, %llu by a draft model\n", names[k], (unsigned long long)looked_up,
                      (unsigned long long)by_model);
        assert_true((other ? drafted : by_model) > 0 && (k > 0 || looked_up > 0)); /* the random ones do not repeat themselves */
        snug_model_close(&other);
        snug_model_close(&m);
    }
}

static void test_smaller_model(void **state) {
    char dir[600];
    snprintf(dir, sizeof dir, "%s", temp_dir_make());
    make_tall(dir);
    snug_model *m = open_model(dir), *small = open_model("models/demo");
    assert_int_equal(snug_model_get_info(m)->n_layers, TALL_LAYERS);
    const snug_sampler_params *const samplers[] = {&greedy, &surer};
    snug_draft_stats all = {0};
    for (int s = 0; s < 2; s++) {
        written w = write_plainly(m, samplers[s], 120, 256, -1);
        snug_context_params p = {.n_ctx = 256, .threads = 1 + s, .draft = SNUG_DRAFT_MODEL, .draft_model = small};
        snug_draft_stats d = compare(m, p, samplers[s], &w, 120, -1);
        all.drafted += d.drafted, all.accepted += d.accepted;
        free(w.logits);
    }
    print_message("a sixth of the layers: %llu of %llu drafted came true, of 240 written\n",
                  (unsigned long long)all.accepted, (unsigned long long)all.drafted);
    assert_true(all.accepted > 5); /* how many it is asked for is a matter of time */
    snug_model_close(&m);
    snug_model_close(&small);
    temp_dir_remove(dir);
}

/* The context is full in the middle of a draft, at every place of it. */
static void test_context_end(void **state) {
    snug_model *m = open_model("models/demo");
    for (uint32_t n_ctx = PROMPT; n_ctx < PROMPT + 60; n_ctx += 7) {
        written w = write_plainly(m, &surer, LONGEST, n_ctx, -1);
        assert_int_equal(w.n, n_ctx - PROMPT);
        snug_context_params p = {.n_ctx = n_ctx, .draft = SNUG_DRAFT_LOOKUP};
        compare(m, p, &surer, &w, w.n, -1);
        p = (snug_context_params){.n_ctx = n_ctx, .draft = SNUG_DRAFT_MODEL, .draft_model = m};
        compare(m, p, &surer, &w, w.n, -1);
        free(w.logits);
    }
    snug_context *c = make(m, (snug_context_params){.n_ctx = PROMPT, .draft = SNUG_DRAFT_LOOKUP});
    author a = make_author(m, c, &greedy);
    int32_t token = 5;
    snug_error err;
    assert_int_equal(snug_text_append(a.text, &token, 1, &err), SNUG_ERR_BUDGET);
    assert_non_null(strstr(err.message, "the context of 40 is full"));
    must(snug_text_decode(&a.text, 1, &err), &err);
    assert_non_null(snug_text_logits(a.text));
    drop_author(&a);
    snug_context_destroy(&c);
    snug_model_close(&m);
}

/* A generation that ends inside a draft, and goes on as another text (the next turn of a chat). */
static void test_end_inside_draft(void **state) {
    snug_model *m = open_model("models/demo");
    size_t n_vocab = snug_model_get_info(m)->n_vocab;
    written w = write_plainly(m, &greedy, 120, 256, -1);
    for (uint32_t end = 1; end < 120; end += 17) {
        written cut = w;
        int32_t eog = w.token[end];
        for (cut.n = 0; w.token[cut.n] != eog;) cut.n++;
        compare(m, (snug_context_params){.n_ctx = 256, .draft = SNUG_DRAFT_LOOKUP}, &greedy, &cut, 120, eog);
    }
    snug_context *c = make(m, (snug_context_params){.n_ctx = 256, .draft = SNUG_DRAFT_LOOKUP});
    author a = make_author(m, c, &greedy);
    snug_error err;
    for (uint32_t stop = 1; stop <= 120; stop += 13) { /* stopped anywhere, taken back, and written again */
        while (write_on(&a, stop, -1, &w, n_vocab)) must(snug_text_decode(&a.text, 1, &err), &err);
        uint32_t back = stop / 2;
        must(snug_text_truncate(a.text, PROMPT + back, &err), &err);
        a.w.n = back;
    }
    assert_int_equal(snug_text_truncate(a.text, 1000, &err), SNUG_ERR_ARG);
    drop_author(&a);
    snug_context_destroy(&c);
    free(w.logits);
    snug_model_close(&m);
}

/* Reading a prompt is given up after a part of it, and the rest comes later. */
static void test_cancelled(void **state) {
    snug_model *m = open_model("models/demo");
    written w = write_plainly(m, &surer, 40, 256, -1);
    int32_t ids[PROMPT];
    snug_error err;
    make_prompt(m, ids);
    for (int kind = 0; kind <= SNUG_DRAFT_MODEL; kind++) {
        snug_context *c = make(m, (snug_context_params){.n_ctx = 256,
                                                        .max_batch = 16,
                                                        .draft = (snug_draft)kind,
                                                        .draft_model = kind == SNUG_DRAFT_MODEL ? m : NULL});
        author a = make_author(m, c, &surer);
        must(snug_text_decode(&a.text, 1, &err), &err);
        assert_int_equal(snug_text_unread(a.text), PROMPT - 16);
        assert_null(snug_text_logits(a.text));
        must(snug_text_truncate(a.text, 20, &err), &err); /* 4 of them unread */
        must(snug_text_append(a.text, ids + 20, PROMPT - 20, &err), &err);
        while (write_on(&a, 40, -1, &w, snug_model_get_info(m)->n_vocab))
            must(snug_text_decode(&a.text, 1, &err), &err);
        assert_int_equal(a.w.n, 40);
        drop_author(&a);
        snug_context_destroy(&c);
    }
    free(w.logits);
    snug_model_close(&m);
}

/* Six texts in one context, three ways of picking, joined and left at different times; every one as if alone. */
static void test_many_texts(void **state) {
    snug_model *m = open_model("models/demo");
    size_t n_vocab = snug_model_get_info(m)->n_vocab;
    const snug_sampler_params *const samplers[] = {&greedy, &drawn, &surer};
    written w[3];
    snug_error err;
    for (int i = 0; i < 3; i++) w[i] = write_plainly(m, samplers[i], 100, 256, -1);
    for (int kind = 0; kind <= SNUG_DRAFT_MODEL; kind++)
        for (int narrow = 0; narrow < 2; narrow++) {
            snug_context *c = make(m, (snug_context_params){.n_ctx = 256,
                                                            .max_seqs = 6,
                                                            .max_batch = narrow ? 6 : 50,
                                                            .draft = (snug_draft)kind,
                                                            .draft_model = kind == SNUG_DRAFT_MODEL ? m : NULL});
            author a[6];
            snug_text *waiting[6];
            for (int i = 0; i < 6; i++) a[i] = make_author(m, c, samplers[i % 3]);
            for (int round = 0;; round++) {
                size_t n = 0;
                for (int i = 0; i < 6; i++)
                    if (round >= 3 * i && write_on(&a[i], 40 + 10 * (uint32_t)i, -1, &w[i % 3], n_vocab))
                        waiting[n++] = a[i].text;
                if (n)
                    must(snug_text_decode(waiting, n, &err), &err);
                else if (round > 15)
                    break;
            }
            for (int i = 0; i < 6; i++) {
                assert_int_equal(a[i].w.n, 40 + 10 * i);
                drop_author(&a[i]);
            }
            snug_context_destroy(&c);
        }
    for (int i = 0; i < 3; i++) free(w[i].logits);
    snug_model_close(&m);
}

/* A fork has the logits at once and goes its own way; logits that were not taken before another pass come again. */
static void test_fork_and_lost_logits(void **state) {
    snug_model *m = open_model("models/demo");
    size_t n_vocab = snug_model_get_info(m)->n_vocab;
    written w = write_plainly(m, &surer, 120, 256, -1);
    snug_error err;
    for (int kind = 0; kind <= SNUG_DRAFT_MODEL; kind++) {
        snug_context *c = make(m, (snug_context_params){.n_ctx = 256,
                                                        .max_seqs = 2,
                                                        .draft = (snug_draft)kind,
                                                        .draft_model = kind == SNUG_DRAFT_MODEL ? m : NULL});
        author a = make_author(m, c, &surer), b = {0};
        while (write_on(&a, 50, -1, &w, n_vocab)) must(snug_text_decode(&a.text, 1, &err), &err);
        must(snug_text_fork(a.text, &b.text, &err), &err);
        assert_int_equal(!snug_text_logits(a.text), !snug_text_logits(b.text));
        int32_t other[3] = {3, 1, 2};
        must(snug_text_append(b.text, other, 3, &err), &err);
        assert_int_equal(snug_text_unread(b.text), 3 + (snug_text_logits(a.text) ? 0 : snug_text_unread(a.text)));
        while (!snug_text_logits(b.text)) must(snug_text_decode(&b.text, 1, &err), &err);
        assert_null(snug_text_logits(a.text)); /* of an earlier pass */
        size_t n_a, n_b;
        const int32_t *ids = snug_text_tokens(a.text, &n_a);
        assert_memory_equal(ids, snug_text_tokens(b.text, &n_b), n_a * sizeof *ids);
        assert_int_equal(n_b, n_a + 3);
        while (write_on(&a, 120, -1, &w, n_vocab)) must(snug_text_decode(&a.text, 1, &err), &err);
        assert_int_equal(a.w.n, 120);
        snug_text_destroy(&b.text);
        drop_author(&a);
        snug_context_destroy(&c);
    }
    free(w.logits);
    snug_model_close(&m);
}

static void test_misuse(void **state) {
    snug_model *m = open_model("models/demo"), *stranger = open_model("tests/golden/llama3");
    snug_context *c = NULL, *c2;
    snug_text *a = NULL, *b = NULL, *none = NULL;
    snug_error err;
    const snug_context_params wrong[] = {{.draft = (snug_draft)3},
                                         {.draft = SNUG_DRAFT_MODEL},
                                         {.draft_model = m},
                                         {.draft = SNUG_DRAFT_LOOKUP, .max_draft = 1025}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(snug_context_create(m, &wrong[i], &c, &err), SNUG_ERR_ARG);
    snug_context_params p = {.n_ctx = 64, .threads = 1, .draft = SNUG_DRAFT_MODEL, .draft_model = stranger};
    assert_int_equal(snug_context_create(m, &p, &c, &err), SNUG_ERR_MISMATCH);
    assert_null(c);
    assert_non_null(strstr(err.message, "the draft model"));
    assert_non_null(strstr(err.message, "the vocabularies differ"));

    snug_model *recurrent = open_model("tests/golden/mamba2");
    p.draft_model = recurrent;
    assert_int_equal(snug_context_create(m, &p, &c, &err), SNUG_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "has recurrent layers"));
    snug_model_close(&recurrent);

    c = make(m, (snug_context_params){.n_ctx = 64, .max_seqs = 2, .draft = SNUG_DRAFT_LOOKUP});
    c2 = make(m, (snug_context_params){.n_ctx = 64});
    must(snug_text_create(c, &a, &err), &err);
    must(snug_text_create(c2, &b, &err), &err);
    assert_int_equal(snug_text_create(c2, &none, &err), SNUG_ERR_BUDGET);
    assert_null(none);
    assert_int_equal(snug_text_decode(&a, 0, &err), SNUG_ERR_ARG);
    assert_int_equal(snug_text_decode(&a, 1, &err), SNUG_ERR_ARG);
    assert_non_null(strstr(err.message, "has no tokens"));
    int32_t ids[] = {1, 2, 4096};
    assert_int_equal(snug_text_append(a, ids, 3, &err), SNUG_ERR_ARG);
    assert_non_null(strstr(err.message, "token 2 to append is 4096"));
    assert_int_equal(snug_text_unread(a), 0);
    must(snug_text_append(a, ids, 2, &err), &err);
    must(snug_text_append(b, ids, 2, &err), &err);
    snug_text *both[] = {a, b}, *twice[] = {a, a};
    assert_int_equal(snug_text_decode(both, 2, &err), SNUG_ERR_ARG);
    assert_int_equal(snug_text_decode(twice, 2, &err), SNUG_ERR_ARG);
    assert_null(snug_text_logits(a));
    must(snug_text_decode(&a, 1, &err), &err);
    assert_non_null(snug_text_logits(a));
    snug_text_destroy(&a);
    snug_text_destroy(&b);
    snug_text_destroy(&b);
    snug_context_destroy(&c);
    snug_context_destroy(&c2);
    snug_model_close(&stranger);
    snug_model_close(&m);
}

/* What drafts take is part of the budget: the exact amount does, a byte less does not, and the advice is right. */
static void test_budget(void **state) {
    snug_model *m = open_model("models/demo");
    snug_error err;
    snug_memory plain, with;
    for (int kind = SNUG_DRAFT_LOOKUP; kind <= SNUG_DRAFT_MODEL; kind++) {
        snug_context_params p = {.n_ctx = 256, .threads = 1, .max_batch = 64};
        must(snug_context_memory(m, &p, &plain, &err), &err);
        assert_int_equal(plain.draft_bytes, 0);
        p.draft = (snug_draft)kind;
        p.draft_model = kind == SNUG_DRAFT_MODEL ? m : NULL;
        must(snug_context_memory(m, &p, &with, &err), &err);
        assert_int_equal(with.total_bytes,
                         with.weights_bytes + with.kv_bytes + with.scratch_bytes + with.other_bytes + with.draft_bytes);
        assert_int_equal(with.scratch_bytes, plain.scratch_bytes + 16 * 4 * 4096);
        assert_true(with.draft_bytes >= (p.draft_model ? with.weights_bytes + with.kv_bytes : 3 * 512 * 4));
        p.ram_bytes = with.total_bytes;
        written w = write_plainly(m, &surer, 60, 256, -1);
        compare(m, p, &surer, &w, 60, -1); /* and the room for logits is enough */
        free(w.logits);
        p.ram_bytes--;
        snug_context *c = NULL;
        unsigned fits = 0;
        assert_int_equal(snug_context_create(m, &p, &c, &err), SNUG_ERR_BUDGET);
        assert_non_null(strstr(err.message, "drafts"));
        assert_int_equal(sscanf(strstr(err.message, "that fits is"), "that fits is %u", &fits), 1);
        p.n_ctx = fits;
        c = make(m, p);
        snug_context_destroy(&c);
    }
    snug_model_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_plain),
        cmocka_unit_test(test_smaller_model),
        cmocka_unit_test(test_context_end),
        cmocka_unit_test(test_end_inside_draft),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_many_texts),
        cmocka_unit_test(test_fork_and_lost_logits),
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
