/* GPT-NeoX (Pythia): attention and feed-forward read the same x, unless the model says otherwise; LayerNorm, biases everywhere, no gates, RoPE of some
 * dimensions; in a folder q, k, v stand in one matrix, head by head. Sources: transformers' modeling_gpt_neox.py; llama.cpp's gptneox, whose GELU is the
 * one by tanh. */
#include "base/err.h"
#include "model/arch.h"

#include <stdio.h>

static snug_err from_hf(const hf_fields *f, config *c, snug_error *err) {
    bool bias = true;
    snug_err rc = hf_bool_or(f, "use_parallel_residual", true, &c->parallel, err);
    if (!rc) rc = hf_bool_or(f, "attention_bias", true, &bias, err);
    return rc || bias ? rc : err_set(err, SNUG_ERR_UNSUPPORTED, "%s: attention_bias is false, which is not supported, expected true: attention with biases", f->where);
}

static snug_err from_gguf(gguf_fields *f, config *c, snug_error *err) {
    c->parallel = gguf_get_bool_or(f->g, gguf_key(f, "use_parallel_residual"), true);
    return SNUG_OK;
}

static bool to_gguf(const config *c, gguf_kvs *out) {
    char key[128];
    snprintf(key, sizeof key, "%s.use_parallel_residual", c->arch->gguf_name);
    return gguf_put_bool(out, key, c->parallel);
}

static const char *const spelling[][2] = {{"rms_norm_eps", "layer_norm_eps"}, {"partial_rotary_factor", "rotary_pct"}, {"rope_theta", "rotary_emb_base"}, {NULL, NULL}};
static const arch_tensor tensors[] = {
    {"gpt_neox.embed_in", {ROLE_EMBD}}, {"embed_out", {ROLE_HEAD}}, {"gpt_neox.final_layer_norm", {ROLE_OUT_NORM}}, {"attention.query_key_value", {ROLE_Q, ROLE_K, ROLE_V}},
    {"attention.dense", {ROLE_O}}, {"mlp.dense_h_to_4h", {ROLE_UP}}, {"mlp.dense_4h_to_h", {ROLE_DOWN}}, {0},
};

const arch arch_neox[] = {
    {.gguf_name = "gptneox", .hf_class = "GPTNeoXForCausalLM", .qkv_bias = true, .layer_norm = true, .no_gate = true, .act = ACT_GELU_ERF, .fused = true, .qkv_by_head = true,
     .prefix = "gpt_neox.layers.", .tensors = tensors, .spelling = spelling, .defaults = "{\"rotary_pct\": 0.25}", .from_hf = from_hf, .from_gguf = from_gguf, .to_gguf = to_gguf},
    {0},
};
