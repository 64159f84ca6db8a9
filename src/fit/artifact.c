/* The artifact's header (docs/format.md): everything in the file that is not weights.
 *
 * All sizes are exact before anything is encoded: payload sizes follow from codec and shape, and of the header's contents only
 * checksums and losses come later, which have fixed widths. So the header is laid out from a plan alone (that is how the budget is
 * kept to the byte), and written last, in its place, when the checksums are known. */
#include "fit/fit.h"

#include "base/checked.h"
#include "base/err.h"
#include "codec/transform.h"
#include "model/arch.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum { ALIGNMENT = 32, ZSTD_LEVEL = 19, MAX_CODECS = 256 };

bool artifact_is_native(const comp *c, uint64_t cols) {
    return c->n_terms == 1 && c->term[0].codec->ggml_type >= 0 && c->term[0].params.in == TRANSFORM_NONE && cols % c->term[0].codec->block_cols == 0;
}

wt_layout artifact_layout(const fit_job *f, const snug_codec *codec) {
    return f->p->target != SNUG_FOR_GGUF && codec->relay ? WT_PANELS : WT_ROWS;
}

/* ---- what does not depend on the plan ---- */

static snug_err pack_tokenizer(fit_job *f, snug_error *err) {
    gguf_kvs kvs = {0};
    snug_err rc = tokenizer_to_gguf(f->tok, f->src->cfg.n_vocab, false, &kvs, err);
    if (rc == SNUG_OK && !buf_reserve(&f->packed_kvs, ZSTD_compressBound(kvs.bytes.len))) rc = err_nomem(err, kvs.bytes.len);
    if (rc == SNUG_OK) {
        size_t n = ZSTD_compress(f->packed_kvs.data, f->packed_kvs.cap, kvs.bytes.data, kvs.bytes.len, ZSTD_LEVEL);
        if (ZSTD_isError(n)) rc = err_set(err, SNUG_ERR_NOMEM, "compressing the tokenizer: %s", ZSTD_getErrorName(n));
        else f->packed_kvs.len = n;
        f->packed_count = kvs.n;
        f->packed_bytes = kvs.bytes.len;
    }
    gguf_kvs_fini(&kvs);
    return rc;
}

/* What a GGUF for others cannot say: of a mixture of experts llama.cpp decides by the architecture whether shares are normalised, of any model how
 * gates are made; more is the architecture's own. */
static snug_err check_target(fit_job *f, snug_error *err) {
    const config *c = &f->src->cfg;
    const arch *a = c->arch;
    if (f->p->target != SNUG_FOR_GGUF) return SNUG_OK;
    if (c->act != a->act && !a->sub_norms)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: its activation is %s, and other readers of a GGUF of architecture '%s' take %s; without --for gguf it can be had", f->src->path,
                       activation_name(c->act), a->gguf_name, activation_name(a->act));
    if (c->scaling == ROPE_YARN && (c->beta_fast != 32 || c->beta_slow != 1)) /* keys that llama.cpp reads for two architectures alone */
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: its RoPE's yarn has beta_fast %g and beta_slow %g, and other readers of a GGUF take 32 and 1; without --for gguf it can be had", f->src->path,
                       c->beta_fast, c->beta_slow);
    const bool unrounded = c->scaling == ROPE_YARN && c->yarn_exact;
    if (unrounded && a->yarn_exact) { /* a folder's is another than its GGUF's by everybody: nobody would be helped by a refusal */
        snug_err rc = meter_warn(&f->meter, "other readers of a GGUF of this architecture round the bounds of its RoPE's yarn, which the model does not: their texts differ a little", err);
        if (rc != SNUG_OK) return rc;
    }
    if (unrounded && !a->yarn_exact)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: its RoPE has yarn without truncation, which other readers of a GGUF do not have; without --for gguf it can be had", f->src->path);
    if (c->n_experts && !a->expert_scores && c->norm_topk != a->experts->gguf_norm_topk)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: its experts' shares are %s to sum to 1, and other readers of a GGUF of architecture '%s' expect that they are%s; without --for gguf it can be had",
                       f->src->path, c->norm_topk ? "made" : "not made", a->gguf_name, c->norm_topk ? " not" : "");
    return a->for_others ? a->for_others(c, f->src->path, err) : SNUG_OK;
}

