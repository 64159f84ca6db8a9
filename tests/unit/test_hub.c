// rooms: base hub
/* The hub's parsers and bookkeeping: names, paths, links, choices, spans, journals, hashes. What goes over the network is
 * tests/cli/test_pull.py's. */
#include "base/err.h"
#include "hub/hub.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static hub *make_hub(void) {
    hub *h = calloc(1, sizeof *h);
    assert_int_equal(hub_parse_source(h, "hf:org/name", NULL), SNUG_OK);
    assert_int_equal(hub_parse_access(h, "http://localhost:8000//", "", NULL), SNUG_OK);
    h->commit = "abc";
    return h;
}

static void free_hub(hub *h) {
    arena_fini(&h->mem);
    free(h);
}

static void test_sources(void **state) {
    static const struct {
        const char *source, *repository, *name, *revision;
    } good[] = {{"hf:org/name", "org/name", "name", "main"},
                {"hf:O-r.g_1/na.me-2@v1.0", "O-r.g_1/na.me-2", "na.me-2", "v1.0"},
                {"hf:a/b@refs/pr/1", "a/b", "b", "refs/pr/1"}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        hub h = {0};
        assert_int_equal(hub_parse_source(&h, good[i].source, NULL), SNUG_OK);
        assert_string_equal(h.repository, good[i].repository);
        assert_string_equal(h.name, good[i].name);
        assert_string_equal(h.revision, good[i].revision);
        arena_fini(&h.mem);
    }
    static const char *const bad[] = {"", "hf", "org/name", "hf:name", "hf:/b", "hf:a/", "hf:a/..", "hf:./b", "hf:a/b/c", "hf:a/b@", "hf:a/b@x y", "hf:a b/c"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hub h = {0};
        assert_int_equal(hub_parse_source(&h, bad[i], NULL), SNUG_ERR_ARG);
        arena_fini(&h.mem);
    }
}

