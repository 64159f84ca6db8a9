/* Between the two files of the safetensors reader: headers (safetensors.c) and sets of files (st_set.c). */
#ifndef FORMAT_ST_INTERNAL_H
#define FORMAT_ST_INTERNAL_H
#include "base/buf.h"
#include "format/safetensors.h"

/* Appends the st_tensors of one open file to *tensors (their `file` is `index`); strings live in mem. */
snug_err st_read_file(const io_file *f, uint32_t index, arena *mem, buf *tensors, snug_error *err);
#endif
