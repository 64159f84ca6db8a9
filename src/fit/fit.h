/* The inside of snug_fit: one job, handed from stage to stage.
 *
 *     open -> statistics (calibrate.c, sample.c, measure.c; cache.c, journal.c keep them) -> menus (menu.c) -> knapsack (plan room)
 *          -> encode (encode.c) -> artifact (artifact.c)
 *
 * Every number that decides the output is computed the same way for any thread count; statistics travel through the journal and
 * the cache as exact bits. Several processes (base/cluster.h) all go this way, share what is long in it, and process 0 alone has the
 * journal, the cache and the output. */
#ifndef FIT_FIT_H
#define FIT_FIT_H
#include <snug.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/io.h"
#include "base/json.h"
#include "base/progress.h"
#include "model/graph.h"
#include "model/store.h"
#include "plan/plan.h"
#include "solve/hessian.h"

enum { FIT_MAX_POINTS = 8, FIT_PROBES = 6, FIT_STATS_VERSION = 13 };
#define FIT_DAMPING 0.01       /* share of the second moments' mean diagonal that is added to the diagonal */
#define FIT_DAMPING_COARSE 0.5 /* the same for the coarsest codes (encode_layers.c) */
#define MEASURE_UNIT 1e6 /* multiply-adds in a unit of the sensitivity stage's progress */

/* The text that statistics are taken on: n_seq sequences of len tokens. The first sens_len tokens of the first sens_seq
 * sequences are what sensitivities are measured on, and stat_seq, evenly from all, what the plan's other statistics are taken on. */
typedef struct fit_text {
    uint32_t n_seq, len, stat_seq, sens_seq, sens_len;
    uint32_t n_self; /* sequences that the model itself says; the rest is from a file, or random */
    int32_t *ids; /* (n_seq, len) */
    uint64_t hash;
} fit_text;

/* What the user said of calibration: "none", or "self", "self:TEMPERATURE" and a text file, one of them or both with a plus between. */
typedef struct fit_calib {
    char name[64];      /* as reported: the same with "file" for the file's name */
    bool none, self;
    double temperature;
    const char *file;   /* NULL: none */
    uint64_t file_hash;
} fit_calib;

/* What calibration says of an input edge's channels. */
typedef struct fit_edge {
    double *square; /* (cols): mean x^2; NULL: nothing is known of this edge */
    double *left;   /* (cols): D of the factored second moments (solve/hessian.h); NULL: not asked for */
    const int8_t *exponent; /* (cols): channels are balanced by these powers of two (source.c), the other two already are; NULL: 0 */
} fit_edge;

/* What calibration says of one of a layer's experts (experts.c): of the inputs that the router sends to it, each weighted with the share that the
 * expert's output has, and of what its down multiplies. What is balanced in front of the router is balanced for all of them. */
typedef struct fit_expert {
    fit_edge in, mid;
    double tokens;   /* of the text that came to it; so few that they say nothing: the rest is of a spread of all tokens */
    double energy;   /* what it adds to the hidden states: the sum of |share * output|^2 over its tokens */
} fit_expert;
enum { EXPERT_MIN_TOKENS = 32 };

/* One measured answer of the model to an error in one weight. */
typedef struct fit_point { double error, kl; } fit_point; /* relative error in the importance metric; nats per token */

/* A menu's relative error, and what feedback multiplied it by; ratio 0: not known. */
typedef struct fit_probe { double error, ratio; } fit_probe;

enum { FIT_ROPE_TENSORS = 2 };

typedef struct fit_tensor {
    const store_tensor *t;
    size_t twin;              /* the first tensor that nothing tells from this one, often itself: they share a menu (menu.c) */
    const char *item;         /* the name of what the plan chooses for: the tensor's, or of what it is a part of (items.c) */
    bool matrix;
    const float *importance;  /* (cols), finite, > 0; NULL: all equal */
    const float *unexplained; /* (cols): what feedback leaves of the importance to pay for; NULL: all of it */
    const float *spread_importance, *spread_unexplained; /* the same of transformed channels (importance.c); NULL: no transform, or as above */
    fit_probe probe[TRANSFORM_COUNT][FIT_PROBES]; /* in each basis (probe.c) */
    double alpha;             /* nats per unit of relative error */
    size_t n_points;
    fit_point point[FIT_MAX_POINTS]; /* rising error: the curve of loss on error, where it was measured */
    int pin;                  /* index of the pin that holds, or -1 */
    comp pinned;
    menu menu;
    uint32_t choice;          /* candidate of the menu */
    uint64_t checksum[WEIGHT_MAX_TERMS];
    uint64_t stack_checksum;  /* of an item's first tensor, of several: of all its data */
    bool skipped;
    double measured;          /* the relative error that encoding with feedback came to; < 0: not known */
} fit_tensor;

