// rooms: base format
/* safetensors: single files, shards with an index, and files that lie. */
#include "base/buf.h"
#include "format/safetensors.h"
#include "tempfile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <cmocka.h>

static char *dir;

static int make_dir(void **state) {
    dir = strdup(temp_dir_make());
    return 0;
}
static int remove_dir(void **state) {
    temp_dir_remove(dir);
    free(dir);
    return 0;
}

/* A file of that header and n_data bytes 0, 1, 2 ... */
static void write_st(const char *name, const char *header, size_t n_data) {
    buf b = {0};
    buf_append_u64(&b, strlen(header));
    buf_append_str(&b, header);
    for (size_t i = 0; i < n_data; i++) buf_append(&b, &(uint8_t){(uint8_t)i}, 1);
    temp_write(temp_path(dir, name), b.data, b.len);
    buf_fini(&b);
}

static void expect_error(const char *header, size_t n_data, const char *part) {
    st_set *set;
    snug_error e = {0};
    write_st("bad.safetensors", header, n_data);
    snug_err rc = st_open_file(temp_path(dir, "bad.safetensors"), &set, &e);
    if (rc != SNUG_ERR_FORMAT || !strstr(e.message, part)) fail_msg("%s\nfound %d '%s', expected '%s'", header, rc, e.message, part);
    assert_non_null(strstr(e.message, "bad.safetensors: "));
    assert_null(set);
}

static const char GOOD[] = "{\"__metadata__\":{\"format\":\"pt\"},\"b.weight\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"
                           "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                           "\"scalar\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[16,24]},"
                           "\"empty\":{\"dtype\":\"F16\",\"shape\":[0,5],\"data_offsets\":[8,8]},"
                           "\"fp4\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[24,26]},"
                           "\"odd\":{\"dtype\":\"NEW9\",\"shape\":[7],\"data_offsets\":[26,30]}}   ";

static void a_file_reads(void **state) {
    st_set *set;
    snug_error e = {0};
    write_st("good.safetensors", GOOD, 30);
    assert_int_equal(st_open_file(temp_path(dir, "good.safetensors"), &set, &e), SNUG_OK);
    assert_int_equal(set->n_files, 1);
    assert_int_equal(set->n_tensors, 6);
    for (size_t i = 1; i < 6; i++) assert_true(strcmp(set->tensors[i - 1].name, set->tensors[i].name) < 0);
    const st_tensor *t = st_find(set, "b.weight");
    assert_int_equal(t->dtype, ST_BF16);
    assert_string_equal(t->dtype_name, "BF16");
    assert_int_equal(t->n_dims, 2);
    assert_true(t->dims[0] == 2 && t->dims[1] == 3 && t->dims[2] == 1 && t->dims[7] == 1);
    assert_int_equal(t->bytes, 12);
    uint8_t first;
    assert_int_equal(io_pread(&set->files[t->file], t->offset, &first, 1, &e), SNUG_OK);
    assert_int_equal(first, 4);
    assert_int_equal(st_find(set, "scalar")->n_dims, 0);
    assert_int_equal(st_find(set, "scalar")->dtype, ST_OTHER);
    assert_int_equal(st_find(set, "empty")->bytes, 0);
    assert_string_equal(st_find(set, "odd")->dtype_name, "NEW9");
    assert_null(st_find(set, "gone"));
    st_close(&set);
    st_close(&set);
    assert_int_equal(st_open_file(temp_path(dir, "none"), &set, &e), SNUG_ERR_IO);
}

