/* What config.json and GGUF say of state spaces, for the families whose layers have them. */
#ifndef MODEL_SSM_H
#define MODEL_SSM_H
#include "model/arch.h"

/* config.json's fields: time_step_limit is the same for all. */
typedef struct ssm_names {
    const char *conv, *state, *heads, *head_dim, *groups, *expand;
    const char *conv_bias, *bias; /* of the convolution, which must have one; of the matrices, which must have none */
} ssm_names;
snug_err ssm_from_hf(const hf_fields *f, const ssm_names *names, config *c, snug_error *err);
/* <arch>.ssm.*, and snug.ssm.time_step_limit, which other readers do not have. */
snug_err ssm_from_gguf(gguf_fields *f, config *c, snug_error *err);
/* Which layers are state spaces: those without heads in attention.head_count_kv. Sets c->n_kv_heads. */
snug_err ssm_layers_from_gguf(gguf_fields *f, config *c, snug_error *err);
bool ssm_layers_to_gguf(const config *c, gguf_kvs *out);
bool ssm_to_gguf(const config *c, gguf_kvs *out);
snug_err ssm_for_others(const config *c, const char *where, snug_error *err);
#endif
