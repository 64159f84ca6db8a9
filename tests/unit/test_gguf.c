// rooms: base format
/* GGUF: what is written reads back equal, and no file, however broken, does more than give an exact error. */
#include "base/err.h"
#include "base/f16.h"
#include "format/gguf.h"
#include "tempfile.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>
#include <cmocka.h>

static char *dir;
static char path[600];

static int make_dir(void **state) {
    dir = strdup(temp_dir_make());
    snprintf(path, sizeof path, "%s/t.gguf", dir);
    return 0;
}
static int remove_dir(void **state) {
    temp_dir_remove(dir);
    free(dir);
    return 0;
}

/* Opens bytes as a file; on success the caller closes. */
static snug_err open_bytes(const void *p, size_t n, gguf_file **g, snug_error *err) {
    temp_write(path, p, n);
    return gguf_open(path, g, err);
}

static void expect_error(const void *p, size_t n, snug_err code, const char *part) {
    gguf_file *g;
    snug_error e = {0};
    snug_err rc = open_bytes(p, n, &g, &e);
    if (rc != code || (part && !strstr(e.message, part))) fail_msg("found %d '%s', expected %d '%s'", rc, e.message, code, part ? part : "");
    assert_null(g);
}

/* ---- raw files, built by hand so that they can be wrong */

static void raw_str(buf *b, const char *s) {
    buf_append_u64(b, strlen(s));
    buf_append_str(b, s);
}
static void raw_head(buf *b, uint32_t version, uint64_t n_tensors, uint64_t n_kv) {
    b->len = 0;
    buf_append_str(b, "GGUF");
    buf_append_u32(b, version);
    buf_append_u64(b, n_tensors);
    buf_append_u64(b, n_kv);
}
static void raw_tensor(buf *b, const char *name, uint32_t type, uint64_t cols, uint64_t rows, uint64_t offset) {
    raw_str(b, name);
    buf_append_u32(b, 2);
    buf_append_u64(b, cols);
    buf_append_u64(b, rows);
    buf_append_u32(b, type);
    buf_append_u64(b, offset);
}
static void raw_u32(buf *b, const char *key, uint32_t v) {
    raw_str(b, key);
    buf_append_u32(b, GGUF_U32);
    buf_append_u32(b, v);
}
static void raw_data(buf *b, size_t n) {
    buf_pad(b, 32);
    for (size_t i = 0; i < n; i++) buf_append(b, "d", 1);
}

/* ---- writing and reading back */

static void make_kvs(gguf_kvs *k) {
    static const float f[] = {1.5f, -0.0f, 1e-40f};
    static const int32_t i32[] = {1, -2, 3};
    static const gguf_str words[] = {{"a", 1}, {"", 0}, {"b\0c", 3}};
    assert_true(gguf_put_str(k, "general.architecture", "llama", 5) && gguf_put_u32(k, "llama.block_count", 2) &&
                gguf_put_u64(k, "u64", UINT64_MAX) && gguf_put_i32(k, "i32", -7) && gguf_put_f32(k, "f32", 1e-5f) &&
                gguf_put_bool(k, "yes", true) && gguf_put_array(k, "floats", GGUF_F32, f, 3) &&
                gguf_put_array(k, "ints", GGUF_I32, i32, 3) && gguf_put_str_array(k, "words", words, 3) &&
                gguf_put_array(k, "none", GGUF_U8, NULL, 0));
    assert_int_equal(k->n, 10);
}

static gguf_out_tensor out_tensor(const char *name, uint32_t type, uint64_t cols, uint64_t rows) {
    uint32_t w = 1, b = 1;
    assert_true(ggml_type_info(type, NULL, &w, &b));
    return (gguf_out_tensor){.name = name, .type = type, .n_dims = rows > 1 ? 2 : 1, .dims = {cols, rows, 1, 1}, .bytes = cols / w * b * rows};
}

static void write_file(const gguf_kvs *k, gguf_out_tensor *t, size_t n, uint32_t alignment, buf *file) {
    uint64_t bytes;
    snug_error e = {0};
    if (gguf_layout(k, t, n, alignment, file, &bytes, &e) != SNUG_OK) fail_msg("%s", e.message);
    size_t data = file->len;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(file->len, data + t[i].offset);
        for (uint64_t j = 0; j < t[i].bytes; j++) buf_append(file, &(char){(char)('A' + i)}, 1);
        buf_pad(file, alignment);
    }
    assert_int_equal(file->len, bytes);
}