static void headers_are_checked(void **state) {
    st_set *set;
    snug_error e = {0};
    const char *path = temp_path(dir, "raw.safetensors");
    temp_write(path, "\5\0\0", 3);
    assert_int_equal(st_open_file(path, &set, &e), SNUG_ERR_FORMAT);
    assert_non_null(strstr(e.message, "ends at byte 3"));
    temp_write(path, "\377\377\377\377\377\377\377\377{}", 10);
    assert_int_equal(st_open_file(path, &set, &e), SNUG_ERR_FORMAT);
    assert_non_null(strstr(e.message, "the header's length is 18446744073709551615 bytes, expected at most 100000000"));
    temp_write(path, "\3\0\0\0\0\0\0\0{}", 10);
    assert_int_equal(st_open_file(path, &set, &e), SNUG_ERR_FORMAT);
    assert_non_null(strstr(e.message, "the header needs 3 bytes from byte 8 on, but the file ends at byte 10"));
    expect_error("[]", 0, "the header is no JSON object");
    expect_error("{\"a\":", 0, "not valid JSON");
    expect_error("", 0, "not valid JSON");
    expect_error("{\"a\":1}", 0, "tensor 'a': field 'dtype' is missing or no string");
    expect_error("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "tensor 'a': field 'shape' is missing or no array");
    expect_error("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "something else than positive integers");
    expect_error("{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, "something else than positive integers");
    expect_error("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "field 'data_offsets' is missing");
    expect_error("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "no pair of rising positive integers");
    expect_error("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 8, "no pair");
    expect_error("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, "tensor 'a' needs 8 bytes from byte 62 on, but the file ends at byte 69");
    expect_error("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 8, "tensor 'a': 2 elements of F32 at 32 bits do not make 4 bytes");
    expect_error("{\"a\":{\"dtype\":\"F4\",\"shape\":[1],\"data_offsets\":[0,1]}}", 8, "do not make 1 bytes");
    expect_error("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}", 8, "the product of its dimensions overflows");
    expect_error("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,1073741824],\"data_offsets\":[0,4]}}", 8, "do not make");
    expect_error("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 8, "9 dimensions, expected at most 8");
    expect_error("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[2,4]}}", 8,
                 "tensors 'a' and 'b' overlap");
    expect_error("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8,
                 "duplicate object key");
    expect_error("{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,4]}}", 8, "not valid JSON: too big integer");
}

static void truncated_and_corrupted_anywhere(void **state) {
    buf b = {0};
    buf_append_u64(&b, strlen(GOOD));
    buf_append_str(&b, GOOD);
    size_t header = b.len;
    for (int i = 0; i < 30; i++) buf_append(&b, "x", 1);
    const char *path = temp_path(dir, "cut.safetensors");
    st_set *set;
    for (size_t n = 0; n < b.len; n++) {
        snug_error e = {0};
        temp_write(path, b.data, n);
        assert_int_equal(st_open_file(path, &set, &e), SNUG_ERR_FORMAT);
        assert_int_equal(e.offset, n);
    }
    static const uint8_t values[] = {0, '"', '9', '[', '}', 0xff};
    for (size_t i = 0; i < header; i++)
        for (size_t v = 0; v < sizeof values; v++) {
            snug_error e = {0};
            uint8_t old = b.data[i];
            b.data[i] = values[v];
            temp_write(path, b.data, b.len);
            snug_err rc = st_open_file(path, &set, &e);
            b.data[i] = old;
            if (rc == SNUG_OK) {
                for (size_t k = 0; k < set->n_tensors; k++)
                    assert_true(set->tensors[k].offset + set->tensors[k].bytes <= set->files[0].bytes);
            } else {
                assert_int_equal(rc, SNUG_ERR_FORMAT);
                assert_true(strlen(e.message) > 10);
            }
            st_close(&set);
        }
    buf_fini(&b);
}

static char sub[600];
static void expect_index(const char *index, snug_err code, const char *part) {
    st_set *set;
    snug_error e = {0};
    temp_write(temp_path(sub, "model.safetensors.index.json"), index, strlen(index));
    snug_err rc = st_open_dir(sub, &set, &e);
    if (rc != code || !strstr(e.message, part)) fail_msg("%s\nfound %d '%s', expected '%s'", index, rc, e.message, part);
    st_close(&set);
}

static void shards(void **state) {
    st_set *set;
    snug_error e = {0};
    snprintf(sub, sizeof sub, "%s/model", dir);
    assert_int_equal(mkdir(sub, 0777), 0);
    assert_int_equal(st_open_dir(sub, &set, &e), SNUG_ERR_FORMAT);
    assert_non_null(strstr(e.message, "holds neither model.safetensors nor model.safetensors.index.json"));
    temp_write(temp_path(sub, "pytorch_model.bin"), "x", 1);
    assert_int_equal(st_open_dir(sub, &set, &e), SNUG_ERR_UNSUPPORTED);
    assert_non_null(strstr(e.message, "has pytorch_model.bin, and snug reads safetensors alone; this writes them beside it: python3 -c"));
    write_st("model/s1.safetensors", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[4,8]}}", 8);
    write_st("model/s2.safetensors", "{\"c\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4);
    write_st("model/s3.safetensors", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
    static const char index_json[] = "{\"metadata\":{\"total_size\":12},\"weight_map\":{\"c\":\"s2.safetensors\",\"a\":\"s1.safetensors\"}}";
    temp_write(temp_path(sub, "model.safetensors.index.json"), index_json, strlen(index_json));
    assert_int_equal(st_open_dir(sub, &set, &e), SNUG_OK);
    assert_int_equal(set->n_files, 2);
    assert_int_equal(set->n_tensors, 3); /* b is in a shard, though not in the index */
    assert_string_equal(strrchr(set->files[st_find(set, "c")->file].path, '/'), "/s2.safetensors");
    st_close(&set);
    expect_index("{}", SNUG_ERR_FORMAT, "field 'weight_map': expected an object, found nothing");
    expect_index("{\"weight_map\":[]}", SNUG_ERR_FORMAT, "field 'weight_map': expected an object");
    expect_index("{\"weight_map\":{}}", SNUG_ERR_FORMAT, "names 0 files");
    expect_index("{\"weight_map\":{\"a\":5}}", SNUG_ERR_FORMAT, "tensor 'a': expected a plain file name in the same folder, found no string");
    static const char *const bad[] = {"../s1.safetensors", "/etc/passwd", "..", ".", "", "x/y", "s1\\\\u0000.safetensors"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char index[200];
        snprintf(index, sizeof index, "{\"weight_map\":{\"a\":\"%s\"}}", bad[i]);
        expect_index(index, SNUG_ERR_FORMAT, "expected a plain file name in the same folder");
    }
    expect_index("{\"weight_map\":{\"a\":\"s1\\u0000.safetensors\"}}", SNUG_ERR_FORMAT, "expected a plain file name");
    expect_index("{\"weight_map\":{\"a\":\"s9.safetensors\"}}", SNUG_ERR_IO, "s9.safetensors: cannot open: No such file");
    expect_index("{\"weight_map\":{\"zz\":\"s2.safetensors\"}}", SNUG_ERR_FORMAT,
                 "model.safetensors.index.json: tensor 'zz' should be in s2.safetensors, but is not there");
    expect_index("{\"weight_map\":{\"a\":\"s2.safetensors\",\"b\":\"s1.safetensors\"}}", SNUG_ERR_FORMAT, "tensor 'a' should be in s2.safetensors");
    expect_index("{\"weight_map\":{\"a\":\"s1.safetensors\",\"c\":\"s3.safetensors\"}}", SNUG_ERR_FORMAT, "tensor 'c' should be in s3.safetensors");
    expect_index("{\"weight_map\":{\"a\":\"s3.safetensors\",\"b\":\"s1.safetensors\"}}", SNUG_OK, ""); /* the index decides who has a */
    write_st("model/s4.safetensors", "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"d\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}", 4);
    expect_index("{\"weight_map\":{\"a\":\"s1.safetensors\",\"d\":\"s4.safetensors\"}}", SNUG_ERR_FORMAT, "tensor 'b' stands in");
    write_st("model/model.safetensors", "{}", 0); /* the single file wins */
    assert_int_equal(st_open_dir(sub, &set, &e), SNUG_OK);
    assert_int_equal(set->n_tensors, 0);
    assert_null(st_find(set, "a"));
    st_close(&set);
    assert_int_equal(st_open_dir("/nonexistent", &set, &e), SNUG_ERR_IO);
    assert_non_null(strstr(e.message, "/nonexistent: is no directory"));
    temp_dir_remove(sub);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_reads),
        cmocka_unit_test(headers_are_checked),
        cmocka_unit_test(truncated_and_corrupted_anywhere),
        cmocka_unit_test(shards),
    };
    return cmocka_run_group_tests_name("safetensors", tests, make_dir, remove_dir);
}
