/* The configuration as GGUF metadata, both ways. Keys as llama.cpp reads and writes them (src/llama-arch.cpp,
 * src/llama-model.cpp, convert_hf_to_gguf.py): <arch>.block_count and so on.
 *
 * llama3 RoPE scaling has no keys there: its factors are a tensor, rope_freqs.weight. The window of a Mistral
 * (architecture "llama") has no key that llama.cpp reads; snug writes and reads <arch>.attention.sliding_window, and
 * snug.sliding_from_layer beside it. */
#include "base/err.h"
#include "model/ssm.h"

#include <stdio.h>
#include <string.h>

/* Notes which keys were asked for: those that nobody asks for and that change the computation are refused. */
static void note(gguf_fields *f, const char *suffix) {
    if (f->n_asked < sizeof f->asked / sizeof *f->asked) f->asked[f->n_asked++] = suffix;
}

const char *gguf_key(gguf_fields *f, const char *suffix) {
    snprintf(f->key, sizeof f->key, "%s.%s", f->arch, suffix);
    return f->key;
}

snug_err gguf_u32(gguf_fields *f, const char *suffix, bool required, uint32_t fallback, uint32_t *out, snug_error *err) {
    const char *key = gguf_key(f, suffix), *path = f->g->file.path;
    const gguf_kv *kv = gguf_find(f->g, key);
    uint64_t v = fallback;
    note(f, suffix);
    if (!kv && required) return err_set(err, SNUG_ERR_FORMAT, "%s: key '%s' is missing", path, key);
    if (kv && kv->type == GGUF_ARRAY && kv->n > 0 && kv->elem_type != GGUF_STRING) {
        v = gguf_array_u64(kv, 0);
        for (uint64_t i = 1; i < kv->n; i++)
            if (gguf_array_u64(kv, i) != v)
                return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: key '%s' differs between layers, which is not supported",
                               path, key);
    } else if (kv) {
        snug_err rc = gguf_get_u64(f->g, key, &v, err);
        if (rc) return rc;
    }
    if (v > UINT32_MAX)
        return err_set(err, SNUG_ERR_FORMAT, "%s: key '%s' is %llu, expected a 32-bit number", path, key,
                       (unsigned long long)v);
    *out = (uint32_t)v;
    return SNUG_OK;
}

static snug_err get_f64_or(gguf_fields *f, const char *suffix, double fallback, double *out, snug_error *err) {
    note(f, suffix);
    return gguf_get_f64_or(f->g, gguf_key(f, suffix), fallback, out, err);
}

snug_err gguf_f32_or(gguf_fields *f, const char *suffix, double fallback, float *out, snug_error *err) {
    double v = 0;
    snug_err rc = get_f64_or(f, suffix, fallback, &v, err);
    *out = (float)v;
    return rc;
}

/* Rows of the embedding; vocab_size and the token list must agree where they stand. */
static snug_err read_vocab(gguf_fields *r, config *c, snug_error *err) {
    const gguf_tensor *embd = gguf_find_tensor(r->g, "token_embd.weight");
    const gguf_kv *tokens = gguf_find(r->g, "tokenizer.ggml.tokens");
    uint32_t n = 0;
    snug_err rc = gguf_u32(r, "vocab_size", false, 0, &n, err);
    if (rc) return rc;
    if (n == 0 && tokens && tokens->type == GGUF_ARRAY && tokens->n <= UINT32_MAX) n = (uint32_t)tokens->n;
    if (n == 0 && embd && embd->n_dims == 2 && embd->dims[1] <= UINT32_MAX) n = (uint32_t)embd->dims[1];
    c->n_vocab = n;
    return SNUG_OK;
}

/* Keys of llama.cpp that change the computation and that this architecture does not have here. */
static snug_err refuse_options(gguf_fields *r, snug_error *err) {
    static const char *const refused[] = {
        "expert_shared_count", "expert_group_count", "leading_dense_block_count", "interleave_moe_layer_step",
        "logit_scale",         "residual_scale",          "embedding_scale",
        "attention.scale", "attention.clamp_kqv", "final_logit_softcapping", "attn_logit_softcapping"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        double v = 0;
        bool asked = false;
        for (size_t k = 0; k < r->n_asked; k++) asked |= !strcmp(r->asked[k], refused[i]);
        if (asked) continue;
        if (!gguf_find(r->g, gguf_key(r, refused[i]))) continue;
        snug_err rc = get_f64_or(r, refused[i], 0, &v, err);
        if (rc) {
            uint64_t u = 0;
            if (gguf_get_u64(r->g, gguf_key(r, refused[i]), &u, NULL)) return rc;
            v = (double)u;
        }
        if (v != 0)
            return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: key '%s' is %g, which is not supported", r->g->file.path,
                           gguf_key(r, refused[i]), v);
    }
    return SNUG_OK;
}

