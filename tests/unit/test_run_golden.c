// rooms: base format token kern codec kv model run
/* Logits of transformers on tiny random models (tests/golden/README.md), and what must hold on them bit for bit: chunks
 * of a prompt, threads, other sequences in the batch and forks do not change a token's logits. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <snug.h>

#include "golden.h"

enum { PROMPT = 16, MAX_GOLDENS = 64 };

static golden goldens[MAX_GOLDENS];
static size_t n_goldens;

static int load_all(void **state) {
    DIR *d = opendir(SNUG_SOURCE_DIR "/tests/golden");
    if (!d) return -1;
    for (struct dirent *e; (e = readdir(d)) && n_goldens < MAX_GOLDENS;)
        if (e->d_name[0] != '.' && golden_open(e->d_name, &goldens[n_goldens])) n_goldens++;
    closedir(d);
    return n_goldens >= 5 ? 0 : -1;
}

static int free_all(void **state) {
    for (size_t i = 0; i < n_goldens; i++) golden_close(&goldens[i]);
    return 0;
}

typedef struct session { snug_model *model; snug_context *ctx; } session;

static session open_session(const golden *g, snug_act activations, snug_kv kv, int threads, uint32_t max_seqs) {
    session s = {0};
    snug_error err = {0};
    must(snug_model_open(g->dir, &s.model, &err), &err);
    snug_context_params p = {
        .n_ctx = 256, .max_seqs = max_seqs, .max_batch = 512, .threads = threads, .act = activations, .kv = kv};
    must(snug_context_create(s.model, &p, &s.ctx, &err), &err);
    return s;
}

static void close_session(session *s) {
    snug_context_destroy(&s->ctx);
    snug_model_close(&s->model);
}

/* Logits of all tokens, fed in chunks. Result malloc'd (n_tokens, n_vocab). */
static float *all_logits(session *s, const golden *g, uint32_t chunk) {
    float *out = malloc((size_t)g->n_tokens * g->n_vocab * sizeof *out);
    snug_item *items = calloc(g->n_tokens, sizeof *items);
    snug_seq *seq = NULL;
    snug_error err = {0};
    must(snug_seq_create(s->ctx, &seq, &err), &err);
    for (uint32_t at = 0; at < g->n_tokens; at += chunk) {
        uint32_t n = g->n_tokens - at < chunk ? g->n_tokens - at : chunk;
        for (uint32_t i = 0; i < n; i++) items[i] = (snug_item){seq, g->tokens[at + i], at + i, true};
        must(snug_decode(s->ctx, items, n, &err), &err);
        for (uint32_t i = 0; i < n; i++)
            memcpy(out + (size_t)(at + i) * g->n_vocab, snug_logits(s->ctx, i), g->n_vocab * sizeof *out);
    }
    snug_seq_destroy(&seq);
    free(items);
    return out;
}

static void test_logits(void **state) {
    for (size_t i = 0; i < n_goldens; i++) {
        session s = open_session(&goldens[i], SNUG_ACT_F32, SNUG_KV_F32, 2, 1);
        float *logits = all_logits(&s, &goldens[i], 512);
        double e = golden_error(&goldens[i], logits);
        print_message("%-8s f32 activations, f32 cache: worst relative error %.2e\n", goldens[i].name, e);
        assert_true(e <= 1e-4);
        free(logits);
        close_session(&s);
    }
}

static void test_greedy(void **state) {
    for (size_t k = 0; k < n_goldens; k++) {
        const golden *g = &goldens[k];
        session s = open_session(g, SNUG_ACT_F32, SNUG_KV_F32, 2, 1);
        snug_sampler_params sp = {.top_p = 1, .repeat_penalty = 1};
        snug_sampler *sampler = NULL;
        snug_error err = {0};
        snug_seq *seq = NULL;
        snug_item items[PROMPT];
        must(snug_sampler_create(&sp, g->n_vocab, &sampler, &err), &err);
        must(snug_seq_create(s.ctx, &seq, &err), &err);
        for (uint32_t i = 0; i < PROMPT; i++) items[i] = (snug_item){seq, g->tokens[i], i, i == PROMPT - 1};
        must(snug_decode(s.ctx, items, PROMPT, &err), &err);
        const float *logits = snug_logits(s.ctx, PROMPT - 1);
        for (uint32_t i = 0; i < g->n_greedy; i++) {
            int32_t token;
            must(snug_sampler_pick(sampler, logits, &token, &err), &err);
            assert_int_equal(token, g->greedy[i]);
            snug_item next = {seq, token, PROMPT + i, true};
            must(snug_decode(s.ctx, &next, 1, &err), &err);
            logits = snug_logits(s.ctx, 0);
        }
        assert_int_equal(snug_seq_length(seq), PROMPT + g->n_greedy);
        snug_seq_destroy(&seq);
        snug_sampler_destroy(&sampler);
        close_session(&s);
    }
}

