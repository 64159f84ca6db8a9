/* Reading the command line: a table of options per command, long and short forms, `--name=value`, and mistakes that are
 * answered with what was probably meant. Written by hand because getopt's messages cannot say that. */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int usage_error(const command *cmd, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "snug %s: ", cmd->name);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\nTry: snug %s --help\n", cmd->name);
    return EXIT_USAGE;
}

/* Edit distance with neighbours swapped counted as one (optimal string alignment); words beyond 31 bytes are cut. */
static unsigned edit_distance(const char *a, const char *b) {
    enum { CAP = 32 };
    unsigned d[CAP][CAP];
    size_t la = strnlen(a, CAP - 1), lb = strnlen(b, CAP - 1);
    for (size_t i = 0; i <= la; i++) d[i][0] = (unsigned)i;
    for (size_t j = 0; j <= lb; j++) d[0][j] = (unsigned)j;
    for (size_t i = 1; i <= la; i++) {
        for (size_t j = 1; j <= lb; j++) {
            unsigned best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && d[i - 2][j - 2] + 1 < best) best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[la][lb];
}

const char *nearest_word(const char *word, const char *const *candidates, size_t n) {
    const char *best = NULL;
    unsigned least = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned distance = edit_distance(word, candidates[i]);
        size_t len = strlen(candidates[i]);
        if (strlen(word) >= 3 && strncmp(word, candidates[i], strlen(word)) == 0) distance = 1; /* an abbreviation */
        if (distance <= (len <= 4 ? 1u : len <= 7 ? 2u : 3u) && (!best || distance < least)) {
            best = candidates[i];
            least = distance;
        }
    }
    return best;
}

bool parse_size(const char *text, uint64_t *bytes) {
    if (!isdigit((unsigned char)*text) && *text != '.') return false; /* no signs, no "inf" */
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (end == text || errno || !isfinite(value) || strpbrk(text, "xX")) return false;
    static const char letters[] = "KMGT";
    double unit = 1;
    const char *letter = *end ? strchr(letters, toupper((unsigned char)*end)) : NULL;
    if (letter) {
        int power = (int)(letter - letters) + 1;
        bool decimal = (end[1] == 'B' || end[1] == 'b') && !end[2]; /* 3GB as disks count; 3G and 3GiB are 3 * 2^30 */
        bool binary =
            !end[1] || ((end[1] == 'i' || end[1] == 'I') && (!end[2] || ((end[2] == 'B' || end[2] == 'b') && !end[3])));
        if (!decimal && !binary) return false;
        unit = pow(decimal ? 1000 : 1024, power);
    } else if (*end && strcasecmp(end, "B") != 0) {
        return false;
    }
    if (!*end && !strpbrk(text, ".eE")) { /* plain bytes: exact beyond 2^53 too */
        errno = 0;
        *bytes = strtoull(text, &end, 10);
        return errno == 0 && *bytes > 0;
    }
    value *= unit;
    if (value < 1 || value >= 0x1p63) return false;
    *bytes = (uint64_t)value;
    return true;
}

bool parse_ratio(const char *text, double *ratio) {
    if (!isdigit((unsigned char)*text) && *text != '.') return false;
    char *end;
    double value = strtod(text, &end);
    if (end == text || strpbrk(text, "xX")) return false;
    if (strcmp(end, "%") == 0)
        value /= 100;
    else if (*end)
        return false;
    *ratio = value;
    return isfinite(value) && value > 0 && value <= 1;
}

static int parse_choice(const char *choices, const char *text) {
    size_t len = strlen(text);
    int index = 0;
    for (const char *p = choices; *p; index++) {
        size_t n = strcspn(p, "|");
        if (n == len && memcmp(p, text, n) == 0) return index;
        p += n + (p[n] == '|');
    }
    return -1;
}

/* A plain decimal number that fits. */
static bool parse_u64(const char *text, uint64_t *out) {
    if (!isdigit((unsigned char)*text)) return false;
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return !errno && !*end;
}

