/* Viterbi over byte positions, left to right (Kudo 2018, "Subword Regularization", section 3.2). At each end of a
 * character the best cut of the text so far is known: its score and where its last piece starts. From there every piece
 * that the text goes on with offers a cut to its own end, which is taken if it is strictly better; so of equals the
 * piece that starts first stays. A character that is no piece by itself is offered as an unknown one.
 *
 * Cuts of equal score are common (the same pieces in another order), and rounding decides between them. SentencePiece
 * adds in double and keeps float; `tokenizers` does all in double. */
#include "token/unigram.h"
#include "base/err.h"
#include "base/hash.h"
#include "token/utf8.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>

typedef struct node {
    double score;       /* of the best cut that ends here       */
    uint32_t start, id; /* its last piece; start NONE: no cut   */
    uint32_t end;       /* of the piece that starts here on the best path */
} node;
#define NONE UINT32_MAX

static bool bit(const uint64_t *bits, uint32_t i) {
    return bits[i >> 6] >> (i & 63) & 1;
}

void unigram_fini(unigram *u) {
    trie_fini(&u->pieces);
    free(u->score);
    free(u->user);
    memset(u, 0, sizeof *u);
}

static snug_err add_pieces(unigram *u, const vocab *v, const uint64_t *matches, const trie *user, snug_error *err) {
    for (uint32_t id = 0; id < u->n; id++) {
        const char *text = vocab_text(v, id);
        uint32_t bytes = vocab_bytes(v, id), which;
        if (!vocab_has(v, id) || !bit(matches, id)) continue;
        snug_err e = trie_add(&u->pieces, text, bytes, id, err);
        if (e) return e;
        u->hash = hash_bytes_seeded(&u->score[id], sizeof u->score[id], u->hash + id);
        if (user && trie_longest(user, (const uint8_t *)text, bytes, &which) == bytes)
            u->user[id >> 6] |= 1ull << (id & 63);
    }
    return SNUG_OK;
}

snug_err unigram_init(unigram *u, unigram_kind kind, const vocab *v, const double *score, uint32_t n,
                      const uint64_t *matches, const uint64_t *normal, const trie *user, snug_error *err) {
    *u = (unigram){.kind = kind, .n = n};
    u->score = malloc(((size_t)n + 1) * sizeof *u->score);
    u->user = calloc(n / 64 + 1, sizeof *u->user);
    if (!u->score || !u->user) return err_nomem(err, n * sizeof *u->score);
    double least = kind == UNIGRAM_SENTENCEPIECE ? (double)FLT_MAX : (double)INFINITY;
    for (uint32_t id = 0; id < n; id++) {
        if (!(score[id] >= -FLT_MAX && score[id] <= FLT_MAX))
            return err_set(err, SNUG_ERR_FORMAT, "the score of token %u is not a finite number", id);
        u->score[id] = score[id];
        if (vocab_has(v, id) && bit(normal, id) && score[id] < least) least = score[id];
    }
    u->unk_score = kind == UNIGRAM_SENTENCEPIECE ? (double)((float)least - 10.0f) : least - 10;
    return add_pieces(u, v, matches, user, err);
}

/* SentencePiece (0.2.3) gives a user-defined symbol -0.1, whatever its own score: nearly always the best. */
static double piece_score(const unigram *u, uint32_t id) {
    return bit(u->user, id) ? (double)-0.1f : u->score[id];
}

static void offer(const unigram *u, node *to, uint32_t start, uint32_t id, double score) {
    if (u->kind == UNIGRAM_SENTENCEPIECE) score = (double)(float)score;
    if (to->start == NONE || score > to->score) *to = (node){score, start, id, NONE};
}

static void find_best(const unigram *u, uint32_t unk, node *at, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t k = utf8_length(p[i]);
        double before = at[i].score;
        bool covered = false;
        uint32_t step = 0;
        for (size_t j = i; j < n && u->pieces.n_edges && (step = trie_step(&u->pieces, step, p[j])) != 0; j++) {
            if (!u->pieces.value[step]) continue;
            uint32_t id = u->pieces.value[step] - 1;
            offer(u, &at[j + 1], (uint32_t)i, id, piece_score(u, id) + before);
            covered |= j + 1 - i == k;
        }
        if (!covered) offer(u, &at[i + k], (uint32_t)i, unk, u->unk_score + before);
        i += k;
    }
}

/* A run of unknown characters. `tokenizers` looks the whole run up once more. */
static bool put_unknown(const unigram *u, const bpe *m, const uint8_t *p, size_t n, buf *ids) {
    uint32_t id = u->kind == UNIGRAM_TOKENIZERS ? vocab_find(&m->vocab, p, n) : VOCAB_NONE;
    if (id != VOCAB_NONE && id < u->n) return buf_append_u32(ids, id);
    bool bytes = m->byte_fallback;
    for (size_t i = 0; i < n && bytes; i++) bytes = m->byte_id[p[i]] != VOCAB_NONE;
    if (!bytes) return m->unk == VOCAB_NONE || buf_append_u32(ids, m->unk);
    for (size_t i = 0; i < n; i++)
        if (!buf_append_u32(ids, m->byte_id[p[i]])) return false;
    return true;
}

snug_err unigram_encode(const unigram *u, const bpe *m, buf *lattice, const uint8_t *text, size_t n, buf *ids,
                        snug_error *err) {
    if (n == 0) return SNUG_OK;
    if (n > INT32_MAX) return err_set(err, SNUG_ERR_ARG, "a word of %zu bytes", n);
    lattice->len = 0;
    if (!buf_reserve(lattice, (n + 1) * sizeof(node))) return err_nomem(err, n * sizeof(node));
    node *at = (node *)(void *)lattice->data;
    for (size_t i = 0; i <= n; i++) at[i] = (node){0, NONE, NONE, NONE};
    find_best(u, m->unk, at, text, n);
    for (size_t end = n; end > 0; end = at[end].start) at[at[end].start].end = (uint32_t)end;
    for (size_t i = 0, end; i < n; i = end) {
        end = at[i].end;
        bool unknown = at[end].id == m->unk;
        while (unknown && end < n && at[at[end].end].id == m->unk) end = at[end].end;
        if (!(unknown ? put_unknown(u, m, text + i, end - i, ids) : buf_append_u32(ids, at[end].id)))
            return err_nomem(err, ids->len);
    }
    return SNUG_OK;
}
