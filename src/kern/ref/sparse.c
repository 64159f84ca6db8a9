/* Sparse and ternary rows to blocks of KERN_CODES, as kern/kern.h and docs/format.md 3.5 define them. */
#include "base/f16.h"
#include "kern/ref/ref.h"
#include "kern/sparse.h"

/* The weights of chunk c that have codes, as bits. */
static uint32_t mask_of(const kern_sparse *f, const uint8_t *masks, size_t c) {
    uint32_t mask = 0;
    if (f->mask == KERN_BITMAP) {
        mask = read_u32(masks + 4 * c);
        uint32_t kept = 0, n = 0;
        for (unsigned i = 0; i < 32 && n < f->kept; i++)
            if (mask >> i & 1) kept |= 1u << i, n++;
        return kept;
    }
    const unsigned bits = f->mask == KERN_2_OF_4 ? 3 : 2;
    for (size_t i = 0; i < 8; i++) {
        const uint8_t *p = masks + bits * c;
        unsigned index = 0;
        for (unsigned b = 0; b < bits; b++) index |= (p[(bits * i + b) / 8] >> (bits * i + b) % 8 & 1u) << b;
        mask |= (uint32_t)(bits == 3 ? kern_2of4[index] : 15 & ~(1u << index)) << 4 * i;
    }
    return mask;
}

/* B bits from bit `at` of p on. */
static int code_at(const uint8_t *p, size_t at, unsigned bits) {
    unsigned c = 0;
    for (unsigned b = 0; b < bits; b++) c |= (p[(at + b) / 8] >> (at + b) % 8 & 1u) << b;
    return (int)c;
}

/* Codes of chunk c; z: the group's. */
static void codes(const kern_sparse *f, const uint8_t *row, kern_sparse_layout l, size_t c, int z, uint8_t *q) {
    const uint32_t mask = mask_of(f, row + l.masks, c);
    size_t at = c * f->kept * f->bits;
    for (unsigned i = 0; i < 32; i++) {
        int v = 0;
        if (mask >> i & 1) {
            v = kern_sparse_q(f->bits, z, code_at(row + l.codes, at, f->bits));
            at += f->bits;
        }
        q[i] = (uint8_t)v;
    }
}

void kern_sparse_unpack_ref(const kern_sparse *f, const uint8_t *row, size_t n_chunks, size_t c0, size_t n, uint8_t *blocks) {
    const kern_sparse_layout l = kern_sparse_layout_of(f, n_chunks);
    const float d = bf16_to_f32(read_u16(row));
    for (size_t c = c0; c < c0 + n; c++, blocks += CODES_BYTES) {
        int z;
        const float s = kern_sparse_scale(f, d, row + 2, c / (f->group / 32), &z);
        memcpy(blocks, &s, sizeof s);
        if (f->mask != KERN_TRITS) codes(f, row, l, c, z, blocks + CODES_Q);
        for (size_t i = 0; f->mask == KERN_TRITS && i < 32; i++) blocks[CODES_Q + i] = (uint8_t)kern_trit(row + l.codes, n_chunks, c, i);
    }
}
