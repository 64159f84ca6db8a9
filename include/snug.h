/* snug: give it a language model and the memory you have; it makes the best version that fits, and runs it.
 *
 * This is the only installed header. Conventions that hold for every function:
 *   - Results come back through out-parameters; the return value is SNUG_OK (0) or a negative snug_err.
 *   - `snug_error *err` may be NULL. When a call fails it is filled with the code, the byte offset in the file where that
 *     is known (else 0) and one English sentence that names the file, the field, what was found and what was expected.
 *   - The library never prints, never exits, never installs signal handlers.
 *   - Sizes are in bytes and end in _bytes; rates are in bits per weight (bpw); time is in seconds.
 *   - Matrices are W (rows = outputs, cols = inputs): y = W x.
 *   - A snug_model is immutable and may be shared by threads. A snug_context and its snug_seqs belong to one thread at a
 *     time (the context itself uses several threads inside a call). Everything else is single-threaded unless said.
 *   - Objects are released with the _close or _destroy call that takes the address of the pointer and sets it to NULL;
 *     passing the address of a NULL pointer is fine.
 */
#ifndef SNUG_H
#define SNUG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SNUG_API __attribute__((visibility("default")))
#else
#define SNUG_API
#endif

/* ---------------------------------------------------------------- errors ---- */

typedef enum snug_err {
    SNUG_OK = 0,
    SNUG_ERR_NOMEM = -1,       /* the machine gave no memory                                                   */
    SNUG_ERR_IO = -2,          /* the system or the network refused: missing file, full disk, permissions        */
    SNUG_ERR_FORMAT = -3,      /* the bytes are not what their format promises: truncated, corrupt, hostile    */
    SNUG_ERR_UNSUPPORTED = -4, /* a well-formed input that snug does not know (architecture, type, tokenizer)  */
    SNUG_ERR_ARG = -5,         /* the caller's arguments make no sense                                         */
    SNUG_ERR_BUDGET = -6,      /* it does not fit: the message names the least that would                      */
    SNUG_ERR_CANCELLED = -7,   /* the progress callback asked to stop                                          */
    SNUG_ERR_MISMATCH = -8,    /* two things that must agree do not: vocabularies, a journal's options         */
    SNUG_ERR_NUMERIC = -9,     /* NaN or infinity where a number is needed                                     */
} snug_err;

typedef struct snug_error {
    snug_err code;
    uint64_t offset;   /* bytes from the start of the file at fault; 0 when it does not apply */
    char message[512]; /* UTF-8, no final full stop or newline                                */
} snug_error;

SNUG_API const char *snug_version(void);
SNUG_API const char *snug_err_name(snug_err code);
/* The kernel level in use: "ref", "avx2" ... (environment variable SNUG_CPU forces one). */
SNUG_API const char *snug_cpu_level(void);
/* Threads used when a `threads` field is 0: respects CPU affinity and the cgroup's CPU quota. */
SNUG_API int snug_default_threads(void);

/* -------------------------------------------------------------- progress ---- */

typedef struct snug_event {
    const char *stage;     /* "calibrate", "sensitivity", "menu", "encode", "write", "eval" ... */
    const char *detail;    /* what is being worked on (a tensor's name), or ""                  */
    uint64_t done, total;  /* in `unit`s; total 0 = unknown                                     */
    const char *unit;      /* "tensors", "tokens", "bytes", "weights"                           */
    double elapsed_s;      /* since the whole call started                                      */
    double eta_s;          /* estimate for the whole call, < 0 = not known yet                  */
    double fraction;       /* share of the whole call that is done, 0..1                        */
    const char *note;      /* what has been found out just now, worth a line of its own; or NULL */
    bool warning;          /* the note is one that nobody should miss                           */
} snug_event;

/* Called at most about ten times a second from the calling thread. Return true to cancel (SNUG_ERR_CANCELLED). */
typedef bool (*snug_event_fn)(void *user, const snug_event *event);

