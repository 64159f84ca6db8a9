// rooms: base format token kern codec kv model
/* Experts: the picks of transformers, token for token (tests/golden), ties and numbers that are none, stacks and single matrices under
 * the names of both worlds, and a reading of one expert that gives what the whole layer has. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "golden.h"
#include "model/arch.h"

static void picks_of(const char *name) {
    store *s = NULL;
    snug_error err;
    golden expected;
    golden_run r;
    arena outer_mem = {0};
    layer_weights outer;
    assert_true(golden_open(name, &expected));
    must(store_open(expected.dir, false, &s, &err), &err);
    const config *c = &s->cfg;
    uint32_t n_mixed = 0;
    for (uint32_t l = 0; l < c->n_layers; l++) n_mixed += layer_experts(c, (int)l) > 0;
    assert_int_equal(n_mixed, expected.n_layers);
    assert_int_equal(c->n_experts_used, expected.used);
    golden_run_open(&expected, c, &r);
    must(layer_read(s, -1, &outer_mem, &outer, &err), &err);
    assert_null(outer.experts);
    must(graph_embed(r.g, &outer, r.items, expected.n_tokens, r.x, &err), &err);
    for (uint32_t layer = 0; layer < c->n_layers; layer++) {
        arena mem = {0};
        layer_weights lw;
        must(layer_read(s, (int)layer, &mem, &lw, &err), &err);
        golden_run_layer(&r, layer, &lw);
        for (uint32_t i = 0; lw.experts && i < expected.n_tokens; i++) {
            float sum = 0;
            for (uint32_t k = 0; k < expected.used; k++) sum += r.picks[i * expected.used + k].share;
            if (c->share_scale != 0) sum /= c->share_scale;
            assert_true(c->norm_topk ? fabsf(sum - 1) < 1e-6f : sum < 1);
        }
        arena_fini(&mem);
    }
    arena_fini(&outer_mem);
    golden_run_close(&r);
    golden_close(&expected);
    store_close(&s);
}

static void test_picks(void **state) {
    static const char *const names[] = {"qwen3moe", "mixtral", "olmoe", "qwen2moe", "qwen2moe_dense", "gpt_oss", "gpt_oss_mxfp4", "deepseek2", "deepseek2_lite", "deepseek3",
                                        "granitemoe", "granitehybrid_moe"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) picks_of(names[i]);
}

/* Equal probabilities: the first experts. Logits that are no numbers: as many different ones as are asked for. */
static void test_ties(void **state) {
    const float same[4 * 2] = {1, 0, 1, 0, 2, 0, 1, 0}, bad[4 * 2] = {1, 0, NAN, 0, 2, 0, INFINITY, 0}, x[2 * 3] = {1, 1, 0, -1, 0, 0};
    const config c = {.n_embd = 2, .n_experts = 4, .n_experts_used = 3, .norm_topk = true};
    const layer_weights equal = {.vec[ROLE_ROUTER] = same}, broken = {.vec[ROLE_ROUTER] = bad};
    graph_pick p[6];
    graph_route(&c, &equal, x, 2, 3, 1, p);
    const uint32_t first[6] = {0, 1, 2, 0, 1, 3}; /* 2 leads, then 0 and 1; negative: 2 comes last */
    for (int i = 0; i < 6; i++) assert_int_equal(p[i].expert, first[i]);
    graph_route(&c, &broken, x, 2, 3, 1, p);
    for (int i = 0; i < 6; i += 3) assert_true(p[i].expert < p[i + 1].expert && p[i + 1].expert < p[i + 2].expert && p[i + 2].expert < 4);
}

