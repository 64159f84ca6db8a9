/* config.json of a Hugging Face folder. Options that would change the computation and that the engine does not have are
 * refused by name: a model that runs must run right. Source: transformers'
 * configuration_{llama,mistral,qwen2,qwen3,mixtral,qwen3_moe,olmoe,bitnet}.py. */
#include "base/err.h"
#include "model/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_MAX_BYTES = 16 << 20 };

static bool is_null(const json_t *v) { return !v || json_is_null(v); }

/* An integer field that must fit 32 bits. */
static snug_err get_u32_or(const json_t *o, const char *where, const char *key, uint32_t fallback, uint32_t *out,
                           snug_error *err) {
    uint64_t v;
    snug_err rc = json_get_u64_or(o, where, key, fallback, &v, err);
    if (rc) return rc;
    if (v > UINT32_MAX)
        return err_set(err, SNUG_ERR_FORMAT, "%s: field '%s' is %llu, expected a 32-bit number", where, key,
                       (unsigned long long)v);
    *out = (uint32_t)v;
    return SNUG_OK;
}

static snug_err get_u32(const json_t *o, const char *where, const char *key, uint32_t *out, snug_error *err) {
    if (is_null(json_object_get(o, key)))
        return err_set(err, SNUG_ERR_FORMAT, "%s: field '%s' is missing", where, key);
    return get_u32_or(o, where, key, 0, out, err);
}

static snug_err read_arch(const json_t *o, const char *where, config *c, snug_error *err) {
    const json_t *list = json_object_get(o, "architectures");
    char known[256];
    const json_t *first = json_is_array(list) ? json_array_get(list, 0) : NULL;
    if (!json_is_string(first))
        return err_set(err, SNUG_ERR_FORMAT, "%s: field 'architectures' is no list of names, expected one of %s", where,
                       arch_known_hf(known, sizeof known));
    c->arch = arch_by_hf_class(json_string_value(first));
    if (!c->arch)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: architecture '%s' is not supported; known: %s", where,
                       json_string_value(first), arch_known_hf(known, sizeof known));
    return SNUG_OK;
}

/* BitNet has two activations, of which relu2 is the default. */
static snug_err read_activation(const json_t *o, const char *where, config *c, snug_error *err) {
    const json_t *v = json_object_get(o, "hidden_act");
    const char *name = is_null(v) ? c->arch->sub_norms ? "relu2" : "silu" : json_is_string(v) ? json_string_value(v) : "(no name)";
    c->relu2 = c->arch->sub_norms && !strcmp(name, "relu2");
    if (!c->relu2 && strcmp(name, "silu"))
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: hidden_act '%s' is not supported, expected 'silu'%s", where, name,
                       c->arch->sub_norms ? " or 'relu2'" : "");
    return SNUG_OK;
}

/* A string field, or what stands for it where it is missing. */
static const char *name_or(const json_t *o, const char *key, const char *fallback) {
    const json_t *v = json_object_get(o, key);
    return is_null(v) ? fallback : json_is_string(v) ? json_string_value(v) : "(no name)";
}

/* BitNet's quantization_config. transformers: "online" weights are made ternary whenever they are multiplied; "offline" ones are packed, and their
 * scale is multiplied by ("autobitlinear") or divided by ("bitlinear"). Heads are left as they are. */
static snug_err read_ternary(const json_t *o, const char *where, config *c, snug_error *err) {
    const json_t *q = json_object_get(o, "quantization_config");
    if (!c->arch->sub_norms || !json_is_object(q) || strcmp(name_or(q, "quant_method", "?"), "bitnet")) return SNUG_OK;
    const char *class = name_or(q, "linear_class", "bitlinear"), *mode = name_or(q, "quantization_mode", "offline");
    const bool automatic = !strcmp(class, "autobitlinear"), online = automatic && !strcmp(mode, "online");
    if ((!automatic && strcmp(class, "bitlinear")) || (!online && strcmp(mode, "offline")))
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: quantization_config: linear_class '%s' with quantization_mode '%s' is not supported", where, class, mode);
    const json_t *kept = json_object_get(q, "modules_to_not_convert");
    bool plain = is_null(kept) || (json_is_array(kept) && json_array_size(kept) == 0);
    if (json_is_array(kept) && json_array_size(kept) == 1) plain = json_is_string(json_array_get(kept, 0)) && !strcmp(json_string_value(json_array_get(kept, 0)), "lm_head");
    if (!plain || json_is_true(json_object_get(q, "use_rms_norm")))
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: quantization_config: %s is not supported", where, plain ? "use_rms_norm" : "modules_to_not_convert");
    c->ternary = online ? TERNARY_TRAINED : automatic ? TERNARY_TIMES : TERNARY_OVER;
    return SNUG_OK;
}

