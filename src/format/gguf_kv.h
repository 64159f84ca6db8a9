/* Parsing a key-value section; shared by gguf_open and gguf_parse_kvs. Internal to the GGUF reader. */
#ifndef FORMAT_GGUF_KV_H
#define FORMAT_GGUF_KV_H
#include "format/gguf.h"
#include "format/gguf_cursor.h"

/* n entries from the cursor on; *out is in `mem`. Duplicate keys are not looked for here. */
snug_err gguf_read_kvs(gguf_cursor *c, uint64_t n, arena *mem, gguf_kv **out, snug_error *err);
/* A key or a tensor's name: not empty, no NUL inside, at most CURSOR_MAX_NAME bytes; copied into `mem`. */
snug_err gguf_read_name(gguf_cursor *c, arena *mem, const char **out, snug_error *err);
/* Pointers to the n entries sorted by key, in `mem`; two equal keys are an error naming the key. */
snug_err gguf_sort_kvs(const char *what, const gguf_kv *kv, size_t n, arena *mem, const gguf_kv ***out, snug_error *err);
#endif
