/* Sparse and ternary rows to blocks of KERN_CODES. Codes are taken apart sixteen at a time, in the order in which they stand: each
 * fetched with the byte behind it, shifted by a multiplication. A chunk's are then brought to their places by a shuffle whose
 * indices are the running counts of the mask's bits, sums over one, two, four and eight neighbours. */
#include "base/checked.h"
#include "kern/avx2/vec.h"
#include "kern/sparse.h"

enum { MAX_CODES = 24 * KERN_SPARSE_STEP, ROOM = 32 }; /* of a step; what loads may touch behind the last */

/* n codes of B bits at p to bytes: the sign of each and its magnitude's number, from 1 on (8 bits: q). Readable: ROOM bytes more; writes whole sixteens. */
KERN_INLINE void take_apart(const uint8_t *p, size_t n, unsigned bits, int8_t *v) {
    uint8_t index[32];
    uint16_t factor[16];
    for (unsigned i = 0; i < 16; i++) {
        const unsigned byte = i * bits / 8, down = i * bits % 8;
        index[2 * i] = (uint8_t)byte;
        index[2 * i + 1] = (uint8_t)(down + bits > 8 ? byte + 1 : 128); /* 128: zero */
        factor[i] = (uint16_t)(1u << (16 - bits - down));
    }
    const vi from = v_load(index), up = v_load(factor);
    for (size_t i = 0; i < n; i += 16, p += 2 * bits) {
        vi c = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_i128(p)), from);
        c = _mm256_srli_epi16(_mm256_mullo_epi16(c, up), 16 - (int)bits);
        c = _mm256_sub_epi16(c, _mm256_set1_epi16((short)(1 << (bits - 1))));
        if (bits < 8) c = _mm256_sub_epi16(c, _mm256_cmpgt_epi16(c, _mm256_set1_epi16(-1))); /* none is 0 */
        _mm_storeu_si128((__m128i *)(v + i), _mm_packs_epi16(_mm256_castsi256_si128(c), _mm256_extracti128_si256(c, 1)));
    }
}

static void take_apart_bits(const uint8_t *p, size_t n, unsigned bits, int8_t *v) {
    switch (bits) { /* each its own code */
    case 1: take_apart(p, n, 1, v); return;
    case 2: take_apart(p, n, 2, v); return;
    case 3: take_apart(p, n, 3, v); return;
    case 4: take_apart(p, n, 4, v); return;
    case 5: take_apart(p, n, 5, v); return;
    case 6: take_apart(p, n, 6, v); return;
    default: take_apart(p, n, 8, v); return;
    }
}

KERN_INLINE uint32_t mask_at(const kern_sparse *f, const uint8_t *masks, size_t c) {
    if (f->mask == KERN_BITMAP) return read_u32(masks + 4 * c);
    uint32_t mask = 0;
    if (f->mask == KERN_2_OF_4) {
        const uint8_t *p = masks + 3 * c;
        const uint32_t index = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
        for (int i = 0; i < 8; i++) mask |= (uint32_t)kern_2of4[index >> 3 * i & 7] << 4 * i;
        return mask;
    }
    const uint32_t index = read_u16(masks + 2 * c);
    for (int i = 0; i < 8; i++) mask |= 1u << (index >> 2 * i & 3) << 4 * i;
    return ~mask;
}

