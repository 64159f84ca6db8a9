/* intBgG: planes of 4, 2 and 1 bits spread over 32 bytes by a broadcast and a variable shift; scales eight groups at a time, then repeated for the chunks of each group. */
#include "base/checked.h"
#include "kern/avx2/avx2.h"
#include "kern/blocks.h"

/* Stores v[perm] for the chunks c .. c+7, or those of them below n_chunks. */
KERN_INLINE void store_chunks(float *dst, size_t c, size_t n_chunks, __m256 v, __m256i perm) {
    v = _mm256_permutevar8x32_ps(v, perm);
    if (c + 8 <= n_chunks) {
        _mm256_storeu_ps(dst + c, v);
    } else if (c < n_chunks) {
        float t[8];
        _mm256_storeu_ps(t, v);
        memcpy(dst + c, t, (n_chunks - c) * sizeof *dst);
    }
}

/* E[e] is gathered from its table of 32.
 * Eight meta bytes are loaded even when fewer groups remain: at least 8 bytes of codes follow them. */
KERN_INLINE void scales(const uint8_t *meta, size_t n_chunks, size_t chunks_per_group, float d, float step, float *s, float *m) {
    const __m256i i = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const int log_cpg = chunks_per_group == 1 ? 0 : chunks_per_group == 2 ? 1 : 2;
    for (size_t c = 0; c < n_chunks; c += 8 * chunks_per_group, meta += 8) {
        __m256i b = _mm256_cvtepu8_epi32(load_i64(meta)), e = _mm256_srli_epi32(b, 3);
        __m256 scale = _mm256_mul_ps(_mm256_set1_ps(d), _mm256_i32gather_ps(kern_int_scale, e, 4));
        __m256i z = _mm256_sub_epi32(_mm256_and_si256(b, _mm256_set1_epi32(7)), _mm256_set1_epi32(4));
        __m256 offset = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(z), _mm256_set1_ps(step)), _mm256_set1_ps(0.5f));
        offset = _mm256_mul_ps(scale, offset);
        for (size_t k = 0; k < chunks_per_group; k++) { /* chunk 8k + j takes group (8k + j) >> log_cpg */
            __m256i perm = _mm256_srli_epi32(_mm256_add_epi32(i, _mm256_set1_epi32((int)(8 * k))), log_cpg);
            store_chunks(s, c + 8 * k, n_chunks, scale, perm);
            store_chunks(m, c + 8 * k, n_chunks, offset, perm);
        }
    }
}

KERN_INLINE __m256i plane4(const uint8_t *p) {
    const __m256i shift = _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4);
    return _mm256_and_si256(_mm256_srlv_epi32(_mm256_broadcastsi128_si256(load_i128(p)), shift), bytes(15));
}
KERN_INLINE __m256i plane2(const uint8_t *p) {
    const __m256i shift = _mm256_setr_epi64x(0, 2, 4, 6);
    return _mm256_and_si256(_mm256_srlv_epi64(_mm256_set1_epi64x((int64_t)read_u64(p)), shift), bytes(3));
}
KERN_INLINE __m256i plane1(const uint8_t *p) {
    const __m256i shift = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32((int)read_u32(p)), shift), bytes(1));
}

KERN_INLINE void unpack(const uint8_t *row, size_t n_chunks, uint32_t group, int bits, int8_t *q, float *s, float *m) {
    const size_t chunks_per_group = group / 32, n_groups = div_up(n_chunks, chunks_per_group);
    const float d = bf16_to_f32(read_u16(row)), step = kern_int_offset_step((unsigned)bits);
    const uint8_t *meta = row + 2, *p = meta + n_groups;
    scales(meta, n_chunks, chunks_per_group, d, step, s, m);
#pragma GCC unroll 4
    for (size_t c = 0; c < n_chunks; c++, q += 32, p += 4 * bits) {
        __m256i code = _mm256_setzero_si256();
        const uint8_t *p2 = p + (bits & 4 ? 16 : 0), *p1 = p2 + (bits & 2 ? 8 : 0);
        const int shift2 = bits & 4 ? 4 : 0, shift1 = shift2 + (bits & 2 ? 2 : 0);
        if (bits == 8) code = load_i(p);
        if (bits & 4) code = plane4(p);
        if (bits & 2) code = _mm256_or_si256(code, _mm256_slli_epi16(plane2(p2), shift2));
        if (bits & 1) code = _mm256_or_si256(code, _mm256_slli_epi16(plane1(p1), shift1));
        store_i(q, _mm256_sub_epi8(code, bytes(1 << (bits - 1))));
    }
}

void kern_int2_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    unpack(row, n_chunks, group, 2, q, s, m);
}
void kern_int3_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    unpack(row, n_chunks, group, 3, q, s, m);
}
void kern_int4_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    unpack(row, n_chunks, group, 4, q, s, m);
}
void kern_int5_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    unpack(row, n_chunks, group, 5, q, s, m);
}
void kern_int6_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    unpack(row, n_chunks, group, 6, q, s, m);
}
void kern_int7_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    unpack(row, n_chunks, group, 7, q, s, m);
}
void kern_int8_unpack_avx2(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    unpack(row, n_chunks, group, 8, q, s, m);
}
