/* Gemma: embeddings times sqrt(hidden size), GELU for SiLU, gains stored less one, heads of 256, the embedding for a head. Gemma 2 has norms behind
 * attention and feed-forward as well, soft caps on scores and logits, and a window in every other layer; Gemma 3 norms of each head of q and k instead
 * of the caps, and windows in five layers of six, where RoPE has a base of its own and no scaling.
 * Sources: transformers' modeling_{gemma,gemma2,gemma3}.py; llama.cpp's gemma, gemma2, gemma3, and its converter (gains + 1). */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "model/arch.h"

enum { GEMMA2_EVERY = 2, GEMMA3_EVERY = 6 };

static snug_err gemma_from_hf(const hf_fields *f, config *c, snug_error *err) {
    c->embd_scale = sqrtf((float)c->n_embd);
    if (!hf_get(f, "hidden_activation")) c->act = ACT_GELU; /* hidden_act says "gelu" in old files and is not meant */
    return SNUG_OK;
}

static snug_err query_scale(const hf_fields *f, config *c, snug_error *err) {
    double scalar = 256;
    snug_err rc = hf_f64_or(f, "query_pre_attn_scalar", scalar, &scalar, err);
    if (!rc && !(scalar > 0)) return err_set(err, SNUG_ERR_FORMAT, "%s: field 'query_pre_attn_scalar' is %g, expected a positive number", f->where, scalar);
    c->attn_scale = scalar == c->head_dim ? 0 : (float)(1 / sqrt(scalar));
    return rc;
}

static snug_err gemma2_from_hf(const hf_fields *f, config *c, snug_error *err) {
    uint32_t window = 0;
    snug_err rc = gemma_from_hf(f, c, err);
    if (!rc) rc = query_scale(f, c, err);
    if (!rc) rc = hf_f32_or(f, "attn_logit_softcapping", 0, &c->attn_softcap, err);
    if (!rc) rc = hf_f32_or(f, "final_logit_softcapping", 0, &c->logit_softcap, err);
    if (!rc) rc = hf_u32_or(f, "sliding_window", 4096, &window, err);
    return rc ? rc : hf_windows(f, c, window, 0, GEMMA2_EVERY, err);
}

static snug_err gemma3_from_hf(const hf_fields *f, config *c, snug_error *err) {
    uint32_t window = 0, every = 0;
    double local = 1e4;
    snug_err rc = gemma_from_hf(f, c, err);
    if (!rc) rc = query_scale(f, c, err);
    if (!rc) rc = hf_f32_or(f, "attn_logit_softcapping", 0, &c->attn_softcap, err);
    if (!rc) rc = hf_f32_or(f, "final_logit_softcapping", 0, &c->logit_softcap, err);
    if (!rc) rc = hf_u32_or(f, "sliding_window", 4096, &window, err);
    if (!rc) rc = hf_u32_or(f, "sliding_window_pattern", GEMMA3_EVERY, &every, err);
    if (!rc) rc = hf_windows(f, c, window, 0, every, err);
    if (!rc) rc = hf_refuse(f, "use_bidirectional_attention", "tokens that see those after them", err);
    if (!rc) rc = hf_f64_or(f, "rope_local_base_freq", local, &local, err);
    return rc ? rc : hf_rope_by_type(f, local, c, err);
}

/* ---- GGUF: llama.cpp knows most of it by the architecture ---- */

/* The largest model of a generation is told by its number of layers. */
static float scale_of(const config *c, uint32_t layers_of_27b) {
    return c->n_layers == layers_of_27b && c->n_heads && c->n_embd != c->n_heads * c->head_dim ? (float)(1 / sqrt((double)c->n_embd / c->n_heads)) : 0;
}

static float default_scale(const config *c) {
    const bool two = !strcmp(c->arch->gguf_name, "gemma2");
    return strcmp(c->arch->gguf_name, "gemma") ? scale_of(c, two ? 46 : 62) : 0;
}

static snug_err gemma_from_gguf(gguf_fields *f, config *c, snug_error *err) {
    c->embd_scale = sqrtf((float)c->n_embd);
    return SNUG_OK;
}

static snug_err windows_from_gguf(gguf_fields *f, config *c, uint32_t every, snug_error *err) {
    snug_err rc = gemma_from_gguf(f, c, err);
    if (!rc) rc = gguf_f32_or(f, "attention.scale", default_scale(c), &c->attn_scale, err);
    if (!rc) rc = gguf_f32_or(f, "attn_logit_softcapping", every == GEMMA2_EVERY ? 50 : 0, &c->attn_softcap, err);
    if (!rc) rc = gguf_f32_or(f, "final_logit_softcapping", every == GEMMA2_EVERY ? 30 : 0, &c->logit_softcap, err);
    memset(c->layer, 0, sizeof c->layer);
    if (c->sliding_window) layers_set(c, LAYER_WINDOW, 0, every);
    return rc;
}

