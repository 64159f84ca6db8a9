/* Mamba 2: layers that are state spaces and nothing else (graph_ssm.c). There is no attention, no feed-forward and no end of the context. Sources:
 * transformers' modeling_mamba2.py; llama.cpp's mamba2. */
#include "base/err.h"
#include "model/arch.h"
#include "model/ssm.h"

static const ssm_names names = {.conv = "conv_kernel", .state = "state_size", .heads = "num_heads", .head_dim = "head_dim", .groups = "n_groups", .expand = "expand",
                                .conv_bias = "use_conv_bias", .bias = "use_bias"};

static void nothing_else(config *c) {
    layers_set(c, LAYER_SSM, 0, 0);
    c->n_heads = c->n_kv_heads = c->head_dim = c->rope_dims = c->n_ff = 0;
    c->rope_base = 1e4;
}

static snug_err from_hf(const hf_fields *f, config *c, snug_error *err) {
    nothing_else(c);
    if (c->act != ACT_SILU) return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: hidden_act '%s' is not supported in a state space, expected silu", f->where, activation_name(c->act));
    return ssm_from_hf(f, &names, c, err);
}

static snug_err from_gguf(gguf_fields *f, config *c, snug_error *err) {
    nothing_else(c);
    return ssm_from_gguf(f, c, err);
}

static const char *const spelling[][2] = {{"rms_norm_eps", "layer_norm_epsilon"}, {NULL, NULL}};
static const char defaults[] = "{\"num_attention_heads\": 0, \"intermediate_size\": 0, \"max_position_embeddings\": 1048576, \"layer_norm_epsilon\": 1e-5, \"num_heads\": 128, "
                               "\"head_dim\": 64, \"state_size\": 128, \"conv_kernel\": 4, \"n_groups\": 8, \"expand\": 2}";
static const arch_tensor tensors[] = {
    {"backbone.embeddings", {ROLE_EMBD}}, {"backbone.norm_f", {ROLE_OUT_NORM}}, {"norm", {ROLE_ATTN_NORM}}, {"mixer.in_proj", {ROLE_SSM_IN}}, {"mixer.conv1d", {ROLE_SSM_CONV}},
    {"mixer.dt_bias", {ROLE_SSM_DT_BIAS}}, {"mixer.A_log", {ROLE_SSM_A}}, {"mixer.D", {ROLE_SSM_D}}, {"mixer.norm", {ROLE_SSM_NORM}}, {"mixer.out_proj", {ROLE_SSM_OUT}}, {0},
};

const arch arch_mamba[] = {
    {.gguf_name = "mamba2", .hf_class = "Mamba2ForCausalLM", .ssm = true, .no_attention = true, .prefix = "backbone.layers.", .tensors = tensors, .spelling = spelling,
     .defaults = defaults, .from_hf = from_hf, .from_gguf = from_gguf, .to_gguf = ssm_to_gguf, .for_others = ssm_for_others},
    {0},
};