static bool in_range(const option *o, double v) {
    return v >= o->min && (o->max == 0 || v <= o->max);
}

static bool parse_ints(const option *o, const char *text, int_list *out) {
    out->n = 0;
    for (const char *p = text;; p++) {
        char *end;
        if (!isdigit((unsigned char)*p) || out->n == INT_LIST_MAX) return false;
        long v = strtol(p, &end, 10);
        if (!in_range(o, (double)v) || v > 1000000) return false;
        out->item[out->n++] = (int)v;
        if (!*end) return true;
        if (*end != ',') return false;
        p = end;
    }
}

/* Stores a value; NULL, or what was expected instead. */
static const char *store_value(option *o, const char *text) {
    static char expected[160];
    uint64_t u;
    double d;
    char *end;
    switch (o->kind) {
    case OPT_FLAG:
        *(bool *)o->value = true;
        return NULL;
    case OPT_STRING:
        *(const char **)o->value = text;
        return NULL;
    case OPT_LIST: {
        str_list *list = o->value;
        const char **grown = realloc(list->item, (list->n + 1) * sizeof *grown);
        if (!grown) return "less";
        grown[list->n++] = text;
        list->item = grown;
        return NULL;
    }
    case OPT_U32:
        if (parse_u64(text, &u) && u <= UINT32_MAX && in_range(o, (double)u)) {
            *(uint32_t *)o->value = (uint32_t)u;
            return NULL;
        }
        if (o->max > 0)
            snprintf(expected, sizeof expected, "a whole number from %.0f to %.0f", o->min, o->max);
        else
            snprintf(expected, sizeof expected, "a whole number from %.0f up", o->min);
        return expected;
    case OPT_U64:
        return parse_u64(text, o->value) ? NULL : "a whole number";
    case OPT_SIZE:
        return parse_size(text, o->value) ? NULL : "a size such as 3.2G, 700M or 1500000 (bytes)";
    case OPT_REAL:
        errno = 0;
        d = strtod(text, &end);
        if (end != text && !*end && !errno && isfinite(d) && in_range(o, d)) {
            *(double *)o->value = d;
            return NULL;
        }
        if (o->max > 0)
            snprintf(expected, sizeof expected, "a number from %g to %g", o->min, o->max);
        else
            snprintf(expected, sizeof expected, "a number from %g up", o->min);
        return expected;
    case OPT_RATIO:
        return parse_ratio(text, o->value) ? NULL : "a share such as 40% or 0.4, at most 100%";
    case OPT_CHOICE: {
        int i = parse_choice(o->choices, text);
        if (i >= 0) {
            *(int *)o->value = i;
            return NULL;
        }
        snprintf(expected, sizeof expected, "one of %s", o->choices);
        return expected;
    }
    case OPT_INTS:
        if (parse_ints(o, text, o->value)) return NULL;
        snprintf(expected, sizeof expected, "numbers from %.0f to %.0f separated by commas", o->min, o->max);
        return expected;
    }
    return NULL;
}

static void print_help(const command *cmd, const option *opts, size_t n) {
    printf("%s\n\nExample:\n", cmd->summary);
    for (const char *p = cmd->example; *p;) {
        size_t len = strcspn(p, "\n");
        printf("    %.*s\n", (int)len, p);
        p += len + (p[len] == '\n');
    }
    printf("\nUsage:\n    snug %s\n\nOptions:\n", cmd->usage);
    for (size_t i = 0; i < n; i++) {
        char left[64];
        int len = snprintf(left, sizeof left, "--%s%s%s", opts[i].name, opts[i].arg ? " " : "",
                           opts[i].arg ? opts[i].arg : "");
        char letter[8] = "    ";
        if (opts[i].letter) snprintf(letter, sizeof letter, "-%c, ", opts[i].letter);
        printf("  %s%-22s%s", letter, left, len > 21 ? "\n                            " : "");
        for (const char *p = opts[i].help; *p;) { /* further lines of a help text stand under its first */
            size_t line = strcspn(p, "\n");
            printf("%s%.*s\n", p == opts[i].help ? "" : "                            ", (int)line, p);
            p += line + (p[line] == '\n');
        }
    }
    printf("  -h, --help                this text\n");
    if (cmd->notes) printf("\n%s\n", cmd->notes);
}