/* Experts: how many, how wide, how their shares are made. Sources: llama.cpp's loaders of llama, qwen3moe, olmoe; 0, 1: softmax. */
static snug_err read_experts(gguf_fields *r, config *c, snug_error *err) {
    const arch_experts *a = c->arch->experts;
    uint32_t gating = 1;
    double scale = 1;
    if (!a) return SNUG_OK;
    snug_err rc = gguf_u32(r, "expert_count", !a->optional, 0, &c->n_experts, err);
    if (rc || c->n_experts == 0) return rc;
    rc = gguf_u32(r, "expert_used_count", true, 0, &c->n_experts_used, err);
    c->n_ff_dense = c->n_ff;
    if (!rc && a->gguf_width) rc = gguf_u32(r, "expert_feed_forward_length", true, 0, &c->n_ff, err);
    if (!rc && a->hf_shared) rc = gguf_u32(r, "expert_shared_feed_forward_length", false, c->n_ff_dense, &c->n_ff_shared, err); /* as llama.cpp takes it */
    c->norm_topk = gguf_get_bool_or(r->g, gguf_key(r, "expert_weights_norm"), a->gguf_norm_topk);
    if (!rc) rc = gguf_u32(r, "expert_gating_func", false, 1, &gating, err);
    if (!rc) rc = get_f64_or(r, "expert_weights_scale", 1, &scale, err);
    if (c->arch->expert_scores) {
        c->sigmoid = gating == 2, c->share_scale = scale == 1 ? 0 : (float)scale;
        if (!rc) rc = gguf_u32(r, "expert_group_count", false, 0, &c->n_groups, err);
        if (!rc) rc = gguf_u32(r, "expert_group_used_count", false, 0, &c->n_groups_used, err);
        if (c->n_groups == c->n_groups_used || c->n_groups == 1) c->n_groups = c->n_groups_used = 0;
        gating -= c->sigmoid, scale = 1;
    }
    if (!rc && gating > 1)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: key '%s' is %u, which is not supported, expected 1 (softmax)", r->g->file.path,
                       gguf_key(r, "expert_gating_func"), gating);
    if (!rc && scale != 0 && scale != 1)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: key '%s' is %g, which is not supported, expected 1", r->g->file.path,
                       gguf_key(r, "expert_weights_scale"), scale);
    return rc;
}

/* "llama" stands for models with experts and without. */
static bool has_experts(const gguf_file *g, const char *prefix) {
    char key[128];
    uint64_t n = 0;
    snprintf(key, sizeof key, "%s.expert_count", prefix);
    return gguf_get_u64_or(g, key, 0, &n, NULL) == SNUG_OK && n > 0;
}

/* Where a file does not say. llama.cpp's bitnet: silu. */
static activation usual_act(const arch *a) { return a->sub_norms ? ACT_SILU : a->act; }

static snug_err read_activation(gguf_fields *r, config *c, snug_error *err) {
    const char *name = gguf_get_str_or(r->g, gguf_key(r, "hidden_activation"), activation_name(usual_act(c->arch)));
    for (int i = 0; i < ACT_COUNT; i++)
        if (!strcmp(activation_name((activation)i), name)) {
            c->act = (activation)i;
            return SNUG_OK;
        }
    return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: key '%s' is '%s', which is not supported; known: silu, relu2, gelu_pytorch_tanh, gelu", r->g->file.path,
                   gguf_key(r, "hidden_activation"), name);
}

/* Which layers have what: as the family has it; of other files all have the window that there is, from snug.sliding_from_layer on;
 * or as snug.layer_kinds lists. */
