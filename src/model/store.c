/* Opening a store: find out what the path is, read the configuration, put every tensor of the file in its place (role
 * and layer), and insist that each is there, has the shape that the configuration demands and that nothing is left
 * over: a weight that the engine would ignore means a wrong result. */
#include "base/checked.h"
#include "base/err.h"
#include "base/hash.h"
#include "codec/transform.h"
#include "model/arch.h"
#include "model/store_impl.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Slots: ROLE_COUNT for the whole model, then ROLE_COUNT for each layer, then three for each expert. */
static size_t n_slots(const config *c) {
    return (size_t)(c->n_layers + 1) * ROLE_COUNT + (size_t)c->n_layers * c->n_experts * EXPERT_MATRICES;
}

static size_t slot_of(const config *c, tensor_role role, int layer, int expert) {
    if (expert == EXPERT_NONE) return (size_t)(layer + 1) * ROLE_COUNT + role;
    return (size_t)(c->n_layers + 1) * ROLE_COUNT + ((size_t)layer * c->n_experts + (size_t)expert) * EXPERT_MATRICES + (role - ROLE_GATE);
}

/* Has the model such a tensor? */
static bool expected(const config *c, tensor_role r, int layer, int expert) {
    return expert == EXPERT_NONE ? role_allowed(c, r, layer) : role_in_expert(c, r, layer);
}

/* The file that a term was found in: one of a folder's, or of a model's parts. */
static const char *file_of(const store *s, const found_term *f) {
    const bool made = s->made.path && f->term.file + 1 == s->n_files;
    return f->term.file < s->n_files && !made ? s->files[f->term.file].path : s->path;
}

static snug_err check_shape(const store *s, const found_term *f, tensor_role role, int layer, int expert, snug_error *err) {
    uint64_t rows, cols;
    role_shape(&s->cfg, role, layer, expert, &rows, &cols);
    if (f->rows == rows && f->cols == cols) return SNUG_OK;
    return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' is %llu x %llu, expected %llu x %llu by the configuration",
                   file_of(s, f), f->shown, (unsigned long long)f->rows, (unsigned long long)f->cols,
                   (unsigned long long)rows, (unsigned long long)cols);
}

static snug_err check_term(const store *s, const found_term *f, snug_error *err) {
    const store_term *t = &f->term;
    wt unused;
    if (t->row0 > f->rows || t->rows > f->rows - t->row0 || t->col0 > f->cols || t->cols > f->cols - t->col0 ||
        t->col0 % 32 || t->row0 % store_term_tile(t) || t->rows == 0 || t->cols == 0)
        return err_set(err, SNUG_ERR_FORMAT,
                       "%s: term %u of tensor '%s' covers %llu x %llu at (%llu, %llu) of %llu x %llu", file_of(s, f),
                       f->index, f->shown, (unsigned long long)t->rows, (unsigned long long)t->cols,
                       (unsigned long long)t->row0, (unsigned long long)t->col0, (unsigned long long)f->rows,
                       (unsigned long long)f->cols);
    if (!t->apart.step && (t->file >= s->n_files || t->offset > s->files[t->file].bytes || t->bytes > s->files[t->file].bytes - t->offset))
        return err_at(err, SNUG_ERR_FORMAT, t->offset, "%s: tensor '%s' does not lie inside its file", file_of(s, f),
                      f->shown);
    if (!transform_takes(t->params.in, f->cols))
        return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' is transformed, expected a multiple of 16 columns, it has %llu", file_of(s, f), f->shown,
                       (unsigned long long)f->cols);
    snug_err rc = wt_open(t->codec, t->params, t->rows, t->cols, (const uint8_t *)"", t->bytes, &unused, err);
    return rc ? err_prefix(err, rc, "%s: tensor '%s'", file_of(s, f), f->shown) : SNUG_OK;
}

static snug_err check_place(const store *s, const found_term *f, tensor_role role, int layer, int expert, snug_error *err) {
    if (layer >= (int)s->cfg.n_layers)
        return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' is in layer %d, expected layers 0 to %u", file_of(s, f),
                       f->shown, layer, s->cfg.n_layers - 1);
    if (!expected(&s->cfg, role, layer, expert))
        return err_set(err, SNUG_ERR_UNSUPPORTED,
                       "%s: tensor '%s' is no part of a %s model; without it the result would be wrong", file_of(s, f),
                       f->shown, s->cfg.arch->gguf_name);
    if (expert >= (int)s->cfg.n_experts)
        return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' is of expert %d, expected experts 0 to %u", file_of(s, f), f->shown, expert, s->cfg.n_experts - 1);
    return SNUG_OK;
}

