/* GGUF v2/v3: key-values and tensor table, reader and writer. Knows nothing of models. Little endian only.
 * Source: the GGUF specification in ggml's docs. */
#ifndef FORMAT_GGUF_H
#define FORMAT_GGUF_H
#include "base/arena.h"
#include "base/buf.h"
#include "base/io.h"
#include "base/progress.h"

typedef enum gguf_kv_type {
    GGUF_U8 = 0, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING, GGUF_ARRAY,
    GGUF_U64, GGUF_I64, GGUF_F64
} gguf_kv_type;

/* ggml's numbers for tensor types (those that snug names). */
typedef enum ggml_type {
    GGML_F32 = 0, GGML_F16 = 1, GGML_Q4_0 = 2, GGML_Q4_1 = 3, GGML_Q5_0 = 6, GGML_Q5_1 = 7, GGML_Q8_0 = 8, GGML_Q8_1 = 9,
    GGML_Q2_K = 10, GGML_Q3_K = 11, GGML_Q4_K = 12, GGML_Q5_K = 13, GGML_Q6_K = 14, GGML_Q8_K = 15,
    GGML_IQ2_XXS = 16, GGML_IQ2_XS = 17, GGML_IQ3_XXS = 18, GGML_IQ1_S = 19, GGML_IQ4_NL = 20, GGML_IQ3_S = 21,
    GGML_IQ2_S = 22, GGML_IQ4_XS = 23, GGML_I8 = 24, GGML_I16 = 25, GGML_I32 = 26, GGML_I64 = 27, GGML_F64 = 28,
    GGML_IQ1_M = 29, GGML_BF16 = 30, GGML_TQ1_0 = 34, GGML_TQ2_0 = 35, GGML_MXFP4 = 39, GGML_NVFP4 = 40, GGML_Q1_0 = 41
} ggml_type;
/* What a key-value type is called ("uint32") and its bytes; "unknown" and 0 for other numbers, bytes 0 for string and array. */
const char *gguf_kv_type_name(uint32_t type);
uint32_t gguf_kv_type_bytes(uint32_t type);
/* Name ("q4_k"), weights per block and bytes per block; false for an unknown type. */
bool ggml_type_info(uint32_t type, const char **name, uint32_t *block_weights, uint32_t *block_bytes);

typedef struct gguf_str { const char *p; uint64_t n; } gguf_str; /* p has a NUL after n bytes */
typedef struct gguf_kv {
    const char *key;
    gguf_kv_type type, elem_type;  /* elem_type for arrays (nested arrays are refused) */
    union { uint64_t u; int64_t i; double f; bool b; gguf_str s; } v; /* scalars, widened */
    uint64_t n;                    /* array length */
    const void *array;             /* numbers: packed little endian as in the file (unaligned); strings: gguf_str[n] */
} gguf_kv;

typedef struct gguf_tensor {
    const char *name;
    uint32_t type;        /* ggml_type */
    uint32_t n_dims;
    uint64_t dims[4];     /* innermost first (dims[0] = columns), unused ones are 1 */
    uint32_t file;        /* of files: 0, or which part */
    uint64_t offset;      /* absolute, in the file */
    uint64_t bytes;
} gguf_tensor;

typedef struct gguf_file {
    arena mem;
    io_file file;
    size_t n_files;       /* 1, or its parts */
    io_file *files;       /* the first is `file` */
    uint32_t version, alignment;
    size_t n_kv, n_tensors;
    gguf_kv *kv;
    gguf_tensor *tensors; /* in the order of the tensor infos */
    uint64_t data_offset;
    const gguf_kv **kv_by_key;             /* n_kv, sorted: for gguf_find        */
    const gguf_tensor **tensors_by_name;   /* n_tensors, sorted: for find_tensor */
} gguf_file;

/* Reads the header with pread, window by window; memory stays proportional to the header that is really there. The file stays
 * open for reading tensors. Checks everything that the header says against the file's size. Unknown ggml types are an error naming
 * the tensor. Data that end where the last tensor ends are accepted, as ggml does: the padding behind it may be missing. */
