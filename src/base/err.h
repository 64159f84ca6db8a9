/* Errors: fill the caller's snug_error and return the code in one expression:  return err_set(err, SNUG_ERR_IO, ...); */
#ifndef BASE_ERR_H
#define BASE_ERR_H
#include <snug.h>

/* err may be NULL. Returns code. */
snug_err err_set(snug_error *err, snug_err code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The same with the byte offset in the file at fault (also appended to the message: " at byte N"). */
snug_err err_at(snug_error *err, snug_err code, uint64_t offset, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Puts "context: " before the message that a callee wrote. Returns err's code. */
snug_err err_prefix(snug_error *err, snug_err code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* "1.25G" (of 1024 M), "734M", "512 bytes": four digits, rounded up, so that what is asked for is enough; for messages. Returns text. */
enum { ERR_SIZE_MAX = 32 };
const char *err_size(uint64_t bytes, char text[ERR_SIZE_MAX]);
snug_err err_nomem(snug_error *err, size_t bytes);
#endif
