/* Do two models speak the same tokens? */
#ifndef EVAL_VOCABULARY_H
#define EVAL_VOCABULARY_H
#include <snug.h>
/* SNUG_ERR_MISMATCH names the first token that differs. The models have equal n_vocab. */
snug_err vocabulary_compare(const snug_model *a, const snug_model *b, snug_error *err);
#endif