static snug_err place(store *s, store_tensor **slots, const found_term *f, tensor_role role, int layer, int expert, snug_error *err) {
    snug_err rc = check_place(s, f, role, layer, expert, err);
    if (rc || (role == ROLE_HEAD && s->cfg.tied)) return rc; /* a copy of the embedding: counts once */
    if ((rc = check_shape(s, f, role, layer, expert, err)) || (rc = check_term(s, f, err))) return rc;

    store_tensor **slot = &slots[slot_of(&s->cfg, role, layer, expert)], *t = *slot;
    if (!t) {
        t = *slot = arena_calloc(&s->mem, 1, sizeof *t);
        if (!t || !(t->name = arena_strdup(&s->mem, f->name))) return err_nomem(err, sizeof *t);
        *t = (store_tensor){.name = t->name, .role = role, .layer = layer, .expert = expert, .rows = f->rows, .cols = f->cols,
                            .predicted_loss = -1};
        bool permuted = s->cfg.arch->gguf_permutes_qk && !s->cfg.rope_interleaved;
        if (permuted && (role == ROLE_Q || role == ROLE_Q_BIAS)) t->permute_heads = s->cfg.n_heads;
        if (permuted && (role == ROLE_K || role == ROLE_K_BIAS)) t->permute_heads = s->cfg.n_kv_heads;
    }
    if (f->index != t->n_terms) /* terms come in order, so a repeated or missing one shows here */
        return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' is term %u of its weight, expected term %u", s->path,
                       f->shown, f->index, t->n_terms);
    t->term[t->n_terms++] = f->term;
    if (f->index == 0) t->predicted_loss = f->loss;
    return SNUG_OK;
}

snug_err store_place(store *s, store_tensor **slots, const found_term *f, snug_error *err) {
    int layer = -1, expert = EXPERT_NONE;
    tensor_role role = role_from_name(f->name, &layer, &expert, NULL);
    role = role_as_named(s->cfg.arch, role);
    if (expert == EXPERT_ALL)
        return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' is no stack of experts' matrices", s->path, f->shown);
    if (expert == EXPERT_SHARED || (expert == EXPERT_NONE && role >= ROLE_GATE && role <= ROLE_DOWN)) { /* one place, two names */
        const bool mixed = layer >= 0 && layer < (int)s->cfg.n_layers && layer_experts(&s->cfg, layer);
        if ((expert == EXPERT_SHARED) != mixed)
            return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: tensor '%s' is no part of a %s model; without it the result would be wrong", file_of(s, f), f->shown, s->cfg.arch->gguf_name);
        expert = EXPERT_NONE;
    }
    return place(s, slots, f, role, layer, expert, err);
}

/* Matrix i of a stack, or half of it: rows [row0, row0 + n_rows). */
static snug_err place_part(store *s, store_tensor **slots, const found_term *f, tensor_role role, int layer, int expert, uint64_t row0, uint64_t n_rows,
                           snug_error *err) {
    char name[64];
    const store_term *t = &f->term;
    found_term part = *f;
    role_tensor_name(role, layer, expert == EXPERT_NONE && role_in_expert(&s->cfg, role, layer) ? EXPERT_SHARED : expert, name);
    part.name = name;
    part.rows = part.term.rows = n_rows;
    part.term.bytes = t->codec->bytes(t->params, n_rows, t->cols);
    part.term.offset = t->offset + (row0 ? t->codec->bytes(t->params, row0, t->cols) : 0);
    part.term.scales.row0 += row0;
    part.term.checked_bytes = row0 ? 0 : t->bytes;
    part.loss = row0 || f->loss < 0 ? f->loss < 0 ? -1 : 0 : f->loss;
    return place(s, slots, &part, role, layer, expert, err);
}

