/* OLMo 2: norms behind attention and feed-forward instead of before them; norms over all heads of q and of k together. OLMo 3 has windows in three layers of
 * four as well, where RoPE is not scaled; OLMoE has such norms of q and k, and experts. Sources: transformers' modeling_{olmo2,olmo3,olmoe}.py;
 * llama.cpp's olmo2, olmoe. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "model/arch.h"

static snug_err from_hf(const hf_fields *f, config *c, snug_error *err) { return hf_refuse(f, "clip_qkv", "q, k and v are held to a range", err); }

/* llama.cpp takes the norms of q and k to be as wide as each other. */
static snug_err for_others(const config *c, const char *where, snug_error *err) {
    if (c->n_heads == c->n_kv_heads) return SNUG_OK;
    return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: has %u heads and %u for keys and values, and other readers of a GGUF of architecture '%s' expect as many; without --for gguf it can be had",
                   where, c->n_heads, c->n_kv_heads, c->arch->gguf_name);
}

/* ---- OLMo 3: to GGUF an OLMo 2 with a window ---- */

enum { EVERY = 4 };
static const char pattern_key[] = "attention.sliding_window_pattern", local_key[] = "rope.freq_base_swa";

static snug_err olmo3_from_hf(const hf_fields *f, config *c, snug_error *err) {
    uint32_t window = 0;
    snug_err rc = hf_u32_or(f, "sliding_window", 4096, &window, err);
    if (!rc) rc = hf_windows(f, c, window, 0, EVERY, err);
    return rc ? rc : hf_rope_by_type(f, 0, c, err);
}

/* Which layers have the window is listed in newer files, and every one but each fourth's in older ones. */
static snug_err windows_from_gguf(gguf_fields *f, config *c, snug_error *err) {
    const gguf_kv *pattern = gguf_find(f->g, gguf_key(f, pattern_key));
    float local = 0;
    memset(c->layer, 0, sizeof c->layer);
    if (!c->sliding_window) return SNUG_OK;
    if (pattern && (pattern->type != GGUF_ARRAY || pattern->elem_type != GGUF_BOOL || pattern->n != c->n_layers))
        return err_set(err, SNUG_ERR_FORMAT, "%s: key '%s' is no array of %u truth values, one for each layer", f->g->file.path, gguf_key(f, pattern_key), c->n_layers);
    if (!pattern) layers_set(c, LAYER_WINDOW, 0, EVERY);
    for (uint32_t l = 0; pattern && l < c->n_layers && l < CONFIG_MAX_LAYERS; l++)
        if (gguf_array_u64(pattern, l)) c->layer[l] |= LAYER_WINDOW;
    snug_err rc = gguf_f32_or(f, local_key, c->rope_base, &local, err);
    if (!rc) layers_local_rope(c, (double)local);
    return rc;
}

static bool windows_to_gguf(const config *c, gguf_kvs *out) {
    uint8_t pattern[CONFIG_MAX_LAYERS];
    char key[128];
    for (uint32_t l = 0; l < c->n_layers; l++) pattern[l] = (c->layer[l] & LAYER_WINDOW) != 0;
    snprintf(key, sizeof key, "%s.%s", c->arch->gguf_name, pattern_key);
    return !c->sliding_window || (gguf_put_array(out, key, GGUF_BOOL, pattern, c->n_layers) && (c->rope_base_local == c->rope_base || arch_put_f32(c, out, local_key, c->rope_base_local)));
}

static snug_err windows_for_others(const config *c, const char *where, snug_error *err) {
    const char *what = c->sliding_window && c->rope_base_local != c->rope_base ? "a RoPE base of layers with a window" : NULL;
    for (uint32_t l = 0; l < c->n_layers && c->sliding_window; l++)
        if (!(c->layer[l] & LAYER_WINDOW) != ((l + 1) % EVERY == 0)) what = "the pattern of windows";
    if (!what) return SNUG_OK;
    return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: %s is not what other readers of a GGUF of architecture '%s' expect; without --for gguf it can be had", where, what, c->arch->gguf_name);
}

static const arch_experts olmoe = {.hf_width = "intermediate_size", .hf_norm_topk = "norm_topk_prob"};
static const arch_tensor olmo2_tensors[] = {
    {"post_attention_layernorm", {ROLE_ATTN_POST_NORM}},
    {"post_feedforward_layernorm", {ROLE_FFN_POST_NORM}},
    {0},
};

const arch arch_olmo[] = {
    {.gguf_name = "olmo2", .hf_class = "Olmo2ForCausalLM", .qk_norm = true, .qk_norm_whole = true, .post_norms = true, .no_pre_norms = true, .tensors = olmo2_tensors, .from_hf = from_hf,
     .from_gguf = windows_from_gguf, .to_gguf = windows_to_gguf, .for_others = windows_for_others}, /* a GGUF of either is read as this row */
    {.gguf_name = "olmo2", .hf_class = "Olmo3ForCausalLM", .qk_norm = true, .qk_norm_whole = true, .post_norms = true, .no_pre_norms = true, .rope_by_type = true, .rope_base = 5e5,
     .tensors = olmo2_tensors, .from_hf = olmo3_from_hf, .from_gguf = windows_from_gguf, .to_gguf = windows_to_gguf, .for_others = windows_for_others},
    {.gguf_name = "olmoe", .hf_class = "OlmoeForCausalLM", .qk_norm = true, .qk_norm_whole = true, .experts = &olmoe, .from_hf = from_hf, .for_others = for_others},
    {0},
};
