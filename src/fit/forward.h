/* Forward passes of fit: many tokens through one layer at a time, the layer's weights read and released in between, so that
 * memory holds one layer, the hidden states and nothing of the model's size. */
#ifndef FIT_FORWARD_H
#define FIT_FORWARD_H
#include "fit/fit.h"
#include "solve/hessian.h"

/* One graph with a one-layer cache. */
typedef struct forward_lane {
    graph *g;
    kv_pool *pool;
    kv_seq **seq;     /* n_pass */
    graph_item *item; /* n_pass * len */
} forward_lane;

/* Large layers are worked on by all threads together, one pass of n_pass sequences after the other; small ones by one thread
 * per pass, because a small matrix does not pay for waking others. Which it is depends on the model alone, and a pass gives the
 * same numbers either way. */
typedef struct forward {
    fit_job *f;
    bool by_pass;
    bool alone;     /* of several processes each runs what it is given; else they share the passes of the one x that all have */
    bool discard;   /* nobody wants the hidden states afterwards: they are not exchanged */
    graph_edge from; /* where layers begin: EDGE_ATTN_IN, or EDGE_FFN_IN for hidden states that have been through attention */
    size_t n_lanes;
    forward_lane *lane;
    uint32_t n_pass, len; /* sequences per pass */
    uint32_t n_seq;       /* whose moments are taken, as many as x has: all, as opened */
    arena mem;
} forward;

/* Called before a pass with its number and the graph that runs it, e.g. to set its watch; may be NULL. */
typedef void (*forward_pass_fn)(void *user, graph *g, size_t pass);

/* For sequences of up to len tokens. cfg: how q and k rows stand in the layers that will be run (NULL: as the source has them). form: of the
 * activations that compressed weights multiply; dense ones always have f32. */
snug_err forward_open(fit_job *f, const config *cfg, snug_act form, uint32_t len, forward *out, snug_error *err);
void forward_close(forward *w);
size_t forward_passes(const forward *w, uint32_t n_seq);
/* Layers end there from now on; EDGE_FFN_IN: behind attention; EDGE_HEAD_IN (as opened): with their end. */
void forward_until(forward *w, graph_edge last);
/* Each of the n_x hidden states x[i] (n_seq * len, n_embd), in place, through a layer; every sequence starts at position 0. Passes
 * are numbered over all x. */
snug_err forward_layer(forward *w, int layer, const layer_weights *lw, uint32_t n_seq, uint32_t len, float *const *x, size_t n_x,
                       forward_pass_fn before, void *user, snug_error *err);

/* ---- moments.c ---- */
/* What calibration sums up at the edges of one layer, over all tokens. */
typedef struct moments {
    bool want[EDGE_COUNT];
    bool full;                     /* x x^T, else x^2 alone */
    size_t cols[EDGE_COUNT];
    hessian_sum sum[EDGE_COUNT];   /* full  */
    double *square[EDGE_COUNT];    /* else: (cols), sums of x^2 */
    float *ffn_in;                 /* (all tokens, n_embd): is given what EDGE_FFN_IN sees, wanted or not; NULL: nothing */
} moments;
/* Empty sums for the wanted edges, of a layer or one of its experts; tokens added to one of them; and, once after the last addition, all sums for all
 * processes. */
snug_err moments_open(const config *c, int layer, int expert, moments *m, snug_error *err);
snug_err moments_add(const fit_job *f, moments *m, graph_edge e, const float *x, size_t n_tokens, snug_error *err);
snug_err moments_gather(moments *m, snug_error *err);
size_t edge_cols(const config *c, int layer, graph_edge edge, int expert);
/* Sums for the wanted edges, of which there is one at least (want, full are given). x (w->n_seq * len, n_embd) is taken in place through the layer
 * or through its attention, or left alone, and then the layer is run no further than needed. Release with moments_close. */
typedef enum moments_fate { MOMENTS_WHOLE, MOMENTS_HALF, MOMENTS_STAY } moments_fate;
snug_err moments_layer(forward *w, int layer, const layer_weights *lw, float *x, moments_fate fate, moments *m, snug_error *err);
/* The same of the head's input: what the hidden states x (n, n_embd) after the last layer are when normed. */
snug_err moments_head(const fit_job *f, const float *x, size_t n, moments *m, snug_error *err);
double moments_square(const moments *m, graph_edge e, size_t col); /* the mean of x^2 */
void moments_close(moments *m);

