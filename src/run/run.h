/* Internal to the library: what stands behind the opaque types of snug.h. */
#ifndef RUN_RUN_H
#define RUN_RUN_H
#include "model/loaded.h"

#include <pthread.h>

/* Immutable as the user sees it. The tokenizer and the maps are made when first needed, under the lock. */
struct snug_model {
    store *store;
    snug_model_info info;
    pthread_mutex_t lock;
    loaded *weights;
    tokenizer *tok;
    bool tok_tried;
    snug_error tok_error; /* why there is no tokenizer */
};

snug_err model_tokenizer(const snug_model *m, const tokenizer **out, snug_error *err);
snug_err model_weights(const snug_model *m, const loaded **out, snug_error *err);

struct snug_seq {
    snug_context *ctx;
    kv_seq *kv;        /* NULL: not in use */
    uint32_t pending;  /* items of the decode in progress */
};

struct snug_context {
    const snug_model *model;
    const loaded *weights;
    snug_context_params p; /* defaults filled in */
    graph *graph;
    kv_pool *pool;
    snug_seq *seqs;        /* max_seqs             */
    graph_item *items;     /* max_batch            */
    int32_t *logit_row;    /* max_batch, -1: none  */
    float *x;              /* (max_batch, n_embd)  */
    float *logits;         /* (logit_rows, n_vocab) */
    size_t n_last;         /* items of the last decode */
    size_t logit_rows;
    uint64_t passes;       /* calls of snug_decode: tells whose logits stand */
    snug_item *batch;      /* max_batch: where texts put their items together */
    snug_context *draft;   /* of the draft model, the same sizes; or NULL */
    double pass_s;         /* what a pass for one token takes, seconds; 0: not known (kept by texts) */
    double token_cost;     /* what another token adds to it, a share of it; 0: not known (kept by texts) */
};

/* What a context takes, from the configuration and a few sizes alone, so that fit can ask before there is a file. */
typedef struct run_sizes {
    uint64_t weights_bytes;        /* the span of the tensor data, in whole pages (loaded_bytes)                  */
    uint64_t metadata_bytes;       /* the file's header, compressed keys unpacked; for a folder tokenizer.json  */
    bool transforms;               /* some matrices have terms in a transformed basis                             */
    size_t matmul_scratch_bytes;   /* the largest weight_scratch_bytes of its matrices at max_batch               */
} run_sizes;
/* p->draft: the room for its logits is in the result, what a draft takes beside that is not. */
snug_err run_memory(const config *cfg, const run_sizes *sizes, const snug_context_params *p, snug_memory *out,
                    snug_error *err);
/* Rows of logits that a context has room for from the start. */
static inline uint64_t run_logit_rows(const snug_context_params *p) { return (uint64_t)p->max_seqs + p->max_draft; }
/* What drafts add, p with the defaults filled in. draft_model: run_memory of the draft model, NULL when there is none. */
uint64_t run_draft_bytes(const snug_context_params *p, const snug_memory *draft_model);
run_sizes run_sizes_of(const store *s, uint32_t max_batch, snug_act form);
/* Zeros replaced by the defaults that snug.h names. */
snug_context_params run_params(const config *cfg, const snug_context_params *p);
/* weight_scratch_bytes of a composition that has no bytes yet, with q8 activations. */
size_t run_comp_scratch(const comp *c, uint64_t rows, uint64_t cols, size_t n_tokens);
#endif
