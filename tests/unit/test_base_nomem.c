// rooms: base format
/* Every allocation refused in turn: the readers and the writer must give an error, free what they had, and never crash. The
 * allocator's entry points are ours here; under AddressSanitizer they are the sanitizer's, and the test is skipped. */
#include "base/buf.h"
#include "base/json.h"
#include "format/gguf.h"
#include "format/safetensors.h"
#include "tempfile.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || !defined(__GLIBC__)
#define NO_INTERPOSITION 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NO_INTERPOSITION 1
#endif
#endif

#ifdef NO_INTERPOSITION
int main(void) { return 77; }
#else

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

#define EXPORT __attribute__((visibility("default"))) /* libc and jansson must find these too */
static long countdown = -1; /* -1: all is granted; else allocations until one is refused */
static bool and_all_after;
static long live, refused;

static bool refuse(void) {
    if (countdown < 0) return false;
    if (countdown > 0) {
        countdown--;
        return false;
    }
    if (!and_all_after && refused > 0) return false;
    refused++;
    errno = ENOMEM;
    return true;
}

EXPORT void *malloc(size_t n) {
    void *p = refuse() ? NULL : __libc_malloc(n);
    live += p != NULL;
    return p;
}
EXPORT void *calloc(size_t n, size_t size) {
    void *p = refuse() ? NULL : __libc_calloc(n, size);
    live += p != NULL;
    return p;
}
EXPORT void *realloc(void *old, size_t n) {
    if (refuse()) return NULL;
    void *p = __libc_realloc(old, n);
    live += p != NULL && old == NULL;
    return p;
}
EXPORT void free(void *p) {
    live -= p != NULL;
    __libc_free(p);
}

static char dir[512], gguf_path[600], st_path[600];
static buf kvs_bytes;
static uint64_t n_kvs;

static snug_err do_gguf(snug_error *e) {
    gguf_file *g;
    snug_err rc = gguf_open(gguf_path, &g, e);
    gguf_close(&g);
    return rc;
}

static snug_err do_write(snug_error *e) {
    gguf_kvs k = {0};
    buf header = {0};
    uint64_t bytes;
    gguf_out_tensor t = {.name = "w", .type = GGML_F32, .n_dims = 1, .dims = {8, 1, 1, 1}, .bytes = 32};
    gguf_str words[] = {{"a", 1}, {"b", 1}};
    bool ok = gguf_put_str(&k, "a", "text", 4) && gguf_put_str_array(&k, "b", words, 2) && gguf_put_u32(&k, "c", 1);
    snug_err rc = ok ? gguf_layout(&k, &t, 1, 32, &header, &bytes, e) : SNUG_ERR_NOMEM;
    gguf_kvs_fini(&k);
    buf_fini(&header);
    return rc;
}

static snug_err do_kvs(snug_error *e) {
    arena mem = {0};
    gguf_kv *kv;
    snug_err rc = gguf_parse_kvs("kvs", kvs_bytes.data, kvs_bytes.len, n_kvs, &mem, &kv, e);
    arena_fini(&mem);
    return rc;
}

static snug_err do_safetensors(snug_error *e) {
    st_set *set;
    snug_err rc = st_open_dir(st_path, &set, e);
    st_close(&set);
    return rc;
}

static snug_err do_json(snug_error *e) {
    static const char text[] = "{\"a\": [1, 2.5, \"x\", {\"b\": null}], \"n\": 1000000000000000019884624838656}";
    json_t *o;
    snug_err rc = json_read_buffer("t.json", text, strlen(text), &o, e);
    json_decref(o);
    return rc;
}

static snug_err do_writer(snug_error *e) {
    io_writer w;
    char path[600];
    snprintf(path, sizeof path, "%s/out", dir);
    snug_err rc = io_writer_open(path, false, false, &w, e);
    if (rc == SNUG_OK) rc = io_writer_write(&w, "x", 1, e);
    if (rc == SNUG_OK) rc = io_writer_commit(&w, e);
    io_writer_abort(&w);
    return rc;
}

static void refuse_each(snug_err (*fn)(snug_error *)) {
    for (int mode = 0; mode < 2; mode++)
        for (long n = 0;; n++) {
            snug_error e = {0};
            long before = live;
            refused = 0;
            and_all_after = mode == 1;
            countdown = n;
            snug_err rc = fn(&e);
            countdown = -1;
            if (live != before) fail_msg("allocation %ld refused: %ld blocks are left", n, live - before);
            if (rc != SNUG_OK && rc != SNUG_ERR_NOMEM) fail_msg("allocation %ld refused: %d %s", n, rc, e.message);
            if (refused == 0) {
                assert_int_equal(rc, SNUG_OK);
                assert_true(n > 0);
                break;
            }
        }
}

static void gguf_reader(void **state) { refuse_each(do_gguf); }
static void gguf_writer(void **state) { refuse_each(do_write); }
static void gguf_keys(void **state) { refuse_each(do_kvs); }
static void safetensors_reader(void **state) { refuse_each(do_safetensors); }
static void json_reader(void **state) { refuse_each(do_json); }
static void file_writer(void **state) { refuse_each(do_writer); }

static int make_files(void **state) {
    json_set_alloc_funcs(__libc_malloc, __libc_free); /* jansson 2.14 itself asserts when it is refused memory (lex_unget_unsave) */
    snprintf(dir, sizeof dir, "%s", temp_dir_make());
    snprintf(gguf_path, sizeof gguf_path, "%s/t.gguf", dir);
    snprintf(st_path, sizeof st_path, "%s/hf", dir);
    mkdir(st_path, 0777);
    gguf_kvs k = {0};
    buf file = {0};
    uint64_t bytes;
    gguf_str words[] = {{"a", 1}, {"b", 1}};
    uint32_t numbers[3000] = {1};
    gguf_out_tensor t = {.name = "w", .type = GGML_F32, .n_dims = 1, .dims = {8, 1, 1, 1}, .bytes = 32};
    if (!gguf_put_str(&k, "s", "text", 4) || !gguf_put_str_array(&k, "w", words, 2) || !gguf_put_array(&k, "n", GGUF_U32, numbers, 3000) ||
        gguf_layout(&k, &t, 1, 32, &file, &bytes, NULL) != SNUG_OK)
        return 1;
    buf_append(&file, numbers, 32);
    temp_write(gguf_path, file.data, file.len);
    kvs_bytes = k.bytes;
    n_kvs = k.n;
    buf_fini(&file);
    static const char shard[] = "\x3c\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}        1234";
    static const char index[] = "{\"weight_map\":{\"a\":\"s1\"}}";
    temp_write(temp_path(st_path, "s1"), shard, sizeof shard - 1);
    temp_write(temp_path(st_path, "model.safetensors.index.json"), index, strlen(index));
    return 0;
}

static int remove_files(void **state) {
    buf_fini(&kvs_bytes);
    temp_dir_remove(st_path);
    temp_dir_remove(dir);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_reader),        cmocka_unit_test(gguf_writer), cmocka_unit_test(gguf_keys),
        cmocka_unit_test(safetensors_reader), cmocka_unit_test(json_reader), cmocka_unit_test(file_writer),
    };
    return cmocka_run_group_tests_name("base nomem", tests, make_files, remove_files);
}
#endif
