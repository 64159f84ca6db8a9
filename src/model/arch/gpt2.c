/* GPT-2: learned positions instead of RoPE, LayerNorm, biases everywhere, a feed-forward without gates; in a folder matrices stand transposed and q, k, v
 * in one. Sources: transformers' modeling_gpt2.py; llama.cpp's gpt2. */
#include "model/arch.h"

static snug_err from_hf(const hf_fields *f, config *c, snug_error *err) {
    snug_err rc = hf_refuse(f, "scale_attn_by_inverse_layer_idx", "scores divided by the layer's number", err);
    if (!rc) rc = hf_refuse(f, "add_cross_attention", "attention to another text", err);
    layers_set(c, LAYER_NO_ROPE, 0, 0);
    return rc;
}

static snug_err from_gguf(gguf_fields *f, config *c, snug_error *err) {
    layers_set(c, LAYER_NO_ROPE, 0, 0);
    return SNUG_OK;
}

static const char *const spelling[][2] = {{"hidden_size", "n_embd"}, {"num_hidden_layers", "n_layer"}, {"num_attention_heads", "n_head"}, {"intermediate_size", "n_inner"},
                                          {"max_position_embeddings", "n_positions"}, {"rms_norm_eps", "layer_norm_epsilon"}, {"hidden_act", "activation_function"}, {NULL, NULL}};
static const arch_tensor tensors[] = {
    {"wte", {ROLE_EMBD}}, {"wpe", {ROLE_POSITIONS}}, {"ln_1", {ROLE_ATTN_NORM}}, {"attn.c_attn", {ROLE_Q, ROLE_K, ROLE_V}}, {"attn.c_proj", {ROLE_O}},
    {"ln_2", {ROLE_FFN_NORM}}, {"mlp.c_fc", {ROLE_UP}}, {"mlp.c_proj", {ROLE_DOWN}}, {"ln_f", {ROLE_OUT_NORM}}, {0},
};

const arch arch_gpt2[] = {
    {.gguf_name = "gpt2", .hf_class = "GPT2LMHeadModel", .qkv_bias = true, .layer_norm = true, .no_gate = true, .act = ACT_GELU, .learned_positions = true, .ff_times = 4, .tied = true,
     .fused = true, .transposed = true, .prefix = "h.", .tensors = tensors, .spelling = spelling, .from_hf = from_hf, .from_gguf = from_gguf},
    {0},
};
