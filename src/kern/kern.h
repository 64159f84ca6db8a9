/* Kernels: the slots that the inner loops call. `kern/ref` fills every slot in plain C; an ISA folder overwrites what it
 * does better. Every level gives the same bits (canonical arithmetic), so a token's result never depends on the CPU, nor on
 * how many rows, tokens or threads share the pass. Built with -ffp-contract=off; every fma below is explicit, everything
 * else is one IEEE operation rounded to nearest even. Which NaN comes out of NaNs is not defined; that one does is.
 *
 *   tree8(l)   = ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7))
 *   tree16(l)  = tree8(l[i] + l[i + 8])
 *   lanes      start at +0 and are touched only by their own indices (a tail is never padded with zero products).
 *   q8 dot     a, b start at +0; per group g of a row, in order, with xs the scale of the 32-chunk that holds it:
 *                  i = exact integer dot of the group's codes q with x;   a = fma(s[g] * xs, (float)i, a)
 *                  with m: k = sum of the group's x codes;                b = fma(m[g], xs * (float)k, b)
 *              then y = y + (a + b), or y + a without m. The int family takes its stored codes q + 2^(B-1) for q here and
 *              m = s * (o - 2^(B-1)) to match (docs/format.md 3.3): one addition less, the same weight.
 *   f32 dot    lane[i mod 16] = fma(w[i], x[i], lane[i mod 16]), then tree16.
 *   exp        canon_expf in kern/canon.h (error under 1 ulp; exact fma polynomial, denormal results kept).
 *   softmax    e_i = exp(x_i - max); lane[i mod 16] += e_i, sum = tree16; x_i = e_i * (1 / sum);
 *              returns (float)((double)max + log((double)sum)). All -inf, an inf or a NaN gives NaN everywhere; n = 0: -inf.
 *   rmsnorm    k = 1 / sqrt((f32 dot of x and x) / n + eps);  out = (x * k) * gain.   out may be x.
 *   hadamard   in each block of b numbers, for h = 1, 2, 4 .. b/2: pairs (i, i + h), i's bit h clear: a, b -> a + b, a - b; then each times
 *              (float)(1 / sqrt(b)).
 *   gelu       x / (1 + exp(-x (a + b x^2)))
 *   softcap    cap - 2 cap / (1 + exp(2 x / cap))
 *   silu_mul   gate = (gate / (1 + exp(-gate))) * up
 *   recur      to[k] = fma(from[k], decay, y * b[k]);  lane[k mod 16] = fma(to[k], c[k], lane[k mod 16]);  y = tree16
 *   rope       a' = fma(a, cos, -(b * sin)),  b' = fma(a, sin, b * cos)
 *   attention  the positions of a sequence are cut into blocks at the multiples of KERN_BLOCK, whatever the query sees of
 *              them. In a block, over the positions i (counted from its start) that the query sees, in order:
 *                  dot = fma(k_i[d], q[d], dot), one chain from +0, d in order;    s_i = scale * dot   (then softcap, where the model has it)
 *                  m = (max of s_i) + 0;  e_i = exp(s_i - m);  lane[i mod 16] += e_i, l = tree16;  o[d] = fma(e_i, v_i[d], o[d])
 *              The blocks (those with a visible position) in order, from M = -inf, L = +0, O = +0:
 *                  N = max(M, m), a = exp(M - N), b = exp(m - N);  L = fma(l, b, L * a);  O[d] = fma(o[d], b, O[d] * a);  M = N
 *              and the output is O[d] * (1 / L). A max skips NaNs (they reach every output through L).
 *
 * The common form that block formats are unpacked to ("unpacked row"): int8 codes q, and per group of 16 or 32 weights an
 * f32 scale s and, for formats that have one, an f32 offset m:      w[i] = s[g] * q[i]  (+ m[g]),   rounded in that order.
 * It expands to exactly what ggml's dequantizers give. Any payload bytes unpack safely; s and m may then be NaN or infinite
 * and q may be -128.
 * Activations ("q8 row"): int8 codes x in -127..127 (never -128: kernels rely on it), an f32 scale per 32, and the sums of each
 * 32 and each 16 codes as (exact) floats, which dots need whether the weights have offsets or not.
 * A chunk is 32 weights. Payload bytes, int8 codes and f16/bf16 sources need no alignment; float and int16 arrays that of
 * their type. No kernel reads or writes outside what its arguments name. Kernels keep their state on the stack (under 96 KB)
 * and allocate nothing. */
#ifndef KERN_KERN_H
#define KERN_KERN_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KERN_INLINE static inline __attribute__((always_inline)) /* bodies specialised by constant arguments */

