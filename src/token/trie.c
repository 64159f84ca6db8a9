/* Tries: a hash of (node, byte) -> node with linear probing, at most half full; a node's value in a flat table.
 * Building needs no order and no second pass, a step costs one probe or two. */
#include "token/trie.h"
#include "base/err.h"
#include <stdlib.h>
#include <string.h>

static inline uint32_t edge_slot(const trie *t, uint64_t key) {
    return (uint32_t)(key * 0x9E3779B97F4A7C15u >> 32) & t->mask;
}

uint32_t trie_step(const trie *t, uint32_t node, uint8_t byte) {
    uint64_t key = ((uint64_t)node << 8 | byte) + 1;
    for (uint32_t s = edge_slot(t, key); t->key[s]; s = (s + 1) & t->mask)
        if (t->key[s] == key) return t->child[s];
    return 0; /* the root is nobody's child */
}

static bool grow_edges(trie *t) {
    uint32_t slots = t->mask ? 2 * (t->mask + 1) : 64;
    trie bigger = {.mask = slots - 1};
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

static bool new_node(trie *t) {
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

snug_err trie_add(trie *t, const char *text, size_t bytes, uint32_t value, snug_error *err) {
    if (bytes == 0) return SNUG_OK;
    if (t->n_nodes == 0 && !new_node(t)) return err_nomem(err, 256);
    uint32_t node = 0;
    for (size_t i = 0; i < bytes; i++) {
        if ((!t->mask || 2 * (t->n_edges + 1) > t->mask) && !grow_edges(t))
            return err_nomem(err, 16 * (size_t)t->n_edges);
        uint32_t next = trie_step(t, node, (uint8_t)text[i]);
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

void trie_fini(trie *t) {
    free(t->key);
    free(t->child);
    free(t->value);
    memset(t, 0, sizeof *t);
}

size_t trie_longest(const trie *t, const uint8_t *text, size_t n, uint32_t *value) {
    uint32_t node = 0;
    size_t longest = 0;
    for (size_t i = 0; i < n && t->n_edges && (node = trie_step(t, node, text[i])) != 0; i++) {
        if (!t->value[node]) continue;
        *value = t->value[node] - 1;
        longest = i + 1;
    }
    return longest;
}
