/* Figures for people (sizes, counts, durations) and JSON for programs. */
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *size_text(char out[TEXT_MAX], uint64_t bytes) {
    static const char units[] = "KMGT";
    if (bytes < 1024) {
        snprintf(out, TEXT_MAX, "%u", (unsigned)bytes);
        return out;
    }
    double v = (double)bytes;
    int unit = -1;
    while (v >= 1023.5 && unit < 3) {
        v /= 1024;
        unit++;
    }
    snprintf(out, TEXT_MAX, v < 9.995 ? "%.2f%c" : v < 99.95 ? "%.1f%c" : "%.0f%c", v, units[unit]);
    return out;
}

const char *count_text(char out[TEXT_MAX], uint64_t n) {
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    char *p = out;
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0) *p++ = ',';
        *p++ = digits[i];
    }
    *p = 0;
    return out;
}

const char *duration_text(char out[TEXT_MAX], double seconds) {
    if (!(seconds >= 0) || seconds > 1e8) {
        snprintf(out, TEXT_MAX, "?");
    } else if (seconds < 9.95) {
        snprintf(out, TEXT_MAX, "%.1f s", seconds);
    } else if (seconds < 99.5) {
        snprintf(out, TEXT_MAX, "%.0f s", seconds);
    } else {
        unsigned long s = (unsigned long)(seconds + 0.5);
        if (s < 3600)
            snprintf(out, TEXT_MAX, "%lu:%02lu", s / 60, s % 60);
        else
            snprintf(out, TEXT_MAX, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
    }
    return out;
}

void json_put_real(json_t *obj, const char *key, double value) {
    json_object_set_new(obj, key, isfinite(value) ? json_real(value) : json_null());
}

void json_put_int(json_t *obj, const char *key, uint64_t value) {
    json_object_set_new(obj, key, json_integer((json_int_t)value));
}

void json_put_bool(json_t *obj, const char *key, bool value) {
    json_object_set_new(obj, key, json_boolean(value));
}

size_t utf8_char(const unsigned char *p, size_t left) {
    if (p[0] < 0x80) return 1;
    size_t n = p[0] >= 0xc2 && p[0] <= 0xdf ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : 0;
    if (n == 0 || n > left) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if (n == 3 && ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0))) return 0;
    if (n == 4 && ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90))) return 0;
    return n;
}

void json_put_bytes(json_t *obj, const char *key, const char *value, size_t n) {
    char *clean = malloc(3 * n + 1); /* every byte may become U+FFFD, three bytes long */
    if (!clean) {
        json_object_set_new(obj, key, json_null());
        return;
    }
    size_t len = 0;
    for (size_t i = 0; i < n;) {
        size_t c = utf8_char((const unsigned char *)value + i, n - i);
        if (c == 0) {
            memcpy(clean + len, "\xef\xbf\xbd", 3);
            len += 3;
            i++;
        } else {
            memcpy(clean + len, value + i, c);
            len += c;
            i += c;
        }
    }
    json_object_set_new(obj, key, json_stringn(clean, len));
    free(clean);
}

void json_put_text(json_t *obj, const char *key, const char *value) {
    if (value)
        json_put_bytes(obj, key, value, strlen(value));
    else
        json_object_set_new(obj, key, json_null());
}

bool json_print(FILE *to, json_t *obj) {
    bool ok = obj && json_dumpf(obj, to, JSON_COMPACT | JSON_REAL_PRECISION(12)) == 0 && fputc('\n', to) != EOF &&
              fflush(to) == 0;
    json_decref(obj);
    return ok;
}

int finish_stdout(const command *cmd, int exit_code) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return exit_code;
    fprintf(stderr, "snug %s: standard output: %s\n", cmd->name, strerror(errno));
    return EXIT_FAILED;
}

int finish_json(const command *cmd, json_t *obj) {
    if (json_print(stdout, obj)) return EXIT_OK;
    fprintf(stderr, "snug %s: standard output: %s\n", cmd->name, strerror(errno));
    return EXIT_FAILED;
}
