/* UTF-8 checks and the small Unicode classes. Invalid text: each offending byte by itself becomes U+FFFD; "offending"
 * means that no well-formed sequence starts at it, after the longest run of well-formed text before it. So E2 82 41
 * gives two replacement characters and an A. (The other common rule, one replacement per maximal subpart, would give
 * one: per byte is simpler to state and to test, and keeps the number of bad bytes visible.) */
#include "token/utf8.h"
#include "token/unicode_new.h"
#include <string.h>
#include <utf8proc.h>

size_t utf8_valid_prefix(const uint8_t *p, size_t n) {
    size_t i = 0;
    while (i < n) {
        while (n - i >= 8) { /* eight ASCII bytes at a time */
            uint64_t w;
            memcpy(&w, p + i, 8);
            if (w & 0x8080808080808080u) break;
            i += 8;
        }
        if (i == n) break;
        size_t k = utf8_sequence(p + i, n - i);
        if (k == 0) return i;
        i += k;
    }
    return n;
}

bool utf8_sanitize(const uint8_t *p, size_t n, buf *out) {
    while (n > 0) {
        size_t good = utf8_valid_prefix(p, n);
        if (!buf_append(out, p, good)) return false;
        if (good == n) return true;
        if (!buf_append(out, "\xEF\xBF\xBD", 3)) return false;
        p += good + 1;
        n -= good + 1;
    }
    return true;
}

bool utf8_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool utf8_is_word(uint32_t c) {
    if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
    switch (utf8proc_category((utf8proc_int32_t)unicode_stand_in(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default: /* Other_Alphabetic symbols (circled and squared letters) and the two joiners */
        return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
               (c >= 0x1F170 && c <= 0x1F189) || c == 0x200C || c == 0x200D;
    }
}