static snug_err read_layers(gguf_fields *r, config *c, snug_error *err) {
    uint64_t from = 0;
    snug_err rc = gguf_get_u64_or(r->g, "snug.sliding_from_layer", 0, &from, err);
    if (!rc && c->sliding_window && from < c->n_layers) layers_set(c, LAYER_WINDOW, (uint32_t)from, 0);
    if (!rc && c->arch->from_gguf) rc = c->arch->from_gguf(r, c, err);
    const gguf_kv *kinds = gguf_find(r->g, "snug.layer_kinds");
    if (rc || !kinds) return rc;
    if (kinds->type != GGUF_ARRAY || kinds->elem_type != GGUF_U8 || kinds->n != c->n_layers)
        return err_set(err, SNUG_ERR_FORMAT, "%s: key 'snug.layer_kinds' is no array of %u bytes, one for each layer", r->g->file.path, c->n_layers);
    for (uint32_t l = 0; l < c->n_layers && l < CONFIG_MAX_LAYERS; l++) c->layer[l] = (uint8_t)gguf_array_u64(kinds, l);
    return SNUG_OK;
}

/* longrope's factors for each pair of dimensions: tensors in files of others, arrays in snug's own. */
static snug_err read_factors(const gguf_file *g, const char *key, const char *tensor, const config *c, float *out, snug_error *err) {
    const gguf_kv *kv = gguf_find(g, key);
    const gguf_tensor *t = gguf_find_tensor(g, tensor);
    const uint32_t n = c->rope_dims / 2;
    if (t && t->type == GGML_F32 && t->n_dims == 1 && t->dims[0] == n && n <= CONFIG_MAX_LONG) return io_pread(&g->files[t->file], t->offset, out, n * sizeof *out, err);
    if (t)
        return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' has type %u and %llu numbers, expected f32 and %u (at most %d), one for each pair of a head's dimensions", g->file.path, tensor, t->type,
                       (unsigned long long)t->dims[0], n, CONFIG_MAX_LONG);
    if (!kv || kv->type != GGUF_ARRAY || kv->elem_type != GGUF_F32 || kv->n != n || n > CONFIG_MAX_LONG)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: neither tensor '%s' nor key '%s' has the %u numbers (at most %d) that longrope needs", g->file.path, tensor, key, n, CONFIG_MAX_LONG);
    for (uint32_t i = 0; i < n; i++) out[i] = (float)gguf_array_f64(kv, i);
    return SNUG_OK;
}

static snug_err read_yarn(gguf_fields *r, config *c, snug_error *err) {
    double factor = 1;
    snug_err rc = get_f64_or(r, "rope.scaling.yarn_beta_fast", 32, &c->beta_fast, err);
    if (!rc) rc = get_f64_or(r, "rope.scaling.yarn_beta_slow", 1, &c->beta_slow, err);
    if (!rc) rc = get_f64_or(r, "rope.scaling.attn_factor", 1, &factor, err);
    c->yarn_exact = gguf_get_bool_or(r->g, "snug.rope.yarn_exact", c->arch->yarn_exact);
    c->rope_magnitude = factor * rope_yarn_magnitude(c->scale_factor, 1);
    return rc;
}

static snug_err read_rope(gguf_fields *r, config *c, snug_error *err) {
    static const char *const names[] = {"none", "linear", "yarn", "longrope"};
    static const rope_scaling kinds[] = {ROPE_NONE, ROPE_LINEAR, ROPE_YARN, ROPE_LONG};
    double factor = 0, dynamic = 0;
    snug_err rc = get_f64_or(r, "rope.freq_base", 10000, &c->rope_base, err);
    if (!rc) rc = get_f64_or(r, "rope.scaling.factor", 0, &factor, err);
    if (!rc && factor == 0) rc = get_f64_or(r, "rope.scale_linear", 0, &factor, err); /* older files */
    if (!rc) rc = gguf_u32(r, "rope.scaling.original_context_length", false, c->n_ctx_train, &c->scale_orig_ctx, err);
    if (!rc) rc = gguf_get_f64_or(r->g, "snug.rope.dynamic", 0, &dynamic, err);
    if (rc) return rc;
    const char *type = gguf_get_str_or(r->g, gguf_key(r, "rope.scaling.type"), gguf_find_tensor(r->g, "rope_factors_long.weight") ? "longrope" : factor != 0 ? "linear" : "none");
    size_t i = 0;
    while (i < 4 && strcmp(names[i], type)) i++;
    if (i == 4)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: key '%s' is '%s', which is not supported; known: none, linear, yarn, longrope", r->g->file.path, gguf_key(r, "rope.scaling.type"), type);
    c->scaling = kinds[i] == ROPE_LINEAR && (factor == 0 || factor == 1) ? ROPE_NONE : kinds[i];
    if (c->scaling != ROPE_NONE) c->scale_factor = factor;
    if (c->scaling == ROPE_YARN) rc = read_yarn(r, c, err);
    if (c->scaling == ROPE_LONG) {
        rc = get_f64_or(r, "rope.scaling.attn_factor", 1, &c->rope_magnitude, err);
        if (!rc) rc = read_factors(r->g, "snug.rope.short", "rope_factors_short.weight", c, c->rope_short, err);
        if (!rc) rc = read_factors(r->g, "snug.rope.long", "rope_factors_long.weight", c, c->rope_long, err);
    }
    if (!rc && dynamic != 0) c->scaling = ROPE_DYNAMIC, c->scale_factor = dynamic, c->scale_orig_ctx = c->n_ctx_train;
    return rc;
}

