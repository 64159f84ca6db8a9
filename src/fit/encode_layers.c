/* Encoding with error feedback: layer by layer, and within a layer edge by edge, each matrix sees the second moments of what it will be
 * fed in the finished model: the activations behind everything that is compressed already.
 *
 *     embedding -> x;  per layer:  norm -> q k v,  attention -> o,  norm -> gate up,  their product -> down;  x through the layer
 *
 * Experts are taken one at a time: what the router sends to it -> gate up, their product -> down.
 *
 * Memory: the layer as the source has it and as it is compressed, one matrix of second moments and its factor, the hidden states x (or a pass of them: states.c) and
 * one slab of activations. After each layer x goes to the side file, so that a killed fit repeats one layer at most. */
#include "fit/encode.h"
#include "fit/forward.h"

#include "base/err.h"
#include "codec/transform.h"
#include "model/arch.h"

#include <stdlib.h>
#include <string.h>

#define TIED_DAMPING 1.0
static const char *const NOT_FACTORED = "without feedback: its inputs' second moments cannot be factored";
enum { STATE_SLOT = 2, EMBED_STEP = 1024 }; /* 0 and 1 are calibration's */

typedef struct prefix {
    encoder *e;
    config cfg;  /* with q and k rows as artifacts have them */
    forward fwd;
    float *x;    /* (all tokens, n_embd): behind the layers so far, and the attention of one whose other half is at work */
} prefix;

static bool is_tied_head(const fit_job *f, const fit_tensor *t) { return t->t->role == ROLE_HEAD && f->src->cfg.tied; }

static bool all_done(const fit_job *f, int layer) {
    for (size_t i = 0; i < f->n; i++)
        if (f->tensor[i].matrix && f->tensor[i].t->layer == layer && !f->tensor[i].skipped) return false;
    return true;
}

static const comp *comp_of(const fit_tensor *t) { return &t->menu.cand[t->choice].comp; }

/* What is kept as it is has no error to feed on. */
static bool has_error(const fit_job *f, const fit_tensor *t) {
    const comp *c = comp_of(t);
    return !menu_is_copy(f, t->t, c) && !(c->n_terms == 1 && c->term[0].codec->caps & CODEC_LOSSLESS);
}

/* The bases that its terms read, as bits. */
static unsigned bases_read(const comp *c) {
    unsigned bits = 0;
    for (int b = 0; b < TRANSFORM_COUNT; b++) bits |= comp_reads(c, b) * 1u << b;
    return bits;
}

/* Does a matrix of this edge wait for second moments? */
static bool edge_open(const fit_job *f, int layer, graph_edge edge, int expert) {
    for (size_t i = 0; i < f->n; i++) {
        const fit_tensor *t = &f->tensor[i];
        if (fit_reads(t, layer, edge, expert) && !t->skipped && !is_tied_head(f, t) && has_error(f, t)) return true;
    }
    return false;
}

/* ---- one edge ---- */

/* Inputs that stay together when the columns of a matrix are ordered: the codecs' largest group, and at least so many. 0: they cannot be, because
 * groups do not divide each other, or low rank wants them in order. */
static size_t order_group(const fit_tensor *t, size_t at_least) {
    const comp *c = comp_of(t);
    size_t group = at_least;
    for (uint32_t i = 0; i < c->n_terms && group; i++) {
        const snug_codec *codec = c->term[i].codec;
        const size_t own = codec->caps & CODEC_WHOLE ? 0 : codec->group_cols(c->term[i].params), most = own > group ? own : group;
        group = own && most % own == 0 && most % group == 0 ? most : 0;
    }
    return group;
}

/* The same for all matrices of an edge, done or not. */
static size_t edge_group(const fit_job *f, int layer, graph_edge edge, int expert) {
    size_t group = 1;
    for (size_t i = 0; i < f->n && group; i++) {
        const fit_tensor *t = &f->tensor[i];
        if (fit_reads(t, layer, edge, expert) && !is_tied_head(f, t) && has_error(f, t)) group = order_group(t, group);
    }
    return group;
}

