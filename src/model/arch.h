/* What an architecture is. Each family is a file in src/model/arch/, which the build finds there and nothing else names: its rows say how its
 * members differ from one decoder,
 *
 *     RMSNorm, q k v, RoPE, attention with grouped keys and values, o;  RMSNorm, gate and up, silu(gate) * up, down;  RMSNorm, head
 *
 * in flags that the graph knows, in the names of their tensors and in readers of what config.json and GGUF say beyond what all say. An
 * option that would change the computation and that no flag stands for is refused there, by name. */
#ifndef MODEL_ARCH_H
#define MODEL_ARCH_H
#include "model/config.h"

/* ---- a family's rows ---- */

/* How an architecture's feed-forwards are split into experts, of which a router picks a few for each token. */
typedef struct arch_experts {
    const char *hf_width;     /* config.json's field for an expert's width */
    const char *hf_norm_topk; /* its field that says whether the picked experts' shares are made to sum to 1; NULL: they always are */
    bool gguf_norm_topk;      /* what llama.cpp does for this architecture */
    bool gguf_width;          /* GGUF has a key of its own for an expert's width */
    const char *hf_shared;    /* config.json's field for the shared expert's width; NULL: there is none */
    bool shared_gate;         /* its output is multiplied by sigmoid(w . x) */
    bool optional;            /* a model may have none: then its one feed-forward has the shared one's name in a folder */
} arch_experts;

/* A tensor that the family names otherwise than Llama does, or that Llama does not have. A name without a suffix stands for itself, its .weight and, for
 * the roles that have one, its .bias. */
typedef struct arch_tensor {
    const char *hf;                   /* inside its layer, or whole; NULL ends a list */
    tensor_role role[ARCH_MAX_ROLES]; /* one; or those whose rows stand one after the other in it, the rest ROLE_EMBD (0) */
} arch_tensor;

typedef struct hf_fields hf_fields;
typedef struct gguf_fields gguf_fields;

typedef struct arch {
    const char *gguf_name;     /* general.architecture: "llama", "qwen2", "qwen3"; NULL ends a family  */
    const char *gguf_also;     /* what llama.cpp calls it where it is a part of a model with pictures: read, not written; NULL: nothing else */
    const char *hf_class;      /* architectures[0]: "LlamaForCausalLM" ...  (several rows may share a gguf_name) */
    bool qkv_bias, qk_norm;    /* default; presence of the tensors decides for llama's attention_bias   */
    bool gguf_permutes_qk;     /* GGUF stores q and k rows for interleaved RoPE (llama, mistral)        */
    bool latent;               /* latent attention (graph_latent.c): folder and GGUF have heads' rows for interleaved RoPE */
    bool expert_scores;        /* GGUF says how experts are scored, what shares are multiplied by, which groups experts are picked from */
    bool qk_norm_whole;        /* q/k norms are over all heads together, not over each                  */
    bool sub_norms;            /* BitNet: norms before o and down too; gates may be squared ReLUs; weights trained to be ternary */
    bool post_norms;           /* norms of what attention and feed-forward give, before it is added     */
    bool no_pre_norms;         /* and none of what they read                                            */
    bool gains_less_one;       /* a folder's norms hold gain - 1                                        */
    bool ffn_norm_behind;      /* GGUF calls the norm before the feed-forward what it calls that behind attention elsewhere */
    bool sinks;                /* a number for each head joins its softmax and takes no value with it */
    bool expert_biases;        /* the router has biases, and so has every matrix of every expert */
    bool in_turns;             /* a folder's experts are stacks of (experts, inputs, outputs), an even output of gate_up gate's, an odd one up's; or MXFP4 (store_turns.c) */
    bool layer_norm;           /* LayerNorm, with biases, for RMSNorm                                   */
    bool no_gate;              /* feed-forward: act(up x + bias), no gate                               */
    activation act;            /* where config.json has no hidden_act                                   */
    bool transposed;           /* a folder has its layers' matrices as (inputs, outputs)               */
    bool qkv_by_head;          /* and what holds q, k, v has them head by head                          */
    bool learned_positions;    /* a table of them instead of RoPE                                       */
    bool ssm;                  /* layers may have a state space in attention's place: from_hf and from_gguf say which */
    bool no_attention;         /* all have, and no feed-forward                                         */
    uint32_t ff_times;         /* width of the feed-forward, in widths of the model, where config.json has none; 0: it must have one */
    bool rope_by_type;         /* rope_parameters may differ by layer type: from_hf reads them          */
    bool yarn_exact;           /* a GGUF's yarn does not round its bounds where nothing is said, though other readers do */
    bool tied;                 /* where config.json does not say                                        */
    uint32_t head_dim;         /* likewise; 0: hidden_size / heads                                      */
    double rope_base;          /* likewise; 0: 10,000                                                   */
    bool wrapped;              /* a text model beside one for pictures, which is passed over: its fields are in text_config, its names have "language_model." in them */
    const char *defaults;      /* JSON: fields that config.json may leave out; NULL: none               */
    bool fused;                /* GGUF has q, k, v in one tensor, and gate and up                       */
    const char *prefix;        /* of its layers in a folder; NULL: "model.layers."                      */
    const arch_tensor *tensors; /* NULL: all as Llama names them                                        */
    const char *const (*spelling)[2]; /* {Llama's field of config.json, its own}, NULLs at the end; NULL: as Llama's */
    const arch_experts *experts; /* NULL: none                                                          */
    /* What config.json and GGUF say beyond what all say; what goes to GGUF; what other readers of such a GGUF cannot be told. Each may be NULL. */
    snug_err (*from_hf)(const hf_fields *f, config *c, snug_error *err);
    snug_err (*from_gguf)(gguf_fields *f, config *c, snug_error *err);
    bool (*to_gguf)(const config *c, gguf_kvs *out);
    snug_err (*for_others)(const config *c, const char *where, snug_error *err);
} arch;

