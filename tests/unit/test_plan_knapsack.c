// rooms: plan codec kern base
/* The knapsack against brute force and a plain dynamic program on small random instances, and on large ones for speed,
 * feasibility and the LP bound. */
#include "base/progress.h"
#include "base/rng.h"
#include "plan/plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { MAX_MENUS = 1000, MAX_CANDS = 60 };
static menu menus[MAX_MENUS];
static cand cands[MAX_MENUS][MAX_CANDS];
static uint32_t choice[MAX_MENUS];

static double total(size_t n, uint64_t *bytes) {
    double loss = 0;
    *bytes = 0;
    for (size_t i = 0; i < n; i++) {
        assert_true(choice[i] < menus[i].n);
        *bytes += menus[i].cand[choice[i]].bytes;
        loss += menus[i].cand[choice[i]].loss;
    }
    return loss;
}

/* Arbitrary small instances, equal and dominated candidates among them. */
static void random_small(rng *r, size_t n, uint32_t max_cands, uint32_t max_bytes) {
    for (size_t i = 0; i < n; i++) {
        menus[i] = (menu){.tensor = "t", .n = 1 + rng_below(r, max_cands), .cand = cands[i], .note = ""};
        for (size_t j = 0; j < menus[i].n; j++)
            cands[i][j] = (cand){.bytes = rng_below(r, max_bytes), .loss = rng_below(r, 4) ? rng_uniform(r) : rng_below(r, 5)};
    }
}

static double brute(size_t i, size_t n, uint64_t left) {
    if (i == n) return 0;
    double best = INFINITY;
    for (size_t j = 0; j < menus[i].n; j++)
        if (cands[i][j].bytes <= left) best = fmin(best, cands[i][j].loss + brute(i + 1, n, left - cands[i][j].bytes));
    return best;
}

static double plain_dp(size_t n, uint32_t budget) {
    double *best = calloc(budget + 1u, sizeof *best), *next = calloc(budget + 1u, sizeof *next);
    for (size_t i = 0; i < n; i++) {
        for (uint32_t b = 0; b <= budget; b++) {
            next[b] = INFINITY;
            for (size_t j = 0; j < menus[i].n; j++)
                if (cands[i][j].bytes <= b) next[b] = fmin(next[b], best[b - cands[i][j].bytes] + cands[i][j].loss);
        }
        memcpy(best, next, (budget + 1u) * sizeof *best);
    }
    double out = best[budget];
    free(best);
    free(next);
    return out;
}

static void check(size_t n, uint64_t budget, double expected) {
    uint64_t least, bytes;
    snug_err rc = knapsack_solve(menus, n, budget, choice, &least, NULL);
    if (isinf(expected)) {
        assert_int_equal(rc, SNUG_ERR_BUDGET);
        assert_true(least > budget);
        return;
    }
    assert_int_equal(rc, SNUG_OK);
    double loss = total(n, &bytes);
    assert_true(bytes <= budget && least <= budget);
    if (fabs(loss - expected) > 1e-9 * (1 + fabs(expected))) fail_msg("loss %.17g, expected %.17g (%zu menus)", loss, expected, n);
}

static void against_brute_force(void **state) {
    rng r;
    rng_seed(&r, 1, 0);
    for (int k = 0; k < 4000; k++) {
        size_t n = 1 + rng_below(&r, 6);
        random_small(&r, n, 5, 40);
        uint64_t budget = rng_below(&r, (uint32_t)(45 * n));
        check(n, budget, brute(0, n, budget));
    }
}

static void against_plain_dp(void **state) {
    rng r;
    rng_seed(&r, 2, 0);
    for (int k = 0; k < 300; k++) {
        size_t n = 10 + rng_below(&r, 30);
        random_small(&r, n, 20, 60);
        uint32_t budget = rng_below(&r, (uint32_t)(40 * n));
        check(n, budget, plain_dp(n, budget));
    }
}

/* Menus that share their candidates, as experts of a layer do: choices are as good as among as many of their own, and filling spends as much. */
static void shared(void **state) {
    rng r;
    rng_seed(&r, 4, 0);
    for (int k = 0; k < 500; k++) {
        const size_t n = 3 + rng_below(&r, 20);
        uint64_t least, bytes, apart_bytes;
        uint32_t budget = rng_below(&r, (uint32_t)(40 * n));
        random_small(&r, n, 8, 60);
        for (size_t i = 1; i < n; i++) {
            const size_t like = rng_below(&r, (uint32_t)i + 1);
            menus[i].n = menus[like].n;
            memcpy(cands[i], menus[like].cand, sizeof cands[i]);
            menus[i].cand = menus[like].cand;
        }
        size_t first[32];
        assert_int_equal(menus_alike(menus, n, first, NULL), SNUG_OK);
        for (size_t i = 0; i < n; i++) assert_true(first[i] <= i && menus[first[i]].cand == menus[i].cand && first[first[i]] == first[i]);
        check(n, budget, plain_dp(n, budget));
        if (knapsack_fill(menus, n, budget, budget, choice, &least, NULL) != SNUG_OK) continue;
        const double loss = total(n, &bytes);
        for (size_t i = 0; i < n; i++) menus[i].cand = cands[i];
        assert_int_equal(knapsack_fill(menus, n, budget, budget, choice, &least, NULL), SNUG_OK);
        assert_true(total(n, &apart_bytes) == loss && apart_bytes == bytes);
    }
}

