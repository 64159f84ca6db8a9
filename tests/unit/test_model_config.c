// rooms: base format token kern codec kv model
/* Configurations: what is read, what is refused and with which words, RoPE scaling, windows, the way to GGUF keys and
 * back. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/arch.h"

static char dir[] = "/tmp/snug-config-XXXXXX";

static int make_dir(void **state) { return mkdtemp(dir) ? 0 : -1; }

static int remove_dir(void **state) {
    char path[128];
    snprintf(path, sizeof path, "%s/config.json", dir);
    remove(path);
    return rmdir(dir);
}

/* A base configuration less the field that contains `without`, plus `extra`. */
static snug_err read_config(const char *without, const char *extra, config *out, snug_error *err) {
    static const char *const base[] = {
        "\"architectures\": [\"LlamaForCausalLM\"]",
        "\"hidden_size\": 64",
        "\"intermediate_size\": 172",
        "\"num_hidden_layers\": 3",
        "\"num_attention_heads\": 8",
        "\"num_key_value_heads\": 4",
        "\"vocab_size\": 512",
        "\"max_position_embeddings\": 256",
        "\"rms_norm_eps\": 1e-5",
        "\"hidden_act\": \"silu\"",
    };
    char path[128];
    snprintf(path, sizeof path, "%s/config.json", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "{ \"comment\": 0");
    for (size_t i = 0; i < sizeof base / sizeof *base; i++)
        if (!*without || !strstr(base[i], without)) fprintf(f, ", %s", base[i]);
    fprintf(f, "%s%s }", *extra ? ", " : "", extra);
    fclose(f);
    memset(err, 0, sizeof *err);
    return config_from_hf(dir, out, err);
}

static void test_defaults(void **state) {
    config c;
    snug_error err;
    assert_int_equal(read_config("", "", &c, &err), SNUG_OK);
    assert_string_equal(c.arch->gguf_name, "llama");
    assert_int_equal(c.head_dim, 8);
    assert_int_equal(c.rope_dims, 8);
    assert_int_equal(c.n_kv_heads, 4);
    assert_true(c.rope_base == 10000);
    assert_int_equal(c.scaling, ROPE_NONE);
    assert_false(c.tied);
    assert_false(c.rope_interleaved);
    assert_int_equal(c.sliding_window, 0);
    assert_int_equal(
        read_config("num_key_value", "\"head_dim\": 32, \"tie_word_embeddings\": true, \"rope_theta\": 5e5", &c, &err),
        SNUG_OK);
    assert_int_equal(c.n_kv_heads, 8);
    assert_int_equal(c.head_dim, 32);
    assert_true(c.tied);
    assert_true(c.rope_base == 5e5);
    assert_int_equal(read_config("",
                                 "\"head_dim\": null, \"rope_scaling\": null, \"rope_parameters\": {\"rope_theta\": 7, "
                                 "\"rope_type\": \"linear\", \"factor\": 4}",
                                 &c, &err),
                     SNUG_OK);
    assert_true(c.rope_base == 7);
    assert_int_equal(c.scaling, ROPE_LINEAR);
    assert_true(c.scale_factor == 4);
}

#define GPT_OSS "\"architectures\": [\"GptOssForCausalLM\"], \"num_local_experts\": 8, \"num_experts_per_tok\": 2"

/* However many architectures there are, a message names a few and where the rest is. */
static void test_near_names(void **state) {
    char text[ARCH_KNOWN_MAX];
    assert_true(strncmp(arch_known_gguf("llama9", text), "near it: llama; docs/models.md lists all ", 41) == 0);
    assert_true(strncmp(arch_known_gguf("OLMO", text), "near it: olmo", 13) == 0);
    assert_true(strncmp(arch_known_hf("", text), "docs/models.md lists all ", 25) == 0);
    assert_true(strncmp(arch_known_hf("zzz", text), "docs/models.md lists all ", 25) == 0);
    assert_non_null(strstr(arch_known_hf("LlamaForSequenceClassification", text), "LlamaForCausalLM"));
}

