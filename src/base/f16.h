/* binary16 and bfloat16, by bits: exact in both directions, round to nearest even, NaN kept, denormals kept. Portable C;
 * the bulk conversions are kernels (kern/kern.h). */
#ifndef BASE_F16_H
#define BASE_F16_H
#include <stdint.h>
#include <string.h>

static inline float f32_from_bits(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }
static inline uint32_t f32_to_bits(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
static inline float bf16_to_f32(uint16_t h) { return f32_from_bits((uint32_t)h << 16); }
static inline uint16_t f32_to_bf16(float f) {
    uint32_t u = f32_to_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 64); /* quiet the NaN, keep its sign */
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}
static inline float f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = h >> 10 & 31, m = h & 0x3ffu;
    if (e == 31) return f32_from_bits(sign | 0x7f800000u | m << 13 | (m ? 0x400000u : 0));
    if (e == 0) { /* zero or denormal: m * 2^-24, exact in f32 */
        float f = (float)m * 0x1p-24f;
        return f32_from_bits(sign | f32_to_bits(f));
    }
    return f32_from_bits(sign | (e + 112) << 23 | m << 13);
}
static inline uint16_t f32_to_f16(float f) {
    uint32_t u = f32_to_bits(f), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (a >> 13 & 0x3ffu)); /* NaN */
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);                     /* rounds to infinity */
    if (a < 0x38800000u) { /* denormal or zero: a * 2^24 rounded to an integer, ties to even, by the f32 adder */
        float r = f32_from_bits(a) + 0.5f; /* 0.5 has ulp 2^-24: the low bits of the sum are the denormal's */
        return (uint16_t)(sign | (f32_to_bits(r) - 0x3f000000u));
    }
    return (uint16_t)(sign | ((a + 0xfffu + (a >> 13 & 1)) - 0x38000000u) >> 13);
}
static inline uint16_t read_u16(const void *p) { uint16_t v; memcpy(&v, p, 2); return v; }
static inline uint32_t read_u32(const void *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static inline uint64_t read_u64(const void *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline void write_u16(void *p, uint16_t v) { memcpy(p, &v, 2); }
static inline void write_u32(void *p, uint32_t v) { memcpy(p, &v, 4); }
#endif