typedef enum kern_format { /* block formats that can be unpacked */
    KERN_Q8_0, KERN_Q4_0, KERN_IQ4_NL,                                       /* blocks of 32, group 32     */
    KERN_Q2_K, KERN_Q3_K, KERN_Q4_K, KERN_Q5_K, KERN_Q6_K, KERN_IQ4_XS,     /* blocks of 256              */
    KERN_TQ1_0, KERN_TQ2_0,                                                  /* blocks of 256, ternary     */
    KERN_CODES,                                                              /* | s: f32 | q: int8 x 32 |: rows of other forms, unpacked */
    KERN_CODES16, KERN_CODES_MIN,                                            /* the same with two scales of 16; with s and m */
    KERN_INT2, KERN_INT3, KERN_INT4, KERN_INT5, KERN_INT6, KERN_INT7, KERN_INT8, /* docs/format.md, intBgG */
    KERN_FORMAT_COUNT
} kern_format;

/* Beside the group of an int format: offsets are 0, w = s q, whatever z the header says. */
enum { KERN_CENTRED = 1 };
static inline uint32_t kern_int_group(uint32_t group) { return group & ~(uint32_t)KERN_CENTRED; }

/* Weights per (s, m) pair in the unpacked form: 16 for q2_k q3_k q6_k and KERN_CODES16, else 32; and whether m is used. */
uint32_t kern_group(kern_format f);
bool kern_has_min(kern_format f);

/* Unpacks the first n_chunks chunks of one row (for 256-blocks a multiple of 8). `group`: weights per stored scale for the
 * int formats (32, 64, 128, or with KERN_CENTRED), ignored by others; n_groups is derived: ceil(32 * n_chunks / group). An int row's groups lie
 * before its codes, so n_chunks must be the whole row's there; block formats may be unpacked piecewise.
 * q: 32 * n_chunks; s, m: 32 * n_chunks / kern_group each (m untouched when !kern_has_min). */
typedef void (*kern_unpack_fn)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m);

/* Rows of sparse and ternary weights: w = s q with most q's bits saved, because some are known to be 0 or all are -1, 0, 1. They unpack to
 * rows of KERN_CODES and are multiplied as those. Layout (docs/format.md 3.5):   | d: bf16 | scales | masks | codes |
 * The mask says which `kept` weights of a chunk have codes, in the order of their columns; the others are 0:
 *     BITMAP   4 bytes, bit i: weight i; set bits beyond the kept-th are ignored
 *     2_OF_4   8 x 3 bits, indices into kern_2of4 for each 4 weights (kept = 16)
 *     3_OF_4   8 x 2 bits, the weight of each 4 that has none (kept = 24)
 *     TRITS    no mask: five weights in a byte
 * bits >= 2: scales are bytes of 5 and 3 bits, e and z, and a code c of B bits is one of 2^(B-1) magnitudes with a sign, from the lowest
 * q to the highest; z chooses the grid, which has no 0 (B = 8: q = c - 128, z is not used). 1 bit (q = 2 c - 1) and trits have nibbles of e. */
typedef enum kern_mask { KERN_BITMAP, KERN_2_OF_4, KERN_3_OF_4, KERN_TRITS } kern_mask;
typedef struct kern_sparse {
    kern_mask mask;
    uint8_t bits, kept; /* of a chunk: a multiple of 4; TRITS: unused */
    uint32_t group;     /* weights per scale: 32, 64, 128 */
} kern_sparse;
enum { KERN_SPARSE_STEP = 20, KERN_CODES_BYTES = 36, KERN_CODES_PAIR_BYTES = 40 }; /* chunks: codes and trits of so many begin with a byte */
/* Bytes of a row of n_chunks chunks before its masks, before its codes, and in all. */
typedef struct kern_sparse_layout { size_t masks, codes, bytes; } kern_sparse_layout;
kern_sparse_layout kern_sparse_layout_of(const kern_sparse *f, size_t n_chunks);
/* Chunks [c0, c0 + n) of a row of n_chunks, c0 a multiple of KERN_SPARSE_STEP, to n blocks of KERN_CODES. */
typedef void (*kern_sparse_unpack_fn)(const kern_sparse *f, const uint8_t *row, size_t n_chunks, size_t c0, size_t n, uint8_t *blocks);

/* q8 rows of n_tokens tokens, ld codes each, a multiple of 32; scale and sum32 have ld / 32 for each token, sum16 ld / 16. Tokens stand
 * in tiles of KERN_Q8_TILE, which take turns word by word (4 codes) and number by number:
 *     word w of token t of a tile: q[4 * (8 w + t)],     its c-th scale: scale[8 c + t],     sums alike;
 * the last n_tokens mod 8 tokens are tiles of one, plain rows. Either way the tile that begins with token t begins at t * ld. */
