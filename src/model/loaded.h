/* A store's weights, mapped read-only: what run multiplies by. Fit does not use it (it reads by pread, layer_read). */
#ifndef MODEL_LOADED_H
#define MODEL_LOADED_H
#include "model/graph.h"

typedef struct loaded {
    arena mem;
    size_t n_files;
    struct { void *at; size_t bytes; const uint8_t *file0; } *maps; /* file0: where byte 0 of the file would be */
    layer_weights outer, *layers;                                  /* norms and biases are f32 copies          */
    const float *rope_freqs;                                        /* or NULL                                  */
} loaded;

/* The store must outlive it. Pages become resident as they are used; a file that shrinks afterwards ends in SIGBUS. */
snug_err loaded_map(const store *s, loaded **out, snug_error *err);
void loaded_unmap(loaded **l);
/* What is mapped, in whole pages: the most that the weights can take of the resident set. */
uint64_t loaded_bytes(const store *s);
#endif
