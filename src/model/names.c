/* Names of tensors in both worlds, and what they stand for. Sources: transformers' modeling_*.py; llama.cpp's gguf-py/gguf/constants.py and
 * tensor_mapping.py. */
#include "model/arch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Per role: what users read; the stem in GGUF ("blk.N." before those of a layer) and in HF ("model.layers.N."). */
static const struct role_row {
    const char *name, *gguf, *hf;
    bool in_layer;
} roles_table[ROLE_COUNT] = {
    [ROLE_EMBD] = {"embd", "token_embd.weight", "model.embed_tokens.weight", false},
    [ROLE_HEAD] = {"head", "output.weight", "lm_head.weight", false},
    [ROLE_OUT_NORM] = {"norm", "output_norm.weight", "model.norm.weight", false},
    [ROLE_ROPE_FREQS] = {"rope", "rope_freqs.weight", NULL, false},
    [ROLE_ATTN_NORM] = {"norm", "attn_norm.weight", "input_layernorm.weight", true},
    [ROLE_Q] = {"q", "attn_q.weight", "self_attn.q_proj.weight", true},
    [ROLE_K] = {"k", "attn_k.weight", "self_attn.k_proj.weight", true},
    [ROLE_V] = {"v", "attn_v.weight", "self_attn.v_proj.weight", true},
    [ROLE_O] = {"o", "attn_output.weight", "self_attn.o_proj.weight", true},
    [ROLE_Q_A] = {"q_a", "attn_q_a.weight", "self_attn.q_a_proj.weight", true},
    [ROLE_Q_B] = {"q_b", "attn_q_b.weight", "self_attn.q_b_proj.weight", true},
    [ROLE_KV_A] = {"kv_a", "attn_kv_a_mqa.weight", "self_attn.kv_a_proj_with_mqa.weight", true},
    [ROLE_KV_B] = {"kv_b", "attn_kv_b.weight", "self_attn.kv_b_proj.weight", true},
    [ROLE_Q_A_NORM] = {"norm", "attn_q_a_norm.weight", "self_attn.q_a_layernorm.weight", true},
    [ROLE_KV_A_NORM] = {"norm", "attn_kv_a_norm.weight", "self_attn.kv_a_layernorm.weight", true},
    [ROLE_CHOICE_BIAS] = {"bias", "exp_probs_b.bias", "mlp.gate.e_score_correction_bias", true},
    [ROLE_Q_BIAS] = {"bias", "attn_q.bias", "self_attn.q_proj.bias", true},
    [ROLE_K_BIAS] = {"bias", "attn_k.bias", "self_attn.k_proj.bias", true},
    [ROLE_V_BIAS] = {"bias", "attn_v.bias", "self_attn.v_proj.bias", true},
    [ROLE_O_BIAS] = {"bias", "attn_output.bias", "self_attn.o_proj.bias", true},
    [ROLE_Q_NORM] = {"norm", "attn_q_norm.weight", "self_attn.q_norm.weight", true},
    [ROLE_K_NORM] = {"norm", "attn_k_norm.weight", "self_attn.k_norm.weight", true},
    [ROLE_ATTN_SUB_NORM] = {"norm", "attn_sub_norm.weight", "self_attn.attn_sub_norm.weight", true},
    [ROLE_FFN_SUB_NORM] = {"norm", "ffn_sub_norm.weight", "mlp.ffn_sub_norm.weight", true},
    [ROLE_ATTN_POST_NORM] = {"norm", "post_attention_norm.weight", NULL, true},
    [ROLE_FFN_POST_NORM] = {"norm", "post_ffw_norm.weight", NULL, true},
    [ROLE_ATTN_NORM_BIAS] = {"bias", "attn_norm.bias", "input_layernorm.bias", true},
    [ROLE_FFN_NORM_BIAS] = {"bias", "ffn_norm.bias", "post_attention_layernorm.bias", true},
    [ROLE_OUT_NORM_BIAS] = {"bias", "output_norm.bias", "model.norm.bias", false},
    [ROLE_GATE_BIAS] = {"bias", "ffn_gate.bias", "mlp.gate_proj.bias", true},
    [ROLE_UP_BIAS] = {"bias", "ffn_up.bias", "mlp.up_proj.bias", true},
    [ROLE_DOWN_BIAS] = {"bias", "ffn_down.bias", "mlp.down_proj.bias", true},
    [ROLE_POSITIONS] = {"positions", "position_embd.weight", NULL, false},
    [ROLE_SINKS] = {"sinks", "attn_sinks.weight", "self_attn.sinks", true},
    [ROLE_ROUTER_BIAS] = {"bias", "ffn_gate_inp.bias", "mlp.gate.bias", true},
    [ROLE_GATE_EXPS_BIAS] = {"bias", "ffn_gate_exps.bias", NULL, true},
    [ROLE_UP_EXPS_BIAS] = {"bias", "ffn_up_exps.bias", NULL, true},
    [ROLE_DOWN_EXPS_BIAS] = {"bias", "ffn_down_exps.bias", "mlp.experts.down_proj_bias", true},
    [ROLE_FFN_NORM] = {"norm", "ffn_norm.weight", "post_attention_layernorm.weight", true},
    [ROLE_SHARED_GATE] = {"router", "ffn_gate_inp_shexp.weight", "mlp.shared_expert_gate.weight", true},
    [ROLE_SSM_IN] = {"ssm_in", "ssm_in.weight", NULL, true},
    [ROLE_SSM_OUT] = {"ssm_out", "ssm_out.weight", NULL, true},
    [ROLE_SSM_CONV] = {"conv", "ssm_conv1d.weight", NULL, true},
    [ROLE_SSM_CONV_BIAS] = {"bias", "ssm_conv1d.bias", NULL, true},
    [ROLE_SSM_DT_BIAS] = {"bias", "ssm_dt.bias", NULL, true},
    [ROLE_SSM_A] = {"decay", "ssm_a", NULL, true},
    [ROLE_SSM_D] = {"skip", "ssm_d", NULL, true},
    [ROLE_SSM_NORM] = {"norm", "ssm_norm.weight", NULL, true},
    [ROLE_ROUTER] = {"router", "ffn_gate_inp.weight", "mlp.gate.weight", true},
    [ROLE_GATE] = {"gate", "ffn_gate.weight", "mlp.gate_proj.weight", true},
    [ROLE_UP] = {"up", "ffn_up.weight", "mlp.up_proj.weight", true},
    [ROLE_DOWN] = {"down", "ffn_down.weight", "mlp.down_proj.weight", true},
};

