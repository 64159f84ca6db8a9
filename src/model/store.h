/* A store: one model's tensors wherever they lie: a Hugging Face folder, a GGUF, a snug artifact. Opening reads headers
 * only. Every tensor is a list of terms (codec + place in a file); a BF16 safetensors tensor is one term, bf16. */
#ifndef MODEL_STORE_H
#define MODEL_STORE_H
#include "base/progress.h"
#include "codec/weight.h"
#include "format/gguf.h"
#include "format/safetensors.h"
#include "model/config.h"
#include "token/tokenizer.h"

typedef enum store_kind { STORE_HF, STORE_GGUF, STORE_SNUG } store_kind;

/* MXFP4 of which scales stand apart from codes (store_turns.c): row r has its codes `step` rows of codes behind those of row r - 1, and its scales likewise.
 * step 0: the payload stands as its codec says. */
typedef struct store_apart {
    uint32_t step, file; /* file, offset: of the first row's scales */
    uint64_t offset;
} store_apart;

typedef struct store_term {
    const snug_codec *codec;
    codec_params params;
    uint64_t rows, cols, row0, col0;
    uint32_t file;
    uint64_t offset, bytes;
    wt_layout layout;
    wt_scales scales;
    store_apart apart;
    uint64_t checksum; /* xxh3; has_checksums of the store says whether it is there */
    uint64_t checked_bytes; /* that it covers, from offset: the payload's; of a stack all for the first matrix, 0 for the others */
} store_term;

typedef struct store_tensor {
    const char *name;      /* canonical */
    tensor_role role;
    int layer;             /* -1 */
    int expert;            /* EXPERT_NONE, or whose matrix it is */
    uint64_t rows, cols;
    uint32_t n_terms;
    store_term term[WEIGHT_MAX_TERMS];
    uint32_t permute_heads; /* != 0: q/k rows of an HF llama: canonical row order differs (store_read_rows hides it) */
    double predicted_loss;  /* < 0: not known */
    char codec_name[COMP_NAME_MAX];
} store_tensor;

typedef struct store {
    store_kind kind;
    char *path;
    config cfg;
    tokenizer *tok;        /* NULL when opened without */
    st_set *st;            /* HF   */
    gguf_file *gguf;       /* GGUF */
    size_t n_files;
    const io_file *files;  /* borrowed from st / gguf; or the arena's, with `made` behind them */
    io_file made;          /* weights that opening wrote (store_ternary.c); path NULL: none */
    size_t n_tensors;
    store_tensor *tensors; /* canonical order: embd, layers (their experts last, one after the other), out norm, head */
    size_t *layers_at;     /* (n_layers + 1): a layer's first tensor in tensors; the first behind the layers */
    size_t *experts_at;    /* (n_layers): the first expert's gate in tensors, if the layer has any; NULL: there are no experts */
    bool has_checksums;
    double predicted_kl;   /* < 0 */
    uint64_t tensor_bytes, file_bytes, n_weights;
    arena mem;
} store;

snug_err store_open(const char *path, bool with_tokenizer, store **out, snug_error *err);
void store_close(store **s);
/* The tokenizer of the store's model, for who opened without (slow for large vocabularies: it reads them whole). */
snug_err store_open_tokenizer(const store *s, tokenizer **out, snug_error *err);
const store_tensor *store_find(const store *s, tensor_role role, int layer); /* NULL: none, or experts' */
const store_tensor *store_expert(const store *s, tensor_role role, int layer, int expert); /* role: gate, up or down */
/* Rows in canonical (GGUF) order, as f32, by pread into the call's own buffer: dst (n, cols). Thread-safe. */
snug_err store_read_rows(const store *s, const store_tensor *t, uint64_t row0, size_t n, float *dst, snug_error *err);
/* A norm or bias as f32 in the file's own order (for the graph), into `mem`. */
snug_err store_read_vector(const store *s, const store_tensor *t, arena *mem, const float **out, snug_error *err);
/* Opens rows of a term, from its row0-th on (a multiple of store_term_tile), whose payload is at data. */
snug_err store_open_rows(const store_term *t, uint64_t row0, uint64_t rows, const uint8_t *data, uint64_t bytes, wt *out, snug_error *err);
uint64_t store_term_tile(const store_term *t);
/* The payload of a term by pread, as its codec has it: term.bytes bytes; and that of rows alone, of a row-separable one. */
snug_err store_read_term(const store *s, const store_term *t, uint8_t *dst, snug_error *err);
snug_err store_read_payload(const store *s, const store_term *t, uint64_t row0, uint64_t n, uint8_t *dst, snug_error *err);
/* Hash of everything that decides the weights: for caches and journals. Fast: headers, sizes, mtimes and samples. */
uint64_t store_fingerprint(const store *s);
snug_err store_verify(const store *s, int threads, snug_progress progress, snug_error *err);
#endif
