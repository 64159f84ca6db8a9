/* Model configuration, and the parts that tensors play. */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H
#include "base/json.h"
#include "format/gguf.h"

/* How RoPE goes beyond the positions that were trained. Dynamic and long depend on the context that is asked for: up to the trained one they are as none. */
typedef enum rope_scaling { ROPE_NONE, ROPE_LINEAR, ROPE_LLAMA3, ROPE_YARN, ROPE_DYNAMIC, ROPE_LONG } rope_scaling;
enum { CONFIG_MAX_LONG = 256 /* pairs of a head with ROPE_LONG */ };

/* What a BitNet folder's matrices hold (its quantization_config): themselves; the numbers that were trained, from which ternary ones are made;
 * codes, with a scale to multiply by, or to divide by. */
typedef enum ternary_form { TERNARY_PLAIN, TERNARY_TRAINED, TERNARY_TIMES, TERNARY_OVER } ternary_form;

typedef enum tensor_role {
    ROLE_EMBD, ROLE_HEAD, ROLE_Q, ROLE_K, ROLE_V, ROLE_O, ROLE_Q_A, ROLE_Q_B, ROLE_KV_A, ROLE_KV_B, ROLE_GATE, ROLE_UP, ROLE_DOWN, ROLE_SSM_IN, ROLE_SSM_OUT, /* matrices */
    ROLE_ATTN_NORM, ROLE_FFN_NORM, ROLE_Q_NORM, ROLE_K_NORM, ROLE_OUT_NORM,              /* vectors  */
    ROLE_Q_BIAS, ROLE_K_BIAS, ROLE_V_BIAS, ROLE_O_BIAS,
    ROLE_ROUTER,     /* what chooses experts: (n_experts, n_embd), small and decisive, so kept exactly like a vector */
    ROLE_ROPE_FREQS, /* rope_freqs.weight: llama3 scaling as GGUF stores it */
    ROLE_ATTN_SUB_NORM, ROLE_FFN_SUB_NORM, /* of what o and down multiply */
    ROLE_ATTN_POST_NORM, ROLE_FFN_POST_NORM, /* of what attention and feed-forward give */
    ROLE_ATTN_NORM_BIAS, ROLE_FFN_NORM_BIAS, ROLE_OUT_NORM_BIAS,
    ROLE_GATE_BIAS, ROLE_UP_BIAS, ROLE_DOWN_BIAS,
    ROLE_SINKS,      /* (n_heads): what each head's softmax has in its sum beside the scores */
    ROLE_ROUTER_BIAS, ROLE_GATE_EXPS_BIAS, ROLE_UP_EXPS_BIAS, ROLE_DOWN_EXPS_BIAS, /* of all experts, a row for each: as the router, like vectors */
    ROLE_POSITIONS,  /* learned positions: (n_ctx_train, n_embd), added to embeddings; kept exactly like a vector */
    ROLE_SHARED_GATE, /* w of sigmoid(w . x), what the shared expert's output is multiplied by */
    ROLE_Q_A_NORM, ROLE_KV_A_NORM, /* of latents */
    ROLE_CHOICE_BIAS, /* (n_experts): what the choice of experts adds to their scores, and their shares do not see */
    ROLE_SSM_CONV,   /* (channels, conv), and all that follows, kept exactly like vectors */
    ROLE_SSM_CONV_BIAS, ROLE_SSM_DT_BIAS,
    ROLE_SSM_A,      /* -exp(A_log): (heads, 1), as ROLE_SSM_D */
    ROLE_SSM_D,
    ROLE_SSM_NORM,   /* (groups, inner / groups) */
    ROLE_COUNT, ROLE_NONE = ROLE_COUNT
} tensor_role;
enum { ROLE_MATRICES = ROLE_SSM_OUT + 1 };
const char *role_name(tensor_role r); /* "embd" ... "norm", "bias" */

/* Which of a layer's experts a tensor belongs to: its number, or one of these. The shared expert, through which every token goes, is a layer's plain
 * feed-forward (EXPERT_NONE) beside the others; it has but names of its own. */
enum { EXPERT_NONE = -1, EXPERT_ALL = -2 /* a stack of all of them, as GGUF has them */, EXPERT_SHARED = -3 /* in names alone */ };
enum { EXPERT_MATRICES = 3 /* gate, up, down */, CONFIG_MAX_EXPERTS = 4096 /* of a layer */ };

typedef struct arch arch; /* model/arch.h */

typedef enum activation { ACT_SILU, ACT_RELU2, ACT_GELU /* by tanh */, ACT_GELU_ERF, ACT_COUNT } activation;
const char *activation_name(activation a); /* as config.json has it: "silu" ... */