/* Matrices of experts: in GGUF "blk.N.<gguf>.E.weight" one by one, "blk.N.<gguf>_exps.weight" stacked, "blk.N.<gguf>_shexp.weight" the shared one's;
 * in HF "model.layers.N.mlp.experts.E.<hf>.weight", "mlp.shared_expert.<hf>.weight" (DeepSeek: shared_experts), or Mixtral's "block_sparse_moe.experts.E.<mixtral>.weight". The last row is in
 * stacks only: gates on ups, fused ("mlp.experts.gate_up_proj"). */
static const struct expert_row {
    tensor_role role;
    const char *gguf, *hf, *mixtral;
} expert_rows[] = {
    {ROLE_GATE, "ffn_gate", "gate_proj", "w1"},
    {ROLE_UP, "ffn_up", "up_proj", "w3"},
    {ROLE_DOWN, "ffn_down", "down_proj", "w2"},
    {ROLE_GATE, "ffn_gate_up", "gate_up_proj", NULL},
};
enum { N_EXPERT_ROWS = sizeof expert_rows / sizeof *expert_rows, GATE_UP = N_EXPERT_ROWS - 1 };

const char *role_name(tensor_role r) { return (unsigned)r < ROLE_COUNT ? roles_table[r].name : "none"; }
bool role_in_layer(tensor_role r) { return (unsigned)r < ROLE_COUNT && roles_table[r].in_layer; }
bool role_in_expert(const config *c, tensor_role r, int layer) { return layer_experts(c, layer) && (r == ROLE_GATE || r == ROLE_UP || r == ROLE_DOWN); }

