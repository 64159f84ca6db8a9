// rooms: base
/* binary16 and bfloat16, exhaustively one way, and by random numbers, ties and neighbours the other way. The reference is built
 * from the definition with double arithmetic, and beside it the processor's own instructions (F16C) where there are any. */
#include "base/cpu.h"
#include "base/f16.h"
#include "base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#if defined(__x86_64__)
#include <immintrin.h>
__attribute__((target("f16c"))) static uint16_t hw_to_f16(float f) { return (uint16_t)_mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(f), 0), 0); }
__attribute__((target("f16c"))) static float hw_to_f32(uint16_t h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); }
static int has_hw(void) { return __builtin_cpu_supports("avx2"); } /* every such processor has F16C */
#else
static uint16_t hw_to_f16(float f) { return 0; }
static float hw_to_f32(uint16_t h) { return 0; }
static int has_hw(void) { return 0; }
#endif

static int is_nan16(uint16_t h) { return (h & 0x7fff) > 0x7c00; }

/* Value by definition: sign, 5 exponent bits (bias 15), 10 mantissa bits. */
static double value16(uint16_t h) {
    int e = h >> 10 & 31, m = h & 0x3ff;
    double v = e == 31 ? INFINITY : e == 0 ? ldexp(m, -24) : ldexp(1024 + m, e - 25);
    return h & 0x8000 ? -v : v;
}

static void every_f16_round_trips(void **state) {
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t h = (uint16_t)i;
        float f = f16_to_f32(h);
        if (is_nan16(h)) {
            assert_true(isnan(f));
            assert_int_equal(f32_to_f16(f), h | 0x200); /* a signalling NaN comes back quiet, its payload kept */
        } else {
            assert_true((double)f == value16(h));
            assert_int_equal(signbit(f) != 0, h >> 15);
            assert_int_equal(f32_to_f16(f), h);
        }
        if (has_hw()) assert_int_equal(f32_to_bits(f), f32_to_bits(hw_to_f32(h)));
    }
}

static void every_bf16_round_trips(void **state) {
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t h = (uint16_t)i;
        float f = bf16_to_f32(h);
        assert_int_equal(f32_to_bits(f), i << 16);
        assert_int_equal(f32_to_bf16(f), isnan(f) ? h | 0x40 : h);
    }
}

/* Nearest binary16, ties to even, searched among the two neighbours: slow and plain. */
static uint16_t reference16(float f) {
    uint16_t sign = signbit(f) ? 0x8000 : 0;
    double a = fabs((double)f);
    uint16_t lo = 0, hi = 0x7c00; /* the largest code whose value is <= a, by bisection over the ordered codes */
    while (hi - lo > 1) {
        uint16_t mid = (uint16_t)((lo + hi) / 2);
        if (value16(mid) <= a) lo = mid;
        else hi = mid;
    }
    double above = hi == 0x7c00 ? 65536.0 : value16(hi); /* infinity rounds as if the next binade went on */
    double down = a - value16(lo), up = above - a;
    return sign | (down < up || (down == up && (lo & 1) == 0) ? lo : hi);
}

static void check16(float f) {
    uint16_t got = f32_to_f16(f);
    if (isnan(f)) {
        assert_true(is_nan16(got) && (got & 0x200));
    } else {
        assert_int_equal(got, reference16(f));
    }
    if (has_hw()) assert_int_equal(got, hw_to_f16(f));
}

static void rounding_to_f16(void **state) {
    rng r;
    rng_seed(&r, 1, 0);
    for (uint32_t h = 0; h < 0x7c00; h++) { /* every tie between neighbours, and the floats on both sides of it */
        double next = h + 1 == 0x7c00 ? 65536.0 : value16((uint16_t)(h + 1));
        float tie = (float)((value16((uint16_t)h) + next) / 2);
        const float around[] = {tie, nextafterf(tie, 0), nextafterf(tie, INFINITY)};
        for (int k = 0; k < 3; k++) {
            check16(around[k]);
            check16(-around[k]);
        }
    }
    for (int i = 0; i < 400000; i++) check16(f32_from_bits((uint32_t)rng_next(&r)));                       /* any bits    */
    for (int i = 0; i < 400000; i++) check16(ldexpf(rng_normal(&r), (int)rng_below(&r, 44) - 28));         /* f16's range */
    const float special[] = {0.0f, -0.0f, INFINITY, -INFINITY, 65504.0f, 65519.996f, 65520.0f, 0x1p-24f, 0x1p-25f, 0x1.000002p-25f, 0x1p-149f};
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) check16(special[i]);
}

static void rounding_to_bf16(void **state) {
    rng r;
    rng_seed(&r, 2, 0);
    for (int i = 0; i < 1000000; i++) {
        uint32_t u = (uint32_t)rng_next(&r);
        if (i % 3 == 0) u = (u & 0xffff0000u) | 0x8000u; /* a tie */
        if ((u & 0x7fffffffu) > 0x7f800000u) {
            uint16_t h = f32_to_bf16(f32_from_bits(u));
            assert_true((h & 0x7fff) > 0x7f80 && h >> 15 == u >> 31);
            continue;
        }
        /* codes are ordered like the bits: nearest of floor and floor + 1, ties to even */
        uint32_t lo = u >> 16, rest = u & 0xffffu;
        uint32_t want = rest > 0x8000u || (rest == 0x8000u && (lo & 1)) ? lo + 1 : lo;
        assert_int_equal(f32_to_bf16(f32_from_bits(u)), want);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_f16_round_trips),
        cmocka_unit_test(every_bf16_round_trips),
        cmocka_unit_test(rounding_to_f16),
        cmocka_unit_test(rounding_to_bf16),
    };
    return cmocka_run_group_tests_name("base f16", tests, NULL, NULL);
}
