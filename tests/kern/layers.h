/* What stands between the matrices: norms, activations, softmax, RoPE, each at every level beside ref, and ref beside formulas in double precision.
 * Include after cmocka.h. */
#ifndef TESTS_KERN_LAYERS_H
#define TESTS_KERN_LAYERS_H
#include <math.h>
#include <string.h>

#include "cases.h"
#include "compare.h"
#include "kern/canon.h"

static bool rmsnorm_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    size_t n = pick(r, 0, chance(r, 8) ? 3000 : 80);
    float *x = new_floats(p, r, n, any_kind(r)), *gain = new_floats(p, r, n, any_kind(r));
    float *a = pool_new(p, 4 * n), *b = twin(p, x, n);
    ref->rmsnorm(x, gain, 1e-5f, n, a);
    t->rmsnorm(b, gain, 1e-5f, n, b); /* in place */
    return same_floats("rmsnorm", a, b, n);
}
static bool add_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    size_t n = pick(r, 0, 80);
    float *x = new_floats(p, r, n, any_kind(r)), *a = new_floats(p, r, n, any_kind(r)), *b = twin(p, a, n);
    ref->add(a, x, n);
    t->add(b, x, n);
    return same_floats("add", a, b, n);
}
/* Arguments over the whole useful range of exp, or of any kind. */
static void spread(rng *r, float *x, size_t n) {
    if (chance(r, 2))
        for (size_t i = 0; i < n; i++) x[i] = (float)(rng_uniform(r) * 240 - 120);
}
static bool gelu_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    const size_t n = pick(r, 0, 80);
    float *a = new_floats(p, r, n, any_kind(r));
    spread(r, a, n);
    float *b = twin(p, a, n);
    ref->gelu(a, n);
    t->gelu(b, n);
    return same_floats("gelu", a, b, n);
}
static bool softcap_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    const size_t n = pick(r, 0, 80);
    const float cap = (float)(0.5 + 60 * rng_uniform(r));
    float *a = new_floats(p, r, n, any_kind(r));
    spread(r, a, n);
    float *b = twin(p, a, n);
    ref->softcap(a, n, cap);
    t->softcap(b, n, cap);
    return same_floats("softcap", a, b, n);
}
static bool recur_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    const size_t rows = pick(r, 0, 5), n = pick(r, 1, 80);
    const float decay = (float)rng_uniform(r);
    float *from = new_floats(p, r, rows * n, any_kind(r)), *b = new_floats(p, r, n, any_kind(r)), *c = new_floats(p, r, n, any_kind(r)), *y = new_floats(p, r, rows, any_kind(r));
    float *to = twin(p, from, rows * n), *other = twin(p, from, rows * n), *y2 = twin(p, y, rows);
    ref->recur(from, to, rows, n, decay, b, c, y);
    t->recur(other, other, rows, n, decay, b, c, y2); /* in its place */
    return same_floats("recur's states", to, other, rows * n) && same_floats("recur", y, y2, rows);
}
static bool silu_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    size_t n = pick(r, 0, 80);
    float *up = new_floats(p, r, n, any_kind(r)), *a = new_floats(p, r, n, any_kind(r));
    spread(r, a, n);
    float *b = twin(p, a, n);
    ref->silu_mul(a, up, n);
    t->silu_mul(b, up, n);
    return same_floats("silu_mul", a, b, n);
}
static bool hadamard_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    size_t block = (size_t)16 << rng_below(r, 4), n = block * pick(r, 0, 6);
    float *a = new_floats(p, r, n, any_kind(r));
    float *b = twin(p, a, n);
    ref->hadamard(a, n, block);
    t->hadamard(b, n, block);
    return same_floats("hadamard", a, b, n);
}
static bool softmax_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    size_t n = pick(r, 0, chance(r, 8) ? 3000 : 80);
    float *a = new_floats(p, r, n, any_kind(r));
    spread(r, a, n);
    if (n && chance(r, 4)) a[rng_below(r, (uint32_t)n)] = -INFINITY;
    if (n && chance(r, 8)) a[rng_below(r, (uint32_t)n)] = chance(r, 2) ? NAN : INFINITY;
    float *b = twin(p, a, n), la = ref->softmax(a, n), lb = t->softmax(b, n);
    return same_floats("softmax", a, b, n) && same_floats("log-sum-exp", &la, &lb, 1);
}
static bool rope_case(rng *r, pool *p, const kern_table *ref, const kern_table *t) {
    size_t half_dim = pick(r, 0, 70);
    bool interleaved = chance(r, 2);
    float *cs = new_floats(p, r, 2 * half_dim, any_kind(r)), *a = new_floats(p, r, 2 * half_dim, any_kind(r));
    float *b = twin(p, a, 2 * half_dim);
    ref->rope(a, half_dim, cs, interleaved);
    t->rope(b, half_dim, cs, interleaved);
    return same_floats("rope", a, b, 2 * half_dim);
}

