// rooms: fit plan eval run solve codec kern model kv token format linalg base
/* A text's logits are the same bits for any number of threads, any cut of its tokens into passes, whoever shares these passes, and every
 * CPU level. The models have a codec of every kind, and experts with codecs of their own; the levels are children of this program, for the
 * choice is made once a process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <snug.h>

static char dir[64], dense[96], mixture[96];
static const char *artifact; /* whose turn it is: one of them */
static uint32_t length;
static const char *program;

static const char *const pins[] = {
    "*=q8_0", "blk.0.attn_q*=q4_k", "blk.0.attn_k*=q5_k", "blk.0.attn_v*=q6_k", "blk.0.attn_output*=q4_0", "blk.0.ffn_gate*=q2_k",
    "blk.0.ffn_up*=q3_k", "blk.0.ffn_down*=iq4_xs", "blk.1.attn_q*=int2g32", "blk.1.attn_k*=int3g64", "blk.1.attn_v*=int4g128",
    "blk.1.attn_output*=int5g64", "blk.1.ffn_gate*=int6g32", "blk.1.ffn_up*=int7g64", "blk.1.ffn_down*=int8g128", "blk.2.attn_q*=iq4_nl",
    "blk.2.ffn_up*=int3g32+lowrank4", "blk.2.ffn_down*=bf16", "blk.2.attn_v*=f16", "blk.2.attn_k*=f32",
    "blk.3.attn_v*=tq1_0", "blk.3.ffn_gate*=tq2_0",
};

static const char *const expert_pins[] = {"*=q8_0", "blk.0.ffn_*.0.weight=int4g64", "blk.0.ffn_[gu]*.3.weight=had:int3g32", "blk.1.ffn_*=bf16",
                                          "blk.1.ffn_up.5.weight=int2g32+lowrank4", "blk.2.ffn_*.2.weight=tern34g64"};

static int make(const char *source, const char *output, const char *const *p_pins, size_t n) {
    snug_fit_params p = {.source = source, .output = output, .effort = SNUG_EFFORT_QUICK, .calib = "none", .pins = p_pins, .n_pins = n};
    snug_error err;
    if (snug_fit(&p, NULL, &err) == SNUG_OK) return 0;
    fprintf(stderr, "%s\n", err.message);
    return -1;
}

