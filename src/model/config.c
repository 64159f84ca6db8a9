/* What follows from a configuration alone: shapes, windows, and the check that the numbers make sense. */
#include "base/checked.h"
#include "base/err.h"
#include "model/arch.h"


/* Bounds on what a file may say. They are far above any model and keep every product of two below 2^62. */
enum { MAX_WIDTH = 1 << 24, MAX_HEADS = 1 << 16, MAX_HEAD_DIM = 1 << 14, MAX_ALL_EXPERTS = 1 << 18 };

static snug_err check_experts(const config *c, const char *where, snug_error *err) {
    bool dense = false;
    if (!c->arch->experts || (c->arch->experts->optional && c->n_experts == 0)) return SNUG_OK;
    if (c->n_experts == 0 || c->n_experts > CONFIG_MAX_EXPERTS)
        return err_set(err, SNUG_ERR_FORMAT, "%s: number of experts is %u, expected 1 to %d", where, c->n_experts, CONFIG_MAX_EXPERTS);
    for (uint32_t l = 0; l < c->n_layers; l++) dense |= c->layer[l] & LAYER_DENSE;
    if (c->n_ff_shared > MAX_WIDTH || (dense && (c->n_ff_dense == 0 || c->n_ff_dense > MAX_WIDTH)))
        return err_set(err, SNUG_ERR_FORMAT, "%s: feed-forwards of %u columns for all tokens, %u in layers without experts, expected up to %d, and 1 at least in the latter", where,
                       c->n_ff_shared, c->n_ff_dense, MAX_WIDTH);
    if (c->n_experts_used == 0 || c->n_experts_used > c->n_experts)
        return err_set(err, SNUG_ERR_FORMAT, "%s: number of experts per token is %u, expected 1 to %u, the number of experts", where, c->n_experts_used,
                       c->n_experts);
    if (c->n_experts * (uint64_t)c->n_layers > MAX_ALL_EXPERTS)
        return err_set(err, SNUG_ERR_FORMAT, "%s: %u layers of %u experts are %llu experts, expected at most %d", where, c->n_layers, c->n_experts,
                       (unsigned long long)c->n_layers * c->n_experts, MAX_ALL_EXPERTS);
    return SNUG_OK;
}

static snug_err check_groups(const config *c, const char *where, snug_error *err) {
    const uint32_t n = c->n_groups, each = n ? c->n_experts / n : 0;
    if (c->share_scale != 0 && !(c->share_scale > 1e-9f && c->share_scale < 1e9f))
        return err_set(err, SNUG_ERR_FORMAT, "%s: experts' scale (routed_scaling_factor, expert_weights_scale) is %g, expected a positive number", where, (double)c->share_scale);
    if (n == 0) return SNUG_OK;
    if (c->n_experts % n || each < (c->sigmoid ? 2 : 1) || c->n_groups_used == 0 || c->n_groups_used > n || (uint64_t)each * c->n_groups_used < c->n_experts_used)
        return err_set(err, SNUG_ERR_FORMAT, "%s: %u experts a token cannot come from %u of %u groups (n_group, topk_group, expert_group_count, expert_group_used_count) of %u experts", where,
                       c->n_experts_used, c->n_groups_used, n, c->n_experts);
    return SNUG_OK;
}

/* Latent attention: sizes of latents, and of values, which may be others than those of keys. */
static snug_err check_latent(const config *c, const char *where, snug_error *err) {
    const uint32_t v = config_value_dim(c);
    if (c->arch->latent != (c->kv_rank > 0) || c->kv_rank > MAX_WIDTH || c->q_rank > MAX_WIDTH)
        return err_set(err, SNUG_ERR_FORMAT, "%s: ranks of queries and of keys with values (q_lora_rank, kv_lora_rank) are %u and %u, expected at most %d, and the latter at least 1", where,
                       c->q_rank, c->kv_rank, MAX_WIDTH);
    if (v % 2 || v > MAX_HEAD_DIM || (uint64_t)c->n_heads * v > MAX_WIDTH)
        return err_set(err, SNUG_ERR_FORMAT, "%s: size of a head's values (v_head_dim, value_length) is %u, expected an even number up to %d, and at most %d columns in all", where, v, MAX_HEAD_DIM, MAX_WIDTH);
    if (!c->kv_rank) return SNUG_OK;
    if (c->rope_dims >= c->head_dim)
        return err_set(err, SNUG_ERR_FORMAT, "%s: RoPE turns %u of a head's %u dimensions (qk_rope_head_dim, rope.dimension_count), expected fewer", where, c->rope_dims, c->head_dim);
    if (c->n_kv_heads != c->n_heads)
        return err_set(err, SNUG_ERR_FORMAT, "%s: %u heads for keys (num_key_value_heads, head_count_kv), expected %u, as many as for queries", where, c->n_kv_heads, c->n_heads);
    if (!(c->latent_eps >= 0 && c->latent_eps < 1)) return err_set(err, SNUG_ERR_FORMAT, "%s: epsilon of latents' norms is %g, expected 0 to 1", where, (double)c->latent_eps);
    return SNUG_OK;
}

