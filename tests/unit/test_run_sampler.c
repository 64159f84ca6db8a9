// rooms: base format token kern codec kv model run
/* The sampler: what each filter keeps, distributions, seeds, the repetition penalty, numbers that are none. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <snug.h>

enum { V = 50, DRAWS = 20000 };
static const snug_sampler_params plain = {.temperature = 1, .top_p = 1, .repeat_penalty = 1};

static snug_sampler *make(snug_sampler_params p, uint32_t n_vocab) {
    snug_sampler *s = NULL;
    snug_error err;
    if (snug_sampler_create(&p, n_vocab, &s, &err)) fail_msg("%s", err.message);
    return s;
}

static void count_draws(snug_sampler_params p, const float *logits, uint32_t n_vocab, int *counts) {
    snug_sampler *s = make(p, n_vocab);
    memset(counts, 0, n_vocab * sizeof *counts);
    for (int i = 0; i < DRAWS; i++) {
        int32_t t = -1;
        assert_int_equal(snug_sampler_pick(s, logits, &t, NULL), SNUG_OK);
        assert_true(t >= 0 && (uint32_t)t < n_vocab);
        counts[t]++;
    }
    snug_sampler_destroy(&s);
    assert_null(s);
}

/* Probabilities 1/2, 1/4, ... at ids in a scrambled order: rank of id = id * 7 mod V. */
static void halves(float *logits) {
    for (int i = 0; i < V; i++) logits[i] = (float)(-log(2) * (i * 7 % V));
}
static int id_of_rank(int rank) {
    for (int i = 0; i < V; i++)
        if (i * 7 % V == rank) return i;
    return -1;
}

static void test_filters(void **state) {
    float logits[V];
    int counts[V];
    halves(logits);
    const struct { snug_sampler_params p; int kept; } cases[] = {
        {{.temperature = 1, .top_p = 1, .repeat_penalty = 1, .top_k = 3}, 3},
        {{.temperature = 1, .top_p = 0.75f, .repeat_penalty = 1}, 2},   /* 1/2 + 1/4 */
        {{.temperature = 1, .top_p = 0.76f, .repeat_penalty = 1}, 3},
        {{.temperature = 1, .top_p = 1e-6f, .repeat_penalty = 1}, 1},
        {{.temperature = 1, .top_p = 1, .min_p = 0.24f, .repeat_penalty = 1}, 3}, /* 1, 1/2, 1/4 of the best */
        {{.temperature = 3, .top_p = 0.75f, .repeat_penalty = 1, .top_k = 40}, 2}, /* top-p looks at temperature 1 */
        {{.temperature = 1, .top_p = 1, .repeat_penalty = 1, .top_k = 1}, 1},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        count_draws(cases[c].p, logits, V, counts);
        for (int rank = 0; rank < V; rank++) assert_int_equal(counts[id_of_rank(rank)] > 0, rank < cases[c].kept);
    }
}

/* Chi-square like check: every frequency within five standard deviations. */
static void test_distribution(void **state) {
    float logits[V];
    int counts[V];
    for (float temperature = 0.5f; temperature <= 2; temperature *= 2) {
        double p[V], sum = 0;
        snug_sampler_params sp = plain;
        sp.temperature = temperature;
        sp.seed = 9;
        for (int i = 0; i < V; i++) logits[i] = (float)sin(i * 1.7) * 2, sum += p[i] = exp(logits[i] / temperature);
        count_draws(sp, logits, V, counts);
        for (int i = 0; i < V; i++) {
            double e = DRAWS * p[i] / sum, sd = sqrt(e * (1 - p[i] / sum));
            assert_true(fabs(counts[i] - e) <= 5 * sd + 1);
        }
    }
}

static void test_greedy_and_seeds(void **state) {
    float logits[V];
    int32_t a, b, same = 0;
    halves(logits);
    snug_sampler_params p = plain;
    p.temperature = 0;
    snug_sampler *s = make(p, V);
    logits[40] = logits[11] = 5; /* a tie goes to the lower id */
    assert_int_equal(snug_sampler_pick(s, logits, &a, NULL), SNUG_OK);
    assert_int_equal(a, 11);
    snug_sampler_destroy(&s);

    halves(logits);
    snug_sampler *x = make(plain, V), *y = make(plain, V);
    p = plain;
    p.seed = 1;
    snug_sampler *z = make(p, V);
    for (int i = 0; i < 200; i++) {
        snug_sampler_pick(x, logits, &a, NULL);
        snug_sampler_pick(y, logits, &b, NULL);
        assert_int_equal(a, b);
        snug_sampler_pick(z, logits, &b, NULL);
        same += a == b;
    }
    assert_true(same < 150);
    snug_sampler_destroy(&x);
    snug_sampler_destroy(&y);
    snug_sampler_destroy(&z);
}

