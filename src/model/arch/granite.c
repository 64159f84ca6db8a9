/* Granite 3: Llama with numbers that embeddings, scores, what half a layer adds, and logits are multiplied or divided by; and its
 * mixtures. Granite 4: the same, with experts and a shared one beside them or with neither, state spaces in most layers in attention's place, and no
 * positions. Sources: transformers' modeling_granite.py, modeling_granitemoe.py, modeling_granitemoehybrid.py; llama.cpp's granite, granitemoe, granitehybrid. */
#include "base/err.h"
#include "model/arch.h"
#include "model/ssm.h"

#include <stdio.h>
#include <string.h>

static snug_err from_hf(const hf_fields *f, config *c, snug_error *err) {
    float over = 1;
    snug_err rc = hf_f32_or(f, "embedding_multiplier", 1, &c->embd_scale, err);
    if (!rc) rc = hf_f32_or(f, "residual_multiplier", 1, &c->residual_scale, err);
    if (!rc) rc = hf_f32_or(f, "attention_multiplier", 1, &c->attn_scale, err);
    if (!rc) rc = hf_f32_or(f, "logits_scaling", 1, &over, err);
    if (!rc && !(over > 0)) return err_set(err, SNUG_ERR_FORMAT, "%s: field 'logits_scaling' is %g, expected a positive number", f->where, (double)over);
    c->logit_scale = 1 / over;
    return rc;
}

static snug_err from_gguf(gguf_fields *f, config *c, snug_error *err) {
    float over = 1;
    snug_err rc = gguf_f32_or(f, "embedding_scale", 1, &c->embd_scale, err);
    if (!rc) rc = gguf_f32_or(f, "residual_scale", 1, &c->residual_scale, err);
    if (!rc) rc = gguf_f32_or(f, "attention.scale", 0, &c->attn_scale, err);
    if (!rc) rc = gguf_f32_or(f, "logit_scale", 1, &over, err);
    if (!rc && !(over > 0)) return err_set(err, SNUG_ERR_FORMAT, "%s: key '%s' is %g, expected a positive number", f->g->file.path, gguf_key(f, "logit_scale"), (double)over);
    c->logit_scale = 1 / over;
    return rc;
}

static bool to_gguf(const config *c, gguf_kvs *out) {
    return arch_put_f32(c, out, "embedding_scale", c->embd_scale) && arch_put_f32(c, out, "residual_scale", c->residual_scale) &&
           arch_put_f32(c, out, "attention.scale", c->attn_scale) && arch_put_f32(c, out, "logit_scale", 1 / c->logit_scale);
}

/* ---- mixtures ---- */

static snug_err mixture_from_gguf(gguf_fields *f, config *c, snug_error *err) {
    snug_err rc = from_gguf(f, c, err);
    return rc || !c->n_experts ? rc : gguf_u32(f, "expert_shared_feed_forward_length", false, 0, &c->n_ff_shared, err);
}

static const arch_experts mixture = {.hf_width = "intermediate_size", .gguf_norm_topk = true, .hf_shared = "shared_intermediate_size"},
                          hybrid_mixture = {.hf_width = "intermediate_size", .gguf_norm_topk = true, .hf_shared = "shared_intermediate_size", .optional = true};
static const char mixture_defaults[] = "{\"num_local_experts\": 8, \"num_experts_per_tok\": 2, \"shared_intermediate_size\": 0}";

/* ---- Granite 4 ---- */

static const ssm_names names = {.conv = "mamba_d_conv", .state = "mamba_d_state", .heads = "mamba_n_heads", .head_dim = "mamba_d_head", .groups = "mamba_n_groups", .expand = "mamba_expand",
                                .conv_bias = "mamba_conv_bias", .bias = "mamba_proj_bias"};

static snug_err read_layer_types(const hf_fields *f, config *c, snug_error *err) {
    const json_t *types = hf_get(f, "layer_types");
    if (types && (!json_is_array(types) || json_array_size(types) != c->n_layers))
        return err_set(err, SNUG_ERR_FORMAT, "%s: field 'layer_types' is no list of %u names, one for each layer", f->where, c->n_layers);
    for (uint32_t l = 0; l < c->n_layers && l < CONFIG_MAX_LAYERS; l++) {
        const char *t = types ? json_string_value(json_array_get(types, l)) : "mamba";
        const bool ssm = t && (!strcmp(t, "mamba") || !strcmp(t, "linear_attention"));
        if (!ssm && (!t || (strcmp(t, "attention") && strcmp(t, "full_attention"))))
            return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: layer type '%s' of layer %u is not supported; known: mamba, attention", f->where, t ? t : "?", l);
        if (ssm) c->layer[l] |= LAYER_SSM;
    }
    return SNUG_OK;
}

