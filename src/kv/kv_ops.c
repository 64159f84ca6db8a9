/* What attention does with one page: store a position, scores, weighted sum. The cache is plain f16 or f32 here;
 * compressed pages will be other cases of the same calls. */
#include "base/checked.h"
#include "kern/kern.h"
#include "kv/kv.h"

#include <string.h>

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

void kv_page_set(kv_page *p, uint32_t slot, uint32_t pos, uint32_t head_dim, const float *k, const float *v) {
    size_t key = (size_t)(slot / KERN_TILE) * KERN_TILE * head_dim + slot % KERN_TILE, value = (size_t)slot * p->value_dim;
    if (p->type == SNUG_KV_F16) {
        store_key_f16((uint16_t *)p->k + key, k, head_dim);
        kern()->f32_to_f16(v, p->value_dim, (uint16_t *)p->v + value);
    } else {
        store_key_f32((float *)p->k + key, k, head_dim);
        memcpy((float *)p->v + value, v, p->value_dim * sizeof *v);
    }
    p->pos[slot] = pos;
    p->len = slot + 1;
}

void kv_scores(const kv_page *p, uint32_t slot0, uint32_t n, uint32_t head_dim, const float *q, uint32_t n_q,
               float scale, float *scores, size_t ld) {
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