static snug_err check_scales(const config *c, const char *where, snug_error *err) {
    const struct { const char *name; float value; bool zero; } fields[] = {
        {"embedding's scale", c->embd_scale, false}, {"residual scale", c->residual_scale, false},        {"logits' scale", c->logit_scale, false},
        {"scores' scale", c->attn_scale, true},      {"soft cap of scores", c->attn_softcap, true}, {"soft cap of logits", c->logit_softcap, true},
        {"limit of gates", c->swiglu_limit, true},   {"gates' factor", c->swiglu_alpha, true},   {"growth of scores (llama_4_scaling_beta, attention.temperature_scale)", c->attn_growth, true},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (!((fields[i].value > 1e-9f && fields[i].value < 1e9f) || (fields[i].zero && fields[i].value == 0)))
            return err_set(err, SNUG_ERR_FORMAT, "%s: %s is %g, expected a positive number", where, fields[i].name, (double)fields[i].value);
    if (c->attn_growth != 0 && c->scale_orig_ctx == 0) return err_set(err, SNUG_ERR_FORMAT, "%s: scores grow beyond an original context (original_max_position_embeddings), which is 0", where);
    return SNUG_OK;
}

static snug_err check_ssm(const config *c, const char *where, snug_error *err) {
    const config_ssm *s = &c->ssm;
    const struct { const char *name; uint64_t value, max; } fields[] = {
        {"the convolution's tokens (conv_kernel, mamba_d_conv, ssm.conv_kernel)", s->conv, 256}, {"channels of the state space (ssm.inner_size)", s->inner, MAX_WIDTH},
        {"state size (state_size, mamba_d_state, ssm.state_size)", s->state, MAX_HEAD_DIM}, {"heads of the state space (num_heads, mamba_n_heads, ssm.time_step_rank)", s->heads, MAX_HEADS},
        {"groups of the state space (n_groups, mamba_n_groups, ssm.group_count)", s->groups, MAX_HEADS},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i].value == 0 || fields[i].value > fields[i].max)
            return err_set(err, SNUG_ERR_FORMAT, "%s: %s is %llu, expected 1 to %llu", where, fields[i].name, (unsigned long long)fields[i].value, (unsigned long long)fields[i].max);
    if (s->inner % s->heads || s->heads % s->groups)
        return err_set(err, SNUG_ERR_FORMAT, "%s: a state space of %u channels, %u heads and %u groups: expected each to be a multiple of the next", where, s->inner, s->heads, s->groups);
    if (ssm_channels(s) > MAX_WIDTH) return err_set(err, SNUG_ERR_FORMAT, "%s: %llu channels of a convolution are more than %d", where, (unsigned long long)ssm_channels(s), MAX_WIDTH);
    for (int l = 0; l < (int)c->n_layers && c->arch->no_attention; l++)
        if (!layer_is_ssm(c, l)) return err_set(err, SNUG_ERR_FORMAT, "%s: layer %d is no state space, as all layers of architecture '%s' are", where, l, c->arch->gguf_name);
    if (!(s->dt_min >= 0 && s->dt_min <= s->dt_max))
        return err_set(err, SNUG_ERR_FORMAT, "%s: steps of time within %g and %g (time_step_limit), expected two numbers, rising, from 0 on", where, (double)s->dt_min, (double)s->dt_max);
    return SNUG_OK;
}

