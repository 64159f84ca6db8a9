/* Scratch, embedding, head, and the matmul that all layers use.
 *
 * One anonymous map holds all scratch; its size is a function of the configuration and the parameters (graph_bytes), so
 * that a budget can be checked before anything is made. Rows of weights are split into tiles; kernels compute an output
 * element the same way whatever tile it falls into, so tile sizes and threads never show in the result. */
#include "model/graph_impl.h"

#include "model/arch.h"

#include "base/err.h"
#include "base/thread.h"
#include "codec/transform.h"
#include "kern/kern.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { TILE_ROWS = 64, ACT_PAD = 256 };
static const double MIN_PARALLEL_WORK =
    4e5; /* multiply-adds: some 30 us; waking the others costs 5 us, and more on a busy machine */

graph_edge role_edge(tensor_role r) {
    switch (r) {
    case ROLE_Q: case ROLE_K: case ROLE_V: case ROLE_Q_A: case ROLE_KV_A: case ROLE_SSM_IN: return EDGE_ATTN_IN;
    case ROLE_Q_B: return EDGE_Q_LATENT;
    case ROLE_KV_B: return EDGE_KV_LATENT;
    case ROLE_O: case ROLE_SSM_OUT: return EDGE_ATTN_OUT;
    case ROLE_GATE: case ROLE_UP: case ROLE_ROUTER: case ROLE_SHARED_GATE: return EDGE_FFN_IN;
    case ROLE_DOWN: return EDGE_FFN_MID;
    case ROLE_HEAD: return EDGE_HEAD_IN;
    default: return EDGE_COUNT;
    }
}

/* ----------------------------------------------------------------- layout ---- */

/* Hands out consecutive ranges; with base NULL it only adds up. Sizes are below 2^24 columns times 2^32 rows times 4:
 * no overflow of one range; the sum is checked. */
typedef struct carver { uint8_t *base; uint64_t at; bool overflow; } carver;

static void *carve(carver *c, uint64_t n, uint64_t bytes_each) {
    uint64_t bytes, at = c->at;
    if (!checked_mul(n, bytes_each, &bytes) || !checked_add(c->at, round_up(bytes, 64), &c->at)) c->overflow = true;
    return c->base ? c->base + at : NULL;
}

/* Returns the widest of what weights multiply. */
static uint64_t carve_attention(graph *g, carver *c) {
    const config *f = &g->cfg;
    const uint64_t n = g->p.max_batch;
    g->kv = graph_kv(f, 1, 1, 1, SNUG_KV_F32);
    g->attn_ld = round_up((uint64_t)f->n_heads * config_value_dim(f), ACT_PAD);
    g->attn = carve(c, n, 4 * g->attn_ld);
    g->q_ld = f->kv_rank ? (uint64_t)f->n_heads * g->kv.head_dim : g->attn_ld;
    g->q = f->kv_rank ? carve(c, n, 4 * g->q_ld) : g->attn;
    g->k = carve(c, n, 4 * (uint64_t)g->kv.n_kv_heads * g->kv.head_dim);
    g->v = carve(c, n, 4 * (uint64_t)g->kv.n_kv_heads * g->kv.value_dim);
    if (!f->kv_rank) return g->attn_ld;
    g->latent.q_ld = round_up(f->q_rank, ACT_PAD);
    g->latent.kv_ld = round_up(f->kv_rank, ACT_PAD);
    g->latent.q = f->q_rank ? carve(c, n, 4 * g->latent.q_ld) : NULL;
    g->latent.kv = carve(c, n, 4 * g->latent.kv_ld);
    g->latent.heads = carve(c, n, 4 * (uint64_t)f->n_heads * f->head_dim);
    return max_u64(g->attn_ld, max_u64(g->latent.q_ld, g->latent.kv_ld));
}