/* What a layer has that not all have. */
typedef enum layer_kind {
    LAYER_WINDOW = 1,     /* attention sees `sliding_window` tokens                */
    LAYER_NO_ROPE = 2,    /* positions do not turn q and k                         */
    LAYER_LOCAL_ROPE = 4, /* they turn by `rope_base_local`, without scaling       */
    LAYER_DENSE = 8,      /* one feed-forward, where other layers have experts     */
    LAYER_SSM = 16,       /* a state space stands in attention's place             */
} layer_kind;
enum { CONFIG_MAX_LAYERS = 1024 };

/* Layers with LAYER_SSM (graph_ssm.c): tokens that the convolution sees, channels of all heads, numbers that B and C have, heads, and groups of
 * heads with one B and C; what steps of time are held within. */
typedef struct config_ssm { uint32_t conv, inner, state, heads, groups; float dt_min, dt_max; } config_ssm;
static inline uint64_t ssm_channels(const config_ssm *s) { return s->inner + 2ull * s->groups * s->state; } /* x B C */
static inline uint64_t ssm_rows(const config_ssm *s) { return s->inner + ssm_channels(s) + s->heads; }      /* z x B C dt */

typedef struct config {
    const arch *arch;
    uint32_t n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, n_vocab, n_ctx_train;
    uint32_t q_rank, kv_rank;  /* latent attention (graph_latent.c): widths of what q, and k and v together, are made from; 0: q is made at once; there is no such attention */
    uint32_t value_dim;        /* of a head; 0: head_dim                                                */
    float norm_eps, latent_eps; /* the latter of the norms of latents                                   */
    double rope_base;
    rope_scaling scaling;
    double scale_factor, low_freq_factor, high_freq_factor;
    uint32_t scale_orig_ctx;   /* the trained context                                                   */
    double beta_fast, beta_slow; /* yarn: turns within that context above which frequencies stay, below which they are divided */
    bool yarn_exact;           /* yarn: the bounds between are not rounded to whole dimensions          */
    double rope_magnitude;     /* what cos and sin are multiplied by: 1                                 */
    float rope_short[CONFIG_MAX_LONG], rope_long[CONFIG_MAX_LONG]; /* long: what frequencies are divided by, up to the trained context and beyond */
    double rope_base_local;    /* of layers with LAYER_LOCAL_ROPE                                       */
    uint32_t rope_dims;        /* rotated dimensions per head, the first of them                        */
    bool rope_interleaved;     /* how THIS store's q/k rows are laid out (HF: false; GGUF llama: true)  */
    uint32_t sliding_window;   /* of layers with LAYER_WINDOW; 0: none                                  */
    uint8_t layer[CONFIG_MAX_LAYERS]; /* layer_kind of each                                             */
    bool tied;                 /* head = embedding                                                      */
    uint32_t n_experts, n_experts_used; /* of each layer, and of them for a token; 0: the feed-forward is one. Then n_ff is an expert's width */
    uint32_t n_ff_shared;      /* with experts: the width of the one that all tokens go through; 0: there is none */
    uint32_t n_ff_dense;       /* with experts: the width in layers with LAYER_DENSE; without such it decides nothing */
    struct { bool present; uint32_t block[2]; } f8; /* a folder's matrices may be numbers of 8 bits (store_f8.c), with scales for such blocks; 0: none are said */
    config_ssm ssm;            /* inner 0: no layer has one */
    ternary_form ternary;      /* of a folder; readers of its store see plain weights                   */
    float swiglu_limit, swiglu_alpha; /* gates are held below the limit and ups within it: gate sigmoid(alpha gate) (up + 1); 0: neither */
    activation act;            /* of gates, or where there are none of what up gives                    */
    float embd_scale, residual_scale, logit_scale; /* what embeddings, what a half layer adds and logits are multiplied by: 1 */
    float attn_scale;          /* what q . k is multiplied by; 0: 1 / sqrt(head_dim)                    */
    float attn_growth;         /* q at position p is multiplied by 1 + growth ln(1 + floor(p / scale_orig_ctx)); 0: it is not */
    float attn_softcap, logit_softcap; /* c: x becomes c tanh(x / c); 0: none                           */
    bool norm_topk;            /* the picked experts' shares are made to sum to 1                       */
    bool parallel;             /* attention and feed-forward read the same x                            */
    bool sigmoid;              /* experts are scored by it, each for itself, instead of a softmax of all */
    bool choice_bias;          /* ROLE_CHOICE_BIAS is there                                             */
    uint32_t n_groups, n_groups_used; /* experts are picked from so many groups, of which there are so many; 0: from all */
    float share_scale;         /* what shares are multiplied by in the end; 0: they are not             */
    uint32_t n_further;        /* layers behind the last one, which predict tokens further on: passed over */
    char name[128];
} config;