typedef struct snug_progress {
    snug_event_fn fn; /* NULL: silent */
    void *user;
} snug_progress;

/* ----------------------------------------------------------------- model ---- */

typedef struct snug_model snug_model;

typedef struct snug_model_info {
    const char *path;
    const char *format;       /* "hf" (folder of safetensors), "gguf" or "snug" (a GGUF with snug payloads) */
    const char *architecture; /* "llama", "qwen2", "qwen3" ... as GGUF names them                           */
    const char *name;         /* the model's own name, or ""                                                */
    uint32_t n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, n_vocab, n_ctx_train;
    uint32_t n_experts;       /* of a layer, n_ff wide; 0: feed-forwards are not split into experts              */
    uint32_t n_experts_used;  /* of these, for each token                                                        */
    uint32_t n_expert_layers; /* how many layers have experts                                                    */
    uint32_t n_ff_shared;     /* width of the one that all tokens go through beside them; 0: there is none       */
    uint32_t n_ff_dense;      /* width in layers without experts where others have some; 0: there are none such  */
    uint32_t n_recurrent;     /* layers that have a state of fixed size in place of attention (Mamba); all: n_heads and n_ff are 0  */
    uint64_t state_bytes;     /* of these layers together, for one sequence                                 */
    uint64_t n_weights;       /* distinct weights (tied tensors counted once)                               */
    uint64_t n_weights_used;  /* of these, without those of experts that a token is not sent to             */
    uint64_t file_bytes;      /* all files together                                                         */
    uint64_t tensor_bytes;    /* tensor data alone                                                          */
    double bpw;               /* 8 * file_bytes / n_weights                                                 */
    double predicted_kl;      /* what fit predicted, nats per token; < 0 when not known                     */
    uint64_t cached_numbers;  /* that the cache holds of a token: of all layers, f16 or f32                 */
} snug_model_info;

typedef struct snug_tensor_info {
    const char *name;        /* canonical (GGUF) name: "blk.0.attn_q.weight" */
    const char *codec;       /* "bf16", "q4_k", "int3g64", several terms joined by '+' */
    uint64_t rows, cols;     /* W (rows, cols); a vector has rows = 1 */
    uint64_t bytes;          /* payload bytes                         */
    uint64_t run_bytes;      /* what multiplying with it reads: of entropy codes more than is stored */
    int layer;               /* -1: not in a layer                    */
    int expert;              /* -1: not an expert's                       */
    const char *role;        /* "embd", "head", "q", "k", "v", "o", "gate", "up", "down", "ssm_in", "ssm_out", "router", "norm", "bias" ... */
    double predicted_loss;   /* < 0 when not known */
} snug_tensor_info;

/* Opens a Hugging Face folder, a GGUF file or a snug artifact. Lazy: reads headers only. */
SNUG_API snug_err snug_model_open(const char *path, snug_model **out, snug_error *err);
SNUG_API void snug_model_close(snug_model **model);
/* Resident memory of this process, now and at most so far, mapped file pages included. 0: the system does not tell. */
SNUG_API uint64_t snug_resident_bytes(void);
SNUG_API uint64_t snug_peak_resident_bytes(void);
/* Keeps the weights in memory from now on: the system may not page them out (what is not read yet is read first). Does not come
 * true beyond the user's limit on locked memory: SNUG_ERR_BUDGET names it. */
SNUG_API snug_err snug_model_lock(snug_model *model, snug_error *err);
SNUG_API const snug_model_info *snug_model_get_info(const snug_model *model);
SNUG_API size_t snug_model_n_tensors(const snug_model *model);
/* i < snug_model_n_tensors. Strings are owned by the model. */
SNUG_API snug_err snug_model_tensor(const snug_model *model, size_t i, snug_tensor_info *out);
/* Reads every byte and compares it with the stored checksums (artifacts) or checks that all tensors are readable and
 * finite (other formats). */
SNUG_API snug_err snug_model_verify(const char *path, int threads, snug_progress progress, snug_error *err);

/* ------------------------------------------------------------- tokenizer ---- */

