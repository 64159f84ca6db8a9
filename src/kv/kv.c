/* The pool of pages and the sequences made of them.
 *
 * One anonymous map holds everything: pool, sequence records, page tables, pages. It is reserved when the pool is made
 * and becomes resident as pages are first touched, so a long context that is not used costs nothing, and kv_bytes is
 * exact.
 *
 *     | kv_pool | kv_seq x max_seqs | tables: u32 x max_seqs x lists x pages per list | page 0 | page 1 | ... | states
 *     page:  | kv_page, to a multiple of 64 | k: 4 tiles (head_dim, 16) | v (64, value_dim) |
 *     table: for list = layer * n_kv_heads + head, the numbers of its pages in order
 *     states: for each sequence two of each layer's, (2, n_states, state_floats): behind the last committed position, and where the pass
 *             under way writes, which until it began is what the last one began with
 *
 * The pool cannot run out: a sequence has at most `pages per list` entries per list, and there are as many pages as
 * entries. A shared page has at least two entries, so copying it on write always finds a free one. */
#include "kv/kv.h"

#include "base/checked.h"
#include "base/err.h"
#include "kern/kern.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum { NO_PAGE = UINT32_MAX, NO_STATE = UINT32_MAX };

struct kv_seq {
    kv_pool *pool;
    uint32_t *table;   /* (lists, pages per list) */
    uint32_t length;   /* committed positions     */
    uint32_t n_pages;  /* per list, the same in all */
    float *state[2];   /* (n_states, state stride); NULL: there are none            */
    uint32_t now;      /* which of them is behind `length` positions                 */
    uint32_t other_at; /* how many positions the other is behind; NO_STATE: no matter */
    bool used;
};

struct kv_pool {
    kv_params p;
    uint64_t map_bytes, page_bytes, page_header, k_bytes; /* k_bytes: of a page's keys, behind which its values stand */
    uint32_t lists, pages_per_list;
    size_t state_stride; /* floats from one layer's state to the next */
    uint32_t n_fresh, free_head; /* pages [n_fresh, capacity) were never used; free ones are linked through pos[0] */
    kv_seq *seqs;
    uint8_t *pages;
};

typedef struct kv_layout {
    uint64_t seqs, tables, pages, states, total, page_bytes, page_header, k_bytes, capacity, lists, per_list;
    uint64_t state_stride, seq_states; /* floats: of a layer's state; of one set of a sequence's */
} kv_layout;

static uint32_t value_dim(const kv_params *p) { return p->value_dim ? p->value_dim : p->head_dim; }

uint32_t kv_numbers(const kv_params *p) { return p->values_in_keys ? p->head_dim : p->head_dim + value_dim(p); }

static bool layout_of(const kv_params *p, kv_layout *l) {
    uint64_t elem = p->type == SNUG_KV_F32 ? 4 : 2, table_entries, pages_bytes, states_bytes;
    l->lists = (uint64_t)p->n_layers * p->n_kv_heads;
    l->per_list = div_up(p->n_ctx, KV_PAGE);
    l->page_header = round_up(sizeof(kv_page), 64);
    l->k_bytes = round_up(elem * KV_PAGE * (kv_numbers(p) - value_dim(p)), 64);
    l->page_bytes = l->page_header + l->k_bytes + round_up(elem * KV_PAGE * value_dim(p), 64);
    if (!checked_mul(l->lists, l->per_list, &l->capacity) || !checked_mul(l->capacity, p->max_seqs, &l->capacity) ||
        l->capacity >= NO_PAGE || l->lists > UINT32_MAX || !checked_mul(l->capacity, l->page_bytes, &pages_bytes))
        return false;
    l->state_stride = round_up(p->state_floats, 16);
    if (p->state_floats >= (uint64_t)1 << 45 || !checked_mul(l->state_stride, p->n_states, &l->seq_states) ||
        !checked_mul(l->seq_states, 2 * sizeof(float) * p->max_seqs, &states_bytes))
        return false;
    table_entries = l->capacity;
    l->seqs = round_up(sizeof(kv_pool), 64);
    l->tables = l->seqs + round_up(sizeof(kv_seq) * p->max_seqs, 64);
    l->pages = l->tables + round_up(4 * table_entries, 64);
    return checked_add(l->pages, pages_bytes, &l->states) && checked_add(l->states, states_bytes + 4095, &l->total) && l->total >= l->states &&
           (l->total = l->total / 4096 * 4096, l->total < (uint64_t)1 << 47);
}

