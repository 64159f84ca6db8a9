/* Any bytes as what a hub sends (a commit, a page of the list, an index, a Link header) and as a journal: what is taken is safe. */
#include "fuzz.h"
#include "hub/hub.h"

#include <string.h>

static char target[128];

static void clean_up(void) {
    char path[160];
    snprintf(path, sizeof path, "%s.journal", target);
    unlink(path);
}

static hub_file listed(void) {
    hub_file f = {.path = "model.safetensors", .bytes = 1000, .kind = DIGEST_SHA256, .target = target};
    for (int i = 0; i < 32; i++) memcpy(f.hash + 2 * i, "ab", 3);
    return f;
}

static void read_journal(const uint8_t *data, size_t n) {
    char path[160];
    snprintf(path, sizeof path, "%s.journal", target);
    FILE *out = fopen(path, "wb");
    FUZZ_CHECK(out && fwrite(data, 1, n, out) == n && fclose(out) == 0);
    const hub_file f = listed();
    span_set s = {0};
    uint64_t good, total = 0;
    FUZZ_CHECK(ranges_read(&f, &s, &good, NULL) == SNUG_OK && good <= n);
    for (size_t i = 0; i < s.n; i++) {
        FUZZ_CHECK(s.at[i].begin < s.at[i].end && s.at[i].end <= f.bytes && (i == 0 || s.at[i - 1].end < s.at[i].begin));
        total += s.at[i].end - s.at[i].begin;
    }
    FUZZ_CHECK(total == s.total);
    spans_fini(&s);
}

static void read_page(hub *h, const char *text, size_t n) {
    buf files = {0};
    if (hub_read_page(h, &files, text, n, NULL) == SNUG_OK)
        for (size_t i = 0; i < files.len / sizeof(hub_file); i++) {
            const hub_file *f = (const hub_file *)(void *)files.data + i;
            FUZZ_CHECK(f->path[0] != '/' && strncmp(f->path, "../", 3) != 0 && !strstr(f->path, "/../"));
            FUZZ_CHECK(strlen(f->hash) == digest_hex_length(f->kind) && hub_file_url(h, &h->mem, f->path));
        }
    buf_fini(&files);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!target[0]) {
        snprintf(target, sizeof target, "%s/snug-fuzz-hub-%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
        atexit(clean_up);
    }
    hub h = {.endpoint = "https://hub", .repository = "org/name", .name = "name", .revision = "main", .commit = "0"};
    hub_file file = listed();
    char *text = malloc(n + 1), query[100];
    FUZZ_CHECK(text);
    memcpy(text, data, n);
    text[n] = 0;
    read_page(&h, text, n);
    if (hub_read_commit(&h, text, n, NULL) == SNUG_OK) FUZZ_CHECK(strspn(h.commit, "0123456789abcdef") == strlen(h.commit));
    h.file = &file;
    h.n_files = 1;
    FUZZ_CHECK((hub_choose_shards(&h, text, n, NULL) == SNUG_OK) <= file.chosen);
    if (hub_next_query(text, query, sizeof query)) FUZZ_CHECK(*query && !strpbrk(query, " \r\n<>\"#"));
    (void)hub_path_fault(text, n);
    (void)hub_parse_source(&h, text, NULL);
    (void)hub_parse_access(&h, text, text, NULL);
    read_journal(data, n);
    free(text);
    arena_fini(&h.mem);
    return 0;
}
