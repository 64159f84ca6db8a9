/* A trie over byte strings: finds all stored strings that start at a place of a text. */
#ifndef TOKEN_TRIE_H
#define TOKEN_TRIE_H
#include <snug.h>

typedef struct trie {
    uint64_t *key;    /* node << 8 | byte, +1 so that 0 is empty */
    uint32_t *child;
    uint32_t mask, n_edges, n_nodes;
    uint32_t *value;  /* node -> value of the string that ends there + 1; 0: none does */
    size_t value_cap;
    bool first[256];  /* bytes that some string starts with */
} trie;

/* Of equal strings the later value counts. The empty string is ignored. Zeroed is an empty trie. */
snug_err trie_add(trie *t, const char *text, size_t bytes, uint32_t value, snug_error *err);
void trie_fini(trie *t);
/* The node behind `node` (0: the root) on `byte`; 0: none. Not for an empty trie (n_edges 0). */
uint32_t trie_step(const trie *t, uint32_t node, uint8_t byte);
/* Length of the longest string that text[0..n) starts with, 0 if none does; *value: its value. */
size_t trie_longest(const trie *t, const uint8_t *text, size_t n, uint32_t *value);
#endif
