/* The codec contract: one way to store a matrix in bytes. Codecs are const, stateless and the same for every ISA; they take
 * row ranges and know nothing of threads, files or models. W (rows, cols), row-major, y = W x.
 *
 * Everything but `lowrank` is row-separable: the payload is the rows' encodings one after the other (tile codecs: panels of
 * tile_rows rows), so a panel of rows can be encoded, written, read and decoded alone, in bounded memory. */
#ifndef CODEC_CODEC_H
#define CODEC_CODEC_H
#include <snug.h>
#include "base/arena.h"
#include "kern/kern.h"

typedef struct codec_params {
    uint16_t bits, group, rank; /* those that the family uses; the rest 0. Of dict, group is S */
    uint16_t in;                /* the transform of the input (codec/transform.h), which no family sees: its columns are W T^T's */
} codec_params;

typedef enum codec_act { CODEC_ACT_F32, CODEC_ACT_Q8 } codec_act; /* the form of activation it prefers */
enum {
    CODEC_LOSSLESS = 1,     /* decodes to exactly what was stored (given a source of that type)   */
    CODEC_GGUF_NATIVE = 2,  /* a ggml type: llama.cpp runs it                                      */
    CODEC_WHOLE = 4,        /* not row-separable: written by its own solver, all encoding steps NULL   */
    CODEC_TURNS = 8,        /* also offered behind a transform of the columns (codec/transform.h)      */
    CODEC_QUARTERS = 32,    /* its rank is a rate in quarters of a bit                            */
    CODEC_SLOW = 16,        /* takes long to encode or to load: offered where time is spent on feedback anyway */
    CODEC_GROWS = 64,       /* takes more memory when it is run than in its file: offered where both are named   */
    CODEC_READ_ONLY = 128,  /* decodes what others wrote, and has no encoding steps (codec/read_only.h): kept where a source has it */
};

/* Activations of n_tokens tokens, in the forms that codecs multiply. The engine fills q8 when some codec wants it and the
 * context allows it; f32 is always there. Columns beyond cols, up to cols_padded (a multiple of 256), are zero in both forms. */
typedef struct act {
    size_t n_tokens, cols, cols_padded;
    const float *f32;                                          /* (n_tokens, cols_padded)                              */
    kern_q8 q8;                                                /* q8.q NULL: not available; q8.ld = cols_padded           */
} act;
/* The same activations in the basis of each transform (codec/transform.h); f32 NULL: not there, because no weight reads it. */
enum { TRANSFORM_COUNT = 2 };
typedef struct act_set { act in[TRANSFORM_COUNT]; } act_set;

enum { CODEC_NEIGHBOURS = 8 }; /* scales that `neighbour` offers beside a group's own */
enum { CODEC_SHARED = 2 };     /* scales that `shared` gives, at most */

/* How a payload's rows stand: one after the other, as encoders pack them and GGUF has them; or interleaved in panels of 16 (kern/panel.h),
 * as they are multiplied and snug files have them, with the rows that do not fill a panel one after the other behind the last.
 * Either way as many bytes. Codecs without panels know rows only. */
typedef enum wt_layout { WT_ROWS, WT_PANELS } wt_layout;

/* Panels of a payload that is not multiplied as it stands (row by row, or entropy-coded), made by who multiplies it; shared by threads and contexts. */
typedef struct wt_panels {
    uint8_t *data;                           /* a panel for each 16 rows                  */
    _Atomic uint8_t *state;                  /* of each: how often its rows were read, or WT_BUSY, WT_READY */
    void (*made)(void *user, uint64_t bytes); /* so many payload bytes will not be read again */
    void *user;
} wt_panels;
enum { WT_BUSY = 254, WT_READY };

/* Scales that stand apart from a payload (codec/f8.c): that of row r, column c is at[(row0 + r) / rows * per_row + c / cols]. at NULL: all are 1. */
typedef struct wt_scales {
    const float *at;
    uint64_t rows, cols, per_row; /* rows and columns that share one */
    uint64_t row0;
} wt_scales;

