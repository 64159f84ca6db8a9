/* config.json of a Hugging Face folder. Options that would change the computation and that the engine does not have are
 * refused by name: a model that runs must run right. Source: transformers'
 * configuration_*.py, modeling_rope_utils.py. What one family alone has is read in its file of model/arch. */
#include "base/checked.h"
#include "base/err.h"
#include "model/arch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_MAX_BYTES = 16 << 20 };

static bool is_null(const json_t *v) { return !v || json_is_null(v); }

/* ---- fields ---- */

static const char *spelled(const hf_fields *f, const char *key) {
    for (size_t i = 0; f->spelling && f->spelling[i][0]; i++)
        if (!strcmp(f->spelling[i][0], key)) return f->spelling[i][1];
    return key;
}

/* Where a field is to be read: config.json, or what its family has for it. */
static const json_t *has(const hf_fields *f, const char *key) {
    return f->defaults && !json_object_get(f->o, spelled(f, key)) ? f->defaults : f->o;
}

const json_t *hf_get(const hf_fields *f, const char *key) {
    const json_t *v = json_object_get(has(f, key), spelled(f, key));
    return is_null(v) ? NULL : v;
}

snug_err hf_u32_or(const hf_fields *f, const char *key, uint32_t fallback, uint32_t *out, snug_error *err) {
    uint64_t v;
    snug_err rc = json_get_u64_or(has(f, key), f->where, spelled(f, key), fallback, &v, err);
    if (rc) return rc;
    if (v > UINT32_MAX)
        return err_set(err, SNUG_ERR_FORMAT, "%s: field '%s' is %llu, expected a 32-bit number", f->where, spelled(f, key), (unsigned long long)v);
    *out = (uint32_t)v;
    return SNUG_OK;
}

snug_err hf_u32(const hf_fields *f, const char *key, uint32_t *out, snug_error *err) {
    if (!hf_get(f, key)) return err_set(err, SNUG_ERR_FORMAT, "%s: field '%s' is missing", f->where, spelled(f, key));
    return hf_u32_or(f, key, 0, out, err);
}

snug_err hf_f64_or(const hf_fields *f, const char *key, double fallback, double *out, snug_error *err) {
    return json_get_double_or(has(f, key), f->where, spelled(f, key), fallback, out, err);
}

snug_err hf_f32_or(const hf_fields *f, const char *key, double fallback, float *out, snug_error *err) {
    double v = 0;
    snug_err rc = hf_f64_or(f, key, fallback, &v, err);
    *out = (float)v;
    return rc;
}

snug_err hf_bool_or(const hf_fields *f, const char *key, bool fallback, bool *out, snug_error *err) {
    return json_get_bool_or(has(f, key), f->where, spelled(f, key), fallback, out, err);
}

const char *hf_text_or(const hf_fields *f, const char *key, const char *fallback) {
    const json_t *v = hf_get(f, key);
    return !v ? fallback : json_is_string(v) ? json_string_value(v) : "(no name)";
}

snug_err hf_refuse(const hf_fields *f, const char *key, const char *why, snug_error *err) {
    const json_t *v = hf_get(f, key);
    if (!v || json_is_false(v) || (json_is_number(v) && json_number_value(v) == 0) || (json_is_array(v) && json_array_size(v) == 0)) return SNUG_OK;
    return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: field '%s' is set, which is not supported: %s", f->where, spelled(f, key), why);
}

snug_err hf_windows(const hf_fields *f, config *c, uint32_t window, uint32_t from, uint32_t every, snug_error *err) {
    const json_t *types = hf_get(f, "layer_types");
    if (!window) return SNUG_OK;
    if (!json_is_array(types)) layers_set(c, LAYER_WINDOW, from, every);
    else if (json_array_size(types) != c->n_layers)
        return err_set(err, SNUG_ERR_FORMAT, "%s: layer_types has %zu entries for %u layers", f->where, json_array_size(types), c->n_layers);
    for (uint32_t i = 0; json_is_array(types) && i < c->n_layers && i < CONFIG_MAX_LAYERS; i++) {
        const char *t = json_string_value(json_array_get(types, i));
        const bool sliding = t && !strcmp(t, "sliding_attention");
        if (!sliding && (!t || strcmp(t, "full_attention")))
            return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: layer type '%s' of layer %u is not supported", f->where, t ? t : "?", i);
        if (sliding) c->layer[i] |= LAYER_WINDOW;
    }
    for (uint32_t i = 0; i < c->n_layers && i < CONFIG_MAX_LAYERS; i++)
        if (c->layer[i] & LAYER_WINDOW) c->sliding_window = window;
    return SNUG_OK;
}

