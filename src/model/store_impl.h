/* Internal to the store: putting a model together from what a format's reader finds. */
#ifndef MODEL_STORE_IMPL_H
#define MODEL_STORE_IMPL_H
#include "model/store.h"

typedef struct found_term { /* one term, as a file has it */
    const char *name;       /* canonical, without "@k"                 */
    const char *shown;      /* the file's own name, for messages       */
    uint32_t index;         /* the term's number                       */
    uint64_t rows, cols;    /* of the whole weight                     */
    store_term term;
    double loss;
} found_term;

/* Files a term under its tensor, checking names, shapes and sizes. */
snug_err store_place(store *s, store_tensor **slots, const found_term *f, snug_error *err);
/* The same of a stack of experts' matrices (`n` of them, f->rows in all; gates on ups count as one): each becomes a tensor. */
snug_err store_place_stack(store *s, store_tensor **slots, const found_term *f, uint64_t n, snug_error *err);
snug_err store_place_hf(store *s, store_tensor **slots, snug_error *err);
snug_err store_place_gguf(store *s, store_tensor **slots, snug_error *err);
/* The same of a matrix, or its bias, that holds the rows of several roles of a layer one after the other. */
snug_err store_place_fused(store *s, store_tensor **slots, const found_term *f, int layer, const tensor_role *roles, size_t n_roles, snug_error *err);
/* Weights that opening makes (store_made.c): a file for them; some bytes at offset s->made.bytes or beyond; what was written there as f's term, of f's
 * shape. A number of a tensor read to p. */
snug_err store_make_open(store *s, snug_error *err);
snug_err store_make_write(store *s, uint64_t offset, const uint8_t *src, size_t n, snug_error *err);
void store_make_take(store *s, const snug_codec *codec, found_term *f);
float store_number_at(const st_tensor *t, const uint8_t *p, size_t i);
/* A matrix that the folder has as (inputs, outputs), of f's codec. */
snug_err store_make_transposed(store *s, const st_tensor *t, found_term *f, snug_error *err);
/* q, k and v of which the folder has a head of each in turn, rows of a matrix or numbers of a bias: all of q, then k, then v. */
snug_err store_make_unwoven(store *s, const st_tensor *t, found_term *f, snug_error *err);
/* A vector each of whose numbers is made of the folder's: gains of a norm of which it holds gain - 1; -exp of what it holds. */
snug_err store_make_vector(store *s, const st_tensor *t, float (*of)(float), found_term *f, snug_error *err);
float store_gain(float less_one);
float store_decay(float log);
/* kv_b of a layer, out of the stack k of its heads' keys and that of their values (store_latent.c). */
snug_err store_make_kv_b(store *s, const gguf_tensor *k, int layer, found_term *f, snug_error *err);
/* A BitNet folder's matrix t, made plain ternary weights: f->term says which and where. */
snug_err store_make_ternary(store *s, const st_tensor *t, found_term *f, snug_error *err);
/* Numbers of 8 bits with scales apart (store_f8.c): is t such a matrix; is it a scale, which belongs to another tensor or to nobody; codec and scales of a matrix. */
bool store_f8_is(const store *s, const st_tensor *t);
bool store_f8_beside(const store *s, const st_tensor *t);
snug_err store_f8(store *s, const st_tensor *t, found_term *f, snug_error *err);
/* Experts of which gate and up stand in turns, in float types or MXFP4 (store_turns.c): is t such a stack; its tensors; rows of a term whose parts stand apart. */
bool store_turns_is(const store *s, const st_tensor *t);
snug_err store_turns_place(store *s, store_tensor **slots, const st_tensor *t, snug_error *err);
snug_err store_apart_read(const store *s, const store_term *t, uint64_t row0, uint64_t n, uint8_t *dst, snug_error *err);
/* f32, f16 or bf16, as t is; an error where it is neither. */
snug_err store_float_codec(const store *s, const st_tensor *t, const snug_codec **codec, snug_error *err);
/* Reads snug.* keys that concern the whole file: version, compressed keys. Before config_from_gguf. */
snug_err store_snug_header(store *s, snug_error *err);
#endif