static void test_paths(void **state) {
    static const char *const good[] = {"config.json", "a/b/c.gguf", "...", "a/.hidden", "a/..b", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_null(hub_path_fault(good[i], strlen(good[i])));
    static const char *const bad[] = {"", "/a", "..", ".", "a/..", "../a", "a/./b", "a//b", "a/", "a\\b", "a\nb", "\x7f"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_non_null(hub_path_fault(bad[i], strlen(bad[i])));
    assert_non_null(hub_path_fault("a\0b", 3));
}

static void test_urls(void **state) {
    hub *h = make_hub();
    assert_string_equal(h->endpoint, "http://localhost:8000");
    assert_null(h->token);
    assert_string_equal(hub_file_url(h, &h->mem, "a b/c%#?\xc3\xa9.gguf"), "http://localhost:8000/org/name/resolve/abc/a%20b/c%25%23%3F%C3%A9.gguf");
    assert_string_equal(hub_escape(&h->mem, "refs/pr/1", false), "refs%2Fpr%2F1");
    free_hub(h);
}

static void test_links(void **state) {
    char query[64];
    assert_true(hub_next_query("<https://hub/api/x?recursive=true&cursor=Z%3D>; rel=\"next\"", query, sizeof query));
    assert_string_equal(query, "recursive=true&cursor=Z%3D");
    assert_true(hub_next_query("<https://hub/x?a=1>; rel=\"prev\", <https://hub/x?a=3>; rel=\"next\"", query, sizeof query));
    assert_string_equal(query, "a=3");
    static const char *const none[] = {"", "<", "<x>; rel=\"next\"", "<x?>; rel=\"next\"", "<x?a=1>; rel=\"prev\"", "<x?a b>; rel=\"next\"", "x?a=1; rel=\"next\"",
                                       "<x?a=1", "<x?aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa>; rel=\"next\""};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) assert_false(hub_next_query(none[i], query, sizeof query));
}

static void test_spans(void **state) {
    span_set s = {0};
    bool covered[64] = {false};
    uint32_t seed = 1;
    for (int i = 0; i < 2000; i++) { /* against the plain picture; begun anew when all is covered */
        seed = seed * 1664525 + 1013904223;
        const uint64_t begin = seed >> 26, end = begin + (seed >> 8) % 5;
        assert_true(spans_add(&s, begin, end));
        for (uint64_t k = begin; k < end && k < 64; k++) covered[k] = true;
        spans_clip(&s, 64);
        uint64_t total = 0, in_spans = 0;
        for (int k = 0; k < 64; k++) total += covered[k];
        for (size_t k = 0; k < s.n; k++) {
            in_spans += s.at[k].end - s.at[k].begin;
            assert_true(s.at[k].begin < s.at[k].end && (k == 0 || s.at[k - 1].end < s.at[k].begin));
            for (uint64_t b = s.at[k].begin; b < s.at[k].end; b++) assert_true(covered[b]);
        }
        assert_int_equal(s.total, total);
        assert_int_equal(in_spans, total);
        if (total < 60) continue;
        spans_clip(&s, seed % 64);
        memset(covered + seed % 64, 0, 64 - seed % 64);
        if (i % 3 == 0) spans_clip(&s, 0), memset(covered, 0, sizeof covered);
    }
    spans_fini(&s);
}

static void test_journal(void **state) {
    char folder[] = "/tmp/snug-hub-XXXXXX", target[64], path[80];
    assert_non_null(mkdtemp(folder));
    snprintf(target, sizeof target, "%s/a", folder);
    snprintf(path, sizeof path, "%s.journal", target);
    hub_file f = {.path = "a", .bytes = 1000, .kind = DIGEST_GIT_SHA1, .hash = "0123", .target = target};
    span_set s = {0};
    uint64_t good;
    int fd;
    assert_int_equal(ranges_read(&f, &s, &good, NULL), SNUG_OK); /* there is none */
    assert_true(s.n == 0 && good == 0);
    assert_int_equal(ranges_open(&f, 0, &fd, NULL), SNUG_OK);
    assert_int_equal(ranges_add(&f, fd, 0, 10, NULL), SNUG_OK);
    assert_int_equal(ranges_add(&f, fd, 990, 1000, NULL), SNUG_OK);
    assert_int_equal(write(fd, "990 1001\n0 1000\n", 16), 16); /* beyond the end: there the journal ends */
    close(fd);
    assert_int_equal(ranges_read(&f, &s, &good, NULL), SNUG_OK);
    assert_true(s.n == 2 && s.total == 20 && good > 20);
    assert_int_equal(ranges_open(&f, good, &fd, NULL), SNUG_OK); /* what made no sense is gone */
    assert_int_equal(ranges_add(&f, fd, 10, 990, NULL), SNUG_OK);
    close(fd);
    spans_fini(&s);
    assert_int_equal(ranges_read(&f, &s, &good, NULL), SNUG_OK);
    assert_true(s.n == 1 && s.total == 1000);
    spans_fini(&s);
    f.bytes++; /* another content */
    assert_int_equal(ranges_read(&f, &s, &good, NULL), SNUG_OK);
    assert_true(s.n == 0 && good == 0);
    ranges_remove(&f);
    assert_int_not_equal(access(path, F_OK), 0);
    rmdir(folder);
}

static void test_hashes(void **state) {
    char hex[DIGEST_HEX_MAX];
    digest *d = digest_create(DIGEST_SHA256, 3);
    digest_update(d, "abc", 3);
    digest_hex(d, hex); /* FIPS 180-4 */
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest_destroy(d);
    d = digest_create(DIGEST_GIT_SHA1, 12);
    digest_update(d, "hello", 5);
    digest_update(d, " world\n", 7);
    digest_hex(d, hex); /* printf 'hello world\n' | git hash-object --stdin */
    assert_string_equal(hex, "3b18e512dba79e4c8300dd08aeb37f8e728b8dad");
    digest_destroy(d);
}

/* A hub whose list has these paths. */
static hub *listed(const char *const *paths, size_t n) {
    hub *h = make_hub();
    h->file = arena_calloc(&h->mem, n, sizeof *h->file);
    for (size_t i = 0; i < n; i++) h->file[i] = (hub_file){.path = paths[i], .bytes = 1};
    h->n_files = n;
    return h;
}

static void test_choices(void **state) {
    static const char *const names[] = {"a/config.json", "a/x.gguf", "chat_template.jinja", "config.json", "consolidated.safetensors", "merges.txt",
                                        "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "tokenizer.json", "tokenizer.model.v3"};
    static const bool wanted[] = {false, false, true, true, false, true, true, false, false, true, true};
    hub *h = listed(names, sizeof names / sizeof *names);
    assert_int_equal(hub_choose(h, NULL, 0, false, NULL), SNUG_OK);
    for (size_t i = 0; i < h->n_files; i++) assert_int_equal(h->file[i].chosen, wanted[i]);
    free_hub(h);
    h = listed(names, sizeof names / sizeof *names);
    static const char *const patterns[] = {"x.gguf", "a/c*"};
    assert_int_equal(hub_choose(h, patterns, 2, false, NULL), SNUG_OK);
    for (size_t i = 0; i < h->n_files; i++) assert_int_equal(h->file[i].chosen, i < 2);
    static const char *const nothing[] = {"*.pdf"};
    assert_int_equal(hub_choose(h, nothing, 1, false, NULL), SNUG_ERR_IO);
    free_hub(h);
    static const char *const series[] = {"m-00001-of-00012.gguf", "m-00012-of-00012.gguf"}, *const mixed[] = {"m-00001-of-00001.gguf", "n-00001-of-00001.gguf"};
    h = listed(series, 2);
    assert_int_equal(hub_choose(h, NULL, 0, false, NULL), SNUG_OK);
    assert_true(h->file[0].chosen && h->file[1].chosen);
    free_hub(h);
    h = listed(mixed, 2);
    assert_int_equal(hub_choose(h, NULL, 0, false, NULL), SNUG_ERR_ARG);
    assert_int_equal(hub_choose(h, NULL, 0, true, NULL), SNUG_OK);
    assert_false(h->file[0].chosen || h->file[1].chosen);
    free_hub(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sources), cmocka_unit_test(test_paths),   cmocka_unit_test(test_urls),   cmocka_unit_test(test_links),
        cmocka_unit_test(test_spans),   cmocka_unit_test(test_journal), cmocka_unit_test(test_hashes), cmocka_unit_test(test_choices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
