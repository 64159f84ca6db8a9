// rooms: base kern kv
/* The KV cache against a plain array: random appends, forks, truncations and failed steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "kv/kv.h"

enum { LAYERS = 2, HEADS = 3, DIM = 8, N_CTX = 200, SEQS = 4, VALUE_DIM = 5 };

typedef struct text { kv_seq *kv; uint32_t len; uint32_t tag[N_CTX]; } text; /* tag: what was appended at a position */

/* A value that names its place: exact in f16 (integers below 2048). */
static bool shared; /* values are the first numbers of keys */

static float value(uint32_t tag, uint32_t layer, uint32_t head, uint32_t d, int is_v) {
    return (float)((tag * 7 + layer * 31 + head * 13 + d * 3 + (uint32_t)is_v) % 2001) - 1000;
}

static void append(text *t, uint32_t layer, uint32_t pos, uint32_t n) {
    float k[N_CTX * HEADS * DIM], v[N_CTX * HEADS * VALUE_DIM];
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t c = 0; c < HEADS * DIM; c++) k[i * HEADS * DIM + c] = value(t->tag[pos + i], layer, c / DIM, c % DIM, 0);
        for (uint32_t c = 0; c < HEADS * VALUE_DIM; c++) v[i * HEADS * VALUE_DIM + c] = value(t->tag[pos + i], layer, c / VALUE_DIM, c % VALUE_DIM, 1);
    }
    kv_append(t->kv, layer, pos, n, k, shared ? NULL : v);
}

/* q = e_d reads back component d of every key; weights = e_i read back value i. */
static void check(const text *t) {
    assert_int_equal(kv_seq_length(t->kv), t->len);
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        for (uint32_t head = 0; head < HEADS; head++) {
            uint32_t at = 0;
            for (uint32_t i = 0; i < kv_n_pages(t->kv, layer, head); i++) {
                const kv_page *p = kv_get_page(t->kv, layer, head, i);
                for (uint32_t d = 0; d < DIM; d++) {
                    float q[DIM] = {0}, scores[KV_PAGE];
                    q[d] = 1;
                    kv_scores(p, 0, p->len, DIM, q, 1, 1, scores, KV_PAGE);
                    for (uint32_t s = 0; s < p->len; s++) {
                        float w[KV_PAGE] = {0}, out[VALUE_DIM] = {0};
                        assert_int_equal(p->pos[s], at + s);
                        assert_true(scores[s] == value(t->tag[at + s], layer, head, d, 0));
                        w[s] = 1;
                        kv_accumulate(p, 0, p->len, w, KV_PAGE, 1, out, NULL);
                        assert_true(d >= VALUE_DIM || out[d] == value(t->tag[at + s], layer, head, d, !shared));
                    }
                }
                at += p->len;
            }
            assert_int_equal(at, t->len);
        }
}

static void test_random_use(void **state) {
    for (int form = 0; form < 4; form++) {
        kv_params p = {LAYERS, HEADS, DIM, N_CTX, SEQS, form % 2 ? SNUG_KV_F32 : SNUG_KV_F16, VALUE_DIM, form / 2, 0, 0};
        kv_pool *pool = NULL;
        text texts[SEQS] = {0};
        uint32_t next_tag = 1;
        rng r;
        shared = form / 2;
        rng_seed(&r, 7, (uint64_t)form);
        assert_int_equal(kv_pool_create(&p, &pool, NULL), SNUG_OK);
        for (int step = 0; step < 600; step++) {
            text *t = &texts[rng_below(&r, SEQS)];
            uint32_t what = rng_below(&r, 10), n = rng_below(&r, 70);
            if (!t->kv) {
                text *from = &texts[rng_below(&r, SEQS)];
                if (from->kv && what < 7) {
                    kv_seq *kv;
                    assert_int_equal(kv_seq_fork(from->kv, &kv, NULL), SNUG_OK);
                    *t = *from;
                    t->kv = kv;
                } else {
                    t->len = 0;
                    assert_int_equal(kv_seq_create(pool, &t->kv, NULL), SNUG_OK);
                }
            } else if (what == 0) {
                kv_seq_destroy(&t->kv);
                assert_null(t->kv);
                continue;
            } else if (what < 3) {
                uint32_t to = t->len ? rng_below(&r, t->len + 1) : 0;
                assert_int_equal(kv_truncate(t->kv, to, NULL), SNUG_OK);
                t->len = to;
            } else if (t->len + n > N_CTX) {
                snug_error err;
                assert_int_equal(kv_reserve(t->kv, n, &err), SNUG_ERR_BUDGET);
            } else {
                for (uint32_t i = 0; i < n; i++) t->tag[t->len + i] = next_tag++;
                assert_int_equal(kv_reserve(t->kv, n, NULL), SNUG_OK);
                append(t, 0, t->len, n);
                if (what == 3) { /* the step fails after the first layer */
                    assert_int_equal(kv_truncate(t->kv, t->len, NULL), SNUG_OK);
                } else {
                    append(t, 1, t->len, n / 2);
                    append(t, 1, t->len + n / 2, n - n / 2);
                    kv_commit(t->kv, n);
                    t->len += n;
                }
            }
            for (int i = 0; i < SEQS; i++)
                if (texts[i].kv && (step % 20 == 0 || &texts[i] == t)) check(&texts[i]);
        }
        for (int i = 0; i < SEQS; i++) kv_seq_destroy(&texts[i].kv);
        kv_pool_destroy(&pool);
    }
    shared = false;
}