static int setup(void **state) {
    snprintf(dir, sizeof dir, "/tmp/snug-test-bits-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(dense, sizeof dense, "%s/mixed.snug", dir);
    snprintf(mixture, sizeof mixture, "%s/experts.snug", dir);
    if (make(SNUG_SOURCE_DIR "/models/demo", dense, pins, sizeof pins / sizeof *pins)) return -1;
    return make(SNUG_SOURCE_DIR "/tests/golden/olmoe", mixture, expert_pins, sizeof expert_pins / sizeof *expert_pins);
}

static int teardown(void **state) {
    unlink(dense);
    unlink(mixture);
    return rmdir(dir);
}

static void turn_of(const char *model) {
    artifact = model;
    length = model == dense ? 270 : 200; /* longer than a block of attention (256), where the model's context is */
}

static int32_t token(uint32_t text, uint32_t i, size_t n_vocab) { return (int32_t)((i + 1) * (text + 3) * 2654435761u % (n_vocab - 3)); }

static void must(snug_err code, const snug_error *err) {
    if (code == SNUG_OK) return;
    fprintf(stderr, "%s\n", err->message);
    abort(); /* in a child there is no test to fail */
}

/* All logits of text 0 (length, n_vocab), its tokens `chunk` at a time; n_others other texts advance by one token in each pass. */
static float *logits_of(int threads, uint32_t chunk, uint32_t n_others, size_t *bytes) {
    snug_error err;
    snug_model *m;
    snug_context *c;
    snug_seq *seq[8] = {0};
    must(snug_model_open(artifact, &m, &err), &err);
    size_t n_vocab = snug_model_get_info(m)->n_vocab;
    snug_context_params p = {.n_ctx = length, .max_seqs = 1 + n_others, .max_batch = chunk + n_others, .threads = threads};
    must(snug_context_create(m, &p, &c, &err), &err);
    for (uint32_t s = 0; s <= n_others; s++) must(snug_seq_create(c, &seq[s], &err), &err);
    float *all = malloc(*bytes = length * n_vocab * sizeof *all);
    snug_item *items = calloc(chunk + n_others, sizeof *items);
    if (!all || !items) abort();
    for (uint32_t at = 0, step = 0; at < length; step++) {
        uint32_t n = length - at < chunk ? length - at : chunk, k = 0;
        for (uint32_t s = 1; s <= n_others; s += 2) items[k++] = (snug_item){.seq = seq[s], .token = token(s, step, n_vocab), .pos = step, .wants_logits = s == 1};
        const uint32_t first = k;
        for (uint32_t i = 0; i < n; i++) items[k++] = (snug_item){.seq = seq[0], .token = token(0, at + i, n_vocab), .pos = at + i, .wants_logits = true};
        for (uint32_t s = 2; s <= n_others; s += 2) items[k++] = (snug_item){.seq = seq[s], .token = token(s, step, n_vocab), .pos = step, .wants_logits = s == 2};
        must(snug_decode(c, items, k, &err), &err);
        for (uint32_t i = 0; i < n; i++) memcpy(all + (at + i) * n_vocab, snug_logits(c, first + i), n_vocab * sizeof *all);
        at += n;
    }
    free(items);
    for (uint32_t s = 0; s <= n_others; s++) snug_seq_destroy(&seq[s]);
    snug_context_destroy(&c);
    snug_model_close(&m);
    return all;
}

static void same_for_all_passes(void) {
    const struct { int threads; uint32_t chunk, others; } ways[] = {{2, length, 0}, {3, 1, 0}, {1, 3, 0}, {2, 17, 0}, {2, 1, 7}, {1, 8, 4}, {2, 61, 2}};
    size_t bytes, again;
    float *base = logits_of(1, length, 0, &bytes);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        float *other = logits_of(ways[i].threads, ways[i].chunk, ways[i].others, &again);
        assert_int_equal(bytes, again);
        if (memcmp(base, other, bytes)) fail_msg("%d threads, chunks of %u, %u other texts: other bits", ways[i].threads, ways[i].chunk, ways[i].others);
        free(other);
    }
    free(base);
}

static void test_passes(void **state) {
    const char *const models[] = {dense, mixture};
    for (int i = 0; i < 2; i++) {
        turn_of(models[i]);
        same_for_all_passes();
    }
}

/* FNV-1a. */
static uint64_t hash_of_logits(int threads, uint32_t chunk) {
    size_t bytes;
    float *all = logits_of(threads, chunk, 0, &bytes);
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < bytes; i++) h = (h ^ ((const uint8_t *)all)[i]) * 1099511628211u;
    free(all);
    return h;
}

static uint64_t hash_at_level(const char *level, char name[32]) {
    char command[512];
    unsigned long long h = 0;
    snprintf(command, sizeof command, "SNUG_CPU=%s '%s' '%s' %u", level, program, artifact, length);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    int n = fscanf(f, "%llx %31s", &h, name);
    assert_int_equal(pclose(f), 0);
    assert_int_equal(n, 2);
    return h;
}

static void same_for_all_levels(void) {
    char last[32] = "";
    uint64_t base = hash_of_logits(2, 64);
    static const char *const levels[] = {"ref", "avx2", "neon", "avx512"}; /* a level that this CPU lacks gives the next that it has */
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        char name[32];
        uint64_t h = hash_at_level(levels[i], name);
        if (h != base) fail_msg("%s kernels give other bits", name);
        if (strcmp(name, last)) print_message("%s kernels: the same bits\n", name);
        snprintf(last, sizeof last, "%s", name);
    }
}

static void test_levels(void **state) {
    const char *const models[] = {dense, mixture};
    for (int i = 0; i < 2; i++) {
        turn_of(models[i]);
        same_for_all_levels();
    }
}

int main(int argc, char **argv) {
    if (argc == 3) { /* a child */
        artifact = argv[1];
        length = (uint32_t)atoi(argv[2]);
        printf("%llx %s\n", (unsigned long long)hash_of_logits(2, 64), snug_cpu_level());
        return 0;
    }
    program = argv[0];
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_passes), cmocka_unit_test(test_levels)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