static tensor_role bias_of(tensor_role r) {
    switch (r) {
    case ROLE_Q: return ROLE_Q_BIAS;
    case ROLE_K: return ROLE_K_BIAS;
    case ROLE_V: return ROLE_V_BIAS;
    case ROLE_O: return ROLE_O_BIAS;
    case ROLE_GATE: return ROLE_GATE_BIAS;
    case ROLE_UP: return ROLE_UP_BIAS;
    case ROLE_DOWN: return ROLE_DOWN_BIAS;
    case ROLE_SSM_CONV: return ROLE_SSM_CONV_BIAS;
    case ROLE_ATTN_NORM: return ROLE_ATTN_NORM_BIAS;
    case ROLE_FFN_NORM: return ROLE_FFN_NORM_BIAS;
    case ROLE_OUT_NORM: return ROLE_OUT_NORM_BIAS;
    case ROLE_ROUTER: return ROLE_ROUTER_BIAS;
    default: return ROLE_NONE;
    }
}

bool role_required(const config *c, tensor_role r, int layer) {
    const arch *a = c->arch;
    switch (r) {
    case ROLE_HEAD: return !c->tied;
    case ROLE_Q_BIAS: case ROLE_K_BIAS: case ROLE_V_BIAS: return a->qkv_bias;
    case ROLE_O_BIAS: return a->expert_biases;
    case ROLE_GATE_BIAS: case ROLE_UP_BIAS: case ROLE_DOWN_BIAS: case ROLE_ROPE_FREQS: return false;
    case ROLE_NONE: return false;
    default: return role_allowed(c, r, layer);
    }
}

/* Parts of a layer: what a state space stands in place of, that itself, and the feed-forward. */
static bool of_attention(tensor_role r) {
    switch (r) {
    case ROLE_Q: case ROLE_K: case ROLE_V: case ROLE_O: case ROLE_Q_BIAS: case ROLE_K_BIAS: case ROLE_V_BIAS: case ROLE_O_BIAS: case ROLE_Q_NORM: case ROLE_K_NORM:
    case ROLE_ATTN_SUB_NORM: return true;
    default: return false;
    }
}

bool role_in_ssm(tensor_role r) { return r == ROLE_SSM_IN || r == ROLE_SSM_OUT || (r >= ROLE_SSM_CONV && r <= ROLE_SSM_NORM); }

static bool of_feed_forward(tensor_role r) { return role_in_layer(r) && r != ROLE_ATTN_NORM && r != ROLE_ATTN_NORM_BIAS && r != ROLE_ATTN_POST_NORM && !of_attention(r) && !role_in_ssm(r); }

bool role_allowed(const config *c, tensor_role r, int layer) {
    const arch *a = c->arch;
    const bool mixed = layer_experts(c, layer) > 0;
    if (role_in_ssm(r)) return layer_is_ssm(c, layer);
    if ((of_attention(r) && layer_is_ssm(c, layer)) || (of_feed_forward(r) && a->no_attention)) return false;
    switch (r) {
    case ROLE_Q: return !c->q_rank;
    case ROLE_K: case ROLE_V: return !c->kv_rank;
    case ROLE_Q_A: case ROLE_Q_A_NORM: case ROLE_Q_B: return c->q_rank > 0;
    case ROLE_KV_A: case ROLE_KV_A_NORM: case ROLE_KV_B: return c->kv_rank > 0;
    case ROLE_Q_BIAS: case ROLE_K_BIAS: case ROLE_V_BIAS: return !c->kv_rank;
    case ROLE_CHOICE_BIAS: return mixed && c->choice_bias;
    case ROLE_Q_NORM: case ROLE_K_NORM: return a->qk_norm;
    case ROLE_ATTN_SUB_NORM: case ROLE_FFN_SUB_NORM: return a->sub_norms;
    case ROLE_ATTN_NORM: case ROLE_FFN_NORM: return !a->no_pre_norms;
    case ROLE_ATTN_POST_NORM: case ROLE_FFN_POST_NORM: return a->post_norms;
    case ROLE_ATTN_NORM_BIAS: case ROLE_FFN_NORM_BIAS: case ROLE_OUT_NORM_BIAS: return a->layer_norm;
    case ROLE_ROPE_FREQS: return !a->no_attention;
    case ROLE_POSITIONS: return a->learned_positions;
    case ROLE_SINKS: return a->sinks;
    case ROLE_ROUTER_BIAS: case ROLE_GATE_EXPS_BIAS: case ROLE_UP_EXPS_BIAS: case ROLE_DOWN_EXPS_BIAS: return mixed && a->expert_biases;
    case ROLE_ROUTER: return mixed;
    case ROLE_SHARED_GATE: return mixed && c->n_ff_shared && a->experts->shared_gate;
    case ROLE_GATE: return !a->no_gate && (!mixed || c->n_ff_shared);
    case ROLE_UP: case ROLE_DOWN: return !mixed || c->n_ff_shared;
    case ROLE_GATE_BIAS: return !a->no_gate && !mixed;
    case ROLE_UP_BIAS: case ROLE_DOWN_BIAS: return !mixed;
    case ROLE_NONE: return false;
    default: return true;
    }
}