/* Text to token ids. `text` is any bytes; invalid UTF-8 follows docs/tokenizers.md (each offending byte becomes U+FFFD).
 * add_special: add BOS/EOS as the model's tokenizer says; parse_special: text such as "<|user|>" becomes the special
 * token. Writes at most cap ids and always sets *n to the number needed; *n > cap means nothing beyond cap was written. */
SNUG_API snug_err snug_tokenize(const snug_model *model, const char *text, size_t text_bytes, bool add_special,
                                bool parse_special, int32_t *ids, size_t cap, size_t *n, snug_error *err);
/* Token ids to bytes, exactly (partial UTF-8 included). Special tokens are written only when `special`. Sizes as above. */
SNUG_API snug_err snug_detokenize(const snug_model *model, const int32_t *ids, size_t n_ids, bool special, char *text,
                                  size_t cap, size_t *n_bytes, snug_error *err);
SNUG_API int32_t snug_token_bos(const snug_model *model);      /* -1: none */
SNUG_API bool snug_token_is_eog(const snug_model *model, int32_t id); /* ends a generation: EOS, EOT ... */

typedef struct snug_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
} snug_message;
/* Renders a conversation with the model's own chat template into *out (malloc'd, caller frees with snug_free). */
SNUG_API snug_err snug_chat_render(const snug_model *model, const snug_message *messages, size_t n_messages,
                                   bool add_generation_prompt, char **out, snug_error *err);
SNUG_API void snug_free(void *p);

/* --------------------------------------------------------------- context ---- */

typedef struct snug_context snug_context;
typedef struct snug_seq snug_seq;

typedef enum snug_act { SNUG_ACT_Q8 = 0, SNUG_ACT_F32 = 1 } snug_act;      /* the form of activation that weights multiply */
typedef enum snug_kv { SNUG_KV_F16 = 0, SNUG_KV_F32 = 1 } snug_kv;
/* Where a snug_text's drafts come from (see "texts" below): nowhere, earlier passages of the text, a smaller model. */
typedef enum snug_draft { SNUG_DRAFT_NONE = 0, SNUG_DRAFT_LOOKUP = 1, SNUG_DRAFT_MODEL = 2 } snug_draft;

typedef struct snug_context_params {
    uint32_t n_ctx;       /* positions per sequence; 0: the model's training context   */
    uint32_t max_seqs;    /* sequences alive at once; 0: 1                              */
    uint32_t max_batch;   /* items per snug_decode; 0: 512 (longer prompts are chunked by the caller) */
    int threads;          /* 0: snug_default_threads()                                  */
    snug_act act;
    snug_kv kv;
    uint64_t ram_bytes;   /* 0: no limit. Else creation fails with SNUG_ERR_BUDGET if the total of snug_memory exceeds it */
    snug_draft draft;
    const snug_model *draft_model; /* for SNUG_DRAFT_MODEL, else NULL. Must outlive the context; its vocabulary must be
                                      the model's (SNUG_ERR_MISMATCH names the first token that differs) */
    uint32_t max_draft;   /* tokens drafted per snug_text_decode, all texts together, at most 1024; 0: 16. The room for
                             their logits, n_vocab floats each, is part of the scratch */
} snug_context_params;

typedef struct snug_memory {
    uint64_t weights_bytes, kv_bytes, scratch_bytes, other_bytes; /* kv: at n_ctx for every sequence                  */
    uint64_t draft_bytes;                                         /* a draft model's weights, cache and scratch; tables */
    uint64_t total_bytes;
} snug_memory;

SNUG_API snug_err snug_context_create(const snug_model *model, const snug_context_params *params, snug_context **out,
                                      snug_error *err);
SNUG_API void snug_context_destroy(snug_context **ctx);
/* What a context with these parameters needs, without making it. */
SNUG_API snug_err snug_context_memory(const snug_model *model, const snug_context_params *params, snug_memory *out,
                                      snug_error *err);

