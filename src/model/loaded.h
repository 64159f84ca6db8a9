/* A store's weights, mapped read-only: what run multiplies by. Fit does not use it (it reads by pread, layer_read). */
#ifndef MODEL_LOADED_H
#define MODEL_LOADED_H
#include "model/graph.h"

#include <stdatomic.h>

typedef struct loaded {
    arena mem;
    size_t n_files;
    struct { uint8_t *at; size_t bytes; const uint8_t *file0; } *maps; /* file0: where byte 0 of the file would be */
    size_t n_sources;
    struct { uint8_t *begin, *end; } *sources;                     /* mapped pages that panels are made from, apart and rising */
    uint8_t *apart;                                                 /* anonymous; payloads whose parts stand apart in their file */
    uint64_t apart_bytes, apart_given;
    void *panel_map;                                               /* anonymous; holds all wt_panels.data      */
    uint8_t *panels;
    uint64_t panel_bytes, panels_given, source_bytes;               /* source_bytes: that panels are made from  */
    atomic_uint_fast64_t panels_made;                               /* source bytes that were made panels       */
    layer_weights outer, *layers;                                  /* norms and biases are f32 copies          */
    const float *rope_freqs;                                        /* or NULL                                  */
} loaded;

/* The store must outlive it. Payloads whose parts stand apart are read at once, into memory of ours. Pages become resident as they are used; a file that shrinks afterwards ends in SIGBUS.
 * Payloads that stand row by row are made panels in memory of ours over the first passes, and what was mapped of them is let go as this
 * proceeds: a model that was opened with them takes what it would without, and loaded_slack. So do entropy-coded payloads, whose panels take more. */
snug_err loaded_map(const store *s, loaded **out, snug_error *err);
void loaded_unmap(loaded **l);
/* Keeps all of it resident from now on, panels as they are made; what they are made from is still let go. */
snug_err loaded_lock(loaded *l, snug_error *err);
/* The most that the weights can take of the resident set: what is mapped, in whole pages, and the slack. */
uint64_t loaded_bytes(const store *s);
/* Those of a term that multiplying with it reads. */
uint64_t loaded_term_bytes(const store_term *t);
/* What panels of payloads of `bytes` take beyond these while they are made; n_partial of the payloads have rows that fill none. */
uint64_t loaded_slack(uint64_t bytes, size_t n_partial);
#endif
