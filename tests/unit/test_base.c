// rooms: base
/* base: error messages, arena, buffers, hashes, random numbers, threads, quotas, JSON. Files and progress have tests of their own. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/checked.h"
#include "base/cpu.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/quota.h"
#include "base/rng.h"
#include "base/thread.h"
#include "tempfile.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <cmocka.h>

/* ---- errors */

static void errors_are_exact(void **state) {
    snug_error e;
    assert_int_equal(err_set(&e, SNUG_ERR_IO, "%s: %d", "a.gguf", 7), SNUG_ERR_IO);
    assert_string_equal(e.message, "a.gguf: 7");
    assert_int_equal(e.code, SNUG_ERR_IO);
    assert_int_equal(e.offset, 0);
    assert_int_equal(err_at(&e, SNUG_ERR_FORMAT, 12, "x ends"), SNUG_ERR_FORMAT);
    assert_string_equal(e.message, "x ends at byte 12");
    assert_int_equal(e.offset, 12);
    assert_int_equal(err_prefix(&e, SNUG_ERR_ARG, "layer %d", 3), SNUG_ERR_ARG);
    assert_string_equal(e.message, "layer 3: x ends at byte 12");
    assert_int_equal(e.code, SNUG_ERR_ARG);
    assert_int_equal(e.offset, 12);
    assert_int_equal(err_set(NULL, SNUG_ERR_IO, "nobody listens"), SNUG_ERR_IO);
    assert_int_equal(err_prefix(NULL, SNUG_ERR_IO, "nobody"), SNUG_ERR_IO);
    assert_int_equal(err_nomem(NULL, 3), SNUG_ERR_NOMEM);
}

static void error_messages_are_clean_text(void **state) {
    snug_error e;
    err_set(&e, SNUG_ERR_FORMAT, "%s", "a\x1b[31mb\n\xff\xc3\xa9\xe2\x82z\xc2\x9b\xed\xa0\x80");
    assert_string_equal(e.message, "a?[31mb??\xc3\xa9??z?????");
    char big[4000];
    for (size_t i = 0; i + 2 < sizeof big; i += 3) memcpy(big + i, "\xe2\x82\xac", 3); /* euro signs */
    big[sizeof big - 1] = 0;
    err_set(&e, SNUG_ERR_FORMAT, "%s", big);
    size_t n = strlen(e.message);
    assert_true(n < sizeof e.message && n > sizeof e.message - 8);
    assert_string_equal(e.message + n - 3, "...");
    assert_null(strchr(e.message, '?')); /* cut between characters */
    err_at(&e, SNUG_ERR_FORMAT, UINT64_MAX, "%s", big); /* no room for the offset: it stands in the struct */
    assert_true(e.offset == UINT64_MAX);
    for (int code = 0; code >= -9; code--) assert_string_not_equal(snug_err_name((snug_err)code), "unknown error");
    assert_string_equal(snug_err_name((snug_err)5), "unknown error");
    assert_true(strlen(snug_version()) >= 5);
}

/* ---- arena */

static void arena_is_zeroed_and_aligned(void **state) {
    arena a = {0};
    uint8_t *p[200];
    for (size_t i = 0; i < 200; i++) {
        size_t n = i * i * 3;
        p[i] = arena_alloc(&a, n);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 64, 0);
        for (size_t k = 0; k < n; k++) assert_int_equal(p[i][k], 0);
        memset(p[i], (int)i, n);
    }
    for (size_t i = 0; i < 200; i++)
        for (size_t k = 0; k < i * i * 3; k++) assert_int_equal(p[i][k], (uint8_t)i); /* nobody wrote on another */
    assert_null(arena_calloc(&a, SIZE_MAX / 2, 3));
    assert_null(arena_alloc(&a, SIZE_MAX - 4));
    assert_string_equal(arena_strdup(&a, "tensor"), "tensor");
    assert_string_equal(arena_strndup(&a, "tensor", 3), "ten");
    assert_string_equal(arena_printf(&a, "%s-%d", "blk", 12), "blk-12");
    assert_true(a.total_bytes > 200 * 199 * 399 / 6 * 3);
    arena_fini(&a);
    assert_null(a.head);
    arena_fini(&a);
}