/* The state of one text. Fork shares what was already computed; truncate forgets positions >= n. A model with recurrent layers (Mamba) cannot
 * forget at will: snug_seq_reach gives the last position <= n that a sequence can be truncated to (n itself for other models; here its length,
 * where its last pass began, or 0), and others are SNUG_ERR_UNSUPPORTED. Texts find their way themselves: they read again what they must. */
SNUG_API snug_err snug_seq_create(snug_context *ctx, snug_seq **out, snug_error *err);
SNUG_API snug_err snug_seq_fork(const snug_seq *seq, snug_seq **out, snug_error *err);
SNUG_API snug_err snug_seq_truncate(snug_seq *seq, uint32_t n, snug_error *err);
SNUG_API uint32_t snug_seq_reach(const snug_seq *seq, uint32_t n);
SNUG_API uint32_t snug_seq_length(const snug_seq *seq);
SNUG_API void snug_seq_destroy(snug_seq **seq);

typedef struct snug_item {
    snug_seq *seq;
    int32_t token;
    uint32_t pos;       /* must be the sequence's length at that point of the batch */
    bool wants_logits;
} snug_item;
/* One pass over the weights for n items (n <= max_batch), items of several sequences mixed at will: prompts and single
 * tokens, in any order, those of one sequence in the order of their positions. A token's result does not depend on what
 * else is in the batch. On error no sequence has changed. At most max_seqs (and max_draft) items of a batch may want
 * logits in a context with ram_bytes; without, room for more is made when it is wanted. */
SNUG_API snug_err snug_decode(snug_context *ctx, const snug_item *items, size_t n, snug_error *err);
/* Logits (n_vocab floats) of item i of the last snug_decode; NULL if it did not want any. Valid until the next decode. */
SNUG_API const float *snug_logits(const snug_context *ctx, size_t i);

/* ----------------------------------------------------------------- texts ---- */

/* A text in the making: a sequence together with its tokens. The caller says which tokens come next; what has to be
 * computed for it, in which batches, and with which drafts, is the text's business. The loop of a program that writes:
 *
 *     snug_text_append(text, prompt, n, &err);
 *     for (;;) {
 *         while (!snug_text_logits(text)) snug_text_decode(&text, 1, &err);
 *         snug_sampler_pick(sampler, snug_text_logits(text), &token, &err);
 *         if (snug_token_is_eog(model, token)) break;
 *         snug_sampler_accept(sampler, token);
 *         snug_text_append(text, &token, 1, &err);
 *     }
 *
 * A server decodes many texts at once, and takes from each all that it has before the next pass (examples/batch.c):
 * logits are there until the next decode of the context. A text that did not take them by then, or that was truncated,
 * reads its last token again.
 *
 * Drafts (snug_context_params.draft) make this faster, never different: a pass also reads tokens that are likely to
 * come, so that after an append of just those the next logits are there without another pass. The logits are the same,
 * bit for bit, and a sampler is asked as often and in the same order, so the picks are the same too. Drafts grow and
 * vanish with how often they come true. */
typedef struct snug_text snug_text;
/* Takes one sequence of the context (and of its draft model's); the context must outlive the text. Belongs to the
 * context's thread. Fork copies the tokens, shares what was computed, and has the logits that the text has (but, of a model with recurrent layers,
 * those behind drafted tokens: it reads them again). */
SNUG_API snug_err snug_text_create(snug_context *ctx, snug_text **out, snug_error *err);
SNUG_API snug_err snug_text_fork(const snug_text *text, snug_text **out, snug_error *err);
SNUG_API void snug_text_destroy(snug_text **text);
/* Nothing is computed here. SNUG_ERR_ARG: not a token; SNUG_ERR_BUDGET: more than n_ctx; the text is as before. */
SNUG_API snug_err snug_text_append(snug_text *text, const int32_t *ids, size_t n, snug_error *err);
SNUG_API snug_err snug_text_truncate(snug_text *text, uint32_t n, snug_error *err);
/* Owned by the text; valid until it is destroyed, the tokens from n on change when it grows. */
SNUG_API const int32_t *snug_text_tokens(const snug_text *text, size_t *n);
/* Tokens at the end of the text that no pass has read yet. */
SNUG_API uint32_t snug_text_unread(const snug_text *text);
/* One pass over the weights for n different texts of one context, n <= max_batch, none of them empty. Every text reads
 * at least one token; what remains of the batch goes to drafts and then, in order, to texts that have more to read: a
 * long prompt takes several calls. On error the texts are as before. */
