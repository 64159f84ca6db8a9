// rooms: fit plan eval run solve codec kern model kv token format linalg base
/* The estimate of a context's memory is an upper bound of what the process really takes: a child opens a model, loads
 * the tokenizer, fills the whole context and looks at its peak. Under a sanitizer memory means something else, so there
 * it is skipped. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/rng.h"
#include "tempfile.h"

/* Fills the context through texts, with the drafts that p asks for; a draft model is opened anew. */
static bool write_texts(snug_context *ctx, snug_sampler *sampler, const snug_context_params *p) {
    int32_t ids[64], token;
    for (int i = 0; i < 64; i++) ids[i] = 5 + i % 7;
    for (uint32_t s = 0; s < p->max_seqs; s++) {
        snug_text *text = NULL;
        if (snug_text_create(ctx, &text, NULL) || snug_text_append(text, ids, 64, NULL)) return false;
        for (uint32_t n = 64;; n++) {
            while (!snug_text_logits(text))
                if (snug_text_decode(&text, 1, NULL)) return false;
            if (n == p->n_ctx) break;
            if (snug_sampler_pick(sampler, snug_text_logits(text), &token, NULL)) return false;
            if (snug_text_append(text, n % 50 ? &ids[n % 7] : &token, 1, NULL)) return false; /* much comes true */
        }
    }
    return true;
}

/* In a child, so that the peak is its own. Exit status: 0 within the bound, 1 above it, 2 something failed. */
static int child(const char *path, snug_context_params p) {
    snug_model *model = NULL;
    snug_context *ctx = NULL;
    snug_sampler *sampler = NULL;
    snug_sampler_params sp = {.temperature = 1, .top_p = 0.9f, .repeat_penalty = 1};
    snug_memory m;
    int32_t ids[16], token = 5;
    rng varied;
    rng_seed(&varied, 1, p.n_ctx);
    size_t n;
    snug_model *draft = NULL;
    if (p.draft == SNUG_DRAFT_MODEL && snug_model_open(path, &draft, NULL)) return 2;
    p.draft_model = draft;
    if (snug_model_open(path, &model, NULL) || snug_context_memory(model, &p, &m, NULL) ||
        snug_context_create(model, &p, &ctx, NULL) || snug_tokenize(model, "Once", 4, true, false, ids, 16, &n, NULL) ||
        snug_sampler_create(&sp, snug_model_get_info(model)->n_vocab, &sampler, NULL))
        return 2;
    snug_seq *seqs[2] = {0};
    snug_item *items = calloc(p.max_batch, sizeof *items);
    if (p.draft && !write_texts(ctx, sampler, &p)) return 2;
    for (uint32_t s = 0; !p.draft && s < p.max_seqs; s++) {
        if (snug_seq_create(ctx, &seqs[s], NULL)) return 2;
        for (uint32_t at = 0; at < p.n_ctx;) {
            uint32_t k = 0;
            for (; k < p.max_batch && at < p.n_ctx; k++, at++)
                items[k] = (snug_item){seqs[s], k ? (int32_t)rng_below(&varied, 512) : token, at, k + 1 == p.max_batch || at + 1 == p.n_ctx};
            if (snug_decode(ctx, items, k, NULL) || snug_sampler_pick(sampler, snug_logits(ctx, k - 1), &token, NULL))
                return 2;
        }
    }
    uint64_t peak = io_peak_rss();
    printf("%s: peak %llu of at most %llu bytes (weights %llu, cache %llu, scratch %llu, other %llu)\n", path,
           (unsigned long long)peak, (unsigned long long)m.total_bytes, (unsigned long long)m.weights_bytes,
           (unsigned long long)m.kv_bytes, (unsigned long long)m.scratch_bytes, (unsigned long long)m.other_bytes);
    fflush(stdout);
    return peak <= m.total_bytes ? 0 : 1;
}