static void written_files_read_back(void **state) {
    gguf_kvs k = {0};
    buf file = {0};
    make_kvs(&k);
    gguf_out_tensor t[] = {out_tensor("embd", GGML_Q4_K, 256, 3), out_tensor("norm", GGML_F32, 5, 1), out_tensor("x", GGML_I8, 7, 2)};
    write_file(&k, t, 3, 32, &file);
    gguf_file *g;
    snug_error e = {0};
    assert_int_equal(open_bytes(file.data, file.len, &g, &e), SNUG_OK);
    assert_int_equal(g->version, 3);
    assert_int_equal(g->alignment, 32);
    assert_int_equal(g->n_kv, 10);
    assert_int_equal(g->n_tensors, 3);
    for (size_t i = 0; i < 3; i++) {
        const gguf_tensor *x = gguf_find_tensor(g, t[i].name);
        assert_ptr_equal(x, &g->tensors[i]); /* the order is kept */
        assert_int_equal(x->bytes, t[i].bytes);
        assert_int_equal(x->offset, g->data_offset + t[i].offset);
        assert_int_equal(x->type, t[i].type);
        assert_int_equal(x->n_dims, t[i].n_dims);
        assert_memory_equal(x->dims, t[i].dims, sizeof x->dims);
        uint8_t c = 0;
        assert_int_equal(io_pread(&g->file, x->offset + x->bytes - 1, &c, 1, NULL), SNUG_OK);
        assert_int_equal(c, 'A' + (int)i);
    }
    assert_null(gguf_find_tensor(g, "embe"));
    assert_null(gguf_find(g, "nothing"));

    uint64_t u;
    double d;
    assert_string_equal(gguf_get_str_or(g, "general.architecture", "?"), "llama");
    assert_string_equal(gguf_get_str_or(g, "u64", "?"), "?");
    assert_int_equal(gguf_get_u64(g, "llama.block_count", &u, &e), SNUG_OK);
    assert_int_equal(u, 2);
    assert_int_equal(gguf_get_u64(g, "u64", &u, &e), SNUG_OK);
    assert_true(u == UINT64_MAX);
    assert_int_equal(gguf_get_u64(g, "i32", &u, &e), SNUG_ERR_FORMAT);
    assert_non_null(strstr(e.message, "t.gguf: key 'i32': expected a positive integer, found -7"));
    assert_int_equal(gguf_get_u64(g, "f32", &u, &e), SNUG_ERR_FORMAT);
    assert_non_null(strstr(e.message, "found a value of type float32"));
    assert_int_equal(gguf_get_u64(g, "gone", &u, &e), SNUG_ERR_FORMAT);
    assert_non_null(strstr(e.message, "key 'gone' is missing"));
    assert_int_equal(gguf_get_u64_or(g, "gone", 5, &u, &e), SNUG_OK);
    assert_int_equal(u, 5);
    assert_int_equal(gguf_get_f64_or(g, "f32", 0, &d, &e), SNUG_OK);
    assert_true(d == (double)1e-5f);
    assert_int_equal(gguf_get_f64_or(g, "i32", 0, &d, &e), SNUG_OK);
    assert_true(d == -7);
    assert_int_equal(gguf_get_f64_or(g, "yes", 0, &d, &e), SNUG_ERR_FORMAT);
    assert_true(gguf_get_bool_or(g, "yes", false) && gguf_get_bool_or(g, "gone", true) && !gguf_get_bool_or(g, "f32", false));
    const gguf_kv *kv = gguf_find(g, "words");
    const gguf_str *s = kv->array;
    assert_int_equal(kv->n, 3);
    assert_string_equal(s[0].p, "a");
    assert_string_equal(s[1].p, "");
    assert_int_equal(s[2].n, 3);
    assert_memory_equal(s[2].p, "b\0c", 4);
    kv = gguf_find(g, "floats");
    assert_true(gguf_array_f64(kv, 0) == 1.5 && signbit(gguf_array_f64(kv, 1)) && gguf_array_f64(kv, 2) == (double)1e-40f);
    kv = gguf_find(g, "ints");
    assert_true(gguf_array_f64(kv, 1) == -2 && gguf_array_u64(kv, 1) == (uint64_t)-2 && gguf_array_u64(kv, 2) == 3);
    assert_int_equal(gguf_find(g, "none")->n, 0);

    gguf_kvs again = {0}; /* carried over to another file: the same bytes */
    for (size_t i = 0; i < g->n_kv; i++) assert_true(gguf_put_kv(&again, &g->kv[i]));
    assert_int_equal(again.bytes.len, k.bytes.len);
    assert_memory_equal(again.bytes.data, k.bytes.data, k.bytes.len);

    arena mem = {0}; /* a bare section, and keys that join an open file */
    gguf_kv *more;
    assert_int_equal(gguf_parse_kvs("blob", k.bytes.data, k.bytes.len, 10, &mem, &more, &e), SNUG_OK);
    assert_int_equal(gguf_merge_kvs(g, more, 10, &e), SNUG_ERR_FORMAT);
    assert_non_null(strstr(e.message, "stands there twice"));
    assert_int_equal(g->n_kv, 10);
    more[0].key = "tokenizer.late";
    assert_int_equal(gguf_merge_kvs(g, more, 1, &e), SNUG_OK);
    assert_string_equal(gguf_get_str_or(g, "tokenizer.late", "?"), "llama");
    assert_string_equal(gguf_get_str_or(g, "general.architecture", "?"), "llama");
    for (size_t n = 0; n < k.bytes.len; n++) assert_int_equal(gguf_parse_kvs("blob", k.bytes.data, n, 10, &mem, &more, &e), SNUG_ERR_FORMAT);
    assert_int_equal(gguf_parse_kvs("blob", k.bytes.data, k.bytes.len, 9, &mem, &more, &e), SNUG_ERR_FORMAT);
    assert_non_null(strstr(e.message, "blob: 9 keys were expected and read, but bytes are left"));
    arena_fini(&mem);
    gguf_kvs_fini(&again);
    gguf_kvs_fini(&k);
    gguf_close(&g);
    gguf_close(&g);
    buf_fini(&file);
}

