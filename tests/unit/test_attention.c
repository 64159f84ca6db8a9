// rooms: base format token kern codec kv model
/* Attention over the cache: against one softmax in double precision, and the same bits whatever the batch, the tiles
 * and the threads are. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/f16.h"
#include "base/rng.h"
#include "kern/kern.h"
#include "model/graph_impl.h"

enum { N_CTX = 2 * KERN_BLOCK + 70, BATCH = 90 };

typedef struct shape { uint32_t heads, kv_heads, head_dim, window; snug_kv type; uint32_t turned; /* of latent attention: dimensions that keys have beyond values */ bool shared; /* whose first ones are the values */ } shape;

static size_t value_dim(const shape *s) { return s->head_dim - s->turned; }
enum { LATENT_HEAD = 9 /* what its scores are scaled by */ };

static config config_of(const shape *s) {
    return (config){.n_layers = 1,
                    .n_embd = 64,
                    .n_heads = s->heads,
                    .n_kv_heads = s->kv_heads,
                    .head_dim = s->turned ? LATENT_HEAD : s->head_dim,
                    .kv_rank = s->turned ? s->head_dim - s->turned : 0,
                    .n_ff = 64,
                    .n_vocab = 10,
                    .rope_dims = s->turned ? s->turned : s->head_dim / 2 * 2,
                    .rope_base = 10000};
}

/* Keys, values and queries of all positions; numbers that f16 holds. Every other text has sinks. */
typedef struct text {
    shape s;
    float *k, *v, *q, *sinks; /* sinks (heads), or NULL */
    kv_pool *pool;
    kv_seq *kv;
} text;

static float *numbers(rng *r, size_t n) {
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = f16_to_f32(f32_to_f16(rng_normal(r)));
    return x;
}

static text new_text(const shape *s, uint64_t seed) {
    const size_t kv = (size_t)s->kv_heads * s->head_dim;
    kv_params kp = {1, s->kv_heads, s->head_dim, N_CTX, 1, s->type, (uint32_t)value_dim(s), s->shared, 0, 0};
    rng r;
    rng_seed(&r, 11, seed);
    text t = {.s = *s, .k = numbers(&r, N_CTX * kv), .v = numbers(&r, N_CTX * kv)};
    for (size_t i = 0; i < N_CTX * s->kv_heads && s->shared; i++) memcpy(t.v + i * value_dim(s), t.k + i * s->head_dim, value_dim(s) * sizeof *t.v);
    t.q = numbers(&r, (size_t)N_CTX * s->heads * s->head_dim);
    t.sinks = seed % 2 ? numbers(&r, s->heads) : NULL;
    assert_int_equal(kv_pool_create(&kp, &t.pool, NULL), SNUG_OK);
    assert_int_equal(kv_seq_create(t.pool, &t.kv, NULL), SNUG_OK);
    assert_int_equal(kv_reserve(t.kv, N_CTX, NULL), SNUG_OK);
    kv_append(t.kv, 0, 0, N_CTX, t.k, s->shared ? NULL : t.v);
    kv_commit(t.kv, N_CTX);
    return t;
}

static void free_text(text *t) {
    free(t->k), free(t->v), free(t->q), free(t->sinks);
    kv_pool_destroy(&t->pool);
}

/* Positions [begin, begin + n) of the text in batches of `batch`; out (n, heads * value_dim). */
static void attend(const text *t, int threads, uint32_t batch, uint32_t begin, uint32_t n, float *out) {
    const config c = config_of(&t->s);
    const graph_params gp = {.max_batch = batch, .n_ctx = N_CTX, .threads = threads};
    const size_t row = (size_t)t->s.heads * t->s.head_dim, dim = value_dim(&t->s);
    graph *g = NULL;
    graph_item items[BATCH];
    assert_int_equal(graph_create(&c, &gp, NULL, &g, NULL), SNUG_OK);
    for (uint32_t done = 0, now; done < n; done += now) {
        now = n - done < batch ? n - done : batch;
        for (uint32_t i = 0; i < now; i++) {
            items[i] = (graph_item){0, begin + done + i, t->kv};
            memcpy(g->q + i * g->q_ld, t->q + (begin + done + i) * row, row * sizeof *out);
        }
        graph_attend(g, 0, t->s.window, t->sinks, items, now);
        const size_t group = t->s.heads / graph_groups(g); /* whose results stand together */
        for (uint32_t i = 0; i < now; i++)
            for (size_t h = 0; h < t->s.heads; h++)
                memcpy(out + ((done + i) * t->s.heads + h) * dim, g->q + i * g->q_ld + h / group * group * t->s.head_dim + h % group * dim, dim * sizeof *out);
    }
    graph_destroy(&g);
}

