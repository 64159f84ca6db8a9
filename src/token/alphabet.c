/* GPT-2's byte alphabet: a printable character for each of the 256 bytes. Bytes that are printable in Latin-1
 * (0x21..0x7E, 0xA1..0xAC, 0xAE..0xFF) stand for themselves; the other 68 take U+0100, U+0101 ... in order, so that
 * space is U+0120. */
#include "token/pipeline.h"

static bool stands_for_itself(uint32_t b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
}

uint32_t byte_alphabet_char(uint8_t b) {
    if (stands_for_itself(b)) return b;
    if (b <= 0x20) return 0x100u + b;           /* 33 bytes 0x00..0x20 */
    if (b <= 0xA0) return 0x121u + (b - 0x7Fu); /* 34 bytes 0x7F..0xA0 */
    return 0x143u;                              /* 0xAD                */
}

int byte_alphabet_byte(uint32_t c) {
    if (c < 0x100) return stands_for_itself(c) ? (int)c : -1;
    if (c <= 0x120) return (int)(c - 0x100);
    if (c <= 0x142) return (int)(c - 0x121 + 0x7F);
    return c == 0x143 ? 0xAD : -1;
}
