/* kv_b of latent attention (graph_latent.c) out of the two stacks that GGUFs of others have instead: of each head its keys transposed, kv_rank rows of
 * head_dim - rope_dims, which a query is multiplied by before it meets the latents, and its values as they are. In kv_b a head has its keys, then
 * its values, all of kv_rank columns. Numbers of 16 bits stay so, all others become f32, exactly what they stand for. */
#include "base/err.h"
#include "base/f16.h"
#include "codec/codecs.h"
#include "model/store_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct stacks {
    weight k, v;           /* the heads' matrices one below the other */
    uint8_t *raw_k, *raw_v;
    uint64_t heads, nope, value, rank;
    const snug_codec *to;
    float *key, *row;      /* a head's (rank, nope); (rank) */
    uint8_t *out;          /* a head's part of kv_b */
} stacks;

static snug_err open_stack(store *s, const gguf_tensor *t, uint64_t rows, uint64_t cols, uint64_t n, weight *w, uint8_t **raw, snug_error *err) {
    const snug_codec *codec = codec_by_ggml_type((int)t->type);
    if (t->n_dims != 3 || t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != n || !codec || codec->bytes((codec_params){0}, rows * n, cols) != t->bytes)
        return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' is %llu x %llu x %llu of type %u, expected %llu x %llu x %llu by the configuration, of a type that weights are stored in", s->path, t->name,
                       (unsigned long long)t->dims[2], (unsigned long long)t->dims[1], (unsigned long long)t->dims[0], t->type, (unsigned long long)n, (unsigned long long)rows, (unsigned long long)cols);
    if (!(*raw = malloc((size_t)t->bytes + 1))) return err_nomem(err, t->bytes);
    *w = (weight){.rows = rows * n, .cols = cols, .n_terms = 1};
    snug_err rc = io_pread(&s->files[t->file], t->offset, *raw, (size_t)t->bytes, err);
    return rc ? rc : wt_open(codec, (codec_params){0}, rows * n, cols, *raw, t->bytes, &w->term[0].wt, err);
}

static void put_row(const stacks *p, uint64_t at) {
    uint8_t *to = p->out + at * p->rank * (p->to == &codec_f32 ? 4 : 2);
    if (p->to == &codec_f32) memcpy(to, p->row, p->rank * sizeof *p->row);
    for (uint64_t c = 0; c < p->rank && p->to != &codec_f32; c++) {
        const uint16_t half = p->to == &codec_bf16 ? f32_to_bf16(p->row[c]) : f32_to_f16(p->row[c]);
        memcpy(to + 2 * c, &half, 2);
    }
}

static snug_err write_heads(store *s, const stacks *p, snug_error *err) {
    const uint64_t bytes = p->to->bytes((codec_params){0}, p->nope + p->value, p->rank);
    snug_err rc = store_make_open(s, err);
    for (uint64_t h = 0; h < p->heads && !rc; h++) {
        weight_decode(&p->k, h * p->rank, p->rank, p->key, p->nope);
        for (uint64_t i = 0; i < p->nope; i++) {
            for (uint64_t c = 0; c < p->rank; c++) p->row[c] = p->key[c * p->nope + i];
            put_row(p, i);
        }
        for (uint64_t i = 0; i < p->value; i++) {
            weight_decode(&p->v, h * p->value + i, 1, p->row, p->rank);
            put_row(p, p->nope + i);
        }
        rc = store_make_write(s, s->made.bytes + h * bytes, p->out, bytes, err);
    }
    return rc;
}

snug_err store_make_kv_b(store *s, const gguf_tensor *k, int layer, found_term *f, snug_error *err) {
    const config *c = &s->cfg;
    stacks p = {.heads = c->n_heads, .nope = c->head_dim - c->rope_dims, .value = config_value_dim(c), .rank = c->kv_rank};
    char name[64];
    snprintf(name, sizeof name, "blk.%d.attn_v_b.weight", layer);
    const gguf_tensor *v = gguf_find_tensor(s->gguf, name);
    if (!v) return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' is there but '%s' is missing", s->path, k->name, name);
    snug_err rc = open_stack(s, k, p.rank, p.nope, p.heads, &p.k, &p.raw_k, err);
    if (!rc) rc = open_stack(s, v, p.value, p.rank, p.heads, &p.v, &p.raw_v, err);
    const snug_codec *from = rc ? NULL : p.k.term[0].wt.codec;
    p.to = !rc && k->type == v->type && (from == &codec_bf16 || from == &codec_f16) ? from : &codec_f32;
    if (!rc) { /* sizes that the file has */
        p.key = malloc(p.rank * p.nope * sizeof *p.key);
        p.row = malloc(p.rank * sizeof *p.row);
        p.out = malloc((p.nope + p.value) * p.rank * sizeof *p.row);
        if (!p.key || !p.row || !p.out) rc = err_nomem(err, (p.nope + p.value) * p.rank * sizeof *p.row);
    }
    if (!rc) rc = write_heads(s, &p, err);
    f->rows = p.heads * (p.nope + p.value), f->cols = p.rank;
    if (!rc) store_make_take(s, p.to, f);
    free(p.raw_k);
    free(p.raw_v);
    free(p.key);
    free(p.row);
    free(p.out);
    return rc;
}
