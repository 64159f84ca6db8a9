// rooms: fit plan eval run solve codec kern model kv token format linalg base
/* snug_fit as a whole on the tiny goldens: budgets kept to the byte, the same bytes for any number of threads and after any
 * interruption, plans, pins, targets, imatrix files, export. */
#include "base/rng.h"
#include "codec/transform.h"
#include "fit/fit.h"
#include "format/gguf.h"
#include "model/store.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "fitting.h"

static const char *LLAMA3 = SNUG_SOURCE_DIR "/tests/golden/llama3"; /* bf16, shards, tied, llama3 RoPE scaling */
static const char *QWEN2 = SNUG_SOURCE_DIR "/tests/golden/qwen2";   /* biases */

static void fit_fails(snug_fit_params p, snug_err code, const char *words) {
    snug_fit_report *r = NULL;
    snug_error err = {0};
    assert_int_equal(snug_fit(&p, &r, &err), code);
    assert_null(r);
    if (!strstr(err.message, words)) fail_msg("\"%s\" does not say \"%s\"", err.message, words);
}

/* The least size that works, as the refusal of a budget of one byte names it. */
static uint64_t least_of(snug_fit_params p) {
    snug_error err = {0};
    p.size_bytes = 1;
    assert_int_equal(snug_fit(&p, NULL, &err), SNUG_ERR_BUDGET);
    const char *said = strstr(err.message, "the least that works is ");
    assert_non_null(said);
    return strtoull(said + strlen("the least that works is "), NULL, 10);
}

static void budgets(void **state) {
    rng r;
    rng_seed(&r, 7, 0);
    for (int target = 0; target < 2; target++) {
        snug_fit_params p = {.source = LLAMA3, .output = at("b.snug"), .effort = SNUG_EFFORT_QUICK, .target = target ? SNUG_FOR_GGUF : SNUG_FOR_SNUG, .threads = 1};
        unlink(p.output);
        uint64_t least = least_of(p);
        p.size_bytes = least - 1;
        fit_fails(p, SNUG_ERR_BUDGET, "least that works");
        assert_false(io_exists(p.output));
        p.size_bytes = least;
        fit_ok(p);
        for (int i = 0; i < (SANITIZED ? 2 : 6); i++) {
            p.size_bytes = least + rng_below(&r, 500000);
            fit_ok(p);
        }
    }
    snug_fit_params p = {.source = QWEN2, .output = at("b.snug"), .effort = SNUG_EFFORT_QUICK, .bpw = 9.5, .threads = 2};
    fit_ok(p);
    p.bpw = 0;
    p.ratio = 0.6;
    fit_ok(p);
    p.ratio = 0;
    fit_fails(p, SNUG_ERR_ARG, "no budget");
    p.ram_bytes = 60u << 20;
    fit_fails(p, SNUG_ERR_ARG, "positions");
    p.n_ctx = 128;
    fit_ok(p);
    p.ram_bytes = 1 << 20;
    fit_fails(p, SNUG_ERR_BUDGET, "of memory at 128 positions");
}

/* Ratios between probes lie on a line of logarithms; beyond them the nearest holds, trellises have their own, and without probes nothing changes. */
static void probes(void **state) {
    const fit_tensor none = {0}, t = {.probe = {{{0.001, 0.8}, {0.01, 1}, {0.002, 0.7}, {0.05, 1.5}, {0.1, 4}, {0.2, 2}}}};
    comp plain, turned, trellis;
    assert_true(comp_parse("int3g64", &plain) && comp_parse("had:int3g64", &turned) && comp_parse("tcqf2", &trellis));
    assert_true(probe_ratio(&none, &plain, 0.01) == 1 && probe_ratio(&t, &turned, 0.01) == 1 && probe_ratio(&t, &plain, 0) == 1);
    assert_true(probe_ratio(&t, &plain, 1e-6) == 0.8 && probe_ratio(&t, &plain, 0.9) == 4 && probe_ratio(&t, &trellis, 0.9) == 2);
    assert_true(probe_ratio(&t, &trellis, 1e-6) == 0.7 && fabs(probe_ratio(&t, &trellis, 0.05) - 1.5) < 1e-12);
    assert_true(fabs(probe_ratio(&t, &plain, 0.01) - 1) < 1e-12);
    assert_true(fabs(probe_ratio(&t, &plain, sqrt(0.001)) - 2) < 1e-12);
    for (double e = 1e-4, last = 0; e < 1; e *= 1.1) {
        const double now = e * probe_ratio(&t, &plain, e); /* a larger error stays a larger one */
        assert_true(now > last);
        last = now;
    }
}