static void carve_all(graph *g, carver *c) {
    const config *f = &g->cfg;
    uint64_t n = g->p.max_batch, threads = (uint64_t)g->p.threads;
    g->embd_ld = round_up(f->n_embd, ACT_PAD);
    g->ff_widest = config_widest(f);
    g->ff_ld = round_up(g->ff_widest, ACT_PAD);
    g->ssm.ld = round_up(f->ssm.inner, ACT_PAD);
    uint64_t widest = max_u64(max_u64(g->embd_ld, carve_attention(g, c)), max_u64(g->ff_ld, g->ssm.ld));
    g->norm = carve(c, n, 4 * g->embd_ld);
    g->gate = carve(c, n, 4 * g->ff_ld);
    g->up = carve(c, n, 4ull * g->ff_widest);
    g->delta = carve(c, n, 4ull * f->n_embd);
    if (f->n_experts) {
        g->moe.picks = carve(c, n, f->n_experts_used * sizeof *g->moe.picks);
        g->moe.first = carve(c, f->n_experts + 1ull, sizeof *g->moe.first);
        g->moe.queue = carve(c, n, f->n_experts_used * sizeof *g->moe.queue);
        g->moe.in = carve(c, n, 4 * g->embd_ld);
        g->moe.out = carve(c, n, 4ull * f->n_embd);
    }
    if (f->ssm.inner) {
        g->ssm.proj = carve(c, n, 4 * ssm_rows(&f->ssm));
        g->ssm.y = carve(c, n, 4 * g->ssm.ld);
    }
    for (int i = 0; i < TRANSFORM_COUNT && (i == TRANSFORM_NONE || g->p.transforms); i++) {
        graph_basis *b = &g->basis[i];
        if (i != TRANSFORM_NONE) b->f32 = carve(c, n, 4 * widest);
        if (!g->p.allow_q8) continue;
        b->q8 = carve(c, n, widest);
        b->scale = carve(c, n, 4 * (widest / 32));
        b->sum32 = carve(c, n, 4 * (widest / 32));
        b->sum16 = carve(c, n, 4 * (widest / 16));
    }
    g->cs = carve(c, n, 4ull * f->rope_dims);
    g->cs_pos = carve(c, n, 4);
    if (f->n_kv_heads) {
        g->tile = carve(c, n + 1, 4);
        g->attend_stride = graph_attend_stride(g);
        g->attend_scratch = carve(c, threads, 4 * g->attend_stride);
        g->block_stride = graph_block_stride(g);
        g->blocks = carve(c, g->block_stride ? graph_groups(g) * graph_max_blocks(g) : 0, 4 * g->block_stride);
    }
    g->inv_freq = carve(c, f->rope_dims / 2, sizeof(double));
    if (f->rope_base_local != 0) {
        g->cs_local = carve(c, n, 4ull * f->rope_dims);
        g->inv_freq_local = carve(c, f->rope_dims / 2, sizeof(double));
    }
    g->matmul_stride = round_up(g->p.matmul_scratch_bytes, 64);
    g->matmul_scratch = carve(c, threads, g->matmul_stride);
}

uint32_t graph_kv_layer(const config *c, uint32_t layer) {
    uint32_t n = 0;
    for (int l = 0; l < (int)layer; l++) n += layer_is_ssm(c, l) == layer_is_ssm(c, (int)layer);
    return n;
}

static graph_params normal(const graph_params *p) {
    graph_params out = *p;
    if (out.threads < 1) out.threads = thread_default_count();
    if (out.max_batch < 1) out.max_batch = 1;
    if (out.n_ctx < 1) out.n_ctx = 1;
    return out;
}

kv_params graph_kv(const config *c, uint32_t n_layers, uint32_t n_ctx, uint32_t max_seqs, snug_kv type) {
    kv_params kv = {.n_layers = n_layers, .n_kv_heads = c->n_kv_heads, .head_dim = c->head_dim, .value_dim = config_value_dim(c), .n_ctx = n_ctx, .max_seqs = max_seqs, .type = type};
    uint32_t n_states = 0;
    for (int l = 0; l < (int)c->n_layers; l++) n_states += layer_is_ssm(c, l);
    kv.n_layers = (uint32_t)min_u64(n_layers, c->n_layers - n_states);
    kv.n_states = (uint32_t)min_u64(n_layers, n_states);
    if (n_states) kv.state_floats = (c->ssm.conv - 1) * ssm_channels(&c->ssm) + (uint64_t)c->ssm.inner * c->ssm.state;
    if (c->kv_rank) { /* latents; graph_latent.c */
        kv.n_kv_heads = 1, kv.head_dim = c->kv_rank + c->rope_dims, kv.value_dim = c->kv_rank;
        kv.values_in_keys = kv.head_dim <= KV_MAX_SHARED;
    }
    return kv;
}

uint64_t graph_bytes(const config *cfg, const graph_params *p) {
    graph g = {.cfg = *cfg, .p = normal(p)};
    carver c = {0};
    carve_all(&g, &c);
    return c.overflow || c.at > (uint64_t)1 << 46 ? 0 : round_up(c.at, 4096);
}

