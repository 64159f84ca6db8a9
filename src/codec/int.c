/* The int family, intBgG: B = 2..8 bits, groups of G = 32, 64, 128 with one byte of scale and zero point under one bf16 per row
 * (docs/format.md 3.3).  w = s (q + o),  s = d E[e],  o = (z - 4) t 2^(B-5) + 1/2.
 *
 * Method: exhaustive, since a group has only 32 x 8 pairs (e, z) and all but 8 or 16 values of e are hopeless: those give scales
 * above the one that covers the group's largest weight or far below it. The error of each pair is measured after rounding,
 * with the importances. A row's d is chosen first: its phase within a step of e (9 %) is tried at several points, each judged
 * by the sum over the row's groups of their best pairs. Then, group by group, the pair is chosen under that d. */
#include <math.h>
#include <stdalign.h>

#include "base/checked.h"
#include "codec/block.h"
#include "codec/codecs.h"
#include "codec/planes.h"
#include "codec/search.h"
#include "kern/blocks.h"

/* Steps are fine up to e = 16; e = 31: scale 0. */
enum { MAX_GROUP = 128, MAX_PHASES = 4, N_E = 31, FINE = 16, N_Z = 8, ZERO = 31 << 3 | 4 };
#define STEPS_PER_OCTAVE 8.0f

typedef struct int_enc { /* followed by the arrays */
    codec_params p;
    size_t n_rows, cols, n_chunks, n_groups;
    int effort;
    uint16_t *d;   /* (n_rows), bf16              */
    uint8_t *meta; /* (n_rows, n_groups)          */
    int8_t *q;     /* (n_rows, 32 * n_chunks)     */
} int_enc;

static bool menu(uint32_t i, codec_params *out) {
    static const uint16_t groups[] = {128, 64, 32};
    *out = (codec_params){.bits = (uint16_t)(2 + i / 3), .group = groups[i % 3]};
    return i < 21;
}
static bool params_ok(codec_params p) {
    return p.bits >= 2 && p.bits <= 8 && (p.group == 32 || p.group == 64 || p.group == 128) && p.rank == 0;
}

uint64_t int_row_bytes(codec_params p, uint64_t cols) {
    uint64_t n;
    bool fits = checked_mul(div_up(cols, 32), 4u * p.bits, &n) && checked_add(n, 2 + div_up(cols, p.group), &n);
    return fits ? n : 0;
}
static uint64_t bytes(codec_params p, uint64_t n_rows, uint64_t cols) {
    uint64_t n;
    return checked_mul(n_rows, int_row_bytes(p, cols), &n) ? n : 0;
}

static size_t enc_bytes(codec_params p, size_t n_rows, size_t cols) {
    uint64_t weights;
    if (!checked_mul(n_rows, round_up(cols, 32), &weights) || weights > SIZE_MAX / 64 || !int_row_bytes(p, cols)) return 0;
    return round_up(sizeof(int_enc), 64) + round_up(n_rows * 2, 64) + round_up(n_rows * div_up(cols, p.group), 64) + round_up(weights, 64);
}
static uint32_t group_cols(codec_params p) { return p.group; }

static void enc_init(void *enc, codec_params p, size_t n_rows, size_t cols, int effort) {
    int_enc *e = enc;
    *e = (int_enc){.p = p, .n_rows = n_rows, .cols = cols, .n_chunks = div_up(cols, 32), .n_groups = div_up(cols, p.group),
                   .effort = effort};
    uint8_t *at = (uint8_t *)enc + round_up(sizeof *e, 64);
    e->d = (uint16_t *)(void *)at;
    at += round_up(n_rows * 2, 64);
    e->meta = at;
    at += round_up(n_rows * e->n_groups, 64);
    e->q = (int8_t *)at;
}

static float z_offset(int z, unsigned bits) { return (float)(z - 4) * kern_int_offset_step(bits) + 0.5f; }

/* No useful scale is above the one that puts the largest weight on the last code of the grid that holds 0. */
static float cover(float top, unsigned bits) { return top / ((float)(1 << (bits - 1)) - 1); }

/* The largest scale worth trying: one step of e above the one that covers the group (which finer codes need). */
static float largest(float top, unsigned bits) { return 1.1f * cover(top, bits); }
/* Candidate steps of an eighth octave from there: one octave reaches 0.55 of the covering scale, two 0.3, and few codes want much
 * clipping. */
static int useful_steps(unsigned bits) { return bits <= 3 ? 16 : 8; }

/* Errors of 8 scales at offset z. */
static void try_scales(const float *x, const float *a, size_t n, const float s[8], int z, unsigned bits, float err[8]) {
    float m[8], o = z_offset(z, bits);
    for (int j = 0; j < 8; j++) m[j] = s[j] * o;
    search_err(n, x, a, s, m, -(1 << (bits - 1)), (1 << (bits - 1)) - 1, err);
}

/* Brings a group into the row's unit, with importances. Returns its largest weight. */
static float load_group(const float *w, const float *a, size_t n, float inv_unit, float x[MAX_GROUP], float imp[MAX_GROUP]) {
    for (size_t i = 0; i < n; i++) x[i] = w[i] * inv_unit, imp[i] = a ? a[i] : 1;
    return search_absmax(x, n);
}