/* A job with every matrix of a model, each in one codec or the other. */
static size_t open_choice(fit_job *f, cand *c, const char *const codec[2]) {
    *f = (fit_job){0};
    assert_int_equal(store_open(LLAMA3, false, &f->src, NULL), SNUG_OK);
    f->tensor = arena_calloc(&f->mem, f->src->n_tensors, sizeof *f->tensor);
    for (int i = 0; i < 2; i++) {
        c[i] = (cand){.bytes = 100, .loss = 1};
        assert_true(comp_parse(codec[i], &c[i].comp));
    }
    uint64_t weights = 0;
    for (size_t i = 0; i < f->src->n_tensors; i++) {
        const store_tensor *t = &f->src->tensors[i];
        if ((int)t->role >= (int)ROLE_MATRICES) continue;
        f->tensor[f->n++] = (fit_tensor){.t = t, .matrix = true, .menu = {.n = 2, .cand = c}};
        weights += t->rows * t->cols;
    }
    return (size_t)weights;
}

/* Transforms are counted once for each edge, and of two candidates that lose alike the one without is taken. */
static void time_has_a_price(void **state) {
    static const char *const codec[2] = {"int4g64", "had:int4g64"};
    fit_job f;
    cand c[2];
    const size_t weights = open_choice(&f, c, codec);
    const uint64_t adds = 5 * f.src->cfg.n_embd; /* blocks of 32 */
    assert_int_equal(f.src->cfg.n_embd, 96);
    assert_true(f.src->cfg.tied);
    assert_true(budget_run_work(&f).multiply_adds == weights && budget_run_work(&f).transform_adds == 0);
    for (size_t i = 0; i < f.n; i++) {
        fit_tensor *t = &f.tensor[i];
        assert_true(budget_priced_loss(&f, t, &c[0]) == 1);
        assert_int_equal(budget_priced_loss(&f, t, &c[1]) > 1, transform_takes(TRANSFORM_HADAMARD, t->t->cols)); /* no menu has others */
        assert_true(budget_priced_loss(&f, t, &c[1]) < 1.2);
        t->choice = t->t->layer == 0 && (t->t->role == ROLE_Q || t->t->role == ROLE_V);
    }
    assert_int_equal(budget_run_work(&f).transform_adds, adds);
    f.tensor[0].choice = 1; /* the embedding: the head's input, and the rows that are looked up */
    assert_int_equal(f.tensor[0].t->role, ROLE_EMBD);
    assert_int_equal(budget_run_work(&f).transform_adds, 3 * adds);
    store_close(&f.src);
    arena_fini(&f.mem);
}

static uint32_t order_of(const char *path) {
    store *s = NULL;
    uint64_t kinds = 99;
    assert_int_equal(store_open(path, false, &s, NULL), SNUG_OK);
    assert_int_equal(gguf_get_u64_or(s->gguf, "snug.order", 99, &kinds, NULL), SNUG_OK);
    store_close(&s);
    return (uint32_t)kinds;
}