enum { KERN_Q8_TILE = 8 };
typedef struct kern_q8 {
    size_t ld;
    const int8_t *q;
    const float *scale, *sum32, *sum16;
} kern_q8;

/* Dots read panels: 16 rows of a block format, their bytes permuted (kern/panel.h); as many bytes as the rows have. */
enum { KERN_PANEL_ROWS = 16 };
/* Row-major rows to a panel; rows n_rows .. 15 are zeros. row_bytes: of one row of n_chunks chunks; group as for unpack. */
void kern_panel_pack(kern_format f, const uint8_t *rows, size_t row_bytes, size_t n_rows, size_t n_chunks, uint32_t group, uint8_t *panel);
/* Row r out of a panel. A ggml format's blocks may be had one by one: a block of the panel is a panel of one block. */
void kern_panel_get(kern_format f, const uint8_t *panel, size_t row_bytes, size_t n_chunks, uint32_t group, size_t r, uint8_t *row);
/* Scratch of panel_dot, to be aligned to 64. */
size_t kern_panel_scratch_bytes(size_t n_chunks);

/* y[t * ldy + r] += row r of the panel . x_t   for r < n_rows <= 16 and t < n_tokens. group: as for unpack. */
typedef struct kern_panel_args {
    const uint8_t *panel;
    size_t n_rows, n_tokens, n_chunks;
    uint32_t group;
    kern_q8 x;
    float *y;
    size_t ldy;
    void *scratch;
    const uint8_t *books; /* of additive codes */
} kern_panel_args;

/* Where token t of n_tokens stands: its tile's first token, its width and its place in it. */
typedef struct kern_q8_place { size_t tile, width, lane; } kern_q8_place;
static inline kern_q8_place kern_q8_place_of(size_t n_tokens, size_t t) {
    size_t tiled = n_tokens / KERN_Q8_TILE * KERN_Q8_TILE, lane = t % KERN_Q8_TILE;
    return t < tiled ? (kern_q8_place){t - lane, KERN_Q8_TILE, lane} : (kern_q8_place){t, 1, 0};
}

/* Attention's blocks, and the tiles that keys are stored in. */
enum { KERN_BLOCK = 256, KERN_TILE = 16 };

/* Attention of n_q queries over some blocks: max, sum (n_q), out (n_q, head_dim). */
typedef struct kern_partial { float *max, *sum, *out; } kern_partial;

