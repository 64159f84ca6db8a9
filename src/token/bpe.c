/* BPE tables: the pair hash, the score ranks, the alphabet. The merge loop is in bpe_merge.c.
 *
 * 300,000 merges: 3.6 MB of pairs by rank and 8 bytes for each of 2^20 slots; a slot carries 32 bits of the pair's
 * hash, so that a pair that is no merge (most are) costs one cache miss. */
#include "token/bpe.h"
#include "base/err.h"
#include "token/bpe_impl.h"
#include "token/utf8.h"
#include <stdlib.h>
#include <string.h>

void bpe_init(bpe *m, vocab *v) {
    memset(m, 0, sizeof *m);
    m->vocab = *v;
    memset(v, 0, sizeof *v);
    m->unk = VOCAB_NONE;
}

void bpe_fini(bpe *m) {
    vocab_fini(&m->vocab);
    free(m->pair);
    free(m->slot);
    free(m->rank);
    free(m->score);
    memset(m, 0, sizeof *m);
}

snug_err bpe_reserve_pairs(bpe *m, size_t n, snug_error *err) {
    if (n > UINT32_MAX / 4) return err_set(err, SNUG_ERR_UNSUPPORTED, "%zu merges", n);
    size_t slots = 16;
    while (slots < 2 * n) slots *= 2;
    m->pair = malloc((n + 1) * sizeof *m->pair);
    m->slot = calloc(slots, sizeof *m->slot);
    m->slot_mask = (uint32_t)slots - 1;
    return m->pair && m->slot ? SNUG_OK : err_nomem(err, n * sizeof *m->pair + slots * sizeof *m->slot);
}

/* Space for the pair must have been reserved. A pair that comes twice keeps its later rank, as in `tokenizers`. */
static void insert_pair(bpe *m, uint32_t a, uint32_t b, uint32_t joined) {
    uint32_t rank = m->n_pairs++;
    m->pair[rank] = (bpe_pair){a, b, joined};
    uint64_t h = bpe_pair_hash(a, b);
    for (uint32_t s = (uint32_t)h & m->slot_mask;; s = (s + 1) & m->slot_mask) {
        uint64_t v = m->slot[s];
        if (v != 0) {
            const bpe_pair *p = &m->pair[(uint32_t)v - 1];
            if (p->a != a || p->b != b) continue;
        }
        m->slot[s] = (h & 0xFFFFFFFF00000000u) | (rank + 1);
        return;
    }
}

static snug_err join(const bpe *m, const char *a, size_t na, const char *b, size_t nb, uint32_t *out, snug_error *err) {
    char small[256], *text = small;
    if (na + nb > sizeof small && !(text = malloc(na + nb))) return err_nomem(err, na + nb);
    memcpy(text, a, na);
    memcpy(text + na, b, nb);
    *out = vocab_find(&m->vocab, text, na + nb);
    if (text != small) free(text);
    if (*out == VOCAB_NONE)
        return err_set(err, SNUG_ERR_FORMAT, "merge %u joins '%.*s' and '%.*s' into a token that the vocabulary lacks",
                       m->n_pairs, (int)(na < 60 ? na : 60), a, (int)(nb < 60 ? nb : 60), b);
    return SNUG_OK;
}

snug_err bpe_add_merge(bpe *m, const char *a, size_t na, const char *b, size_t nb, snug_error *err) {
    uint32_t ia = vocab_find(&m->vocab, a, na), ib = vocab_find(&m->vocab, b, nb), joined;
    if (ia == VOCAB_NONE || ib == VOCAB_NONE) {
        bool first = ia == VOCAB_NONE;
        size_t n = first ? na : nb;
        return err_set(err, SNUG_ERR_FORMAT, "merge %u: the vocabulary lacks '%.*s'", m->n_pairs,
                       (int)(n < 100 ? n : 100), first ? a : b);
    }
    snug_err e = join(m, a, na, b, nb, &joined, err);
    if (!e) insert_pair(m, ia, ib, joined);
    return e;
}

snug_err bpe_add_merge_ids(bpe *m, uint32_t a, uint32_t b, snug_error *err) {
    if (!vocab_has(&m->vocab, a) || !vocab_has(&m->vocab, b))
        return err_set(err, SNUG_ERR_FORMAT, "merge %u of the ids %u and %u: no such tokens", m->n_pairs, a, b);
    uint32_t joined;
    snug_err e = join(m, vocab_text(&m->vocab, a), vocab_bytes(&m->vocab, a), vocab_text(&m->vocab, b),
                      vocab_bytes(&m->vocab, b), &joined, err);
    if (!e) insert_pair(m, a, b, joined);
    return e;
}

bool bpe_merge_is_live(const bpe *m, uint32_t rank) {
    uint32_t joined;
    return bpe_find_pair(m, m->pair[rank].a, m->pair[rank].b, &joined) == rank;
}

typedef struct scored {
    float score;
    uint32_t id;
} scored;
static int by_falling_score(const void *x, const void *y) {
    const scored *a = x, *b = y;
    return a->score > b->score ? -1 : a->score < b->score ? 1 : 0;
}

