/* Sparse and ternary rows to blocks of KERN_CODES. Codes are taken apart sixteen at a time, in the order in which they stand: each
 * fetched with the byte behind it, shifted by a multiplication. A chunk's are then brought to their places by a shuffle whose
 * indices are the running counts of the mask's bits, sums over one, two, four and eight neighbours. */
#include "base/checked.h"
#include "kern/avx2/vec.h"
#include "kern/sparse.h"

enum { MAX_CODES = 24 * KERN_SPARSE_STEP, ROOM = 32 }; /* of a step; what loads may touch behind the last */

/* n codes of B bits at p to bytes: the sign of each and its magnitude's number, from 1 on (8 bits: q). Readable: ROOM bytes more; writes
 * whole sixteens. */
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

/* Fields of 2 bits to nibbles with one bit each: the fields are spread to nibbles first, halves of what is left by halves. */
KERN_INLINE uint32_t one_of_4(uint32_t x) {
    x = (x | x << 8) & 0x00ff00ff;
    x = (x | x << 4) & 0x0f0f0f0f;
    x = (x | x << 2) & 0x33333333;
    const uint32_t low = x & 0x11111111, high = x >> 1 & 0x11111111, both = low & high;
    return (~(low | high) & 0x11111111) | (low ^ both) << 1 | (high ^ both) << 2 | both << 3;
}

KERN_INLINE uint32_t mask_at(const kern_sparse *f, const uint8_t *masks, size_t c) {
    static const uint8_t two[64] = { /* of kern_2of4 */
        0x33, 0x35, 0x39, 0x36, 0x3a, 0x3c, 0x33, 0x33,
        0x53, 0x55, 0x59, 0x56, 0x5a, 0x5c, 0x53, 0x53,
        0x93, 0x95, 0x99, 0x96, 0x9a, 0x9c, 0x93, 0x93,
        0x63, 0x65, 0x69, 0x66, 0x6a, 0x6c, 0x63, 0x63,
        0xa3, 0xa5, 0xa9, 0xa6, 0xaa, 0xac, 0xa3, 0xa3,
        0xc3, 0xc5, 0xc9, 0xc6, 0xca, 0xcc, 0xc3, 0xc3,
        0x33, 0x35, 0x39, 0x36, 0x3a, 0x3c, 0x33, 0x33,
        0x33, 0x35, 0x39, 0x36, 0x3a, 0x3c, 0x33, 0x33,
    };
    if (f->mask == KERN_BITMAP) return read_u32(masks + 4 * c);
    if (f->mask == KERN_3_OF_4) return ~one_of_4(read_u16(masks + 2 * c));
    const uint8_t *p = masks + 3 * c;
    const uint32_t index = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
    return two[index & 63] | (uint32_t)two[index >> 6 & 63] << 8 | (uint32_t)two[index >> 12 & 63] << 16 | (uint32_t)two[index >> 18] << 24;
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

/* The first digits of bytes, less 1; the thirds of 256 are at 85.3 and 170.7. */
KERN_INLINE vi first_digits(vi x) {
    const vi one = _mm256_cmpeq_epi8(_mm256_max_epu8(x, bytes(86)), x), two = _mm256_cmpeq_epi8(_mm256_max_epu8(x, bytes(171)), x);
    return _mm256_sub_epi8(_mm256_sub_epi8(bytes(-1), one), two);
}
/* Chunk k of five */
KERN_INLINE vi trits_of_five(const uint8_t *p, size_t k) {
    vi x = v_load(p);
    for (; k > 0; k--) x = _mm256_add_epi8(x, _mm256_add_epi8(x, x));
    return first_digits(x);
}
KERN_INLINE vi trits_of_one(const uint8_t *p) {
    const __m128i x = load_i64(p), x3 = _mm_add_epi8(x, _mm_add_epi8(x, x));
    const vi two = _mm256_setr_m128i(_mm_unpacklo_epi64(x, x3), _mm_unpacklo_epi64(x, x3)), three = _mm256_add_epi8(two, _mm256_add_epi8(two, two));
    const vi nine = _mm256_add_epi8(three, _mm256_add_epi8(three, three));
    return first_digits(_mm256_permute2x128_si256(two, nine, 0x30)); /* x, 3 x, 9 x, 27 x */
}

void kern_sparse_unpack_avx2(const kern_sparse *f, const uint8_t *row, size_t n_chunks, size_t c0, size_t n, uint8_t *blocks) {
    const kern_sparse_layout l = kern_sparse_layout_of(f, n_chunks);
    const float d = bf16_to_f32(read_u16(row));
    const bool is_trits = f->mask == KERN_TRITS;
    const int log_cpg = f->group == 32 ? 0 : f->group == 64 ? 1 : 2;
    uint8_t stream[MAX_CODES + ROOM];
    int8_t v[MAX_CODES + ROOM];
    for (size_t from = c0; from < c0 + n; from += KERN_SPARSE_STEP) {
        const size_t to = from + KERN_SPARSE_STEP < c0 + n ? from + KERN_SPARSE_STEP : c0 + n;
        if (!is_trits) {
            const size_t n_codes = (to - from) * f->kept;
            memcpy(stream, row + l.codes + from * f->kept * f->bits / 8, div_up(n_codes * f->bits, 8));
            take_apart_bits(stream, n_codes, f->bits, v);
        }
        for (size_t c = from, in_five = 0; c < to; c++, in_five = in_five == 4 ? 0 : in_five + 1, blocks += CODES_BYTES) {
            uint8_t *q = blocks + CODES_Q;
            int z;
            const float s = kern_sparse_scale(f, d, row + 2, c >> log_cpg, &z);
            memcpy(blocks, &s, sizeof s);
            if (!is_trits) v_store(q, codes_of(spread(mask_at(f, row + l.masks, c), f->kept, v + (c - from) * f->kept), f->bits, z));
            else if (c - in_five + 5 <= n_chunks) v_store(q, trits_of_five(row + l.codes + 32 * (c / 5), in_five));
            else v_store(q, trits_of_one(row + l.codes + 32 * (c / 5) + 8 * in_five));
        }
    }
}
