/* What the fuzz targets share: one entry point per target, called with any bytes, and input as a file that has a path. */
#ifndef FUZZ_H
#define FUZZ_H
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* A property that must hold for every input. Not assert: it stays in release builds. */
#define FUZZ_CHECK(condition)                                                                       \
    do {                                                                                            \
        if (!(condition)) {                                                                         \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);          \
            abort();                                                                                \
        }                                                                                           \
    } while (0)

/* The bytes in an anonymous file; path is good as long as it is open. Returns its descriptor. */
static inline int fuzz_file(const uint8_t *data, size_t n, char path[64]) {
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n) {
        perror("memfd");
        exit(1);
    }
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}
#endif