/* The order of the fitted model's channels (order.c): channel j is the source's order[j]. */
typedef struct fit_order {
    const uint32_t *stream;    /* (n_embd) of the residual stream; NULL: as it is */
    uint32_t *const *value;    /* [layer] (n_kv_heads * head_dim): v's rows, or kv_b's; NULL: as they are */
    uint32_t *const *mixed;    /* [layer] (n_heads * head_dim): the same for o's columns */
} fit_order;

typedef struct fit_journal fit_journal;
typedef struct fit_imatrix fit_imatrix;
typedef struct fit_states fit_states;

typedef struct fit_job {
    const snug_fit_params *p;
    arena mem;
    store *src;
    int threads;
    meter meter;
    double mac_s;             /* a thread's seconds per multiply-add */
    int stage_load, stage_sample, stage_stats, stage_sens, stage_menu, stage_head, stage_encode;
    fit_calib calib;
    bool run_model;           /* false: no forward pass at all (quick without calibration) */
    bool sensitivities;       /* measured, not from the table */
    bool small;               /* so small that real encodings are measured, not noise alone */
    fit_text text;
    fit_order order;          /* of channels: everything below is in it */
    bool balanced;            /* source.c's exponents are chosen */
    bool feedback;            /* matrices are encoded with error feedback (solve_ldlq), behind the compressed layers */
    fit_edge *edge;           /* [layer * EDGE_COUNT + edge]; the head's edge: layer n_layers */
    fit_expert *expert;       /* [layer * n_experts + expert]; NULL: no experts, or no statistics */
    fit_states *states;       /* hidden states that lie in files (states.c) */
    hessian_sum head_sum;     /* of the head's input, behind the source's layers; only for a tied embedding (tokens 0: not yet) */
    fit_imatrix *imatrix;
    size_t n;
    fit_tensor *tensor;       /* parallel to src->tensors, plus RoPE's factors when the target needs them */
    float *rope_values[FIT_ROPE_TENSORS]; /* RoPE's factors where they have to be made: rope_freqs.weight; rope_factors_long.weight and _short; else NULL */
    store_tensor rope_tensor[FIT_ROPE_TENSORS]; /* ... and their descriptions */
    tokenizer *tok;
    gguf_kvs kvs;             /* keys that do not depend on the plan */
    buf packed_kvs;           /* snug.kv.zstd's content, or empty */
    uint64_t packed_count, packed_bytes;
    uint64_t budget_bytes, file_bytes;
    uint64_t run_budget_bytes; /* of the file and what its weights take beyond it when they are run; UINT64_MAX: any */
    bool by_run;               /* candidates count with what they take when they are run */
    double predicted_kl;
    uint64_t fingerprint;     /* of the source */
    bool plain;               /* export: no keys of snug's own */
    fit_journal *journal;
} fit_job;

/* The statistics of an edge, of one expert or of all (EXPERT_NONE); the head's: layer n_layers. */
static inline fit_edge *fit_edge_at(const fit_job *f, int layer, graph_edge e, int expert) {
    if (expert == EXPERT_NONE) return &f->edge[(size_t)layer * EDGE_COUNT + e];
    fit_expert *x = &f->expert[(size_t)layer * f->src->cfg.n_experts + (size_t)expert];
    return e == EDGE_FFN_MID ? &x->mid : &x->in;
}

static inline const fit_expert *fit_expert_of(const fit_job *f, const store_tensor *t) {
    return &f->expert[(size_t)t->layer * f->src->cfg.n_experts + (size_t)t->expert];
}

/* Is t a matrix that reads this edge, of this expert (EXPERT_NONE: of none)? layer: -1 for the head. */
static inline bool fit_reads(const fit_tensor *t, int layer, graph_edge e, int expert) {
    return t->matrix && t->t->layer == layer && t->t->expert == expert && role_edge(t->t->role) == e;
}

/* Multiply-adds of a matrix for each token of a text, most of which pass by an expert. */
static inline double fit_macs(const fit_job *f, const fit_tensor *t) {
    const double weights = t->matrix ? (double)t->t->rows * (double)t->t->cols : 0;
    return t->t->expert == EXPERT_NONE ? weights : weights * f->src->cfg.n_experts_used / f->src->cfg.n_experts;
}

