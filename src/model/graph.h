/* The computation of a decoder: embedding, layers, head, over whatever weights it is handed (mapped by run, read layer
 * by layer by fit). No state but the KV sequences. */
#ifndef MODEL_GRAPH_H
#define MODEL_GRAPH_H
#include "codec/weight.h"
#include "kv/kv.h"
#include "model/store.h"

typedef struct expert_weights { weight w[EXPERT_MATRICES]; } expert_weights; /* gate, up, down */

/* One layer's (or the outer) tensors, by role. Absent roles: weight.n_terms = 0, vec = NULL. */
typedef struct layer_weights {
    weight w[ROLE_MATRICES];
    const float *vec[ROLE_COUNT]; /* f32 copies of norms, biases and the router */
    expert_weights *experts;      /* (n_experts); gate, up and down are the shared one's then; NULL: there are none */
} layer_weights;

/* Where a layer has a matrix. */
static inline weight *layer_weight(layer_weights *lw, const store_tensor *t) {
    return t->expert == EXPERT_NONE ? &lw->w[t->role] : &lw->experts[t->expert].w[t->role - ROLE_GATE];
}

/* Where the bytes of a layer come from. Reads the tensors of `layer` (-1: embedding, out norm, head) of a store into
 * memory that `mem` owns, by pread; run maps instead (loaded_map). Releasing mem releases all. */
snug_err layer_read(const store *s, int layer, arena *mem, layer_weights *out, snug_error *err);
/* The same without the experts' matrices, which have n_terms = 0; and one expert's. */
snug_err layer_read_dense(const store *s, int layer, arena *mem, layer_weights *out, snug_error *err);
snug_err layer_read_expert(const store *s, int layer, int expert, arena *mem, expert_weights *out, snug_error *err);

typedef struct graph_item { int32_t token; uint32_t pos; kv_seq *kv; } graph_item;

/* The input edges that calibration watches. */
typedef enum graph_edge { EDGE_ATTN_IN, EDGE_Q_LATENT, EDGE_KV_LATENT, EDGE_ATTN_OUT, EDGE_FFN_IN, EDGE_FFN_MID, EDGE_HEAD_IN, EDGE_COUNT } graph_edge;
graph_edge role_edge(tensor_role r); /* the edge whose activations this matrix multiplies (embd: EDGE_COUNT = none) */

/* Called with the f32 input of an edge: x (n, ld), cols columns; the items are those of the call. From the calling
 * thread. */
typedef void (*graph_watch_fn)(void *user, int layer, graph_edge edge, const float *x, size_t n, size_t cols,
                               size_t ld);

uint32_t graph_kv_layer(const config *c, uint32_t layer); /* the layer's place among the cache's: those with attention, or those with states */

typedef struct graph graph; /* scratch for up to max_batch items; not thread-safe, uses `threads` threads inside */
typedef struct graph_params {
    uint32_t max_batch, n_ctx;
    int threads;
    bool transforms;              /* some weights have terms in a transformed basis                              */
    bool allow_q8;                /* codecs that prefer q8 activations get them (else everything multiplies f32)  */
    size_t matmul_scratch_bytes;  /* per worker: the largest weight_scratch_bytes of the weights; 0: grown when needed */
} graph_params;
uint64_t graph_bytes(const config *cfg, const graph_params *p); /* exact size of the scratch; 0: overflow */
snug_err graph_create(const config *cfg, const graph_params *p, const float *rope_freqs, graph **out, snug_error *err);
void graph_destroy(graph **g);
void graph_watch(graph *g, graph_watch_fn fn, void *user);
/* Layers begin with what makes `first`: EDGE_ATTN_IN (as created), or EDGE_FFN_IN for an x that has been through attention (not of parallel layers). They end when
 * `last` has been told of: at EDGE_FFN_IN x is through attention, at others before the end it is left in any state; EDGE_HEAD_IN (as
 * created): they run to their end. */
void graph_between(graph *g, graph_edge first, graph_edge last);

/* A cache for this model's layers, n_layers: for all, or 1: for each in its turn. */
kv_params graph_kv(const config *c, uint32_t n_layers, uint32_t n_ctx, uint32_t max_seqs, snug_kv type);

/* x (n, n_embd) = embedding rows of the tokens. All calls: n <= max_batch, tokens < n_vocab, positions < n_ctx. A row's
 * result never depends on the other items, on n or on threads. */
snug_err graph_embed(graph *g, const layer_weights *outer, const graph_item *items, size_t n, float *x, snug_error *err);
/* x (n, n_embd) in place through one layer. kv_layer: its place inside the items' kv: graph_kv_layer, or 0 in a one-layer
 * cache, as fit has it. Room must have been reserved; the caller commits. Consecutive items of one sequence must have rising
 * positions. */
snug_err graph_layer(graph *g, int layer, uint32_t kv_layer, const layer_weights *lw, const graph_item *items, size_t n,
                     float *x, snug_error *err);
/* ---- experts (graph_moe.c) ---- */

typedef struct graph_pick { uint32_t expert; float share; } graph_pick; /* what an expert's output counts for */
/* The experts that each of n normed inputs x (n, ld) goes to, by the layer's router (and its biases): picks (n, n_experts_used), experts rising.
 * Those of largest probability; of equal ones those that come first. */
void graph_route(const config *c, const layer_weights *lw, const float *x, size_t n, size_t ld, int threads, graph_pick *picks);
/* Picks (n, used) to queues, expert by expert: expert e's is queue[first[e]] .. queue[first[e + 1] - 1], items rising, with the item in place of the
 * expert. first (n_experts + 1), queue (n * used); n * used < 2^32. */
void graph_queue(const config *c, const graph_pick *picks, size_t n, uint32_t *first, graph_pick *queue);
/* What an expert's down multiplies, mid (n, n_ff), for n <= max_batch normed inputs x (n, n_embd). */
snug_err graph_expert_mid(graph *g, const layer_weights *lw, uint32_t expert, const float *x, size_t n, float *mid, snug_error *err);

/* What stands behind the embedding: the row of one token, scaled; position: its learned position, or NULL. */
void embd_finish(const config *c, const float *position, float *x);
/* norm(x) * gain + bias of one token, as the architecture has it. */
void norm_row(const config *c, const float *x, const float *gain, const float *bias, float *out);
/* What stands behind the head: n logits of one token, scaled and capped. */
void logits_finish(const config *c, float *logits, size_t n);
/* logits (n, n_vocab) of hidden states x (n, n_embd): final norm and head (outer->w[ROLE_HEAD], or the embedding when
 * tied). */
snug_err graph_head(graph *g, const layer_weights *outer, const float *x, size_t n, float *logits, snug_error *err);
#endif
