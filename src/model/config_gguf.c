/* The configuration as GGUF metadata, both ways. Keys as llama.cpp reads and writes them (src/llama-arch.cpp,
 * src/llama-model.cpp, convert_hf_to_gguf.py): <arch>.block_count and so on.
 *
 * llama3 RoPE scaling has no keys there: its factors are a tensor, rope_freqs.weight. The window of a Mistral
 * (architecture "llama") has no key that llama.cpp reads; snug writes and reads <arch>.attention.sliding_window, and
 * snug.sliding_from_layer beside it. */
#include "base/err.h"
#include "model/config.h"

#include <stdio.h>
#include <string.h>

typedef struct reader { /* one file and its architecture's prefix */
    const gguf_file *g;
    const char *arch;
    char key[128];
} reader;

static const char *key_of(reader *r, const char *suffix) {
    snprintf(r->key, sizeof r->key, "%s.%s", r->arch, suffix);
    return r->key;
}

/* A number, or an array of equal numbers (llama.cpp allows one per layer). */
static snug_err get_u32(reader *r, const char *suffix, bool required, uint32_t fallback, uint32_t *out,
                        snug_error *err) {
    const char *key = key_of(r, suffix), *path = r->g->file.path;
    const gguf_kv *kv = gguf_find(r->g, key);
    uint64_t v = fallback;
    if (!kv && required) return err_set(err, SNUG_ERR_FORMAT, "%s: key '%s' is missing", path, key);
    if (kv && kv->type == GGUF_ARRAY && kv->n > 0 && kv->elem_type != GGUF_STRING) {
        v = gguf_array_u64(kv, 0);
        for (uint64_t i = 1; i < kv->n; i++)
            if (gguf_array_u64(kv, i) != v)
                return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: key '%s' differs between layers, which is not supported",
                               path, key);
    } else if (kv) {
        snug_err rc = gguf_get_u64(r->g, key, &v, err);
        if (rc) return rc;
    }
    if (v > UINT32_MAX)
        return err_set(err, SNUG_ERR_FORMAT, "%s: key '%s' is %llu, expected a 32-bit number", path, key,
                       (unsigned long long)v);
    *out = (uint32_t)v;
    return SNUG_OK;
}

static snug_err get_f64_or(reader *r, const char *suffix, double fallback, double *out, snug_error *err) {
    return gguf_get_f64_or(r->g, key_of(r, suffix), fallback, out, err);
}

/* Rows of the embedding; vocab_size and the token list must agree where they stand. */
static snug_err read_vocab(reader *r, config *c, snug_error *err) {
    const gguf_tensor *embd = gguf_find_tensor(r->g, "token_embd.weight");
    const gguf_kv *tokens = gguf_find(r->g, "tokenizer.ggml.tokens");
    uint32_t n = 0;
    snug_err rc = get_u32(r, "vocab_size", false, 0, &n, err);
    if (rc) return rc;
    if (n == 0 && tokens && tokens->type == GGUF_ARRAY && tokens->n <= UINT32_MAX) n = (uint32_t)tokens->n;
    if (n == 0 && embd && embd->n_dims == 2 && embd->dims[1] <= UINT32_MAX) n = (uint32_t)embd->dims[1];
    c->n_vocab = n;
    return SNUG_OK;
}

/* Keys of llama.cpp that change the computation and that the engine does not have. */
static snug_err refuse_options(reader *r, snug_error *err) {
    static const char *const refused[] = {
        "expert_shared_count", "expert_group_count", "leading_dense_block_count", "interleave_moe_layer_step",
        "logit_scale",         "residual_scale",          "embedding_scale",
        "attention.scale", "attention.clamp_kqv", "final_logit_softcapping", "attn_logit_softcapping"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        double v = 0;
        if (!gguf_find(r->g, key_of(r, refused[i]))) continue;
        snug_err rc = get_f64_or(r, refused[i], 0, &v, err);
        if (rc) {
            uint64_t u = 0;
            if (gguf_get_u64(r->g, key_of(r, refused[i]), &u, NULL)) return rc;
            v = (double)u;
        }
        if (v != 0)
            return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: key '%s' is %g, which is not supported", r->g->file.path,
                           key_of(r, refused[i]), v);
    }
    return SNUG_OK;
}