snug_err artifact_prepare(fit_job *f, snug_error *err) {
    snug_err rc = check_target(f, err);
    if (rc == SNUG_OK) rc = config_to_gguf(&f->src->cfg, &f->kvs, err);
    if (rc != SNUG_OK) return rc;
    if (f->p->target == SNUG_FOR_GGUF) return tokenizer_to_gguf(f->tok, f->src->cfg.n_vocab, true, &f->kvs, err);
    return pack_tokenizer(f, err);
}

/* ---- what does ---- */

/* llama.cpp's number for "mostly this type": the type that holds most weights. */
static uint32_t file_type(const fit_job *f) {
    static const struct { int ggml, file; } names[] = {
        {GGML_F32, 0},   {GGML_F16, 1},   {GGML_Q4_0, 2},  {GGML_Q8_0, 7},    {GGML_Q2_K, 10},  {GGML_Q3_K, 12},
        {GGML_Q4_K, 15}, {GGML_Q5_K, 17}, {GGML_Q6_K, 18}, {GGML_IQ4_NL, 25}, {GGML_IQ4_XS, 30}, {GGML_BF16, 32},
        {GGML_TQ1_0, 36}, {GGML_TQ2_0, 37},
    };
    uint64_t weights[sizeof names / sizeof *names] = {0}, best = 0;
    uint32_t found = 1024; /* LLAMA_FTYPE_GUESSED */
    for (size_t i = 0; i < f->n; i++)
        for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
            const fit_tensor *t = &f->tensor[i];
            if (!t->matrix || t->menu.cand[t->choice].comp.term[0].codec->ggml_type != names[k].ggml) continue;
            weights[k] += t->t->rows * t->t->cols;
            if (weights[k] > best) {
                best = weights[k];
                found = (uint32_t)names[k].file;
            }
        }
    return found;
}

typedef struct records { /* the parallel arrays of docs/format.md, section 2 */
    gguf_out_tensor *out;
    uint64_t *checksum;
    float *loss;
    size_t n;
    uint8_t *codec;
    uint32_t *rows, *cols;
    size_t n_payloads;
    gguf_str name[MAX_CODECS];
    comp_term used[MAX_CODECS];
    size_t n_codecs;
} records;

static snug_err codec_index(records *r, const comp_term *t, arena *mem, uint8_t *out, snug_error *err) {
    for (size_t i = 0; i < r->n_codecs; i++)
        if (r->used[i].codec == t->codec && memcmp(&r->used[i].params, &t->params, sizeof t->params) == 0) {
            *out = (uint8_t)i;
            return SNUG_OK;
        }
    if (r->n_codecs == MAX_CODECS) return err_set(err, SNUG_ERR_UNSUPPORTED, "the plan uses more than %d codecs", MAX_CODECS);
    char name[CODEC_NAME_MAX];
    codec_format(t->codec, t->params, name);
    const char *copy = arena_strdup(mem, name);
    if (!copy) return err_nomem(err, sizeof name);
    r->used[r->n_codecs] = *t;
    r->name[r->n_codecs] = (gguf_str){copy, strlen(copy)};
    *out = (uint8_t)r->n_codecs++;
    return SNUG_OK;
}