static void layers_equal_ref(void **state) {
    check("rmsnorm", 400, rounds, rmsnorm_case);
    check("add", 401, rounds, add_case);
    check("silu_mul", 402, rounds, silu_case);
    check("gelu", 405, rounds, gelu_case);
    check("softcap", 407, rounds, softcap_case);
    check("recur", 408, rounds, recur_case);
    check("hadamard", 406, rounds, hadamard_case);
    check("softmax", 403, 2 * rounds, softmax_case);
    check("rope", 404, rounds, rope_case);
}

static void exp_is_within_one_ulp(void **state) {
    double worst = 0;
    for (float x = -104.5f; x < 89.5f; x += 0.00037f) {
        double want = exp((double)x), ulp = fmax(ldexp(1, ilogb(want) - 23), 0x1p-149);
        float got = canon_expf(x);
        if (want > (double)3.4028235e38f) assert_true(got > 3.4028e38f);
        else worst = fmax(worst, fabs((double)got - want) / ulp);
    }
    assert_true(worst < 1);
    assert_true(canon_expf(0) == 1 && canon_expf(-INFINITY) == 0 && isinf(canon_expf(INFINITY)) && isnan(canon_expf(NAN)));
}

static void layers_equal_formulas(void **state) {
    enum { N = 75 };
    rng r;
    rng_seed(&r, seed, 405);
    for (int i = 0; i < 100; i++) {
        float x[N], gain[N], out[N], y[N];
        fill_floats(&r, x, N, V_NORMAL);
        fill_floats(&r, gain, N, V_NORMAL);
        double square = 0, sum = 0;
        for (int k = 0; k < N; k++) square += (double)x[k] * (double)x[k], sum += exp(8 * (double)x[k]);
        kern()->rmsnorm(x, gain, 1e-5f, N, out);
        for (int k = 0; k < N; k++)
            assert_true(near("rmsnorm", (double)x[k] / sqrt(square / N + 1e-5) * (double)gain[k], (double)out[k],
                             fabs((double)out[k]) + 1e-30, 1e-6));
        for (int k = 0; k < N; k++) y[k] = 8 * x[k];
        float lse = kern()->softmax(y, N);
        assert_true(near("log-sum-exp", log(sum), (double)lse, 1 + fabs(log(sum)), 1e-6));
        for (int k = 0; k < N; k++) {
            double want = exp(8 * (double)x[k]) / sum;
            assert_true(near("softmax", want, (double)y[k], want, 5e-6)); /* x - max rounds at 2^-19 */
        }
        memcpy(y, x, sizeof y);
        kern()->silu_mul(y, gain, N);
        for (int k = 0; k < N; k++) {
            double want = (double)x[k] / (1 + exp(-(double)x[k])) * (double)gain[k];
            assert_true(near("silu_mul", want, (double)y[k], fabs(want) + 1e-30, 1e-6));
        }
        memcpy(y, x, sizeof y);
        kern()->gelu(y, N);
        for (int k = 0; k < N; k++) {
            const double v = (double)x[k], want = 0.5 * v * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (v + 0.044715 * v * v * v)));
            assert_true(near("gelu", want, (double)y[k], fabs(want) + 1e-30, 2e-6));
        }
        memcpy(y, x, sizeof y);
        kern()->softcap(y, N, 1.5f);
        for (int k = 0; k < N; k++) assert_true(near("softcap", 1.5 * tanh((double)x[k] / 1.5), (double)y[k], 1, 1e-6));
        float rows[2 * N], products[2] = {gain[0], gain[1]};
        for (int k = 0; k < 2 * N; k++) rows[k] = x[k % N] + (float)(k / N);
        kern()->recur(rows, rows, 2, N, 0.75f, gain, x, products);
        for (int h = 0; h < 2; h++) {
            double want = 0, size = 0;
            for (int k = 0; k < N; k++) {
                const double to = 0.75 * ((double)x[k] + h) + (double)gain[h] * (double)gain[k];
                want += to * (double)x[k], size += fabs(to * (double)x[k]);
                assert_true(near("recur's state", to, (double)rows[h * N + k], 1 + fabs(to), 1e-6));
            }
            assert_true(near("recur", want, (double)products[h], size, 1e-6));
        }
        for (int interleaved = 0; interleaved < 2; interleaved++) {
            enum { HALF = 18 };
            float cs[2 * HALF];
            for (int k = 0; k < HALF; k++) cs[k] = cosf(x[k]), cs[HALF + k] = sinf(x[k]);
            memcpy(y, x + 30, 2 * HALF * sizeof *y);
            kern()->rope(y, HALF, cs, interleaved);
            for (int k = 0; k < HALF; k++) {
                int ia = interleaved ? 2 * k : k, ib = interleaved ? ia + 1 : k + HALF;
                double a = (double)x[30 + ia], b = (double)x[30 + ib], c = (double)cs[k], s = (double)cs[HALF + k];
                assert_true(near("rope", a * c - b * s, (double)y[ia], fabs(a) + fabs(b), 2e-7));
                assert_true(near("rope", a * s + b * c, (double)y[ib], fabs(a) + fabs(b), 2e-7));
            }
        }
    }
}

#endif
