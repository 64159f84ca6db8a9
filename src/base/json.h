/* jansson with errors that name the file and the field. json_t ownership follows jansson: json_load_* give a new
 * reference, getters give borrowed ones. */
#ifndef BASE_JSON_H
#define BASE_JSON_H
#include <jansson.h>
#include <snug.h>

snug_err json_read_file(const char *path, size_t max_bytes, json_t **out, snug_error *err); /* syntax errors carry the byte offset */
snug_err json_read_buffer(const char *what, const char *text, size_t n, json_t **out, snug_error *err);
/* Strict JSON, duplicate keys refused; for formats that promise it. `base` is the file offset of text[0]. */
snug_err json_read_strict(const char *what, const char *text, size_t n, uint64_t base, json_t **out, snug_error *err);
/* `where` names the object for messages, e.g. "config.json". Missing or null: *out = fallback for the _or forms, else SNUG_ERR_FORMAT. */
snug_err json_get_u64(const json_t *obj, const char *where, const char *key, uint64_t *out, snug_error *err);
snug_err json_get_u64_or(const json_t *obj, const char *where, const char *key, uint64_t fallback, uint64_t *out, snug_error *err);
snug_err json_get_double_or(const json_t *obj, const char *where, const char *key, double fallback, double *out, snug_error *err);
snug_err json_get_bool_or(const json_t *obj, const char *where, const char *key, bool fallback, bool *out, snug_error *err);
snug_err json_get_string(const json_t *obj, const char *where, const char *key, const char **out, snug_error *err);
#endif
