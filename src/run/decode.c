/* One pass over the weights for a batch of items. Everything that can be wrong with the batch is found before anything
 * is computed; if the computation fails after that, what was appended to the sequences is taken back. */
#include "run/run.h"

#include "base/checked.h"
#include "base/err.h"

#include <stdlib.h>
#include <string.h>

/* Checks the items and counts those of each sequence in seq->pending. */
static snug_err check_items(snug_context *c, const snug_item *items, size_t n, size_t *wanted, snug_error *err) {
    const config *cfg = &c->model->store->cfg;
    for (size_t i = 0; i < n; i++)
        if (!items[i].seq || items[i].seq->ctx != c || !items[i].seq->kv)
            return err_set(err, SNUG_ERR_ARG, "item %zu: the sequence does not belong to this context", i);
    for (size_t i = 0; i < n; i++) items[i].seq->pending = 0;
    for (size_t i = 0; i < n; i++) {
        snug_seq *s = items[i].seq;
        uint32_t expected = kv_seq_length(s->kv) + s->pending;
        if (items[i].token < 0 || (uint32_t)items[i].token >= cfg->n_vocab)
            return err_set(err, SNUG_ERR_ARG, "item %zu: token %d is outside the vocabulary of %u", i, items[i].token,
                           cfg->n_vocab);
        if (items[i].pos != expected)
            return err_set(err, SNUG_ERR_ARG, "item %zu: position %u, expected %u, the sequence's length there", i,
                           items[i].pos, expected);
        if (expected >= c->p.n_ctx)
            return err_set(err, SNUG_ERR_BUDGET, "item %zu: the context of %u positions is full", i, c->p.n_ctx);
        s->pending++;
        *wanted += items[i].wants_logits;
    }
    return SNUG_OK;
}

/* Room for `wanted` rows of logits. One per sequence and drafted token is there from the start; batches that want more
 * (judging a text) grow it once. */
static snug_err ensure_logits(snug_context *c, size_t wanted, snug_error *err) {
    uint64_t bytes, n_vocab = c->model->store->cfg.n_vocab;
    if (wanted <= c->logit_rows) return SNUG_OK;
    if (c->p.ram_bytes)
        return err_set(err, SNUG_ERR_BUDGET,
                       "%zu rows of logits in one batch; a context with a memory limit has room for %zu", wanted,
                       c->logit_rows);
    float *grown = checked_mul(wanted, 4 * n_vocab, &bytes) ? malloc(bytes) : NULL;
    if (!grown) return err_nomem(err, wanted * 4 * n_vocab);
    free(c->logits);
    c->logits = grown;
    c->logit_rows = wanted;
    return SNUG_OK;
}

/* Reserves for all sequences, then all layers. */
static snug_err compute(snug_context *c, const snug_item *items, size_t n, size_t wanted, snug_error *err) {
    const config *cfg = &c->model->store->cfg;
    size_t width = cfg->n_embd, row = 0;
    snug_err rc = SNUG_OK;
    for (size_t i = 0; !rc && i < n; i++) {
        c->items[i] = (graph_item){.token = items[i].token, .pos = items[i].pos, .kv = items[i].seq->kv};
        if (items[i].pos == kv_seq_length(items[i].seq->kv))
            rc = kv_reserve(items[i].seq->kv, items[i].seq->pending, err);
    }
    if (!rc) rc = graph_embed(c->graph, &c->weights->outer, c->items, n, c->x, err);
    for (uint32_t layer = 0; !rc && layer < cfg->n_layers; layer++)
        rc = graph_layer(c->graph, (int)layer, graph_kv_layer(cfg, layer), &c->weights->layers[layer], c->items, n, c->x, err);
    if (rc || !wanted) return rc;
    for (size_t i = 0; i < n; i++) { /* rows that want logits move to the front, in order */
        if (!items[i].wants_logits) continue;
        if (row != i) memcpy(c->x + row * width, c->x + i * width, width * sizeof *c->x);
        row++;
    }
    return graph_head(c->graph, &c->weights->outer, c->x, wanted, c->logits, err);
}

snug_err snug_decode(snug_context *c, const snug_item *items, size_t n, snug_error *err) {
    size_t wanted = 0;
    if (!c || !items || n == 0) return err_set(err, SNUG_ERR_ARG, "snug_decode: no context or no items");
    c->n_last = 0;
    c->passes++;
    if (n > c->p.max_batch)
        return err_set(err, SNUG_ERR_ARG, "snug_decode: %zu items, the context takes %u at once", n, c->p.max_batch);
    snug_err rc = check_items(c, items, n, &wanted, err);
    if (!rc) rc = ensure_logits(c, wanted, err);
    if (rc) return rc;
    rc = compute(c, items, n, wanted, err);
    int32_t row = 0;
    for (size_t i = 0; i < n; i++) {
        snug_seq *s = items[i].seq;
        c->logit_row[i] = items[i].wants_logits ? row++ : -1;
        if (s->pending == 0) continue; /* done at its first item */
        if (rc) kv_truncate(s->kv, kv_seq_length(s->kv), NULL);
        else kv_commit(s->kv, s->pending);
        s->pending = 0;
    }
    if (!rc) c->n_last = n;
    return rc;
}

const float *snug_logits(const snug_context *ctx, size_t i) {
    if (i >= ctx->n_last || ctx->logit_row[i] < 0) return NULL;
    return ctx->logits + (size_t)ctx->logit_row[i] * ctx->model->store->cfg.n_vocab;
}
