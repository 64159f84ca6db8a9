/* Any bytes as a safetensors file; bytes that begin with '{' also as the JSON of one, with a right length before it and 64 bytes
 * of data behind it (so that changes to the JSON do not all end at the length). What opens must lie inside the file, without
 * overlaps, and be found by name. */
#include "format/safetensors.h"
#include "fuzz.h"

#include <string.h>

static void open_as_file(const uint8_t *data, size_t n) {
    char path[64];
    st_set *set = NULL;
    snug_error e = {0};
    int fd = fuzz_file(data, n, path);
    snug_err rc = st_open_file(path, &set, &e);
    FUZZ_CHECK((rc == SNUG_OK) == (set != NULL));
    if (set) {
        for (size_t i = 0; i < set->n_tensors; i++) {
            const st_tensor *t = &set->tensors[i];
            FUZZ_CHECK(st_find(set, t->name) == t && t->n_dims <= 8);
            FUZZ_CHECK(t->offset >= 8 && t->offset <= n && t->bytes <= n - t->offset);
            uint64_t weights = 1;
            for (int d = 0; d < 8; d++) weights *= t->dims[d];
            if (t->dtype == ST_F32) FUZZ_CHECK(weights * 4 == t->bytes);
            if (t->dtype == ST_F16 || t->dtype == ST_BF16) FUZZ_CHECK(weights * 2 == t->bytes);
        }
        st_close(&set);
    } else {
        FUZZ_CHECK(e.code == rc && e.message[0]);
    }
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    open_as_file(data, n);
    if (n == 0 || data[0] != '{') return 0;
    uint64_t length = n;
    uint8_t *file = calloc(1, 8 + n + 64);
    FUZZ_CHECK(file);
    memcpy(file, &length, 8);
    memcpy(file + 8, data, n);
    open_as_file(file, 8 + n + 64);
    free(file);
    return 0;
}