/* ---- what all have ---- */

static snug_err read_arch(const json_t *o, const char *where, config *c, snug_error *err) {
    const json_t *list = json_object_get(o, "architectures");
    char known[ARCH_KNOWN_MAX];
    const json_t *first = json_is_array(list) ? json_array_get(list, 0) : NULL;
    if (!json_is_string(first))
        return err_set(err, SNUG_ERR_FORMAT, "%s: field 'architectures' is no list of names, expected one such as [\"LlamaForCausalLM\"]; %s", where, arch_known_hf("", known));
    c->arch = arch_by_hf_class(json_string_value(first));
    if (!c->arch)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: architecture '%.80s' is not supported; %s", where, json_string_value(first), arch_known_hf(json_string_value(first), known));
    return SNUG_OK;
}

/* Three fields and several names for the same. */
static snug_err read_activation(const hf_fields *f, config *c, snug_error *err) {
    static const struct { const char *name; activation act; } known[] = {
        {"silu", ACT_SILU}, {"swish", ACT_SILU}, {"relu2", ACT_RELU2}, {"gelu_pytorch_tanh", ACT_GELU}, {"gelu_new", ACT_GELU}, {"gelu_fast", ACT_GELU}, {"gelu", ACT_GELU_ERF}};
    const char *name = hf_text_or(f, "hidden_activation", hf_text_or(f, "hidden_act", activation_name(c->arch->act)));
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, name)) {
            c->act = known[i].act;
            return SNUG_OK;
        }
    return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: hidden_act '%s' is not supported; known: silu, gelu_pytorch_tanh, gelu, relu2", f->where, name);
}

/* Weights that are quantized already; BitNet's own kind is read by its family before. */
static snug_err read_quantization(const hf_fields *f, config *c, snug_error *err) {
    const json_t *q = hf_get(f, "quantization_config");
    return json_is_object(q) && c->ternary == TERNARY_PLAIN ? config_quantization(q, f->where, c, err) : SNUG_OK;
}

/* Those in transformers 5 that differ by layer type are families' own; a field that nobody here knows may change what is computed. */
static snug_err refuse_unknown(const json_t *params, const char *of, const char *where, snug_error *err) {
    static const char *const known[] = {
        "rope_type", "type", "rope_theta", "partial_rotary_factor", "factor", "original_max_position_embeddings", "max_position_embeddings", "attention_factor", "beta_fast", "beta_slow",
        "mscale", "mscale_all_dim", "truncate", "low_freq_factor", "high_freq_factor", "short_factor", "long_factor", "llama_4_scaling_beta", "finetuned", "mrope_section", "mrope_interleaved"};
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)params, key, v) {
        bool is_known = is_null(v) || json_is_false(v);
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) is_known |= !strcmp(known[i], key);
        if (json_is_object(v)) return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: %s per layer type ('%s') are not supported", where, of, key);
        if (!is_known) return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: field '%s' of %s is not known here, so it is not supported", where, key, of);
    }
    return SNUG_OK;
}

static const struct { const char *name; rope_scaling kind; } scalings[] = {
    {"linear", ROPE_LINEAR}, {"llama3", ROPE_LLAMA3}, {"yarn", ROPE_YARN}, {"dynamic", ROPE_DYNAMIC}, {"longrope", ROPE_LONG}, {"su", ROPE_LONG}};

static snug_err read_llama3(const hf_fields *in, config *c, snug_error *err) {
    snug_err rc = hf_f64_or(in, "low_freq_factor", 0, &c->low_freq_factor, err);
    return rc ? rc : hf_f64_or(in, "high_freq_factor", 0, &c->high_freq_factor, err);
}

static snug_err read_yarn(const hf_fields *in, config *c, snug_error *err) {
    double mscale = 0, all = 0, magnitude;
    bool truncate = true;
    if (c->scale_factor == 0 && c->scale_orig_ctx) c->scale_factor = (double)c->n_ctx_train / c->scale_orig_ctx;
    snug_err rc = hf_f64_or(in, "beta_fast", 32, &c->beta_fast, err);
    if (!rc) rc = hf_f64_or(in, "beta_slow", 1, &c->beta_slow, err);
    if (!rc) rc = hf_f64_or(in, "mscale", 0, &mscale, err);
    if (!rc) rc = hf_f64_or(in, "mscale_all_dim", 0, &all, err);
    if (!rc) rc = hf_bool_or(in, "truncate", true, &truncate, err);
    c->yarn_exact = !truncate;
    magnitude = mscale != 0 && all != 0 ? rope_yarn_magnitude(c->scale_factor, mscale) / rope_yarn_magnitude(c->scale_factor, all) : rope_yarn_magnitude(c->scale_factor, 1);
    return rc ? rc : hf_f64_or(in, "attention_factor", magnitude, &c->rope_magnitude, err);
}