/* Every sequence full and private: the pool must have room for all, and no more sequences. */
static void test_full(void **state) {
    kv_params p = {LAYERS, HEADS, DIM, N_CTX, SEQS, SNUG_KV_F16, VALUE_DIM, false, 0, 0};
    kv_pool *pool = NULL;
    text texts[SEQS] = {0};
    snug_error err;
    kv_seq *extra = NULL;
    assert_int_equal(kv_pool_create(&p, &pool, NULL), SNUG_OK);
    for (uint32_t i = 0; i < SEQS; i++) {
        if (i == 0) assert_int_equal(kv_seq_create(pool, &texts[0].kv, NULL), SNUG_OK);
        else {
            assert_int_equal(kv_seq_fork(texts[0].kv, &texts[i].kv, NULL), SNUG_OK);
            assert_int_equal(kv_truncate(texts[i].kv, 3, NULL), SNUG_OK); /* a page of its own from the start */
            texts[i].len = 3;
            memcpy(texts[i].tag, texts[0].tag, sizeof texts[i].tag);
        }
        uint32_t n = N_CTX - texts[i].len;
        for (uint32_t k = texts[i].len; k < N_CTX; k++) texts[i].tag[k] = 1000 * i + k;
        assert_int_equal(kv_reserve(texts[i].kv, n, &err), SNUG_OK);
        for (uint32_t layer = 0; layer < LAYERS; layer++) append(&texts[i], layer, texts[i].len, n);
        kv_commit(texts[i].kv, n);
        texts[i].len = N_CTX;
    }
    for (int i = 0; i < SEQS; i++) check(&texts[i]);
    assert_int_equal(kv_reserve(texts[1].kv, 1, &err), SNUG_ERR_BUDGET);
    assert_int_equal(kv_seq_fork(texts[1].kv, &extra, &err), SNUG_ERR_BUDGET);
    assert_null(extra);
    kv_pool_destroy(&pool);
}

/* Stored positions with gaps: what a query sees is found by counting. */
static void test_windows(void **state) {
    kv_params p = {1, 2, DIM, N_CTX, 1, SNUG_KV_F16, VALUE_DIM, false, 0, 0};
    for (uint32_t gap = 1; gap <= 3; gap++)
        for (uint32_t len = 0; len <= N_CTX; len += 67) {
            const float zero[DIM] = {0};
            kv_pool *pool = NULL;
            kv_seq *kv = NULL;
            assert_int_equal(kv_pool_create(&p, &pool, NULL), SNUG_OK);
            assert_int_equal(kv_seq_create(pool, &kv, NULL), SNUG_OK);
            assert_int_equal(kv_reserve(kv, N_CTX, NULL), SNUG_OK); /* pages behind the last are empty */
            for (uint32_t i = 0; i < len; i++)
                kv_page_set((kv_page *)kv_get_page(kv, 0, 1, i / KV_PAGE), i % KV_PAGE, 2 + gap * i, DIM, zero, zero);
            for (uint32_t pos = 0; pos < 2 + gap * len + 9; pos++)
                for (uint32_t window = 0; window < 150; window += 1 + window * 2) {
                    uint32_t first = 0, n = 0, slot0;
                    for (uint32_t i = len; i-- > 0;) {
                        uint32_t at = 2 + gap * i;
                        if (at > pos || (window && pos - at >= window)) continue;
                        first = i;
                        n++;
                    }
                    assert_int_equal(kv_visible(kv, 0, 1, pos, window, &slot0), n);
                    if (n) assert_int_equal(slot0, first);
                }
            kv_pool_destroy(&pool);
        }
}