snug_err config_check(const config *c, const char *where, snug_error *err) {
    snug_err rc;
    const bool attends = !c->arch->no_attention;
    const struct { const char *name; uint64_t value, max; bool attention; } fields[] = { /* as config.json and GGUF's keys spell it */
        {"number of layers (num_hidden_layers, block_count)", c->n_layers, CONFIG_MAX_LAYERS, false},
        {"hidden size (hidden_size, embedding_length)", c->n_embd, MAX_WIDTH, false},
        {"feed-forward size (intermediate_size, feed_forward_length)", c->n_ff, MAX_WIDTH, true},
        {"number of attention heads (num_attention_heads, head_count)", c->n_heads, MAX_HEADS, true},
        {"number of key/value heads (num_key_value_heads, head_count_kv)", c->n_kv_heads, MAX_HEADS, true},
        {"head size (head_dim, key_length)", c->head_dim, MAX_HEAD_DIM, true},
        {"vocabulary size (vocab_size)", c->n_vocab, 1u << 30, false},
        {"training context (max_position_embeddings, context_length)", c->n_ctx_train, 1u << 30, false},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if ((fields[i].value == 0 && (attends || !fields[i].attention)) || fields[i].value > fields[i].max)
            return err_set(err, SNUG_ERR_FORMAT, "%s: %s is %llu, expected 1 to %llu", where, fields[i].name,
                           (unsigned long long)fields[i].value, (unsigned long long)fields[i].max);
    if (attends && c->n_heads % c->n_kv_heads)
        return err_set(err, SNUG_ERR_FORMAT, "%s: %u attention heads (num_attention_heads, head_count) are no multiple of %u key/value heads (num_key_value_heads, head_count_kv)", where,
                       c->n_heads, c->n_kv_heads);
    if ((uint64_t)c->n_heads * c->head_dim > MAX_WIDTH)
        return err_set(err, SNUG_ERR_FORMAT, "%s: %u heads of %u are more than %d columns", where, c->n_heads,
                       c->head_dim, MAX_WIDTH);
    if (c->head_dim % 2) return err_set(err, SNUG_ERR_FORMAT, "%s: head size (head_dim, key_length) %u is odd", where, c->head_dim);
    for (int l = 0; l < (int)c->n_layers && !c->arch->ssm; l++)
        if (layer_is_ssm(c, l)) return err_set(err, SNUG_ERR_FORMAT, "%s: layer %d is a state space, which architecture '%s' does not have", where, l, c->arch->gguf_name);
    if ((rc = check_scales(c, where, err)) || (attends && (rc = rope_check(c, where, err))) || (c->arch->ssm && (rc = check_ssm(c, where, err)))) return rc;
    if (!(c->norm_eps >= 0 && c->norm_eps < 1))
        return err_set(err, SNUG_ERR_FORMAT, "%s: norm epsilon (rms_norm_eps, layer_norm_rms_epsilon) is %g, expected 0 to 1", where, (double)c->norm_eps);
    if ((rc = check_latent(c, where, err)) || (rc = check_experts(c, where, err))) return rc;
    return check_groups(c, where, err);
}

uint32_t layer_experts(const config *c, int layer) {
    return layer >= 0 && layer < (int)c->n_layers && c->layer[layer] & LAYER_DENSE ? 0 : c->n_experts;
}

uint32_t layer_width(const config *c, int layer, int expert) {
    if (!c->n_experts) return c->n_ff;
    return !layer_experts(c, layer) ? c->n_ff_dense : expert == EXPERT_NONE ? c->n_ff_shared : c->n_ff;
}

uint32_t config_widest(const config *c) {
    uint32_t widest = c->n_ff;
    for (int l = 0; l < (int)c->n_layers; l++) widest = (uint32_t)max_u64(widest, layer_width(c, l, EXPERT_NONE));
    return widest;
}

void role_shape(const config *c, tensor_role r, int layer, int expert, uint64_t *rows, uint64_t *cols) {
    const uint64_t ff = layer_width(c, layer, expert);
    const uint64_t q = (uint64_t)c->n_heads * c->head_dim, kv = (uint64_t)c->n_kv_heads * c->head_dim, out = (uint64_t)c->n_heads * config_value_dim(c);
    const config_ssm *s = &c->ssm;
    uint64_t n_rows = 1, n_cols = 0;
    switch (r) {
    case ROLE_EMBD: case ROLE_HEAD: n_rows = c->n_vocab, n_cols = c->n_embd; break;
    case ROLE_Q: n_rows = q, n_cols = c->n_embd; break;
    case ROLE_K: case ROLE_V: n_rows = kv, n_cols = c->n_embd; break;
    case ROLE_O: n_rows = c->n_embd, n_cols = out; break;
    case ROLE_Q_A: n_rows = c->q_rank, n_cols = c->n_embd; break;
    case ROLE_Q_B: n_rows = q, n_cols = c->q_rank; break;
    case ROLE_KV_A: n_rows = (uint64_t)c->kv_rank + c->rope_dims, n_cols = c->n_embd; break;
    case ROLE_KV_B: n_rows = q - (uint64_t)c->n_heads * c->rope_dims + out, n_cols = c->kv_rank; break;
    case ROLE_Q_A_NORM: n_cols = c->q_rank; break;
    case ROLE_KV_A_NORM: n_cols = c->kv_rank; break;
    case ROLE_CHOICE_BIAS: n_cols = c->n_experts; break;
    case ROLE_GATE: case ROLE_UP: n_rows = ff, n_cols = c->n_embd; break;
    case ROLE_DOWN: n_rows = c->n_embd, n_cols = ff; break;
    case ROLE_ATTN_NORM: case ROLE_FFN_NORM: case ROLE_OUT_NORM: case ROLE_ATTN_NORM_BIAS: case ROLE_FFN_NORM_BIAS: case ROLE_OUT_NORM_BIAS:
    case ROLE_ATTN_POST_NORM: case ROLE_FFN_POST_NORM: case ROLE_O_BIAS: case ROLE_DOWN_BIAS: case ROLE_SHARED_GATE: n_cols = c->n_embd; break;
    case ROLE_GATE_BIAS: case ROLE_UP_BIAS: n_cols = ff; break;
    case ROLE_Q_NORM: n_cols = c->arch->qk_norm_whole ? q : c->head_dim; break;
    case ROLE_K_NORM: n_cols = c->arch->qk_norm_whole ? kv : c->head_dim; break;
    case ROLE_ATTN_SUB_NORM: n_cols = out; break;
    case ROLE_FFN_SUB_NORM: n_cols = ff; break;
    case ROLE_SINKS: n_cols = c->n_heads; break;
    case ROLE_ROUTER_BIAS: n_cols = c->n_experts; break;
    case ROLE_GATE_EXPS_BIAS: case ROLE_UP_EXPS_BIAS: n_rows = c->n_experts, n_cols = c->n_ff; break;
    case ROLE_DOWN_EXPS_BIAS: n_rows = c->n_experts, n_cols = c->n_embd; break;
    case ROLE_POSITIONS: n_rows = c->n_ctx_train, n_cols = c->n_embd; break;
    case ROLE_ROUTER: n_rows = c->n_experts, n_cols = c->n_embd; break;
    case ROLE_Q_BIAS: n_cols = q; break;
    case ROLE_K_BIAS: case ROLE_V_BIAS: n_cols = kv; break;
    case ROLE_ROPE_FREQS: n_cols = c->rope_dims / 2; break;
    case ROLE_SSM_IN: n_rows = ssm_rows(s), n_cols = c->n_embd; break;
    case ROLE_SSM_OUT: n_rows = c->n_embd, n_cols = s->inner; break;
    case ROLE_SSM_CONV: n_rows = ssm_channels(s), n_cols = s->conv; break;
    case ROLE_SSM_CONV_BIAS: n_cols = ssm_channels(s); break;
    case ROLE_SSM_DT_BIAS: n_cols = s->heads; break;
    case ROLE_SSM_A: case ROLE_SSM_D: n_rows = s->heads, n_cols = 1; break;
    case ROLE_SSM_NORM: n_rows = s->groups, n_cols = s->groups ? s->inner / s->groups : 0; break;
    case ROLE_NONE: n_rows = 0; break;
    }
    *rows = n_rows;
    *cols = n_cols;
}

bool config_gguf_interleaved(const config *c) { return c->arch->gguf_permutes_qk || c->arch->latent; }

uint32_t config_value_dim(const config *c) { return c->value_dim ? c->value_dim : c->head_dim; }
bool layer_is_ssm(const config *c, int layer) { return layer >= 0 && layer < (int)c->n_layers && c->layer[layer] & LAYER_SSM; }

uint32_t layer_window(const config *c, uint32_t layer) {
    return c->layer[layer] & LAYER_WINDOW ? c->sliding_window : 0;
}