typedef struct snug_codec snug_codec;
typedef struct wt { /* an opened payload */
    const snug_codec *codec;
    codec_params params;
    uint64_t rows, cols;
    const uint8_t *data;
    uint64_t bytes;
    wt_layout layout;
    const wt_panels *panels; /* NULL: none */
    wt_scales scales;
} wt;

struct snug_codec {
    const char *family; /* "bf16", "q4_k", "int" ...                                       */
    uint16_t id;        /* stable, never reused                                            */
    uint16_t tile_rows, tile_cols; /* rounded jointly: 1x1, 16x16 ...                      */
    uint16_t block_cols;  /* weights per block: payload columns are padded to it           */
    codec_act act;
    uint32_t caps;
    int ggml_type;        /* or -1                                                         */
    uint8_t time;         /* that a weight takes beside one of the int family, in its multiplication with one token (AVX2); 0: about as long */
    const void *impl;     /* the family's own description, for functions that several codecs share; or NULL */

    /* The i-th parameter set of the family's menu; false past the end. */
    bool (*menu)(uint32_t i, codec_params *out);
    /* Checks parameters that came from a name or a file. */
    bool (*params_ok)(codec_params p);
    /* Exact bytes. n_rows need not be a multiple of tile_rows (the last panel is shorter or padded). 0 = overflow / impossible. */
    uint64_t (*bytes)(codec_params p, uint64_t n_rows, uint64_t cols);

    /* Encoding of one panel of n_rows rows, in steps, so that a solver can feed errors forward between them:
     *   enc_init, begin, then for each group of columns in order: group (fits scales to the weights as they are now) and
     *   round (codes and reconstruction of tile columns inside that group), then pack.
     * enc_bytes: the size of the caller's enc buffer (64-byte aligned, 0 = overflow). group_cols: columns per `group` call
     * (the last call may have fewer). Weights are finite; a is finite and > 0. All NULL for CODEC_WHOLE codecs.          */
    size_t (*enc_bytes)(codec_params p, size_t n_rows, size_t cols);
    uint32_t (*group_cols)(codec_params p);
    void (*enc_init)(void *enc, codec_params p, size_t n_rows, size_t cols, int effort);
    /* Sees the whole panel once before any error is fed forward, for what a row shares (the int family's d). NULL: nothing to
     * do. w (n_rows, ldw), all columns; a: importance per column (cols) or NULL = 1. */
    void (*begin)(void *enc, const float *w, size_t ldw, const float *a);
    /* w points to column col0 of the panel's first row: (n_rows, ldw), columns [col0, col0+n). a: importance per column (n) > 0,
     * already sliced too, or NULL = 1. */
    void (*group)(void *enc, size_t col0, size_t n, const float *w, size_t ldw, const float *a);
    /* The same for w and w_hat; col0 and n multiples of tile_cols (n may be short at the end). w_hat may be NULL; it is what
     * `decode` will give, bit for bit. */
    void (*round)(void *enc, size_t col0, size_t n, const float *w, size_t ldw, float *w_hat, size_t ldh);
    /* The next `round` may look at n more columns of w, to the right of its own (of later groups, too), which are rounded later; NULL: it has no use for them. */
    void (*ahead)(void *enc, size_t n);
    /* For codecs whose tiles are rounded jointly, the same solvers' way to round one again; NULL: none. The tile of columns [col0, col0 + n) of the
     * rows from row0 on, tile_rows of them or what is left, n at most tile_cols (both at most 16); what stands around it stays as it is. a: importances (n). w_hat is
     * what it would decode to; `accept` makes it so, until the next `propose`. */
    void (*propose)(void *enc, size_t row0, size_t col0, size_t n, const float *w, size_t ldw, const float *a, float *w_hat, size_t ldh);
    void (*accept)(void *enc);
    /* Other scales for codes that stay, for solvers that know better than the columns' importances; NULL: none. The group that begins at
     * column col (a multiple of scale_cols, which is at most 128) of a row, under the k-th of its neighbouring scales (k < CODEC_NEIGHBOURS): what it would decode
     * to in w_hat, and in *scales what `rescale` takes to make it so. Returns the group's columns; 0: there is no such neighbour. */
    uint16_t (*scale_cols)(codec_params p);
    size_t (*neighbour)(const void *enc, size_t row, size_t col, int k, float *w_hat, uint32_t *scales);
    void (*rescale)(void *enc, size_t row, size_t col, uint32_t scales);
    /* Scales that are stored as numbers, not as steps, for the same solvers; NULL: none. A row's columns [col, col + group_cols), col a multiple
     * of group_cols, decode to x[0] u[0] + ... + x[n-1] u[n-1], up to rounding, with such scales x, and codes and steps as they stand. `shared`
     * fills x and the u[i] (each at least as many floats as columns) and returns n, which depends on the codec alone. `reshare` stores the
     * nearest to x that can be stored, gives that in x, and in w_hat what the columns decode to then. What `shared` gave is stored as it was. */
    int (*shared)(const void *enc, size_t row, size_t col, float x[CODEC_SHARED], float *const u[CODEC_SHARED]);
    void (*reshare)(void *enc, size_t row, size_t col, float x[CODEC_SHARED], float *w_hat);
    void (*pack)(const void *enc, uint8_t *dst); /* bytes(p, n_rows, cols) bytes */

