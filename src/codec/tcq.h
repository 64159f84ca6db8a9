/* What the files of the tcq and tcqf codecs share. Parameters: rank 2 is tcqf's, from TCQ_QUARTERS_MIN on it is tcq's rate in quarters of a bit. */
#ifndef CODEC_TCQ_H
#define CODEC_TCQ_H
#include "base/checked.h"
#include "codec/codec.h"
#include "kern/trellis.h"

/* 1 / d and d^2 relative to the panel's mean, of all rows of the panels; both 0 where d is. */
void tcq_weigh_rows(size_t n_panels, const uint16_t *d, float *inverse, float *row);

/* The encoding steps of the contract (tcq_enc.c, tcqf_enc.c). */
#define TCQ_ENCODER(name) \
    size_t name##_enc_bytes(codec_params p, size_t n_rows, size_t cols); \
    uint32_t name##_group_cols(codec_params p); \
    void name##_enc_init(void *enc, codec_params p, size_t n_rows, size_t cols, int effort); \
    void name##_begin(void *enc, const float *w, size_t ldw, const float *a); \
    void name##_group(void *enc, size_t col0, size_t n, const float *w, size_t ldw, const float *a); \
    void name##_ahead(void *enc, size_t n); \
    void name##_round(void *enc, size_t col0, size_t n, const float *w, size_t ldw, float *w_hat, size_t ldh); \
    void name##_propose(void *enc, size_t row0, size_t col0, size_t n, const float *w, size_t ldw, const float *a, float *w_hat, size_t ldh); \
    void name##_accept(void *enc); \
    void name##_pack(const void *enc, uint8_t *dst);
TCQ_ENCODER(tcq)
TCQ_ENCODER(tcqf)
#undef TCQ_ENCODER
#endif