/* Feedback tells later columns to make up for what was missed, which presumes that this is small beside them. Ternary codes with a sign for three
 * of four miss half of the weights; so much damping keeps them from following what they cannot (bench/RESULTS.md: from two bits on it does not pay). */
static const double dampings[] = {FIT_DAMPING, FIT_DAMPING_COARSE};
enum { FINE, COARSE, GRAINS };
#define COARSE_BITS 1.6 /* tern34g32 has 1.4 bits, terng128 more than 1.6 */

/* By the last term that feedback goes through. */
static int grain_of(const fit_tensor *t) {
    const comp *c = comp_of(t);
    double bits = 32;
    for (uint32_t i = 0; i < c->n_terms; i++)
        if (!(c->term[i].codec->caps & CODEC_WHOLE)) bits = 8.0 * (double)comp_term_bytes(c, i, t->t->rows, t->t->cols) / ((double)t->t->rows * (double)t->t->cols);
    return bits < COARSE_BITS ? COARSE : FINE;
}

/* The bases of an edge that its matrices of a grain read, as bits; with `mixed` only of matrices that read several. */
static unsigned bases_of(const fit_job *f, int layer, graph_edge edge, int expert, int grain, bool mixed) {
    unsigned all = 0;
    for (size_t i = 0; i < f->n; i++) {
        const fit_tensor *t = &f->tensor[i];
        if (!fit_reads(t, layer, edge, expert) || t->skipped || is_tied_head(f, t) || !has_error(f, t) || grain_of(t) != grain) continue;
        unsigned own = bases_read(comp_of(t));
        if (!mixed || own & (own - 1)) all |= own;
    }
    return all;
}

/* The matrices of a grain whose last basis is b. has: the bases that could be factored. */
static snug_err encode_basis(prefix *p, int layer, graph_edge edge, int expert, int grain, int b, const hessian *h, unsigned has, bool watched, snug_error *err) {
    fit_job *f = p->e->f;
    snug_err rc = SNUG_OK;
    for (size_t i = 0; i < f->n && rc == SNUG_OK; i++) {
        fit_tensor *t = &f->tensor[i];
        if (!fit_reads(t, layer, edge, expert)) continue;
        const unsigned own = bases_read(comp_of(t));
        if (own >> b != 1 || grain_of(t) != grain) continue;
        const bool wanted = watched && !is_tied_head(f, t) && has_error(f, t), fed = wanted && (own & ~has) == 0;
        if (wanted && !fed && !t->skipped) t->menu.note = NOT_FACTORED;
        rc = encode_one(p->e, i, fed ? h : NULL, err);
    }
    return rc;
}

/* h[b], unless the sums, in basis b, cannot be factored, for those of a grain that read it; then their encoding. */
static snug_err encode_grain(prefix *p, int layer, graph_edge edge, int expert, int grain, int b, moments *m, hessian *h, unsigned *has, snug_error *err) {
    fit_job *f = p->e->f;
    if (m && bases_of(f, layer, edge, expert, grain, false) >> b & 1) {
        snug_err rc = hessian_factor(&m->sum[edge], dampings[grain], edge_group(f, layer, edge, expert), f->threads, &h[b], err);
        if (rc != SNUG_OK && rc != SNUG_ERR_NUMERIC) return rc;
        *has |= (rc == SNUG_OK) * 1u << b;
    }
    snug_err rc = encode_basis(p, layer, edge, expert, grain, b, h, *has, m, err);
    if (*has >> b & 1 && !bases_of(f, layer, edge, expert, grain, true)) hessian_close(&h[b]);
    return rc;
}

/* The matrices of an edge, with its moments; where those cannot be factored, without. One basis and grain after the other, so that there is
 * one factor at a time unless a matrix wants several. */