/* Groups whose largest weight is below this share of the row's (which is near 1) decode to 0 whatever the phase: the smallest scale is
 * 2^-6.7 d. Without the bound a denormal group's ratio of scales is infinite, and no number of steps. */
static const float NEGLIGIBLE = 0x1p-60f;

/* The best phase of a row's d: candidate scales lie on a grid `phases` times finer than e's, so that one pass over them serves
 * all phases. Returns the phase. */
static int best_phase(const int_enc *e, const float *w, const float *a, float inv_unit, float s_top, int phases) {
    alignas(64) float x[MAX_GROUP], imp[MAX_GROUP];
    double total[MAX_PHASES] = {0};
    for (size_t g = 0; g < e->n_groups; g++) {
        size_t c = g * e->p.group, n = e->cols - c < e->p.group ? e->cols - c : e->p.group;
        float top = load_group(w + c, a ? a + c : NULL, n, inv_unit, x, imp);
        if (top < NEGLIGIBLE) continue;
        float best[MAX_PHASES];
        for (int k = 0; k < phases; k++) best[k] = INFINITY;
        float per_octave = STEPS_PER_OCTAVE * (float)phases;
        int first = (int)fmaxf(0, ceilf(per_octave * log2f(s_top / largest(top, e->p.bits))));
        for (int k = first; k < first + useful_steps(e->p.bits) * phases; k += 8) {
            float s[8], err[8];
            for (int j = 0; j < 8; j++) s[j] = s_top * exp2f(-(float)(k + j) / per_octave);
            for (int z = 0; z < N_Z; z++) {
                try_scales(x, imp, n, s, z, e->p.bits, err);
                for (int j = 0; j < 8; j++) {
                    int phase = (k + j) % phases;
                    if (err[j] < best[phase]) best[phase] = err[j];
                }
            }
        }
        for (int k = 0; k < phases; k++) total[k] += best[k] < INFINITY ? best[k] : 0;
    }
    int at = 0;
    for (int k = 1; k < phases; k++)
        if (total[k] < total[at]) at = k;
    return at;
}

static void begin(void *enc, const float *w, size_t ldw, const float *a) {
    int_enc *e = enc;
    for (size_t r = 0; r < e->n_rows; r++) {
        const float *row = w + r * ldw;
        float top = search_absmax(row, e->cols), unit = search_unit(top), s_top = cover(top / unit, e->p.bits);
        int phases = e->effort == SNUG_EFFORT_QUICK ? 1 : e->effort == SNUG_EFFORT_MAX ? MAX_PHASES : 2;
        int phase = phases == 1 || top == 0 ? 0 : best_phase(e, row, a, 1 / unit, s_top, phases);
        float d = s_top * exp2f(-(float)phase / (STEPS_PER_OCTAVE * (float)phases)) * unit;
        uint16_t bits = f32_to_bf16(d);
        e->d[r] = (bits & 0x7fff) >= 0x7f80 ? (uint16_t)0x7f7f : bits;
    }
}

/* The offset that puts the middle of the group's range on the middle of the codes, at the scale that just spans it. */
static int middle_z(const float *x, size_t n, unsigned bits) {
    float lo = x[0], hi = x[0];
    for (size_t i = 1; i < n; i++) lo = x[i] < lo ? x[i] : lo, hi = x[i] > hi ? x[i] : hi;
    float scale = (hi - lo) / (float)((1 << bits) - 1), z = scale > 0 ? (lo + hi) / 2 / scale / kern_int_offset_step(bits) : 0;
    return 4 + (int)lrintf(fminf(fmaxf(z, -4), N_Z - 5));
}

/* The best (e, z) of one group under d, all in the row's unit. Many codes leave little to search: in a hurry only offsets about the
 * middle are tried. */
static uint8_t best_pair(const float *x, const float *a, size_t n, float d, float top, unsigned bits, int effort) {
    if (!(d > 0) || top == 0) return ZERO;
    bool brief = effort == SNUG_EFFORT_QUICK && bits >= 6;
    int middle = brief ? middle_z(x, n, bits) : 0, z_from = brief && middle > 0 ? middle - 1 : 0, z_to = brief && middle < N_Z - 2 ? middle + 2 : N_Z;
    int steps = useful_steps(bits), first = 0, best_e = 0, best_z = 4;
    while (first < N_E - steps && d * kern_int_scale[first] > largest(top, bits)) first++;
    if (first > FINE) first--; /* a coarse step: the one above may be the better */
    float best = INFINITY, zero = 0;
    for (int from = first; from < first + steps; from += 8) {
        float s[8], err[8];
        for (int j = 0; j < 8; j++) s[j] = d * kern_int_scale[from + j];
        for (int z = z_from; z < z_to; z++) {
            try_scales(x, a, n, s, z, bits, err);
            for (int j = 0; j < 8; j++)
                if (err[j] < best) best = err[j], best_e = from + j, best_z = z;
        }
    }
    for (size_t i = 0; i < n; i++) zero += a[i] * x[i] * x[i];
    return zero <= best ? ZERO : (uint8_t)(best_e << 3 | best_z);
}

