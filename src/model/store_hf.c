/* Tensors of a Hugging Face folder: one term each, codec f32, f16 or bf16; f8 with scales (store_f8.c); or what store_ternary.c, store_turns.c and store_made.c make of them. */
#include "base/err.h"
#include "model/arch.h"
#include "model/store_impl.h"

#include <stdio.h>
#include <string.h>

snug_err store_float_codec(const store *s, const st_tensor *t, const snug_codec **codec, snug_error *err) {
    const char *name = t->dtype == ST_F32 ? "f32" : t->dtype == ST_F16 ? "f16" : "bf16";
    codec_params p;
    if (t->dtype == ST_OTHER || !codec_parse(name, codec, &p))
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: tensor '%s' has type %s, expected F32, F16 or BF16%s", s->files[t->file].path,
                       t->name, t->dtype_name, strcmp(t->dtype_name, "F8_E4M3") ? "" : ", or a quantization_config in config.json that says what its scales are");
    return SNUG_OK;
}

static bool is_scale(const store *s, const char *name) {
    const char *suffix = ".weight_scale";
    const size_t n = strlen(name), m = strlen(suffix);
    return (s->cfg.ternary == TERNARY_TIMES || s->cfg.ternary == TERNARY_OVER) && n >= m && !strcmp(name + n - m, suffix);
}

/* What tensor t is, as one of the model's: of one role, of several, or of experts. */
typedef struct found_name { char name[64]; tensor_role role[ARCH_MAX_ROLES]; size_t n_roles; int layer; bool stack; } found_name;

static bool find_name(const store *s, const st_tensor *t, found_name *out) {
    int expert = EXPERT_NONE;
    out->stack = false;
    out->n_roles = roles_from_hf(s->cfg.arch, t->name, &out->layer, out->role);
    if (out->n_roles > 1) return snprintf(out->name, sizeof out->name, "blk.%d.fused", out->layer) > 0;
    if (!canonical_from_hf(s->cfg.arch, t->name, out->name)) return false;
    out->n_roles = 1;
    out->role[0] = role_from_name(out->name, &out->layer, &expert, NULL);
    out->stack = expert == EXPERT_ALL;
    const arch_experts *experts = s->cfg.arch->experts;
    if (experts && experts->optional && expert == EXPERT_NONE && role_in_expert(&s->cfg, out->role[0], out->layer)) role_tensor_name(out->role[0], out->layer, EXPERT_SHARED, out->name);
    return true;
}

static bool is_norm(tensor_role r) { return !strcmp(role_name(r), "norm"); }

/* A state space's vectors, whose dimensions folders write otherwise: (channels, 1, conv), (heads), (inner). A wrong number of them is found out later. */
static void shape_ssm(const store *s, const st_tensor *t, tensor_role r, int layer, found_term *f) {
    uint64_t rows, cols, n = 1;
    role_shape(&s->cfg, r, layer, EXPERT_NONE, &rows, &cols);
    for (uint32_t d = 0; d < t->n_dims; d++) n *= t->dims[d]; /* st_open_dir has checked the product */
    f->rows = n == rows * cols ? rows : 1;
    f->cols = n == rows * cols ? cols : n;
}

static snug_err place_tensor(store *s, store_tensor **slots, const st_tensor *t, snug_error *err) {
    found_name n;
    if (!find_name(s, t, &n))
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: tensor '%s' is no part of %s; without it the result would be wrong", s->files[t->file].path, t->name, s->cfg.arch->hf_class);
    const bool ssm = n.layer >= 0 && role_in_ssm(n.role[0]) && (int)n.role[0] >= (int)ROLE_MATRICES;
    if (n.stack ? t->n_dims != 3 : t->n_dims != 1 && t->n_dims != 2 && !(ssm && t->n_dims == 3))
        return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' has %u dimensions, expected %s", s->files[t->file].path, t->name, t->n_dims, n.stack ? "3" : "1 or 2");
    found_term f = {.name = n.name, .shown = t->name, .loss = -1};
    f.rows = n.stack ? t->dims[1] : t->n_dims == 2 ? t->dims[0] : 1;
    f.cols = t->dims[t->n_dims - 1];
    if (ssm) shape_ssm(s, t, n.role[0], n.layer, &f);
    f.term = (store_term){.rows = f.rows, .cols = f.cols, .file = t->file, .offset = t->offset, .bytes = t->bytes, .checked_bytes = t->bytes};
    const bool ternary = s->cfg.ternary != TERNARY_PLAIN && (int)n.role[0] < (int)ROLE_MATRICES && role_in_layer(n.role[0]) && t->n_dims == 2;
    snug_err rc = ternary ? store_make_ternary(s, t, &f, err) : store_f8_is(s, t) ? store_f8(s, t, &f, err) : store_float_codec(s, t, &f.term.codec, err);
    if (!rc && s->cfg.arch->gains_less_one && is_norm(n.role[0]) && f.rows == 1) rc = store_make_vector(s, t, store_gain, &f, err);
    if (!rc && n.role[0] == ROLE_SSM_A) rc = store_make_vector(s, t, store_decay, &f, err);
    if (!rc && s->cfg.arch->transposed && n.layer >= 0 && (int)n.role[0] < (int)ROLE_MATRICES && t->n_dims == 2) rc = store_make_transposed(s, t, &f, err);
    if (!rc && s->cfg.arch->qkv_by_head && n.n_roles > 1) rc = store_make_unwoven(s, t, &f, err);
    if (rc) return rc;
    if (n.n_roles > 1) return store_place_fused(s, slots, &f, n.layer, n.role, n.n_roles, err);
    return n.stack ? store_place_stack(s, slots, &f, t->dims[0], err) : store_place(s, slots, &f, err);
}

snug_err store_place_hf(store *s, store_tensor **slots, snug_error *err) {
    for (size_t i = 0; i < s->st->n_tensors; i++) {
        const st_tensor *t = &s->st->tensors[i];
        if (hf_name_harmless(s->cfg.arch, t->name) || name_of_further_layer(&s->cfg, t->name) || is_scale(s, t->name) || store_f8_beside(s, t)) continue;
        snug_err rc = (store_turns_is(s, t) ? store_turns_place : place_tensor)(s, slots, t, err);
        if (rc) return rc;
    }
    return SNUG_OK;
}