/* ---- edges.c: the statistics of edges, in memory and in the journal ---- */
snug_err edges_open(fit_job *f, snug_error *err);
/* Does a layer (n_layers: the head) have this edge for itself? What an expert's down multiplies is the expert's own, but for the shared one. */
bool edges_has(const config *c, int layer, graph_edge e);
/* A layer's, with its experts'; false: not known. state_hash: of the hidden states behind it. */
bool edges_load(fit_job *f, int layer);
snug_err edges_save(fit_job *f, int layer, uint64_t state_hash, snug_error *err);
snug_err edges_save_expert(fit_job *f, int layer, int expert, snug_error *err); /* before its layer's */
int64_t edges_expert_index(const fit_job *f, int layer, int expert); /* in f->expert, and of the record */

/* ---- experts.c: which tokens a layer's router sends where, and the moments of what comes there ---- */
typedef struct experts {
    forward *w;
    int layer;
    const float *x;    /* (all tokens, n_embd): a layer's EDGE_FFN_IN; the caller's */
    size_t n_tokens;
    uint32_t *first;   /* (n_experts + 1): an expert's part of the queue */
    graph_pick *queue; /* token instead of expert, tokens rising, expert by expert */
} experts;
snug_err experts_open(forward *w, int layer, const layer_weights *lw, const float *x, experts *out, snug_error *err);
void experts_close(experts *s);
size_t experts_tokens(const experts *s, int expert); /* that came to it */
/* Moments of one expert's inputs (m->want[EDGE_FFN_IN]) and of what its down multiplies (EDGE_FFN_MID; ew: its gate and up), each token weighted
 * with its share. Where fewer than EXPERT_MIN_TOKENS came, a spread of all tokens stands in for them. Opens m; release with moments_close. */
snug_err experts_moments(experts *s, int expert, const expert_weights *ew, moments *m, snug_error *err);

/* How a weight is disturbed: by noise with independent, uniformly distributed entries (what rounding leaves behind), or by
 * being stored in a codec. Rows are disturbed independently of each other, each from its own random stream. */
typedef struct perturb {
    const fit_tensor *t;
    bool noise;
    float sigma;      /* of the noise, absolute */
    uint64_t stream;
    comp_term term;   /* else */
} perturb;
/* rows [row0, row0 + n): out = disturbed w, both (n, cols). */
snug_err perturb_rows(const fit_job *f, const perturb *p, uint64_t row0, size_t n, const float *w, float *out, snug_error *err);
/* The whole matrix as f32 (out: rows * cols) and its relative error in the importance metric. p NULL: undisturbed. */
snug_err perturb_weight(const fit_job *f, const perturb *p, const weight *w, float *out, double *error, snug_error *err);
weight weight_of_f32(const float *w, uint64_t rows, uint64_t cols);

/* x (n, n_embd): the embedding rows of n tokens, disturbed by p (NULL: not). */
snug_err embed_tokens(const fit_job *f, const int32_t *ids, size_t n, size_t len, const perturb *p, float *x, snug_error *err);
/* What stands behind token i's embedding at x, in sequences of len. */
snug_err embed_finish(const fit_job *f, size_t i, size_t len, float *x, snug_error *err);

/* The head: for each variant the mean over tokens of KL(clean || variant). The head's rows are read in chunks, once per chunk of
 * tokens, so nothing of the vocabulary's size is held. Chunks are cut for n_all >= n_variants, so that variants that processes share come out
 * as if together. */
typedef struct head_variant { const float *x; const perturb *head; } head_variant; /* x (n, n_embd) before the final norm */
snug_err head_kl(fit_job *f, const float *clean, const head_variant *variant, size_t n_variants, size_t n_all, size_t n, double *kl,
                 snug_error *err);
/* The gain of the norm before the head: (n_embd). */
snug_err head_gain(const fit_job *f, float *gain, float *bias, bool *has_bias, snug_error *err);
const store_tensor *head_tensor(const fit_job *f);
#endif
