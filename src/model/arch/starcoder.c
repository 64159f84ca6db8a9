/* StarCoder 2: LayerNorm, biases everywhere, a feed-forward without gates, a window. Sources: transformers' modeling_starcoder2.py; llama.cpp's
 * starcoder2, which has no windows. */
#include "model/arch.h"

static snug_err from_hf(const hf_fields *f, config *c, snug_error *err) {
    uint32_t window = 0;
    snug_err rc = hf_u32_or(f, "sliding_window", 0, &window, err);
    return rc ? rc : hf_windows(f, c, window, 0, 0, err);
}

static const char *const spelling[][2] = {{"rms_norm_eps", "norm_epsilon"}, {NULL, NULL}};
static const arch_tensor tensors[] = {{"mlp.c_fc", {ROLE_UP}}, {"mlp.c_proj", {ROLE_DOWN}}, {0}};

const arch arch_starcoder[] = {
    {.gguf_name = "starcoder2", .hf_class = "Starcoder2ForCausalLM", .layer_norm = true, .no_gate = true, .act = ACT_GELU, .tied = true, .tensors = tensors, .spelling = spelling,
     .from_hf = from_hf},
    {0},
};