static const char *norm_key(const config *c) { return c->arch->layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon"; }

snug_err config_from_gguf(const gguf_file *g, config *c, snug_error *err) {
    memset(c, 0, sizeof *c);
    const char *path = g->file.path, *name = gguf_get_str_or(g, "general.architecture", NULL);
    char known[ARCH_KNOWN_MAX];
    if (!name) return err_set(err, SNUG_ERR_FORMAT, "%s: key 'general.architecture' is missing or no string", path);
    c->arch = arch_by_gguf_name(name, strlen(name) < 64 && has_experts(g, name));
    if (!c->arch)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: architecture '%.80s' is not supported; %s", path, name, arch_known_gguf(name, known));
    gguf_fields r = {.g = g, .arch = name};
    snug_err rc;
    config_defaults(c);
    if ((rc = gguf_u32(&r, "block_count", true, 0, &c->n_layers, err)) ||
        (rc = gguf_u32(&r, "embedding_length", true, 0, &c->n_embd, err)) ||
        (rc = gguf_u32(&r, "feed_forward_length", true, 0, &c->n_ff, err)) ||
        (rc = gguf_u32(&r, "attention.head_count", true, 0, &c->n_heads, err)) ||
        (rc = c->arch->ssm ? ssm_layers_from_gguf(&r, c, err) : gguf_u32(&r, "attention.head_count_kv", false, c->n_heads, &c->n_kv_heads, err)) ||
        (rc = gguf_u32(&r, "attention.key_length", false, c->n_heads ? c->n_embd / c->n_heads : 0, &c->head_dim, err)) ||
        (rc = gguf_u32(&r, "context_length", true, 0, &c->n_ctx_train, err)) ||
        (rc = gguf_u32(&r, "rope.dimension_count", false, c->head_dim, &c->rope_dims, err)) ||
        (rc = gguf_u32(&r, "attention.sliding_window", false, 0, &c->sliding_window, err)) ||
        (rc = gguf_f32_or(&r, norm_key(c), 1e-5, &c->norm_eps, err)) || (rc = read_experts(&r, c, err)) || (rc = read_activation(&r, c, err)) ||
        (rc = read_rope(&r, c, err)) || (rc = read_vocab(&r, c, err)) || (rc = read_layers(&r, c, err)) || (rc = refuse_options(&r, err)))
        return rc;
    uint32_t v_length = 0;
    if ((rc = gguf_u32(&r, "attention.value_length", false, c->head_dim, &v_length, err))) return rc;
    if (!c->arch->latent && v_length != c->head_dim)
        return err_set(err, SNUG_ERR_UNSUPPORTED,
                       "%s: attention.value_length %u differs from key_length %u, which is not supported", path,
                       v_length, c->head_dim);
    c->rope_interleaved = config_gguf_interleaved(c);
    c->tied = !gguf_find_tensor(g, "output.weight");
    snprintf(c->name, sizeof c->name, "%s", gguf_get_str_or(g, "general.name", ""));
    return config_check(c, path, err);
}

/* Dynamic scaling changes nothing within the trained context, which is all that other readers have of it. */
static bool put_scaling(const config *c, gguf_kvs *out) {
    if (c->scaling == ROPE_DYNAMIC) return gguf_put_f32(out, "snug.rope.dynamic", (float)c->scale_factor);
    if (c->scaling == ROPE_NONE || c->scaling == ROPE_LLAMA3) return true;
    const bool yarn = c->scaling == ROPE_YARN, is_long = c->scaling == ROPE_LONG;
    const double usual = yarn && !(c->arch->latent && c->attn_scale != 0) ? rope_yarn_magnitude(c->scale_factor, 1) : 1; /* what readers multiply by unasked */
    bool ok = arch_put_str(c, out, "rope.scaling.type", yarn ? "yarn" : is_long ? "longrope" : "linear") && (is_long || arch_put_f32(c, out, "rope.scaling.factor", c->scale_factor));
    if (!yarn && !is_long) return ok;
    ok = ok && arch_put_u32(c, out, "rope.scaling.original_context_length", c->scale_orig_ctx) &&
         arch_put_f32(c, out, "rope.scaling.attn_factor", c->rope_magnitude / usual);
    if (yarn)
        return ok && arch_put_f32(c, out, "rope.scaling.yarn_beta_fast", c->beta_fast) && arch_put_f32(c, out, "rope.scaling.yarn_beta_slow", c->beta_slow) &&
               (c->yarn_exact == c->arch->yarn_exact || gguf_put_bool(out, "snug.rope.yarn_exact", c->yarn_exact));
    return ok && gguf_put_array(out, "snug.rope.short", GGUF_F32, c->rope_short, c->rope_dims / 2) && gguf_put_array(out, "snug.rope.long", GGUF_F32, c->rope_long, c->rope_dims / 2);
}

/* snug.sliding_from_layer where the layers with a window are the last ones and nothing else is special, else a byte for each layer. */
static bool put_layers(const config *c, gguf_kvs *out) {
    uint32_t from = 0, n_special = 0;
    while (from < c->n_layers && !c->layer[from]) from++;
    for (uint32_t l = from; l < c->n_layers; l++) n_special += c->layer[l] == LAYER_WINDOW;
    if (from + n_special == c->n_layers && !c->arch->from_gguf) return !n_special || !from || gguf_put_u32(out, "snug.sliding_from_layer", from);
    return gguf_put_array(out, "snug.layer_kinds", GGUF_U8, c->layer, c->n_layers);
}

snug_err config_to_gguf(const config *c, gguf_kvs *out, snug_error *err) {
    const char *prefix = c->arch->gguf_name;
    const struct { const char *suffix; uint32_t value; } numbers[] = {
        {"vocab_size", c->n_vocab},
        {"context_length", c->n_ctx_train},
        {"embedding_length", c->n_embd},
        {"block_count", c->n_layers},
        {"feed_forward_length", c->n_experts ? c->n_ff_dense : c->n_ff},
        {"rope.dimension_count", c->rope_dims},
        {"attention.head_count", c->n_heads},
        {"attention.head_count_kv", c->n_kv_heads},
        {"attention.key_length", c->head_dim},
        {"attention.value_length", config_value_dim(c)},
    };
    char key[128];
    bool ok = gguf_put_str(out, "general.architecture", prefix, strlen(prefix)) &&
              gguf_put_str(out, "general.type", "model", strlen("model")) &&
              gguf_put_str(out, "general.name", c->name, strlen(c->name));
    const bool heads = !c->arch->ssm || c->arch->no_attention; /* as many in all layers */
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (heads || strcmp(numbers[i].suffix, "attention.head_count_kv")) ok = ok && arch_put_u32(c, out, numbers[i].suffix, numbers[i].value);
    if (!heads) ok = ok && ssm_layers_to_gguf(c, out);
    ok = ok && arch_put_f32(c, out, norm_key(c), c->norm_eps) && arch_put_f32(c, out, "rope.freq_base", c->rope_base);
    ok = ok && put_scaling(c, out);
    if (c->n_experts) {
        ok = ok && arch_put_u32(c, out, "expert_count", c->n_experts) && arch_put_u32(c, out, "expert_used_count", c->n_experts_used);
        ok = ok && (!c->arch->experts->gguf_width || arch_put_u32(c, out, "expert_feed_forward_length", c->n_ff));
        ok = ok && (!c->arch->experts->hf_shared || arch_put_u32(c, out, "expert_shared_feed_forward_length", c->n_ff_shared));
        snprintf(key, sizeof key, "%s.expert_weights_norm", prefix);
        ok = ok && (c->norm_topk == c->arch->experts->gguf_norm_topk || gguf_put_bool(out, key, c->norm_topk));
    }
    if (c->act != usual_act(c->arch)) ok = ok && arch_put_str(c, out, "hidden_activation", activation_name(c->act));
    if (c->sliding_window) ok = ok && arch_put_u32(c, out, "attention.sliding_window", c->sliding_window);
    ok = ok && put_layers(c, out) && (!c->arch->to_gguf || c->arch->to_gguf(c, out));
    return ok ? SNUG_OK : err_nomem(err, out->bytes.len);
}