SNUG_API snug_err snug_text_decode(snug_text *const *texts, size_t n, snug_error *err);
/* The logits (n_vocab floats) after the text's last token; NULL: a decode is needed first. Valid until the context's
 * next decode or the text's next append or truncate. */
SNUG_API const float *snug_text_logits(const snug_text *text);

typedef struct snug_draft_stats {
    uint64_t drafted, accepted; /* tokens that passes read as drafts; those of them that were appended */
} snug_draft_stats;
/* Since the text was created. */
SNUG_API snug_draft_stats snug_text_draft_stats(const snug_text *text);

/* --------------------------------------------------------------- sampler ---- */

typedef struct snug_sampler snug_sampler;
typedef struct snug_sampler_params {
    float temperature;     /* 0: greedy                       */
    uint32_t top_k;        /* 0: off                          */
    float top_p;           /* 1: off                          */
    float min_p;           /* 0: off                          */
    float repeat_penalty;  /* 1: off                          */
    uint32_t repeat_last;  /* tokens looked back on, e.g. 64  */
    uint64_t seed;
} snug_sampler_params;

SNUG_API snug_err snug_sampler_create(const snug_sampler_params *params, uint32_t n_vocab, snug_sampler **out, snug_error *err);
SNUG_API void snug_sampler_destroy(snug_sampler **sampler);
/* SNUG_ERR_NUMERIC when the logits hold a NaN or no finite value. */
SNUG_API snug_err snug_sampler_pick(snug_sampler *sampler, const float *logits, int32_t *token, snug_error *err);
/* Tells the sampler about a token of the text (prompt tokens too), for the repetition penalty. */
SNUG_API void snug_sampler_accept(snug_sampler *sampler, int32_t token);

/* ------------------------------------------------------------------- fit ---- */

typedef enum snug_target { SNUG_FOR_SNUG = 0, SNUG_FOR_GGUF = 1 } snug_target;
typedef enum snug_effort { SNUG_EFFORT_NORMAL = 0, SNUG_EFFORT_QUICK = 1, SNUG_EFFORT_MAX = 2 } snug_effort;

typedef struct snug_fit_params {
    const char *source, *output;  /* output may be NULL with plan_only                                        */
    /* The budget: exactly one of size_bytes, bpw, ratio, ram_bytes, or a plan, or pins for every tensor.     */
    uint64_t size_bytes;
    double bpw;
    double ratio;                 /* of the source's tensor bytes, 0..1                                       */
    uint64_t ram_bytes;           /* with n_ctx; may also stand beside one of the three above                 */
    uint32_t n_ctx;
    snug_target target;
    snug_effort effort;
    const char *calib;            /* "self", "self:TEMPERATURE", a text file, "self+FILE" (half and half),
                                     or "none"; NULL: "self" ("none" at quick)                              */
    const char *const *pins;      /* "PATTERN=CODEC" (shell pattern on the tensor name), later ones win       */
    size_t n_pins;
    const char *imatrix;          /* llama.cpp importance matrix (.dat or .gguf), or NULL                     */
    const char *spill;            /* a folder: the hidden states of calibration lie in files there, which have no
                                     names and are gone with the process, and not in memory; NULL: in memory. The
                                     result is the same                                                     */
    const char *plan_in;          /* replay this plan, or NULL                                                */
    const char *plan_out;         /* save the plan, or NULL                                                   */
    bool plan_only;               /* stop after planning                                                      */
    bool resume;                  /* go on from the journal beside the output                                 */
    uint64_t seed;
    int threads;
    snug_progress progress;
} snug_fit_params;