/* ---- fit.c ---- */
snug_err job_list(fit_job *f, snug_error *err); /* the tensors of an open source */
void job_close(fit_job *f);

/* ---- items.c: what the plan chooses for: a tensor, or several that are one in a GGUF for others ---- */
/* How many tensors share tensor i's choice, if it is the first of them; 0: it is not. The k-th of them. */
size_t item_size(const fit_job *f, size_t i);
size_t item_member(const fit_job *f, size_t first, size_t k);
bool item_ends(const fit_job *f, size_t i); /* is it the last of them? */
uint64_t item_rows(const fit_job *f, size_t first);
uint64_t item_bytes(const fit_job *f, size_t first, size_t n, const comp *c); /* of the first n, encoded so */
snug_err items_name(fit_job *f, snug_error *err); /* every fit_tensor's item */
/* The items, with menus that hold for all tensors of each; valid while the tensors' menus are not changed. */
typedef struct fit_items { size_t n; size_t *first; menu *menu; } fit_items;
snug_err items_open(const fit_job *f, fit_items *out, snug_error *err);
void items_close(const fit_job *f, fit_items *items);
void items_take(fit_job *f, const fit_items *items, const uint32_t *choice); /* choices of items; sets predicted_kl */
/* What was chosen for the item of tensor `first`, as plans and reports have it. */
snug_err item_of(const fit_job *f, size_t first, arena *mem, plan_entry *out, snug_error *err);

/* ---- budget.c ---- */
/* The file's byte budget from size, bpw, ratio and ram; UINT64_MAX when there is none (pins or a plan decide). */
snug_err budget_resolve(fit_job *f, snug_error *err);
/* What a run of the file takes: the file's own bytes, KV, scratch, the rest. */
snug_err budget_run_memory(const fit_job *f, uint64_t file_bytes, snug_memory *out, snug_error *err);
/* What the chosen weights take beyond the file when they are run. */
uint64_t budget_run_extra(const fit_job *f);
/* A candidate's loss as plans are chosen by it: with what it takes of run time (budget.c). */
double budget_priced_loss(const fit_job *f, const fit_tensor *t, const cand *c);
/* What a token takes, by the choices. */
snug_work budget_run_work(const fit_job *f);
snug_err budget_too_small(const fit_job *f, uint64_t least_bytes, snug_error *err);
/* SNUG_ERR_BUDGET when even the smallest candidates do not fit. Needs menus with bytes only. */
snug_err budget_check_least(fit_job *f, snug_error *err);
/* Chooses a candidate of every menu so that the whole file is <= budget_bytes; sets file_bytes and predicted_kl. */
snug_err budget_choose(fit_job *f, snug_error *err);

/* ---- artifact.c: what stands in the file beside the weights ---- */
enum { ARTIFACT_VERSION = 2 }; /* snug.version */
snug_err artifact_prepare(fit_job *f, snug_error *err);
/* The header for the current choices, with the checksums so far; data section offsets of tensor i's term k in offset (n x
 * WEIGHT_MAX_TERMS, may be NULL). *file_bytes: the whole file. */
snug_err artifact_header(const fit_job *f, buf *header, uint64_t *file_bytes, uint64_t *offset, snug_error *err);
bool artifact_is_native(const comp *c, uint64_t cols);
/* How the file has the rows of a term of this codec. */
wt_layout artifact_layout(const fit_job *f, const snug_codec *codec);

/* ---- menu.c, pins.c ---- */
snug_err menu_pins(fit_job *f, snug_error *err);        /* checks and assigns them */
snug_err menu_list(fit_job *f, snug_error *err);        /* every tensor's candidates and their bytes */
snug_err menu_measure(fit_job *f, snug_error *err);     /* their errors and predicted losses */
snug_err menu_replay(fit_job *f, const plan *p, snug_error *err); /* menus of one candidate each */
/* The one candidate of a vector. */
snug_err menu_vector(fit_job *f, size_t i, snug_error *err);
/* Makes tensor i's menu the one candidate c. */
snug_err menu_single(fit_job *f, size_t i, const comp *c, double rel_error, const char *note, snug_error *err);
bool menu_is_measured(const fit_job *f, size_t i);      /* is it a matrix whose menu is no twin's? */
size_t menu_sample_weights(const fit_job *f); /* how many weights of a tensor are encoded to measure a candidate */
/* Predicted loss of a weight for a relative error: its measured curve, or alpha * error. */
double menu_loss(const fit_tensor *t, double error);
/* The bytes that a candidate adds to the file beyond what every tensor has (docs in menu.c); 0: impossible for the shape. */
uint64_t menu_bytes(const comp *c, const char *tensor, uint64_t rows, uint64_t cols);
/* The smallest native type whose rate is not below c's and whose block divides the columns; false: none. A ternary one, whose scales are few, only
 * in place of another, and where one scale is what weights were trained with (c's model is a BitNet). */
