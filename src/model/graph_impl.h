/* Internal to the graph: its scratch and the parallel matmul. */
#ifndef MODEL_GRAPH_IMPL_H
#define MODEL_GRAPH_IMPL_H
#include "base/checked.h"
#include "model/graph.h"

/* Activations in a transform's basis (n, widest ld), and their q8 form; NULL where no weight can ask for it. */
typedef struct graph_basis {
    float *f32; /* TRANSFORM_NONE: they stand where they were made */
    int8_t *q8;
    float *scale, *sum32, *sum16;
} graph_basis;

/* Activations that weights multiply stand in rows of `ld` columns, a multiple of 256, whose padding is zero from the
 * start and never written; where feed-forwards have several widths, a narrow one's gate clears what a wider one left. n: max_batch. */
struct graph {
    config cfg;
    graph_params p;
    void *map; /* all that follows, but scratch that had to grow */
    uint64_t map_bytes;
    bool own_scratch;
    size_t ff_widest;               /* of all feed-forwards                                               */
    size_t embd_ld, attn_ld, ff_ld; /* n_embd, heads * value_dim and ff_widest, padded                    */
    float *norm;                    /* (n, embd_ld)  normed x: input of q k v, gate up, head              */
    float *attn;                    /* (n, attn_ld)  attention's output                                   */
    kv_params kv;                   /* what the cache has of a layer: its heads and their sizes           */
    float *q;                       /* (n, q_ld)     queries, then in the same place what attention gives; attn but with latent attention */
    size_t q_ld;
    float *k, *v;                   /* (n, kv heads * key's size), (n, kv heads * value's)                */
    struct {                        /* with latent attention only */
        float *q;                   /* (n, q_ld)     what queries are made from; NULL: g->norm            */
        float *kv;                  /* (n, kv_ld)    what keys and values are made from, normed           */
        size_t q_ld, kv_ld;
        float *heads;               /* (n, heads * head_dim)  queries of heads, whose keys are not made   */
    } latent;
    float *gate;                    /* (n, ff_ld)    gate, then silu(gate) * up                           */
    float *up;                      /* (n, width of the feed-forward)                                     */
    float *delta;                   /* (n, n_embd)   what a half layer adds to x                          */
    struct {                        /* with experts only */
        graph_pick *picks;          /* (n, used)     of each item                                         */
        uint32_t *first;            /* (experts + 1) where an expert's part of the queue begins           */
        graph_pick *queue;          /* (n * used)    item instead of expert, items rising, expert by expert */
        float *in;                  /* (n, embd_ld)  one expert's inputs                                  */
        float *out;                 /* (n, n_embd)   and outputs                                          */
    } moe;
    struct {                        /* with state spaces only */
        size_t ld;                  /* channels of all heads, padded                                      */
        float *proj;                /* (n, ssm_rows)  what ssm_in gives                                   */
        float *y;                   /* (n, ld)        what ssm_out multiplies                             */
    } ssm;
    graph_basis basis[TRANSFORM_COUNT]; /* of whichever activation is being multiplied */
    float *cs;                      /* (n, rope_dims)  cos then sin of each item's position               */
    uint32_t *cs_pos;               /* (n) the positions that cs was made for                             */
    size_t cs_n;
    float *attend_scratch;          /* (threads, attend_stride)                                           */
    size_t attend_stride;
    float *blocks;                  /* (kv heads, blocks of n_ctx, block_stride), for one item that is split */
    size_t block_stride;            /* 0: never */
    uint32_t *tile;                 /* (n + 1) first items of attention's tiles                           */
    double *inv_freq;               /* rope_dims / 2 */
    float *cs_local;                /* as cs, of layers with LAYER_LOCAL_ROPE; NULL: there are none */
    double *inv_freq_local;
    uint8_t *matmul_scratch;        /* (threads, matmul_stride), aligned to 64 */
    size_t matmul_stride;
    graph_watch_fn watch;
    void *watch_user;
    graph_edge from, until;
};

typedef struct graph_job { const weight *w; float *y; size_t ldy; } graph_job; /* y (n, ldy) = W x */
enum { GRAPH_MAX_JOBS = 3 };

/* All jobs multiply the same input x (n, ld), whose first `cols` columns count; in one parallel region. */
snug_err graph_matmul(graph *g, const float *x, size_t n, size_t cols, size_t ld, const graph_job *jobs, size_t n_jobs,
                      snug_error *err);
/* g->norm = norm(x) * gain + bias for n rows: by root mean square, or LayerNorm where the architecture has it; without a gain, x. */
void graph_norm(graph *g, const float *x, size_t n, const float *gain, const float *bias);
/* Latent attention (graph_latent.c): g->q, g->k and g->v of n items from g->norm, unless g->until ends it before; and g->attn of what attention gave. */
snug_err graph_latent(graph *g, int layer, const layer_weights *lw, size_t n, snug_error *err);
void graph_latent_values(graph *g, const layer_weights *lw, size_t n);
size_t graph_latent_scratch(const config *c); /* floats of a worker's that it needs */
/* x (n, ld) in place: RMSNorm of its first `cols` columns. */
void graph_norm_rows(const graph *g, float *x, size_t n, size_t cols, size_t ld, const float *gain, float eps);
/* Attention of the queries in g->q, in their place, over the cached positions that each item sees, its own included. sinks (n_heads): a score of each
 * head's softmax without a value; NULL: none. */
void graph_attend(graph *g, uint32_t kv_layer, uint32_t window, const float *sinks, const graph_item *items, size_t n);
/* g->delta += what the experts make of g->norm, n rows; or =, where nothing is there yet. */
snug_err graph_experts(graph *g, const layer_weights *lw, bool add, size_t n, snug_error *err);
/* g->gate = act(g->gate) * g->up, n rows of `width`; without gates act(g->gate), which up gave. The biases (width) are added first; NULL: there are none. */
void graph_gate(graph *g, const float *gate_bias, const float *up_bias, size_t n, size_t width);
/* g->ssm.y = the state space's results of g->ssm.proj, n rows (graph_ssm.c); the states move on. */
void graph_ssm(graph *g, uint32_t state, const layer_weights *lw, const graph_item *items, size_t n);
/* Sizes of attention's scratch, in floats. */
size_t graph_attend_stride(const graph *g);
size_t graph_block_stride(const graph *g);
size_t graph_max_blocks(const graph *g);
size_t graph_groups(const graph *g); /* of an item's queries that go through the cache together */
void graph_tell(graph *g, int layer, graph_edge edge, const float *x, size_t n, size_t cols, size_t ld);
/* Threads that are worth waking for this much work, in multiply-adds. Results do not depend on it. */
int graph_threads(const graph *g, double work);
#endif
