/* gpt-oss: experts with biases, whose gates and ups are held within limits; biases of q k v o; a number for each head that joins its softmax; a window in
 * every other layer; yarn whose bounds are not rounded. Folders hold the experts in MXFP4 (store_turns.c).
 * Sources: transformers' modeling_gpt_oss.py; llama.cpp's gpt-oss (src/models/openai-moe.cpp), which knows the limits and the windows by the architecture,
 * and rounds yarn's bounds. */
#include "base/err.h"
#include "model/arch.h"

enum { EVERY = 2 };
#define LIMIT 7.0f
#define ALPHA 1.702f

/* What transformers takes where config.json says nothing of RoPE's scaling. */
static void usual_yarn(config *c) {
    c->scaling = ROPE_YARN;
    c->scale_factor = 32;
    c->beta_fast = 32, c->beta_slow = 1;
    c->scale_orig_ctx = 4096;
    c->yarn_exact = true;
    c->rope_magnitude = rope_yarn_magnitude(c->scale_factor, 1);
}

static snug_err check_limits(const config *c, const char *where, snug_error *err) {
    if (c->swiglu_limit > 0 && c->swiglu_alpha > 0) return SNUG_OK;
    return err_set(err, SNUG_ERR_FORMAT, "%s: swiglu_limit is %g and swiglu_alpha %g, expected positive numbers", where, (double)c->swiglu_limit, (double)c->swiglu_alpha);
}

static snug_err from_hf(const hf_fields *f, config *c, snug_error *err) {
    uint32_t window = 0;
    bool biases = true;
    if (!hf_get(f, "rope_scaling") && !hf_get(f, "rope_parameters")) usual_yarn(c);
    snug_err rc = hf_bool_or(f, "attention_bias", true, &biases, err);
    if (!rc) rc = hf_f32_or(f, "swiglu_limit", LIMIT, &c->swiglu_limit, err);
    if (!rc) rc = hf_f32_or(f, "swiglu_alpha", ALPHA, &c->swiglu_alpha, err);
    if (!rc) rc = hf_u32_or(f, "sliding_window", 0, &window, err);
    if (!rc) rc = hf_windows(f, c, window, 0, EVERY, err);
    if (!rc && !biases) return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: attention_bias is false, which is not supported for architecture 'gpt-oss'", f->where);
    if (!rc && c->act != ACT_SILU)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: hidden_act is '%s', which is not supported for architecture 'gpt-oss', expected 'silu'", f->where, activation_name(c->act));
    return rc ? rc : check_limits(c, f->where, err);
}

static snug_err from_gguf(gguf_fields *f, config *c, snug_error *err) {
    for (uint32_t l = 0; l < c->n_layers && l < CONFIG_MAX_LAYERS; l++) c->layer[l] = 0;
    if (c->sliding_window) layers_set(c, LAYER_WINDOW, 0, EVERY);
    snug_err rc = gguf_f32_or(f, "swiglu_limit", LIMIT, &c->swiglu_limit, err);
    if (!rc) rc = gguf_f32_or(f, "swiglu_alpha", ALPHA, &c->swiglu_alpha, err);
    if (!rc && c->act != ACT_SILU)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: key '%s' is '%s', which is not supported, expected 'silu'", f->g->file.path, gguf_key(f, "hidden_activation"), activation_name(c->act));
    return rc ? rc : check_limits(c, f->g->file.path, err);
}

static bool usual_limits(const config *c) { return c->swiglu_limit == LIMIT && c->swiglu_alpha == ALPHA; }

static bool to_gguf(const config *c, gguf_kvs *out) {
    return usual_limits(c) || (arch_put_f32(c, out, "swiglu_limit", c->swiglu_limit) && arch_put_f32(c, out, "swiglu_alpha", c->swiglu_alpha));
}

static snug_err for_others(const config *c, const char *where, snug_error *err) {
    const char *what = !usual_limits(c) ? "swiglu_limit or swiglu_alpha" : c->tied ? "an embedding for the head" : NULL;
    for (uint32_t l = 0; l < c->n_layers; l++)
        if (!(c->layer[l] & LAYER_WINDOW) != ((l + 1) % EVERY == 0)) what = "the pattern of windows";
    if (!what) return SNUG_OK;
    return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: %s is not what other readers of a GGUF of architecture 'gpt-oss' expect; without --for gguf it can be had", where, what);
}

static const arch_tensor tensors[] = {{"mlp.router", {ROLE_ROUTER}}, {0}};
static const arch_experts experts = {.hf_width = "intermediate_size", .gguf_norm_topk = true, .gguf_width = true};

const arch arch_gpt_oss[] = {
    {.gguf_name = "gpt-oss", .hf_class = "GptOssForCausalLM", .qkv_bias = true, .sinks = true, .ffn_norm_behind = true, .expert_biases = true, .in_turns = true, .yarn_exact = true, .head_dim = 64, .rope_base = 150000, .tensors = tensors, .experts = &experts,
     .from_hf = from_hf, .from_gguf = from_gguf, .to_gguf = to_gguf, .for_others = for_others},
    {0},
};
