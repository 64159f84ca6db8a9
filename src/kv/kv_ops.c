/* What attention does with one page: store a position, scores, weighted sum. The cache is plain f16 or f32 here;
 * compressed pages will be other cases of the same calls. */
#include "base/checked.h"
#include "kern/kern.h"
#include "kv/kv.h"

#include <string.h>

enum { SHARED_NUMBERS = KV_PAGE * 576 /* on the stack: a page of DeepSeek's */ };
_Static_assert((int)SHARED_NUMBERS >= (int)KV_MAX_SHARED, "a key fits");

/* A key goes to its tile, dimension by dimension. */
static void store_key_f16(uint16_t *tile, const float *k, uint32_t head_dim) {
    uint16_t half[64];
    for (uint32_t d = 0; d < head_dim; d += 64) {
        uint32_t n = head_dim - d < 64 ? head_dim - d : 64;
        kern()->f32_to_f16(k + d, n, half);
        for (uint32_t i = 0; i < n; i++) tile[(size_t)(d + i) * KERN_TILE] = half[i];
    }
}

static void store_key_f32(float *tile, const float *k, uint32_t head_dim) {
    for (uint32_t d = 0; d < head_dim; d++) tile[(size_t)d * KERN_TILE] = k[d];
}

static void store_row(const kv_page *p, uint8_t *rows, uint32_t slot, const float *x, uint32_t n) {
    if (p->type == SNUG_KV_F16) kern()->f32_to_f16(x, n, (uint16_t *)rows + (size_t)slot * n);
    else memcpy((float *)rows + (size_t)slot * n, x, n * sizeof *x);
}

static void load_row(const kv_page *p, const uint8_t *rows, uint32_t slot, uint32_t n, float *x) {
    if (p->type == SNUG_KV_F16) kern()->f16_to_f32((const uint16_t *)rows + (size_t)slot * n, n, x);
    else memcpy(x, (const float *)rows + (size_t)slot * n, n * sizeof *x);
}

void kv_page_set(kv_page *p, uint32_t slot, uint32_t pos, uint32_t head_dim, const float *k, const float *v) {
    const size_t key = (size_t)(slot / KERN_TILE) * KERN_TILE * head_dim + slot % KERN_TILE;
    if (p->key_rest) store_row(p, p->k, slot, k + p->value_dim, p->key_rest);
    else if (p->type == SNUG_KV_F16) store_key_f16((uint16_t *)p->k + key, k, head_dim);
    else store_key_f32((float *)p->k + key, k, head_dim);
    store_row(p, p->v, slot, p->key_rest ? k : v, p->value_dim);
    p->pos[slot] = pos;
    p->len = slot + 1;
}

/* Of keys in two parts, put together in f32 for all queries that share them, up to a page at a time. */
static void scores_of_rows(const kv_page *p, uint32_t slot0, uint32_t n, uint32_t head_dim, const float *q, uint32_t n_q, float scale, float *scores, size_t ld) {
    float rows[SHARED_NUMBERS];
    const uint32_t most = SHARED_NUMBERS / head_dim, end = slot0 + n;
    for (uint32_t slot = slot0; slot < end; slot += most) {
        const uint32_t some = end - slot < most ? end - slot : most;
        for (uint32_t i = 0; i < some; i++) {
            load_row(p, p->v, slot + i, p->value_dim, rows + (size_t)i * head_dim);
            load_row(p, p->k, slot + i, p->key_rest, rows + (size_t)i * head_dim + p->value_dim);
        }
        for (uint32_t h = 0; h < n_q; h++) memset(scores + h * ld + slot, 0, some * sizeof *scores);
        kern()->dot_f32(some, n_q, head_dim, rows, head_dim, q, head_dim, scores + slot, ld);
        for (uint32_t h = 0; h < n_q; h++)
            for (uint32_t i = 0; i < some; i++) scores[h * ld + slot + i] *= scale;
    }
}

void kv_scores(const kv_page *p, uint32_t slot0, uint32_t n, uint32_t head_dim, const float *q, uint32_t n_q,
               float scale, float *scores, size_t ld) {
    if (p->key_rest) {
        scores_of_rows(p, slot0, n, head_dim, q, n_q, scale, scores, ld);
        return;
    }
    uint32_t tile = slot0 / KERN_TILE, n_tiles = (uint32_t)div_up(slot0 + n, KERN_TILE) - tile;
    size_t at = (size_t)tile * KERN_TILE * head_dim;
    const uint8_t *next = p->v + (size_t)tile * KERN_TILE * p->value_dim * (p->type == SNUG_KV_F16 ? 2 : 4);
    scores += (size_t)tile * KERN_TILE;
    if (p->type == SNUG_KV_F16)
        kern()->scores_f16((const uint16_t *)p->k + at, n_tiles, head_dim, q, n_q, scale, scores, ld, next);
    else
        kern()->scores_f32((const float *)p->k + at, n_tiles, head_dim, q, n_q, scale, scores, ld, next);
}

void kv_accumulate(const kv_page *p, uint32_t slot0, uint32_t n, const float *weights, size_t ld,
                   uint32_t n_q, float *out, const kv_page *next) {
    const size_t dim = p->value_dim, at = (size_t)slot0 * dim;
    if (p->type == SNUG_KV_F16)
        kern()->accumulate_f16((const uint16_t *)p->v + at, n, dim, weights, ld, n_q, out, next ? next->k : NULL);
    else
        kern()->accumulate_f32((const float *)p->v + at, n, dim, weights, ld, n_q, out, next ? next->k : NULL);
}