void role_tensor_name(tensor_role r, int layer, int expert, char out[64]) {
    const char *stem = (unsigned)r < ROLE_COUNT ? roles_table[r].gguf : "?";
    for (int i = 0; i < GATE_UP && expert != EXPERT_NONE; i++) {
        if (expert_rows[i].role != r) continue;
        if (expert < EXPERT_NONE) snprintf(out, 64, "blk.%d.%s%s.weight", layer, expert_rows[i].gguf, expert == EXPERT_ALL ? "_exps" : "_shexp");
        else snprintf(out, 64, "blk.%d.%s.%d.weight", layer, expert_rows[i].gguf, expert);
        return;
    }
    if (role_in_layer(r)) snprintf(out, 64, "blk.%d.%s", layer, stem);
    else snprintf(out, 64, "%s", stem);
}

tensor_role role_as_named(const arch *a, tensor_role r) {
    return a->ffn_norm_behind && r == ROLE_FFN_NORM ? ROLE_ATTN_POST_NORM : a->ffn_norm_behind && r == ROLE_ATTN_POST_NORM ? ROLE_FFN_NORM : r;
}

/* "<prefix>N.rest" -> N and rest. Digits as printed (no sign, no leading zero), so that one tensor has one name. */
static bool split_number(const char *name, const char *prefix, int *number, const char **rest) {
    size_t n = strlen(prefix);
    if (strncmp(name, prefix, n) || name[n] < '0' || name[n] > '9' || (name[n] == '0' && name[n + 1] != '.'))
        return false;
    long value = 0;
    const char *p = name + n;
    for (; *p >= '0' && *p <= '9'; p++)
        if ((value = value * 10 + (*p - '0')) > 1000000) return false;
    if (*p != '.') return false;
    *number = (int)value;
    *rest = p + 1;
    return true;
}

/* The row of a stem inside a layer, and which expert's it is. NULL: no expert's. */
static const struct expert_row *expert_from_stem(const char *stem, int *expert) {
    for (int i = 0; i < N_EXPERT_ROWS; i++) {
        char text[64];
        const char *rest;
        snprintf(text, sizeof text, "%s_exps.weight", expert_rows[i].gguf);
        *expert = EXPERT_ALL;
        if (!strcmp(stem, text)) return &expert_rows[i];
        snprintf(text, sizeof text, "%s_shexp.weight", expert_rows[i].gguf);
        *expert = EXPERT_SHARED;
        if (i != GATE_UP && !strcmp(stem, text)) return &expert_rows[i];
        snprintf(text, sizeof text, "%s.", expert_rows[i].gguf);
        if (i != GATE_UP && split_number(stem, text, expert, &rest) && !strcmp(rest, "weight")) return &expert_rows[i];
    }
    return NULL;
}