uint64_t kv_bytes(const kv_params *p) {
    kv_layout l;
    return layout_of(p, &l) ? l.total : 0;
}

snug_err kv_pool_create(const kv_params *p, kv_pool **out, snug_error *err) {
    *out = NULL;
    kv_layout l;
    if ((p->n_layers == 0 && p->n_states == 0) || (p->n_layers && (p->n_kv_heads == 0 || p->head_dim == 0)) || p->n_ctx == 0 || p->max_seqs == 0)
        return err_set(err, SNUG_ERR_ARG,
                       "a KV cache needs at least one layer, head, dimension, position and sequence");
    if (!layout_of(p, &l))
        return err_set(err, SNUG_ERR_NOMEM,
                       "a KV cache of %u sequences of %u positions is larger than the address space", p->max_seqs,
                       p->n_ctx);
    void *map = mmap(NULL, l.total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return err_set(err, SNUG_ERR_NOMEM, "no memory for a KV cache of %llu bytes (%u sequences of %u positions): %s",
                       (unsigned long long)l.total, p->max_seqs, p->n_ctx, strerror(errno));
    madvise(map, l.total, MADV_HUGEPAGE); /* where there are some: a long text's pages are more than the TLB holds */
    kv_pool *pool = map;
    *pool = (kv_pool){.p = *p,
                      .map_bytes = l.total,
                      .page_bytes = l.page_bytes,
                      .page_header = l.page_header,
                      .k_bytes = l.k_bytes,
                      .lists = (uint32_t)l.lists,
                      .pages_per_list = (uint32_t)l.per_list,
                      .state_stride = (size_t)l.state_stride,
                      .free_head = NO_PAGE};
    pool->seqs = (kv_seq *)((uint8_t *)map + l.seqs);
    pool->pages = (uint8_t *)map + l.pages;
    uint32_t *tables = (uint32_t *)((uint8_t *)map + l.tables);
    for (uint32_t i = 0; i < p->max_seqs; i++) {
        pool->seqs[i].pool = pool;
        pool->seqs[i].table = tables + (size_t)i * l.lists * l.per_list;
        for (uint32_t k = 0; k < 2 && p->n_states; k++)
            pool->seqs[i].state[k] = (float *)((uint8_t *)map + l.states) + (2 * (size_t)i + k) * l.seq_states;
    }
    *out = pool;
    return SNUG_OK;
}

void kv_pool_destroy(kv_pool **pool) {
    if (*pool) munmap(*pool, (*pool)->map_bytes);
    *pool = NULL;
}

/* ---------------------------------------------------------------- pages ---- */

static kv_page *page_at(const kv_pool *pool, uint32_t i) {
    return (kv_page *)(pool->pages + (size_t)i * pool->page_bytes);
}

static uint32_t page_take(kv_pool *pool) {
    uint32_t i = pool->free_head;
    kv_page *p;
    if (i != NO_PAGE) {
        p = page_at(pool, i);
        pool->free_head = p->pos[0];
    } else {
        i = pool->n_fresh++;
        p = page_at(pool, i);
        p->k = (uint8_t *)p + pool->page_header;
        p->v = p->k + pool->k_bytes;
        p->type = pool->p.type;
        p->value_dim = value_dim(&pool->p);
        p->key_rest = pool->p.values_in_keys ? pool->p.head_dim - p->value_dim : 0;
    }
    p->refs = 1;
    p->len = 0;
    return i;
}

static void page_drop(kv_pool *pool, uint32_t i) {
    kv_page *p = page_at(pool, i);
    if (--p->refs) return;
    p->pos[0] = pool->free_head;
    pool->free_head = i;
}

/* Makes entry *slot the sequence's own page, with its first `len` positions. */
static void page_own(kv_pool *pool, uint32_t *slot, uint32_t len) {
    kv_page *from = page_at(pool, *slot);
    if (from->refs > 1) {
        uint32_t i = page_take(pool);
        kv_page *to = page_at(pool, i);
        const size_t elem = pool->p.type == SNUG_KV_F32 ? 4 : 2;
        memcpy(to->pos, from->pos, len * sizeof *to->pos);
        memcpy(to->k, from->k, (from->key_rest ? (size_t)len * from->key_rest : round_up(len, KERN_TILE) * pool->p.head_dim) * elem);
        memcpy(to->v, from->v, (size_t)len * from->value_dim * elem);
        from->refs--;
        *slot = i;
        from = to;
    }
    from->len = len;
}

static uint32_t *list_at(const kv_seq *s, uint32_t list) { return s->table + (size_t)list * s->pool->pages_per_list; }

/* ------------------------------------------------------------ sequences ---- */

snug_err kv_seq_create(kv_pool *pool, kv_seq **out, snug_error *err) {
    *out = NULL;
    for (uint32_t i = 0; i < pool->p.max_seqs; i++) {
        kv_seq *s = &pool->seqs[i];
        if (s->used) continue;
        s->used = true;
        s->length = s->n_pages = 0;
        s->other_at = NO_STATE;
        *out = s;
        return SNUG_OK;
    }
    return err_set(err, SNUG_ERR_BUDGET, "the context has room for %u sequences and all are in use", pool->p.max_seqs);
}

snug_err kv_seq_fork(const kv_seq *s, kv_seq **out, snug_error *err) {
    snug_err rc = kv_seq_create(s->pool, out, err);
    if (rc) return rc;
    kv_seq *f = *out;
    f->length = s->length;
    f->n_pages = (uint32_t)div_up(s->length, KV_PAGE);
    for (uint32_t list = 0; list < s->pool->lists; list++)
        for (uint32_t i = 0; i < f->n_pages; i++) page_at(s->pool, list_at(f, list)[i] = list_at(s, list)[i])->refs++;
    f->now = s->now;
    f->other_at = s->other_at;
    for (uint32_t k = 0; k < 2; k++) /* a state behind no positions is zeros, which nobody reads */
        if (s->state[k] && (k == s->now ? s->length : s->other_at != NO_STATE && s->other_at))
            memcpy(f->state[k], s->state[k], s->pool->state_stride * s->pool->p.n_states * sizeof(float));
    return SNUG_OK;
}

void kv_seq_destroy(kv_seq **seq) {
    kv_seq *s = *seq;
    *seq = NULL;
    if (!s) return;
    for (uint32_t list = 0; list < s->pool->lists; list++)
        for (uint32_t i = 0; i < s->n_pages; i++) page_drop(s->pool, list_at(s, list)[i]);
    s->n_pages = 0;
    s->used = false;
}

uint32_t kv_seq_length(const kv_seq *s) { return s->length; }

snug_err kv_reserve(kv_seq *s, uint32_t n, snug_error *err) {
    kv_pool *pool = s->pool;
    uint64_t end = (uint64_t)s->length + n;
    if (end > pool->p.n_ctx)
        return err_set(err, SNUG_ERR_BUDGET,
                       "the context is full: %u positions are used, %u more were asked for, %u is the limit", s->length,
                       n, pool->p.n_ctx);
    uint32_t want = (uint32_t)div_up(end, KV_PAGE), last = s->length / KV_PAGE, in_last = s->length % KV_PAGE;
    for (uint32_t list = 0; list < pool->lists && n > 0; list++) {
        uint32_t *pages = list_at(s, list);
        if (in_last) page_own(pool, &pages[last], in_last);
        for (uint32_t i = s->n_pages; i < want; i++) pages[i] = page_take(pool);
    }
    if (want > s->n_pages) s->n_pages = want;
    if (n) s->other_at = NO_STATE; /* the pass that this is for writes there */
    return SNUG_OK;
}

void kv_commit(kv_seq *s, uint32_t n) {
    if (n) s->now ^= 1, s->other_at = s->length;
    s->length += n;
}

uint32_t kv_reach(const kv_seq *s, uint32_t n) {
    if (n >= s->length) return s->length;
    if (!s->state[0]) return n;
    return s->other_at != NO_STATE && s->other_at <= n ? s->other_at : 0;
}

const float *kv_state_before(const kv_seq *s, uint32_t state, uint32_t pos) {
    if (pos == 0) return NULL;
    return s->state[pos == s->length ? s->now : s->now ^ 1] + state * s->pool->state_stride;
}

float *kv_state_after(kv_seq *s, uint32_t state) { return s->state[s->now ^ 1] + state * s->pool->state_stride; }

snug_err kv_truncate(kv_seq *s, uint32_t n, snug_error *err) {
    const uint32_t reach = kv_reach(s, n);
    if (n > s->length) n = s->length;
    if (reach != n)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "cannot truncate a sequence of %u positions to %u: its layers without attention remember no other than %u below that", s->length,
                       n, reach);
    if (n < s->length) { /* back to where the last pass began; or to nothing */
        if (n == s->other_at) s->now ^= 1;
        s->other_at = NO_STATE;
    }
    uint32_t keep = (uint32_t)div_up(n, KV_PAGE), in_last = n % KV_PAGE;
    for (uint32_t list = 0; list < s->pool->lists; list++) {
        uint32_t *pages = list_at(s, list);
        for (uint32_t i = keep; i < s->n_pages; i++) page_drop(s->pool, pages[i]);
        if (in_last && keep <= s->n_pages && page_at(s->pool, pages[keep - 1])->len != in_last)
            page_own(s->pool, &pages[keep - 1], in_last);
    }
    if (s->n_pages > keep) s->n_pages = keep;
    s->length = n;
    return SNUG_OK;
}