static void check(const char *name, snug_context_params p) {
    char path[512];
    int status;
    snprintf(path, sizeof path, "%s%s", *name == '/' ? "" : SNUG_SOURCE_DIR "/", name);
    pid_t pid = fork();
    if (pid == 0) _exit(child(path, p));
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_bound(void **state) {
#ifdef __SANITIZE_ADDRESS__
    skip();
#endif
    check("models/demo", (snug_context_params){.n_ctx = 256, .max_batch = 128, .max_seqs = 1, .threads = 2});
    check("models/demo",
          (snug_context_params){.n_ctx = 1000, .max_batch = 16, .max_seqs = 2, .threads = 1, .kv = SNUG_KV_F32});
    check("models/demo",
          (snug_context_params){.n_ctx = 512, .max_batch = 512, .max_seqs = 1, .threads = 2, .act = SNUG_ACT_F32});
    check("models/demo", (snug_context_params){
                             .n_ctx = 2000, .max_batch = 64, .max_seqs = 2, .threads = 1, .draft = SNUG_DRAFT_LOOKUP});
    check("models/demo", (snug_context_params){
                             .n_ctx = 500, .max_batch = 128, .max_seqs = 1, .threads = 2, .draft = SNUG_DRAFT_MODEL});
    check("tests/golden/qwen2", (snug_context_params){.n_ctx = 2000, .max_batch = 64, .max_seqs = 2, .threads = 2});
    check("tests/golden/mamba2", (snug_context_params){.n_ctx = 2000, .max_batch = 64, .max_seqs = 2, .threads = 2});
    check("tests/golden/granitehybrid", (snug_context_params){.n_ctx = 1000, .max_batch = 128, .max_seqs = 2, .threads = 1, .draft = SNUG_DRAFT_LOOKUP});
    check("tests/golden/olmoe", (snug_context_params){.n_ctx = 1000, .max_batch = 512, .max_seqs = 1, .threads = 2});
    check("tests/golden/qwen3moe", (snug_context_params){.n_ctx = 256, .max_batch = 16, .max_seqs = 2, .threads = 1, .act = SNUG_ACT_F32});
    check("tests/golden/gpt_oss_mxfp4", (snug_context_params){.n_ctx = 1000, .max_batch = 64, .max_seqs = 2, .threads = 2});
    check("tests/golden/deepseek3", (snug_context_params){.n_ctx = 2000, .max_batch = 128, .max_seqs = 2, .threads = 2});
}

/* What matrices are multiplied from beside what is stored. */
static void check_run_bytes(const char *path, double grows) {
    snug_model *m;
    snug_error err;
    snug_tensor_info t;
    uint64_t stored = 0, run = 0;
    assert_int_equal(snug_model_open(path, &m, &err), SNUG_OK);
    for (size_t i = 0; i < snug_model_n_tensors(m); i++) {
        assert_int_equal(snug_model_tensor(m, i, &t), SNUG_OK);
        if (t.rows > 1) stored += t.bytes, run += t.run_bytes;
    }
    assert_true(fabs((double)run / (double)stored / grows - 1) < 0.03);
    snug_model_close(&m);
}

/* What is multiplied in another form than it is stored in, a GGUF's rows or entropy codes, becomes panels: all of it, none and a part in between. */
static void check_panels(snug_target target, const char *pin, double grows) {
    const char *dir = temp_dir_make(), *path = temp_path(dir, "m.gguf");
    snug_fit_params p = {.source = SNUG_SOURCE_DIR "/models/demo", .output = path, .target = target, .effort = SNUG_EFFORT_QUICK,
                         .calib = "none", .pins = &pin, .n_pins = 1};
    int status;
    pid_t pid = fork(); /* threads of this process would be lost in the children to come */
    if (pid == 0) _exit(snug_fit(&p, NULL, NULL) != SNUG_OK);
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    check_run_bytes(path, grows);
    check(path, (snug_context_params){.n_ctx = 1000, .max_batch = 256, .max_seqs = 1, .threads = 2, .act = SNUG_ACT_Q8});
    check(path, (snug_context_params){.n_ctx = 100, .max_batch = 1, .max_seqs = 2, .threads = 1, .act = SNUG_ACT_Q8});
    check(path, (snug_context_params){.n_ctx = 500, .max_batch = 64, .max_seqs = 1, .threads = 2, .act = SNUG_ACT_F32});
    temp_dir_remove(dir);
}

static void test_gguf(void **state) {
#ifdef __SANITIZE_ADDRESS__
    skip();
#endif
    check_panels(SNUG_FOR_GGUF, "*=q4_0", 1);
}

static void test_entropy_coded(void **state) {
#ifdef __SANITIZE_ADDRESS__
    skip();
#endif
    check_panels(SNUG_FOR_SNUG, "*=ec3", 5 / 3.0); /* run as integers of 5 bits */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bound), cmocka_unit_test(test_gguf), cmocka_unit_test(test_entropy_coded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
