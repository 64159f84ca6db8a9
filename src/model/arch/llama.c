/* Llama, from which the others differ; Mistral and Mixtral, which are Llama to GGUF. The window of a Mistral has no key that llama.cpp reads.
 * Sources: transformers' modeling_{llama,mistral,mixtral}.py. */
#include "model/arch.h"

/* Mistral: a missing size is 4096, null is none. Mixtral: where it gives a size. */
static snug_err mistral_from_hf(const hf_fields *f, config *c, snug_error *err) {
    uint32_t window = 0;
    snug_err rc = SNUG_OK;
    if (!json_is_null(json_object_get(f->o, "sliding_window"))) rc = hf_u32_or(f, "sliding_window", c->n_experts ? 0 : 4096, &window, err);
    return rc ? rc : hf_windows(f, c, window, 0, 0, err);
}

static const arch_tensor mixtral_tensors[] = {{"block_sparse_moe.gate", {ROLE_ROUTER}}, {0}};
static const arch_experts mixtral = {.hf_width = "intermediate_size", .gguf_norm_topk = true};

const arch arch_llama[] = {
    {.gguf_name = "llama", .hf_class = "LlamaForCausalLM", .gguf_permutes_qk = true},
    {.gguf_name = "llama", .hf_class = "MistralForCausalLM", .gguf_permutes_qk = true, .from_hf = mistral_from_hf},
    {.gguf_name = "llama", .hf_class = "Mistral3ForConditionalGeneration", .gguf_permutes_qk = true, .wrapped = true, .from_hf = mistral_from_hf},
    {.gguf_name = "llama", .hf_class = "MixtralForCausalLM", .gguf_permutes_qk = true, .rope_base = 1e6, .tensors = mixtral_tensors, .experts = &mixtral, .from_hf = mistral_from_hf},
    {0},
};