/* Experts: how many, how wide, how their shares are made. Sources: llama.cpp's loaders of llama, qwen3moe, olmoe; 0, 1: softmax. */
static snug_err read_experts(reader *r, config *c, snug_error *err) {
    const arch_experts *a = c->arch->experts;
    uint32_t gating = 1;
    double scale = 1;
    if (!a) return SNUG_OK;
    snug_err rc = get_u32(r, "expert_count", true, 0, &c->n_experts, err);
    if (!rc) rc = get_u32(r, "expert_used_count", true, 0, &c->n_experts_used, err);
    c->n_ff_dense = c->n_ff;
    if (!rc && a->gguf_width) rc = get_u32(r, "expert_feed_forward_length", true, 0, &c->n_ff, err);
    c->norm_topk = gguf_get_bool_or(r->g, key_of(r, "expert_weights_norm"), a->gguf_norm_topk);
    if (!rc) rc = get_u32(r, "expert_gating_func", false, 1, &gating, err);
    if (!rc) rc = get_f64_or(r, "expert_weights_scale", 1, &scale, err);
    if (!rc && gating > 1)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: key '%s' is %u, which is not supported, expected 1 (softmax)", r->g->file.path,
                       key_of(r, "expert_gating_func"), gating);
    if (!rc && scale != 0 && scale != 1)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: key '%s' is %g, which is not supported, expected 1", r->g->file.path,
                       key_of(r, "expert_weights_scale"), scale);
    return rc;
}

/* "llama" stands for models with experts and without. */
static bool has_experts(const gguf_file *g, const char *prefix) {
    char key[128];
    uint64_t n = 0;
    snprintf(key, sizeof key, "%s.expert_count", prefix);
    return gguf_get_u64_or(g, key, 0, &n, NULL) == SNUG_OK && n > 0;
}

/* llama.cpp's bitnet: silu where a file does not say. */
static snug_err read_activation(reader *r, config *c, snug_error *err) {
    if (!c->arch->sub_norms) return SNUG_OK;
    const char *name = gguf_get_str_or(r->g, key_of(r, "hidden_activation"), "silu");
    c->relu2 = !strcmp(name, "relu2");
    if (c->relu2 || !strcmp(name, "silu")) return SNUG_OK;
    return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: key '%s' is '%s', which is not supported; known: silu, relu2", r->g->file.path,
                   key_of(r, "hidden_activation"), name);
}

static snug_err read_rope(reader *r, config *c, snug_error *err) {
    snug_err rc = get_f64_or(r, "rope.freq_base", 10000, &c->rope_base, err);
    double factor = 0;
    if (!rc) rc = get_f64_or(r, "rope.scaling.factor", 0, &factor, err);
    if (!rc && factor == 0) rc = get_f64_or(r, "rope.scale_linear", 0, &factor, err); /* older files */
    if (rc) return rc;
    const char *type = gguf_get_str_or(r->g, key_of(r, "rope.scaling.type"), factor != 0 ? "linear" : "none");
    if (strcmp(type, "none") && strcmp(type, "linear"))
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: key '%s' is '%s', which is not supported; known: none, linear",
                       r->g->file.path, key_of(r, "rope.scaling.type"), type);
    if (!strcmp(type, "linear") && factor != 0 && factor != 1) {
        c->scaling = ROPE_LINEAR;
        c->scale_factor = factor;
    }
    return SNUG_OK;
}