snug_err graph_create(const config *cfg, const graph_params *p, const float *rope_freqs, graph **out, snug_error *err) {
    *out = NULL;
    uint64_t bytes = graph_bytes(cfg, p);
    if (!bytes)
        return err_set(err, SNUG_ERR_ARG, "a batch of %u tokens needs more scratch than the address space has",
                       p->max_batch);
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return err_set(err, SNUG_ERR_NOMEM, "no memory for %llu bytes of scratch: %s", (unsigned long long)bytes,
                       strerror(errno));
    graph *g = calloc(1, sizeof *g);
    if (!g) {
        munmap(map, bytes);
        return err_nomem(err, sizeof *g);
    }
    g->cfg = *cfg;
    g->p = normal(p);
    g->map = map;
    g->until = EDGE_HEAD_IN;
    g->map_bytes = bytes;
    carver c = {.base = map};
    carve_all(g, &c);
    rope_inv_freq(cfg, rope_freqs, false, g->p.n_ctx, g->inv_freq);
    if (g->inv_freq_local) rope_inv_freq(cfg, NULL, true, g->p.n_ctx, g->inv_freq_local);
    *out = g;
    return SNUG_OK;
}

void graph_destroy(graph **g) {
    if (!*g) return;
    if ((*g)->own_scratch) free((*g)->matmul_scratch);
    munmap((*g)->map, (*g)->map_bytes);
    free(*g);
    *g = NULL;
}

void graph_between(graph *g, graph_edge first, graph_edge last) {
    g->from = first;
    g->until = last;
}

void graph_watch(graph *g, graph_watch_fn fn, void *user) {
    g->watch = fn;
    g->watch_user = user;
}

void graph_tell(graph *g, int layer, graph_edge edge, const float *x, size_t n, size_t cols, size_t ld) {
    if (g->watch) g->watch(g->watch_user, layer, edge, x, n, cols, ld);
}

int graph_threads(const graph *g, double work) { return work < MIN_PARALLEL_WORK ? 1 : g->p.threads; }

/* ----------------------------------------------------------------- matmul ---- */

/* Contexts give the size up front; fit, which meets a layer's weights as it reads them, lets it grow. */
static snug_err ensure_scratch(graph *g, const graph_job *jobs, size_t n_jobs, size_t n, snug_error *err) {
    size_t need = 0;
    for (size_t i = 0; i < n_jobs; i++) need = max_u64(need, round_up(weight_scratch_bytes(jobs[i].w, n, g->p.allow_q8), 64));
    if (need <= g->matmul_stride) return SNUG_OK;
    uint64_t bytes;
    void *grown = checked_mul(need, (uint64_t)g->p.threads, &bytes) ? aligned_alloc(64, bytes) : NULL;
    if (!grown) return err_nomem(err, need);
    if (g->own_scratch) free(g->matmul_scratch);
    g->own_scratch = true;
    g->matmul_scratch = grown;
    g->matmul_stride = need;
    return SNUG_OK;
}

typedef struct matmul_pass {
    graph *g;
    act_set x;
    bool read[TRANSFORM_COUNT], wants_q8[TRANSFORM_COUNT]; /* in which forms is x needed? */
    const graph_job *jobs;
    size_t n_jobs, first_tile[GRAPH_MAX_JOBS + 1], tile_rows[GRAPH_MAX_JOBS];
} matmul_pass;

/* Each token's activations in the bases that weights read, and there rounded to 8 bits. */
static void prepare_rows(void *ctx, size_t begin, size_t end, int worker) {
    matmul_pass *m = ctx;
    for (int i = 0; i < TRANSFORM_COUNT; i++) {
        const act *x = &m->x.in[i];
        const graph_basis *b = &m->g->basis[i];
        const size_t ld = x->cols_padded;
        for (size_t t = begin; t < end && m->read[i]; t++) {
            kern_q8_place at = kern_q8_place_of(x->n_tokens, t);
            if (i != TRANSFORM_NONE) { /* the last width's columns may stand in the padding */
                transform_apply(i, x->cols, m->x.in[TRANSFORM_NONE].f32 + t * ld, b->f32 + t * ld);
                memset(b->f32 + t * ld + x->cols, 0, (ld - x->cols) * sizeof(float));
            }
            if (m->wants_q8[i])
                kern()->quantize_q8(x->f32 + t * ld, ld, at.width, at.lane, b->q8 + at.tile * ld, b->scale + at.tile * (ld / 32),
                                    b->sum32 + at.tile * (ld / 32), b->sum16 + at.tile * (ld / 16));
        }
    }
}