static snug_err encode_edge(prefix *p, int layer, graph_edge edge, int expert, moments *m, snug_error *err) {
    fit_job *f = p->e->f;
    hessian h[GRAINS][TRANSFORM_COUNT] = {{{0}}};
    unsigned has[GRAINS] = {0};
    snug_err rc = SNUG_OK;
    for (int b = 0; b < TRANSFORM_COUNT && rc == SNUG_OK; b++) {
        if (m && (bases_of(f, layer, edge, expert, FINE, false) | bases_of(f, layer, edge, expert, COARSE, false)) >> b & 1)
            hessian_sum_transform(&m->sum[edge], b, f->threads);
        for (int g = 0; g < GRAINS && rc == SNUG_OK; g++) rc = encode_grain(p, layer, edge, expert, g, b, m, h[g], &has[g], err);
    }
    for (int g = 0; g < GRAINS; g++)
        for (int b = 0; b < TRANSFORM_COUNT; b++) hessian_close(&h[g][b]);
    return rc;
}

/* ---- a layer ---- */

/* Vectors stay as they are; those of q and k in the artifact's order. */
static snug_err read_layer(const prefix *p, int layer, arena *mem, layer_weights *lw, snug_error *err) {
    const fit_job *f = p->e->f;
    snug_err rc = source_layer_dense(f, layer, mem, lw, err); /* experts are run compressed alone */
    for (int r = ROLE_MATRICES; r < ROLE_COUNT && rc == SNUG_OK; r++) {
        const store_tensor *t = lw->vec[r] ? store_find(f->src, (tensor_role)r, layer) : NULL;
        if (!t || !t->permute_heads) continue;
        float *v = arena_alloc(mem, t->cols * sizeof *v);
        rc = v ? source_rows(f, t, 0, 1, v, err) : err_nomem(err, t->cols * sizeof *v);
        lw->vec[r] = v;
    }
    return rc;
}

static snug_err take_compressed(const prefix *p, int layer, graph_edge edge, int expert, arena *mem, layer_weights *lw, snug_error *err) {
    const fit_job *f = p->e->f;
    snug_err rc = SNUG_OK;
    for (size_t i = 0; i < f->n && rc == SNUG_OK; i++) {
        const fit_tensor *t = &f->tensor[i];
        if (fit_reads(t, layer, edge, expert)) rc = encode_read_back(p->e, i, mem, layer_weight(lw, t->t), err);
    }
    return rc;
}

/* Through the layer's attention, which is compressed by now: the other half begins there, but where it reads what attention reads. wanted: sums of what
 * it begins with. */
static snug_err pass_attention(prefix *p, int layer, const layer_weights *lw, bool wanted, moments *m, snug_error *err) {
    snug_err rc;
    if (p->cfg.parallel) return wanted ? moments_layer(&p->fwd, layer, lw, p->x, MOMENTS_STAY, m, err) : SNUG_OK;
    if (wanted) rc = moments_layer(&p->fwd, layer, lw, p->x, MOMENTS_HALF, m, err);
    else {
        forward_until(&p->fwd, EDGE_FFN_IN);
        rc = forward_layer(&p->fwd, layer, lw, p->e->f->text.n_seq, p->e->f->text.len, &p->x, 1, NULL, NULL, err);
    }
    p->fwd.from = EDGE_FFN_IN;
    forward_until(&p->fwd, EDGE_HEAD_IN);
    return rc;
}

static snug_err encode_one_edge(prefix *p, int layer, graph_edge edge, arena *mem, layer_weights *lw, snug_error *err) {
    const bool open = edge_open(p->e->f, layer, edge, EXPERT_NONE);
    moments m = {.full = true};
    snug_err rc = SNUG_OK;
    m.want[edge] = open;
    if (edge == EDGE_FFN_IN) rc = pass_attention(p, layer, lw, open, &m, err);
    else if (open) rc = moments_layer(&p->fwd, layer, lw, p->x, MOMENTS_STAY, &m, err);
    if (rc == SNUG_OK) rc = encode_edge(p, layer, edge, EXPERT_NONE, open ? &m : NULL, err);
    moments_close(&m);
    return rc == SNUG_OK ? take_compressed(p, layer, edge, EXPERT_NONE, mem, lw, err) : rc;
}