/* What a model gives: few shapes, rates of real codecs, loss = alpha * 2^(-2 rate), a little scattered. */
static void like_a_model(rng *r, size_t n, uint32_t n_cands, uint64_t weights) {
    for (size_t i = 0; i < n; i++) {
        menus[i] = (menu){.tensor = "t", .n = n_cands, .cand = cands[i], .note = ""};
        uint64_t w = weights * (1 + rng_below(r, 4));
        double alpha = exp(rng_normal(r) * 1.5);
        for (uint32_t j = 0; j < n_cands; j++) {
            double rate = 1.5 + 14.0 * j / n_cands;
            cands[i][j].bytes = (uint64_t)((double)w * rate / 8 / 32) * 32;
            cands[i][j].loss = alpha * exp2(-2 * rate) * exp(0.3 * rng_normal(r));
        }
    }
}

static void large(void **state) {
    rng r;
    rng_seed(&r, 3, 0);
    const struct { size_t n; uint32_t cands; uint64_t weights; double limit_s; } sizes[] = {
        {30, 60, 65536, 20}, {100, 30, 1u << 20, 20}, {225, 60, 4u << 20, 20}, {1000, 60, 16u << 20, 20}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int rep = 0; rep < 5; rep++) {
            like_a_model(&r, sizes[k].n, sizes[k].cands, sizes[k].weights);
            uint64_t lo = 0, hi = 0, least, bytes;
            for (size_t i = 0; i < sizes[k].n; i++) {
                lo += cands[i][0].bytes;
                hi += cands[i][sizes[k].cands - 1].bytes;
            }
            uint64_t budget = lo + (uint64_t)((double)(hi - lo) * (0.05 + 0.15 * rep));
            double start = clock_seconds();
            assert_int_equal(knapsack_solve(menus, sizes[k].n, budget, choice, &least, NULL), SNUG_OK);
            double took = clock_seconds() - start, loss = total(sizes[k].n, &bytes);
            assert_true(bytes <= budget && least == lo);
            if (getenv("SNUG_VERBOSE"))
                printf("%zu menus x %u: %.3f s, loss %.6g, unspent %llu of %llu\n", sizes[k].n, sizes[k].cands, took, loss,
                       (unsigned long long)(budget - bytes), (unsigned long long)budget);
            assert_true(took < sizes[k].limit_s);
            /* the same again */
            uint32_t *first = malloc(sizes[k].n * sizeof *first);
            memcpy(first, choice, sizes[k].n * sizeof *first);
            assert_int_equal(knapsack_solve(menus, sizes[k].n, budget, choice, &least, NULL), SNUG_OK);
            assert_memory_equal(first, choice, sizes[k].n * sizeof *first);
            free(first);
        }
}

static void edges(void **state) {
    uint64_t least;
    assert_int_equal(knapsack_solve(menus, 0, 0, choice, &least, NULL), SNUG_OK);
    menus[0] = (menu){.tensor = "a", .n = 0, .cand = cands[0]};
    assert_int_equal(knapsack_solve(menus, 1, 10, choice, &least, NULL), SNUG_ERR_ARG);
    menus[0].n = 3;
    cands[0][0] = (cand){.bytes = 5, .loss = INFINITY};
    cands[0][1] = (cand){.bytes = 5, .loss = 1};
    cands[0][2] = (cand){.bytes = 9, .loss = 1};
    assert_int_equal(knapsack_solve(menus, 1, 100, choice, &least, NULL), SNUG_OK);
    assert_int_equal(choice[0], 1); /* equal loss: fewer bytes */
    assert_int_equal(knapsack_solve(menus, 1, 4, choice, &least, NULL), SNUG_ERR_BUDGET);
    assert_int_equal(least, 5);
    cands[0][1].loss = NAN;
    assert_int_equal(knapsack_solve(menus, 1, 100, choice, &least, NULL), SNUG_ERR_NUMERIC);
}

/* Two menus with a gap that the best plan leaves unspent: filling takes the other way up, and only when it is asked to. */
static void fill(void **state) {
    uint64_t least;
    menus[0] = (menu){.tensor = "large", .n = 2, .cand = cands[0]};
    cands[0][0] = (cand){.bytes = 100, .loss = 1};
    cands[0][1] = (cand){.bytes = 200, .loss = 0};
    menus[1] = (menu){.tensor = "small", .n = 2, .cand = cands[1]};
    cands[1][0] = (cand){.bytes = 20, .loss = 5};
    cands[1][1] = (cand){.bytes = 60, .loss = 0};
    assert_int_equal(knapsack_fill(menus, 2, 230, 0, choice, &least, NULL), SNUG_OK);
    assert_int_equal(choice[0] * 2 + choice[1], 1); /* 160 bytes, loss 1 */
    assert_int_equal(knapsack_fill(menus, 2, 230, 210, choice, &least, NULL), SNUG_OK);
    assert_int_equal(choice[0] * 2 + choice[1], 2); /* 220 bytes, loss 5 */
    assert_int_equal(knapsack_fill(menus, 2, 230, 225, choice, &least, NULL), SNUG_OK);
    assert_int_equal(choice[0] * 2 + choice[1], 1); /* no plan spends 225: the best one stays */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(against_brute_force), cmocka_unit_test(against_plain_dp), cmocka_unit_test(shared), cmocka_unit_test(large),
                                       cmocka_unit_test(edges), cmocka_unit_test(fill)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
