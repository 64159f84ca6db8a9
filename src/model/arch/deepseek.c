/* DeepSeek V2 and V3: latent attention (graph_latent.c), layers without experts first, experts from groups with a shared one beside them. YaRN also
 * multiplies the scores: by the square of what `mscale_all_dim` makes of its factor. V3's layer that predicts a further token is passed over.
 *
 * Experts' groups: V2 takes those with the largest score, V3 those with the largest sum of two; V3's scores are sigmoids, each token's choice is made
 * with a bias that the shares do not see. Sources: transformers' modeling_deepseek_{v2,v3}.py, which have norms of latents with an epsilon of 1e-6
 * whatever rms_norm_eps is; llama.cpp's deepseek2. */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "model/arch.h"

#define LATENT_EPS 1e-6f

static bool is_v3(const config *c) { return !strcmp(c->arch->hf_class, "DeepseekV3ForCausalLM"); }

/* ---- config.json ---- */

static snug_err expect_text(const hf_fields *f, const char *key, const char *expected, snug_error *err) {
    const char *text = hf_text_or(f, key, expected);
    if (!strcmp(text, expected)) return SNUG_OK;
    return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: field '%s' is '%s', which is not supported for this architecture, expected '%s'", f->where, key, text, expected);
}

static snug_err refuse_options(const hf_fields *f, snug_error *err) {
    uint32_t every = 1;
    bool interleave = true;
    snug_err rc = hf_refuse(f, "attention_bias", "biases of latent attention", err);
    if (!rc) rc = hf_refuse(f, "mlp_bias", "biases of feed-forwards", err);
    if (!rc) rc = hf_u32_or(f, "moe_layer_freq", 1, &every, err);
    if (!rc) rc = hf_bool_or(f, "rope_interleave", true, &interleave, err);
    if (!rc && every != 1) rc = err_set(err, SNUG_ERR_UNSUPPORTED, "%s: moe_layer_freq is %u, which is not supported, expected 1", f->where, every);
    if (!rc && !interleave) rc = err_set(err, SNUG_ERR_UNSUPPORTED, "%s: rope_interleave is false, which is not supported, expected true", f->where);
    return rc;
}

static snug_err heads_from_hf(const hf_fields *f, config *c, snug_error *err) {
    uint32_t nope = 0;
    snug_err rc = hf_u32_or(f, "q_lora_rank", 0, &c->q_rank, err);
    if (!rc) rc = hf_u32(f, "kv_lora_rank", &c->kv_rank, err);
    if (!rc) rc = hf_u32(f, "qk_nope_head_dim", &nope, err);
    if (!rc) rc = hf_u32(f, "qk_rope_head_dim", &c->rope_dims, err);
    if (!rc) rc = hf_u32(f, "v_head_dim", &c->value_dim, err);
    if (!rc && (nope == 0 || c->value_dim == 0 || (uint64_t)nope + c->rope_dims > UINT32_MAX))
        rc = err_set(err, SNUG_ERR_FORMAT, "%s: qk_nope_head_dim is %u and v_head_dim %u, expected sizes of heads", f->where, nope, c->value_dim);
    c->head_dim = nope + c->rope_dims;
    c->latent_eps = LATENT_EPS;
    c->rope_interleaved = true;
    return rc;
}

/* q . k times 1 / sqrt(head_dim), and times the square of m for a context that yarn has stretched. */
static float score_scale(const config *c, double m) { return m == 1 ? 0 : (float)(m * m / sqrt(c->head_dim)); }

static snug_err yarn_from_hf(const hf_fields *f, config *c, snug_error *err) {
    const json_t *o = hf_get(f, "rope_scaling");
    double all = 0;
    if (c->scaling == ROPE_NONE) return SNUG_OK;
    if (c->scaling != ROPE_YARN) return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: rope_scaling of this architecture is 'yarn' or none, others are not supported", f->where);
    snug_err rc = json_get_double_or(o ? o : hf_get(f, "rope_parameters"), f->where, "mscale_all_dim", 0, &all, err);
    if (rc || all == 0) return rc;
    const double m = rope_yarn_magnitude(c->scale_factor, all);
    if (!(m > 0)) return err_set(err, SNUG_ERR_FORMAT, "%s: field 'mscale_all_dim' is %g, expected a positive number", f->where, all);
    c->attn_scale = score_scale(c, m);
    return SNUG_OK;
}

static snug_err groups_from_hf(const hf_fields *f, config *c, snug_error *err) {
    snug_err rc = hf_u32_or(f, "n_group", 0, &c->n_groups, err);
    if (!rc) rc = hf_u32_or(f, "topk_group", 0, &c->n_groups_used, err);
    if (c->n_groups == 1 || c->n_groups == c->n_groups_used) c->n_groups = c->n_groups_used = 0; /* all */
    return rc;
}

