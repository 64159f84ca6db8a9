/* Do two models speak the same tokens? */
#ifndef RUN_VOCABULARY_H
#define RUN_VOCABULARY_H
#include <snug.h>
/* SNUG_ERR_MISMATCH names the first token that differs. */
snug_err vocabulary_compare(const snug_model *a, const snug_model *b, snug_error *err);
#endif
