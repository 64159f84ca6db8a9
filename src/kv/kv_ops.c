/* What attention does with one page: store a position, scores, weighted sum. The cache is plain f16 or f32 here;
 * compressed pages will be other cases of the same calls. */
#include "base/f16.h"
#include "kern/kern.h"
#include "kv/kv.h"

void kv_page_set(kv_page *p, uint32_t slot, uint32_t pos, uint32_t head_dim, const float *k, const float *v) {
    size_t at = (size_t)slot * head_dim;
    if (p->type == SNUG_KV_F16) {
        kern()->f32_to_f16(k, head_dim, (uint16_t *)p->k + at);
        kern()->f32_to_f16(v, head_dim, (uint16_t *)p->v + at);
    } else {
        memcpy((float *)p->k + at, k, head_dim * sizeof *k);
        memcpy((float *)p->v + at, v, head_dim * sizeof *v);
    }
    p->pos[slot] = pos;
    p->len = slot + 1;
}

uint32_t kv_visible(const kv_page *p, uint32_t pos, uint32_t window, uint32_t *slot0) {
    uint32_t begin = 0, end = p->len;
    while (end > 0 && p->pos[end - 1] > pos) end--;
    if (window)
        while (begin < end && pos - p->pos[begin] >= window) begin++;
    *slot0 = begin;
    return end - begin;
}

void kv_scores(const kv_page *p, uint32_t slot0, uint32_t n, uint32_t head_dim, const float *q, uint32_t n_q,
               float scale, float *scores, size_t ld) {
    size_t at = (size_t)slot0 * head_dim;
    if (p->type == SNUG_KV_F16)
        kern()->scores_f16((const uint16_t *)p->k + at, n, head_dim, q, n_q, scale, scores, ld);
    else
        kern()->scores_f32((const float *)p->k + at, n, head_dim, q, n_q, scale, scores, ld);
}

void kv_accumulate(const kv_page *p, uint32_t slot0, uint32_t n, uint32_t head_dim, const float *weights, size_t ld,
                   uint32_t n_q, float *out) {
    size_t at = (size_t)slot0 * head_dim;
    if (p->type == SNUG_KV_F16)
        kern()->accumulate_f16((const uint16_t *)p->v + at, n, head_dim, weights, ld, n_q, out);
    else
        kern()->accumulate_f32((const float *)p->v + at, n, head_dim, weights, ld, n_q, out);
}
