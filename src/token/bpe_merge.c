/* The merge loop. Short words (nearly all of byte-level text): an array of neighbours' ranks, scanned for its least;
 * quadratic, but in one or two cache lines. Long ones (a whole text without pretokenizer): a doubly linked list and a
 * binary heap of candidates, O(n log n). Both always merge the pair of least (rank, position), so they agree.
 *
 * A candidate in the heap is stale when its left symbol is gone or the two symbols' bytes no longer add up to what they
 * were: symbols only grow, to the right, so equal start and equal total mean the same pair. */
#include "base/err.h"
#include "base/hash.h"
#include "token/bpe_impl.h"
#include "token/utf8.h"
#include <stdlib.h>
#include <string.h>

enum { SHORT_WORD = 28, CACHE_LINES = 4096, CACHE_TEXT = 24, CACHE_IDS = 7 };
#define END UINT32_MAX

typedef struct bpe_symbol {
    uint32_t id, offset, bytes, prev, next; /* bytes 0: merged away */
    bool frozen;
} bpe_symbol;

typedef struct bpe_candidate {
    uint32_t rank, position, joined, bytes;
} bpe_candidate;

typedef struct bpe_cache_line {
    uint64_t hash;
    uint8_t bytes, n_ids, text[CACHE_TEXT]; /* bytes 0: empty */
    uint32_t id[CACHE_IDS];
} bpe_cache_line;

void bpe_scratch_fini(bpe_scratch *s) {
    free(s->symbol);
    free(s->heap);
    free(s->cache);
    memset(s, 0, sizeof *s);
}

void bpe_scratch_use_cache(bpe_scratch *s) {
    if (!s->cache) s->cache = calloc(CACHE_LINES, sizeof *s->cache);
}

static bool grow(void **p, size_t *cap, size_t need, size_t size) {
    if (need <= *cap) return true;
    size_t n = *cap ? *cap : 64;
    while (n < need) n *= 2;
    void *q = realloc(*p, n * size);
    if (!q) return false;
    *p = q;
    *cap = n;
    return true;
}

/* Rank of joining two neighbours whose text starts at p, VOCAB_NONE if they do not join. */
static inline uint32_t pair_rank(const bpe *m, const uint8_t *p, const bpe_symbol *a, const bpe_symbol *b,
                                 uint32_t *joined) {
    if (!m->by_score) return bpe_find_pair(m, a->id, b->id, joined);
    if (a->frozen || b->frozen || (m->longest_join && a->bytes + b->bytes > m->longest_join)) return VOCAB_NONE;
    uint32_t id = vocab_find(&m->vocab, p + a->offset, a->bytes + b->bytes);
    if (id == VOCAB_NONE) return VOCAB_NONE;
    *joined = id;
    return m->rank[id];
}

/* Appends one symbol; consecutive ones cover the word without gaps. */
static inline void put(bpe_symbol *sym, uint32_t *n, uint32_t id, uint32_t bytes) {
    sym[*n] = (bpe_symbol){id, *n ? sym[*n - 1].offset + sym[*n - 1].bytes : 0, bytes, *n - 1, *n + 1, false};
    ++*n;
}

static inline uint32_t char_id(const bpe *m, const uint8_t *p, size_t bytes) {
    if (bytes == 1) return m->char_id[p[0]];
    if (bytes == 2) {
        uint32_t c = utf8_decode(p);
        if (c < 384) return m->char_id[c];
    }
    return vocab_find(&m->vocab, p, bytes);
}

/* One symbol per character. A character that is no token: its bytes' tokens, or the unknown token, or nothing; in the
 * order in which `tokenizers` does it (a pending unknown run is not flushed by byte tokens). Offsets then are those of
 * the emitted symbols, not of the text; only by_score looks at text, and there every character is one symbol. */