static void test_chunks_and_threads(void **state) {
    static const uint32_t chunks[] = {512, 1, 3, 16};
    for (size_t k = 0; k < n_goldens; k++)
        for (int form = 0; form < 2; form++) {
            const golden *g = &goldens[k];
            float *first = NULL;
            for (int threads = 1; threads <= 2; threads++) {
                session s =
                    open_session(g, form ? SNUG_ACT_Q8 : SNUG_ACT_F32, form ? SNUG_KV_F16 : SNUG_KV_F32, threads, 1);
                for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
                    float *logits = all_logits(&s, g, chunks[c]);
                    if (!first) first = logits;
                    else assert_memory_equal(first, logits, (size_t)g->n_tokens * g->n_vocab * sizeof *logits);
                    if (logits != first) free(logits);
                }
                close_session(&s);
            }
            free(first);
        }
}

static bool recurs(const snug_model *m) {
    const char *name = snug_model_get_info(m)->architecture;
    return !strcmp(name, "mamba2") || !strcmp(name, "granitehybrid");
}

/* Two sequences interleaved in one batch, one of them a fork that takes another way, then truncated back. */
static void test_mixed_sequences(void **state) {
    for (size_t k = 0; k < n_goldens; k++) {
        const golden *g = &goldens[k];
        session s = open_session(g, SNUG_ACT_F32, SNUG_KV_F32, 2, 3);
        float *alone = all_logits(&s, g, 512);
        size_t row = g->n_vocab * sizeof *alone;
        snug_seq *a = NULL, *b = NULL;
        snug_error err = {0};
        snug_item items[64];
        must(snug_seq_create(s.ctx, &a, &err), &err);
        for (uint32_t i = 0; i < 20; i++) items[i] = (snug_item){a, g->tokens[i], i, false};
        must(snug_decode(s.ctx, items, 20, &err), &err);
        must(snug_seq_fork(a, &b, &err), &err);
        /* b goes another way; a and b in one batch, taking turns */
        for (uint32_t i = 0; i < 20; i++) {
            items[2 * i] = (snug_item){b, g->tokens[40 - i], 20 + i, true};
            items[2 * i + 1] = (snug_item){a, g->tokens[20 + i], 20 + i, true};
        }
        must(snug_decode(s.ctx, items, 40, &err), &err);
        for (uint32_t i = 0; i < 20; i++)
            assert_memory_equal(snug_logits(s.ctx, 2 * i + 1), alone + (20 + i) * (size_t)g->n_vocab, row);
        assert_int_equal(snug_seq_length(a), 40);
        /* b forgets its own way, and what it shared with a is untouched */
        const uint32_t back = snug_seq_reach(b, 10);
        assert_int_equal(back, recurs(s.model) ? 0 : 10);
        assert_int_equal(snug_seq_reach(b, 39), recurs(s.model) ? 20 : 39);
        if (back < 10) assert_int_equal(snug_seq_truncate(b, 10, &err), SNUG_ERR_UNSUPPORTED);
        must(snug_seq_truncate(b, back, &err), &err);
        for (uint32_t i = back; i < 40; i++) items[i - back] = (snug_item){b, g->tokens[i], i, true};
        must(snug_decode(s.ctx, items, 40 - back, &err), &err);
        for (uint32_t i = back; i < 40; i++)
            assert_memory_equal(snug_logits(s.ctx, i - back), alone + i * (size_t)g->n_vocab, row);
        /* to where its last pass but one ended, which a recurrence remembers */
        items[0] = (snug_item){b, g->tokens[7], 40, false};
        must(snug_decode(s.ctx, items, 1, &err), &err);
        assert_int_equal(snug_seq_reach(b, 40), 40);
        must(snug_seq_truncate(b, 40, &err), &err);
        items[0] = (snug_item){b, g->tokens[40], 40, true};
        must(snug_decode(s.ctx, items, 1, &err), &err);
        assert_memory_equal(snug_logits(s.ctx, 0), alone + 40 * (size_t)g->n_vocab, row);
        snug_seq_destroy(&b);
        snug_item next = {a, g->tokens[40], 40, true};
        must(snug_decode(s.ctx, &next, 1, &err), &err);
        assert_memory_equal(snug_logits(s.ctx, 0), alone + 40 * (size_t)g->n_vocab, row);
        snug_seq_destroy(&a);
        free(alone);
        close_session(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_chunks_and_threads),
        cmocka_unit_test(test_mixed_sequences),
    };
    return cmocka_run_group_tests(tests, load_all, free_all);
}