static int unknown_option(const command *cmd, const option *opts, size_t n, const char *given, const char *name) {
    const char *names[65] = {"help"};
    size_t count = 1;
    for (size_t i = 0; i < n && count < COUNT_OF(names); i++) names[count++] = opts[i].name;
    const char *near = name ? nearest_word(name, names, count) : NULL;
    if (near) return usage_error(cmd, "unknown option %s; did you mean --%s?", given, near);
    return usage_error(cmd, "unknown option %s", given);
}

static bool is_named(const char *option_name, const char *name, size_t len) {
    return option_name && strlen(option_name) == len && memcmp(option_name, name, len) == 0;
}

/* One option at argv[*i], whose name is `name` (or `letter`) and whose value may be attached. */
static int take_option(const command *cmd, option *opts, size_t n, const char *name, size_t len, char letter,
                       const char *value, int argc, char **argv, int *i) {
    option *o = NULL;
    for (size_t k = 0; k < n; k++)
        if (name ? is_named(opts[k].name, name, len) || is_named(opts[k].alias, name, len) : opts[k].letter == letter)
            o = &opts[k];
    if (!o) {
        char word[64] = "";
        if (name) snprintf(word, sizeof word, "%.*s", (int)len, name);
        return unknown_option(cmd, opts, n, argv[*i], name ? word : NULL);
    }
    if (o->kind == OPT_FLAG && value) return usage_error(cmd, "--%s takes no value", o->name);
    if (o->kind != OPT_FLAG && !value) {
        if (*i + 1 >= argc) return usage_error(cmd, "--%s needs a value: --%s %s", o->name, o->name, o->arg);
        value = argv[++*i];
    }
    const char *expected = store_value(o, value ? value : "");
    if (expected) return usage_error(cmd, "--%s: '%s' is not %s", o->name, value, expected);
    o->given = true;
    return EXIT_OK;
}

bool options_parse(const command *cmd, option *opts, size_t n_opts, const char **operand, int argc, char **argv,
                   int *exit_code) {
    *operand = NULL;
    if (cmd->second) operand[1] = NULL;
    bool options_over = false;
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(cmd, opts, n_opts);
            *exit_code = finish_stdout(cmd, EXIT_OK);
            return false;
        } else if (strcmp(argv[i], "--") == 0) {
            break;
        }
    for (int i = 0; i < argc; i++) {
        const char *a = argv[i];
        if (!options_over && strcmp(a, "--") == 0) {
            options_over = true;
        } else if (!options_over && a[0] == '-' && a[1] == '-') {
            size_t len = strcspn(a + 2, "=");
            *exit_code =
                take_option(cmd, opts, n_opts, a + 2, len, 0, a[2 + len] ? a + 2 + len + 1 : NULL, argc, argv, &i);
            if (*exit_code) return false;
        } else if (!options_over && a[0] == '-' && a[1]) {
            *exit_code =
                take_option(cmd, opts, n_opts, NULL, 0, a[1], a[2] ? a + 2 + (a[2] == '=') : NULL, argc, argv, &i);
            if (*exit_code) return false;
        } else if (cmd->operand && !*operand) {
            *operand = a;
        } else if (cmd->second && !operand[1]) {
            operand[1] = a;
        } else {
            *exit_code = usage_error(cmd, "'%s' is one argument too many", a);
            return false;
        }
    }
    if (cmd->operand && !*operand) {
        *exit_code = usage_error(cmd, "no %s given: %s", cmd->operand, cmd->advice);
        return false;
    }
    return true;
}
