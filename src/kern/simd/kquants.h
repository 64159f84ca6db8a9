/* ggml's k-quants. The layouts are pictured in ref/kquants.c; codes come 32 at a time, because byte l of a 32-byte run holds
 * weight l of every chunk that the run covers. What a shift may bring in from the next byte is masked away. */
#include "kern/blocks.h"

/* Bit `from` of every byte moved to bit `to`. */
KERN_INLINE vi move_bit(vi v, int from, int to) {
    return v_and(from < to ? v_shl(v, to - from) : v_shr(v, from - to), 1 << to);
}
KERN_INLINE vi field(vi v, int shift, int mask) { return v_and(v_shr(v, shift), mask); }
KERN_INLINE void store_scaled(float *dst, float d, vf k) { f_store(dst, f_mul(f_set1(d), k)); }        /* d * k */
KERN_INLINE void store_offset(float *dst, float d, vf k) { f_store(dst, f_neg(f_mul(f_set1(d), k))); } /* -(d * k) */

void KERN_ISA(kern_q2_k_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += Q2_K_BYTES, q += 256, s += 16, m += 16) {
        float d = half(row + Q2_K_D), dmin = half(row + Q2_K_DMIN);
        for (int h = 0; h < 16; h += 8) {
            xi b = x_load(row + Q2_K_SCALES + h);
            store_scaled(s + h, d, f_of_bytes(x_and(b, 15)));
            store_offset(m + h, dmin, f_of_bytes(x_and(x_shr(b, 4), 15)));
        }
        for (int n = 0; n < 2; n++) {
            vi v = v_load(row + Q2_K_QS + 32 * n);
            v_store(q + 128 * n, field(v, 0, 3));
            v_store(q + 128 * n + 32, field(v, 2, 3));
            v_store(q + 128 * n + 64, field(v, 4, 3));
            v_store(q + 128 * n + 96, field(v, 6, 3));
        }
    }
}

/* The twelve scale bytes as words a, b, c: scales 4i..4i+3 are the nibbles i div 2 of word i mod 2, with pair i of word c
 * above them; four bytes at a time. */
KERN_INLINE void q3_k_scales(const uint8_t *p, float d, float *s) {
    uint32_t a = read_u32(p), b = read_u32(p + 4), c = read_u32(p + 8), nibbles = 0x0f0f0f0fu, pairs = 0x03030303u;
    uint32_t s0 = (a & nibbles) | (c & pairs) << 4, s1 = (b & nibbles) | (c >> 2 & pairs) << 4;
    uint32_t s2 = (a >> 4 & nibbles) | (c >> 4 & pairs) << 4, s3 = (b >> 4 & nibbles) | (c >> 6 & pairs) << 4;
    store_scaled(s, d, f_of_signed(x_sub(x_set(s0 | (uint64_t)s1 << 32), 32)));
    store_scaled(s + 8, d, f_of_signed(x_sub(x_set(s2 | (uint64_t)s3 << 32), 32)));
}

/* low | high << 2, less 4: the same as low - (high ? 0 : 4) */
KERN_INLINE void q3_k_chunk(int8_t *q, vi low, vi hmask, int j) {
    vi code = v_or(field(low, 2 * (j % 4), 3), move_bit(hmask, j, 2));
    v_store(q + 32 * j, v_sub(code, 4));
}

void KERN_ISA(kern_q3_k_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += Q3_K_BYTES, q += 256, s += 16) {
        q3_k_scales(row + Q3_K_SCALES, half(row + Q3_K_D), s);
        vi h = v_load(row + Q3_K_HMASK), v0 = v_load(row + Q3_K_QS), v1 = v_load(row + Q3_K_QS + 32);
        q3_k_chunk(q, v0, h, 0);
        q3_k_chunk(q, v0, h, 1);
        q3_k_chunk(q, v0, h, 2);
        q3_k_chunk(q, v0, h, 3);
        q3_k_chunk(q, v1, h, 4);
        q3_k_chunk(q, v1, h, 5);
        q3_k_chunk(q, v1, h, 6);
        q3_k_chunk(q, v1, h, 7);
    }
}

/* The twelve bytes as words a, b, c: four scales or offsets at a time. */
KERN_INLINE void scales_k4(const uint8_t *row, float *s, float *m) {
    const uint8_t *p = row + Q4_K_SCALES;
    uint32_t a = read_u32(p), b = read_u32(p + 4), c = read_u32(p + 8), six = 0x3f3f3f3fu, four = 0x0f0f0f0fu, two = 0x03030303u;
    uint64_t sc = (a & six) | (uint64_t)((c & four) | (a >> 6 & two) << 4) << 32;
    uint64_t mn = (b & six) | (uint64_t)((c >> 4 & four) | (b >> 6 & two) << 4) << 32;
    store_scaled(s, half(row + Q4_K_D), f_of_bytes(x_set(sc)));
    store_offset(m, half(row + Q4_K_DMIN), f_of_bytes(x_set(mn)));
}

void KERN_ISA(kern_q4_k_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += Q4_K_BYTES, q += 256, s += 8, m += 8) {
        scales_k4(row, s, m);
        for (int i = 0; i < 4; i++) {
            vi v = v_load(row + Q4_K_QS + 32 * i);
            v_store(q + 64 * i, field(v, 0, 15));
            v_store(q + 64 * i + 32, field(v, 4, 15));
        }
    }
}

KERN_INLINE void q5_k_pair(int8_t *q, const uint8_t *qs, vi qh, int i) {
    vi v = v_load(qs + 32 * i);
    v_store(q + 64 * i, v_or(field(v, 0, 15), move_bit(qh, 2 * i, 4)));
    v_store(q + 64 * i + 32, v_or(field(v, 4, 15), move_bit(qh, 2 * i + 1, 4)));
}

void KERN_ISA(kern_q5_k_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += Q5_K_BYTES, q += 256, s += 8, m += 8) {
        scales_k4(row, s, m);
        vi qh = v_load(row + Q5_K_QH);
        q5_k_pair(q, row + Q5_K_QS, qh, 0);
        q5_k_pair(q, row + Q5_K_QS, qh, 1);
        q5_k_pair(q, row + Q5_K_QS, qh, 2);
        q5_k_pair(q, row + Q5_K_QS, qh, 3);
    }
}

KERN_INLINE void q6_k_chunk(int8_t *q, vi low, vi high) { /* low 0..15, high: its bits 4 and 5 count */
    vi code = v_or(low, v_and(high, 0x30));
    v_store(q, v_sub(code, 32));
}

void KERN_ISA(kern_q6_k_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += Q6_K_BYTES, q += 256, s += 16) {
        float d = half(row + Q6_K_D);
        store_scaled(s, d, f_of_signed(x_load(row + Q6_K_SCALES)));
        store_scaled(s + 8, d, f_of_signed(x_load(row + Q6_K_SCALES + 8)));
        for (int n = 0; n < 2; n++) {
            vi v0 = v_load(row + Q6_K_QL + 64 * n), v1 = v_load(row + Q6_K_QL + 64 * n + 32);
            vi h = v_load(row + Q6_K_QH + 32 * n);
            q6_k_chunk(q + 128 * n, field(v0, 0, 15), v_shl(h, 4));
            q6_k_chunk(q + 128 * n + 32, field(v1, 0, 15), v_shl(h, 2));
            q6_k_chunk(q + 128 * n + 64, field(v0, 4, 15), h);
            q6_k_chunk(q + 128 * n + 96, field(v1, 4, 15), v_shr(h, 2));
        }
    }
}