typedef struct snug_plan_row {
    const char *tensor, *codec, *note; /* note: why ("pinned", "falls back from q4_k: 172 columns"), or ""    */
    uint64_t rows, cols, bytes;
    double bpw, rel_error, predicted_loss;
    double measured_error;             /* what rel_error came to where error feedback shows it, else < 0      */
    bool skipped;                      /* encoded by an earlier, interrupted run                              */
    uint64_t n_experts;                /* numbers in tokens: 1, of a stack of experts all of them; 0: none      */
    const uint64_t *tokens;            /* of the calibration text that came to each of its experts              */
} snug_plan_row;

/* What a token takes beside attention. The matrices that read the same activations share their transform. */
typedef struct snug_work {
    uint64_t multiply_adds;           /* in matrices                                                          */
    uint64_t transform_adds;          /* additions that take activations into the bases of had: codecs        */
} snug_work;

typedef struct snug_fit_report snug_fit_report;
typedef struct snug_fit_summary {
    uint64_t bytes, budget_bytes, source_tensor_bytes, n_weights;
    double bpw, ratio, predicted_kl;
    uint64_t n_rows;                  /* plan rows                                                            */
    snug_memory run_memory;           /* at n_ctx (or the training context)                                   */
    snug_work run_work;
    double seconds;
    uint64_t peak_rss_bytes;
    uint64_t skipped_tensors;         /* by resume                                                            */
    uint64_t calib_tokens;
    const char *calib;                /* what was used                                                        */
    uint64_t n_experts;               /* of all layers, where their calibration tokens were counted; else 0   */
    uint64_t n_experts_missed;        /* of them too few tokens came to: fitted to tokens of others           */
} snug_fit_summary;

SNUG_API snug_err snug_fit(const snug_fit_params *params, snug_fit_report **out, snug_error *err);
/* In a library built with SNUG_MPI, processes that mpirun started share the work of a fit: how many there are, and which this one is (else 1
 * and 0). All of them call snug_fit, one at a time and with the same parameters but for threads, and get the same result. Process 0 alone writes
 * files; `progress` is called in each of them, and stops them all. */
SNUG_API int snug_processes(void);
SNUG_API int snug_process(void);
SNUG_API const snug_fit_summary *snug_fit_report_summary(const snug_fit_report *report);
SNUG_API const snug_plan_row *snug_fit_report_row(const snug_fit_report *report, size_t i);
SNUG_API void snug_fit_report_destroy(snug_fit_report **report);

/* Any model that opens, as a GGUF that llama.cpp runs: native tensors copied, others re-encoded to the smallest native
 * type whose rate is not below theirs. That rounds them a second time: events say which, and what it lost (warning). */
SNUG_API snug_err snug_export(const char *model, const char *output, int threads, snug_progress progress, snug_error *err);
/* Cuts a GGUF file of native types into parts of at most max_bytes each, headers included, named as llama.cpp's tools do: NAME.gguf becomes
 * NAME-00001-of-0000N.gguf and so on, N = *n_parts, and is removed when they are whole. Opening any of them opens all. SNUG_ERR_BUDGET: a tensor
 * or the header alone is larger. */
SNUG_API snug_err snug_split(const char *path, uint64_t max_bytes, snug_progress progress, uint32_t *n_parts, snug_error *err);

/* ------------------------------------------------------------------ pull ---- */

/* A model of a hub (Hugging Face's, or one with the same interface), fetched into a folder: opened, looked at, fetched.
 * libcurl is loaded by the first call of snug_pull_open; SNUG_ERR_UNSUPPORTED where it is not installed. */