static const arch_tensor mixture_tensors[] = {{"block_sparse_moe.router.layer", {ROLE_ROUTER}}, {0}}, hybrid_tensors[] = {
    {"mamba.in_proj", {ROLE_SSM_IN}}, {"mamba.conv1d", {ROLE_SSM_CONV}}, {"mamba.dt_bias", {ROLE_SSM_DT_BIAS}}, {"mamba.A_log", {ROLE_SSM_A}}, {"mamba.D", {ROLE_SSM_D}},
    {"mamba.norm", {ROLE_SSM_NORM}}, {"mamba.out_proj", {ROLE_SSM_OUT}}, {"block_sparse_moe.router.layer", {ROLE_ROUTER}},
    {"shared_mlp.input_linear", {ROLE_GATE, ROLE_UP}}, {"shared_mlp.output_linear", {ROLE_DOWN}}, {0},
};

/* One without state spaces is a Granite 3 but for its tensors' names. */
static const arch plain = {.gguf_name = "granite", .hf_class = "GraniteMoeHybridForCausalLM", .gguf_permutes_qk = true, .tensors = hybrid_tensors, .to_gguf = to_gguf};

static bool any_ssm(const config *c) {
    bool any = false;
    for (uint32_t l = 0; l < c->n_layers && l < CONFIG_MAX_LAYERS; l++) any |= (c->layer[l] & LAYER_SSM) != 0;
    return any;
}

/* Without experts the one feed-forward is what a mixture has for all tokens beside its experts. */
static snug_err hybrid_from_hf(const hf_fields *f, config *c, snug_error *err) {
    const char *positions = hf_text_or(f, "position_embedding_type", "nope");
    snug_err rc = from_hf(f, c, err);
    if (!rc) rc = hf_refuse(f, "attention_bias", "biases of q, k, v and o", err);
    if (!rc && !c->n_experts) rc = hf_u32(f, "shared_intermediate_size", &c->n_ff, err);
    if (!rc) rc = read_layer_types(f, c, err);
    const bool turns = !strcmp(positions, "rope"), is_plain = !rc && turns && !c->n_experts && !any_ssm(c);
    if (!rc && !is_plain) rc = ssm_from_hf(f, &names, c, err);
    if (!rc && strcmp(positions, "nope") && !turns)
        rc = err_set(err, SNUG_ERR_UNSUPPORTED, "%s: position_embedding_type '%s' is not supported; known: nope, rope", f->where, positions);
    if (!turns) layers_set(c, LAYER_NO_ROPE, 0, 0);
    if (is_plain) c->arch = &plain;
    return rc;
}

/* llama.cpp's switch of RoPE. */
static const char rope_key[] = "rope.scaling.finetuned";

static snug_err hybrid_from_gguf(gguf_fields *f, config *c, snug_error *err) {
    snug_err rc = mixture_from_gguf(f, c, err);
    if (!rc) rc = ssm_from_gguf(f, c, err);
    if (!rc && !gguf_get_bool_or(f->g, gguf_key(f, rope_key), true)) layers_set(c, LAYER_NO_ROPE, 0, 0);
    return rc;
}

static bool hybrid_to_gguf(const config *c, gguf_kvs *out) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", c->arch->gguf_name, rope_key);
    return to_gguf(c, out) && ssm_to_gguf(c, out) && gguf_put_bool(out, key, !(c->layer[0] & LAYER_NO_ROPE));
}

static snug_err hybrid_for_others(const config *c, const char *where, snug_error *err) {
    const bool any = any_ssm(c);
    if (any && c->ssm.inner == 2 * (uint64_t)c->n_embd) return ssm_for_others(c, where, err);
    return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: %s, and other readers of a GGUF of architecture '%s' expect some, of twice the model's width; without --for gguf it can be had", where,
                   any ? "its state spaces have another width" : "no layer is a state space", c->arch->gguf_name);
}

static const char hybrid_defaults[] = "{\"num_local_experts\": 8, \"num_experts_per_tok\": 2, \"shared_intermediate_size\": 1024, \"mamba_n_heads\": 128, \"mamba_n_groups\": 1, \"mamba_d_state\": 256, "
                                      "\"mamba_d_head\": \"auto\", \"mamba_d_conv\": 4, \"mamba_expand\": 2}";

const arch arch_granite[] = {
    {.gguf_name = "granite", .hf_class = "GraniteForCausalLM", .gguf_permutes_qk = true, .from_hf = from_hf, .from_gguf = from_gguf, .to_gguf = to_gguf},
    {.gguf_name = "granitemoe", .hf_class = "GraniteMoeForCausalLM", .gguf_permutes_qk = true, .tensors = mixture_tensors, .defaults = mixture_defaults, .experts = &mixture,
     .from_hf = from_hf, .from_gguf = mixture_from_gguf, .to_gguf = to_gguf},
    {.gguf_name = "granitehybrid", .hf_class = "GraniteMoeHybridForCausalLM", .gguf_permutes_qk = true, .ssm = true, .tensors = hybrid_tensors, .defaults = hybrid_defaults, .experts = &hybrid_mixture,
     .from_hf = hybrid_from_hf, .from_gguf = hybrid_from_gguf, .to_gguf = hybrid_to_gguf, .for_others = hybrid_for_others},
    {0},
};
