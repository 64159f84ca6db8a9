/* Any bytes as a safetensors file. What opens must lie inside the file, without overlaps, and be found by name. */
#include "format/safetensors.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
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
    return 0;
}