static void test_refused(void **state) {
    static const struct { const char *without, *extra; snug_err code; const char *words;
    } cases[] = {
        {"architectures", "\"architectures\": [\"UnheardOfForCausalLM\"]", SNUG_ERR_UNSUPPORTED,
         "'UnheardOfForCausalLM' is not supported; docs/models.md lists all "},
        {"architectures", "\"architectures\": [\"Qwen3MoreForCausalLM\"]", SNUG_ERR_UNSUPPORTED,
         "'Qwen3MoreForCausalLM' is not supported; near it: Qwen3MoeForCausalLM, Qwen3ForCausalLM, Qwen3VL"},
        {"architectures", "", SNUG_ERR_FORMAT, "architectures"},
        {"architectures", "\"architectures\": []", SNUG_ERR_FORMAT, "architectures"},
        {"hidden_size", "", SNUG_ERR_FORMAT, "'hidden_size' is missing"},
        {"hidden_size", "\"hidden_size\": \"64\"", SNUG_ERR_FORMAT, "hidden_size"},
        {"hidden_size", "\"hidden_size\": 0", SNUG_ERR_FORMAT, "hidden size (hidden_size, embedding_length) is 0"},
        {"hidden_size", "\"hidden_size\": 99999999999", SNUG_ERR_FORMAT, "hidden_size"},
        {"num_hidden_layers", "\"num_hidden_layers\": 4000000000", SNUG_ERR_FORMAT, "number of layers (num_hidden_layers, block_count) is 4000000000"},
        {"num_key_value", "\"num_key_value_heads\": 3", SNUG_ERR_FORMAT, "8 attention heads (num_attention_heads, head_count) are no multiple of 3"},
        {"num_key_value", "\"num_key_value_heads\": 0", SNUG_ERR_FORMAT, "number of key/value heads (num_key_value_heads, head_count_kv) is 0"},
        {"num_attention_heads", "\"num_attention_heads\": 0", SNUG_ERR_FORMAT, "num_attention_heads"},
        {"", "\"head_dim\": 7", SNUG_ERR_FORMAT, "head size (head_dim, key_length) 7 is odd"},
        {"hidden_act", "\"hidden_act\": \"quick_gelu\"", SNUG_ERR_UNSUPPORTED, "hidden_act 'quick_gelu'"},
        {"", "\"partial_rotary_factor\": 0.5", SNUG_ERR_UNSUPPORTED, "RoPE turns 4 of 8"},
        {"", "\"quantization_config\": {\"quant_method\": \"gptq\"}", SNUG_ERR_UNSUPPORTED, "'gptq'"},
        {"", "\"rope_scaling\": {\"type\": \"xpos\", \"factor\": 4}", SNUG_ERR_UNSUPPORTED, "rope_type 'xpos'"},
        {"", "\"rope_scaling\": {\"type\": \"linear\"}", SNUG_ERR_FORMAT, "scaling factor is 0"},
        {"", "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}", SNUG_ERR_FORMAT, "low_freq_factor"},
        {"", "\"rope_scaling\": 3", SNUG_ERR_FORMAT, "objects"},
        {"", "\"rope_parameters\": {\"full_attention\": {}}", SNUG_ERR_UNSUPPORTED, "full_attention"},
        {"", "\"rope_parameters\": {\"rope_type\": \"default\", \"temperature\": 2}", SNUG_ERR_UNSUPPORTED, "'temperature'"},
        {"", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2, \"blend\": \"yes\"}", SNUG_ERR_UNSUPPORTED, "'blend'"},
        {"", "\"rope_theta\": -1", SNUG_ERR_FORMAT, "RoPE base (rope_theta, rope.freq_base) is -1"},
        {"rms_norm_eps", "\"rms_norm_eps\": -1", SNUG_ERR_FORMAT, "norm epsilon (rms_norm_eps, layer_norm_rms_epsilon) is -1"},
        {"architectures", GPT_OSS ", \"swiglu_limit\": 0", SNUG_ERR_FORMAT, "swiglu_limit is 0"},
        {"architectures", GPT_OSS ", \"swiglu_alpha\": -1", SNUG_ERR_FORMAT, "swiglu_alpha -1"},
        {"architectures", GPT_OSS ", \"swiglu_limit\": 1e30", SNUG_ERR_FORMAT, "limit of gates is 1e+30"},
        {"architectures", GPT_OSS ", \"attention_bias\": false", SNUG_ERR_UNSUPPORTED, "attention_bias is false"},
        {"architectures", GPT_OSS ", \"layer_types\": [\"full_attention\"], \"sliding_window\": 8", SNUG_ERR_FORMAT, "layer_types has 1 entries"},
        {"", "]", SNUG_ERR_FORMAT, "config.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        config c;
        snug_error err;
        snug_err rc = read_config(cases[i].without, cases[i].extra, &c, &err);
        if (rc != cases[i].code || !strstr(err.message, cases[i].words) || !strstr(err.message, "config.json"))
            fail_msg("case %zu (%s): %s, '%s'", i, cases[i].extra, snug_err_name(rc), err.message);
        assert_int_equal(err.code, rc);
    }
    config c;
    assert_int_equal(config_from_hf("/nonexistent", &c, NULL), SNUG_ERR_IO);
}

#define QWEN_MOE "\"architectures\": [\"Qwen3MoeForCausalLM\"], \"moe_intermediate_size\": 44"

static void test_experts(void **state) {
    config c;
    snug_error err;
    assert_int_equal(read_config("architectures", QWEN_MOE ", \"num_experts\": 7, \"num_experts_per_tok\": 3, \"decoder_sparse_step\": 1, \"mlp_only_layers\": []",
                                 &c, &err), SNUG_OK);
    assert_int_equal(c.n_experts, 7);
    assert_int_equal(c.n_experts_used, 3);
    assert_int_equal(c.n_ff, 44);
    assert_int_equal(c.n_ff_dense, 172);
    assert_false(c.norm_topk);
    assert_int_equal(read_config("architectures", "\"architectures\": [\"MixtralForCausalLM\"], \"num_local_experts\": 8, \"num_experts_per_tok\": 2, \"norm_topk_prob\": false",
                                 &c, &err), SNUG_OK);
    assert_true(c.norm_topk); /* always, whatever the field says */
    assert_int_equal(c.n_ff, 172);
    assert_int_equal(c.sliding_window, 0);
    assert_int_equal(read_config("architectures", QWEN_MOE ", \"num_experts\": 7, \"num_experts_per_tok\": 3, \"decoder_sparse_step\": 2, \"mlp_only_layers\": [1, 99]", &c, &err), SNUG_OK);
    for (uint32_t l = 0; l < c.n_layers; l++) assert_int_equal(layer_experts(&c, (int)l), l % 2 && l != 1 ? 7 : 0);
    assert_int_equal(layer_width(&c, 0, EXPERT_NONE), 172);
    assert_int_equal(layer_width(&c, 3, 2), 44);
    static const struct { const char *extra; snug_err code; const char *words; } cases[] = {
        {QWEN_MOE, SNUG_ERR_FORMAT, "'num_local_experts' is missing"},
        {QWEN_MOE ", \"num_experts\": 0, \"num_experts_per_tok\": 1", SNUG_ERR_FORMAT, "number of experts is 0, expected 1 to 4096"},
        {QWEN_MOE ", \"num_experts\": 100000, \"num_experts_per_tok\": 1", SNUG_ERR_FORMAT, "number of experts is 100000, expected 1 to 4096"},
        {QWEN_MOE ", \"num_experts\": 5000000000, \"num_experts_per_tok\": 1", SNUG_ERR_FORMAT, "num_experts"},
        {QWEN_MOE ", \"num_experts\": -1, \"num_experts_per_tok\": 1", SNUG_ERR_FORMAT, "num_experts"},
        {QWEN_MOE ", \"num_experts\": 8", SNUG_ERR_FORMAT, "'num_experts_per_tok' is missing"},
        {QWEN_MOE ", \"num_experts\": 8, \"num_experts_per_tok\": 9", SNUG_ERR_FORMAT, "number of experts per token is 9, expected 1 to 8"},
        {QWEN_MOE ", \"num_experts\": 8, \"num_experts_per_tok\": 0", SNUG_ERR_FORMAT, "number of experts per token is 0, expected 1 to 8"},
        {QWEN_MOE ", \"num_experts\": 8, \"num_experts_per_tok\": 2, \"decoder_sparse_step\": 0", SNUG_ERR_FORMAT, "decoder_sparse_step is 0"},
        {QWEN_MOE ", \"num_experts\": 8, \"num_experts_per_tok\": 2, \"mlp_only_layers\": [-1]", SNUG_ERR_FORMAT, "mlp_only_layers[0]"},
        {"\"architectures\": [\"Qwen3MoeForCausalLM\"], \"num_experts\": 8, \"num_experts_per_tok\": 2", SNUG_ERR_FORMAT, "'moe_intermediate_size' is missing"},
        {"\"architectures\": [\"OlmoeForCausalLM\"], \"num_experts\": 8, \"num_experts_per_tok\": 2, \"clip_qkv\": 8", SNUG_ERR_UNSUPPORTED, "clip_qkv"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snug_err rc = read_config("architectures", cases[i].extra, &c, &err);
        if (rc != cases[i].code || !strstr(err.message, cases[i].words) || !strstr(err.message, "config.json"))
            fail_msg("case %zu (%s): %s, '%s'", i, cases[i].extra, snug_err_name(rc), err.message);
    }
    config many;
    assert_int_equal(read_config("architectures", QWEN_MOE ", \"num_experts\": 7, \"num_experts_per_tok\": 3", &many, &err), SNUG_OK);
    many.n_layers = 1000, many.n_experts = 4096, many.n_experts_used = 1;
    assert_int_equal(config_check(&many, "x", &err), SNUG_ERR_FORMAT);
    assert_non_null(strstr(err.message, "1000 layers of 4096 experts"));
}

static void test_windows(void **state) {
    config c;
    snug_error err;
    const char *mistral = "\"architectures\": [\"MistralForCausalLM\"], ",
               *qwen = "\"architectures\": [\"Qwen2ForCausalLM\"], ";
    const struct { const char *arch, *fields; uint32_t window, from; } cases[] = {
        {mistral, "\"sliding_window\": 16", 16, 0},
        {mistral, "\"sliding_window\": null", 0, 0},
        {mistral, "\"comment2\": 0", 4096, 0},
        {qwen, "\"sliding_window\": 16", 0, 0},
        {qwen, "\"sliding_window\": 16, \"use_sliding_window\": true, \"max_window_layers\": 2", 16, 2},
        {qwen, "\"sliding_window\": 16, \"use_sliding_window\": true, \"max_window_layers\": 3", 0, 0},
        {qwen, "\"sliding_window\": 16, \"use_sliding_window\": true, \"max_window_layers\": 0, \"layer_types\": "
               "[\"full_attention\", \"sliding_attention\", \"sliding_attention\"]", 16, 1},
        {qwen, "\"sliding_window\": 16, \"use_sliding_window\": false, \"layer_types\": "
               "[\"full_attention\", \"full_attention\", \"full_attention\"]", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char extra[512];
        snprintf(extra, sizeof extra, "%s%s", cases[i].arch, cases[i].fields);
        assert_int_equal(read_config("architectures", extra, &c, &err), SNUG_OK);
        assert_int_equal(c.sliding_window, cases[i].window);
        for (uint32_t layer = 0; layer < 3; layer++)
            assert_int_equal(layer_window(&c, layer), layer >= cases[i].from ? cases[i].window : 0);
    }
    char extra[512];
    snprintf(extra, sizeof extra, "%s\"sliding_window\": 16, \"use_sliding_window\": true, \"layer_types\": "
                                  "[\"sliding_attention\", \"full_attention\", \"sliding_attention\"]", qwen);
    assert_int_equal(read_config("architectures", extra, &c, &err), SNUG_OK);
    for (uint32_t layer = 0; layer < 3; layer++) assert_int_equal(layer_window(&c, layer), layer == 1 ? 0 : 16);
    snprintf(extra, sizeof extra, "%s\"sliding_window\": 16, \"use_sliding_window\": true, \"layer_types\": "
                                  "[\"sliding_attention\", \"linear_attention\", \"sliding_attention\"]", qwen);
    assert_int_equal(read_config("architectures", extra, &c, &err), SNUG_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "layer 1"));
}

/* The three bands of llama3 scaling, and the factors of rope_freqs.weight giving the same frequencies. */
static void test_rope(void **state) {
    config c;
    snug_error err;
    assert_int_equal(
        read_config(
            "",
            "\"head_dim\": 64, \"rope_theta\": 500000, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, "
            "\"low_freq_factor\": 1, \"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192}",
            &c, &err),
        SNUG_OK);
    double scaled[32], plain[32], again[32];
    float factors[32];
    rope_inv_freq(&c, NULL, false, 64, scaled);
    assert_true(rope_freq_factors(&c, factors));
    config none = c;
    none.scaling = ROPE_NONE;
    rope_inv_freq(&none, NULL, false, 64, plain);
    rope_inv_freq(&none, factors, false, 64, again);
    assert_false(rope_freq_factors(&none, factors));
    for (int i = 0; i < 32; i++) {
        double wavelength = 2 * 3.14159265358979 / plain[i];
        assert_true(fabs(plain[i] - pow(500000, -i / 32.0)) < 1e-12);
        if (wavelength < 8192 / 4.0) assert_true(scaled[i] == plain[i]);
        else if (wavelength > 8192) assert_true(fabs(scaled[i] * 8 / plain[i] - 1) < 1e-12);
        else assert_true(scaled[i] < plain[i] && scaled[i] > plain[i] / 8);
        assert_true(fabs(again[i] / scaled[i] - 1) < 1e-6);
    }
    assert_true(factors[0] == 1 && factors[31] == 8);
}

static void test_names(void **state) {
    char name[64];
    int layer = -2;
    assert_int_equal(role_from_name("blk.12.attn_q.weight", &layer, NULL, NULL), ROLE_Q);
    assert_int_equal(layer, 12);
    assert_int_equal(role_from_name("output.weight", &layer, NULL, NULL), ROLE_HEAD);
    assert_int_equal(layer, -1);
    static const char *const strangers[] = {"blk.12.output.weight",
                                            "attn_q.weight",
                                            "blk.012.attn_q.weight",
                                            "blk.-1.attn_q.weight",
                                            "blk.99999999999999999999.attn_q.weight",
                                            "blk..attn_q.weight",
                                            "blk.1.attn_q.weight ",
                                            ""};
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++)
        assert_int_equal(role_from_name(strangers[i], NULL, NULL, NULL), ROLE_NONE);
    const arch *llama = arch_by_hf_class("LlamaForCausalLM");
    assert_true(canonical_from_hf(llama, "model.layers.3.mlp.down_proj.weight", name));
    assert_string_equal(name, "blk.3.ffn_down.weight");
    assert_true(canonical_from_hf(llama, "lm_head.weight", name));
    assert_true(canonical_from_hf(llama, "model.layers.3.mlp.down_proj.bias", name));
    assert_string_equal(name, "blk.3.ffn_down.bias");
    assert_false(canonical_from_hf(llama, "model.layers.0.self_attn.rotary_emb.inv_freq", name));
    assert_true(hf_name_harmless(llama, "model.layers.0.self_attn.rotary_emb.inv_freq"));
    for (int r = 0; r < ROLE_COUNT; r++) {
        int back;
        role_tensor_name((tensor_role)r, 7, EXPERT_NONE, name);
        assert_int_equal(role_from_name(name, &back, NULL, NULL), r);
        assert_int_equal(back, role_in_layer((tensor_role)r) ? 7 : -1);
    }
}

/* To GGUF keys and back through a file with no tensors. */
static void through_gguf(const config *c, config *back) {
    snug_error err;
    gguf_kvs kvs = {0};
    buf header = {0};
    uint64_t bytes;
    char path[128];
    gguf_file *g = NULL;
    assert_int_equal(config_to_gguf(c, &kvs, &err), SNUG_OK);
    assert_int_equal(gguf_layout(&kvs, NULL, 0, 32, &header, &bytes, &err), SNUG_OK);
    snprintf(path, sizeof path, "%s/x.gguf", dir);
    FILE *f = fopen(path, "wb");
    assert_int_equal(fwrite(header.data, 1, header.len, f), header.len);
    fclose(f);
    assert_int_equal(gguf_open(path, &g, &err), SNUG_OK);
    if (config_from_gguf(g, back, &err)) fail_msg("%s", err.message);
    assert_string_equal(back->name, c->name);
    assert_int_equal(back->rope_interleaved, config_gguf_interleaved(c));
    assert_true(back->tied); /* no output.weight in this file */
    gguf_close(&g);
    gguf_kvs_fini(&kvs);
    buf_fini(&header);
    remove(path);
}

/* What the keys can say must survive. */
static void round_trip(const char *extra, const char *gguf_name, config *out_c, config *out_back) {
    config c, back;
    snug_error err;
    assert_int_equal(read_config("architectures", extra, &c, &err), SNUG_OK);
    through_gguf(&c, &back);
    assert_string_equal(back.arch->gguf_name, gguf_name);
    assert_ptr_equal(back.arch->experts, c.arch->experts);
    back.arch = c.arch, back.rope_interleaved = false, back.tied = c.tied;
    assert_int_equal(back.n_layers, c.n_layers);
    assert_int_equal(back.n_embd, c.n_embd);
    assert_int_equal(back.n_heads, c.n_heads);
    assert_int_equal(back.n_kv_heads, c.n_kv_heads);
    assert_int_equal(back.head_dim, c.head_dim);
    assert_int_equal(back.rope_dims, c.rope_dims);
    assert_int_equal(back.n_ff, c.n_ff);
    assert_int_equal(back.n_vocab, c.n_vocab);
    assert_int_equal(back.n_ctx_train, c.n_ctx_train);
    assert_int_equal(back.n_experts, c.n_experts);
    assert_int_equal(back.n_experts_used, c.n_experts_used);
    assert_int_equal(back.n_ff_dense, c.n_ff_dense);
    assert_int_equal(back.norm_topk, c.norm_topk);
    assert_true(back.rope_base == c.rope_base && back.norm_eps == c.norm_eps);
    assert_memory_equal(back.layer, c.layer, sizeof c.layer);
    assert_int_equal(back.sliding_window, c.sliding_window);
    assert_int_equal(back.act, c.act);
    assert_true(back.embd_scale == c.embd_scale && back.residual_scale == c.residual_scale && fabsf(back.logit_scale / c.logit_scale - 1) < 1e-6f);
    assert_true(back.attn_scale == c.attn_scale && back.attn_softcap == c.attn_softcap && back.logit_softcap == c.logit_softcap);
    assert_true(back.rope_base_local == c.rope_base_local);
    assert_memory_equal(&back.ssm, &c.ssm, sizeof c.ssm);
    *out_c = c;
    *out_back = back;
}

static void test_gguf_round_trip(void **state) {
    config c, back;
    round_trip("\"architectures\": [\"MistralForCausalLM\"], \"sliding_window\": 77, \"head_dim\": 24, "
               "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.5}, \"rope_theta\": 1e6", "llama", &c, &back);
    assert_int_equal(back.sliding_window, 77);
    assert_int_equal(back.scaling, ROPE_LINEAR);
    assert_true(back.scale_factor == 2.5 && back.rope_base == 1e6);
    round_trip(QWEN_MOE ", \"num_experts\": 7, \"num_experts_per_tok\": 3", "qwen3moe", &c, &back); /* shares not normalised, unlike llama.cpp's */
    round_trip("\"architectures\": [\"MixtralForCausalLM\"], \"num_local_experts\": 8, \"num_experts_per_tok\": 2", "llama", &c, &back);
    round_trip("\"architectures\": [\"OlmoeForCausalLM\"], \"num_experts\": 8, \"num_experts_per_tok\": 2, \"norm_topk_prob\": true", "olmoe", &c, &back);
    round_trip("\"architectures\": [\"BitNetForCausalLM\"], \"hidden_act\": \"relu2\"", "bitnet", &c, &back);
    assert_true(c.act == ACT_RELU2 && back.act == ACT_RELU2);
    round_trip("\"architectures\": [\"BitNetForCausalLM\"], \"hidden_act\": \"silu\"", "bitnet", &c, &back); /* llama.cpp's default */
    assert_true(c.act == ACT_SILU && back.act == ACT_SILU);
    round_trip("\"architectures\": [\"BitNetForCausalLM\"], \"quantization_config\": {\"quant_method\": \"bitnet\", \"modules_to_not_convert\": [\"lm_head\"]}", "bitnet", &c, &back);
    assert_true(c.ternary == TERNARY_OVER && back.ternary == TERNARY_PLAIN); /* what a GGUF has is what is multiplied */
}

#define OLMO3 "\"architectures\": [\"Olmo3ForCausalLM\"], \"sliding_window\": 8"
#define MISTRAL3 "\"architectures\": [\"Mistral3ForConditionalGeneration\"], \"model_type\": "
#define GROWING "\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 1e6, \"factor\": 16, \"original_max_position_embeddings\": 64, \"mscale\": 1, \"mscale_all_dim\": 1, \"llama_4_scaling_beta\": 0.1}"

static void test_families_round_trip(void **state) {
    config c, back;
    snug_error err;
    round_trip("\"architectures\": [\"GemmaForCausalLM\"], \"hidden_act\": \"gelu\", \"head_dim\": 16", "gemma", &c, &back);
    assert_true(c.act == ACT_GELU && c.embd_scale == 8);
    round_trip("\"architectures\": [\"Gemma2ForCausalLM\"], \"head_dim\": 16, \"query_pre_attn_scalar\": 24, \"attn_logit_softcapping\": 50, \"final_logit_softcapping\": 30, "
               "\"sliding_window\": 16", "gemma2", &c, &back);
    assert_true(layer_window(&c, 0) == 16 && layer_window(&c, 1) == 0 && layer_window(&c, 2) == 16);
    assert_true(c.attn_softcap == 50 && c.logit_softcap == 30 && fabsf(c.attn_scale - 0.2041241f) < 1e-6f);
    round_trip("\"architectures\": [\"Gemma3ForCausalLM\"], \"head_dim\": 16, \"query_pre_attn_scalar\": 16, \"sliding_window\": 16, \"rope_local_base_freq\": 777, \"layer_types\": "
               "[\"sliding_attention\", \"full_attention\", \"sliding_attention\"]", "gemma3", &c, &back);
    assert_true(c.layer[0] == (LAYER_WINDOW | LAYER_LOCAL_ROPE) && c.layer[1] == 0 && c.rope_base_local == 777 && c.attn_scale == 0);
    round_trip("\"architectures\": [\"GraniteForCausalLM\"], \"embedding_multiplier\": 12, \"residual_multiplier\": 0.22, \"attention_multiplier\": 0.0078125, \"logits_scaling\": 16", "granite", &c, &back);
    assert_true(c.logit_scale == 1 / 16.0f && c.residual_scale == 0.22f);
    round_trip("\"architectures\": [\"GraniteMoeForCausalLM\"], \"num_local_experts\": 6, \"residual_multiplier\": 0.22", "granitemoe", &c, &back);
    assert_true(c.n_experts == 6 && c.n_experts_used == 2 && c.norm_topk && c.n_ff_shared == 0 && c.residual_scale == 0.22f);
    round_trip(OLMO3 ", \"layer_types\": [\"full_attention\", \"sliding_attention\", \"full_attention\"], \"rope_parameters\": {\"full_attention\": {\"rope_type\": \"linear\", \"factor\": 2, "
               "\"rope_theta\": 7}, \"sliding_attention\": {\"rope_theta\": 9}}", "olmo2", &c, &back);
    assert_true(c.layer[1] == (LAYER_WINDOW | LAYER_LOCAL_ROPE) && c.layer[0] == 0 && c.sliding_window == 8 && c.rope_base == 7 && back.rope_base_local == 9 && back.scaling == ROPE_LINEAR);
    assert_int_equal(back.arch->for_others(&back, "x", &err), SNUG_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "the pattern of windows"));
    round_trip(OLMO3 ", \"rope_theta\": 7", "olmo2", &c, &back); /* three layers, all before the fourth */
    assert_true(c.layer[2] == (LAYER_WINDOW | LAYER_LOCAL_ROPE) && back.rope_base_local == 7);
    assert_int_equal(c.arch->for_others(&c, "x", &err), SNUG_OK);
    assert_int_equal(read_config("architectures", OLMO3 ", \"rope_parameters\": {\"full_attention\": {\"rope_theta\": 7}, \"sliding_attention\": {\"rope_type\": \"yarn\"}}", &c, &err), SNUG_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "rope_type 'yarn' of layers with a window"));
    round_trip(MISTRAL3 "\"ministral3\", " GROWING, "mistral3", &c, &back);
    assert_true(c.attn_growth == 0.1f && back.attn_growth == 0.1f && c.scale_orig_ctx == 64 && c.rope_magnitude == 1 && fabs(back.rope_magnitude - 1) < 1e-6 && !c.sliding_window);
    assert_int_equal(read_config("architectures", MISTRAL3 "\"mistral\", " GROWING, &c, &err), SNUG_OK); /* which has no such growth */
    assert_true(c.attn_growth == 0);
    assert_int_equal(read_config("architectures", MISTRAL3 "\"mistral4\"", &c, &err), SNUG_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "'mistral4'"));
    round_trip("\"architectures\": [\"Ministral3ForCausalLM\"], \"sliding_window\": 16, \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 7}", "mistral3", &c, &back);
    assert_true(c.attn_growth == 0 && c.sliding_window == 16);
    assert_int_equal(read_config("architectures", MISTRAL3 "\"ministral3\"", &c, &err), SNUG_ERR_FORMAT);
    assert_non_null(strstr(err.message, "'rope_parameters' is missing"));
    round_trip("\"architectures\": [\"SmolLM3ForCausalLM\"], \"no_rope_layers\": [1, 0, 1]", "smollm3", &c, &back);
    assert_true(c.layer[1] == LAYER_NO_ROPE && c.layer[0] == 0);
    round_trip("\"architectures\": [\"Qwen2ForCausalLM\"], \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"original_max_position_embeddings\": 32, \"truncate\": false}", "qwen2", &c, &back);
    assert_true(back.scaling == ROPE_YARN && back.scale_factor == 4 && back.scale_orig_ctx == 32 && back.yarn_exact && fabs(back.rope_magnitude / c.rope_magnitude - 1) < 1e-6);
    assert_true(fabs(c.rope_magnitude - (0.1 * log(4) + 1)) < 1e-12);
    round_trip("\"architectures\": [\"LlamaForCausalLM\"], \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2.5}", "llama", &c, &back);
    assert_true(back.scaling == ROPE_DYNAMIC && back.scale_factor == 2.5 && back.scale_orig_ctx == c.n_ctx_train);
    round_trip("\"architectures\": [\"Phi3ForCausalLM\"], \"partial_rotary_factor\": 0.75, \"original_max_position_embeddings\": 16, \"rope_scaling\": {\"type\": \"su\", \"short_factor\": [1, 1.5, 2], "
               "\"long_factor\": [1, 4, 9]}", "phi3", &c, &back);
    assert_true(back.scaling == ROPE_LONG && back.rope_dims == 6 && back.rope_long[2] == 9 && back.rope_short[1] == 1.5f && back.scale_orig_ctx == 16);
    double near[4], far[4];
    rope_inv_freq(&back, NULL, false, 16, near);
    rope_inv_freq(&back, NULL, false, 17, far);
    assert_true(near[0] == far[0] && fabs(near[1] / far[1] - 4 / 1.5) < 1e-9 && fabs(near[2] / far[2] - 4.5) < 1e-9);
    round_trip(GPT_OSS ", \"sliding_window\": 16", "gpt-oss", &c, &back);
    assert_true(c.scaling == ROPE_YARN && c.scale_factor == 32 && c.yarn_exact && back.yarn_exact && back.scale_orig_ctx == 4096 && fabs(back.rope_magnitude - (0.1 * log(32) + 1)) < 1e-6);
    assert_true(back.swiglu_limit == 7 && back.swiglu_alpha == 1.702f && layer_window(&c, 0) == 16 && layer_window(&c, 1) == 0 && c.head_dim == 64);
    round_trip(GPT_OSS ", \"swiglu_limit\": 1.5, \"swiglu_alpha\": 2, \"rope_scaling\": {\"rope_type\": \"yarn\", "
               "\"factor\": 4, \"original_max_position_embeddings\": 32}", "gpt-oss", &c, &back);
    assert_true(back.swiglu_limit == 1.5f && back.swiglu_alpha == 2 && !c.yarn_exact && !back.yarn_exact);
}