/* A calibrated fit: one layer in the trellis code, one in another, the rest as the budget says. */
static const char *const some[] = {"blk.0.*=tcq2", "blk.1.*=int3g32"};
static snug_fit_params calibrated(const char *output) {
    return (snug_fit_params){.source = LLAMA3, .output = output, .size_bytes = 200000, .calib = text, .pins = some, .n_pins = 2, .threads = 2};
}

static void same_bytes(void **state) {
    if (SANITIZED) return;
    snug_fit_params q = calibrated(at("a.snug"));
    (void)fit_alike(q, 3, NULL);
    assert_int_equal(order_of(q.output), ORDER_STREAM | ORDER_VALUES);
    static const char *const copy[] = {"*=bf16"}; /* channels stay; nor are statistics of the others taken */
    q.pins = copy;
    q.n_pins = 1;
    q.size_bytes = 0;
    const uint64_t copied = fit_ok(q);
    assert_int_equal(order_of(q.output), 0);
    drop_cache();
    assert_true(fit_ok(q) == copied);
}

static void seeds_differ(void **state) {
    snug_fit_params p = {.source = LLAMA3, .output = at("b.snug"), .size_bytes = 200000, .effort = SNUG_EFFORT_QUICK, .calib = "self", .threads = 1};
    const uint64_t one = fit_ok(p);
    p.seed = 5;
    assert_true(fit_ok(p) != one);
}

/* Coarse and fine codes of one edge, in both bases and in sums that read both: each with a factor of its own. */
static void grains(void **state) {
    if (SANITIZED) return;
    static const char *const pin[] = {"*=int4g32", "blk.*.attn_q.weight=had:tern34g32", "blk.*.attn_k.weight=had:int4g32+int2g32", "blk.0.attn_v.weight=tern34g32",
                                      "blk.1.attn_v.weight=int2g32+had:tern34g32"};
    snug_fit_params p = {.source = LLAMA3, .output = at("g.snug"), .calib = text, .pins = pin, .n_pins = 5, .threads = 1};
    const uint64_t one = fit_ok(p);
    p.threads = 3;
    assert_true(fit_ok(p) == one);
}

/* Stopped in each of the stages, the journal whole or cut, and gone on with. */
static void interrupted(void **state) {
    if (SANITIZED) return;
    snug_fit_params p = calibrated(at("i.snug")), q = p;
    const char *journal = at("i.snug.journal");
    const uint64_t whole = fit_ok(p);
    static const int STOPS[] = {0, 1, 5, 11};
    for (size_t i = 0; i < sizeof STOPS / sizeof *STOPS && fit_stopped(p, STOPS[i]); i++) {
        assert_true(io_exists(journal));
        if (STOPS[i] % 3 == 1) { /* the last line is cut, as by a kill while it was written */
            struct stat st;
            assert_int_equal(stat(journal, &st), 0);
            assert_int_equal(truncate(journal, st.st_size - 7), 0);
        }
        if (STOPS[i] % 3 == 2) {
            q.resume = true;
            q.size_bytes = 210000;
            fit_fails(q, SNUG_ERR_MISMATCH, "size was 200000, now 210000");
        }
        assert_true(fit_resumed(p) == whole);
        assert_int_equal(unlink(p.output), 0);
    }
    assert_true(fit_resumed(p) == whole); /* nothing to resume */
}

/* As a large model is: sampled from in codes, planned with statistics of half of the sequences. */
static void large(void **state) {
    if (SANITIZED) return;
    char mix[160];
    snprintf(mix, sizeof mix, "self+%s", text);
    snug_fit_params p = calibrated(at("l.snug"));
    p.calib = mix;
    drop_cache();
    const uint64_t small = fit_ok(p), bytes = fit_large_bytes;
    fit_large_bytes = 0;
    const uint64_t whole = fit_alike(p, 3, dir);
    assert_true(whole != small);
    for (int n = 0; n < 200 && fit_stopped(p, n); n = 4 * n + 3) {
        assert_true(fit_resumed(p) == whole);
        assert_int_equal(unlink(p.output), 0);
    }
    fit_large_bytes = bytes;
}