tensor_role role_from_name(const char *canonical, int *layer, int *expert, bool *gate_up) {
    const char *stem = canonical;
    int in = -1, one = EXPERT_NONE;
    bool in_layer = split_number(canonical, "blk.", &in, &stem);
    const struct expert_row *row = in_layer ? expert_from_stem(stem, &one) : NULL;
    tensor_role found = row ? row->role : ROLE_NONE;
    if (!row) one = EXPERT_NONE;
    for (int r = 0; r < ROLE_COUNT && !row; r++)
        if (roles_table[r].in_layer == in_layer && !strcmp(roles_table[r].gguf, stem)) found = (tensor_role)r;
    if (found == ROLE_NONE) return ROLE_NONE;
    if (layer) *layer = in;
    if (expert) *expert = one;
    if (gate_up) *gate_up = row == &expert_rows[GATE_UP];
    return found;
}

/* Stacks are "mlp.experts.<hf>"; Granite's have names of their own. */
static bool stack_from_hf(const char *stem, int layer, char out[64]) {
    static const struct { const char *stem; int row; } granite[] = {{"block_sparse_moe.input_linear.weight", GATE_UP}, {"block_sparse_moe.output_linear.weight", 2}};
    static const char prefix[] = "mlp.experts.";
    int row = -1;
    for (int i = 0; i < 2; i++)
        if (!strcmp(stem, granite[i].stem)) row = granite[i].row;
    for (int i = 0; i < N_EXPERT_ROWS; i++)
        if (!strncmp(stem, prefix, sizeof prefix - 1) && !strcmp(stem + sizeof prefix - 1, expert_rows[i].hf)) row = i;
    return row >= 0 && snprintf(out, 64, "blk.%d.%s_exps.weight", layer, expert_rows[row].gguf) > 0;
}

static bool expert_from_hf(const char *stem, int layer, char out[64]) {
    static const char *const prefixes[] = {"mlp.experts.", "block_sparse_moe.experts."}, *const shared[] = {"mlp.shared_expert.", "mlp.shared_experts."};
    const char *rest;
    int expert;
    for (int i = 0; i < 2 * GATE_UP; i++) {
        const char *prefix = shared[i / GATE_UP], *part = expert_rows[i % GATE_UP].hf;
        if (strncmp(stem, prefix, strlen(prefix)) || strncmp(stem + strlen(prefix), part, strlen(part)) || strcmp(stem + strlen(prefix) + strlen(part), ".weight")) continue;
        role_tensor_name(expert_rows[i % GATE_UP].role, layer, EXPERT_SHARED, out);
        return true;
    }
    if (stack_from_hf(stem, layer, out)) return true;
    for (int p = 0; p < 2; p++) {
        if (!split_number(stem, prefixes[p], &expert, &rest)) continue;
        for (int i = 0; i < GATE_UP; i++) {
            const char *part = p ? expert_rows[i].mixtral : expert_rows[i].hf;
            if (strncmp(rest, part, strlen(part)) || strcmp(rest + strlen(part), ".weight")) continue;
            role_tensor_name(expert_rows[i].role, layer, expert, out);
            return true;
        }
    }
    return false;
}

/* "NAME.weight", "NAME.bias" or NAME alone of a name of the family's own -> its row, or NULL; *bias: the second. */
static const arch_tensor *own_name(const arch *a, const char *name, bool *bias) {
    for (const arch_tensor *t = a->tensors; t && t->hf; t++) {
        const size_t n = strlen(t->hf);
        if (strncmp(name, t->hf, n)) continue;
        *bias = !strcmp(name + n, ".bias");
        if (*bias || !strcmp(name + n, ".weight") || !name[n]) return t;
    }
    return NULL;
}