bool menu_native(const fit_job *f, const comp *c, const store_tensor *t, comp *out);
/* The composition in which the source stores it. */
comp menu_source_comp(const store_tensor *t);
/* Is it stored so in the source, to be copied byte by byte? */
bool menu_is_copy(const fit_job *f, const store_tensor *t, const comp *c);
/* Warns where matrices of the source have fewer than 16 bits and will be encoded again (requantize.c). */
snug_err requantize_warn(fit_job *f, snug_error *err);

/* ---- pace.c ---- */
/* Seconds of one thread per multiply-add of f32 dots, and per weight encoded to 4 bits at this effort. */
typedef struct fit_pace { double mac_s, encode_s; } fit_pace;
fit_pace pace_measure(int effort);

/* ---- order.c: the source with its channels in another order ---- */
enum { ORDER_STREAM = 1, ORDER_VALUES = 2 }; /* snug.order */
/* Before anything is measured; needs the candidates. */
snug_err order_choose(fit_job *f, snug_error *err);
uint32_t order_kinds(const fit_job *f);
/* As store_read_rows and layer_read (or, not whole, layer_read_dense), in that order. */
snug_err order_rows(const fit_job *f, const store_tensor *t, uint64_t row0, size_t n, float *dst, snug_error *err);
snug_err order_layer(const fit_job *f, int layer, bool whole, arena *mem, layer_weights *out, snug_error *err);
bool order_moves(const fit_job *f, const store_tensor *t); /* does it differ from what is stored? */

/* ---- source.c: the model as it is fitted ---- */
/* The same, with channels balanced once that is chosen. */
snug_err source_rows(const fit_job *f, const store_tensor *t, uint64_t row0, size_t n, float *dst, snug_error *err);
snug_err source_layer(const fit_job *f, int layer, arena *mem, layer_weights *out, snug_error *err);
bool source_is_changed(const fit_job *f, const store_tensor *t); /* does it differ from what is stored? */
bool source_is_float(const store_tensor *t);
snug_err source_layer_dense(const fit_job *f, int layer, arena *mem, layer_weights *out, snug_error *err); /* without experts */
/* The exponents (cols) that an edge's statistics, not yet balanced, ask for; the head's: layer n_layers. All 0 where none can be. */
snug_err source_exponents(const fit_job *f, int layer, graph_edge e, int expert, int8_t *out, snug_error *err);
snug_err source_balance(fit_job *f, snug_error *err); /* chooses them for all edges, and takes them from the statistics */

/* ---- probe.c ---- */
/* Encodes a few rows of an edge's matrices with feedback, in each basis. sum: its balanced second moments, h: their factor, which are both
 * changed; exponent (cols): the powers of two that balance them; layer: n_layers for the head. */
snug_err probe_edge(fit_job *f, int layer, graph_edge edge, int expert, hessian_sum *sum, hessian *h, const int8_t *exponent, snug_error *err);
/* What feedback multiplies a menu's relative error by. */
double probe_ratio(const fit_tensor *t, const comp *c, double error);

/* ---- states.c: hidden states, in memory or in a folder ---- */
/* Does the folder, if there is one, take so many? */
snug_err states_check(const fit_job *f, size_t floats, snug_error *err);
/* Opened and closed between parallel regions. */
snug_err states_open(fit_job *f, size_t floats, float **out, snug_error *err);
void states_close(fit_job *f, float **x); /* x NULL: nothing */
/* Part of any array of floats: it will be read soon; it will not be touched for a while. Any thread. */
void states_want(const fit_job *f, const float *x, size_t floats);
void states_drop(const fit_job *f, const float *x, size_t floats);
void states_copy(const fit_job *f, float *to, const float *from, size_t floats); /* and drops both */

/* ---- importance.c ---- */
snug_err importance_set(fit_job *f, snug_error *err); /* from edge statistics or the imatrix */
const float *importance_in(const fit_tensor *t, int transform);  /* of a basis' channels; NULL: all equal */
const float *unexplained_in(const fit_tensor *t, int transform); /* what errors cost there: with feedback what it leaves of the importance */