snug_err store_place_stack(store *s, store_tensor **slots, const found_term *f, uint64_t n, snug_error *err) {
    int layer = -1, expert = EXPERT_NONE;
    bool gate_up = false;
    tensor_role role = role_from_name(f->name, &layer, &expert, &gate_up);
    snug_err rc = check_place(s, f, role, layer, expert, err);
    if (rc) return rc;
    if (n != s->cfg.n_experts || (gate_up && f->rows % 2))
        return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' is %llu x %llu x %llu, expected %u experts by the configuration", s->path, f->shown,
                       (unsigned long long)n, (unsigned long long)f->rows, (unsigned long long)f->cols, s->cfg.n_experts);
    uint64_t want_rows, want_cols; /* before products are made of what the file says */
    role_shape(&s->cfg, role, layer, expert, &want_rows, &want_cols);
    const uint64_t rows = gate_up ? f->rows / 2 : f->rows;
    if (rows != want_rows || f->cols != want_cols || f->term.bytes != f->term.codec->bytes(f->term.params, f->rows * n, f->cols))
        return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' has experts of %llu x %llu, expected %llu x %llu by the configuration", s->path, f->shown,
                       (unsigned long long)f->rows, (unsigned long long)f->cols, (unsigned long long)want_rows * (gate_up ? 2 : 1),
                       (unsigned long long)want_cols);
    for (uint64_t i = 0; i < n && !rc; i++) {
        rc = place_part(s, slots, f, role, layer, (int)i, i * f->rows, rows, err);
        if (!rc && gate_up) rc = place_part(s, slots, f, ROLE_UP, layer, (int)i, i * f->rows + rows, rows, err);
    }
    return rc;
}

/* Columns [col0, col0 + n_cols) of a vector. */
static snug_err place_piece(store *s, store_tensor **slots, const found_term *f, tensor_role role, int layer, uint64_t col0, uint64_t n_cols, snug_error *err) {
    char name[64];
    const store_term *t = &f->term;
    found_term part = *f;
    role_tensor_name(role, layer, EXPERT_NONE, name);
    part.name = name;
    part.cols = part.term.cols = n_cols;
    part.term.bytes = t->codec->bytes(t->params, 1, n_cols);
    part.term.offset = t->offset + (col0 ? t->codec->bytes(t->params, 1, col0) : 0);
    part.term.checked_bytes = col0 ? 0 : t->bytes;
    return place(s, slots, &part, role, layer, EXPERT_NONE, err);
}

snug_err store_place_fused(store *s, store_tensor **slots, const found_term *f, int layer, const tensor_role *roles, size_t n_roles, snug_error *err) {
    uint64_t rows[ARCH_MAX_ROLES], cols, all = 0;
    const bool vector = (int)roles[0] >= (int)ROLE_MATRICES;
    for (size_t i = 0; i < n_roles; i++) {
        snug_err rc = check_place(s, f, roles[i], layer, EXPERT_NONE, err);
        if (rc) return rc;
        role_shape(&s->cfg, roles[i], layer, EXPERT_NONE, &rows[i], &cols);
        if (vector) rows[i] = cols;
        all += rows[i];
    }
    if (vector ? f->cols != all || f->rows != 1 : f->rows != all || f->cols != cols)
        return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' is %llu x %llu, expected %llu x %llu by the configuration", file_of(s, f), f->shown, (unsigned long long)f->rows,
                       (unsigned long long)f->cols, (unsigned long long)(vector ? 1 : all), (unsigned long long)(vector ? all : cols));
    snug_err rc = SNUG_OK;
    uint64_t at = 0;
    for (size_t i = 0; i < n_roles && !rc; at += rows[i++])
        rc = vector ? place_piece(s, slots, f, roles[i], layer, at, rows[i], err) : place_part(s, slots, f, roles[i], layer, EXPERT_NONE, at, rows[i], err);
    return rc;
}