static uint32_t split_characters(const bpe *m, const uint8_t *p, size_t n, bpe_symbol *sym) {
    uint32_t count = 0, unk_bytes = 0, which;
    for (size_t i = 0; i < n;) {
        size_t k = utf8_length(p[i]), frozen;
        if (m->frozen && (frozen = trie_longest(m->frozen, p + i, n - i, &which)) > 0) {
            put(sym, &count, vocab_find(&m->vocab, p + i, frozen), (uint32_t)frozen);
            sym[count - 1].frozen = true;
            i += frozen;
            continue;
        }
        uint32_t id = char_id(m, p + i, k);
        if (id != VOCAB_NONE || m->by_score) {
            if (unk_bytes) put(sym, &count, m->unk, unk_bytes);
            unk_bytes = 0;
            put(sym, &count, id, (uint32_t)k);
        } else {
            bool bytes = m->byte_fallback;
            for (size_t j = 0; j < k && bytes; j++) bytes = m->byte_id[p[i + j]] != VOCAB_NONE;
            if (bytes) {
                for (size_t j = 0; j < k; j++) put(sym, &count, m->byte_id[p[i + j]], 1);
            } else if (m->unk != VOCAB_NONE) {
                if (unk_bytes && !m->fuse_unk) {
                    put(sym, &count, m->unk, unk_bytes);
                    unk_bytes = 0;
                }
                unk_bytes += (uint32_t)k;
            }
        }
        i += k;
    }
    if (unk_bytes) put(sym, &count, m->unk, unk_bytes);
    if (count) sym[count - 1].next = END;
    return count;
}

static uint32_t merge_short(const bpe *m, const uint8_t *p, bpe_symbol *sym, uint32_t n) {
    uint32_t rank[SHORT_WORD], joined[SHORT_WORD];
    for (uint32_t i = 0; i + 1 < n; i++) rank[i] = pair_rank(m, p, &sym[i], &sym[i + 1], &joined[i]);
    while (n > 1) {
        uint32_t best = 0;
        for (uint32_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == VOCAB_NONE) break;
        sym[best].id = joined[best];
        sym[best].bytes += sym[best + 1].bytes;
        uint32_t tail = n - best - 2; /* symbols after the pair */
        memmove(&sym[best + 1], &sym[best + 2], tail * sizeof *sym);
        memmove(&rank[best], &rank[best + 1], tail * sizeof *rank); /* pair best goes, pair best+1 takes its place */
        memmove(&joined[best], &joined[best + 1], tail * sizeof *joined);
        n--;
        if (best > 0) rank[best - 1] = pair_rank(m, p, &sym[best - 1], &sym[best], &joined[best - 1]);
        if (best + 1 < n) rank[best] = pair_rank(m, p, &sym[best], &sym[best + 1], &joined[best]);
    }
    return n;
}

static inline bool before(const bpe_candidate *a, const bpe_candidate *b) {
    return a->rank < b->rank || (a->rank == b->rank && a->position < b->position);
}

static bool heap_push(bpe_scratch *s, bpe_candidate c) {
    if (!grow((void **)&s->heap, &s->heap_cap, s->heap_n + 1, sizeof *s->heap)) return false;
    size_t i = s->heap_n++;
    while (i > 0 && before(&c, &s->heap[(i - 1) / 2])) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = c;
    return true;
}