/* The first `kept` set bits' weights from v, in order, and 0 elsewhere. Readable: 32 bytes of v. */
KERN_INLINE vi spread(uint32_t mask, int kept, const int8_t *v) {
    const vi byte = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const vi bit = _mm256_set1_epi64x((int64_t)0x8040201008040201u);
    const vi set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)mask), byte), bit), bit);
    vi count = _mm256_sub_epi8(_mm256_setzero_si256(), set);
    count = _mm256_add_epi8(count, _mm256_slli_si256(count, 1)); /* within halves of 16 */
    count = _mm256_add_epi8(count, _mm256_slli_si256(count, 2));
    count = _mm256_add_epi8(count, _mm256_slli_si256(count, 4));
    count = _mm256_add_epi8(count, _mm256_slli_si256(count, 8));
    const int low = _mm256_extract_epi8(count, 15);
    const vi limit = _mm256_set_m128i(_mm_set1_epi8((char)(kept - low)), _mm_set1_epi8((char)kept));
    const vi taken = _mm256_andnot_si256(_mm256_cmpgt_epi8(count, limit), set);
    const vi index = v_or(_mm256_sub_epi8(count, bytes(1)), _mm256_andnot_si256(taken, bytes(128)));
    return _mm256_shuffle_epi8(_mm256_set_m128i(load_i128(v + low), load_i128(v)), index);
}

/* q of take_apart's bytes in grid z; 0 stays 0: less 1 it is an index that shuffles to 0. */
KERN_INLINE vi codes_of(vi v, unsigned bits, int z) {
    if (bits == 1 || bits == 8) return v;
    if (bits == 6) return _mm256_add_epi8(_mm256_add_epi8(v, v), _mm256_sign_epi8(bytes(4 * z - 1), v));
    const vi grid = _mm256_broadcastsi128_si256(load_i128(kern_sparse_grid[bits - 2][z]));
    return _mm256_sign_epi8(_mm256_shuffle_epi8(grid, _mm256_sub_epi8(_mm256_abs_epi8(v), bytes(1))), v);
}

/* Digit k of the bytes of five chunks, less 1; the thirds of 256 are at 85.3 and 170.7. */
KERN_INLINE vi trits(const uint8_t *p, size_t k) {
    vi x = v_load(p);
    for (; k > 0; k--) x = _mm256_add_epi8(x, _mm256_add_epi8(x, x));
    const vi one = _mm256_cmpeq_epi8(_mm256_max_epu8(x, bytes(86)), x), two = _mm256_cmpeq_epi8(_mm256_max_epu8(x, bytes(171)), x);
    return _mm256_sub_epi8(_mm256_sub_epi8(bytes(-1), one), two);
}

void kern_sparse_unpack_avx2(const kern_sparse *f, const uint8_t *row, size_t n_chunks, size_t c0, size_t n, uint8_t *blocks) {
    const kern_sparse_layout l = kern_sparse_layout_of(f, n_chunks);
    const float d = bf16_to_f32(read_u16(row));
    const bool is_trits = f->mask == KERN_TRITS;
    uint8_t stream[MAX_CODES + ROOM];
    int8_t v[MAX_CODES + ROOM];
    for (size_t from = c0; from < c0 + n; from += KERN_SPARSE_STEP) {
        const size_t to = from + KERN_SPARSE_STEP < c0 + n ? from + KERN_SPARSE_STEP : c0 + n;
        if (!is_trits) {
            const size_t n_codes = (to - from) * f->kept;
            memcpy(stream, row + l.codes + from * f->kept * f->bits / 8, div_up(n_codes * f->bits, 8));
            take_apart_bits(stream, n_codes, f->bits, v);
        }
        for (size_t c = from; c < to; c++, blocks += CODES_BYTES) {
            uint8_t *q = blocks + CODES_Q;
            int z;
            const float s = kern_sparse_scale(f, d, row + 2, c / (f->group / 32), &z);
            memcpy(blocks, &s, sizeof s);
            if (!is_trits) v_store(q, codes_of(spread(mask_at(f, row + l.masks, c), f->kept, v + (c - from) * f->kept), f->bits, z));
            else if (c / 5 * 5 + 5 <= n_chunks) v_store(q, trits(row + l.codes + 32 * (c / 5), c % 5));
            else
                for (size_t i = 0; i < 32; i++) q[i] = (uint8_t)kern_trit(row + l.codes, n_chunks, c, i);
        }
    }
}
