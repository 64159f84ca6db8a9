/* SmolLM 3: Llama in which every fourth layer does without RoPE. (SmolLM 2 is Llama.) Sources: transformers' modeling_smollm3.py; llama.cpp's
 * smollm3. */
#include "base/err.h"
#include "model/arch.h"

enum { EVERY = 4 };

/* All but each `every`-th layer turn. */
static void turn(config *c, uint32_t every) {
    for (uint32_t l = 0; l < c->n_layers && l < CONFIG_MAX_LAYERS; l++)
        if (every && (l + 1) % every == 0) c->layer[l] |= LAYER_NO_ROPE;
}

/* no_rope_layers has 1 where a layer turns. */
static snug_err from_hf(const hf_fields *f, config *c, snug_error *err) {
    const json_t *list = hf_get(f, "no_rope_layers");
    bool use = false;
    uint32_t every = EVERY, window = 0;
    snug_err rc = hf_u32_or(f, "no_rope_layer_interval", EVERY, &every, err);
    if (!rc) rc = hf_bool_or(f, "use_sliding_window", false, &use, err);
    if (!rc && use) rc = hf_u32_or(f, "sliding_window", 0, &window, err);
    if (!rc) rc = hf_windows(f, c, window, 0, 0, err);
    if (rc) return rc;
    if (list && (!json_is_array(list) || json_array_size(list) != c->n_layers))
        return err_set(err, SNUG_ERR_FORMAT, "%s: field 'no_rope_layers' is no list of %u numbers, one for each layer", f->where, c->n_layers);
    if (!list) turn(c, every);
    for (uint32_t l = 0; list && l < c->n_layers && l < CONFIG_MAX_LAYERS; l++)
        if (json_integer_value(json_array_get(list, l)) == 0) c->layer[l] |= LAYER_NO_ROPE;
    return SNUG_OK;
}

static snug_err from_gguf(gguf_fields *f, config *c, snug_error *err) {
    turn(c, EVERY);
    return SNUG_OK;
}

static snug_err for_others(const config *c, const char *where, snug_error *err) {
    for (uint32_t l = 0; l < c->n_layers; l++)
        if (!(c->layer[l] & LAYER_NO_ROPE) != !((l + 1) % EVERY == 0) || (c->layer[l] & LAYER_WINDOW))
            return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: layer %u %s, which other readers of a GGUF of architecture '%s' do not expect; without --for gguf it can be had", where, l,
                           c->layer[l] & LAYER_WINDOW ? "has a window" : c->layer[l] & LAYER_NO_ROPE ? "has no RoPE" : "has RoPE", c->arch->gguf_name);
    return SNUG_OK;
}

const arch arch_smollm[] = {
    {.gguf_name = "smollm3", .hf_class = "SmolLM3ForCausalLM", .gguf_permutes_qk = true, .tied = true, .rope_base = 2e6, .from_hf = from_hf, .from_gguf = from_gguf, .for_others = for_others},
    {0},
};
