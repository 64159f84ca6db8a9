/* ggml's k-quants: blocks of 256 with sub-scales (and offsets) of 4 or 6 bits under one or two f16. The offset of ggml is
 * subtracted, w = d1 * q - m1; the unpacked form adds m = -m1, which IEEE makes the same number. */
#include "base/f16.h"
#include "kern/blocks.h"
#include "kern/ref/ref.h"

/* q2_k: 16 sub-blocks of 16; scales[g]: low nibble scale, high nibble offset.
 * Codes: half n (128 weights) has 32 bytes; weight 32 j + l of it is bits 2j and up of byte l. */
void kern_q2_k_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += Q2_K_BYTES, q += 256, s += 16, m += 16) {
        float d = f16_to_f32(read_u16(row + Q2_K_D)), dmin = f16_to_f32(read_u16(row + Q2_K_DMIN));
        for (int g = 0; g < 16; g++) {
            uint8_t sc = row[Q2_K_SCALES + g];
            s[g] = d * (float)(sc & 15);
            m[g] = -(dmin * (float)(sc >> 4));
        }
        for (int i = 0; i < 256; i++) q[i] = (int8_t)(row[Q2_K_QS + i / 128 * 32 + i % 32] >> 2 * (i / 32 % 4) & 3);
    }
}

/* q3_k: 16 sub-blocks of 16, 6-bit scales less 32: low nibbles of scale g in byte g mod 8 (g >= 8: its high nibble), high
 * pairs in byte 8 + g mod 4, bits 2 (g div 4). Codes: low pairs as in q2_k; without the bit i div 32 of hmask[i mod 32]
 * the code is 4 less. */
void kern_q3_k_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += Q3_K_BYTES, q += 256, s += 16) {
        float d = f16_to_f32(read_u16(row + Q3_K_D));
        const uint8_t *sc = row + Q3_K_SCALES;
        for (int g = 0; g < 16; g++) {
            int v = (sc[g % 8] >> 4 * (g / 8) & 15) | (sc[8 + g % 4] >> 2 * (g / 4) & 3) << 4;
            s[g] = d * (float)(v - 32);
        }
        for (int i = 0; i < 256; i++) {
            int low = row[Q3_K_QS + i / 128 * 32 + i % 32] >> 2 * (i / 32 % 4) & 3;
            int high = row[Q3_K_HMASK + i % 32] >> i / 32 & 1;
            q[i] = (int8_t)(low - (high ? 0 : 4));
        }
    }
}

/* The 6-bit scales and offsets of q4_k and q5_k: for sub-block j < 4 the low 6 bits of bytes j and j + 4; for j >= 4 the
 * nibbles of byte j + 4, their top pairs in the top bits of bytes j - 4 and j. */
static void scales_k4(const uint8_t *row, float *s, float *m) {
    float d = f16_to_f32(read_u16(row + Q4_K_D)), dmin = f16_to_f32(read_u16(row + Q4_K_DMIN));
    const uint8_t *b = row + Q4_K_SCALES;
    for (int j = 0; j < 8; j++) {
        int sc = j < 4 ? b[j] & 63 : (b[j + 4] & 15) | b[j - 4] >> 6 << 4;
        int mn = j < 4 ? b[j + 4] & 63 : b[j + 4] >> 4 | b[j] >> 6 << 4;
        s[j] = d * (float)sc;
        m[j] = -(dmin * (float)mn);
    }
}

/* Codes of q4_k: 32 bytes hold 64 weights, low nibbles first. */
void kern_q4_k_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += Q4_K_BYTES, q += 256, s += 8, m += 8) {
        scales_k4(row, s, m);
        for (int i = 0; i < 256; i++) q[i] = (int8_t)(row[Q4_K_QS + i / 64 * 32 + i % 32] >> 4 * (i / 32 % 2) & 15);
    }
}

/* Codes of q5_k: as q4_k, the fifth bit of weight i in bit i div 32 of qh[i mod 32]. */
void kern_q5_k_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += Q5_K_BYTES, q += 256, s += 8, m += 8) {
        scales_k4(row, s, m);
        for (int i = 0; i < 256; i++) {
            int low = row[Q5_K_QS + i / 64 * 32 + i % 32] >> 4 * (i / 32 % 2) & 15;
            q[i] = (int8_t)(low | (row[Q5_K_QH + i % 32] >> i / 32 & 1) << 4);
        }
    }
}

/* q6_k: 16 sub-blocks of 16 with int8 scales; codes less 32. Half n has 64 bytes of nibbles and 32 of pairs: weight
 * 32 j + l of it takes nibble j div 2 of ql[32 (j mod 2) + l] and pair j of qh[l]. */
void kern_q6_k_unpack_ref(const uint8_t *row, size_t n_chunks, uint32_t group, int8_t *q, float *s, float *m) {
    for (size_t c = 0; c + 8 <= n_chunks; c += 8, row += Q6_K_BYTES, q += 256, s += 16) {
        float d = f16_to_f32(read_u16(row + Q6_K_D));
        for (int g = 0; g < 16; g++) s[g] = d * (float)(int8_t)row[Q6_K_SCALES + g];
        for (int i = 0; i < 256; i++) {
            int n = i / 128, j = i / 32 % 4, l = i % 32;
            int low = row[Q6_K_QL + 64 * n + 32 * (j % 2) + l] >> 4 * (j / 2) & 15;
            int high = row[Q6_K_QH + 32 * n + l] >> 2 * j & 3;
            q[i] = (int8_t)((low | high << 4) - 32);
        }
    }
}