static snug_err read_factors(const hf_fields *in, const char *key, const config *c, float *out, snug_error *err) {
    const json_t *list = hf_get(in, key);
    const size_t n = c->rope_dims / 2;
    if (!json_is_array(list) || json_array_size(list) != n || n > CONFIG_MAX_LONG)
        return err_set(err, SNUG_ERR_FORMAT, "%s: field '%s' is no list of %zu numbers (at most %d), one for each pair of a head's dimensions", in->where, key, n, CONFIG_MAX_LONG);
    for (size_t i = 0; i < n; i++) out[i] = (float)json_number_value(json_array_get(list, i));
    return SNUG_OK;
}

static snug_err read_long(const hf_fields *in, config *c, snug_error *err) {
    snug_err rc = read_factors(in, "short_factor", c, c->rope_short, err);
    if (!rc) rc = read_factors(in, "long_factor", c, c->rope_long, err);
    if (rc || c->scale_orig_ctx == 0) return rc; /* rope_check tells */
    const double factor = (double)c->n_ctx_train / c->scale_orig_ctx, magnitude = factor <= 1 ? 1 : sqrt(1 + log(factor) / log(c->scale_orig_ctx));
    return hf_f64_or(in, "attention_factor", magnitude, &c->rope_magnitude, err);
}

static snug_err read_scaling(const hf_fields *f, const hf_fields *in, rope_scaling kind, config *c, snug_error *err) {
    const uint32_t fallback = kind == ROPE_YARN || kind == ROPE_DYNAMIC || kind == ROPE_LONG ? c->n_ctx_train : 0;
    c->scaling = kind;
    snug_err rc = hf_f64_or(in, "factor", 0, &c->scale_factor, err);
    if (!rc) rc = hf_u32_or(f, "original_max_position_embeddings", fallback, &c->scale_orig_ctx, err);
    if (!rc) rc = hf_u32_or(in, "original_max_position_embeddings", c->scale_orig_ctx, &c->scale_orig_ctx, err);
    if (kind == ROPE_DYNAMIC) c->scale_orig_ctx = c->n_ctx_train;
    if (rc || kind == ROPE_LINEAR || kind == ROPE_DYNAMIC) return rc;
    return kind == ROPE_LLAMA3 ? read_llama3(in, c, err) : kind == ROPE_YARN ? read_yarn(in, c, err) : read_long(in, c, err);
}

/* rope_theta, scaling and partial_rotary_factor, of config.json or, in `params`, of transformers 5. */
snug_err hf_rope(const hf_fields *f, const json_t *params, config *c, snug_error *err) {
    const char *where = f->where;
    const json_t *scaling = hf_get(f, "rope_scaling");
    double partial = 1;
    if (!scaling) scaling = params;
    if ((params && !json_is_object(params)) || (scaling && !json_is_object(scaling)))
        return err_set(err, SNUG_ERR_FORMAT, "%s: rope_scaling and rope_parameters must be objects", where);
    snug_err rc = params ? refuse_unknown(params, "rope_parameters", where, err) : SNUG_OK;
    if (!rc && scaling != params) rc = refuse_unknown(scaling, "rope_scaling", where, err);
    if (!rc) rc = hf_f64_or(f, "rope_theta", c->rope_base, &c->rope_base, err);
    if (!rc && params) rc = json_get_double_or(params, where, "rope_theta", c->rope_base, &c->rope_base, err);
    if (!rc) rc = hf_f64_or(f, "partial_rotary_factor", 1, &partial, err);
    if (!rc && params) rc = json_get_double_or(params, where, "partial_rotary_factor", partial, &partial, err);
    if (rc) return rc;
    if (!(partial > 0 && partial <= 1)) return err_set(err, SNUG_ERR_FORMAT, "%s: partial_rotary_factor is %g, expected 0 to 1", where, partial);
    c->rope_dims = (uint32_t)(c->head_dim * partial);
    if (!scaling) return SNUG_OK;

    const json_t *type = json_object_get(scaling, "rope_type");
    if (is_null(type)) type = json_object_get(scaling, "type");
    const char *name = is_null(type) ? "default" : json_string_value(type);
    if (!name) return err_set(err, SNUG_ERR_FORMAT, "%s: rope_type is no string", where);
    if (!strcmp(name, "default") || !strcmp(name, "mrope")) return SNUG_OK; /* the latter: a position of its own for the height and the width of pictures, in text one and the same */
    const hf_fields inner = {.o = scaling, .where = where};
    for (size_t i = 0; i < sizeof scalings / sizeof *scalings; i++)
        if (!strcmp(scalings[i].name, name)) return read_scaling(f, &inner, scalings[i].kind, c, err);
    return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: rope_type '%s' is not supported; known: default, linear, llama3, yarn, dynamic, longrope", where, name);
}

