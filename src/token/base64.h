/* Base64 (RFC 4648, section 4): how tokenizer files carry bytes. */
#ifndef TOKEN_BASE64_H
#define TOKEN_BASE64_H
#include "base/buf.h"

/* Appends what n characters of base64 stand for. False: not base64 (white space counts as that, padding is required), or no memory. */
bool base64_decode(const char *text, size_t n, buf *out);
bool base64_encode(const void *bytes, size_t n, buf *out);
#endif