/* One expert's edge; s NULL: all experts of the layer are there. */
static snug_err encode_expert_edge(prefix *p, int layer, graph_edge edge, int expert, experts *s, arena *mem, layer_weights *lw, snug_error *err) {
    const bool open = s && edge_open(p->e->f, layer, edge, expert);
    moments m = {.full = true};
    snug_err rc = SNUG_OK;
    m.want[edge] = open;
    if (open) rc = experts_moments(s, expert, lw, &m, err);
    if (rc == SNUG_OK) rc = encode_edge(p, layer, edge, expert, open ? &m : NULL, err);
    moments_close(&m);
    return rc == SNUG_OK ? take_compressed(p, layer, edge, expert, mem, lw, err) : rc;
}

/* All behind attention: the shared expert's edges, then each expert's. */
static snug_err encode_experts(prefix *p, int layer, arena *mem, layer_weights *lw, snug_error *err) {
    fit_job *f = p->e->f;
    const int n = (int)layer_experts(&f->src->cfg, layer);
    moments m = {.full = true};
    experts s = {0};
    const bool shared = f->src->cfg.n_ff_shared > 0;
    bool open = false;
    snug_err rc = SNUG_OK;
    for (int x = 0; x < n; x++) open |= edge_open(f, layer, EDGE_FFN_IN, x) || edge_open(f, layer, EDGE_FFN_MID, x);
    if (open) rc = states_open(f, (size_t)f->text.n_seq * f->text.len * f->src->cfg.n_embd, &m.ffn_in, err);
    m.want[EDGE_FFN_IN] = shared && edge_open(f, layer, EDGE_FFN_IN, EXPERT_NONE);
    if (rc == SNUG_OK) rc = pass_attention(p, layer, lw, open || m.want[EDGE_FFN_IN], &m, err);
    if (rc == SNUG_OK && shared) rc = encode_edge(p, layer, EDGE_FFN_IN, EXPERT_NONE, m.want[EDGE_FFN_IN] ? &m : NULL, err);
    if (rc == SNUG_OK && shared) rc = take_compressed(p, layer, EDGE_FFN_IN, EXPERT_NONE, mem, lw, err);
    if (rc == SNUG_OK && shared) rc = encode_one_edge(p, layer, EDGE_FFN_MID, mem, lw, err);
    if (rc == SNUG_OK && open) rc = experts_open(&p->fwd, layer, lw, m.ffn_in, &s, err);
    for (int x = 0; x < n && rc == SNUG_OK; x++) {
        rc = encode_expert_edge(p, layer, EDGE_FFN_IN, x, open ? &s : NULL, mem, lw, err);
        if (rc == SNUG_OK) rc = encode_expert_edge(p, layer, EDGE_FFN_MID, x, open ? &s : NULL, mem, lw, err);
    }
    experts_close(&s);
    float *ffn_in = m.ffn_in;
    moments_close(&m);
    states_close(f, &ffn_in);
    return rc;
}

static snug_err encode_layer(prefix *p, int layer, snug_error *err) {
    fit_job *f = p->e->f;
    arena mem = {0};
    layer_weights lw;
    snug_err rc = read_layer(p, layer, &mem, &lw, err);
    for (size_t i = 0; i < f->n && rc == SNUG_OK; i++)
        if (!f->tensor[i].matrix && f->tensor[i].t->layer == layer) rc = encode_one(p->e, i, NULL, err);
    const bool split = layer_experts(&f->src->cfg, layer) > 0, half = split || !edges_has(&f->src->cfg, layer, EDGE_FFN_IN);
    for (int edge = EDGE_ATTN_IN; edge <= (half ? EDGE_ATTN_OUT : EDGE_FFN_MID) && rc == SNUG_OK; edge++)
        rc = encode_one_edge(p, layer, (graph_edge)edge, &mem, &lw, err);
    if (rc == SNUG_OK && split) rc = encode_experts(p, layer, &mem, &lw, err);
    if (rc == SNUG_OK) rc = forward_layer(&p->fwd, layer, &lw, f->text.n_seq, f->text.len, &p->x, 1, NULL, NULL, err);
    p->fwd.from = EDGE_ATTN_IN;
    forward_until(&p->fwd, EDGE_HEAD_IN);
    arena_fini(&mem);
    return rc;
}