typedef struct kern_table {
    kern_unpack_fn unpack[KERN_FORMAT_COUNT];
    kern_sparse_unpack_fn unpack_sparse;
    void (*panel_dot[KERN_FORMAT_COUNT])(const kern_panel_args *a);
    /* The same for a panel of the dense trellis code (kern/trellis.h; group: its quarters of a bit), and a step of the search for it. Its states are counted
     * with the newest bits lowest, so that what is left of a state y after the next step, of `out` bits, is y mod 2^(bits - out): n. For every n
     *     next[n] = min over j < 2^out of  m[y >> in] + (min(255, |level[y] - x|)^2 weight >> 16) - off,   y = j << (bits - out) | n,
     * where sums end at 65535 and 0. in, out: 1 to 6; bits - out >= 5; weight < 65536; levels and x within +-16383. level: (2^bits), m: (2^(bits - in)
     * and 32 more that are read but do not matter). Returns the least of next. */
    void (*tcq_dot)(const kern_panel_args *a);
    unsigned (*tcq_step)(const uint16_t *level, int bits, int in, int out, int x, unsigned weight, const uint16_t *m, unsigned off, uint16_t *next);
    /* The same for the fast one: of each byte b that may come next the least
     * sum over the bytes a before it,
     *     next[b] = min over a of  m[a] + (min(255, sum over i of cost[i][nibble[i][a][b]]) << shift),   saturated at 65535,
     * less the least of all, which is subtracted from every next[b]. nibble: (4, 256, 256), values below 16; aligned to 64. */
    void (*tcqf_dot)(const kern_panel_args *a);
    void (*tcqf_step)(const uint8_t *nibble, const uint8_t cost[4][16], int shift, const uint16_t m[256], uint16_t next[256]);
    /* The same for a panel of codes by books (kern/books.h; group: their form). */
    void (*books_dot)(const kern_panel_args *a);
    /* y[t * ldy + r] += w_r . x_t;  w (n_rows, ldw), x (n_tokens, ldx), n columns */
    void (*dot_f32)(size_t n_rows, size_t n_tokens, size_t n, const float *w, size_t ldw, const float *x, size_t ldx,
                    float *y, size_t ldy);
    /* Expands an unpacked row: dst[i] = s*q (+ m), n weights (n need not fill the last group). group: 16 or 32; m may be NULL. */
    void (*expand)(const int8_t *q, const float *s, const float *m, uint32_t group, size_t n, float *dst);
    /* x (n) -> the q8 row of token `lane` of a tile of `width` tokens, 1 or 8, whose arrays begin at q, s, sum32 and sum16; n padded up
     * to a multiple of 32 with zeros. Scale = absmax / 127, codes round(x / scale), half to even,
     * clamped to +-127 (a denormal scale is coarse). A scale of 0 gives codes 0. A group with a NaN or infinity gets scale
     * NaN and codes 0, so that the error is seen in the logits. */
    void (*quantize_q8)(const float *x, size_t n, size_t width, size_t lane, int8_t *q, float *s, float *sum32, float *sum16);
    void (*f16_to_f32)(const uint16_t *src, size_t n, float *dst);  /* src may be unaligned */
    void (*bf16_to_f32)(const uint16_t *src, size_t n, float *dst);
    void (*f32_to_f16)(const float *src, size_t n, uint16_t *dst);  /* dst may be unaligned */
    /* out = x / sqrt(mean(x^2) + eps) * gain */
    void (*rmsnorm)(const float *x, const float *gain, float eps, size_t n, float *out);
    void (*add)(float *y, const float *x, size_t n);               /* y += x */
    void (*silu_mul)(float *gate, const float *up, size_t n);      /* gate = silu(gate) * up */
    void (*gelu)(float *x, size_t n);                              /* in place; by tanh */
    void (*softcap)(float *x, size_t n, float cap);                /* x = cap tanh(x / cap) */
    void (*hadamard)(float *x, size_t n, size_t block);            /* block: 16, 32, 64 or 128, a divisor of n */
    /* A step of n_rows recurrences: each one's state (n) decays, takes up y_r b, and y_r becomes its product with c. from, to (n_rows, n): before and
     * after; they may be the same. */
    void (*recur)(const float *from, float *to, size_t n_rows, size_t n, float decay, const float *b, const float *c, float *y);
    float (*softmax)(float *x, size_t n);                          /* in place; returns log-sum-exp of the input */
    /* Rotates one head in place. half: number of pairs; cs: cos[half] then sin[half]. interleaved: pairs (2i, 2i+1), else
     * (i, i+half). */
    void (*rope)(float *x, size_t half, const float *cs, bool interleaved);
    /* Attention for n_q queries that share keys and values, in the steps of the canonical definition. q, out (n_q, head_dim).
     * scores: s_i of n_tiles tiles of KERN_TILE positions to scores[h * ld + i]. A tile lies dimension by dimension: element
     * d of its position i at k[d * KERN_TILE + i].
     * weigh: x[h * ld + i] = e_i for i in [begin, end), which is not empty, of one block; max[h] = m, sum[h] = l. x has room
     * for whole 16s; what stands beside the range in its first and last 16 is overwritten.
     * accumulate: out_h = fma(w[h * ld + i], v_i, out_h) for n positions, v (n, head_dim).
     * next: as many bytes as k or v has, which the caller will want soon: they may be prefetched (NULL: nothing).
     * merge: adds a block's max, sum, out to the state's (m, l, o to M, L, O). */
    void (*scores_f16)(const uint16_t *k, size_t n_tiles, size_t head_dim, const float *q, size_t n_q, float scale,
                       float *scores, size_t ld, const void *next);
    void (*scores_f32)(const float *k, size_t n_tiles, size_t head_dim, const float *q, size_t n_q, float scale,
                       float *scores, size_t ld, const void *next);
    void (*weigh)(float *x, size_t ld, size_t n_q, size_t begin, size_t end, float *max, float *sum);
    void (*accumulate_f16)(const uint16_t *v, size_t n, size_t head_dim, const float *w, size_t ld, size_t n_q, float *out,
                           const void *next);
    void (*accumulate_f32)(const float *v, size_t n, size_t head_dim, const float *w, size_t ld, size_t n_q, float *out,
                           const void *next);
    void (*merge)(const kern_partial *block, size_t n_q, size_t head_dim, const kern_partial *state);
} kern_table;

/* The table of the level in use (base/cpu.h), filled once, thread-safe. */
const kern_table *kern(void);
/* The table of a given level, for the checker; NULL when the level in use does not include it. level is a cpu_level. */
const kern_table *kern_for_level(int level);
/* Each ISA folder's entry point: overwrites the slots it has. */
void kern_init_ref(kern_table *t);
void kern_init_avx2(kern_table *t);
void kern_init_avx512(kern_table *t);
void kern_init_neon(kern_table *t);
#endif