/* The role's place in reading order: embedding, then per layer as the computation goes. */
static const tensor_role layer_order[] = {
    ROLE_ATTN_NORM, ROLE_ATTN_NORM_BIAS, ROLE_Q, ROLE_Q_BIAS, ROLE_K, ROLE_K_BIAS, ROLE_V, ROLE_V_BIAS, ROLE_Q_A, ROLE_Q_A_NORM, ROLE_Q_B, ROLE_KV_A, ROLE_KV_A_NORM, ROLE_KV_B,
    ROLE_Q_NORM, ROLE_K_NORM, ROLE_SINKS, ROLE_ATTN_SUB_NORM, ROLE_O, ROLE_O_BIAS,
    ROLE_SSM_IN, ROLE_SSM_CONV, ROLE_SSM_CONV_BIAS, ROLE_SSM_DT_BIAS, ROLE_SSM_A, ROLE_SSM_D, ROLE_SSM_NORM, ROLE_SSM_OUT,
    ROLE_ATTN_POST_NORM, ROLE_FFN_NORM, ROLE_FFN_NORM_BIAS, ROLE_GATE, ROLE_GATE_BIAS, ROLE_UP, ROLE_UP_BIAS, ROLE_FFN_SUB_NORM, ROLE_DOWN, ROLE_DOWN_BIAS, ROLE_FFN_POST_NORM, ROLE_SHARED_GATE, ROLE_ROUTER,
    ROLE_ROUTER_BIAS, ROLE_CHOICE_BIAS, ROLE_GATE_EXPS_BIAS, ROLE_UP_EXPS_BIAS, ROLE_DOWN_EXPS_BIAS};

/* Moves one slot's tensor to the list; a missing one is an error when its role demands it, or when layer 0 has it. */
static snug_err take(store *s, store_tensor **slots, tensor_role role, int layer, int expert, snug_error *err) {
    const store_tensor *t = slots[slot_of(&s->cfg, role, layer, expert)];
    const bool required = expert != EXPERT_NONE || role_required(&s->cfg, role, layer), first_has = layer > 0 && slots[slot_of(&s->cfg, role, 0, expert)];
    if (!t && expected(&s->cfg, role, layer, expert) && (required || first_has)) {
        char name[64];
        role_tensor_name(role_as_named(s->cfg.arch, role), layer, expert == EXPERT_NONE && role_in_expert(&s->cfg, role, layer) ? EXPERT_SHARED : expert, name);
        return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' is missing", s->path, name);
    }
    if (!t) return SNUG_OK;
    if (layer > 0 && !first_has && !required)
        return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' is there but layer 0 has none of its kind", s->path,
                       t->name);
    store_tensor *to = &s->tensors[s->n_tensors++];
    *to = *t;
    comp c = {.n_terms = t->n_terms};
    for (uint32_t i = 0; i < t->n_terms; i++) {
        c.term[i] = (comp_term){t->term[i].codec, t->term[i].params};
        s->tensor_bytes += t->term[i].bytes;
    }
    comp_format(&c, to->codec_name);
    if (role != ROLE_ROPE_FREQS) s->n_weights += t->rows * t->cols;
    return SNUG_OK;
}

static snug_err take_layer(store *s, store_tensor **slots, int layer, snug_error *err) {
    snug_err rc = SNUG_OK;
    s->layers_at[layer] = s->n_tensors;
    for (size_t i = 0; !rc && i < sizeof layer_order / sizeof *layer_order; i++)
        rc = take(s, slots, layer_order[i], layer, EXPERT_NONE, err);
    if (!rc && s->experts_at) s->experts_at[layer] = s->n_tensors;
    for (int e = 0; !rc && e < (int)layer_experts(&s->cfg, layer); e++)
        for (tensor_role r = ROLE_GATE; !rc && r <= ROLE_DOWN; r++) rc = take(s, slots, r, layer, e, err);
    return rc;
}

static snug_err collect(store *s, store_tensor **slots, snug_error *err) {
    size_t n = 0;
    for (size_t i = 0; i < n_slots(&s->cfg); i++) n += slots[i] != NULL;
    s->tensors = arena_calloc(&s->mem, n + 1, sizeof *s->tensors);
    s->experts_at = s->cfg.n_experts ? arena_calloc(&s->mem, s->cfg.n_layers, sizeof *s->experts_at) : NULL;
    s->layers_at = arena_calloc(&s->mem, (size_t)s->cfg.n_layers + 1, sizeof *s->layers_at);
    if (!s->tensors || !s->layers_at || (s->cfg.n_experts && !s->experts_at)) return err_nomem(err, n * sizeof *s->tensors);
    snug_err rc = take(s, slots, ROLE_EMBD, -1, EXPERT_NONE, err);
    if (!rc) rc = take(s, slots, ROLE_POSITIONS, -1, EXPERT_NONE, err);
    if (!rc) rc = take(s, slots, ROLE_ROPE_FREQS, -1, EXPERT_NONE, err);
    for (int layer = 0; !rc && layer < (int)s->cfg.n_layers; layer++) rc = take_layer(s, slots, layer, err);
    s->layers_at[s->cfg.n_layers] = s->n_tensors;
    if (!rc) rc = take(s, slots, ROLE_OUT_NORM, -1, EXPERT_NONE, err);
    if (!rc) rc = take(s, slots, ROLE_OUT_NORM_BIAS, -1, EXPERT_NONE, err);
    if (!rc) rc = take(s, slots, ROLE_HEAD, -1, EXPERT_NONE, err);
    return rc;
}