/* ---- buffers */

static void buffers_grow(void **state) {
    buf b = {0};
    assert_true(buf_pad(&b, 32));
    assert_int_equal(b.len, 0);
    assert_true(buf_append_u32(&b, 0x01020304u) && buf_append_u64(&b, 0x1122334455667788u) && buf_append_str(&b, "xy"));
    assert_memory_equal(b.data, "\4\3\2\1\x88\x77\x66\x55\x44\x33\x22\x11xy", 14);
    assert_true(buf_pad(&b, 32));
    assert_int_equal(b.len, 32);
    assert_int_equal(b.data[31], 0);
    assert_true(buf_pad(&b, 32));
    assert_int_equal(b.len, 32);
    for (int i = 0; i < 1000; i++) assert_true(buf_printf(&b, "%d,", i));
    assert_int_equal(b.len, 32 + 10 * 2 + 90 * 3 + 900 * 4);
    assert_memory_equal(b.data + b.len - 4, "999,", 4);
    assert_false(buf_reserve(&b, SIZE_MAX));
    assert_true(buf_append(&b, NULL, 0));
    buf_fini(&b);
    assert_null(b.data);
}

static void checked_arithmetic(void **state) {
    uint64_t v = 7;
    assert_false(checked_mul(1ull << 33, 1ull << 33, &v));
    assert_true(checked_mul(1u << 31, 1u << 31, &v));
    assert_true(v == 1ull << 62);
    assert_false(checked_add(UINT64_MAX, 1, &v));
    assert_int_equal(round_up(33, 32), 64);
    assert_int_equal(round_up(64, 32), 64);
    assert_int_equal(div_up(33, 32), 2);
}

/* ---- hash, rng */

static void hashes_stream(void **state) {
    uint8_t data[5000];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 7 + i / 256);
    assert_true(hash_bytes("", 0) == 0x2d06800538d394c2u); /* XXH3's published value for no input */
    for (size_t n = 0; n <= sizeof data; n += 131) {
        hash_state *h = hash_create();
        assert_non_null(h);
        for (size_t i = 0; i < n; i += 97) hash_update(h, data + i, n - i < 97 ? n - i : 97);
        hash_update(h, NULL, 0);
        assert_true(hash_digest(h) == hash_bytes(data, n));
        hash_destroy(h);
    }
    assert_true(hash_bytes_seeded(data, 9, 1) != hash_bytes_seeded(data, 9, 2));
    assert_true(hash_bytes_seeded(data, 9, 0) == hash_bytes(data, 9));
    hash_destroy(NULL);
}

static void random_numbers_are_random(void **state) {
    rng a, b;
    rng_seed(&a, 1, 0);
    rng_seed(&b, 1, 0);
    for (int i = 0; i < 100; i++) assert_true(rng_next(&a) == rng_next(&b));
    int equal_bits = 0;
    rng_seed(&a, 1, 0);
    rng_seed(&b, 1, 1);
    for (int i = 0; i < 1000; i++) equal_bits += 64 - __builtin_popcountll(rng_next(&a) ^ rng_next(&b));
    assert_true(abs(equal_bits - 32000) < 900); /* sigma = sqrt(64000)/2 = 126 */
    /* xoshiro256++ from the state 1, 2, 3, 4: first outputs of the authors' code */
    rng r = {{1, 2, 3, 4}};
    assert_true(rng_next(&r) == 41943041u);
    assert_true(rng_next(&r) == 58720359u);
    assert_true(rng_next(&r) == 3588806011781223u);
    double sum = 0, sum2 = 0, usum = 0;
    uint32_t count[7] = {0};
    enum { N = 200000 };
    for (int i = 0; i < N; i++) {
        double x = (double)rng_normal(&a), u = rng_uniform(&a);
        assert_true(isfinite(x) && u >= 0 && u < 1);
        sum += x;
        sum2 += x * x;
        usum += u;
        count[rng_below(&a, 7)]++;
    }
    assert_true(fabs(sum / N) < 0.015 && fabs(sum2 / N - 1) < 0.02 && fabs(usum / N - 0.5) < 0.004);
    for (int i = 0; i < 7; i++) assert_true(abs((int)count[i] - N / 7) < 900); /* sigma = 157 */
    assert_int_equal(rng_below(&a, 1), 0);
}