    /* Reading. `check` sees parameters and shape, after wt_open compared the size (NULL: nothing more to check). Payloads are
     * lazy maps: any bytes must be safe to decode. Rows may start anywhere; multiples of tile_rows waste no work. */
    snug_err (*check)(const wt *w, snug_error *err);
    /* rows [row0, row0+n) to f32, dst (n, stride). The reference for matmul. */
    void (*decode)(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride);
    /* dst += the same: for the terms of a sum after the first. */
    void (*decode_add)(const wt *w, uint64_t row0, size_t n, float *dst, size_t stride);
    /* Bytes of wt_panels.data, perhaps more than the payload's; 0 or NULL: it is multiplied as it stands. */
    uint64_t (*panel_bytes)(const wt *w);
    /* The payload in the other layout, w->bytes bytes. NULL: the codec has no panels. */
    void (*relay)(const wt *w, uint8_t *dst);
    /* y[t * ldy + r - row0] += W[r,:] . x_t for rows r in [row0, row0+n). x's columns are w's columns (already offset for a
     * term that covers part of them), in the form that `act` says: q8 is there for CODEC_ACT_Q8, and weight_matmul multiplies
     * those codecs' decoded rows where it is not.
     * scratch: scratch_bytes(w, n, tokens) bytes, 64-byte aligned; what is enough for n rows is enough for fewer. */
    size_t (*scratch_bytes)(const wt *w, size_t n_rows, size_t n_tokens);
    void (*matmul)(const wt *w, uint64_t row0, size_t n, const act *x, float *y, size_t ldy, void *scratch);
};

/* ------------------------------------------------------------- registry ---- */
size_t codec_count(void);
const snug_codec *codec_at(size_t i);
const snug_codec *codec_by_id(uint16_t id);
const snug_codec *codec_by_ggml_type(uint32_t type); /* NULL: not known */
/* "int3g64", "had:int3g64" -> codec and params. False: no such codec, or none that takes a transform. */
bool codec_parse(const char *name, const snug_codec **codec, codec_params *params);
enum { CODEC_NAME_MAX = 28 };
void codec_format(const snug_codec *codec, codec_params params, char name[CODEC_NAME_MAX]);
/* Tests register codecs of their own (at most 4). */
void codec_register_for_test(const snug_codec *codec);

/* Fills wt, of rows one after the other, and checks the payload's size against the shape. */
snug_err wt_open(const snug_codec *codec, codec_params params, uint64_t rows, uint64_t cols, const uint8_t *data, uint64_t bytes,
                 wt *out, snug_error *err);
#endif