static void every_number_type_is_widened(void **state) {
    static const struct { uint32_t type, bytes; const char *raw; double value; } cases[] = {
        {GGUF_U8, 1, "\xff", 255},           {GGUF_I8, 1, "\xff", -1},
        {GGUF_U16, 2, "\xff\xff", 65535},     {GGUF_I16, 2, "\xfe\xff", -2},
        {GGUF_U32, 4, "\1\0\0\x80", 2147483649.0}, {GGUF_I32, 4, "\0\0\0\x80", -2147483648.0},
        {GGUF_F32, 4, "\0\0\0\xc0", -2},      {GGUF_U64, 8, "\0\0\0\0\0\0\0\x80", 0x1p63},
        {GGUF_I64, 8, "\xff\xff\xff\xff\xff\xff\xff\xff", -1}, {GGUF_F64, 8, "\0\0\0\0\0\0\xf8\x3f", 1.5},
    };
    buf b = {0};
    arena mem = {0};
    gguf_kv *kv;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        b.len = 0;
        raw_str(&b, "s");
        buf_append_u32(&b, cases[i].type);
        buf_append(&b, cases[i].raw, cases[i].bytes);
        raw_str(&b, "a");
        buf_append_u32(&b, GGUF_ARRAY);
        buf_append_u32(&b, cases[i].type);
        buf_append_u64(&b, 2);
        for (int k = 0; k < 2; k++) buf_append(&b, cases[i].raw, cases[i].bytes);
        assert_int_equal(gguf_parse_kvs("b", b.data, b.len, 2, &mem, &kv, NULL), SNUG_OK);
        gguf_file g = {.n_kv = 2, .kv = kv, .kv_by_key = (const gguf_kv *[]){&kv[1], &kv[0]}, .file.path = "g"};
        double d;
        uint64_t u;
        assert_int_equal(gguf_get_f64_or(&g, "s", 0, &d, NULL), SNUG_OK);
        assert_true(d == cases[i].value);
        assert_true(gguf_array_f64(&kv[1], 1) == cases[i].value);
        bool whole = cases[i].value >= 0 && cases[i].value == floor(cases[i].value);
        assert_int_equal(gguf_get_u64(&g, "s", &u, NULL), whole ? SNUG_OK : SNUG_ERR_FORMAT);
        if (whole) assert_true((double)u == cases[i].value && gguf_array_u64(&kv[1], 1) == u);
        gguf_kvs copy = {0};
        assert_true(gguf_put_kv(&copy, &kv[0]) && gguf_put_kv(&copy, &kv[1]));
        assert_int_equal(copy.bytes.len, b.len);
        assert_memory_equal(copy.bytes.data, b.data, b.len);
        gguf_kvs_fini(&copy);
    }
    arena_fini(&mem);
    buf_fini(&b);
}