static void test_names(void **state) {
    static const struct { const char *name; tensor_role role; int layer, expert; bool gate_up; } cases[] = {
        {"blk.3.ffn_gate.12.weight", ROLE_GATE, 3, 12, false},  {"blk.3.ffn_up.0.weight", ROLE_UP, 3, 0, false},
        {"blk.0.ffn_down_exps.weight", ROLE_DOWN, 0, -2, false}, {"blk.0.ffn_gate_up_exps.weight", ROLE_GATE, 0, -2, true},
        {"blk.7.ffn_gate_inp.weight", ROLE_ROUTER, 7, -1, false}, {"blk.7.ffn_gate.weight", ROLE_GATE, 7, -1, false},
        {"blk.7.ffn_down_shexp.weight", ROLE_DOWN, 7, -3, false}, {"blk.7.ffn_gate_inp_shexp.weight", ROLE_SHARED_GATE, 7, -1, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int layer, expert;
        bool gate_up;
        char back[64];
        assert_int_equal(role_from_name(cases[i].name, &layer, &expert, &gate_up), cases[i].role);
        assert_int_equal(layer, cases[i].layer);
        assert_int_equal(expert, cases[i].expert);
        assert_int_equal(gate_up, cases[i].gate_up);
        role_tensor_name(cases[i].role, layer, expert, back);
        if (!gate_up) assert_string_equal(back, cases[i].name);
    }
    static const char *const strangers[] = {"blk.3.ffn_gate.012.weight", "blk.3.ffn_gate.-1.weight", "blk.3.ffn_gate_up.1.weight",
                                            "blk.3.ffn_gate.1.bias", "blk.3.ffn_gate_up_shexp.weight", "ffn_gate_exps.weight", "blk.3.attn_q.1.weight"};
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) assert_int_equal(role_from_name(strangers[i], NULL, NULL, NULL), ROLE_NONE);
    static const char *const hf[][2] = {
        {"model.layers.3.mlp.experts.7.up_proj.weight", "blk.3.ffn_up.7.weight"},
        {"model.layers.3.block_sparse_moe.experts.7.w2.weight", "blk.3.ffn_down.7.weight"},
        {"model.layers.3.mlp.gate.weight", "blk.3.ffn_gate_inp.weight"},
        {"model.layers.3.block_sparse_moe.gate.weight", "blk.3.ffn_gate_inp.weight"},
        {"model.layers.3.mlp.experts.gate_up_proj", "blk.3.ffn_gate_up_exps.weight"},
        {"model.layers.3.mlp.shared_expert.up_proj.weight", "blk.3.ffn_up_shexp.weight"},
        {"model.layers.3.mlp.shared_experts.down_proj.weight", "blk.3.ffn_down_shexp.weight"},
    };
    for (size_t i = 0; i < sizeof hf / sizeof *hf; i++) {
        char name[64];
        assert_true(canonical_from_hf(arch_by_hf_class("MixtralForCausalLM"), hf[i][0], name));
        assert_string_equal(name, hf[i][1]);
    }
    char name[64];
    assert_false(canonical_from_hf(arch_by_hf_class("MixtralForCausalLM"), "model.layers.3.block_sparse_moe.experts.7.gate_proj.weight", name));
    assert_false(canonical_from_hf(arch_by_hf_class("MixtralForCausalLM"), "model.layers.3.mlp.experts.7.w1.weight", name));
}

/* One expert as it is read alone, and in the layer; the dense part has none. */
static void test_reading(void **state) {
    store *s = NULL;
    snug_error err;
    arena mem = {0};
    layer_weights all, dense;
    expert_weights one;
    must(store_open(SNUG_SOURCE_DIR "/tests/golden/olmoe", false, &s, &err), &err);
    must(layer_read(s, 1, &mem, &all, &err), &err);
    must(layer_read_dense(s, 1, &mem, &dense, &err), &err);
    must(layer_read_expert(s, 1, 5, &mem, &one, &err), &err);
    for (int i = 0; i < EXPERT_MATRICES; i++) {
        const weight *a = &all.experts[5].w[i], *b = &one.w[i];
        const store_tensor *t = store_expert(s, (tensor_role)(ROLE_GATE + i), 1, 5);
        assert_int_equal(t->expert, 5);
        assert_int_equal(dense.experts[5].w[i].n_terms, 0);
        assert_int_equal(a->rows, t->rows);
        assert_int_equal(a->term[0].wt.bytes, b->term[0].wt.bytes);
        assert_memory_equal(a->term[0].wt.data, b->term[0].wt.data, a->term[0].wt.bytes);
    }
    assert_null(store_find(s, ROLE_GATE, 1));
    arena_fini(&mem);
    store_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_picks), cmocka_unit_test(test_ties), cmocka_unit_test(test_names), cmocka_unit_test(test_reading)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
