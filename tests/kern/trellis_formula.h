/* A second reading of the pages about trellis codes. */
#ifndef TESTS_KERN_TRELLIS_FORMULA_H
#define TESTS_KERN_TRELLIS_FORMULA_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The weights of a panel by the page of the format (docs/format.md 3.10), with nothing of kern/trellis.h. */
static inline double tcqf_weight(const uint8_t *panel, size_t r, size_t c) {
    static const int level[16] = {-25, -16, -12, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 12, 16, 25};
    static const int place[8][2] = {{0, 0}, {0, 2}, {1, 0}, {1, 2}, {0, 1}, {0, 3}, {1, 1}, {1, 3}}; /* of a column of 8: state, nibble */
    const uint8_t *newer = panel + 32 + 32 * (c / 8) + 2 * r + (size_t)place[c % 8][0];
    const uint32_t x = newer[-1] + 256u * newer[0], code = (x ^ x / 512) * 46193u % 65536;
    const uint32_t d = (panel[2 * r] + 256u * panel[2 * r + 1]) << 16;
    float scale;
    memcpy(&scale, &d, sizeof scale);
    return (double)scale * level[code >> 4 * place[c % 8][1] & 15];
}

/* The same of 3.11; the stream bit by bit. band: columns. */
static inline double tcq_weight(const uint8_t *panel, unsigned quarters, size_t band, size_t n_chunks, size_t r, size_t c) {
    const size_t of_byte = 2 * band / 32;
    const uint8_t *mask_at = panel + 32 + (n_chunks + of_byte - 1) / of_byte;
    int rate[80], sum = 0;
    bool own = true;
    for (size_t k = 0; k < n_chunks; k++) {
        rate[k] = (int)quarters + (panel[32 + k / of_byte] >> (k % of_byte >= of_byte / 2 ? 4 : 0)) % 16 - 8;
        own = own && rate[k] >= 4 && rate[k] <= 24;
        sum += rate[k];
    }
    for (size_t k = 0; k < n_chunks && !(own && sum == (int)(quarters * n_chunks)); k++) rate[k] = (int)quarters;
    size_t end = 16 + (64 * (c / 4 % 8) + 4 * r + c % 4 + 1) * (size_t)rate[c / 32] / 4;
    for (size_t k = 0; k < c / 32; k++) end += 128 * (size_t)rate[k];
    const uint32_t mask = mask_at[0] + 256u * mask_at[1], limit = quarters < 14 ? 16 : quarters <= 20 ? 32 : 64;
    uint32_t x = 0;
    for (size_t i = 0; i < 16; i++) x |= (uint32_t)(mask_at[(end - 16 + i) / 8] >> (end - 16 + i) % 8 & 1) << i;
    x &= mask;
    const uint32_t a = (x ^ x / 512) * 31851u % 65536, b = (uint32_t)((uint64_t)a * 50141u / 65536);
    const int u = (int)(a % limit + a / 256 % limit + b % limit + b / 256 % limit);
    const uint32_t d = (panel[2 * r] + 256u * panel[2 * r + 1]) << 16;
    float scale;
    memcpy(&scale, &d, sizeof scale);
    return (double)scale * (u - 2 * ((int)limit - 1));
}
#endif