/* ---- calibrate.c, sample.c, measure.c ---- */
snug_err calibrate_parse(fit_job *f, snug_error *err);      /* fills f->calib and f->feedback from what the user said */
snug_err calibrate_prepare(fit_job *f, snug_error *err);    /* decides what is run and on how many tokens; announces the stages */
/* A source of more than this many bytes is sampled from in codes, and planned with half of the text. Tests lower it. */
extern uint64_t fit_large_bytes;
bool fit_is_large(const fit_job *f);
snug_err calibrate_text(fit_job *f, snug_error *err);       /* fills f->text */
snug_err calibrate_statistics(fit_job *f, snug_error *err); /* fills f->edge */
snug_err calibrate_head_sum(fit_job *f, snug_error *err);   /* fills f->head_sum, unless it is there */
/* Hidden states (n_seq * len, n_embd) in a slot of the side file, which has room for all sequences, with the hash that the layer's record of this kind will hold as "state". */
snug_err calibrate_save_state(const fit_job *f, int slot, uint32_t n_seq, const float *x, uint64_t *hash, snug_error *err);
bool calibrate_load_state(const fit_job *f, int slot, uint32_t n_seq, const char *kind, int layer, float *x);
snug_err sample_text(fit_job *f, snug_error *err);          /* the first n_self sequences */
double calibrate_macs_per_token(const fit_job *f);
/* Multiply-adds that error feedback takes for a tensor, its share of the layer's second moments and runs among them; 0: none. */
double calibrate_feedback_macs(const fit_job *f, const fit_tensor *t, const snug_codec *codec);
/* Decides on how many tokens; returns the stage's multiply-adds, and how many logits are compared. scale: effort, 1 = normal. */
double measure_prepare(fit_job *f, double scale, double *n_logits);
snug_err measure_sensitivities(fit_job *f, snug_error *err); /* where they are to be; and shares the experts' among them */

/* ---- encode.c ---- */
/* Encodes every tensor into the part file at its place, then writes the header and gives the file its name. */
snug_err encode_all(fit_job *f, snug_error *err);

/* ---- journal.c ---- */
/* Records: (kind, index) -> JSON value. Kept in memory, in the journal beside the output, and (statistics) in the cache. Of several
 * processes number 0 has the files. */
snug_err journal_open(fit_job *f, snug_error *err);
/* Gives all processes the records that process 0 begins with. SNUG_ERR_MISMATCH: one of them was asked for something else. */
snug_err journal_share(fit_job *f, snug_error *err);
const json_t *journal_find(const fit_journal *j, const char *kind, int64_t index); /* NULL: none; borrowed */
snug_err journal_put(fit_journal *j, const char *kind, int64_t index, json_t *value, snug_error *err); /* takes value; durable */
snug_err journal_finish(fit_journal *j, snug_error *err); /* the output is whole: removes the journal */
void journal_close(fit_journal **j);
bool journal_is_resumed(const fit_journal *j);
/* A side file for state that is too large for a line: "OUT.state", removed with the journal. NULL: no journal on disk. */
const char *journal_state_path(const fit_journal *j);
snug_err journal_hash_file(const char *path, uint64_t *out, snug_error *err);
/* Exact doubles as text. */
json_t *journal_doubles(const double *v, size_t n);
bool journal_get_doubles(const json_t *j, double *v, size_t n); /* false: not exactly n */

/* Adds the records of a file whose kind is wanted, unless one is damaged; best effort. */
void journal_import(fit_journal *j, const char *path, size_t max_bytes, bool (*wanted)(const char *kind));
/* Writes the newest record of each (kind, index) that is wanted to a file of its own; best effort. */
void journal_export(const fit_journal *j, const char *path, bool (*wanted)(const char *kind));

/* ---- cache.c: statistics of earlier fits, in $XDG_CACHE_HOME/snug ---- */
void cache_load(fit_job *f);  /* adds the records of the cache, if there are any, to the journal's memory */
void cache_store(fit_job *f); /* best effort: a cache that cannot be written is no error */

/* ---- imatrix.c ---- */
snug_err imatrix_open(const char *path, fit_imatrix **out, snug_error *err);
/* Mean x^2 per column for a tensor; NULL: not in the file. SNUG_ERR_MISMATCH: another number of columns. */
snug_err imatrix_find(const fit_imatrix *m, const char *tensor, uint64_t cols, const float **out, snug_error *err);
uint64_t imatrix_hash(const fit_imatrix *m);
void imatrix_close(fit_imatrix **m);
#endif