static void layout_refuses_what_would_not_open(void **state) {
    gguf_kvs k = {0};
    buf h = {0};
    uint64_t bytes;
    snug_error e = {0};
    gguf_out_tensor good = out_tensor("w", GGML_Q8_0, 64, 2), t[2] = {good, good};
    assert_int_equal(gguf_layout(&k, t, 2, 32, &h, &bytes, &e), SNUG_ERR_ARG);
    assert_non_null(strstr(e.message, "tensor 'w' would be written twice"));
    t[1].name = "0123456789012345678901234567890123456789012345678901234567890123";
    assert_int_equal(gguf_layout(&k, t, 2, 32, &h, &bytes, &e), SNUG_ERR_ARG);
    t[1].name++;
    assert_int_equal(gguf_layout(&k, t, 2, 32, &h, &bytes, &e), SNUG_OK);
    assert_int_equal(h.len % 32, 0);
    assert_int_equal(bytes, h.len + 160 + 160); /* 136 bytes each, padded */
    t[1].bytes++;
    assert_int_equal(gguf_layout(&k, t, 2, 32, &h, &bytes, &e), SNUG_ERR_ARG);
    assert_non_null(strstr(e.message, "137 bytes, but its type q8_0 and shape need 136"));
    t[1] = good;
    t[1].dims[0] = 33;
    assert_int_equal(gguf_layout(&k, t + 1, 1, 32, &h, &bytes, &e), SNUG_ERR_ARG);
    t[1] = good;
    t[1].type = 4;
    assert_int_equal(gguf_layout(&k, t + 1, 1, 32, &h, &bytes, &e), SNUG_ERR_ARG);
    assert_int_equal(gguf_layout(&k, t, 1, 64, &h, &bytes, &e), SNUG_ERR_ARG);
    assert_non_null(strstr(e.message, "general.alignment is 32, but the data are aligned to 64"));
    assert_true(gguf_put_u32(&k, "general.alignment", 64));
    assert_int_equal(gguf_layout(&k, t, 1, 64, &h, &bytes, &e), SNUG_OK);
    assert_true(gguf_put_u32(&k, "general.alignment", 64));
    assert_int_equal(gguf_layout(&k, t, 1, 64, &h, &bytes, &e), SNUG_ERR_ARG);
    assert_non_null(strstr(e.message, "key 'general.alignment' stands there twice"));
    gguf_kvs_fini(&k);
    assert_false(gguf_put_array(&k, "a", GGUF_STRING, "x", 1));
    assert_false(gguf_put_array(&k, "a", GGUF_U64, "x", UINT64_MAX));
    assert_int_equal(gguf_layout(&k, NULL, 0, 32, &h, &bytes, &e), SNUG_OK);
    assert_int_equal(bytes, 32);
    buf_fini(&h);
}

/* ---- hostile files */

