/* Lattice codes' books, and codes of one chunk of a row, for who decodes or refers; dots take rows together (v_books of each level). */
#include "kern/books.h"

#include "base/f16.h"

#include <string.h>

enum { SIGN = 0x1c, SHIFT = 2, SIGNED = 0xfc }; /* SIGN: of codes of 5 bits, SIGNED: of signed bytes */

static kern_e8_tables e8;
const kern_e8_tables *kern_e8(void) { return &e8; }

/* By norm, then in the order of numbers to base 4; of those of norm 12 the ones without a 5, as far as there is room. */
static void fill_patterns(void) {
    size_t n = 0;
    for (unsigned cost = 0; cost <= 5; cost++)
        for (unsigned number = 0; number < 65536 && n < 256; number++) {
            unsigned sum = 0, halves = 0, most = 0;
            for (unsigned j = 0; j < BOOK_WORD; j++) {
                const unsigned digit = number >> 2 * j & 3;
                sum += digit * (digit + 1) / 2; /* (c^2 - 1) / 8 of c = 2 digit + 1 */
                halves += 2 * digit + 1;
                if (digit > most) most = digit;
            }
            if (sum != cost || (cost == 5 && most > 1)) continue;
            for (unsigned j = 0; j < BOOK_WORD; j++) e8.pattern[n][j] = (uint8_t)(2 * (number >> 2 * j & 3) + 1);
            e8.odd[n++] = halves / 2 % 2;
        }
}

/* Books of points: codes of 5 bits, u = q + 16, shifted up; or signed bytes q. */
static void fill_points(uint8_t *patterns, uint8_t *signs, int up, bool is_signed) {
    const int turn = is_signed ? SIGNED : SIGN;
    for (unsigned i = 0; i < 256; i++) {
        unsigned parity = 0;
        for (unsigned j = 0; j < BOOK_WORD; j++) {
            const bool minus = j < 7 ? i >> j & 1 : parity;
            parity ^= minus;
            int low = 2 * e8.pattern[i][j] - 1 + (is_signed ? 0 : 16);
            if (j == 7 && e8.odd[i]) low ^= turn;
            patterns[BOOK_WORD * i + j] = (uint8_t)(low << up);
            signs[BOOK_WORD * i + j] = (uint8_t)(((minus ? turn : 0) ^ (i & 128 ? SHIFT : 0)) << up);
        }
    }
}

/* 0, the 240 shortest vectors, and the first 15 of those with one number. */
static void fill_rest(uint8_t *book) {
    enum { HALF = BOOKS_REST, WHOLE = 2 * BOOKS_REST, TWO = 4 * BOOKS_REST };
    memset(book, 0, BOOK_BYTES);
    uint8_t *v = book + BOOK_WORD;
    for (int j = 1; j < BOOK_WORD; j++)
        for (int i = 0; i < j; i++)
            for (int s = 0; s < 4; s++, v += BOOK_WORD) v[i] = (uint8_t)(s & 1 ? -WHOLE : WHOLE), v[j] = (uint8_t)(s & 2 ? -WHOLE : WHOLE);
    for (unsigned s = 0; s < 128; s++, v += BOOK_WORD) {
        unsigned parity = 0;
        for (unsigned j = 0; j < BOOK_WORD; j++) {
            const bool minus = j < 7 ? s >> j & 1 : parity;
            parity ^= minus;
            v[j] = (uint8_t)(minus ? -HALF : HALF);
        }
    }
    for (int k = 0; k < 15; k++, v += BOOK_WORD) v[k / 2] = (uint8_t)(k % 2 ? -TWO : TWO);
}

void kern_e8_init(void) {
    fill_patterns();
    fill_points(e8.books[0][0], e8.books[0][1], 0, false);
    fill_points(e8.books[1][0], e8.books[1][1], 3, false);
    fill_rest(e8.books[1][2]);
    fill_points(e8.books[2][0], e8.books[2][1], 2, false);
    fill_points(e8.books[2][2], e8.books[2][3], 0, true);
}

float kern_books_chunk(const uint8_t *panel, const uint8_t *books, unsigned form, size_t c, size_t r, int8_t q[32]) {
    const unsigned k = kern_books_count(form);
    const bool lattice = form >= BOOKS_LATTICE;
    const uint8_t *index = panel + BOOKS_HEAD + c * kern_books_chunk_bytes(form) + r;
    for (size_t i = 0; i < 32; i++) {
        uint8_t b[BOOKS_MOST] = {0};
        for (unsigned n = 0; n < k; n++) b[n] = books[BOOK_BYTES * n + BOOK_WORD * index[16 * (k * (i / BOOK_WORD) + n)] + i % BOOK_WORD];
        const unsigned u = lattice ? (unsigned)(b[0] ^ b[1]) + (b[2] ^ b[3]) : (unsigned)b[0] + b[1] + b[2] + b[3];
        q[i] = (int8_t)((int)(u & 255) - kern_books_zero(form));
    }
    uint16_t d;
    memcpy(&d, panel + 2 * r, sizeof d);
    return bf16_to_f32(d);
}
