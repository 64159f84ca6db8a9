/* The table of architectures, and the names of their tensors in both worlds.
 *
 * All of them are one decoder: RMSNorm, grouped-query attention with RoPE, SiLU-gated feed-forward; they differ in
 * biases, in q/k norms and in the order in which GGUF stores the rows of q and k. A new architecture of that shape is a
 * row here. Sources: transformers' modeling_{llama,mistral,qwen2,qwen3}.py; llama.cpp's gguf-py/gguf/constants.py and
 * tensor_mapping.py. */
#include "base/buf.h"
#include "model/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const arch archs[] = {
    /* GGUF     Hugging Face            qkv_bias qk_norm permuted */
    {"llama", "LlamaForCausalLM",       false,   false,  true},
    {"llama", "MistralForCausalLM",     false,   false,  true},
    {"qwen2", "Qwen2ForCausalLM",       true,    false,  false},
    {"qwen3", "Qwen3ForCausalLM",       false,   true,   false},
};
enum { N_ARCHS = sizeof archs / sizeof *archs };

const arch *arch_by_hf_class(const char *name) {
    for (size_t i = 0; i < N_ARCHS; i++)
        if (!strcmp(archs[i].hf_class, name)) return &archs[i];
    return NULL;
}

const arch *arch_by_gguf_name(const char *name) {
    for (size_t i = 0; i < N_ARCHS; i++)
        if (!strcmp(archs[i].gguf_name, name)) return &archs[i];
    return NULL;
}

const char *arch_known_hf(char *text, size_t cap) {
    size_t len = 0;
    text[0] = 0;
    for (size_t i = 0; i < N_ARCHS && len < cap; i++)
        len += (size_t)snprintf(text + len, cap - len, "%s%s", i ? ", " : "", archs[i].hf_class);
    return text;
}

const char *arch_known_gguf(char *text, size_t cap) {
    size_t len = 0;
    text[0] = 0;
    for (size_t i = 0; i < N_ARCHS && len < cap; i++) {
        if (arch_by_gguf_name(archs[i].gguf_name) != &archs[i]) continue; /* a name that several rows share */
        len += (size_t)snprintf(text + len, cap - len, "%s%s", i ? ", " : "", archs[i].gguf_name);
    }
    return text;
}

/* Per role: what users read; the stem in GGUF ("blk.N." before those of a layer) and in HF ("model.layers.N."). */
static const struct role_row {
    const char *name, *gguf, *hf;
    bool in_layer;
} roles[ROLE_COUNT] = {
    [ROLE_EMBD] = {"embd", "token_embd.weight", "model.embed_tokens.weight", false},
    [ROLE_HEAD] = {"head", "output.weight", "lm_head.weight", false},
    [ROLE_OUT_NORM] = {"norm", "output_norm.weight", "model.norm.weight", false},
    [ROLE_ROPE_FREQS] = {"rope", "rope_freqs.weight", NULL, false},
    [ROLE_ATTN_NORM] = {"norm", "attn_norm.weight", "input_layernorm.weight", true},
    [ROLE_Q] = {"q", "attn_q.weight", "self_attn.q_proj.weight", true},
    [ROLE_K] = {"k", "attn_k.weight", "self_attn.k_proj.weight", true},
    [ROLE_V] = {"v", "attn_v.weight", "self_attn.v_proj.weight", true},
    [ROLE_O] = {"o", "attn_output.weight", "self_attn.o_proj.weight", true},
    [ROLE_Q_BIAS] = {"bias", "attn_q.bias", "self_attn.q_proj.bias", true},
    [ROLE_K_BIAS] = {"bias", "attn_k.bias", "self_attn.k_proj.bias", true},
    [ROLE_V_BIAS] = {"bias", "attn_v.bias", "self_attn.v_proj.bias", true},
    [ROLE_O_BIAS] = {"bias", "attn_output.bias", "self_attn.o_proj.bias", true},
    [ROLE_Q_NORM] = {"norm", "attn_q_norm.weight", "self_attn.q_norm.weight", true},
    [ROLE_K_NORM] = {"norm", "attn_k_norm.weight", "self_attn.k_norm.weight", true},
    [ROLE_FFN_NORM] = {"norm", "ffn_norm.weight", "post_attention_layernorm.weight", true},
    [ROLE_GATE] = {"gate", "ffn_gate.weight", "mlp.gate_proj.weight", true},
    [ROLE_UP] = {"up", "ffn_up.weight", "mlp.up_proj.weight", true},
    [ROLE_DOWN] = {"down", "ffn_down.weight", "mlp.down_proj.weight", true},
};

const char *role_name(tensor_role r) { return (unsigned)r < ROLE_COUNT ? roles[r].name : "none"; }
bool role_in_layer(tensor_role r) { return (unsigned)r < ROLE_COUNT && roles[r].in_layer; }

bool role_required(const config *c, tensor_role r) {
    switch (r) {
    case ROLE_HEAD: return !c->tied;
    case ROLE_Q_BIAS: case ROLE_K_BIAS: case ROLE_V_BIAS: return c->arch->qkv_bias;
    case ROLE_Q_NORM: case ROLE_K_NORM: return c->arch->qk_norm;
    case ROLE_O_BIAS: case ROLE_ROPE_FREQS: case ROLE_NONE: return false;
    default: return true;
    }
}

void role_tensor_name(tensor_role r, int layer, char out[64]) {
    const char *stem = (unsigned)r < ROLE_COUNT ? roles[r].gguf : "?";
    if (role_in_layer(r)) snprintf(out, 64, "blk.%d.%s", layer, stem);
    else snprintf(out, 64, "%s", stem);
}

/* "<prefix>N.rest" -> N and rest. Digits as printed (no sign, no leading zero), so that one tensor has one name. */
static bool split_layer(const char *name, const char *prefix, int *layer, const char **rest) {
    size_t n = strlen(prefix);
    if (strncmp(name, prefix, n) || name[n] < '0' || name[n] > '9' || (name[n] == '0' && name[n + 1] != '.'))
        return false;
    long value = 0;
    const char *p = name + n;
    for (; *p >= '0' && *p <= '9'; p++)
        if ((value = value * 10 + (*p - '0')) > 1000000) return false;
    if (*p != '.') return false;
    *layer = (int)value;
    *rest = p + 1;
    return true;
}

tensor_role role_from_name(const char *canonical, int *layer) {
    const char *stem = canonical;
    int found = -1;
    bool in_layer = split_layer(canonical, "blk.", &found, &stem);
    for (int r = 0; r < ROLE_COUNT; r++) {
        if (roles[r].in_layer != in_layer || strcmp(roles[r].gguf, stem)) continue;
        if (layer) *layer = found;
        return (tensor_role)r;
    }
    return ROLE_NONE;
}

bool canonical_from_hf(const char *hf, char out[64]) {
    const char *stem = hf;
    int layer = -1;
    bool in_layer = split_layer(hf, "model.layers.", &layer, &stem);
    for (int r = 0; r < ROLE_COUNT; r++) {
        if (roles[r].in_layer != in_layer || !roles[r].hf || strcmp(roles[r].hf, stem)) continue;
        role_tensor_name((tensor_role)r, layer, out);
        return true;
    }
    return false;
}

bool hf_name_harmless(const char *hf) {
    /* model.layers.N.self_attn.rotary_emb.inv_freq: recomputed from the config */
    const char *suffix = "rotary_emb.inv_freq";
    size_t n = strlen(hf), m = strlen(suffix);
    return n >= m && !strcmp(hf + n - m, suffix);
}
