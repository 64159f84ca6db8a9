/* The inside of encoding: encode.c has tensors and their places in the file, encode_layers.c the order in which error feedback wants
 * them. */
#ifndef FIT_ENCODE_H
#define FIT_ENCODE_H
#include "fit/fit.h"
#include "solve/hessian.h"

typedef struct encoder {
    fit_job *f;
    io_writer out;
    uint64_t data_at;  /* where the data section begins in the file */
    uint64_t *offset;  /* (n, WEIGHT_MAX_TERMS), in the data section */
    double done, skipped, all; /* for the meter: weights, each worth what it takes beside the others (1 on average) */
    double mean_s;     /* a thread's seconds per weight; 0: not known of all */
} encoder;

/* Tensor i, unless an earlier run did it: into the file, and into the journal. h: the second moments of its input in each basis that its
 * terms read, TRANSFORM_COUNT of them, or NULL. */
snug_err encode_one(encoder *e, size_t i, const hessian *h, snug_error *err);
/* The terms of tensor i as they stand in the file, read into mem. */
snug_err encode_read_back(const encoder *e, size_t i, arena *mem, weight *out, snug_error *err);

/* Tells the user what a layer's errors came to. */
snug_err encode_tell(encoder *e, int layer, snug_error *err);

/* The moments that a tied head wants, in a stage of their own; with fresh statistics they are there. */
snug_err encode_head_sum(encoder *e, snug_error *err);
/* After it: all tensors, each matrix with what the layers before it, compressed, feed into it. */
snug_err encode_layers(encoder *e, snug_error *err);
#endif