static snug_err save_layer(const prefix *p, int layer, snug_error *err) {
    uint64_t hash;
    snug_err rc = calibrate_save_state(p->e->f, STATE_SLOT + (layer & 1), p->e->f->text.n_seq, p->x, &hash, err);
    if (rc != SNUG_OK) return rc;
    return journal_put(p->e->f->journal, "layer", layer, json_pack("{s:o}", "state", json_sprintf("%016llx", (unsigned long long)hash)), err);
}

/* ---- what is in no layer ---- */

static bool wants_head_sum(const fit_job *f, const fit_tensor *t) {
    return t->matrix && t->t->role == ROLE_EMBD && f->src->cfg.tied && !t->skipped && has_error(f, t);
}

snug_err encode_head_sum(encoder *e, snug_error *err) {
    for (size_t i = 0; i < e->f->n; i++)
        if (wants_head_sum(e->f, &e->f->tensor[i])) return calibrate_head_sum(e->f, err);
    return SNUG_OK;
}

/* An embedding that is the head as well: as much the one as the other. Its rows are added to x one at a time, all columns alike, and multiply
 * the head's input. So H is the head's plus its mean on the diagonal; in front of the layers only the source's is known. */
static snug_err encode_tied(encoder *e, size_t i, snug_error *err) {
    fit_job *f = e->f;
    hessian h[TRANSFORM_COUNT] = {{0}};
    if (!wants_head_sum(f, &f->tensor[i])) return encode_one(e, i, NULL, err);
    snug_err rc = SNUG_OK;
    bool has = true;
    for (int b = 0; b < TRANSFORM_COUNT && rc == SNUG_OK; b++) {
        if (!comp_reads(comp_of(&f->tensor[i]), b)) continue;
        hessian_sum_transform(&f->head_sum, b, f->threads); /* nobody reads the sums after this */
        rc = hessian_factor(&f->head_sum, TIED_DAMPING, order_group(&f->tensor[i], 1), f->threads, &h[b], err);
        if (rc == SNUG_ERR_NUMERIC) has = false, rc = SNUG_OK;
    }
    if (!has) f->tensor[i].menu.note = NOT_FACTORED;
    if (rc == SNUG_OK) rc = encode_one(e, i, has ? h : NULL, err);
    for (int b = 0; b < TRANSFORM_COUNT; b++) hessian_close(&h[b]);
    return rc;
}

static snug_err encode_outer(encoder *e, bool head, snug_error *err) {
    snug_err rc = SNUG_OK;
    for (size_t i = 0; i < e->f->n && rc == SNUG_OK; i++) {
        const fit_tensor *t = &e->f->tensor[i];
        if (t->t->layer < 0 && (t->matrix && t->t->role == ROLE_HEAD) == head)
            rc = t->matrix && t->t->role == ROLE_EMBD && e->f->src->cfg.tied ? encode_tied(e, i, err) : encode_one(e, i, NULL, err);
    }
    return rc;
}

static snug_err encode_head(prefix *p, snug_error *err) {
    fit_job *f = p->e->f;
    if (!edge_open(f, -1, EDGE_HEAD_IN, EXPERT_NONE)) return encode_outer(p->e, true, err);
    moments m = {.want[EDGE_HEAD_IN] = true, .full = true};
    snug_err rc = moments_head(f, p->x, (size_t)f->text.n_seq * f->text.len, &m, err);
    if (rc == SNUG_OK) rc = encode_edge(p, -1, EDGE_HEAD_IN, EXPERT_NONE, &m, err);
    moments_close(&m);
    return rc;
}

