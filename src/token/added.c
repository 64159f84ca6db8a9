/* Added tokens inside text. At each place the longest token that starts there is taken, matches never overlap, and a
 * match that a rule rejects (not a single word; special while parse_special is off) is passed over as a whole, not
 * retried shorter: this is what `tokenizers` does with its leftmost-longest automaton, and ids depend on it. Walking a
 * trie from every byte costs O(n * longest token); a table of first bytes skips nearly all of it. */
#include "token/added.h"
#include "base/err.h"
#include "token/utf8.h"
#include <stdlib.h>
#include <string.h>

static inline uint32_t edge_slot(const added_trie *t, uint64_t key) {
    return (uint32_t)(key * 0x9E3779B97F4A7C15u >> 32) & t->mask;
}

static uint32_t step(const added_trie *t, uint32_t node, uint8_t byte) {
    uint64_t key = ((uint64_t)node << 8 | byte) + 1;
    for (uint32_t s = edge_slot(t, key); t->key[s]; s = (s + 1) & t->mask)
        if (t->key[s] == key) return t->child[s];
    return 0; /* the root is nobody's child */
}

static bool grow_edges(added_trie *t) {
    uint32_t slots = t->mask ? 2 * (t->mask + 1) : 64;
    added_trie bigger = {.mask = slots - 1};
    bigger.key = calloc(slots, sizeof *bigger.key);
    bigger.child = malloc(slots * sizeof *bigger.child);
    if (!bigger.key || !bigger.child) {
        free(bigger.key);
        free(bigger.child);
        return false;
    }
    for (uint32_t i = 0; t->mask && i <= t->mask; i++) {
        if (!t->key[i]) continue;
        uint32_t s = edge_slot(&bigger, t->key[i]);
        while (bigger.key[s]) s = (s + 1) & bigger.mask;
        bigger.key[s] = t->key[i];
        bigger.child[s] = t->child[i];
    }
    free(t->key);
    free(t->child);
    t->key = bigger.key;
    t->child = bigger.child;
    t->mask = bigger.mask;
    return true;
}

static bool new_node(added_trie *t) {
    if (t->n_nodes == t->value_cap) {
        size_t cap = t->value_cap ? 2 * t->value_cap : 64;
        uint32_t *v = realloc(t->value, cap * sizeof *v);
        if (!v) return false;
        t->value = v;
        t->value_cap = cap;
    }
    t->value[t->n_nodes++] = 0;
    return true;
}

snug_err added_trie_add(added_trie *t, const char *text, size_t bytes, uint32_t value, snug_error *err) {
    if (bytes == 0) return SNUG_OK;
    if (t->n_nodes == 0 && !new_node(t)) return err_nomem(err, 256);
    uint32_t node = 0;
    for (size_t i = 0; i < bytes; i++) {
        if ((!t->mask || 2 * (t->n_edges + 1) > t->mask) && !grow_edges(t))
            return err_nomem(err, 16 * (size_t)t->n_edges);
        uint32_t next = step(t, node, (uint8_t)text[i]);
        if (!next) {
            next = t->n_nodes;
            if (!new_node(t)) return err_nomem(err, 4 * t->value_cap);
            uint64_t key = ((uint64_t)node << 8 | (uint8_t)text[i]) + 1;
            uint32_t s = edge_slot(t, key);
            while (t->key[s]) s = (s + 1) & t->mask;
            t->key[s] = key;
            t->child[s] = next;
            t->n_edges++;
        }
        node = next;
    }
    t->value[node] = value + 1;
    t->first[(uint8_t)text[0]] = true;
    return SNUG_OK;
}

void added_trie_fini(added_trie *t) {
    free(t->key);
    free(t->child);
    free(t->value);
    memset(t, 0, sizeof *t);
}

/* Leftmost-longest match at or after `from`. */
static bool find(const added_trie *t, const uint8_t *text, size_t n, size_t from, size_t *start, size_t *end,
                 uint32_t *value) {
    for (size_t i = from; i < n; i++) {
        if (!t->first[text[i]]) continue;
        uint32_t node = 0;
        *value = 0;
        for (size_t j = i; j < n && (node = step(t, node, text[j])) != 0; j++) {
            if (!t->value[node]) continue;
            *value = t->value[node];
            *end = j + 1;
        }
        if (*value) {
            *start = i;
            --*value;
            return true;
        }
    }
    return false;
}

/* Start of the last character before `at` (at > 0). */
static size_t previous(const uint8_t *text, size_t at) {
    do at--;
    while (at > 0 && (text[at] & 0xC0) == 0x80);
    return at;
}

static bool is_single_word(const uint8_t *text, size_t n, size_t start, size_t end) {
    if (start > 0 && utf8_is_word(utf8_decode(text + previous(text, start)))) return false;
    return end == n || !utf8_is_word(utf8_decode(text + end));
}

snug_err added_split(const added_trie *t, const added_token *tokens, const uint8_t *text, size_t n, bool parse_special,
                     buf *out, snug_error *err) {
    size_t done = 0, from = 0, start, end;
    uint32_t value;
    while (t->n_edges && find(t, text, n, from, &start, &end, &value)) {
        const added_token *a = &tokens[value];
        from = end; /* the automaton goes on behind the match itself, whatever the rules below do */
        if (a->special && !parse_special) continue;
        if (a->single_word && !is_single_word(text, n, start, end)) continue;
        if (a->lstrip) {
            while (start > done) {
                size_t before = previous(text, start);
                if (before < done || !utf8_is_space(utf8_decode(text + before))) break;
                start = before;
            }
        }
        if (a->rstrip)
            while (end < n && utf8_is_space(utf8_decode(text + end))) end += utf8_length(text[end]);
        if (done < start) {
            added_span gap = {done, start, -1};
            if (!buf_append(out, &gap, sizeof gap)) return err_nomem(err, out->len);
        }
        added_span hit = {start, end, (int32_t)a->id};
        if (!buf_append(out, &hit, sizeof hit)) return err_nomem(err, out->len);
        done = end;
    }
    if (done < n) {
        added_span rest = {done, n, -1};
        if (!buf_append(out, &rest, sizeof rest)) return err_nomem(err, out->len);
    }
    return SNUG_OK;
}
