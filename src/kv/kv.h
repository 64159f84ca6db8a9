/* KV cache, one pool per context, one thread at a time (readers of different pages may run in parallel). A page holds
 * up to KV_PAGE positions of one layer and KV head, with its own length, type and the stored positions (slot !=
 * position in general). All pages of a list but the last are full, so a list is one row of slots, its positions rising.
 * Attention knows only these operations. Pages are reference-counted: a fork shares them, an append to a shared page
 * copies it first.
 *
 * Layers without attention remember a state of fixed size instead (a recurrence's). A pass writes it beside the one that it began with: an
 * error takes nothing away, and a sequence can go back to where its last pass began, but not to any position. */
#ifndef KV_KV_H
#define KV_KV_H
#include <snug.h>

enum { KV_PAGE = 64, KV_MAX_SHARED = 1024 };

typedef struct kv_page {
    uint32_t refs, len;
    snug_kv type;
    uint32_t value_dim;
    uint32_t key_rest; /* 0, or what of a key does not stand in its value */
    uint8_t *k, *v; /* f16 or f32: keys in tiles of KERN_TILE slots as kern.h has them, or (KV_PAGE, key_rest); values (KV_PAGE, value_dim) */
    uint32_t pos[KV_PAGE];
} kv_page;

typedef struct kv_pool kv_pool; /* all pages of a context: bounded, allocated as needed */
typedef struct kv_seq kv_seq;   /* one text: (layer, head) -> list of pages */

typedef struct kv_params {
    uint32_t n_layers, n_kv_heads, head_dim, n_ctx, max_seqs; /* n_layers: those with attention */
    snug_kv type;
    uint32_t value_dim;    /* where values have another size than keys; 0: head_dim */
    bool values_in_keys;   /* a value is the first numbers of its key, so both are kept once; value_dim < head_dim <= KV_MAX_SHARED */
    uint32_t n_states;     /* layers that have a state */
    uint64_t state_floats; /* of each */
} kv_params;

/* All sequences at n_ctx, page headers and tables included: exactly what the pool maps. 0: more than the machine can
 * address. Memory becomes resident as pages are first used. */
uint64_t kv_bytes(const kv_params *p);
snug_err kv_pool_create(const kv_params *p, kv_pool **out, snug_error *err);
void kv_pool_destroy(kv_pool **pool);
snug_err kv_seq_create(kv_pool *pool, kv_seq **out, snug_error *err);
snug_err kv_seq_fork(const kv_seq *s, kv_seq **out, snug_error *err);
void kv_seq_destroy(kv_seq **s);
uint32_t kv_seq_length(const kv_seq *s);            /* positions appended (see kv_commit) */

/* Makes room for n more positions in every layer and head (so that nothing allocates later); SNUG_ERR_BUDGET past
 * n_ctx. */
snug_err kv_reserve(kv_seq *s, uint32_t n, snug_error *err);
uint32_t kv_numbers(const kv_params *p); /* that a position costs of a layer and KV head */
/* Stores n tokens' keys and values of one layer: k (n, n_kv_heads, head_dim), v (n, n_kv_heads, value_dim), which values_in_keys leaves unread;
 * positions pos..pos+n-1. */
void kv_append(kv_seq *s, uint32_t layer, uint32_t pos, uint32_t n, const float *k, const float *v);
/* The step is done: the length grows by n (or, after an error, kv_truncate takes it back). */
void kv_commit(kv_seq *s, uint32_t n);
/* Forgets positions >= n, appended ones that were never committed too. Fails (and changes nothing) only where there are states and
 * n is not kv_reach of itself. */
snug_err kv_truncate(kv_seq *s, uint32_t n, snug_error *err);
/* The last position <= n that the sequence can be truncated to: without states n; else its length, where its last pass began, or 0. */
uint32_t kv_reach(const kv_seq *s, uint32_t n);

/* The state (state_floats) that the token at `pos` of the pass begins with, NULL: all zeros; and where it leaves its own. A pass goes through
 * the positions of a sequence one after the other; behind the first of them both are the same. */
const float *kv_state_before(const kv_seq *s, uint32_t state, uint32_t pos);
float *kv_state_after(kv_seq *s, uint32_t state);

uint32_t kv_n_pages(const kv_seq *s, uint32_t layer, uint32_t head);
const kv_page *kv_get_page(const kv_seq *s, uint32_t layer, uint32_t head, uint32_t i);
/* Stores one position in a slot and makes it the page's last; k (head_dim), v (value_dim). */
void kv_page_set(kv_page *p, uint32_t slot, uint32_t pos, uint32_t head_dim, const float *k, const float *v);
/* How many slots of the list a query at `pos` sees through a window (0: none), and the first of them, in *slot0: stored
 * positions <= pos and > pos - window. */
uint32_t kv_visible(const kv_seq *s, uint32_t layer, uint32_t head, uint32_t pos, uint32_t window, uint32_t *slot0);
/* scores[h * ld + i] = scale * q_h . k_i for the slots i of [slot0, slot0 + n) of the page and for what else is in
 * their tiles (n_q heads share the page); q (n_q, head_dim). */
void kv_scores(const kv_page *p, uint32_t slot0, uint32_t n, uint32_t head_dim, const float *q, uint32_t n_q,
               float scale, float *scores, size_t ld);
/* out_h += sum_i weights[h * ld + i] * v_(slot0 + i), i < n, in order; out (n_q, value_dim).
 * next: a page whose keys will be wanted soon, or NULL. */
void kv_accumulate(const kv_page *p, uint32_t slot0, uint32_t n, const float *weights, size_t ld,
                   uint32_t n_q, float *out, const kv_page *next);
#endif