/* ---- threads */

typedef struct grid {
    uint8_t seen[1000];
    size_t n, grain;
    int max_worker;
    long order_sum;
} grid;

static void mark(void *ctx, size_t begin, size_t end, int worker) {
    grid *g = ctx;
    if (begin % g->grain != 0 || end > g->n || (end - begin != g->grain && end != g->n) || worker < 0 || worker >= 4) abort();
    for (size_t i = begin; i < end; i++) g->seen[i]++;
}

static void nested(void *ctx, size_t begin, size_t end, int worker) {
    grid g = {.n = 10, .grain = 1};
    thread_for(4, g.n, g.grain, mark, &g);
    for (size_t i = 0; i < g.n; i++)
        if (g.seen[i] != 1) abort();
}

static void tiles_cover_everything_once(void **state) {
    static const size_t sizes[] = {0, 1, 7, 63, 64, 65, 1000}, grains[] = {1, 3, 64, 1000, 5000, SIZE_MAX};
    for (int threads = -1; threads <= 4; threads++)
        for (size_t i = 0; i < 7; i++)
            for (size_t k = 0; k < 6; k++) {
                grid g = {.n = sizes[i], .grain = grains[k]};
                thread_for(threads, g.n, g.grain, mark, &g);
                for (size_t j = 0; j < 1000; j++) assert_int_equal(g.seen[j], j < g.n);
            }
    thread_for(4, 8, 1, nested, NULL);
    assert_true(thread_default_count() >= 1);
    assert_int_equal(thread_default_count(), snug_default_threads());
    assert_true(strcmp(snug_cpu_level(), "ref") == 0 || strcmp(snug_cpu_level(), "avx2") == 0 || strcmp(snug_cpu_level(), "avx512") == 0);
}

static void put(const char *dir, const char *name, const char *text) { temp_write(temp_path(dir, name), text, strlen(text)); }