/* One head of one position. */
static void expect(const text *t, uint32_t pos, uint32_t h, double *out) {
    const size_t hd = t->s.head_dim, dim = value_dim(&t->s), head = h / (t->s.heads / t->s.kv_heads);
    const float *q = t->q + ((size_t)pos * t->s.heads + h) * hd;
    uint32_t first = t->s.window && pos >= t->s.window ? pos - t->s.window + 1 : 0;
    double w[N_CTX], max = -INFINITY, sum = 0;
    for (uint32_t i = first; i <= pos; i++) {
        w[i] = 0;
        for (size_t d = 0; d < hd; d++) w[i] += (double)q[d] * (double)t->k[(i * t->s.kv_heads + head) * hd + d];
        w[i] /= sqrt((double)(t->s.turned ? LATENT_HEAD : hd));
        max = fmax(max, w[i]);
    }
    for (uint32_t i = first; i <= pos; i++) sum += w[i] = exp(w[i] - max);
    if (t->sinks) sum += exp((double)t->sinks[h] - max);
    for (size_t d = 0; d < dim; d++) {
        out[d] = 0;
        for (uint32_t i = first; i <= pos; i++) out[d] += w[i] / sum * (double)t->v[(i * t->s.kv_heads + head) * dim + d];
    }
}

static const shape shapes[] = {
    {8, 2, 64, 0, SNUG_KV_F16, 0, false},    {6, 6, 80, 0, SNUG_KV_F16, 0, false},  {14, 2, 43, 100, SNUG_KV_F16, 0, false}, {8, 1, 128, 0, SNUG_KV_F32, 0, false},  {3, 1, 8, 300, SNUG_KV_F32, 0, false},
    {40, 1, 32, 1, SNUG_KV_F16, 0, false},   {16, 8, 64, 257, SNUG_KV_F16, 0, false}, {1, 1, 1, 0, SNUG_KV_F32, 0, false},     {40, 1, 24, 0, SNUG_KV_F16, 8, false}, /* two groups of 20 */
    {40, 1, 24, 0, SNUG_KV_F16, 8, true}, {5, 1, 71, 100, SNUG_KV_F32, 4, true}, {16, 1, 86, 0, SNUG_KV_F16, 2, true},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void test_formula(void **state) {
    for (size_t i = 0; i < SHAPES; i++) {
        text t = new_text(&shapes[i], i);
        const size_t dim = value_dim(&t.s), row = t.s.heads * dim;
        float *out = malloc(N_CTX * row * sizeof *out);
        double want[128];
        attend(&t, 2, BATCH, 0, N_CTX, out);
        for (uint32_t pos = 0; pos < N_CTX; pos += 1 + pos / 9)
            for (uint32_t h = 0; h < t.s.heads; h++) {
                expect(&t, pos, h, want);
                for (size_t d = 0; d < dim; d++) assert_true(fabs(want[d] - (double)out[pos * row + h * dim + d]) < 3e-6);
            }
        free(out);
        free_text(&t);
    }
}

/* In one go on one thread; then in batches that end anywhere, and alone, on more threads. Five threads have more than
 * the KV heads can keep busy: blocks of a single position are then spread. */
static void test_same_bits(void **state) {
    static const struct { int threads; uint32_t batch; } how[] = {{1, 1}, {5, 1}, {1, 2}, {2, 7}, {5, 33}, {2, BATCH}};
    for (size_t i = 0; i < SHAPES; i++) {
        text t = new_text(&shapes[i], 100 + i);
        const size_t row = t.s.heads * value_dim(&t.s);
        const uint32_t begin = N_CTX - 120;
        float *want = malloc(N_CTX * row * sizeof *want), *out = malloc(120 * row * sizeof *out);
        attend(&t, 1, BATCH, 0, N_CTX, want);
        for (size_t k = 0; k < sizeof how / sizeof *how; k++) {
            attend(&t, how[k].threads, how[k].batch, begin, 120, out);
            assert_memory_equal(want + begin * row, out, 120 * row * sizeof *out);
        }
        free(want), free(out);
        free_text(&t);
    }
}

/* What stands in the cache behind a position does not reach it, not even as infinity times zero. */
static void test_the_future_is_hidden(void **state) {
    const shape s = {4, 2, 64, 0, SNUG_KV_F16, 0, false};
    text t = new_text(&s, 7);
    const size_t row = 4 * 64, kv = 2 * 64, from = 40;
    float *want = malloc(from * row * sizeof *want), *out = malloc(from * row * sizeof *out);
    attend(&t, 1, (uint32_t)from, 0, (uint32_t)from, want);
    for (size_t i = 0; i < kv; i++) t.k[from * kv + i] = NAN, t.v[from * kv + i] = INFINITY;
    for (uint32_t pos = (uint32_t)from; pos < BATCH; pos++)
        kv_append(t.kv, 0, pos, 1, t.k + from * kv, t.v + from * kv);
    for (uint32_t batch = 1; batch <= from; batch += 13) {
        attend(&t, 2, batch, 0, (uint32_t)from, out);
        assert_memory_equal(want, out, from * row * sizeof *out);
    }
    free(want), free(out);
    free_text(&t);
}

/* Scratch grows with the context only where blocks may be spread, and there by little. */
static void test_scratch(void **state) {
    const shape s = {32, 8, 64, 0, SNUG_KV_F16, 0, false};
    const config c = config_of(&s);
    graph_params p = {.max_batch = 1, .n_ctx = 512, .threads = 2};
    uint64_t small = graph_bytes(&c, &p);
    p.n_ctx = 1 << 17;
    assert_int_equal(graph_bytes(&c, &p), small);
    p.threads = 4;
    small = graph_bytes(&c, &p);
    p.n_ctx = 1 << 18;
    uint64_t more = graph_bytes(&c, &p) - small;
    assert_true(more > 0 && more < (1 << 17) * 40);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formula),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_the_future_is_hidden),
        cmocka_unit_test(test_scratch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