static void headers_are_checked(void **state) {
    buf b = {0};
    expect_error("", 0, SNUG_ERR_FORMAT, "the file ends at byte 0");
    expect_error("GGUX\3\0\0\0", 8, SNUG_ERR_FORMAT, "is no GGUF file: expected the bytes 47 47 55 46, found 47 47 55 58");
    raw_head(&b, 1, 0, 0);
    expect_error(b.data, b.len, SNUG_ERR_UNSUPPORTED, "GGUF version 1, expected 2 or 3 at byte 4");
    raw_head(&b, 4, 0, 0);
    expect_error(b.data, b.len, SNUG_ERR_UNSUPPORTED, "GGUF version 4");
    raw_head(&b, 3u << 24, 0, 0);
    expect_error(b.data, b.len, SNUG_ERR_UNSUPPORTED, "big-endian");
    raw_head(&b, 3, 0, UINT64_MAX);
    expect_error(b.data, b.len, SNUG_ERR_FORMAT, "the length of its name needs 8 x 1 bytes from byte 24 on, but the file ends at byte 24");
    raw_head(&b, 3, UINT64_MAX, 0);
    expect_error(b.data, b.len, SNUG_ERR_FORMAT, "tensor: the length of its name");

    raw_head(&b, 3, 0, 1);
    buf_append_u64(&b, 1ull << 40);
    expect_error(b.data, b.len, SNUG_ERR_FORMAT, "the name's length is 1099511627776, expected 1 to 65535");
    raw_head(&b, 3, 0, 1);
    buf_append_u64(&b, 3);
    buf_append(&b, "a\0b", 3);
    buf_append_u32(&b, GGUF_BOOL);
    buf_append(&b, "\1", 1);
    expect_error(b.data, b.len, SNUG_ERR_FORMAT, "NUL");
    raw_head(&b, 3, 0, 1);
    raw_str(&b, "k");
    buf_append_u32(&b, 13);
    expect_error(b.data, b.len, SNUG_ERR_FORMAT, "t.gguf: key 'k': the value's type is 13, expected 0 to 12 at byte 33");
    raw_head(&b, 3, 0, 1);
    raw_str(&b, "k");
    buf_append_u32(&b, GGUF_BOOL);
    buf_append(&b, "\2", 1);
    expect_error(b.data, b.len, SNUG_ERR_FORMAT, "the bool is 2");
    raw_head(&b, 3, 0, 1);
    raw_str(&b, "k");
    buf_append_u32(&b, GGUF_STRING);
    buf_append_u64(&b, UINT64_MAX - 8);
    expect_error(b.data, b.len, SNUG_ERR_FORMAT, "a string needs 18446744073709551607 x 1 bytes from byte 45 on");
    for (int elem = 0; elem <= 12; elem++) { /* an array that claims the whole address space, of every type */
        raw_head(&b, 3, 0, 1);
        raw_str(&b, "k");
        buf_append_u32(&b, GGUF_ARRAY);
        buf_append_u32(&b, (uint32_t)elem);
        buf_append_u64(&b, UINT64_MAX / 8 + 2);
        buf_append_u64(&b, 0);
        expect_error(b.data, b.len, elem == GGUF_ARRAY ? SNUG_ERR_UNSUPPORTED : SNUG_ERR_FORMAT, "t.gguf: key 'k'");
    }
    raw_head(&b, 3, 0, 2);
    raw_u32(&b, "k", 1);
    raw_u32(&b, "k", 2);
    expect_error(b.data, b.len, SNUG_ERR_FORMAT, "key 'k' stands there twice");
    static const uint32_t bad[] = {0, 3, 48, 1u << 31};
    for (size_t i = 0; i < 4; i++) {
        raw_head(&b, 3, 0, 1);
        raw_u32(&b, "general.alignment", bad[i]);
        expect_error(b.data, b.len, SNUG_ERR_FORMAT, "key 'general.alignment' is ");
    }
    buf_fini(&b);
}