/* The compressed embedding's rows, one at a time: the texts have few tokens beside the vocabulary. */
static snug_err embed(prefix *p, snug_error *err) {
    const fit_job *f = p->e->f;
    arena mem = {0};
    weight w = {0};
    snug_err rc = SNUG_OK;
    for (size_t i = 0; i < f->n && rc == SNUG_OK; i++)
        if (f->tensor[i].matrix && f->tensor[i].t->role == ROLE_EMBD) rc = encode_read_back(p->e, i, &mem, &w, err);
    const size_t n = (size_t)f->text.n_seq * f->text.len, d = f->src->cfg.n_embd;
    for (size_t i = 0; i < n && rc == SNUG_OK; i++) {
        int32_t id = f->text.ids[i];
        if (id < 0 || (uint64_t)id >= w.rows) rc = err_set(err, SNUG_ERR_FORMAT, "token %d is outside of the embedding's %llu rows", id, (unsigned long long)w.rows);
        else {
            weight_decode(&w, (uint64_t)id, 1, p->x + i * d, d);
            rc = embed_finish(f, i, f->text.len, p->x + i * d, err);
        }
        if (i % EMBED_STEP == EMBED_STEP - 1 || i + 1 == n) states_drop(f, p->x + i / EMBED_STEP * EMBED_STEP * d, EMBED_STEP * d);
    }
    arena_fini(&mem);
    return rc;
}

/* ---- all ---- */

/* The first layer that has to be run: behind the last one that is whole and whose hidden states are still there, else the first. */
static int first_layer(prefix *p) {
    const fit_job *f = p->e->f;
    int whole = 0;
    while (whole < (int)f->src->cfg.n_layers && all_done(f, whole)) whole++;
    for (int l = whole; l > 0 && l > whole - 2; l--)
        if (calibrate_load_state(f, STATE_SLOT + ((l - 1) & 1), f->text.n_seq, "layer", l - 1, p->x)) return l;
    return 0;
}

static snug_err run_layers(prefix *p, snug_error *err) {
    fit_job *f = p->e->f;
    const int n_layers = (int)f->src->cfg.n_layers;
    int first = first_layer(p);
    snug_err rc = first == 0 ? embed(p, err) : SNUG_OK;
    for (size_t i = 0; i < f->n && rc == SNUG_OK; i++) /* vectors are written again, the rest only counted */
        if (f->tensor[i].t->layer >= 0 && f->tensor[i].t->layer < first) rc = encode_one(p->e, i, NULL, err);
    for (int l = first; l < n_layers && rc == SNUG_OK; l++) {
        rc = encode_layer(p, l, err);
        if (rc == SNUG_OK) rc = encode_tell(p->e, l, err);
        if (rc == SNUG_OK && l + 1 < n_layers) rc = save_layer(p, l, err);
    }
    return rc == SNUG_OK ? encode_head(p, err) : rc;
}

snug_err encode_layers(encoder *e, snug_error *err) {
    const fit_job *f = e->f;
    prefix p = {.e = e, .cfg = f->src->cfg};
    p.cfg.rope_interleaved = config_gguf_interleaved(&p.cfg);
    bool any = false;
    for (size_t i = 0; i < f->n; i++) any |= f->tensor[i].matrix && has_error(f, &f->tensor[i]);
    snug_err rc = encode_outer(e, false, err);
    for (size_t i = 0; i < f->n && rc == SNUG_OK && !any; i++) /* nothing to feed on: no layer is run */
        if (f->tensor[i].t->layer >= 0) rc = encode_one(e, i, NULL, err);
    if (rc != SNUG_OK || !any) return rc == SNUG_OK ? encode_outer(e, true, err) : rc;
    rc = states_open(e->f, (size_t)f->text.n_seq * f->text.len * f->src->cfg.n_embd, &p.x, err);
    if (rc == SNUG_OK) rc = forward_open(e->f, &p.cfg, SNUG_ACT_Q8, f->text.len, &p.fwd, err);
    if (rc == SNUG_OK) rc = run_layers(&p, err);
    forward_close(&p.fwd);
    states_close(e->f, &p.x);
    return rc;
}
