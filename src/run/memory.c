/* What a context takes of memory, as an upper bound of the resident set of a process that does nothing else.
 *
 *     weights   the mapped span of the tensor data, all of it (embedding rows that are never used stay on disk, so the
 *               bound is not tight for an untied embedding)
 *     kv        every sequence at n_ctx
 *     scratch   activations, tokens, logits (one row per sequence and drafted token), the workers' matmul buffers
 *     draft     of a draft model all of that, but the program and its threads, which are there already; of a lookup its
 *               tables
 *     other     program and libraries, the model's tables, the tokenizer: constants measured with `snug run` (below)
 */
#include "run/lookup.h"
#include "run/run.h"

#include "base/checked.h"
#include "base/err.h"
#include "base/thread.h"
#include "codec/transform.h"
#include "model/arch.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Measured with `snug run` on Debian 12, x86-64, from a vocabulary of 512 to one of 128,256 tokens with 280,147 merges,
 * as a folder, a GGUF and an artifact: program and libraries 6.5 MB; header and tokenizer at most 28.9 MB where these
 * constants give 32.2; the sampler 20 bytes per token. tests/unit/test_run_memory.c holds the bound for what the
 * library itself takes. */
enum {
    OTHER_BASE_BYTES = 9 << 20,         /* program, libraries, heap, the main thread's stack                       */
    OTHER_PER_THREAD_BYTES = 128 << 10, /* stack and OpenMP's own                                                  */
    OTHER_PER_METADATA = 3,             /* the header's tables and the tokenizer, per byte of the text they are of */
    OTHER_PER_VOCAB = 96 + 24,          /* the same per token; and the sampler                                     */
};
enum { DEFAULT_MAX_DRAFT = 16 };

snug_context_params run_params(const config *cfg, const snug_context_params *p) {
    snug_context_params out = p ? *p : (snug_context_params){0};
    if (out.n_ctx == 0) out.n_ctx = cfg->n_ctx_train;
    if (out.max_seqs == 0) out.max_seqs = 1;
    if (out.max_batch == 0) out.max_batch = (uint32_t)min_u64(512, (uint64_t)out.n_ctx * out.max_seqs);
    if (out.draft == SNUG_DRAFT_NONE) out.max_draft = 0;
    else if (out.max_draft == 0) out.max_draft = DEFAULT_MAX_DRAFT;
    if (out.threads <= 0) out.threads = thread_default_count();
    return out;
}

size_t run_comp_scratch(const comp *c, uint64_t rows, uint64_t cols, size_t n_tokens) {
    weight w = {.rows = rows, .cols = cols, .n_terms = c->n_terms};
    for (uint32_t i = 0; i < c->n_terms; i++)
        w.term[i].wt = (wt){.codec = c->term[i].codec, .params = c->term[i].params, .rows = rows, .cols = cols};
    return weight_scratch_bytes(&w, n_tokens, true);
}

/* Bytes of text that the tokenizer is made from. */
static uint64_t metadata_of(const store *s) {
    if (s->kind != STORE_HF) {
        uint64_t unpacked = 0;
        gguf_get_u64_or(s->gguf, "snug.kv.bytes", 0, &unpacked, NULL);
        return s->gguf->data_offset + unpacked;
    }
    char path[4096];
    struct stat st;
    if (snprintf(path, sizeof path, "%s/tokenizer.json", s->path) >= (int)sizeof path || stat(path, &st)) return 0;
    return (uint64_t)st.st_size;
}

run_sizes run_sizes_of(const store *s, uint32_t max_batch, snug_act form) {
    run_sizes out = {.weights_bytes = loaded_bytes(s), .metadata_bytes = metadata_of(s)};
    for (size_t i = 0; i < s->n_tensors; i++) {
        const store_tensor *t = &s->tensors[i];
        if ((int)t->role >= (int)ROLE_MATRICES) continue;
        weight w = {.rows = t->rows, .cols = t->cols, .n_terms = t->n_terms};
        for (uint32_t k = 0; k < t->n_terms; k++) {
            const store_term *from = &t->term[k];
            out.transforms |= from->params.in != TRANSFORM_NONE;
            w.term[k] = (term){.wt = {.codec = from->codec,
                                      .params = from->params,
                                      .rows = from->rows,
                                      .cols = from->cols,
                                      .bytes = from->bytes,
                                      .layout = from->layout},
                               .row0 = from->row0,
                               .col0 = from->col0};
        }
        out.matmul_scratch_bytes = max_u64(out.matmul_scratch_bytes, weight_scratch_bytes(&w, max_batch, form == SNUG_ACT_Q8));
    }
    return out;
}

snug_err run_memory(const config *cfg, const run_sizes *sizes, const snug_context_params *params, snug_memory *out,
                    snug_error *err) {
    snug_context_params p = run_params(cfg, params);
    const kv_params kv = graph_kv(cfg, cfg->n_layers, p.n_ctx, p.max_seqs, p.kv);
    graph_params gp = {.max_batch = p.max_batch,
                       .n_ctx = p.n_ctx,
                       .threads = p.threads,
                       .transforms = sizes->transforms,
                       .allow_q8 = p.act == SNUG_ACT_Q8,
                       .matmul_scratch_bytes = sizes->matmul_scratch_bytes};
    uint64_t graph_size = graph_bytes(cfg, &gp);
    memset(out, 0, sizeof *out);
    out->weights_bytes = sizes->weights_bytes;
    out->kv_bytes = kv_bytes(&kv);
    if (!graph_size || !out->kv_bytes)
        return err_set(err, SNUG_ERR_ARG,
                       "%u sequences of %u positions in batches of %u need more than the address space", p.max_seqs,
                       p.n_ctx, p.max_batch);
    uint64_t per_item = sizeof(graph_item) + sizeof(snug_item) + sizeof(int32_t) + 4ull * cfg->n_embd;
    /* The router's row in f32, biases, and the tables: a tensor stands in two of them while the file is opened. */
    const uint64_t biases = cfg->arch->expert_biases ? 4 * (2ull * cfg->n_ff + cfg->n_embd) : 0;
    uint64_t per_expert = 4ull * cfg->n_embd + biases + sizeof(expert_weights) + EXPERT_MATRICES * (2 * sizeof(store_tensor) + 128);
    out->scratch_bytes =
        graph_size + p.max_batch * per_item + 4ull * cfg->n_vocab * run_logit_rows(&p) +
        p.max_seqs * (sizeof(snug_seq) + 4ull * p.n_ctx);
    out->other_bytes = OTHER_BASE_BYTES + (uint64_t)p.threads * OTHER_PER_THREAD_BYTES +
                       OTHER_PER_METADATA * sizes->metadata_bytes + (uint64_t)OTHER_PER_VOCAB * cfg->n_vocab +
                       cfg->n_layers * ((uint64_t)sizeof(layer_weights) + cfg->n_experts * per_expert);
    out->total_bytes = out->weights_bytes + out->kv_bytes + out->scratch_bytes + out->other_bytes;
    return SNUG_OK;
}

uint64_t run_draft_bytes(const snug_context_params *p, const snug_memory *draft_model) {
    if (p->draft == SNUG_DRAFT_NONE) return 0;
    if (!draft_model) return p->max_seqs * lookup_bytes(p->n_ctx);
    return draft_model->total_bytes - OTHER_BASE_BYTES - (uint64_t)p->threads * OTHER_PER_THREAD_BYTES;
}
