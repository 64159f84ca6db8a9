/* Vocabulary tables: one blob of texts, offsets, and an open-addressing hash with linear probing, sized to a power of
 * two at least twice the number of tokens. 128,000 tokens take about 3 MB. */
#include "token/vocab.h"
#include "base/err.h"
#include "base/hash.h"
#include <stdlib.h>
#include <string.h>

typedef struct vocab_entry {
    uint32_t id, offset, bytes, indexed;
} vocab_entry;

snug_err vocab_add(vocab_builder *b, uint32_t id, const char *text, size_t bytes, bool indexed, snug_error *err) {
    if (id >= VOCAB_MAX_TOKENS)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "token id %u, the highest supported is %d", id, VOCAB_MAX_TOKENS - 1);
    if (b->text.len + bytes + 1 > UINT32_MAX / 2)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "a vocabulary of more than 2 GiB");
    vocab_entry e = {id, (uint32_t)b->text.len, (uint32_t)bytes, indexed};
    if (!buf_append(&b->text, text, bytes) || !buf_append(&b->text, "", 1) || !buf_append(&b->entry, &e, sizeof e))
        return err_nomem(err, bytes);
    if (id + 1 > b->n_ids) b->n_ids = id + 1;
    return SNUG_OK;
}

void vocab_builder_fini(vocab_builder *b) {
    buf_fini(&b->text);
    buf_fini(&b->entry);
    b->n_ids = 0;
}

void vocab_fini(vocab *v) {
    free(v->text);
    free(v->offset);
    free(v->present);
    free(v->slot);
    memset(v, 0, sizeof *v);
}

static inline uint32_t slot_of(const vocab *v, const void *text, size_t bytes) {
    return (uint32_t)hash_bytes(text, bytes) & v->slot_mask;
}

uint32_t vocab_find(const vocab *v, const void *text, size_t bytes) {
    if (bytes > v->max_bytes || !v->slot) return VOCAB_NONE;
    for (uint32_t s = slot_of(v, text, bytes);; s = (s + 1) & v->slot_mask) {
        uint32_t id = v->slot[s];
        if (id-- == 0) return VOCAB_NONE;
        if (vocab_bytes(v, id) == bytes && memcmp(vocab_text(v, id), text, bytes) == 0) return id;
    }
}

static void index_text(vocab *v, uint32_t id) {
    const char *text = vocab_text(v, id);
    uint32_t bytes = vocab_bytes(v, id), s = slot_of(v, text, bytes);
    for (; v->slot[s]; s = (s + 1) & v->slot_mask) {
        uint32_t other = v->slot[s] - 1;
        if (vocab_bytes(v, other) == bytes && memcmp(vocab_text(v, other), text, bytes) == 0) return;
    }
    v->slot[s] = id + 1;
    if (bytes > v->max_bytes) v->max_bytes = bytes;
}

snug_err vocab_build(vocab_builder *b, vocab *out, snug_error *err) {
    vocab v = {.n = b->n_ids};
    size_t n_entries = b->entry.len / sizeof(vocab_entry), n = v.n, slots = 16;
    const vocab_entry *entry = (const vocab_entry *)b->entry.data;
    while (slots < 2 * n_entries) slots *= 2;
    uint32_t *last = malloc((n + 1) * sizeof *last); /* id -> entry + 1 */
    v.text = malloc(b->text.len + n + 1);            /* holes take their NUL */
    v.offset = malloc((n + 1) * sizeof *v.offset);
    v.present = calloc(n / 64 + 1, sizeof *v.present);
    v.slot = calloc(slots, sizeof *v.slot);
    v.slot_mask = (uint32_t)slots - 1;
    if (!last || !v.text || !v.offset || !v.present || !v.slot) {
        free(last);
        vocab_fini(&v);
        return err_nomem(err, slots * 4 + b->text.len);
    }
    memset(last, 0, (n + 1) * sizeof *last);
    for (size_t i = 0; i < n_entries; i++) last[entry[i].id] = (uint32_t)i + 1;
    uint32_t at = 0;
    for (size_t id = 0; id < n; id++) {
        v.offset[id] = at;
        if (last[id]) {
            const vocab_entry *e = &entry[last[id] - 1];
            memcpy(v.text + at, b->text.data + e->offset, e->bytes);
            at += e->bytes;
            v.present[id >> 6] |= 1ull << (id & 63);
        }
        v.text[at++] = 0;
    }
    v.offset[n] = at;
    for (size_t id = 0; id < n; id++)
        if (last[id] && entry[last[id] - 1].indexed) index_text(&v, (uint32_t)id);
    free(last);
    vocab_builder_fini(b);
    *out = v;
    return SNUG_OK;
}

/* True if vocab_find gives this id. */
static bool is_indexed(const vocab *v, uint32_t id) {
    return vocab_has(v, id) && vocab_find(v, vocab_text(v, id), vocab_bytes(v, id)) == id;
}

snug_err vocab_extend(vocab *v, const vocab *more, snug_error *err) {
    vocab_builder b = {0};
    snug_err e = SNUG_OK;
    for (uint32_t id = 0; id < v->n && !e; id++)
        if (vocab_has(v, id) && !vocab_has(more, id))
            e = vocab_add(&b, id, vocab_text(v, id), vocab_bytes(v, id), is_indexed(v, id), err);
    for (uint32_t id = 0; id < more->n && !e; id++)
        if (vocab_has(more, id))
            e = vocab_add(&b, id, vocab_text(more, id), vocab_bytes(more, id), is_indexed(more, id), err);
    vocab both = {0};
    if (!e) e = vocab_build(&b, &both, err);
    vocab_builder_fini(&b);
    if (e) return e;
    vocab_fini(v);
    *v = both;
    return SNUG_OK;
}

void vocab_unindex(vocab *v, const uint64_t *drop) {
    bool any = false;
    for (size_t i = 0; i < v->n / 64 + 1 && !any; i++) any = drop[i] != 0;
    if (!any) return;
    uint64_t *keep = v->present; /* what is indexed now must be known before the table is cleared: walk the slots */
    uint32_t n = 0;
    for (uint32_t s = 0; s <= v->slot_mask; s++)
        if (v->slot[s]) n++;
    if (n == 0) return;
    uint32_t *id = malloc(n * sizeof *id);
    if (!id) return; /* then they stay: harmless but for exotic texts */
    n = 0;
    for (uint32_t s = 0; s <= v->slot_mask; s++)
        if (v->slot[s]) id[n++] = v->slot[s] - 1;
    memset(v->slot, 0, ((size_t)v->slot_mask + 1) * sizeof *v->slot);
    for (uint32_t i = 0; i < n; i++)
        if (!(drop[id[i] >> 6] >> (id[i] & 63) & 1) && (keep[id[i] >> 6] >> (id[i] & 63) & 1)) index_text(v, id[i]);
    free(id);
}