snug_err bpe_set_scores(bpe *m, const float *score, snug_error *err) {
    uint32_t n = m->vocab.n;
    scored *s = malloc((n + 1) * sizeof *s);
    m->rank = malloc((n + 1) * sizeof *m->rank);
    m->score = malloc((n + 1) * sizeof *m->score);
    if (!s || !m->rank || !m->score) {
        free(s);
        return err_nomem(err, n * sizeof *s);
    }
    for (uint32_t i = 0; i < n; i++) {
        float f = score[i];
        m->score[i] = f;
        s[i] = (scored){f == f ? f : -__builtin_inff(), i}; /* a NaN has no order: last */
    }
    qsort(s, n, sizeof *s, by_falling_score);
    for (uint32_t i = 0, r = 0; i < n; i++) {
        if (i > 0 && s[i].score != s[i - 1].score) r = i;
        m->rank[s[i].id] = r;
    }
    free(s);
    m->by_score = true;
    return SNUG_OK;
}

void bpe_drop_scores(bpe *m) {
    free(m->rank);
    free(m->score);
    m->rank = NULL;
    m->score = NULL;
    m->by_score = false;
    m->longest_join = 0;
}

/* The marker U+2581 stands for a space. If no token that merging can make has it after another character, merges never
 * cross from a word into the next word's marker, and cutting there changes nothing but the speed. */
static bool token_has_inner_marker(const char *text, size_t n) {
    for (size_t i = 1; i + 3 <= n; i++)
        if (memcmp(text + i, "\xE2\x96\x81", 3) == 0 && !(i >= 3 && memcmp(text + i - 3, "\xE2\x96\x81", 3) == 0))
            return true;
    return false;
}

/* Takes a token "<0x0A>" for a byte that has none yet. */
static void find_byte(bpe *m, uint32_t id) {
    static const char hex[] = "0123456789ABCDEF";
    const char *text = vocab_text(&m->vocab, id), *high, *low;
    if (!vocab_has(&m->vocab, id) || vocab_bytes(&m->vocab, id) != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return;
    high = memchr(hex, text[3], 16);
    low = memchr(hex, text[4], 16);
    if (!high || !low) return;
    uint32_t *to = &m->byte_id[(high - hex) * 16 + (low - hex)];
    if (*to == VOCAB_NONE) *to = id;
}

snug_err bpe_finish(bpe *m, snug_error *err) {
    const vocab *v = &m->vocab;
    uint8_t c[4];
    for (uint32_t i = 0; i < 384; i++) m->char_id[i] = vocab_find(v, c, utf8_encode(i, c));
    m->has_all_bytes = true;
    for (uint32_t i = 0; i < 256; i++) {
        static const char hex[] = "0123456789ABCDEF";
        char text[7] = {'<', '0', 'x', hex[i >> 4], hex[i & 15], '>', 0};
        m->byte_id[i] = vocab_find(v, text, 6);
        if (m->byte_id[i] == VOCAB_NONE) m->has_all_bytes = false;
    }
    for (uint32_t id = 0; id < v->n && !m->has_all_bytes; id++)
        find_byte(m, id); /* they need not be found by their texts */
    m->has_all_bytes = true;
    for (uint32_t i = 0; i < 256; i++) m->has_all_bytes &= m->byte_id[i] != VOCAB_NONE;
    /* Cutting also needs the marker to be a token: a pending unknown run must end there whichever way the text is cut.
     */
    m->cut_before_marker = !m->ignore_merges && vocab_find(v, "\xE2\x96\x81", 3) != VOCAB_NONE;
    if (m->by_score) {
        for (uint32_t id = 0; id < v->n && m->cut_before_marker; id++)
            if (vocab_has(v, id) && token_has_inner_marker(vocab_text(v, id), vocab_bytes(v, id)))
                m->cut_before_marker = false;
    } else {
        if (!m->pair) {
            snug_err e = bpe_reserve_pairs(m, 0, err);
            if (e) return e;
        }
        for (uint32_t r = 0; r < m->n_pairs && m->cut_before_marker; r++) {
            uint32_t id = m->pair[r].joined;
            if (token_has_inner_marker(vocab_text(v, id), vocab_bytes(v, id))) m->cut_before_marker = false;
        }
    }
    return SNUG_OK;
}

snug_err bpe_all_reachable(const bpe *m, bool *out, snug_error *err) {
    bpe plain = *m; /* same tables, no shortcut */
    plain.ignore_merges = false;
    bpe_scratch s = {0};
    buf ids = {0};
    snug_err e = SNUG_OK;
    *out = true;
    for (uint32_t id = 0; id < m->vocab.n && *out && !e; id++) {
        const uint8_t *text = (const uint8_t *)vocab_text(&m->vocab, id);
        uint32_t n = vocab_bytes(&m->vocab, id), only;
        if (!vocab_has(&m->vocab, id) || n == 0 || utf8_valid_prefix(text, n) != n ||
            vocab_find(&m->vocab, text, n) != id)
            continue;
        ids.len = 0;
        e = bpe_encode(&plain, &s, text, n, &ids, err);
        if (e || ids.len != sizeof only)
            *out = false;
        else if (memcpy(&only, ids.data, sizeof only), only != id)
            *out = false;
    }
    buf_fini(&ids);
    bpe_scratch_fini(&s);
    return e;
}
