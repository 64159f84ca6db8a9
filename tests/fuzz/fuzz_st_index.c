/* Any bytes as model.safetensors.index.json, beside two good shards. Only files of the folder may be opened. */
#include "format/safetensors.h"
#include "fuzz.h"

#include <string.h>

static char dir[128];

static void put(const char *name, const void *p, size_t n) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    FUZZ_CHECK(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
}

static void put_shard(const char *name, const char *header) {
    char file[512] = {0};
    uint64_t n = strlen(header);
    memcpy(file, &n, 8);
    memcpy(file + 8, header, n);
    put(name, file, 8 + n + 8);
}

static void clean_up(void) {
    static const char *const names[] = {"s1", "s2", "model.safetensors.index.json"};
    char path[256];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!dir[0]) {
        snprintf(dir, sizeof dir, "%s/snug-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        FUZZ_CHECK(mkdtemp(dir));
        atexit(clean_up);
        put_shard("s1", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}");
        put_shard("s2", "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}");
    }
    put("model.safetensors.index.json", data, n);
    st_set *set = NULL;
    snug_error e = {0};
    snug_err rc = st_open_dir(dir, &set, &e);
    FUZZ_CHECK((rc == SNUG_OK) == (set != NULL));
    if (set) {
        for (size_t i = 0; i < set->n_files; i++) {
            const char *p = set->files[i].path;
            FUZZ_CHECK(strncmp(p, dir, strlen(dir)) == 0 && !strchr(p + strlen(dir) + 1, '/'));
        }
        st_close(&set);
    } else {
        FUZZ_CHECK(e.code == rc && e.message[0]);
    }
    return 0;
}
