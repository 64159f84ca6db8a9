/* Phi 3 and 4: q, k, v in one matrix, gate and up in another, a window. Sources: transformers' modeling_phi3.py; llama.cpp's phi3. */
#include "model/arch.h"

static snug_err from_hf(const hf_fields *f, config *c, snug_error *err) {
    uint32_t window = 0;
    snug_err rc = hf_u32_or(f, "sliding_window", 0, &window, err);
    return rc ? rc : hf_windows(f, c, window, 0, 0, err);
}

static const arch_tensor tensors[] = {{"self_attn.qkv_proj", {ROLE_Q, ROLE_K, ROLE_V}}, {"mlp.gate_up_proj", {ROLE_GATE, ROLE_UP}}, {0}};

const arch arch_phi[] = {
    {.gguf_name = "phi3", .hf_class = "Phi3ForCausalLM", .fused = true, .tensors = tensors, .from_hf = from_hf},
    {0},
};