snug_err config_from_gguf(const gguf_file *g, config *c, snug_error *err) {
    memset(c, 0, sizeof *c);
    const char *path = g->file.path, *name = gguf_get_str_or(g, "general.architecture", NULL);
    char known[256];
    if (!name) return err_set(err, SNUG_ERR_FORMAT, "%s: key 'general.architecture' is missing or no string", path);
    c->arch = arch_by_gguf_name(name, strlen(name) < 64 && has_experts(g, name));
    if (!c->arch)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: architecture '%s' is not supported; known: %s", path, name,
                       arch_known_gguf(known, sizeof known));
    reader r = {.g = g, .arch = c->arch->gguf_name};
    snug_err rc;
    double eps;
    uint64_t from;
    if ((rc = refuse_options(&r, err)) || (rc = get_u32(&r, "block_count", true, 0, &c->n_layers, err)) ||
        (rc = get_u32(&r, "embedding_length", true, 0, &c->n_embd, err)) ||
        (rc = get_u32(&r, "feed_forward_length", true, 0, &c->n_ff, err)) ||
        (rc = get_u32(&r, "attention.head_count", true, 0, &c->n_heads, err)) ||
        (rc = get_u32(&r, "attention.head_count_kv", false, c->n_heads, &c->n_kv_heads, err)) ||
        (rc = get_u32(&r, "attention.key_length", false, c->n_heads ? c->n_embd / c->n_heads : 0, &c->head_dim, err)) ||
        (rc = get_u32(&r, "context_length", true, 0, &c->n_ctx_train, err)) ||
        (rc = get_u32(&r, "rope.dimension_count", false, c->head_dim, &c->rope_dims, err)) ||
        (rc = get_u32(&r, "attention.sliding_window", false, 0, &c->sliding_window, err)) ||
        (rc = gguf_get_u64_or(g, "snug.sliding_from_layer", 0, &from, err)) ||
        (rc = get_f64_or(&r, "attention.layer_norm_rms_epsilon", 1e-5, &eps, err)) || (rc = read_experts(&r, c, err)) || (rc = read_activation(&r, c, err)) || (rc = read_rope(&r, c, err)) ||
        (rc = read_vocab(&r, c, err)))
        return rc;
    uint32_t v_length = 0;
    if ((rc = get_u32(&r, "attention.value_length", false, c->head_dim, &v_length, err))) return rc;
    if (v_length != c->head_dim)
        return err_set(err, SNUG_ERR_UNSUPPORTED,
                       "%s: attention.value_length %u differs from key_length %u, which is not supported", path,
                       v_length, c->head_dim);
    c->sliding_from_layer = (uint32_t)(from > UINT32_MAX ? UINT32_MAX : from);
    c->norm_eps = (float)eps;
    c->rope_interleaved = c->arch->gguf_permutes_qk;
    c->tied = !gguf_find_tensor(g, "output.weight");
    snprintf(c->name, sizeof c->name, "%s", gguf_get_str_or(g, "general.name", ""));
    return config_check(c, path, err);
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
        {"attention.value_length", c->head_dim},
    };
    char key[128];
    bool ok = gguf_put_str(out, "general.architecture", prefix, strlen(prefix)) &&
              gguf_put_str(out, "general.type", "model", strlen("model")) &&
              gguf_put_str(out, "general.name", c->name, strlen(c->name));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        snprintf(key, sizeof key, "%s.%s", prefix, numbers[i].suffix);
        ok = ok && gguf_put_u32(out, key, numbers[i].value);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", prefix);
    ok = ok && gguf_put_f32(out, key, c->norm_eps);
    snprintf(key, sizeof key, "%s.rope.freq_base", prefix);
    ok = ok && gguf_put_f32(out, key, (float)c->rope_base);
    if (c->scaling == ROPE_LINEAR) {
        snprintf(key, sizeof key, "%s.rope.scaling.type", prefix);
        ok = ok && gguf_put_str(out, key, "linear", strlen("linear"));
        snprintf(key, sizeof key, "%s.rope.scaling.factor", prefix);
        ok = ok && gguf_put_f32(out, key, (float)c->scale_factor);
    }
    if (c->n_experts) {
        snprintf(key, sizeof key, "%s.expert_count", prefix);
        ok = ok && gguf_put_u32(out, key, c->n_experts);
        snprintf(key, sizeof key, "%s.expert_used_count", prefix);
        ok = ok && gguf_put_u32(out, key, c->n_experts_used);
        snprintf(key, sizeof key, "%s.expert_feed_forward_length", prefix);
        ok = ok && (!c->arch->experts->gguf_width || gguf_put_u32(out, key, c->n_ff));
        snprintf(key, sizeof key, "%s.expert_weights_norm", prefix);
        ok = ok && (c->norm_topk == c->arch->experts->gguf_norm_topk || gguf_put_bool(out, key, c->norm_topk));
    }
    if (c->relu2) {
        snprintf(key, sizeof key, "%s.hidden_activation", prefix);
        ok = ok && gguf_put_str(out, key, "relu2", strlen("relu2"));
    }
    if (c->sliding_window) {
        snprintf(key, sizeof key, "%s.attention.sliding_window", prefix);
        ok = ok && gguf_put_u32(out, key, c->sliding_window);
    }
    if (c->sliding_window && c->sliding_from_layer)
        ok = ok && gguf_put_u32(out, "snug.sliding_from_layer", c->sliding_from_layer);
    return ok ? SNUG_OK : err_nomem(err, out->bytes.len);
}