/* Options that must have the one value that the engine implements. */
static snug_err refuse_options(const json_t *o, const char *where, config *c, snug_error *err) {
    const json_t *v;
    if (json_is_true(json_object_get(o, "mlp_bias")))
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: mlp_bias is true: biases in the feed-forward are not supported",
                       where);
    v = json_object_get(o, "partial_rotary_factor");
    if (json_is_number(v) && json_number_value(v) != 1)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: partial_rotary_factor %g is not supported", where,
                       json_number_value(v));
    v = json_object_get(o, "clip_qkv");
    if (!is_null(v))
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: clip_qkv %g is not supported, expected null", where, json_number_value(v));
    v = json_object_get(o, "quantization_config");
    return json_is_object(v) && c->ternary == TERNARY_PLAIN ? config_quantization(v, where, c, err) : SNUG_OK;
}

/* rope_theta and rope_scaling, or both inside rope_parameters (transformers 5). */
static snug_err read_rope(const json_t *o, const char *where, config *c, snug_error *err) {
    const json_t *params = json_object_get(o, "rope_parameters"), *scaling = json_object_get(o, "rope_scaling");
    if (is_null(params)) params = NULL;
    if (is_null(scaling)) scaling = params;
    if ((params && !json_is_object(params)) || (scaling && !json_is_object(scaling)))
        return err_set(err, SNUG_ERR_FORMAT, "%s: rope_scaling and rope_parameters must be objects", where);
    if (params) {
        const char *key;
        json_t *v;
        json_object_foreach((json_t *)params, key, v) if (json_is_object(v)) return err_set(
            err, SNUG_ERR_UNSUPPORTED, "%s: rope_parameters per layer type ('%s') are not supported", where, key);
    }
    const double fallback = c->arch->sub_norms ? 5e5 : strcmp(c->arch->hf_class, "MixtralForCausalLM") ? 1e4 : 1e6;
    snug_err rc = json_get_double_or(o, where, "rope_theta", fallback, &c->rope_base, err);
    if (!rc && params) rc = json_get_double_or(params, where, "rope_theta", c->rope_base, &c->rope_base, err);
    if (rc || !scaling) return rc;

    const json_t *type = json_object_get(scaling, "rope_type");
    if (is_null(type)) type = json_object_get(scaling, "type");
    const char *name = is_null(type) ? "default" : json_string_value(type);
    if (!name) return err_set(err, SNUG_ERR_FORMAT, "%s: rope_type is no string", where);
    if (!strcmp(name, "default")) return SNUG_OK;
    if (strcmp(name, "linear") && strcmp(name, "llama3"))
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: rope_type '%s' is not supported; known: default, linear, llama3",
                       where, name);
    if ((rc = json_get_double_or(scaling, where, "factor", 0, &c->scale_factor, err))) return rc;
    c->scaling = ROPE_LINEAR;
    if (strcmp(name, "llama3")) return SNUG_OK;
    c->scaling = ROPE_LLAMA3;
    if ((rc = json_get_double_or(scaling, where, "low_freq_factor", 0, &c->low_freq_factor, err)) ||
        (rc = json_get_double_or(scaling, where, "high_freq_factor", 0, &c->high_freq_factor, err)) ||
        (rc = get_u32_or(o, where, "original_max_position_embeddings", 0, &c->scale_orig_ctx, err)))
        return rc;
    return get_u32_or(scaling, where, "original_max_position_embeddings", c->scale_orig_ctx, &c->scale_orig_ctx, err);
}

/* Experts: how many, how wide, how their shares are made. Layers without experts among such with are refused. */
static snug_err read_experts(const json_t *o, const char *where, config *c, snug_error *err) {
    const arch_experts *a = c->arch->experts;
    if (!a) return SNUG_OK;
    const json_t *only = json_object_get(o, "mlp_only_layers");
    uint32_t step = 1;
    const char *count = is_null(json_object_get(o, "num_experts")) ? "num_local_experts" : "num_experts"; /* either name is in use */
    snug_err rc = get_u32_or(o, where, "decoder_sparse_step", 1, &step, err);
    if (!rc) rc = get_u32(o, where, count, &c->n_experts, err);
    if (!rc) rc = get_u32(o, where, "num_experts_per_tok", &c->n_experts_used, err);
    c->n_ff_dense = c->n_ff;
    if (!rc) rc = get_u32(o, where, a->hf_width, &c->n_ff, err);
    c->norm_topk = true;
    if (!rc && a->hf_norm_topk) rc = json_get_bool_or(o, where, a->hf_norm_topk, false, &c->norm_topk, err);
    if (rc) return rc;
    if (step != 1)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: decoder_sparse_step is %u, which is not supported, expected 1: experts in every layer", where, step);
    if (!is_null(only) && (!json_is_array(only) || json_array_size(only)))
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: mlp_only_layers has %zu layers, which is not supported, expected none: experts in every layer", where,
                       json_array_size(only));
    return SNUG_OK;
}

/* Which layers have a window. transformers: Mistral always (a missing size is 4096, null is none); Mixtral where it gives a size; Qwen only
 * with use_sliding_window, from layer max_window_layers on (Qwen3-MoE: from the first), or as layer_types lists. Llama, OLMoE and BitNet have none. */
