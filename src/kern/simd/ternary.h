/* tq1_0, tq2_0 (layouts: ref/ternary.c), 32 codes at a time. */
#include "kern/blocks.h"

KERN_INLINE void store_codes(int8_t *q, vi code) { v_store(q, v_sub(code, 1)); }

/* The bytes that have three chunks of digits between them, each digit brought to be the first of a byte: columns 160 .. 255. */
KERN_INLINE void last_chunks(const uint8_t *row, uint8_t x[96]) {
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    for (int n = 0; n < 5; n++)
        for (int i = 0; i < 16; i++) x[16 * n + i] = (uint8_t)(row[32 + i] * power[n]);
    for (int n = 0; n < 4; n++)
        for (int i = 0; i < 4; i++) x[80 + 4 * n + i] = (uint8_t)(row[TQ1_0_QH + i] * power[n]);
}

void KERN_ISA(kern_tq1_0_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += TQ1_0_BYTES, q += 256) {
        uint8_t last[96];
        f_store(s + c, f_set1(half(row + TQ1_0_D)));
        vi x = v_sub(v_load(row), 128);
        for (int n = 0; n < 5; n++, x = v_triple(x)) store_codes(q + 32 * n, v_digits(x));
        last_chunks(row, last);
        for (int n = 0; n < 3; n++) store_codes(q + 160 + 32 * n, v_digits(v_sub(v_load(last + 32 * n), 128)));
    }
}

void KERN_ISA(kern_tq2_0_unpack)(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += TQ2_0_BYTES, q += 256) {
        f_store(s + c, f_set1(half(row + TQ2_0_D)));
        for (int n = 0; n < 2; n++) {
            const vi v = v_load(row + TQ2_0_QS + 32 * n);
            store_codes(q + 128 * n, v_and(v, 3));
            store_codes(q + 128 * n + 32, v_and(v_shr(v, 2), 3));
            store_codes(q + 128 * n + 64, v_and(v_shr(v, 4), 3));
            store_codes(q + 128 * n + 96, v_and(v_shr(v, 6), 3));
        }
    }
}
