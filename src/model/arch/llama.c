/* Llama, from which the others differ; Mistral and Mixtral, which are Llama to GGUF, where the window of a Mistral has no key that llama.cpp reads; Mistral 3,
 * which is one of these, or Ministral 3: with yarn, and scores that grow beyond the trained context.
 * Sources: transformers' modeling_{llama,mistral,mixtral,ministral3}.py; llama.cpp's mistral3. */
#include "model/arch.h"

#include <string.h>

#include "base/err.h"

/* Mistral: a missing size is 4096, null is none. Mixtral: where it gives a size. */
static snug_err mistral_from_hf(const hf_fields *f, config *c, snug_error *err) {
    uint32_t window = 0;
    snug_err rc = SNUG_OK;
    if (!json_is_null(json_object_get(f->o, "sliding_window"))) rc = hf_u32_or(f, "sliding_window", c->n_experts ? 0 : 4096, &window, err);
    return rc ? rc : hf_windows(f, c, window, 0, 0, err);
}

/* ---- Mistral 3 ---- */

static const char growth_key[] = "llama_4_scaling_beta", temperature_key[] = "attention.temperature_scale";

static snug_err growth_from_hf(const hf_fields *f, config *c, snug_error *err) {
    const json_t *params = hf_get(f, "rope_parameters");
    double growth = 0;
    uint32_t window = 0;
    if (!params) return err_set(err, SNUG_ERR_FORMAT, "%s: field 'rope_parameters' is missing, which a Ministral 3 has", f->where);
    snug_err rc = hf_u32_or(f, "sliding_window", 0, &window, err);
    if (!rc) rc = hf_windows(f, c, window, 0, 0, err);
    if (!rc) rc = json_get_double_or(params, f->where, growth_key, 0, &growth, err);
    c->attn_growth = (float)growth;
    return rc;
}

/* The text model of a Mistral3ForConditionalGeneration is a Mistral or a Ministral 3. */
static snug_err mistral3_from_hf(const hf_fields *f, config *c, snug_error *err) {
    const char *of = hf_text_or(f, "model_type", "mistral");
    if (!strcmp(of, "ministral3")) return growth_from_hf(f, c, err);
    if (!strcmp(of, "mistral")) return mistral_from_hf(f, c, err);
    return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: text_config is of a '%.80s', which is not supported here; known: mistral, ministral3", f->where, of);
}

static snug_err mistral3_from_gguf(gguf_fields *f, config *c, snug_error *err) {
    float log_multiplier = 0;
    snug_err rc = gguf_f32_or(f, temperature_key, 0, &c->attn_growth, err);
    if (!rc) rc = gguf_f32_or(f, "rope.scaling.yarn_log_multiplier", 0, &log_multiplier, err);
    if (log_multiplier != 0 && c->scaling == ROPE_YARN) c->rope_magnitude /= rope_yarn_magnitude(c->scale_factor, (double)log_multiplier);
    return rc;
}

static bool mistral3_to_gguf(const config *c, gguf_kvs *out) { return c->attn_growth == 0 || arch_put_f32(c, out, temperature_key, c->attn_growth); }

static const arch_tensor mixtral_tensors[] = {{"block_sparse_moe.gate", {ROLE_ROUTER}}, {0}};
static const arch_experts mixtral = {.hf_width = "intermediate_size", .gguf_norm_topk = true};

const arch arch_llama[] = {
    {.gguf_name = "llama", .hf_class = "LlamaForCausalLM", .gguf_permutes_qk = true},
    {.gguf_name = "llama", .hf_class = "MistralForCausalLM", .gguf_permutes_qk = true, .from_hf = mistral_from_hf},
    {.gguf_name = "mistral3", .hf_class = "Mistral3ForConditionalGeneration", .gguf_permutes_qk = true, .wrapped = true, .from_hf = mistral3_from_hf, .from_gguf = mistral3_from_gguf,
     .to_gguf = mistral3_to_gguf},
    {.gguf_name = "mistral3", .hf_class = "Ministral3ForCausalLM", .gguf_permutes_qk = true, .from_hf = growth_from_hf, .from_gguf = mistral3_from_gguf, .to_gguf = mistral3_to_gguf},
    {.gguf_name = "llama", .hf_class = "MixtralForCausalLM", .gguf_permutes_qk = true, .rope_base = 1e6, .tensors = mixtral_tensors, .experts = &mixtral, .from_hf = mistral_from_hf},
    {0},
};
