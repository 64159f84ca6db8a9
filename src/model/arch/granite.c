/* Granite 3: Llama with numbers that embeddings, scores, what half a layer adds, and logits are multiplied or divided by. Sources: transformers'
 * modeling_granite.py; llama.cpp's granite. */
#include "base/err.h"
#include "model/arch.h"

static snug_err from_hf(const hf_fields *f, config *c, snug_error *err) {
    float over = 1;
    snug_err rc = hf_f32_or(f, "embedding_multiplier", 1, &c->embd_scale, err);
    if (!rc) rc = hf_f32_or(f, "residual_multiplier", 1, &c->residual_scale, err);
    if (!rc) rc = hf_f32_or(f, "attention_multiplier", 1, &c->attn_scale, err);
    if (!rc) rc = hf_f32_or(f, "logits_scaling", 1, &over, err);
    if (!rc && !(over > 0)) return err_set(err, SNUG_ERR_FORMAT, "%s: field 'logits_scaling' is %g, expected a positive number", f->where, (double)over);
    c->logit_scale = 1 / over;
    return rc;
}

static snug_err from_gguf(gguf_fields *f, config *c, snug_error *err) {
    float over = 1;
    snug_err rc = gguf_f32_or(f, "embedding_scale", 1, &c->embd_scale, err);
    if (!rc) rc = gguf_f32_or(f, "residual_scale", 1, &c->residual_scale, err);
    if (!rc) rc = gguf_f32_or(f, "attention.scale", 0, &c->attn_scale, err);
    if (!rc) rc = gguf_f32_or(f, "logit_scale", 1, &over, err);
    if (!rc && !(over > 0)) return err_set(err, SNUG_ERR_FORMAT, "%s: key '%s' is %g, expected a positive number", f->g->file.path, gguf_key(f, "logit_scale"), (double)over);
    c->logit_scale = 1 / over;
    return rc;
}

static bool to_gguf(const config *c, gguf_kvs *out) {
    return arch_put_f32(c, out, "embedding_scale", c->embd_scale) && arch_put_f32(c, out, "residual_scale", c->residual_scale) &&
           arch_put_f32(c, out, "attention.scale", c->attn_scale) && arch_put_f32(c, out, "logit_scale", 1 / c->logit_scale);
}

const arch arch_granite[] = {
    {.gguf_name = "granite", .hf_class = "GraniteForCausalLM", .gguf_permutes_qk = true, .from_hf = from_hf, .from_gguf = from_gguf, .to_gguf = to_gguf},
    {0},
};