/* DeepSeek's config.json with `what` instead of `was`. */
static snug_err read_deepseek(int version, const char *was, const char *what, config *out, snug_error *err) {
    static const char *const text[] = {
        "{\"architectures\": [\"DeepseekV2ForCausalLM\"], \"num_hidden_layers\": 4, \"hidden_size\": 64, \"num_attention_heads\": 4, \"num_key_value_heads\": 4, \"intermediate_size\": 100, "
        "\"vocab_size\": 512, \"max_position_embeddings\": 256, \"q_lora_rank\": null, \"kv_lora_rank\": 36, \"qk_nope_head_dim\": 12, \"qk_rope_head_dim\": 8, \"v_head_dim\": 14, "
        "\"n_routed_experts\": 6, \"n_shared_experts\": 2, \"moe_intermediate_size\": 28, \"num_experts_per_tok\": 2, \"first_k_dense_replace\": 1, \"topk_method\": \"greedy\", \"n_group\": 3, "
        "\"topk_group\": 2, \"rms_norm_eps\": 1e-6, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40, \"mscale\": 0.707, \"mscale_all_dim\": 0.707, \"original_max_position_embeddings\": 32}}",
        "{\"architectures\": [\"DeepseekV3ForCausalLM\"], \"num_hidden_layers\": 4, \"hidden_size\": 64, \"num_attention_heads\": 4, \"num_key_value_heads\": 4, \"intermediate_size\": 100, "
        "\"vocab_size\": 512, \"max_position_embeddings\": 256, \"q_lora_rank\": 28, \"kv_lora_rank\": 36, \"qk_nope_head_dim\": 12, \"qk_rope_head_dim\": 8, \"v_head_dim\": 14, "
        "\"n_routed_experts\": 12, \"n_shared_experts\": 1, \"moe_intermediate_size\": 28, \"num_experts_per_tok\": 4, \"first_k_dense_replace\": 3, \"n_group\": 4, \"topk_group\": 2, "
        "\"rms_norm_eps\": 1e-5, \"routed_scaling_factor\": 2.5, \"num_nextn_predict_layers\": 1, \"rope_scaling\": null}"};
    char json[2048];
    const char *from = text[version - 2], *at = strstr(from, was);
    json_t *o = NULL;
    assert_non_null(at);
    snprintf(json, sizeof json, "%.*s%s%s", (int)(at - from), from, what, at + strlen(was));
    assert_int_equal(json_read_buffer("config.json", json, strlen(json), &o, err), SNUG_OK);
    const snug_err rc = config_from_json(o, "config.json", out, err);
    json_decref(o);
    return rc;
}