snug_err hf_rope_by_type(const hf_fields *f, double local, config *c, snug_error *err) {
    const json_t *params = hf_get(f, "rope_parameters");
    const json_t *full = params ? json_object_get(params, "full_attention") : NULL, *sliding = params ? json_object_get(params, "sliding_attention") : NULL;
    snug_err rc = params ? hf_rope(f, json_is_object(full) ? full : params, c, err) : SNUG_OK;
    if (local == 0) local = c->rope_base;
    if (!rc && json_is_object(sliding)) {
        const hf_fields in = {.o = sliding, .where = f->where};
        const char *type = hf_text_or(&in, "rope_type", "default");
        if (strcmp(type, "default")) return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: rope_type '%s' of layers with a window is not supported, expected 'default'", f->where, type);
        rc = hf_f64_or(&in, "rope_theta", local, &local, err);
    }
    if (!rc) layers_local_rope(c, local);
    return rc;
}

/* Layers of a mixture that have one feed-forward: those that are listed, and all but each step-th. */
static snug_err read_dense_layers(const hf_fields *f, config *c, snug_error *err) {
    const json_t *only = hf_get(f, "mlp_only_layers");
    uint32_t step = 1;
    snug_err rc = hf_u32_or(f, "decoder_sparse_step", 1, &step, err);
    if (rc) return rc;
    if (step == 0 || (only && !json_is_array(only)))
        return err_set(err, SNUG_ERR_FORMAT, "%s: decoder_sparse_step is %u, mlp_only_layers %s; expected 1 or more, and an array of layers", f->where, step, only && !json_is_array(only) ? "no array" : "an array");
    for (uint32_t l = 0; l < c->n_layers && l < CONFIG_MAX_LAYERS; l++)
        if ((l + 1) % step) c->layer[l] |= LAYER_DENSE;
    for (size_t i = 0; i < json_array_size(only); i++) {
        const json_t *l = json_array_get(only, i);
        if (!json_is_integer(l) || json_integer_value(l) < 0)
            return err_set(err, SNUG_ERR_FORMAT, "%s: mlp_only_layers[%zu] is no number of a layer", f->where, i);
        if ((uint64_t)json_integer_value(l) < min_u64(c->n_layers, CONFIG_MAX_LAYERS)) c->layer[json_integer_value(l)] |= LAYER_DENSE;
    }
    return SNUG_OK;
}

/* Experts: how many, how wide, how their shares are made, which layers have them. */
static snug_err read_experts(const hf_fields *f, config *c, snug_error *err) {
    const arch_experts *a = c->arch->experts;
    if (!a) return SNUG_OK;
    snug_err rc = hf_u32(f, hf_get(f, "num_experts") ? "num_experts" : "num_local_experts", &c->n_experts, err); /* either name is in use */
    if (rc || (a->optional && c->n_experts == 0)) return rc;
    rc = hf_u32(f, "num_experts_per_tok", &c->n_experts_used, err);
    c->n_ff_dense = c->n_ff;
    if (!rc) rc = hf_u32(f, a->hf_width, &c->n_ff, err);
    c->norm_topk = true;
    if (!rc && a->hf_norm_topk) rc = hf_bool_or(f, a->hf_norm_topk, false, &c->norm_topk, err);
    if (!rc && a->hf_shared) rc = hf_u32(f, a->hf_shared, &c->n_ff_shared, err);
    return rc ? rc : read_dense_layers(f, c, err);
}

/* The folder's own name, for general.name. */
static void read_name(const char *dir, config *c) {
    char *full = realpath(dir, NULL);
    const char *slash = full ? strrchr(full, '/') : NULL;
    snprintf(c->name, sizeof c->name, "%s", slash ? slash + 1 : dir);
    free(full);
}

