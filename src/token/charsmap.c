/* The blob: u32 bytes of the trie, the trie, replacements as C strings. The trie is a double array (Aoe 1989) in the
 * layout of darts-clone, an array of u32 units; a unit is
 *
 *     31       30..10   9          8         7..0
 *     is leaf  offset   offset*256 has leaf  label          or, at a leaf, 31 bits of value: where in the replacements
 *
 * The child of the unit at i on byte b is the unit at i ^ offset(i) ^ b, if that unit's label is b. The leaf of a unit
 * is its child on 0.
 *
 * The two libraries use the same map in two ways. SentencePiece takes the longest rule at each place. `tokenizers`
 * looks at extended grapheme clusters: one of less than 6 bytes that starts with a rule is replaced as a whole by the
 * shortest such rule's text; otherwise that is done for each of its characters. */
#include "token/charsmap.h"
#include "base/err.h"
#include "base/hash.h"
#include "token/unicode_new.h"
#include "token/utf8.h"
#include <string.h>
#include <utf8proc.h>

enum { SHORT_CLUSTER = 6, MAX_REPLACEMENT = 255 }; /* Unicode's longest compatibility form has 33 bytes */

snug_err charsmap_open(const char *what, const uint8_t *blob, size_t bytes, arena *mem, charsmap *out,
                       snug_error *err) {
    memset(out, 0, sizeof *out);
    if (bytes == 0) return SNUG_OK;
    uint32_t trie_bytes = 0;
    if (bytes >= 4)
        trie_bytes = (uint32_t)blob[0] | (uint32_t)blob[1] << 8 | (uint32_t)blob[2] << 16 | (uint32_t)blob[3] << 24;
    if (bytes < 8 || trie_bytes > bytes - 4 || trie_bytes % 4 || trie_bytes == 0)
        return err_set(err, SNUG_ERR_FORMAT, "%s: a charsmap of %zu bytes with a trie of %u", what, bytes, trie_bytes);
    const uint8_t *text = blob + 4 + trie_bytes;
    size_t n = bytes - 4 - trie_bytes;
    if ((n > 0 && text[n - 1] != 0) || utf8_valid_prefix(text, n) != n)
        return err_set(err, SNUG_ERR_FORMAT,
                       "%s: the charsmap's replacements are not UTF-8 texts with a NUL behind each", what);
    for (size_t i = 0, length; i < n; i += length + 1) {
        length = strlen((const char *)text + i);
        if (length > MAX_REPLACEMENT)
            return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: the charsmap has a replacement of %zu bytes, at most %d",
                           what, length, MAX_REPLACEMENT);
    }
    uint32_t *unit = arena_alloc(mem, trie_bytes);
    char *copy = arena_alloc_bytes(mem, n + 1);
    if (!unit || !copy) return err_nomem(err, bytes);
    for (size_t i = 0; i < trie_bytes / 4; i++) {
        const uint8_t *p = blob + 4 + 4 * i;
        unit[i] = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    }
    if (n) memcpy(copy, text, n);
    *out = (charsmap){unit, trie_bytes / 4, copy, n, hash_bytes(blob, bytes)};
    return SNUG_OK;
}

bool charsmap_blob(const charsmap *m, buf *out) {
    bool ok = !m->unit || buf_append_u32(out, (uint32_t)(4 * m->n_units));
    for (size_t i = 0; i < m->n_units && ok; i++) ok = buf_append_u32(out, m->unit[i]);
    return ok && (!m->text_bytes || buf_append(out, m->text, m->text_bytes));
}

static uint32_t offset_of(uint32_t unit) {
    return unit >> 10 << (unit >> 6 & 8);
}

/* A value that is no start of a character of the replacements: no rule. */
static bool replacement(const charsmap *m, uint32_t value, const char **to, size_t *to_bytes) {
    if (value >= m->text_bytes || ((uint8_t)m->text[value] & 0xC0) == 0x80) return false;
    *to = m->text + value;
    *to_bytes = strlen(*to);
    return true;
}

size_t charsmap_match(const charsmap *m, const uint8_t *p, size_t n, bool longest, const char **to, size_t *to_bytes) {
    size_t found = 0;
    if (!m->unit) return 0;
    uint32_t at = offset_of(m->unit[0]);
    for (size_t i = 0; i < n; i++) {
        at ^= p[i];
        if (at >= m->n_units || (m->unit[at] & 0x800000FFu) != p[i]) break;
        uint32_t unit = m->unit[at];
        at ^= offset_of(unit);
        if (!(unit & 0x100) || at >= m->n_units) continue;
        if (!replacement(m, m->unit[at] & 0x7FFFFFFFu, to, to_bytes)) continue;
        found = i + 1;
        if (!longest) break;
    }
    return found;
}

/* End of the extended grapheme cluster that starts at p. */
static size_t cluster(const uint8_t *p, size_t n) {
    utf8proc_int32_t state = 0;
    uint32_t before = unicode_stand_in(utf8_decode(p));
    size_t i = utf8_length(p[0]);
    while (i < n) {
        uint32_t c = unicode_stand_in(utf8_decode(p + i));
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, (utf8proc_int32_t)c, &state)) break;
        before = c;
        i += utf8_length(p[i]);
    }
    return i;
}

snug_err charsmap_run(const charsmap *m, const uint8_t *p, size_t n, buf *out, snug_error *err) {
    const char *to;
    size_t to_bytes;
    for (size_t i = 0; i < n;) {
        size_t end = i + cluster(p + i, n - i);
        if (end - i < SHORT_CLUSTER && charsmap_match(m, p + i, end - i, false, &to, &to_bytes)) {
            if (!buf_append(out, to, to_bytes)) return err_nomem(err, n);
            i = end;
        }
        while (i < end) {
            size_t k = utf8_length(p[i]);
            bool rule = charsmap_match(m, p + i, k, false, &to, &to_bytes) > 0;
            if (!(rule ? buf_append(out, to, to_bytes) : buf_append(out, p + i, k))) return err_nomem(err, n);
            i += k;
        }
    }
    return SNUG_OK;
}
