/* Replays a corpus through a fuzz target without libFuzzer, so that any compiler and any sanitizer can run it as a test:
 *
 *     fuzz_replay_gguf FOLDER_OR_FILE... [--mutate N]
 *
 * Every file is given to the target as it is, then in N variants that are the same in every run: cut short, bytes changed,
 * pieces removed, doubled or overwritten. A finding is a crash or a sanitizer's report; the variant's number is printed before
 * each file so that it can be made again. */
#include "fuzz.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

static uint64_t state;
static uint32_t below(uint32_t n) { /* xorshift64*: the variants must not depend on the code under test */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return n ? (uint32_t)(state * 0x2545f4914f6cdd1du >> 32) % n : 0;
}

static size_t mutate(uint8_t *p, size_t n) {
    static const uint8_t odd[] = {0, 1, 0x7f, 0x80, 0xff, '"', '{', '}', '[', ']', ',', ':', '9', '-', '\\', ' '};
    for (uint32_t k = 1 + below(3); k > 0 && n > 0; k--) {
        size_t at = below((uint32_t)n), len = 1 + below(16), to = below((uint32_t)n);
        switch (below(5)) {
        case 0: n = at; break;
        case 1: p[at] = odd[below(sizeof odd)]; break;
        case 2: p[at] ^= (uint8_t)(1u << below(8)); break;
        case 3: /* remove a piece */
            if (len > n - at) len = n - at;
            memmove(p + at, p + at + len, n - at - len);
            n -= len;
            break;
        case 4: /* one piece over another */
            if (len > n - at) len = n - at;
            if (len > n - to) len = n - to;
            memmove(p + to, p + at, len);
            break;
        }
    }
    return n;
}

static void replay_file(const char *path, unsigned variants) {
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) != 0) {
        perror(path);
        exit(1);
    }
    size_t n = (size_t)st.st_size;
    uint8_t *data = malloc(n + 1);
    if (!data || fread(data, 1, n, f) != n) exit(1);
    fclose(f);
    printf("%s (%zu bytes, %u variants)\n", path, n, variants);
    fflush(stdout);
    for (unsigned v = 0; v <= variants; v++) {
        uint8_t *copy = malloc(n ? n : 1); /* its own allocation: reading past the end is seen */
        if (!copy) exit(1);
        memcpy(copy, data, n);
        state = 0x9e3779b97f4a7c15u * (v + 1);
        size_t m = v ? mutate(copy, n) : n;
        uint8_t *exact = m < n ? realloc(copy, m ? m : 1) : copy;
        if (!exact) exit(1);
        LLVMFuzzerTestOneInput(exact, m);
        free(exact);
    }
    free(data);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void replay(const char *path, unsigned variants) {
    DIR *d = opendir(path);
    if (!d) {
        replay_file(path, variants);
        return;
    }
    char *names[4096];
    size_t n = 0;
    for (struct dirent *e; (e = readdir(d)) && n < 4096;)
        if (e->d_name[0] != '.' && asprintf(&names[n], "%s/%s", path, e->d_name) > 0) n++;
    closedir(d);
    qsort(names, n, sizeof *names, by_name);
    if (n == 0) {
        fprintf(stderr, "%s: no files\n", path);
        exit(1);
    }
    for (size_t i = 0; i < n; i++) {
        replay_file(names[i], variants);
        free(names[i]);
    }
}

int main(int argc, char **argv) {
    unsigned variants = 0;
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], "--mutate") == 0) variants = (unsigned)strtoul(argv[i + 1], NULL, 10);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--mutate") == 0) i++;
        else replay(argv[i], variants);
    }
    return 0;
}
