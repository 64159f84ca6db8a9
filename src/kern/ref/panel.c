/* Dots with panels, as kern/panel.h and kern/kern.h define them: one row and token at a time. */
#include "kern/panel.h"

#include "base/checked.h"
#include "base/f16.h"
#include "kern/blocks.h"
#include "kern/ref/ref.h"

#include <math.h>

enum { ROWS = KERN_PANEL_ROWS };

/* One row's view of a panel's block. */
typedef struct view { const uint8_t *head; size_t r; } view;

static unsigned byte_at(view v, size_t at, size_t k) { return v.head[panel_field(at) + k * ROWS + v.r]; }
static uint16_t half_at(view v, size_t at) { return read_u16(v.head + panel_field(at) + 2 * v.r); }

/* Scale and offset of group g (of the row for the int family, else of the block). */
static void scale_of(kern_format f, uint32_t group, view v, size_t g, float *s, float *m) {
    float d = f >= KERN_INT2 ? bf16_to_f32(half_at(v, 0)) : f16_to_f32(half_at(v, 0));
    *m = 0;
    switch (f) {
    case KERN_CODES: memcpy(s, v.head + 4 * v.r, sizeof *s); return;
    case KERN_CODES16: memcpy(s, v.head + panel_field(4 * g) + 4 * v.r, sizeof *s); return;
    case KERN_CODES_MIN: memcpy(s, v.head + 4 * v.r, sizeof *s), memcpy(m, v.head + panel_field(4) + 4 * v.r, sizeof *m); return;
    case KERN_Q2_K: {
        unsigned b = byte_at(v, 4, g);
        *s = d * (float)(b & 15);
        *m = -(f16_to_f32(half_at(v, 2)) * (float)(b >> 4));
        return;
    }
    case KERN_Q3_K: {
        int x = (int)((byte_at(v, 2, g % 8) >> 4 * (g / 8) & 15) | (byte_at(v, 2, 8 + g % 4) >> 2 * (g / 4) & 3) << 4);
        *s = d * (float)(x - 32);
        return;
    }
    case KERN_Q4_K: case KERN_Q5_K: {
        unsigned sc = g < 4 ? byte_at(v, 4, g) & 63 : (byte_at(v, 4, g + 4) & 15) | byte_at(v, 4, g - 4) >> 6 << 4;
        unsigned mn = g < 4 ? byte_at(v, 4, g + 4) & 63 : byte_at(v, 4, g + 4) >> 4 | byte_at(v, 4, g) >> 6 << 4;
        *s = d * (float)sc;
        *m = -(f16_to_f32(half_at(v, 2)) * (float)mn);
        return;
    }
    case KERN_Q6_K: *s = d * (float)(int8_t)byte_at(v, 2, g); return;
    case KERN_IQ4_XS: {
        int x = (int)((byte_at(v, 4, g / 2) >> 4 * (g % 2) & 15) | (half_at(v, 2) >> 2 * g & 3u) << 4);
        *s = d * (float)(x - 32);
        return;
    }
    default: break;
    }
    *s = d;
    if (f < KERN_INT2) return;
    unsigned bits = panel_forms[f].bits, b = byte_at(v, 2, g);
    *s = d * kern_int_scale[b >> 3];
    *m = *s * (kern_int_offset(b & 7, bits, group) - (float)(1u << (bits - 1)));
}

/* Code of column i of the chunk at p, as the dots take it. */
static int code_of(const panel_form *f, const uint8_t *p, size_t r, unsigned i) {
    unsigned j = i / 4, u = 0, shift = 0;
    if (f->digits) { /* column i of the block at p */
        const tq1_place at = tq1_place_of(i);
        return (int)tq1_digit(p[64 * (at.byte / 4) + 4 * r + at.byte % 4], at.digit) - f->zero;
    }
    p += 4 * r + i % 4;
    if (f->bits == 8) u = p[64 * j];
    if (f->bits & 4) u = p[64 * (j % 4)] >> 4 * (j / 4) & 15, shift = 4, p += 256;
    if (f->bits & 2) u |= (p[64 * (j % 2)] >> 2 * (j / 2) & 3u) << shift, shift += 2, p += 128;
    if (f->bits & 1) u |= (p[0] >> j & 1u) << shift;
    return f->table ? kern_iq4_values[u] : (int)u - f->zero;
}