/* Several tensors as one native one: experts as a stack of three dimensions, others row after row; vectors, which are one row each, end to end. */
static void add_joint(const fit_job *f, records *r, size_t first) {
    const fit_tensor *t = &f->tensor[first];
    const comp *c = &t->menu.cand[t->choice].comp;
    const uint64_t n = item_size(f, first);
    gguf_out_tensor *o = &r->out[r->n];
    *o = (gguf_out_tensor){.name = t->item, .type = (uint32_t)c->term[0].codec->ggml_type, .n_dims = 3, .dims = {t->t->cols, t->t->rows, n, 1}};
    if (t->t->expert == EXPERT_NONE) o->n_dims = t->matrix ? 2 : 1, o->dims[1] = item_rows(f, first), o->dims[2] = 1;
    if (!t->matrix && t->t->expert == EXPERT_NONE) {
        o->dims[0] = o->dims[1] = 0;
        for (size_t k = 0; k < n; k++) o->dims[0] += f->tensor[item_member(f, first, k)].t->cols;
        o->dims[1] = 1;
    }
    o->bytes = item_bytes(f, first, n, c);
    double loss = 0;
    for (size_t k = 0; k < n; k++) {
        const fit_tensor *own = &f->tensor[item_member(f, first, k)];
        loss += own->menu.cand[own->choice].loss;
    }
    r->checksum[r->n] = t->stack_checksum;
    r->loss[r->n++] = (float)loss;
}

/* Adds the tensors (one, or one per term) of weight t. */
static snug_err add_records(const fit_job *f, records *r, const fit_tensor *t, arena *mem, snug_error *err) {
    const cand *c = &t->menu.cand[t->choice];
    const store_tensor *s = t->t;
    bool native = artifact_is_native(&c->comp, s->cols) && artifact_layout(f, c->comp.term[0].codec) == WT_ROWS;
    for (uint32_t k = 0; k < c->comp.n_terms; k++) {
        gguf_out_tensor *o = &r->out[r->n];
        *o = (gguf_out_tensor){.name = k ? arena_printf(mem, "%s@%u", s->name, k) : s->name, .dims = {1, 1, 1, 1}};
        if (!o->name) return err_nomem(err, 64);
        if (strlen(o->name) > 63) return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: the name is longer than 63 bytes", o->name);
        o->bytes = comp_term_bytes(&c->comp, k, s->rows, s->cols);
        if (native) {
            o->type = (uint32_t)c->comp.term[0].codec->ggml_type;
            o->n_dims = t->matrix || s->rows > 1 ? 2 : 1;
            o->dims[0] = s->cols;
            o->dims[1] = s->rows;
        } else {
            o->type = GGML_I8;
            o->n_dims = 1;
            o->dims[0] = o->bytes;
            if (s->rows > UINT32_MAX || s->cols > UINT32_MAX) return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: too large", s->name);
            snug_err rc = codec_index(r, &c->comp.term[k], mem, &r->codec[r->n_payloads], err);
            if (rc != SNUG_OK) return rc;
            r->rows[r->n_payloads] = (uint32_t)s->rows;
            r->cols[r->n_payloads++] = (uint32_t)s->cols;
        }
        r->checksum[r->n] = t->checksum[k];
        r->loss[r->n++] = k ? 0 : (float)c->loss;
    }
    return SNUG_OK;
}

static bool put_records(gguf_kvs *k, const records *r) {
    bool ok = gguf_put_array(k, "snug.checksums", GGUF_U64, r->checksum, r->n) && gguf_put_array(k, "snug.losses", GGUF_F32, r->loss, r->n);
    if (r->n_payloads == 0) return ok;
    return ok && gguf_put_str_array(k, "snug.codecs", r->name, r->n_codecs) &&
           gguf_put_array(k, "snug.payload.codec", GGUF_U8, r->codec, r->n_payloads) &&
           gguf_put_array(k, "snug.payload.rows", GGUF_U32, r->rows, r->n_payloads) &&
           gguf_put_array(k, "snug.payload.cols", GGUF_U32, r->cols, r->n_payloads);
}