/* --------------------------------------------------- for the operations ---- */

uint32_t kv_n_pages(const kv_seq *s, uint32_t layer, uint32_t head) { return s->n_pages; }

const kv_page *kv_get_page(const kv_seq *s, uint32_t layer, uint32_t head, uint32_t i) {
    return page_at(s->pool, list_at(s, layer * s->pool->p.n_kv_heads + head)[i]);
}

/* Stored positions <= pos of a list. As they rise, slot i holds i or more, so the page of slot `pos` is the last that
 * can count; while nothing was left out of the cache, it is the one. */
static uint32_t slots_upto(const kv_seq *s, uint32_t layer, uint32_t head, uint32_t pos) {
    uint32_t low = 0, high = (uint32_t)min_u64(s->n_pages, (uint64_t)pos / KV_PAGE + 1);
    for (uint32_t i = high; low < high; i = (low + high + 1) / 2) { /* pages before `low` begin at or before pos */
        const kv_page *p = kv_get_page(s, layer, head, i - 1);
        if (p->len && p->pos[0] <= pos) low = i;
        else high = i - 1;
    }
    if (low == 0) return 0;
    const kv_page *p = kv_get_page(s, layer, head, low - 1);
    uint32_t n = (uint32_t)min_u64(p->len, (uint64_t)pos - p->pos[0] + 1);
    while (p->pos[n - 1] > pos) n--;
    return (low - 1) * KV_PAGE + n;
}

uint32_t kv_visible(const kv_seq *s, uint32_t layer, uint32_t head, uint32_t pos, uint32_t window, uint32_t *slot0) {
    *slot0 = window && pos >= window ? slots_upto(s, layer, head, pos - window) : 0;
    return slots_upto(s, layer, head, pos) - *slot0;
}

void kv_append(kv_seq *s, uint32_t layer, uint32_t pos, uint32_t n, const float *k, const float *v) {
    const kv_params *p = &s->pool->p;
    for (uint32_t t = 0; t < n; t++)
        for (uint32_t head = 0; head < p->n_kv_heads; head++) {
            uint32_t list = layer * p->n_kv_heads + head;
            kv_page *page = page_at(s->pool, list_at(s, list)[(pos + t) / KV_PAGE]);
            const size_t at = (size_t)t * p->n_kv_heads + head;
            kv_page_set(page, (pos + t) % KV_PAGE, pos + t, p->head_dim, k + at * p->head_dim, p->values_in_keys ? NULL : v + at * page->value_dim);
        }
}