typedef struct snug_pull snug_pull;
typedef struct snug_pull_params {
    const char *source;          /* "hf:ORG/NAME" or "hf:ORG/NAME@REVISION" (a branch, a tag, a commit)             */
    const char *folder;          /* NULL: NAME, in the working folder                                               */
    const char *const *patterns; /* shell patterns on the files' names; none: what makes the model                  */
    size_t n_patterns;
    const char *endpoint;        /* NULL: "https://huggingface.co"                                                  */
    const char *token;           /* access token, sent to the endpoint's host alone; NULL: none                     */
    int connections;             /* at once, at most 64; 0: 8                                                       */
    bool replace;                /* files in the folder that are others than the hub's are overwritten              */
    bool dry_run;                /* of several GGUFs none need be named: they are listed                            */
    snug_progress progress;      /* while the hub is asked                                                          */
} snug_pull_params;

typedef struct snug_pull_file {
    const char *path;            /* in the repository and in the folder                                             */
    uint64_t bytes, present_bytes; /* present: there, or from an earlier pull that was interrupted                  */
    const char *hash_name, *hash;  /* "sha256", or "git-sha1" (of a blob); lower-case hex                           */
    bool chosen;
} snug_pull_file;

typedef struct snug_pull_summary {
    const char *repository, *revision, *commit, *folder;
    const char *model_path;      /* what snug_model_open takes once it is fetched; NULL: no model was chosen        */
    size_t n_files, n_chosen;
    uint64_t bytes, present_bytes; /* of the chosen files                                                           */
    uint64_t needed_bytes, free_bytes; /* of the folder's disk                                                      */
    uint64_t fetched_bytes;      /* over the network, by snug_pull_fetch                                            */
    double seconds;
} snug_pull_summary;

/* Asks the hub what the repository holds and chooses; writes nothing. */
SNUG_API snug_err snug_pull_open(const snug_pull_params *params, snug_pull **out, snug_error *err);
SNUG_API const snug_pull_summary *snug_pull_get_summary(const snug_pull *pull);
/* i < n_files, in the order of their names. Strings are owned by the pull. */
SNUG_API snug_pull_file snug_pull_get_file(const snug_pull *pull, size_t i);
/* Fetches what is chosen and not there, compares all of it with the hub's hashes, and gives each file its name when it is
 * right. Stopped at any instant, the next call goes on from there (FILE.part and FILE.journal hold what came).
 * SNUG_ERR_BUDGET: the disk is too small; SNUG_ERR_MISMATCH: a file is not what the hub says it is. */
SNUG_API snug_err snug_pull_fetch(snug_pull *pull, snug_progress progress, snug_error *err);
SNUG_API void snug_pull_close(snug_pull **pull);

/* ------------------------------------------------------------------ eval ---- */

typedef struct snug_eval_params {
    const char *text_path;
    uint32_t n_ctx;        /* window; 0: min(512, training context)              */
    uint32_t stride;       /* 0: llama.cpp's way: windows do not overlap, the second half of each is scored.
                              Else: windows start every `stride` tokens and their last `stride` tokens are scored;
                              stride = n_ctx scores every position */
    uint64_t max_tokens;   /* 0: the whole text */
    snug_act act;          /* callers that judge a file want SNUG_ACT_F32 */
    snug_kv kv;
    int threads;
    snug_progress progress;
} snug_eval_params;

typedef struct snug_stat { double value, ci95; } snug_stat; /* mean and half-width of its 95 % confidence interval */

typedef struct snug_eval_result {
    uint64_t tokens;           /* positions scored                                        */
    snug_stat nll;             /* nats per token                                          */
    double ppl, ppl_lo, ppl_hi;
    bool has_ref;
    double ppl_ref;
    snug_stat kl, js, top1;    /* KL(ref || model), Jensen-Shannon divergence in nats, share of equal top tokens */
    double kl_median, kl_p99, kl_max;
} snug_eval_result;

/* `ref` NULL: perplexity alone. The two vocabularies must be equal (SNUG_ERR_MISMATCH). */
SNUG_API snug_err snug_eval(const snug_model *model, const snug_model *ref, const snug_eval_params *params,
                            snug_eval_result *out, snug_error *err);

#ifdef __cplusplus
}
#endif
#endif