static void quotas_are_read(void **state) {
    char *dir = strdup(temp_dir_make());
    mkdir(temp_path(dir, "a"), 0777);
    mkdir(temp_path(dir, "a/b"), 0777);
    mkdir(temp_path(dir, "cpu,cpuacct"), 0777);
    put(dir, "v2", "0::/a/b\n");
    char proc[600];
    snprintf(proc, sizeof proc, "%s/v2", dir);
    assert_true(quota_cpus(proc, dir) == 0); /* no files at all */
    put(dir, "a/b/cpu.max", "max 100000\n");
    assert_true(quota_cpus(proc, dir) == 0);
    put(dir, "a/cpu.max", "250000 100000\n");
    assert_true(quota_cpus(proc, dir) == 2.5); /* the parent's */
    put(dir, "a/b/cpu.max", "150000 100000\n");
    assert_true(quota_cpus(proc, dir) == 1.5); /* the least */
    put(dir, "v2", "0::/not/visible/here\n");
    put(dir, "cpu.max", "50000 100000\n"); /* a container sees its own limit at the mount point */
    assert_true(quota_cpus(proc, dir) == 0.5);
    put(dir, "v1", "5:memory:/x\n4:cpu,cpuacct:/docker/1\n");
    snprintf(proc, sizeof proc, "%s/v1", dir);
    assert_true(quota_cpus(proc, dir) == 0);
    put(dir, "cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put(dir, "cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    assert_true(quota_cpus(proc, dir) == 0);
    put(dir, "cpu,cpuacct/cpu.cfs_quota_us", "300000\n");
    assert_true(quota_cpus(proc, dir) == 3);
    assert_true(quota_cpus("/nonexistent", dir) == 0);
    unlink(temp_path(dir, "a/b/cpu.max"));
    unlink(temp_path(dir, "a/cpu.max"));
    rmdir(temp_path(dir, "a/b"));
    unlink(temp_path(dir, "cpu,cpuacct/cpu.cfs_quota_us"));
    unlink(temp_path(dir, "cpu,cpuacct/cpu.cfs_period_us"));
    temp_dir_remove(dir);
    free(dir);
}

/* ---- JSON */

static json_t *parse(const char *text) {
    json_t *root;
    snug_error e = {0};
    assert_int_equal(json_read_buffer("t.json", text, strlen(text), &root, &e), SNUG_OK);
    return root;
}

static void json_messages_name_file_and_field(void **state) {
    snug_error e;
    uint64_t u;
    double d;
    bool b;
    const char *s;
    json_t *o = parse("{\"n\": 32, \"f\": 4096.0, \"h\": 0.5, \"s\": \"x\", \"neg\": -3, \"nul\": null, \"t\": true, \"big\": 1e30}");
    assert_int_equal(json_get_u64(o, "config.json", "n", &u, &e), SNUG_OK);
    assert_int_equal(u, 32);
    assert_int_equal(json_get_u64(o, "config.json", "f", &u, &e), SNUG_OK);
    assert_int_equal(u, 4096);
    assert_int_equal(json_get_u64(o, "config.json", "s", &u, &e), SNUG_ERR_FORMAT);
    assert_string_equal(e.message, "config.json: field 's': expected a positive integer, found the string 'x'");
    assert_int_equal(json_get_u64(o, "config.json", "neg", &u, &e), SNUG_ERR_FORMAT);
    assert_string_equal(e.message, "config.json: field 'neg': expected a positive integer, found -3");
    assert_int_equal(json_get_u64(o, "config.json", "h", &u, &e), SNUG_ERR_FORMAT);
    assert_int_equal(json_get_u64(o, "config.json", "big", &u, &e), SNUG_ERR_FORMAT);
    assert_int_equal(json_get_u64(o, "config.json", "gone", &u, &e), SNUG_ERR_FORMAT);
    assert_string_equal(e.message, "config.json: field 'gone' is missing, expected a positive integer");
    assert_int_equal(json_get_u64_or(o, "c", "nul", 9, &u, &e), SNUG_OK);
    assert_int_equal(u, 9);
    assert_int_equal(json_get_u64_or(o, "c", "n", 9, &u, &e), SNUG_OK);
    assert_int_equal(u, 32);
    assert_int_equal(json_get_u64_or(o, "c", "t", 9, &u, &e), SNUG_ERR_FORMAT);
    assert_int_equal(json_get_double_or(o, "c", "n", 1, &d, &e), SNUG_OK);
    assert_true(d == 32);
    assert_int_equal(json_get_double_or(o, "c", "gone", 1e-5, &d, &e), SNUG_OK);
    assert_true(d == 1e-5);
    assert_int_equal(json_get_double_or(o, "c", "s", 1, &d, &e), SNUG_ERR_FORMAT);
    assert_int_equal(json_get_bool_or(o, "c", "t", false, &b, &e), SNUG_OK);
    assert_true(b);
    assert_int_equal(json_get_bool_or(o, "c", "n", false, &b, &e), SNUG_ERR_FORMAT);
    assert_string_equal(e.message, "c: field 'n': expected true or false, found 32");
    assert_int_equal(json_get_string(o, "c", "s", &s, &e), SNUG_OK);
    assert_string_equal(s, "x");
    assert_int_equal(json_get_string(o, "c", "nul", &s, &e), SNUG_ERR_FORMAT);
    assert_int_equal(json_get_u64(NULL, "c", "n", &u, &e), SNUG_ERR_FORMAT);
    json_decref(o);
}

static void json_reads_what_python_writes(void **state) {
    json_t *o = parse("\xef\xbb\xbf{\"model_max_length\": 1000000000000000019884624838656, \"lim\": [0.0, Infinity, -Infinity],"
                      "\"max\": 9223372036854775807, \"min\": -9223372036854775808, \"over\": 9223372036854775808,"
                      "\"pi\": 3.1415926535897932384626433, \"e\": 1E-0000000000000000000005, \"s\": \"Infinity \\\" 99999999999999999999\","
                      "\"dup\": 1, \"dup\": 2, \"nul\": \"a\\u0000b\"}");
    double d;
    assert_int_equal(json_get_double_or(o, "t", "model_max_length", 0, &d, NULL), SNUG_OK);
    assert_true(fabs(d / 1e30 - 1) < 1e-12);
    assert_true(json_number_value(json_array_get(json_object_get(o, "lim"), 1)) == 1e308);
    assert_true(json_number_value(json_array_get(json_object_get(o, "lim"), 2)) == -1e308);
    assert_true(json_integer_value(json_object_get(o, "max")) == INT64_MAX);
    assert_true(json_integer_value(json_object_get(o, "min")) == INT64_MIN);
    assert_true(fabs(json_number_value(json_object_get(o, "over")) / 0x1p63 - 1) < 1e-12);
    assert_true(json_number_value(json_object_get(o, "pi")) == 3.1415926535897932384626433);
    assert_true(json_number_value(json_object_get(o, "e")) == 1e-5);
    assert_string_equal(json_string_value(json_object_get(o, "s")), "Infinity \" 99999999999999999999");
    assert_int_equal(json_integer_value(json_object_get(o, "dup")), 2);
    assert_int_equal(json_string_length(json_object_get(o, "nul")), 3);
    json_decref(o);
}

static void json_syntax_errors_have_a_place(void **state) {
    snug_error e;
    json_t *o;
    static const char *const bad[] = {"", "{", "{\"a\": }", "[1,]", "{\"a\" 1}", "nonsense", "\"\\ud800\"", "{}x", "[-]", "[1e999]", "[00]",
                                      "{\"a\": \"\xff\"}", "Infinit", "[99999999999999999999e]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(json_read_buffer("x.json", bad[i], strlen(bad[i]), &o, &e), SNUG_ERR_FORMAT);
        assert_null(o);
        assert_memory_equal(e.message, "x.json: not valid JSON: ", 24);
    }
    assert_int_equal(json_read_buffer("x.json", "{\"a\": ?}", 8, &o, &e), SNUG_ERR_FORMAT);
    assert_true(e.offset >= 6 && e.offset <= 7);
    assert_int_equal(json_read_strict("x", "{\"a\":1,\"a\":2}", 13, 8, &o, &e), SNUG_ERR_FORMAT);
    assert_true(e.offset >= 8 + 8);
    char deep[20000];
    memset(deep, '[', sizeof deep);
    assert_int_equal(json_read_buffer("deep", deep, sizeof deep, &o, &e), SNUG_ERR_FORMAT); /* and no stack overflow */
    assert_int_equal(json_read_file("/nonexistent/x.json", 100, &o, &e), SNUG_ERR_IO);
    assert_int_equal(json_read_buffer("x", NULL, 0, &o, &e), SNUG_ERR_FORMAT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_exact),
        cmocka_unit_test(error_messages_are_clean_text),
        cmocka_unit_test(arena_is_zeroed_and_aligned),
        cmocka_unit_test(buffers_grow),
        cmocka_unit_test(checked_arithmetic),
        cmocka_unit_test(hashes_stream),
        cmocka_unit_test(random_numbers_are_random),
        cmocka_unit_test(tiles_cover_everything_once),
        cmocka_unit_test(quotas_are_read),
        cmocka_unit_test(json_messages_name_file_and_field),
        cmocka_unit_test(json_reads_what_python_writes),
        cmocka_unit_test(json_syntax_errors_have_a_place),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