/* The name in a text model of its own; and GPT-2's, of which some folders have the model's name before them. */
static const char *unwrapped(const arch *a, const char *hf, char out[256]) {
    static const char *const prefixes[][2] = {{"language_model.model.", "model."}, {"model.language_model.", "model."}, {"language_model.lm_head.", "lm_head."}}, name[] = "transformer.";
    if (a->learned_positions && !strncmp(hf, name, sizeof name - 1)) return hf + sizeof name - 1;
    for (size_t i = 0; i < 3 && a->wrapped; i++) {
        const size_t n = strlen(prefixes[i][0]);
        if (!strncmp(hf, prefixes[i][0], n) && (size_t)snprintf(out, 256, "%s%s", prefixes[i][1], hf + n) < 256) return out;
    }
    return hf;
}

size_t roles_from_hf(const arch *a, const char *name, int *layer, tensor_role roles[ARCH_MAX_ROLES]) {
    char text[256];
    const char *hf = unwrapped(a, name, text), *stem = hf;
    bool bias = false;
    *layer = -1;
    const bool in_layer = split_number(hf, a->prefix ? a->prefix : "model.layers.", layer, &stem);
    const arch_tensor *own = own_name(a, stem, &bias);
    size_t n = 0;
    while (own && n < ARCH_MAX_ROLES && (n == 0 || own->role[n])) {
        roles[n] = bias ? bias_of(own->role[n]) : own->role[n];
        if (roles[n] == ROLE_NONE || role_in_layer(roles[n]) != in_layer) return 0;
        n++;
    }
    for (int r = 0; r < ROLE_COUNT && !own; r++) {
        if (roles_table[r].in_layer != in_layer || !roles_table[r].hf || strcmp(roles_table[r].hf, stem)) continue;
        roles[0] = (tensor_role)r;
        return 1;
    }
    return n;
}

bool canonical_from_hf(const arch *a, const char *hf, char out[64]) {
    const char *stem = hf;
    tensor_role roles[ARCH_MAX_ROLES];
    int layer = -1;
    if (split_number(hf, "model.layers.", &layer, &stem) && expert_from_hf(stem, layer, out)) return true;
    if (roles_from_hf(a, hf, &layer, roles) != 1) return false;
    role_tensor_name(role_as_named(a, roles[0]), layer, EXPERT_NONE, out);
    return true;
}

bool name_of_further_layer(const config *c, const char *name) {
    const char *rest;
    int layer = -1;
    if (!split_number(name, "model.layers.", &layer, &rest) && !split_number(name, "blk.", &layer, &rest)) return false;
    return layer >= (int)c->n_layers && (uint32_t)layer - c->n_layers < c->n_further;
}

bool hf_name_harmless(const arch *a, const char *hf) {
    const char *end = strstr(hf, ".attn.");
    if (a->learned_positions && end && (!strcmp(end, ".attn.bias") || !strcmp(end, ".attn.masked_bias"))) return true; /* GPT-2's masks */
    static const char *const pictures[] = {"vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.", "visual.", "model.visual."};
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures && a->wrapped; i++)
        if (!strncmp(hf, pictures[i], strlen(pictures[i]))) return true;
    /* model.layers.N.self_attn.rotary_emb.inv_freq: recomputed from the config */
    const char *suffix = "rotary_emb.inv_freq";
    size_t n = strlen(hf), m = strlen(suffix);
    return n >= m && !strcmp(hf + n - m, suffix);
}

size_t roles_fused(const arch *a, tensor_role r, tensor_role roles[ARCH_MAX_ROLES], const char **stem) {
    static const struct { const char *stem; size_t n; tensor_role role[ARCH_MAX_ROLES]; } rows[] = {
        {"attn_qkv.weight", 3, {ROLE_Q, ROLE_K, ROLE_V}}, {"attn_qkv.bias", 3, {ROLE_Q_BIAS, ROLE_K_BIAS, ROLE_V_BIAS}}, {"ffn_up.weight", 2, {ROLE_GATE, ROLE_UP}}};
    for (size_t i = 0; a->fused && i < sizeof rows / sizeof *rows; i++)
        for (size_t k = 0; k < rows[i].n; k++) {
            if (rows[i].role[k] != r || (r == ROLE_UP && a->no_gate)) continue;
            memcpy(roles, rows[i].role, sizeof rows[i].role);
            *stem = rows[i].stem;
            return rows[i].n;
        }
    return 0;
}