/* The first layers have one feed-forward; the others' shared experts are one, of so many experts' width. */
static snug_err set_layers(config *c, uint32_t n_dense, uint32_t n_shared, const char *where, snug_error *err) {
    const uint64_t shared = (uint64_t)n_shared * c->n_ff;
    if (shared > UINT32_MAX) return err_set(err, SNUG_ERR_FORMAT, "%s: %u shared experts (n_shared_experts, expert_shared_count) of %u columns are too many", where, n_shared, c->n_ff);
    c->n_ff_shared = (uint32_t)shared;
    for (uint32_t l = 0; l < n_dense && l < c->n_layers && l < CONFIG_MAX_LAYERS; l++) c->layer[l] |= LAYER_DENSE;
    return SNUG_OK;
}

static snug_err common_from_hf(const hf_fields *f, config *c, snug_error *err) {
    const bool partial = c->rope_dims != c->head_dim;
    float scale = 1;
    uint32_t n_dense = 0, n_shared = 0;
    if (partial) return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: field 'partial_rotary_factor' is set, which is not supported: qk_rope_head_dim says what turns", f->where);
    snug_err rc = refuse_options(f, err);
    if (!rc) rc = heads_from_hf(f, c, err);
    if (!rc) rc = yarn_from_hf(f, c, err);
    if (!rc) rc = hf_f32_or(f, "routed_scaling_factor", is_v3(c) ? 2.5 : 1, &scale, err);
    if (!rc && !(scale > 0)) rc = err_set(err, SNUG_ERR_FORMAT, "%s: field 'routed_scaling_factor' is %g, expected a positive number", f->where, (double)scale);
    c->share_scale = scale == 1 ? 0 : scale;
    if (!rc) rc = hf_u32_or(f, "first_k_dense_replace", is_v3(c) ? 3 : 0, &n_dense, err);
    if (!rc) rc = hf_u32_or(f, "n_shared_experts", is_v3(c) ? 1 : 2, &n_shared, err);
    return rc ? rc : set_layers(c, n_dense, n_shared, f->where, err);
}

static snug_err v2_from_hf(const hf_fields *f, config *c, snug_error *err) {
    const char *method = hf_text_or(f, "topk_method", "greedy");
    snug_err rc = common_from_hf(f, c, err);
    c->norm_topk = false;
    if (!rc) rc = expect_text(f, "scoring_func", "softmax", err);
    if (!rc) rc = hf_refuse(f, "norm_topk_prob", "shares of DeepSeek V2 that sum to 1", err);
    if (rc || !strcmp(method, "greedy")) return rc;
    return strcmp(method, "group_limited_greedy") ? expect_text(f, "topk_method", "greedy", err) : groups_from_hf(f, c, err);
}

static snug_err v3_from_hf(const hf_fields *f, config *c, snug_error *err) {
    snug_err rc = common_from_hf(f, c, err);
    c->sigmoid = c->choice_bias = true;
    if (!rc) rc = expect_text(f, "scoring_func", "sigmoid", err);
    if (!rc) rc = expect_text(f, "topk_method", "noaux_tc", err);
    if (!rc) rc = hf_bool_or(f, "norm_topk_prob", true, &c->norm_topk, err);
    if (!rc) rc = hf_u32_or(f, "num_nextn_predict_layers", 0, &c->n_further, err);
    return rc ? rc : groups_from_hf(f, c, err);
}

/* ---- GGUF ---- */

/* With one latent for keys and values (head_count_kv 1) the sizes of heads have keys of their own; in older files they have the usual ones. */
static snug_err heads_from_gguf(gguf_fields *f, config *c, snug_error *err) {
    double eps = 0;
    snug_err rc = gguf_u32(f, "attention.q_lora_rank", false, 0, &c->q_rank, err);
    if (!rc) rc = gguf_u32(f, "attention.kv_lora_rank", true, 0, &c->kv_rank, err);
    if (!rc) rc = gguf_u32(f, "attention.value_length", true, 0, &c->value_dim, err);
    if (!rc) rc = gguf_u32(f, "attention.key_length_mla", false, c->head_dim, &c->head_dim, err);
    if (!rc) rc = gguf_u32(f, "attention.value_length_mla", false, c->value_dim, &c->value_dim, err);
    if (!rc && gguf_find(f->g, gguf_key(f, "attention.key_length_mla"))) c->n_kv_heads = c->n_heads;
    if (!rc) rc = gguf_get_f64_or(f->g, "snug.latent_norm_epsilon", c->norm_eps, &eps, err);
    c->latent_eps = (float)eps;
    return rc;
}

/* llama.cpp's yarn: without the key all of attention is scaled as transformers scales what turns. */
static snug_err yarn_from_gguf(gguf_fields *f, config *c, snug_error *err) {
    float log_multiplier = 0;
    snug_err rc = gguf_f32_or(f, "rope.scaling.yarn_log_multiplier", 0, &log_multiplier, err);
    if (rc || c->scaling == ROPE_NONE) return rc;
    if (c->scaling != ROPE_YARN) return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: key '%s' of this architecture is 'yarn' or none, others are not supported", f->g->file.path, gguf_key(f, "rope.scaling.type"));
    double m = c->rope_magnitude;
    if (log_multiplier != 0) {
        c->rope_magnitude /= rope_yarn_magnitude(c->scale_factor, 1);
        m = c->rope_magnitude * rope_yarn_magnitude(c->scale_factor, 10 * (double)log_multiplier);
    }
    return gguf_f32_or(f, "attention.scale", score_scale(c, m), &c->attn_scale, err);
}

