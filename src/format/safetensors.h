/* safetensors: one file or a sharded set (model.safetensors.index.json). Reads headers only; knows nothing of models. */
#ifndef FORMAT_SAFETENSORS_H
#define FORMAT_SAFETENSORS_H
#include "base/arena.h"
#include "base/io.h"

typedef enum st_dtype { ST_F32, ST_F16, ST_BF16, ST_OTHER } st_dtype;
typedef struct st_tensor {
    const char *name;
    st_dtype dtype;
    const char *dtype_name; /* as the file spells it */
    uint32_t n_dims;
    uint64_t dims[8];       /* outermost first, as in PyTorch; unused ones are 1; 0 is possible (no elements) */
    uint32_t file;          /* index into files               */
    uint64_t offset;        /* absolute, in the file          */
    uint64_t bytes;
} st_tensor;

typedef struct st_set {
    arena mem;
    size_t n_files, n_tensors;
    io_file *files;
    st_tensor *tensors; /* sorted by name */
} st_set;

/* dir holds model.safetensors, or model.safetensors.index.json with its shards. Checks every header: sizes, overlaps,
 * dtype x shape = bytes, range inside the file, duplicate names. */
snug_err st_open_dir(const char *dir, st_set **out, snug_error *err);
snug_err st_open_file(const char *path, st_set **out, snug_error *err);
const st_tensor *st_find(const st_set *set, const char *name); /* NULL: none */
void st_close(st_set **set);
#endif