static bool has_head(const store *s) {
    tensor_role role[ARCH_MAX_ROLES];
    int layer;
    for (size_t i = 0; i < s->st->n_tensors; i++)
        if (roles_from_hf(s->cfg.arch, s->st->tensors[i].name, &layer, role) == 1 && role[0] == ROLE_HEAD) return true;
    return false;
}

static snug_err open_format(store *s, snug_error *err) {
    snug_err rc;
    if (io_is_dir(s->path)) {
        s->kind = STORE_HF;
        if ((rc = config_from_hf(s->path, &s->cfg, err)) || (rc = st_open_dir(s->path, &s->st, err))) return rc;
        s->files = s->st->files;
        s->n_files = s->st->n_files;
        s->cfg.tied |= !has_head(s);
        return SNUG_OK;
    }
    if ((rc = gguf_open_parts(s->path, &s->gguf, err))) return rc;
    s->files = s->gguf->files;
    s->n_files = s->gguf->n_files;
    s->kind = gguf_find(s->gguf, "snug.version") ? STORE_SNUG : STORE_GGUF;
    if (s->kind == STORE_SNUG && (rc = store_snug_header(s, err))) return rc;
    return config_from_gguf(s->gguf, &s->cfg, err);
}

/* Files that the model has. */
static size_t n_own_files(const store *s) { return s->n_files - (s->made.path != NULL); }

static snug_err open_tensors(store *s, snug_error *err) {
    store_tensor **slots = calloc(n_slots(&s->cfg), sizeof *slots);
    if (!slots) return err_nomem(err, n_slots(&s->cfg) * sizeof *slots);
    snug_err rc = s->kind == STORE_HF ? store_place_hf(s, slots, err) : store_place_gguf(s, slots, err);
    if (!rc) rc = collect(s, slots, err);
    free(slots);
    for (size_t i = 0; i < n_own_files(s); i++) s->file_bytes += s->files[i].bytes;
    return rc;
}

snug_err store_open(const char *path, bool with_tokenizer, store **out, snug_error *err) {
    *out = NULL;
    store *s = calloc(1, sizeof *s);
    if (!s) return err_nomem(err, sizeof *s);
    s->predicted_kl = -1;
    s->path = arena_strdup(&s->mem, path);
    snug_err rc = s->path ? SNUG_OK : err_nomem(err, strlen(path));
    if (!rc) rc = open_format(s, err);
    if (!rc) rc = open_tensors(s, err);
    if (!rc && with_tokenizer) rc = store_open_tokenizer(s, &s->tok, err);
    if (rc) store_close(&s);
    *out = s;
    return rc;
}

snug_err store_open_tokenizer(const store *s, tokenizer **out, snug_error *err) {
    return s->kind == STORE_HF ? tokenizer_open_hf(s->path, out, err) : tokenizer_open_gguf(s->gguf, out, err);
}

void store_close(store **s) {
    if (!*s) return;
    tokenizer_close(&(*s)->tok);
    st_close(&(*s)->st);
    gguf_close(&(*s)->gguf);
    if ((*s)->made.path) io_close(&(*s)->made);
    arena_fini(&(*s)->mem);
    free(*s);
    *s = NULL;
}

static const store_tensor *find_in(const store *s, size_t begin, size_t end, tensor_role role) {
    for (size_t i = begin; i < end && s->tensors[i].expert == EXPERT_NONE; i++)
        if (s->tensors[i].role == role) return &s->tensors[i];
    return NULL;
}

/* A layer's own tensors stand before its experts', of which there may be thousands. */
const store_tensor *store_find(const store *s, tensor_role role, int layer) {
    const uint32_t n_layers = s->cfg.n_layers;
    if (layer >= (int)n_layers) return NULL;
    if (layer >= 0) return find_in(s, s->layers_at[layer], s->layers_at[layer + 1], role);
    const store_tensor *t = find_in(s, 0, s->layers_at[0], role);
    return t ? t : find_in(s, s->layers_at[n_layers], s->n_tensors, role);
}