static void plans(void **state) {
    snug_fit_params p = {.source = LLAMA3, .output = at("p.snug"), .size_bytes = 190000, .plan_out = at("plan.json"), .effort = SNUG_EFFORT_QUICK};
    uint64_t first = fit_ok(p);
    snug_fit_params q = {.source = LLAMA3, .output = at("q.snug"), .plan_in = at("plan.json"), .effort = SNUG_EFFORT_QUICK};
    assert_true(fit_ok(q) == first);
    q.source = QWEN2;
    fit_fails(q, SNUG_ERR_MISMATCH, "plan.json");
    q.source = LLAMA3;
    q.target = SNUG_FOR_GGUF;
    fit_fails(q, SNUG_ERR_MISMATCH, "no GGUF type");
    p.plan_only = true;
    p.output = NULL;
    assert_int_equal(snug_fit(&p, NULL, NULL), SNUG_OK);
}

static const char *codec_of(const char *path, const char *tensor, store **s) {
    assert_int_equal(store_open(path, false, s, NULL), SNUG_OK);
    for (size_t i = 0; i < (*s)->n_tensors; i++)
        if (strcmp((*s)->tensors[i].name, tensor) == 0) return (*s)->tensors[i].codec_name;
    fail_msg("%s is not there", tensor);
    return NULL;
}

static void pins(void **state) {
    const char *pin[] = {"blk.*.attn_?.weight=int5g32", "blk.1.attn_q.weight=int4g64+lowrank4", "blk.2.ffn_down.weight=q6_k"};
    snug_fit_params p = {.source = LLAMA3, .output = at("pin.snug"), .size_bytes = 250000, .effort = SNUG_EFFORT_QUICK, .pins = pin, .n_pins = 3};
    fit_ok(p);
    store *s = NULL;
    assert_string_equal(codec_of(p.output, "blk.1.attn_q.weight", &s), "int4g64+lowrank4");
    store_close(&s);
    assert_string_equal(codec_of(p.output, "blk.0.attn_k.weight", &s), "int5g32");
    store_close(&s);
    assert_string_equal(codec_of(p.output, "blk.2.ffn_down.weight", &s), "q6_k"); /* padded payload: 172 columns */
    store_close(&s);
    const char *bad[] = {"blk.*=int99g64", "nothing.*=q4_0", "no equals sign", "*_norm.weight=q8_0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        p.pins = &bad[i];
        p.n_pins = 1;
        fit_fails(p, SNUG_ERR_ARG, "pin \"");
    }
    p.pins = pin;
    p.target = SNUG_FOR_GGUF;
    fit_fails(p, SNUG_ERR_ARG, "no GGUF type");
    p.pins = pin + 2;
    p.n_pins = 1;
    fit_ok(p); /* falls back: bf16 is the only native type for 172 columns of bf16 */
    assert_string_equal(codec_of(p.output, "blk.2.ffn_down.weight", &s), "bf16");
    store_close(&s);
}

/* Takes the warnings of an export, one after the other. */
typedef struct heard { char text[1000]; } heard;
static bool hear(void *user, const snug_event *e) {
    heard *h = user;
    if (e->warning) strncat(h->text, e->note, sizeof h->text - strlen(h->text) - 1);
    return false;
}