static bpe_candidate heap_pop(bpe_scratch *s) {
    bpe_candidate top = s->heap[0], last = s->heap[--s->heap_n];
    size_t i = 0;
    for (size_t child = 1; child < s->heap_n; child = 2 * i + 1) {
        if (child + 1 < s->heap_n && before(&s->heap[child + 1], &s->heap[child])) child++;
        if (!before(&s->heap[child], &last)) break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

/* Puts the pair (i, next of i) into the heap if it joins. */
static bool offer(const bpe *m, bpe_scratch *s, const uint8_t *p, uint32_t i) {
    const bpe_symbol *a = &s->symbol[i];
    if (a->next == END) return true;
    uint32_t joined, rank = pair_rank(m, p, a, &s->symbol[a->next], &joined);
    if (rank == VOCAB_NONE) return true;
    return heap_push(s, (bpe_candidate){rank, i, joined, a->bytes + s->symbol[a->next].bytes});
}

static bool merge_long(const bpe *m, bpe_scratch *s, const uint8_t *p, uint32_t n) {
    bpe_symbol *sym = s->symbol;
    s->heap_n = 0;
    for (uint32_t i = 0; i + 1 < n; i++)
        if (!offer(m, s, p, i)) return false;
    while (s->heap_n > 0) {
        bpe_candidate c = heap_pop(s);
        bpe_symbol *a = &sym[c.position];
        if (a->bytes == 0 || a->next == END || a->bytes + sym[a->next].bytes != c.bytes) continue;
        bpe_symbol *b = &sym[a->next];
        a->id = c.joined;
        a->bytes = c.bytes;
        a->next = b->next;
        b->bytes = 0;
        if (a->next != END) sym[a->next].prev = c.position;
        if (a->prev != END && !offer(m, s, p, a->prev)) return false;
        if (!offer(m, s, p, c.position)) return false;
    }
    return true;
}

/* by_score: a lone character that is no token becomes its bytes' tokens, or the unknown token. */
static bool emit_missing(const bpe *m, const uint8_t *p, uint32_t bytes, buf *ids) {
    if (!m->has_all_bytes) return m->unk == VOCAB_NONE || buf_append_u32(ids, m->unk);
    for (uint32_t i = 0; i < bytes; i++)
        if (!buf_append_u32(ids, m->byte_id[p[i]])) return false;
    return true;
}

static snug_err encode_word(const bpe *m, bpe_scratch *s, const uint8_t *p, size_t n, buf *ids, snug_error *err) {
    bpe_symbol small[SHORT_WORD], *sym = small;
    uint32_t count;
    if (n <= SHORT_WORD) { /* at most one symbol per byte */
        count = merge_short(m, p, sym, split_characters(m, p, n, sym));
        for (uint32_t i = 0; i < count; i++) sym[i].next = i + 1 < count ? i + 1 : END;
    } else {
        if (!grow((void **)&s->symbol, &s->symbol_cap, n, sizeof *s->symbol))
            return err_nomem(err, n * sizeof *s->symbol);
        sym = s->symbol;
        count = split_characters(m, p, n, sym);
        if (!merge_long(m, s, p, count)) return err_nomem(err, s->heap_n * sizeof *s->heap);
    }
    bool missing = false; /* the symbol before was */
    for (uint32_t i = count ? 0 : END; i != END; i = sym[i].next) {
        bool ok = true, fused = missing && m->fuse_unk && !m->has_all_bytes;
        missing = sym[i].id == VOCAB_NONE;
        if (!missing)
            ok = buf_append_u32(ids, sym[i].id);
        else if (!fused)
            ok = emit_missing(m, p + sym[i].offset, sym[i].bytes, ids);
        if (!ok) return err_nomem(err, ids->len);
    }
    return SNUG_OK;
}

static snug_err encode_cached(const bpe *m, bpe_scratch *s, const uint8_t *p, size_t n, buf *ids, snug_error *err) {
    if (!s->cache || n > CACHE_TEXT) return encode_word(m, s, p, n, ids, err);
    uint64_t h = hash_bytes(p, n);
    bpe_cache_line *line = &s->cache[h % CACHE_LINES];
    if (line->hash == h && line->bytes == n && memcmp(line->text, p, n) == 0)
        return buf_append(ids, line->id, line->n_ids * sizeof *line->id) ? SNUG_OK : err_nomem(err, ids->len);
    size_t before_bytes = ids->len;
    snug_err e = encode_word(m, s, p, n, ids, err);
    size_t n_ids = (ids->len - before_bytes) / sizeof *line->id;
    if (e || n_ids == 0 || n_ids > CACHE_IDS) return e;
    line->hash = h;
    line->bytes = (uint8_t)n;
    line->n_ids = (uint8_t)n_ids;
    memcpy(line->text, p, n);
    memcpy(line->id, ids->data + before_bytes, n_ids * sizeof *line->id);
    return SNUG_OK;
}

/* The next place after `from` where a marker follows another character; n if none. */
static size_t next_cut(const uint8_t *p, size_t n, size_t from) {
    for (size_t i = from + 1; i < n; i++) {
        const uint8_t *hit = memchr(p + i, 0xE2, n - i);
        if (!hit) return n;
        i = (size_t)(hit - p);
        if (i + 3 <= n && p[i + 1] == 0x96 && p[i + 2] == 0x81 &&
            !(i >= 3 && memcmp(p + i - 3, "\xE2\x96\x81", 3) == 0))
            return i;
    }
    return n;
}

snug_err bpe_encode(const bpe *m, bpe_scratch *s, const uint8_t *word, size_t n, buf *ids, snug_error *err) {
    if (n == 0) return SNUG_OK;
    if (n > INT32_MAX) return err_set(err, SNUG_ERR_ARG, "a word of %zu bytes", n);
    if (m->ignore_merges) {
        uint32_t id = vocab_find(&m->vocab, word, n);
        if (id != VOCAB_NONE) return buf_append_u32(ids, id) ? SNUG_OK : err_nomem(err, ids->len);
    }
    if (!m->cut_before_marker) return encode_cached(m, s, word, n, ids, err);
    for (size_t from = 0; from < n;) {
        size_t to = next_cut(word, n, from);
        snug_err e = encode_cached(m, s, word + from, to - from, ids, err);
        if (e) return e;
        from = to;
    }
    return SNUG_OK;
}
