/* Reading and writing what is said of state spaces. Keys as llama.cpp has them (ssm.conv_kernel ...; its rank of time steps is the number of heads).
 * Limits of time steps have no key there; snug writes its own, which may not leave them out. Sources: transformers' configuration_mamba2.py,
 * configuration_granitemoehybrid.py; llama.cpp's conversion/mamba.py, conversion/granite.py. */
#include "model/ssm.h"

#include "base/err.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char limit_key[] = "snug.ssm.time_step_limit";

/* A number; or {"__float__": "Infinity"}, as newer folders have it. */
static float limit_of(const json_t *v) {
    const char *word = json_string_value(json_object_get(v, "__float__"));
    if (word && !strcmp(word, "Infinity")) return INFINITY;
    const double d = json_is_number(v) ? json_number_value(v) : NAN;
    return d > FLT_MAX ? INFINITY : (float)d;
}

static snug_err read_limits(const hf_fields *f, config *c, snug_error *err) {
    const json_t *list = hf_get(f, "time_step_limit");
    c->ssm.dt_min = 0;
    c->ssm.dt_max = INFINITY;
    if (!list) return SNUG_OK;
    if (!json_is_array(list) || json_array_size(list) != 2) return err_set(err, SNUG_ERR_FORMAT, "%s: field 'time_step_limit' is no list of two numbers", f->where);
    c->ssm.dt_min = limit_of(json_array_get(list, 0));
    c->ssm.dt_max = limit_of(json_array_get(list, 1));
    return SNUG_OK;
}

/* head_dim may be "auto". */
static snug_err check_inner(const hf_fields *f, const ssm_names *n, config *c, snug_error *err) {
    const json_t *v = hf_get(f, n->head_dim);
    uint32_t expand = 2, dim = 0;
    snug_err rc = hf_u32_or(f, n->expand, 2, &expand, err);
    if (!rc && !json_is_string(v)) rc = hf_u32(f, n->head_dim, &dim, err);
    if (rc) return rc;
    const uint64_t inner = (uint64_t)expand * c->n_embd;
    if (inner > UINT32_MAX || (!json_is_string(v) && (uint64_t)dim * c->ssm.heads != inner))
        return err_set(err, SNUG_ERR_FORMAT, "%s: %u heads (%s) of %u (%s) are not %u (%s) times hidden_size %u", f->where, c->ssm.heads, n->heads, dim, n->head_dim, expand, n->expand,
                       c->n_embd);
    c->ssm.inner = (uint32_t)inner;
    return SNUG_OK;
}

snug_err ssm_from_hf(const hf_fields *f, const ssm_names *n, config *c, snug_error *err) {
    bool conv_bias = true;
    snug_err rc = hf_u32(f, n->conv, &c->ssm.conv, err);
    if (!rc) rc = hf_u32(f, n->state, &c->ssm.state, err);
    if (!rc) rc = hf_u32(f, n->heads, &c->ssm.heads, err);
    if (!rc) rc = hf_u32(f, n->groups, &c->ssm.groups, err);
    if (!rc) rc = check_inner(f, n, c, err);
    if (!rc) rc = read_limits(f, c, err);
    if (!rc) rc = hf_refuse(f, n->bias, "biases of a state space's matrices", err);
    if (!rc) rc = hf_bool_or(f, n->conv_bias, true, &conv_bias, err);
    if (!rc && !conv_bias) rc = err_set(err, SNUG_ERR_UNSUPPORTED, "%s: field '%s' is false, which is not supported: a convolution without bias", f->where, n->conv_bias);
    return rc;
}