static void gguf_target(void **state) {
    snug_fit_params p = {.source = LLAMA3, .output = at("g.gguf"), .size_bytes = 500000, .effort = SNUG_EFFORT_QUICK, .target = SNUG_FOR_GGUF};
    fit_ok(p);
    gguf_file *g = NULL;
    assert_int_equal(gguf_open(p.output, &g, NULL), SNUG_OK);
    bool rope = false;
    for (size_t i = 0; i < g->n_tensors; i++) {
        assert_true(g->tensors[i].type != GGML_I8);
        if (g->tensors[i].n_dims == 1) assert_int_equal(g->tensors[i].type, GGML_F32);
        else assert_true(g->tensors[i].type != GGML_F16); /* the source is bf16 */
        rope |= strcmp(g->tensors[i].name, "rope_freqs.weight") == 0;
    }
    assert_true(rope);
    assert_non_null(gguf_find(g, "tokenizer.ggml.tokens"));
    assert_non_null(gguf_find(g, "general.quantization_version"));
    gguf_close(&g);
    /* a GGUF is a source like any other, and what is native is copied */
    snug_fit_params q = {.source = p.output, .output = at("g2.gguf"), .ratio = 3, .effort = SNUG_EFFORT_QUICK, .target = SNUG_FOR_GGUF};
    fit_ok(q);
    snug_model *a = NULL, *b = NULL;
    assert_int_equal(snug_model_open(p.output, &a, NULL), SNUG_OK);
    assert_int_equal(snug_model_open(q.output, &b, NULL), SNUG_OK);
    for (size_t i = 0; i < snug_model_n_tensors(a); i++) {
        snug_tensor_info x, y;
        assert_int_equal(snug_model_tensor(a, i, &x), SNUG_OK);
        assert_int_equal(snug_model_tensor(b, i, &y), SNUG_OK);
        assert_string_equal(x.codec, y.codec);
        assert_true(y.predicted_loss <= 0);
    }
    snug_model_close(&a);
    snug_model_close(&b);
    /* a snug artifact exports to native types only */
    snug_fit_params r = {.source = LLAMA3, .output = at("e.snug"), .size_bytes = 200000, .effort = SNUG_EFFORT_QUICK};
    fit_ok(r);
    snug_error err = {0};
    heard h = {""};
    if (snug_export(r.output, at("e.gguf"), 2, (snug_progress){hear, &h}, &err) != SNUG_OK) fail_msg("%s", err.message);
    assert_non_null(strstr(h.text, "rounded a second time"));
    assert_non_null(strstr(h.text, "--for gguf"));
    assert_int_equal(gguf_open(at("e.gguf"), &g, NULL), SNUG_OK);
    for (size_t i = 0; i < g->n_tensors; i++) assert_true(g->tensors[i].type != GGML_I8);
    assert_null(gguf_find(g, "snug.version"));
    gguf_close(&g);
}

static uint8_t *read_tensor(const gguf_file *g, const char *name, uint64_t *bytes) {
    const gguf_tensor *t = gguf_find_tensor(g, name);
    assert_non_null(t);
    uint8_t *data = malloc(*bytes = t->bytes);
    assert_int_equal(io_pread(&g->file, t->offset, data, (size_t)*bytes, NULL), SNUG_OK);
    return data;
}

/* Block types go from a GGUF into an artifact's panels and back without a change. */
static void there_and_back(void **state) {
    static const char *const pins[] = {"blk.0.*=q8_0", "blk.1.*=q4_0", "blk.2.*=iq4_nl", "token_embd.weight=q8_0"};
    snug_fit_params p = {.source = LLAMA3, .output = at("t1.gguf"), .ratio = 3, .effort = SNUG_EFFORT_QUICK, .target = SNUG_FOR_GGUF, .pins = pins, .n_pins = 4};
    snug_fit_params q = {.source = p.output, .output = at("t2.snug"), .ratio = 3, .effort = SNUG_EFFORT_QUICK};
    fit_ok(p);
    fit_ok(q);
    snug_error err = {0};
    heard h = {""};
    if (snug_export(q.output, at("t3.gguf"), 2, (snug_progress){hear, &h}, &err) != SNUG_OK) fail_msg("%s", err.message);
    assert_string_equal(h.text, "");
    gguf_file *file[3] = {0};
    for (int i = 0; i < 3; i++) assert_int_equal(gguf_open(at(i == 0 ? "t1.gguf" : i == 1 ? "t2.snug" : "t3.gguf"), &file[i], NULL), SNUG_OK);
    static const char *const names[] = {"token_embd.weight", "blk.0.attn_q.weight", "blk.1.ffn_up.weight", "blk.2.attn_output.weight"};
    for (int i = 0; i < 4; i++) {
        uint64_t n[3];
        uint8_t *data[3];
        for (int k = 0; k < 3; k++) data[k] = read_tensor(file[k], names[i], &n[k]);
        assert_true(n[0] == n[1] && n[0] == n[2]);
        assert_memory_not_equal(data[0], data[1], (size_t)n[0]); /* interleaved */
        assert_memory_equal(data[0], data[2], (size_t)n[0]);
        for (int k = 0; k < 3; k++) free(data[k]);
    }
    for (int i = 0; i < 3; i++) gguf_close(&file[i]);
}