static bool put_keys(const fit_job *f, gguf_kvs *k) {
    const char *slash = strrchr(f->src->path, '/');
    const char *source = *f->src->cfg.name ? f->src->cfg.name : slash && slash[1] ? slash + 1 : f->src->path;
    char calib[128];
    if (f->text.ids) snprintf(calib, sizeof calib, "%s, %u tokens, %016llx", f->calib.name, f->text.n_seq * f->text.len, (unsigned long long)f->text.hash);
    else snprintf(calib, sizeof calib, "%s", f->calib.name);
    bool ok = buf_append(&k->bytes, f->kvs.bytes.data, f->kvs.bytes.len);
    k->n = f->kvs.n;
    if (f->p->target == SNUG_FOR_GGUF)
        ok = ok && gguf_put_u32(k, "general.file_type", file_type(f)) && gguf_put_u32(k, "general.quantization_version", 2);
    if (f->plain) return ok;
    ok = ok && gguf_put_u32(k, "snug.version", ARTIFACT_VERSION) && gguf_put_u32(k, "snug.order", order_kinds(f)) && gguf_put_f32(k, "snug.predicted_kl", (float)f->predicted_kl) &&
         gguf_put_str(k, "snug.source", source, strlen(source)) && gguf_put_str(k, "snug.calib", calib, strlen(calib));
    if (f->packed_kvs.len)
        ok = ok && gguf_put_u32(k, "snug.kv.count", (uint32_t)f->packed_count) && gguf_put_u64(k, "snug.kv.bytes", f->packed_bytes) &&
             gguf_put_array(k, "snug.kv.zstd", GGUF_U8, f->packed_kvs.data, f->packed_kvs.len);
    return ok;
}

snug_err artifact_header(const fit_job *f, buf *header, uint64_t *file_bytes, uint64_t *offset, snug_error *err) {
    arena mem = {0};
    gguf_kvs kvs = {0};
    size_t most = f->n * WEIGHT_MAX_TERMS;
    snug_err rc = SNUG_OK;
    records *r = arena_calloc(&mem, 1, sizeof *r);
    if (r) {
        r->out = arena_calloc(&mem, most, sizeof *r->out);
        r->checksum = arena_calloc(&mem, most, sizeof *r->checksum);
        r->loss = arena_calloc(&mem, most, sizeof *r->loss);
        r->codec = arena_calloc(&mem, most, sizeof *r->codec);
        r->rows = arena_calloc(&mem, most, sizeof *r->rows);
        r->cols = arena_calloc(&mem, most, sizeof *r->cols);
    }
    if (!r || !r->out || !r->checksum || !r->loss || !r->codec || !r->rows || !r->cols) rc = err_nomem(err, most * sizeof *r->out);
    for (size_t i = 0; i < f->n && rc == SNUG_OK; i++) {
        const size_t n = item_size(f, i);
        if (f->p->target != SNUG_FOR_GGUF || (n == 1 && f->tensor[i].t->expert == EXPERT_NONE)) rc = add_records(f, r, &f->tensor[i], &mem, err);
        else if (n) add_joint(f, r, i);
    }
    if (rc == SNUG_OK && !(put_keys(f, &kvs) && (f->plain || put_records(&kvs, r)))) rc = err_nomem(err, kvs.bytes.len);
    if (rc == SNUG_OK) rc = gguf_layout(&kvs, r->out, r->n, ALIGNMENT, header, file_bytes, err);
    if (rc == SNUG_OK && offset) {
        size_t at = 0;
        for (size_t i = 0; i < f->n; i++) {
            const fit_tensor *t = &f->tensor[i];
            const comp *c = &t->menu.cand[t->choice].comp;
            const size_t n = item_size(f, i);
            uint64_t within = 0; /* of several tensors in one, native ones */
            for (size_t m = 0; m < n; m++) {
                const size_t member = item_member(f, i, m);
                for (uint32_t k = 0; k < c->n_terms; k++) offset[member * WEIGHT_MAX_TERMS + k] = r->out[at + k].offset + within;
                within += comp_term_bytes(c, 0, f->tensor[member].t->rows, f->tensor[member].t->cols);
            }
            at += n ? c->n_terms : 0;
        }
    }
    gguf_kvs_fini(&kvs);
    arena_fini(&mem);
    return rc;
}
