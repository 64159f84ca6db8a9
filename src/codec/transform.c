#include "codec/transform.h"

#include <string.h>

#include "codec/vec.h"
#include "kern/kern.h"

enum { MAX_BLOCK = 128, MIN_BLOCK = 16, WORD = 64 };

size_t transform_block(uint64_t cols) {
    size_t b = MAX_BLOCK;
    while (b >= MIN_BLOCK && cols % b) b /= 2;
    return cols && b >= MIN_BLOCK ? b : 0;
}

bool transform_takes(int transform, uint64_t cols) {
    return transform == TRANSFORM_NONE || (transform == TRANSFORM_HADAMARD && transform_block(cols));
}

uint64_t transform_adds(int transform, uint64_t cols) {
    uint64_t steps = 0;
    for (size_t b = transform == TRANSFORM_HADAMARD ? transform_block(cols) : 0; b > 1; b /= 2) steps++;
    return steps * cols;
}

/* 64 columns' signs: splitmix64's k-th output from 0. */
static uint64_t sign_bits(uint64_t k) {
    uint64_t z = (k + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

bool transform_negates(size_t j) { return sign_bits(j / WORD) >> j % WORD & 1; }

/* Eight at a time: widths that have a transform are multiples of 16. A byte of signs times 2^(31 - lane) has the lane's bit at the top. */
VEC_CLONES static void sign(size_t cols, const float *x, float *y) {
    typedef uint32_t lanes __attribute__((vector_size(32)));
    const lanes to_top = {1u << 31, 1u << 30, 1u << 29, 1u << 28, 1u << 27, 1u << 26, 1u << 25, 1u << 24};
    for (size_t j = 0; j < cols; j += WORD) {
        const uint64_t bits = sign_bits(j / WORD);
        for (size_t i = j; i < cols && i < j + WORD; i += 8) {
            lanes u;
            memcpy(&u, x + i, sizeof u);
            u ^= (uint32_t)(bits >> (i - j) & 0xff) * to_top & 0x80000000u;
            memcpy(y + i, &u, sizeof u);
        }
    }
}

void transform_apply(int transform, size_t cols, const float *x, float *y) {
    if (transform == TRANSFORM_HADAMARD) {
        sign(cols, x, y);
        kern()->hadamard(y, cols, transform_block(cols));
    } else if (y != x) memcpy(y, x, cols * sizeof *y);
}

void transform_undo(int transform, size_t cols, float *x) {
    if (transform != TRANSFORM_HADAMARD) return;
    kern()->hadamard(x, cols, transform_block(cols));
    sign(cols, x, x);
}

const char *transform_prefix(int transform) { return transform == TRANSFORM_HADAMARD ? "had:" : ""; }

uint16_t transform_parse(const char **name) {
    if (strncmp(*name, "had:", 4) != 0) return TRANSFORM_NONE;
    *name += 4;
    return TRANSFORM_HADAMARD;
}