static void put_i32(FILE *f, int32_t v) { fwrite(&v, 4, 1, f); }

static void imatrix(void **state) {
    FILE *f = fopen(at("im.dat"), "wb");
    put_i32(f, 1);
    put_i32(f, (int32_t)strlen("blk.0.attn_q.weight"));
    fputs("blk.0.attn_q.weight", f);
    put_i32(f, 4);
    put_i32(f, 96);
    for (int i = 0; i < 96; i++) {
        float v = (float)(i + 1) * 4;
        fwrite(&v, 4, 1, f);
    }
    fclose(f);
    snug_fit_params p = {.source = LLAMA3, .output = at("im.snug"), .size_bytes = 150000, .effort = SNUG_EFFORT_QUICK};
    uint64_t without = fit_ok(p);
    p.imatrix = at("im.dat");
    assert_true(fit_ok(p) != without);
    assert_int_equal(truncate(at("im.dat"), 100), 0);
    fit_fails(p, SNUG_ERR_FORMAT, "ends inside");
    f = fopen(at("im.dat"), "wb");
    put_i32(f, 1000000);
    fclose(f);
    fit_fails(p, SNUG_ERR_FORMAT, "im.dat");
}

static void calibration_file(void **state) {
    static const char *const pin[] = {"blk.*=tcq2"};
    snug_fit_params p = {.source = QWEN2, .output = at("c.snug"), .size_bytes = 200000, .calib = text, .pins = pin, .n_pins = 1, .threads = 2};
    fit_ok(p);
    p.n_pins = 0;
    p.effort = SNUG_EFFORT_QUICK;
    const uint64_t file = fit_ok(p);
    p.calib = "none";
    assert_true(fit_ok(p) != file);
    char mix[160];
    snprintf(mix, sizeof mix, "self:0.8+%s", text);
    p.calib = mix;
    assert_true(fit_ok(p) != file);
    static const char *const bad[] = {"self:", "self:hot", "self:9", "self:-1", "self:nan", "self:1x+text"};
    for (int i = 0; i < 6; i++) {
        p.calib = bad[i];
        fit_fails(p, SNUG_ERR_ARG, "temperature");
    }
    p.calib = "self+/no/such/file";
    fit_fails(p, SNUG_ERR_IO, "/no/such/file");
    FILE *f = fopen(at("short"), "w");
    fputs("too short", f);
    fclose(f);
    p.calib = at("short");
    fit_fails(p, SNUG_ERR_ARG, "calibration text");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(budgets),        cmocka_unit_test(probes), cmocka_unit_test(time_has_a_price), cmocka_unit_test(same_bytes), cmocka_unit_test(seeds_differ), cmocka_unit_test(grains), cmocka_unit_test(interrupted), cmocka_unit_test(large),
                                       cmocka_unit_test(plans),          cmocka_unit_test(pins),       cmocka_unit_test(gguf_target),
                                       cmocka_unit_test(there_and_back), cmocka_unit_test(imatrix),    cmocka_unit_test(calibration_file)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
