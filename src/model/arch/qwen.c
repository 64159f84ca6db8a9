/* Qwen 2 (biases of q, k, v), Qwen 3 (norms of each head of q and k, heads of a size of their own) and their mixtures of experts; in that of Qwen 2 all
 * tokens go through one expert more, which has a gate. The text models of those with pictures are Qwen 2 and Qwen 3.
 * Sources: transformers' modeling_{qwen2,qwen3,qwen2_moe,qwen3_moe,qwen2_5_vl,qwen3_vl}.py; llama.cpp's qwen2moe, qwen2vl, qwen3vl. */
#include "base/err.h"
#include "model/arch.h"

/* A window only with use_sliding_window; from layer max_window_layers on, in a mixture from the first, or as layer_types lists. */
static snug_err from_hf(const hf_fields *f, config *c, snug_error *err) {
    bool use = false;
    uint32_t window = 0, from = 0;
    snug_err rc = hf_bool_or(f, "use_sliding_window", false, &use, err);
    if (!rc) rc = hf_u32_or(f, "sliding_window", 4096, &window, err);
    if (!rc && !c->n_experts) rc = hf_u32_or(f, "max_window_layers", 28, &from, err);
    if (rc || !use || json_is_null(json_object_get(f->o, "sliding_window"))) return rc;
    return hf_windows(f, c, window, from, 0, err);
}

/* llama.cpp has experts in every layer. */
static snug_err for_others(const config *c, const char *where, snug_error *err) {
    for (uint32_t l = 0; l < c->n_layers; l++)
        if (c->layer[l] & LAYER_DENSE)
            return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: layer %u has no experts, and other readers of a GGUF of architecture '%s' expect them in all; without --for gguf it can be had", where, l,
                           c->arch->gguf_name);
    return SNUG_OK;
}

static const arch_experts qwen3_moe = {.hf_width = "moe_intermediate_size", .hf_norm_topk = "norm_topk_prob", .gguf_norm_topk = true, .gguf_width = true},
                          qwen2_moe = {.hf_width = "moe_intermediate_size", .hf_norm_topk = "norm_topk_prob", .gguf_width = true, .hf_shared = "shared_expert_intermediate_size", .shared_gate = true};

const arch arch_qwen[] = {
    {.gguf_name = "qwen2", .hf_class = "Qwen2ForCausalLM", .qkv_bias = true, .from_hf = from_hf},
    {.gguf_name = "qwen3", .hf_class = "Qwen3ForCausalLM", .qk_norm = true, .head_dim = 128, .from_hf = from_hf},
    {.gguf_name = "qwen2", .gguf_also = "qwen2vl", .hf_class = "Qwen2VLForConditionalGeneration", .qkv_bias = true, .wrapped = true, .from_hf = from_hf},
    {.gguf_name = "qwen2", .gguf_also = "qwen2vl", .hf_class = "Qwen2_5_VLForConditionalGeneration", .qkv_bias = true, .wrapped = true, .from_hf = from_hf},
    {.gguf_name = "qwen3", .gguf_also = "qwen3vl", .hf_class = "Qwen3VLForConditionalGeneration", .qk_norm = true, .head_dim = 128, .wrapped = true},
    {.gguf_name = "qwen3moe", .hf_class = "Qwen3MoeForCausalLM", .qk_norm = true, .experts = &qwen3_moe, .from_hf = from_hf, .for_others = for_others},
    {.gguf_name = "qwen2moe", .hf_class = "Qwen2MoeForCausalLM", .qkv_bias = true, .experts = &qwen2_moe, .from_hf = from_hf, .for_others = for_others},
    {0},
};
