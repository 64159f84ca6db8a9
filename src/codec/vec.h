/* Eight floats at a time in portable C, for the encoders' searches: GCC/clang vector extensions, compiled a second time for
 * AVX2 by VEC_CLONES where the compiler can choose at load time. No fused multiply-add and no reassociation anywhere
 * (-ffp-contract=off, explicit lanes), so both compilations give the same bits and the encoder's output never depends on
 * the CPU.
 *
 * The searches run with lanes = candidates (eight scales tried on the same weights), not lanes = weights: no sums across
 * lanes, and short sub-blocks of 16 weights cost no tail. */
#ifndef CODEC_VEC_H
#define CODEC_VEC_H
#include <stdint.h>
#include <string.h>

typedef float v8f __attribute__((vector_size(32)));
typedef int32_t v8i __attribute__((vector_size(32)));

/* Everything inline: a 32-byte vector never crosses a call, so the ABI note does not apply. */
#if defined(__GNUC__) /* clang too */
#pragma GCC diagnostic ignored "-Wpsabi"
#endif
#define VEC_INLINE static inline __attribute__((always_inline))

/* Only for static functions: gcc exports what it clones, whatever the visibility. ifunc resolvers run before the sanitizers are
 * ready, so their builds have one compilation only. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define VEC_CLONES __attribute__((target_clones("avx2", "default"), noinline))
#else
#define VEC_CLONES __attribute__((noinline))
#endif

VEC_INLINE v8f v8_set(float x) { return (v8f){x, x, x, x, x, x, x, x}; }
VEC_INLINE v8f v8_load(const float *p) { v8f v; memcpy(&v, p, sizeof v); return v; }
VEC_INLINE void v8_store(float *p, v8f v) { memcpy(p, &v, sizeof v); }
VEC_INLINE v8f v8_select(v8i mask, v8f a, v8f b) { return (v8f)(((v8i)a & mask) | ((v8i)b & ~mask)); }
VEC_INLINE v8f v8_min(v8f a, v8f b) { return v8_select(a < b, a, b); }
VEC_INLINE v8f v8_max(v8f a, v8f b) { return v8_select(a > b, a, b); }
VEC_INLINE v8f v8_abs(v8f a) { return (v8f)((v8i)a & 0x7fffffff); }
/* Nearest integer, ties to even, for |x| < 2^22; larger values stay larger than any code, which the clamp after it needs. */
VEC_INLINE v8f v8_rint(v8f x) { return (x + 12582912.0f) - 12582912.0f; }
/* The same for one number. */
static inline float rint_magic(float x) { return (x + 12582912.0f) - 12582912.0f; }
VEC_INLINE v8f v8_clamp_rint(v8f x, v8f lo, v8f hi) { return v8_rint(v8_min(v8_max(x, lo), hi)); }
/* table[index mod 8], lane by lane: one instruction with AVX2. */
VEC_INLINE v8f v8_permute(v8f table, v8i index) {
#if defined(__clang__)
    v8f out = table;
    for (int i = 0; i < 8; i++) out[i] = table[index[i] & 7];
    return out;
#else
    return __builtin_shuffle(table, index);
#endif
}
/* Fixed tree, so that the sum never depends on the compilation. */
VEC_INLINE float v8_sum(v8f v) {
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}
#endif
