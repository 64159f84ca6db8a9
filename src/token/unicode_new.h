/* Characters newer than the libraries' Unicode tables. */
#ifndef TOKEN_UNICODE_NEW_H
#define TOKEN_UNICODE_NEW_H
#include "base/buf.h"

/* An older character of the same category, script and UTF-8 length; c itself unless c is new. */
uint32_t unicode_stand_in(uint32_t c);
/* A character that the Unicode normal forms of `tokenizers` leave alone, and across which nothing composes or is reordered. */
bool unicode_is_inert(uint32_t c);
/* Lower case of upper-case letters newer than Unicode 15; other characters unchanged. */
uint32_t unicode_lower_new(uint32_t c);
/* Text of the same length with stand-ins for new characters: p itself if it has none, else in `scratch`. False: no memory. */
bool unicode_shadow(const uint8_t *p, size_t n, buf *scratch, const uint8_t **out);
#endif