static snug_err read_width(const hf_fields *f, config *c, snug_error *err) {
    if (hf_get(f, "intermediate_size") || !c->arch->ff_times) return hf_u32(f, "intermediate_size", &c->n_ff, err);
    c->n_ff = (uint32_t)min_u64(UINT32_MAX, (uint64_t)c->arch->ff_times * c->n_embd);
    return SNUG_OK;
}

static snug_err read_sizes(const hf_fields *f, config *c, snug_error *err) {
    snug_err rc;
    if ((rc = hf_u32(f, "num_hidden_layers", &c->n_layers, err)) || (rc = hf_u32(f, "hidden_size", &c->n_embd, err)) ||
        (rc = hf_u32(f, "num_attention_heads", &c->n_heads, err)) ||
        (rc = hf_u32_or(f, "num_key_value_heads", c->n_heads, &c->n_kv_heads, err)) || (rc = hf_u32_or(f, "head_dim", c->head_dim, &c->head_dim, err)) ||
        (rc = read_width(f, c, err)) || (rc = hf_u32(f, "vocab_size", &c->n_vocab, err)) ||
        (rc = hf_u32(f, "max_position_embeddings", &c->n_ctx_train, err)) || (rc = hf_f32_or(f, "rms_norm_eps", c->norm_eps, &c->norm_eps, err)) ||
        (rc = hf_bool_or(f, "tie_word_embeddings", c->tied, &c->tied, err)))
        return rc;
    if (c->head_dim) return SNUG_OK;
    if (c->n_heads == 0 || c->n_embd % c->n_heads)
        return err_set(err, SNUG_ERR_FORMAT, "%s: hidden_size %u is no multiple of num_attention_heads %u and head_dim is missing", f->where, c->n_embd, c->n_heads);
    c->head_dim = c->n_embd / c->n_heads;
    return SNUG_OK;
}

static snug_err read_fields(const hf_fields *f, config *c, snug_error *err) {
    const arch *a = c->arch;
    const json_t *params = hf_get(f, "rope_parameters");
    const bool own_rope = json_is_object(params) && a->rope_by_type;
    snug_err rc;
    if ((rc = read_sizes(f, c, err)) || (rc = read_activation(f, c, err)) || (rc = read_experts(f, c, err)) || (!own_rope && (rc = hf_rope(f, params, c, err))) ||
        (a->from_hf && (rc = a->from_hf(f, c, err))))
        return rc;
    return read_quantization(f, c, err);
}

/* What a model with pictures says of all its parts; that the head is the embedding may stand there or with the text. */
static snug_err read_whole(const hf_fields *f, config *c, snug_error *err) {
    bool tied = false;
    snug_err rc = hf_bool_or(f, "tie_word_embeddings", false, &tied, err);
    c->tied |= tied;
    return rc ? rc : read_quantization(f, c, err);
}

/* A family's defaults come first, what is common then, and what the family alone knows last. */
snug_err config_from_json(const json_t *o, const char *where, config *c, snug_error *err) {
    memset(c, 0, sizeof *c);
    if (!json_is_object(o)) return err_set(err, SNUG_ERR_FORMAT, "%s: expected a JSON object", where);
    snug_err rc = read_arch(o, where, c, err);
    if (rc) return rc;
    const arch *a = c->arch;
    json_t *defaults = NULL;
    if (a->defaults && (rc = json_read_buffer("defaults", a->defaults, strlen(a->defaults), &defaults, err))) return rc;
    const json_t *inner = json_object_get(o, "text_config");
    const hf_fields f = {.o = a->wrapped && json_is_object(inner) ? inner : o, .where = where, .defaults = defaults, .spelling = a->spelling};
    config_defaults(c);
    rc = read_fields(&f, c, err);
    if (!rc && f.o != o) rc = read_whole(&(hf_fields){.o = o, .where = where, .spelling = a->spelling}, c, err);
    json_decref(defaults);
    return rc ? rc : config_check(c, where, err);
}

snug_err config_from_hf(const char *dir, config *out, snug_error *err) {
    size_t n = strlen(dir) + sizeof "/config.json";
    char *path = malloc(n);
    if (!path) return err_nomem(err, n);
    snprintf(path, n, "%s/config.json", dir);
    json_t *o = NULL;
    snug_err rc = json_read_file(path, CONFIG_MAX_BYTES, &o, err);
    if (!rc) rc = config_from_json(o, path, out, err);
    if (!rc) read_name(dir, out);
    json_decref(o);
    free(path);
    return rc;
}