static snug_err gemma2_from_gguf(gguf_fields *f, config *c, snug_error *err) { return windows_from_gguf(f, c, GEMMA2_EVERY, err); }

static snug_err gemma3_from_gguf(gguf_fields *f, config *c, snug_error *err) {
    float local = 1e4f;
    snug_err rc = windows_from_gguf(f, c, GEMMA3_EVERY, err);
    if (!rc) rc = gguf_f32_or(f, "rope.freq_base_swa", local, &local, err);
    if (!rc) layers_local_rope(c, local);
    return rc;
}

static bool to_gguf(const config *c, gguf_kvs *out) {
    return (c->attn_scale == default_scale(c) || arch_put_f32(c, out, "attention.scale", c->attn_scale)) &&
           (strcmp(c->arch->gguf_name, "gemma") == 0 || (arch_put_f32(c, out, "attn_logit_softcapping", c->attn_softcap) && arch_put_f32(c, out, "final_logit_softcapping", c->logit_softcap))) &&
           (c->rope_base_local == 0 || arch_put_f32(c, out, "rope.freq_base_swa", c->rope_base_local));
}

static snug_err for_others(const config *c, const char *where, snug_error *err) {
    const uint32_t every = !strcmp(c->arch->gguf_name, "gemma2") ? GEMMA2_EVERY : !strcmp(c->arch->gguf_name, "gemma3") ? GEMMA3_EVERY : 1;
    const char *what = c->attn_scale != default_scale(c) ? "query_pre_attn_scalar" : !c->tied ? "a head of its own" : every == GEMMA3_EVERY && c->rope_base_local != 1e4 && c->rope_base_local != 0 ? "rope_local_base_freq" : NULL;
    for (uint32_t l = 0; l < c->n_layers && c->sliding_window; l++)
        if (!(c->layer[l] & LAYER_WINDOW) != ((l + 1) % every == 0)) what = "the pattern of windows";
    if (!what) return SNUG_OK;
    return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: %s is not what other readers of a GGUF of architecture '%s' expect; without --for gguf it can be had", where, what, c->arch->gguf_name);
}

static const arch_tensor tensors[] = {
    {"post_attention_layernorm", {ROLE_ATTN_POST_NORM}},
    {"pre_feedforward_layernorm", {ROLE_FFN_NORM}},
    {"post_feedforward_layernorm", {ROLE_FFN_POST_NORM}},
    {0},
};

/* What transformers' Gemma3TextConfig has where the configurations of models with pictures do not say. */
static const char gemma3_defaults[] = "{\"vocab_size\": 262208, \"num_attention_heads\": 8, \"num_key_value_heads\": 4, \"head_dim\": 256, \"max_position_embeddings\": 131072}";

const arch arch_gemma[] = {
    {.gguf_name = "gemma", .hf_class = "GemmaForCausalLM", .gains_less_one = true, .act = ACT_GELU, .tied = true, .head_dim = 256, .from_hf = gemma_from_hf, .from_gguf = gemma_from_gguf,
     .to_gguf = to_gguf, .for_others = for_others},
    {.gguf_name = "gemma2", .hf_class = "Gemma2ForCausalLM", .post_norms = true, .gains_less_one = true, .act = ACT_GELU, .tied = true, .head_dim = 256, .tensors = tensors,
     .from_hf = gemma2_from_hf, .from_gguf = gemma2_from_gguf, .to_gguf = to_gguf, .for_others = for_others},
    {.gguf_name = "gemma3", .hf_class = "Gemma3ForCausalLM", .qk_norm = true, .post_norms = true, .gains_less_one = true, .act = ACT_GELU, .rope_by_type = true, .tied = true, .head_dim = 256,
     .rope_base = 1e6, .tensors = tensors, .from_hf = gemma3_from_hf, .from_gguf = gemma3_from_gguf, .to_gguf = to_gguf, .for_others = for_others},
    {.gguf_name = "gemma3", .hf_class = "Gemma3ForConditionalGeneration", .qk_norm = true, .post_norms = true, .gains_less_one = true, .act = ACT_GELU, .rope_by_type = true, .tied = true,
     .rope_base = 1e6, .wrapped = true, .defaults = gemma3_defaults, .tensors = tensors, .from_hf = gemma3_from_hf, .from_gguf = gemma3_from_gguf, .to_gguf = to_gguf, .for_others = for_others},
    {0},
};
