/* What the two files of the tcq codec share. */
#ifndef CODEC_TCQ_H
#define CODEC_TCQ_H
#include "base/checked.h"
#include "codec/codec.h"
#include "kern/trellis.h"

/* Bytes of a panel of 16 rows. */
static inline size_t tcq_panel_bytes(size_t n_chunks) { return TCQ2_HEAD + TCQ2_CHUNK * n_chunks; }

/* The encoding steps of the contract (tcq_enc.c). */
size_t tcq_enc_bytes(codec_params p, size_t n_rows, size_t cols);
uint32_t tcq_group_cols(codec_params p);
void tcq_enc_init(void *enc, codec_params p, size_t n_rows, size_t cols, int effort);
void tcq_begin(void *enc, const float *w, size_t ldw, const float *a);
void tcq_group(void *enc, size_t col0, size_t n, const float *w, size_t ldw, const float *a);
void tcq_ahead(void *enc, size_t n);
void tcq_round(void *enc, size_t col0, size_t n, const float *w, size_t ldw, float *w_hat, size_t ldh);
void tcq_propose(void *enc, size_t row0, size_t col0, size_t n, const float *w, size_t ldw, const float *a, float *w_hat, size_t ldh);
void tcq_accept(void *enc);
void tcq_pack(const void *enc, uint8_t *dst);
#endif