static void group(void *enc, size_t col0, size_t n, const float *w, size_t ldw, const float *a) {
    int_enc *e = enc;
    alignas(64) float x[MAX_GROUP], imp[MAX_GROUP];
    for (size_t c = 0; c < n; c += e->p.group) {
        size_t len = n - c < e->p.group ? n - c : e->p.group;
        for (size_t r = 0; r < e->n_rows; r++) {
            float d = bf16_to_f32(e->d[r]), unit = search_unit(d);
            float top = load_group(w + r * ldw + c, a ? a + c : NULL, len, 1 / unit, x, imp);
            e->meta[r * e->n_groups + (col0 + c) / e->p.group] =
                best_pair(x, imp, len, d / unit, top, e->p.bits, e->effort);
        }
    }
}

static void round_cols(void *enc, size_t col0, size_t n, const float *w, size_t ldw, float *w_hat, size_t ldh) {
    int_enc *e = enc;
    int lo = -(1 << (e->p.bits - 1)), hi = -lo - 1;
    for (size_t r = 0; r < e->n_rows; r++) {
        float d = bf16_to_f32(e->d[r]);
        int8_t *q = e->q + r * e->n_chunks * 32;
        for (size_t c = 0; c < n;) {
            size_t g = (col0 + c) / e->p.group, len = (g + 1) * e->p.group - (col0 + c);
            if (len > n - c) len = n - c;
            uint8_t meta = e->meta[r * e->n_groups + g];
            float s = d * kern_int_scale[meta >> 3], m = s * z_offset(meta & 7, e->p.bits);
            block_round_linear(len, w + r * ldw + c, s, m, true, lo, hi, q + col0 + c, w_hat ? w_hat + r * ldh + c : NULL);
            c += len;
            if (col0 + c == e->cols) { /* padding of the last chunk: nearest to 0 */
                static const float zeros[32];
                block_round_linear(e->n_chunks * 32 - e->cols, zeros, s, m, true, lo, hi, q + e->cols, NULL);
            }
        }
    }
}

static void pack(const void *enc, uint8_t *dst) {
    const int_enc *e = enc;
    const size_t row_bytes = (size_t)int_row_bytes(e->p, e->cols), head = 2 + e->n_groups;
    for (size_t r = 0; r < e->n_rows; r++, dst += row_bytes) {
        write_u16(dst, e->d[r]);
        memcpy(dst + 2, e->meta + r * e->n_groups, e->n_groups);
        for (size_t c = 0; c < e->n_chunks; c++) planes_pack(e->q + (r * e->n_chunks + c) * 32, e->p.bits, dst + head + c * 4 * e->p.bits);
    }
}

static uint16_t scale_cols(codec_params p) { return p.group; }

static float scale_of(const int_enc *e, size_t row, uint8_t meta) { return bf16_to_f32(e->d[row]) * kern_int_scale[meta >> 3]; }

static size_t neighbour(const void *enc, size_t row, size_t col, int k, float *w_hat, uint32_t *scales) {
    static const int8_t step[CODEC_NEIGHBOURS][2] = {{1, 0}, {-1, 0}, {0, 1}, {0, -1}, {1, 1}, {-1, -1}, {1, -1}, {-1, 1}};
    const int_enc *e = enc;
    const uint8_t meta = e->meta[row * e->n_groups + col / e->p.group];
    const int at = (meta >> 3) + step[k][0], z = (meta & 7) + step[k][1];
    const size_t n = e->cols - col < e->p.group ? e->cols - col : e->p.group;
    if (meta >> 3 == N_E || at < 0 || at >= N_E || z < 0 || z >= N_Z) return 0;
    const float s = scale_of(e, row, (uint8_t)(at << 3)), m = s * z_offset(z, e->p.bits);
    const int8_t *q = e->q + row * e->n_chunks * 32 + col;
    for (size_t i = 0; i < n; i++) w_hat[i] = s * (float)q[i] + m;
    *scales = (uint32_t)(at << 3 | z);
    return n;
}

static void rescale(void *enc, size_t row, size_t col, uint32_t scales) {
    int_enc *e = enc;
    e->meta[row * e->n_groups + col / e->p.group] = (uint8_t)scales;
}

const snug_codec codec_int = {
    .family = "int", .id = CODEC_ID_INT, .tile_rows = 1, .tile_cols = 1, .block_cols = 32, .act = CODEC_ACT_Q8, .caps = CODEC_TURNS, .ggml_type = -1,
    .menu = menu, .params_ok = params_ok, .bytes = bytes, .enc_bytes = enc_bytes, .group_cols = group_cols, .enc_init = enc_init,
    .begin = begin, .group = group, .round = round_cols,
    .scale_cols = scale_cols, .neighbour = neighbour, .rescale = rescale, .pack = pack,
    .decode = block_decode, .decode_add = block_decode_add, .panel_bytes = block_panel_bytes, .relay = block_relay, .scratch_bytes = block_scratch_bytes, .matmul = block_matmul,
};
