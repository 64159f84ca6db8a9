/* Opening a model and saying what it is. */
#include "model/arch.h"
#include "run/run.h"

#include "base/err.h"
#include "base/io.h"

#include <stdlib.h>
#include <string.h>

static const char *const format_names[] = {[STORE_HF] = "hf", [STORE_GGUF] = "gguf", [STORE_SNUG] = "snug"};

static uint32_t expert_layers(const config *c) {
    uint32_t n = 0;
    for (int l = 0; l < (int)c->n_layers; l++) n += layer_experts(c, l) > 0;
    return n;
}

static uint64_t weights_used(const store *s) {
    uint64_t of_experts = 0;
    for (size_t i = 0; i < s->n_tensors; i++)
        if (s->tensors[i].expert >= 0) of_experts += s->tensors[i].rows * s->tensors[i].cols;
    return s->n_weights - (s->cfg.n_experts ? of_experts / s->cfg.n_experts * (s->cfg.n_experts - s->cfg.n_experts_used) : 0); /* experts are alike */
}

static void fill_info(snug_model *m) {
    const store *s = m->store;
    const config *c = &s->cfg;
    const kv_params kv = graph_kv(c, c->n_layers, 1, 1, SNUG_KV_F16);
    m->info = (snug_model_info){
        .path = s->path,
        .format = format_names[s->kind],
        .architecture = c->arch->gguf_name,
        .name = c->name,
        .n_layers = c->n_layers,
        .n_embd = c->n_embd,
        .n_heads = c->n_heads,
        .n_kv_heads = c->n_kv_heads,
        .head_dim = c->head_dim,
        .n_ff = c->n_ff,
        .n_experts = c->n_experts,
        .n_experts_used = c->n_experts_used,
        .n_expert_layers = expert_layers(c),
        .n_ff_shared = c->n_ff_shared,
        .n_ff_dense = c->n_experts && expert_layers(c) < c->n_layers ? c->n_ff_dense : 0,
        .n_vocab = c->n_vocab,
        .n_ctx_train = c->n_ctx_train,
        .n_recurrent = kv.n_states,
        .state_bytes = kv.n_states * kv.state_floats * sizeof(float),
        .n_weights = s->n_weights,
        .n_weights_used = weights_used(s),
        .file_bytes = s->file_bytes,
        .tensor_bytes = s->tensor_bytes,
        .bpw = s->n_weights ? 8.0 * (double)s->file_bytes / (double)s->n_weights : 0,
        .predicted_kl = s->predicted_kl,
        .cached_numbers = (uint64_t)kv.n_layers * kv.n_kv_heads * kv_numbers(&kv),
    };
}

snug_err snug_model_open(const char *path, snug_model **out, snug_error *err) {
    if (!out) return err_set(err, SNUG_ERR_ARG, "snug_model_open: out is NULL");
    *out = NULL;
    if (!path) return err_set(err, SNUG_ERR_ARG, "snug_model_open: path is NULL");
    snug_model *m = calloc(1, sizeof *m);
    if (!m) return err_nomem(err, sizeof *m);
    pthread_mutex_init(&m->lock, NULL);
    snug_err rc = store_open(path, false, &m->store, err);
    if (rc) {
        snug_model_close(&m);
        return rc;
    }
    fill_info(m);
    *out = m;
    return SNUG_OK;
}

void snug_model_close(snug_model **model) {
    if (!model || !*model) return;
    snug_model *m = *model;
    loaded_unmap(&m->weights);
    tokenizer_close(&m->tok);
    store_close(&m->store);
    pthread_mutex_destroy(&m->lock);
    free(m);
    *model = NULL;
}

uint64_t snug_resident_bytes(void) { return io_current_rss(); }
uint64_t snug_peak_resident_bytes(void) { return io_peak_rss(); }

snug_err snug_model_lock(snug_model *model, snug_error *err) {
    const loaded *mapped;
    if (!model) return err_set(err, SNUG_ERR_ARG, "snug_model_lock: model is NULL");
    snug_err rc = model_weights(model, &mapped, err);
    if (rc) return rc;
    pthread_mutex_lock(&model->lock);
    rc = loaded_lock(model->weights, err);
    pthread_mutex_unlock(&model->lock);
    return rc;
}

const snug_model_info *snug_model_get_info(const snug_model *model) { return &model->info; }
size_t snug_model_n_tensors(const snug_model *model) { return model->store->n_tensors; }

snug_err snug_model_tensor(const snug_model *model, size_t i, snug_tensor_info *out) {
    if (!out || i >= model->store->n_tensors) return SNUG_ERR_ARG;
    const store_tensor *t = &model->store->tensors[i];
    uint64_t bytes = 0, run_bytes = 0;
    for (uint32_t k = 0; k < t->n_terms; k++) bytes += t->term[k].bytes, run_bytes += loaded_term_bytes(&t->term[k]);
    *out = (snug_tensor_info){.name = t->name, .codec = t->codec_name, .rows = t->rows, .cols = t->cols, .bytes = bytes, .run_bytes = run_bytes,
                              .layer = t->layer, .expert = t->expert, .role = role_name(t->role), .predicted_loss = t->predicted_loss};
    return SNUG_OK;
}

snug_err snug_model_verify(const char *path, int threads, snug_progress progress, snug_error *err) {
    store *s = NULL;
    if (!path) return err_set(err, SNUG_ERR_ARG, "snug_model_verify: path is NULL");
    snug_err rc = store_open(path, true, &s, err);
    if (!rc) rc = store_verify(s, threads, progress, err);
    store_close(&s);
    return rc;
}

/* ------------------------------------------------------- made when first needed ---- */

snug_err model_tokenizer(const snug_model *model, const tokenizer **out, snug_error *err) {
    snug_model *m = (snug_model *)model; /* the lazy members are guarded by the lock */
    pthread_mutex_lock(&m->lock);
    if (!m->tok_tried) {
        m->tok_error.code = SNUG_OK;
        m->tok_error.code = store_open_tokenizer(m->store, &m->tok, &m->tok_error);
        m->tok_tried = true;
    }
    *out = m->tok;
    snug_err rc = m->tok ? SNUG_OK : m->tok_error.code;
    if (rc && err) *err = m->tok_error;
    pthread_mutex_unlock(&m->lock);
    return rc;
}

snug_err model_weights(const snug_model *model, const loaded **out, snug_error *err) {
    snug_model *m = (snug_model *)model;
    pthread_mutex_lock(&m->lock);
    snug_err rc = m->weights ? SNUG_OK : loaded_map(m->store, &m->weights, err);
    *out = m->weights;
    pthread_mutex_unlock(&m->lock);
    return rc;
}