static void test_sizes(void **state) {
    kv_params p = {LAYERS, HEADS, DIM, N_CTX, SEQS, SNUG_KV_F16, 0, false, 0, 0};
    uint64_t data = 2ull * LAYERS * HEADS * DIM * 256 * SEQS * 2; /* k and v, f16, 200 positions in pages of 64 */
    assert_true(kv_bytes(&p) >= data &&
                kv_bytes(&p) < 2 * data); /* heads of 8: the page headers weigh as much as the keys */
    p.head_dim = 128;
    assert_true(kv_bytes(&p) >= 16 * data && kv_bytes(&p) < 17 * data);
    p.n_ctx = UINT32_MAX;
    p.n_layers = 1 << 20;
    assert_int_equal(kv_bytes(&p), 0);
    kv_pool *pool = NULL;
    snug_error err;
    assert_int_equal(kv_pool_create(&p, &pool, &err), SNUG_ERR_NOMEM);
    assert_null(pool);
}

/* A state that counts what a sequence was given: its sum up to each position. */
static void pass_states(kv_seq *s, uint32_t n, float first) {
    const uint32_t begin = kv_seq_length(s);
    assert_int_equal(kv_reserve(s, n, NULL), SNUG_OK);
    for (uint32_t pos = begin; pos < begin + n; pos++)
        for (uint32_t layer = 0; layer < 2; layer++) {
            const float *before = kv_state_before(s, layer, pos);
            float *after = kv_state_after(s, layer);
            assert_true((before == NULL) == (pos == 0));
            for (int i = 0; i < 5; i++) after[i] = (before ? before[i] : 0) + first + (float)layer;
        }
}

static float state_of(const kv_seq *s, uint32_t layer) { return kv_state_before(s, layer, kv_seq_length(s))[4]; }

static void test_states(void **state) {
    for (uint32_t layers = 0; layers < 2; layers++) { /* with pages beside them and without */
        kv_params p = {.n_layers = layers, .n_kv_heads = layers, .head_dim = layers * DIM, .n_ctx = N_CTX, .max_seqs = 2, .n_states = 2, .state_floats = 5}, none = p;
        kv_pool *pool = NULL;
        kv_seq *a = NULL, *b = NULL;
        snug_error err;
        none.n_states = 0;
        if (layers) assert_int_equal(kv_bytes(&p) / 4096 - kv_bytes(&none) / 4096 <= 1, 1); /* 2 sequences x 2 x 2 layers x 64 bytes */
        assert_int_equal(kv_pool_create(&p, &pool, NULL), SNUG_OK);
        assert_int_equal(kv_seq_create(pool, &a, NULL), SNUG_OK);
        pass_states(a, 3, 1);
        kv_commit(a, 3);
        pass_states(a, 2, 10); /* a pass that fails leaves nothing behind */
        assert_int_equal(kv_truncate(a, 3, NULL), SNUG_OK);
        assert_true(state_of(a, 0) == 3 && state_of(a, 1) == 6);
        assert_int_equal(kv_reach(a, 2), 0); /* and takes what was before the last */
        pass_states(a, 2, 10);
        kv_commit(a, 2);
        assert_true(state_of(a, 0) == 23 && state_of(a, 1) == 28);
        assert_int_equal(kv_seq_fork(a, &b, NULL), SNUG_OK);
        assert_int_equal(kv_reach(a, 9), 5);
        assert_int_equal(kv_reach(a, 4), 3);
        assert_int_equal(kv_truncate(a, 4, &err), SNUG_ERR_UNSUPPORTED);
        assert_int_equal(kv_seq_length(a), 5);
        assert_int_equal(kv_truncate(a, 3, NULL), SNUG_OK);
        assert_true(state_of(a, 0) == 3 && state_of(a, 1) == 6);
        assert_int_equal(kv_reach(a, 2), 0);
        assert_int_equal(kv_truncate(a, 0, NULL), SNUG_OK);
        pass_states(a, 1, 7);
        kv_commit(a, 1);
        assert_true(state_of(a, 0) == 7 && state_of(a, 1) == 8);
        assert_true(state_of(b, 0) == 23 && state_of(b, 1) == 28); /* the fork has its own, and may go back as well */
        assert_int_equal(kv_truncate(b, 3, NULL), SNUG_OK);
        assert_true(state_of(b, 0) == 3 && state_of(b, 1) == 6);
        p.state_floats = UINT64_MAX / 4;
        assert_int_equal(kv_bytes(&p), 0);
        kv_pool_destroy(&pool);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_use),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