static snug_err from_gguf(gguf_fields *f, config *c, snug_error *err) {
    float temperature = 0;
    char name[64];
    uint32_t n_dense = 0, n_shared = 0;
    snug_err rc = gguf_u32(f, "nextn_predict_layers", false, 0, &c->n_further, err);
    if (!rc) rc = gguf_f32_or(f, "attention.temperature_scale", 0, &temperature, err);
    if (!rc && temperature != 0) rc = err_set(err, SNUG_ERR_UNSUPPORTED, "%s: key '%s' is %g, which is not supported", f->g->file.path, gguf_key(f, "attention.temperature_scale"), (double)temperature);
    if (!rc) rc = heads_from_gguf(f, c, err);
    if (!rc) rc = yarn_from_gguf(f, c, err);
    if (!rc) rc = gguf_u32(f, "leading_dense_block_count", false, 0, &n_dense, err);
    if (!rc) rc = gguf_u32(f, "expert_shared_count", false, 0, &n_shared, err);
    c->n_layers -= c->n_further < c->n_layers ? c->n_further : 0;
    role_tensor_name(ROLE_CHOICE_BIAS, (int)c->n_layers - 1, EXPERT_NONE, name);
    c->choice_bias = gguf_find_tensor(f->g, name);
    return rc ? rc : set_layers(c, n_dense, n_shared, f->g->file.path, err);
}

static bool yarn_to_gguf(const config *c, gguf_kvs *out) {
    const double m = sqrt((double)c->attn_scale * sqrt(c->head_dim)), log_multiplier = c->attn_scale == 0 ? 0 : (m - 1) / log(c->scale_factor); /* back from score_scale */
    return c->scaling != ROPE_YARN || (arch_put_f32(c, out, "rope.scaling.yarn_log_multiplier", log_multiplier) && arch_put_f32(c, out, "attention.scale", c->attn_scale));
}

static bool to_gguf(const config *c, gguf_kvs *out) {
    uint32_t n_dense = 0;
    while (n_dense < c->n_layers && c->layer[n_dense] & LAYER_DENSE) n_dense++;
    bool ok = (!c->q_rank || arch_put_u32(c, out, "attention.q_lora_rank", c->q_rank)) && arch_put_u32(c, out, "attention.kv_lora_rank", c->kv_rank) &&
              (c->latent_eps == c->norm_eps || gguf_put_f32(out, "snug.latent_norm_epsilon", c->latent_eps)) && yarn_to_gguf(c, out);
    ok = ok && arch_put_u32(c, out, "leading_dense_block_count", n_dense) && arch_put_u32(c, out, "expert_shared_count", c->n_ff_shared / c->n_ff);
    ok = ok && arch_put_u32(c, out, "expert_gating_func", c->sigmoid ? 2 : 1) && arch_put_f32(c, out, "expert_weights_scale", c->share_scale == 0 ? 1 : c->share_scale);
    return ok && (!c->n_groups || (arch_put_u32(c, out, "expert_group_count", c->n_groups) && arch_put_u32(c, out, "expert_group_used_count", c->n_groups_used)));
}

static snug_err for_others(const config *c, const char *where, snug_error *err) {
    const bool lite = c->n_layers == 26 || c->n_layers == 27 || (c->n_layers == 48 && c->n_vocab == 128256);
    const char *what = lite != !c->q_rank                               ? "q_lora_rank, which they take from the number of layers,"
                       : c->n_groups && !c->sigmoid                     ? "how V2 picks groups of experts"
                       : c->latent_eps != c->norm_eps                   ? "rms_norm_eps other than 1e-6, which latents have,"
                       : c->scaling == ROPE_YARN && (c->attn_scale == 0 || c->rope_magnitude != 1) ? "mscale other than mscale_all_dim"
                                                                        : NULL;
    if (!what) return SNUG_OK;
    return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: %s is not what other readers of a GGUF of architecture '%s' expect; without --for gguf it can be had", where, what, c->arch->gguf_name);
}

static const char *const spelling[][2] = {{"num_local_experts", "n_routed_experts"}, {NULL, NULL}};
static const arch_experts experts = {.hf_width = "moe_intermediate_size", .gguf_width = true};

const arch arch_deepseek[] = {
    {.gguf_name = "deepseek2", .hf_class = "DeepseekV2ForCausalLM", .latent = true, .expert_scores = true, .head_dim = 192, .spelling = spelling, .experts = &experts, .from_hf = v2_from_hf, .from_gguf = from_gguf,
     .to_gguf = to_gguf, .for_others = for_others},
    {.gguf_name = "deepseek2", .hf_class = "DeepseekV3ForCausalLM", .latent = true, .expert_scores = true, .head_dim = 192, .spelling = spelling, .experts = &experts, .from_hf = v3_from_hf, .from_gguf = from_gguf,
     .to_gguf = to_gguf, .for_others = for_others},
    {0},
};