static void test_deepseek(void **state) {
    config c, back;
    snug_error err;
    if (read_deepseek(2, "\"q_lora_rank\": null, ", "", &c, &err)) fail_msg("%s", err.message);
    const double m = 0.0707 * log(40) + 1;
    assert_true(c.head_dim == 20 && c.rope_dims == 8 && c.value_dim == 14 && !c.q_rank && c.kv_rank == 36 && c.rope_interleaved);
    assert_true(c.n_ff_shared == 56 && c.n_ff_dense == 100 && c.layer[0] == LAYER_DENSE && c.layer[1] == 0 && !c.n_groups && !c.norm_topk && !c.sigmoid);
    assert_true(fabs(c.attn_scale - m * m / sqrt(20)) < 1e-7 && c.rope_magnitude == 1 && c.latent_eps == 1e-6f);
    for (int version = 2; version <= 3; version++) {
        if (read_deepseek(version, "\"topk_group\": 2", "\"topk_group\": 2, \"moe_layer_freq\": 1", &c, &err)) fail_msg("%s", err.message);
        through_gguf(&c, &back);
        assert_true(back.head_dim == 20 && back.rope_dims == 8 && back.value_dim == 14 && back.q_rank == c.q_rank && back.kv_rank == 36 && back.n_kv_heads == 4);
        assert_true(back.n_ff_shared == c.n_ff_shared && back.n_ff_dense == 100 && back.n_ff == 28 && back.n_experts == c.n_experts && back.n_groups == c.n_groups);
        assert_true(back.sigmoid == c.sigmoid && back.norm_topk == c.norm_topk && back.share_scale == c.share_scale && back.latent_eps == c.latent_eps);
        assert_true(back.attn_scale == c.attn_scale && fabs(back.rope_magnitude - c.rope_magnitude) < 1e-6 && back.n_layers == 4);
        assert_memory_equal(back.layer, c.layer, sizeof c.layer);
    }
    assert_true(c.sigmoid && c.choice_bias && c.norm_topk && c.n_groups == 4 && c.n_groups_used == 2 && c.share_scale == 2.5f && c.layer[2] == LAYER_DENSE && c.n_further == 1);
    assert_true(name_of_further_layer(&c, "model.layers.4.enorm.weight") && name_of_further_layer(&c, "blk.4.nextn.eh_proj.weight") && !name_of_further_layer(&c, "model.layers.5.enorm.weight") &&
                !name_of_further_layer(&c, "model.layers.3.mlp.gate.weight") && !name_of_further_layer(&c, "lm_head.weight"));
    static const struct { int version; const char *was, *what, *message; snug_err rc; } bad[] = {
        {2, "\"topk_method\": \"greedy\"", "\"topk_method\": \"random\"", "topk_method", SNUG_ERR_UNSUPPORTED},
        {2, "\"n_group\": 3", "\"norm_topk_prob\": true, \"n_group\": 3", "norm_topk_prob", SNUG_ERR_UNSUPPORTED},
        {2, "\"yarn\"", "\"linear\"", "rope_scaling", SNUG_ERR_UNSUPPORTED},
        {2, "0.707, \"original", "-3, \"original", "mscale_all_dim", SNUG_ERR_FORMAT},
        {2, "\"kv_lora_rank\": 36", "\"kv_lora_rank\": 0", "kv_lora_rank", SNUG_ERR_FORMAT},
        {2, "\"num_key_value_heads\": 4", "\"num_key_value_heads\": 2", "num_key_value_heads", SNUG_ERR_FORMAT},
        {2, "\"v_head_dim\": 14", "\"v_head_dim\": 13", "v_head_dim", SNUG_ERR_FORMAT},
        {2, "\"qk_nope_head_dim\": 12", "\"qk_nope_head_dim\": 0", "qk_nope_head_dim", SNUG_ERR_FORMAT},
        {2, "\"n_shared_experts\": 2", "\"n_shared_experts\": 4000000000", "n_shared_experts", SNUG_ERR_FORMAT},
        {3, "\"n_group\": 4", "\"attention_bias\": true, \"n_group\": 4", "attention_bias", SNUG_ERR_UNSUPPORTED},
        {3, "\"n_group\": 4", "\"scoring_func\": \"softmax\", \"n_group\": 4", "scoring_func", SNUG_ERR_UNSUPPORTED},
        {3, "\"n_group\": 4", "\"rope_interleave\": false, \"n_group\": 4", "rope_interleave", SNUG_ERR_UNSUPPORTED},
        {3, "\"n_group\": 4", "\"moe_layer_freq\": 2, \"n_group\": 4", "moe_layer_freq", SNUG_ERR_UNSUPPORTED},
        {3, "\"n_group\": 4", "\"n_group\": 5", "n_group", SNUG_ERR_FORMAT},
        {3, "\"n_group\": 4", "\"n_group\": 12", "n_group", SNUG_ERR_FORMAT}, /* groups of one have no two best */
        {3, "\"topk_group\": 2", "\"topk_group\": 1", "n_group", SNUG_ERR_FORMAT},
        {3, "\"routed_scaling_factor\": 2.5", "\"routed_scaling_factor\": 0", "routed_scaling_factor", SNUG_ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const snug_err rc = read_deepseek(bad[i].version, bad[i].was, bad[i].what, &c, &err);
        if (rc != bad[i].rc || !strstr(err.message, bad[i].message)) fail_msg("%s: %s %s", bad[i].what, snug_err_name(rc), rc ? err.message : "");
    }
}

#define MAMBA "\"architectures\": [\"Mamba2ForCausalLM\"], \"num_heads\": 8, \"head_dim\": 16, \"n_groups\": 2"
#define HYBRID_OF(EXPERTS) "\"architectures\": [\"GraniteMoeHybridForCausalLM\"], \"mamba_n_heads\": 8, \"mamba_d_head\": \"auto\", \"num_local_experts\": " EXPERTS ", \"shared_intermediate_size\": 100"
#define HYBRID HYBRID_OF("0")

static void test_state_spaces(void **state) {
    config c, back;
    snug_error err;
    round_trip(MAMBA ", \"time_step_limit\": [0.0, Infinity], \"intermediate_size\": 0", "mamba2", &c, &back);
    assert_true(c.n_heads == 0 && c.n_ff == 0 && c.ssm.inner == 128 && c.ssm.heads == 8 && c.ssm.groups == 2 && c.ssm.state == 128 && c.ssm.conv == 4);
    assert_true(c.ssm.dt_min == 0 && isinf(c.ssm.dt_max) && layer_is_ssm(&c, 2) && !layer_is_ssm(&c, 3) && !layer_is_ssm(&c, -1));
    round_trip(MAMBA ", \"time_step_limit\": [0.25, {\"__float__\": \"Infinity\"}]", "mamba2", &c, &back);
    assert_true(c.ssm.dt_min == 0.25f && isinf(c.ssm.dt_max));
    assert_int_equal(c.arch->for_others(&c, "x", &err), SNUG_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "time_step_limit"));
    round_trip(HYBRID ", \"layer_types\": [\"mamba\", \"attention\", \"linear_attention\"], \"time_step_limit\": null", "granitehybrid", &c, &back);
    assert_true(c.layer[0] == (LAYER_SSM | LAYER_NO_ROPE) && c.layer[1] == LAYER_NO_ROPE && c.n_ff == 100 && c.ssm.inner == 128 && c.ssm.groups == 1 && c.n_kv_heads == 4);
    assert_int_equal(c.arch->for_others(&c, "x", &err), SNUG_OK);
    round_trip(HYBRID ", \"layer_types\": [\"attention\", \"full_attention\", \"attention\"], \"position_embedding_type\": \"rope\"", "granite", &c, &back);
    assert_true(c.layer[0] == 0 && c.layer[2] == 0 && c.ssm.inner == 0);
    round_trip(HYBRID ", \"layer_types\": [\"attention\", \"full_attention\", \"attention\"]", "granitehybrid", &c, &back);
    assert_int_equal(c.arch->for_others(&c, "x", &err), SNUG_ERR_UNSUPPORTED);
    assert_true(c.n_ff == 100 && c.n_experts == 0);
    round_trip(HYBRID_OF("6") ", \"num_experts_per_tok\": 4, \"layer_types\": [\"mamba\", \"attention\", \"mamba\"]", "granitehybrid", &c, &back);
    assert_true(c.n_experts == 6 && c.n_experts_used == 4 && c.norm_topk && c.n_ff_shared == 100 && c.n_ff != 100 && layer_is_ssm(&c, 2));
    static const struct { const char *extra; snug_err code; const char *words; } cases[] = {
        {HYBRID_OF("6") ", \"num_experts_per_tok\": 7", SNUG_ERR_FORMAT, "experts per token is 7"},
        {HYBRID_OF("\"many\""), SNUG_ERR_FORMAT, "num_local_experts"},
        {MAMBA ", \"expand\": 3", SNUG_ERR_FORMAT, "8 heads (num_heads) of 16 (head_dim) are not 3 (expand) times hidden_size 64"},
        {MAMBA ", \"use_bias\": true", SNUG_ERR_UNSUPPORTED, "use_bias"},
        {MAMBA ", \"use_conv_bias\": false", SNUG_ERR_UNSUPPORTED, "use_conv_bias"},
        {MAMBA ", \"time_step_limit\": [1]", SNUG_ERR_FORMAT, "time_step_limit"},
        {MAMBA ", \"time_step_limit\": [2, 1]", SNUG_ERR_FORMAT, "within 2 and 1 (time_step_limit)"},
        {MAMBA ", \"time_step_limit\": [\"a\", 1]", SNUG_ERR_FORMAT, "time_step_limit"},
        {MAMBA ", \"state_size\": 0", SNUG_ERR_FORMAT, "state size (state_size, mamba_d_state, ssm.state_size) is 0"},
        {MAMBA ", \"conv_kernel\": 1000", SNUG_ERR_FORMAT, "conv_kernel"},
        {"\"architectures\": [\"Mamba2ForCausalLM\"], \"num_heads\": 8, \"head_dim\": 16, \"n_groups\": 3", SNUG_ERR_FORMAT, "128 channels, 8 heads and 3 groups"},
        {HYBRID ", \"layer_types\": [\"mamba\"]", SNUG_ERR_FORMAT, "layer_types"},
        {HYBRID ", \"layer_types\": [\"mamba\", \"conv\", \"mamba\"]", SNUG_ERR_UNSUPPORTED, "layer type 'conv' of layer 1"},
        {HYBRID ", \"position_embedding_type\": \"alibi\"", SNUG_ERR_UNSUPPORTED, "'alibi'"},
        {HYBRID ", \"attention_bias\": true", SNUG_ERR_UNSUPPORTED, "attention_bias"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snug_err rc = read_config("architectures", cases[i].extra, &c, &err);
        if (rc != cases[i].code || !strstr(err.message, cases[i].words)) fail_msg("case %zu (%s): %s, '%s'", i, cases[i].extra, snug_err_name(rc), err.message);
    }
    /* layers that a file lists otherwise than its architecture can have them */
    assert_int_equal(read_config("architectures", MAMBA, &c, &err), SNUG_OK);
    c.layer[1] = 0;
    assert_int_equal(config_check(&c, "x", &err), SNUG_ERR_FORMAT);
    assert_non_null(strstr(err.message, "layer 1 is no state space"));
    assert_int_equal(read_config("", "", &c, &err), SNUG_OK);
    c.layer[1] = LAYER_SSM;
    assert_int_equal(config_check(&c, "x", &err), SNUG_ERR_FORMAT);
    assert_non_null(strstr(err.message, "layer 1 is a state space"));
}

/* YaRN beside its definition, dimension by dimension; dynamic scaling beyond the trained context. */
static void test_rope_beyond(void **state) {
    config c;
    snug_error err;
    double got[32];
    assert_int_equal(read_config("", "\"head_dim\": 64, \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 8, \"original_max_position_embeddings\": 4096}", &c, &err), SNUG_OK);
    rope_inv_freq(&c, NULL, false, 64, got);
    const double low = floor(64 * log(4096 / (32 * 2 * 3.14159265358979323846)) / (2 * log(1e4))), high = ceil(64 * log(4096 / (2 * 3.14159265358979323846)) / (2 * log(1e4)));
    for (int i = 0; i < 32; i++) {
        const double plain = pow(1e4, -i / 32.0), ramp = i <= low ? 0 : i >= high ? 1 : (i - low) / (high - low);
        assert_true(fabs(got[i] / (plain * (1 - ramp) + plain / 8 * ramp) - 1) < 1e-12);
    }
    assert_int_equal(read_config("", "\"head_dim\": 64, \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}", &c, &err), SNUG_OK);
    for (uint32_t times = 1; times <= 4; times *= 2) {
        rope_inv_freq(&c, NULL, false, times * c.n_ctx_train, got);
        for (int i = 0; i < 32; i++) assert_true(fabs(got[i] / pow(1e4 * pow(2.0 * times - 1, 64 / 62.0), -i / 32.0) - 1) < 1e-12);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_near_names), cmocka_unit_test(test_refused), cmocka_unit_test(test_experts), cmocka_unit_test(test_windows), cmocka_unit_test(test_state_spaces),
        cmocka_unit_test(test_rope),     cmocka_unit_test(test_names),   cmocka_unit_test(test_gguf_round_trip), cmocka_unit_test(test_families_round_trip), cmocka_unit_test(test_deepseek), cmocka_unit_test(test_rope_beyond),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