/* config.json of a folder. Unknown architectures are refused by name; so are known ones with options that this engine
 * does not have (unknown rope type, activation, ...). */
snug_err config_from_hf(const char *dir, config *out, snug_error *err);
snug_err config_from_json(const json_t *o, const char *where, config *out, snug_error *err); /* the same of what was read of it; no name */
snug_err config_from_gguf(const gguf_file *g, config *out, snug_error *err);
/* What a quantization_config that is not BitNet's says of the weights; those that snug does not read are refused by name. */
snug_err config_quantization(const json_t *q, const char *where, config *c, snug_error *err);
/* general.* and <arch>.* keys for a GGUF with q/k rows in GGUF order. general.file_type, general.quantization_version
 * and general.alignment are left to whoever knows the tensors. A config with ROPE_LLAMA3 also needs a tensor
 * rope_freqs.weight, F32 (rope_dims / 2), of rope_freq_factors. */
snug_err config_to_gguf(const config *c, gguf_kvs *out, snug_error *err);
/* Canonical (GGUF) name -> role, layer (-1: none) and expert; NULL: not asked. ROLE_NONE: not a tensor of any architecture. A stack of gates on
 * ups, as some folders fuse them, is ROLE_GATE with *gate_up. */
tensor_role role_from_name(const char *canonical, int *layer, int *expert, bool *gate_up);
/* Role, layer and expert -> canonical name. */
void role_tensor_name(tensor_role r, int layer, int expert, char out[64]);
/* The role whose name stands for this one in an architecture's files, and back. */
tensor_role role_as_named(const arch *a, tensor_role r);
/* Is the role a part of layers (else of the whole model), of each expert of this layer, always there, possible there? */
bool role_in_layer(tensor_role r);
bool role_in_ssm(tensor_role r);
bool role_in_expert(const config *c, tensor_role r, int layer);
bool role_required(const config *c, tensor_role r, int layer);
bool role_allowed(const config *c, tensor_role r, int layer); /* of what is no expert's; the shared one counts as none */
enum { ARCH_MAX_ROLES = 3 };
/* An HF name -> the roles whose rows stand one after the other in it, experts' apart, and layer (-1: none); returns how many, 0 when it is unknown. */
size_t roles_from_hf(const arch *a, const char *hf, int *layer, tensor_role roles[ARCH_MAX_ROLES]);
/* The roles whose rows stand one after the other in the tensor of a GGUF for others that has role r, and its name there; 0: r stands alone. */
size_t roles_fused(const arch *a, tensor_role r, tensor_role roles[ARCH_MAX_ROLES], const char **stem);
/* HF name of one role, or of experts -> canonical name; false when it is unknown. */
bool canonical_from_hf(const arch *a, const char *hf, char out[64]);
bool name_of_further_layer(const config *c, const char *name); /* in a folder or a GGUF */
bool hf_name_harmless(const arch *a, const char *hf); /* decides nothing: a buffer that old checkpoints carry; what is for pictures */
/* The experts of a layer (0: it has none), and the width of one's feed-forward, or of that which all tokens go through (EXPERT_NONE; 0: there is none). */
uint32_t layer_experts(const config *c, int layer);
uint32_t layer_width(const config *c, int layer, int expert);
uint32_t config_widest(const config *c); /* of all feed-forwards */
/* Expected shape of a role, in one expert: rows, cols (vectors: rows = 1; the router and experts' biases: n_experts; positions: n_ctx_train). */
void role_shape(const config *c, tensor_role r, int layer, int expert, uint64_t *rows, uint64_t *cols);
uint32_t config_value_dim(const config *c);
bool config_gguf_interleaved(const config *c); /* the order of q's and k's rows in a GGUF */
bool layer_is_ssm(const config *c, int layer);
/* The window of a layer: a token at position p sees positions > p - window. 0: all. */
uint32_t layer_window(const config *c, uint32_t layer);
/* Checks ranges and that the sizes agree; `where` names the file for the message. */
snug_err config_check(const config *c, const char *where, snug_error *err);
/* RoPE (rope.c). Inverse frequencies (rope_dims / 2) for a context of n_ctx, scaling applied; local: of layers with LAYER_LOCAL_ROPE. freqs: a rope_freqs
 * tensor's factors, or NULL. */
void rope_inv_freq(const config *c, const float *freqs, bool local, uint32_t n_ctx, double *out);
double rope_yarn_magnitude(double factor, double mscale); /* what yarn's paper multiplies by: 0.1 mscale ln(factor) + 1 */
snug_err rope_check(const config *c, const char *where, snug_error *err);
/* The factors that GGUF stores as rope_freqs.weight (rope_dims / 2 floats): inverse frequencies are divided by them.
 * False when the config's scaling needs none. */
bool rope_freq_factors(const config *c, float *out);
#endif