static void dot(kern_format f, const kern_panel_args *a) {
    const panel_form *p = &panel_forms[f];
    const bool is_int = p->block_chunks == 0;
    const uint32_t group = kern_int_group(a->group);
    const size_t per_chunk = 32 / p->group, block_chunks = is_int ? a->n_chunks : p->block_chunks;
    const size_t head = is_int ? 2 + div_up(32 * a->n_chunks, group) : p->head, block_bytes = head + (is_int ? 4 * p->bits * block_chunks : panel_code_bytes(*p));
    for (size_t t = 0; t < a->n_tokens; t++) {
        const kern_q8_place at = kern_q8_place_of(a->n_tokens, t);
        const int8_t *x = a->x.q + at.tile * a->x.ld + 4 * at.lane;
        const float *xs = a->x.scale + at.tile * (a->x.ld / 32) + at.lane;
        const float *sum = (p->group == 32 ? a->x.sum32 + at.tile * (a->x.ld / 32) : a->x.sum16 + at.tile * (a->x.ld / 16)) + at.lane;
        for (size_t r = 0; r < a->n_rows; r++) {
            float acc = 0, offset = 0;
            for (size_t g = 0; g < a->n_chunks * per_chunk; g++) {
                size_t c = g / per_chunk, in_block = c % block_chunks;
                view v = {a->panel + c / block_chunks * block_bytes * ROWS, r};
                const uint8_t *chunk = v.head + (head + (p->digits ? 0 : 4 * p->bits * in_block)) * ROWS;
                const unsigned first = p->digits ? 32 * (unsigned)in_block : 0;
                float s, m;
                scale_of(f, a->group, v, is_int ? 32 * c / group : g - c / block_chunks * block_chunks * per_chunk, &s, &m);
                int i = 0;
                for (unsigned k = (unsigned)(g % per_chunk) * 16, end = k + p->group; k < end; k++) i += code_of(p, chunk, r, first + k) * x[4 * at.width * (8 * c + k / 4) + k % 4];
                acc = fmaf(s * xs[c * at.width], (float)i, acc);
                if (p->has_min) offset = fmaf(m, xs[c * at.width] * sum[g * at.width], offset);
            }
            a->y[t * a->ldy + r] += p->has_min ? acc + offset : acc;
        }
    }
}

#define PANEL_DOT(name, format) \
    void kern_##name##_panel_dot_ref(const kern_panel_args *a) { dot(format, a); }
PANEL_DOT(q8_0, KERN_Q8_0)
PANEL_DOT(q4_0, KERN_Q4_0)
PANEL_DOT(iq4_nl, KERN_IQ4_NL)
PANEL_DOT(q2_k, KERN_Q2_K)
PANEL_DOT(q3_k, KERN_Q3_K)
PANEL_DOT(q4_k, KERN_Q4_K)
PANEL_DOT(q5_k, KERN_Q5_K)
PANEL_DOT(q6_k, KERN_Q6_K)
PANEL_DOT(iq4_xs, KERN_IQ4_XS)
PANEL_DOT(tq1_0, KERN_TQ1_0)
PANEL_DOT(tq2_0, KERN_TQ2_0)
PANEL_DOT(codes, KERN_CODES)
PANEL_DOT(codes16, KERN_CODES16)
PANEL_DOT(codes_min, KERN_CODES_MIN)
PANEL_DOT(int2, KERN_INT2)
PANEL_DOT(int3, KERN_INT3)
PANEL_DOT(int4, KERN_INT4)
PANEL_DOT(int5, KERN_INT5)
PANEL_DOT(int6, KERN_INT6)
PANEL_DOT(int7, KERN_INT7)
PANEL_DOT(int8, KERN_INT8)

/* ---- trellis codes, and codes by books ---- */

/* The levels of chunk c of row r; chunks come in order, from 0 on, and `walk` goes with them. */
typedef void (*levels)(const kern_panel_args *a, kern_tcq_walk *walk, size_t c, size_t r, int8_t q[32]);
static void tcq_chunk(const kern_panel_args *a, kern_tcq_walk *walk, size_t c, size_t r, int8_t q[32]) {
    if (c == 0) *walk = kern_tcq_begin(a->panel, a->group, a->n_chunks);
    kern_tcq_next(walk, r, q);
}
static void tcqf_chunk(const kern_panel_args *a, kern_tcq_walk *walk, size_t c, size_t r, int8_t q[32]) { kern_tcqf_chunk(a->panel, c, r, q); }
static void books_chunk(const kern_panel_args *a, kern_tcq_walk *walk, size_t c, size_t r, int8_t q[32]) {
    kern_books_chunk(a->panel, kern_books_of(a->group, a->books), a->group, c, r, q);
}

static void levels_dot(levels chunk, const kern_panel_args *a) {
    for (size_t r = 0; r < a->n_rows; r++)
        for (size_t t = 0; t < a->n_tokens; t++) {
            const kern_q8_place at = kern_q8_place_of(a->n_tokens, t);
            const int8_t *x = a->x.q + at.tile * a->x.ld + 4 * at.lane;
            const float *xs = a->x.scale + at.tile * (a->x.ld / 32) + at.lane;
            const float d = kern_trellis_d(a->panel, r);
            kern_tcq_walk walk;
            float acc = 0;
            for (size_t c = 0; c < a->n_chunks; c++) {
                int8_t q[32];
                int i = 0;
                chunk(a, &walk, c, r, q);
                for (size_t k = 0; k < 32; k++) i += q[k] * x[4 * at.width * (8 * c + k / 4) + k % 4];
                acc = fmaf(d * xs[c * at.width], (float)i, acc);
            }
            a->y[t * a->ldy + r] += acc;
        }
}

void kern_tcq_panel_dot_ref(const kern_panel_args *a) { levels_dot(tcq_chunk, a); }
void kern_tcqf_panel_dot_ref(const kern_panel_args *a) { levels_dot(tcqf_chunk, a); }
void kern_books_panel_dot_ref(const kern_panel_args *a) { levels_dot(books_chunk, a); }
