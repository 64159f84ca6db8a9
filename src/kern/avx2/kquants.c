/* ggml's k-quants. The layouts are pictured in ref/kquants.c; codes come 32 at a time, because byte l of a 32-byte run holds
 * weight l of every chunk that the run covers. Byte shifts are 16-bit shifts with the neighbours' bits masked away. */
#include "kern/avx2/avx2.h"
#include "kern/blocks.h"

/* Bit `from` of every byte moved to bit `to`. */
KERN_INLINE __m256i move_bit(__m256i v, int from, int to) {
    v = from < to ? _mm256_slli_epi16(v, to - from) : _mm256_srli_epi16(v, from - to);
    return _mm256_and_si256(v, bytes(1 << to));
}
KERN_INLINE __m256i field(__m256i v, int shift, int mask) {
    return _mm256_and_si256(_mm256_srli_epi16(v, shift), bytes(mask));
}
KERN_INLINE void store_scaled(float *dst, float d, __m256i k) { /* d * k */
    _mm256_storeu_ps(dst, _mm256_mul_ps(_mm256_set1_ps(d), _mm256_cvtepi32_ps(k)));
}
KERN_INLINE void store_offset(float *dst, float d, __m256i k) { /* -(d * k) */
    __m256 v = _mm256_mul_ps(_mm256_set1_ps(d), _mm256_cvtepi32_ps(k));
    _mm256_storeu_ps(dst, _mm256_xor_ps(v, _mm256_set1_ps(-0.0f)));
}

void kern_q2_k_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += Q2_K_BYTES, q += 256, s += 16, m += 16) {
        float d = half(row + Q2_K_D), dmin = half(row + Q2_K_DMIN);
        __m128i b = load_i128(row + Q2_K_SCALES), nibble = _mm_set1_epi8(15);
        __m128i sc = _mm_and_si128(b, nibble), mn = _mm_and_si128(_mm_srli_epi16(b, 4), nibble);
        store_scaled(s, d, _mm256_cvtepu8_epi32(sc));
        store_scaled(s + 8, d, _mm256_cvtepu8_epi32(_mm_srli_si128(sc, 8)));
        store_offset(m, dmin, _mm256_cvtepu8_epi32(mn));
        store_offset(m + 8, dmin, _mm256_cvtepu8_epi32(_mm_srli_si128(mn, 8)));
        for (int n = 0; n < 2; n++) {
            __m256i v = load_i(row + Q2_K_QS + 32 * n);
            store_i(q + 128 * n, field(v, 0, 3));
            store_i(q + 128 * n + 32, field(v, 2, 3));
            store_i(q + 128 * n + 64, field(v, 4, 3));
            store_i(q + 128 * n + 96, field(v, 6, 3));
        }
    }
}

/* The twelve scale bytes as words a, b, c: scales 4i..4i+3 are the nibbles i div 2 of word i mod 2, with pair i of word c
 * above them; four bytes at a time. */
KERN_INLINE __m128i q3_k_scales(const uint8_t *p) {
    uint32_t a = read_u32(p), b = read_u32(p + 4), c = read_u32(p + 8), nibbles = 0x0f0f0f0fu, pairs = 0x03030303u;
    uint32_t s0 = (a & nibbles) | (c & pairs) << 4, s1 = (b & nibbles) | (c >> 2 & pairs) << 4;
    uint32_t s2 = (a >> 4 & nibbles) | (c >> 4 & pairs) << 4, s3 = (b >> 4 & nibbles) | (c >> 6 & pairs) << 4;
    __m128i v = _mm_set_epi64x((int64_t)(s2 | (uint64_t)s3 << 32), (int64_t)(s0 | (uint64_t)s1 << 32));
    return _mm_sub_epi8(v, _mm_set1_epi8(32));
}

/* low | high << 2, less 4: the same as low - (high ? 0 : 4) */
KERN_INLINE void q3_k_chunk(int8_t *q, __m256i low, __m256i hmask, int j) {
    __m256i code = _mm256_or_si256(field(low, 2 * (j % 4), 3), move_bit(hmask, j, 2));
    store_i(q + 32 * j, _mm256_sub_epi8(code, bytes(4)));
}

void kern_q3_k_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += Q3_K_BYTES, q += 256, s += 16) {
        float d = half(row + Q3_K_D);
        __m128i sc = q3_k_scales(row + Q3_K_SCALES);
        store_scaled(s, d, _mm256_cvtepi8_epi32(sc));
        store_scaled(s + 8, d, _mm256_cvtepi8_epi32(_mm_srli_si128(sc, 8)));
        __m256i h = load_i(row + Q3_K_HMASK), v0 = load_i(row + Q3_K_QS), v1 = load_i(row + Q3_K_QS + 32);
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
    store_scaled(s, half(row + Q4_K_D), _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)sc)));
    store_offset(m, half(row + Q4_K_DMIN), _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)mn)));
}

void kern_q4_k_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += Q4_K_BYTES, q += 256, s += 8, m += 8) {
        scales_k4(row, s, m);
        for (int i = 0; i < 4; i++) {
            __m256i v = load_i(row + Q4_K_QS + 32 * i);
            store_i(q + 64 * i, field(v, 0, 15));
            store_i(q + 64 * i + 32, field(v, 4, 15));
        }
    }
}

KERN_INLINE void q5_k_pair(int8_t *q, const uint8_t *qs, __m256i qh, int i) {
    __m256i v = load_i(qs + 32 * i);
    store_i(q + 64 * i, _mm256_or_si256(field(v, 0, 15), move_bit(qh, 2 * i, 4)));
    store_i(q + 64 * i + 32, _mm256_or_si256(field(v, 4, 15), move_bit(qh, 2 * i + 1, 4)));
}

void kern_q5_k_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += Q5_K_BYTES, q += 256, s += 8, m += 8) {
        scales_k4(row, s, m);
        __m256i qh = load_i(row + Q5_K_QH);
        q5_k_pair(q, row + Q5_K_QS, qh, 0);
        q5_k_pair(q, row + Q5_K_QS, qh, 1);
        q5_k_pair(q, row + Q5_K_QS, qh, 2);
        q5_k_pair(q, row + Q5_K_QS, qh, 3);
    }
}

KERN_INLINE void q6_k_chunk(int8_t *q, __m256i low, __m256i high) { /* low 0..15, high: its bits 4 and 5 count */
    __m256i code = _mm256_or_si256(low, _mm256_and_si256(high, bytes(0x30)));
    store_i(q, _mm256_sub_epi8(code, bytes(32)));
}

void kern_q6_k_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += Q6_K_BYTES, q += 256, s += 16) {
        float d = half(row + Q6_K_D);
        __m128i sc = load_i128(row + Q6_K_SCALES);
        store_scaled(s, d, _mm256_cvtepi8_epi32(sc));
        store_scaled(s + 8, d, _mm256_cvtepi8_epi32(_mm_srli_si128(sc, 8)));
        for (int n = 0; n < 2; n++) {
            __m256i v0 = load_i(row + Q6_K_QL + 64 * n), v1 = load_i(row + Q6_K_QL + 64 * n + 32);
            __m256i h = load_i(row + Q6_K_QH + 32 * n);
            q6_k_chunk(q + 128 * n, field(v0, 0, 15), _mm256_slli_epi16(h, 4));
            q6_k_chunk(q + 128 * n + 32, field(v1, 0, 15), _mm256_slli_epi16(h, 2));
            q6_k_chunk(q + 128 * n + 64, field(v0, 4, 15), h);
            q6_k_chunk(q + 128 * n + 96, field(v1, 4, 15), _mm256_srli_epi16(h, 2));
        }
    }
}
