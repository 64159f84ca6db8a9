/* Regular expressions of pretokenizers: written for Oniguruma (which `tokenizers` uses), run by PCRE2. */
#ifndef TOKEN_PATTERN_H
#define TOKEN_PATTERN_H
#include <snug.h>

typedef struct pattern pattern;
/* Per-call state; zeroed is ready. Patterns are shared by threads, a matcher is not. */
typedef struct pattern_matcher {
    void *data, *context; /* pcre2_match_data, pcre2_match_context */
} pattern_matcher;

/* `source`: UTF-8 in Oniguruma's Ruby syntax. SNUG_ERR_UNSUPPORTED names what cannot be translated exactly. */
snug_err pattern_compile(const char *source, size_t n, pattern **out, snug_error *err);
/* A pattern that matches exactly these bytes (n > 0). */
snug_err pattern_literal(const char *text, size_t n, pattern **out, snug_error *err);
void pattern_free(pattern **p);
/* The source as given; *is_regex false: a literal. */
const char *pattern_source(const pattern *p, size_t *n, bool *is_regex);
void pattern_matcher_fini(pattern_matcher *m);

/* Iterates over matches as Oniguruma's find_iter does: leftmost, then the alternative that is written first; an empty match
 * that touches the end of the previous match is skipped. Text is well-formed UTF-8. Zeroed = start. */
typedef struct pattern_iter {
    size_t next, last_end;
    bool any;
} pattern_iter;
/* *found false: no more. SNUG_ERR_FORMAT when the match limits are exceeded. */
snug_err pattern_next(const pattern *p, pattern_matcher *m, const uint8_t *text, size_t n, pattern_iter *it, bool *found,
                      size_t *start, size_t *end, snug_error *err);
/* The PCRE2 form of a pattern, malloc'd (for tests and messages). */
snug_err pattern_translate(const char *source, size_t n, char **out, snug_error *err);
#endif