static snug_err read_window(const json_t *o, const char *where, config *c, snug_error *err) {
    const char *class = c->arch->hf_class;
    bool mixtral = !strcmp(class, "MixtralForCausalLM"), mistral = mixtral || !strcmp(class, "MistralForCausalLM"), use;
    if (!strcmp(class, "LlamaForCausalLM") || !strcmp(class, "OlmoeForCausalLM") || c->arch->sub_norms) return SNUG_OK;
    snug_err rc = json_get_bool_or(o, where, "use_sliding_window", mistral, &use, err);
    uint32_t window = 0, from = 0;
    if (!rc) rc = get_u32_or(o, where, "sliding_window", mixtral ? 0 : 4096, &window, err);
    if (rc || (!use && !mistral) || json_is_null(json_object_get(o, "sliding_window"))) return rc;

    const json_t *types = json_object_get(o, "layer_types");
    if (json_is_array(types)) { /* full layers first, then windowed ones: other patterns are not supported */
        if (json_array_size(types) != c->n_layers)
            return err_set(err, SNUG_ERR_FORMAT, "%s: layer_types has %zu entries for %u layers", where,
                           json_array_size(types), c->n_layers);
        bool seen = false;
        for (uint32_t i = 0; i < c->n_layers; i++) {
            const char *t = json_string_value(json_array_get(types, i));
            bool sliding = t && !strcmp(t, "sliding_attention"), full = t && !strcmp(t, "full_attention");
            if (!sliding && !full)
                return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: layer type '%s' of layer %u is not supported", where,
                               t ? t : "?", i);
            if (seen && full)
                return err_set(err, SNUG_ERR_UNSUPPORTED,
                               "%s: layer_types with full attention after a window (layer %u) are not supported", where,
                               i);
            if (sliding && !seen) from = i, seen = true;
        }
        if (!seen) return SNUG_OK;
    } else if (!mistral && !c->arch->experts && (rc = get_u32_or(o, where, "max_window_layers", 28, &from, err))) {
        return rc;
    }
    if (from >= c->n_layers) return SNUG_OK;
    c->sliding_window = window;
    c->sliding_from_layer = from;
    return SNUG_OK;
}

/* The folder's own name, for general.name. */
static void read_name(const char *dir, config *c) {
    char *full = realpath(dir, NULL);
    const char *slash = full ? strrchr(full, '/') : NULL;
    snprintf(c->name, sizeof c->name, "%s", slash ? slash + 1 : dir);
    free(full);
}

static snug_err read_all(const json_t *o, const char *where, config *c, snug_error *err) {
    if (!json_is_object(o)) return err_set(err, SNUG_ERR_FORMAT, "%s: expected a JSON object", where);
    snug_err rc;
    double eps;
    if ((rc = read_arch(o, where, c, err)) || (rc = read_activation(o, where, c, err)) || (rc = read_ternary(o, where, c, err)) ||
        (rc = refuse_options(o, where, c, err)) ||
        (rc = get_u32(o, where, "num_hidden_layers", &c->n_layers, err)) ||
        (rc = get_u32(o, where, "hidden_size", &c->n_embd, err)) ||
        (rc = get_u32(o, where, "intermediate_size", &c->n_ff, err)) ||
        (rc = get_u32(o, where, "num_attention_heads", &c->n_heads, err)) ||
        (rc = get_u32_or(o, where, "num_key_value_heads", c->n_heads, &c->n_kv_heads, err)) ||
        (rc = get_u32_or(o, where, "head_dim", 0, &c->head_dim, err)) ||
        (rc = get_u32(o, where, "vocab_size", &c->n_vocab, err)) ||
        (rc = get_u32(o, where, "max_position_embeddings", &c->n_ctx_train, err)) ||
        (rc = json_get_double_or(o, where, "rms_norm_eps", 1e-6, &eps, err)) ||
        (rc = json_get_bool_or(o, where, "tie_word_embeddings", false, &c->tied, err)) ||
        (rc = read_experts(o, where, c, err)) || (rc = read_rope(o, where, c, err)) || (rc = read_window(o, where, c, err)))
        return rc;
    if (c->head_dim == 0 && !strcmp(c->arch->hf_class, "Qwen3ForCausalLM")) c->head_dim = 128; /* its own default */
    if (c->head_dim == 0) {
        if (c->n_heads == 0 || c->n_embd % c->n_heads)
            return err_set(err, SNUG_ERR_FORMAT,
                           "%s: hidden_size %u is no multiple of num_attention_heads %u and head_dim is missing", where,
                           c->n_embd, c->n_heads);
        c->head_dim = c->n_embd / c->n_heads;
    }
    c->norm_eps = (float)eps;
    c->rope_dims = c->head_dim;
    c->rope_interleaved = false;
    return config_check(c, where, err);
}

snug_err config_from_hf(const char *dir, config *out, snug_error *err) {
    memset(out, 0, sizeof *out);
    size_t n = strlen(dir) + sizeof "/config.json";
    char *path = malloc(n);
    if (!path) return err_nomem(err, n);
    snprintf(path, n, "%s/config.json", dir);
    json_t *o = NULL;
    snug_err rc = json_read_file(path, CONFIG_MAX_BYTES, &o, err);
    if (!rc) rc = read_all(o, path, out, err);
    if (!rc) read_name(dir, out);
    json_decref(o);
    free(path);
    return rc;
}
