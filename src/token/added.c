/* Added tokens inside text. At each place the longest token that starts there is taken, matches never overlap, and a
 * match that a rule rejects (not a single word; special while parse_special is off) is passed over as a whole, not
 * retried shorter: this is what `tokenizers` does with its leftmost-longest automaton, and ids depend on it. Walking a
 * trie from every byte costs O(n * longest token); a table of first bytes skips nearly all of it. */
#include "token/added.h"
#include "base/err.h"
#include "token/utf8.h"

/* Leftmost-longest match at or after `from`. */
static bool find(const trie *t, const uint8_t *text, size_t n, size_t from, size_t *start, size_t *end,
                 uint32_t *value) {
    for (size_t i = from; i < n; i++) {
        size_t k = t->first[text[i]] ? trie_longest(t, text + i, n - i, value) : 0;
        if (k == 0) continue;
        *start = i;
        *end = i + k;
        return true;
    }
    return false;
}

/* Start of the last character before `at` (at > 0). */
static size_t previous(const uint8_t *text, size_t at) {
    do at--;
    while (at > 0 && (text[at] & 0xC0) == 0x80);
    return at;
}

static bool is_single_word(const uint8_t *text, size_t n, size_t start, size_t end) {
    if (start > 0 && utf8_is_word(utf8_decode(text + previous(text, start)))) return false;
    return end == n || !utf8_is_word(utf8_decode(text + end));
}

snug_err added_split(const trie *t, const added_token *tokens, const uint8_t *text, size_t n, bool parse_special,
                     buf *out, snug_error *err) {
    size_t done = 0, from = 0, start, end;
    uint32_t value;
    while (t->n_edges && find(t, text, n, from, &start, &end, &value)) {
        const added_token *a = &tokens[value];
        from = end; /* the automaton goes on behind the match itself, whatever the rules below do */
        if (a->special && !parse_special) continue;
        if (a->single_word && !is_single_word(text, n, start, end)) continue;
        if (a->lstrip) {
            while (start > done) {
                size_t before = previous(text, start);
                if (before < done || !utf8_is_space(utf8_decode(text + before))) break;
                start = before;
            }
        }
        if (a->rstrip)
            while (end < n && utf8_is_space(utf8_decode(text + end))) end += utf8_length(text[end]);
        if (done < start) {
            added_span gap = {done, start, -1};
            if (!buf_append(out, &gap, sizeof gap)) return err_nomem(err, out->len);
        }
        added_span hit = {start, end, (int32_t)a->id};
        if (!buf_append(out, &hit, sizeof hit)) return err_nomem(err, out->len);
        done = end;
    }
    if (done < n) {
        added_span rest = {done, n, -1};
        if (!buf_append(out, &rest, sizeof rest)) return err_nomem(err, out->len);
    }
    return SNUG_OK;
}