const arch *arch_by_hf_class(const char *name); /* NULL: not known */
const arch *arch_by_gguf_name(const char *name, bool experts); /* "llama" is two: with experts and without */
/* For messages about a name that is none of them: those that are near it, if any, and where all are listed. */
enum { ARCH_KNOWN_MAX = 256 };
const char *arch_known_hf(const char *name, char text[ARCH_KNOWN_MAX]);
const char *arch_known_gguf(const char *name, char text[ARCH_KNOWN_MAX]);

/* ---- reading config.json ---- */

struct hf_fields {
    const json_t *o;
    const char *where; /* the file, for messages */
    const json_t *defaults; /* where o has no such field; NULL: none */
    const char *const (*spelling)[2];
};
const json_t *hf_get(const hf_fields *f, const char *key); /* NULL: missing or null */
snug_err hf_u32(const hf_fields *f, const char *key, uint32_t *out, snug_error *err); /* an error where it is missing */
snug_err hf_u32_or(const hf_fields *f, const char *key, uint32_t fallback, uint32_t *out, snug_error *err);
snug_err hf_f64_or(const hf_fields *f, const char *key, double fallback, double *out, snug_error *err);
snug_err hf_f32_or(const hf_fields *f, const char *key, double fallback, float *out, snug_error *err);
snug_err hf_bool_or(const hf_fields *f, const char *key, bool fallback, bool *out, snug_error *err);
const char *hf_text_or(const hf_fields *f, const char *key, const char *fallback);
/* The window of layers: `layer_types` says which have it, or else all of `every` but each last one (0: those from layer `from` on). */
snug_err hf_windows(const hf_fields *f, config *c, uint32_t window, uint32_t from, uint32_t every, snug_error *err);
/* rope_theta, scaling and partial_rotary_factor: of the configuration, or of `params`, an object that transformers 5 makes of them. */
snug_err hf_rope(const hf_fields *f, const json_t *params, config *c, snug_error *err);
/* The same by layer type, {"full_attention": {...}, "sliding_attention": {...}}, or as above: layers with a window turn without scaling, by a base of their
 * own, which is `local` where nothing is said (0: that of the others). For archs with rope_by_type, after the windows. */
snug_err hf_rope_by_type(const hf_fields *f, double local, config *c, snug_error *err);
snug_err hf_refuse(const hf_fields *f, const char *key, const char *why, snug_error *err); /* if it is true or another thing than false, 0, null */

/* ---- reading and writing GGUF: keys without "<arch>." ---- */

struct gguf_fields {
    const gguf_file *g;
    const char *arch;
    char key[128];
    const char *asked[64]; /* suffixes that were read: literals */
    size_t n_asked;
};
const char *gguf_key(gguf_fields *f, const char *suffix); /* valid until the next call */
/* A number, or an array of equal numbers (llama.cpp allows one per layer). */
snug_err gguf_u32(gguf_fields *f, const char *suffix, bool required, uint32_t fallback, uint32_t *out, snug_error *err);
snug_err gguf_f32_or(gguf_fields *f, const char *suffix, double fallback, float *out, snug_error *err);
bool arch_put_u32(const config *c, gguf_kvs *out, const char *suffix, uint32_t value);
bool arch_put_f32(const config *c, gguf_kvs *out, const char *suffix, double value);
bool arch_put_str(const config *c, gguf_kvs *out, const char *suffix, const char *value);

/* ---- both ---- */

void config_defaults(config *c); /* what c->arch says where a file does not, and the identities: scales of 1 */

/* Layers with a window turn q and k by a base of their own. */
void layers_local_rope(config *c, double base);
/* Sets `kind` in every layer but each `every`-th; every 0: in all from `from` on; every 1: in none. */
void layers_set(config *c, layer_kind kind, uint32_t from, uint32_t every);
#endif