snug_err gguf_open(const char *path, gguf_file **out, snug_error *err);
/* The same, but of a file that was split all parts (gguf_parts.c), whichever is named: the first's keys, everybody's tensors. */
snug_err gguf_open_parts(const char *path, gguf_file **out, snug_error *err);
void gguf_close(gguf_file **g);
const gguf_kv *gguf_find(const gguf_file *g, const char *key); /* NULL: none */
const gguf_tensor *gguf_find_tensor(const gguf_file *g, const char *name);
/* Typed getters: any integer type is accepted for u64 if it fits. SNUG_ERR_FORMAT names the key, what was found and expected. */
snug_err gguf_get_u64(const gguf_file *g, const char *key, uint64_t *out, snug_error *err);
snug_err gguf_get_u64_or(const gguf_file *g, const char *key, uint64_t fallback, uint64_t *out, snug_error *err);
snug_err gguf_get_f64_or(const gguf_file *g, const char *key, double fallback, double *out, snug_error *err);
const char *gguf_get_str_or(const gguf_file *g, const char *key, const char *fallback);
bool gguf_get_bool_or(const gguf_file *g, const char *key, bool fallback);
/* Element i of a number array, widened; 0 for a string array, for i >= n and for a key that is no array (its n is 0). */
uint64_t gguf_array_u64(const gguf_kv *kv, uint64_t i);
double gguf_array_f64(const gguf_kv *kv, uint64_t i);

/* A key-value section being written. Also the form in which keys are carried from one file to another. */
typedef struct gguf_kvs { buf bytes; uint64_t n; } gguf_kvs;
bool gguf_put_u32(gguf_kvs *k, const char *key, uint32_t v);
bool gguf_put_u64(gguf_kvs *k, const char *key, uint64_t v);
bool gguf_put_i32(gguf_kvs *k, const char *key, int32_t v);
bool gguf_put_f32(gguf_kvs *k, const char *key, float v);
bool gguf_put_bool(gguf_kvs *k, const char *key, bool v);
bool gguf_put_str(gguf_kvs *k, const char *key, const char *s, size_t n);
/* elem: packed little-endian numbers of elem_type */
bool gguf_put_array(gguf_kvs *k, const char *key, gguf_kv_type elem_type, const void *elem, uint64_t n);
bool gguf_put_str_array(gguf_kvs *k, const char *key, const gguf_str *s, uint64_t n);
bool gguf_put_kv(gguf_kvs *k, const gguf_kv *kv); /* copies one that was read */
void gguf_kvs_fini(gguf_kvs *k);
/* Parses a bare key-value section (count unknown beforehand: n entries), e.g. one that was stored compressed. The result's
 * strings live in `mem`. */
snug_err gguf_parse_kvs(const char *what, const uint8_t *p, size_t len, uint64_t n, arena *mem, gguf_kv **out, snug_error *err);
/* Adds keys to an open file's table (later gguf_find sees them). */
snug_err gguf_merge_kvs(gguf_file *g, const gguf_kv *kv, size_t n, snug_error *err);

typedef struct gguf_out_tensor {
    const char *name;
    uint32_t type, n_dims;
    uint64_t dims[4];     /* innermost first */
    uint64_t bytes;
    uint64_t offset;      /* set by gguf_layout: from the start of the data section */
} gguf_out_tensor;
/* Checks that keys and tensor names are unique, that `bytes` is what type and dims need, and that `alignment` is what the key
 * general.alignment says (32 without it): SNUG_ERR_ARG otherwise.
 * Lays out data in order at `alignment`; writes the header (magic .. tensor infos, padded) to *header; *file_bytes is the size
 * of the whole file, the last tensor padded too. */
snug_err gguf_layout(const gguf_kvs *kvs, gguf_out_tensor *tensors, size_t n, uint32_t alignment, buf *header,
                     uint64_t *file_bytes, snug_error *err);

enum { GGUF_PART_SUFFIX_MAX = 64 };
/* "-00002-of-00003.gguf" for part 1 of 3. */
void gguf_part_suffix(uint64_t i, uint64_t n, char text[GGUF_PART_SUFFIX_MAX]);
/* Copies the file at path into parts of at most max_bytes each, PREFIX-00001-of-0000N.gguf and so on. m: at a stage that counts bytes. */
snug_err gguf_split(const char *path, const char *prefix, uint64_t max_bytes, meter *m, size_t *n_parts, snug_error *err);
#endif
