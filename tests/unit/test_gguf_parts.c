// rooms: base format
/* GGUF files in parts: cut and opened again by any of them, and what is refused: missing parts, numbers and counts that disagree, a tensor that
 * stands in two, a size that a tensor does not fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "format/gguf.h"
#include "tempfile.h"

enum { TENSORS = 9, COLS = 32 };
static char *dir;
static const char *at(const char *name) { return temp_path(dir, name); }

static void put(gguf_kvs *k, const char *key, uint64_t v) { assert_true(gguf_put_u32(k, key, (uint32_t)v)); }

/* n tensors from number `first` on, of growing size; part `no` of `count`, 0: none. */
static void write_file(const char *path, unsigned first, unsigned n, uint64_t no, uint64_t count, uint64_t total) {
    gguf_kvs kvs = {0};
    gguf_out_tensor t[TENSORS] = {0};
    char name[TENSORS][16];
    buf header = {0};
    uint64_t bytes;
    FILE *f = fopen(path, "wb");
    if (no == 0) assert_true(gguf_put_str(&kvs, "general.name", "whole", 5));
    if (count) put(&kvs, "split.no", no), put(&kvs, "split.count", count), put(&kvs, "split.tensors.count", total);
    for (unsigned i = 0; i < n; i++) {
        snprintf(name[i], sizeof name[i], "t%u", first + i);
        t[i] = (gguf_out_tensor){.name = name[i], .type = GGML_F32, .n_dims = 2, .dims = {COLS, 1 + first + i, 1, 1}, .bytes = 4 * COLS * (1 + first + i)};
    }
    assert_int_equal(gguf_layout(&kvs, t, n, 32, &header, &bytes, NULL), SNUG_OK);
    assert_int_equal(fwrite(header.data, 1, header.len, f), header.len);
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < t[i].bytes; k++) fputc((int)(first + i + k), f);
    fclose(f);
    buf_fini(&header);
    gguf_kvs_fini(&kvs);
}

static void check_all(const char *path) {
    gguf_file *g;
    snug_error err = {0};
    snug_err rc = gguf_open_parts(path, &g, &err);
    if (rc) fail_msg("%s", err.message);
    assert_int_equal(g->n_tensors, TENSORS);
    assert_string_equal(gguf_get_str_or(g, "general.name", "?"), "whole");
    for (unsigned i = 0; i < TENSORS; i++) {
        char name[16];
        uint8_t data[4 * COLS * TENSORS];
        snprintf(name, sizeof name, "t%u", i);
        const gguf_tensor *t = gguf_find_tensor(g, name);
        assert_non_null(t);
        assert_int_equal(t->bytes, 4 * COLS * (1 + i));
        assert_int_equal(io_pread(&g->files[t->file], t->offset, data, (size_t)t->bytes, NULL), SNUG_OK);
        for (unsigned k = 0; k < t->bytes; k++) assert_int_equal(data[k], (uint8_t)(i + k));
    }
    gguf_close(&g);
}

static snug_err cut(const char *path, const char *prefix, uint64_t most, size_t *n, snug_error *err) {
    meter m;
    meter_init(&m, (snug_progress){0});
    meter_add(&m, "split", "bytes", 0, 1);
    meter_begin(&m, 0);
    return gguf_split(path, prefix, most, &m, n, err);
}

static void cut_and_opened(void **state) {
    size_t n;
    snug_error err = {0};
    write_file(at("whole.gguf"), 0, TENSORS, 0, 0, 0);
    check_all(at("whole.gguf"));
    for (uint64_t most = 1600; most < 9000; most += 700) {
        char prefix[256], suffix[GGUF_PART_SUFFIX_MAX];
        snprintf(prefix, sizeof prefix, "%s/cut%llu", dir, (unsigned long long)most);
        if (cut(at("whole.gguf"), prefix, most, &n, &err)) fail_msg("%s", err.message);
        assert_true(n > 1 || most > 6000);
        for (size_t i = 0; i < n; i++) {
            char path[512];
            io_file f;
            gguf_part_suffix(i, n, suffix);
            snprintf(path, sizeof path, "%s%s", prefix, suffix);
            assert_int_equal(io_open(path, &f, NULL), SNUG_OK);
            assert_true(f.bytes <= most);
            io_close(&f);
            check_all(path);
        }
    }
    assert_int_equal(cut(at("whole.gguf"), at("no"), 1200, &n, &err), SNUG_ERR_BUDGET);
    assert_non_null(strstr(err.message, "t8 alone takes"));
    assert_int_equal(cut(at("whole.gguf"), at("no"), 100, &n, &err), SNUG_ERR_BUDGET);
    assert_non_null(strstr(err.message, "its header alone takes"));
}

/* Opens `path` and expects an error that says all of the words. */
static void refuses(const char *path, const char *word, const char *other) {
    gguf_file *g;
    snug_error err = {0};
    assert_int_not_equal(gguf_open_parts(path, &g, &err), SNUG_OK);
    assert_null(g);
    if (!strstr(err.message, word) || !strstr(err.message, other)) fail_msg("\"%s\" does not say \"%s\" and \"%s\"", err.message, word, other);
}

static void refused(void **state) {
    const char *first = at("x-00001-of-00002.gguf"), *second = at("x-00002-of-00002.gguf");
    write_file(first, 0, 4, 0, 2, TENSORS);
    unlink(second);
    refuses(first, "x-00002-of-00002.gguf: is missing", "2 parts");
    write_file(second, 4, 5, 1, 2, TENSORS);
    check_all(second);
    write_file(second, 4, 5, 0, 2, TENSORS);
    refuses(first, "split.no' is 0", "expected 1 and 2");
    write_file(second, 4, 5, 1, 3, TENSORS);
    refuses(first, "'split.count' is 3", "expected 1 and 2");
    write_file(second, 4, 5, 2, 2, TENSORS);
    refuses(first, "split.no' is 2", "below a count");
    write_file(second, 4, 4, 1, 2, TENSORS);
    refuses(first, "split.tensors.count' is 9", "found 8 tensors in 2 parts");
    write_file(second, 3, 5, 1, 2, TENSORS);
    refuses(first, "tensor 't3' stands in", "too");
    write_file(at("other.gguf"), 4, 5, 1, 2, TENSORS);
    refuses(at("other.gguf"), "part 2 of 2", "-00002-of-00002.gguf");
    write_file(second, 4, 5, 0, 0, 0);
    refuses(first, "x-00002-of-00002.gguf", "'split.count' is 0");
}

static int make_dir(void **state) {
    dir = temp_dir_make();
    return 0;
}
static int remove_dir(void **state) {
    temp_dir_remove(dir);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(cut_and_opened), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
