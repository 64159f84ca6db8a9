/* OLMo 2: norms behind attention and feed-forward instead of before them; norms over all heads of q and of k together. OLMoE has the latter
 * and experts. Sources: transformers' modeling_{olmo2,olmoe}.py; llama.cpp's olmo2, olmoe. */
#include "base/err.h"
#include "model/arch.h"

static snug_err from_hf(const hf_fields *f, config *c, snug_error *err) { return hf_refuse(f, "clip_qkv", "q, k and v are held to a range", err); }

/* llama.cpp takes the norms of q and k to be as wide as each other. */
static snug_err for_others(const config *c, const char *where, snug_error *err) {
    if (c->n_heads == c->n_kv_heads) return SNUG_OK;
    return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: has %u heads and %u for keys and values, and other readers of a GGUF of architecture '%s' expect as many; without --for gguf it can be had",
                   where, c->n_heads, c->n_kv_heads, c->arch->gguf_name);
}

static const arch_experts olmoe = {.hf_width = "intermediate_size", .hf_norm_topk = "norm_topk_prob"};
static const arch_tensor olmo2_tensors[] = {
    {"post_attention_layernorm", {ROLE_ATTN_POST_NORM}},
    {"post_feedforward_layernorm", {ROLE_FFN_POST_NORM}},
    {0},
};

const arch arch_olmo[] = {
    {.gguf_name = "olmo2", .hf_class = "Olmo2ForCausalLM", .qk_norm = true, .qk_norm_whole = true, .post_norms = true, .no_pre_norms = true, .tensors = olmo2_tensors, .from_hf = from_hf},
    {.gguf_name = "olmoe", .hf_class = "OlmoeForCausalLM", .qk_norm = true, .qk_norm_whole = true, .experts = &olmoe, .from_hf = from_hf, .for_others = for_others},
    {0},
};