snug_err ssm_from_gguf(gguf_fields *f, config *c, snug_error *err) {
    snug_err rc = gguf_u32(f, "ssm.conv_kernel", true, 0, &c->ssm.conv, err);
    if (!rc) rc = gguf_u32(f, "ssm.inner_size", true, 0, &c->ssm.inner, err);
    if (!rc) rc = gguf_u32(f, "ssm.state_size", true, 0, &c->ssm.state, err);
    if (!rc) rc = gguf_u32(f, "ssm.time_step_rank", true, 0, &c->ssm.heads, err);
    if (!rc) rc = gguf_u32(f, "ssm.group_count", true, 0, &c->ssm.groups, err);
    const gguf_kv *limits = gguf_find(f->g, limit_key);
    c->ssm.dt_min = 0;
    c->ssm.dt_max = INFINITY;
    if (rc || !limits) return rc;
    if (limits->type != GGUF_ARRAY || limits->elem_type != GGUF_F32 || limits->n != 2)
        return err_set(err, SNUG_ERR_FORMAT, "%s: key '%s' is no array of two f32 numbers", f->g->file.path, limit_key);
    c->ssm.dt_min = (float)gguf_array_f64(limits, 0);
    c->ssm.dt_max = (float)gguf_array_f64(limits, 1);
    return SNUG_OK;
}

snug_err ssm_layers_from_gguf(gguf_fields *f, config *c, snug_error *err) {
    const char *key = gguf_key(f, "attention.head_count_kv");
    const gguf_kv *kv = gguf_find(f->g, key);
    if (!kv || kv->type != GGUF_ARRAY) return gguf_u32(f, "attention.head_count_kv", false, c->n_heads, &c->n_kv_heads, err);
    if (kv->elem_type == GGUF_STRING || kv->n != c->n_layers) return err_set(err, SNUG_ERR_FORMAT, "%s: key '%s' is no array of %u numbers, one for each layer", f->g->file.path, key, c->n_layers);
    uint64_t heads = 0;
    for (uint32_t l = 0; l < c->n_layers; l++) {
        const uint64_t n = gguf_array_u64(kv, l);
        if (n > UINT32_MAX || (n && heads && n != heads))
            return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: key '%s' has %llu and %llu, expected one number, and 0 where a layer is a state space", f->g->file.path, key, (unsigned long long)heads,
                           (unsigned long long)n);
        if (n) heads = n;
        else if (l < CONFIG_MAX_LAYERS) c->layer[l] |= LAYER_SSM;
    }
    c->n_kv_heads = heads ? (uint32_t)heads : c->n_heads;
    return SNUG_OK;
}

bool ssm_layers_to_gguf(const config *c, gguf_kvs *out) {
    uint32_t heads[CONFIG_MAX_LAYERS];
    char key[128];
    for (uint32_t l = 0; l < c->n_layers; l++) heads[l] = layer_is_ssm(c, (int)l) ? 0 : c->n_kv_heads;
    snprintf(key, sizeof key, "%s.attention.head_count_kv", c->arch->gguf_name);
    return gguf_put_array(out, key, GGUF_U32, heads, c->n_layers);
}

static bool has_limits(const config *c) { return c->ssm.dt_min > 0 || c->ssm.dt_max < INFINITY; }

bool ssm_to_gguf(const config *c, gguf_kvs *out) {
    const float limits[] = {c->ssm.dt_min, c->ssm.dt_max};
    return arch_put_u32(c, out, "ssm.conv_kernel", c->ssm.conv) && arch_put_u32(c, out, "ssm.inner_size", c->ssm.inner) && arch_put_u32(c, out, "ssm.state_size", c->ssm.state) &&
           arch_put_u32(c, out, "ssm.time_step_rank", c->ssm.heads) && arch_put_u32(c, out, "ssm.group_count", c->ssm.groups) &&
           (!has_limits(c) || gguf_put_array(out, limit_key, GGUF_F32, limits, 2));
}

snug_err ssm_for_others(const config *c, const char *where, snug_error *err) {
    if (!has_limits(c)) return SNUG_OK;
    return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: time_step_limit is %g to %g, which other readers of a GGUF of architecture '%s' do not have; without --for gguf it can be had", where,
                   (double)c->ssm.dt_min, (double)c->ssm.dt_max, c->arch->gguf_name);
}