static void tensors_are_checked(void **state) {
    buf b = {0};
    static const struct { uint32_t type; uint64_t cols, rows, offset; snug_err code; const char *message; } cases[] = {
        {GGML_F32, 8, 2, 0, SNUG_ERR_FORMAT, "tensor 'w' needs 64 bytes from byte 96 on, but the file ends at byte 120"},
        {GGML_F32, 2, 2, 32, SNUG_ERR_FORMAT, "needs 16 bytes from byte 128 on"},
        {GGML_F32, 2, 2, 4, SNUG_ERR_FORMAT, "offset 4 is no multiple of the alignment 32"},
        {GGML_F32, 2, 2, UINT64_MAX - 31, SNUG_ERR_FORMAT, "tensor 'w' needs"},
        {GGML_F32, 0, 2, 0, SNUG_ERR_FORMAT, "dimension 0 is 0"},
        {GGML_F32, 1ull << 40, 1ull << 40, 0, SNUG_ERR_FORMAT, "the product of its dimensions overflows"},
        {GGML_F64, 1ull << 30, 1ull << 32, 0, SNUG_ERR_FORMAT, "its size in bytes overflows"},
        {GGML_Q4_K, 255, 1, 0, SNUG_ERR_FORMAT, "rows of 255 weights are no whole number of q4_k blocks (256 weights each)"},
        {4, 32, 1, 0, SNUG_ERR_UNSUPPORTED, "tensor 'w': ggml type 4 is not known to snug"},
        {99, 32, 1, 0, SNUG_ERR_UNSUPPORTED, "ggml type 99"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        raw_head(&b, 2, 1, 0);
        raw_tensor(&b, "w", cases[i].type, cases[i].cols, cases[i].rows, cases[i].offset);
        raw_data(&b, 24);
        expect_error(b.data, b.len, cases[i].code, cases[i].message);
    }
    raw_head(&b, 3, 1, 0);
    raw_str(&b, "w");
    buf_append_u32(&b, 5);
    raw_data(&b, 64);
    expect_error(b.data, b.len, SNUG_ERR_FORMAT, "tensor 'w': 5 dimensions, expected at most 4");
    raw_head(&b, 3, 2, 0);
    raw_tensor(&b, "a", GGML_F32, 4, 4, 0);
    raw_tensor(&b, "b", GGML_F32, 4, 2, 32);
    raw_data(&b, 64);
    expect_error(b.data, b.len, SNUG_ERR_FORMAT, "tensors 'a' and 'b' overlap");
    raw_head(&b, 3, 2, 0);
    raw_tensor(&b, "a", GGML_F32, 4, 2, 32);
    raw_tensor(&b, "a", GGML_F32, 4, 2, 0);
    raw_data(&b, 64);
    expect_error(b.data, b.len, SNUG_ERR_FORMAT, "tensor 'a' stands there twice");
    raw_head(&b, 2, 2, 0); /* out of order, but right; version 2 */
    raw_tensor(&b, "a", GGML_F32, 4, 2, 32);
    raw_tensor(&b, "b", GGML_F32, 4, 2, 0);
    raw_data(&b, 64);
    gguf_file *g;
    assert_int_equal(open_bytes(b.data, b.len, &g, NULL), SNUG_OK);
    assert_int_equal(g->version, 2);
    assert_true(gguf_find_tensor(g, "a")->offset > gguf_find_tensor(g, "b")->offset);
    gguf_close(&g);
    buf_fini(&b);
}

/* Shortened at every byte: an error each time, at the first byte that is missing or before it. */
static void truncated_anywhere(void **state) {
    gguf_kvs k = {0};
    buf file = {0};
    make_kvs(&k);
    gguf_out_tensor t[] = {out_tensor("a", GGML_F32, 5, 1), out_tensor("b", GGML_Q8_0, 32, 3)};
    write_file(&k, t, 2, 32, &file);
    size_t end = file.len - 26; /* the last tensor's 102 bytes are padded to 128: readers do not need that */
    for (size_t n = 0; n <= file.len; n++) {
        gguf_file *g;
        snug_error e = {0};
        snug_err rc = open_bytes(file.data, n, &g, &e);
        if (n >= end) {
            assert_int_equal(rc, SNUG_OK);
        } else {
            if (rc != SNUG_ERR_FORMAT || !strstr(e.message, "t.gguf: ")) fail_msg("%zu bytes: %d %s", n, rc, e.message);
            assert_int_equal(e.offset, n);
        }
        gguf_close(&g);
    }
    gguf_kvs_fini(&k);
    buf_fini(&file);
}

/* Every byte of the header replaced by hostile values: whatever opens must be usable, whatever does not must say why. */
static void corrupted_anywhere(void **state) {
    gguf_kvs k = {0};
    buf file = {0};
    make_kvs(&k);
    gguf_out_tensor t[] = {out_tensor("a", GGML_F32, 5, 1), out_tensor("b", GGML_Q8_0, 32, 3)};
    write_file(&k, t, 2, 32, &file);
    static const uint8_t values[] = {0, 1, 9, 0x7f, 0x80, 0xff};
    int fd = -1;
    temp_write(path, file.data, file.len);
    fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    for (size_t i = 0; i < file.len - 128; i++)
        for (size_t v = 0; v < sizeof values; v++) {
            gguf_file *g;
            snug_error e = {0};
            assert_int_equal(pwrite(fd, &values[v], 1, (off_t)i), 1);
            snug_err rc = gguf_open(path, &g, &e);
            if (rc == SNUG_OK) {
                for (size_t j = 0; j < g->n_tensors; j++) assert_true(g->tensors[j].offset + g->tensors[j].bytes <= g->file.bytes);
                for (size_t j = 0; j < g->n_kv; j++) assert_ptr_equal(gguf_find(g, g->kv[j].key), &g->kv[j]);
            } else {
                assert_true(strlen(e.message) > 10);
                assert_int_equal(e.code, rc);
            }
            gguf_close(&g);
            assert_int_equal(pwrite(fd, file.data + i, 1, (off_t)i), 1);
        }
    close(fd);
    gguf_kvs_fini(&k);
    buf_fini(&file);
}

/* A vocabulary larger than the reader's window, so that strings and numbers straddle its border, and a sparse file that claims
 * more header than anybody believes. */
static void large_headers(void **state) {
    enum { N = 200000 };
    gguf_kvs k = {0};
    buf file = {0};
    gguf_str *words = calloc(N, sizeof *words);
    char(*text)[16] = calloc(N, sizeof *text);
    float *scores = calloc(N, sizeof *scores);
    assert_true(words && text && scores);
    for (int i = 0; i < N; i++) {
        words[i] = (gguf_str){text[i], (uint64_t)snprintf(text[i], sizeof text[i], "tok%0*d", i % 9, i)};
        scores[i] = (float)i * 0.5f;
    }
    assert_true(gguf_put_str_array(&k, "tokens", words, N) && gguf_put_array(&k, "scores", GGUF_F32, scores, N));
    gguf_out_tensor t[] = {out_tensor("a", GGML_F32, 5, 1)};
    write_file(&k, t, 1, 32, &file);
    gguf_file *g;
    struct timespec a, b;
    temp_write(path, file.data, file.len);
    clock_gettime(CLOCK_MONOTONIC, &a);
    assert_int_equal(gguf_open(path, &g, NULL), SNUG_OK);
    clock_gettime(CLOCK_MONOTONIC, &b);
    print_message("header of %.1f MB, %d tokens: opened in %.1f ms, %.1f MB\n", (double)file.len * 1e-6, N,
                  (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) * 1e-6, (double)g->mem.total_bytes * 1e-6);
    assert_true(g->mem.total_bytes < 2 * file.len);
    const gguf_kv *kv = gguf_find(g, "tokens"), *sc = gguf_find(g, "scores");
    assert_int_equal(kv->n, N);
    for (int i = 0; i < N; i++) {
        const gguf_str *s = (const gguf_str *)kv->array + i;
        assert_string_equal(s->p, text[i]);
        assert_true(gguf_array_f64(sc, (uint64_t)i) == (double)scores[i]);
    }
    gguf_close(&g);
    raw_head(&file, 3, 0, 1);
    raw_str(&file, "k");
    buf_append_u32(&file, GGUF_ARRAY);
    buf_append_u32(&file, GGUF_U8);
    buf_append_u64(&file, 2ull << 30);
    temp_write(path, file.data, file.len);
    assert_int_equal(truncate(path, (off_t)5 << 30), 0);
    snug_error e = {0};
    assert_int_equal(gguf_open(path, &g, &e), SNUG_ERR_FORMAT);
    assert_non_null(strstr(e.message, "more than 1 GiB is not believed"));
    unlink(path);
    free(words);
    free(text);
    free(scores);
    gguf_kvs_fini(&k);
    buf_fini(&file);
}

static void type_tables(void **state) {
    const char *name;
    uint32_t w, b, known = 0;
    for (uint32_t t = 0; t < 64; t++)
        if (ggml_type_info(t, &name, &w, &b)) {
            known++;
            assert_true((w == 1 || (w >= 32 && w <= 256)) && b > 0 && strlen(name) >= 2);
        }
    assert_int_equal(known, 34);
    assert_true(ggml_type_info(GGML_Q6_K, NULL, NULL, NULL));
    assert_false(ggml_type_info(UINT32_MAX, &name, &w, &b));
    assert_string_equal(gguf_kv_type_name(GGUF_F64), "float64");
    assert_string_equal(gguf_kv_type_name(13), "unknown");
    assert_int_equal(gguf_kv_type_bytes(GGUF_ARRAY), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_files_read_back), cmocka_unit_test(every_number_type_is_widened),
        cmocka_unit_test(layout_refuses_what_would_not_open), cmocka_unit_test(headers_are_checked),
        cmocka_unit_test(tensors_are_checked), cmocka_unit_test(truncated_anywhere), cmocka_unit_test(corrupted_anywhere),
        cmocka_unit_test(large_headers), cmocka_unit_test(type_tables),
    };
    return cmocka_run_group_tests_name("gguf", tests, make_dir, remove_dir);
}
