/* BitNet b1.58: weights trained to be ternary, norms before o and down, gates that may be squared ReLUs. Source: transformers'
 * modeling_bitnet.py, integrations/bitnet.py; llama.cpp's bitnet, which takes the embedding for the head. */
#include <string.h>

#include "base/err.h"
#include "model/arch.h"

static const char *text_or(const json_t *o, const char *key, const char *fallback) {
    const json_t *v = json_object_get(o, key);
    return !v || json_is_null(v) ? fallback : json_is_string(v) ? json_string_value(v) : "(no name)";
}

/* quantization_config. transformers: "online" weights are made ternary whenever they are multiplied; "offline" ones are packed, and their scale is
 * multiplied by ("autobitlinear") or divided by ("bitlinear"). Heads are left as they are. */
static snug_err from_hf(const hf_fields *f, config *c, snug_error *err) {
    const json_t *q = hf_get(f, "quantization_config");
    if (!json_is_object(q) || strcmp(text_or(q, "quant_method", "?"), "bitnet")) return SNUG_OK;
    const char *class = text_or(q, "linear_class", "bitlinear"), *mode = text_or(q, "quantization_mode", "offline");
    const bool automatic = !strcmp(class, "autobitlinear"), online = automatic && !strcmp(mode, "online");
    if ((!automatic && strcmp(class, "bitlinear")) || (!online && strcmp(mode, "offline")))
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: quantization_config: linear_class '%s' with quantization_mode '%s' is not supported", f->where, class, mode);
    const json_t *kept = json_object_get(q, "modules_to_not_convert");
    bool plain = !kept || json_is_null(kept) || (json_is_array(kept) && json_array_size(kept) == 0);
    if (json_is_array(kept) && json_array_size(kept) == 1) plain = json_is_string(json_array_get(kept, 0)) && !strcmp(json_string_value(json_array_get(kept, 0)), "lm_head");
    if (!plain || json_is_true(json_object_get(q, "use_rms_norm")))
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: quantization_config: %s is not supported", f->where, plain ? "use_rms_norm" : "modules_to_not_convert");
    c->ternary = online ? TERNARY_TRAINED : automatic ? TERNARY_TIMES : TERNARY_OVER;
    return SNUG_OK;
}

static snug_err for_others(const config *c, const char *where, snug_error *err) {
    if (c->tied) return SNUG_OK;
    return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: has a head of its own, and other readers of a GGUF of architecture '%s' take the embedding for it; without --for gguf it can be had",
                   where, c->arch->gguf_name);
}

const arch arch_bitnet[] = {
    {.gguf_name = "bitnet", .hf_class = "BitNetForCausalLM", .sub_norms = true, .act = ACT_RELU2, .rope_base = 5e5, .from_hf = from_hf, .for_others = for_others},
    {0},
};