static void test_repetition(void **state) {
    float logits[4] = {2, 1.5f, -1, -1.2f};
    int32_t t;
    snug_sampler_params p = {.temperature = 0, .top_p = 1, .repeat_penalty = 2, .repeat_last = 2};
    snug_sampler *s = make(p, 4);
    snug_sampler_accept(s, 0);
    snug_sampler_pick(s, logits, &t, NULL);
    assert_int_equal(t, 1); /* 2 / 2 < 1.5 */
    snug_sampler_accept(s, 0);
    snug_sampler_accept(s, 3);
    snug_sampler_accept(s, 3); /* 0 has left the two that count, and twice is penalised once */
    snug_sampler_pick(s, logits, &t, NULL);
    assert_int_equal(t, 0);
    snug_sampler_accept(s, -1);
    snug_sampler_accept(s, 4); /* ignored */
    logits[0] = logits[1] = -INFINITY;
    snug_sampler_pick(s, logits, &t, NULL);
    assert_int_equal(t, 2); /* -1.2 * 2 < -1 */
    snug_sampler_destroy(&s);
}

static void test_no_numbers(void **state) {
    float logits[3] = {1, NAN, 2};
    int32_t t = 7;
    snug_error err;
    for (float temperature = 0; temperature < 2; temperature++) {
        snug_sampler_params p = plain;
        p.temperature = temperature;
        snug_sampler *s = make(p, 3);
        logits[1] = NAN;
        assert_int_equal(snug_sampler_pick(s, logits, &t, &err), SNUG_ERR_NUMERIC);
        assert_non_null(strstr(err.message, "token 1 is NaN"));
        logits[1] = INFINITY;
        assert_int_equal(snug_sampler_pick(s, logits, &t, &err), SNUG_ERR_NUMERIC);
        float none[3] = {-INFINITY, -INFINITY, -INFINITY};
        assert_int_equal(snug_sampler_pick(s, none, &t, &err), SNUG_ERR_NUMERIC);
        none[2] = -3e38f;
        assert_int_equal(snug_sampler_pick(s, none, &t, &err), SNUG_OK);
        assert_int_equal(t, 2);
        snug_sampler_destroy(&s);
    }
    static const snug_sampler_params wrong[] = {
        {.temperature = -1, .top_p = 1, .repeat_penalty = 1}, {.temperature = NAN, .top_p = 1, .repeat_penalty = 1},
        {.top_p = 0, .repeat_penalty = 1},                    {.top_p = 1.5f, .repeat_penalty = 1},
        {.top_p = 1, .repeat_penalty = 0},                    {.top_p = 1, .repeat_penalty = 1, .min_p = 2},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snug_sampler *s = NULL;
        assert_int_equal(snug_sampler_create(&wrong[i], 3, &s, &err), SNUG_ERR_ARG);
        assert_null(s);
    }
}

/* Selection against sorting, many sizes, with ties. */
static void test_top_k_is_exact(void **state) {
    enum { BIG = 3000 };
    float *logits = malloc(BIG * sizeof *logits);
    for (int i = 0; i < BIG; i++) logits[i] = (float)((i * 7919) % 997) * 0.001f;
    for (uint32_t k = 1; k < 600; k = k * 3 + 1) {
        snug_sampler_params p = {.temperature = 100, .top_p = 1, .repeat_penalty = 1, .top_k = k};
        int *counts = calloc(BIG, sizeof *counts), kept = 0;
        count_draws(p, logits, BIG, counts);
        for (int i = 0; i < BIG; i++) {
            uint32_t better = 0;
            for (int j = 0; j < BIG && counts[i]; j++)
                better += logits[j] > logits[i] || (logits[j] == logits[i] && j < i);
            assert_true(better < k);
            kept += counts[i] > 0;
        }
        assert_int_equal(kept, k); /* 20,000 draws, nearly uniform over at most 600 */
        free(counts);
    }
    free(logits);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filters),    cmocka_unit_test(test_distribution), cmocka_unit_test(test_greedy_and_seeds),
        cmocka_unit_test(test_repetition), cmocka_unit_test(test_no_numbers),   cmocka_unit_test(test_top_k_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