const store_tensor *store_expert(const store *s, tensor_role role, int layer, int expert) {
    return &s->tensors[s->experts_at[layer] + (size_t)expert * EXPERT_MATRICES + (role - ROLE_GATE)];
}

/* -------------------------------------------------------------- fingerprint ---- */

static uint64_t hash_number(uint64_t h, double v) { return hash_bytes_seeded(&v, sizeof v, h); }

static uint64_t hash_range(const store *s, uint32_t file, uint64_t offset, uint64_t n, uint64_t h) {
    uint8_t chunk[4096];
    const io_file *f = &s->files[file];
    if (offset >= f->bytes) return h;
    n = min_u64(min_u64(n, f->bytes - offset), sizeof chunk);
    if (io_pread(f, offset, chunk, (size_t)n, NULL)) return h;
    return hash_bytes_seeded(chunk, (size_t)n, h);
}

uint64_t store_fingerprint(const store *s) {
    const config *c = &s->cfg;
    uint64_t h = hash_bytes(c->arch->hf_class, strlen(c->arch->hf_class));
    const double numbers[] = {s->kind,
                              c->n_layers,
                              c->n_embd,
                              c->n_heads,
                              c->n_kv_heads,
                              c->head_dim,
                              c->n_ff,
                              c->n_vocab,
                              c->norm_eps,
                              c->rope_base,
                              c->scaling,
                              c->scale_factor,
                              c->low_freq_factor,
                              c->high_freq_factor,
                              c->scale_orig_ctx,
                              c->rope_interleaved,
                              c->rope_base_local,
                              c->beta_fast,
                              c->beta_slow,
                              c->yarn_exact,
                              c->rope_magnitude,
                              c->rope_dims,
                              c->sliding_window,
                              c->tied,
                              c->act,
                              c->embd_scale,
                              c->residual_scale,
                              c->logit_scale,
                              c->attn_scale,
                              c->attn_softcap,
                              c->parallel,
                              c->logit_softcap,
                              c->swiglu_limit,
                              c->swiglu_alpha,
                              c->ternary};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) h = hash_number(h, numbers[i]);
    h = hash_bytes_seeded(c->layer, c->n_layers, h);
    if (c->scaling == ROPE_LONG) h = hash_bytes_seeded(c->rope_long, sizeof c->rope_long, hash_bytes_seeded(c->rope_short, sizeof c->rope_short, h));
    if (c->n_experts) h = hash_number(hash_number(hash_number(hash_number(h, c->n_experts), c->n_experts_used), c->norm_topk), c->n_ff_shared);
    const double of_few[] = {c->q_rank, c->kv_rank, c->value_dim, c->latent_eps, c->sigmoid, c->choice_bias, c->n_groups, c->n_groups_used, c->share_scale};
    for (size_t i = 0; i < sizeof of_few / sizeof *of_few; i++) h = hash_number(h, of_few[i]);
    if (c->ssm.inner) h = hash_bytes_seeded(&c->ssm, sizeof c->ssm, h);
    for (size_t i = 0; i < n_own_files(s); i++) {
        struct stat st;
        h = hash_number(h, (double)s->files[i].bytes);
        if (fstat(s->files[i].fd, &st) == 0) h = hash_bytes_seeded(&st.st_mtim, sizeof st.st_mtim, h);
        h = hash_range(s, (uint32_t)i, 0, 4096, h);
    }
    for (size_t i = 0; i < s->n_tensors; i++) {
        const store_tensor *t = &s->tensors[i];
        h = hash_bytes_seeded(t->name, strlen(t->name), h);
        h = hash_bytes_seeded(t->codec_name, strlen(t->codec_name), h);
        for (uint32_t k = 0; k < t->n_terms; k++) { /* the start and the middle of every payload */
            h = hash_number(hash_number(h, t->term[k].file), (double)t->term[k].offset);
            h = hash_range(s, t->term[k].file, t->term[k].offset, min_u64(t->term[k].bytes, 256), h);
            h = hash_range(s, t->term[k].file, t->term[k].offset + t->term[k].bytes / 2,
                           min_u64((t->term[k].bytes + 1) / 2, 256), h);
        }
    }
    return h;
}