static void prepare(matmul_pass *m, const float *x, size_t n, size_t cols, size_t ld) {
    graph *g = m->g;
    double work = 0;
    for (int i = 0; i < TRANSFORM_COUNT; i++) {
        const graph_basis *b = &g->basis[i];
        m->x.in[i] = (act){.n_tokens = n, .cols = cols, .cols_padded = ld, .f32 = i == TRANSFORM_NONE ? x : b->f32};
        for (size_t j = 0; j < m->n_jobs; j++) {
            m->read[i] |= weight_reads(m->jobs[j].w, i);
            m->wants_q8[i] |= g->p.allow_q8 && weight_wants_q8(m->jobs[j].w, i);
        }
        if (m->wants_q8[i]) m->x.in[i].q8 = (kern_q8){.ld = ld, .q = b->q8, .scale = b->scale, .sum32 = b->sum32, .sum16 = b->sum16};
        if (m->wants_q8[i] || (m->read[i] && i != TRANSFORM_NONE)) work += (double)(n * ld) * (i == TRANSFORM_NONE ? 1 : 3);
    }
    if (work > 0) thread_for(graph_threads(g, work), n, 8, prepare_rows, m);
}

static void matmul_tiles(void *ctx, size_t begin, size_t end, int worker) {
    matmul_pass *m = ctx;
    for (size_t tile = begin; tile < end; tile++) {
        size_t j = 0;
        while (tile >= m->first_tile[j + 1]) j++;
        const graph_job *job = &m->jobs[j];
        uint64_t row0 = (tile - m->first_tile[j]) * m->tile_rows[j],
                 rows = min_u64(m->tile_rows[j], job->w->rows - row0);
        weight_matmul(job->w, row0, rows, &m->x, m->g->p.allow_q8, job->y + row0, job->ldy,
                      m->g->matmul_scratch + (size_t)worker * m->g->matmul_stride);
    }
}

/* A term that is not row-separable (low rank: U (V x)) repeats its first half for every tile, so it gets one tile per
 * thread. */
static size_t tile_rows_of(const graph *g, const weight *w) {
    for (uint32_t i = 0; i < w->n_terms; i++)
        if (w->term[i].wt.codec->caps & CODEC_WHOLE)
            return max_u64(TILE_ROWS, round_up(div_up(w->rows, (uint64_t)g->p.threads), TILE_ROWS));
    return TILE_ROWS;
}

snug_err graph_matmul(graph *g, const float *x, size_t n, size_t cols, size_t ld, const graph_job *jobs, size_t n_jobs,
                      snug_error *err) {
    snug_err rc = ensure_scratch(g, jobs, n_jobs, n, err);
    if (rc) return rc;
    matmul_pass m = {.g = g, .jobs = jobs, .n_jobs = n_jobs};
    double work = 0;
    for (size_t j = 0; j < n_jobs; j++) {
        m.tile_rows[j] = tile_rows_of(g, jobs[j].w);
        m.first_tile[j + 1] = m.first_tile[j] + div_up(jobs[j].w->rows, m.tile_rows[j]);
        work += (double)jobs[j].w->rows * (double)cols * (double)n;
    }
    prepare(&m, x, n, cols, ld);
    thread_for(graph_threads(g, work), m.first_tile[n_jobs], 1, matmul_tiles, &m);
    return SNUG_OK;
}

/* -------------------------------------------------------------- row by row ---- */

typedef struct norm_pass { graph *g; const float *x, *gain, *bias; } norm_pass;

/* (x - mean) / sqrt(variance + eps) * gain + bias. Sums in 16 lanes, so that they are the same however they are computed. */
static void layer_norm(const float *x, const float *gain, const float *bias, float eps, size_t n, float *out) {
    enum { LANES = 16 };
    float lane[LANES] = {0}, sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) lane[i % LANES] += x[i];
    for (int i = 0; i < LANES; i++) sum += lane[i], lane[i] = 0;
    const float mean = sum / (float)n;
    for (size_t i = 0; i < n; i++) lane[i % LANES] += (x[i] - mean) * (x[i] - mean);
    for (int i = 0; i < LANES; i++) squares += lane[i];
    const float scale = 1 / sqrtf(squares / (float)n + eps);
    for (size_t i = 0; i < n; i++) out[i] = (x[i] - mean) * scale * gain[i] + (bias ? bias[i] : 0);
}

