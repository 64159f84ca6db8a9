/* StableLM: LayerNorm instead of RMSNorm, RoPE of some dimensions of a head. Sources: transformers' modeling_stablelm.py; llama.cpp's stablelm. */
#include "model/arch.h"

static snug_err from_hf(const hf_fields *f, config *c, snug_error *err) {
    snug_err rc = hf_refuse(f, "use_parallel_residual", "a feed-forward that reads attention's norm", err);
    return rc ? rc : hf_refuse(f, "qk_layernorm", "LayerNorm of each head of q and k", err);
}

static const char *const spelling[][2] = {{"rms_norm_eps", "layer_norm_eps"}, {NULL, NULL}};

const arch arch_stablelm[] = {
    {.gguf_name = "stablelm", .hf_class = "StableLmForCausalLM", .layer_norm = true, .spelling = spelling, .defaults = "{\"partial_rotary_factor\": 0.25}", .from_hf = from_hf},
    {0},
};