void norm_row(const config *c, const float *x, const float *gain, const float *bias, float *out) {
    if (!gain) memcpy(out, x, c->n_embd * sizeof *out);
    else if (c->arch->layer_norm) layer_norm(x, gain, bias, c->norm_eps, c->n_embd, out);
    else kern()->rmsnorm(x, gain, c->norm_eps, c->n_embd, out);
}

static void norm_rows(void *ctx, size_t begin, size_t end, int worker) {
    const norm_pass *p = ctx;
    const config *c = &p->g->cfg;
    const size_t cols = c->n_embd;
    for (size_t t = begin; t < end; t++) norm_row(c, p->x + t * cols, p->gain, p->bias, p->g->norm + t * p->g->embd_ld);
}

void graph_norm(graph *g, const float *x, size_t n, const float *gain, const float *bias) {
    norm_pass p = {g, x, gain, bias};
    thread_for(graph_threads(g, 2.0 * (double)n * g->cfg.n_embd), n, 8, norm_rows, &p);
}

typedef struct embed_pass { const config *c; const weight *embd; const float *positions; const graph_item *items; float *x; } embed_pass;

void embd_finish(const config *c, const float *position, float *x) {
    for (size_t k = 0; k < c->n_embd && c->embd_scale != 1; k++) x[k] *= c->embd_scale;
    if (position) kern()->add(x, position, c->n_embd);
}

static void embed_rows(void *ctx, size_t begin, size_t end, int worker) {
    const embed_pass *p = ctx;
    const size_t cols = p->embd->cols;
    for (size_t i = begin; i < end; i++) {
        float *x = p->x + i * cols;
        weight_decode(p->embd, (uint64_t)p->items[i].token, 1, x, cols);
        embd_finish(p->c, p->positions ? p->positions + p->items[i].pos * cols : NULL, x);
    }
}

snug_err graph_embed(graph *g, const layer_weights *outer, const graph_item *items, size_t n, float *x, snug_error *err) {
    const weight *embd = &outer->w[ROLE_EMBD];
    const float *positions = outer->vec[ROLE_POSITIONS];
    for (size_t i = 0; i < n; i++)
        if (positions && items[i].pos >= g->cfg.n_ctx_train)
            return err_set(err, SNUG_ERR_ARG, "position %u is beyond the %u that the model has learned", items[i].pos, g->cfg.n_ctx_train);
    for (size_t i = 0; i < n; i++)
        if (items[i].token < 0 || (uint64_t)items[i].token >= embd->rows)
            return err_set(err, SNUG_ERR_ARG, "token %d is outside the vocabulary of %llu", items[i].token,
                           (unsigned long long)embd->rows);
    embed_pass p = {&g->cfg, embd, positions, items, x};
    thread_for(graph_threads(g, 4.0 * (double)n * (double)embd->cols), n, 8, embed_rows, &p);
    return SNUG_OK;
}

typedef struct logits_pass { const config *c; float *logits; size_t cols; } logits_pass;

static void finish_rows(void *ctx, size_t begin, size_t end, int worker) {
    const logits_pass *p = ctx;
    for (size_t i = begin; i < end; i++) logits_finish(p->c, p->logits + i * p->cols, p->cols);
}

void logits_finish(const config *c, float *logits, size_t n) {
    const float cap = c->logit_softcap;
    for (size_t i = 0; i < n && c->logit_scale != 1; i++) logits[i] *= c->logit_scale;
    if (cap != 0) kern()->softcap(logits, n, cap);
}

snug_err graph_head(graph *g, const layer_weights *outer, const float *x, size_t n, float *logits, snug_error *err) {
    const weight *head = outer->w[ROLE_HEAD].n_terms ? &outer->w[ROLE_HEAD] : &outer->w[ROLE_EMBD];
    graph_norm(g, x, n, outer->vec[ROLE_OUT_NORM], outer->vec[ROLE_OUT_NORM_BIAS]);
    graph_tell(g, -1, EDGE_HEAD_IN, g->norm, n, g->cfg.n_embd, g->embd_ld);
    graph_job job = {head, logits, head->rows};
    snug_err rc = graph_matmul(g, g->norm, n, g->cfg.n_embd, g->embd_ld, &job, 1, err);
    logits_pass p = {&g->cfg, logits, head->rows};
    if (!rc && (g->cfg.logit_scale != 1 || g->cfg.logit_softcap != 0)) thread_for(graph_threads(g, 20.0 * (double)(n * head->rows)), n, 1, finish_rows, &p);
    return rc;
}
